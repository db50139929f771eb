"""Loading runs no code, and what is not as it should be is refused with a typed error.

Settings files, cards, weights, databases, exported networks, lists and DICOM files are changed at random, from a seed,
and loaded in a forked process in which nothing may start a process, connect, write, unpickle or load a library. Where
atheris is installed (the extra `torture`), parsers are also fuzzed under its guidance by coverage. Then the page:
twenty uploads at a time."""

import copy, json, os, random, re, subprocess, sys, tempfile, threading, warnings
from pathlib import Path
import numpy as np
from . import ROOT, child, ended, summary

LONGEST = 900  # seconds of one target
FORBIDDEN = re.compile(
    r'subprocess\.Popen|os\.(system|exec|posix_spawn|spawn|fork|putenv|remove|rename|rmdir|chmod)|socket\.'
    r'(connect|getaddrinfo|bind)|pickle\.find_class|ctypes\.dlopen|shutil\.|urllib|webbrowser|code\.__new__|cpython\.run'
)
ODD = (
    None,
    True,
    False,
    0,
    -1,
    2**63,
    10**400,
    1e308,
    float('nan'),
    '',
    'x',
    '../../etc/passwd',
    '/etc/passwd',
    '__import__',
    'os.system',
    'hf-hub:evil/net',
    'timm:hf-hub:evil/net',
    'timm:local-dir:/tmp',
    'torchvision:../x',
    'x' * 10000,
    [],
    {},
    [[]] * 50,
    {'__class__': 'os'},
    [None],
    ['a', 1],
    {'a': {'b': {}}},
    '\ud800',
    '\0',
    '${HOME}',
    '%(x)s',
    'imagenet',
    'packaged',
)


def watch():
    "From now on in this process, what loading must not do is noted"
    noted, sys.dont_write_bytecode = [], True

    def heard(event, args):
        writes = event == 'open' and args[2] & (os.O_WRONLY | os.O_RDWR) and not str(args[0]).startswith('/dev')
        if writes or FORBIDDEN.match(event):
            noted.append(f'{event} {args!r:.100}')

    sys.addaudithook(heard)
    return noted


# -- changes -----------------------------------------------------------------------------------------------------------


def of_bytes(data, rng):
    "Bytes with some changed, taken out, doubled, or cut off"
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at, n = rng.randrange(len(data) or 1), rng.choice((1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at : at + n] = rng.randbytes(n)
        elif kind == 2:
            del data[at : at + n]
        elif kind == 3:
            data[at:at] = data[at : at + n]
        elif kind == 4:
            data[at : at + n] = rng.choice((b'\xff', b'\0', b'\x7f')) * n
        elif rng.random() < 0.2:
            del data[at:]
    return bytes(data)


def of_json(value, rng):
    "A value of JSON with something in it replaced, taken out or added"
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 3))):
        here = value
        while isinstance(here, dict) and here:
            key = rng.choice(sorted(here))
            if isinstance(here[key], dict) and here[key] and rng.random() < 0.8:
                here = here[key]
            elif rng.random() < 0.15:
                here = here.pop(key) and {}
            else:
                here[key if rng.random() < 0.9 else rng.choice(('x', '', '__class__'))] = copy.deepcopy(rng.choice(ODD))
                break
    return value


def of_settings(text, rng):
    "Lines of a settings file changed"
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at, kind = rng.randrange(len(lines)), rng.randrange(5)
        if kind == 0:
            lines[at] = lines[at].partition('=')[0] + f'= {rng.choice(ODD)}'
        elif kind == 1:
            del lines[at]
        elif kind == 2:
            lines.insert(at, rng.choice(lines))
        elif kind == 3:
            lines[at] = of_bytes(lines[at].encode() or b'x', rng).decode('latin-1')
        else:
            lines.insert(
                at,
                rng.choice(('[profile smoke]', '[', '[recipe ]', 'like = tiny', '= x', '[DEFAULT]', '\0', '%(x)s = 1')),
            )
    return '\n'.join(lines)


# -- targets: what is loaded, and which errors are its own -----------------------------------------------------------


class Target:
    "Something that is loaded from files in a folder"

    errors = (ValueError, FileNotFoundError)

    def __init__(self, folder):
        self.folder = folder

    def change(self, rng):
        raise NotImplementedError

    def load(self):
        raise NotImplementedError


class SettingsFile(Target):
    "settings.ini"
    def __init__(self, folder):
        from .kills import SETTINGS
        super().__init__(folder)
        self.file, self.text = folder/'settings.ini', SETTINGS
        self.file.write_text(self.text)

    def change(self, rng):
        self.file.write_text(of_settings(self.text, rng), encoding='utf-8', errors='surrogatepass')

    def load(self):
        from mura_nb.settings import settings
        settings('smoke', self.file)


class Card(Target):
    "the card of a model"

    def __init__(self, folder):
        from mura_nb.results import save_model
        from .inputs import tiny_model

        super().__init__(folder)
        self.file = save_model(*tiny_model(), folder / 'net')
        self.card, self.weights = json.loads((folder / 'net.json').read_text()), self.file.read_bytes()

    def change(self, rng):
        text = json.dumps(of_json(self.card, rng))
        if rng.random() < 0.2:
            text = of_bytes(text.encode(), rng).decode('latin-1')
        (self.folder / 'net.json').write_text(text, encoding='utf-8')

    def load(self):
        from mura_nb.networks import load_model

        load_model(self.file)


class Weights(Card):
    "the weights of a model, their checksum on the card made right or not"

    def change(self, rng):
        import hashlib, pickle

        data = (
            of_bytes(self.weights[:2000], rng) + self.weights[2000:]
            if rng.random() < 0.7
            else of_bytes(self.weights, rng)
        )
        if rng.random() < 0.1:
            data = pickle.dumps(Path('x'))
        self.file.write_bytes(data)
        right = dict(sha256=hashlib.sha256(data).hexdigest()) if rng.random() < 0.8 else {}
        (self.folder / 'net.json').write_text(json.dumps(self.card | right))


class CodeDatabase(Target):
    "a database of codes"

    def __init__(self, folder):
        import pandas as pd
        from mura_nb.database import append_in_place, create_database

        super().__init__(folder)
        self.file = folder / 'db.hdf5'
        create_database(
            self.file, 8, dict(recipe='tiny', backbone='timm:test_efficientnet', weights='0' * 12, preprocessing='{}')
        )
        rows = pd.DataFrame(
            dict(
                path=[f'train/XR_WRIST/patient{i:05}/study1_positive/image1.png' for i in range(40)],
                study_type='WRIST',
                label=1,
                patient='patient00001',
                study='train/XR_WRIST/patient00001/study1_positive',
            )
        )
        append_in_place(self.file, np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32), rows)
        self.data = self.file.read_bytes()

    def change(self, rng):
        whole = len(self.data) if rng.random() < 0.5 else 4000
        self.file.write_bytes(of_bytes(self.data[:whole], rng) + self.data[whole:])

    def load(self):
        from mura_nb.database import Database

        db = Database(self.file)
        db.nearest(np.zeros(db.width, np.float32), 3)


class Exported(Target):
    "an exported network (ONNX)"

    def __init__(self, folder):
        import onnx
        from onnx import TensorProto, helper

        super().__init__(folder)
        self.file = folder / 'net.onnx'
        x, y = (
            helper.make_tensor_value_info(n, TensorProto.FLOAT, s)
            for n, s in (('x', ['n', 1, 8, 8]), ('y', ['n', 1, 1, 1]))
        )
        graph = helper.make_graph(
            [helper.make_node('GlobalAveragePool', ['x'], ['m']), helper.make_node('Sigmoid', ['m'], ['y'])],
            'g',
            [x],
            [y],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8), self.file)
        self.data = self.file.read_bytes()

    def change(self, rng):
        self.file.write_bytes(of_bytes(self.data, rng))

    def load(self):
        from mura_nb.asked import onnx_model

        onnx_model(self.file)([np.zeros((20, 20), np.uint8)])


class AnyList(Target):
    "a list of files"
    errors = (ValueError,)
    text = 'path,label,study,study_type\np/a.png,1,s,WRIST\n"p/b.png",0,t,hand\n'

    def __init__(self, folder):
        super().__init__(folder)
        self.file = folder/'list.csv'
        self.file.write_text(self.text)

    def change(self, rng):
        text = rng.choice(('', 'sep=;\n', '\ufeff')) + self.text.replace(',', rng.choice(',;\t'))
        self.file.write_bytes(of_bytes(text.encode(rng.choice(('utf-8', 'utf-16', 'cp1252')), 'replace'), rng))

    def load(self):
        from mura_nb.batch import views_of
        from mura_nb.lists import list_fields
        views_of([self.file])
        list_fields(self.file)


class ScanFile(Target):
    "a DICOM file"
    errors = ()  # `scan_file` says why it cannot read

    def __init__(self, folder):
        from .inputs import originals
        super().__init__(folder)
        self.file, self.data = folder/'x.dcm', [d for k, d in originals().items() if k.startswith('DICOM')]
        self.file.write_bytes(self.data[0])

    def change(self, rng):
        data = rng.choice(self.data)
        self.file.write_bytes(of_bytes(data[:1200], rng) + data[1200:])

    def load(self):
        from mura_nb.headers import header
        from mura_nb.images import scan_file
        scan_file(self.file)
        header(self.file)


TARGETS = dict(
    settings=(SettingsFile, 400),
    card=(Card, 300),
    weights=(Weights, 150),
    database=(CodeDatabase, 300),
    onnx=(Exported, 300),
    list=(AnyList, 400),
    dicom=(ScanFile, 400),
)


def attack(name, folder, seed, tried, out):
    "Rows of JSON: number, what went wrong"
    warnings.simplefilter('ignore')
    target = TARGETS[name][0](folder)
    target.load()  # what it imports is there
    noted = watch()
    with open(out, 'a', buffering=1) as rows:
        for i in tried:
            target.change(random.Random(f'{seed} {name} {i}'))
            noted.clear()
            rows.write(f'{i}\t')
            fault = ''
            try:
                target.load()
            except target.errors:
                pass
            except BaseException as e:
                fault = f'{type(e).__name__}: {e}'
            rows.write((fault or '; '.join(noted))[:300].replace('\n', ' ') + '\n')


def fuzz(name, base, seed, n):
    "Number of the change -> what went wrong, '' for nothing; a crash is blamed on the change that it happened at"
    folder, out, found = base / name, base / f'{name}.out', {}
    folder.mkdir()
    out.touch()
    while len(found) < n:
        log = base / 'log'
        log.unlink(missing_ok=True)
        how = ended(child(attack, name, folder, seed, range(len(found), n), out, log=log), LONGEST)
        lines = [line.split('\t', 1) for line in out.read_text().split('\n') if '\t' in line]
        if how != 0 and len(lines) == len(found):
            raise RuntimeError(f'{name}: {log.read_text(errors="replace")[-2000:]}')
        found = {int(i): said for i, said in lines}
        if how != 0:
            found[len(found) - 1] = f'the process ended with {how}' if how is not None else 'it hangs'
            out.write_text(''.join(f'{i}\t{said}\n' for i, said in found.items()))
    return found


# -- guided by coverage ------------------------------------------------------------------------------------------------

GUIDED = dict(dicom=4000, list=10000, settings=4000)


def guided(name, base, seed, runs):
    "How atheris ended after so many runs: 0 where it found nothing; None where it is not installed"
    if subprocess.run([sys.executable, '-c', 'import atheris'], capture_output=True).returncode:
        return None
    command = [
        sys.executable,
        '-m',
        'torture.guided',
        name,
        f'-runs={runs}',
        f'-seed={seed + 1}',
        f'-artifact_prefix={base}/',
        '-timeout=60',
    ]
    done = subprocess.run(command, capture_output=True, text=True, errors='replace', cwd=ROOT / 'tests')
    if done.returncode:
        print(done.stderr[-3000:])
    return done.returncode


# -- the page ----------------------------------------------------------------------------------------------------------


def multipart(name, data):
    edge = 'edgeedgeedge'
    shown = name.encode('utf-8', 'replace').replace(b'"', b'%22').replace(b'\n', b'%0A').replace(b'\r', b'')
    head = b'--%s\r\nContent-Disposition: form-data; name="files"; filename="%s"\r\n\r\n' % (edge.encode(), shown)
    body = head + data + f'\r\n--{edge}--\r\n'.encode()
    return body, {'Content-Type': f'multipart/form-data; boundary={edge}', 'Content-Length': str(len(body))}


def visit(server, number, file):
    "Upload a file and ask about it; all that was answered, as text"
    import http.client

    body, headers = multipart(file.name, file.read_bytes())
    status, _, said = server.ask('/gradio_api/upload', 'POST', headers, body)
    answers = [f'{status} '.encode() + said]
    try:
        files = (
            [dict(path=p, meta={'_type': 'gradio.FileData'}, orig_name=file.name) for p in json.loads(said)]
            if status == 200
            else []
        )
    except ValueError:
        files = []
    for fn, data in ((0, [files, None]), (2, [None, 'lite0_smoke', 'not given', False])):
        ask = json.dumps(dict(data=data, fn_index=fn, session_hash=f's{number}'))
        answers.append(server.ask('/gradio_api/queue/join', 'POST', {'Content-Type': 'application/json'}, ask)[2])
        c = http.client.HTTPConnection('127.0.0.1', server.port, timeout=300)
        c.request('GET', f'/gradio_api/queue/data?session_hash=s{number}')
        answers.append(c.getresponse().read())
    return b'\n'.join(answers).decode('utf-8', 'replace')


def page(base, seed):
    "Rows (what, tried, as it should be) of an attack on the page, and what was wrong"
    import test_app as T
    from .inputs import make_corpus, originals

    folder = base / 'page'
    folder.mkdir()
    text = (ROOT / 'settings.ini').read_text()
    (folder / 'settings.ini').write_text(text)
    corpus = make_corpus(base / 'corpus of files', seed)
    small = [base / 'corpus of files' / p for p in corpus.path if (base / 'corpus of files' / p).stat().st_size < 10**6]
    files = random.Random(seed).sample(small, 40)
    good = folder/'good.png'
    good.write_bytes(originals()['PNG'])
    T.model_files(folder, ROOT)
    server = T.Server(folder, ROOT)
    wrong, answers, alive = [], [], 0
    try:
        for turn in (files[:20], files[20:]):

            def one(i, file):
                answers.append((file, visit(server, i, file)))

            threads = [threading.Thread(target=one, args=(f'{len(answers)}x{i}', file)) for i, file in enumerate(turn)]
            for t in threads:
                t.start()
            for t in threads:
                t.join(600)
            ok = 'Called' in visit(server, f'good{len(answers)}', good) and server.ask('/')[0] == 200
            alive += ok
            if not ok:
                wrong.append(f'page dead: {server.log.read_text()[-500:]}')
        inside = (str(ROOT), str(folder), 'site-packages', str(Path(sys.prefix)), 'Traceback')
        own = re.compile(re.escape(str(server.scratch)) + r'/mura_nb-app-\w+')  # of the upload, which Gradio hands on
        said = [(file, own.sub('', text.replace('\\\\', '\\'))) for file, text in answers]
        told = [f'{file.name!r}: {p}' for file, text in said for p in inside if p in text]
        refused = [
            (dict(Host='evil.example'), 400),
            (dict(Host=f'localhost:{server.port}', Origin='http://evil.example'), 403),
            (dict(Host=f'localhost:{server.port}', Origin='null'), 403),
            (dict(Host=f'localhost:{server.port}', Origin=f'http://localhost:{server.port}'), None),
        ]
        asked = [
            server.ask('/gradio_api/upload', 'POST', h | multipart('a.png', b'x')[1], multipart('a.png', b'x')[0])[0]
            for h, _ in refused
        ]
        kept = [got == want if want else got < 400 for got, (_, want) in zip(asked, refused)]
        wrong += [f'{file.name!r}: no answer' for file in files if file not in {f for f, _ in answers}]
        wrong += told + [f'{h}: {got}' for (h, _), got, ok in zip(refused, asked, kept) if not ok]
        rows = [
            ('page, alive after twenty uploads at a time', 2, alive),
            (
                'page, answers without a path of the machine',
                len(files),
                len(answers) - len({t.split(':')[0] for t in told}),
            ),
            ('page, host and origin', len(kept), sum(kept)),
        ]
    finally:
        server.stop()
    return rows, wrong


def main(tried=None, seed=None):
    "All targets, or with `tried` ten times as many changes of each, without atheris and the page"
    seed = 0 if seed is None else seed
    sys.path.insert(0, str(ROOT / 'tests'))
    import mura_nb.asked, mura_nb.batch, onnx, onnxruntime  # noqa: F401

    rows, wrong = [], []
    with tempfile.TemporaryDirectory(prefix='fuzz-') as folder:
        base = Path(folder).resolve()
        for name, (kind, n) in TARGETS.items():
            found = fuzz(name, base, seed, min(n, 10*tried) if tried else n)
            bad = {i: said for i, said in found.items() if said}
            rows.append((kind.__doc__, len(found), len(found) - len(bad)))
            wrong += [f'{name} {i}: {said}' for i, said in bad.items()]
        for name, runs in GUIDED.items() if not tried else ():
            how = guided(name, base, seed, runs)
            if how is not None:
                rows.append((f'{TARGETS[name][0].__doc__}, guided by coverage', runs, runs - bool(how)))
            if how:
                wrong.append(f'{name}, guided: ended with {how}')
        if not tried:
            more, bad = page(base, seed)
            rows, wrong = rows + more, wrong + bad
    for line in wrong:
        print(line)
    summary('fuzz', rows, seed)
    return not wrong
