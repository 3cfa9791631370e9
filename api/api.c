/* api.c: the context, the dispatcher, and what every handler needs. */
#include "internal.h"

#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const api_stage_name[API_STAGE_COUNT] = {"queue", "decode", "embed", "search", "commit", "encode"};

static pthread_once_t seed_once = PTHREAD_ONCE_INIT;
static void seed_hashes(void) { json_object_seed(0); } /* before threads share jansson's tables */

static void fill_limits(api_limits *to, const api_limits *from)
{
    *to = from != NULL ? *from : (api_limits){0};
    if (to->max_image_bytes == 0) to->max_image_bytes = 20u << 20;
    if (to->max_json_bytes == 0) to->max_json_bytes = 64u << 10;
    if (to->max_body_bytes == 0) to->max_body_bytes = 64u << 20;
    if (to->max_line_bytes == 0) to->max_line_bytes = 32u << 20;
    if (to->max_lines == 0) to->max_lines = 1000000;
    if (to->max_memory_bytes == 0) to->max_memory_bytes = 512u << 20;
    if (to->max_memory_bytes < 2 * to->max_line_bytes) to->max_memory_bytes = 2 * to->max_line_bytes;
    if (to->rendition_side == 0) to->rendition_side = 320;
    if (to->rendition_quality == 0) to->rendition_quality = 80;
    if (to->max_limit == 0) to->max_limit = 100;
}

/* Looks before it writes: with a full disk a server must still start and search what it has. */
static idx_status default_catalogue(idx *ix, const emb_model_info *m, idx_error *err)
{
    idx_catalogue cat;
    bool created;
    idx_status st = idx_catalogue_get(ix, "default", &cat, err);
    if (st == IDX_OK && strcmp(cat.fingerprint, m->fingerprint) == 0 && cat.dim == m->dim) return IDX_OK;
    if (st != IDX_OK && st != IDX_ENOTFOUND) return st;
    *err = (idx_error){0}; /* the first error would win */
    return idx_catalogue_put(ix, "default", m->name, m->fingerprint, m->dim, &created, err);
}

int api_ctx_new(const emb_model *m, idx *ix, const api_limits *limits, api_ctx **out, char err[320])
{
    pthread_once(&seed_once, seed_hashes);
    api_ctx *cx = calloc(1, sizeof *cx);
    if (cx == NULL) {
        snprintf(err, 320, "no memory for the context");
        return -1;
    }
    cx->model = m;
    cx->info = emb_model_get_info(m);
    cx->ix = ix;
    fill_limits(&cx->limits, limits);
    idx_error ie = {0};
    idx_status st = default_catalogue(ix, cx->info, &ie);
    if (st != IDX_OK) {
        snprintf(err, 320, "%s%.250s", st == IDX_EEXISTS ? "the data folder was made with another model: " : "", ie.text);
        free(cx);
        return -1;
    }
    *out = cx;
    return 0;
}

void api_ctx_free(api_ctx *cx) { free(cx); }

const api_limits *api_ctx_limits(const api_ctx *cx) { return &cx->limits; }

int api_worker_new(api_ctx *cx, api_worker **out, char err[320])
{
    emb_error ee = {0};
    api_worker *w = calloc(1, sizeof *w);
    if (w == NULL || api_worker_room(w, cx->info->dim) == NULL) {
        snprintf(err, 320, "no memory for a worker");
        api_worker_free(w);
        return -1;
    }
    if (emb_workspace_new(cx->model, &w->ws, &ee) != EMB_OK) {
        snprintf(err, 320, "%.319s", ee.text);
        api_worker_free(w);
        return -1;
    }
    *out = w;
    return 0;
}

float *api_worker_room(api_worker *w, uint32_t dim)
{
    if (dim <= w->room) return w->embedding;
    float *more = realloc(w->embedding, dim * sizeof *more);
    if (more == NULL) return NULL;
    w->embedding = more;
    w->room = dim;
    return more;
}

void api_worker_free(api_worker *w)
{
    if (w == NULL) return;
    if (w->ws != NULL) emb_workspace_free(w->ws);
    free(w->embedding);
    free(w);
}

/* ---- helpers of handlers ------------------------------------------------------------------------ */

bool api_reply_json(api_call *c, int status, api_buf *b)
{
    c->rp->body = api_buf_take(b, &c->rp->body_bytes);
    if (c->rp->body == NULL) return api_fail_memory(&c->fault);
    c->rp->status = status;
    c->rp->content_type = "application/json";
    return true;
}

bool api_call_params(api_call *c, const char *const *names)
{
    return api_params_parse(&c->params, c->rq->raw_query, names, &c->fault);
}

bool api_call_deadline(const api_request *rq, api_fault *f)
{
    if (rq->deadline_ns == 0 || api_now_ns() < rq->deadline_ns) return true;
    return api_fail(f, "deadline_exceeded", NULL, "the time for this request ran out before it was done");
}

bool api_call_catalogue(api_call *c)
{
    const idx_catalogue *cat = &c->cat;
    idx_error err = {0};
    idx_status st = idx_catalogue_get(c->cx->ix, c->catalogue, &c->cat, &err);
    if (st != IDX_OK) return api_fail_idx(&c->fault, st, &err, "catalogue_not_found");
    if (api_is_external(cat) || strcmp(cat->fingerprint, c->cx->info->fingerprint) == 0) return true;
    return api_fail(&c->fault, "model_mismatch", NULL,
                    "the catalogue \"%s\" was made with model %.64s (%.12s), this server runs %.64s (%.12s)", c->catalogue,
                    cat->model, cat->fingerprint, c->cx->info->name, c->cx->info->fingerprint);
}

bool api_call_fail_read(api_call *c, idx_status st, const idx_error *err, const char *not_found)
{
    idx_catalogue cat;
    if (st == IDX_ENOTFOUND && idx_catalogue_get(c->cx->ix, c->catalogue, &cat, NULL) == IDX_ENOTFOUND)
        not_found = "catalogue_not_found";
    return api_fail_idx(&c->fault, st, err, not_found);
}

void api_image_url(api_buf *b, const char *catalogue, const char *item, uint32_t n, const uint8_t *sha256)
{
    /* Every character of a percent-encoded path and of a catalogue name may stand in a JSON string as it is. */
    api_buf_fmt(b, "\"/v1/catalogues/%s/items/", catalogue);
    api_buf_path(b, item);
    api_buf_fmt(b, "/images/%u", n);
    if (sha256 != NULL) {
        api_buf_raw(b, "?v=", 3);
        for (int i = 0; i < 8; i++) api_buf_fmt(b, "%02x", sha256[i]);
    }
    api_buf_raw(b, "\"", 1);
}

void api_etag_of(char etag[80], const void *p, size_t n)
{
    struct sha256_ctx sha;
    uint8_t d[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    sha256_update(&sha, n, p);
    sha256_digest(&sha, sizeof d, d);
    etag[0] = '"';
    for (int i = 0; i < 16; i++) snprintf(etag + 1 + 2 * i, 3, "%02x", d[i]);
    etag[33] = '"';
    etag[34] = '\0';
}

/* ---- fields ------------------------------------------------------------------------------------- */

enum { MAX_FIELDS = 64 };

/* `names` NUL-terminated texts one after the other in fs->store, whose ownership fs has. */
static bool fields_index(api_fields *fs, size_t names, const char *code, api_fault *f)
{
    if (names > MAX_FIELDS)
        return api_fail_limit(f, code, "fields", MAX_FIELDS, "fields has %zu names, the limit is %d", names,
                              MAX_FIELDS);
    fs->name = calloc(names, sizeof *fs->name);
    if (fs->name == NULL) return api_fail_memory(f);
    char *s = fs->store;
    for (size_t i = 0; i < names; i++) {
        if (strcmp(s, "*") == 0) { /* all, whatever else is named */
            fs->n = 0;
            return true;
        }
        fs->name[fs->n++] = s;
        s += strlen(s) + 1;
    }
    return true;
}

bool api_fields_from_text(api_fields *fs, const char *text, api_fault *f)
{
    *fs = (api_fields){.none = text[0] == '\0'};
    if (fs->none) return true;
    if ((fs->store = strdup(text)) == NULL) return api_fail_memory(f);
    size_t names = 1;
    for (char *s = fs->store; *s != '\0'; s++) {
        if (*s != ',') continue;
        *s = '\0';
        names++;
    }
    return fields_index(fs, names, "parameter_invalid", f);
}

bool api_fields_from_json(api_fields *fs, const json_t *a, api_fault *f)
{
    *fs = (api_fields){0};
    if (!json_is_array(a)) return api_fail(f, "field_invalid", "fields", "fields is not an array of strings");
    size_t names = json_array_size(a), bytes = 0;
    for (size_t i = 0; i < names; i++) {
        const json_t *v = json_array_get(a, i);
        if (!json_is_string(v)) return api_fail(f, "field_invalid", "fields", "fields is not an array of strings");
        bytes += json_string_length(v) + 1;
    }
    fs->none = names == 0;
    if (fs->none) return true;
    if ((fs->store = malloc(bytes)) == NULL) return api_fail_memory(f);
    char *s = fs->store;
    for (size_t i = 0; i < names; i++) {
        const json_t *v = json_array_get(a, i);
        memcpy(s, json_string_value(v), json_string_length(v) + 1);
        s += json_string_length(v) + 1;
    }
    return fields_index(fs, names, "field_invalid", f);
}

void api_fields_fini(api_fields *fs)
{
    free(fs->name);
    free(fs->store);
    *fs = (api_fields){0};
}

bool api_attributes_write(api_buf *b, const char *attributes, const api_fields *fs)
{
    if (fs->none) {
        api_buf_raw(b, "{}", 2);
        return true;
    }
    if (fs->n == 0) {
        api_buf_raw(b, attributes, strlen(attributes));
        return true;
    }
    json_t *a = json_loads(attributes, 0, NULL);
    if (a == NULL) return false;
    const char *sep = "{";
    for (void *it = json_object_iter(a); it != NULL; it = json_object_iter_next(a, it)) {
        const char *key = json_object_iter_key(it);
        size_t i = 0;
        while (i < fs->n && strcmp(fs->name[i], key) != 0) i++;
        if (i == fs->n) continue;
        api_buf_raw(b, sep, 1);
        api_buf_str(b, key);
        api_buf_raw(b, ":", 1);
        api_buf_json(b, json_object_iter_value(it));
        sep = ",";
    }
    if (*sep == '{') api_buf_raw(b, sep, 1);
    api_buf_raw(b, "}", 1);
    json_decref(a);
    return true;
}
