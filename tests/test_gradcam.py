"Heat maps: the same by both ways on any network, nothing left behind, back to the very pixel of the file"

import re
from dataclasses import replace
import numpy as np, pandas as pd, pytest, torch
from hypothesis import example, given, settings as hsettings, strategies as st
from torch import nn
from mura_nb import chance as C, evidence as V, gradcam as G, maps as M
from mura_nb.settings import settings
from mura_nb.geometry import Geometry, eval_geometry
from mura_nb.metrics import mean_intervals
from mura_nb.networks import SingleLogit, split_backbone
from mura_nb.fusenet import FuseNet


@pytest.fixture(scope='module')
def recipe():
    s = settings(profile='smoke')
    return replace(s.recipe(s.baseline), resize=256, crop=224)


def top(m):
    return m / m.amax((1, 2), keepdim=True).clamp_min(1e-12)


class InPlace(nn.Module):
    "A ReLU that writes into the map that is asked for"

    def __init__(self):
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 5, 3, stride=4), nn.ReLU(inplace=True)
        self.next, self.out = nn.Conv2d(5, 4, 3), nn.Linear(4, 1)

    def forward(self, x):
        return self.out(self.next(self.act(self.conv(x))).tanh().mean((2, 3)))


def by_hand(net, x, layer):
    "Grad-CAM from finite pieces of autograd, without hooks of ours"
    seen = {}
    h = layer.register_forward_hook(lambda m, i, o: seen.update(a=o.clone()) or None)
    try:
        net(x)
    finally:
        h.remove()
    a = seen['a'].detach().requires_grad_()
    h = layer.register_forward_hook(lambda m, i, o: a.clone())
    try:
        (g,) = torch.autograd.grad(net(x).sum(), a)
    finally:
        h.remove()
    return (g.mean((2, 3), keepdim=True) * a).sum(1).relu().detach()


def test_a_layer_that_is_written_over_afterwards():
    torch.manual_seed(0)
    net, x = InPlace().eval(), torch.randn(3, 3, 40, 40)
    torch.testing.assert_close(G.grad_cam(net, x, 'conv'), by_hand(net, x, net.conv))
    assert G.grad_cam(net, x).shape == (3, 8, 8)  # no closed form (tanh after the last map): falls back to gradients


BACKBONES = ['torchvision:resnet18', 'torchvision:densenet121', 'timm:tf_efficientnet_lite0', 'timm:convnext_atto']


@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('precision', ['single', 'bfloat16'])
def test_closed_form_is_the_backward_pass(backbone, precision):
    torch.manual_seed(1)
    net, x = SingleLogit(backbone, 'none', precision).eval(), torch.randn(2, 3, 96, 96)
    fast, slow = G.grad_cam(net, x), G.grad_cam(net, x, net.body)
    assert fast.shape == slow.shape and fast.min() >= 0
    torch.testing.assert_close(top(fast), top(slow), atol=1e-5 if precision == 'single' else 2e-2, rtol=0)


def test_one_picture_is_what_it_is_in_a_batch():
    torch.manual_seed(2)
    net, x = SingleLogit('torchvision:resnet18').eval(), torch.randn(3, 3, 64, 64)
    for layer in (None, 'body.layer3'):
        torch.testing.assert_close(G.grad_cam(net, x, layer)[1:2], G.grad_cam(net, x[1:2], layer), atol=1e-6, rtol=1e-4)


def test_gradients_weights_and_modes_are_left_alone():
    net = SingleLogit('torchvision:resnet18').train()
    net.body.layer1.eval()
    net.head.weight.requires_grad_(False)
    net(torch.randn(2, 3, 64, 64)).sum().backward()
    stats = net.body.bn1.running_mean.clone()
    grads = [None if p.grad is None else p.grad.clone() for p in net.parameters()]
    for kw in ({}, dict(layer='body.layer2'), dict(layer='body.layer2', pooled=False)):
        G.grad_cam(net, torch.randn(2, 3, 64, 64), **kw)
    assert net.training and not net.body.layer1.training and net.body.layer2.training
    assert not net.head.weight.requires_grad and net.head.bias.requires_grad
    assert torch.equal(net.body.bn1.running_mean, stats)
    assert all((a is None and p.grad is None) or torch.equal(a, p.grad) for a, p in zip(grads, net.parameters()))
    assert not any(m._forward_hooks or m._backward_hooks for m in net.modules())


# MURA: long side 512, smallest 89, upright or lying
sizes = st.one_of(st.tuples(st.integers(89, 512), st.just(512)), st.tuples(st.just(512), st.integers(89, 512)))


@hsettings(max_examples=60, deadline=None)
@given(
    sizes,
    st.sampled_from(['stretch', 'letterbox']),
    st.floats(0.15, 0.85),
    st.floats(0.15, 0.85),
    st.sampled_from([0, 90, 180, 270]),
)
@example((512, 89), 'stretch', 0.5, 0.5, 90)
@example((89, 512), 'letterbox', 0.3, 0.7, 270)
def test_the_maximum_returns_to_its_pixel(hw, fit, u, v, turn):
    "A cell lit at the place of a file's point comes back to that point, for every shape and quarter turn"
    s = settings(profile='smoke')
    r = replace(s.recipe(s.baseline), resize=256, crop=224, fit=fit)
    side = 224
    g = Geometry.rotate(turn, (side / 2, side / 2)) @ eval_geometry(hw, r)
    point = np.array([u * hw[1], v * hw[0]])
    at = g.points(point)
    if not ((at > 2) & (at < side - 2)).all():
        return  # outside what is seen
    y, x = np.mgrid[:side, :side] + 0.5
    heat = torch.as_tensor(np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 50)).float()
    m = M.file_map(heat, g, side, hw)
    ys, xs = np.nonzero(m >= 0.97 * m.max())
    assert np.abs([xs.mean() + 0.5 - point[0], ys.mean() + 0.5 - point[1]]).max() <= 1
    assert m.shape == hw


@hsettings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(['stretch', 'letterbox']), st.integers(1, 5), st.integers(1, 5))
def test_a_box_of_cells_returns_to_its_pixels(hw, fit, i, j):
    "A block of lit cells gives the box that the inverse geometry gives, within a pixel where cells are large"
    s = settings(profile='smoke')
    r = replace(s.recipe(s.baseline), resize=256, crop=224, fit=fit)
    g, heat = eval_geometry(hw, r), torch.zeros(224, 224)
    heat[32 * i : 32 * i + 64, 32 * j : 32 * j + 32] = 1
    want = np.clip(g.inverse.boxes((32 * j, 32 * i, 32 * j + 32, 32 * i + 64)), 0, (hw[1], hw[0]) * 2)
    if ((want[2:] - want[:2]) < 3).any():
        return
    np.testing.assert_allclose(M.map_box(M.file_map(heat, g, 224, hw), 0.5), want, atol=1)


def test_what_was_not_seen_has_no_evidence(recipe):
    g = eval_geometry((400, 300), recipe)
    m = M.file_map(torch.ones(7, 7), g, 224, (400, 300))
    x0, y0, x1, y1 = g.inverse.boxes((0, 0, 224, 224))
    assert m[0].max() == m[:, 0].max() == 0 and m[int(y0) + 1 : int(y1) - 1, int(x0) + 1 : int(x1) - 1].min() > 0.999


@pytest.mark.parametrize('bad', [np.nan, np.inf, -1.0, 0.0])
def test_maps_that_say_nothing_have_no_box(bad):
    assert M.map_box(np.full((9, 5), bad)) is None and not M.scaled(np.full((9, 5), bad)).any()
    assert M.map_box(np.full((9, 5), bad), 'otsu') is None


@hsettings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95), st.integers(1, 5))
def test_boxes_are_the_regions_of_the_most_evidence(seed, level, at_most):
    "Against scikit-image's labels, on random smooth maps"
    from scipy.ndimage import gaussian_filter
    from skimage.measure import label, regionprops

    heat = M.scaled(gaussian_filter(np.random.default_rng(seed).standard_normal((40, 30)), 2))
    regions = regionprops(label(heat > level, connectivity=2), heat)
    want = sorted(((float(r.image_intensity.sum() / heat.sum()), r.bbox) for r in regions), key=lambda v: -v[0])
    found = M.map_boxes(heat, level, at_most, least=0)
    np.testing.assert_allclose([s for _, s in found], [s for s, _ in want[:at_most]], rtol=1e-5)
    assert [(y0, x0, y1, x1) for (x0, y0, x1, y1), _ in found] == [b for _, b in want[:at_most]]
    assert M.map_box(heat, level) == found[0][0]


def fusenet(recipe):
    torch.manual_seed(0)
    return FuseNet(replace(recipe, heatmap='cam', pixels='input')).eval()


def card(recipe, **more):
    return dict(recipe=recipe.card(), threshold=0.0, **more)


@pytest.fixture
def pictures():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, hw, dtype=np.uint8) for hw in ((300, 210), (210, 300), (120, 121))]


@pytest.mark.parametrize('method', V.CAM_METHODS)
def test_every_method_works_for_baseline_fusenet_and_both_together(recipe, pictures, method):
    small = replace(recipe, resize=112, crop=96)
    torch.manual_seed(0)
    nets = [(SingleLogit(small.backbone).eval(), card(small)), (fusenet(small), card(small))]
    for model in (*nets, nets):
        found = G.localise(pictures, model, threshold=0, method=method)
        assert [r.heatmap.shape for r in found] == [p.shape for p in pictures]
        for r in found:
            assert 0 <= r.heatmap.min() and r.heatmap.max() in (0, 1) and (r.box is None) == (r.heatmap.max() == 0)
            if not r.box:
                assert r.boxes == []
                continue
            assert 0 <= r.box[0] < r.box[2] <= r.image.shape[1] and 0 <= r.box[1] < r.box[3] <= r.image.shape[0]
            shares = [score for _, score in r.boxes]
            assert r.boxes[0][0] == r.box and [b for b, _ in r.boxes[1:]] == r.others and 1 <= len(r.boxes) <= 5
            assert shares == sorted(shares, reverse=True) and 0 < shares[-1] and sum(shares) <= 1 + 1e-6


@pytest.mark.parametrize('backbone', ['torchvision:resnet18', 'torchvision:densenet121'])
def test_finer_methods_work_for_other_families(recipe, pictures, backbone):
    torch.manual_seed(0)
    small = replace(recipe, resize=112, crop=96, backbone=backbone)
    net = SingleLogit(backbone).eval()
    for method in ('earlier', 'hires_shifted'):
        found = G.localise(pictures[:2], (net, card(small)), threshold=0, method=method)
        assert all(r.heatmap.max() in (0, 1) for r in found)
    layer = split_backbone(net)[0][-1]
    x = torch.randn(1, 3, 96, 96)
    assert G.grad_cam(net, x, layer).shape == (1, 6, 6) and G.grad_cam(net, x).shape == (1, 3, 3)


def test_the_probability_is_the_networks_own(recipe, pictures):
    small = replace(recipe, resize=112, crop=96)
    net = fusenet(small)
    want = net(pictures).prob
    for method in ('plain', 'hires'):
        found = G.localise(pictures, (net, card(small)), method=method)
        np.testing.assert_allclose([r.prob for r in found], want, atol=1e-6)


def test_the_study_decides(recipe, pictures):
    torch.manual_seed(0)
    small = replace(recipe, resize=112, crop=96)
    net = SingleLogit(small.backbone).eval()
    all_ = G.localise(pictures, (net, card(small)))
    mean = np.mean([r.prob for r in all_])
    assert np.allclose([r.study_prob for r in all_], mean)
    above = G.localise(pictures, (net, card(small)), threshold=min(1, mean + 1e-6))
    assert all(r.box is None for r in above) and all('not above' in r.why for r in above)
    assert [r.box for r in G.localise(pictures, (net, card(small)), threshold=mean - 1e-6)] == [r.box for r in all_]


def test_the_cards_choice_holds_unless_told_otherwise(recipe, pictures):
    torch.manual_seed(0)
    small = replace(recipe, resize=112, crop=96)
    net = SingleLogit(small.backbone).eval()
    own = G.localise(pictures, (net, card(small, localise=dict(method='hires', level=0.3))))
    told = G.localise(pictures, (net, card(small)), method='hires', level=0.3)
    plain = G.localise(
        pictures, (net, card(small, localise=dict(method='hires', level=0.3))), method='plain', level=0.7
    )
    assert [r.box for r in own] == [r.box for r in told] != [r.box for r in plain]


def test_files_folders_and_what_is_no_picture(recipe, tmp_path, pictures):
    from PIL import Image

    net = SingleLogit(recipe.backbone).eval(), card(replace(recipe, resize=112, crop=96))
    for i in (10, 2, 1):
        Image.fromarray(pictures[i % 3]).save(tmp_path / f'image{i}.png')
    (tmp_path / '._image1.png').write_bytes(b'x')
    (tmp_path / 'notes.txt').write_text('x')
    assert [r.name for r in G.localise(tmp_path, net)] == ['image1.png', 'image2.png', 'image10.png']
    assert isinstance(G.localise(tmp_path / 'image1.png', net), G.Localised)
    (tmp_path / 'image3.png').write_bytes((tmp_path / 'image1.png').read_bytes()[:400])
    with pytest.raises(ValueError, match='image3.png: cannot be read'):
        G.localise(tmp_path, net)
    (tmp_path / 'none').mkdir()
    with pytest.raises(FileNotFoundError, match='no pictures'):
        G.localise(tmp_path / 'none', net)


def test_results_show_themselves(recipe, pictures):
    net = SingleLogit(recipe.backbone).eval(), card(replace(recipe, resize=112, crop=96))
    one, study = G.localise(pictures[0], net), G.localise(pictures, net)
    assert one._repr_png_()[:4] == study._repr_png_()[:4] == b'\x89PNG'
    assert 'probability' in repr(one)


def test_chance_boxes_reach_what_areas_say():
    rng = np.random.default_rng(0)
    n, hw = 300, np.tile([400, 300], (300, 1))
    corner = rng.random((n, 2)) * (250, 350)
    truth = np.c_[corner, corner + 50]
    found = pd.DataFrame(np.c_[truth[:, :2] + 25, truth], columns=M.PEAK + M.BOX)
    found = found.assign(study_type='HAND', patient=[f'p{i // 2}' for i in range(n)])
    part = np.tile([0.0, 0, 300, 400], (n, 1))
    got = C.chance_boxes(found, truth, hw, part, 'random')
    # the middle of a box of 50 px lies in the true one with the overlap of two squares, on average
    x = rng.random((200000, 2)) * (250, 350) + 25
    y = rng.random((200000, 2)) * (250, 350)
    want = ((y <= x) & (x < y + 50)).all(1).mean()
    assert abs(got.hit.mean() - want) < 0.006
    assert M.scores(found, truth).mean().tolist() == [1] * 5
    assert C.chance_boxes(found, truth, hw, part, 'other').hit.mean() < 0.1


def test_intervals_are_of_patients():
    v = pd.DataFrame(dict(a=np.repeat([0.0, 1.0], 50)))
    wide, narrow = mean_intervals(v, np.repeat(['p', 'q'], 50)), mean_intervals(v, np.arange(100))
    assert (wide.hi - wide.lo).item() > 0.9 and (narrow.hi - narrow.lo).item() < 0.25


def test_another_patients_box_is_never_the_patients_own():
    rng = np.random.default_rng(0)
    kind, who = np.array(['HAND'] * 6 + ['WRIST'] * 2, object), np.array(list('aabbcc') + ['a', 'a'], object)
    for _ in range(50):
        at = C.other_patients(kind, who, rng)
        assert (at[6:] == -1).all() and (kind[at[:6]] == 'HAND').all() and (who[at[:6]] != who[:6]).all()


class Everywhere(nn.Module):
    "The same evidence in every cell"

    def __init__(self):
        super().__init__()
        self.maps, self.head = nn.Sequential(nn.AvgPool2d(32)), nn.Linear(1, 1)

    def forward(self, x):
        return self.head(self.maps(x[:, :1] * 0 + 1).mean((2, 3)))


def test_shifted_views_have_no_false_border(recipe):
    net = Everywhere()
    net.head.weight.data[:] = 1
    img = np.zeros((400, 300), np.uint8)
    x0, y0, x1, y1 = eval_geometry(img.shape, recipe).inverse.boxes((0, 0, 224, 224))
    for method in ('plain', 'shifted'):
        m = V.evidence(net, recipe, [img], method)[1][0]
        inside = m[int(y0) + 1 : int(y1) - 1, int(x0) + 1 : int(x1) - 1]
        assert np.allclose(inside, inside.max(), rtol=1e-5) and (m > 0).sum() <= (y1 - y0 + 1) * (x1 - x0 + 1)


def test_a_constant_map_has_a_box_by_any_threshold():
    for level in (0.7, 'otsu'):
        assert M.map_box(np.full((4, 5), 3.0), level) == (0, 0, 5, 4)
    for level in (7, 'bad', None, [0.7], True):
        for m in (np.zeros((4, 5)), np.eye(4)):
            with pytest.raises(ValueError, match='must be at least 0 and below 1, or otsu'):
                M.map_box(m, level)
    with pytest.raises(ValueError, match='must be'):
        M.map_box(np.ones(5))


def test_what_is_asked_wrongly_is_said(recipe, pictures):
    small = replace(recipe, resize=112, crop=96)
    net = SingleLogit(small.backbone).eval()
    good = net, card(small)
    for model in ([], '', 3, (net, None)):
        with pytest.raises(TypeError, match='must be the name of a recipe'):
            G.localise(pictures, model)
    with pytest.raises(ValueError, match='must have its recipe'):
        G.localise(pictures, (net, dict(threshold=0.5)))
    for views in (None, 3, object()):
        with pytest.raises(TypeError):
            G.localise(views, good)
    for t in ('.5', -1, 1.2, float('nan')):
        with pytest.raises(ValueError, match='must be 0 to 1'):
            G.localise(pictures, good, threshold=t)
    with pytest.raises(ValueError, match='must be one of plain'):
        G.localise(pictures, good, method=['plain'])
    other = SingleLogit(small.backbone).eval(), card(small)
    with pytest.raises(ValueError, match='give threshold='):
        G.localise(pictures, [good, other])
    with pytest.raises(ValueError, match='not finite'):
        G.grad_cam(net, torch.full((1, 3, 96, 96), float('nan')))
    with pytest.raises(TypeError, match='must be a PyTorch module'):
        G.grad_cam(lambda x: x, torch.zeros(1, 3, 96, 96))
    with pytest.raises(ValueError, match='branches'):
        V.CamMethod('x', branches='lokal')


def test_a_layer_that_leads_nowhere():
    class Aside(InPlace):
        def forward(self, x):
            self.side(x)
            return super().forward(x)

    torch.manual_seed(0)
    net = Aside()
    net.side = nn.Conv2d(3, 2, 3)
    with pytest.raises(ValueError, match='does not depend on it'):
        G.grad_cam(net, torch.randn(1, 3, 40, 40), 'side')


def test_hooks_are_gone_when_one_cannot_be_set():
    m = nn.Identity()
    with pytest.raises(AttributeError):
        with M.hooked([m, 3], lambda *a: None):
            pass
    assert not m._forward_hooks


def test_results_compare_and_slice(recipe, pictures):
    net = SingleLogit(recipe.backbone).eval(), card(replace(recipe, resize=112, crop=96))
    found = G.localise(pictures, net)
    assert found.index(found[1]) == 1 and isinstance(found[:2], G.LocalisedStudy)
    with pytest.raises(ValueError, match='1 true boxes for 3'):
        found.figure([None])


def test_the_ceiling_is_above_any_level_of_the_same_map(recipe):
    truth, hw = np.array([[60.0, 80, 150, 160], [100, 200, 130, 240]]), np.array([[400, 300]] * 2)

    def grid(method):
        return V.CAM_METHODS[method].grid(recipe.crop)

    best, _ = C.ceiling(truth, hw, recipe, grid('plain'))
    for l in (0.2, 0.5, 0.7):
        assert best.iou.mean() >= C.ceiling(truth, hw, recipe, grid('plain'), (l,))[0].iou.mean()
    assert C.ceiling(truth, hw, recipe, grid('hires_shifted'))[0].iou.mean() > best.iou.mean()


# -- maps only from maps -----------------------------------------------------------------------------------------------


def timm_net(name, **kw):
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False, num_classes=1, **kw).eval()


def reshape_in(error):
    "The layer and the function that an error message offers"
    found = re.search(r"layer='([\w.]+)', reshape=(lambda .*)$", str(error.value))
    return found[1], eval(found[2])


@pytest.mark.parametrize('name,size,cells,extra', [
    ('vit_tiny_patch16_224', (224, 224), (14, 14), 1),
    ('deit_tiny_distilled_patch16_224', (224, 224), (14, 14), 2),
    ('vit_tiny_patch16_224', (96, 64), (6, 4), 1),
])
def test_tokens_are_no_map_until_they_are_reshaped(name, size, cells, extra):
    net, x = timm_net(name, img_size=size), torch.randn(2, 3, *size)
    with pytest.raises(TypeError, match=f'ends without feature maps.*{extra}:') as error: M.grad_cam(net, x)
    layer, reshape = reshape_in(error)
    maps = M.grad_cam(net, x, layer, reshape=reshape)
    assert layer == 'blocks.11.norm1' and maps.shape == (2, *cells) and maps.max() > 0
    norm, seen = net.blocks[11].norm1, {}
    hook = norm.register_forward_hook(lambda m, i, o: seen.update(o=o) or o.retain_grad())
    net(x).sum().backward()
    hook.remove()
    tokens, slope = seen['o'].detach()[:, extra:], seen['o'].grad[:, extra:].mean(1, keepdim=True)
    np.testing.assert_allclose(maps.flatten(1), (tokens*slope).sum(2).relu(), atol=1e-6, rtol=1e-4)
    for wrong in ('blocks.11.attn.q_norm', 'blocks.11'):
        with pytest.raises(TypeError, match='need feature maps'): M.grad_cam(net, x, wrong)
    assert M.grad_cam(net, x, 'patch_embed.proj').shape == (2, *cells)  # this layer does give maps


def test_attention_is_no_map():
    net, x = timm_net('vit_tiny_patch16_224'), torch.randn(1, 3, 224, 224)
    for block in net.blocks: block.attn.fused_attn = False
    with pytest.raises(TypeError, match='attention of 197 tokens'): M.grad_cam(net, x, 'blocks.11.attn.attn_drop')
    with pytest.raises(TypeError, match='ends without feature maps'): M.grad_cam(net, x)


def test_channels_last_are_turned_or_refused():
    net, x = timm_net('swin_tiny_patch4_window7_224'), torch.randn(1, 3, 224, 224)
    with pytest.raises(TypeError, match=r'permute\(0, 3, 1, 2\)') as error: M.grad_cam(net, x)
    layer, reshape = reshape_in(error)
    assert M.grad_cam(net, x, layer, reshape=reshape).shape == (1, 7, 7)
    with pytest.raises(TypeError, match=r'pass reshape=lambda t: t.permute\(0, 3'): M.grad_cam(net, x, 'layers.3')


@pytest.mark.parametrize('name,side', [('convnext_atto', 7), ('mobilevit_xxs', 8), ('resnet10t', 7)])
def test_networks_with_maps_keep_theirs(name, side):
    "Also where blocks inside have their channels last, or tokens"
    net = timm_net(name)
    assert M.grad_cam(net, torch.randn(1, 3, 32*side, 32*side)).shape == (1, side, side)


def test_torchvision_turns_its_channels_itself():
    from torchvision.models import swin_t

    net = swin_t(num_classes=1).eval()
    assert M.grad_cam(net, torch.randn(1, 3, 64, 64)).shape == (1, 2, 2)


def test_a_reshape_that_makes_no_map():
    net = timm_net('vit_tiny_patch16_224')
    with pytest.raises(TypeError, match='need feature maps'):
        M.grad_cam(net, torch.randn(1, 3, 224, 224), 'blocks.11.norm1', reshape=lambda t: t[..., None])


def test_the_distances_of_every_reading_are_kept(monkeypatch):
    from types import SimpleNamespace

    images = pd.DataFrame(dict(path=['a', 'b'], patient=['p', 'q']))
    scores = dict(map=pd.DataFrame(dict(hit=[1.0, 0.0])))
    found = dict(settings=SimpleNamespace(n_boot=0), map_sources={'x': SimpleNamespace(method='x')},
                 abnormal_images=images, scores_beside_chance=scores, peak_offset=dict(distance=3.0),
                 called_and_all=[('all', scores, images.patient)], comparison_table=pd.DataFrame(dict(value=[0.5])))
    for name, value in found.items():
        monkeypatch.setattr(G, name, lambda *a, value=value: value)
    kept = {}
    monkeypatch.setattr(G, 'save_table', lambda table, name: kept.update({name: table}))
    readings = {k: SimpleNamespace(box='x', level=0.5, peak='x') for k in ('report', 'equal')}
    every = dict.fromkeys(readings)
    G.write_test_tables(SimpleNamespace(truth=None), readings, every, every)
    assert kept['gradcam_away'].read.tolist() == kept['gradcam_found'].read.tolist() == ['report', 'equal']
    assert kept['gradcam_pictures'].who.tolist() == ['map', 'map']
