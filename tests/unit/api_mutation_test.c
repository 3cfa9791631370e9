/* Requests that were good once, with bytes changed, cut, doubled and swapped: no crash, and every reply is one that the
 * contract lists. The seed is printed; another one may be given as the argument. */
#include "api_fixture.h"

#define CAT "/v1/catalogues/default"

typedef struct {
    api_method m;
    const char *path, *type, *body; /* $P photo, $B its base64 */
} sample;

static const sample samples[] = {
    {API_PUT, CAT "/items/a", "image/jpeg", "$P"},
    {API_PUT, CAT "/items/b%2Fc?create_only=true", "application/json",
     "{\"images\":[{\"data\":\"$B\"}],\"attributes\":{\"price\":1.5,\"tags\":[\"x\",\"y\"],\"on\":true}}"},
    {API_PUT, CAT "/items/a", "multipart/form-data; boundary=\"bound\"",
     "--bound\r\nContent-Disposition: form-data; name=\"attributes\"\r\n\r\n{\"a\":\"b\"}\r\n--bound\r\nContent-Disposition: "
     "form-data; name=\"image\"; filename=\"x.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n$P\r\n--bound--\r\n"},
    {API_PATCH, CAT "/items/a", "application/merge-patch+json", "{\"attributes\":{\"price\":null,\"kind\":\"\\u00e9\\\\\"}}"},
    {API_GET, CAT "/items/a?fields=price,kind", NULL, ""},
    {API_GET, CAT "/items?limit=3&filter=price+%3C+80+AND+kind+%3D+%22shoes%22&fields=*", NULL, ""},
    {API_GET, CAT "/items/a/images/0?v=0123456789abcdef", NULL, ""},
    {API_DELETE, CAT "/items/a", NULL, ""},
    {API_PUT, "/v1/catalogues/other", "application/json", "{}"},
    {API_POST, CAT "/search?limit=5&min_score=0.25&crop=0.1,0.1,0.5,0.5&exact=true", "image/jpeg", "$P"},
    {API_POST, CAT "/search", "application/json",
     "{\"image\":\"$B\",\"limit\":3,\"crop\":{\"x\":0,\"y\":0.5,\"w\":0.5,\"h\":0.5},\"filter\":\"price < 2\",\"fields\":[\"a\"]}"},
    {API_POST, CAT "/search", "application/json; charset=utf-8", "{\"item\":\"seed\",\"min_score\":-0.5,\"page_token\":\"AQ\"}"},
    {API_POST, CAT "/search", "multipart/form-data; boundary=b",
     "--b\r\nContent-Disposition: form-data; name=image\r\n\r\n$P\r\n--b\r\nContent-Disposition: form-data; "
     "name=\"options\"\r\n\r\n{\"limit\":2}\r\n--b--"},
    {API_POST, "/v1/embed?encoding=base64", "image/jpeg", "$P"},
};

static fx_bytes photo;
static char *photo64;
static uint64_t seed = 1;

static size_t pick(size_t n) { return n > 0 ? (size_t)(test_rand(&seed) % n) : 0; }

static fx_bytes expand(const char *s)
{
    fx_bytes b = {malloc(2 * strlen(s) + 4 * (photo.n + strlen(photo64)) + 64), 0};
    REQUIRE(b.p != NULL);
    for (; *s != '\0'; s++) {
        if (s[0] == '$' && (s[1] == 'P' || s[1] == 'B')) {
            size_t n = s[1] == 'P' ? photo.n : strlen(photo64);
            memcpy(b.p + b.n, s[1] == 'P' ? (const char *)photo.p : photo64, n);
            b.n += n;
            s++;
        } else {
            b.p[b.n++] = (uint8_t)*s;
        }
    }
    return b;
}

/* One change inside n bytes with room for twice as many. text: no NUL comes in. Most changes fall near the start or the
 * end, where the structure is, and not into the photo. */
static size_t mutate(uint8_t *p, size_t n, bool text)
{
    static const char bytes[] = "{}[]\",:\\/%&=+?;-\r\n 0a9\x01\x7f\xc3\xff.eE";
    if (n == 0) return 0;
    size_t at = pick(3) == 0 ? pick(n) : pick(2) ? pick(n < 200 ? n : 200) : n - 1 - pick(n < 60 ? n : 60);
    size_t len = 1 + pick(n - at < 12 ? n - at : 12);
    switch (pick(6)) {
    case 0: p[at] = (uint8_t)bytes[pick(sizeof bytes - 1)]; break;
    case 1:
        p[at] ^= (uint8_t)(1u << pick(8));
        if (text && p[at] == 0) p[at] = '0';
        break;
    case 2: return at; /* cut */
    case 3:            /* leave out */
        memmove(p + at, p + at + len, n - at - len);
        return n - len;
    case 4: /* double */
        memmove(p + at + len, p + at, n - at);
        return n + len;
    default: { /* swap with another place */
        size_t other = pick(n);
        uint8_t t = p[at];
        p[at] = p[other];
        p[other] = t;
    }
    }
    return n;
}

static void one(const sample *s)
{
    char path[1024] = "", type[256] = "";
    size_t path_n = strlen(s->path), type_n = s->type != NULL ? strlen(s->type) : 0;
    api_reply rp;
    fx_bytes b = expand(s->body);
    memcpy(path, s->path, path_n);
    if (s->type != NULL) memcpy(type, s->type, type_n);
    for (size_t k = 1 + pick(3); k > 0; k--) {
        size_t where = pick(8);
        if (where < 2) /* the start of a path only leads to 404 */
            path_n = 15 + mutate((uint8_t *)path + 15, path_n - 15, true);
        else if (where == 2)
            type_n = mutate((uint8_t *)type, type_n, true);
        else if (b.n < photo.n * 2)
            b.n = mutate(b.p, b.n, false);
        path_n = path_n < 400 ? path_n : 400;
        type_n = type_n < 120 ? type_n : 120;
        path[path_n] = type[type_n] = '\0';
    }
    unsigned before = test_failures;
    fx_request(s->m, path, s->type != NULL ? type : NULL, b.p, b.n, 0, &rp);
    CHECK(rp.status >= 200 && rp.status < 500);
    if (test_failures != before)
        fprintf(stderr, "  status %d for %s %s, %zu bytes: %.*s\n", rp.status, path, type, b.n, (int)(b.n < 300 ? b.n : 300), (char *)b.p);
    api_reply_fini(&rp);
    free(b.p);
}

int main(int argc, char **argv)
{
    enum { ROUNDS = 100 };
    idx_opts opts = {.no_background = true};
    if (argc > 1) seed = strtoull(argv[1], NULL, 10);
    printf("seed %llu\n", (unsigned long long)seed);
    fx_start(&opts, NULL);
    photo = fx_photo(1, 96, 80);
    photo64 = fx_photo64(1);
    CHECK_INT(fx_put(CAT "/items/seed", 2), 201);
    for (int r = 0; r < ROUNDS; r++)
        for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) one(&samples[i]);
    CHECK_INT(idx_check(fx.ix, NULL), IDX_OK);
    free(photo.p);
    free(photo64);
    fx_stop();
    fx_end();
    return test_end();
}
