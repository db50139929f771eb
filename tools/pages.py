"""What a page of the site shows and in which order, for both ways to make it: Quarto (publish.py) and pandoc (render.py).

Run as a program it writes nbs/sidebar.yml, the list of pages that Quarto reads."""
import ast
import copy
import os
import re
import sys
from pathlib import Path

import nbformat
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, patch_name

from runner import ROOT, directives

NBS = ROOT/'nbs'
NUMBER = re.compile(r'^(\d+)([a-z]?)_')
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

def source_of(cell): return '\n'.join(line for line in cell.source.splitlines() if not line.startswith('#|')).strip()

def hidden(cell):
    found = directives(cell) if cell.cell_type == 'code' else {}
    return bool({'hide', 'default_exp'} & found.keys()) or not cell.source.strip() or found.get('include') == 'false'

def silent(cell):
    "Is the code of a cell not shown?"
    return 'hide_input' in directives(cell) or directives(cell).get('echo') == 'false'

def option(cell, key):
    "A Quarto option of a code cell, its quotes taken off"
    return str(yaml.safe_load(directives(cell).get(key, '')) or '')

def defined(cell):
    "Functions, classes and their methods that an exported cell defines, named as nbdev's index names them"
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for t in ast.parse(source_of(cell)).body if EXPORTS & directives(cell).keys() else ():
        if isinstance(t, functions): yield from [name] if isinstance(name := patch_name(t), str) else name
        if isinstance(t, ast.ClassDef): yield from [t.name, *(f'{t.name}.{m.name}' for m in t.body if isinstance(m, functions))]

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

def outside(text, to):
    "Links of Markdown that lead out of nbs/ to a file of the checkout; `to(file)` gives the new target"
    def new(m):
        f = (NBS/m[1]).resolve()
        shared = ROOT in f.parents and f.is_file() and not any(p.startswith('.') for p in f.relative_to(ROOT).parts)
        if not shared: return m[0]
        if f.suffix not in PICTURES and repository(): return f']({repository()}/blob/main/{f.relative_to(ROOT).as_posix()}'
        return f']({to(f)}'
    return re.sub(r'\]\((\.\./[^)\s#]+)', new, text)

class Names(NbdevLookup):
    "nbdev's links from names to where they are defined: none within a link, a heading or a table, one a page for each name"
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

def prepared(nb, known, to):
    """A copy of a notebook as both renderers take it: its title taken off, hidden cells and standard error left out, of each output
    the best, names linked (as far as `known`), links to files of the checkout as `to(file)` says"""
    nb, names = copy.deepcopy(nb), Names(known)
    nb.cells = [c for c in nb.cells if not hidden(c)]
    nb.cells[0].source = re.sub(r'\A# .*\n*(>.*\n*)?', '', nb.cells[0].source)
    def text(md): return outside(names.linkify(md) or '', to)
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = text(c.source)
        else: c.outputs = [o for o in c.outputs if o.get('name') != 'stderr' and 'hide_output' not in directives(c)]
        for o in c.get('outputs', ()):
            if 'data' not in o: continue
            best = next(k for k in BEST if k in o.data)
            value = ''.join(o.data[best])
            o.data = nbformat.from_dict({best: text(value) if best == 'text/markdown' else value})
    return nb

def sidebar(nbs=NBS):
    "The text of sidebar.yml: chapters, their rooms folded below them, and the API pages"
    found = notebooks(nbs)
    def entry(s): return dict(text=label(found[s], s), href=f'{s}.ipynb')
    def section(s, rooms): return dict(section=label(found[s], s), href=f'{s}.ipynb', contents=[entry(r) for r in rooms])
    contents = [section(s, rooms) if rooms else entry(s) for s, rooms in tree(found)]
    reference = [dict(text=m, href=f'api/{m}.ipynb') for nb in found.values() if (m := module(nb))]
    listed = dict(website=dict(sidebar=dict(contents=[*contents, dict(section='Reference', contents=reference)])))
    return '# written by tools/pages.py\n' + yaml.safe_dump(listed, sort_keys=False, allow_unicode=True, width=200)

if __name__ == '__main__': (NBS/'sidebar.yml').write_text(sidebar(), encoding='utf-8')
