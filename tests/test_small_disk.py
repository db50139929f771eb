"""A full disk, a folder that may only be read, no file handles left, a process out of memory: an error that says what
to do, nothing that was there is lost, and no half file stays. The cases are written in small_disk.py."""
import json, os, shutil, signal, subprocess, sys
import numpy as np, pytest
from mura_nb.core import WorkerEnded, writing

MOUNT = 'mount -t tmpfs -o size=3m tmpfs {d}/full && mount -t tmpfs -o ro tmpfs {d}/ro'


@pytest.fixture(scope='module')
def said(tmp_path_factory):
    "Case -> kind of error, its words, files left under temporary names, what is there after"
    d = tmp_path_factory.mktemp('disks')
    (d/'full').mkdir()
    (d/'ro').mkdir()
    mount = MOUNT.format(d=d)
    def alone(command): return subprocess.run(['unshare', '-rm', 'sh', '-c', command], capture_output=True, text=True)
    if not shutil.which('unshare') or alone(mount).returncode: pytest.skip('no small disk can be mounted here')
    script = os.path.join(os.path.dirname(__file__), 'small_disk.py')
    r = alone(f'{mount} && PYTHONPATH={os.pathsep.join(sys.path)!r} exec {sys.executable} {script} {d}/full {d}/ro')
    assert r.returncode == 0, r.stderr[-2000:]
    return json.loads(r.stdout)


def test_nothing_half_is_left(said):
    assert len(said) >= 15 and not [name for name, (kind, _, left, *_) in said.items() if left or kind == 'nothing']


DATABASES = [f'database {n}000' for n in (450, 650, 800)]
FULL = ['table', 'array', 'model', 'new database', 'store', 'simulation', *DATABASES]


@pytest.mark.parametrize('case', FULL)
def test_full_disk(said, case):
    kind, words, *_ = said[case]
    assert kind == 'DiskFull' and 'FULL/' in words and 'No space left on device; make room' in words


@pytest.mark.parametrize('case', ['table', 'database', 'store', 'simulation'])
def test_read_only(said, case):
    kind, words, _ = said[f'read-only {case}']
    assert kind == 'CannotWrite' and 'RO/' in words and 'name another folder, or have the right' in words


@pytest.mark.parametrize('case', ['no handle for a table', 'no handle for a database', '0 handles for the store',
                                  '2 handles for the store'])
def test_no_file_handles(said, case):
    assert said[case][0] == 'CannotWrite' and 'raise the limit (ulimit -n 4096) or use fewer workers' in said[case][1]


def test_what_was_there_stays(said):
    "Tables, weights with their card, codes; HDF5 by itself would have put 2,000 rows of zeros there and crashed"
    assert said['table'][3] == [1] and said['model'][3] == 'small'
    assert [said[name][3] for name in DATABASES] == [[20, 160.]]*3


def test_the_same_again_goes_on(said):
    assert said['store'][3] == list(range(12)) and said['2 handles for the store'][3] == 12
    before, after = said['simulation'][3:]
    assert 0 < before < after == 28  # studies


def test_an_ended_process(said):
    kind, words, _ = said['ended process']
    assert kind == 'WorkerEnded' and 'use fewer workers or smaller batches' in words


class Dying:
    "Views whose second batch ends the process that loads it, or fills its memory"
    def __init__(self, how): self.how = how
    def __len__(self): return 4
    def __getitem__(self, i):
        if i >= 2: self.how()
        return np.zeros((8, 8), np.float32), 0., 0


def ended(): os.kill(os.getpid(), signal.SIGKILL)
def out_of_memory(): np.zeros(2**50)


@pytest.mark.parametrize('how', [ended, out_of_memory])
def test_a_loader_process(how):
    from mura_nb.data import view_dl
    with pytest.raises(WorkerEnded, match='reading images: a process was ended or ran out of memory; use fewer'):
        list(view_dl(Dying(how), 2, workers=1, device='cpu'))


def test_errors_of_others_stay():
    "What the user of a loader does with a batch is not the loader's"
    from mura_nb.data import view_dl
    with pytest.raises(MemoryError):
        for _ in view_dl(Dying(lambda: None), 2, workers=0, device='cpu'): raise MemoryError
    with pytest.raises(KeyError), writing('a.csv'): raise KeyError('errno')


def test_a_file_larger_than_is_allowed(tmp_path):
    "ulimit -f, as clusters set it"
    code = ('import resource; from mura_nb.core import write_atomic\n'
            'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
            'with write_atomic("a.csv") as tmp: tmp.write_text("x"*5000)')
    env = dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path))
    r = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert 'DiskFull: [Errno 27] a.csv: File too large; have the limit raised (ulimit -f)' in r.stderr, r.stderr
    assert not list(tmp_path.iterdir())
