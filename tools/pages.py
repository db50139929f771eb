"""What a page of the site shows and in which order, for both ways to make it: Quarto (through nbdev) and pandoc (render.py).

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
from runner import ROOT, directives

NBS = ROOT/'nbs'
NUMBER = re.compile(r'^(\d+)([a-z]?)_')
LONG = 8  # lines of code from which on it is folded
BEST = ('text/markdown', 'text/html', 'image/svg+xml', 'image/png', 'image/jpeg', 'text/plain')  # of an output
EXPORTS = {'export', 'exports', 'exporti'}


def page(stem):
    "File name of a notebook's page, as nbdev's index has it"
    folder, _, name = stem.rpartition('/')
    return os.path.join(folder, NUMBER.sub('', name) + '.html')


def title(nb, stem):
    "H1 and `>` line of a notebook"
    text = next((c.source for c in nb.cells if c.cell_type == 'markdown' and c.source.startswith('# ')), f'# {stem}')
    subtitle = next((line[1:].strip() for line in text.splitlines() if line.startswith('>')), '')
    return text.splitlines()[0][2:].strip(), subtitle


def number(stem):
    "Of a chapter, as the text speaks of it: 4, 9a"
    m = NUMBER.match(stem)
    return f'{int(m[1])}{m[2]}' if m else ''


def label(nb, stem):
    "What the sidebar calls a page"
    if stem == 'index': return 'Overview'
    return stem[4:] if stem.startswith('api/') else f'{number(stem)} {title(nb, stem)[0]}'.strip()


def tree(stems):
    "Chapters in order with their rooms, as [(stem, [stems])]; the index first, the API pages are no part of it"
    found = {}
    for stem in sorted(s for s in stems if NUMBER.match(s)):
        digits, letter = NUMBER.match(stem).groups()
        home = next((s for s in found if letter and s.startswith(f'{digits}_')), stem)
        found.setdefault(home, [])
        if home != stem: found[home].append(stem)
    return [(s, []) for s in stems if s == 'index'] + list(found.items())


def order(stems):
    "Pages as one reads them: the index, each chapter and its rooms, the API pages"
    return [s for chapter, rooms in tree(stems) for s in (chapter, *rooms)] + [s for s in stems if s.startswith('api/')]


def notebooks(nbs=NBS):
    "All chapters and the index as {name: notebook}"
    return {f.stem: nbformat.read(f, 4) for f in sorted(nbs.glob('*.ipynb')) if not f.name.startswith(('_', '.'))}


def module(nb):
    "The module that a notebook writes, or None"
    return next((d['default_exp'] for c in nb.cells if c.cell_type == 'code' if 'default_exp' in (d := directives(c))), None)


# ---- cells

def source_of(cell):
    return '\n'.join(line for line in cell.source.splitlines() if not line.startswith('#|')).strip()


def hidden(cell):
    found = directives(cell) if cell.cell_type == 'code' else {}
    return bool({'hide', 'default_exp'} & found.keys()) or not cell.source.strip() or found.get('include') == 'false'


def option(cell, key):
    "A Quarto option of a code cell, its quotes taken off"
    return str(yaml.safe_load(directives(cell).get(key, '')) or '')


def defined(source):
    "Functions, classes, their methods and constants that code defines, named as nbdev's index names them"
    from nbdev.doclinks import patch_name
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    for t in ast.parse(source).body:
        if isinstance(t, functions): yield from [name] if isinstance(name := patch_name(t), str) else name
        if isinstance(t, ast.ClassDef): yield from [t.name] + [f'{t.name}.{m.name}' for m in t.body if isinstance(m, functions)]
        if isinstance(t, ast.Assign): yield from (n.id for x in t.targets for n in ast.walk(x) if isinstance(n, ast.Name))


def fold(cell):
    "Under which words a cell's code is folded; '' where it is shown"
    source = source_of(cell)
    if all(re.match(r'(from|import)\b|\s*#|\s*$', line) for line in source.splitlines()): return 'imports'
    if EXPORTS & directives(cell).keys():
        names = [n for n in defined(source) if '._' not in n and n.count('.') < 1] or ['code']
        return ', '.join([n for n in names if not n.startswith('_')] or names)
    drawn = option(cell, 'label').startswith('fig-')
    return ('code of the figure' if drawn else 'code') if len(source.splitlines()) >= LONG else ''


def anchors(cell):
    "The ends of nbdev's links to what an exported cell defines"
    return [n.lower() for n in dict.fromkeys(defined(source_of(cell)))] if EXPORTS & directives(cell).keys() else []


# ---- links

def repository():
    "Address of the repository, or '': [tool.nbdev] git_url, or the run of GitHub that renders this"
    from nbdev.config import get_config
    env = os.environ
    github = f"{env['GITHUB_SERVER_URL']}/{env['GITHUB_REPOSITORY']}" if 'GITHUB_REPOSITORY' in env else ''
    return (get_config(ROOT).git_url or github).rstrip('/')


def outside(text, up, to):
    "Links of Markdown in nbs/ that lead to a file of the checkout beside nbs/; `to(file)` gives the new target"
    def new(m):
        f = (NBS/m[1]).resolve()
        own = ROOT in f.parents and f.is_file() and not any(p.startswith('.') for p in f.relative_to(ROOT).parts)
        return f']({up}{to(f)}' if own else m[0]
    return re.sub(r'\]\((\.\./[^)\s#]+)', new, text)


def lookup(known):
    "nbdev's links from names in Markdown to where they are defined; none within a link, a heading or a table"
    from nbdev.doclinks import NbdevLookup

    class Lookup(NbdevLookup):
        seen = frozenset()

        def doc(self, name):
            "The first time on a page, and only where the page has it"
            link = (super().doc(name) or '').rpartition('/')[2]
            if not link or name in self.seen or known and link not in known: return None
            self.seen |= {name}
            return link

        def _link_sym(self, m):
            before = m.string[:m.start()]
            within = before.count('[') > before.count(']') or before.count('`') % 2
            return m[0] if within or m.string.startswith(('#', '|')) else super()._link_sym(m)
    return Lookup(incl_libs='mura_nb')


def prepared(nb, stem, to, known=frozenset()):
    """A copy of a notebook as both renderers take it: hidden cells and standard error left out, the best of each output kept, names
    linked to where they are defined (where `known` has that), links to files of the checkout as `to(file)` says"""
    nb, links, up = copy.deepcopy(nb), lookup(known), '../'*stem.count('/')
    nb.cells = [c for c in nb.cells if not hidden(c)]
    def text(md): return outside(md if up else links.linkify(md) or '', up, to)
    for c in nb.cells:
        if c.cell_type == 'markdown': c.source = text(c.source)
        if c.cell_type != 'code': continue
        c.outputs = [o for o in c.outputs if o.get('name') != 'stderr' and 'hide_output' not in directives(c)]
        for o in c.outputs:
            if 'data' not in o: continue
            best = next((k for k in BEST if k in o.data), None)
            value = ''.join(o.data.get(best, ''))
            if best == 'text/html' and '<table' in value: best, value = 'text/markdown', table(value)
            o.data = {best: text(value) if best == 'text/markdown' else value} if best else {}
    return nb


def table(html):
    "An HTML table as Markdown: Quarto loads scripts from elsewhere for HTML"
    import pypandoc
    html = re.sub(r'<style.*?</style>', '', html, flags=re.S)
    return pypandoc.convert_text(html, 'markdown-grid_tables-multiline_tables-simple_tables+pipe_tables', 'html-native_divs-native_spans', extra_args=['--columns=9999'])


# ---- the list of pages that Quarto reads

def sidebar(nbs=NBS):
    "The text of sidebar.yml"
    found = notebooks(nbs)
    def entry(s): return dict(text=label(found[s], s), href=f'{s}.ipynb')
    def section(s, rooms): return dict(section=label(found[s], s), href=f'{s}.ipynb', contents=[entry(r) for r in rooms])
    contents = [section(s, rooms) if rooms else entry(s) for s, rooms in tree(found)]
    reference = [dict(text=m, href=f'api/{m}.ipynb') for s in order(found) if (m := module(found[s]))]
    contents.append(dict(section='Reference', contents=reference))
    return '# written by tools/pages.py\n' + yaml.safe_dump(dict(website=dict(sidebar=dict(contents=contents))), sort_keys=False, allow_unicode=True, width=200)


if __name__ == '__main__': (NBS/'sidebar.yml').write_text(sidebar(), encoding='utf-8')
