/* bench_vectors.c: rows of vectors.h as files, for peers of other languages.
 *   bench_vectors DIR ROWS DIM SEED [QUERIES]
 * writes base.f32, queries.f32 and truth.i32: for each query the numbers of its 100 nearest rows, nearest first. */
#include "vectors.h"

#include <cblas.h>
#include <stdio.h>
#include <string.h>

enum { TRUTH = 100, BLOCK = 4096 };

typedef struct {
    float score;
    int32_t row;
} near;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static FILE *create(const char *dir, const char *name)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    if (f == NULL) fail(path);
    return f;
}

static void put(FILE *f, const void *p, size_t bytes)
{
    if (fwrite(p, 1, bytes, f) != bytes) fail("write");
}

static void keep(near *best, float score, int32_t row) /* a list in order: few rows get into it */
{
    int k = TRUTH - 1;
    if (score <= best[k].score) return;
    for (; k > 0 && score > best[k - 1].score; k--) best[k] = best[k - 1];
    best[k] = (near){score, row};
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: bench_vectors DIR ROWS DIM SEED [QUERIES]\n");
        return 2;
    }
    uint64_t n = strtoull(argv[2], NULL, 10), queries = argc > 5 ? strtoull(argv[5], NULL, 10) : 1000;
    uint32_t dim = (uint32_t)strtoul(argv[3], NULL, 10);
    vectors v;
    if (dim == 0 || n < TRUTH || vectors_init(&v, strtoull(argv[4], NULL, 10), dim, VECTORS_CLUSTERS(n)) != 0) return 1;
    float *q = malloc(queries * dim * sizeof *q), *x = malloc((size_t)BLOCK * dim * sizeof *x), *s = malloc(queries * BLOCK * sizeof *s);
    near *best = malloc(queries * TRUTH * sizeof *best);
    if (q == NULL || x == NULL || s == NULL || best == NULL) return 1;
    FILE *f = create(argv[1], "queries.f32");
    for (uint64_t i = 0; i < queries; i++) vectors_row(&v, VECTORS_QUERIES + i, q + i * dim);
    put(f, q, queries * dim * sizeof *q);
    fclose(f);
    for (uint64_t i = 0; i < queries * TRUTH; i++) best[i] = (near){-2, -1};
    f = create(argv[1], "base.f32");
    for (uint64_t from = 0; from < n; from += BLOCK) {
        uint64_t rows = n - from < BLOCK ? n - from : BLOCK;
        for (uint64_t i = 0; i < rows; i++) vectors_row(&v, from + i, x + i * dim);
        put(f, x, rows * dim * sizeof *x);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)queries, (int)rows, (int)dim, 1, q, (int)dim, x, (int)dim, 0, s, BLOCK);
        for (uint64_t i = 0; i < queries; i++)
            for (uint64_t r = 0; r < rows; r++) keep(best + i * TRUTH, s[i * BLOCK + r], (int32_t)(from + r));
    }
    fclose(f);
    f = create(argv[1], "truth.i32");
    for (uint64_t i = 0; i < queries * TRUTH; i++) put(f, &best[i].row, sizeof best[i].row);
    if (fclose(f) != 0) fail("truth.i32");
    return 0;
}
