/* dot_avx2.c: AVX2 with FMA and F16C. Two sums for each row, so that four rows keep both multipliers busy. */
#include "dot.h"

#include <immintrin.h>

typedef enum { F32, F16, I8 } type;

static inline __attribute__((always_inline)) __m256 load(type t, const void *row, size_t i)
{
    if (t == F32) return _mm256_load_ps((const float *)row + i);
    if (t == F16) return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(const void *)((const uint16_t *)row + i)));
    __m256i bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)((const uint8_t *)row + i)));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(bytes, _mm256_set1_epi32(128)));
}

static inline __attribute__((always_inline)) void rows(type t, int count, const float *q, const void *const *row, size_t n, float *out)
{
    __m256 a[4], b[4];
    for (int r = 0; r < count; r++) a[r] = b[r] = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        __m256 q0 = _mm256_loadu_ps(q + i), q1 = _mm256_loadu_ps(q + i + 8);
        for (int r = 0; r < count; r++) {
            a[r] = _mm256_fmadd_ps(q0, load(t, row[r], i), a[r]);
            b[r] = _mm256_fmadd_ps(q1, load(t, row[r], i + 8), b[r]);
        }
    }
    for (int r = 0; r < count; r++) {
        __m256 s = _mm256_add_ps(a[r], b[r]);
        __m128 h = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
        h = _mm_add_ps(h, _mm_movehl_ps(h, h));
        out[r] = _mm_cvtss_f32(_mm_add_ss(h, _mm_movehdup_ps(h)));
    }
}

#include "dot.inc"

static inline int32_t sum(__m256i v)
{
    __m128i h = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    h = _mm_add_epi32(h, _mm_shuffle_epi32(h, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(h, _mm_shuffle_epi32(h, 0xb1)));
}

/* In words of 16 bits: the products of two bytes each would not fit into vpmaddubsw's sums. */
static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    __m256i d = _mm256_setzero_si256(), s = d;
    const __m256i middle = _mm256_set1_epi16(128);
    for (size_t i = 0; i < n; i += 16) {
        __m256i r = _mm256_sub_epi16(_mm256_cvtepu8_epi16(_mm_load_si128((const __m128i *)(const void *)(row + i))), middle);
        __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(q + i)));
        d = _mm256_add_epi32(d, _mm256_madd_epi16(v, r));
        s = _mm256_add_epi32(s, _mm256_madd_epi16(r, r));
    }
    *dot = sum(d);
    *square = sum(s);
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    for (int r = 0; r < 4; r++) i8_one(q, row[r], n, &dot[r], &square[r]);
}

static void f16_widen(const uint16_t *row, size_t n, float *out)
{
    for (size_t i = 0; i < n; i += 8) _mm256_storeu_ps(out + i, load(F16, row, i));
}

void idx_kernels_avx2(idx_kernels *k)
{
    idx_take_rows(k);
    k->i8_one = i8_one;
    k->i8_four = i8_four;
    k->f16_widen = f16_widen;
}
