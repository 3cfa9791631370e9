/* ann.h: approximate neighbours: a graph of FAISS's over the rows of a segment. */
#ifndef LK_ANN_H
#define LK_ANN_H

#include "walk.h"

typedef struct {
    idx_graph g;
    _Atomic uint32_t linked; /* rows [0, linked) were looked at: linked, or skipped because they were dead */
    _Atomic uint32_t careful; /* none of the rows [0, careful) was linked in a hurry */
    idx_walk_locks *locks;
} idx_ann;

/* Over `rows`, borrowed, with room for `capacity` of them; linked = 0. */
IDX_CHECK idx_status idx_ann_new(const idx_rows *rows, uint32_t m, uint32_t ef_construction, uint32_t capacity, idx_ann **out, idx_error *err);
/* Takes a graph as it is, on failure too. */
IDX_CHECK idx_status idx_ann_wrap(const idx_graph *g_take, uint32_t linked, uint32_t careful, idx_ann **out, idx_error *err);
/* A copy with more room, for the caller to put in the place of `a`, which nobody links into meanwhile. */
IDX_CHECK idx_status idx_ann_grown(const idx_ann *a, uint32_t capacity, idx_ann **out, idx_error *err);
/* The graph of a segment made anew, which inherits that of the old one: row i is row from[i] there, for i < n, all of them linked; with room for
 * `capacity` rows. linked = 0: idx_ann_inherit() fills it, and idx_ann_inherit_end() ends it. `old` may be another one with the same rows each
 * time, and more may be linked into it meanwhile. */
IDX_CHECK idx_status idx_ann_heir(const idx_ann *old, const idx_rows *rows, const uint32_t *from, uint32_t n, uint32_t capacity, idx_ann **out, idx_error *err);
/* Rows [linked, to). now: for each of the first n_now rows of `old` its row here, UINT32_MAX = gone. Gives up (IDX_EBUSY) between rows when *stop. */
IDX_CHECK idx_status idx_ann_inherit(idx_ann *a, uint32_t to, const idx_ann *old, const uint32_t *from, const uint32_t *now, uint32_t n_now,
                                     const _Atomic bool *stop, idx_error *err);
/* All n have what they inherit: those that nothing leads to any more are linked. *mended: how many those were. */
IDX_CHECK idx_status idx_ann_inherit_end(idx_ann *a, const _Atomic bool *stop, uint32_t *mended, idx_error *err);
void idx_ann_free(idx_ann *a);
uint32_t idx_ann_linked(const idx_ann *a);
uint32_t idx_ann_careful(const idx_ann *a);
/* Links rows [linked, to), and makes them count, in this thread; beside any number of searches, one such call at a time. alive: a bit
 * for each row, read as atomic words; NULL = all. hurry: with a quarter of ef_construction, for half of the time and less; a graph of such rows
 * alone finds up to 1 of 100 neighbours less. Gives up (IDX_EBUSY) between rows when *stop. */
IDX_CHECK idx_status idx_ann_link(idx_ann *a, uint32_t to, const uint64_t *alive, bool hurry, const _Atomic bool *stop, idx_error *err);
/* The same by several threads, which inherit the priority of the caller's. The rows count when all are done: until then walks find some
 * that do not. */
IDX_CHECK idx_status idx_ann_link_many(idx_ann *a, uint32_t to, const uint64_t *alive, uint32_t threads, const _Atomic bool *stop, idx_error *err);
/* Links those of the rows [careful, to) that live once more, with ef_construction; to: linked at most. Beside searches, but not beside a call that links. */
IDX_CHECK idx_status idx_ann_mend(idx_ann *a, uint32_t to, const uint64_t *alive, const _Atomic bool *stop, idx_error *err);

/* The `ef` nearest of the linked rows that `allow` permits (NULL = all), best first by what the walk goes by (rows.h), into
 * *out, which is the scratch's. */
IDX_CHECK idx_status idx_ann_search(const idx_ann *a, idx_scratch *s, const idx_probe *p, uint32_t ef, const idx_allow *allow, const idx_near **out,
                                    uint32_t *n, uint64_t *distances, idx_error *err);
uint64_t idx_ann_walks(void); /* searches that came through walk.c since the start; for tests */
uint64_t idx_ann_bytes(const idx_ann *a);

/* One step of k-means on the sphere: k centroids of n rows; `go_on`: from those in `centroids`, otherwise from some of the rows. */
IDX_CHECK idx_status idx_ann_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, bool go_on, float *centroids, idx_error *err);
/* label[i]: which of the k centroids row i is most alike. */
IDX_CHECK idx_status idx_ann_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label, idx_error *err);

#endif
