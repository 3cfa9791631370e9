/* pixels_neon.c: bit-exact NEON forms of pixels_ref.c; widening multiplications carry most of it. */
#include "pixels.h"

#include <arm_neon.h>

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

const emb_pixels emb_pixels_neon = {"neon", resample_col_neon, spread_neon, resample_row_neon, normalise_neon};
