"""make site: the report's pages from the outputs that nbs/ holds, nothing is run again.

With the program quarto it renders what nbdev hands it, to _docs/; without it pandoc does, to _site/. The last line says which it was."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
import nbformat
import yaml
from fastcore.nbio import mk_cell
from nbdev.process import Processor

from api import api_page, modules
from pages import NBS, anchors, directives, fold, notebooks, option, page, prepared, repository, silent, source_of, title
from render import PICTURES, clean, opened, render_site
from runner import ROOT

PROC = ROOT/'_proc'

def beside(f):
    "What lies outside nbs/ goes with the site, or is looked at where the repository is"
    if f.suffix not in PICTURES and repository(): return f'{repository()}/blob/main/{f.relative_to(ROOT).as_posix()}'
    name = f'pictures/{f.name}' if f.suffix in PICTURES else f'sources/{f.name}.txt'
    (PROC/name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(f, PROC/name)
    return name

def options(cell):
    "The options of a code cell for Quarto, each on its line; texts quoted, so that whatever stands in a caption is YAML"
    found = {k: option(cell, k) for k in ('fig-cap', 'fig-alt') if option(cell, k)}
    lines = [f'#| label: {option(cell, "label")}']*bool(option(cell, 'label')) + [f'#| {k}: {json.dumps(v, ensure_ascii=False)}' for k, v in found.items()]
    if silent(cell): return lines + ['#| echo: false']
    return lines + ['#| code-fold: true', f'#| code-summary: {json.dumps(fold(cell))}']*bool(fold(cell))

class report_pages(Processor):
    "What nbdev does to a notebook before Quarto reads it, beyond its own steps (`doc_procs` of pyproject.toml)"
    def begin(self):
        path = Path(self.nb.path_).resolve()
        stem = path.relative_to(NBS).with_suffix('').as_posix()
        nb = prepared(nbformat.read(path, 4), stem, beside)
        name, about = title(nb, stem)
        head = {'title': name, 'description': about, 'output-file': Path(page(stem)).name}
        links = {} if '/' in stem else dict(Notebook=f'notebooks/{stem}.ipynb') | {k.title(): v for k, v in opened(stem).items()}
        if links: head['other-links'] = [dict(text=k, href=v) for k, v in links.items()]
        cells = [mk_cell(f'---\n{yaml.safe_dump(head, allow_unicode=True, width=10**6)}---', 'raw')]
        for i, c in enumerate(nb.cells):
            if c.cell_type == 'markdown': cells.append(mk_cell(re.sub(r'\A# .*\n?(>.*\n?)?', '', c.source) if i == 0 else c.source, 'markdown'))
            if c.cell_type != 'code': continue
            if anchors(c): cells.append(mk_cell('\n\n'.join(f'<div id="{a}"></div>' for a in anchors(c)), 'markdown'))
            cells.append(mk_cell('\n'.join([*options(c), source_of(c)]), 'code', outputs=c.outputs))
        self.nb.cells = [c for c in cells if c.source.strip()]

def mend(site):
    "What Quarto leaves: fonts from elsewhere in its style sheets, and a search index of all words of all outputs"
    for f in site.rglob('*.css'):
        text = f.read_text(encoding='utf-8')
        own = re.sub(r'@import\s*(?:url\()?["\']?(?:https?:)?//[^;]*;', '', text)
        if own != text: f.write_text(own, encoding='utf-8')
    if (site/'search.json').exists():
        found = json.loads((site/'search.json').read_text(encoding='utf-8'))
        text = json.dumps([e | dict(text=e['text'][:1000]) for e in found], ensure_ascii=False)
        (site/'search.json').write_text(text, encoding='utf-8')

def sitemap(site):
    "Addresses for search engines where the site has one ([tool.nbdev] doc_host, or SITE_URL in its workflow), else none"
    from nbdev.config import get_config
    cfg = get_config(ROOT)
    home = os.environ.get('SITE_URL') or (cfg.doc_host and cfg.doc_host + cfg.doc_baseurl)
    for name in ('sitemap.xml', 'robots.txt'): (site/name).unlink(missing_ok=True)
    if not home: return
    pages = [f'{home.rstrip("/")}/{f.relative_to(site).as_posix()}' for f in sorted(site.rglob('*.html')) if 'site_libs' not in f.parts]
    xml = ''.join(f'<url><loc>{p}</loc></url>\n' for p in pages)
    (site/'sitemap.xml').write_text(f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{xml}</urlset>\n')
    (site/'robots.txt').write_text(f'Sitemap: {home.rstrip("/")}/sitemap.xml\n')

def with_quarto():
    "nbdev's steps, then Quarto with all that it says; the API pages are made for it in nbs/api/, which git ignores"
    from nbdev.serve import proc_nbs
    found, site = notebooks(), ROOT/'_docs'
    (NBS/'api').mkdir(exist_ok=True)
    for name, stem in modules(found).items(): nbformat.write(api_page(name, found[stem], stem), NBS/f'{name}.ipynb')
    os.chdir(ROOT)
    proc_nbs(force=True, n_workers=0)
    if code := subprocess.run(['quarto', 'render', '--no-cache', '--output-dir', '_docs'], cwd=PROC).returncode: sys.exit(code)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(PROC/'_docs', site)
    mend(site)
    (site/'notebooks').mkdir(exist_ok=True)
    for stem, nb in found.items(): nbformat.write(clean(nb), site/'notebooks'/f'{stem}.ipynb')
    return site, 'Quarto'

def with_pandoc():
    return render_site(notebooks(), ROOT/'_site', 'Profile demo, simulated radiographs.').parent, 'pandoc, as quarto is not installed'

if __name__ == '__main__':
    site, tool = with_quarto() if shutil.which('quarto') else with_pandoc()
    sitemap(site)
    print(f'rendered with {tool}: {site.name}/index.html')
