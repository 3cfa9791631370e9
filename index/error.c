/* error.c: one place that writes an error text. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

idx_status idx_fail(idx_error *err, idx_status st, const char *fmt, ...)
{
    if (err == NULL || err->status != IDX_OK) return st;
    err->status = st;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return st;
}
