/* posting.h: the items that share a value. Most values of an attribute like `title` belong to one item: it is kept in the word
 * itself; a few are an array, many a CRoaring bitmap. */
#ifndef LK_POSTING_H
#define LK_POSTING_H

#include "bits.h"

typedef struct {
    uintptr_t is; /* 0 = none; item * 4 + 1; array + 2; bitmap */
} idx_posting;

IDX_CHECK bool idx_posting_add(idx_posting *p, uint32_t item); /* false = no memory */
IDX_CHECK bool idx_posting_fill(idx_posting *p, const uint32_t *items, uint32_t n); /* an empty one, from items in ascending order */
void idx_posting_remove(idx_posting *p, uint32_t item);
void idx_posting_free(idx_posting *p);
bool idx_posting_has(const idx_posting *p, uint32_t item);
uint64_t idx_posting_count(const idx_posting *p);
uint64_t idx_posting_count_and(const idx_posting *p, idx_bits b); /* members that are in b */
void idx_posting_or(const idx_posting *p, idx_bits b); /* b = b OR p; members beyond the words are left out */
static inline bool idx_posting_empty(const idx_posting *p) { return p->is == 0; }

#endif
