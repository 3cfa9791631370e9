/* pixels_ref.c: the definition of what is done to pixels, and the choice of a variant. */
#include "pixels.h"
#include "../cpu.h"

static uint8_t clip(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

static void dct_ref(const emb_dct *t, const int16_t coef[64], uint32_t rows, uint8_t *out, size_t stride)
{
    int32_t mid[16][8];
    const uint32_t pairs_y = (rows + 1) / 2 < t->pairs_y ? (rows + 1) / 2 : t->pairs_y;
    for (uint32_t y = 0; y < t->h; y++)
        for (uint32_t x = 0; x < 2 * t->pairs_x; x++) {
            int32_t sum = 1 << (EMB_DCT_BITS - EMB_DCT_KEEP - 1);
            for (uint32_t p = 0; p < pairs_y; p++)
                sum += t->col[y][p][0] * coef[16 * p + x] + t->col[y][p][1] * coef[16 * p + 8 + x];
            sum >>= EMB_DCT_BITS - EMB_DCT_KEEP;
            mid[y][x] = sum < INT16_MIN ? INT16_MIN : sum > INT16_MAX ? INT16_MAX : sum;
        }
    for (uint32_t y = 0; y < t->h; y++)
        for (uint32_t x = 0; x < t->w; x++) {
            int32_t sum = 1 << (EMB_DCT_BITS + EMB_DCT_KEEP - 1);
            for (uint32_t p = 0; p < t->pairs_x; p++)
                sum += t->row[p][x][0] * mid[y][2 * p] + t->row[p][x][1] * mid[y][2 * p + 1];
            out[y * stride + x] = clip((sum >> (EMB_DCT_BITS + EMB_DCT_KEEP)) + 128);
        }
}

static int32_t part(int32_t v, int32_t k) { return (v * k + (1 << 14)) >> 15; }

static void ycc_ref(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *rgb)
{
    for (size_t i = 0; i < n; i++) {
        int32_t l = y[i] * 32 + 16, a = (cb[i] - 128) * 32, b = (cr[i] - 128) * 32;
        rgb[3 * i] = clip((l + b + part(b, 13173)) >> 5);
        rgb[3 * i + 1] = clip((l - part(a, 11277) - b + part(b, 9367)) >> 5);
        rgb[3 * i + 2] = clip((l + 2 * a - part(a, 7471)) >> 5);
    }
}

static void resample_col_ref(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
        for (uint32_t t = 0; t < taps; t++) sum += rows[t][i] * weight[t];
        out[i] = clip(sum >> EMB_RESAMPLE_BITS);
    }
}

static void spread_ref(const uint8_t *rgb, size_t pixels, int16_t *out)
{
    for (size_t i = 0; i < (pixels + 3) / 4 * 4; i++)
        for (size_t c = 0; c < 4; c++) out[i / 4 * 16 + c * 4 + i % 4] = c < 3 ? rgb[3 * i + c] : 0;
}

static void resample_row_ref(const int16_t *spread, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    for (uint32_t o = 0; o < out_w; o++)
        for (uint32_t c = 0; c < 3; c++) {
            const int16_t *p = spread + (size_t)axis->first[o] * 4 + c * 4, *k = axis->weight + (size_t)o * axis->taps;
            int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
            for (uint32_t t = 0; t < axis->taps; t++) sum += p[t / 4 * 16 + t % 4] * k[t];
            out[o * 3 + c] = clip(sum >> EMB_RESAMPLE_BITS);
        }
}

static void normalise_ref(const uint8_t *rgb, size_t pixels, const float mean[3], const float scale[3], float *out)
{
    for (size_t i = 0; i < pixels; i++)
        for (size_t c = 0; c < 3; c++) out[3 * i + c] = ((float)rgb[3 * i + c] - mean[c]) * scale[c];
}

const emb_pixels emb_pixels_ref = {"ref", dct_ref, ycc_ref, resample_col_ref, spread_ref, resample_row_ref, normalise_ref};

const emb_pixels *emb_pixels_get(void)
{
    uint32_t f = emb_cpu_features();
#if defined(__x86_64__)
    if (f & EMB_CPU_AVX2) return &emb_pixels_avx2;
#elif defined(__aarch64__)
    if (f & EMB_CPU_NEON) return &emb_pixels_neon;
#endif
    (void)f;
    return &emb_pixels_ref;
}
