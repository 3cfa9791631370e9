/* metrics.c: what /metrics shows. One lock: an update is some additions, far below the cost of a request. */
#include "metrics.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SERIES = 256, MAX_CODES = 64, BUCKETS = 14 };

/* Seconds; from a cached GET to a request that hits its deadline. */
static const double bounds[BUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};

typedef struct {
    uint64_t buckets[BUCKETS + 1], count;
    double sum;
} histogram;

static struct {
    pthread_mutex_t lock;
    struct series {
        const char *method, *route;
        int status;
        uint64_t count, bytes_in, bytes_out;
    } series[MAX_SERIES];
    size_t n_series;
    struct route {
        const char *route;
        histogram seconds;
    } routes[MAX_CODES];
    size_t n_routes;
    struct {
        const char *code;
        uint64_t count;
    } problems[MAX_CODES];
    size_t n_problems;
    histogram stages[API_STAGE_COUNT];
    uint64_t images, batches, lines_ok, lines_failed, cut;
} m = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void observe(histogram *h, uint64_t ns)
{
    double s = (double) ns / 1e9;
    size_t i = 0;
    while (i < BUCKETS && s > bounds[i]) i++;
    h->buckets[i]++;
    h->count++;
    h->sum += s;
}

static struct series *find_series(const srv_request_record *r)
{
    for (size_t i = 0; i < m.n_series; i++)
        if (m.series[i].route == r->route && m.series[i].method == r->method && m.series[i].status == r->status) return &m.series[i];
    if (m.n_series == MAX_SERIES) return NULL;
    m.series[m.n_series] = (struct series){r->method, r->route, r->status, 0, 0, 0};
    return &m.series[m.n_series++];
}

static struct route *find_route(const char *route)
{
    for (size_t i = 0; i < m.n_routes; i++)
        if (m.routes[i].route == route) return &m.routes[i];
    if (m.n_routes == MAX_CODES) return NULL;
    m.routes[m.n_routes].route = route;
    return &m.routes[m.n_routes++];
}

static void count_problem(const char *code)
{
    for (size_t i = 0; i < m.n_problems; i++)
        if (strcmp(m.problems[i].code, code) == 0) {
            m.problems[i].count++;
            return;
        }
    if (m.n_problems == MAX_CODES) return;
    m.problems[m.n_problems].code = code;
    m.problems[m.n_problems++].count = 1;
}

void srv_metrics_request(const srv_request_record *r)
{
    pthread_mutex_lock(&m.lock);
    struct series *s = find_series(r);
    if (s != NULL) {
        s->count++;
        s->bytes_in += r->bytes_in;
        s->bytes_out += r->bytes_out;
    }
    struct route *route = find_route(r->route);
    if (route != NULL) observe(&route->seconds, r->ns);
    for (size_t i = 0; i < API_STAGE_COUNT; i++)
        if (r->stage_ns[i] != 0) observe(&m.stages[i], r->stage_ns[i]);
    m.images += r->images;
    if (r->problem_code != NULL) count_problem(r->problem_code);
    pthread_mutex_unlock(&m.lock);
}

void srv_metrics_batch(const api_batch_stats *b)
{
    pthread_mutex_lock(&m.lock);
    m.batches++;
    m.lines_ok += b->ok;
    m.lines_failed += b->failed;
    m.images += b->images;
    pthread_mutex_unlock(&m.lock);
}

void srv_metrics_cut(void)
{
    pthread_mutex_lock(&m.lock);
    m.cut++;
    pthread_mutex_unlock(&m.lock);
}

/* ---- text --------------------------------------------------------------------------------------- */

static void head(FILE *f, const char *name, const char *type, const char *help)
{
    fprintf(f, "# HELP likeness_%s %s\n# TYPE likeness_%s %s\n", name, help, name, type);
}

static void number(FILE *f, const char *name, const char *type, const char *help, double value)
{
    head(f, name, type, help);
    fprintf(f, "likeness_%s %.17g\n", name, value);
}

static void print_histogram(FILE *f, const char *name, const char *label, const char *value, const histogram *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        sum += h->buckets[i];
        fprintf(f, "likeness_%s_bucket{%s=\"%s\",le=\"%g\"} %llu\n", name, label, value, bounds[i], (unsigned long long) sum);
    }
    fprintf(f, "likeness_%s_bucket{%s=\"%s\",le=\"+Inf\"} %llu\n", name, label, value, (unsigned long long) h->count);
    fprintf(f, "likeness_%s_sum{%s=\"%s\"} %.9g\n", name, label, value, h->sum);
    fprintf(f, "likeness_%s_count{%s=\"%s\"} %llu\n", name, label, value, (unsigned long long) h->count);
}

static void print_series(FILE *f, const char *name, const char *help, size_t field)
{
    head(f, name, "counter", help);
    for (size_t i = 0; i < m.n_series; i++) {
        const struct series *s = &m.series[i];
        uint64_t value;
        memcpy(&value, (const char *) s + field, sizeof value);
        fprintf(f, "likeness_%s{method=\"%s\",route=\"%s\",status=\"%d\"} %llu\n", name, s->method, s->route, s->status,
                (unsigned long long) value);
    }
}

static void print_requests(FILE *f)
{
    pthread_mutex_lock(&m.lock);
    print_series(f, "http_requests_total", "Requests answered.", offsetof(struct series, count));
    print_series(f, "http_request_bytes_total", "Bytes of request bodies.", offsetof(struct series, bytes_in));
    print_series(f, "http_response_bytes_total", "Bytes of reply bodies.", offsetof(struct series, bytes_out));
    head(f, "http_request_duration_seconds", "histogram", "From the request line to the last byte of the reply.");
    for (size_t i = 0; i < m.n_routes; i++)
        print_histogram(f, "http_request_duration_seconds", "route", m.routes[i].route, &m.routes[i].seconds);
    head(f, "stage_duration_seconds", "histogram", "Time of each stage of requests; batches are not part of it.");
    for (size_t i = 0; i < API_STAGE_COUNT; i++)
        print_histogram(f, "stage_duration_seconds", "stage", api_stage_name[i], &m.stages[i]);
    head(f, "problems_total", "counter", "Problem replies by their code.");
    for (size_t i = 0; i < m.n_problems; i++)
        fprintf(f, "likeness_problems_total{code=\"%s\"} %llu\n", m.problems[i].code, (unsigned long long) m.problems[i].count);
    number(f, "images_embedded_total", "counter", "Photos decoded and embedded.", (double) m.images);
    number(f, "batches_total", "counter", "items:batch requests that ended.", (double) m.batches);
    head(f, "batch_lines_total", "counter", "Lines of items:batch by outcome.");
    fprintf(f, "likeness_batch_lines_total{outcome=\"ok\"} %llu\nlikeness_batch_lines_total{outcome=\"failed\"} %llu\n",
            (unsigned long long) m.lines_ok, (unsigned long long) m.lines_failed);
    number(f, "connections_cut_total", "counter", "Connections ended by a deadline.", (double) m.cut);
    pthread_mutex_unlock(&m.lock);
}

static void print_pool(FILE *f, srv_pool *pool)
{
    srv_pool_stats s;
    srv_pool_get_stats(pool, &s);
    number(f, "compute_threads", "gauge", "Threads of the compute pool.", s.threads);
    number(f, "compute_threads_busy", "gauge", "Compute threads at work.", s.busy);
    head(f, "queue_length", "gauge", "Work waiting for a compute thread.");
    fprintf(f, "likeness_queue_length{class=\"interactive\"} %u\nlikeness_queue_length{class=\"bulk\"} %u\n", s.interactive, s.bulk);
    number(f, "queue_refused_total", "counter", "Requests refused because the queue was full.", (double) s.refused);
    number(f, "queue_too_old_total", "counter", "Requests refused because they had waited too long.", (double) s.too_old);
}

static const struct {
    const char *name, *type, *help;
    size_t field;
    bool wide; /* uint64_t, otherwise uint32_t */
} catalogue_gauges[] = {
    {"catalogue_items", "gauge", "Items.", offsetof(idx_catalogue, items), true},
    {"catalogue_images", "gauge", "Images of items.", offsetof(idx_catalogue, images), true},
    {"index_fresh_images", "gauge", "Images searched exactly.", offsetof(idx_catalogue, fresh_images), true},
    {"index_sealed_images", "gauge", "Images in HNSW segments.", offsetof(idx_catalogue, sealed_images), true},
    {"index_deleted_images", "gauge", "Deleted images that wait for compaction.", offsetof(idx_catalogue, deleted_images), true},
    {"index_segments", "gauge", "Sealed segments.", offsetof(idx_catalogue, segments), false},
    {"catalogue_generation", "gauge", "Grows with every committed write.", offsetof(idx_catalogue, generation), true},
};

static const char *const search_kinds[] = {"plain", "filtered"};

/* What the auditor knows; a kind that was not audited yet has no recall. */
static void print_audits(FILE *f, const idx_catalogue *cats, size_t n)
{
    head(f, "search_recall_at_10", "gauge", "Recall@10 of the latest approximate searches that were made again exactly (those that compare everything are exact, and not among them), by kind: without a filter, with one.");
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            if (cats[i].audits[k] > 0) fprintf(f, "likeness_search_recall_at_10{catalogue=\"%s\",kind=\"%s\"} %.6g\n", cats[i].name, search_kinds[k], cats[i].recall[k]);
    head(f, "search_audits_total", "counter", "Searches made again exactly.");
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            fprintf(f, "likeness_search_audits_total{catalogue=\"%s\",kind=\"%s\"} %llu\n", cats[i].name, search_kinds[k], (unsigned long long) cats[i].audits[k]);
    head(f, "ef_search", "gauge", "What a search looks at, as audits have set it.");
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++) fprintf(f, "likeness_ef_search{catalogue=\"%s\",kind=\"%s\"} %u\n", cats[i].name, search_kinds[k], cats[i].effort[k]);
}

static void print_index(FILE *f, idx *ix)
{
    idx_catalogue *cats = NULL;
    size_t n = 0;
    if (idx_catalogue_list(ix, &cats, &n, NULL) != IDX_OK) n = 0;
    for (size_t g = 0; g < sizeof catalogue_gauges / sizeof *catalogue_gauges; g++) {
        head(f, catalogue_gauges[g].name, catalogue_gauges[g].type, catalogue_gauges[g].help);
        for (size_t i = 0; i < n; i++) {
            const char *at = (const char *) &cats[i] + catalogue_gauges[g].field;
            uint64_t wide;
            uint32_t narrow;
            memcpy(&narrow, at, sizeof narrow);
            wide = narrow;
            if (catalogue_gauges[g].wide) memcpy(&wide, at, sizeof wide);
            fprintf(f, "likeness_%s{catalogue=\"%s\"} %llu\n", catalogue_gauges[g].name, cats[i].name, (unsigned long long) wide);
        }
    }
    print_audits(f, cats, n);
    free(cats);
    idx_stats s;
    idx_get_stats(ix, &s);
    number(f, "writer_queue_length", "gauge", "Writes waiting for the writer thread.", (double) s.queue);
    number(f, "commits_total", "counter", "Transactions committed.", (double) s.commits);
    number(f, "committed_writes_total", "counter", "Writes in them.", (double) s.committed_ops);
    number(f, "commit_seconds_total", "counter", "Time in COMMIT, mostly fsync.", (double) s.fsync_ns_total / 1e9);
    number(f, "vectors_bytes", "gauge", "Memory of the embeddings.", (double) s.rss_vectors_bytes);
    number(f, "graphs_bytes", "gauge", "Memory of the HNSW graphs.", (double) s.rss_graph_bytes);
    number(f, "lists_bytes", "gauge", "Memory of the lists for searches with a filter.", (double) s.rss_lists_bytes);
    number(f, "items_bytes", "gauge", "Memory of ids and of where images are.", (double) s.rss_items_bytes);
    number(f, "attributes_bytes", "gauge", "Memory of attributes, of what searches showed of items lately, and of what their filters matched.", (double) s.rss_attributes_bytes);
    number(f, "disk_bytes", "gauge", "Size of the data folder's files.", (double) s.disk_bytes);
    number(f, "storage_read_only", "gauge", "1 after the storage failed.", s.read_only);
    number(f, "storage_full", "gauge", "1 while the disk is below its floor.", s.full);
}

static void print_process(FILE *f)
{
    unsigned long long pages = 0, resident = 0;
    FILE *p = fopen("/proc/self/statm", "re");
    if (p != NULL && fscanf(p, "%llu %llu", &pages, &resident) != 2) resident = 0;
    if (p != NULL) fclose(p);
    fprintf(f, "# HELP process_resident_memory_bytes Resident memory.\n# TYPE process_resident_memory_bytes gauge\n"
               "process_resident_memory_bytes %llu\n", resident * (unsigned long long) sysconf(_SC_PAGESIZE));
}

char *srv_metrics_text(const srv_metrics_now *now, size_t *n)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, n);
    if (f == NULL) return NULL;
    head(f, "info", "gauge", "Version, model and kernels in use.");
    fprintf(f, "likeness_info{version=\"%s\",model=\"%s\",precision=\"%s\",kernels=\"%s\",blas_core=\"%s\"} 1\n", LK_VERSION, now->model,
            now->precision, now->kernels, now->blas_core);
    number(f, "ready", "gauge", "1 while /readyz answers 200.", now->ready);
    number(f, "start_seconds", "gauge", "From the start to ready.", (double) now->start_to_ready_ns / 1e9);
    number(f, "http_connections", "gauge", "Open connections.", now->connections);
    print_requests(f);
    if (now->cx != NULL) {
        number(f, "batches_in_progress", "gauge", "items:batch requests whose last line is not written yet, their client gone or not.",
               api_batches_in_progress(now->cx));
        number(f, "body_memory_bytes", "gauge", "Taken of max-body-memory by bodies and by batches.", (double) api_memory_used(now->cx));
    }
    if (now->pool != NULL) print_pool(f, now->pool);
    if (now->ix != NULL) print_index(f, now->ix);
    print_process(f);
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
