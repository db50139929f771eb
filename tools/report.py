"""make report: runs the chapters in order and renders them to _site/.

The notebooks in nbs/ are not touched: copies run in _build/<profile>/, since pictures of MURA may not be committed.
A chapter that fails is rendered as far as it went, and the others run; the exit status is then 1.
--study NAME (make ablations STUDY=NAME) runs only the chapters with cells of that study, on what a report has left.
--save (make notebooks) writes the outputs of the simulated demo back into nbs/."""
import argparse, json, os, re, signal, sys, threading, time
from contextlib import contextmanager
import nbformat, pandas as pd
from filelock import FileLock, Timeout
from rich.console import Console
from rich.live import Live
from rich.text import Text
from mura_nb.core import CannotWrite, write_atomic, writing
from mura_nb.settings import settings
from mura_nb.results import save_table
from mura_nb.public import link_public
from pages import notebooks
from runner import ROOT, CellError, chapters, mark_stopped, run_notebook, study_of

BAR = re.compile(r'\d%\||\d\w+ \[')  # a line of a progress bar; warnings are for `make lab`
HEARTBEAT = 30  # seconds between lines where there is no terminal to redraw
console = Console()

def clock(seconds): return f'{int(seconds)//60}:{int(seconds)%60:02}'

class Watch:
    "What the person who waits sees: chapter, cell, time, and the latest line of the running cell's progress bar"
    begin, stopped = time.time(), threading.Event()

    def chapter(self, words): self.words, self.start, self.cell, self.bar = words, time.time(), 'starting', ''
    def on_cell(self, i, n, cell): self.cell, self.bar = f'cell {i+1}/{n}', ''

    def on_stderr(self, text):
        for line in re.split(r'[\r\n]', text): self.bar = line.strip() if BAR.search(line) else self.bar

    def line(self): return f'{self.words}  {self.cell}  {clock(time.time()-self.start)}'
    def __rich__(self): return Text(self.line() + f'\n  {self.bar}'*bool(self.bar), no_wrap=True, overflow='ellipsis')

    def beat(self):
        "A line now and then, for a log"
        while not self.stopped.wait(HEARTBEAT): console.print(Text(f'  {self.line()}  {self.bar}'), soft_wrap=True)

LEFT = re.compile(r'\..+-\w{8}(\.\w+)?')  # as `write_atomic` names what it has not finished

def remove_leftovers(results, age=24*3600):
    "Unfinished files of writers that were killed, once nobody can be writing them any more: `age` in seconds"
    for f in results.rglob('.*'):
        if LEFT.fullmatch(f.name) and f.is_file() and time.time()-f.stat().st_mtime > age: f.unlink(missing_ok=True)

@contextmanager
def alone(results):
    "One report at a time writes into a results folder: another says so and waits. A lock ends with its process"
    with writing(results):
        results.mkdir(parents=True, exist_ok=True)
        lock = FileLock(results/'.report.lock')
        try: lock.acquire(blocking=False)
        except Timeout:
            console.print(f'another report is writing into {results}; waiting until it has ended', highlight=False,
                soft_wrap=True)
            lock.acquire()
    remove_leftovers(results)
    try: yield
    finally: lock.release()

def failed(nb, name, e):
    "Say where it failed, and how"
    cell = nb.cells[e.cell]
    first = next((line for line in cell.source.splitlines() if line[:2] not in ('', '#|')), '')
    console.print(f'[red]failed[/]  {name}, cell {e.cell} ({cell.get("id", "")}):', Text(first), highlight=False)
    console.print(Text.from_ansi(str(e)))

class Minutes:
    """Where the minutes go: of each chapter until it first ended (`first`, stopped runs added up), and of its latest
    run from kept results (`again`). Kept in `build`; a whole report writes the table report_minutes"""
    def __init__(self, s, build):
        self.file, self.results = build/'minutes.json', s.results
        fresh = not any(s.results.glob('models/*.safetensors'))
        self.rows = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.rows.setdefault('fresh', fresh)

    def add(self, stem, seconds, ended):
        "A run of a chapter"
        row = self.rows.setdefault(stem, dict(first=0., ended=False, again=None))
        if row['ended'] or not self.rows['fresh']: row['again'] = seconds/60
        else: row.update(first=row['first'] + seconds/60, ended=ended)
        with write_atomic(self.file) as tmp: tmp.write_text(json.dumps(self.rows))

    def save(self):
        "The table, where every chapter has ended"
        rows = {k: r for k, r in self.rows.items() if k != 'fresh'}
        table = [dict(chapter=k, first=r['first'] or None, again=r['again']) for k, r in rows.items()]
        save_table(pd.DataFrame(table), 'report_minutes', self.results)

def with_study(name):
    "The chapters that have cells of a study; ends the program where there are none"
    found = {f: {study_of(c) for c in nbformat.read(f, 4).cells if c.cell_type == 'code'} for f in chapters()}
    files = [f for f, studies in found.items() if name in studies]
    known = ', '.join(sorted(filter(None, set().union(*found.values()))))
    if not files: sys.exit(f'no study {name!r}; there is {known}')
    return files

def run_chapters(s, build, flags, watch, files=None):
    "Run chapters, each saved in `build` as soon as it has ended: the notebooks and the CellErrors by name"
    files, done, errors = files or chapters(), {}, {}
    build.mkdir(parents=True, exist_ok=True)
    minutes, plain = Minutes(s, build), flags == ['slow']  # studies are not the report's own minutes
    own = s.simulated and s.profile == 'demo'  # stored outputs and typed findings belong to the demo
    for i, f in enumerate(files):
        nb = nbformat.read(f, 4)
        watch.chapter(f'chapter {i+1}/{len(files)} {f.stem}')
        if not console.is_terminal: console.print(watch.words, highlight=False)
        env = dict(PYTHONPATH=os.pathsep.join(filter(None, (str(ROOT), os.environ.get('PYTHONPATH')))))
        ended = False
        try:
            run_notebook(nb, f.parent, flags + ['demo']*own, own, env, watch.on_cell, watch.on_stderr)
            ended = True
            console.print(f'[green]done[/]    {watch.words}  {clock(time.time()-watch.start)}', highlight=False)
        except CellError as e:
            failed(nb, f.name, e)
            mark_stopped(nb, e)
            errors[f.stem] = e
        finally:
            if plain: minutes.add(f.stem, time.time()-watch.start, ended)
        with write_atomic(build/f.name) as whole: nbformat.write(nb, whole)
        done[f.stem] = nb
    if plain and not errors: minutes.save()
    return done, errors

def list_failed(errors, n):
    "Which chapters failed, where and why; a missing file is most likely what one before them did not write"
    console.print(f'[red]{len(errors)} of {n} chapters failed[/]; the others are complete:', highlight=False)
    for i, (stem, e) in enumerate(errors.items()):
        follows = '  (needs what a failed chapter before it writes)'*(i > 0 and e.line.startswith('FileNotFoundError'))
        console.print(Text(f'  {stem}, cell {e.cell}: {e.line}{follows}'), soft_wrap=True)

def save(done):
    "Put the outputs into nbs/, unless a notebook has changed meanwhile"
    for f in chapters():
        old, new = nbformat.read(f, 4), done[f.stem]
        same = [c.source for c in old.cells] == [c.source for c in new.cells]
        if not same: sys.exit(f'{f.name} was changed while it ran; nothing more saved')
        for a, b in zip(old.cells, new.cells):
            if a.cell_type == 'code': a.outputs = b.outputs
        nbformat.write(old, f)

def make(a, s, files):
    "Run the chapters and render them: the exit status"
    data, watch, build = 'simulated radiographs' if s.simulated else str(s.data), Watch(), ROOT/'_build'/s.profile
    console.print(f'profile [bold]{s.profile}[/], {data}; results in {s.results.relative_to(ROOT)}', highlight=False)
    if s.source: link_public(s.source, s.data, seed=s.seed)
    watch.chapter('')
    if not console.is_terminal: threading.Thread(target=watch.beat, daemon=True).start()
    try:
        with Live(watch, console=console, refresh_per_second=4, transient=True, auto_refresh=console.is_terminal):
            flags = ['slow'] + ['ablation']*a.ablation + ['cuda']*a.cuda + [f'ablation:{a.study}']*bool(a.study)
            done, errors = (notebooks(build), {}) if a.render else run_chapters(s, build, flags, watch, files)
    finally: watch.stopped.set()
    if a.study:
        if errors: list_failed(errors, len(files))
        else: console.print(f'study {a.study} in {clock(time.time()-watch.begin)}; make report shows it')
        return bool(errors)
    if a.save and not errors: save(done)
    try: from render import render_site # here: a machine that only runs the chapters may lack pandoc
    except ImportError as e: console.print(f'not rendered ({e}); where pandoc is: tools/report.py --render')
    else:
        with alone(ROOT/'_build'):  # reports of two profiles meet in _site
            index = render_site(done, ROOT/'_site', f'Profile {s.profile}, {data}.', s.simulated)
        took = clock(time.time()-watch.begin)
        console.print(f'rendered with pandoc in {took}: {index.relative_to(ROOT)}', highlight=False)
    if errors: list_failed(errors, len(done))
    if errors and a.save: console.print('nothing saved into nbs/')
    return bool(errors)

def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument('--ablation', action='store_true', help='run the cells flagged ablation too')
    p.add_argument('--study', metavar='NAME', help='run the cells of one study, in the chapters that have some')
    p.add_argument('--save', action='store_true', help='write the outputs of the simulated demo into nbs/')
    p.add_argument('--cuda', action='store_true', help='run the cells flagged cuda too')
    p.add_argument('--render', action='store_true', help='run nothing: render the chapters of the last run')
    a = p.parse_args()
    try: s = settings()
    except (ValueError, OSError) as e: sys.exit(str(e))
    if a.save and not (s.simulated and s.profile == 'demo'):
        sys.exit('refused: committed notebooks hold simulated radiographs of profile demo only')
    files = with_study(a.study) if a.study else None
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with alone(s.results): return make(a, s, files)
    except CannotWrite as e: sys.exit(str(e))
    except KeyboardInterrupt:
        console.print('stopped; the same command goes on from here')
        return 130

if __name__ == '__main__': sys.exit(main())
