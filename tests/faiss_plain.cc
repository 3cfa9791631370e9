// faiss_plain.cc: see faiss_plain.h.
#include "faiss_plain.h"

#include <algorithm>
#include <vector>

#include <faiss/IndexHNSW.h>

struct faiss_plain {
    faiss::IndexHNSWFlat index;
    faiss_plain(int d, int m) : index(d, m, faiss::METRIC_INNER_PRODUCT) {}
};

namespace {
template <class F>
int guarded(F f)
{
    try {
        f();
        return 0;
    } catch (...) {
        return -1;
    }
}
} // namespace

extern "C" {

faiss_plain *faiss_plain_new(uint32_t dim, uint32_t m, uint32_t ef_construction)
{
    faiss_plain *p = nullptr;
    guarded([&] {
        p = new faiss_plain(static_cast<int>(dim), static_cast<int>(m));
        p->index.hnsw.efConstruction = static_cast<int>(ef_construction);
    });
    return p;
}

int faiss_plain_add(faiss_plain *p, uint64_t n, const float *rows)
{
    return guarded([=] { p->index.add(static_cast<int64_t>(n), rows); });
}

int faiss_plain_search(const faiss_plain *p, const float *query, uint32_t k, uint32_t ef, float *scores, int64_t *labels)
{
    return guarded([=] {
        faiss::SearchParametersHNSW params;
        params.efSearch = static_cast<int>(ef);
#if FAISS_VERSION_MAJOR == 1 && FAISS_VERSION_MINOR < 8
        std::vector<float> all(static_cast<size_t>(std::max(k, ef))); // FAISS 1.7 takes its ef from k
        std::vector<int64_t> names(all.size());
        p->index.search(1, query, static_cast<int64_t>(all.size()), all.data(), names.data(), &params);
        std::copy_n(all.begin(), k, scores);
        std::copy_n(names.begin(), k, labels);
#else
        p->index.search(1, query, static_cast<int64_t>(k), scores, labels, &params);
#endif
    });
}

void faiss_plain_free(faiss_plain *p) { delete p; }
}
