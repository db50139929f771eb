"""Renders executed notebooks with pandoc (of the package pypandoc-binary) as a site that needs no network: formulas as MathML, citations
and letters of figures, a search over an index of its own, no script from elsewhere."""
import json
import os
import re
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

import nbformat
import pypandoc

from api import api_page, modules
from pages import NBS, anchors, fold, label, number, option, order, page, prepared, repository, silent, source_of, title, tree
from runner import ROOT

HERE = Path(__file__).parent/'page'
PICTURES = ('.png', '.jpg', '.jpeg', '.svg')
MARKDOWN = ('ipynb', '-gfm_auto_identifiers', '-autolink_bare_uris', '-lists_without_preceding_blankline', '+blank_before_blockquote',
    '+blank_before_header', '+bracketed_spans', '+citations', '+definition_lists', '+escaped_line_breaks', '+example_lists', '+fancy_lists',
    '+fenced_code_attributes', '+fenced_divs', '+footnotes', '+header_attributes', '+implicit_figures', '+implicit_header_references',
    '+inline_code_attributes', '+inline_notes', '+line_blocks', '+link_attributes', '+native_divs', '+native_spans', '+raw_attribute',
    '+smart', '+startnum', '+subscript', '+superscript', '+table_captions')  # what pandoc, and so Quarto, takes for Markdown

def marked(nb):
    "What the filter asks of each cell, as metadata of the cell"
    for i, cell in enumerate(nb.cells):
        cell.metadata, cell.id = nbformat.NotebookNode(), f'cell-{i}'
        if cell.cell_type != 'code': continue
        found = dict(fold=fold(cell), anchors=' '.join(anchors(cell)), alt=option(cell, 'fig-alt'))
        if option(cell, 'label').startswith('fig-'): found |= dict(label=option(cell, 'label'), caption=option(cell, 'fig-cap'))
        cell.metadata.update({k: v for k, v in found.items() if v})
        cell.source, cell.execution_count = '' if silent(cell) else source_of(cell), 1
        for out in cell.outputs:
            if out.output_type == 'execute_result': out.execution_count = 1
            if 'text' in out: out.text = re.sub(r'\x1b\[[\d;]*m', '', out.text)
    return nb

def to_html(nb, out, variables, metadata):
    "One page by one pandoc process; its warnings"
    defaults = dict(reader=''.join(MARKDOWN), writer='html5', standalone=True, template=str(HERE/'page.html'), wrap='none',
        filters=[str(NBS/'inline.lua'), str(HERE/'cells.lua'), dict(type='citeproc')], bibliography=str(NBS/'references.bib'),
        csl=str(NBS/'numbered.csl'), metadata=metadata, variables=variables, columns=10**6, **{'output-file': str(out), 'toc-depth': 3,
        'table-of-contents': True, 'html-math-method': dict(method='mathml'), 'resource-path': [str(NBS)]})
    with tempfile.TemporaryDirectory() as d:
        (Path(d)/'page.json').write_text(json.dumps(defaults))
        done = subprocess.run([pypandoc.get_pandoc_path(), '--defaults', f'{d}/page.json', '--ipynb-output=all'], input=nbformat.writes(nb), text=True, capture_output=True)
    if done.returncode or 'Citeproc' in done.stderr: raise ValueError(f"{metadata['page']}: {done.stderr.strip()}")
    return done.stderr.strip()

def opened(stem):
    "Where the notebook of a page opens in Colab and Binder: the branch that the site's workflow writes"
    if not (at := repository()).startswith('https://github.com/'): return {}
    path = at.removeprefix('https://github.com/')
    return dict(colab=f'https://colab.research.google.com/github/{path}/blob/notebooks/{stem}.ipynb',
        binder=f'https://mybinder.org/v2/gh/{path}/notebooks?labpath={stem}.ipynb')

def clean(nb):
    "A notebook to take along: without outputs; where the repository has an address, its first cell installs the package"
    nb = nbformat.from_dict(nb)
    for cell in nb.cells:
        cell.metadata = nbformat.NotebookNode()
        if cell.cell_type == 'code': cell.outputs, cell.execution_count = [], None
    if repository():
        install = nbformat.v4.new_code_cell(f'%pip install --quiet "mura_nb[engines,app,maps] @ git+{repository()}"', id='install')
        nb.cells.insert(0, install)
    return nb

class Site:
    "The pages of a site on their way to folder `new`; `note` says on every page what the numbers rest on"
    def __init__(self, notebooks, new, note, simulated):
        self.notebooks, self.new, self.note, self.simulated = {s: notebooks[s] for s in order(notebooks)}, new, note, simulated
        self.api = modules(notebooks)
        self.stems = [*self.notebooks, *self.api]
        code = [(s, c) for s, nb in notebooks.items() for c in nb.cells if c.cell_type == 'code']
        self.known = frozenset(f'{page(s)}#{a}' for s, c in code for a in anchors(c))

    def about(self, stem): return title(self.notebooks[stem], stem)[1] if stem in self.notebooks else f'Module mura_nb.{stem[4:]}'
    def name(self, stem): return label(self.notebooks.get(stem), stem)

    def chrome(self, stem):
        "What the template draws around a page"
        def entry(s):
            name = self.name(s).removeprefix(number(s)).strip()
            return dict(href=page(s), number=number(s), name=escape(name), about=escape(self.about(s)), here=s == stem)
        chapters = [entry(s) | dict(rooms=[entry(r) for r in rooms], open=stem in (s, *rooms)) for s, rooms in tree(self.notebooks)]
        if self.api: chapters.append(dict(name='Reference', rooms=[entry(s) for s in self.api], open=stem in self.api))
        i = self.stems.index(stem)
        return dict(chapters=chapters, prev=entry(self.stems[i-1]) if i else None, root='../'*stem.count('/'),
            next=entry(self.stems[i+1]) if i+1 < len(self.stems) else None, note=escape(self.note),
            description=escape(self.about(stem)), landing=stem == 'index')

    def beside(self, file):
        "Where a file of the checkout is found from a page: a picture, the repository, or a copy that goes along"
        if file.suffix in PICTURES: return os.path.relpath(file, NBS)
        if repository(): return f'{repository()}/blob/main/{file.relative_to(ROOT).as_posix()}'
        shutil.copyfile(file, self.new/'sources'/f'{file.name}.txt')
        return f'sources/{file.name}.txt'

    def render(self, stem):
        "Write one page and its notebook; pandoc's warnings"
        variables = self.chrome(stem)
        if stem in self.api: nb = api_page(stem, self.notebooks[self.api[stem]], self.api[stem])
        else:
            nb = self.notebooks[stem]
            nbformat.write(clean(nb), self.new/'notebooks'/f'{stem}.ipynb')
            variables |= dict(notebook=f'notebooks/{stem}.ipynb') | opened(stem)
        nb = marked(prepared(nb, stem, self.beside, self.known))
        metadata = dict(site=str(self.new), page=page(stem), simulated=str(self.simulated), pagetitle=title(nb, stem)[0],
            **{'link-citations': True, 'reference-section-title': 'References'})
        return to_html(nb, self.new/page(stem), variables, metadata)


    def search_index(self):
        "One script with what the filter has written for each page: [address, page, heading, words]"
        entries = []
        for stem in self.stems:
            part = self.new/f'{page(stem)}.json'
            entries += [[at, self.name(stem), heading, words] for at, heading, words in json.loads(part.read_text()) if heading or words]
            part.unlink()
        text = json.dumps(entries, ensure_ascii=False, separators=(',', ':'))
        (self.new/'search.js').write_text(f'window.SEARCH = {text}\n', encoding='utf-8')

def render_site(notebooks, site, note, simulated=True):
    """Render {name: notebook} to folder `site`, replaced as a whole; `note` says on every page what the numbers rest on. Captions say
    that radiographs are simulated, unless they are not."""
    new = Path(tempfile.mkdtemp(dir=site.parent, prefix='.site-'))
    for folder in ('api', 'notebooks', 'pictures', 'sources'): (new/folder).mkdir()
    for name in ('style.css', 'site.js'): shutil.copyfile(HERE/name, new/name)
    pages = Site(notebooks, new, note, simulated)
    with ThreadPoolExecutor(2) as pool:
        for said in filter(None, pool.map(pages.render, pages.stems)): print(said)
    pages.search_index()
    new.chmod(0o755)
    shutil.rmtree(site, ignore_errors=True)
    os.replace(new, site)
    return site/page(pages.stems[0])
