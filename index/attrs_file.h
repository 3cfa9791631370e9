/* attrs_file.h: attributes in memory, on disk and back, so that a start parses no JSON.
 *
 * The file is written while others write: in pieces under the catalogue's lock, without a state that all of it belongs to. It
 * belongs to the generation at which the writing began: whatever was written to since is in the log of changes (store.h), and whoever
 * reads the file takes those items from the store. */
#ifndef LK_ATTRS_FILE_H
#define LK_ATTRS_FILE_H

#include "attrs.h"

typedef struct {
    int64_t catalogue;
    uint64_t generation; /* when the writing began */
    int64_t stamp;       /* of that generation in the log */
} idx_attrs_key;

typedef struct {
    /* Called in turn: the attributes stand still in between. Between two holds others may change them. */
    void (*hold)(void *ctx);
    void (*let_go)(void *ctx);
    /* The rowid of an item that is set; 0 = leave it out. */
    int64_t (*rowid)(void *ctx, uint32_t item);
    void *ctx;
} idx_attrs_writer;
IDX_CHECK idx_status idx_attrs_write(const idx_attrs *a, const char *path, const idx_attrs_key *key, const idx_attrs_writer *w, idx_error *err);

/* Only what the file belongs to. IDX_ENOTFOUND, IDX_ECORRUPT. */
typedef struct idx_attrs_file idx_attrs_file;
IDX_CHECK idx_status idx_attrs_file_open(const char *path, idx_attrs_file **out, idx_attrs_key *key, idx_error *err);
void idx_attrs_file_close(idx_attrs_file *f);
/* Everything in it into an empty `a`, for item numbers below `most`. item: the number of the item with that rowid, UINT32_MAX = leave it out (it is gone, or was
 * written to since); rowids come in no order. On failure `a` is to be freed. */
IDX_CHECK idx_status idx_attrs_read(idx_attrs *a, idx_attrs_file *f, uint32_t most, uint32_t (*item)(void *ctx, int64_t rowid), void *ctx, idx_error *err);

#endif
