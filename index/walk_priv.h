/* walk_priv.h: what walk.c and inherit.c share: the scratch, its lists and heaps, and where links lie. */
#ifndef LK_WALK_PRIV_H
#define LK_WALK_PRIV_H

#include "walk.h"

#include <stdlib.h>

/* ---- scratch --------------------------------------------------------------------------------------------------------------- */

typedef struct {
    idx_near *a;
    uint32_t n, cap;
} list;

struct idx_scratch {
    uint64_t *seen; /* a bit for each row */
    size_t seen_words;
    uint32_t *visited; /* whose bits are set */
    uint32_t n_visited, visited_cap;
    list todo, near, kept;
    void *room;
    size_t room_bytes;
    idx_scratch *next;
};

/* Bytes of a probe in a scratch's room, behind which another can lie. */
static inline size_t probe_room(const idx_rows *r) { return (idx_probe_bytes(r) + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN; }

static inline bool list_room(list *l, uint32_t n)
{
    if (n <= l->cap) return true;
    uint32_t cap = n + n / 2 + 64;
    idx_near *a = realloc(l->a, cap * sizeof *a);
    if (a == NULL) return false;
    l->a = a;
    l->cap = cap;
    return true;
}

static inline bool visited_room(idx_scratch *s, uint32_t more)
{
    if (s->n_visited + more <= s->visited_cap) return true;
    uint32_t cap = (s->n_visited + more) * 2 + 1024, *v = realloc(s->visited, cap * sizeof *v);
    if (v == NULL) return false;
    s->visited = v;
    s->visited_cap = cap;
    return true;
}

/* True the first time. There is room in `visited`. */
static inline bool visit(idx_scratch *s, uint32_t row)
{
    uint64_t bit = UINT64_C(1) << (row & 63), *w = &s->seen[row >> 6];
    if (*w & bit) return false;
    *w |= bit;
    s->visited[s->n_visited++] = row;
    return true;
}

static inline void forget(idx_scratch *s)
{
    for (uint32_t i = 0; i < s->n_visited; i++) s->seen[s->visited[i] >> 6] = 0;
    s->n_visited = 0;
}

/* ---- heaps ---------------------------------------------------------------------------------------------------------------- */

/* best: the best on top, otherwise the worst. */
static inline __attribute__((always_inline)) bool above(bool best, float a, float b) { return best ? a > b : a < b; }

static inline __attribute__((always_inline)) void up(idx_near *a, uint32_t i, idx_near x, bool best)
{
    for (; i > 0 && above(best, x.score, a[(i - 1) / 2].score); i = (i - 1) / 2) a[i] = a[(i - 1) / 2];
    a[i] = x;
}

static inline __attribute__((always_inline)) void down(idx_near *a, uint32_t n, idx_near x, bool best)
{
    uint32_t i = 0;
    for (uint32_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && above(best, a[c + 1].score, a[c].score)) c++;
        if (!above(best, a[c].score, x.score)) break;
        a[i] = a[c];
    }
    a[i] = x;
}

static inline idx_near pop_best(list *l)
{
    idx_near top = l->a[0];
    if (--l->n > 0) down(l->a, l->n, l->a[l->n], true);
    return top;
}

/* `near` keeps the ef best. */
static inline void keep(list *near, uint32_t ef, idx_near x)
{
    if (near->n < ef) up(near->a, near->n++, x, false);
    else down(near->a, near->n, x, false);
}

static inline int by_score(const void *a, const void *b)
{
    const idx_near *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : x->row > y->row ? 1 : x->row < y->row ? -1 : 0;
}

/* ---- links ---------------------------------------------------------------------------------------------------------------- */

enum { MAX_LINKS = 512 }; /* of one list: 2 m */

static inline int32_t *list_of(const idx_graph *g, uint32_t row, uint32_t level)
{
    return g->links + g->offsets[row] + (level > 0 ? (level + 1) * g->m : 0);
}

static inline uint32_t list_max(const idx_graph *g, uint32_t level) { return level > 0 ? g->m : 2 * g->m; }
static inline int32_t link_get(const int32_t *l) { return __atomic_load_n(l, __ATOMIC_RELAXED); }
static inline void link_set(int32_t *l, int32_t row) { __atomic_store_n(l, row, __ATOMIC_RELAXED); }

/* Of candidates, best first, keeps those that are nearer to the base than to any that is kept already (algorithm 4 of the paper),
 * at most `most`. Returns how many; they move to the front. room: for a probe. */
uint32_t idx_walk_choose(const idx_rows *r, idx_near *c, uint32_t n, uint32_t most, void *room);

#endif
