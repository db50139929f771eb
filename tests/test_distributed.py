"Two processes train as one: the same losses, one set of results"
import os, pickle, subprocess, sys
from dataclasses import replace
from pathlib import Path
import numpy as np, pytest, torch
from typer.testing import CliRunner
from fastai.callback.core import Callback
from fastai.data.core import TfmdDL
from mura_nb import baselines as B
from mura_nb.settings import settings
from mura_nb.results import ModelFiles, load_card, load_table
from mura_nb.data import load_data, patient_split
from mura_nb.distributed import ShardDL, share_batch
from mura_nb.predictions import load_predictions
from mura_nb.programs import cli
from test_baselines import made_up

torch.set_num_threads(1)
RECIPES = '''
[recipe plain]
like = lite0_smoke
backbone = timm:convnext_atto
weights = none

[recipe resumed]
like = plain

[recipe normed]
like = lite0_smoke
backbone = timm:test_efficientnet
weights = none
'''

class Stop(Callback):
    "Ctrl-C in the second epoch"
    def after_batch(self):
        if len(self.history): raise KeyboardInterrupt

def launch(cwd, env, *args):
    "mura-nb train in two processes on the processor"
    cmd = '''-m accelerate.commands.launch --multi_gpu --main_process_port 0 --num_processes 2 --num_machines 1
        --mixed_precision no --dynamo_backend no -m mura_nb.programs train'''.split()
    return subprocess.run([sys.executable, *cmd, *args], cwd=cwd, env={**os.environ, **env}, capture_output=True,
        text=True, timeout=300)

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "A folder with settings and a small made-up dataset"
    d = tmp_path_factory.mktemp('distributed')
    text = (Path(__file__).parents[1]/'settings.ini').read_text()
    (d/'settings.ini').write_text(text + RECIPES)
    made_up(d/'made_up', 56)
    return d

def losses(name, out): return load_table(f'history_{name}', out)[['train_loss','tune_loss']].to_numpy()

def test_a_shard_reaches_its_workers(): # which are sent it where processes are not forked
    shard = ShardDL(TfmdDL(list(range(11)), bs=2, num_workers=0), rank=1, world_size=2)
    assert [b.tolist() for b in pickle.loads(pickle.dumps(shard))]==[[1, 3], [5, 7], [9]]

def test_two_processes(place, monkeypatch):
    env = dict(MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(place/'made_up'), OMP_NUM_THREADS='1',
        ACCELERATE_USE_CPU='true')
    for k,v in env.items(): monkeypatch.setenv(k, v)
    monkeypatch.chdir(place)
    s,one = settings(),place/'one'
    df,store,_ = load_data()
    tune = patient_split(df, s.tune_frac, s.seed)
    with pytest.raises(KeyboardInterrupt): # two processes go on with it
        B.fit(s.recipe('resumed'), df, store, tune, cbs=[Stop()])
    r = launch(place, env, '--processes', '2', 'plain', 'resumed', 'normed')
    assert r.returncode==0, r.stderr[-4000:]
    assert r.stdout.splitlines()[0]=='processes: 2'
    B.run_recipe(s.recipe('plain'), df, store, tune, one)

    # without batch norm there is no difference but rounding
    assert losses('plain', s.results)==pytest.approx(losses('plain', one), rel=1e-4)
    assert losses('resumed', s.results)==pytest.approx(losses('plain', one), rel=1e-4)
    many,alone = (load_predictions('plain', out=o) for o in (s.results, one))
    assert many.path.tolist()==alone.path.tolist()
    assert many.logit.to_numpy()==pytest.approx(alone.logit.to_numpy(), abs=1e-3)

    # with it, each process normalises by its own images: no further away than seeds are from each other
    normed,two = s.recipe('normed'),load_card(ModelFiles('normed').model)
    seeds = [B.run_recipe(replace(normed, name=f'seed{k}', seed=k), df, store, tune, one) for k in range(4)]
    for metric in (lambda c: c['metrics']['tune_loss'], lambda c: c['metrics']['valid']['auc']):
        v = [metric(c) for c in seeds]
        assert abs(metric(two) - np.mean(v)) <= 3*np.std(v, ddof=1)

    # one set of files, no checkpoint left, and a finished recipe is not trained again
    names = sorted(str(p.relative_to(s.results)) for p in s.results.rglob('*') if p.is_file())
    kept = ('models/','.json'), ('models/','.safetensors'), ('predictions/','.csv'), ('tables/history_','.csv')
    assert names==sorted(f'{k}{n}{e}' for n in ('plain','resumed','normed') for k,e in kept)
    assert B.run_recipe(normed, df, store, tune)==two

def test_fewer_processes_than_asked_for():
    r = CliRunner().invoke(cli, ['train', '--processes', '2', 'lite0_smoke'], env=dict(COLUMNS='200'))
    assert r.exit_code==2 and '2 processes were asked for, 1 started' in r.stderr

def test_batches_that_cannot_be_shared(place, monkeypatch):
    monkeypatch.chdir(place)
    recipe = settings('smoke').recipe('plain')
    assert share_batch(recipe, 10)==recipe
    monkeypatch.setenv('WORLD_SIZE', '2')
    assert share_batch(recipe, 100).batch_size==recipe.batch_size//2
    with pytest.raises(ValueError, match='cannot share'): share_batch(recipe, 10)
