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

idx_status idx_ann_wrap(const idx_graph *g, uint32_t linked, uint32_t careful, idx_ann **out, idx_error *err)
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
    atomic_store(&a->careful, careful);
    *out = a;
    return IDX_OK;
}

idx_status idx_ann_new(const idx_rows *rows, uint32_t m, uint32_t ef_construction, uint32_t capacity, idx_ann **out, idx_error *err)
{
    idx_graph g = {.rows = rows, .m = m, .ef_construction = ef_construction};
    if (idx_hnsw_new(m, ef_construction, capacity, NULL, &g) != 0) return faiss_fail(err, "make a graph");
    return idx_ann_wrap(&g, 0, 0, out, err);
}

idx_status idx_ann_grown(const idx_ann *a, uint32_t capacity, idx_ann **out, idx_error *err)
{
    idx_graph g = a->g;
    if (idx_hnsw_new(g.m, g.ef_construction, capacity > g.capacity ? capacity : g.capacity, &a->g, &g) != 0) return faiss_fail(err, "grow a graph");
    return idx_ann_wrap(&g, atomic_load(&a->linked), atomic_load(&a->careful), out, err);
}

void idx_ann_free(idx_ann *a)
{
    if (a == NULL) return;
    idx_hnsw_free(a->g.hnsw);
    free(a->locks);
    free(a);
}

uint32_t idx_ann_linked(const idx_ann *a) { return atomic_load(&a->linked); }
uint32_t idx_ann_careful(const idx_ann *a) { return atomic_load(&a->careful); }

uint64_t idx_ann_bytes(const idx_ann *a)
{
    return a == NULL ? 0 : a->g.offsets[a->g.capacity] * sizeof *a->g.links + (uint64_t)a->g.capacity * (sizeof *a->g.offsets + sizeof *a->g.levels);
}

/* ---- linking ------------------------------------------------------------------------------------------------------------- */

static bool is_alive(const uint64_t *alive, uint32_t row)
{
    return alive == NULL || (__atomic_load_n(&alive[row >> 6], __ATOMIC_RELAXED) >> (row & 63) & 1);
}

/* What a hurry leaves of the effort; of so many, a row still chooses among more than it can be linked to. */
static uint32_t hurried(const idx_graph *g)
{
    enum { SHARE = 4 };
    const uint32_t ef = g->ef_construction / SHARE, least = g->m + g->m / 2;
    return ef > least ? ef : least < g->ef_construction ? least : g->ef_construction;
}

static bool link_row(idx_ann *a, idx_scratch *s, uint32_t row, const uint64_t *alive, uint32_t ef)
{
    if (is_alive(alive, row)) return idx_walk_insert(&a->g, s, row, ef, a->locks);
    idx_walk_clear(&a->g, row);
    return true;
}

/* Rows [from, to) were linked with care. */
static void note_careful(idx_ann *a, uint32_t from, uint32_t to)
{
    if (atomic_load(&a->careful) == from) atomic_store(&a->careful, to);
}

idx_status idx_ann_link(idx_ann *a, uint32_t to, const uint64_t *alive, bool hurry, const _Atomic bool *stop, idx_error *err)
{
    const uint32_t ef = hurry ? hurried(&a->g) : a->g.ef_construction;
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    idx_status st = s == NULL || to > a->g.capacity ? idx_fail(err, IDX_ENOMEM, "no room to link rows") : IDX_OK;
    for (uint32_t i = atomic_load(&a->linked); st == IDX_OK && i < to; i++) {
        if (stop != NULL && *stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        else if (!link_row(a, s, i, alive, ef)) st = idx_fail(err, IDX_ENOMEM, "no memory to link a row");
        else {
            if (!hurry) note_careful(a, i, i + 1);
            atomic_store(&a->linked, i + 1);
        }
    }
    if (s != NULL) idx_scratch_give(s);
    return st;
}

idx_status idx_ann_mend(idx_ann *a, uint32_t to, const uint64_t *alive, const _Atomic bool *stop, idx_error *err)
{
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    idx_status st = s == NULL ? idx_fail(err, IDX_ENOMEM, "no room to link rows") : IDX_OK;
    for (uint32_t i = atomic_load(&a->careful); st == IDX_OK && i < to; i++) {
        if (stop != NULL && *stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        else if (is_alive(alive, i) && !idx_walk_mend(&a->g, s, i, a->locks)) st = idx_fail(err, IDX_ENOMEM, "no memory to link a row");
        else atomic_store(&a->careful, i + 1);
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
        if (!link_row(c->a, s, i, c->alive, c->a->g.ef_construction)) c->failed = true;
    if (s != NULL) idx_scratch_give(s);
    return NULL;
}

idx_status idx_ann_link_many(idx_ann *a, uint32_t to, const uint64_t *alive, uint32_t threads, const _Atomic bool *stop, idx_error *err)
{
    pthread_t helper[64];
    uint32_t n = 0;
    if (to > a->g.capacity) return idx_fail(err, IDX_ENOMEM, "no room to link rows");
    const uint32_t from = atomic_load(&a->linked);
    crew c = {.a = a, .to = to, .alive = alive, .stop = stop, .next = from};
    while (n + 1 < threads && n < 64 && pthread_create(&helper[n], NULL, crew_main, &c) == 0) n++;
    crew_main(&c);
    while (n > 0) pthread_join(helper[--n], NULL);
    if (c.failed) return idx_fail(err, IDX_ENOMEM, "no memory to link rows");
    note_careful(a, from, c.next < to ? c.next : to);
    atomic_store(&a->linked, c.next < to ? c.next : to);
    return c.next < to ? idx_fail(err, IDX_EBUSY, "stopping") : IDX_OK;
}

/* ---- inheriting ------------------------------------------------------------------------------------------------------------ */

idx_status idx_ann_heir(const idx_ann *old, const idx_rows *rows, const uint32_t *from, uint32_t n, uint32_t capacity, idx_ann **out, idx_error *err)
{
    idx_graph g = {.rows = rows, .m = old->g.m, .ef_construction = old->g.ef_construction};
    uint8_t *levels = malloc(n + 1u);
    if (levels == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a graph");
    for (uint32_t i = 0; i < n; i++) levels[i] = (uint8_t)old->g.levels[from[i]];
    int failed = idx_hnsw_restore(g.m, g.ef_construction, levels, n, capacity > n ? capacity : n, &g);
    free(levels);
    return failed ? faiss_fail(err, "make a graph") : idx_ann_wrap(&g, 0, 0, out, err);
}

idx_status idx_ann_inherit(idx_ann *a, uint32_t to, const idx_ann *old, const uint32_t *from, const uint32_t *now, uint32_t n_now, const _Atomic bool *stop,
                           idx_error *err)
{
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    idx_status st = s == NULL ? idx_fail(err, IDX_ENOMEM, "no room to link rows") : IDX_OK;
    for (uint32_t i = atomic_load(&a->linked); st == IDX_OK && i < to; i++) {
        if (stop != NULL && *stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        else if (!idx_walk_inherit(&a->g, s, i, &old->g, from[i], now, n_now)) st = idx_fail(err, IDX_ENOMEM, "no memory to link a row");
        else {
            if (from[i] < atomic_load(&old->careful)) note_careful(a, i, i + 1); /* what was linked in a hurry is inherited as that */
            atomic_store(&a->linked, i + 1);
        }
    }
    if (s != NULL) idx_scratch_give(s);
    return st;
}

typedef struct { /* what links lead to, from the entry on */
    const idx_graph *g;
    uint64_t *reached;
    uint32_t *todo, n_todo;
} tour;

static void reach(tour *t, uint32_t row)
{
    uint64_t bit = UINT64_C(1) << (row & 63);
    if (t->reached[row >> 6] & bit) return;
    t->reached[row >> 6] |= bit;
    t->todo[t->n_todo++] = row;
}

/* A row, and all that it leads to on the lowest level, where every row is. */
static void reach_all(tour *t, uint32_t row)
{
    reach(t, row);
    while (t->n_todo > 0) {
        const int32_t *l = t->g->links + t->g->offsets[t->todo[--t->n_todo]];
        for (uint32_t i = 0; i < 2 * t->g->m && l[i] >= 0; i++) reach(t, (uint32_t)l[i]);
    }
}

static void enter_at_top(idx_graph *g, uint32_t n)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        if (g->levels[i] > g->levels[top]) top = i;
    *g->top = g->levels[top] - 1;
    __atomic_store_n(g->entry, (int32_t)top, __ATOMIC_RELEASE);
}

idx_status idx_ann_inherit_end(idx_ann *a, const _Atomic bool *stop, uint32_t *mended, idx_error *err)
{
    uint32_t n = atomic_load(&a->linked);
    *mended = 0;
    if (n == 0) return IDX_OK;
    tour t = {.g = &a->g, .reached = calloc(n / 64 + 1, sizeof *t.reached), .todo = malloc(n * sizeof *t.todo)};
    idx_scratch *s = idx_scratch_take(a->g.capacity);
    idx_status st = t.reached == NULL || t.todo == NULL || s == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a graph") : IDX_OK;
    if (st == IDX_OK) {
        enter_at_top(&a->g, n);
        reach_all(&t, (uint32_t)*a->g.entry);
    }
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) {
        if (t.reached[i >> 6] >> (i & 63) & 1) continue;
        if (stop != NULL && *stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        else if (!idx_walk_insert(&a->g, s, i, a->g.ef_construction, a->locks)) st = idx_fail(err, IDX_ENOMEM, "no memory to link a row");
        reach_all(&t, i);
        ++*mended;
    }
    if (s != NULL) idx_scratch_give(s);
    free(t.reached);
    free(t.todo);
    return st;
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
