"tools/gpu_check.sh, as far as a machine without a GPU can tell: its steps are sound, and none ends the others."

import csv, os, re, shutil, subprocess, sys
import pytest

SCRIPTS = 'gpu_check.sh', 'gpu_wheels.sh'
STEPS = [
    'what the machine has',
    'packages',
    'device tests',
    'smoke report with the cells for CUDA',
    'packing',
    'speed',
]


@pytest.mark.parametrize('name', SCRIPTS)
def test_scripts_are_sound(root, name):
    script = root / 'tools' / name
    r = subprocess.run(['bash', '-n', script], capture_output=True, text=True)
    assert not r.returncode, r.stderr
    text = script.read_text()
    for f in re.findall(r'\b(?:tools|tests)/\w+\.(?:py|sh)\b', text):
        assert (root / f).is_file(), f'{name} names {f}'
    lock = {line.split('==')[0] for line in (root / 'requirements.lock').read_text().splitlines() if '==' in line}
    for names in re.findall(r'^(?:HAS|LEFT|ROOTS)="([^"]*)"', text, re.M):
        assert set(names.split()) <= {*lock, 'setuptools'}, f'{name}: not in the lock'


def rows(out):
    return list(csv.DictReader((out / 'steps.csv').open()))


def run(root, out, **env):
    env = dict(os.environ, PYTHON=sys.executable) | env
    return subprocess.run(['bash', 'tools/gpu_check.sh', out], cwd=root, env=env, capture_output=True, text=True)


def test_no_step_ends_the_others(root, tmp_path):
    "A machine whose python fails at everything, and one where it never ends"
    (tmp_path / 'tools').mkdir()
    shutil.copy(root / 'tools' / 'gpu_check.sh', tmp_path / 'tools')
    python, out = tmp_path / 'python', tmp_path / 'out'
    for does, status in (
        ('exit 3', 'failed: status 3'),
        ('echo "== 2 failed, 3 passed in 1.0s =="; exit 1', 'failed: 2 failed; 3 passed in 1.0s'),
        ('printf "10%%|# | 1/9\\r3 of 40 chapters failed\\n"; exit 1', 'failed: 3 of 40 chapters failed'),
        ('sleep 60', 'stopped after 5 s'),
    ):
        python.write_text(f'#!/bin/sh\n[ "$1" = -c ] || exit 0\n{does}\n')
        python.chmod(0o755)
        r = run(tmp_path, out, PYTHON=str(python), GPU_CHECK_SECONDS='5')
        found = rows(out)
        assert r.returncode == 1 and [f['step'] for f in found] == STEPS
        assert [f['status'] for f in found] == [status, *['passed'] * 5]
        assert all(f"{f['step']},{f['status']}" in r.stdout for f in found) and (out / 'log.txt').exists()
    assert int(found[0]['seconds']) in range(4, 15)


def test_all_pass(root, tmp_path):
    (tmp_path / 'tools').mkdir()
    shutil.copy(root / 'tools' / 'gpu_check.sh', tmp_path / 'tools')
    (tmp_path / '_build' / 'smoke').mkdir(parents=True)
    python = tmp_path / 'python'
    python.write_text('#!/bin/sh\necho "$PYTHONPATH"\n')
    python.chmod(0o755)
    r = run(tmp_path, tmp_path / 'out', PYTHON=str(python))
    assert r.returncode == 0, r.stdout
    assert (tmp_path / 'out' / 'report.tar.gz').exists() and f'{tmp_path}:' in r.stdout


@pytest.mark.outer
def test_speed_is_measured_on_a_processor_too(root, tmp_path):
    "Every column of the table, at tiny sizes"
    table = tmp_path / 'speed.csv'
    r = subprocess.run(
        [sys.executable, 'tools/gpu_speed.py', table, '1', 'cpu'],
        cwd=root,
        env=dict(os.environ, MURA_NB_PROFILE='smoke', PYTHONPATH=str(root)),
        capture_output=True,
        text=True,
    )
    assert not r.returncode, r.stderr[-2000:]
    (row,) = csv.DictReader(table.open()) # the time is over after the first
    assert row['backbone'] == 'torchvision:resnet50' and row['precision'] == 'tf32' and row['studies'] == '28'
    assert all(float(row[f'{k}_images_s']) > 0 for k in ('loader', 'step', 'both')) and row['device'] and row['torch']
