/* ids.c: see ids.h. A chunk holds entries one behind the other: u32 item (IDX_NONE = a hole), the id with its NUL, padding to 4. */
#include "ids.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 16, UNITS = CHUNK_BYTES / 4 };
#define HOLE UINT32_MAX

struct idx_ids_chunk {
    uint32_t used, live; /* bytes */
    char bytes[CHUNK_BYTES];
};
typedef struct idx_ids_chunk chunk;

static uint32_t entry_bytes(const char *id) { return (uint32_t)((sizeof(uint32_t) + strlen(id) + 1 + 3) / 4 * 4); }
static char *entry(const idx_ids *s, idx_id_at at) { return s->chunks[at / UNITS]->bytes + at % UNITS * 4; }

const char *idx_ids_get(const idx_ids *s, idx_id_at at) { return entry(s, at) + sizeof(uint32_t); }

static bool chunk_add(idx_ids *s)
{
    uint32_t n = 1; /* chunk 0 does not exist, so that no place is 0 */
    while (n < s->n_chunks && s->chunks[n] != NULL) n++;
    if (n >= s->cap_chunks) {
        uint32_t cap = s->cap_chunks * 2 + 16;
        chunk **more = realloc(s->chunks, cap * sizeof(chunk *));
        if (more == NULL) return false;
        s->chunks = more;
        memset(more + s->cap_chunks, 0, (cap - s->cap_chunks) * sizeof(chunk *));
        s->cap_chunks = cap;
    }
    chunk *c = malloc(sizeof *c);
    if (c == NULL) return false;
    c->used = c->live = 0;
    s->chunks[n] = c;
    if (n >= s->n_chunks) s->n_chunks = n + 1;
    s->current = n;
    return true;
}

bool idx_ids_add(idx_ids *s, const char *id, uint32_t item, idx_id_at *at)
{
    uint32_t n = entry_bytes(id);
    if ((s->current == 0 || s->chunks[s->current]->used + n > CHUNK_BYTES) && !chunk_add(s)) return false;
    chunk *c = s->chunks[s->current];
    *at = s->current * UNITS + c->used / 4;
    memcpy(c->bytes + c->used, &item, sizeof item);
    strcpy(c->bytes + c->used + sizeof item, id);
    c->used += n;
    c->live += n;
    return true;
}

void idx_ids_remove(idx_ids *s, idx_id_at at, void (*moved)(void *ctx, uint32_t item, idx_id_at at), void *ctx)
{
    static const uint32_t hole = HOLE;
    uint32_t number = at / UNITS;
    chunk *c = s->chunks[number];
    memcpy(entry(s, at), &hole, sizeof hole);
    c->live -= entry_bytes(idx_ids_get(s, at));
    if (number == s->current || c->live * 2 > c->used) return;
    for (uint32_t i = 0; i < c->used; i += entry_bytes(c->bytes + i + sizeof(uint32_t))) {
        uint32_t item;
        idx_id_at to;
        memcpy(&item, c->bytes + i, sizeof item);
        if (item == HOLE) continue;
        if (!idx_ids_add(s, c->bytes + i + sizeof item, item, &to)) return; /* what has moved leaves holes; another time */
        memcpy(c->bytes + i, &hole, sizeof hole);
        c->live -= entry_bytes(c->bytes + i + sizeof item);
        moved(ctx, item, to);
    }
    free(c);
    s->chunks[number] = NULL;
}

void idx_ids_fini(idx_ids *s)
{
    for (uint32_t i = 0; i < s->n_chunks; i++) free(s->chunks[i]);
    free(s->chunks);
    *s = (idx_ids){0};
}

uint64_t idx_ids_bytes(const idx_ids *s)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < s->n_chunks; i++) n += s->chunks[i] != NULL ? sizeof(chunk) : 0;
    return n;
}
