/* index_model.c: random puts, patches, deletes, searches, restarts and kills against a plain array, for each way to keep vectors.
 *   index_model [STEPS [SEED [EVERY]]]      6000 steps in the suite; 100000 is the long form
 * The array lies in memory that is shared with a child, which does the steps with the background thread at work. The parent kills it
 * (SIGKILL) after EVERY steps at most, as a rule, and starts another. Before a write the child notes what it is about to do, so
 * that the next one knows which of two states the item may be in: as it was, or as it was going to be; all others must be as the
 * array has them, in the store and in memory. */
#include "../../index/rows.h"
#include "index.h"
#include "test.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { DIM = 24, ITEMS = 500, MAX_IMG = 3, K = 10 };
static const char *const fp = "00000000000000000000000000000000000000000000000000000000000000bb";

typedef struct {
    bool there;
    int n, price;
    char colour[8];
    float v[MAX_IMG][DIM];
} known;

typedef struct {
    uint64_t seed;
    long steps, restarts, searches;
    uint64_t found, asked; /* of approximate searches */
    int pending; /* the item of a write that was not acknowledged; -1 = none */
    known next;  /* what it was going to be */
    known item[ITEMS];
} array;

static array *m;
static char dir[64];
static idx_storage storage;
static idx_rows *kept; /* one row, as the index keeps vectors */

static uint64_t below(uint64_t n) { return test_rand(&m->seed) % n; }

static void name_of(int i, char out[32]) { snprintf(out, 32, "item-%03d", i); }

static void random_unit(float *v)
{
    double n = 0;
    uint64_t cluster = below(10);
    for (int i = 0; i < DIM; i++) {
        v[i] = test_randf(&m->seed) + ((uint64_t)i == cluster * 2 ? 2.5f : 0);
        n += (double)v[i] * (double)v[i];
    }
    for (int i = 0; i < DIM; i++) v[i] = (float)((double)v[i] / sqrt(n));
}

static void attributes_of(const known *k, char out[100]) { snprintf(out, 100, "{\"colour\":\"%s\",\"price\":%d}", k->colour, k->price); }

static void step_fail(const char *what, const idx_error *e)
{
    fprintf(stderr, "index_model: step %ld: %s%s%s\n", m->steps, what, e != NULL ? ": " : "", e != NULL ? e->text : "");
    _exit(3);
}

/* ---- writes ------------------------------------------------------------------------------------------------------------------ */

static void send_op(idx *ix, idx_op *op, int i, const known *next, idx_status want)
{
    idx_error e = {0};
    m->next = *next;
    m->pending = i;
    if (idx_write_take(ix, op, NULL, &e) != want) step_fail("a write was answered otherwise", &e);
    m->item[i] = *next;
    m->pending = -1;
}

static void put(idx *ix, int i)
{
    static const char *const colours[] = {"red", "green", "blue"};
    char id[32], text[100];
    known next = m->item[i];
    bool keep = next.there && below(4) == 0; /* its images */
    name_of(i, id);
    next.there = true;
    next.price = (int)below(50);
    snprintf(next.colour, sizeof next.colour, "%s", colours[below(3)]);
    attributes_of(&next, text);
    idx_op *op = idx_op_new(IDX_PUT, "shop", id);
    op->attributes = strdup(text);
    if (!keep) {
        next.n = below(3) ? 1 : 1 + (int)below(MAX_IMG);
        op->n_images = (size_t)next.n;
        op->images = calloc(op->n_images, sizeof *op->images);
        op->dim = DIM;
        memcpy(op->fingerprint, fp, sizeof op->fingerprint);
        for (int k = 0; k < next.n; k++) {
            random_unit(next.v[k]);
            op->images[k].embedding = malloc(sizeof next.v[k]);
            memcpy(op->images[k].embedding, next.v[k], sizeof next.v[k]);
        }
    }
    send_op(ix, op, i, &next, IDX_OK);
}

static void patch(idx *ix, int i)
{
    char id[32], text[40];
    known next = m->item[i];
    name_of(i, id);
    if (next.there) next.price = (int)below(50);
    snprintf(text, sizeof text, "{\"price\":%d}", next.price);
    idx_op *op = idx_op_new(IDX_PATCH, "shop", id);
    op->attributes = strdup(text);
    send_op(ix, op, i, &next, next.there ? IDX_OK : IDX_ENOTFOUND);
}

static void drop(idx *ix, int i)
{
    char id[32];
    known next = m->item[i];
    bool was = next.there;
    name_of(i, id);
    next.there = false;
    send_op(ix, idx_op_new(IDX_DELETE, "shop", id), i, &next, was ? IDX_OK : IDX_ENOTFOUND);
}

static void drop_most(idx *ix)
{
    for (int i = 0; i < ITEMS; i++)
        if (below(3) > 0) drop(ix, i);
}

/* ---- what must be there ---------------------------------------------------------------------------------------------------- */

static bool is_like(idx *ix, int i, const known *k)
{
    char id[32], text[100];
    idx_item *it = NULL;
    float *v = NULL;
    size_t n = 0;
    uint32_t dim = 0;
    name_of(i, id);
    idx_status st = idx_item_get(ix, "shop", id, &it, NULL);
    if (st != IDX_OK) return st == IDX_ENOTFOUND && !k->there;
    attributes_of(k, text);
    char price[24], colour[24];
    snprintf(price, sizeof price, "\"price\":%d", k->price);
    snprintf(colour, sizeof colour, "\"%s\"", k->colour);
    bool same = k->there && it->n_images == (uint32_t)k->n && strlen(it->attributes) == strlen(text) && strstr(it->attributes, price) != NULL &&
                strstr(it->attributes, colour) != NULL && idx_embeddings_get(ix, "shop", id, &v, &n, &dim, NULL) == IDX_OK;
    if (same) same = n == (size_t)k->n && dim == DIM && memcmp(v, k->v, n * sizeof k->v[0]) == 0;
    idx_item_free(it);
    free(v);
    return same;
}

static void check_all(idx *ix)
{
    idx_error e = {0};
    uint64_t there = 0;
    if (m->pending >= 0) {
        if (is_like(ix, m->pending, &m->next)) m->item[m->pending] = m->next;
        m->pending = -1;
    }
    for (int i = 0; i < ITEMS; i++) {
        if (!is_like(ix, i, &m->item[i])) step_fail("an item is not as it was left", NULL);
        there += m->item[i].there;
    }
    idx_catalogue c;
    if (idx_catalogue_get(ix, "shop", &c, &e) != IDX_OK || c.items != there) step_fail("items were counted wrongly", &e);
    if (idx_check(ix, &e) != IDX_OK) step_fail("check", &e);
}

/* ---- searches ----------------------------------------------------------------------------------------------------------------- */

static float score_of(const idx_probe *p, const known *k)
{
    float best = -2;
    for (int i = 0; i < k->n; i++) {
        idx_rows_encode(kept, k->v[i], idx_rows_at(kept, 0));
        best = fmaxf(best, fminf(1, idx_probe_score(p, idx_rows_at(kept, 0))));
    }
    return best;
}

static int downwards(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void search(idx *ix, bool exact)
{
    float q[DIM], want[ITEMS], last = 2;
    int n = 0;
    bool filtered = below(2) == 0;
    idx_probe p;
    random_unit(q);
    void *room = aligned_alloc(IDX_ROW_ALIGN, (idx_probe_bytes(kept) + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN);
    idx_probe_query(&p, kept, q, room);
    for (int i = 0; i < ITEMS; i++)
        if (m->item[i].there && (!filtered || strcmp(m->item[i].colour, "red") == 0)) want[n++] = score_of(&p, &m->item[i]);
    qsort(want, (size_t)n, sizeof *want, downwards);
    idx_error e = {0};
    idx_result *r = NULL;
    idx_query query = {.embedding = q, .dim = DIM, .limit = K, .min_score = -2, .filter = filtered ? "colour = red" : NULL, .exact = exact};
    if (idx_search(ix, "shop", &query, &r, &e) != IDX_OK) step_fail("search", &e);
    if (r->n != (size_t)(n < K ? n : K)) step_fail("a search has another number of results", NULL);
    for (size_t i = 0; i < r->n; i++) {
        const known *k = &m->item[atoi(r->hits[i].id + 5)];
        float s = r->hits[i].score;
        if (!k->there || (filtered && strcmp(k->colour, "red") != 0)) step_fail("a search found what is not there", NULL);
        if (fabsf(s - score_of(&p, k)) > 1e-5f || s > last) step_fail("a score is wrong", NULL);
        if (exact && fabsf(s - want[i]) > 1e-5f) step_fail("an exact search left out something", NULL);
        last = s;
        if (!exact) m->asked++, m->found += s >= want[r->n - 1] - 1e-5f;
    }
    m->searches++;
    idx_result_free(r);
    free(room);
}

/* ---- the child ------------------------------------------------------------------------------------------------------------------ */

static idx *open_index(void)
{
    idx_opts o = {.segment_images = 60 + (uint32_t)below(100), .disk_floor_bytes = 1};
    idx_error e = {0};
    idx *ix = NULL;
    bool created;
    if (idx_open(dir, &o, &ix, &e) != IDX_OK) step_fail("open", &e);
    if (idx_catalogue_create(ix, &(idx_catalogue_spec){"shop", "test", fp, DIM, storage, false}, &created, &e) != IDX_OK) step_fail("catalogue", &e);
    return ix;
}

static void child(long steps)
{
    if (idx_rows_new(storage, DIM, &kept, NULL) != IDX_OK || idx_rows_room(kept, 0, NULL) != IDX_OK) _exit(4);
    idx *ix = open_index();
    check_all(ix);
    for (; m->steps < steps; m->steps++) {
        uint64_t what = below(1000);
        int i = (int)below(ITEMS);
        if (what < 400) put(ix, i);
        else if (what < 500) patch(ix, i);
        else if (what < 620) drop(ix, i);
        else if (what < 800) search(ix, true);
        else if (what < 980) search(ix, false);
        else if (what < 985) check_all(ix);
        else if (what < 988) usleep((useconds_t)below(30000)); /* for the background */
        else if (what < 990) drop_most(ix);
        else {
            idx_close(ix);
            m->restarts++;
            ix = open_index();
        }
    }
    check_all(ix);
    idx_close(ix);
    _exit(0);
}

static bool is_running(pid_t pid)
{
    siginfo_t i = {0};
    return waitid(P_PID, (id_t)pid, &i, WEXITED | WNOHANG | WNOWAIT) == 0 && i.si_pid == 0;
}

static long run(long steps, uint64_t every)
{
    long kills = 0;
    uint64_t luck = m->seed;
    for (bool done = false; !done; kills += !done) {
        int status;
        pid_t pid = fork();
        REQUIRE(pid >= 0);
        if (pid == 0) child(steps);
        /* After some steps and a moment, or while it starts. Now and then it may go on for longer, or nothing would ever be linked and
         * saved in large pieces. */
        uint64_t r = test_rand(&luck), until = (uint64_t)m->steps + r % (r >> 32 & 7 ? every : 8 * every) + 1;
        for (; r >> 40 & 7 && (uint64_t)m->steps < until && is_running(pid);) usleep(300);
        usleep((useconds_t)(test_rand(&luck) % 4000));
        kill(pid, SIGKILL);
        REQUIRE(waitpid(pid, &status, 0) == pid);
        done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        REQUIRE(done || WIFSIGNALED(status)); /* the child has said what was wrong */
        REQUIRE(done || WTERMSIG(status) == SIGKILL);
    }
    return kills;
}

int main(int argc, char **argv)
{
    long steps = argc > 1 ? atol(argv[1]) : 6000;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 7, every = argc > 3 ? strtoull(argv[3], NULL, 10) : 60;
    static const char *const names[] = {"", "float32", "float16", "int8"};
    REQUIRE(steps > 0 && every > 0);
    m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(m != MAP_FAILED);
    for (storage = IDX_FLOAT32; storage <= IDX_INT8; storage++) {
        memset(m, 0, sizeof *m);
        m->seed = seed + storage;
        m->pending = -1;
        test_dir_template(dir, "likeness-model"); /* a killed process loses nothing that it gave to the kernel */
        REQUIRE(mkdtemp(dir) != NULL);
        long kills = run(steps / 3 + 1, every);
        double recall = m->asked > 0 ? (double)m->found / (double)m->asked : 1;
        printf("%s: %ld steps, %ld restarts, %ld kills, %ld searches, recall of approximate ones %.4f (seed %" PRIu64 ")\n", names[storage], m->steps, m->restarts, kills,
               m->searches, recall, seed);
        CHECK(recall >= 0.99);
        CHECK(kills > 0);
        char command[100];
        snprintf(command, sizeof command, "rm -rf %s", dir);
        CHECK_INT(system(command), 0);
    }
    return test_end();
}
