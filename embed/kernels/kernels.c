/* kernels.c: which tables are in use. */
#include "kernels.h"
#include "../cpu.h"
#include "../embed.h"

const emb_kernels *emb_kernels_get(void)
{
    uint32_t f = emb_cpu_features();
#if defined(__x86_64__)
    if (f & EMB_CPU_AVX512) return &emb_kernels_avx512;
    if (f & EMB_CPU_AVX2) return &emb_kernels_avx2;
#elif defined(__aarch64__)
    if (f & EMB_CPU_NEON) return &emb_kernels_neon;
#endif
    (void)f;
    return &emb_kernels_ref;
}

const emb_kernels *emb_kernels_f16_get(void)
{
#if defined(__x86_64__)
    if (emb_cpu_features() & EMB_CPU_FP16) return &emb_kernels_f16_avx512;
#elif defined(__aarch64__)
    if (emb_cpu_features() & EMB_CPU_FP16) return &emb_kernels_f16_neon;
#endif
    return NULL;
}

const emb_kernels *emb_kernels_bf16_get(void)
{
#if defined(__x86_64__)
    if (emb_cpu_features() & EMB_CPU_AMX) return &emb_kernels_bf16_amx;
#endif
    return NULL;
}

const char *emb_cpu_kernels(void) { return emb_kernels_get()->name; }
