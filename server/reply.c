/* reply.c: an api_reply as an HTTP response: the headers that every reply carries. */
#include "request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char page_policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
                                  "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static void add(struct MHD_Response *m, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') (void) MHD_add_response_header(m, name, value);
}

/* The origin is echoed only when it is on the list: a list is not an answer that browsers understand. */
static void add_cors(srv_request *r, struct MHD_Response *m)
{
    const srv_opt_list *allowed = &r->s->set->cors_origin;
    if (allowed->n == 0) return;
    add(m, "Vary", "Origin");
    for (size_t i = 0; i < allowed->n; i++) {
        bool any = strcmp(allowed->items[i], "*") == 0;
        if (!any && (r->headers.origin == NULL || strcmp(allowed->items[i], r->headers.origin) != 0)) continue;
        add(m, "Access-Control-Allow-Origin", any ? "*" : r->headers.origin);
        add(m, "Access-Control-Expose-Headers", "ETag, Location, Retry-After, X-Request-Id");
        if (r->headers.preflight) {
            add(m, "Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE");
            add(m, "Access-Control-Allow-Headers", "Authorization, Content-Type, If-None-Match, X-Request-Id");
            add(m, "Access-Control-Max-Age", "600");
        }
        return;
    }
}

/* If-None-Match: a list of tags, or *; weak and strong tags compare the same here (RFC 9110, 13.1.2). */
static bool not_modified(const srv_request *r)
{
    const char *want = r->headers.if_none_match;
    if (want == NULL || r->rp.etag[0] == '\0' || r->rp.status != 200) return false;
    return strcmp(want, "*") == 0 || strstr(want, r->rp.etag) != NULL;
}

static void add_cache(const srv_request *r, struct MHD_Response *m, const char *content_type)
{
    if (r->rp.immutable) add(m, "Cache-Control", "private, max-age=31536000, immutable");
    else if (r->rp.etag[0] != '\0' || (content_type != NULL && strncmp(content_type, "text/", 5) == 0))
        add(m, "Cache-Control", "private, no-cache");
    else add(m, "Cache-Control", "no-store");
}

enum MHD_Result srv_reply_with(srv_request *r, int status, struct MHD_Response *m, const char *content_type)
{
    if (m == NULL) return MHD_NO;
    char number[16];
    add(m, "Content-Type", content_type);
    add(m, "X-Request-Id", r->id);
    add(m, "X-Content-Type-Options", "nosniff");
    add(m, "ETag", r->rp.etag);
    add(m, "Location", r->rp.location);
    add(m, "Allow", r->rp.allow);
    add_cache(r, m, content_type);
    add_cors(r, m);
    if (content_type != NULL && strncmp(content_type, "text/html", 9) == 0) add(m, "Content-Security-Policy", page_policy);
    if (status == 401) add(m, "WWW-Authenticate", "Bearer realm=\"likeness\"");
    snprintf(number, sizeof number, "%u", r->rp.retry_after_s);
    if (r->rp.retry_after_s != 0) add(m, "Retry-After", number);
    if (r->head_only_refusal || atomic_load(&r->s->state) == SRV_DRAINING) add(m, "Connection", "close");
    r->answered = true;
    enum MHD_Result ok = MHD_queue_response(r->mhd, (unsigned) status, m);
    MHD_destroy_response(m);
    return ok;
}

enum MHD_Result srv_reply(srv_request *r)
{
    if (not_modified(r)) {
        api_reply_fini(&r->rp);
        r->rp.status = 304;
        r->rp.body = NULL;
        r->rp.body_bytes = 0;
    }
    uint8_t *body = r->rp.body;
    size_t n = r->rp.body_bytes;
    r->rp.body = NULL; // the response owns it from here on
    r->rp.body_bytes = 0;
    r->sent = r->method == API_HEAD ? 0 : n;
    srv_conn_enter(r->conn, SRV_CONN_REPLY, srv_deadline(srv_now_ns(), r->s->set->body_timeout, n));
    struct MHD_Response *m = body != NULL ? MHD_create_response_from_buffer(n, body, MHD_RESPMEM_MUST_FREE)
                                          : MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (m == NULL) free(body);
    return srv_reply_with(r, r->rp.status, m, body != NULL ? r->rp.content_type : NULL);
}
