"""How long does somebody wait for `mura-nb predict FILE`, the command typed into a shell?

Both ways are whole processes, started in an empty folder: the network's graph in ONNX Runtime, and `--engine
torch`."""
import os, subprocess, sys, tempfile
from pathlib import Path
from bench import ROOT, paired, plain_row, row, save, small
import numpy as np
from PIL import Image
from mura_nb.phantom import example_study

MOST = 3 # seconds


def main():
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(example_study('WRIST', 'fracture', 3)[0][0].image).save(Path(folder)/'scan.png')
        def ask(*how):
            asked = small(['predict', 'scan.png', '--format', 'csv', *how], ['--version'])
            command = [sys.executable, '-m', 'mura_nb.programs', *asked]
            env = dict(os.environ, PYTHONPATH=str(ROOT))
            return lambda: subprocess.run(command, cwd=folder, env=env, check=True, capture_output=True)
        times = paired(ask(), ask('--engine', 'torch'), pairs=5)
    save('shell', [row('`mura-nb predict` of one file, from the shell', times, 'with PyTorch'),
        plain_row('the same, beside what is allowed', np.median(times[:, 0]), 'at most', MOST, 1, unit='s')])


if __name__ == '__main__': main()
