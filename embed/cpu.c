/* cpu.c: CPUID and XGETBV read once. A vector feature counts only if the operating system saves its registers. */
#include "cpu.h"
#include "embed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t xgetbv0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static uint32_t detect(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned osxsave = 1u << 27, fma = 1u << 12, f16c = 1u << 29;
    if ((c & osxsave) == 0) return 0;
    uint64_t saved = xgetbv0();
    bool ymm = (saved & 0x6) == 0x6, zmm = (saved & 0xe6) == 0xe6;
    bool fma_f16c = (c & fma) && (c & f16c);
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    uint32_t f = 0;
    if (ymm && fma_f16c && (b & 1u << 5)) f |= EMB_CPU_AVX2;
    const unsigned avx512 = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31; /* F DQ BW VL */
    if ((f & EMB_CPU_AVX2) && zmm && (b & avx512) == avx512) {
        f |= EMB_CPU_AVX512;
        if ((c & 1u << 11) && (c & 1u << 1)) f |= EMB_CPU_VNNI;
        if (d & 1u << 23) f |= EMB_CPU_FP16;
    }
    return f;
}

/* OpenBLAS before 0.3.22 does not know newer models and falls back to SSE3 kernels, five times slower. */
const char *emb_cpu_blas_coretype(void)
{
    if (getenv("OPENBLAS_CORETYPE") != NULL) return NULL;
    uint32_t f = detect();
    unsigned a, b = 0, c, d;
    bool amd = __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
    if (f & EMB_CPU_AVX512) return "SkylakeX";
    if (f & EMB_CPU_AVX2) return amd ? "Zen" : "Haswell";
    return NULL;
}
#elif defined(__aarch64__)
static uint32_t detect(void) { return EMB_CPU_NEON; } /* part of the baseline */
const char *emb_cpu_blas_coretype(void) { return NULL; }
#else
static uint32_t detect(void) { return 0; }
const char *emb_cpu_blas_coretype(void) { return NULL; }
#endif

static uint32_t features;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void init(void)
{
    uint32_t f = detect();
    const char *mask = getenv("EMB_CPU");
    if (mask != NULL) {
        if (strcmp(mask, "ref") == 0) f = 0;
        if (strcmp(mask, "avx2") == 0) f &= EMB_CPU_AVX2;
        if (strcmp(mask, "neon") == 0) f &= EMB_CPU_NEON;
    }
    features = f;
}

uint32_t emb_cpu_features(void)
{
    pthread_once(&once, init);
    return features;
}
