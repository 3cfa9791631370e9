/* inherit.c: the lists of a graph made anew out of those of the graph before, when some of its rows are gone.
 *
 * Where a link led to a row that is gone, what that row was linked to comes in its place: the list is chosen anew of what stayed
 * and of those, by the rule by which rows are linked. That is how FreshDiskANN consolidates deletes (arXiv 2105.09613, algorithm
 * 4); it compares some hundred rows where a walk from the entry compares a thousand, and takes an eighth of the time
 * (tests/bench/bench_ann.c has both). */
#include "walk_priv.h"

#include <string.h>

/* Of what the gone were linked to, with what stayed, the nearest are looked at: as many as a walk of usual effort would keep. */
enum { CANDIDATES = 40, BLOCK = 64 };

/* A row of the old graph that is in the new one becomes a candidate; false: it is gone. */
static inline bool meet(idx_scratch *s, int32_t row, const uint32_t *now, uint32_t n_now)
{
    if ((uint32_t)row >= n_now || now[row] == UINT32_MAX) return false;
    visit(s, now[row]);
    return true;
}

/* What a row was linked to and is still there, and what it was linked to by those that are gone, behind the row itself in
 * `visited`. *whole: all is still there. false: no memory. */
static bool gather(idx_scratch *s, const idx_graph *old, uint32_t was, uint32_t level, const uint32_t *now, uint32_t n_now,
                   bool *whole)
{
    const int32_t *l = list_of(old, was, level);
    const uint32_t most = list_max(old, level);
    forget(s);
    if (!visited_room(s, 1 + most * (most + 1))) return false;
    visit(s, now[was]);
    *whole = true;
    for (uint32_t i = 0; i < most; i++) {
        int32_t r = link_get(&l[i]);
        if (r < 0) break;
        if (meet(s, r, now, n_now)) continue;
        *whole = false;
        const int32_t *beyond = list_of(old, (uint32_t)r, level);
        for (uint32_t k = 0; k < most; k++) {
            int32_t t = link_get(&beyond[k]);
            if (t < 0) break;
            meet(s, t, now, n_now);
        }
    }
    return true;
}

/* The nearest of n rows, best first, in `near`. */
static void nearest(idx_scratch *s, const idx_probe *p, const uint32_t *rows, uint32_t n)
{
    float score[BLOCK];
    list *near = &s->near;
    near->n = 0;
    for (uint32_t from = 0; from < n; from += BLOCK) {
        uint32_t some = n - from < BLOCK ? n - from : BLOCK;
        idx_probe_near(p, rows + from, some, score);
        for (uint32_t i = 0; i < some; i++)
            if (near->n < CANDIDATES || score[i] > near->a[0].score) keep(near, CANDIDATES, (idx_near){score[i], rows[from + i]});
    }
    qsort(near->a, near->n, sizeof *near->a, by_score);
}

bool idx_walk_inherit(idx_graph *g, idx_scratch *s, uint32_t row, const idx_graph *old, uint32_t was, const uint32_t *now,
                      uint32_t n_now)
{
    const size_t bytes = probe_room(g->rows);
    uint8_t *room = idx_scratch_room(s, 2 * bytes);
    idx_probe p;
    if (room == NULL || !list_room(&s->near, CANDIDATES)) return false;
    idx_probe_row(&p, g->rows, idx_rows_at(g->rows, row), room);
    for (uint32_t level = 0; level < (uint32_t)g->levels[row]; level++) {
        int32_t *l = list_of(g, row, level);
        const uint32_t most = list_max(g, level);
        bool whole;
        if (!gather(s, old, was, level, now, n_now, &whole)) return false;
        const uint32_t *rows = s->visited + 1;
        uint32_t n = s->n_visited - 1;
        if (!whole) {
            nearest(s, &p, rows, n);
            n = idx_walk_choose(g->rows, s->near.a, s->near.n, most, room + bytes);
        }
        for (uint32_t i = 0; i < most; i++) link_set(&l[i], i >= n ? -1 : (int32_t)(whole ? rows[i] : s->near.a[i].row));
    }
    return true;
}
