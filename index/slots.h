/* slots.h: a hash table of numbers whose keys lie elsewhere. It becomes larger or smaller without moving everything at once, which in a
 * table of a million would stop all searches for some hundredths of a second: a new table takes over, and each change to it moves a
 * few numbers from the old one. Not thread-safe; finding changes nothing. */
#ifndef LK_SLOTS_H
#define LK_SLOTS_H

#include "error.h"

typedef struct { /* zero-initialised = empty */
    uint32_t *now, mask; /* number + 1; 0 = free */
    uint32_t *old, old_mask, at; /* NULL, or the table before: from slot `at` on its numbers are not in `now` yet */
} idx_slots;

typedef struct { /* of the numbers in a table */
    uint32_t (*hash)(const void *ctx, uint32_t number);
    bool (*is)(const void *ctx, uint32_t number, const void *key);
    const void *ctx;
} idx_slots_keys;

uint32_t idx_text_hash(const char *text); /* for keys that are texts: FNV-1a, folded */
uint32_t idx_slots_find(const idx_slots *s, const idx_slots_keys *k, uint32_t hash, const void *key); /* UINT32_MAX = not there */
/* A table of mask + 1 slots (a power of two, more than there will be numbers) from now on. false: no memory, all is as it was. */
IDX_CHECK bool idx_slots_resize(idx_slots *s, const idx_slots_keys *k, uint32_t mask);
/* A number that is not there; there is room for it. */
void idx_slots_add(idx_slots *s, const idx_slots_keys *k, uint32_t hash, uint32_t number);
/* n numbers (NULL: 0 .. n - 1) that are not there, into a table with room for them and none before it that waits: what adding each would do,
 * without waiting for memory each time. */
void idx_slots_fill(idx_slots *s, const idx_slots_keys *k, const uint32_t *numbers, uint32_t n);
/* A number that is there; its key, too. */
void idx_slots_remove(idx_slots *s, const idx_slots_keys *k, uint32_t hash, uint32_t number);
/* Moves `most` of the slots that still wait, without a change; false: none do. */
bool idx_slots_go_on(idx_slots *s, const idx_slots_keys *k, uint32_t most);
void idx_slots_fini(idx_slots *s);
uint64_t idx_slots_bytes(const idx_slots *s);

#endif
