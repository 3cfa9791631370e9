/* mutate_index.c: index files that are damaged at random, one at a time: each is refused, the answers stay what they were, and the files
 * are made anew.
 *   mutate_index [FILES [SEED]]      of each kind (rows, graph, parts), for each way to keep vectors; 600 unless told */
#include "index.h"
#include "test.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIM = 16, ITEMS = 300, KINDS = 3, K = 20 };
static const char *const kinds[KINDS] = {"rows", "graph", "parts"};
static const char fp[] = "external";
static uint64_t seed;
static char dir[64];
static int warnings;

typedef struct {
    char path[160];
    uint8_t *bytes;
    size_t n;
} file;
static file good[KINDS];

static uint64_t below(uint64_t n) { return n > 0 ? test_rand(&seed) % n : 0; }

static void count_warnings(void *ctx, int level, const char *text)
{
    (void)ctx, (void)text;
    warnings += level >= 1;
}

static idx *open_index(void)
{
    idx_opts o = {.no_background = true, .segment_images = 100, .disk_floor_bytes = 1, .log = count_warnings};
    idx_error e = {0};
    idx *ix = NULL;
    warnings = 0;
    if (idx_open(dir, &o, &ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
    REQUIRE(ix != NULL);
    return ix;
}

static void random_unit(float *v, uint64_t s)
{
    double n = 0;
    for (int i = 0; i < DIM; i++) v[i] = test_randf(&s), n += (double)v[i] * (double)v[i];
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void fill(idx *ix, idx_storage storage)
{
    bool created;
    REQUIRE(idx_catalogue_create(ix, &(idx_catalogue_spec){"shop", "external", fp, DIM, storage, false}, &created, NULL) == IDX_OK);
    for (int i = 0; i < ITEMS; i++) {
        char id[32];
        snprintf(id, sizeof id, "item-%03d", i);
        idx_op *op = idx_op_new(IDX_PUT, "shop", id);
        op->dim = DIM;
        op->n_images = 1;
        op->images = calloc(1, sizeof *op->images);
        op->images->embedding = malloc(DIM * sizeof(float));
        memcpy(op->fingerprint, fp, sizeof fp);
        random_unit(op->images->embedding, (uint64_t)i);
        REQUIRE(idx_write_take(ix, op, NULL, NULL) == IDX_OK);
    }
    for (int i = 0; i < ITEMS; i += 20) { /* and some rows that are dead */
        char id[32];
        snprintf(id, sizeof id, "item-%03d", i);
        REQUIRE(idx_write_take(ix, idx_op_new(IDX_DELETE, "shop", id), NULL, NULL) == IDX_OK);
    }
    REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
}

/* The only file of a kind. */
static void find_file(const char *kind, char out[160])
{
    char folder[100];
    int found = 0;
    snprintf(folder, sizeof folder, "%s/segments", dir);
    DIR *d = opendir(folder);
    REQUIRE(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        const char *dot = strrchr(e->d_name, '.');
        if (dot == NULL || strcmp(dot + 1, kind) != 0) continue;
        snprintf(out, 160, "%s/%.40s", folder, e->d_name);
        found++;
    }
    closedir(d);
    CHECK_INT(found, 1);
}

static void read_file(file *f)
{
    struct stat st;
    int fd = open(f->path, O_RDONLY);
    REQUIRE(fd >= 0 && fstat(fd, &st) == 0);
    f->n = (size_t)st.st_size;
    f->bytes = realloc(f->bytes, f->n);
    REQUIRE(f->bytes != NULL && read(fd, f->bytes, f->n) == (ssize_t)f->n);
    close(fd);
}

static void write_file(const char *path, const uint8_t *bytes, size_t n)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
    REQUIRE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    close(fd);
}

/* False when it came out as it was. */
static bool damage(const file *f)
{
    uint8_t *b = malloc(f->n + 64);
    size_t n = f->n, at = below(2) ? below(n) : below(n < 200 ? n : 200); /* heads as often as the rest */
    memcpy(b, f->bytes, n);
    switch (below(6)) {
    case 0: b[at] ^= (uint8_t)(1u << below(8)); break;
    case 1: n = below(n); break;
    case 2: /* a stretch of anything */
        for (uint64_t k = 1 + below(64); k > 0 && at < n; k--) b[at++] = (uint8_t)test_rand(&seed);
        break;
    case 3: /* a page that was never written */
        for (uint64_t k = 1 + below(4096); k > 0 && at < n; k--) b[at++] = 0;
        break;
    case 4: { /* a number that is too large or odd */
        static const uint32_t odd[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 65536, 300};
        if (at + 4 <= n) memcpy(b + at, &odd[below(8)], 4);
        break;
    }
    default: { /* a stretch in another's place */
        size_t from = below(n), k = below(512);
        if (k > n - at) k = n - at;
        if (k > n - from) k = n - from;
        memmove(b + at, b + from, k);
    }
    }
    bool other = n != f->n || memcmp(b, f->bytes, n) != 0;
    if (other) write_file(f->path, b, n);
    free(b);
    return other;
}

typedef struct {
    size_t n;
    char id[K][32];
    float score[K];
} answer;

static answer ask(idx *ix, uint64_t q, bool exact, const char *filter)
{
    float v[DIM];
    answer a = {0};
    idx_result *r = NULL;
    random_unit(v, 1000 + q);
    REQUIRE(idx_search(ix, "shop", &(idx_query){.embedding = v, .dim = DIM, .limit = K, .min_score = -2, .exact = exact, .filter = filter}, &r, NULL) == IDX_OK);
    a.n = r->n;
    for (size_t i = 0; i < r->n; i++) {
        snprintf(a.id[i], sizeof a.id[i], "%s", r->hits[i].id);
        a.score[i] = r->hits[i].score;
    }
    idx_result_free(r);
    return a;
}

static void check_answers(idx *ix, const answer want[3])
{
    for (uint64_t q = 0; q < 3; q++) {
        answer a = ask(ix, q, q == 0, NULL);
        CHECK_INT(a.n, want[q].n);
        for (size_t i = 0; i < a.n && q == 0; i++) {
            CHECK_STR(a.id[i], want[q].id[i]);
            CHECK(a.score[i] == want[q].score[i]);
        }
    }
}

/* What is left of the files that were damaged. */
typedef struct {
    uint64_t linked, lists;
} left;

static left look(idx *ix)
{
    idx_catalogue c;
    idx_stats s;
    REQUIRE(idx_catalogue_get(ix, "shop", &c, NULL) == IDX_OK);
    idx_get_stats(ix, &s);
    CHECK_INT(c.images, ITEMS - ITEMS / 20);
    return (left){c.sealed_images, s.rss_lists_bytes};
}

static void test_kind(int kind, int files)
{
    answer want[3];
    idx *ix = open_index();
    for (uint64_t q = 0; q < 3; q++) want[q] = ask(ix, q, q == 0, NULL);
    CHECK_INT(warnings, 0);
    left whole = look(ix);
    CHECK(whole.linked > 0 && whole.lists > 0);
    idx_close(ix);
    for (int i = 0; i < files;) {
        for (int k = 0; k < KINDS; k++) find_file(kinds[k], good[k].path), read_file(&good[k]);
        if (!damage(&good[kind])) continue;
        i++;
        ix = open_index();
        left after = look(ix);
        CHECK(warnings > 0);
        if (kind < 2) CHECK_INT(after.linked, 0);
        else CHECK_INT(after.linked, whole.linked);
        CHECK_INT(after.lists, 0);
        check_answers(ix, want);
        idx_error e = {0};
        if (idx_check(ix, &e) != IDX_OK) TEST_FAIL("%s", e.text);
        REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
        idx_close(ix);
        ix = open_index(); /* from the files that were made anew */
        CHECK_INT(warnings, 0);
        after = look(ix);
        CHECK(after.linked > 0 && after.lists > 0);
        if (kind < 2) CHECK_INT(after.linked, ITEMS - ITEMS / 20);
        check_answers(ix, want);
        idx_close(ix);
        if (test_failures > 20) exit(1);
    }
}

/* A file of rows that ends before its header does: what a kill may leave of a new one, but not once there is a graph of its rows. */
static void test_cut_off(void)
{
    static const off_t sizes[] = {0, 1, 127};
    for (int i = 0; i < 6; i++) {
        bool alone = i < 3;
        for (int k = 0; k < KINDS; k++) find_file(kinds[k], good[k].path);
        for (int k = 1; alone && k < KINDS; k++) REQUIRE(unlink(good[k].path) == 0);
        REQUIRE(truncate(good[0].path, sizes[i % 3]) == 0);
        idx *ix = open_index();
        CHECK((warnings > 0) == !alone);
        CHECK_INT(look(ix).linked, 0);
        REQUIRE(idx_maintain(ix, NULL) == IDX_OK);
        idx_close(ix);
    }
}

int main(int argc, char **argv)
{
    int files = argc > 1 ? atoi(argv[1]) : 600;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
    for (int s = IDX_FLOAT32; s <= IDX_INT8; s++)
        for (int kind = 0; kind < KINDS; kind++) {
            seed = first + (uint64_t)(s * KINDS + kind);
            test_dir_template(dir, "likeness-mutate");
            REQUIRE(mkdtemp(dir) != NULL);
            idx *ix = open_index();
            fill(ix, (idx_storage)s);
            idx_close(ix);
            if (kind == 0) test_cut_off();
            test_kind(kind, files);
            char command[100];
            snprintf(command, sizeof command, "rm -rf %s", dir);
            CHECK_INT(system(command), 0);
        }
    printf("%d files of each kind, seed %" PRIu64 "\n", files, first);
    for (int k = 0; k < KINDS; k++) free(good[k].bytes);
    return test_end();
}
