"""What is written on a disk that becomes full, on one that may only be read, and without file handles.

python small_disk.py FULL READ_ONLY, two folders; prints as JSON what each case said and what it left."""
import errno, json, os, resource, shutil, signal, sys
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from mura_nb.results import load_table, load_weights, save_model, save_table
from mura_nb.database import Database, add_rows, create_database
from mura_nb.images import ImageStore
from mura_nb.phantom import plan_studies, write_dataset

FULL, READ_ONLY = map(Path, sys.argv[1:])
CARD = dict(seed=0, size=64, pairs=False)
PICTURES = [f'{i}.png' for i in range(12)]


def fill(left):
    "Leave `left` bytes of the small disk"
    (FULL/'filler').unlink(missing_ok=True)
    (FULL/'filler').write_bytes(b'x'*max(0, shutil.disk_usage(FULL).free - left))


def rows(n, first=0):
    paths = [f'image{i+first}.png' for i in range(n)]
    return pd.DataFrame(dict(path=paths, study_type='WRIST', label=0, patient='patient00001', study='a'))


def write_study(row, seed, size, pairs, root, vary):
    "In place of a simulation: a file of 20 kB"
    done = root/'rows'/f'{row.Index:06d}.json'
    if done.exists(): return row.views
    (root/f'{row.Index}.bin').write_bytes(bytes(20_000))
    done.parent.mkdir(exist_ok=True)
    done.write_text(json.dumps(dict(boxes=[], images=[], sizes=None)))
    return row.views


def ended_study(*args):
    "As Linux ends the largest process when memory runs out"
    os.kill(os.getpid(), signal.SIGKILL)


def pictures(folder):
    folder.mkdir()
    for i, p in enumerate(PICTURES): Image.fromarray(np.full((60, 60), i, np.uint8)).save(folder/p)
    return folder


SAID = {}


def case(name, write):
    "Write, note the error, and the files under temporary names"
    try:
        write()
        SAID[name] = ['nothing', '']
    except Exception as e:
        words = str(e).replace(str(FULL), 'FULL').replace(str(READ_ONLY), 'RO')
        SAID[name] = [type(e).__name__, words]
    hidden = [f for f in FULL.rglob('.*') if f.is_file() and f.suffix != '.lock']
    left = [str(f.relative_to(FULL)) for f in hidden if '.partial' not in str(f)]
    SAID[name].append(left)


def kept(name, value): SAID[name].append(value)


def full_disk(plan, source):
    net, larger = (__import__('torch').nn.Linear(n, n) for n in (4, 300))
    save_table(pd.DataFrame(dict(a=[1])), 't', FULL)
    save_model(net, dict(architecture='small'), FULL/'model')
    create_database(FULL/'db.hdf5', 8, dict(recipe='r', backbone='b', weights='w', preprocessing='p'))
    add_rows(FULL/'db.hdf5', np.ones((20, 8)), rows(20))
    fill(100_000)
    case('table', lambda: save_table(pd.DataFrame(dict(a=np.arange(30_000.))), 't', FULL))
    kept('table', load_table('t', FULL).a.tolist())
    case('array', save_array)
    case('model', lambda: save_model(larger, dict(architecture='large'), FULL/'model'))
    kept('model', load_weights(FULL/'model')[0]['architecture'])
    for left in (450_000, 650_000, 800_000): # for the copy, hardly for the rows, hardly not
        fill(left)
        case(f'database {left}', lambda: add_rows(FULL/'db.hdf5', np.ones((2000, 8)), rows(2000, 20)))
        kept(f'database {left}', [len(Database(FULL/'db.hdf5')), float(Database(FULL/'db.hdf5').codes().sum())])
    fill(0)
    case('new database', lambda: create_database(FULL/'new.hdf5', 8, {}))
    fill(20_000)
    case('store', lambda: ImageStore(source, PICTURES, FULL/'store', 1))
    fill(300_000)
    case('simulation', lambda: write_dataset(FULL/'data', plan, CARD, 1, write_study))
    (FULL/'filler').unlink()
    store = ImageStore(source, PICTURES, FULL/'store', 1)
    kept('store', [int(store[p][0, 0]) for p in PICTURES])
    kept('simulation', len(list((FULL/'.data.partial').glob('*.bin'))))
    case('ended process', lambda: write_dataset(FULL/'data', plan, CARD, 2, ended_study))
    write_dataset(FULL/'data', plan, CARD, 1, write_study)
    kept('simulation', len(list((FULL/'data').glob('*.bin'))))


def save_array():
    from mura_nb.core import write_atomic
    with write_atomic(FULL/'a.npy') as tmp: np.save(tmp, np.arange(100_000))


def read_only(plan, source):
    case('read-only table', lambda: save_table(pd.DataFrame(dict(a=[1])), 't', READ_ONLY))
    case('read-only database', lambda: create_database(READ_ONLY/'new.hdf5', 8, {}))
    case('read-only store', lambda: ImageStore(source, PICTURES, READ_ONLY/'store', 1))
    case('read-only simulation', lambda: write_dataset(READ_ONLY/'data', plan, CARD, 1, write_study))


def no_handles(source):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    held = []
    def hold():
        try:
            while True: held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError as e: assert e.errno == errno.EMFILE
    def store(left):
        hold()
        for _ in range(left): os.close(held.pop())
        return ImageStore(source, PICTURES, FULL/'other', 1)
    def without(name, write):
        hold()
        try: write()
        except Exception as e: SAID[name] = [type(e).__name__, str(e), []]
        for f in held: os.close(f)
        held.clear()
    without('no handle for a table', lambda: save_table(pd.DataFrame(dict(a=[2])), 't', FULL))
    for left in (0, 2, 3): without(f'{left} handles for the store', lambda left=left: store(left))
    kept('2 handles for the store', len(ImageStore(source, PICTURES, FULL/'other', 1)))
    without('no handle for a database', lambda: Database(FULL/'db.hdf5'))


def main():
    plan, source = plan_studies(28), pictures(FULL/'pictures')
    full_disk(plan, source)
    read_only(plan, source)
    no_handles(source)
    print(json.dumps(SAID))


if __name__ == '__main__': main()
