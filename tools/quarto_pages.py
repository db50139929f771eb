"""What nbdev does to a notebook before Quarto reads it, beyond its own steps (`doc_procs` of pyproject.toml): the same pages as render.py's.

nbdev would leave exported code out and run every import to print signatures; here the code stays, folded, and the signatures are on the API pages."""
import os, shutil, sys
from pathlib import Path
import yaml

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from nbdev.process import Processor
from fastcore.nbio import mk_cell
from pages import anchors, fold, option, page, prepared, repository, source_of, title, without_title
from runner import ROOT, directives

OPTIONS = ('label', 'fig-cap', 'fig-alt', 'echo', 'output', 'code-fold', 'code-summary')  # of a cell, as Quarto knows them
PROC = ROOT/'_proc'


def beside(stem):
    "For `prepared`: what lies outside nbs/ goes with the site, or is looked at where the repository is"
    up = '../'*stem.count('/')
    def to(f, picture):
        if not picture and repository(): return f'{repository()}/{f.relative_to(ROOT).as_posix()}'
        folder, name = ('pictures', f.name) if picture else ('sources', f'{f.name}.txt')
        (PROC/folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(f, PROC/folder/name)
        return f'{up}{folder}/{name}'
    return to


def _line(key, value):
    "One option; texts quoted, so that whatever stands in a caption is YAML"
    quote = '"' if isinstance(value, str) and key != 'label' else None
    return f'#| {key}: ' + yaml.safe_dump(value, width=10**6, allow_unicode=True, default_style=quote).removesuffix('...\n').strip()


def options(cell):
    "The options of a code cell for Quarto, each on its line"
    d = directives(cell)
    said = {k: option(cell, k) if k in ('label', 'fig-cap', 'fig-alt') else yaml.safe_load(d[k]) for k in OPTIONS if k in d}
    if 'hide_input' in d: said['echo'] = False
    if 'hide_output' in d: said['output'] = False
    if (words := fold(cell)) and 'code-fold' not in said: said |= {'code-fold': True, 'code-summary': words}
    return [_line(k, v) for k, v in said.items()]


def frontmatter(nb, stem):
    "Title, subtitle and name of the page as YAML. (nbdev's own step drops whatever else the first cell says.)"
    name, sub = title(nb, stem)
    return mk_cell('---\n' + yaml.safe_dump({'title': name, 'description': sub, 'output-file': page(Path(stem).name)}, allow_unicode=True, width=10**6) + '---', 'raw')


class report_pages(Processor):
    def begin(self):
        stem = Path(self.nb.path_).resolve().relative_to(ROOT/'nbs').with_suffix('').as_posix()
        nb, cells = prepared(self.nb, stem, beside(stem)), []
        head = frontmatter(nb, stem)
        for c in nb.cells:
            if c.cell_type == 'markdown' and c.source.lstrip().startswith('# '): c.set_source(without_title(c.source))
            if c.cell_type == 'code':
                cells += [mk_cell('\n\n'.join(f'<div id="{a}"></div>' for a in anchors(c)), 'markdown')] if anchors(c) else []
                c.set_source('\n'.join([*options(c), source_of(c)]))
                c.outputs = [o for o in c.get('outputs', []) if o.get('name') != 'stderr']
            if c.source.strip(): cells.append(c)
        self.nb.cells = [head, *cells]
