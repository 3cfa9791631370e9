/* Pages of items that look exactly alike, as variants of a product with the same photo do: each once, by id, none missing, however many
 * there are and however they are found. And pages while items of theirs go: full, and of what was found. */
#include "../../index/index_priv.h"
#include "../../index/search.h"
#include "test.h"

#include <sqlite3.h>
#include <unistd.h>

enum { DIM = 8, ITEMS = 1500, MANY = 9000 /* are compared in two pieces */ };
static uint64_t seed = 3;
static char root[64];

static idx *start(const char *name, idx_storage storage)
{
    char dir[100];
    idx *ix = NULL;
    idx_error e = {0};
    bool created;
    idx_opts o = {.no_background = true, .segment_images = 400, .disk_floor_bytes = 1, .recall_target = -1, .max_queue = 2 * MANY};
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    if (idx_open(dir, &o, &ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    const idx_catalogue_spec spec = {"shop", "external", "external", DIM, storage, false};
    REQUIRE(ix != NULL && idx_catalogue_create(ix, &spec, &created, &e) == IDX_OK);
    return ix;
}

static void put(idx *ix, const char *id, bool alike, uint32_t images, bool odd, bool wait)
{
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(images, sizeof *op->images)) != NULL);
    op->attributes = strdup(odd ? "{\"odd\":true}" : "{}");
    op->dim = DIM;
    op->n_images = images;
    for (uint32_t i = 0; i < images; i++) {
        float *v = op->images[i].embedding = calloc(DIM, sizeof *v);
        REQUIRE(v != NULL);
        if (alike && i + 1 == images) v[0] = 0.6f, v[1] = 0.8f;
        else v[2 + test_rand(&seed) % 6] = 1;
    }
    REQUIRE((wait ? idx_write_take(ix, op, NULL, NULL) : idx_submit_take(ix, op, NULL)) == IDX_OK);
}

static void drop(idx *ix, const char *id) { REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, NULL) == IDX_OK); }

/* [0..n) in any order. */
static void shuffled(uint32_t *order, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) order[i] = i;
    for (uint32_t i = n; i-- > 1;) {
        uint32_t k = (uint32_t)(test_rand(&seed) % (i + 1)), t = order[i];
        order[i] = order[k];
        order[k] = t;
    }
}

/* One of ten is another; some are odd, and some have more images. */
static bool is_alike(uint32_t i) { return i % 10 != 7; }
static bool is_odd(uint32_t i) { return i % 3 == 0; }

/* sparing: some may be missing, as a graph may not lead to all that are equal; what comes is in order. */
static void read_pages(idx *ix, bool odd, bool exact, uint32_t limit, bool sparing)
{
    float v[DIM] = {0.6f, 0.8f};
    char after[32] = "", want[32];
    idx_query q = {.embedding = v, .dim = DIM, .limit = limit, .min_score = -2, .exact = exact, .filter = odd ? "odd = true" : NULL};
    uint32_t next = 0, wrong = 0;
    for (bool more = true; more && next < ITEMS;) {
        idx_result *r = NULL;
        idx_error e = {0};
        if (idx_search(ix, "shop", &q, &r, &e) != IDX_OK) TEST_FAIL("%s", e.text);
        REQUIRE(r != NULL);
        for (size_t i = 0; i < r->n && next < ITEMS; i++, next++, q.depth++) {
            snprintf(want, sizeof want, "item-%05u", next);
            while (next < ITEMS && (!is_alike(next) || (odd && !is_odd(next)) || (sparing && strcmp(want, r->hits[i].id) < 0))) snprintf(want, sizeof want, "item-%05u", ++next);
            if (next == ITEMS) break;
            if (strcmp(r->hits[i].id, want) != 0 && wrong++ == 0)
                TEST_FAIL("%s, exact %d, limit %u, plan %s: place %u has %s, want %s", odd ? "odd" : "all", exact, limit, r->plan, q.depth, r->hits[i].id, want);
        }
        more = r->more;
        if (more) CHECK_INT(r->n, limit);
        if (r->n > 0) snprintf(after, sizeof after, "%s", r->hits[r->n - 1].id), q.after_score = r->hits[r->n - 1].score;
        q.after = true;
        q.after_id = after;
        idx_result_free(r);
    }
    while (next < ITEMS && (!is_alike(next) || (odd && !is_odd(next)))) next++;
    CHECK_INT(wrong, 0);
    CHECK_INT(next, ITEMS);
}

static void test_alike(idx_storage storage)
{
    uint32_t order[ITEMS];
    char id[32];
    idx_error e = {0};
    idx *ix = start(storage == IDX_INT8 ? "int8" : storage == IDX_FLOAT16 ? "float16" : "float32", storage);
    shuffled(order, ITEMS);
    for (uint32_t i = 0; i < ITEMS; i++) {
        snprintf(id, sizeof id, "item-%05u", order[i]);
        put(ix, id, is_alike(order[i]), order[i] % 5 == 0 ? 3 : 1, is_odd(order[i]), i + 1 == ITEMS);
    }
    for (int sealed = 0; sealed < 2; sealed++) {
        for (int exact = 0; exact < 2; exact++) {
            for (int odd = 0; odd < 2; odd++) {
                read_pages(ix, odd, exact, 10, sealed && !exact && !odd);
                read_pages(ix, odd, exact, 100, sealed && !exact && !odd);
            }
        }
        if (idx_maintain(ix, &e) != IDX_OK || idx_check(ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    }
    idx_close(ix);
}

/* ---- items that go meanwhile ---------------------------------------------------------------------------------------------- */

typedef struct {
    idx *ix;
    int calls, at;
} between;

/* Without the lock, after a piece of a scan: the items of the page give their numbers to others. */
static void others_instead(void *ctx, uint64_t busy_ns)
{
    (void)busy_ns;
    between *b = ctx;
    char id[32];
    if (++b->calls != b->at) return;
    for (int i = 10; i < 30; i++) {
        snprintf(id, sizeof id, "item-%05d", i);
        drop(b->ix, id);
    }
    for (int i = 0; i < 200; i++) {
        snprintf(id, sizeof id, "other-%05d", i);
        put(b->ix, id, true, 1, false, i == 199);
    }
}

/* The best are counted over anew for each page but the first, and the lock is given back in between: results are those of before. */
static void test_facets_of_a_later_page(void)
{
    idx *ix = start("facets", IDX_FLOAT32);
    char id[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "item-%05d", i);
        put(ix, id, true, 1, i % 2, i + 1 == MANY);
    }
    idx_cat *c = idx_take_cat(ix, "shop", NULL);
    REQUIRE(c != NULL);
    float v[DIM] = {0.6f, 0.8f};
    const idx_facet facet = {.field = "odd"};
    between b = {ix, 0, 2};
    idx_query q = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .exact = true, .facets = &facet, .n_facets = 1, .facets_top = 50, .after = true, .depth = 10};
    q.after_id = "item-00009";
    q.after_score = idx_dot(v, v, DIM);
    idx_result *r = NULL;
    REQUIRE(idx_search_in(c, &q, others_instead, &b, &r, NULL) == IDX_OK);
    CHECK_INT(b.calls, 2);
    CHECK_INT(r->n, 10);
    CHECK_INT(r->facet_items, 50);
    for (size_t i = 0; i < r->n; i++) {
        snprintf(id, sizeof id, "item-%05zu", i + 10);
        CHECK_STR(r->hits[i].id, id);
    }
    idx_result_free(r);

    b = (between){ix, 0, 1}; /* and in the middle of the search itself: none that went, none that came */
    for (int i = 10; i < 30; i++) {
        snprintf(id, sizeof id, "item-%05d", i);
        put(ix, id, true, 1, false, true);
    }
    q = (idx_query){.embedding = v, .dim = DIM, .limit = 20, .min_score = -2, .exact = true};
    REQUIRE(idx_search_in(c, &q, others_instead, &b, &r, NULL) == IDX_OK);
    CHECK_INT(b.calls, 1);
    CHECK_INT(r->n, 20);
    for (size_t i = 0; i < r->n; i++) {
        snprintf(id, sizeof id, "item-%05zu", i < 10 ? i : i + 20);
        CHECK_STR(r->hits[i].id, id);
    }
    idx_result_free(r);
    idx_give_cat(ix, c);
    idx_close(ix);
}

/* A write is in the store a moment before it is in memory: what a search finds then may be gone. The page is filled with what comes behind. */
static void test_gone_from_the_store(void)
{
    idx *ix = start("gone", IDX_FLOAT32);
    char id[32], path[120], sql[200];
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "item-%05d", i);
        put(ix, id, true, 1, false, i == 99);
    }
    sqlite3 *db = NULL;
    snprintf(path, sizeof path, "%s/gone/catalogue.sqlite3", root);
    REQUIRE(sqlite3_open(path, &db) == SQLITE_OK);
    snprintf(sql, sizeof sql, "DELETE FROM items WHERE id < 'item-00025' OR id = 'item-00030'");
    REQUIRE(sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK);
    CHECK_INT(sqlite3_changes(db), 26);
    sqlite3_close(db);
    float v[DIM] = {0.6f, 0.8f};
    idx_query q = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2};
    idx_result *r = NULL;
    REQUIRE(idx_search(ix, "shop", &q, &r, NULL) == IDX_OK);
    CHECK_INT(r->n, 10);
    CHECK(r->more);
    for (size_t i = 0; i < r->n; i++) {
        snprintf(id, sizeof id, "item-%05zu", i < 5 ? i + 25 : i + 26);
        CHECK_STR(r->hits[i].id, id);
    }
    idx_result_free(r);
    q.limit = 100;
    REQUIRE(idx_search(ix, "shop", &q, &r, NULL) == IDX_OK);
    CHECK_INT(r->n, 74);
    CHECK(!r->more);
    idx_result_free(r);
    idx_close(ix);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/lk_ties_XXXXXX");
    REQUIRE(mkdtemp(root) != NULL);
    test_alike(IDX_FLOAT32);
    test_alike(IDX_FLOAT16);
    test_alike(IDX_INT8);
    test_facets_of_a_later_page();
    test_gone_from_the_store();
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", root);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
