/* candidates.c: a plan -> rows worth a closer look, by the scores that the segments' own vectors give. */
#include "candidates.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK = 64, PIECE = 8192 }; /* a piece of a scan is compared in a millisecond or less */

/* ---- the pool ----------------------------------------------------------------------------------------------- */

static void swap(idx_candidate *a, idx_candidate *b)
{
    idx_candidate t = *a;
    *a = *b;
    *b = t;
}

static void offer_best(idx_pool *p, float score)
{
    float *h = p->best;
    uint32_t i = 0;
    if (p->n_best < p->k) {
        for (i = p->n_best++; i > 0 && score < h[(i - 1) / 2]; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
        h[i] = score;
        return;
    }
    if (!(score > h[0])) return;
    for (uint32_t k; (k = 2 * i + 1) < p->n_best; i = k) {
        if (k + 1 < p->n_best && h[k + 1] < h[k]) k++;
        if (score <= h[k]) break;
        h[i] = h[k];
    }
    h[i] = score;
}

void idx_offer(idx_finder *f, float score, uint32_t item)
{
    idx_pool *p = &f->pool;
    idx_candidate *h = p->heap, new = {fminf(score, 1), item}; /* rounding of unit vectors */
    offer_best(p, new.score);
    if (p->n < p->room) {
        uint32_t i = p->n++;
        h[i] = new;
        for (; i > 0 && idx_candidate_first(f, h[(i - 1) / 2], h[i]); i = (i - 1) / 2) swap(&h[i], &h[(i - 1) / 2]);
        return;
    }
    p->overflowed = true;
    if (!(new.score >= h[0].score) || !idx_candidate_first(f, new, h[0])) return;
    h[0] = new;
    for (uint32_t i = 0, k; (k = 2 * i + 1) < p->n; i = k) {
        if (k + 1 < p->n && idx_candidate_first(f, h[k], h[k + 1])) k++;
        if (!idx_candidate_first(f, h[i], h[k])) break;
        swap(&h[i], &h[k]);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

idx_status idx_late(const idx_finder *f)
{
    if (f->deadline_ns == 0 || idx_mono_ns() < f->deadline_ns) return IDX_OK;
    return idx_fail(f->err, IDX_EDEADLINE, "the deadline passed while searching");
}

static bool wanted(const idx_finder *f, uint32_t item) { return f->matches.w == NULL || (item / 64 < f->matches.n_words && idx_bit(f->matches.w, item)); }

idx_status idx_finder_probe(idx_finder *f, const idx_rows *v, idx_probe *p)
{
    idx_storage s = v->storage;
    if (f->probe[s].rows == NULL) {
        void *room = aligned_alloc(IDX_ROW_ALIGN, (idx_probe_bytes(v) + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN);
        if (room == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
        f->probe_room[s] = room;
        idx_probe_query(&f->probe[s], v, f->query, room);
        if (idx_probe_is_coarse(&f->probe[s])) f->coarse_slack = idx_probe_slack(&f->probe[s]);
    }
    *p = f->probe[s];
    p->rows = v;
    return IDX_OK;
}

void idx_finder_fini(idx_finder *f)
{
    for (int i = 0; i <= IDX_INT8; i++) free(f->probe_room[i]);
}

/* Rows whose coarse score is so low that the score cannot reach the pool's floor. */
static void drop_hopeless(idx_finder *f, idx_batch *b, const float *coarse)
{
    float floor = idx_pool_floor(&f->pool) - f->coarse_slack;
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++)
        if (coarse[i] > floor) b->row[n] = b->row[i], b->item[n++] = b->item[i];
    f->pool.overflowed |= n < b->n;
    b->n = n;
}

idx_status idx_batch_flush(idx_finder *f, idx_batch *b)
{
    float score[IDX_BATCH];
    idx_probe p;
    if (b->n == 0) return IDX_OK;
    idx_status st = idx_finder_probe(f, b->g->v, &p);
    if (st != IDX_OK) return st;
    f->distances += b->n;
    idx_probe_near(&p, b->row, b->n, score);
    for (uint32_t i = 0; b->outlook != NULL && i < b->n; i++) idx_outlook_learn(b->outlook, b->list_score[i], score[i]);
    if (idx_probe_is_coarse(&p)) {
        drop_hopeless(f, b, score);
        idx_probe_scores(&p, b->row, b->n, score);
    }
    for (uint32_t i = 0; i < b->n; i++) idx_offer(f, score[i], b->item[i]);
    b->n = 0;
    return IDX_OK;
}

static idx_status add(idx_finder *f, idx_batch *b, uint32_t row, uint32_t item)
{
    b->row[b->n] = row;
    b->item[b->n++] = item;
    return b->n == IDX_BATCH ? idx_batch_flush(f, b) : IDX_OK;
}

/* Every live row of a segment from `from` on that matches. */
static idx_status scan_rows(idx_finder *f, const idx_segment *g, uint32_t from)
{
    idx_batch b = {.g = g};
    idx_status st = IDX_OK;
    for (uint32_t r = from; st == IDX_OK && r < g->rows; r++) {
        uint32_t item = g->item[r];
        if (item != IDX_NONE && wanted(f, item)) st = add(f, &b, r, item);
        if (st == IDX_OK && r % 8192 == 8191) st = idx_late(f);
    }
    f->tests += f->matches.w != NULL ? g->rows - from : 0;
    return st == IDX_OK ? idx_batch_flush(f, &b) : st;
}

static idx_status scan_segment(idx_finder *f, const idx_segment *g)
{
    f->segments++;
    return scan_rows(f, g, 0);
}

static idx_status scan_all(idx_finder *f)
{
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < f->c->n_segments; i++) st = scan_segment(f, f->c->segments[i]);
    f->all_seen = true;
    return st;
}

/* ---- the images of matching items --------------------------------------------------------------------------------- */

/* Where an item's vectors are lies some jumps away. Some dozen items are followed together, a jump at a time, so that memory is
 * asked for all of them before it is waited for. */
static idx_status look(idx_finder *f, idx_batch **to, const uint32_t *items, uint32_t n)
{
    const idx_cat *c = f->c;
    idx_status st = IDX_OK;
    for (uint32_t i = 0; i < n; i++) __builtin_prefetch(&c->items[items[i]]);
    for (uint32_t i = 0; i < n; i++)
        if (c->items[items[i]].n_images > 1) __builtin_prefetch(c->items[items[i]].at.many);
    for (uint32_t i = 0; i < n; i++) {
        const idx_mem_item *it = &c->items[items[i]];
        for (uint32_t k = 0; st == IDX_OK && k < it->n_images; k++) {
            idx_place p = idx_item_place(it, k);
            if (to[p.slot] == NULL && (to[p.slot] = calloc(1, sizeof **to)) == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
            to[p.slot]->g = idx_place_segment(c, p);
            st = add(f, to[p.slot], p.row, items[i]);
        }
    }
    return st;
}

static idx_status flush_all(idx_finder *f, idx_batch **to, uint32_t n, idx_status st)
{
    for (uint32_t s = 0; s < n; s++) {
        if (to[s] == NULL) continue;
        if (st == IDX_OK) st = idx_batch_flush(f, to[s]);
        free(to[s]);
        to[s] = NULL;
    }
    return st;
}

/* Lets writers in. Segments may be others afterwards. */
static idx_status let_go(idx_finder *f, uint64_t *since)
{
    pthread_rwlock_unlock(&f->c->lock);
    uint64_t t = idx_mono_ns();
    if (f->rest != NULL) f->rest(f->rest_ctx, t - *since);
    idx_cat_enter(f->c);
    *since = idx_mono_ns();
    if (f->c->removed) return idx_fail(f->err, IDX_ENOTFOUND, "there is no catalogue %.80s", f->c->row.info.name);
    return idx_late(f);
}

/* One piece: items of `it`, some thousand images at most. *more: it has not come to its end. */
static idx_status scan_piece(idx_finder *f, idx_bits_iter *it, bool *more, uint32_t *segments)
{
    uint32_t n_to = f->c->n_slots, items[LOOK], n = 0, item;
    idx_batch **to = calloc(n_to + 1u, sizeof *to);
    if (to == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
    idx_status st = IDX_OK;
    *more = true;
    for (uint64_t until = f->distances + PIECE; st == IDX_OK && f->distances < until;) {
        if (!(*more = idx_bits_next(it, &item))) break;
        if (!idx_item_lives(f->c, item, f->newest)) continue;
        items[n++] = item;
        if (n < LOOK) continue;
        st = look(f, to, items, n);
        n = 0;
    }
    if (st == IDX_OK) st = look(f, to, items, n);

    for (uint32_t s = 0; s < n_to; s++) *segments += to[s] != NULL;
    st = flush_all(f, to, n_to, st);
    free(to);
    return st;
}

static idx_status scan_items(idx_finder *f, idx_bits over)
{
    idx_bits_iter it = idx_bits_begin(over);
    idx_status st = IDX_OK;
    uint64_t since = idx_mono_ns();
    for (bool more = true; st == IDX_OK && more;) {
        uint32_t segments = 0;
        st = scan_piece(f, &it, &more, &segments);
        if (segments > f->segments) f->segments = segments;
        if (st == IDX_OK && more) st = let_go(f, &since);
    }
    f->all_seen = true;
    return st;
}

static idx_status scan_matches(idx_finder *f) { return scan_items(f, f->matches); }

/* Everything, in pieces when it is much. */
static idx_status scan_everything(idx_finder *f)
{
    if (f->c->live_images <= PIECE) return scan_all(f);
    idx_bits all = idx_attrs_items(f->c->attrs), copy;
    if (!idx_bits_new(&copy, all.n_words * 64)) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
    memcpy(copy.w, all.w, all.n_words * sizeof *all.w);
    idx_status st = scan_items(f, copy);
    idx_bits_free(&copy);
    return st;
}

/* ---- graphs ---------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const idx_finder *f;
    const idx_segment *g;
} permission;

static bool permitted(const void *ctx, uint32_t row)
{
    const permission *p = ctx;
    uint32_t item = p->g->item[row];
    return item != IDX_NONE && wanted(p->f, item);
}

/* Rows that the walk found, by their scores where it went by something coarser. Those that were linked since `linked` was read are compared
 * with all others that are not, and would count twice among the best. */
static void offer(idx_finder *f, const idx_segment *g, uint32_t linked, const idx_probe *p, const idx_near *near, uint32_t n)
{
    bool coarse = idx_probe_is_coarse(p);
    uint32_t rows[IDX_BATCH];
    float scores[IDX_BATCH];
    for (uint32_t at = 0; at < n; at += IDX_BATCH) {
        uint32_t m = n - at < IDX_BATCH ? n - at : IDX_BATCH;
        for (uint32_t i = 0; i < m; i++) {
            rows[i] = near[at + i].row, scores[i] = near[at + i].score;
            __builtin_prefetch(&g->item[rows[i]]);
        }
        if (coarse) idx_probe_scores(p, rows, m, scores);
        for (uint32_t i = 0; i < m; i++) {
            uint32_t item = g->item[rows[i]];
            if (rows[i] >= linked || item == IDX_NONE) continue;
            __builtin_prefetch(&f->c->items[item]); /* which is ranked next */
            idx_offer(f, scores[i], item);
        }
    }
    f->distances += coarse ? n : 0;
}

/* The linked rows of a segment; `linked` as it was before the others were looked at. */
static idx_status walk_graph(idx_finder *f, const idx_segment *g, uint32_t linked)
{
    if (linked == 0 || g->dead == g->rows) return IDX_OK; /* of none that live it would walk to its end */
    /* Where a walk would step over so many dead rows for a living one, as while a segment is left for a new one, all are compared. Some of the
     * dead may not be linked: there are this many at least. */
    enum { SPARSE = 16 };
    const uint32_t live = linked > g->dead ? linked - g->dead : 0;
    if (live <= linked / SPARSE) return scan_segment(f, g);
    const idx_near *near = NULL;
    uint32_t n = 0, ask = f->pool.room < live ? f->pool.room : live;
    double share = f->matches.w != NULL ? (double)f->plan_query.matches / (f->c->live_items + 1.0) : 1; /* of the rows that a walk meets */
    permission who = {f, g};
    idx_allow allow = {.rows = g->dead > 0 ? g->alive : NULL, .test = f->matches.w != NULL ? permitted : NULL, .ctx = &who};
    idx_probe p;
    idx_scratch *s = idx_scratch_take(g->ann->g.capacity);
    idx_status st = s == NULL ? idx_fail(f->err, IDX_ENOMEM, "no memory for a search") : idx_finder_probe(f, g->v, &p);
    uint32_t ef = (uint32_t)fmin(fmax(ask, f->plan_query.effort) / fmax(share, 0.02), linked);
    if (st == IDX_OK) st = idx_ann_search(g->ann, s, &p, ef, &allow, &near, &n, &f->distances, f->err);
    if (st == IDX_OK) offer(f, g, linked, &p, near, n);
    if (s != NULL) idx_scratch_give(s);
    f->segments++;
    if (st == IDX_OK && live > ask) f->pool.overflowed = true;
    /* Fewer than asked for, though there are more: rows that no path leads to, as happens among many equal photos. */
    return st == IDX_OK && f->matches.w == NULL && n < ask ? scan_segment(f, g) : st;
}

static idx_status walk_graphs(idx_finder *f)
{
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < f->c->n_segments; i++) {
        uint32_t linked = idx_segment_linked(f->c->segments[i]);
        st = walk_graph(f, f->c->segments[i], linked);
        if (st == IDX_OK) st = scan_rows(f, f->c->segments[i], linked); /* behind: of them few are as near as what the walk found */
        if (st == IDX_OK) st = idx_late(f);
    }
    f->all_seen = st == IDX_OK; /* what no walk met is not better than what the pool holds, as far as the graph knows */
    return st;
}

idx_status idx_find(idx_finder *f, idx_plan plan)
{
    f->all_seen = false;
    f->segments = 0;
    f->pool.n = f->pool.n_best = 0;
    f->pool.overflowed = false;
    switch (plan) {
    case IDX_PLAN_FLAT: return scan_everything(f);
    case IDX_PLAN_SCAN: return scan_matches(f);
    case IDX_PLAN_LISTS: break;
    case IDX_PLAN_GRAPH: return walk_graphs(f);
    }
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < f->c->n_segments; i++) { /* what is in no list, or not yet */
        const idx_segment *g = f->c->segments[i];
        uint32_t linked = idx_segment_linked(g);
        st = scan_rows(f, g, g->parts != NULL ? g->parts->rows : linked);
        if (st == IDX_OK && g->parts == NULL) st = walk_graph(f, g, linked);
    }
    return st == IDX_OK ? idx_read_lists(f) : st;
}
