"""Trees in exactly the formats of public datasets, with their traps; the pictures are tiny noise, nothing is copied."""
import json
from pathlib import Path
import numpy as np
from PIL import Image

FLAGS = 'hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,fracture_count,frontal,lateral,oblique'
GRAZ = ('filestem,patient_id,study_number,timehash,gender,age,laterality,projection,initial_exam,ao_classification,'
    'cast,diagnosis_uncertain,osteopenia,fracture_visible,metal,pixel_spacing,device_manufacturer')
CLASSES = ('boneanomaly', 'bonelesion', 'foreignbody', 'fracture', 'metal', 'periostealreaction', 'pronatorsign',
    'softtissue', 'text')


def noise(seed, size=(30, 20)): return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def save(path, pixels, **kw):
    "A picture at `path`, its folders made"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **kw)
    return path


def write(path, text):
    "A text at `path`, byte for byte"
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def orientation(tag):
    "Exif data with an orientation tag"
    exif = Image.Exif()
    exif[274] = tag
    return exif


def fracatlas_picture(root, number, label):
    "Path of a picture of FracAtlas"
    return Path(root)/'images'/('Fractured' if label else 'Non_fractured')/f'IMG{number:07}.jpg'


def write_coco(path, names, boxes, sizes=None, first=1):
    "FracAtlas' COCO file: category id 0, image ids from 1, annotation ids from 0, an outline and a box each"
    images = [dict(id=i, width=w, height=h, file_name=n)
        for i, (n, (h, w)) in enumerate(zip(names, sizes or [(30, 20)]*len(names)), first)]
    at = {n: i for i, n in enumerate(names, first)}
    def outline(x, y, w, h): return [[x, y, x+w, y, x+w, y+h, x, y+h]]
    annotations = [dict(id=i, iscrowd=0, image_id=at[n], category_id=0, segmentation=outline(*b), bbox=list(b),
        area=b[2]*b[3]) for i, (n, b) in enumerate(boxes)]
    data = dict(info=dict(description='my-project-name'), images=images, annotations=annotations,
        categories=[dict(id=0, name='fractured')])
    write(path, json.dumps(data))


def make_fracatlas(root, nested=False):
    """FracAtlas with: a leg, an arm with a leg, an arm with a shoulder; a turned picture; a padded and a damaged file;
    a copy of 12 at 40 and a contradicting one of 20 at 41; a missing normal; two boxes in one picture; a count that is
    wrong; a picture that the csv calls fractured, but neither folder nor boxes do"""
    root = Path(root)/'FracAtlas' if nested else Path(root)
    rows = [ # number, hand, leg, hip, shoulder, fractured, count
        (6, 1, 0, 0, 0, 0, 0), (10, 1, 0, 0, 0, 1, 1), (11, 1, 0, 0, 0, 0, 0), (12, 0, 0, 0, 1, 1, 2),
        (13, 0, 1, 0, 0, 0, 0), (14, 1, 0, 0, 1, 1, 1), (15, 1, 1, 0, 0, 0, 0), (20, 1, 0, 0, 0, 0, 0),
        (22, 1, 0, 0, 0, 1, 3), (23, 1, 0, 0, 0, 1, 1), (25, 1, 0, 0, 0, 0, 0), (26, 1, 0, 0, 0, 0, 0),
        (28, 1, 0, 0, 0, 0, 0), (40, 0, 0, 0, 1, 1, 1), (41, 1, 0, 0, 0, 1, 1), (50, 1, 0, 0, 0, 0, 0)]
    lines = [f'IMG{n:07}.jpg,{h},{g},{p},{s},{int(h+g+p+s>1)},0,0,{f},{c},1,0,0' for n, h, g, p, s, f, c in rows]
    write(root/'dataset.csv', f'image_id,{FLAGS}\n' + '\n'.join(lines) + '\n')
    copies = {40: 12, 41: 20}
    for n, *_, fractured, _ in rows:
        if n == 28: continue # listed, but lost
        kw = dict(exif=orientation(6)) if n == 10 else {}
        pixels = noise(copies.get(n, n))
        file = save(fracatlas_picture(root, n, fractured and n != 23), pixels, quality=90, **kw)
        if n == 25: file.write_bytes(file.read_bytes() + bytes(np.random.default_rng(0).integers(1, 99, 400, np.uint8)))
        if n == 26: file.write_bytes(file.read_bytes()[:400])
    boxes = [('IMG0000010.jpg', (2, 3, 10, 8)), ('IMG0000012.jpg', (1, 1, 4, 4)), ('IMG0000012.jpg', (5, 6, 9, 9)),
        ('IMG0000014.jpg', (0, 0, 5, 5)), ('IMG0000022.jpg', (3, 3, 30, 5)), ('IMG0000040.jpg', (1, 1, 4, 4)),
        ('IMG0000041.jpg', (1, 1, 4, 4))]
    names = list(dict.fromkeys(n for n, _ in boxes))
    sizes = [(20, 30) if n == 'IMG0000010.jpg' else (30, 20) for n in names] # as shown, after turning
    write_coco(root/'Annotations/COCO JSON/COCO_fracture_masks.json', names, boxes, sizes)
    write(root/'Annotations/YOLO/IMG0000006.txt', '')
    write(root/'Utilities/Fracture Split/train.csv', 'image_id\nIMG0000010.jpg\n')
    return root


def make_graz(root):
    """GRAZPEDWRI-DX: byte order mark, Windows line ends, flags 1 or empty, grey PNG of 16 bit; a sitting with two study
    numbers, a patient with both sides, plaster, metal, follow-up; a text box in a normal picture"""
    root = Path(root)
    rows = [ # stem, patient, study, time, side, projection, initial, cast, fracture, metal, lines of the YOLO file
        ('0007_0500000000_01_WRI-L1_M014', 7, 1, 500000000, 'L', 1, 1, '', 1, '', '3 0.5 0.5 0.2 0.4\n8 .1 .1 .1 .1'),
        ('0007_0500000900_02_WRI-L2_M014', 7, 2, 500000900, 'L', 2, 1, '', 1, '', '3 0.25 0.5 0.1 0.2'),
        ('0007_0600000000_03_WRI-R1_M014', 7, 3, 600000000, 'R', 1, 1, '', '', '', '8 0.1 0.1 0.1 0.1'),
        ('0007_0700000000_04_WRI-L1_M014', 7, 4, 700000000, 'L', 1, '', 1, 1, '', '3 0.5 0.5 0.2 0.4'),
        ('0038_0132774724_01_WRI-R1_F009', 38, 1, 132774724, 'R', 1, 1, '', '', '', ''),
        ('0038_0132774725_01_WRI-R2_F009', 38, 1, 132774725, 'R', 2, 1, '', '', '', None),
        ('0133_0306769742_07_WRI-R1_M015', 133, 7, 306769742, 'R', 1, '', '', '', 1, '4 0.5 0.5 0.2 0.4'),
        ('0412_1230151360_01_WRI-R1_O016', 412, 1, 1230151360, 'R', 1, 1, '', 1, '', '')]
    lines = [f'{s},{p},{k},{t},M,{14.1},{side},{view},{i},23r-M/2.1; 23u-E/7,{cast},,,{f},{metal},0.144,Siemens'
        for s, p, k, t, side, view, i, cast, f, metal, _ in rows]
    write(root/'dataset.csv', '\ufeff' + '\r\n'.join([GRAZ, *lines, '']))
    yolo = root/'folder_structure/yolov5'
    write(yolo/'meta.yaml', 'path: ../datasets/wrist\nnames:\n' + ''.join(f'- {c}\n' for c in CLASSES) + 'nc: 9\n')
    for i, (stem, *_, text) in enumerate(rows):
        pixels = np.linspace(0, 65535, 1200).astype(np.uint16).reshape(40, 30)
        save(root/f'images_part{i%4+1}'/f'{stem}.png', np.roll(pixels, i, 1))
        if text is not None: write(yolo/'labels'/f'{stem}.txt', text)
    return root


def make_yolo(root, valid='valid', names='list', labels='labels'):
    "A Roboflow export: outlines and boxes, an empty and an absent label file, copies of a source in two splits"
    root = Path(root)
    classes = ('elbow positive', 'forearm fracture', 'humerus')
    listed = f'[{", ".join(classes)}]' if names == 'list' else ''.join(f'\n  {i}: {c}' for i, c in enumerate(classes))
    write(root/'data.yaml', f'train: ../train/images\nval: ../nowhere\nnc: 3\nnames: {listed}\n')
    files = [('train', 'image1_2128', 'a', '1 0.5 0.5 0.2 0.4'), (valid, 'image1_2128', 'b', '1 .5 .5 .2 .4'),
        ('train', 'image1_1000', 'c', '0 .1 .2 .3 .2 .3 .6 .1 .6'), ('train', 'image2_7', 'd', ''),
        ('test', 'image3_9', 'e', None), ('test', 'image3_10', 'f', '2 0.5 0.5 0.2 0.4')]
    for i, (split, source, copy, text) in enumerate(files):
        stem = f'{source}_png.rf.{copy*32}'
        save(root/split/'images'/f'{stem}.jpg', noise(i, (40, 20)))
        if text is not None: write(root/split/labels/f'{stem}.txt', text)
    return root


def make_coco_export(root):
    "A Roboflow export as COCO: a file beside the pictures of each split, category 0 the unused name of the project"
    root = Path(root)
    for s, split in enumerate(('train', 'valid')):
        names = [f'wrist{k}_jpg.rf.{s*10+k:032x}.jpg' for k in range(3)]
        for k, n in enumerate(names): save(root/split/n, noise(s*10+k))
        images = [dict(id=k, file_name=n, width=20, height=30) for k, n in enumerate(names)]
        kinds = [dict(id=i, name=n) for i, n in enumerate(('bone-fracture', 'angle', 'fracture', 'line'))]
        boxes = [dict(id=0, image_id=0, category_id=2, bbox=[1, 2, 3, 4]), dict(id=1, image_id=1, category_id=1,
            bbox=[1, 2, 3, 4])]
        write(root/split/'_annotations.coco.json', json.dumps(dict(images=images, annotations=boxes, categories=kinds)))
    return root


def make_plain_fracatlas(root, pictures=150, side=None):
    """FracAtlas without traps: runs of three, arms and shoulders, a bright spot where there is a fracture, in some
    pictures two; labels differ within runs; sizes of the spots vary, unless `side` gives one for all"""
    root, lines, boxes, sizes = Path(root), [], [], []
    for i in range(pictures):
        run, rng = i//3, np.random.default_rng(i)
        number, spots = i + run, (rng.random() < .4)*(1 + (i % 4 == 0))
        hand, shoulder = [(1, 0), (1, 0), (0, 1), (1, 1)][run//3 % 4]
        pixels = np.clip(rng.normal(90, 12, (120, 90)), 0, 255).astype(np.uint8)
        pixels[:, 35:55] += 60
        for spot in range(spots):
            w, h = (side, side) if side else (int(n) for n in rng.integers(5, 26, 2))
            x, y = int(rng.integers(30, 60-w//2)), 6 + 55*spot + int(rng.integers(0, 25))
            pixels[y:y+h, x:x+w] = 250
            boxes.append((f'IMG{number:07}.jpg', (x, y, w, h)))
        if spots: sizes.append((120, 90))
        save(fracatlas_picture(root, number, spots > 0), pixels)
        mixed, fractured = int(hand+shoulder > 1), int(spots > 0)
        lines.append(f'IMG{number:07}.jpg,{hand},0,0,{shoulder},{mixed},0,0,{fractured},{spots},1,0,0')
    write(root/'dataset.csv', f'image_id,{FLAGS}\n' + '\n'.join(lines) + '\n')
    names = list(dict.fromkeys(n for n, _ in boxes))
    write_coco(root/'Annotations/COCO JSON/COCO_fracture_masks.json', names, boxes, sizes)
    return root
