/* json.h: JSON from strangers: bounded, no doubled members, photos kept out of the parser. */
#ifndef LK_API_JSON_H
#define LK_API_JSON_H

#include <jansson.h>

#include "problem.h"

#define API_MAX_BLOBS 32
typedef struct {
    json_t *root; /* an object */
    size_t n_blobs;
    struct {
        const char *p; /* inside the body that was parsed: it must stay */
        size_t n;
        bool numbers; /* an array with its brackets, not the inside of a string */
    } blob[API_MAX_BLOBS];
} api_doc;

/* Parses an object. The strings `image`, `embedding` (depth 1), `images[].data` and `images[].embedding` (depth 3), and arrays
 * of nothing but numbers in an embedding's place, are taken out before parsing when `blobs` is set, so that megabytes of
 * base64 or numbers cost one scan; what remains may have max_bytes (a jansson tree takes up to 48 times its text). field names the part in errors, NULL = the body. Caller: api_doc_fini(), also after failure. */
bool api_doc_parse(api_doc *d, const uint8_t *body, size_t n, bool blobs, size_t max_bytes, const char *field,
                   api_fault *f);
void api_doc_fini(api_doc *d);
/* The base64 text behind a string of the document. True: it stands for an array of numbers, and that is its text. */
bool api_doc_text(const api_doc *d, const json_t *string, const char **p, size_t *n);

/* False and field_unknown when `o` has a member that names (NULL at the end) does not list. */
bool api_json_only(const json_t *o, const char *const *names, const char *prefix, api_fault *f);

/* Checks that `a` is a flat object (patch: null is allowed too) within the index's limits and gives its text, malloc'd;
 * NULL after a failure. */
bool api_attributes_text(const json_t *a, bool patch, char **text, api_fault *f);

#endif
