/* What searches show is kept in memory: a record that is found is the one that was kept, memory stays in its bound, and a search never
 * shows an item older than the last write to it that was acknowledged before. */
#include "../../index/records.h"
#include "../../index/store.h"
#include "index.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

enum { BYTES = 1 << 18, KEYS = 3000, STEPS = 200000, LONGEST = 1200 };

typedef struct {
    char attributes[LONGEST + 1];
    uint8_t images[IDX_MAX_IMAGES * IDX_IMAGE_BYTES];
} room;

/* What a key stands for. */
static idx_record record_of(int64_t rowid, uint32_t version, room *in)
{
    uint64_t s = (uint64_t)rowid * 1000003 + version;
    idx_record r = {in->attributes, test_rand(&s) % 20 == 0 ? LONGEST : test_rand(&s) % 200, in->images, (uint32_t)(test_rand(&s) % (IDX_MAX_IMAGES + 1))};
    for (size_t i = 0; i < r.attributes_bytes; i++) in->attributes[i] = (char)('a' + test_rand(&s) % 26);
    in->attributes[r.attributes_bytes] = 0;
    for (size_t i = 0; i < r.n_images * IDX_IMAGE_BYTES; i++) in->images[i] = (uint8_t)test_rand(&s);
    return r;
}

typedef struct {
    int64_t rowid;
    uint32_t version;
    bool same;
} wanted;

static void compare(void *ctx, const idx_record *r)
{
    wanted *w = ctx;
    room in;
    idx_record is = record_of(w->rowid, w->version, &in);
    w->same = r->attributes_bytes == is.attributes_bytes && memcmp(r->attributes, is.attributes, is.attributes_bytes + 1) == 0 && r->n_images == is.n_images &&
              memcmp(r->images, is.images, is.n_images * IDX_IMAGE_BYTES) == 0;
}

static void keep_and_find(void)
{
    idx_records *s = NULL;
    idx_error e = {0};
    room in;
    uint64_t rng = 3, found = 0, wrong = 0, most = 0;
    REQUIRE(idx_records_new(BYTES, &s, &e) == IDX_OK);
    uint32_t *version = calloc(KEYS, sizeof *version);
    REQUIRE(version != NULL);
    idx_records_ahead(s, &(int64_t){1}, 1);
    CHECK(!idx_records_find(s, 1, 0, compare, &(wanted){0}));
    for (int i = 0; i < STEPS; i++) {
        int64_t k = (int64_t)(test_rand(&rng) % (test_rand(&rng) % 4 > 0 ? 100 : KEYS)); /* some are wanted more often */
        if (test_rand(&rng) % 50 == 0) version[k]++;
        wanted w = {k + 1, version[k], false};
        idx_records_ahead(s, (const int64_t[]){w.rowid, KEYS + 1, w.rowid / 2 + 1}, 3); /* changes nothing */
        if (idx_records_find(s, w.rowid, w.version, compare, &w)) found++, wrong += !w.same;
        idx_record r = record_of(w.rowid, w.version, &in);
        idx_records_add(s, w.rowid, w.version, &r);
        w.same = false;
        if (!idx_records_find(s, w.rowid, w.version, compare, &w) || !w.same) wrong++;
        if (idx_records_find(s, w.rowid, w.version + 1, compare, &w)) wrong++;
        if (idx_records_bytes(s) > most) most = idx_records_bytes(s);
    }
    CHECK_INT(wrong, 0);
    CHECK(found > STEPS / 2); /* the hundred fit in it many times */
    CHECK(most > BYTES / 2 && most < BYTES * 2); /* the table is an eighth of it at least */
    char *huge = malloc(BYTES);
    REQUIRE(huge != NULL);
    memset(huge, 'x', BYTES);
    huge[BYTES - 1] = 0;
    idx_records_add(s, KEYS + 1, 0, &(idx_record){huge, BYTES - 1, NULL, 0});
    CHECK(!idx_records_find(s, KEYS + 1, 0, compare, &(wanted){0}));
    free(huge);
    free(version);
    idx_records_free(s);
}

/* ---- freshness --------------------------------------------------------------------------------------------------------- */

enum { DIM = 8, ITEMS = 40, WRITES = 3000, SEARCHERS = 2 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static idx *ix;
static _Atomic int acknowledged[ITEMS];
static _Atomic bool stop;
static _Atomic long stale, lost, searches;

static idx_op *put(int item, int n)
{
    char id[16], text[64];
    snprintf(id, sizeof id, "i%d", item);
    snprintf(text, sizeof text, "{\"n\":%d}", n);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(2, sizeof *op->images)) != NULL);
    op->attributes = strdup(text);
    op->dim = DIM;
    op->n_images = 1 + (size_t)n % 2; /* images come and go, too */
    memcpy(op->fingerprint, fp, sizeof fp);
    for (size_t i = 0; i < op->n_images; i++) {
        REQUIRE((op->images[i].embedding = calloc(DIM, sizeof(float))) != NULL);
        op->images[i].embedding[item % DIM] = 1;
        op->images[i].width = (uint32_t)n + 1;
    }
    return op;
}

static idx_op *patch(int item, int n)
{
    char id[16], text[64];
    snprintf(id, sizeof id, "i%d", item);
    snprintf(text, sizeof text, "{\"n\":%d}", n);
    idx_op *op = idx_op_new(IDX_PATCH, "shop", id);
    REQUIRE(op != NULL);
    op->attributes = strdup(text);
    return op;
}

static void *search(void *arg)
{
    uint64_t s = (uint64_t)(uintptr_t)arg;
    while (!stop) {
        float v[DIM] = {0};
        int before[ITEMS];
        idx_result *r = NULL;
        idx_error e = {0};
        v[test_rand(&s) % DIM] = 1;
        for (int i = 0; i < ITEMS; i++) before[i] = acknowledged[i];
        idx_query q = {.embedding = v, .dim = DIM, .limit = ITEMS, .min_score = -2};
        if (idx_search(ix, "shop", &q, &r, &e) != IDX_OK || r->n != ITEMS) lost++;
        for (size_t i = 0; r != NULL && i < r->n; i++) {
            int n = -1, item = atoi(r->hits[i].id + 1);
            if (sscanf(r->hits[i].attributes, "{\"n\":%d}", &n) != 1 || n < before[item]) stale++;
        }
        if (r != NULL) idx_result_free(r);
        searches++;
    }
    return NULL;
}

static void *write_items(void *arg)
{
    uint64_t s = 9;
    (void)arg;
    for (int n = 1; n <= WRITES; n++) {
        int item = (int)(test_rand(&s) % ITEMS);
        if (idx_write_take(ix, test_rand(&s) % 3 > 0 ? patch(item, n) : put(item, n), NULL, NULL) != IDX_OK) lost++;
        acknowledged[item] = n;
    }
    return NULL;
}

static void freshness(void)
{
    char dir[64], command[100];
    idx_error e = {0};
    pthread_t t[SEARCHERS + 1];
    test_dir_template(dir, "likeness-records");
    REQUIRE(mkdtemp(dir) != NULL);
    REQUIRE(idx_open(dir, &(idx_opts){.disk_floor_bytes = 1}, &ix, &e) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, DIM, NULL, &e) == IDX_OK);
    for (int i = 0; i < ITEMS; i++) REQUIRE(idx_write_take(ix, put(i, 0), NULL, &e) == IDX_OK);
    for (uintptr_t i = 1; i <= SEARCHERS; i++) REQUIRE(pthread_create(&t[i], NULL, search, (void *)i) == 0);
    REQUIRE(pthread_create(&t[0], NULL, write_items, NULL) == 0);
    pthread_join(t[0], NULL);
    while (searches < 200) usleep(1000);
    stop = true;
    for (int i = 1; i <= SEARCHERS; i++) pthread_join(t[i], NULL);
    CHECK_INT(stale, 0);
    CHECK_INT(lost, 0);
    /* after the writes: what searches show is what the store has; an item that went and came is the new one */
    REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", "i3"), NULL, &e) == IDX_OK);
    float v[DIM] = {1};
    idx_query q = {.embedding = v, .dim = DIM, .limit = ITEMS, .min_score = -2};
    for (int again = 0; again < 2; again++) {
        idx_result *r = NULL;
        REQUIRE(idx_search(ix, "shop", &q, &r, &e) == IDX_OK);
        CHECK_INT(r->n, again == 0 ? ITEMS - 1 : ITEMS);
        for (size_t i = 0; i < r->n; i++) {
            idx_item *it = NULL;
            REQUIRE(idx_item_get(ix, "shop", r->hits[i].id, &it, &e) == IDX_OK);
            CHECK_STR(r->hits[i].attributes, it->attributes);
            CHECK_INT(r->hits[i].n_images, it->n_images);
            CHECK_INT(r->hits[i].width, it->images[r->hits[i].image].width);
            idx_item_free(it);
        }
        idx_result_free(r);
        if (again == 0) REQUIRE(idx_write_take(ix, put(3, WRITES + 1), NULL, &e) == IDX_OK);
    }
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_INT(system(command), 0);
    printf("%ld searches\n", (long)searches);
}

int main(void)
{
    keep_and_find();
    freshness();
    return test_end();
}
