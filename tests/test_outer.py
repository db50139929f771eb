"The wheel, built and imported where nothing else of the project is. Slow: make test-all."

from pathlib import Path
import hashlib, json, os, re, shutil, subprocess, sys, zipfile
import pytest

pytestmark = pytest.mark.outer
UV = shutil.which('uv')
PUBLIC = sorted(p.stem for p in (Path(__file__).parents[1] / 'mura_nb').glob('[a-z]*.py'))


def sh(*cmd, **kw):
    env = {
        k: v for k, v in os.environ.items() if k not in ('PYTHONDONTWRITEBYTECODE', 'PYTHONPATH')
    }  # as people import it: compiled once
    r = subprocess.run([str(c) for c in cmd], capture_output=True, text=True, env=env, **kw)
    assert r.returncode == 0, r.stdout + r.stderr
    return r.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    "Built from a copy of the tracked tree, so that no earlier build leaks in"
    from check import copied

    out = tmp_path_factory.mktemp('dist')
    with copied() as d:
        if UV:
            sh(UV, 'build', '--quiet', '--wheel', '--python', sys.executable, '--out-dir', out, d)
        else:
            sh(sys.executable, '-m', 'build', '--wheel', '--outdir', out, d)
    return next(out.glob('*.whl'))


@pytest.fixture(scope='module')
def clean(wheel, tmp_path_factory):
    "Python of an environment that holds the wheel and what it asks for; kept as long as the lock file stays the same"
    from check import ROOT

    lock = ROOT / 'requirements.lock'
    key = hashlib.sha256(lock.read_bytes() + (ROOT / 'pyproject.toml').read_bytes() + sys.version.encode()).hexdigest()[
        :12
    ]
    env, ready = ROOT / '.cache' / f'wheel-{key}', ROOT / '.cache' / f'wheel-{key}' / 'ready'
    python = env / 'bin' / 'python'

    def install(*args):
        return (
            sh(UV, 'pip', 'install', '--quiet', '--compile-bytecode', '--python', python, *args)
            if UV
            else sh(python, '-m', 'pip', 'install', '--quiet', *args)
        )

    if not ready.exists():
        for old in (ROOT / '.cache').glob('wheel-*'):
            shutil.rmtree(old)
        sh(UV, 'venv', '--quiet', '--python', sys.executable, env) if UV else sh(sys.executable, '-m', 'venv', env)
        pins = tmp_path_factory.mktemp('pins') / 'pins.txt' # without hashes, as the wheel has none
        pins.write_text(re.sub(r' \\$|^ +--hash.*', '', lock.read_text(), flags=re.M))
        install('--constraint', pins, wheel)
        ready.touch()
    install('--no-deps', '--force-reinstall', wheel)
    return python


def test_contents(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert 'mura_nb/settings.ini' in names and any(n.endswith('LICENSE') for n in names)
    assert not [n for n in names if not n.startswith(('mura_nb/', 'mura_nb-'))]


def test_every_public_module(root, clean, tmp_path):
    there = [m for m in PUBLIC if (root / 'mura_nb' / f'{m}.py').exists()]
    out = sh(
        clean,
        '-c',
        f'import importlib, json\nmodules = [importlib.import_module("mura_nb." + m) for m in {there!r}]\n'
        'print(json.dumps([m.__file__ for m in modules]))',
        cwd=tmp_path,
    )
    files = json.loads(out.splitlines()[-1])
    assert len(files) == len(there) >= 4 and all('site-packages' in f for f in files)


def test_settings_from_the_wheel(clean, tmp_path):
    code = 'from mura_nb.settings import settings as f; s=f(); print(s.profile, s.root, s.recipe("densenet169_b32").lr)'
    assert sh(clean, '-c', code, cwd=tmp_path).split() == ['demo', str(tmp_path.resolve()), '0.0002']


@pytest.mark.parametrize('module', ['phantom', 'evaluation', 'retrieval'])
def test_import_seconds(root, clean, tmp_path, module):
    if not (root / 'mura_nb' / f'{module}.py').exists():
        pytest.skip(f'no chapter {module} yet')
    code = f'import time; t = time.perf_counter(); import mura_nb.{module}; print(time.perf_counter() - t)'
    assert min(float(sh(clean, '-c', code, cwd=tmp_path)) for _ in range(3)) <= 1.5


def test_program_from_the_wheel(clean, tmp_path):
    "The command is there; what an extra brings is named where it is missing"
    program = clean.parent / 'mura-nb'
    assert sh(program, '--version', cwd=tmp_path).startswith('mura-nb ')
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
    for args, words in ((['app', '--no-browser'], 'mura_nb[app]'), (['predict', 'gone.png'], 'no such')):
        r = subprocess.run([str(program), *args], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100)
        assert r.returncode == 2 and words in r.stderr and 'Traceback' not in r.stderr, r.stderr
