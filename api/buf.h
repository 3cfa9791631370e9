/* buf.h: a growing text that remembers a failed allocation, and JSON written into it. */
#ifndef LK_API_BUF_H
#define LK_API_BUF_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct { /* zero-initialised = empty; after `failed` every call is a no-op */
    char *p;
    size_t n, cap;
    bool failed;
} api_buf;

void api_buf_raw(api_buf *b, const char *s, size_t n);
void api_buf_fmt(api_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* up to 255 bytes */
/* A JSON string with its quotes; bytes that are not UTF-8 become U+FFFD. */
void api_buf_strn(api_buf *b, const char *s, size_t n);
void api_buf_str(api_buf *b, const char *s);
/* The shortest decimal that reads back as the same double; finite values only. */
void api_buf_real(api_buf *b, double v);
/* The shortest decimal that reads back as the same float. */
void api_buf_float(api_buf *b, float v);
/* Unix milliseconds as a quoted RFC 3339 time. */
void api_buf_time(api_buf *b, int64_t ms);
/* A jansson value; depth is bounded by the parser's limits. */
void api_buf_json(api_buf *b, const json_t *v);
/* Percent-encoded: only unreserved characters stay. */
void api_buf_path(api_buf *b, const char *s);
/* The text, malloc'd, caller frees, and its length; NULL after a failed allocation. Empties the buffer. */
void *api_buf_take(api_buf *b, size_t *n);
void api_buf_fini(api_buf *b);

#endif
