"""Writes the API pages nbs/api/<module>.ipynb: every public function with its signature, arguments, docstring and source.

--check only compares. The pages are notebooks without code, so that nbdev and nbconvert treat them as they treat chapters."""
import ast, hashlib, inspect, re, sys, textwrap
from importlib import import_module
from pathlib import Path
import nbformat
from nbformat.v4 import new_markdown_cell, new_notebook

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from pages import API
from runner import ROOT

OUT = ROOT/'nbs'/API


def chapters():
    "Chapters that write a module, as (module, path of the notebook)"
    for f in sorted((ROOT/'nbs').glob('[0-9]*_*.ipynb')):
        m = re.search(r'^#\| *default_exp +(\w+)', '\n'.join(c.source for c in nbformat.read(f, 4).cells if c.cell_type == 'code'), re.M)
        if m and (ROOT/'mura_nb'/f'{m[1]}.py').exists(): yield m[1], f


def public(module):
    """Names of public functions, classes and their methods -> the anchor of the cell that defines them; in the order of the module,
    patched methods with their class"""
    from fastcore.utils import L
    from nbdev.doclinks import patch_name
    defs, found = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), {}
    for t in ast.parse((ROOT/'mura_nb'/f'{module}.py').read_text(encoding='utf-8')).body:
        if isinstance(t, defs): found |= {n: n for n in L(patch_name(t))}
        if isinstance(t, ast.ClassDef): found |= {f'{t.name}.{m.name}': t.name for m in t.body if isinstance(m, defs)}
    found = {n: a for n, a in found.items() if not any(p.startswith('_') for p in n.split('.'))}
    tops = [n for n in found if '.' not in n]
    return {n: found[n] for t in dict.fromkeys(tops + [n.split('.')[0] for n in found]) for n in found if n.split('.')[0] == t}


def short(text):
    "Names without their modules, objects without their addresses: the same on every computer and version of Python"
    text = re.sub(r'\b(?:[a-z_]\w*\.)+(?=_?[A-Z]\w*)', '', text)
    return re.sub(r"<function (\w+) at 0x\w+>|<class '(\w+)'>|<_?(\w+) object at 0x\w+>", lambda m: m[1] or m[2] or m[3].removesuffix('_TYPE'), text)


def signature(obj, name):
    "As one would call it, types left to the table"
    try: params = inspect.signature(obj).parameters.values()
    except (TypeError, ValueError): return name
    if all(p.name in ('args', 'kwargs') for p in params) and inspect.isclass(obj): return name + '(...)'
    said, star = [], False
    for p in params:
        if p.name in ('self', 'cls') and '.' in name: continue
        if p.kind == p.KEYWORD_ONLY and not star: said.append('*'); star = True
        star |= p.kind == p.VAR_POSITIONAL
        said.append({p.VAR_POSITIONAL: '*', p.VAR_KEYWORD: '**'}.get(p.kind, '') + p.name + ('' if p.default is p.empty else f'={short(repr(p.default))}'))
    one = f"{name}({', '.join(said)})"
    return one if len(one) < 90 else name + '(\n' + textwrap.fill(', '.join(said), 86, initial_indent='    ', subsequent_indent='    ', break_long_words=False, break_on_hyphens=False) + '\n)'


def table(obj):
    "Arguments and result as nbdev's table of docments"
    from fastcore.docments import DocmentTbl
    try: text = str(DocmentTbl(obj))
    except Exception: return ''
    if not text: return ''
    first, rest = text.split('\n', 1)
    return short(first.replace('|    |', '| **Argument** |') + '\n' + rest).replace('| NoneType |', '|  |')


def linked(doc):
    "A docstring as Markdown: a star before a word is a star unless it begins an emphasis"
    return re.sub(r'(?<![\w`*\\])\*(?=\w)(?![^*\n]*\w\*)', r'\\*', inspect.cleandoc(doc))


def entry(module, name, anchor, notebook):
    "The Markdown of one function, class, method or property"
    mod = import_module(f'mura_nb.{module}')
    obj = mod
    for part in name.split('.'): obj = inspect.getattr_static(obj, part) if inspect.isclass(obj) else getattr(obj, part)
    kind = 'property ' if isinstance(obj, property) or type(obj).__name__ == 'cached_property' else ''
    real = getattr(obj, 'func', None) if kind and not isinstance(obj, property) else obj.fget if kind else getattr(obj, '__func__', obj)
    doc = inspect.getdoc(real) or ''
    if inspect.isclass(real) and not real.__dict__.get('__doc__'): doc = ''
    if inspect.isclass(real) and doc.startswith(f'{real.__name__}('): doc = ''  # what dataclasses and named tuples write themselves
    chapter = f"[in its chapter](../{notebook.name}#code-{anchor})"
    source = f'{chapter}, [`{module}.py`](../../mura_nb/{module}.py)'
    said = f'{kind}{name}' if kind else signature(real, name)
    return '\n\n'.join(p for p in (f"{'###' if '.' in name else '##'} {name}", f'```python\n{said}\n```', linked(doc), table(real), f'Source: {source}') if p)


def module_page(module, notebook):
    "A module's page as a notebook"
    from pages import title
    head = title(nbformat.read(notebook, 4), notebook.stem)
    shown = public(module)
    tops = [n for n in shown if '.' not in n]
    about = f'# mura_nb.{module}\n> {head[1]}\n\n`from mura_nb.{module} import ...` The chapter [{head[0]}](../{notebook.name}) explains and tests what stands here.'
    if tops: about += '\n\n' + ', '.join(f'[{n}](#{n.lower()})' for n in tops)
    cells = [about] + [entry(module, n, a, notebook) for n, a in shown.items()]
    nb = new_notebook(cells=[new_markdown_cell(c, id=hashlib.sha1(c.encode()).hexdigest()[:8]) for c in cells])
    nb.metadata = dict(kernelspec=dict(display_name='python3', language='python', name='python3'))
    return nb


def pages(): return {f'{m}.ipynb': nbformat.writes(module_page(m, f), version=4) + '\n' for m, f in chapters()}


def main():
    new, old = pages(), {f.name: f.read_text(encoding='utf-8') for f in OUT.glob('*.ipynb')}
    if '--check' in sys.argv:
        if wrong := sorted(n for n in new.keys() | old.keys() if new.get(n) != old.get(n)):
            sys.exit(f"API pages not in step with the modules: {', '.join(wrong)}. Run .venv/bin/python tools/api.py")
        return 0
    OUT.mkdir(exist_ok=True)
    for n in old.keys() - new.keys(): (OUT/n).unlink()
    for n, text in new.items():
        if old.get(n) != text: (OUT/n).write_text(text, encoding='utf-8')
    return 0


if __name__ == '__main__': sys.exit(main())
