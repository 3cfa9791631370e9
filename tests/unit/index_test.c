/* The index against a plain array: random puts, patches, deletes, searches, pages and restarts, with rows linked, saved and
 * compacted along the way, for each way to keep vectors; then damaged files, limits and errors. index_test STEPS for a longer run. */
#include "../../index/ann.h"
#include "index.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

enum { DIM = 32, ITEMS = 400, MAX_IMG = 3 };
static const char *const fp = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 11;
static char dir[64];

typedef struct { /* what the array knows of an item */
    bool there;
    int n;
    float v[MAX_IMG][DIM];
    int price;
    char colour[8];
} known;
static known model[ITEMS];
static idx_rows *kept; /* one row, as the index keeps vectors */

static idx *reopen(idx *ix, uint32_t segment_images)
{
    idx_close(ix);
    idx_error err = {0};
    idx_opts o = {.no_background = true, .segment_images = segment_images, .disk_floor_bytes = 1};
    idx *out = NULL;
    idx_status st = idx_open(dir, &o, &out, &err);
    if (st != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(st == IDX_OK);
    return out;
}

static void unit(float *v)
{
    double n = 0;
    int cluster = (int)(test_rand(&seed) % 12);
    for (int i = 0; i < DIM; i++) {
        v[i] = test_randf(&seed) + (i == cluster * 2 ? 2.5f : 0);
        n += (double)v[i] * (double)v[i];
    }
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void name_of(int i, char out[32]) { snprintf(out, 32, "item-%03d-\xc3\xa9", i); }

static void put(idx *ix, int i)
{
    static const char *const colours[] = {"red", "green", "blue"};
    char id[32], attrs[200];
    known *k = &model[i];
    name_of(i, id);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL);
    bool was = k->there, keep = was && test_rand(&seed) % 4 == 0, same = was && !keep && test_rand(&seed) % 4 == 0;
    k->there = true;
    k->price = (int)(test_rand(&seed) % 100);
    snprintf(k->colour, sizeof k->colour, "%s", colours[test_rand(&seed) % 3]);
    snprintf(attrs, sizeof attrs, "{\"price\":%d,\"colour\":\"%s\",\"tags\":[\"%s\",\"all\"],\"new\":%s}", k->price, k->colour, k->price % 2 ? "odd" : "even",
             k->price < 50 ? "true" : "false");
    op->attributes = strdup(attrs);
    op->dim = DIM;
    snprintf(op->fingerprint, sizeof op->fingerprint, "%s", fp);
    if (!keep) {
        if (!same) k->n = 1 + (int)(test_rand(&seed) % MAX_IMG);
        op->n_images = (size_t)k->n;
        op->images = calloc(op->n_images, sizeof *op->images);
        for (int m = 0; m < k->n; m++) {
            if (!same) unit(k->v[m]);
            op->images[m].embedding = malloc(sizeof k->v[m]);
            memcpy(op->images[m].embedding, k->v[m], sizeof k->v[m]);
            op->images[m].rendition = (uint8_t *)strdup("jpeg");
            op->images[m].rendition_bytes = 4;
            op->images[m].width = 100 + (uint32_t)m;
            op->images[m].height = 50;
        }
    }
    bool created = false;
    idx_error err = {0};
    idx_status st = idx_write_take(ix, op, &created, &err);
    if (st != IDX_OK) TEST_FAIL("put: %s", err.text);
    CHECK_INT(created, !was);
}

static void patch(idx *ix, int i)
{
    char id[32], text[64];
    known *k = &model[i];
    name_of(i, id);
    idx_op *op = idx_op_new(IDX_PATCH, "shop", id);
    int price = (int)(test_rand(&seed) % 100);
    snprintf(text, sizeof text, "{\"price\":%d,\"new\":null}", price);
    op->attributes = strdup(text);
    idx_error err = {0};
    CHECK_INT(idx_write_take(ix, op, NULL, &err), k->there ? IDX_OK : IDX_ENOTFOUND);
    if (k->there) k->price = price;
}

static void drop(idx *ix, int i)
{
    char id[32];
    name_of(i, id);
    idx_error err = {0};
    CHECK_INT(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, &err), model[i].there ? IDX_OK : IDX_ENOTFOUND);
    model[i].there = false;
}

typedef struct {
    float score;
    int item, image;
} rank;

static int by_rank(const void *a, const void *b)
{
    const rank *x = a, *y = b;
    return x->score > y->score ? -1 : x->score < y->score ? 1 : x->item - y->item; /* ids sort as numbers do */
}

static size_t expected(const float *q, int max_price, float min_score, rank *out)
{
    size_t n = 0;
    idx_probe p;
    _Alignas(IDX_ROW_ALIGN) uint8_t room[1024];
    idx_probe_query(&p, kept, q, room);
    for (int i = 0; i < ITEMS; i++) {
        if (!model[i].there || model[i].price >= max_price) continue;
        rank r = {-2, i, 0};
        for (int m = 0; m < model[i].n; m++) {
            idx_rows_encode(kept, model[i].v[m], idx_rows_at(kept, 0));
            float s = idx_probe_score(&p, idx_rows_at(kept, 0));
            if (s > r.score) r.score = s, r.image = m;
        }
        if (r.score >= min_score) out[n++] = r;
    }
    qsort(out, n, sizeof *out, by_rank);
    return n;
}

/* Walks all pages of a search and compares; approximate searches may miss a little, exact ones nothing. */
static void search(idx *ix, bool exact, double *recall)
{
    static rank want[ITEMS];
    float q[DIM];
    unit(q);
    int max_price = test_rand(&seed) % 2 ? 1000 : (int)(test_rand(&seed) % 100);
    float min_score = test_rand(&seed) % 3 ? -2.0f : 0.2f;
    size_t n = expected(q, max_price, min_score, want);
    char filter[64];
    snprintf(filter, sizeof filter, "price < %d", max_price);
    idx_query query = {.embedding = q, .dim = DIM, .limit = 1 + (uint32_t)(test_rand(&seed) % 12), .min_score = min_score, .exact = exact,
                       .filter = max_price == 1000 ? NULL : filter};
    char after[300];
    size_t at = 0, hits = 0;
    for (int page = 0; page < 4; page++) {
        idx_result *r = NULL;
        idx_error err = {0};
        idx_status st = idx_search(ix, "shop", &query, &r, &err);
        if (st != IDX_OK) TEST_FAIL("search: %s", err.text);
        REQUIRE(st == IDX_OK);
        for (size_t i = 0; i < r->n; i++, at++) {
            char id[32];
            if (exact) {
                REQUIRE(at < n);
                name_of(want[at].item, id);
                CHECK_STR(r->hits[i].id, id);
                CHECK_INT(r->hits[i].image, want[at].image);
                CHECK(r->hits[i].score == fminf(want[at].score, 1)); /* the same bits, wherever it was found */
            } else {
                for (size_t k = 0; k < n && k < at + r->n + 2; k++) {
                    name_of(want[k].item, id);
                    hits += strcmp(id, r->hits[i].id) == 0;
                }
            }
            if (i > 0) CHECK(r->hits[i].score <= r->hits[i - 1].score);
        }
        if (exact) CHECK_INT(r->more, at < n);
        bool more = r->more && r->n > 0;
        if (more) {
            snprintf(after, sizeof after, "%s", r->hits[r->n - 1].id);
            query.after = true;
            query.after_score = r->hits[r->n - 1].score;
            query.after_id = after;
        }
        idx_result_free(r);
        if (!more) break;
    }
    if (!exact && at > 0) *recall += (double)hits / (double)at;
    if (!exact && at == 0) *recall += 1;
}

static void list(idx *ix)
{
    char after[300] = "";
    size_t seen = 0, want = 0;
    for (int i = 0; i < ITEMS; i++) want += model[i].there && strcmp(model[i].colour, "red") == 0;
    for (bool more = true; more;) {
        idx_item **items;
        size_t n;
        idx_error err = {0};
        REQUIRE(idx_item_list(ix, "shop", "colour = red", after, 7, &items, &n, &more, &err) == IDX_OK);
        for (size_t i = 0; i < n; i++) {
            CHECK(strcmp(items[i]->id, after) > 0);
            snprintf(after, sizeof after, "%s", items[i]->id);
        }
        seen += n;
        idx_items_free(items, n);
    }
    CHECK_INT(seen, want);
}

static void check(idx *ix)
{
    idx_error err = {0};
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    test_checks++;
}

static void test_against_array(idx_storage storage, long steps)
{
    idx *ix = reopen(NULL, 60);
    bool created;
    idx_catalogue_spec spec = {"shop", "test", fp, DIM, storage, false};
    idx_rows_free(kept);
    REQUIRE(idx_rows_new(storage, DIM, &kept, NULL) == IDX_OK && idx_rows_room(kept, 0, NULL) == IDX_OK);
    memset(model, 0, sizeof model);
    if (idx_catalogue_delete(ix, "shop", NULL) == IDX_OK) ix = reopen(ix, 60);
    REQUIRE(idx_catalogue_create(ix, &spec, &created, NULL) == IDX_OK && created);
    REQUIRE(idx_catalogue_create(ix, &spec, &created, NULL) == IDX_OK && !created);
    REQUIRE(idx_catalogue_put(ix, "shop", "test", fp, DIM, &created, NULL) == IDX_OK && !created); /* any storage will do */
    CHECK_INT(idx_catalogue_put(ix, "shop", "test", "other", DIM, &created, NULL), IDX_EEXISTS);
    spec.storage = storage == IDX_INT8 ? IDX_FLOAT16 : IDX_INT8;
    CHECK_INT(idx_catalogue_create(ix, &spec, &created, NULL), IDX_EEXISTS);
    uint64_t walks = idx_ann_walks();
    double recall = 0;
    long searches = 0;
    for (long s = 0; s < steps; s++) {
        uint64_t what = test_rand(&seed) % 100;
        int i = (int)(test_rand(&seed) % ITEMS);
        if (what < 40) put(ix, i);
        else if (what < 50) patch(ix, i);
        else if (what < 60) drop(ix, i);
        else if (what < 75) search(ix, true, NULL);
        else if (what < 95) search(ix, false, &recall), searches++;
        else if (what < 97) REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
        else if (what < 98) list(ix);
        else if (what < 99) check(ix);
        else ix = reopen(ix, 60 + (uint32_t)(test_rand(&seed) % 100));
    }
    check(ix);
    printf("storage %d: recall of approximate searches %.4f over %ld\n", (int)storage, recall / (double)searches, searches);
    CHECK(recall / (double)searches >= 0.99);
    CHECK(idx_ann_walks() - walks >= (uint64_t)searches / 4); /* they came through walk.c */
    idx_catalogue c;
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    size_t there = 0;
    for (int i = 0; i < ITEMS; i++) there += model[i].there;
    CHECK_INT(c.items, there);
    idx_close(ix);
}

/* ---- damaged files ---------------------------------------------------------------------------------------------- */

static int each_file(int (*fn)(const char *path, uint64_t r))
{
    char path[400], sub[100];
    int n = 0;
    snprintf(sub, sizeof sub, "%s/segments", dir);
    DIR *d = opendir(sub);
    REQUIRE(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", sub, e->d_name);
        n += fn(path, test_rand(&seed));
    }
    closedir(d);
    return n;
}

static int flip(const char *path, uint64_t r)
{
    int fd = open(path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    uint8_t b;
    off_t at = (off_t)(r % (uint64_t)size);
    REQUIRE(pread(fd, &b, 1, at) == 1);
    b ^= (uint8_t)(1u << (r >> 40) % 8);
    REQUIRE(pwrite(fd, &b, 1, at) == 1);
    close(fd);
    return 1;
}

static int cut(const char *path, uint64_t r)
{
    int fd = open(path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);
    REQUIRE(ftruncate(fd, (off_t)(r % (uint64_t)size)) == 0);
    close(fd);
    return 1;
}

static int erase(const char *path, uint64_t r) { return (void)r, unlink(path) == 0; }

/* What a crash between the commit that removes a catalogue and the removal of its files leaves. */
static void test_strays(void)
{
    static const char *const names[] = {"999-0.rows", "999-0.graph", "999-0.parts", "999-1.graph.tmp", "1-1.seg"}; /* and of an older version */
    char path[5][120];
    idx *ix = reopen(NULL, 60);
    REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
    idx_catalogue before, after;
    REQUIRE(idx_catalogue_get(ix, "shop", &before, NULL) == IDX_OK);
    CHECK(before.segments > 0);
    idx_close(ix);
    for (int i = 0; i < 5; i++) {
        snprintf(path[i], sizeof path[i], "%s/segments/%s", dir, names[i]);
        int fd = open(path[i], O_CREAT | O_WRONLY, 0600);
        REQUIRE(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0);
    }
    ix = reopen(NULL, 60);
    for (int i = 0; i < 5; i++) CHECK_INT(access(path[i], F_OK), -1);
    REQUIRE(idx_catalogue_get(ix, "shop", &after, NULL) == IDX_OK);
    CHECK_INT(after.segments, before.segments); /* those of the living stay */
    idx_close(ix);
}

/* More rows have died that were not linked yet than are linked: those are found all the same. */
static void test_fresh_dead(void)
{
    enum { LINKED = 150, LEFT = 4 };
    idx *ix = reopen(NULL, 60);
    double recall = 0;
    for (int i = 0; i < ITEMS; i++) drop(ix, i);
    for (int i = 0; i < LINKED; i++) put(ix, i);
    REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
    for (int i = LINKED; i < ITEMS; i++) put(ix, i);
    for (int i = LINKED; i < ITEMS - LEFT; i++) drop(ix, i);
    for (int i = 0; i < 50; i++) search(ix, false, &recall);
    CHECK(recall / 50 > 0.95);
    idx_close(ix);
}


static void test_damage(long rounds)
{
    for (long k = 0; k < rounds; k++) {
        idx *ix = reopen(NULL, 60);
        REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
        idx_catalogue before, after;
        REQUIRE(idx_catalogue_get(ix, "shop", &before, NULL) == IDX_OK);
        idx_close(ix);
        CHECK(each_file(k % 3 == 0 ? flip : k % 3 == 1 ? cut : erase) > 0);
        ix = reopen(NULL, 60);
        REQUIRE(idx_catalogue_get(ix, "shop", &after, NULL) == IDX_OK);
        CHECK(before.sealed_images > 0);
        CHECK_INT(after.sealed_images, 0); /* every damaged file was refused */
        CHECK_INT(after.images, before.images);
        check(ix);
        search(ix, true, NULL);
        idx_close(ix);
    }
}

/* ---- errors ------------------------------------------------------------------------------------------------------- */

static idx_op *simple_put(const char *catalogue, const char *id, const float *v)
{
    idx_op *op = idx_op_new(IDX_PUT, catalogue, id);
    op->dim = DIM;
    op->n_images = 1;
    op->images = calloc(1, sizeof *op->images);
    op->images[0].embedding = malloc(DIM * sizeof(float));
    memcpy(op->images[0].embedding, v, DIM * sizeof(float));
    return op;
}

/* Puts the item "same", with a rendition, a size and attributes; returns how many images are dead after it. */
static uint64_t put_same(idx *ix, const float *v, const char *rendition, uint32_t width, const char *attributes)
{
    idx_op *op = simple_put("shop", "same", v);
    op->attributes = strdup(attributes);
    if (rendition != NULL) op->images[0].rendition = (uint8_t *)strdup(rendition), op->images[0].rendition_bytes = strlen(rendition);
    op->images[0].width = width;
    idx_error err = {0};
    idx_catalogue c;
    if (idx_write_take(ix, op, NULL, &err) != IDX_OK) TEST_FAIL("put: %s", err.text);
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    return c.deleted_images;
}

/* Images that are sent again as they are keep their places in the index; anything else about them makes new ones. */
static void test_sent_again(void)
{
    idx *ix = reopen(NULL, 60);
    float v[DIM], w[DIM];
    unit(v);
    unit(w);
    uint64_t dead = put_same(ix, v, "jpeg", 10, "{\"price\":1}");
    CHECK_INT(put_same(ix, v, "jpeg", 10, "{\"price\":2}"), dead);
    idx_item *it;
    REQUIRE(idx_item_get(ix, "shop", "same", &it, NULL) == IDX_OK);
    CHECK_STR(it->attributes, "{\"price\":2}");
    idx_item_free(it);
    CHECK_INT(put_same(ix, v, "jpe", 10, "{\"price\":2}"), ++dead);
    CHECK_INT(put_same(ix, v, NULL, 10, "{\"price\":2}"), ++dead);
    CHECK_INT(put_same(ix, v, NULL, 10, "{\"price\":2}"), dead);
    CHECK_INT(put_same(ix, v, NULL, 11, "{\"price\":2}"), ++dead);
    CHECK_INT(put_same(ix, w, NULL, 11, "{\"price\":2}"), ++dead);
    CHECK_INT(put_same(ix, w, "jpeg", 11, "{\"price\":2}"), ++dead);
    check(ix);
    idx_close(ix);
}

/* Catalogues whose items alternate in the store come back each with its own, those with index files and those without; also where names are in
 * another order than the catalogues were made, and some are empty or gone. */
static void test_several(void)
{
    enum { N = 5, EACH = 70, EMPTY = 1, GONE = 3 };
    static const char *const names[N] = {"e", "d", "c", "b", "a"};
    static float v[EACH][DIM];
    idx *ix = reopen(NULL, 60);
    for (int c = 0; c < N; c++) REQUIRE(idx_catalogue_put(ix, names[c], "m", fp, DIM, NULL, NULL) == IDX_OK);
    for (int i = 0; i < EACH; i++) {
        unit(v[i]);
        for (int c = 0; c < N; c++) {
            char id[16];
            snprintf(id, sizeof id, "%s%d", names[c], i);
            if (c == GONE && i == EACH / 2) REQUIRE(idx_catalogue_delete(ix, names[c], NULL) == IDX_OK);
            if (c == EMPTY || (c == GONE && i >= EACH / 2)) continue;
            idx_op *op = simple_put(names[c], id, v[i]);
            op->attributes = strdup(c == 0 ? "{\"of\":\"e\"}" : "{\"of\":\"others\"}");
            REQUIRE(idx_write_take(ix, op, NULL, NULL) == IDX_OK);
        }
        if (i == EACH / 2) REQUIRE(idx_maintain(ix, NULL) == IDX_OK); /* files of some of the rows */
    }
    ix = reopen(ix, 60);
    check(ix);
    for (int c = 0; c < N; c++) {
        idx_catalogue of;
        CHECK_INT(idx_catalogue_get(ix, names[c], &of, NULL), c == GONE ? IDX_ENOTFOUND : IDX_OK);
        if (c == GONE) continue;
        CHECK_INT(of.items, c == EMPTY ? 0 : EACH);
        for (int i = 0; i < EACH && c != EMPTY; i++) {
            char id[16];
            idx_result *r = NULL;
            snprintf(id, sizeof id, "%s%d", names[c], i);
            idx_query q = {.embedding = v[i], .dim = DIM, .limit = 1, .min_score = -2, .filter = c == 0 ? "of = \"e\"" : "of = \"others\"", .exact = true};
            REQUIRE(idx_search(ix, names[c], &q, &r, NULL) == IDX_OK && r->n == 1);
            CHECK_STR(r->hits[0].id, id);
            idx_result_free(r);
        }
    }
    for (int c = 0; c < N; c++)
        if (c != GONE) REQUIRE(idx_catalogue_delete(ix, names[c], NULL) == IDX_OK);
    idx_close(ix);
}

static void test_errors(void)
{
    idx *ix = reopen(NULL, 60);
    float v[DIM], bad[DIM] = {0};
    unit(v);
    idx_error err = {0};
    CHECK_INT(idx_write_take(ix, simple_put("nowhere", "a", v), NULL, &err), IDX_ENOTFOUND);
    CHECK_CONTAINS(err.text, "nowhere");
    err = (idx_error){0};
    CHECK_INT(idx_write_take(ix, simple_put("shop", "a", bad), NULL, &err), IDX_EINVAL);
    bad[0] = NAN;
    CHECK_INT(idx_write_take(ix, simple_put("shop", "a", bad), NULL, NULL), IDX_EINVAL);
    idx_op *op = simple_put("shop", "a", v);
    snprintf(op->fingerprint, sizeof op->fingerprint, "other");
    CHECK_INT(idx_write_take(ix, op, NULL, NULL), IDX_EMODEL);
    op = simple_put("shop", "a", v);
    op->attributes = strdup("{\"a\":{\"b\":1}}");
    err = (idx_error){0};
    CHECK_INT(idx_write_take(ix, op, NULL, &err), IDX_EINVAL);
    CHECK_CONTAINS(err.text, "attributes.a is an object");
    char long_id[300];
    memset(long_id, 'x', sizeof long_id);
    long_id[257] = 0;
    CHECK_INT(idx_write_take(ix, simple_put("shop", long_id, v), NULL, NULL), IDX_EINVAL);
    CHECK_INT(idx_write_take(ix, simple_put("shop", "fresh-one", v), NULL, NULL), IDX_OK);
    op = simple_put("shop", "fresh-one", v);
    op->must_not_exist = true;
    CHECK_INT(idx_write_take(ix, op, NULL, NULL), IDX_EEXISTS);
    CHECK_INT(idx_write_take(ix, idx_op_new(IDX_PUT, "shop", "absent"), NULL, NULL), IDX_ENOTFOUND);
    uint8_t *jpeg;
    size_t n;
    CHECK_INT(idx_rendition_get(ix, "shop", "absent", 0, &jpeg, &n, NULL), IDX_ENOTFOUND);
    idx_result *r;
    err = (idx_error){0};
    CHECK_INT(idx_search(ix, "shop", &(idx_query){.embedding = v, .dim = DIM, .limit = 5, .filter = "price <"}, &r, &err), IDX_EFILTER);
    CHECK_CONTAINS(err.text, "column 8");
    CHECK_INT(idx_search(ix, "shop", &(idx_query){.embedding = v, .dim = 7, .limit = 5}, &r, NULL), IDX_EMODEL);
    CHECK_INT(idx_search(ix, "shop", &(idx_query){.embedding = v, .dim = DIM, .limit = 5, .min_score = -2, .exclude_item = "fresh-one"}, &r, NULL), IDX_OK);
    for (size_t i = 0; i < r->n; i++) CHECK(strcmp(r->hits[i].id, "fresh-one") != 0);
    idx_result_free(r);
    CHECK_INT(idx_catalogue_delete(ix, "shop", NULL), IDX_OK);
    CHECK_INT(idx_catalogue_delete(ix, "shop", NULL), IDX_ENOTFOUND);
    ix = reopen(ix, 60);
    idx_catalogue c;
    CHECK_INT(idx_catalogue_get(ix, "shop", &c, NULL), IDX_ENOTFOUND);
    check(ix);
    idx_close(ix);
    /* Too little disk: writes are refused, deletions and searches go on. */
    idx_opts o = {.no_background = true, .disk_floor_bytes = UINT64_MAX / 4};
    REQUIRE(idx_open(dir, &o, &ix, NULL) == IDX_OK);
    err = (idx_error){0};
    CHECK_INT(idx_catalogue_put(ix, "full", "m", fp, DIM, NULL, &err), IDX_EFULL);
    CHECK_CONTAINS(err.text, "disk");
    idx_close(ix);
}

/* ---- many at once --------------------------------------------------------------------------------------------------- */

static idx *shared;
static void *writer(void *arg)
{
    uint64_t s = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < 150; i++) {
        float v[DIM];
        double n = 0;
        for (int k = 0; k < DIM; k++) v[k] = test_randf(&s), n += (double)v[k] * (double)v[k];
        for (int k = 0; k < DIM; k++) v[k] = (float)((double)v[k] / sqrt(n));
        char id[40];
        snprintf(id, sizeof id, "t%d-%d", (int)(uintptr_t)arg, i);
        if (idx_write_take(shared, simple_put("busy", id, v), NULL, NULL) != IDX_OK) return "write failed";
        idx_result *r = NULL;
        if (idx_search(shared, "busy", &(idx_query){.embedding = v, .dim = DIM, .limit = 1, .min_score = -2}, &r, NULL) != IDX_OK) return "search failed";
        bool own = r->n == 1 && strcmp(r->hits[0].id, id) == 0; /* read your writes */
        idx_result_free(r);
        if (!own) return "the search did not see the write";
        if (i % 5 == 0 && idx_write_take(shared, idx_op_new(IDX_DELETE, "busy", id), NULL, NULL) != IDX_OK) return "delete failed";
    }
    return NULL;
}

static void test_threads(void)
{
    idx_opts o = {.segment_images = 100, .disk_floor_bytes = 1}; /* the background thread works meanwhile */
    REQUIRE(idx_open(dir, &o, &shared, NULL) == IDX_OK);
    REQUIRE(idx_catalogue_put(shared, "busy", "m", fp, DIM, NULL, NULL) == IDX_OK);
    pthread_t t[4];
    for (uintptr_t i = 0; i < 4; i++) pthread_create(&t[i], NULL, writer, (void *)(i + 1));
    for (int i = 0; i < 4; i++) {
        void *why = NULL;
        pthread_join(t[i], &why);
        test_checks++;
        if (why != NULL) TEST_FAIL("%s", (const char *)why);
    }
    idx_stats st;
    idx_get_stats(shared, &st);
    CHECK(st.commits < st.committed_ops); /* group commit */
    check(shared);
    idx_close(shared);
}

int main(int argc, char **argv)
{
    snprintf(dir, sizeof dir, "/tmp/likeness-index-test-%d", (int)getpid());
    for (int s = IDX_FLOAT32; s <= IDX_INT8; s++) test_against_array((idx_storage)s, argc > 1 ? atol(argv[1]) : 800);
    test_strays();
    test_damage(6);
    test_fresh_dead();
    test_sent_again();
    test_several();
    test_errors();
    test_threads();
    idx_rows_free(kept);
    char cmd[100];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    CHECK_INT(system(cmd), 0);
    return test_end();
}
