"""What Quarto reads, checked without it: files that parse, options that Quarto 1.7 knows, labels, captions, references and citations.

Then nbdev's own step before Quarto runs, as make site runs it, and its result is looked through."""
import os, re, shutil, subprocess, sys
from pathlib import Path
import nbformat, pytest, yaml
import cite, pages, quarto_pages
from runner import ROOT, directives

NBS = ROOT/'nbs'
# the options in use, as the reference of Quarto 1.7 spells them; more may be added after a look there
TOP = {'project', 'lang', 'bibliography', 'csl', 'link-citations', 'crossref', 'execute', 'format', 'website', 'metadata-files', 'format-links'}
KNOWN = {
    'project': {'type', 'output-dir', 'resources'},
    'crossref': {'fig-labels', 'fig-title', 'fig-prefix', 'title-delim'},
    'execute': {'enabled', 'freeze', 'echo'},
    'format': {'html', 'commonmark'},
    'format.html': {'theme', 'respect-user-color-scheme', 'css', 'toc', 'anchor-sections', 'html-math-method', 'keep-md'},
    'format.html.theme': {'light', 'dark'},
    'website': {'title', 'site-url', 'description', 'repo-branch', 'repo-url', 'twitter-card', 'open-graph', 'page-navigation', 'back-to-top-navigation', 'page-footer', 'navbar', 'search', 'sidebar'},
    'website.navbar': {'background', 'search'},
    'website.search': {'location', 'type'},
    'website.sidebar': {'style', 'contents'}}
CELL = {'label', 'fig-cap', 'fig-alt', 'echo', 'output', 'code-fold', 'code-summary'}
OURS = {'export', 'exporti', 'exports', 'default_exp', 'hide', 'hide_input', 'hide_output', 'slow', 'ablation', 'cuda', 'notest', 'eval', 'include'}
CHAPTERS = sorted(NBS.glob('[0-9]*_*.ipynb')) + [NBS/'index.ipynb']


class Strict(yaml.SafeLoader):
    "YAML in which a key may not stand twice"
    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(k, deep=True) for k, _ in node.value]
        assert len(keys) == len(set(map(str, keys))), f'twice in {node.start_mark}: {keys}'
        return super().construct_mapping(node, deep)


def load(f): return yaml.load(Path(f).read_text(encoding='utf-8'), Strict)


def configs():
    "_quarto.yml and the files that it takes in"
    main = load(NBS/'_quarto.yml')
    return {'_quarto.yml': main} | {n: load(NBS/n) for n in main['metadata-files']}


def unknown(d, allowed=TOP, where=''):
    "Keys that are not in the lists above"
    for k, v in d.items():
        if k not in allowed: yield f'{where}{k}'
        below = KNOWN.get(f'{where}{k}')
        if isinstance(v, dict) and below is not None: yield from unknown(v, below, f'{where}{k}.')


def entries(contents):
    for e in contents:
        if isinstance(e, str): yield e
        elif 'section' in e:
            assert set(e) <= {'section', 'contents', 'href'}
            yield from entries(e['contents'])
        else:
            assert set(e) == {'text', 'href'}, e
            yield e['href']


@pytest.fixture(scope='module')
def notebooks(): return {f.stem: nbformat.read(f, 4) for f in CHAPTERS}


def texts(nb):
    "Markdown of a notebook, outputs included"
    yield from (c.source for c in nb.cells if c.cell_type == 'markdown')
    yield from (''.join(o['data']['text/markdown']) for c in nb.cells if c.cell_type == 'code' for o in c.outputs if 'text/markdown' in o.get('data', {}))


def labels(nb): return [l for c in nb.cells if c.cell_type == 'code' for l in [pages.option(c, 'label')] if l] + [l for t in texts(nb) for l in re.findall(r'\)\{#([\w-]+)', t)]


def test_configuration():
    found = configs()
    assert {n: list(unknown(d)) for n, d in found.items()} == {n: [] for n in found}
    assert (NBS/'_quarto.yml').is_symlink() and os.readlink(NBS/'_quarto.yml') == '../_quarto.yml', 'Quarto reads the file at the root'
    main = found['_quarto.yml']
    html = main['format']['html']
    for f in (main['bibliography'], main['csl'], html['css'], *main['metadata-files']): assert (NBS/f).is_file(), f
    assert html['html-math-method'] in ('mathml', 'katex', 'mathjax', 'webtex', 'gladtex', 'plain') and set(html['theme'].values()) <= {'cosmo', 'darkly'}
    assert found['nbdev.yml']['project']['output-dir'] == '_docs' and main['project']['type'] == 'website'


def test_unknown_options_would_be_found():
    assert list(unknown(dict(project=dict(type='website', theme=1), websites={}))) == ['project.theme', 'websites']
    with pytest.raises(AssertionError, match='twice'): yaml.load('a: 1\na: 2', Strict)


def test_list_of_pages():
    found = list(entries(configs()['sidebar.yml']['website']['sidebar']['contents']))
    assert [h for h in found if not (NBS/h).is_file()] == [] and len(found) == len(set(found))
    assert sorted(h.removesuffix('.ipynb') for h in found) == sorted(pages.notebooks())
    assert (NBS/'sidebar.yml').read_text(encoding='utf-8') == pages.sidebar(), 'run .venv/bin/python tools/pages.py'


def test_sections():
    stems = ['index', '10_programs', '02_data', '09a_engines', '12_findings', '00_core', '11_app', 'api/programs', 'api/data']
    assert pages.sections(stems) == [('Report', ['00_core', '02_data']), ('Use it', ['09a_engines', '10_programs', '11_app']), ('In the end', ['12_findings']), ('Reference', ['api/data', 'api/programs'])]
    assert pages.order(stems)[0] == 'index' and [pages.number(s) for s in ('00_core', '09a_engines', 'index')] == ['0', '9a', '']


def test_references_are_valid():
    "pandoc reads every entry, and prints all of them"
    import pypandoc
    for suffix in ('.bib', '.csl'): assert list(NBS.glob(f'*{suffix}'))
    out = pypandoc.convert_text('---\nnocite: "@*"\n---\n', 'html', format='markdown', extra_args=['--citeproc', f'--bibliography={cite.BIB}', f'--csl={cite.STYLE}'])
    assert set(re.findall(r'id="ref-([^"]+)"', out)) == cite.keys() and len(cite.keys()) > 30
    assert len(re.findall(r'^@\w+\{', cite.BIB.read_text(encoding='utf-8'), re.M)) == len(cite.keys()), 'a key stands twice'


def test_citations(notebooks):
    wrong = {(n, k) for n, nb in notebooks.items() for t in texts(nb) for k in cite.cited(t) if k not in cite.keys()}
    assert wrong == set()
    assert {'rajpurkar2017mura', 'guan2018agcnn', 'selvaraju2017gradcam'} <= {k for nb in notebooks.values() for t in texts(nb) for k in cite.cited(t)}
    alone = {(n, k) for n, nb in notebooks.items() for t in texts(nb) for k in _keys_outside_brackets(t)}
    assert alone == set(), 'write [@key]'


def _keys_outside_brackets(md):
    found = []
    cite.outside_code(lambda t: found.extend(k for k in cite.KEY.findall(cite.GROUP.sub('', t)) if k in cite.keys()) or t, md)
    return found


def test_figures(notebooks):
    problems = []
    for n, nb in notebooks.items():
        if n == 'index': continue  # the landing page and README show what three lines of Python give, without a letter
        for i, c in enumerate(nb.cells):
            if c.cell_type != 'code' or pages.hidden(c): continue
            drawn = any(k.startswith('image/') for o in c.outputs for k in o.get('data', {}))
            if drawn and not pages.option(c, 'label').startswith('fig-'): problems.append(f'{n}, cell {i}: a figure without #| label: fig-...')
            if pages.option(c, 'label').startswith('fig-') and not (pages.option(c, 'fig-cap') and pages.option(c, 'fig-alt')): problems.append(f'{n}, cell {i}: no fig-cap or fig-alt')
    assert problems == []


def test_labels_and_references(notebooks):
    for n, nb in notebooks.items():
        found = labels(nb)
        assert len(found) == len(set(found)), n
        assert all(re.fullmatch(r'[a-z][a-z0-9-]*', l) for l in found), (n, found)
        used = set()
        for t in texts(nb): cite.outside_code(lambda p: used.update(re.findall(r'@((?:fig|tbl|sec|eq)-[\w-]*\w)', p)) or p, t)
        assert used <= set(found), (n, used - set(found))
        assert len(found) <= 26, f'{n}: figures are counted by letters'


def test_options_of_cells(notebooks):
    for n, nb in notebooks.items():
        for i, c in enumerate(nb.cells):
            if c.cell_type != 'code': continue
            assert set(directives(c)) <= CELL | OURS, (n, i)
            top = [l for l in c.source.splitlines() if l.startswith('#|')]
            assert c.source.splitlines()[:len(top)] == top, f'{n}, cell {i}: options stand above the code'


def test_workflow():
    "Quarto of a fixed version, our target, its output"
    flow = load(ROOT/'.github'/'workflows'/'site.yml')
    steps = flow['jobs']['site']['steps']
    quarto = next(s for s in steps if 'quarto' in s.get('uses', ''))
    assert re.fullmatch(r'1\.7\.\d+', quarto['with']['version']) and any(s.get('run') == 'make site' for s in steps)
    assert next(s for s in steps if 'upload-pages-artifact' in s.get('uses', ''))['with']['path'] == configs()['nbdev.yml']['project']['output-dir']
    assert True in flow or 'on' in flow # YAML reads `on` as a truth value
    assert {'pages', 'id-token'} <= set(flow['permissions'])


@pytest.fixture(scope='module')
def processed(tmp_path_factory):
    "The notebooks as nbdev hands them to Quarto, from a copy of the tree"
    from check import copied
    with copied() as d:
        env = dict(os.environ, PYTHONPATH=os.pathsep.join([str(d/'tools'), str(d)]))
        r = subprocess.run([sys.executable, '-c', 'from nbdev.serve import proc_nbs; proc_nbs(n_workers=0)'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stderr[-3000:]
        yield d/'_proc'


def test_what_quarto_gets(processed):
    names = sorted(f.relative_to(processed).with_suffix('').as_posix() for f in processed.rglob('*.ipynb'))
    assert names == sorted(pages.notebooks())
    for f in processed.rglob('*.ipynb'):
        nb, stem = nbformat.read(f, 4), f.relative_to(processed).with_suffix('').as_posix()
        head = yaml.load(nb.cells[0].source.strip('- \n'), Strict)
        assert nb.cells[0].cell_type == 'raw' and head['output-file'] == pages.page(f.stem) and head['title'] and set(head) == {'title', 'description', 'output-file'}
        for c in nb.cells[1:]:
            if c.cell_type == 'code':
                options = yaml.load('\n'.join(l[2:].strip() for l in c.source.splitlines() if l.startswith('#|')) or '{}', Strict)
                assert set(options) <= CELL and not any(o.get('name') == 'stderr' for o in c.outputs), stem
            else:
                for link in re.findall(r'\]\(([^()\s]+)\)', re.sub(r'```.*?```|`[^`]*`', '', c.source, flags=re.S)):
                    if not re.match(r'\w+:|#', link): assert (f.parent/link.partition('#')[0]).is_file(), (stem, link)
    index = nbformat.read(processed/'index.ipynb', 4)
    assert index.cells[1].source.startswith('!['), 'the landing page begins with its picture'
    assert (processed/'_quarto.yml').is_file() and not (processed/'_quarto.yml').is_symlink()


def test_pandoc_understands_what_quarto_gets(processed):
    "Quarto's engine on the Markdown of each page: every citation is found, every anchor that a link names is there"
    import pypandoc
    ids, links = {}, []
    for f in sorted(processed.rglob('*.ipynb')):
        nb, stem = nbformat.read(f, 4), f.relative_to(processed).with_suffix('').as_posix()
        text = '\n\n'.join(c.source for c in nb.cells[1:] if c.cell_type == 'markdown')
        html = pypandoc.convert_text(re.sub(r'@fig-', 'fig-', text), 'html', format='markdown', extra_args=['--citeproc', '--mathml', f'--bibliography={cite.BIB}', f'--csl={cite.STYLE}'])
        assert not re.search(r'<strong>[\w-]+\?</strong>', html), stem
        ids[stem] = set(re.findall(r'\bid="([^"]+)"', html)) | {l for c in nb.cells for l in [pages.option(c, 'label')] if c.cell_type == 'code' and l}
        links += [(stem, l) for l in re.findall(r'href="([^"]*#[^"]+)"', html) if not l.startswith(('http', '#ref-'))]
    for stem, link in links:
        target, _, anchor = link.partition('#')
        page = os.path.normpath(os.path.join(os.path.dirname(stem), target)).removesuffix('.ipynb') if target else stem
        assert anchor in ids[page], (stem, link)


TAGS = ('li', 'h1', 'h2', 'h3', 'h4', 'table', 'tr', 'pre', 'blockquote', 'em', 'strong', 'img', 'math', 'sub', 'sup', 'del', 'dl')


def _tags(html): return {t: n for t in TAGS if (n := len(re.findall(rf'<{t}\b', html)))}


def _words(html):
    "The words, without what typography does to them"
    from html import unescape
    text = unescape(re.sub(r'<(math|figcaption)\b.*?</\1>|<a class="anchor-link".*?</a>|<[^>]*>', '', html, flags=re.S))
    for a, b in ('“"', '”"', "’'", "‘'", '–-', '—-'): text = text.replace(a, b)
    return re.sub(r'-+', '-', re.sub(r'\s+', '', text)).replace('…', '...')


def test_both_renderers_read_the_same_markdown():
    "A list without a blank line before it, or a lonely star, is something else to pandoc than to nbconvert"
    import pypandoc
    from nbconvert.filters.markdown_mistune import markdown2html_mistune
    import render # headings and tables as the pages have them
    for stem, nb in pages.notebooks().items():
        text = re.sub(r'\[@[^\]]*\]|@fig-', '', '\n\n'.join(t for c in nb.cells if not pages.hidden(c) for t in texts(nbformat.from_dict(dict(cells=[c])))))
        ours = markdown2html_mistune(text)
        quarto = pypandoc.convert_text(text, 'html', format='markdown', extra_args=['--mathml', '--wrap=none'])
        assert _tags(quarto) == _tags(ours), stem
        a, b = _words(quarto), _words(ours)
        first = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
        assert a == b, f'{stem}: Quarto reads {a[max(0, first-40):first+40]!r}, nbconvert {b[max(0, first-40):first+40]!r}'


def test_make_site_says_which_of_the_two_ran(tmp_path):
    "With a program called quarto nbdev-docs runs it on the pages, and what it made is the site"
    from check import copied
    fake = tmp_path/'quarto'
    fake.write_text(f'#!{sys.executable}\nimport pathlib, sys\nassert sys.argv[1] == "render", sys.argv\nout = pathlib.Path(sys.argv[sys.argv.index("--output-dir")+1])\n'
        'out.mkdir(parents=True, exist_ok=True)\n(out/"index.html").write_text("\\n".join(sorted(p.name for p in pathlib.Path().rglob("*.ipynb"))))\n')
    fake.chmod(0o755)
    with copied() as d:
        env = dict(os.environ, PYTHONPATH=str(d), PATH=f'{tmp_path}{os.pathsep}{os.environ["PATH"]}')
        r = subprocess.run([sys.executable, 'tools/publish.py'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0 and r.stdout.strip().endswith('rendered with Quarto: _docs/index.html'), r.stdout + r.stderr
        assert '04_baselines.ipynb' in (d/'_docs'/'index.html').read_text()
        changed = subprocess.run(['diff', '-rq', d/'nbs', NBS], capture_output=True, text=True).stdout
        assert changed == '', changed
        if shutil.which('quarto'): return
        r = subprocess.run([sys.executable, 'tools/publish.py'], cwd=d, env=dict(env, PATH=os.environ['PATH']), capture_output=True, text=True)
        assert r.returncode == 0 and 'rendered with nbconvert' in r.stdout and (d/'_site'/'index.html').is_file(), r.stdout + r.stderr
