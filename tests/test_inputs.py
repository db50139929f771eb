"""What people name: discs, files with any suffix, lists out of spreadsheets. Nothing is skipped in silence, and one bad
item never stops the rest."""
import builtins, errno, io, os, warnings
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import HealthCheck, given as drawn, settings as hsettings, strategies as st
from PIL import Image
from typer.testing import CliRunner
from mura_nb import programs as P
from mura_nb.batch import views_of
from mura_nb.data import check_index, mura_index
from mura_nb.images import LeftAsideWarning, kind_of_file, picture_files, radiograph_files, read_picture
from mura_nb.layout import shown_name, walk_files
from mura_nb.lists import list_fields
from mura_nb.studies import read_study
from mura_nb.terminal import one_line, print_table
from datasets import make_dataset
from test_input_check import GREY
import dicoms

PICTURE = Image.fromarray(GREY)


def encoded(kind):
    PICTURE.save(out := io.BytesIO(), kind)
    return out.getvalue()


def names_of(views): return sorted(Path(f).name for f in views.file)


# -- by content --------------------------------------------------------------------------------------------------------

NAMED = ('a.IMA', 'b.DC3', 'c.0001', 'd', '1.2.840.113', 'e.dcm', 'f.raw')


@pytest.fixture
def scans(tmp_path):
    "DICOM files with all kinds of names beside each other, a PNG without suffix, and what is no picture"
    for i, name in enumerate(NAMED): dicoms.write(tmp_path/name, GREY, study=f'1.2.{i}')
    (tmp_path/'png').write_bytes(encoded('PNG'))
    (tmp_path/'notes.txt').write_text('nothing')
    (tmp_path/'.hidden').write_bytes(encoded('PNG'))
    return tmp_path


def test_files_of_any_name_are_known_by_their_content(scans):
    with pytest.warns(LeftAsideWarning, match=r'files left aside: 1 that are no pictures \(.txt\)$'):
        views, unread = views_of([scans])
    assert names_of(views) == sorted([*NAMED, 'png']) and not unread
    with pytest.warns(LeftAsideWarning): assert len(picture_files(scans)) == 8


@pytest.mark.parametrize('kind', ['PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG2000'])
def test_command_and_page_take_the_same_kinds(tmp_path, kind):
    (tmp_path/'scan').write_bytes(encoded(kind))
    assert kind_of_file(tmp_path/'scan') == 'picture' and names_of(views_of([tmp_path])[0]) == ['scan']
    assert [v.name for v in read_study([tmp_path/'scan']).views] == ['scan']


def rare(kind):
    "A grey picture in a form that few programs write"
    import tifffile
    if kind == 'PGM': return b'P5 # twelve bits\n40 40 4095\n' + (np.arange(1600)*4095//1599).astype('>u2').tobytes()
    out = io.BytesIO()
    if kind.startswith('BigTIFF'): tifffile.imwrite(out, np.asarray(PICTURE), bigtiff=True, byteorder=kind[-1])
    else: PICTURE.save(out, format='JPEG2000', no_jp2=True)
    return out.getvalue()


@pytest.mark.parametrize('kind', ['PGM', 'BigTIFF <', 'bare JPEG 2000'])
def test_rare_forms_are_known_by_their_beginnings(tmp_path, kind):
    (tmp_path/'scan').write_bytes(rare(kind))
    assert kind_of_file(tmp_path/'scan') == 'picture'
    (view,) = read_study([tmp_path/'scan']).views
    want = np.arange(1600).reshape(40, 40)*255/1599 if kind == 'PGM' else np.asarray(PICTURE)
    assert np.abs(view.picture - want).max() <= 1
    (tmp_path/'scan').write_bytes(b'P5 is what we called the fifth patient')
    assert kind_of_file(tmp_path/'scan') == ''


def test_a_tiff_that_pillow_cannot_read_is_named(tmp_path):
    (tmp_path/'scan').write_bytes(rare('BigTIFF >'))
    assert kind_of_file(tmp_path/'scan') == 'picture'
    with pytest.raises(ValueError, match='big-endian BigTIFF'): read_picture(tmp_path/'scan')


def test_a_file_that_is_not_what_its_suffix_says_is_told(tmp_path):
    (tmp_path/'a.png').write_text('no picture')
    (tmp_path/'b.png').write_bytes(encoded('JPEG'))
    views, _ = views_of([tmp_path])
    assert names_of(views) == ['a.png', 'b.png'] # whoever reads a.png says why it cannot be read
    page = read_study([tmp_path/'a.png', tmp_path/'b.png'])
    assert [v.name for v in page.views] == ['b.png'] and 'not a picture' in page.problems[0][1]


@pytest.fixture
def disc(tmp_path):
    "A patient's disc: a table of contents, DICOM without suffix, a viewer with pictures, a report as DICOM"
    contents = dicoms.radiograph(GREY)
    del contents.PixelData
    contents.file_meta.MediaStorageSOPClassUID = '1.2.840.10008.1.3.10'
    contents.file_meta.MediaStorageSOPInstanceUID = '1.2.3'
    contents.save_as(tmp_path/'DICOMDIR')
    for folder in ('DICOM/S1', 'VIEWER/help'): (tmp_path/folder).mkdir(parents=True)
    dicoms.write(tmp_path/'DICOM'/'S1'/'I1', GREY, study='1.2.1')
    dicoms.write(tmp_path/'DICOM'/'S1'/'I2', GREY, study='1.2.1', Modality='SR')
    for name in ('splash.jpg', 'help/icon.png'): PICTURE.save(tmp_path/'VIEWER'/name)
    (tmp_path/'autorun.inf').write_text('[autorun]')
    return tmp_path


def test_a_disc_is_known_for_what_it_is(disc):
    with pytest.warns(LeftAsideWarning) as said: views, unread = views_of([disc])
    assert names_of(views) == ['I1'] and [(Path(u.path).name, 'modality SR' in u.why) for u in unread] == [('I2', True)]
    words = str(said[0].message)
    assert '1 that are no pictures (.inf)' in words and '1 that list the contents of a disc (DICOMDIR)' in words
    assert "2 that belong to a disc's viewer" in words
    assert names_of(views_of([disc/'VIEWER'/'splash.jpg'])[0]) == ['splash.jpg'] # who names it means it
    views, unread = views_of([disc/'DICOMDIR'], force=True)
    assert not len(views) and unread[0].why == 'the contents of a disc (DICOMDIR), not a radiograph; name its folder'
    assert 'name its folder' in read_study([disc/'DICOMDIR']).problems[0][1]


def test_the_terminal_names_what_is_left_aside(scans, monkeypatch):
    from test_input_check import command
    (scans/'settings.ini').write_text((Path(P.__file__).parent/'settings.ini').read_text())
    done = command(scans, 'predict', '.', '--model', 'no_such_model')
    assert done.returncode == 2 and done.stderr.count('files left aside: 2 that are no pictures (.ini, .txt)') == 1


# -- one bad item ------------------------------------------------------------------------------------------------------

def forbidden(monkeypatch, *paths):
    "Let opening of files and folders fail as it does without permission"
    real_open, real_scan, closed = builtins.open, os.scandir, {str(p) for p in paths}
    def check(path):
        if str(path) in closed: raise PermissionError(errno.EACCES, 'Permission denied', str(path))
    def opened(path, *args, **kw):
        check(path)
        return real_open(path, *args, **kw)
    def scanned(path='.'):
        check(path)
        return real_scan(path)
    monkeypatch.setattr(builtins, 'open', opened)
    monkeypatch.setattr(io, 'open', opened) # of pathlib
    monkeypatch.setattr(os, 'scandir', scanned)


def test_a_forbidden_file_or_folder_is_told_and_the_rest_goes_on(tmp_path, monkeypatch):
    from mura_nb.exported import _read
    for name in ('a/1.png', 'b/2.png', 'c/3', 'd/4.dcm'): (tmp_path/name).parent.mkdir()
    for name in ('a/1.png', 'b/2.png', 'c/3'): PICTURE.save(tmp_path/name, 'PNG')
    dicoms.write(tmp_path/'d'/'4.dcm', GREY)
    forbidden(monkeypatch, tmp_path/'b', tmp_path/'c'/'3', tmp_path/'d'/'4.dcm')
    views, unread = views_of([tmp_path])
    assert names_of(views) == ['1.png', '3', '4.dcm'] # what cannot be opened is told when it is read
    assert unread == [(str(tmp_path/'b'), 'a folder that cannot be opened: Permission denied')]
    class Engine:
        def prepare(self, picture): return picture
    answers = [_read(file, Engine()) for file in views.file]
    assert [error is None for *_, error in answers] == [True, False, False]
    assert all('Permission denied' in str(error) for *_, error in answers[1:])
    assert [v.name for v in read_study(views.file).views] == ['1.png'] and len(read_study(views.file).problems) == 2
    with pytest.raises(PermissionError): walk_files(tmp_path)


def test_a_closed_folder_of_a_dataset_is_an_error_of_its_check(tmp_path, monkeypatch):
    paths = make_dataset(tmp_path, 6)
    for file in tmp_path.glob('*.csv'): file.unlink()
    closed = Path(next(p for p in paths if p.startswith('train'))).parent
    forbidden(monkeypatch, tmp_path/closed)
    df = mura_index(tmp_path)
    assert len(df) and not df.path.str.startswith(str(closed)).any()
    errors = check_index(df).errors
    assert errors[errors.problem == 'closed folder'].path.tolist() == [str(closed)]


ODD = os.fsdecode(b'bad\xff.png'), 'two\nlines.png', 'tab\t.png', "quote'\".png", 'ü ñ.png'


@pytest.fixture
def odd(tmp_path):
    for name in (*ODD, 'good.png'):
        try: PICTURE.save(tmp_path/name)
        except OSError: pytest.skip('a file system that allows only Unicode')
    return tmp_path


def test_any_name_is_judged_and_shown(odd, tmp_path, capsys):
    views, unread = views_of([odd])
    assert len(views) == 6 and not unread and set(views.file.map(Path.exists)) == {True}
    for form in ('csv', 'json', 'table'): print_table(views[['path', 'study']].assign(prob=.5), form)
    out = capsys.readouterr().out
    assert 'two\\nlines.png' in out and 'bad\\udcff.png' in out.replace('\\\\', '\\')
    table = pd.read_csv(io.StringIO(views[['path']].to_csv(index=False)))
    assert set(table.path) == {shown_name(odd/name) for name in (*ODD, 'good.png')}
    assert len(read_study(views.file).views) == 6 and one_line('a\nb') == 'a\\nb'
    single, unread = views_of([odd/name for name in ODD] + [odd/os.fsdecode(b'gone\xff.png')])
    assert len(single) == 5 and 'no such file' in unread[0].why


def test_a_folder_with_a_terminals_code_in_its_name_is_shown_without_it():
    from mura_nb.terminal import for_people
    _, words = for_people(pd.DataFrame(dict(path=['a\x1b[31m/x.png', 'a\x1b[31m/y.png'], prob=.5)))
    assert 'below a' in words and '\x1b' not in words


def test_located_files_of_odd_names(odd, tmp_path, monkeypatch):
    from types import SimpleNamespace
    from mura_nb import batch
    def localise(pictures, *_):
        return [SimpleNamespace(image=p, heatmap=None, box=(1, 1, 9, 9), others=[], called=True, prob=.9, study_prob=.9,
            threshold=.5, why='', unusual='') for _, p in pictures]
    monkeypatch.setattr('mura_nb.gradcam.localise', localise)
    monkeypatch.setattr('mura_nb.networks.picture_networks', lambda model: model)
    for given in ([odd], sorted(odd.iterdir())):
        found = batch.locate_studies(views_of(given)[0], tmp_path/'out')
        assert len(found.boxes) == 6 and not found.unread and found.boxes.overlay.map(os.path.isfile).all()
        assert len(pd.read_csv(tmp_path/'out'/'boxes.csv')) == 6


def test_a_dataset_with_a_name_that_is_no_text(tmp_path):
    make_dataset(tmp_path, 6)
    try: (tmp_path/'train'/os.fsdecode(b'bad\xff.png')).write_bytes(b'')
    except OSError: pytest.skip('a file system that allows only Unicode')
    warned = check_index(mura_index(tmp_path)).warnings
    assert 'train/bad\\udcff.png' in set(warned.path)


def test_a_jpeg_of_12_bits_is_refused_for_its_bits(tmp_path):
    data = encoded('JPEG')
    frame = data.index(b'\xff\xc0')
    (tmp_path/'a.jpg').write_bytes(data[:frame+4] + b'\x0c' + data[frame+5:])
    with pytest.raises(ValueError, match='JPEG of 12 bits, which Pillow cannot read'): read_picture(tmp_path/'a.jpg')


def test_pictures_that_no_list_of_a_dataset_names_are_counted(tmp_path):
    paths = make_dataset(tmp_path, 6)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert len(views_of([tmp_path])[0]) == len(paths)
    study = tmp_path/Path(paths[0]).parent
    PICTURE.save(study/'image77.png')
    dicoms.write(tmp_path/'a.dcm', GREY)
    with pytest.warns(LeftAsideWarning, match='files left aside: 2 pictures that no list names'):
        assert len(views_of([tmp_path])[0]) == len(paths)


def test_a_dicom_file_that_is_called_a_text(tmp_path):
    dicoms.write(tmp_path/'a.txt', GREY, study='1.2.3')
    assert views_of([tmp_path/'a.txt'])[0].study.tolist() == ['1.2.3']


def test_a_large_picture_of_16_bits_is_read_in_little_memory(tmp_path):
    import tracemalloc
    grey = np.zeros((2000, 3000), np.uint16)
    grey[0] = 4095
    Image.fromarray(grey).save(tmp_path/'a.png')
    tracemalloc.start()
    picture = read_picture(tmp_path/'a.png')
    assert tracemalloc.get_traced_memory()[1] < 9*grey.size
    tracemalloc.stop()
    assert picture[0].min() == 255 and not picture[1:].any()


def test_a_small_file_that_unpacks_to_a_large_one_is_refused(tmp_path):
    from torture.inputs import deflated_bomb
    from mura_nb.headers import header
    from mura_nb.images import scan_file
    (tmp_path/'bomb.dcm').write_bytes(deflated_bomb())
    assert 'unpacks to more than' in scan_file(tmp_path/'bomb.dcm').error
    header(tmp_path/'bomb.dcm') # nor does whoever asks for its tags unpack it
    assert 'unpacks to more than' in read_study([tmp_path/'bomb.dcm']).problems[0][1]


# -- lists -------------------------------------------------------------------------------------------------------------

@pytest.fixture
def pictures(tmp_path):
    (tmp_path/'p').mkdir()
    for name in ('a.png', 'b.png', 'c, left.png'): PICTURE.save(tmp_path/'p'/name)
    return tmp_path


LISTS = {
    'commas': ('path,label,study\np/a.png,1,s\np/b.png,0,t\n', 'utf-8'),
    'a mark at the beginning': ('path,label,study\np/a.png,1,s\np/b.png,0,t\n', 'utf-8-sig'),
    'semicolons': ('File name;Label;Study ID\np/a.png;abnormal;s\np/b.png;Normal;t\n', 'utf-8'),
    'sep= above': ('sep=;\r\nFile;Class;Exam\r\np/a.png;1;s\r\np/b.png;0;t\r\n', 'cp1252'),
    'tabs and UTF-16': ('image\tlabel\taccession\np/a.png\t1\ts\np/b.png\t0\tt\n', 'utf-16'),
    'UTF-16 without a mark': ('image\tlabel\taccession\r\np\\a.png\t1\ts\r\np\\b.png\t0\tt\r\n', 'utf-16-le'),
    'quotes and spaces': ('"Image Path", "Label", "study"\n"p/a.png", "yes", s\n "p/b.png", no, t\n\n', 'utf-8'),
    'line ends of old machines': ('path,label,study\rp/a.png,1,s\rp/b.png,0,t\r', 'utf-8'),
}


@pytest.mark.parametrize('kind', LISTS)
def test_lists_as_people_have_them(pictures, kind):
    text, code = LISTS[kind]
    (pictures/'list.csv').write_bytes(text.encode(code))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        views, unread = views_of([pictures/'list.csv'])
    assert names_of(views) == ['a.png', 'b.png'] and not unread
    assert views.label.tolist() == [1, 0] and views.study.tolist() == ['s', 't']


def test_columns_that_mean_nothing_are_named(pictures):
    (pictures/'list.tsv').write_text('path\tage\t\tsex\np/a.png\t40\tx\tf\n')
    with pytest.warns(LeftAsideWarning, match='list.tsv: columns not used: age, column 3, sex'):
        views, unread = views_of([pictures/'list.tsv'])
    assert names_of(views) == ['a.png'] and not unread


def test_a_list_of_studies(tmp_path):
    make_dataset(tmp_path/'MURA-v1.1', 6)
    listed = tmp_path/'MURA-v1.1'/'train_labeled_studies.csv'
    studies = pd.read_csv(listed, header=None)
    views, unread = views_of([listed])
    assert not unread and views.study.nunique() == len(studies) and views.label.notna().all()
    (tmp_path/'other.txt').write_text('MURA-v1.1/train\nMURA-v1.1/nowhere\n')
    views, unread = views_of([tmp_path/'other.txt'])
    assert [('without pictures' in u.why) for u in unread] == [True] and len(views) == 1


BAD = {
    'nothing': ('', 'an empty list'), 'no path': ('Bild;Alter\na.png;40\n', 'no column is called path, file or image'),
    'a header alone': ('path\n', 'an empty list'),
    'a quotation mark': ('path\n"a.png\nb.png\nc.png\n', 'a quotation mark before line'),
    'unnamed columns': ('p/a.png,40,f\n', '3 columns without a header'),
    'two names a line': ('p/a.png,p/b.png\n', '2 columns without a header'),
    'no text': ('PK\x03\x04\0\0\0\x01', 'no text'),
}


FINE = {
    'two columns that could do': 'path,image\np/a.png,7\n',
    'an accession beside the study': 'path,study,accession\np/a.png,s,9\n',
    'a label that is missing': 'path,label\np/a.png,NA\n', 'folders without a header': 'p/\n',
}


@pytest.mark.parametrize('kind', FINE)
def test_lists_are_read_as_before(pictures, kind):
    (pictures/'list.csv').write_text(FINE[kind])
    views, unread = views_of([pictures/'list.csv'])
    assert not unread and 'a.png' in names_of(views) and views.label.isna().all()


COMMAS = {'without a header': 'p/a.png\np/c, left.png\n', 'first': 'p/c, left.png\np/a.png\n',
    'one column': 'path\np/a.png\np/c, left.png\n', 'quoted too': '"p/c, left.png"\np/a.png\n'}


@pytest.mark.parametrize('kind', COMMAS)
def test_names_with_commas(pictures, kind):
    (pictures/'list.txt').write_text(COMMAS[kind])
    views, unread = views_of([pictures/'list.txt'])
    assert sorted(names_of(views)) == ['a.png', 'c, left.png'] and not unread


def test_columns_whose_names_say_little(pictures):
    "They are used where all of their values fit, else named"
    text = 'path,type,class,region\np/a.png,DX,1,Wrist\np/b.png,CR,2,\n'
    (pictures/'list.csv').write_text(text)
    with pytest.warns(LeftAsideWarning, match='columns not used: type, class'):
        views, unread = views_of([pictures/'list.csv'])
    assert names_of(views) == ['a.png', 'b.png'] and not unread
    assert views.study_type[0] == 'WRIST' and views.label.isna().all()
    (pictures/'list.csv').write_text(text.replace('DX', 'hand').replace('CR', 'ELBOW').replace(',2', ',0'))
    with pytest.warns(LeftAsideWarning, match='columns not used: type'): # the clearer name comes first
        views, unread = views_of([pictures/'list.csv'])
    assert views.study_type[0] == 'WRIST' and views.label.tolist() == [1, 0] and not unread


def test_a_closed_folder_in_a_list_costs_no_other_line(pictures, monkeypatch):
    (pictures/'list.csv').write_text('path\np/a.png\np\n')
    def shut(folder, listdir=os.listdir):
        if Path(folder).name == 'p': raise PermissionError(13, 'Permission denied', str(folder))
        return listdir(folder)
    monkeypatch.setattr(os, 'listdir', shut)
    views, unread = views_of([pictures/'list.csv'])
    assert names_of(views) == ['a.png'] and ['Permission denied' in u.why for u in unread] == [True]


@pytest.mark.parametrize('kind', BAD)
def test_lists_are_refused_with_the_reason(pictures, kind):
    text, words = BAD[kind]
    (pictures/'list.csv').write_text(text)
    views, unread = views_of([pictures/'list.csv', pictures/'p'/'a.png'])
    assert names_of(views) == ['a.png'] and len(unread) == 1 and words in unread[0].why, unread


def test_one_bad_line_does_not_stop_the_rest(pictures):
    lines = 'p/a.png,1,WRIST', 'p/b.png,2,WRIST', 'p/b.png,0,KNEE', ',0,WRIST', 'p/c, left.png,0,WRIST', \
        f'p/{"x"*300}.png,0,WRIST', '"p/c, left.png",0,hand'
    (pictures/'list.csv').write_text('\n'.join(('path,label,study_type', *lines)))
    views, unread = views_of([pictures/'list.csv'])
    assert [Path(f).name[:6] for f in views.file] == ['a.png', 'xxxxxx', 'c, lef'] # a missing file is told when read
    words = "label '2' is not 0 or 1", 'KNEE', 'line 5 names no file', 'line 6 has 4 cells, the header 3'
    assert all(w in u.why for w, u in zip(words, unread, strict=True))


def test_a_spreadsheet_is_named(tmp_path):
    (tmp_path/'list.xlsx').write_bytes(b'PK\3\4')
    assert 'a spreadsheet; save it as csv' in views_of([tmp_path/'list.xlsx'])[1][0].why


def test_lists_of_a_dataset_may_come_out_of_a_spreadsheet(tmp_path):
    make_dataset(tmp_path, 6)
    want = mura_index(tmp_path)
    for file in tmp_path.glob('*.csv'): file.write_bytes(file.read_text().replace(',', ';').encode('utf-16'))
    pd.testing.assert_frame_equal(mura_index(tmp_path), want)


def test_fields_without_a_file(tmp_path):
    (tmp_path/'l.csv').write_text('path,label\n,1\n')
    assert list_fields(tmp_path/'l.csv')[0][0]['wrong'] == 'line 2 names no file'
    assert radiograph_files(tmp_path, []) == []
    assert CliRunner().invoke(P.cli, ['predict', str(tmp_path/'l.csv')]).exit_code == 2


# -- any bytes ---------------------------------------------------------------------------------------------------------

SMALL = st.tuples(st.integers(0, 4000), st.integers(0, 255))


@pytest.fixture(scope='module')
def beginnings():
    "Files to change: a radiograph in each encoding"
    from torture.inputs import originals
    return [b'', *originals().values()]


@hsettings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(which=st.integers(0, 10**6), changes=st.lists(SMALL, max_size=8), end=st.integers(0, 10**5), more=st.binary())
def test_any_bytes_are_read_or_refused(tmp_path, beginnings, which, changes, end, more):
    "With their typed error or row: a file alone, its header, its size"
    from mura_nb.headers import header
    from mura_nb.images import scan_file
    from mura_nb.studies import picture_size
    data = bytearray(beginnings[which % len(beginnings)])
    for at, value in changes:
        if at < len(data): data[at] = value
    (tmp_path/'a.png').write_bytes(bytes(data[:end]) + more)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        scan = scan_file(tmp_path/'a.png')
        assert scan.error if scan.grey is None else scan.grey.dtype == np.uint8 and scan.grey.ndim == 2
        assert isinstance(header(tmp_path/'a.png'), dict)
        try: assert len(picture_size(tmp_path/'a.png')) == 2
        except ValueError as e: assert str(e)


@hsettings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@drawn(st.one_of(st.binary(), st.text(alphabet='ab,;\t\n"\'./\\01path label').map(str.encode)))
def test_any_list_is_read_or_refused(tmp_path, data):
    (tmp_path/'l.csv').write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try: lines, _ = list_fields(tmp_path/'l.csv')
        except ValueError as e: assert 'l.csv' in str(e)
        else: assert lines and all('path' in line or line['wrong'] for line in lines)
