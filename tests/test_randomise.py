"Randomised pictures in the loader: nothing changes where a recipe does not ask for them."
from dataclasses import replace
from types import SimpleNamespace
import numpy as np, pandas as pd, pytest
from mura_nb.settings import SettingError, _names, _read_ini, settings
from mura_nb.data import Views
from mura_nb.geometry import epoch_sizes, eval_geometry, seen, train_geometry
from mura_nb.randomise import PICTURE_VARIATIONS, randomise_item, vary


@pytest.fixture
def recipe(root): return settings('smoke', file=root/'settings.ini').recipe('lite0_smoke')


@pytest.fixture(scope='module')
def some():
    "An index of eight pictures and their store"
    rng = np.random.default_rng(0)
    df = pd.DataFrame(dict(path=[f'p{i}' for i in range(8)], study_type='HAND', label=pd.array([0, 1]*4, 'Int8')))
    return df, {p: rng.integers(0, 256, (90 + i, 120), dtype=np.uint8) for i, p in enumerate(df.path)}


def test_no_recipe_has_it_and_no_card(root):
    s = settings('smoke', file=root/'settings.ini')
    ini = _read_ini(s.file)
    for name in _names(ini, 'recipe'): assert 'randomise' not in s.recipe(name).card()
    assert replace(s.recipe('lite0_smoke'), randomise='all').card()['randomise'] == 'all'


@pytest.mark.parametrize('train', [False, True])
def test_as_today_without_the_key(some, recipe, train):
    "Bit for bit what geometry and noise make of the file, in every epoch"
    df, store = some
    views = Views(df, store, recipe, seed=3, train=train)
    for views.epoch in range(2):
        img = store['p1']
        if train:
            r = epoch_sizes(recipe, views.epoch)
            g = train_geometry(img.shape, r, np.random.default_rng((3, views.epoch, 1)))
            expected = seen(img, g, r, np.random.default_rng((3, views.epoch, 1, 1)))
        else: expected = seen(img, eval_geometry(img.shape, recipe), recipe)
        assert np.array_equal(views[1][0], expected)


def test_asked_for(some, recipe):
    df, store = some
    plain, varied = (Views(df, store, replace(recipe, randomise=w), train=True) for w in (None, 'all'))
    items = [varied[i][0] for i in range(8)]
    assert all(np.array_equal(a, varied[i][0]) for i, a in enumerate(items))  # the same again
    assert sum(not np.array_equal(a, plain[i][0]) for i, a in enumerate(items)) > 4
    assert all(a.shape == plain[i][0].shape and np.isfinite(a).all() for i, a in enumerate(items))
    varied.epoch = 1  # of another size in this recipe
    items = [varied[i][0] for i in range(8)]
    varied.epoch = 2
    assert any(not np.array_equal(a, varied[i][0]) for i, a in enumerate(items))
    evaluated = Views(df, store, replace(recipe, randomise='all'))
    assert np.array_equal(evaluated[0][0], Views(df, store, recipe)[0][0])  # evaluation never


def test_unknown_word(some, recipe):
    with pytest.raises(ValueError, match="unknown variation 'colour'; there is all, synthex"):
        Views(*some, replace(recipe, randomise='colour'), train=True)


def test_bad_value_in_settings(root, tmp_path):
    (tmp_path/'settings.ini').write_text(
        (root/'settings.ini').read_text().replace('[recipe lite0]\n', '[recipe lite0]\nrandomise = A,B\n', 1))
    with pytest.raises(SettingError, match='randomise = A,B'): settings('smoke', file=tmp_path/'settings.ini')


def test_draws_do_not_depend_on_the_label(recipe):
    "The same picture with another label gets the same variations, maps and pixels"
    img = np.random.default_rng(1).integers(0, 256, (60, 50), dtype=np.uint8)
    def item(label, epoch):
        views = SimpleNamespace(paths=['a', 'b', 'c'], store=dict(a=img, b=img[::-1], c=img.T), recipe=recipe, seed=0,
            variations=tuple(PICTURE_VARIATIONS), epoch=epoch, y=np.array([label, 0, 0.]), t=np.zeros(3, int),
            generator=lambda *what: np.random.default_rng((0, epoch, *what)))
        return randomise_item(views, 0)
    for epoch in range(20):
        normal, abnormal = (item(label, epoch) for label in (0, 1))
        assert normal.applied == abnormal.applied and np.array_equal(normal.image, abnormal.image)
        assert np.array_equal(normal.geometry.matrix, abnormal.geometry.matrix)


@pytest.mark.parametrize('name', PICTURE_VARIATIONS)
def test_any_picture(name):
    "Small, long, black, white and even pictures, of bytes or floats: the same size, finite, 0 to 255"
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, hw, dtype=np.uint8) for hw in ((16, 16), (9, 60), (61, 17))]
    pictures += [np.full((20, 30), v, np.uint8) for v in (0, 7, 255)] + [rng.random((24, 20))*255]
    for seed, img in enumerate(pictures*3):
        before = img.copy()
        made = vary(img, name, np.random.default_rng(seed), pictures[(seed + 1) % len(pictures)])
        assert made.image.shape == img.shape and np.isfinite(made.image).all()
        assert 0 <= made.image.min() and made.image.max() <= 255
        assert np.array_equal(img, before)  # what was given stays as it was
