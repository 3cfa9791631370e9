/* column.h: item -> a number that says what the item has, 0 = nothing. Where most items have something it is an array in pages
 * of 4,096 items, each as wide as its largest number asks (1, 2, 4 or 8 bytes); where few have, a hash table. */
#ifndef LK_COLUMN_H
#define LK_COLUMN_H

#include "error.h"

enum { IDX_PAGE_ITEMS = 4096 };

typedef struct {
    uint32_t width; /* bytes an item */
    uint32_t used;  /* items that have something */
    uint8_t at[];
} idx_page;

typedef struct {
    uint32_t used, top; /* items that have something; one more than the highest item seen */
    idx_page **pages;   /* [item / IDX_PAGE_ITEMS], NULL = nothing there */
    uint32_t n_pages;
    uint32_t *keys; /* of the hash table: item + 1; NULL once there are pages */
    uint64_t *values;
    uint32_t mask;
} idx_column; /* zero-initialised = empty */

IDX_CHECK bool idx_column_set(idx_column *c, uint32_t item, uint64_t value); /* false = no memory; value 0 always works */
void idx_column_free(idx_column *c);
uint64_t idx_column_find(const idx_column *c, uint32_t item); /* in the hash table */
uint64_t idx_column_bytes(const idx_column *c);

static inline uint64_t idx_page_get(const idx_page *p, uint32_t i)
{
    switch (p->width) {
    case 1: return p->at[i];
    case 2: return ((const uint16_t *)(const void *)p->at)[i];
    case 4: return ((const uint32_t *)(const void *)p->at)[i];
    default: return ((const uint64_t *)(const void *)p->at)[i];
    }
}

static inline uint64_t idx_column_get(const idx_column *c, uint32_t item)
{
    if (c->pages == NULL) return c->keys != NULL ? idx_column_find(c, item) : 0;
    const idx_page *p = item / IDX_PAGE_ITEMS < c->n_pages ? c->pages[item / IDX_PAGE_ITEMS] : NULL;
    return p != NULL ? idx_page_get(p, item % IDX_PAGE_ITEMS) : 0;
}

#endif
