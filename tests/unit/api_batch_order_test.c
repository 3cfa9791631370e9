/* items:batch with the pool in one hand: lines in any order, cancelled, more than there is room for. */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "api_batch.h"

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

/* The client has gone: the batch counts as in progress until its last write is there. */
static void test_in_progress(void)
{
    enum { LINES = 12 };
    static hand h;
    char *b64 = fx_photo64(3);
    text in = {NULL, 0};
    for (int i = 0; i < LINES; i++) add(&in, "{\"id\":\"left-%d\",\"images\":[{\"data\":\"%s\"}]}\n", i, b64);
    CHECK_INT(api_batches_in_progress(fx.cx), 0);
    for (int round = 0; round < 3; round++) {
        api_batch *b = open_hand(&h, LINES, BATCH);
        CHECK_INT(api_batches_in_progress(fx.cx), 1);
        CHECK_INT(api_batch_feed(b, (const uint8_t *)in.p, in.n), in.n);
        api_batch_close(b);
        while (h.n > 0) {
            CHECK_INT(api_batches_in_progress(fx.cx), 1);
            hand_run(&h, h.n - 1, fx.w);
        }
        for (int i = 0; i < 10000 && api_batches_in_progress(fx.cx) != 0; i++) usleep(1000);
        for (int i = 0; i < LINES; i++) {
            char path[64];
            snprintf(path, sizeof path, ITEMS "/left-%d", i);
            CHECK_INT(fx_status(API_DELETE, path, NULL, NULL, 0), 204);
        }
    }
    free(in.p);
    free(b64);
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
    void *probe = mmap(NULL, n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bool limited = probe == MAP_FAILED; /* QEMU's user mode says yes to a limit and sets none */
    if (!limited) munmap(probe, n);
    CHECK_INT(api_batch_feed(b, (const uint8_t *)line, n), n);
    REQUIRE(setrlimit(RLIMIT_AS, &old) == 0);
    static const char rest[] = "xx\n{\"id\":\"n\",\"op\":\"delete\"}\n";
    CHECK_INT(api_batch_feed(b, (const uint8_t *)rest, sizeof rest - 1), sizeof rest - 1);
    while (h.n > 0) hand_run(&h, 0, fx.w);
    json_t *a = read_all(b);
    CHECK_INT(json_array_size(a), 2);
    CHECK_STR(fx_str(json_array_get(a, 0), "code"), limited ? "out_of_memory" : "json_too_large");
    CHECK_STR(fx_str(json_array_get(a, 1), "code"), "item_not_found");
    json_decref(a);
    free(line);
}

static size_t count_only;
static void count_submit(void *ctx, api_task *t)
{
    (void)ctx, (void)t;
    count_only++;
}

/* Not even for a short answer: the stream ends with an error, not as if all had been answered. In a child, whose tasks never
 * run. */
static void test_no_memory_for_an_answer(void)
{
    static const char line[] = "{\"id\":\"n\",\"op\":\"delete\"}\n";
    fflush(NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        struct rlimit low;
        unsigned long pages = 0;
        api_reply rp = {0};
        api_request rq = {.method = API_POST, .raw_path = BATCH, .content_type = "application/jsonl", .request_id = "b"};
        api_batch_io io = {count_submit, hand_wake, NULL, 10000000};
        api_batch *b = api_batch_open(fx.cx, &rq, &io, &rp);
        FILE *f = fopen("/proc/self/statm", "r");
        if (b == NULL || f == NULL || fscanf(f, "%lu", &pages) != 1) _exit(2);
        low.rlim_cur = low.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + (4u << 20);
        if (setrlimit(RLIMIT_AS, &low) != 0) _exit(3);
        uint8_t byte;
        for (int i = 0; i < 1000000 && api_batch_read(b, &byte, 1) == 0; i++) (void)api_batch_feed(b, (const uint8_t *)line, sizeof line - 1);
        _exit(api_batch_read(b, &byte, 1) == -2 && count_only > 100 ? 0 : 4);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_INT(status, 0);
}
#else
static void test_no_memory(void) {}
static void test_no_memory_for_an_answer(void) {}
#endif

/* The codes that only a stream can answer; api_handle_test counts on them. */
static void test_codes(void)
{
    static const char *const codes[] = {"index_busy", "shutting_down", "catalogue_not_found"};
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        test_checks++;
        if (!fx.seen[api_problem_find(codes[i]) - api_problem_table]) TEST_FAIL("no line was answered %s", codes[i]);
    }
}

int main(void)
{
    idx_opts opts = {.no_background = true};
    api_limits limits = {.max_line_bytes = 20000};
    fx_start(&opts, &limits);
    test_any_order();
    test_bytes_in_flight();
    test_in_progress();
    test_catalogue_gone();
    test_index_busy();
    test_brief_answers();
    test_no_memory();
    test_no_memory_for_an_answer();
    test_codes();
    fx_stop();
    fx_end();
    return test_end();
}
