"""Renders executed notebooks as a site that needs no network: formulas as MathML, citations and figure numbers as Quarto gives them,
a search over an index of its own, no script from elsewhere."""
import base64, hashlib, io, json, os, re, shutil, tempfile
from html import escape, unescape
from pathlib import Path
from latex2mathml.converter import convert as mathml
from nbconvert import HTMLExporter, TemplateExporter
from nbconvert.filters import Highlight2HTML
from nbconvert.filters.markdown_mistune import IPythonRenderer
from pygments.formatters import HtmlFormatter
import cite
from pages import API, anchors, fold, label, linked_file, number, option, order, page, prepared, repository, sections, source_of, title
from runner import ROOT, directives

HERE = Path(__file__).parent
LETTERS = [chr(65+i) for i in range(26)]  # figures are A, B, ... as `fig-labels` of _quarto.yml has it: the source report's have numbers
FIGURE = re.compile(r'(?<![\w@/\[])@(fig-[\w-]*\w)|\[@(fig-[\w-]*\w)\](?!\()')
ids = {}  # headings of the page at hand


def slug(text):
    "The anchor that pandoc, and so Quarto, gives a heading"
    return re.sub(r'^[^a-z]+', '', re.sub(r'[^\w\-. ]', '', text).strip().lower().replace(' ', '-')) or 'section'


def _math(display):
    def render(self, body):
        try: return re.sub(r'(<mi[^>]*>(?:log|exp|max|min)</mi>)', r'<mspace width=".17em"/>\1<mspace width=".17em"/>', mathml(body, display=display))
        except Exception: return f'<code>{self.escape_html(body)}</code>'  # shown as it was written
    return render


def _heading(self, text, level, **attrs):
    name = slug(unescape(re.sub('<[^>]*>', '', text)))
    ids[name] = ids.get(name, -1) + 1
    if ids[name]: name = f'{name}-{ids[name]}'
    return f'<h{level} id="{name}">{text}<a class="anchor-link" href="#{name}" aria-label="link to this section">#</a></h{level}>\n'


# browsers draw MathML themselves; nbconvert would load a script from the network
IPythonRenderer.inline_math, IPythonRenderer.block_math = _math('inline'), _math('block')
IPythonRenderer.heading = _heading


def _table(self, text):
    "A table that scrolls in its own box, and whose intervals are not broken"
    whole = re.sub(r'\[(-?[\d.]+), (-?[\d.]+)\]', '[\\1,\N{NO-BREAK SPACE}\\2]', text)
    return f'<div class="scroll" role="region" aria-label="table" tabindex="0"><table>{whole}</table></div>\n'


IPythonRenderer.table = _table


# ---- what becomes of a notebook's cells

def _labels(nb):
    "Labels of the figures -> letters, in order"
    found = [option(c, 'label') for c in nb.cells if c.cell_type == 'code'] + [l for c in nb.cells if c.cell_type == 'markdown' for l in re.findall(r'\)\{#(fig-[\w-]+)', c.source)]
    named = [l for l in found if l.startswith('fig-')]
    return {l: LETTERS[i] if i < 26 else str(i+1) for i, l in enumerate(named)}


def _refer(md, letters):
    "Cross-references become links; one without its figure is left as it is"
    def link(m): l = m[1] or m[2]; return f'<a class="ref" href="#{l}">Figure {letters[l]}</a>' if l in letters else m[0]
    return cite.outside_code(lambda t: FIGURE.sub(link, t), md)


def _divs(md):
    "Quarto's fenced divs as HTML around the Markdown within"
    def open_(m):
        kinds = ' '.join(c.removeprefix('.') for c in m[1].split() if c.startswith('.')) or m[1].strip('{} ')
        return f'<div class="{escape(kinds)}">\n'
    return re.sub(r'^:::+\s*$', '\n</div>\n', re.sub(r'^:::+\s*(?:\{([^}\n]+)\}|(?<= )\w+)\s*$', lambda m: open_(m) if m[1] else '<div>\n', md, flags=re.M), flags=re.M) if ':::' in md else md


def _texts(nb):
    "Where Markdown stands in a notebook, as (container, key)"
    for c in nb.cells:
        if c.cell_type == 'markdown': yield c, 'source'
        elif c.cell_type == 'code': yield from ((o['data'], 'text/markdown') for o in c.outputs if 'text/markdown' in o.get('data', {}))


def _shown(cell, letters, simulated=True):
    "A code cell with what the template asks for"
    d, m = directives(cell), cell.metadata
    m['anchors'], m['fold'], m['no_input'] = anchors(cell), fold(cell), 'hide_input' in d or d.get('echo') == 'false'
    m['figure'] = next((l for l in [option(cell, 'label')] if l in letters), '')
    m['letter'], m['caption'], m['alt'] = letters.get(m['figure'], ''), option(cell, 'fig-cap'), option(cell, 'fig-alt')
    if not simulated: m['caption'] = m['caption'].replace(', on simulated radiographs', '')
    cell.source = source_of(cell)
    cell.outputs = [o for o in cell.outputs if not (o.output_type == 'stream' and o.name == 'stderr')] if 'hide_output' not in d else []


# ---- what becomes of the HTML

def _size(data):
    from PIL import Image
    try: w, h = Image.open(io.BytesIO(data)).size
    except Exception: return ''
    return f' width="{w}" height="{h}"'


def _kept(site, root, data, suffix):
    "A picture becomes a file of the site, named by its content; its src and size"
    name = f'pictures/{hashlib.sha1(data).hexdigest()[:12]}{suffix}'
    (site/name).parent.mkdir(exist_ok=True)
    if not (site/name).exists(): (site/name).write_bytes(data)
    return f'src="{root}{name}"{_size(data)} loading="lazy" decoding="async"'


def _pictures(html, site, root, folder):
    suffixes = {'image/png': '.png', 'image/jpeg': '.jpg', 'image/svg+xml': '.svg'}
    def taken(m): return _kept(site, root, base64.b64decode(m[2]), suffixes.get(m[1], ''))
    def copied(m):
        f = linked_file(m[1], folder) or next((f for f in [(folder/m[1]).resolve()] if f.is_file() and ROOT/'nbs' in f.parents), None)
        return _kept(site, root, f.read_bytes(), f.suffix) if f else m[0]
    html = re.sub(r'src="data:(image/[\w+]+);base64,([^"]+)"', taken, html)
    return re.sub(r'(?<=<img )(?:(?!src=)[^>])*?\bsrc="(?!\w+:|(?:\.\./)?pictures/)([^"]+)"', lambda m: m[0][:m[0].index('src=')] + copied(m), html)


def _figures(html, letters, landing):
    "A picture that is a paragraph of its own is a figure, as for pandoc; with a label it has a letter"
    def figure(m):
        attrs = unescape(m[3] or '')
        l, alt = re.search(r'#(fig-[\w-]+)', attrs), re.search(r'fig-alt="([^"]*)"', attrs)
        img = m[1].replace(f'alt="{m[2]}"', f'alt="{escape(alt[1])}"') if alt else m[1]
        said = f'Figure {letters[l[1]]}: {m[2]}' if l else m[2]
        marks = (f' id="{l[1]}"' if l else '') + (' class="hero"' if landing else '')
        return f'<figure{marks}>{img}<figcaption>{said}</figcaption></figure>'
    return re.sub(r'<p>(<img [^>]*?alt="([^"]*)"[^>]*>)(?:\{([^}]*)\})?</p>', figure, html)


def _relink(html, stems, stem):
    "Links between notebooks become links between pages"
    root = '../'*stem.count('/')
    def page_of(m):
        target = os.path.normpath(os.path.join(os.path.dirname(stem), m[1]))
        return f'href="{root}{os.path.join(os.path.dirname(target), page(os.path.basename(target)))}{m[2] or ""}"' if target in stems else m[0]
    return re.sub(r'href="((?:\.{1,2}/)*[\w./-]+)\.ipynb(#[^"]*)?"', page_of, html)


def _toc(html):
    "Headings of a page below its title, as (level, anchor, words)"
    return [(int(l), i, unescape(re.sub('<[^>]*>', '', re.sub(r'<a [^>]*anchor-link[^>]*>.*?</a>|<annotation.*?</annotation>', '', t, flags=re.S))).strip()) for l, i, t in re.findall(r'<h([23]) id="([^"]+)">(.*?)</h\1>', html, re.S)]


def _plain(html):
    "The words of a piece of HTML"
    html = re.sub(r'<(script|style|pre|summary|footer|nav|aside)\b.*?</\1>|<a [^>]*anchor-link[^>]*>.*?</a>', ' ', html, flags=re.S)
    html = re.sub(r'</?(?:a|b|i|em|strong|code|span|mark|m[a-z]+)\b[^>]*>', '', html)
    return re.sub(r'\s+', ' ', unescape(re.sub('<[^>]*>', ' ', html))).strip()


def entries(html, href, name):
    "A page for the search: [address, page, heading, words] of every section"
    main = re.search(r'<main.*?</main>', html, re.S)
    parts = re.split(r'<h([1-3]) id="([^"]+)">(.*?)</h\1>', main[0] if main else html, flags=re.S)
    found = [[href, name, '', _plain(parts[0])]] if _plain(parts[0]) else []
    for i in range(1, len(parts), 4):
        level, anchor, heading, text = parts[i:i+4]
        found.append([href if level == '1' else f'{href}#{anchor}', name, _plain(heading), _plain(text)])
    return found


def _css():
    css, dark, light = (HERE/'page'/'style.css').read_text(), HtmlFormatter(style='github-dark'), HtmlFormatter(style='friendly')
    chosen, system = dark.get_style_defs('[data-theme=dark] .highlight'), dark.get_style_defs(':root:not([data-theme=light]) .highlight')
    return f"{css}{light.get_style_defs('.highlight')}\n{chosen}\n@media screen and (prefers-color-scheme: dark) {{\n{system}\n}}\n"


# ---- the site

class Exporter(HTMLExporter):
    "nbconvert's, without its second parse of every page, which takes longer than all else"
    def from_notebook_node(self, nb, resources=None, **kw):
        self.register_filter('highlight_code', Highlight2HTML(pygments_lexer='ipython3', parent=self))
        return TemplateExporter.from_notebook_node(self, nb, resources, **kw)


def api_pages():
    "The API pages as tools/api.py wrote them"
    from pages import notebooks
    return {s: nb for s, nb in notebooks().items() if s.startswith(f'{API}/')}


def href(stem): return os.path.join(os.path.dirname(stem), page(os.path.basename(stem)))


def render_site(notebooks, site, note, simulated=True):
    """Render {name: notebook} to folder `site`, replaced as a whole; `note` says on every page what the numbers rest on. Captions say
    that radiographs are simulated, unless they are not."""
    stems = order(notebooks)
    exporter = Exporter(template_name='page', extra_template_basedirs=[str(HERE)], anchor_link_text='#')
    exporter.log.setLevel('ERROR')
    new = Path(tempfile.mkdtemp(dir=site.parent, prefix='.site-'))
    (new/'style.css').write_text(_css())
    shutil.copyfile(HERE/'page'/'site.js', new/'site.js')
    found = []
    for s in stems:
        root, folder, letters = '../'*s.count('/'), (ROOT/'nbs'/s).parent, None
        def to(f, picture):
            if picture: return os.path.relpath(f, folder)
            if repository(): return f'{repository()}/{f.relative_to(ROOT).as_posix()}'
            (new/'sources').mkdir(exist_ok=True)
            if f.suffix == '.ipynb': return os.path.relpath(f, folder)
            shutil.copyfile(f, new/'sources'/f'{f.name}.txt')
            return f'{root}sources/{f.name}.txt'
        nb = prepared(notebooks[s], s, to)
        letters = _labels(nb)
        places = list(_texts(nb))
        texts, refs = cite.resolve([''.join(w[k]) for w, k in places])
        for (w, k), t in zip(places, texts): w[k] = _divs(_refer(t, letters))
        for c in nb.cells:
            if c.cell_type == 'code': _shown(c, letters, simulated)
        nav = lambda t: dict(href=root + href(t), number=number(t), name=label(notebooks[t], t).removeprefix(number(t)).strip(), sub=title(notebooks[t], t)[1], here=t == s)
        i = stems.index(s)
        chrome = dict(root=root, first=nav('index') if 'index' in stems else nav(stems[0]), sections=[(n, [nav(t) for t in group]) for n, group in sections(stems)],
            note=note, page_title=title(nb, s)[0], description=title(nb, s)[1], refs=refs, landing=s == 'index',
            prev=nav(stems[i-1]) if i else None, next=nav(stems[i+1]) if i+1 < len(stems) else None)
        ids.clear()
        html, _ = exporter.from_notebook_node(nb, dict(metadata=dict(path=str(folder), name=s), chrome=chrome))
        html = _relink(_pictures(_figures(html, letters, s == 'index'), new, root, folder), stems, s)
        toc = ''.join(f'<li class="l{l}"><a href="#{a}">{escape(t)}</a></li>' for l, a, t in _toc(html))
        html = html.replace('<!--toc-->', f'<nav class="toc" aria-label="On this page"><p>On this page</p><ol>{toc}</ol></nav>' if toc else '')
        (new/href(s)).parent.mkdir(exist_ok=True)
        (new/href(s)).write_text(html, encoding='utf-8')
        found += entries(html, href(s), label(notebooks[s], s))
    (new/'search.js').write_text(f'window.SEARCH = {json.dumps(found, ensure_ascii=False, separators=(",", ":"))}\n', encoding='utf-8')
    new.chmod(0o755)
    shutil.rmtree(site, ignore_errors=True)
    os.replace(new, site)
    return site/href(stems[0])
