"True boxes: one an image is scored as ever, of several any may be hit; thirds of sizes, also where sizes repeat."

from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from mura_nb import label_shares
from mura_nb.core import fingerprint
from mura_nb.geometry import BOX
from mura_nb.boxes import LocalisationData, abnormal_images, peak_offset, score_boxes
from mura_nb.data import mura_index
from mura_nb.free_response import free_response, rate_boxes
from mura_nb.fusenet import size_groups
from mura_nb.maps import PEAK, any_hit, best_overlap, scores, thirds
from mura_nb.public import boxes_by_image, known_boxes, link_public
from public_trees import make_plain_fracatlas


def random_boxes(rng, n):
    "(n, 4) boxes of whole and of broken pixels"
    corners = np.sort(rng.uniform(0, 100, (n, 2, 2)), 1).reshape(n, 4)
    return np.where(rng.random((n, 1)) < .5, corners.round(), corners)


def old_scores(found, true):
    "Hit and overlap of one true box an image, written out"
    peak, box = found[PEAK].to_numpy(), found[BOX].to_numpy()
    hit = ((true[:, :2] <= peak) & (peak < true[:, 2:])).all(1)
    shared = np.clip(np.minimum(box[:, 2:], true[:, 2:]) - np.maximum(box[:, :2], true[:, :2]), 0, None).prod(1)
    area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (box, true)]
    return hit, np.nan_to_num(shared/(area[0] + area[1] - shared))


def test_one_box_an_image_gives_the_same_digits():
    rng = np.random.default_rng(0)
    true, found = random_boxes(rng, 400), random_boxes(rng, 400)
    found[::7] = np.nan
    table = pd.DataFrame(np.c_[rng.uniform(0, 100, (400, 2)), found], columns=PEAK + BOX)
    hit, iou = old_scores(table, true)
    padded = np.concatenate([true[:, None], np.full((400, 2, 4), np.nan)], 1)
    for truth in (true, true[:, None], padded):
        new = scores(table, truth)
        np.testing.assert_array_equal(new.hit, hit)
        np.testing.assert_array_equal(new.iou, iou)


def test_of_several_any_is_hit_and_the_best_overlap_counts():
    truth = pd.DataFrame([[0, 0, 10, 10], [50, 50, 54, 54], [0, 0, 4, 4]], index=['a', 'a', 'b'], columns=BOX)
    both = boxes_by_image(truth, ['b', 'a'])
    assert any_hit(both, [[52, 52]]*2).tolist() == [False, True]
    assert best_overlap(both, [[50, 50, 54, 52]]*2).tolist() == [0, .5]
    rows = pd.DataFrame(dict(path=['a', 'b'], patient='p', study_type='ARM', study='s', label=1))
    found = pd.DataFrame([['a', 52, 52, 50, 50, 54, 52], ['b', 52, 52, 50, 50, 54, 52]], columns=['path', *PEAK, *BOX])
    assert score_boxes(found, rows, truth)[['hit', 'iou']].to_numpy().tolist() == [[1, .5], [0, 0]]
    off = peak_offset(found, rows.assign(called=[True, False]), truth)
    assert off == dict(right=0, below=0, distance=0), 'the nearest true box'


def test_boxes_on_both_fractures_are_one_true_box_and_none_false():
    truth = pd.DataFrame([[0, 0, 10, 10], [50, 50, 60, 60]], index=['a', 'a'], columns=BOX)
    found = pd.DataFrame([['a', .9, .6, 50, 50, 60, 60], ['a', .9, .3, 0, 0, 10, 10], ['a', .9, .1, 80, 0, 90, 9]],
        columns=['path', 'prob', 'score', *BOX])
    marks = rate_boxes(found, truth)
    assert marks.centre.tolist() == [True, True, False]
    images = pd.DataFrame(dict(path=['a'], patient=['p'], abnormal=[True]))
    assert free_response(marks, images, at=(0, 1), n_boot=0).tolist() == [[1, 1]]


@pytest.mark.parametrize('seed', range(20))
def test_thirds_are_those_of_pandas_where_it_has_some(seed):
    rng = np.random.default_rng(seed)
    sizes = rng.lognormal(3, 1, rng.integers(3, 90)).round(seed % 3)
    third, ends = thirds(sizes)
    if len(set(ends)) < 4: return
    named = pd.qcut(sizes, 3, labels=[0, 1, 2])
    assert third.tolist() == named.tolist()
    groups = size_groups(pd.DataFrame(dict(path=np.arange(len(sizes)), x0=0., y0=0., x1=sizes, y1=sizes)))
    cut = pd.qcut(pd.Series(sizes), 3)
    words = {c: f'{max(c.left, sizes.min()):.0f} to {c.right:.0f} px' for c in cut.cat.categories}
    assert groups.set_index('path').kind.sort_index().tolist() == cut.map(words).tolist()


@pytest.mark.parametrize('sizes', [[4.]*9, [4.], [], [1, 1, 1, 1, 9], [1, 9, 9, 9, 9], [2, 1]])
def test_thirds_of_sizes_that_repeat(sizes):
    third, _ = thirds(sizes)
    assert len(third) == len(sizes) and set(third) <= {0, 1, 2}
    assert pd.Series(third).groupby(pd.Series(sizes, dtype=float)).nunique().le(1).all(), 'equal sizes stay together'
    assert not len(sizes) or (np.diff(third[np.argsort(sizes)]) >= 0).all() and 0 in third


@pytest.mark.parametrize('side', [None, 8])
def test_images_of_a_public_dataset(tmp_path, side):
    linked = link_public(make_plain_fracatlas(tmp_path/'FracAtlas', 60, side), tmp_path/'linked')
    rows, every = mura_index(linked), known_boxes(linked, every=True).set_index('path')
    store = SimpleNamespace(sizes=dict.fromkeys(rows.path, (120, 90)))
    data = LocalisationData(rows, rows.split.eq('tune'), store, every)
    images = abnormal_images(data, rows.set_index('study').label.eq(1))
    assert images.path.is_unique and set(images['size']) == ({'small'} if side else {'small', 'middle', 'large'})
    several = every.index[every.index.duplicated()]
    assert len(several), 'some pictures show two'
    area = ((every.x1-every.x0)*(every.y1-every.y0)).groupby(level=0, sort=False)
    assert (area.first() == area.max()).all() and len(data.boxes_of(several[0])) == 2
    assert known_boxes(linked).set_index('path').x0.equals(data.largest.x0)


def test_a_table_without_boxes_is_no_truth(tmp_path):
    (tmp_path/'truth').mkdir()
    (tmp_path/'truth/boxes.csv').write_text('path,kind,bone,x0,y0,x1,y1,mask,pair\n')
    assert known_boxes(tmp_path) is None


def test_a_kept_trial_depends_on_its_true_boxes(monkeypatch):
    "What is learned and what is hit changes with a corrected box, not with one of a picture that is not among the rows"
    rows = pd.DataFrame(dict(path=[f'{i}.png' for i in range(40)], patient=np.arange(40)//2, split='train',
        study=[f's{i}' for i in range(40)], study_type='ARM', label=np.arange(40)//2 % 2))
    store = SimpleNamespace(table=pd.DataFrame(dict(pixels=rows.path.to_numpy()), rows.path))
    monkeypatch.setattr(label_shares, 'cached', lambda name, key, make: fingerprint(key))
    def key(truth):
        truth = pd.DataFrame(truth, columns=['path', 'x0', 'y0', 'x1', 'y1']).set_index('path')
        data = LocalisationData(rows, None, store, truth)
        return label_shares.run_trial(label_shares.Trial(1., 'ImageNet', 0, 0), data)
    first = key([('2.png', 1, 2, 3, 4), ('3.png', 5., 6, 7, 8)])
    assert first == key([('3.png', 5, 6, 7, 8.), ('2.png', 1, 2, 3, 4), ('other.png', 1, 1, 2, 2)])
    assert first != key([('2.png', 1, 2, 3, 5), ('3.png', 5, 6, 7, 8)])
