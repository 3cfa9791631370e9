/* stream.c: items:batch between libmicrohttpd and api_batch. The body's bytes are fed as they come; while too many lines
 * are in flight the connection sleeps, so that the client feels it through TCP; the answers are read the same way.
 *
 * Sleeping and waking race: a wake that comes before the connection sleeps must not be lost, and a connection must not be
 * resumed twice. `woken` and `asleep` are both under one lock, and only the side that turns `asleep` off resumes. */
#include "metrics.h"
#include "request.h"

#include <stdlib.h>

enum { LINES_IN_FLIGHT = 128, ANSWER_BLOCK = 64 * 1024 };
/* A stream has no length that its deadline could grow with: each body-timeout must bring so much, or the end. */
enum { LEAST_BYTES = 16 * 1024 };

struct srv_stream {
    struct srv_stream *prev, *next; /* all streams, under streams_lock */
    pthread_mutex_t lock;
    srv_request *r;
    api_batch *batch;
    bool woken, asleep, aborted;
    uint64_t window_ns, window_bytes; /* when the last LEAST_BYTES began, and what had come then; 0 = with the next byte */
};

static pthread_mutex_t streams_lock = PTHREAD_MUTEX_INITIALIZER;
static srv_stream *streams;

static void wake(void *ctx)
{
    srv_stream *st = ctx;
    pthread_mutex_lock(&st->lock);
    st->woken = true;
    bool resume = st->asleep;
    st->asleep = false;
    if (resume) MHD_resume_connection(st->r->mhd);
    pthread_mutex_unlock(&st->lock);
}

static void submit(void *ctx, api_task *t)
{
    srv_stream *st = ctx;
    srv_pool_submit_bulk(st->r->s->pool, t);
}

/* Before looking for work: a wake from here on counts. */
static void clear_wake(srv_stream *st)
{
    pthread_mutex_lock(&st->lock);
    st->woken = false;
    pthread_mutex_unlock(&st->lock);
}

/* Nothing was there: sleeps unless it was woken meanwhile; true = asleep. */
static bool sleep_unless_woken(srv_stream *st)
{
    srv_conn_enter(st->r->conn, SRV_CONN_WORK, 0); // before the lock: no lock of ours is taken inside it
    pthread_mutex_lock(&st->lock);
    bool sleep = !st->woken && !st->aborted;
    if (sleep) {
        st->asleep = true;
        MHD_suspend_connection(st->r->mhd);
    }
    pthread_mutex_unlock(&st->lock);
    return sleep;
}

static bool is_aborted(srv_stream *st)
{
    pthread_mutex_lock(&st->lock);
    bool aborted = st->aborted;
    pthread_mutex_unlock(&st->lock);
    return aborted;
}

static void expect_bytes(srv_stream *st)
{
    srv_request *r = st->r;
    if (st->window_ns == 0 || r->received - st->window_bytes >= LEAST_BYTES) {
        st->window_ns = srv_now_ns();
        st->window_bytes = r->received;
    }
    srv_conn_enter(r->conn, SRV_CONN_BODY, srv_deadline(st->window_ns, r->s->set->body_timeout, 0));
}

enum MHD_Result srv_stream_take(srv_stream *st, const char *bytes, size_t *n)
{
    while (*n > 0) {
        if (is_aborted(st)) return MHD_NO;
        clear_wake(st);
        size_t took = api_batch_feed(st->batch, (const uint8_t *) bytes, *n);
        bytes += took;
        *n -= took;
        st->r->received += took;
        if (*n > 0 && sleep_unless_woken(st)) {
            st->window_ns = 0; // time that passes while the connection sleeps is not the client's
            return MHD_YES;
        }
    }
    expect_bytes(st);
    return MHD_YES;
}

static ssize_t read_answers(void *ctx, uint64_t pos, char *buf, size_t max)
{
    (void) pos;
    srv_stream *st = ctx;
    for (;;) {
        if (is_aborted(st)) return MHD_CONTENT_READER_END_WITH_ERROR;
        clear_wake(st);
        int64_t n = api_batch_read(st->batch, (uint8_t *) buf, max);
        if (n < 0) return n == -1 ? MHD_CONTENT_READER_END_OF_STREAM : MHD_CONTENT_READER_END_WITH_ERROR;
        if (n > 0) {
            st->r->sent += (uint64_t) n;
            srv_conn_enter(st->r->conn, SRV_CONN_REPLY, srv_deadline(srv_now_ns(), st->r->s->set->body_timeout, (uint64_t) n));
            return (ssize_t) n;
        }
        if (sleep_unless_woken(st)) return 0;
    }
}

enum MHD_Result srv_stream_answer(srv_stream *st)
{
    api_batch_end(st->batch);
    st->r->rp.status = 200;
    struct MHD_Response *m = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, ANSWER_BLOCK, read_answers, st, NULL);
    return srv_reply_with(st->r, 200, m, "application/x-ndjson");
}

void srv_streams_abort(void)
{
    pthread_mutex_lock(&streams_lock);
    for (srv_stream *st = streams; st != NULL; st = st->next) {
        pthread_mutex_lock(&st->lock);
        st->aborted = true;
        pthread_mutex_unlock(&st->lock);
        wake(st);
    }
    pthread_mutex_unlock(&streams_lock);
}

static void enlist(srv_stream *st)
{
    pthread_mutex_lock(&streams_lock);
    st->next = streams;
    if (streams != NULL) streams->prev = st;
    streams = st;
    pthread_mutex_unlock(&streams_lock);
}

static void delist(srv_stream *st)
{
    pthread_mutex_lock(&streams_lock);
    if (st->next != NULL) st->next->prev = st->prev;
    if (st->prev != NULL) st->prev->next = st->next;
    else streams = st->next;
    pthread_mutex_unlock(&streams_lock);
}

srv_stream *srv_stream_open(srv_request *r)
{
    srv_stream *st = calloc(1, sizeof *st);
    if (st == NULL) {
        api_problem(&r->rp, "out_of_memory", r->id, "no memory for the batch");
        return NULL;
    }
    st->r = r;
    st->window_ns = r->start_ns;
    pthread_mutex_init(&st->lock, NULL);
    enlist(st);
    api_batch_io io = {submit, wake, st, LINES_IN_FLIGHT};
    st->batch = api_batch_open(r->s->cx, &r->rq, &io, &r->rp);
    if (st->batch != NULL) return st;
    srv_stream_close(st);
    return NULL;
}

void srv_stream_close(srv_stream *st)
{
    if (st == NULL) return;
    delist(st);
    if (st->batch != NULL) {
        api_batch_stats stats;
        api_batch_get_stats(st->batch, &stats);
        srv_metrics_batch(&stats);
        api_batch_close(st->batch);
    }
    pthread_mutex_destroy(&st->lock);
    free(st);
}
