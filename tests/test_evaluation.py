"What the chapters should not carry: random cases against scikit-learn and naive implementations, and wrong input"

import subprocess
import sys
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression

from mura_nb.core import STUDY_TYPES
from mura_nb.metrics import METRICS, group_metrics, interval, mean_intervals, metric_interval, prob_bin, resamples
from mura_nb.pooling import POOL, check_studies, pool_studies, resample_groups
from mura_nb.calibration import operating_point, platt, reliability_figure, reliability_table
from mura_nb.comparison import (
    compare, compare_mean, compare_seeds, compare_types, delong, detectable, holm, seed_interval, two_sided, verdict)
from mura_nb.evaluation import evaluate, floor, report_table, roc_at, source_report, tuned_columns

COUNTS = dict(
    ELBOW=(92, 66),
    FINGER=(92, 83),
    FOREARM=(69, 64),
    HAND=(101, 66),
    HUMERUS=(68, 67),
    SHOULDER=(99, 95),
    WRIST=(140, 97),
)


def studies_of(n, seed=0, patients=None, digits=None, prevalence=0.45, types=STUDY_TYPES):
    "n random studies; `digits` rounds the probabilities so that many are tied"
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < prevalence).astype(int)
    p = 1 / (1 + np.exp(-rng.normal(1.2 * (y - 0.5), 1.5)))
    patient = rng.integers(0, patients or max(2, int(n / 1.5)), n)
    return pd.DataFrame(
        dict(
            study=[f'valid/XR_X/patient{a:05}/study{i}' for i, a in enumerate(patient)],
            patient=[f'patient{a:05}' for a in patient],
            study_type=rng.choice(types, n),
            label=y,
            prob=p if digits is None else p.round(digits),
        )
    )


def mura_like(seed=0):
    "MURA's valid counts by type, 783 patients"
    types = np.repeat(list(COUNTS), [sum(c) for c in COUNTS.values()])
    y = np.concatenate([np.repeat([0, 1], c) for c in COUNTS.values()])
    s = studies_of(len(y), seed)
    rng = np.random.default_rng(seed)
    ids = np.r_[np.arange(783), rng.integers(0, 783, len(y) - 783)]
    p = 1 / (1 + np.exp(-rng.normal(2 * (y - 0.5), 1.5)))
    return s.assign(study_type=types, label=y, prob=p, patient=[f'patient{k:05}' for k in rng.permutation(ids)])


def sklearn_metrics(y, p, threshold):
    "Every metric by scikit-learn, NaN where it is undefined"
    nan, hat, one = np.nan, (p > threshold).astype(int), len(set(y)) == 1
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return dict(
            accuracy=sk.accuracy_score(y, hat),
            auc=nan if one else sk.roc_auc_score(y, p),
            ap=nan if not y.any() else sk.average_precision_score(y, p),
            kappa=nan if len({*y, *hat}) == 1 else sk.cohen_kappa_score(y, hat),
            sensitivity=sk.recall_score(y, hat, zero_division=nan),
            specificity=sk.recall_score(1 - y, 1 - hat, zero_division=nan),
            f1=sk.f1_score(y, hat, zero_division=nan),
            brier=np.mean((y - p) ** 2) if one else sk.brier_score_loss(y, p),
            ece=sklearn_ece(y, p),
        )


def sklearn_ece(y, p):
    "Expected calibration error from scikit-learn's curve"
    n = np.bincount(np.searchsorted(np.linspace(0, 1, 11)[1:-1], p), minlength=10)
    share, mean = calibration_curve(y, p, n_bins=10) if len(set(y)) > 1 else (np.full((n > 0).sum(), y[0]), None)
    if mean is None:
        return abs(np.array([(y - p)[prob_bin(p) == k].sum() for k in range(10)])).sum() / len(y)
    return (n[n > 0] * abs(share - mean)).sum() / n.sum()


@pytest.mark.parametrize('seed', range(12))
@pytest.mark.parametrize('digits', [None, 1])
def test_values_equal_sklearn(seed, digits):
    s = studies_of(40 + 30 * seed, seed, digits=digits)
    threshold = [0.5, 0.3, 0.62][seed % 3]
    r = evaluate(s, threshold, n_boot=0)
    assert list(r.table.columns) == ['metric', 'group', 'value', 'lo', 'hi', 'n']
    for g in [*s.study_type.unique(), 'ALL']:
        d = s if g == 'ALL' else s[s.study_type == g]
        for m, want in sklearn_metrics(d.label.to_numpy(), d.prob.to_numpy(), threshold).items():
            got = r[m, g]
            assert got.n == len(d)
            np.testing.assert_allclose(got.value, want, atol=1e-12, err_msg=f'{m} {g}')


@pytest.mark.parametrize('label', [0, 1])
@pytest.mark.parametrize('prob', [[0.2, 0.4, 0.6, 0.6], [0.1, 0.2, 0.3, 0.3], [0.7, 0.8, 0.9, 0.9]])
def test_one_class(label, prob):
    s = studies_of(4, types=['HAND']).assign(label=label, prob=prob, patient=list('abcd'))
    r = evaluate(s, n_boot=100)
    for m, want in sklearn_metrics(s.label.to_numpy(), s.prob.to_numpy(), 0.5).items():
        np.testing.assert_allclose(r[m].value, want, atol=1e-12, err_msg=m)
    undefined = r.table[r.table.value.isna()]
    assert {'auc', 'sensitivity' if label == 0 else 'specificity'} <= set(undefined.metric)
    assert undefined[['lo', 'hi']].isna().all(axis=None)
    assert str(r['auc']) == '–' and '–' in r._repr_markdown_()


def test_resamples_equal_sklearn_on_repeated_rows():
    "A row of patient counts gives what scikit-learn gives on the studies of the drawn patients, repeated"
    s = check_studies(studies_of(90, 3, patients=30, digits=1))
    patient, y, p = pd.factorize(s.patient, sort=True)[0], s.label.to_numpy(), s.prob.to_numpy()
    w = np.concatenate([*resamples(patient.max() + 1, 25, seed=5)])
    assert (w.sum(1) == patient.max() + 1).all()
    got = group_metrics(w, patient, y, p, 0.5)
    for row, values in zip(w, got):
        rows = np.repeat(np.arange(len(s)), row[patient].astype(int))
        want = sklearn_metrics(y[rows].astype(int), p[rows], 0.5)
        np.testing.assert_allclose(values, [want[m] for m in METRICS], atol=1e-12)


def test_interval_is_percentiles_of_resampled_patients():
    s = studies_of(200, 1, patients=60)
    r = evaluate(s, n_boot=500, seed=3)
    d = s.sort_values('study')
    patient = pd.factorize(d.patient, sort=True)[0]
    w = np.concatenate([*resamples(patient.max() + 1, 500, seed=3)])[1:]
    right = ((d.prob > 0.5) == (d.label == 1)).to_numpy()
    accuracy = (w[:, patient] * right).sum(1) / w[:, patient].sum(1)
    np.testing.assert_allclose([r['accuracy'].lo, r['accuracy'].hi], np.quantile(accuracy, [0.025, 0.975]), atol=1e-12)
    assert (r.table.lo <= r.table.value + 1e-12).all() and (r.table.value <= r.table.hi + 1e-12).all()


def test_shuffled_rows_and_file_order_change_nothing():
    s = studies_of(150, 2, digits=2)
    want = evaluate(s, n_boot=100).table
    for seed in range(3):
        shuffled = s.sample(frac=1, random_state=seed)
        pd.testing.assert_frame_equal(evaluate(shuffled, n_boot=100).table, want, check_exact=True)
        assert operating_point(shuffled) == operating_point(s) and platt(shuffled) == platt(s)
    images = pd.concat([s.assign(prob=np.clip(s.prob + d, 0, 1)) for d in (-0.05, 0.0, 0.1)])
    for how in POOL:
        shuffled = pool_studies(images.sample(frac=1, random_state=0), how)
        pd.testing.assert_frame_equal(shuffled, pool_studies(images, how), check_exact=True)


def test_seed_decides():
    s = studies_of(150, 2)
    assert evaluate(s, n_boot=50, seed=1).table.equals(evaluate(s, n_boot=50, seed=1).table)
    assert not evaluate(s, n_boot=50, seed=1).table.equals(evaluate(s, n_boot=50, seed=2).table)


def test_speed():
    s = mura_like()
    start = time.perf_counter()
    r = evaluate(s)
    assert time.perf_counter() - start < 3
    assert r.n_boot == 2000 and r['auc'].n == 1199 and list(r.table.group.unique()) == [*STUDY_TYPES, 'ALL']
    assert len(r.table) == 9 * 8 and r.table.notna().all(axis=None)


def test_import_is_light():
    code = (
        'import sys, time, numpy, pandas; t = time.perf_counter(); import mura_nb.evaluation; '
        'heavy = [m for m in ("torch", "fastai", "sklearn", "scipy", "matplotlib") if m in sys.modules]; '
        'print(time.perf_counter() - t, *heavy)'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    took, *heavy = run.stdout.split()
    assert not heavy and float(took) < 1


# ---- undefined intervals
def test_too_few_defined_resamples_give_no_interval():
    "One abnormal study among many patients: it is missing from about 37 % of the resamples; one patient: no interval"
    s = studies_of(60, 4, types=['HAND']).assign(label=[1] + [0] * 59, patient=[f'p{i}' for i in range(60)])
    r = evaluate(s, n_boot=400)
    assert np.isfinite([r['auc'].lo, r['auc'].hi]).all()
    draws = np.r_[0.5, np.full(201, np.nan), np.full(199, 0.6)]
    assert np.isnan(interval(draws)[1:3]).all()
    assert np.isfinite(interval(np.r_[0.5, np.full(199, np.nan), np.full(201, 0.6)])[1:3]).all()
    alone = evaluate(s.assign(label=[1, 0] * 30, patient='p'), n_boot=50).table
    assert alone.value.notna().all() and alone[['lo', 'hi']].isna().all(axis=None)


def test_chunks_make_no_difference_to_counts():
    w = [*resamples(7, 600, seed=0, chunk=250)]
    assert [len(x) for x in w] == [1, 250, 250, 100]
    assert all((x.sum(1) == 7).all() and (x >= 0).all() for x in w)


# ---- bounds
def separated(n=46):
    "Studies that a model gets all right, one a patient"
    y = np.arange(n) % 2
    name = [f's{i:03}' for i in range(n)]
    return pd.DataFrame(dict(study=name, patient=name, study_type='HAND', label=y, prob=0.1 + 0.8 * y))


@pytest.mark.parametrize('n', [8, 46, 200])
def test_no_interval_without_width_at_a_bound(n):
    "46 of 46 has a lower end near .92, and so has an AUC or a kappa of 1 its own"
    t = evaluate(separated(n), n_boot=200).table.set_index(['metric', 'group'])
    for m in ('accuracy', 'auc', 'kappa', 'sensitivity', 'specificity', 'f1', 'ap'):
        row = t.loc[(m, 'ALL')]
        assert row.value == row.hi == 1 and row.lo < 1
    np.testing.assert_allclose(t.loc[('accuracy', 'ALL')].lo, 0.025 ** (1 / n))
    np.testing.assert_allclose(t.loc[('kappa', 'ALL')].lo, 2 * 0.025 ** (1 / n) - 1)
    wrong = separated(n).assign(prob=lambda d: 1 - d.prob)
    t = evaluate(wrong, n_boot=200).table.set_index(['metric', 'group'])
    assert t.loc[('accuracy', 'ALL')].lo == 0 < t.loc[('accuracy', 'ALL')].hi


def test_few_errors_count_no_more_than_the_patients():
    "One error among 40 studies of 20 patients: Clopper and Pearson with at most 20 observations"
    from scipy.stats import beta

    s = separated(40).assign(patient=[f'p{i // 2}' for i in range(40)])
    s.loc[0, 'prob'] = 0.9
    r = evaluate(s, n_boot=400)['accuracy']
    np.testing.assert_allclose(r.lo, beta.ppf(0.025, 0.975 * 20, 0.025 * 20 + 1))
    np.testing.assert_allclose(r.hi, beta.ppf(0.975, 0.975 * 20 + 1, 0.025 * 20))


def test_many_errors_keep_the_percentiles():
    s = studies_of(300, 1)
    patient, y, p = pd.factorize(s.patient)[0], s.label.to_numpy(), s.prob.to_numpy()
    draws = np.concatenate([group_metrics(w, patient, y, p) for w in resamples(patient.max() + 1, 300)])
    for m in ('accuracy', 'auc', 'kappa', 'brier'):
        d = draws[:, list(METRICS).index(m)]
        np.testing.assert_allclose(metric_interval(d, m, patient, y)[1:], np.quantile(d[1:], [0.025, 0.975]))


def test_shares_and_differences_of_hits():
    hits = pd.DataFrame(dict(hit=[1] * 46, iou=np.linspace(0, 1, 46)))
    t = mean_intervals(hits, range(46), 200)
    np.testing.assert_allclose(t.loc['hit', ['lo', 'hi']].astype(float), [0.025 ** (1 / 46), 1])
    assert t.loc['iou'].lo > 0.35
    same = mean_intervals(hits[['hit']] * 0, range(46), 200, difference=True).iloc[0]
    assert same.lo == same.hi == 0


def test_two_perfect_models_may_still_differ():
    "No resample moves the difference, and the interval is that of two independent models"
    a = separated()
    c = compare(a, a.assign(prob=a.prob * 0.9 + 0.04), n_boot=100)
    assert c.value == 0 and c.lo == -c.hi < -0.05 and c.verdict == 'cannot tell'
    same = compare(a, a, n_boot=100)
    assert same.lo == same.hi == 0 and np.isnan(same.detectable)


# ---- what a comparison could have seen
def test_detectable_difference_is_seen_four_times_in_five():
    "A difference of the stated size has an interval above zero in 80 % of repetitions"
    rng = np.random.default_rng(0)
    se = 0.004
    size = detectable(pd.Series(dict(lo=-1.96 * se, hi=1.96 * se)))
    assert abs(np.mean(rng.normal(size, se, 20000) > 1.96 * se) - 0.8) < 0.01
    assert verdict(size, size - 1.96 * se, size + 1.96 * se) == 'better'


def test_seeds_cover_the_truth():
    "Three seeds a method, on the metric itself: shared patients, patients of each seed, and the seeds"
    rng, inside = np.random.default_rng(0), {}
    for spread in (0, 0.01, 0.05):
        found = []
        for _ in range(1500):
            patients = rng.normal(0, 0.01, (2, 401, 1)) + rng.normal(0, 0.005, (2, 401, 3))
            sampled = patients[:, :1] + spread * rng.normal(size=(2, 1, 3))
            a, b = np.concatenate([sampled, sampled + patients[:, 1:]], 1)
            _, lo, hi, p, _ = seed_interval(a, b)
            found.append(lo <= 0 <= hi)
            assert (p >= 0.05) == (lo <= 0 <= hi)
        inside[spread] = np.mean(found)
    assert min(inside.values()) > 0.93, inside


def test_seed_comparison_shows_every_training():
    many = [mura_like()[:200]] * 3
    noisy = [
        s.assign(prob=np.clip(s.prob + np.random.default_rng(k).normal(0, 0.1, 200), 0, 1)) for k, s in enumerate(many)
    ]
    r = compare_seeds(noisy, many, n_boot=50)
    assert len(r.table) == 6 and r.table.groupby('arm').value.std()['b'] == 0
    np.testing.assert_allclose(r.value, r.table.groupby('arm').value.mean().diff().iloc[-1] * -1)
    assert 'smallest detectable' in r._repr_markdown_()
    with pytest.raises(ValueError, match='needs two at least'):
        compare_seeds(noisy[:1], many)


def test_seed_comparison_without_a_value_is_undefined():
    "As `compare`: one label alone has no AUC, and a resample never stands in for the data"
    studies = mura_like()[:60]
    same = [studies.assign(label=1, prob=np.linspace(0.1, 0.9, 60) ** k) for k in (1, 2)]
    r = compare_seeds(same, same, n_boot=20)
    assert np.isnan([r.value, r.lo, r.hi, r.p]).all() and r.verdict == 'cannot tell' and len(r.table) == 4
    assert '–' in r._repr_markdown_()
    one = [d.assign(label=np.arange(60) == 7).astype({'label': int}) for d in same]
    r = compare_seeds(one, one, n_boot=200)
    assert r.value == 0 and r.p == 1  # 1 - 1/e of the resamples hold the abnormal study


def test_undefined_resamples_are_left_out_up_to_half():
    a, b = (np.tile([x - 0.02, x, x + 0.02], (5, 1)) for x in (0.92, 0.90))
    whole = seed_interval(a, b)
    a[3, 0] = np.nan
    np.testing.assert_allclose(seed_interval(a, b), whole)
    b[2, 1] = np.nan  # two of four
    assert seed_interval(a, b)[0] == whole[0] and np.isnan(seed_interval(a, b)[1:]).all()
    a[0, 0] = np.nan
    assert np.isnan(seed_interval(a, b)).all()


# ---- paired comparison
def test_compare_is_the_difference_of_evaluations():
    a, b = studies_of(200, 1), studies_of(200, 1)
    b = b.assign(prob=np.clip(b.prob + np.random.default_rng(0).normal(0, 0.1, 200), 0, 1))
    ra, rb = evaluate(a, n_boot=0), evaluate(b, n_boot=0)
    for m in METRICS:
        c, d = compare(a, b, m, n_boot=200), compare(b, a, m, n_boot=200)
        np.testing.assert_allclose(c.value, ra[m].value - rb[m].value, atol=1e-12)
        np.testing.assert_allclose([c.value, c.lo, c.hi, c.p], [-d.value, -d.hi, -d.lo, d.p], atol=1e-9)
        assert np.isnan(c.delong_p) == (m != 'auc')
    with_cuts = compare(a, b, 'kappa', n_boot=0, threshold=(0.4, 0.6))
    np.testing.assert_allclose(with_cuts.value, evaluate(a, 0.4, 0)['kappa'].value - evaluate(b, 0.6, 0)['kappa'].value)
    t = compare_types(a, b, 'auc', n_boot=200)
    assert t.table.group.tolist() == [*STUDY_TYPES, 'ALL']
    one = compare(a, b, n_boot=200, group='XR_HAND')
    row = t.table[t.table.group == 'HAND'].iloc[0]
    assert (row.value, row.lo, row.hi, row.p) == (one.value, one.lo, one.hi, one.p)
    assert np.isnan(t.table.p_holm.iloc[-1]) and (t.table.p_holm[:-1] >= t.table.p[:-1]).all()
    assert 'Holm' in t._repr_markdown_() and 'independent' in one._repr_markdown_()


def test_p_value_agrees_with_interval_and_sees_a_real_gain():
    rng = np.random.default_rng(0)
    for shift in (0, 0.004, 0.008, 0.02, 0.1):
        draws = rng.normal(shift, 0.01, 2001)
        _, lo, hi, used = interval(draws)
        p = two_sided(used)
        if abs(p - 0.05) > 0.01:
            assert (p < 0.05) == (lo > 0 or hi < 0)
    s = mura_like()
    worse = s.assign(prob=np.clip(s.prob + np.random.default_rng(1).normal(0, 0.5, len(s)), 0, 1))
    c = compare(s, worse, n_boot=300)
    assert c.lo > 0 and c.p < 0.01 and c.delong_p < 0.01


def test_paired_type_one_error():
    "Two equally good models: about one comparison in twenty is below .05"
    small = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        s = studies_of(120, seed, patients=80, types=['HAND'])
        x = np.log(s.prob / (1 - s.prob))
        a, b = (s.assign(prob=1 / (1 + np.exp(-x - rng.normal(0, 1, len(s))))) for _ in range(2))
        small += compare(a, b, n_boot=200).p < 0.05
    assert small <= 9


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda s: s.iloc[3:], 'is in a only (3 such)'),
        (lambda s: s.assign(label=1 - s.label), 'label of study valid'),
        (lambda s: s.assign(study_type='HAND'), 'study_type of study valid'),
        (lambda s: s.assign(patient='x'), 'patient of study valid'),
    ],
)
def test_compare_needs_the_same_studies(change, words):
    s = studies_of(50, types=['HAND', 'WRIST'])
    with pytest.raises(ValueError) as e:
        compare(s, change(s))
    assert words in str(e.value)
    if 'only' in words:
        assert s.study.sort_values().iloc[0] in str(e.value) or s.study.iloc[:3].min() in str(e.value)


def naive_delong(y, a, b):
    "DeLong et al. 1988 with explicit pairs"
    pos, neg = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    psi = lambda s: np.array([[float(s[i] > s[j]) + 0.5 * (s[i] == s[j]) for j in neg] for i in pos])
    v = [psi(a), psi(b)]
    s10, s01 = np.cov([x.mean(1) for x in v]), np.cov([x.mean(0) for x in v])
    cov = s10 / len(pos) + s01 / len(neg)
    return v[0].mean(), v[1].mean(), (cov[0, 0] + cov[1, 1] - 2 * cov[0, 1]) ** 0.5


@pytest.mark.parametrize('seed', range(8))
@pytest.mark.parametrize('digits', [6, 1])
def test_delong_equals_naive(seed, digits):
    from scipy.stats import norm

    rng = np.random.default_rng(seed)
    y = rng.permutation(np.r_[np.ones(15), np.zeros(25)])
    a, b = (np.round(y + rng.normal(0, 1, 40), digits) for _ in range(2))
    got, (auc_a, auc_b, se) = delong(y, a, b), naive_delong(y, a, b)
    np.testing.assert_allclose([got['auc_a'], got['auc_b'], got['se']], [auc_a, auc_b, se], atol=1e-12)
    np.testing.assert_allclose(got['auc_a'], sk.roc_auc_score(y, a), atol=1e-12)
    np.testing.assert_allclose(got['p'], 2 * norm.sf(abs(auc_a - auc_b) / se), rtol=1e-9)


def test_delong_undefined():
    assert np.isnan(delong([1, 0, 0], [0.1, 0.2, 0.3], [0.3, 0.2, 0.1])['p'])
    assert delong([1, 1, 0, 0], [0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.1, 0.2])['p'] == 1
    with pytest.raises(ValueError, match='needs as many'):
        delong([1, 0], [0.1], [0.2, 0.3])
    with pytest.raises(ValueError, match='0 or 1'):
        delong([2, 0], [0.1, 0.4], [0.2, 0.3])


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6]), [1, 1])
    np.testing.assert_allclose(holm([np.nan, 0.02, 0.03]), [np.nan, 0.04, 0.04])
    s = holm(pd.Series({'HAND': 0.01, 'WRIST': 0.2}))
    assert s.to_dict() == {'HAND': 0.02, 'WRIST': 0.2}
    assert len(holm([])) == 0
    with pytest.raises(ValueError, match='0 to 1'):
        holm([1.2])


# ---- pooling
def test_pooling_rules():
    rng = np.random.default_rng(0)
    rows = [(f's{k}', v) for k in range(20) for v in rng.random(rng.integers(1, 6))]
    df = pd.DataFrame(rows, columns=['study', 'prob'])
    df = df.assign(patient='p' + df.study, study_type='XR_hand', label=pd.array([1] * len(rows), dtype='Int8'))
    logit = lambda p: np.log(p / (1 - p))
    by_hand = {
        'mean': np.mean,
        'median': np.median,
        'max': np.max,
        'noisy-or': lambda p: 1 - np.prod(1 - p),
        'logit': lambda p: 1 / (1 + np.exp(-logit(p).mean())),
    }
    assert set(by_hand) == set(POOL)
    for how, f in by_hand.items():
        got = pool_studies(df, how)
        assert list(got.columns) == ['study', 'patient', 'study_type', 'label', 'prob']
        assert got.label.dtype == 'Int8' and set(got.study_type) == {'HAND'}
        np.testing.assert_allclose(got.prob, [f(df.prob[df.study == s].to_numpy()) for s in got.study], atol=1e-12)
    sure = pool_studies(df.assign(prob=(df.index % 2).astype(float)), 'logit')
    assert sure.prob.between(0, 1).all()


@pytest.mark.parametrize('missing', [None, np.nan, pd.NA])
def test_labels_may_be_missing_when_pooling(missing):
    df = studies_of(5).assign(label=missing)
    pooled = pool_studies(df)
    assert pooled.label.isna().all() and len(pooled) == 5
    with pytest.raises(ValueError, match='allowed: 0'):
        evaluate(pooled)


def test_split_is_kept():
    df = studies_of(6).assign(split='valid', path=list('abcdef'))
    assert (pool_studies(df).split == 'valid').all()
    with pytest.raises(ValueError, match='once only'):
        pool_studies(pd.concat([df, df]))


# ---- wrong input
@pytest.mark.parametrize(
    'change, error, words',
    [
        (lambda s: s.drop(columns='prob'), ValueError, 'prob'),
        (lambda s: s.drop(columns='patient'), ValueError, 'patient'),
        (lambda s: s.iloc[:0], ValueError, 'no rows'),
        (lambda s: s.to_dict(), TypeError, 'DataFrame'),
        (lambda s: s.assign(prob=1.2), ValueError, '0 to 1'),
        (lambda s: s.assign(prob=-0.1), ValueError, '0 to 1'),
        (lambda s: s.assign(prob=np.nan), ValueError, '0 to 1'),
        (lambda s: s.assign(prob=np.inf), ValueError, '0 to 1'),
        (lambda s: s.assign(prob='much'), ValueError, 'prob'),
        (lambda s: s.assign(label=2), ValueError, '0 (normal) or 1 (abnormal)'),
        (lambda s: s.assign(label=0.5), ValueError, '0 (normal) or 1 (abnormal)'),
        (lambda s: s.assign(label='positive'), ValueError, 'label'),
        (lambda s: s.assign(study_type='KNEE'), ValueError, 'KNEE'),
        (lambda s: s.assign(patient=None), ValueError, 'patient'),
        (lambda s: pd.concat([s, s]), ValueError, 'pool the images'),
    ],
)
def test_wrong_input(change, error, words):
    with pytest.raises(error) as e:
        evaluate(change(studies_of(10)))
    assert words in str(e.value)


def test_wrong_arguments():
    s = studies_of(30)
    for call in [
        lambda: evaluate(s, threshold=1.5),
        lambda: evaluate(s, threshold=np.nan),
        lambda: evaluate(s, n_boot=-1),
        lambda: evaluate(s, n_boot=2.5),
        lambda: compare(s, s, 'auroc'),
        lambda: compare(s, s, group='KNEE'),
        lambda: pool_studies(s, 'vote'),
        lambda: operating_point(s, 'best'),
        lambda: platt(s.assign(label=1)),
        lambda: platt(s.assign(prob=0.5)),
        lambda: operating_point(s.assign(label=0)),
    ]:
        with pytest.raises(ValueError):
            call()
    with pytest.raises(KeyError, match='metrics'):
        evaluate(s, n_boot=0)['auroc']


def test_labels_of_many_types():
    s = studies_of(30)
    want = evaluate(s, n_boot=0).table
    for dtype in (bool, float, 'Int8', 'boolean', object):
        pd.testing.assert_frame_equal(evaluate(s.astype({'label': dtype}), n_boot=0).table, want)


# ---- operating point and calibration
def rule_score(s, t, rule):
    "What a rule makes largest, by scikit-learn"
    if rule == 'kappa':
        return sk.cohen_kappa_score(s.label, s.prob > t)
    if rule == 'accuracy':
        return sk.accuracy_score(s.label, s.prob > t)
    return sk.recall_score(s.label, s.prob > t) + sk.recall_score(1 - s.label, s.prob <= t) - 1


@pytest.mark.parametrize('rule', ['youden', 'kappa', 'accuracy'])
def test_operating_point_is_the_best_of_all(rule):
    for seed in range(3):
        s = studies_of(80, seed, digits=2)
        best = rule_score(s, operating_point(s, rule), rule)
        assert best >= max(rule_score(s, t, rule) for t in np.linspace(0, 1, 101)) - 1e-12


@pytest.mark.parametrize('seed', range(6))
def test_platt_equals_sklearn(seed):
    s = studies_of(60 + 100 * seed, seed)
    x = np.log(s.prob / (1 - s.prob)).to_numpy()[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        lr = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(x, s.label)
    got = platt(s)
    assert not got.smoothed
    np.testing.assert_allclose([got.slope, got.intercept], [lr.coef_[0, 0], lr.intercept_[0]], atol=2e-5)
    np.testing.assert_allclose(got(s).prob, lr.predict_proba(x)[:, 1], atol=1e-5)
    np.testing.assert_allclose(got(s).prob.mean(), s.label.mean(), atol=1e-9)


def test_platt_of_separated_classes_is_finite():
    s = studies_of(40, 0).assign(label=lambda d: (d.prob > 0.5).astype(int))
    got = platt(s)
    assert got.smoothed and np.isfinite([got.slope, got.intercept]).all() and 'do not overlap' in got._repr_markdown_()
    assert got(s).prob.between(0, 1).all()
    extreme = platt(s.assign(prob=s.label.astype(float)))
    assert np.isfinite([extreme.slope, extreme.intercept]).all()


def test_tuned_columns_and_patients_apart():
    s, tune = studies_of(100, 1), studies_of(100, 2)
    with pytest.raises(ValueError, match='tuning split'):
        tuned_columns('m', s, tune, n_boot=0)
    tune = tune.assign(patient='t' + tune.patient)
    plain, cut, scaled = tuned_columns('m', s, tune, n_boot=0).values()
    assert plain.threshold == scaled.threshold == 0.5 and cut.threshold == operating_point(tune)
    np.testing.assert_allclose(plain['auc'].value, scaled['auc'].value)


def test_reliability():
    s = studies_of(400, 1)
    t = reliability_table(s, n_boot=100)
    share, mean = calibration_curve(s.label, s.prob, n_bins=10)
    np.testing.assert_allclose(t.abnormal, share)
    np.testing.assert_allclose(t.prob, mean)
    assert t.n.sum() == 400
    np.testing.assert_allclose((t.n * (t.abnormal - t.prob).abs()).sum() / 400, evaluate(s, n_boot=0)['ece'].value)
    fig = reliability_figure({'a': s, 'b': s[:5]}, n_boot=20)
    assert all(ax.get_ylabel() for ax in fig.axes) and fig.axes[0].get_title()
    import matplotlib.pyplot as plt

    assert not plt.get_fignums()


# ---- ROC curve
def test_roc_ends_in_both_corners_and_has_the_area():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 200).astype(float)
    p = (y + rng.normal(0, 1, 200)).round(1)
    grid = np.linspace(0, 1, 20001)
    curve = roc_at(y, p, np.ones(200), grid)
    assert curve[-1] == 1 and (np.diff(curve) >= -1e-12).all()
    assert np.trapezoid(curve, grid) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-3)


# ---- floor and tables
def index_of(n, seed, prefix=''):
    "A made-up index in which the number of views depends on the label"
    rng = np.random.default_rng(seed)
    s = studies_of(n, seed).drop(columns='prob').assign(views=lambda d: 1 + rng.binomial(3, 0.3 + 0.4 * d.label))
    s = s.assign(study=prefix + s.study, patient=prefix + s.patient)
    return s.loc[s.index.repeat(s.views)].drop(columns='views')


def test_floor():
    train, valid = index_of(3000, 0), index_of(600, 1, 'v')
    f = floor(train, valid)
    assert list(f.columns) == ['study', 'patient', 'study_type', 'label', 'prob'] and len(f) == valid.study.nunique()
    assert evaluate(f, n_boot=0)['auc'].value > 0.65
    pd.testing.assert_frame_equal(floor(train.sample(frac=1, random_state=0), valid.sample(frac=1, random_state=0)), f)
    cell = train.assign(views=train.groupby('study').study.transform('size'))
    one = valid.groupby('study').size().loc[f.study].to_numpy()
    hands = cell[(cell.study_type == 'HAND')].drop_duplicates('study')
    want = lambda v: (hands.label[hands.views == v].sum() + 10 * hands.label.mean()) / ((hands.views == v).sum() + 10)
    for v in (1, 2, 3, 4):
        np.testing.assert_allclose(f.prob[(f.study_type == 'HAND') & (one == v)], want(v))
    test = floor(train, valid.assign(label=pd.NA))
    assert test.label.isna().all() and test.prob.equals(f.prob)
    unseen = floor(train[train.study_type != 'HAND'], valid[valid.study_type == 'HAND'])
    assert unseen.prob.nunique() == 1
    with pytest.raises(ValueError, match='allowed: 0'):
        floor(train.assign(label=pd.NA), valid)
    some = train.label.where(~train.study.isin(train.study.unique()[:500])).astype('Int8')
    pd.testing.assert_frame_equal(floor(train.assign(label=some), valid), floor(train[some.notna()], valid))


def test_report_table():
    s = studies_of(300, 1)
    a, f = evaluate(s, n_boot=50), evaluate(s.assign(prob=0.4), n_boot=50)
    t = report_table({'floor': f, 'model': a})
    assert t.df.columns.tolist() == ['type', 'n', 'model', 'floor']
    assert t.df.type.tolist() == [*STUDY_TYPES, 'ALL', 'AUC', 'kappa']
    assert t.df.model[8] == str(a['auc']) and t.df.model[0] == str(a['accuracy', 'ELBOW'])
    with pytest.raises(ValueError, match='every table'):
        report_table({'model': a})
    with pytest.raises(ValueError, match='other studies'):
        report_table({'model': a, 'floor': evaluate(s[1:], n_boot=0)})
    one = s.assign(study_type='HAND')
    few = report_table({'model': evaluate(one, n_boot=0), 'floor': evaluate(one, n_boot=0)})
    assert few.df.model.tolist()[0] == '–' and few.df.n.tolist()[0] == 0


def test_source_report():
    s = source_report()
    assert s.shape == (9, 8) and s.type.tolist() == [*STUDY_TYPES, 'ALL', 'AUC']
    assert 'MURA' in s.attrs['source'] and 'Not comparable' in s.attrs['source']
    best = s.set_index('type')['Ensembled']
    assert (best['ALL'], best['AUC']) == (0.8543, 0.9153)


def test_names_that_other_code_imports_from_evaluation():
    from mura_nb import evaluation

    assert evaluation.pool_studies is pool_studies and evaluation.compare is compare


def test_exact_interval_of_a_metric_that_starts_below_zero():
    "Kappa of 1 without an error in ten: Clopper and Pearson's .025^(1/10) of its range from -1 to 1"
    value, lo, hi, _ = interval(np.ones(201), n=10, low=-1.)
    assert (value, hi) == (1, 1) and lo == pytest.approx(-1 + 2*.025**.1)


def test_no_interval_where_no_resample_moves_the_difference():
    s = studies_of(60)
    sure, surer = s.assign(prob=0.2 + 0.6*s.label), s.assign(prob=0.1 + 0.8*s.label)
    both = compare_mean([sure], surer, n_boot=50)
    assert both.value == 0 and np.isnan([both.lo, both.hi]).all()
    same = compare_mean([sure], sure, n_boot=50)
    assert (same.value, same.lo, same.hi) == (0, 0, 0)


def test_the_order_of_the_studies_moves_no_resample():
    s = studies_of(40)

    def positives(d): return resample_groups(d, lambda w, rows, patient: w @ np.bincount(
        patient, d.label.to_numpy()[rows], w.shape[1])[:, None], 30, 0)

    one, other = positives(s), positives(s[::-1].reset_index(drop=True))
    assert all(np.array_equal(one[g], other[g], equal_nan=True) for g in one)
