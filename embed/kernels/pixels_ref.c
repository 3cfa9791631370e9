/* pixels_ref.c: the definition of what is done to pixels, and the choice of a variant. */
#include "pixels.h"
#include "../cpu.h"

static uint8_t clip(int32_t v) { return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v); }

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

const emb_pixels emb_pixels_ref = {"ref", resample_col_ref, spread_ref, resample_row_ref, normalise_ref};

const emb_pixels *emb_pixels_get(void)
{
    uint32_t f = emb_cpu_features();
#if defined(__x86_64__)
    if ((f & EMB_CPU_AVX512) && (f & EMB_CPU_VNNI)) return &emb_pixels_avx512;
    if (f & EMB_CPU_AVX2) return &emb_pixels_avx2;
#elif defined(__aarch64__)
    if (f & EMB_CPU_NEON) return &emb_pixels_neon;
#endif
    (void)f;
    return &emb_pixels_ref;
}
