/* bench_ann.c: HNSW with our distances beside the same index of FAISS with its own, one thread, in turns.
 *   bench_ann [ROWS [DIM [M [EF_CONSTRUCTION]]]]
 * Rows lie around random centres, as embeddings of products do. Prints build time, queries a second and recall@10 of both. */
#include "../../index/ann.h"
#include "../../index/ann_shim.h"
#include "../../index/dot.h"

#include <faiss/c_api/index_factory_c.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { QUERIES = 500, K = 10 };

static uint64_t state = 88172645463325252u;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + (double) t.tv_nsec * 1e-9;
}

static float gauss(void) /* the sum of four uniform numbers is near enough */
{
    float sum = 0;
    for (int i = 0; i < 4; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        sum += (float) (state >> 40) / 16777216.0f - 0.5f;
    }
    return sum;
}

static float *make_rows(size_t n, size_t d, const float *centres, size_t n_centres)
{
    float *x = malloc(n * d * sizeof *x);
    if (x == NULL) exit(1);
    for (size_t i = 0; i < n; i++) {
        float norm = 0, *row = x + i * d;
        for (size_t k = 0; k < d; k++) {
            row[k] = centres[(i * 7919 % n_centres) * d + k] + 1.5f * gauss();
            norm += row[k] * row[k];
        }
        for (size_t k = 0; k < d; k++) row[k] /= sqrtf(norm);
    }
    return x;
}

static void exact(const float *x, size_t n, size_t d, const float *q, int64_t best[K])
{
    float score[K];
    for (int k = 0; k < K; k++) score[k] = -2, best[k] = -1;
    for (size_t i = 0; i < n; i++) {
        float s = idx_dot(x + i * d, q, d);
        int k = K;
        for (; k > 0 && s > score[k - 1]; k--)
            if (k < K) score[k] = score[k - 1], best[k] = best[k - 1];
        if (k < K) score[k] = s, best[k] = (int64_t) i;
    }
}

static void report(const char *who, double build, double took, const int64_t *got, const int64_t *want)
{
    size_t hits = 0;
    for (size_t q = 0; q < QUERIES; q++)
        for (int i = 0; i < K; i++)
            for (int j = 0; j < K; j++) hits += got[q * K + (size_t) i] == want[q * K + (size_t) j];
    printf("%-8s build %7.2f s   %8.0f queries/s   %6.3f ms a query   recall@10 %.4f\n", who, build, QUERIES / took, 1e3 * took / QUERIES,
           (double) hits / (QUERIES * K));
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? (size_t) atol(argv[1]) : 20000, d = argc > 2 ? (size_t) atol(argv[2]) : 256;
    uint32_t m = argc > 3 ? (uint32_t) atoi(argv[3]) : 32, efc = argc > 4 ? (uint32_t) atoi(argv[4]) : 100;
    float *centres = calloc(500 * d, sizeof *centres);
    if (centres == NULL || n < K || d == 0) return 1;
    for (size_t i = 0; i < 500 * d; i++) centres[i] = gauss();
    float *x = make_rows(n, d, centres, 500), *q = make_rows(QUERIES, d, centres, 500);
    static int64_t want[QUERIES * K], got[2][QUERIES * K];
    float scores[K];
    for (size_t i = 0; i < QUERIES; i++) exact(x, n, d, q + i * d, want + i * K);
    idx_error err = {0};
    idx_ann *ours = NULL;
    FaissIndex *theirs = NULL;
    char recipe[32];
    snprintf(recipe, sizeof recipe, "HNSW%u,Flat", m);
    if (idx_ann_new((uint32_t) d, m, efc, &ours, &err) != IDX_OK) return 1;
    if (faiss_index_factory(&theirs, (int) d, recipe, METRIC_INNER_PRODUCT) != 0 || idx_shim_set_ef_construction(theirs, (int) efc) != 0) return 1;
    double t = now();
    if (idx_ann_add(ours, n, x, &err) != IDX_OK) return 1;
    double built_ours = now() - t;
    t = now();
    if (faiss_Index_add(theirs, (idx_t) n, x) != 0) return 1;
    double built_theirs = now() - t;
    printf("%zu x %zu, HNSW%u, efConstruction %u, one thread\n", n, d, m, efc);
    static const int efs[] = {32, 64, 128};
    for (int e = 0; e < 3; e++) {
        double took[2] = {1e9, 1e9};
        for (int round = 0; round < 6; round++) {
            t = now();
            for (size_t i = 0; i < QUERIES; i++) {
                int64_t *labels = got[round % 2] + i * K;
                if (round % 2 == 0 && idx_ann_search(ours, q + i * d, K, (uint32_t) efs[e], NULL, scores, labels, &err) != IDX_OK) return 1;
                if (round % 2 == 1 && idx_shim_search(theirs, q + i * d, K, efs[e], NULL, scores, labels) != 0) return 1;
            }
            double s = now() - t;
            if (s < took[round % 2]) took[round % 2] = s;
        }
        printf("ef %d\n", efs[e]);
        report("ours", built_ours, took[0], got[0], want);
        report("FAISS", built_theirs, took[1], got[1], want);
    }
    idx_ann_free(ours);
    faiss_Index_free(theirs);
    free(centres);
    free(x);
    free(q);
    return 0;
}
