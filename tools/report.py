"""make report: runs the chapters in order and renders them to _site/.

The notebooks in nbs/ are not touched: copies run in _build/<profile>/, since pictures of MURA may not be committed.
--save (make notebooks) writes the outputs of the simulated demo back into nbs/."""
import argparse, os, re, signal, sys, time
from pathlib import Path
import nbformat
from rich.console import Console
from rich.live import Live
from rich.text import Text

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from runner import ROOT, CellError, chapters, run_notebook
from render import api_pages, render_site
from mura_nb.core import settings

console = Console()
BAR = re.compile(r'\d%\||\d\w+ \[')  # a line of a progress bar; warnings are for `make lab`
HEARTBEAT = 30  # seconds between lines where there is no terminal to redraw


def clock(seconds): return f'{int(seconds)//60}:{int(seconds)%60:02}'


class Watch:
    "What the person who waits sees: chapter, cell, time, and the latest line of the running cell's progress bar"
    def __init__(self, live): self.live, self.begin, self.beat = live, time.time(), time.time()

    def chapter(self, name, i, n):
        self.name, self.where, self.start, self.line, self.cell = name, f'{i+1}/{n}', time.time(), '', 'starting'
        self.draw()
        if not console.is_terminal: console.print(f'chapter {self.where} {name}')

    def on_cell(self, j, n, cell):
        self.cell, self.line = f'cell {j+1}/{n}', ''
        self.draw()

    def on_stderr(self, text):
        bars = [l.strip() for l in re.split(r'[\r\n]', text) if BAR.search(l)]
        if bars: self.line = bars[-1]
        self.draw()

    def draw(self):
        head = f'chapter {self.where} {self.name}  {self.cell}  {clock(time.time()-self.start)}'
        if self.live: self.live.update(Text(head + (f'\n  {self.line}' if self.line else ''), no_wrap=True, overflow='ellipsis'))
        elif time.time() - self.beat > HEARTBEAT:
            self.beat = time.time()
            console.print(f'  {head}  {self.line}', soft_wrap=True, markup=False, highlight=False)

    def done(self):
        console.print(f'[green]done[/]    chapter {self.where} {self.name}  {clock(time.time()-self.start)}', highlight=False)


def failed(nb, name, e):
    "Say where it failed, and how"
    cell = nb.cells[e.cell]
    first = next((l for l in cell.source.splitlines() if l.strip() and not l.startswith('#|')), '')
    console.print(f'[red]failed[/]  {name}, cell {e.cell} ({cell.get("id", "")}): {first}', highlight=False)
    console.print(Text.from_ansi(str(e)), soft_wrap=True)


def run_chapters(s, flags, watch):
    "Run all chapters, each saved in _build as soon as it is done; returns the executed notebooks by name"
    build = ROOT/'_build'/s.profile
    build.mkdir(parents=True, exist_ok=True)
    own = s.simulated and s.profile == 'demo'  # stored outputs of cells that are left out belong to the demo
    files, res = chapters(), {}
    for i, f in enumerate(files):
        nb = nbformat.read(f, 4)
        watch.chapter(f.stem, i, len(files))
        try: run_notebook(nb, f.parent, flags, own, dict(PYTHONPATH=str(ROOT)), watch.on_cell, watch.on_stderr)
        except CellError as e:
            failed(nb, f.name, e)
            return None
        nbformat.write(nb, build/f.name)
        watch.done()
        res[f.stem] = nb
    return res


def save(notebooks):
    "Put the outputs into nbs/, unless a notebook has changed meanwhile"
    for f in chapters():
        old, new = nbformat.read(f, 4), notebooks[f.stem]
        if [c.source for c in old.cells] != [c.source for c in new.cells]: sys.exit(f'{f.name} was changed while it ran; nothing more saved')
        for a, b in zip(old.cells, new.cells):
            if a.cell_type == 'code': a.outputs = b.outputs
        nbformat.write(old, f)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--ablation', action='store_true', help='run the cells flagged ablation too')
    p.add_argument('--save', action='store_true', help='write the outputs of the simulated demo into nbs/')
    p.add_argument('--cuda', action='store_true', help='run the cells flagged cuda too')
    a = p.parse_args()
    try: s = settings()
    except (ValueError, OSError) as e: sys.exit(str(e))
    if a.save and not (s.simulated and s.profile == 'demo'): sys.exit('refused: committed notebooks hold simulated radiographs of profile demo only')
    data = 'simulated radiographs' if s.simulated else str(s.data)
    console.print(f'profile [bold]{s.profile}[/], {data}; results in {s.results.relative_to(ROOT)}', highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    flags = ['slow'] + ['ablation']*a.ablation + ['cuda']*a.cuda
    try:
        with Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else open(os.devnull) as live:
            watch = Watch(live if console.is_terminal else None)
            notebooks = run_chapters(s, flags, watch)
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from here')
        return 130
    if notebooks is None: return 1
    if a.save: save(notebooks)
    index = render_site(notebooks | api_pages(), ROOT/'_site', f'Profile {s.profile}, {data}.', s.simulated)
    console.print(f'rendered with nbconvert in {clock(time.time()-watch.begin)}: {index.relative_to(ROOT)}', highlight=False)


if __name__ == '__main__': sys.exit(main())
