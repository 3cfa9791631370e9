/* ids.h: the ids of a catalogue's items, packed: a million short ids take 20 MB here, where malloc takes 40 for them and keeps the
 * holes of those that went. */
#ifndef LK_IDS_H
#define LK_IDS_H

#include "error.h"

typedef struct { /* zero-initialised = empty */
    struct idx_ids_chunk **chunks; /* NULL = this number is free */
    uint32_t n_chunks, cap_chunks, current;
} idx_ids;

/* Where an id lies; not 0. */
typedef uint32_t idx_id_at;

/* False: no memory. */
IDX_CHECK bool idx_ids_add(idx_ids *s, const char *id, uint32_t item, idx_id_at *at);
const char *idx_ids_get(const idx_ids *s, idx_id_at at);
/* Takes one out. A chunk that is mostly holes then gives up: moved() learns where each id that was left in it is now. */
void idx_ids_remove(idx_ids *s, idx_id_at at, void (*moved)(void *ctx, uint32_t item, idx_id_at at), void *ctx);
void idx_ids_fini(idx_ids *s);
uint64_t idx_ids_bytes(const idx_ids *s);

#endif
