/* places.c: see places.h. */
#include "places.h"

#include <stdlib.h>

enum { LOOK = 64 }; /* items whose places are fetched side by side */

static void mark(const idx_parts *p, const uint32_t *items, uint32_t n, uint64_t *w)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = p->place_of[items[i]]; j != 0; j = p->next != NULL ? p->next[j - 1] : 0) idx_bit_set(w, j - 1);
}

/* While some are looked at, the next are fetched. */
static void mark_all(const idx_parts *p, idx_bits matches, uint64_t *w)
{
    uint32_t items[2][LOOK], n[2] = {0}, now = 0;
    bool more = true;
    for (idx_bits_iter it = idx_bits_begin(matches); more || n[!now] > 0; now = !now) {
        for (n[now] = 0; n[now] < LOOK && more;) {
            uint32_t item;
            if (!(more = idx_bits_next(&it, &item)) || item < p->first_item || item - p->first_item >= p->n_items) continue;
            items[now][n[now]++] = item - p->first_item;
            __builtin_prefetch(&p->place_of[item - p->first_item]);
        }
        mark(p, items[!now], n[!now], w);
        n[!now] = 0;
    }
}

bool idx_places_find(const idx_parts *p, idx_bits matches, idx_places *out)
{
    *out = (idx_places){.count = malloc(p->n_lists * sizeof *out->count)};
    if (out->count == NULL || !idx_bits_new(&out->bits, p->rows)) {
        idx_places_fini(out);
        return false;
    }
    mark_all(p, matches, out->bits.w);
    idx_bits_count_runs(out->bits.w, p->start, p->n_lists, out->count);
    return true;
}

/* The list that has a place. */
static uint32_t list_of(const idx_parts *p, uint32_t place)
{
    uint32_t lo = 0, hi = p->n_lists;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (p->start[mid] <= place) lo = mid;
        else hi = mid;
    }
    return lo;
}

void idx_places_set(idx_places *s, const idx_parts *p, uint32_t item, bool matches)
{
    if (item < p->first_item || item - p->first_item >= p->n_items) return;
    for (uint32_t j = p->place_of[item - p->first_item]; j != 0; j = p->next != NULL ? p->next[j - 1] : 0) {
        if (idx_bit(s->bits.w, j - 1) == matches) continue;
        if (matches) idx_bit_set(s->bits.w, j - 1);
        else idx_bit_clear(s->bits.w, j - 1);
        s->count[list_of(p, j - 1)] += matches ? 1 : UINT32_MAX;
    }
}

void idx_places_fini(idx_places *s)
{
    idx_bits_free(&s->bits);
    free(s->count);
    *s = (idx_places){0};
}

uint64_t idx_places_bytes(const idx_places *s, const idx_parts *p)
{
    return s->count != NULL ? (s->bits.n_words + 1u) * sizeof *s->bits.w + p->n_lists * sizeof *s->count : 0;
}

uint32_t idx_places_in(const idx_places *s, uint32_t from, uint32_t to, uint32_t *out)
{
    uint32_t n = 0;
    for (uint32_t i = from / 64; i <= to / 64; i++) {
        uint64_t x = s->bits.w[i];
        if (i == from / 64) x &= UINT64_MAX << from % 64;
        if (i == to / 64) x &= ~(UINT64_MAX << to % 64);
        for (; x != 0; x &= x - 1) out[n++] = i * 64 + (uint32_t)__builtin_ctzll(x);
    }
    return n;
}
