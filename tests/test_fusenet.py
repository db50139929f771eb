"FuseNet: boxes for any map, crops in their place, controls that cannot be mixed up"
from dataclasses import replace
import numpy as np, pandas as pd, pytest, torch
from hypothesis import given, settings as hsettings, strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label
from mura_nb import maps
from mura_nb.settings import settings
from mura_nb.geometry import eval_geometry, file_box
from mura_nb.training import follow_start
from mura_nb.crops import BranchFeatures, branch_boxes, cut, cut_bag
from mura_nb.looks import LookBranch, look_windows, peak_windows, random_windows
from mura_nb.fusenet import FuseNet
from mura_nb.controls import control_boxes, run_control
from mura_nb.evidence import evidence
from mura_nb.serving import load_engine

heat_maps = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=9),
    elements=st.floats(-50, 50, width=32))
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))


@pytest.fixture
def recipe():
    s = settings(profile='smoke')
    return replace(s.recipe(s.local), threshold=.7)


@hsettings(max_examples=100, deadline=None)
@given(heat_maps, st.sampled_from([0, .3, .7, .95]))
def test_any_map_has_a_box_inside_and_large_enough(a, t):
    b = maps.heat_boxes(torch.tensor(a), t).numpy()
    assert (b >= -1e-6).all() and (b <= 1+1e-6).all()
    assert (b[:, 2:]-b[:, :2] >= maps.SMALLEST-1e-5).all()


@hsettings(max_examples=100, deadline=None)
@given(masks)
def test_regions_of_a_batch_are_those_of_single_masks(m):
    got = maps.largest_region(torch.tensor(m)).numpy()
    for one, g in zip(m, got):
        regions = label(one, connectivity=2)
        want = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:]) if one.any() else one
        np.testing.assert_array_equal(g, want)


def test_boxes_are_those_of_the_plain_way():
    heat = torch.rand(40, 7, 7, generator=torch.Generator().manual_seed(3))
    for h, b in zip(heat, maps.heat_boxes(heat, .7)):
        coarse = maps.normalise(h[None])[:, None]
        fine = torch.nn.functional.interpolate(coarse, scale_factor=maps.FINER, mode='bilinear')[0, 0].numpy()
        fine = (fine-fine.min())/(fine.max()-fine.min())
        regions = label(fine > .7, connectivity=2)
        ys, xs = np.nonzero(regions == 1 + np.argmax(np.bincount(regions.ravel())[1:]))
        n = fine.shape[0]
        want = maps.at_least(torch.tensor([[xs.min()/n, ys.min()/n, (xs.max()+1)/n, (ys.max()+1)/n]]))[0]
        np.testing.assert_allclose(b, want, atol=1e-5)


@pytest.mark.parametrize('a', [
    np.zeros((2, 7, 7)), np.full((2, 7, 7), np.nan), np.full((2, 7, 7), -3.),
    np.full((2, 7, 7), np.inf), np.zeros((0, 7, 7))])
def test_maps_that_say_nothing_give_the_whole_view(a):
    assert (maps.heat_boxes(torch.tensor(a, dtype=torch.float32), .7).numpy() == [0, 0, 1, 1]).all()


def test_a_component_at_each_border():
    for i, j in ((0, 0), (0, 6), (6, 0), (6, 6), (3, 0)):
        a = torch.zeros(1, 7, 7)
        a[0, i, j] = 1
        x0, y0, x1, y1 = maps.heat_boxes(a)[0].tolist()
        assert x0 <= (j+.5)/7 <= x1 and y0 <= (i+.5)/7 <= y1 and min(x0, y0) >= 0 and max(x1, y1) <= 1+1e-6


@pytest.mark.parametrize('t', [-.1, 1, 7])
def test_threshold_out_of_range(t):
    with pytest.raises(ValueError, match=f'threshold {t}'): maps.heat_boxes(torch.zeros(1, 7, 7), t)


@pytest.mark.parametrize('hw', [(300, 200), (200, 300), (512, 512), (97, 411)])
@pytest.mark.parametrize('fit', ['stretch', 'letterbox'])
def test_box_of_the_view_and_of_the_file_are_one_place(hw, fit, recipe):
    r, box = replace(recipe, fit=fit), (.2, .35, .6, .9)
    back = eval_geometry(hw, r).boxes(file_box(box, hw, r))/r.crop
    np.testing.assert_allclose(back, box, atol=1e-6)


def test_a_bright_spot_is_in_the_middle_of_its_crop(recipe):
    img = np.zeros((400, 300), np.uint8)
    img[190:210, 140:160] = 255
    x0, y0, x1, y1 = eval_geometry(img.shape, recipe).boxes(np.array([100., 150, 200, 250]))/recipe.crop
    for pixels in ('input', 'file'):
        for mirrored in (False, True):
            box = (1-x1, y0, 1-x0, y1) if mirrored else (x0, y0, x1, y1)
            c = cut(img, box, replace(recipe, pixels=pixels), mirrored).astype(float)
            ys, xs = np.indices(c.shape)
            np.testing.assert_allclose([(c*xs).sum()/c.sum(), (c*ys).sum()/c.sum()], (c.shape[0]-1)/2, atol=1.5)


def test_crops_of_the_file_are_sharper(recipe):
    rng = np.random.default_rng(0)
    img = np.kron(rng.integers(0, 255, (128, 128)), np.ones((4, 4))).astype(np.uint8)
    crops = {p: cut(img, (.4, .4, .6, .6), replace(recipe, pixels=p)).astype(float) for p in ('input', 'file')}
    detail = {p: np.abs(np.diff(c, axis=1)).mean() for p, c in crops.items()}
    assert detail['file'] > 1.5*detail['input']


def test_hits_by_hand():
    true = [[.4, .4, .6, .6], [.7, .7, .9, .9], [1.2, 1.2, 1.4, 1.4]]
    h = maps.box_hits([[0, 0, 1, 1], [0, 0, .5, .5], [0, 0, .5, .5]], true)
    assert h.hit.tolist() == [True, False, False]
    np.testing.assert_allclose(h.chance, [1, .16, 0], atol=1e-6)


def test_moved_boxes_keep_their_size_and_differ_from_where_they_were():
    b = np.tile([.1, .1, .3, .5], (2, 200, 1))
    for to in ('random', 'centre'):
        m = control_boxes(b, to)
        np.testing.assert_allclose(m[..., 2:]-m[..., :2], b[..., 2:]-b[..., :2])
        assert (m >= 0).all() and (m <= 1+1e-9).all()
    np.testing.assert_array_equal(control_boxes(b, 'random'), control_boxes(b, 'random'))
    assert not np.array_equal(control_boxes(b, 'random')[0], control_boxes(b, 'random')[1])


def test_training_leaves_frozen_branches_alone(recipe):
    net = FuseNet(replace(recipe, resize=72, crop=64)).train()
    frozen = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith('fuse')}
    opt = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], .1)
    trained = [p for g in opt.param_groups for p in g['params']]
    assert sum(p.numel() for p in trained) == sum(p.numel() for p in net.fuse.parameters())
    x = torch.rand(4, 3, 64, 64)
    net.fuse(torch.cat([net.whole.codes(x), net.part.codes(x)], 1)).sum().backward()
    opt.step()
    for k, v in frozen.items(): assert torch.equal(v, net.state_dict()[k]), k


@pytest.mark.parametrize('shape', [(1, 1), (3, 900), (64, 64)])
def test_pictures_of_any_size(shape, recipe):
    net = FuseNet(replace(recipe, resize=72, crop=64)).eval()
    seen = net([np.full(shape, 90, np.uint8)])
    assert np.isfinite(seen.prob).all() and (seen.boxes >= -1e-3).all()


def test_an_unknown_control_is_named():
    with pytest.raises(ValueError, match="control 'left': must be one of heat"): run_control(None, 'left')


def test_a_threshold_of_zero_is_not_taken_as_unset(recipe):
    seen = BranchFeatures(['a'], None, torch.rand(2, 1, 7, 7, generator=torch.Generator().manual_seed(1)).numpy())
    df = pd.DataFrame(dict(path=['a']))
    low, own, unset = (branch_boxes(seen, df, replace(recipe, threshold=t)) for t in (0., maps.THRESHOLD, None))
    np.testing.assert_array_equal(own, unset)
    area = lambda b: (b[..., 2:]-b[..., :2]).prod(-1)
    assert (area(low) > area(own)).all()


def test_fixed_rate_of_the_demo_is_that_of_the_rule(root, monkeypatch):
    "Demo keeps its rate as a number; the rule of the other profiles gives the same one"
    monkeypatch.chdir(root)
    s = settings('demo')
    local = s.recipe(s.local)
    assert local.lr_of_start is None
    assert follow_start(replace(local, lr_of_start=.1), s.recipe(s.baseline), root/'results'/'demo').lr == local.lr


def test_local_branch_of_paper_follows_a_rule(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv('MURA_NB_DATA', str(tmp_path))
    for profile in 'paper', 'smoke':
        s = settings(profile)
        local = s.recipe(s.local)
        assert local.lr_of_start == .1 and local.stop and local.epochs > local.patience*local.stop


@pytest.fixture
def looking(recipe):
    "FuseNet with looks, new, and the recipes of its fusion and of its second branch"
    fuse = replace(recipe, heatmap=None, threshold=None, looks=3, look_area=.12, resize=72, crop=64, pixels='file')
    local = replace(fuse, resize=40, crop=36)
    return FuseNet(fuse, local), fuse, local


def pictures(n=2): return [np.random.default_rng(i).integers(0, 256, (90, 70+i), np.uint8) for i in range(n)]


@pytest.mark.parametrize('kind', ['report', 'looks'])
def test_a_new_fusenet_keeps_its_running_statistics(kind, recipe, looking):
    "A forward pass of a module that nobody has put into evaluation mode changes no buffer"
    net = looking[0] if kind == 'looks' else FuseNet(replace(recipe, resize=72, crop=64))
    before = {k: v.clone() for k, v in net.named_buffers()}
    net(pictures())
    for k, v in net.named_buffers(): assert torch.equal(v, before[k]), k


@hsettings(max_examples=100, deadline=None)
@given(heat_maps.filter(lambda a: a.shape[1] == a.shape[2]), st.sampled_from([.06, .12, .25, .9]), st.integers(1, 6))
def test_windows_of_any_map_have_their_area_and_lie_inside(a, area, k):
    b = peak_windows(torch.tensor(a), area, k).numpy()
    assert b.shape == (len(a), k, 4) and (b >= -1e-6).all() and (b <= 1+1e-6).all()
    np.testing.assert_allclose(b[..., 2:]-b[..., :2], area**.5, atol=1e-5)


def test_windows_of_a_batch_are_those_of_single_maps():
    heat = torch.rand(300, 6, 6, generator=torch.Generator().manual_seed(0))
    got = peak_windows(heat, .12, 3)
    for i in (0, 7, 299): assert torch.equal(peak_windows(heat[i:i+1], .12, 3)[0], got[i])


def test_the_first_window_is_the_best_of_all():
    "Against every place, tried one by one"
    heat = torch.rand(5, 6, 6, generator=torch.Generator().manual_seed(1))
    coarse = maps.normalise(heat)[:, None]
    fine = torch.nn.functional.interpolate(coarse, scale_factor=maps.FINER, mode='bilinear')[:, 0]
    n = int(np.ceil(48*.12**.5))
    for f, b in zip(fine.double().numpy(), peak_windows(heat, .12, 1)[:, 0].numpy()):
        sums = [(f[y:y+n, x:x+n].sum(), x, y) for y in range(49-n) for x in range(49-n)]
        _, x, y = max(sums)
        np.testing.assert_allclose((b[:2]+b[2:])/2, (np.array([x, y]) + n/2)/48, atol=1/48)


def test_windows_do_not_overlap_where_there_is_room():
    "A window of .06 of the view leaves room for another one wherever it is; two of .25 have it in the corners only"
    b = random_windows(60, .06, 2)
    assert (maps.shared_area(b[:, 0], b[:, 1]) < 1e-9).all()
    assert (maps.shared_area(*random_windows(60, .25, 2).swapaxes(0, 1)) > 0).any()


@pytest.mark.parametrize('a', [np.zeros((2, 7, 7)), np.full((2, 7, 7), np.nan), np.full((2, 7, 7), np.inf)])
def test_maps_that_say_nothing_give_the_middle(a):
    b = peak_windows(torch.tensor(a, dtype=torch.float32), .12, 2)[:, 0].numpy()
    np.testing.assert_allclose((b[:, :2]+b[:, 2:])/2, .5, atol=.02)


def test_looks_need_their_settings_and_a_finer_map(recipe, looking):
    df = pd.DataFrame(dict(path=['a']))
    fine = BranchFeatures(['a'], None, fine=np.zeros((2, 1, 4, 4), np.float32))
    with pytest.raises(ValueError, match='set both in settings.ini'): look_windows(fine, df, recipe)
    with pytest.raises(ValueError, match='no finer heat map'): look_windows(BranchFeatures(['a'], None), df, looking[1])


def test_a_bag_is_its_crops_one_above_the_other(looking):
    img, (fuse, local) = pictures()[0], looking[1:]
    boxes = [(0, 0, .4, .4), (.5, .5, .9, .9)]
    bag = cut_bag(img, boxes, fuse, side=local.resize)
    for i, box in enumerate(boxes): np.testing.assert_array_equal(bag[40*i:40*(i+1)], cut(img, box, fuse, side=40))


def test_attention_does_not_depend_on_the_order_of_crops(looking):
    net = LookBranch(looking[2]).eval()
    x = torch.rand(2, 3, 3*36, 36)
    turned = torch.cat(x.split(36, 2)[::-1], 2)
    with torch.no_grad(): (a, wa), (b, wb) = net.weighted(x), net.weighted(turned)
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(wa, wb.flip(1), atol=1e-5, rtol=1e-4)


def test_looks_in_an_engine_and_as_evidence(looking):
    "Logits of all ways are the module's; the crops' maps lie in their boxes"
    net, fuse, local = looking
    card = dict(architecture='fusenet', recipe=fuse.card(), local=local.card(), threshold=.5)
    images = pictures()
    given_ = net.eval()(images)
    np.testing.assert_allclose(load_engine((net, card), 'torch')(images), given_.logit, atol=1e-4)
    logit, heat = evidence(net, fuse, images, 'fusenet_local')
    np.testing.assert_allclose(logit, given_.logit, atol=1e-5)
    for m, boxes in zip(heat, given_.boxes):
        y, x = np.nonzero(m)
        inside = [(b[0]-1 <= x) & (x <= b[2]) & (b[1]-1 <= y) & (y <= b[3]) for b in boxes]
        assert np.any(inside, 0).all()


def test_recipes_of_looks(root, monkeypatch, tmp_path):
    "A step of the second branch reads at most one and a half times the pixels of one of the baseline"
    monkeypatch.chdir(root)
    monkeypatch.setenv('MURA_NB_DATA', str(tmp_path))
    for profile in ('demo', 'paper'):
        s = settings(profile)
        view, local = s.recipe(s.look), s.recipe(s.look_local)
        assert (view.looks, view.look_area) == (local.looks, local.look_area)
        assert local.looks*local.crop**2 <= 1.5*view.crop**2 and local.looks*local.look_area <= .5


def test_a_finished_fusenet_lies_where_its_baseline_does_now(monkeypatch):
    "Where the baseline's displacement was measured anew, the card of a kept FuseNet follows"
    from mura_nb import fusenet as F
    written = []
    monkeypatch.setattr(F, 'update_card', lambda path, **fields: written.append(fields))
    monkeypatch.setattr(F, 'load_card', lambda path: 'card')
    base = torch.nn.Linear(1, 1)
    for offsets, known in (({}, {}), (dict(last=[1]), dict(last=[1])), (dict(last=[2]), dict(last=[1]))):
        base.offsets = offsets
        assert F._placed('path', dict(offsets=known), base) == 'card'
    assert written == [dict(offsets=dict(last=[2]))]
