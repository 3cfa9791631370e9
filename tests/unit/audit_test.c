/* The auditor: recall of live searches is measured as brute force measures it, a bad one raises ef_search until the target holds, a
 * good one lowers it; exact scans let writers in. */
#include "../../index/audit.h"
#include "index.h"
#include "test.h"

#include <pthread.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 48, ITEMS = 6000 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 21;
static char dir[64];

static void random_unit(float *v)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) {
        v[i] = test_randf(&seed);
        n += (double)v[i] * (double)v[i];
    }
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static idx_op *photo(int i, float *v)
{
    char id[32], attributes[64];
    snprintf(id, sizeof id, "item-%05d", i);
    snprintf(attributes, sizeof attributes, "{\"n\":%d}", i);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL);
    op->attributes = strdup(attributes);
    op->dim = DIM;
    op->n_images = 1;
    memcpy(op->fingerprint, fp, sizeof fp);
    REQUIRE((op->images->embedding = malloc(DIM * sizeof(float))) != NULL);
    memcpy(op->images->embedding, v, DIM * sizeof(float));
    return op;
}

static idx *start(uint32_t ef, double target)
{
    idx *ix = NULL;
    idx_error err = {0};
    /* A thin graph over points that lie everywhere: a small ef finds little. */
    idx_opts o = {.no_background = true, .segment_images = ITEMS, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 20, .ef_search = ef, .recall_target = target};
    if (idx_open(dir, &o, &ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(ix != NULL);
    return ix;
}

static void fill(void)
{
    idx *ix = start(64, -1);
    float v[DIM];
    bool created;
    REQUIRE(idx_catalogue_put(ix, "shop", "test", fp, DIM, &created, NULL) == IDX_OK);
    for (int i = 0; i < ITEMS - 1; i++) {
        random_unit(v);
        REQUIRE(idx_submit_take(ix, photo(i, v), NULL) == IDX_OK);
        if (i % 2000 == 1999) REQUIRE(idx_write_take(ix, photo(i, v), NULL, NULL) == IDX_OK); /* waits */
    }
    random_unit(v);
    REQUIRE(idx_write_take(ix, photo(ITEMS - 1, v), NULL, NULL) == IDX_OK);
    REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
    idx_close(ix);
}

/* Searches and audits in turn, until `enough` says so or for `most` rounds. Returns the recall seen by the test itself at the end. */
static double work(idx *ix, const char *filter, int most, bool (*enough)(const idx_catalogue *, uint32_t), uint32_t mark, idx_catalogue *c)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < most; i++) {
        float q[DIM];
        random_unit(q);
        idx_query query = {.embedding = q, .dim = DIM, .limit = 10, .min_score = -2, .filter = filter};
        idx_result *r = NULL, *e = NULL;
        REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
        query.exact = true;
        REQUIRE(idx_search(ix, "shop", &query, &e, NULL) == IDX_OK);
        double found = 0;
        for (size_t k = 0; k < e->n; k++)
            for (size_t j = 0; j < r->n; j++) found += strcmp(e->hits[k].id, r->hits[j].id) == 0;
        if (i >= most - 100 || (n == 0 && i % 8 == 0)) sum += found / (double)e->n, n++;
        idx_result_free(r);
        idx_result_free(e);
        idx_audit_once(ix, NULL, NULL);
        REQUIRE(idx_catalogue_get(ix, "shop", c, NULL) == IDX_OK);
        if (enough(c, mark)) break;
        if (i < most - 100) sum = 0, n = 0;
    }
    return n > 0 ? sum / n : 0;
}

static bool never(const idx_catalogue *c, uint32_t mark) { return (void)c, (void)mark, false; }
static bool plain_below(const idx_catalogue *c, uint32_t mark) { return c->effort[IDX_AUDIT_PLAIN] < mark; }

static void test_raises(void)
{
    idx *ix = start(16, 0.9);
    idx_catalogue c;
    double seen = work(ix, NULL, 900, never, 0, &c);
    printf("plain: ef %u, recall by audits %.3f, by the test %.3f\n", c.effort[0], c.recall[0], seen);
    CHECK(c.effort[IDX_AUDIT_PLAIN] > 40);
    CHECK(c.audits[IDX_AUDIT_PLAIN] > 100);
    CHECK(c.recall[IDX_AUDIT_PLAIN] >= 0.87 && seen >= 0.87);
    CHECK_NEAR(c.recall[IDX_AUDIT_PLAIN], seen, 0.05);
    CHECK_INT(c.effort[IDX_AUDIT_FILTERED], 16); /* no search had a filter */
    CHECK_INT(c.audits[IDX_AUDIT_FILTERED], 0);
    uint32_t was = c.effort[IDX_AUDIT_PLAIN]; /* so many match that the graph is walked, too: lists would find enough with the least effort */
    seen = work(ix, "n >= 1000", 700, never, 0, &c);
    printf("filtered: ef %u, recall by audits %.3f, by the test %.3f\n", c.effort[1], c.recall[1], seen);
    CHECK(c.effort[IDX_AUDIT_FILTERED] > 16);
    CHECK(c.recall[IDX_AUDIT_FILTERED] >= 0.87 && seen >= 0.87);
    CHECK_INT(c.effort[IDX_AUDIT_PLAIN], was);
    idx_close(ix);
}

static void test_lowers(void)
{
    idx *ix = start(1500, 0.9);
    idx_catalogue c;
    work(ix, NULL, 800, plain_below, 1100, &c);
    printf("from 1500 down to ef %u, recall %.3f\n", c.effort[0], c.recall[0]);
    CHECK(c.effort[IDX_AUDIT_PLAIN] < 1100);
    CHECK(c.recall[IDX_AUDIT_PLAIN] >= 0.9);
    idx_close(ix);
}

/* What is judged, without an index. */
static void test_judge(void)
{
    idx_audit a[IDX_AUDIT_KINDS] = {{.taken = false}};
    idx_audit_init(a, 100);
    int n = 0;
    while (idx_audit_judge(a, 0.5f, 0.98) == 0) n++;
    CHECK_INT(n, 7); /* clearly bad: eight audits are enough */
    CHECK_INT(a->effort, 126);
    for (n = 0; idx_audit_judge(a, 0.97f, 0.98) == 0; n++) {}
    CHECK_INT(n, 23);
    uint32_t was = a->effort;
    for (n = 0; n < 500; n++) CHECK_INT(idx_audit_judge(a, n % 4 == 0 ? 0.95f : 0.995f, 0.98), 0); /* it holds: it rests */
    CHECK_INT(a->effort, was);
    for (n = 0; n < 100000 && a->effort > 16; n++) idx_audit_judge(a, 1, 0.98);
    CHECK_INT(a->effort, 16);
    for (n = 0; n < 100; n++) CHECK_INT(idx_audit_judge(a, 1, 0.98), 0);
    for (n = 0; n < 100000 && a->effort < 2048; n++) idx_audit_judge(a, 0, 0.98);
    CHECK_INT(a->effort, 2048);
    CHECK_INT(idx_audit_judge(a, 0, 0.98), 0);
    idx_audit_fini(a);
}

/* Searches with an ef of their own, exact ones, second pages and those with min_score are no samples. */
static void test_samples(void)
{
    idx *ix = start(64, 0.9);
    float q[DIM];
    random_unit(q);
    idx_query no[] = {{.ef_search = 80, .min_score = -2}, {.exact = true, .min_score = -2}, {.min_score = 0}, {.after = true, .after_score = 1, .after_id = "x", .min_score = -2}};
    idx_audit_once(ix, NULL, NULL); /* wants samples from now on */
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        idx_result *r = NULL;
        no[i].embedding = q;
        no[i].dim = DIM;
        no[i].limit = 10;
        REQUIRE(idx_search(ix, "shop", &no[i], &r, NULL) == IDX_OK);
        idx_result_free(r);
        CHECK(!idx_audit_once(ix, NULL, NULL));
    }
    idx_query yes = {.embedding = q, .dim = DIM, .limit = 3, .min_score = -2, .exclude_item = "item-00001"};
    idx_result *r = NULL;
    REQUIRE(idx_search(ix, "shop", &yes, &r, NULL) == IDX_OK);
    idx_result_free(r);
    CHECK(idx_audit_once(ix, NULL, NULL));
    CHECK(!idx_audit_once(ix, NULL, NULL));
    idx_close(ix);
}

/* ---- writers and exact scans --------------------------------------------------------------------------------------- */

static _Atomic bool stop_scans;
static void long_rest(void *ctx, uint64_t ns)
{
    (void)ns;
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
    ++*(_Atomic int *)ctx;
}

static void *audit_slowly(void *arg)
{
    static _Atomic int rests;
    while (!stop_scans) idx_audit_once(arg, long_rest, &rests);
    CHECK(rests > 0);
    return NULL;
}

/* Items that change, go and come while an audit rests in the middle of its scan. */
static void test_writes_beside(void)
{
    idx *ix = start(64, 0.9);
    pthread_t th;
    stop_scans = false;
    for (int i = 0; i < 3000; i++) { /* more than one piece */
        float v[DIM];
        random_unit(v);
        REQUIRE(idx_write_take(ix, photo(ITEMS + i, v), NULL, NULL) == IDX_OK);
    }
    REQUIRE(pthread_create(&th, NULL, audit_slowly, ix) == 0);
    for (int i = 0; i < 400; i++) {
        float v[DIM];
        char id[32];
        random_unit(v);
        REQUIRE(idx_write_take(ix, photo(i % 50, v), NULL, NULL) == IDX_OK);
        snprintf(id, sizeof id, "item-%05d", 100 + i);
        REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, NULL) == IDX_OK);
        REQUIRE(idx_write_take(ix, photo(20000 + i, v), NULL, NULL) == IDX_OK);
        idx_query query = {.embedding = v, .dim = DIM, .limit = 5, .min_score = -2, .filter = i % 2 ? "n >= 2000" : NULL};
        idx_result *r = NULL;
        REQUIRE(idx_search(ix, "shop", &query, &r, NULL) == IDX_OK);
        CHECK(r->n == 5 && r->hits[0].score > 0.999f);
        idx_result_free(r);
        if (i % 100 == 99) REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
    }
    stop_scans = true;
    pthread_join(th, NULL);
    idx_catalogue c;
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    CHECK(c.audits[0] + c.audits[1] > 0);
    idx_error err = {0};
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    idx_close(ix);
}

int main(void)
{
    snprintf(dir, sizeof dir, "/tmp/lk_audit_XXXXXX");
    REQUIRE(mkdtemp(dir) != NULL);
    test_judge();
    fill();
    test_samples();
    test_raises();
    test_lowers();
    test_writes_beside();
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
