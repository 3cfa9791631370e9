/* The budget of bodies and batches: what does not fit waits where something will give room, and is refused where nothing
 * will; afterwards nothing is taken. */
#include "api_batch.h"

enum { MIB = 1 << 20 };

static void run_all(hand *h)
{
    while (h->n > 0) {
        api_task *t = h->task[--h->n];
        t->run(t, fx.w);
    }
}

static size_t feed_text(api_batch *b, const char *s) { return api_batch_feed(b, (const uint8_t *)s, strlen(s)); }

static size_t feed_blanks(api_batch *b, size_t n)
{
    uint8_t *s = malloc(n);
    REQUIRE(s != NULL);
    memset(s, ' ', n);
    size_t took = api_batch_feed(b, s, n);
    free(s);
    return took;
}

static json_t *end(api_batch *b)
{
    text out = {NULL, 0};
    int64_t last;
    api_batch_end(b);
    read_more(b, &out, &last);
    CHECK_INT(last, -1);
    api_batch_close(b);
    json_t *a = answers(&out);
    free(out.p);
    return a;
}

static const char bad_line[] = "{\"op\":\"x\",\"id\":\"i\"}\n";

static void test_bodies(void)
{
    CHECK(api_memory_take(fx.cx, 4 * MIB));
    CHECK(!api_memory_take(fx.cx, 1));
    CHECK_INT(api_memory_used(fx.cx), 4 * MIB);
    api_memory_give(fx.cx, MIB);
    CHECK(api_memory_take(fx.cx, MIB));
    api_memory_give(fx.cx, 4 * MIB);
    CHECK_INT(api_memory_used(fx.cx), 0);
}

/* One batch holds nearly all that batches may have: another one's small lines flow, its large ones are refused, at once or when
 * its own are done; bodies still find room. */
static void test_two_batches(void)
{
    static hand ha, hb;
    api_batch *a = open_hand(&ha, 64, BATCH), *b = open_hand(&hb, 64, BATCH);
    CHECK_INT(feed_blanks(a, 3 * MIB / 2), 3 * MIB / 2);
    uint64_t used = api_memory_used(fx.cx);
    CHECK(used > MIB && used <= 2 * MIB);
    CHECK_INT(feed_blanks(b, MIB), MIB); /* nothing to wait for: dropped */
    CHECK_INT(api_memory_used(fx.cx), used);
    CHECK_INT(feed_text(b, "\n"), 1);
    CHECK_INT(feed_text(b, bad_line), sizeof bad_line - 1); /* it takes little */
    CHECK_INT(hb.n, 1);
    CHECK_INT(feed_blanks(b, MIB), 0); /* waits for that line */
    CHECK_INT(hb.wakes, 0);
    run_all(&hb);
    CHECK(hb.wakes > 0);
    CHECK_INT(feed_blanks(b, MIB), MIB);
    CHECK_INT(feed_text(b, "\n"), 1);
    CHECK(api_memory_take(fx.cx, 2 * MIB));
    api_memory_give(fx.cx, 2 * MIB);
    CHECK_INT(feed_text(a, bad_line), sizeof bad_line - 1);
    run_all(&ha);
    CHECK_INT(api_memory_used(fx.cx), 0); /* the line that was worked on is gone */
    CHECK_INT(feed_blanks(b, MIB), MIB);
    CHECK_INT(feed_text(b, bad_line), sizeof bad_line - 1);
    run_all(&hb);
    json_t *j = end(b);
    static const char *const want[] = {"overloaded", "field_invalid", "overloaded", "json_too_large"};
    CHECK_INT(json_array_size(j), 4);
    for (size_t i = 0; i < 4; i++) CHECK_STR(fx_str(json_array_get(j, i), "code"), want[i]);
    json_decref(j);
    j = end(a);
    CHECK_INT(json_array_size(j), 1);
    CHECK_STR(fx_str(json_array_get(j, 0), "code"), "json_too_large"); /* and no photo in it */
    json_decref(j);
    CHECK_INT(api_memory_used(fx.cx), 0);
}

/* Bodies have taken everything: batches wait or say so, too. */
static void test_no_room_at_all(void)
{
    static hand h;
    CHECK(api_memory_take(fx.cx, 4 * MIB));
    api_batch *b = open_hand(&h, 64, BATCH);
    CHECK_INT(feed_blanks(b, MIB), MIB);
    CHECK_INT(feed_text(b, "\n"), 1);
    json_t *j = end(b);
    CHECK_STR(fx_str(json_array_get(j, 0), "code"), "overloaded");
    json_decref(j);
    api_memory_give(fx.cx, 4 * MIB);
    CHECK_INT(api_memory_used(fx.cx), 0);
}

/* A line of the largest size fits when nothing else is there. */
static void test_longest_line(void)
{
    static hand h;
    api_batch *b = open_hand(&h, 64, BATCH);
    CHECK_INT(feed_blanks(b, 2 * MIB - sizeof bad_line + 2), 2 * MIB - sizeof bad_line + 2);
    CHECK_INT(feed_text(b, bad_line), sizeof bad_line - 1);
    CHECK_INT(h.n, 1);
    CHECK_INT(feed_blanks(b, 2 * MIB), 0);
    api_batch_close(b); /* the client has gone; the line is still there */
    CHECK(api_memory_used(fx.cx) > MIB);
    run_all(&h);
    CHECK_INT(api_memory_used(fx.cx), 0);
}

/* Answers that nobody has fetched yet are part of it. */
static void test_answers(void)
{
    static hand h;
    api_batch *b = open_hand(&h, 64, BATCH);
    size_t lines = 0;
    for (; lines < 100000 && feed_text(b, bad_line) == sizeof bad_line - 1 && h.n > 0; lines++) run_all(&h);
    CHECK(lines > 10000 && lines < 100000);
    CHECK(api_memory_used(fx.cx) > MIB && api_memory_used(fx.cx) <= 2 * MIB);
    CHECK_INT(feed_text(b, bad_line), sizeof bad_line - 1); /* not read any more */
    CHECK_INT(h.n, 0);
    json_t *j = end(b);
    CHECK_INT(json_array_size(j), lines + 1);
    CHECK_STR(fx_str(json_array_get(j, lines), "code"), "overloaded");
    CHECK_STR(fx_str(json_array_get(j, lines - 1), "code"), "field_invalid");
    json_decref(j);
    CHECK_INT(api_memory_used(fx.cx), 0);
}

int main(void)
{
    idx_opts opts = {.no_background = true};
    api_limits limits = {.max_line_bytes = 2 * MIB, .max_memory_bytes = 4 * MIB};
    fx_start(&opts, &limits);
    test_bodies();
    test_two_batches();
    test_no_room_at_all();
    test_longest_line();
    test_answers();
    fx_stop();
    fx_end();
    return test_end();
}
