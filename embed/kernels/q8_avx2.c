/* q8_avx2.c: quantised kernels with AVX2. vpmaddubsw would saturate: two products of u8 x s8 need 17 bits. So the four products of a
 * sum go in two pairs, the even and the odd ones, widened to 16 bits, of which vpmaddwd makes exact sums of 32. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "avx2.inc"

#define MR       4
#define Q8_TABLE emb_q8_avx2
#define Q8_NAME  "avx2"

typedef struct {
    __m256i even, odd;
} halves;

static inline halves widened_u8(__m256i v) { return (halves){_mm256_and_si256(v, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(v, 8)}; }
static inline halves widened_s8(__m256i v) { return (halves){_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)}; }
static inline __m256i dot(halves a, halves w, __m256i s)
{
    return _mm256_add_epi32(_mm256_add_epi32(s, _mm256_madd_epi16(a.even, w.even)), _mm256_madd_epi16(a.odd, w.odd));
}

#define VA              halves
#define VWT             halves
#define vs_weights(p)   widened_s8(_mm256_loadu_si256((const void *)(p)))
#define vs_fma(a, w, s) dot(a, w, s)
static inline halves vs_bring(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return widened_u8(_mm256_set1_epi32(four));
}
#define vs_bring_last(p, n) vs_bring(p) /* what lies behind is multiplied by zeros */

#define DP       2u
#define DA       halves
#define DA_BYTES 64
static inline halves da_load(const uint8_t *p) { return (halves){_mm256_loadu_si256((const void *)p), _mm256_loadu_si256((const void *)(p + 32))}; }
static inline void da_store(uint8_t *p, __m256i v)
{
    halves h = widened_u8(v);
    _mm256_storeu_si256((void *)p, h.even);
    _mm256_storeu_si256((void *)(p + 32), h.odd);
}
#define DW8             halves
#define dw8_load(p)     widened_s8(_mm256_loadu_si256((const void *)(p)))
#define di_dot(a, w, s) dot(a, w, s)

#include "q8_avx2.inc"
