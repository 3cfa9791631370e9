/* q8_neon_dot.c: quantised kernels with FEAT_DotProd (sdot: four s8 x s8 products to an int32, 16 at a time): 8 pixels x 8 channels. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "neon.inc"

#define MR       8
#define Q8_TABLE emb_q8_neon_dot
#define Q8_NAME  "dotprod"

#define VS             int32x4_t
#define SHIFTED
#define vs_zero()      vdupq_n_s32(0)
#define vs_total(s)    (s)
#define vs_load(p)     vld1q_s32(p)
#define vs_store(p, s) vst1q_s32(p, s)

#define vs_dot(a, w, s)            vdotq_s32(s, w, a)
#define vs_lack(w, s)              vdotq_s32(s, w, vdupq_n_s8(-128))
#define vs_less(s, lack)           vsubq_s32(s, lack)
#define vs_fma_lane(v, lane, w, s) vdotq_laneq_s32(s, w, v, lane)

#define DP 4u
#include "q8_neon.inc"
