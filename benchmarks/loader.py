"""How fast are training images read, resized and augmented, and does a training wait for them?

Simulated radiographs of 512 px in MURA's layout. Beside torchvision's ImageFolder with the same transforms
(rotation, resize, random crop, mirror, normalisation), which decodes each file in each epoch, both in one process;
then a training epoch of EfficientNet-Lite0 with our loader beside the same epoch on batches that lie in memory
already."""
import copy
from dataclasses import replace
from pathlib import Path
from bench import paired, radiographs, row, save, small, threads, workplace
import torch
from torchvision import transforms as T
from torchvision.datasets import ImageFolder
from mura_nb.core import seed_everything
from mura_nb.settings import settings
from mura_nb.data import image_store, mura_index, train_dls
from mura_nb.networks import SingleLogit
from mura_nb.baselines import WeightedBCE, type_weights

STUDIES, SIZE, CROP = small(40, 28), small(512, 64), small(192, 32)


def grey_as_colour(x): return x.expand(3, -1, -1)


def image_folder(df, root, recipe):
    "The same images for ImageFolder, a class a folder, with the same transforms"
    for r in df.itertuples():
        new = root/'folders'/str(int(r.label))/r.path.replace('/', '-')
        new.parent.mkdir(parents=True, exist_ok=True)
        new.symlink_to(Path(df.attrs['root'])/r.path)
    steps = T.Compose([T.Grayscale(), T.RandomRotation(recipe.rotate, T.InterpolationMode.BILINEAR),
        T.Resize((recipe.resize,)*2), T.RandomCrop(recipe.crop), T.RandomHorizontalFlip(), T.ToTensor(), grey_as_colour,
        T.Normalize((.485, .456, .406), (.229, .224, .225))])
    return torch.utils.data.DataLoader(ImageFolder(root/'folders', steps), recipe.batch_size, True, drop_last=True)


def epoch(net, batches, loss):
    "Train on batches"
    optimiser = torch.optim.Adam(net.parameters(), 3e-4)
    net.train()
    for x, y, t in batches:
        optimiser.zero_grad()
        loss(net(x), y, t).backward()
        optimiser.step()


def used(batches):
    "Take all batches"
    for _ in batches: pass


def main():
    torch.set_num_threads(threads())
    with workplace() as root:
        seed_everything(0)
        df = mura_index(radiographs(STUDIES, SIZE), 'train')
        s = settings()
        recipe = replace(s.recipe(s.baseline), resize=round(CROP*1.15), crop=CROP, batch_size=small(16, 8), rotate=10,
            noise=None, flip=True, random_crop=True, first_epochs=None)
        store, tune = image_store(df, folder=root/'store'), df.patient == df.patient.iloc[-1]
        ours = train_dls(df, tune, store, recipe, workers=0).train
        folder, n = image_folder(df[~tune], root, recipe), len(ours)*recipe.batch_size
        rows = [row('loading and augmenting training images', paired(lambda: used(ours), lambda: used(folder), 9),
            'torchvision ImageFolder, same transforms', 1, work=n, unit='images/s', count=SIZE)]
        first, loss = SingleLogit('timm:tf_efficientnet_lite0', 'none'), WeightedBCE(type_weights(df))
        memory = list(ours)
        times = paired(lambda: epoch(copy.deepcopy(first), ours, loss),
            lambda: epoch(copy.deepcopy(first), memory, loss), 7)
        rows.append(row('training with the loader', times, 'training on batches in memory', .95, work=n,
            unit='images/s', count=CROP))
    save('loader', rows)


if __name__ == '__main__': main()
