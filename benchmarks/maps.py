"""How many heat maps a second, beside torchcam and pytorch-grad-cam?

Grad-CAM of ResNet-50 with random weights: ours in PyTorch in closed form from one forward pass, and the engine that
gives logit, code and map in one pass, each beside both libraries on the same pictures. The libraries get the
network as we keep it (channels-last). torchcam differentiates down to the layer only since its version 0.5, so that
for the last layer it costs little more than a forward pass, and nothing in PyTorch that needs one can be much
faster: the first row is that pass alone. The maps must be the same after division by their maxima, else it stops."""
import logging
from bench import paired, row, save, small, threads
import numpy as np, torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM as OtherCAM
from torchcam.methods import GradCAM
from mura_nb.core import seed_everything
from mura_nb.networks import net_input
from mura_nb.exported import probe_views
from mura_nb.engines import has_bf16
from mura_nb.maps import AsColumn, grad_cam
from mura_nb.serving import load_engine
from predict import network

SIDE, BATCH, PAIRS = small(224, 64), small(16, 2), 5
WANTED = {('torchcam', 'PyTorch'): 1, ('torchcam', 'single'): 1.6, ('torchcam', 'bf16'): 1.6,
    ('pytorch-grad-cam', 'PyTorch'): 3}
ALIKE = dict(bf16=.05) # largest difference from our maps, which end at 1; else .005


def torchcam(net, layer):
    "torchcam's maps of a network that gives a column"
    def maps(x):
        with GradCAM(net, layer) as cam: return cam(0, net(x), normalized=False)[0].detach().relu()
    return maps


def pytorch_grad_cam(net, layer):
    "pytorch-grad-cam's maps, stretched and enlarged to the input"
    def maps(x):
        with OtherCAM(net, [layer]) as cam: return torch.from_numpy(cam(x, [lambda out: out[0]]*len(x)))
    return maps


def top(m): return m/m.amax((1, 2), keepdim=True)


def stretched(m): return top(m - m.amin((1, 2), keepdim=True))


def differs(ours, theirs):
    "Largest difference of two maps between 0 and 1; ours are treated as pytorch-grad-cam treats its own"
    if theirs.shape == ours.shape: return (top(ours) - top(theirs)).abs().max().item()
    fine = F.interpolate(stretched(ours)[:, None], size=theirs.shape[-2:], mode='bilinear')[:, 0]
    return (stretched(fine) - theirs).abs().max().item()


def main():
    torch.set_num_threads(threads())
    logging.disable(logging.WARNING)
    seed_everything(0)
    net, card = network(small('torchvision:resnet50', 'torchvision:resnet18'))
    views = np.resize(probe_views(SIDE), (BATCH, SIDE, SIDE))
    engines = {how: load_engine((net, card), precision=how) for how in ('single', *(['bf16'] if has_bf16() else []))}
    x, column = net_input(list(views)), AsColumn(net)
    def by(engine): return lambda: torch.from_numpy(engine.outputs(views)['heat']).relu()
    ours = {'PyTorch': lambda: grad_cam(net, x)} | {how: by(engine) for how, engine in engines.items()}
    last = net.body.layer4
    peers = {'torchcam': torchcam(column, last), 'pytorch-grad-cam': pytorch_grad_cam(column, last)}
    reference = ours['PyTorch']()
    for name, call in (ours | {k: (lambda f=f: f(x)) for k, f in peers.items()}).items():
        if (d := differs(reference, call().float())) > ALIKE.get(name, 5e-3):
            raise SystemExit(f'{name}: another map than ours (difference {d:.2g})')
    def forward():
        with torch.inference_mode(): return net(x)
    words = {'PyTorch': 'heat map in closed form, PyTorch'} | {
        how: f'logit, code and heat map in one pass, {engine.words}' for how, engine in engines.items()}
    rows = [row(words['PyTorch'], paired(ours['PyTorch'], forward, PAIRS), 'the forward pass alone', .9, work=BATCH,
        unit='images/s', count=SIDE)]
    for name, call in peers.items():
        for way, f in ours.items():
            times = paired(f, lambda c=call: c(x), PAIRS)
            rows.append(row(words[way], times, name, WANTED.get((name, way)), work=BATCH, unit='images/s', count=SIDE))
    save('maps', rows)


if __name__ == '__main__': main()
