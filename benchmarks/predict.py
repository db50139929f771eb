"""How many pictures a second does each engine look at, beside PyTorch?

Networks of random weights at side 224: PyTorch's eager forward pass in evaluation mode, under inference_mode, in
the project's channels-last layout, gets a normalised batch ready-made; the engines get 8-bit views and normalise
them. "fastest" is what `load_engine` takes by itself on this processor. In bfloat16 as many first layers stay in
single precision as exactness asks for; a trained network can need more of them than a random one.

    .venv/bin/python benchmarks/predict.py --table

also measures ResNet-50 and DenseNet-169 (minutes) and writes tables/benchmark_engines.csv of profile demo, from
where the serving room shows it."""
import os, sys
from dataclasses import replace
from bench import TINY, machine, paired, row, save, small, threads
import numpy as np, pandas as pd, torch
from mura_nb.core import seed_everything
from mura_nb.settings import settings, settings_file
from mura_nb.results import save_table
from mura_nb.networks import SingleLogit
from mura_nb.exported import probe_views
from mura_nb.engines import has_bf16
from mura_nb.serving import eager, load_engine

NETWORKS = {'EfficientNet-Lite0': 'timm:tf_efficientnet_lite0', 'ResNet-50': 'torchvision:resnet50',
            'DenseNet-169': 'torchvision:densenet169'}
SIDE = small(224, 64)
WANTED = {('default, single', 1): 1.4, ('default, single', 16): 1.25, ('default, bf16', 16): 2.5}


def network(backbone):
    "Random weights with a card"
    s = settings()
    seed_everything(0)
    recipe = replace(s.recipe(s.baseline), name='random', backbone=backbone, crop=SIDE, resize=max(SIDE, 256))
    return SingleLogit(backbone).eval(), dict(architecture='single_logit', recipe=recipe.card())


def engines(net):
    "Every engine and precision that can be had"
    asked = {'default, single': {}, 'ONNX Runtime, single': dict(engine='onnx')}
    if has_bf16() and not TINY: asked['default, bf16'] = dict(precision='bf16')
    return {k: load_engine(net, **v) for k, v in asked.items()}


def measured(name, net, pairs):
    "Each engine beside PyTorch, at both batch sizes: (network, way, engine, batch, times)"
    plain, ways = load_engine(net, 'torch'), engines(net)
    for batch in (1, 16):
        v = np.resize(probe_views(SIDE), (batch, SIDE, SIDE))
        for way, engine in ways.items():
            yield name, way, engine, batch, paired(lambda e=engine, v=v: e.outputs(v), eager(plain, v), pairs)


def bench_row(name, way, engine, batch, times):
    "A row of the common table"
    words = f"{name}, {engine.words}{' (fastest)' if way.startswith('default') else ''}, batch {batch}"
    return row(f'prediction: {words}', times, 'PyTorch, eager, single precision', WANTED.get((way, batch)), work=batch,
        unit='images/s', count=SIDE)


def chapter_rows(name, way, engine, batch, times, load):
    "A row of the serving room's table"
    about = dict(network=name, batch=batch, side=SIDE, turns=len(times), load=load, threads=threads(),
        processor=machine())
    ours, theirs = np.median(times, 0)
    return dict(way=way, engine=engine.words, single_share=getattr(engine.run, 'share', 0), images_per_s=batch/ours,
        times=np.median(times[:, 1]/times[:, 0]), best=times[:, 1].min()/times[:, 0].min(), **about), theirs


def chapter_table(found, load):
    "The table with a row for PyTorch before the engines of a network and batch size"
    rows = []
    for name, way, engine, batch, times in found:
        r, theirs = chapter_rows(name, way, engine, batch, times, load)
        if way == 'default, single':
            rows.append(r | dict(way='PyTorch, single', engine=f'PyTorch {torch.__version__}, single precision',
                single_share=0, images_per_s=batch/theirs, times=1., best=1.))
        rows.append(r)
    return pd.DataFrame(rows)


def main(table=False):
    torch.set_num_threads(threads())
    load = os.getloadavg()[0]  # of others: before anything of ours is busy
    chosen = NETWORKS if table else {k: NETWORKS[k] for k in ('EfficientNet-Lite0', 'ResNet-50')[:small(2, 1)]}
    found = [r for name, b in chosen.items() for r in measured(name, network(b), 41 if table else 7)]
    if table: print(save_table(chapter_table(found, load), 'benchmark_engines', settings_file()[1]/'results'/'demo'))
    else: save('predict', [bench_row(*r) for r in found])


if __name__ == '__main__': main('--table' in sys.argv)
