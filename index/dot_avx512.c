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

static float f32_one(const float *q, const float *row, size_t n)
{
    float out;
    rows(F32, 1, q, (const void *const[]){row}, n, &out);
    return out;
}

static void f32_four(const float *q, const float *const row[4], size_t n, float out[4])
{
    rows(F32, 4, q, (const void *const[]){row[0], row[1], row[2], row[3]}, n, out);
}

static float f16_one(const float *q, const uint16_t *row, size_t n)
{
    float out;
    rows(F16, 1, q, (const void *const[]){row}, n, &out);
    return out;
}

static void f16_four(const float *q, const uint16_t *const row[4], size_t n, float out[4])
{
    rows(F16, 4, q, (const void *const[]){row[0], row[1], row[2], row[3]}, n, out);
}

static float f32_i8(const float *q, const uint8_t *row, size_t n)
{
    float out;
    rows(I8, 1, q, (const void *const[]){row}, n, &out);
    return out;
}

static void f16_widen(const uint16_t *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 16) _mm512_storeu_ps(out + i, load(F16, row, i));
}

void idx_kernels_avx512(idx_kernels *k)
{
    k->f32_one = f32_one;
    k->f32_four = f32_four;
    k->f16_one = f16_one;
    k->f16_four = f16_four;
    k->f32_i8 = f32_i8;
    k->f16_widen = f16_widen;
}
