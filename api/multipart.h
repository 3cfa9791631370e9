/* multipart.h: multipart/form-data (RFC 7578) over a complete body; parts are views into it. */
#ifndef LK_API_MULTIPART_H
#define LK_API_MULTIPART_H

#include "problem.h"

#define API_MAX_PARTS         64 /* more than any request may have, so that too many photos are called that */
#define API_PART_HEADER_BYTES 4096

typedef struct {
    char name[32];
    const uint8_t *p;
    size_t n;
} api_part;
typedef struct {
    size_t n;
    api_part part[API_MAX_PARTS];
} api_parts;

/* Strict: every part has a form-data disposition with a name out of `names` (NULL at the end), no transfer encoding
 * that changes bytes, and the closing boundary ends the body. File names and part types are not used. */
bool api_multipart_parse(api_parts *ps, const uint8_t *body, size_t n, const char *boundary, const char *const *names,
                         api_fault *f);

#endif
