/* sorted.h: the items of a number column in the order of their numbers, so that a range is a run of them.
 *
 * The run is kept in blocks, as the leaves of a B+ tree are, so that a write moves some hundred bytes. Long runs would cost a
 * bit set each: marks at every so many items hold all that are below a number as a bit map, and a range is the difference of
 * two of them and what lies between them and its ends. */
#ifndef LK_SORTED_H
#define LK_SORTED_H

#include "bits.h"
#include "column.h"
#include "number.h"

typedef struct idx_sorted idx_sorted;

/* numbers: the column with the items' numbers, borrowed. */
idx_sorted *idx_sorted_new(const idx_column *numbers); /* NULL = no memory */
void idx_sorted_free(idx_sorted *s);
/* From all items of the column at once, for a start. */
IDX_CHECK bool idx_sorted_fill(idx_sorted *s);
/* Around a change of the column: remove before, add after it. */
IDX_CHECK bool idx_sorted_add(idx_sorted *s, uint32_t item);
void idx_sorted_remove(idx_sorted *s, uint32_t item);
uint32_t idx_sorted_count(const idx_sorted *s);
/* How many items have a number below `v`, or (equal) not above it. */
uint32_t idx_sorted_rank(const idx_sorted *s, double v, bool equal);
uint32_t idx_sorted_at(const idx_sorted *s, uint32_t rank); /* the item there */
/* Sets the bits of the items at ranks from <= r < to; b is clear before. */
void idx_sorted_range(const idx_sorted *s, uint32_t from, uint32_t to, idx_bits b);
/* In order, or from the end; stops when fn says false. */
typedef bool idx_sorted_fn(void *ctx, uint32_t item, double number);
void idx_sorted_each(const idx_sorted *s, bool backwards, idx_sorted_fn *fn, void *ctx);
/* The items at ranks from <= r < to. */
void idx_sorted_run(const idx_sorted *s, uint32_t from, uint32_t to, idx_sorted_fn *fn, void *ctx);
uint64_t idx_sorted_bytes(const idx_sorted *s);
bool idx_sorted_check(const idx_sorted *s); /* in order, complete, and the marks agree */

#endif
