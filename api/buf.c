/* buf.c: replies are written straight into one growing buffer: stored JSON text goes in as it is, and one failed
 * allocation is noticed once, at the end. */
#include "buf.h"
#include "text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static bool reserve(api_buf *b, size_t more)
{
    if (b->failed) return false;
    if (b->cap - b->n >= more) return true;
    size_t cap = b->cap != 0 ? b->cap : 256;
    while (cap - b->n < more) {
        if (cap > SIZE_MAX / 2) {
            b->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *p = realloc(b->p, cap);
    if (p == NULL) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void api_buf_raw(api_buf *b, const char *s, size_t n)
{
    if (n == 0 || !reserve(b, n)) return;
    memcpy(b->p + b->n, s, n);
    b->n += n;
}

void api_buf_fmt(api_buf *b, const char *fmt, ...)
{
    char tmp[256];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(tmp, sizeof tmp, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof tmp) {
        b->failed = true;
        return;
    }
    api_buf_raw(b, tmp, (size_t)n);
}

void api_buf_strn(api_buf *b, const char *s, size_t n)
{
    api_buf_raw(b, "\"", 1);
    size_t from = 0;
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = c < 0x80 ? 1 : api_utf8_len(s + i, n - i);
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && len != 0) {
            i += len;
            continue;
        }
        api_buf_raw(b, s + from, i - from);
        if (len == 0)
            api_buf_raw(b, "\\ufffd", 6);
        else if (c == '"' || c == '\\')
            api_buf_raw(b, c == '"' ? "\\\"" : "\\\\", 2);
        else if (c == '\n')
            api_buf_raw(b, "\\n", 2);
        else
            api_buf_fmt(b, "\\u%04x", c);
        from = ++i;
    }
    api_buf_raw(b, s + from, n - from);
    api_buf_raw(b, "\"", 1);
}

void api_buf_str(api_buf *b, const char *s) { api_buf_strn(b, s, strlen(s)); }

void api_buf_real(api_buf *b, double v)
{
    if (!isfinite(v)) {
        b->failed = true;
        return;
    }
    char tmp[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(tmp, sizeof tmp, "%.*g", digits, v);
        if (strtod(tmp, NULL) == v) break; /* exact on purpose: reads back as the same number */
    }
    api_buf_raw(b, tmp, strlen(tmp));
    if (strpbrk(tmp, ".e") == NULL) api_buf_raw(b, ".0", 2);
}

void api_buf_float(api_buf *b, float v)
{
    if (!isfinite(v)) {
        b->failed = true;
        return;
    }
    char tmp[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(tmp, sizeof tmp, "%.*g", digits, (double)v);
        if (strtof(tmp, NULL) == v) break;
    }
    api_buf_raw(b, tmp, strlen(tmp));
}

void api_buf_time(api_buf *b, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    int part = (int)(ms % 1000);
    if (part < 0) {
        part += 1000;
        s--;
    }
    struct tm tm;
    if (gmtime_r(&s, &tm) == NULL) {
        b->failed = true;
        return;
    }
    api_buf_fmt(b, "\"%04d-%02d-%02dT%02d:%02d:%02d.%03dZ\"", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                tm.tm_min, tm.tm_sec, part);
}

void api_buf_json(api_buf *b, const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: {
        const char *sep = "{";
        for (void *it = json_object_iter((json_t *)v); it != NULL; it = json_object_iter_next((json_t *)v, it)) {
            api_buf_raw(b, sep, 1);
            api_buf_str(b, json_object_iter_key(it));
            api_buf_raw(b, ":", 1);
            api_buf_json(b, json_object_iter_value(it));
            sep = ",";
        }
        if (*sep == '{') api_buf_raw(b, "{", 1);
        api_buf_raw(b, "}", 1);
        break;
    }
    case JSON_ARRAY:
        api_buf_raw(b, "[", 1);
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i > 0) api_buf_raw(b, ",", 1);
            api_buf_json(b, json_array_get(v, i));
        }
        api_buf_raw(b, "]", 1);
        break;
    case JSON_STRING: api_buf_strn(b, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: api_buf_fmt(b, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: api_buf_real(b, json_real_value(v)); break;
    case JSON_TRUE: api_buf_raw(b, "true", 4); break;
    case JSON_FALSE: api_buf_raw(b, "false", 5); break;
    case JSON_NULL: api_buf_raw(b, "null", 4); break;
    }
}

void api_buf_path(api_buf *b, const char *s)
{
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
                     c == '.' || c == '~';
        if (plain)
            api_buf_raw(b, s, 1);
        else
            api_buf_fmt(b, "%%%02X", c);
    }
}

void *api_buf_take(api_buf *b, size_t *n)
{
    void *p = NULL;
    *n = 0;
    if (!b->failed && (b->p != NULL || reserve(b, 1))) {
        p = b->p;
        *n = b->n;
        b->p = NULL;
    }
    api_buf_fini(b);
    return p;
}

void api_buf_fini(api_buf *b)
{
    free(b->p);
    *b = (api_buf){0};
}
