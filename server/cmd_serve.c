/* cmd_serve.c: `likeness serve`: settings, start, signals, end. */
#include "commands.h"
#include "cpus.h"
#include "datadir.h"
#include "http.h"
#include "log.h"

#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static srv_settings set = {
    .listen = "127.0.0.1:8080",
    .data = "likeness-data",
    .log_level = "info",
    .http_threads = 2,
    .max_queue = 64,
    .max_connections = 1024,
    .max_queue_age = 2000,
    .request_timeout = 10000,
    .header_timeout = 15000,
    .body_timeout = 30000,
    .idle_timeout = 75000,
    .drain_timeout = 8000,
    .max_body_memory = 512u << 20,
    .max_pixels = 24000000,
    .max_side = 32768,
    .max_image_bytes = 20u << 20,
    .max_body_bytes = 64u << 20,
    .max_line_bytes = 32u << 20,
    .max_lines = 1000000,
    .segment_images = 10000,
    .ef_search = 64,
    .recall_target = 0.98,
    .ef_construction = 100,
    .hnsw_m = 16,
    .disk_floor = 256u << 20,
    .rendition_side = 320,
    .rendition_quality = 80,
};

static const srv_opt opts[] = {
    {"listen", "HOST:PORT", SRV_OPT_TEXT, &set.listen, 0, 0, "address to listen on; port 0 = any free one (127.0.0.1:8080)"},
    {"data", "DIR", SRV_OPT_TEXT, &set.data, 0, 0, "data folder, made when missing (./likeness-data)"},
    SRV_MODEL_FILE(set.model, ""), SRV_MODEL_OUTPUT(set.model, ""), SRV_MODEL_PRECISION(set.model, ""),
    {"no-keys", NULL, SRV_OPT_FLAG, &set.no_keys, 0, 0, "answer everybody; only where nobody else can connect"},
    {"admin-key-file", "FILE", SRV_OPT_TEXT, &set.admin_key_file, 0, 0, "its first line is the admin key (a key made at the first start)"},
    {"cors-origin", "ORIGIN", SRV_OPT_LIST, &set.cors_origin, 0, 0, "browser origin that may call the API, or *; may repeat (none)"},
    {"log-level", "LEVEL", SRV_OPT_TEXT, &set.log_level, 0, 0, "info, warn or error (info)"},
    {"threads", "N", SRV_OPT_COUNT, &set.threads, 1, 1024, "compute threads (one for each processor)"},
    {"http-threads", "N", SRV_OPT_COUNT, &set.http_threads, 1, 64, "threads that read and write sockets (2)"},
    {"max-connections", "N", SRV_OPT_COUNT, &set.max_connections, 8, 65536, "open connections (1024)"},
    {"max-queue", "N", SRV_OPT_COUNT, &set.max_queue, 1, 65536, "requests that wait for a compute thread; more get 503 (64)"},
    {"max-queue-age", "MS", SRV_OPT_MILLIS, &set.max_queue_age, 1, 600000, "a request that waited longer gets 503 (2s)"},
    {"request-timeout", "MS", SRV_OPT_MILLIS, &set.request_timeout, 10, 600000, "for the work on one request (10s)"},
    {"header-timeout", "MS", SRV_OPT_MILLIS, &set.header_timeout, 10, 600000, "for all headers of a request (15s)"},
    {"body-timeout", "MS", SRV_OPT_MILLIS, &set.body_timeout, 10, 3600000, "for a body, plus its size at 64 kB/s (30s)"},
    {"idle-timeout", "MS", SRV_OPT_MILLIS, &set.idle_timeout, 10, 3600000, "of a connection between requests (75s)"},
    {"drain-timeout", "MS", SRV_OPT_MILLIS, &set.drain_timeout, 0, 3600000, "at SIGTERM, for the requests that run (8s)"},
    {"max-body-memory", "BYTES", SRV_OPT_BYTES, &set.max_body_memory, 1 << 20, 0, "of all bodies together; batches take half of it at most (512M)"},
    {"max-body-bytes", "BYTES", SRV_OPT_BYTES, &set.max_body_bytes, 1024, 1u << 30, "of one request; items:batch is a stream (64M)"},
    {"max-image-bytes", "BYTES", SRV_OPT_BYTES, &set.max_image_bytes, 1024, 1u << 30, "of one photo (20M)"},
    {"max-pixels", "N", SRV_OPT_COUNT, &set.max_pixels, 1, 1000000000, "of one photo, width x height (24000000)"},
    {"max-side", "N", SRV_OPT_COUNT, &set.max_side, 1, 65535, "of one photo, width or height (32768)"},
    {"max-line-bytes", "BYTES", SRV_OPT_BYTES, &set.max_line_bytes, 1024, 1u << 30, "of one line of items:batch (32M)"},
    {"max-lines", "N", SRV_OPT_COUNT, &set.max_lines, 1, 100000000, "of one items:batch (1000000)"},
    {"segment-images", "N", SRV_OPT_COUNT, &set.segment_images, 16, 100000000, "images searched exactly before a graph is built (10000)"},
    {"hnsw-m", "N", SRV_OPT_COUNT, &set.hnsw_m, 4, 128, "neighbours of a node of the graph (16)"},
    {"ef-construction", "N", SRV_OPT_COUNT, &set.ef_construction, 8, 2000, "candidates while building the graph (100)"},
    {"ef-search", "N", SRV_OPT_COUNT, &set.ef_search, 8, 10000, "candidates while searching, at the start: see recall-target (64)"},
    {"recall-target", "R", SRV_OPT_REAL, &set.recall_target, 0, 0, "some searches are made again exactly; ef-search rises and falls to hold this recall@10 (0.98; 0 = off)"},
    {"disk-floor", "BYTES", SRV_OPT_BYTES, &set.disk_floor, 1, 0, "free space below which writes are refused (256M)"},
    {"rendition-side", "PIXELS", SRV_OPT_COUNT, &set.rendition_side, 16, 4096, "long side of the kept picture (320)"},
    {"rendition-quality", "N", SRV_OPT_COUNT, &set.rendition_quality, 1, 100, "its JPEG quality (80)"},
};

static bool check_settings(void)
{
    const char *why = NULL;
    if (set.no_keys && set.admin_key_file != NULL) why = "no-keys and admin-key-file exclude each other";
    if (set.max_line_bytes < set.max_image_bytes) why = "max-line-bytes must not be smaller than max-image-bytes";
    if (set.recall_target < 0 || set.recall_target > 0.9999) why = "recall-target is a recall of 0 to 0.9999";
    if (set.max_body_memory / 2 < set.max_line_bytes) why = "max-body-memory must be at least twice max-line-bytes";
    if (set.max_body_memory < set.max_body_bytes) why = "max-body-memory must not be smaller than max-body-bytes";
    if (strcmp(set.log_level, "info") == 0) srv_log_set_level(SRV_LOG_INFO);
    else if (strcmp(set.log_level, "warn") == 0) srv_log_set_level(SRV_LOG_WARN);
    else if (strcmp(set.log_level, "error") == 0) srv_log_set_level(SRV_LOG_ERROR);
    else why = "log-level is one of info, warn, error";
    if (why != NULL) fprintf(stderr, "likeness: serve: %s\n", why);
    return why == NULL;
}

/* Keys are in memory and photos pass through: no core files, no ptrace by others of the same user. */
static void harden(void)
{
    struct rlimit none = {0, 0};
    (void) setrlimit(RLIMIT_CORE, &none);
    (void) prctl(PR_SET_DUMPABLE, 0);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        (void) setrlimit(RLIMIT_NOFILE, &files);
    }
    umask(027);
    (void) signal(SIGXFSZ, SIG_IGN); // a limit of file size fails the write, and the index says so
}

/* The key is printed once, on stdout, and never logged. */
static bool open_keys(srv_service *s, char err[320])
{
    if (set.no_keys) return true;
    if (set.admin_key_file == NULL && !srv_key_exists(set.data)) {
        char key[SRV_KEY_TEXT];
        if (!srv_key_create(set.data, key, err)) return false;
        printf("admin key: %s\nKeep it: it is not shown again, and only its hash is stored. A new one: likeness key create\n", key);
        explicit_bzero(key, sizeof key);
    }
    s->keys = srv_keys_open(set.data, set.admin_key_file, err);
    return s->keys != NULL;
}

static void log_ready(const srv_service *s)
{
    const emb_model_info *m = emb_model_get_info(s->model);
    srv_log_line l;
    srv_log_begin(&l, SRV_LOG_INFO, "ready");
    srv_log_text(&l, "version", LK_VERSION);
    srv_log_text(&l, "model", m->name);
    srv_log_text(&l, "fingerprint", m->fingerprint);
    srv_log_text(&l, "precision", emb_precision_name(m->precision));
    srv_log_text(&l, "kernels", emb_cpu_kernels());
    srv_log_text(&l, "blas_core", emb_blas_core());
    srv_log_int(&l, "threads", (int64_t) set.threads);
    srv_log_ms(&l, "start_ms", s->ready_ns - s->start_ns);
    srv_log_end(&l);
}

typedef struct {
    srv_service *s;
    const sigset_t *signals;
    int got;
    pthread_t thread;
} signal_wait;

/* A thread of its own, for the loading of a large index takes minutes. Until the server is ready it has promised nobody
 * anything, and what is on disk is whole at every moment: it may simply end. */
static void *wait_for_signal(void *arg)
{
    signal_wait *w = arg;
    while (sigwait(w->signals, &w->got) != 0) continue;
    srv_log(SRV_LOG_INFO, "stopping: %s", w->got == SIGINT ? "SIGINT" : "SIGTERM");
    if (atomic_load(&w->s->state) == SRV_STARTING) _exit(0);
    return NULL;
}

static int run(srv_service *s, const sigset_t *signals)
{
    char err[320] = "";
    signal_wait w = {.s = s, .signals = signals};
    int rc = pthread_create(&w.thread, NULL, wait_for_signal, &w);
    srv_http *http = NULL;
    if (rc != 0) snprintf(err, sizeof err, "cannot start a thread: %s", strerror(rc));
    else http = srv_http_start(s, err);
    if (http == NULL || !srv_service_open(s, err)) {
        srv_log(SRV_LOG_ERROR, "%s", err);
        if (http != NULL) srv_http_stop(http);
        srv_service_close(s);
        if (rc == 0) {
            pthread_cancel(w.thread);
            pthread_join(w.thread, NULL);
        }
        return 1;
    }
    s->ready_ns = srv_now_ns();
    atomic_store(&s->state, SRV_READY);
    printf("listening on http://%s\n", srv_http_address(http));
    fflush(stdout);
    log_ready(s);
    if (s->keys == NULL) srv_log(SRV_LOG_WARN, "no-keys: everybody who can connect may read and change everything");
    pthread_join(w.thread, NULL);
    atomic_store(&s->state, SRV_DRAINING);
    srv_http_stop(http);
    srv_service_close(s);
    srv_log(SRV_LOG_INFO, "stopped");
    return 0;
}

int srv_cmd_serve(int argc, char **argv)
{
    char **args = calloc((size_t) argc, sizeof *args), err[320];
    int n_args = 0;
    set.threads = srv_cpus();
    srv_opts table = {"likeness serve [OPTIONS]",
                      "Answers HTTP on one address until SIGTERM. Sizes take K, M, G; times are milliseconds or take s, m, h.", opts,
                      sizeof opts / sizeof *opts, true};
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n_args) : SRV_OPTS_WRONG;
    if (what == SRV_OPTS_GO && n_args > 0) {
        fprintf(stderr, "likeness: serve: unexpected argument \"%s\"\n", args[0]);
        what = SRV_OPTS_WRONG;
    }
    free(args);
    if (what != SRV_OPTS_GO) return what == SRV_OPTS_HELP ? 0 : 2;
    if (!check_settings()) return 2;
    harden();
    sigset_t signals; // blocked before any thread exists, so that only sigwait sees them
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    json_object_seed(0); // jansson's seed is not made by two threads at once
    srv_service s = {.set = &set, .start_ns = srv_now_ns()};
    int lock = srv_datadir_lock(set.data, err);
    if (lock < 0 || !open_keys(&s, err)) {
        fprintf(stderr, "likeness: serve: %s\n", err);
        if (lock >= 0) close(lock);
        return 1;
    }
    int rc = run(&s, &signals);
    srv_keys_free(s.keys);
    close(lock);
    return rc;
}
