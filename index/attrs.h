/* attrs.h: the attributes of a catalogue's items in memory, so that a filter becomes a set of item numbers.
 *
 * Strings, booleans and list elements have postings (CRoaring bitmaps); numbers have one array a field. A field may hold
 * different types in different items. Not thread-safe: the catalogue's lock covers it. */
#ifndef LK_ATTRS_H
#define LK_ATTRS_H

#include "error.h"

#include <roaring/roaring.h>

typedef struct idx_attrs idx_attrs;

idx_attrs *idx_attrs_new(void); /* NULL = no memory */
void idx_attrs_free(idx_attrs *a);
/* Replaces what is known of `item` by a JSON object that idx_attrs_validate accepts. */
IDX_CHECK idx_status idx_attrs_set(idx_attrs *a, uint32_t item, const char *json, idx_error *err);
void idx_attrs_remove(idx_attrs *a, uint32_t item);
const roaring_bitmap_t *idx_attrs_items(const idx_attrs *a); /* all items that were set */
/* The postings agree with this object for this item (for idx_check). */
bool idx_attrs_agree(const idx_attrs *a, uint32_t item, const char *json);

/* Flat; keys of 1..64 bytes, at most 64 of them; strings up to 1,024 bytes; lists of up to 64 strings; finite numbers;
 * IDX_MAX_ATTR_BYTES in all. The error names the key. */
IDX_CHECK idx_status idx_attrs_validate(const char *json, idx_error *err);
/* RFC 7396 on flat objects: null removes. *out: malloc. */
IDX_CHECK idx_status idx_attrs_merge(const char *json, const char *patch, char **out, idx_error *err);

/* ---- what filter.c asks ---- */

typedef enum { IDX_CMP_EQ, IDX_CMP_LT, IDX_CMP_LE, IDX_CMP_GT, IDX_CMP_GE } idx_cmp;

/* All return a new bitmap (NULL = no memory). Strings: whole scalar values or list elements (`list`), with the wildcard
 * forms *x, x*, *x*. Ordered comparisons of strings are by bytes. */
roaring_bitmap_t *idx_attrs_has_field(const idx_attrs *a, const char *field);
roaring_bitmap_t *idx_attrs_string(const idx_attrs *a, const char *field, idx_cmp cmp, const char *value, bool wildcards, bool scalars,
                                   bool list);
roaring_bitmap_t *idx_attrs_number(const idx_attrs *a, const char *field, idx_cmp cmp, double value);
roaring_bitmap_t *idx_attrs_bool(const idx_attrs *a, const char *field, bool value);

#endif
