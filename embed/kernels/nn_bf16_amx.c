/* nn_bf16_amx.c: bfloat16 with AMX: products of the tile in bfloat16, sums in float32, eight times as many in a cycle as float16 has.
 * Everything else computes in float32 on what it loads, because only storing rounds then;
 * max pools compare the numbers as they lie. */
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "avx512.inc"

#define MR 8 /* pixels that are finished together */
#define NV 2u
#define DP 7u
#define DP2 7u
#define DPS 7u
#define KERNEL_TABLE emb_kernels_bf16_amx
#define KERNEL_REF   emb_kernels_bf16_ref
#define KERNEL_NAME  "amx-bf16"

#define BRIEF
#define vrecip_brief(v) _mm512_rcp14_ps(v)

#define T       uint16_t
#define TYPE    EMB_BF16
#define GROUP   2u
#define LONGEST 0u

static inline __m512 floats_of(__m256i v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16)); }
static inline __m256i halves_of(__m512 v) { return (__m256i)_mm512_cvtneps_pbh(v); }
static inline __m512 vload(const uint16_t *p) { return floats_of(_mm256_loadu_si256((const void *)p)); }
static inline __m512 vload_n(const uint16_t *p, uint32_t n) { return floats_of(_mm256_maskz_loadu_epi16(mask(n), p)); }
static inline void vstore(uint16_t *p, __m512 v) { _mm256_storeu_si256((void *)p, halves_of(v)); }
static inline void vstore_n(uint16_t *p, __m512 v, uint32_t n) { _mm256_mask_storeu_epi16(p, mask(n), halves_of(v)); }

/* Weights and gates as pairs of neighbouring channels. */
#define VS __m512i
static inline __m512i vs_bring(const uint16_t *p)
{
    int32_t two;
    memcpy(&two, p, sizeof two);
    return _mm512_set1_epi32(two);
}
#define vs_bring_last(p, n) _mm512_set1_epi32(*(p))
#define vs_weights(p)       _mm512_loadu_si512(p)
static inline void vs_gate(uint16_t *to, __m512i w, __m512i g)
{
    const __m512i high = _mm512_set1_epi32((int32_t)0xffff0000);
    __m512 even = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(w, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(g, 16)));
    __m512 odd = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(w, high)), _mm512_castsi512_ps(_mm512_and_si512(g, high)));
    __m512i low = _mm512_cvtepu16_epi32(halves_of(even)), up = _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves_of(odd)), 16);
    _mm512_storeu_si512(to, _mm512_or_si512(low, up));
}

#define VD __m512
#define DW VW
#define dload(p)          vload(p)
#define dload_n(p, n)     vload_n(p, n)
#define dstore(p, v)      vstore(p, v)
#define dstore_n(p, v, n) vstore_n(p, v, n)
#define dbias(p)          fload(p)
#define dbias_n(p, n)     fload_n(p, n)
#define dset1(x)          vset1(x)
#define dfma(a, b, c)     vfma(a, b, c)
#define dmul(a, b)        vmul(a, b)
#define dmin(a, b)        vmin(a, b)
#define dmax(a, b)        vmax(a, b)

/* Of signs and magnitudes whole numbers that have the same order, and back. */
static inline __m512i ordered(__m512i v)
{
    return _mm512_xor_si512(v, _mm512_and_si512(_mm512_srai_epi16(v, 15), _mm512_set1_epi16(0x7fff)));
}
#define VP __m512i
#define PW 32u
#define pload(p)          ordered(_mm512_loadu_si512(p))
#define pload_n(p, n)     ordered(_mm512_maskz_loadu_epi16((1u << (n)) - 1u, p))
#define pstore(p, v)      _mm512_storeu_si512(p, ordered(v))
#define pstore_n(p, v, n) _mm512_mask_storeu_epi16(p, (1u << (n)) - 1u, ordered(v))
#define pmax(a, b)        _mm512_max_epi16(a, b)

#define OWN_TILE
#define TILE_SHAPE  32, NR, 0, 0, NR
#define TILE_ROUND  32
#define TILE_PARTS  false, true
#define TILE_AROUND amx_begin, amx_end

static void amx_begin(void), amx_end(void);
#include "nn.inc"

#define ELEMENT          2
#define ZEROED           true
#define amx_dot(s, a, b) _tile_dpbf16ps(s, a, b)
#include "amx.inc"

static inline __attribute__((always_inline)) void end_some(const emb_tile *t, uint32_t i, const uint32_t m, const uint32_t *sums)
{
    const uint32_t nv = NV;
    VF v[MR][NV];
    const float *from = (const float *)sums;
    UNROLL for (uint32_t k = 0; k < m; k++)
        for (uint32_t j = 0; j < nv; j++) v[k][j] = vadd(fload(from + k * NR + j * VW), fload(t->bias + j * VW));
    if (t->n > VW) tile_end(t, i, m, 2, v);
    else tile_end(t, i, m, 1, v);
}

static void tile(const emb_tile *t, uint32_t m)
{
    uint32_t sums[PIXELS][NR] __attribute__((aligned(64)));
    even_run run = even_begin(t);
    amx_products(t, m);
    amx_store(false, sums);
    if (m > ROWS) amx_store(true, sums);
    even_finish(t, m, &run, sums[0], NR, end_some);
}
