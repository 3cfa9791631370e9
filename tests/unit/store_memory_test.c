/* SQLite runs out of memory in the middle of a write: all of it is there afterwards, or nothing, and the next start finds the
 * store whole. */
#include "index.h"
#include "test.h"

#include <sqlite3.h>
#include <unistd.h>

enum { DIM = 64, IMAGES = 16, RENDITION = 60000 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static char dir[64];

static idx *reopen(idx *ix)
{
    idx_close(ix);
    idx_error err = {0};
    idx_opts o = {.no_background = true, .disk_floor_bytes = 1};
    idx *out = NULL;
    if (idx_open(dir, &o, &out, &err) != IDX_OK) {
        TEST_FAIL("%s", err.text);
        exit(test_end());
    }
    return out;
}

static idx_op *photos(const char *id, int n)
{
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    REQUIRE(op != NULL);
    op->dim = DIM;
    op->n_images = (size_t)n;
    memcpy(op->fingerprint, fp, sizeof fp);
    op->attributes = strdup("{\"colour\":\"red\"}");
    op->images = calloc(op->n_images, sizeof *op->images);
    for (int i = 0; i < n; i++) {
        op->images[i].embedding = calloc(DIM, sizeof(float));
        op->images[i].embedding[(i + n) % DIM] = 1;
        op->images[i].rendition = calloc(1, RENDITION);
        op->images[i].rendition_bytes = RENDITION;
    }
    return op;
}

static size_t images_of(idx *ix, const char *id)
{
    idx_item *it = NULL;
    idx_error err = {0};
    idx_status st = idx_item_get(ix, "shop", id, &it, &err);
    size_t n = st == IDX_OK ? it->n_images : 0;
    if (st != IDX_ENOTFOUND) CHECK_INT(st, IDX_OK);
    if (it != NULL) idx_item_free(it);
    return n;
}

int main(void)
{
    idx_error err = {0};
    snprintf(dir, sizeof dir, "/tmp/likeness-memory-%d", (int)getpid());
    idx *ix = reopen(NULL);
    REQUIRE(idx_catalogue_put(ix, "shop", "m", fp, DIM, NULL, &err) == IDX_OK);
    CHECK_INT(idx_write_take(ix, photos("old", 3), NULL, &err), IDX_OK);
    unsigned failed = 0, written = 0;
    for (int more = 0; more < 1500000; more += 12345) { /* fails a little later each time */
        bool fresh = more / 12345 % 2 == 0;
        const char *id = fresh ? "new" : "old";
        size_t before = images_of(ix, id);
        sqlite3_hard_heap_limit64(sqlite3_memory_used() + more);
        err = (idx_error){0};
        idx_status st = idx_write_take(ix, photos(id, IMAGES), NULL, &err);
        sqlite3_hard_heap_limit64(0);
        CHECK(st == IDX_OK || st == IDX_ENOMEM);
        if (st == IDX_OK) written++;
        else failed++;
        ix = reopen(ix);
        CHECK_INT(images_of(ix, id), st == IDX_OK ? IMAGES : before);
        err = (idx_error){0};
        CHECK_INT(idx_check(ix, &err), IDX_OK);
        if (st == IDX_OK) { /* as before */
            if (fresh) CHECK_INT(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, &err), IDX_OK);
            else CHECK_INT(idx_write_take(ix, photos(id, 3), NULL, &err), IDX_OK);
        }
    }
    CHECK(failed > 5 && written > 5);
    idx_close(ix);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
    return test_end();
}
