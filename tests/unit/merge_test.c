/* Searches while the background links, saves, decides how vectors are kept and makes segments anew: an item that was there all the
 * time is always found by its own embedding, with every plan. Under ThreadSanitizer this is the test that matters. */
#include "index.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 32, STAY = 300, CHURN = 600, SEARCHERS = 2, ANEW = 1 }; /* the background is of low priority: more would be a matter of the machine */
static char dir[64];
static idx *ix;
static _Atomic bool stop;
static _Atomic int anew, failed;
static _Atomic long searches;

static void count_anew(void *ctx, int level, const char *text)
{
    (void)ctx, (void)level;
    if (strstr(text, "was made anew") != NULL) anew++;
}

static void embedding_of(uint64_t i, float *v)
{
    uint64_t s = i * 77 + 1;
    double n = 0;
    for (int k = 0; k < DIM; k++) v[k] = test_randf(&s), n += (double)v[k] * (double)v[k];
    for (int k = 0; k < DIM; k++) v[k] = (float)((double)v[k] / sqrt(n));
}

static bool put(const char *kind, uint64_t i, uint64_t version)
{
    char id[40], text[40];
    snprintf(id, sizeof id, "%s-%d", kind, (int)i);
    snprintf(text, sizeof text, "{\"kind\":\"%s\",\"n\":%d}", kind, (int)i);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    op->attributes = strdup(text);
    op->dim = DIM;
    op->n_images = 1;
    op->images = calloc(1, sizeof *op->images);
    op->images->embedding = malloc(DIM * sizeof(float));
    embedding_of(version, op->images->embedding);
    return idx_write_take(ix, op, NULL, NULL) == IDX_OK;
}

static bool drop(uint64_t i)
{
    char id[40];
    snprintf(id, sizeof id, "churn-%d", (int)i);
    idx_status st = idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, NULL);
    return st == IDX_OK || st == IDX_ENOTFOUND;
}

static void *churn(void *arg)
{
    uint64_t s = 5;
    (void)arg;
    for (uint64_t i = 0; !stop; i++)
        if (!(test_rand(&s) % 2 ? put("churn", test_rand(&s) % CHURN, 1000 + i) : drop(test_rand(&s) % CHURN))) failed++;
    return NULL;
}

static void *search(void *arg)
{
    static const char *const filters[] = {NULL, "kind = stay", "n < 30 OR kind = stay", "n >= 0"};
    uint64_t s = (uint64_t)(uintptr_t)arg;
    while (!stop) {
        uint64_t i = test_rand(&s) % STAY;
        float v[DIM];
        char id[40];
        idx_result *r = NULL;
        embedding_of(i, v);
        snprintf(id, sizeof id, "stay-%d", (int)i);
        idx_query q = {.embedding = v, .dim = DIM, .limit = 3, .min_score = -2, .filter = filters[test_rand(&s) % 4], .exact = test_rand(&s) % 4 == 0, .ef_search = 100};
        if (idx_search(ix, "shop", &q, &r, NULL) != IDX_OK || r->n == 0 || strcmp(r->hits[0].id, id) != 0 || r->hits[0].score < 0.99f) failed++;
        if (r != NULL) idx_result_free(r);
        searches++;
    }
    return NULL;
}

int main(void)
{
    idx_error e = {0};
    pthread_t t[SEARCHERS + 1];
    idx_opts o = {.segment_images = 150, .disk_floor_bytes = 1, .log = count_anew};
    test_dir_template(dir, "likeness-merge");
    REQUIRE(mkdtemp(dir) != NULL);
    REQUIRE(idx_open(dir, &o, &ix, &e) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "external", "external", DIM, NULL, &e) == IDX_OK);
    for (uint64_t i = 0; i < STAY; i++) REQUIRE(put("stay", i, i));
    REQUIRE(pthread_create(&t[0], NULL, churn, NULL) == 0);
    for (uintptr_t i = 1; i <= SEARCHERS; i++) REQUIRE(pthread_create(&t[i], NULL, search, (void *)i) == 0);
    for (int i = 0; i < 12000 && (anew < ANEW || searches < 3000); i++) nanosleep(&(struct timespec){0, 10000000}, NULL);
    stop = true;
    for (int i = 0; i <= SEARCHERS; i++) pthread_join(t[i], NULL);
    CHECK_INT(failed, 0);
    CHECK(anew >= ANEW);
    CHECK(searches >= 3000);
    printf("%ld searches, segments made anew %d times\n", (long)searches, (int)anew);
    if (idx_check(ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    idx_close(ix);
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_INT(system(command), 0);
    return test_end();
}
