"Retrieval: files that cannot be trusted, ties, filters, an index, Milvus, several processes"
import os, subprocess, sys, time, warnings
from pathlib import Path
import h5py, numpy as np, pandas as pd, pytest
from mura_nb import codes as C, database as D, large as L, retrieval as R, similarity as S
from mura_nb.core import STUDY_TYPES, time_calls
from mura_nb.settings import settings

CARD = dict(recipe='none', backbone='made up', weights='abc', preprocessing='{}')


def made(n=60, width=8, seed=0, twins=True, split='train'):
    "Codes and rows; every tenth code is that of the row before it"
    rng = np.random.default_rng(seed)
    codes = rng.random((n, width)).astype(np.float32)
    if twins: codes[9::10] = codes[8::10]
    def path(i):
        sign = ('negative','positive')[i%2]
        return f'{split}/XR_{STUDY_TYPES[i%7]}/patient{i//3:05}/study1_{sign}/image{i%3+1}.png'
    df = pd.DataFrame([dict(path=path(i), study_type=STUDY_TYPES[i%7], label=i%2, patient=f'patient{i//3:05}')
                       for i in range(n)])
    return codes, df.assign(study=df.path.str.rsplit('/', n=1).str[0])


def database(path, codes, rows, precision='single'):
    D.add_rows(D.create_database(path, codes.shape[1], CARD, precision), codes, rows)
    return D.Database(path)


@pytest.fixture
def db(tmp_path): return database(tmp_path/'database.hdf5', *made())


def by_hand(codes, rows, q, k, keep=None, metric='l2'):
    "What a search should find"
    d = D.distances(q, codes, metric)
    t = rows.assign(distance=d, key=[D.tie_key(p) for p in rows.path])
    return (t if keep is None else t[keep]).sort_values(['distance','key'])[:k].path.tolist()


# files

@pytest.mark.parametrize('cut', (1, 100, 3000))
def test_truncated(db, cut):
    db.path.write_bytes(db.path.read_bytes()[:-cut])
    with pytest.raises(D.DatabaseError, match=f'{db.path.name}: not a whole HDF5 file'): D.Database(db.path)


def test_foreign(tmp_path):
    f = tmp_path/'x.hdf5'
    f.write_text('path,label\n')
    with pytest.raises(D.DatabaseError, match='x.hdf5: not a whole HDF5 file'): D.Database(f)
    D.create_database(f, 8, CARD)
    with h5py.File(f, 'r+') as h: h.attrs['rows'] = -1
    with pytest.raises(D.DatabaseError, match='x.hdf5: not a database of codes, it has -1 rows'): D.Database(f)
    with h5py.File(f, 'w') as h: h['codes'] = np.zeros((3, 2))
    with pytest.raises(D.DatabaseError, match='x.hdf5: not a database of codes'): D.Database(f)
    with pytest.raises(FileNotFoundError, match='no database of codes'): D.Database(tmp_path/'y.hdf5')


def test_other_format(db):
    with h5py.File(db.path, 'r+') as f: f.attrs['format'] = 99
    with pytest.raises(D.DatabaseError, match='database.hdf5: format 99'): D.Database(db.path)


def test_fewer_rows_than_it_says(db):
    with h5py.File(db.path, 'r+') as f: f['label'].resize(3, axis=0)
    with pytest.raises(D.DatabaseError, match='truncated, label'): D.Database(db.path)


def test_other_model(db):
    class Other: key, recipe = 'xyz', settings('smoke').recipe('lite0_smoke')
    with pytest.raises(D.DatabaseError, match='are of network abc'): D.Database(db.path, Other)
    with pytest.raises(D.DatabaseError, match='are of network abc'): D.add_rows(db.path, *made(2), 'xyz')
    assert len(D.Database(db.path))==60


def test_rows_that_do_not_fit(db):
    codes,rows = made(2)
    with pytest.raises(ValueError, match='of 8 numbers'): D.add_rows(db.path, codes[:,:5], rows)
    with pytest.raises(ValueError, match='unknown study type'):
        D.add_rows(db.path, codes, rows.assign(study_type='SKULL'))
    with pytest.raises(ValueError, match='not finite in float16'):
        D.add_rows(database(db.path.with_name('half.hdf5'), codes, rows, 'half').path, codes*1e6, rows)
    assert len(D.Database(db.path))==60


ADD = """
import sys
sys.path.insert(0, {tests!r})
from mura_nb import database as D
from test_retrieval import made
new = made(30_000, 256, 1, split='valid')
print('now', flush=True)
D.add_rows(sys.argv[1], *new)
"""

@pytest.mark.parametrize('share', (0, .1, .5, .9))
def test_addition_killed(tmp_path, share):
    "The process dies while it copies or writes: the rows are those of before, to the byte, and can be added again"
    db = database(tmp_path/'x.hdf5', *made(1000, 256))
    before = db.path.read_bytes()
    adding = ADD.format(tests=str(Path(__file__).parent))
    p = subprocess.Popen([sys.executable, '-c', adding, str(db.path)], stdout=subprocess.PIPE)
    def copied(): return any(f.stat().st_size >= len(before) + share*30_000*256*4 for f in tmp_path.glob('.x-*'))
    try:
        p.stdout.readline()
        while p.poll() is None and not copied(): time.sleep(.001)
        assert p.poll() is None, 'was done before it could be killed'
    finally:
        p.kill()
        p.wait()
    assert db.path.read_bytes()==before and D.Database(db.path).rows().equals(db.rows())
    codes,rows = made(1100, 256, 2, split='valid')
    assert D.add_rows(db.path, codes, rows)==2100
    more = D.Database(db.path)
    assert (more.codes()[1000:]==codes).all() and more.rows(slice(1000, None)).path.tolist()==rows.path.tolist()


def test_added_once(db):
    codes,rows = made(3, split='valid')
    with pytest.raises(ValueError, match='image1.png is there already'): D.add_rows(db.path, *made(1))
    with pytest.raises(ValueError, match='is there already'): D.add_rows(db.path, codes, rows.assign(path='twice'))
    for kw,words in ((dict(label=2), 'label 2: must be 0, 1 or missing'),
                     (dict(patient=None), 'patient of row 0 is missing')):
        with pytest.raises(ValueError, match=words): D.add_rows(db.path, codes, rows.assign(**kw))
    assert len(D.Database(db.path))==60


def test_in_use(db):
    "A file that somebody writes; one that has grown meanwhile; one that changes while rows are added"
    new = made(3, split='valid')
    hold = f"import h5py; f = h5py.File({str(db.path)!r}, 'r+'); print('now', flush=True); input()"
    with subprocess.Popen([sys.executable, '-c', hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdout.readline()
        for f in (lambda: D.Database(db.path), lambda: db.codes(), lambda: D.add_rows(db.path, *new),
                  lambda: D._go_on(db.path, 8, CARD, 'single')):
            with pytest.raises(D.InUse, match='another process is writing it'): f()
        p.communicate(b'done\n')
    with pytest.raises(D.InUse, match='has 60 rows where this process wrote 50'):
        D.append_in_place(db.path, *new, at=50)
    with pytest.raises(D.InUse, match='has changed it meanwhile'):
        with D._copied(db.path): D.add_rows(db.path, *new)
    assert len(D.Database(db.path))==63


@pytest.mark.parametrize('at', ([7,3,3], [], [-1], np.arange(60)%3==0, slice(50, 99), slice(None, None, 7),
                                slice(None, None, -1), slice(9, 3)))
def test_places(db, at):
    codes,rows = made()
    assert (db.codes(at)==codes[at if len(np.atleast_1d(at)) else slice(0)]).all()
    assert db.rows(at).path.tolist()==np.array(rows.path)[at if len(np.atleast_1d(at)) else slice(0)].tolist()


@pytest.mark.parametrize('at', ([60], [-61], [.5], [True]))
def test_places_that_are_none(db, at):
    with pytest.raises(IndexError): db.codes(at)


def test_reads_what_is_asked_for(db):
    codes,rows = made()
    assert (db.codes([7,3,3])==codes[[7,3,3]]).all()
    assert db.codes([]).shape==(0, 8) and db.codes(slice(58, 99)).shape==(2, 8)
    some = rows.loc[[7,3], ['path','study_type','label','patient','study']]
    assert db.rows([7,3]).to_numpy().tolist()==some.to_numpy().tolist()
    D.add_rows(db.path, *made(1, split='valid'))
    assert len(db.codes())==61 # an open database follows its file


def test_missing_labels(tmp_path):
    codes,rows = made(3)
    db = database(tmp_path/'x.hdf5', codes, rows.assign(label=pd.array([1, None, 0], 'Int8')))
    assert db.rows().label.tolist()==[1, pd.NA, 0] and R.search(codes[1], db).table.label.isna().sum()==1


# search

@pytest.mark.parametrize('metric', D.DISTANCES)
def test_exact_and_ties(db, metric):
    codes,rows = made()
    for i in (0, 8, 9, 30):
        t = R.search(codes[i], db, k=7, metric=metric).table
        assert t.path.tolist()==by_hand(codes, rows, codes[i], 7, metric=metric)
        assert t.columns.tolist()==['rank','path','study_type','label','patient','distance']
        assert t['rank'].tolist()==list(range(1, 8))
    assert R.search(codes[8], db, k=1).table.path[0]==min(rows.path[8:10], key=D.tie_key)


@pytest.mark.parametrize('metric', D.DISTANCES)
@pytest.mark.parametrize('scale', (1e-30, 1e-20, 1e-12, 1e-5, 1e10, 1e18, 1e30))
def test_scale(metric, scale):
    codes,rows = made()
    codes = codes*np.float32(scale)
    at = D.nearest_rows(codes[3], codes, 5, lambda at: rows.path.to_numpy()[at], metric=metric)[1]
    assert rows.path[at].tolist()==by_hand(codes, rows, codes[3], 5, metric=metric)


def test_one_long_code_costs_nothing(monkeypatch):
    "The margin is each row's own: a code far away does not widen that of others"
    x = np.abs(np.random.default_rng(0).normal(size=(20_000, 512))).astype(np.float32)
    x[7] *= 300
    seen,real = [],D.exact_order
    monkeypatch.setattr(D, 'exact_order', lambda code, codes, at, *a: seen.append(len(at)) or real(code, codes, at, *a))
    D.nearest_rows(x[3]+.1, x, 5, lambda at: [str(i) for i in at])
    assert seen[0]<20


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
    a = D.nearest_rows(codes[3], codes, 5, lambda at: rows.path[at])
    b = D.nearest_rows(codes[3], D.Blocks(db, 7), 5, db.paths)
    assert (a[0]==b[0]).all() and (a[1]==b[1]).all()


def test_nothing_to_search(tmp_path):
    codes,rows = made(3)
    empty = D.Database(D.create_database(tmp_path/'x.hdf5', 8, CARD))
    with pytest.raises(D.NothingToSearch, match='empty'): R.search(codes[0], empty)
    db = database(tmp_path/'y.hdf5', codes, rows)
    with pytest.raises(D.NothingToSearch, match='study type WRIST'): R.search(codes[0], db, study_type='WRIST')
    with pytest.raises(D.NothingToSearch, match='any patient but patient00000'):
        R.search(codes[0], db, exclude_patient='patient00000')


@pytest.mark.parametrize('kw, error', [
    *((dict(k=k), 'whole number') for k in (0, 2.5, None, np.inf, np.nan, '5', True)),
    (dict(exclude_patient=''), 'must name a patient'), (dict(metric='l1'), 'must be one of'),
    (dict(study_type='SKULL'), 'unknown study type'), (dict(index='fast'), 'must be auto'),
    (dict(box=(0,0,1,1)), 'needs a picture'), (dict(per='patient'), 'must be one of study, image'),
    (dict(code='best'), 'offers plain')])
def test_what_is_not_allowed(db, kw, error):
    with pytest.raises(ValueError, match=error): R.search(np.zeros(8), db, **kw)


def test_queries_that_are_none(db, tmp_path):
    with pytest.raises(FileNotFoundError, match='no such picture'): R.search(tmp_path/'none.png', db)
    with pytest.raises(TypeError, match='must be an image file'): R.search(np.zeros((4, 4, 3)), db)
    for value in (np.nan, 1e200):
        with pytest.raises(ValueError, match='not finite in float32'): R.search(np.full(8, value), db)
    for f in (D.distances, lambda *a: D.nearest_rows(*a[:2], 3, None, metric=a[2]),
              lambda q, x, m: R.find_neighbours([q], x, range(60), metric=m)):
        with pytest.raises(ValueError, match='must be one of'): f(np.zeros(8), db.codes(), 'l1')
    with pytest.raises(ValueError, match='a code of 5'): R.search(np.zeros(5), db)


def test_approximate(tmp_path):
    "Recall on a small set; filters; and the index counts what it takes"
    codes,rows = made(3000, 24, twins=False)
    db = database(tmp_path/'x.hdf5', codes, rows, 'half')
    asked = codes[::100]+.01
    truth = [R.search(q, db, index='exact').table.path.tolist() for q in asked]
    assert L.recall([R.search(q, db, index='approximate').table.path.tolist() for q in asked], truth) >= .95
    few = R.search(asked[0], db, index='approximate', study_type='HAND', exclude_patient=rows.patient[0]).table
    assert few.equals(R.search(asked[0], db, index='exact', study_type='HAND', exclude_patient=rows.patient[0]).table)
    keep = np.arange(3000)%4>0
    # more rows than are searched exactly: the filter runs in the index
    _,at = db.index().search(asked[0], 5, keep, candidates=20)
    assert keep[at].all() and set(at)==set(D.nearest_rows(asked[0], db.codes(), 5, db.paths, keep)[1])
    assert 24*3000 < db.index().nbytes < 60*3000


def test_approximate_finds_as_many_as_asked_for(tmp_path):
    "The lists next to the query hold none of the wrists"
    rng,n = np.random.default_rng(0),16_000
    codes = np.abs(rng.normal(size=(n, 16))).astype(np.float32)
    rows = made(n)[1].assign(study_type=np.where(np.arange(n)<n//2, 'HAND', 'WRIST'))
    codes[n//2:] += 20
    db = database(tmp_path/'x.hdf5', codes, rows)
    for k in (5, 3000):
        for kind in (None, 'HAND', 'WRIST'):
            assert len(R.search(codes[0], db, k=k, study_type=kind, index='approximate').table)==k
    with pytest.raises(ValueError, match='needs two at least'): L.Approximate(codes[:1], None)


def test_approximate_ties(tmp_path):
    "Four hundred twins, more than there are candidates, in either order"
    codes,rows = made(4000, 16, twins=False)
    codes[1000:1400] = codes[1000]
    every = np.arange(4000)
    found = [R.search(codes[1000], database(tmp_path/f'{i}.hdf5', codes[o], rows.iloc[o]), index=i).table.path.tolist()
             for o,i in ((every, 'exact'), (every, 'approximate'), (every[::-1], 'approximate'))]
    assert found[0]==found[1]==found[2]


def test_index_is_kept_until_the_database_changes(tmp_path, monkeypatch):
    codes,rows = made(400, twins=False)
    file = database(tmp_path/'x.hdf5', codes, rows).path
    built = []
    real = L.Approximate._build
    monkeypatch.setattr(L.Approximate, '_build', lambda self, *a: (built.append(1), real(self, *a)))
    for _ in range(2): a = R.search(codes[0], D.Database(file), index='approximate').table
    assert len(built)==1 and a.path[0]==rows.path[0]
    D.add_rows(file, codes[:1], rows[:1].assign(path='new', study='new'))
    b = R.search(codes[0], D.Database(file), index='approximate').table
    assert len(built)==2 and set(b.path[:2])=={'new', rows.path[0]} and len(list(tmp_path.glob('*.faiss')))==1


def test_made_codes():
    codes,rows = made(70)
    a = [np.concatenate([x for x,_ in L.made_codes(codes, rows.study_type, 100, seed, 16)]) for seed in (0, 0, 1)]
    assert (a[0]==a[1]).all() and not (a[0]==a[2]).all() and a[0].min()>=0
    with pytest.raises(ValueError, match='fewer than three'): next(L.made_codes(codes[:8], rows.study_type[:8], 5))


def test_labels_that_are_missing():
    "A query without a label does not ask; a database with rows of no label is refused, as are too few places"
    codes,rows = made(80)
    rows = rows.assign(label=rows.label.astype('Int8'))
    q,base = rows[:20],rows[20:].reset_index(drop=True)
    def find(q, groups=None): return R.find_neighbours(codes[q.index], codes[20:], base.path, groups=groups)
    def found(q): return dict(whole=find(q), within=find(q, (q.study_type, base.study_type)))
    some = q.assign(label=q.label.where(q.index<15))
    known = R.measure_retrieval(found(q[:15]), q[:15], base, n_boot=9)
    assert R.measure_retrieval(found(some), some, base, n_boot=9).equals(known)
    with pytest.raises(ValueError, match='have no label'):
        R.measure_retrieval(found(q), q, base.assign(label=base.label.where(base.index>3)), n_boot=9)
    with pytest.raises(ValueError, match='precision at 10 needs as many'):
        R.measure_retrieval({k:v[:,:5] for k,v in found(q).items()}, q, base)
    lacking = rows.assign(label=rows.label.where(rows.index%9>0))
    kept = lacking.dropna(subset='label').index.to_numpy()
    a,b = (S.compare_codes(dict(plain=codes), d, at[at<20], at[at>=20], n_boot=9)
           for d,at in ((lacking, np.arange(80)), (rows, kept)))
    assert a.equals(b)


def test_fits_that_cannot_be():
    import torch
    codes,_ = made(40)
    torch.manual_seed(1)
    a = torch.rand(1)
    torch.manual_seed(1)
    S.fit_head(codes[None], np.arange(40)%2, dims=2, epochs=1)
    assert torch.rand(1)==a # the caller's draws are untouched
    with pytest.raises(ValueError, match='two codes at least'): S.fit_whitening(codes[:1])
    for x,y in ((codes, np.zeros(40)), (codes[None], np.zeros(3)), (codes[None], np.arange(40)), (codes[None,:1], [0])):
        with pytest.raises(ValueError, match='two images of one class'): S.fit_head(x, y)


# what fills a place

def views(n=90, width=8):
    "Thirty studies of three images, near each other"
    codes,rows = made(n, width, twins=False)
    codes += 3*np.repeat(np.random.default_rng(1).random((n//3, width)), 3, 0).astype(np.float32)
    def study(i): return f'train/XR_{STUDY_TYPES[i//3%7]}/patient{i//3:05}/study1_positive'
    rows = rows.assign(study=[study(i) for i in range(n)], study_type=[STUDY_TYPES[i//3%7] for i in range(n)])
    return codes, rows.assign(path=[f'{s}/image{i%3+1}.png' for i,s in enumerate(rows.study)])


@pytest.mark.parametrize('metric', D.DISTANCES)
@pytest.mark.parametrize('index', ('exact','approximate'))
def test_a_study_fills_one_place(tmp_path, metric, index):
    "The nearest image of each study, in the order of all images by distance; as many studies as there are"
    codes,rows = views()
    db = database(tmp_path/'x.hdf5', codes, rows)
    study = rows.set_index('path').study
    for i in (0, 31, 89):
        every = pd.Series(by_hand(codes, rows, codes[i], 90, metric=metric))
        nearest = every[~every.map(study).duplicated()].tolist()
        for k in (1, 5, 30, 99):
            assert R.search(codes[i], db, k=k, metric=metric, index=index).table.path.tolist()==nearest[:k]
            found = R.search(codes[i], db, k=k, metric=metric, index=index, per='image').table
            assert found.path.tolist()==every[:k].tolist()
    kw = dict(study_type='HAND', exclude_patient=rows.patient[0])
    t = R.search(codes[0], db, k=9, metric=metric, index=index, **kw).table
    assert set(t.study_type)=={'HAND'} and len(t)==len(set(t.path.map(study)))


def test_many_queries_fill_places_with_studies():
    codes,rows = views()
    for groups in (None, (rows.study_type, rows.study_type)):
        at = R.find_neighbours(codes, codes, rows.path, 4, groups, studies=rows.study)
        every = R.find_neighbours(codes, codes, rows.path, 90, groups)
        for some,all_ in zip(at, every):
            all_ = all_[all_>=0]
            first = all_[~rows.study.iloc[all_].duplicated().to_numpy()][:4]
            assert some[some>=0].tolist()==first.tolist()


def test_milvus_fills_places_with_studies(tmp_path):
    pytest.importorskip('milvus_lite')
    codes,rows = views()
    db = database(tmp_path/'x.hdf5', codes, rows)
    there = L.MilvusDatabase(tmp_path/'codes.db').fill(db)
    for kw in ({}, dict(per='image'), dict(k=30), dict(study_type='HAND')):
        a,b = (R.search(codes[4], d, **kw).table.path.tolist() for d in (db, there))
        assert a==b
    there.close()


def test_a_filter_is_no_slower_with_the_index(tmp_path):
    "Median of paired runs: the index asked for with a filter, beside the exact search"
    codes,rows = made(6000, 256, twins=False)
    rows = rows.sort_values('study_type', kind='stable')
    db = database(tmp_path/'x.hdf5', codes[rows.index], rows.reset_index(drop=True))
    def find(index): return lambda q: db.nearest(q, 5, 'HAND', index=index)
    took = time_calls({i:find(i) for i in ('exact','approximate')}, codes[:60], warmup=3)
    assert (took.approximate/took.exact).median() < 1.2
    for q in codes[:5]: assert find('exact')(q).path.tolist()==find('approximate')(q).path.tolist()


def test_a_filter_reads_what_it_leaves():
    "Rows of a type that lie together are read, and no others"
    codes,_ = made(7000, 4, twins=False)
    read = []
    class Rows:
        block = 1000
        def __len__(self): return len(codes)
        def __getitem__(self, at):
            if isinstance(at, slice): read.append(at.stop-at.start)
            return codes[at]
    keep = (np.arange(7000)>=2500) & (np.arange(7000)<3200)
    _,at = D.nearest_rows(codes[0], Rows(), 5, lambda at: [str(i) for i in at], keep)
    assert sum(read)==700 and keep[at].all()


def test_filter_inside_the_index():
    "Where a filter leaves few rows in each list, more lists are looked through"
    codes,_ = made(20_000, 16, twins=False)
    keep = np.random.default_rng(0).random(20_000)<.1
    index = L.Approximate(codes, lambda at: [f'{i:05}' for i in at])
    found = [index.search(q, 5, keep, probes=8)[1] for q in codes[:40]]
    truth = [D.nearest_rows(q, codes, 5, lambda at: [f'{i:05}' for i in at], keep)[1] for q in codes[:40]]
    assert all(keep[at].all() for at in found) and L.recall(found, truth) >= .95


# codes by name

def test_other_codes_of_a_database(db, tmp_path):
    codes,_ = made()
    assert R.search(codes[3], db, code='plain').table.equals(R.search(codes[3], db).table)
    with pytest.raises(ValueError, match='offers plain; 08a_similarity makes others'):
        R.search(codes[3], db, code='cosine')
    angle = C.CodeMap(C.Projection(np.zeros(8), np.ones(8), unit=True))
    C.save_code_maps(dict(cosine=angle), 'abc', tmp_path)
    db = D.Database(db.path)
    for index in ('exact','approximate'):
        a = R.search(codes[3], db, code='cosine', index=index).table
        b = R.search(codes[3], db, metric='cosine').table
        assert a.path.tolist()==b.path.tolist()
    np.testing.assert_allclose(a.distance**2, 2*b.distance, atol=1e-5)
    with pytest.raises(ValueError, match="code 'learned': .* offers plain, cosine$"):
        R.search(codes[3], db, code='learned')
    (tmp_path/C.MAPS).write_bytes(b'PK damaged')
    with pytest.raises(D.DatabaseError, match='not a file of maps'):
        R.search(codes[3], D.Database(db.path), code='cosine')
    assert len(R.search(codes[3], D.Database(db.path)).table)==5 # the plain code needs no maps


def test_plain_is_no_name_of_a_map(tmp_path):
    with pytest.raises(ValueError, match='that is the code itself'): C.save_code_maps(dict(plain=None), 'abc', tmp_path)


# Milvus

@pytest.fixture(scope='module')
def milvus(tmp_path_factory):
    pytest.importorskip('milvus_lite')
    d = tmp_path_factory.mktemp('milvus')
    codes,rows = made()
    db = database(d/'x.hdf5', codes, rows)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        out = [L.MilvusDatabase(d/'codes.db', name=m, metric=m).fill(db) for m in D.DISTANCES]
    yield db, dict(zip(D.DISTANCES, out))
    for m in out: m.close()


@pytest.mark.parametrize('metric', D.DISTANCES)
def test_milvus_finds_the_same(milvus, metric):
    db,there = milvus
    codes,_ = made()
    for i in (0, 8, 30):
        for kw in ({}, dict(k=99), dict(study_type='XR_HAND'), dict(exclude_patient='patient00000'),
                   dict(study_type='WRIST', exclude_patient='patient00002', k=3)):
            a,b = (R.search(codes[i], d, metric=metric, **kw).table for d in (db, there[metric]))
            assert a.path.tolist()==b.path.tolist() and a.label.tolist()==b.label.tolist()
            np.testing.assert_allclose(a.distance, b.distance, atol=1e-5)


def test_milvus_filled_twice(milvus):
    db,there = milvus
    assert len(there['l2'].fill(db))==len(db)==60
    assert there['l2'].card==dict(recipe='none', weights='abc', preprocessing='{}')
    for k,v in dict(weights='xyz', preprocessing='{"crop": 3}').items():
        other = D.Database(db.path)
        other.card[k] = v
        with pytest.raises(D.DatabaseError, match="'weights': 'abc'"): there['l2'].fill(other)
    with pytest.raises(D.DatabaseError, match='have 8 numbers'):
        there['l2'].fill(database(db.path.with_name('w.hdf5'), *made(3, 4)))


@pytest.mark.parametrize('metric', D.DISTANCES)
def test_milvus_near_duplicates(milvus, metric, tmp_path):
    "Codes that single precision can hardly tell apart come in the order of the exact distances"
    rng = np.random.default_rng(0)
    base,(_,rows) = rng.random(8),made(300)
    db = database(tmp_path/'near.hdf5', (base+1e-4*rng.random((300, 8))).astype(np.float32), rows)
    there = L.MilvusDatabase(milvus[1]['l2'].where, name='near_'+metric, metric=metric).fill(db)
    for _ in range(20):
        q = base+1e-4*rng.random(8)
        a,b = (R.search(q, d, metric=metric).table.path.tolist() for d in (db, there))
        assert a==b


def test_milvus_errors(milvus, monkeypatch, tmp_path):
    _,there = milvus
    with pytest.raises(FileNotFoundError, match='no Milvus database here'): R.search(np.ones(8), tmp_path/'typo.db')
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match='must be one of'): L.MilvusDatabase(there['l2'].where, metric='l1')
    with pytest.raises(ValueError, match='is indexed for l2, not cosine'):
        L.MilvusDatabase(there['l2'].where, name='l2', metric='cosine')
    with pytest.raises(ValueError, match='16384 rows at most'): R.search(np.ones(8), there['l2'], k=16385)
    with pytest.raises(D.NothingToSearch): R.search(np.ones(8), L.MilvusDatabase(there['l2'].where, name='other'))
    with pytest.raises(ValueError, match='indexed for cosine'): R.search(np.ones(8), there['cosine'])
    with pytest.raises(ValueError, match='has its index already'): R.search(np.ones(8), there['l2'], index='exact')
    monkeypatch.setattr(L.importlib.util, 'find_spec', lambda n: None)
    with pytest.raises(ImportError, match=r'pip install "mura_nb\[milvus\]"'): L.MilvusDatabase('x.db')


# encoding

@pytest.fixture(scope='module')
def place(tmp_path_factory):
    "Settings, a small made-up dataset and an untrained network"
    from test_distributed import RECIPES
    from test_baselines import made_up
    from mura_nb.networks import SingleLogit
    from mura_nb.results import save_model
    d = tmp_path_factory.mktemp('encoding')
    (d/'settings.ini').write_text((Path(__file__).parents[1]/'settings.ini').read_text() + RECIPES)
    made_up(d/'made_up', 28)
    import torch
    torch.manual_seed(0)
    r = settings('smoke', d/'settings.ini').recipe('plain')
    card = dict(architecture='single_logit', recipe=r.card())
    save_model(SingleLogit(r.backbone), card, d/'results'/'smoke-made_up'/'models'/'plain')
    return d


@pytest.fixture
def images(place, monkeypatch):
    for k,v in env(place).items(): monkeypatch.setenv(k, v)
    monkeypatch.chdir(place)
    from mura_nb.data import load_data
    df,store,_ = load_data()
    return df[df.split=='train'].reset_index(drop=True), store, D.load_encoder('plain')


def env(place):
    return dict(MURA_NB_PROFILE='smoke', MURA_NB_DATA=str(place/'made_up'), OMP_NUM_THREADS='1',
                ACCELERATE_USE_CPU='true')


def test_two_processes(place, images, tmp_path):
    df,store,encoder = images
    one = D.encode(df, store, encoder, tmp_path/'one.hdf5', batch_size=8)
    cmd = (f'{sys.executable} -m accelerate.commands.launch --multi_gpu --main_process_port 0 --num_processes 2 '
           '--num_machines 1 --mixed_precision no --dynamo_backend no -m mura_nb.programs index --processes 2 '
           f'--model plain --batch-size 8 --db {tmp_path/"two.hdf5"}')
    around = {**os.environ, **env(place)}
    r = subprocess.run(cmd.split(), cwd=place, env=around, capture_output=True, text=True, timeout=200)
    assert r.returncode==0, r.stderr[-3000:]
    assert r.stdout.splitlines()[0]=='processes: 2'
    two = D.Database(tmp_path/'two.hdf5')
    def lasting(card): return {k:v for k,v in card.items() if k!='made'} # the date, which may change between the two
    assert two.rows().equals(one.rows()) and lasting(two.card)==lasting(one.card)
    np.testing.assert_allclose(two.codes(), one.codes(), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir())==['one.hdf5','two.hdf5']


def test_interrupted_run_goes_on(images, tmp_path, monkeypatch):
    df,store,encoder = images
    whole = D.encode(df, store, encoder, tmp_path/'whole.hdf5', batch_size=8)
    asked = []
    real = D.Encoder._codes
    def stops(self, x):
        asked.append(len(x))
        if len(asked)==3: raise KeyboardInterrupt
        return real(self, x)
    monkeypatch.setattr(D.Encoder, '_codes', stops)
    with pytest.raises(KeyboardInterrupt): D.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8)
    assert not (tmp_path/'part.hdf5').exists()
    part = D.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8)
    assert sum(asked[3:])==len(df)-16 # two batches were kept
    assert {**part.card, 'made':''}=={**whole.card, 'made':''}
    assert (part.codes()==whole.codes()).all() and part.rows().equals(whole.rows())
    asked.clear()
    again = D.encode(df, store, encoder, tmp_path/'part.hdf5', batch_size=8)
    assert len(again)==len(df) and not asked and again.encoder is encoder # nothing to do


def interrupted(df, store, encoder, path, monkeypatch, after=1):
    "What a run that stops leaves"
    asked,real = [],D.Encoder._codes
    def stops(self, x):
        asked.append(len(x))
        if len(asked)>after: raise KeyboardInterrupt
        return real(self, x)
    with monkeypatch.context() as m:
        m.setattr(D.Encoder, '_codes', stops)
        with pytest.raises(KeyboardInterrupt): D.encode(df, store, encoder, path, batch_size=8)
    return next(path.parent.glob(f'.{path.stem}-*-1of1.hdf5'))


def test_a_broken_part_starts_again(images, tmp_path, monkeypatch):
    df,store,encoder = images
    for i,spoil in enumerate((lambda b: b[:-3000], lambda b: b'', lambda b: b[:len(b)//2] + bytes(len(b)-len(b)//2))):
        part = interrupted(df, store, encoder, tmp_path/f'{i}.hdf5', monkeypatch)
        part.write_bytes(spoil(part.read_bytes()))
        assert D.encode(df, store, encoder, tmp_path/f'{i}.hdf5', batch_size=8).rows().path.tolist()==df.path.tolist()


def test_two_runs_at_once(images, tmp_path, monkeypatch):
    "A second run gets ahead of the first: the first stops, and no code gets the path of another image"
    df,store,encoder = images
    whole = D.encode(df, store, encoder, tmp_path/'whole.hdf5', batch_size=8)
    real,other = D.Encoder._codes,[]
    def meanwhile(self, x):
        if not other:
            other.append(1)
            interrupted(df, store, encoder, tmp_path/'x.hdf5', monkeypatch, 2)
        return real(self, x)
    with monkeypatch.context() as m:
        m.setattr(D.Encoder, '_codes', meanwhile)
        with pytest.raises(D.InUse, match='another process is writing it'):
            D.encode(df, store, encoder, tmp_path/'x.hdf5', batch_size=8)
    done = D.encode(df, store, encoder, tmp_path/'x.hdf5', batch_size=8)
    assert (done.codes()==whole.codes()).all() and done.rows().equals(whole.rows())


def test_what_encode_does_not_overwrite(images, tmp_path):
    df,store,encoder = images
    foreign = tmp_path/'foreign.hdf5'
    foreign.write_text('mine')
    with pytest.raises(D.DatabaseError, match='not a whole HDF5 file'): D.encode(df, store, encoder, foreign)
    assert foreign.read_text()=='mine'
    db = D.encode(df[:8], store, encoder, foreign, overwrite=True)
    more = D.encode_more(pd.concat([df[4:12], df[10:12]]), store, db)
    assert more.rows().path.tolist()==df.path[:12].tolist()
    assert len(D.encode_more(df[:12], store, db))==12 # the same handle again, which knows of eight
    for rows in (df[:8], df[:12]):
        with pytest.raises(D.DatabaseError, match='overwrite=True replaces them'):
            D.encode(rows, store, encoder, foreign)
    assert len(D.encode(df[:8], store, encoder, foreign, overwrite=True))==8


def test_an_open_database_follows_its_file(tmp_path):
    "Codes, rows and what is in memory are of one file, whatever was written over it"
    codes,rows = made()
    db = database(tmp_path/'x.hdf5', codes, rows)
    assert len(db.nearest(codes[0], 3)) == 3
    shown = db.nearest(codes[0], 1, 'ELBOW', per='image')
    other,fewer = made(30, seed=5, split='valid')
    os.replace(database(tmp_path/'y.hdf5', other, fewer).path, db.path)
    assert len(db)==30 and (db.codes()==other).all() and db.rows().equals(D.Database(db.path).rows())
    assert db.nearest(other[3], 1, per='image').path.tolist()==[fewer.path[3]]!=shown.path.tolist()
    D.add_rows(db.path, *made(3, seed=6))
    assert len(db)==33 and db.matching('ELBOW').shape==(33,)


def test_codes_of_another_network_are_told(tmp_path):
    "A code of the network before means nothing in them; a map for its codes neither, for good"
    codes,rows = made()
    db = database(tmp_path/'x.hdf5', codes, rows)
    mapped = C.Recoded(db, 'half', C.CodeMap(C.Projection(np.zeros(8, np.float32), np.ones(8, np.float32))))
    file = D.create_database(tmp_path/'y.hdf5', 8, CARD | dict(weights='xyz'))
    D.add_rows(file, codes[:9], rows[:9])
    os.replace(file, db.path)
    with pytest.raises(D.DatabaseError, match='codes of network xyz, no longer of abc'): db.nearest(codes[0], 1)
    assert len(db.nearest(codes[0], 9, per='image'))==9
    for _ in range(2):
        with pytest.raises(D.DatabaseError, match='no longer of abc'): mapped.nearest(codes[0], 1)


def test_a_database_that_is_replaced_during_a_search(tmp_path, monkeypatch):
    codes,rows = made()
    db = database(tmp_path/'x.hdf5', codes, rows)
    other = database(tmp_path/'y.hdf5', *made(30, seed=5)).path
    real = D.nearest_rows
    def meanwhile(*args):
        found = real(*args)
        if other.is_file(): os.replace(other, db.path)
        return found
    monkeypatch.setattr(D, 'nearest_rows', meanwhile)
    with pytest.raises(D.InUse, match='was replaced while it was searched'): db.nearest(codes[3], 2, per='image')
    assert len(db.nearest(codes[3], 2, per='image'))==2


class Codes:
    "An encoder that reads no picture"
    key = 'abc'
    def batches(self, df, store, batch_size): yield np.ones((len(df), 8), np.float32)


def test_only_images_of_the_same_dataset_are_added(tmp_path, monkeypatch):
    "The same relative paths are other images in another folder; the command says how many were there"
    from types import SimpleNamespace
    codes,rows = made()
    one,two = (SimpleNamespace(root=tmp_path/n) for n in ('one', 'two'))
    file = D.create_database(tmp_path/'x.hdf5', 8, CARD | dict(data=D.dataset_name(one.root)))
    D.add_rows(file, codes[:50], rows[:50])
    monkeypatch.setattr(D.Database, 'encoder', Codes())
    with pytest.raises(D.DatabaseError, match='was made from dataset one-.*these images are of two-'):
        D.encode_more(rows, two, D.Database(file))
    monkeypatch.setattr(D.Database, 'use', lambda *_: None)
    said = []
    assert len(D.encode_more(rows, one, D.Database(file), 100, said.append))==60
    assert said==['10 images added, 50 were there already']
    old = database(tmp_path/'old.hdf5', codes[:50], rows[:50]) # made before files said so
    assert len(D.encode_more(rows, two, old, 100))==60
    assert 'one-' not in D.Database(file)._repr_markdown_()


def test_image_queries(images, tmp_path):
    df,store,encoder = images
    db = D.Database(D.encode(df, store, encoder, tmp_path/'x.hdf5').path, encoder, store.root)
    for q in (store.root/df.path[4], store[df.path[4]]):
        found = R.search(q, db, k=3)
        assert found.table.path[0]==df.path[4] and found.table.distance[0]<1e-4
        assert found._repr_png_().startswith(b'\x89PNG') and found._repr_markdown_() is None
    assert R.search(store[df.path[4]], db, box=(5, 5, 40, 30)).box==(5, 5, 40, 30)
    with pytest.raises(ValueError, match='four numbers'): R.search(store[df.path[4]], db, box=(5, 5, 4, 30))
    (tmp_path/'bad.png').write_bytes(b'no picture')
    with pytest.raises(ValueError, match='cannot be read'): R.search(tmp_path/'bad.png', db)
