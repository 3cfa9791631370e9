/* ann.c: see ann.h. */
#include "ann.h"
#include "ann_shim.h"

#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_ullong walks;

static idx_status faiss_fail(idx_error *err, const char *what) { return idx_fail(err, IDX_ENOMEM, "FAISS cannot %s: %.200s", what, idx_faiss_text()); }

idx_status idx_ann_wrap(const idx_graph *g, uint32_t linked, idx_ann **out, idx_error *err)
{
    idx_ann *a = calloc(1, sizeof *a);
    if (a != NULL) a->locks = idx_walk_locks_new();
    if (a == NULL || a->locks == NULL) {
        idx_hnsw_free(g->hnsw);
        free(a);
        return idx_fail(err, IDX_ENOMEM, "no memory for a graph");
    }
    a->g = *g;
    atomic_store(&a->linked, linked);
    *out = a;
    return IDX_OK;
}

idx_status idx_ann_new(const idx_rows *rows, uint32_t m, uint32_t ef_construction, uint32_t capacity, idx_ann **out, idx_error *err)
{
    idx_graph g = {.rows = rows, .m = m, .ef_construction = ef_construction};
    if (idx_hnsw_new(m, ef_construction, capacity, NULL, &g) != 0) return faiss_fail(err, "make a graph");
    return idx_ann_wrap(&g, 0, out, err);
}

idx_status idx_ann_grown(const idx_ann *a, uint32_t capacity, idx_ann **out, idx_error *err)
{
    idx_graph g = a->g;
    if (idx_hnsw_new(g.m, g.ef_construction, capacity > g.capacity ? capacity : g.capacity, &a->g, &g) != 0) return faiss_fail(err, "grow a graph");
    return idx_ann_wrap(&g, atomic_load(&a->linked), out, err);
}

void idx_ann_free(idx_ann *a)
{
    if (a == NULL) return;
    idx_hnsw_free(a->g.hnsw);
    free(a->locks);
    free(a);
}

uint32_t idx_ann_linked(const idx_ann *a) { return atomic_load(&a->linked); }

uint64_t idx_ann_bytes(const idx_ann *a)
{
    return a == NULL ? 0 : a->g.offsets[a->g.capacity] * sizeof *a->g.links + (uint64_t)a->g.capacity * (sizeof *a->g.offsets + sizeof *a->g.levels);
}

/* ---- linking ------------------------------------------------------------------------------------------------------------- */

static bool is_alive(const uint64_t *alive, uint32_t row)
{
    return alive == NULL || (__atomic_load_n(&alive[row >> 6], __ATOMIC_RELAXED) >> (row & 63) & 1);
}

static bool link_row(idx_ann *a, idx_scratch *s, uint32_t row, const uint64_t *alive)
{
    if (is_alive(alive, row)) return idx_walk_insert(&a->g, s, row, a->locks);
    idx_walk_clear(&a->g, row);
    return true;
}

idx_status idx_ann_link(idx_ann *a, uint32_t to, const uint64_t *alive, const _Atomic bool *stop, idx_error *err)
{
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    idx_status st = s == NULL || to > a->g.capacity ? idx_fail(err, IDX_ENOMEM, "no room to link rows") : IDX_OK;
    for (uint32_t i = atomic_load(&a->linked); st == IDX_OK && i < to; i++) {
        if (stop != NULL && *stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        else if (!link_row(a, s, i, alive)) st = idx_fail(err, IDX_ENOMEM, "no memory to link a row");
        else atomic_store(&a->linked, i + 1);
    }
    if (s != NULL) idx_scratch_give(s);
    return st;
}

typedef struct {
    idx_ann *a;
    uint32_t to;
    const uint64_t *alive;
    const _Atomic bool *stop;
    _Atomic uint32_t next; /* a row that somebody took is linked, also when all stop */
    _Atomic bool failed;
} crew;

/* They may have every processor: each gives way after a row, so that nobody waits for the end of a turn. */
static void *crew_main(void *arg)
{
    crew *c = arg;
    idx_scratch *s = idx_scratch_take(c->a->g.capacity);
    if (s == NULL) c->failed = true;
    for (uint32_t i; s != NULL && !c->failed && (c->stop == NULL || !*c->stop) && (i = atomic_fetch_add(&c->next, 1)) < c->to; sched_yield())
        if (!link_row(c->a, s, i, c->alive)) c->failed = true;
    if (s != NULL) idx_scratch_give(s);
    return NULL;
}

idx_status idx_ann_link_many(idx_ann *a, uint32_t to, const uint64_t *alive, uint32_t threads, const _Atomic bool *stop, idx_error *err)
{
    pthread_t helper[64];
    uint32_t n = 0;
    if (to > a->g.capacity) return idx_fail(err, IDX_ENOMEM, "no room to link rows");
    crew c = {.a = a, .to = to, .alive = alive, .stop = stop, .next = atomic_load(&a->linked)};
    while (n + 1 < threads && n < 64 && pthread_create(&helper[n], NULL, crew_main, &c) == 0) n++;
    crew_main(&c);
    while (n > 0) pthread_join(helper[--n], NULL);
    if (c.failed) return idx_fail(err, IDX_ENOMEM, "no memory to link rows");
    atomic_store(&a->linked, c.next < to ? c.next : to);
    return c.next < to ? idx_fail(err, IDX_EBUSY, "stopping") : IDX_OK;
}

/* ---- search --------------------------------------------------------------------------------------------------------------- */

idx_status idx_ann_search(const idx_ann *a, idx_scratch *s, const idx_probe *p, uint32_t ef, const idx_allow *allow, const idx_near **out, uint32_t *n,
                          uint64_t *distances, idx_error *err)
{
    (void)err;
    atomic_fetch_add_explicit(&walks, 1, memory_order_relaxed);
    *n = idx_walk_search(&a->g, s, p, ef, allow, out, distances);
    return IDX_OK;
}

uint64_t idx_ann_walks(void) { return atomic_load(&walks); }

idx_status idx_ann_cluster(const float *rows, uint32_t n, uint32_t dim, uint32_t k, bool go_on, float *centroids, idx_error *err)
{
    return idx_faiss_cluster(rows, n, dim, k, go_on, centroids) == 0 ? IDX_OK : faiss_fail(err, "find clusters");
}

idx_status idx_ann_nearest(const float *centroids, uint32_t k, uint32_t dim, const float *rows, uint32_t n, uint32_t *label, idx_error *err)
{
    return idx_faiss_nearest(centroids, k, dim, rows, n, label) == 0 ? IDX_OK : faiss_fail(err, "assign vectors");
}
