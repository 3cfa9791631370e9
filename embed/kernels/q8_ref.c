/* q8_ref.c: the scalar definition of the quantised kernels, to the bit, and how their weights are packed. */
#include "q8.h"

#include <math.h>
#include <string.h>

enum { MR = 4, NR = 8, LANES = 16 };

static float clamp(float v, float lo, float hi) { return v < lo ? lo : v > hi ? hi : v; }
static uint8_t rounded(float v, float lo, float hi) { return (uint8_t)lrintf(clamp(v, lo, hi)); }

static float activation(float v, emb_act kind, float a, float b)
{
    emb_kernels_ref.act(&v, 1, kind, a, b);
    return v;
}

static void finish(const emb_tile *t, uint32_t i, uint32_t j, int32_t sum)
{
    float v = fmaf((float)sum, t->scale[j], t->bias[j]);
    if (t->residual != NULL) v = fmaf(((const uint8_t *)t->residual)[i * t->ldc + j], t->residual_scale, v);
    if (t->act != EMB_ACT_NONE) v = fmaf(activation(v, t->act, t->act_a, t->act_b), t->y_scale, t->y_zero);
    if (t->wide) ((float *)t->c)[i * t->ldc + j] = t->act != EMB_ACT_NONE ? v : clamp(v, t->lo, t->hi);
    else ((uint8_t *)t->c)[i * t->ldc + j] = t->act != EMB_ACT_NONE ? rounded(v, 0, 255) : rounded(v, t->lo, t->hi);
}

static void tile(const emb_tile *t, uint32_t m)
{
    uint32_t rows = (t->k + 3) / 4;
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < t->n; j++) {
            int32_t *at = (int32_t *)t->sum + i * t->lds + j, sum = t->resume ? *at : 0;
            for (uint32_t tap = 0; tap < t->taps; tap++) {
                const uint8_t *a = (const uint8_t *)t->a[tap * m + i] + t->x0;
                const int8_t *b = (const int8_t *)t->b + (size_t)tap * rows * NR * 4;
                for (uint32_t x = 0; x < t->k; x++) sum += a[x] * b[(x / 4 * NR + j) * 4 + x % 4];
            }
            if (t->more) *at = sum;
            else finish(t, i, j, sum);
        }
}

static void depthwise(const emb_q8_depthwise *d)
{
    uint32_t fours = (d->kh + 3) / 4;
    for (uint32_t p = 0; p < d->pixels; p++)
        for (uint32_t c = 0; c < d->channels; c++) {
            const int8_t *w = d->w + (size_t)(c / LANES) * d->kw * fours * LANES * 4 + c % LANES * 4;
            int32_t sum = 0;
            for (uint32_t kx = 0; kx < d->kw; kx++)
                for (uint32_t ky = 0; ky < d->kh; ky++) {
                    int32_t x = (int32_t)p * d->stride - d->left + (int32_t)kx * d->dilation;
                    int32_t v = x >= 0 && x < d->width ? d->rows[ky][(size_t)x * d->channels + c] : d->zero;
                    sum += v * w[(size_t)(kx * fours + ky / 4) * LANES * 4 + ky % 4];
                }
            float v = fmaf((float)sum, d->scale[c], d->bias[c]);
            bool act = d->act != EMB_ACT_NONE;
            if (act) v = fmaf(activation(v, d->act, d->act_a, d->act_b), d->y_scale, d->y_zero);
            d->out[(size_t)p * d->channels + c] = rounded(v, act ? 0 : d->lo, act ? 255 : d->hi);
        }
}

static void lookup(const uint8_t *x, size_t n, const uint8_t table[256], uint8_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = table[x[i]];
}

static void max_pool(const void *const *a, uint32_t taps, uint32_t channels, void *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        uint8_t best = ((const uint8_t *)a[0])[c];
        for (uint32_t t = 1; t < taps; t++) best = ((const uint8_t *)a[t])[c] > best ? ((const uint8_t *)a[t])[c] : best;
        ((uint8_t *)out)[c] = best;
    }
}

static void sum_pool(const void *const *a, uint32_t taps, uint32_t channels, float scale, float shift, void *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (uint32_t t = 0; t < taps; t++) sum += ((const uint8_t *)a[t])[c];
        ((uint8_t *)out)[c] = rounded(fmaf((float)sum, scale, shift), 0, 255);
    }
}

static void global_sum(const uint8_t *x, size_t pixels, uint32_t channels, float scale, float shift, float *out)
{
    for (uint32_t c = 0; c < channels; c++) {
        int32_t sum = 0;
        for (size_t p = 0; p < pixels; p++) sum += x[p * channels + c];
        out[c] = fmaf((float)sum, scale, shift);
    }
}

static void add(const uint8_t *a, const uint8_t *b, size_t n, const float by[5], uint8_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = rounded(fmaf(a[i], by[0], fmaf(b[i], by[1], by[2])), by[3], by[4]);
}

static void gate(const uint8_t *x, size_t pixels, uint32_t channels, const float *factor, const float *shift, uint8_t *out)
{
    for (size_t p = 0; p < pixels; p++)
        for (uint32_t c = 0; c < channels; c++) out[p * channels + c] = rounded(fmaf(x[p * channels + c], factor[c], shift[c]), 0, 255);
}

static void quantize(const float *x, size_t n, float scale, float zero, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = rounded(fmaf(x[i], scale, zero), 0, 255);
}

static void dequantize(const uint8_t *x, size_t n, float scale, float shift, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = fmaf(x[i], scale, shift);
}

const emb_kernels_q8 emb_q8_ref = {"ref-q8", MR, NR, LANES, 4, true, false, false, false, NULL, NULL, tile, depthwise, lookup, max_pool, sum_pool, global_sum, add, gate, quantize, dequantize, NULL, NULL};
