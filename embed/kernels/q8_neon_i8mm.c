/* q8_neon_i8mm.c: quantised kernels with FEAT_I8MM's usdot, which takes u8 x s8 as they are: 8 pixels x 8 channels. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "neon.inc"

#define MR       8
#define Q8_TABLE emb_q8_neon_i8mm
#define Q8_NAME  "i8mm"

#define VS             int32x4_t
#define vs_zero()      vdupq_n_s32(0)
#define vs_total(s)    (s)
#define vs_load(p)     vld1q_s32(p)
#define vs_store(p, s) vst1q_s32(p, s)

#define vs_dot(a, w, s)            vusdotq_s32(s, a, w)
#define vs_fma_lane(v, lane, w, s) vsudotq_laneq_s32(s, w, v, lane)

#define DP 4u
#include "q8_neon.inc"
