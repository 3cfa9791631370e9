/* candidates.h: what the ways to candidates share: candidates.c has all but the lists, candidates_lists.c has those. */
#ifndef LK_CANDIDATES_H
#define LK_CANDIDATES_H

#include "outlook.h"
#include "search.h"

enum { IDX_BATCH = 256 };
typedef struct { /* rows of one segment on their way to their scores */
    const idx_segment *g;
    uint32_t n, row[IDX_BATCH], item[IDX_BATCH];
    idx_outlook *outlook; /* that learns of their scores, NULL = nobody does; */
    float list_score[IDX_BATCH]; /* then those of their lists */
} idx_batch;

/* Offers them to the pool. */
IDX_CHECK idx_status idx_batch_flush(idx_finder *f, idx_batch *b);
IDX_CHECK idx_status idx_late(const idx_finder *f);
/* The matching rows of the nearest lists of all segments; there is a filter. */
IDX_CHECK idx_status idx_read_lists(idx_finder *f);

#endif
