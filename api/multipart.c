/* multipart.c: one pass over the body. A boundary is searched with memmem, so a body full of near-boundaries stays
 * linear; whatever RFC 7578 leaves open is refused rather than guessed. */
#include "multipart.h"
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool bad(api_fault *f, size_t part, const char *what)
{
    if (part == 0) return api_fail(f, "multipart_invalid", NULL, "%s", what);
    return api_fail(f, "multipart_invalid", NULL, "part %zu: %s", part, what);
}

static bool boundary_ok(const char *b)
{
    size_t n = strlen(b);
    static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'()+_,-./:=? ";
    return n >= 1 && n <= 70 && strspn(b, chars) == n && b[n - 1] != ' ';
}

/* One parameter of a disposition at *s (behind the ';' and blanks): NAME=token or NAME="quoted". Browsers escape a
 * quote as %22, others as \". */
static bool disposition_param(const char **s, char *name, size_t name_cap, char *value, size_t value_cap)
{
    size_t n = strcspn(*s, "=; \t\"");
    if (n == 0 || n >= name_cap || (*s)[n] != '=') return false;
    memcpy(name, *s, n);
    name[n] = '\0';
    const char *p = *s + n + 1;
    size_t o = 0;
    bool quoted = *p == '"';
    if (quoted) p++;
    while (*p != '\0' && (quoted ? *p != '"' : strchr("; \t\"", *p) == NULL)) {
        if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\')) p++;
        if (o + 1 < value_cap) value[o++] = *p;
        p++;
    }
    if (quoted && *p++ != '"') return false;
    value[o] = '\0';
    *s = p;
    return true;
}

static bool disposition(const char *s, char *out, size_t cap, size_t part, api_fault *f)
{
    char name[32], value[64];
    bool named = false;
    if (strncasecmp(s, "form-data", 9) != 0) return bad(f, part, "its disposition is not form-data");
    s += 9;
    for (;;) {
        s += strspn(s, " \t");
        if (*s == '\0') break;
        if (*s++ != ';') return bad(f, part, "its disposition is not valid");
        s += strspn(s, " \t");
        if (!disposition_param(&s, name, sizeof name, value, sizeof value))
            return bad(f, part, "a parameter of its disposition is not valid");
        if (strcasecmp(name, "name*") == 0) return bad(f, part, "name* is not allowed");
        if (strcasecmp(name, "name") != 0) continue; /* filename and others: never used */
        if (named) return bad(f, part, "its disposition has two names");
        named = true;
        size_t value_n = strlen(value);
        if (value_n >= cap) return bad(f, part, "its name is too long");
        memcpy(out, value, value_n + 1);
    }
    return named || bad(f, part, "it has no name");
}

/* One header line, NUL-terminated. */
static bool header_line(char *line, char *name, size_t cap, bool *named, size_t part, api_fault *f)
{
    char *colon = strchr(line, ':');
    if (colon == NULL || colon == line) return bad(f, part, "a header line has no name");
    *colon = '\0';
    for (const char *p = line; *p != '\0'; p++)
        if (*p <= ' ' || *p == 0x7f) return bad(f, part, "a header name holds a blank");
    const char *value = colon + 1 + strspn(colon + 1, " \t");
    if (strcasecmp(line, "content-disposition") == 0) {
        if (*named) return bad(f, part, "it has two dispositions");
        *named = true;
        return disposition(value, name, cap, part, f);
    }
    if (strcasecmp(line, "content-transfer-encoding") == 0) {
        size_t n = strcspn(value, " \t");
        bool plain = (n == 6 && strncasecmp(value, "binary", 6) == 0) || (n == 4 && strncasecmp(value, "8bit", 4) == 0) ||
                     (n == 4 && strncasecmp(value, "7bit", 4) == 0);
        if (!plain) return bad(f, part, "its transfer encoding is not binary (RFC 7578 forbids others)");
    }
    return true;
}

/* The header block at *p: lines up to an empty one. */
static bool headers(const uint8_t **p, const uint8_t *end, api_part *out, size_t part, api_fault *f)
{
    size_t left = (size_t)(end - *p), used = 0;
    bool named = false;
    for (unsigned lines = 0;; lines++) {
        char line[1024];
        const uint8_t *nl = memchr(*p, '\n', left);
        if (nl == NULL) return bad(f, part, "its headers do not end");
        size_t n = (size_t)(nl - *p);
        if ((used += n + 1) > API_PART_HEADER_BYTES || n >= sizeof line || lines > 16)
            return api_fail_limit(f, "multipart_invalid", NULL, API_PART_HEADER_BYTES,
                                  "part %zu: its headers are too long (the limit is %d bytes, 16 lines of 1023)", part,
                                  API_PART_HEADER_BYTES);
        if (n == 0 || nl[-1] != '\r') return bad(f, part, "a header line does not end with CR LF");
        memcpy(line, *p, n);
        line[--n] = '\0';
        left -= (size_t)(nl + 1 - *p);
        *p = nl + 1;
        if (n == 0) break;
        if (strlen(line) != n || memchr(line, '\r', n) != NULL) return bad(f, part, "a header line holds a control character");
        if (line[0] == ' ' || line[0] == '\t') return bad(f, part, "a header line is folded");
        if (!header_line(line, out->name, sizeof out->name, &named, part, f)) return false;
    }
    return named || bad(f, part, "it has no Content-Disposition");
}

static bool known(const api_part *p, const char *const *names, size_t part, api_fault *f)
{
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], p->name) == 0) return true;
    char shown[sizeof p->name];
    snprintf(shown, sizeof shown, "%s", api_text_printable(p->name, strlen(p->name)) ? p->name : "?");
    return api_fail(f, "multipart_invalid", shown, "part %zu: a part named \"%s\" is not known here", part, shown);
}

bool api_multipart_parse(api_parts *ps, const uint8_t *body, size_t n, const char *boundary, const char *const *names,
                         api_fault *f)
{
    ps->n = 0;
    if (n == 0) return api_fail(f, "body_missing", NULL, "a multipart body is expected");
    if (boundary[0] == '\0') return bad(f, 0, "the content type has no boundary");
    if (!boundary_ok(boundary)) return bad(f, 0, "the boundary has characters that are not allowed");
    char delim[80];
    size_t dn = (size_t)snprintf(delim, sizeof delim, "\r\n--%s", boundary);
    const uint8_t *p = body, *end = body + n;
    /* The first delimiter has no line before it: no preamble. */
    if (n < dn - 2 || memcmp(p, delim + 2, dn - 2) != 0) return bad(f, 0, "the body does not start with the boundary");
    p += dn - 2;
    for (;;) {
        if (end - p >= 2 && p[0] == '-' && p[1] == '-') {
            p += 2;
            break;
        }
        while (p < end && (*p == ' ' || *p == '\t')) p++;
        if (end - p < 2 || p[0] != '\r' || p[1] != '\n') return bad(f, 0, "a boundary line does not end with CR LF");
        p += 2;
        if (ps->n == API_MAX_PARTS)
            return api_fail_limit(f, "multipart_invalid", NULL, API_MAX_PARTS, "more than %d parts", API_MAX_PARTS);
        api_part *part = &ps->part[ps->n];
        size_t number = ++ps->n;
        if (!headers(&p, end, part, number, f) || !known(part, names, number, f)) return false;
        /* An empty part: its delimiter's line break is the one that ended the headers. */
        const uint8_t *from = (size_t)(end - p) >= dn - 2 && memcmp(p, delim + 2, dn - 2) == 0 ? p - 2 : p;
        const uint8_t *at = memmem(from, (size_t)(end - from), delim, dn);
        if (at == NULL) return bad(f, number, "the boundary that ends it is missing");
        part->p = p;
        part->n = at > p ? (size_t)(at - p) : 0;
        p = at + dn;
    }
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    if (p < end && !(end - p == 2 && p[0] == '\r' && p[1] == '\n')) return bad(f, 0, "there is text behind the closing boundary");
    return ps->n > 0 || bad(f, 0, "it has no parts");
}
