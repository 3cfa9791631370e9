/* bench_ann.c: the graph alone, beside FAISS's over the same rows. Reads what bench_vectors wrote; commands come on stdin, one JSON
 * line answers each, so that tests/bench/index can take turns between engines:
 *   bench_ann DIR DIM
 *   build ENGINE STORAGE M EF_CONSTRUCTION THREADS    ENGINE: ours, hurry: linked in a hurry, by one thread, or faiss as the distribution has it (float32)
 *   mend                                              what was linked in a hurry gets better links
 *   replace SHARE CYCLES                              SHARE of the rows (one in 1 / SHARE, others each time) is replaced by copies, and the graph made
 *                                                     anew, CYCLES times: what inheriting takes a row, and what of the rows had to be linked once more
 *   search EF THREADS                                 all queries once by each thread, ten neighbours
 */
#include "../../index/ann.h"
#include "../faiss_plain.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <fcntl.h>
#include <unistd.h>

enum { K = 10, TRUTH = 100 };

static const float *base, *queries;
static const int32_t *truth;
static uint64_t n, n_queries;
static uint32_t dim;
static idx_rows *rows;
static idx_ann *ann;
static faiss_plain *plain;
static uint32_t *name; /* [row] of `rows` its number in `base` */

static double now(clockid_t which)
{
    struct timespec t;
    clock_gettime(which, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static const void *map(const char *dir, const char *name, size_t *bytes)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) {
        perror(path);
        exit(1);
    }
    *bytes = (size_t)st.st_size;
    void *p = mmap(NULL, *bytes, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static void drop(void)
{
    idx_ann_free(ann);
    idx_rows_free(rows);
    faiss_plain_free(plain);
    ann = NULL;
    rows = NULL;
    plain = NULL;
}

static double anonymous(void) /* bytes of this process that are no file's */
{
    char line[200];
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "RssAnon:", 8) == 0) kib = strtoul(line + 8, NULL, 10);
    if (f != NULL) fclose(f);
    return (double)kib * 1024;
}

static void build(const char *engine, const char *storage, uint32_t m, uint32_t efc, uint32_t threads)
{
    idx_error err = {0};
    drop();
    bool ok = true, hurry = strcmp(engine, "hurry") == 0;
    double before = anonymous(), wall = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    if (strcmp(engine, "faiss") == 0) {
        ok = (plain = faiss_plain_new(dim, m, efc)) != NULL && faiss_plain_add(plain, n, base) == 0;
    } else {
        idx_storage s = strcmp(storage, "int8") == 0 ? IDX_INT8 : strcmp(storage, "float16") == 0 ? IDX_FLOAT16 : IDX_FLOAT32;
        ok = idx_rows_new(s, dim, &rows, &err) == IDX_OK;
        name = realloc(name, n * sizeof *name);
        for (uint32_t i = 0; ok && i < n; i++) {
            ok = idx_rows_room(rows, i, &err) == IDX_OK && name != NULL;
            if (ok) name[i] = i;
            if (ok) idx_rows_encode(rows, base + (size_t)i * dim, idx_rows_at(rows, i));
        }
        ok = ok && idx_ann_new(rows, m, efc, (uint32_t)n, &ann, &err) == IDX_OK &&
             (threads > 1 && !hurry ? idx_ann_link_many(ann, (uint32_t)n, NULL, threads, NULL, &err)
                                    : idx_ann_link(ann, (uint32_t)n, NULL, hurry, NULL, &err)) == IDX_OK;
    }
    wall = now(CLOCK_MONOTONIC) - wall;
    cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (!ok) {
        fprintf(stderr, "bench_ann: %s\n", err.text);
        exit(1);
    }
    printf("{\"wall_s\":%.3f,\"cpu_s\":%.3f,\"bytes\":%.1f}\n", wall, cpu, (anonymous() - before) / (double)n);
}

static void mend(void)
{
    idx_error err = {0};
    double wall = now(CLOCK_MONOTONIC);
    if (idx_ann_mend(ann, (uint32_t)n, NULL, NULL, &err) != IDX_OK) {
        fprintf(stderr, "bench_ann: %s\n", err.text);
        exit(1);
    }
    printf("{\"wall_s\":%.3f}\n", now(CLOCK_MONOTONIC) - wall);
}

/* Rows whose first number is `lot` modulo `lots` are gone, and come again at the end. */
static void replace_some(uint32_t lots, uint32_t lot, double *inherit, double *link, uint32_t *mended)
{
    idx_error err = {0};
    idx_rows *fresh;
    idx_ann *heir;
    uint32_t *from = malloc(n * sizeof *from), *then = malloc(n * sizeof *then), *called = malloc(n * sizeof *called), kept = 0, at = 0;
    bool ok = from != NULL && then != NULL && called != NULL && idx_rows_new(rows->storage, dim, &fresh, &err) == IDX_OK;
    for (uint32_t i = 0; ok && i < n; i++) kept += name[i] % lots != lot;
    for (uint32_t i = 0, gone = kept; ok && i < n; i++) {
        bool stays = name[i] % lots != lot;
        uint32_t to = stays ? at++ : gone++;
        then[i] = stays ? to : UINT32_MAX;
        from[to] = i;
        called[to] = name[i];
    }
    for (uint32_t i = 0; ok && i < n; i++) {
        ok = idx_rows_room(fresh, i, &err) == IDX_OK;
        if (ok) memcpy(idx_rows_at(fresh, i), idx_rows_at(rows, from[i]), rows->stride);
    }
    double t = now(CLOCK_PROCESS_CPUTIME_ID);
    ok = ok && idx_ann_heir(ann, fresh, from, kept, (uint32_t)n, &heir, &err) == IDX_OK &&
         idx_ann_inherit(heir, kept, ann, from, then, (uint32_t)n, NULL, &err) == IDX_OK && idx_ann_inherit_end(heir, NULL, mended, &err) == IDX_OK;
    *inherit = (now(CLOCK_PROCESS_CPUTIME_ID) - t) / kept;
    t = now(CLOCK_PROCESS_CPUTIME_ID);
    ok = ok && idx_ann_link(heir, (uint32_t)n, NULL, false, NULL, &err) == IDX_OK;
    *link = (now(CLOCK_PROCESS_CPUTIME_ID) - t) / (double)(n - kept);
    if (!ok) {
        fprintf(stderr, "bench_ann: %s\n", err.text);
        exit(1);
    }
    drop();
    ann = heir;
    rows = fresh;
    free(name);
    name = called;
    free(from);
    free(then);
}

static void replace(double share, uint32_t cycles)
{
    uint32_t lots = (uint32_t)(1 / share + 0.5), mended = 0, some;
    double inherit = 0, link = 0, i_s, l_s;
    for (uint32_t i = 0; i < cycles; i++, mended += some) {
        replace_some(lots, i % lots, &i_s, &l_s, &some);
        inherit += i_s / cycles;
        link += l_s / cycles;
    }
    printf("{\"inherit_us\":%.2f,\"link_us\":%.2f,\"mended\":%u}\n", inherit * 1e6, link * 1e6, mended);
}

typedef struct {
    uint32_t ef;
    uint64_t hits, distances;
} job;

/* As idx_search() does it: the walk, then the score of what is shown. */
static uint32_t ours(idx_scratch *s, const float *query, job *j, int64_t labels[K])
{
    idx_error err = {0};
    idx_probe p;
    const idx_near *near = NULL;
    uint32_t found = 0;
    idx_near best[K];
    idx_probe_query(&p, rows, query, idx_scratch_room(s, idx_probe_bytes(rows)));
    if (idx_ann_search(ann, s, &p, j->ef, NULL, &near, &found, &j->distances, &err) != IDX_OK) exit(1);
    if (!idx_probe_is_coarse(&p)) {
        for (uint32_t i = 0; i < found && i < K; i++) labels[i] = near[i].row;
        return found < K ? found : K;
    }
    uint32_t look = found < 3 * K ? found : 3 * K, n_best = 0;
    for (uint32_t i = 0; i < look; i++) {
        idx_near x = {idx_probe_score(&p, idx_rows_at(rows, near[i].row)), near[i].row};
        uint32_t at = n_best < K ? n_best++ : K - 1;
        if (at == K - 1 && n_best == K && i >= K && x.score <= best[at].score) continue;
        for (; at > 0 && best[at - 1].score < x.score; at--) best[at] = best[at - 1];
        best[at] = x;
    }
    for (uint32_t i = 0; i < n_best; i++) labels[i] = best[i].row;
    return n_best;
}

static void *search_thread(void *arg)
{
    job *j = arg;
    idx_scratch *s = idx_scratch_take((uint32_t)n);
    for (uint64_t q = 0; q < n_queries; q++) {
        int64_t labels[K] = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
        float scores[K];
        if (plain != NULL) faiss_plain_search(plain, queries + q * dim, K, j->ef, scores, labels);
        else ours(s, queries + q * dim, j, labels);
        for (int a = 0; a < K; a++)
            for (int b = 0; b < K; b++) j->hits += (plain != NULL || labels[a] < 0 ? labels[a] : name[labels[a]]) == truth[q * TRUTH + (uint64_t)b];
    }
    idx_scratch_give(s);
    return NULL;
}

static void search(uint32_t ef, uint32_t threads)
{
    pthread_t t[64];
    job j[64];
    uint64_t hits = 0, distances = 0;
    if (threads > 64) threads = 64;
    double wall = now(CLOCK_MONOTONIC);
    for (uint32_t i = 0; i < threads; i++) {
        j[i] = (job){.ef = ef};
        if (pthread_create(&t[i], NULL, search_thread, &j[i]) != 0) exit(1);
    }
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(t[i], NULL);
        hits += j[i].hits;
        distances += j[i].distances;
    }
    wall = now(CLOCK_MONOTONIC) - wall;
    double done = (double)(n_queries * threads);
    printf("{\"rate\":%.1f,\"recall\":%.5f,\"distances\":%.1f}\n", done / wall, (double)hits / (done * K), (double)distances / done);
}

int main(int argc, char **argv)
{
    size_t bytes;
    if (argc != 3 || (dim = (uint32_t)strtoul(argv[2], NULL, 10)) == 0) {
        fprintf(stderr, "usage: bench_ann DIR DIM\n");
        return 2;
    }
    base = map(argv[1], "base.f32", &bytes);
    n = bytes / sizeof(float) / dim;
    queries = map(argv[1], "queries.f32", &bytes);
    n_queries = bytes / sizeof(float) / dim;
    truth = map(argv[1], "truth.i32", &bytes);
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[256], engine[32], storage[32];
    uint32_t a, b, c;
    double share;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "build %31s %31s %u %u %u", engine, storage, &a, &b, &c) == 5) build(engine, storage, a, b, c);
        else if (strcmp(line, "mend\n") == 0 && ann != NULL) mend();
        else if (sscanf(line, "replace %lf %u", &share, &a) == 2 && ann != NULL) replace(share, a);
        else if (sscanf(line, "search %u %u", &a, &b) == 2 && (ann != NULL || plain != NULL)) search(a, b);
        else printf("{\"error\":\"unknown command\"}\n");
    }
    drop();
    return 0;
}
