/* problem.c: the one table code -> status -> title, and RFC 9457 replies made from it. */
#include "problem.h"
#include "buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const api_problem_entry api_problem_table[] = {
    {"path_invalid", 400, "The path is not valid", 0},
    {"query_invalid", 400, "The query string is not valid", 0},
    {"parameter_unknown", 400, "Unknown query parameter", 0},
    {"parameter_invalid", 400, "A parameter has a value that is not allowed", 0},
    {"json_invalid", 400, "The body is not valid JSON", 0},
    {"field_unknown", 400, "Unknown JSON member", 0},
    {"field_invalid", 400, "A JSON member has a value that is not allowed", 0},
    {"attributes_invalid", 400, "The attributes are not valid", 0},
    {"base64_invalid", 400, "The base64 text is not valid", 0},
    {"multipart_invalid", 400, "The multipart body is not valid", 0},
    {"body_missing", 400, "The request has no body", 0},
    {"body_unexpected", 400, "The request must not have a body", 0},
    {"query_missing", 400, "The search has no query", 0},
    {"query_conflict", 400, "The search has more than one query", 0},
    {"filter_invalid", 400, "The filter is not valid", 0},
    {"page_token_invalid", 400, "The page token does not belong to this request", 0},
    {"catalogue_name_invalid", 400, "The catalogue name is not valid", 0},
    {"item_id_invalid", 400, "The item id is not valid", 0},
    {"images_missing", 400, "A new item needs at least one image", 0},
    {"too_many_images", 400, "Too many images", 0},
    {"bad_request", 400, "The request is not valid HTTP", 0},
    {"condition_unsupported", 400, "Writes know no such condition", 0},
    {"unauthorized", 401, "A valid key is required", 0},
    {"not_found", 404, "No such resource", 0},
    {"catalogue_not_found", 404, "No such catalogue", 0},
    {"item_not_found", 404, "No such item", 0},
    {"image_not_found", 404, "No such image", 0},
    {"method_not_allowed", 405, "The resource does not know this method", 0},
    {"request_timeout", 408, "The request did not arrive in time", 0},
    {"catalogue_exists", 409, "The catalogue exists with another model", 0},
    {"item_exists", 409, "The item exists", 0},
    {"model_mismatch", 409, "The catalogue belongs to another model", 0},
    {"length_required", 411, "Content-Length is required", 0},
    {"body_too_large", 413, "The body is too large", 0},
    {"json_too_large", 413, "The JSON is too large", 0},
    {"image_too_large", 413, "The image is too large", 0},
    {"line_too_long", 413, "The line is too long", 0},
    {"too_many_lines", 413, "The batch has too many lines", 0},
    {"uri_too_long", 414, "The request target is too long", 0},
    {"content_type_unsupported", 415, "The content type is not supported here", 0},
    {"image_format_unsupported", 415, "The image is not JPEG, PNG or WebP", 0},
    {"image_damaged", 422, "The image is damaged", 0},
    {"image_unsupported", 422, "The image is of a kind that is not supported", 0},
    {"headers_too_large", 431, "The request headers are too large", 0},
    {"internal", 500, "Internal error", 0},
    {"index_corrupt", 500, "The store is damaged", 0},
    {"overloaded", 503, "The server is busy", 1},
    {"shutting_down", 503, "The server is shutting down", 5},
    {"not_ready", 503, "The server is starting", 2},
    {"index_busy", 503, "Too many writes are waiting", 1},
    {"deadline_exceeded", 503, "The request took too long", 1},
    {"out_of_memory", 503, "Not enough memory", 2},
    {"storage_failed", 503, "The storage failed", 30},
    {"storage_full", 507, "The disk is full", 60},
};
const size_t api_problem_table_size = sizeof api_problem_table / sizeof *api_problem_table;

const api_problem_entry *api_problem_find(const char *code)
{
    for (size_t i = 0; i < api_problem_table_size; i++)
        if (strcmp(api_problem_table[i].code, code) == 0) return &api_problem_table[i];
    return NULL;
}

static void fail_va(api_fault *f, const char *code, const char *field, const char *fmt, va_list ap)
{
    const api_problem_entry *e = api_problem_find(code);
    f->code = e != NULL ? e->code : "internal";
    snprintf(f->field, sizeof f->field, "%s", field != NULL ? field : "");
    vsnprintf(f->detail, sizeof f->detail, fmt, ap);
}

bool api_fail(api_fault *f, const char *code, const char *field, const char *fmt, ...)
{
    if (f->code != NULL) return false;
    va_list ap;
    va_start(ap, fmt);
    fail_va(f, code, field, fmt, ap);
    va_end(ap);
    return false;
}

bool api_fail_limit(api_fault *f, const char *code, const char *field, uint64_t limit, const char *fmt, ...)
{
    if (f->code != NULL) return false;
    va_list ap;
    va_start(ap, fmt);
    fail_va(f, code, field, fmt, ap);
    va_end(ap);
    f->has_limit = true;
    f->limit = limit;
    return false;
}

bool api_fail_memory(api_fault *f)
{
    return api_fail(f, "out_of_memory", NULL, "memory for the request could not be taken");
}

bool api_fail_said(api_fault *f, const char *code, const char *field, const idx_error *err)
{
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : api_problem_find(code)->title;
    if (err != NULL && err->field[0] != '\0') field = err->field;
    return err != NULL && err->limit > 0 ? api_fail_limit(f, code, field, err->limit, "%s", text) : api_fail(f, code, field, "%s", text);
}

bool api_fail_idx(api_fault *f, idx_status st, const idx_error *err, const char *not_found)
{
    static const struct {
        idx_status st;
        const char *code;
    } map[] = {
        {IDX_EINVAL, "field_invalid"},    {IDX_EFILTER, "filter_invalid"},  {IDX_EMODEL, "model_mismatch"},
        {IDX_EBUSY, "index_busy"},        {IDX_EFULL, "storage_full"},      {IDX_EIO, "storage_failed"},
        {IDX_ECORRUPT, "index_corrupt"},  {IDX_ENOMEM, "out_of_memory"},    {IDX_EDEADLINE, "deadline_exceeded"},
        {IDX_EEXISTS, "catalogue_exists"},
    };
    const char *code = "internal";
    if (st == IDX_ENOTFOUND && not_found != NULL) code = not_found;
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (map[i].st == st) code = map[i].code;
    return api_fail_said(f, code, st == IDX_EFILTER ? "filter" : NULL, err);
}

bool api_fail_emb(api_fault *f, emb_status st, const emb_error *err, const char *field, bool known)
{
    const char *code = "internal";
    switch (st) {
    case EMB_EFORMAT: code = known ? "image_damaged" : "image_format_unsupported"; break;
    case EMB_EUNSUPPORTED: code = known ? "image_unsupported" : "image_format_unsupported"; break;
    case EMB_ELIMIT: code = "image_too_large"; break;
    case EMB_ENOMEM: code = "out_of_memory"; break;
    case EMB_EDEADLINE: code = "deadline_exceeded"; break;
    case EMB_OK:
    case EMB_EINVAL:
    case EMB_EIO: break;
    }
    const char *text = err != NULL && err->text[0] != '\0' ? err->text : api_problem_find(code)->title;
    return api_fail(f, code, field, "%s", text);
}

void api_fault_reply(api_reply *rp, const api_fault *f, const char *request_id)
{
    const api_problem_entry *e = api_problem_find(f->code != NULL ? f->code : "internal");
    free(rp->body);
    rp->body = NULL;
    rp->body_bytes = 0;
    rp->location[0] = rp->etag[0] = '\0';
    rp->immutable = false;
    rp->status = e->status;
    rp->problem_code = e->code;
    rp->retry_after_s = e->retry_after_s;
    rp->content_type = "application/problem+json";
    snprintf(rp->allow, sizeof rp->allow, "%s", f->allow);

    api_buf b = {0};
    api_buf_fmt(&b, "{\"type\":\"urn:likeness:problem:%s\",\"title\":", e->code);
    api_buf_str(&b, e->title);
    api_buf_fmt(&b, ",\"status\":%d,\"detail\":", e->status);
    api_buf_str(&b, f->detail[0] != '\0' ? f->detail : e->title);
    api_buf_fmt(&b, ",\"code\":\"%s\"", e->code);
    if (request_id != NULL && request_id[0] != '\0') {
        api_buf_raw(&b, ",\"instance\":", 12);
        api_buf_str(&b, request_id);
    }
    if (f->field[0] != '\0') {
        api_buf_raw(&b, ",\"field\":", 9);
        api_buf_str(&b, f->field);
    }
    if (f->has_limit) api_buf_fmt(&b, ",\"limit\":%llu", (unsigned long long)f->limit);
    api_buf_raw(&b, "}", 1);
    /* Without memory for the text the status and the code still go out. */
    rp->body = api_buf_take(&b, &rp->body_bytes);
}

void api_problem(api_reply *rp, const char *code, const char *request_id, const char *detail, ...)
{
    api_fault f = {0};
    va_list ap;
    va_start(ap, detail);
    if (detail != NULL) {
        fail_va(&f, code, NULL, detail, ap);
    } else {
        const api_problem_entry *e = api_problem_find(code);
        f.code = e != NULL ? e->code : "internal";
    }
    va_end(ap);
    api_fault_reply(rp, &f, request_id);
}

void api_reply_fini(api_reply *rp)
{
    free(rp->body);
    rp->body = NULL;
    rp->body_bytes = 0;
}
