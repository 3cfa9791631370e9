// ann_shim.cc: the C face of FAISS that ann.c stands on. No exception leaves this file.
//
// 1. Parameters of one HNSW search (ef, permitted rows): the C API of no version offers them.
// 2. Distances at full speed. Debian builds FAISS for the baseline of its architecture, where its inner products are scalar
//    loops. A storage of our own class gives HNSW our dot.h instead, through FAISS's virtual functions and without a copy of
//    it; on disk it is FAISS's IndexFlatIP. It can go when the distribution's FAISS chooses its kernels by processor.
// 3. Debian 12 ships the C API's headers, but its libfaiss 1.7.3 lacks their code. LK_FAISS_C_MISSING, set by the build
//    when there is no libfaiss_c, adds the few functions that ann.c calls, with the signatures of those headers. It can go
//    with Debian 12.

#include "ann_shim.h"
#include "dot.h"

#include <algorithm>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <faiss/Clustering.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexHNSW.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/IDSelector.h>

#ifdef LK_FAISS_C_MISSING
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>
#include <faiss/index_factory.h>
#include <faiss/index_io.h>
#else
#include <faiss/c_api/error_impl.h>
#endif

namespace {

// Where faiss_get_last_error() finds the text: ours without libfaiss_c, else libfaiss_c's.
#ifdef LK_FAISS_C_MISSING
thread_local std::string last_error;
void remember(const char *what) { last_error = what; }
#else
void remember(const char *what) { faiss_last_exception = std::make_exception_ptr(std::runtime_error(what)); }
#endif

template <class F>
int guarded(F f)
{
    try {
        f();
        return 0;
    } catch (const std::exception &e) {
        remember(e.what());
    } catch (...) {
        remember("unknown exception");
    }
    return -1;
}

struct DotComputer : faiss::FlatCodesDistanceComputer {
    const float *query = nullptr;
    size_t d;

    explicit DotComputer(const faiss::IndexFlat &flat) : d(static_cast<size_t>(flat.d))
    {
        codes = flat.codes.data();
        code_size = flat.code_size;
    }
    const float *row(int64_t i) const { return reinterpret_cast<const float *>(codes) + static_cast<size_t>(i) * d; }
    void set_query(const float *x) override { query = x; }
    float distance_to_code(const uint8_t *code) override { return idx_dot(query, reinterpret_cast<const float *>(code), d); }
    float symmetric_dis(int64_t i, int64_t j) override { return idx_dot(row(i), row(j), d); }
};

struct DotFlat : faiss::IndexFlatIP {
    explicit DotFlat(int64_t dim) : faiss::IndexFlatIP(dim) {}
    faiss::FlatCodesDistanceComputer *get_FlatCodesDistanceComputer() const override { return new DotComputer(*this); }
};

faiss::Index *cpp(FaissIndex *i) { return reinterpret_cast<faiss::Index *>(i); }
const faiss::Index *cpp(const FaissIndex *i) { return reinterpret_cast<const faiss::Index *>(i); }

} // namespace

extern "C" {

int idx_shim_set_ef_construction(FaissIndex *index, int ef)
{
    return guarded([=] { dynamic_cast<faiss::IndexHNSW &>(*cpp(index)).hnsw.efConstruction = ef; });
}

int idx_shim_is_hnsw(const FaissIndex *index)
{
    return dynamic_cast<const faiss::IndexHNSWFlat *>(cpp(index)) != nullptr;
}

int idx_shim_own_distances(FaissIndex *index)
{
    return guarded([=] {
        auto &hnsw = dynamic_cast<faiss::IndexHNSWFlat &>(*cpp(index));
        auto &theirs = dynamic_cast<faiss::IndexFlat &>(*hnsw.storage);
        if (theirs.metric_type != faiss::METRIC_INNER_PRODUCT) throw std::invalid_argument("the metric is not the inner product");
        auto *ours = new DotFlat(theirs.d);
        ours->ntotal = theirs.ntotal;
        std::swap(ours->codes, theirs.codes);
        delete hnsw.storage;
        hnsw.storage = ours;
    });
}

int idx_shim_has_own_distances(const FaissIndex *index)
{
    auto *hnsw = dynamic_cast<const faiss::IndexHNSW *>(cpp(index));
    return hnsw != nullptr && dynamic_cast<const DotFlat *>(hnsw->storage) != nullptr;
}

int idx_shim_search(const FaissIndex *index, const float *query, int k, int ef, const uint8_t *allowed, float *scores, int64_t *labels)
{
    return guarded([=] {
        static_assert(sizeof(idx_t) == sizeof(int64_t), "labels are 64 bits");
        faiss::SearchParametersHNSW params;
        faiss::IDSelectorBitmap bitmap((static_cast<size_t>(cpp(index)->ntotal) + 7) / 8, allowed);
        params.efSearch = ef;
        if (allowed != nullptr) params.sel = &bitmap;
#if FAISS_VERSION_MAJOR == 1 && FAISS_VERSION_MINOR < 8
        // FAISS 1.7 sizes the heap of candidates by the index's own efSearch or by k, never by the parameter: who wants ef
        // candidates has to ask for ef results. The first k of them are the answer.
        std::vector<float> all(static_cast<size_t>(std::max(k, ef)));
        std::vector<idx_t> names(all.size());
        cpp(index)->search(1, query, static_cast<idx_t>(all.size()), all.data(), names.data(), &params);
        std::copy_n(all.begin(), k, scores);
        std::copy_n(names.begin(), k, labels);
#else
        cpp(index)->search(1, query, k, scores, reinterpret_cast<idx_t *>(labels), &params);
#endif
    });
}

int idx_shim_scores(const FaissIndex *index, const float *query, const uint32_t *rows, uint32_t n, float *out)
{
    return guarded([=] {
        auto &storage = dynamic_cast<const faiss::IndexFlatCodes &>(*dynamic_cast<const faiss::IndexHNSW &>(*cpp(index)).storage);
        std::unique_ptr<faiss::FlatCodesDistanceComputer> dot(storage.get_FlatCodesDistanceComputer());
        dot->set_query(query);
        constexpr uint32_t AHEAD = 6; // rows lie anywhere: they are asked for before they are read
        const size_t bytes = std::min<size_t>(dot->code_size, 2048);
        auto ask = [&](uint32_t i) {
            const uint8_t *code = dot->codes + static_cast<size_t>(rows[i]) * dot->code_size;
            for (size_t o = 0; o < bytes; o += 64) __builtin_prefetch(code + o);
        };
        for (uint32_t i = 0; i < n && i < AHEAD; i++) ask(i);
        for (uint32_t i = 0; i < n; i++) {
            if (i + AHEAD < n) ask(i + AHEAD);
            out[i] = (*dot)(rows[i]);
        }
    });
}

int idx_shim_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, int go_on, float *centroids)
{
    return guarded([=] {
        faiss::ClusteringParameters how;
        how.niter = 1;
        how.spherical = true;
        how.min_points_per_centroid = 1; // no advice on stderr
        how.max_points_per_centroid = static_cast<int>(n / k + 1);
        faiss::Clustering step(static_cast<int>(dim), static_cast<int>(k), how);
        if (go_on != 0) step.centroids.assign(centroids, centroids + static_cast<size_t>(k) * dim);
        faiss::IndexFlatIP assigner(static_cast<int>(dim));
        step.train(static_cast<idx_t>(n), rows, assigner);
        std::copy(step.centroids.begin(), step.centroids.end(), centroids);
    });
}

int idx_shim_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label)
{
    return guarded([=] {
        faiss::IndexFlatIP assigner(static_cast<int>(dim));
        assigner.add(static_cast<idx_t>(k), centroids);
        std::vector<float> score(n);
        std::vector<idx_t> name(n);
        assigner.search(static_cast<idx_t>(n), rows, 1, score.data(), name.data());
        std::transform(name.begin(), name.end(), label, [](idx_t i) { return static_cast<uint32_t>(i < 0 ? 0 : i); }); // -1: not a number
    });
}

#ifdef LK_FAISS_C_MISSING

const char *faiss_get_last_error() { return last_error.c_str(); }

int faiss_index_factory(FaissIndex **out, int d, const char *description, FaissMetricType metric)
{
    return guarded([=] {
        *out = reinterpret_cast<FaissIndex *>(faiss::index_factory(d, description, static_cast<faiss::MetricType>(metric)));
    });
}

void faiss_Index_free(FaissIndex *index) { delete cpp(index); }
int faiss_Index_d(const FaissIndex *index) { return cpp(index)->d; }
idx_t faiss_Index_ntotal(const FaissIndex *index) { return cpp(index)->ntotal; }

int faiss_Index_add(FaissIndex *index, idx_t n, const float *x)
{
    return guarded([=] { cpp(index)->add(n, x); });
}

int faiss_Index_reconstruct(const FaissIndex *index, idx_t key, float *out)
{
    return guarded([=] { cpp(index)->reconstruct(key, out); });
}

int faiss_write_index(const FaissIndex *index, FILE *f)
{
    return guarded([=] { faiss::write_index(cpp(index), f); });
}

int faiss_read_index(FILE *f, int io_flags, FaissIndex **out)
{
    return guarded([=] { *out = reinterpret_cast<FaissIndex *>(faiss::read_index(f, io_flags)); });
}

#endif
}
