/* catalogue.c: catalogues: create, look at, list, delete. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const no_params[] = {NULL};

static const char *const storage_name[] = {"auto", "float32", "float16", "int8"}; /* by idx_storage */

static void write_catalogue(api_buf *b, const idx_catalogue *cat)
{
    api_buf_fmt(b, "{\"name\":\"%s\",\"model\":", cat->name);
    api_buf_str(b, cat->model);
    api_buf_fmt(b, ",\"fingerprint\":\"%s\",\"dim\":%u", cat->fingerprint, cat->dim);
    api_buf_fmt(b, ",\"storage\":\"%s\",\"kept\":\"%s\"", storage_name[cat->storage],
                storage_name[cat->kept != IDX_STORAGE_AUTO ? cat->kept : IDX_FLOAT32]);
    api_buf_fmt(b, ",\"items\":%llu,\"images\":%llu", (unsigned long long)cat->items, (unsigned long long)cat->images);
    api_buf_fmt(b, ",\"index\":{\"fresh\":%llu,\"sealed\":%llu,\"deleted\":%llu,\"segments\":%u",
                (unsigned long long)cat->fresh_images, (unsigned long long)cat->sealed_images,
                (unsigned long long)cat->deleted_images, cat->segments);
    static const char *const kinds[] = {"plain", "filtered"};
    for (int i = 0; i < 2; i++) {
        api_buf_fmt(b, ",\"%s\":{\"ef_search\":%u", kinds[i], cat->effort[i]);
        if (cat->audits[i] > 0) api_buf_fmt(b, ",\"recall_at_10\":%.4f", cat->recall[i]);
        api_buf_raw(b, "}", 1);
    }
    api_buf_raw(b, "}", 1);
    api_buf_fmt(b, ",\"generation\":%llu,\"created\":", (unsigned long long)cat->generation);
    api_buf_time(b, cat->created_ms);
    api_buf_raw(b, "}", 1);
}

static bool reply_catalogue(api_call *c, int status)
{
    idx_catalogue cat;
    idx_error err = {0};
    idx_status st = idx_catalogue_get(c->cx->ix, c->catalogue, &cat, &err);
    if (st != IDX_OK) return api_fail_idx(&c->fault, st, &err, "catalogue_not_found");
    api_buf b = {0};
    write_catalogue(&b, &cat);
    return api_reply_json(c, status, &b);
}

typedef struct {
    const char *model, *fingerprint; /* of the context, or static */
    uint32_t dim;
    idx_storage storage;
    bool any_storage; /* none was asked for */
} spec;

static bool read_storage(const json_t *v, spec *s, api_fault *f)
{
    const char *name = json_string_value(v);
    s->any_storage = v == NULL;
    for (int i = 0; name != NULL && i < 4; i++) {
        if (strcmp(name, storage_name[i]) != 0) continue;
        s->storage = (idx_storage)i;
        return true;
    }
    return v == NULL || api_fail(f, "field_invalid", "storage", "storage is %s%.40s%s; \"auto\", \"float32\", \"float16\" or \"int8\" is expected",
                                 name != NULL ? "\"" : "", name != NULL ? name : "not a string", name != NULL ? "\"" : "");
}

static bool read_spec(api_call *c, const json_t *root, spec *s)
{
    static const char *const names[] = {"model", "dim", "storage", NULL};
    const json_t *model = json_object_get(root, "model"), *dim = json_object_get(root, "dim");
    const emb_model_info *m = c->cx->info;
    *s = (spec){.model = m->name, .fingerprint = m->fingerprint, .dim = m->dim};
    if (!api_json_only(root, names, "", &c->fault) || !read_storage(json_object_get(root, "storage"), s, &c->fault)) return false;
    const char *name = json_string_value(model);
    bool external = name != NULL && strcmp(name, API_EXTERNAL) == 0;
    if (model != NULL && !external && (name == NULL || strcmp(name, m->name) != 0))
        return api_fail(&c->fault, "field_invalid", "model", "model is %s%.64s%s; \"%.64s\", which this server runs, or \"external\" is expected",
                        name != NULL ? "\"" : "", name != NULL ? name : "not a string", name != NULL ? "\"" : "", m->name);
    double v = json_number_value(dim);
    if (dim != NULL && !json_is_number(dim))
        return api_fail_limit(&c->fault, "field_invalid", "dim", IDX_MAX_DIM, "dim is not a number, a whole number from 1 to %d is expected", IDX_MAX_DIM);
    if (dim != NULL && !api_is_count(v, IDX_MAX_DIM))
        return api_fail_limit(&c->fault, "field_invalid", "dim", IDX_MAX_DIM, "dim is %.9g, a whole number from 1 to %d is expected", v, IDX_MAX_DIM);
    if (dim != NULL && !external && v != m->dim)
        return api_fail_limit(&c->fault, "field_invalid", "dim", m->dim, "dim is %.0f, the model \"%.64s\" makes embeddings of %u", v, m->name, m->dim);
    if (external && dim == NULL)
        return api_fail(&c->fault, "field_invalid", "dim", "the model \"external\" needs dim, how many numbers each embedding has");
    if (external) s->model = s->fingerprint = API_EXTERNAL, s->dim = (uint32_t)v;
    return true;
}

/* Without a body, what a catalogue is made of follows from the server's model. */
static bool read_body(api_call *c, spec *s)
{
    if (c->rq->body_bytes == 0) return read_spec(c, NULL, s);
    if (strcmp(c->media.type, "application/json") != 0)
        return api_fail(&c->fault, "content_type_unsupported", NULL,
                        "the content type is \"%s\", application/json is expected", c->media.type);
    api_doc doc;
    bool ok = api_doc_parse(&doc, c->rq->body, c->rq->body_bytes, false, c->cx->limits.max_json_bytes, NULL, &c->fault) &&
              read_spec(c, doc.root, s);
    api_doc_fini(&doc);
    return ok;
}

typedef struct { /* what the index's callback needs to finish the reply */
    api_ctx *cx;
    const api_request *rq;
    api_reply *rp;
    uint64_t submitted_ns;
    bool put;
    char catalogue[IDX_MAX_CATALOGUE_BYTES + 1];
} waiting;

static waiting *waiting_new(api_call *c, bool put)
{
    waiting *wt = malloc(sizeof *wt);
    if (wt == NULL) {
        api_fail_memory(&c->fault);
        return NULL;
    }
    *wt = (waiting){.cx = c->cx, .rq = c->rq, .rp = c->rp, .submitted_ns = api_now_ns(), .put = put};
    memcpy(wt->catalogue, c->catalogue, sizeof wt->catalogue);
    return wt;
}

/* In the writer thread, after the commit. */
static void committed(idx_op *op, void *ctx)
{
    waiting *wt = ctx;
    const api_request *rq = wt->rq;
    api_reply *rp = wt->rp;
    api_call c = {.cx = wt->cx, .rq = rq, .rp = rp};
    memcpy(c.catalogue, wt->catalogue, sizeof c.catalogue);
    rp->stage_ns[API_STAGE_COMMIT] += api_now_ns() - wt->submitted_ns;
    bool ok = op->status == IDX_OK || api_fail_idx(&c.fault, op->status, &op->error, "catalogue_not_found");
    if (ok && wt->put) ok = reply_catalogue(&c, op->created ? 201 : 200);
    if (ok && !wt->put) rp->status = 204;
    if (!ok) api_fault_reply(rp, &c.fault, rq->request_id);
    else if (rp->status == 201) snprintf(rp->location, sizeof rp->location, "/v1/catalogues/%s", c.catalogue);
    free(wt);
    rq->done(rq->ctx);
}

/* st: of handing over, after *pending was set, for rq and rp may have been finished by then. */
static bool handed_over(api_call *c, idx_status st, const idx_error *err, waiting *wt, bool *pending)
{
    if (st == IDX_OK) return true;
    *pending = false;
    free(wt);
    return api_fail_idx(&c->fault, st, err, "catalogue_not_found");
}

bool api_catalogue_put(api_call *c, bool *pending)
{
    spec s;
    if (!api_call_params(c, no_params) || !read_body(c, &s)) return false;
    idx_error err = {0};
    waiting *wt = waiting_new(c, true);
    if (wt == NULL) return false;
    *pending = true;
    idx_catalogue_spec want = {c->catalogue, s.model, s.fingerprint, s.dim, s.storage, s.any_storage};
    idx_status st = idx_catalogue_create_submit(c->cx->ix, &want, committed, wt, &err);
    return handed_over(c, st, &err, wt, pending);
}

bool api_catalogue_get(api_call *c, bool *pending)
{
    (void)pending;
    return api_call_params(c, no_params) && reply_catalogue(c, 200);
}

bool api_catalogue_list(api_call *c, bool *pending)
{
    (void)pending;
    if (!api_call_params(c, no_params)) return false;
    idx_catalogue *list = NULL;
    size_t n = 0;
    idx_error err = {0};
    idx_status st = idx_catalogue_list(c->cx->ix, &list, &n, &err);
    if (st != IDX_OK) return api_fail_idx(&c->fault, st, &err, NULL);
    api_buf b = {0};
    api_buf_raw(&b, "{\"catalogues\":[", 15);
    for (size_t i = 0; i < n; i++) {
        if (i > 0) api_buf_raw(&b, ",", 1);
        write_catalogue(&b, &list[i]);
    }
    api_buf_raw(&b, "]}", 2);
    free(list);
    return api_reply_json(c, 200, &b);
}

bool api_catalogue_delete(api_call *c, bool *pending)
{
    if (!api_call_params(c, no_params)) return false;
    idx_error err = {0};
    waiting *wt = waiting_new(c, false);
    if (wt == NULL) return false;
    *pending = true;
    idx_status st = idx_catalogue_delete_submit(c->cx->ix, c->catalogue, committed, wt, &err);
    return handed_over(c, st, &err, wt, pending);
}
