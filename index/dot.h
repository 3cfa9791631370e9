/* dot.h: the one distance of this folder: the inner product of two float rows. */
#ifndef LK_DOT_H
#define LK_DOT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Chosen once by processor: AVX-512, AVX2 with FMA, or the portable form. Results differ in the last bits between them, never
 * between calls in a process. */
float idx_dot(const float *a, const float *b, size_t n);

float idx_dot_portable(const float *a, const float *b, size_t n);
#if defined(__x86_64__)
float idx_dot_avx2(const float *a, const float *b, size_t n);
float idx_dot_avx512(const float *a, const float *b, size_t n);
#endif

#ifdef __cplusplus
}
#endif

#endif
