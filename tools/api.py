"The API pages, made when the site is rendered: nbdev's show_doc of all that is public, a page a module."
import inspect
from importlib import import_module
from fastcore.docments import MarkdownRenderer
from nbdev.showdoc import show_doc
from nbformat.v4 import new_markdown_cell, new_notebook
from pages import ROOT, module, page, title

class Entry(MarkdownRenderer):
    "nbdev's documentation of one name, with a link to its code in its chapter"
    def shown(self, code):
        return f"{'#'*self.title_level} {self.nm} {{#{self.nm}}}\n\n{code}{self._repr_markdown_()}"

def documented(mod):
    "Public functions and classes of a module, each class before its public methods: (name, object)"
    for name, obj in ((n, getattr(mod, n)) for n in mod.__all__):
        if getattr(obj, '__module__', None) != mod.__name__ or not hasattr(obj, '__name__'): continue
        yield name, obj
        methods = dict(vars(obj)).items() if inspect.isclass(obj) else ()
        yield from ((f'{name}.{n}', m) for n, m in methods if inspect.isfunction(m) and not n.startswith('_'))

def modules(notebooks):
    "The API pages that there are, as {name of the page: name of the chapter}"
    written = {module(nb): s for s, nb in notebooks.items()}
    return {f'api/{m}': s for m, s in written.items() if m and (ROOT/'mura_nb'/f'{m}.py').exists()}

def api_page(name, nb, stem, known):
    "The API page `name` of the module that chapter `stem` writes, as a notebook; `known`: links that lead to code"
    mod, (head, about) = import_module(f'mura_nb.{name[4:]}'), title(nb, stem)
    texts = [f'# {mod.__name__}\n> {about}\n\nExplained and tested in [{head}](../{stem}.ipynb).']
    for n, obj in documented(mod):
        code = f'{page(stem)}#{n.lower()}'
        link = f'[code](../{code})\n\n' if code in known else ''
        texts.append(show_doc(obj, Entry, n, 3 if '.' in n else 2).shown(link))
    return new_notebook(cells=[new_markdown_cell(t) for t in texts])
