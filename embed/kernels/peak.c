/* peak.c: twelve independent sums, so that neither latency nor loads are in the way; in assembly, so that no compiler has ideas.
 * All numbers are zeros. */
#include "peak.h"
#include "../cpu.h"

#include <string.h>

#define TWELVE(x) x(0) x(1) x(2) x(3) x(4) x(5) x(6) x(7) x(8) x(9) x(10) x(11)

#if defined(__x86_64__)

#define CLOBBERED                                                                                                                \
    "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
        "xmm13", "xmm14"
#define LOOP(name, body)                                                                                                         \
    static void name(uint64_t turns)                                                                                             \
    {                                                                                                                            \
        __asm__ volatile("vzeroall\n1:\n" body "dec %0\njnz 1b\nvzeroupper\n" : "+r"(turns) : : CLOBBERED);                      \
    }

#define FMA_YMM(i)   "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n"
#define FMA_ZMM(i)   "vfmadd231ps %%zmm12, %%zmm13, %%zmm" #i "\n"
#define FMA_ZMM_H(i) "vfmadd231ph %%zmm12, %%zmm13, %%zmm" #i "\n"
#define DOT_ZMM(i)   "vpdpbusd %%zmm12, %%zmm13, %%zmm" #i "\n"
#define DOT_YMM(i)   "%{vex%} vpdpbusd %%ymm12, %%ymm13, %%ymm" #i "\n"
#define MADD_YMM(i)  "vpmaddwd %%ymm12, %%ymm13, %%ymm14\nvpaddd %%ymm14, %%ymm" #i ", %%ymm" #i "\n" /* two s16 x s16 */
LOOP(fma_avx2, TWELVE(FMA_YMM))
LOOP(fma_avx512, TWELVE(FMA_ZMM))
LOOP(fma_avx512fp16, TWELVE(FMA_ZMM_H))
LOOP(dot_avx2, TWELVE(MADD_YMM))
LOOP(dot_avxvnni, TWELVE(DOT_YMM))
LOOP(dot_avx512vnni, TWELVE(DOT_ZMM))

/* Sums of 16 x 16, four of them: pixels and weights leave no room for more. */
#define LOOP_AMX(name, op)                                                                                                       \
    static void name(uint64_t turns)                                                                                             \
    {                                                                                                                            \
        uint8_t config[64] = {1};                                                                                                \
        for (int i = 0; i < 8; i++) config[16 + 2 * i] = 64, config[48 + i] = 16;                                                \
        __asm__ volatile("ldtilecfg %1\ntilezero %%tmm4\ntilezero %%tmm5\ntilezero %%tmm6\ntilezero %%tmm7\n1:\n" op             \
                         " %%tmm6, %%tmm4, %%tmm0\n" op " %%tmm7, %%tmm4, %%tmm1\n" op " %%tmm6, %%tmm5, %%tmm2\n" op            \
                         " %%tmm7, %%tmm5, %%tmm3\ndec %0\njnz 1b\ntilerelease\n"                                                \
                         : "+r"(turns)                                                                                           \
                         : "m"(config)                                                                                           \
                         : "cc", "memory");                                                                                      \
    }
LOOP_AMX(dot_amx, "tdpbusd")
LOOP_AMX(dot_amx_bf16, "tdpbf16ps")

const emb_peak_loop emb_peak_loops[] = {
    {"avx2", "fp32", EMB_CPU_AVX2, 12 * 8 * 2, fma_avx2},
    {"avx512", "fp32", EMB_CPU_AVX512, 12 * 16 * 2, fma_avx512},
    {"avx512fp16", "fp16", EMB_CPU_FP16, 12 * 32 * 2, fma_avx512fp16},
    {"avx2", "int8", EMB_CPU_AVX2, 12 * 16 * 2, dot_avx2},
    {"avxvnni", "int8", EMB_CPU_AVXVNNI, 12 * 32 * 2, dot_avxvnni},
    {"avx512vnni", "int8", EMB_CPU_VNNI, 12 * 64 * 2, dot_avx512vnni},
    {"amx-bf16", "bf16", EMB_CPU_AMX, 4 * 16 * 16 * 32 * 2, dot_amx_bf16},
    {"amx", "int8", EMB_CPU_AMX, 4 * 16 * 16 * 64 * 2, dot_amx},
};

void emb_peak_read(const void *from, size_t bytes)
{
    const char *p = from, *end = p + bytes;
    if (emb_cpu_features() & EMB_CPU_AVX512)
        __asm__ volatile("1:\nvmovups (%0), %%zmm0\nvmovups 64(%0), %%zmm1\nvmovups 128(%0), %%zmm2\nvmovups 192(%0), %%zmm3\n"
                         "add $256, %0\ncmp %1, %0\njb 1b\nvzeroupper\n"
                         : "+r"(p)
                         : "r"(end)
                         : CLOBBERED);
    else
        __asm__ volatile("1:\nmovups (%0), %%xmm0\nmovups 16(%0), %%xmm1\nmovups 32(%0), %%xmm2\nmovups 48(%0), %%xmm3\n"
                         "add $64, %0\ncmp %1, %0\njb 1b\n"
                         : "+r"(p)
                         : "r"(end)
                         : CLOBBERED);
}

#elif defined(__aarch64__)

#define FMA_NEON(i) "fmla v" #i ".4s, v12.4s, v13.4s\n"
static void fma_neon(uint64_t turns)
{
    __asm__ volatile("1:\n" TWELVE(FMA_NEON) "subs %0, %0, #1\nb.ne 1b\n"
                     : "+r"(turns)
                     :
                     : "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13");
}

const emb_peak_loop emb_peak_loops[] = {{"neon", "fp32", EMB_CPU_NEON, 12 * 4 * 2, fma_neon}};

void emb_peak_read(const void *from, size_t bytes)
{
    const char *p = from, *end = p + bytes;
    __asm__ volatile("1:\nldp q0, q1, [%0], #32\nldp q2, q3, [%0], #32\ncmp %0, %1\nb.lo 1b\n"
                     : "+r"(p)
                     : "r"(end)
                     : "cc", "memory", "v0", "v1", "v2", "v3");
}

#else

const emb_peak_loop emb_peak_loops[] = {{"ref", "fp32", 0, 0, NULL}};

void emb_peak_read(const void *from, size_t bytes)
{
    const volatile uint64_t *p = from;
    for (size_t i = 0; i < bytes / sizeof *p; i++) (void)p[i];
}
#endif

const size_t emb_peak_loops_count = sizeof emb_peak_loops / sizeof *emb_peak_loops;
