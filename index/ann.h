/* ann.h: approximate neighbours by FAISS's HNSW over inner products. ann.c is the only C file that includes FAISS.
 *
 * Call from threads that keep OMP_NUM_THREADS=1 and never fork. add is exclusive; search and row may run together. */
#ifndef LK_ANN_H
#define LK_ANN_H

#include "error.h"

#include <stdio.h>

typedef struct idx_ann idx_ann;

IDX_CHECK idx_status idx_ann_new(uint32_t dim, uint32_t m, uint32_t ef_construction, idx_ann **out, idx_error *err);
void idx_ann_free(idx_ann *a);
uint64_t idx_ann_count(const idx_ann *a);
IDX_CHECK idx_status idx_ann_add(idx_ann *a, uint64_t n, const float *rows, idx_error *err);
/* The k nearest rows: labels -1 where there are fewer. allowed: bit i of the map permits row i, NULL = all. */
IDX_CHECK idx_status idx_ann_search(const idx_ann *a, const float *query, uint32_t k, uint32_t ef, const uint8_t *allowed, float *scores,
                                    int64_t *labels, idx_error *err);
/* Copies row i: dim floats. */
IDX_CHECK idx_status idx_ann_row(const idx_ann *a, uint64_t i, float *out, idx_error *err);
/* Inner products of the query with rows that are there, as the walk of the graph computes them. */
IDX_CHECK idx_status idx_ann_scores(const idx_ann *a, const float *query, const uint32_t *rows, uint32_t n, float *out, idx_error *err);
/* One step of k-means on the sphere: k centroids of n rows; `go_on`: from those in `centroids`, otherwise from some of the rows. */
IDX_CHECK idx_status idx_ann_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, bool go_on, float *centroids, idx_error *err);
/* label[i]: which of the k centroids row i is most alike. */
IDX_CHECK idx_status idx_ann_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label, idx_error *err);
bool idx_ann_has_own_distances(const idx_ann *a); /* dot.h computes them, not FAISS */
/* From and to an open file at its position. */
IDX_CHECK idx_status idx_ann_write(const idx_ann *a, FILE *f, idx_error *err);
IDX_CHECK idx_status idx_ann_read(FILE *f, uint32_t dim, uint64_t count, idx_ann **out, idx_error *err);

#endif
