/* dot_neon.c: arm64's baseline. Two sums for each row. */
#include "dot.h"

#include <arm_neon.h>

typedef enum { F32, F16, I8 } type;

static inline __attribute__((always_inline)) void load(type t, const void *row, size_t i, float32x4_t out[2])
{
    if (t == F32) {
        out[0] = vld1q_f32((const float *)row + i);
        out[1] = vld1q_f32((const float *)row + i + 4);
    } else if (t == F16) {
        float16x8_t h = vreinterpretq_f16_u16(vld1q_u16((const uint16_t *)row + i));
        out[0] = vcvt_f32_f16(vget_low_f16(h));
        out[1] = vcvt_high_f32_f16(h);
    } else {
        int16x8_t w = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vld1_u8((const uint8_t *)row + i))), vdupq_n_s16(128));
        out[0] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(w)));
        out[1] = vcvtq_f32_s32(vmovl_high_s16(w));
    }
}

static inline __attribute__((always_inline)) void rows(type t, int count, const float *q, const void *const *row, size_t n, float *out)
{
    float32x4_t a[4], b[4];
    for (int r = 0; r < count; r++) a[r] = b[r] = vdupq_n_f32(0);
    for (size_t i = 0; i < n; i += 8) {
        float32x4_t q0 = vld1q_f32(q + i), q1 = vld1q_f32(q + i + 4);
        for (int r = 0; r < count; r++) {
            float32x4_t v[2];
            load(t, row[r], i, v);
            a[r] = vfmaq_f32(a[r], q0, v[0]);
            b[r] = vfmaq_f32(b[r], q1, v[1]);
        }
    }
    for (int r = 0; r < count; r++) out[r] = vaddvq_f32(vaddq_f32(a[r], b[r]));
}

#include "dot.inc"

static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    int32x4_t d = vdupq_n_s32(0), s = d;
    for (size_t i = 0; i < n; i += 16) {
        int8x16_t v = vld1q_s8(q + i), r = vreinterpretq_s8_u8(veorq_u8(vld1q_u8(row + i), vdupq_n_u8(0x80)));
        d = vpadalq_s16(d, vmull_s8(vget_low_s8(v), vget_low_s8(r)));
        d = vpadalq_s16(d, vmull_high_s8(v, r));
        s = vpadalq_s16(s, vmull_s8(vget_low_s8(r), vget_low_s8(r)));
        s = vpadalq_s16(s, vmull_high_s8(r, r));
    }
    *dot = vaddvq_s32(d);
    *square = vaddvq_s32(s);
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    for (int r = 0; r < 4; r++) i8_one(q, row[r], n, &dot[r], &square[r]);
}

static void f16_widen(const uint16_t *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 8) {
        float32x4_t v[2];
        load(F16, row, i, v);
        vst1q_f32(out + i, v[0]);
        vst1q_f32(out + i + 4, v[1]);
    }
}

void idx_kernels_neon(idx_kernels *k)
{
    idx_take_rows(k);
    k->i8_one = i8_one;
    k->i8_four = i8_four;
    k->f16_widen = f16_widen;
}
