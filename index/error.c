/* error.c: one place that writes an error text. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static void fail(idx_error *err, idx_status st, const char *fmt, va_list ap)
{
    err->status = st;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
}

idx_status idx_fail(idx_error *err, idx_status st, const char *fmt, ...)
{
    if (err == NULL || err->status != IDX_OK) return st;
    va_list ap;
    va_start(ap, fmt);
    fail(err, st, fmt, ap);
    va_end(ap);
    return st;
}

idx_status idx_fail_field(idx_error *err, idx_status st, const char *field, uint64_t limit, const char *fmt, ...)
{
    if (err == NULL || err->status != IDX_OK) return st;
    va_list ap;
    va_start(ap, fmt);
    fail(err, st, fmt, ap);
    va_end(ap);
    snprintf(err->field, sizeof err->field, "%s", field);
    err->limit = limit;
    return st;
}
