"The rooms stand in order: imports down the list only, nothing private across rooms, one home for a name."
import json
import house, pytest


@pytest.fixture(scope='module')
def faults(): return house.room_faults(house.read_house(house.ROOT/'nbs'))


@pytest.mark.parametrize('room', sorted(f.stem for f in (house.ROOT/'nbs').glob('*.ipynb')))
def test_room(faults, room):
    found = [str(f) for f in faults if f.room == room]
    assert not found, '\n' + '\n'.join(found)


def small_house(folder, *, first='', second='', third=''):
    "Three rooms a, b, c with one more export cell each; what is found in them"
    for i, (name, code) in enumerate(zip('abc', (first, second, third), strict=True)):
        cells = [f'#| default_exp {name}', f'#| export\nimport math\ndef f_{name}(): pass', code]
        nb = dict(cells=[dict(cell_type='code', source=s, outputs=[]) for s in cells])
        (folder/f'0{i}_{name}.ipynb').write_text(json.dumps(nb))
    return [str(f) for f in house.room_faults(house.read_house(folder))]


E = '#| export\n'
HERE = 'def g():\n    # here: numba takes a second to import\n    from mura_nb.a import f_a'
COMPUTED = "def g(n): return import_module(f'mura_nb.{n}')"
BY_NAME = "def g(): return importlib.import_module('mura_nb.c')"
MODULE = 'from mura_nb import a\nprint(a._x)'
METHOD = 'class A:\n    def _m(self): pass'
TOO = '02_c cell 2: g is public in 00_a too'
UP = 'imports c, a room further down'
INSIDE = 'import of a inside; at the top, or with a comment'

FAULTS = {
    'up the list': (dict(first=E + 'from mura_nb.b import f_b'), '00_a cell 2: imports b, a room further down'),
    'up, relative': (dict(first=E + 'from .c import f_c'), 'imports c, a room further down'),
    'up, the module': (dict(first=E + 'from mura_nb import b'), 'imports b, a room further down'),
    'up, import as': (dict(first=E + 'import mura_nb.c as later'), 'imports c, a room further down'),
    'up, hidden': (dict(first=E + 'def g():\n    import mura_nb.c # here: why'), UP),
    'up, by importlib': (dict(first=E + BY_NAME), UP),
    'up, by a computed name': (dict(first=E + COMPUTED), 'imports a module by a computed name'),
    'up, in a cell that is not exported': (dict(first='import mura_nb.b'), 'imports b, a room further down'),
    'a room that is not there': (dict(third=E + 'from mura_nb.d import f'), 'imports d, which is no room'),
    'a circle': (dict(first=E + 'import mura_nb.c', third=E + 'import mura_nb.a'), 'a is in a circle'),
    'everything': (dict(second=E + 'from mura_nb.a import *'), 'imports everything from a'),
    'itself': (dict(second=E + 'def g():\n    from mura_nb.b import f_b'), 'b imports itself'),
    'inside a function': (dict(second=E + 'def g():\n    from mura_nb.a import f_a'), f'g: {INSIDE}'),
    'inside a lambda': (dict(second=E + "g = lambda: __import__('mura_nb.a')"), INSIDE),
    'a private import': (dict(second=E + 'from mura_nb.a import _x'), '01_b cell 2: uses a._x, a private name'),
    'a private import of a test': (dict(second='from mura_nb.a import _x'), 'uses a._x, a private name'),
    'a private attribute of a module': (dict(first=E + '_x = 1', second=E + MODULE), 'uses ._x, a private name'),
    'a private attribute of an object': (dict(first=E + METHOD, third='A()._m()'), 'uses ._m, a private name of 00_a'),
    'a name in two rooms': (dict(first=E + 'def g(): pass', third=E + 'g = 1'), TOO),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_fault_is_reported(tmp_path, fault):
    cells, report = FAULTS[fault]
    found = small_house(tmp_path, **cells)
    assert any(report in f for f in found), found


@pytest.mark.parametrize('cells', [
    dict(second=E + 'from mura_nb.a import f_a\nimport mura_nb.a', third=E + 'from .b import f_b'),
    dict(second=E + HERE), dict(second=E + 'def g():\n    from mura_nb.a import f_a # here: as above'),
    dict(second='from mura_nb.b import f_b'),  # a cell shows what its own module exports
    dict(second=E + 'class B:\n    def _m(self): pass\n    def n(self, other): return other._m()'),
    dict(first=E + '_x = 1', second=E + '_x = 2\nf(y._x)'),
    dict(first=E + 'class A:\n    def _repr_png_(self): pass', second='a._repr_png_(), t._replace(x=1)'),
    dict(first=E + 'def g(): pass', third=E + 'def _g(): pass\n@patch\ndef g(self:C): pass'),
    dict(first=E + "def g(name): return import_module(f'torchvision.{name}')"),
], ids=['down', 'reason above', 'reason beside', 'itself', 'own method', 'own name', 'protocol', 'patch', 'others'])
def test_what_is_allowed(tmp_path, cells): assert small_house(tmp_path, **cells) == []


def test_exceptions_are_the_stated_ones(tmp_path, monkeypatch):
    cells = dict(first=E + 'def load_model(card):\n    return import_module(card.room)', third=E + 'def f_a(): pass')
    assert len(small_house(tmp_path, **cells)) == 3  # a computed name, inside a function, a doubled name
    monkeypatch.setitem(house.LIMITS, 'imports_by_card', ['a.load_model'])
    monkeypatch.setitem(house.LIMITS, 'reexports', ['c.f_a'])
    assert small_house(tmp_path, **cells) == []
