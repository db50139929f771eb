"""How fast similar codes are found: exact search, the index, scikit-learn's brute force and a plain loop, side by side.

    .venv/bin/python benchmarks/million.py [codes] [queries]

At 36,808 codes of 2,048 numbers (MURA's training images through a ResNet-50) and at a million (or as many as
`codes` says) of the demo network's own width and of 2,048. All are made from the real codes of profile demo, whose
chapters 5 and 8 must have run (make report): one code plus the difference of two others of the same study type.
2,048 numbers are the first of the code of the whole image and that of its crop side by side. Needs 10 GB of memory
for the exact search among a million, 5 GB of disk, and ten minutes on two cores. The table is also written to
tables/benchmark_search.csv of the results, from where the room 07c_large shows it.

What shall hold: exact search at 36,808 x 2,048 within 1.5 times of PyTorch's sum of the codes (medians,
both taken in turn); of the index at a million recall at 5 of at least .95, at least 10 times as fast as exact
search, in at most 600 MB."""
import os, resource, sys, tempfile
from pathlib import Path
from bench import machine
os.environ['MURA_NB_PROFILE'] = 'demo'
import numpy as np, pandas as pd, torch
from mura_nb.core import Table, time_calls
from mura_nb.settings import settings
from mura_nb.results import save_table
from mura_nb.data import load_data
from mura_nb.database import nearest_rows, square_sums
from mura_nb.large import made_database, measure_search, recall, search_words
from mura_nb.similarity import branch_codes

K = 5


def real_codes():
    "Codes of train and what is known of them, codes of the internal test and their types; width of the first branch"
    df,store,_ = load_data()
    rows = pd.concat([df[(df.split=='train') & df.label.notna()], df[df.split=='valid']])
    codes,train = branch_codes(rows, store),(rows.split=='train').to_numpy()
    both = np.concatenate([codes['whole'][0], codes['crop'][0]], 1)
    types = rows.study_type.to_numpy(object)[~train]
    return both[train],rows[train].reset_index(drop=True),both[~train],types,codes['whole'].shape[2]


def plain_loop(x, q):
    "Row by row, the five smallest kept by sorting"
    return np.argsort([((row-q)**2).sum() for row in x])[:K]


def peers(db, queries):
    "scikit-learn's brute force and a plain loop, on codes in memory"
    from sklearn.neighbors import NearestNeighbors
    x = db.codes()
    sums = square_sums(x)
    truth = [nearest_rows(q, x, K, db.paths, sums=sums)[1] for q in queries]
    brute = NearestNeighbors(n_neighbors=K, algorithm='brute').fit(x)
    few = queries[:max(2, min(len(queries), 20*36_808//len(db)))]
    out = []
    about = dict(megabytes=x.nbytes/1e6, codes=len(db), width=db.width)
    for name,f,ask in (('scikit-learn, brute force', lambda q: brute.kneighbors(q[None])[1][0], few),
                       ('plain loop', lambda q: plain_loop(x, q), few[:2])):
        ms = 1e3*time_calls(dict(f=f), ask).f.median()
        out.append(dict(method=name, ms=ms, recall=recall([f(q) for q in ask], truth), **about))
    return pd.DataFrame(out)


def measured(codes, rows, queries, types, n):
    "One size, all methods"
    with tempfile.TemporaryDirectory(dir=settings().cache) as d:
        db = made_database(Path(d)/'made.hdf5', codes, rows, n)
        ours = measure_search(db, queries, K, probes=(8, 16, 32, 64), types=types)
        t = pd.concat([ours, peers(db, queries)], ignore_index=True)
    return t.assign(faster=t.ms[t.method=='exact, codes in memory'].iloc[0]/t.ms, reads=t.ms/t.ms[0])


def main(n=1_000_000, ask=50):
    codes,rows,queries,types,own = real_codes()
    some = np.random.default_rng(0).permutation(len(queries))[:ask]
    queries,types = queries[some],types[some]
    sizes = ((36_808, 2048), (n, own), (n, 2048))
    def cut(x, width): return np.ascontiguousarray(x[:,:width])
    t = pd.concat([measured(cut(codes, w), rows, cut(queries, w), types, k) for k,w in sizes])
    save_table(t, 'benchmark_search')
    shown = {'codes':t.codes, 'width':t.width, 'search':search_words(t), 'ms a query':t.ms,
        "times PyTorch's sum":t.reads, 'times as fast as exact':t.faster, 'recall at 5':t.recall,
        'memory, MB':t.megabytes, 'built in, s':t.build}
    formats = {'codes':',', 'width':'d', 'ms a query':'.2f', "times PyTorch's sum":'.2f',
        'times as fast as exact':'.2f', 'memory, MB':',.0f', 'built in, s':'.1f'}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024**2 # kB on Linux
    caption = f'{machine()}, {torch.get_num_threads()} threads; the process took {peak:.1f} GiB at most.'
    print(Table(pd.DataFrame(shown), caption, formats))


if __name__ == '__main__': main(*map(int, sys.argv[1:]))
