/* items:batch on a pool of threads: every line has its answer, in order; writes land in line order; bad lines stop
 * nothing; closing in the middle loses no accepted line and no memory. */
#include <stdarg.h>
#include <sys/resource.h>

#include "api_fixture.h"

#define BATCH "/v1/catalogues/default/items:batch"
#define ITEMS "/v1/catalogues/default/items"

/* ---- a pool as the server has one --------------------------------------------------------------- */

enum { THREADS = 3 };
typedef struct {
    pthread_mutex_t m;
    pthread_cond_t work, woken, idle;
    api_task *head, *tail;
    unsigned running, wakes;
    bool stop, hold, cancel; /* hold: tasks wait; cancel: run with NULL */
    pthread_t th[THREADS];
    unsigned started; /* threads that have taken their worker */
    api_worker *w[THREADS];
} pool;

static void *pool_thread(void *arg)
{
    pool *p = arg;
    pthread_mutex_lock(&p->m);
    api_worker *w = p->w[p->started++];
    for (;;) {
        while ((p->head == NULL || p->hold) && !p->stop) pthread_cond_wait(&p->work, &p->m);
        api_task *t = p->head;
        if (t == NULL) break;
        p->head = t->next;
        p->running++;
        bool cancel = p->cancel;
        pthread_mutex_unlock(&p->m);
        t->run(t, cancel ? NULL : w);
        pthread_mutex_lock(&p->m);
        p->running--;
        pthread_cond_broadcast(&p->idle);
    }
    pthread_mutex_unlock(&p->m);
    return NULL;
}

static void pool_start(pool *p)
{
    *p = (pool){.m = PTHREAD_MUTEX_INITIALIZER,
                .work = PTHREAD_COND_INITIALIZER,
                .woken = PTHREAD_COND_INITIALIZER,
                .idle = PTHREAD_COND_INITIALIZER};
    char err[320];
    for (int i = 0; i < THREADS; i++) REQUIRE(api_worker_new(fx.cx, &p->w[i], err) == 0);
    for (int i = 0; i < THREADS; i++) REQUIRE(pthread_create(&p->th[i], NULL, pool_thread, p) == 0);
}

static void pool_set(pool *p, bool hold, bool cancel)
{
    pthread_mutex_lock(&p->m);
    p->hold = hold;
    p->cancel = cancel;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->m);
}

static void pool_drain(pool *p)
{
    pthread_mutex_lock(&p->m);
    while (p->head != NULL || p->running > 0) pthread_cond_wait(&p->idle, &p->m);
    pthread_mutex_unlock(&p->m);
}

static void pool_stop(pool *p)
{
    pthread_mutex_lock(&p->m);
    p->stop = true;
    pthread_cond_broadcast(&p->work);
    pthread_mutex_unlock(&p->m);
    for (int i = 0; i < THREADS; i++) pthread_join(p->th[i], NULL);
    for (int i = 0; i < THREADS; i++) api_worker_free(p->w[i]);
}

static void pool_submit(void *ctx, api_task *t)
{
    pool *p = ctx;
    pthread_mutex_lock(&p->m);
    t->next = NULL;
    if (p->head == NULL)
        p->head = t;
    else
        p->tail->next = t;
    p->tail = t;
    pthread_cond_signal(&p->work);
    pthread_mutex_unlock(&p->m);
}

static void pool_wake(void *ctx)
{
    pool *p = ctx;
    pthread_mutex_lock(&p->m);
    p->wakes++;
    pthread_cond_signal(&p->woken);
    pthread_mutex_unlock(&p->m);
}

static unsigned pool_wakes(pool *p)
{
    pthread_mutex_lock(&p->m);
    unsigned n = p->wakes;
    pthread_mutex_unlock(&p->m);
    return n;
}

/* Waits for a wake after the `seen`th; a lost one shows as a failure after ten seconds. */
static void pool_wait(pool *p, unsigned seen)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    pthread_mutex_lock(&p->m);
    int rc = 0;
    while (p->wakes == seen && rc == 0) rc = pthread_cond_timedwait(&p->woken, &p->m, &until);
    pthread_mutex_unlock(&p->m);
    REQUIRE(rc == 0);
}

/* ---- a stream ----------------------------------------------------------------------------------- */

static api_batch *open_batch(pool *p, uint32_t inflight, const char *path, const char *type, api_reply *rp)
{
    api_request rq = {.method = API_POST, .raw_path = path, .content_type = type, .request_id = "b"};
    api_batch_io io = {pool_submit, pool_wake, p, inflight};
    *rp = (api_reply){0};
    return api_batch_open(fx.cx, &rq, &io, rp);
}

static api_batch *open_default(pool *p, uint32_t inflight)
{
    api_reply rp;
    api_batch *b = open_batch(p, inflight, BATCH, "application/x-ndjson", &rp);
    REQUIRE(b != NULL);
    CHECK_INT(rp.status, 200);
    CHECK_STR(rp.content_type, "application/x-ndjson");
    return b;
}

typedef struct {
    char *p;
    size_t n;
} text;

static void read_more(api_batch *b, text *out, int64_t *last)
{
    uint8_t buf[100]; /* lines come in pieces */
    while ((*last = api_batch_read(b, buf, sizeof buf)) > 0) {
        out->p = realloc(out->p, out->n + (size_t)*last + 1);
        REQUIRE(out->p != NULL);
        memcpy(out->p + out->n, buf, (size_t)*last);
        out->n += (size_t)*last;
        out->p[out->n] = '\0';
    }
}

/* Feeds pieces of up to `piece` bytes and reads all answers. */
static text run_batch(pool *p, uint32_t inflight, const char *in, size_t n, size_t piece)
{
    api_batch *b = open_default(p, inflight);
    text out = {NULL, 0};
    int64_t last = 0;
    for (size_t at = 0; at < n;) {
        unsigned seen = pool_wakes(p);
        size_t want = n - at < piece ? n - at : piece, got = api_batch_feed(b, (const uint8_t *)in + at, want);
        CHECK(got <= want);
        at += got;
        read_more(b, &out, &last);
        CHECK_INT(last, 0);
        if (got < want) pool_wait(p, seen);
    }
    api_batch_end(b);
    for (;;) {
        unsigned seen = pool_wakes(p);
        read_more(b, &out, &last);
        if (last < 0) break;
        pool_wait(p, seen);
    }
    api_batch_close(b);
    return out;
}

/* The answers as an array. */
static json_t *answers(const text *t)
{
    json_t *a = json_array();
    for (const char *s = t->p; s != NULL && *s != '\0';) {
        const char *nl = strchr(s, '\n');
        REQUIRE(nl != NULL);
        json_t *j = json_loadb(s, (size_t)(nl - s), JSON_REJECT_DUPLICATES, NULL);
        if (j == NULL) TEST_FAIL("not JSON: %.*s", (int)(nl - s), s);
        char why[200] = "";
        contract_open();
        json_t *answer = json_pack("{ss}", "$ref", "#/components/schemas/BatchAnswer");
        if (!contract_valid(answer, j, why)) TEST_FAIL("%s: %.*s", why, (int)(nl - s), s);
        json_decref(answer);
        fx_saw(fx_str(j, "code"));
        json_array_append_new(a, j);
        s = nl + 1;
    }
    return a;
}

static long long num(const json_t *a, size_t i, const char *name)
{
    return json_integer_value(json_object_get(json_array_get(a, i), name));
}

static void add(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void add(text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    char *s;
    int n = vasprintf(&s, fmt, ap);
    va_end(ap);
    REQUIRE(n >= 0);
    t->p = realloc(t->p, t->n + (size_t)n + 1);
    REQUIRE(t->p != NULL);
    memcpy(t->p + t->n, s, (size_t)n + 1);
    t->n += (size_t)n;
    free(s);
}

static void test_mixed(pool *p)
{
    char *b64 = fx_photo64(1);
    text in = {NULL, 0};
    add(&in, "{\"id\":\"a\",\"images\":[{\"data\":\"%s\"}],\"attributes\":{\"n\":1}}\n", b64);      /* 1: 201 */
    add(&in, "{\"id\":\"a\",\"op\":\"patch\",\"attributes\":{\"n\":2}}\r\n");                       /* 2: 200 */
    add(&in, "\n  \n");                                                                             /* 3, 4: blank */
    add(&in, "not json\n");                                                                         /* 5: 400 */
    add(&in, "{\"op\":\"put\"}\n");                                                                 /* 6: 400 */
    add(&in, "{\"id\":\"b\",\"images\":[{\"data\":\"AAAA\"}]}\n");                                  /* 7: 415 */
    add(&in, "{\"id\":\"b\",\"op\":\"delete\"}\n");                                                 /* 8: 404 */
    add(&in, "{\"id\":\"b\",\"op\":\"upsert\"}\n");                                                 /* 9: 400 */
    add(&in, "{\"id\":\"b\",\"op\":\"patch\"}\n");                                                  /* 10: 400 */
    add(&in, "{\"id\":\"b\",\"op\":\"delete\",\"images\":[]}\n");                                   /* 11: 400 */
    add(&in, "{\"id\":\"b\",\"attributes\":{}}\n");                                                 /* 12: 400 */
    add(&in, "{\"id\":\"b\",\"extra\":1}\n");                                                       /* 13: 400 */
    add(&in, "{\"id\":\"c/\xc3\xa9\",\"op\":\"put\",\"images\":[{\"data\":\"%s\"}]}\n", b64);       /* 14: 201 */
    add(&in, "{\"id\":\"c/\xc3\xa9\",\"op\":\"delete\"}");                                          /* 15: 204, no line end */
    static const struct {
        int line, status;
        const char *id, *code;
    } want[] = {
        {1, 201, "a", NULL}, {2, 200, "a", NULL}, {5, 400, NULL, "json_invalid"}, {6, 400, NULL, "item_id_invalid"},
        {7, 415, "b", "image_format_unsupported"}, {8, 404, "b", "item_not_found"}, {9, 400, "b", "field_invalid"},
        {10, 400, "b", "field_invalid"}, {11, 400, "b", "field_unknown"}, {12, 400, "b", "images_missing"},
        {13, 400, "b", "field_unknown"}, {14, 201, "c/\xc3\xa9", NULL}, {15, 204, "c/\xc3\xa9", NULL},
    };
    static const size_t pieces[] = {1 << 20, 7, 1000};
    for (size_t k = 0; k < 3; k++) {
        fx_status(API_DELETE, ITEMS "/a", NULL, NULL, 0);
        text out = run_batch(p, k == 0 ? 64 : 2, in.p, in.n, pieces[k]);
        json_t *a = answers(&out);
        CHECK_INT(json_array_size(a), sizeof want / sizeof *want);
        for (size_t i = 0; i < json_array_size(a) && i < sizeof want / sizeof *want; i++) {
            const json_t *j = json_array_get(a, i);
            CHECK_INT(num(a, i, "line"), want[i].line);
            CHECK_INT(num(a, i, "status"), want[i].status);
            if (want[i].id != NULL) CHECK_STR(fx_str(j, "id"), want[i].id);
            if (want[i].code != NULL) CHECK_STR(fx_str(j, "code"), want[i].code);
            CHECK_INT(fx_str(j, "detail") != NULL, want[i].code != NULL);
        }
        json_decref(a);
        free(out.p);
        int st;
        json_t *it = fx_json(API_GET, ITEMS "/a", NULL, NULL, 0, &st);
        CHECK_INT(st, 200);
        CHECK_INT(json_integer_value(json_object_get(json_object_get(it, "attributes"), "n")), 2);
        json_decref(it);
    }
    free(in.p);
    free(b64);
}

/* Lines about few items, many at once on the pool: the last line about each wins. */
static void test_order(pool *p)
{
    enum { LINES = 300, ITEMS_N = 7 };
    text in = {NULL, 0};
    uint64_t seed = 5;
    int last[ITEMS_N]; /* line, -1 = deleted or never there */
    char *b64 = fx_photo64(2);
    for (int i = 0; i < ITEMS_N; i++) last[i] = -1;
    for (int n = 0; n < LINES; n++) {
        int i = (int)(test_rand(&seed) % ITEMS_N), kind = (int)(test_rand(&seed) % 8);
        if (kind == 0) {
            add(&in, "{\"id\":\"o%d\",\"op\":\"delete\"}\n", i);
            last[i] = -1;
        } else if (kind < 4 || last[i] < 0) { /* slow */
            add(&in, "{\"id\":\"o%d\",\"attributes\":{\"n\":%d},\"images\":[{\"data\":\"%s\"}]}\n", i, n, b64);
            last[i] = n;
        } else { /* quick: would overtake */
            add(&in, "{\"id\":\"o%d\",\"op\":\"patch\",\"attributes\":{\"n\":%d}}\n", i, n);
            last[i] = n;
        }
    }
    text out = run_batch(p, 16, in.p, in.n, 5000);
    json_t *a = answers(&out);
    CHECK_INT(json_array_size(a), LINES);
    for (size_t i = 0; i < json_array_size(a); i++) {
        CHECK_INT(num(a, i, "line"), (long long)i + 1);
        CHECK(num(a, i, "status") < 300 || num(a, i, "status") == 404);
    }
    json_decref(a);
    for (int i = 0; i < ITEMS_N; i++) {
        char path[64];
        int st;
        snprintf(path, sizeof path, ITEMS "/o%d", i);
        json_t *it = fx_json(API_GET, path, NULL, NULL, 0, &st);
        CHECK_INT(st, last[i] < 0 ? 404 : 200);
        if (st == 200) CHECK_INT(json_integer_value(json_object_get(json_object_get(it, "attributes"), "n")), last[i]);
        json_decref(it);
    }
    free(out.p);
    free(in.p);
    free(b64);
}

static void test_bounds(pool *p)
{
    const api_limits *l = api_ctx_limits(fx.cx);
    text in = {NULL, 0};
    char *big = malloc(l->max_line_bytes + 2);
    REQUIRE(big != NULL);
    memset(big, 'x', l->max_line_bytes + 1);
    big[l->max_line_bytes + 1] = '\0';
    add(&in, "{\"id\":\"n\",\"op\":\"delete\"}\n%s\n{\"id\":\"n\",\"op\":\"delete\"}\n", big);
    text out = run_batch(p, 4, in.p, in.n, 1000);
    json_t *a = answers(&out);
    CHECK_INT(json_array_size(a), 3);
    CHECK_STR(fx_str(json_array_get(a, 1), "code"), "line_too_long");
    CHECK_INT(num(a, 1, "status"), 413);
    CHECK_INT(num(a, 2, "line"), 3);
    json_decref(a);
    free(out.p);
    out = run_batch(p, 4, big, l->max_line_bytes + 1, 4096); /* and without a line end */
    a = answers(&out);
    CHECK_INT(json_array_size(a), 1);
    json_decref(a);
    free(out.p);
    in.n = 0;
    for (uint32_t i = 0; i < l->max_lines + 5; i++) add(&in, "{\"id\":\"n\",\"op\":\"delete\"}\n");
    out = run_batch(p, 4, in.p, in.n, 64);
    a = answers(&out);
    CHECK_INT(json_array_size(a), l->max_lines + 1);
    CHECK_STR(fx_str(json_array_get(a, l->max_lines), "code"), "too_many_lines");
    json_decref(a);
    free(out.p);
    out = run_batch(p, 4, "", 0, 1); /* nothing in, nothing out */
    CHECK_INT(out.n, 0);
    free(out.p);
    free(in.p);
    free(big);
}

static void test_backpressure(pool *p)
{
    pool_set(p, true, false);
    api_batch *b = open_default(p, 3);
    static const char line[] = "{\"id\":\"n\",\"op\":\"delete\"}\n";
    size_t taken = 0;
    for (int i = 0; i < 10; i++) taken += api_batch_feed(b, (const uint8_t *)line, sizeof line - 1) == sizeof line - 1;
    CHECK_INT(taken, 3); /* the pool stands still: three lines are in flight and no more are taken */
    uint8_t buf[16];
    CHECK_INT(api_batch_read(b, buf, sizeof buf), 0);
    unsigned seen = pool_wakes(p);
    pool_set(p, false, false);
    pool_wait(p, seen);
    pool_drain(p);
    api_batch_stats st;
    api_batch_get_stats(b, &st);
    CHECK_INT(st.lines, 3);
    api_batch_close(b);
}

/* Closed with lines queued, running and committing: what was taken is written, nothing is called back. */
static void test_close(pool *p)
{
    char *b64 = fx_photo64(3);
    text in = {NULL, 0};
    for (int i = 0; i < 12; i++) add(&in, "{\"id\":\"z%d\",\"images\":[{\"data\":\"%s\"}]}\n", i, b64);
    for (int round = 0; round < 4; round++) {
        pool_set(p, round == 0, false);
        api_batch *b = open_default(p, 100);
        CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
        if (round == 2) usleep(3000);
        api_batch_close(b);
        unsigned wakes = pool_wakes(p);
        pool_set(p, false, false);
        pool_drain(p);
        CHECK_INT(pool_wakes(p), wakes);
        CHECK_INT(fx_put(ITEMS "/after", 4), round == 0 ? 201 : 200); /* behind them in the writer: they are done */
        for (int i = 0; i < 12; i++) {
            char path[64];
            snprintf(path, sizeof path, ITEMS "/z%d", i);
            CHECK_INT(fx_status(API_DELETE, path, NULL, NULL, 0), 204);
        }
    }
    /* Cancelled: each line still has its answer. */
    pool_set(p, true, true);
    api_batch *b = open_default(p, 100);
    CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
    api_batch_end(b);
    pool_set(p, false, true);
    pool_drain(p);
    text out = {NULL, 0};
    int64_t last;
    read_more(b, &out, &last);
    CHECK_INT(last, -1);
    json_t *a = answers(&out);
    CHECK_INT(json_array_size(a), 12);
    for (size_t i = 0; i < json_array_size(a); i++) CHECK_STR(fx_str(json_array_get(a, i), "code"), "shutting_down");
    json_decref(a);
    free(out.p);
    api_batch_close(b);
    /* Closed and cancelled. */
    pool_set(p, true, true);
    b = open_default(p, 100);
    CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
    api_batch_close(b);
    pool_set(p, false, true);
    pool_drain(p);
    pool_set(p, false, false);
    api_batch_close(NULL);
    free(in.p);
    free(b64);
}

/* ---- the pool as one hand: tasks run when, and in which order, the test says -------------------------- */

typedef struct {
    api_task *task[1024];
    size_t n;
    unsigned wakes;
} hand;

static void hand_submit(void *ctx, api_task *t)
{
    hand *h = ctx;
    REQUIRE(h->n < sizeof h->task / sizeof *h->task);
    h->task[h->n++] = t;
}

static void hand_wake(void *ctx) { __atomic_fetch_add(&((hand *)ctx)->wakes, 1, __ATOMIC_RELAXED); }

static api_batch *open_hand(hand *h, uint32_t inflight, const char *path)
{
    api_reply rp = {0};
    api_request rq = {.method = API_POST, .raw_path = path, .content_type = "application/jsonl", .request_id = "b"};
    api_batch_io io = {hand_submit, hand_wake, h, inflight};
    *h = (hand){.n = 0};
    api_batch *b = api_batch_open(fx.cx, &rq, &io, &rp);
    REQUIRE(b != NULL);
    return b;
}

static void hand_run(hand *h, size_t i, api_worker *w)
{
    api_task *t = h->task[i];
    h->task[i] = h->task[--h->n];
    t->run(t, w);
}

/* What is still to come, waiting for the writer; ends the batch. */
static json_t *read_all(api_batch *b)
{
    text out = {NULL, 0};
    int64_t last;
    api_batch_end(b);
    for (int i = 0; i < 10000; i++) {
        read_more(b, &out, &last);
        if (last < 0) break;
        usleep(1000);
    }
    CHECK_INT(last, -1);
    api_batch_close(b);
    json_t *a = answers(&out);
    free(out.p);
    return a;
}

/* The pool finishes lines in any order, some of them cancelled: answers and writes keep the order of the lines. */
static void test_any_order(void)
{
    enum { LINES = 60 };
    static hand h;
    uint64_t seed = 9;
    char *b64 = fx_photo64(6);
    CHECK_INT(fx_put(ITEMS "/any", 6), 201);
    for (int round = 0; round < 6; round++) {
        api_batch *b = open_hand(&h, 1000, BATCH);
        text in = {NULL, 0};
        bool cancelled[LINES] = {false};
        for (int i = 0; i < LINES; i++) {
            if (i % 7 == 3)
                add(&in, "{\"id\":\"any\",\"images\":[{\"data\":\"%s\"}],\"attributes\":{\"n\":%d}}\n", b64, i);
            else
                add(&in, "{\"id\":\"any\",\"op\":\"patch\",\"attributes\":{\"n\":%d}}\n", i);
        }
        CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
        CHECK_INT(h.n, LINES);
        api_task *tasks[LINES];
        memcpy(tasks, h.task, sizeof tasks);
        uint8_t byte;
        bool first = false;
        int last = 0;
        while (h.n > 0) {
            size_t i = round == 0 ? h.n - 1 : test_rand(&seed) % h.n; /* backwards, then at random */
            bool cancel = round > 2 && test_rand(&seed) % 4 == 0;
            for (int k = 0; k < LINES; k++)
                if (tasks[k] == h.task[i]) {
                    cancelled[k] = cancel;
                    first |= k == 0;
                }
            if (!first) CHECK_INT(api_batch_read(b, &byte, 1), 0); /* nothing overtakes the first line */
            hand_run(&h, i, cancel ? NULL : fx.w);
        }
        json_t *a = read_all(b);
        CHECK_INT(json_array_size(a), LINES);
        for (int i = 0; i < LINES; i++) {
            CHECK_INT(num(a, (size_t)i, "line"), i + 1);
            CHECK_INT(num(a, (size_t)i, "status"), cancelled[i] ? 503 : 200);
            if (!cancelled[i]) last = i;
        }
        json_decref(a);
        a = fx_json(API_GET, ITEMS "/any", NULL, NULL, 0, NULL);
        CHECK_INT(json_integer_value(json_object_get(json_object_get(a, "attributes"), "n")), last);
        json_decref(a);
        free(in.p);
    }
    CHECK_INT(fx_status(API_DELETE, ITEMS "/any", NULL, NULL, 0), 204);
    free(b64);
}

/* feed() stops at twice max_line_bytes of text that no task has taken yet, and room is announced. */
static void test_bytes_in_flight(void)
{
    static hand h;
    static const char object[] = "{\"op\":\"x\",\"id\":\"wide\"}";
    size_t n = 15000, at = 0, lines = 0;
    char *line = malloc(n);
    REQUIRE(line != NULL);
    memset(line, ' ', n);
    memcpy(line, object, sizeof object - 1);
    line[n - 1] = '\n';
    api_batch *b = open_hand(&h, 100, BATCH);
    for (; at == 0 && lines < 10; lines += at == 0) {
        at = n - api_batch_feed(b, (const uint8_t *)line, n);
    }
    CHECK_INT(lines, 2); /* 2 x 15,000 of 40,000 bytes: a third does not fit */
    CHECK_INT(at, 1);    /* only its end was refused */
    uint8_t buf[64];
    CHECK_INT(api_batch_read(b, buf, 0), 0);
    hand_run(&h, 1, fx.w); /* the second: its answer waits for the first, its bytes do not */
    CHECK_INT(h.wakes, 1);
    CHECK_INT(api_batch_feed(b, (const uint8_t *)"\n", 1), 1);
    while (h.n > 0) hand_run(&h, 0, fx.w);
    CHECK_INT(api_batch_read(b, buf, 0), 0); /* no room is not the end */
    json_t *a = read_all(b);
    CHECK_INT(json_array_size(a), 3);
    json_decref(a);
    free(line);
}

/* The catalogue goes while the stream runs. */
static void test_catalogue_gone(void)
{
    static hand h;
    char *b64 = fx_photo64(8);
    text in = {NULL, 0};
    CHECK_INT(fx_status(API_PUT, "/v1/catalogues/short", NULL, NULL, 0), 201);
    api_batch *b = open_hand(&h, 100, "/v1/catalogues/short/items:batch");
    CHECK_INT(fx_status(API_DELETE, "/v1/catalogues/short", NULL, NULL, 0), 204);
    add(&in, "{\"id\":\"a\",\"images\":[{\"data\":\"%s\"}]}\n{\"id\":\"a\",\"attributes\":{}}\n", b64);
    add(&in, "{\"id\":\"a\",\"op\":\"patch\",\"attributes\":{}}\n{\"id\":\"a\",\"op\":\"delete\"}\n");
    CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
    while (h.n > 0) hand_run(&h, 0, fx.w);
    json_t *a = read_all(b);
    CHECK_INT(json_array_size(a), 4);
    for (size_t i = 0; i < json_array_size(a); i++) CHECK_STR(fx_str(json_array_get(a, i), "code"), "catalogue_not_found");
    json_decref(a);
    free(in.p);
    free(b64);
}

/* More than the index's queue holds: refused lines say so, the others are written. */
static void test_index_busy(void)
{
    enum { LINES = 1000 };
    static hand h;
    fx_stop();
    idx_opts opts = {.no_background = true, .max_queue = 1};
    fx_start(&opts, NULL);
    api_batch *b = open_hand(&h, LINES, BATCH);
    for (int i = 0; i < LINES; i++) {
        static const char line[] = "{\"id\":\"busy\",\"op\":\"delete\"}\n";
        CHECK_INT(api_batch_feed(b, (const uint8_t *)line, sizeof line - 1), sizeof line - 1);
    }
    while (h.n > 0) hand_run(&h, h.n - 1, fx.w); /* the first comes last: then all are handed over at once */
    json_t *a = read_all(b);
    size_t written = 0, busy = 0;
    CHECK_INT(json_array_size(a), LINES);
    for (size_t i = 0; i < json_array_size(a); i++) {
        written += num(a, i, "status") == 404;
        busy += num(a, i, "status") == 503;
        CHECK_STR(fx_str(json_array_get(a, i), "code"), num(a, i, "status") == 404 ? "item_not_found" : "index_busy");
        CHECK_STR(fx_str(json_array_get(a, i), "id"), "busy");
    }
    CHECK(written > 0 && busy > 0);
    CHECK_INT(written + busy, LINES);
    json_decref(a);
}

/* After 32 MiB of answers that nobody fetched, further ones are brief. */
static void test_brief_answers(void)
{
    enum { LINES = 60000, ID = 250 };
    static hand h;
    char line[600], *p = line;
    p += sprintf(p, "{\"op\":\"x\",\"id\":\"");
    for (int i = 0; i < ID; i++) p += sprintf(p, "\\\"");
    p += sprintf(p, "\"}\n");
    api_batch *b = open_hand(&h, LINES, BATCH);
    for (int i = 0; i < LINES; i++) {
        REQUIRE(api_batch_feed(b, (const uint8_t *)line, (size_t)(p - line)) == (size_t)(p - line));
        hand_run(&h, 0, fx.w);
    }
    api_batch_end(b);
    size_t cap = 48u << 20, n = 0, lines = 0, brief = 0;
    char *out = malloc(cap);
    REQUIRE(out != NULL);
    int64_t got;
    while ((got = api_batch_read(b, (uint8_t *)out + n, cap - n < 100000 ? cap - n : 100000)) > 0) n += (size_t)got;
    CHECK_INT(got, -1);
    CHECK(n > 32u << 20 && n < 40u << 20);
    for (char *s = out, *e; s < out + n && (e = memchr(s, '\n', n - (size_t)(s - out))) != NULL; s = e + 1, lines++) {
        *e = '\0';
        bool is_brief = strstr(s, "\"detail\"") == NULL;
        if (brief > 0 && !is_brief) TEST_FAIL("line %zu is long behind brief ones", lines + 1);
        if (is_brief && brief++ == 0) {
            char want[80];
            snprintf(want, sizeof want, "{\"line\":%zu,\"status\":400,\"code\":\"field_invalid\"}", lines + 1);
            CHECK_STR(s, want);
        }
    }
    CHECK_INT(lines, LINES);
    CHECK(brief > 0);
    api_batch_stats st;
    api_batch_get_stats(b, &st);
    CHECK_INT(st.failed, LINES);
    api_batch_close(b);
    free(out);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SHADOW_MEMORY /* leaves nothing of an address limit */
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SHADOW_MEMORY
#endif
#ifndef SHADOW_MEMORY
/* A line for which there is no memory is said to be that, and the next one goes on. */
static void test_no_memory(void)
{
    static hand h;
    struct rlimit old, low;
    size_t n = 64u << 20;
    api_limits limits = {.max_line_bytes = 1u << 30};
    fx_stop();
    fx_start(NULL, &limits);
    char *line = malloc(n);
    REQUIRE(line != NULL && getrlimit(RLIMIT_AS, &old) == 0);
    memset(line, 'x', n);
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    REQUIRE(f != NULL && fscanf(f, "%lu", &pages) == 1);
    fclose(f);
    low = (struct rlimit){pages * (rlim_t)sysconf(_SC_PAGESIZE) + (16u << 20), old.rlim_max};
    api_batch *b = open_hand(&h, 4, BATCH);
    REQUIRE(setrlimit(RLIMIT_AS, &low) == 0);
    CHECK_INT(api_batch_feed(b, (const uint8_t *)line, n), n);
    REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    static const char rest[] = "xx\n{\"id\":\"n\",\"op\":\"delete\"}\n";
    CHECK_INT(api_batch_feed(b, (const uint8_t *)rest, sizeof rest - 1), sizeof rest - 1);
    while (h.n > 0) hand_run(&h, 0, fx.w);
    json_t *a = read_all(b);
    CHECK_INT(json_array_size(a), 2);
    CHECK_STR(fx_str(json_array_get(a, 0), "code"), "out_of_memory");
    CHECK_STR(fx_str(json_array_get(a, 1), "code"), "item_not_found");
    json_decref(a);
    free(line);
}
#else
static void test_no_memory(void) {}
#endif

/* The codes that only a stream can answer; api_handle_test counts on them. */
static void test_codes(void)
{
    static const char *const codes[] = {"line_too_long", "too_many_lines", "shutting_down", "index_busy"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        test_checks++;
        if (!fx.seen[api_problem_find(codes[i]) - api_problem_table]) TEST_FAIL("no line was answered %s", codes[i]);
    }
}

static void test_open(pool *p)
{
    bool created;
    REQUIRE(idx_catalogue_put(fx.ix, "alien", "other", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", 8,
                              &created, NULL) == IDX_OK);
    static const struct {
        const char *path, *type, *code;
    } cases[] = {
        {BATCH, "application/json", "content_type_unsupported"},
        {BATCH, NULL, "content_type_unsupported"},
        {"/v1/catalogues/none/items:batch", "application/x-ndjson", "catalogue_not_found"},
        {"/v1/catalogues/NONE/items:batch", "application/x-ndjson", "catalogue_name_invalid"},
        {"/v1/catalogues/alien/items:batch", "application/x-ndjson", "model_mismatch"},
        {"/v1/catalogues/default/search", "application/x-ndjson", "not_found"},
        {"/nothing", "application/x-ndjson", "not_found"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_reply rp;
        CHECK(open_batch(p, 4, cases[i].path, cases[i].type, &rp) == NULL);
        CHECK_STR(rp.problem_code, cases[i].code);
        api_reply_fini(&rp);
    }
}

int main(void)
{
    static pool p;
    idx_opts opts = {.no_background = true};
    api_limits limits = {.max_line_bytes = 20000, .max_lines = 400};
    fx_start(&opts, &limits);
    pool_start(&p);
    test_open(&p);
    test_mixed(&p);
    test_order(&p);
    test_bounds(&p);
    test_backpressure(&p);
    test_close(&p);
    pool_stop(&p);
    test_any_order();
    test_bytes_in_flight();
    test_catalogue_gone();
    test_index_busy();
    test_brief_answers();
    test_no_memory();
    test_codes();
    fx_stop();
    fx_end();
    return test_end();
}
