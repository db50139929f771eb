"The page in a real browser: what a visitor does, what a visitor may not do, and that nothing stays."
import http.client, io, json, os, re, shutil, signal, socket, subprocess, sys, time, zipfile
from pathlib import Path
import numpy as np, pandas as pd, pytest
from PIL import Image
from datasets import make_dataset
from mura_nb.pathology import KINDS

PAGE = Path(__file__).parents[1]/'mura_nb'/'page'
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync']
START = 'import sys, mura_nb.app as A; A.MAX_AGE, A.SWEEP_EVERY = 4, 1; A.serve(port=int(sys.argv[1]))'


def model_files(folder, root):
    "Two untrained networks that say abnormal, and one that cannot be shown; a dataset, predictions, codes"
    import torch
    from mura_nb.results import ModelFiles
    from mura_nb.networks import SingleLogit
    from mura_nb.predictions import as_predictions, save_predictions
    from mura_nb.settings import settings
    from mura_nb.results import save_model
    from mura_nb.images import ImageStore
    from mura_nb.data import mura_index
    from mura_nb.database import Encoder, encode
    s = settings(profile='smoke')
    data, out = folder/'data'/'phantom-smoke', folder/'results'/'smoke'
    paths = make_dataset(data, patients=60, size=(96, 80))
    (data/'truth').mkdir()
    abnormal = [p for p in paths if 'positive' in p]
    boxes = [(p, KINDS[i % 5], 'radius', 10, 20, 50, 70) for i, p in enumerate(abnormal)]
    columns = ['path', 'kind', 'bone', 'x0', 'y0', 'x1', 'y1']
    pd.DataFrame(boxes, columns=columns).to_csv(data/'truth'/'boxes.csv', index=False)
    df = mura_index(data)
    nets = {}
    for k, name in enumerate((s.baseline, 'lite0_smoke_b8', 'lite0_smoke_seed1')):
        torch.manual_seed(k)
        nets[name] = net = SingleLogit(s.recipe(name).backbone, 'none', 'single').eval()
        net.head.weight.data.abs_()
        net.head.bias.data.zero_()
        with torch.no_grad(): net.head.weight.data /= net(torch.rand(4, 3, 64, 64)).mean()
        platt = dict(slope=1.5, intercept=.1, n=30)
        card = dict(architecture='single_logit', recipe=s.recipe(name).card(), threshold=.2 + .1*k, platt=platt)
        if k == 2: del card['threshold']
        save_model(net, card, ModelFiles(name, out).model)
        save_predictions(as_predictions(df, np.random.default_rng(k).normal(size=len(df))), name, out)
    rows = df[df.split == 'train'].reset_index(drop=True)
    encoder = Encoder(nets[s.baseline], s.recipe(s.baseline))
    encode(rows, ImageStore(data, rows.path, folder/'store'), encoder, out/'database.hdf5')
    return s.baseline, out


def free():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


class Server:
    "The page in a process of its own, in a folder of its own"
    def __init__(self, folder, root):
        self.folder, self.scratch, self.port = folder, folder/'scratch', free()
        self.scratch.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith('MURA_NB_')}
        env |= dict(MURA_NB_PROFILE='smoke', PYTHONPATH=str(root), TMPDIR=str(self.scratch), OMP_NUM_THREADS='2')
        self.log = folder/'log'
        command = [sys.executable, '-c', START, str(self.port)]
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=log)
        self.url = f'http://localhost:{self.port}/'
        end = time.time() + 120
        while 'Ctrl-C ends it' not in self.log.read_text():
            assert self.process.poll() is None and time.time() < end, self.log.read_text()
            time.sleep(.1)

    def files(self): return [str(f.relative_to(self.scratch)) for f in self.scratch.rglob('*') if f.is_file()]

    def ask(self, path, method='GET', headers=(), body=None):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        c.request(method, path, body, dict(headers))
        r = c.getresponse()
        return r.status, r.headers, r.read()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


@pytest.fixture(scope='module')
def browser():
    if CHROMIUM is None:
        words = 'no chromium: apt-get install chromium'
        pytest.fail(words) if os.environ.get('CI') else pytest.skip(words)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield b
        b.close()


@pytest.fixture(scope='module')
def made(tmp_path_factory, browser):
    from mura_nb.core import __file__ as core
    folder = tmp_path_factory.mktemp('app')
    root = Path(core).parents[1]
    mine = 'recipes = lite0_smoke resnet50_smoke densenet169_smoke\n'
    yours = 'recipes = lite0_smoke lite0_smoke_b8 lite0_smoke_seed1\n'  # the page offers the report's models
    text = (root/'settings.ini').read_text()
    assert mine in text
    (folder/'settings.ini').write_text(text.replace(mine, yours, 1))  # the page looks for data and results there
    return folder, *model_files(folder, root)


@pytest.fixture(scope='module')
def server(made):
    s = Server(made[0], Path(__file__).parents[1])
    yield s
    s.stop()


@pytest.fixture
def visit(browser, server):
    "Opens pages; at the end: nothing was asked of anyone else, nothing was refused, no error in the console"
    wrong, contexts = [], []
    def go(**kw):
        c = browser.new_context(**kw)
        contexts.append(c)
        page = c.new_page()
        page.set_default_timeout(30_000)
        ours = server.url, 'data:', 'blob:'
        page.on('request', lambda r: None if r.url.startswith(ours) else wrong.append(r.url))
        page.on('console', lambda m: wrong.append(m.text) if m.type == 'error' else None)
        page.on('pageerror', lambda e: wrong.append(str(e)))
        page.on('dialog', lambda d: (wrong.append(f'dialog {d.message}'), d.dismiss()))
        page.goto(server.url)
        page.get_by_role('group', name='Simulated studies').wait_for()
        return page
    yield go
    for c in contexts: c.close()
    assert wrong == []


def upload(page, *files):
    "Drops files; a pair is a name and bytes"
    pairs = [(f.name, f.read_bytes()) if isinstance(f, Path) else f for f in files]
    give = [dict(name=n, mimeType='application/octet-stream', buffer=b) for n, b in pairs]
    page.locator('#drop input[type=file]').set_input_files(give)


def answered(page):
    "Waits for the answer; what it says"
    page.locator('#probability').wait_for()
    return page.locator('#answer').inner_text()


def png(seed=0, size=(90, 70)):
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(out := io.BytesIO(), 'PNG')
    return out.getvalue()


NAMES = ['one.png', 'two.jpg', 'three.tif', 'four.dcm']


def dicom(file, grey):
    "Bright bone stored as small numbers (MONOCHROME1)"
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian
    d = Dataset()
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID, d.preamble = ExplicitVRLittleEndian, bytes(128)
    d.update(dict(Modality='DX', PatientName='Doe^Jane', Rows=grey.shape[0], Columns=grey.shape[1], SamplesPerPixel=1))
    d.update(dict(PhotometricInterpretation='MONOCHROME1', BitsAllocated=8, BitsStored=8, HighBit=7))
    d.update(dict(PixelRepresentation=0, PixelData=(255-grey).tobytes()))
    d.save_as(file)


@pytest.fixture(scope='module')
def study(made, tmp_path_factory):
    "A study, its views as PNG, RGB JPEG, 16-bit TIFF and DICOM"
    folder = tmp_path_factory.mktemp('study')
    views = sorted((made[0]/'data'/'phantom-smoke'/'valid').rglob('*.png'))[:4]
    grey = [Image.open(v).convert('L') for v in views]
    grey[0].save(folder/'one.png')
    grey[1].convert('RGB').save(folder/'two.jpg', quality=95)
    Image.fromarray(np.asarray(grey[2]).astype(np.uint16)*257).save(folder/'three.tif')
    dicom(folder/'four.dcm', np.asarray(grey[3]))
    return [folder/n for n in NAMES]


@pytest.fixture(scope='module')
def truth(study, made):
    "What `localise` says of it"
    from mura_nb.gradcam import localise
    return localise([str(f) for f in study], made[2]/'models'/f'{made[1]}.safetensors')


def calibrated(p): return 1/(1 + np.exp(-(1.5*np.log(p/(1-p)) + .1)))


def test_a_study_with_a_damaged_view(visit, study, truth):
    page = visit()
    upload(page, *study, ('broken.png', b'this is no picture'))
    text = answered(page)
    assert re.search(r'Called\s+abnormal', text)
    assert f'{100*calibrated(truth[0].study_prob):.0f}' in page.locator('#probability').inner_text()
    assert re.search(r'1 file left out.*other 4 views.*broken\.png: not a picture.*PNG, JPEG', text, re.S)
    boxes = sum(r.box is not None for r in truth)
    assert page.locator('.view').count() == 4 and page.locator('rect.found').count() == boxes == 4
    assert page.locator('rect.true').count() == 0
    assert page.locator('#similar details').count() == 4
    assert page.locator('#similar details[open] li').count() == 5
    assert page.locator('#similar details[open] .chip').all_inner_texts() != []
    assert page.locator('.heat').first.is_visible()
    page.get_by_label('heat map').uncheck()
    assert not page.locator('.heat').first.is_visible() and page.locator('rect.found').count() == 4
    text = page.locator('body').inner_text()
    assert 'research only' in text.lower() and 'simulated radiographs' in text


def test_the_archive_is_what_localise_says(visit, study, truth, made):
    page = visit()
    upload(page, *study)
    answered(page)
    with page.expect_download() as d: page.get_by_role('button', name='Download the result').click()
    z = zipfile.ZipFile(d.value.path())
    told, boxes = json.loads(z.read('answer.json')), pd.read_csv(io.BytesIO(z.read('boxes.csv')))
    np.testing.assert_allclose([v['probability'] for v in told['views']], [r.prob for r in truth], atol=1e-5)
    np.testing.assert_allclose(boxes[['x0', 'y0', 'x1', 'y1']], [r.box for r in truth], atol=.1)
    assert boxes.file.tolist() == NAMES == [v['file'] for v in told['views']]
    assert told['study']['called'] == 'abnormal' and told['model']['name'] == made[1]
    assert 'not for clinical use' in told['statement']
    sizes = [Image.open(io.BytesIO(z.read(f'overlay_{i:02d}.png'))).size for i in (1, 2, 3, 4)]
    assert sizes == [r.image.shape[::-1] for r in truth]
    assert len(pd.read_csv(io.BytesIO(z.read('similar.csv')))) == 20
    assert 'Doe' not in ''.join(z.read(n).decode() for n in z.namelist() if not n.endswith('.png'))


def test_a_sample_with_its_truth(visit, server):
    page = visit()
    button = page.locator('button[data-sample]').filter(has_not_text='normal').first
    kind = button.inner_text().split(',')[0].strip()
    button.click()
    assert re.search(r'Truth, as the study is simulated: abnormal', answered(page))
    assert page.locator('rect.true').count() > 0
    page.get_by_label('Similar images of this study type only').check()
    page.get_by_text(f'kept to {kind.lower()}').wait_for()
    assert set(page.locator('#similar li > span:not(.chip)').all_text_contents()) == {kind}


def test_only_what_cannot_be_read(visit):
    page = visit()
    upload(page, ('text.png', b'hello'), ('empty.png', b''), ('tiny.png', png(size=(1, 1))))
    page.get_by_role('alert').wait_for()
    text = page.locator('#answer').inner_text()
    reasons = r'text\.png: not a picture.*empty\.png: the file is empty.*tiny\.png: 1 x 1'
    assert re.search(rf'3 files left out.*nothing to look at.*{reasons}', text, re.S)
    assert 'Traceback' not in page.content() and page.locator('#probability').count() == 0
    assert page.get_by_role('button', name='Download the result').is_disabled()
    upload(page, ('fine.png', png()))  # and the next study is answered
    answered(page)


def test_names_are_text(visit):
    page = visit()
    names = ['<img src=x onerror=alert(1)>.png', '{{constructor}} ${alert(2)}.png', 'Röntgen 手.png', 'a'*200 + '.png']
    names += ['same.png', 'same.png']
    upload(page, *[(n, png(i)) for i, n in enumerate(names)])
    text = answered(page)
    assert page.locator('.view').count() == 6 and page.locator('#answer img:not([src^="data:"])').count() == 0
    assert 'same.png (2)' in text and 'constructor' in text


def test_too_many(visit):
    page = visit()
    upload(page, *[(f'view{i:02d}.png', png(i)) for i in range(14)])
    text = answered(page)
    assert page.locator('.view').count() == 10
    assert re.search(r'4 files left out.*view10\.png: more than 10 views', text, re.S)


def test_a_phone_in_the_dark(visit, study):
    page = visit(viewport=dict(width=360, height=780), color_scheme='dark', has_touch=True, is_mobile=True)
    upload(page, *study)
    answered(page)
    assert page.evaluate('document.documentElement.scrollWidth') <= 360
    top = "document.querySelector('#answer').getBoundingClientRect().top"
    page.wait_for_function(f'{top} < innerHeight/2')  # brought into view
    colour = page.evaluate("getComputedStyle(document.querySelector('.card')).backgroundColor")
    assert max(map(int, re.findall(r'\d+', colour)[:3])) < 90


def tab_to(page, where):
    "Presses Tab until the focus is where a script says"
    for _ in range(40):
        page.keyboard.press('Tab')
        if page.evaluate(where): return
    raise AssertionError(f'the keyboard does not get to {where}')


def open_chooser(page, times=8):
    """The file chooser that Enter opens. On a busy machine Gradio may draw the page anew under the first key. Who
    listens all the time misses none that opens late: one that nobody took would keep the next from opening"""
    choosers = []
    page.on('filechooser', lambda c: choosers.append(c))
    for _ in range(times):
        tab_to(page, "document.activeElement.closest('#drop') !== null")
        page.keyboard.press('Enter')
        for _ in range(50):
            page.wait_for_timeout(100)
            if choosers: return choosers[0]
    focus = page.evaluate('document.activeElement.outerHTML.slice(0, 300)')
    raise AssertionError(f'Enter opens no file chooser at {focus}')


def test_keyboard_alone(visit, study):
    page = visit()
    page.locator('#drop input[type=file]').wait_for(state='attached')
    open_chooser(page).set_files(study)
    answered(page)
    tab_to(page, "'sample' in document.activeElement.dataset")
    page.keyboard.press('Enter')
    page.locator('.truth').wait_for()


def test_two_visitors_and_another_model(visit, study, server):
    a, b = visit(), visit()
    for page in (a, b): upload(page, *study)
    a.locator('#model input').click()
    names = [n for n in a.get_by_role('option').all_inner_texts() if 'shipped' not in n]
    assert len(names) == 2 and not any('seed1' in n for n in names)  # without a threshold it is not offered
    a.get_by_role('option', name='lite0_smoke_b8').click()
    a.locator('#answer', has_text='Model lite0_smoke_b8').wait_for()
    assert 'Model lite0_smoke,' in answered(b)
    for name in ('lite0_smoke:', 'lite0_smoke_b8', 'lite0_smoke:'):  # who changes their mind gets what was chosen last
        b.locator('#model input').click()
        b.get_by_role('option', name=name).click()
    a.get_by_role('button', name='Download the result').wait_for()
    last = "document.querySelector('#answer').innerText.includes('Model lite0_smoke,')"
    b.wait_for_function(f"{last} && !document.querySelector('.generating, .pending')")


def test_uploads_are_deleted_while_the_page_runs(visit, server, study):
    page = visit()
    upload(page, *study)
    answered(page)
    end = time.time() + 20
    while server.files() and time.time() < end: time.sleep(.2)
    assert server.files() == []
    page.locator('#model input').click()  # what was read is still there to be looked at again
    page.get_by_role('option', name='lite0_smoke_b8').click()
    page.locator('#answer', has_text='Model lite0_smoke_b8').wait_for()


def test_what_the_server_refuses(server, made):
    secret = made[0]/'results'/'smoke'/'predictions'/f'{made[1]}.csv'
    for path in ('/etc/hostname', secret, 'results/smoke/predictions/x.csv'):
        for form in (f'/gradio_api/file={path}', f'/file={path}', f'/gradio_api/proxy={path}'):
            assert server.ask(form)[0] in (403, 404, 400), form
    assert server.ask('/', headers=dict(Host='evil.example'))[0] == 400
    assert server.ask('/gradio_api/upload', 'POST', {'Content-Length': str(10**10)})[0] == 413
    status, headers, _ = server.ask('/')
    assert status == 200 and "default-src 'self'" in headers['content-security-policy']
    assert headers['cache-control'] == 'no-store'
    assert server.ask('/docs')[0] == 404 and server.ask('/openapi.json')[0] == 404


def test_a_path_is_no_upload(server):
    "A visitor who names a file of the server instead of sending one"
    file = dict(path='/etc/hostname', meta={'_type': 'gradio.FileData'})
    data, kind = dict(data=[[file], None], fn_index=0, session_hash='x'), {'Content-Type': 'application/json'}
    for fn in range(3):
        server.ask('/gradio_api/queue/join', 'POST', kind, json.dumps(data | dict(fn_index=fn)))
    c = http.client.HTTPConnection('127.0.0.1', server.port, timeout=20)
    c.request('GET', '/gradio_api/queue/data?session_hash=x')
    said = c.getresponse().read(6000).decode()
    assert 'process_completed' in said and '"success":false' in said.replace(' ', '')
    assert Path('/etc/hostname').read_text().strip() not in said and 'Traceback' not in said
    assert 'InvalidPathError' in server.log.read_text()


def test_one_picture_a_gigabyte_large(visit):
    import struct, zlib
    def chunk(kind, d): return struct.pack('>I', len(d)) + kind + d + struct.pack('>I', zlib.crc32(kind + d))
    page = visit()
    header = chunk(b'IHDR', struct.pack('>IIBBBBB', 32000, 32000, 8, 0, 0, 0, 0))
    pixels = chunk(b'IDAT', zlib.compress(bytes(10**6)))
    upload(page, ('bomb.png', b'\x89PNG\r\n\x1a\n' + header + pixels + chunk(b'IEND', b'')))
    page.get_by_role('alert').wait_for()
    assert 'bomb.png: far too many pixels' in page.locator('#answer').inner_text()


def test_nothing_is_left_at_the_end(visit, server, study):
    page = visit()
    upload(page, *study)
    answered(page)
    page.context.close()
    server.stop()
    assert server.process.returncode == 0 and 'ended, nothing is kept' in server.log.read_text()
    assert list(server.scratch.iterdir()) == []


BIOME = '@biomejs/biome@2.6.8'
RULES = dict(lint=['--error-on-warnings', '--skip=complexity/noImportantStyles'],  # to override Gradio's own rules
             format=['--indent-style=space', '--line-width=120'])


@pytest.fixture(scope='module')
def biome():
    "Runs Biome, a linter of style sheets and scripts that npm keeps in its cache"
    npx = shutil.which('npx')
    if npx is None: pytest.skip('no npx: install Node.js to check the style sheet and the script')
    command = [npx, '--yes', '--prefer-offline', BIOME]
    if subprocess.run([*command, '--version'], capture_output=True, timeout=300).returncode:
        pytest.skip(f'npm cannot get {BIOME} here')
    return lambda *args: subprocess.run([*command, *args], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize('task', RULES)
def test_style_sheets_and_scripts(biome, task):
    "Of the page with a server and of the one without"
    files = [PAGE/'page.css', PAGE/'page.js', *sorted((PAGE/'browser').glob('*.js')), PAGE/'browser'/'browser.css']
    r = biome(task, *RULES[task], *map(str, files))
    assert r.returncode == 0, r.stdout + r.stderr


def test_faults_of_style_are_found(biome, tmp_path):
    faults = {'page.css': '.a {\n  colr: red;\n}\n', 'page.js': 'const a = 1;\nif (a == 1) debugger;\n'}
    for name, text in faults.items(): (tmp_path/name).write_text(text)
    r = biome('lint', *RULES['lint'], '--reporter=summary', str(tmp_path))
    assert r.returncode != 0 and all(name in r.stdout + r.stderr for name in faults), r.stdout + r.stderr


def test_templates_escape_what_they_print():
    from mura_nb.answer_page import render
    texts = {f.name: f.read_text() for f in PAGE.glob('*.html.j2')}
    assert texts and not [n for n, text in texts.items() if re.search(r'\|\s*safe\b|autoescape', text)]
    html = render('similar', views=[], problem='<script>{{x}}', study_type=None, recipe='')
    assert '<script>' not in html and '{{' not in html


@pytest.mark.parametrize('module', ['studies', 'answers', 'answer_page', 'app'])
def test_markup_stands_in_templates(module):
    "No HTML, style or script as text of Python"
    text = (PAGE.parent/f'{module}.py').read_text()
    assert re.findall(r'</?(?:div|p|span|b|img|svg|section|figure|button|ul|li|h\d|script|style)[ >]', text) == []


def test_page_is_packaged():
    import tomllib
    tools = tomllib.loads((PAGE.parents[1]/'pyproject.toml').read_text())['tool']
    packed = {f for pattern in tools['setuptools']['package-data']['mura_nb'] for f in PAGE.parent.glob(pattern)}
    assert {f for f in PAGE.rglob('*') if f.is_file() and 'node_modules' not in f.parts} <= packed


@pytest.mark.parametrize('value, lo, words', [
    (.5, .25, '50 [25 to 75]'), (.5, np.nan, '50'), (np.nan, np.nan, 'an unknown number')])
def test_a_proportion_as_a_number_of_a_hundred(value, lo, words):
    from mura_nb.answers import _per_hundred
    from mura_nb.evaluation import Estimate
    assert _per_hundred(Estimate(value, lo, .75, 4)) == words


def test_a_picture_that_cannot_be_read_has_no_thumbnail(tmp_path):
    from mura_nb.answer_page import thumbnail
    (tmp_path/'a.png').write_bytes(b'no picture')
    assert thumbnail(tmp_path/'a.png') == thumbnail(tmp_path/'gone.png') == ''


def test_an_answer_that_is_no_longer_kept_is_said_to_be(monkeypatch):
    from types import SimpleNamespace
    from mura_nb import app
    monkeypatch.setattr(app, '_gradio', lambda: SimpleNamespace(EventData=object, Error=ValueError))
    monkeypatch.setattr(app, '_with_messages', lambda function: function)
    with pytest.raises(ValueError, match='no longer kept'): app.page_steps(None)['save'](None)
