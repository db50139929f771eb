"Importing is quick: PyTorch and fastai only where something is trained."
import importlib.util, subprocess, sys
import pytest

LIGHT = ['core', 'phantom', 'data', 'evaluation', 'ensemble', 'retrieval', 'engines', 'programs', 'app', 'findings', 'models']


def there(root, m):
    if not (root/'mura_nb'/f'{m}.py').exists(): pytest.skip(f'no chapter {m} yet')


def python(root, code):
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


@pytest.mark.parametrize('module', LIGHT)
def test_nothing_heavy(root, module):
    there(root, module)
    heavy = python(root, f'import sys, mura_nb.{module}\nprint(*[m for m in ("torch", "fastai", "timm", "torchvision", "matplotlib", "sklearn") if m in sys.modules])')
    assert heavy == ''


def test_imports_go_down_the_list_only(root):
    "core imports nothing of ours, phantom only core, data no phantom, and so on"
    import re
    order = [f.stem.split('_', 1)[1] for f in sorted((root/'nbs').glob('[0-9]*_*.ipynb'))]
    for f in sorted((root/'mura_nb').glob('*.py')):
        if f.stem not in order: continue
        used = set(re.findall(r'^\s*from (?:mura_nb)?\.(\w+) import|^\s*import mura_nb\.(\w+)', f.read_text(), re.M))
        used = {a or b for a, b in used} & set(order)
        if f.stem == 'core': used -= {'baselines', 'fusenet'}
        if f.stem == 'programs': used -= {'app'}  # one of its commands opens the page
        used -= {f.stem}
        assert all(order.index(u) < order.index(f.stem) for u in used), f'{f.name} imports {used}'
        if f.stem == 'phantom': assert used <= {'core'}
        if f.stem == 'data': assert 'phantom' not in used
