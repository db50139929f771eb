"""How fast are the five nearest among as many codes as MURA has training images, exactly?

36,808 random codes of 2,048 numbers, as a ResNet-50 gives, one query after the other, beside scikit-learn's brute
force and faiss' flat index; then among one study type only. All give the same rows, else it stops. The last row
times a sum over every code, which reads each of them once. million.py makes the table of the room 07c_large."""
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
    together, mixed = np.arange(CODES)*7//CODES == 3, np.arange(CODES) % 7 == 3
    kept = {'all codes': None, 'one study type of seven, each type together as MURA lists them': together,
            'one study type of seven, types mixed': mixed}
    sums, names = square_sums(codes), [f'{i:06d}' for i in range(CODES)]
    flat = faiss.IndexFlatL2(WIDTH)
    flat.add(codes)
    def ours(q, keep=None): return nearest_rows(q, codes, K, lambda at: [names[i] for i in at], keep, sums=sums)[1]
    rows = []
    for words, keep in kept.items():
        part, places = (codes, np.arange(CODES)) if keep is None else (codes[keep], np.flatnonzero(keep))
        brute = NearestNeighbors(n_neighbors=K, algorithm='brute').fit(part)
        def by_sklearn(q, brute=brute, places=places): return places[brute.kneighbors(q[None])[1][0]]
        # scikit-learn cannot leave rows out of an index, so it gets one for each type, which is not the same task
        peer = ('brute force', 1) if keep is None else ('an index for each type', None)
        def by_flat(q, keep=keep): return by_faiss(flat, q, keep)
        for name, way, least in ((f'scikit-learn, {peer[0]}', by_sklearn, peer[1]), ('faiss, flat', by_flat, 1)):
            q = next(queries)
            if set(ours(q, keep)) != set(way(q)): raise SystemExit(f'{name}, {words}: other rows than ours')
            times = paired(lambda k=keep: ours(next(queries), k), lambda w=way: w(next(queries)), pairs=31)
            rows.append(row(f'exact search, {words}', times, name, least, work=1, unit='queries/s', count=CODES))
    memory = torch.from_numpy(codes)
    times = paired(lambda: ours(next(queries)), lambda: memory.sum(), pairs=31)
    rows.append(row('exact search, beside one sum over all codes', times, 'torch.sum over every code', .67, work=1,
        unit='queries/s', count=CODES))
    save('search', rows)


if __name__ == '__main__': main()
