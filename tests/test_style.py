"Lines, names and imports of notebooks, tools and tests are as ruff's rules in pyproject.toml ask."
import json
import house, pytest

NOTEBOOKS = sorted((house.ROOT/'nbs').glob('*.ipynb'))
FOLDERS = ('tools', 'tests', 'benchmarks')


@pytest.fixture(scope='module')
def faults(): return list(house.ruff_faults(*NOTEBOOKS))


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(faults, path):
    found = [str(f) for f in faults if f.room == path.stem]
    assert not found, '\n' + '\n'.join(found)


@pytest.mark.parametrize('folder', FOLDERS)
def test_folder(folder):
    found = [*house.ruff_faults(house.ROOT/folder)]
    assert not found, '\n' + '\n'.join(map(str, found))


FAULTS = dict(E501='x = "' + 'a'*120 + '"', E702='x = 1; y = 2', E703='x = 1;\ny = 2', E722='try: 1/0\nexcept: pass',
    F401='import os', F811='def f(): pass\ndef f(): pass', F821='print(nowhere)', F841='def f():\n    x = 1',
    F403='from math import *', A001='id = 1', A002='def f(input): pass', PLR0913='def f(a, b, c, d, e, f, g, h): pass',
    B006='def f(x=[]): pass', B007='for x in y: pass', RUF059='def f():\n    a, b = g()\n    return a')


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    "What is found in a folder with a notebook for each fault"
    folder = tmp_path_factory.mktemp('faults')
    prose = dict(cell_type='markdown', id='a', metadata={}, source='# A')
    for rule, source in FAULTS.items():
        code = dict(cell_type='code', id='b', metadata={}, source=source, outputs=[], execution_count=None)
        nb = dict(cells=[prose, code], metadata={}, nbformat=4, nbformat_minor=5)
        (folder/f'{rule}.ipynb').write_text(json.dumps(nb))
    return list(map(str, house.ruff_faults(folder)))


@pytest.mark.parametrize('rule', FAULTS)
def test_fault_is_reported(planted, rule):
    found = [f for f in planted if f.startswith(rule)]
    assert any(f.startswith(f'{rule} cell 1: line ') and f' {rule} ' in f for f in found), found


def test_short_conditions_on_one_line_are_fine(tmp_path):
    (tmp_path/'a.py').write_text('def f(x):\n    if x: return 1\n    return 2\n')
    assert list(house.ruff_faults(tmp_path/'a.py')) == []


def test_parameters_without_self(tmp_path):
    "ruff's limit is ours: seven besides self"
    code = 'class A:\n    def f(self, a, b, c, d, e, g, h): pass\n'
    (tmp_path/'a.py').write_text(code)
    assert list(house.ruff_faults(tmp_path/'a.py')) == []


def test_one_limit_of_parameters():
    tables = house.tomllib.loads((house.ROOT/'pyproject.toml').read_text())['tool']
    assert tables['ruff']['lint']['pylint']['max-args'] == tables['house']['parameters']
