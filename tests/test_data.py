"""What the data notebook should not carry: dirt, varieties, scale, processes, properties."""
import errno, io, os, pickle, subprocess, sys, time
from dataclasses import replace
from pathlib import Path
import numpy as np, pandas as pd, pytest
from hypothesis import given, settings as hsettings, strategies as st
from PIL import Image, ImageFile
from mura_nb.core import STUDY_TYPES
from mura_nb.settings import settings
from mura_nb.images import UnreadableImages, read_picture, to_grey
from mura_nb.geometry import Geometry, eval_geometry, train_geometry, warp
from mura_nb.data import (DataError, Views, check_index, eval_dl, image_store, index_fingerprint, load_data,
    mura_index, patient_split, train_dls)
from datasets import make_dataset, study_paths, write_lists, write_picture

def touch(root, paths):
    for p in paths:
        f = Path(root)/p
        f.parent.mkdir(parents=True, exist_ok=True)
        f.touch()

def problems(report, level='errors'): return set(zip(getattr(report, level).problem, getattr(report, level).path))

@pytest.fixture
def recipe(): return replace(settings('smoke').recipe('lite0_smoke'), resize=72, crop=64)

@pytest.fixture
def made(tmp_path):
    make_dataset(tmp_path/'data', 30)
    return mura_index(tmp_path/'data')

# ---- lists

paths = study_paths(12, seed=5)
styles = dict(official={}, v10=dict(prefix='MURA-v1.0/'), absolute=dict(prefix='/home/me/train/MURA-v1.1/'),
    bare=dict(prefix=''), header=dict(header=('Img_Path','Img_Path,Label')), crlf=dict(eol='\r\n'),
    commas=dict(header=('path,','path,,'), tail=',', eol='\r\n'), mac=dict(eol='\r'),
    windows=dict(prefix='MURA-v1.1\\'))

@pytest.mark.parametrize('style', styles)
def test_lists_in_every_published_form(tmp_path, style):
    write_lists(tmp_path, paths, **styles[style])
    df = mura_index(tmp_path)
    assert sorted(df.path) == sorted(paths)
    assert (df.label == df.study.str.endswith('positive').astype(int)).all()
    assert df.label.dtype == 'Int8' and list(df.columns) == ['path','split','study_type','patient','study','label']
    touch(tmp_path/'walked', paths)
    pd.testing.assert_frame_equal(df, mura_index(tmp_path/'walked'))

def test_labels_in_the_list_of_images_and_an_index_column(tmp_path):
    lines = [f'{i},"MURA-v1.1/train/XR_HAND/patient{i+1}/study1/image1.png",{i%2}.0\n\n' for i in range(2)]
    (tmp_path/'train_image_paths.csv').write_text('\ufeff,Img_Path,Label\n' + ''.join(lines), encoding='utf-8')
    assert dict(zip(*(mura_index(tmp_path)[c] for c in ('patient','label')))) == {'patient1':0, 'patient2':1}

def test_version_1_0_with_one_list(tmp_path):
    for s in ('train','valid'):
        lines = [f"MURA-v1.0/{p},{int('positive' in p)}\n" for p in paths if p.startswith(s)]
        (tmp_path/f'{s}.csv').write_text(''.join(lines))
    assert sorted(mura_index(tmp_path).path) == sorted(paths)

def test_a_list_of_studies_alone_labels_walked_images(tmp_path):
    write_lists(tmp_path, paths)
    touch(tmp_path, paths)
    for s in ('train','valid'): (tmp_path/f'{s}_image_paths.csv').unlink()
    assert sorted(mura_index(tmp_path).path) == sorted(paths)

def test_test_folder_without_suffix(tmp_path):
    p = 'test/XR_WRIST/patient12000/study1/image1.png'
    touch(tmp_path, [p, *paths])
    df = mura_index(tmp_path, 'test')
    assert df.path.tolist() == [p] and df.label.isna().all() and df.study[0] == 'test/XR_WRIST/patient12000/study1'
    assert set(mura_index(tmp_path).split) == {'train','valid','test'}
    assert not len(check_index(mura_index(tmp_path)).errors.query("problem != 'unreadable image'"))

def test_order_ignores_the_lists(tmp_path):
    for i in range(2):
        (tmp_path/str(i)).mkdir()
        write_lists(tmp_path/str(i), np.random.default_rng(i).permutation(paths).tolist())
    pd.testing.assert_frame_equal(mura_index(tmp_path/'0'), mura_index(tmp_path/'1'))

def test_order_says_nothing_of_the_label(tmp_path):
    many = [f"train/XR_HAND/patient{i:05d}/study1_{'positive' if i<500 else 'negative'}/image1.png"
        for i in range(1000)]
    write_lists(tmp_path, many)
    label = mura_index(tmp_path).label.to_numpy(int)
    assert abs(label[:500].mean() - .5) < .07

@pytest.mark.parametrize('line', ['MURA-v1.1/train/XR_KNEE/patient00001/study1_positive/image1.png',
    'MURA-v1.1/train/XR_HAND/p1/study1_positive/image1.png', 'nonsense',
    'MURA-v1.1/train/XR_HAND/patient00001/study1_positive/image1.png,2'])
def test_a_line_without_sense_names_file_and_line(tmp_path, line):
    good = 'MURA-v1.1/train/XR_HAND/patient00002/study1_positive/image1.png'
    (tmp_path/'train_image_paths.csv').write_text(f'{good}\n{line}\n')
    with pytest.raises(ValueError, match='train_image_paths.csv:2'): mura_index(tmp_path)

def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='neither image lists'): mura_index(tmp_path)
    with pytest.raises(FileNotFoundError, match='no such folder'): mura_index(tmp_path/'no')
    touch(tmp_path, ['train/XR_HAND/patient00001/study1_positive/image1.png'])
    with pytest.raises(FileNotFoundError, match="'valid'"): mura_index(tmp_path, 'valid')
    with pytest.raises(ValueError, match='train, valid, test'): mura_index(tmp_path, 'tune')

def test_truth_is_ignored(made):
    root = Path(made.attrs['root'])
    write_picture(root/'truth/masks/train/XR_HAND/patient00001/study1_positive/image1.png')
    (root/'truth/boxes.csv').write_text('path\n')
    assert mura_index(root).equals(made) and not len(check_index(made).table)

def test_forty_thousand_files_in_five_seconds(tmp_path):
    many = study_paths(13_500, seed=1)[:40_005]
    assert len(many) == 40_005
    touch(tmp_path, many)
    start = time.process_time()
    walked = mura_index(tmp_path)
    assert time.process_time()-start < 5
    write_lists(tmp_path, many)
    start = time.process_time()
    assert mura_index(tmp_path).equals(walked) and time.process_time()-start < 5

# ---- checks

def test_clean_data_has_no_problems(made):
    report = check_index(made)
    assert not len(report.table)
    assert list(report.errors.columns) == list(report.warnings.columns) == ['problem','path','detail']
    report.raise_errors()
    assert report.usable(made).equals(made) and report.usable(made).attrs == made.attrs

def test_extra_files(made):
    root = Path(made.attrs['root'])
    folder = made.study[0]
    (root/folder/'._image1.png').write_bytes(b'\0\5\26\7')
    (root/'.DS_Store').write_bytes(b'x')
    write_picture(root/folder/'image9.png', 99)
    assert mura_index(root).equals(made)
    report = check_index(made)
    extra = {('AppleDouble file', f'{folder}/._image1.png'), ('image not listed', f'{folder}/image9.png')}
    assert problems(report, 'warnings') == {('extra file', '.DS_Store'), *extra}
    assert not len(report.errors)

def test_appledouble_in_a_list(made):
    root = Path(made.attrs['root'])
    with open(root/'train_image_paths.csv', 'a') as f:
        f.write('MURA-v1.1/train/XR_HAND/patient00001/study1_positive/._image1.png\n')
    assert mura_index(root).equals(made)

@pytest.mark.parametrize('keep', [0, 20, .3, .9, -12])
def test_truncated_file(made, keep):
    file = Path(made.attrs['root'])/made.path[3]
    data = file.read_bytes()
    file.write_bytes(data[:int(keep*len(data)) if isinstance(keep, float) else keep])
    report = check_index(made)
    assert problems(report) == {('unreadable image', made.path[3])}
    assert report.usable(made).path.tolist() == made.path.drop(3).tolist()
    with pytest.raises(DataError, match=made.path[3]): report.raise_errors()

def test_missing_and_renamed(made):
    root = Path(made.attrs['root'])
    (root/made.path[0]).unlink()
    study = made[made.study != made.study[0]].study.iloc[-1]
    other = study.replace('positive','negative') if 'positive' in study else study.replace('negative','positive')
    (root/study).rename(root/other)
    report = check_index(made)
    moved = {('list and folder disagree', p) for p in made.path[made.study==study]}
    assert problems(report) == {('missing file', made.path[0])} | moved

def test_list_against_folder(made):
    root,study = Path(made.attrs['root']),made[made.split=='train'].study.iloc[0]
    file = root/'train_labeled_studies.csv'
    good = f"{study}/,{int(study.endswith('positive'))}"
    other = int(not study.endswith('positive'))
    file.write_text(file.read_text().replace(good, f'{study}/,{other}'))
    df = mura_index(root)
    assert (df.label[df.study==study] == other).all()
    assert problems(check_index(df)) == {('list and folder disagree', study)}

def test_study_listed_with_both_labels(made):
    root,study = Path(made.attrs['root']),made[made.split=='train'].study.iloc[0]
    with open(root/'train_labeled_studies.csv', 'a') as f:
        f.write(f"MURA-v1.1/{study}/,{int(not study.endswith('positive'))}\n")
    df = mura_index(root)
    assert df.label[df.study==study].isna().all() and df.label[df.study!=study].notna().all()
    report = check_index(df)
    assert problems(report) == {('study with both labels', study)} and report.usable(df).label.notna().all()

def test_study_in_both_folders(made):
    root,normal = Path(made.attrs['root']),made[made.study.str.endswith('negative') & (made.split=='train')]
    study = normal.study.iloc[0]
    twin = study.replace('negative','positive')
    write_picture(root/twin/'image1.png', 77)
    with open(root/'train_image_paths.csv', 'a') as f: f.write(f'MURA-v1.1/{twin}/image1.png\n')
    with open(root/'train_labeled_studies.csv', 'a') as f: f.write(f'MURA-v1.1/{twin}/,1\n')
    assert problems(check_index(mura_index(root))) == {('study with both labels', s) for s in (study, twin)}

def test_patient_in_two_splits(made):
    root,row = Path(made.attrs['root']),made[made.split=='train'].iloc[0]
    extra = f'valid/XR_HAND/{row.patient}/study1_negative/image1.png'
    write_picture(root/extra, 55)
    write_lists(root, [*made.path, extra])
    df = mura_index(root)
    want = {('patient in two splits', s) for s in made.study[(made.patient==row.patient) & (made.split=='train')]}
    assert problems(check_index(df)) == want and problems(check_index(df[df.split=='train'])) == want
    assert extra in set(check_index(df).usable(df).path)

def test_repeated_pictures(made):
    root,train = Path(made.attrs['root']),made[(made.split=='train') & (made.label==0)]
    a,b = train.path.iloc[0],train[train.patient!=train.patient.iloc[0]].path.iloc[0]
    (root/b).write_bytes((root/a).read_bytes())
    assert problems(check_index(made), 'warnings') == {('picture repeats, other patient', max(a, b))}
    Image.open(root/a).convert('RGB').save(root/b)
    assert problems(check_index(made), 'warnings') == {('picture repeats, other patient', max(a, b))}
    sick = made.path[(made.split=='train') & (made.label==1)].iloc[0]
    (root/sick).write_bytes((root/a).read_bytes())
    assert problems(check_index(made)) == {('picture with both labels', p) for p in (a, b, sick)}
    held = made.path[made.split=='valid'].iloc[0]
    (root/held).write_bytes((root/a).read_bytes())
    assert problems(check_index(made)) == {('picture in train and elsewhere', p) for p in (a, b, sick)}

def test_a_study_in_the_wrong_list_is_left_out(made):
    "Its line names no picture, so that the error names the study"
    root,study = Path(made.attrs['root']),made[made.split=='train'].study.iloc[0]
    with open(root/'valid_labeled_studies.csv', 'a') as f: f.write(f"{study}/,{int(study.endswith('positive'))}\n")
    report = check_index(made)
    assert problems(report) == {('list and folder disagree', study)}
    assert study not in set(report.usable(made).study)

def test_listed_twice_and_listed_in_the_wrong_list(made):
    root,held = Path(made.attrs['root']),made.path[made.split=='valid'].iloc[0]
    with open(root/'train_image_paths.csv', 'a') as f: f.write(f'MURA-v1.1/{held}\n')
    assert mura_index(root).equals(made)
    report = check_index(made)
    assert problems(report) == {('list and folder disagree', held)}
    assert problems(report, 'warnings') == {('listed twice', held)}

def test_a_part_of_the_index_can_be_checked(made):
    assert not len(check_index(made[made.study_type=='HAND']).table)
    lost = made.copy()
    lost.attrs = {}
    with pytest.raises(ValueError, match='root='): check_index(lost)
    assert not len(check_index(lost, made.attrs['root']).table)

def test_load_data_leaves_errors_out_and_says_so(made, tmp_path):
    root = Path(made.attrs['root'])
    (root/made.path[3]).write_bytes(b'junk')
    data = load_data(root, folder=tmp_path/'store')
    assert data.df.path.tolist() == made.path.drop(3).tolist() and len(data.store) == len(made)-1
    assert problems(data.report) == {('unreadable image', made.path[3])} and data.df.attrs['root'] == str(root)
    assert '1 errors' in data.report._repr_markdown_() or '1 error' in data.report._repr_markdown_()

# ---- reading files

grey = np.random.default_rng(0).integers(0, 256, (9, 7), dtype=np.uint8)

def png(img):
    f = io.BytesIO()
    img.save(f, 'PNG')
    return Image.open(io.BytesIO(f.getvalue()))

def palette():
    p = Image.fromarray(grey).convert('P')
    p.putpalette([v for i in range(256) for v in (i, i, i)])
    return p

modes = {'grey':Image.fromarray(grey), 'rgb':Image.fromarray(np.stack([grey]*3, -1)),
    'rgba':Image.fromarray(np.dstack([grey]*3 + [np.full_like(grey, 255)])),
    '16 bit':Image.fromarray(grey.astype(np.uint16)*257), 'palette':palette(),
    'grey alpha':Image.merge('LA', [Image.fromarray(grey), Image.new('L', (7, 9), 255)])}

@pytest.mark.parametrize('img', modes.values(), ids=modes)
def test_every_mode_gives_the_same_grey(img):
    assert np.array_equal(to_grey(png(img)), grey)

def test_one_bit_and_transparency():
    bits = grey>127
    assert np.array_equal(to_grey(png(Image.fromarray(bits))), bits*np.uint8(255))
    see = np.dstack([grey]*3 + [np.zeros_like(grey)])
    assert not to_grey(png(Image.fromarray(see))).any()
    p = palette()
    p.info['transparency'] = 200
    assert np.array_equal(to_grey(png(p)), np.where(grey==200, 0, grey))

def test_sixteen_bit_is_monotone_and_keeps_black_and_white():
    ramp = to_grey(Image.fromarray(np.arange(65536, dtype=np.uint16).reshape(256, 256))).ravel()
    assert ramp[0]==0 and ramp[-1]==255 and (np.diff(ramp.astype(int))>=0).all()

def test_undefined_white_is_refused():
    with pytest.raises(ValueError, match='floating point'): to_grey(Image.new('F', (2, 2)))
    with pytest.raises(ValueError, match='0 to 65535'): to_grey(Image.new('I', (2, 2), 70_000))

# ---- image store

def test_store_holds_every_file_at_its_size(tmp_path):
    sizes = [(5, 9), (9, 5), (1, 1), (33, 17)]
    names = [f'train/XR_HAND/patient0000{i}/study1_positive/image1.png' for i in range(4)]
    for i,(n,s) in enumerate(zip(names, sizes)): write_picture(tmp_path/'d'/n, i, s)
    df = mura_index(tmp_path/'d')
    store = image_store(df, folder=tmp_path/'s')
    assert store.sizes == dict(sorted(zip(names, sizes), key=lambda kv: df.path.tolist().index(kv[0])))
    for n in names:
        assert np.array_equal(store[n], np.asarray(Image.open(tmp_path/'d'/n))) and store[n].dtype == np.uint8
    with pytest.raises(ValueError): store[names[0]][0, 0] = 1
    with pytest.raises(KeyError, match='image store|store of'): store['nothing.png']
    copy = pickle.loads(pickle.dumps(store))
    assert np.array_equal(copy[names[3]], store[names[3]])

def decoded(monkeypatch):
    "Counts the files that are read"
    import mura_nb.images as images
    seen,real = [],images.scan_file
    monkeypatch.setattr(images, 'scan_file', lambda f: (seen.append(str(f)), real(f))[1])
    return seen

def test_store_decodes_once_and_notices_changes(made, tmp_path, monkeypatch):
    time.sleep(.15)
    seen,root = decoded(monkeypatch),Path(made.attrs['root'])
    image_store(made, folder=tmp_path/'s')
    assert len(seen) == len(made)
    image_store(made[5:], folder=tmp_path/'s')
    assert len(seen) == len(made)
    file,old = root/made.path[0],(root/made.path[0]).stat()
    img = 255-np.asarray(Image.open(file))
    Image.fromarray(img).save(file)
    os.utime(file, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert np.array_equal(image_store(made, folder=tmp_path/'s')[made.path[0]], img)
    assert seen[len(made):] == [str(file)]

def test_store_shares_equal_content_and_forgets_old_pixels(made, tmp_path):
    root = Path(made.attrs['root'])
    for p in made.path: (root/p).write_bytes((root/made.path[0]).read_bytes())
    store = image_store(made, folder=tmp_path/'s')
    one = store.sizes[made.path[0]][0]*store.sizes[made.path[0]][1]
    assert store.data.stat().st_size == one
    for k in range(4):
        for p in made.path: write_picture(root/p, k)
        store = image_store(made, folder=tmp_path/'s')
        assert np.array_equal(store[made.path[7]], np.asarray(Image.open(root/made.path[7])))
        assert store.data.stat().st_size <= 2*one and len(list((tmp_path/'s').glob('pixels-*'))) == 1

def test_store_resumes(made, tmp_path, monkeypatch):
    import mura_nb.images as images
    time.sleep(.15)
    real,n = images.scan_file,len(made)//2
    def stops(f):
        if str(f).endswith(made.path[n]): raise KeyboardInterrupt
        return real(f)
    monkeypatch.setattr(images, 'scan_file', stops)
    with pytest.raises(KeyboardInterrupt): image_store(made, folder=tmp_path/'s', workers=1)
    monkeypatch.undo()
    seen = decoded(monkeypatch)
    with open(next((tmp_path/'s').glob('pixels-*')), 'ab') as f: f.write(b'left over')
    store = image_store(made, folder=tmp_path/'s')
    assert len(seen) == len(made)-n
    for p in made.path: assert np.array_equal(store[p], np.asarray(Image.open(Path(made.attrs['root'])/p)))

@pytest.mark.parametrize('error', [MemoryError('too much'), *(OSError(n, os.strerror(n)) for n in (errno.EMFILE,
    errno.ENFILE, errno.ENOMEM))], ids=repr)
def test_want_of_memory_or_handles_is_no_fault_of_a_picture(made, tmp_path, monkeypatch, error):
    "Also while a picture is decoded: an error that stops, so that no good picture is dropped"
    import mura_nb.images as images
    from mura_nb.studies import picture_size
    def lacks(*_, **__): raise error
    monkeypatch.setattr(images, 'decode_picture', lacks)
    file = Path(made.attrs['root'])/made.path[0]
    with pytest.raises(type(error)): images.scan_file(file)
    with pytest.raises((MemoryError, OSError)): image_store(made, folder=tmp_path/'s', strict=False)
    monkeypatch.setattr(Image, 'open', lacks)
    with pytest.raises(type(error)): picture_size(file)

@pytest.mark.parametrize('harm', ['index','pixels','cut'])
def test_store_survives_a_damaged_folder(made, tmp_path, harm):
    store = image_store(made, folder=tmp_path/'s')
    if harm=='index': (tmp_path/'s/index.csv').write_text('junk\n')
    if harm=='pixels': store.data.unlink()
    if harm=='cut': os.truncate(store.data, 10)
    again = image_store(made, folder=tmp_path/'s')
    assert np.array_equal(again[made.path[9]], np.asarray(Image.open(Path(made.attrs['root'])/made.path[9])))

def test_store_names_all_unreadable_files(made, tmp_path):
    root = Path(made.attrs['root'])
    for p in made.path[:3]: (root/p).write_bytes(b'no picture')
    (root/made.path[3]).unlink()
    with pytest.raises(UnreadableImages, match='check_index') as e: image_store(made, folder=tmp_path/'s')
    assert set(e.value.problems) == set(made.path[:4])
    store = image_store(made, folder=tmp_path/'s', strict=False)
    assert len(store) == len(made)-4 and set(store.problems) == set(made.path[:4])
    assert problems(check_index(made, store=store)) == problems(check_index(made))

def test_two_processes_build_one_store(tmp_path):
    make_dataset(tmp_path/'d', 60, size=(200, 200))
    code = f'''if 1:
        from mura_nb.data import image_store, mura_index
        import hashlib
        df = mura_index({str(tmp_path/'d')!r})
        s = image_store(df, folder={str(tmp_path/'s')!r}, workers=1)
        print(len(s), hashlib.sha256(b''.join(s[p].tobytes() for p in df.path)).hexdigest())'''
    packages = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get('PYTHONPATH', '')])
    how = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, 'PYTHONPATH':packages, 'OMP_NUM_THREADS':'1'})
    ps = [subprocess.Popen([sys.executable, '-c', code], **how) for _ in range(2)]
    out = [p.communicate(timeout=120) for p in ps]
    assert [p.returncode for p in ps] == [0, 0], out
    assert out[0][0] == out[1][0] != ''
    df = mura_index(tmp_path/'d')
    assert sum(p.stat().st_size for p in (tmp_path/'s').glob('pixels-*')) == 200*200*len(df)

# ---- tuning split

def test_patient_split_is_stratified_and_by_patient(tmp_path):
    (tmp_path/'d').mkdir()
    write_lists(tmp_path/'d', study_paths(6000, seed=2))
    df = mura_index(tmp_path/'d')
    for frac in (.1, .2):
        tune = patient_split(df, frac, seed=3)
        train = df[df.split=='train']
        assert tune.dtype == bool and tune.index.equals(df.index) and not tune[df.split!='train'].any()
        assert abs(train.patient[tune[train.index]].nunique()/train.patient.nunique() - frac) < .002
        assert not set(train.patient[tune[train.index]]) & set(train.patient[~tune[train.index]])
        studies = train.assign(tune=tune).drop_duplicates('study')
        share = studies.groupby(['study_type','label']).tune.agg(['mean','size'])
        assert (share['mean']-frac).abs().max() < .03
    assert patient_split(df, .1, 3).equals(patient_split(df.sample(frac=1, random_state=0), .1, 3).sort_index())
    assert not patient_split(df, .1, 3).equals(patient_split(df, .1, 4))

def test_patient_split_of_few_patients_and_errors(made):
    n = made[made.split=='train'].patient.nunique()
    assert made.patient[patient_split(made, .5)].nunique() in (n//2, n//2+1)
    for frac in (0, 1, -.1, 2):
        with pytest.raises(ValueError, match='between 0 and 1'): patient_split(made, frac)
    with pytest.raises(ValueError, match='no training images'): patient_split(made[made.split=='valid'])

def test_an_unlabelled_study_is_split_and_named(made):
    "It counts as a kind of its own; a study of test may have none"
    df = made.assign(label=made.label.where(made.study!=made.study[made.split=='train'].iloc[0]))
    bare = df.study[df.label.isna()].iloc[0]
    tune = patient_split(df, .5)
    assert tune.dtype == bool and 0 < df.patient[tune].nunique() < df.patient[df.split=='train'].nunique()
    assert patient_split(made.astype({'label':object}), .5).equals(patient_split(made, .5))
    assert problems(check_index(df), 'warnings') == {('no label', bare)} and not problems(check_index(df))
    test = df.assign(split=df.split.where(df.study!=bare, 'test'))
    assert ('no label', bare) not in problems(check_index(test), 'warnings')

def test_fingerprint_sees_labels_and_paths_but_not_order(made):
    assert index_fingerprint(made) == index_fingerprint(made[::-1])
    assert index_fingerprint(made) != index_fingerprint(made[1:])
    flipped = made.assign(label=1-made.label)
    assert index_fingerprint(made) != index_fingerprint(flipped)

# ---- geometry

side = st.integers(8, 600)
@st.composite
def geometries(draw):
    hw = draw(side), draw(side)
    g = Geometry.resize(hw, (256, 256))
    if draw(st.booleans()): g = Geometry.letterbox(hw, (256, 256))
    if draw(st.booleans()): g = Geometry.rotate(draw(st.floats(-180, 180)), (128, 128)) @ g
    g = Geometry.crop(draw(st.integers(0, 32)), draw(st.integers(0, 32))) @ g
    return hw, Geometry.flip(224) @ g if draw(st.booleans()) else g

@given(geometries(), st.lists(st.tuples(st.floats(-50, 700), st.floats(-50, 700)), min_size=1, max_size=9))
def test_geometry_round_trip(hg, xy):
    _,g = hg
    assert np.abs(g.inverse.points(g.points(xy)) - xy).max() < 1e-6
    assert np.abs((g @ g.inverse).matrix - np.eye(3)[:2]).max() < 1e-9

@given(geometries(), geometries(), st.tuples(st.floats(0, 600), st.floats(0, 600)))
def test_geometry_composes(a, b, p):
    a,b = a[1],b[1]
    assert np.allclose((b @ a).points(p), b.points(a.points(p)), atol=1e-6)
    assert np.allclose((b @ a).inverse.matrix, (a.inverse @ b.inverse).matrix, atol=1e-6)

@given(side, side, st.booleans(), st.integers(0, 32), st.integers(0, 32),
    st.lists(st.integers(0, 224), min_size=4, max_size=4, unique=True), st.booleans())
def test_boxes_round_trip_without_rotation(h, w, letterbox, x, y, b, mirror):
    g = Geometry.crop(x, y) @ (Geometry.letterbox if letterbox else Geometry.resize)((h, w), (256, 256))
    if mirror: g = Geometry.flip(224) @ g
    box = np.array([min(b[:2]), min(b[2:]), max(b[:2]), max(b[2:])], float)
    assert np.allclose(g.boxes(g.inverse.boxes(box)), box, atol=1e-6)
    assert np.allclose(g.boxes([box, box]), [g.boxes(box)]*2)

@given(geometries(), st.tuples(st.floats(0, .4), st.floats(0, .4), st.floats(.6, 1), st.floats(.6, 1)))
def test_the_box_of_a_turned_box_holds_its_corners(hg, f):
    (h,w),g = hg
    box = np.array([f[0]*w, f[1]*h, f[2]*w, f[3]*h])
    x0,y0,x1,y1 = g.boxes(box)
    c = g.points([[box[0], box[1]], [box[2], box[3]], [box[0], box[3]], [box[2], box[1]]])
    assert np.allclose([c[:,0].min(), c[:,1].min(), c[:,0].max(), c[:,1].max()], [x0, y0, x1, y1])

@hsettings(max_examples=60, deadline=None)
@given(st.integers(120, 512), st.integers(120, 512), st.sampled_from(['stretch','letterbox']), st.integers(0, 10**6),
    st.floats(.35, .65), st.floats(.35, .65))
def test_pixels_go_where_points_go(h, w, fit, seed, fx, fy):
    "A bright square comes out, to half a pixel, where the geometry puts its centre"
    recipe = replace(settings('smoke').recipe('lite0_smoke'), resize=256, crop=224, fit=fit, rotate=30)
    img = np.zeros((h, w), np.uint8)
    x,y = int(fx*w),int(fy*h)
    img[y-6:y+6, x-6:x+6] = 255
    for g in (train_geometry((h, w), recipe, np.random.default_rng(seed)), eval_geometry((h, w), recipe)):
        out = warp(img, g, (224, 224)).astype(float)
        at = [(out.sum(a)*(np.arange(224)+.5)).sum()/out.sum() for a in (0, 1)]
        assert np.abs(np.array(at) - g.points([x, y])).max() < .5

def test_warp_of_whole_pixels_changes_nothing():
    img = np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8)
    assert np.array_equal(warp(img, Geometry.crop(-2, -3), (50, 40))[3:43, 2:32], img)
    assert not warp(img, Geometry.crop(-2, -3), (50, 40))[:3].any()
    assert np.array_equal(warp(img, Geometry.flip(30) @ Geometry.crop(0, 0), (40, 30)), img[:,::-1])
    near = lambda a,b: np.abs(a-b.astype(float)).max() < .01
    assert near(warp(img, Geometry.rotate(180, (15, 20)), (40, 30)), img[::-1,::-1])
    turned = warp(img, Geometry.crop(-5, 5) @ Geometry.rotate(90, (15, 20)), (30, 40))
    assert near(turned, np.rot90(img, -1))

def shrinking(n, m):
    "Weights (m, n) of an antialiased bilinear reduction from n to m pixels: a triangle as wide as the step"
    step = n/m
    at = np.abs((np.arange(n)+.5)[None] - (np.arange(m)+.5)[:,None]*step)/step
    w = np.clip(1-at, 0, None)
    return w/w.sum(1, keepdims=True)

@pytest.mark.parametrize('dtype', [np.uint8, np.float16, np.float64])
def test_warp_is_computed_in_floating_point(dtype):
    "What Pillow gives is the textbook's filter, not rounded, whatever its version"
    img = np.random.default_rng(0).integers(0, 256, (90, 70)).astype(dtype)
    out = warp(img, Geometry.resize((90, 70), (40, 30)), (40, 30))
    assert out.dtype == np.float32
    assert np.abs(out - shrinking(90, 40) @ img.astype(float) @ shrinking(70, 30).T).max() < 1e-3

# ---- loaders

def test_training_batches(made, tmp_path, recipe):
    import torch
    from fastai.vision.core import TensorImage
    store,tune = image_store(made, folder=tmp_path/'s'),patient_split(made, .3)
    dls = train_dls(made, tune, store, recipe, seed=1, device='cpu')
    x,y,t = dls.train.one_batch()
    assert isinstance(x, TensorImage) and x.shape == (16, 3, *[recipe.first_crop]*2)
    assert x.dtype == y.dtype == torch.float32 and t.dtype == torch.int64
    assert dls.n_inp == 1 and dls.train.n_inp == 1
    assert sum(len(b[1]) for b in dls.valid) == tune.sum()
    assert dls.train.dataset.paths == made.path[~tune & (made.split=='train')].tolist()

@pytest.mark.parametrize('workers', [0, 2])
def test_epochs_differ_and_repeat(made, tmp_path, recipe, workers):
    import torch
    store,tune = image_store(made, folder=tmp_path/'s'),patient_split(made, .3)
    make = lambda: train_dls(made, tune, store, recipe, workers=workers, seed=1, device='cpu').train
    a = make()
    epochs = [[x for x,_,_ in a] for _ in range(2)]
    assert not torch.equal(epochs[0][0], epochs[1][0]) and a.dataset.epoch == 2
    b = make()
    b.one_batch()
    b.dataset.epoch = 1
    for p,q in zip(epochs[1], b): assert torch.equal(p, q[0])

def test_evaluation_keeps_order_and_missing_labels(made, tmp_path, recipe):
    store = image_store(made, folder=tmp_path/'s')
    df = made.assign(label=made.label.where(made.index%2==0))
    dl = eval_dl(df, store, recipe, batch_size=7, device='cpu')
    y = np.concatenate([b[1].numpy() for b in dl])
    assert np.array_equal(np.isnan(y), df.label.isna()) and np.array_equal(y[::2], made.label.to_numpy(float)[::2])
    assert np.concatenate([b[2].numpy() for b in dl]).tolist() == [STUDY_TYPES.index(s) for s in df.study_type]

def test_a_learner_trains_and_predicts_in_order(made, tmp_path, recipe):
    import torch
    import fastai.callback.progress  # noqa: F401, adds no_bar to Learner
    from fastai.learner import Learner
    store,tune = image_store(made, folder=tmp_path/'s'),patient_split(made, .3)
    layers = torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 1), torch.nn.Flatten(0)
    net = torch.nn.Sequential(*layers)
    loss = lambda p,y,t: torch.nn.functional.binary_cross_entropy_with_logits(p, y)
    learn = Learner(train_dls(made, tune, store, recipe, seed=1, device='cpu'), net, loss_func=loss)
    with learn.no_bar(), learn.no_logging():
        learn.fit(2)
        preds,_ = learn.get_preds(dl=eval_dl(made, store, recipe, device='cpu'))
    with torch.no_grad(): direct = torch.cat([net.cpu()(x) for x,_,_ in eval_dl(made, store, recipe, device='cpu')])
    assert torch.allclose(preds, direct, atol=1e-5)

def test_training_refuses_what_would_be_wrong(made, tmp_path, recipe):
    store,tune = image_store(made, folder=tmp_path/'s'),patient_split(made, .3)
    train = made.split=='train'
    unlabelled = made.assign(label=made.label.where(made.index!=made.index[~tune & train][0]))
    go = lambda df,tune: train_dls(df, tune, store, recipe, device='cpu')
    with pytest.raises(ValueError, match='not of train'): go(made, made.split=='valid')
    with pytest.raises(ValueError, match='split by patient'): go(made, train & (np.arange(len(made))%2==0))
    with pytest.raises(ValueError, match='without label'): go(unlabelled, tune)
    with pytest.raises(ValueError, match='no tuning'): go(made, tune & False)
    with pytest.raises(ValueError, match='values for'): go(made, tune[1:])
    smaller = image_store(made[1:], folder=tmp_path/'s2')
    with pytest.raises(ValueError, match='not in the store'): eval_dl(made, smaller, recipe)

def test_augmentation_speed(tmp_path):
    "At least 150 images a second of one core's time, from 512 px files"
    names = [f'train/XR_HAND/patient0000{i}/study1_positive/image1.png' for i in range(8)]
    for i,n in enumerate(names): write_picture(tmp_path/'d'/n, i, (512, 420))
    df = mura_index(tmp_path/'d')
    augmented = dict(resize=256, crop=224, rotate=30, random_crop=True, flip=True)
    recipe = replace(settings('smoke').recipe('lite0_smoke'), **augmented)
    views = Views(df, image_store(df, folder=tmp_path/'s'), recipe, train=True)
    start = time.thread_time()
    for i in range(160): views[i%8]
    assert 160/(time.thread_time()-start) > 150


def test_one_picture_is_read_or_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)  # as fastai leaves it
    a = np.random.default_rng(0).integers(0, 256, (60, 40), dtype=np.uint8)
    Image.fromarray(a).save(tmp_path/'a.png')
    Image.fromarray(a).save(tmp_path/'b.jpg')
    np.testing.assert_array_equal(read_picture(tmp_path/'a.png'), a)
    (tmp_path/'b.jpg').write_bytes((tmp_path/'b.jpg').read_bytes()[:900])
    with pytest.raises(ValueError, match='b.jpg: cannot be read'): read_picture(tmp_path/'b.jpg')
    with pytest.raises(FileNotFoundError, match='c.png'): read_picture(tmp_path/'c.png')
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
