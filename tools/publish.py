"""make site: the report's pages from the outputs that nbs/ holds, nothing is run again.

With the program quarto: nbdev-docs, to _docs/. Without it: nbconvert, to _site/. The last line says which of the two it was."""
import os, shutil, subprocess, sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from runner import ROOT

BIN = Path(sys.executable).parent


def with_quarto():
    "nbdev's way; quarto_pages.py adapts the pages, nothing is executed"
    env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT/'tools'), str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep))
    code = subprocess.run([BIN/'nbdev-docs', '--n-workers', '1'], cwd=ROOT, env=env).returncode
    if not code: print('rendered with Quarto: _docs/index.html')
    return code


def with_nbconvert():
    from pages import notebooks
    from render import render_site
    index = render_site(notebooks(), ROOT/'_site', 'Profile demo, simulated radiographs.')
    print(f'rendered with nbconvert, as quarto is not installed: {index.relative_to(ROOT)}')
    return 0


if __name__ == '__main__': sys.exit(with_quarto() if shutil.which('quarto') else with_nbconvert())
