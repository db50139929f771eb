"""Grad-CAM of ResNet-50: images a second, ours beside torchcam and pytorch-grad-cam, all in one run on the same images.

    .venv/bin/python benchmarks/gradcam.py [side] [batch] [rounds]

The targets are 1.6 times torchcam's and 3 times pytorch-grad-cam's speed at side 224, batch 16, two threads. Whether
they are met is printed. The libraries get the network as we keep it (channels-last) and as torchvision gives it.
torchcam differentiates down to the layer only since its version 0.5, so that for the last layer it costs little more
than a forward pass, and nothing that needs one can be much faster: the first line is that pass alone. The maps must be
the same after division by their maxima, else it stops. The calls take turns within each round, so that a slow moment
meets all of them.
"""
import logging
import sys
import warnings
from importlib.metadata import version
warnings.filterwarnings('ignore')
import torch
import torch.nn.functional as F
import torchvision
from pytorch_grad_cam import GradCAM as OtherCAM
from torch import nn
from torchcam.methods import GradCAM
from mura_nb.core import seed_everything, time_calls
from mura_nb.networks import SingleLogit
from mura_nb.maps import AsColumn, grad_cam

TARGETS = {'torchcam': 1.6, 'pytorch-grad-cam': 3}


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


def forward(net):
    "The forward pass alone"
    def run(x):
        with torch.no_grad(): return net(x)
    return run


def as_torchvision(net):
    "The same network and weights as torchvision builds it"
    tv = torchvision.models.resnet50()
    tv.fc = nn.Linear(2048, 1)
    tv.load_state_dict({**net.body.state_dict(), 'fc.weight': net.head.weight, 'fc.bias': net.head.bias})
    return tv.eval()


def top(m): return m/m.amax((1, 2), keepdim=True)


def stretched(m): return top(m - m.amin((1, 2), keepdim=True))


def differs(ours, theirs):
    "Largest difference of two maps between 0 and 1; ours are treated as pytorch-grad-cam treats its own"
    if theirs.shape == ours.shape: return (top(ours)-top(theirs)).abs().max().item()
    fine = F.interpolate(stretched(ours)[:, None], size=theirs.shape[-2:], mode='bilinear')[:, 0]
    return (stretched(fine) - theirs).abs().max().item()


def ways(net):
    "Every call that makes the map, by name"
    tv, column = as_torchvision(net), AsColumn(net)
    return {'forward pass alone': forward(net), 'closed form (ours)': lambda x: grad_cam(net, x),
            'backward to the layer (ours)': lambda x: grad_cam(net, x, net.body.layer4),
            'torchcam': torchcam(column, net.body.layer4), 'torchcam, as torchvision': torchcam(tv, tv.layer4),
            'pytorch-grad-cam': pytorch_grad_cam(column, net.body.layer4),
            'pytorch-grad-cam, as torchvision': pytorch_grad_cam(tv, tv.layer4)}


def main(side=224, batch=16, rounds=5):
    "Check that the maps agree, time the calls, and print the speeds"
    torch.set_num_threads(2)
    seed_everything(0)
    logging.disable(logging.WARNING)
    net, x = SingleLogit('torchvision:resnet50').eval(), torch.randn(batch, 3, side, side)
    calls, ours = ways(net), grad_cam(net, x)
    for name, call in calls.items():
        m = call(x)
        if m.dim() == 3 and (d := differs(ours, m.float())) > 1e-3:
            raise SystemExit(f'{name}: another map than ours (difference {d:.2g})')
    seconds = time_calls({name: lambda call=call: call(x) for name, call in calls.items()}, repeat=rounds, warmup=0)
    speed = batch/seconds.median()
    fast = speed['closed form (ours)']
    print(f'ResNet-50, {side} px, batch {batch}, {torch.get_num_threads()} threads, median of {rounds} rounds; '
          f"torch {version('torch')}, torchcam {version('torchcam')}, pytorch-grad-cam {version('grad-cam')}")
    for name in calls: print(f'{name:34s}{speed[name]:7.1f} images/s   closed form: {fast/speed[name]:.2f} times')
    for name, want in TARGETS.items():
        met = 'met' if fast/speed[name] >= want else 'not met'
        print(f'target {want} times {name}: {met} ({fast/speed[name]:.2f})')


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
