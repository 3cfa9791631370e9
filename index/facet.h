/* facet.h: what a set of items has: how many of each value, how many numbers in each range. */
#ifndef LK_FACET_H
#define LK_FACET_H

#include "attrs.h"

/* items: those to count over, `n` of them. Fills *out, which idx_facet_fini empties, also after failure. Under the catalogue's lock. */
IDX_CHECK idx_status idx_facet_count(const idx_attrs *a, idx_bits items, uint64_t n, const idx_facet *facet, idx_facet_counts *out, idx_error *err);
void idx_facet_fini(idx_facet_counts *c);
/* Names, limits and ranges are allowed: IDX_EINVAL says which facet is not. */
IDX_CHECK idx_status idx_facets_check(const idx_facet *facets, size_t n, idx_error *err);

#endif
