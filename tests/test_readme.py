"README.md is the index notebook."

import re
import pytest
from nbformat.v4 import new_code_cell as code, new_markdown_cell as md, new_notebook, new_output
import nbformat, pages


def test_in_step(root):
    assert (root / 'README.md').read_text() == pages.readme()


def test_links_lead_somewhere(root):
    text = (root / 'README.md').read_text()
    local = [l for l in re.findall(r'\]\(([^)\s]+)\)', text) if not re.match(r'https?:|#', l)]
    made = [l for l in local if l.startswith('results/')]  # committed with the outputs of the demo
    assert [l for l in local if l not in made and not (root / l.partition('#')[0]).exists()] == []


def test_first_screen(root):
    "What it is, two commands, a figure, the result table, three lines of Python, before the first section"
    text = (root / 'README.md').read_text()
    top, sections = text.partition('\n## ')[0], re.findall(r'^## (.+)', text, re.M)
    assert len(top.splitlines()) < 60
    assert all(
        w in top
        for w in (
            'make report',
            'make test',
            '![',
            'simulated radiographs',
            'not for clinical use',
            'localise(study)',
            'search(',
            '95 % intervals',
        )
    )
    assert [re.search(rf'# {i}\. ', top) is not None for i in (1, 2, 3)] == [True] * 3
    assert {'With MURA', 'Use a function', 'Limits', 'Cite'} <= set(sections)


def test_make_targets_are_there(root):
    targets = set(re.findall(r'^([a-z-]+):', (root / 'Makefile').read_text(), re.M))
    named = set(re.findall(r'\bmake ([a-z][a-z-]*)', (root / 'README.md').read_text())) - {'calls'}
    assert {'report', 'test', 'site', 'help'} <= named and named <= targets


def test_programs_are_there(root):
    programs = pytest.importorskip('mura_nb.programs', reason='no chapter programs yet')
    import typer

    known = set(typer.main.get_command(programs.cli).commands)
    named = set(re.findall(r'mura-nb ([a-z]+)', (root / 'README.md').read_text()))
    assert {'app', 'locate', 'predict', 'search'} <= named and named <= known


def test_three_lines_are_the_ones_that_run(root):
    "The index runs them, in every profile; the README shows that very cell"
    nb = nbformat.read(root / 'nbs' / 'index.ipynb', 4)
    cell = next(c.source for c in nb.cells if c.cell_type == 'code' and 'localise(study)' in c.source)
    assert f'```python\n{cell}\n```' in (root / 'README.md').read_text() and 'hide' not in cell


def test_hidden_cells_and_links(tmp_path):
    nb = new_notebook(
        cells=[
            md(
                '# x\n\n[data](02_data.ipynb) ![f](../results/demo/figures/f.png){#fig-f} as '
                'Guan et al. [@guan2018agcnn] do.'
            ),
            code('#| hide\nsecret'),
            code(
                '#| echo: false\nshow()',
                outputs=[new_output('execute_result', data={'text/markdown': '| a |', 'text/plain': 'no'})],
            ),
            code('1+1', outputs=[new_output('execute_result', data={'text/plain': '2'})]),
        ]
    )
    nbformat.write(nb, tmp_path / 'index.ipynb')
    text = pages.readme(tmp_path / 'index.ipynb')
    assert '(nbs/02_data.ipynb)' in text and '(results/demo/figures/f.png)' in text and '| a |' in text
    assert 'f.png) as Guan et al. do.\n' in text, 'GitHub knows neither labels nor citations'
    assert 'secret' not in text and 'show()' not in text and '```python\n1+1\n```\n\n```text\n2\n```' in text
