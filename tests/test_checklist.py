"The checklist has all its items, each points to a heading that is there, and what is unmet says why."

import csv, re
import nbformat, pytest


@pytest.fixture
def items(root):
    return list(csv.DictReader((root / 'nbs' / 'claim.csv').open(encoding='utf-8')))


@pytest.fixture
def anchors(root):
    "Chapter -> anchors of its headings, as GitHub, Quarto and tools/render.py make them"
    slug = lambda h: re.sub(r'[^\w\- ]', '', h).strip().lower().replace(' ', '-')
    heads = lambda f: [
        m[1]
        for c in nbformat.read(f, 4).cells
        if c.cell_type == 'markdown'
        for m in re.finditer(r'^#{1,4} (.+)', c.source, re.M)
    ]
    return {f.stem: {slug(h) for h in heads(f)} for f in (root / 'nbs').glob('*.ipynb')}


def test_all_items(items):
    assert [int(i['item']) for i in items] == list(range(1, 45))


def test_status(items):
    assert {i['status'] for i in items} <= {'met', 'met in part', 'not met', 'not applicable'}


def test_what_is_not_met_says_why(items):
    assert [i['item'] for i in items if i['status'] != 'met' and not i['remark']] == []


def test_what_is_met_says_where(items):
    assert [i['item'] for i in items if i['status'].startswith('met') and not i['where']] == []


def test_links_lead_to_headings(items, anchors):
    places = [w.split('#') for i in items for w in i['where'].split()]
    assert len(places) > 50 and [(c, a) for c, a in places if a not in anchors.get(c, ())] == []


def test_page_counts_and_names_the_unmet(items, root):
    nb = nbformat.read(root / 'nbs' / '15_checklist.ipynb', 4)
    text = '\n'.join(
        o.data['text/markdown']
        for c in nb.cells
        for o in c.get('outputs', [])
        if 'data' in o and 'text/markdown' in o.data
    )
    unmet = [i for i in items if i['status'] == 'not met']
    assert unmet and f'**{len(unmet)} are not met**' in text
    for i in items:
        assert f"| {i['item']} | " in text
    for i in unmet:
        assert f"{i['item']}, {i['text'][0].lower() + i['text'][1:]}" in text
