/* cmd_embed.c: `likeness embed`: image files -> rows of raw float32, in the order of the files, on every processor. The
 * photo goes the same way as in the server, so that rows can be compared with what it stores. */
#include "commands.h"
#include "cpus.h"
#include "embed.h"
#include "files.h"
#include "model_opts.h"
#include "progress.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_THREADS = 1024, MAX_PHOTO = 256 << 20 };

static srv_model_opts how;
static const char *out_path, *list_path;
static uint64_t threads;
static bool skip_bad, quiet;

static const srv_opt opts[] = {
    {"out", "FILE.f32", SRV_OPT_TEXT, &out_path, 0, 0, "where the rows go; - is stdout"},
    {"list", "FILE", SRV_OPT_TEXT, &list_path, 0, 0, "one path a line, in addition to the arguments; - is stdin"},
    SRV_MODEL_FILE(how, ""), SRV_MODEL_OUTPUT(how, ""), SRV_MODEL_PRECISION(how, ""),
    {"threads", "N", SRV_OPT_COUNT, &threads, 1, MAX_THREADS, "threads (one for each processor)"},
    {"skip-bad", NULL, SRV_OPT_FLAG, &skip_bad, 0, 0, "go on after a bad image: its row is zeros"},
    {"quiet", NULL, SRV_OPT_FLAG, &quiet, 0, 0, "no progress"},
};

typedef struct {
    emb_model *model;
    const emb_model_info *info;
    const char **paths;
    size_t n, room;
    FILE *out;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t moved;
    size_t next, written; /* rows are written in order: a thread waits for its turn */
    _Atomic bool stop;
    char why[400];
    _Atomic uint64_t done, bad;
} work;

static bool add_path(work *w, const char *path)
{
    if (w->n == w->room) {
        size_t room = 2 * w->room + 64;
        const char **grown = realloc(w->paths, room * sizeof *grown);
        if (grown == NULL) return false;
        w->paths = grown;
        w->room = room;
    }
    w->paths[w->n++] = path;
    return true;
}

/* The list's text stays in memory: the paths point into it. */
static bool read_list(work *w, char **text, char err[320])
{
    size_t n = 0;
    if (!srv_file_read(list_path, 1 << 30, (uint8_t **) text, &n, err)) return false;
    char *rest = NULL;
    for (char *line = strtok_r(*text, "\r\n", &rest); line != NULL; line = strtok_r(NULL, "\r\n", &rest))
        if (!add_path(w, line)) return false;
    return true;
}

static bool embed_one(work *w, emb_workspace *ws, const char *path, float *row, char why[400])
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    char err[320];
    emb_error e = {0};
    emb_image *im = NULL;
    if (!srv_file_read(path, MAX_PHOTO, &bytes, &n, err)) {
        snprintf(why, 400, "%s", err);
        return false;
    }
    emb_status st = emb_image_decode(bytes, n, NULL, w->info->decode_side, &im, NULL, &e);
    if (st == EMB_OK) st = emb_embed(w->model, ws, emb_image_view(im), NULL, row, &e);
    emb_image_free(im);
    free(bytes);
    if (st != EMB_OK) snprintf(why, 400, "%.150s: %.240s", path, e.text);
    return st == EMB_OK;
}

static void stop(work *w, const char *why)
{
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    if (w->why[0] == '\0') snprintf(w->why, sizeof w->why, "%s", why);
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
}

static bool write_row(work *w, size_t i, const float *row)
{
    pthread_mutex_lock(&w->lock);
    while (w->written != i && !w->stop) pthread_cond_wait(&w->moved, &w->lock);
    bool ok = !w->stop;
    if (ok && fwrite(row, sizeof *row, w->info->dim, w->out) != w->info->dim) {
        ok = false;
        w->stop = true;
        snprintf(w->why, sizeof w->why, "cannot write %.200s: %s", out_path, strerror(errno));
    }
    if (ok) w->written++;
    pthread_cond_broadcast(&w->moved);
    pthread_mutex_unlock(&w->lock);
    return ok;
}

static bool take(work *w, size_t *i)
{
    pthread_mutex_lock(&w->lock);
    bool go = !w->stop && w->next < w->n;
    *i = w->next;
    w->next += go;
    pthread_mutex_unlock(&w->lock);
    return go;
}

static void *loop(void *arg)
{
    work *w = arg;
    emb_workspace *ws = NULL;
    emb_error e = {0};
    char why[400];
    float *row = malloc(w->info->dim * sizeof *row);
    if (row == NULL || emb_workspace_new(w->model, &ws, &e) != EMB_OK) stop(w, row == NULL ? "no memory" : e.text);
    for (size_t i; ws != NULL && take(w, &i);) {
        bool good = embed_one(w, ws, w->paths[i], row, why);
        if (!good) {
            w->bad++;
            memset(row, 0, w->info->dim * sizeof *row);
            if (skip_bad) fprintf(stderr, "likeness: embed: %s\n", why);
            else stop(w, why);
        }
        if (!write_row(w, i, row)) break;
        w->done++;
    }
    emb_workspace_free(ws);
    free(row);
    return NULL;
}

static void run_threads(work *w)
{
    pthread_t t[MAX_THREADS];
    uint64_t started = 0;
    srv_progress p;
    srv_progress_start(&p, w->n, quiet);
    if (threads > w->n) threads = w->n;
    while (started < threads && pthread_create(&t[started], NULL, loop, w) == 0) started++;
    if (started == 0) stop(w, "cannot start a thread");
    while (w->done < w->n && !w->stop) {
        usleep(20000);
        srv_progress_show(&p, w->done, w->bad, false);
    }
    for (uint64_t i = 0; i < started; i++) pthread_join(t[i], NULL);
    srv_progress_show(&p, w->done, w->bad, true);
    double s = srv_progress_seconds(&p);
    if (!quiet)
        fprintf(stderr, "%llu rows of %u float32 in %.1f s (%.0f images/s), model %s\n", (unsigned long long) w->done, w->info->dim, s,
                s > 0 ? (double) w->done / s : 0, w->info->name);
}

static bool open_all(work *w, char err[400])
{
    emb_error e = {0};
    emb_status st = srv_model_open(&how, &w->model, &e);
    if (st != EMB_OK) {
        snprintf(err, 400, "%s", e.text);
        return false;
    }
    w->info = emb_model_get_info(w->model);
    w->out = strcmp(out_path, "-") == 0 ? stdout : fopen(out_path, "wbe");
    if (w->out == NULL) snprintf(err, 400, "cannot write %.200s: %s", out_path, strerror(errno));
    return w->out != NULL;
}

int srv_cmd_embed(int argc, char **argv)
{
    srv_opts table = {"likeness embed --out FILE.f32 IMAGE... | --list FILE [OPTIONS]",
                      "Writes one row of float32 (little endian, L2 norm 1) for each image, in order. No server is needed.", opts,
                      sizeof opts / sizeof *opts, false};
    work w = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    char **args = calloc((size_t) argc, sizeof *args), *list = NULL, err[400] = "no memory";
    int n = 0, rc = 1;
    threads = srv_cpus();
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    bool ok = what == SRV_OPTS_GO;
    for (int i = 0; ok && i < n; i++) ok = add_path(&w, args[i]);
    if (what != SRV_OPTS_GO) {
        rc = what == SRV_OPTS_HELP ? 0 : 2;
    } else if (out_path == NULL || (n == 0 && list_path == NULL)) {
        fputs("likeness: embed: give --out FILE and images, or --list FILE (see likeness embed --help)\n", stderr);
        rc = 2;
    } else if (!ok || (list_path != NULL && !read_list(&w, &list, err)) || !open_all(&w, err)) {
        fprintf(stderr, "likeness: embed: %s\n", err);
    } else {
        run_threads(&w);
        if (w.out != stdout ? fclose(w.out) != 0 : fflush(w.out) != 0) stop(&w, strerror(errno));
        if (w.why[0] != '\0') fprintf(stderr, "likeness: embed: %s\n", w.why);
        rc = w.why[0] != '\0' || w.bad > 0;
    }
    emb_model_close(w.model);
    free(w.paths);
    free(list);
    free(args);
    return rc;
}
