/* intake.c: who may come in, and with what. */
#include "intake.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

uint32_t srv_http_connections(srv_http *h);

/* The client's id is kept when it is harmless: so that one id follows a request through a shop's own logs. */
static void name_request(srv_request *r)
{
    const char *given = r->headers.request_id;
    size_t n = given != NULL ? strlen(given) : 0;
    bool fine = n > 0 && n < sizeof r->id;
    for (size_t i = 0; fine && i < n; i++) fine = isalnum((unsigned char) given[i]) || strchr("._-", given[i]) != NULL;
    if (fine) {
        memcpy(r->id, given, n + 1);
        return;
    }
    static _Atomic uint64_t counter, base;
    if (atomic_load(&base) == 0) {
        uint64_t seed = 1;
        (void) !getrandom(&seed, sizeof seed, 0);
        atomic_store(&base, seed | 1);
    }
    snprintf(r->id, sizeof r->id, "%08llx%08llx", (unsigned long long) (atomic_load(&base) & 0xffffffffu),
             (unsigned long long) (atomic_fetch_add(&counter, 1) & 0xffffffffu));
}

static bool has_body(const srv_request *r) { return r->headers.chunked || r->headers.length > 0; }

/* rp holds a refusal. With a body on its way it is sent at once and the connection closes: the body is never read, so
 * that nothing in it can be taken for a request. */
static enum MHD_Result refuse(srv_request *r)
{
    r->ready = true;
    if (!has_body(r)) return MHD_YES; // answered in srv_intake_complete
    r->head_only_refusal = true;
    return srv_reply(r);
}

static enum MHD_Result refuse_with(srv_request *r, const char *code, const char *detail, uint32_t retry_after_s)
{
    api_problem(&r->rp, code, r->id, "%s", detail);
    if (retry_after_s != 0) r->rp.retry_after_s = retry_after_s;
    return refuse(r);
}

/* Writes know no conditions. To go on without looking at one would replace what somebody else has changed. */
static bool admit_condition(srv_request *r)
{
    if (!r->info.write || r->headers.condition == NULL) return true;
    api_problem(&r->rp, "condition_unsupported", r->id, "%s is not supported on writes; a PUT of an item with create_only=true replaces nothing",
                r->headers.condition);
    return false;
}

/* false: refused, rp is filled. */
static bool admit_body(srv_request *r)
{
    const srv_headers *h = &r->headers;
    size_t max = r->info.max_body_bytes;
    if (max == 0 && has_body(r)) {
        api_problem(&r->rp, "body_unexpected", r->id, "%s %s takes no body", srv_method_name(r->method), r->route);
        return false;
    }
    if (r->info.cls == API_CLASS_STREAM) return true;
    if (h->chunked) {
        api_problem(&r->rp, "length_required", r->id, "send Content-Length: only items:batch takes a chunked body");
        return false;
    }
    if (h->length > max) {
        api_problem(&r->rp, "body_too_large", r->id, "the body has %llu bytes, at most %zu are allowed here",
                    (unsigned long long) h->length, max);
        return false;
    }
    if (!api_memory_take(r->s->cx, h->length)) {
        api_problem(&r->rp, "overloaded", r->id, "the bodies of other requests take all of max-body-memory");
        return false;
    }
    r->reserved = h->length;
    return true;
}

static bool admit_work(srv_request *r)
{
    uint32_t retry = 0;
    if (r->info.cls != API_CLASS_INTERACTIVE || !srv_pool_is_full(r->s->pool, &retry)) return true;
    api_problem(&r->rp, "overloaded", r->id, "%llu requests are waiting, as many as max-queue allows",
                (unsigned long long) r->s->set->max_queue);
    r->rp.retry_after_s = retry;
    return false;
}

static void fill_request(srv_request *r)
{
    r->rq = (api_request){
        .method = r->method,
        .raw_path = r->path,
        .raw_query = r->query,
        .content_type = r->headers.content_type,
        .request_id = r->id,
        .ctx = r,
    };
}

static enum MHD_Result answer_document(srv_request *r, const srv_document *d)
{
    r->route = d->route;
    if (r->method != API_GET && r->method != API_HEAD) {
        api_problem(&r->rp, "method_not_allowed", r->id, "%s knows GET and HEAD", d->route);
        snprintf(r->rp.allow, sizeof r->rp.allow, "GET, HEAD");
        return refuse(r);
    }
    if (has_body(r)) return refuse_with(r, "body_unexpected", "a GET takes no body", 0);
    d->answer(r->s, srv_http_connections(r->conn->http), &r->rp, r->id);
    return refuse(r);
}

static bool allowed(const srv_request *r)
{
    return r->s->keys == NULL || srv_keys_allow(r->s->keys, r->headers.authorization);
}

enum MHD_Result srv_intake_begin(srv_request *r)
{
    const char *detail = NULL, *code = NULL;
    r->route = "unmatched";
    r->method = srv_guard_method(r->method_name);
    bool framed = srv_guard_headers(r->mhd, r->needs_host, &r->headers, &code, &detail);
    name_request(r);
    if (!framed || !srv_guard_target(r->target, &r->path, &r->query, &code, &detail)) {
        r->headers.chunked = true; // what follows cannot be trusted to be a request: the connection must close
        return refuse_with(r, code, detail, 0);
    }
    if (r->method == API_OTHER && r->headers.preflight && r->s->set->cors_origin.n > 0 && strcmp(r->method_name, "OPTIONS") == 0) {
        r->rp.status = 204;
        return refuse(r);
    }
    const srv_document *d = srv_document_find(r->path);
    if (!(d != NULL && d->open) && !allowed(r))
        return refuse_with(r, "unauthorized", r->headers.authorization == NULL ? "send Authorization: Bearer KEY" : "the key is not valid", 0);
    if (d != NULL) return answer_document(r, d);
    if (atomic_load(&r->s->state) == SRV_STARTING) return refuse_with(r, "not_ready", "the index is being loaded", 0);
    r->info = api_route(r->s->cx, r->method, r->path);
    r->route = r->info.route;
    fill_request(r);
    if (r->info.cls == API_CLASS_NONE) {
        (void) api_handle(r->s->cx, NULL, &r->rq, &r->rp);
        return refuse(r);
    }
    if (!admit_condition(r) || !admit_body(r) || !admit_work(r)) return refuse(r);
    if (r->info.cls == API_CLASS_STREAM && (r->stream = srv_stream_open(r)) == NULL) return refuse(r);
    srv_conn_enter(r->conn, SRV_CONN_BODY, srv_deadline(r->start_ns, r->s->set->body_timeout, 0));
    return MHD_YES;
}

/* Grows in steps, not at once to the declared length: a client pays with bytes sent for the memory that it takes. */
static bool append(srv_request *r, const char *bytes, size_t n)
{
    if (n > r->reserved - r->body_bytes) return false;
    if (r->body_bytes + n > r->body_room) {
        size_t room = 2 * r->body_room + 64 * 1024;
        if (room > r->reserved || room < r->body_bytes + n) room = r->reserved;
        uint8_t *grown = realloc(r->body, room);
        if (grown == NULL) return false;
        r->body = grown;
        r->body_room = room;
    }
    memcpy(r->body + r->body_bytes, bytes, n);
    r->body_bytes += n;
    return true;
}

enum MHD_Result srv_intake_body(srv_request *r, const char *bytes, size_t *n)
{
    if (r->stream != NULL && !r->ready) return srv_stream_take(r->stream, bytes, n);
    if (!r->ready && !append(r, bytes, *n)) return MHD_NO;
    r->received += *n;
    *n = 0;
    srv_conn_enter(r->conn, SRV_CONN_BODY, srv_deadline(r->start_ns, r->s->set->body_timeout, r->received));
    return MHD_YES;
}

/* From the compute thread or the index's writer. The request must not be touched after it. */
static void finish(srv_request *r)
{
    r->ready = true;
    MHD_resume_connection(r->mhd);
}

static void on_done(void *ctx) { finish(ctx); }

static void compute(srv_job *j, api_worker *w, srv_job_fate fate)
{
    srv_request *r = (srv_request *) j;
    r->rp.stage_ns[API_STAGE_QUEUE] = srv_now_ns() - j->queued_ns;
    if (fate == SRV_JOB_CANCELLED) {
        api_problem(&r->rp, "shutting_down", r->id, "the server is shutting down");
    } else if (fate == SRV_JOB_TOO_OLD) {
        api_problem(&r->rp, "overloaded", r->id, "the request waited %llu ms for a compute thread, at most %llu are allowed",
                    (unsigned long long) (r->rp.stage_ns[API_STAGE_QUEUE] / 1000000u), (unsigned long long) r->s->set->max_queue_age);
    } else if (api_handle(r->s->cx, w, &r->rq, &r->rp) == API_PENDING) {
        return; // on_done finishes it, or has already
    }
    finish(r);
}

static enum MHD_Result hand_over(srv_request *r)
{
    uint32_t retry = 0;
    srv_conn_enter(r->conn, SRV_CONN_WORK, 0);
    r->job.run = compute;
    MHD_suspend_connection(r->mhd); // before the pool can have it, or the resume might come first
    if (srv_pool_submit(r->s->pool, &r->job, &retry)) return MHD_YES;
    api_problem(&r->rp, "overloaded", r->id, "%llu requests are waiting, as many as max-queue allows",
                (unsigned long long) r->s->set->max_queue);
    r->rp.retry_after_s = retry;
    finish(r);
    return MHD_YES;
}

enum MHD_Result srv_intake_complete(srv_request *r)
{
    if (r->answered) return MHD_YES;
    if (r->ready) return srv_reply(r);
    if (r->stream != NULL) return srv_stream_answer(r->stream);
    r->rq.body = r->body;
    r->rq.body_bytes = r->body_bytes;
    r->rq.done = on_done;
    r->rq.deadline_ns = srv_deadline(srv_now_ns(), r->s->set->request_timeout, 0); // not the time of the upload
    if (r->info.cls == API_CLASS_INTERACTIVE) return hand_over(r);
    (void) api_handle(r->s->cx, NULL, &r->rq, &r->rp);
    return srv_reply(r);
}

void srv_intake_release(srv_request *r)
{
    if (r->reserved > 0) api_memory_give(r->s->cx, r->reserved);
    api_reply_fini(&r->rp);
    free(r->body);
    free(r->target);
    free(r);
}
