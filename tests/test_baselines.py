"Baselines: what a notebook should not carry (killed processes, broken files, caches), on a small made-up dataset"
import json, os, signal
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from fastai.callback.core import Callback
from fastai.torch_core import default_device
from mura_nb import ablations as A, baselines as B, networks as N, predictions as P, training as T
from mura_nb.core import STUDY_TYPES, fmt_num
from mura_nb.settings import Recipe, settings
from mura_nb.results import ModelFiles, load_card, load_table, save_model, save_table
from mura_nb.data import image_store, mura_index, patient_split
from mura_nb.pooling import pool_studies
from mura_nb.evaluation import typical_study

torch.set_num_threads(1)
LITE = 'timm:tf_efficientnet_lite0'
TINY = Recipe('tiny', LITE, 'none', 4, 1e-3, 3, 1, 'stretch', True, True, 10., 'single', 0, 40, 32)

def made_up(root, n=28, seed=0):
    "Noise in MURA's layout; abnormal ones have a bright square"
    rng = np.random.default_rng(seed)
    for i in range(n):
        split,label = ('valid' if i%4==3 else 'train'),i//7%2
        folder = root/split/f'XR_{STUDY_TYPES[i%7]}'/f'patient{i:05}'/f"study1_{'positive' if label else 'negative'}"
        folder.mkdir(parents=True)
        for v in (1, 2):
            a = rng.normal(80, 20, (50, 60))
            if label: a[10:30,20:40] += 100
            Image.fromarray(a.clip(0, 255).astype(np.uint8)).save(folder/f'image{v}.png')

@pytest.fixture(scope='module')
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp('made_up')
    made_up(root/'data')
    df = mura_index(root/'data')
    return df, image_store(df, folder=root/'store'), patient_split(df, .3, 0)

def history(out): return load_table('history_tiny', out).drop(columns=['seconds','images_per_s'])

class Kill(Callback):
    "The process dies in the middle of an epoch"
    def __init__(self, epoch): self.die = epoch
    def after_batch(self):
        if self.training and len(self.history)==self.die-1: os.kill(os.getpid(), signal.SIGKILL)

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='needs fork')
@pytest.mark.filterwarnings('ignore:.*fork.*')
def test_killed_and_resumed(data, tmp_path):
    whole,_ = B.fit(TINY, *data, tmp_path/'whole')
    for epoch in (2, 3):
        pid = os.fork()
        if not pid:
            try: B.fit(TINY, *data, tmp_path/'cut', [Kill(epoch)])
            finally: os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])==-signal.SIGKILL
        assert len(history(tmp_path/'cut'))==epoch-1
    again,_ = B.fit(TINY, *data, tmp_path/'cut')
    pd.testing.assert_frame_equal(history(tmp_path/'cut'), history(tmp_path/'whole'))
    for a,b in zip(whole.state_dict().values(), again.state_dict().values()): assert torch.equal(a, b)
    assert sorted(p.name for p in (tmp_path/'cut/models').iterdir())==['tiny.json','tiny.safetensors']

def test_a_training_that_has_ended_by_itself_does_not_go_on(tmp_path):
    "Killed between its last epoch and the model file: the checkpoint is there, and no epoch is added"
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 80).astype(np.float32)
    x = rng.normal(size=(1, 80, 3)).astype(np.float32)
    parts = [T.Features((label[r],), x, at=r) for r in (np.arange(60), np.arange(60, 80))]
    def loss(z, y): return torch.nn.functional.binary_cross_entropy_with_logits(z.squeeze(1), y)
    def train(stop):
        torch.manual_seed(0)
        dls = T.feature_dls(*parts, 16, T.feature_order(60, 0, 1))
        schedule = T.Schedule('ends', lr=.5, epochs=12, patience=1, stop=stop, seed=0)
        return T.train_learner(dls, torch.nn.Linear(3, 1), loss, schedule, ModelFiles('ends', tmp_path), 'key')
    net,h = train(2)
    assert len(h)<12 and h['drop'].iloc[-2:].all() and not h.best.iloc[-2:].any()
    again,same = train(2)
    pd.testing.assert_frame_equal(same, h)
    assert torch.equal(again.weight, net.weight)
    assert len(train(3)[1])>len(h) # another rule goes on from there

def test_best_epoch_is_kept(data, tmp_path):
    df,store,tune = data
    model,card = B.fit(TINY, *data, tmp_path)
    h = history(tmp_path)
    assert card['metrics']['epoch']==h.epoch[h.tune_loss.idxmin()]
    pred = P.predict(model, df[tune], store, TINY)
    loss = B.WeightedBCE(B.type_weights(df[(df.split=='train') & ~tune]))
    y,t = torch.tensor(pred.label.to_numpy(float)),torch.tensor([STUDY_TYPES.index(k) for k in pred.study_type])
    assert loss(torch.tensor(pred.logit.to_numpy()), y, t).item()==pytest.approx(h.tune_loss.min(), rel=1e-4)

def test_trains_again_only_when_something_changed(data, tmp_path):
    df,store,tune = data
    one = replace(TINY, epochs=1)
    _,first = B.fit(one, *data, tmp_path)
    stop = [Kill(1)] # training would kill this process
    mixed = df.sample(frac=1, random_state=1)
    assert B.fit(one, mixed, store, tune[mixed.index], tmp_path, stop)[1]==first
    labels = df.assign(label=df.label.where(df.index!=df.index[df.split=='train'][0], 1-df.label))
    keys = {T.data_key(d, store) for d in (df, labels, df[1:])}
    assert len(keys)==3
    _,other = B.fit(replace(one, lr=1e-4), *data, tmp_path)
    assert other['fingerprint']!=first['fingerprint']==B.fit(one, *data, tmp_path)[1]['fingerprint']

def test_changed_pixels_change_the_key(tmp_path):
    made_up(tmp_path/'data', 7)
    df = mura_index(tmp_path/'data')
    before = T.data_key(df, image_store(df, folder=tmp_path/'s'))
    assert T.data_key(df, image_store(df, folder=tmp_path/'s2'))==before
    Image.new('L', (50, 60), 7).save(tmp_path/'data'/df.path[0])
    assert T.data_key(df, image_store(df, folder=tmp_path/'s'))!=before

def test_checkpoint_of_other_data_is_removed(data, tmp_path):
    files = ModelFiles('tiny', tmp_path)
    net = torch.nn.Linear(2, 1)
    T.save_state(files.state, net, T.adam(net.parameters(), lr=.1), dict(key='other', history=[]))
    assert not T.Resume(files, 'mine').checkpoint()
    assert not files.state.exists()

def test_checkpoint_of_an_earlier_version_goes_on(data, tmp_path):
    "Its rule is written down; now it is read from the losses"
    class Stop(Callback):
        def after_batch(self):
            if self.training and len(self.history)==2: raise KeyboardInterrupt
    whole,_ = B.fit(TINY, *data, tmp_path/'whole')
    with pytest.raises(KeyboardInterrupt): B.fit(TINY, *data, tmp_path/'cut', [Stop()])
    files = ModelFiles('tiny', tmp_path/'cut')
    with safe_open(files.state, 'pt') as f: about = json.loads(f.metadata()['about'])
    rule = T.Plateau(TINY.patience)
    for row in about['history']: rule.step(row['tune_loss'])
    state = load_file(files.state)
    save_file(state, files.state, dict(about=json.dumps(about | dict(rule=vars(rule)))))
    again,_ = B.fit(TINY, *data, tmp_path/'cut')
    pd.testing.assert_frame_equal(history(tmp_path/'cut'), history(tmp_path/'whole'))
    for a,b in zip(whole.state_dict().values(), again.state_dict().values()): assert torch.equal(a, b)

def test_broken_model_file_trains_again(data, tmp_path):
    one = replace(TINY, epochs=1)
    _,card = B.fit(one, *data, tmp_path)
    ModelFiles('tiny', tmp_path).model.write_bytes(b'cut off')
    assert B.fit(one, *data, tmp_path)[1]['fingerprint']==card['fingerprint']

def test_loss_that_is_not_a_number(data, tmp_path):
    class Nan(Callback):
        order = 61
        def before_batch(self): self.learn.xb = (self.xb[0]*float('nan'),)
    with pytest.raises(FloatingPointError, match='lower its learning rate'): B.fit(TINY, *data, tmp_path, [Nan()])

def test_a_recipe_is_read_on_other_images_than_it_learned_from(data, tmp_path):
    df,store,tune = data
    made_up(tmp_path/'other', seed=5)
    other = mura_index(tmp_path/'other')
    rows,pictures = other.assign(split=['tune','valid']*(len(other)//2)),image_store(other, folder=tmp_path/'store')
    card = B.run_recipe(replace(TINY, epochs=1), df, store, tune, tmp_path, read=(rows, pictures))
    pred,(net,_) = P.load_predictions('tiny', out=tmp_path),N.load_model(tmp_path/'models/tiny')
    assert pred.path.tolist()==rows.path.tolist()
    assert card['data']['train_images']==((df.split=='train') & ~tune).sum()
    np.testing.assert_allclose(pred.logit, P.predict(net, rows, pictures, TINY).logit, atol=1e-5)

def test_run_recipe_writes_what_others_read(data, tmp_path):
    df,store,tune = data
    one = replace(TINY, epochs=1)
    card = B.run_recipe(one, df, store, tune, tmp_path)
    pred = P.load_predictions('tiny', out=tmp_path)
    assert list(pred.columns)==['path','study','patient','study_type','label','logit','prob','split']
    assert set(pred.path[pred.split=='tune'])==set(df.path[tune])
    assert set(pred.path[pred.split=='valid'])==set(df.path[df.split=='valid'])
    np.testing.assert_allclose(pred.prob, 1/(1+np.exp(-pred.logit)), rtol=1e-6)
    assert 0<=card['threshold']<=1 and set(card['platt'])=={'slope','intercept','n'}
    assert load_card(tmp_path/'models/tiny')['threshold']==card['threshold']
    assert not N.load_model(tmp_path/'models/tiny')[0].training
    when = (tmp_path/'predictions/tiny.csv').stat().st_mtime_ns
    assert B.run_recipe(one, df, store, tune, tmp_path)['threshold']==card['threshold']
    assert (tmp_path/'predictions/tiny.csv').stat().st_mtime_ns==when
    with pytest.raises(ValueError, match="no split 'test'"): P.load_predictions('tiny', 'test', tmp_path)
    with pytest.raises(FileNotFoundError, match='chapter 04_baselines'): P.load_predictions('none', out=tmp_path)
    (tmp_path/'predictions/short.csv').write_text('path,label\n')
    with pytest.raises(ValueError, match='lacks study'): P.load_predictions('short', out=tmp_path)

def test_labels_may_be_missing_in_prediction(data):
    df,store,_ = data
    pred = P.predict(N.SingleLogit(LITE), df[:3].assign(label=pd.array([pd.NA]*3, 'Int8')), store, TINY)
    assert pred.label.isna().all() and pred.logit.notna().all()

def test_weights_from_a_file(tmp_path):
    a = N.SingleLogit(LITE)
    save_model(a, dict(architecture='single_logit'), tmp_path/'own')
    b = N.create_body(LITE, str(tmp_path/'own.safetensors'))
    plain = {k:v.contiguous() for k,v in a.body.state_dict().items()}
    save_file({**plain, 'classifier.weight':torch.zeros(3, 1280)}, tmp_path/'plain.safetensors')
    c = N.create_body(LITE, str(tmp_path/'plain.safetensors'))
    for net in (b, c):
        for u,v in zip(a.body.state_dict().values(), net.state_dict().values()): assert torch.equal(u, v)
    wrong = dict(less={k:plain[k] for k in list(plain)[1:]}, more={**plain, 'extra.weight':torch.zeros(1)},
        shape={**plain, 'bn1.weight':torch.zeros(3)})
    for name,state in wrong.items():
        save_file(state, tmp_path/f'{name}.safetensors')
        with pytest.raises(ValueError, match=f'{name}.safetensors: not the weights of .* 1 tensors'):
            N.create_body(LITE, str(tmp_path/f'{name}.safetensors'))

def test_imagenet_file_put_by_hand_is_found(tmp_path, monkeypatch):
    "What the error message of a failed download asks for works"
    from torchvision.models import densenet169
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    for k in ('https_proxy','HTTPS_PROXY'): monkeypatch.setenv(k, 'http://127.0.0.1:9')
    with pytest.raises(N.WeightsUnavailable) as e: N.create_body('torchvision:densenet169', 'imagenet')
    place = Path(str(e.value).split('put it at ')[1].split(';')[0])
    net = densenet169(weights=None)
    place.parent.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), place)
    body = N.create_body('torchvision:densenet169', 'imagenet')
    assert torch.equal(body.state_dict()['features.conv0.weight'], net.features.conv0.weight)

@pytest.mark.parametrize('backbone', ['torchvision:mobilenet_v2', 'torchvision:efficientnet_b0',
    'torchvision:convnext_tiny', 'torchvision:mnasnet0_5', 'torchvision:regnet_y_400mf', 'timm:resnet18',
    'timm:mobilenetv3_small_100', 'timm:tf_efficientnet_lite2'])
def test_many_backbones_fit(backbone):
    net = N.SingleLogit(backbone).eval()
    x = torch.zeros(2, 3, 64, 64)
    with torch.no_grad(): maps,logit = net.features(x),net(x)
    assert maps.shape[1]==net.head.in_features and logit.shape==(2,)

def test_unknown_names():
    for name in ('keras:resnet50', 'resnet50'):
        with pytest.raises(ValueError, match='must be timm:NAME or torchvision:NAME'): N.create_body(name)
    with pytest.raises(ValueError, match='no such classifier'): N.create_body('torchvision:fasterrcnn_resnet50_fpn')
    with pytest.raises(ValueError, match='precision'): N.SingleLogit('timm:resnet18', precision='half')

def test_bfloat16_is_close_and_single_outside_the_body():
    net,x = N.SingleLogit('timm:resnet18').eval(),torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        a = net(x)
        net.precision = 'bfloat16'
        b = net(x)
        assert net.features(x).dtype==torch.bfloat16 and b.dtype==torch.float32
    assert 0<(a-b).abs().max()<.05

def test_plain_adam():
    "`adam` takes PyTorch's own steps, without weight decay"
    torch.manual_seed(0)
    x,nets = torch.randn(8, 3),[torch.nn.Linear(3, 1) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    for net,make in zip(nets, (T.adam, torch.optim.Adam)):
        opt = make(net.parameters(), lr=.01)
        for _ in range(5):
            net(x).square().mean().backward()
            opt.step()
            opt.zero_grad()
    assert torch.equal(nets[0].weight, nets[1].weight)

def test_renormalise_is_identity_for_imagenet_statistics():
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(N.Renormalise(*N.input_stats('torchvision:resnet50'))(x), x)

def test_loss_needs_labels():
    df = pd.DataFrame(dict(study_type=['HAND']*2, label=pd.array([1, pd.NA], 'Int8')))
    with pytest.raises(ValueError, match='1 images have no label'): B.type_weights(df)

@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    "Two recipes that differ in their seed, one epoch each"
    df,store,tune = data
    out = tmp_path_factory.mktemp('trained')
    for k in (0, 1): B.run_recipe(replace(TINY, name=f'seed{k}', seed=k, epochs=1), df, store, tune, out)
    return out

def test_tuning_table_reads_the_tuning_split_alone(trained, data):
    df,_,tune = data
    t = A.tuning_table(['seed0','seed1'], n_boot=50, out=trained)
    assert t.recipe.tolist()==['seed0','seed1'] and t.seed.tolist()==[0, 1] and set(t.base)=={'seed0'}
    assert (t.n==df.study[tune].nunique()).all()
    assert (t.lo<=t.auc).all() and (t.auc<=t.hi).all()
    tuned = pool_studies(P.load_predictions('seed1', 'tune', trained))
    assert t.accuracy[1]==pytest.approx(((tuned.prob>.5)==(tuned.label==1)).mean())
    assert (t.accuracy_lo<=t.accuracy).all() and (t.accuracy<=t.accuracy_hi).all()
    assert t['diff'][0]==0 and t['diff'][1]==pytest.approx(t.auc[1]-t.auc[0])
    assert t.parameters[0]==sum(p.numel() for p in N.SingleLogit(TINY.backbone).parameters())
    h = load_table('history_seed1', trained)
    assert (t.epochs[1], t.best[1])==(1, 1)
    assert t.minutes[1]==pytest.approx(h.seconds[0]/60) and t.images_per_s[1]==h.images_per_s[0]
    path = ModelFiles('seed1', trained).predictions
    kept = path.read_bytes()
    try:
        pred = P.load_predictions('seed1', out=trained)
        P.save_predictions(pred.assign(prob=pred.prob.where(pred.split!='valid', .5)), 'seed1', trained)
        pd.testing.assert_frame_equal(A.tuning_table(['seed0','seed1'], n_boot=50, out=trained), t)
    finally: path.write_bytes(kept)
    assert A.tuning_table(['seed0','seed1'], 'seed1', 50, trained)['diff'][0]==pytest.approx(-t['diff'][1])
    with pytest.raises(ValueError, match="base 'x': must be one of seed0, seed1"):
        A.tuning_table(['seed0','seed1'], 'x', out=trained)
    with pytest.raises(FileNotFoundError, match='no predictions of seed2'):
        A.tuning_table(['seed0','seed2'], out=trained)

def test_tables_beside_the_report(trained, tmp_path):
    assert '`make ablations`' in A.ablation_view('seeds', len, out=tmp_path).data
    assert A.ablation_view('seeds', len, quiet=True, out=tmp_path) is None
    assert np.isnan(A.seed_sd(tmp_path))
    save_table(A.tuning_table(['seed0','seed1'], n_boot=50, out=trained), 'seeds', tmp_path)
    t = load_table('seeds', tmp_path)
    assert A.seed_sd(tmp_path)==pytest.approx(abs(t.auc[1]-t.auc[0])/2**.5)
    view = A.ablation_view('seeds', lambda t: A.tuning_view(t, ['seed','batch'], 'Seeds.'), out=tmp_path)
    text = view._repr_markdown_()
    assert text.startswith('Seeds. ') and '| recipe | seed | batch | tuning AUC | less `seed0` |' in text
    with pytest.raises(ZeroDivisionError): A.ablation_view('seeds', lambda t: 1/0, out=tmp_path)
    ax = A.auc_figure(t, 'images_per_s', t.recipe, 'images a second', 'title').axes[0]
    assert {a.get_text() for a in ax.texts}=={'seed0','seed1'}

@pytest.mark.parametrize('accuracy', [False, True])
def test_sweep_has_a_line_for_each_network_and_rule(accuracy):
    rows = [(f'{net}{b}{rule}', net, b, 1e-4*(b/16)**power) for net in ('timm:a','timm:b') for b in (8, 16, 32)
            for rule,power in (('', 1), ('_sqrt', .5)) if power==1 or b!=16]
    t = pd.DataFrame(rows, columns=['recipe','backbone','batch','lr']).assign(auc=.8, lo=.7, hi=.9)
    if accuracy: t = t.assign(accuracy=.7, accuracy_lo=.6, accuracy_hi=.8)
    axes = A.batch_sweep_figure(t, 'title').axes
    words = ['tuning AUC, 95 % interval', 'tuning accuracy, 95 % interval']
    assert [ax.get_ylabel() for ax in axes]==words[:1+accuracy]
    for ax in axes: assert [len(c.lines[0].get_xdata()) for c in ax.containers]==[3]*4

def test_backbones_of_paper_start_from_equal_images(root, tmp_path, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setenv('MURA_NB_DATA', str(tmp_path))
    s = settings('paper')
    recipes = [s.recipe(n) for n in s.backbones]
    found = A.check_pretraining(recipes)
    assert set(found.values())=={'ImageNet-1k', 'ImageNet-21k, ImageNet-1k', 'none'}
    assert [n for n,words in found.items() if '21k' in words]==['efficientnet_v2_s_in21k']
    assert all(r.time_of==s.baseline or r.name==s.baseline or r.weights=='none' for r in recipes)
    with pytest.raises(ValueError, match='convnext_tiny.fb_in1k'):
        A.check_pretraining([*recipes, replace(recipes[0], backbone='timm:convnext_tiny', name='untagged')])

def test_equal_time_is_measured_once(tmp_path, monkeypatch):
    speeds,asked = {LITE:100., 'torchvision:resnet50':49.},[]
    monkeypatch.setattr(A, 'step_speed', lambda b, *a: asked.append(b) or speeds[b])
    monkeypatch.setattr(A, 'settings', lambda: settings('smoke'))
    names = ['lite0_smoke','resnet50_smoke_equal']
    for _ in range(2):
        assert [r.epochs for r in A.timed_recipes(names, out=tmp_path)]==[2, 1]
    assert asked==[LITE, 'torchvision:resnet50']
    assert load_table('backbone_speed', tmp_path).images_per_s.tolist()==[100, 49]
    save_table(load_table('backbone_speed', tmp_path)[:1], 'backbone_speed', tmp_path)
    A.timed_recipes(names, out=tmp_path)
    assert asked[2:]==['torchvision:resnet50'] # the one that is missing
    save_table(load_table('backbone_speed', tmp_path)[:1].assign(device='another'), 'backbone_speed', tmp_path)
    A.timed_recipes(names, out=tmp_path)
    assert asked[3:]==[LITE, 'torchvision:resnet50'] # speeds of another machine are not mixed with new ones
    save_table(pd.DataFrame(dict(recipe=names, images_per_s=[100., 70.])), 'backbone_speed', tmp_path)
    with pytest.raises(ValueError, match='resnet50_smoke_equal: 1 epochs take -29%'):
        A.timed_recipes(names, out=tmp_path)

def test_paired_metrics():
    n = 40
    names = dict(study=[f's{i:02}' for i in range(n)], patient=[f'p{i//2:02}' for i in range(n)])
    a = pd.DataFrame(dict(**names, study_type='HAND', label=np.arange(n)%2, prob=np.linspace(.1, .9, n)))
    same = A.paired_metrics(a, a, n_boot=20)
    assert (same['diff']==0).all() and (same.a==same.b).all()
    better = A.paired_metrics(a, a.assign(prob=.2 + .6*a.label), ('auc','accuracy'), 20).set_index('metric')
    assert better.index.tolist()==['AUC','accuracy']
    assert better.b.tolist()==[1, 1] and better['diff'].tolist()==pytest.approx((1-better.a).tolist())

def test_study_figure_shows_the_kept_probabilities(trained, data):
    _,store,_ = data
    pred = P.load_predictions('seed0', 'valid', trained)
    study = typical_study(pred)
    one = pred[pred.study==study].reset_index(drop=True)
    assert one.label.eq(1).all() and len(one)==2
    rest = pool_studies(pred[pred.label==1]).prob
    assert abs((rest<one.prob.mean()-1e-9).sum() - (rest>one.prob.mean()+1e-9).sum())<=1
    fig = B.study_figure(one, store, TINY, (1280, 1, 1), dict(half=.5, own=.3))
    words = {t.get_text() for ax in fig.axes for t in ax.texts}
    assert {fmt_num(p) for p in (*one.prob, one.prob.mean())}<=words and '1280 maps of 1 x 1' in words
    assert sum(len(ax.images) for ax in fig.axes)==4
    with pytest.raises(ValueError, match='no abnormal study with 3 to 4 views'): typical_study(pred, 3)

def test_overfitting_starts_at_the_best_epoch():
    h = pd.DataFrame(dict(train_loss=[.5, .4], tune_loss=[.6, .5]))
    assert A.overfitting(h)==dict(rise=0, fall=0, gap=pytest.approx(.1))

@pytest.mark.parametrize('precision', ['single','bfloat16'])
def test_step_speed(precision): assert A.step_speed(LITE, precision, 2, 32, 1)>0

def test_device_name(): assert 'bfloat16' in A.device_name() or default_device().type not in ('cpu','cuda')
