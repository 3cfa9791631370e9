/* What deletions leave in the store's file goes back to the file system by itself, also while others write; its log stays short. */
#include "index.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 8, ITEMS = 500, RENDITION = 40000 }; /* what may stay, four megabytes of free pages and a log of three, is less than half */
static char dir[64];
static idx *ix;

static void write_one(idx_op_kind kind, int i)
{
    static unsigned turn; /* images that are put again as they are would not be written */
    char id[32];
    snprintf(id, sizeof id, "item-%d", i);
    idx_op *op = idx_op_new(kind, "shop", id);
    REQUIRE(op != NULL);
    if (kind == IDX_PUT) {
        op->dim = DIM;
        op->n_images = 1;
        op->images = calloc(1, sizeof *op->images);
        op->images->embedding = calloc(DIM, sizeof(float));
        op->images->embedding[turn++ % DIM] = 1;
        op->images->rendition_bytes = RENDITION;
        op->images->rendition = malloc(RENDITION);
        memset(op->images->rendition, i, RENDITION);
    }
    REQUIRE(idx_write_take(ix, op, NULL, NULL) == IDX_OK);
}

static uint64_t disk(void)
{
    idx_stats s;
    idx_get_stats(ix, &s);
    return s.disk_bytes;
}

/* Below `bytes` within a minute; `busy`: with writes all the time. */
static bool comes_below(uint64_t bytes, bool busy)
{
    for (int i = 0; i < 60000 && disk() >= bytes; i++) {
        if (busy) write_one(IDX_PUT, i % 10);
        else usleep(1000);
    }
    return disk() < bytes;
}

static int64_t log_bytes(void)
{
    char path[128];
    struct stat st;
    snprintf(path, sizeof path, "%s/catalogue.sqlite3-wal", dir);
    return stat(path, &st) == 0 ? (int64_t)st.st_size : -1;
}

int main(void)
{
    idx_error e = {0};
    idx_opts o = {.no_background = true, .disk_floor_bytes = 1};
    test_dir_template(dir, "likeness-shrink");
    REQUIRE(mkdtemp(dir) != NULL);
    REQUIRE(idx_open(dir, &o, &ix, &e) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "external", "external", DIM, NULL, &e) == IDX_OK);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < ITEMS; i++) write_one(IDX_PUT, i);
        CHECK(disk() > ITEMS * RENDITION);
        for (int i = 10; i < ITEMS; i++) write_one(IDX_DELETE, i);
        CHECK(comes_below(ITEMS * RENDITION / 2, round == 1));
        if (idx_check(ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    }
    for (int i = 0; i < 1000; i++) write_one(IDX_PUT, i % 10); /* 40 MB */
    CHECK(log_bytes() >= 0 && log_bytes() < 3 << 20);
    for (int i = 0; i < 10; i++) { /* what is left is what it was */
        uint8_t *jpeg = NULL;
        size_t n = 0;
        char id[32];
        snprintf(id, sizeof id, "item-%d", i);
        REQUIRE(idx_rendition_get(ix, "shop", id, 0, &jpeg, &n, &e) == IDX_OK);
        CHECK_INT(n, RENDITION);
        CHECK(jpeg[0] == (uint8_t)i && memcmp(jpeg, jpeg + 1, n - 1) == 0);
        free(jpeg);
    }
    idx_close(ix);
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    CHECK_INT(system(command), 0);
    return test_end();
}
