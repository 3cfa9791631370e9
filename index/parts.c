/* parts.c: see parts.h. As many lists as the square root of the rows, around centroids that FAISS's k-means finds on a sample.
 *
 * PARTS FILE (derived.h), little endian: "LKPART\1\0", tag[32], rows u32, dim u32, lists u32, 0 u32, start, row, centroid */
#include "parts.h"
#include "derived.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTS = 4096, SAMPLE = 64, ITERATIONS = 8, BLOCK = 16384 };

static const char magic[8] = {'L', 'K', 'P', 'A', 'R', 'T', 1, 0};

typedef struct {
    char magic[8];
    uint8_t tag[32];
    uint32_t rows, dim, lists, zero;
} header;

static uint32_t lists_for(uint32_t rows)
{
    double n = rows < IDX_PARTS_MIN_ROWS ? 1 : sqrt(rows);
    return n > MAX_LISTS ? MAX_LISTS : (uint32_t)n;
}

static idx_parts *parts_new(uint32_t rows, uint32_t dim, uint32_t lists)
{
    idx_parts *p = calloc(1, sizeof *p);
    if (p == NULL) return NULL;
    *p = (idx_parts){.rows = rows, .dim = dim, .n_lists = lists, .start = calloc(lists + 1u, sizeof *p->start), .row = malloc((rows + 1u) * sizeof *p->row),
                     .item = malloc((rows + 1u) * sizeof *p->item), .centroid = calloc((size_t)lists * dim, sizeof *p->centroid)};
    if (p->start != NULL && p->row != NULL && p->item != NULL && p->centroid != NULL) return p;
    idx_parts_free(p);
    return NULL;
}

void idx_parts_free(idx_parts *p)
{
    if (p == NULL) return;
    free(p->start);
    free(p->row);
    free(p->item);
    free(p->centroid);
    free(p);
}

static idx_status copy_rows(const idx_ann *a, uint32_t from, uint32_t step, uint32_t n, uint32_t dim, float *out, idx_error *err)
{
    idx_status st = IDX_OK;
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) st = idx_ann_row(a, from + (uint64_t)i * step, out + (size_t)i * dim, err);
    return st;
}

static idx_status train(const idx_ann *a, idx_parts *p, const _Atomic bool *stop, idx_error *err)
{
    uint32_t n = p->n_lists * SAMPLE < p->rows ? p->n_lists * SAMPLE : p->rows;
    float *sample = malloc((size_t)n * p->dim * sizeof *sample);
    if (sample == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for lists");
    idx_status st = copy_rows(a, 0, p->rows / n, n, p->dim, sample, err);
    for (int i = 0; st == IDX_OK && i < ITERATIONS; i++)
        st = *stop ? idx_fail(err, IDX_EBUSY, "stopping") : idx_ann_cluster(sample, n, p->dim, p->n_lists, i > 0, p->centroid, err);
    free(sample);
    return st;
}

/* label[row]: its list. */
static idx_status assign(const idx_ann *a, const idx_parts *p, const _Atomic bool *stop, uint32_t *label, idx_error *err)
{
    float *rows = malloc((size_t)BLOCK * p->dim * sizeof *rows);
    idx_status st = rows == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    for (uint32_t at = 0; st == IDX_OK && at < p->rows; at += BLOCK) {
        uint32_t n = p->rows - at < BLOCK ? p->rows - at : BLOCK;
        st = *stop ? idx_fail(err, IDX_EBUSY, "stopping") : copy_rows(a, at, 1, n, p->dim, rows, err);
        if (st == IDX_OK) st = idx_ann_nearest(p->centroid, p->n_lists, p->dim, rows, n, label + at, err);
    }
    free(rows);
    return st;
}

idx_status idx_parts_build(const idx_ann *a, uint32_t rows, uint32_t dim, const _Atomic bool *stop, idx_parts **out, idx_error *err)
{
    idx_parts *p = parts_new(rows, dim, lists_for(rows));
    uint32_t *label = calloc(rows + 1u, sizeof *label);
    idx_status st = p == NULL || label == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : IDX_OK;
    if (st == IDX_OK && p->n_lists > 1) st = train(a, p, stop, err);
    if (st == IDX_OK && p->n_lists > 1) st = assign(a, p, stop, label, err);
    if (st == IDX_OK) {
        for (uint32_t r = 0; r < rows; r++) p->start[label[r] + 1]++;
        for (uint32_t i = 0; i < p->n_lists; i++) p->start[i + 1] += p->start[i];
        for (uint32_t r = 0; r < rows; r++) p->row[p->start[label[r]]++] = r;
        memmove(p->start + 1, p->start, p->n_lists * sizeof *p->start);
        p->start[0] = 0;
        *out = p;
    } else {
        idx_parts_free(p);
    }
    free(label);
    return st;
}

idx_status idx_parts_write(const idx_parts *p, const char *path, const uint8_t tag[32], idx_error *err)
{
    header h = {.rows = p->rows, .dim = p->dim, .lists = p->n_lists};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.tag, tag, sizeof h.tag);
    idx_derived_out o;
    idx_status st = idx_derived_create(&o, path, err);
    if (st != IDX_OK) return st;
    idx_derived_put(&o, &h, sizeof h);
    idx_derived_put(&o, p->start, (p->n_lists + 1u) * sizeof *p->start);
    idx_derived_put(&o, p->row, p->rows * sizeof *p->row);
    idx_derived_put(&o, p->centroid, (size_t)p->n_lists * p->dim * sizeof *p->centroid);
    return idx_derived_close(&o, true, err);
}

/* The digest says that it is what was written; this, that it can be used. */
static bool sound(const idx_parts *p)
{
    if (p->start[0] != 0 || p->start[p->n_lists] != p->rows) return false;
    for (uint32_t i = 0; i < p->n_lists; i++) {
        if (p->start[i] > p->start[i + 1]) return false;
        for (uint32_t j = p->start[i]; j < p->start[i + 1]; j++)
            if (p->row[j] >= p->rows || (j > p->start[i] && p->row[j] <= p->row[j - 1])) return false;
    }
    return true;
}

idx_status idx_parts_read(const char *path, uint32_t rows, uint32_t dim, const uint8_t tag[32], idx_parts **out, idx_error *err)
{
    idx_derived_in in;
    idx_status st = idx_derived_open(&in, path, err);
    if (st != IDX_OK) return st;
    const header *h = idx_derived_take(&in, sizeof *h);
    bool ok = h != NULL && memcmp(h->magic, magic, sizeof magic) == 0 && memcmp(h->tag, tag, sizeof h->tag) == 0 && h->rows == rows && h->dim == dim &&
              h->lists >= 1 && h->lists <= MAX_LISTS;
    idx_parts *p = ok ? parts_new(rows, dim, h->lists) : NULL;
    if (p != NULL) {
        const void *start = idx_derived_take(&in, (p->n_lists + 1u) * sizeof *p->start), *row = idx_derived_take(&in, rows * sizeof *p->row),
                   *centroid = idx_derived_take(&in, (size_t)p->n_lists * dim * sizeof *p->centroid);
        if ((ok = start != NULL && row != NULL && centroid != NULL)) {
            memcpy(p->start, start, (p->n_lists + 1u) * sizeof *p->start);
            memcpy(p->row, row, rows * sizeof *p->row);
            memcpy(p->centroid, centroid, (size_t)p->n_lists * dim * sizeof *p->centroid);
            ok = sound(p);
        }
    }
    idx_derived_unmap(&in);
    if (ok && p != NULL) {
        *out = p;
        return IDX_OK;
    }
    st = ok ? idx_fail(err, IDX_ENOMEM, "no memory for lists") : idx_fail(err, IDX_ECORRUPT, "%s is of something else", path);
    idx_parts_free(p);
    return st;
}
