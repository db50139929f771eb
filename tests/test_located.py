"Learning from boxes: the places are learned, a stopped training goes on, other boxes are another training"

import shutil
from dataclasses import replace

import numpy as np, pandas as pd, pytest, torch
from fastai.callback.core import Callback

from mura_nb.baselines import fit
from mura_nb.settings import settings
from mura_nb.results import ModelFiles
from mura_nb.data import load_data, patient_split
from mura_nb.networks import giving_cells, pooled_logit
from mura_nb.phantom import make_phantom
from mura_nb.public import known_boxes


@pytest.fixture(scope='module')
def radiographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('boxes') / 'phantom'
    make_phantom(folder, 40, seed=3, size=128, workers=1)
    df, store, _ = load_data(folder)
    return df, store, patient_split(df, 0.3)


def recipe(**kw):
    s = settings('smoke')
    return replace(s.recipe(s.real), name='taught', first_epochs=None, lr=2e-3, **kw)


def same(a, b):
    return all(v.equal(b.state_dict()[k]) for k, v in a.state_dict().items())


class Stop(Callback):
    "As if the machine were switched off after an epoch"

    order = 70

    def after_epoch(self):
        raise KeyboardInterrupt


def test_the_cells_learn_where_the_boxes_are(radiographs, tmp_path):
    df, store, tune = radiographs
    net, card = fit(recipe(epochs=12, anneal_epochs=4, box_loss=20.0), df, store, tune, tmp_path)
    assert card['recipe']['box_loss'] == 20 and card['recipe']['pool_layer'] == 'joined'
    assert not net.gives_cells
    r, boxes = recipe(), known_boxes(df.attrs['root'], every=True)
    own = df[(df.split == 'train') & ~tune & df.path.isin(boxes.path)]
    from mura_nb.located import boxed_store

    views = boxed_store(store, boxes, r, net).views(own, store, r)
    x = torch.stack([torch.tensor(views[i][0]) for i in range(len(own))])[:, None] / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    with torch.no_grad(), giving_cells(net):
        cells = net(x)
    with torch.no_grad():
        assert torch.allclose(net(x), pooled_logit(cells, net.pooling), atol=1e-4)
    inside = np.stack([views[i][3] for i in range(len(own))]).reshape(cells.shape)
    cells = cells.numpy()
    assert cells[inside > 0.5].mean() > cells[inside == 0].mean() + 0.3


def test_a_stopped_training_goes_on(radiographs, tmp_path):
    df, store, tune = radiographs
    r = recipe(epochs=2, anneal_epochs=1)
    whole, _ = fit(r, df, store, tune, tmp_path / 'whole')
    with pytest.raises(KeyboardInterrupt):
        fit(r, df, store, tune, tmp_path / 'stopped', cbs=[Stop()])
    assert ModelFiles(r.name, tmp_path / 'stopped').state.is_file()
    again, _ = fit(r, df, store, tune, tmp_path / 'stopped')
    assert same(whole, again)


def test_other_boxes_are_another_training_and_none_are_refused(radiographs, tmp_path):
    df, store, tune = radiographs
    r = recipe(epochs=1, anneal_epochs=1)
    first = fit(r, df, store, tune, tmp_path)[1]['fingerprint']
    assert fit(r, df, store, tune, tmp_path)[1]['fingerprint'] == first
    other = tmp_path / 'other'
    (other / 'truth').mkdir(parents=True)
    table = pd.read_csv(f'{df.attrs["root"]}/truth/boxes.csv')
    table.assign(x0=table.x0 + 1).to_csv(other / 'truth' / 'boxes.csv', index=False)
    moved = df.copy()
    moved.attrs['root'] = other
    assert fit(r, moved, store, tune, tmp_path)[1]['fingerprint'] != first
    shutil.rmtree(other / 'truth')
    with pytest.raises(ValueError, match='taught: box_loss = 4.0 needs true boxes, but none is known of'):
        fit(r, moved, store, tune, tmp_path)
