/* bits.c: the few loops over words. They run at memory speed in the baseline's vectors; only counting asks for an instruction of
 * its own. */
#include "bits.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if __has_include(<roaring/bitset/bitset.h>)
#include <roaring/bitset/bitset.h>
#define HAVE_TO_BITSET 1 /* CRoaring from 1.0 on has a function for it; Debian 12's 0.2.66 shows its containers instead */
#endif

/* ---- memory ---------------------------------------------------------------------------------------------------- */

enum { KEPT = 16, SMALL = 512 }; /* words that malloc() hands out as fast */

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    uint64_t *w;
    size_t words;
} kept[KEPT]; /* what was given back last is the last */
static uint32_t n_kept;

/* A little more than is needed, so that what is given back fits while a catalogue grows. */
static size_t room_for(uint32_t n_words) { return n_words < SMALL ? n_words + 1u : (n_words + SMALL) / SMALL * (size_t)SMALL; }

bool idx_bits_new(idx_bits *b, uint32_t n)
{
    *b = (idx_bits){NULL, idx_bits_words(n)};
    size_t words = room_for(b->n_words);
    pthread_mutex_lock(&kept_lock);
    for (uint32_t i = words > SMALL ? n_kept : 0; i-- > 0 && b->w == NULL;) {
        if (kept[i].words != words) continue;
        b->w = kept[i].w;
        memmove(kept + i, kept + i + 1, (--n_kept - i) * sizeof *kept);
    }
    pthread_mutex_unlock(&kept_lock);
    if (b->w != NULL) memset(b->w, 0, (b->n_words + 1u) * sizeof *b->w);
    else b->w = calloc(words, sizeof *b->w);
    return b->w != NULL;
}

void idx_bits_free(idx_bits *b)
{
    uint64_t *old = b->w;
    size_t words = room_for(b->n_words);
    if (b->w != NULL && words > SMALL) {
        pthread_mutex_lock(&kept_lock);
        old = n_kept == KEPT ? kept[0].w : NULL;
        if (n_kept == KEPT) memmove(kept, kept + 1, --n_kept * sizeof *kept);
        kept[n_kept].w = b->w;
        kept[n_kept++].words = words;
        pthread_mutex_unlock(&kept_lock);
    }
    free(old);
    *b = (idx_bits){0};
}

void idx_bits_drop_all(void)
{
    pthread_mutex_lock(&kept_lock);
    while (n_kept > 0) free(kept[--n_kept].w);
    pthread_mutex_unlock(&kept_lock);
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

/* Inlined into functions for processors with and without an instruction for it. */
static inline __attribute__((always_inline)) uint64_t count(const uint64_t *w, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += (uint64_t)__builtin_popcountll(w[i]);
    return sum;
}

static inline __attribute__((always_inline)) void count_runs(const uint64_t *w, const uint32_t *start, uint32_t n, uint32_t *out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = start[i] / 64, to = start[i + 1] / 64; /* whole words, without what is before and with what is behind */
        uint64_t before = w[from] & ~(UINT64_MAX << start[i] % 64), behind = w[to] & ~(UINT64_MAX << start[i + 1] % 64);
        out[i] = (uint32_t)(count(w + from, to - from) + count(&behind, 1) - count(&before, 1));
    }
}

static uint64_t count_plain(const uint64_t *w, size_t n) { return count(w, n); }
static void count_runs_plain(const uint64_t *w, const uint32_t *start, uint32_t n, uint32_t *out) { count_runs(w, start, n, out); }

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static uint64_t count_popcnt(const uint64_t *w, size_t n) { return count(w, n); }
__attribute__((target("popcnt"))) static void count_runs_popcnt(const uint64_t *w, const uint32_t *start, uint32_t n, uint32_t *out)
{
    count_runs(w, start, n, out);
}
#endif

uint64_t idx_bits_count(const uint64_t *w, size_t n_words)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt")) return count_popcnt(w, n_words);
#endif
    return count_plain(w, n_words);
}

void idx_bits_count_runs(const uint64_t *w, const uint32_t *start, uint32_t n, uint32_t *out)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("popcnt")) {
        count_runs_popcnt(w, start, n, out);
        return;
    }
#endif
    count_runs_plain(w, start, n, out);
}

void idx_bits_and(idx_bits b, idx_bits c)
{
    for (uint32_t i = 0; i < b.n_words; i++) b.w[i] &= c.w[i];
}

void idx_bits_or(idx_bits b, idx_bits c)
{
    for (uint32_t i = 0; i < b.n_words; i++) b.w[i] |= c.w[i];
}

void idx_bits_andnot(idx_bits b, const uint64_t *c, uint32_t c_words)
{
    uint32_t n = b.n_words < c_words ? b.n_words : c_words;
    for (uint32_t i = 0; i < n; i++) b.w[i] &= ~c[i];
}

#ifdef HAVE_TO_BITSET

void idx_bits_or_roaring(idx_bits b, const roaring_bitmap_t *r)
{
    bitset_t *s = bitset_create();
    if (s != NULL && roaring_bitmap_to_bitset(r, s))
        for (size_t i = 0; i < s->arraysize && i < b.n_words; i++) b.w[i] |= s->array[i];
    else { /* no memory for the short way */
        roaring_uint32_iterator_t it;
        for (roaring_init_iterator(r, &it); it.has_value; roaring_advance_uint32_iterator(&it))
            if (it.current_value / 64 < b.n_words) idx_bit_set(b.w, it.current_value);
    }
    if (s != NULL) bitset_free(s);
}

#else

/* Bits from..last. */
static void or_run(idx_bits b, uint32_t from, uint64_t last)
{
    if (from / 64 >= b.n_words) return;
    if (last >= (uint64_t)b.n_words * 64) last = (uint64_t)b.n_words * 64 - 1;
    uint32_t first = from / 64, end = (uint32_t)(last / 64);
    uint64_t head = UINT64_MAX << from % 64, tail = UINT64_MAX >> (63 - last % 64);
    if (first == end) {
        b.w[first] |= head & tail;
        return;
    }
    b.w[first] |= head;
    for (uint32_t i = first + 1; i < end; i++) b.w[i] = UINT64_MAX;
    b.w[end] |= tail;
}

static void or_container(idx_bits b, uint32_t base, const void *container, uint8_t type)
{
    if (type == BITSET_CONTAINER_TYPE_CODE) {
        const uint64_t *from = ((const bitset_container_t *)container)->array;
        for (uint32_t i = 0; i < 1024 && base / 64 + i < b.n_words; i++) b.w[base / 64 + i] |= from[i];
    } else if (type == ARRAY_CONTAINER_TYPE_CODE) {
        const array_container_t *a = container;
        for (int32_t i = 0; i < a->cardinality; i++)
            if ((base + a->array[i]) / 64 < b.n_words) idx_bit_set(b.w, base + a->array[i]);
    } else {
        const run_container_t *runs = container;
        for (int32_t i = 0; i < runs->n_runs; i++) or_run(b, base + runs->runs[i].value, (uint64_t)base + runs->runs[i].value + runs->runs[i].length);
    }
}

void idx_bits_or_roaring(idx_bits b, const roaring_bitmap_t *r)
{
    const roaring_array_t *a = &r->high_low_container;
    for (int32_t i = 0; i < a->size; i++) {
        uint8_t type = a->typecodes[i];
        or_container(b, (uint32_t)a->keys[i] << 16, container_unwrap_shared(a->containers[i], &type), type);
    }
}

#endif
