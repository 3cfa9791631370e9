/* batch_feed.c: the bytes of a batch's body become lines. Everything here runs in the one thread that feeds. */
#include "batch.h"

#include <stdlib.h>
#include <string.h>

enum { OUT_STEP = 64 << 10 };

/* Appends a line to the order; false without memory. Locked. */
static line *line_add(api_batch *b)
{
    line *l = calloc(1, sizeof *l);
    if (l == NULL) return NULL;
    l->b = b;
    l->number = b->lines_seen;
    l->task.run = api_batch_run_line;
    if (b->tail != NULL)
        b->tail->next = l;
    else
        b->head = l;
    b->tail = l;
    if (b->cursor == NULL) b->cursor = l;
    b->inflight++;
    b->refs++;
    b->stats.lines++;
    return l;
}

/* An answer without work. */
static void refuse_line(api_batch *b, const api_fault *f)
{
    pthread_mutex_lock(&b->mutex);
    line *l = line_add(b);
    if (l == NULL) {
        b->out.failed = true; /* api_batch_read() says so */
        pthread_mutex_unlock(&b->mutex);
        return;
    }
    api_batch_fail_line(b, l, NULL, f);
    api_batch_answered(b, l, false);
}

static void queue_line(api_batch *b)
{
    pthread_mutex_lock(&b->mutex);
    line *l = line_add(b);
    if (l != NULL) {
        l->text = b->cur;
        l->text_bytes = b->cur_n;
        l->text_room = b->cur_cap;
        b->inflight_bytes += b->cur_n;
        b->cur = NULL;
        b->cur_cap = 0;
    } else {
        b->out.failed = true;
    }
    pthread_mutex_unlock(&b->mutex);
    b->cur_n = 0;
    if (l != NULL) b->io.submit(b->io.ctx, &l->task);
}

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] != ' ' && s[i] != '\t' && s[i] != '\r') return false;
    return true;
}

/* Answers are fetched when the body has ended: until then each line adds to them. */
static bool answers_fit(api_batch *b)
{
    pthread_mutex_lock(&b->mutex);
    bool ok = b->out.n <= b->out_held || api_hold_more(b->cx, &b->hold, OUT_STEP);
    if (ok && b->out.n > b->out_held) b->out_held += OUT_STEP;
    pthread_mutex_unlock(&b->mutex);
    return ok;
}

/* The line in `cur` is complete. */
static void end_line(api_batch *b)
{
    api_fault f = {0};
    if (!b->skipping && blank(b->cur, b->cur_n)) {
        b->lines_seen++;
        b->cur_n = 0;
        return;
    }
    b->lines_seen++;
    if (b->lines_seen > b->cx->limits.max_lines) {
        b->full = true;
        api_fail_limit(&f, "too_many_lines", NULL, b->cx->limits.max_lines, "the batch has more than %u lines, the rest is not read",
                       b->cx->limits.max_lines);
    } else if (!answers_fit(b)) {
        b->full = true;
        api_fail(&f, "overloaded", NULL, "the answers of this batch and of others take all the memory there is for them, the rest is not read");
    } else if (b->unheld) {
        api_fail_memory(&f);
    } else if (b->crowded) {
        api_fail(&f, "overloaded", NULL, "other batches take all the memory there is for lines");
    } else if (b->skipping) {
        api_fail_limit(&f, "line_too_long", NULL, b->cx->limits.max_line_bytes, "the line has more than %zu bytes",
                       b->cx->limits.max_line_bytes);
    }
    b->skipping = b->unheld = b->crowded = false;
    if (f.code == NULL) {
        queue_line(b);
        return;
    }
    b->cur_n = 0;
    refuse_line(b, &f);
}

static bool room(api_batch *b)
{
    if (b->skipping || blank(b->cur, b->cur_n)) return true;
    pthread_mutex_lock(&b->mutex);
    bool ok = b->inflight == 0 || (b->inflight < b->io.max_inflight &&
                                   b->inflight_bytes + b->cur_n <= 2 * b->cx->limits.max_line_bytes);
    if (!ok) b->starved = true;
    pthread_mutex_unlock(&b->mutex);
    return ok;
}

static void drop_line(api_batch *b)
{
    pthread_mutex_lock(&b->mutex);
    api_hold_less(b->cx, &b->hold, b->cur_cap);
    pthread_mutex_unlock(&b->mutex);
    free(b->cur);
    b->cur = NULL;
    b->cur_n = b->cur_cap = 0;
    b->skipping = true;
}

/* Room for n more bytes of the line that is arriving. false: not now, lines in flight will give some back. Where none is in
 * flight there is nothing to wait for, and the line is dropped: batches that waited for each other would wait for ever. */
static bool grow(api_batch *b, size_t n)
{
    size_t cap = b->cur_cap != 0 ? b->cur_cap : 4096, max = b->cx->limits.max_line_bytes;
    while (cap - b->cur_n < n) cap *= 2;
    if (cap > max) cap = max;
    pthread_mutex_lock(&b->mutex);
    bool held = api_hold_more(b->cx, &b->hold, cap - b->cur_cap), wait = !held && b->inflight > 0;
    if (wait) b->starved = true;
    pthread_mutex_unlock(&b->mutex);
    if (wait) return false;
    char *p = held ? realloc(b->cur, cap) : NULL;
    if (held) b->cur_cap = cap; /* as counted, for drop_line() */
    if (p != NULL) {
        b->cur = p;
        return true;
    }
    drop_line(b);
    b->unheld = held;
    b->crowded = !held;
    return true;
}

/* Adds n bytes without a line end to the line that is arriving; false: there is no room for them now. */
static bool append(api_batch *b, const uint8_t *bytes, size_t n)
{
    if (b->skipping) return true;
    if (n > b->cx->limits.max_line_bytes - b->cur_n) {
        drop_line(b);
        return true;
    }
    if (b->cur_cap - b->cur_n < n) {
        if (!grow(b, n)) return false;
        if (b->skipping) return true;
    }
    if (n > 0) memcpy(b->cur + b->cur_n, bytes, n);
    b->cur_n += n;
    return true;
}

size_t api_batch_feed(api_batch *b, const uint8_t *bytes, size_t n)
{
    size_t at = 0;
    while (at < n && !b->full) {
        const uint8_t *nl = memchr(bytes + at, '\n', n - at);
        size_t len = nl != NULL ? (size_t)(nl - bytes) - at : n - at;
        if (!append(b, bytes + at, len)) return at;
        at += len;
        if (nl == NULL) break;
        if (!room(b)) return at; /* the line end comes again */
        end_line(b);
        at++;
    }
    return b->full ? n : at;
}

void api_batch_end(api_batch *b)
{
    if (b->ended) return;
    if (!b->full && (b->skipping || b->cur_n > 0)) end_line(b);
    pthread_mutex_lock(&b->mutex);
    b->ended = true;
    pthread_mutex_unlock(&b->mutex);
}
