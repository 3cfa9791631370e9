/* import_batch.c: NDJSON lines with base64 photos, and their answers. */
#include "import_batch.h"
#include "files.h"

#include <nettle/base64.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PHOTO = 256 << 20 }; /* what the server takes is the server's to say */

void srv_batch_clear(srv_batch *b)
{
    b->n = 0;
    b->lines = 0;
}

void srv_batch_fini(srv_batch *b) { free(b->body); }

bool srv_batch_is_full(const srv_batch *b) { return b->lines == SRV_BATCH_LINES || b->n >= SRV_BATCH_BYTES; }

static bool reserve(srv_batch *b, size_t n)
{
    if (b->n + n <= b->room) return true;
    size_t room = 2 * b->room > b->n + n ? 2 * b->room : b->n + n;
    char *grown = realloc(b->body, room);
    if (grown == NULL) return false;
    b->body = grown;
    b->room = room;
    return true;
}

static bool put(srv_batch *b, const char *text, size_t n)
{
    if (!reserve(b, n)) return false;
    memcpy(b->body + b->n, text, n);
    b->n += n;
    return true;
}

static bool put_text(srv_batch *b, const char *text) { return put(b, text, strlen(text)); }

static bool put_json(srv_batch *b, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    bool ok = text != NULL && put_text(b, text);
    free(text);
    return ok;
}

static bool put_photo(srv_batch *b, const uint8_t *bytes, size_t n)
{
    size_t encoded = BASE64_ENCODE_RAW_LENGTH(n);
    if (!put_text(b, "{\"data\":\"") || !reserve(b, encoded)) return false;
    base64_encode_raw(b->body + b->n, n, bytes);
    b->n += encoded;
    return put_text(b, "\"}");
}

typedef struct {
    uint8_t *bytes[SRV_IMPORT_MAX_IMAGES];
    size_t n[SRV_IMPORT_MAX_IMAGES];
} photos;

static void free_photos(photos *p)
{
    for (size_t i = 0; i < SRV_IMPORT_MAX_IMAGES; i++) free(p->bytes[i]);
}

static bool read_photos(const srv_record *r, photos *p, srv_item_digest *d, char why[320])
{
    struct sha256_ctx all, one;
    uint8_t sum[32];
    sha256_init(&all);
    for (size_t i = 0; i < r->n_images; i++) {
        if (!srv_file_read(r->images[i], MAX_PHOTO, &p->bytes[i], &p->n[i], why)) return false;
        sha256_init(&one);
        sha256_update(&one, p->n[i], p->bytes[i]);
        sha256_digest(&one, sizeof sum, sum);
        sha256_update(&all, sizeof sum, sum);
    }
    sha256_digest(&all, sizeof d->images, d->images);
    return srv_digest_attributes(r->attributes, d->attributes);
}

static bool put_line(srv_batch *b, const srv_record *r, const photos *p)
{
    json_t *id = json_string(r->id);
    bool ok = id != NULL && put_text(b, "{\"id\":") && put_json(b, id) && put_text(b, ",\"attributes\":") && put_json(b, r->attributes);
    json_decref(id);
    if (ok && p != NULL) {
        ok = put_text(b, ",\"images\":[");
        for (size_t i = 0; ok && i < r->n_images; i++) ok = (i == 0 || put_text(b, ",")) && put_photo(b, p->bytes[i], p->n[i]);
        ok = ok && put_text(b, "]");
    }
    return ok && put_text(b, "}\n");
}

srv_batch_result srv_batch_add(srv_batch *b, srv_record *r, const srv_known *known, char why[320])
{
    photos p = {0};
    srv_item_digest d;
    srv_batch_result result = SRV_UNREADABLE;
    size_t before = b->n;
    snprintf(why, 320, "no memory, or the id is not valid UTF-8");
    if (read_photos(r, &p, &d, why)) {
        const srv_item_digest *has = srv_known_find(known, r->id);
        bool same_images = has != NULL && memcmp(has->images, d.images, sizeof d.images) == 0;
        if (same_images && memcmp(has->attributes, d.attributes, sizeof d.attributes) == 0) {
            result = SRV_UNCHANGED;
        } else if (put_line(b, r, same_images ? NULL : &p)) {
            b->records[b->lines++] = r;
            result = SRV_BATCHED;
        } else {
            b->n = before;
        }
    }
    free_photos(&p);
    return result;
}

bool srv_batch_answers(const srv_batch *b, const char *text, size_t n,
                       void (*seen)(void *ctx, srv_record *r, int status, const char *code, const char *detail), void *ctx)
{
    uint32_t answered = 0;
    for (const char *at = text, *end = text + n; at < end;) {
        const char *stop = memchr(at, '\n', (size_t) (end - at));
        size_t len = stop != NULL ? (size_t) (stop - at) : (size_t) (end - at);
        json_t *o = json_loadb(at, len, 0, NULL);
        json_int_t line = json_integer_value(json_object_get(o, "line")), status = json_integer_value(json_object_get(o, "status"));
        if (line != answered + 1 || line > b->lines) {
            json_decref(o);
            return false;
        }
        seen(ctx, b->records[answered++], (int) status, json_string_value(json_object_get(o, "code")),
             json_string_value(json_object_get(o, "detail")));
        json_decref(o);
        at += len + 1;
    }
    return answered == b->lines;
}
