/* bench_model.c: runs of a model alone, without pictures.
 *   bench_model FILE.onnx|- THREADS SECONDS              one JSON line: runs a second, and the fastest run
 *   bench_model FILE.onnx|- --check IN.f32 OUT.f32       one run of the plan: IN holds 1 x 3 x H x W floats
 * "-" is the built-in model. BENCH_PRECISION=fp16 asks for float16. */
#include "../../embed/model.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static emb_model *model;
static uint64_t end_ns;
static _Atomic uint64_t done, best_ns = UINT64_MAX;

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

static void *loop(void *arg)
{
    (void) arg;
    emb_workspace *ws = workspace();
    float *in = emb_workspace_input(model, ws);
    for (size_t i = 0; i < (size_t) model->plan->in_h * model->plan->in_w * 3; i++) in[i] = (float) (i % 17) / 17.0f - 0.5f;
    (void) run(ws);
    for (uint64_t t0 = now_ns(), t1; t0 < end_ns; t0 = t1) {
        (void) run(ws);
        t1 = now_ns();
        atomic_fetch_add(&done, 1);
        uint64_t best = best_ns;
        while (t1 - t0 < best && !atomic_compare_exchange_weak(&best_ns, &best, t1 - t0)) {}
    }
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

static void settle(char **argv)
{
    const char *core = emb_cpu_blas_coretype();
    if (getenv("OMP_NUM_THREADS") != NULL) return;
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("OPENBLAS_NUM_THREADS", "1", 1);
    if (core != NULL) setenv("OPENBLAS_CORETYPE", core, 0);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    settle(argv);
    if (argc < 4) fail("usage", "bench_model FILE.onnx|- THREADS SECONDS | --check IN OUT");
    emb_error e = {0};
    uint64_t load = now_ns();
    const char *precision = getenv("BENCH_PRECISION");
    emb_model_options o = {precision != NULL && strcmp(precision, "fp16") == 0 ? EMB_PRECISION_F16 : precision != NULL && strcmp(precision, "bf16") == 0 ? EMB_PRECISION_BF16 : EMB_PRECISION_F32, "-"};
    emb_status st = emb_model_open_with(strcmp(argv[1], "-") == 0 ? NULL : argv[1], &o, &model, &e);
    if (st != EMB_OK) fail(argv[1], e.text);
    if (strcmp(argv[2], "--check") == 0) return argc > 4 ? check(argv[3], argv[4]) : 1;
    double load_s = (double) (now_ns() - load) / 1e9;
    int threads = atoi(argv[2]);
    if (threads < 1 || threads > 256) fail("threads", "1..256");
    pthread_t t[256];
    uint64_t start = now_ns();
    end_ns = start + (uint64_t) (atof(argv[3]) * 1e9);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, loop, NULL) != 0) fail("thread", "cannot start");
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    double took = (double) (now_ns() - start) / 1e9;
    printf("{\"threads\":%d,\"rate\":%.3f,\"best_ms\":%.4f,\"load_s\":%.4f,\"kernels\":\"%s\",\"blas_core\":\"%s\"}\n", threads, (double) done / took,
           (double) best_ns / 1e6, load_s,
           model->plan->k->name, emb_blas_core());
    emb_model_close(model);
    return 0;
}
