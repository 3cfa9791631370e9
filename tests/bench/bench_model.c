/* bench_model.c: runs of a model alone, without pictures.
 *   bench_model FILE.onnx|- THREADS SECONDS              one JSON line: runs a second, and the fastest run
 *   bench_model FILE.onnx|- --asked                      the same for every line "THREADS SECONDS" that comes on stdin
 *   bench_model FILE.onnx|- --first                      one run: seconds since the start of main, and memory
 *   bench_model FILE.onnx|- --check IN.f32 OUT.f32       one run of the plan: IN holds 1 x 3 x H x W floats
 *   bench_model FILE.onnx|- --embed LIST OUT.f32         embeddings of the photos that LIST names, a path a line
 * "-" is the built-in model. BENCH_PRECISION is fp32, fp16, bf16 or int8 (auto). All but --embed run the whole graph. */
#include "../../server/environment.h"
#include "../../embed/model.h"
#include "../file.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static emb_model *model;
static pthread_barrier_t ready, set;
static uint64_t end_ns;
static _Atomic uint64_t done, best_ns, last_ns;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench_model: %s: %s\n", what, why);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static emb_workspace *workspace(void)
{
    emb_workspace *ws = NULL;
    emb_error e = {0};
    if (emb_workspace_new(model, &ws, &e) != EMB_OK) fail("workspace", e.text);
    return ws;
}

static const float *run(emb_workspace *ws)
{
    const float *out = NULL;
    emb_error e = {0};
    if (emb_workspace_run(model, ws, NULL, &out, &e) != EMB_OK) fail("run", e.text);
    return out;
}

static float *picture(void)
{
    size_t n = (size_t) model->plan->in_h * model->plan->in_w * 3;
    float *p = malloc(n * sizeof *p);
    if (p == NULL) fail("picture", "no memory");
    for (size_t i = 0; i < n; i++) p[i] = (float) (i % 17) / 17.0f - 0.5f;
    return p;
}

static void lower(_Atomic uint64_t *to, uint64_t x)
{
    uint64_t was = *to;
    while (x < was && !atomic_compare_exchange_weak(to, &was, x)) {}
}

static void raise_to(_Atomic uint64_t *to, uint64_t x)
{
    uint64_t was = *to;
    while (x > was && !atomic_compare_exchange_weak(to, &was, x)) {}
}

/* The input is written anew for every run, in the time that is measured: its place in the arena serves other steps, too. What is not
 * measured: the workspace, and one run that brings its pages and the weights back. */
static void *loop(void *arg)
{
    (void) arg;
    emb_workspace *ws = workspace();
    float *from = picture(), *in = emb_workspace_input(model, ws);
    size_t bytes = (size_t) model->plan->in_h * model->plan->in_w * 3 * sizeof *in;
    memcpy(in, from, bytes);
    (void) run(ws);
    pthread_barrier_wait(&ready);
    pthread_barrier_wait(&set);
    uint64_t t0, t1 = now_ns();
    do { /* once at least */
        t0 = t1;
        memcpy(in, from, bytes);
        (void) run(ws);
        t1 = now_ns();
        atomic_fetch_add(&done, 1);
        lower(&best_ns, t1 - t0);
    } while (t1 < end_ns);
    raise_to(&last_ns, t1);
    free(from);
    emb_workspace_free(ws);
    return NULL;
}

static int check(const char *in_path, const char *out_path)
{
    size_t hw = (size_t) model->plan->in_h * model->plan->in_w;
    float *x = malloc(hw * 3 * sizeof *x);
    FILE *f = fopen(in_path, "rb");
    if (x == NULL || f == NULL || fread(x, sizeof *x, hw * 3, f) != hw * 3) fail(in_path, "does not hold 3 x H x W floats");
    fclose(f);
    emb_workspace *ws = workspace();
    float *in = emb_workspace_input(model, ws);
    for (size_t i = 0; i < hw; i++)
        for (size_t c = 0; c < 3; c++) in[3 * i + c] = x[c * hw + i];
    const float *out = run(ws);
    f = fopen(out_path, "wb");
    if (f == NULL || fwrite(out, sizeof *out, model->info.dim, f) != model->info.dim || fclose(f) != 0) fail(out_path, "cannot write");
    emb_workspace_free(ws);
    free(x);
    return 0;
}

/* A line of /proc/self/status in KiB. */
static long memory(const char *name)
{
    char line[128];
    long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0) kib = atol(line + strlen(name) + 1);
    if (f != NULL) fclose(f);
    return kib;
}

static int first(uint64_t start, long before)
{
    uint64_t loaded = now_ns();
    emb_workspace *ws = workspace();
    float *in = emb_workspace_input(model, ws);
    for (size_t i = 0; i < (size_t) model->plan->in_h * model->plan->in_w * 3; i++) in[i] = (float) (i % 17) / 17.0f - 0.5f;
    (void) run(ws);
    uint64_t end = now_ns();
    printf("{\"load_s\":%.5f,\"first_s\":%.5f,\"peak_kib\":%ld,\"grown_kib\":%ld}\n", (double) (loaded - start) / 1e9, (double) (end - start) / 1e9,
           memory("VmHWM"), memory("VmHWM") - before);
    emb_workspace_free(ws);
    return 0;
}

static emb_image *photo(const char *path)
{
    size_t n = 0;
    emb_image *im = NULL;
    emb_error e = {.text = "cannot be read"};
    void *bytes = test_file(path, &n);
    if (bytes == NULL || emb_image_decode(bytes, n, NULL, model->info.decode_side, &im, NULL, &e) != EMB_OK)
        fail(path, e.text);
    free(bytes);
    return im;
}

static int embed(const char *list_path, const char *out_path)
{
    char path[4096];
    FILE *list = fopen(list_path, "r"), *out = fopen(out_path, "wb");
    emb_workspace *ws = workspace();
    float *v = malloc(model->info.dim * sizeof *v);
    emb_error e = {0};
    if (list == NULL || out == NULL || v == NULL) fail(list == NULL ? list_path : out_path, "cannot open");
    while (fgets(path, sizeof path, list) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        emb_image *im = photo(path);
        if (emb_embed(model, ws, emb_image_view(im), NULL, v, &e) != EMB_OK) fail(path, e.text);
        if (fwrite(v, sizeof *v, model->info.dim, out) != model->info.dim) fail(out_path, "cannot write");
        emb_image_free(im);
    }
    fclose(list);
    if (fclose(out) != 0) fail(out_path, "cannot write");
    emb_workspace_free(ws);
    free(v);
    return 0;
}

static void measure(int threads, double seconds)
{
    pthread_t t[256];
    if (threads < 1 || threads > 256) fail("threads", "1..256");
    done = last_ns = 0;
    best_ns = UINT64_MAX;
    pthread_barrier_init(&ready, NULL, (unsigned) threads + 1);
    pthread_barrier_init(&set, NULL, (unsigned) threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, loop, NULL) != 0) fail("thread", "cannot start");
    pthread_barrier_wait(&ready);
    uint64_t start = now_ns();
    end_ns = start + (uint64_t) (seconds * 1e9);
    pthread_barrier_wait(&set);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    pthread_barrier_destroy(&ready);
    pthread_barrier_destroy(&set);
    double took = (double) (last_ns - start) / 1e9;
    printf("{\"threads\":%d,\"rate\":%.3f,\"best_ms\":%.4f,\"kernels\":\"%s\",\"int8\":\"%s\",\"blas_core\":\"%s\"}\n", threads, (double) done / took,
           (double) best_ns / 1e6, model->plan->k->name, model->plan->q8->name, emb_blas_core());
    fflush(stdout);
}

static emb_precision precision_of(const char *name)
{
    for (emb_precision p = EMB_PRECISION_AUTO; name != NULL && p <= EMB_PRECISION_INT8; p++)
        if (strcmp(name, emb_precision_name(p)) == 0) return p;
    return EMB_PRECISION_AUTO;
}

int main(int argc, char **argv)
{
    srv_settle_environment(argv);
    uint64_t start = now_ns();
    long before = memory("VmHWM");
    if (argc < 3) fail("usage", "bench_model FILE.onnx|- THREADS SECONDS | --asked | --first | --check IN OUT | --embed LIST OUT");
    emb_error e = {0};
    const char *precision = getenv("BENCH_PRECISION"), *what = argv[2];
    emb_model_options o = {precision_of(precision), strcmp(what, "--embed") == 0 ? NULL : "-"};
    emb_status st = emb_model_open_with(strcmp(argv[1], "-") == 0 ? NULL : argv[1], &o, &model, &e);
    if (st != EMB_OK) fail(argv[1], e.text);
    int threads, rc = 0;
    double seconds;
    char line[64];
    if (strcmp(what, "--first") == 0) rc = first(start, before);
    else if (strcmp(what, "--check") == 0) rc = argc > 4 ? check(argv[3], argv[4]) : 1;
    else if (strcmp(what, "--embed") == 0) rc = argc > 4 ? embed(argv[3], argv[4]) : 1;
    else if (strcmp(what, "--asked") != 0) measure(atoi(what), argc > 3 ? atof(argv[3]) : 1);
    else while (fgets(line, sizeof line, stdin) != NULL && sscanf(line, "%d %lf", &threads, &seconds) == 2) measure(threads, seconds);
    emb_model_close(model);
    return rc;
}
