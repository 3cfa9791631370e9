/* rows.h: the vectors of one segment, in the order they came, as float32, float16 or int8 (dot.h says what a row is), and queries
 * made ready for them.
 *
 * Rows lie in chunks of some megabytes, and never move. Full chunks come to lie on huge pages where the kernel has them (a walk through a
 * graph touches rows at random: with pages of 4 KiB each costs a miss of the TLB as well); the first and the last keep to small ones, as what
 * is small shall be small. Threads: one adds, under the catalogue's exclusive lock; whoever learned of a row under the lock may read it
 * without. */
#ifndef LK_ROWS_H
#define LK_ROWS_H

#include "dot.h"
#include "error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { IDX_MAX_ROWS = 1 << 22 }; /* of a segment */

typedef struct {
    idx_storage storage;
    uint32_t dim, padded; /* numbers of a row; with its padding */
    size_t stride;        /* bytes from row to row, whole cache lines */
    uint32_t shift;       /* a chunk has 1 << shift rows */
    uint32_t n_chunks, n_settled; /* of them, the first few are full and have their pages */
    uint32_t top;         /* rows there is room for, as asked */
    uint32_t expected;    /* rows that are sure to come: chunks full of them are made with huge pages; 0 = not known */
    uint8_t **chunks;     /* room for those of IDX_MAX_ROWS */
    const idx_kernels *k;
} idx_rows;

IDX_CHECK idx_status idx_rows_new(idx_storage storage, uint32_t dim, idx_rows **out, idx_error *err);
void idx_rows_free(idx_rows *r);
size_t idx_rows_stride(idx_storage storage, uint32_t dim);
/* Makes row i writable; rows are filled from 0 on. */
IDX_CHECK idx_status idx_rows_room(idx_rows *r, uint32_t i, idx_error *err);
static inline uint8_t *idx_rows_at(const idx_rows *r, uint32_t i)
{
    return r->chunks[i >> r->shift] + (size_t)(i & ((1u << r->shift) - 1)) * r->stride;
}
/* Huge pages for the chunks that the first `rows` fill, which are never written again; a millisecond or some for each, in which other threads may
 * read them. One thread at a time; chunks may be added meanwhile. */
void idx_rows_settle(idx_rows *r, uint32_t rows);
static inline bool idx_rows_settled(const idx_rows *r, uint32_t rows) { return r->n_settled >= rows >> r->shift; }
/* How a vector is kept: `stride` bytes, padding included. */
void idx_rows_encode(const idx_rows *r, const float *v, uint8_t *row);
/* What a row stands for: dim floats, of an int8 row length 1. */
void idx_rows_decode(const idx_rows *r, const uint8_t *row, float *v);
uint64_t idx_rows_bytes(const idx_rows *r);

/* ---- queries ------------------------------------------------------------------------------------------------------------- */

typedef struct {
    const idx_rows *rows;
    const float *f;  /* padded; for the score */
    const int8_t *b; /* padded; for walks among int8 rows */
    float b_unit;    /* what 1 in b is worth */
} idx_probe;

/* Room for a probe: bytes, on a cache line. */
size_t idx_probe_bytes(const idx_rows *r);
void idx_probe_query(idx_probe *p, const idx_rows *r, const float *query, void *room);
/* A row as the query, for walks only. */
void idx_probe_row(idx_probe *p, const idx_rows *r, const uint8_t *row, void *room);

/* THE SCORE of a row: the cosine of the float query and what the row stands for. */
float idx_probe_score(const idx_probe *p, const uint8_t *row);
/* The same of n rows: the same bits, faster. */
void idx_probe_scores(const idx_probe *p, const uint32_t *rows, uint32_t n, float *scores);
/* What a walk goes by: the score itself, or among int8 rows one of a query in bytes, too. */
void idx_probe_near(const idx_probe *p, const uint32_t *rows, uint32_t n, float *scores);
/* By how much the two differ at most: the length of what the query lost in bytes, as a row has length 1. */
float idx_probe_slack(const idx_probe *p);
/* Whether the two differ. */
static inline bool idx_probe_is_coarse(const idx_probe *p) { return p->rows->storage == IDX_INT8; }

#ifdef __cplusplus
}
#endif

#endif
