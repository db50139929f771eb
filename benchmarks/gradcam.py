"""Grad-CAM of ResNet-50: pictures a second, ours beside torchcam and pytorch-grad-cam, all in one run on the same pictures.

    .venv/bin/python benchmarks/gradcam.py [side] [batch] [rounds]

The targets are 1.6 times torchcam's and 3 times pytorch-grad-cam's speed at side 224, batch 16, two threads. Whether they are met is printed. The libraries
get the network as we keep it (channels-last) and as torchvision gives it. torchcam differentiates down to the layer only since its version 0.5, so that for the
last layer it costs little more than a forward pass, and nothing that needs one can be much faster: the first line is that pass alone.
The maps must be the same after division by their maxima, else it stops. The ways take turns within each round, so that a slow moment meets all of them."""
import logging, sys, time, warnings
from importlib.metadata import version
warnings.filterwarnings('ignore')
import numpy as np, torch, torchvision
import torch.nn.functional as F
from torch import nn
from pytorch_grad_cam import GradCAM as OtherCAM
from torchcam.methods import GradCAM
from mura_nb.baselines import SingleLogit
from mura_nb.core import seed_everything
from mura_nb.gradcam import grad_cam


class Column(nn.Module):
    "Logits as one column, which both libraries expect"
    def __init__(self, net): super().__init__(); self.net = net
    def forward(self, x): return self.net(x)[:, None]


def torchcam(net, layer):
    def maps(x):
        with GradCAM(net, layer) as cam: return cam(0, net(x), normalized=False)[0].detach().relu()
    return maps


def pytorch_grad_cam(net, layer):
    def maps(x):
        with OtherCAM(net, [layer]) as cam: return torch.from_numpy(cam(x, [lambda out: out[0]]*len(x)))
    return maps


def forward(net):
    def run(x):
        with torch.no_grad(): return net(x)
    return run


def as_torchvision(net):
    "The same network and weights as torchvision builds it"
    tv = torchvision.models.resnet50(); tv.fc = nn.Linear(2048, 1)
    tv.load_state_dict({**net.body.state_dict(), 'fc.weight': net.head.weight, 'fc.bias': net.head.bias})
    return tv.eval()


def top(m): return m/m.amax((1, 2), keepdim=True)


def stretched(m): m = m - m.amin((1, 2), keepdim=True); return top(m)


def differs(ours, theirs):
    "Largest difference of two maps between 0 and 1. pytorch-grad-cam gives its maps stretched and enlarged to the input, so ours are treated alike"
    if theirs.shape == ours.shape: return (top(ours)-top(theirs)).abs().max().item()
    return (stretched(F.interpolate(stretched(ours)[:, None], size=theirs.shape[-2:], mode='bilinear')[:, 0]) - theirs).abs().max().item()


def main(side=224, batch=16, rounds=5):
    torch.set_num_threads(2); seed_everything(0); logging.disable(logging.WARNING)
    net = SingleLogit('torchvision:resnet50').eval(); tv = as_torchvision(net)
    x = torch.randn(batch, 3, side, side)
    ways = {'forward pass alone': forward(net), 'closed form (ours)': lambda x: grad_cam(net, x), 'backward to the layer (ours)': lambda x: grad_cam(net, x, net.body.layer4),
            'torchcam': torchcam(Column(net), net.body.layer4), 'torchcam, as torchvision': torchcam(tv, tv.layer4),
            'pytorch-grad-cam': pytorch_grad_cam(Column(net), net.body.layer4), 'pytorch-grad-cam, as torchvision': pytorch_grad_cam(tv, tv.layer4)}
    ours, took = grad_cam(net, x), {k: [] for k in ways}
    for k, f in ways.items():                    # not timed
        m = f(x)
        if m.dim() == 3 and (d := differs(ours, m.float())) > 1e-3: raise SystemExit(f'{k}: another map than ours (difference {d:.2g})')
    for _ in range(rounds):
        for k, f in ways.items():
            t = time.perf_counter(); f(x); took[k].append(time.perf_counter() - t)
    speed = {k: batch/np.median(v) for k, v in took.items()}
    fast = speed['closed form (ours)']
    print(f"ResNet-50, {side} px, batch {batch}, {torch.get_num_threads()} threads, median of {rounds} rounds; torch {version('torch')}, torchcam {version('torchcam')}, pytorch-grad-cam {version('grad-cam')}")
    for k, v in speed.items(): print(f'{k:34s}{v:7.1f} pictures/s   closed form: {fast/v:.2f} times')
    for k, want in (('torchcam', 1.6), ('pytorch-grad-cam', 3)): print(f"target {want} times {k}: {'met' if fast/speed[k] >= want else 'not met'} ({fast/speed[k]:.2f})")


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
