"Chapters on a device that is not there (tests/pretend.py): whole cells run on it, each planted fault is caught"
import contextlib, importlib, inspect, json, os, re, shutil, sys, textwrap, warnings
from pathlib import Path
from unittest import mock
import matplotlib.pyplot as plt, numpy as np, pytest, torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from pretend import Elsewhere, pretend
from test_baselines import made_up
from mura_nb import networks
from mura_nb.core import compute_device, deterministic
from mura_nb.settings import settings
from mura_nb.results import ModelFiles
from mura_nb.evidence import evidence
from mura_nb.networks import SingleLogit, device_of, network_outputs, rounding_tolerance

torch.set_num_threads(1)
ROOT = Path(__file__).parents[1]
SMALL = 'timm:test_efficientnet'
# smaller networks in their place: on this device they take the same way
SMALLER = {'timm:tf_efficientnet_lite0':SMALL, 'torchvision:resnet50':'torchvision:resnet18',
    'torchvision:densenet169':'timm:test_resnet'}
SKIPPED = {'ablation','cuda','demo','notest'}
# chapter -> the cells that use networks, and what these need; export cells always run
CHAPTERS = {
    '04_baselines':'d1b2709f f7ab282f 96389b26 d10592e9 f1d792ad', '04d_crops':'',
    '04f_looks':'305213ae f529e0b5 0ca8c9da',
    '05_fusenet':'bdb83f64 6be46801 c020f3bf 1416545a 058face5 4e583d30 14aa4ed6 6f3a3497 51cc0837',
    '05a_controls':'5e3d130b e9906e67 2a81da71 b1cd56a6', '05b_fusion_cost':'', '06a_evidence':'',
    '07_gradcam':'648eff05 2997b4bc 2bed7c6c', '07a_localisation':'9b68465b 79ad5e83 dd9dcb4a 402db317 5c16a973',
    '07b_database':'6d7adc92 048bdb00 a45a7a2a', '08a_similarity':'22d8c82a d3fae8d4'}
WHOLE = ['04_baselines','04b_maps','04d_crops','04f_looks','05_fusenet','05a_controls','05b_fusion_cost','06_ensemble',
    '06a_evidence','06c_boxes','07_gradcam','07a_localisation','07b_database','08_retrieval']


def flags(source): return set(re.findall(r'(?m)^#\|\s*(\w+)(?:\s+\w+)?\s*$', source))


def cells(name):
    "Number, id and source of the code cells of a notebook that a report runs"
    for i,c in enumerate(json.loads((ROOT/'nbs'/f'{name}.ipynb').read_text())['cells']):
        source = ''.join(c['source'])
        if c['cell_type']!='code' or flags(source) & SKIPPED or '#| default_exp' in source: continue
        for large,small in SMALLER.items(): source = source.replace(large, small)
        yield i,c['id'],source


def with_key(ini, section, **values):
    "Settings with other values in a section"
    head,rest = ini.split(f'[{section}]\n', 1)
    own,*later = re.split(r'(?m)^(?=\[)', rest, maxsplit=1)
    for k,v in values.items(): own = f'{k} = {v}\n' + re.sub(rf'(?m)^{k} = .*\n', '', own)
    rest = own + ''.join(later)
    return f'{head}[{section}]\n{rest}'


@pytest.fixture(scope='module')
def workplace(tmp_path_factory):
    "A folder with its own settings and pictures, in which chapters find what earlier ones wrote"
    d = tmp_path_factory.mktemp('device')
    made_up(d/'pictures')
    ini = with_key((ROOT/'settings.ini').read_text(), 'profile smoke', recipes='lite0_smoke', n_boot=20,
        ensemble='lite0_smoke fusenet_smoke')
    ini = with_key(ini, 'recipe lite0', backbone=SMALL, weights='none', precision='tf32') # which shows
    ini = with_key(ini, 'recipe lite0_smoke', epochs=1, lr=.02)
    (d/'settings.ini').write_text(ini)
    return d


@contextlib.contextmanager
def at_work(folder):
    "In the folder, in profile smoke"
    with pytest.MonkeyPatch.context() as m, warnings.catch_warnings(), mock.patch.dict(networks._builders):
        warnings.simplefilter('ignore')
        m.chdir(folder)
        m.setenv('MURA_NB_PROFILE', 'smoke')
        m.setenv('MURA_NB_DATA', str(folder/'pictures'))
        try: yield m
        finally: plt.close('all')


def run(name, only='', seen=None):
    "Run a notebook's cells; `only`: ids beside the export cells; `seen`: cell id -> the names there before it"
    space = dict(__name__='__main__', s=settings())
    for i,cid,source in cells(name):
        if only and cid not in only.split() and '#| export' not in source: continue
        if seen is not None: seen[cid] = dict(space),source
        try: exec(compile(source, f'{name}, cell {i}', 'exec'), space)
        except BaseException as e:
            e.add_note(f'in {name}, cell {i} ({cid})')
            raise


@pytest.fixture(scope='module')
def chapters(workplace):
    "What running the chapters one after the other gave: (names before each cell, error or None)"
    found = {}
    for name,only in CHAPTERS.items():
        seen,error = {},None
        with at_work(workplace), pretend():
            try: run(name, only, seen)
            except Exception as e: error = e
        found[name] = seen,error
    return found


@pytest.mark.parametrize('name', CHAPTERS)
def test_chapter_runs_on_a_gpu(chapters, name):
    if error := chapters[name][1]: raise error


@pytest.mark.outer
@pytest.mark.parametrize('kind', ['cuda','mps'])
def test_whole_chapters_run(workplace, tmp_path, kind):
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns('results','.cache'))
    for name in WHOLE:
        with at_work(tmp_path), pretend(kind): run(name)


def planted(m, where, good, bad, space):
    "A function of the package, or a method, with a line replaced, in every room and in the notebook"
    room,_,path = where.partition(':')
    module = importlib.import_module(f'mura_nb.{room}')
    owner,_,name = path.rpartition('.')
    holder = getattr(module, owner) if owner else module
    old = getattr(holder, name)
    source = textwrap.dedent(inspect.getsource(inspect.unwrap(old)))
    assert source.count(good)==1, f'{where} has no {good!r}'
    made = {}
    exec(source.replace(good, bad), vars(module), made)
    if owner: return m.setattr(holder, name, made[name])
    for other in [v for k,v in sys.modules.items() if k.startswith('mura_nb.')]:
        if getattr(other, name, None) is old: m.setattr(other, name, made[name])
    if name in space: space[name] = made[name]


STAYS = 'networks:load_model', '.eval().to(compute_device())', '.eval()' # a loaded network stays on the processor
EXACT = 'networks:rounding_tolerance', 'share = TOLERANCES[precision]', "share = TOLERANCES['single']"
FIGURE = ('baselines:baseline_figure', 'network_outputs(model, x, model.features)',
    'model.features(x).detach().numpy()')
MOVED = "load_model(ModelFiles(s.baseline).model)[0]", "load_model(ModelFiles(s.baseline).model)[0].to('cuda')"
BATCH = 'network_outputs(net, view_dl(SideViews(few, store, small{}), 32).one_batch()[0]{})'
# what is planted -> chapter, functions, lines of cells, and what catches it
FAULTS = {
    "the pipeline figure's batch goes to a network on the processor": (
        '04_baselines', '96389b26', [STAYS, FIGURE], [], RuntimeError),
    "the pipeline figure's maps become an array on the GPU": ('04_baselines', '96389b26', [FIGURE], [], TypeError),
    'kept features stay on the processor': ('05b_fusion_cost', '9aafa720', [
        ('fusion_cost:stage_speed', 'kept.inputs(r, 0, device)[0]', 'kept.x[0][0][r]')], [], RuntimeError),
    'branches on the processor beside features of the GPU': ('05b_fusion_cost', '9aafa720 1fd7a492', [STAYS], [MOVED,
        ('t.difference<=allowed', 't.difference<1e-5')], AssertionError),
    'the test of activations': ('05a_controls', 'b1cd56a6', [], [(BATCH.format(', True', ''),
        'net(view_dl(SideViews(few, store, small, True), 32).one_batch()[0])')], RuntimeError),
    'the test of features': ('04d_crops', 'e004618b', [], [(BATCH.format('', ', net.codes'),
        'net.codes(view_dl(SideViews(few, store, small), 32).one_batch()[0])')], RuntimeError),
    "chapter 4's logits compared as if in single precision": ('04_baselines', 'f1d792ad', [STAYS, EXACT], [],
        AssertionError),
    "chapter 5's logits compared as if in single precision": ('05_fusenet', '058face5', [STAYS, EXACT], [],
        AssertionError),
    'two trainings to the bit without deterministic kernels': ('04_baselines', 'd10592e9', [],
        [(', deterministic()', '')], AssertionError),
    'the field of a cell as an array on the GPU': ('07a_localisation', 'dd9dcb4a', [
        ('localisation:cell_field', '.cpu().numpy()', '.numpy()')], [('pool = nn.Sequential(nn.AvgPool2d(8))',
        "pool = nn.Sequential(nn.AvgPool2d(8), nn.BatchNorm2d(3)).to('cuda')")], TypeError)}


@pytest.mark.parametrize('fault', FAULTS)
def test_planted_fault_is_caught(chapters, workplace, fault):
    name,ids,functions,lines,error = FAULTS[fault]
    seen,_ = chapters[name]
    with at_work(workplace) as m, pretend():
        networks._load_once.cache_clear()
        space = dict(seen[ids.split()[0]][0])
        for one in functions: planted(m, *one, space)
        source = '\n'.join(seen[cid][1] for cid in ids.split())
        for good,bad in lines:
            assert source.count(good)==1, good
            source = source.replace(good, bad)
        with pytest.raises(error): exec(compile(source, fault, 'exec'), space)
    networks._load_once.cache_clear()


def logits_of_fusenet(folder):
    with at_work(folder), pretend('mps'):
        net = networks.load_model(ModelFiles(settings().fusenet).model)[0]
        picture = np.random.default_rng(0).integers(0, 255, (90, 70), np.uint8)
        return net([picture]).logit, evidence(net, net.recipe, [picture])[0]


def test_mps_has_no_double_precision(chapters, workplace, monkeypatch):
    one,two = logits_of_fusenet(workplace)
    np.testing.assert_allclose(one, two, atol=1e-4)
    planted(monkeypatch, 'fusenet:FuseNet.forward', '.cpu().double()', '.double().cpu()', {})
    with pytest.raises(TypeError, match='float64'): logits_of_fusenet(workplace)


def test_cells_move_nothing():
    "No cell of a notebook but an export cell brings anything to a device"
    moves = re.compile(r'\.cpu\(|\.cuda\(|default_device|\.to\((?!_)|map_location')
    found = [(p.name, i, m.group()) for p in sorted((ROOT/'nbs').glob('*.ipynb')) for i,_,source in cells(p.stem)
        if '#| export' not in source and (m := moves.search(source))]
    assert found==[]


def test_one_place_decides_the_device():
    "`distributed` sets fastai's choice, `core` reads it, and nobody else does"
    names = {p.stem for p in (ROOT/'mura_nb').glob('*.py') if 'default_device' in p.read_text()}
    assert names=={'core','distributed'}


@pytest.mark.parametrize('kind', ['cuda','mps'])
def test_the_pretended_device(kind):
    net,x = SingleLogit(SMALL, precision='tf32').eval(),torch.randn(2, 3, 64, 64)
    want = network_outputs(net, x, net.features)
    with pretend(kind) as device:
        first = next(net.parameters())
        assert compute_device()==device and net.to(device) is net and device_of(net)==device
        assert next(net.parameters()) is first and isinstance(first, nn.Parameter) and isinstance(first, Elsewhere)
        there = x.to(device)
        for wrong in (lambda: net(x), lambda: there+x, lambda: torch.cat([there, x]), lambda: x[there>0]):
            with pytest.raises(RuntimeError, match='same device'): wrong()
        for wrong in (there.numpy, lambda: np.asarray(there)):
            with pytest.raises(TypeError, match='host memory'): wrong()
        far = (network_outputs(net, x, net.features)-want).abs().max()/want.abs().max()
        assert far < rounding_tolerance(precision='tf32') and (far > 1e-5) == (kind=='cuda') # TF32 shows
        assert there.cpu().device.type=='cpu' and torch.zeros(2, device=device).device==device
        if kind=='mps':
            with pytest.raises(TypeError, match='float64'): there.double()
        net.to('cpu')
    assert device_of(net).type=='cpu' and type(first) is nn.Parameter


def test_fake_tensors_refuse_the_same():
    "PyTorch's own pretence, which knows shapes and devices but no values"
    with FakeTensorMode(allow_non_fake_inputs=True):
        net,x = SingleLogit.__new__(SingleLogit),torch.empty(2, 3, 64, 64, device='cuda')
        nn.Module.__init__(net)
        net.head = nn.Conv2d(3, 4, 3)
        with pytest.raises(RuntimeError, match='device'): net.head(x)
        assert network_outputs(net, x, net.head).shape==(2, 4, 62, 62)


def test_deterministic_asks_for_it(monkeypatch):
    monkeypatch.setenv('CUBLAS_WORKSPACE_CONFIG', ':16:8')
    with pytest.raises(ZeroDivisionError), deterministic():
        assert torch.are_deterministic_algorithms_enabled() and torch.backends.cudnn.deterministic
        1/0
    assert not torch.are_deterministic_algorithms_enabled() and os.environ['CUBLAS_WORKSPACE_CONFIG']==':16:8'
