/* ann_shim.h: what FAISS's C API lacks for us: HNSW parameters of one search, and distances at full speed. */
#ifndef LK_ANN_SHIM_H
#define LK_ANN_SHIM_H

#include <stdint.h>

#include <faiss/c_api/Index_c.h>

#ifdef __cplusplus
extern "C" {
#endif

/* 0, or a failure whose text faiss_get_last_error() gives. */
int idx_shim_set_ef_construction(FaissIndex *index, int ef);
/* From now on, adding to and searching this HNSW over inner products computes them by dot.h. Before it is shared. */
int idx_shim_own_distances(FaissIndex *index);
int idx_shim_has_own_distances(const FaissIndex *index);
/* One query; allowed: a bit a row, or NULL. */
int idx_shim_search(const FaissIndex *index, const float *query, int k, int ef, const uint8_t *allowed, float *scores, int64_t *labels);
/* The inner products of the query with some rows. */
int idx_shim_scores(const FaissIndex *index, const float *query, const uint32_t *rows, uint32_t n, float *out);
/* See ann.h. */
int idx_shim_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, int go_on, float *centroids);
int idx_shim_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label);
int idx_shim_is_hnsw(const FaissIndex *index);

#ifdef __cplusplus
}
#endif
#endif
