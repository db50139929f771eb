"""How fast are the five nearest among as many codes as MURA has training images, exactly?

36,808 random codes of 2,048 numbers, as a ResNet-50 gives, one query after the other, beside scikit-learn's brute
force and faiss' flat index; then among one study type only. All give the same rows, else it stops. Nothing exact
can be faster than reading every code once, which the last row times. million.py makes the table of the room
07c_large."""
from bench import paired, row, save, small, threads
import faiss, numpy as np, torch
from sklearn.neighbors import NearestNeighbors
from mura_nb.database import nearest_rows, square_sums

CODES, WIDTH, K = small(36_808, 700), small(2048, 64), 5


def by_faiss(index, q, keep=None):
    "The nearest rows of faiss' flat index"
    params = None if keep is None else faiss.SearchParameters(sel=faiss.IDSelectorBatch(np.flatnonzero(keep)))
    return index.search(q[None], K, params=params)[1][0]


def main():
    torch.set_num_threads(threads())
    faiss.omp_set_num_threads(threads())
    rng = np.random.default_rng(0)
    codes = np.maximum(rng.standard_normal((CODES, WIDTH), np.float32), 0)
    queries = iter(np.maximum(rng.standard_normal((4096, WIDTH), np.float32), 0))
    keep = np.arange(CODES) % 7 == 3  # one study type
    part, places, sums = codes[keep], np.flatnonzero(keep), square_sums(codes)
    names = [f'{i:06d}' for i in range(CODES)]
    brute, brute_part = (NearestNeighbors(n_neighbors=K, algorithm='brute').fit(x) for x in (codes, part))
    flat = faiss.IndexFlatL2(WIDTH)
    flat.add(codes)
    def ours(q, keep=None): return nearest_rows(q, codes, K, lambda at: [names[i] for i in at], keep, sums=sums)[1]
    others = {'scikit-learn, brute force': (lambda q: brute.kneighbors(q[None])[1][0],
                                            lambda q: places[brute_part.kneighbors(q[None])[1][0]]),
              'faiss, flat': (lambda q: by_faiss(flat, q), lambda q: by_faiss(flat, q, keep))}
    rows = []
    for name, ways in others.items():
        for way, chosen, words in zip(ways, (None, keep), ('all codes', 'one study type of seven'), strict=True):
            q = next(queries)
            if set(ours(q, chosen)) != set(way(q)): raise SystemExit(f'{name}, {words}: other rows than ours')
            times = paired(lambda k=chosen: ours(next(queries), k), lambda w=way: w(next(queries)), pairs=31)
            own = chosen is not None and name.startswith('scikit')  # it cannot leave rows out of an index
            beside, wanted = (f'{name}, an index for each type', None) if own else (name, 1)
            rows.append(row(f'exact search, {words}', times, beside, wanted, work=1, unit='queries/s', count=CODES))
    memory = torch.from_numpy(codes)
    times = paired(lambda: ours(next(queries)), lambda: memory.sum(), pairs=31)
    rows.append(row('exact search, beside its bound', times, 'reading every code once', .67, work=1, unit='queries/s',
        count=CODES))
    save('search', rows)


if __name__ == '__main__': main()
