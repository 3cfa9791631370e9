/* item.c: items: put, look at, patch, delete, list, and their renditions. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const no_params[] = {NULL};

/* ---- writes ------------------------------------------------------------------------------------- */

typedef struct { /* what the index's callback needs to finish the reply */
    idx *ix;
    const api_request *rq;
    api_reply *rp;
    uint64_t submitted_ns;
} waiting;

static void write_location(api_reply *rp, const idx_op *op)
{
    api_buf b = {0};
    api_buf_fmt(&b, "/v1/catalogues/%s/items/", op->catalogue);
    api_buf_path(&b, op->item);
    if (!b.failed && b.n < sizeof rp->location) {
        memcpy(rp->location, b.p, b.n);
        rp->location[b.n] = '\0';
    }
    api_buf_fini(&b);
}

static void write_reply(api_reply *rp, const idx_op *op, const char *request_id)
{
    api_buf b = {0};
    rp->status = op->kind == IDX_PUT && op->created ? 201 : op->kind == IDX_DELETE ? 204 : 200;
    if (op->kind == IDX_DELETE) return;
    api_buf_raw(&b, "{\"id\":", 6);
    api_buf_str(&b, op->item);
    if (op->kind == IDX_PUT) {
        api_buf_fmt(&b, ",\"created\":%s", op->created ? "true" : "false");
        if (op->n_images > 0) api_buf_fmt(&b, ",\"images\":%zu", op->n_images);
    }
    api_buf_fmt(&b, ",\"generation\":%llu}", (unsigned long long)op->generation);
    rp->content_type = "application/json";
    rp->body = api_buf_take(&b, &rp->body_bytes);
    if (rp->status == 201) write_location(rp, op);
    if (rp->body == NULL) { /* the write is durable; only its description is lost */
        api_fault f = {0};
        api_fail_memory(&f);
        api_fault_reply(rp, &f, request_id);
    }
}

/* In the writer thread, after the commit. */
static void committed(idx_op *op, void *ctx)
{
    waiting *wt = ctx;
    const api_request *rq = wt->rq;
    wt->rp->stage_ns[API_STAGE_COMMIT] += api_now_ns() - wt->submitted_ns;
    api_fault f = {0};
    if (op->status == IDX_OK || api_write_fail(wt->ix, op->catalogue, op->kind, op->status, &op->error, &f))
        write_reply(wt->rp, op, rq->request_id);
    else
        api_fault_reply(wt->rp, &f, rq->request_id);
    free(wt);
    rq->done(rq->ctx);
}

static bool submit(api_call *c, idx_op *op, bool *pending)
{
    waiting *wt = malloc(sizeof *wt);
    if (wt == NULL) {
        idx_op_free(op);
        return api_fail_memory(&c->fault);
    }
    *wt = (waiting){c->cx->ix, c->rq, c->rp, api_now_ns()};
    idx_op_kind kind = op->kind;
    c->rp->images = (uint32_t)op->n_images;
    op->done = committed;
    op->ctx = wt;
    idx_error err = {0};
    *pending = true; /* from the next line on rq and rp may be finished by the writer thread */
    idx_status st = idx_submit_take(c->cx->ix, op, &err);
    if (st == IDX_OK) return true;
    *pending = false;
    free(wt);
    return api_write_fail(c->cx->ix, c->catalogue, kind, st, &err, &c->fault);
}

static api_write_ctx write_ctx(api_call *c)
{
    return (api_write_ctx){c->cx, c->w, c->catalogue, &c->cat, c->rq->deadline_ns, c->rp->stage_ns, &c->fault};
}

static bool put_json(api_call *c, idx_op **op)
{
    static const char *const names[] = {"attributes", "images", "embedding", NULL};
    api_write_ctx wc = write_ctx(c);
    api_doc doc;
    bool ok = api_doc_parse(&doc, c->rq->body, c->rq->body_bytes, true, c->cx->limits.max_json_bytes, NULL, &c->fault) &&
              api_json_only(doc.root, names, "", &c->fault) && api_write_from_json(&wc, IDX_PUT, c->item, &doc, op);
    api_doc_fini(&doc);
    return ok;
}

static bool put_attributes_part(api_call *c, idx_op *op, const api_part *part)
{
    if (op->attributes != NULL)
        return api_fail(&c->fault, "multipart_invalid", "attributes", "there are two parts named \"attributes\"");
    api_doc doc;
    bool ok = api_doc_parse(&doc, part->p, part->n, false, c->cx->limits.max_json_bytes, "attributes", &c->fault) &&
              api_attributes_text(doc.root, false, &op->attributes, &c->fault);
    api_doc_fini(&doc);
    return ok;
}

/* Attributes first, then photos: what is cheap to refuse is refused before the work is done. */
static bool put_multipart(api_call *c, idx_op *op)
{
    static const char *const names[] = {"image", "attributes", NULL};
    api_write_ctx wc = write_ctx(c);
    api_parts parts;
    size_t photos = 0;
    if (!api_multipart_parse(&parts, c->rq->body, c->rq->body_bytes, c->media.boundary, names, &c->fault)) return false;
    for (size_t i = 0; i < parts.n; i++) {
        if (strcmp(parts.part[i].name, "image") == 0)
            photos++;
        else if (!put_attributes_part(c, op, &parts.part[i]))
            return false;
    }
    if (photos == 0)
        return api_fail(&c->fault, "images_missing", "image", "there is no part named \"image\": 1 to %d are expected",
                        IDX_MAX_IMAGES);
    if (photos > IDX_MAX_IMAGES)
        return api_fail_limit(&c->fault, "too_many_images", "image", IDX_MAX_IMAGES,
                              "there are %zu parts named \"image\", the limit is %d", photos, IDX_MAX_IMAGES);
    for (size_t i = 0, k = 0; i < parts.n; i++) {
        char field[32];
        if (strcmp(parts.part[i].name, "image") != 0) continue;
        snprintf(field, sizeof field, "image[%zu]", k++);
        if (!api_write_add_photo(&wc, op, parts.part[i].p, parts.part[i].n, field)) return false;
    }
    return true;
}

static bool is_image_type(const char *type)
{
    return strncmp(type, "image/", 6) == 0 || strcmp(type, "application/octet-stream") == 0;
}

static bool put_body(api_call *c, idx_op **op)
{
    if (strcmp(c->media.type, "application/json") == 0) return put_json(c, op);
    bool multipart = strcmp(c->media.type, "multipart/form-data") == 0;
    if (!multipart && !is_image_type(c->media.type))
        return api_fail(&c->fault, "content_type_unsupported", NULL,
                        "the content type is \"%s\"; image/*, application/json or multipart/form-data is expected",
                        c->media.type);
    *op = idx_op_new(IDX_PUT, c->catalogue, c->item);
    if (*op == NULL) return api_fail_memory(&c->fault);
    api_write_ctx wc = write_ctx(c);
    bool ok = multipart ? put_multipart(c, *op) : api_write_add_photo(&wc, *op, c->rq->body, c->rq->body_bytes, NULL);
    if (!ok) idx_op_free(*op);
    return ok;
}

bool api_item_put(api_call *c, bool *pending)
{
    static const char *const names[] = {"create_only", NULL};
    if (!api_call_params(c, names)) return false;
    const char *only = api_params_get(&c->params, "create_only");
    if (only != NULL && strcmp(only, "true") != 0 && strcmp(only, "false") != 0)
        return api_fail(&c->fault, "parameter_invalid", "create_only", "create_only is \"%.40s\", true or false is expected",
                        only);
    idx_op *op = NULL;
    if (!api_call_catalogue(c) || !put_body(c, &op)) return false;
    op->must_not_exist = only != NULL && only[0] == 't';
    return submit(c, op, pending);
}

bool api_item_patch(api_call *c, bool *pending)
{
    static const char *const names[] = {"attributes", NULL};
    if (!api_call_params(c, no_params)) return false;
    if (strcmp(c->media.type, "application/json") != 0 && strcmp(c->media.type, "application/merge-patch+json") != 0)
        return api_fail(&c->fault, "content_type_unsupported", NULL,
                        "the content type is \"%s\"; application/merge-patch+json or application/json is expected",
                        c->media.type);
    if (!api_call_catalogue(c)) return false;
    api_write_ctx wc = write_ctx(c);
    api_doc doc;
    idx_op *op = NULL;
    bool ok = api_doc_parse(&doc, c->rq->body, c->rq->body_bytes, false, c->cx->limits.max_json_bytes, NULL, &c->fault) &&
              api_json_only(doc.root, names, "", &c->fault) && api_write_from_json(&wc, IDX_PATCH, c->item, &doc, &op);
    api_doc_fini(&doc);
    return ok && submit(c, op, pending);
}

bool api_item_delete(api_call *c, bool *pending)
{
    if (!api_call_params(c, no_params) || !api_call_catalogue(c)) return false;
    idx_op *op = idx_op_new(IDX_DELETE, c->catalogue, c->item);
    if (op == NULL) return api_fail_memory(&c->fault);
    return submit(c, op, pending);
}

/* ---- reads -------------------------------------------------------------------------------------- */

static void write_image(api_buf *b, const api_call *c, const idx_item *it, uint32_t n)
{
    const idx_image_info *im = &it->images[n];
    api_buf_fmt(b, "{\"n\":%u,\"sha256\":\"", n);
    for (size_t i = 0; i < sizeof im->sha256; i++) api_buf_fmt(b, "%02x", im->sha256[i]);
    api_buf_raw(b, "\"", 1);
    if (im->width > 0) { /* not an embedding alone */
        api_buf_fmt(b, ",\"width\":%u,\"height\":%u,\"url\":", im->width, im->height);
        api_image_url(b, c->catalogue, it->id, n, im->sha256);
    }
    api_buf_raw(b, "}", 1);
}

static bool write_item(api_buf *b, api_call *c, const idx_item *it, const api_fields *fs)
{
    api_buf_raw(b, "{\"id\":", 6);
    api_buf_str(b, it->id);
    api_buf_raw(b, ",\"attributes\":", 14);
    if (!api_attributes_write(b, it->attributes, fs)) return api_fail_memory(&c->fault);
    api_buf_raw(b, ",\"images\":[", 11);
    for (uint32_t n = 0; n < it->n_images; n++) {
        if (n > 0) api_buf_raw(b, ",", 1);
        write_image(b, c, it, n);
    }
    api_buf_raw(b, "],\"created\":", 12);
    api_buf_time(b, it->created_ms);
    api_buf_raw(b, ",\"updated\":", 11);
    api_buf_time(b, it->updated_ms);
    api_buf_raw(b, "}", 1);
    return true;
}

static bool read_fields(api_call *c, api_fields *fs)
{
    const char *text = api_params_get(&c->params, "fields");
    *fs = (api_fields){0};
    return text == NULL || api_fields_from_text(fs, text, &c->fault);
}

bool api_item_get(api_call *c, bool *pending)
{
    (void)pending;
    static const char *const names[] = {"fields", NULL};
    api_fields fs = {0};
    idx_item *it = NULL;
    api_buf b = {0};
    bool ok = api_call_params(c, names) && read_fields(c, &fs);
    if (ok) {
        idx_error err = {0};
        idx_status st = idx_item_get(c->cx->ix, c->catalogue, c->item, &it, &err);
        ok = st == IDX_OK ? write_item(&b, c, it, &fs) : api_call_fail_read(c, st, &err, "item_not_found");
    }
    if (ok && (ok = api_reply_json(c, 200, &b))) api_etag_of(c->rp->etag, c->rp->body, c->rp->body_bytes);
    api_buf_fini(&b);
    if (it != NULL) idx_item_free(it);
    api_fields_fini(&fs);
    return ok;
}

typedef struct {
    uint32_t limit;
    const char *filter;
    api_page_place after;
    bool has_after;
    api_fields fields;
    api_page_key key;
} list_query;

static bool list_read(api_call *c, list_query *q)
{
    static const char *const names[] = {"filter", "limit", "page_token", "fields", NULL};
    enum { DEFAULT_LIMIT = 50 };
    uint32_t max = c->cx->limits.max_limit;
    if (!api_call_params(c, names)) return false;
    const char *limit = api_params_get(&c->params, "limit"), *token = api_params_get(&c->params, "page_token");
    q->limit = max < DEFAULT_LIMIT ? max : DEFAULT_LIMIT;
    if (limit != NULL) {
        size_t n = strlen(limit);
        unsigned long v = n > 0 && n < 10 && strspn(limit, "0123456789") == n ? strtoul(limit, NULL, 10) : 0;
        if (v < 1 || v > max)
            return api_fail_limit(&c->fault, "parameter_invalid", "limit", max, "limit is \"%.20s\", 1 to %u is allowed", limit,
                                  max);
        q->limit = (uint32_t)v;
    }
    q->filter = api_params_get(&c->params, "filter");
    if (q->filter != NULL && q->filter[0] == '\0') q->filter = NULL;
    if (!read_fields(c, &q->fields)) return false;
    api_page_key_init(&q->key, "items");
    api_page_key_text(&q->key, c->catalogue);
    api_page_key_text(&q->key, q->filter);
    q->has_after = token != NULL && token[0] != '\0';
    return !q->has_after || api_page_token_read(&q->key, token, &q->after, &c->fault);
}

static bool list_reply(api_call *c, const list_query *q, idx_item **it, size_t n, bool more)
{
    api_buf b = {0};
    bool ok = true;
    api_buf_raw(&b, "{\"items\":[", 10);
    for (size_t i = 0; i < n && ok; i++) {
        if (i > 0) api_buf_raw(&b, ",", 1);
        ok = write_item(&b, c, it[i], &q->fields);
    }
    api_buf_raw(&b, "]", 1);
    if (more && n > 0) {
        char token[API_PAGE_TOKEN_BYTES];
        api_page_token_make(&q->key, 0, 0, it[n - 1]->id, token);
        api_buf_raw(&b, ",\"next_page_token\":", 19);
        api_buf_str(&b, token);
    }
    api_buf_raw(&b, "}", 1);
    ok = ok && api_reply_json(c, 200, &b);
    api_buf_fini(&b);
    return ok;
}

bool api_item_list(api_call *c, bool *pending)
{
    (void)pending;
    list_query q = {0};
    idx_item **it = NULL;
    size_t n = 0;
    bool more = false, ok = list_read(c, &q);
    if (ok) {
        idx_error err = {0};
        uint64_t t = api_now_ns();
        idx_status st = idx_item_list(c->cx->ix, c->catalogue, q.filter, q.has_after ? q.after.id : NULL, q.limit, &it, &n,
                                      &more, &err);
        c->rp->stage_ns[API_STAGE_SEARCH] += api_now_ns() - t;
        ok = st == IDX_OK ? list_reply(c, &q, it, n, more) : api_fail_idx(&c->fault, st, &err, "catalogue_not_found");
    }
    if (it != NULL) idx_items_free(it, n);
    api_fields_fini(&q.fields);
    return ok;
}

/* `v` names the photo in the address, so that the picture behind it never changes: then it may be cached for good. */
static bool is_version(const api_call *c, const char *v)
{
    idx_item *it = NULL;
    char hex[17] = "";
    if (v == NULL || idx_item_get(c->cx->ix, c->catalogue, c->item, &it, NULL) != IDX_OK) return false;
    if (c->image < it->n_images)
        for (int i = 0; i < 8; i++) snprintf(hex + 2 * i, 3, "%02x", it->images[c->image].sha256[i]);
    idx_item_free(it);
    return strcmp(hex, v) == 0;
}

bool api_rendition_get(api_call *c, bool *pending)
{
    (void)pending;
    static const char *const names[] = {"v", NULL};
    if (!api_call_params(c, names)) return false;
    const char *v = api_params_get(&c->params, "v");
    uint8_t *bytes = NULL;
    size_t n = 0;
    idx_error err = {0};
    if (c->image >= IDX_MAX_IMAGES)
        return api_fail(&c->fault, "image_not_found", NULL, "image numbers are 0 to %d", IDX_MAX_IMAGES - 1);
    bool before = is_version(c, v); /* and again after the read: a put may come in between */
    idx_status st = idx_rendition_get(c->cx->ix, c->catalogue, c->item, c->image, &bytes, &n, &err);
    if (st != IDX_OK) {
        idx_item *it = NULL;
        bool item = st == IDX_ENOTFOUND && idx_item_get(c->cx->ix, c->catalogue, c->item, &it, NULL) == IDX_OK;
        if (item) idx_item_free(it);
        return api_call_fail_read(c, st, &err, item ? "image_not_found" : "item_not_found");
    }
    c->rp->immutable = before && is_version(c, v);
    c->rp->status = 200;
    c->rp->content_type = "image/jpeg";
    c->rp->body = bytes;
    c->rp->body_bytes = n;
    api_etag_of(c->rp->etag, bytes, n);
    return true;
}
