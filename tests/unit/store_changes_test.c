/* The log of changes: one line a write, in the transaction of the write; what no derived file needs is forgotten. */
#include "../../index/store.h"
#include "index.h"
#include "test.h"

#include <unistd.h>

static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";

typedef struct {
    uint64_t generation[64];
    int64_t item[64], stamp[64];
    int n;
} lines;

static idx_status take(void *ctx, uint64_t generation, int64_t item, int64_t stamp)
{
    lines *l = ctx;
    if (l->n < 64) l->generation[l->n] = generation, l->item[l->n] = item, l->stamp[l->n] = stamp;
    l->n++;
    return IDX_OK;
}

static void add(idx_store *s, int64_t catalogue, uint64_t from, uint64_t to)
{
    REQUIRE(idx_store_begin(s, NULL) == IDX_OK);
    for (uint64_t g = from; g <= to; g++) REQUIRE(idx_store_change(s, catalogue, g, (int64_t)g * 10, (int64_t)g * 100, NULL) == IDX_OK);
    REQUIRE(idx_store_commit(s, NULL) == IDX_OK);
}

static void test_store(const char *dir)
{
    idx_store *s;
    REQUIRE(idx_store_open(dir, &s, NULL) == IDX_OK);
    idx_catalogue_row row = {.info = {.dim = 4, .name = "a", .model = "m"}}, *rows;
    size_t n;
    REQUIRE(idx_store_begin(s, NULL) == IDX_OK && idx_store_catalogue_add(s, &row, NULL) == IDX_OK && idx_store_commit(s, NULL) == IDX_OK);
    add(s, row.id, 1, 10000);
    REQUIRE(idx_store_catalogues(s, &rows, &n, NULL) == IDX_OK);
    CHECK_INT(n, 1);
    CHECK_INT(rows[0].info.generation, 10000);
    free(rows);
    lines l = {0};
    REQUIRE(idx_store_each_change(s, row.id, 9999, take, &l, NULL) == IDX_OK);
    CHECK_INT(l.n, 2);
    CHECK_INT(l.generation[1], 10000);
    CHECK_INT(l.item[0], 99990);
    CHECK_INT(l.stamp[1], 1000000);
    const int most[] = {7, 4089, 4096, 4096}, want[] = {10000 - 7, 10000 - 4096, 10000 - 8192, 1001};
    for (int i = 0; i < 4; i++) { /* in bounded pieces, and never what is needed */
        REQUIRE(idx_store_changes_trim(s, row.id, 9000, (uint32_t)most[i], NULL) == IDX_OK);
        l = (lines){0};
        REQUIRE(idx_store_each_change(s, row.id, 0, take, &l, NULL) == IDX_OK);
        CHECK_INT(l.n, want[i]);
    }
    CHECK_INT(l.generation[0], 9000);
    REQUIRE(idx_store_catalogue_remove(s, row.id, NULL) == IDX_OK);
    l = (lines){0};
    REQUIRE(idx_store_each_change(s, row.id, 0, take, &l, NULL) == IDX_OK);
    CHECK_INT(l.n, 0);
    idx_store_close(s);
}

static idx_op *photo(const char *id)
{
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL);
    op->dim = 4;
    op->n_images = 1;
    memcpy(op->fingerprint, fp, sizeof fp);
    REQUIRE((op->images->embedding = calloc(4, sizeof(float))) != NULL);
    op->images->embedding[0] = 1;
    return op;
}

/* Every kind of write leaves the line of its item; a refused one leaves none. */
static void test_writes(const char *dir)
{
    idx *ix;
    idx_opts o = {.no_background = true, .disk_floor_bytes = 1};
    bool created;
    REQUIRE(idx_open(dir, &o, &ix, NULL) == IDX_OK);
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, 4, &created, NULL) == IDX_OK);
    idx_op *patch = idx_op_new(IDX_PATCH, "shop", "a");
    patch->attributes = strdup("{\"x\":1}");
    REQUIRE(idx_write_take(ix, photo("a"), NULL, NULL) == IDX_OK);
    REQUIRE(idx_write_take(ix, patch, NULL, NULL) == IDX_OK);
    REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", "b"), NULL, NULL) == IDX_ENOTFOUND);
    REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", "a"), NULL, NULL) == IDX_OK);
    idx_catalogue c;
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    CHECK_INT(c.generation, 3);
    idx_close(ix);
    idx_store *s;
    idx_catalogue_row *rows;
    size_t n;
    lines l = {0};
    REQUIRE(idx_store_open(dir, &s, NULL) == IDX_OK);
    REQUIRE(idx_store_catalogues(s, &rows, &n, NULL) == IDX_OK && n == 1);
    REQUIRE(idx_store_each_change(s, rows[0].id, 0, take, &l, NULL) == IDX_OK);
    CHECK_INT(l.n, 3); /* of older ones only those go that no derived file needs */
    CHECK_INT(l.generation[0], 1);
    CHECK(l.item[0] > 0 && l.item[1] == l.item[0] && l.item[2] == l.item[0]);
    free(rows);
    idx_store_close(s);
}

int main(void)
{
    char dir[2][64];
    for (int i = 0; i < 2; i++) {
        snprintf(dir[i], sizeof dir[i], "/tmp/lk_changes_XXXXXX");
        REQUIRE(mkdtemp(dir[i]) != NULL);
    }
    test_store(dir[0]);
    test_writes(dir[1]);
    for (int i = 0; i < 2; i++) {
        char cmd[160];
        snprintf(cmd, sizeof cmd, "rm -rf %s", dir[i]);
        CHECK_INT(system(cmd), 0);
    }
    return test_end();
}
