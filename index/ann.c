/* ann.c: FAISS through its C API. Everything is checked before a call, because FAISS does not check; the message of a
 * failure is copied at once, because it belongs to the thread's last exception. */
#include "ann.h"
#include "ann_shim.h"

#include <faiss/c_api/Index_c.h>
#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>
#include <faiss/c_api/index_io_c.h>
#include <inttypes.h>
#include <stdlib.h>

struct idx_ann {
    FaissIndex *index; /* with our distances */
    uint32_t dim;
};

static idx_status faiss_fail(idx_error *err, const char *what)
{
    const char *text = faiss_get_last_error();
    return idx_fail(err, IDX_ECORRUPT, "FAISS cannot %s: %.200s", what, text != NULL ? text : "unknown");
}

static idx_status wrap(FaissIndex *index, uint32_t dim, idx_ann **out, idx_error *err)
{
    if (idx_shim_own_distances(index) != 0) {
        idx_status st = faiss_fail(err, "set up an index");
        faiss_Index_free(index);
        return st;
    }
    idx_ann *a = malloc(sizeof *a);
    if (a == NULL) {
        faiss_Index_free(index);
        return idx_fail(err, IDX_ENOMEM, "no memory for a segment");
    }
    *a = (idx_ann){index, dim};
    *out = a;
    return IDX_OK;
}

idx_status idx_ann_new(uint32_t dim, uint32_t m, uint32_t ef_construction, idx_ann **out, idx_error *err)
{
    char recipe[32];
    FaissIndex *index = NULL;
    snprintf(recipe, sizeof recipe, "HNSW%" PRIu32 ",Flat", m);
    if (faiss_index_factory(&index, (int)dim, recipe, METRIC_INNER_PRODUCT) != 0) return faiss_fail(err, "make an index");
    if (idx_shim_set_ef_construction(index, (int)ef_construction) != 0) {
        idx_status st = faiss_fail(err, "set up an index");
        faiss_Index_free(index);
        return st;
    }
    return wrap(index, dim, out, err);
}

void idx_ann_free(idx_ann *a)
{
    if (a == NULL) return;
    faiss_Index_free(a->index);
    free(a);
}

uint64_t idx_ann_count(const idx_ann *a) { return (uint64_t)faiss_Index_ntotal(a->index); }

idx_status idx_ann_add(idx_ann *a, uint64_t n, const float *rows, idx_error *err)
{
    if (n == 0) return IDX_OK;
    return faiss_Index_add(a->index, (idx_t)n, rows) == 0 ? IDX_OK : faiss_fail(err, "add vectors");
}

idx_status idx_ann_search(const idx_ann *a, const float *query, uint32_t k, uint32_t ef, const uint8_t *allowed, float *scores,
                          int64_t *labels, idx_error *err)
{
    uint64_t n = idx_ann_count(a);
    if (k == 0 || n == 0 || k > n) return idx_fail(err, IDX_EINVAL, "%" PRIu32 " neighbours of %" PRIu64, k, n);
    return idx_shim_search(a->index, query, (int)k, (int)(ef > k ? ef : k), allowed, scores, labels) == 0 ? IDX_OK
                                                                                                          : faiss_fail(err, "search");
}

idx_status idx_ann_row(const idx_ann *a, uint64_t i, float *out, idx_error *err)
{
    return faiss_Index_reconstruct(a->index, (idx_t)i, out) == 0 ? IDX_OK : faiss_fail(err, "read a vector");
}

idx_status idx_ann_scores(const idx_ann *a, const float *query, const uint32_t *rows, uint32_t n, float *out, idx_error *err)
{
    return idx_shim_scores(a->index, query, rows, n, out) == 0 ? IDX_OK : faiss_fail(err, "compare vectors");
}

idx_status idx_ann_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, bool go_on, float *centroids, idx_error *err)
{
    return idx_shim_cluster(rows, n, dim, k, go_on, centroids) == 0 ? IDX_OK : faiss_fail(err, "find clusters");
}

idx_status idx_ann_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label, idx_error *err)
{
    return idx_shim_nearest(centroids, k, dim, rows, n, label) == 0 ? IDX_OK : faiss_fail(err, "assign vectors");
}

bool idx_ann_has_own_distances(const idx_ann *a) { return idx_shim_has_own_distances(a->index) != 0; }

idx_status idx_ann_write(const idx_ann *a, FILE *f, idx_error *err)
{
    if (faiss_write_index(a->index, f) != 0) return faiss_fail(err, "write an index");
    return fflush(f) == 0 && !ferror(f) ? IDX_OK : idx_fail(err, IDX_EIO, "an index file could not be written");
}

idx_status idx_ann_read(FILE *f, uint32_t dim, uint64_t count, idx_ann **out, idx_error *err)
{
    FaissIndex *index = NULL;
    if (faiss_read_index(f, 0, &index) != 0) return faiss_fail(err, "read an index");
    if ((uint32_t)faiss_Index_d(index) != dim || (uint64_t)faiss_Index_ntotal(index) != count || !idx_shim_is_hnsw(index)) {
        faiss_Index_free(index);
        return idx_fail(err, IDX_ECORRUPT, "an index file holds something else than its header says");
    }
    return wrap(index, dim, out, err);
}
