"""Renders executed notebooks with pandoc (of the package pypandoc-binary) as a site that needs no network: formulas as
MathML, citations and letters of figures, a search over an index of its own, no script from elsewhere."""
import copy, json, os, re, shutil, subprocess, tempfile
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
import nbformat, pypandoc
from nbdev.clean import clean_nb
from api import api_page, modules
from pages import NBS, anchors, ends, label, number, options, page, prepared, repository, silent, source_of, title, tree

HERE = Path(__file__).parent/'page'
# a notebook's Markdown is read as pandoc, and so Quarto, reads a Markdown file
READER = ('ipynb-gfm_auto_identifiers-autolink_bare_uris-lists_without_preceding_blankline+blank_before_blockquote'
    '+blank_before_header+bracketed_spans+citations+definition_lists+escaped_line_breaks+example_lists+fancy_lists'
    '+fenced_code_attributes+fenced_divs+footnotes+header_attributes+implicit_figures+implicit_header_references'
    '+inline_code_attributes+inline_notes+line_blocks+link_attributes+native_divs+native_spans+raw_attribute+smart+startnum'
    '+subscript+superscript+table_captions')
OPTIONS = {'reader': READER, 'writer': 'html5', 'standalone': True, 'template': str(HERE/'page.html'), 'wrap': 'none',
    'columns': 10**6, 'filters': [str(HERE/'cells.lua'), str(NBS/'inline.lua'), {'type': 'citeproc'}],
    'bibliography': str(NBS/'references.bib'), 'csl': str(NBS/'numbered.csl'), 'table-of-contents': True,
    'toc-depth': 3, 'html-math-method': {'method': 'mathml'}, 'extract-media': 'pictures', 'resource-path': [str(NBS)]}

def real(caption):
    "A caption without the words that say that radiographs are simulated"
    left = re.sub(r',? on simulated radiographs|\bSimulated radiographs[;:.] ?', '', caption)
    return re.sub(r'(?:^|(?<=\. ))[a-z]', lambda m: m[0].upper(), left.strip())

def marked(nb, simulated):
    "What the filter asks of each cell, as metadata of the cell"
    for i, cell in enumerate(nb.cells):
        cell.metadata, cell.id = nbformat.NotebookNode(), f'cell-{i}'
        if cell.cell_type != 'code': continue
        cell.metadata.update(options(cell), anchors=' '.join(anchors(cell)))
        if not simulated and 'fig-cap' in cell.metadata: cell.metadata['fig-cap'] = real(cell.metadata['fig-cap'])
        cell.source, cell.execution_count = '' if silent(cell) else source_of(cell), 1
        for out in cell.outputs:
            if out.output_type == 'execute_result': out.execution_count = 1
            if 'text' in out: out.text = re.sub(r'\x1b\[[\d;]*m', '', out.text)
    return nb

def to_html(nb, site, name, variables, metadata):
    "Page `name` by one pandoc process; its warnings, of which an unknown citation is an error"
    metadata |= {'words': f'{name}.json', 'link-citations': True}
    with tempfile.NamedTemporaryFile('w', suffix='.json') as f:
        json.dump(OPTIONS | {'metadata': metadata, 'variables': variables, 'output-file': name}, f)
        f.flush()
        done = subprocess.run([pypandoc.get_pandoc_path(), '--defaults', f.name, '--ipynb-output=all'], cwd=site,
            input=nbformat.writes(nb), text=True, capture_output=True)
    if done.returncode or 'Citeproc' in done.stderr: raise ValueError(f'{name}: {done.stderr.strip()}')
    return f'{name}: {done.stderr.strip()}' if done.stderr else ''

def opened(stem):
    "Where a notebook opens in Colab and Binder: on the branch that the site's workflow writes"
    _, _, path = repository().partition('https://github.com/')
    if not path: return {}
    return dict(colab=f'https://colab.research.google.com/github/{path}/blob/notebooks/{stem}.ipynb',
        binder=f'https://mybinder.org/v2/gh/{path}/notebooks?labpath={stem}.ipynb')

def keep_notebooks(found, site):
    "The notebooks to take along: without outputs; with a repository's address the first cell installs the package"
    (site/'notebooks').mkdir(exist_ok=True)
    package = f'mura_nb[engines,app,maps] @ git+{repository()}'
    install = nbformat.v4.new_code_cell(f'%pip install --quiet "{package}"', id='install')
    for stem, nb in found.items():
        nb = copy.deepcopy(nb)
        nb.cells = [install]*bool(repository()) + [c for c in nb.cells if 'stopped' not in c.metadata]
        clean_nb(nb, clear_all=True)
        nbformat.write(nb, site/'notebooks'/f'{stem}.ipynb')

class Site:
    "The pages of a site on their way to folder `new`; `note` says on every page what the numbers rest on"
    def __init__(self, found, new, note, simulated):
        self.found, self.new, self.note, self.simulated, self.known = found, new, note, simulated, ends(found)
        self.api = modules(found)
        self.stems = [*found, *self.api]

    def entry(self, stem, here=''):
        "A page in the list of pages"
        name = label(self.found.get(stem), stem).removeprefix(number(stem)).strip()
        about = title(self.found[stem], stem)[1] if stem in self.found else f'module mura_nb.{name}'
        stopped = escape(self.found[stem].metadata.get('stopped', '')) if stem in self.found else ''
        return dict(href=page(stem), number=number(stem), name=escape(name), about=escape(about), here=stem == here,
            stopped=stopped)

    def chrome(self, stem):
        "What the template draws around a page"
        lists = [(self.entry(s, stem), rooms, stem in (s, *rooms)) for s, rooms in tree(self.found)]
        if self.api: lists.append((dict(name='Reference'), self.api, stem in self.api))
        chapters = [e | dict(rooms=[self.entry(r, stem) for r in rooms], open=inside) for e, rooms, inside in lists]
        i = self.stems.index(stem)
        around = [self.entry(self.stems[j]) if 0 <= j < len(self.stems) else None for j in (i-1, i+1)]
        notebook = dict(notebook=f'notebooks/{stem}.ipynb', **opened(stem)) if stem in self.found else {}
        return dict(chapters=chapters, prev=around[0], next=around[1], note=escape(self.note), landing=stem == 'index',
            stopped=[e for e in map(self.entry, self.found) if e['stopped']],
            root='../'*stem.count('/'), description=self.entry(stem)['about'], **notebook)

    def render(self, stem):
        "Write one page; pandoc's warnings"
        nb = self.found.get(stem) or api_page(stem, self.found[self.api[stem]], self.api[stem], self.known)
        words = dict(zip(('title', 'subtitle'), title(nb, stem)))
        known = self.known if stem in self.found else ()
        nb = marked(prepared(nb, known, self.new), self.simulated)
        return to_html(nb, self.new, page(stem), self.chrome(stem), words)

    def search_index(self):
        "One script with the words that the filter has written for each page: [address, page, heading, words]"
        entries = []
        for stem in self.stems:
            words, name = self.new/f'{page(stem)}.json', label(self.found.get(stem), stem)
            entries += [[page(stem) + end, name, *text] for end, *text in json.loads(words.read_text()) if any(text)]
            words.unlink()
        text = json.dumps(entries, ensure_ascii=False, separators=(',', ':'))
        (self.new/'search.js').write_text(f'window.SEARCH = {text}\n', encoding='utf-8')

def render_site(notebooks, site, note, simulated=True):
    "Render {name: notebook} to folder `site`, replaced as a whole; captions say that radiographs are simulated"
    with tempfile.TemporaryDirectory(dir=site.parent, prefix='.site-') as d:
        new = Path(d)/site.name
        for folder in ('api', 'pictures', 'sources'): (new/folder).mkdir(parents=True)
        for name in ('style.css', 'site.js'): shutil.copyfile(HERE/name, new/name)
        pages = Site(notebooks, new, note, simulated)
        with ThreadPoolExecutor(2) as pool:
            for said in filter(None, pool.map(pages.render, pages.stems)): print(said)
        pages.search_index()
        keep_notebooks(notebooks, new)
        shutil.rmtree(site, ignore_errors=True)
        os.replace(new, site)
    return site/page(pages.stems[0])
