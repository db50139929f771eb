"""What do kept crops and kept features save in the training of FuseNet?

The plain way: each batch of an epoch of the local branch goes through the frozen global branch for its heat map,
box and crop; and the fusion layer is trained with both branches computed in each epoch. Ours: crops are cut once
before, and both branches are computed once for each image and its mirror image. EfficientNet-Lite0 with random
weights on simulated radiographs. Cutting the crops is not in the epoch; the passes are in the stage. The stage's
plain way is one epoch, counted as often as there are epochs."""
from dataclasses import replace
from bench import paired, radiographs, row, save, small, threads, workplace
import numpy as np, torch
from torch import nn
from mura_nb.core import seed_everything
from mura_nb.settings import settings
from mura_nb.geometry import eval_view
from mura_nb.data import Views, image_store, mura_index, view_dl
from mura_nb.networks import SingleLogit, net_input
from mura_nb.baselines import WeightedBCE, type_weights
from mura_nb.maps import heat_boxes, heatmaps
from mura_nb.crops import BranchFeatures, LocalViews, crop_view, cut, make_crops
from mura_nb.looks import fit_fusion, pooled_features

STUDIES, SIZE, SIDE, EPOCHS = small(28, 28), small(512, 64), small(128, 32), small(20, 2)
BATCH = small(16, 8)


class Stage:
    "Two branches, the images and their recipe"
    def __init__(self, root):
        s = settings()
        self.recipe = replace(s.recipe(s.local), resize=round(SIDE*1.15), crop=SIDE, batch_size=BATCH, threshold=.6,
            heatmap='cam', pixels='file', epochs=EPOCHS, lr=1e-4)
        df = mura_index(radiographs(STUDIES, SIZE), 'train')
        self.store, self.df = image_store(df, folder=root/'store'), df
        self.whole, self.local = (SingleLogit('timm:tf_efficientnet_lite0', 'none').eval() for _ in range(2))
        self.loss = WeightedBCE(type_weights(df))

    def maps_and_crops(self, x, paths):
        "Feature maps of the global branch, and the crops at its boxes"
        with torch.no_grad():
            maps = self.whole.features(x)
            boxes = heat_boxes(heatmaps(maps, self.whole.head.weight[0]), .6).numpy()
        crops = [cut(self.store[p], b, self.recipe) for p, b in zip(paths, boxes, strict=True)]
        return maps, net_input([crop_view(c, self.recipe) for c in crops])

    def batches(self):
        "Evaluation views, with the paths of each batch"
        views = view_dl(Views(self.df, self.store, self.recipe), BATCH, 0)
        for i, batch in enumerate(views): yield *batch, self.df.path[i*BATCH:][:BATCH]

    def train(self, batches):
        "An epoch of the local branch"
        optimiser = torch.optim.Adam(self.local.parameters(), 1e-4)
        self.local.train()
        for x, y, t in batches:
            optimiser.zero_grad()
            self.loss(self.local(x), y, t).backward()
            optimiser.step()
        self.local.eval()

    def plain_epoch(self):
        "Crops made batch by batch"
        self.train((self.maps_and_crops(x, paths)[1], y, t) for x, y, t, paths in self.batches())

    def plain_fusion(self):
        "An epoch of the fusion layer, both branches computed"
        layer = nn.Linear(2*self.whole.head.in_features, 1)
        optimiser = torch.optim.Adam(layer.parameters(), 1e-4)
        for x, y, t, paths in self.batches():
            maps, crops = self.maps_and_crops(x, paths)
            with torch.no_grad(): codes = torch.cat([self.whole.pool(maps).flatten(1), self.local.codes(crops)], 1)
            optimiser.zero_grad()
            self.loss(layer(codes), y, t).backward()
            optimiser.step()

    @torch.no_grad()
    def passes(self, crops):
        "Codes of both branches for images and mirror images"
        def codes(net, views): return np.concatenate([net.codes(x).numpy() for x, *_ in view_dl(views, BATCH, 0)])
        def side(mirrored):
            pictures = [eval_view(self.store[p], self.recipe) for p in self.df.path]
            pictures = [p[:, ::-1] if mirrored else p for p in pictures]
            whole = [self.whole.codes(net_input(pictures[i:i + BATCH])).numpy() for i in range(0, len(pictures), BATCH)]
            local = LocalViews(self.df, crops, self.recipe, mirrored=mirrored)
            return np.concatenate(whole), codes(self.local, local)
        sides = [side(m) for m in (False, True)]
        paths = self.df.path.tolist()
        return [BranchFeatures(paths, np.stack([s[k] for s in sides])) for k in (0, 1)]

    def kept_fusion(self, crops):
        "Both passes, then all epochs on what they gave"
        features = pooled_features(self.df, *self.passes(crops))
        fit_fusion(features, features, self.loss, self.recipe)


def main():
    torch.set_num_threads(threads())
    with workplace() as root:
        seed_everything(0)
        stage = Stage(root)
        n, boxes = len(stage.df), np.tile(np.array([.2, .2, .8, .8]), (2, len(stage.df), 1))
        crops = make_crops(stage.store, stage.df.path.tolist(), boxes, stage.recipe)
        local = view_dl(LocalViews(stage.df, crops, stage.recipe, train=True), BATCH, 0)
        times = paired(lambda: stage.train(local), stage.plain_epoch, 7)
        rows = [row('FuseNet: an epoch of the local branch', times, 'heat map, box and crop in each batch', 1, work=n,
            unit='images/s', count=n)]
        times = paired(lambda: stage.kept_fusion(crops), stage.plain_fusion, 5)
        rows.append(row(f'FuseNet: the fusion stage of {EPOCHS} epochs', times*[1, EPOCHS],
            'both branches in each epoch', 1, count=n))
    save('fusenet', rows)


if __name__ == '__main__': main()
