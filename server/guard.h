/* guard.h: what a request's line and headers must look like before anything is done for it. libmicrohttpd accepts
 * ambiguous framing (two lengths, a length and a coding, a blank before the colon) in some versions; two parsers that
 * disagree about where a request ends are a request-smuggling hole, so that such requests are refused here. */
#ifndef LK_GUARD_H
#define LK_GUARD_H

#include "api.h"

#include <microhttpd.h>

enum {
    SRV_MAX_TARGET = 16 * 1024, /* a filter of IDX_MAX_FILTER_BYTES takes three times as many, percent-encoded, and leaves a quarter for the rest */
    SRV_MAX_HEADERS = 128,
    SRV_MAX_HEADER_BYTES = 32 * 1024, /* names and values together; libmicrohttpd's own limit is not far above */
};

typedef struct { /* borrowed from the connection, for the request's life */
    const char *content_type, *authorization, *if_none_match, *origin, *request_id;
    const char *condition; /* static: the last of If-Match, If-None-Match and If-Unmodified-Since that is there */
    bool preflight;        /* Access-Control-Request-Method is there */
    bool chunked;          /* Transfer-Encoding: chunked, no length */
    bool has_length;
    uint64_t length;       /* Content-Length */
} srv_headers;

/* Reads the headers. needs_host: the request is HTTP/1.1. false: *code (static problem code) and *detail (static) say what
 * is wrong; answer it and close. */
bool srv_guard_headers(struct MHD_Connection *c, bool needs_host, srv_headers *out, const char **code, const char **detail);

/* The raw request target -> path and query, both inside `target`, which is cut at '?'. Absolute form loses its scheme and
 * authority. false: *code (static problem code) and *detail (static) say why. */
bool srv_guard_target(char *target, const char **path, const char **query, const char **code, const char **detail);

api_method srv_guard_method(const char *method);
const char *srv_method_name(api_method m); /* static; "OTHER" */

#endif
