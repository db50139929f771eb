"""Engines: what PyTorch says, from a file that describes itself; nothing half-made, nothing from an old cache, nothing
from the network"""

import json, subprocess, sys
from dataclasses import replace
import numpy as np, pytest, torch
from PIL import Image
from torch import nn
from mura_nb import engines as G, serving as V
from mura_nb.settings import Recipe, settings
from mura_nb.geometry import eval_geometry, warp
from mura_nb.metrics import expit
from mura_nb.networks import SingleLogit, net_input
from mura_nb.fusenet import FuseNet

BACKBONES = ['timm:tf_efficientnet_lite0', 'torchvision:resnet18', 'torchvision:densenet169', 'timm:convnext_atto']
SMALL = 'timm:test_efficientnet'  # where the family does not matter
PICTURES = [(90, 130), (300, 200), (64, 64), (40, 50)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    "Each test its own cache, and one thread"
    s = settings(profile='smoke')
    monkeypatch.setattr(G, 'settings', lambda *a: replace(s, root=tmp_path, results=tmp_path / 'results'))
    torch.set_num_threads(1)


def recipe(backbone=SMALL, **kw):
    s = settings(profile='smoke')
    return replace(s.recipe(s.baseline), name='own', backbone=backbone, resize=72, crop=64, **kw)


def model(backbone=SMALL, seed=0, spread=2, **kw):
    "A network that looks trained: its running statistics are those of pictures, its logits spread"
    torch.manual_seed(seed)
    net, r = SingleLogit(backbone), recipe(backbone, **kw)
    x = net_input(list(G.probe_views(r.crop)))
    with torch.no_grad():
        net.train()
        for _ in range(6):
            net(x)
        net.eval()
        z = net(x)
        k = spread / z.std()
        net.head.weight *= k
        net.head.bias.copy_((net.head.bias - z.mean()) * k)
    return net, dict(architecture='single_logit', recipe=r.card(), threshold=0.4, platt=dict(slope=1.2, intercept=0.3))


def fusenet():
    whole, r = model()[0], recipe(heatmap='cam', threshold=0.6, pixels='input')
    net = FuseNet(r)
    net.whole.load_state_dict(whole.state_dict())
    net.part.load_state_dict(model(seed=1)[0].state_dict())
    return net.eval(), dict(architecture='fusenet', recipe=r.card(), local=r.card(), threshold=0.3)


def pictures():
    return [np.random.default_rng(i).integers(0, 256, hw, dtype=np.uint8) for i, hw in enumerate(PICTURES)]


def eager(net, r, images):
    with torch.no_grad():
        return net(net_input([warp(i, eval_geometry(i.shape, r), (r.crop, r.crop)) for i in images])).double().numpy()


@pytest.mark.parametrize('backbone', BACKBONES)
def test_equal(backbone):
    "The file and both engines, each batch size, each family of networks"
    net, card = model(backbone)
    r = Recipe(**card['recipe'])
    images = pictures() * 2
    want = eager(net, r, images)
    for name, threads in (('torch', 1), ('openvino', 1), ('onnx', 1), ('openvino', 2), ('onnx', 2)):
        if threads == 1 or 'lite0' in backbone:
            e = V.load_engine((net, card), name, threads=threads)
            for n in (1, 3, 7):
                assert np.abs(e(images[:n]) - want[:n]).max() < (1e-4 if name != 'openvino' else 1e-3), name
            assert np.abs(expit(e(images)) - expit(want)).max() < 1e-3
    out = e.outputs([e.prepare(i) for i in images])
    assert out['codes'].shape == (8, net.head.in_features) and np.allclose(
        out['codes'] @ net.head.weight.detach().numpy()[0] + net.head.bias.item(), want, atol=1e-4
    )
    assert np.allclose(out['heat'].mean((1, 2)) + net.head.bias.item(), want, atol=1e-3)


def by_card(card, img):
    "The view from the card alone"
    p = card['preprocessing']
    (h, w), size = img.shape, p['resize']
    if p['fit'] == 'stretch':
        sx, sy, tx, ty = size / w, size / h, 0, 0
    else:
        k = min(size / w, size / h)
        nw, nh = max(1, round(w * k)), max(1, round(h * k))
        sx, sy, tx, ty = nw / w, nh / h, (size - nw) // 2, (size - nh) // 2
    dw, dh = max(1, round(w * sx)) if sx < 1 else w, max(1, round(h * sy)) if sy < 1 else h
    pic = Image.fromarray(img.astype(np.float32))
    if (dw, dh) != (w, h):
        pic = pic.resize((dw, dh), Image.Resampling.BILINEAR)
    sx, sy, tx, ty = sx * w / dw, sy * h / dh, tx - p['offset'], ty - p['offset']
    if abs(sx - 1) < 1e-9 and abs(sy - 1) < 1e-9:
        return np.asarray(pic.crop((-tx, -ty, p['crop'] - tx, p['crop'] - ty)))
    return np.asarray(
        pic.transform(
            (p['crop'],) * 2,
            Image.Transform.AFFINE,
            (1 / sx, 0, -tx / sx, 0, 1 / sy, -ty / sy),
            Image.Resampling.BILINEAR,
        )
    )


@pytest.mark.parametrize('fit', ['stretch', 'letterbox'])
def test_card_is_enough(tmp_path, fit):
    """Preprocessing from the card, the file in ONNX Runtime: the same probabilities. The metadata in the file say the
    same"""
    import onnx, onnxruntime

    net, card = model(fit=fit)
    r = Recipe(**card['recipe'])
    found = G.export_onnx((net, card), tmp_path / 'net.onnx')
    about = json.loads((tmp_path / 'net.onnx.json').read_text())
    session = onnxruntime.InferenceSession(tmp_path / 'net.onnx')
    for img in pictures():
        (z,) = session.run(['logit'], {about['input']['name']: by_card(about, img)[None]})
        assert abs(1 / (1 + np.exp(-z[0])) - expit(eager(net, r, [img]))[0]) < 1e-3
    inside = {p.key: p.value for p in onnx.load(tmp_path / 'net.onnx').metadata_props}
    assert (
        json.loads(inside['preprocessing']) == about['preprocessing']
        and json.loads(inside['decision'])['threshold'] == 0.4
    )
    assert (
        about['decision']['platt'] == card['platt']
        and about['opset']['ai.onnx'] == G.OPSET
        and {'onnx', 'torch', 'onnxruntime'} <= set(about['versions'])
    )
    assert about['checked']['largest_difference'] <= G.TOLERANCE and 'net.onnx' in repr(found)


def test_dynamic_batch(tmp_path):
    import onnxruntime

    G.export_onnx(model(), tmp_path / 'net.onnx')
    s = onnxruntime.InferenceSession(tmp_path / 'net.onnx')
    assert [s.run(['logit'], {'view': G.probe_views(64, n)})[0].shape for n in (1, 3, 17)] == [(1,), (3,), (17,)]


def test_nothing_is_left_of_a_file_that_differs(tmp_path, monkeypatch):
    "Nor is a good one replaced"
    pair = model()
    G.export_onnx(pair, tmp_path / 'net.onnx')
    before = (tmp_path / 'net.onnx').read_bytes()
    real = G._reference_logits
    monkeypatch.setattr(G, '_reference_logits', lambda net, v: real(net, v) + 0.01)
    for name in ('net.onnx', 'new.onnx'):
        with pytest.raises(G.NotEqual, match='not written'):
            G.export_onnx(pair, tmp_path / name)
    assert (
        sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ['net.onnx', 'net.onnx.json']
        and (tmp_path / 'net.onnx').read_bytes() == before
    )


def test_the_network_stays_as_it_was(tmp_path):
    net, card = model()
    net.train()
    net.precision = 'bfloat16'
    before = {k: v.clone() for k, v in net.state_dict().items()}
    G.export_onnx((net, card), tmp_path / 'net.onnx')
    V.load_engine((net, card), 'openvino')
    assert (
        net.training
        and net.precision == 'bfloat16'
        and all(p.requires_grad for p in net.parameters())
        and all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    )


def test_fusenet(tmp_path):
    "Both branches in an engine give what the whole gives; the file holds the global branch and says so"
    net, card = fusenet()
    images = pictures()[:3]
    want = net(images).logit
    for name in ('torch', 'onnx', 'openvino'):
        assert np.abs(V.load_engine((net, card), name)(images) - want).max() < 1e-3
    found = G.export_onnx((net, card), tmp_path / 'f.onnx')
    assert found.card['part'] == 'global branch' and found.card['decision']['threshold'] is None
    e = V.load_engine((net.whole, dict(card, architecture='single_logit')), 'torch')
    import onnxruntime

    (z,) = onnxruntime.InferenceSession(tmp_path / 'f.onnx').run(
        ['logit'], {'view': np.stack([e.prepare(i) for i in images])}
    )
    assert np.abs(z - e(images)).max() < 1e-4


def test_ensemble():
    a, b = model(), model(seed=1)
    p = [expit(V.load_engine(m, 'onnx')(pictures())) for m in (a, b)]
    assert np.allclose(expit(V.load_engine([a, b], 'onnx')(pictures())), np.mean(p, 0))


def test_cache_follows_the_weights(tmp_path):
    "Another training, another answer; the same weights, the same file; a damaged file is made again"
    net, card = model()
    img = pictures()[:1]
    first = V.load_engine((net, card), 'onnx')(img)
    files = lambda: sorted((tmp_path / '.cache' / 'engines').glob('*.onnx'))
    (one,) = files()
    made = one.stat().st_mtime_ns
    V.load_engine((net, card), 'openvino')
    assert files() == [one] and made == one.stat().st_mtime_ns
    with torch.no_grad():
        net.head.bias += 1
    assert np.allclose(V.load_engine((net, card), 'onnx')(img), first + 1, atol=1e-4) and len(files()) == 2
    one.write_bytes(one.read_bytes()[:1000])
    with torch.no_grad():
        net.head.bias -= 1
    assert np.allclose(V.load_engine((net, card), 'onnx')(img), first, atol=1e-4)


def test_auto_falls_back(monkeypatch):
    "Without OpenVINO it is ONNX Runtime, without both PyTorch; named, an error with the command"
    pair = model()
    real = G.importlib.util.find_spec
    for lost, want in (
        ({'openvino'}, 'onnx'),
        ({'openvino', 'onnxruntime'}, 'torch'),
        ({'onnx', 'onnxruntime', 'openvino', 'onnxscript'}, 'torch'),
    ):
        monkeypatch.setattr(G.importlib.util, 'find_spec', lambda n, *a: None if n in lost else real(n, *a))
        e = V.load_engine(pair)
        assert e.name == want and 'openvino' in e.passed
        with pytest.raises(G.EngineUnavailable, match=r"pip install 'mura_nb\[engines\]'"):
            V.load_engine(pair, 'openvino')
    with pytest.raises(G.EngineUnavailable, match='onnx'):
        G.export_onnx(pair)


def test_auto_takes_no_engine_that_differs(monkeypatch):
    real = G._OpenVINO._spread
    monkeypatch.setattr(G._OpenVINO, '_spread', lambda self, *a: [[o + 1 for o in out] for out in real(self, *a)])
    pair = model()
    assert V.load_engine(pair).name == 'onnx'
    with pytest.raises(G.NotEqual, match='probabilities differ'):
        V.load_engine(pair, 'openvino')


def test_errors(tmp_path, monkeypatch):
    pair = model()
    for kw, kind in (
        (dict(engine='x'), ValueError),
        (dict(precision='bfloat16'), ValueError),
        (dict(threads=0), ValueError),
        (dict(model='nowhere'), FileNotFoundError),
        (dict(model=3), TypeError),
        (dict(model=(nn.Linear(1, 1), pair[1])), TypeError),
    ):
        with pytest.raises(kind):
            V.load_engine(**{'model': pair, **kw})
    for kw, kind in (
        (dict(path=tmp_path / 'a.pt'), ValueError),
        (dict(branch='left'), ValueError),
        (dict(model=[pair, pair]), ValueError),
    ):
        with pytest.raises(kind):
            G.export_onnx(**{'model': pair, **kw})
    for kw in (dict(batch_size=0), dict(readers=0), dict(engine='x')):
        with pytest.raises(ValueError):
            V.probabilities([], pair, **kw)
    monkeypatch.setattr(V, 'has_bf16', lambda d='cpu': False)
    for name in ('auto', 'torch', 'openvino'):
        with pytest.raises(G.EngineUnavailable, match='does not compute in bfloat16'):
            V.load_engine(pair, name, 'bf16')


def test_bf16():
    if not G.has_bf16():
        pytest.skip('this processor does not compute in bfloat16')
    pair = model(BACKBONES[0], spread=0.3)
    images = pictures()
    e = V.load_engine(pair, 'openvino', 'bf16')
    assert np.abs(expit(e(images)) - expit(eager(pair[0], Recipe(**pair[1]['recipe']), images))).max() < 2e-2


def test_stream(tmp_path):
    "In order, errors in their places, no more read ahead than two batches"
    e = V.load_engine(model(), 'onnx')
    images = pictures() * 5
    read = []
    Image.fromarray(images[0]).save(tmp_path / 'a.png')
    (tmp_path / 'b.png').write_bytes(b'no picture')

    def source():
        for i in images:
            read.append(1)
            yield i

    answers = V.probabilities(source(), e, batch_size=3)
    next(answers)
    assert len(read) <= 6
    answers.close()
    mixed = [tmp_path / 'a.png', tmp_path / 'b.png', images[1], images[1].astype(float), tmp_path / 'c.png', images[0]]
    found = list(V.probabilities(mixed, e, batch_size=2))
    assert [a.image is m for a, m in zip(found, mixed)] == [True] * 6 and [type(a.error).__name__ for a in found] == [
        'NoneType',
        'ValueError',
        'NoneType',
        'TypeError',
        'FileNotFoundError',
        'NoneType',
    ]
    assert (
        np.isclose(found[0].prob, found[5].prob)
        and np.isclose(found[0].logit, e([images[0]])[0])
        and np.isnan(found[1].prob)
    )
    assert list(V.probabilities([], e)) == []


def test_imports_without_the_extra_and_without_network(root, tmp_path):
    """In a process where the packages cannot be imported the module works with PyTorch; where they can, nothing opens
    a connection"""
    blocked = '''
import sys
class No:
    def find_spec(self, name, *a):
        if name.split('.')[0] in ('onnx', 'onnxruntime', 'openvino', 'onnxscript'): raise ModuleNotFoundError(name)
sys.meta_path.insert(0, No())
import importlib.util; real = importlib.util.find_spec
importlib.util.find_spec = lambda n, *a: None if n in ('onnx', 'onnxruntime', 'openvino', 'onnxscript') else real(n, *a)
'''
    offline = '''
import socket
def no(*a, **k): raise AssertionError('a connection')
socket.socket.connect = socket.create_connection = socket.getaddrinfo = no
'''
    code = '''
import mura_nb.engines as G, mura_nb.serving as V, torch, numpy as np
from mura_nb.baselines import SingleLogit
from mura_nb.settings import settings
import sys; from dataclasses import replace; from pathlib import Path
s = settings('smoke'); G.settings = lambda *a: replace(s, root=Path(sys.argv[1]))
recipe = s.recipe('resnet50_smoke').card() | dict(backbone='torchvision:resnet18')
e = V.load_engine((SingleLogit('torchvision:resnet18'), dict(architecture='single_logit', recipe=recipe)))
e([np.zeros((80, 80), np.uint8)]); print(e.name, 'telemetry' in ' '.join(__import__('sys').modules))
'''

    def run(first):
        r = subprocess.run([sys.executable, '-c', first + code, tmp_path], cwd=root, capture_output=True, text=True)
        assert r.returncode == 0, r.stderr
        return r.stdout.split()

    assert run(blocked)[0] == 'torch'
    assert run(offline)[0] == 'openvino'
