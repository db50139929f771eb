"The API pages, made when the site is rendered: nbdev's show_doc of every public function, class and method, a page a module."
from importlib import import_module

from fastcore.docments import MarkdownRenderer
from nbdev.showdoc import show_doc
from nbformat.v4 import new_markdown_cell, new_notebook

from pages import module, order, page, title

class Entry(MarkdownRenderer):
    "nbdev's documentation of one name, with a link to its code in its chapter"
    def _repr_markdown_(self):
        head = f"{'#'*self.title_level} {self.nm}\n\n[code](../{self.home}#{self.nm.lower()})"
        return f'{head}\n\n{super()._repr_markdown_()}'

def entry(name, home):
    "The Markdown of one name of a module, '' where it is private"
    top, parts = import_module(name[0]), name[1].split('.')
    if any(p.startswith('_') for p in parts) or not hasattr(top, parts[0]): return ''
    obj = getattr(top, parts[0])
    for part in parts[1:]: obj = getattr(obj, part, None)
    obj = getattr(obj, 'func', obj)  # of a cached property
    if obj is None: return ''
    shown = show_doc(obj, Entry, name[1], 2 if len(parts) == 1 else 3)
    shown.home = home
    return shown._repr_markdown_()

def modules(notebooks):
    "The API pages that there are, as {name of the page: name of the chapter}"
    syms = import_module('mura_nb._modidx').d['syms']
    written = {s: module(notebooks[s]) for s in order(notebooks)}
    return {f'api/{name}': s for s, name in written.items() if name and f'mura_nb.{name}' in syms}

def api_page(name, nb, stem):
    "The API page `name` of the module that chapter `stem` writes, as a notebook"
    whole = f'mura_nb.{name[4:]}'
    head, about = title(nb, stem)
    symbols = sorted(import_module('mura_nb._modidx').d['syms'][whole])
    texts = [f'# {whole}\n> {about}\n\nExplained and tested in [{head}](../{stem}.ipynb).']
    texts += [entry((whole, symbol[len(whole)+1:]), page(stem)) for symbol in symbols]
    return new_notebook(cells=[new_markdown_cell(t) for t in texts if t])
