/* values.h: the texts that an attribute has, numbered, and who has each: as its value, or in its list. A text that nobody has any
 * more is forgotten, and its number used again. */
#ifndef LK_VALUES_H
#define LK_VALUES_H

#include "posting.h"
#include "slots.h"

typedef struct {
    const char *text; /* NULL = this number is free */
    idx_posting scalar;
    uint32_t hash; /* of a free one: the next free one */
} idx_value;

typedef struct {
    idx_value *v;
    idx_posting *listed; /* [number]; NULL = nobody has a list */
    uint32_t n, cap, live;
    idx_slots slots; /* text -> number */
    uint32_t spare;        /* a free number + 1 */
    uint64_t text_bytes;   /* of all texts, with their NULs */
    const char *kept, *kept_end; /* texts in here are of one piece of memory (malloc'd), others of their own */
    char *kept_room; /* from here on it is free; NULL = it is full */
} idx_values; /* zero-initialised = empty */

void idx_values_free(idx_values *d);
uint32_t idx_values_find(const idx_values *d, const char *text); /* UINT32_MAX = none */
/* The number of a text, a new one if need be; UINT32_MAX = no memory. */
uint32_t idx_values_make(idx_values *d, const char *text);
/* Of an empty `d`: room for as many texts as `like` has, and no more; false = no memory. */
IDX_CHECK bool idx_values_room_like(idx_values *d, const idx_values *like);
/* At a start, in this order and nothing else between: room for numbers below n in an empty `d` (false = no memory); texts of the kept
 * range, with the hash that idx_value had of each, get a number each (false = it is taken); the numbers in between become free ones, and
 * texts are found from then on. */
IDX_CHECK bool idx_values_reserve(idx_values *d, uint32_t n);
IDX_CHECK bool idx_values_place(idx_values *d, uint32_t value, const char *text, uint32_t hash);
void idx_values_placed(idx_values *d);
IDX_CHECK bool idx_values_add(idx_values *d, uint32_t value, uint32_t item, bool listed); /* the item has it */
/* Takes the item out of a value's posting, and forgets the value with its last item. */
void idx_values_drop(idx_values *d, uint32_t value, uint32_t item, bool listed);
/* NULL = nobody has it there. */
static inline const idx_posting *idx_values_posting(const idx_values *d, uint32_t value, bool listed)
{
    return !listed ? &d->v[value].scalar : d->listed != NULL ? &d->listed[value] : NULL;
}
uint64_t idx_values_bytes(const idx_values *d);

#endif
