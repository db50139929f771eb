"""Bad input by the hundred: does each get its typed error or its reported row, in bounded memory and time?

A corpus is made from a seed: pictures and DICOM files cut off, with flipped bits, of odd sizes, modes and names, larger
than they say, links and pipes, and lists as nobody should have them. Each file goes four ways: read alone, judged in a
batch with all others, given to the page, decoded into an image store."""

import io, json, os, random, re, resource, socket, struct, sys, tempfile, time, warnings, zlib
from pathlib import Path
import numpy as np, pandas as pd
from PIL import Image
from . import ROOT, TABLES, child, ended, kill, summary

MEMORY, LONGEST = 2**30, 120  # bytes that one file may take to be read; seconds
READ, REFUSED, EITHER = 'read', 'refused', 'either'


# -- the corpus --------------------------------------------------------------------------------------------------------


def encoded(picture, kind, **options):
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
        out := io.BytesIO(), kind, **options
    )
    return out.getvalue()


def dicom(grey, syntax=None, **tags):
    import dicoms

    ds = dicoms.radiograph(grey, **tags)
    if syntax:
        ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(out := io.BytesIO(), enforce_file_format=True)
    return out.getvalue()


def rle(grey):
    import dicoms
    from pydicom.uid import RLELossless

    ds = dicoms.radiograph(grey)
    ds.compress(RLELossless, generate_instance_uid=False)
    ds.save_as(out := io.BytesIO(), enforce_file_format=True)
    return out.getvalue()


def originals():
    "Format -> bytes of one radiograph"
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
    from test_input_check import GREY

    pictures = {k: encoded(GREY, k) for k in ('PNG', 'JPEG', 'TIFF', 'BMP', 'GIF', 'WEBP', 'JPEG2000')}
    wide = GREY.astype(np.uint16) << 4
    return pictures | {
        'PNG of 16 bits': encoded(wide, 'PNG'),
        'TIFF, deflated': encoded(GREY, 'TIFF', compression='tiff_deflate'),
        'DICOM': dicom(GREY),
        'DICOM of 12 bits': dicom(wide, BitsStored=12, HighBit=11, WindowCenter=2000, WindowWidth=4000),
        'DICOM, implicit': dicom(GREY, ImplicitVRLittleEndian),
        'DICOM, deflated': dicom(GREY, DeflatedExplicitVRLittleEndian),
        'DICOM, RLE': rle(GREY),
    }


SUFFIX = dict(PNG='.png', JPEG='.jpg', TIFF='.tif', BMP='.bmp', GIF='.gif', WEBP='.webp', JPEG2000='.jp2', DICOM='.dcm')


def suffix(kind):
    return SUFFIX[re.match(r'\w+', kind)[0]]


def damaged(rng):
    "(kind, name, bytes, wanted) of files cut off and with flipped bits"
    for kind, data in originals().items():
        for i in range(7):
            yield 'cut off', f'{kind} {i}', data[: rng.randrange(1, len(data))], EITHER, suffix(kind)
        for i in range(14):
            flipped = bytearray(data)
            far = len(data) if i % 2 else min(len(data), 1000)  # headers, where a bit says more
            for at in rng.sample(range(far), min(far, rng.choice((1, 3, 20)))):
                flipped[at] ^= 1 << rng.randrange(8)
            yield 'bits flipped', f'{kind} {i}', bytes(flipped), EITHER, suffix(kind)
        yield 'empty', kind, b'', REFUSED, suffix(kind)
        yield 'another suffix', kind, data, READ, rng.choice(list(SUFFIX.values()))


def modes():
    "Pictures of modes and sizes that a radiograph seldom has"
    from test_input_check import GREY

    grey, colour = Image.fromarray(GREY), Image.fromarray(np.stack([GREY] * 3, 2))
    alpha = np.dstack([GREY] * 3 + [255 - GREY // 2])
    real = GREY.astype(np.float32)
    gaps = np.where(GREY > 200, np.nan, real).astype(np.float32)
    yield 'mode', 'one bit', encoded(grey.convert('1'), 'PNG'), READ, '.png'
    yield 'mode', 'palette', encoded(colour.quantize(64), 'PNG'), READ, '.png'
    yield 'mode', 'palette with a transparent colour', encoded(colour.quantize(64), 'PNG', transparency=3), READ, '.png'
    yield 'mode', 'grey with alpha', encoded(Image.fromarray(alpha[..., 2:], 'LA'), 'PNG'), READ, '.png'
    yield 'mode', 'colour with alpha', encoded(Image.fromarray(alpha), 'PNG'), READ, '.png'
    for kind in ('JPEG', 'TIFF'):
        yield 'mode', f'CMYK {kind}', encoded(colour.convert('CMYK'), kind), READ, suffix(kind)
    yield 'mode', 'Lab', encoded(Image.fromarray(alpha[..., :3], 'LAB'), 'TIFF'), EITHER, '.tif'
    yield 'mode', '16 bits', encoded(GREY.astype(np.uint16) * 257, 'PNG'), READ, '.png'
    yield 'mode', '32 bits', encoded(GREY.astype(np.int32) * 70000, 'TIFF'), REFUSED, '.tif'
    yield 'mode', 'negative', encoded(GREY.astype(np.int32) - 9, 'TIFF'), REFUSED, '.tif'
    for name, values in (('real', real), ('NaN', gaps), ('infinite', np.where(GREY > 200, np.inf, real))):
        yield 'floating point', name, encoded(values.astype(np.float32), 'TIFF'), REFUSED, '.tif'
    for h, w in ((1, 1), (10, 30000), (30000, 10), (1, 30000), (2, 2), (5000, 31)):
        for kind in ('PNG', 'TIFF', 'DICOM'):
            shape = np.resize(GREY, (h, w))
            data = dicom(shape) if kind == 'DICOM' else encoded(shape, kind)
            yield 'size', f'{w} x {h} {kind}', data, READ, suffix(kind)
    pages = encoded(grey, 'TIFF', save_all=True, append_images=[grey] * 3)
    yield 'mode', 'four pages', pages, REFUSED, '.tif'
    yield 'mode', 'moving GIF', encoded(grey, 'GIF', save_all=True, append_images=[grey.rotate(9)]), EITHER, '.gif'


def png(width, height, depth=8, extra=b''):
    "A PNG of zeros"

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    row, pack = bytes(1 + width * depth // 8), zlib.compressobj(1)
    rows = b''.join(pack.compress(row) for _ in range(min(height, 40000))) + pack.flush()
    head = struct.pack('>IIBBBBB', width, height, depth, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', head) + extra + chunk(b'IDAT', rows) + chunk(b'IEND', b'')


def text_bomb(kind, before):
    data = before + zlib.compress(bytes(300_000_000), 1)
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def deflated_bomb():
    "A DICOM file of 7 MB that unpacks to 1.6 GB"
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    whole = dicom(np.zeros((8, 8), np.uint8), DeflatedExplicitVRLittleEndian)
    size = 144 + struct.unpack('<I', whole[140:144])[0]
    pack = zlib.compressobj(1, zlib.DEFLATED, -15)
    head = b'\x08\x00\x05\x00CS\x0a\x00ISO_IR 100' + b'\xe0\x7f\x10\x00OB\x00\x00' + struct.pack('<I', 0xFFFFFFF0)
    parts = [pack.compress(head)] + [pack.compress(bytes(2**24)) for _ in range(100)] + [pack.flush()]
    return whole[:size] + b''.join(parts)


def nested(depth=4000):
    "A DICOM file with sequences in sequences"
    whole = dicom(np.zeros((8, 8), np.uint8))
    open_ = b'\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff' + b'\xfe\xff\x00\xe0\xff\xff\xff\xff'
    close = b'\xfe\xff\x0d\xe0\0\0\0\0' + b'\xfe\xff\xdd\xe0\0\0\0\0'
    at = whole.index(b'\x10\x00\x10\x00PN')
    return whole[:at] + open_ * depth + close * depth + whole[at:]


def bombs():
    "Small files that say they are large"
    from test_input_check import GREY

    yield 'bomb', 'PNG, 50,000 x 50,000', png(50000, 50000, 1), REFUSED, '.png'
    yield 'bomb', 'PNG, 20,000 x 20,000', png(20000, 20000), REFUSED, '.png'
    yield 'bomb', 'PNG, 10,000 x 10,000', png(10000, 10000), EITHER, '.png'
    yield 'bomb', 'PNG of 16 bits, 10,000 x 10,000', png(10000, 10000, 16), EITHER, '.png'
    yield 'bomb', 'PNG of 2 GB a row', png(2**31 - 1, 1, 1)[:200], REFUSED, '.png'
    note, profile = text_bomb(b'zTXt', b'a\0\0'), text_bomb(b'iCCP', b'a\0\0')
    yield 'bomb', 'PNG with 300 MB of text', png(64, 64, 8, note), EITHER, '.png'
    yield 'bomb', 'PNG with 300 MB of profile', png(64, 64, 8, profile), EITHER, '.png'
    whole = bytearray(encoded(GREY, 'GIF'))
    whole[6:10] = struct.pack('<HH', 65535, 65535)
    yield 'bomb', 'GIF', bytes(whole), REFUSED, '.gif'
    jpeg = bytearray(encoded(GREY, 'JPEG'))
    at = jpeg.index(b'\xff\xc0')
    jpeg[at + 5 : at + 9] = struct.pack('>HH', 65500, 65500)
    yield 'bomb', 'JPEG', bytes(jpeg), REFUSED, '.jpg'
    bmp = bytearray(encoded(GREY, 'BMP'))
    bmp[18:26] = struct.pack('<ii', 2**30, 2**30)
    yield 'bomb', 'BMP', bytes(bmp), REFUSED, '.bmp'
    yield 'bomb', 'PPM', b'P5 99999 99999 255\n' + bytes(100), REFUSED, '.ppm'
    tiff = bytearray(encoded(GREY, 'TIFF', compression='tiff_deflate'))
    for tag, value in ((256, 2**20), (257, 2**20)):
        at = tiff.index(struct.pack('<H', tag), struct.unpack('<I', tiff[4:8])[0])
        tiff[at + 2 : at + 12] = struct.pack('<HII', 4, 1, value)
    yield 'bomb', 'TIFF', bytes(tiff), REFUSED, '.tif'
    loop = bytearray(encoded(GREY, 'TIFF'))
    first = struct.unpack('<I', loop[4:8])[0]
    n = struct.unpack('<H', loop[first : first + 2])[0]
    loop[first + 2 + 12 * n : first + 6 + 12 * n] = struct.pack('<I', first)
    yield 'bomb', 'TIFF whose second page is its first', bytes(loop), EITHER, '.tif'
    yield 'bomb', 'DICOM of 65,535 x 65,535', dicom(GREY, Rows=65535, Columns=65535), REFUSED, '.dcm'
    yield 'bomb', 'DICOM that unpacks to 1.6 GB', deflated_bomb(), REFUSED, '.dcm'
    yield 'bomb', 'DICOM nested 4,000 deep', nested(), EITHER, '.dcm'
    yield 'bomb', 'DICOM of 4 billion frames', dicom(GREY, NumberOfFrames='4000000000'), REFUSED, '.dcm'


NAMES = (
    'a b.png',
    "quote'.png",
    'quote".png',
    'two\nlines.png',
    'tab\t.png',
    '\u00fc\u00f1\u4e2d.png',
    'e\u0301.png',
    '\u00e9.png',
    '-o.png',
    '--help.png',
    '%s%n.png',
    '$(touch x).png',
    '`x`.png',
    '<img src=x onerror=alert(1)>.png',
    '&amp;.png',
    '..png',
    '...png',
    'A.PNG',
    'a.PnG',
    'a.png.png',
    ' .png',
    'a;b.png',
    'a|b.png',
    '*.png',
    '[a].png',
    '~.png',
    '#.png',
    '\u202egnp.exe.png',
    '\u200b.png',
    'x' * 251 + '.png',
    'a\\b.png',
    'con.png',
    '=1+1.png',
    os.fsdecode(b'bad\xff.png'),
    '\x7f.png',
    '\x1b[31mred.png',
)


def make_corpus(folder, seed):
    "Write the files; a table: path, kind, name, wanted"
    from test_input_check import GREY

    rng, rows = random.Random(seed), []
    for i, (kind, name, data, wanted, end) in enumerate([*damaged(rng), *modes(), *bombs()]):
        path = f'{kind}/{i:03d}{end}'
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
        rows.append((path, kind, name, wanted))
    (folder / 'name').mkdir()
    for name in NAMES:
        (folder / 'name' / name).write_bytes(encoded(GREY, 'PNG'))
        rows.append((f'name/{name}', 'name', repr(name), READ))
    return pd.DataFrame(rows, columns=['path', 'kind', 'name', 'wanted'], dtype=object)


def make_traps(folder):
    "Links and things that are no files"
    from test_input_check import GREY

    folder.mkdir()
    (folder / 'good.png').write_bytes(encoded(GREY, 'PNG'))
    (folder / 'circle').symlink_to('.')
    (folder / 'up').symlink_to('../traps')
    (folder / 'self.png').symlink_to('self.png')
    (folder / 'gone.png').symlink_to('nowhere.png')
    (folder / 'endless.png').symlink_to('/dev/zero')
    (folder / 'folder.png').mkdir()
    os.mkfifo(folder / 'pipe.png')
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(os.path.relpath(folder / 'socket.png'))


# -- the ways ----------------------------------------------------------------------------------------------------------


def peak():
    "Highest memory since `forget_peak`, bytes"
    return int(re.search(r'VmHWM:\s*(\d+)', Path('/proc/self/status').read_text())[1]) * 1024


def forget_peak():
    Path('/proc/self/clear_refs').write_text('5')


def in_bounds(call, *args):
    "In a forked process: no more memory than `MEMORY` beside what is there"
    now = int(Path('/proc/self/statm').read_text().split()[0]) * os.sysconf('SC_PAGE_SIZE')
    resource.setrlimit(resource.RLIMIT_AS, (now + 2 * MEMORY,) * 2)
    warnings.simplefilter('ignore')
    call(*args)


def each_alone(folder, paths, out):
    "A row of JSON a file: number, what came of it, seconds, memory"
    from mura_nb.images import read_picture

    with open(out, 'a', buffering=1) as rows:
        for i, path in paths:
            forget_peak()
            before, begin = peak(), time.time()
            try:
                grey = read_picture(folder / path)
                ok = grey.ndim == 2 and grey.dtype == np.uint8 and grey.size
                said = READ if ok else f'gave {grey.dtype} {grey.shape}'
            except ValueError as e:
                said = REFUSED if str(folder / path) in str(e) else f'an error that names no file: {e}'
            except BaseException as e:
                said = f'{type(e).__name__}: {e}'
            rows.write(json.dumps([i, said[:200], round(time.time() - begin, 2), peak() - before]) + '\n')


def alone(folder, corpus):
    "What came of each file, with crashes and hangs blamed on the file they happened at"
    out, found = folder.parent / 'alone.jsonl', {}
    while len(found) < len(corpus):
        left = [(i, p) for i, p in enumerate(corpus.path) if i not in found]
        pid, seen, since = child(in_bounds, each_alone, folder, left, out, log=folder.parent / 'log'), -1, time.time()
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            size = out.stat().st_size if out.exists() else 0
            if size != seen:
                seen, since = size, time.time()
            if done or time.time() - since > LONGEST:
                break
            time.sleep(0.05)
        if not done:
            kill(pid), os.waitpid(pid, 0)
        lines = out.read_text().splitlines() if out.exists() else []
        found |= {row[0]: row[1:] for row in map(json.loads, lines)}
        if len(found) < len(corpus):
            first = next(i for i, _ in left if i not in found)
            how = f'the process ended with {os.waitstatus_to_exitcode(status)}' if done else 'it hangs'
            found[first] = [how, LONGEST, 0]
    rows = pd.DataFrame([found[i] for i in range(len(corpus))], columns=['said', 'seconds', 'memory'])
    return pd.concat([corpus, rows], axis=1)


def tiny_model():
    "An untrained network with its card"
    from dataclasses import replace
    from mura_nb.settings import settings
    from mura_nb.networks import SingleLogit

    recipe = replace(settings('smoke').recipe('lite0_smoke'), backbone='timm:test_efficientnet', weights='none')
    return SingleLogit(recipe.backbone).eval(), dict(architecture='single_logit', recipe=recipe.card())


def in_a_batch(folder, paths, out):
    "Paths that a batch neither judges nor reports; it says how many are no pictures, and says nothing of hidden files"
    from mura_nb.batch import views_of
    from mura_nb.images import LeftAsideWarning, kind_of_file
    from mura_nb.serving import probabilities

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always', LeftAsideWarning)
        views, unread = views_of([folder])
        answers = list(probabilities(views.file, tiny_model(), 'torch'))
    known = {os.path.relpath(a.image, folder) for a in answers if a.error is not None or 0 <= a.prob <= 1}
    known |= {os.path.relpath(u.path, folder) for u in unread}
    lost = [p for p in paths if p not in known and not Path(p).name.startswith('.')]
    left = re.search(r'(\d+) that are no pictures', ' '.join(str(w.message) for w in said))
    told = {p for p in lost if not kind_of_file(folder/p)}
    if left and len(told) == int(left[1]): lost = [p for p in lost if p not in told]
    Path(out).write_text(json.dumps(lost))


def on_the_page(folder, paths, out):
    "Paths that the page neither shows nor reports"
    from mura_nb.layout import shown_name
    from mura_nb.studies import read_study

    lost = []
    for i in range(0, len(paths), 10):
        study = read_study([folder / p for p in paths[i : i + 10]])
        known = {v.name for v in study.views} | {name for name, _ in study.problems}
        names = [shown_name(Path(p).name) for p in paths[i : i + 10]]
        lost += [p for p, name in zip(paths[i : i + 10], names) if name not in known]
    Path(out).write_text(json.dumps(lost))


def in_a_store(folder, paths, out):
    "Paths that an image store neither holds nor reports"
    from mura_nb.images import ImageStore

    store = ImageStore(folder, paths, folder.parent / 'store', strict=False)
    Path(out).write_text(json.dumps([p for p in paths if (p in store) == (p in store.problems)]))


def whole(way, folder, paths):
    "Paths that a way loses, or all of them with why where it fails as a whole"
    out, log = folder.parent / f'{way.__name__}.json', folder.parent / 'log'
    log.unlink(missing_ok=True)
    how = ended(child(in_bounds, way, folder, paths, out, log=log), 10 * LONGEST)
    if how != 0:
        return list(paths), f'ended with {how}: ' + ' '.join(log.read_text(errors='replace').split())[-300:]
    return json.loads(out.read_text()), ''


# -- lists -------------------------------------------------------------------------------------------------------------


def bad_lists(rng):
    "(name, bytes): lists of two pictures, p/a.png and p/b.png, with things that lists should not have"
    good = 'p/a.png'
    odd = (
        '../../../../etc/passwd',
        '/etc/passwd',
        'p/../p/b.png',
        './p//b.png',
        'p\\b.png',
        'C:\\p\\b.png',
        '\\\\host\\p\\b.png',
        'file:///etc/passwd',
        'http://localhost/b.png',
        'p/B.PNG',
        'P/b.png',
        'p/b.png ',
        ' p/b.png',
        '~/b.png',
        '$HOME/b.png',
        'p',
        'p/',
        '.',
        '..',
        '/',
        'x' * 5000,
        'p/' + 'y' * 300 + '.png',
        'p/b.png\0',
        'p/b.png\x1a',
        '\ufffdb.png',
        '=cmd|calc',
        'p/a.png',
    )
    for path in odd:
        yield f'path {path[:40]!r}', f'path,label\n{good},1\n{path},0\n'.encode()
    for label in ('2', '-1', 'nan', '1e400', 'yes', 'abnormal', '', ' ', '01', '1.5', '\u0661', 'True', '1' * 5000):
        yield f'label {label[:40]!r}', f'path,label\n{good},1\np/b.png,{label}\n'.encode()
    for code in ('utf-8-sig', 'utf-16', 'utf-16-le', 'utf-16-be', 'utf-32', 'cp1252', 'utf-7'):
        yield f'in {code}', f'path,label\n{good},1\np/b.png,0\n'.encode(code)
    text = f'path,label,study\n{good},1,s\np/b.png,0,t\n'.encode()
    for i in range(40):
        flipped = bytearray(text)
        for at in rng.sample(range(len(text)), rng.choice((1, 2, 5))):
            flipped[at] = rng.randrange(256)
        yield f'bytes changed, {i}', bytes(flipped)
    yield 'no line end', text[:-1]
    yield 'a quotation mark', text.replace(b'p/b', b'"p/b')
    yield 'a line of 10 MB', text + b'p/b.png,' + b'0' * 10**7
    yield 'a thousand columns', b','.join(b'c%d' % i for i in range(1000)) + b'\n' + text
    yield '100,000 times the same', b'path\n' + b'p/a.png\n' * 100_000


def lost_line(folder, name, views, unread):
    "What is wrong with what came of a list of two lines; a path may lead anywhere, its file is then read or reported"
    whole = any(u.path == str(folder / 'list.csv') for u in unread)
    two = name.startswith(('path', 'label', 'in ')) and name != "path 'p/a.png'"  # which is the first line again
    return '' if whole or len(views) + len(unread) > two else 'a line is lost'


def lists(folder, out):
    "Rows: a list, and what is wrong with what came of it"
    from mura_nb.batch import views_of

    rows = []
    for i, name, data in out_of(folder):
        (folder / 'list.csv').write_bytes(data)
        try:
            views, unread = views_of([folder / 'list.csv'])
        except Exception as e:
            rows.append((i, name, f'{type(e).__name__}: {e}'[:200]))
        else:
            rows.append((i, name, lost_line(folder, name, views, unread)))
    Path(out).write_text(json.dumps(rows))


def out_of(folder):
    return [(i, n, bytes.fromhex(d)) for i, (n, d) in enumerate(json.loads((folder / 'lists.json').read_text()))]


def ask_lists(folder, seed):
    from test_input_check import GREY

    (folder / 'p').mkdir(parents=True)
    for name in ('a.png', 'b.png'):
        (folder / 'p' / name).write_bytes(encoded(GREY, 'PNG'))
    (folder / 'lists.json').write_text(json.dumps([(n, d.hex()) for n, d in bad_lists(random.Random(seed))]))
    out, log = folder.parent / 'lists.out', folder.parent / 'log'
    log.unlink(missing_ok=True)
    how = ended(child(in_bounds, lists, folder, out, log=log), 10 * LONGEST)
    if how != 0:
        return [(0, 'all', f'ended with {how}: {log.read_text(errors="replace")[-300:]}')]
    return json.loads(out.read_text())


def traps(folder, out):
    "What a folder of traps gives: only its one picture"
    from mura_nb.batch import views_of
    from mura_nb.images import picture_files

    views, unread = views_of([folder])
    names = sorted(Path(f).name for f in views.file)
    Path(out).write_text(json.dumps([names, [list(u) for u in unread], [f.name for f in picture_files(folder)]]))


# -- the whole ---------------------------------------------------------------------------------------------------------


def fault(row):
    "What is wrong with what came of a file read alone"
    if row.said not in (READ, REFUSED):
        return row.said
    if row.wanted != EITHER and row.said != row.wanted:
        return f'{row.said}, not {row.wanted}'
    return f'{row.memory / 2**20:.0f} MB' if row.memory > MEMORY else ''


def main(tried=None, seed=None):
    "The whole corpus, or a draw of `tried` files and no lists"
    seed = 0 if seed is None else seed
    sys.path.insert(0, str(ROOT / 'tests'))
    import mura_nb.batch, mura_nb.studies  # noqa: F401

    with tempfile.TemporaryDirectory(prefix='inputs-') as folder:
        base = Path(folder).resolve() / 'given'
        corpus = make_corpus(base, seed)
        if tried:
            corpus = corpus.sample(tried, random_state=seed).reset_index(drop=True)
        found = alone(base, corpus)
        found['fault'] = [fault(r) for r in found.itertuples()]
        ways = {
            w.__name__.replace('_', ' '): whole(w, base, list(corpus.path))
            for w in (in_a_batch, on_the_page, in_a_store)
        }
        rows = [(kind, len(part), int((part.fault == '').sum())) for kind, part in found.groupby('kind', sort=False)]
        rows += [(f'all of them {name}', len(corpus), len(corpus) - len(lost)) for name, (lost, _) in ways.items()]
        bad = [
            f'{r.path!r} ({r.what}): {r.fault}' for r in found.rename(columns=dict(name='what')).itertuples() if r.fault
        ]
        bad += [f'{name}: {why or lost[:5]}' for name, (lost, why) in ways.items() if lost]
        if not tried:
            asked = ask_lists(base.parent / 'lists', seed)
            rows.append(('lists', len(asked), sum(not why for *_, why in asked)))
            bad += [f'list {name}: {why}' for _, name, why in asked if why]
            os.chdir(base.parent)
            make_traps(base.parent / 'traps')
            out = base.parent/'traps.json'
            how = ended(child(in_bounds, traps, base.parent/'traps', out), LONGEST)
            said = json.loads(out.read_text()) if how == 0 else f'ended with {how}'
            fine = said == [['good.png'], [], ['good.png']]
            rows.append(('links in circles, pipes, sockets', 1, int(fine)))
            if not fine: bad.append(f'traps: {said}')
    for line in bad:
        print(line)
    TABLES.mkdir(parents=True, exist_ok=True)
    found.drop(columns=['path', 'seconds']).assign(memory=(found.memory / 2**20).round()).to_csv(
        TABLES / 'inputs_drawn.csv', index=False
    )
    summary('inputs', rows, seed)
    return not bad
