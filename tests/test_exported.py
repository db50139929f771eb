"""One file from the shell: without PyTorch where a graph of the network lies beside its weights, and the same answer as
with it."""

import json, os, resource, shutil, subprocess, sys
import numpy as np, pytest
from PIL import Image
from typer.testing import CliRunner
from mura_nb import batch, exported, programs
from mura_nb.settings import settings
from mura_nb.results import load_card, save_model
from mura_nb.dicom_grey import PictureWarning
from mura_nb.exported import graph_path, load_exported
from mura_nb.phantom import example_study
from mura_nb.shipped import WEIGHTS, shipped_file
import dicoms
from conftest import ROOT

HEAVY = ('torch', 'fastai', 'torchvision', 'timm', 'sklearn', 'matplotlib')
COMMAND = f'''
import sys
from mura_nb.programs import main
try: main()
finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)
'''
FILES = 'fracture.png', 'normal.jpg', 'negative.png', 'noise.png', 'scan.dcm', 'black.png', 'one.png', 'cut.png'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Settings, and files of which some are no radiographs"
    d = tmp_path_factory.mktemp('one')
    shutil.copy(ROOT/'settings.ini', d)
    fracture = example_study('WRIST', 'fracture', 3)[0][0].image
    Image.fromarray(fracture).save(d/'fracture.png')
    Image.fromarray(example_study('HAND', '', 4)[0][0].image).save(d/'normal.jpg')
    Image.fromarray(255 - fracture).save(d/'negative.png')
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70), np.uint8)).save(d/'noise.png')
    dicoms.write(d/'scan.dcm', fracture, BodyPartExamined='WRIST')
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(d/'black.png')
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(d/'one.png')
    (d/'cut.png').write_bytes((d/'fracture.png').read_bytes()[:-2000])
    return d


@pytest.fixture
def here(folder, smoke_in): return smoke_in(folder)


def run(*args): return CliRunner().invoke(programs.cli, ['predict', *map(str, args)])


def answers(*args):
    "Rows, what is said on standard error, exit status, warnings about pictures"
    with pytest.warns() as said: found = run(*args, '--format', 'json', '--by', 'image')
    words = sorted(str(w.message) for w in said if issubclass(w.category, PictureWarning))
    return json.loads(found.stdout), found.stderr, found.exit_code, words


def test_a_file_without_torch_in_three_seconds_of_processor(folder):
    env = dict(os.environ, MURA_NB_PROFILE='smoke', OMP_NUM_THREADS='1', PYTHONPATH=str(ROOT))
    command = [sys.executable, '-c', COMMAND, 'predict', 'fracture.png', 'scan.dcm', '--format', 'json']
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert found.returncode == 0 and found.stderr.splitlines()[-1] == '[]', found.stderr
    assert [0 < r['prob'] < 1 for r in json.loads(found.stdout)] == [True, True]
    assert ended.ru_utime + ended.ru_stime - began.ru_utime - began.ru_stime <= 3


def test_the_same_answers_warnings_and_refusals(here):
    assert isinstance(batch.predicting_networks()[0][0], exported.ExportedNetwork)
    quick, plain = (answers(*FILES, '--engine', engine) for engine in ('auto', 'torch'))
    assert quick[1:] == plain[1:] and quick[2] == 1
    assert len([w for w in quick[3] if 'unlike a radiograph' in w]) == 2
    assert len([line for line in quick[1].splitlines() if line.startswith('not used')]) == 3
    probs = np.array([[r.pop('prob') or np.nan for r in rows] for rows in (quick[0], plain[0])])
    assert quick[0] == plain[0] and np.isfinite(probs).sum(1).tolist() == [5, 5]
    assert np.nanmax(np.abs(probs[0] - probs[1])) < .001


@pytest.mark.parametrize('args', [['--threshold', '2'], ['--model', 'nobody'], ['--engine', 'fpga'], ['--model', '']])
def test_wrong_requests_are_refused_alike(here, args):
    quick, plain = run('fracture.png', *args), run('fracture.png', *args, '--precision', 'bf16')
    assert quick.exit_code == plain.exit_code == 2 and quick.stderr.splitlines()[-1] == plain.stderr.splitlines()[-1]


def test_with_torch_where_something_else_is_asked_for(here, monkeypatch):
    asked = []
    monkeypatch.setattr('mura_nb.networks.picture_networks', lambda model=None: asked.append(model) or [(None, {})])
    for how in (dict(engine='torch'), dict(engine='openvino'), dict(precision='bf16'), dict(pictures=10_000)):
        batch.predicting_networks(['shipped'], **how)
    batch.predicting_networks(['shipped', 'shipped'])
    assert len(asked) == 5
    batch.predicting_networks(['shipped'])
    assert len(asked) == 5


def test_the_committed_graph_belongs_to_the_committed_weights():
    _, card = load_exported(shipped_file())
    assert card == load_card(shipped_file()) and graph_path(shipped_file()).stat().st_size < 300_000
    assert 'shipped.safetensors' in graph_path(shipped_file()).read_bytes().decode('latin1')


def test_a_graph_that_does_not_fit_is_left_aside(tmp_path, monkeypatch):
    for file in WEIGHTS.iterdir(): shutil.copy(file, tmp_path)
    model = tmp_path/'shipped.safetensors'
    assert load_exported(model)
    whole = model.read_bytes()
    model.write_bytes(whole[:-2] + b'\0\0')  # other weights than the card's
    assert load_exported(model) is None
    model.write_bytes(whole)
    card = load_card(model)
    (tmp_path/'shipped.json').write_text(json.dumps(card | dict(sha256='0'*64)))
    assert load_exported(model) is None
    (tmp_path/'shipped.json').write_text(json.dumps(card))
    graph = graph_path(model).read_bytes()
    graph_path(model).write_bytes(graph[:len(graph)//2])
    assert load_exported(model) is None
    graph_path(model).write_bytes(graph)
    monkeypatch.setattr(exported, 'CLOSE', -1)  # a machine that computes something else
    assert load_exported(model) is None
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert load_exported(model) is None


def own_network(folder, seed):
    "A network that has learned nothing, as the profile's baseline"
    import torch
    from mura_nb.networks import SingleLogit
    s = settings('smoke', folder/'settings.ini')
    recipe = s.recipe(s.baseline)
    torch.manual_seed(seed)
    net = SingleLogit(recipe.backbone, 'none').eval()
    card = dict(architecture='single_logit', recipe=recipe.card(), threshold=.4)
    return save_model(net, card, s.results/'models'/recipe.name)


def test_an_own_network_gets_its_graph_when_it_is_first_asked(here, tmp_path, monkeypatch):
    shutil.copytree(here, tmp_path/'own')
    monkeypatch.chdir(tmp_path/'own')
    model = own_network(tmp_path/'own', 1)
    for seed in (1, 2):  # trained again: another graph
        if seed == 2: own_network(tmp_path/'own', 2)
        assert load_exported(model) is None
        first, again = (run('fracture.png', '--format', 'json') for _ in range(2))
        assert load_exported(model) and first.stdout == again.stdout
        plain = json.loads(run('fracture.png', '--format', 'json', '--engine', 'torch').stdout)
        assert abs(json.loads(first.stdout)[0]['prob'] - plain[0]['prob']) < .001


def test_nothing_is_written_beside_a_model_that_lies_elsewhere(here, tmp_path):
    model = own_network(here, 3)
    shutil.move(model, tmp_path/'theirs.safetensors')
    shutil.move(model.with_suffix('.json'), tmp_path/'theirs.json')
    assert run('fracture.png', '--model', tmp_path/'theirs').exit_code == 0
    assert sorted(f.name for f in tmp_path.iterdir()) == ['theirs.json', 'theirs.safetensors']


def test_only_a_network_that_reads_whole_pictures_has_a_graph(tmp_path):
    from dataclasses import replace
    from mura_nb.engines import write_graph
    from mura_nb.fusenet import FuseNet
    from mura_nb.networks import SingleLogit
    s = settings('smoke', ROOT/'settings.ini')
    recipe = replace(s.recipe(s.baseline), heatmap='cam', threshold=.6, pixels='input')
    cards = dict(fusenet=dict(local=recipe.card()), single_logit={})
    for kind, net in dict(fusenet=FuseNet(recipe), single_logit=SingleLogit(recipe.backbone, 'none')).items():
        card = dict(architecture=kind, recipe=recipe.card(), **cards[kind])
        model = save_model(net.eval(), card, tmp_path/kind)
        with pytest.raises(ValueError, match='must be one network that reads whole pictures'): write_graph(model)
        assert not graph_path(model).exists()
