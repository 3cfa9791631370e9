/* avx512_simde.c: embed/kernels/nn_avx512.c compiled with SIMDe's emulation of the intrinsics, so that its code is
 * executed and compared with the reference on machines without AVX-512. Tests only. */
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <immintrin.h>
#include <string.h>
#include <simde/x86/avx512.h>

/* What this version of SIMDe lacks; the definitions are the manual's. */
static inline simde__m512 emulated_load(simde__mmask16 k, const float *p)
{
    simde__m512 v = simde_mm512_setzero_ps();
    for (int i = 0; i < 16; i++)
        if (k >> i & 1) ((float *)&v)[i] = p[i];
    return v;
}
static inline void emulated_store(float *p, simde__mmask16 k, simde__m512 v)
{
    for (int i = 0; i < 16; i++)
        if (k >> i & 1) p[i] = ((float *)&v)[i];
}
static inline simde__m512 emulated_round(simde__m512 v)
{
    for (int i = 0; i < 16; i++) ((float *)&v)[i] = __builtin_rintf(((float *)&v)[i]);
    return v;
}
static inline simde__m512 emulated_scalef(simde__m512 v, simde__m512 n)
{
    for (int i = 0; i < 16; i++) ((float *)&v)[i] = __builtin_ldexpf(((float *)&v)[i], (int)((float *)&n)[i]);
    return v;
}
static inline simde__m512 emulated_permutex2var(simde__m512 low, simde__m512i i, simde__m512 high)
{
    simde__m512 v;
    for (int k = 0; k < 16; k++) {
        uint32_t at;
        memcpy(&at, (char *)&i + 4 * k, 4);
        ((float *)&v)[k] = ((float *)(at & 16 ? &high : &low))[at & 15];
    }
    return v;
}
static inline simde__m512 emulated_abs(simde__m512 v)
{
    for (int i = 0; i < 16; i++) ((float *)&v)[i] = __builtin_fabsf(((float *)&v)[i]);
    return v;
}
#define __m512    simde__m512
#define __mmask16 simde__mmask16
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_roundscale_ps
#undef _mm512_scalef_ps
#undef _mm512_permutex2var_ps
#undef _mm512_abs_ps
#undef _mm512_castps_si512
#undef _mm512_srli_epi32
#undef _mm512_loadu_ps
#undef _mm512_storeu_ps
#undef _mm512_set1_ps
#undef _mm512_add_ps
#undef _mm512_mul_ps
#undef _mm512_div_ps
#undef _mm512_min_ps
#undef _mm512_max_ps
#undef _mm512_fmadd_ps
#define _mm512_maskz_loadu_ps(k, p)   emulated_load(k, p)
#define _mm512_mask_storeu_ps(p, k, v) emulated_store(p, k, v)
#define _mm512_roundscale_ps(v, how)  emulated_round(v)
#define _mm512_scalef_ps(v, n)        emulated_scalef(v, n)
#define _mm512_permutex2var_ps(a, i, b) emulated_permutex2var(a, i, b)
#define _mm512_abs_ps(v)              emulated_abs(v)
#define _mm512_castps_si512(v)        simde_mm512_castps_si512(v)
#define _mm512_srli_epi32(v, n)       simde_mm512_srli_epi32(v, n)
#define _mm512_loadu_ps(p)            simde_mm512_loadu_ps(p)
#define _mm512_storeu_ps(p, v)        simde_mm512_storeu_ps(p, v)
#define _mm512_set1_ps(x)             simde_mm512_set1_ps(x)
#define _mm512_add_ps(a, b)           simde_mm512_add_ps(a, b)
#define _mm512_mul_ps(a, b)           simde_mm512_mul_ps(a, b)
#define _mm512_div_ps(a, b)           simde_mm512_div_ps(a, b)
#define _mm512_min_ps(a, b)           simde_mm512_min_ps(a, b)
#define _mm512_max_ps(a, b)           simde_mm512_max_ps(a, b)
#define _mm512_fmadd_ps(a, b, c)      simde_mm512_fmadd_ps(a, b, c)

#define LK_SIMDE
#define KERNEL_TABLE kernels_avx512_simde
#include "../../embed/kernels/nn_avx512.c"
