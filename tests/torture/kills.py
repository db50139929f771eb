"""Killed anywhere: does the next run end as an unbroken one, and is a half file ever taken for a whole one?

Each step of a tiny study runs in a forked process that is killed (SIGKILL): half of the times at a moment by the clock,
half at a write, with the file not yet opened, still empty, half written, or just renamed. Then what lies there is read,
and the step runs again, killed once more in one case of three. In the end all is compared with an unbroken run."""

import builtins, hashlib, io, json, os, random, re, shutil, signal, sys, tempfile, threading, time
from pathlib import Path
import numpy as np, pandas as pd
from . import ROOT, TABLES, child, ended, summary

SETTINGS = '''[profile smoke]
studies = 28
valid_frac = 0.3
size = 64
seed = 0
resize = 72
crop = 64
tune_frac = 0.25
n_boot = 10
workers = 0
recipes = tiny
baseline = tiny
local = part
fusenet = fused
look_local = look_part
look = look
ensemble = tiny
sweep = tiny
repeats = tiny
look_repeats = tiny
starts = tiny
crops = tiny
precisions = tiny
backbones = tiny
alignment = tiny
poolings = tiny
rivals = tiny

[recipe tiny]
backbone = timm:test_efficientnet
weights = none
batch_size = 16
lr = 1e-3
epochs = 3
patience = 1
fit = stretch
random_crop = true
flip = true
rotate = 10
precision = single
seed = 0

[recipe part]
like = tiny
epochs = 2
heatmap = cam
pixels = input

[recipe fused]
like = part

[recipe look]
like = tiny
looks = 2
look_area = 0.12
pixels = file

[recipe look_part]
like = look
'''
STEPS = ('simulate', 'store', 'train', 'fuse', 'encode', 'append', 'report')
VOLATILE = ['seconds', 'images_per_s', 'minutes', 'first', 'again']
LONGEST = 900  # seconds of a step


# -- the steps ---------------------------------------------------------------------------------------------------------


def simulate():
    from mura_nb.settings import settings
    from mura_nb.phantom import make_phantom

    s = settings()
    make_phantom(s.data, s.studies, s.seed, valid_frac=s.valid_frac, size=s.size, workers=1)


def store():
    from mura_nb.data import load_data

    return load_data()


def train():
    from mura_nb.baselines import train_recipes

    train_recipes()


def fuse():
    from mura_nb.fusenet import train_profile

    train_profile()


def encode():
    from mura_nb.database import encode

    df, pixels, _ = store()
    encode(df[df.split == 'train'], pixels, batch_size=8)


def append():
    from mura_nb.database import Database, encode_more

    df, pixels, _ = store()
    encode_more(df, pixels, Database(), batch_size=8)


CHAPTERS = dict(
    first='''from torture.kills import simulate, store
from mura_nb.results import load_table, save_figure, save_headline, save_table
from mura_nb.data import counts
simulate()
save_table(counts(store().df), 'counts')''',
    second='''from torture.kills import train
train()
load_table('history_tiny')[['epoch', 'tune_loss']]''',
    third='''from torture.kills import encode
from mura_nb.settings import settings
from mura_nb.database import Database
import matplotlib.pyplot as plt
encode()
fig, ax = plt.subplots(figsize=(2, 2))
ax.plot(Database().codes(slice(0, 3)).T)
save_figure(fig, 'codes')
save_headline('codes', len(Database()))
Database().rows().path.tolist()[:3]''',
)


def report():
    "tools/report.py with chapters of its own, whose kernels are forked from this process"
    import asyncio, kernels, multiprocessing, report as R
    from mura_nb.settings import settings
    from nbformat.v4 import new_code_cell, new_notebook
    import nbformat

    kernels.server, be_kernel = lambda *more: multiprocessing.get_context('fork'), kernels.be_kernel

    def without_loop(*args):
        asyncio.events._set_running_loop(None)  # that of the process it was forked from
        asyncio.set_event_loop(None)
        be_kernel(*args)

    kernels.be_kernel = without_loop
    os.environ['PYTHONPATH'] = os.pathsep.join((str(ROOT), str(ROOT / 'tests')))
    Path('nbs').mkdir(exist_ok=True)
    files = [Path('nbs').resolve() / f'0{i}_{name}.ipynb' for i, name in enumerate(CHAPTERS, 1)]
    for file, text in zip(files, CHAPTERS.values()):
        if not file.exists():
            nbformat.write(new_notebook(cells=[new_code_cell(text)]), file)
    s = settings()
    _, errors = R.run_chapters(s, s.root / '_build' / s.profile, ['slow'], R.Watch(), files)
    if errors:
        sys.exit(3)


# -- killing -----------------------------------------------------------------------------------------------------------


class Killer:
    "Notes every write below a folder, and kills this process at one of them: (what, which of its kind, how)"

    def __init__(self, folder, plan=None):
        self.folder, self.plan, self.counts = str(folder), plan, {}
        self.log = os.open(folder.parent / 'events', os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def what(self, kind, path):
        path = os.path.relpath(os.path.abspath(os.fspath(path)), self.folder)
        path = re.sub('(XR_[A-Z]+|patient[0-9]+|study[0-9]_[a-z]+)/', '', path)  # all radiographs are one kind of file
        return f"{kind} {re.sub('[0-9]+', '0', re.sub('-[a-z0-9_]{8}(?=[.]|$)|[0-9a-f]{12,}', '-x', path))}"

    def now(self, kind, path, ways, dir_fd=None):
        "The way to be killed at this write, None for none"
        if isinstance(path, int) or dir_fd is None and not os.path.abspath(os.fspath(path)).startswith(self.folder):
            return None
        what = self.what(kind, path)
        n = self.counts[what] = self.counts.get(what, 0) + 1
        os.write(self.log, f'{what}\t{n}\t{" ".join(ways)}\n'.encode())
        return self.plan[2] if self.plan and self.plan[:2] == (what, n) else None

    def around(self, kind, call, ways=('before', 'after')):
        "A function of a path, before or after which the process is killed"

        def called(path, *args, **kw):
            way = self.now(kind, path, ways, kw.get('dir_fd'))
            if way == 'before':
                die()
            result = call(path, *args, **kw)
            if way == 'after':
                die()
            return result

        return called

    def opened(self, call):
        "`open`, whose file may be left empty or half"

        def opening(file, mode='r', *args, **kw):
            way = self.now('open', file, ('before', 'empty', 'half')) if set(mode) & set('wax+') else None
            if way == 'before':
                die()
            f = call(file, mode, *args, **kw)
            if way == 'empty':
                die()
            if way == 'half':

                def close():
                    f.flush()
                    os.truncate(file, os.path.getsize(file) // 2)
                    die()

                f.close = close
            return f

        return opening

    def start(self):
        import h5py

        builtins.open = io.open = self.opened(builtins.open)
        for name in ('replace', 'rename', 'unlink', 'remove', 'rmdir', 'mkdir'):
            setattr(os, name, self.around(name, getattr(os, name)))
        for cls, name in (
            (h5py.Dataset, 'resize'),
            (h5py.Dataset, '__setitem__'),
            (h5py.AttributeManager, '__setitem__'),
        ):
            setattr(cls, name, self.in_hdf5(f'h5 {cls.__name__} {name}', getattr(cls, name)))

    def in_hdf5(self, kind, call):
        "A method of an HDF5 object, around which the process is killed, with what went before written or not"
        import h5py

        def changed(this, *args, **kw):
            ident = getattr(this, '_id', None) or this.id
            way = self.now(kind, os.fsdecode(h5py.h5f.get_name(ident)), ('unwritten', 'before', 'after'))
            if way == 'unwritten':
                die()
            if way == 'after':
                call(this, *args, **kw)
            if way:
                h5py.h5f.flush(h5py.h5i.get_file_id(ident))
            if way:
                die()
            return call(this, *args, **kw)

        return changed


def die():
    os.killpg(0, signal.SIGKILL)


def run(folder, step, plan):
    "A step in this process, killed as planned: ('clock', seconds), or at a write"
    os.chdir(folder)
    if plan and plan[0] == 'clock':
        threading.Timer(plan[1], die).start()
    Killer(folder, plan if plan and plan[0] != 'clock' else None).start()
    globals()[step]()


# -- what lies there ---------------------------------------------------------------------------------------------------


def digest(*parts):
    h = hashlib.sha256()
    for p in parts:
        h.update(p if isinstance(p, bytes) else repr(p).encode())
    return h.hexdigest()[:16]


def of_model(file):
    "Tensors, and the card without what depends on the clock"
    from mura_nb.results import load_weights

    card, tensors = load_weights(file)
    card = json.loads(json.dumps(card))
    card.get('metrics', {}).pop('seconds', None)
    return digest(*(x for k, v in sorted(tensors.items()) for x in (k, v.numpy().tobytes()))), digest(
        json.dumps(card, sort_keys=True)
    )


def of_database(file):
    from mura_nb.database import Database

    db = Database(file)
    return digest(
        db.codes().tobytes(), db.rows().to_csv(), sorted((k, str(v)) for k, v in db.card.items() if k != 'made')
    )


def of_table(file):
    t = pd.read_csv(file)
    return digest(t.drop(columns=[c for c in VOLATILE if c in t]).to_csv())


def of_store(file):
    "The hash of each picture, as the index says and as the pixels are"
    from mura_nb.images import _hash_bytes

    head = file.open().readline().split()
    data, t = (file.parent / head[4]).read_bytes(), pd.read_csv(file, skiprows=1, index_col='path', dtype=str)
    for r in t.itertuples():
        h, w, at = int(r.h), int(r.w), int(r.offset)
        if _hash_bytes(data[at : at + h * w] + repr((h, w)).encode()) != r.pixels:
            raise ValueError(f'{r.Index}: other pixels')
    return dict(t.pixels)


def of_notebook(file):
    import nbformat

    outputs = [o for c in nbformat.read(file, 4).cells for o in c.get('outputs', [])]
    return digest(*(o.get('data', {}).get('text/plain', '') for o in outputs))


def contents(folder):
    "Name -> what a file says, of all that is not hidden"
    found = {}
    for file in sorted(f for f in folder.rglob('*') if f.is_file()):
        name = file.relative_to(folder).as_posix()
        if any(p.startswith('.') and p != '.cache' for p in file.relative_to(folder).parts):
            continue
        if re.search(
            r'\.(best|state)\.safetensors$|/lock$|\.lock$|^nbs/|settings.ini|report_minutes|pixels-\w+\.bin$', name
        ):
            continue
        if name.startswith('data/'):
            found[name] = digest(file.read_bytes())
        elif name.endswith('.safetensors'):
            found[name], found[name + ' card'] = of_model(file)
        elif name.endswith('.hdf5'):
            found[name] = of_database(file)
        elif name.endswith('index.csv'):
            found |= {f'{name} {k}': v for k, v in of_store(file).items()}
        elif name.endswith('.csv'):
            found[name] = of_table(file)
        elif name.endswith('.ipynb'):
            found[name] = of_notebook(file)
        elif name.endswith('minutes.json'):
            found[name] = sorted(json.loads(file.read_text()))
        elif name.endswith(('.npz', '.npy')):
            arrays = np.load(file)
            found[name] = digest(
                *((k, arrays[k].tobytes()) for k in arrays.files) if file.suffix == '.npz' else [arrays.tobytes()]
            )
        elif name.endswith('.json') and not file.with_suffix('.safetensors').exists():
            found[name] = 'card without weights'
        elif not name.endswith('.json'):
            found[name] = digest(file.read_bytes())
    return found


BETWEEN = re.compile(r'tables/history_| card$|\.json$|_build/|headline')  # whole at every moment, but with less in it


def half(found, before, after):
    "Names of what is neither as before nor as after the step"
    return [k for k, v in found.items() if not BETWEEN.search(k) and v not in (before.get(k), after.get(k))]


# -- the trial ---------------------------------------------------------------------------------------------------------


class Trial:
    "One step: its state before, and what an unbroken run leaves"

    def __init__(self, step, base):
        self.step, self.base, self.folder, self.log = step, base, base / 'work', base / 'log'
        self.start = base / f'before-{step}'
        shutil.copytree(self.folder, self.start)
        (base / 'events').unlink(missing_ok=True)
        self.before, begin = contents(self.folder), time.time()
        how = self.go(None)
        if how != 0:
            raise RuntimeError(f'{step} unbroken ended with {how}: {self.log.read_text()[-2000:]}')
        self.seconds, self.after = time.time() - begin, contents(self.folder)
        self.events = {}
        for line in (base / 'events').read_text().splitlines():
            self.events.setdefault(line.split('\t')[0], []).append(line.split('\t')[1:])

    def go(self, plan):
        self.log.unlink(missing_ok=True)
        return ended(child(run, self.folder, self.step, plan, log=self.log), LONGEST)

    def plan(self, rng):
        if not self.events or rng.random() < 0.5:
            return 'clock', rng.uniform(0, self.seconds)
        what = rng.choice(sorted(self.events))
        n, ways = rng.choice(self.events[what])
        return what, int(n), rng.choice(ways.split())

    def once(self, rng):
        "Rows of one trial: a row a kill, and how it went on"
        self.reset()
        rows = []
        while not rows or rng.random() < 1 / 3:
            plan = self.plan(rng)
            how = self.go(plan)
            killed = how == -9 or (how, self.step) == (3, 'report')  # a report says so of a kernel that was killed
            fault = '' if how == 0 else self.look() if killed else f'ended with {how}, not by the kill'
            rows.append(dict(step=self.step, at=' '.join(map(str, plan)), ended=how, fault=fault))
            if how == 0:
                break
        how = self.go(None)
        if how != 0:
            fault = f'the next run ended with {how}: ' + ' '.join(self.log.read_text(errors='replace').split())[-300:]
        else:
            fault = self.look(final=True)
        rows[-1]['fault'] = rows[-1]['fault'] or fault
        return rows

    def look(self, final=False):
        "What is wrong with what lies there, '' for nothing"
        try:
            found = contents(self.folder)
        except Exception as e:
            return f'cannot be read: {type(e).__name__}: {e}'[:300]
        if not final:
            return ', '.join(half(found, self.before, self.after))[:300]
        return ', '.join(k for k in found.keys() | self.after.keys() if found.get(k) != self.after.get(k))[:300]

    def reset(self):
        shutil.rmtree(self.folder)
        shutil.copytree(self.start, self.folder)


def warm():
    "Import once, for all forked processes, what the steps need"
    import logging
    import mura_nb.baselines, mura_nb.fusenet, mura_nb.database, mura_nb.phantom, mura_nb.skeleton  # noqa: F401
    import kernels, report, ipykernel.kernelapp, matplotlib.pyplot, timm, h5py  # noqa: F401

    logging.getLogger().setLevel(logging.ERROR)
    from mura_nb.phantom import example_study

    example_study('WRIST', size=64)  # compiles the rays and reads the bones


def main(tried=None, seed=None, steps=STEPS):
    "At least `tried` kills, as many in each step; the first steps only where these are fewer than all"
    tried, seed = tried or 56, 0 if seed is None else seed
    steps = steps[:tried]
    sys.path.insert(0, str(ROOT / 'tests'))
    warm()
    rng, rows = random.Random(seed), []
    with tempfile.TemporaryDirectory(prefix='kills-') as folder:
        base = Path(folder).resolve()
        (base / 'work').mkdir()
        (base / 'work' / 'settings.ini').write_text(SETTINGS)
        for step in steps:
            if step == 'report':
                shutil.rmtree(base / 'work')
                (base / 'work').mkdir()
                (base / 'work' / 'settings.ini').write_text(SETTINGS)
            trial, mine = Trial(step, base), []
            while sum(r['ended'] != 0 for r in mine) < -(-tried // len(steps)):
                mine += (new := trial.once(rng))
                for r in new:
                    print(r['step'], r['at'], '->', r['ended'], r['fault'] or 'fine', flush=True)
            trial.reset()
            trial.go(None)
            rows += mine
    killed = [r for r in rows if r['ended'] != 0]
    parts = [(s, [r for r in killed if r['step'] == s]) for s in steps]
    TABLES.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(TABLES / 'kills_drawn.csv', index=False)
    summary('kills', [(s, len(part), sum(not r['fault'] for r in part)) for s, part in parts], seed)
    return not any(r['fault'] for r in rows)
