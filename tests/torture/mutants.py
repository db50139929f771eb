"""Would the tests notice? Small breakages of the package, drawn in every room, each against the tests of its room.

A tool such as mutmut or cosmic-ray starts a test process for each mutant, which here costs ten seconds of imports; and
neither knows that a notebook's cells are the tests of its module. So: one process that has made the imports of all
others is forked for each mutant, and runs the cells of the room's notebook that are not exported; where they notice
nothing, the files of tests/ that import the module. Left out are figures, which are judged by eye."""

import ast, copy, itertools, json, os, random, re, shutil, signal, subprocess, sys, tempfile, time
from pathlib import Path
import pandas as pd
from . import ROOT, TABLES, child, ended, git, summary

CELL, ALL = 5, 12  # seconds of processor after which a cell is left out, and after which no further one is begun
ROOM, FILES = 400, 300  # seconds by the clock for a room's cells and for a file of tests; beyond that: caught
DRAWN, CELLS_ONLY = 'mutants_drawn', 'not by cells'  # the list; what its column caught says before tests/ were asked
WORDS = {'True': 'caught', 'False': 'unnoticed', CELLS_ONLY: 'unnoticed by cells, tests not asked yet'}
DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)
EYE = re.compile(r'figure|draw|show|axes|curve|plot|panel|screenshot|repr|markdown|html|sentence|caption')
LOOKS = {'figsize', 'dpi', 'fontsize', 'lw', 'ms', 'alpha', 'color', 'digits', 'width_ratios', 'caption', 'mininterval'}
SWAPS = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
NAMES = dict(
    min='max',
    max='min',
    any='all',
    all='any',
    argmax='argmin',
    argmin='argmax',
    floor='ceil',
    ceil='floor',
    mean='sum',
    cumsum='cumprod',
    isin='eq',
    idxmin='idxmax',
    idxmax='idxmin',
    maximum='minimum',
    minimum='maximum',
)


# -- drawing -----------------------------------------------------------------------------------------------------------


def changes(node):
    "What can be broken at a node: functions that give the node in its place"

    def with_(**fields):
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        yield with_(ops=[SWAPS[type(node.ops[0])](), *node.ops[1:]])
    if isinstance(node, (ast.BinOp, ast.AugAssign, ast.BoolOp)) and type(node.op) in SWAPS:
        text = [
            v
            for v in ast.walk(node)
            if isinstance(v, (ast.JoinedStr, ast.List, ast.Tuple))
            or isinstance(v, ast.Constant)
            and isinstance(v.value, (str, bytes))
        ]
        if not text:
            yield with_(op=SWAPS[type(node.op)]())
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield with_(value=not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
        yield with_(value=node.value + 1)
    if isinstance(node, ast.Attribute) and node.attr in NAMES:
        yield with_(attr=NAMES[node.attr])
    if isinstance(node, ast.Name) and node.id in NAMES:
        yield with_(id=NAMES[node.id])
    if isinstance(node, ast.If):
        yield with_(test=ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.IfExp):
        yield with_(body=node.orelse, orelse=node.body)
    if isinstance(node, ast.Return) and node.value is not None:
        yield with_(value=ast.Constant(None))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()


def sites(node, inside=False):
    "(parent, field, place in a list or None) of the nodes in functions that may be broken, not those for the eye"
    for field, value in ast.iter_fields(node):
        if field in ('annotation', 'returns', 'decorator_list', 'defaults', 'kw_defaults', 'ctx'):
            continue
        for i, new in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(new, ast.AST) or isinstance(new, (ast.Assert, ast.JoinedStr, ast.Raise)):
                continue
            if isinstance(new, (*DEFS, ast.ClassDef)) and EYE.search(new.name):
                continue
            if isinstance(new, ast.keyword) and new.arg in LOOKS:
                continue
            if inside:
                yield node, field, i
            yield from sites(new, inside or isinstance(new, DEFS))


def put(parent, field, i, new):
    if i is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[i] = new


def draw(source, rng):
    "A breakage of a module: line, the line before and after, the broken module's text; None where there is no place"
    tree = ast.parse(source)
    places = [(*at, new) for at in sites(tree) for new in changes(now(*at))]
    if not places:
        return None
    parent, field, i, new = rng.choice(places)
    old, statement = now(parent, field, i), None
    for s in ast.walk(tree):
        if isinstance(s, ast.stmt) and not isinstance(s, ast.ClassDef) and any(old is n for n in ast.walk(s)):
            statement = s
    before = ast.unparse(statement)
    put(parent, field, i, ast.copy_location(new, old))
    broken = ast.unparse(ast.fix_missing_locations(tree))
    after = ast.unparse(new if statement is old else statement)
    return dict(line=old.lineno, before=before[:200], after=after[:200], broken=broken)


def now(parent, field, i):
    return getattr(parent, field) if i is None else getattr(parent, field)[i]


def rooms(folder):
    "Module -> notebook, in the order of the rooms"
    found = {}
    for file in sorted((folder / 'nbs').glob('[0-9]*.ipynb')):
        cells = json.loads(file.read_text(encoding='utf-8'))['cells']
        names = [m[1] for c in cells if (m := re.search(r'^#\|\s*default_exp\s+(\w+)', ''.join(c['source']), re.M))]
        if names:
            found[names[0]] = file
    return found


def drawn(folder, seed):
    "One breakage in each room"
    rows = []
    for module, file in rooms(folder).items():
        source = (folder / 'mura_nb' / f'{module}.py').read_text(encoding='utf-8')
        found = draw(source, random.Random(f'{seed} {module}'))
        if found:
            rows.append(dict(number=len(rows), room=file.stem, module=module, **found))
    return rows


# -- what the tests say ------------------------------------------------------------------------------------------------


def test_cells(file):
    "The cells of a notebook that its own test runs, those of long trainings and of sentences about the demo left out"
    for i, cell in enumerate(json.loads(file.read_text(encoding='utf-8'))['cells']):
        source = ''.join(cell['source'])
        flags = set(re.findall(r'^#\|\s*(\w+)', source, re.M))
        left = {'export', 'exporti', 'exports', 'default_exp', 'notest', 'ablation', 'cuda', 'demo'}
        if cell['cell_type'] == 'code' and source.strip() and not flags & left and 'eval: false' not in source:
            yield i, '\n'.join('' if line.startswith(('%', '!')) else line for line in source.splitlines())


def run_cell(source, name, space):
    "Run a cell; its last value shows itself, as in Jupyter"
    tree = ast.parse(source, name)
    last = tree.body.pop().value if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, 'exec'), space)
    if last is None:
        return
    value = eval(compile(ast.Expression(last), name, 'eval'), space)
    for show in ('_repr_markdown_', '_repr_html_'):
        if hasattr(value, show) and not isinstance(value, type):
            return getattr(value, show)()
    repr(value)


class TooLong(BaseException):
    pass  # by the processor's time; fails both where it is broken and where it is not


def _too_long(*_):
    raise TooLong('longer than a cell may take')


def enter(folder):
    "This process works in the copy: its modules, its settings, its results"
    os.chdir(folder / 'nbs')
    sys.path[:0] = [str(folder), str(folder / 'tools'), str(folder / 'tests')]
    os.environ['PYTHONPATH'] = str(folder)
    from matplotlib import pyplot as plt

    plt.show = lambda *a, **kw: None


def run_cells(folder, module, file, out, how):
    """Run test cells in the module's own names; a row of JSON a cell in the file `out`. how: cells that are left out,
    stop at the first failure, the last one"""
    enter(folder)
    signal.signal(signal.SIGPROF, _too_long)
    with open(out, 'w', buffering=1) as rows:

        def say(i, error):
            rows.write(json.dumps([i, error]) + '\n')

        try:
            space = dict(vars(__import__(f'mura_nb.{module}', fromlist=['*']))) | dict(__name__='__main__')
        except BaseException as e:
            return say(-1, one_line(e))
        say(-1, '')
        for i, source in test_cells(file):
            if i in how['left']:
                continue
            error = ''
            signal.setitimer(signal.ITIMER_PROF, CELL)
            try:
                run_cell(source, f'cell {i}', space)
            except BaseException as e:
                error = one_line(e)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            say(i, error)
            if error and how.get('stop') or i == how.get('last') or time.process_time() > ALL:
                return


def one_line(e):
    return ' '.join(f'{type(e).__name__}: {e}'.split())[:160]


def compile_rays(folder):
    enter(folder)
    from mura_nb.phantom import example_study

    example_study('WRIST', size=64)


def run_pytest(folder, args):
    enter(folder)
    os.chdir(folder)
    import pytest

    sys.exit(int(pytest.main(['-x', '-q', '-p', 'no:cacheprovider', '-p', 'no:randomly', *args])))


def test_files(folder, module):
    "The files of tests that import a module, small ones first"
    text = re.compile(rf'mura_nb(\.{module}\b| import (\w+ as \w+, )*{module}\b)|[\'"]mura_nb\.{module}[\'".]')
    found = [f for f in (folder / 'tests').glob('test_*.py') if text.search(f.read_text(encoding='utf-8'))]
    left = {'test_torture', 'test_outer', 'test_outer_report', 'test_quarto', 'test_site_browser'}
    return sorted((f for f in found if f.stem not in left), key=lambda f: f.stat().st_size)


class Tree:
    "A copy of the checkout with the results of an earlier smoke report, put back after each mutant"

    STATE = ('results', '.cache', 'data')

    def __init__(self, folder, commit):
        self.folder, self.kept, self.times, self.texts = folder / 'tree', folder / 'kept', {}, {}
        self.folder.mkdir(parents=True)
        tar = subprocess.run(['git', '-C', ROOT, 'archive', commit], capture_output=True, check=True).stdout
        subprocess.run(['tar', '-x', '-C', self.folder], input=tar, check=True)
        for name in self.STATE:
            if (ROOT / name).is_dir():
                left = shutil.ignore_patterns('wheel-*')  # a whole environment, of tests that are not asked here
                shutil.copytree(ROOT / name, self.kept / name, symlinks=True, ignore=left)
        shutil.rmtree(self.folder / 'results', ignore_errors=True)
        self.restore()
        self.compile()

    def compile(self):
        "Numba's machine code, which is kept beside the module, is made now, not in the first cell of each process"
        ended(child(compile_rays, self.folder), ROOM)

    def write(self, module, text):
        "Another text of a module; at the same time of change where it is the text of the commit"
        file = self.folder / 'mura_nb' / f'{module}.py'
        self.times.setdefault(module, (file.stat().st_atime_ns, file.stat().st_mtime_ns))
        self.texts.setdefault(module, file.read_text(encoding='utf-8'))
        file.write_text(self.texts[module] if text is None else text, encoding='utf-8')
        if text is None:
            os.utime(file, ns=self.times[module])
        elif module == 'skeleton':
            self.compile()
        for kept in (self.folder / 'mura_nb' / '__pycache__').glob(f'{module}.cpython-*.pyc'):
            kept.unlink()  # of that second

    def restore(self):
        "What a run has changed, made or deleted is as before"
        for name in self.STATE:
            old, new = (
                {f.relative_to(d): f for f in (d / name).rglob('*') if f.is_file()} for d in (self.kept, self.folder)
            )
            for path in new.keys() - old.keys():
                new[path].unlink()
            for path, file in old.items():
                a, b = file.stat(), new[path].stat() if path in new else None
                if b and (a.st_size, a.st_mtime_ns) == (b.st_size, b.st_mtime_ns):
                    continue
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(file, self.folder / path)


class Judge:
    "Asks the tests of a room about a breakage"

    def __init__(self, tree):
        self.tree, self.out, self.log = tree, tree.folder / 'out.jsonl', tree.folder / 'log.txt'

    def cells(self, module, file, how):
        "Cell -> error, '' where it passes; and how the process ended"
        self.out.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        how = ended(child(run_cells, self.tree.folder, module, file, self.out, how, log=self.log), ROOM)
        self.tree.restore()
        said = [json.loads(line) for line in self.out.read_text().splitlines()] if self.out.exists() else []
        return {i: error for i, error, *_ in said}, how

    def pytest(self, *args):
        "Exit status of pytest, None after too long; the first test that failed"
        self.log.unlink(missing_ok=True)
        how = ended(child(run_pytest, self.tree.folder, [str(a) for a in args], log=self.log), FILES)
        self.tree.restore()
        first = re.search(r'^(?:FAILED|ERROR) (.+?)(?: - |$)', self.log.read_text(errors='replace'), re.M)
        return how, first[1] if first else ''

    def noticed(self, module, file, broken, same):
        "The first cell that fails where the module is broken and not where it is the same"
        left = {}
        while True:
            self.tree.write(module, broken)
            said, how = self.cells(module, file, dict(left=[*left], stop=True))
            fell = next((i for i, error in said.items() if error), None)
            if fell is None:
                return '' if how == 0 else f'ended with {how}' if how else 'took too long'
            if fell == -1:
                return said[-1]
            self.tree.write(module, same)
            plain, _ = self.cells(module, file, dict(left=[*left], last=fell))
            if plain.get(fell) == '':
                return f'cell {fell}: {said[fell]}'
            left |= {i: error for i, error in plain.items() if error} | {fell: ''}

    def failing(self, test, module, broken, same):
        "The first test of a file that fails where the module is broken and not where it is the same, '' for none"
        left = []
        while True:
            self.tree.write(module, broken)
            how, first = self.pytest(test, *left)
            if how in (0, 5):
                return ''
            self.tree.write(module, same)
            if self.pytest(first or test, *left)[0] == 0:
                return first.partition('::')[2] or f'ended with {how}'
            if not first or first in left:
                return ''  # it hangs, dies or cannot be read in any case
            left += ['--deselect', first]

    def ask(self, mutant, stage):
        "Who notices a mutant, and how, '' where nobody does: the cells of its room, or the files of tests"
        module, file = mutant['module'], rooms(self.tree.folder)[mutant['module']]
        whole = (self.tree.folder/'mura_nb'/f'{module}.py').read_text(encoding='utf-8')
        same = ast.unparse(ast.parse(whole))  # as the broken one is written: without comments
        try:
            if stage == 'cells':
                how = self.noticed(module, file, mutant['broken'], same)
                return file.stem*bool(how), how
            for test in test_files(self.tree.folder, module):
                how = self.failing(test, module, mutant['broken'], same)
                if how:
                    return test.name, how
            return '', ''
        finally: self.tree.write(module, None)


HEAVY = (
    'nbdev.test',
    'fastai.vision.all',
    'matplotlib.pyplot',
    'sklearn.metrics',
    'sklearn.linear_model',
    'h5py',
    'timm',
    'skimage.measure',
    'scipy.optimize',
    'scipy.stats',
    'scipy.ndimage',
    'pydicom',
    'highdicom',
    'faiss',
    'joblib',
    'numba',
    'mujoco',
    'torchvision',
    'safetensors.torch',
    'typer',
    'jinja2',
    'PIL.Image',
    'filelock',
    'rich.console',
    'pytest',
    'hypothesis',
    'IPython.display',
    'fastcore.test',
)


def tell(rows, seed, commit):
    "The table of what has been tried so far; True where nine in ten are caught"
    tried = [r for r in rows if r['caught']]
    by = {words: [r for r in tried if r['caught'] == kind] for kind, words in WORDS.items()}
    caught = by.pop(WORDS['True'])
    left = ', '.join(f'{len(part)} {words}' for words, part in by.items() if part)
    summary('mutants', [('small breakages' + f' ({left})'*bool(left), len(tried), len(caught))], seed, commit)
    return len(caught) >= 0.9*len(tried)


def main(tried=None, seed=None):
    "All that are drawn from the commit's hash, or `tried` of them; `seed` is not used"
    for name in HEAVY:
        __import__(name)
    own = {f.stem for f in (ROOT / 'tests').glob('*.py')} | {'mura_nb'}
    for name in [k for k in sys.modules if k.split('.')[0] in own]:
        del sys.modules[name]  # those of the copy are to be imported
    table, rows = TABLES / f'{DRAWN}.csv', []
    if table.is_file():
        rows = pd.read_csv(table, dtype=str, keep_default_na=False).to_dict('records')
    if not any(r['caught'] in ('', CELLS_ONLY) for r in rows):
        rows = []  # it is finished: another run
    commit = rows[0]['commit'] if rows else git('rev-parse', 'HEAD')[:12]
    seed = int(commit[:8], 16)
    TABLES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='mutants-') as folder:
        judge = Judge(Tree(Path(folder), commit))
        broken = {str(m['number']): m for m in drawn(judge.tree.folder, seed)}
        some = sorted(random.Random(seed).sample([*broken], tried or len(broken)), key=int)
        new = [{k: str(v) for k, v in broken[n].items() if k != 'broken'} for n in some]
        if any((m := broken.get(r['number'])) is None or m['before'] != r['before'] for r in rows):
            sys.exit(f'{table}: drawn by other rules than those of today; delete it, and a new list is drawn')
        rows = rows or [m | dict(caught='', by='', how='', since='', commit=commit) for m in new]
        random.Random(seed).shuffle(order := [*rows])  # so that a run that is stopped has been everywhere
        todo = [(r, 'cells') for r in order if r['caught'] == ''] # the quick ones first
        for row, stage in itertools.chain(todo, ((r, 'files') for r in order if r['caught'] == CELLS_ONLY)):
            begin = time.time()
            row['by'], row['how'] = judge.ask(broken[row['number']], stage)
            row['caught'] = 'True' if row['by'] else CELLS_ONLY if stage == 'cells' else 'False'
            pd.DataFrame(rows).to_csv(table, index=False)
            words = f"{row['before'][:60]} -> {row['after'][:60]} | {row['how'][:60]}"
            print(f'{time.time() - begin:4.0f} s', row['caught'], row['room'], row['line'], words, flush=True)
    return tell(rows, seed, commit)
