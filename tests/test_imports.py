"Importing is quick: PyTorch and fastai only where something is trained. The order of the rooms is in test_rooms.py."

import subprocess, sys
import pytest

LIGHT = [
    'core',
    'settings',
    'results',
    'skeleton',
    'pathology',
    'fractures',
    'variation',
    'camera',
    'phantom',
    'dicom_grey',
    'images',
    'geometry',
    'layout',
    'leaks',
    'randomise',
    'public_formats',
    'public',
    'varied',
    'data',
    'shipped',
    'exported',
    'metrics',
    'pooling',
    'calibration',
    'comparison',
    'evaluation',
    'operating',
    'ensemble',
    'database',
    'large',
    'codes',
    'retrieval',
    'audit',
    'batch',
    'studies',
    'answers',
    'answer_page',
    'app',
    'terminal',
    'programs',
    'findings',
    'models',
]
QUICK = ['phantom', 'evaluation', 'retrieval']
HEAVY = 'torch', 'fastai', 'timm', 'torchvision', 'matplotlib', 'sklearn'


def python(root, code):
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


def heavy_after(root, modules):
    "Module -> what is heavy and there once it and those before it are imported, in one process"
    code = f'''
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    print(name, *[m for m in {HEAVY} if m in sys.modules])'''
    return {name: heavy for name, *heavy in map(str.split, python(root, code).splitlines())}


@pytest.fixture(scope='module')
def imported(root):
    return heavy_after(root, [f'mura_nb.{m}' for m in LIGHT])


@pytest.mark.parametrize('module', LIGHT)
def test_nothing_heavy(imported, module):
    "What all of them together do not import none of them does"
    assert imported[f'mura_nb.{module}'] == []


def test_what_is_heavy_would_be_seen(root):
    assert heavy_after(root, ['json', 'matplotlib']) == dict(json=[], matplotlib=['matplotlib'])


@pytest.mark.parametrize('module', QUICK)
def test_under_a_second_and_a_half(root, module):
    "Of the processor's time: a program that runs beside the tests hardly stretches it; again where that was too long"
    code = f'import time\nbegan = time.process_time()\nimport mura_nb.{module}\nprint(time.process_time() - began)'
    assert any(float(python(root, code)) < 1.5 for _ in range(2))


OPTIONAL = (
    'accelerate', 'onnx', 'onnxscript', 'onnxruntime', 'openvino', 'gradio', 'pymilvus', 'torchcam', 'pytorch_grad_cam')


def test_every_module_without_optional_packages(root):
    "As after `pip install mura_nb`"
    modules = [p.stem for p in sorted((root / 'mura_nb').glob('[a-z]*.py'))]
    code = f'''
import importlib, sys
for name in {OPTIONAL}: sys.modules[name] = None
for m in {modules}: importlib.import_module('mura_nb.' + m)
'''
    python(root, code)
