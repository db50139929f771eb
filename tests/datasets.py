"""Made-up datasets in MURA's layout for tests: random pictures, nothing simulated."""
import shutil
from pathlib import Path
import numpy as np
from PIL import Image
from mura_nb.core import STUDY_TYPES

def write_picture(path, seed=0, size=(24, 20)):
    "A random grey PNG at `path`, (h, w) `size`"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)).save(path)
    return path

def write_lists(root, paths, prefix='MURA-v1.1/', header=('',''), eol='\n', tail='', splits=('train','valid')):
    "MURA's csv lists for image `paths`, in one of their published forms"
    for s in splits:
        images = [p for p in paths if p.startswith(s)]
        studies = list(dict.fromkeys(p.rsplit('/', 1)[0] for p in images))
        labels = [f"{prefix}{p}/,{int(p.endswith('_positive'))}{tail}" for p in studies]
        texts = dict(image_paths=[prefix+p+tail for p in images], labeled_studies=labels)
        for (kind,lines),h in zip(texts.items(), header):
            (Path(root)/f'{s}_{kind}.csv').write_bytes(eol.join([*([h] if h else []), *lines, '']).encode())

def study_paths(patients, seed=0, valid=.25):
    "Image paths of made-up patients: several types, studies and views; in train or in valid"
    rng,res = np.random.default_rng(seed),[]
    for p in range(1, patients+1):
        split = 'valid' if rng.random()<valid else 'train'
        for t in rng.choice(STUDY_TYPES, rng.choice([1,1,1,2]), replace=False):
            for k in range(1, rng.choice([2,2,2,3])):
                label = 'positive' if rng.random()<.4 else 'negative'
                study = f'{split}/XR_{t}/patient{p:05d}/study{k}_{label}'
                res += [f'{study}/image{i}.png' for i in range(1, rng.integers(2, 6))]
    return res

def make_dataset(root, patients=30, seed=0, size=(24, 20), **kw):
    "A small dataset with lists; returns its image paths"
    paths = study_paths(patients, seed)
    for i,p in enumerate(paths): write_picture(Path(root)/p, (seed, i), size)
    write_lists(root, paths, **kw)
    return paths

EDGES = { # folders as people have them that lack something -> studies that are planned, which of them are left
    'one type': (160, lambda plan: plan.study_type=='WRIST'),
    'one label in one type': (60, lambda plan: (plan.study_type!='HAND') | (plan.label==0)),
    'few studies': (28, lambda plan: plan.views>0)} # all of the fewest that are simulated

def make_edge_folder(path, lack, size=128):
    "Simulated radiographs in MURA's layout without their truth, of which one of `EDGES` is left"
    from mura_nb.phantom import plan_studies, write_dataset # here: only slow tests simulate
    studies,left = EDGES[lack]
    plan = plan_studies(studies, 78, .3)
    plan = plan[left(plan)].reset_index(drop=True)
    made = write_dataset(Path(path), plan, dict(simulated=True, seed=78, size=size, pairs=False), 1)
    shutil.rmtree(made/'truth')
    return made
