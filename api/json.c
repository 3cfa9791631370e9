/* json.c: jansson behind limits. Long base64 strings and embeddings never reach it: a first scan copies the document without
 * them and leaves "@0", "@1" ... in their places. */
#include "json.h"
#include "buf.h"
#include "text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *s;
    size_t n;
    char *out;
    size_t o, cap;
    unsigned depth;
    const char *key; /* the last string, without its quotes */
    size_t key_n;
    char prev; /* the last character outside strings that is not blank */
} scan;

static bool emit(scan *c, const char *p, size_t n)
{
    if (c->cap - c->o < n) return false;
    memcpy(c->out + c->o, p, n);
    c->o += n;
    return true;
}

/* The index of the closing quote of the string whose inside starts at `from`, or n. */
static size_t string_end(const scan *c, size_t from)
{
    for (size_t i = from; i < c->n;) {
        const char *q = memchr(c->s + i, '"', c->n - i);
        if (q == NULL) return c->n;
        size_t end = (size_t)(q - c->s);
        const char *esc = memchr(c->s + i, '\\', end - i);
        if (esc == NULL) return end;
        i = (size_t)(esc - c->s) + 2;
    }
    return c->n;
}

/* The value of `key` comes next, and there is room for what it is. */
static bool at_value(const scan *c, const api_doc *d, unsigned depth, const char *key)
{
    size_t n = strlen(key);
    return c->prev == ':' && c->depth == depth && c->key_n == n && memcmp(c->key, key, n) == 0 && d->n_blobs < API_MAX_BLOBS;
}

static bool at_embedding(const scan *c, const api_doc *d) { return at_value(c, d, 1, "embedding") || at_value(c, d, 3, "embedding"); }

/* A photo or an embedding: in places that no valid attribute can have. Escapes other than "\/" leave it to the parser and
 * its limit. */
static bool is_blob(const scan *c, const api_doc *d, const char *p, size_t n)
{
    if (!at_value(c, d, 1, "image") && !at_value(c, d, 3, "data") && !at_embedding(c, d)) return false;
    for (size_t i = 0; i < n;) {
        const char *esc = memchr(p + i, '\\', n - i);
        if (esc == NULL) return true;
        i = (size_t)(esc - p) + 2;
        if (esc[1] != '/') return false;
    }
    return true;
}

/* How long an array of numbers is that begins at `from`; 0: something else is in it, and the parser shall see it. */
static size_t numbers_length(const scan *c, size_t from)
{
    size_t i = from + 1;
    while (i < c->n && ((c->s[i] >= '0' && c->s[i] <= '9') || (c->s[i] != '\0' && strchr("+-.eE, \t\r\n", c->s[i]) != NULL))) i++;
    return i < c->n && c->s[i] == ']' ? i + 1 - from : 0;
}

static bool take_out(scan *c, api_doc *d, const char *p, size_t n, bool numbers)
{
    char ref[16];
    d->blob[d->n_blobs].p = p;
    d->blob[d->n_blobs].n = n;
    d->blob[d->n_blobs].numbers = numbers;
    int len = snprintf(ref, sizeof ref, "\"@%zu\"", d->n_blobs++);
    return emit(c, ref, (size_t)len);
}

static bool skeleton(scan *c, api_doc *d, bool blobs)
{
    for (size_t i = 0; i < c->n;) {
        char ch = c->s[i];
        if (ch == '"') {
            size_t end = string_end(c, i + 1);
            const char *p = c->s + i + 1;
            size_t n = end - i - 1;
            if (blobs && end < c->n && is_blob(c, d, p, n)) {
                if (!take_out(c, d, p, n, false)) return false;
            } else if (!emit(c, c->s + i, end < c->n ? n + 2 : c->n - i)) {
                return false;
            }
            c->key = p;
            c->key_n = n;
            c->prev = '"';
            i = end + 1;
            continue;
        }
        size_t numbers = blobs && ch == '[' && at_embedding(c, d) ? numbers_length(c, i) : 0;
        if (numbers > 0) {
            if (!take_out(c, d, c->s + i, numbers, true)) return false;
            c->prev = ']';
            i += numbers;
            continue;
        }
        if (ch == '{' || ch == '[') c->depth++;
        if ((ch == '}' || ch == ']') && c->depth > 0) c->depth--;
        if (ch != ' ' && ch != '\t' && ch != '\r' && ch != '\n') c->prev = ch;
        if (!emit(c, c->s + i, 1)) return false;
        i++;
    }
    return true;
}

/* Where the parser stopped in the document as it was sent: `at` counts bytes of the copy, in which "@3" stands for what was taken out.
 * Columns count bytes. */
static void place(const api_doc *d, const uint8_t *body, size_t n, size_t at, size_t *line, size_t *column)
{
    size_t removed = 0; /* until then */
    for (size_t i = 0; i < d->n_blobs; i++) {
        bool numbers = d->blob[i].numbers;
        size_t from = (size_t)(d->blob[i].p - (const char *)body) - !numbers, size = d->blob[i].n + (numbers ? 0 : 2);
        if (from - removed >= at) break; /* removed: modulo 2^64, as what is taken out may be shorter than its name */
        removed += size - (i < 10 ? 4 : 5);
    }
    at += removed;
    if (at > n) at = n;
    *line = 1;
    *column = at;
    for (size_t i = 0; i < at; i++)
        if (body[i] == '\n') *line += 1, *column = at - i - 1;
}

bool api_doc_parse(api_doc *d, const uint8_t *body, size_t n, bool blobs, size_t max_bytes, const char *field,
                   api_fault *f)
{
    *d = (api_doc){0};
    const char *where = field != NULL ? field : "the body";
    if (n >= 3 && memcmp(body, "\xef\xbb\xbf", 3) == 0) /* as files of some editors do; the parser's own words would show what nobody sees */
        return api_fail(f, "json_invalid", field, "%s begins with a byte order mark (the bytes EF BB BF), which JSON has none of", where);
    if (n == 0) {
        if (field == NULL) return api_fail(f, "body_missing", NULL, "a JSON object is expected in the body");
        return api_fail(f, "json_invalid", field, "%s is empty, a JSON object is expected", where);
    }
    scan c = {.s = (const char *)body, .n = n, .cap = n + 8 * API_MAX_BLOBS < max_bytes ? n + 8 * API_MAX_BLOBS : max_bytes};
    c.out = malloc(c.cap + 1);
    if (c.out == NULL) return api_fail_memory(f);
    if (!skeleton(&c, d, blobs)) {
        free(c.out);
        return api_fail_limit(f, "json_too_large", field, max_bytes, "%s has more than %zu bytes of JSON%s", where, max_bytes,
                              blobs ? ", not counting photos and embeddings" : "");
    }
    json_error_t je = {.position = 0};
    d->root = json_loadb(c.out, c.o, JSON_REJECT_DUPLICATES, &je);
    free(c.out);
    if (d->root == NULL) {
        /* Where an allocation fails jansson mostly says nothing. */
        if (json_error_code(&je) == json_error_out_of_memory || je.text[0] == '\0') return api_fail_memory(f);
        size_t line, column;
        place(d, body, n, (size_t)je.position, &line, &column);
        if (strncmp(je.text, "\\u0000", 6) == 0) strcpy(je.text, "\\u0000 is not allowed"); /* jansson names a flag of its own */
        return api_fail(f, "json_invalid", field, "%s is not valid JSON: %s (line %zu, column %zu)", where, je.text, line, column);
    }
    if (!json_is_object(d->root)) return api_fail(f, "json_invalid", field, "%s is not a JSON object", where);
    return true;
}

void api_doc_fini(api_doc *d)
{
    json_decref(d->root);
    d->root = NULL;
}

bool api_doc_text(const api_doc *d, const json_t *string, const char **p, size_t *n)
{
    *p = json_string_value(string);
    *n = json_string_length(string);
    if (*n < 2 || *n > 3 || (*p)[0] != '@') return false;
    char *end;
    unsigned long i = strtoul(*p + 1, &end, 10);
    if (*end != '\0' || i >= d->n_blobs) return false;
    *n = d->blob[i].n;
    *p = d->blob[i].p;
    return d->blob[i].numbers;
}

bool api_json_only(const json_t *o, const char *const *names, const char *prefix, api_fault *f)
{
    for (void *it = json_object_iter((json_t *)o); it != NULL; it = json_object_iter_next((json_t *)o, it)) {
        const char *key = json_object_iter_key(it);
        size_t i = 0;
        while (names[i] != NULL && strcmp(names[i], key) != 0) i++;
        if (names[i] != NULL) continue;
        char field[160];
        snprintf(field, sizeof field, "%s%.100s", prefix, key);
        return api_fail(f, "field_unknown", field, "the member \"%s\" is not known here", field);
    }
    return true;
}

static bool attribute_ok(const json_t *v, bool patch)
{
    switch (json_typeof(v)) {
    case JSON_STRING:
    case JSON_INTEGER:
    case JSON_REAL:
    case JSON_TRUE:
    case JSON_FALSE: return true;
    case JSON_NULL: return patch;
    case JSON_ARRAY:
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!json_is_string(json_array_get(v, i))) return false;
        return true;
    case JSON_OBJECT: break;
    }
    return false;
}

bool api_attributes_text(const json_t *a, bool patch, char **text, api_fault *f)
{
    if (!json_is_object(a)) return api_fail(f, "attributes_invalid", "attributes", "attributes is not a JSON object");
    for (void *it = json_object_iter((json_t *)a); it != NULL; it = json_object_iter_next((json_t *)a, it)) {
        const char *key = json_object_iter_key(it);
        char field[160];
        snprintf(field, sizeof field, "attributes.%.120s", key);
        if (key[0] == '\0' || !api_text_printable(key, strlen(key)))
            return api_fail(f, "attributes_invalid", "attributes", "the name of an attribute is empty or has control characters");
        if (!attribute_ok(json_object_iter_value(it), patch))
            return api_fail(f, "attributes_invalid", field,
                            "%s is neither a string, a number, a boolean%s nor an array of strings", field,
                            patch ? ", null" : "");
    }
    api_buf b = {0};
    api_buf_json(&b, a);
    if (!b.failed && b.n > IDX_MAX_ATTR_BYTES) {
        size_t n = b.n;
        api_buf_fini(&b);
        return api_fail_limit(f, "attributes_invalid", "attributes", IDX_MAX_ATTR_BYTES,
                              "the attributes have %zu bytes as JSON, the limit is %u", n, IDX_MAX_ATTR_BYTES);
    }
    api_buf_raw(&b, "", 1); /* the terminator */
    size_t n;
    *text = api_buf_take(&b, &n);
    if (*text == NULL) return api_fail_memory(f);
    idx_error err = {0}; /* the index's own limits now, not after the photos were worked on */
    if (idx_attributes_check(*text, patch, &err) == IDX_OK) return true;
    free(*text);
    *text = NULL;
    return api_fail_said(f, "attributes_invalid", "attributes", &err);
}
