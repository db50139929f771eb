"""What Quarto reads, checked without it: files that parse, options that Quarto 1.7 knows, labels, captions, citations.

Then nbdev's own step before Quarto runs, as make site runs it, and its result is looked through."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pages
import publish
import pytest
import render
import yaml
from runner import ROOT, directives

NBS = ROOT / 'nbs'
# the options in use, as the reference of Quarto 1.7 spells them; more may be added after a look there
TOP = {
    'project',
    'lang',
    'bibliography',
    'csl',
    'link-citations',
    'filters',
    'crossref',
    'execute',
    'tbl-colwidths',
    'format',
    'website',
    'metadata-files',
}
KNOWN = {
    'project': {'type', 'output-dir', 'resources'},
    'crossref': {'fig-labels', 'fig-title', 'fig-prefix', 'title-delim'},
    'execute': {'enabled', 'freeze', 'echo'},
    'format': {'html'},
    'format.html': {
        'theme',
        'respect-user-color-scheme',
        'css',
        'include-after-body',
        'toc',
        'anchor-sections',
        'code-overflow',
        'lightbox',
        'html-math-method',
    },
    'format.html.theme': {'light', 'dark'},
    'website': {
        'title',
        'description',
        'twitter-card',
        'open-graph',
        'page-navigation',
        'back-to-top-navigation',
        'page-footer',
        'navbar',
        'search',
        'sidebar',
    },
    'website.navbar': {'background', 'search'},
    'website.search': {'location', 'type'},
    'website.sidebar': {'style', 'contents', 'collapse-level'},
}
CELL = {'label', 'fig-cap', 'fig-alt', 'echo', 'output', 'code-fold', 'code-summary'}
OURS = {
    'export',
    'exporti',
    'exports',
    'default_exp',
    'hide',
    'hide_input',
    'hide_output',
    'slow',
    'ablation',
    'cuda',
    'demo',
    'notest',
    'eval',
    'include',
}
CHAPTERS = sorted(NBS.glob('[0-9]*_*.ipynb')) + [NBS / 'index.ipynb']


class Strict(yaml.SafeLoader):
    "YAML in which a key may not stand twice"

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(k, deep=True) for k, _ in node.value]
        assert len(keys) == len(set(map(str, keys))), f'twice in {node.start_mark}: {keys}'
        return super().construct_mapping(node, deep)


def load(f):
    return yaml.load(Path(f).read_text(encoding='utf-8'), Strict)


def configs():
    "_quarto.yml and the files that it takes in"
    main = load(NBS / '_quarto.yml')
    return {'_quarto.yml': main} | {n: load(NBS / n) for n in main['metadata-files']}


def unknown(d, allowed=TOP, where=''):
    "Keys that are not in the lists above"
    for k, v in d.items():
        if k not in allowed:
            yield f'{where}{k}'
        below = KNOWN.get(f'{where}{k}')
        if isinstance(v, dict) and below is not None:
            yield from unknown(v, below, f'{where}{k}.')


def entries(contents):
    for e in contents:
        if isinstance(e, str):
            yield e
        elif 'section' in e:
            assert set(e) <= {'section', 'contents', 'href'}
            if 'href' in e:
                yield e['href']
            yield from entries(e['contents'])
        else:
            assert set(e) == {'text', 'href'}, e
            yield e['href']


@pytest.fixture(scope='module')
def notebooks():
    return {f.stem: nbformat.read(f, 4) for f in CHAPTERS}


def texts(nb):
    "Markdown of a notebook, outputs included"
    yield from (c.source for c in nb.cells if c.cell_type == 'markdown')
    yield from (
        ''.join(o['data']['text/markdown'])
        for c in nb.cells
        if c.cell_type == 'code'
        for o in c.outputs
        if 'text/markdown' in o.get('data', {})
    )


def labels(nb):
    return [l for c in nb.cells if c.cell_type == 'code' for l in [pages.option(c, 'label')] if l] + [
        l for t in texts(nb) for l in re.findall(r'\)\{#([\w-]+)', t)
    ]


def test_configuration():
    found = configs()
    assert {n: list(unknown(d)) for n, d in found.items()} == {n: [] for n in found}
    assert (NBS / '_quarto.yml').is_symlink() and os.readlink(NBS / '_quarto.yml') == '../_quarto.yml', (
        'Quarto reads the file at the root'
    )
    main = found['_quarto.yml']
    html = main['format']['html']
    themes = [t for part in html['theme'].values() for t in part]
    named = [
        main['bibliography'],
        main['csl'],
        html['css'],
        html['include-after-body'],
        *main['filters'],
        *main['metadata-files'],
        *(t for t in themes if '.' in t),
    ]
    assert [f for f in named if not (NBS / f).is_file()] == []
    assert (
        html['html-math-method'] == 'mathml'
        and {t for t in themes if '.' not in t} <= {'cosmo', 'darkly'}
        and html['code-overflow'] == 'wrap'
    )
    assert (
        main['project'] == {'type': 'website', 'output-dir': '_docs', 'resources': ['sources/*']}
        and main['tbl-colwidths'] is False
    )
    assert '$web-font-path: false' in (NBS / 'fonts.scss').read_text() and all(
        'fonts.scss' in part for part in html['theme'].values()
    )


def test_unknown_options_would_be_found():
    assert list(unknown(dict(project=dict(type='website', theme=1), websites={}))) == ['project.theme', 'websites']
    with pytest.raises(AssertionError, match='twice'):
        yaml.load('a: 1\na: 2', Strict)


def test_list_of_pages():
    "Chapters with their rooms below them, then the API pages, which are made when the site is rendered"
    found = list(entries(configs()['sidebar.yml']['website']['sidebar']['contents']))
    modules = [f'api/{m}.ipynb' for nb in pages.notebooks().values() if (m := pages.module(nb))]
    assert found == [f'{s}.ipynb' for s in pages.notebooks()] + modules and len(found) == len(set(found))
    assert (NBS / 'sidebar.yml').read_text(encoding='utf-8') == pages.sidebar(), 'run .venv/bin/python tools/pages.py'


def test_rooms_are_sections_of_their_chapter(tmp_path):
    for name in ('index', '04_baselines', '04a_ablations', '04b_maps', '05_fusenet'):
        nb = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_markdown_cell(f'# {name[-4:]}'),
                nbformat.v4.new_code_cell(f'#| default_exp {name[-4:]}'),
            ]
        )
        nbformat.write(nb, tmp_path / f'{name}.ipynb')
    listed = yaml.safe_load(pages.sidebar(tmp_path))['website']['sidebar']['contents']
    assert listed[0]['href'] == 'index.ipynb' and listed[2] == dict(text='5 enet', href='05_fusenet.ipynb')
    assert listed[1]['section'] == '4 ines' and listed[1]['href'] == '04_baselines.ipynb'
    assert [e['text'] for e in listed[1]['contents']] == ['4a ions', '4b maps'] and listed[3]['section'] == 'Reference'


BIB, CSL = NBS / 'references.bib', NBS / 'numbered.csl'
KEYS = set(re.findall(r'^@\w+\{([^,\s]+),', BIB.read_text(encoding='utf-8'), re.M))


def pandoc(folder, texts, *options):
    "What pandoc makes of texts in one run, each in its own scope: its name precedes its ids, as `of-name.md__id`"
    import pypandoc

    for name, text in texts.items():
        (folder / f'of-{name}.md').write_text(f'[]{{#here}}\n\n{text}', encoding='utf-8')
    call = [pypandoc.get_pandoc_path(), '--file-scope', '--from=markdown', *options, *(f'of-{n}.md' for n in texts)]
    return subprocess.run(call, cwd=folder, capture_output=True, text=True, check=True).stdout


def cited(node):
    "Citations within it: (key, mode)"
    if isinstance(node, dict) and node.get('t') == 'Cite':
        yield from ((c['citationId'], c['citationMode']['t']) for c in node['c'][0])
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from cited(child)


def test_references_are_valid():
    "pandoc reads every entry, and prints all of them"
    import pypandoc

    out = pypandoc.convert_text(
        '---\nnocite: "@*"\n---\n',
        'html',
        format='markdown',
        extra_args=['--citeproc', f'--bibliography={BIB}', f'--csl={CSL}'],
    )
    assert set(re.findall(r'id="ref-([^"]+)"', out)) == KEYS and len(KEYS) > 30
    assert len(re.findall(r'^@\w+\{', BIB.read_text(encoding='utf-8'), re.M)) == len(KEYS), 'a key stands twice'


@pytest.fixture(scope='module')
def citations(notebooks, tmp_path_factory):
    found = {n: [] for n in notebooks}
    joined = {n: '\n\n'.join(texts(nb)) for n, nb in notebooks.items()}
    for block in json.loads(pandoc(tmp_path_factory.mktemp('texts'), joined, '--to=json'))['blocks']:
        if begins := re.search(r'"of-([^"]+)\.md__here"', json.dumps(block)):
            n = begins[1]
        found[n] += cited(block)
    return found


def test_citations(citations):
    "Keys are in the BibTeX file, and stand in brackets; figures are cited likewise"
    found = {(n, key, mode) for n, some in citations.items() for key, mode in some if not key.startswith('fig-')}
    assert {(n, key) for n, key, _ in found if key not in KEYS} == set()
    assert {'rajpurkar2017mura', 'guan2018agcnn', 'selvaraju2017gradcam'} <= {key for _, key, _ in found}
    assert {(n, key) for n, key, mode in found if mode == 'AuthorInText'} == set(), 'write [@key]'


def test_figures(notebooks):
    problems = []
    for n, nb in notebooks.items():
        if n == 'index':
            continue  # the landing page and README show what three lines of Python give, without a letter
        for i, c in enumerate(nb.cells):
            if c.cell_type != 'code' or pages.hidden(c):
                continue
            drawn = any(k.startswith('image/') for o in c.outputs for k in o.get('data', {}))
            if drawn and not pages.option(c, 'label').startswith('fig-'):
                problems.append(f'{n}, cell {i}: a figure without #| label: fig-...')
            if pages.option(c, 'label').startswith('fig-') and not (
                pages.option(c, 'fig-cap') and pages.option(c, 'fig-alt')
            ):
                problems.append(f'{n}, cell {i}: no fig-cap or fig-alt')
    assert problems == []


def test_labels_and_references(notebooks, citations):
    for n, nb in notebooks.items():
        found = labels(nb)
        assert len(found) == len(set(found)), n
        assert all(re.fullmatch(r'[a-z][a-z0-9-]*', l) for l in found), (n, found)
        used = {key for key, _ in citations[n] if key.startswith('fig-')}
        assert used <= set(found), (n, used - set(found))
        assert len(found) <= 26, f'{n}: figures are counted by letters'


def test_options_of_cells(notebooks):
    for n, nb in notebooks.items():
        for i, c in enumerate(nb.cells):
            if c.cell_type != 'code':
                continue
            assert set(directives(c)) <= CELL | OURS, (n, i)
            top = [l for l in c.source.splitlines() if l.startswith('#|')]
            assert c.source.splitlines()[: len(top)] == top, f'{n}, cell {i}: options stand above the code'


def test_workflow():
    "Quarto of a fixed version, our target, its output"
    flow = load(ROOT / '.github' / 'workflows' / 'site.yml')
    steps = flow['jobs']['site']['steps']
    quarto = next(s for s in steps if 'quarto' in s.get('uses', ''))
    assert re.fullmatch(r'1\.7\.\d+', quarto['with']['version']) and any(s.get('run') == 'make site' for s in steps)
    assert (
        next(s for s in steps if 'upload-pages-artifact' in s.get('uses', ''))['with']['path']
        == configs()['_quarto.yml']['project']['output-dir']
    )
    assert True in flow or 'on' in flow  # YAML reads `on` as a truth value
    assert {'pages', 'id-token'} <= set(flow['permissions'])
    site = next(s for s in steps if s.get('run') == 'make site')
    assert 'SITE_URL' in site['env'] and any(
        'notebooks' in s.get('run', '') and 'git push' in s['run'] for s in steps
    ), 'Colab and Binder open that branch'


@pytest.fixture(scope='module')
def published(tmp_path_factory):
    "make site in a copy of the tree, with a quarto that writes the names of what it gets: the copy and what was said"
    from check import copied

    fake = tmp_path_factory.mktemp('bin') / 'quarto'
    fake.write_text(f'''#!{sys.executable}
import pathlib, sys
assert sys.argv[1] == "render", sys.argv
print("Quarto warns", file=sys.stderr)
out = pathlib.Path(sys.argv[sys.argv.index("--output-dir")+1])
out.mkdir(parents=True, exist_ok=True)
(out/"index.html").write_text("\\n".join(sorted(p.name for p in pathlib.Path().rglob("*.ipynb"))))
''')
    fake.chmod(0o755)
    with copied() as d:
        shutil.rmtree(d / 'mura_nb' / 'weights', ignore_errors=True)  # the page in the browser has tests of its own
        env = dict(os.environ, PYTHONPATH=str(d), PATH=f'{fake.parent}{os.pathsep}{os.environ["PATH"]}')
        r = subprocess.run([sys.executable, 'tools/publish.py'], cwd=d, env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stderr[-3000:]
        yield d, r


@pytest.fixture
def processed(published):
    return published[0] / '_proc'


def test_what_quarto_gets(processed):
    names = sorted(f.relative_to(processed).with_suffix('').as_posix() for f in processed.rglob('*.ipynb'))
    assert names == sorted(
        [*pages.notebooks(), *(f'api/{m}' for nb in pages.notebooks().values() if (m := pages.module(nb)))]
    )
    for f in processed.rglob('*.ipynb'):
        nb, stem = nbformat.read(f, 4), f.relative_to(processed).with_suffix('').as_posix()
        head = yaml.load(nb.cells[0].source.strip('- \n'), Strict)
        assert nb.cells[0].cell_type == 'raw' and head['output-file'] == Path(pages.page(stem)).name and head['title']
        assert set(head) - {'other-links'} == {'title', 'description', 'output-file'}
        if '/' not in stem:
            assert head['other-links'] == [dict(text='Notebook', href=f'notebooks/{stem}.ipynb')]
        assert not nb.cells[1].source.startswith('# '), 'the title stands in the head'
        for c in nb.cells[1:]:
            if c.cell_type == 'code':
                options = yaml.load(
                    '\n'.join(line[2:].strip() for line in c.source.splitlines() if line.startswith('#|')) or '{}',
                    Strict,
                )
                assert set(options) <= CELL and not any(o.get('name') == 'stderr' for o in c.outputs), stem
                long = len([line for line in c.source.splitlines() if not line.startswith('#|')]) >= pages.LONG
                assert not long or options.get('code-fold') or options.get('echo') is False, (
                    f'{stem}: long code is folded'
                )
            else:
                for link in re.findall(r'\]\(([^()\s]+)\)', re.sub(r'```.*?```|`[^`]*`', '', c.source, flags=re.S)):
                    if not re.match(r'\w+:|#|\w+\.html', link):
                        assert (
                            f.parent / link.partition('#')[0].replace('.html', '.ipynb')
                        ).is_file() or '.html#' in link, (stem, link)
    assert (processed / '_quarto.yml').is_file() and not (processed / '_quarto.yml').is_symlink()
    assert all(
        (processed / n).is_file() for n in ('inline.lua', 'fonts.scss', 'unfold.html', 'styles.css', 'sidebar.yml')
    )


def test_pandoc_understands_what_quarto_gets(processed, tmp_path):
    "Quarto's engine on the Markdown of each page: every citation is found, every anchor that a link names is there"
    ids, links, stems, sources = {}, [], {}, {}
    for f in sorted(processed.rglob('*.ipynb')):
        nb, stem = nbformat.read(f, 4), f.relative_to(processed).with_suffix('').as_posix()
        name = stem.replace('/', '.')
        text = '\n\n'.join(c.source for c in nb.cells[1:] if c.cell_type == 'markdown')
        stems[name], sources[name] = stem, re.sub(r'@fig-', 'fig-', text)
        ids[pages.page(stem)] = {v for c in nb.cells if c.cell_type == 'code' and (v := pages.option(c, 'label'))}
    options = '--citeproc', '--mathml', f'--bibliography={BIB}', f'--csl={CSL}', f'--lua-filter={NBS / "inline.lua"}'
    html = pandoc(tmp_path, sources, '--to=html', *options)
    _, *parts = re.split(r'\bid="of-([^"]+)\.md__here"', html)
    assert parts[::2] == list(stems)
    for name, part in zip(parts[::2], parts[1::2]):
        part, stem = part.replace(f'of-{name}.md__', ''), stems[name]
        assert not re.search(r'<strong>[\w-]+\?</strong>', part), stem
        ids[pages.page(stem)] |= set(re.findall(r'\bid="([^"]+)"', part))
        links += [(stem, v) for v in re.findall(r'href="([^"]*#[^"]+)"', part) if not v.startswith(('http', '#ref-'))]
    assert links
    for stem, link in links:
        target, _, anchor = link.partition('#')
        to = os.path.normpath(os.path.join(os.path.dirname(stem), target)) if target else pages.page(stem)
        assert anchor in ids[pages.page(to.removesuffix('.ipynb')) if to.endswith('.ipynb') else to], (stem, link)


def test_inline_filter():
    "Intervals stay on one line, in text and tables, and code is as it is"
    import pypandoc

    out = pypandoc.convert_text(
        '.5 [.4, .6]; [−.1,\n.2], [see, this] `[1, 2]`\n\n| a |\n|---|\n| .9 [.8, 1] |',
        'html',
        format='markdown',
        extra_args=[f'--lua-filter={NBS / "inline.lua"}', '--wrap=none'],
    )
    assert out.count('\N{NO-BREAK SPACE}') == 3 and '[see, this]' in out and '[1, 2]' in out


def test_what_quarto_leaves_is_mended(tmp_path):
    "No style sheet asks for fonts from elsewhere; the search index is short"
    (tmp_path / 'libs').mkdir()
    (tmp_path / 'libs' / 'bootstrap.min.css').write_text(
        '@import "https://fonts.googleapis.com/css2?family=Lato:wght@400;700&display=swap";'
        '@import url(//x.org/y.css);body{color:red}'
    )
    (tmp_path / 'search.json').write_text(json.dumps([dict(href='a.html', title='a', text='w ' * 5000)]))
    publish.mend(tmp_path)
    assert (tmp_path / 'libs' / 'bootstrap.min.css').read_text() == 'body{color:red}'
    assert json.loads((tmp_path / 'search.json').read_text()) == [dict(href='a.html', title='a', text='w ' * 500)]


def test_contrast_in_the_dark():
    "The colours that styles.css gives inline code, folds and navigation, on darkly's page and on their own background"
    from test_site import contrast

    dark = re.findall(r'body\.quarto-dark[^{]*\{([^}]*)\}', (NBS / 'styles.css').read_text())
    found = [
        (c[1], b[1] if (b := re.search(r'background-color: (#\w+)', rule)) else '#222222')
        for rule in dark
        if (c := re.search(r'(?<!-)color: (#\w+)', rule))
    ]
    assert len(found) >= 4 and [(a, b) for a, b in found if contrast(a, b) < 4.5] == []


def test_both_renderers_read_markdown_alike():
    "The notebook's Markdown is read as pandoc, and so Quarto, reads a file"
    import pypandoc

    extensions = lambda kind: set(
        subprocess.run(
            [pypandoc.get_pandoc_path(), f'--list-extensions={kind}'], capture_output=True, text=True
        ).stdout.split()
    )  # noqa: E731
    markdown, ipynb = extensions('markdown'), extensions('ipynb')
    for change in re.findall(r'[+-]\w+', render.READER):
        ipynb -= {'+' + change[1:], '-' + change[1:]}
        ipynb.add(change)
    assert {e for e in ipynb - markdown if e[0] == '+'} == set()
    assert {e[1:] for e in markdown - ipynb if e[0] == '+'} <= {
        'table_attributes',
        'grid_tables',
        'latex_macros',
        'markdown_in_html_blocks',
        'multiline_tables',
        'pandoc_title_block',
        'raw_tex',
        'simple_tables',
        'yaml_metadata_block',
    }


def test_make_site_says_which_of_the_two_ran(published, monkeypatch, tmp_path):
    "What Quarto says is shown, what it made is the site; without it pandoc renders"
    d, r = published
    assert r.stdout.strip().endswith('rendered with Quarto: _docs/index.html') and 'Quarto warns' in r.stderr
    assert (
        '00_core.ipynb' in (d / '_docs' / 'index.html').read_text()
        and (d / '_docs' / 'notebooks' / '00_core.ipynb').is_file()
    )
    assert subprocess.run(['diff', '-rq', '--exclude=api', d / 'nbs', NBS], capture_output=True, text=True).stdout in (
        '',
        f'Only in {NBS}: .ipynb_checkpoints\n',
    )
    monkeypatch.setattr(publish, 'render_site', lambda found, site, note: tmp_path / 'index.html')
    assert publish.with_pandoc() == (tmp_path, 'pandoc, as quarto is not installed')
