/* candidates_lists.c: the matches in the lists (parts.h) that are nearest to a query.
 *
 * Where many rows match, those of a list are asked, one bit each. Where few do, as many rows would be asked for nothing: then the
 * matches' places in the lists are found, which makes them a bit map in the order of the lists, in which a list is a few words. */
#include "candidates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK = 64, ENOUGH = 128 }; /* rows that are fetched side by side at little loss */
enum { ASK = 2048 };              /* rows, until it is asked again whether to go on with asking */
enum { FAR = 4 }; /* times as many are compared where matches are far from the query, which then tells their lists apart less well */

/* A list, or a group of them that was not opened yet: then score is what the best of its lists may well have. */
typedef struct {
    float score;
    uint32_t segment, at;
    bool group;
} near_list;

typedef struct {
    near_list *h; /* what was not read yet, the nearest on top; in the scratch */
    uint32_t n;
    idx_scratch *scratch;
    struct {
        idx_bits places; /* of the matches, once they were found; .w NULL = its rows are asked */
        bool seen;
    } *of; /* [segments] */
    bool found;
    uint32_t n_places, place[IDX_BATCH + 16]; /* matches of one segment on their way to its rows */
} lists;

static void lists_fini(lists *l, uint32_t n_segments)
{
    for (uint32_t s = 0; l->of != NULL && s < n_segments; s++) idx_bits_free(&l->of[s].places);
    free(l->of);
    if (l->scratch != NULL) idx_scratch_give(l->scratch);
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

/* Is none of the bits from..to - 1 set? There is a word behind the last. */
static bool none_of(const uint64_t *w, uint32_t from, uint32_t to)
{
    uint32_t i = from / 64, end = to / 64;
    uint64_t any = w[i] & UINT64_MAX << from % 64, last = ~(UINT64_MAX << to % 64);
    if (i == end) return (any & last) == 0;
    for (any |= w[end] & last; ++i < end;) any |= w[i];
    return any == 0;
}

/* Has a list, or a group, no match? false where it is not known. */
static bool is_empty(const idx_finder *f, const lists *l, near_list at)
{
    const idx_parts *p = f->c->segments[at.segment]->parts;
    const uint64_t *w = l->of[at.segment].places.w;
    uint32_t from = p->start[at.group ? p->group_start[at.at] : at.at], to = p->start[at.group ? p->group_start[at.at + 1] : at.at + 1];
    return w == NULL ? from == to : none_of(w, from, to);
}

/* The lists of one group with their scores, but for empty ones; a list that is alone comes first. */
static idx_status open_group(idx_finder *f, lists *l, near_list group)
{
    const idx_parts *p = f->c->segments[group.segment]->parts;
    idx_probe probe;
    uint32_t rows[IDX_BATCH], n = 0;
    float score[IDX_BATCH] = {INFINITY};
    idx_status st = p->near != NULL ? idx_finder_probe(f, p->near, &probe) : IDX_OK;
    for (uint32_t at = p->group_start[group.at]; st == IDX_OK && at < p->group_start[group.at + 1]; at++) {
        if (!is_empty(f, l, (near_list){0, group.segment, at, false})) rows[n++] = at;
        if (n < IDX_BATCH && at + 1 < p->group_start[group.at + 1]) continue;
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
    size_t most = 1; /* lists and groups: there are at most as many of these */
    for (uint32_t s = 0; s < c->n_segments; s++) most += c->segments[s]->parts != NULL ? 2 * c->segments[s]->parts->n_lists : 0;
    l->of = calloc(c->n_segments + 1u, sizeof *l->of);
    l->scratch = idx_scratch_take(0);
    l->h = l->scratch != NULL ? idx_scratch_room(l->scratch, most * sizeof *l->h) : NULL;
    if (l->of == NULL || l->h == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
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

/* ---- one list ----------------------------------------------------------------------------------------------------------- */

/* Its memory is asked for before it is waited for. */
static void prefetch_list(const idx_finder *f, const lists *l, near_list at)
{
    const idx_parts *p = f->c->segments[at.segment]->parts;
    if (at.group || l->of[at.segment].places.w != NULL) return;
    for (uint32_t j = p->start[at.at]; j < p->start[at.at + 1]; j += 16) __builtin_prefetch(&p->item[j]);
}

/* The matches among places from..to - 1, at most as many as there is room for. */
static void ask(const idx_finder *f, const idx_segment *g, lists *l, uint32_t from, uint32_t to)
{
    uint32_t *place = l->place + l->n_places, none = f->matches.n_words * 64; /* whose word is there, and clear */
    uint32_t n = g->v->k->members(f->matches.w, none, g->parts->item + from, to - from, place);
    for (uint32_t i = 0; i < n; i++) place[i] += from;
    l->n_places += n;
}

/* The same where places were found. */
static void look_up(const uint64_t *w, lists *l, uint32_t from, uint32_t to)
{
    for (uint32_t i = from / 64; i <= to / 64; i++) {
        uint64_t x = w[i];
        if (i == from / 64) x &= UINT64_MAX << from % 64;
        if (i == to / 64) x &= ~(UINT64_MAX << to % 64);
        for (; x != 0; x &= x - 1) l->place[l->n_places++] = i * 64 + (uint32_t)__builtin_ctzll(x);
    }
}

/* From places to rows to their scores. */
static idx_status compare(idx_finder *f, const idx_segment *g, lists *l)
{
    const idx_parts *p = g->parts;
    idx_batch b = {.g = g};
    for (uint32_t i = 0; i < l->n_places; i++) {
        __builtin_prefetch(&p->row[l->place[i]]);
        __builtin_prefetch(&p->item[l->place[i]]);
    }
    for (uint32_t i = 0; i < l->n_places; i++) {
        b.row[b.n] = p->row[l->place[i]];
        b.item[b.n] = p->item[l->place[i]];
        b.n += idx_bit(g->alive, b.row[b.n]); /* it may have died since */
    }
    l->n_places = 0;
    return idx_batch_flush(f, &b);
}

/* The matches of one list. */
static idx_status read_list(idx_finder *f, lists *l, near_list at)
{
    const idx_segment *g = f->c->segments[at.segment];
    const uint64_t *places = l->of[at.segment].places.w;
    idx_status st = IDX_OK;
    for (uint32_t from = g->parts->start[at.at], end = g->parts->start[at.at + 1], to; st == IDX_OK && from < end; from = to) {
        uint32_t room = IDX_BATCH - l->n_places;
        to = end - from > room ? from + room : end;
        if (places != NULL) look_up(places, l, from, to);
        else ask(f, g, l, from, to);
        f->tests += places != NULL ? 0 : to - from;
        if (l->n_places >= ENOUGH) st = compare(f, g, l);
    }
    return st;
}

/* The matches of a list and of those that follow it in the same segment, until they are enough to be fetched side by side. */
static idx_status read_some(idx_finder *f, lists *l, near_list at, uint32_t *n_lists)
{
    uint64_t before = f->distances, until = f->tests + ASK;
    for (*n_lists = 1;; at = pop(l), ++*n_lists) {
        if (l->n > 0) prefetch_list(f, l, l->h[0]);
        idx_status st = read_list(f, l, at);
        if (st != IDX_OK) return st;
        if (f->distances > before || l->n == 0 || l->h[0].group || l->h[0].segment != at.segment || f->tests >= until || *n_lists == LOOK) break;
    }
    return compare(f, f->c->segments[at.segment], l);
}

/* ---- the matches' places -------------------------------------------------------------------------------------------- */

static void mark_places(const idx_parts *p, const uint32_t *items, uint32_t n, uint64_t *w)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = p->place_of[items[i]]; j != 0; j = p->next != NULL ? p->next[j - 1] : 0) idx_bit_set(w, j - 1);
}

/* The places of all matches in one segment. While some are looked at, the next are fetched. */
static void find_in(const idx_finder *f, const idx_parts *p, uint64_t *w)
{
    uint32_t items[2][LOOK], n[2] = {0}, now = 0;
    bool more = true;
    for (idx_bits_iter it = idx_bits_begin(f->matches); more || n[!now] > 0; now = !now) {
        for (n[now] = 0; n[now] < LOOK && more;) {
            uint32_t item;
            if (!(more = idx_bits_next(&it, &item)) || item < p->first_item || item - p->first_item >= p->n_items) continue;
            items[now][n[now]++] = item - p->first_item;
            __builtin_prefetch(&p->place_of[item - p->first_item]);
        }
        mark_places(p, items[!now], n[!now], w);
        n[!now] = 0;
    }
}

/* From here on lists are known to hold matches or not, and those without any are out. */
static idx_status find_places(idx_finder *f, lists *l)
{
    const idx_cat *c = f->c;
    l->found = true;
    for (uint32_t s = 0; s < c->n_segments; s++) {
        const idx_parts *p = c->segments[s]->parts;
        if (p == NULL || p->place_of == NULL) continue;
        if (!idx_bits_new(&l->of[s].places, p->rows)) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
        find_in(f, p, l->of[s].places.w);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < l->n; i++)
        if (!is_empty(f, l, l->h[i])) l->h[kept++] = l->h[i];
    l->n = kept;
    make_heap(l);
    return IDX_OK;
}

/* The nearest lists first, until enough was compared and comparing more has brought nothing better for a while. */
idx_status idx_read_lists(idx_finder *f)
{
    const idx_cat *c = f->c;
    uint64_t enough = idx_plan_list_rows(&f->plan_query), patience = idx_plan_list_patience(&f->plan_query);
    uint64_t compared = 0, better = 0, read = 0, first_test = f->tests;
    float was = -INFINITY;
    lists l = {0};
    idx_status st = lists_init(f, &l);
    while (st == IDX_OK && l.n > 0) {
        if (compared >= enough && compared - better >= patience && f->pool.n == f->pool.room) break;
        uint64_t before = f->distances, left = compared < enough ? enough - compared : patience;
        if (!l.found && idx_plan_find_places(c, &f->plan_query, f->tests - first_test, compared, left)) {
            if (idx_plan_is_far(c, &f->plan_query, f->tests - first_test, compared)) {
                enough *= FAR;
                patience *= FAR;
            }
            if ((st = find_places(f, &l)) != IDX_OK || l.n == 0) break;
        }
        near_list next = pop(&l);
        if (next.group) {
            st = open_group(f, &l, next);
            continue;
        }
        uint32_t n_lists;
        st = read_some(f, &l, next, &n_lists);
        compared += f->distances - before;
        f->segments += !l.of[next.segment].seen;
        l.of[next.segment].seen = true;
        float floor = idx_pool_floor(&f->pool);
        if (floor > was) better = compared;
        was = floor;
        read += n_lists;
        if (st == IDX_OK && read >= 64) st = idx_late(f), read = 0;
    }
    f->all_seen = st == IDX_OK && l.n == 0;
    lists_fini(&l, c->n_segments);
    return st;
}
