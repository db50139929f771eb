"""How fast the phantom is: image files a second at long side 512, and the memory of a worker.

    .venv/bin/python benchmarks/simulate.py [studies] [workers]

The target is at least 12 files a second on two cores and under 2 GiB a worker, start of the workers included."""
import resource
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from joblib.externals.loky import get_reusable_executor
from mura_nb.phantom import make_phantom


def main(studies=200, workers=2):
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        root = make_phantom(Path(folder)/'phantom', studies, seed=1, workers=workers)
        seconds, files = time.perf_counter() - start, len(pd.read_csv(root/'truth'/'images.csv'))
        size = sum(f.stat().st_size for f in root.rglob('image*.png'))/files/1024
    get_reusable_executor().shutdown(wait=True) # only ended processes are counted
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss/1024**2 # kB on Linux
    print(f'{files} files of {size:.0f} KiB in {seconds:.1f} s: {files/seconds:.1f} a second with {workers} workers; '
          f'the largest worker took {peak:.2f} GiB')


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
