/* values.c: see values.h. */
#include "values.h"

#include <stdlib.h>
#include <string.h>

static bool is_kept(const idx_values *d, const char *text) { return text >= d->kept && text < d->kept_end; }

void idx_values_free(idx_values *d)
{
    for (uint32_t i = 0; i < d->n; i++) {
        idx_posting_free(&d->v[i].scalar);
        if (d->listed != NULL) idx_posting_free(&d->listed[i]);
        if (d->v[i].text != NULL && !is_kept(d, d->v[i].text)) free((char *)(uintptr_t)d->v[i].text);
    }
    free((char *)(uintptr_t)d->kept);
    free(d->v);
    idx_slots_fini(&d->slots);
    free(d->listed);
    *d = (idx_values){0};
}

static uint32_t hash_of_value(const void *ctx, uint32_t value) { return ((const idx_values *)ctx)->v[value].hash; }
static bool value_is(const void *ctx, uint32_t value, const void *text) { return strcmp(((const idx_values *)ctx)->v[value].text, text) == 0; }
static idx_slots_keys keys_of(const idx_values *d) { return (idx_slots_keys){hash_of_value, value_is, d}; }

static uint32_t find(const idx_values *d, const char *text, uint32_t h)
{
    idx_slots_keys k = keys_of(d);
    return idx_slots_find(&d->slots, &k, h, text);
}

uint32_t idx_values_find(const idx_values *d, const char *text) { return find(d, text, idx_text_hash(text)); }

static bool room(idx_values *d)
{
    if (d->spare != 0 || d->n < d->cap) return true;
    uint32_t cap = d->cap + d->cap / 2 + 8;
    idx_value *v = realloc(d->v, cap * sizeof *v);
    if (v == NULL) return false;
    d->v = v;
    if (d->listed != NULL) {
        idx_posting *listed = realloc(d->listed, cap * sizeof *listed);
        if (listed == NULL) return false;
        memset(listed + d->cap, 0, (cap - d->cap) * sizeof *listed);
        d->listed = listed;
    }
    d->cap = cap;
    return true;
}

static char *copy_of(idx_values *d, const char *text)
{
    size_t n = strlen(text) + 1;
    if (d->kept_room == NULL || (size_t)(d->kept_end - d->kept_room) < n) return strdup(text);
    char *to = d->kept_room;
    d->kept_room += n;
    return memcpy(to, text, n);
}

uint32_t idx_values_make(idx_values *d, const char *text)
{
    uint32_t h = idx_text_hash(text), at = find(d, text, h);
    if (at != UINT32_MAX) return at;
    idx_slots_keys k = keys_of(d);
    bool full = d->slots.now == NULL || (d->live + 1) * UINT64_C(4) > d->slots.mask * UINT64_C(3);
    if (full && !idx_slots_resize(&d->slots, &k, d->slots.now == NULL ? 7 : d->slots.mask * 2 + 1)) return UINT32_MAX;
    const char *copy = room(d) ? copy_of(d, text) : NULL;
    if (copy == NULL) return UINT32_MAX;
    at = d->spare != 0 ? d->spare - 1 : d->n++;
    if (d->spare != 0) d->spare = d->v[at].hash;
    d->v[at] = (idx_value){.text = copy, .hash = h};
    idx_slots_add(&d->slots, &k, h, at);
    d->live++;
    d->text_bytes += strlen(text) + 1;
    return at;
}

bool idx_values_add(idx_values *d, uint32_t value, uint32_t item, bool listed)
{
    if (listed && d->listed == NULL && (d->listed = calloc(d->cap, sizeof *d->listed)) == NULL) return false;
    return idx_posting_add(listed ? &d->listed[value] : &d->v[value].scalar, item);
}

void idx_values_drop(idx_values *d, uint32_t value, uint32_t item, bool listed)
{
    idx_value *v = &d->v[value];
    if (!listed) idx_posting_remove(&v->scalar, item);
    else if (d->listed != NULL) idx_posting_remove(&d->listed[value], item);
    if (!idx_posting_empty(&v->scalar) || (d->listed != NULL && !idx_posting_empty(&d->listed[value]))) return;
    idx_slots_keys k = keys_of(d);
    idx_slots_remove(&d->slots, &k, v->hash, value);
    d->text_bytes -= strlen(v->text) + 1;
    if (!is_kept(d, v->text)) free((char *)(uintptr_t)v->text);
    *v = (idx_value){.hash = d->spare};
    d->spare = value + 1;
    d->live--;
    if (d->slots.mask > 7 && d->live * UINT64_C(4) < d->slots.mask) (void)!idx_slots_resize(&d->slots, &k, d->slots.mask / 2); /* it can stay as it is */
}

static bool room_for(idx_values *d, uint32_t n)
{
    uint32_t mask = 7;
    while (mask / 4 * 3 < n) mask = mask * 2 + 1;
    idx_slots_keys k = keys_of(d);
    d->v = calloc(n + 1u, sizeof *d->v);
    d->cap = d->v != NULL ? n : 0;
    return d->v != NULL && idx_slots_resize(&d->slots, &k, mask);
}

bool idx_values_reserve(idx_values *d, uint32_t n)
{
    if (!room_for(d, n)) return false;
    d->n = n;
    return true;
}

bool idx_values_room_like(idx_values *d, const idx_values *like)
{
    char *texts = malloc(like->text_bytes + 1);
    if (texts == NULL) return false;
    d->kept = d->kept_room = texts;
    d->kept_end = texts + like->text_bytes + 1;
    return room_for(d, like->live);
}

bool idx_values_place(idx_values *d, uint32_t value, const char *text, uint32_t hash)
{
    if (value >= d->n || d->v[value].text != NULL) return false;
    d->v[value] = (idx_value){.text = text, .hash = hash};
    d->live++;
    d->text_bytes += strlen(text) + 1;
    return true;
}

void idx_values_placed(idx_values *d)
{
    idx_slots_keys k = keys_of(d);
    uint32_t some[256], n = 0;
    d->spare = 0;
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->v[i].text == NULL) d->v[i] = (idx_value){.hash = d->spare}, d->spare = i + 1;
        else some[n++] = i;
        if (n < sizeof some / sizeof *some && i + 1 < d->n) continue;
        idx_slots_fill(&d->slots, &k, some, n);
        n = 0;
    }
}

uint64_t idx_values_bytes(const idx_values *d)
{
    uint64_t sum = d->cap * (sizeof *d->v + (d->listed != NULL ? sizeof *d->listed : 0)) + idx_slots_bytes(&d->slots) + (uint64_t)(d->kept_end - d->kept);
    for (uint32_t i = 0; i < d->n; i++)
        if (d->v[i].text != NULL && !is_kept(d, d->v[i].text)) sum += strlen(d->v[i].text) + 1;
    return sum;
}
