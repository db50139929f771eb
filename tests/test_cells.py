"""Each notebook keeps to the limits of [tool.house]: small cells, followed by prose or use, documented, results first.

`python tests/test_cells.py` prints the counts of all notebooks, `python tests/test_cells.py nbs/04_baselines.ipynb` the
faults of one.
"""
import sys
import house, pytest

NOTEBOOKS = sorted((house.ROOT/'nbs').glob('*.ipynb'))
LONG = 'def f(x): # a number\n    "Add"\n' + '    x += 1\n'*30


def room(name, *cells):
    "A notebook of (kind, source) or (kind, source, outputs), every one a code cell where only the source is given"
    full = [('code', c, []) if isinstance(c, str) else (*c, [])[:3] for c in cells]
    return house.Room(house.Path(f'{name}.ipynb'), [house.Cell(i, *c) for i, c in enumerate(full)])


def export(code): return '#| export\n' + code
def number(text='.853'): return ('code', 'auc', [dict(output_type='execute_result', data={'text/plain': [text]})])
def words(r): return [str(f) for f in house.cell_faults(r)]


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_cells(path):
    found = house.cell_faults(house.read_room(path))
    assert not found, '\n' + '\n'.join(map(str, found))


def test_whole_house_is_counted(capsys):
    house.main([])
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4 + len(NOTEBOOKS) and out[-2].startswith('all')


ADD = 'def f(\n    x:int # a number\n    ): # int\n    "Add"\n    return x'
MODULE = 'class N(nn.Module):\n    "Net"\n' + '    n = 1\n'*39
SEVERAL = 'def _g(): pass\n\n' + LONG[:-11*9]
INIT = 'class A:\n    "A"\n    def __init__(self, x): self.x = x'
FIELD = '@dataclass\nclass A:\n    "A"\n    x:int\n    y:int # here'
GOOD = [('markdown', '# A'), '#| default_exp a', export('import math'), number(), export(ADD), 'assert f(1) == 1']
TWO = 'public definitions f, g in one cell'
MANY = f'def _f({", ".join("abcdefgh")}): pass'
LATE = 'in the 11th cell; a chapter shows one within 10 cells'


def test_good_notebook_has_no_fault(): assert words(room('01_a', *GOOD)) == []


FAULTS = {
    'lines of an export cell': ([export(LONG), 'f(1)'], 'cell 0: export cell of 32 lines; at most 25'),
    'lines of a module': ([export(MODULE), 'N'], 'export cell of 41 lines; at most 40'),
    'helpers beside a function': ([export(SEVERAL), 'f(1)'], '2 definitions in 25 lines; at most 20'),
    'two public names in a cell': ([export('def f(): "One"\n\ndef g(): "Two"'), 'f()'], TWO),
    'lines of a function': ([LONG], 'f: 32 lines; at most 25'),
    'parameters': ([MANY], '_f: 8 parameters; at most 7'),
    'an export after one': ([export('def f(): "One"'), export('def g(): "2"'), 'g()'], 'cell 0: an export cell'),
    'an export at the end': ([export('def f(): "One"')], 'cell 0: nothing follows the export cell'),
    'a parameter without words': ([export('def f(x): "One"'), 'f(1)'], 'f: no comment on x'),
    'a parameter of a method': ([export(INIT), 'A(1)'], 'A.__init__: no comment on x'),
    'a field without words': ([export(FIELD), 'A'], 'A: no comment on x'),
    'a function without a docstring': ([export('def f(): pass'), 'f()'], 'f: no docstring'),
    'a class without a docstring': ([export('class A: pass'), 'A()'], 'A: no docstring'),
    'a method without a docstring': ([export('class A:\n    "A"\n    def f(self): pass'), 'A()'], 'A.f: no docstring'),
    'a long chapter': ([('markdown', 'x')]*81, '01_a: 81 cells; a chapter has at most 80'),
    'a late result': ([('markdown', 'x')]*10 + [number()], LATE),
    'a result that nobody sees': ([('code', '#| hide\nauc', number()[2])], 'first picture, table or number nowhere'),
    'a result without a number': ([number('None')], 'first picture, table or number nowhere'),
    'code without prose': (['x = 1']*5, '5 code cells in a row without prose'),
    'a demo cell without a finding': (['#| demo\nx = 1'], 'cell 0: #| demo without a finding'),
    'a finding outside the demo': (["finding('So.', holds=True)"], 'cell 0: a finding outside a cell with #| demo'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_fault_is_reported(fault):
    cells, report = FAULTS[fault]
    found = words(room('01_a', *cells))
    assert any(report in f for f in found), found


@pytest.mark.parametrize('cells', [
    [export('import math'), export('X = 1'), export('def f(): "One"'), 'f()'],  # nothing below imports and constants
    [export('def f(\n    # a number\n    x):\n    "One"'), 'f(1)'],  # a comment above the parameter
    [export('def f(x): "`x` plus one"'), 'f(1)'],  # or its name in the docstring
    [export('@dataclass\nclass A:\n    "A"\n    x:int = knob(int, "a side, px")'), 'A'],
    [export('def _f(x): pass'), ('markdown', 'Why.')],
], ids=['constants', 'comment above', 'docstring', 'field with words', 'private'])
def test_what_is_allowed(cells): assert words(room('01a_x', *cells)) == []


def test_side_rooms_and_the_index_need_no_result():
    assert words(room('01a_x', *[('markdown', 'x')]*81)) == [] == words(room('index', ('markdown', 'x')))


if __name__ == '__main__': house.main(sys.argv[1:])
