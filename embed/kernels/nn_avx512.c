/* nn_avx512.c: AVX-512 F, BW, VL, DQ: 8 pixels x 32 channels, 16 accumulators hide the latency of two FMA units. */
#ifndef LK_SIMDE /* the tests run this file on any machine through SIMDe, which then stands for the header */
#include <immintrin.h>
#endif
#include <stdint.h>

#define VF __m512
#define VW 16u
#define MR 8
#define NV 2u
#define DP 7u
#ifndef KERNEL_TABLE
#define KERNEL_TABLE emb_kernels_avx512
#endif
#define KERNEL_NAME "avx512"

#define vload(p)      _mm512_loadu_ps(p)
#define vstore(p, v)  _mm512_storeu_ps(p, v)
#define vset1(x)      _mm512_set1_ps(x)
#define vadd(a, b)    _mm512_add_ps(a, b)
#define vsub(a, b)    _mm512_sub_ps(a, b)
#define vmul(a, b)    _mm512_mul_ps(a, b)
#define vmin(a, b)    _mm512_min_ps(a, b)
#define vmax(a, b)    _mm512_max_ps(a, b)
#define vfma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define vround(v)     _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)

static inline __mmask16 mask(uint32_t n) { return (__mmask16)((1u << n) - 1u); }
static inline __m512 vload_n(const float *p, uint32_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
static inline void vstore_n(float *p, __m512 v, uint32_t n) { _mm512_mask_storeu_ps(p, mask(n), v); }
static inline __m512 vexp_scale(__m512 v, __m512 n) { return _mm512_scalef_ps(v, n); }

#ifdef LK_SIMDE /* knows no rcp14 */
#define vrecip(v) _mm512_div_ps(_mm512_set1_ps(1), v)
#else
/* A division takes 16 cycles; 14 bits and a step of Newton's take four. */
static inline __m512 vrecip(__m512 v)
{
    __m512 r = _mm512_rcp14_ps(v);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(v, r, _mm512_set1_ps(2)));
}
#endif

#include "nn.inc"
