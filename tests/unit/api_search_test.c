/* Search and embed as their users see them: every kind of query finds the same, options do what they say, a put, a patch
 * and a delete are seen at once, and pages stay stable while items are added. */
#include "api_fixture.h"

#define ITEMS "/v1/catalogues/default/items"
#define SEARCH "/v1/catalogues/default/search"

enum { N = 24 };

static const json_t *hit(const json_t *reply, size_t i) { return json_array_get(json_object_get(reply, "results"), i); }
static size_t hits(const json_t *reply) { return json_array_size(json_object_get(reply, "results")); }
static double score(const json_t *h) { return json_number_value(json_object_get(h, "score")); }

static json_t *search_photo(unsigned seed, const char *query)
{
    char path[4096];
    int st;
    snprintf(path, sizeof path, SEARCH "%s%s", query[0] != '\0' ? "?" : "", query);
    fx_bytes b = fx_photo(seed, 96, 80);
    json_t *j = fx_json(API_POST, path, "image/jpeg", b.p, b.n, &st);
    free(b.p);
    CHECK_INT(st, 200);
    if (st != 200) fprintf(stderr, "%s: %s\n", path, fx_str(j, "detail"));
    return j;
}

static void fill(void)
{
    for (unsigned i = 0; i < N; i++) {
        char path[64], body[256];
        snprintf(path, sizeof path, ITEMS "/sku-%02u", i);
        CHECK_INT(fx_put(path, i), 201);
        snprintf(body, sizeof body, "{\"attributes\":{\"price\":%u.5,\"kind\":\"%s\",\"tags\":[\"t%u\",\"all\"]}}", i,
                 i % 2 ? "odd" : "even", i);
        CHECK_INT(fx_status(API_PATCH, path, "application/merge-patch+json", body, strlen(body)), 200);
    }
}

static void test_kinds(void)
{
    char *b64 = fx_photo64(7), *body = malloc(strlen(b64) + 4096);
    int st;
    REQUIRE(body != NULL);
    json_t *raw = search_photo(7, "limit=3");
    CHECK_INT(hits(raw), 3);
    CHECK_STR(fx_str(hit(raw, 0), "id"), "sku-07");
    CHECK_NEAR(score(hit(raw, 0)), 1.0, 2e-6); /* one path for index and query */
    CHECK(score(hit(raw, 1)) <= score(hit(raw, 0)) && score(hit(raw, 2)) <= score(hit(raw, 1)));
    CHECK(json_is_number(json_object_get(raw, "took_ms")) && fx_str(raw, "model") != NULL);
    CHECK(fx_str(raw, "next_page_token") != NULL);
    const json_t *im = json_object_get(hit(raw, 0), "image");
    CHECK_INT(json_integer_value(json_object_get(im, "width")), 96);
    CHECK_INT(json_integer_value(json_object_get(im, "height")), 80);
    CHECK_INT(json_integer_value(json_object_get(im, "n")), 0);
    CHECK_CONTAINS(fx_str(im, "url"), ITEMS "/sku-07/images/0?v=");

    sprintf(body, "{\"limit\":3,\"image\":\"%s\"}", b64);
    json_t *j = fx_json(API_POST, SEARCH, "application/json; charset=utf-8", body, strlen(body), &st);
    CHECK_INT(st, 200);
    CHECK(json_equal(json_object_get(raw, "results"), json_object_get(j, "results")));
    json_decref(j);

    fx_bytes p = fx_photo(7, 96, 80);
    size_t n = (size_t)sprintf(body, "--b\r\nContent-Disposition: form-data; name=\"options\"\r\n\r\n{\"limit\":3}\r\n--b\r\n"
                                     "Content-Disposition: form-data; name=\"image\"; filename=\"x.png\"\r\n\r\n");
    memcpy(body + n, p.p, p.n);
    n += p.n;
    n += (size_t)sprintf(body + n, "\r\n--b--\r\n");
    j = fx_json(API_POST, SEARCH, "multipart/form-data; boundary=b", body, n, &st);
    CHECK_INT(st, 200);
    CHECK(json_equal(json_object_get(raw, "results"), json_object_get(j, "results")));
    json_decref(j);
    free(p.p);

    j = fx_json(API_POST, SEARCH, "application/json", "{\"item\":\"sku-07\",\"limit\":2}", 27, &st);
    CHECK_INT(st, 200);
    CHECK_STR(fx_str(hit(j, 0), "id"), fx_str(hit(raw, 1), "id")); /* the same, without the item itself */
    CHECK_STR(fx_str(hit(j, 1), "id"), fx_str(hit(raw, 2), "id"));
    json_decref(j);
    json_decref(raw);
    free(b64);
    free(body);
}

static void test_options(void)
{
    json_t *all = search_photo(3, "limit=100");
    CHECK_INT(hits(all), N);
    CHECK(json_object_get(all, "next_page_token") == NULL);
    char query[128];
    double third = score(hit(all, 2));
    snprintf(query, sizeof query, "min_score=%.6f", third - 1e-6);
    json_t *j = search_photo(3, query);
    CHECK(hits(j) >= 3);
    for (size_t i = 0; i < hits(j); i++) CHECK(score(hit(j, i)) >= third - 2e-6);
    json_decref(j);
    j = search_photo(3, "filter=kind+%3D+%22odd%22+AND+price+%3C+10&limit=100&fields=price");
    CHECK_INT(hits(j), 5);
    for (size_t i = 0; i < hits(j); i++) {
        const json_t *a = json_object_get(hit(j, i), "attributes");
        CHECK_INT(json_object_size(a), 1);
        CHECK(json_number_value(json_object_get(a, "price")) < 10);
    }
    json_decref(j);
    j = search_photo(3, "fields=&limit=1");
    CHECK_INT(json_object_size(json_object_get(hit(j, 0), "attributes")), 0);
    json_decref(j);
    j = search_photo(3, "fields=*,nothing&limit=1");
    CHECK_INT(json_object_size(json_object_get(hit(j, 0), "attributes")), 3);
    json_decref(j);
    j = search_photo(3, "exact=true&limit=100");
    CHECK(json_equal(json_object_get(j, "results"), json_object_get(all, "results")));
    json_decref(j);
    j = search_photo(3, "crop=0,0,1,1&limit=1"); /* the whole picture */
    CHECK_NEAR(score(hit(j, 0)), 1.0, 1e-4);
    json_decref(j);
    j = search_photo(3, "crop=0.5,0.5,0.2,0.2&limit=1");
    CHECK(score(hit(j, 0)) < 0.9999);
    json_decref(j);
    j = search_photo(3, "crop=0.9999999,0.9999999,0.0000001,0.0000001&limit=1"); /* less than a pixel is a pixel */
    json_decref(j);
    json_decref(all);
}

static void test_embed(void)
{
    fx_bytes p = fx_photo(5, 96, 80);
    int st;
    json_t *j = fx_json(API_POST, "/v1/embed", "image/jpeg", p.p, p.n, &st);
    CHECK_INT(st, 200);
    const emb_model_info *info = emb_model_get_info(fx.model);
    CHECK_INT(json_array_size(json_object_get(j, "embedding")), info->dim);
    CHECK_STR(fx_str(j, "fingerprint"), info->fingerprint);
    json_t *k = fx_json(API_POST, "/v1/embed?encoding=base64", "image/jpeg", p.p, p.n, &st);
    CHECK_INT(st, 200);
    const char *text = fx_str(k, "embedding");
    REQUIRE(text != NULL);
    uint8_t *raw = malloc(strlen(text) + 4);
    struct base64_decode_ctx ctx;
    size_t n;
    base64_decode_init(&ctx);
    CHECK(base64_decode_update(&ctx, &n, raw, strlen(text), text) && base64_decode_final(&ctx));
    CHECK_INT(n, info->dim * 4);
    double norm = 0;
    for (uint32_t i = 0; i < info->dim && n == info->dim * 4; i++) {
        float f;
        memcpy(&f, raw + 4 * i, 4);
        CHECK((float)json_number_value(json_array_get(json_object_get(j, "embedding"), i)) == f);
        norm += (double)f * (double)f;
    }
    CHECK_NEAR(norm, 1.0, 1e-5);
    free(raw);
    free(p.p);
    json_decref(j);
    json_decref(k);
}

static void test_seen_at_once(void)
{
    json_t *j = search_photo(500, "limit=1");
    CHECK(strcmp(fx_str(hit(j, 0), "id"), "new") != 0);
    json_decref(j);
    CHECK_INT(fx_put(ITEMS "/new", 500), 201);
    j = search_photo(500, "limit=1");
    CHECK_STR(fx_str(hit(j, 0), "id"), "new");
    json_decref(j);
    CHECK_INT(fx_status(API_PATCH, ITEMS "/new", "application/json", "{\"attributes\":{\"kind\":\"special\"}}", 33), 200);
    j = search_photo(500, "limit=5&filter=kind+%3D+%22special%22");
    CHECK_INT(hits(j), 1);
    CHECK_STR(fx_str(json_object_get(hit(j, 0), "attributes"), "kind"), "special");
    json_decref(j);
    CHECK_INT(fx_put(ITEMS "/new", 501), 200); /* another photo */
    j = search_photo(500, "limit=1");
    CHECK(score(hit(j, 0)) < 0.9999);
    json_decref(j);
    j = search_photo(501, "limit=1");
    CHECK_STR(fx_str(hit(j, 0), "id"), "new");
    json_decref(j);
    CHECK_INT(fx_status(API_DELETE, ITEMS "/new", NULL, NULL, 0), 204);
    j = search_photo(501, "limit=100");
    CHECK_INT(hits(j), N);
    for (size_t i = 0; i < hits(j); i++) CHECK(strcmp(fx_str(hit(j, i), "id"), "new") != 0);
    json_decref(j);
}

/* Items that are added between pages neither repeat nor hide those that were there. */
static void test_pages(void)
{
    json_t *all = search_photo(11, "limit=100");
    size_t next = 0;
    char query[1024] = "limit=5";
    for (unsigned page = 0; page < 20 && next < N; page++) {
        json_t *j = search_photo(11, query);
        for (size_t i = 0; i < hits(j); i++) {
            const char *id = fx_str(hit(j, i), "id");
            if (strncmp(id, "sku-", 4) != 0) continue; /* added meanwhile, behind this place */
            CHECK_STR(id, fx_str(hit(all, next), "id"));
            next++;
        }
        const char *token = fx_str(j, "next_page_token");
        if (token == NULL) {
            json_decref(j);
            break;
        }
        snprintf(query, sizeof query, "limit=%u&page_token=%s", 3 + page, token);
        char path[64];
        snprintf(path, sizeof path, ITEMS "/more-%u", page);
        CHECK_INT(fx_put(path, page == 0 ? 11 : 900 + page), 201); /* one of them before everything */
        json_decref(j);
    }
    CHECK_INT(next, N);
    for (unsigned page = 0; page < 20; page++) {
        char path[64];
        snprintf(path, sizeof path, ITEMS "/more-%u", page);
        fx_status(API_DELETE, path, NULL, NULL, 0);
    }
    json_decref(all);

    /* A token of another photo, filter, crop or catalogue is refused. */
    json_t *j = search_photo(11, "limit=5");
    const char *token = fx_str(j, "next_page_token");
    static const char *const other[] = {"filter=price+%3C+5&", "crop=0,0,0.5,1&", "min_score=0.1&", "exact=true&"};
    fx_bytes p = fx_photo(11, 96, 80), q = fx_photo(12, 96, 80);
    char path[1024];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, SEARCH "?%spage_token=%s", other[i], token);
        CHECK_INT(fx_status(API_POST, path, "image/jpeg", p.p, p.n), 400);
    }
    snprintf(path, sizeof path, SEARCH "?page_token=%s", token);
    CHECK_INT(fx_status(API_POST, path, "image/jpeg", q.p, q.n), 400);
    CHECK_INT(fx_status(API_POST, path, "image/jpeg", p.p, p.n), 200);
    free(p.p);
    free(q.p);
    json_decref(j);
}

static void test_list(void)
{
    char path[1024] = ITEMS "?limit=7&fields=kind";
    size_t seen = 0;
    for (;;) {
        int st;
        json_t *j = fx_json(API_GET, path, NULL, NULL, 0, &st);
        CHECK_INT(st, 200);
        json_t *items = json_object_get(j, "items");
        for (size_t i = 0; i < json_array_size(items); i++) {
            char want[16];
            snprintf(want, sizeof want, "sku-%02zu", seen++);
            CHECK_STR(fx_str(json_array_get(items, i), "id"), want);
            CHECK_INT(json_object_size(json_object_get(json_array_get(items, i), "attributes")), 1);
        }
        const char *token = fx_str(j, "next_page_token");
        if (token != NULL) snprintf(path, sizeof path, ITEMS "?limit=7&fields=kind&page_token=%s", token);
        CHECK_INT(fx_put(ITEMS "/aaa", 1), seen == 7 ? 201 : 200); /* before the place of every page */
        bool more = token != NULL;
        json_decref(j);
        if (!more) break;
    }
    CHECK_INT(seen, N);
    int st;
    json_t *j = fx_json(API_GET, ITEMS "?filter=kind+%3D+%22odd%22&limit=100", NULL, NULL, 0, &st);
    CHECK_INT(json_array_size(json_object_get(j, "items")), N / 2);
    json_decref(j);
    fx_status(API_DELETE, ITEMS "/aaa", NULL, NULL, 0);
}

/* An item with two photos is found by each, says which, and "more like this" takes both into account. */
static void test_several_images(void)
{
    char *a = fx_photo64(700), *b = fx_photo64(701), *body = malloc(strlen(a) + strlen(b) + 256);
    REQUIRE(body != NULL);
    sprintf(body, "{\"images\":[{\"data\":\"%s\"},{\"data\":\"%s\"}],\"attributes\":{\"kind\":\"pair\"}}", a, b);
    CHECK_INT(fx_status(API_PUT, ITEMS "/pair", "application/json", body, strlen(body)), 201);
    for (unsigned i = 0; i < 2; i++) {
        json_t *j = search_photo(700 + i, "limit=30");
        CHECK_STR(fx_str(hit(j, 0), "id"), "pair");
        CHECK_INT(json_integer_value(json_object_get(json_object_get(hit(j, 0), "image"), "n")), i);
        CHECK_INT(hits(j), N + 1); /* one result per item */
        json_decref(j);
    }
    int st;
    json_t *j = fx_json(API_POST, SEARCH, "application/json", "{\"item\":\"pair\"}", 15, &st);
    CHECK_INT(st, 200);
    CHECK_INT(hits(j), 10);
    json_decref(j);
    CHECK_INT(fx_status(API_DELETE, ITEMS "/pair", NULL, NULL, 0), 204);
    free(a);
    free(b);
    free(body);
}

/* ---- while others write --------------------------------------------------------------------------- */

static bool stop_writing;

typedef struct {
    pthread_t th;
    unsigned number, wrong;
    api_worker *w;
    fx_bytes photo;
} writer;

/* Puts and deletes items of its own, in a stream that never rests. */
static void *write_items(void *arg)
{
    writer *me = arg;
    char path[64];
    for (unsigned i = 0; !__atomic_load_n(&stop_writing, __ATOMIC_RELAXED); i++) {
        snprintf(path, sizeof path, ITEMS "/w%u-%u", me->number, i % 10);
        bool put = i / 10 % 2 == 0;
        fx_wait wait = {.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER};
        api_request rq = {.method = put ? API_PUT : API_DELETE, .raw_path = path, .done = fx_done, .ctx = &wait};
        if (put) rq.content_type = "image/jpeg", rq.body = me->photo.p, rq.body_bytes = me->photo.n;
        api_reply rp = {0};
        fx_finish(&wait, api_handle(fx.cx, me->w, &rq, &rp));
        me->wrong += rp.status != (put ? 201 : 204);
        api_reply_fini(&rp);
    }
    return NULL;
}

/* Pages hold every item that was there all the time, once and in order, whatever is written meanwhile. */
static void test_pages_while_writing(void)
{
    enum { WRITERS = 2, ROUNDS = 3 };
    writer ws[WRITERS] = {{.number = 0}};
    char err[320];
    json_t *all = search_photo(21, "limit=100");
    CHECK_INT(hits(all), N);
    for (unsigned i = 0; i < WRITERS; i++) {
        ws[i] = (writer){.number = i, .photo = fx_photo(300 + i, 96, 80)};
        REQUIRE(api_worker_new(fx.cx, &ws[i].w, err) == 0);
        REQUIRE(pthread_create(&ws[i].th, NULL, write_items, &ws[i]) == 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        size_t next = 0, listed = 0;
        char query[1024] = "limit=4", path[1024] = ITEMS "?limit=4", last[64] = "";
        for (bool more = true; more;) {
            json_t *j = search_photo(21, query);
            for (size_t i = 0; i < hits(j); i++) {
                const char *id = fx_str(hit(j, i), "id");
                if (strncmp(id, "sku-", 4) != 0) continue;
                CHECK_STR(id, fx_str(hit(all, next), "id"));
                next++;
            }
            const char *token = fx_str(j, "next_page_token");
            if ((more = token != NULL)) snprintf(query, sizeof query, "limit=4&page_token=%s", token);
            json_decref(j);
        }
        CHECK_INT(next, N);
        for (bool more = true; more;) {
            json_t *j = fx_json(API_GET, path, NULL, NULL, 0, NULL), *items = json_object_get(j, "items");
            for (size_t i = 0; i < json_array_size(items); i++) {
                const char *id = fx_str(json_array_get(items, i), "id");
                CHECK(strcmp(id, last) > 0);
                snprintf(last, sizeof last, "%s", id);
                listed += strncmp(id, "sku-", 4) == 0;
            }
            const char *token = fx_str(j, "next_page_token");
            if ((more = token != NULL)) snprintf(path, sizeof path, ITEMS "?limit=4&page_token=%s", token);
            json_decref(j);
        }
        CHECK_INT(listed, N);
    }
    __atomic_store_n(&stop_writing, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < WRITERS; i++) {
        pthread_join(ws[i].th, NULL);
        CHECK_INT(ws[i].wrong, 0);
        api_worker_free(ws[i].w);
        free(ws[i].photo.p);
    }
    json_decref(all);
}

int main(void)
{
    idx_opts opts = {.no_background = true};
    fx_start(&opts, NULL);
    fill();
    test_kinds();
    test_options();
    test_embed();
    test_seen_at_once();
    test_pages();
    test_list();
    test_several_images();
    test_pages_while_writing();
    fx_stop();
    fx_end();
    return test_end();
}
