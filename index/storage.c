/* storage.c: see storage.h. */
#include "storage.h"

#include <stdlib.h>
#include <string.h>

/* Of 128 queries with 10 neighbours each one miss is 0.0008. More images lie closer together: from some ten thousand to some million
 * of them the gaps between neighbours shrink by a third at most (the dimension that embeddings really have is 15 and more), and misses
 * grow as much; so what is asked for here is a quarter less than the 0.01 that is promised. */
enum { QUERIES = 128, BASE = 20000, K = 10 };
static const double WANT = 1 - 0.01 * 0.75;

typedef struct {
    float score;
    uint32_t i;
} near;

static void ten_best(const idx_probe *p, uint32_t n, uint32_t self, uint32_t *numbers, float *scores, near best[K])
{
    for (uint32_t i = 0; i < n; i++) numbers[i] = i;
    idx_probe_scores(p, numbers, n, scores);
    for (int k = 0; k < K; k++) best[k] = (near){-2, UINT32_MAX};
    for (uint32_t i = 0; i < n; i++) {
        if (i == self || scores[i] <= best[K - 1].score) continue;
        int k = K - 1;
        for (; k > 0 && best[k - 1].score < scores[i]; k--) best[k] = best[k - 1];
        best[k] = (near){scores[i], i};
    }
}

/* Rows of a sample, kept in some way. */
static idx_status copy_as(idx_storage s, uint32_t dim, const float *sample, uint32_t n, idx_rows **out, idx_error *err)
{
    idx_status st = idx_rows_new(s, dim, out, err);
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) {
        st = idx_rows_room(*out, i, err);
        if (st == IDX_OK) idx_rows_encode(*out, sample + (size_t)i * dim, idx_rows_at(*out, i));
    }
    return st;
}

typedef struct {
    const float *sample;
    uint32_t n, dim;
    uint32_t *numbers;
    float *scores;
    near truth[QUERIES][K];
    const _Atomic bool *stop;
} trial;

/* want: NULL = this is the truth. */
static idx_status run_queries(trial *t, idx_storage s, double *recall, idx_error *err)
{
    idx_rows *v = NULL;
    void *room = NULL;
    uint32_t hits = 0;
    idx_status st = copy_as(s, t->dim, t->sample, t->n, &v, err);
    if (st == IDX_OK && (room = aligned_alloc(IDX_ROW_ALIGN, (idx_probe_bytes(v) + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN)) == NULL)
        st = idx_fail(err, IDX_ENOMEM, "no memory for a trial");
    for (uint32_t q = 0; st == IDX_OK && q < QUERIES; q++) {
        uint32_t self = (uint32_t)((uint64_t)q * t->n / QUERIES);
        idx_probe p;
        near got[K];
        if (*t->stop) st = idx_fail(err, IDX_EBUSY, "stopping");
        idx_probe_query(&p, v, t->sample + (size_t)self * t->dim, room);
        ten_best(&p, t->n, self, t->numbers, t->scores, recall == NULL ? t->truth[q] : got);
        for (int k = 0; recall != NULL && k < K; k++) /* as near as the tenth is as good: of equal images any will do */
            hits += got[k].i != UINT32_MAX && idx_dot(t->sample + (size_t)self * t->dim, t->sample + (size_t)got[k].i * t->dim, t->dim) >= t->truth[q][K - 1].score - 1e-6f;
    }
    if (recall != NULL) *recall = (double)hits / (QUERIES * K);
    free(room);
    idx_rows_free(v);
    return st;
}

idx_status idx_storage_choose(const idx_rows *v, const uint32_t *rows, uint32_t n, const _Atomic bool *stop, idx_storage *out, double recall[2], idx_error *err)
{
    uint32_t some = n < BASE ? n : BASE;
    float *sample = malloc((size_t)some * v->dim * sizeof *sample), *scores = malloc(some * sizeof *scores);
    uint32_t *numbers = malloc(some * sizeof *numbers);
    trial *t = malloc(sizeof *t);
    idx_status st = sample == NULL || scores == NULL || numbers == NULL || t == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a trial") : IDX_OK;
    if (st == IDX_OK) {
        for (uint32_t i = 0; i < some; i++) idx_rows_decode(v, idx_rows_at(v, rows[(uint64_t)i * n / some]), sample + (size_t)i * v->dim);
        *t = (trial){.sample = sample, .n = some, .dim = v->dim, .numbers = numbers, .scores = scores, .stop = stop};
        st = run_queries(t, IDX_FLOAT32, NULL, err);
    }
    if (st == IDX_OK) st = run_queries(t, IDX_INT8, &recall[0], err);
    if (st == IDX_OK) st = run_queries(t, IDX_FLOAT16, &recall[1], err);
    if (st == IDX_OK) *out = recall[0] >= WANT ? IDX_INT8 : recall[1] >= WANT ? IDX_FLOAT16 : IDX_FLOAT32;
    free(t);
    free(numbers);
    free(scores);
    free(sample);
    return st;
}
