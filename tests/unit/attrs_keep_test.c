/* Attributes across starts: the file is used when it fits, whatever was written since; a file that is damaged, of another history or
 * newer than the store is refused and the store's JSON read instead. In every case idx_check finds memory and store agreed. */
#include "index.h"
#include "test.h"

#include <fcntl.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 4, ITEMS = 3000 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 12;
static char root[64];
static char said[400]; /* the last warning */

static unsigned below(unsigned n) { return (unsigned)(test_rand(&seed) % n); }

static void hear(void *ctx, int level, const char *text)
{
    (void)ctx;
    if (level > 0) snprintf(said, sizeof said, "%s", text);
}

static idx *start(const char *dir)
{
    char path[200];
    idx *ix = NULL;
    idx_error err = {0};
    idx_opts o = {.no_background = true, .segment_images = 2000, .disk_floor_bytes = 1, .log = hear};
    snprintf(path, sizeof path, "%s/%s", root, dir);
    said[0] = 0;
    if (idx_open(path, &o, &ix, &err) != IDX_OK) TEST_FAIL("%s", err.text);
    REQUIRE(ix != NULL);
    if (idx_check(ix, &err) != IDX_OK) TEST_FAIL("%s: %s", dir, err.text);
    return ix;
}

static void put(idx *ix, unsigned i, bool wait)
{
    char id[32], text[200];
    snprintf(id, sizeof id, "item-%05u", i);
    snprintf(text, sizeof text, "{\"title\":\"title %u\",\"price\":%u.25,\"tags\":[\"t%u\",\"all\"],\"new\":%s}", below(100000), below(100), below(9), below(2) ? "true" : "false");
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL);
    op->attributes = strdup(text);
    op->dim = DIM;
    op->n_images = 1;
    memcpy(op->fingerprint, fp, sizeof fp);
    REQUIRE((op->images->embedding = calloc(DIM, sizeof(float))) != NULL);
    op->images->embedding[i % DIM] = 1;
    REQUIRE((wait ? idx_write_take(ix, op, NULL, NULL) : idx_submit_take(ix, op, NULL)) == IDX_OK);
}

static void write_some(idx *ix, unsigned n)
{
    char id[32];
    for (unsigned k = 0; k < n; k++) {
        unsigned i = below(ITEMS), what = below(10);
        snprintf(id, sizeof id, "item-%05u", i);
        if (what < 5) {
            put(ix, i, k % 500 == 0);
            continue;
        }
        idx_op *op = idx_op_new(what < 8 ? IDX_PATCH : IDX_DELETE, "shop", id);
        if (what < 8) op->attributes = strdup(below(2) ? "{\"price\":1,\"sale\":true}" : "{\"new\":null}");
        REQUIRE(idx_submit_take(ix, op, NULL) == IDX_OK);
        if (k % 1000 == 999) put(ix, i, true);
    }
    put(ix, ITEMS, true); /* waits for all of them */
}

static void run(const char *fmt, const char *a, const char *b)
{
    char cmd[400];
    snprintf(cmd, sizeof cmd, fmt, root, a, root, b); // NOLINT: the formats below
    REQUIRE(system(cmd) == 0);
}

static long file_size(const char *dir)
{
    char pattern[200];
    glob_t g;
    struct stat sb;
    long size = -1;
    snprintf(pattern, sizeof pattern, "%s/%s/segments/*.attrs", root, dir);
    if (glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc == 1 && stat(g.gl_pathv[0], &sb) == 0) size = (long)sb.st_size;
    globfree(&g);
    return size;
}

static uint64_t matches(idx *ix, const char *filter)
{
    float v[DIM] = {1};
    idx_query q = {.embedding = v, .dim = DIM, .limit = 1, .min_score = -2, .filter = filter};
    idx_result *r = NULL;
    REQUIRE(idx_search(ix, "shop", &q, &r, NULL) == IDX_OK);
    uint64_t n = r->matches;
    idx_result_free(r);
    return n;
}

int main(void)
{
    bool created;
    idx_error err = {0};
    snprintf(root, sizeof root, "/tmp/lk_keep_XXXXXX");
    REQUIRE(mkdtemp(root) != NULL);
    idx *ix = start("a");
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, DIM, &created, NULL) == IDX_OK);
    for (unsigned i = 0; i < ITEMS; i++) put(ix, i, i % 500 == 499);
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    CHECK_INT(file_size("a"), -1); /* so few are read from the store in no time */
    write_some(ix, 7000);
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    long size = file_size("a");
    CHECK(size > 10000);
    run("cp -r %s/%s %s/%s", "a", "older"); /* as a kill leaves it, and a backup's */
    write_some(ix, 1500);
    uint64_t cheap = matches(ix, "price < 20"), sale = matches(ix, "sale = true"), tagged = matches(ix, "tags:t3");
    run("cp -r %s/%s %s/%s", "a", "killed");
    idx_close(ix);
    CHECK_INT(file_size("a"), size); /* too little changed to write it again */

    for (int i = 0; i < 2; i++) {
        ix = start(i == 0 ? "a" : "killed"); /* the file, and what the log says */
        CHECK_STR(said, "");
        CHECK_INT(matches(ix, "price < 20"), cheap);
        CHECK_INT(matches(ix, "sale = true"), sale);
        CHECK_INT(matches(ix, "tags:t3"), tagged);
        write_some(ix, 2500); /* enough to be written at the end */
        idx_close(ix);
        CHECK(file_size(i == 0 ? "a" : "killed") != size);
        ix = start(i == 0 ? "a" : "killed");
        CHECK_STR(said, "");
        idx_close(ix);
    }

    /* An older store with a newer file: another history. */
    run("cp -r %s/%s %s/%s", "older", "restored");
    run("cp %s/%s/segments/*.attrs %s/%s/segments/", "a", "restored");
    ix = start("restored");
    CHECK_CONTAINS(said, "another");
    CHECK_INT(file_size("restored"), -1);
    write_some(ix, 4000); /* it comes to the generation of the file of the other history */
    idx_close(ix);
    run("cp %s/%s/segments/*.attrs %s/%s/segments/", "killed", "restored");
    ix = start("restored");
    CHECK_CONTAINS(said, "another");
    idx_close(ix);

    /* A damaged file. */
    char path[200], pattern[200];
    glob_t g;
    snprintf(pattern, sizeof pattern, "%s/a/segments/*.attrs", root);
    REQUIRE(glob(pattern, 0, NULL, &g) == 0);
    snprintf(path, sizeof path, "%s", g.gl_pathv[0]);
    globfree(&g);
    int fd = open(path, O_RDWR);
    REQUIRE(fd >= 0 && pwrite(fd, "x", 1, 5000) == 1 && close(fd) == 0);
    ix = start("a");
    CHECK_CONTAINS(said, "digest");
    CHECK_INT(file_size("a"), -1);
    /* The catalogue's file goes with it. */
    write_some(ix, 9000);
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    CHECK(file_size("a") > 0);
    REQUIRE(idx_catalogue_delete(ix, "shop", NULL) == IDX_OK);
    CHECK_INT(file_size("a"), -1);
    idx_close(ix);
    run("cp %s/%s/segments/*.attrs %s/%s/segments/", "killed", "a");
    ix = start("a");
    CHECK_INT(file_size("a"), -1);
    idx_close(ix);
    run("rm -rf %s/%s && rm -rf %s%s", "", "");
    return test_end();
}
