import os, sys
from pathlib import Path
import pytest

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT/'tools'), str(ROOT)]


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    "Tests see neither the caller's profile nor their radiographs"
    ours = [k for k in os.environ if k.startswith('MURA_NB_')]
    for k in [*ours, 'PROFILE', 'DATA', 'MAKEFLAGS', 'MAKELEVEL']: monkeypatch.delenv(k, raising=False)


@pytest.fixture
def smoke_in(monkeypatch):
    "A function of a folder: from now on the test runs there, in profile smoke"
    def go(folder):
        monkeypatch.chdir(folder)
        monkeypatch.setenv('MURA_NB_PROFILE', 'smoke')
        return folder
    return go


@pytest.fixture(autouse=True)
def own_arithmetic():
    "Training has the processor treat denormal numbers as zero, for good; hypothesis refuses to draw numbers then"
    if 'torch' in sys.modules: sys.modules['torch'].set_flush_denormal(False)


@pytest.fixture(scope='session')
def root(): return ROOT


@pytest.fixture(scope='session')
def committed_site(tmp_path_factory):
    "The folder that make site renders from nbs/ without Quarto"
    import pages, render
    folder = tmp_path_factory.mktemp('site')/'_site'
    return render.render_site(pages.notebooks(), folder, 'Profile demo, simulated radiographs.').parent
