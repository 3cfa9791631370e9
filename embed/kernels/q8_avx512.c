/* q8_avx512.c: quantised kernels with AVX-512 VNNI (vpdpbusd: four u8 x s8 products to an int32, 64 at a time) and VBMI's lookup in
 * 128 bytes. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define MR       8
#define NV       2u
#define LANES    64
#define Q8_TABLE emb_q8_avx512
#define Q8_NAME  "avx512vnni"
#define SEVERAL  true

#include "q8.h"
#include "avx512_q8.inc"

#define VB            __m512i
#define BYTES         64u
#define b_load(p)     _mm512_loadu_si512(p)
#define b_store(p, v) _mm512_storeu_si512(p, v)
#define b_max(a, b)   _mm512_max_epu8(a, b)

static void lookup(const uint8_t *x, size_t n, const uint8_t table[256], uint8_t *out)
{
    __m512i t[4];
    for (int i = 0; i < 4; i++) t[i] = _mm512_loadu_si512(table + 64 * i);
    for (size_t i = 0; i < n; i += 64) {
        __mmask64 some = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        __m512i v = _mm512_maskz_loadu_epi8(some, x + i);
        __m512i low = _mm512_permutex2var_epi8(t[0], v, t[1]), high = _mm512_permutex2var_epi8(t[2], v, t[3]);
        _mm512_mask_storeu_epi8(out + i, some, _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high));
    }
}

#define UNROLL _Pragma("GCC unroll 16") /* as in tile.inc; clang takes it, too */

#include "avx512_depthwise.inc"

#include "q8.inc"
