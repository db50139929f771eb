"Metal: the level that marks it best, the studies whose neighbours are asked for, the number that a caption states"

import pandas as pd, pytest
from mura_nb import metal, metal_numbers, worlds
from mura_nb.settings import settings


def test_the_level_that_marks_metal_best_by_hand(monkeypatch):
    counts = pd.DataFrame(dict(patient='p', level=[0.02, 0.1, 0.3], both=[10, 8, 2], marked=[40, 10, 2], true=10))
    parts = dict(detector_rows=pd.DataFrame(dict(path=['a'])), is_tuning=[True], weights_key='w', data_key='d',
                 mask_counts=counts)
    for name, value in parts.items():
        monkeypatch.setattr(metal, name, lambda *a, value=value: value)
    monkeypatch.setattr(metal, 'cached', lambda name, key, make: make())
    assert metal.metal_level(None, worlds.Pictures(None, None)) == 0.1  # Dice .4, .8, .33


def test_neighbours_of_normal_test_views_only(monkeypatch):
    class Encoder:
        def __init__(self, net, recipe):
            pass

        def batches(self, rows, store):
            yield rows[['code']].to_numpy(float)

    monkeypatch.setattr(worlds, 'Encoder', Encoder)
    monkeypatch.setattr(worlds, 'weights_key', lambda net: 'w')
    monkeypatch.setattr(worlds, 'data_key', lambda *a: 'd')
    monkeypatch.setattr(worlds, 'cached', lambda name, key, make: make())
    change, code = ['metal'] * 5 + ['plain'] * 5, [10, 11, 12, 13, 14, 0, 1, 2, 3, 4]
    rows = pd.DataFrame(dict(change=change, label=[0, 1] + [0] * 8, code=code))
    columns = ['patient', 'split', 'label', 'change', 'code']
    views = [('a', 'valid', 0, 'plain', 2), ('b', 'valid', 0, 'metal', 12), ('c', 'valid', 1, 'plain', 12),
             ('d', 'train', 0, 'plain', 12)]
    pictures = worlds.Pictures(pd.DataFrame(views, columns=columns), None)
    card = dict(recipe=settings('smoke').recipe('lite0_smoke').card())
    found = worlds.metal_neighbours(None, card, rows, pictures)
    assert found.patient.tolist() == ['a', 'b']
    assert found.metal.tolist() == [0, 1] and found.abnormal.tolist() == pytest.approx([0, 0.2])


def test_a_caption_counts_the_normal_studies():
    scores = dict(called_plain=40, called_metal=40, shift=40, auc_metal=80, auc_disease_plain=130)
    rows = [dict(world=w, score=k, value=0.5, lo=0.4, hi=0.6, n=n) for w in metal_numbers.WORLDS
            for k, n in scores.items()][::-1]
    assert ' on 40 normal studies ' in metal_numbers.worlds_view(pd.DataFrame(rows)).caption
