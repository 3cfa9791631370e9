/* dot.c: the portable inner product (eight sums, which compilers turn into the baseline's vectors) and the choice. */
#include "dot.h"

#include <pthread.h>

float idx_dot_portable(const float *a, const float *b, size_t n)
{
    float s[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) s[k] += a[i + (size_t)k] * b[i + (size_t)k];
    float sum = ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
    for (; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static float (*chosen)(const float *, const float *, size_t);
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    chosen = idx_dot_portable;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) chosen = idx_dot_avx2;
    if (__builtin_cpu_supports("avx512f")) chosen = idx_dot_avx512;
#endif
}

float idx_dot(const float *a, const float *b, size_t n)
{
    pthread_once(&once, choose);
    return chosen(a, b, n);
}
