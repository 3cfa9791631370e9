/* q8_neon.c: quantised kernels with what every arm64 has: 4 pixels x 8 channels. Signed bytes are multiplied to 16 bits, which hold
 * one product and not always two, and neighbouring ones go to sums of 32 at once: each channel has two sums until the end. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "neon.inc"

#define MR       4
#define Q8_TABLE emb_q8_neon
#define Q8_NAME  "neon"

typedef struct {
    int32x4_t low, high; /* two channels each */
} halves;

#define VS       halves
#define SHIFTED
static inline halves vs_zero(void) { return (halves){vdupq_n_s32(0), vdupq_n_s32(0)}; }
static inline int32x4_t vs_total(halves s) { return vpaddq_s32(s.low, s.high); }
static inline halves vs_load(const int32_t *p)
{
    int32x4_t v = vld1q_s32(p);
    return (halves){vzip1q_s32(v, vdupq_n_s32(0)), vzip2q_s32(v, vdupq_n_s32(0))};
}
#define vs_store(p, s) vst1q_s32(p, vs_total(s))

static inline halves vs_dot(int8x16_t a, int8x16_t w, halves s)
{
    return (halves){vpadalq_s16(s.low, vmull_s8(vget_low_s8(a), vget_low_s8(w))), vpadalq_s16(s.high, vmull_high_s8(a, w))};
}
static inline halves lack_of(int8x16_t w, halves s)
{
    int16x8_t pairs = vpaddlq_s8(w);
    return (halves){vaddw_s16(s.low, vget_low_s16(pairs)), vaddw_high_s16(s.high, pairs)};
}
static inline halves without(halves s, halves lack)
{
    return (halves){vaddq_s32(s.low, vshlq_n_s32(lack.low, 7)), vaddq_s32(s.high, vshlq_n_s32(lack.high, 7))};
}
#define vs_lack(w, s)              lack_of(w, s)
#define vs_less(s, lack)           without(s, lack)
#define vs_fma_lane(v, lane, w, s) vs_dot(vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(v), lane)), w, s)

#define DP 2u
#include "q8_neon.inc"
