/* column.c: see column.h. */
#include "column.h"

#include <stdlib.h>
#include <string.h>

enum { FEW = 64 }; /* so many are always a hash table */

static uint32_t home(uint32_t item, uint32_t mask) { return (item + 1) * 2654435761u >> 7 & mask; }

static uint32_t slot_of(const idx_column *c, uint32_t item)
{
    uint32_t i = home(item, c->mask);
    while (c->keys[i] != 0 && c->keys[i] != item + 1) i = (i + 1) & c->mask;
    return i;
}

uint64_t idx_column_find(const idx_column *c, uint32_t item)
{
    uint32_t i = slot_of(c, item);
    return c->keys[i] != 0 ? c->values[i] : 0;
}

/* ---- pages ------------------------------------------------------------------------------------------------ */

static uint32_t width_of(uint64_t v) { return v <= UINT8_MAX ? 1 : v <= UINT16_MAX ? 2 : v <= UINT32_MAX ? 4 : 8; }

static void page_put(idx_page *p, uint32_t i, uint64_t v)
{
    switch (p->width) {
    case 1: p->at[i] = (uint8_t)v; break;
    case 2: ((uint16_t *)(void *)p->at)[i] = (uint16_t)v; break;
    case 4: ((uint32_t *)(void *)p->at)[i] = (uint32_t)v; break;
    default: ((uint64_t *)(void *)p->at)[i] = v; break;
    }
}

/* A page of the wider kind with what `old` holds. */
static idx_page *page_new(const idx_page *old, uint32_t width)
{
    idx_page *p = calloc(1, sizeof *p + (size_t)width * IDX_PAGE_ITEMS);
    if (p == NULL) return NULL;
    p->width = width;
    for (uint32_t i = 0; old != NULL && i < IDX_PAGE_ITEMS; i++) page_put(p, i, idx_page_get(old, i));
    p->used = old != NULL ? old->used : 0;
    return p;
}

static bool pages_set(idx_column *c, uint32_t item, uint64_t v)
{
    uint32_t at = item / IDX_PAGE_ITEMS, i = item % IDX_PAGE_ITEMS;
    if (at >= c->n_pages) {
        if (v == 0) return true;
        uint32_t n = at + at / 2 + 4;
        idx_page **pages = realloc(c->pages, n * sizeof *pages);
        if (pages == NULL) return false;
        memset(pages + c->n_pages, 0, (n - c->n_pages) * sizeof *pages);
        c->pages = pages;
        c->n_pages = n;
    }
    idx_page *p = c->pages[at];
    if (p == NULL && v == 0) return true;
    if (p == NULL || width_of(v) > p->width) {
        idx_page *wider = page_new(p, width_of(v));
        if (wider == NULL) return false;
        free(p);
        c->pages[at] = p = wider;
    }
    bool was = idx_page_get(p, i) != 0;
    page_put(p, i, v);
    p->used += (v != 0) - (uint32_t)was;
    c->used += (v != 0) - (uint32_t)was;
    if (p->used == 0) {
        free(p);
        c->pages[at] = NULL;
    }
    return true;
}

static bool to_pages(idx_column *c)
{
    idx_column new = {.top = c->top, .pages = calloc(4, sizeof *new.pages), .n_pages = 4};
    bool ok = new.pages != NULL;
    for (uint32_t i = 0; ok && i <= c->mask; i++)
        if (c->keys[i] != 0) ok = pages_set(&new, c->keys[i] - 1, c->values[i]);
    if (!ok) {
        idx_column_free(&new);
        return false;
    }
    idx_column_free(c);
    *c = new;
    return true;
}

/* ---- the hash table ----------------------------------------------------------------------------------------- */

static bool table_grow(idx_column *c)
{
    idx_column new = *c;
    new.mask = c->keys == NULL ? 7 : c->mask * 2 + 1;
    new.keys = calloc(new.mask + 1u, sizeof *new.keys);
    new.values = calloc(new.mask + 1u, sizeof *new.values);
    if (new.keys == NULL || new.values == NULL) {
        free(new.keys);
        free(new.values);
        return false;
    }
    for (uint32_t i = 0; c->keys != NULL && i <= c->mask; i++) {
        if (c->keys[i] == 0) continue;
        uint32_t s = slot_of(&new, c->keys[i] - 1);
        new.keys[s] = c->keys[i];
        new.values[s] = c->values[i];
    }
    free(c->keys);
    free(c->values);
    *c = new;
    return true;
}

/* Linear probing without tombstones: the run behind the hole moves up. */
static void table_remove(idx_column *c, uint32_t hole)
{
    c->used--;
    for (uint32_t i = hole;;) {
        i = (i + 1) & c->mask;
        if (c->keys[i] == 0) break;
        if (((i - home(c->keys[i] - 1, c->mask)) & c->mask) < ((i - hole) & c->mask)) continue;
        c->keys[hole] = c->keys[i];
        c->values[hole] = c->values[i];
        hole = i;
    }
    c->keys[hole] = 0;
}

bool idx_column_set(idx_column *c, uint32_t item, uint64_t v)
{
    if (v != 0 && item >= c->top) c->top = item + 1;
    if (c->pages != NULL) return pages_set(c, item, v);
    if (v == 0) {
        uint32_t i = c->keys != NULL ? slot_of(c, item) : 0;
        if (c->keys != NULL && c->keys[i] != 0) table_remove(c, i);
        return true;
    }
    if (c->used >= FEW && c->used > c->top / 8) return to_pages(c) && pages_set(c, item, v);
    if ((c->keys == NULL || (c->used + 1) * 4 > c->mask * 3) && !table_grow(c)) return false;
    uint32_t i = slot_of(c, item);
    if (c->keys[i] == 0) c->used++;
    c->keys[i] = item + 1;
    c->values[i] = v;
    return true;
}

void idx_column_free(idx_column *c)
{
    for (uint32_t i = 0; c->pages != NULL && i < c->n_pages; i++) free(c->pages[i]);
    free(c->pages);
    free(c->keys);
    free(c->values);
    *c = (idx_column){0};
}

uint64_t idx_column_bytes(const idx_column *c)
{
    uint64_t sum = c->n_pages * sizeof *c->pages + (c->keys != NULL ? (c->mask + 1u) * (sizeof *c->keys + sizeof *c->values) : 0);
    for (uint32_t i = 0; i < c->n_pages; i++)
        if (c->pages[i] != NULL) sum += sizeof *c->pages[i] + (uint64_t)c->pages[i]->width * IDX_PAGE_ITEMS;
    return sum;
}
