"Renders executed notebooks as a small site that needs no network: pictures embedded, formulas as MathML, no script from elsewhere."
import base64, copy, mimetypes, os, re, shutil, tempfile
from html import unescape
from pathlib import Path
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer
from pygments.formatters import HtmlFormatter
from runner import ROOT, directives

HERE = Path(__file__).parent
NUMBER = re.compile(r'^\d+[a-z]?_')


def _math(display):
    def render(self, body):
        try: return mathml(body, display=display)
        except Exception: return f'<code>{self.escape_html(body)}</code>'  # shown as it was written
    return render

def _heading(self, text, level, **attrs):
    "A heading with the anchor that Quarto and GitHub give it"
    slug = re.sub(r'[^\w\- ]', '', unescape(re.sub('<[^>]*>', '', text))).strip().lower().replace(' ', '-')
    return f'<h{level} id="{slug}">{text}<a class="anchor-link" href="#{slug}" aria-label="link to this section">#</a></h{level}>\n'

# browsers draw MathML themselves; nbconvert would load a script from the network
IPythonRenderer.inline_math, IPythonRenderer.block_math = _math('inline'), _math('block')
IPythonRenderer.heading = _heading


def page(stem): return NUMBER.sub('', stem) + '.html'


def title(nb, stem):
    "H1 and `>` line of a notebook"
    text = next((c.source for c in nb.cells if c.cell_type == 'markdown' and c.source.lstrip().startswith('# ')), f'# {stem}')
    sub = re.search(r'^>\s*(.+)', text, re.M)
    return re.search(r'^# (.+)', text, re.M)[1].strip(), sub[1].strip() if sub else ''


def _summary(source):
    "What a folded cell defines: its functions and classes with their first words"
    names = re.findall(r'^(?:async )?(?:def|class) (\w+)', source, re.M) or re.findall(r'^([A-Za-z]\w*)(?:\s*,\s*\w+)*\s*=', source, re.M)
    return ', '.join(n for n in names if not n.startswith('_')) or ', '.join(names) or 'code'


def _visible(cell):
    "A copy of a cell as the page shows it, or None"
    d = directives(cell) if cell.cell_type == 'code' else {}
    if {'hide', 'default_exp'} & d.keys() or not cell.source.strip() or d.get('include') == 'false': return None
    c = copy.deepcopy(cell)
    if c.cell_type != 'code': return c
    c.source = '\n'.join(l for l in c.source.splitlines() if not l.startswith('#|')).strip()
    imports = all(re.match(r'(from|import)\b|\s*#|\s*$', l) for l in c.source.splitlines())
    c.metadata['fold'] = 'imports' if imports else _summary(c.source) if {'export', 'exporti', 'exports'} & d.keys() else ''
    c.metadata['no_input'] = 'hide_input' in d or d.get('echo') == 'false'
    c.outputs = [o for o in c.outputs if not (o.output_type == 'stream' and o.name == 'stderr')] if 'hide_output' not in d else []
    return c


def _relink(html, pages, site):
    "Links between notebooks become links between pages; pictures are embedded, other files of the checkout go with the page"
    def page_of(m): return f'href="{pages[m[1]]}{m[2] or ""}"' if m[1] in pages else m[0]
    def file_of(m):
        src = ROOT/m[1]
        if not src.is_file() or src.stat().st_size > 1e6: return m[0]
        shutil.copyfile(src, site/f'{src.name}.txt')
        return f'href="{src.name}.txt"'
    def embedded(m):
        src = (ROOT/'nbs'/m[1]).resolve()
        if not src.is_file() or ROOT not in src.parents: return m[0]
        return f'src="data:{mimetypes.guess_type(src.name)[0]};base64,{base64.b64encode(src.read_bytes()).decode()}"'
    html = re.sub(r'src="(?!\w+:)([^"]+)"', embedded, html)
    html = re.sub(r'href="(?:\./)?([\w-]+)\.ipynb(#[^"]*)?"', page_of, html)
    return re.sub(r'href="\.\./([\w./-]+)"', file_of, html)


def _css():
    dark = HtmlFormatter(style='github-dark').get_style_defs('.highlight')
    light = HtmlFormatter(style='friendly').get_style_defs('.highlight')
    return (HERE/'page'/'style.css').read_text() + light + '\n@media (prefers-color-scheme: dark) {\n' + dark + '\n}\n'


def render_site(notebooks, site, note):
    """Render {stem: notebook} to folder `site`, replaced as a whole; `note` says on every page what the numbers rest on."""
    order = sorted(notebooks, key=lambda s: (s != 'index', s))
    nav = [dict(href=page(s), number='' if s == 'index' else s.split('_')[0], name=NUMBER.sub('', s) if s != 'index' else 'overview', sub=title(notebooks[s], s)[1]) for s in order]
    pages = {s: page(s) for s in order}
    exporter = HTMLExporter(template_name='page', extra_template_basedirs=[str(HERE)], anchor_link_text='#')
    exporter.log.setLevel('ERROR')
    new = Path(tempfile.mkdtemp(dir=site.parent, prefix='.site-'))
    (new/'style.css').write_text(_css())
    for i, s in enumerate(order):
        nb = copy.deepcopy(notebooks[s])
        nb.cells = [c for c in map(_visible, nb.cells) if c is not None]
        chrome = dict(nav=nav, here=page(s), note=note, page_title=title(nb, s)[0],
            prev=nav[i-1] if i else None, next=nav[i+1] if i+1 < len(nav) else None)
        html, _ = exporter.from_notebook_node(nb, dict(metadata=dict(path=str(ROOT/'nbs'), name=s), chrome=chrome))
        (new/page(s)).write_text(_relink(html, pages, new), encoding='utf-8')
    new.chmod(0o755)
    shutil.rmtree(site, ignore_errors=True)
    os.replace(new, site)
    return site/page(order[0])
