/* nn_f16_neon.c: float16 with FEAT_FP16's arithmetic, twice the products of float32 in each instruction: 8 pixels x 16 channels, 16 of
 * 32 registers accumulate. A float16 sum keeps 11 bits: LONGEST bounds how many products go into one before it is added to float32
 * sums. It is half of what nn_f16_avx512.c has, where each channel has two sums. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define MR 8
#define NV 2u
#define DP 7u
#define DP2 7u
#define DPS 7u
#define KERNEL_TABLE emb_kernels_f16_neon
#define KERNEL_REF   emb_kernels_f16_ref
#define KERNEL_NAME  "neonfp16"

/* Eight floats, as many as a vector of float16 has. */
typedef struct {
    float32x4_t lo, hi;
} floats;
#define VF floats
#define VW 8u

#define OF_ONE(name, f)                                       \
    static inline floats name(floats a)                       \
    {                                                         \
        return (floats){f(a.lo), f(a.hi)};                    \
    }
#define OF_TWO(name, f)                                       \
    static inline floats name(floats a, floats b)             \
    {                                                         \
        return (floats){f(a.lo, b.lo), f(a.hi, b.hi)};        \
    }
OF_ONE(vround, vrndnq_f32)
OF_TWO(vadd, vaddq_f32)
OF_TWO(vsub, vsubq_f32)
OF_TWO(vmul, vmulq_f32)
OF_TWO(vmin, vminq_f32)
OF_TWO(vmax, vmaxq_f32)
static inline floats vset1(float x) { return (floats){vdupq_n_f32(x), vdupq_n_f32(x)}; }
static inline floats vfma(floats a, floats b, floats c) { return (floats){vfmaq_f32(c.lo, a.lo, b.lo), vfmaq_f32(c.hi, a.hi, b.hi)}; }
static inline floats fload(const float *p) { return (floats){vld1q_f32(p), vld1q_f32(p + 4)}; }
static inline void fstore(float *p, floats v)
{
    vst1q_f32(p, v.lo);
    vst1q_f32(p + 4, v.hi);
}
static inline floats fload_n(const float *p, uint32_t n)
{
    float t[8] = {0};
    memcpy(t, p, n * sizeof *t);
    return fload(t);
}
static inline void fstore_n(float *p, floats v, uint32_t n)
{
    float t[8];
    fstore(t, v);
    memcpy(p, t, n * sizeof *t);
}

#define BRIEF
static inline float32x4_t scale4(float32x4_t v, float32x4_t n)
{
    return vmulq_f32(v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127)), 23)));
}
static inline float32x4_t recip4(float32x4_t v) /* the estimate has 8 bits, a step of Newton's gives 16 */
{
    float32x4_t r = vrecpeq_f32(v);
    return vmulq_f32(r, vrecpsq_f32(v, r));
}
OF_TWO(vexp_scale, scale4)
OF_ONE(vrecip_brief, recip4)

#define T       uint16_t
#define TYPE    EMB_F16
#define GROUP   1u
#define LONGEST 128u

#define VD float16x8_t
#define DW 8u
static inline float16x8_t dload(const uint16_t *p) { return vreinterpretq_f16_u16(vld1q_u16(p)); }
static inline void dstore(uint16_t *p, float16x8_t v) { vst1q_u16(p, vreinterpretq_u16_f16(v)); }
static inline float16x8_t dload_n(const uint16_t *p, uint32_t n)
{
    uint16_t t[8] = {0};
    memcpy(t, p, n * sizeof *t);
    return dload(t);
}
static inline void dstore_n(uint16_t *p, float16x8_t v, uint32_t n)
{
    uint16_t t[8];
    dstore(t, v);
    memcpy(p, t, n * sizeof *t);
}
static inline floats widened(float16x8_t v) { return (floats){vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)}; }
static inline float16x8_t narrowed(floats v) { return vcvt_high_f16_f32(vcvt_f16_f32(v.lo), v.hi); }

#define vload(p)          widened(dload(p))
#define vload_n(p, n)     widened(dload_n(p, n))
#define vstore(p, v)      dstore(p, narrowed(v))
#define vstore_n(p, v, n) dstore_n(p, narrowed(v), n)
#define dbias(p)          narrowed(fload(p))
#define dbias_n(p, n)     narrowed(fload_n(p, n))
#define dset1(x)          vdupq_n_f16((float16_t)(x))
#define dfma(a, b, c)     vfmaq_f16(c, a, b)
#define dmul(a, b)        vmulq_f16(a, b)
#define dmin(a, b)        vminq_f16(a, b)
#define dmax(a, b)        vmaxq_f16(a, b)

#define VS                         float16x8_t
#define vs_zero()                  vdupq_n_f16(0)
#define vs_bring(p)                vreinterpretq_f16_u16(vdupq_n_u16(*(p)))
#define vs_bring_last(p, n)        vs_bring(p)
#define vs_weights(p)              dload(p)
#define vs_fma(a, w, s)            vfmaq_f16(s, a, w)
#define vs_gate(p, w, g)           dstore(p, vmulq_f16(w, g))
#define STEPS                      8u
#define EACH_LANE(f)               f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
#define vs_several(p)              dload(p)
/* The lane must lie in one of the first 16 registers, for which the compiler would rather copy each lane first (gcc 12). */
#define vs_fma_lane(v, lane, w, s)                                                                        \
    __extension__({                                                                                       \
        float16x8_t sum_ = s;                                                                             \
        __asm__("fmla %0.8h, %1.8h, %2.h[" #lane "]" : "+w"(sum_) : "w"(w), "x"(v));                      \
        sum_;                                                                                             \
    })

#define FOLDED
static inline void vs_fold(const float16x8_t *s, uint32_t nv, floats *v)
{
    for (uint32_t j = 0; j < nv; j++) v[j] = widened(s[j]);
}

#include "nn.inc"
