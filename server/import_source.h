/* import_source.h: what an import reads: a folder of photos, a CSV table, or NDJSON lines -> records in memory. Photos are
 * only named here; they are read when they are sent. */
#ifndef LK_IMPORT_SOURCE_H
#define LK_IMPORT_SOURCE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SRV_IMPORT_MAX_IMAGES = 16 };

typedef struct {
    char *id;
    json_t *attributes;  /* object */
    char **images;       /* paths, relative to the working folder or absolute */
    size_t n_images;
    uint32_t line;       /* in the source; 0 for a folder */
    char *bad;           /* why it cannot be sent, or NULL */
} srv_record;

typedef struct {
    srv_record *records;
    size_t n, room;
} srv_source;

/* path: a folder, FILE.csv, FILE.ndjson / .jsonl, or "-" for NDJSON on stdin. strings: CSV cells stay texts. Records that
 * are wrong carry `bad`; false is for a source that cannot be read as a whole. */
bool srv_source_read(const char *path, bool strings, srv_source *out, char err[320]);
void srv_source_fini(srv_source *s);

/* Shared by the readers. Adds an empty record; NULL without memory. */
srv_record *srv_source_add(srv_source *s, uint32_t line);
void srv_record_bad(srv_record *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Adds a path, which is relative to `base` (the folder of the source) unless it begins with /. */
void srv_record_image(srv_record *r, const char *base, const char *path);

bool srv_source_read_csv(const char *path, bool strings, srv_source *out, char err[320]);

#endif
