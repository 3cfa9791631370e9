/* attrs.h: the attributes of a catalogue's items in memory, so that a filter becomes a set of items and a facet a count.
 *
 * Item numbers are dense and small. What an item has is kept twice: by value (postings of texts and booleans, sorted numbers),
 * for filters; and by item (columns), for facets and to take an item out again. A field may hold different types in different items.
 * Not thread-safe: the catalogue's lock covers it. */
#ifndef LK_ATTRS_H
#define LK_ATTRS_H

#include "sorted.h"
#include "values.h"

enum { IDX_MAX_LIST = 64 };

typedef struct { /* one attribute name */
    char *name;
    roaring_bitmap_t *there;    /* the items that have it, whatever it is */
    roaring_bitmap_t *truth[2]; /* that have false, true; NULL = none ever */
    idx_values values;
    idx_column text;   /* item -> value + 1 */
    idx_column list;   /* item -> place of its list + 1; an empty list is only `there` */
    idx_column number; /* item -> idx_number_pack */
    idx_column rest;   /* item -> idx_rest_pack, of integers that are no double */
    idx_sorted *sorted; /* of `number`; NULL = none ever */
} idx_field;

static inline int32_t idx_field_rest(const idx_field *f, uint32_t item) { return f->rest.used > 0 ? idx_rest_unpack(idx_column_get(&f->rest, item)) : 0; }
/* Of an item that has one. */
static inline idx_number idx_field_number(const idx_field *f, uint32_t item)
{
    return (idx_number){idx_number_unpack(idx_column_get(&f->number, item)), idx_field_rest(f, item)};
}

typedef struct idx_attrs idx_attrs;

idx_attrs *idx_attrs_new(void); /* NULL = no memory */
void idx_attrs_free(idx_attrs *a);
/* Replaces what is known of `item` by a JSON object that idx_attrs_validate accepts. */
IDX_CHECK idx_status idx_attrs_set(idx_attrs *a, uint32_t item, const char *json, idx_error *err);
void idx_attrs_remove(idx_attrs *a, uint32_t item);

/* Changes so far; and the item of each, from 0 on, of which the last IDX_CHANGES are known. */
enum { IDX_CHANGES = 256 };
uint64_t idx_attrs_changes(const idx_attrs *a);
uint32_t idx_attrs_change(const idx_attrs *a, uint64_t i);

idx_bits idx_attrs_items(const idx_attrs *a); /* all items that were set; borrowed */
uint32_t idx_attrs_count(const idx_attrs *a);
uint32_t idx_attrs_gone(const idx_attrs *a); /* fewer than there were once since it was made; their numbers, texts and pages wait for others */
const idx_field *idx_attrs_field(const idx_attrs *a, const char *name); /* NULL = no item has it */
const idx_field *idx_attrs_field_at(const idx_attrs *a, uint32_t i);    /* NULL = no more; for walks over all */
/* The values of a list; idx_column_get(&f->list, item) says `at`, not 0. */
const uint32_t *idx_attrs_list(const idx_attrs *a, uint64_t at, uint32_t *n);
uint64_t idx_attrs_bytes(const idx_attrs *a);

/* What is known of this item is this object (for idx_check). */
bool idx_attrs_agree(const idx_attrs *a, uint32_t item, const char *json);
/* Postings, sorted numbers and columns say the same of every item; NULL, or what does not. */
const char *idx_attrs_check(const idx_attrs *a);

/* Flat; keys of 1..64 bytes, at most 64 of them; strings up to 1,024 bytes; lists of up to 64 strings; finite numbers;
 * IDX_MAX_ATTR_BYTES in all. The error names the key. */
IDX_CHECK idx_status idx_attrs_validate(const char *json, idx_error *err);
/* RFC 7396 on flat objects: null removes. *out: malloc. */
IDX_CHECK idx_status idx_attrs_merge(const char *json, const char *patch, char **out, idx_error *err);

#endif
