"Runs one notebook with nbclient: cells in order, flagged ones left out, standard error forwarded and not stored."
import os, re, signal, tempfile, textwrap
from contextlib import contextmanager
from pathlib import Path
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat.v4 import new_markdown_cell, new_output
from kernels import fork_kernels

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {'notest', 'slow', 'ablation', 'cuda', 'demo'}
FOLDERS = re.compile(r'(?<![\w.:/])/(?:[^\s/\'"`]+/)+')  # of a machine
STOPPED = '''::: {{.callout-important .stopped}}
**This chapter stopped here**, in cell {}: `{}`

What stands above was made by this run; nothing below this place was run.
:::'''
WRONG = {'NameError', 'UnboundLocalError', 'SyntaxError', 'ImportError', 'ModuleNotFoundError'}  # of code
LACKING = '> **⚠ The tables of this run lack what the sentence at this place speaks of.**'
LATER = '> *This result appears after `make ablations STUDY={}` on these radiographs.*'

class CellError(Exception): "A cell that failed: `cell` is its index, `line` the error in one line"

def chapters(folder=ROOT/'nbs'):
    "The numbered notebooks in order, then the index, which reads their results"
    return sorted(folder.glob('[0-9]*_*.ipynb')) + [f for f in [folder/'index.ipynb'] if f.exists()]

def directives(cell):
    "The nbdev directives of a cell as {name: rest of the line}"
    lines = (re.match(r'#\|\s*([\w-]+):?\s*(.*)', line) for line in cell.source.splitlines())
    return {m[1]: m[2].strip() for m in lines if m}

def study_of(cell):
    "The study that a cell flagged `#| ablation NAME` belongs to, or None"
    return directives(cell).get('ablation')

def skipped(cell, run):
    "Is this code cell left out, when only the flags in `run` are to run? `ablation:NAME` runs those of one study"
    found, study = directives(cell), study_of(cell)
    run = {flag for flag in run if ':' not in flag} | {'ablation' for flag in run if flag == f'ablation:{study}'}
    return bool((FLAGS - run) & found.keys()) or found.get('eval') == 'false'

class Client(NotebookClient):
    "nbclient's, which hands standard error on instead of storing it"
    on_stderr = staticmethod(print)

    def output(self, outs, msg, display_id, cell_index):
        content = msg['content']
        if content.get('name') == 'stderr': return self.on_stderr(content['text'])
        if msg['msg_type'] != 'error': return super().output(outs, msg, display_id, cell_index)

@contextmanager
def interruptible(client):
    "Ctrl-C goes to the running cell, which cleans up, and ends the run after it; a second one ends it at once"
    def heard(*_):
        if client.stopping: raise KeyboardInterrupt
        client.stopping = True
        client.km.provisioner.process.send_signal(signal.SIGINT)
    before = signal.signal(signal.SIGINT, heard)
    try: yield
    finally: signal.signal(signal.SIGINT, before)

def failure(e, i, log):
    "The CellError of cell `i`"
    log.seek(0)
    dead = f'the kernel died, most likely for lack of memory\n{log.read()[-2000:]}'
    error = CellError(dead if isinstance(e, DeadKernelError) else e.traceback)
    line = f'{e.ename}: {e.evalue}' if hasattr(e, 'ename') else dead.splitlines()[0]
    line = FOLDERS.sub('', re.sub(r'\x1b\[[\d;]*m', '', line).replace(f'{ROOT}/', ''))
    error.cell, error.line = i, textwrap.shorten(line.replace('`', "'"), 300)
    return error

def mark_stopped(nb, error):
    "Say in `nb` itself where it stopped, and why: a box below the failed cell, whose followers lose their outputs"
    for cell in nb.cells[error.cell+1:]:
        if cell.cell_type == 'code': cell.outputs = []
    box = new_markdown_cell(STOPPED.format(error.cell, error.line), metadata=dict(stopped=True))
    nb.cells.insert(error.cell+1, box)
    nb.metadata.stopped = error.line

def run_cell(client, i, log):
    "Run cell `i`; CellError where it fails or the kernel dies, KeyboardInterrupt where it was stopped"
    if client.stopping: raise KeyboardInterrupt
    cell = client.nb.cells[i]
    try: client.execute_cell(cell, i)
    except (CellExecutionError, DeadKernelError) as e:
        if client.stopping: raise KeyboardInterrupt from None
        if 'demo' not in directives(cell) or isinstance(e, DeadKernelError) or e.ename in WRONG:
            raise failure(e, i, log) from None
        study = directives(cell)['demo'] # whose tables the sentence reads, where these are not the report's own
        words = LATER.format(study) if study else LACKING
        cell.outputs = [new_output('display_data', {'text/markdown': words})] # a sentence does not end the report
    cell.execution_count = None
    for out in cell.outputs: out.update({'execution_count': None} if out.output_type == 'execute_result' else {})

def run_notebook(nb, cwd, run=(), keep=True, env=None, on_cell=lambda i, n, cell: None, on_stderr=lambda text: None):
    """Run the code cells of `nb` in place. Cells with a flag that is not in `run` are left out; `keep` keeps their
    stored outputs, but not those of `demo`, whose sentences are true of the demo alone."""
    fork_kernels()
    todo = [i for i, cell in enumerate(nb.cells) if cell.cell_type == 'code' and cell.source.strip()]
    client = Client(nb, kernel_name='python3', timeout=None, coalesce_streams=True)
    client.on_stderr, client.stopping = on_stderr, False
    env = dict(os.environ, PYDEVD_DISABLE_FILE_VALIDATION='1') | (env or {})
    with (tempfile.NamedTemporaryFile('w+') as log,
            client.setup_kernel(cwd=str(cwd), env=env, stdout=log, stderr=log), interruptible(client)):
        for j, i in enumerate(todo):
            cell = nb.cells[i]
            on_cell(j, len(todo), cell)
            if not skipped(cell, run): run_cell(client, i, log)
            elif not keep or 'demo' in directives(cell): cell.outputs = []
    return nb
