/* nn_avx2.c: AVX2 with FMA: 6 pixels x 16 channels, 12 accumulators of 16 registers.
 *
 * A row of weights takes 12 multiply-adds, 6 cycles, and 8 loads; every further instruction is one that a processor of six a cycle has room for,
 * but not where another thread takes half of them: beside one, rows one by one (25 instructions) ran at 0.7 of that speed, and four by four
 * (21.5) at 0.8 (Zen 3). */
#include <immintrin.h>
#include <stdint.h>

#define MR 6
#define NV 2u
#define ROWS 4u
#define DP 8u
#define DP2 3u
#define DPS 4u
#define KERNEL_TABLE emb_kernels_avx2
#define KERNEL_REF   emb_kernels_ref
#define KERNEL_NAME  "avx2"

#include "avx2.inc"

/* In its place. Left to itself gcc 12 lets sums wander through the registers of several rows, and runs out of them. */
static inline __attribute__((always_inline)) __m256 add_product(__m256 a, __m256 w, __m256 sum)
{
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w));
    return sum;
}
#define vs_fma(a, w, s) add_product(a, w, s)

#include "nn.inc"
