/* nn_avx2.c: AVX2 with FMA: 6 pixels x 16 channels, 12 accumulators of 16 registers. */
#include <immintrin.h>
#include <stdint.h>

#define VF __m256
#define VW 8u
#define MR 6
#define NV 2u
#define DP 4u
#define KERNEL_TABLE emb_kernels_avx2
#define KERNEL_REF   emb_kernels_ref
#define KERNEL_NAME  "avx2"

#define fload(p)      _mm256_loadu_ps(p)
#define fstore(p, v)  _mm256_storeu_ps(p, v)
#define vset1(x)      _mm256_set1_ps(x)
#define vadd(a, b)    _mm256_add_ps(a, b)
#define vsub(a, b)    _mm256_sub_ps(a, b)
#define vmul(a, b)    _mm256_mul_ps(a, b)
#define vrecip(v)     _mm256_div_ps(_mm256_set1_ps(1), v)
#define vmin(a, b)    _mm256_min_ps(a, b)
#define vmax(a, b)    _mm256_max_ps(a, b)
#define vfma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define vround(v)     _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline __m256i mask(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256 fload_n(const float *p, uint32_t n) { return _mm256_maskload_ps(p, mask(n)); }
static inline void fstore_n(float *p, __m256 v, uint32_t n) { _mm256_maskstore_ps(p, mask(n), v); }
static inline __m256 vexp_scale(__m256 v, __m256 n)
{
    __m256i e = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(v, _mm256_castsi256_ps(e));
}

#include "nn.inc"
