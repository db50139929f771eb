"What is written for people never replaces their files, and is never read as a radiograph."
import os
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from PIL import Image
from typer.testing import CliRunner
from mura_nb import batch, programs as P
from mura_nb.answers import _overlay_png, similar_images
from mura_nb.batch import save_picture, save_sheet, views_of
from mura_nb.database import DatabaseError
from mura_nb.headers import header, read_radiograph, refusal_of
from mura_nb.images import LeftAsideWarning
from mura_nb.phantom import example_study
from mura_nb.studies import Study, StudyView, read_study
from datasets import write_picture
from test_input_check import GREY
import dicoms


@pytest.fixture
def here(tmp_path, monkeypatch):
    "A folder to work in, where each view gets the same box without a network"
    def localise(pictures, *_):
        return [SimpleNamespace(image=p, heatmap=np.zeros(p.shape, np.float32), box=(1, 1, 9, 9), others=[],
            called=True, prob=.9, study_prob=.9, threshold=.5, why='', unusual='') for _, p in pictures]
    monkeypatch.setattr('mura_nb.gradcam.localise', localise)
    monkeypatch.setattr('mura_nb.networks.picture_networks', lambda model: [])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder): return {f: f.read_bytes() for f in sorted(folder.rglob('*')) if f.is_file()}


def run(*args): return CliRunner().invoke(P.cli, [str(a) for a in args])


# -- files of the user -------------------------------------------------------------------------------------------------

def listed(folder):
    write_picture(folder/'s1/a.png', 1, (60, 50))
    (folder/'list.csv').write_text('path,study\ns1/a.png,s1\n')
    return ['list.csv']


def single(folder):
    write_picture(folder/'a/a.png', 1, (60, 50))
    return ['a/a.png']


def exported(folder):
    "DICOM beside pictures that somebody saved from it, and beside files with the names that ours would have"
    (folder/'case1').mkdir()
    for i in (1, 2): dicoms.write(folder/f'case1/IM{i}.dcm', GREY)
    write_picture(folder/'case1/IM1.png', 1, (60, 50))
    dicoms.write(folder/'case1/IM2.capture.dcm', GREY, study='1.9')
    return ['case1/IM1.dcm', 'case1/IM2.dcm']


def numbered(folder):
    "The free name of one view is the name of the next"
    for name in ('s/a.png', 's/x/a-2.png'): write_picture(folder/name, 1, (60, 50))
    (folder/'list.csv').write_text('path,study\ns/a.png,s\ns/x/a-2.png,s\n')
    return ['list.csv']


def linked(folder):
    write_picture(folder/'far/b.png', 1, (60, 50))
    (folder/'a').mkdir()
    (folder/'a/a.png').symlink_to(folder/'far/b.png')
    return ['a/a.png']


def own_table(folder):
    single(folder)
    (folder/'boxes.csv').write_text('path,x0,y0,x1,y1\na.png,1,2,3,4\n')
    return ['a/a.png']


CASES = [listed, single, exported, numbered, linked, own_table]


@pytest.mark.parametrize('case', CASES, ids=lambda case: case.__name__)
def test_locate_replaces_no_file_but_its_own(here, case):
    inputs = case(here)
    theirs, made = contents(here), []
    for _ in range(2):
        r = run('locate', *inputs, '-o', '.', '--format', 'csv')
        assert r.exit_code == 0, r.output
        after = contents(here)
        assert {f: after[f] for f in theirs} == theirs
        made.append(sorted(set(after) - set(theirs)))
    assert made[0] == made[1] and not any(f.is_symlink() for f in made[0])
    overlays = [f for f in made[0] if f.suffix == '.png']
    assert len(overlays) == len(views_of(inputs)[0]) and all(header(f)['maker'] == 'mura_nb' for f in overlays)
    table = 'boxes-2.csv' if case is own_table else 'boxes.csv'
    assert here/table in made[0] and f'written: {table}; overlays: {len(overlays)}' in r.stderr
    assert r.stderr.strip().endswith(f'DICOM files: {4 if case is exported else 0}')


@pytest.mark.parametrize('kind', ['png', 'pdf'])
def test_a_sheet_replaces_only_a_sheet(tmp_path, monkeypatch, kind):
    import matplotlib.pyplot as plt
    monkeypatch.setattr(batch, 'neighbour_figure', lambda found: plt.figure(figsize=(1, 1)))
    found = [SimpleNamespace(root=tmp_path, table=SimpleNamespace(path=[]))]
    theirs = tmp_path/f'similar.{kind}'
    Image.fromarray(GREY).save(theirs)
    before = theirs.read_bytes()
    for _ in range(2): assert save_sheet(found, theirs) == tmp_path/f'similar-2.{kind}'
    assert theirs.read_bytes() == before and len(list(tmp_path.iterdir())) == 2
    if kind == 'png': assert views_of([tmp_path/'similar-2.png'])[1][0].why == 'written by mura_nb, not a radiograph'
    plt.close('all')


# -- what earlier calls wrote ------------------------------------------------------------------------------------------

def test_nothing_but_own_files_is_nothing_to_look_at(here):
    single(here)
    dicoms.write(here/'b.dcm', GREY)
    assert run('locate', 'a', 'b.dcm', '-o', 'out').exit_code == 0
    before = contents(here)
    for out in ('out', 'other'):
        r = run('locate', 'out', '-o', out)
        assert r.exit_code == 2 and 'nothing to look at' in r.stderr and contents(here) == before


def test_a_table_stays_where_no_view_can_be_read(here):
    single(here)
    assert run('locate', 'a/a.png', '-o', 'out').exit_code == 0
    (here/'a/a.png').write_text('damaged')
    before = contents(here)
    r = run('locate', 'a/a.png', '-o', 'out')
    assert r.exit_code == 2 and 'written' not in r.stderr and contents(here) == before


@pytest.mark.parametrize('out', ['out', f'o{os.pathsep}ut'])
def test_results_of_several_calls_are_no_radiographs(here, out):
    single(here)
    dicoms.write(here/'b.dcm', GREY)
    for given in ('a/a.png', 'b.dcm'): assert run('locate', given, '-o', out).exit_code == 0
    (here/out/'boxes.csv').unlink()
    with pytest.warns(LeftAsideWarning, match='files left aside: 4 written by mura_nb, not radiographs'):
        views, unread = views_of(['.'])
    assert sorted(views.path) == ['a/a.png', 'b.dcm'] and not unread


def archived():
    "The overlay in the archive that the page offers"
    grey = GREY[:32, :32]
    view = StudyView('a', grey)
    found = SimpleNamespace(image=grey, heatmap=None, box=(1, 1, 9, 9), others=[])
    return _overlay_png(SimpleNamespace(called=False), view, found)


def test_pictures_written_here_are_refused_wherever_radiographs_are_read(tmp_path):
    ours = save_picture(np.full((60, 60, 3), 128, np.uint8), tmp_path/'ours.png')
    (tmp_path/'archived.png').write_bytes(archived())
    words = 'written by mura_nb, not a radiograph'
    for file in (ours, tmp_path/'archived.png'):
        assert [u.why for u in views_of([file], force=True)[1]] == [words]
        with pytest.raises(ValueError, match=words): read_radiograph(file, force=True)
        assert read_study([file]).problems == [(file.name, words)]
    named = pd.DataFrame([dict(path='ours.png', file=ours, study='s')])
    assert words in batch._readable(named)[2][0].why


def test_simulated_radiographs_are_judged(tmp_path):
    Image.fromarray(example_study('WRIST', 'fracture', 3, size=128)[0][0].image).save(tmp_path/'simulated.png')
    assert len(views_of([tmp_path])[0]) == 1 and refusal_of(header(tmp_path/'simulated.png')) == ''
    assert not read_study([tmp_path/'simulated.png']).problems


# -- answers and labels ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('error', [DatabaseError('its codes are of network a, not of b'), FileNotFoundError('no such'),
    ValueError('does not fit'), TypeError('Recipe() got an unexpected argument')], ids=lambda e: type(e).__name__)
def test_a_database_without_its_network_costs_only_the_similar_images(error):
    class Database:
        @property
        def encoder(self): raise error
    found = similar_images(Study([StudyView('a', GREY)]), database=Database())
    assert not found.tables and found.problem == f'No similar images: {error}'


def test_one_study_of_contradicting_labels_has_none(tmp_path):
    for name in ('a.png', 'b.png', 'c.png'): write_picture(tmp_path/name, 1, (60, 50))
    (tmp_path/'list.csv').write_text('path,label\na.png,0\nb.png,1\nc.png,1\n')
    apart, together = (views_of([tmp_path/'list.csv'], one_study)[0] for one_study in (False, True))
    assert apart.label.tolist() == [0, 1, 1] and together.label.isna().all() and together.key.nunique() == 1
    (tmp_path/'list.csv').write_text('path,label\nb.png,1\nc.png,1\n')
    assert views_of([tmp_path/'list.csv'], one_study=True)[0].label.tolist() == [1, 1]


def test_a_file_of_two_labels_has_none(tmp_path):
    for name in ('a.png', 'b.png', 'c.png'): write_picture(tmp_path/name, 1, (60, 50))
    (tmp_path/'list.csv').write_text('path,label,study\na.png,0,s\nb.png,0,s\na.png,1,s\nc.png,1,t\n')
    views = views_of([tmp_path/'list.csv'])[0].set_index('path')
    assert views.label.isna().to_dict() == {'a.png': True, 'b.png': True, 'c.png': False}
