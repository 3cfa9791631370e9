/* While the keeper builds a graph, which takes seconds: catalogues come and go and writes are committed. And single images that come after a
 * pause are linked after the next, without a graph being written for each. And what was linked in a hurry is mended, also after a start. And neither
 * a machine that never rests nor a disk that was full for a while keeps it from its work. And a segment is made anew behind a burst of writes. */
#include "../../index/links.h"
#include "test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
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

static void wait_for_links(idx *ix)
{
    for (int i = 0; i < 3000 && fresh(ix, "shop") > 0; i++) usleep(10000);
    CHECK_INT(fresh(ix, "shop"), 0);
}

/* When the graph's file of the only catalogue was written, in ns. */
static uint64_t graph_written(const char *dir)
{
    char command[200], path[200] = "";
    snprintf(command, sizeof command, "ls %s/segments/*.graph", dir);
    FILE *f = popen(command, "r");
    REQUIRE(f != NULL && fgets(path, sizeof path, f) != NULL);
    pclose(f);
    path[strcspn(path, "\n")] = 0;
    struct stat st;
    REQUIRE(stat(path, &st) == 0);
    return (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec;
}

/* A new index with a catalogue of photos, the last of which is acknowledged. */
static idx *open_shop(const char *dir, const idx_opts *opts, int photos)
{
    idx_error err = {0};
    idx *ix = NULL;
    const idx_catalogue_spec shop = {.name = "shop", .model = "m", .fingerprint = fp, .dim = DIM, .storage = IDX_FLOAT32};
    REQUIRE(idx_open(dir, opts, &ix, &err) == IDX_OK && idx_catalogue_create(ix, &shop, &(bool){false}, &err) == IDX_OK);
    for (int i = 1; i < photos; i++) REQUIRE(idx_submit_take(ix, photo("shop", i), &err) == IDX_OK);
    REQUIRE(idx_write_take(ix, photo("shop", 0), NULL, &err) == IDX_OK);
    return ix;
}

static void test_single_images(void)
{
    enum { IMAGES = 5000 };
    char dir[64], command[128];
    idx_error err = {0};
    snprintf(dir, sizeof dir, "/tmp/likeness-single-%d", (int)getpid());
    const idx_opts opts = {.segment_images = 1000, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 10, .max_queue = IMAGES, .recall_target = -1};
    idx *ix = open_shop(dir, &opts, IMAGES);
    wait_for_links(ix);
    sleep(3); /* until the keeper sleeps, and its files are written */
    uint64_t written = graph_written(dir);
    for (int i = 0; i < 2; i++) {
        REQUIRE(idx_write_take(ix, photo("shop", IMAGES + i), NULL, &err) == IDX_OK);
        CHECK_INT(fresh(ix, "shop"), 1);
        wait_for_links(ix);
    }
    CHECK_INT(graph_written(dir), written); /* two of 5,000 are not worth it */
    for (int i = 0; i < 3; i++) REQUIRE(idx_write_take(ix, photo("shop", 2 * IMAGES + i), NULL, &err) == IDX_OK);
    for (int i = 0; i < 3000 && graph_written(dir) == written; i++) usleep(10000);
    CHECK(graph_written(dir) != written);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
}

static void put_photos(idx *ix, const char *catalogue, int from, int to)
{
    idx_error err = {0};
    for (int i = from; i < to; i++) REQUIRE(idx_write_take(ix, photo(catalogue, i), NULL, &err) == IDX_OK);
}

/* Of the only segment of the only catalogue: rows that are linked, and that were not in a hurry. */
static void check_links(idx *ix, uint32_t linked, uint32_t careful)
{
    CHECK_INT(idx_segment_linked(ix->cats[0]->segments[0]), linked);
    CHECK_INT(idx_segment_careful(ix->cats[0]->segments[0]), careful);
}

static void test_hurry(void)
{
    char dir[64], command[128];
    idx_error err = {0};
    idx *ix = NULL;
    bool worked;
    snprintf(dir, sizeof dir, "/tmp/likeness-hurry-%d", (int)getpid());
    const idx_opts opts = {.segment_images = 75, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 40, .no_background = true};
    const idx_catalogue_spec shop = {.name = "shop", .model = "m", .fingerprint = fp, .dim = DIM, .storage = IDX_FLOAT32};
    REQUIRE(idx_open(dir, &opts, &ix, &err) == IDX_OK && idx_catalogue_create(ix, &shop, &(bool){false}, &err) == IDX_OK);
    put_photos(ix, "shop", 0, 500);
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    put_photos(ix, "shop", 500, 600);
    ix->spare = 0;
    REQUIRE(idx_links_maintain(ix->cats[0], ix, false, &worked, &err) == IDX_OK && worked);
    check_links(ix, 600, 600); /* it is too small */
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    check_links(ix, 600, 600);
    put_photos(ix, "shop", 600, 800);
    ix->spare = 0; /* as if others had the processors */
    REQUIRE(idx_links_maintain(ix->cats[0], ix, false, &worked, &err) == IDX_OK && worked);
    check_links(ix, 800, 600);
    ix->spare = 0;
    REQUIRE(idx_links_mend(ix->cats[0], ix, false, &worked, &err) == IDX_OK && !worked);
    idx_close(ix);
    REQUIRE(idx_open(dir, &opts, &ix, &err) == IDX_OK);
    check_links(ix, 800, 600);
    put_photos(ix, "shop", 800, 900);
    REQUIRE(idx_links_maintain(ix->cats[0], ix, false, &worked, &err) == IDX_OK && worked);
    check_links(ix, 900, 600);
    for (int i = 0; i < 6; i++) {
        ix->spare = 1;
        REQUIRE(idx_links_mend(ix->cats[0], ix, false, &worked, &err) == IDX_OK && worked == (i < 5)); /* 64 at a time */
    }
    check_links(ix, 900, 900);
    REQUIRE(idx_maintain(ix, &err) == IDX_OK);
    idx_close(ix);
    REQUIRE(idx_open(dir, &opts, &ix, &err) == IDX_OK);
    check_links(ix, 900, 900);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
}

static void *be_busy(void *stop)
{
    while (!atomic_load((atomic_bool *)stop)) {}
    return NULL;
}

/* On a machine that never rests, who gives way to everybody gets a processor every other second. A segment is made anew all the same. */
static void test_busy_machine(void)
{
    enum { IMAGES = 6000, GONE = 4200, MOST = 256 };
    char dir[64], command[128], id[32];
    idx_error err = {0};
    idx_catalogue c = {0};
    snprintf(dir, sizeof dir, "/tmp/likeness-busy-%d", (int)getpid());
    const idx_opts opts = {.segment_images = 1000, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 10, .max_queue = IMAGES, .recall_target = -1};
    idx *ix = open_shop(dir, &opts, IMAGES);
    wait_for_links(ix);
    const long want = 3 * sysconf(_SC_NPROCESSORS_ONLN);
    const int n = want < MOST ? (int)want : MOST;
    pthread_t busy[MOST];
    atomic_bool stop = false;
    for (int i = 0; i < n; i++) REQUIRE(pthread_create(&busy[i], NULL, be_busy, &stop) == 0);
    for (int i = 0; i < GONE; i++) {
        snprintf(id, sizeof id, "i%d", i);
        idx_op *op = idx_op_new(IDX_DELETE, "shop", id);
        REQUIRE(op != NULL && (i + 1 < GONE ? idx_submit_take(ix, op, &err) : idx_write_take(ix, op, NULL, &err)) == IDX_OK);
    }
    for (int i = 0; i < 3000 && (i == 0 || c.deleted_images > 0); i++) REQUIRE(usleep(10000) == 0 && idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    CHECK_INT(c.deleted_images, 0);
    atomic_store(&stop, true);
    for (int i = 0; i < n; i++) REQUIRE(pthread_join(busy[i], NULL) == 0);
    wait_for_links(ix);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
}

/* What could not be done is done once it can be, although nobody writes; and it keeps no other catalogue waiting. */
static void test_failure_passes(void)
{
    char dir[64], segments[80], away[80], command[128];
    idx_error err = {0};
    idx *ix = NULL;
    snprintf(dir, sizeof dir, "/tmp/likeness-failure-%d", (int)getpid());
    snprintf(segments, sizeof segments, "%s/segments", dir);
    snprintf(away, sizeof away, "%s/away", dir);
    const idx_opts opts = {.segment_images = 100, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 10, .recall_target = -1};
    idx_catalogue_spec spec = {.name = "first", .model = "m", .fingerprint = fp, .dim = DIM, .storage = IDX_FLOAT32};
    REQUIRE(idx_open(dir, &opts, &ix, &err) == IDX_OK && idx_catalogue_create(ix, &spec, &(bool){false}, &err) == IDX_OK);
    spec.name = "shop";
    REQUIRE(idx_catalogue_create(ix, &spec, &(bool){false}, &err) == IDX_OK && rename(segments, away) == 0);
    put_photos(ix, "first", 0, 200);
    put_photos(ix, "shop", 0, 200);
    wait_for_links(ix);
    sleep(4); /* it was tried in vain, last when nothing had been written for a while */
    REQUIRE(rename(away, segments) == 0);
    snprintf(command, sizeof command, "test $(ls %s/*.graph 2> /dev/null | wc -l) = 2", segments);
    int found = 1;
    for (int i = 0; i < 300 && found != 0; i++) usleep(100000), found = system(command);
    CHECK_INT(found, 0);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
}

static _Atomic int made_anew;

static void count_made_anew(void *ctx, int level, const char *text)
{
    (void)ctx, (void)level;
    if (strstr(text, "made anew") != NULL) atomic_fetch_add(&made_anew, 1);
}

/* Where a shop sends all of its photos anew, the segment is made anew behind that, and not in the midst of it. */
static void test_burst(void)
{
    enum { IMAGES = 2000, TOGETHER = 50 };
    char dir[64], command[128];
    idx_error err = {0};
    snprintf(dir, sizeof dir, "/tmp/likeness-burst-%d", (int)getpid());
    const idx_opts opts = {.segment_images = 500, .disk_floor_bytes = 1, .hnsw_m = 4, .ef_construction = 10, .max_queue = IMAGES, .recall_target = -1, .log = count_made_anew};
    idx *ix = open_shop(dir, &opts, IMAGES);
    wait_for_links(ix);
    uint64_t longest = 0;
    for (int i = 0; i < IMAGES; i += TOGETHER) {
        const uint64_t began = idx_mono_ns();
        for (int k = 1; k < TOGETHER; k++) REQUIRE(idx_submit_take(ix, photo("shop", i + k), &err) == IDX_OK);
        REQUIRE(idx_write_take(ix, photo("shop", i), NULL, &err) == IDX_OK);
        const uint64_t took = idx_mono_ns() - began;
        if (took > longest) longest = took;
        usleep(20000);
    }
    const int meanwhile = atomic_load(&made_anew);
    if (longest < 900000000) CHECK_INT(meanwhile, 0);
    else fprintf(stderr, "the disk stood still for %.1f s: not looked whether the segment was made anew meanwhile\n", (double)longest / 1e9);
    for (int i = 0; i < 2000 && atomic_load(&made_anew) == meanwhile; i++) usleep(10000);
    CHECK(atomic_load(&made_anew) > 0);
    CHECK_INT(idx_check(ix, &err), IDX_OK);
    idx_close(ix);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    REQUIRE(system(command) == 0);
}

int main(void)
{
    test_burst();
    test_single_images();
    test_hurry();
    test_busy_machine();
    test_failure_passes();
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
