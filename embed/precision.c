/* precision.c: what a model is computed with. `auto` takes the fastest arithmetic of this processor whose embeddings of a few
 * pictures stay close to those of float32. A pixel's rounding says more than a picture's subject about what an arithmetic does to a
 * model, so the pictures are made here: like photos they have power at all scales (1/f noise), flat areas and hard edges, and every
 * machine that starts the model sees the same ones. */
#include "precision.h"
#include "error.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CLOSE_ENOUGH 0.999 /* cosine to float32's embedding, of each picture */

enum { PICTURES = 4, SIDE = 192 };

static const char *const names[] = {"auto", "fp32", "fp16", "bf16", "int8"};

const char *emb_precision_name(emb_precision p) { return names[p]; }

/* ---- pictures --------------------------------------------------------------------------------------- */

static uint32_t next(uint32_t *s) /* xorshift32: Marsaglia, Xorshift RNGs, 2003 */
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    return *s ^= *s << 5;
}

/* Adds a grid of random values, `cell` pixels wide, between which it is linear: one octave of the noise. */
static void add_octave(float *px, uint32_t cell, float weight, uint32_t *seed)
{
    enum { MOST = SIDE / 2 + 2 };
    static _Thread_local float grid[MOST][MOST];
    const uint32_t n = SIDE / cell + 2;
    for (uint32_t y = 0; y < n; y++)
        for (uint32_t x = 0; x < n; x++) grid[y][x] = (float)(next(seed) >> 8) * 0x1p-24f - 0.5f;
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++) {
            const float fx = (float)(x % cell) / (float)cell, fy = (float)(y % cell) / (float)cell;
            const float *up = grid[y / cell] + x / cell, *low = grid[y / cell + 1] + x / cell;
            const float a = up[0] + (up[1] - up[0]) * fx, b = low[0] + (low[1] - low[0]) * fx;
            px[(y * SIDE + x) * 3] += weight * (a + (b - a) * fy);
        }
}

/* An ellipse or a rectangle of one colour with little of the noise. */
static void add_shape(float *px, uint32_t *seed)
{
    const bool round = next(seed) & 1;
    const float cx = (float)(next(seed) % SIDE), cy = (float)(next(seed) % SIDE);
    const float rx = (float)(8 + next(seed) % (SIDE / 3)), ry = (float)(8 + next(seed) % (SIDE / 3));
    float colour[3];
    for (uint32_t c = 0; c < 3; c++) colour[c] = (float)(next(seed) >> 8) * 0x1p-24f - 0.5f;
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++) {
            const float dx = ((float)x - cx) / rx, dy = ((float)y - cy) / ry;
            if (round ? dx * dx + dy * dy > 1 : fabsf(dx) > 1 || fabsf(dy) > 1) continue;
            for (uint32_t c = 0; c < 3; c++) px[(y * SIDE + x) * 3 + c] = colour[c] + 0.2f * px[(y * SIDE + x) * 3 + c];
        }
}

static void make_picture(uint32_t number, float *f, uint8_t *px)
{
    uint32_t seed = 2654435769u * (number + 1);
    memset(f, 0, (size_t)SIDE * SIDE * 3 * sizeof *f);
    for (uint32_t c = 0; c < 3; c++)
        for (uint32_t cell = SIDE / 2; cell >= 2; cell /= 2) add_octave(f + c, cell, (float)cell / SIDE + 0.04f, &seed);
    for (uint32_t i = 0; i < 3 * number; i++) add_shape(f, &seed);
    for (size_t i = 0; i < (size_t)SIDE * SIDE * 3; i++) px[i] = (uint8_t)fminf(fmaxf(128 + 220 * f[i], 0), 255);
}

/* ---- trials ----------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct {
    uint8_t *pictures;   /* PICTURES of SIDE x SIDE x 3 */
    float *want, *got;   /* embeddings: PICTURES of dim */
    double exact, brief; /* seconds of the fastest picture, with float32 and with the candidate */
} trial;

static emb_status embed_all(const emb_model *m, const uint8_t *pictures, float *out, double *best, emb_error *err)
{
    emb_workspace *ws = NULL;
    emb_status st = emb_workspace_new(m, &ws, err);
    *best = INFINITY;
    for (uint32_t i = 0; st == EMB_OK && i < PICTURES; i++) {
        const double from = seconds();
        st = emb_embed(m, ws, (emb_view){.px = pictures + (size_t)i * SIDE * SIDE * 3, .width = SIDE, .height = SIDE, .stride_bytes = SIDE * 3},
                       NULL, out + (size_t)i * m->info.dim, err);
        *best = fmin(*best, seconds() - from);
    }
    emb_workspace_free(ws);
    return st;
}

static float lowest_cosine(const trial *t, uint32_t dim)
{
    double low = 1;
    for (uint32_t i = 0; i < PICTURES; i++) {
        double dot = 0;
        for (uint32_t d = 0; d < dim; d++) dot += (double)t->want[i * dim + d] * (double)t->got[i * dim + d];
        low = fmin(low, dot);
    }
    return (float)low;
}

static emb_status replan(emb_model *m, const emb_kernels *k, emb_error *err)
{
    emb_plan_free(m->plan);
    m->plan = NULL;
    return emb_plan_new(m->graph, k, (emb_plan_options){0}, &m->plan, err);
}

/* Leaves the plan of the first candidate that is close enough and no slower, or float32's. A model that float32 makes nothing usable
 * of stays as it is: whoever embeds with it will hear so. */
static emb_status try_all(emb_model *m, trial *t, emb_error *err)
{
    const struct {
        const emb_kernels *k;
        emb_precision p;
    } candidates[] = {{emb_kernels_bf16_get(), EMB_PRECISION_BF16}, {emb_kernels_f16_get(), EMB_PRECISION_F16}};
    for (uint32_t i = 0; i < PICTURES; i++)
        make_picture(i, (float *)(void *)(t->pictures + (size_t)PICTURES * SIDE * SIDE * 3), t->pictures + (size_t)i * SIDE * SIDE * 3);
    if (embed_all(m, t->pictures, t->want, &t->exact, NULL) != EMB_OK) return EMB_OK;
    emb_status st = EMB_OK;
    for (size_t i = 0; st == EMB_OK && i < sizeof candidates / sizeof *candidates; i++) {
        if (candidates[i].k == NULL) continue;
        st = replan(m, candidates[i].k, err);
        if (st != EMB_OK || embed_all(m, t->pictures, t->got, &t->brief, NULL) != EMB_OK) continue;
        const float cosine = lowest_cosine(t, m->info.dim);
        if (cosine < (float)CLOSE_ENOUGH || t->brief > t->exact) continue;
        m->info.precision = candidates[i].p;
        m->info.precision_cosine = cosine;
        return EMB_OK;
    }
    return st == EMB_OK ? replan(m, emb_kernels_get(), err) : st;
}

static emb_status choose(emb_model *m, emb_error *err)
{
    const size_t px = (size_t)SIDE * SIDE * 3, floats = (size_t)PICTURES * m->info.dim;
    trial t = {malloc(PICTURES * px + px * sizeof(float)), malloc(floats * sizeof(float)), malloc(floats * sizeof(float)), 0, 0};
    emb_status st = t.pictures == NULL || t.want == NULL || t.got == NULL ? emb_fail(err, EMB_ENOMEM, "no memory to try a model's arithmetic")
                                                                          : try_all(m, &t, err);
    free(t.pictures);
    free(t.want);
    free(t.got);
    return st;
}

static bool has_candidates(const emb_model *m, emb_precision asked)
{
    return asked == EMB_PRECISION_AUTO && m->info.precision == EMB_PRECISION_F32 && (emb_kernels_bf16_get() != NULL || emb_kernels_f16_get() != NULL);
}

emb_status emb_precision_plan(emb_model *m, emb_precision p, emb_error *err)
{
    const bool quantised = emb_graph_quantised(m->graph);
    const emb_kernels *k = p == EMB_PRECISION_F16 ? emb_kernels_f16_get() : p == EMB_PRECISION_BF16 ? emb_kernels_bf16_get() : emb_kernels_get();
    if (p == EMB_PRECISION_INT8 && !quantised)
        return emb_fail(err, EMB_EUNSUPPORTED, "precision int8 needs a model with 8-bit weights: likeness model quantize makes one of this");
    if (k == NULL)
        return emb_fail(err, EMB_EUNSUPPORTED, "precision %s needs a processor with %s; auto takes the fastest that this one has", names[p],
                        p == EMB_PRECISION_BF16 ? "AMX" : "AVX512-FP16 or, on arm64, FEAT_FP16");
    m->info.precision = p != EMB_PRECISION_AUTO ? p : quantised ? EMB_PRECISION_INT8 : EMB_PRECISION_F32;
    m->info.precision_cosine = 1;
    const emb_plan_options o = {.quantised = m->info.precision == EMB_PRECISION_INT8, .last = !has_candidates(m, p)};
    return emb_plan_new(m->graph, k, o, &m->plan, err);
}

emb_status emb_precision_settle(emb_model *m, emb_precision asked, emb_error *err)
{
    return has_candidates(m, asked) ? choose(m, err) : EMB_OK;
}
