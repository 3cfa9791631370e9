/* import_known.h: what the catalogue holds already, so that an import sends only what is new or has changed: an import that
 * was cut off goes on where it stood, and a nightly one sends the day's changes. The server is asked; there is no state
 * file that could be wrong. */
#ifndef LK_IMPORT_KNOWN_H
#define LK_IMPORT_KNOWN_H

#include "http_client.h"

#include <jansson.h>

typedef struct srv_known srv_known;

typedef struct {
    uint8_t images[32];     /* SHA-256 over the SHA-256 of every photo, in order */
    uint8_t attributes[32]; /* SHA-256 over the attributes with sorted keys */
} srv_item_digest;

/* Lists the whole catalogue. NULL: err says why. */
srv_known *srv_known_load(srv_client *c, const char *catalogue, char err[320]);
const srv_item_digest *srv_known_find(const srv_known *k, const char *id); /* NULL = not there */
size_t srv_known_count(const srv_known *k);
void srv_known_free(srv_known *k);

/* false without memory. */
bool srv_digest_attributes(const json_t *attributes, uint8_t out[32]);

/* A set of texts, borrowed. */
typedef struct srv_names srv_names;
srv_names *srv_names_new(size_t expected);
bool srv_names_add(srv_names *s, const char *name); /* false: it was there, or there is no memory */
void srv_names_free(srv_names *s);

#endif
