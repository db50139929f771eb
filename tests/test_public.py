"Public datasets: each trap of their formats, on trees that `public_trees` makes; and a real part, where it is at hand."
import json, os, shutil
from pathlib import Path
import numpy as np, pandas as pd, pytest
from mura_nb.core import types_of
from mura_nb.data import check_index, counts, image_store, load_data, mura_index
from mura_nb.images import read_picture
from mura_nb.public import held_out_groups, known_boxes, link_public, public_index, public_problems
from public_trees import (fracatlas_picture, make_coco_export, make_fracatlas, make_graz, make_yolo, noise, save,
    write)

# a real part: where the variable says (read at import, before the tests' environment is made), or beside the project
BESIDE = Path(__file__).parents[2]/'shared'/'real'/'FracAtlas'
REAL = os.environ.get('MURA_NB_FRACATLAS') or (BESIDE.is_dir() and str(BESIDE))


def problems_of(df):
    "The problems of an index as a table"
    return pd.DataFrame(public_problems(df), columns=['level', 'problem', 'path', 'detail'])


def named(df, problem):
    "File names that a problem is reported of"
    t = problems_of(df)
    return sorted({p.rsplit('/', 1)[-1] for p in t.path[t.problem == problem]})


@pytest.fixture(scope='module')
def atlas(tmp_path_factory): return make_fracatlas(tmp_path_factory.mktemp('made')/'FracAtlas')


def test_fracatlas_takes_arms_and_drops_copies(atlas):
    df, _ = public_index(atlas)
    numbers = sorted(int(p[-11:-4]) for p in df.path)
    assert numbers == [6, 10, 11, 12, 14, 22, 23, 25, 50]
    kinds = df.set_index(df.path.str[-11:-4].astype(int)).study_type
    assert kinds[[6, 12, 14]].tolist() == ['ARM', 'SHOULDER', 'ARM_SHOULDER']
    assert list(df) == ['path', 'split', 'study_type', 'patient', 'study', 'label'] and str(df.label.dtype) == 'Int8'
    assert df.attrs['label_means'] == 'a fracture' and df.attrs['root'] == str(atlas)
    assert named(df, 'same picture twice') == ['IMG0000040.jpg']
    assert named(df, 'same picture, two labels') == ['IMG0000020.jpg', 'IMG0000041.jpg']
    assert {'LEG', 'OTHER'} <= set(public_index(atlas, every=True)[0].study_type)


def test_runs_of_numbers_are_patients_and_join_through_copies(atlas):
    df, _ = public_index(atlas)
    patient = df.set_index(df.path.str[-11:-4].astype(int)).patient
    assert patient[10] == patient[11] == patient[12] == 'patient00010'
    assert patient[14] == 'patient00014', 'a leg between two arms ends a run'
    assert df.groupby('patient').split.nunique().max() == 1
    assert df.study.is_unique, 'no sitting is known, so each picture is a study'


def test_labels_that_disagree_are_errors_and_counts_are_warnings(atlas):
    df, _ = public_index(atlas)
    t = problems_of(df)
    assert t.path[t.level == 'error'].str[-14:].tolist() == ['IMG0000023.jpg', 'IMG0000026.jpg']
    assert named(df, 'csv, folder and boxes disagree') == ['IMG0000023.jpg']
    assert named(df, 'csv and boxes disagree') == ['IMG0000022.jpg']
    assert named(df, 'missing file') == ['IMG0000028.jpg']


def test_a_padded_file_is_read_and_a_damaged_one_is_not(atlas):
    df, _ = public_index(atlas)
    assert named(df, 'padded file') == ['IMG0000025.jpg'] and named(df, 'unreadable image') == ['IMG0000026.jpg']
    padded = next(p for p in df.path if '0000025' in p)
    assert read_picture(atlas/padded).shape == (30, 20)


def test_boxes_are_in_pixels_of_the_picture_as_shown(atlas):
    df, boxes = public_index(atlas)
    at = boxes.set_index(boxes.path.str[-11:-4].astype(int))[['x0', 'y0', 'x1', 'y1']]
    assert read_picture(fracatlas_picture(atlas, 10, True)).shape == (20, 30), 'the tag turns 30 x 20 by a quarter'
    assert at.loc[10].tolist() == [2, 3, 12, 11] and named(df, 'orientation tag') == ['IMG0000010.jpg']
    assert len(at.loc[[12]]) == 2, 'two fractures'
    assert at.loc[22].tolist() == [3, 3, 20, 8] and named(df, 'box over the edge') == ['IMG0000022.jpg']
    assert set(boxes.path) <= set(df.path) and set(boxes.kind) == {'fractured'}


def test_boxes_made_for_another_size_are_an_error(tmp_path):
    root = make_fracatlas(tmp_path)
    save(fracatlas_picture(root, 14, True), noise(14, (60, 40)))
    df, _ = public_index(root)
    assert named(df, 'boxes for another size') == ['IMG0000014.jpg']
    assert '0000014' not in ''.join(load_data(root, folder=tmp_path/'store').df.path)


def test_a_nested_folder_gives_the_same(atlas, tmp_path):
    make_fracatlas(tmp_path, nested=True)
    df, boxes = public_index(tmp_path)
    plain, plain_boxes = public_index(atlas)
    assert df.study.tolist() == plain.study.tolist() and (df.path == 'FracAtlas/' + plain.path).all()
    assert boxes.iloc[:, 1:].equals(plain_boxes.iloc[:, 1:])


def test_an_odd_flag_is_an_error(tmp_path):
    root = make_fracatlas(tmp_path)
    text = (root/'dataset.csv').read_text()
    write(root/'dataset.csv', text.replace('IMG0000006.jpg,1', 'IMG0000006.jpg,yes'))
    with pytest.raises(ValueError, match="hand = 'yes': a flag must be 0, 1 or empty"): public_index(root)


def test_graz(tmp_path):
    df, boxes = public_index(make_graz(tmp_path))
    assert len(df) == 6 and set(df.study_type) == {'WRIST'} and df.label.sum() == 3
    stem = df.path.str.extract(r'/(\d+_\d+)')[0]
    study = df.set_index(stem).study
    assert study['0007_0500000000'] == study['0007_0500000900'], 'one sitting with two study numbers'
    assert study['0007_0600000000'] != study['0007_0500000000'], 'the other side'
    assert sorted(df.patient.unique()) == ['patient00007', 'patient00038', 'patient00412']
    first = boxes[boxes.path.str.contains('0007_0500000000')].set_index('kind')
    np.testing.assert_allclose(first.loc['fracture', ['x0', 'y0', 'x1', 'y1']].astype(float), [12, 12, 18, 28])
    assert 'text' in first.index, 'all drawn boxes are given'
    assert named(df, 'csv and boxes disagree') == ['0412_1230151360_01_WRI-R1_O016.png']
    assert len(public_index(tmp_path, every=True)[0]) == 8


def test_a_sitting_is_abnormal_where_any_of_its_views_is(tmp_path):
    root = make_graz(tmp_path)
    lines = (root/'dataset.csv').read_bytes().decode().split('\r\n')
    at = next(i for i, line in enumerate(lines) if line.startswith('0007_0500000900'))
    lines[at] = lines[at].replace('23u-E/7,,,,1,', '23u-E/7,,,,,')
    write(root/'dataset.csv', '\r\n'.join(lines))
    df, _ = public_index(root)
    of_sitting = df[df.path.str.contains('0007_05')]
    assert of_sitting.study.nunique() == 1 and of_sitting.label.tolist() == [1, 1]
    assert named(df, 'views of a sitting differ') == ['0007_0500000900_02_WRI-L2_M014.png']
    assert df.attrs['study_means'] == 'the views of one side in one sitting'
    assert df.attrs['label_means'] == 'a fracture in any view of the sitting'


def test_sixteen_bits_are_not_clipped(tmp_path):
    df, _ = public_index(make_graz(tmp_path))
    grey = read_picture(tmp_path/df.path.min())
    assert (grey.min(), grey.max()) == (0, 255) and 120 < grey.mean() < 135
    assert len(named(df, '16 bits')) == len(df)


@pytest.mark.parametrize('names', ['list', 'dict'])
@pytest.mark.parametrize(('valid', 'labels'), [('valid', 'labels'), ('val', 'labels'), ('validation', 'lables')])
def test_yolo(tmp_path, valid, labels, names):
    df, boxes = public_index(make_yolo(tmp_path, valid, names, labels))
    assert len(df) == 6 and set(df.study_type) == {'OTHER'}
    label = df.groupby(df.path.str.extract(r'(image\d_\d+)')[0]).label.max()
    assert label.to_dict() == {'image1_2128': 1, 'image1_1000': 1, 'image2_7': 0, 'image3_9': 0, 'image3_10': 0}
    assert df[df.path.str.contains('image1_2128')].patient.nunique() == 1, 'copies of one source stay together'
    at = boxes.set_index(boxes.path.str.extract(r'(image\d_\d+)')[0])
    np.testing.assert_allclose(at.loc['image1_1000', ['x0', 'y0', 'x1', 'y1']].astype(float), [2, 8, 6, 24])
    assert set(boxes.kind) == {'elbow positive', 'forearm fracture', 'humerus'}
    assert public_index(tmp_path, kinds=['humerus'])[0].label.sum() == 1
    with pytest.raises(ValueError, match='no class crack; there is elbow positive'):
        public_index(tmp_path, kinds=['crack'])


@pytest.mark.parametrize(('line', 'message'), [('0 .5 .5', '3 fields'), ('9 .5 .5 .1 .1', 'class 9; there is 0, 1, 2'),
    ('0 a .5 .1 .1', 'could not convert')])
def test_yolo_lines_that_make_no_sense(tmp_path, line, message):
    root = make_yolo(tmp_path)
    write(next((root/'train/labels').glob('*.txt')), line)
    with pytest.raises(ValueError, match=message): public_index(root)


def test_coco_export(tmp_path):
    df, boxes = public_index(make_coco_export(tmp_path))
    assert len(df) == 6 and df.label.sum() == 2 and df.attrs['kinds'] == ['bone-fracture', 'fracture']
    assert df.patient.nunique() == 3, 'wrist0 of both splits is one source'
    one, _ = public_index(tmp_path/'train'/'_annotations.coco.json')
    assert len(one) == 3 and (tmp_path/'train'/one.path[0]).is_file()
    assert set(boxes.kind) == {'fracture', 'angle'}


def coco_tree(root, names, listed, boxes=((0, 0),), **changes):
    "Pictures at `names`, and a COCO file of the names `listed`; boxes: annotation id, image id"
    for k, n in enumerate(names): save(root/n, noise(k))
    data = dict(categories=[dict(id=0, name='fracture')],
        images=[dict(id=k, file_name=n, width=20, height=30) for k, n in enumerate(listed)],
        annotations=[dict(id=a, image_id=i, category_id=0, bbox=[1, 2, 3, 4]) for a, i in boxes]) | changes
    write(root/'a.coco.json', json.dumps(data))
    return root


@pytest.mark.parametrize('listed', ['images/0.png', './images/0.png', 'images\\\\0.png'])
def test_a_coco_name_is_a_path(tmp_path, listed):
    "Masks of the same name lie beside, and come first in the alphabet"
    df, boxes = public_index(coco_tree(tmp_path, ['Masks/0.png', 'images/0.png'], [listed]))
    assert df.path.tolist() == boxes.path.tolist() == ['images/0.png']
    assert problems_of(df)[['problem', 'path']].to_numpy().tolist() == [['image not listed', 'Masks/0.png']]


def test_coco_pictures_of_the_same_name_stay_two(tmp_path):
    df, boxes = public_index(coco_tree(tmp_path, ['a/0.png', 'b/0.png'], ['a/0.png', 'b/0.png'], [(0, 1)]))
    assert sorted(df.path) == ['a/0.png', 'b/0.png'] and not public_problems(df)
    assert boxes.path.tolist() == df.path[df.label == 1].tolist() == ['b/0.png']


def test_a_coco_name_that_may_mean_two_pictures_is_left_out(tmp_path):
    names = ['a/0.png', 'b/0.png', 'deep/x/1.png', 'deep/y/1.png', 'c/2.png', 'd/3.png']
    df, _ = public_index(coco_tree(tmp_path, names, ['0.png', 'x/1.png', 'elsewhere/2.png', 'e/3.png', 'f/3.png']))
    assert sorted(df.path) == ['c/2.png', 'deep/x/1.png']
    t = problems_of(df)
    assert t.path[(t.problem == 'ambiguous file') & (t.level == 'error')].tolist() == ['0.png', 'e/3.png', 'f/3.png']
    assert t.path[t.problem == 'image not listed'].tolist() == ['deep/y/1.png']
    with pytest.raises(FileNotFoundError, match='ambiguous file: 0.png'):
        public_index(coco_tree(tmp_path/'more', names, ['0.png']))


BOX = dict(id=9, image_id=0, category_id=0, bbox=[1, 2, 3, 4])
RUNS = dict(size=[30, 20], counts='abc')
@pytest.mark.parametrize(('changes', 'message'), [
    (dict(annotations=[BOX | dict(category_id=7)]), 'annotations, id 9: category 7; there is .0.'),
    (dict(annotations=[dict(id=9, image_id=0, category_id=0, segmentation=RUNS)]), 'annotations, id 9: neither a box'),
    (dict(annotations=[BOX | dict(bbox=['a', 1, 2, 3])]), 'annotations, id 9: neither a box'),
    (dict(annotations=[dict(id=9, category_id=0)]), 'annotations, id 9: lacks image_id'),
    (dict(annotations=[BOX | dict(image_id=[1])]), 'annotations, id 9: image_id is'),
    (dict(images=[dict(id=0, file_name='0.png')]), 'annotations, id 0: its image 0.png: lacks width'),
    (dict(images=[dict(id=0)]), 'images, id 0: lacks file_name'),
    (dict(images=[dict(id=0, file_name=n, width=20, height=30) for n in ('0.png', '1.png')]), 'of 0.png and of 1.png'),
    (dict(images=['0.png']), 'it lacks images'), (dict(categories={}), 'it lacks categories')])
def test_coco_entries_that_make_no_sense(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f'a.coco.json: .*{message}'):
        public_index(coco_tree(tmp_path, ['0.png', '1.png'], ['0.png'], **changes))


def test_annotations_of_pictures_that_are_not_listed_are_told(tmp_path):
    df, boxes = public_index(coco_tree(tmp_path, ['0.png'], ['0.png'], [(0, 0), (3, 5), (4, 5)]))
    assert len(df) == len(boxes) == 1 and 'left out: 2, such as 3' in problems_of(df).detail.item()


def yolo_tree(root, files):
    "Pictures and label files of a tree with one class"
    write(root/'data.yaml', 'names: [fracture]')
    for n, text in files.items():
        if n.endswith('.txt'): write(root/n, text)
        else: save(root/n, noise(len(n)))
    return root


@pytest.mark.parametrize(('picture', 'label'), [('images/train/x.png', 'labels/train/x.txt'),
    ('d/images/images/a/x.png', 'd/images/labels/a/x.txt'), ('train/images/x.png', 'train/labels/x.txt'),
    ('train/images/x.png', 'train/lables/x.txt'), ('images/x.png', 'labels/x.txt'), ('x.png', 'x.txt')])
def test_yolo_labels_are_found(tmp_path, picture, label):
    "Beside them a readme, and a copy of the labels under another name where the usual one is there"
    files = {picture: None, label: '0 .5 .5 .2 .4', 'README.txt': 'Made up', 'classes.txt': 'fracture'}
    if '/labels/' in label: files[label.replace('labels', 'labels_old')] = '0 .1 .1 .1 .1'
    df, boxes = public_index(yolo_tree(tmp_path, files))
    assert df.label.tolist() == [1] and boxes.x0.round().tolist() == [8]
    assert named(df, 'labels of no picture') == (['x.txt'] if '/labels/' in label else [])


def test_yolo_labels_that_are_of_no_picture(tmp_path):
    label = '0 .5 .5 .2 .4'
    root = yolo_tree(tmp_path, {'images/a.png': None, 'labels/b.txt': label, 'labels/c.txt': ''})
    with pytest.raises(ValueError, match='1 label files, such as labels/b.txt, of which none.*labels/a.txt'):
        public_index(root)
    df, _ = public_index(yolo_tree(root, {'images/a.png': None, 'labels/a.txt': label}))
    assert named(df, 'labels of no picture') == ['b.txt'] and df.label.tolist() == [1]
    df, _ = public_index(yolo_tree(root, {'a/p/d.png': None, 'a/one/d.txt': label, 'a/two/d.txt': ''}))
    assert named(df, 'ambiguous file') == ['d.png']


def test_graz_pictures_that_lie_where_yolo_looks_too(tmp_path):
    root = make_graz(tmp_path)
    plain, boxes = public_index(root)
    for p in plain.path: save(root/'folder_structure/yolov5/images/train'/os.path.basename(p), noise(1))
    df, _ = public_index(root)
    assert df.path.tolist() == plain.path.tolist() and not named(df, 'ambiguous file')
    labels = root/'folder_structure/yolov5/labels'
    for f in list(labels.glob('*.txt')): write(labels/'train'/f.name, f.read_text()) or f.unlink()
    assert len(public_index(root)[1]) == len(boxes) == 4
    write(labels/'train/other.txt', '3 0.5 0.5 0.2 0.4')
    assert named(public_index(root)[0], 'labels of no picture') == ['other.txt']


def test_a_fracatlas_picture_in_both_folders_is_an_error(tmp_path):
    root = make_fracatlas(tmp_path)
    save(fracatlas_picture(root, 6, True), noise(99))
    df, _ = public_index(root)
    assert named(df, 'ambiguous file') == ['IMG0000006.jpg'] and not df.path.str.contains('0000006').any()


def test_splits_depend_on_the_seed_and_not_on_the_order():
    images = pd.DataFrame(dict(group=np.arange(80)//2, study_type='ARM', label=np.arange(80)//2 % 4 == 0))
    images = images.astype({'label': int})
    first = held_out_groups(images, .25, 0)
    assert len(first) == 10 and first == held_out_groups(images[::-1], .25, 0)
    assert first != held_out_groups(images, .25, 1)


def test_checks_of_a_public_index(atlas, tmp_path):
    df, _ = public_index(atlas)
    report = check_index(df, store=image_store(df, folder=tmp_path/'store', strict=False))
    assert {'padded file', 'orientation tag', 'same picture twice', 'missing file'} <= set(report.warnings.problem)
    assert set(report.errors.problem) == {'csv, folder and boxes disagree', 'unreadable image'}
    assert len(report.usable(df)) == len(df) - 1
    assert types_of(df.study_type) == ('SHOULDER', 'ARM', 'ARM_SHOULDER') == tuple(counts(df).index[:3])


def test_links_are_a_folder_like_muras(atlas, tmp_path):
    df, boxes = public_index(atlas)
    linked = link_public(atlas, tmp_path/'linked')
    index = mura_index(linked)
    assert index.groupby(['study', 'label']).size().to_dict() == df.groupby(['study', 'label']).size().to_dict()
    truth = known_boxes(linked)
    assert len(truth) == boxes.path.nunique() and truth.path.isin(index.path).all()
    assert truth[truth.path.str.contains('SHOULDER/patient00010')].x0.item() == 5, 'the larger of two'
    data = load_data(linked, folder=tmp_path/'store')
    assert len(data.df) == len(df) - 1 and 'padded file' in set(data.report.warnings.problem)
    assert 'image not listed' not in set(data.report.table.problem)
    sources = pd.read_csv(linked/'truth'/'sources.csv').set_index('path').source
    assert all((linked/p).resolve() == (atlas/s).resolve() for p, s in sources.items())


def test_links_follow_a_change(tmp_path):
    root = make_fracatlas(tmp_path/'FracAtlas')
    linked = link_public(root, tmp_path/'linked')
    before = len(mura_index(linked))
    fracatlas_picture(root, 6, False).unlink()
    assert len(mura_index(link_public(root, linked))) == before - 1
    shutil.rmtree(linked/'truth')
    with pytest.raises(ValueError, match='was not made by link_public'): link_public(root, linked)


def test_only_counted_kinds_become_truth(tmp_path):
    linked = link_public(make_graz(tmp_path/'graz'), tmp_path/'linked')
    assert set(known_boxes(linked).kind) == {'fracture'}


def test_one_box_an_image_is_given_as_it_stands(tmp_path):
    table = pd.DataFrame(dict(path=['b', 'a', 'c'], kind='fracture', bone=['ulna', '', 'ulna'], x0=[1, 2, np.nan],
        y0=[1, 2, np.nan], x1=[3, 5, np.nan], y1=[4, 6, np.nan]))
    (tmp_path/'truth').mkdir()
    table.to_csv(tmp_path/'truth/boxes.csv', index=False)
    pd.testing.assert_frame_equal(known_boxes(tmp_path), pd.read_csv(tmp_path/'truth/boxes.csv'))
    assert known_boxes(tmp_path/'elsewhere') is None


@pytest.mark.skipif(not REAL, reason='MURA_NB_FRACATLAS names no folder, and ../shared/real holds none')
def test_a_real_part(tmp_path):
    df, boxes = public_index(REAL)
    assert set(df.study_type) <= {'ARM', 'SHOULDER', 'ARM_SHOULDER'}
    assert df.groupby('patient').split.nunique().max() == 1
    assert (df.path.isin(boxes.path) == df.label.eq(1)).mean() > .99
    assert (boxes.x1 > boxes.x0).all() and (boxes.y1 > boxes.y0).all()
    report = load_data(REAL, folder=tmp_path/'store').report
    assert {'padded file', 'orientation tag', 'same picture twice'} <= set(report.warnings.problem)


def test_kept_tables_have_the_columns_of_the_demos(root):
    "A table whose columns change is made anew for the public dataset too; kinds of abnormality are the phantom's alone"
    def columns(f): return [c for c in pd.read_csv(f, nrows=0) if not c.startswith('kind')]
    ours, theirs = (root/'results'/name/'tables' for name in ('demo', 'fracatlas'))
    both = [f.name for f in sorted(theirs.glob('*.csv')) if (ours/f.name).is_file()]
    assert len(both) > 20 and [n for n in both if columns(ours/n) != columns(theirs/n)] == []
