/* error.h: how functions of this folder report failure. */
#ifndef LK_EMBED_ERROR_H
#define LK_EMBED_ERROR_H

#include "embed.h"

/* Fills err (may be NULL; the first error wins) with one sentence and returns st. */
emb_status emb_fail(emb_error *err, emb_status st, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
