"""What a page of the site shows and in which order, both with Quarto (publish.py) and with pandoc (render.py).

Run as a program it writes nbs/sidebar.yml, the list of pages that Quarto reads, and README.md from nbs/index.ipynb."""
import ast, copy, os, re, shutil, threading
import nbformat, yaml
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, patch_name
from runner import ROOT, directives

NBS = ROOT/'nbs'
NUMBER = re.compile(r'^(\d+)([a-z]*)_')
LONG = 8  # lines of code from which on it is folded
BEST = ('text/markdown', 'text/html', 'image/svg+xml', 'image/png', 'image/jpeg', 'text/plain')  # of an output
PICTURES = ('.png', '.jpg', '.jpeg', '.svg')
EXPORTS = {'export', 'exports', 'exporti'}

def page(stem):
    "File of a notebook's page, named as nbdev's index has it"
    folder, _, name = stem.rpartition('/')
    return os.path.join(folder, NUMBER.sub('', name) + '.html')

def title(nb, stem):
    "H1 and `>` line of a notebook"
    lines = next((c.source for c in nb.cells if c.source.startswith('# ')), f'# {stem}').splitlines()
    return lines[0][2:].strip(), next((line[1:].strip() for line in lines if line.startswith('>')), '')

def number(stem):
    "Of a chapter, as the text speaks of it: 4, 9a"
    m = NUMBER.match(stem)
    return f'{int(m[1])}{m[2]}' if m else ''

def label(nb, stem):
    "What the sidebar calls a page"
    if stem == 'index': return 'Overview'
    return f'{number(stem)} {title(nb, stem)[0]}'.strip() if nb else stem.rpartition('/')[2]

def tree(stems):
    "The index, then chapters in order with the rooms that have their number and a letter: [(stem, [stems])]"
    found = {s: [] for s in stems if s == 'index'}
    for stem in sorted(s for s in stems if NUMBER.match(s)):
        digits, letter = NUMBER.match(stem).groups()
        home = next((s for s in found if letter and s.startswith(f'{digits}_')), stem)
        found.setdefault(home, [])
        if home != stem: found[home].append(stem)
    return list(found.items())

def notebooks(nbs=NBS):
    "All chapters and the index as {name: notebook}, as one reads them"
    found = {f.stem: nbformat.read(f, 4) for f in nbs.glob('*.ipynb') if not f.name.startswith(('_', '.'))}
    return {s: found[s] for chapter, rooms in tree(found) for s in (chapter, *rooms)}

def module(nb):
    "The module that a notebook writes, or None"
    return next((d['default_exp'] for c in nb.cells if 'default_exp' in (d := directives(c))), None)

def source_of(cell):
    return '\n'.join(line for line in cell.source.splitlines() if not line.startswith('#|')).strip()

def hidden(cell):
    found = directives(cell) if cell.cell_type == 'code' else {}
    return bool({'hide', 'default_exp'} & found.keys()) or not cell.source.strip() or found.get('include') == 'false'

def silent(cell):
    "Is the code of a cell not shown?"
    return 'hide_input' in directives(cell) or directives(cell).get('echo') == 'false'

def option(cell, key):
    "A Quarto option of a code cell, its quotes taken off"
    value = directives(cell).get(key, '')
    return yaml.safe_load(value) if value.startswith(('"', "'")) else value

PARSER = threading.Lock()  # Python 3.11 may raise SystemError where two threads parse at once

def statements(cell):
    "The top level of an exported cell's code"
    if not EXPORTS & directives(cell).keys(): return []
    with PARSER: return ast.parse(source_of(cell)).body

def defined(cell):
    "Functions, classes and their methods that an exported cell defines, named as nbdev's index names them"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for t in statements(cell):
        if isinstance(t, functions): yield from [name] if isinstance(name := patch_name(t), str) else name
        if isinstance(t, ast.ClassDef): yield t.name
        if isinstance(t, ast.ClassDef): yield from (f'{t.name}.{m.name}' for m in t.body if isinstance(m, functions))

def anchors(cell):
    "The ends of nbdev's links to what an exported cell defines"
    return list(dict.fromkeys(n.lower() for n in defined(cell)))

def fold(cell):
    "Under which words a cell's code is folded; '' where it is shown"
    lines = source_of(cell).splitlines()
    if all(re.match(r'(from|import)\b|\s*#|\s*$', line) for line in lines): return 'imports'
    if EXPORTS & directives(cell).keys():
        names = [n for n in defined(cell) if '.' not in n] or [line.partition(' ')[0] for line in lines[:1]]
        return ', '.join([n for n in names if not n.startswith('_')] or names)
    return '' if len(lines) < LONG else 'code of the figure' if option(cell, 'label') else 'code'

def repository():
    "Address of the repository, or '': [tool.nbdev] git_url, or the run of GitHub that renders this"
    env = os.environ
    github = f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}" if 'GITHUB_REPOSITORY' in env else ''
    return (get_config(ROOT).git_url or github).rstrip('/')

def outside(text, site, pictures):
    "Links of Markdown that lead out of nbs/ to a file of the checkout: to the repository, or to a copy in `site`"
    def new(m):
        f = (NBS/m[1]).resolve()
        name, shown = f.relative_to(ROOT).as_posix() if ROOT in f.parents else '.', f.suffix in PICTURES
        if name.startswith('.') or not f.is_file() or shown and not pictures: return m[0]
        if repository() and not shown: return f']({repository()}/blob/main/{name}'
        (site/'sources').mkdir(parents=True, exist_ok=True)
        shutil.copyfile(f, site/'sources'/(kept := f.name if shown else f'{f.name}.txt'))
        return f'](sources/{kept}'
    return re.sub(r'\]\((\.\./[^)\s#]+)', new, text)

class Names(NbdevLookup):
    "nbdev's links from names to where they are defined: none within a link, a heading or a table, one a page a name"
    def __init__(self, known):
        super().__init__(incl_libs='mura_nb')
        self.known, self.seen = known, set()

    def doc(self, name):
        link = (super().doc(name) or '').rpartition('/')[2]
        if link not in self.known or name in self.seen: return None
        self.seen.add(name)
        return link

    def _link_sym(self, m):
        before = m.string[:m.start()]
        within = before.count('[') > before.count(']') or before.startswith(('#', '|'))
        return m[0] if within else super()._link_sym(m)

def ends(found):
    "Where nbdev's links may lead: 'page.html#name' for every exported name of {name: notebook}"
    shown = ((page(s), c) for s, nb in found.items() for c in nb.cells if c.cell_type == 'code' and not hidden(c))
    return {f'{name}#{a}' for name, c in shown for a in anchors(c)}

def options(cell):
    "The options that a code cell is shown with, as Quarto names them"
    found = {k: option(cell, k) for k in ('label', 'fig-cap', 'fig-alt')}
    found |= dict(echo=False) if silent(cell) else {'code-fold': True, 'code-summary': fold(cell)} if fold(cell) else {}
    return {k: v for k, v in found.items() if v != ''}

def prepared(nb, known, site, pictures=False):
    """A copy of a notebook as both renderers take it: without title, hidden cells and standard error; the best of each
    output; names linked as far as `known`; linked files of the checkout (also `pictures`) copied to `site`"""
    nb, names = copy.deepcopy(nb), Names(known)
    nb.cells = [c for c in nb.cells if not hidden(c)]
    nb.cells[0].source = re.sub(r'\A# .*\n*(>.*\n*)?', '', nb.cells[0].source)
    def text(md): return outside(names.linkify(md) or '', site, pictures)
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = text(c.source)
        else: c.outputs = [o for o in c.outputs if o.get('name') != 'stderr' and 'hide_output' not in directives(c)]
        for data in (o.data for o in c.get('outputs', ()) if 'data' in o):
            best = next(k for k in BEST if k in data)
            value = ''.join(data[best])
            data.clear()
            data[best] = text(value) if best == 'text/markdown' else value
    return nb

def sidebar(nbs=NBS):
    "The text of sidebar.yml: chapters, their rooms folded below them, and the API pages"
    found = notebooks(nbs)
    def entry(s): return dict(text=label(found[s], s), href=f'{s}.ipynb')
    def section(s): return dict(section=label(found[s], s), href=f'{s}.ipynb')
    chapters = tree(found)
    contents = [section(s) | dict(contents=[*map(entry, rooms)]) if rooms else entry(s) for s, rooms in chapters]
    reference = [dict(text=m, href=f'api/{m}.ipynb') for nb in found.values() if (m := module(nb))]
    listed = dict(website=dict(sidebar=dict(contents=[*contents, dict(section='Reference', contents=reference)])))
    return f'# written by tools/pages.py\n{yaml.safe_dump(listed, sort_keys=False, allow_unicode=True, width=200)}'

NOTE = '<!-- written by tools/pages.py from nbs/index.ipynb; edit that -->'

def parts(cell):
    "Source and outputs of a cell as Markdown; a README holds no pictures of cells"
    if hidden(cell): return
    if cell.cell_type == 'markdown': yield cell.source.strip()
    elif not silent(cell): yield f'```python\n{source_of(cell)}\n```'
    for data in (o.data for o in cell.get('outputs', []) if 'data' in o and 'image/png' not in o.data):
        text = data.get('text/markdown') or f"```text\n{data['text/plain'].strip()}\n```"
        yield text.strip()

def readme(notebook=NBS/'index.ipynb'):
    "The README's text: links start at the root, not in nbs/; GitHub knows neither citations nor labels of figures"
    text = '\n\n'.join([NOTE, *(p for c in nbformat.read(notebook, 4).cells for p in parts(c))])
    text = re.sub(r' ?\[-?@[^\]]*\]|(?<=\))\{#fig-[^}]*\}', '', text).replace('](../', '](')
    return re.sub(r'\]\(([\w-]+\.ipynb)', r'](nbs/\1', text) + '\n'

if __name__ == '__main__':
    (NBS/'sidebar.yml').write_text(sidebar(), encoding='utf-8')
    (ROOT/'README.md').write_text(readme(), encoding='utf-8')
