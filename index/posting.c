/* posting.c: see posting.h. An array grows to FEW items, then becomes a bitmap, and never shrinks back before it is empty. */
#include "posting.h"

#include <stdlib.h>
#include <string.h>

enum { ONE = 1, ARRAY = 2, TAGS = 3, FEW = 16 };
_Static_assert(sizeof(uintptr_t) == 8, "an item's number and a tag share a word");

typedef struct {
    uint32_t n, cap, item[];
} few;

static few *as_few(const idx_posting *p) { return (few *)(p->is & ~(uintptr_t)TAGS); }
static roaring_bitmap_t *as_many(const idx_posting *p) { return (roaring_bitmap_t *)p->is; }
static uint32_t as_one(const idx_posting *p) { return (uint32_t)(p->is >> 2); }
static int tag(const idx_posting *p) { return (int)(p->is & TAGS); }

static bool few_add(idx_posting *p, const few *old, uint32_t n, uint32_t first, uint32_t item)
{
    uint32_t cap = n < 3 ? 3 : FEW;
    few *f = malloc(sizeof *f + cap * sizeof f->item[0]);
    if (f == NULL) return false;
    f->n = n + 1;
    f->cap = cap;
    if (old != NULL) memcpy(f->item, old->item, n * sizeof f->item[0]);
    else f->item[0] = first;
    f->item[n] = item;
    p->is = (uintptr_t)f | ARRAY;
    return true;
}

bool idx_posting_add(idx_posting *p, uint32_t item)
{
    if (p->is == 0) {
        p->is = (uintptr_t)item << 2 | ONE;
        return true;
    }
    if (tag(p) == ONE) return as_one(p) == item || few_add(p, NULL, 1, as_one(p), item);
    if (tag(p) != ARRAY) {
        roaring_bitmap_add(as_many(p), item);
        return true;
    }
    few *f = as_few(p);
    for (uint32_t i = 0; i < f->n; i++)
        if (f->item[i] == item) return true;
    if (f->n < f->cap) {
        f->item[f->n++] = item;
        return true;
    }
    if (f->n < FEW) {
        if (!few_add(p, f, f->n, 0, item)) return false;
        free(f);
        return true;
    }
    roaring_bitmap_t *r = roaring_bitmap_of_ptr(f->n, f->item);
    if (r == NULL) return false;
    roaring_bitmap_add(r, item);
    free(f);
    p->is = (uintptr_t)r;
    return true;
}

bool idx_posting_fill(idx_posting *p, const uint32_t *items, uint32_t n)
{
    if (n <= FEW) {
        for (uint32_t i = 0; i < n; i++)
            if (!idx_posting_add(p, items[i])) return false;
        return true;
    }
    roaring_bitmap_t *r = roaring_bitmap_of_ptr(n, items);
    if (r == NULL) return false;
    p->is = (uintptr_t)r;
    return true;
}

void idx_posting_remove(idx_posting *p, uint32_t item)
{
    if (p->is == 0) return;
    if (tag(p) == ONE) {
        if (as_one(p) == item) p->is = 0;
    } else if (tag(p) == ARRAY) {
        few *f = as_few(p);
        for (uint32_t i = 0; i < f->n; i++)
            if (f->item[i] == item) f->item[i--] = f->item[--f->n];
        if (f->n == 0) idx_posting_free(p);
    } else {
        roaring_bitmap_remove(as_many(p), item);
        if (roaring_bitmap_is_empty(as_many(p))) idx_posting_free(p);
    }
}

void idx_posting_free(idx_posting *p)
{
    if (p->is != 0 && tag(p) == ARRAY) free(as_few(p));
    else if (p->is != 0 && tag(p) != ONE) roaring_bitmap_free(as_many(p));
    p->is = 0;
}

bool idx_posting_has(const idx_posting *p, uint32_t item)
{
    if (p->is == 0) return false;
    if (tag(p) == ONE) return as_one(p) == item;
    if (tag(p) != ARRAY) return roaring_bitmap_contains(as_many(p), item);
    const few *f = as_few(p);
    for (uint32_t i = 0; i < f->n; i++)
        if (f->item[i] == item) return true;
    return false;
}

uint64_t idx_posting_count(const idx_posting *p)
{
    if (p->is == 0) return 0;
    return tag(p) == ONE ? 1 : tag(p) == ARRAY ? as_few(p)->n : roaring_bitmap_get_cardinality(as_many(p));
}

static bool in(idx_bits b, uint32_t item) { return item / 64 < b.n_words && idx_bit(b.w, item); }

static bool count_one(uint32_t item, void *ctx)
{
    struct counting {
        idx_bits b;
        uint64_t n;
    } *c = ctx;
    c->n += in(c->b, item);
    return true;
}

uint64_t idx_posting_count_and(const idx_posting *p, idx_bits b)
{
    struct counting {
        idx_bits b;
        uint64_t n;
    } c = {b, 0};
    if (p->is == 0) return 0;
    if (tag(p) == ONE) return in(b, as_one(p));
    if (tag(p) == ARRAY)
        for (uint32_t i = 0; i < as_few(p)->n; i++) c.n += in(b, as_few(p)->item[i]);
    else roaring_iterate(as_many(p), count_one, &c);
    return c.n;
}

void idx_posting_or(const idx_posting *p, idx_bits b)
{
    if (p->is == 0) return;
    if (tag(p) == ONE) {
        if (as_one(p) / 64 < b.n_words) idx_bit_set(b.w, as_one(p));
    } else if (tag(p) == ARRAY) {
        for (uint32_t i = 0; i < as_few(p)->n; i++)
            if (as_few(p)->item[i] / 64 < b.n_words) idx_bit_set(b.w, as_few(p)->item[i]);
    } else {
        idx_bits_or_roaring(b, as_many(p));
    }
}
