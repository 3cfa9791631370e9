/* nn_avx2.c: AVX2 with FMA: 6 pixels x 16 channels, 12 accumulators of 16 registers. */
#include <immintrin.h>
#include <stdint.h>

#define MR 6
#define NV 2u
#define DP 8u
#define DP2 3u
#define DPS 4u
#define KERNEL_TABLE emb_kernels_avx2
#define KERNEL_REF   emb_kernels_ref
#define KERNEL_NAME  "avx2"

#include "avx2.inc"
#include "nn.inc"
