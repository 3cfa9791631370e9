/* nn_neon.c: NEON of arm64's baseline: 8 pixels x 8 channels, 16 of 32 registers accumulate. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "neon.inc"

#define MR 8
#define NV 2u
#define DP 7u
#define DP2 7u
#define DPS 7u
#define KERNEL_TABLE emb_kernels_neon
#define KERNEL_REF   emb_kernels_ref
#define KERNEL_NAME  "neon"

#define STEPS                      4u
#define EACH_LANE(f)               f(0) f(1) f(2) f(3)
#define vs_several(p)              vld1q_f32(p)
#define vs_fma_lane(v, lane, w, s) vfmaq_laneq_f32(s, w, v, lane)

#include "nn.inc"
