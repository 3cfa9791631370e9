/* error.c: one place that writes an error text. */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>

emb_status emb_fail(emb_error *err, emb_status st, const char *fmt, ...)
{
    if (err == NULL || err->status != EMB_OK) return st;
    err->status = st;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    return st;
}
