"What make says before it installs or runs anything."

import os, shutil, subprocess
import pytest

pytestmark = pytest.mark.skipif(not shutil.which('make'), reason='no make')


def make(root, *args, env=None, cwd=None):
    "make in a folder without .venv, so that set-up would show"
    return subprocess.run(
        ['make', '--no-print-directory', *args],
        cwd=cwd or root,
        capture_output=True,
        text=True,
        env=dict(os.environ, **(env or {})),
    )


@pytest.fixture
def bare(root, tmp_path):
    for f in 'Makefile', 'settings.ini', 'requirements.lock', 'pyproject.toml', 'setup.py':
        shutil.copy(root / f, tmp_path)
    return tmp_path


@pytest.mark.parametrize('target', ['report', 'ablations', 'lab', 'notebooks'])
@pytest.mark.parametrize(
    'args,words',
    [
        (['PROFILE=tiny'], "unknown PROFILE 'tiny'; settings.ini has: smoke demo paper"),
        (['DATA=/no/such/folder'], 'DATA=/no/such/folder: no such folder'),
        (['PROFILE=paper'], 'add DATA='),
    ],
)
def test_wrong_choice_stops_before_set_up(bare, target, args, words):
    r = make(bare, target, *args)
    assert r.returncode and words in r.stderr and 'setting up' not in r.stdout and not (bare / '.venv').exists()


@pytest.mark.parametrize('args,words', [(['DATA={d}'], 'DATA is set'), (['PROFILE=smoke'], 'PROFILE=smoke')])
def test_notebooks_hold_the_simulated_demo_only(bare, args, words):
    "A picture of MURA in a committed notebook would be passing it on"
    (bare / 'mura').mkdir()
    r = make(bare, 'notebooks', *[a.format(d=bare / 'mura') for a in args])
    assert r.returncode and 'refused' in r.stderr and words in r.stderr and not (bare / '.venv').exists()


def test_report_refuses_to_save_radiographs_of_others(root, tmp_path):
    import sys

    r = subprocess.run(
        [sys.executable, 'tools/report.py', '--save'],
        cwd=root,
        capture_output=True,
        text=True,
        env=dict(os.environ, MURA_NB_DATA=str(tmp_path)),
    )
    assert r.returncode and 'refused' in r.stderr


@pytest.fixture
def said(bare):
    "What the notebooks would see"
    with open(bare / 'Makefile', 'a') as f:
        f.write('\nsay: choice\n\t@echo "$$MURA_NB_PROFILE|$$MURA_NB_DATA"\n')

    def say(*args, **kw):
        r = make(bare, 'say', *args, **kw)
        assert not r.returncode, r.stderr
        return r.stdout.strip()

    return say


def test_two_variables_and_their_defaults(bare, said):
    (bare / 'my mura').mkdir()
    assert said() == 'demo|'
    assert (
        said('PROFILE=smoke') == said(env=dict(PROFILE='smoke')) == said(env=dict(MURA_NB_PROFILE='smoke')) == 'smoke|'
    )
    assert said('DATA=my mura') == f'demo|{bare / "my mura"}'  # relative becomes absolute
    assert said('PROFILE=paper', 'DATA=./my mura/') == f'paper|{bare / "my mura"}'


def test_second_set_up_has_nothing_to_do(root):
    if not list((root / '.venv').glob('.ready-*')):
        pytest.skip('this checkout was not set up by make')
    r = make(root, '--question', 'setup')
    assert r.returncode == 0, 'make would set up again'
