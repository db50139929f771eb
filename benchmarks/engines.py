"""How fast networks look at pictures: PyTorch, ONNX Runtime, OpenVINO, in single precision and bfloat16, side by side.

    .venv/bin/python benchmarks/engines.py [side] [seconds] [--save]

EfficientNet-Lite0, ResNet-50 and DenseNet-169 with random weights at side 224, batch sizes 1 and 16. PyTorch's eager
forward pass in evaluation mode, under inference_mode, in the
project's channels-last layout and with all cores, gets a normalised batch ready-made; the engines get 8-bit views and
normalise them. "default" is what `load_engine` takes by itself on this processor. The ways
take turns, and the ratio is the median of the ratios within each turn (PyTorch's time by the way's), so that a slow
moment meets all of them.

In bfloat16 as many first layers stay in single precision as exactness asks for (`single_share` of the convolutions);
a trained network can need more of them than a random one.

What shall hold: the default in single precision at least 1.4 times PyTorch's speed at batch size 1 and 1.25 times at
16, in bfloat16 at least 2.5 times at 16, for each network. Whether it does is printed.
With --save the table is written to tables/benchmark_engines.csv of profile demo, from where the serving room shows
it."""

import os, platform, sys
from pathlib import Path

os.environ['MURA_NB_PROFILE'] = 'demo'
import numpy as np, pandas as pd
from dataclasses import replace
from mura_nb.core import Table, seed_everything, time_calls
from mura_nb.settings import settings
from mura_nb.results import save_table
from mura_nb.networks import SingleLogit
from mura_nb.engines import has_bf16, probe_views
from mura_nb.serving import eager, load_engine

NETWORKS = {
    'EfficientNet-Lite0': 'timm:tf_efficientnet_lite0',
    'ResNet-50': 'torchvision:resnet50',
    'DenseNet-169': 'torchvision:densenet169',
}
WANTED = {('default, single', 1): 1.4, ('default, single', 16): 1.25, ('default, bf16', 16): 2.5}


def processor():
    "Its name"
    info = Path('/proc/cpuinfo')
    names = (
        [l.partition(':')[2].strip() for l in info.read_text().splitlines() if l.startswith('model name')]
        if info.is_file()
        else []
    )
    return (names[0] if names else platform.processor() or platform.machine()) + (', bfloat16' if has_bf16() else '')


def network(backbone, side):
    "Random weights with a card"
    s = settings()
    seed_everything(0)
    recipe = replace(s.recipe(s.baseline), name='random', backbone=backbone, crop=side, resize=max(side, 256))
    return SingleLogit(backbone).eval(), dict(architecture='single_logit', recipe=recipe.card())


def engines(net):
    "Every engine and precision that can be had"
    asked = {
        'default, single': {},
        'ONNX Runtime, single': dict(engine='onnx'),
        **({'default, bf16': dict(precision='bf16')} if has_bf16() else {}),
    }
    return {k: load_engine(net, **v) for k, v in asked.items()}


def measured(name, net, side, seconds, load):
    "One network at both batch sizes"
    torch_, ways, rows = load_engine(net, 'torch'), engines(net), []
    for batch in (1, 16):
        v = np.resize(probe_views(side), (batch, side, side))
        t = time_calls(
            {'PyTorch, single': eager(torch_, v), **{k: (lambda e=e: e.outputs(v)) for k, e in ways.items()}},
            repeat=10,
            at_least=seconds,
            warmup=2,
        )
        for k in t:
            rows.append(
                dict(
                    network=name,
                    way=k,
                    engine=(ways.get(k) or torch_).words,
                    single_share=getattr((ways.get(k) or torch_).run, 'share', 0),
                    batch=batch,
                    side=side,
                    images_per_s=batch / t[k].median(),
                    times=(t.iloc[:, 0] / t[k]).median(),
                    best=t.iloc[:, 0].min() / t[k].min(),
                    turns=len(t),
                    load=load,
                    threads=torch_.threads,
                    processor=processor(),
                )
            )
    return rows


def main(side=224, seconds=40, save=False):
    load = os.getloadavg()[0]  # of others: before anything of ours is busy
    t = pd.DataFrame([r for name, b in NETWORKS.items() for r in measured(name, network(b, side), side, seconds, load)])
    print(
        Table(
            t.drop(columns=['side', 'processor']),
            f'{t.processor[0]}, {t.threads[0]} threads, {side} px',
            dict(images_per_s='.1f', times='.2f', best='.2f'),
        )
    )
    for (way, batch), want in WANTED.items():
        for r in t[(t.way == way) & (t.batch == batch)].itertuples():
            print(
                f'{way}, batch {batch}, {r.network}: wanted {want} times, '
                f"{'met' if r.times >= want else 'not met'} ({r.times:.2f})"
            )
    if save:
        print(save_table(t, 'benchmark_engines'))


if __name__ == '__main__':
    main(*map(int, [a for a in sys.argv[1:] if a != '--save']), save='--save' in sys.argv)
