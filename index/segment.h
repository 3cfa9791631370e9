/* segment.h: a segment: vectors in arrival order, a graph over the first of them, and whose they are.
 *
 * A catalogue's vectors lie in one segment, mostly: rows are appended by the writer, and the keeper links them into the graph a little
 * later, in place, while searches run. Rows behind the linked ones are FRESH: searches compare all of them. A row whose image is gone
 * is DEAD: a walk may step on it, no answer has it. When many are dead the keeper makes a new segment of the living (keeper.c).
 *
 * Threads: the catalogue's lock covers everything but the links. item, n and alive lie at fixed addresses, so that the keeper
 * may read `item` and `alive` as relaxed atomics without the lock. */
#ifndef LK_SEGMENT_H
#define LK_SEGMENT_H

#include "ann.h"
#include "parts.h"

#define IDX_NONE UINT32_MAX

typedef struct idx_segment {
    idx_rows *v;
    idx_ann *ann;   /* NULL = nothing is linked yet */
    uint32_t rows, dead;
    uint32_t *item; /* [row] item number, IDX_NONE = dead */
    uint8_t *n;     /* [row] which of the item's images */
    uint64_t *alive; /* a bit for each row */
    uint32_t slot;  /* places name it by this */
    uint64_t number; /* of its files */
    uint8_t tag[16]; /* of its content: rows of one tag never change */
    uint32_t saved, graph_saved; /* rows in the files; segment_file.c */
    uint32_t careful_saved;      /* and of the graph's, those that were not linked in a hurry (ann.h) */
    uint64_t file_bytes;         /* of the rows file, up to its last good block */
    idx_parts *parts; /* NULL = not made yet (lists.h) */
    struct {          /* of the keeper alone, once many have died (rebuild.c) */
        uint64_t since_ns, looked_ns;
        uint32_t dead; /* when it looked */
    } dying;
} idx_segment;

IDX_CHECK idx_status idx_segment_new(idx_storage storage, uint32_t dim, uint64_t number, idx_segment **out, idx_error *err);
void idx_segment_free(idx_segment *g);

static inline uint32_t idx_segment_linked(const idx_segment *g) { return g->ann != NULL ? idx_ann_linked(g->ann) : 0; }
static inline uint32_t idx_segment_careful(const idx_segment *g) { return g->ann != NULL ? idx_ann_careful(g->ann) : 0; }
static inline bool idx_segment_full(const idx_segment *g) { return g->rows == IDX_MAX_ROWS; }

/* Under the exclusive lock. Appends a row; it belongs to nobody until idx_segment_own(). */
IDX_CHECK idx_status idx_segment_append(idx_segment *g, const float *vector, uint32_t *row, idx_error *err);
IDX_CHECK idx_status idx_segment_append_row(idx_segment *g, const uint8_t *bytes, uint32_t *row, idx_error *err);
void idx_segment_own(idx_segment *g, uint32_t row, uint32_t item, uint32_t n);
void idx_segment_kill(idx_segment *g, uint32_t row);

/* What a graph of so many rows has room for: an eighth more, so that the copy it is when it grows is paid by the rows that come. */
static inline uint32_t idx_segment_graph_capacity(uint32_t rows)
{
    uint32_t room = rows + rows / 8 + 1024;
    return room < IDX_MAX_ROWS ? room : IDX_MAX_ROWS;
}
/* A graph with room for `rows` rows, all there are now, for the caller to put in the place of g->ann under the exclusive lock, which then gets free()d;
 * *out NULL: there is room. Nobody links meanwhile. */
IDX_CHECK idx_status idx_segment_graph_room(const idx_segment *g, uint32_t rows, uint32_t m, uint32_t ef_construction, idx_ann **out, idx_error *err);
uint32_t idx_segment_fresh_alive(const idx_segment *g); /* under the lock */

#endif
