// ann_shim.cc: the C face of FAISS. No exception leaves this file.
//
// The C API of no version gives access to a graph's arrays, and Debian 12 ships it without its code; so this stands on C++.

#include "ann_shim.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <sys/mman.h>

#include <faiss/Clustering.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/DistanceComputer.h>
#include <faiss/impl/HNSW.h>
#include <faiss/impl/IDSelector.h>
#include <faiss/impl/ResultHandler.h>

struct idx_hnsw {
    faiss::HNSW graph;
    explicit idx_hnsw(int m) : graph(m) {}
};

namespace {

thread_local std::string last_error;

template <class F>
int guarded(F f)
{
    try {
        f();
        return 0;
    } catch (const std::exception &e) {
        last_error = e.what();
    } catch (...) {
        last_error = "unknown exception";
    }
    return -1;
}

// FAISS 1.7 keeps links in a vector, 1.11 in a class around one.
template <class T>
std::vector<T> &owned(std::vector<T> &v) { return v; }
template <class V>
auto owned(V &v) -> decltype((v.owned_data)) { return v.owned_data; }

constexpr size_t kLine = 64 / sizeof(faiss::HNSW::storage_idx_t), kHugePage = 2u << 20, kPage = 64u << 10;

// Levels are there; makes room for their lists and says where each begins: on a cache line, so that one of 32 links is in two of
// them, and on huge pages. The lists of the first `filled` rows are going to be filled now; of the others the kernel takes back the pages.
void lay_out(faiss::HNSW &h, size_t filled)
{
    size_t rows = h.levels.size(), total = 0;
    for (int level : h.levels) total += static_cast<size_t>(h.cum_nb_neighbors(level));
    auto &links = owned(h.neighbors);
    links.reserve(total + kLine);
    auto at = reinterpret_cast<uintptr_t>(links.data()), end = at + (total + kLine) * sizeof *links.data();
    uintptr_t from = (at + kHugePage - 1) / kHugePage * kHugePage, to = end / kHugePage * kHugePage;
    if (from < to) madvise(reinterpret_cast<void *>(from), to - from, MADV_HUGEPAGE);
    size_t pad = (64 - at % 64) % 64 / sizeof *links.data();
    h.neighbors.resize(pad + total, -1);
    h.offsets.resize(rows + 1);
    h.offsets[0] = pad;
    for (size_t i = 0; i < rows; i++) h.offsets[i + 1] = h.offsets[i] + static_cast<size_t>(h.cum_nb_neighbors(h.levels[i]));
    from = (reinterpret_cast<uintptr_t>(links.data() + h.offsets[filled]) + kPage - 1) / kPage * kPage;
    to = reinterpret_cast<uintptr_t>(links.data() + links.size()) / kPage * kPage;
    if (from < to) madvise(reinterpret_cast<void *>(from), to - from, MADV_DONTNEED);
}

void draw_levels(faiss::HNSW &h, size_t rows)
{
    h.levels.reserve(rows);
    while (h.levels.size() < rows) h.levels.push_back(h.random_level() + 1);
}

void show(idx_hnsw *own, idx_graph *to)
{
    faiss::HNSW &h = own->graph;
    to->hnsw = own;
    to->links = h.neighbors.data();
    to->offsets = h.offsets.data();
    to->levels = h.levels.data();
    to->entry = &h.entry_point;
    to->top = &h.max_level;
    to->capacity = static_cast<uint32_t>(h.levels.size());
}

std::unique_ptr<idx_hnsw> empty(uint32_t m, uint32_t ef_construction)
{
    auto own = std::make_unique<idx_hnsw>(static_cast<int>(m));
    own->graph.efConstruction = static_cast<int>(ef_construction);
    own->graph.entry_point = own->graph.max_level = -1;
    return own;
}

// Our distances for FAISS's loops. It looks for small ones, and so takes inner products with the other sign.
struct Distance : faiss::DistanceComputer {
    const idx_rows *rows;
    idx_probe probe{};
    std::vector<float> room, other;

    static float *aligned(std::vector<float> &v)
    {
        auto at = reinterpret_cast<uintptr_t>(v.data());
        return v.data() + (64 - at % 64) % 64 / sizeof(float);
    }
    explicit Distance(const idx_rows *r) : rows(r), room(idx_probe_bytes(r) / sizeof(float) + 32), other(room.size()) {}
    void set_query(const float *x) override { idx_probe_query(&probe, rows, x, aligned(room)); }
    void set_row(uint32_t i) { idx_probe_row(&probe, rows, idx_rows_at(rows, i), aligned(room)); }
    static float near(const idx_probe &p, int64_t i)
    {
        auto row = static_cast<uint32_t>(i);
        float score;
        idx_probe_near(&p, &row, 1, &score);
        return -score;
    }
    float operator()(int64_t i) override { return near(probe, i); }
    float symmetric_dis(int64_t i, int64_t j) override
    {
        idx_probe p;
        idx_probe_row(&p, rows, idx_rows_at(rows, static_cast<uint32_t>(i)), aligned(other));
        return near(p, j);
    }
};

} // namespace

extern "C" {

const char *idx_faiss_text() { return last_error.c_str(); }

int idx_hnsw_new(uint32_t m, uint32_t ef_construction, uint32_t capacity, const idx_graph *from, idx_graph *to)
{
    return guarded([=] {
        auto own = empty(m, ef_construction);
        faiss::HNSW &h = own->graph;
        if (from != nullptr) {
            const faiss::HNSW &old = from->hnsw->graph;
            h.levels = old.levels;
            h.rng = old.rng;
            h.entry_point = old.entry_point;
            h.max_level = old.max_level;
        }
        draw_levels(h, capacity);
        lay_out(h, from != nullptr ? from->capacity : 0);
        if (from != nullptr && from->capacity > 0)
            std::memcpy(h.neighbors.data() + h.offsets[0], from->links + from->offsets[0],
                        (from->offsets[from->capacity] - from->offsets[0]) * sizeof *from->links);
        show(own.release(), to);
    });
}

int idx_hnsw_restore(uint32_t m, uint32_t ef_construction, const uint8_t *levels, uint32_t rows, uint32_t capacity, idx_graph *to)
{
    return guarded([=] {
        auto own = empty(m, ef_construction);
        faiss::HNSW &h = own->graph;
        h.levels.assign(levels, levels + rows);
        for (uint32_t i = 0; i < rows; i++)
            if (levels[i] == 0 || levels[i] > h.assign_probas.size()) throw std::invalid_argument("a row is on no level");
        h.rng = faiss::RandomGenerator(static_cast<int64_t>(12345 + rows));
        draw_levels(h, capacity);
        lay_out(h, rows);
        show(own.release(), to);
    });
}

void idx_hnsw_free(idx_hnsw *h) { delete h; }

int idx_faiss_search(const idx_graph *g, uint32_t linked, const float *query, uint32_t k, uint32_t ef, const uint8_t *allowed, float *scores,
                     int64_t *labels)
{
    return guarded([=] {
        Distance distance(g->rows);
        distance.set_query(query);
        faiss::VisitedTable seen(static_cast<int>(g->capacity));
        faiss::SearchParametersHNSW params;
        faiss::IDSelectorBitmap bitmap((static_cast<size_t>(linked) + 7) / 8, allowed);
        params.efSearch = static_cast<int>(ef);
        if (allowed != nullptr) params.sel = &bitmap;
        auto want = static_cast<int>(std::max(k, ef)); // FAISS 1.7 takes its ef from k
        std::vector<float> all(static_cast<size_t>(want), INFINITY);
        std::vector<int64_t> names(all.size(), -1);
#if FAISS_VERSION_MAJOR == 1 && FAISS_VERSION_MINOR < 8
        g->hnsw->graph.search(distance, want, names.data(), all.data(), seen, &params);
        faiss::maxheap_reorder(names.size(), all.data(), names.data());
#else
        using Handler = faiss::HeapBlockResultHandler<faiss::HNSW::C>;
        Handler block(1, all.data(), names.data(), static_cast<size_t>(want));
        Handler::SingleResultHandler one(block);
        one.begin(0);
        g->hnsw->graph.search(distance, one, seen, &params);
        one.end();
#endif
        for (uint32_t i = 0; i < k; i++) {
            labels[i] = names[i];
            scores[i] = -all[i];
        }
    });
}

int idx_faiss_insert(idx_graph *g, uint32_t from, uint32_t to)
{
    return guarded([=] {
        Distance distance(g->rows);
        faiss::HNSW &h = g->hnsw->graph;
        faiss::VisitedTable seen(static_cast<int>(g->capacity));
        std::vector<omp_lock_t> locks(g->capacity);
        for (auto &l : locks) omp_init_lock(&l);
        for (uint32_t i = from; i < to; i++) {
            idx_walk_clear(g, i);
            distance.set_row(i);
            h.add_with_locks(distance, h.levels[i] - 1, static_cast<int>(i), locks, seen);
        }
        for (auto &l : locks) omp_destroy_lock(&l);
    });
}

// One thread, the caller's: it is of low priority, and so are those that FAISS would have beside it. On a machine that never rests the ends of its many
// parallel loops, where they wait for each other, take a tenth of a second each: half a minute for 2,000 rows.
static void alone() { omp_set_num_threads(1); }

int idx_faiss_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, int go_on, float *centroids)
{
    return guarded([=] {
        alone();
        faiss::ClusteringParameters how;
        how.niter = 1;
        how.spherical = true;
        how.min_points_per_centroid = 1; // no advice on stderr
        how.max_points_per_centroid = static_cast<int>(n / k + 1);
        faiss::Clustering step(static_cast<int>(dim), static_cast<int>(k), how);
        if (go_on != 0) step.centroids.assign(centroids, centroids + static_cast<size_t>(k) * dim);
        faiss::IndexFlatIP assigner(static_cast<int>(dim));
        step.train(static_cast<int64_t>(n), rows, assigner);
        std::copy(step.centroids.begin(), step.centroids.end(), centroids);
    });
}

int idx_faiss_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label)
{
    return guarded([=] {
        alone();
        faiss::IndexFlatIP assigner(static_cast<int>(dim));
        assigner.add(static_cast<int64_t>(k), centroids);
        std::vector<float> score(n);
        std::vector<int64_t> name(n);
        assigner.search(static_cast<int64_t>(n), rows, 1, score.data(), name.data());
        std::transform(name.begin(), name.end(), label, [](int64_t i) { return static_cast<uint32_t>(i < 0 ? 0 : i); }); // -1: not a number
    });
}
}
