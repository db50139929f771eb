"""Self-checks of the notebooks compare numbers, not what numbers look like when they are printed: .7675 and
.7675000000000003 are one AUC and two texts."""
import ast
import house, pytest

NOTEBOOKS = sorted((house.ROOT/'nbs').glob('*.ipynb'))
PRINTS = {'str', 'repr', 'fmt_num', 'fmt_ci', 'fmt_p', 'format'}


def is_printed(node):
    "Is a value printed here?"
    if isinstance(node, ast.Call): return getattr(node.func, 'id', getattr(node.func, 'attr', '')) in PRINTS
    return isinstance(node, ast.JoinedStr) and any(getattr(v, 'format_spec', None) for v in node.values)


def printed_comparisons(tree):
    "Lines that compare printed values with each other, or look for one in a text"
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'test_eq' and len(node.args) == 2:
            if all(map(is_printed, node.args)): yield node.lineno
        if isinstance(node, ast.Compare):
            sides = node.left, node.comparators[0]
            looks = isinstance(node.ops[0], (ast.In, ast.NotIn)) and is_printed(node.left)
            if looks or isinstance(node.ops[0], (ast.Eq, ast.NotEq)) and all(map(is_printed, sides)): yield node.lineno


@pytest.mark.parametrize('path', NOTEBOOKS, ids=lambda p: p.stem)
def test_numbers_are_compared_as_numbers(path):
    cells = house.read_room(path).code
    found = [f'cell {c.number} line {n}: {c.source.splitlines()[n-1]}' for c in cells if not c.export
             for n in printed_comparisons(c.tree)]
    assert not found, '\n' + '\n'.join(found)


@pytest.mark.parametrize('line', ['test_eq(str(a), str(b))', 'assert fmt_num(a) == fmt_num(b)', 'assert str(a) in text',
    "test_eq(f'{a:.3f}', f'{b:.3f}')"])
def test_such_lines_are_found(line): assert list(printed_comparisons(ast.parse(line))) == [1]


@pytest.mark.parametrize('line', ["test_eq(str(a), '.853')", 'test_close(a, b)', "assert 'words' in str(error)"])
def test_others_are_not(line): assert not list(printed_comparisons(ast.parse(line)))
