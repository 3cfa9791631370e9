/* dot_vnni.c: byte products with AVX-512 VNNI. vpdpbusd multiplies unsigned by signed bytes: the row as it is kept, value + 128,
 * is the unsigned side, and 128 times the sum of the query comes off at the end; a row's square takes its absolute values. */
#include "dot.h"

#include <immintrin.h>

static inline __attribute__((always_inline)) void rows(int count, const int8_t *q, const uint8_t *const *row, size_t n, int32_t *dot,
                                                       int32_t *square)
{
    const __m512i middle = _mm512_set1_epi8((char)0x80);
    __m512i d[4], s[4], of_query = _mm512_setzero_si512();
    for (int r = 0; r < count; r++) d[r] = s[r] = of_query;
    for (size_t i = 0; i < n; i += 64) {
        __m512i v = _mm512_loadu_si512(q + i);
        of_query = _mm512_dpbusd_epi32(of_query, middle, v);
        for (int r = 0; r < count; r++) {
            __m512i b = _mm512_load_si512(row[r] + i), magnitude = _mm512_abs_epi8(_mm512_xor_si512(b, middle));
            d[r] = _mm512_dpbusd_epi32(d[r], b, v);
            s[r] = _mm512_dpbusd_epi32(s[r], magnitude, magnitude);
        }
    }
    int32_t shift = _mm512_reduce_add_epi32(of_query);
    for (int r = 0; r < count; r++) {
        dot[r] = _mm512_reduce_add_epi32(d[r]) - shift;
        square[r] = _mm512_reduce_add_epi32(s[r]);
    }
}

static void i8_one(const int8_t *q, const uint8_t *row, size_t n, int32_t *dot, int32_t *square)
{
    rows(1, q, (const uint8_t *const[]){row}, n, dot, square);
}

static void i8_four(const int8_t *q, const uint8_t *const row[4], size_t n, int32_t dot[4], int32_t square[4])
{
    rows(4, q, (const uint8_t *const[]){row[0], row[1], row[2], row[3]}, n, dot, square);
}

void idx_kernels_vnni(idx_kernels *k)
{
    k->i8_one = i8_one;
    k->i8_four = i8_four;
}
