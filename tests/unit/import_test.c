/* An import that is faster than linking: several threads link; searches meanwhile see every image once, and the best of them; and puts are
 * slowed once very many images wait for their links. */
#include "index.h"
#include "test.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 16, ROWS = 40000 /* at most */, BLOCK = 500, BEHIND = 16384, FLYING = 64 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static float base[ROWS][DIM];
static sem_t flying;
static _Atomic uint32_t refused, there;

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void done(idx_op *op, void *ctx)
{
    (void)ctx;
    refused += op->status != IDX_OK;
    there++; /* acknowledged in the order in which they were handed in */
    sem_post(&flying);
}

static void put(idx *ix, uint32_t i)
{
    char id[32];
    snprintf(id, sizeof id, "i%u", i);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL && (op->images->embedding = malloc(sizeof base[i])) != NULL);
    op->dim = DIM;
    op->n_images = 1;
    memcpy(op->fingerprint, fp, sizeof fp);
    memcpy(op->images->embedding, base[i], sizeof base[i]);
    op->done = done;
    sem_wait(&flying);
    REQUIRE(idx_submit_take(ix, op, NULL) == IDX_OK);
}

static float score_of(uint32_t a, const float *q)
{
    float s = 0;
    for (int k = 0; k < DIM; k++) s += base[a][k] * q[k];
    return s;
}

/* Whether something is better than what it says, of what was there before it. */
static uint32_t search(idx *ix, uint32_t i)
{
    uint32_t n = there, better = 0;
    idx_result *r = NULL;
    REQUIRE(idx_search(ix, "shop", &(idx_query){.embedding = base[i], .dim = DIM, .limit = 10, .min_score = -2, .ef_search = 200}, &r, NULL) == IDX_OK);
    CHECK_INT(r->n, 10);
    for (size_t k = 0; k < r->n; k++)
        for (size_t j = 0; j < k; j++) CHECK(strcmp(r->hits[k].id, r->hits[j].id) != 0);
    for (uint32_t row = 0; row < n; row++) better += score_of(row, base[i]) > r->hits[9].score + 1e-4f;
    idx_result_free(r);
    return better >= 10;
}

static uint64_t fresh(idx *ix)
{
    idx_catalogue c;
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    return c.fresh_images;
}

int main(void)
{
    uint64_t seed = 3, most = 0;
    uint32_t wrong = 0, searches = 0;
    char dir[64], command[128];
    idx_error err = {0};
    idx *ix = NULL;
    for (int i = 0; i < ROWS; i++) {
        double n = 0;
        for (int k = 0; k < DIM; k++) base[i][k] = test_randf(&seed), n += (double)base[i][k] * (double)base[i][k];
        for (int k = 0; k < DIM; k++) base[i][k] = (float)((double)base[i][k] / sqrt(n));
    }
    snprintf(dir, sizeof dir, "/tmp/likeness-import-%d", (int)getpid());
    /* Links are made so slowly that they fall behind on any machine. */
    const idx_opts opts = {.segment_images = 1000, .disk_floor_bytes = 1, .hnsw_m = 128, .ef_construction = 2000, .link_threads = 3, .recall_target = -1};
    REQUIRE(idx_open(dir, &opts, &ix, &err) == IDX_OK);
    const idx_catalogue_spec shop = {.name = "shop", .model = "m", .fingerprint = fp, .dim = DIM, .storage = IDX_FLOAT32};
    REQUIRE(idx_catalogue_create(ix, &shop, &(bool){false}, &err) == IDX_OK);
    REQUIRE(sem_init(&flying, 0, FLYING) == 0);
    uint64_t began = now_ns(), was = 0, slowed = 0;
    for (uint32_t i = 0; i < ROWS && slowed < 2; i++) {
        put(ix, i);
        if (i % BLOCK != BLOCK - 1) continue;
        uint64_t took = now_ns() - began, now = fresh(ix);
        if (was > BEHIND + BLOCK && now > BEHIND + BLOCK) {
            CHECK(took > (uint64_t)(BLOCK - FLYING) * 120000);
            slowed++;
        }
        most = now > most ? now : most;
        if (i % 2000 == 1999) wrong += search(ix, (uint32_t)test_rand(&seed) % i), searches++;
        was = now;
        began = now_ns();
    }
    for (int i = 0; i < FLYING; i++) sem_wait(&flying);
    for (; searches < 60; searches++) wrong += search(ix, (uint32_t)test_rand(&seed) % there);
    printf("%u rows: %llu waited at most, %llu at the end; %u of %u searches missed one\n", there, (unsigned long long)most, (unsigned long long)fresh(ix), wrong, searches);
    CHECK_INT(refused, 0);
    CHECK(slowed > 0);
    CHECK(wrong <= 1);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
    return test_end();
}
