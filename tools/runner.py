"Runs one notebook in a Jupyter kernel: cells in order, flagged ones left out, standard error forwarded and not stored."
import os, queue, re, sys, tempfile, time
from pathlib import Path
import nbformat
from jupyter_client import KernelManager

ROOT = Path(__file__).resolve().parents[1]
FLAGS = {'notest', 'slow', 'ablation', 'cuda'}

class CellError(Exception): pass


def chapters(folder=ROOT/'nbs'):
    "The numbered notebooks in order, then the index, which reads their results"
    return sorted(folder.glob('[0-9]*_*.ipynb')) + [f for f in [folder/'index.ipynb'] if f.exists()]


def directives(cell):
    "The nbdev directives of a cell as {name: rest of the line}"
    lines = (re.match(r'#\|\s*([\w-]+):?\s*(.*)', l) for l in cell.source.splitlines() if l.startswith('#|'))
    return {m[1]: m[2].strip() for m in lines if m}


def skipped(cell, run):
    "Is this code cell left out, when only the flags in `run` are to run?"
    d = directives(cell)
    return bool((FLAGS - set(run)) & d.keys()) or d.get('eval') == 'false'


def _outputs(cell, msg):
    "Add one kernel message to the outputs of a cell"
    kind, content = msg['msg_type'], msg['content']
    if kind == 'clear_output': cell.outputs = []
    if kind not in ('stream', 'display_data', 'execute_result'): return
    out = nbformat.v4.output_from_msg(msg)
    last = cell.outputs[-1] if cell.outputs else {}
    if kind == 'stream' and last.get('output_type') == 'stream': last['text'] += content['text']
    else: cell.outputs.append(out)


class Kernel:
    "A kernel as a context: asked to stop when the block is left by Ctrl-C, and gone afterwards"
    def __init__(self, cwd, env=None): self.cwd, self.env = cwd, dict(os.environ, PYDEVD_DISABLE_FILE_VALIDATION='1') | (env or {})

    def __enter__(self):
        self.km = KernelManager(kernel_name='python3')
        self.log = tempfile.TemporaryFile('w+')  # what compiled code prints, needed only when the kernel dies
        self.km.start_kernel(cwd=str(self.cwd), env=self.env, stdout=self.log, stderr=self.log)
        self.kc = self.km.blocking_client()
        self.kc.start_channels()
        self.kc.wait_for_ready(timeout=120)
        return self

    def __exit__(self, kind, *_):
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self.km.is_alive():
            self.km.interrupt_kernel()  # lets the cell remove its unfinished files
            self._drain(10)
        self.kc.stop_channels()
        self.km.shutdown_kernel(now=True)
        self.log.close()

    def _drain(self, seconds):
        end = time.time() + seconds
        while time.time() < end:
            try: msg = self.kc.get_iopub_msg(timeout=.5)
            except queue.Empty: continue
            if msg['msg_type'] == 'status' and msg['content']['execution_state'] == 'idle': return

    def _message(self):
        "The next message, or None after a second of silence; a dead kernel is an error"
        try: return self.kc.get_iopub_msg(timeout=1)
        except queue.Empty:
            if self.km.is_alive(): return
            self.log.seek(0)
            raise CellError(f'the kernel died, most likely for lack of memory\n{self.log.read()[-2000:]}')

    def run(self, cell, on_stderr):
        "Run one code cell, filling its outputs"
        cell.outputs, cell.execution_count, failed = [], None, None
        asked = self.kc.execute(cell.source, allow_stdin=False)
        while True:
            msg = self._message()
            if msg is None:
                on_stderr('')
                continue
            if msg['parent_header'].get('msg_id') != asked: continue
            kind, content = msg['msg_type'], msg['content']
            if kind == 'stream' and content['name'] == 'stderr': on_stderr(content['text'])
            elif kind == 'error': failed = '\n'.join(content['traceback'])
            elif kind == 'status' and content['execution_state'] == 'idle': break
            else: _outputs(cell, msg)
        if failed: raise CellError(failed)


def run_notebook(nb, cwd, run=(), keep=True, env=None, on_cell=lambda i, n, cell: None, on_stderr=lambda text: None):
    """Run the code cells of `nb` in place; cells with a flag that is not in `run` are left out, their stored outputs kept if `keep`.
    On failure raises CellError with .cell, the index of the cell."""
    todo = [i for i, c in enumerate(nb.cells) if c.cell_type == 'code' and c.source.strip()]
    with Kernel(cwd, env) as k:
        for j, i in enumerate(todo):
            cell = nb.cells[i]
            on_cell(j, len(todo), cell)
            if skipped(cell, run):
                if not keep: cell.outputs = []
                continue
            try: k.run(cell, on_stderr)
            except CellError as e:
                e.cell = i
                raise
    return nb


if __name__ == '__main__': sys.exit('run tools/report.py (make report)')
