"The chapter of findings says what the tables say, the tables what the predictions say, and no number is typed by hand."

import re
import nbformat, pandas as pd, pytest
import house, test_demo_sentences as sentences
from mura_nb import findings, numbers, results
from mura_nb.settings import settings
from mura_nb.results import load_table
from mura_nb.findings import forest_figure, main_effects, main_results
from mura_nb.numbers import NotMeasured, found


@pytest.fixture
def page(root):
    return nbformat.read(root / 'nbs' / '11_findings.ipynb', 4)


@pytest.fixture
def demo(root):
    return root / 'results' / 'demo'


def shown(cells):
    "What cells show as Markdown"
    return [
        o.data['text/markdown'] for c in cells for o in c.get('outputs', []) if 'text/markdown' in o.get('data', ())
    ]


CALLED = dict(read='chosen', group='called abnormal')
CLAIMS = [
    ('table2', dict(model='lite0_b16', metric='auc', group='ALL'), {}),
    ('table2', dict(model='ensemble', metric='auc', group='ALL'), {}),
    ('gradcam_found', CALLED | dict(who='map', score='hit'), {}),
    ('gradcam_found', CALLED | dict(who='map', score='iou'), {}),
    ('gradcam_found', CALLED | dict(who='centre', score='hit'), dict(columns=('diff', 'diff_lo', 'diff_hi'))),
    ('retrieval', dict(what='type', measure='precision at 5'), {}),
    ('retrieval', dict(what='label', measure='precision at 5'), {}),
    ('findings_pairs', dict(what='looks', metric='auc'), {}),
    ('findings_pairs', dict(what='fusenet', metric='auc'), {}),
    ('findings_pairs', dict(what='ensemble', metric='auc'), {}),
]


@pytest.mark.parametrize('table,where,kw', CLAIMS, ids=[f'{t}-{"-".join(w.values())}' for t, w, _ in CLAIMS])
def test_page_says_what_the_tables_say(page, demo, table, where, kw):
    assert str(found(table, out=demo, **kw, **where)) in '\n'.join(shown(page.cells))


def test_every_claim_says_what_it_was_measured_on(page):
    "The first claim of each cell of findings, and the caption of each table with intervals"
    numbers = r'\[-?\.?\d\S*, '
    demo = [shown([c])[0] for c in page.cells if c.source.startswith('#| demo')]
    tables = [t.partition('\n')[0] for t in shown(page.cells) if re.search(numbers, t) and '\n| ' in t]
    assert len(demo) > 5 and len(tables) > 1
    claims = [t for t in demo if re.search(numbers, t)]
    assert [t for t in claims + tables if not re.search('(simulated|real) radiographs', t)] == []


def test_no_result_is_typed(page):
    "Not in prose, and not in the cells that make the sentences; definitions and their tests have examples"
    prose = '\n'.join(c.source for c in page.cells if not re.search(r'^#\| export|test_', c.source, re.M))
    assert re.findall(r'(?<![\d\w])0?\.\d{3}(?!\d)', prose) == []


def test_quotations_are_the_reports(page):
    "Longer ones, word by word; the report itself is not part of the project"
    text = re.sub(r'\s+', ' ', ' '.join(c.source for c in page.cells))
    assert all(
        q in text
        for q in (
            '“The result is to our satisfactory.”',
            'In the most cases, most of the top-5 similar are the images of the same type as input, but sometimes not.',
            'the ensembled model has the best performance on total accuracy and AUC.',
            'nearly all the images with nails in it are labelled abnormal',
        )
    )


def test_mark_follows_the_interval():
    effects = pd.DataFrame(
        [
            dict(measure='AUC', what='x', value=(lo + hi) / 2, lo=lo, hi=hi)
            for lo, hi in ((0.1, 0.2), (-0.2, -0.1), (-0.1, 0.1))
        ]
    )
    marks = [line for line in forest_figure(effects, '').axes[0].lines if line.get_marker() == 'o']
    assert [m.get_markerfacecolor() for m in marks] == ['C0', 'C0', 'white']


@pytest.mark.parametrize('what,words,other', [
    ('looks', 'A second look', (0.05, 0.05, 0.05)), ('ensemble', 'The mean of five', (0.01, 0.01, 0.01))])
def test_finding_falls_with_its_numbers(root, monkeypatch, what, words, other):
    "An interval without width says nothing, and no sentence may rest on it"

    def changed(name, out=None):
        t = load_table(name, out)
        if name == 'findings_pairs':
            t.loc[t.what == what, ['value', 'lo', 'hi']] = other
        return t

    monkeypatch.chdir(root)
    for module in (results, findings, numbers):
        monkeypatch.setattr(module, 'load_table', changed)
    problems = [p for _, p in sentences.problems(house.read_room(root / 'nbs' / '11_findings.ipynb'), monkeypatch)]
    assert all(p.startswith('does not hold') for p in problems) and any(words in p for p in problems)


@pytest.mark.parametrize('interval,words', [
    ((0.05, 0.02, 0.08), 'better'), ((-0.05, -0.08, -0.02), 'worse'), ((0.01, -0.01, 0.03), 'cannot be told'),
    ((0.001, -0.004, 0.006), 'equivalent within .01')])
def test_words_follow_the_interval(interval, words):
    assert words in findings.pair_words(findings.Estimate(*interval, 9))


def test_without_known_boxes_and_ablations(demo, tmp_path, root):
    "As on MURA: what is not there is left out, the rest is said"
    (tmp_path / 'tables').mkdir()
    pd.read_csv(demo / 'tables' / 'retrieval.csv').query("what != 'kind'").to_csv(
        tmp_path / 'tables' / 'retrieval.csv', index=False
    )
    pd.read_csv(demo / 'tables' / 'findings_pairs.csv').to_csv(tmp_path / 'tables' / 'findings_pairs.csv', index=False)
    t = main_effects(settings('demo'), tmp_path)
    assert set(t.table) == {'retrieval', 'findings_pairs'} and len(t) == 6
    assert set(main_results(settings('demo'), tmp_path)['measured'].str[:7]) == {'AUC gai', 'share o'}
    with pytest.raises(NotMeasured):
        found('gradcam_found', out=tmp_path, who='map')


def by_study(path, split='valid'):
    d = pd.read_csv(path)
    return d[d.split == split].groupby('study').agg(label=('label', 'first'), prob=('prob', 'mean'))


def predictions(demo, name):
    f = demo / 'predictions' / f'{name}.csv'
    if not f.is_file():
        pytest.skip('no predictions of the demo here (make report)')
    return by_study(f)


def test_tables_say_what_the_predictions_say(demo):
    "Recomputed with scikit-learn from the files of predictions"
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    members = {n: predictions(demo, n) for n in settings('demo').ensemble}
    mean = sum(d.prob for d in members.values()) / len(members)
    base, fused = members['lite0_b16'], members['fusenet_b16']
    at = lambda model, metric: found('table2', out=demo, model=model, metric=metric, group='ALL').value
    auc = lambda d, p=None: roc_auc_score(d.label, d.prob if p is None else p)
    assert at('lite0_b16', 'auc') == pytest.approx(auc(base), abs=1e-6)
    assert at('ensemble', 'auc') == pytest.approx(auc(base, mean[base.index]), abs=1e-6)
    assert at('lite0_b16', 'kappa') == pytest.approx(cohen_kappa_score(base.label, base.prob > 0.5), abs=1e-6)
    assert found('findings_pairs', out=demo, what='fusenet', metric='auc').value == pytest.approx(
        auc(fused) - auc(base), abs=1e-6
    )
    assert found('findings_pairs', out=demo, what='ensemble', metric='auc').value == pytest.approx(
        auc(base, mean[base.index]) - auc(fused), abs=1e-6
    )


def test_hits_recomputed_from_the_boxes(demo, root):
    truth, boxes = root / 'data' / 'phantom-demo' / 'truth' / 'boxes.csv', demo / 'boxes' / 'lite0_b16_chosen.csv'
    if not (truth.is_file() and boxes.is_file()):
        pytest.skip('no boxes of the demo here (make report)')
    b = (
        pd.read_csv(boxes)
        .query('label == 1 and called')
        .merge(
            pd.read_csv(truth).drop_duplicates('path')[['path', 'x0', 'y0', 'x1', 'y1']], on='path', suffixes=('', '_t')
        )
    )
    hit = (b.peak_x >= b.x0_t) & (b.peak_x < b.x1_t) & (b.peak_y >= b.y0_t) & (b.peak_y < b.y1_t)
    e = found('gradcam_found', out=demo, read='chosen', group='called abnormal', who='map', score='hit')
    assert (len(b), hit.mean()) == (e.n, pytest.approx(e.value, abs=1e-6))
