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

void idx_kernels_avx512(idx_kernels *k)
{
    idx_take_rows(k);
    k->f16_widen = f16_widen;
}
