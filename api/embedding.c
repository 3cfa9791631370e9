/* embedding.c: embeddings that clients made themselves: an array of numbers, or base64 of little-endian float32. */
#include "internal.h"

#include <math.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool digit(const char *s, const char *end) { return s < end && *s >= '0' && *s <= '9'; }

/* One number of JSON's grammar. 19 digits and a power of ten up to 22 are exact in a double but for the last product, which is
 * far more than a float holds; strtod takes the rest, from a copy that ends. */
static bool number(const char **at, const char *end, double *v)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const char *s = *at, *from = s;
    bool minus = s < end && *s == '-';
    uint64_t m = 0;
    int digits = 0, shift = 0, e = 0;
    s += minus;
    if (!digit(s, end) || (*s == '0' && digit(s + 1, end))) return false;
    for (; digit(s, end); s++, digits += m != 0) m = digits < 19 ? m * 10 + (uint64_t)(*s - '0') : m;
    if (s < end && *s == '.') {
        if (!digit(++s, end)) return false;
        for (; digit(s, end); s++, shift--, digits += m != 0) m = digits < 19 ? m * 10 + (uint64_t)(*s - '0') : m;
    }
    if (s < end && (*s == 'e' || *s == 'E')) {
        bool down = ++s < end && *s == '-';
        s += s < end && (*s == '-' || *s == '+');
        if (!digit(s, end)) return false;
        for (; digit(s, end); s++) e = e < 10000 ? e * 10 + (*s - '0') : e;
        if (down) e = -e;
    }
    *at = s;
    e += shift;
    if (digits < 19 && e >= -22 && e <= 22) {
        *v = e < 0 ? (double)m / ten[-e] : (double)m * ten[e];
        if (minus) *v = -*v;
        return true;
    }
    char copy[400];
    size_t n = (size_t)(s - from);
    if (n >= sizeof copy) return false;
    memcpy(copy, from, n);
    copy[n] = '\0';
    *v = strtod(copy, NULL);
    return true;
}

static const char *blanks(const char *s, const char *end)
{
    while (s < end && (*s == ' ' || *s == '\t' || *s == '\r' || *s == '\n')) s++;
    return s;
}

static bool wrong_count(size_t n, uint32_t dim, const char *field, api_fault *f)
{
    return api_fail_limit(f, "field_invalid", field, dim, "%s has %zu numbers, the embeddings of this catalogue have %u", field, n, dim);
}

/* "[1, 2.5e-1]": its first and its last character are the brackets, and there are no others. */
static bool from_array(const char *s, size_t n, uint32_t dim, const char *field, float *out, api_fault *f)
{
    const char *end = s + n;
    size_t count = 0;
    double v;
    s = blanks(s + 1, end);
    while (*s != ']') {
        const char *at = s;
        if (!number(&s, end, &v))
            return api_fail(f, "json_invalid", field, "number %zu of %s is not valid JSON: \"%.*s\"", count + 1, field,
                            (int)(end - at < 20 ? end - at : 20), at);
        if (!isfinite((float)v))
            return api_fail(f, "field_invalid", field, "number %zu of %s is %.*s, which is not a finite float32", count + 1, field, (int)(s - at < 40 ? s - at : 40), at);
        if (count < dim) out[count] = (float)v;
        count++;
        s = blanks(s, end);
        bool more = *s == ',';
        if (more) s = blanks(s + 1, end);
        if (more == (*s == ']')) return api_fail(f, "json_invalid", field, "%s is not a valid JSON array behind number %zu", field, count);
    }
    return count == dim || wrong_count(count, dim, field, f);
}

static bool from_base64(const char *s, size_t n, uint32_t dim, const char *field, float *out, api_fault *f)
{
    uint8_t *bytes = NULL;
    size_t got = 0;
    if (!api_base64_decode(s, n, true, n, field, &bytes, &got, f)) return false;
    bool ok = got == (size_t)dim * 4 ||
              (got % 4 == 0 ? wrong_count(got / 4, dim, field, f)
                            : api_fail(f, "field_invalid", field, "%s has %zu bytes, which is no multiple of a float32's 4", field, got));
    for (uint32_t i = 0; ok && i < dim; i++) {
        const uint8_t *b = bytes + 4 * (size_t)i;
        uint32_t bits = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
        memcpy(&out[i], &bits, sizeof bits);
    }
    free(bytes);
    return ok;
}

/* To length 1, where it is not already: what its maker normalised stays as it is, bit by bit. */
static bool normalise(float *v, uint32_t dim, const char *field, api_fault *f)
{
    double norm = 0;
    for (uint32_t i = 0; i < dim; i++) {
        if (!isfinite(v[i])) return api_fail(f, "field_invalid", field, "number %u of %s is %g, which is not a finite float32", i + 1, field, (double)v[i]);
        norm += (double)v[i] * (double)v[i];
    }
    norm = sqrt(norm);
    if (!(norm > 1e-30)) return api_fail(f, "field_invalid", field, "%s has the length 0 and no direction", field);
    if (fabs(norm - 1) < 1e-6) return true;
    for (uint32_t i = 0; i < dim; i++) v[i] = (float)((double)v[i] / norm);
    return true;
}

static bool no_numbers(const json_t *v, const char *field, api_fault *f)
{
    static const char *const kinds[] = {"an object", "an array", "a string", "a number", "a number", "true", "false", "null"}; /* by json_type */
    if (!json_is_array(v)) return api_fail(f, "field_invalid", field, "%s is %s; an array of numbers or base64 of float32 is expected", field, kinds[json_typeof(v)]);
    size_t i = 0;
    while (json_is_number(json_array_get(v, i))) i++; /* one is none, or the array would not be here */
    const json_t *e = json_array_get(v, i);
    return api_fail(f, "field_invalid", field, "number %zu of %s is %s", i + 1, field, e != NULL ? kinds[json_typeof(e)] : "not a number");
}

bool api_embedding_read(const api_doc *doc, const json_t *v, uint32_t dim, const char *field, float *out, api_fault *f)
{
    const char *p;
    size_t n;
    if (!json_is_string(v)) return no_numbers(v, field, f);
    bool numbers = api_doc_text(doc, v, &p, &n);
    return (numbers ? from_array(p, n, dim, field, out, f) : from_base64(p, n, dim, field, out, f)) && normalise(out, dim, field, f);
}

bool api_write_add_embedding(const api_write_ctx *wc, idx_op *op, const api_doc *doc, const json_t *v, const char *field)
{
    const idx_catalogue *cat = wc->cat;
    if (!api_is_external(cat))
        return api_fail(wc->fault, "model_mismatch", field,
                        "the catalogue \"%s\" holds embeddings of model %.64s, made from photos; your own belong in one with the model \"external\"",
                        wc->catalogue, cat->model);
    idx_image *im = api_write_image(wc, op, field);
    if (im == NULL) return false;
    if ((im->embedding = malloc(cat->dim * sizeof *im->embedding)) == NULL) return api_fail_memory(wc->fault);
    if (!api_embedding_read(doc, v, cat->dim, field, im->embedding, wc->fault)) return false;
    struct sha256_ctx sha; /* tells a client what it sent, as that of a photo does */
    sha256_init(&sha);
    sha256_update(&sha, cat->dim * sizeof *im->embedding, (const uint8_t *)im->embedding);
    sha256_digest(&sha, sizeof im->sha256, im->sha256);
    return true;
}
