/* Searches with filters and facets while a writer adds, changes and deletes what they look at, values of attributes come and go, and
 * the keeper links rows, makes lists, writes the attributes' file and makes attributes anew once many items are gone: for ThreadSanitizer, and for answers that hold at any moment. */
#include "index.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { DIM = 16, ITEMS = 2500, OPS = 14000, STAY = 1000, SEARCHERS = 2 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static char dir[64];
static idx *ix;
static atomic_bool done, fewer; /* fewer: searches leave the keeper a processor */
static atomic_long wrong, searches, by_plan[2], anew; /* TEST's own counters belong to one thread */

static void count_anew(void *ctx, int level, const char *text)
{
    (void)ctx, (void)level;
    anew += strstr(text, "attributes of") != NULL && strstr(text, "were made anew") != NULL;
}

static void random_unit(uint64_t *s, float *v)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) v[i] = test_randf(s), n += (double)v[i] * (double)v[i];
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

/* Colour and price of an item stand in a relation that every answer can be held to: red ones cost less than 50. */
static char *attributes(uint64_t *s)
{
    char text[200];
    bool red = test_rand(s) % 2;
    snprintf(text, sizeof text, "{\"colour\":\"%s\",\"price\":%u,\"tags\":[\"t%u\",\"all\"],\"serial\":\"s%u\"%s}", red ? "red" : "blue", (unsigned)(test_rand(s) % 50) + (red ? 0 : 50),
             (unsigned)(test_rand(s) % 7), (unsigned)(test_rand(s) % 100000), test_rand(s) % 3 ? "" : ",\"new\":true");
    return strdup(text);
}

static idx_op *make_op(uint64_t *s, unsigned item, idx_op_kind kind)
{
    char id[32];
    snprintf(id, sizeof id, "item-%05u", item);
    idx_op *op = idx_op_new(kind, "shop", id);
    if (kind == IDX_PATCH) op->attributes = strdup(test_rand(s) % 2 ? "{\"new\":true}" : "{\"new\":null,\"tags\":[\"all\",\"patched\"]}");
    if (kind != IDX_PUT) return op;
    op->attributes = attributes(s);
    op->dim = DIM;
    memcpy(op->fingerprint, fp, sizeof fp);
    op->n_images = 1 + test_rand(s) % 2;
    op->images = calloc(op->n_images, sizeof *op->images);
    for (size_t i = 0; i < op->n_images; i++) random_unit(s, op->images[i].embedding = malloc(DIM * sizeof(float)));
    return op;
}

static void submit(idx_op *op, bool wait)
{
    idx_status st = wait ? idx_write_take(ix, op, NULL, NULL) : idx_submit_take(ix, op, NULL);
    if (st == IDX_EBUSY) usleep(2000);
    else if (st != IDX_OK && st != IDX_ENOTFOUND) wrong++;
}

static void *write_all(void *arg)
{
    uint64_t s = 7;
    (void)arg;
    for (unsigned i = 0; i < OPS; i++) {
        unsigned what = (unsigned)(test_rand(&s) % 10);
        submit(make_op(&s, i < ITEMS ? i : (unsigned)(test_rand(&s) % ITEMS), i < ITEMS || what < 6 ? IDX_PUT : what < 9 ? IDX_PATCH : IDX_DELETE), i % 64 == 63 || i == OPS - 1);
    }
    fewer = true;
    for (unsigned i = STAY; i < ITEMS; i++) submit(make_op(&s, i, IDX_DELETE), i % 64 == 63 || i == ITEMS - 1);
    for (unsigned i = 0; anew == 0 && i < 100000; i++) submit(make_op(&s, (unsigned)(test_rand(&s) % STAY), IDX_PATCH), i % 8 == 7); /* no row dies: the keeper comes to it */
    done = true;
    return NULL;
}

static void *search_all(void *arg)
{
    static const char *const filters[] = {"colour = red", "price < 50", "tags:all AND price >= 50", "NOT new = true", "serial:s1*", "price = 7 OR tags:patched", NULL};
    uint64_t s = (uint64_t)(uintptr_t)arg;
    const idx_range ranges[] = {{0, 50}, {50, 100}};
    const idx_facet facets[] = {{.field = "colour"}, {.field = "price", .ranges = ranges, .n_ranges = 2}, {.field = "serial", .limit = 3}};
    while (!done) {
        float v[DIM];
        unsigned k = (unsigned)(test_rand(&s) % 7);
        if (fewer) usleep(2000);
        random_unit(&s, v);
        idx_query q = {.embedding = v, .dim = DIM, .limit = 10, .min_score = -2, .filter = filters[k], .exact = test_rand(&s) % 4 == 0, .facets = facets, .n_facets = 3};
        idx_result *r = NULL;
        if (idx_search(ix, "shop", &q, &r, NULL) != IDX_OK) {
            wrong++;
            continue;
        }
        uint64_t red = 0;
        for (size_t i = 0; i < r->facets[0].n_values; i++) red += strcmp(r->facets[0].values[i].text, "red") == 0 ? r->facets[0].values[i].count : 0;
        if (r->facet_items != r->matches || r->facets[1].ranges[0] != red || r->facets[1].ranges[0] + r->facets[1].ranges[1] != r->matches) wrong++;
        if (k < 2 && red != r->matches) wrong++;
        if (k == 2 && red != 0) wrong++;
        for (size_t i = 1; i < r->n; i++) wrong += r->hits[i].score > r->hits[i - 1].score;
        searches++;
        by_plan[strcmp(r->plan, "scan") != 0 && strcmp(r->plan, "flat") != 0]++;
        idx_result_free(r);
    }
    return NULL;
}

int main(void)
{
    bool created;
    idx_error err = {0};
    pthread_t writer, searcher[SEARCHERS];
    idx_opts o = {.segment_images = 800, .disk_floor_bytes = 1, .log = count_anew};
    snprintf(dir, sizeof dir, "/tmp/lk_threads_XXXXXX");
    REQUIRE(mkdtemp(dir) != NULL);
    REQUIRE(idx_open(dir, &o, &ix, &err) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, DIM, &created, NULL) == IDX_OK);
    REQUIRE(pthread_create(&writer, NULL, write_all, NULL) == 0);
    for (uintptr_t i = 0; i < SEARCHERS; i++) REQUIRE(pthread_create(&searcher[i], NULL, search_all, (void *)(i + 1)) == 0);
    pthread_join(writer, NULL);
    for (int i = 0; i < SEARCHERS; i++) pthread_join(searcher[i], NULL);
    printf("%ld searches, %ld of them by graph or lists\n", (long)searches, (long)by_plan[1]);
    CHECK_INT(wrong, 0);
    CHECK(anew > 0);
    CHECK(searches > 50 && by_plan[1] > 0);
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    idx_close(ix);
    REQUIRE(idx_open(dir, &o, &ix, &err) == IDX_OK); /* with the attributes' file */
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    idx_close(ix);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
