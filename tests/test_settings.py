"Settings as a whole; single keys are tested where they are explained, in nbs/00g_settings.ipynb."
import pytest
from hypothesis import given, strategies as st
from mura_nb.settings import SettingError, _names, _read_ini, settings


def names(root, kind): return _names(_read_ini(root/'settings.ini'), kind)


def test_first_line_says_whose_it_is(root):
    first = (root/'settings.ini').read_text().splitlines()[0]
    assert "study's own settings" in first and "Not nbdev's" in first


def test_package_carries_the_same_file(root):
    link = root/'mura_nb'/'settings.ini'
    assert link.is_symlink() and link.resolve() == root/'settings.ini'


@pytest.mark.parametrize('profile', ['smoke', 'demo', 'paper'])
def test_every_recipe_in_every_profile(root, tmp_path, monkeypatch, profile):
    monkeypatch.chdir(root)
    if profile == 'paper': monkeypatch.setenv('MURA_NB_DATA', str(tmp_path))
    s = settings(profile)
    for name in names(root, 'recipe'):
        r = s.recipe(name)
        assert r.card()['name'] == name and r.crop <= r.resize
    assert set(s.recipes) <= set(names(root, 'recipe'))


def test_paper_recipes_are_the_reports(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv('MURA_NB_DATA', str(tmp_path))
    s = settings('paper')
    assert (s.resize, s.crop) == (256, 224)
    for b in 8, 16, 32, 64, 128:
        for net in 'resnet50', 'densenet169':
            r = s.recipe(f'{net}_b{b}')
            assert (r.backbone, r.batch_size, r.weights, r.fit) == (f'torchvision:{net}', b, 'imagenet', 'stretch')
            assert r.lr == pytest.approx(1e-4*b/16) and r.random_crop and r.flip and r.rotate > 0


@pytest.mark.parametrize('env,words', [
    (dict(MURA_NB_PROFILE='tiny'), "unknown profile 'tiny'; there is smoke, demo, paper"),
    (dict(MURA_NB_PROFILE='paper'), 'set MURA_NB_DATA'), (dict(MURA_NB_DATA='/no/such/folder'), '/no/such/folder')])
def test_wrong_environment(root, monkeypatch, env, words):
    monkeypatch.chdir(root)
    for k, v in env.items(): monkeypatch.setenv(k, v)
    with pytest.raises((ValueError, FileNotFoundError), match=words): settings()


def test_results_of_own_data_stay_apart(root, tmp_path, monkeypatch):
    (tmp_path/'MURA-v1.1').mkdir()
    monkeypatch.chdir(root/'nbs')
    assert settings().results == root/'results'/'demo'
    monkeypatch.setenv('MURA_NB_DATA', str(tmp_path/'MURA-v1.1'))
    s = settings()
    assert (s.results, s.simulated) == (root/'results'/'demo-MURA-v1.1', False)


def test_relative_data_starts_at_the_root(root, tmp_path, monkeypatch):
    (tmp_path/'nbs').mkdir()
    (tmp_path/'mura').mkdir()
    (tmp_path/'settings.ini').write_text((root/'settings.ini').read_text())
    monkeypatch.chdir(tmp_path/'nbs')
    monkeypatch.setenv('MURA_NB_DATA', 'mura')
    assert settings().data == (tmp_path/'mura').resolve()


LINE_ENDS = '\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029'


@given(st.text(st.characters(exclude_categories=['Cs'], exclude_characters=LINE_ENDS), max_size=30))
def test_any_value_is_read_or_named(tmp_path_factory, text):
    "A value nobody thought of ends in a settings error, never in another exception or in a silent default"
    from conftest import ROOT
    f = tmp_path_factory.mktemp('s')/'settings.ini'
    before, _, after = (ROOT/'settings.ini').read_text().partition('n_boot = 200\n')
    f.write_text(f'{before}n_boot = {text}\n{after}', encoding='utf-8')
    try: n = settings('smoke', file=f).n_boot
    except SettingError as e: assert str(f) in str(e)
    else: assert n == int(text.split(' #')[0].split('\t#')[0]) >= 1
