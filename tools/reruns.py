"""make reruns: is the same seed the same numbers? Two tables in results/reruns/tables, shown by nbs/16b_reruns.ipynb.

twice.csv: the chapters below run twice from nothing in a copy of the tree, profile smoke, and every file is compared.
processors.csv: fixed pictures and networks under other kernels (chosen by environment) and other versions of Pillow.
CHAPTERS="01_phantom 02_data" runs these alone; --only twice or --only processors makes one of the tables."""
import argparse, os, platform, shutil, subprocess, sys, tempfile
from importlib.metadata import version
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from mura_nb.results import ModelFiles, save_table
from mura_nb.reruns import KERNELS, ONE, PILLOWS, compare_probes, compare_runs, probe, probe_pictures
from mura_nb.shipped import shipped_file
from check import copied
from runner import ROOT, chapters

OUT = ROOT/'results'/'reruns'
CHAPTERS = '01_phantom 02_data 04_baselines 05_fusenet 06_ensemble 07_gradcam 08_retrieval 11_findings'
PACKAGES = 'torch', 'numpy', 'pillow'

def machine():
    "What the numbers were made on, in words"
    packages = [f'{p} {version(p)}' for p in PACKAGES]
    return ', '.join([platform.machine(), f'Python {platform.python_version()}', *packages])

def in_child(mode, *args, cwd=ROOT, **env):
    "This program in a process of its own, where kernels are chosen anew"
    path = os.pathsep.join(filter(None, (env.pop('first', ''), str(cwd))))
    env = os.environ | dict(PYTHONPATH=path, MURA_NB_PROFILE='smoke', MURA_NB_DATA='') | env
    subprocess.run([sys.executable, 'tools/reruns.py', mode, *map(str, args)], cwd=cwd, env=env, check=True)

def run_chapters(stems):
    "Run these chapters as make report does"
    import report
    from mura_nb.settings import settings
    files = [f for f in chapters() if f.stem in stems.split()]
    s = settings()
    errors = report.run_chapters(s, ROOT/'_build'/s.profile, ['slow'], report.Watch(), files)[1]
    sys.exit(bool(errors))

def twice(stems):
    "twice.csv"
    with tempfile.TemporaryDirectory() as kept, copied() as d:
        runs = [Path(kept)/'first', Path(kept)/'second']
        for run in runs:
            in_child('--run', stems, cwd=d)
            shutil.move(d/'results'/'smoke', run)
            for made in ('.cache', 'data', '_build'): shutil.rmtree(d/made, ignore_errors=True)
        t = compare_runs(*runs)
    save_table(t.assign(chapters=', '.join(stems.split()), machine=machine()), 'twice', OUT)

def write_probe(folder, out, *models):
    "What `probe` gives in this process, as a file"
    import torch
    from threadpoolctl import threadpool_info
    torch.set_num_threads(int(os.environ['OMP_NUM_THREADS']))
    blas = next((t['architecture'] for t in threadpool_info() if t['internal_api'] == 'openblas'), '')
    kernels = f"PyTorch {torch.backends.cpu.get_cpu_capability()}, OpenBLAS {blas}, Pillow {version('pillow')}"
    files = sorted(Path(folder).glob('*.*'))
    np.savez(out, kernels=kernels, **probe(files, dict(m.split('=') for m in models)))

def with_pillow(number, folder):
    "A folder with another version of Pillow, None where it cannot be had"
    uv = shutil.which('uv')
    install = [uv, 'pip', 'install', '--quiet'] if uv else [sys.executable, '-m', 'pip', 'install', '--quiet']
    r = subprocess.run([*install, '--no-deps', '--target', str(folder), f'pillow=={number}'])
    return folder if r.returncode == 0 else None

def processors():
    "processors.csv"
    models, own = {'shipped network': shipped_file()}, ModelFiles('lite0_smoke', ROOT/'results'/'smoke').model
    if own.is_file(): models['network of profile smoke'] = own
    models = [f'{k}={m}' for k, m in models.items()]
    with tempfile.TemporaryDirectory() as d:
        pictures = Path(d)/'pictures'
        pictures.mkdir()
        for i, p in enumerate(probe_pictures()):
            for kind in ('png', 'jpg'): Image.fromarray(p).save(pictures/f'{i}.{kind}')
        settings = {'as it is': ONE, 'the same again': ONE, **KERNELS}
        for number in PILLOWS:
            folder = with_pillow(number, Path(d)/number)
            if folder: settings[f'Pillow {number}'] = ONE | dict(first=str(folder))
        made = {}
        for i, (name, env) in enumerate(settings.items()):
            in_child('--probe', pictures, Path(d)/f'{i}.npz', *models, **env)
            with np.load(Path(d)/f'{i}.npz') as f: made[name] = dict(f)
            print(name, made[name]['kernels'], flush=True)
    base = made.pop('as it is')
    said = str(base.pop('kernels'))
    rows = []
    for name, other in made.items():
        kernels = str(other.pop('kernels'))
        rows.append(compare_probes(base, other).assign(setting=name, kernels=kernels))
    t = pd.concat(rows, ignore_index=True).assign(base=f'{said}, one thread', machine=machine())
    save_table(t, 'processors', OUT)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--only', choices=('twice', 'processors'), help='make one of the two tables')
    p.add_argument('--run', help=argparse.SUPPRESS)
    p.add_argument('--probe', nargs='+', help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.run: run_chapters(a.run)
    elif a.probe: write_probe(*a.probe)
    else:
        if a.only != 'processors': twice(os.environ.get('CHAPTERS') or CHAPTERS)
        if a.only != 'twice': processors()

if __name__ == '__main__': main()
