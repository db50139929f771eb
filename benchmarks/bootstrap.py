"""How fast are intervals from resampled patients, beside scikit-learn called for each resample?

1,199 studies, as many as the valid set of MURA has, all nine metrics for seven study types and for all. The loop
takes fewer resamples than we do, as it would take minutes; both are counted by resamples a second."""
from bench import paired, row, save, small
import numpy as np, pandas as pd
from sklearn import metrics as M
from mura_nb.core import STUDY_TYPES
from mura_nb.evaluation import evaluate

OURS, LOOP = small(2000, 50), small(20, 1)


def studies(n):
    "Made-up studies, two a patient"
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, n)
    prob = 1/(1 + np.exp(-(rng.normal(size=n) + 2*label - 1)))
    patient = [f'patient{i//2:05d}' for i in range(n)]
    return pd.DataFrame(dict(study=[f'{p}/study{i}' for i, p in enumerate(patient)], patient=patient,
        study_type=[STUDY_TYPES[i//2 % 7] for i in range(n)], label=label, prob=prob))


def values(y, p):
    "Eight of the nine metrics; scikit-learn has no calibration error"
    called, two = (p > .5).astype(int), len(set(y)) == 2
    return (M.accuracy_score(y, called), M.roc_auc_score(y, p) if two else np.nan, M.average_precision_score(y, p),
        M.cohen_kappa_score(y, called), M.recall_score(y, called, zero_division=0),
        M.recall_score(y, called, pos_label=0, zero_division=0), M.f1_score(y, called, zero_division=0),
        M.brier_score_loss(y, p))


def loop(d, n):
    "Resample patients, then call scikit-learn for each type and for all"
    rng, by_patient = np.random.default_rng(0), list(d.groupby('patient').indices.values())
    y, p, kind = d.label.to_numpy(), d.prob.to_numpy(), d.study_type.to_numpy(object)
    out = []
    for _ in range(n):
        rows = np.concatenate([by_patient[i] for i in rng.integers(0, len(by_patient), len(by_patient))])
        groups = [rows] + [rows[kind[rows] == k] for k in STUDY_TYPES]
        out.append([values(y[r], p[r]) if len(r) else None for r in groups])
    return out


def main():
    d = studies(small(1199, 70))
    times = paired(lambda: evaluate(d, n_boot=OURS), lambda: loop(d, LOOP), pairs=5)
    save('bootstrap', [row('nine metrics with intervals from resampled patients', times, 'scikit-learn in a loop', 50,
        work=(OURS, LOOP), unit='resamples/s', count=len(d))])


if __name__ == '__main__': main()
