/* What deleted items leave in memory goes back to the system: afterwards tables and attributes are as small as those of an index that never
 * held them, say the same, and take new items; after a new start, too. */
#include "index.h"
#include "test.h"

#include <unistd.h>

enum { DIM = 4, ITEMS = 12000, LEFT = 3000, CHUNK = 1 << 16 /* of ids */ };
static char root[64];
static uint64_t seed;
static int anew;

static void hear(void *ctx, int level, const char *text)
{
    (void)ctx;
    CHECK(level == 0);
    anew += strstr(text, "attributes of") != NULL && strstr(text, "made anew") != NULL;
}

static idx *start(const char *name)
{
    char dir[100];
    idx *ix = NULL;
    idx_error e = {0};
    idx_opts o = {.no_background = true, .segment_images = 2000, .disk_floor_bytes = 1, .log = hear};
    snprintf(dir, sizeof dir, "%s/%s", root, name);
    if (idx_open(dir, &o, &ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    REQUIRE(ix != NULL && idx_catalogue_put(ix, "shop", "external", "external", DIM, NULL, &e) == IDX_OK);
    return ix;
}

static void put(idx *ix, int i)
{
    char id[32], text[240];
    uint64_t s = (uint64_t)i + 1;
    snprintf(id, sizeof id, "item-%05d", i);
    snprintf(text, sizeof text, "{\"title\":\"a title of its own for %d\",\"colour\":\"%s\",\"price\":%d.5,\"tags\":[\"t%d\",\"own %d\",\"all\"],\"new\":%s%s}", i, i % 3 ? "red" : "blue",
             (int)(test_rand(&s) % 5000), i % 7, i, i % 2 ? "true" : "false", i % 5 ? "" : ",\"sale\":0.25");
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL);
    op->attributes = strdup(text);
    op->dim = DIM;
    op->n_images = 1;
    REQUIRE((op->images->embedding = calloc(DIM, sizeof(float))) != NULL);
    op->images->embedding[i % DIM] = 1;
    REQUIRE((i % 1000 == 999 ? idx_write_take(ix, op, NULL, NULL) : idx_submit_take(ix, op, NULL)) == IDX_OK);
}

static void drop(idx *ix, int i, bool wait)
{
    char id[32];
    snprintf(id, sizeof id, "item-%05d", i);
    idx_op *op = idx_op_new(IDX_DELETE, "shop", id);
    REQUIRE(op != NULL && (wait ? idx_write_take(ix, op, NULL, NULL) : idx_submit_take(ix, op, NULL)) == IDX_OK);
}

static void settle(idx *ix)
{
    idx_error e = {0};
    if (idx_maintain(ix, &e) != IDX_OK || idx_check(ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
}

/* Both answer every filter with as many, and facets with the same. */
static void same_answers(idx *a, idx *b)
{
    static const char *const filters[] = {"colour = blue", "price < 1000", "price >= 2500.5 AND new = true", "tags:t3", "title = \"a title of its own for 7*\"", "sale:*",
                                          "NOT tags:all", "tags:\"own 17\""};
    const idx_facet facet = {.field = "tags", .limit = 5};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++) {
        float v[DIM] = {1};
        idx_query q = {.embedding = v, .dim = DIM, .limit = 1, .min_score = -2, .filter = filters[i], .facets = &facet, .n_facets = 1};
        idx_result *x = NULL, *y = NULL;
        REQUIRE(idx_search(a, "shop", &q, &x, NULL) == IDX_OK && idx_search(b, "shop", &q, &y, NULL) == IDX_OK);
        CHECK_INT(x->matches, y->matches);
        CHECK_INT(x->facets[0].distinct, y->facets[0].distinct);
        CHECK_INT(x->facets[0].n_values, y->facets[0].n_values);
        for (size_t k = 0; k < x->facets[0].n_values && k < y->facets[0].n_values; k++) CHECK_INT(x->facets[0].values[k].count, y->facets[0].values[k].count);
        idx_result_free(x);
        idx_result_free(y);
    }
}

/* percent of what they take there, at most; 0 = not looked at. */
static void same_memory(idx *ix, idx *never, uint64_t items_percent, uint64_t attributes_percent)
{
    idx_stats a, b;
    idx_get_stats(ix, &a);
    idx_get_stats(never, &b);
    if (items_percent > 0 && (a.rss_items_bytes - CHUNK) * 100 > b.rss_items_bytes * items_percent)
        TEST_FAIL("items take %" PRIu64 " bytes, those of an index that never held more %" PRIu64, a.rss_items_bytes, b.rss_items_bytes);
    if (a.rss_attributes_bytes * 100 > b.rss_attributes_bytes * attributes_percent)
        TEST_FAIL("attributes take %" PRIu64 " bytes, those of an index that never held more %" PRIu64, a.rss_attributes_bytes, b.rss_attributes_bytes);
}

/* The items behind the first LEFT go, or all but LEFT at random. */
static void run(const char *name, bool at_random)
{
    static bool stays[ITEMS];
    char often[40], never_dir[40];
    snprintf(often, sizeof often, "%s", name);
    snprintf(never_dir, sizeof never_dir, "%s-never", name);
    int left = 0;
    for (int i = 0; i < ITEMS; i++) left += stays[i] = at_random ? test_rand(&seed) % (ITEMS / LEFT) == 0 : i < LEFT;
    idx *ix = start(often), *never = start(never_dir);
    for (int i = 0; i < ITEMS; i++) put(ix, i);
    settle(ix);
    for (int i = 0; i < ITEMS; i++)
        if (!stays[i]) drop(ix, i, i % 1000 == 0);
    for (int i = 0; i < ITEMS; i++)
        if (stays[i]) put(never, i);
    put(ix, 999), put(never, 999); /* waits for all of them */
    const int before = anew;
    settle(ix);
    settle(never);
    CHECK_INT(anew, before + 1);
    same_answers(ix, never);
    /* The numbers of items that went between others stay free for new ones. */
    same_memory(ix, never, at_random ? 0 : 115, at_random ? 150 : 115);
    for (int i = ITEMS; i < ITEMS + 2000; i++) put(ix, i), put(never, i);
    settle(ix);
    settle(never);
    same_answers(ix, never);
    idx_close(ix);
    ix = start(often);
    settle(ix);
    same_answers(ix, never);
    same_memory(ix, never, 115, 115);
    CHECK_INT(anew, before + 1);
    idx_close(ix);
    idx_close(never);
    printf("%s: %d of %d items left\n", name, left, ITEMS);
}

int main(void)
{
    test_dir_template(root, "likeness-forget");
    REQUIRE(mkdtemp(root) != NULL);
    seed = 3;
    run("tail", false);
    run("random", true);
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK_INT(system(command), 0);
    return test_end();
}
