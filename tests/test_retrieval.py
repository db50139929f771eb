"Retrieval: files that cannot be trusted, ties, filters, an index, Milvus, several processes"
import os, subprocess, sys, warnings
from pathlib import Path
import h5py, numpy as np, pandas as pd, pytest
from mura_nb import retrieval as R
from mura_nb.core import STUDY_TYPES, settings

CARD = dict(recipe='none', backbone='made up', weights='abc', preprocessing='{}')


def made(n=60, width=8, seed=0, twins=True):
    "Codes and rows; every tenth code is that of the row before it"
    rng = np.random.default_rng(seed)
    codes = rng.random((n, width)).astype(np.float32)
    if twins: codes[9::10] = codes[8::10]
    rows = [dict(path=f'train/XR_{STUDY_TYPES[i%7]}/patient{i//3:05}/study1_{("negative", "positive")[i%2]}/image{i%3+1}.png', study_type=STUDY_TYPES[i%7], label=i%2, patient=f'patient{i//3:05}') for i in range(n)]
    df = pd.DataFrame(rows)
    return codes, df.assign(study=df.path.str.rsplit('/', n=1).str[0])


def database(path, codes, rows, precision='single'):
    R.add_rows(R.create_database(path, codes.shape[1], CARD, precision), codes, rows)
    return R.Database(path)


@pytest.fixture
def db(tmp_path): return database(tmp_path/'database.hdf5', *made())


def by_hand(codes, rows, q, k, keep=None, metric='l2'):
    "What a search should find"
    d = R.distances(q, codes, metric)
    t = rows.assign(distance=d, key=[R.tie_key(p) for p in rows.path])
    return (t if keep is None else t[keep]).sort_values(['distance','key'])[:k].path.tolist()


# files

@pytest.mark.parametrize('cut', (1, 100, 3000))
def test_truncated(db, cut):
    db.path.write_bytes(db.path.read_bytes()[:-cut])
    with pytest.raises(R.DatabaseError, match=f'{db.path.name}: not a whole HDF5 file'): R.Database(db.path)


def test_foreign(tmp_path):
    f = tmp_path/'x.hdf5'
    f.write_text('path,label\n')
    with pytest.raises(R.DatabaseError, match='x.hdf5: not a whole HDF5 file'): R.Database(f)
    with h5py.File(f, 'w') as h: h['codes'] = np.zeros((3, 2))
    with pytest.raises(R.DatabaseError, match='x.hdf5: not a database of codes'): R.Database(f)
    with pytest.raises(FileNotFoundError, match='no database of codes'): R.Database(tmp_path/'y.hdf5')


def test_other_format(db):
    with h5py.File(db.path, 'r+') as f: f.attrs['format'] = 99
    with pytest.raises(R.DatabaseError, match='database.hdf5: format 99'): R.Database(db.path)


def test_fewer_rows_than_it_says(db):
    with h5py.File(db.path, 'r+') as f: f['label'].resize(3, axis=0)
    with pytest.raises(R.DatabaseError, match='truncated, label'): R.Database(db.path)


def test_other_model(db):
    class Other: key, recipe = 'xyz', settings('smoke').recipe('lite0_smoke')
    with pytest.raises(R.DatabaseError, match='are of network abc'): R.Database(db.path, Other)
    with pytest.raises(R.DatabaseError, match='are of network abc'): R.add_rows(db.path, *made(2), 'xyz')
    assert len(R.Database(db.path))==60


def test_rows_that_do_not_fit(db):
    codes,rows = made(2)
    with pytest.raises(ValueError, match='of 8 numbers'): R.add_rows(db.path, codes[:,:5], rows)
    with pytest.raises(ValueError, match='unknown study type'): R.add_rows(db.path, codes, rows.assign(study_type='SKULL'))
    with pytest.raises(ValueError, match='not finite in float16'): R.add_rows(database(db.path.with_name('half.hdf5'), codes, rows, 'half').path, codes*1e6, rows)
    assert len(R.Database(db.path))==60


DIE = '''
import os, sys, h5py
sys.path.insert(0, {tests!r})
from mura_nb import retrieval as R
from test_retrieval import made
where = sys.argv[2]
class Dies(h5py.File):
    def flush(self):
        if where=='after': super().flush()
        os._exit(9)
real = h5py.File
R.h5py.File = lambda *a, **k: (Dies if len(a)>1 and a[1]=='r+' else real)(*a, **k)
R.add_rows(sys.argv[1], *made(5, seed=1))
'''

@pytest.mark.parametrize('where', ('before','after'))
def test_addition_killed(db, where):
    "The process dies before or after what it wrote is on disk: the rows are those of before, and can be added again"
    before = db.codes()
    r = subprocess.run([sys.executable, '-c', DIE.format(tests=str(Path(__file__).parent)), str(db.path), where], capture_output=True, text=True)
    assert r.returncode==9, r.stderr
    again = R.Database(db.path)
    assert len(again)==60 and (again.codes()==before).all() and again.rows().equals(db.rows())
    codes,rows = made(5, seed=2)
    assert R.add_rows(db.path, codes, rows)==65
    more = R.Database(db.path)
    assert (more.codes()[60:]==codes).all() and more.rows(slice(60, None)).path.tolist()==rows.path.tolist()


def test_reads_what_is_asked_for(db):
    codes,rows = made()
    assert (db.codes([7,3,3])==codes[[7,3,3]]).all() and db.codes([]).shape==(0, 8) and db.codes(slice(58, 99)).shape==(2, 8)
    assert db.rows([7,3]).to_numpy().tolist()==rows.loc[[7,3], ['path','study_type','label','patient','study']].to_numpy().tolist()
    R.add_rows(db.path, *made(1))
    assert len(db.codes())==60 # one that was opened before an addition stays as it was


def test_missing_labels(tmp_path):
    codes,rows = made(3)
    db = database(tmp_path/'x.hdf5', codes, rows.assign(label=pd.array([1, None, 0], 'Int8')))
    assert db.rows().label.tolist()==[1, pd.NA, 0] and R.search(codes[1], db).table.label.isna().sum()==1


# search

@pytest.mark.parametrize('metric', R.METRICS)
def test_exact_and_ties(db, metric):
    codes,rows = made()
    for i in (0, 8, 9, 30):
        t = R.search(codes[i], db, k=7, metric=metric).table
        assert t.path.tolist()==by_hand(codes, rows, codes[i], 7, metric=metric)
        assert t.columns.tolist()==['rank','path','study_type','label','patient','distance'] and t['rank'].tolist()==list(range(1, 8))
    assert R.search(codes[8], db, k=1).table.path[0]==min(rows.path[8:10], key=R.tie_key)


def test_order_of_rows_changes_nothing(tmp_path):
    codes,rows = made()
    codes[20:40] = codes[20] # twenty equal ones at the border of k
    found = set()
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(60)
        db = database(tmp_path/f'{seed}.hdf5', codes[order], rows.iloc[order])
        for index in ('exact','approximate'): found.add(tuple(R.search(codes[21], db, k=6, index=index).table.path))
    assert found=={tuple(by_hand(codes, rows, codes[21], 6))}


def test_filters(db):
    codes,rows = made()
    for kind in ('WRIST','XR_WRIST','xr_wrist'):
        t = R.search(codes[0], db, k=99, study_type=kind).table
        assert t.path.tolist()==by_hand(codes, rows, codes[0], 99, rows.study_type=='WRIST')
    t = R.search(codes[0], db, k=99, exclude_patient='patient00000').table
    assert t.path.tolist()==by_hand(codes, rows, codes[0], 99, rows.patient!='patient00000') and len(t)==57
    assert len(R.search(codes[0], db, k=99, exclude_patient='patient99999').table)==60
    both = R.search(codes[0], db, k=99, study_type='ELBOW', exclude_patient='patient00000').table
    assert set(both.study_type)=={'ELBOW'} and 'patient00000' not in set(both.patient)


def test_blocks_and_memory_agree(db):
    codes,rows = made()
    a = R.nearest_rows(codes[3], codes, 5, lambda at: rows.path[at])
    b = R.nearest_rows(codes[3], R.Blocks(db), 5, db.paths, block=7)
    assert (a[0]==b[0]).all() and (a[1]==b[1]).all()


def test_nothing_to_search(tmp_path):
    codes,rows = made(3)
    empty = R.Database(R.create_database(tmp_path/'x.hdf5', 8, CARD))
    with pytest.raises(R.NothingToSearch, match='empty'): R.search(codes[0], empty)
    db = database(tmp_path/'y.hdf5', codes, rows)
    with pytest.raises(R.NothingToSearch, match='study type WRIST'): R.search(codes[0], db, study_type='WRIST')
    with pytest.raises(R.NothingToSearch, match='any patient but patient00000'): R.search(codes[0], db, exclude_patient='patient00000')


@pytest.mark.parametrize('kw, error', [(dict(k=0), 'whole number'), (dict(k=2.5), 'whole number'), (dict(metric='l1'), 'must be one of'), (dict(study_type='SKULL'), 'unknown study type'), (dict(index='fast'), 'must be auto'), (dict(box=(0,0,1,1)), 'needs a picture')])
def test_what_is_not_allowed(db, kw, error):
    with pytest.raises(ValueError, match=error): R.search(np.zeros(8), db, **kw)


def test_queries_that_are_none(db, tmp_path):
    with pytest.raises(FileNotFoundError, match='no such picture'): R.search(tmp_path/'none.png', db)
    with pytest.raises(TypeError, match='must be an image file'): R.search(np.zeros((4, 4, 3)), db)
    with pytest.raises(ValueError, match='not finite'): R.search(np.full(8, np.nan), db)
    with pytest.raises(ValueError, match='a code of 5'): R.search(np.zeros(5), db)


def test_approximate(tmp_path):
    "Recall on a small set; filters; and the index counts what it takes"
    codes,rows = made(3000, 24, twins=False)
    db = database(tmp_path/'x.hdf5', codes, rows, 'half')
    asked = codes[::100]+.01
    truth = [R.search(q, db, index='exact').table.path.tolist() for q in asked]
    assert R.recall([R.search(q, db, index='approximate').table.path.tolist() for q in asked], truth) >= .95
    few = R.search(asked[0], db, index='approximate', study_type='HAND', exclude_patient=rows.patient[0]).table
    assert few.equals(R.search(asked[0], db, index='exact', study_type='HAND', exclude_patient=rows.patient[0]).table)
    keep = np.arange(3000)%4>0
    d,at = db.index().search(asked[0], 5, keep, candidates=20) # more rows than are searched exactly: the filter runs in the index
    assert keep[at].all() and set(at)==set(R.nearest_rows(asked[0], db.codes(), 5, db.paths, keep)[1])
    assert 24*3000 < db.index().bytes < 60*3000


def test_index_is_kept_until_the_database_changes(tmp_path, monkeypatch):
    codes,rows = made(400, twins=False)
    file = database(tmp_path/'x.hdf5', codes, rows).path
    built = []
    real = R.Approximate._build
    monkeypatch.setattr(R.Approximate, '_build', lambda self, *a: (built.append(1), real(self, *a)))
    for _ in range(2): a = R.search(codes[0], R.Database(file), index='approximate').table
    assert len(built)==1 and a.path[0]==rows.path[0]
    R.add_rows(file, codes[:1], rows[:1].assign(path='new', study='new'))
    b = R.search(codes[0], R.Database(file), index='approximate').table
    assert len(built)==2 and set(b.path[:2])=={'new', rows.path[0]} and len(list(tmp_path.glob('*.faiss')))==1


def test_made_codes():
    codes,rows = made(70)
    a = [np.concatenate([x for x,_ in R.made_codes(codes, rows.study_type, 100, seed, 16)]) for seed in (0, 0, 1)]
    assert (a[0]==a[1]).all() and not (a[0]==a[2]).all() and a[0].min()>=0
    with pytest.raises(ValueError, match='fewer than three'): next(R.made_codes(codes[:8], rows.study_type[:8], 5))


# Milvus

@pytest.fixture(scope='module')
def milvus(tmp_path_factory):
    pytest.importorskip('milvus_lite')
    d = tmp_path_factory.mktemp('milvus')
    codes,rows = made()
    db = database(d/'x.hdf5', codes, rows)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        out = [R.MilvusDatabase(d/'codes.db', name=m, metric=m).fill(db) for m in R.METRICS]
    yield db, dict(zip(R.METRICS, out))
    for m in out: m.close()


@pytest.mark.parametrize('metric', R.METRICS)
def test_milvus_finds_the_same(milvus, metric):
    db,there = milvus
    codes,_ = made()
    for i in (0, 8, 30):
        for kw in ({}, dict(k=99), dict(study_type='XR_HAND'), dict(exclude_patient='patient00000'), dict(study_type='WRIST', exclude_patient='patient00002', k=3)):
            a,b = (R.search(codes[i], d, metric=metric, **kw).table for d in (db, there[metric]))
            assert a.path.tolist()==b.path.tolist() and a.label.tolist()==b.label.tolist()
            np.testing.assert_allclose(a.distance, b.distance, atol=1e-5)


def test_milvus_filled_twice(milvus):
    db,there = milvus
    assert len(there['l2'].fill(db))==len(db)==60 and there['l2'].card==dict(recipe='none', weights='abc')
    with pytest.raises(R.DatabaseError, match='are of network abc'):
        db.card['weights'] = 'xyz'
        try: there['l2'].fill(db)
        finally: db.card['weights'] = 'abc'


def test_milvus_errors(milvus, monkeypatch):
    _,there = milvus
    with pytest.raises(R.NothingToSearch): R.search(np.ones(8), R.MilvusDatabase(there['l2'].where, name='other'))
    with pytest.raises(ValueError, match='indexed for cosine'): R.search(np.ones(8), there['cosine'])
    with pytest.raises(ValueError, match='has its index already'): R.search(np.ones(8), there['l2'], index='exact')
    monkeypatch.setattr(R.importlib.util, 'find_spec', lambda n: None)
    with pytest.raises(ImportError, match=r'pip install "mura_nb\[milvus\]"'): R.MilvusDatabase('x.db')


# encoding

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Settings, a small made-up dataset and an untrained network"
    from test_distributed import RECIPES
    from test_baselines import made_up
    from mura_nb.baselines import SingleLogit
    from mura_nb.core import save_model
    d = tmp_path_factory.mktemp('encoding')
    (d/'settings.ini').write_text((Path(__file__).parents[1]/'settings.ini').read_text() + RECIPES)
    made_up(d/'made_up', 28)
    import torch
    torch.manual_seed(0)
    r = settings('smoke', d/'settings.ini').recipe('plain')
    save_model(SingleLogit(r.backbone), dict(architecture='single_logit', recipe=r.card()), d/'results'/'smoke-made_up'/'models'/'plain')
    return d


@pytest.fixture
def images(place, monkeypatch):
    for k,v in env(place).items(): monkeypatch.setenv(k, v)
    monkeypatch.chdir(place)
    from mura_nb.data import load_data
    df,store,_ = load_data()
    return df[df.split=='train'].reset_index(drop=True), store, R.load_encoder('plain')


def env(place): return dict(MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(place/'made_up'), OMP_NUM_THREADS='1', ACCELERATE_USE_CPU='true')


def test_two_processes(place, images, tmp_path):
    df,store,encoder = images
    one = R.encode(df, store, encoder, tmp_path/'one.hdf5', batch_size=8)
    tool = Path(__file__).parents[1]/'tools'/'encode.py'
    cmd = f'{sys.executable} -m accelerate.commands.launch --multi_gpu --main_process_port 0 --num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no {tool} --processes 2 --recipe plain --batch-size 8 --out {tmp_path/"two.hdf5"}'
    r = subprocess.run(cmd.split(), cwd=place, env={**os.environ, **env(place)}, capture_output=True, text=True, timeout=200)
    assert r.returncode==0, r.stderr[-3000:]
    assert r.stdout.splitlines()[0]=='processes: 2'
    two = R.Database(tmp_path/'two.hdf5')
    assert two.rows().equals(one.rows()) and two.card==one.card
    np.testing.assert_allclose(two.codes(), one.codes(), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir())==['one.hdf5','two.hdf5']


def test_interrupted_run_goes_on(images, tmp_path, monkeypatch):
    df,store,encoder = images
    whole = R.encode(df, store, encoder, tmp_path/'whole.hdf5', batch_size=8)
    asked = []
    real = R.Encoder._codes
    def stops(self, x):
        asked.append(len(x))
        if len(asked)==3: raise KeyboardInterrupt
        return real(self, x)
    monkeypatch.setattr(R.Encoder, '_codes', stops)
    with pytest.raises(KeyboardInterrupt): R.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8)
    assert not (tmp_path/'part.hdf5').exists()
    part = R.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8)
    assert sum(asked[3:])==len(df)-16 # two batches were kept
    assert part.card==whole.card and (part.codes()==whole.codes()).all() and part.rows().equals(whole.rows())
    asked.clear()
    assert len(R.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8))==len(df) and not asked # nothing to do


def test_image_queries(images, tmp_path):
    df,store,encoder = images
    db = R.Database(R.encode(df, store, encoder, tmp_path/'x.hdf5').path, encoder, store.root)
    for q in (store.root/df.path[4], store[df.path[4]]):
        found = R.search(q, db, k=3)
        assert found.table.path[0]==df.path[4] and found.table.distance[0]<1e-4
        assert found._repr_png_().startswith(b'\x89PNG') and found._repr_markdown_() is None
    assert R.search(store[df.path[4]], db, box=(5, 5, 40, 30)).box==(5, 5, 40, 30)
    with pytest.raises(ValueError, match='four numbers'): R.search(store[df.path[4]], db, box=(5, 5, 4, 30))
    (tmp_path/'bad.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='cannot be read'): R.search(tmp_path/'bad.png', db)
