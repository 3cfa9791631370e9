/* slots.c: see slots.h. Linear probing. */
#include "slots.h"

#include <stdlib.h>

enum { PIECE = 16 }; /* slots a change looks through: a table that has doubled is done long before it is full */
#define GONE UINT32_MAX /* in the old table: was taken out, and others may lie behind */

static uint32_t find_in(const uint32_t *slots, uint32_t mask, const idx_slots_keys *k, uint32_t hash, const void *key)
{
    if (slots == NULL) return UINT32_MAX;
    for (uint32_t i = hash & mask; slots[i] != 0; i = (i + 1) & mask)
        if (slots[i] != GONE && k->is(k->ctx, slots[i] - 1, key)) return slots[i] - 1;
    return UINT32_MAX;
}

uint32_t idx_text_hash(const char *s)
{
    uint64_t h = 1469598103934665603u;
    for (; *s; s++) h = (h ^ (uint8_t)*s) * 1099511628211u;
    return (uint32_t)(h ^ h >> 32);
}

uint32_t idx_slots_find(const idx_slots *s, const idx_slots_keys *k, uint32_t hash, const void *key)
{
    uint32_t number = find_in(s->now, s->mask, k, hash, key);
    return number != UINT32_MAX ? number : find_in(s->old, s->old_mask, k, hash, key);
}

static void put(idx_slots *s, uint32_t hash, uint32_t number)
{
    uint32_t i = hash & s->mask;
    while (s->now[i] != 0) i = (i + 1) & s->mask;
    s->now[i] = number + 1;
}

/* What has moved stays where it was, too, so that probing finds what lies behind it. */
static void move(idx_slots *s, const idx_slots_keys *k, uint32_t most)
{
    if (s->old == NULL) return;
    for (; most > 0 && s->at <= s->old_mask; most--, s->at++) {
        uint32_t v = s->old[s->at];
        if (v != 0 && v != GONE) put(s, k->hash(k->ctx, v - 1), v - 1);
    }
    if (s->at <= s->old_mask) return;
    free(s->old);
    s->old = NULL;
}

bool idx_slots_resize(idx_slots *s, const idx_slots_keys *k, uint32_t mask)
{
    uint32_t *slots = calloc((size_t)mask + 1, sizeof *slots);
    if (slots == NULL) return false;
    move(s, k, UINT32_MAX);
    *s = (idx_slots){.now = slots, .mask = mask, .old = s->now, .old_mask = s->mask};
    return true;
}

void idx_slots_add(idx_slots *s, const idx_slots_keys *k, uint32_t hash, uint32_t number)
{
    move(s, k, PIECE);
    put(s, hash, number);
}

void idx_slots_fill(idx_slots *s, const idx_slots_keys *k, const uint32_t *numbers, uint32_t n)
{
    enum { AHEAD = 16 };
    uint32_t hash[AHEAD], number[AHEAD];
    for (uint32_t from = 0; from < n; from += AHEAD) {
        uint32_t some = n - from < AHEAD ? n - from : AHEAD;
        for (uint32_t i = 0; i < some; i++) {
            number[i] = numbers != NULL ? numbers[from + i] : from + i;
            hash[i] = k->hash(k->ctx, number[i]);
            __builtin_prefetch(&s->now[hash[i] & s->mask]);
        }
        for (uint32_t i = 0; i < some; i++) put(s, hash[i], number[i]);
    }
}

static uint32_t place_of(const uint32_t *slots, uint32_t mask, uint32_t hash, uint32_t number)
{
    uint32_t i = hash & mask;
    while (slots[i] != 0 && slots[i] != number + 1) i = (i + 1) & mask;
    return i;
}

/* No marks are left behind: the run behind the hole moves up. */
static void close_hole(idx_slots *s, const idx_slots_keys *k, uint32_t hole)
{
    for (uint32_t i = hole;;) {
        i = (i + 1) & s->mask;
        if (s->now[i] == 0) break;
        uint32_t home = k->hash(k->ctx, s->now[i] - 1) & s->mask;
        if (((i - home) & s->mask) < ((i - hole) & s->mask)) continue;
        s->now[hole] = s->now[i];
        hole = i;
    }
    s->now[hole] = 0;
}

void idx_slots_remove(idx_slots *s, const idx_slots_keys *k, uint32_t hash, uint32_t number)
{
    uint32_t i = place_of(s->now, s->mask, hash, number);
    if (s->now[i] != 0) close_hole(s, k, i);
    if (s->old != NULL) {
        i = place_of(s->old, s->old_mask, hash, number);
        if (s->old[i] != 0) s->old[i] = GONE;
    }
    move(s, k, PIECE);
}

bool idx_slots_go_on(idx_slots *s, const idx_slots_keys *k, uint32_t most)
{
    move(s, k, most);
    return s->old != NULL;
}

void idx_slots_fini(idx_slots *s)
{
    free(s->now);
    free(s->old);
    *s = (idx_slots){0};
}

uint64_t idx_slots_bytes(const idx_slots *s)
{
    return ((s->now != NULL ? s->mask + UINT64_C(1) : 0) + (s->old != NULL ? s->old_mask + UINT64_C(1) : 0)) * sizeof *s->now;
}
