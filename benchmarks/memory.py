"""What does it bring that a network keeps its memory from one batch to the next (`keep_memory`)?

EfficientNet-Lite0 at 192 px in two processes, one of which lets glibc give freed memory back to the system and get it
anew, as PyTorch does by itself. They take the same passes in turn; while one works, the other waits."""
import os, subprocess, sys
from pathlib import Path
from bench import ROOT, paired, row, save, small, threads
import torch

SIDE, BATCHES, PASSES = small(192, 32), small((16, 64), (4,)), small(3, 1)
WAYS = {'training': 'forward and backward pass', 'answering': "a network's answers"}


def passes(way, batch):
    "Some passes of a network as a function"
    from mura_nb.networks import SingleLogit
    net = SingleLogit('timm:tf_efficientnet_lite0', 'none').train(way == 'training')
    x = torch.zeros(batch, 3, SIDE, SIDE)
    def train():
        for _ in range(PASSES): net(x).sum().backward()
    def answer():
        with torch.no_grad():
            for _ in range(PASSES): net(x)
    return dict(training=train, answering=answer)[way]


def serve(kept, way, batch):
    "Take the passes whenever a line comes in, and say so"
    from mura_nb import networks
    if not kept: networks.keep_memory = lambda: None
    torch.set_num_threads(threads())
    take = passes(way, batch)
    for _ in sys.stdin:
        take()
        print('done', flush=True)


def asked(*how):
    "A process that serves, and the function that asks it"
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONWARNINGS='ignore')
    command = [sys.executable, str(Path(__file__)), *map(str, how)]
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    def ask():
        print(file=process.stdin, flush=True)
        if not process.stdout.readline(): raise SystemExit(f'the process {how} ended early')
    return process, ask


def main():
    rows = []
    for way, words in WAYS.items():
        for batch in BATCHES:
            (one, kept), (two, given) = asked(1, way, batch), asked(0, way, batch)
            with one, two: times = paired(kept, given, pairs=7)
            rows.append(row(f'{words} with memory that is kept, batch {batch}', times,
                'memory given back and cleared anew', 1, work=batch*PASSES, unit='images/s', count=SIDE))
    save('memory', rows)


if __name__ == '__main__':
    if len(sys.argv) > 1: serve(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else: main()
