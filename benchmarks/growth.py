"""How do time and memory grow with the number of images: 1, 3 and 10 times MURA's 40,005?

Pictures of 32 px that stand for larger ones: the number of files is asked about here, not their pixels. A few files
have many names, so that no time is spent on making them. A tiny network makes the codes. Each size runs in a
process of its own, whose highest memory is noted. Beside each time stands that of MURA's size in proportion: a
ratio near 1 says that the time grows with the number and not faster.

growth10.py measures ten times MURA's size, which takes minutes."""
import json, os, resource, subprocess, sys
from pathlib import Path
from bench import ROOT, TINY, plain_row, save, small, workplace
import numpy as np, pandas as pd
from PIL import Image

MURA, SIDE, VIEWS = small(40_005, 60), 32, 3
STEPS = dict(index='reading the lists', store='reading the files', again='reading the store again',
    encode='codes of all images', search='one exact search')


def make_dataset(root, n):
    "MURA's layout with n names of some files"
    from mura_nb.core import STUDY_TYPES
    rng, kinds = np.random.default_rng(0), []
    for i in range(64):
        kinds.append(file := root/f'{i}.png')
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), np.uint8)).save(file)
    paths = []
    for study in range(-(-n//VIEWS)):
        kind, label = STUDY_TYPES[study % 7], ('negative', 'positive')[study % 2]
        folder = f'MURA-v1.1/train/XR_{kind}/patient{study:07d}/study1_{label}'
        (root/folder).mkdir(parents=True)
        for k in range(VIEWS): paths.append(f'{folder}/image{k + 1}.png')
    for i, path in enumerate(paths[:n]): os.link(kinds[i % 64], root/path)
    studies = {p.rpartition('/')[0] + '/': int('positive' in p) for p in paths[:n]}
    pd.DataFrame(paths[:n]).to_csv(root/'MURA-v1.1'/'train_image_paths.csv', header=False, index=False)
    pd.DataFrame(studies.items()).to_csv(root/'MURA-v1.1'/'train_labeled_studies.csv', header=False, index=False)


def network():
    "A tiny network as an encoder"
    from mura_nb.core import seed_everything
    from mura_nb.settings import settings
    from mura_nb.database import Encoder
    from mura_nb.networks import SingleLogit
    from dataclasses import replace
    s = settings()
    seed_everything(0)
    recipe = replace(s.recipe(s.baseline), backbone='timm:test_resnet', resize=SIDE, crop=SIDE, name='tiny')
    return Encoder(SingleLogit(recipe.backbone, 'none'), recipe)


def steps(root):
    "Seconds of each step in the folder, and the highest memory, GiB"
    import torch
    from bench import threads
    from mura_nb.core import time_calls, timed
    from mura_nb.data import image_store, mura_index
    from mura_nb.database import encode
    torch.set_num_threads(threads())
    encoder, found, kept = network(), {}, {}
    def measured(name, f): kept[name], found[name] = timed(f)
    measured('index', lambda: mura_index(root/'MURA-v1.1', 'train'))
    few = kept['index'][:64]  # what is imported and prepared once belongs to no step
    encode(few, image_store(few, folder=root/'few'), encoder, root/'few.hdf5', batch_size=256)
    for name in ('store', 'again'): measured(name, lambda: image_store(kept['index'], folder=root/'store'))
    measured('encode', lambda: encode(kept['index'], kept['store'], encoder, root/'codes.hdf5', batch_size=256))
    db = kept['encode']
    query = db.codes(slice(0, 1))[0]
    def search(): return db.nearest(query, 5, index='exact')
    found['search'] = time_calls(dict(one=search), repeat=21).one.median()
    found['memory'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024**2  # kB on Linux
    files = [f for f in [*(root/'store').rglob('*'), root/'codes.hdf5'] if f.is_file()]
    found['disk'] = sum(f.stat().st_size for f in files)/1024**3
    return found


def measured(times):
    "The steps at so many times MURA's size, in a process of its own"
    with workplace() as root:
        make_dataset(root, times*MURA)
        if TINY: return steps(root)
        command = [sys.executable, str(Path(__file__)), '--steps', str(root)]
        env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
        done = subprocess.run(command, env=env, cwd=root, check=True, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])


def rows_of(times, found, one):
    "Rows of a size, beside MURA's size in proportion"
    n, words = times*MURA, f"{times} times what MURA's size takes"
    units = dict.fromkeys(STEPS, 's') | dict(memory='GiB', disk='GiB')
    return [plain_row(f'growth: {STEPS.get(k, k)}', found[k], words, one[k]*times, .8 if times > 1 else None, unit=unit,
        count=n) for k, unit in units.items()]


def main(sizes=(1, 3), program='growth'):
    one = measured(1)
    save(program, [r for k in small(sizes, (1,)) for r in rows_of(k, one if k == 1 else measured(k), one)])


if __name__ == '__main__':
    if sys.argv[1:2] == ['--steps']: print(json.dumps(steps(Path(sys.argv[2]))))
    else: main()
