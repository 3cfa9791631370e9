/* rows.c: see rows.h. */
#include "rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 4 << 20, HUGE_PAGE = 2 << 20, AHEAD = 16 };

static size_t number_bytes(idx_storage s) { return s == IDX_FLOAT32 ? 4 : s == IDX_FLOAT16 ? 2 : 1; }

size_t idx_rows_stride(idx_storage s, uint32_t dim) { return (dim * number_bytes(s) + IDX_ROW_ALIGN - 1) / IDX_ROW_ALIGN * IDX_ROW_ALIGN; }

idx_status idx_rows_new(idx_storage storage, uint32_t dim, idx_rows **out, idx_error *err)
{
    idx_rows *r = calloc(1, sizeof *r);
    if (r == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for vectors");
    *r = (idx_rows){.storage = storage, .dim = dim, .stride = idx_rows_stride(storage, dim), .k = idx_kernels_get()};
    r->padded = (uint32_t)(r->stride / number_bytes(storage));
    while ((r->stride << (r->shift + 1)) <= CHUNK_BYTES) r->shift++;
    r->chunks = calloc((size_t)IDX_MAX_ROWS >> r->shift, sizeof *r->chunks); /* pages of it are taken as they are used */
    if (r->chunks == NULL) {
        free(r);
        return idx_fail(err, IDX_ENOMEM, "no memory for vectors");
    }
    *out = r;
    return IDX_OK;
}

void idx_rows_free(idx_rows *r)
{
    if (r == NULL) return;
    for (uint32_t i = 0; i < r->n_chunks; i++) munmap(r->chunks[i], r->stride << r->shift);
    free(r->chunks);
    free(r);
}

/* On a huge page's boundary. */
static uint8_t *chunk_new(size_t bytes, bool huge)
{
    uint8_t *p = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return NULL;
    size_t before = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1)), page = 4096;
    bytes = (bytes + page - 1) / page * page;
    if (before > 0) munmap(p, before);
    if (before < HUGE_PAGE) munmap(p + before + bytes, HUGE_PAGE - before);
    madvise(p + before, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return p + before;
}

idx_status idx_rows_room(idx_rows *r, uint32_t i, idx_error *err)
{
    if (i >= IDX_MAX_ROWS) return idx_fail(err, IDX_EINVAL, "a segment has at most %d rows", IDX_MAX_ROWS);
    while (i >> r->shift >= r->n_chunks) {
        bool fills = (uint64_t)(r->n_chunks + 1) << r->shift <= r->expected;
        uint8_t *c = chunk_new(r->stride << r->shift, fills && r->n_chunks > 0);
        if (c == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for vectors");
        r->chunks[r->n_chunks++] = c;
        if (fills) r->n_settled = r->n_chunks;
    }
    if (i >= r->top) r->top = i + 1;
    return IDX_OK;
}

/* The kernel has MADV_COLLAPSE for this, which keeps every thread that wants a page or a processor waiting for 10 ms or more for each huge page:
 * here only the last step, to exchange the pages, is one that others wait for. */
static void gather(uint8_t *chunk, size_t bytes)
{
    uint8_t *p = chunk_new(bytes, true);
    if (p == NULL) return; /* it is as good where it is, only slower */
    memcpy(p, chunk, bytes);
    if (mremap(p, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, chunk) == MAP_FAILED) munmap(p, bytes);
}

void idx_rows_settle(idx_rows *r, uint32_t rows)
{
    const size_t bytes = (r->stride << r->shift) / HUGE_PAGE * HUGE_PAGE;
    for (; !idx_rows_settled(r, rows); r->n_settled++)
        if (r->n_settled > 0 && bytes > 0) gather(r->chunks[r->n_settled], bytes);
}

uint64_t idx_rows_bytes(const idx_rows *r) { return r->top * r->stride; }

/* ---- a row --------------------------------------------------------------------------------------------------------------- */

static float largest(const float *v, uint32_t dim)
{
    float most = 1e-30f;
    for (uint32_t i = 0; i < dim; i++) most = fmaxf(most, fabsf(v[i]));
    return most;
}

void idx_rows_encode(const idx_rows *r, const float *v, uint8_t *row)
{
    if (r->storage == IDX_FLOAT32) {
        memcpy(row, v, r->dim * sizeof *v);
        memset(row + r->dim * sizeof *v, 0, r->stride - r->dim * sizeof *v);
    } else if (r->storage == IDX_FLOAT16) {
        uint16_t *h = (uint16_t *)(void *)row;
        for (uint32_t i = 0; i < r->padded; i++) h[i] = i < r->dim ? idx_half_from_float(v[i]) : 0;
    } else {
        float scale = 127 / largest(v, r->dim);
        for (uint32_t i = 0; i < r->padded; i++) row[i] = (uint8_t)(128 + (i < r->dim ? (int)lrintf(v[i] * scale) : 0));
    }
}

static float length(const idx_rows *r, const uint8_t *row)
{
    static const _Alignas(IDX_ROW_ALIGN) int8_t zero[IDX_MAX_DIM];
    int32_t dot, square;
    r->k->i8_one(zero, row, r->padded, &dot, &square);
    return sqrtf((float)square);
}

void idx_rows_decode(const idx_rows *r, const uint8_t *row, float *v)
{
    if (r->storage == IDX_FLOAT32) {
        memcpy(v, row, r->dim * sizeof *v);
    } else if (r->storage == IDX_FLOAT16) {
        const uint16_t *h = (const uint16_t *)(const void *)row;
        for (uint32_t i = 0; i < r->dim; i++) v[i] = idx_half_to_float(h[i]);
    } else {
        float one = 1 / length(r, row);
        for (uint32_t i = 0; i < r->dim; i++) v[i] = (float)(row[i] - 128) * one;
    }
}

/* ---- queries ------------------------------------------------------------------------------------------------------------- */

size_t idx_probe_bytes(const idx_rows *r) { return r->padded * sizeof(float) + (r->storage == IDX_INT8 ? r->padded : 0); }

void idx_probe_query(idx_probe *p, const idx_rows *r, const float *query, void *room)
{
    float *f = room;
    memcpy(f, query, r->dim * sizeof *f);
    memset(f + r->dim, 0, (r->padded - r->dim) * sizeof *f);
    *p = (idx_probe){.rows = r, .f = f};
    if (r->storage != IDX_INT8) return;
    int8_t *b = (int8_t *)(f + r->padded);
    p->b_unit = largest(query, r->dim) / 127;
    for (uint32_t i = 0; i < r->padded; i++) b[i] = (int8_t)lrintf(f[i] / p->b_unit);
    p->b = b;
}

void idx_probe_row(idx_probe *p, const idx_rows *r, const uint8_t *row, void *room)
{
    *p = (idx_probe){.rows = r, .f = room};
    if (r->storage == IDX_FLOAT32) {
        p->f = (const float *)(const void *)row;
    } else if (r->storage == IDX_FLOAT16) {
        r->k->f16_widen((const uint16_t *)(const void *)row, r->padded, room);
    } else {
        for (uint32_t i = 0; i < r->padded; i += sizeof(uint64_t)) {
            uint64_t eight;
            memcpy(&eight, row + i, sizeof eight);
            eight ^= UINT64_C(0x8080808080808080);
            memcpy((uint8_t *)room + i, &eight, sizeof eight);
        }
        p->b = room;
        p->b_unit = 1 / length(r, row);
    }
}

float idx_probe_score(const idx_probe *p, const uint8_t *row)
{
    const idx_rows *r = p->rows;
    if (r->storage == IDX_FLOAT32) return r->k->f32_one(p->f, (const float *)(const void *)row, r->padded);
    if (r->storage == IDX_FLOAT16) return r->k->f16_one(p->f, (const uint16_t *)(const void *)row, r->padded);
    return r->k->f32_i8(p->f, row, r->padded) / length(r, row);
}

static inline void prefetch(const uint8_t *row, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
}

static void four(const idx_probe *p, const uint8_t *const row[4], float out[4])
{
    const idx_rows *r = p->rows;
    if (r->storage == IDX_FLOAT16) {
        r->k->f16_four(p->f, (const uint16_t *const *)(const void *)row, r->padded, out);
    } else if (r->storage == IDX_FLOAT32) {
        r->k->f32_four(p->f, (const float *const *)(const void *)row, r->padded, out);
    } else {
        int32_t dot[4], square[4];
        r->k->i8_four(p->b, row, r->padded, dot, square);
        for (int i = 0; i < 4; i++) out[i] = (float)dot[i] * p->b_unit / sqrtf((float)square[i]);
    }
}

void idx_probe_near(const idx_probe *p, const uint32_t *rows, uint32_t n, float *scores)
{
    const idx_rows *r = p->rows;
    const uint8_t *row[4];
    for (uint32_t i = 0; i < n && i < AHEAD; i++) prefetch(idx_rows_at(r, rows[i]), r->stride);
    uint32_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (uint32_t k = i + AHEAD; k < i + AHEAD + 4 && k < n; k++) prefetch(idx_rows_at(r, rows[k]), r->stride);
        for (uint32_t k = 0; k < 4; k++) row[k] = idx_rows_at(r, rows[i + k]);
        four(p, row, scores + i);
    }
    if (i == n) return;
    float last[4];
    for (uint32_t k = 0; k < 4; k++) row[k] = idx_rows_at(r, rows[i + k < n ? i + k : i]);
    four(p, row, last);
    memcpy(scores + i, last, (n - i) * sizeof *scores);
}

float idx_probe_slack(const idx_probe *p)
{
    double square = 0;
    for (uint32_t i = 0; p->b != NULL && i < p->rows->padded; i++) {
        double lost = (double)p->f[i] - (double)p->b[i] * (double)p->b_unit;
        square += lost * lost;
    }
    return (float)sqrt(square) + 1e-5f; /* and rounding */
}

void idx_probe_scores(const idx_probe *p, const uint32_t *rows, uint32_t n, float *scores)
{
    if (p->rows->storage != IDX_INT8) {
        idx_probe_near(p, rows, n, scores);
        return;
    }
    for (uint32_t i = 0; i < n && i < AHEAD; i++) prefetch(idx_rows_at(p->rows, rows[i]), p->rows->stride);
    for (uint32_t i = 0; i < n; i++) {
        if (i + AHEAD < n) prefetch(idx_rows_at(p->rows, rows[i + AHEAD]), p->rows->stride);
        scores[i] = idx_probe_score(p, idx_rows_at(p->rows, rows[i]));
    }
}
