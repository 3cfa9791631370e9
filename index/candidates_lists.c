/* candidates_lists.c: the matches in the lists (parts.h) that are nearest to a query, until what is left promises little (outlook.h).
 *
 * Where many rows match, those of a list are asked, one bit each. Where few do, as many rows would be asked for nothing: then the
 * matches' places in the lists are found (places.h), and kept for the next search with the same filter (matches.h); where they lie together,
 * far from the query, how many each list has is all there is to know. */
#include "candidates.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LOOK = 64, ENOUGH = 64, MANY = 192 }; /* rows that are fetched side by side: at first, and where many will have to be */
enum { ASK = 2048 };            /* rows, until it is asked again whether to go on with asking */
enum { LATELY = 2048 };         /* rows of lists whose share of matches is that of the next ones, as far as one can tell */
static const float BEST = 2.5f; /* deviations that the best of some dozens is away from the middle */

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
        const idx_places *places; /* of the matches, once they were found or counted; NULL = neither */
        float *cosine;            /* [groups] of their centroids; in the scratch */
        bool seen;
    } *of; /* [segments] */
    bool found, marked;  /* counted in all lists that have an index from items; before, in none. And found */
    bool countable;      /* all of them can be counted without */
    idx_outlook outlook; /* of what is in h: rows, or matches once they were found */
    uint64_t left;       /* rows, or matches, in h */
    uint64_t compared;
    double lately, matched; /* rows that were asked lately, and those of them that match */
    uint32_t n_places, place[IDX_BATCH + 16]; /* matches of one segment on their way to its rows, */
    float score[IDX_BATCH];                   /* and those of their lists */
} lists;

static void lists_fini(lists *l)
{
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

/* Lists lie around a group's centroid at a cosine of `spread`, and the query at one of `cosine`, spread evenly: the cosine of the two is the
 * product and a projection on one of `dim` directions, whose deviation this is. */
static float deviation(const idx_parts *p, uint32_t group, float cosine)
{
    float spread = p->spread[group];
    return sqrtf(fmaxf(0, 1 - cosine * cosine) * fmaxf(0, 1 - spread * spread) / (float)p->dim);
}

/* Of a segment, NULL = the rows of its lists are asked. */
static const idx_places *marks_of(const lists *l, uint32_t segment)
{
    const idx_places *places = l->of[segment].places;
    return places != NULL && idx_places_are_marked(places) ? places : NULL;
}

/* Rows of a list, or of a group; or their matches where they are known. */
static uint32_t rows_of(const idx_finder *f, const lists *l, near_list at)
{
    const idx_parts *p = f->c->segments[at.segment]->parts;
    const idx_places *places = l->of[at.segment].places;
    uint32_t from = at.group ? p->group_start[at.at] : at.at, to = at.group ? p->group_start[at.at + 1] : at.at + 1, n = 0;
    if (places == NULL) return p->start[to] - p->start[from];
    for (uint32_t i = from; i < to; i++) n += places->count[i];
    return n;
}

/* Tells the outlook what came into the heap (sign 1) or was taken out of it (-1). */
static void account(const idx_finder *f, lists *l, near_list at, int sign)
{
    const idx_parts *p = f->c->segments[at.segment]->parts;
    uint32_t n = rows_of(f, l, at);
    float cosine = l->of[at.segment].cosine[at.at < p->n_groups ? at.at : 0]; /* of a group */
    double rows = (double)n * sign;
    l->left += sign > 0 ? n : -(uint64_t)n;
    if (p->near == NULL) return; /* it is read first */
    if (l->found && l->of[at.segment].places == NULL) rows *= (double)f->plan_query.matches / (f->c->live_items + 1.0);
    if (at.group) idx_outlook_add_group(&l->outlook, cosine * p->spread[at.at], deviation(p, at.at, cosine), rows);
    else idx_outlook_add(&l->outlook, at.score, rows);
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
        if (rows_of(f, l, (near_list){0, group.segment, at, false}) > 0) rows[n++] = at;
        if (n < IDX_BATCH && at + 1 < p->group_start[group.at + 1]) continue;
        if (p->near != NULL) idx_probe_near(&probe, rows, n, score);
        for (uint32_t k = 0; k < n; k++) {
            near_list list = {score[k], group.segment, rows[k], false};
            account(f, l, list, 1);
            push(l, list);
        }
        f->distances += n;
        n = 0;
    }
    return st;
}

static idx_status lists_room(idx_finder *f, lists *l)
{
    const idx_cat *c = f->c;
    size_t most = 1, groups = 0; /* lists and groups: there are at most as many of these */
    for (uint32_t s = 0; s < c->n_segments; s++) {
        most += c->segments[s]->parts != NULL ? 2 * c->segments[s]->parts->n_lists : 0;
        groups += c->segments[s]->parts != NULL ? c->segments[s]->parts->n_groups : 0;
    }
    l->of = calloc(c->n_segments + 1u, sizeof *l->of);
    l->scratch = idx_scratch_take(0);
    l->h = l->scratch != NULL ? idx_scratch_room(l->scratch, most * sizeof *l->h + groups * sizeof(float)) : NULL;
    if (l->of == NULL || l->h == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
    float *cosine = (float *)(void *)(l->h + most);
    for (uint32_t s = 0; s < c->n_segments; s++) {
        l->of[s].cosine = cosine;
        cosine += c->segments[s]->parts != NULL ? c->segments[s]->parts->n_groups : 0;
    }
    return IDX_OK;
}

/* Those that an earlier search found, if they are all there. */
static void recall_places(const idx_finder *f, lists *l)
{
    const idx_cat *c = f->c;
    l->found = l->marked = l->countable = true;
    for (uint32_t s = 0; s < c->n_segments; s++) {
        const idx_parts *p = c->segments[s]->parts;
        if (p == NULL || p->place_of == NULL) continue;
        l->of[s].places = idx_match_places_in(f->match, p);
        l->found = l->found && l->of[s].places != NULL;
        l->marked = l->marked && marks_of(l, s) != NULL;
        l->countable = l->countable && p->list_of != NULL;
    }
    for (uint32_t s = 0; !l->found && s < c->n_segments; s++) l->of[s].places = NULL;
}

static idx_status lists_init(idx_finder *f, lists *l)
{
    const idx_cat *c = f->c;
    idx_status st = lists_room(f, l);
    if (st != IDX_OK) return st;
    idx_outlook_init(&l->outlook, f->dim);
    recall_places(f, l);
    for (uint32_t s = 0; s < c->n_segments; s++) {
        const idx_parts *p = c->segments[s]->parts;
        for (uint32_t g = 0; p != NULL && g < p->n_groups; g++) {
            float cosine = p->near != NULL ? idx_dot(f->query, p->group_centroid + (size_t)g * f->dim, f->dim) : 1;
            l->of[s].cosine[g] = cosine;
            near_list group = {p->near != NULL ? cosine * p->spread[g] + BEST * deviation(p, g, cosine) : INFINITY, s, g, true};
            if (rows_of(f, l, group) == 0) continue;
            account(f, l, group, 1);
            l->h[l->n++] = group;
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
    if (at.group) return;
    const uint32_t *what = marks_of(l, at.segment) != NULL ? p->row : p->item;
    for (uint32_t j = p->start[at.at]; j < p->start[at.at + 1]; j += 16) __builtin_prefetch(&what[j]);
}

/* The matches among places from..to - 1, at most as many as there is room for. */
static void ask(idx_finder *f, const idx_segment *g, lists *l, uint32_t from, uint32_t to)
{
    uint32_t *place = l->place + l->n_places, none = f->matches.n_words * 64; /* whose word is there, and clear */
    uint32_t n = g->v->k->members(f->matches.w, none, g->parts->item + from, to - from, place);
    for (uint32_t i = 0; i < n; i++) place[i] += from;
    l->n_places += n;
    double keep = to - from < LATELY ? 1 - (double)(to - from) / LATELY : 0;
    l->lately = l->lately * keep + (to - from);
    l->matched = l->matched * keep + n;
    f->tests += to - from;
}

/* From places to rows to their scores. */
static idx_status compare(idx_finder *f, const idx_segment *g, lists *l)
{
    const idx_parts *p = g->parts;
    idx_batch b = {.g = g, .outlook = p->near != NULL ? &l->outlook : NULL};
    for (uint32_t i = 0; i < l->n_places; i++) {
        __builtin_prefetch(&p->row[l->place[i]]);
        __builtin_prefetch(&p->item[l->place[i]]);
    }
    for (uint32_t i = 0; i < l->n_places; i++) {
        b.row[b.n] = p->row[l->place[i]];
        b.item[b.n] = p->item[l->place[i]];
        b.list_score[b.n] = l->score[i];
        b.n += g->dead == 0 || idx_bit(g->alive, b.row[b.n]); /* it may have died since */
    }
    l->compared += b.n;
    l->n_places = 0;
    return idx_batch_flush(f, &b);
}

/* The matches of one list. */
static idx_status read_list(idx_finder *f, lists *l, near_list at)
{
    const idx_segment *g = f->c->segments[at.segment];
    const idx_places *places = marks_of(l, at.segment);
    idx_status st = IDX_OK;
    for (uint32_t from = g->parts->start[at.at], end = g->parts->start[at.at + 1], to; st == IDX_OK && from < end; from = to) {
        uint32_t before = l->n_places, room = IDX_BATCH - before;
        to = end - from > room ? from + room : end;
        if (places != NULL) l->n_places += idx_places_in(places, from, to, l->place + before);
        else ask(f, g, l, from, to);
        for (uint32_t i = before; i < l->n_places; i++) l->score[i] = at.score;
        if (l->n_places >= (l->compared < 4 * ENOUGH ? ENOUGH : MANY)) st = compare(f, g, l);
    }
    return st;
}

/* The matches of a list and of those that follow it in the same segment, until they are enough to be fetched side by side. */
static idx_status read_some(idx_finder *f, lists *l, near_list at, uint32_t *n_lists)
{
    uint64_t before = f->distances, until = f->tests + ASK;
    for (*n_lists = 1;; at = pop(l), ++*n_lists) {
        if (l->n > 0) prefetch_list(f, l, l->h[0]);
        account(f, l, at, -1);
        idx_status st = read_list(f, l, at);
        if (st != IDX_OK) return st;
        if (f->distances > before || l->n == 0 || l->h[0].group || l->h[0].segment != at.segment || f->tests >= until || *n_lists == LOOK) break;
    }
    return compare(f, f->c->segments[at.segment], l);
}

/* ---- all lists ------------------------------------------------------------------------------------------------------ */

/* From here on lists are known to hold matches or not, and those without any are out. */
static idx_status find_places(idx_finder *f, lists *l, bool counts)
{
    const idx_cat *c = f->c;
    bool was = l->found;
    l->found = l->marked = true;
    for (uint32_t s = 0; s < c->n_segments; s++) {
        const idx_parts *p = c->segments[s]->parts;
        if (p == NULL || p->place_of == NULL) continue;
        if ((l->of[s].places = idx_match_find_places(f->c, f->match, p, counts)) == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
        l->marked = l->marked && marks_of(l, s) != NULL;
    }
    if (was) return IDX_OK;
    uint32_t kept = 0;
    l->left = 0;
    idx_outlook_clear(&l->outlook);
    for (uint32_t i = 0; i < l->n; i++) {
        if (rows_of(f, l, l->h[i]) == 0) continue;
        account(f, l, l->h[i], 1);
        l->h[kept++] = l->h[i];
    }
    l->n = kept;
    make_heap(l);
    return IDX_OK;
}

/* Matches in what was not read that are expected to be better than those at hand. */
static double expected(const idx_finder *f, const lists *l)
{
    double share = 1, all = idx_plan_images(f->c, &f->plan_query), left = (double)l->left;
    if (!l->found) share = fmax((all - (double)l->compared) / fmax(left, 1), l->matched / fmax(l->lately, 1));
    return fmin(fmax(share, 1 / fmax(left, 1)), 1) * idx_outlook_better(&l->outlook, idx_pool_floor_of_best(&f->pool));
}

/* The nearest lists first, until those that are left promise next to nothing. */
idx_status idx_read_lists(idx_finder *f)
{
    const idx_cat *c = f->c;
    double few = idx_plan_list_misses(&f->plan_query) * f->pool.k;
    uint64_t read = 0, first_test = f->tests, judged = 0, counted_tests = f->tests, counted_compared = 0;
    lists l = {0};
    idx_status st = lists_init(f, &l);
    while (st == IDX_OK && l.n > 0) {
        if (l.compared > judged && f->pool.n_best == f->pool.k && l.h[0].score < INFINITY && expected(f, &l) < few) break;
        judged = l.compared;
        idx_plan_find find = l.marked ? IDX_FIND_NOTHING
                                      : idx_plan_find_places(c, &f->plan_query, l.countable && !l.found, f->tests - counted_tests, l.compared - counted_compared,
                                                             f->match->asked + (counted_tests - first_test));
        if (find != IDX_FIND_NOTHING) {
            if ((st = find_places(f, &l, find == IDX_FIND_COUNTS)) != IDX_OK || l.n == 0) break;
            counted_tests = f->tests;
            counted_compared = l.compared;
        }
        near_list next = pop(&l);
        if (next.group) {
            account(f, &l, next, -1);
            st = open_group(f, &l, next);
            continue;
        }
        uint32_t n_lists;
        st = read_some(f, &l, next, &n_lists);
        f->segments += !l.of[next.segment].seen;
        l.of[next.segment].seen = true;
        read += n_lists;
        if (st == IDX_OK && read >= 64) st = idx_late(f), read = 0;
    }
    f->match->asked += f->tests - first_test;
    f->all_seen = st == IDX_OK && l.n == 0;
    lists_fini(&l);
    return st;
}
