/* Attributes on disk and back: what is read is what was written, without what is gone or changed since; also when items change
 * between the pieces of the writing. Every damaged file is refused. attrs_file_test N times the reading of N items. */
#include "../../index/attrs_file.h"
#include "test.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ITEMS = 6000 };
static uint64_t seed = 8;
static unsigned below(unsigned n) { return (unsigned)(test_rand(&seed) % n); }

typedef struct { /* a catalogue: numbers are used again, rowids are not */
    idx_attrs *a;
    char *text[ITEMS + 4000];
    int64_t rowid[ITEMS + 4000];
    bool changed[2 * ITEMS + 400000]; /* by rowid, since the writing began */
    int64_t next;
    int held, pieces, changes;
} shop;

static char *random_text(void)
{
    json_t *o = json_object(), *tags = json_array();
    char t[40];
    snprintf(t, sizeof t, "title %u", below(50000));
    json_object_set_new(o, "title", json_string(t));
    if (below(3)) json_object_set_new(o, "price", below(2) ? json_integer((json_int_t)below(300)) : json_real(below(100000) / 64.0));
    if (below(3) == 0) json_object_set_new(o, "sku", json_integer(((json_int_t)1 << (53 + below(10))) - (json_int_t)below(3000)));
    if (below(2)) json_object_set_new(o, "new", json_boolean(below(2)));
    for (unsigned n = below(4); n > 0; n--) {
        snprintf(t, sizeof t, "t%u", below(200));
        json_array_append_new(tags, json_string(t));
    }
    if (below(4)) json_object_set(o, "tags", tags);
    json_decref(tags);
    if (below(20) == 0) json_object_set_new(o, "mixed", below(2) ? json_string("x") : json_integer(below(3)));
    snprintf(t, sizeof t, "rare %u", below(30));
    if (below(40) == 0) json_object_set_new(o, t, json_string("y"));
    if (below(500) == 0) json_object_clear(o);
    char *text = json_dumps(o, JSON_COMPACT);
    json_decref(o);
    return text;
}

static void set(shop *s, uint32_t i, bool fresh)
{
    free(s->text[i]);
    s->text[i] = random_text();
    if (fresh) s->rowid[i] = s->next++;
    s->changed[s->rowid[i]] = true;
    REQUIRE(idx_attrs_set(s->a, i, s->text[i], NULL) == IDX_OK);
}

static void drop(shop *s, uint32_t i)
{
    if (s->text[i] == NULL) return;
    s->changed[s->rowid[i]] = true;
    free(s->text[i]);
    s->text[i] = NULL;
    s->rowid[i] = 0;
    idx_attrs_remove(s->a, i);
}

static void change(shop *s, unsigned n)
{
    for (unsigned k = 0; k < n; k++) {
        uint32_t i = below(ITEMS);
        if (s->text[i] == NULL) set(s, i, true); /* a number is used again */
        else if (below(3) == 0) drop(s, i);
        else set(s, i, false);
    }
}

static void hold(void *ctx) { CHECK_INT(((shop *)ctx)->held++, 0); }
static void let_go(void *ctx)
{
    shop *s = ctx;
    s->held--;
    s->pieces++;
    if (s->changes > 0) change(s, (unsigned)s->changes);
}
static int64_t rowid_of(void *ctx, uint32_t item) { return ((shop *)ctx)->rowid[item]; }

typedef struct {
    const shop *s;
    uint32_t number[2 * ITEMS + 400000]; /* rowid -> the item's number after the start + 1 */
    uint32_t n;
} start;

static uint32_t item_of(void *ctx, int64_t rowid)
{
    const start *t = ctx;
    return t->s->changed[rowid] || t->number[rowid] == 0 ? UINT32_MAX : t->number[rowid] - 1;
}

/* At a start items are numbered anew, in the order of their rowids. */
static void number_items(start *t, const shop *s)
{
    static uint32_t by_rowid[2 * ITEMS + 400000];
    memset(by_rowid, 0, sizeof by_rowid);
    for (uint32_t i = 0; i < ITEMS; i++)
        if (s->text[i] != NULL) by_rowid[s->rowid[i]] = i + 1;
    t->s = s;
    t->n = 0;
    for (int64_t r = 1; r < s->next; r++) t->number[r] = by_rowid[r] != 0 ? ++t->n : 0;
}

static void check_read(const char *path, const shop *s, const idx_attrs_key *key)
{
    static start t;
    number_items(&t, s);
    idx_attrs *a = idx_attrs_new();
    idx_attrs_file *f = NULL;
    idx_attrs_key got;
    idx_error err = {0};
    if (idx_attrs_file_open(path, &f, &got, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(f != NULL);
    CHECK(got.catalogue == key->catalogue && got.generation == key->generation && got.stamp == key->stamp);
    if (idx_attrs_read(a, f, t.n, item_of, &t, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    idx_attrs_file_close(f);
    const char *why = idx_attrs_check(a);
    if (why != NULL) TEST_FAIL("%s", why);
    uint32_t set_now = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        if (s->text[i] == NULL) continue;
        uint32_t item = t.number[s->rowid[i]] - 1;
        if (s->changed[s->rowid[i]]) REQUIRE(idx_attrs_set(a, item, s->text[i], NULL) == IDX_OK); /* as the start does */
        CHECK(idx_attrs_agree(a, item, s->text[i]));
        set_now++;
    }
    CHECK_INT(idx_attrs_count(a), set_now);
    why = idx_attrs_check(a);
    if (why != NULL) TEST_FAIL("%s", why);
    for (uint32_t i = 0; i < t.n; i++) idx_attrs_remove(a, i); /* what was read can be taken out again, to the last text */
    CHECK(idx_attrs_check(a) == NULL);
    for (uint32_t i = 0; idx_attrs_field_at(a, i) != NULL; i++) CHECK_INT(idx_attrs_field_at(a, i)->values.live, 0);
    idx_attrs_free(a);
}

static void test_round(const char *path, shop *s, int changes)
{
    idx_attrs_key key = {7, 1000 + below(1000), (int64_t)test_rand(&seed)};
    idx_attrs_writer w = {hold, let_go, rowid_of, s};
    idx_error err = {0};
    memset(s->changed, 0, sizeof s->changed);
    s->pieces = 0;
    s->changes = changes;
    if (idx_attrs_write(s->a, path, &key, &w, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    s->changes = 0;
    CHECK(s->pieces > 10 && s->held == 0);
    CHECK(idx_attrs_check(s->a) == NULL);
    check_read(path, s, &key);
    change(s, 300); /* and what was written to after */
    check_read(path, s, &key);
}

static void test_damage(const char *path, const shop *s)
{
    int fd = open(path, O_RDONLY);
    struct stat sb;
    REQUIRE(fd >= 0 && fstat(fd, &sb) == 0);
    size_t n = (size_t)sb.st_size;
    uint8_t *good = malloc(n);
    REQUIRE(read(fd, good, n) == (ssize_t)n);
    close(fd);
    char bad[100];
    snprintf(bad, sizeof bad, "%s.bad", path);
    static start t;
    number_items(&t, s);
    for (int k = 0; k < 600; k++) {
        size_t cut = k % 3 == 0 ? below((unsigned)n) : n, at = below((unsigned)cut > 0 ? (unsigned)cut : 1);
        uint8_t was = good[at];
        if (k % 3 != 0) good[at] ^= (uint8_t)(1u << below(8));
        fd = open(bad, O_CREAT | O_TRUNC | O_WRONLY, 0600);
        REQUIRE(fd >= 0 && write(fd, good, cut) == (ssize_t)cut && close(fd) == 0);
        good[at] = was;
        idx_attrs_file *f = NULL;
        idx_attrs_key key;
        CHECK_INT(idx_attrs_file_open(bad, &f, &key, NULL), IDX_ECORRUPT);
        idx_attrs_file_close(f);
    }
    unlink(bad);
    idx_attrs_file *f = NULL;
    idx_attrs_key key;
    CHECK_INT(idx_attrs_file_open(bad, &f, &key, NULL), IDX_ENOTFOUND);
    free(good);
}

/* ---- how long a start takes ---------------------------------------------------------------------------------------- */

static int64_t itself(void *ctx, uint32_t item) { return (void)ctx, (int64_t)item + 1; }
static uint32_t back(void *ctx, int64_t rowid) { return (void)ctx, (uint32_t)rowid - 1; }
static void nothing(void *ctx) { (void)ctx; }
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void time_it(const char *path, uint32_t n)
{
    static const char *const colours[] = {"red", "blue", "green", "black", "white", "yellow", "brown", "grey"};
    idx_attrs *a = idx_attrs_new(), *b = idx_attrs_new();
    double t = now();
    for (uint32_t i = 0; i < n; i++) {
        char text[300];
        snprintf(text, sizeof text, "{\"title\":\"Item %u\",\"colour\":\"%s\",\"brand\":\"brand %u\",\"price\":%u.5,\"rating\":%.3f,\"new\":%s,\"tags\":[\"t%u\",\"t%u\"]}", i, colours[below(8)],
                 below(2000), below(500), below(1000000) / 1e6, below(2) ? "true" : "false", below(30), below(30) + 30);
        REQUIRE(idx_attrs_set(a, i, text, NULL) == IDX_OK);
    }
    printf("%u items of 7 attributes from JSON: %.2f s, %.0f bytes each\n", n, now() - t, (double)idx_attrs_bytes(a) / n);
    idx_attrs_key key = {1, 2, 3};
    idx_attrs_writer w = {nothing, nothing, itself, NULL};
    t = now();
    REQUIRE(idx_attrs_write(a, path, &key, &w, NULL) == IDX_OK);
    struct stat sb;
    REQUIRE(stat(path, &sb) == 0);
    printf("written: %.2f s, %.0f bytes each\n", now() - t, (double)sb.st_size / n);
    idx_attrs_file *f;
    t = now();
    REQUIRE(idx_attrs_file_open(path, &f, &key, NULL) == IDX_OK);
    double opened = now() - t;
    REQUIRE(idx_attrs_read(b, f, n, back, NULL, NULL) == IDX_OK);
    idx_attrs_file_close(f);
    printf("read: %.2f s, of which the digest %.2f s; %.0f bytes each\n", now() - t, opened, (double)idx_attrs_bytes(b) / n);
    idx_attrs_free(a);
    idx_attrs_free(b);
}

int main(int argc, char **argv)
{
    char path[64] = "/tmp/lk_attrs_XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0 && close(fd) == 0);
    if (argc > 1) {
        time_it(path, (uint32_t)atol(argv[1]));
        unlink(path);
        return 0;
    }
    shop *s = calloc(1, sizeof *s);
    REQUIRE(s != NULL && (s->a = idx_attrs_new()) != NULL);
    s->next = 1;
    idx_attrs_key empty = {1, 0, 0};
    idx_attrs_writer w = {nothing, nothing, rowid_of, s};
    REQUIRE(idx_attrs_write(s->a, path, &empty, &w, NULL) == IDX_OK);
    check_read(path, s, &empty);
    for (uint32_t i = 0; i < ITEMS; i++)
        if (below(10)) set(s, i, true);
    for (int round = 0; round < 5; round++) test_round(path, s, round == 0 ? 0 : 20 * round);
    test_damage(path, s);
    unlink(path);
    for (uint32_t i = 0; i < ITEMS; i++) free(s->text[i]);
    idx_attrs_free(s->a);
    free(s);
    return test_end();
}
