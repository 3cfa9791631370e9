/* ann_shim.h: the C face of FAISS that ann.c and walk.c stand on. -1: faiss_text() says why; it belongs to the thread. */
#ifndef LK_ANN_SHIM_H
#define LK_ANN_SHIM_H

#include "walk.h"

#ifdef __cplusplus
extern "C" {
#endif

const char *idx_faiss_text(void);

/* A graph of FAISS's with room for `capacity` rows: those of `from` (NULL = none), which nobody writes meanwhile. The lists of the others take
 * no memory, and hold nothing of sense, before they are linked. Fills the fields of
 * `to` that are FAISS's; its rows, m and ef_construction are the caller's. */
int idx_hnsw_new(uint32_t m, uint32_t ef_construction, uint32_t capacity, const idx_graph *from, idx_graph *to);
/* The same for `rows` rows whose levels (1 + top) were read from a file; links are empty. */
int idx_hnsw_restore(uint32_t m, uint32_t ef_construction, const uint8_t *levels, uint32_t rows, uint32_t capacity, idx_graph *to);
void idx_hnsw_free(idx_hnsw *h);

/* FAISS's own search and insertion over the same graph, with our distances: what walk.c is held to. The k nearest, -1 where there are
 * fewer. allowed: a bit for each row, NULL = all. */
int idx_faiss_search(const idx_graph *g, uint32_t linked, const float *query, uint32_t k, uint32_t ef, const uint8_t *allowed, float *scores,
                     int64_t *labels);
int idx_faiss_insert(idx_graph *g, uint32_t from, uint32_t to);

/* One step of k-means on the sphere, and the nearest of k centroids for each of n rows; ann.h. */
int idx_faiss_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, int go_on, float *centroids);
int idx_faiss_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label);

#ifdef __cplusplus
}
#endif

#endif
