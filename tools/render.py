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

from api import api_pages
from pages import NBS, anchors, directives, fold, label, number, option, order, page, prepared, repository, source_of, title, tree
from runner import ROOT

HERE = Path(__file__).parent/'page'
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
        silent = 'hide_input' in directives(cell) or directives(cell).get('echo') == 'false'
        cell.source, cell.execution_count = '' if silent else source_of(cell), 1
        for out in cell.outputs:
            if out.output_type == 'execute_result': out.execution_count = 1
            if 'text' in out: out.text = re.sub(r'\x1b\[[\d;]*m', '', out.text)
    return nb


def to_html(nb, out, resources, variables, metadata):
    "One page by one pandoc process; its warnings"
    defaults = dict(reader=''.join(MARKDOWN), writer='html5', standalone=True, template=str(HERE/'page.html'), wrap='none',
        filters=[str(NBS/'inline.lua'), str(HERE/'cells.lua'), dict(type='citeproc')], bibliography=str(NBS/'references.bib'),
        csl=str(NBS/'numbered.csl'), metadata=metadata, variables=variables, columns=10**6, **{'output-file': str(out), 'toc-depth': 3,
        'table-of-contents': True, 'html-math-method': dict(method='mathml'), 'resource-path': [str(r) for r in resources]})
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


def chrome(found, stems, stem):
    "What the template draws around a page"
    def entry(s):
        name = label(found[s], s).removeprefix(number(s)).strip()
        return dict(href=page(s), number=number(s), name=escape(name), about=escape(title(found[s], s)[1]), here=s == stem)
    chapters = [entry(s) | dict(rooms=[entry(r) for r in rooms], open=stem in (s, *rooms)) for s, rooms in tree(stems)]
    reference = [entry(s) for s in stems if s.startswith('api/')]
    if reference: chapters.append(dict(name='Reference', rooms=reference, open=stem.startswith('api/')))
    i = stems.index(stem)
    return dict(chapters=chapters, prev=entry(stems[i-1]) if i else None, next=entry(stems[i+1]) if i+1 < len(stems) else None,
        root='../'*stem.count('/'), description=escape(title(found[stem], stem)[1]), landing=stem == 'index')


def render_page(found, known, stem, site, note, simulated):
    "One page of the site; pandoc's warnings"
    (site/page(stem)).parent.mkdir(exist_ok=True)
    def to(f):
        if f.suffix in ('.png', '.jpg', '.jpeg', '.svg'): return os.path.relpath(f, NBS)
        if repository(): return f'{repository()}/blob/main/{f.relative_to(ROOT).as_posix()}'
        (site/'sources').mkdir(exist_ok=True)
        shutil.copyfile(f, site/'sources'/f'{f.name}.txt')
        return f'sources/{f.name}.txt'
    variables = chrome(found, list(found), stem) | dict(note=escape(note))
    if not stem.startswith('api/'):
        (site/'notebooks').mkdir(exist_ok=True)
        nbformat.write(clean(found[stem]), site/'notebooks'/f'{stem}.ipynb')
        variables |= dict(notebook=f'notebooks/{stem}.ipynb') | opened(stem)
    nb = marked(prepared(found[stem], stem, to, known))
    metadata = dict(site=str(site), page=page(stem), simulated='true' if simulated else 'false', pagetitle=title(nb, stem)[0],
        **{'link-citations': True, 'reference-section-title': 'References'})
    return to_html(nb, site/page(stem), [NBS], variables, metadata)


def search_index(found, site):
    "One script that holds what pandoc has written for each page: [address, page, heading, words]"
    entries = []
    for stem, nb in found.items():
        part = site/f'{page(stem)}.json'
        entries += [[at, label(nb, stem), heading, words] for at, heading, words in json.loads(part.read_text()) if heading or words]
        part.unlink()
    text = json.dumps(entries, ensure_ascii=False, separators=(',', ':'))
    (site/'search.js').write_text(f'window.SEARCH = {text}\n', encoding='utf-8')


def render_site(notebooks, site, note, simulated=True):
    """Render {name: notebook} to folder `site`, replaced as a whole; `note` says on every page what the numbers rest on. Captions say
    that radiographs are simulated, unless they are not."""
    found = {s: notebooks[s] for s in order(notebooks)} | api_pages(notebooks)
    known = frozenset(f'{page(s)}#{a}' for s, nb in found.items() for c in nb.cells if c.cell_type == 'code' for a in anchors(c))
    new = Path(tempfile.mkdtemp(dir=site.parent, prefix='.site-'))
    (new/'pictures').mkdir()
    for name in ('style.css', 'site.js'): shutil.copyfile(HERE/name, new/name)
    with ThreadPoolExecutor(2) as pool:
        for said in pool.map(lambda stem: render_page(found, known, stem, new, note, simulated), found): print(said, end='\n'*bool(said))
    search_index(found, new)
    new.chmod(0o755)
    shutil.rmtree(site, ignore_errors=True)
    os.replace(new, site)
    return site/page(next(iter(found)))
