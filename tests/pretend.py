"""A device that is not there: tensors compute on the processor, say `cuda` (or `mps`) of themselves, and refuse.

It refuses operations on tensors of two devices, `.numpy()` and `np.asarray`, and as `mps` numbers in double precision.
As `cuda` it computes convolutions in TF32, and its gradients differ in their last bits from run to run unless
deterministic kernels are asked for."""
import contextlib, sys
from functools import cache
from unittest import mock
import numpy as np, torch
from torch import nn
from torch.overrides import TorchFunctionMode

T = torch.Tensor
MIXED = 'Expected all tensors to be on the same device, but got {} is on {}, different from other tensors on {}'
NO_NUMPY = "can't convert {} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first."
NO_DOUBLE = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Use float32."
CROSSING = (T.copy_, T.__setitem__, T.to, T.cpu, T.cuda, T.type_as) # operations that may read another device
CONVOLUTIONS = (torch.conv2d, nn.functional.conv2d)
_here = None # the pretended device while there is one
_rng = np.random.default_rng() # of the order in which kernels add: no seed of the program reaches it


class Elsewhere:
    "A tensor on the pretended device"
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None): return _call(func, args, kwargs or {})

    def as_subclass(self, cls): # PyTorch asks nobody here
        return moved(_plain(T.as_subclass, (self, _home(cls) if issubclass(cls, Elsewhere) else cls), {}), True)


class ElsewhereParameter(Elsewhere, nn.Parameter):
    "A parameter on the pretended device"


@cache
def _elsewhere(cls):
    "The class of tensors like those of `cls`, on the device"
    if issubclass(cls, Elsewhere): return cls
    if issubclass(cls, nn.Parameter): return ElsewhereParameter
    return type(f'{cls.__name__}Elsewhere', (Elsewhere, cls), {})


def _home(cls):
    "The class of the same tensors on the processor"
    if cls is ElsewhereParameter: return nn.Parameter
    return next(c for c in cls.__mro__[1:] if c is not Elsewhere)


def moved(x, there):
    "The same tensor, on the device or not"
    if there and isinstance(x, Elsewhere) is False: x.__class__ = _elsewhere(type(x))
    if not there and isinstance(x, Elsewhere): x.__class__ = _home(type(x))
    if there and _here.type=='mps' and x.dtype is torch.float64: raise TypeError(NO_DOUBLE)
    return x


def tensors(x):
    "All tensors in nested lists, tuples and dicts"
    if isinstance(x, T): yield x
    elif isinstance(x, (list, tuple)):
        for o in x: yield from tensors(o)
    elif isinstance(x, dict): yield from tensors(list(x.values()))


def _is_there(device):
    "Does an argument name the pretended device? None where it names none"
    if device is None: return None
    if isinstance(device, int): return _here.type=='cuda'
    if isinstance(device, (str, torch.device)): return torch.device(device).type==_here.type
    return None


def _check(func, args, kwargs):
    "RuntimeError for tensors of two devices; numbers without a dimension and indices on the processor are allowed"
    if func in CROSSING: return
    if func is T.__getitem__:
        if not isinstance(args[0], Elsewhere) and any(isinstance(t, Elsewhere) for t in tensors(args[1])):
            raise RuntimeError('indices should be either on cpu or on the same device as the indexed tensor (cpu)')
        return
    found = list(tensors([list(args), kwargs]))
    if any(isinstance(t, Elsewhere) for t in found):
        for t in found:
            if not isinstance(t, Elsewhere) and T.dim(t): raise RuntimeError(MIXED.format('an argument', 'cpu', _here))


def _plain(func, args, kwargs):
    with torch._C.DisableTorchFunction(): return func(*args, **kwargs)


def _tf32(x):
    "Rounded to the eleven bits of TF32; the gradient passes"
    if x.dtype is not torch.float32: return x
    with torch.no_grad(): low = ((x.contiguous().view(torch.int32) + 0x1000) & ~0x1fff).view(torch.float32).view_as(x)
    return x + (low-x).detach()


def _in_any_order(g):
    "A gradient whose terms were added in an order of their own"
    if torch.are_deterministic_algorithms_enabled(): return g
    return g*(1 + 1e-6*torch.from_numpy(_rng.standard_normal(tuple(g.shape)).astype(np.float32)).to(g.dtype))


def _convolve(func, args, kwargs):
    "A convolution as cuDNN computes it"
    with torch._C.DisableTorchFunction():
        cudnn = torch.backends.cudnn
        tf32 = cudnn.conv.fp32_precision=='tf32' if hasattr(cudnn, 'conv') else cudnn.allow_tf32 # PyTorch before 2.9
        x,w = map(_tf32, args[:2]) if tf32 else args[:2]
        w = w*1
        if w.requires_grad: w.register_hook(_in_any_order)
        return func(x, w, *args[2:], **kwargs)


def _to(x, args, kwargs):
    "`x.to(...)`: where it names a device, a copy there"
    device,dtype,_,layout = torch._C._nn._parse_to(*[a for a in args if not isinstance(a, T)],
        **{k:v for k,v in kwargs.items() if k not in ('copy','memory_format')})
    if args and isinstance(args[0], T): device,dtype = args[0].device,args[0].dtype
    there = isinstance(x, Elsewhere) if device is None else _is_there(device)
    same = there==isinstance(x, Elsewhere) and dtype in (None, x.dtype) and not kwargs.get('copy')
    layout = layout or kwargs.get('memory_format') or torch.preserve_format
    if same and layout is torch.preserve_format: return x
    if there and _here.type=='mps' and (dtype or x.dtype) is torch.float64: raise TypeError(NO_DOUBLE)
    with torch._C.DisableTorchFunction(): y = T.to(x, dtype or x.dtype, copy=True, memory_format=layout)
    base = _home(type(x)) if isinstance(x, Elsewhere) else type(x)
    y.__class__ = T if issubclass(base, nn.Parameter) else base
    return moved(y, there)


def _copied(x, memo):
    "`copy.deepcopy` of a tensor on the device"
    if id(x) in memo: return memo[id(x)]
    with torch._C.DisableTorchFunction(): y = x.detach().clone().requires_grad_(x.requires_grad)
    y.__class__ = type(x)
    return memo.setdefault(id(x), y)


def _call(func, args, kwargs):
    "What a PyTorch function gives on the device"
    first = args[0] if args else None
    on = isinstance(first, Elsewhere)
    if func is torch._C._nn._parse_to: return _plain(func, args, kwargs)
    if func==T.device.__get__: return _here if on else _plain(func, args, kwargs)
    for kind in ('cuda','mps','cpu'):
        if on and func==getattr(T, f'is_{kind}').__get__: return _here.type==kind
    if func in (T.numpy, T.__array__):
        if on: raise TypeError(NO_NUMPY.format(_here))
        return _plain(func, args, kwargs)
    if func is T.to: return _to(first, args[1:], kwargs)
    if func is T.pin_memory: return first # page-locked memory needs a driver
    if func is T.cpu: return _to(first, ('cpu',), {})
    if func is T.cuda: return _to(first, (_here,), {})
    if func is T.double: return _to(first, (torch.float64,), {})
    if func is T.__deepcopy__ and on: return _copied(*args)
    if func==T.data.__set__:
        there = isinstance(args[1], Elsewhere)
        _plain(func, args, kwargs)
        moved(first, there)
        return None
    return _computed(func, args, kwargs)


def _computed(func, args, kwargs):
    "Check, compute, and leave the result where its arguments are, or where it was asked for"
    _check(func, args, kwargs)
    given = [t for t in tensors([list(args), kwargs]) if isinstance(t, Elsewhere)]
    there = _is_there(kwargs.get('device'))
    if there is not None: kwargs = kwargs | dict(device='cpu')
    ours = bool(given) if there is None else there
    convolves = func in CONVOLUTIONS and ours and _here.type=='cuda'
    if ours and given: out = _convolve(func, args, kwargs) if convolves else _plain(func, args, kwargs)
    else: out = func(*args, **kwargs)
    if not ours: return out
    kind = next((c for c in (_home(type(t)) for t in given) if not issubclass(c, nn.Parameter)), T)
    for t in tensors(out):
        if not isinstance(t, Elsewhere):
            if type(t) is T and kind is not T: t.__class__ = kind
            moved(t, True)
    return out


class _Mode(TorchFunctionMode):
    "Functions that make tensors, and setters, reach the device too"
    def __torch_function__(self, func, types, args=(), kwargs=None): return _call(func, args, kwargs or {})


def _move_module(module, there):
    "Parameters, gradients and buffers, each staying the object that it is"
    for m in module.modules():
        for t in [*m._parameters.values(), *m._buffers.values()]:
            if t is None: continue
            moved(t, there)
            with torch._C.DisableTorchFunction(): grad = t.grad
            if grad is not None: moved(grad, there)
    return module


def _module_to(real):
    def to(self, *args, **kwargs):
        device,dtype,_,layout = torch._C._nn._parse_to(*args, **kwargs)
        there = _is_there(device)
        if dtype is not None or layout is not None:
            real(self, dtype=dtype) if layout is None else real(self, memory_format=layout)
        return self if there is None else _move_module(self, there)
    return to


@contextlib.contextmanager
def pretend(kind='cuda'): # or mps
    "As if the machine had such a device: fastai's default, and all that asks for it"
    global _here
    from fastai.torch_core import default_device
    device,autocast = torch.device(kind, 0),torch.autocast
    def ours(use=-1): return torch.device('cpu') if use is False else device
    names = [(m, k) for m in list(sys.modules.values()) if m for k,v in list(getattr(m, '__dict__', {}).items())
        if v is default_device and k!='ours']
    patches = [mock.patch.object(m, k, ours) for m,k in names]
    patches += [mock.patch.object(nn.Module, 'to', _module_to(nn.Module.to)),
        mock.patch.object(nn.Module, 'cpu', lambda self: _move_module(self, False)),
        mock.patch.object(nn.Module, 'cuda', lambda self, device=None: _move_module(self, True)),
        mock.patch.object(torch, 'autocast', lambda kind, *a, **kw: autocast('cpu', *a, **kw)),
        mock.patch.object(torch.cuda, 'synchronize', lambda device=None: None),
        mock.patch.object(torch.cuda, 'is_bf16_supported', lambda *a, **kw: True),
        mock.patch.object(torch.cuda, 'get_device_name', lambda device=None: 'pretended GPU')]
    for check in ('_accelerator_graph_capture_health_check','_cuda_graph_capture_health_check'): # ask the driver
        if hasattr(torch.optim.Optimizer, check):
            patches.append(mock.patch.object(torch.optim.Optimizer, check, lambda self: None))
    if kind=='cuda': patches += [mock.patch.object(torch.cuda, 'is_available', lambda: True),
        mock.patch.object(torch.cuda, 'current_device', lambda: 0)]
    with contextlib.ExitStack() as stack:
        for p in patches: stack.enter_context(p)
        before,_here = _here,device
        stack.enter_context(_Mode())
        try: yield device
        finally: _here = before
