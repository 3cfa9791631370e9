/* error.h: how functions of this folder report failure. */
#ifndef LK_INDEX_ERROR_H
#define LK_INDEX_ERROR_H

#include "index.h"

/* Fills err (may be NULL; the first error wins) with one sentence and returns st. */
idx_status idx_fail(idx_error *err, idx_status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The same, of one field of what was handed in, or of a limit (0 = none) that it passed. */
idx_status idx_fail_field(idx_error *err, idx_status st, const char *field, uint64_t limit, const char *fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
