/* cpu.h: what this processor has and what is worth using. */
#ifndef LK_CPU_H
#define LK_CPU_H

#include <stdint.h>

enum {
    EMB_CPU_AVX2 = 1u << 0,   /* with FMA and F16C */
    EMB_CPU_AVX512 = 1u << 1, /* F, BW, VL, DQ, and the system saves ZMM */
    EMB_CPU_VNNI = 1u << 2,   /* AVX-512 VNNI and VBMI */
    EMB_CPU_FP16 = 1u << 3,   /* AVX512-FP16; on arm64 arithmetic with float16 */
    EMB_CPU_NEON = 1u << 4,
    EMB_CPU_AMX = 1u << 5,    /* AMX of int8 and bfloat16, with VNNI, and the system let us have it */
    EMB_CPU_AVXVNNI = 1u << 8, /* the form of 256 bits */
    EMB_CPU_DOTPROD = 1u << 9, /* arm64's sdot */
    EMB_CPU_I8MM = 1u << 10,   /* and usdot */
};

/* Features in use: detected once, then masked by the environment. EMB_CPU is the highest level allowed:
 *   ref < avx2 < avxvnni < avx512 (with VNNI and float16) < amx on x86-64;
 *   ref < neon < neonfp16 < dotprod < i8mm on arm64. Thread-safe. */
uint32_t emb_cpu_features(void);

#endif
