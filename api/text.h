/* text.h: checks of text that strangers send: UTF-8, percent-encoding, query strings, media types, base64. */
#ifndef LK_API_TEXT_H
#define LK_API_TEXT_H

#include "problem.h"

/* Bytes of the well-formed UTF-8 character at s (1..4), 0 = not well-formed (overlong, surrogate, cut ...). */
size_t api_utf8_len(const char *s, size_t n);
/* Well-formed, and no control characters (C0, DEL, C1). */
bool api_text_printable(const char *s, size_t n);
bool api_catalogue_name_ok(const char *s);

/* Decodes n bytes of percent-encoded text into out (cap bytes with the terminator). plus: '+' is a blank. False on a
 * broken %XX, a byte that decodes to NUL, or no room. */
bool api_percent_decode(const char *s, size_t n, bool plus, char *out, size_t cap, size_t *out_n);

#define API_MAX_PARAMS 16
typedef struct {
    size_t n;
    struct {
        const char *name; /* of the list given to api_params_parse */
        char *value;      /* decoded UTF-8 */
    } p[API_MAX_PARAMS];
    char *store;
} api_params;
/* Parses a raw query string (NULL = empty). names: those allowed, NULL at the end. Caller: api_params_fini(), also
 * after failure. */
bool api_params_parse(api_params *ps, const char *raw, const char *const *names, api_fault *f);
const char *api_params_get(const api_params *ps, const char *name); /* NULL = not given */
void api_params_fini(api_params *ps);

typedef struct {
    char type[96];     /* "image/jpeg": lower case, without parameters; "" = none sent */
    char boundary[72]; /* of multipart; "" = none */
} api_media;
bool api_media_parse(api_media *m, const char *content_type, api_fault *f);

/* Strict base64 (RFC 4648, padded, no blanks). json: the text is the inside of a JSON string, so that "\/" stands for
 * "/". *out: malloc, caller frees. max_bytes bounds the result. */
bool api_base64_decode(const char *s, size_t n, bool json, size_t max_bytes, const char *field, uint8_t **out,
                       size_t *out_n, api_fault *f);

uint64_t api_now_ns(void); /* CLOCK_MONOTONIC */

#endif
