/* batch.c: items:batch: a stream of NDJSON lines in, one answer line for each, in order.
 *
 * A line lives from the byte that completes it until its answer is in `out`. Its way:
 *   QUEUED     its task waits on, or runs in, the server's pool: parse, decode, embed
 *   READY      its write is made and waits for the lines before it: writes enter the index in line order, so that the
 *              last line about an item wins although the pool works on many lines at once
 *   SUBMITTED  the index has the write
 *   ANSWERED   `answer` holds its text and waits for the answers before it
 * A line that fails goes from QUEUED to ANSWERED. `head` is the first line not yet in `out`, `cursor` the first not yet
 * past READY. Each line holds a reference to the batch until it is answered; the last reference frees it, so that
 * api_batch_close() need not wait for the pool or the writer. */
#include "batch.h"
#include "route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FULL_ANSWERS_BYTES = 32 << 20, DETAIL_BYTES = 240 };

/* ---- life --------------------------------------------------------------------------------------- */

static bool batch_media(const api_request *rq, api_fault *f)
{
    static const char *const types[] = {"application/x-ndjson", "application/ndjson", "application/jsonl"};
    api_media m;
    if (!api_media_parse(&m, rq->content_type, f)) return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i], m.type) == 0) return true;
    return api_fail(f, "content_type_unsupported", NULL, "the content type is \"%s\", application/x-ndjson is expected", m.type);
}

static api_batch *batch_new(api_ctx *cx, const idx_catalogue *cat, const api_batch_io *io)
{
    api_batch *b = calloc(1, sizeof *b);
    if (b == NULL) return NULL;
    if (pthread_mutex_init(&b->mutex, NULL) != 0) {
        free(b);
        return NULL;
    }
    if (pthread_cond_init(&b->idle, NULL) != 0) {
        pthread_mutex_destroy(&b->mutex);
        free(b);
        return NULL;
    }
    b->cx = cx;
    atomic_fetch_add(&cx->batches, 1);
    b->io = *io;
    b->refs = 1;
    b->cat = *cat;
    return b;
}

api_batch *api_batch_open(api_ctx *cx, const api_request *rq, const api_batch_io *io, api_reply *rp)
{
    static const char *const no_params[] = {NULL};
    api_call c = {.cx = cx, .rq = rq, .rp = rp, .start_ns = api_now_ns()};
    const api_route_def *r = api_route_find(rq->raw_path);
    api_batch *b = NULL;
    bool ok = r != NULL && api_route_is_stream(r, rq->method);
    if (!ok) api_fail(&c.fault, "not_found", NULL, "there is no stream at this path");
    ok = ok && api_route_params(r, rq->raw_path, &c) && api_call_params(&c, no_params) && batch_media(rq, &c.fault) &&
         api_call_catalogue(&c);
    if (ok && (b = batch_new(cx, &c.cat, io)) == NULL) api_fail_memory(&c.fault);
    if (b == NULL) {
        api_fault_reply(rp, &c.fault, rq->request_id);
    } else {
        rp->status = 200;
        rp->content_type = "application/x-ndjson";
    }
    api_params_fini(&c.params);
    return b;
}

static void line_free(line *l)
{
    if (l->op != NULL) idx_op_free(l->op);
    api_buf_fini(&l->answer);
    free(l->text);
    free(l);
}

/* Takes the mutex locked, leaves it unlocked; b may be gone afterwards. */
static void unref_unlock(api_batch *b)
{
    bool last = --b->refs == 0;
    if (last) api_hold_less(b->cx, &b->hold, b->hold.held);
    pthread_mutex_unlock(&b->mutex);
    if (!last) return;
    atomic_fetch_sub(&b->cx->batches, 1);
    pthread_cond_destroy(&b->idle);
    pthread_mutex_destroy(&b->mutex);
    free(b->cur);
    api_buf_fini(&b->out);
    free(b);
}

/* Locked on entry and on return; unlocked while the server's wake() runs. */
static void wake_locked(api_batch *b)
{
    if (b->closed) return;
    b->waking++;
    pthread_mutex_unlock(&b->mutex);
    b->io.wake(b->io.ctx);
    pthread_mutex_lock(&b->mutex);
    if (--b->waking == 0) pthread_cond_broadcast(&b->idle);
}

void api_batch_close(api_batch *b)
{
    if (b == NULL) return;
    pthread_mutex_lock(&b->mutex);
    b->closed = true;
    while (b->waking > 0) pthread_cond_wait(&b->idle, &b->mutex);
    unref_unlock(b);
}

/* ---- answers ------------------------------------------------------------------------------------ */

/* id may be NULL. Called with the mutex: the room for details depends on what is waiting. */
static void write_answer(api_batch *b, api_buf *to, uint64_t number, const char *id, int status, const api_fault *f,
                         const idx_op *op)
{
    bool brief = b->out.n - b->out_at > FULL_ANSWERS_BYTES;
    api_buf_fmt(to, "{\"line\":%llu", (unsigned long long)number);
    if (id != NULL && !brief) {
        api_buf_raw(to, ",\"id\":", 6);
        api_buf_str(to, id);
    }
    api_buf_fmt(to, ",\"status\":%d", status);
    if (op != NULL && f == NULL && op->kind == IDX_PUT) api_buf_fmt(to, ",\"created\":%s", op->created ? "true" : "false");
    if (f != NULL) {
        api_buf_fmt(to, ",\"code\":\"%s\"", f->code);
        if (!brief) {
            api_buf_raw(to, ",\"detail\":", 10);
            api_buf_strn(to, f->detail, strnlen(f->detail, DETAIL_BYTES));
            if (f->field[0] != '\0') {
                api_buf_raw(to, ",\"field\":", 9);
                api_buf_str(to, f->field);
            }
        }
    }
    api_buf_raw(to, "}\n", 2);
    if (status < 400)
        b->stats.ok++;
    else
        b->stats.failed++;
}

/* Locked. Moves answers that are next in order to `out`; true when something moved. */
static bool flush(api_batch *b, size_t *released)
{
    bool moved = false;
    while (b->head != NULL && b->head->state == ANSWERED) {
        line *l = b->head;
        b->head = l->next;
        if (b->head == NULL) b->tail = NULL;
        if (b->cursor == l) b->cursor = l->next;
        if (l->answer.failed) { /* the answer's place must not stay empty */
            api_buf_fini(&l->answer);
            api_buf_fmt(&l->answer, "{\"line\":%llu,\"status\":503,\"code\":\"out_of_memory\"}\n",
                        (unsigned long long)l->number);
        }
        if (!b->closed) api_buf_raw(&b->out, l->answer.p, l->answer.n);
        b->inflight--;
        line_free(l);
        (*released)++;
        moved = true;
    }
    return moved;
}

void api_batch_answered(api_batch *b, line *l, bool wake)
{
    size_t released = 0;
    l->state = ANSWERED;
    if (flush(b, &released) && wake) {
        b->starved = false;
        wake_locked(b); /* the references below keep b alive meanwhile */
    }
    b->refs -= released > 0 ? released - 1 : 0;
    if (released > 0)
        unref_unlock(b);
    else
        pthread_mutex_unlock(&b->mutex);
}

/* ---- writes, in line order ---------------------------------------------------------------------- */

void api_batch_fail_line(api_batch *b, line *l, const char *id, const api_fault *f)
{
    write_answer(b, &l->answer, l->number, id, api_problem_find(f->code)->status, f, NULL);
}

/* In the index's writer thread. */
static void committed(idx_op *op, void *ctx)
{
    line *l = ctx;
    api_batch *b = l->b;
    api_fault f = {0};
    bool ok = op->status == IDX_OK || api_write_fail(b->cx->ix, b->cat.name, op->kind, op->status, &op->error, &f);
    pthread_mutex_lock(&b->mutex);
    b->stats.stage_ns[API_STAGE_COMMIT] += api_now_ns() - l->submitted_ns;
    if (ok)
        write_answer(b, &l->answer, l->number, op->item, op->kind == IDX_DELETE ? 204 : op->created ? 201 : 200, NULL, op);
    else
        api_batch_fail_line(b, l, op->item, &f);
    api_batch_answered(b, l, true);
}

/* Locked on entry and return, and the caller holds a reference. Hands over every write whose turn has come. One thread
 * at a time does it; the others leave their READY line to it. */
static void advance(api_batch *b)
{
    if (b->submitting) return;
    b->submitting = true;
    while (b->cursor != NULL && b->cursor->state != QUEUED) {
        line *l = b->cursor;
        b->cursor = l->next;
        if (l->state != READY) continue;
        idx_op *op = l->op;
        l->op = NULL;
        l->state = SUBMITTED;
        l->submitted_ns = api_now_ns();
        op->done = committed;
        op->ctx = l;
        char id[IDX_MAX_ID_BYTES + 1];
        snprintf(id, sizeof id, "%s", op->item); /* op is gone after a refusal */
        idx_op_kind kind = op->kind;
        pthread_mutex_unlock(&b->mutex);
        idx_error err = {0};
        idx_status st = idx_submit_take(b->cx->ix, op, &err); /* l may be gone when it returns IDX_OK */
        api_fault f = {0};
        bool ok = st == IDX_OK || api_write_fail(b->cx->ix, b->cat.name, kind, st, &err, &f);
        pthread_mutex_lock(&b->mutex);
        if (!ok) {
            api_batch_fail_line(b, l, id, &f);
            api_batch_answered(b, l, true);
            pthread_mutex_lock(&b->mutex);
        }
    }
    b->submitting = false;
}

/* ---- one line ----------------------------------------------------------------------------------- */

static bool line_kind(const json_t *root, idx_op_kind *kind, api_fault *f)
{
    const json_t *v = json_object_get(root, "op");
    const char *s = v == NULL ? "put" : json_is_string(v) ? json_string_value(v) : "";
    if (strcmp(s, "put") == 0)
        *kind = IDX_PUT;
    else if (strcmp(s, "patch") == 0)
        *kind = IDX_PATCH;
    else if (strcmp(s, "delete") == 0)
        *kind = IDX_DELETE;
    else
        return api_fail(f, "field_invalid", "op", "op is %s%.40s%s; \"put\", \"patch\" or \"delete\" is expected", *s != '\0' ? "\"" : "",
                        *s != '\0' ? s : "not such a string", *s != '\0' ? "\"" : "");
    return true;
}

static bool line_op(line *l, api_worker *w, uint64_t *stage_ns, char id[IDX_MAX_ID_BYTES + 1], idx_op **op, api_fault *f)
{
    static const char *const names[] = {"id", "op", "attributes", "images", "embedding", NULL};
    api_ctx *cx = l->b->cx;
    api_write_ctx wc = {cx, w, l->b->cat.name, &l->b->cat, 0, stage_ns, f};
    api_doc doc;
    idx_op_kind kind = IDX_PUT;
    bool ok = api_doc_parse(&doc, (const uint8_t *)l->text, l->text_bytes, true, cx->limits.max_json_bytes, "line", f);
    if (ok) {
        const json_t *v = json_object_get(doc.root, "id");
        ok = json_is_string(v) ? api_item_id_check(json_string_value(v), json_string_length(v), "id", f)
                               : api_fail(f, "item_id_invalid", "id", "the line has no string \"id\"");
        if (ok) snprintf(id, IDX_MAX_ID_BYTES + 1, "%s", json_string_value(v));
    }
    ok = ok && api_json_only(doc.root, names, "", f) && line_kind(doc.root, &kind, f) &&
         api_write_from_json(&wc, kind, id, &doc, op);
    api_doc_fini(&doc);
    return ok;
}

void api_batch_run_line(api_task *t, api_worker *w)
{
    line *l = (line *)t;
    api_batch *b = l->b;
    api_fault f = {0};
    idx_op *op = NULL;
    char id[IDX_MAX_ID_BYTES + 1] = "";
    uint64_t stage_ns[API_STAGE_COUNT] = {0};
    bool ok = w != NULL ? line_op(l, w, stage_ns, id, &op, &f)
                        : api_fail(&f, "shutting_down", NULL, "the line was not worked on: the server is shutting down");
    free(l->text);
    l->text = NULL;

    pthread_mutex_lock(&b->mutex);
    b->refs++; /* this function's own */
    b->inflight_bytes -= l->text_bytes;
    api_hold_less(b->cx, &b->hold, l->text_room);
    for (int i = 0; i < API_STAGE_COUNT; i++) b->stats.stage_ns[i] += stage_ns[i];
    if (ok) {
        b->stats.images += op->n_images;
        l->op = op;
        l->state = READY;
    } else {
        api_batch_fail_line(b, l, id[0] != '\0' ? id : NULL, &f);
        api_batch_answered(b, l, true);
        pthread_mutex_lock(&b->mutex);
    }
    advance(b);
    if (b->starved) { /* bytes were released even where no answer moved */
        b->starved = false;
        wake_locked(b);
    }
    unref_unlock(b);
}

/* ---- reading ------------------------------------------------------------------------------------ */

int64_t api_batch_read(api_batch *b, uint8_t *buf, size_t max)
{
    pthread_mutex_lock(&b->mutex);
    size_t n = b->out.n - b->out_at;
    int64_t got;
    if (n > max) n = max;
    if (n > 0) {
        memcpy(buf, b->out.p + b->out_at, n);
        b->out_at += n;
        if (b->out_at == b->out.n) {
            b->out.n = b->out_at = 0;
        } else if (b->out_at > b->out.n / 2 && b->out_at > 65536) {
            memmove(b->out.p, b->out.p + b->out_at, b->out.n - b->out_at);
            b->out.n -= b->out_at;
            b->out_at = 0;
        }
        got = (int64_t)n;
    } else if (b->out_at < b->out.n) { /* max is 0 */
        got = 0;
    } else {
        got = b->out.failed ? -2 : b->ended && b->head == NULL ? -1 : 0;
    }
    pthread_mutex_unlock(&b->mutex);
    return got;
}

uint32_t api_batches_in_progress(api_ctx *cx) { return atomic_load(&cx->batches); }

void api_batch_get_stats(api_batch *b, api_batch_stats *out)
{
    pthread_mutex_lock(&b->mutex);
    *out = b->stats;
    pthread_mutex_unlock(&b->mutex);
}
