/* run.c: walks the plan. No allocation, no decision that the plan could have made. */
#include "plan.h"

#include <string.h>
#include <time.h>

typedef struct {
    const emb_plan *p;
    char *arena;
    const float **ptr;
} walk;

static float *at(const walk *w, int32_t buffer) { return (float *)(void *)(w->arena + w->p->buffers[buffer].offset); }

/* The picture with its padding, so that the taps of a row are one run of floats. */
static const float *pad_input(const walk *w, const emb_step *s)
{
    size_t pw = (size_t)(s->iw + s->w.left + s->w.right), row = pw * s->ic;
    float *to = at(w, s->scratch);
    const float *x = at(w, s->in[0]);
    memset(to, 0, (size_t)s->w.top * row * sizeof *to);
    float *line = to + (size_t)s->w.top * row;
    for (uint32_t y = 0; y < s->ih; y++, line += row) {
        size_t left = (size_t)s->w.left * s->ic, mid = (size_t)s->iw * s->ic;
        memset(line, 0, left * sizeof *to);
        memcpy(line + left, x + (size_t)y * mid, mid * sizeof *to);
        memset(line + left + mid, 0, (row - left - mid) * sizeof *to);
    }
    memset(line, 0, ((size_t)s->w.bottom * row + (size_t)s->w.kw * s->ic) * sizeof *to);
    return to;
}

/* Pointers of m output pixels from `pixel` on: ptr[tap][m]. x: the channels of one group. */
static void tile_pointers(const walk *w, const emb_step *s, const float *x, uint32_t pixel, uint32_t m, const float **ptr)
{
    int64_t kh = s->w.kh, kw = s->merged ? 1 : s->w.kw;
    size_t pw = s->merged ? (size_t)(s->iw + s->w.left + s->w.right) : s->iw;
    for (uint32_t i = 0; i < m; i++) {
        int64_t oy = (pixel + i) / s->ow, ox = (pixel + i) % s->ow;
        int64_t y0 = oy * s->w.sh, x0 = ox * s->w.sw;
        if (!s->merged) y0 -= s->w.top, x0 -= s->w.left;
        for (int64_t ky = 0; ky < kh; ky++) {
            int64_t y = y0 + ky * s->w.dh;
            bool row = s->merged || (y >= 0 && y < s->ih);
            for (int64_t kx = 0; kx < kw; kx++) {
                int64_t xx = x0 + kx * s->w.dw;
                bool in = row && (s->merged || (xx >= 0 && xx < s->iw));
                ptr[(ky * kw + kx) * m + i] = in ? x + ((size_t)y * pw + (size_t)xx) * s->ic : w->p->zeros;
            }
        }
    }
}

static void run_conv(const walk *w, const emb_step *s)
{
    const emb_kernels *k = w->p->k;
    uint32_t groups = (uint32_t)s->w.group, oc = s->oc / groups, ic = s->ic / groups, mr = k->mr, nr = k->nr;
    uint32_t taps = (uint32_t)(s->merged ? s->w.kh : s->w.kh * s->w.kw), pixels = s->oh * s->ow, panels = (oc + nr - 1) / nr;
    uint32_t run = s->merged ? (uint32_t)s->w.kw * ic : ic;
    const float *x = s->merged ? pad_input(w, s) : at(w, s->in[0]);
    const float *res = s->residual >= 0 ? at(w, s->residual) : NULL;
    float *y = at(w, s->out);
    size_t panel = (size_t)taps * run * nr;
    for (uint32_t p0 = 0; p0 < pixels; p0 += EMB_TILES_AT_ONCE * mr) {
        uint32_t n = pixels - p0 < EMB_TILES_AT_ONCE * mr ? pixels - p0 : EMB_TILES_AT_ONCE * mr;
        for (uint32_t g = 0; g < groups; g++) {
            for (uint32_t i = 0; i < n; i += mr)
                tile_pointers(w, s, x + g * ic, p0 + i, n - i < mr ? n - i : mr, w->ptr + (size_t)i * taps);
            for (uint32_t q = 0; q < panels; q++) {
                size_t column = (size_t)g * oc + q * nr;
                emb_tile t = {.taps = taps, .k = run, .b = s->weights + panel * (g * panels + q),
                              .bias = s->bias + (size_t)nr * (g * panels + q), .ldc = s->oc,
                              .n = oc - q * nr < nr ? oc - q * nr : nr, .lo = s->lo, .hi = s->hi};
                for (uint32_t i = 0; i < n; i += mr) {
                    size_t c = (size_t)(p0 + i) * s->oc + column;
                    t.a = w->ptr + (size_t)i * taps;
                    t.c = y + c;
                    t.residual = res != NULL ? res + c : NULL;
                    k->tile(&t, n - i < mr ? n - i : mr);
                }
            }
        }
        if (s->act != EMB_ACT_NONE) k->act(y + (size_t)p0 * s->oc, (size_t)n * s->oc, s->act, s->act_a, s->act_b);
    }
}

/* Pointers of one output pixel: ptr[tap]; outside points to `beyond`, or is left out when that is NULL. Returns the number. */
static uint32_t window_pointers(const emb_step *s, const float *x, uint32_t oy, uint32_t ox, const float *beyond, const float **ptr)
{
    uint32_t n = 0;
    for (int64_t ky = 0; ky < s->w.kh; ky++)
        for (int64_t kx = 0; kx < s->w.kw; kx++) {
            int64_t y = oy * s->w.sh - s->w.top + ky * s->w.dh, xx = ox * s->w.sw - s->w.left + kx * s->w.dw;
            bool in = y >= 0 && y < s->ih && xx >= 0 && xx < s->iw;
            if (in) ptr[n++] = x + ((size_t)y * s->iw + (size_t)xx) * s->ic;
            else if (beyond != NULL) ptr[n++] = beyond;
        }
    return n;
}

static void run_depthwise(const walk *w, const emb_step *s)
{
    uint32_t taps = (uint32_t)(s->w.kh * s->w.kw);
    const float *x = at(w, s->in[0]), *res = s->residual >= 0 ? at(w, s->residual) : NULL;
    size_t row = (size_t)s->ow * s->oc;
    for (uint32_t oy = 0; oy < s->oh; oy++) {
        float *y = at(w, s->out) + oy * row;
        for (uint32_t ox = 0; ox < s->ow; ox++) window_pointers(s, x, oy, ox, w->p->zeros, w->ptr + (size_t)ox * taps);
        bool later = res != NULL; /* the clamp comes after the residual */
        w->p->k->depthwise(w->ptr, taps, s->weights, s->bias, s->oc, s->ow, y, later ? -__builtin_inff() : s->lo,
                           later ? __builtin_inff() : s->hi);
        if (later) w->p->k->add(y, res + oy * row, row, y, s->lo, s->hi);
        if (s->act != EMB_ACT_NONE) w->p->k->act(y, row, s->act, s->act_a, s->act_b);
    }
}

static void run_pool(const walk *w, const emb_step *s)
{
    const float *x = at(w, s->in[0]);
    float *y = at(w, s->out);
    for (uint32_t oy = 0; oy < s->oh; oy++)
        for (uint32_t ox = 0; ox < s->ow; ox++, y += s->oc) {
            uint32_t n = window_pointers(s, x, oy, ox, NULL, w->ptr);
            if (n == 0) {
                for (uint32_t c = 0; c < s->oc; c++) y[c] = s->kind == EMB_STEP_MAX_POOL ? -__builtin_inff() : 0;
                continue;
            }
            if (s->kind == EMB_STEP_MAX_POOL) {
                w->p->k->max_pool(w->ptr, n, s->oc, y);
                continue;
            }
            int64_t count = n;
            if (s->w.count_pad) { /* padding counts, what ceil_mode adds does not */
                int64_t y0 = oy * s->w.sh - s->w.top, x0 = ox * s->w.sw - s->w.left, rows = 0, cols = 0;
                for (int64_t k = 0; k < s->w.kh; k++) rows += y0 + k * s->w.dh < s->ih + s->w.bottom;
                for (int64_t k = 0; k < s->w.kw; k++) cols += x0 + k * s->w.dw < s->iw + s->w.right;
                count = rows * cols;
            }
            w->p->k->sum_pool(w->ptr, n, 1.0f / (float)count, s->oc, y);
        }
}

static void run_concat(const walk *w, const emb_step *s)
{
    size_t pixels = (size_t)s->oh * s->ow, offset = 0;
    float *y = at(w, s->out);
    for (int32_t i = 0; i < s->n_in; i++) {
        size_t c = (size_t)s->args[i].type.dims[1];
        const float *x = at(w, s->in[i]);
        for (size_t p = 0; p < pixels; p++) memcpy(y + p * s->oc + offset, x + p * c, c * sizeof *y);
        offset += c;
    }
}

static void run_transpose(const walk *w, const emb_step *s, bool to_nchw)
{
    size_t pixels = (size_t)s->ih * s->iw, c = s->ic;
    const float *x = at(w, s->in[0]);
    float *y = at(w, s->out);
    for (size_t p = 0; p < pixels; p++)
        for (size_t k = 0; k < c; k++) {
            if (to_nchw) y[k * pixels + p] = x[p * c + k];
            else y[p * c + k] = x[k * pixels + p];
        }
}

static emb_status run_general(const walk *w, const emb_step *s, emb_error *err)
{
    emb_arg args[EMB_MAX_INPUTS], outs[EMB_MAX_INPUTS];
    for (int32_t i = 0; i < s->n_in; i++) {
        args[i] = s->args[i];
        if (s->in[i] >= 0) args[i].data = at(w, s->in[i]);
    }
    emb_call c = {.node = s->node, .in = args, .out = outs, .n_in = (uint32_t)s->n_in, .n_out = s->node->n_out, .err = err};
    for (uint32_t i = 0; i < s->node->n_out; i++) outs[i] = (emb_arg){s->outs[i].type, at(w, s->out_bufs[i])};
    c.g = w->p->graph;
    return s->node->op->run(&c);
}

static emb_status run_step(const walk *w, const emb_step *s, emb_error *err)
{
    const emb_kernels *k = w->p->k;
    size_t n = (size_t)s->ow * s->oc;
    switch (s->kind) {
    case EMB_STEP_CONV: run_conv(w, s); break;
    case EMB_STEP_DEPTHWISE: run_depthwise(w, s); break;
    case EMB_STEP_MAX_POOL:
    case EMB_STEP_AVG_POOL: run_pool(w, s); break;
    case EMB_STEP_GLOBAL_MEAN: k->global_mean(at(w, s->in[0]), (size_t)s->ih * s->iw, s->ic, at(w, s->out)); break;
    case EMB_STEP_ADD: k->add(at(w, s->in[0]), at(w, s->in[1]), n, at(w, s->out), s->lo, s->hi); break;
    case EMB_STEP_MUL: k->mul(at(w, s->in[0]), at(w, s->in[1]), n, at(w, s->out)); break;
    case EMB_STEP_GATE:
        k->affine(at(w, s->in[0]), s->ow, s->oc, at(w, s->in[1]), NULL, at(w, s->out), s->lo, s->hi);
        break;
    case EMB_STEP_AFFINE:
        k->affine(at(w, s->in[0]), s->ow, s->oc, s->weights, s->bias, at(w, s->out), s->lo, s->hi);
        if (s->act != EMB_ACT_NONE) k->act(at(w, s->out), n, s->act, s->act_a, s->act_b);
        break;
    case EMB_STEP_ACT:
        memcpy(at(w, s->out), at(w, s->in[0]), n * sizeof(float));
        k->act(at(w, s->out), n, s->act, s->act_a, s->act_b);
        break;
    case EMB_STEP_CONCAT: run_concat(w, s); break;
    case EMB_STEP_TO_NCHW: run_transpose(w, s, true); break;
    case EMB_STEP_TO_NHWC: run_transpose(w, s, false); break;
    case EMB_STEP_GENERAL: return run_general(w, s, err);
    }
    return EMB_OK;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

emb_status emb_plan_run(const emb_plan *p, char *arena, const float **pointers, double *timings, emb_error *err)
{
    walk w = {p, arena, pointers};
    for (size_t i = 0; i < p->n_steps; i++) {
        double t = timings != NULL ? now() : 0;
        emb_status st = run_step(&w, &p->steps[i], err);
        if (st != EMB_OK) return st;
        if (timings != NULL) timings[i] += now() - t;
    }
    return EMB_OK;
}
