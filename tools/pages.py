"""What a page of the site shows and in which order, for both ways to make it: Quarto (through nbdev) and nbconvert (render.py).

Run as a program it writes nbs/sidebar.yml, the list of pages that Quarto reads."""
import ast, copy, os, re, sys
from functools import lru_cache
from pathlib import Path
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from runner import ROOT, directives

NUMBER = re.compile(r'^\d+[a-z]?_')
USE = ('engines', 'programs', 'app')  # chapters for someone who wants to use the thing
CLOSE = ('findings', 'models', 'checklist')  # what the report comes to
LONG = 8  # lines of a figure's code from which on it is folded
API = 'api'


def page(stem): return NUMBER.sub('', stem) + '.html'


def title(nb, stem):
    "H1 and `>` line of a notebook"
    text = next((c.source for c in nb.cells if c.cell_type == 'markdown' and c.source.lstrip().startswith('# ')), f'# {stem}')
    sub = re.search(r'^>\s*(.+)', text, re.M)
    return re.search(r'^# (.+)', text, re.M)[1].strip(), sub[1].strip() if sub else ''


def without_title(md):
    "The text of a notebook's first cell below H1 and `>` line"
    return re.sub(r'\A\s*# .+\n+(?:>.*\n?)*\s*', '', md + '\n').strip()


def landing(md):
    "The first cell of the landing page with its picture directly below its title"
    rest, shown = without_title(md), re.search(r'^!\[.*\]\([^)\n]+\)(?:\{[^}\n]*\})?$', md, re.M)
    if not shown or shown[0] not in rest: return md
    return md[:md.index(rest)] + shown[0] + '\n\n' + re.sub(r'\n{3,}', '\n\n', rest.replace(shown[0], '', 1)).strip()


def number(stem):
    "Of a chapter, as the text speaks of it: 4, 9a"
    m = re.match(r'0*(\d+[a-z]?)_', stem)
    return m[1] if m else ''


def sections(stems):
    "The chapters under the headings of the sidebar, then the API pages; the index stands before all"
    numbered = sorted(s for s in stems if NUMBER.match(s))
    used,last = ([s for s in numbered if NUMBER.sub('', s) in some] for some in (USE, CLOSE))
    api = sorted((s for s in stems if s.startswith(f'{API}/')), key=lambda s: [NUMBER.sub('', n) for n in numbered].index(s[4:]) if s[4:] in [NUMBER.sub('', n) for n in numbered] else 99)
    res = [('Report', [s for s in numbered if s not in (*used, *last)]), ('Use it', used), ('In the end', last), ('Reference', api)]
    return [(name, s) for name, s in res if s]


def order(stems): return [s for s in stems if s == 'index'] + [s for _, group in sections(stems) for s in group]


def label(nb, stem):
    "What the sidebar calls a page"
    if stem == 'index': return 'Overview'
    if stem.startswith(f'{API}/'): return stem[4:]
    return f'{number(stem)} {title(nb, stem)[0]}'.strip()


# ---- cells

def names(source):
    "Public names that a cell defines; without any, the private ones"
    found = re.findall(r'^(?:async )?(?:def|class) (\w+)', source, re.M) or re.findall(r'^([A-Za-z]\w*)(?:\s*,\s*\w+)*\s*=', source, re.M)
    return [n for n in found if not n.startswith('_')] or found


def source_of(cell): return '\n'.join(l for l in cell.source.splitlines() if not l.startswith('#|')).strip()


def hidden(cell):
    d = directives(cell) if cell.cell_type == 'code' else {}
    return bool({'hide', 'default_exp'} & d.keys()) or not cell.source.strip() or d.get('include') == 'false'


def option(cell, key):
    "A Quarto option of a code cell, its quotes taken off"
    value = directives(cell).get(key, '')
    return str(yaml.safe_load(value) or '') if value else ''


def fold(cell):
    "Under which words a cell's code is folded; '' where it is shown"
    d, source = directives(cell), source_of(cell)
    if all(re.match(r'(from|import)\b|\s*#|\s*$', l) for l in source.splitlines()): return 'imports'
    if {'export', 'exporti', 'exports'} & d.keys(): return ', '.join(names(source)) or 'code'
    if option(cell, 'label').startswith('fig-') and len(source.splitlines()) >= LONG: return 'code of the figure'
    return ''


def anchors(cell):
    "Names under which the API pages point to an exported cell: code-Class, code-function, code-Class.patched_method, code-CONSTANT"
    if not {'export', 'exporti', 'exports'} & directives(cell).keys(): return []
    from nbdev.doclinks import patch_name
    found = []
    for t in ast.parse(source_of(cell)).body:
        if isinstance(t, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = patch_name(t)
            found += name if isinstance(name, list) else [name]
        elif isinstance(t, ast.Assign): found += [n.id for target in t.targets for n in ast.walk(target) if isinstance(n, ast.Name) and n.id.isupper()]
    return [f'code-{n}' for n in dict.fromkeys(found) if not any(p.startswith('_') for p in n.split('.'))]


# ---- Markdown

_code = re.compile(r'(^```.*?^```[^\n]*$|`[^`\n]+`|\$\$.*?\$\$)', re.M | re.S)


def outside_code(f, md):
    "Apply `f` to what is neither code nor a formula"
    return ''.join(t if i % 2 else f(t) for i, t in enumerate(_code.split(md)))


def _outside_blocks(f, md):
    return ''.join(t if i % 2 else f(t) for i, t in enumerate(re.split(r'(^```.*?^```[^\n]*$)', md, flags=re.M | re.S)))


@lru_cache
def repository():
    "Where the files can be looked at, or '': what nbdev knows, or the run of GitHub that renders this"
    web = (yaml.safe_load((ROOT/'nbs'/'nbdev.yml').read_text()) or {}).get('website', {})
    if web.get('repo-url'): return f"{web['repo-url'].rstrip('/')}/blob/{web.get('repo-branch', 'main')}"
    e = os.environ
    return f"{e['GITHUB_SERVER_URL']}/{e['GITHUB_REPOSITORY']}/blob/{e['GITHUB_SHA']}" if {'GITHUB_SERVER_URL', 'GITHUB_REPOSITORY', 'GITHUB_SHA'} <= e.keys() else ''


def linked_file(link, folder=ROOT/'nbs'):
    "The file of the checkout outside nbs/ that a link leads to, or None"
    if re.match(r'\w+:|#|/', link): return None
    f = (folder/link.partition('#')[0]).resolve()
    inside = ROOT in f.parents and ROOT/'nbs' not in f.parents
    return f if inside and f.is_file() and f.stat().st_size < 4e6 and not any(p.startswith('.') for p in f.relative_to(ROOT).parts) else None


def file_links(md, to, folder=ROOT/'nbs'):
    "Links and pictures of `md` that lead out of nbs/ to a file of the checkout: `to(file, picture)` gives the new target"
    def new(m):
        f = linked_file(m[3], folder)
        return f'{m[1]}{m[2]}({to(f, m[1] == "!")}{m[4]})' if f else m[0]
    return _outside_blocks(lambda t: re.sub(r'(!?)(\[(?:[^\[\]]|\[[^\]]*\]\([^)]*\))*\])\(([^()\s]+)((?:\s+"[^"]*")?)\)', new, t), md) if '](../' in md else md


@lru_cache
def symbols():
    "Public names of the package that only one module has -> (module, anchor) of their API page"
    from importlib import import_module
    found = {}
    for module, syms in import_module('mura_nb._modidx').d['syms'].items():
        if not (ROOT/'nbs'/API/f"{module.split('.')[-1]}.ipynb").exists(): continue
        for s in syms:
            name = s[len(module)+1:]
            if not any(p.startswith('_') for p in name.split('.')): found.setdefault(name, []).append((module.split('.')[-1], name.lower()))
    return {n: m[0] for n, m in found.items() if len(m) == 1}


def link_symbols(md, seen, folder=''):
    "The first time that a function is named on a page, its name leads to its API page"
    def link(m):
        name = m[2].removesuffix('()')
        if name in seen or name not in symbols() or m[1]: return m[0]
        seen.add(name)
        module, anchor = symbols()[name]
        return f'[`{m[2]}`]({folder}{API}/{module}.ipynb#{anchor})'
    def line(l): return l if l.startswith(('#', '|', '    ')) else re.sub(r'(\[[^\]\n]*)?`([A-Za-z][\w.]*(?:\(\))?)`', link, l)
    return _outside_blocks(lambda p: '\n'.join(map(line, p.split('\n'))), md)


def prepared(nb, stem, to):
    """A copy of a notebook as both renderers take it: hidden cells left out, names linked to their API page, links to files of the
    checkout as `to(file, picture)` says"""
    nb, seen = copy.deepcopy(nb), set()
    folder = (ROOT/'nbs'/stem).parent
    nb.cells = [c for c in nb.cells if not hidden(c)]
    texts = []
    if stem == 'index': nb.cells[0]['source'] = landing(nb.cells[0].source)
    for c in nb.cells:
        if c.cell_type == 'markdown': texts.append((c, 'source'))
        elif c.cell_type == 'code': texts += [(o['data'], 'text/markdown') for o in c.outputs if 'text/markdown' in o.get('data', {})]
    for where, key in texts:
        md = file_links(''.join(where[key]), to, folder)
        where[key] = md if stem.startswith(f'{API}/') else link_symbols(md, seen)
    return nb


# ---- the list of pages that Quarto reads

class Indented(yaml.SafeDumper):
    def increase_indent(self, flow=False, indentless=False): return super().increase_indent(flow, False)


def notebooks(nbs=ROOT/'nbs'):
    "All pages as {name: notebook}"
    import nbformat
    files = [*nbs.glob('*.ipynb'), *(nbs/API).glob('*.ipynb')]
    return {f.relative_to(nbs).with_suffix('').as_posix(): nbformat.read(f, 4) for f in sorted(files) if not f.name.startswith(('_', '.'))}


def sidebar(nbs=ROOT/'nbs'):
    "The text of sidebar.yml"
    found = notebooks(nbs)
    entry = lambda s: dict(text=label(found[s], s), href=f'{s}.ipynb')
    contents = [entry('index')] + [dict(section=name, contents=[entry(s) for s in group]) for name, group in sections(found)]
    return '# written by tools/pages.py\n' + yaml.dump(dict(website=dict(sidebar=dict(contents=contents))), Dumper=Indented, sort_keys=False, allow_unicode=True, width=200)


if __name__ == '__main__': (ROOT/'nbs'/'sidebar.yml').write_text(sidebar(), encoding='utf-8')
