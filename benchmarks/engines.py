"""How fast networks look at pictures: PyTorch, ONNX Runtime, OpenVINO, in single precision and bfloat16, side by side.

    .venv/bin/python benchmarks/engines.py [side] [seconds] [--save]

EfficientNet-Lite0, ResNet-50 and DenseNet-169 with random weights at side 224, batch sizes 1 and 16. PyTorch's eager forward pass in evaluation mode, under inference_mode, in the
project's channels-last layout and with all cores, gets a normalised batch ready-made; the engines get 8-bit views and normalise them. "default" is what `load_engine` takes by itself on this processor. The ways
take turns, and the ratio is the median of the ratios within each turn (PyTorch's time by the way's), so that a slow moment meets all of them.

What shall hold: the default in single precision at least 1.4 times PyTorch's speed at batch size 1 and 1.25 times at 16, in bfloat16 at least 2.5 times at 16, for each network. Whether it does is printed.
With --save the table is written to tables/benchmark_engines.csv of profile demo, from where chapter 9a shows it."""
import os, platform, sys
from pathlib import Path
os.environ['MURA_NB_PROFILE'] = 'demo'
import numpy as np, pandas as pd, torch
from dataclasses import replace
from mura_nb.baselines import SingleLogit
from mura_nb.core import Table, save_table, seed_everything, settings
from mura_nb.engines import eager, has_bf16, load_engine, probes, turns

NETWORKS = {'EfficientNet-Lite0':'timm:tf_efficientnet_lite0', 'ResNet-50':'torchvision:resnet50', 'DenseNet-169':'torchvision:densenet169'}
WANTED = {('default, single', 1):1.4, ('default, single', 16):1.25, ('default, bf16', 16):2.5}


def processor():
    "Its name"
    info = Path('/proc/cpuinfo')
    names = [l.partition(':')[2].strip() for l in info.read_text().splitlines() if l.startswith('model name')] if info.is_file() else []
    return (names[0] if names else platform.processor() or platform.machine()) + (', bfloat16' if has_bf16() else '')


def network(backbone, side):
    "Random weights with a card"
    s = settings(); seed_everything(0)
    recipe = replace(s.recipe(s.baseline), name='random', backbone=backbone, crop=side, resize=max(side, 256))
    return SingleLogit(backbone).eval(), dict(architecture='single_logit', recipe=recipe.card())


def engines(net):
    "Every engine and precision that can be had"
    asked = {'default, single':{}, 'ONNX Runtime, single':dict(engine='onnx'), **({'default, bf16':dict(precision='bf16'), 'PyTorch, bf16':dict(engine='torch', precision='bf16')} if has_bf16() else {})}
    return {k:load_engine(net, **v) for k,v in asked.items()}


def measured(name, net, side, seconds):
    "One network at both batch sizes"
    torch_,ways,rows = load_engine(net, 'torch'),engines(net),[]
    for batch in (1, 16):
        v = np.resize(probes(side), (batch, side, side))
        t = turns({'PyTorch, single':eager(torch_, v), **{k:(lambda e=e: e.outputs(v)) for k,e in ways.items()}}, seconds, 10)
        for k in t: rows.append(dict(network=name, way=k, engine=(ways.get(k) or torch_).words, batch=batch, side=side, images_per_s=batch/t[k].median(), times=(t.iloc[:, 0]/t[k]).median(), best=t.iloc[:, 0].min()/t[k].min(), turns=len(t), threads=torch_.threads, processor=processor()))
    return rows


def main(side=224, seconds=40, save=False):
    t = pd.DataFrame([r for name,b in NETWORKS.items() for r in measured(name, network(b, side), side, seconds)])
    print(Table(t.drop(columns=['side', 'processor']), f'{t.processor[0]}, {t.threads[0]} threads, {side} px', dict(images_per_s='.1f', times='.2f', best='.2f')))
    for (way,batch),want in WANTED.items():
        for r in t[(t.way == way) & (t.batch == batch)].itertuples(): print(f"{way}, batch {batch}, {r.network}: wanted {want} times, {'met' if r.times >= want else 'not met'} ({r.times:.2f})")
    if save: print(save_table(t, 'benchmark_engines'))


if __name__ == '__main__': main(*map(int, [a for a in sys.argv[1:] if a != '--save']), save='--save' in sys.argv)
