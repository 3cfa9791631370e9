/* cmd_bench.c: `likeness bench`: how fast a server answers searches from here and how much it finds, how fast this machine embeds,
 * and where a model's time goes. */
#include "bench_layers.h"
#include "bench_recall.h"
#include "client_opts.h"
#include "commands.h"
#include "cpus.h"
#include "embed.h"
#include "files.h"
#include "http_client.h"
#include "queue.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

enum { MAX_CLIENTS = 256, MAX_SAMPLES = 1 << 20 };

static const char *url, *key_file, *catalogue;
static srv_model_opts how;
static uint64_t connections = 4, seconds, threads;
static bool as_json;
static srv_recall recall = {.queries = 200, .among = 10000, .limit = 10};
static srv_layers_opts steps;

static const srv_opt opts[] = {
    {"connections", "N", SRV_OPT_COUNT, &connections, 1, MAX_CLIENTS, "search: connections, each with one request at a time (4)"},
    {"threads", "N", SRV_OPT_COUNT, &threads, 1, MAX_CLIENTS, "embed: threads (one for each processor)"},
    {"seconds", "N", SRV_OPT_COUNT, &seconds, 1, 86400, "how long (10; model: 2)"},
    SRV_MODEL_FILE(how, "embed: "), SRV_MODEL_OUTPUT(how, "embed, model: "), SRV_MODEL_PRECISION(how, "embed, model: "),
    {"queries", "N", SRV_OPT_COUNT, &recall.queries, 1, 100000, "recall: items to search with (200)"},
    {"among", "N", SRV_OPT_COUNT, &recall.among, 1, 100000000, "recall: chosen among so many items, the first by id (10000)"},
    {"limit", "K", SRV_OPT_COUNT, &recall.limit, 1, 100, "recall: results that are compared (10)"},
    {"filter", "TEXT", SRV_OPT_TEXT, &recall.filter, 0, 0, "recall: of every search"},
    {"layers", NULL, SRV_OPT_FLAG, &steps.layers, 0, 0, "model: every step: time, what the cost model says, share of the peak"},
    {"worst", NULL, SRV_OPT_FLAG, &steps.worst, 0, 0, "model: steps above 2 % of the time that reach less than 35 % of what they could, and why"},
    {"json", NULL, SRV_OPT_FLAG, &as_json, 0, 0, "one JSON line"},
    SRV_OPT_URL(url),
    SRV_OPT_KEY_FILE(key_file),
    SRV_OPT_CATALOGUE(catalogue),
};

static uint8_t *photo;
static size_t photo_n;
static char *path;
static emb_model *model;
static uint64_t end_ns;
static float *samples; /* milliseconds */
static _Atomic uint32_t n_samples, failures;
static pthread_mutex_t why_lock = PTHREAD_MUTEX_INITIALIZER;
static char why[320];

static void failed(const char *text)
{
    failures++;
    pthread_mutex_lock(&why_lock);
    if (why[0] == '\0') snprintf(why, sizeof why, "%s", text);
    pthread_mutex_unlock(&why_lock);
}

static void sample(uint64_t start_ns)
{
    uint32_t i = n_samples++;
    if (i < MAX_SAMPLES) samples[i] = (float) ((double) (srv_now_ns() - start_ns) / 1e6);
}

static void *search_loop(void *arg)
{
    (void) arg;
    char err[320];
    srv_client *c = srv_client_new(url, key_file, err);
    if (c == NULL) failed(err);
    while (c != NULL && srv_now_ns() < end_ns) {
        srv_answer a;
        uint64_t start = srv_now_ns();
        bool ok = srv_client_send(c, "POST", path, "application/octet-stream", photo, photo_n, &a, err);
        if (ok && a.status == 200) {
            sample(start);
        } else {
            if (ok) srv_answer_describe(&a, err, sizeof err);
            failed(err);
            if (!ok) break;
        }
        srv_answer_fini(&a);
    }
    srv_client_free(c);
    return NULL;
}

static void *embed_loop(void *arg)
{
    (void) arg;
    const emb_model_info *info = emb_model_get_info(model);
    emb_workspace *ws = NULL;
    emb_error e = {0};
    float *v = malloc(info->dim * sizeof *v);
    emb_status st = v == NULL ? EMB_ENOMEM : emb_workspace_new(model, &ws, &e);
    while (st == EMB_OK && srv_now_ns() < end_ns) {
        emb_image *im = NULL;
        uint64_t start = srv_now_ns();
        st = emb_image_decode(photo, photo_n, NULL, info->decode_side, &im, NULL, &e);
        if (st == EMB_OK) st = emb_embed(model, ws, emb_image_view(im), NULL, v, &e);
        emb_image_free(im);
        if (st == EMB_OK) sample(start);
    }
    if (st != EMB_OK) failed(v == NULL ? "no memory" : e.text);
    emb_workspace_free(ws);
    free(v);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *) a, y = *(const float *) b;
    return (x > y) - (x < y);
}

static int report(const char *what, const char *unit, uint64_t n_threads, double took)
{
    uint32_t n = n_samples < MAX_SAMPLES ? n_samples : MAX_SAMPLES;
    qsort(samples, n, sizeof *samples, by_value);
    double p50 = n > 0 ? (double) samples[n / 2] : 0, p99 = n > 0 ? (double) samples[(size_t) ((double) n * 0.99)] : 0, rate = n_samples / took;
    if (as_json)
        printf("{\"bench\":\"%s\",\"%s\":%llu,\"seconds\":%.2f,\"done\":%u,\"failed\":%u,\"rate\":%.1f,\"p50_ms\":%.2f,\"p99_ms\":%.2f}\n", what, unit,
               (unsigned long long) n_threads, took, n_samples, failures, rate, p50, p99);
    else
        printf("%s: %.1f/s with %llu %s, p50 %.2f ms, p99 %.2f ms, %u done, %u failed\n", what, rate, (unsigned long long) n_threads, unit, p50,
               p99, n_samples, failures);
    if (why[0] != '\0') fprintf(stderr, "likeness: bench: %s\n", why);
    return failures == 0 && n > 0 ? 0 : 1;
}

static int measure(const char *what, const char *unit, void *(*loop)(void *), uint64_t n)
{
    pthread_t t[MAX_CLIENTS];
    uint64_t started = 0, start = srv_now_ns();
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    if (samples == NULL) return 1;
    end_ns = start + (seconds > 0 ? seconds : 10) * 1000000000u;
    while (started < n && pthread_create(&t[started], NULL, loop, NULL) == 0) started++;
    for (uint64_t i = 0; i < started; i++) pthread_join(t[i], NULL);
    int rc = report(what, unit, started, (double) (srv_now_ns() - start) / 1e9);
    free(samples);
    return rc;
}

static int run(const char *what)
{
    emb_error e = {0};
    if (strcmp(what, "search") == 0) {
        char *name = srv_percent_encode(catalogue);
        srv_client_global();
        int rc = name != NULL && asprintf(&path, "/v1/catalogues/%s/search", name) >= 0
                     ? measure("search", "connections", search_loop, connections) : 1;
        free(name);
        free(path);
        return rc;
    }
    emb_status st = srv_model_open(&how, &model, &e);
    if (st != EMB_OK) fprintf(stderr, "likeness: bench: %s\n", e.text);
    int rc = st == EMB_OK ? measure("embed", "threads", embed_loop, threads) : 1;
    emb_model_close(model);
    return rc;
}

static int run_model(const char *file)
{
    char err[400] = "";
    steps.seconds = seconds > 0 ? seconds : 2;
    steps.json = as_json;
    if (file != NULL) how.path = file;
    if (srv_bench_model(&how, &steps, err)) return 0;
    fprintf(stderr, "likeness: bench: %s\n", err);
    return 1;
}

int srv_cmd_bench(int argc, char **argv)
{
    srv_opts table = {"likeness bench search PHOTO [OPTIONS]\n       likeness bench recall [OPTIONS]\n       likeness bench embed PHOTO [OPTIONS]\n"
                      "       likeness bench model [FILE.onnx] [--layers] [--worst] [OPTIONS]",
                      "search  sends the photo again and again to a server: searches a second, median and 99th percentile\n"
                      "recall  asks a server for items like some of its own, as always and exactly: how many of the exact answer were\n"
                      "        found, and the time of both; the server's ef_search is as its own audits have set it\n"
                      "embed   decodes and embeds it in this process, without a server: what a search costs at least\n"
                      "model   the built-in model or another without photos: what this machine can do, and what every step makes of it", opts,
                      sizeof opts / sizeof *opts, false};
    char **args = calloc((size_t) argc, sizeof *args), err[320];
    int n = 0, rc = 2;
    threads = srv_cpus();
    catalogue = srv_default_catalogue();
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    bool photos = n == 2 && (strcmp(args[0], "search") == 0 || strcmp(args[0], "embed") == 0);
    if (what == SRV_OPTS_HELP) rc = 0;
    else if (what == SRV_OPTS_GO && n >= 1 && n <= 2 && strcmp(args[0], "model") == 0) rc = run_model(n == 2 ? args[1] : NULL);
    else if (what == SRV_OPTS_GO && n == 1 && strcmp(args[0], "recall") == 0) {
        recall.url = url;
        recall.key_file = key_file;
        recall.catalogue = catalogue;
        recall.as_json = as_json;
        rc = srv_bench_recall(&recall);
    } else if (what == SRV_OPTS_GO && !photos) fputs("likeness: bench: say search PHOTO, recall, embed PHOTO or model [FILE.onnx] (see likeness bench --help)\n", stderr);
    else if (what == SRV_OPTS_GO && !srv_file_read(args[1], 256u << 20, &photo, &photo_n, err)) fprintf(stderr, "likeness: bench: %s\n", err);
    else if (what == SRV_OPTS_GO) rc = run(args[0]);
    free(photo);
    free(args);
    return rc;
}
