/* cpu.c: CPUID and XGETBV read once. A vector feature counts only if the operating system saves its registers. */
#include "cpu.h"
#include "embed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t xgetbv0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

/* The tile registers are 8 KiB a thread; Linux (5.16 on) gives them to who asks for them. */
static bool tiles_allowed(void)
{
#ifdef __linux__
    enum { REQUEST = 0x1023, TILES = 18 }; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, REQUEST, TILES) == 0;
#else
    return false;
#endif
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
        const unsigned amx = 1u << 22 | 1u << 24 | 1u << 25; /* BF16 TILE INT8 */
        if ((f & EMB_CPU_VNNI) && (d & amx) == amx && (saved & 0x60000) == 0x60000 && tiles_allowed()) f |= EMB_CPU_AMX;
    }
    if ((f & EMB_CPU_AVX2) && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4)) f |= EMB_CPU_AVXVNNI;
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
#include <sys/auxv.h>

static uint32_t detect(void)
{
    const unsigned long asimdhp = 1ul << 10, asimddp = 1ul << 20, i8mm = 1ul << 13; /* Linux: arch/arm64/include/uapi/asm/hwcap.h */
    unsigned long has = getauxval(AT_HWCAP), more = getauxval(AT_HWCAP2);
    uint32_t f = EMB_CPU_NEON; /* part of the baseline */
    if (has & asimdhp) f |= EMB_CPU_FP16;
    if (has & asimddp) f |= EMB_CPU_DOTPROD;
    if ((has & asimddp) && (more & i8mm)) f |= EMB_CPU_I8MM;
    return f;
}
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
        static const struct {
            const char *name;
            uint32_t features;
        } levels[] = {{"ref", 0},
                      {"avx2", EMB_CPU_AVX2},
                      {"avxvnni", EMB_CPU_AVX2 | EMB_CPU_AVXVNNI},
                      {"avx512", ~(uint32_t)EMB_CPU_AMX},
                      {"neon", EMB_CPU_NEON},
                      {"neonfp16", EMB_CPU_NEON | EMB_CPU_FP16},
                      {"dotprod", EMB_CPU_NEON | EMB_CPU_FP16 | EMB_CPU_DOTPROD}};
        for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
            if (strcmp(mask, levels[i].name) == 0) f &= levels[i].features;
    }
    features = f;
}

uint32_t emb_cpu_features(void)
{
    pthread_once(&once, init);
    return features;
}
