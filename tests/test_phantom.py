"What the notebooks of the simulator should not carry: files, workers, interruption, errors."
import hashlib

import numpy as np
import pandas as pd
import pytest
from mura_nb import phantom
from mura_nb.core import STUDY_TYPES
from mura_nb.skeleton import DRAWN_BONES, draw_patient, parts_of
from mura_nb.pathology import KINDS, SIZES, draw_abnormality
from mura_nb.leaks import plan_auc
from PIL import Image

SMALL = dict(studies=28, seed=7, size=96, valid_frac=.5)


def files(root):
    return {p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp('a')/'d'
    return phantom.make_phantom(folder, **SMALL, workers=1, pairs=True, hardware_in_normal=.5)


def test_same_bytes_whatever_the_workers(small, tmp_path):
    other = phantom.make_phantom(tmp_path/'d', **SMALL, workers=2, pairs=True, hardware_in_normal=.5)
    assert files(other) == files(small)


def test_another_seed_is_another_dataset(small, tmp_path):
    other = phantom.make_phantom(tmp_path/'d', **SMALL | dict(seed=8), workers=1)
    pictures = {h for f, h in files(small).items() if f.endswith('.png') and 'masks' not in f}
    assert not set(files(other).values()) & pictures


def test_layout_is_mura_v11(small):
    pattern = r'MURA-v1\.1/(train|valid)/XR_[A-Z]+/patient\d{5}/study\d_(positive|negative)/image\d+\.png'
    for split in ('train', 'valid'):
        images = pd.read_csv(small/f'{split}_image_paths.csv', header=None)[0]
        studies = pd.read_csv(small/f'{split}_labeled_studies.csv', header=None)
        on_disk = {f'MURA-v1.1/{p.relative_to(small).as_posix()}' for p in (small/split).rglob('*.png')}
        assert set(images) == on_disk and images.str.fullmatch(pattern).all()
        assert set(images.str.rpartition('/')[0] + '/') == set(studies[0])
        assert ((studies[0].str.contains('positive')) == (studies[1] == 1)).all()
    people = [{p.name for p in (small/s).glob('*/*')} for s in ('train', 'valid')]
    assert not people[0] & people[1]
    lists = {f'{s}_{w}.csv' for s in ('train', 'valid') for w in ('image_paths', 'labeled_studies')}
    assert {p.name for p in small.iterdir()} == {'train', 'valid', 'truth', *lists}


def test_truth_matches_the_files(small):
    boxes, images = pd.read_csv(small/'truth'/'boxes.csv'), pd.read_csv(small/'truth'/'images.csv')
    on_disk = {p.relative_to(small).as_posix() for s in ('train', 'valid') for p in (small/s).rglob('*.png')}
    assert set(images.path) == on_disk
    assert set(images.side) == {'L', 'R'} and (images.mm_per_px > 0).all()
    seen = boxes.dropna(subset='x0')
    assert len(seen) > .9*len(boxes)
    for r in seen.itertuples():
        (w, h), mask = Image.open(small/r.path).size, np.asarray(Image.open(small/r.mask))
        assert mask.shape == (h, w) and max(w, h) == SMALL['size']
        assert 0 <= r.x0 < r.x1 <= w and 0 <= r.y0 < r.y1 <= h
        ys, xs = np.where(mask)
        assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (r.x0, r.y0, r.x1, r.y1)
        assert Image.open(small/r.pair).size == (w, h)


def test_hardware_in_normal_studies_only_where_asked(small):
    boxes = pd.read_csv(small/'truth'/'boxes.csv')
    normal = boxes[boxes.path.str.contains('negative')]
    assert len(normal) and set(normal.kind) == {'hardware'}
    plain = phantom.plan_studies(200, 1)
    assert (plain.kind == '').eq(plain.label == 0).all()


def test_every_positive_study_differs_from_its_twin(small):
    boxes = pd.read_csv(small/'truth'/'boxes.csv').dropna(subset='x0')
    changed = {}
    for r in boxes.itertuples():
        a, b = (np.asarray(Image.open(small/p).convert('L'), int) for p in (r.path, r.pair))
        study = r.path.rpartition('/')[0]
        changed[study] = changed.get(study, 0) + (np.abs(a - b) > 8).sum()
    assert min(changed.values()) > 0


def test_goes_on_after_an_interruption(small, tmp_path, monkeypatch):
    write, calls = phantom.write_study, []

    def stop(*a):
        calls.append(1)
        if len(calls) > 5: raise KeyboardInterrupt
        return write(*a)

    how = SMALL | dict(workers=1, pairs=True, hardware_in_normal=.5)
    monkeypatch.setattr(phantom, 'write_study', stop)
    with pytest.raises(KeyboardInterrupt): phantom.make_phantom(tmp_path/'d', **how)
    assert not (tmp_path/'d').exists()
    assert len(list((tmp_path/'.d.partial'/'rows').glob('*.json'))) == 5
    monkeypatch.setattr(phantom, 'write_study', write)
    done = phantom.make_phantom(tmp_path/'d', **how)
    assert files(done) == files(small) and [p.name for p in tmp_path.iterdir()] == ['d']


def written_at_once(row, seed, size, pairs, root, vary):
    "Writes nothing of a study but that it is done"
    (root/'rows').mkdir(exist_ok=True)
    (root/'rows'/f'{row.Index:06d}.json').write_text('{"boxes": [], "images": [], "sizes": null}')
    return row.views


def test_half_a_card_of_a_killed_run_is_no_card(tmp_path):
    (tmp_path/'.d.partial').mkdir()
    (tmp_path/'.d.partial'/'card.json').write_text('{"seed":')
    card, plan = dict(seed=0, size=64, pairs=False), phantom.plan_studies(28)
    phantom.write_dataset(tmp_path/'d', plan, card, 1, written_at_once)
    assert phantom.write_dataset(tmp_path/'d', plan, card, 1) == tmp_path/'d'


def test_of_two_at_once_one_waits(tmp_path):
    from concurrent.futures import ThreadPoolExecutor
    card, plan, rows = dict(seed=0, size=64, pairs=False), phantom.plan_studies(28), []
    def write(row, *how):
        rows.append(row.Index)
        return written_at_once(row, *how)
    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(phantom.write_dataset, tmp_path/'d', plan, card, 1, write) for _ in range(2)]
        assert [m.result() for m in made] == [tmp_path/'d']*2
    assert sorted(rows) == list(range(28)) and [p.name for p in tmp_path.iterdir()] == ['d']


def test_made_once_and_never_over_something_else(small, tmp_path):
    card, how = small/'truth'/'card.json', SMALL | dict(pairs=True, hardware_in_normal=.5)
    before = card.stat().st_mtime_ns
    assert phantom.make_phantom(small, **how) == small and card.stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match='another simulated dataset'):
        phantom.make_phantom(small, **SMALL | dict(seed=9))
    (tmp_path/'mine').mkdir()
    with pytest.raises(FileExistsError, match='no simulated dataset'): phantom.make_phantom(tmp_path/'mine', **SMALL)


BAD = [(dict(studies=5), 'at least 28'), (dict(valid_frac=1.5), 'valid_frac'), (dict(size=20), '64 to 2048'),
       (dict(hardware_in_normal=-1), 'hardware_in_normal')]


@pytest.mark.parametrize('bad, words', BAD)
def test_bad_arguments_say_what_is_allowed(bad, words, tmp_path):
    with pytest.raises(ValueError, match=words): phantom.make_phantom(tmp_path/'d', **SMALL | bad)
    assert not list(tmp_path.iterdir())


def test_unknown_kind_and_type():
    with pytest.raises(ValueError, match='fracture'): draw_abnormality(np.random.default_rng(0), 'cyst', 'HAND', {})


@pytest.mark.parametrize('seed', range(3))
def test_the_plan_follows_mura_and_says_little(seed):
    plan = phantom.plan_studies(20_000, seed)
    assert plan_auc(plan) <= .62
    train = plan[plan.split == 'train']
    assert abs(train.label.mean() - 5177/13457) < .005
    assert plan.kind.value_counts()[list(KINDS)].agg(np.ptp) <= 2
    assert abs(train.groupby('study_type').views.mean()['HAND'] - phantom.MURA_STUDIES['HAND'][2]) < .1


def test_metal_lies_along_the_bone_in_every_view():
    "Abnormalities are three-dimensional: the box of a shaft's hardware stays on its bone whatever the projection."
    shots, _ = phantom.example_study('FOREARM', 'hardware', seed=4, views=2, size=256)
    assert all(s.box for s in shots)
    assert all(s.image[s.mask].mean() > s.image[s.image > 20].mean() for s in shots)


@pytest.mark.parametrize('kind', KINDS)
def test_every_kind_in_every_type_has_a_box(kind):
    for k, t in enumerate(STUDY_TYPES):
        shots, ab = phantom.example_study(t, kind, seed=50 + k, views=2, size=128)
        assert any(s.box for s in shots), (t, kind, ab.bone)


NAMES = { # kind and size of an abnormality -> the size in SIZES
    ('hardware', 'width'): 'plate width', ('hardware', 'screw'): 'screw diameter',
    ('hardware', 'nail'): 'nail diameter', ('hardware', 'wire'): 'wire diameter',
    ('lesion', 'radius'): 'radius over bone radius', ('joint', 'loss'): 'loss of joint space',
    ('dislocation', 'shift'): 'shift', ('fracture', 'angulation'): 'angulation'}


def test_sizes_stay_inside_the_documented_ranges():
    rng, found = np.random.default_rng(0), []
    limits = SIZES.set_index(['kind', 'size'])[['low', 'high']]
    parts = parts_of(draw_patient(rng), [*DRAWN_BONES['HAND'], 'humerus', 'scapula', 'clavicle'])
    for t in ('FINGER', 'FOREARM', 'HUMERUS', 'SHOULDER'):
        for kind in KINDS:
            for _ in range(8 if kind == 'hardware' else 2):
                for k, x in draw_abnormality(rng, kind, t, parts).sizes.items():
                    if (kind, k) not in NAMES: continue
                    lo, hi = limits.loc[(kind, NAMES[kind, k])]
                    found.append((kind, k))
                    assert lo - 1e-9 <= x <= hi + 1e-9, (kind, k, x)
    assert set(found) == set(NAMES)


def test_variations_are_asked_for_written_down_and_the_same_for_all_workers(tmp_path, small):
    "The card of a dataset without variations is the one it always was."
    assert 'vary' not in (small/'truth'/'card.json').read_text()
    how = dict(studies=28, seed=7, size=64, valid_frac=.5, vary=('views', 'fractures', 'children', 'casts'))
    one, two = (phantom.make_phantom(tmp_path/str(n), **how, workers=n) for n in (1, 2))
    assert files(one) == files(two)
    assert '"vary": ["fractures", "children", "casts", "views"]' in (one/'truth'/'card.json').read_text()
    with pytest.raises(ValueError, match="variation 'tattoo' is none of"):
        phantom.make_phantom(tmp_path/'x', vary=['tattoo'])


# -- breakages that nothing else notices -------------------------------------------------------------------------------

def test_greys_of_an_exposure_by_hand():
    from dataclasses import replace
    from mura_nb.camera import draw_exposure, expose
    plain = dict(quanta=1e12, tilt=(0, 0), blur=0, gamma=1, seed=0)
    exposure = replace(draw_exposure(np.random.default_rng(0)), **plain)
    beam = np.repeat([[0., .5, 1., 2., 3.]], 4, 0)
    assert expose(beam, (0, 2), exposure)[0].tolist() == pytest.approx([0, 63, 127, 255, 255], abs=1)


def test_who_wears_nothing_stays_as_he_is():
    from mura_nb.camera import BeamMaps
    from mura_nb.variation import dress
    maps = BeamMaps(*np.arange(16.).reshape(4, 2, 2))
    assert dress(maps, None) is maps
    dressed = dress(maps, (1., 2., -99.))
    assert dressed.cortical[0, 0] == 1 and dressed.cancellous[0, 0] == 6 and dressed.soft.max() == 0


@pytest.mark.parametrize('radius, reach', [(2., 1.3), (20., 2.5)])
def test_a_break_reaches_no_further_than_25_mm(radius, reach):
    from types import SimpleNamespace
    from mura_nb.fractures import broken_bone
    site = SimpleNamespace(part=SimpleNamespace(bone='radius', body='forearm'), radius=radius)
    assert broken_bone(site, [], np.zeros((3, 3))).reach == pytest.approx(reach)


def test_patients_of_a_plan_of_muras_size_are_numbered_from_one():
    from mura_nb.mura_size import plan_mura
    patients = sorted(set(plan_mura(.002).patient))
    assert patients == list(range(1, len(patients) + 1))
