/* route.c: one table of routes, matched on the raw target: split at '/' first, decoded afterwards, so that an item id
 * may hold any character, '/' included. */
#include "route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { BODY_NONE, BODY_JSON, BODY_PHOTOS, BODY_QUERY } body_kind;
typedef struct {
    api_handler handler;
    api_class cls;
    body_kind body;
    bool write;
} action;

struct api_route_def {
    const char *path; /* segments in braces are variables: {catalogue}, {item}, {n} */
    action on[API_OTHER];
};

#define CATALOGUE "/v1/catalogues/{catalogue}"
static const api_route_def routes[] = {
    {"/v1/catalogues", {[API_GET] = {api_catalogue_list, API_CLASS_READ, BODY_NONE, false}}},
    {CATALOGUE,
     {[API_GET] = {api_catalogue_get, API_CLASS_READ, BODY_NONE, false},
      [API_PUT] = {api_catalogue_put, API_CLASS_INTERACTIVE, BODY_JSON, true},
      [API_DELETE] = {api_catalogue_delete, API_CLASS_INTERACTIVE, BODY_NONE, true}}},
    {CATALOGUE "/items", {[API_GET] = {api_item_list, API_CLASS_INTERACTIVE, BODY_NONE, false}}},
    {CATALOGUE "/items:batch", {[API_POST] = {NULL, API_CLASS_STREAM, BODY_NONE, true}}},
    {CATALOGUE "/items/{item}",
     {[API_GET] = {api_item_get, API_CLASS_READ, BODY_NONE, false},
      [API_PUT] = {api_item_put, API_CLASS_INTERACTIVE, BODY_PHOTOS, true},
      [API_PATCH] = {api_item_patch, API_CLASS_INTERACTIVE, BODY_JSON, true},
      [API_DELETE] = {api_item_delete, API_CLASS_INTERACTIVE, BODY_NONE, true}}},
    {CATALOGUE "/items/{item}/images/{n}", {[API_GET] = {api_rendition_get, API_CLASS_READ, BODY_NONE, false}}},
    {CATALOGUE "/search", {[API_POST] = {api_search, API_CLASS_INTERACTIVE, BODY_QUERY, false}}},
    {"/v1/embed", {[API_POST] = {api_embed, API_CLASS_INTERACTIVE, BODY_QUERY, false}}},
};

/* The next segment of *s, which stands at a '/'. */
static const char *segment(const char **s, size_t *n)
{
    const char *at = *s + 1;
    *n = strcspn(at, "/");
    *s = at + *n;
    return at;
}

/* A literal also matches percent-encoded: "items%3Abatch" is the same path. */
static bool literal(const char *want, size_t want_n, const char *raw, size_t n)
{
    char dec[32];
    size_t got;
    return n <= 3 * want_n && api_percent_decode(raw, n, false, dec, sizeof dec, &got) && got == want_n &&
           memcmp(want, dec, want_n) == 0;
}

static bool matches(const char *path, const char *raw)
{
    while (*path == '/' && *raw == '/') {
        size_t pn, rn;
        const char *p = segment(&path, &pn), *r = segment(&raw, &rn);
        if (*p != '{' && !literal(p, pn, r, rn)) return false;
    }
    return *path == '\0' && *raw == '\0';
}

const api_route_def *api_route_find(const char *raw_path)
{
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
        if (matches(routes[i].path, raw_path)) return &routes[i];
    return NULL;
}

static const action *find_action(const api_route_def *r, api_method m)
{
    if (m == API_HEAD) m = API_GET;
    if ((unsigned)m >= API_OTHER || r->on[m].cls == API_CLASS_NONE) return NULL;
    return &r->on[m];
}

api_handler api_route_handler(const api_route_def *r, api_method m)
{
    const action *a = find_action(r, m);
    return a != NULL ? a->handler : NULL;
}

bool api_route_is_stream(const api_route_def *r, api_method m)
{
    const action *a = find_action(r, m);
    return a != NULL && a->cls == API_CLASS_STREAM;
}

static size_t max_body(const api_limits *l, body_kind kind)
{
    size_t n = 0;
    switch (kind) {
    case BODY_NONE: break;
    case BODY_JSON: n = l->max_json_bytes; break;
    case BODY_PHOTOS: n = l->max_body_bytes; break;
    case BODY_QUERY: /* one photo as base64, its options, and the frame of a multipart body */
        n = l->max_image_bytes / 3 * 4 + 4 + l->max_json_bytes + 8192;
        if (n > l->max_body_bytes) n = l->max_body_bytes;
        break;
    }
    return n;
}

api_route_info api_route(const api_ctx *cx, api_method method, const char *raw_path)
{
    api_route_info info = {.cls = API_CLASS_NONE, .route = "unmatched"};
    const api_route_def *r = api_route_find(raw_path);
    if (r == NULL) return info;
    info.route = r->path;
    const action *a = find_action(r, method);
    if (a == NULL) return info;
    info.cls = a->cls;
    info.write = a->write;
    /* A stream has no length limit of its own: its lines have. */
    info.max_body_bytes = a->cls == API_CLASS_STREAM ? SIZE_MAX : max_body(&cx->limits, a->body);
    return info;
}

static bool variable(const char *name, size_t name_n, const char *raw, size_t n, api_call *c)
{
    char dec[3 * IDX_MAX_ID_BYTES + 1];
    size_t got;
    if (n > 3 * IDX_MAX_ID_BYTES || !api_percent_decode(raw, n, false, dec, sizeof dec, &got)) {
        if (n > 3 * IDX_MAX_ID_BYTES)
            return api_fail_limit(&c->fault, "path_invalid", NULL, 3 * IDX_MAX_ID_BYTES,
                                  "a segment of the path has %zu bytes, the limit is %d", n, 3 * IDX_MAX_ID_BYTES);
        return api_fail(&c->fault, "path_invalid", NULL, "the path is not percent-encoded correctly, or holds %%00");
    }
    if (!api_text_printable(dec, got))
        return api_fail(&c->fault, "path_invalid", NULL, "the path is not UTF-8, or holds control characters");
    if (name_n == 11) { /* {catalogue} */
        if (!api_catalogue_name_ok(dec))
            return api_fail(&c->fault, "catalogue_name_invalid", "catalogue",
                            "\"%.80s\" is no catalogue name: 1 to %d of a-z 0-9 _ -, starting with a letter or digit", dec, IDX_MAX_CATALOGUE_BYTES);
        memcpy(c->catalogue, dec, got + 1);
    } else if (name_n == 6) { /* {item} */
        if (!api_item_id_check(dec, got, "item", &c->fault)) return false;
        memcpy(c->item, dec, got + 1);
    } else { /* {n} */
        if (got == 0 || got > 3 || strspn(dec, "0123456789") != got || (dec[0] == '0' && got > 1))
            return api_fail(&c->fault, "image_not_found", NULL, "image numbers are 0 to %d", IDX_MAX_IMAGES - 1);
        c->image = (uint32_t)strtoul(dec, NULL, 10);
    }
    (void)name;
    return true;
}

bool api_route_params(const api_route_def *r, const char *raw_path, api_call *c)
{
    const char *path = r->path;
    while (*path == '/') {
        size_t pn, rn;
        const char *p = segment(&path, &pn), *raw = segment(&raw_path, &rn);
        if (*p == '{' && !variable(p, pn, raw, rn, c)) return false;
    }
    return true;
}

void api_route_allow(const api_route_def *r, char *out, size_t cap)
{
    static const char *const name[] = {"GET, HEAD", NULL, "POST", "PUT", "PATCH", "DELETE"};
    size_t o = 0;
    out[0] = '\0';
    for (int m = 0; m < API_OTHER; m++)
        if (name[m] != NULL && r->on[m].cls != API_CLASS_NONE && o < cap)
            o += (size_t)snprintf(out + o, cap - o, "%s%s", o > 0 ? ", " : "", name[m]);
}

/* ---- dispatch ----------------------------------------------------------------------------------- */

static bool dispatch(api_call *c, bool *pending)
{
    const api_request *rq = c->rq;
    const api_route_def *r = api_route_find(rq->raw_path);
    if (r == NULL) return api_fail(&c->fault, "not_found", NULL, "there is nothing at this path");
    const action *a = find_action(r, rq->method);
    if (a == NULL) {
        api_route_allow(r, c->fault.allow, sizeof c->fault.allow);
        return api_fail(&c->fault, "method_not_allowed", NULL, "%s knows %s", r->path, c->fault.allow);
    }
    size_t max = max_body(&c->cx->limits, a->body);
    if (!api_route_params(r, rq->raw_path, c)) return false;
    if (rq->body_bytes > 0 && max == 0 && a->cls != API_CLASS_STREAM)
        return api_fail(&c->fault, "body_unexpected", NULL, "this request has no body, %zu bytes were sent", rq->body_bytes);
    if (rq->body_bytes > max && a->cls != API_CLASS_STREAM)
        return api_fail_limit(&c->fault, "body_too_large", NULL, max, "the body has %zu bytes, the limit is %zu",
                              rq->body_bytes, max);
    if (a->handler == NULL) /* the server hands streams to api_batch_open() */
        return api_fail(&c->fault, "internal", NULL, "a stream was handled as a single request");
    if (!api_call_deadline(rq, &c->fault) || !api_media_parse(&c->media, rq->content_type, &c->fault)) return false;
    return a->handler(c, pending);
}

api_state api_handle(api_ctx *cx, api_worker *w, const api_request *rq, api_reply *rp)
{
    api_call c = {.cx = cx, .w = w, .rq = rq, .rp = rp, .start_ns = api_now_ns()};
    bool pending = false;
    bool ok = dispatch(&c, &pending);
    if (!pending && !ok) api_fault_reply(rp, &c.fault, rq->request_id);
    api_params_fini(&c.params);
    return pending ? API_PENDING : API_DONE;
}
