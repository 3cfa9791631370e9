/* walk.c: search and insertion in a faiss::HNSW, in place of faiss::HNSW::search and add_with_locks.
 *
 * WHY. The graph is FAISS's, its levels, its lists and its rules for choosing links are those of Malkov and Yashunin's paper
 * (arXiv 1603.09320), which FAISS follows, too; what is our own is how the arrays are walked:
 *   - Debian compiles FAISS for the baseline of the architecture (1.7.3 in Debian 12, 1.11 in Debian 13); its distances are
 *     scalar loops over float32, one virtual call each. Here four rows at a time go through the kernels of dot.h, as float32,
 *     float16 or int8, with their cache lines asked for in advance: most of a walk is waiting for memory.
 *   - FAISS allocates and clears a byte for every row of the index before each search: at a million rows that alone takes as
 *     long as the walk. Here it is a bit each, from a pool, and only what a walk has set is cleared.
 *   - FAISS cannot add while it searches. Here links are read and written as relaxed atomics, so that a row can be linked while
 *     searches run, and no copy of a graph is ever made for them: a reader sees a list half rewritten at worst, whose entries are
 *     rows all the same. A row's own lists are full before the first link to it is made.
 *   - FAISS 1.7 sizes its heap of candidates by k, whatever ef says.
 * tests/bench/index shows what this is worth, with FAISS's own search over the same graph beside it.
 *
 * WHAT HOLDS IT. The scalar kernels define every distance (dot.h), and are what a processor without any of the others gets:
 * tests/unit/dot_test.c holds the others to them, and fails when the best that a processor has is not the one in use. FAISS's own
 * search and add, over the same rows and the same kernels, are in ann_shim.cc, and FAISS as the package has it in
 * tests/faiss_plain.cc: tests/unit/ann_test.c holds ours to both, once for each kind of kernels (IDX_CPU), and fails when a search
 * does not come through here.
 *
 * WHEN IT CAN GO. When the FAISS of the oldest Debian that we build for chooses its kernels by processor, keeps HNSW over float16
 * and int8 without losing them, takes its visited table from the caller, and links rows while it searches. Then ann.c calls
 * faiss::IndexHNSW, and rows.c, walk.c and dot*.c leave together. */
#include "walk_priv.h"

#include <pthread.h>
#include <string.h>

/* ---- scratch --------------------------------------------------------------------------------------------------------------- */

static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;
static idx_scratch *pool;

static void scratch_free(idx_scratch *s)
{
    if (s == NULL) return;
    free(s->seen);
    free(s->visited);
    free(s->todo.a);
    free(s->near.a);
    free(s->kept.a);
    free(s->room);
    free(s);
}

idx_scratch *idx_scratch_take(uint32_t rows)
{
    pthread_mutex_lock(&pool_lock);
    idx_scratch *s = pool;
    if (s != NULL) pool = s->next;
    pthread_mutex_unlock(&pool_lock);
    if (s == NULL) s = calloc(1, sizeof *s);
    if (s == NULL) return NULL;
    size_t words = (size_t)rows / 64 + 1;
    if (words > s->seen_words) {
        words += words / 8;
        uint64_t *seen = calloc(words, sizeof *seen);
        if (seen == NULL) {
            idx_scratch_give(s);
            return NULL;
        }
        free(s->seen);
        s->seen = seen;
        s->seen_words = words;
    }
    return s;
}

void idx_scratch_give(idx_scratch *s)
{
    pthread_mutex_lock(&pool_lock);
    s->next = pool;
    pool = s;
    pthread_mutex_unlock(&pool_lock);
}

void idx_scratch_drop_all(void)
{
    pthread_mutex_lock(&pool_lock);
    idx_scratch *s = pool;
    pool = NULL;
    pthread_mutex_unlock(&pool_lock);
    for (idx_scratch *next; s != NULL; s = next) {
        next = s->next;
        scratch_free(s);
    }
}

void *idx_scratch_room(idx_scratch *s, size_t bytes)
{
    if (bytes <= s->room_bytes) return s->room;
    bytes = (bytes + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN;
    void *room = aligned_alloc(IDX_ROW_ALIGN, bytes);
    if (room == NULL) return NULL;
    free(s->room);
    s->room = room;
    s->room_bytes = bytes;
    return room;
}

/* Those of a list that were not visited yet go behind `visited`; how many. Half of them were, in no order that a processor could
 * foresee: without a branch that depends on it, searches and building take a tenth less. */
static inline uint32_t visit_list(idx_scratch *s, const int32_t *l, uint32_t most)
{
    uint64_t *seen = s->seen;
    uint32_t *fresh = s->visited + s->n_visited, n = 0;
    int32_t r;
    for (uint32_t i = 0; i < most && (r = link_get(&l[i])) >= 0; i++) {
        uint64_t word = seen[r >> 6], bit = UINT64_C(1) << (r & 63);
        seen[r >> 6] = word | bit;
        fresh[n] = (uint32_t)r;
        n += (word & bit) == 0;
    }
    s->n_visited += n;
    return n;
}

/* ---- search -------------------------------------------------------------------------------------------------------------------- */

static inline bool is_allowed(const idx_allow *w, uint32_t row)
{
    return w == NULL || ((w->rows == NULL || (w->rows[row >> 6] >> (row & 63) & 1)) && (w->test == NULL || w->test(w->ctx, row)));
}

static inline void prefetch_links(const idx_graph *g, uint32_t row)
{
    const int32_t *l = list_of(g, row, 0);
    for (uint32_t i = 0; i < 2 * g->m; i += 16) __builtin_prefetch(l + i);
}

/* Downhill, one row at a time, from `at` on levels from..to+1. */
static idx_near descend(const idx_graph *g, const idx_probe *p, idx_near at, uint32_t from, uint32_t to, uint64_t *distances)
{
    uint32_t rows[MAX_LINKS];
    float scores[MAX_LINKS];
    for (uint32_t level = from; level > to; level--) {
        for (bool better = true; better;) {
            const int32_t *l = list_of(g, at.row, level);
            uint32_t n = 0;
            for (int32_t r; n < g->m && (r = link_get(&l[n])) >= 0;) rows[n++] = (uint32_t)r;
            idx_probe_near(p, rows, n, scores);
            *distances += n;
            better = false;
            for (uint32_t i = 0; i < n; i++)
                if (scores[i] > at.score) at = (idx_near){scores[i], rows[i]}, better = true;
        }
    }
    return at;
}

/* Fills `near` with the ef best that a best-first walk over one level finds from the n_start rows there. false: no memory. */
static bool walk_level(const idx_graph *g, idx_scratch *s, const idx_probe *p, const idx_near *start, uint32_t n_start, uint32_t level, uint32_t ef,
                       const idx_allow *allow, uint64_t *distances)
{
    uint32_t most = list_max(g, level);
    float scores[MAX_LINKS];
    list *todo = &s->todo, *near = &s->near;
    forget(s);
    todo->n = near->n = 0;
    if (!list_room(near, ef) || !list_room(todo, n_start) || !visited_room(s, n_start)) return false;
    for (uint32_t i = 0; i < n_start; i++) {
        visit(s, start[i].row);
        up(todo->a, todo->n++, start[i], true);
        if (is_allowed(allow, start[i].row) && (near->n < ef || start[i].score > near->a[0].score)) keep(near, ef, start[i]);
    }
    while (todo->n > 0) {
        idx_near at = pop_best(todo);
        if (near->n == ef && at.score < near->a[0].score) break;
        if (!visited_room(s, most) || !list_room(todo, todo->n + most)) return false;
        const uint32_t *rows = s->visited + s->n_visited, n = visit_list(s, list_of(g, at.row, level), most);
        if (todo->n > 0 && level == 0) prefetch_links(g, todo->a[0].row); /* most likely the next */
        idx_probe_near(p, rows, n, scores);
        *distances += n;
        for (uint32_t i = 0; i < n; i++) {
            if (near->n == ef && scores[i] <= near->a[0].score) continue;
            idx_near x = {scores[i], rows[i]};
            if (level == 0) __builtin_prefetch(&g->offsets[x.row]); /* on the way to its links */
            up(todo->a, todo->n++, x, true);
            if (is_allowed(allow, x.row)) keep(near, ef, x);
        }
    }
    return true;
}

/* The paper goes down to level 0 one row at a time, and a walk there never leaves the cluster that it was led into: among a million
 * rows in 2,100 clusters (tests/bench/vectors.h, 256 dimensions, int8, M 16) recall@10 stays at 0.957 however large ef is, for one
 * walk in 25 begins in the wrong cluster. With as many rows as this kept on the two levels above, it is 0.981 at the same ef 38
 * for 19 % more distances; 4 of them give 0.977, and 16 the same as 8. */
enum { WIDE = 8 };

/* Where a walk of level `to` begins: the rows of the level above that are nearest, of those that walks from the entry find. Returns how
 * many, WIDE at most. */
static uint32_t approach(const idx_graph *g, idx_scratch *s, const idx_probe *p, idx_near at, uint32_t from, uint32_t to, idx_near start[WIDE], uint64_t *distances)
{
    uint32_t n = 1, level = from < to + 2 ? from : to + 2;
    start[0] = descend(g, p, at, from, level, distances);
    for (; level > to; level--) {
        if (!walk_level(g, s, p, start, n, level, WIDE, NULL, distances)) return n;
        qsort(s->near.a, s->near.n, sizeof *s->near.a, by_score);
        n = s->near.n;
        memcpy(start, s->near.a, n * sizeof *start);
    }
    return n;
}

static idx_near entry_of(const idx_graph *g, const idx_probe *p, uint32_t *level)
{
    int32_t row = __atomic_load_n(g->entry, __ATOMIC_ACQUIRE);
    if (row < 0) return (idx_near){0, UINT32_MAX};
    idx_near at = {0, (uint32_t)row};
    idx_probe_near(p, &at.row, 1, &at.score);
    *level = (uint32_t)g->levels[row] - 1;
    return at;
}

uint32_t idx_walk_search(const idx_graph *g, idx_scratch *s, const idx_probe *p, uint32_t ef, const idx_allow *allow, const idx_near **out,
                         uint64_t *distances)
{
    uint32_t level;
    idx_near at = entry_of(g, p, &level);
    if (at.row == UINT32_MAX) return 0;
    ++*distances;
    idx_near start[WIDE];
    uint32_t n = approach(g, s, p, at, level, 0, start, distances);
    walk_level(g, s, p, start, n, 0, ef, allow, distances); /* without memory: what there is until then */
    qsort(s->near.a, s->near.n, sizeof *s->near.a, by_score);
    *out = s->near.a;
    return s->near.n;
}

/* ---- insertion ------------------------------------------------------------------------------------------------------------------- */

enum { STRIPES = 4096 };
struct idx_walk_locks {
    pthread_mutex_t entry;
    pthread_mutex_t stripe[STRIPES];
};

idx_walk_locks *idx_walk_locks_new(void)
{
    idx_walk_locks *l = malloc(sizeof *l);
    if (l == NULL) return NULL;
    pthread_mutex_init(&l->entry, NULL);
    for (int i = 0; i < STRIPES; i++) pthread_mutex_init(&l->stripe[i], NULL);
    return l;
}

/* A candidate is left out only if one that is kept is nearer to it by this factor than the base is. The paper's rule has 1, which thins
 * the lists of a dense cluster to some ten links and leaves rows that few links lead to: on tests/bench/vectors.h, 100,000 x 256,
 * M 16, efConstruction 100, recall@10 at ef 24 is 0.967 with 1, 0.988 with 1.05, 0.983 with 1.1, 0.982 with 1.2 and 0.955 with 1.4,
 * for 9 to 16 % more distances and no more time. */
static const float SLACK = 1.05f;

/* Rows as near as this are the same photo, as the rounding of rows goes. By the rule alone a photo that a catalogue has a hundred times
 * would be linked to copies of itself only, and nothing would lead to them: of them a list has so many at most. */
static const float SAME = 1 - 2e-3f;

/* Each that is kept strikes out those behind it: it is made ready for its distances once, and there are few of them. */
uint32_t idx_walk_choose(const idx_rows *r, idx_near *c, uint32_t n, uint32_t most, void *room)
{
    enum { BLOCK = 64 };
    uint32_t kept = 0, same = 0, rows[BLOCK];
    float scores[BLOCK];
    while (same < n && c[same].score > SAME) same++;
    if (same > most / 2) {
        memmove(c + most / 2, c + same, (n - same) * sizeof *c);
        n -= same - most / 2;
    }
    while (kept < n && ++kept < most) {
        idx_probe p;
        uint32_t left = kept, m;
        idx_probe_row(&p, r, idx_rows_at(r, c[kept - 1].row), room);
        for (uint32_t i = kept; i < n; i += m) {
            m = n - i < BLOCK ? n - i : BLOCK;
            for (uint32_t k = 0; k < m; k++) rows[k] = c[i + k].row;
            idx_probe_near(&p, rows, m, scores);
            for (uint32_t k = 0; k < m; k++)
                if ((1 - scores[k]) * SLACK >= 1 - c[i + k].score) c[left++] = c[i + k];
        }
        n = left;
    }
    return kept;
}

/* Adds a link from -> to, where there is none; a full list is chosen anew. */
static bool link_back(const idx_graph *g, idx_scratch *s, uint32_t from, uint32_t to, float score, uint32_t level, void *room, size_t room_bytes)
{
    int32_t *l = list_of(g, from, level);
    uint32_t most = list_max(g, level), n = 0, rows[MAX_LINKS];
    float scores[MAX_LINKS];
    for (int32_t r; n < most && (r = link_get(&l[n])) >= 0;) {
        if ((uint32_t)r == to) return true;
        rows[n++] = (uint32_t)r;
    }
    if (n < most) {
        link_set(&l[n], (int32_t)to);
        return true;
    }
    list *c = &s->todo; /* free between walks */
    if (!list_room(c, n + 1)) return false;
    idx_probe p;
    idx_probe_row(&p, g->rows, idx_rows_at(g->rows, from), room);
    idx_probe_near(&p, rows, n, scores);
    for (uint32_t i = 0; i < n; i++) c->a[i] = (idx_near){scores[i], rows[i]};
    c->a[n] = (idx_near){score, to};
    qsort(c->a, n + 1, sizeof *c->a, by_score);
    n = idx_walk_choose(g->rows, c->a, n + 1, most, (uint8_t *)room + room_bytes);
    for (uint32_t i = 0; i < most; i++) link_set(&l[i], i < n ? (int32_t)c->a[i].row : -1);
    return true;
}

/* Of the rows in a list, those that are not among the n near ones, in `out`; how many. */
static uint32_t others(const int32_t *l, uint32_t most, const idx_near *near, uint32_t n, int32_t *out)
{
    uint32_t left = 0;
    int32_t r;
    for (uint32_t i = 0, k; i < most && (r = link_get(&l[i])) >= 0; i++) {
        for (k = 0; k < n && near[k].row != (uint32_t)r;) k++;
        if (k == n) out[left++] = r;
    }
    return left;
}

/* Whom a row links to on one level: of what the walk found, sorted in `near`, and behind them those that it was linked to. The new ones go behind
 * those of other levels in `kept`. */
static bool choose_level(idx_graph *g, idx_scratch *s, uint32_t row, uint32_t level, idx_walk_locks *locks, void *room)
{
    uint32_t n = idx_walk_choose(g->rows, s->near.a, s->near.n, g->m, room);
    if (!list_room(&s->kept, s->kept.n + n)) return false;
    memcpy(s->kept.a + s->kept.n, s->near.a, n * sizeof *s->kept.a);
    s->kept.n += n;
    const uint32_t most = list_max(g, level);
    int32_t *own = list_of(g, row, level), before[MAX_LINKS];
    pthread_mutex_t *stripe = &locks->stripe[row % STRIPES];
    pthread_mutex_lock(stripe);
    const uint32_t stay = others(own, most, s->near.a, n, before);
    for (uint32_t i = 0; i < n; i++) link_set(&own[i], (int32_t)s->near.a[i].row);
    for (uint32_t i = n; i < most; i++) link_set(&own[i], i - n < stay ? before[i - n] : -1);
    pthread_mutex_unlock(stripe);
    return true;
}

/* Links to the row from those that it links to on a level. */
static bool link_level(idx_graph *g, idx_scratch *s, uint32_t row, uint32_t level, const idx_near *to, uint32_t n, idx_walk_locks *locks, void *room,
                       size_t room_bytes)
{
    bool ok = true;
    for (uint32_t i = 0; i < n && ok; i++) {
        pthread_mutex_t *stripe = &locks->stripe[to[i].row % STRIPES];
        pthread_mutex_lock(stripe);
        ok = link_back(g, s, to[i].row, row, to[i].score, level, room, room_bytes);
        pthread_mutex_unlock(stripe);
    }
    return ok;
}

enum { MAX_LEVELS = 64 };

/* A row that is linked already may have been found. */
static void leave_out(list *l, uint32_t row)
{
    for (uint32_t i = 0; i < l->n; i++)
        if (l->a[i].row == row) l->a[i--] = l->a[--l->n];
}

/* The row's own lists are full on every level before anything leads to it: a search that comes to it goes on from there. */
static bool link_levels(idx_graph *g, idx_scratch *s, const idx_probe *p, uint32_t row, uint32_t mine, uint32_t ef, idx_walk_locks *locks, uint8_t *room,
                        size_t bytes)
{
    uint32_t top = 0, start[MAX_LEVELS + 1];
    uint64_t distances = 0;
    idx_near at = entry_of(g, p, &top);
    uint32_t highest = mine < top ? mine : top;
    idx_near from[WIDE];
    uint32_t n_from = approach(g, s, p, at, top, highest, from, &distances);
    s->kept.n = 0;
    for (uint32_t level = highest;; level--) {
        if (!walk_level(g, s, p, from, n_from, level, ef, NULL, &distances)) return false;
        leave_out(&s->near, row);
        qsort(s->near.a, s->near.n, sizeof *s->near.a, by_score);
        if (s->near.n > 0) { /* else it is alone on this level, and where it began */
            n_from = s->near.n < WIDE ? s->near.n : WIDE;
            memcpy(from, s->near.a, n_from * sizeof *from);
        }
        start[level] = s->kept.n;
        if (!choose_level(g, s, row, level, locks, room)) return false;
        if (level == 0) break;
    }
    uint32_t end = s->kept.n;
    for (uint32_t level = 0; level <= highest; level++) {
        if (!link_level(g, s, row, level, s->kept.a + start[level], end - start[level], locks, room, bytes)) return false;
        end = start[level];
    }
    return true;
}

void idx_walk_clear(const idx_graph *g, uint32_t row)
{
    for (size_t i = g->offsets[row]; i < g->offsets[row + 1]; i++) __atomic_store_n(&g->links[i], -1, __ATOMIC_RELAXED);
}

static bool link_row(idx_graph *g, idx_scratch *s, uint32_t row, uint32_t ef, idx_walk_locks *locks)
{
    uint32_t mine = (uint32_t)g->levels[row] - 1;
    const size_t bytes = probe_room(g->rows);
    uint8_t *room = idx_scratch_room(s, 3 * bytes);
    if (room == NULL || mine >= MAX_LEVELS) return false;
    idx_probe p;
    idx_probe_row(&p, g->rows, idx_rows_at(g->rows, row), room);
    pthread_mutex_lock(&locks->entry);
    bool first = __atomic_load_n(g->entry, __ATOMIC_RELAXED) < 0, higher = first || (int32_t)mine > *g->top;
    if (!higher) pthread_mutex_unlock(&locks->entry); /* a new top is made alone */
    bool ok = first || link_levels(g, s, &p, row, mine, ef, locks, room + bytes, bytes);
    if (higher) {
        if (ok) {
            *g->top = (int32_t)mine;
            __atomic_store_n(g->entry, (int32_t)row, __ATOMIC_RELEASE);
        }
        pthread_mutex_unlock(&locks->entry);
    }
    return ok;
}

bool idx_walk_insert(idx_graph *g, idx_scratch *s, uint32_t row, uint32_t ef, idx_walk_locks *locks)
{
    idx_walk_clear(g, row);
    return link_row(g, s, row, ef, locks);
}

bool idx_walk_mend(idx_graph *g, idx_scratch *s, uint32_t row, idx_walk_locks *locks) { return link_row(g, s, row, g->ef_construction, locks); }
