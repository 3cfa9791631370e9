/* derived.h: files that can be made again: written beside, digested, synced, renamed; read only when the digest matches.
 *
 * FILE: what the writer put, then the SHA-256 of all of it. A file that does not match is IDX_ECORRUPT; whoever reads deletes it and
 * makes another. */
#ifndef LK_DERIVED_H
#define LK_DERIVED_H

#include "error.h"

#include <nettle/sha2.h>
#include <stdio.h>

/* Waits until the disk has a file's bytes up to `end`, if there is another megabyte of them since *synced. Called while a large file is
 * written: the store's log is synced with each commit, and would wait for all that the kernel has put off till then. */
void idx_derived_pace(int fd, uint64_t end, uint64_t *synced);

typedef struct {
    FILE *f;
    char *path, *tmp;
    struct sha256_ctx sha;
    uint64_t bytes, synced;
    bool failed;
} idx_derived_out;

IDX_CHECK idx_status idx_derived_create(idx_derived_out *o, const char *path, idx_error *err);
void idx_derived_put(idx_derived_out *o, const void *p, size_t n);
/* keep: makes it the file at `path`, durably; otherwise drops it. Ends `o` in any case. */
IDX_CHECK idx_status idx_derived_close(idx_derived_out *o, bool keep, idx_error *err);

typedef struct {
    const uint8_t *p; /* mapped, read-only */
    size_t n, at;     /* without the digest; the place of the next take */
} idx_derived_in;

/* IDX_ENOTFOUND without such a file. */
IDX_CHECK idx_status idx_derived_open(idx_derived_in *in, const char *path, idx_error *err);
void idx_derived_unmap(idx_derived_in *in);
/* The next n bytes, which start at a multiple of 8; NULL = the file is shorter. */
const void *idx_derived_take(idx_derived_in *in, size_t n);

#endif
