/* search.c: a query -> the best items. Candidates come from the fresh rows (all of them), the graphs (as many as prove
 * enough), or, with few matches of a filter, from the matches themselves; every candidate item is scored exactly over
 * all its images, so an item shows once, with its best image, in an order that does not depend on where it was found. */
#include "filter.h"
#include "dot.h"
#include "index_priv.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Below this many matching images a scan of them is cheaper than a graph search among them, and exact. */
#define SCAN_IMAGES 20000u

typedef struct {
    float score;
    uint32_t item, image;
} found;

typedef struct {
    idx_cat *c;
    const idx_query *q;
    idx_bits matches;   /* of the filter, .w NULL = everything */
    uint64_t n_matches; /* items */
    uint32_t skip;             /* the excluded item */
    found *heap;               /* the worst of the kept ones on top */
    uint32_t n, want;
    uint32_t *seen, seen_mask, n_seen; /* items with several images: item + 1 */
    float *room;
    uint64_t distances;
    idx_error *err;
} search;

static bool better(const search *s, const found *a, const found *b)
{
    if (a->score != b->score) return a->score > b->score;
    return strcmp(s->c->items[a->item].id, s->c->items[b->item].id) < 0;
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

/* First visit of an item? A scan meets items of several images again, a graph asked for more meets all again. */
static bool first_visit(search *s, uint32_t item)
{
    if ((s->n_seen + 1) * 2 > s->seen_mask) {
        uint32_t mask = s->seen_mask * 2 + 1, *table = calloc((size_t)mask + 1, sizeof *table);
        if (table == NULL) return true; /* drop_doubles() is the second line */
        for (uint32_t k = 0; s->seen != NULL && k <= s->seen_mask; k++) {
            if (s->seen[k] == 0) continue;
            uint32_t i = s->seen[k] * 2654435761u & mask;
            while (table[i] != 0) i = (i + 1) & mask;
            table[i] = s->seen[k];
        }
        free(s->seen);
        s->seen = table;
        s->seen_mask = mask;
    }
    uint32_t i = (item + 1) * 2654435761u & s->seen_mask;
    for (; s->seen[i] != 0; i = (i + 1) & s->seen_mask)
        if (s->seen[i] == item + 1) return false;
    s->seen[i] = item + 1;
    s->n_seen++;
    return true;
}

/* again: this pass may come to the item a second time even if it has one image. */
static void consider(search *s, uint32_t item, bool again)
{
    const idx_mem_item *it = &s->c->items[item];
    if (item == s->skip || ((again || it->n_images > 1) && !first_visit(s, item))) return;
    found f = {-INFINITY, item, 0};
    for (uint32_t i = 0; i < it->n_images; i++) {
        const float *v = idx_cat_vector(s->c, it->images[i], s->room);
        if (v == NULL) continue;
        float score = idx_dot(s->q->embedding, v, s->q->dim);
        s->distances++;
        if (score > f.score) f.score = score, f.image = s->c->images[it->images[i]].n;
    }
    if (f.score > 1) f.score = 1; /* rounding of unit vectors */
    if (!(f.score >= s->q->min_score)) return;
    if (s->q->after) {
        if (f.score > s->q->after_score || (f.score == s->q->after_score && strcmp(it->id, s->q->after_id) <= 0)) return;
    }
    keep(s, f);
}

static idx_status late(const search *s)
{
    if (s->q->deadline_ns == 0 || idx_mono_ns() < s->q->deadline_ns) return IDX_OK;
    return idx_fail(s->err, IDX_EDEADLINE, "the deadline passed while searching");
}

static bool wanted(const search *s, uint32_t item) { return s->matches.w == NULL || idx_bit(s->matches.w, item); }

static idx_status scan_matches(search *s)
{
    idx_bits_iter it = idx_bits_begin(s->matches);
    idx_status st = IDX_OK;
    uint32_t k = 0;
    for (uint32_t item; st == IDX_OK && idx_bits_next(&it, &item);) {
        consider(s, item, false);
        if (++k % 1024 == 0) st = late(s);
    }
    return st;
}

static idx_status scan_all(search *s)
{
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < s->c->n_items; i++) {
        if (s->c->items[i].id != NULL && wanted(s, i)) consider(s, i, false);
        if (i % 1024 == 1023) st = late(s);
    }
    return st;
}

static idx_status scan_fresh(search *s)
{
    idx_status st = IDX_OK;
    for (uint32_t r = 0; st == IDX_OK && r < s->c->fresh_rows; r++) {
        uint32_t im = s->c->fresh_image[r];
        if (im != IDX_NONE && wanted(s, s->c->images[im].item)) consider(s, s->c->images[im].item, false);
        if (r % 1024 == 1023) st = late(s);
    }
    return st;
}

/* Rows of a segment that may show, as a bit map; NULL *map = all of them. */
static idx_status permitted(const search *s, const idx_segment *g, uint8_t **map, uint32_t *count)
{
    *map = NULL;
    *count = g->rows - g->dead;
    if (g->dead == 0 && s->matches.w == NULL) return IDX_OK;
    *map = calloc(g->rows / 8 + 1u, 1);
    if (*map == NULL) return idx_fail(s->err, IDX_ENOMEM, "no memory for a search");
    *count = 0;
    for (uint32_t r = 0; r < g->rows; r++) {
        if (g->image[r] == IDX_NONE || !wanted(s, s->c->images[g->image[r]].item)) continue;
        (*map)[r / 8] = (uint8_t)((*map)[r / 8] | 1u << r % 8);
        ++*count;
    }
    return IDX_OK;
}

static void scan_permitted(search *s, const idx_segment *g, const uint8_t *map)
{
    for (uint32_t r = 0; r < g->rows; r++)
        if (g->image[r] != IDX_NONE && (map == NULL || map[r / 8] >> r % 8 & 1)) consider(s, s->c->images[g->image[r]].item, true);
}

/* Asks the graph for more and more until what it has not shown cannot be better than what is kept. */
static idx_status search_segment(search *s, const idx_segment *g, uint32_t ef)
{
    uint8_t *map;
    uint32_t count;
    idx_status st = permitted(s, g, &map, &count);
    if (st != IDX_OK || count == 0) {
        free(map);
        return st;
    }
    double share = (double)count / g->rows; /* the walk meets that many useful rows: look further accordingly */
    float *scores = NULL;
    int64_t *labels = NULL;
    for (uint32_t k = s->want * 2 + 16;; k *= 4) {
        if (k > count) k = count;
        double wide = (k > ef ? k : ef) / fmax(share, 0.02);
        float *sc = realloc(scores, k * sizeof *sc);
        if (sc != NULL) scores = sc;
        int64_t *la = realloc(labels, k * sizeof *la);
        if (la != NULL) labels = la;
        if (sc == NULL || la == NULL) {
            st = idx_fail(s->err, IDX_ENOMEM, "no memory for a search");
            break;
        }
        st = idx_ann_search(g->ann, s->q->embedding, k, (uint32_t)fmin(wide, g->rows), map, scores, labels, s->err);
        if (st != IDX_OK) break;
        uint32_t got = 0;
        for (uint32_t i = 0; i < k; i++) {
            if (labels[i] < 0 || labels[i] >= (int64_t)g->rows) continue;
            uint32_t im = g->image[labels[i]];
            got++;
            if (im != IDX_NONE) consider(s, s->c->images[im].item, true);
        }
        s->distances += (uint64_t)wide;
        float last = got > 0 ? scores[got - 1] : -INFINITY;
        bool enough = s->n == s->want && last <= s->heap[0].score + 1e-6f;
        if ((k == count && got == count) || (got == k && (enough || last < s->q->min_score))) break;
        if ((st = late(s)) != IDX_OK) break;
        /* Fewer than asked for, though there are more: rows that no path leads to, as happens among many equal photos. Or so
         * deep that reading everything is the better way. */
        if (got < k || k > 4096) {
            scan_permitted(s, g, map);
            break;
        }
    }
    free(scores);
    free(labels);
    free(map);
    return st;
}

static int by_rank(const void *a, const void *b, void *ctx)
{
    const search *s = ctx;
    const found *x = a, *y = b;
    return better(s, x, y) ? -1 : better(s, y, x) ? 1 : 0;
}

/* Only after first_visit() found no memory. */
static void drop_doubles(search *s)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n; i++)
        if (i == 0 || s->heap[i].item != s->heap[n - 1].item) s->heap[n++] = s->heap[i];
    s->n = n;
}

static idx_status walk(search *s, uint32_t ef, const char **plan)
{
    if (s->matches.w != NULL && (s->n_matches <= SCAN_IMAGES || s->q->exact)) {
        *plan = "scan";
        return scan_matches(s);
    }
    if (s->q->exact || s->c->n_segments == 0) {
        *plan = "flat";
        return scan_all(s);
    }
    *plan = s->matches.w != NULL ? "hnsw+filter" : "hnsw";
    idx_status st = scan_fresh(s);
    for (uint32_t i = 0; st == IDX_OK && i < s->c->n_segments; i++) st = search_segment(s, s->c->segments[i], ef);
    return st;
}

/* Under the shared lock: everything that reads the catalogue. Copies ids out. */
static idx_status search_locked(search *s, const idx_filter *filter, uint32_t ef, idx_result *r)
{
    if (s->q->exclude_item != NULL) s->skip = idx_cat_find(s->c, s->q->exclude_item);
    idx_status st = filter != NULL ? idx_filter_eval(filter, s->c->attrs, &s->matches, s->err) : IDX_OK;
    if (st == IDX_OK && filter != NULL) s->n_matches = idx_bits_count(s->matches.w, s->matches.n_words);
    const char *plan = "flat";
    if (st == IDX_OK) st = walk(s, ef, &plan);
    if (st != IDX_OK) return st;
    qsort_r(s->heap, s->n, sizeof *s->heap, by_rank, s);
    drop_doubles(s);
    snprintf(r->plan, sizeof r->plan, "%s", plan);
    r->matches = s->matches.w != NULL ? s->n_matches : s->c->live_images;
    r->distances = s->distances;
    r->generation = s->c->row.info.generation;
    r->more = s->n > s->q->limit;
    r->hits = calloc(s->n + 1u, sizeof *r->hits);
    if (r->hits == NULL) return idx_fail(s->err, IDX_ENOMEM, "no memory for results");
    for (uint32_t i = 0; i < s->n && i < s->q->limit; i++) {
        idx_hit *h = &r->hits[r->n++];
        h->id = strdup(s->c->items[s->heap[i].item].id);
        h->score = s->heap[i].score;
        h->image = s->heap[i].image;
        if (h->id == NULL) return idx_fail(s->err, IDX_ENOMEM, "no memory for results");
    }
    return IDX_OK;
}

/* Attributes come from the store; an item deleted since is left out. */
static idx_status fill_in(idx *ix, const idx_cat *c, idx_result *r, idx_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        idx_item *it = NULL;
        idx_error why = {0};
        idx_hit h = r->hits[i];
        idx_status st = idx_store_item_get(ix->store, c->row.id, h.id, &it, &why);
        if (st == IDX_OK && h.image < it->n_images) {
            h.attributes = it->attributes;
            it->attributes = NULL;
            h.n_images = it->n_images;
            h.width = it->images[h.image].width;
            h.height = it->images[h.image].height;
            memcpy(h.sha256, it->images[h.image].sha256, sizeof h.sha256);
            r->hits[n++] = h;
        } else {
            free(h.id);
        }
        idx_item_free(it);
        if (st != IDX_OK && st != IDX_ENOTFOUND) {
            for (size_t k = i + 1; k < r->n; k++) free(r->hits[k].id);
            r->n = n;
            if (err != NULL && err->status == IDX_OK) *err = why;
            return st;
        }
    }
    r->n = n;
    return IDX_OK;
}

static idx_status check_query(const idx_cat *c, const idx_query *q, idx_error *err)
{
    if (q->limit < 1 || q->limit > 1000) return idx_fail(err, IDX_EINVAL, "limit is %" PRIu32 "; 1 to 1000 are allowed", q->limit);
    if (q->dim != c->row.info.dim || (q->fingerprint[0] != 0 && strcmp(q->fingerprint, c->row.info.fingerprint) != 0))
        return idx_fail(err, IDX_EMODEL, "catalogue %s holds embeddings of model %.60s (%.12s), not of this one", c->row.info.name, c->row.info.model,
                        c->row.info.fingerprint);
    double norm = 0;
    for (uint32_t i = 0; i < q->dim; i++) norm += (double)q->embedding[i] * (double)q->embedding[i];
    return fabs(norm - 1) < 1e-3 ? IDX_OK : idx_fail(err, IDX_EINVAL, "the query's embedding has the squared length %g, not 1", norm);
}

idx_status idx_search(idx *ix, const char *catalogue, const idx_query *q, idx_result **out, idx_error *err)
{
    idx_cat *c = idx_take_cat(ix, catalogue, err);
    if (c == NULL) return IDX_ENOTFOUND;
    idx_filter *filter = NULL;
    idx_status st = check_query(c, q, err);
    if (st == IDX_OK && q->filter != NULL && q->filter[0] != 0) st = idx_filter_parse(q->filter, &filter, err);
    search s = {.c = c, .q = q, .skip = IDX_NONE, .want = q->limit + 1, .err = err};
    idx_result *r = NULL;
    if (st == IDX_OK) {
        s.heap = malloc((s.want + 1u) * sizeof *s.heap);
        s.room = malloc(q->dim * sizeof *s.room);
        r = calloc(1, sizeof *r);
        if (s.heap == NULL || s.room == NULL || r == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a search");
    }
    if (st == IDX_OK) {
        pthread_rwlock_rdlock(&c->lock);
        st = search_locked(&s, filter, q->ef_search != 0 ? q->ef_search : ix->opts.ef_search, r);
        pthread_rwlock_unlock(&c->lock);
    }
    if (st == IDX_OK) st = fill_in(ix, c, r, err);
    idx_filter_free(filter);
    free(s.matches.w);
    free(s.heap);
    free(s.seen);
    free(s.room);
    idx_give_cat(ix, c);
    if (st != IDX_OK) idx_result_free(r);
    else *out = r;
    return st;
}

void idx_result_free(idx_result *r)
{
    if (r == NULL) return;
    for (size_t i = 0; r->hits != NULL && i < r->n; i++) {
        free(r->hits[i].id);
        free(r->hits[i].attributes);
    }
    free(r->hits);
    free(r);
}
