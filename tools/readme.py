"README.md from nbs/index.ipynb. (nbdev's own step needs the quarto program.)"
import re
import sys
from pathlib import Path

import nbformat

sys.path.insert(0, str(Path(__file__).parent))
from pages import NBS, hidden, silent, source_of
from runner import ROOT

NOTE = '<!-- written by tools/readme.py from nbs/index.ipynb; edit that -->'

def parts(cell):
    "Source and outputs of a cell as Markdown; a README holds no pictures of cells"
    if hidden(cell): return
    if cell.cell_type == 'markdown': yield cell.source.strip()
    elif not silent(cell): yield f'```python\n{source_of(cell)}\n```'
    for data in (o.data for o in cell.get('outputs', []) if 'data' in o and 'image/png' not in o.data):
        yield data['text/markdown'].strip() if 'text/markdown' in data else f"```text\n{data['text/plain'].strip()}\n```"

def readme(notebook=NBS/'index.ipynb'):
    "The README's text; links, which start in nbs/, start at the root; GitHub knows neither citations nor labels of figures"
    text = '\n\n'.join([NOTE, *(p for c in nbformat.read(notebook, 4).cells for p in parts(c))])
    text = re.sub(r' ?\[-?@[^\]]*\]|(?<=\))\{#fig-[^}]*\}', '', text).replace('](../', '](')
    return re.sub(r'\]\(([\w-]+\.ipynb)', r'](nbs/\1', text) + '\n'

if __name__ == '__main__': (ROOT/'README.md').write_text(readme(), encoding='utf-8')
