/* nn_ref.c: the scalar definition of every kernel, and what runs where no vector unit is known. */
#include "kernels.h"

#include <math.h>
#include <stdbool.h>

static float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }

enum { MR = 4, NR = 8 };

static void tile(const emb_tile *t, uint32_t m)
{
    for (uint32_t i = 0; i < m; i++) {
        float acc[NR];
        float *c = t->c + i * t->ldc;
        for (uint32_t j = 0; j < NR; j++) acc[j] = !t->resume ? t->bias[j] : j < t->n ? c[j] : 0;
        for (uint32_t tap = 0; tap < t->taps; tap++) {
            const float *a = t->a[tap * m + i] + t->x0, *b = t->b + (size_t)tap * t->k * NR;
            for (uint32_t x = 0; x < t->k; x++)
                for (uint32_t j = 0; j < NR; j++) acc[j] += a[x] * b[x * NR + j];
        }
        for (uint32_t j = 0; j < t->n; j++) {
            float v = acc[j] + (!t->more && t->residual != NULL ? t->residual[i * t->ldc + j] : 0);
            c[j] = t->more ? v : clamp(v, t->lo, t->hi);
        }
    }
}

static void winograd_in(const float *const *px, uint32_t channels, float *v, size_t plane)
{
    static const float bt[6][6] = {{4, 0, -5, 0, 1, 0},  {0, -4, -4, 1, 1, 0}, {0, 4, -4, -1, 1, 0},
                                   {0, -2, -1, 2, 1, 0}, {0, 2, -1, -2, 1, 0}, {0, 4, 0, -5, 0, 1}};
    for (uint32_t c = 0; c < channels; c++) {
        float t[6][6] = {{0}}; /* B^T d */
        for (int i = 0; i < 36; i++)
            for (int k = 0; k < 6; k++) t[i / 6][i % 6] += bt[i / 6][k] * px[k * 6 + i % 6][c];
        for (int i = 0; i < 36; i++) {
            float sum = 0;
            for (int k = 0; k < 6; k++) sum += t[i / 6][k] * bt[i % 6][k];
            v[(size_t)i * plane + c] = sum;
        }
    }
}

static void winograd_out(const float *m, size_t plane, uint32_t channels, const emb_patch *to)
{
    static const float at[4][6] = {{1, 1, 1, 1, 1, 0}, {0, 1, -1, 2, -2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, -1, 8, -8, 1}};
    for (uint32_t c = 0; c < channels; c++) {
        float t[4][6] = {{0}}; /* A^T m */
        for (int i = 0; i < 24; i++)
            for (int k = 0; k < 6; k++) t[i / 6][i % 6] += at[i / 6][k] * m[(size_t)(k * 6 + i % 6) * plane + c];
        for (uint32_t y = 0; y < to->rows; y++)
            for (uint32_t x = 0; x < to->columns; x++) {
                size_t o = y * to->row + x * to->pixel + c;
                float sum = to->bias[c] + (to->residual != NULL ? to->residual[o] : 0);
                for (int k = 0; k < 6; k++) sum += t[y][k] * at[x][k];
                to->out[o] = clamp(sum, to->lo, to->hi);
            }
    }
}

static void depthwise(const emb_depthwise *d)
{
    for (uint32_t p = 0; p < d->pixels; p++)
        for (uint32_t c = 0; c < d->channels; c++) {
            float sum = d->bias[c];
            for (uint32_t ky = 0; ky < d->kh; ky++)
                for (uint32_t kx = 0; kx < d->kw; kx++)
                    sum += d->x[ky * d->x_row + p * d->x_pixel + kx * d->x_tap + c] * d->w[ky * d->w_row + kx * (size_t)d->channels + c];
            d->out[(size_t)p * d->channels + c] = clamp(sum, d->lo, d->hi);
        }
}

static void max_pool(const float *const *a, uint32_t taps, uint32_t channels, float *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        float best = a[0][c];
        for (uint32_t t = 1; t < taps; t++) best = a[t][c] > best ? a[t][c] : best;
        out[c] = best;
    }
}

static void sum_pool(const float *const *a, uint32_t taps, float scale, uint32_t channels, float *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        float sum = 0;
        for (uint32_t t = 0; t < taps; t++) sum += a[t][c];
        out[c] = sum * scale;
    }
}

static void global_mean(const float *x, size_t pixels, uint32_t channels, float *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        float sum = 0;
        for (size_t p = 0; p < pixels; p++) sum += x[p * channels + c];
        out[c] = sum / (float)pixels;
    }
}

static void add(const float *a, const float *b, size_t n, float *out, float lo, float hi)
{
    for (size_t i = 0; i < n; i++) out[i] = clamp(a[i] + b[i], lo, hi);
}

static void mul(const float *a, const float *b, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = a[i] * b[i];
}

static void affine(const float *x, size_t pixels, uint32_t channels, const float *scale, const float *shift, float *out,
                   float lo, float hi)
{
    for (size_t p = 0; p < pixels; p++)
        for (uint32_t c = 0; c < channels; c++)
            out[p * channels + c] = clamp(x[p * channels + c] * scale[c] + (shift != NULL ? shift[c] : 0), lo, hi);
}

static void act(float *x, size_t n, emb_act kind, float a, float b)
{
    for (size_t i = 0; i < n; i++) {
        float v = x[i];
        switch (kind) {
        case EMB_ACT_NONE: break;
        case EMB_ACT_SIGMOID: v = 1 / (1 + expf(-v)); break;
        case EMB_ACT_SWISH: v = v / (1 + expf(-v)); break;
        case EMB_ACT_HSWISH: v = v * clamp(v / 6 + 0.5f, 0, 1); break;
        case EMB_ACT_HSIGMOID: v = clamp(a * v + b, 0, 1); break;
        case EMB_ACT_GELU: v = 0.5f * v * (1 + erff(v * 0.70710678f)); break;
        }
        x[i] = v;
    }
}

const emb_kernels emb_kernels_ref = {"ref", MR, NR, tile, winograd_in, winograd_out, depthwise, max_pool, sum_pool,
                                     global_mean, add, mul, affine, act};
