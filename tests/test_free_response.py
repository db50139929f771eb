"The free-response curve: what trying every threshold by hand gives, whatever the order, ties and resamples"

import numpy as np, pandas as pd
from hypothesis import given, settings as hsettings, strategies as st
import mura_nb.free_response as F
from mura_nb.free_response import free_response


def by_hand(marks, images, at):
    "The highest share of abnormal images marked by any threshold that stays within `at` false boxes an image"
    best = 0.0
    for t in [np.inf, *marks.rating.unique()]:
        shown = marks[marks.rating >= t]
        if (~shown.centre).sum() <= at * len(images) + 1e-9:
            best = max(best, shown[shown.centre].path.nunique() / images.abnormal.sum())
    return best


def made(seed, n):
    rng = np.random.default_rng(seed)
    images = pd.DataFrame(dict(path=np.arange(n), patient=rng.integers(0, 4, n), abnormal=rng.random(n) < 0.5))
    images.loc[0, 'abnormal'] = True
    path = rng.integers(0, n, 2 * n)
    centre = images.abnormal.to_numpy()[path] & (rng.random(2 * n) < 0.5)
    return pd.DataFrame(dict(path=path, rating=rng.integers(0, 6, 2 * n) / 5, centre=centre)), images


@hsettings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_every_threshold_tried_by_hand(seed, n):
    marks, images = made(seed, n)
    at = (0, 0.1, 0.25, 0.5, 1, 2)
    got = free_response(marks, images, at=at, n_boot=20)
    np.testing.assert_allclose(got[0], [by_hand(marks, images, f) for f in at])
    assert (np.diff(got, axis=1) >= 0).all() and got.min() >= 0 and got.max() <= 1
    turned = marks.sample(frac=1, random_state=seed % 1000)
    np.testing.assert_allclose(free_response(turned, images, at=at, n_boot=0)[0], got[0])


def test_a_row_says_what_was_asked_and_what_was_found(monkeypatch):
    kept = pd.DataFrame([dict(who=who, criterion='iou25', false_boxes=f, value=f, lo=f - 0.05, hi=f + 0.05)
                         for who in ('map', 'centre') for f in (0.1, 0.5)])
    monkeypatch.setattr(F, 'load_table', lambda name: kept)
    table = F.free_response_table('Simulated.').df
    assert table.columns.tolist() == ['box of', 'true where', '.10 false boxes', '.50 false boxes']
    assert table.iloc[1].tolist() == ['centre of the image', 'IoU ≥ .25', '.100 [.050, .150]', '.500 [.450, .550]']
