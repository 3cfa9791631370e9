"""Other people's graphs as bench_ann serves ours: peer_ann.py DIR DIM; the same commands on stdin, one JSON line each.
ENGINE is hnswlib (float32), usearch (STORAGE) or faiss (the build of PyPI, with kernels for this processor, float32)."""
import json
import resource
import sys
import time

import numpy as np

K = 10
folder, dim = sys.argv[1], int(sys.argv[2])
base = np.memmap(f"{folder}/base.f32", "f4", "r").reshape(-1, dim)
queries = np.fromfile(f"{folder}/queries.f32", "f4").reshape(-1, dim)
truth = np.fromfile(f"{folder}/truth.i32", "i4").reshape(len(queries), -1)[:, :K]


def resident():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


class Hnswlib:
    def __init__(self, storage, m, efc, threads):
        import hnswlib
        self.index = hnswlib.Index("ip", dim)
        self.index.init_index(len(base), efc, m)
        for at in range(0, len(base), 10000):
            self.index.add_items(base[at:at + 10000], np.arange(at, min(at + 10000, len(base))), threads)

    def search(self, q, ef, threads):
        self.index.set_ef(ef)
        return self.index.knn_query(q, K, threads)[0]


class Usearch:
    def __init__(self, storage, m, efc, threads):
        from usearch.index import Index
        self.index = Index(ndim=dim, metric="ip" if storage != "int8" else "cos", dtype={"float32": "f32", "float16": "f16", "int8": "i8"}[storage], connectivity=m,
                           expansion_add=efc)
        for at in range(0, len(base), 10000):
            self.index.add(np.arange(at, min(at + 10000, len(base))), base[at:at + 10000], threads=threads)

    def search(self, q, ef, threads):
        self.index.expansion_search = ef
        return self.index.search(q, K, threads=threads).keys


class Faiss:
    def __init__(self, storage, m, efc, threads):
        import faiss
        self.faiss = faiss
        faiss.omp_set_num_threads(threads)
        self.index = faiss.IndexHNSWFlat(dim, m, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = efc
        for at in range(0, len(base), 10000):
            self.index.add(base[at:at + 10000])

    def search(self, q, ef, threads):
        self.faiss.omp_set_num_threads(threads)
        return self.index.search(q, K, params=self.faiss.SearchParametersHNSW(efSearch=ef))[1]


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


engine = None
for line in sys.stdin:
    words = line.split()
    if words[0] == "build":
        before, t, c = resident(), time.monotonic(), cpu()
        engine = {"hnswlib": Hnswlib, "usearch": Usearch, "faiss": Faiss}[words[1]](words[2], int(words[3]), int(words[4]), int(words[5]))
        out = {"wall_s": time.monotonic() - t, "cpu_s": cpu() - c, "bytes": (resident() - before) / len(base)}
    else:
        ef, threads = int(words[1]), int(words[2])
        t = time.monotonic()
        found = engine.search(np.tile(queries, (threads, 1)), ef, threads)
        t = time.monotonic() - t
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(found[:len(queries)], truth))
        out = {"rate": len(queries) * threads / t, "recall": hits / truth.size}
    print(json.dumps(out), flush=True)
