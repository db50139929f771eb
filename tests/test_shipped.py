"The network that comes with the package, here a stand-in: when it answers, what its card says, what is refused."

import json, os, subprocess, sys
import numpy as np, pandas as pd, pytest
from PIL import Image
from typer.testing import CliRunner
from conftest import ROOT

NUMBER = dict(value=0.86, lo=0.82, hi=0.9, n=289, what='images of a test part, invented')
NUMBERS = dict(auc=NUMBER, hit=NUMBER | dict(value=0.4, lo=0.3, hi=0.5, n=61))


def stand_in(folder, weights=None):
    "A network that has learned nothing but says abnormal, shipped into `weights`; its path before that"
    import torch
    from mura_nb.settings import settings
    from mura_nb.results import save_model
    from mura_nb.networks import SingleLogit
    from mura_nb.shipping import ship_model

    s = settings('smoke', ROOT / 'settings.ini')
    recipe = s.recipe(s.baseline)
    torch.manual_seed(0)
    net = SingleLogit(recipe.backbone, 'none').eval()
    net.head.weight.data.abs_()
    data = dict(folder='phantom-invented', train_images=2)
    card = dict(architecture='single_logit', recipe=recipe.card(), threshold=0.4, data=data)
    model = save_model(net, card | dict(platt=dict(slope=1.0, intercept=0.0, n=10)), folder / 'trained')
    ship_model(model, NUMBERS, [picture()], weights or folder / 'weights', 'stand_in', '2 invented images')
    return model


def picture(size=(90, 70)):
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shipped')
    return folder, stand_in(folder)


@pytest.fixture
def empty(made, tmp_path, monkeypatch):
    "An empty folder but for a picture, with settings of its own; the package has the stand-in"
    monkeypatch.setattr('mura_nb.shipped.WEIGHTS', made[0] / 'weights')
    (tmp_path / 'settings.ini').write_text((ROOT / 'settings.ini').read_text())
    Image.fromarray(picture()).save(tmp_path / 'a.png')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args):
    from mura_nb import programs

    return CliRunner().invoke(programs.cli, [str(a) for a in args])


def test_half_on_disk_single_in_memory(made):
    import torch
    from safetensors.torch import load_file
    from mura_nb.networks import load_model
    from mura_nb.shipping import shipped_model

    file = made[0] / 'weights' / 'shipped.safetensors'
    kinds = {v.dtype for v in load_file(file).values()}
    assert kinds <= {torch.float16, torch.int64} and file.stat().st_size <= 9e6
    net, card = shipped_model(made[0] / 'weights')
    assert {v.dtype for v in net.parameters()} == {torch.float32}
    assert set(card['shipped']) >= {'name', 'trained_on', 'use', 'attribution', 'numbers', 'versions', 'precision'}
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert (net(x) - load_model(made[1])[0](x)).abs().max() < 0.05


def test_nobody_else_answers_in_an_empty_folder(empty):
    for command in (['predict', '--engine', 'torch'], ['locate']):
        r = run(*command, 'a.png', '--format', 'json')
        assert r.exit_code == 0 and 'network: stand_in, shipped with the package' in r.stderr, r.stderr
        assert json.loads(r.stdout)
    from mura_nb.gradcam import localise

    assert localise('a.png').prob == localise('a.png', 'shipped').prob


def test_own_results_come_first_and_a_named_model_before_both(empty, made):
    from mura_nb.settings import settings
    from mura_nb.results import load_card, save_model
    from mura_nb.networks import load_model

    net, card = load_model(made[1])
    s = settings()
    save_model(net, card, s.results / 'models' / s.baseline)
    said = run('predict', 'a.png', '--engine', 'torch').stderr
    assert 'network: lite0_smoke, trained on 2 images of phantom-invented' in said
    assert 'stand_in' in run('predict', 'a.png', '--model', 'shipped', '--engine', 'torch').stderr
    assert 'lite0_smoke' in run('predict', 'a.png', '--model', made[1], '--engine', 'torch').stderr
    assert 'shipped' not in load_card(made[1])


def test_without_any_network_the_error_says_what_to_do(empty, monkeypatch):
    monkeypatch.setattr('mura_nb.shipped.WEIGHTS', empty / 'nowhere')
    r = run('predict', 'a.png')
    assert r.exit_code == 2 and 'make report trains it' in r.stderr and 'no shipped network' in r.stderr
    assert run('predict', 'a.png', '--model', 'shipped').exit_code == 2
    from mura_nb.answers import choose_model, offered_models

    with pytest.raises(FileNotFoundError, match='no shipped network'):
        choose_model(offered_models())


def test_the_page_answers_with_it(empty):
    from mura_nb.answer_page import answer_html, similar_html
    from mura_nb.answers import answer_archive, answer_record, training_notice
    from mura_nb.app import AnswerService
    from mura_nb.studies import read_study

    service = AnswerService()
    assert service.first == 'shipped' and service.database is None
    answer = service.answer(read_study(['a.png']), service.first)
    shown = answer_html(answer)
    assert 'trained on 2 invented images' in shown and 'simulated radiographs' not in shown and '[.820, .900]' in shown
    assert 'only beside a database' in similar_html(answer.similar, ['a.png'])
    record = answer_record(answer)
    assert record['simulated_training'] is False and record['model']['members'][0]['sha256']
    assert answer_archive(answer)[:2] == b'PK'
    assert '2 invented images' in training_notice(service.models['shipped'])


def test_its_card_is_shown(made):
    from mura_nb.models import shipped_model_card

    text = shipped_model_card(made[0] / 'weights').markdown()
    wanted = ('stand_in', '2 invented images', '.860 [.820, .900]', 'not for diagnosis', 'Apache-2.0', 'sha256')
    assert [w for w in wanted if w not in text] == []


def test_what_is_refused_leaves_the_files(made, monkeypatch):
    from mura_nb import shipping

    file = made[0] / 'weights' / 'shipped.safetensors'
    before = file.read_bytes()

    def refused(words, numbers=NUMBERS):
        with pytest.raises(ValueError, match=words):
            shipping.ship_model(made[1], numbers, [picture()], made[0] / 'weights')
        assert file.read_bytes() == before and len(list((made[0] / 'weights').iterdir())) == 3

    refused('hit', dict(auc=NUMBER))
    monkeypatch.setattr(shipping, 'LARGEST', 1000)
    refused('at most 0.001 are shipped')
    monkeypatch.setattr(shipping, 'LARGEST', 9_000_000)
    monkeypatch.setattr(shipping, 'TOLERABLE', 0)
    refused('moves a logit')
    with pytest.raises(ValueError, match='may be shipped only from'):
        shipping.attributions(dict(data=dict(folder='MURA-v1.1'), recipe=dict(weights='none')))


def test_the_tool_ships_what_was_trained(made, tmp_path, monkeypatch):
    import ship
    from mura_nb.results import save_table

    rows = [('shipped_auc', NUMBERS['auc']), ('shipped_hit', NUMBERS['hit'])]
    save_table(pd.DataFrame([dict(claim=c, **n) for c, n in rows]), 'headline', tmp_path)
    monkeypatch.setattr(ship, 'pictures', lambda: [picture()])
    ship.main([str(made[1]), '--results', str(tmp_path), '--out', str(tmp_path / 'w'), '--name', 'new'])
    card = json.loads((tmp_path / 'w' / 'shipped.json').read_text())
    assert card['shipped']['name'] == 'new' and card['shipped']['numbers']['hit']['n'] == 61


def test_files_that_are_committed_are_a_shipped_network():
    from mura_nb.core import file_sha256
    from mura_nb.shipped import WEIGHTS

    files = sorted(f.name for f in WEIGHTS.glob('*.*'))
    if not files:
        pytest.skip('no shipped network yet: make shipped')
    assert files == ['shipped.json', 'shipped.onnx', 'shipped.safetensors']
    card, file = json.loads((WEIGHTS / files[0]).read_text()), WEIGHTS / files[2]
    assert file.stat().st_size <= 9e6 and card['sha256'] == file_sha256(file) and 0 < card['threshold'] < 1
    assert {'auc', 'hit'} <= set(card['shipped']['numbers']) and 'diagnosis' in card['shipped']['use']
    assert all(n['lo'] <= n['value'] <= n['hi'] for n in card['shipped']['numbers'].values())


def test_git_does_not_ignore_it():
    ignored = subprocess.run(['git', 'check-ignore', 'mura_nb/weights/shipped.safetensors'], cwd=ROOT)
    assert ignored.returncode == 1


@pytest.mark.outer
def test_wheel_in_a_fresh_environment_answers_within_a_minute(tmp_path):
    "The wheel holds the weights; in an empty folder `locate` answers with them. Dependencies are borrowed"
    import shutil, time, zipfile
    from check import copied

    env = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONDONTWRITEBYTECODE')}

    def sh(*command, **kw):
        r = subprocess.run([str(c) for c in command], capture_output=True, text=True, env=env, **kw)
        assert r.returncode == 0, r.stdout + r.stderr
        return r

    with copied() as tree:
        if not (tree / 'mura_nb' / 'weights' / 'shipped.safetensors').is_file():
            stand_in(tmp_path, tree / 'mura_nb' / 'weights')
        uv = shutil.which('uv')
        if uv:
            sh(uv, 'build', '--quiet', '--wheel', '--python', sys.executable, '--out-dir', tmp_path, tree)
        else:
            sh(sys.executable, '-m', 'build', '--wheel', '--outdir', tmp_path, tree)
    wheel = next(tmp_path.glob('*.whl'))
    names = zipfile.ZipFile(wheel).namelist()
    assert {f'mura_nb/weights/shipped.{k}' for k in ('safetensors', 'json', 'onnx')} <= set(names)
    sh(sys.executable, '-m', 'venv', tmp_path / 'env')
    python = tmp_path / 'env' / 'bin' / 'python'
    site = sh(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').stdout.strip()
    ours = sh(sys.executable, '-c', 'import torch, os; print(os.path.dirname(os.path.dirname(torch.__file__)))').stdout
    # plain lines of a .pth name folders: ours are behind those of the environment, and no .pth of ours is read
    with open(os.path.join(site, 'dependencies.pth'), 'w') as f:
        f.write(ours)
    sh(python, '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', wheel)
    empty = tmp_path / 'empty'
    empty.mkdir()
    Image.fromarray(picture()).save(empty / 'a.png')
    began = time.perf_counter()
    r = sh(python.parent / 'mura-nb', 'locate', 'a.png', '--format', 'json', cwd=empty)
    seconds = time.perf_counter() - began
    assert seconds < 60 and 'shipped with the package' in r.stderr
    (row,) = json.loads(r.stdout)
    assert os.path.isfile(row['overlay']) and sorted(f.name for f in empty.iterdir()) == ['a.png', 'located']
    where = sh(python, '-c', 'import mura_nb; print(mura_nb.__file__)', cwd=empty).stdout
    assert str(tmp_path / 'env') in where
    assert json.loads(sh(python.parent / 'mura-nb', 'predict', 'a.png', '--format', 'json', cwd=empty).stdout)


def test_rounding_keeps_the_card_but_not_what_was_measured_before(made, tmp_path):
    import shutil
    from mura_nb.given import round_weights
    from mura_nb.networks import load_model
    from mura_nb.results import ModelFiles, update_card

    shutil.copytree(made[0], tmp_path / 'models', ignore=lambda folder, names: [n for n in names if n[:7] != 'trained'])
    file = ModelFiles('trained', tmp_path).model
    update_card(file, predicted='before')
    round_weights('trained', tmp_path)
    net, card = load_model(file)
    assert 'predicted' not in card and (card['threshold'], card['platt']['n']) == (0.4, 10)
    assert all(v.equal(v.half().float()) for v in net.state_dict().values() if v.is_floating_point())
