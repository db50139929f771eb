"Run in tests/: python -m torture kills|inputs|fuzz|machine|mutants [--tried N] [--seed S]"

import argparse, importlib, os, sys, tempfile
from pathlib import Path
import torture

KINDS = ('kills', 'inputs', 'fuzz', 'machine', 'mutants')

if __name__ == '__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('kinds', nargs='*', metavar='KIND', help=', '.join(KINDS))
    p.add_argument('--tried', type=int, help='a short run of so many kills, inputs or mutants, which leaves no table')
    p.add_argument('--seed', type=int, help='of the draws; mutants take theirs from the commit')
    a = p.parse_args()
    for kind in a.kinds or KINDS:
        if kind not in KINDS:
            sys.exit(f'make torture: unknown TORTURE={kind}; there is {", ".join(KINDS)}')
    for name in [k for k in os.environ if k.startswith('MURA_NB_')]:
        del os.environ[name]
    os.environ.update(MURA_NB_PROFILE='smoke', OMP_NUM_THREADS='1', MPLBACKEND='agg')
    sys.path[:0] = [str(torture.ROOT), str(torture.ROOT/'tools')]
    if a.tried: torture.TABLES = Path(tempfile.mkdtemp()) # the modules take it from there
    bad = [
        kind for kind in a.kinds or KINDS if not importlib.import_module(f'.{kind}', __package__).main(a.tried, a.seed)
    ]
    sys.exit(bool(bad))
