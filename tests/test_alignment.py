"Where the cells of a map lie: by layers, against gradients; by responses and agreement, where known; and in use"

from dataclasses import replace
import json
import numpy as np, pytest, torch
from torch import nn
from mura_nb import alignment as A, evidence as V, maps as M
from mura_nb.settings import settings
from mura_nb.results import save_model
from mura_nb.engines import onnx_card, part_of
from mura_nb.geometry import Geometry, eval_geometry
from mura_nb.networks import CellGrid, SingleLogit, cell_grid, hooked, load_networks, map_cells, split_backbone


def gradient_centre(net, layer, side, images=3):
    "Centre of the squared gradients of a layer's middle cell, mean of both axes; the middle of that cell"
    torch.manual_seed(0)
    maps, total = [], torch.zeros(side, side)
    with hooked([layer], lambda module, inputs, output: maps.append(output)):
        for _ in range(images):
            x = torch.randn(1, 3, side, side, requires_grad=True)
            net(x)
            middle = maps[-1].shape[-1] // 2
            mixture = maps[-1][0, :, middle, middle] @ torch.randn(maps[-1].shape[1])
            total += torch.autograd.grad(mixture, x)[0].square().sum((0, 1))
    cells, px = cell_grid(net, layer, side), torch.arange(side) + 0.5
    found = [(total.sum(k) @ px / total.sum()).item() for k in (0, 1)]
    return np.mean(found), cells.start[0] + cells.stride * middle


# sides at which the border of the view cuts little off a field
NETWORKS = [
    ('timm:tf_efficientnet_lite0', 'earlier', 352, 15.5),
    ('torchvision:resnet50', 'last', 256, 0.5),
    ('torchvision:densenet169', 'earlier', 256, 6.5),
    ('timm:resnet18d', 'last', 224, 0.5),
    ('timm:convnext_atto', 'last', 96, 16),
]


@pytest.mark.parametrize('backbone,layer,side,start', NETWORKS[:3])
def test_layers_say_what_gradients_say(backbone, layer, side, start):
    torch.manual_seed(0)
    net = SingleLogit(backbone).eval()
    module = net.body if layer == 'last' else split_backbone(net)[0][-1]
    found, place = gradient_centre(net, module, side)
    assert cell_grid(net, module, side).start == (start, start)
    assert abs(found - place) < 1.2


@pytest.mark.parametrize('backbone,layer,side,start', NETWORKS[3:])
def test_other_families(backbone, layer, side, start):
    assert cell_grid(SingleLogit(backbone), side=side) == CellGrid(side, 32, (start, start))


def test_dilation_asymmetric_padding_and_odd_sizes():
    dilated = nn.Conv2d(2, 2, 3, padding=2, dilation=2)
    net = nn.Sequential(nn.Conv2d(3, 2, 3, stride=2, padding=1), dilated, nn.AvgPool2d(3, 2))
    assert cell_grid(net, side=65) == CellGrid(65, 4, (2.5, 2.5))
    lite = SingleLogit('timm:tf_efficientnet_lite0')
    assert cell_grid(lite, lite.body.conv_stem, 96).start == (1.5, 1.5)  # pads behind
    assert cell_grid(lite, lite.body.conv_stem, 97).start == (0.5, 0.5)  # pads on both sides


def test_a_network_that_does_not_tell_is_drawn_in_tiles():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.body(torch.nn.functional.avg_pool2d(x, 8)).mean((1, 2, 3))

    assert map_cells(Functional(), side=64) is None
    with pytest.raises(ValueError, match='do not tell'): map_cells(Functional(), side=64, placement='layers')


@pytest.mark.parametrize('turn', [0, 90])
def test_a_placed_map_returns_to_its_pixel(turn):
    "A single lit cell has its maximum where the cell lies, for turned views as for others"
    hw, side, cells = (300, 200), 224, CellGrid(224, 32, (31.5, 4.0))
    s = settings(profile='smoke')
    recipe = replace(s.recipe(s.baseline), resize=256, crop=224)
    view = Geometry.rotate(turn, (112, 112)) @ eval_geometry(hw, recipe)
    heat = torch.zeros(7, 7)
    heat[3, 2] = 1
    peak = M.map_peak(M.file_map(heat, view, side, hw, cells=cells))
    want = view.inverse.points((31.5 + 64, 4 + 96))
    np.testing.assert_allclose(peak, want, atol=1)
    x0, y0, x1, y1 = M.heat_boxes(heat[None], 0.7, 0.01, cells)[0].numpy() * side
    np.testing.assert_allclose([(x0 + x1) / 2, (y0 + y1) / 2], (31.5 + 64, 4 + 96), atol=4)


class Displaced(nn.Module):
    "Looks at a spot beside the middle of each cell"

    def __init__(self, spot):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 1, 16, stride=16, bias=False), nn.Linear(1, 1)
        y, x = torch.meshgrid(torch.arange(16) + 0.5, torch.arange(16) + 0.5, indexing='ij')
        self.body.weight.data[:] = torch.exp(-((x - spot[0]) ** 2 + (y - spot[1]) ** 2) / 8)
        self.head.weight.data.fill_(1)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3))).squeeze(1)


@pytest.mark.parametrize('features', [False, True])
def test_a_known_displacement_is_measured(features):
    rng, net = np.random.default_rng(3), Displaced((4, 11))
    x = torch.as_tensor(rng.random((30, 3, 128, 128)), dtype=torch.float32)
    places = rng.uniform(0, 128, (30, 8, 2))
    found = A.response_offset(A.patch_responses(net, x, places, features=features), places, map_cells(net, side=128), 5)
    assert abs(found['x'] + 4) < 1 and abs(found['y'] - 3) < 1


@pytest.mark.parametrize('offset', [(0, 0), (-20, -45), (30, 10)])
def test_the_last_map_is_moved_onto_the_earlier_one(offset):
    "Views with one spot each, seen by cells that look beside their places; views without evidence change nothing"
    coarse, fine = CellGrid(192, 32, (31.5, 31.5)), CellGrid(192, 16, (15.5, 15.5))
    x, y = np.random.default_rng(1).uniform(60, 132, (2, 20, 1, 1))

    def spots(cells, wide, moved=(0, 0)):
        steps = cells.stride * np.arange(cells.side // cells.stride)
        across, down = (start + steps + m for start, m in zip(cells.start, moved))
        return torch.tensor(np.exp(-((across - x) ** 2 + (down[:, None] - y) ** 2) / (2 * wide**2))).float()

    last, earlier = spots(coarse, 30, offset), spots(fine, 20)
    found = A.agreement_offset(last, earlier, coarse, fine, 5)
    assert abs(found['x'] - offset[0]) < 3 and abs(found['y'] - offset[1]) < 3 and found['x_spread'] < 3
    nothing = [torch.cat([maps, torch.zeros(5, *maps.shape[1:])]) for maps in (last, earlier)]
    more = A.agreement_offset(*nothing, coarse, fine, 5)
    assert abs(more['x'] - found['x']) < 0.01 and abs(more['y'] - found['y']) < 0.01 and more['n'] == 25


def test_without_agreement_the_responses_are_used(monkeypatch):
    rows = dict(layer=['last', 'earlier'], x=[1., 2.], y=0., x_spread=0., y_spread=0., n=3)
    monkeypatch.setattr(A, 'layer_offsets', lambda *a: A.pd.DataFrame(rows))
    monkeypatch.setattr(A, 'cached', lambda name, parts, make: make())
    monkeypatch.setattr(A, '_heat_maps', lambda net, x, layer: torch.zeros(len(x), *[3 * (1 + (layer != 'last'))] * 2))
    net = SingleLogit('timm:tf_efficientnet_lite0')
    table = A.measured_offsets(net, torch.zeros(2, 3, 96, 96), 'key')
    assert table.placement.tolist() == ['responses'] * 2 and table.used.all()


def test_the_card_holds_the_agreement_of_the_last_map(monkeypatch):
    written = {}
    monkeypatch.setattr(A, 'update_card', lambda model, **new: written.update(new))
    rows = [('last', 'responses', 1, False), ('earlier', 'responses', 2, True), ('last', 'agreement', 3, True)]
    columns = ['layer', 'placement', 'x', 'used']
    table = A.pd.DataFrame(rows, columns=columns).assign(y=0, x_spread=0, y_spread=0)
    A.write_offsets('any', table)
    assert written['offsets'] == dict(earlier=[2, 0, 0, 0], last=[3, 0, 0, 0])


def test_the_card_moves_maps_and_file(tmp_path):
    "An offset on a card is used by a loaded network, by `evidence` and by the ONNX card"
    s = settings(profile='smoke')
    recipe = replace(s.recipe(s.baseline), resize=112, crop=96, name='moved')
    torch.manual_seed(0)
    net = SingleLogit(recipe.backbone)
    card = dict(architecture='single_logit', recipe=recipe.card(), offsets=dict(last=[-10.0, 4.0, 1.0, 1.0]))
    path = save_model(net, card, tmp_path / 'moved')
    ((loaded, _),) = load_networks(path)
    assert map_cells(loaded, side=96).start == (21.5, 35.5)
    assert V.CamMethod('x').grid(96, loaded).cells == CellGrid(96, 32, (21.5, 35.5))
    cells = onnx_card(part_of((loaded, card)))['heat_cells']
    assert (cells['x'], cells['y'], cells['stride']) == (21.5, 35.5, 32)
    image = np.random.default_rng(0).integers(0, 256, (120, 120), dtype=np.uint8)
    moved, still = (V.evidence(loaded, recipe, [image], V.CamMethod('x', placement=p))[1][0] for p in (None, 'layers'))
    view = eval_geometry(image.shape, recipe).inverse
    (a, b), (c, d) = view.points((38, 40)).astype(int), view.points((48, 36)).astype(int)
    assert abs(moved[b, a] - still[d, c]) <= 0.06 * still.max()
    assert 'offsets' in json.loads(path.with_suffix('.json').read_text())


@pytest.mark.parametrize('known', [True, False])
def test_hits_only_where_boxes_are_known(monkeypatch, known):
    about = A.pd.DataFrame(dict(path=['a', 'b'], patient=['p', 'q'], label=1))
    truth = A.pd.DataFrame(dict(x0=0., y0=0., x1=10., y1=10.), index=['a', 'b'])
    store = dict(a=np.zeros((10, 10)), b=np.zeros((30, 30)))
    columns = ['path', 'layer', 'placement', 'peak_x', 'peak_y']
    peaks = A.pd.DataFrame([(p, 'last', 'tiles', 5., 5.) for p in 'ab'], columns=columns)
    offsets = A.pd.DataFrame(dict(layer=['last'], placement='agreement', x=0., y=0.))
    monkeypatch.setattr(A, 'load_networks', lambda name: [(nn.Linear(1, 1), dict(recipe={}))])
    monkeypatch.setattr(A, 'abnormal_truth', lambda: (about, truth, store) if known else (None, None, store))
    monkeypatch.setattr(A, 'data_key', lambda *a: 'key')
    monkeypatch.setattr(A, 'cached', lambda *a: peaks)
    hits = A.network_hits('any', offsets)
    assert (hits is None) != known
    if known:
        assert hits.placement.tolist() == ['tiles', *A.WITHOUT_MAP] and hits.value.tolist()[:2] == [1, .5]
