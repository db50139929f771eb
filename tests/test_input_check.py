"""A picture that is unlike a radiograph is judged only with a warning, whichever way it comes; one that shows nothing
is refused."""
import io, json, os, subprocess, sys, warnings
import numpy as np, pandas as pd, pytest
from PIL import Image
from typer.testing import CliRunner
from mura_nb.programs import cli
from mura_nb.input_check import NotARadiograph, UnusualPictureWarning, measure_greys, unusual_greys
from conftest import ROOT
import dicoms


def radiograph(seed=0, size=(160, 120)):
    "A bright limb across a dark picture, with some grain"
    y, x = np.indices(size)
    limb = 210*np.exp(-((x - size[1]/2)/(.15*size[1]))**4)*(.7 + .3*np.sin(y/20))
    return np.uint8(np.clip(limb + np.random.default_rng(seed).normal(15, 4, size), 0, 255))


GREY = radiograph()
LIMB = np.uint8(255*(GREY > 99))
NOISE = np.random.default_rng(1).integers(0, 256, GREY.shape, np.uint8)
SQUARE = np.where(np.indices(GREY.shape).max(0) < 20, 255, 0).astype(np.uint8)
UNUSUAL = dict(dark=(GREY//16, 'little contrast, greys 0 to 13 of'), bright=(240 + GREY//16, 'little contrast'),
    negative=(255 - GREY, 'perhaps a negative'), noise=(NOISE, 'noise'), bits=(LIMB, 'only 2 greys'),
    marker=(SQUARE, 'nearly blank, 98 %'))
EMPTY = dict(black=(0*GREY, 'every pixel has grey 0'), white=(0*GREY + 255, 'every pixel has grey 255'),
    pixel=(GREY[:1, :1], '1 x 1 pixels'), line=(GREY[:, :3], '3 x 160 pixels'), strip=(np.tile(GREY[:9], 3), 'a strip'))


@pytest.mark.parametrize('name', UNUSUAL)
def test_what_is_unusual_is_named(name):
    picture, words = UNUSUAL[name]
    assert words in unusual_greys(picture) and unusual_greys(GREY) == ''


@pytest.mark.parametrize('name', EMPTY)
def test_what_shows_nothing_is_refused(name):
    picture, words = EMPTY[name]
    with pytest.raises(NotARadiograph, match=words): unusual_greys(picture)


def test_no_simulated_radiograph_is_unusual_and_each_negative_is():
    from mura_nb.phantom import example_study
    for seed, kind in enumerate(('WRIST', 'SHOULDER', 'FINGER')):
        for shot in example_study(kind, 'fracture' if seed else '', seed=seed, size=160)[0]:
            assert unusual_greys(shot.image) == '', (kind, measure_greys(shot.image))
            assert 'negative' in unusual_greys(255 - shot.image), (kind, measure_greys(255 - shot.image))


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    import torch
    from mura_nb.settings import settings
    from mura_nb.results import save_model
    from mura_nb.networks import SingleLogit
    recipe = settings(profile='smoke').recipe('lite0_smoke')
    torch.manual_seed(0)
    net = SingleLogit(recipe.backbone, 'none').eval()
    card = dict(architecture='single_logit', recipe=recipe.card(), threshold=.01)
    path = tmp_path_factory.mktemp('model')/'net.safetensors'
    save_model(net, card, path)
    return path


@pytest.fixture
def files(tmp_path):
    pictures = dict(good=GREY, dark=UNUSUAL['dark'][0], negative=UNUSUAL['negative'][0], black=EMPTY['black'][0])
    for name, picture in pictures.items(): Image.fromarray(picture).save(tmp_path/f'{name}.png')
    return {name: tmp_path/f'{name}.png' for name in pictures}


def said(found, name): return [str(w.message) for w in found if issubclass(w.category, UnusualPictureWarning)
                               and name in str(w.message)]


def test_functions_warn_and_refuse(files, model):
    from mura_nb.gradcam import localise
    from mura_nb.serving import probabilities
    with pytest.warns(UnusualPictureWarning, match=r'dark.png: unlike a radiograph \(little contrast'):
        one = localise(files['dark'], model)
    assert 'little contrast' in one.unusual and 0 < one.prob < 1
    with pytest.raises(NotARadiograph, match='every pixel has grey 0'): localise(files['black'], model)
    with pytest.warns(UnusualPictureWarning) as found:
        answers = list(probabilities([*files.values(), 255 - GREY], model, 'torch'))
    assert said(found, 'negative.png') and said(found, 'a picture') and not said(found, 'good.png')
    assert [bool(a.unusual) for a in answers] == [False, True, True, False, True]
    assert isinstance(answers[3].error, NotARadiograph) and np.isnan(answers[3].prob)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UnusualPictureWarning)
        localise(files['good'], model)
        list(probabilities([files['good']], model, 'torch'))


def test_functions_look_at_the_header_of_a_file(tmp_path, model):
    "A chest is refused unless forced; what this project wrote is refused all the same"
    from mura_nb import retrieval
    from mura_nb.gradcam import localise
    from mura_nb.serving import probabilities
    chest = dicoms.write(tmp_path/'chest.dcm', GREY, study='1.2.1', BodyPartExamined='CHEST')
    ours = dicoms.write(tmp_path/'ours.dcm', GREY, study='1.2.1', Manufacturer='mura_nb')
    hand = dicoms.write(tmp_path/'hand.dcm', GREY, study='1.2.1', BodyPartExamined='HAND')
    for asked in (chest, [hand, chest]):
        with pytest.raises(ValueError, match='chest.dcm: body part CHEST.*force judges it'): localise(asked, model)
    one = localise(chest, model, force=True)
    with pytest.raises(ValueError, match='written by mura_nb'): localise(ours, model, force=True)
    answers = list(probabilities([chest, hand, ours], model, 'torch'))
    assert [a.error is None for a in answers] == [False, True, False] and 'CHEST' in str(answers[0].error)
    forced = list(probabilities([chest, hand, ours], model, 'torch', force=True))
    assert [a.error is None for a in forced] == [True, True, False] and abs(forced[0].prob - one.prob) < 1e-4
    with pytest.raises(TypeError, match='thread'): probabilities([hand], model, 'torch', thread=1)
    class Database:
        def encoder(self, pictures, boxes): return np.zeros((1, 4), np.float32)
    with pytest.raises(ValueError, match='body part CHEST'): retrieval._code(chest, Database(), None)
    assert retrieval._code(chest, Database(), None, True)[0].shape == (4,)


def command(folder, *args):
    env = dict(os.environ, PYTHONPATH=str(ROOT), MURA_NB_PROFILE='smoke')
    return subprocess.run([sys.executable, '-m', 'mura_nb.programs', *map(str, args)], cwd=folder, env=env,
                          capture_output=True, text=True)


def test_the_terminal_and_the_tables_say_so(files, model, tmp_path, smoke_in):
    (tmp_path/'settings.ini').write_text((ROOT/'settings.ini').read_text())
    how = '--model', model, '--format', 'csv', '--engine', 'torch'
    done = command(tmp_path, 'predict', *files.values(), *how)
    table = pd.read_csv(io.StringIO(done.stdout), keep_default_na=False).set_index('study')
    assert done.returncode == 1 and table.warning[str(files['good'])] == ''
    assert 'perhaps a negative' in table.warning[str(files['negative'])]
    lines = done.stderr.splitlines()
    assert sum('dark.png: unlike a radiograph (little contrast' in line for line in lines) == 1, done.stderr
    assert any('not used' in line and 'black.png' in line and 'every pixel has grey 0' in line for line in lines)
    smoke_in(tmp_path)
    together = CliRunner().invoke(cli, ['predict', *map(str, files.values()), '--one-study', *map(str, how)])
    assert 'perhaps a negative' in together.stdout and 'little contrast' in together.stdout


def test_located_boxes_say_so(files, model, tmp_path):
    from mura_nb.batch import locate_studies, views_of
    from mura_nb.terminal import for_people
    with pytest.warns(UnusualPictureWarning, match='negative.png'):
        found = locate_studies(views_of(files.values())[0], tmp_path/'out', [str(model)])
    table = pd.read_csv(tmp_path/'out'/'boxes.csv', keep_default_na=False)
    assert list(table.warning.astype(bool)) == [False, True, True] and 'warning' in for_people(found.boxes)[0]
    assert [u.why for u in found.unread] == ['a blank picture: every pixel has grey 0 of 255']


def test_the_page_its_record_and_its_table_say_so(files, model, tmp_path, monkeypatch):
    from mura_nb import answers
    from mura_nb.answer_page import answer_html
    monkeypatch.setattr(answers, 'offered_paths', lambda _: [model])
    offered = answers.OfferedModel('lite0_smoke', 'Lite0', ('lite0_smoke',), .01, 1., 0., 10, tmp_path)
    large = tmp_path/'large.png'
    Image.fromarray(255 - radiograph(size=(2200, 1500))).save(large)
    with pytest.warns(UnusualPictureWarning, match='negative.png: unlike'):
        answer = answers.answer_study([*files.values(), large], offered, database=tmp_path/'none.hdf5')
    assert answer.study.problems == [('black.png', 'a blank picture: every pixel has grey 0 of 255')]
    assert [bool(w) for w in answer.warnings] == [False, True, True, True]
    html = answer_html(answer)
    assert html.count('<li><b>') == 4 and 'perhaps a negative, its border is bright' in html
    records = answers.answer_record(answer)['views']
    assert [bool(r['warning']) for r in records] == [False, True, True, True]
    assert answers.answer_table(answer).warning.tolist() == answer.warnings
    json.dumps(records)


def test_a_search_says_so(files):
    from mura_nb import retrieval
    class Database:
        def encoder(self, pictures, boxes): return np.zeros((1, 4), np.float32)
    with pytest.warns(UnusualPictureWarning, match='dark.png'): retrieval._code(files['dark'], Database(), None)
    with pytest.raises(NotARadiograph): retrieval._code(files['black'], Database(), None)
