/* segment.c: see segment.h. */
#include "segment.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

/* Addresses for the most rows there can be; pages of it are taken as they are written to. */
static void *reserve(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static void give_back(void *p, size_t bytes)
{
    if (p != NULL) munmap(p, bytes);
}

idx_status idx_segment_new(idx_storage storage, uint32_t dim, uint64_t number, idx_segment **out, idx_error *err)
{
    idx_segment *g = calloc(1, sizeof *g);
    if (g == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a segment");
    g->number = number;
    g->item = reserve(IDX_MAX_ROWS * sizeof *g->item);
    g->n = reserve(IDX_MAX_ROWS);
    g->alive = reserve(IDX_MAX_ROWS / 8);
    idx_status st = g->item == NULL || g->n == NULL || g->alive == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a segment")
                                                                        : idx_rows_new(storage, dim, &g->v, err);
    if (st == IDX_OK && getrandom(g->tag, sizeof g->tag, 0) != (ssize_t)sizeof g->tag) st = idx_fail(err, IDX_EIO, "no random numbers");
    if (st != IDX_OK) idx_segment_free(g);
    else *out = g;
    return st;
}

void idx_segment_free(idx_segment *g)
{
    if (g == NULL) return;
    idx_ann_free(g->ann);
    idx_parts_free(g->parts);
    idx_rows_free(g->v);
    give_back(g->item, IDX_MAX_ROWS * sizeof *g->item);
    give_back(g->n, IDX_MAX_ROWS);
    give_back(g->alive, IDX_MAX_ROWS / 8);
    free(g);
}

static uint32_t appended(idx_segment *g)
{
    g->item[g->rows] = IDX_NONE;
    g->dead++;
    return g->rows++;
}

idx_status idx_segment_append(idx_segment *g, const float *vector, uint32_t *row, idx_error *err)
{
    idx_status st = idx_rows_room(g->v, g->rows, err);
    if (st != IDX_OK) return st;
    idx_rows_encode(g->v, vector, idx_rows_at(g->v, g->rows));
    *row = appended(g);
    return IDX_OK;
}

idx_status idx_segment_append_row(idx_segment *g, const uint8_t *bytes, uint32_t *row, idx_error *err)
{
    idx_status st = idx_rows_room(g->v, g->rows, err);
    if (st != IDX_OK) return st;
    memcpy(idx_rows_at(g->v, g->rows), bytes, g->v->stride);
    *row = appended(g);
    return IDX_OK;
}

void idx_segment_own(idx_segment *g, uint32_t row, uint32_t item, uint32_t n)
{
    __atomic_store_n(&g->item[row], item, __ATOMIC_RELAXED);
    if (n > 0) g->n[row] = (uint8_t)n;
    g->dead--;
    __atomic_fetch_or(&g->alive[row >> 6], UINT64_C(1) << (row & 63), __ATOMIC_RELAXED);
}

void idx_segment_kill(idx_segment *g, uint32_t row)
{
    __atomic_store_n(&g->item[row], IDX_NONE, __ATOMIC_RELAXED);
    g->dead++;
    __atomic_fetch_and(&g->alive[row >> 6], ~(UINT64_C(1) << (row & 63)), __ATOMIC_RELAXED);
}

idx_status idx_segment_graph_room(const idx_segment *g, uint32_t rows, uint32_t m, uint32_t ef_construction, idx_ann **out, idx_error *err)
{
    *out = NULL;
    if (g->ann != NULL && g->ann->g.capacity >= rows) return IDX_OK;
    const uint32_t room = idx_segment_graph_capacity(rows);
    return g->ann != NULL ? idx_ann_grown(g->ann, room, out, err) : idx_ann_new(g->v, m, ef_construction, room, out, err);
}

uint32_t idx_segment_fresh_alive(const idx_segment *g)
{
    uint32_t n = 0;
    for (uint32_t r = idx_segment_linked(g); r < g->rows; r++) n += g->item[r] != IDX_NONE;
    return n;
}
