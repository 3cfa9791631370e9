/* parts.h: the linked rows of a segment in lists around centroids, for searches with a filter.
 *
 * A walk of the graph must step over rows that the filter forbids, and loses its way where few near the query are permitted. Lists
 * are read one after the other, the nearest first: asking a row's bit costs a nanosecond, only permitted ones are compared, and it
 * goes on until enough were, however thin they are there. Derived: from the segment's vectors, in a file of its own beside it. */
#ifndef LK_PARTS_H
#define LK_PARTS_H

#include "ann.h"

/* Two levels, lists in groups, so that neither building nor a query need look at every list. */
typedef struct {
    uint32_t n_groups, n_lists, rows, dim;
    uint64_t serial;       /* no two have the same while the program runs */
    uint32_t trained;      /* rows that the centroids were found among */
    uint32_t *group_start; /* [n_groups + 1] lists */
    uint32_t *start;       /* [n_lists + 1] rows */
    uint32_t *row;         /* [rows] the rows of list i are row[start[i]] .. row[start[i + 1] - 1], ascending */
    uint32_t *item;        /* [rows] the item of row[j] when it was filled in; the caller's */
    float *group_centroid; /* [n_groups][dim], length 1, as is */
    float *centroid;       /* [n_lists][dim] */
    idx_rows *near;        /* [n_lists] the centroids as int8, which is what queries compare; NULL = one list */
    float *spread;         /* [n_groups] the mean cosine of a group's centroid and those of its lists; NULL = one list */
    /* From items to j, for searches whose matches are few: idx_parts_index(). */
    uint32_t first_item, n_items;
    uint32_t *place_of; /* [n_items] 1 + a j of item first_item + i, 0 = none; NULL = not kept */
    uint32_t *next;     /* [rows] 1 + another j of the same item, 0 = none; NULL = no item has two */
    uint16_t *list_of;  /* [n_items] the list of item first_item + i, n_lists = none; NULL = not kept, as where an item has two rows */
    void *index;        /* what holds list_of and place_of */
} idx_parts;

/* Of the first `rows` rows. Seconds for a million; `stop` ends it with IDX_EBUSY. item is left clear. */
IDX_CHECK idx_status idx_parts_build(const idx_rows *v, uint32_t rows, const _Atomic bool *stop, idx_parts **out, idx_error *err);
/* The same lists with the rows that came since: around the old centroids, which costs only the new rows. */
IDX_CHECK idx_status idx_parts_extend(const idx_parts *old, const idx_rows *v, uint32_t rows, const _Atomic bool *stop, idx_parts **out, idx_error *err);
/* From item[], once it is filled in. What there is no memory for is not kept, nor what little of so many items would take much. */
void idx_parts_index(idx_parts *p);
void idx_parts_free(idx_parts *p);
uint64_t idx_parts_bytes(const idx_parts *p); /* NULL has none */
/* tag: of what the segment holds: a file with another one is refused. */
IDX_CHECK idx_status idx_parts_write(const idx_parts *p, const char *path, const uint8_t tag[32], idx_error *err);
/* Lists of at most `rows` rows. */
IDX_CHECK idx_status idx_parts_read(const char *path, uint32_t rows, uint32_t dim, const uint8_t tag[32], idx_parts **out, idx_error *err);

#endif
