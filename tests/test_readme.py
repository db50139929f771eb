"README.md is the index notebook."
import re
import pytest
from nbformat.v4 import new_code_cell as code, new_markdown_cell as md, new_notebook, new_output
import nbformat, readme


def test_in_step(root): assert (root/'README.md').read_text() == readme.readme()


def test_links_lead_somewhere(root):
    text = (root/'README.md').read_text()
    local = [l for l in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'https?:|#', l)]
    made = [l for l in local if l.startswith('results/')]  # committed with the outputs of the demo
    assert [l for l in local if l not in made and not (root/l).exists()] == []


def test_first_screen(root):
    top = (root/'README.md').read_text()[:2500]
    assert all(w in top for w in ('make report', 'make test', '![', 'simulated'))
    assert 'not for clinical use' in (root/'README.md').read_text()


def test_hidden_cells_and_links(tmp_path):
    nb = new_notebook(cells=[md('# x\n\n[data](02_data.ipynb) ![f](../results/demo/figures/f.png){#fig-f} as Guan et al. [@guan2018agcnn] do.'), code('#| hide\nsecret'),
        code('#| echo: false\nshow()', outputs=[new_output('execute_result', data={'text/markdown': '| a |', 'text/plain': 'no'})]), code('1+1', outputs=[new_output('execute_result', data={'text/plain': '2'})])])
    nbformat.write(nb, tmp_path/'index.ipynb')
    text = readme.readme(tmp_path/'index.ipynb')
    assert '(nbs/02_data.ipynb)' in text and '(results/demo/figures/f.png)' in text and '| a |' in text
    assert 'f.png) as Guan et al. do.\n' in text, 'GitHub knows neither labels nor citations'
    assert 'secret' not in text and 'show()' not in text and '```python\n1+1\n```\n\n```text\n2\n```' in text
