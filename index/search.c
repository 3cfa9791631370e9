/* search.c: a query -> the best items. candidates.c finds rows worth a closer look; here every item of theirs is scored exactly
 * over all its images, so that it shows once, with its best image, in an order that does not depend on where it was found. More
 * candidates are asked for until what was not seen cannot be better than what is kept. */
#include "facet.h"
#include "filter.h"
#include "search.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    float score;
    uint32_t item, image;
} found;

typedef struct {
    idx_finder f;
    const idx_query *q;
    bool cursor;    /* items up to q->after_* are left out */
    uint32_t skip;  /* the excluded item */
    found *heap;    /* the worst of the kept ones on top */
    uint32_t n, want;
    uint32_t *seen, seen_mask, n_seen; /* items looked at: item + 1 */
    uint64_t passing;                  /* of them, those with min_score */
    bool below;                        /* one had less: all that follow have */
    bool compared_all;                 /* the pool holds the best rows there are */
} search;

static bool better(const search *s, const found *a, const found *b)
{
    if (a->score != b->score) return a->score > b->score;
    return strcmp(idx_item_id(s->f.c, a->item), idx_item_id(s->f.c, b->item)) < 0;
}

static void sift_down(search *s, uint32_t i)
{
    for (;;) {
        uint32_t worst = i, l = 2 * i + 1, r = l + 1;
        if (l < s->n && better(s, &s->heap[worst], &s->heap[l])) worst = l;
        if (r < s->n && better(s, &s->heap[worst], &s->heap[r])) worst = r;
        if (worst == i) return;
        found t = s->heap[i];
        s->heap[i] = s->heap[worst];
        s->heap[worst] = t;
        i = worst;
    }
}

static void keep(search *s, found f)
{
    if (s->n < s->want) {
        uint32_t i = s->n++;
        s->heap[i] = f;
        while (i > 0 && better(s, &s->heap[(i - 1) / 2], &s->heap[i])) {
            found t = s->heap[i];
            s->heap[i] = s->heap[(i - 1) / 2];
            s->heap[(i - 1) / 2] = t;
            i = (i - 1) / 2;
        }
    } else if (better(s, &f, &s->heap[0])) {
        s->heap[0] = f;
        sift_down(s, 0);
    }
}

static bool first_visit(search *s, uint32_t item)
{
    uint32_t i = (item + 1) * 2654435761u & s->seen_mask;
    for (; s->seen[i] != 0; i = (i + 1) & s->seen_mask)
        if (s->seen[i] == item + 1) return false;
    s->seen[i] = item + 1;
    return true;
}

/* known: the score of a row of it, and so of the item if it has no other image. */
static void consider(search *s, uint32_t item, float known)
{
    idx_cat *c = s->f.c;
    const idx_mem_item *it = &c->items[item];
    if (item == s->skip || !idx_item_lives(c, item, s->f.newest) || !first_visit(s, item)) return;
    found f = {it->n_images == 1 ? known : -INFINITY, item, 0};
    for (uint32_t i = 0; it->n_images > 1 && i < it->n_images; i++) {
        idx_place place = idx_item_place(it, i);
        const idx_segment *g = idx_place_segment(c, place);
        idx_probe p;
        if (idx_finder_probe(&s->f, g->v, &p) != IDX_OK) continue;
        float score = idx_probe_score(&p, idx_rows_at(g->v, place.row));
        s->f.distances++;
        if (score > f.score) f.score = score, f.image = i;
    }
    if (f.score > 1) f.score = 1; /* rounding of unit vectors */
    if (!(f.score >= s->q->min_score)) {
        s->below = true;
        return;
    }
    s->passing++;
    if (s->cursor && (f.score > s->q->after_score || (f.score == s->q->after_score && strcmp(idx_item_id(c, item), s->q->after_id) <= 0))) return;
    keep(s, f);
}

static int by_place(const void *a, const void *b, void *finder)
{
    const idx_candidate *x = a, *y = b;
    return idx_candidate_first(finder, *x, *y) ? -1 : idx_candidate_first(finder, *y, *x) ? 1 : 0;
}

/* The pool's items, each scored exactly. False = no memory. */
static bool rank(search *s)
{
    idx_pool *p = &s->f.pool;
    uint32_t mask = 15;
    while (mask < 2 * p->n) mask = mask * 2 + 1;
    free(s->seen);
    s->seen = calloc(mask + 1u, sizeof *s->seen);
    if (s->seen == NULL) return false;
    s->seen_mask = mask;
    s->n = 0;
    s->passing = 0;
    s->below = false;
    for (uint32_t i = 0; i < p->n; i++) __builtin_prefetch(&s->f.c->items[p->heap[i].item]); /* all of them before one is waited for */
    qsort_r(p->heap, p->n, sizeof *p->heap, by_place, &s->f); /* no heap any more: the next idx_find() begins with an empty one */
    for (uint32_t i = 0; i < p->n; i++) consider(s, p->heap[i].item, p->heap[i].score);
    return true;
}

/* Is there nothing better beyond the pool? Its last row is the best that others can be. Of equals the pool holds the first by id when all rows
 * were compared; a walk or lists may have met any of them. */
static bool enough(const search *s)
{
    const idx_pool *p = &s->f.pool;
    if (!p->overflowed && s->f.all_seen) return true;
    if (p->n == 0) return true;
    if (s->q->exact && s->q->min_score >= -1 && !s->below) return false; /* those that pass are counted to the last */
    idx_candidate last = p->heap[p->n - 1];
    if (s->n < s->want) return s->below && last.score < s->q->min_score;
    idx_candidate kept = {s->heap[0].score, s->heap[0].item};
    return last.score < kept.score || (last.score == kept.score && s->compared_all && !idx_candidate_first(&s->f, last, kept));
}

/* Rows that `want` items have, if they have as many images as others; at most `room`, which is not 0. */
static uint32_t rows_wanted(const idx_finder *f, uint64_t room)
{
    uint64_t rows = f->c->live_items > 0 ? ((uint64_t)f->plan_query.want * f->c->live_images + f->c->live_items - 1) / f->c->live_items : 1;
    return (uint32_t)(rows < room ? rows : room);
}

/* The best `want` items into the heap. */
static idx_status top(search *s, idx_plan *plan)
{
    enum { DEEP = 4096, TIED = 1024 }; /* rows, from which on reading everything is the better way */
    idx_finder *f = &s->f;
    f->plan_query.want = s->want + (s->cursor ? s->q->depth : 0);
    *plan = idx_plan_choose(f->c, &f->plan_query);
    uint64_t room = idx_plan_room(&f->plan_query);
    for (;; room *= 4) {
        if (room > f->c->live_images + 1u) room = f->c->live_images + 1u;
        uint32_t k = rows_wanted(f, room);
        idx_candidate *heap = realloc(f->pool.heap, room * sizeof *heap + k * sizeof *f->pool.best);
        if (heap == NULL) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
        f->pool = (idx_pool){.heap = heap, .room = (uint32_t)room, .best = (float *)(void *)(heap + room), .k = k};
        idx_status st = idx_find(f, *plan);
        if (st != IDX_OK) return st;
        if (!rank(s)) return idx_fail(f->err, IDX_ENOMEM, "no memory for a search");
        s->compared_all = *plan == IDX_PLAN_FLAT || *plan == IDX_PLAN_SCAN;
        if (enough(s) || room > f->c->live_images) return IDX_OK;
        bool tied = s->n == s->want && f->pool.heap[f->pool.n - 1].score == s->heap[0].score; /* so many are equal that it matters which are first */
        if ((*plan == IDX_PLAN_GRAPH && room > DEEP) || (tied && room > TIED)) *plan = f->matches.w != NULL ? IDX_PLAN_SCAN : IDX_PLAN_FLAT;
        f->plan_query.want *= 4;
    }
}

static int by_rank(const void *a, const void *b, void *ctx)
{
    const search *s = ctx;
    const found *x = a, *y = b;
    return better(s, x, y) ? -1 : better(s, y, x) ? 1 : 0;
}

/* ---- facets ---------------------------------------------------------------------------------------------------- */

/* Over all matches, without the excluded item. */
static idx_status facets_of_matches(search *s, idx_bits *over, uint64_t *n)
{
    idx_bits all = s->f.matches.w != NULL ? s->f.matches : idx_attrs_items(s->f.c->attrs);
    if (!idx_bits_new(over, all.n_words * 64)) return idx_fail(s->f.err, IDX_ENOMEM, "no memory for facets");
    if (all.n_words > 0) memcpy(over->w, all.w, all.n_words * sizeof *all.w);
    *n = s->f.matches.w != NULL ? s->f.plan_query.matches : s->f.c->live_items;
    if (s->skip == IDX_NONE || !idx_bit(over->w, s->skip)) return IDX_OK;
    idx_bit_clear(over->w, s->skip);
    --*n;
    return IDX_OK;
}

/* Over the best of them. The heap holds them already on the first page. */
static idx_status facets_of_top(search *s, idx_bits *over, uint64_t *n)
{
    search t = *s;
    uint32_t most = s->q->facets_top;
    idx_plan plan;
    idx_status st = IDX_OK;
    if (!idx_bits_new(over, idx_attrs_items(s->f.c->attrs).n_words * 64)) return idx_fail(s->f.err, IDX_ENOMEM, "no memory for facets");
    if (s->cursor) {
        t.cursor = false;
        t.want = most;
        t.f.pool.heap = NULL;
        t.seen = NULL;
        t.heap = malloc(most * sizeof *t.heap);
        st = t.heap == NULL ? idx_fail(s->f.err, IDX_ENOMEM, "no memory for facets") : top(&t, &plan);
        s->f.distances = t.f.distances;
        memcpy(s->f.probe, t.f.probe, sizeof t.f.probe);
        memcpy(s->f.probe_room, t.f.probe_room, sizeof t.f.probe_room);
        s->f.coarse_slack = t.f.coarse_slack;
        s->f.tests = t.f.tests;
    }
    for (*n = 0; st == IDX_OK && *n < most && *n < t.n; ++*n) idx_bit_set(over->w, t.heap[*n].item);
    if (!s->cursor) return st;
    free(t.heap);
    free(t.seen);
    free(t.f.pool.heap);
    return st;
}

static idx_status count_facets(search *s, idx_result *r)
{
    if (s->q->n_facets == 0) return IDX_OK;
    idx_bits over = {0};
    idx_status st = s->q->facets_top > 0 ? facets_of_top(s, &over, &r->facet_items) : facets_of_matches(s, &over, &r->facet_items);
    r->facets = st == IDX_OK ? calloc(s->q->n_facets, sizeof *r->facets) : NULL;
    if (st == IDX_OK && r->facets == NULL) st = idx_fail(s->f.err, IDX_ENOMEM, "no memory for facets");
    for (size_t i = 0; st == IDX_OK && i < s->q->n_facets; i++) {
        st = idx_facet_count(s->f.c->attrs, over, r->facet_items, &s->q->facets[i], &r->facets[i], s->f.err);
        r->n_facets++;
    }
    idx_bits_free(&over);
    return st;
}

/* ---- one search --------------------------------------------------------------------------------------------------- */

static void count_total(const search *s, idx_result *r)
{
    bool skipped = s->skip != IDX_NONE && (s->f.matches.w == NULL || idx_bit(s->f.matches.w, s->skip));
    r->total_exact = s->q->min_score < -1 || (s->f.all_seen && !s->f.pool.overflowed) || (s->compared_all && s->below);
    r->total = s->q->min_score < -1 ? r->matches - skipped : s->passing;
}

/* Copies ids out. */
static idx_status take_hits(search *s, idx_result *r)
{
    r->hits = calloc(s->n + 1u, sizeof *r->hits);
    if (r->hits == NULL) return idx_fail(s->f.err, IDX_ENOMEM, "no memory for results");
    r->more = s->n > s->q->limit;
    for (uint32_t i = 0; i < s->n && i < s->q->limit; i++) __builtin_prefetch(idx_item_id(s->f.c, s->heap[i].item)); /* waited for once, not for each */
    for (uint32_t i = 0; i < s->n && i < s->q->limit; i++) {
        idx_hit *h = &r->hits[r->n++];
        h->id = strdup(idx_item_id(s->f.c, s->heap[i].item));
        h->score = s->heap[i].score;
        h->image = s->heap[i].image;
        h->rowid = s->f.c->items[s->heap[i].item].rowid;
        h->version = s->f.c->items[s->heap[i].item].version;
        if (h->id == NULL) return idx_fail(s->f.err, IDX_ENOMEM, "no memory for results");
    }
    return IDX_OK;
}

/* Under the shared lock: everything that reads the catalogue. */
static idx_status search_locked(search *s, bool filtered, idx_result *r)
{
    idx_finder *f = &s->f;
    idx_plan plan;
    uint64_t t = idx_mono_ns();
    f->newest = f->c->newest;
    if (s->q->exclude_item != NULL) s->skip = idx_cat_find(f->c, s->q->exclude_item);
    idx_status st = filtered ? idx_matches_take(f->c, s->q->filter, &f->match, f->err) : IDX_OK;
    if (st != IDX_OK) return st;
    if (filtered) f->matches = f->match->items;
    f->plan_query.matches = filtered ? f->match->n : f->c->live_items;
    r->filter_ns = idx_mono_ns() - t;
    r->generation = f->c->row.info.generation;
    r->matches = f->plan_query.matches;
    if (s->q->facets_top == 0) st = count_facets(s, r); /* before the lock may be given back */
    t = idx_mono_ns();
    if (st == IDX_OK) st = top(s, &plan);
    if (st != IDX_OK) return st;
    qsort_r(s->heap, s->n, sizeof *s->heap, by_rank, s);
    count_total(s, r);
    r->walk_ns = idx_mono_ns() - t;
    st = take_hits(s, r);
    if (st == IDX_OK && s->q->facets_top > 0) st = count_facets(s, r); /* may search again, and give back the lock */
    if (st != IDX_OK) return st;
    snprintf(r->plan, sizeof r->plan, "%s", idx_plan_name(plan, filtered));
    r->segments = f->segments;
    r->distances = f->distances;
    r->tests = f->tests;
    r->effort = f->plan_query.effort;
    r->instead = plan == IDX_PLAN_FLAT && idx_plan_is_flat(f->c, &f->plan_query);
    return IDX_OK;
}

/* ---- what is shown of the hits ------------------------------------------------------------------------------------ */

static void take_record(void *ctx, const idx_record *r)
{
    idx_hit *h = ctx;
    if (h->image >= r->n_images || (h->attributes = malloc(r->attributes_bytes + 1)) == NULL) return;
    memcpy(h->attributes, r->attributes, r->attributes_bytes + 1);
    idx_image_info image;
    idx_image_unpack(r->images + h->image * IDX_IMAGE_BYTES, &image);
    h->n_images = r->n_images;
    h->width = image.width;
    h->height = image.height;
    memcpy(h->sha256, image.sha256, sizeof h->sha256);
}

typedef struct {
    idx_records *records;
    idx_hit *hits;
    uint32_t *hit; /* [i] whose the i-th row is */
    idx_error *err;
} reading;

static idx_status take_row(void *ctx, size_t i, const idx_record *r)
{
    reading *g = ctx;
    idx_hit *h = &g->hits[g->hit[i]];
    take_record(h, r);
    if (h->attributes == NULL && h->image < r->n_images) return idx_fail(g->err, IDX_ENOMEM, "no memory for results");
    idx_records_add(g->records, h->rowid, h->version, r);
    return IDX_OK;
}

/* Attributes and images come from the records, or else from the store; a hit whose item or image was deleted since is left out. */
static idx_status fill_in(idx *ix, idx_result *r, idx_error *err)
{
    size_t missing = 0, n = 0;
    int64_t *rowids = malloc((r->n + 1) * (sizeof *rowids + sizeof(uint32_t)));
    if (rowids == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for results");
    reading g = {ix->records, r->hits, (uint32_t *)(rowids + r->n + 1), err};
    for (size_t i = 0; i < r->n; i++) rowids[i] = r->hits[i].rowid;
    idx_records_ahead(ix->records, rowids, r->n);
    for (uint32_t i = 0; i < r->n; i++) {
        idx_hit *h = &r->hits[i];
        if (idx_records_find(ix->records, h->rowid, h->version, take_record, h) && h->attributes != NULL) continue;
        rowids[missing] = h->rowid;
        g.hit[missing++] = i;
    }
    idx_status st = missing > 0 ? idx_store_records(ix->store, rowids, missing, take_row, &g, err) : IDX_OK;
    free(rowids);
    if (st != IDX_OK) return st;
    for (size_t i = 0; i < r->n; i++) {
        if (r->hits[i].attributes != NULL) r->hits[n++] = r->hits[i];
        else free(r->hits[i].id);
    }
    r->n = n;
    return IDX_OK;
}

static idx_status check_query(const idx_cat *c, const idx_query *q, idx_error *err)
{
    if (q->limit < 1 || q->limit > 1000) return idx_fail(err, IDX_EINVAL, "limit is %" PRIu32 "; 1 to 1000 are allowed", q->limit);
    if (q->facets_top > 1000) return idx_fail(err, IDX_EINVAL, "facets_top is %" PRIu32 "; up to 1000 are allowed", q->facets_top);
    if (q->dim != c->row.info.dim || (q->fingerprint[0] != 0 && strcmp(q->fingerprint, c->row.info.fingerprint) != 0))
        return idx_fail(err, IDX_EMODEL, "catalogue %s holds embeddings of model %.60s (%.12s), not of this one", c->row.info.name, c->row.info.model,
                        c->row.info.fingerprint);
    double norm = 0;
    for (uint32_t i = 0; i < q->dim; i++) norm += (double)q->embedding[i] * (double)q->embedding[i];
    if (!(fabs(norm - 1) < 1e-3)) return idx_fail(err, IDX_EINVAL, "the query's embedding has the squared length %g, not 1", norm);
    return idx_facets_check(q->facets, q->n_facets, err);
}

idx_status idx_search_in(idx_cat *c, const idx_query *q, void (*rest)(void *, uint64_t), void *rest_ctx, idx_result **out, idx_error *err)
{
    bool filtered = q->filter != NULL && q->filter[0] != 0;
    idx_status st = IDX_OK;
    uint32_t effort = q->ef_search != 0 ? q->ef_search : c->audit[filtered ? IDX_AUDIT_FILTERED : IDX_AUDIT_PLAIN].effort;
    search s = {.q = q, .cursor = q->after, .skip = IDX_NONE, .want = q->limit + 1,
                .f = {.c = c, .query = q->embedding, .dim = q->dim, .deadline_ns = q->deadline_ns, .rest = rest, .rest_ctx = rest_ctx, .err = err,
                      .plan_query = {.filtered = filtered, .exact = q->exact, .walk = q->walk, .effort = effort}}};
    if (q->n_facets > 0 && !q->after && q->facets_top > s.want) s.want = q->facets_top;
    idx_result *r = calloc(1, sizeof *r);
    s.heap = malloc((s.want + 1u) * sizeof *s.heap);
    if (s.heap == NULL || r == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a search");
    if (st == IDX_OK) {
        idx_cat_enter(c);
        st = search_locked(&s, filtered, r);
        pthread_rwlock_unlock(&c->lock);
    }
    idx_matches_give(c, s.f.match);
    free(s.f.pool.heap);
    free(s.heap);
    free(s.seen);
    idx_finder_fini(&s.f);
    if (st != IDX_OK) idx_result_free(r);
    else *out = r;
    return st;
}

static void hit_free(idx_hit *h)
{
    free(h->id);
    free(h->attributes);
}

/* Again, as hits were left out: for some more than are wanted, to fill the page with those behind. */
static idx_status search_wider(idx *ix, idx_cat *c, const idx_query *q, uint32_t more, idx_result **r, idx_error *err)
{
    idx_query wide = *q;
    wide.limit += more;
    idx_result_free(*r);
    *r = NULL;
    idx_status st = idx_search_in(c, &wide, NULL, NULL, r, err);
    if (st == IDX_OK) st = fill_in(ix, *r, err);
    if (st != IDX_OK) return st;
    (*r)->more |= (*r)->n > q->limit;
    while ((*r)->n > q->limit) hit_free(&(*r)->hits[--(*r)->n]);
    return IDX_OK;
}

idx_status idx_search(idx *ix, const char *catalogue, const idx_query *q, idx_result **out, idx_error *err)
{
    enum { MORE = 16, MOST = 1024 };
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_result *r = NULL;
    atomic_fetch_add_explicit(&ix->searches, 1, memory_order_relaxed);
    idx_status st = check_query(c, q, err);
    if (st == IDX_OK) st = idx_search_in(c, q, NULL, NULL, &r, err);
    if (st == IDX_OK) idx_audit_offer(c->audit, q, r);
    if (st == IDX_OK) st = fill_in(ix, r, err);
    for (uint32_t more = MORE; st == IDX_OK && r->more && r->n < q->limit && more <= MOST; more *= 4) st = search_wider(ix, c, q, more, &r, err);
    idx_give_cat(ix, c);
    if (st != IDX_OK) idx_result_free(r);
    else *out = r;
    return st;
}

void idx_result_free(idx_result *r)
{
    if (r == NULL) return;
    for (size_t i = 0; r->hits != NULL && i < r->n; i++) hit_free(&r->hits[i]);
    for (size_t i = 0; i < r->n_facets; i++) idx_facet_fini(&r->facets[i]);
    free(r->facets);
    free(r->hits);
    free(r);
}
