/* While the keeper builds a graph, which takes seconds: catalogues come and go and writes are committed. */
#include "index.h"
#include "test.h"

#include <unistd.h>

enum { DIM = 256, ITEMS = 4000 };
static const char fp[] = "00000000000000000000000000000000000000000000000000000000000000aa";
static uint64_t seed = 5;

static idx_op *photo(const char *catalogue, int i)
{
    char id[32];
    snprintf(id, sizeof id, "i%d", i);
    idx_op *op = idx_op_new(IDX_PUT, catalogue, id);
    REQUIRE(op != NULL && (op->images = calloc(1, sizeof *op->images)) != NULL);
    op->dim = DIM;
    op->n_images = 1;
    memcpy(op->fingerprint, fp, sizeof fp);
    float *v = op->images->embedding = malloc(DIM * sizeof(float));
    REQUIRE(v != NULL);
    double n = 0;
    for (int k = 0; k < DIM; k++) {
        v[k] = test_randf(&seed);
        n += (double)v[k] * (double)v[k];
    }
    for (int k = 0; k < DIM; k++) v[k] = (float)((double)v[k] / sqrt(n));
    return op;
}

/* Images that are not in the graph yet. */
static uint64_t fresh(idx *ix, const char *catalogue)
{
    idx_catalogue c;
    REQUIRE(idx_catalogue_get(ix, catalogue, &c, NULL) == IDX_OK);
    return c.fresh_images;
}

int main(void)
{
    char dir[64], command[128];
    idx_error err = {0};
    idx *ix = NULL;
    snprintf(dir, sizeof dir, "/tmp/likeness-keeper-%d", (int)getpid());
    idx_opts slow = {.segment_images = ITEMS, .disk_floor_bytes = 1, .hnsw_m = 128, .ef_construction = 2000, .max_queue = ITEMS};
    REQUIRE(idx_open(dir, &slow, &ix, &err) == IDX_OK);
    static const char *const names[] = {"large", "small", "other"};
    for (int i = 0; i < 3; i++) REQUIRE(idx_catalogue_put(ix, names[i], "m", fp, DIM, NULL, &err) == IDX_OK);
    REQUIRE(idx_write_take(ix, photo("small", 0), NULL, &err) == IDX_OK);
    for (int i = 1; i < ITEMS; i++) REQUIRE(idx_submit_take(ix, photo("large", i), &err) == IDX_OK);
    REQUIRE(idx_write_take(ix, photo("large", 0), NULL, &err) == IDX_OK); /* from now on there is enough for a graph */
    usleep(100000);
    CHECK_INT(idx_catalogue_delete(ix, "small", &err), IDX_OK);
    CHECK_INT(idx_write_take(ix, photo("other", 1), NULL, &err), IDX_OK);
    CHECK(fresh(ix, "large") > 0); /* nobody has waited for it */
    CHECK_INT(idx_catalogue_delete(ix, "large", &err), IDX_OK); /* the one that is being worked on */
    CHECK_INT(idx_catalogue_get(ix, "large", &(idx_catalogue){.dim = 0}, NULL), IDX_ENOTFOUND);
    CHECK_INT(idx_write_take(ix, photo("other", 2), NULL, &err), IDX_OK);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "test -z \"$(ls %s/segments)\"", dir);
    CHECK_INT(system(command), 0); /* no file is left of it */
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
    return test_end();
}
