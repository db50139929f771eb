"""What the programs of this folder share: two ways timed in pairs within one process, and the row of the table.

Ours and the other way take turns, the order changing from pair to pair, so that a slow moment meets both; the ratio
is the median of the ratios within the pairs (the other's time by ours: above 1 is faster), its spread the
quartiles.

Each program answers one question (`python benchmarks/NAME.py`) and writes its rows to results/bench/bench.csv in
place of its earlier ones; run.py runs them all. MURA_BENCH=tiny makes everything small, for tests; MURA_BENCH_OUT
names another folder."""
import atexit, hashlib, os, platform, shutil, tempfile
from contextlib import contextmanager
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path

os.environ['MURA_NB_PROFILE'] = 'smoke'  # whichever make was called with: its settings are the starting point
os.environ.pop('MURA_NB_DATA', None)
os.environ.setdefault('TQDM_DISABLE', '1')
import joblib, numpy as np, pandas as pd
from mura_nb.core import timed, write_atomic

ROOT = Path(__file__).parents[1]
TINY = os.environ.get('MURA_BENCH') == 'tiny'
COLUMNS = ['program', 'question', 'unit', 'ours', 'beside', 'peer', 'ratio', 'low', 'high', 'pairs', 'wanted', 'count',
           'threads', 'machine', 'versions', 'date', 'key']
PACKAGES = 'torch', 'fastai', 'onnxruntime', 'openvino', 'scikit-learn', 'faiss-cpu', 'torchcam', 'grad-cam'


def small(full, tiny):
    "A size, or the one for tests"
    return tiny if TINY else full


def table_file():
    "Where the rows are"
    return Path(os.environ.get('MURA_BENCH_OUT') or ROOT/'results'/'bench')/'bench.csv'


def threads():
    "Of PyTorch: as many as processors, or what OMP_NUM_THREADS says"
    return int(os.environ.get('OMP_NUM_THREADS') or joblib.cpu_count())


def machine():
    "Name and number of the processors"
    info = Path('/proc/cpuinfo')
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} processors'


def key(program):
    "Changes with the package, the program, the machine and the versions: what a row was measured with"
    files = [*sorted((ROOT/'mura_nb').glob('*.py')), *sorted((ROOT/'benchmarks').glob('*.py')), ROOT/'settings.ini']
    about = [program, machine(), threads(), TINY, *map(version, PACKAGES)]
    return hashlib.sha256(b''.join(f.read_bytes() for f in files) + repr(about).encode()).hexdigest()[:12]


@cache
def radiographs(studies, size):
    "Simulated radiographs in MURA's layout, made once a process: the folder"
    from mura_nb.phantom import make_phantom
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, True)
    return make_phantom(Path(folder)/'data', studies, seed=1, size=size, workers=threads())


@contextmanager
def workplace():
    "A folder of its own with the project's settings, so that no cache or result of the project is touched"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT/'settings.ini', folder)
        before = os.getcwd()
        os.chdir(folder)
        try: yield Path(folder)
        finally: os.chdir(before)


def paired(ours, other, pairs=9, warmup=1):
    "Seconds (pairs, 2) of both, ours first in every other pair"
    pairs, warmup = small(pairs, 2), small(warmup, 0)
    for _ in range(warmup): ours(), other()
    out = np.empty((pairs, 2))
    for i in range(pairs):
        turn = [(0, ours), (1, other)]
        for k, call in turn if i % 2 == 0 else turn[::-1]: out[i, k] = timed(call)[1]
    return out


def row(question, times, beside, wanted=None, *, work=None, unit='s', count=None):
    """A row from `times` (pairs, 2); with `work`, the items of a call (ours, or (ours, theirs)), ours and theirs are
    items a second. `beside`: what the other way is; `wanted`: the ratio, at least; `count`: size of what was used"""
    work = (1, 1) if work is None else work if isinstance(work, tuple) else (work, work)
    ratio = (times[:, 1]/work[1])/(times[:, 0]/work[0])
    value = np.median(times, 0) if unit == 's' else np.array(work)/np.median(times, 0)
    low, middle, high = np.percentile(ratio, [25, 50, 75])
    return dict(question=question, unit=unit, ours=value[0], beside=beside, peer=value[1], ratio=middle, low=low,
                high=high, pairs=len(times), wanted=wanted, count=count)


def plain_row(question, value, beside, bound, wanted=None, *, unit, count=None):
    "A row of something measured once, such as memory, beside a bound below which it should stay"
    ratio = bound/value
    return dict(question=question, unit=unit, ours=value, beside=beside, peer=bound, ratio=ratio, low=ratio, high=ratio,
                pairs=1, wanted=wanted, count=count)


def read_table():
    "All rows so far"
    return pd.read_csv(table_file()) if table_file().is_file() else pd.DataFrame(columns=COLUMNS)


def save(program, rows):
    "Put the rows of a program in place of its earlier ones, and print them"
    about = dict(program=program, threads=threads(), machine=machine(), date=date.today().isoformat(), key=key(program),
                 versions=', '.join(f'{p} {version(p)}' for p in PACKAGES))
    new = pd.DataFrame([r | about for r in rows])[COLUMNS]
    old = read_table()
    kept = old[old.program != program]
    both = pd.concat([kept, new], ignore_index=True) if len(kept) else new
    with write_atomic(table_file()) as tmp: both.to_csv(tmp, index=False, float_format='%.6g')
    for r in rows:
        met = '' if r['wanted'] is None else f", wanted {r['wanted']}" + ', not met'*bool(r['ratio'] < r['wanted'])
        print(f"{program}: {r['question']}: {r['ours']:.4g} {r['unit']} beside {r['peer']:.4g} ({r['beside']}): "
              f"{r['ratio']:.2f} [{r['low']:.2f}, {r['high']:.2f}] in {r['pairs']} pairs{met}")
