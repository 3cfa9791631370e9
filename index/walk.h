/* walk.h: search and insertion in FAISS's HNSW graph, by our own hands; walk.c says why. */
#ifndef LK_WALK_H
#define LK_WALK_H

#include "rows.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct idx_hnsw idx_hnsw; /* faiss::HNSW; ann_shim.h */

typedef struct { /* a graph over the first `linked` of `rows`: FAISS's arrays, and theirs to free */
    const idx_rows *rows;
    idx_hnsw *hnsw;
    int32_t *links;        /* of row i on level l: m (2 m on level 0) from offsets[i] + (l > 0 ? (l + 1) * m : 0) on, -1 behind the last */
    const size_t *offsets; /* capacity + 1 */
    const int32_t *levels; /* [row] 1 + its top level */
    int32_t *entry;        /* where every walk begins, -1 = no row is linked */
    int32_t *top;          /* level of the entry */
    uint32_t m, ef_construction, capacity;
} idx_graph;

typedef struct {
    float score;
    uint32_t row;
} idx_near;

/* What one walk needs, from a pool that all graphs share. */
typedef struct idx_scratch idx_scratch;
idx_scratch *idx_scratch_take(uint32_t rows); /* NULL = no memory */
void idx_scratch_give(idx_scratch *s);
void idx_scratch_drop_all(void); /* frees those in the pool */
/* Bytes for a probe; valid until the scratch is given back. NULL = no memory. */
void *idx_scratch_room(idx_scratch *s, size_t bytes);

typedef struct { /* rows that may be in an answer; all fields 0: every one */
    const uint64_t *rows;                          /* a bit for each row */
    bool (*test)(const void *ctx, uint32_t row);   /* and this, asked only for rows near the query */
    const void *ctx;
} idx_allow;

/* The ef nearest rows that are found, best first, into *out (the scratch's, until it is used again). Any number of threads, beside
 * one or more idx_walk_insert() and idx_walk_mend(); the caller knows of every row that is linked (rows.h). Returns how many; *distances grows. */
uint32_t idx_walk_search(const idx_graph *g, idx_scratch *s, const idx_probe *p, uint32_t ef, const idx_allow *allow, const idx_near **out,
                         uint64_t *distances);
/* Links a row to the nearest of the `ef` that a walk finds. Threads may insert different rows at a time when they share `locks`
 * (idx_walk_locks). false: no memory, and the row is not linked, or not everywhere. */
typedef struct idx_walk_locks idx_walk_locks;
idx_walk_locks *idx_walk_locks_new(void); /* free() it */
bool idx_walk_insert(idx_graph *g, idx_scratch *s, uint32_t row, uint32_t ef, idx_walk_locks *locks);
/* Chooses the links of a linked row once more, with ef_construction: the new ones come first, and those that it had stay as far as there is room. */
bool idx_walk_mend(idx_graph *g, idx_scratch *s, uint32_t row, idx_walk_locks *locks);
/* Fills the lists of a row of g, a graph made anew over those of `old` that live, from what they were there: links to rows that live stay,
 * and links to others give way to what those led to (inherit.c). was: the row in `old`. now: for each of the first n_now rows of `old` its number
 * in g, UINT32_MAX = it is gone. Nobody walks in g yet; rows may be linked into `old` meanwhile. false: no memory. */
bool idx_walk_inherit(idx_graph *g, idx_scratch *s, uint32_t row, const idx_graph *old, uint32_t was, const uint32_t *now, uint32_t n_now);
/* Of a row that is not going to be linked: that it has no links. What lies behind the rows that were linked is not even that (ann_shim.h). */
void idx_walk_clear(const idx_graph *g, uint32_t row);

#ifdef __cplusplus
}
#endif

#endif
