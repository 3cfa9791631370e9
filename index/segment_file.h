/* segment_file.h: segments on disk: what segment_file.c's opening comment describes, read at start and written by the keeper. */
#ifndef LK_SEGMENT_FILE_H
#define LK_SEGMENT_FILE_H

#include "catalogue.h"

/* Brings the files of a segment up to its linked rows; the keeper's thread, which alone links and saves. Takes the shared lock. */
IDX_CHECK idx_status idx_segment_save(idx_cat *c, idx_segment *g, const char *dir, idx_error *err);
void idx_segment_unlink(const idx_cat *c, const idx_segment *g, const char *dir); /* removes them */

typedef struct { /* a segment as its files have it, whose rows nobody owns yet */
    idx_segment *g;  /* NULL: why says what is wrong with the files */
    int64_t *images; /* [rows] rowids; 0 = dead when it was written */
    uint64_t number;
    idx_error why;
} idx_segment_found;

/* Reads all files of a catalogue in a thread of its own, newest first, while the caller reads the store: at start the two take about
 * as long. c's row must not change meanwhile. NULL = no memory. */
typedef struct idx_segment_reader idx_segment_reader;
idx_segment_reader *idx_segment_reader_start(const idx_cat *c, const char *dir, uint32_t ef_construction);
/* Waits; the array and what is left in it belong to the reader. */
idx_segment_found *idx_segment_reader_wait(idx_segment_reader *r, size_t *n);
void idx_segment_reader_free(idx_segment_reader *r); /* waits, too */

void idx_segment_remove_files(int64_t catalogue, uint64_t number, const char *dir);
/* Deletes every file of a catalogue that is gone. */
void idx_segments_purge(const char *dir, int64_t catalogue);
/* Removes what a crash left: half-written files, and those of catalogues whose deletion was committed and no more. */
void idx_segments_clean(const char *dir, const idx_catalogue_row *living, size_t n_living);
uint64_t idx_segments_bytes(const char *dir);

#endif
