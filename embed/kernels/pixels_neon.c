/* pixels_neon.c: bit-exact NEON forms of pixels_ref.c; widening multiplications carry most of it. */
#include "pixels.h"

#include <arm_neon.h>

/* ---- inverse DCT -------------------------------------------------------------------------------- */

/* All frequencies of one row, between the passes. */
static inline int16x8_t dct_row(const emb_dct *t, const int16x8_t *coef, uint32_t y, uint32_t pairs)
{
    int32x4_t lo = vdupq_n_s32(0), hi = lo;
    for (uint32_t f = 0; f < 2 * pairs; f++) {
        const int16_t k = t->col[y][f / 2][f % 2];
        lo = vmlal_n_s16(lo, vget_low_s16(coef[f]), k);
        hi = vmlal_n_s16(hi, vget_high_s16(coef[f]), k);
    }
    return vcombine_s16(vqrshrn_n_s32(lo, EMB_DCT_BITS - EMB_DCT_KEEP), vqrshrn_n_s32(hi, EMB_DCT_BITS - EMB_DCT_KEEP));
}

/* Eight samples of a row from column x on. */
static inline uint8x8_t dct_samples(const emb_dct *t, const int16_t mid[8], uint32_t x)
{
    int32x4_t lo = vdupq_n_s32(0), hi = lo;
    for (uint32_t p = 0; p < t->pairs_x; p++) {
        const int16x8x2_t k = vld2q_s16(t->row[p][x]);
        for (int i = 0; i < 2; i++) {
            lo = vmlal_n_s16(lo, vget_low_s16(k.val[i]), mid[2 * p + (uint32_t)i]);
            hi = vmlal_n_s16(hi, vget_high_s16(k.val[i]), mid[2 * p + (uint32_t)i]);
        }
    }
    const int bits = EMB_DCT_BITS + EMB_DCT_KEEP;
    int16x8_t v = vcombine_s16(vqmovn_s32(vrshrq_n_s32(lo, bits)), vqmovn_s32(vrshrq_n_s32(hi, bits)));
    return vqmovun_s16(vqaddq_s16(v, vdupq_n_s16(128)));
}

static void dct_neon(const emb_dct *t, const int16_t coef[64], uint32_t rows, uint8_t *out, size_t stride)
{
    int16x8_t c[8];
    const uint32_t have = (rows + 1) / 2, pairs = have < t->pairs_y ? have : t->pairs_y;
    for (uint32_t f = 0; f < 2 * pairs; f++) c[f] = vld1q_s16(coef + 8 * f);
    for (uint32_t y = 0; y < t->h; y++, out += stride) {
        int16_t mid[8];
        vst1q_s16(mid, dct_row(t, c, y, pairs));
        vst1_u8(out, dct_samples(t, mid, 0));
        if (t->w > 8) vst1_u8(out + 8, dct_samples(t, mid, 8));
    }
}

/* ---- colour ------------------------------------------------------------------------------------- */

static inline int16x8_t words(const uint8_t *p) { return vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p))); }
static inline int16x8_t part(int16x8_t v, int16_t k) { return vqrdmulhq_n_s16(v, k); }
static inline uint8x8_t bytes_of(int16x8_t v) { return vqmovun_s16(vshrq_n_s16(v, 5)); }

static void ycc_of_8(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, uint8_t *rgb)
{
    const int16x8_t middle = vdupq_n_s16(128);
    int16x8_t l = vaddq_s16(vshlq_n_s16(words(y), 5), vdupq_n_s16(16));
    int16x8_t a = vshlq_n_s16(vsubq_s16(words(cb), middle), 5), b = vshlq_n_s16(vsubq_s16(words(cr), middle), 5);
    int16x8_t red = vaddq_s16(vaddq_s16(l, b), part(b, 13173));
    int16x8_t green = vaddq_s16(vsubq_s16(vsubq_s16(l, part(a, 11277)), b), part(b, 9367));
    int16x8_t blue = vsubq_s16(vaddq_s16(l, vshlq_n_s16(a, 1)), part(a, 7471));
    vst3_u8(rgb, (uint8x8x3_t){{bytes_of(red), bytes_of(green), bytes_of(blue)}});
}

static void ycc_neon(const uint8_t *y, const uint8_t *cb, const uint8_t *cr, size_t n, uint8_t *rgb)
{
    if (n < 8) {
        emb_pixels_ref.ycc(y, cb, cr, n, rgb);
        return;
    }
    for (size_t i = 0; i + 8 <= n; i += 8) ycc_of_8(y + i, cb + i, cr + i, rgb + 3 * i);
    if (n % 8 != 0) ycc_of_8(y + n - 8, cb + n - 8, cr + n - 8, rgb + 3 * (n - 8)); /* some once more */
}

/* ---- resize ------------------------------------------------------------------------------------- */

static inline uint8x8_t round_pack(int32x4_t lo, int32x4_t hi)
{
    return vqmovun_s16(vcombine_s16(vqrshrn_n_s32(lo, EMB_RESAMPLE_BITS), vqrshrn_n_s32(hi, EMB_RESAMPLE_BITS)));
}

static void resample_col_neon(const uint8_t *const *rows, const int16_t *weight, uint32_t taps, size_t n, uint8_t *out)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        int32x4_t s[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        for (uint32_t t = 0; t < taps; t++) {
            const uint8x16_t v = vld1q_u8(rows[t] + i);
            const int16x8_t lo = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v))), hi = vreinterpretq_s16_u16(vmovl_high_u8(v));
            s[0] = vmlal_n_s16(s[0], vget_low_s16(lo), weight[t]);
            s[1] = vmlal_n_s16(s[1], vget_high_s16(lo), weight[t]);
            s[2] = vmlal_n_s16(s[2], vget_low_s16(hi), weight[t]);
            s[3] = vmlal_n_s16(s[3], vget_high_s16(hi), weight[t]);
        }
        vst1q_u8(out + i, vcombine_u8(round_pack(s[0], s[1]), round_pack(s[2], s[3])));
    }
    for (; i < n; i++) {
        int32_t sum = 1 << (EMB_RESAMPLE_BITS - 1);
        for (uint32_t t = 0; t < taps; t++) sum += rows[t][i] * weight[t];
        sum >>= EMB_RESAMPLE_BITS;
        out[i] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
    }
}

static void spread_neon(const uint8_t *rgb, size_t pixels, int16_t *out)
{
    static const uint8_t planes[16] = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, 255, 255, 255, 255};
    const uint8x16_t order = vld1q_u8(planes);
    for (size_t i = 0; i < pixels; i += 4, rgb += 12, out += 16) {
        const uint8x16_t v = vqtbl1q_u8(vld1q_u8(rgb), order);
        vst1q_s16(out, vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v))));
        vst1q_s16(out + 8, vreinterpretq_s16_u16(vmovl_high_u8(v)));
    }
}

static void resample_row_neon(const int16_t *spread, const emb_axis *axis, uint32_t out_w, uint8_t *out)
{
    for (uint32_t o = 0; o < out_w; o++) {
        const int16_t *p = spread + (size_t)axis->first[o] * 4, *k = axis->weight + (size_t)o * axis->taps;
        int32x4_t s[3] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        for (uint32_t t = 0; t < axis->taps; t += 4)
            for (uint32_t c = 0; c < 3; c++) s[c] = vmlal_s16(s[c], vld1_s16(p + (size_t)t * 4 + c * 4), vld1_s16(k + t));
        for (uint32_t c = 0; c < 3; c++) {
            int32_t v = (vaddvq_s32(s[c]) + (1 << (EMB_RESAMPLE_BITS - 1))) >> EMB_RESAMPLE_BITS;
            out[o * 3 + c] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
}

/* ---- normalise ---------------------------------------------------------------------------------- */

static inline float32x4_t normal(uint16x4_t v, float mean, float scale)
{
    return vmulq_n_f32(vsubq_f32(vcvtq_f32_u32(vmovl_u16(v)), vdupq_n_f32(mean)), scale);
}

static void normalise_neon(const uint8_t *rgb, size_t pixels, const float mean[3], const float scale[3], float *out)
{
    size_t i = 0;
    for (; i + 8 <= pixels; i += 8) {
        const uint8x8x3_t v = vld3_u8(rgb + 3 * i);
        float32x4x3_t lo, hi;
        for (int c = 0; c < 3; c++) {
            const uint16x8_t wide = vmovl_u8(v.val[c]);
            lo.val[c] = normal(vget_low_u16(wide), mean[c], scale[c]);
            hi.val[c] = normal(vget_high_u16(wide), mean[c], scale[c]);
        }
        vst3q_f32(out + 3 * i, lo);
        vst3q_f32(out + 3 * i + 12, hi);
    }
    emb_pixels_ref.normalise(rgb + 3 * i, pixels - i, mean, scale, out + 3 * i);
}

const emb_pixels emb_pixels_neon = {"neon", dct_neon, ycc_neon, resample_col_neon, spread_neon, resample_row_neon, normalise_neon};
