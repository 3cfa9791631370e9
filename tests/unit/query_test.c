/* Facets, totals, pages and plans against brute force, over items of several images and mixed attributes, in fresh rows and sealed
 * segments, with items replaced, patched and deleted along the way. query_test ROUNDS for longer runs. */
#include "../../index/dot.h"
#include "../../index/parts.h"
#include "index.h"
#include "test.h"

#include <jansson.h>
#include <pthread.h>
#include <unistd.h>

enum { DIM = 24, ITEMS = 3000, MAX_IMG = 4, CLUSTERS = 30 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 5;
static char dir[64];

static unsigned below(unsigned n) { return (unsigned)(test_rand(&seed) % n); }

typedef struct {
    bool there;
    int n, cluster;
    float v[MAX_IMG][DIM];
    json_t *attributes;
} known;
static known model[ITEMS];
static float centre[CLUSTERS][DIM];

static void unit(float *v)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) n += (double)v[i] * (double)v[i];
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void near_centre(float *v, int c)
{
    for (int i = 0; i < DIM; i++) v[i] = centre[c][i] + 0.5f * test_randf(&seed);
    unit(v);
}

static json_t *random_attributes(int cluster)
{
    json_t *o = json_object(), *tags = json_array();
    char text[32];
    snprintf(text, sizeof text, "b%u", below(12));
    if (below(10)) json_object_set_new(o, "brand", json_string(text));
    if (below(10)) json_object_set_new(o, "price", below(3) ? json_integer((json_int_t)below(100)) : json_real(below(1000) / 8.0));
    json_object_set_new(o, "cluster", json_integer(cluster));
    if (below(2)) json_object_set_new(o, "new", json_boolean(below(2)));
    for (unsigned n = below(4); n > 0; n--) {
        snprintf(text, sizeof text, "t%u", below(8));
        json_array_append_new(tags, json_string(text));
    }
    json_object_set_new(o, "tags", tags);
    if (below(8) == 0) json_object_set_new(o, "mixed", below(2) ? json_string("b1") : json_integer(below(3)));
    snprintf(text, sizeof text, "title %u", below(100000));
    json_object_set_new(o, "title", json_string(text));
    return o;
}

static void name_of(int i, char out[32]) { snprintf(out, 32, "item-%05d", i); }

static void put(idx *ix, int i)
{
    char id[32];
    known *k = &model[i];
    name_of(i, id);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    json_decref(k->attributes);
    k->there = true;
    k->cluster = (int)below(CLUSTERS);
    k->attributes = random_attributes(k->cluster);
    k->n = below(3) ? 1 : 1 + (int)below(MAX_IMG);
    op->attributes = json_dumps(k->attributes, JSON_COMPACT);
    op->dim = DIM;
    memcpy(op->fingerprint, fp, sizeof fp);
    op->n_images = (size_t)k->n;
    op->images = calloc(op->n_images, sizeof *op->images);
    for (int m = 0; m < k->n; m++) {
        near_centre(k->v[m], k->cluster);
        op->images[m].embedding = malloc(sizeof k->v[m]);
        memcpy(op->images[m].embedding, k->v[m], sizeof k->v[m]);
    }
    idx_error err = {0};
    if (idx_write_take(ix, op, NULL, &err) != IDX_OK) TEST_FAIL("put: %s", err.text);
}

static void patch(idx *ix, int i)
{
    char id[32];
    name_of(i, id);
    idx_op *op = idx_op_new(IDX_PATCH, "shop", id);
    json_t *p = json_pack("{s:i, s:n}", "price", (int)below(100), "brand");
    op->attributes = json_dumps(p, 0);
    CHECK_INT(idx_write_take(ix, op, NULL, NULL), model[i].there ? IDX_OK : IDX_ENOTFOUND);
    if (model[i].there) {
        json_object_set(model[i].attributes, "price", json_object_get(p, "price"));
        json_object_del(model[i].attributes, "brand");
    }
    json_decref(p);
}

static void drop(idx *ix, int i)
{
    char id[32];
    name_of(i, id);
    CHECK_INT(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, NULL), model[i].there ? IDX_OK : IDX_ENOTFOUND);
    model[i].there = false;
}

/* ---- brute force -------------------------------------------------------------------------------------------- */

typedef struct {
    const char *text;
    bool (*holds)(const json_t *o);
} filter;

static double number(const json_t *o, const char *name, double none)
{
    const json_t *v = json_object_get(o, name);
    return json_is_number(v) ? json_number_value(v) : none;
}
static bool has_tag(const json_t *o, const char *tag)
{
    const json_t *tags = json_object_get(o, "tags");
    for (size_t i = 0; i < json_array_size(tags); i++)
        if (strcmp(json_string_value(json_array_get(tags, i)), tag) == 0) return true;
    return false;
}
static bool is_brand(const json_t *o, const char *b)
{
    const char *v = json_string_value(json_object_get(o, "brand"));
    return v != NULL && strcmp(v, b) == 0;
}
static bool all(const json_t *o) { return (void)o, true; }
static bool cheap(const json_t *o) { return number(o, "price", 1e9) < 50; }
static bool b3(const json_t *o) { return is_brand(o, "b3"); }
static bool tagged(const json_t *o) { return has_tag(o, "t1") && !json_is_true(json_object_get(o, "new")); }
static bool few(const json_t *o) { return number(o, "price", -1) == 7 && !is_brand(o, "b1"); }
static bool group(const json_t *o) { return number(o, "cluster", -1) >= 20; }
static bool none(const json_t *o) { return (void)o, false; }
static const filter filters[] = {
    {NULL, all}, {"price < 50", cheap}, {"brand = b3", b3}, {"tags:t1 AND NOT new = true", tagged}, {"price = 7 -brand = b1", few}, {"cluster >= 20", group}, {"price > 5000", none},
};
enum { FILTERS = sizeof filters / sizeof *filters };

typedef struct {
    float score;
    int item;
} rank;

static int by_rank(const void *a, const void *b)
{
    const rank *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : x->item - y->item;
}

static size_t expected(const float *q, const filter *f, float min_score, int without, rank *out)
{
    size_t n = 0;
    for (int i = 0; i < ITEMS; i++) {
        if (!model[i].there || i == without || !f->holds(model[i].attributes)) continue;
        rank r = {-2, i};
        for (int m = 0; m < model[i].n; m++) r.score = fmaxf(r.score, idx_dot(q, model[i].v[m], DIM));
        if (r.score >= min_score) out[n++] = r;
    }
    qsort(out, n, sizeof *out, by_rank);
    return n;
}

/* ---- facets --------------------------------------------------------------------------------------------------- */

typedef struct {
    char key[64]; /* a letter of the kind, then the value */
    uint64_t n;
} count;

static void tally(count *c, size_t *n, const char *key)
{
    size_t i = 0;
    while (i < *n && strcmp(c[i].key, key) != 0) i++;
    if (i == *n) snprintf(c[(*n)++].key, sizeof c[i].key, "%s", key), c[i].n = 0;
    c[i].n++;
}

static void key_of(const json_t *v, char out[64])
{
    if (json_is_string(v)) snprintf(out, 64, "t%s", json_string_value(v));
    else if (json_is_boolean(v)) snprintf(out, 64, "b%d", json_is_true(v));
    else snprintf(out, 64, "n%.17g", json_number_value(v));
}

static void check_facet(const idx_facet *f, const idx_facet_counts *got, const rank *items, size_t n)
{
    static count counts[20000];
    static uint64_t ranges[IDX_MAX_FACET_RANGES];
    size_t kinds = 0, with = 0;
    double min = INFINITY, max = -INFINITY;
    memset(ranges, 0, sizeof ranges);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(model[items[i].item].attributes, f->field), *e;
        char key[64];
        size_t k;
        with += v != NULL;
        if (v != NULL && !json_is_array(v)) key_of(v, key), tally(counts, &kinds, key);
        json_array_foreach(v, k, e)
        {
            bool before = false;
            for (size_t j = 0; j < k; j++) before = before || json_equal(e, json_array_get(v, j));
            if (!before) key_of(e, key), tally(counts, &kinds, key);
        }
        if (!json_is_number(v)) continue;
        double d = json_number_value(v);
        min = fmin(min, d);
        max = fmax(max, d);
        for (size_t r = 0; r < f->n_ranges; r++) ranges[r] += d >= f->ranges[r].from && d < f->ranges[r].to;
    }
    CHECK_INT(got->with, with);
    CHECK_INT(got->without, n - with);
    CHECK(got->has_numbers == (min <= max));
    if (got->has_numbers) CHECK(got->min == min && got->max == max);
    if (f->ranges != NULL) {
        for (size_t r = 0; r < f->n_ranges; r++) CHECK_INT(got->ranges[r], ranges[r]);
        return;
    }
    size_t limit = f->limit != 0 ? f->limit : 10;
    CHECK_INT(got->distinct, kinds);
    CHECK_INT(got->n_values, kinds < limit ? kinds : limit);
    uint64_t least = UINT64_MAX;
    for (size_t i = 0; i < got->n_values; i++) {
        const idx_value_count *v = &got->values[i];
        char key[64];
        if (v->kind == IDX_VALUE_TEXT) snprintf(key, sizeof key, "t%s", v->text);
        else if (v->kind == IDX_VALUE_BOOL) snprintf(key, sizeof key, "b%d", v->truth);
        else snprintf(key, sizeof key, "n%.17g", v->number);
        size_t k = 0;
        while (k < kinds && strcmp(counts[k].key, key) != 0) k++;
        REQUIRE(k < kinds);
        CHECK_INT(v->count, counts[k].n);
        CHECK(v->count <= least);
        if (v->count == least && v->kind == IDX_VALUE_TEXT && got->values[i - 1].kind == IDX_VALUE_TEXT) CHECK(strcmp(got->values[i - 1].text, v->text) < 0);
        least = v->count;
        counts[k].n = 0; /* not twice */
    }
    for (size_t k = 0; k < kinds; k++) CHECK(counts[k].n <= least); /* those not shown are not more frequent */
}

static void check_facets(idx *ix)
{
    static rank want[ITEMS];
    static const idx_range ranges[] = {{-INFINITY, 10}, {10, 50.5}, {50.5, INFINITY}, {-INFINITY, INFINITY}, {7, 8}};
    const idx_facet facets[] = {{.field = "brand"},
                                {.field = "tags", .limit = 3},
                                {.field = "price", .ranges = ranges, .n_ranges = 5},
                                {.field = "price", .limit = 1000},
                                {.field = "new"},
                                {.field = "mixed", .limit = 4},
                                {.field = "title", .limit = 1000},
                                {.field = "missing"},
                                {.field = "missing", .ranges = ranges, .n_ranges = 2}};
    enum { N = sizeof facets / sizeof *facets };
    const filter *f = &filters[below(FILTERS)];
    uint32_t top = below(2) ? 0 : 1 + below(400);
    float q[DIM];
    near_centre(q, (int)below(CLUSTERS));
    idx_query query = {.embedding = q, .dim = DIM, .limit = 1 + below(20), .min_score = -2, .filter = f->text, .exact = true, .facets = facets, .n_facets = N, .facets_top = top};
    size_t n = expected(q, f, -2, -1, want);
    idx_result *r = NULL;
    idx_error err = {0};
    if (idx_search(ix, "shop", &query, &r, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(r != NULL);
    CHECK_INT(r->total, n);
    CHECK(r->total_exact);
    CHECK_INT(r->matches, n);
    CHECK_INT(r->n_facets, N);
    size_t over = top > 0 && top < n ? top : n;
    CHECK_INT(r->facet_items, over);
    for (size_t i = 0; i < N; i++) check_facet(&facets[i], &r->facets[i], want, over);
    if (r->more && top > 0) { /* the second page counts over the same */
        idx_result *s = NULL;
        query.after = true;
        query.after_score = r->hits[r->n - 1].score;
        query.after_id = r->hits[r->n - 1].id;
        query.depth = (uint32_t)r->n;
        REQUIRE(idx_search(ix, "shop", &query, &s, &err) == IDX_OK);
        CHECK_INT(s->facet_items, over);
        for (size_t i = 0; i < N; i++) check_facet(&facets[i], &s->facets[i], want, over);
        idx_result_free(s);
    }
    idx_result_free(r);
}

/* ---- pages ------------------------------------------------------------------------------------------------------- */

/* Of the items that rank before a page's first, those that no page before it had. */
static size_t left_out(const rank *want, size_t n, const bool *seen, const idx_query *q)
{
    size_t out = 0;
    for (size_t i = 0; i < n && q->after; i++) {
        char id[40];
        name_of(want[i].item, id);
        out += !seen[want[i].item] && (want[i].score > q->after_score || (want[i].score == q->after_score && strcmp(id, q->after_id) < 0));
    }
    return out;
}

/* Sums of the same products in another order: scores that are as near as that may change places. */
static const float ROUNDING = 1e-6f;

/* All pages; exact ones are the expected answer item by item, others hold no item twice, in order, and nearly all of it. */
static void check_pages(idx *ix, bool exact, double *found, double *asked)
{
    static rank want[ITEMS];
    static bool seen[ITEMS];
    const filter *f = &filters[below(FILTERS)];
    float q[DIM], min_score = below(4) ? -2.0f : 0.3f;
    near_centre(q, (int)below(CLUSTERS));
    int without = below(4) == 0 ? (int)below(ITEMS) : -1;
    size_t n = expected(q, f, min_score, without, want), at = 0, deep = below(3) ? 60 : 1200;
    char after[40] = "", skip[32];
    name_of(without >= 0 ? without : 0, skip);
    memset(seen, 0, sizeof seen);
    idx_query query = {.embedding = q, .dim = DIM, .limit = 1 + below(deep > 100 ? 100 : 20), .min_score = min_score, .filter = f->text, .exact = exact,
                       .exclude_item = without >= 0 ? skip : NULL};
    float last = 2;
    for (bool more = true; more && at < deep;) {
        idx_result *r = NULL;
        idx_error err = {0};
        if (idx_search(ix, "shop", &query, &r, &err) != IDX_OK) TEST_FAIL("%s", err.text);
        REQUIRE(r != NULL);
        if (min_score < -1) {
            CHECK_INT(r->total, n);
            CHECK(r->total_exact);
            /* As many as asked for whenever there are so many. An approximate answer may have left out some before this page. */
            size_t there = n - at - (exact ? 0 : left_out(want, n, seen, &query));
            CHECK_INT(r->n, there < query.limit ? there : query.limit);
        } else {
            CHECK(r->total <= n && (!r->total_exact || r->total == n));
        }
        if (exact) CHECK_INT(r->more, at + r->n < n);
        for (size_t i = 0; i < r->n; i++, at++) {
            int item = atoi(r->hits[i].id + 5);
            CHECK(!seen[item]);
            seen[item] = true;
            CHECK(r->hits[i].score < last || (r->hits[i].score == last && strcmp(r->hits[i].id, after) > 0));
            last = r->hits[i].score;
            snprintf(after, sizeof after, "%s", r->hits[i].id);
            if (exact && fabsf(last - want[at].score) > ROUNDING) CHECK_INT(item, want[at].item);
            if (exact) CHECK_NEAR(last, want[at].score, ROUNDING);
        }
        more = r->more;
        query.after = true;
        query.after_score = last;
        query.after_id = after;
        query.depth = (uint32_t)at;
        if (below(3) == 0) query.limit = 1 + below(30); /* the limit may change from page to page */
        idx_result_free(r);
    }
    size_t upto = at < n ? at : n, hits = 0;
    for (size_t i = 0; i < upto; i++) hits += seen[want[i].item];
    if (exact) CHECK_INT(hits, upto);
    *found += (double)hits;
    *asked += (double)upto;
}

/* ---- while others write ---------------------------------------------------------------------------------------------- */

static _Atomic bool stop_writing, write_failed;

static void *write_others(void *arg)
{
    idx *ix = arg;
    uint64_t s = 99;
    for (int i = 0; !stop_writing; i++) {
        char id[32];
        snprintf(id, sizeof id, "other-%02d", i % 40);
        bool there = i / 40 % 2 == 0;
        idx_op *op = idx_op_new(there ? IDX_PUT : IDX_DELETE, "shop", id);
        if (there) {
            op->attributes = strdup("{\"price\":1,\"cluster\":3}");
            op->dim = DIM;
            memcpy(op->fingerprint, fp, sizeof fp);
            op->n_images = 1;
            op->images = calloc(1, sizeof *op->images);
            op->images->embedding = malloc(DIM * sizeof(float));
            for (int k = 0; k < DIM; k++) op->images->embedding[k] = centre[3][k] + 0.3f * test_randf(&s);
            unit(op->images->embedding);
        }
        if (idx_write_take(ix, op, NULL, NULL) != IDX_OK) write_failed = true;
    }
    return NULL;
}

/* Every item that was there all the time comes once and in order, whatever is written meanwhile. */
static void test_pages_while_writing(idx *ix)
{
    static rank want[ITEMS];
    pthread_t th;
    stop_writing = false;
    REQUIRE(pthread_create(&th, NULL, write_others, ix) == 0);
    for (int round = 0; round < 6; round++) {
        float q[DIM];
        near_centre(q, 3);
        size_t n = expected(q, &filters[round % 2], -2, -1, want), at = 0;
        char after[40] = "";
        idx_query query = {.embedding = q, .dim = DIM, .limit = 37, .min_score = -2, .filter = filters[round % 2].text, .exact = true};
        for (bool more = true; more;) {
            idx_result *r = NULL;
            REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
            for (size_t i = 0; i < r->n; i++) {
                snprintf(after, sizeof after, "%s", r->hits[i].id);
                query.after_score = r->hits[i].score;
                if (strncmp(after, "item-", 5) != 0) continue;
                REQUIRE(at < n);
                CHECK_INT(atoi(after + 5), want[at].item);
                at++;
            }
            more = r->more;
            query.after = true;
            query.after_id = after;
            query.depth += (uint32_t)r->n;
            idx_result_free(r);
        }
        CHECK_INT(at, n);
    }
    stop_writing = true;
    pthread_join(th, NULL);
    CHECK(!write_failed);
}

/* ---- all together ------------------------------------------------------------------------------------------------------ */

static idx *reopen(idx *ix)
{
    idx_close(ix);
    idx_error err = {0};
    idx_opts o = {.no_background = true, .segment_images = 900, .disk_floor_bytes = 1};
    idx *out = NULL;
    if (idx_open(dir, &o, &out, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(out != NULL);
    return out;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 5;
    bool created;
    snprintf(dir, sizeof dir, "/tmp/lk_query_XXXXXX");
    REQUIRE(mkdtemp(dir) != NULL);
    idx *ix = reopen(NULL);
    for (int c = 0; c < CLUSTERS; c++) {
        for (int i = 0; i < DIM; i++) centre[c][i] = test_randf(&seed);
        unit(centre[c]);
    }
    const idx_catalogue_spec spec = {"shop", "test", fp, DIM, IDX_FLOAT32, false}; /* brute force has the vectors as they were sent */
    REQUIRE(idx_catalogue_create(ix, &spec, &created, NULL) == IDX_OK);
    double found = 0, asked = 0;
    for (int round = 0; round < rounds; round++) {
        for (int k = 0; k < ITEMS / 2; k++) {
            unsigned what = below(10);
            if (what < 7 || round == 0) put(ix, (int)below(ITEMS));
            else if (what < 8) patch(ix, (int)below(ITEMS));
            else drop(ix, (int)below(ITEMS));
        }
        if (below(4) == 0) ix = reopen(ix);
        if (round % 2) REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
        for (int k = 0; k < 12; k++) check_facets(ix);
        for (int k = 0; k < 12; k++) check_pages(ix, true, &(double){0}, &(double){0});
        for (int k = 0; k < 25; k++) check_pages(ix, false, &found, &asked);
        idx_error err = {0};
        if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    }
    printf("recall of approximate pages: %.4f\n", found / asked);
    CHECK(found / asked >= 0.98);
    test_pages_while_writing(ix);
    idx_close(ix);
    for (int i = 0; i < ITEMS; i++) json_decref(model[i].attributes);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
