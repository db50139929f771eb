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


def api_pages(notebooks):
    "The API pages of the modules that `notebooks` write, as {name: notebook}"
    syms, found = import_module('mura_nb._modidx').d['syms'], {}
    for stem in order(notebooks):
        if not (name := module(notebooks[stem])) or f'mura_nb.{name}' not in syms: continue
        head, about = title(notebooks[stem], stem)
        texts = [f'# mura_nb.{name}\n> {about}\n\nExplained and tested in [{head}](../{stem}.ipynb).']
        whole = f'mura_nb.{name}'
        texts += [entry((whole, symbol[len(whole)+1:]), page(stem)) for symbol in sorted(syms[whole])]
        found[f'api/{name}'] = new_notebook(cells=[new_markdown_cell(t) for t in texts if t])
    return found
