"The audit of a network: three kinds of networks on few small pictures, what is no network, the command, the page."

import json, re
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from typer.testing import CliRunner
from mura_nb import asked, audit, programs
from mura_nb.settings import settings
from mura_nb.results import save_model
from mura_nb.pairs import CHANGES
from conftest import ROOT

STUDIES, SIZE = 6, 96
ALL = ['fracture', 'metal', 'holes', 'marker', 'exposure', 'collimation', 'views']


@pytest.fixture(scope='module')
def pairs():
    return audit.audit_pictures(STUDIES, size=SIZE)


@pytest.fixture(scope='module')
def recipe():
    s = settings('smoke', ROOT / 'settings.ini')
    return s.recipe(s.baseline)


@pytest.fixture(scope='module')
def net(recipe):
    "A small network that has learned nothing"
    from mura_nb.networks import SingleLogit

    torch.manual_seed(0)
    return SingleLogit(recipe.backbone, 'none').eval()


def exported(module, path, *shape):
    free = {'x': {0: 'n'}} if shape[0] != 1 else None
    torch.onnx.export(
        module.eval(), (torch.zeros(shape),), path, dynamo=False, input_names=['x'], dynamic_axes=free)
    return path


def layers(channels=3, out=1, *more):
    nn = torch.nn
    torch.manual_seed(1)
    body = nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*body, nn.Linear(4, out), *more)


def theirs():
    "A network of torchvision, as somebody who does not know this package wraps it"
    import torchvision
    torch.manual_seed(0)
    body = torchvision.models.resnet18(weights=None, num_classes=1).eval()

    @torch.no_grad()
    def call(pictures):
        small = [torch.nn.functional.interpolate(torch.tensor(p)[None, None] / 255, (64, 64)) for p in pictures]
        return body(torch.cat(small).expand(-1, 3, -1, -1)).sigmoid()[:, 0].numpy()

    return call


def test_networks_of_all_makes_get_a_card(pairs, net, recipe, tmp_path):
    "Ours, an ONNX file, one of torchvision, and a planted shortcut, which is found"
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    file = exported(layers(), tmp_path / 'theirs.onnx', 2, 3, 64, 48)
    models = asked.torch_model(net, recipe), asked.onnx_model(file), theirs(), audit.marker_reader(6, SIZE)
    cards = [audit.audit_shortcuts(m, pairs=pairs, n_boot=200) for m in models]
    for card in cards:
        assert card.table.shortcut.tolist() == ALL and card.about['studies'] == STUDIES
        assert list(card.table)[:5] == ['shortcut', 'shift', 'lo', 'hi', 'reference_shift']
        assert set(card.words) == set(ALL) and card._repr_markdown_().count('\n| ') == 1 + 1 + len(ALL)
    planted = cards[-1].table.set_index('shortcut')
    assert planted['lo'].marker > 0 and planted['shift'].idxmax() == 'marker' and planted['called'].marker > 0.5


def test_ours_sees_what_predict_sees(net, recipe, pairs):
    from mura_nb.predictions import predict

    _, pictures = pairs
    rows = pd.DataFrame(dict(path=range(4), study='s', patient='p', study_type='HAND', label=0, split='valid'))
    want = predict(net, rows, dict(enumerate(pictures[:4])), recipe, workers=0).prob
    np.testing.assert_allclose(asked.torch_model(net, recipe)(pictures[:4]), want, atol=1e-6)


def test_our_onnx_file_needs_no_card_beside_it(net, recipe, pairs, tmp_path):
    for package in 'onnx', 'onnxruntime', 'onnxscript':
        pytest.importorskip(package)
    from mura_nb.engines import card_path, export_onnx

    card = dict(architecture='single_logit', recipe=recipe.card(), threshold=0.3)
    done = export_onnx((net, card), tmp_path / 'ours.onnx')
    other = (tmp_path / 'ours.onnx').read_bytes() + b'\x32\0'  # an empty description: the same graph
    (tmp_path / 'ours.onnx').write_bytes(other)
    with pytest.raises(ValueError, match='not the file that ours.onnx.json describes'):
        asked.onnx_model(done.path)
    card_path(done.path).unlink()
    model, pictures = asked.onnx_model(done.path), pairs[1][:3]
    np.testing.assert_allclose(model(pictures), asked.torch_model(net, recipe)(pictures), atol=1e-4)
    assert (model.threshold, model.prepared) == (0.3, asked.torch_model(net, recipe).prepared)


@pytest.mark.parametrize('module,shape', [
    (layers(1), (2, 1, 20, 30)), (layers(3, 2), (2, 3, 20, 30)), (layers(3, 1, torch.nn.Sigmoid()), (1, 3, 20, 30)),
    (layers(3, 2, torch.nn.Softmax(1)), (2, 3, 20, 30))])
def test_files_of_others(module, shape, tmp_path, pairs):
    "One channel or three, one number or two, logits or probabilities, one picture at a time"
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    model, pictures = asked.onnx_model(exported(module, tmp_path / 'a.onnx', *shape)), pairs[1][:3]
    x = torch.as_tensor(asked._foreign_input(pictures, shape[2:], shape[1], False))
    with torch.no_grad():
        out = module(x)
    if not isinstance(module[-1], torch.nn.Linear):
        want = out[:, -1]
    else:
        want = torch.sigmoid(out[:, 0]) if out.shape[1] == 1 else torch.softmax(out, 1)[:, 1]
    np.testing.assert_allclose(model(pictures), want, atol=1e-6)
    assert 'stretched to 30 x 20 px' in model.prepared
    assert model.prepared.endswith('logit' if isinstance(module[-1], torch.nn.Linear) else 'probability')


@pytest.mark.parametrize('shape,words', [((2, 5, 20, 30), 'must be float'), ((8, 3, 20, 30), None)])
def test_files_that_are_no_image_network(shape, words, tmp_path):
    pytest.importorskip('onnxruntime')
    pytest.importorskip('onnx')
    file = tmp_path / 'a.onnx'
    module = layers(shape[1])
    if words is None:
        torch.onnx.export(module, (torch.zeros(shape),), file, dynamo=False)
        words = 'takes 8 pictures'
    else:
        exported(module, file, *shape)
    with pytest.raises(ValueError, match=words):
        asked.onnx_model(file)
    (tmp_path / 'b.onnx').write_text('no network')
    with pytest.raises(ValueError, match='not an ONNX file'):
        asked.onnx_model(tmp_path / 'b.onnx')


@pytest.mark.parametrize('model,error,words', [
    ('lite0_b16', TypeError, 'must be a function'), (lambda p: [0.5], ValueError, r'shape \(1,\) for 2'),
    (lambda p: [np.nan] * len(p), ValueError, 'nan'), (lambda p: [-0.1] * len(p), ValueError, '-0.1')])
def test_no_network_is_told_before_anything_is_simulated(model, error, words, monkeypatch):
    monkeypatch.setattr(audit, 'audit_pictures', lambda *_: pytest.fail('simulated'))
    with pytest.raises(error, match=words):
        audit.audit_shortcuts(model)


def test_rule_of_ratios():
    "A ratio is undefined where fractures are not seen, and the verdict follows the ends of its interval"
    for lo, hi in ((0, 0), (-0.05, 0.05)):
        assert audit.audit_verdict(lo, hi) == 'not read'
    for lo, hi in ((0.0501, 0.49), (-0.49, -0.0501)):
        assert audit.audit_verdict(lo, hi).startswith('read a little')
    assert audit.audit_verdict(-9, -0.6) == 'read as much as half a fracture or more; towards normal'
    assert audit.audit_verdict(0.0, 0.3) == audit.audit_verdict(-1, 1) == 'cannot be told'


def test_pictures_repeat_and_differ_by_seed(pairs):
    table, pictures = pairs
    again, same = audit.audit_pictures(2, size=SIZE)
    assert again.equals(table[: len(again)]) and all(map(np.array_equal, same, pictures))
    _, other = audit.audit_pictures(2, seed=3, size=SIZE)
    assert not all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(same, other))
    assert table.groupby('study').view.max().max() <= 2
    assert table.groupby(['study', 'view']).change.apply(list).map(lambda c: c == ['plain', *CHANGES]).all()


@pytest.fixture(scope='module')
def place(tmp_path_factory, net, recipe):
    "A folder with settings and a network that has learned nothing"
    d = tmp_path_factory.mktemp('audit')
    (d / 'settings.ini').write_text((ROOT / 'settings.ini').read_text())
    card = dict(architecture='single_logit', recipe=recipe.card(), threshold=0.4)
    save_model(net, card, settings('smoke', d / 'settings.ini').results / 'models' / recipe.name)
    return d


def run(place, monkeypatch, *args):
    monkeypatch.chdir(place)
    monkeypatch.setenv('MURA_NB_PROFILE', 'smoke')
    return CliRunner().invoke(programs.cli, ['audit', *map(str, args)])


def test_command(place, recipe, monkeypatch, tmp_path):
    few = '--studies', STUDIES, '--size', SIZE
    r = run(place, monkeypatch, recipe.name, *few, '--out', tmp_path / 'out')
    assert r.exit_code == 0, r.stderr
    assert all(w in r.stdout for w in ALL) and 'fracture adds' in r.stdout and recipe.name in r.stderr
    told = json.loads((tmp_path / 'out' / 'audit.json').read_text())
    assert [row['shortcut'] for row in told['table']] == ALL and told['about']['threshold'] == 0.4
    page = (tmp_path / 'out' / 'audit.html').read_text()
    assert re.findall(r'(?:src|href)="(?!data:)|url\(|https?:', page) == []
    assert 'prefers-color-scheme: dark' in page and 'width=device-width' in page
    for text in page, json.dumps(told):
        assert str(place) not in text and str(tmp_path) not in text and str(Path.home()) not in text
    # the same from a file, with the JSON elsewhere
    file = place / 'results' / 'smoke' / 'models' / f'{recipe.name}.safetensors'
    r = run(place, monkeypatch, file, *few, '--out', tmp_path / 'two', '--json', tmp_path / 'mine.json')
    assert r.exit_code == 0 and [f.name for f in (tmp_path / 'two').iterdir()] == ['audit.html']
    assert json.loads((tmp_path / 'mine.json').read_text()) == told
    # the mean of two, here of the same one twice
    r = run(place, monkeypatch, recipe.name, recipe.name, *few, '--out', tmp_path / 'mean')
    assert r.exit_code == 0 and 'network: mean of ' in r.stderr
    assert json.loads((tmp_path / 'mean' / 'audit.json').read_text())['table'] == told['table']


@pytest.mark.parametrize('args,words', [
    (['no_such'], 'no_such'), (['none.onnx'], 'none.onnx: no such file'), (['--studies', '1'], 'studies'),
    (['--size', '9'], 'size')])
def test_wrong_use_is_one_line_and_status_2(args, words, place, monkeypatch):
    r = run(place, monkeypatch, *args)
    assert r.exit_code == 2 and words in r.stderr and r.stdout == '' and 'Traceback' not in r.stderr


def test_kept_audit_is_quick_and_finds_what_was_planted(root):
    "As measured in profile demo: at most five minutes on two cores, metal in the baseline, markers in the pipeline"
    tables = root / 'results' / 'demo' / 'tables'
    kept, networks = (pd.read_csv(tables / f'{n}.csv') for n in ('audit', 'audit_networks'))
    assert kept.seconds[0] <= 300 and kept.studies.max() == 150
    of = {n.split(',')[0]: t.set_index('shortcut') for n, t in networks.groupby('network')}
    assert of['lite0_b16'].ratio_lo.metal > 0.5 and of['lite0_b16'].verdict.marker == 'not read'
    planted = of['pipeline that has learned markers']
    assert planted['shift'].idxmax() == 'marker' and planted.lo.marker > 1


@pytest.mark.parametrize('card, threshold', [(dict(threshold=0.3), 0.3), ({}, 0.5)])
def test_a_network_is_audited_at_its_own_threshold(net, recipe, card, threshold):
    card = dict(architecture='single_logit', recipe=recipe.card()) | card
    assert asked.audited_model((net, card)).threshold == threshold
