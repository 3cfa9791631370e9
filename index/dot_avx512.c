/* dot_avx512.c: AVX-512F. Two sums for each row, as in dot_avx2.c. */
#include "dot.h"

#include <immintrin.h>

typedef enum { F32, F16, I8 } type;

static inline __attribute__((always_inline)) __m512 load(type t, const void *row, size_t i)
{
    if (t == F32) return _mm512_load_ps((const float *)row + i);
    if (t == F16) return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)((const uint16_t *)row + i)));
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_load_si128((const __m128i *)(const void *)((const uint8_t *)row + i)));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(bytes, _mm512_set1_epi32(128)));
}

/* A float row may be one register long; the others are two at least. */
static inline __attribute__((always_inline)) void rows(type t, int count, const float *q, const void *const *row, size_t n, float *out)
{
    __m512 a[4], b[4];
    for (int r = 0; r < count; r++) a[r] = b[r] = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        __m512 q0 = _mm512_loadu_ps(q + i), q1 = _mm512_loadu_ps(q + i + 16);
        for (int r = 0; r < count; r++) {
            a[r] = _mm512_fmadd_ps(q0, load(t, row[r], i), a[r]);
            b[r] = _mm512_fmadd_ps(q1, load(t, row[r], i + 16), b[r]);
        }
    }
    if (i < n)
        for (int r = 0; r < count; r++) a[r] = _mm512_fmadd_ps(_mm512_loadu_ps(q + i), load(t, row[r], i), a[r]);
    for (int r = 0; r < count; r++) out[r] = _mm512_reduce_add_ps(_mm512_add_ps(a[r], b[r]));
}

#include "dot.inc"

static void f16_widen(const uint16_t *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 16) _mm512_storeu_ps(out + i, load(F16, row, i));
}

static uint32_t members(const uint64_t *w, uint32_t none, const uint32_t *number, uint32_t n, uint32_t *out)
{
    const __m512i most = _mm512_set1_epi32((int)none), low = _mm512_set1_epi32(31), one = _mm512_set1_epi32(1);
    __m512i at = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t found = 0;
    for (uint32_t i = 0; i < n; i += 16, at = _mm512_add_epi32(at, _mm512_set1_epi32(16))) {
        __mmask16 there = (__mmask16)(n - i < 16 ? (1u << (n - i)) - 1 : 0xffff);
        __m512i bit = _mm512_min_epu32(_mm512_maskz_loadu_epi32(there, number + i), most);
        __m512i word = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), there, _mm512_srli_epi32(bit, 5), w, 4);
        __mmask16 set = _mm512_mask_test_epi32_mask(there, _mm512_srlv_epi32(word, _mm512_and_si512(bit, low)), one);
        _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(set, at));
        found += (uint32_t)__builtin_popcount(set);
    }
    return found;
}

void idx_kernels_avx512(idx_kernels *k)
{
    k->members = members;
    idx_take_rows(k);
    k->f16_widen = f16_widen;
}
