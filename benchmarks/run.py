"""Run the programs of this folder one after the other, each in a process of its own: make bench [BENCH='NAME ...']

What was measured with this package, machine and these versions already is left as it is, so a run that was stopped
goes on. Programs that are named are run in any case; those of LONG only when they are named."""
import os, subprocess, sys
from bench import ROOT, key, read_table
from mura_nb.core import timed

PROGRAMS = ('shell', 'predict', 'bootstrap', 'search', 'maps', 'step', 'memory', 'loader', 'fusenet', 'simulate',
            'report', 'growth')
LONG = ('growth10',)


def measured(name):
    "Are there rows of this program that were measured with what is here?"
    t = read_table()
    return bool(len(t)) and bool((t.key[t.program == name] == key(name)).any())


def main(names):
    unknown = [n for n in names if n not in PROGRAMS + LONG]
    if unknown: sys.exit(f"no program {unknown[0]!r}; there are {', '.join(PROGRAMS + LONG)}")
    failed = []
    for name in names or PROGRAMS:
        if not names and measured(name):
            print(f'{name}: measured already')
            continue
        env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), os.environ.get('PYTHONPATH', '')]),
                   PYTHONWARNINGS='ignore')
        done, took = timed(subprocess.run, [sys.executable, str(ROOT/'benchmarks'/f'{name}.py')], env=env)
        print(f'{name}: {took:.0f} s', flush=True)
        if done.returncode: failed.append(name)
    if failed: sys.exit(f"failed: {', '.join(failed)}")


if __name__ == '__main__': main(sys.argv[1:])
