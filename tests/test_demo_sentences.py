"""The findings of every chapter hold on the committed tables of profile demo.

A finding stands in a cell flagged `#| demo`. It uses imports, tables and constants, nothing that another cell computed.
One flagged `#| demo NAME` reads tables of the study NAME, and waits where that study has not been run.
"""
import ast, dis, importlib, re
import house, pytest
from mura_nb.results import Finding
from mura_nb.numbers import NotMeasured

NOTEBOOKS = sorted((house.ROOT/'nbs').glob('*.ipynb'))


def imports(cell):
    "The imports of a cell, without what else is in it"
    lines = [ast.unparse(n) for n in cell.tree.body if isinstance(n, (ast.Import, ast.ImportFrom))]
    return '\n'.join(lines)


def problems(room, monkeypatch):
    "What is wrong with the findings of a notebook: (cell, words)"
    demo = [c for c in room.code if 'demo' in c.flags]
    if not demo: return []
    shown, plain, out = [], Finding.__init__, []
    def noted(self, text, holds):
        plain(self, text, holds)
        shown.append(self)
    monkeypatch.setattr(Finding, '__init__', noted)
    names = dict(vars(importlib.import_module(f'{house.PACKAGE}.{room.module}'))) if room.module else {}
    for c in room.code:
        if not c.export: exec(imports(c), names)
    for c in demo:
        shown.clear()
        waits = re.search(r'^#\| demo \w+$', c.source, re.M) # for a study
        try: exec(compile(c.tree, f'{room.name} cell {c.number}', 'exec'), dict(names))
        except (FileNotFoundError, NotMeasured) as e:
            if not waits: out.append((c.number, f'{type(e).__name__}: {e}'))
        except Exception as e: out.append((c.number, f'{type(e).__name__}: {e}'))
        else:
            if not shown and not waits: out.append((c.number, 'no finding'))
            out += [(c.number, f'does not hold: {f.text}') for f in shown if not f.holds]
    return out


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_findings_hold(path, root, monkeypatch):
    monkeypatch.chdir(root)
    assert problems(house.read_room(path), monkeypatch) == []


HEAD = 'from mura_nb.results import finding, load_table\nx = 1'
PLANTED = {
    'a sentence that is not true': ("finding('All is well.', holds=False)", 'does not hold: All is well.'),
    'the second of two': ("finding('Well.', holds=True)\nfinding('Not so well.', holds=1 > 2)", 'hold: Not so well.'),
    'no sentence': ('if False: finding("", holds=True)', 'no finding'),
    'a table that is not there': ("load_table('no_such')\nfinding('So.', holds=True)", 'FileNotFoundError'),
    'what another cell computed': ("finding('So.', holds=x == 1)", "NameError: name 'x' is not defined"),
}


def small(code, flag='demo'):
    "A notebook of a cell with imports and a demo cell"
    cells = [house.Cell(0, 'code', HEAD), house.Cell(1, 'code', f'#| {flag}\n' + code)]
    return house.Room(house.Path('01_a.ipynb'), cells)


@pytest.mark.parametrize('fault', PLANTED)
def test_fault_is_reported(root, monkeypatch, fault):
    code, report = PLANTED[fault]
    monkeypatch.chdir(root)
    found = problems(small(code), monkeypatch)
    assert [n for n, _ in found] == [1] and report in found[0][1]


def test_a_sentence_may_wait_for_its_study(root, monkeypatch):
    monkeypatch.chdir(root)
    assert problems(small(PLANTED['a table that is not there'][0], 'demo seeds'), monkeypatch) == []
    assert problems(small(PLANTED['a sentence that is not true'][0], 'demo seeds'), monkeypatch) != []


def test_true_sentence_from_a_committed_table(root, monkeypatch):
    monkeypatch.chdir(root)
    code = "t = load_table('baselines')\nfinding(f'{len(t)} rows.', holds=len(t) > 0)"
    assert problems(small(code), monkeypatch) == []


def stored_names(code):
    "Globals that compiled code of a cell binds"
    return {i.argval for i in dis.get_instructions(code) if i.opname in ('STORE_NAME', 'STORE_GLOBAL')}


def read_names(code):
    "Globals that compiled code reads, its functions included"
    found = {i.argval for i in dis.get_instructions(code) if i.opname in ('LOAD_NAME', 'LOAD_GLOBAL')}
    return found.union(*(read_names(inner) for inner in code.co_consts if hasattr(inner, 'co_code')))


def taken_over(room):
    "Cells that read a name which a demo cell bound last: they would differ where demo cells are left out"
    bound, out = set(), []
    for c in room.code:
        code = compile(c.tree, f'cell {c.number}', 'exec')
        stored = stored_names(code)
        if 'demo' in c.flags:
            bound |= stored
            continue
        read = read_names(code) - stored
        out += [(c.number, name) for name in sorted(read & bound)]
        bound -= stored
    return out


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_no_cell_reads_what_a_demo_cell_bound(path):
    assert taken_over(house.read_room(path)) == []


def test_a_name_taken_over_is_reported():
    room = small("x = 2\nfinding('So.', holds=True)")
    room.cells.append(house.Cell(2, 'code', 'def later(): return x\nx + 1'))
    assert taken_over(room) == [(2, 'x')]
