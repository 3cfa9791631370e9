/* cmd_import.c: `likeness import`: a source of records, some connections that send them in batches, a file of what was
 * refused. Every write is a PUT, so that sending a batch twice after a lost answer does no harm. */
#include "client_opts.h"
#include "commands.h"
#include "import_batch.h"
#include "progress.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_PARALLEL = 64, MAX_WAIT_S = 30 };

static const char *url, *key_file, *catalogue, *rejects_path = "likeness-rejects.ndjson";
static uint64_t parallel = 3, retries = 8;
static bool force, strings, quiet;

static const srv_opt opts[] = {
    SRV_OPT_URL(url),
    SRV_OPT_KEY_FILE(key_file),
    SRV_OPT_CATALOGUE(catalogue),
    {"parallel", "N", SRV_OPT_COUNT, &parallel, 1, MAX_PARALLEL, "connections (3)"},
    {"force", NULL, SRV_OPT_FLAG, &force, 0, 0, "send items that have not changed, too"},
    {"strings", NULL, SRV_OPT_FLAG, &strings, 0, 0, "CSV: keep every cell a text"},
    {"rejects", "FILE", SRV_OPT_TEXT, &rejects_path, 0, 0, "where refused records go (likeness-rejects.ndjson)"},
    {"retries", "N", SRV_OPT_COUNT, &retries, 0, 1000, "of a batch while the server is busy or away (8)"},
    {"quiet", NULL, SRV_OPT_FLAG, &quiet, 0, 0, "no progress"},
};

typedef struct {
    srv_source source;
    srv_known *known;
    pthread_mutex_t lock; /* of what follows */
    size_t next;
    FILE *rejects;
    char fatal[320]; /* why everything stops; "" = nothing */
    _Atomic uint64_t done, written, unchanged, failed, running;
} import;

static _Atomic int interrupted; /* lock-free, so that a signal handler may set it */

static void on_interrupt(int sig)
{
    (void) sig;
    interrupted = 1;
}

static void stop_all(import *im, const char *why)
{
    pthread_mutex_lock(&im->lock);
    if (im->fatal[0] == '\0') snprintf(im->fatal, sizeof im->fatal, "%s", why);
    pthread_mutex_unlock(&im->lock);
}

static bool stopped(import *im)
{
    pthread_mutex_lock(&im->lock);
    bool stop = interrupted || im->fatal[0] != '\0';
    pthread_mutex_unlock(&im->lock);
    return stop;
}

/* ---- what is refused ---------------------------------------------------------------------------- */

/* A reject is itself a record of `likeness import FILE.ndjson`: mend the cause, import the file. */
static json_t *reject_line(const srv_record *r, const char *code, const char *detail)
{
    json_t *images = json_array();
    for (size_t i = 0; i < r->n_images; i++) {
        char *full = realpath(r->images[i], NULL);
        json_array_append_new(images, json_string(full != NULL ? full : r->images[i]));
        free(full);
    }
    return json_pack("{s:s*, s:O, s:o, s:{s:s, s:s*, s:i}}", "id", r->id, "attributes", r->attributes, "images", images, "error", "code", code,
                     "detail", detail, "line", (int) r->line);
}

static void reject(import *im, const srv_record *r, const char *code, const char *detail)
{
    im->failed++;
    im->done++;
    pthread_mutex_lock(&im->lock);
    if (im->rejects == NULL && (im->rejects = fopen(rejects_path, "we")) == NULL) {
        snprintf(im->fatal, sizeof im->fatal, "cannot write %.200s: %s", rejects_path, strerror(errno));
    } else {
        json_t *o = reject_line(r, code, detail);
        if (o != NULL) json_dumpf(o, im->rejects, JSON_COMPACT);
        else fprintf(im->rejects, "{\"error\":{\"code\":\"%s\",\"detail\":\"not valid UTF-8\",\"line\":%u}}", code, r->line);
        fputc('\n', im->rejects);
        json_decref(o);
    }
    pthread_mutex_unlock(&im->lock);
}

/* ---- sending ------------------------------------------------------------------------------------ */

typedef struct {
    import *im;
    srv_record *again[SRV_BATCH_LINES]; /* the server was too busy for these */
    uint32_t n_again;
} answers;

static void seen(void *ctx, srv_record *r, int status, const char *code, const char *detail)
{
    answers *a = ctx;
    if (status == 503) {
        a->again[a->n_again++] = r;
    } else if (code != NULL || status >= 400 || status < 200) {
        reject(a->im, r, code != NULL ? code : "unknown", detail != NULL ? detail : "");
    } else {
        a->im->written++;
        a->im->done++;
    }
}

static void wait_a_little(import *im, uint64_t attempt, uint32_t retry_after_s)
{
    uint64_t ms = retry_after_s > 0 ? retry_after_s * 1000u : 250u << (attempt < 7 ? attempt : 7);
    if (ms > MAX_WAIT_S * 1000u) ms = MAX_WAIT_S * 1000u;
    for (uint64_t waited = 0; waited < ms && !stopped(im); waited += 50) usleep(50000);
}

/* Posts until the server has taken the batch as a whole; false: everything stops. */
static bool post(import *im, srv_client *c, const char *path, const srv_batch *b, srv_answer *out)
{
    char why[320];
    for (uint64_t attempt = 0;; attempt++) {
        bool answered = srv_client_send(c, "POST", path, "application/x-ndjson", b->body, b->n, out, why);
        if (answered && out->status == 200) return true;
        uint32_t wait = answered ? out->retry_after_s : 0;
        bool try_again = !answered || out->status == 503 || out->status == 429 || out->status == 502 || out->status == 504;
        if (answered) srv_answer_describe(out, why, sizeof why);
        srv_answer_fini(out);
        if (!try_again || attempt >= retries) {
            stop_all(im, why);
            return false;
        }
        wait_a_little(im, attempt, wait);
        if (stopped(im)) return false;
    }
}

/* One batch to its end; lines that found the server too busy are sent again. */
static bool send_batch(import *im, srv_client *c, const char *path, srv_batch *b)
{
    char why[320];
    for (uint64_t attempt = 0; b->lines > 0; attempt++) {
        answers got = {.im = im};
        srv_answer a;
        if (!post(im, c, path, b, &a)) return false;
        bool whole = srv_batch_answers(b, a.body != NULL ? a.body : "", a.n, seen, &got);
        srv_answer_fini(&a);
        if (!whole) stop_all(im, "the server's answer does not fit the batch");
        if (!whole || (got.n_again > 0 && attempt >= retries)) {
            if (whole) stop_all(im, "the server stays too busy");
            return false;
        }
        srv_batch_clear(b);
        for (uint32_t i = 0; i < got.n_again; i++)
            if (srv_batch_add(b, got.again[i], NULL, why) != SRV_BATCHED) reject(im, got.again[i], "unreadable", why);
        if (b->lines > 0) wait_a_little(im, attempt, 0);
    }
    return true;
}

static srv_record *next_record(import *im)
{
    pthread_mutex_lock(&im->lock);
    srv_record *r = im->next < im->source.n && !interrupted && im->fatal[0] == '\0' ? &im->source.records[im->next++] : NULL;
    pthread_mutex_unlock(&im->lock);
    return r;
}

static void take_record(import *im, srv_batch *b, srv_record *r)
{
    char why[320];
    if (r->bad != NULL) {
        reject(im, r, "record_invalid", r->bad);
        return;
    }
    srv_batch_result what = srv_batch_add(b, r, im->known, why);
    if (what == SRV_UNREADABLE) reject(im, r, "unreadable", why);
    if (what != SRV_UNCHANGED) return;
    im->unchanged++;
    im->done++;
}

static void *sender(void *arg)
{
    import *im = arg;
    char err[320], *path = NULL, *name = srv_percent_encode(catalogue);
    srv_client *c = srv_client_new(url, key_file, err);
    srv_batch b = {0};
    bool ok = c != NULL && name != NULL && asprintf(&path, "/v1/catalogues/%s/items:batch", name) >= 0;
    if (!ok) stop_all(im, c == NULL ? err : "no memory");
    else srv_client_timeout(c, 600);
    while (ok) {
        srv_record *r = next_record(im);
        if (r != NULL) take_record(im, &b, r);
        if (r == NULL || srv_batch_is_full(&b)) ok = send_batch(im, c, path, &b); // leaves b empty
        if (r == NULL) break;
    }
    srv_batch_fini(&b);
    srv_client_free(c);
    free(path);
    free(name);
    im->running--;
    return NULL;
}

/* ---- the command -------------------------------------------------------------------------------- */

static void find_doubles(import *im)
{
    srv_names *names = srv_names_new(im->source.n);
    for (size_t i = 0; names != NULL && i < im->source.n; i++) {
        srv_record *r = &im->source.records[i];
        if (r->bad == NULL && !srv_names_add(names, r->id)) srv_record_bad(r, "the id is there twice; the first one is sent");
    }
    srv_names_free(names);
}

/* Makes the catalogue when it is missing, and learns what it holds. */
static bool look_at_server(import *im, char err[320])
{
    char *name = srv_percent_encode(catalogue), *path = NULL;
    srv_client *c = srv_client_new(url, key_file, err);
    srv_answer a = {0};
    bool ok = c != NULL && name != NULL && asprintf(&path, "/v1/catalogues/%s", name) >= 0 &&
              srv_client_send(c, "PUT", path, "application/json", "{}", 2, &a, err);
    if (ok && a.status != 200 && a.status != 201) {
        srv_answer_describe(&a, err, 320);
        ok = false;
    }
    if (ok && !force) ok = (im->known = srv_known_load(c, catalogue, err)) != NULL;
    srv_answer_fini(&a);
    srv_client_free(c);
    free(path);
    free(name);
    return ok;
}

static void send_all(import *im, srv_progress *p)
{
    pthread_t threads[MAX_PARALLEL];
    uint64_t started = 0;
    srv_progress_start(p, im->source.n, quiet);
    im->running = parallel;
    while (started < parallel && pthread_create(&threads[started], NULL, sender, im) == 0) started++;
    im->running -= parallel - started;
    if (started == 0) stop_all(im, "cannot start a thread");
    while (im->running > 0) {
        usleep(20000);
        srv_progress_show(p, im->done, im->failed, false);
    }
    for (uint64_t i = 0; i < started; i++) pthread_join(threads[i], NULL);
    srv_progress_show(p, im->done, im->failed, true);
}

static int summary(import *im, const srv_progress *p)
{
    double s = srv_progress_seconds(p);
    uint64_t left = im->source.n - im->done;
    printf("%llu written, %llu unchanged, %llu refused in %.1f s (%.0f items/s)\n", (unsigned long long) im->written,
           (unsigned long long) im->unchanged, (unsigned long long) im->failed, s, s > 0 ? (double) im->written / s : 0);
    if (im->rejects != NULL && fclose(im->rejects) == 0)
        fprintf(stderr, "likeness: import: what was refused is in %s, with the reasons; it can be imported once they are mended\n", rejects_path);
    if (im->fatal[0] != '\0') fprintf(stderr, "likeness: import: %s\n", im->fatal);
    if (left > 0)
        fprintf(stderr, "likeness: import: stopped with %llu of %zu records not sent; run it again to go on\n", (unsigned long long) left, im->source.n);
    return im->failed > 0 || left > 0 || im->fatal[0] != '\0';
}

static int run(const char *path)
{
    import im = {.lock = PTHREAD_MUTEX_INITIALIZER};
    srv_progress p;
    char err[320];
    int rc = 1;
    srv_client_global();
    json_object_seed(0);
    if (!srv_source_read(path, strings, &im.source, err) || !look_at_server(&im, err)) {
        fprintf(stderr, "likeness: import: %s\n", err);
    } else if (im.source.n == 0) {
        fprintf(stderr, "likeness: import: %s holds no photos or records\n", path);
    } else {
        struct sigaction sa = {.sa_handler = on_interrupt, .sa_flags = (int) SA_RESETHAND}; // a second Ctrl-C ends at once
        sigaction(SIGINT, &sa, NULL);
        sigaction(SIGTERM, &sa, NULL);
        find_doubles(&im);
        send_all(&im, &p);
        rc = summary(&im, &p);
    }
    srv_known_free(im.known);
    srv_source_fini(&im.source);
    return rc;
}

int srv_cmd_import(int argc, char **argv)
{
    srv_opts table = {
        "likeness import DIR|FILE.csv|FILE.ndjson|- [OPTIONS]",
        "DIR     every .jpg, .png and .webp below it: the path without its ending is the item's id\n"
        "CSV     a header row with id and image (or images, separated by |); other columns become attributes\n"
        "NDJSON  {\"id\":\"a\",\"attributes\":{...},\"images\":[\"a.jpg\"]} a line; - reads it from stdin\n"
        "Paths are relative to the file. Items that the server holds unchanged are not sent again: to go on after a\n"
        "stop, or to send the day's changes, run the same command.",
        opts, sizeof opts / sizeof *opts, false};
    char **args = calloc((size_t) argc, sizeof *args);
    int n = 0;
    catalogue = srv_default_catalogue();
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    const char *path = n == 1 ? args[0] : NULL;
    free(args);
    if (what != SRV_OPTS_GO) return what == SRV_OPTS_HELP ? 0 : 2;
    if (path == NULL) {
        fputs("likeness: import: give one folder or file (see likeness import --help)\n", stderr);
        return 2;
    }
    return run(path);
}
