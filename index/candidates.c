/* candidates.c: a plan -> rows worth a closer look, by the scores that the segments' own vectors give. */
#include "search.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 256, LOOK = 64, PIECE = 8192 }; /* a piece of a scan is compared in a millisecond or less */
enum { FAR = 6 }; /* times as many are compared where matches are far from the query, which then tells their lists apart less well */

/* ---- the pool ----------------------------------------------------------------------------------------------- */

static void swap(idx_candidate *a, idx_candidate *b)
{
    idx_candidate t = *a;
    *a = *b;
    *b = t;
}

void idx_pool_offer(idx_pool *p, float score, uint32_t item)
{
    idx_candidate *h = p->heap;
    if (p->n < p->room) {
        uint32_t i = p->n++;
        h[i] = (idx_candidate){score, item};
        for (; i > 0 && h[i].score < h[(i - 1) / 2].score; i = (i - 1) / 2) swap(&h[i], &h[(i - 1) / 2]);
        return;
    }
    p->overflowed = true;
    if (!(score > h[0].score)) return;
    h[0] = (idx_candidate){score, item};
    for (uint32_t i = 0, k; (k = 2 * i + 1) < p->n; i = k) {
        if (k + 1 < p->n && h[k + 1].score < h[k].score) k++;
        if (h[i].score <= h[k].score) break;
        swap(&h[i], &h[k]);
    }
}

/* ---- rows ------------------------------------------------------------------------------------------------------ */

static idx_status late(const idx_finder *f)
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

typedef struct { /* rows of one segment on their way to their scores */
    const idx_segment *g;
    uint32_t n, row[BATCH], item[BATCH];
} batch;

/* Rows whose coarse score is so low that the score cannot be above the pool's floor. */
static void drop_hopeless(idx_finder *f, batch *b, const float *coarse)
{
    float floor = idx_pool_floor(&f->pool) - f->coarse_slack;
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->n; i++)
        if (coarse[i] > floor) b->row[n] = b->row[i], b->item[n++] = b->item[i];
    f->pool.overflowed |= n < b->n;
    b->n = n;
}

static idx_status flush(idx_finder *f, batch *b)
{
    float score[BATCH];
    idx_probe p;
    if (b->n == 0) return IDX_OK;
    idx_status st = idx_finder_probe(f, b->g->v, &p);
    if (st != IDX_OK) return st;
    f->distances += b->n;
    if (idx_probe_is_coarse(&p)) {
        idx_probe_near(&p, b->row, b->n, score);
        drop_hopeless(f, b, score);
    }
    idx_probe_scores(&p, b->row, b->n, score);
    for (uint32_t i = 0; i < b->n; i++) idx_pool_offer(&f->pool, score[i], b->item[i]);
    b->n = 0;
    return IDX_OK;
}

static idx_status add(idx_finder *f, batch *b, uint32_t row, uint32_t item)
{
    b->row[b->n] = row;
    b->item[b->n++] = item;
    return b->n == BATCH ? flush(f, b) : IDX_OK;
}

/* Every live row of a segment from `from` on that matches. */
static idx_status scan_rows(idx_finder *f, const idx_segment *g, uint32_t from)
{
    batch b = {.g = g};
    idx_status st = IDX_OK;
    for (uint32_t r = from; st == IDX_OK && r < g->rows; r++) {
        uint32_t item = g->item[r];
        if (item != IDX_NONE && wanted(f, item)) st = add(f, &b, r, item);
        if (st == IDX_OK && r % 8192 == 8191) st = late(f);
    }
    f->tests += f->matches.w != NULL ? g->rows - from : 0;
    return st == IDX_OK ? flush(f, &b) : st;
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
static idx_status look(idx_finder *f, batch **to, const uint32_t *items, uint32_t n)
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

static idx_status flush_all(idx_finder *f, batch **to, uint32_t n, idx_status st)
{
    for (uint32_t s = 0; s < n; s++) {
        if (to[s] == NULL) continue;
        if (st == IDX_OK) st = flush(f, to[s]);
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
    pthread_rwlock_rdlock(&f->c->lock);
    *since = idx_mono_ns();
    if (f->c->removed) return idx_fail(f->err, IDX_ENOTFOUND, "there is no catalogue %.80s", f->c->row.info.name);
    return late(f);
}

/* One piece: items of `it`, some thousand images at most. *more: it has not come to its end. */
static idx_status scan_piece(idx_finder *f, idx_bits_iter *it, bool *more, uint32_t *segments)
{
    uint32_t n_to = f->c->n_slots, items[LOOK], n = 0, item;
    batch **to = calloc(n_to + 1u, sizeof *to);
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
    free(copy.w);
    return st;
}

/* ---- lists ------------------------------------------------------------------------------------------------------------ */

/* A list, or a group of them that was not opened yet: then score is what the best of its lists may well have. */
typedef struct {
    float score;
    uint32_t segment, at;
    bool group;
} near_list;

typedef struct {
    near_list *h; /* what was not read yet, the nearest on top */
    uint32_t n, *base; /* [segments + 1] the number of the first list of each among all */
    /* Once matches were sorted into lists; NULL = not: those of list i are rows start[i] .. start[i + 1] - 1. */
    uint32_t *start, *row, *item;
} lists;

static void lists_fini(lists *l)
{
    free(l->h);
    free(l->base);
    free(l->start);
    free(l->row);
    free(l->item);
}

static void sift(near_list *h, uint32_t n, uint32_t i)
{
    near_list x = h[i];
    for (uint32_t k; (k = 2 * i + 1) < n; i = k) {
        if (k + 1 < n && h[k + 1].score > h[k].score) k++;
        if (x.score >= h[k].score) break;
        h[i] = h[k];
    }
    h[i] = x;
}

static void make_heap(lists *l)
{
    for (uint32_t i = l->n / 2; i-- > 0;) sift(l->h, l->n, i);
}

static near_list pop(lists *l)
{
    near_list top = l->h[0];
    l->h[0] = l->h[--l->n];
    if (l->n > 0) sift(l->h, l->n, 0);
    return top;
}

static void push(lists *l, near_list x)
{
    uint32_t i = l->n++;
    for (; i > 0 && l->h[(i - 1) / 2].score < x.score; i = (i - 1) / 2) l->h[i] = l->h[(i - 1) / 2];
    l->h[i] = x;
}

/* The lists of one group with their scores; a list that is alone comes first. Once matches are sorted, without empty ones. */
static idx_status open_group(idx_finder *f, lists *l, near_list group)
{
    const idx_parts *p = f->c->segments[group.segment]->parts;
    idx_probe probe;
    uint32_t rows[BATCH], n = 0;
    float score[BATCH] = {INFINITY};
    idx_status st = p->near != NULL ? idx_finder_probe(f, p->near, &probe) : IDX_OK;
    for (uint32_t at = p->group_start[group.at]; st == IDX_OK && at < p->group_start[group.at + 1]; at++) {
        uint32_t i = l->base[group.segment] + at;
        if (l->start == NULL || l->start[i + 1] > l->start[i]) rows[n++] = at;
        if (n < BATCH && at + 1 < p->group_start[group.at + 1]) continue;
        if (p->near != NULL) idx_probe_near(&probe, rows, n, score);
        for (uint32_t k = 0; k < n; k++) push(l, (near_list){score[k], group.segment, rows[k], false});
        f->distances += n;
        n = 0;
    }
    return st;
}

/* Of lists around a group's centroid at a cosine of `spread`, spread evenly, the nearest to a query whose cosine to that centroid is
 * `cosine`: a projection on one of `dim` directions has a deviation of 1 / sqrt(dim), and the best of some dozens some of them. */
static float best_of_group(float cosine, float spread, uint32_t dim)
{
    float some = fminf(1, 2.5f / sqrtf((float)dim));
    return cosine * spread + some * sqrtf(fmaxf(0, 1 - cosine * cosine) * fmaxf(0, 1 - spread * spread));
}

static idx_status lists_init(idx_finder *f, lists *l)
{
    const idx_cat *c = f->c;
    if ((l->base = calloc(c->n_segments + 1u, sizeof *l->base)) == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
    for (uint32_t s = 0; s < c->n_segments; s++) l->base[s + 1] = l->base[s] + (c->segments[s]->parts != NULL ? c->segments[s]->parts->n_lists : 0);
    /* Lists and groups: there are at most as many of these. */
    if ((l->h = malloc((2 * l->base[c->n_segments] + 1u) * sizeof *l->h)) == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
    for (uint32_t s = 0; s < c->n_segments; s++) {
        const idx_parts *p = c->segments[s]->parts;
        for (uint32_t g = 0; p != NULL && g < p->n_groups; g++) {
            float cosine = p->near != NULL ? idx_dot(f->query, p->group_centroid + (size_t)g * f->dim, f->dim) : 1;
            l->h[l->n++] = (near_list){p->near != NULL ? best_of_group(cosine, p->spread[g], f->dim) : INFINITY, s, g, true};
        }
        f->distances += p != NULL && p->near != NULL ? p->n_groups : 0;
    }
    make_heap(l);
    return IDX_OK;
}

/* Their memory is asked for before it is waited for. */
static void prefetch_list(const idx_finder *f, near_list at)
{
    const idx_parts *p = f->c->segments[at.segment]->parts;
    if (at.group) return;
    for (uint32_t j = p->start[at.at]; j < p->start[at.at + 1]; j += 16) __builtin_prefetch(&p->item[j]);
}

/* The permitted rows of one list. */
static idx_status read_list(idx_finder *f, near_list at)
{
    const idx_segment *g = f->c->segments[at.segment];
    const idx_parts *p = g->parts;
    batch b = {.g = g};
    idx_status st = IDX_OK;
    for (uint32_t j = p->start[at.at]; st == IDX_OK && j < p->start[at.at + 1]; j++) {
        if (p->item[j] == IDX_NONE || !wanted(f, p->item[j])) continue;
        if (g->item[p->row[j]] == p->item[j]) st = add(f, &b, p->row[j], p->item[j]); /* it may have died since */
    }
    f->tests += p->start[at.at + 1] - p->start[at.at];
    return st == IDX_OK ? flush(f, &b) : st;
}

/* The matches of a list and of those that follow it in the same segment, until they are enough to be fetched side by side. */
static idx_status read_sorted(idx_finder *f, lists *l, near_list at)
{
    batch b = {.g = f->c->segments[at.segment]};
    idx_status st = IDX_OK;
    for (uint32_t rows = 0;; at = pop(l)) {
        uint32_t i = l->base[at.segment] + at.at;
        rows += l->start[i + 1] - l->start[i];
        for (uint32_t j = l->start[i]; st == IDX_OK && j < l->start[i + 1]; j++) st = add(f, &b, l->row[j], l->item[j]);
        if (st != IDX_OK || rows >= BATCH || l->n == 0 || l->h[0].group || l->h[0].segment != at.segment) break;
    }
    return st == IDX_OK ? flush(f, &b) : st;
}

/* ---- matches sorted into lists --------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t list, row, item; /* list: the segment until it is known */
} match;

typedef struct {
    match *m;
    uint32_t n, cap;
} matches;

/* Some items' images, a jump through memory at a time for all of them. */
static bool add_matches(idx_finder *f, const lists *l, const uint32_t *segment_of, const uint32_t *items, uint32_t n, matches *to)
{
    const idx_cat *c = f->c;
    uint32_t from = to->n;
    for (uint32_t i = 0; i < n; i++) {
        const idx_mem_item *im = &c->items[items[i]];
        if (!idx_item_lives(c, items[i], f->newest)) continue;
        if (to->n + im->n_images > to->cap) {
            uint32_t cap = to->cap + to->cap / 2 + im->n_images;
            match *more = realloc(to->m, cap * sizeof *more);
            if (more == NULL) return false;
            to->m = more;
            to->cap = cap;
        }
        for (uint32_t j = 0; j < im->n_images; j++) {
            idx_place p = idx_item_place(im, j);
            const idx_parts *parts = idx_place_segment(c, p)->parts;
            if (parts == NULL || p.row >= parts->rows) continue;
            if (parts->list_of != NULL) __builtin_prefetch(&parts->list_of[p.row]);
            to->m[to->n++] = (match){segment_of[p.slot], p.row, items[i]};
        }
    }
    for (uint32_t i = from; i < to->n; i++) {
        match *m = &to->m[i];
        const idx_parts *parts = c->segments[m->list]->parts;
        m->list = l->base[m->list] + (parts->list_of != NULL ? parts->list_of[m->row] : 0);
    }
    return true;
}

/* Every image of a matching item that is in a list. false: no memory; the caller frees ->m in any case. */
static bool find_matches(idx_finder *f, const lists *l, matches *to)
{
    const idx_cat *c = f->c;
    uint32_t *segment_of = malloc((c->n_slots + 1u) * sizeof *segment_of), items[2][LOOK], n[2] = {0}, now = 0;
    bool ok = segment_of != NULL, more = ok;
    for (uint32_t s = 0; ok && s < c->n_segments; s++) segment_of[c->segments[s]->slot] = s;
    idx_bits_iter it = idx_bits_begin(f->matches);
    for (; ok && (more || n[!now] > 0); now = !now) { /* while some are looked at, the next are fetched */
        for (n[now] = 0; n[now] < LOOK && more && (more = idx_bits_next(&it, &items[now][n[now]]));) __builtin_prefetch(&c->items[items[now][n[now]++]]);
        ok = add_matches(f, l, segment_of, items[!now], n[!now], to);
    }
    free(segment_of);
    return ok;
}

/* From here on lists hold matches alone, and those without any are out. */
static idx_status sort_matches(idx_finder *f, lists *l)
{
    uint32_t all = l->base[f->c->n_segments], kept = 0;
    matches found = {0};
    bool ok = find_matches(f, l, &found);
    const match *m = found.m;
    uint32_t n = found.n, *start = calloc(all + 2u, sizeof *start), *row = malloc((n + 1u) * sizeof *row), *item = malloc((n + 1u) * sizeof *item);
    l->start = start, l->row = row, l->item = item;
    ok = ok && start != NULL && row != NULL && item != NULL;
    for (uint32_t i = 0; ok && i < n; i++) start[m[i].list + 2]++;
    for (uint32_t i = 2; ok && i < all + 2; i++) start[i] += start[i - 1];
    for (uint32_t i = 0; ok && i < n; i++) { /* start[list + 1] runs from the list's start to its end */
        uint32_t at = start[m[i].list + 1]++;
        row[at] = m[i].row;
        item[at] = m[i].item;
    }
    for (uint32_t i = 0; ok && i < l->n; i++) {
        uint32_t list = l->base[l->h[i].segment] + l->h[i].at;
        if (l->h[i].group || start[list + 1] > start[list]) l->h[kept++] = l->h[i];
    }
    free(found.m);
    l->n = kept;
    make_heap(l);
    return ok ? IDX_OK : idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
}

/* The nearest lists first, until enough was compared and comparing more has brought nothing better for a while. Where lists near the
 * query hold few matches, those are sorted into lists once it is the cheaper way to come to where they are. */
static idx_status read_lists(idx_finder *f)
{
    const idx_cat *c = f->c;
    uint64_t enough = idx_plan_list_rows(&f->plan_query), patience = idx_plan_list_patience(&f->plan_query);
    uint64_t compared = 0, better = 0, read = 0, first_test = f->tests;
    float was = -INFINITY;
    lists l = {0};
    bool *seen = calloc(c->n_segments + 1u, sizeof *seen);
    idx_status st = seen == NULL ? idx_fail(f->err, IDX_ENOMEM, "no memory for a search") : lists_init(f, &l);
    while (st == IDX_OK && l.n > 0) {
        if (compared >= enough && compared - better >= patience && f->pool.n == f->pool.room) break;
        uint64_t before = f->distances, left = compared < enough ? enough - compared : patience;
        if (l.start == NULL && f->matches.w != NULL && idx_plan_sort_matches(c, &f->plan_query, f->tests - first_test, compared, left)) {
            if ((st = sort_matches(f, &l)) != IDX_OK || l.n == 0) break;
            enough *= FAR;
            patience *= FAR;
        }
        near_list next = pop(&l);
        if (next.group) {
            st = open_group(f, &l, next);
            continue;
        }
        if (l.start == NULL && l.n > 0) prefetch_list(f, l.h[0]);
        st = l.start != NULL ? read_sorted(f, &l, next) : read_list(f, next);
        compared += f->distances - before;
        f->segments += !seen[next.segment];
        seen[next.segment] = true;
        float floor = idx_pool_floor(&f->pool);
        if (floor > was) better = compared;
        was = floor;
        if (st == IDX_OK && ++read % 64 == 0) st = late(f);
    }
    f->all_seen = st == IDX_OK && l.n == 0;
    lists_fini(&l);
    free(seen);
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

/* Rows that the walk found, by their scores where it went by something coarser. */
static void offer(idx_finder *f, const idx_segment *g, const idx_probe *p, const idx_near *near, uint32_t n)
{
    bool coarse = idx_probe_is_coarse(p);
    uint32_t rows[BATCH];
    float scores[BATCH];
    for (uint32_t at = 0; at < n; at += BATCH) {
        uint32_t m = n - at < BATCH ? n - at : BATCH;
        for (uint32_t i = 0; i < m; i++) rows[i] = near[at + i].row, scores[i] = near[at + i].score;
        if (coarse) idx_probe_scores(p, rows, m, scores);
        for (uint32_t i = 0; i < m; i++)
            if (g->item[rows[i]] != IDX_NONE) idx_pool_offer(&f->pool, scores[i], g->item[rows[i]]);
    }
    f->distances += coarse ? n : 0;
}

/* The linked rows of a segment; `linked` as it was before the others were looked at. */
static idx_status walk_graph(idx_finder *f, const idx_segment *g, uint32_t linked)
{
    if (linked == 0) return IDX_OK;
    const idx_near *near = NULL;
    uint32_t live = linked > g->dead ? linked - g->dead : 0, n = 0, ask = f->pool.room < live ? f->pool.room : live;
    double share = f->matches.w != NULL ? (double)f->plan_query.matches / (f->c->live_items + 1.0) : 1; /* of the rows that a walk meets */
    permission who = {f, g};
    idx_allow allow = {.rows = g->dead > 0 ? g->alive : NULL, .test = f->matches.w != NULL ? permitted : NULL, .ctx = &who};
    idx_probe p;
    idx_scratch *s = idx_scratch_take(g->ann->g.capacity);
    idx_status st = s == NULL ? idx_fail(f->err, IDX_ENOMEM, "no memory for a search") : idx_finder_probe(f, g->v, &p);
    uint32_t ef = (uint32_t)fmin(fmax(ask, f->plan_query.effort) / fmax(share, 0.02), linked);
    if (st == IDX_OK) st = idx_ann_search(g->ann, s, &p, ef, &allow, &near, &n, &f->distances, f->err);
    if (st == IDX_OK) offer(f, g, &p, near, n);
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
        st = scan_rows(f, f->c->segments[i], linked);
        if (st == IDX_OK) st = walk_graph(f, f->c->segments[i], linked);
        if (st == IDX_OK) st = late(f);
    }
    f->all_seen = st == IDX_OK; /* what no walk met is not better than what the pool holds, as far as the graph knows */
    return st;
}

idx_status idx_find(idx_finder *f, idx_plan plan)
{
    f->all_seen = false;
    f->segments = 0;
    f->pool.n = 0;
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
    return st == IDX_OK ? read_lists(f) : st;
}
