// ann_shim.cc: the C face of FAISS that ann.c stands on. No exception leaves this file.
//
// 1. Parameters of one HNSW search (ef, permitted rows): the C API of no version offers them.
// 2. Debian 12 ships the C API's headers, but its libfaiss 1.7.3 lacks their code. LK_FAISS_C_MISSING, set by the build
//    when there is no libfaiss_c, adds the few functions that ann.c calls, with the signatures of those headers. It can go
//    with Debian 12.

#include "ann_shim.h"

#include <exception>
#include <stdexcept>
#include <string>

#include <faiss/Index.h>
#include <faiss/IndexHNSW.h>
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

int idx_shim_search(const FaissIndex *index, const float *query, int k, int ef, const uint8_t *allowed, float *scores, int64_t *labels)
{
    return guarded([=] {
        static_assert(sizeof(idx_t) == sizeof(int64_t), "labels are 64 bits");
        faiss::SearchParametersHNSW params;
        faiss::IDSelectorBitmap bitmap((static_cast<size_t>(cpp(index)->ntotal) + 7) / 8, allowed);
        params.efSearch = ef;
        if (allowed != nullptr) params.sel = &bitmap;
        cpp(index)->search(1, query, k, scores, reinterpret_cast<idx_t *>(labels), &params);
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
