/* nn_avx512.c: AVX-512 F, BW, VL, DQ: 8 pixels x 48 channels or 6 x 64, 24 accumulators of 32 registers: a load from the first cache for
 * two multiply-adds and more, of which two begin in every cycle. */
#ifndef LK_SIMDE /* the tests run this file on any machine through SIMDe, which then stands for the header */
#include <immintrin.h>
#endif
#include <stdint.h>

#define MR 8
#define NV 4u
#define WIDE_MR 6
#define THIN_MR 16
#define DP 7u
#define DP2 7u
#define DPS 7u
#ifndef KERNEL_TABLE
#define KERNEL_TABLE emb_kernels_avx512
#endif
#define KERNEL_REF  emb_kernels_ref
#define KERNEL_NAME "avx512"

#include "avx512.inc"
#include "nn.inc"
