/* q8_avxvnni.c: quantised kernels with AVX-VNNI, vpdpbusd in 256 bits: 6 pixels x 16 channels, 12 sums of 16 registers. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "avx2.inc"

#define MR       6
#define Q8_TABLE emb_q8_avxvnni
#define Q8_NAME  "avxvnni"

/* The compiler's own form of this instruction copies every sum before and behind it (gcc 12). The short encoding has to be asked for:
 * the other one is AVX-512's. */
static inline __m256i dot(__m256i sum, __m256i u, __m256i s)
{
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(u), "xm"(s));
    return sum;
}

#define vs_weights(p)   _mm256_loadu_si256((const void *)(p))
#define vs_fma(a, w, s) dot(s, a, w)
static inline __m256i vs_bring(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
#define vs_bring_last(p, n) vs_bring(p) /* what lies behind is multiplied by zeros */

#define DP              2u
#define di_dot(a, w, s) dot(s, a, w)

#include "q8_avx2.inc"
