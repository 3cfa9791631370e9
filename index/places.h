/* places.h: where the matches of a filter lie in a segment's lists (parts.h): how many there are in each, and a bit map in the order of the
 * lists, in which a list is a few words. Counts alone take half the time, and say which lists there is no need to read. A row that died since its
 * list was made may be among them; none that lives in a list is missing. */
#ifndef LK_PLACES_H
#define LK_PLACES_H

#include "bits.h"
#include "parts.h"

typedef struct {
    idx_bits bits;   /* [parts->rows]; none = counts alone */
    uint32_t *count; /* [parts->n_lists] and one more */
} idx_places;

static inline bool idx_places_are_marked(const idx_places *s) { return s->bits.w != NULL; }

/* Of all matches, in lists that have an index from items. False = no memory. */
IDX_CHECK bool idx_places_find(const idx_parts *p, idx_bits matches, idx_places *out);
/* Counts alone; in lists that have an index to lists as well. */
IDX_CHECK bool idx_places_count(const idx_parts *p, idx_bits matches, idx_places *out);
void idx_places_fini(idx_places *s); /* leaves it empty, as which it may be, too */
uint64_t idx_places_bytes(const idx_places *s, const idx_parts *p);
/* Item became a match, or none any more. */
void idx_places_set(idx_places *s, const idx_parts *p, uint32_t item, bool matches);
/* The places from..to - 1 that hold matches to out, which has room for as many; returns how many. */
uint32_t idx_places_in(const idx_places *s, uint32_t from, uint32_t to, uint32_t *out);

#endif
