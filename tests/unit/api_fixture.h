/* api_fixture.h: a data folder, the built-in model, a context and one worker; requests as lines of a table; photos drawn
 * from a number, so that no file is needed. */
#ifndef LK_API_FIXTURE_H
#define LK_API_FIXTURE_H

#include <ftw.h>
#include <jansson.h>
#include <nettle/base64.h>
#include <pthread.h>
#include <unistd.h>

#include "../../api/problem.h"
#include "api_contract.h"
#include "test.h"

static struct {
    char dir[64];
    idx *ix;
    emb_model *model;
    api_ctx *cx;
    api_worker *w;
    bool seen[128]; /* problem codes, by their row of the table */
} fx;

static inline void fx_saw(const char *code)
{
    const api_problem_entry *e = code != NULL ? api_problem_find(code) : NULL;
    if (e != NULL) fx.seen[e - api_problem_table] = true;
}

static inline void fx_start(const idx_opts *opts, const api_limits *limits)
{
    char err[320] = "";
    idx_error ie = {0};
    if (fx.dir[0] == '\0') {
        strcpy(fx.dir, "/tmp/lk-api-test-XXXXXX");
        REQUIRE(mkdtemp(fx.dir) != NULL);
    }
    if (fx.model == NULL) REQUIRE(emb_model_open_builtin(&fx.model, NULL) == EMB_OK);
    if (idx_open(fx.dir, opts, &fx.ix, &ie) != IDX_OK) TEST_FAIL("idx_open: %s", ie.text);
    if (api_ctx_new(fx.model, fx.ix, limits, &fx.cx, err) != 0) TEST_FAIL("api_ctx_new: %s", err);
    REQUIRE(fx.cx != NULL);
    REQUIRE(api_worker_new(fx.cx, &fx.w, err) == 0);
}

static inline void fx_stop(void)
{
    idx_close(fx.ix);
    api_worker_free(fx.w);
    api_ctx_free(fx.cx);
    fx.ix = NULL;
    fx.w = NULL;
    fx.cx = NULL;
}

static inline int fx_remove(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

static inline void fx_end(void)
{
    emb_model_close(fx.model);
    contract_close();
    nftw(fx.dir, fx_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- photos ------------------------------------------------------------------------------------- */

typedef struct {
    uint8_t *p;
    size_t n;
} fx_bytes;

/* A JPEG of coloured shapes that depend on `seed`. */
static inline fx_bytes fx_photo(unsigned seed, uint32_t w, uint32_t h)
{
    uint64_t s = seed;
    uint8_t *px = malloc((size_t)w * h * 3), bg[3];
    REQUIRE(px != NULL);
    for (int k = 0; k < 3; k++) bg[k] = (uint8_t)test_rand(&s);
    for (size_t i = 0; i < (size_t)w * h * 3; i++) px[i] = bg[i % 3];
    for (int shape = 0; shape < 6; shape++) {
        uint32_t cx = (uint32_t)(test_rand(&s) % w), cy = (uint32_t)(test_rand(&s) % h);
        uint32_t r = (uint32_t)(test_rand(&s) % (w / 3)) + 4, col = (uint32_t)test_rand(&s);
        bool round = test_rand(&s) & 1;
        for (uint32_t y = 0; y < h; y++)
            for (uint32_t x = 0; x < w; x++) {
                int64_t dx = (int64_t)x - cx, dy = (int64_t)y - cy;
                bool in = round ? dx * dx + dy * dy < (int64_t)r * r : llabs(dx) < r && llabs(dy) < r / 2 + 1;
                for (int k = 0; k < 3 && in; k++) px[((size_t)y * w + x) * 3 + (size_t)k] = (uint8_t)(col >> (8 * k));
            }
    }
    emb_view v = {.px = px, .width = w, .height = h, .stride_bytes = (size_t)w * 3};
    fx_bytes b;
    REQUIRE(emb_image_rendition(v, w > h ? w : h, 90, &b.p, &b.n, NULL) == EMB_OK);
    free(px);
    return b;
}

/* Base64 of a photo, NUL-terminated, malloc. */
static inline char *fx_photo64(unsigned seed)
{
    fx_bytes b = fx_photo(seed, 96, 80);
    char *s = malloc(BASE64_ENCODE_RAW_LENGTH(b.n) + 1);
    REQUIRE(s != NULL);
    base64_encode_raw(s, b.n, b.p);
    s[BASE64_ENCODE_RAW_LENGTH(b.n)] = '\0';
    free(b.p);
    return s;
}

/* ---- requests ----------------------------------------------------------------------------------- */

typedef struct {
    pthread_mutex_t m;
    pthread_cond_t c;
    bool done;
} fx_wait;

static inline void fx_done(void *ctx)
{
    fx_wait *w = ctx;
    pthread_mutex_lock(&w->m);
    w->done = true;
    pthread_cond_signal(&w->c);
    pthread_mutex_unlock(&w->m);
}

static inline void fx_finish(fx_wait *w, api_state state)
{
    if (state != API_PENDING) return;
    pthread_mutex_lock(&w->m);
    while (!w->done) pthread_cond_wait(&w->c, &w->m);
    pthread_mutex_unlock(&w->m);
}

/* path may carry a query string. Caller: api_reply_fini(rp). */
static inline void fx_request(api_method m, const char *path, const char *type, const void *body, size_t n, uint64_t deadline_ns,
                       api_reply *rp)
{
    char raw[8192];
    fx_wait w = {.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER};
    REQUIRE(strlen(path) < sizeof raw);
    strcpy(raw, path);
    char *query = strchr(raw, '?');
    if (query != NULL) *query++ = '\0';
    api_request rq = {.method = m,
                      .raw_path = raw,
                      .raw_query = query,
                      .content_type = type,
                      .request_id = "test",
                      .body = body,
                      .body_bytes = n,
                      .deadline_ns = deadline_ns,
                      .done = fx_done,
                      .ctx = &w};
    *rp = (api_reply){0};
    /* Quick reads do without a worker. */
    api_worker *worker = api_route(fx.cx, m, raw).cls == API_CLASS_READ ? NULL : fx.w;
    fx_finish(&w, api_handle(fx.cx, worker, &rq, rp));
    fx_saw(rp->problem_code);
    contract_reply(fx.cx, m, raw, rp);
}

static inline int fx_status(api_method m, const char *path, const char *type, const void *body, size_t n)
{
    api_reply rp;
    fx_request(m, path, type, body, n, 0, &rp);
    api_reply_fini(&rp);
    return rp.status;
}

/* The JSON of a reply; *status may be NULL. Caller: json_decref. NULL for an empty body. */
static inline json_t *fx_json(api_method m, const char *path, const char *type, const void *body, size_t n, int *status)
{
    api_reply rp;
    json_error_t je;
    fx_request(m, path, type, body, n, 0, &rp);
    json_t *j = rp.body_bytes > 0 ? json_loadb((const char *)rp.body, rp.body_bytes, JSON_REJECT_DUPLICATES, &je) : NULL;
    if (rp.body_bytes > 0 && j == NULL) TEST_FAIL("%s: reply is not JSON: %s: %.*s", path, je.text, (int)rp.body_bytes, (char *)rp.body);
    if (status != NULL) *status = rp.status;
    api_reply_fini(&rp);
    return j;
}

static inline const char *fx_str(const json_t *o, const char *name) { return json_string_value(json_object_get(o, name)); }

/* PUT of a raw photo. */
static inline int fx_put(const char *path, unsigned seed)
{
    fx_bytes b = fx_photo(seed, 96, 80);
    int st = fx_status(API_PUT, path, "image/jpeg", b.p, b.n);
    free(b.p);
    return st;
}

#endif
