/* segment.h: sealed segments on disk, and the background work that makes, grows and compacts them. */
#ifndef LK_SEGMENT_H
#define LK_SEGMENT_H

#include "catalogue.h"

typedef struct { /* what segments need to know of the index */
    char *dir; /* of the segment files */
    uint32_t segment_images, hnsw_m, ef_construction;
    void (*log)(void *ctx, int level, const char *text);
    void *log_ctx;
    const _Atomic bool *stop; /* the process is ending: give up between pieces of work */
} idx_segment_env;

/* Reads and checks the files of a catalogue in a thread of its own, while the caller reads the store: at start the two take
 * about as long. NULL without memory or thread: idx_segments_load reads them itself. c's row must not change meanwhile. */
typedef struct idx_segment_reader idx_segment_reader;
idx_segment_reader *idx_segments_read_start(const idx_cat *c, const idx_segment_env *env);
/* Waits for it and drops what it read; for ways out before idx_segments_load. */
void idx_segments_read_free(idx_segment_reader *r);

/* Claims images for the files of this catalogue that are whole; deletes the others. Images that no file holds are read
 * from the store into the fresh segment. Exclusive, at start. Takes the reader, which may be NULL. */
IDX_CHECK idx_status idx_segments_load(idx_cat *c, idx_store *s, const idx_segment_env *env, idx_segment_reader *reader_take, idx_error *err);
/* One piece of work, if there is any: seal fresh rows, or compact a segment. *worked says so. Takes the lock itself. */
IDX_CHECK idx_status idx_segments_maintain(idx_cat *c, const idx_segment_env *env, bool *worked, idx_error *err);
/* Deletes every file of a catalogue that is gone. */
void idx_segments_purge(const char *dir, int64_t catalogue);
/* Removes what a crash left: half-written files, and those of catalogues whose deletion was committed and no more. */
void idx_segments_clean(const char *dir, const idx_catalogue_row *living, size_t n_living);
uint64_t idx_segments_bytes(const char *dir);

#endif
