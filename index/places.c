/* places.c: see places.h. */
#include "places.h"

#include <stdlib.h>

enum { LOOK = 64, WORDS = 256 }; /* items whose places are fetched side by side; words that are looked at in a row */

typedef struct { /* two handfuls of items: while one is looked at, the places of the other are fetched */
    uint32_t item[2][LOOK + 64], n[2], now;
} handfuls;

typedef struct {
    const char *at; /* what will be looked at of item i: at + i * each */
    size_t each;
} table;

static inline void fetch(table t, uint32_t i) { __builtin_prefetch(t.at + i * t.each); }

/* The members of a word, whose first bit is `base`. It has some: one or two where few match. Guessing which would take most of the time, so that two
 * are written in any case: without a second, the first again. */
static inline uint32_t spread(uint64_t x, uint32_t base, table t, uint32_t *out)
{
    uint64_t rest = x & (x - 1), none = (rest == 0);
    uint32_t n = 2 - (uint32_t)none;
    out[0] = base + (uint32_t)__builtin_ctzll(x);
    out[1] = base + (uint32_t)__builtin_ctzll(rest | (x & (0 - none)));
    fetch(t, out[0]);
    fetch(t, out[1]);
    for (rest &= rest - 1; rest != 0; rest &= rest - 1) {
        out[n] = base + (uint32_t)__builtin_ctzll(rest);
        fetch(t, out[n++]);
    }
    return n;
}

/* All matches that the lists have an index from, as numbers from first_item on, to take(). */
static inline __attribute__((always_inline)) void each_match(const idx_parts *p, idx_bits matches, table t,
                                                             void (*take)(const idx_parts *, const uint32_t *, uint32_t, void *), void *ctx)
{
    const uint32_t first = p->first_item, end = p->n_items < matches.n_words * 64 - first ? first + p->n_items : matches.n_words * 64;
    handfuls h = {.n = {0}};
    if (first >= matches.n_words * 64) return;
    for (uint32_t from = first / 64, to; from < idx_bits_words(end); from = to) {
        uint32_t some = 0;
        uint16_t word[WORDS];
        to = idx_bits_words(end) - from < WORDS ? idx_bits_words(end) : from + WORDS;
        for (uint32_t i = from; i < to; i++) word[some] = (uint16_t)(i - from), some += matches.w[i] != 0;
        for (uint32_t k = 0; k < some; k++) {
            uint32_t i = from + word[k], *out = h.item[h.now] + h.n[h.now];
            uint64_t x = matches.w[i];
            if (i == first / 64) x &= UINT64_MAX << first % 64;
            if (i == end / 64) x &= ~(UINT64_MAX << end % 64);
            if (x == 0) continue;
            if ((h.n[h.now] += spread(x, i * 64 - first, t, out)) < LOOK) continue;
            h.now = !h.now;
            take(p, h.item[h.now], h.n[h.now], ctx);
            h.n[h.now] = 0;
        }
    }
    take(p, h.item[!h.now], h.n[!h.now], ctx);
    take(p, h.item[h.now], h.n[h.now], ctx);
}

static inline void mark(const idx_parts *p, const uint32_t *items, uint32_t n, void *words)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = p->place_of[items[i]]; j != 0; j = p->next != NULL ? p->next[j - 1] : 0) idx_bit_set(words, j - 1);
}

static inline void count(const idx_parts *p, const uint32_t *items, uint32_t n, void *counts)
{
    for (uint32_t i = 0; i < n; i++) ((uint32_t *)counts)[p->list_of[items[i]]]++;
}

bool idx_places_find(const idx_parts *p, idx_bits matches, idx_places *out)
{
    *out = (idx_places){.count = malloc((p->n_lists + 1u) * sizeof *out->count)};
    if (out->count == NULL || !idx_bits_new(&out->bits, p->rows)) {
        idx_places_fini(out);
        return false;
    }
    each_match(p, matches, (table){(const char *)p->place_of, sizeof *p->place_of}, mark, out->bits.w);
    idx_bits_count_runs(out->bits.w, p->start, p->n_lists, out->count);
    return true;
}

bool idx_places_count(const idx_parts *p, idx_bits matches, idx_places *out)
{
    *out = (idx_places){.count = calloc(p->n_lists + 1u, sizeof *out->count)};
    if (out->count == NULL) return false;
    each_match(p, matches, (table){(const char *)p->list_of, sizeof *p->list_of}, count, out->count);
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
    if (!idx_places_are_marked(s)) {
        s->count[p->list_of[item - p->first_item]] += matches ? 1 : UINT32_MAX;
        return;
    }
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
    return s->count != NULL ? (s->bits.n_words + 1u) * sizeof *s->bits.w + (p->n_lists + 1u) * sizeof *s->count : 0;
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
