"Poolings: closed forms against gradients, files against PyTorch, cards as ever, FuseNet refused"

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np, pytest, torch

import mura_nb.engines as V, mura_nb.networks as N, mura_nb.poolings as P, mura_nb.serving as S
from mura_nb.settings import POOLINGS, SettingError, read_recipe, settings
from mura_nb.results import save_model
from mura_nb.maps import grad_cam

SMALL, LITE = 'torchvision:resnet18', 'timm:tf_efficientnet_lite0'
EVERY = [(p, layer) for p in POOLINGS for layer in N.POOL_LAYERS]


def tiny(backbone=SMALL, **kw):
    r = settings('smoke').recipe('lite0_smoke')
    return replace(r, name='tiny', backbone=backbone, weights='none', resize=64, crop=64, **kw)


def network(pooling, layer, backbone=SMALL):
    torch.manual_seed(0)
    net = N.SingleLogit(backbone, 'none', 'single', pooling, layer).eval()
    with torch.no_grad():
        net.head.weight.mul_(20)
    return net


@pytest.mark.parametrize('pooling,layer', EVERY)
def test_the_closed_form_is_the_gradient(pooling, layer):
    net, x = network(pooling, layer, LITE), torch.randn(2, 3, 96, 96)
    last = [*net.body.children()][-1]
    for pooled in (True, False):
        for of in ('logit', 'prob'):
            closed, known = (grad_cam(net, x, k, of, pooled) for k in (None, last))
            assert (closed - known).abs().max() <= 1e-5 * max(1, known.max().item())


@pytest.mark.parametrize('pooling,layer', EVERY)
def test_engines_give_logit_code_and_map(pooling, layer, tmp_path):
    pytest.importorskip('onnxruntime')
    net, recipe = network(pooling, layer), tiny(pooling=pooling, pool_layer=layer)
    model = (net, dict(architecture='single_logit', recipe=recipe.card()))
    views = V.probe_views(64, 4)
    with torch.no_grad():
        x = V.net_input(list(views))
        logit, codes, heat = net(x), net.codes(x), grad_cam(net, x)
    for name in ('torch', 'onnx', 'openvino'):
        if name == 'openvino':
            pytest.importorskip('openvino')
        found = S.load_engine(model, name).outputs(views)
        assert np.abs(found['logit'] - logit.numpy()).max() <= 1e-4 * max(1, logit.abs().max().item())
        assert np.abs(found['codes'] - codes.numpy()).max() <= 1e-4 * max(1, codes.abs().max().item())
        cells = heat[0].numel()
        mine = np.maximum(found['heat'], 0) / cells
        assert np.abs(mine - heat.numpy()).max() <= 1e-4 * max(1, heat.max().item())


def test_a_model_comes_back_with_its_pooling(tmp_path):
    for pooling, layer in (('pcam', 'earlier'), ('mean', 'last')):
        net, recipe = network(pooling, layer), tiny(pooling=pooling, pool_layer=layer)
        save_model(net, dict(architecture='single_logit', recipe=recipe.card()), tmp_path / pooling)
        got, card = N.load_model(tmp_path / pooling)
        x = torch.randn(2, 3, 64, 64)
        assert (got.pooling, got.pool_layer) == (pooling, layer)
        assert ('pooling' in card['recipe']) == (pooling != 'mean')
        with torch.no_grad():
            assert torch.allclose(got(x), net(x), atol=1e-5)


def test_what_exists_keeps_its_cards_and_keys():
    for profile in ('smoke', 'demo'):
        s = settings(profile)
        for name in {*s.recipes, *s.ensemble, *s.sweep, *s.alignment, *s.rivals, s.local, s.look}:
            assert not {'pooling', 'pool_layer'} & {*s.recipe(name).card()}, name
    net = network('mean', 'last')
    state = net.state_dict().items()
    known = N.fingerprint(sorted((k, N.hashlib.sha256(v.contiguous().numpy().tobytes()).hexdigest()) for k, v in state))
    assert N.weights_key(net) == known
    other = copy.deepcopy(net)
    other.pooling = 'lse'
    assert N.weights_key(other) != known


@pytest.mark.parametrize('key', ['pooling = lse', 'pool_layer = earlier', 'pool_layer = joined', 'box_loss = 1'])
def test_fusenet_has_the_mean_of_the_last_map(key, tmp_path):
    s = settings('smoke')
    file = tmp_path / 'settings.ini'
    file.write_text(s.file.read_text() + f'\n[recipe other]\nlike = {s.fusenet}\n{key}\n')
    with pytest.raises(SettingError, match='in a recipe of FuseNet'):
        read_recipe('other', replace(s, file=file))
    file.write_text(s.file.read_text() + '\n[recipe other]\nlike = lite0\npooling = max\n')
    with pytest.raises(SettingError, match='one of mean, lse, pcam, top'):
        read_recipe('other', replace(s, file=file))


@pytest.mark.parametrize('names, compared', [(None, ['a', 'b']), (['b'], ['b'])])
def test_the_profiles_recipes_are_compared_where_none_are_named(monkeypatch, names, compared):
    trained, saved = [], []
    monkeypatch.setattr(P, 'settings', lambda: SimpleNamespace(poolings=['a', 'b']))
    monkeypatch.setattr(P, 'train_recipes', trained.extend)
    monkeypatch.setattr(P, 'localisation_data', lambda: None)
    monkeypatch.setattr(P, 'pooling_row', lambda name, data: dict(recipe=name))
    monkeypatch.setattr(P, 'save_table', lambda table, name: saved.append(name))
    assert P.measure_poolings(names).recipe.tolist() == compared == trained and saved == ['poolings']
