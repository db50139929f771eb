"Ensemble: files that do not fit together are errors that name whose they are"
import numpy as np, pandas as pd, pytest
from mura_nb import ensemble as E
from mura_nb.pooling import pool_studies
from mura_nb.disagreement import votes


def images(seed=0, n=24):
    "Predictions of `n` studies with two views each, half of the studies in tune"
    rng = np.random.default_rng(seed)
    study = np.repeat([f'study{k:02}' for k in range(n)], 2)
    label = np.repeat(np.arange(n)%2, 2)
    p = np.clip(.5 + .2*(2*label-1) + rng.normal(0, .2, 2*n), .01, .99).round(6)
    return pd.DataFrame(dict(
        path=[f'{s}/image{v}.png' for s, v in zip(study, [1, 2]*n)], study=study,
        patient=np.repeat([f'patient{k//2:02}' for k in range(n)], 2), study_type='WRIST', label=label,
        logit=np.log(p/(1-p)), prob=p, split=np.where(np.repeat(np.arange(n), 2) < n/2, 'tune', 'valid')))


@pytest.fixture
def out(tmp_path):
    "Results of three members, the second in another order of rows"
    (tmp_path/'predictions').mkdir()
    for k, n in enumerate('abc'):
        images(k).sample(frac=1, random_state=k).to_csv(tmp_path/'predictions'/f'{n}.csv', index=False)
    return tmp_path


def change(out, name, f):
    "Rewrite a member's file"
    path = out/'predictions'/f'{name}.csv'
    f(pd.read_csv(path)).to_csv(path, index=False)


def test_mean_by_hand(out):
    got = E.ensemble(tuple('abc'), out=out).sort_values('path').prob.to_numpy()
    np.testing.assert_allclose(got, sum(images(k).sort_values('path').prob.to_numpy() for k in range(3))/3)


@pytest.mark.parametrize('names', [('a',), ('b', 'c'), ('c', 'b'), ('a', 'b', 'c')])
def test_any_subset_in_any_order(out, names):
    got = pool_studies(E.ensemble(names, 'valid', out))
    each = [pool_studies(images('abc'.index(n)).query("split=='valid'")).prob for n in names]
    np.testing.assert_allclose(got.prob, np.mean(each, axis=0))


def test_one_name_is_a_member(out):
    with pytest.raises(FileNotFoundError, match='no predictions of lite9 yet'): E.ensemble('lite9', out=out)


def test_all_missing_members_are_named(out):
    with pytest.raises(FileNotFoundError, match='no predictions of x, y yet'): E.ensemble(('a', 'x', 'b', 'y'), out=out)


@pytest.mark.parametrize('names', [(), ('a', 'a')])
def test_names_that_make_no_ensemble(out, names):
    with pytest.raises(ValueError, match='each once'): E.ensemble(names, out=out)


def test_missing_rows_name_every_member(out):
    for n in 'bc': change(out, n, lambda d: d[d.study != 'study13'])
    words = r'not the same images as a: b \(2 not shared: study13/image1.png is in a only\); c \(2'
    with pytest.raises(ValueError, match=words): E.ensemble(tuple('abc'), out=out)


def test_other_rows(out):
    change(out, 'c', lambda d: d.assign(path=d.path.str.replace('study03/image1', 'study99/image1')))
    words = r'c \(2 not shared: study03/image1.png is in a only\)'
    with pytest.raises(ValueError, match=words): E.ensemble(tuple('abc'), out=out)


def test_duplicated_rows(out):
    change(out, 'b', lambda d: pd.concat([d, d[d.path == 'study05/image2.png']]))
    with pytest.raises(ValueError, match='b: study05/image2.png has more than one row'):
        E.ensemble(tuple('abc'), out=out)


@pytest.mark.parametrize('column, value', [('label', 1), ('label', None), ('patient', 'patient77'),
                                           ('study', 'study01'), ('study_type', 'HAND'), ('split', 'valid')])
def test_what_differs_is_named(out, column, value):
    def other(d):
        d = d.astype({column: object})
        d.loc[d.path == 'study00/image1.png', column] = value
        return d
    change(out, 'c', other)
    with pytest.raises(ValueError, match=f'c: {column} of study00/image1.png is {value}, in a '):
        E.ensemble(tuple('abc'), out=out)


def test_labels_may_be_unknown_to_all(out):
    for n in 'abc': change(out, n, lambda d: d.assign(label=np.nan))
    assert E.ensemble(tuple('abc'), out=out).label.isna().all()


@pytest.mark.parametrize('value', [1.2, -.1, np.nan])
def test_no_probability(out, value):
    change(out, 'b', lambda d: d.assign(prob=d.prob.where(d.path != 'study04/image1.png', value)))
    with pytest.raises(ValueError, match=f'b: prob of study04/image1.png is {value}, allowed: 0 to 1'):
        E.ensemble(tuple('abc'), out=out)


def test_members_of_other_studies_have_no_votes_or_subsets():
    a, b = (pool_studies(images(k)) for k in (0, 1))
    for f in (votes, E.subsets):
        with pytest.raises(ValueError, match='do not have the same studies'): f(dict(a=a, b=b[1:]))


def test_votes_count_what_is_right():
    members = {n: pool_studies(images(k)) for k, n in enumerate('abc')}
    v = votes(members)
    want = sum(((d.prob > .5) == (d.label == 1)).astype(int).to_numpy() for d in members.values())
    assert v.right.tolist() == want.tolist()
    mean = E.mean_members({n: images(k) for k, n in enumerate('abc')})
    np.testing.assert_allclose(v['mean'], pool_studies(mean).prob)


def test_holm_is_over_the_members():
    members = {n: pool_studies(images(k)) for k, n in enumerate('abc')}
    t = E.compare_members(members['a'], members, n_boot=200)
    assert t.value[0] == 0 and (t.p_holm >= t.p).all() and t.p_holm.max() <= 1
