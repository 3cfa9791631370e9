/* vectors.h: unit vectors like those that networks make of a catalogue's photos, from a seed: row i is a function of
 * (seed, dim, clusters, i), so that programs agree on it without a file.
 *
 * Rows lie around cluster centres, which lie around the centres of 64 groups; cluster sizes are uneven. Within a cluster they
 * spread along 32 axes of the group, each narrower than the one before, and a little in every direction: the neighbours of a
 * query are neither its whole cluster nor a matter of chance. Queries are rows of the same making that are in no index. */
#ifndef LK_BENCH_VECTORS_H
#define LK_BENCH_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { VECTORS_GROUPS = 64, VECTORS_AXES = 32 };
#define VECTORS_QUERIES     (UINT64_C(1) << 40) /* rows from here on are queries */
#define VECTORS_CLUSTERS(n) ((uint32_t)((n) / 500 + 100)) /* what the programs here use for n rows */

typedef struct {
    uint64_t seed;
    uint32_t dim, clusters;
    float *centres; /* clusters x dim */
    float *axes;    /* groups x axes x dim */
} vectors;

static inline uint64_t vectors_rand(uint64_t *s) /* splitmix64 */
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline float vectors_gauss(uint64_t *s) /* the sum of four uniform numbers is near enough; variance 1 */
{
    uint64_t r = vectors_rand(s);
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)(r >> 16 * i & 0xffff) / 65536.0f - 0.5f;
    return sum * 1.7320508f;
}

static inline void vectors_unit(float *v, uint32_t dim)
{
    double norm = 0;
    for (uint32_t i = 0; i < dim; i++) norm += (double)v[i] * (double)v[i];
    norm = 1 / sqrt(norm);
    for (uint32_t i = 0; i < dim; i++) v[i] = (float)((double)v[i] * norm);
}

static inline void vectors_random_unit(float *v, uint32_t dim, uint64_t *s)
{
    for (uint32_t i = 0; i < dim; i++) v[i] = vectors_gauss(s);
    vectors_unit(v, dim);
}

static inline void vectors_fini(vectors *v)
{
    free(v->centres);
    free(v->axes);
}

static inline int vectors_init(vectors *v, uint64_t seed, uint32_t dim, uint32_t clusters)
{
    uint64_t s = seed * 0x2545f4914f6cdd1du + dim;
    float *groups = malloc((size_t)VECTORS_GROUPS * dim * sizeof *groups);
    *v = (vectors){seed, dim, clusters, malloc((size_t)clusters * dim * sizeof(float)),
                   malloc((size_t)VECTORS_GROUPS * VECTORS_AXES * dim * sizeof(float))};
    if (groups == NULL || v->centres == NULL || v->axes == NULL) {
        free(groups);
        vectors_fini(v);
        return -1;
    }
    for (uint32_t g = 0; g < VECTORS_GROUPS; g++) vectors_random_unit(groups + (size_t)g * dim, dim, &s);
    for (uint32_t a = 0; a < VECTORS_GROUPS * VECTORS_AXES; a++) vectors_random_unit(v->axes + (size_t)a * dim, dim, &s);
    for (uint32_t c = 0; c < clusters; c++) {
        float *centre = v->centres + (size_t)c * dim;
        const float *group = groups + (size_t)(c % VECTORS_GROUPS) * dim;
        vectors_random_unit(centre, dim, &s);
        for (uint32_t i = 0; i < dim; i++) centre[i] = 0.6f * centre[i] + 0.8f * group[i];
        vectors_unit(centre, dim);
    }
    free(groups);
    return 0;
}

static inline uint32_t vectors_cluster(const vectors *v, uint64_t row)
{
    uint64_t s = v->seed ^ row * 0xda942042e4dd58b5u;
    double u = (double)(vectors_rand(&s) >> 11) * 0x1p-53;
    return (uint32_t)(u * sqrt(u) * v->clusters); /* the first are the largest */
}

static inline void vectors_row(const vectors *v, uint64_t row, float *out)
{
    uint64_t s = v->seed ^ row * 0xda942042e4dd58b5u;
    uint32_t c = vectors_cluster(v, row), dim = v->dim;
    const float *centre = v->centres + (size_t)c * dim, *axes = v->axes + (size_t)(c % VECTORS_GROUPS) * VECTORS_AXES * dim;
    float noise = 0.2f / sqrtf((float)dim);
    vectors_rand(&s); /* the cluster's */
    for (uint32_t i = 0; i < dim; i += 4) {
        uint64_t r = vectors_rand(&s);
        for (uint32_t k = 0; k < 4 && i + k < dim; k++) out[i + k] = centre[i + k] + noise * ((float)(r >> 16 * k & 0xffff) / 32768.0f - 1);
    }
    for (uint32_t a = 0; a < VECTORS_AXES; a++, axes += dim) {
        float z = 0.28f * vectors_gauss(&s) / sqrtf(1 + 0.5f * (float)a);
        for (uint32_t i = 0; i < dim; i++) out[i] += z * axes[i];
    }
    vectors_unit(out, dim);
}

#endif
