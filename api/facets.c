/* facets.c: the facets a search asks for, from the query string or JSON, and what they counted. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 64, MAX_TOP = 1000 };

static bool more(api_facets *fs, const char *name, size_t n, const char *code, api_fault *f)
{
    if (fs->n == IDX_MAX_FACETS)
        return api_fail_limit(f, code, "facets", IDX_MAX_FACETS, "facets has more than %d entries, which is the limit", IDX_MAX_FACETS);
    if (n < 1 || n > MAX_NAME)
        return api_fail_limit(f, code, "facets", MAX_NAME, "facets[%zu] names an attribute of %zu bytes, 1 to %d is allowed", fs->n, n, MAX_NAME);
    fs->name[fs->n] = strndup(name, n);
    fs->facet[fs->n] = (idx_facet){.field = fs->name[fs->n]};
    return fs->name[fs->n++] != NULL || api_fail_memory(f);
}

static bool set_limit(api_facets *fs, double v, const char *code, api_fault *f)
{
    if (!api_is_count(v, IDX_MAX_FACET_VALUES))
        return api_fail_limit(f, code, "facets", IDX_MAX_FACET_VALUES, "facets[%zu].limit is %g, 1 to %d is allowed", fs->n - 1, v, IDX_MAX_FACET_VALUES);
    fs->facet[fs->n - 1].limit = (uint32_t)v;
    return true;
}

static bool add_range(api_facets *fs, double from, double to, const char *code, api_fault *f)
{
    idx_facet *x = &fs->facet[fs->n - 1];
    if (x->n_ranges == IDX_MAX_FACET_RANGES)
        return api_fail_limit(f, code, "facets", IDX_MAX_FACET_RANGES, "facets[%zu].ranges has more than %d entries, which is the limit", fs->n - 1, IDX_MAX_FACET_RANGES);
    if (!(from < to))
        return api_fail(f, code, "facets", "facets[%zu].ranges[%zu] is empty: from (%g) must be below to (%g)", fs->n - 1, x->n_ranges, from, to);
    idx_range *r = realloc(fs->ranges[fs->n - 1], (x->n_ranges + 1) * sizeof *r);
    if (r == NULL) return api_fail_memory(f);
    r[x->n_ranges++] = (idx_range){from, to};
    fs->ranges[fs->n - 1] = r;
    x->ranges = r;
    return true;
}

/* ---- from the query string ----------------------------------------------------------------------- */

/* "..": one end of a range, open when nothing is there. */
static bool range_end(const char *s, size_t n, double open, double *v)
{
    char text[48], *end;
    *v = open;
    if (n == 0) return true;
    if (n >= sizeof text || strspn(s, "0123456789.eE+-") < n) return false;
    memcpy(text, s, n);
    text[n] = '\0';
    *v = strtod(text, &end);
    return *end == '\0' && isfinite(*v);
}

/* s: n bytes of FROM..TO|FROM..TO, or a number of values. */
static bool detail_text(api_facets *fs, const char *s, size_t n, api_fault *f)
{
    const char *code = "parameter_invalid", *end = s + n;
    if (n > 0 && n < 8 && strspn(s, "0123456789") >= n) return set_limit(fs, atof(s), code, f);
    while (s <= end) {
        const char *bar = memchr(s, '|', (size_t)(end - s)), *stop = bar != NULL ? bar : end, *dots = memmem(s, (size_t)(stop - s), "..", 2);
        double from, to;
        if (dots == NULL || !range_end(s, (size_t)(dots - s), -INFINITY, &from) || !range_end(dots + 2, (size_t)(stop - dots - 2), INFINITY, &to))
            return api_fail(f, code, "facets", "facets: after \"%.64s:\" a number of values or ranges like 0..50|50..100 are expected", fs->name[fs->n - 1]);
        if (!add_range(fs, from, to, code, f)) return false;
        s = stop + 1;
    }
    return true;
}

bool api_facets_from_text(api_facets *fs, const char *text, api_fault *f)
{
    *fs = (api_facets){0};
    while (*text != '\0') {
        size_t n = strcspn(text, ","), name = strcspn(text, ",:");
        if (!more(fs, text, name, "parameter_invalid", f)) return false;
        if (name < n && !detail_text(fs, text + name + 1, n - name - 1, f)) return false;
        text += n + (text[n] == ',');
    }
    return true;
}

/* ---- from JSON ------------------------------------------------------------------------------------- */

static bool ranges_json(api_facets *fs, const json_t *ranges, api_fault *f)
{
    static const char *const names[] = {"from", "to", NULL};
    if (!json_is_array(ranges) || json_array_size(ranges) == 0)
        return api_fail(f, "field_invalid", "facets", "facets[%zu].ranges is not a list of objects with from and to", fs->n - 1);
    size_t i;
    const json_t *r;
    json_array_foreach(ranges, i, r)
    {
        if (!json_is_object(r)) return api_fail(f, "field_invalid", "facets", "facets[%zu].ranges[%zu] is not an object with from and to", fs->n - 1, i);
        if (!api_json_only(r, names, "facets[].ranges[].", f)) return false;
        const json_t *from = json_object_get(r, "from"), *to = json_object_get(r, "to");
        if ((from != NULL && !json_is_number(from)) || (to != NULL && !json_is_number(to)))
            return api_fail(f, "field_invalid", "facets", "facets[%zu].ranges[%zu]: from and to are numbers", fs->n - 1, i);
        if (!add_range(fs, from != NULL ? json_number_value(from) : -INFINITY, to != NULL ? json_number_value(to) : INFINITY, "field_invalid", f)) return false;
    }
    return true;
}

static bool facet_json(api_facets *fs, const json_t *v, api_fault *f)
{
    static const char *const names[] = {"field", "limit", "ranges", NULL};
    if (json_is_string(v)) return more(fs, json_string_value(v), json_string_length(v), "field_invalid", f);
    if (!json_is_object(v)) return api_fail(f, "field_invalid", "facets", "facets[%zu] is neither the name of an attribute nor an object", fs->n);
    if (!api_json_only(v, names, "facets[].", f)) return false;
    const json_t *field = json_object_get(v, "field"), *limit = json_object_get(v, "limit"), *ranges = json_object_get(v, "ranges");
    if (!json_is_string(field)) return api_fail(f, "field_invalid", "facets", "facets[%zu].field is not a string", fs->n);
    if (!more(fs, json_string_value(field), json_string_length(field), "field_invalid", f)) return false;
    if (limit != NULL && ranges != NULL) return api_fail(f, "field_invalid", "facets", "facets[%zu] has limit and ranges, one of them is expected", fs->n - 1);
    if (limit != NULL && !json_is_number(limit)) return api_fail(f, "field_invalid", "facets", "facets[%zu].limit is not a number", fs->n - 1);
    if (limit != NULL) return set_limit(fs, json_number_value(limit), "field_invalid", f);
    return ranges == NULL || ranges_json(fs, ranges, f);
}

bool api_facets_from_json(api_facets *fs, const json_t *a, api_fault *f)
{
    *fs = (api_facets){0};
    if (!json_is_array(a)) return api_fail(f, "field_invalid", "facets", "facets is not a list");
    size_t i;
    const json_t *v;
    json_array_foreach(a, i, v) if (!facet_json(fs, v, f)) return false;
    return true;
}

bool api_facets_set_top(uint32_t *top, double v, const char *code, api_fault *f)
{
    if (!api_is_count(v, MAX_TOP)) return api_fail_limit(f, code, "facets_top", MAX_TOP, "facets_top is %g, 1 to %d is allowed", v, MAX_TOP);
    *top = (uint32_t)v;
    return true;
}

void api_facets_fini(api_facets *fs)
{
    for (size_t i = 0; i < fs->n; i++) {
        free(fs->name[i]);
        free(fs->ranges[i]);
    }
    *fs = (api_facets){0};
}

/* ---- the reply ---------------------------------------------------------------------------------------- */

static void write_number(api_buf *b, double v)
{
    if (v == floor(v) && fabs(v) < 1e15) api_buf_fmt(b, "%.0f", v);
    else api_buf_real(b, v);
}

static void write_values(api_buf *b, const idx_facet_counts *c)
{
    api_buf_raw(b, ",\"values\":[", 11);
    for (size_t i = 0; i < c->n_values; i++) {
        const idx_value_count *v = &c->values[i];
        api_buf_fmt(b, "%s{\"value\":", i > 0 ? "," : "");
        if (v->kind == IDX_VALUE_TEXT) api_buf_str(b, v->text);
        else if (v->kind == IDX_VALUE_BOOL) api_buf_fmt(b, "%s", v->truth ? "true" : "false");
        else if (v->rest != 0) api_buf_fmt(b, "%lld", (long long)idx_value_whole(v));
        else write_number(b, v->number);
        api_buf_fmt(b, ",\"count\":%llu}", (unsigned long long)v->count);
    }
    api_buf_fmt(b, "],\"distinct\":%llu", (unsigned long long)c->distinct);
}

static void write_ranges(api_buf *b, const idx_facet *facet, const idx_facet_counts *c)
{
    api_buf_raw(b, ",\"ranges\":[", 11);
    for (size_t i = 0; i < facet->n_ranges; i++) {
        const idx_range *r = &facet->ranges[i];
        api_buf_raw(b, i > 0 ? ",{" : "{", i > 0 ? 2 : 1);
        if (isfinite(r->from)) {
            api_buf_raw(b, "\"from\":", 7);
            write_number(b, r->from);
            api_buf_raw(b, ",", 1);
        }
        if (isfinite(r->to)) {
            api_buf_raw(b, "\"to\":", 5);
            write_number(b, r->to);
            api_buf_raw(b, ",", 1);
        }
        api_buf_fmt(b, "\"count\":%llu}", (unsigned long long)c->ranges[i]);
    }
    api_buf_raw(b, "]", 1);
}

void api_facets_write(api_buf *b, const api_facets *fs, uint32_t top, const idx_result *r)
{
    api_buf_fmt(b, ",\"facets\":{\"over\":\"%s\",\"items\":%llu,\"exact\":%s,\"fields\":[", top > 0 ? "top" : "matches", (unsigned long long)r->facet_items,
                top > 0 ? "false" : "true");
    for (size_t i = 0; i < r->n_facets; i++) {
        const idx_facet_counts *c = &r->facets[i];
        api_buf_fmt(b, "%s{\"field\":", i > 0 ? "," : "");
        api_buf_str(b, fs->facet[i].field);
        api_buf_fmt(b, ",\"with\":%llu,\"without\":%llu", (unsigned long long)c->with, (unsigned long long)c->without);
        if (c->ranges != NULL) write_ranges(b, &fs->facet[i], c);
        else write_values(b, c);
        if (c->has_numbers) {
            api_buf_raw(b, ",\"min\":", 7);
            write_number(b, c->min);
            api_buf_raw(b, ",\"max\":", 7);
            write_number(b, c->max);
        }
        api_buf_raw(b, "}", 1);
    }
    api_buf_raw(b, "]}", 2);
}
