/* search.h: what the files of one search share: search.c ranks, candidates.c finds. */
#ifndef LK_SEARCH_H
#define LK_SEARCH_H

#include "index_priv.h"
#include "plan.h"

#include <math.h>
#include <string.h>

typedef struct { /* a row worth a closer look */
    float score;
    uint32_t item;
} idx_candidate;

/* The best rows so far, the worst of them on top; several may be of one item. Equal scores go by id, as in results: however many there
 * are, those that a page wants are among them. */
typedef struct {
    idx_candidate *heap;
    uint32_t n, room;
    bool overflowed; /* more came than there was room for */
    float *best;     /* the best k scores, the worst of them on top: about as many as rows of what is wanted */
    uint32_t n_best, k;
} idx_pool;

static inline float idx_pool_floor(const idx_pool *p) { return p->n < p->room ? -INFINITY : p->heap[0].score; }
static inline float idx_pool_floor_of_best(const idx_pool *p) { return p->n_best < p->k ? -INFINITY : p->best[0]; }

typedef struct {
    idx_cat *c;
    const float *query;
    uint32_t dim;
    uint64_t deadline_ns;
    idx_match *match; /* of the filter, held; NULL = everything, */
    idx_bits matches; /* and then .w NULL, too; borrowed from it */
    int64_t newest;   /* items that came later are left out */
    void (*rest)(void *ctx, uint64_t busy_ns); /* called without the lock after each piece of a long scan; NULL = go on at once */
    void *rest_ctx;
    idx_plan_query plan_query;
    idx_probe probe[IDX_INT8 + 1]; /* the query for each way to keep vectors, once it was needed; .rows NULL = not yet */
    void *probe_room[IDX_INT8 + 1];
    float coarse_slack; /* a coarse score is at most so far from the score */
    idx_pool pool;
    bool all_seen; /* nothing was left out but by the pool */
    uint64_t distances, tests;
    uint32_t segments;
    idx_error *err;
} idx_finder;

/* Into the pool. */
void idx_offer(idx_finder *f, float score, uint32_t item);
/* Whether a comes first: by score, then by id. What was removed since it came is behind its equals. */
static inline bool idx_candidate_first(const idx_finder *f, idx_candidate a, idx_candidate b)
{
    if (a.score != b.score) return a.score > b.score;
    if (a.item == b.item || !idx_item_lives(f->c, a.item, f->newest)) return false;
    return !idx_item_lives(f->c, b.item, f->newest) || strcmp(idx_item_id(f->c, a.item), idx_item_id(f->c, b.item)) < 0;
}

/* The query for rows. */
IDX_CHECK idx_status idx_finder_probe(idx_finder *f, const idx_rows *v, idx_probe *p);
void idx_finder_fini(idx_finder *f); /* the probes */

/* Fills the pool. Under the shared lock, which a long scan gives back now and then: writers are preferred, so that a lock held for the
 * time of a scan would stop everybody. Items may be gone afterwards, or other ones: idx_item_lives() says. */
IDX_CHECK idx_status idx_find(idx_finder *f, idx_plan plan);

/* idx_search without its check of the query and without what the store knows of the hits (ids and scores alone). */
IDX_CHECK idx_status idx_search_in(idx_cat *c, const idx_query *q, void (*rest)(void *ctx, uint64_t busy_ns), void *rest_ctx, idx_result **out,
                                   idx_error *err);

#endif
