/* items:batch on a pool of threads: every line has its answer, in order; writes land in line order; bad lines stop
 * nothing; closing in the middle loses no accepted line and no memory. */
#include "api_batch.h"

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

/* The codes that only a stream can answer; api_handle_test counts on them. */
static void test_codes(void)
{
    static const char *const codes[] = {"line_too_long", "too_many_lines", "shutting_down"};
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
    test_codes();
    fx_stop();
    fx_end();
    return test_end();
}
