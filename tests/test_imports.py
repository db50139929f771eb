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


def there(root, m):
    if not (root / 'mura_nb' / f'{m}.py').exists():
        pytest.skip(f'no room {m} yet')


def python(root, code):
    r = subprocess.run([sys.executable, '-c', code], cwd=root, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return r.stdout.strip()


@pytest.mark.parametrize('module', LIGHT)
def test_nothing_heavy(root, module):
    there(root, module)
    assert python(root, f'import sys, mura_nb.{module}\nprint(*[m for m in {HEAVY} if m in sys.modules])') == ''


@pytest.mark.parametrize('module', QUICK)
def test_under_a_second_and_a_half(root, module):
    "Of the processor's time: a program that runs beside the tests hardly stretches it"
    code = f'import time\nbegan = time.process_time()\nimport mura_nb.{module}\nprint(time.process_time() - began)'
    assert min(float(python(root, code)) for _ in range(2)) < 1.5


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
