/* Failures inside FAISS come back as a code and a text of this thread, whether the C API is the system's
 * libfaiss_c or ours. */
#include "../../index/ann.h"
#include "../../index/ann_shim.h"
#include "../../index/dot.h"
#include "test.h"

#include <stdlib.h>

#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>

enum { DIM = 67, ROWS = 600 };

/* The same index with FAISS's distances and with ours, made here and read from a file: neighbours and scores agree. */
static void test_own_distances(void)
{
    static float rows[ROWS * DIM];
    float scores[2][10];
    int64_t labels[2][10];
    uint64_t seed = 5;
    idx_error err = {0};
    idx_ann *ours = NULL, *read = NULL;
    FaissIndex *theirs = NULL;
    for (size_t i = 0; i < ROWS * DIM; i++) rows[i] = test_randf(&seed);
    REQUIRE(idx_ann_new(DIM, 16, 60, &ours, &err) == IDX_OK && idx_ann_add(ours, ROWS, rows, &err) == IDX_OK);
    REQUIRE(faiss_index_factory(&theirs, DIM, "HNSW16,Flat", METRIC_INNER_PRODUCT) == 0 && idx_shim_set_ef_construction(theirs, 60) == 0);
    REQUIRE(faiss_Index_add(theirs, ROWS, rows) == 0);
    CHECK_INT(idx_shim_has_own_distances(theirs), 0);
    FILE *f = tmpfile();
    REQUIRE(f != NULL && idx_ann_write(ours, f, &err) == IDX_OK);
    rewind(f);
    REQUIRE(idx_ann_read(f, DIM, ROWS, &read, &err) == IDX_OK);
    for (size_t q = 0; q < 20; q++) {
        const float *query = rows + q * 29 * DIM;
        REQUIRE(idx_shim_search(theirs, query, 10, 100, NULL, scores[0], labels[0]) == 0);
        for (int k = 0; k < 2; k++) {
            REQUIRE(idx_ann_search(k == 0 ? ours : read, query, 10, 100, NULL, scores[1], labels[1], &err) == IDX_OK);
            for (int i = 0; i < 10; i++) {
                CHECK_INT(labels[1][i], labels[0][i]);
                CHECK_NEAR((double)scores[1][i], (double)scores[0][i], 1e-4);
            }
        }
    }
    CHECK(idx_ann_has_own_distances(ours) && idx_ann_has_own_distances(read));
    REQUIRE(idx_shim_own_distances(theirs) == 0); /* after the fact as well */
    REQUIRE(idx_shim_search(theirs, rows, 10, 100, NULL, scores[0], labels[0]) == 0);
    CHECK_INT(faiss_Index_ntotal(theirs), ROWS);
    CHECK_INT(idx_shim_has_own_distances(theirs), 1);
    fclose(f);
    idx_ann_free(ours);
    idx_ann_free(read);
    faiss_Index_free(theirs);
}

/* Every form of the inner product that this processor has, at every length and offset, against doubles. */
static void test_dot(void)
{
    static float a[340], b[340];
    uint64_t seed = 9;
    float (*form[3])(const float *, const float *, size_t) = {idx_dot, idx_dot_portable, NULL};
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) form[2] = idx_dot_avx2; /* idx_dot is AVX-512 where it can be */
#endif
    for (size_t i = 0; i < 340; i++) a[i] = test_randf(&seed), b[i] = test_randf(&seed);
    for (size_t n = 0; n <= 330; n++)
        for (int k = 0; k < 3 && form[k] != NULL; k++) {
            double want = 0;
            for (size_t i = 0; i < n; i++) want += (double)a[n % 7 + i] * (double)b[n % 5 + i];
            CHECK_NEAR((double)form[k](a + n % 7, b + n % 5, n), want, 1e-5);
        }
}

/* ef decides how well is searched, in every version of FAISS: rows without any order, and a sparse graph over them. */
static void test_ef(void)
{
    enum { D = 24, N = 4000, Q = 60 };
    float *rows = malloc(N * D * sizeof *rows), scores[10];
    int64_t labels[10];
    uint64_t seed = 11;
    unsigned hits[2] = {0, 0};
    idx_error err = {0};
    idx_ann *a = NULL;
    REQUIRE(rows != NULL);
    for (size_t i = 0; i < N * D; i++) rows[i] = test_randf(&seed) - 0.5f;
    REQUIRE(idx_ann_new(D, 6, 40, &a, &err) == IDX_OK && idx_ann_add(a, N, rows, &err) == IDX_OK);
    for (int q = 0; q < Q; q++) {
        float query[D];
        for (int i = 0; i < D; i++) query[i] = test_randf(&seed) - 0.5f;
        for (int k = 0; k < 2; k++) {
            REQUIRE(idx_ann_search(a, query, 10, k == 0 ? 10 : 800, NULL, scores, labels, &err) == IDX_OK);
            for (int i = 0; i < 10; i++) { /* a hit is a row that fewer than ten are better than */
                unsigned better = 0;
                for (size_t r = 0; r < N; r++) better += idx_dot(query, rows + r * D, D) > scores[i] + 1e-6f;
                hits[k] += labels[i] >= 0 && better < 10;
            }
        }
    }
    CHECK(hits[1] > hits[0] + 30);
    CHECK(hits[1] >= Q * 10 * 9 / 10);
    idx_ann_free(a);
    free(rows);
}

int main(void)
{
    test_ef();
    test_dot();
    test_own_distances();
    FaissIndex *index = NULL, *flat = NULL;
    CHECK(faiss_index_factory(&index, 8, "no such recipe", METRIC_INNER_PRODUCT) != 0);
    CHECK_CONTAINS(faiss_get_last_error(), "no such recipe");
    faiss_Index_free(index);

    REQUIRE(faiss_index_factory(&flat, 8, "Flat", METRIC_INNER_PRODUCT) == 0);
    CHECK_INT(idx_shim_is_hnsw(flat), 0);
    CHECK(idx_shim_set_ef_construction(flat, 40) != 0); /* a flat index has no such thing */
    CHECK_CONTAINS(faiss_get_last_error(), "cast");
    CHECK(idx_shim_own_distances(flat) != 0);
    faiss_Index_free(flat);
    return test_end();
}
