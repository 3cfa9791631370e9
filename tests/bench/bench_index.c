/* bench_index.c: the whole index over the rows that bench_vectors wrote, as a catalogue of external embeddings; item i has row i.
 * Commands come on stdin, one JSON line answers each, so that tests/bench/index can take turns with others and kill it:
 *   bench_index DIR VECTORS DIM
 *   open STORAGE                          makes the catalogue where there is none; seconds until it answers
 *   write FROM TO RATE                    puts rows FROM..TO-1 at RATE a second (0 = as fast as it goes), 64 on their way at most
 *   remove FROM TO                        deletes those items
 *   settle                                waits until the background has nothing left to do
 *   arrivals random|even                  how the searches of the next commands come, see there
 *   search SECONDS THREADS RATE EF        RATE a second together (0 = as fast as it goes); EF 0 = as the auditor has it
 *   both SECONDS THREADS RATE EF FROM TO WRITES     the same while rows FROM..TO-1 are put at WRITES a second
 *   beside SECONDS THREADS RATE EF SHARE  the same while another thread works SHARE of the time, a fifth of a millisecond at once, and
 *                                         touches nothing: what a scheduler makes of as much work as writes are
 *   machine SECONDS THREADS               threads that look at the clock and do nothing else: for how long they were kept from it
 *   disk SECONDS RATE                     150 KiB are written and synced RATE times a second, as commits do: how long the disk takes
 *   recall EF                             of all queries
 *   memory  close  kill
 */
#include "../../server/environment.h"
#include "index.h"
#include "machine.h"
#include "vectors.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { K = 10, TRUTH = 100, GROUP = 16, FLYING = 64, MAX_SAMPLES = 1 << 22, MAX_THREADS = 64 };
static const char fp[] = "external";
static const char *dir;
static const float *base, *queries;
static const int32_t *truth;
static uint64_t n_rows, n_queries;
static uint32_t dim;
static idx *ix;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_index: %s: %s\n", what, why);
    exit(1);
}

static const void *map(const char *folder, const char *name, size_t *bytes)
{
    char path[4200];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) != 0) fail(path, "cannot be opened");
    *bytes = (size_t)st.st_size;
    void *p = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, fd, 0); /* counts as the file's, not as this program's: see memory() */
    close(fd);
    if (p == MAP_FAILED) fail(path, "cannot be mapped");
    return p;
}

static void sleep_until(double t)
{
    double left = t - machine_now();
    if (left > 0) nanosleep(&(struct timespec){(time_t)left, (long)((left - (double)(time_t)left) * 1e9)}, NULL);
}

/* ---- latencies ------------------------------------------------------------------------------------------------------------ */

typedef struct {
    float *ms;
    _Atomic uint32_t n;
} samples;
static samples searches, writes;

static void sample(samples *s, double seconds)
{
    uint32_t i = atomic_fetch_add(&s->n, 1);
    if (i < MAX_SAMPLES) s->ms[i] = (float)(seconds * 1e3);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_samples(const char *name, samples *s, double took)
{
    uint32_t n = s->n < MAX_SAMPLES ? s->n : MAX_SAMPLES;
    qsort(s->ms, n, sizeof *s->ms, by_value);
    printf("\"%s\":{\"n\":%u,\"rate\":%.1f,\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}", name, n, s->n / took, n > 0 ? (double)s->ms[n / 2] : 0,
           n > 0 ? (double)s->ms[(size_t)((double)n * 0.99)] : 0, n > 0 ? (double)s->ms[n - 1] : 0);
    s->n = 0;
}

/* ---- writes ----------------------------------------------------------------------------------------------------------------- */

static sem_t flying;
static _Atomic uint32_t refused;

static void acknowledged(idx_op *op, void *ctx)
{
    double *due = ctx;
    if (op->status != IDX_OK) refused++;
    sample(&writes, machine_now() - *due);
    free(due);
    sem_post(&flying);
}

static void send_op(idx_op *op, double due)
{
    idx_error e = {0};
    double *from = malloc(sizeof *from);
    if (op == NULL || from == NULL) fail("write", "no memory");
    sem_wait(&flying);
    *from = due;
    op->done = acknowledged;
    op->ctx = from;
    if (idx_submit_take(ix, op, &e) != IDX_OK) fail("write", e.text);
}

static idx_op *make_put(uint64_t i)
{
    static const char *const colours[] = {"red", "blue", "green", "black", "white", "yellow", "brown", "grey"};
    char id[32], attributes[200];
    idx_image *im = calloc(1, sizeof *im);
    snprintf(id, sizeof id, "item-%08llu", (unsigned long long)i);
    snprintf(attributes, sizeof attributes, "{\"title\":\"Item %llu\",\"colour\":\"%s\",\"price\":%.2f,\"new\":%s}", (unsigned long long)i, colours[i * 7 % 8],
             (double)(i * 7919 % 20000) / 100, i % 3 == 0 ? "true" : "false");
    idx_op *op = idx_op_new(IDX_PUT, "bench", id);
    if (op == NULL || im == NULL || (im->embedding = malloc(dim * sizeof(float))) == NULL) fail("item", "no memory");
    memcpy(im->embedding, base + i * dim, dim * sizeof(float));
    im->embedding[i % dim] += (float)fmod(machine_now(), 1) * 1e-4f; /* never twice the same, which the index would keep where it is */
    op->attributes = strdup(attributes);
    op->images = im;
    op->n_images = 1;
    op->dim = dim;
    memcpy(op->fingerprint, fp, sizeof fp);
    return op;
}

static idx_op *make_delete(uint64_t i)
{
    char id[32];
    snprintf(id, sizeof id, "item-%08llu", (unsigned long long)i);
    return idx_op_new(IDX_DELETE, "bench", id);
}

static void land(void)
{
    for (int i = 0; i < FLYING; i++) sem_wait(&flying);
    for (int i = 0; i < FLYING; i++) sem_post(&flying);
    if (refused > 0) fail("write", "some were refused");
}

/* Writes come in groups, as a bulk request brings them. The time of each is from when it was due, so that a pause counts for all that waited. */
static void write_rows(idx_op *(*make)(uint64_t), uint64_t from, uint64_t to, double rate, double end)
{
    double start = machine_now();
    for (uint64_t i = from; i < to && (end <= 0 || machine_now() < end); i++) {
        double due = rate > 0 ? start + (double)((i - from) / GROUP * GROUP) / rate : machine_now();
        sleep_until(due);
        send_op(make(i), due);
    }
    land();
}

static void write_command(idx_op *(*make)(uint64_t), uint64_t from, uint64_t to, double rate)
{
    idx_stats before, after;
    idx_get_stats(ix, &before);
    double t = machine_now();
    write_rows(make, from, to, rate, 0);
    t = machine_now() - t;
    idx_get_stats(ix, &after);
    printf("{");
    print_samples("writes", &writes, t);
    printf(",\"seconds\":%.2f,\"commits\":%llu,\"fsync_s\":%.2f}\n", t, (unsigned long long)(after.commits - before.commits),
           (double)(after.fsync_ns_total - before.fsync_ns_total) * 1e-9);
}

/* ---- searches ----------------------------------------------------------------------------------------------------------------- */

/* The longest that a search took from its begin, computed, was ready and waited for a processor, and waited for anything else, as a lock, a page, the
 * disk, or the hypervisor: pauses that the index makes are among the last. In microseconds. */
static struct {
    _Atomic uint32_t took, computed, ready, blocked;
} longest;

typedef struct {
    double at, computed, ready;
} spent;

static void keep_longest(_Atomic uint32_t *most, double seconds)
{
    uint32_t us = seconds > 0 ? (uint32_t)(seconds * 1e6) : 0, was = atomic_load(most);
    while (us > was && !atomic_compare_exchange_weak(most, &was, us)) {}
}

/* Of this thread. schedstat: "computed ready turns", in ns (Documentation/scheduler/sched-stats.rst of Linux). */
static spent spent_now(int schedstat)
{
    char text[100] = "";
    unsigned long long ready = 0;
    struct timespec t;
    if (pread(schedstat, text, sizeof text - 1, 0) > 0 && sscanf(text, "%*u %llu", &ready) != 1) ready = 0;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (spent){machine_now(), (double)t.tv_sec + (double)t.tv_nsec * 1e-9, (double)ready * 1e-9};
}

static void note_spent(const spent *before, int schedstat)
{
    const spent after = spent_now(schedstat);
    const double computed = after.computed - before->computed, ready = after.ready - before->ready;
    keep_longest(&longest.took, after.at - before->at);
    keep_longest(&longest.computed, computed);
    keep_longest(&longest.ready, ready);
    keep_longest(&longest.blocked, after.at - before->at - computed - ready);
}

static void print_longest(void)
{
    printf(",\"longest\":{\"took\":%.3f,\"computed\":%.3f,\"ready\":%.3f,\"blocked\":%.3f}", atomic_exchange(&longest.took, 0) / 1e3,
           atomic_exchange(&longest.computed, 0) / 1e3, atomic_exchange(&longest.ready, 0) / 1e3, atomic_exchange(&longest.blocked, 0) / 1e3);
}

typedef struct {
    double start, end, rate; /* of all */
    uint32_t ef;
    uint64_t hits;
} job;

static _Atomic uint64_t next_search;

static uint64_t search_one(uint64_t q, uint32_t ef, uint64_t *hits)
{
    idx_error e = {0};
    idx_result *r = NULL;
    idx_query query = {.embedding = queries + q * dim, .dim = dim, .limit = K, .min_score = -2, .ef_search = ef};
    if (idx_search(ix, "bench", &query, &r, &e) != IDX_OK) fail("search", e.text);
    for (size_t i = 0; i < r->n; i++) {
        int32_t row = atoi(r->hits[i].id + 5);
        for (int k = 0; k < K; k++) *hits += row == truth[q * TRUTH + (uint64_t)k];
    }
    uint64_t distances = r->distances;
    idx_result_free(r);
    return distances;
}

/* When searches come, whether those before are done or not, in mean distances from the start. At random, as from customers who know nothing of each
 * other (a Poisson process; "Open Versus Closed: A Cautionary Tale", NSDI 2006): some at once, then none for a while. Or evenly, which nobody's
 * do: hardly one then waits for another, and each costs its thread a sleep (20 us of processor on a virtual machine, where a search takes 60). */
static bool evenly;
static double *arrivals;
static uint64_t n_arrivals;

static void draw_arrivals(uint64_t n)
{
    if (n <= n_arrivals) return;
    free(arrivals);
    if ((arrivals = malloc(n * sizeof *arrivals)) == NULL) fail("arrivals", "no memory");
    n_arrivals = n;
    double at = 0;
    uint64_t seed = 1; /* the same in each run */
    for (uint64_t i = 0; i < n; i++) arrivals[i] = at -= log(((double)(vectors_rand(&seed) >> 11) + 0.5) * 0x1p-53);
}

static double arrival(uint64_t i) { return evenly || i >= n_arrivals ? (double)i : arrivals[i]; }

/* Whoever is free takes the next, as a server's threads do. */
static void *search_thread(void *arg)
{
    const double longish = 1e-3; /* what took less is not looked at */
    job *j = arg;
    const int schedstat = open("/proc/thread-self/schedstat", O_RDONLY);
    machine_own_processor();
    for (uint64_t i; machine_now() < j->end;) {
        i = atomic_fetch_add(&next_search, 1);
        double due = j->rate > 0 ? j->start + arrival(i) / j->rate : machine_now();
        sleep_until(due);
        const spent before = spent_now(schedstat);
        search_one(i % n_queries, j->ef, &j->hits);
        const double end = machine_now();
        sample(&searches, end - due);
        if (end - before.at > longish) note_spent(&before, schedstat);
    }
    if (schedstat >= 0) close(schedstat);
    return NULL;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void work(double share, double end)
{
    for (double at = machine_now(); at < end; at += 0.0002 / share) {
        sleep_until(at);
        for (double t = machine_now(); machine_now() < t + 0.0002;) {}
    }
}

typedef struct { /* beside the searches */
    uint64_t from, to;
    double writes; /* a second */
    double share;  /* of a processor for nothing */
} load;

static void search_command(double seconds, uint32_t threads, double rate, uint32_t ef, load l)
{
    pthread_t t[MAX_THREADS];
    job j[MAX_THREADS];
    draw_arrivals((uint64_t)(rate * seconds * 1.1) + 10000);
    double start = machine_now(), cpu = cpu_seconds(), stolen = machine_stolen();
    atomic_store(&next_search, 0);
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    for (uint32_t i = 0; i < threads; i++) {
        j[i] = (job){start, start + seconds, rate, ef, 0};
        if (pthread_create(&t[i], NULL, search_thread, &j[i]) != 0) fail("search", "no thread");
    }
    if (l.writes > 0) write_rows(make_put, l.from, l.to, l.writes, start + seconds);
    if (l.share > 0) work(l.share, start + seconds);
    for (uint32_t i = 0; i < threads; i++) pthread_join(t[i], NULL);
    double took = machine_now() - start;
    printf("{");
    print_samples("searches", &searches, took);
    printf(",");
    print_samples("writes", &writes, took);
    print_longest();
    printf(",\"cpu_share\":%.3f,\"stolen\":%.3f}\n", (cpu_seconds() - cpu) / took, (machine_stolen() - stolen) / took);
}

static void machine_command(double seconds, uint32_t threads)
{
    const double start = machine_now(), stolen = machine_stolen(), gap = machine_longest_gap(seconds, threads < MAX_THREADS ? threads : MAX_THREADS);
    if (gap < 0) fail("machine", "no thread");
    printf("{\"longest\":%.3f,\"stolen\":%.3f}\n", gap * 1e3, (machine_stolen() - stolen) / (machine_now() - start));
}

static void disk_command(double seconds, double rate)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/disk-probe", dir);
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    const double start = machine_now();
    for (uint32_t i = 0; fd >= 0 && machine_now() < start + seconds; i++) {
        sleep_until(start + (double)i / rate);
        const double took = machine_sync(fd, i);
        if (took < 0) fail(path, "cannot be written");
        sample(&writes, took);
    }
    if (fd < 0) fail(path, "cannot be made");
    const double took = machine_now() - start;
    close(fd);
    unlink(path);
    printf("{");
    print_samples("syncs", &writes, took);
    printf("}\n");
}

static void recall_command(uint32_t ef)
{
    uint64_t hits = 0, distances = 0;
    for (uint64_t q = 0; q < n_queries; q++) distances += search_one(q, ef, &hits);
    printf("{\"recall\":%.5f,\"distances\":%.1f}\n", (double)hits / (double)(n_queries * K), (double)distances / (double)n_queries);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------------------- */

static void open_command(const char *storage)
{
    static const char *const names[] = {"auto", "float32", "float16", "int8"};
    idx_error e = {0};
    idx_catalogue_spec spec = {.name = "bench", .model = "external", .fingerprint = fp, .dim = dim};
    bool created;
    double t = machine_now();
    while (spec.storage < IDX_INT8 && strcmp(names[spec.storage], storage) != 0) spec.storage++;
    if (idx_open(dir, &(idx_opts){.recall_target = -1, .link_threads = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN)}, &ix, &e) != IDX_OK) fail("open", e.text);
    t = machine_now() - t;
    if (idx_catalogue_create(ix, &spec, &created, &e) != IDX_OK) fail("catalogue", e.text);
    idx_catalogue c;
    if (idx_catalogue_get(ix, "bench", &c, &e) != IDX_OK) fail("catalogue", e.text);
    printf("{\"seconds\":%.3f,\"images\":%llu,\"linked\":%llu}\n", t, (unsigned long long)c.images, (unsigned long long)c.sealed_images);
}

static void settle_command(void)
{
    double t = machine_now();
    idx_catalogue c;
    do {
        usleep(200000);
        if (idx_catalogue_get(ix, "bench", &c, NULL) != IDX_OK) fail("settle", "the catalogue is gone");
    } while (c.fresh_images > 0 && c.sealed_images + c.fresh_images >= 10000);
    double linked = machine_now() - t;
    idx_error e = {0};
    if (idx_maintain(ix, &e) != IDX_OK) fail("settle", e.text);
    printf("{\"linked_s\":%.1f,\"seconds\":%.1f,\"kept\":%d}\n", linked, machine_now() - t, (int)c.kept);
}

static uint64_t status_kib(const char *name)
{
    char line[200];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0) sscanf(line + strlen(name), ": %llu", &kib);
    if (f != NULL) fclose(f);
    return kib;
}

static void memory_command(void)
{
    idx_stats s;
    idx_get_stats(ix, &s);
    idx_catalogue c;
    if (idx_catalogue_get(ix, "bench", &c, NULL) != IDX_OK) fail("memory", "the catalogue is gone");
    printf("{\"anonymous\":%llu,\"images\":%llu,\"dead\":%llu,\"vectors\":%llu,\"graph\":%llu,\"lists\":%llu,\"items\":%llu,\"attributes\":%llu}\n",
           (unsigned long long)status_kib("RssAnon") * 1024, (unsigned long long)c.images, (unsigned long long)c.deleted_images,
           (unsigned long long)s.rss_vectors_bytes, (unsigned long long)s.rss_graph_bytes, (unsigned long long)s.rss_lists_bytes,
           (unsigned long long)s.rss_items_bytes, (unsigned long long)s.rss_attributes_bytes);
}

int main(int argc, char **argv)
{
    srv_settle_environment(argv);
    size_t bytes;
    if (argc != 4 || (dim = (uint32_t)strtoul(argv[3], NULL, 10)) == 0) fail("usage", "bench_index DIR VECTORS DIM");
    dir = argv[1];
    base = map(argv[2], "base.f32", &bytes);
    n_rows = bytes / sizeof(float) / dim;
    queries = map(argv[2], "queries.f32", &bytes);
    n_queries = bytes / sizeof(float) / dim;
    truth = map(argv[2], "truth.i32", &bytes);
    searches.ms = mmap(NULL, MAX_SAMPLES * sizeof(float), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    writes.ms = mmap(NULL, MAX_SAMPLES * sizeof(float), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (searches.ms == MAP_FAILED || writes.ms == MAP_FAILED || sem_init(&flying, 0, FLYING) != 0) fail("start", "no memory");
    setvbuf(stdout, NULL, _IOLBF, 0);
    char line[256], word[32];
    unsigned long long from, to;
    unsigned threads, ef;
    double seconds, rate, other;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "open %31s", word) == 1) open_command(word);
        else if (ix == NULL) fail("command", "open comes first");
        else if (sscanf(line, "write %llu %llu %lf", &from, &to, &rate) == 3 && to <= n_rows) write_command(make_put, from, to, rate);
        else if (sscanf(line, "remove %llu %llu", &from, &to) == 2) write_command(make_delete, from, to, 0);
        else if (sscanf(line, "search %lf %u %lf %u", &seconds, &threads, &rate, &ef) == 4) search_command(seconds, threads, rate, ef, (load){0});
        else if (sscanf(line, "both %lf %u %lf %u %llu %llu %lf", &seconds, &threads, &rate, &ef, &from, &to, &other) == 7 && to <= n_rows)
            search_command(seconds, threads, rate, ef, (load){.from = from, .to = to, .writes = other});
        else if (sscanf(line, "beside %lf %u %lf %u %lf", &seconds, &threads, &rate, &ef, &other) == 5 && other > 0)
            search_command(seconds, threads, rate, ef, (load){.share = other});
        else if (sscanf(line, "machine %lf %u", &seconds, &threads) == 2) machine_command(seconds, threads);
        else if (sscanf(line, "disk %lf %lf", &seconds, &rate) == 2 && rate > 0) disk_command(seconds, rate);
        else if (sscanf(line, "recall %u", &ef) == 1) recall_command(ef);
        else if (sscanf(line, "arrivals %31s", word) == 1) evenly = strcmp(word, "even") == 0, printf("{}\n");
        else if (strncmp(line, "settle", 6) == 0) settle_command();
        else if (strncmp(line, "memory", 6) == 0) memory_command();
        else if (strncmp(line, "kill", 4) == 0) raise(SIGKILL);
        else if (strncmp(line, "close", 5) == 0) {
            double t = machine_now();
            idx_close(ix);
            ix = NULL;
            printf("{\"seconds\":%.3f}\n", machine_now() - t);
        } else fail("unknown command", line);
    }
    idx_close(ix);
    return 0;
}
