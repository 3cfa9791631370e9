/* attrs_priv.h: what attrs.c keeps, for attrs_file.c. */
#ifndef LK_ATTRS_PRIV_H
#define LK_ATTRS_PRIV_H

#include "attrs.h"

/* The names an item has. Most items of a catalogue have the same: a shape is kept once, an item knows its number. */
typedef struct {
    uint32_t n, refs, hash; /* hash of a free one: the next free one */
    uint32_t *fields;       /* in ascending order; NULL = this number is free */
} idx_shape;

struct idx_attrs {
    idx_field **fields;
    uint32_t n_fields, *field_slots, field_mask;
    idx_shape *shapes;
    uint32_t n_shapes, cap_shapes, live_shapes, spare_shape, *shape_slots, shape_mask;
    idx_column shape_of; /* item -> shape + 1 */
    uint32_t *pool, n_pool, cap_pool, spare_list[IDX_MAX_LIST + 1]; /* lists: their length, then values; spare ones are chained */
    idx_bits all;
    uint32_t n_items, most_items; /* now; since it was made */
    idx_bits to_copy; /* while it is copied: the items that the copy does not have as they are */
    uint64_t changes;
    uint32_t changed[IDX_CHANGES]; /* by the count of changes before, as a ring */
};

uint32_t idx_attrs_make_field(idx_attrs *a, const char *name);                              /* its number; UINT32_MAX = no memory */
uint32_t idx_attrs_make_shape(idx_attrs *a, const uint32_t *fields, uint32_t n);            /* the same; without a reference */
uint32_t idx_attrs_list_new(idx_attrs *a, const uint32_t *values, uint32_t n);              /* place + 1, 0 = no memory */
IDX_CHECK bool idx_attrs_reach(idx_attrs *a, uint32_t item);                                /* `all` has room for it */
IDX_CHECK bool idx_attrs_shape_set(idx_attrs *a, uint32_t item, uint32_t shape);            /* of an item that has none; UINT32_MAX and false: no memory */
IDX_CHECK bool idx_field_set_number(idx_field *f, uint32_t item, idx_number n);             /* in the columns; `sorted` is another's */
/* `to` knows of the item what `a` does; their fields have the same numbers. */
IDX_CHECK bool idx_attrs_copy_item(const idx_attrs *a, uint32_t item, idx_attrs *to);

#endif
