"The command mura-nb: which files make a study, what it prints for machines, what it does with what it cannot read."

import io, json, os, subprocess, sys, time
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from typer.testing import CliRunner
from mura_nb import programs as P
from mura_nb.settings import settings
from mura_nb.results import save_model
from mura_nb.images import read_picture
from mura_nb.geometry import BOX
from mura_nb.data import mura_index
from mura_nb.dicom import presentation_state, to_dicom
from mura_nb.batch import views_of
from conftest import ROOT
from datasets import make_dataset, write_picture
from test_input_check import GREY
import dicoms


def run(*args):
    return CliRunner().invoke(P.cli, [str(a) for a in args])


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with settings, a made-up dataset, and a small network that has not learned anything"
    import torch
    from mura_nb.networks import SingleLogit

    d = tmp_path_factory.mktemp('programs')
    (d / 'settings.ini').write_text((ROOT / 'settings.ini').read_text())
    make_dataset(d / 'data' / 'phantom-smoke', 12, size=(60, 50))
    s = settings('smoke', d / 'settings.ini')
    r = s.recipe(s.baseline)
    torch.manual_seed(0)
    net = SingleLogit(r.backbone, r.weights).eval()
    net.head.weight.data.abs_()  # everything seen speaks for an abnormality, so that there is a box
    save_model(
        net,
        dict(architecture='single_logit', recipe=r.card(), threshold=0.4, platt=dict(slope=2.0, intercept=0.5, n=10)),
        s.results / 'models' / r.name,
    )
    return d


@pytest.fixture
def here(place, smoke_in): return smoke_in(place)


@pytest.fixture
def study(here):
    "A study of two views beside files that are no pictures"
    d = here / 'study'
    for i in (1, 2):
        write_picture(d / f'view{i}.png', i, (70, 40))
    (d / 'notes.txt').write_text('nothing')
    return d


def test_help_comes_at_once():
    def seconds():
        begin = time.perf_counter()
        r = subprocess.run([sys.executable, '-m', 'mura_nb.programs', '--help'], capture_output=True, text=True)
        assert r.returncode == 0 and 'predict' in r.stdout
        return time.perf_counter() - begin

    assert any(seconds() <= 1.5 for _ in range(4))


@pytest.mark.parametrize(
    'name',
    ['simulate', 'check', 'train', 'fuse', 'predict', 'locate', 'index', 'search', 'export', 'audit', 'report', 'app'],
)
def test_each_command_helps_with_examples(name):
    r = run(name, '--help')
    assert r.exit_code == 0 and f'mura-nb {name}' in r.stdout and 'Examples' in r.stdout


def test_completion():
    env = dict(os.environ, _MURA_NB_COMPLETE='complete_bash', COMP_WORDS='mura-nb pre', COMP_CWORD='1')
    code = "import sys; sys.argv=['mura-nb']; from mura_nb.programs import cli; cli(prog_name='mura-nb')"
    assert (
        'predict'
        in subprocess.run([sys.executable, '-c', code], env=env, capture_output=True, text=True).stdout.split()
    )
    assert 'ensemble' in P._models('ens') or P._models('ens') == []
    assert P._types('wr') == ['WRIST'] and 'lite0_b16' in P._recipes('lite0')


@pytest.mark.parametrize('engine', ['torch', 'auto'])
def test_probability_of_a_study_is_the_mean_of_its_views(study, engine):
    r = run('predict', study, '--format', 'json', '--engine', engine)
    assert r.exit_code == 0, r.stderr
    (got,) = json.loads(r.stdout)
    images = pd.read_csv(
        io.StringIO(run('predict', study, '--format', 'csv', '--by', 'image', '--engine', engine).stdout)
    )
    assert list(got) == [
        'study',
        'first_view',
        'study_type',
        'views',
        'unreadable',
        'prob',
        'calibrated',
        'threshold',
        'abnormal',
        'label',
        'warning',
    ]
    assert list(images) == ['path', 'study', 'study_type', 'prob', 'label', 'warning']
    assert got['prob'] == pytest.approx(images.prob.mean(), abs=1e-5) and got['views'] == 2 and got['threshold'] == 0.4
    z = np.log(got['prob'] / (1 - got['prob']))
    assert got['calibrated'] == pytest.approx(1 / (1 + np.exp(-2 * z - 0.5)), abs=1e-4) and got['abnormal'] is (
        got['prob'] > 0.4
    )
    from mura_nb.gradcam import localise

    assert got['prob'] == pytest.approx(localise(study)[0].study_prob, abs=1e-3)


def test_for_people(study):
    "Short names, words instead of numbers; without labels no column for them"
    r = run('predict', study)
    assert (
        r.exit_code == 0
        and 'study' in r.stdout
        and 'calibrated' in r.stdout
        and 'label' not in r.stdout
        and 'prob above 0.400' in r.stdout
    )
    r = run('predict', study, '--by', 'image')
    assert r.exit_code == 0 and 'view1.png' in r.stdout and 'below' in r.stdout
    r = run('predict', next((study.parent / 'data').rglob('study*')))
    assert r.exit_code == 0 and ('abnormal' in r.stdout.splitlines()[3] or 'normal' in r.stdout.splitlines()[3])


def test_what_cannot_be_read_is_told_and_the_rest_goes_on(study):
    bad = study / 'view3.png'
    bad.write_text('no picture')
    try:
        r = run('predict', study, study / 'gone.png', '--format', 'csv')
        t = pd.read_csv(io.StringIO(r.stdout))
        assert r.exit_code == 1 and t.views.tolist() == [2] and t.unreadable.tolist() == [1]
        assert 'view3.png' in r.stderr and 'gone.png: no such file' in r.stderr and 'Traceback' not in r.stderr
        assert (
            run('predict', bad).exit_code == run('predict', study / 'gone.png').exit_code == 2
        )  # nothing could be done
    finally:
        bad.unlink()


def test_the_same_view_as_png_tiff_and_dicom(here, tmp_path):
    a = np.random.default_rng(0).integers(0, 256, (80, 60), dtype=np.uint8)
    Image.fromarray(a).save(tmp_path / 'a.png')
    Image.fromarray(a).save(tmp_path / 'a.tif')
    dicoms.write(tmp_path / 'a.dcm', a)
    dicoms.write(tmp_path / 'inverted', 255 - a, PhotometricInterpretation='MONOCHROME1', study='1.2.4')
    t = pd.read_csv(io.StringIO(run('predict', *sorted(tmp_path.iterdir()), '--format', 'csv').stdout))
    assert len(t) == 4 and t.prob.max() - t.prob.min() < 1e-5
    assert {'1.2.3', '1.2.4'} < set(t.study.astype(str))


def test_dicom_files_of_a_study_belong_together_wherever_they_lie(here, tmp_path):
    a = np.zeros((20, 20), np.uint8)
    for i, uid in enumerate(('1.1', '1.1', '1.2')):
        (tmp_path / str(i)).mkdir()
        dicoms.write(tmp_path / str(i) / 'IM1', a, study=uid, BodyPartExamined='THUMB')
    df, bad = views_of([tmp_path])
    assert df.groupby('study').size().to_dict() == {'1.1': 2, '1.2': 1} and set(df.study_type) == {'FINGER'} and not bad


def test_two_datasets_with_the_same_patients_stay_apart(here, tmp_path):
    for d in 'one', 'two':
        write_picture(tmp_path / d / 'valid' / 'XR_HAND' / 'patient00001' / 'study1_positive' / 'image1.png')
    assert views_of([tmp_path / 'one', tmp_path / 'two'])[0].key.nunique() == 2


def test_a_dataset_and_a_folder_of_it_mean_the_same(here):
    data = here / 'data' / 'phantom-smoke'
    whole = views_of([data])[0]
    assert len(whole) == len(mura_index(data)) and whole.label.notna().all()
    valid = views_of([data / 'valid'])[0]
    assert set(valid.file.map(Path.resolve)) == set(whole[whole.study.str.startswith('valid')].file.map(Path.resolve))
    assert valid.key.nunique() == whole[whole.study.str.startswith('valid')].key.nunique()


def test_list_of_mura(here, tmp_path):
    "Its lines start with the dataset's folder, which lies beside the list's folder"
    make_dataset(tmp_path / 'MURA-v1.1', 6)
    df, bad = views_of([tmp_path / 'MURA-v1.1' / 'train_image_paths.csv'])
    assert len(df) and not bad and df.file.map(Path.is_file).all() and set(df.study.str[:6]) == {'train/'}


@pytest.mark.parametrize(
    'text,words',
    [('path,label\na.png,2\n', 'label'), ('', 'empty|No columns'), ('path,study_type\na.png,KNEE\n', 'KNEE')],
)
def test_lists_that_are_wrong(here, tmp_path, text, words):
    (tmp_path / 'l.csv').write_text(text)
    import re

    df, bad = views_of([tmp_path / 'l.csv'])
    assert not len(df) and re.search(words, bad[0].why)


@pytest.mark.parametrize(
    'args,words',
    [
        (['--model', 'no_such'], 'no_such'),
        (['--threshold', '2'], '0 to 1'),
        (['--engine', 'fpga'], 'not one of'),
        (['--format', 'xml'], 'not one of'),
    ],
)
def test_wrong_use_is_one_line_and_status_2(study, args, words):
    r = run('predict', study, *args)
    assert r.exit_code == 2 and words in r.stderr and r.stdout == '' and 'Traceback' not in r.stderr


def test_boxes_overlays_and_dicom(here, tmp_path):
    import pydicom

    a = np.random.default_rng(1).integers(0, 256, (90, 64), dtype=np.uint8)
    dicoms.write(tmp_path / 'in.dcm', a, PatientID='7')
    r = run('locate', tmp_path / 'in.dcm', '--out', tmp_path / 'out', '--threshold', '0', '--format', 'json')
    assert r.exit_code == 0, r.stderr
    (row,) = json.loads(r.stdout)
    t = pd.read_csv(tmp_path / 'out' / 'boxes.csv')
    assert list(t) == list(row) and t.x0[0] == pytest.approx(row['x0'], rel=1e-5)
    assert np.asarray(Image.open(row['overlay'])).shape == (90, 64, 3)
    capture, state = (pydicom.dcmread(f) for f in row['dicom'].split(os.pathsep))
    assert (
        capture.SOPClassUID.name == 'Secondary Capture Image Storage'
        and capture.PatientID == '7'
        and capture.StudyInstanceUID == '1.2.3'
    )
    np.testing.assert_array_equal(capture.pixel_array, np.asarray(Image.open(row['overlay'])))
    box = np.reshape(state.GraphicAnnotationSequence[0].GraphicObjectSequence[0].GraphicData, (-1, 2))
    assert [*box.min(0), *box.max(0)] == pytest.approx([row[k] for k in BOX])
    assert not list((tmp_path / "out").rglob(".*"))
    assert run(
        'locate', tmp_path / 'in.dcm', '--out', tmp_path / 'b', '--dicom', 'none', '--threshold', '0'
    ).exit_code == 0 and not list((tmp_path / 'b').rglob('*.dcm'))


def test_the_viewer_shows_the_box_on_what_was_read(here, tmp_path):
    "Twelve bits without a window, white first: the state brings the grey range, and the inversion"
    import pydicom

    a = np.random.default_rng(2).integers(900, 3000, (64, 64)).astype(np.uint16)
    ds = dicoms.radiograph(a, PhotometricInterpretation='MONOCHROME1', BitsStored=12, HighBit=11)
    ds.save_as(tmp_path / 'in.dcm', enforce_file_format=True)
    state = presentation_state(pydicom.dcmread(tmp_path / 'in.dcm'), (1, 2, 30, 40), 'x')
    voi = state.SoftcopyVOILUTSequence[0]
    assert (voi.WindowCenter - voi.WindowWidth / 2, voi.WindowCenter + voi.WindowWidth / 2) == (
        a.min(),
        a.max(),
    ) and state.PresentationLUTShape == 'INVERSE'
    plain = presentation_state(dicoms.radiograph(a.astype(np.uint8)), (1, 2, 30, 40), 'x')
    voi = plain.SoftcopyVOILUTSequence[0]
    assert (voi.WindowCenter, voi.WindowWidth) == (127.5, 255)  # eight bits as they are
    own = presentation_state(
        dicoms.radiograph(a.astype(np.uint8), WindowCenter=100, WindowWidth=50), (1, 2, 30, 40), 'x'
    ).SoftcopyVOILUTSequence[0]
    assert (own.WindowCenter, own.WindowWidth) == (100, 50)


def test_what_is_no_radiograph_is_not_judged(here, tmp_path):
    a = np.random.default_rng(3).integers(0, 256, (40, 40), dtype=np.uint8)
    dicoms.write(tmp_path / 'ct.dcm', a, Modality='CT')
    dicoms.write(tmp_path / 'cr.dcm', a)
    r = run('predict', tmp_path, '--format', 'csv')
    assert (
        r.exit_code == 1
        and 'modality CT, which shows no bone of an arm' in r.stderr
        and len(pd.read_csv(io.StringIO(r.stdout))) == 1
    )


def test_a_second_call_does_not_read_what_the_first_wrote(here, tmp_path):
    a = np.random.default_rng(4).integers(0, 256, (40, 40), dtype=np.uint8)
    dicoms.write(tmp_path / 'cr.dcm', a)
    for _ in range(2):
        r = run('locate', tmp_path, '--out', tmp_path / 'located', '--threshold', '0', '--format', 'csv')
        assert r.exit_code == 0 and len(pd.read_csv(io.StringIO(r.stdout))) == 1


def test_found_beside_what_was_written(here, tmp_path, monkeypatch):
    "-o . : what lies there is read, what an earlier call wrote is not"
    write_picture(tmp_path / 'a.png', 1, (60, 50))
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'settings.ini').write_text((here / 'settings.ini').read_text())
    (tmp_path / 'results').symlink_to(here / 'results')
    for _ in range(2):
        assert run('locate', 'a.png', '-o', '.', '--threshold', '0').exit_code == 0
        assert len(pd.read_csv('boxes.csv')) == 1
    r = run('locate', '.', '-o', '.', '--threshold', '0', '--format', 'csv')
    assert [Path(p).name for p in pd.read_csv(io.StringIO(r.stdout)).path] == ['a.png']


def test_a_damaged_header_is_told_and_the_rest_goes_on(here, tmp_path):
    write_picture(tmp_path / 'a.png', 1, (60, 50))
    good = dicoms.write(tmp_path / 'x.dcm', np.zeros((20, 20), np.uint8)).read_bytes()
    (tmp_path / 'x.dcm').unlink()
    rng = np.random.default_rng(0)
    for i in range(12):
        b = bytearray(good[: rng.integers(140, len(good))])
        for at in rng.integers(132, len(b), 20):
            b[at] = rng.integers(256)
        (tmp_path / f'bad{i}.dcm').write_bytes(b)
    r = run('predict', tmp_path, '--format', 'csv', '--engine', 'torch')
    assert r.exit_code == 1 and 'Traceback' not in r.stderr and r.exception.__class__ is SystemExit
    assert pd.read_csv(io.StringIO(r.stdout)).views.sum() >= 1


def test_odd_patients_and_colour_keep_their_capture(here, tmp_path):
    import pydicom

    a = np.random.default_rng(5).integers(0, 256, (40, 40), dtype=np.uint8)
    ds = dicoms.radiograph(
        a,
        SpecificCharacterSet=['', 'ISO 2022 IR 87'],
        PatientName='Yamada^Tarou=山田^太郎',
        PatientBirthDate='19xx',
        PatientSex='Z',
    )
    ds.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    rgb = dicoms.radiograph(
        np.repeat(a[..., None], 3, 2),
        SamplesPerPixel=3,
        PhotometricInterpretation='RGB',
        PlanarConfiguration=0,
        Modality='OT',
        study='1.2.9',
    )
    rgb.save_as(tmp_path / 'b.dcm', enforce_file_format=True)
    r = run('locate', tmp_path, '--out', tmp_path / 'out', '--threshold', '0', '--format', 'json')
    assert r.exit_code == 0, r.stderr
    one, two = sorted(json.loads(r.stdout), key=lambda r: r['path'])
    capture = pydicom.dcmread(one['dicom'].split(os.pathsep)[0])
    assert (
        str(capture.PatientName) == 'Yamada^Tarou=山田^太郎'
        and len(one['dicom'].split(os.pathsep)) == 2
        and two['dicom'].endswith('capture.dcm')
    )
    assert (
        capture.SourceImageSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID and capture.ConversionType == 'SYN'
    )


def test_two_studies_of_one_name_keep_their_files(here, tmp_path):
    for d in 'p', 'q':
        write_picture(tmp_path / d / 'a.png', ord(d), (60, 50))
        (tmp_path / d / 'l.csv').write_text('path,study\na.png,s1\n')
    r = run('locate', tmp_path / 'p' / 'l.csv', tmp_path / 'q' / 'l.csv', '--out', tmp_path / 'out', '--format', 'json')
    rows = json.loads(r.stdout)
    assert len({r['overlay'] for r in rows}) == 2 and all(Path(r['overlay']).is_file() for r in rows)


def test_grouping_does_not_depend_on_the_order(study):
    a = views_of([study, study / 'view2.png'])[0]
    b = views_of([study / 'view2.png', study])[0]
    assert a.key.nunique() == b.key.nunique() == 1 and set(a.file) == set(b.file)


def test_lists_as_people_write_them(here, tmp_path):
    (tmp_path / 'p').mkdir()
    write_picture(tmp_path / 'p' / 'a.png')
    write_picture(tmp_path / 'p' / 'b.png')
    (tmp_path / 'l.csv').write_bytes(
        '\ufeffPath, Label, study\n p\\a.png, 1.0, s\n\np/b.png,0,s\np/a.png,5,t\n'.encode()
    )
    df, bad = views_of([tmp_path / 'l.csv'])
    assert len(df) == 2 and df.key.nunique() == 1 and df.label.isna().all() and "label '5'" in bad[0].why
    (tmp_path / 'p' / 'test.csv').write_text('a,b\n1,2\n')
    assert len(views_of([tmp_path / 'p'])[0]) == 2


def test_links_keep_their_place_in_a_dataset(here, tmp_path):
    real = write_picture(tmp_path / '.store' / '0abc.png')
    for i in (1, 2):
        f = tmp_path / 'valid' / 'XR_WRIST' / 'patient00001' / 'study1_positive' / f'image{i}.png'
        f.parent.mkdir(parents=True, exist_ok=True)
        f.symlink_to(real)
    df, _ = views_of(sorted((tmp_path / 'valid').rglob('*.png')))
    assert len(df) == 2 and df.key.nunique() == 1 and set(df.study_type) == {'WRIST'}


@pytest.mark.parametrize('sheet', ['noext', 'x.bmp', '.'])
def test_sheets_that_cannot_be_written(study, tmp_path, sheet):
    r = run('search', study, '--sheet', tmp_path / sheet)
    assert r.exit_code == 2 and '.pdf' in r.stderr and list(tmp_path.iterdir()) == []


def test_what_reads_crops_reads_no_pictures(here, study):
    from mura_nb.networks import load_model

    s = settings('smoke')
    net, card = load_model(s.results / 'models' / s.baseline)
    save_model(
        net, card | dict(recipe=card['recipe'] | dict(name='local', heatmap='cam')), s.results / 'models' / 'local'
    )
    for c in 'predict', 'locate':
        r = run(c, study, '--model', 'local')
        assert r.exit_code == 2 and 'reads crops' in r.stderr
    assert run('export', s.baseline, '--branch', 'local').exit_code == 2


def test_members_that_nothing_is_known_of_are_not_calibrated(here, study):
    s = settings('smoke')
    copy = s.results / 'models' / 'again'
    for e in '.json', '.safetensors':
        copy.with_suffix(e).write_bytes((s.results / 'models' / s.baseline).with_suffix(e).read_bytes())
    r = run('predict', study, '--model', s.baseline, '--model', str(copy), '--threshold', '.5', '--format', 'json')
    assert r.exit_code == 0 and json.loads(r.stdout)[0]['calibrated'] is None


def test_simulated_patients_of_two_seeds_are_not_the_same():
    a, b = np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)
    one, two = to_dicom(a, 'WRIST', 'x'), to_dicom(b, 'WRIST', 'x')
    assert one.StudyInstanceUID == two.StudyInstanceUID and one.SOPInstanceUID != two.SOPInstanceUID


def test_normal_studies_have_no_box(study, tmp_path):
    r = run('locate', study, '--out', tmp_path / 'out', '--threshold', '1', '--format', 'csv')
    t = pd.read_csv(io.StringIO(r.stdout))
    assert t.x0.isna().all() and t.why.str.contains('not above').all() and not t.abnormal.any()


def test_a_dicom_file_that_nothing_can_refer_to(here, tmp_path):
    ds = dicoms.radiograph(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8))
    ds.save_as(tmp_path / 'a.dcm', enforce_file_format=True)
    import pydicom

    ds = pydicom.dcmread(tmp_path / 'a.dcm')
    del ds.SeriesInstanceUID
    ds.save_as(tmp_path / 'a.dcm')
    r = run('locate', tmp_path / 'a.dcm', '--out', tmp_path / 'out', '--threshold', '0')
    assert r.exit_code == 1 and 'SeriesInstanceUID' in r.stderr and list((tmp_path / 'out').rglob('*.png'))


def test_index_then_search(here, tmp_path):
    data = here / 'data' / 'phantom-smoke'
    r = run('index', '--db', tmp_path / 'db.hdf5')
    assert r.exit_code == 0, r.stderr
    query = data / mura_index(data, 'valid').path.iloc[0]
    r = run(
        'search',
        query,
        '--db',
        tmp_path / 'db.hdf5',
        '--type',
        'all',
        '--k',
        '3',
        '--sheet',
        tmp_path / 'sheet.png',
        '--format',
        'csv',
    )
    assert r.exit_code == 0, r.stderr
    t = pd.read_csv(io.StringIO(r.stdout))
    columns = ['query', 'rank', 'path', 'study_type', 'label', 'patient', 'distance', 'warning']
    assert list(t) == columns and t['rank'].tolist() == [1, 2, 3] and t.warning.str.startswith('noise').all()
    from mura_nb.retrieval import search

    assert t.path.tolist() == search(query, tmp_path / 'db.hdf5', 3).table.path.tolist()
    assert Image.open(tmp_path / 'sheet.png').size[0] > 300
    assert run('search', query, '--db', tmp_path / 'none.hdf5').exit_code in (1, 2)
    assert run('search', query, '--db', tmp_path / 'db.hdf5', '--box', '1,2,3').exit_code == 2
    options = '--no-sheet', '--type', 'all', '--per', 'image', '--format', 'csv'
    r = run('search', query, '--db', tmp_path / 'db.hdf5', *options)
    by_image = search(query, tmp_path / 'db.hdf5', per='image').table
    assert r.exit_code == 0 and pd.read_csv(io.StringIO(r.stdout)).path.tolist() == by_image.path.tolist()
    Image.fromarray(GREY).save(tmp_path / 'good.png')
    r = run('search', tmp_path / 'good.png', '--db', tmp_path / 'db.hdf5', *options)
    assert pd.read_csv(io.StringIO(r.stdout)).warning.isna().all()
    for option, words in ('--per', 'patient'), ('--code', 'best'):
        r = run('search', query, '--db', tmp_path / 'db.hdf5', option, words)
        assert r.exit_code == 2 and words in r.stderr


def test_export_gives_a_file_and_its_card(here, tmp_path):
    r = run('export', '--out', tmp_path / 'net.onnx')
    assert r.exit_code == 0, r.stderr
    file, card = map(Path, r.stdout.split())
    assert file == tmp_path / 'net.onnx' and json.loads(card.read_text())


def test_simulated_radiographs_as_dicom(here, tmp_path, monkeypatch):
    r = run('simulate', tmp_path / 'p', '--studies', '28', '--size', '64', '--dicom', tmp_path / 'scans')
    assert r.exit_code == 0, r.stderr
    df = mura_index(tmp_path / 'p')
    files = sorted((tmp_path / 'scans').rglob('*.dcm'))
    assert len(files) == len(df)
    for p in df.path[:5]:
        np.testing.assert_array_equal(
            read_picture((tmp_path / 'scans' / p).with_suffix('.dcm')), read_picture(tmp_path / 'p' / p)
        )
    views = views_of([tmp_path / 'scans'])[0]
    assert views.key.nunique() == df.study.nunique()
    assert run('check', tmp_path / 'p', '--format', 'json').exit_code == 0
    (tmp_path / 'p' / df.path[0]).write_text('broken')
    r = run('check', tmp_path / 'p', '--format', 'json')
    assert r.exit_code == 1 and any(e['problem'] == 'unreadable image' for e in json.loads(r.stdout))


def test_report_outside_a_clone(here):
    r = run('report')
    assert r.exit_code == 2 and 'clone' in r.stderr
