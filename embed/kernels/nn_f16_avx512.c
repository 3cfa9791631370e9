/* nn_f16_avx512.c: float16 with AVX512-FP16, twice the products of float32 in each instruction.
 *
 * In the tile, two neighbouring channels of a pixel are one broadcast (a 32-bit load, which needs no shuffle port), and a vector
 * of sums holds an even and an odd part for each of 16 channels of the result; both parts become one float32 at the end. A float16
 * sum keeps 11 bits: LONGEST bounds how many products go into one before it is added to float32 sums, which leaves an error of
 * about 1e-3 of a sum's size, random, and by the square root of that many terms smaller than if they all went one way. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "avx512.inc"

#define MR 8
#define NV 2u
#define DP 7u
#define DP2 7u
#define DPS 7u
#define KERNEL_TABLE emb_kernels_f16_avx512
#define KERNEL_REF   emb_kernels_f16_ref
#define KERNEL_NAME  "avx512fp16"

#define BRIEF
#define vrecip_brief(v) _mm512_rcp14_ps(v)

#define T       uint16_t
#define TYPE    EMB_F16
#define GROUP   2u
#define LONGEST 256u

static inline __m512 vload(const uint16_t *p) { return _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm256_loadu_si256((const void *)p))); }
static inline __m512 vload_n(const uint16_t *p, uint32_t n) { return _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm256_maskz_loadu_epi16(mask(n), p))); }
static inline void vstore(uint16_t *p, __m512 v) { _mm256_storeu_si256((void *)p, _mm256_castph_si256(_mm512_cvtxps_ph(v))); }
static inline void vstore_n(uint16_t *p, __m512 v, uint32_t n) { _mm256_mask_storeu_epi16(p, mask(n), _mm256_castph_si256(_mm512_cvtxps_ph(v))); }

#define VS __m512h
#define vs_zero() _mm512_setzero_ph()
static inline __m512h vs_bring(const uint16_t *p)
{
    int32_t two;
    memcpy(&two, p, sizeof two);
    return _mm512_castsi512_ph(_mm512_set1_epi32(two));
}
#define vs_bring_last(p, n) _mm512_castsi512_ph(_mm512_set1_epi32(*(p)))
static inline __m512h vs_weights(const uint16_t *p) { return _mm512_castsi512_ph(_mm512_loadu_si512(p)); }
#define vs_fma(a, w, s)  _mm512_fmadd_ph(a, w, s)
#define vs_gate(p, w, g) _mm512_storeu_si512(p, _mm512_castph_si512(_mm512_mul_ph(w, g)))

/* The even and odd parts of two vectors of sums meet in two shuffles. */
static inline void vs_fold(const __m512h *s, uint32_t nv, __m512 *v)
{
    const __m512i even = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12,
                                          10, 8, 6, 4, 2, 0);
    const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(1));
    __m512i a = _mm512_castph_si512(s[0]), b = nv > 1 ? _mm512_castph_si512(s[1]) : a;
    __m512h sum = _mm512_add_ph(_mm512_castsi512_ph(_mm512_permutex2var_epi16(a, even, b)),
                                _mm512_castsi512_ph(_mm512_permutex2var_epi16(a, odd, b)));
    v[0] = _mm512_cvtxph_ps(_mm512_castph512_ph256(sum));
    if (nv > 1) v[1] = _mm512_cvtxph_ps(_mm256_castsi256_ph(_mm512_extracti64x4_epi64(_mm512_castph_si512(sum), 1)));
}

#define VD __m512h
#define DW 32u
static inline __mmask32 mask32(uint32_t n) { return (__mmask32)((1ull << n) - 1u); }
static inline __m512h dload(const uint16_t *p) { return _mm512_castsi512_ph(_mm512_loadu_si512(p)); }
static inline __m512h dload_n(const uint16_t *p, uint32_t n) { return _mm512_castsi512_ph(_mm512_maskz_loadu_epi16(mask32(n), p)); }
static inline void dstore(uint16_t *p, __m512h v) { _mm512_storeu_si512(p, _mm512_castph_si512(v)); }
static inline void dstore_n(uint16_t *p, __m512h v, uint32_t n) { _mm512_mask_storeu_epi16(p, mask32(n), _mm512_castph_si512(v)); }
static inline __m512h halves(__m512 low, __m512 high)
{
    __m512i v = _mm512_castsi256_si512(_mm256_castph_si256(_mm512_cvtxps_ph(low)));
    return _mm512_castsi512_ph(_mm512_inserti64x4(v, _mm256_castph_si256(_mm512_cvtxps_ph(high)), 1));
}
static inline __m512h dbias(const float *p) { return halves(fload(p), fload(p + 16)); }
static inline __m512h dbias_n(const float *p, uint32_t n)
{
    return n < 16 ? halves(fload_n(p, n), _mm512_setzero_ps()) : halves(fload(p), fload_n(p + 16, n - 16));
}
#define dset1(x)      halves(vset1(x), vset1(x))
#define dfma(a, b, c) _mm512_fmadd_ph(a, b, c)
#define dmul(a, b)    _mm512_mul_ph(a, b)
#define dmin(a, b)    _mm512_min_ph(a, b)
#define dmax(a, b)    _mm512_max_ph(a, b)

#include "nn.inc"
