"""make site: the report's pages from the outputs that nbs/ holds, nothing is run again.

With the program quarto it renders what nbdev hands it, to _docs/; else pandoc, to _site/. The last line says which.
The shipped network goes along as a page that runs it in the reader's browser."""
import json, os, re, shutil, subprocess, sys
from functools import cache
from pathlib import Path
import nbformat, yaml
from fastcore.nbio import mk_cell
from nbdev.config import get_config
from nbdev.process import Processor
from nbdev.serve import proc_nbs
from api import api_page, modules
from pages import NBS, anchors, ends, notebooks, options, page, prepared, source_of, title
from render import keep_notebooks, opened, render_site
from runner import ROOT

PROC = ROOT/'_proc'
FOREIGN = r'@import\s*(?:url\()?(["\']?)(?:https?:)?//[^"\')]*\1\)?[^;"\']*;'  # fetched by style sheets

known = cache(lambda: frozenset(ends(notebooks())))  # where names may lead to

def head(stem, name, about):
    "Title, subtitle, name and downloads of a page"
    links = {} if '/' in stem else {'notebook': f'notebooks/{stem}.ipynb'} | opened(stem)
    more = {'other-links': [dict(text=k.title(), href=v) for k, v in links.items()]} if links else {}
    meta = {'title': name, 'description': about, 'output-file': Path(page(stem)).name} | more
    return mk_cell(f'---\n{yaml.safe_dump(meta, allow_unicode=True, width=10**6)}---', 'raw')

class report_pages(Processor):
    "What nbdev does to a notebook before Quarto reads it, beyond its own steps (`doc_procs` of pyproject.toml)"
    def begin(self):
        path = Path(self.nb.path_).resolve()
        stem, nb = path.relative_to(NBS).with_suffix('').as_posix(), nbformat.read(path, 4)
        cells = [head(stem, *title(nb, stem))]
        for c in prepared(nb, () if '/' in stem else known(), PROC, True).cells:
            if c.cell_type == 'markdown': cells.append(mk_cell(c.source, 'markdown'))
            else:
                said = [f'#| {k}: {json.dumps(v, ensure_ascii=False)}' for k, v in options(c).items()]  # JSON is YAML
                cells.append(mk_cell('\n\n'.join(f'<div id="{a}"></div>' for a in anchors(c)), 'markdown'))
                cells.append(mk_cell('\n'.join([*said, source_of(c)]), 'code', outputs=c.outputs))
        self.nb.cells = [c for c in cells if c.source.strip()]

def mend(site):
    "What Quarto leaves: fonts from elsewhere in its style sheets, and a search index of all words of all outputs"
    for f in site.rglob('*.css'):
        text = f.read_text(encoding='utf-8')
        f.write_text(re.sub(FOREIGN, '', text), encoding='utf-8')
    for f in site.glob('search.json'):
        found = [e | dict(text=e['text'][:1000]) for e in json.loads(f.read_text(encoding='utf-8'))]
        f.write_text(json.dumps(found, ensure_ascii=False), encoding='utf-8')

def sitemap(site):
    "Addresses for search engines where the site has one ([tool.nbdev] doc_host, or SITE_URL of the workflow)"
    cfg = get_config(ROOT)
    home = (os.environ.get('SITE_URL') or (cfg.doc_host and cfg.doc_host + cfg.doc_baseurl)).rstrip('/')
    for name in ('sitemap.xml', 'robots.txt'): (site/name).unlink(missing_ok=True)
    if not home: return
    pages = [f.relative_to(site).as_posix() for f in sorted(site.rglob('*.html')) if 'site_libs' not in f.parts]
    xml = ''.join(f'<url><loc>{home}/{p}</loc></url>\n' for p in pages)
    (site/'sitemap.xml').write_text(f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{xml}</urlset>\n')
    (site/'robots.txt').write_text(f'Sitemap: {home}/sitemap.xml\n')

def handed():
    "nbdev's steps before Quarto; the API pages are made for it in nbs/api/, which git ignores"
    found = notebooks()
    shutil.rmtree(NBS/'api', ignore_errors=True) # a module may be gone
    (NBS/'api').mkdir()
    for name, stem in modules(found).items():
        nbformat.write(api_page(name, found[stem], stem, known()), NBS/f'{name}.ipynb')
    os.chdir(ROOT)
    proc_nbs(force=True, n_workers=0)
    return found

def with_quarto():
    "Quarto with all that it says"
    found, site = handed(), ROOT/'_docs'
    command = ['quarto', 'render', '--no-cache', '--output-dir', '_docs']
    if code := subprocess.run(command, cwd=PROC).returncode: sys.exit(code)
    shutil.rmtree(site, ignore_errors=True)
    shutil.move(PROC/'_docs', site)
    mend(site)
    keep_notebooks(found, site)
    return site, 'Quarto'

def with_pandoc():
    index = render_site(notebooks(), ROOT/'_site', 'Profile demo, simulated radiographs.')
    return index.parent, 'pandoc, as quarto is not installed'

# Quarto's title, and pandoc's
HEAD = r'<header id="title-block-header".*?</header>|<h1>.*?</h1>\s*(?:<p class="subtitle">.*?</p>)?'
OFFER = '<p><a href="browser/index.html">Try it on a picture, in your browser</a>; nothing is sent anywhere.</p>'

def offer(html):
    "The first page with a link to the network that runs in the browser, below its title"
    return re.sub(HEAD, lambda m: f'{m[0]}\n{OFFER}', html, count=1, flags=re.S)

def add_browser_page(site, weights=ROOT/'mura_nb'/'weights'):
    "The folder browser/ with the shipped network, and the link to it; what was done, in words"
    shipped = sorted(weights.glob('*.safetensors'))
    if not shipped: return 'browser/ left out: no network is shipped in mura_nb/weights'
    from mura_nb.browser import write_browser_page  # here: PyTorch takes seconds to import
    try: page = write_browser_page(site/'browser', shipped[0])
    except RuntimeError as e:
        if os.environ.get('CI'): sys.exit(f'browser/ cannot be made, so the site is not published: {e}')
        return f'browser/ left out: {e}'
    index = site/'index.html'
    index.write_text(offer(index.read_text(encoding='utf-8')), encoding='utf-8')
    return f'{shipped[0].stem} runs in browser/{page.name}'

if __name__ == '__main__':
    site, tool = with_quarto() if shutil.which('quarto') else with_pandoc()
    print(add_browser_page(site))
    sitemap(site)
    print(f'rendered with {tool}: {site.name}/index.html')
