/* api_batch.h: what the tests of items:batch share: texts of lines, answers as JSON. */
#ifndef LK_API_BATCH_H
#define LK_API_BATCH_H

#include <stdarg.h>

#include "api_fixture.h"

#define BATCH "/v1/catalogues/default/items:batch"
#define ITEMS "/v1/catalogues/default/items"

typedef struct {
    char *p;
    size_t n;
} text;

static inline void read_more(api_batch *b, text *out, int64_t *last)
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

/* The answers as an array. */
static inline json_t *answers(const text *t)
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

static inline long long num(const json_t *a, size_t i, const char *name)
{
    return json_integer_value(json_object_get(json_array_get(a, i), name));
}

static inline void add(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline void add(text *t, const char *fmt, ...)
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

/* ---- the pool in one hand: tasks wait until a test runs them ------------------------------------------ */

typedef struct {
    api_task *task[1024];
    size_t n, most; /* most: what the batch may have in flight */
    unsigned wakes;
} hand;

static inline void hand_submit(void *ctx, api_task *t)
{
    hand *h = ctx;
    REQUIRE(h->n < h->most);
    h->task[h->n++] = t;
}

static inline void hand_wake(void *ctx) { __atomic_fetch_add(&((hand *)ctx)->wakes, 1, __ATOMIC_RELAXED); }

static inline api_batch *open_hand(hand *h, uint32_t inflight, const char *path)
{
    api_reply rp = {0};
    api_request rq = {.method = API_POST, .raw_path = path, .content_type = "application/jsonl", .request_id = "b"};
    api_batch_io io = {hand_submit, hand_wake, h, inflight};
    size_t room = sizeof h->task / sizeof *h->task;
    *h = (hand){.most = inflight < room ? inflight : room};
    api_batch *b = api_batch_open(fx.cx, &rq, &io, &rp);
    REQUIRE(b != NULL);
    return b;
}

#endif
