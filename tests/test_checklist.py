"The checklist has all its items, each leads to a heading that is there, and the source report is quoted as it is."

import ast, csv, re
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


@pytest.fixture
def choices(root):
    return list(csv.DictReader((root / 'nbs' / 'choices.csv').open(encoding='utf-8')))


@pytest.fixture
def source(root):
    "The source report in one line; it may not be part of the project"
    places = [p / 'shared' / 'reference' / 'source-report.txt' for p in (root, *root.parents)]
    file = next((p for p in places if p.is_file()), None)
    if file is None:
        pytest.skip('the source report is not here (shared/reference/source-report.txt, outside the project)')
    return one_line(file.read_text(encoding='utf-8'))


def one_line(text):
    return re.sub(r'\s+', ' ', text)


def strings(code):
    "The texts in a cell, parts put together; {} where a value is put in"
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(v.value if isinstance(v, ast.Constant) else '{}' for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def quotations(root):
    "(file, text) of all that stands between “ and ”, the mark of the source report's own words"
    for file in sorted((root / 'nbs').glob('*.ipynb')):
        for c in nbformat.read(file, 4).cells:
            if '“' not in c.source:
                continue
            for text in strings(c.source) if c.cell_type == 'code' else [c.source]:
                yield from ((file.name, one_line(q)) for q in re.findall('“([^”]*)”', text))
    for row in csv.DictReader((root / 'nbs' / 'choices.csv').open(encoding='utf-8')):
        yield from (('choices.csv', one_line(q)) for q in re.findall('“([^”]*)”', row['report']))


def test_quotations_stand_in_the_source(root, source):
    found = set(quotations(root))
    files = [f for f, _ in found]
    assert files.count('11_findings.ipynb') > 10 and files.count('choices.csv') > 10
    assert [(f, q) for f, q in sorted(found) if q not in source] == []


def test_marks_of_quotations_come_in_pairs(root):
    files = [*(root / 'nbs').glob('*.ipynb'), *(root / 'nbs').glob('*.csv')]
    texts = {f.name: f.read_text(encoding='utf-8') for f in files}
    assert [n for n, t in texts.items() if t.count('“') != t.count('”')] == []


def test_a_wrong_quotation_is_found(tmp_path):
    (tmp_path / 'nbs').mkdir()
    code = 'f"{1} “made " f"up”"'
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code), nbformat.v4.new_markdown_cell('“in\ntwo”')])
    nbformat.write(nb, tmp_path / 'nbs' / 'a.ipynb')
    (tmp_path / 'nbs' / 'choices.csv').write_text('choice,report\nx,“really”\n', encoding='utf-8')
    assert {q for _, q in quotations(tmp_path)} == {'made up', 'in two', 'really'}


def test_choices_say_what_the_source_says(choices):
    assert len(choices) > 20 and len({c['choice'] for c in choices}) == len(choices)
    for c in choices:
        assert c['report'] == 'nothing' or re.fullmatch('“[^”]+”', c['report']), c['choice']
        assert c['ours'] and c['absent'], c['choice']


def test_source_does_not_state_what_was_chosen(choices, source):
    "The words by which it would have stated a choice are not in it"
    assert [c['choice'] for c in choices if re.search(c['absent'], source, re.I)] == []


def test_choices_lead_to_headings(choices, anchors):
    places = [c['where'].split('#') for c in choices]
    assert [(c, a) for c, a in places if a not in anchors.get(c, ())] == []


@pytest.mark.parametrize('chapter', ['04_baselines', '05_fusenet', '07_gradcam', '11_findings'])
def test_chapters_link_to_the_choices(root, chapter):
    text = (root / 'nbs' / f'{chapter}.ipynb').read_text(encoding='utf-8')
    assert '15_checklist.ipynb#what-the-source-report-leaves-open' in text
