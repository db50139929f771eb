"The report on a folder of radiographs that someone else wrote: the DATA of `make report`. Slow: make test-all."

import hashlib, os, subprocess, sys
import pytest
from datasets import EDGES, make_edge_folder

pytestmark = pytest.mark.outer


def lines(root, name):
    return (root / name).read_text().splitlines()


@pytest.fixture(scope='module')
def foreign(tmp_path_factory):
    """A simulated dataset of another seed, moved away, without its truth, with the csv variants and the dirt that
    MURA's copies have"""
    import shutil
    from mura_nb.phantom import make_phantom

    made = make_phantom(tmp_path_factory.mktemp('made') / 'phantom', 84, seed=77, size=128, valid_frac=0.3)
    root = tmp_path_factory.mktemp('moved') / 'my radiographs'
    shutil.move(made, root)
    shutil.rmtree(root / 'truth')
    images, studies = lines(root, 'train_image_paths.csv'), lines(root, 'train_labeled_studies.csv')
    (root / 'train_image_paths.csv').write_bytes('\r\n'.join(['Img_Path', *images, '']).encode())
    both = next(s for s in studies if s.endswith(',0'))
    (root / 'train_labeled_studies.csv').write_bytes(
        '\r\n'.join(['Img_Path,Label', *studies, both[:-1] + '1', '']).encode()
    )
    (root / 'valid_image_paths.csv').write_bytes(
        '\r\n'.join(['path,', *(l + ',' for l in lines(root, 'valid_image_paths.csv')), '']).encode()
    )
    files = sorted(root.glob('train/*/*/*/image1.png'))
    for f in files[:4]:
        (f.parent / f'._{f.name}').write_bytes(b'\0\5\26\7')
    for f in files[-2:]:
        f.write_bytes(f.read_bytes()[:200])
    (root / '.DS_Store').touch()
    return root


def state(root):
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob('*'))
        if p.is_file()
    }


def test_same_chapters_on_a_foreign_folder(foreign):
    from check import copied

    before = state(foreign)
    with copied() as d:
        env = dict(os.environ, MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(foreign), PYTHONPATH=str(d))
        notebooks = state(d / 'nbs')
        r = subprocess.run([sys.executable, 'tools/report.py'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
        page = (d / '_site' / 'data.html').read_text()
        assert all(w in page for w in ('._image1.png', 'both labels', 'unreadable')), (
            'the page must say what is wrong with the folder'
        )
        assert (d / 'results' / 'smoke-my radiographs' / 'tables' / 'baselines.csv').is_file() and not (
            d / 'results' / 'smoke'
        ).exists()
        assert state(d / 'nbs') == notebooks, 'radiographs of others must not get into the notebooks'
    assert state(foreign) == before, 'the report must not write into the data'


def test_same_chapters_on_a_public_dataset(tmp_path):
    from check import copied
    from public_trees import make_plain_fracatlas

    root = make_plain_fracatlas(tmp_path / 'FracAtlas')
    before = state(root)
    with copied() as d:
        env = dict(os.environ, MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(root), PYTHONPATH=str(d))
        notebooks = state(d / 'nbs')
        r = subprocess.run([sys.executable, 'tools/report.py'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
        tables = d / 'results' / 'smoke-fracatlas' / 'tables'
        measured = ('baselines', 'fusenet_hits', 'gradcam_groups', 'free_response', 'alignment_hits')
        assert all((tables / f'{name}.csv').is_file() for name in measured), 'boxes are measured against the true ones'
        assert state(d / 'nbs') == notebooks
    assert state(root) == before, 'the report must not write into the data'


@pytest.mark.skipif('EDGES' not in os.environ, reason='half an hour: EDGES=1 pytest -m outer -k lacks')
@pytest.mark.parametrize('lack', EDGES)
def test_a_folder_that_lacks_something_runs_to_the_end(tmp_path, lack):
    "One study type; a type without abnormal studies; few studies: tables and figures may be empty, no chapter fails"
    from check import copied

    root = make_edge_folder(tmp_path / 'lacking', lack)
    with copied() as d:
        env = dict(os.environ, MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(root), PYTHONPATH=str(d))
        r = subprocess.run([sys.executable, 'tools/report.py'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stdout[-4000:] + r.stderr[-2000:]
        assert 'chapters failed' not in r.stdout and (d / '_site' / 'index.html').is_file()
