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

static inline __attribute__((always_inline)) void rows(type t, int count, const float *q, const void *const *row, size_t n,
                                                       float *out)
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

/* Each of four vectors summed. */
static inline __m128i sums(const __m256i v[4])
{
    __m256i h = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
}

/* vpmaddubsw multiplies an unsigned byte by a signed one: the row's magnitudes by the query with the row's signs, no more than 2
 * * 127 * 127 a pair, which its 16 bits hold. */
static inline __attribute__((always_inline)) void bytes(int count, const int8_t *q, const uint8_t *const *row, size_t n,
                                                        int32_t *dot, int32_t *square)
{
    const __m256i middle = _mm256_set1_epi8(-128), one = _mm256_set1_epi16(1);
    __m256i d[4], s[4];
    for (int r = 0; r < 4; r++) d[r] = s[r] = _mm256_setzero_si256();
    for (size_t i = 0; i < n; i += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(q + i));
        for (int r = 0; r < count; r++) {
            __m256i x = _mm256_xor_si256(_mm256_load_si256((const __m256i *)(const void *)(row[r] + i)), middle),
                    size = _mm256_abs_epi8(x);
            d[r] = _mm256_add_epi32(d[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, _mm256_sign_epi8(v, x)), one));
            s[r] = _mm256_add_epi32(s[r], _mm256_madd_epi16(_mm256_maddubs_epi16(size, size), one));
        }
    }
    _mm_storeu_si128((__m128i *)(void *)dot, sums(d));
    _mm_storeu_si128((__m128i *)(void *)square, sums(s));
}

static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    int32_t d[4], s[4];
    bytes(1, q, &row, n, d, s);
    *dot = d[0];
    *square = s[0];
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    bytes(4, q, row, n, dot, square);
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
