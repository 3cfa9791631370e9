/* guard.c: framing, header names, request target. RFC 9110 (tokens), RFC 9112 section 6 (message length). */
#include "guard.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

typedef struct {
    srv_headers *h;
    unsigned headers, lengths, codings, hosts, types, keys;
    size_t bytes;
    const char *wrong;
} scan;

static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char) s[i]) && (s[i] == '\0' || strchr("!#$%&'*+-.^_`|~", s[i]) == NULL)) return false;
    return n > 0;
}

static bool read_length(const char *s, size_t n, uint64_t *out)
{
    uint64_t v = 0;
    if (n == 0 || n > 18) return false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9') return false;
        v = 10 * v + (uint64_t) (s[i] - '0');
    }
    *out = v;
    return true;
}

static void wrong(scan *s, const char *why)
{
    if (s->wrong == NULL) s->wrong = why;
}

/* libmicrohttpd 0.9 glues the continuation of a folded header to its name: "Content-Length: 3" and " 0" arrive as
 * "Content-Length0". Whoever sits in front of us may have read a length there. */
static bool is_glued(const char *name)
{
    static const char *const framing[] = {"Content-Length", "Transfer-Encoding"};
    for (size_t i = 0; i < sizeof framing / sizeof *framing; i++) {
        size_t n = strlen(framing[i]);
        if (strncasecmp(name, framing[i], n) == 0 && name[n] != '\0') return true;
    }
    return false;
}

static enum MHD_Result see_header(void *ctx, enum MHD_ValueKind kind, const char *name, size_t name_n, const char *value,
                                  size_t value_n)
{
    (void) kind;
    scan *s = ctx;
    srv_headers *h = s->h;
    if (!is_token(name, name_n)) wrong(s, "a header name has a byte that is not allowed in one");
    if (value == NULL) value_n = 0, value = "";
    if (is_glued(name)) wrong(s, "a header that frames the body is folded or has no such name");
    s->headers++;
    s->bytes += name_n + value_n;
    for (size_t i = 0; i < value_n; i++)
        if ((unsigned char) value[i] < 0x20 && value[i] != '\t') wrong(s, "a header value has a control byte");
    if (strcasecmp(name, "Content-Length") == 0) {
        s->lengths++;
        h->has_length = true;
        if (!read_length(value, value_n, &h->length)) wrong(s, "Content-Length is not a whole number");
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        s->codings++;
        h->chunked = true;
        if (strcasecmp(value, "chunked") != 0) wrong(s, "a transfer coding other than chunked is not supported");
    } else if (strcasecmp(name, "Host") == 0) {
        s->hosts++;
    } else if (strcasecmp(name, "Content-Type") == 0) {
        s->types++;
        h->content_type = value;
    } else if (strcasecmp(name, "Authorization") == 0) {
        s->keys++;
        h->authorization = value;
    } else if (strcasecmp(name, "If-None-Match") == 0) {
        h->if_none_match = value;
        h->condition = "If-None-Match";
    } else if (strcasecmp(name, "If-Match") == 0) {
        h->condition = "If-Match";
    } else if (strcasecmp(name, "If-Unmodified-Since") == 0) {
        h->condition = "If-Unmodified-Since";
    } else if (strcasecmp(name, "Origin") == 0) {
        h->origin = value;
    } else if (strcasecmp(name, "Access-Control-Request-Method") == 0) {
        h->preflight = true;
    } else if (strcasecmp(name, "X-Request-Id") == 0) {
        h->request_id = value;
    } else if (strcasecmp(name, "Content-Encoding") == 0 && strcasecmp(value, "identity") != 0) {
        wrong(s, "Content-Encoding is not supported: send the body as it is");
    }
    return MHD_YES;
}

bool srv_guard_headers(struct MHD_Connection *c, bool needs_host, srv_headers *out, const char **code, const char **detail)
{
    *out = (srv_headers){0};
    scan s = {.h = out};
    MHD_get_connection_values_n(c, MHD_HEADER_KIND, see_header, &s);
    if (s.lengths > 1) wrong(&s, "more than one Content-Length");
    if (s.codings > 1) wrong(&s, "more than one Transfer-Encoding");
    if (s.lengths > 0 && s.codings > 0) wrong(&s, "both Content-Length and Transfer-Encoding");
    if (s.hosts > 1) wrong(&s, "more than one Host");
    if (s.hosts == 0 && needs_host) wrong(&s, "HTTP/1.1 needs a Host header");
    if (s.types > 1) wrong(&s, "more than one Content-Type");
    if (s.keys > 1) wrong(&s, "more than one Authorization");
    *code = "bad_request";
    *detail = s.wrong;
    if (s.headers > SRV_MAX_HEADERS || s.bytes > SRV_MAX_HEADER_BYTES) {
        *code = "headers_too_large";
        *detail = "more than 128 headers, or more than 32 kB of them";
    }
    return *detail == NULL;
}

bool srv_guard_target(char *target, const char **path, const char **query, const char **code, const char **detail)
{
    *code = "bad_request";
    size_t n = strlen(target);
    if (n > SRV_MAX_TARGET) {
        *code = "uri_too_long";
        *detail = "the request target, path and query together, is longer than 16384 bytes";
        _Static_assert(SRV_MAX_TARGET == 16384, "and so it says");
        return false;
    }
    for (size_t i = 0; i < n; i++)
        if ((unsigned char) target[i] <= 0x20 || (unsigned char) target[i] >= 0x7f) {
            *code = "path_invalid";
            *detail = "the request target has a byte that must be percent-encoded";
            return false;
        }
    if (strncasecmp(target, "http://", 7) == 0 || strncasecmp(target, "https://", 8) == 0) {
        static char root[] = "/";
        target = strpbrk(strstr(target, "://") + 3, "/?");
        if (target == NULL) target = root;
    }
    if (*target != '/') {
        *detail = "the request target must begin with /";
        return false;
    }
    char *mark = strchr(target, '?');
    if (mark != NULL) *mark = '\0';
    *path = target;
    *query = mark != NULL ? mark + 1 : NULL;
    return true;
}

static const struct {
    const char *name;
    api_method method;
} methods[] = {{"GET", API_GET}, {"HEAD", API_HEAD}, {"POST", API_POST}, {"PUT", API_PUT}, {"PATCH", API_PATCH}, {"DELETE", API_DELETE}};

api_method srv_guard_method(const char *method)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (strcmp(method, methods[i].name) == 0) return methods[i].method;
    return API_OTHER;
}

const char *srv_method_name(api_method m)
{
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (methods[i].method == m) return methods[i].name;
    return "OTHER";
}
