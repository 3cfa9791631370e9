/* query.c: the bodies and options of search and embed: raw photo, multipart, JSON; query string or JSON members. */
#include "internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum {
    OPT_LIMIT, OPT_PAGE_TOKEN, OPT_MIN_SCORE, OPT_CROP, OPT_FIELDS, OPT_FILTER, OPT_EXACT, OPT_ENCODING, OPT_FACETS, OPT_FACETS_TOP, OPT_EXPLAIN
} option;
static const char *const option_name[] = {"limit", "page_token", "min_score", "crop",       "fields", "filter",
                                          "exact", "encoding",   "facets",    "facets_top", "explain"};
static const char *const search_names[] = {"limit", "page_token", "min_score",  "crop",    "fields", "filter",
                                           "exact", "facets",     "facets_top", "explain", NULL};
static const char *const embed_names[] = {"crop", "encoding", NULL};
static const char *const search_body[] = {"limit",  "page_token", "min_score", "crop",  "fields", "filter",    "exact",
                                          "facets", "facets_top", "explain",   "image", "item",   "embedding", NULL};
static const char *const embed_body[] = {"crop", "encoding", "image", NULL};

typedef struct {
    api_call *c;
    api_options *o;
    const char *code; /* parameter_invalid for the query string, field_invalid for JSON */
} setter;

/* ---- values, whatever they came from ------------------------------------------------------------ */

static bool set_limit(const setter *s, double v)
{
    uint32_t max = s->c->cx->limits.max_limit;
    if (!api_is_count(v, max))
        return api_fail_limit(&s->c->fault, s->code, "limit", max, "limit is %.9g, 1 to %u is allowed", v, max);
    s->o->limit = (uint32_t)v;
    return true;
}

static bool set_min_score(const setter *s, double v)
{
    if (!(v >= -1 && v <= 1))
        return api_fail(&s->c->fault, s->code, "min_score", "min_score is %.9g, -1 to 1 is allowed", v);
    s->o->min_score = (float)v;
    return true;
}

static bool set_crop(const setter *s, const double v[4])
{
    const double slack = 1e-6; /* of fractions that a client rounded */
    for (int i = 0; i < 4; i++)
        if (!(v[i] >= 0 && v[i] <= 1))
            return api_fail(&s->c->fault, s->code, "crop", "crop holds %g, fractions of the picture from 0 to 1 are allowed",
                            v[i]);
    if (v[2] <= 0 || v[3] <= 0 || v[0] + v[2] > 1 + slack || v[1] + v[3] > 1 + slack)
        return api_fail(&s->c->fault, s->code, "crop", "the crop x=%g y=%g w=%g h=%g is empty or leaves the picture", v[0],
                        v[1], v[2], v[3]);
    emb_crop *k = &s->o->crop;
    *k = (emb_crop){(float)v[0], (float)v[1], (float)v[2], (float)v[3]};
    if (k->x + k->w > 1) k->w = 1 - k->x;
    if (k->y + k->h > 1) k->h = 1 - k->y;
    if (!(k->w > 0 && k->h > 0)) return api_fail(&s->c->fault, s->code, "crop", "the crop is empty");
    s->o->has_crop = true;
    return true;
}

static bool set_text(const setter *s, char **to, const char *v)
{
    if (v[0] == '\0') return true;
    *to = strdup(v);
    return *to != NULL || api_fail_memory(&s->c->fault);
}

static bool set_filter(const setter *s, const char *v)
{
    idx_error err = {0};
    if (strlen(v) > IDX_MAX_FILTER_BYTES)
        return api_fail_limit(&s->c->fault, "filter_invalid", "filter", IDX_MAX_FILTER_BYTES,
                              "the filter has %zu bytes, the limit is %d", strlen(v), IDX_MAX_FILTER_BYTES);
    if (!set_text(s, &s->o->filter, v)) return false;
    if (s->o->filter == NULL) return true;
    idx_status st = idx_filter_check(s->o->filter, &err); /* before any work is done for the photo */
    return st == IDX_OK || api_fail_idx(&s->c->fault, st, &err, NULL);
}

static bool flag_text(const setter *s, option which, const char *text, bool *to)
{
    *to = strcmp(text, "true") == 0;
    return *to || strcmp(text, "false") == 0 ||
           api_fail(&s->c->fault, s->code, option_name[which], "%s is \"%.40s\", true or false is expected", option_name[which], text);
}

static bool flag_json(const setter *s, option which, const json_t *v, bool *to)
{
    *to = json_is_true(v);
    return json_is_boolean(v) || api_fail(&s->c->fault, s->code, option_name[which], "%s is not true or false", option_name[which]);
}

static bool set_encoding(const setter *s, const char *v)
{
    s->o->base64 = strcmp(v, "base64") == 0;
    return s->o->base64 || strcmp(v, "float") == 0 ||
           api_fail(&s->c->fault, s->code, "encoding", "encoding is \"%.20s\", float or base64 is allowed", v);
}

/* ---- from the query string ---------------------------------------------------------------------- */

/* Decimal notation only: strtod also takes hexadecimal, inf and nan. *rest: behind the number. */
static bool number(const char *s, double *v, const char **rest)
{
    size_t n = strspn(s, "0123456789.eE+-");
    char *end;
    if (n == 0 || n > 40) return false;
    *v = strtod(s, &end);
    *rest = end;
    return end == s + n && isfinite(*v);
}

static bool whole_number(const setter *s, option which, const char *text, double *v)
{
    const char *rest;
    if (number(text, v, &rest) && *rest == '\0') return true;
    return api_fail(&s->c->fault, s->code, option_name[which], "%s is \"%.40s\", a number is expected", option_name[which],
                    text);
}

static bool option_text(const setter *s, option which, const char *text)
{
    double v[4];
    switch (which) {
    case OPT_LIMIT: return whole_number(s, which, text, v) && set_limit(s, v[0]);
    case OPT_MIN_SCORE: return whole_number(s, which, text, v) && set_min_score(s, v[0]);
    case OPT_CROP:
        for (int i = 0; i < 4; i++) {
            const char *rest;
            if (!number(text, &v[i], &rest) || *rest != (i < 3 ? ',' : '\0'))
                return api_fail(&s->c->fault, s->code, "crop", "crop is not four numbers x,y,w,h");
            text = rest + 1;
        }
        return set_crop(s, v);
    case OPT_FIELDS: return api_fields_from_text(&s->o->fields, text, &s->c->fault);
    case OPT_EXACT: return flag_text(s, which, text, &s->o->exact);
    case OPT_EXPLAIN: return flag_text(s, which, text, &s->o->explain);
    case OPT_FACETS: return api_facets_from_text(&s->o->facets, text, &s->c->fault);
    case OPT_FACETS_TOP: return whole_number(s, which, text, v) && api_facets_set_top(&s->o->facets_top, v[0], s->code, &s->c->fault);
    case OPT_PAGE_TOKEN: return set_text(s, &s->o->page_token, text);
    case OPT_FILTER: return set_filter(s, text);
    case OPT_ENCODING: break;
    }
    return set_encoding(s, text);
}

/* ---- from JSON ---------------------------------------------------------------------------------- */

static bool crop_json(const setter *s, const json_t *v)
{
    static const char *const names[] = {"x", "y", "w", "h", NULL};
    double d[4];
    if (!json_is_object(v)) return api_fail(&s->c->fault, s->code, "crop", "crop is not an object with x, y, w and h");
    if (!api_json_only(v, names, "crop.", &s->c->fault)) return false;
    for (int i = 0; i < 4; i++) {
        const json_t *m = json_object_get(v, names[i]);
        if (!json_is_number(m)) return api_fail(&s->c->fault, s->code, "crop", "crop.%s is not a number", names[i]);
        d[i] = json_number_value(m);
    }
    return set_crop(s, d);
}

static bool option_json(const setter *s, option which, const json_t *v)
{
    bool text = which == OPT_PAGE_TOKEN || which == OPT_FILTER || which == OPT_ENCODING;
    bool num = which == OPT_LIMIT || which == OPT_MIN_SCORE || which == OPT_FACETS_TOP;
    const char *name = option_name[which];
    if (text && !json_is_string(v)) return api_fail(&s->c->fault, s->code, name, "%s is not a string", name);
    if (num && !json_is_number(v)) return api_fail(&s->c->fault, s->code, name, "%s is not a number", name);
    switch (which) {
    case OPT_LIMIT: return set_limit(s, json_number_value(v));
    case OPT_MIN_SCORE: return set_min_score(s, json_number_value(v));
    case OPT_CROP: return crop_json(s, v);
    case OPT_FIELDS: return api_fields_from_json(&s->o->fields, v, &s->c->fault);
    case OPT_EXACT: return flag_json(s, which, v, &s->o->exact);
    case OPT_EXPLAIN: return flag_json(s, which, v, &s->o->explain);
    case OPT_FACETS: return api_facets_from_json(&s->o->facets, v, &s->c->fault);
    case OPT_FACETS_TOP: return api_facets_set_top(&s->o->facets_top, json_number_value(v), s->code, &s->c->fault);
    case OPT_PAGE_TOKEN: return set_text(s, &s->o->page_token, json_string_value(v));
    case OPT_FILTER: return set_filter(s, json_string_value(v));
    case OPT_ENCODING: break;
    }
    return set_encoding(s, json_string_value(v));
}

/* ---- both --------------------------------------------------------------------------------------- */

static bool options_from_params(api_call *c, api_options *o, const char *const *names)
{
    setter s = {c, o, "parameter_invalid"};
    if (!api_call_params(c, names)) return false;
    for (unsigned i = 0; i < sizeof option_name / sizeof *option_name; i++) {
        const char *v = api_params_get(&c->params, option_name[i]);
        if (v == NULL) continue;
        o->given |= 1u << i;
        if (!option_text(&s, (option)i, v)) return false;
    }
    return true;
}

static bool options_from_json(api_call *c, api_options *o, const json_t *root)
{
    setter s = {c, o, "field_invalid"};
    for (unsigned i = 0; i < sizeof option_name / sizeof *option_name; i++) {
        const json_t *v = json_object_get(root, option_name[i]);
        if (v == NULL) continue;
        if (o->given & 1u << i)
            return api_fail(&c->fault, "parameter_invalid", option_name[i], "%s is given in the query string and in JSON",
                            option_name[i]);
        o->given |= 1u << i;
        if (!option_json(&s, (option)i, v)) return false;
    }
    return true;
}

/* The one member that says what is searched for. */
static bool query_member(api_call *c, int kind, const json_t *root, const char **name, const json_t **value)
{
    static const char *const names[] = {"image", "item", "embedding"};
    *name = NULL;
    for (size_t i = 0; i < (kind == API_QUERY_SEARCH ? 3 : 1); i++) {
        const json_t *v = json_object_get(root, names[i]);
        if (v == NULL) continue;
        if (*name != NULL)
            return api_fail(&c->fault, "query_conflict", names[i], "the body has \"%s\" and \"%s\", one of them is expected", *name, names[i]);
        *name = names[i];
        *value = v;
    }
    return *name != NULL || api_fail(&c->fault, "query_missing", "image", "the body has no member \"image\"%s",
                                     kind == API_QUERY_SEARCH ? ", none \"item\" and none \"embedding\"" : "");
}

static bool query_json(api_call *c, int kind, api_query *q)
{
    const json_t *v = NULL;
    const char *name;
    if (!api_doc_parse(&q->doc, c->rq->body, c->rq->body_bytes, true, c->cx->limits.max_json_bytes, NULL, &c->fault) ||
        !api_json_only(q->doc.root, kind == API_QUERY_SEARCH ? search_body : embed_body, "", &c->fault) ||
        !options_from_json(c, &q->opts, q->doc.root))
        return false;
    if (!query_member(c, kind, q->doc.root, &name, &v)) return false;
    if (strcmp(name, "image") != 0 && q->opts.has_crop)
        return api_fail(&c->fault, "field_invalid", "crop", "crop goes with an image, not with an %s", name);
    if (strcmp(name, "embedding") == 0) {
        q->embedding = v;
        return true;
    }
    if (strcmp(name, "item") == 0) {
        if (!json_is_string(v)) return api_fail(&c->fault, "field_invalid", "item", "item is not a string");
        if (!api_item_id_check(json_string_value(v), json_string_length(v), "item", &c->fault)) return false;
        q->item = json_string_value(v);
        return true;
    }
    if (!json_is_string(v)) return api_fail(&c->fault, "field_invalid", "image", "image is not a base64 string");
    const char *p;
    size_t n;
    api_doc_text(&q->doc, v, &p, &n);
    q->image_field = "image";
    if (!api_base64_decode(p, n, true, c->cx->limits.max_image_bytes, "image", &q->owned, &q->image_n, &c->fault))
        return false;
    q->image = q->owned;
    return true;
}

static bool query_multipart(api_call *c, int kind, api_query *q)
{
    static const char *const names[] = {"image", "options", NULL};
    api_parts parts;
    bool options = false;
    if (!api_multipart_parse(&parts, c->rq->body, c->rq->body_bytes, c->media.boundary, names, &c->fault)) return false;
    for (size_t i = 0; i < parts.n; i++) {
        const api_part *p = &parts.part[i];
        if (strcmp(p->name, "image") == 0) {
            if (q->image != NULL)
                return api_fail(&c->fault, "query_conflict", "image", "there is more than one part named \"image\"");
            q->image = p->p;
            q->image_n = p->n;
            q->image_field = "image";
            continue;
        }
        if (options) return api_fail(&c->fault, "multipart_invalid", "options", "there are two parts named \"options\"");
        options = true;
        if (!api_doc_parse(&q->doc, p->p, p->n, false, c->cx->limits.max_json_bytes, "options", &c->fault) ||
            !api_json_only(q->doc.root, kind == API_QUERY_SEARCH ? search_names : embed_names, "options.", &c->fault) ||
            !options_from_json(c, &q->opts, q->doc.root))
            return false;
    }
    return q->image != NULL || api_fail(&c->fault, "query_missing", "image", "there is no part named \"image\"");
}

bool api_query_read(api_call *c, int kind, api_query *q)
{
    enum { DEFAULT_LIMIT = 10 };
    *q = (api_query){.opts = {.limit = DEFAULT_LIMIT, .min_score = -2}};
    if (q->opts.limit > c->cx->limits.max_limit) q->opts.limit = c->cx->limits.max_limit;
    const char *type = c->media.type;
    if (!options_from_params(c, &q->opts, kind == API_QUERY_SEARCH ? search_names : embed_names)) return false;
    if (strcmp(type, "application/json") == 0) return query_json(c, kind, q);
    if (strcmp(type, "multipart/form-data") == 0) return query_multipart(c, kind, q);
    if (strncmp(type, "image/", 6) != 0 && strcmp(type, "application/octet-stream") != 0) {
        if (c->rq->body_bytes == 0)
            return api_fail(&c->fault, "body_missing", NULL, "a photo is expected in the body, as image/*, multipart/form-data "
                                                             "or application/json");
        return api_fail(&c->fault, "content_type_unsupported", NULL,
                        "the content type is \"%s\"; image/*, multipart/form-data or application/json is expected", type);
    }
    q->image = c->rq->body;
    q->image_n = c->rq->body_bytes;
    return true;
}

void api_query_fini(api_query *q)
{
    free(q->owned);
    free(q->opts.page_token);
    free(q->opts.filter);
    api_fields_fini(&q->opts.fields);
    api_facets_fini(&q->opts.facets);
    api_doc_fini(&q->doc);
}
