"What chapters share: findings, the timer, the cache, model files. Single cases are tested in the rooms 0, 0g and 0h."
import platform, subprocess, sys
import numpy as np, pandas as pd, pytest
from mura_nb import core
from mura_nb.results import ModelFiles, cache_file, cached, finding, load_weights, model_paths, save_model

@pytest.fixture
def cache(tmp_path, monkeypatch, root):
    "An empty cache"
    (tmp_path/'settings.ini').write_text((root/'settings.ini').read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path/'.cache'


@pytest.mark.parametrize('holds', [1, 'yes', None, np.nan, np.array([True, False])])
def test_finding_asks_for_a_comparison(holds):
    with pytest.raises(TypeError, match='holds must be true or false'): finding('So.', holds)


def test_finding_is_marked_where_it_does_not_hold():
    good, bad = finding('AUC is .9.', np.bool_(True)), finding('AUC is .9.', False)
    assert good._repr_markdown_() == 'AUC is .9.' and not good._repr_markdown_().startswith('>')
    assert bad._repr_markdown_().startswith('> **') and 'AUC is .9.' in bad._repr_markdown_()


def test_cached_is_read_back(cache):
    "The first run gets what the next one gets: numbers as the file has them"
    table = pd.DataFrame(dict(x=[1/3, 2.], level=['0.70', 'otsu']), index=[5, 7])
    first, again = (cached('t/table', [1], lambda: table, dict(level=str)) for _ in range(2))
    assert first.equals(again) and list(first.level) == ['0.70', 'otsu'] and first.x[0] == .33333333
    assert [f.name for f in (cache/'t').iterdir()] == [cache_file('t/table', [1], '.csv').name]


def test_cached_keeps_arrays_exactly(cache):
    made = dict(codes=np.random.default_rng(0).normal(size=(3, 4)).astype('float32'), paths=np.array(['a', 'bc']))
    for _ in range(2):
        kept = cached('arrays', ['x'], lambda: made)
        assert list(kept) == list(made)
        for k, array in made.items(): assert np.array_equal(kept[k], array) and kept[k].dtype == array.dtype


def test_what_is_stopped_leaves_nothing(cache):
    def stopped(): raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): cached('t', [1], stopped)
    with pytest.raises(TypeError, match='cannot keep this dict'): cached('t', [1], lambda: dict(x=np.array([{}])))
    assert not list(cache.rglob('*'))


def test_turns_go_round():
    order = []
    calls = {k: (lambda x, k=k: order.append((k, x))) for k in 'ab'}
    took = core.time_calls(calls, each=[1, 2], warmup=1)
    assert order == [('a', 1), ('b', 1)] + [('a', 1), ('b', 1), ('a', 2), ('b', 2)]
    assert list(took.columns) == ['a', 'b'] and (took >= 0).all(axis=None)


def test_model_files_are_where_save_model_writes(tmp_path):
    torch = pytest.importorskip('torch')
    files = ModelFiles('net_b16', tmp_path)
    assert save_model(torch.nn.Linear(2, 1), dict(architecture='linear'), files.model) == files.model
    assert files.card.is_file() and model_paths(files.card) == (files.model, files.card)
    card, tensors = load_weights(files.card)
    assert card['sha256'] == core.file_sha256(files.model) and tensors['weight'].shape == (1, 2)


PASSES = """
import resource, torch
from mura_nb.networks import SingleLogit
x = torch.zeros(64, 3, 160, 160)
def pages(step):
    def once():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        step()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    seen = []
    while len(seen) < 15 and min(seen, default=300) >= 300: # the system takes a page back now and then
        seen.append(once())
    return min(seen)
print(pages(lambda: torch.ones(2**24)))
net = SingleLogit('timm:test_resnet')
print(pages(lambda: net(x).sum().backward()))
"""

@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='what is kept is known of glibc alone')
def test_a_network_keeps_its_memory():
    "Where a network was made the system clears no memory anew in a pass, as it does before"
    done = subprocess.run([sys.executable, '-c', PASSES], capture_output=True, text=True, check=True)
    before,after = map(int, done.stdout.split())
    assert before > 1000 and after < 300
