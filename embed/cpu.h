/* cpu.h: what this processor has and what is worth using. */
#ifndef LK_CPU_H
#define LK_CPU_H

#include <stdint.h>

enum {
    EMB_CPU_AVX2 = 1u << 0,   /* with FMA and F16C */
    EMB_CPU_AVX512 = 1u << 1, /* F, BW, VL, DQ, and the system saves ZMM */
    EMB_CPU_VNNI = 1u << 2,   /* AVX-512 VNNI and VBMI */
    EMB_CPU_FP16 = 1u << 3,   /* AVX512-FP16 */
    EMB_CPU_NEON = 1u << 4,
};

/* Features in use: detected once, then masked by the environment: EMB_CPU=ref, avx2, avx512 or neon is the highest level
 * allowed. Thread-safe. */
uint32_t emb_cpu_features(void);

#endif
