/* text.c: the small parsers for text from strangers. Each looks at every byte once and keeps inside its bounds. */
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

size_t api_utf8_len(const char *s, size_t n)
{
    const unsigned char *u = (const unsigned char *)s;
    if (n == 0) return 0;
    if (u[0] < 0x80) return 1;
    size_t len = u[0] >= 0xf0 ? 4 : u[0] >= 0xe0 ? 3 : 2;
    if (u[0] < 0xc2 || u[0] > 0xf4 || n < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((u[i] & 0xc0) != 0x80) return 0;
    if (u[0] == 0xe0 && u[1] < 0xa0) return 0; /* overlong */
    if (u[0] == 0xed && u[1] > 0x9f) return 0; /* surrogates */
    if (u[0] == 0xf0 && u[1] < 0x90) return 0; /* overlong */
    if (u[0] == 0xf4 && u[1] > 0x8f) return 0; /* above U+10FFFF */
    return len;
}

bool api_text_printable(const char *s, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)s[i];
        size_t len = api_utf8_len(s + i, n - i);
        if (len == 0 || c < 0x20 || c == 0x7f) return false;
        if (c == 0xc2 && (unsigned char)s[i + 1] < 0xa0) return false; /* U+0080..U+009F */
        i += len;
    }
    return true;
}

bool api_catalogue_name_ok(const char *s)
{
    size_t n = strlen(s);
    if (n == 0 || n > IDX_MAX_CATALOGUE_BYTES || s[0] == '-' || s[0] == '_') return false;
    return strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == n;
}

static int hex(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool api_percent_decode(const char *s, size_t n, bool plus, char *out, size_t cap, size_t *out_n)
{
    size_t o = 0;
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (c == '%') {
            if (n - i < 3) return false;
            int hi = hex(s[i + 1]), lo = hex(s[i + 2]);
            if (hi < 0 || lo < 0) return false;
            c = (char)(hi * 16 + lo);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        if (c == '\0' || o + 1 >= cap) return false;
        out[o++] = c;
    }
    if (o >= cap) return false;
    out[o] = '\0';
    *out_n = o;
    return true;
}

/* ---- query strings ------------------------------------------------------------------------------ */

static bool param_add(api_params *ps, const char *raw, size_t n, char *out, size_t cap, size_t *used,
                      const char *const *names, api_fault *f)
{
    const char *eq = memchr(raw, '=', n);
    size_t name_n = eq != NULL ? (size_t)(eq - raw) : n, got = 0, len = 0;
    if (!api_percent_decode(raw, name_n, true, out, cap, &got) || !api_text_printable(out, got))
        return api_fail(f, "query_invalid", NULL, "the name of query parameter %zu is not percent-encoded UTF-8", ps->n + 1);
    const char *name = NULL;
    for (size_t i = 0; names[i] != NULL; i++)
        if (strcmp(names[i], out) == 0) name = names[i];
    if (name == NULL) return api_fail(f, "parameter_unknown", out, "the query parameter \"%.100s\" is not known here", out);
    if (api_params_get(ps, name) != NULL)
        return api_fail(f, "query_invalid", name, "the query parameter \"%s\" is given twice", name);
    if (ps->n == API_MAX_PARAMS)
        return api_fail_limit(f, "query_invalid", NULL, API_MAX_PARAMS, "more than %d query parameters", API_MAX_PARAMS);
    if (eq != NULL && !api_percent_decode(eq + 1, n - name_n - 1, true, out, cap, &len)) len = SIZE_MAX;
    if (eq == NULL) out[0] = '\0';
    if (len == SIZE_MAX || !api_text_printable(out, len))
        return api_fail(f, "query_invalid", name, "the query parameter \"%s\" is not percent-encoded, printable UTF-8", name);
    ps->p[ps->n].name = name;
    ps->p[ps->n++].value = out;
    *used = len + 1;
    return true;
}

bool api_params_parse(api_params *ps, const char *raw, const char *const *names, api_fault *f)
{
    *ps = (api_params){0};
    if (raw == NULL || raw[0] == '\0') return true;
    size_t cap = strlen(raw) + 2, at = 0; /* a decoded value is never longer than its source */
    ps->store = malloc(cap);
    if (ps->store == NULL) return api_fail_memory(f);
    for (const char *s = raw; *s != '\0';) {
        size_t n = strcspn(s, "&"), used = 0;
        if (n > 0 && !param_add(ps, s, n, ps->store + at, cap - at, &used, names, f)) return false;
        at += used;
        s += n;
        if (*s == '&') s++;
    }
    return true;
}

const char *api_params_get(const api_params *ps, const char *name)
{
    for (size_t i = 0; i < ps->n; i++)
        if (strcmp(ps->p[i].name, name) == 0) return ps->p[i].value;
    return NULL;
}

void api_params_fini(api_params *ps)
{
    free(ps->store);
    *ps = (api_params){0};
}

/* ---- media types -------------------------------------------------------------------------------- */

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static const char *skip_blanks(const char *s) { return s + strspn(s, " \t"); }

/* token or quoted-string at *s into out; moves *s behind it. */
static bool media_value(const char **s, char *out, size_t cap)
{
    const char *p = *s;
    size_t o = 0;
    bool quoted = *p == '"';
    if (quoted) p++;
    while (*p != '\0' && (quoted ? *p != '"' : is_token(*p))) {
        if (quoted && *p == '\\' && p[1] != '\0') p++;
        if ((unsigned char)*p < 0x20 || o + 1 >= cap) return false;
        out[o++] = *p++;
    }
    if (quoted && *p++ != '"') return false;
    out[o] = '\0';
    *s = p;
    return o > 0;
}

bool api_media_parse(api_media *m, const char *content_type, api_fault *f)
{
    *m = (api_media){0};
    if (content_type == NULL) return true;
    const char *s = skip_blanks(content_type);
    size_t n = 0;
    while (is_token(s[n]) || s[n] == '/') n++;
    if (n == 0) return *s == '\0' || api_fail(f, "content_type_unsupported", NULL, "the content type is not a media type");
    if (n >= sizeof m->type) return api_fail(f, "content_type_unsupported", NULL, "the content type is too long");
    for (size_t i = 0; i < n; i++) m->type[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] + 32 : s[i]);
    bool multipart = strncmp(m->type, "multipart/", 10) == 0;
    const char *code = multipart ? "multipart_invalid" : "content_type_unsupported";
    s = skip_blanks(s + n);
    while (*s == ';') {
        s = skip_blanks(s + 1);
        char name[64], value[256];
        if (*s == '\0' || *s == ';') continue;
        const char *from = s;
        while (is_token(*s)) s++;
        size_t name_n = (size_t)(s - from);
        if (name_n == 0 || name_n >= sizeof name || *s != '=')
            return api_fail(f, code, NULL, "a parameter of the content type is not valid");
        memcpy(name, from, name_n);
        name[name_n] = '\0';
        s++;
        if (!media_value(&s, value, sizeof value))
            return api_fail(f, code, NULL, "the parameter \"%s\" of the content type is not valid", name);
        if (strcasecmp(name, "boundary") == 0) {
            if (m->boundary[0] != '\0') return api_fail(f, code, NULL, "the content type has two boundaries");
            if (strlen(value) > 70)
                return api_fail_limit(f, code, NULL, 70, "the boundary has %zu bytes, the limit is 70", strlen(value));
            snprintf(m->boundary, sizeof m->boundary, "%.70s", value);
        }
        s = skip_blanks(s);
    }
    if (*s != '\0') return api_fail(f, code, NULL, "the content type has text behind its end");
    return true;
}

/* ---- base64 ------------------------------------------------------------------------------------- */

/* Our own: nettle's takes 250 MB/s and lets blanks through; a line of a batch is nearly all base64. */
static inline int sextet(char c)
{
    static const int8_t value[256] = { /* 1 + the value, 0 = not of the alphabet */
        ['A'] = 1,  ['B'] = 2,  ['C'] = 3,  ['D'] = 4,  ['E'] = 5,  ['F'] = 6,  ['G'] = 7,  ['H'] = 8,  ['I'] = 9,
        ['J'] = 10, ['K'] = 11, ['L'] = 12, ['M'] = 13, ['N'] = 14, ['O'] = 15, ['P'] = 16, ['Q'] = 17, ['R'] = 18,
        ['S'] = 19, ['T'] = 20, ['U'] = 21, ['V'] = 22, ['W'] = 23, ['X'] = 24, ['Y'] = 25, ['Z'] = 26, ['a'] = 27,
        ['b'] = 28, ['c'] = 29, ['d'] = 30, ['e'] = 31, ['f'] = 32, ['g'] = 33, ['h'] = 34, ['i'] = 35, ['j'] = 36,
        ['k'] = 37, ['l'] = 38, ['m'] = 39, ['n'] = 40, ['o'] = 41, ['p'] = 42, ['q'] = 43, ['r'] = 44, ['s'] = 45,
        ['t'] = 46, ['u'] = 47, ['v'] = 48, ['w'] = 49, ['x'] = 50, ['y'] = 51, ['z'] = 52, ['0'] = 53, ['1'] = 54,
        ['2'] = 55, ['3'] = 56, ['4'] = 57, ['5'] = 58, ['6'] = 59, ['7'] = 60, ['8'] = 61, ['9'] = 62, ['+'] = 63,
        ['/'] = 64};
    return value[(unsigned char)c] - 1;
}

/* n: a multiple of 4, without the padded group. Returns how many characters are good, in whole groups. */
static size_t decode_groups(const char *s, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i += 4, out += 3) {
        int a = sextet(s[i]), b = sextet(s[i + 1]), c = sextet(s[i + 2]), d = sextet(s[i + 3]);
        if ((a | b | c | d) < 0) return i;
        uint32_t v = (uint32_t)a << 18 | (uint32_t)b << 12 | (uint32_t)c << 6 | (uint32_t)d;
        out[0] = (uint8_t)(v >> 16);
        out[1] = (uint8_t)(v >> 8);
        out[2] = (uint8_t)v;
    }
    return n;
}

/* The last group, with one or two '='; bits that are left over must be zero. */
static bool decode_padded(const char *s, size_t pad, uint8_t *out)
{
    int a = sextet(s[0]), b = sextet(s[1]), c = pad == 1 ? sextet(s[2]) : 0;
    if ((a | b | c) < 0 || (pad == 2 ? b & 15 : c & 3) != 0) return false;
    out[0] = (uint8_t)(a << 2 | b >> 4);
    if (pad == 1) out[1] = (uint8_t)(b << 4 | c >> 2);
    return true;
}

/* Removes the backslashes of "\/" (PHP writes them); any other escape stays and is refused as base64 later. */
static char *unescape(const char *s, size_t *n)
{
    char *p = malloc(*n + 1);
    if (p == NULL) return NULL;
    size_t o = 0;
    for (size_t i = 0; i < *n; i++) {
        if (s[i] == '\\' && i + 1 < *n && s[i + 1] == '/') i++;
        p[o++] = s[i];
    }
    *n = o;
    return p;
}

bool api_base64_decode(const char *s, size_t n, bool json, size_t max_bytes, const char *field, uint8_t **out,
                       size_t *out_n, api_fault *f)
{
    char *clean = NULL;
    bool ok = false;
    if (n > 0 && memchr(s, '\\', n) != NULL && json) {
        if ((clean = unescape(s, &n)) == NULL) return api_fail_memory(f);
        s = clean;
    }
    size_t pad = n > 0 && s[n - 1] == '=' ? (n > 1 && s[n - 2] == '=' ? 2u : 1u) : 0;
    size_t want = n / 4 * 3 - (n >= 4 ? pad : 0), whole = n - (pad > 0 ? 4 : 0);
    if (n == 0) {
        api_fail(f, "base64_invalid", field, "the base64 text is empty");
    } else if (n > 5 && memcmp(s, "data:", 5) == 0) {
        api_fail(f, "base64_invalid", field, "send the base64 text alone, without the \"data:...;base64,\" before it");
    } else if (n % 4 != 0) {
        api_fail(f, "base64_invalid", field, "base64 with padding has a multiple of 4 characters, this has %zu", n);
    } else if (want > max_bytes) {
        api_fail_limit(f, "image_too_large", field, max_bytes, "the image has %zu bytes, the limit is %zu", want, max_bytes);
    } else if ((*out = malloc(want)) == NULL) {
        api_fail_memory(f);
    } else if (decode_groups(s, whole, *out) != whole || (pad > 0 && !decode_padded(s + whole, pad, *out + whole / 4 * 3))) {
        size_t at = 0;
        while (at < n - pad && sextet(s[at]) >= 0) at++;
        api_fail(f, "base64_invalid", field, "the text is not base64 at character %zu", at + 1);
        free(*out);
        *out = NULL;
    } else {
        *out_n = want;
        ok = true;
    }
    free(clean);
    return ok;
}

uint64_t api_now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}
