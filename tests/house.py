"""What the notebooks must keep to, read from their cells: the order of the rooms, the size of a cell, its comments.

`python tests/test_cells.py` prints counts; with notebooks, every fault by its cell.
The limits stand in pyproject.toml, [tool.house].
"""
import ast, functools, io, itertools, json, re, subprocess, sys, tokenize, tomllib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
TOOLS = tomllib.loads((ROOT/'pyproject.toml').read_text(encoding='utf-8'))['tool']
LIMITS, LINE = TOOLS['house'], TOOLS['ruff']['line-length']
PACKAGE = 'mura_nb'
DEFS = (ast.FunctionDef, ast.AsyncFunctionDef)
CONSTANTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
SHOWN = ('image/png', 'image/svg+xml', 'text/html', 'text/markdown')


# -- notebooks ---------------------------------------------------------------------------------------------------------

@dataclass
class Cell:
    number: int
    kind: str
    source: str
    outputs: list = field(default_factory=list)

    @cached_property
    def flags(self): return set(re.findall(r'^#\|\s*(\w+)(?!\S*:)', self.source, re.M))

    @cached_property
    def code(self):
        "Without nbdev's directives, with magics as comments, every line in its place"
        return '\n'.join('' if l.startswith('#|') else f'# {l}' if l.lstrip().startswith(('%', '!')) else l
                         for l in self.source.splitlines())

    @cached_property
    def tree(self):
        if self.kind != 'code': return ast.Module([], [])
        return compile(self.code, f'cell {self.number}', 'exec', ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

    @cached_property
    def comments(self):
        "Line -> its comment"
        tokens = tokenize.generate_tokens(io.StringIO(self.code + '\n').readline)
        return {t.start[0]: t.string.lstrip('# ') for t in tokens if t.type == tokenize.COMMENT}

    @property
    def export(self): return self.kind == 'code' and bool(self.flags & {'export', 'exporti', 'exports'})
    @property
    def hidden(self): return bool(self.flags & {'hide', 'default_exp'})
    @property
    def lines(self): return len(self.code.strip().splitlines())
    @property
    def defined(self): return [n for n in self.tree.body if isinstance(n, (*DEFS, ast.ClassDef))]
    @property
    def plain(self): return all(isinstance(n, CONSTANTS) for n in self.tree.body)

    @property
    def shows(self):
        "A picture, a table or a number that the reader sees"
        if self.kind != 'code' or self.export or self.hidden: return False
        data = [o.get('data', {}) for o in self.outputs]
        number = any(re.search(r'\d', ''.join(d.get('text/plain', ''))) for d in data)
        return number or any(k in d for d in data for k in SHOWN)


@dataclass
class Room:
    path: Path
    cells: list

    @property
    def name(self): return self.path.stem
    @property
    def chapter(self): return bool(re.match(r'\d+_', self.name))
    @cached_property
    def module(self):
        found = [m for c in self.code if (m := re.search(r'^#\|\s*default_exp\s+(\w+)', c.source, re.M))]
        return found[0][1] if found else None
    @property
    def code(self): return [c for c in self.cells if c.kind == 'code']
    @property
    def exports(self): return [c for c in self.cells if c.export]


def read_room(path):
    "A notebook, read and parsed once as long as its file stays the same"
    at = Path(path).stat()
    return _read_room(Path(path), at.st_mtime_ns, at.st_size)


@functools.lru_cache(200)
def _read_room(path, *_):
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    parts = [(c['cell_type'], ''.join(c['source']), c.get('outputs', [])) for c in cells]
    return Room(path, [Cell(i, *p) for i, p in enumerate(parts)])


def read_house(folder):
    "All rooms of a folder, in the order of the report"
    return [read_room(f) for f in sorted(Path(folder).glob('*.ipynb'))]


@dataclass(frozen=True)
class Fault:
    room: str
    cell: int | None
    words: str
    def __str__(self): return f"{self.room}{'' if self.cell is None else f' cell {self.cell}'}: {self.words}"


# -- cells -------------------------------------------------------------------------------------------------------------

def _decorators(node): return {ast.unparse(d).split('(')[0].split('.')[-1] for d in node.decorator_list}
def _public(name): return not name.startswith('_')
def length(node): return node.end_lineno - node.lineno + 1
def functions(tree): return [n for n in ast.walk(tree) if isinstance(n, DEFS)]
def is_text(node): return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_module(node):
    "A subclass of nn.Module"
    return isinstance(node, ast.ClassDef) and any(ast.unparse(b).endswith('Module') for b in node.bases)


def parameters(f):
    "Those of a function, without self"
    a = f.args
    every = [*a.posonlyargs, *a.args, *([a.vararg] if a.vararg else []), *a.kwonlyargs, *([a.kwarg] if a.kwarg else [])]
    return every[1:] if every and every[0].arg in ('self', 'cls') else every


def public_functions(cell):
    "(name, function) of public functions and of public methods of public classes, `__init__` included"
    for n in cell.defined:
        if isinstance(n, DEFS) and _public(n.name): yield n.name, n
        elif isinstance(n, ast.ClassDef) and _public(n.name):
            for m in n.body:
                if isinstance(m, DEFS) and (_public(m.name) or m.name == '__init__'): yield f'{n.name}.{m.name}', m


def _commented(cell, node):
    "Is there a comment on a line of a parameter, or on a line of its own above it?"
    if any(l in cell.comments for l in range(node.lineno, node.end_lineno + 1)): return True
    above = cell.code.splitlines()[node.lineno - 2]
    return above.lstrip().startswith('#')


def undocumented(cell, f):
    "Names of parameters without a comment, that the docstring does not name either"
    doc = ast.get_docstring(f) or ''
    return [p.arg for p in parameters(f) if not _commented(cell, p) and f'`{p.arg}`' not in doc and _public(p.arg)]


def _fields(cell, node):
    "Fields of a dataclass without a comment and without words of their own"
    for n in node.body:
        if not isinstance(n, ast.AnnAssign) or not _public(n.target.id): continue
        words = isinstance(n.value, ast.Call) and any(map(is_text, ast.walk(n.value)))
        if not words and not _commented(cell, n): yield n.target.id


def size_faults(cell):
    "Lines of an export cell, and what stands together in one"
    whole = LIMITS['module_lines'] if cell.plain or any(map(_is_module, cell.defined)) else LIMITS['export_lines']
    several, n = LIMITS['helper_lines'], len(cell.defined)
    if cell.lines > whole: yield f'export cell of {cell.lines} lines; at most {whole}'
    elif n > 1 and cell.lines > several:
        yield f'{n} definitions in {cell.lines} lines; at most {several} together, else a cell each'
    public = [n.name for n in cell.defined if _public(n.name)]
    if len(public) > 1: yield f"public definitions {', '.join(public)} in one cell; one a cell"


def _is_command(f):
    "Typer makes an option of each parameter, so a command has as many as people need"
    return any('.command' in ast.unparse(d) for d in f.decorator_list)


def function_faults(cell):
    "Functions of any cell that are too long or take too much"
    for f in functions(cell.tree):
        wide = 0 if f.name in LIMITS['wide_by_contract'] or _is_command(f) else len(parameters(f))
        sizes = (length(f), 'lines', LIMITS['function_lines']), (wide, 'parameters', LIMITS['parameters'])
        for n, what, most in sizes:
            if n > most: yield f'{f.name}: {n} {what}; at most {most}'


def _said(cell, name, f):
    "Is it said what a function does? A method may have a comment on its first line instead"
    if ast.get_docstring(f) or name.endswith('__init__'): return True
    return '.' in name and (f.lineno in cell.comments or _commented(cell, f.body[0]))


def doc_faults(cell):
    "What an export cell defines and does not document"
    for name, f in public_functions(cell):
        if missing := undocumented(cell, f): yield f"{name}: no comment on {', '.join(missing)}"
        if not _said(cell, name, f): yield f'{name}: no docstring'
    for n in cell.defined:
        if not isinstance(n, ast.ClassDef) or not _public(n.name): continue
        if not ast.get_docstring(n): yield f'{n.name}: no docstring'
        missing = list(_fields(cell, n)) if 'dataclass' in _decorators(n) else []
        if missing: yield f"{n.name}: no comment on {', '.join(missing)}"


def follow_faults(room):
    "Export cells with neither prose nor a use below them"
    for cell, below in itertools.pairwise([*room.cells, None]):
        if not cell.export or cell.plain: continue
        if below is None: yield cell, 'nothing follows the export cell'
        elif below.export and not below.plain:
            yield cell, 'an export cell follows an export cell; prose, a use or a test belongs between them'


def runs(room):
    "Lengths of runs of code cells that the reader sees, without prose between them"
    seen = [c for c in room.cells if not (c.kind == 'code' and c.hidden)]
    return [len(list(g)) for code, g in itertools.groupby(seen, lambda c: c.kind == 'code') if code]


def percentile(values, q):
    "By linear interpolation"
    v = sorted(values)
    if not v: return 0
    at = (len(v) - 1)*q/100
    low = int(at)
    return v[low] + (v[min(low + 1, len(v) - 1)] - v[low])*(at - low)


def first_result(room): return next((c.number + 1 for c in room.cells if c.shows), None)


def chapter_faults(room):
    "What a numbered chapter must be besides"
    if len(room.cells) > LIMITS['chapter_cells']:
        yield f"{len(room.cells)} cells; a chapter has at most {LIMITS['chapter_cells']}"
    first = first_result(room)
    if first is None or first > LIMITS['result_within']:
        where = 'nowhere' if first is None else f'in the {first}th cell'
        yield f"first picture, table or number {where}; a chapter shows one within {LIMITS['result_within']} cells"


def demo_faults(cell):
    "A finding belongs into a cell of the demo, and the other way round"
    called = {ast.unparse(n.func).split('.')[-1] for n in ast.walk(cell.tree) if isinstance(n, ast.Call)}
    calls = 'finding' in called
    if calls and 'demo' not in cell.flags and not cell.hidden: yield 'a finding outside a cell with #| demo'
    if 'demo' in cell.flags and not calls: yield '#| demo without a finding'


def row_faults(room):
    "Code cells one after the other"
    row, most = percentile(runs(room), 90), LIMITS['cells_in_a_row']
    if row > most: yield f'{row:g} code cells in a row without prose (90th percentile); at most {most}'


def cell_faults(room):
    "Every fault of a notebook's cells"
    home, found = 'finding' in public_names(room), []
    for c in room.code:
        words = [*function_faults(c)]
        if c.export: words += [*size_faults(c), *doc_faults(c)]
        if not home: words += demo_faults(c)
        found += [(c.number, w) for w in words]
    found += [(c.number, w) for c, w in follow_faults(room)]
    found += [(None, w) for w in [*row_faults(room), *(chapter_faults(room) if room.chapter else [])]]
    return [Fault(room.name, *f) for f in found]


# -- rooms -------------------------------------------------------------------------------------------------------------

@dataclass
class Use:
    "One import of a module of ours"
    cell: Cell
    line: int
    module: str
    names: list
    function: str = ''

    @property
    def excused(self): return any(self.cell.comments.get(l, '').startswith('here:') for l in (self.line, self.line - 1))


def _called(node):
    "Module that `importlib.import_module` or `__import__` is called with; '?' where it is computed"
    name = ast.unparse(node.func).split('.')[-1]
    if name not in ('import_module', '__import__') or not node.args: return None
    given = node.args[0]
    if isinstance(given, ast.Constant): return str(given.value)
    start = given.values[0] if isinstance(given, ast.JoinedStr) and given.values else None
    if isinstance(start, ast.Constant) and not str(start.value).startswith((PACKAGE, '.')): return None
    return f'{PACKAGE}.?'


def _imported(node):
    "[(module of ours, names)] that a node imports"
    if isinstance(node, ast.Import): found = [(a.name, []) for a in node.names]
    elif isinstance(node, ast.Call): found = [(_called(node) or '', [])]
    elif isinstance(node, ast.ImportFrom):
        base = f'{PACKAGE}.{node.module or ""}'.rstrip('.') if node.level else node.module
        names = [a.name for a in node.names]
        found = [(f'{PACKAGE}.{n}', []) for n in names] if base == PACKAGE else [(base, names)]
    else: return []
    return [(m.split('.')[1], names) for m, names in found if m.startswith(f'{PACKAGE}.')]


def uses(cell):
    "Imports of our modules in a cell, those inside functions by the function's name"
    def walk(node, inside):
        for child in ast.iter_child_nodes(node):
            for module, names in _imported(child): yield Use(cell, child.lineno, module, names, inside)
            name = child.name if isinstance(child, DEFS) else 'lambda' if isinstance(child, ast.Lambda) else inside
            yield from walk(child, name)
    return list(walk(cell.tree, ''))


def _by_card(room, use): return f'{room.module}.{use.function}' in LIMITS['imports_by_card']


def order_faults(house):
    "Imports down the list, of everything, inside functions, and of names that are computed"
    order = {r.module: i for i, r in enumerate(house) if r.module}
    for i, room in enumerate(house):
        for u in itertools.chain.from_iterable(map(uses, room.code)):
            words = []
            if _by_card(room, u): continue
            if u.module == '?':
                if not u.excused: words.append('imports a module by a computed name')
            elif u.module == room.module:
                if u.cell.export: words.append(f'{u.module} imports itself')
            elif u.module not in order: words.append(f'imports {u.module}, which is no room')
            elif order[u.module] > i: words.append(f'imports {u.module}, a room further down')
            if '*' in u.names: words.append(f'imports everything from {u.module}; name what is used')
            if u.function and not u.excused:
                words.append(f'{u.function}: import of {u.module} inside; at the top, or with a comment `# here: why`')
            yield from (Fault(room.name, u.cell.number, w) for w in words)


def circle_faults(house):
    "Modules that import each other, over however many others"
    edges = {}
    for r in house:
        used = itertools.chain.from_iterable(map(uses, r.exports))
        if r.module: edges[r.module] = {u.module for u in used if not _by_card(r, u)} - {r.module}

    def reached(start):
        seen, todo = set(), list(edges.get(start, ()))
        while todo:
            if (m := todo.pop()) in seen: continue
            seen.add(m)
            todo += edges.get(m, ())
        return seen

    around = {m: reached(m) for m in edges}
    for room in house:
        others = sorted(m for m in around.get(room.module, ()) if m != room.module and room.module in around.get(m, ()))
        if others: yield Fault(room.name, None, f"{room.module} is in a circle of imports with {', '.join(others)}")


PROTOCOLS = re.compile(r'_|__\w+|_repr_\w+_|_ipython_\w+_')  # of Python and of Jupyter
def _is_private(name): return name.startswith('_') and not PROTOCOLS.fullmatch(name)


def private_names(room):
    "Private functions, methods and attributes that a room's code defines"
    out = set()
    for n in itertools.chain.from_iterable(ast.walk(c.tree) for c in room.code):
        if isinstance(n, (*DEFS, ast.ClassDef)): out.add(n.name)
        elif isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store): out.add(n.id)
        elif isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store): out.add(n.attr)
        elif isinstance(n, ast.arg): out.add(n.arg)
    return {n for n in out if _is_private(n)}


def private_faults(house):
    "Private names of one room that another imports or uses as attributes"
    own = {r.name: private_names(r) for r in house}
    for room in house:
        others = {n: r.name for r in house if r is not room for n in own[r.name]}
        for c in room.code:
            others_uses = [u for u in uses(c) if u.module != room.module]
            imported = {f'{u.module}.{n}' for u in others_uses for n in u.names if _is_private(n)}
            yield from (Fault(room.name, c.number, f'uses {n}, a private name') for n in sorted(imported))
            loaded = {n.attr for n in ast.walk(c.tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Load)}
            used = sorted((loaded - own[room.name]) & set(others))
            yield from (Fault(room.name, c.number, f'uses .{n}, a private name of {others[n]}') for n in used)


def public_names(room):
    "Public names that a room's export cells define, name -> cell"
    out = {}
    for c in room.exports:
        for n in c.tree.body:
            if isinstance(n, (*DEFS, ast.ClassDef)): names = [] if 'patch' in _decorators(n) else [n.name]
            elif isinstance(n, (ast.Assign, ast.AnnAssign)):
                targets = ast.Tuple(n.targets if isinstance(n, ast.Assign) else [n.target], ast.Store())
                names = [v.id for v in ast.walk(targets) if isinstance(v, ast.Name) and isinstance(v.ctx, ast.Store)]
                if names == ['_all_']: names = [v.value for v in ast.walk(n.value) if isinstance(v, ast.Constant)]
            else: continue
            out |= {name: c.number for name in names if _public(name)}
    return out


def doubled_faults(house):
    "Public names that two rooms define"
    first = {}
    for room in house:
        for name, cell in public_names(room).items():
            if name not in first: first[name] = room
            elif f'{room.module}.{name}' not in LIMITS['reexports']:
                yield Fault(room.name, cell, f'{name} is public in {first[name].name} too; one home for one name')


def room_faults(house):
    "Every fault of the rooms among each other"
    return [*order_faults(house), *circle_faults(house), *private_faults(house), *doubled_faults(house)]


# -- lines -------------------------------------------------------------------------------------------------------------

def ruff_faults(*paths, config=ROOT/'pyproject.toml'):
    "What ruff finds in files, folders and notebooks"
    call = [sys.executable, '-m', 'ruff', 'check', '--config', str(config), '--output-format', 'json', '--no-cache']
    run = subprocess.run([*call, *map(str, paths)], capture_output=True, text=True)
    if run.returncode not in (0, 1): raise RuntimeError(run.stderr)
    for f in json.loads(run.stdout):
        path, line = Path(f['filename']), f"line {f['location']['row']}: {f['code']} {f['message']}"
        if path.suffix == '.ipynb': yield Fault(path.stem, f['cell'] - 1, line)  # ruff counts cells from 1
        else: yield Fault(path.name, None, line)


# -- counts ------------------------------------------------------------------------------------------------------------

OVER = f'over {LINE}'
COLUMNS = ('cells', 'export lines', 'in a row', 'function lines', 'parameters', OVER, 'semicolons', 'documented',
           'first result')


def _three(values):
    "Median, 90th percentile, largest"
    return '/'.join(f'{v:.0f}' for v in (median(values), percentile(values, 90), max(values))) if values else '–'


def _semicolons(cell):
    tokens = tokenize.generate_tokens(io.StringIO(cell.code + '\n').readline)
    return sum(t.type == tokenize.OP and t.string == ';' for t in tokens)


def _documented(rooms):
    "Share of the public functions with a comment on every parameter"
    every = [(c, f) for r in rooms for c in r.exports for _, f in public_functions(c)]
    return f'{sum(not undocumented(c, f) for c, f in every)/len(every):.0%}' if every else '–'


def _firsts(rooms):
    "Cell of the first result, the earliest and the latest of several chapters"
    cells = sorted(first_result(r) or len(r.cells) for r in rooms if r.chapter)
    return '-'.join(str(c) for c in dict.fromkeys((cells[0], cells[-1]))) if cells else '–'


def counts(rooms):
    "The measures of style, of one notebook or several together"
    code = [c for r in rooms for c in r.code]
    defs = [f for c in code if c.export for f in functions(c.tree)]
    row = list(itertools.chain.from_iterable(map(runs, rooms)))
    values = (sum(len(r.cells) for r in rooms), _three([c.lines for c in code if c.export]),
        f'{median(row or [0]):.0f}/{percentile(row, 90):.0f}', _three([length(f) for f in defs]),
        max((len(parameters(f)) for f in defs), default=0),
        sum(len(l) > LINE for c in code for l in c.source.splitlines()),
        sum(map(_semicolons, code)), _documented(rooms), _firsts(rooms))
    return dict(zip(COLUMNS, values, strict=True))


def print_counts(house):
    "A row a notebook, then all together"
    rows = [(r.name, counts([r])) for r in house] + [('all', counts(house))]
    widths = [max(len(c), *(len(str(v[c])) for _, v in rows)) for c in COLUMNS]
    side = max(len(n) for n, _ in rows)
    print('median/90th percentile/largest of: lines of export cells and functions; median/90th: code cells in a row')
    print(' '*side, *(c.rjust(w) for c, w in zip(COLUMNS, widths, strict=True)))
    for name, v in rows: print(name.ljust(side), *(str(v[c]).rjust(w) for c, w in zip(COLUMNS, widths, strict=True)))
    exports, most = [c for r in house for c in r.exports], LIMITS['export_lines']
    print(f'export cells over {most} lines: {sum(c.lines > most for c in exports)} of {len(exports)};',
          'faults:', dict(Counter(f.room for r in house for f in cell_faults(r))))


def faults_of(path):
    "Every fault of one notebook, those against the rooms beside it included"
    room = read_room(path)
    rooms = [f for f in room_faults(read_house(room.path.resolve().parent)) if f.room == room.name]
    found = {*cell_faults(room), *rooms, *ruff_faults(path)}
    return sorted(found, key=lambda f: (-1 if f.cell is None else f.cell, f.words))


def main(paths):
    "Counts of all notebooks; with some named, every fault of theirs (cells counted from 0)"
    if not paths: return print_counts(read_house(ROOT/'nbs'))
    for path in map(Path, paths):
        found = faults_of(path)
        print(*found, f'{path.name}: {len(found)} faults', sep='\n')
    print_counts([read_room(p) for p in paths])
