"README.md from nbs/index.ipynb; --check only compares. (nbdev's own step needs the quarto program.)"
import re, sys
from pathlib import Path
import nbformat

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))
from runner import directives

NOTE = '<!-- written by tools/readme.py from nbs/index.ipynb; edit that -->\n\n'


def _text(data):
    "An output as Markdown, or '' for kinds that a README cannot hold"
    if 'text/markdown' in data: return data['text/markdown'].strip()
    if 'text/html' in data and 'image/png' not in data: return re.sub(r'<style.*?</style>\s*', '', data['text/html'], flags=re.S).strip()
    if 'text/plain' in data and 'image/png' not in data: return f"```text\n{data['text/plain'].strip()}\n```"
    return ''


def _code(cell):
    "Source and outputs of a code cell as Markdown"
    d = directives(cell)
    if {'hide', 'default_exp'} & d.keys() or d.get('include') == 'false': return []
    source = '\n'.join(l for l in cell.source.splitlines() if not l.startswith('#|')).strip()
    shown = [] if 'hide_input' in d or d.get('echo') == 'false' else [f'```python\n{source}\n```']
    return shown + [_text(o.data) for o in cell.outputs if 'data' in o]


def readme(notebook=ROOT/'nbs'/'index.ipynb'):
    "The README's text; links, which start in nbs/, start at the root"
    nb = nbformat.read(notebook, 4)
    parts = [p for c in nb.cells for p in (_code(c) if c.cell_type == 'code' else [c.source.strip()])]
    text = '\n\n'.join(p for p in parts if p)
    text = re.sub(r' ?\[-?@[^\]]*\]|(?<=\))\{#fig-[^}]*\}', '', text) # GitHub knows neither citations nor labels of figures
    text = re.sub(r'\]\(\.\./', '](', text)
    return NOTE + re.sub(r'\]\(([\w-]+\.ipynb)', r'](nbs/\1', text) + '\n'


def main():
    out, text = ROOT/'README.md', readme()
    if '--check' not in sys.argv: return out.write_text(text, encoding='utf-8') and 0
    if not out.exists() or out.read_text(encoding='utf-8') != text: sys.exit('README.md is not in step with nbs/index.ipynb: run .venv/bin/python tools/readme.py')


if __name__ == '__main__': sys.exit(main())
