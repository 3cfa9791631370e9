/* nn_neon.c: NEON of arm64's baseline: 8 pixels x 8 channels, 16 of 32 registers accumulate. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define VF float32x4_t
#define VW 4u
#define MR 8
#define NV 2u
#define DP 7u
#define DP2 6u
#define KERNEL_TABLE emb_kernels_neon
#define KERNEL_REF   emb_kernels_ref
#define KERNEL_NAME  "neon"

#define fload(p)      vld1q_f32(p)
#define fstore(p, v)  vst1q_f32(p, v)
#define vset1(x)      vdupq_n_f32(x)
#define vadd(a, b)    vaddq_f32(a, b)
#define vsub(a, b)    vsubq_f32(a, b)
#define vmul(a, b)    vmulq_f32(a, b)
#define vrecip(v)     vdivq_f32(vdupq_n_f32(1), v)
#define vmin(a, b)    vminq_f32(a, b)
#define vmax(a, b)    vmaxq_f32(a, b)
#define vfma(a, b, c) vfmaq_f32(c, a, b)
#define vround(v)     vrndnq_f32(v)

static inline float32x4_t fload_n(const float *p, uint32_t n)
{
    float t[4] = {0, 0, 0, 0};
    memcpy(t, p, n * sizeof *t);
    return vld1q_f32(t);
}
static inline void fstore_n(float *p, float32x4_t v, uint32_t n)
{
    float t[4];
    vst1q_f32(t, v);
    memcpy(p, t, n * sizeof *t);
}
static inline float32x4_t vexp_scale(float32x4_t v, float32x4_t n)
{
    return vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23)));
}

#include "nn.inc"
