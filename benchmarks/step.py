"""What does fastai's loop cost beside a bare PyTorch loop?

EfficientNet-Lite0 at 160 px, batches of 16 that lie in memory, Adam, the weighted loss. Ours is `train_learner`
with all its callbacks, as every network of the report is trained; the bare loop takes the same steps and computes
the tuning loss without any. Both start from the same weights and must end with the same, else it stops."""
import copy
from bench import paired, row, save, small, threads, workplace
import numpy as np, torch
from fastai.data.core import DataLoaders
from mura_nb.core import seed_everything
from mura_nb.networks import SingleLogit
from mura_nb.baselines import WeightedBCE
from mura_nb.training import FeatureLoader, Features, Schedule, train_learner

SIDE, BATCH, STEPS = small(160, 32), small(16, 4), small(8, 2)
LR = 3e-4


def loaders():
    "Training and tuning batches in memory"
    rng = np.random.default_rng(0)
    def part(n):
        x = rng.standard_normal((1, n, 3, SIDE, SIDE), np.float32)
        return Features((rng.integers(0, 2, n).astype(np.float32), rng.integers(0, 7, n)), x)
    train, tuned = FeatureLoader(part(BATCH*STEPS), BATCH), FeatureLoader(part(BATCH), BATCH)
    return DataLoaders(train, tuned, device=torch.device('cpu'))


def bare(net, dls, loss):
    "One epoch and the tuning loss, without fastai"
    optimiser = torch.optim.Adam(net.parameters(), LR)
    net.train()
    for x, y, t in dls.train:
        optimiser.zero_grad()
        loss(net(x), y, t).backward()
        optimiser.step()
    net.eval()
    with torch.no_grad(): sum(loss(net(x), y, t) for x, y, t in dls.valid)
    return net


def main():
    torch.set_num_threads(threads())
    with workplace():
        seed_everything(0)
        first, dls = SingleLogit('timm:tf_efficientnet_lite0', 'none'), loaders()
        loss = WeightedBCE(np.ones((7, 2)))
        def ours(): return train_learner(dls, copy.deepcopy(first), loss, Schedule('step', LR, 1))[0]
        def other(): return bare(copy.deepcopy(first), dls, loss)
        found = [torch.cat([v.flatten() for v in f().parameters()]) for f in (ours, other)]
        if (off := (found[0] - found[1]).abs().max()) > 1e-5: raise SystemExit(f'other weights than ours: {off:.2g}')
        times = paired(ours, other, pairs=9)
    save('step', [row('a training step with fastai', times, 'a bare PyTorch loop', .97, work=BATCH*STEPS,
        unit='images/s', count=SIDE)])


if __name__ == '__main__': main()
