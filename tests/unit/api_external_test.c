/* Catalogues with the model "external": embeddings come as numbers or as base64, are found again with score 1, and what is wrong
 * with one is said with field, value and limit. */
#include "api_fixture.h"

#include <math.h>

#define CAT    "/v1/catalogues/mine"
#define ITEMS  CAT "/items"
#define SEARCH CAT "/search"
#define JSON   "application/json"

enum { DIM = 6, N = 20 };

static float vectors[N][DIM];

static char *as_numbers(const float *v, size_t n)
{
    char *s = malloc(n * 20 + 3), *p = s;
    REQUIRE(s != NULL);
    *p++ = '[';
    for (size_t i = 0; i < n; i++) p += sprintf(p, "%s%.9g", i > 0 ? ", " : "", (double)v[i]);
    strcpy(p, "]");
    return s;
}

static char *as_base64(const float *v, size_t n)
{
    char *s = malloc(BASE64_ENCODE_RAW_LENGTH(n * 4) + 3);
    REQUIRE(s != NULL);
    s[0] = '"';
    base64_encode_raw(s + 1, n * 4, (const uint8_t *)v); /* tests run on little-endian machines */
    strcpy(s + 1 + BASE64_ENCODE_RAW_LENGTH(n * 4), "\"");
    return s;
}

static int send_json(api_method m, const char *path, const char *body) { return fx_status(m, path, JSON, body, strlen(body)); }

static void expect(int status, const char *code, const char *field, const char *detail, api_method m, const char *path, const char *body)
{
    int st;
    json_t *j = fx_json(m, path, JSON, body, strlen(body), &st);
    CHECK_INT(st, status);
    CHECK_STR(fx_str(j, "code"), code);
    if (field != NULL) CHECK_STR(fx_str(j, "field"), field);
    if (detail != NULL) CHECK_CONTAINS(fx_str(j, "detail"), detail);
    json_decref(j);
}

static void test_catalogue(void)
{
    int st;
    json_t *j = fx_json(API_PUT, CAT, JSON, "{\"model\":\"external\",\"dim\":6}", 28, &st);
    CHECK_INT(st, 201);
    CHECK_STR(fx_str(j, "model"), "external");
    CHECK_INT(json_integer_value(json_object_get(j, "dim")), DIM);
    json_decref(j);
    CHECK_INT(send_json(API_PUT, CAT, "{\"model\":\"external\",\"dim\":6}"), 200);
    expect(409, "catalogue_exists", NULL, "dim 6", API_PUT, CAT, "{\"model\":\"external\",\"dim\":7}");
    expect(409, "catalogue_exists", NULL, NULL, API_PUT, CAT, "{}");
    expect(400, "field_invalid", "dim", "needs dim", API_PUT, CAT "2", "{\"model\":\"external\"}");
    expect(400, "field_invalid", "dim", "dim is 0", API_PUT, CAT "2", "{\"model\":\"external\",\"dim\":0}");
    expect(400, "field_invalid", "dim", "not a number", API_PUT, CAT "2", "{\"model\":\"external\",\"dim\":\"6\"}");
    expect(400, "field_invalid", "dim", "16384", API_PUT, CAT "2", "{\"model\":\"external\",\"dim\":16385}");
    expect(400, "field_invalid", "dim", "1.5", API_PUT, CAT "2", "{\"model\":\"external\",\"dim\":1.5}");
    expect(400, "field_invalid", "dim", "256", API_PUT, CAT "2", "{\"dim\":6}");
    expect(400, "field_invalid", "model", "nonsense", API_PUT, CAT "2", "{\"model\":\"nonsense\"}");
    expect(400, "field_invalid", "model", "not a string", API_PUT, CAT "2", "{\"model\":5}");
    char body[128];
    snprintf(body, sizeof body, "{\"model\":\"%s\",\"dim\":%u}", emb_model_get_info(fx.model)->name, emb_model_get_info(fx.model)->dim);
    CHECK_INT(send_json(API_PUT, CAT "2", body), 201);
}

static void test_items(void)
{
    uint64_t seed = 3;
    char path[64], *body = malloc(4096);
    REQUIRE(body != NULL);
    for (int i = 0; i < N; i++) {
        double norm = 0;
        for (int k = 0; k < DIM; k++) {
            vectors[i][k] = test_randf(&seed);
            norm += (double)vectors[i][k] * (double)vectors[i][k];
        }
        for (int k = 0; k < DIM; k++) vectors[i][k] = (float)((double)vectors[i][k] / sqrt(norm));
        char *text = i % 2 ? as_base64(vectors[i], DIM) : as_numbers(vectors[i], DIM);
        snprintf(path, sizeof path, ITEMS "/i%02d", i);
        snprintf(body, 4096, i % 3 == 0 ? "{\"images\":[{\"embedding\":%s}],\"attributes\":{\"n\":%d}}" : "{\"embedding\":%s,\"attributes\":{\"n\":%d}}", text, i);
        CHECK_INT(send_json(API_PUT, path, body), 201);
        free(text);
    }
    int st;
    json_t *j = fx_json(API_GET, ITEMS "/i03", NULL, NULL, 0, &st), *im = json_array_get(json_object_get(j, "images"), 0);
    CHECK_INT(st, 200);
    CHECK(fx_str(im, "sha256") != NULL && fx_str(im, "url") == NULL && json_object_get(im, "width") == NULL);
    json_decref(j);
    CHECK_INT(fx_status(API_GET, ITEMS "/i03/images/0", NULL, NULL, 0), 404);
    CHECK_INT(send_json(API_PUT, ITEMS "/i03", "{\"attributes\":{\"n\":3,\"kept\":true}}"), 200); /* its embedding stays */
    free(body);
}

/* The same query as numbers, longer numbers, base64, and an item: the same answer, whose first is the item itself. */
static void test_search(void)
{
    for (int i = 0; i < N; i++) {
        char body[600], id[8], *texts[3];
        json_t *first = NULL;
        float longer[DIM];
        for (int k = 0; k < DIM; k++) longer[k] = vectors[i][k] * 8; /* exact: only the exponent grows */
        texts[0] = as_numbers(vectors[i], DIM);
        texts[1] = as_base64(vectors[i], DIM);
        texts[2] = as_numbers(longer, DIM);
        snprintf(id, sizeof id, "i%02d", i);
        for (int k = 0; k < 3; k++) {
            int st;
            snprintf(body, sizeof body, "{\"limit\":3,\"embedding\":%s}", texts[k]);
            json_t *j = fx_json(API_POST, SEARCH, JSON, body, strlen(body), &st), *hits = json_object_get(j, "results"), *h = json_array_get(hits, 0);
            CHECK_INT(st, 200);
            CHECK_STR(fx_str(h, "id"), id);
            CHECK_NEAR(json_number_value(json_object_get(h, "score")), 1.0, 2e-6);
            CHECK_STR(fx_str(j, "model"), "external");
            CHECK(json_object_get(json_object_get(h, "image"), "url") == NULL);
            if (first == NULL) first = json_incref(hits);
            else for (size_t r = 0; r < 3; r++) CHECK_STR(fx_str(json_array_get(hits, r), "id"), fx_str(json_array_get(first, r), "id"));
            json_decref(j);
            free(texts[k]);
        }
        int st;
        snprintf(body, sizeof body, "{\"item\":\"%s\",\"limit\":2}", id);
        json_t *j = fx_json(API_POST, SEARCH, JSON, body, strlen(body), &st);
        CHECK_INT(st, 200);
        CHECK_STR(fx_str(json_array_get(json_object_get(j, "results"), 0), "id"), fx_str(json_array_get(first, 1), "id"));
        json_decref(j);
        json_decref(first);
    }
}

/* Pages of an embedding's answer belong together, and to no other embedding. */
static void test_pages(void)
{
    char body[600], *a = as_numbers(vectors[0], DIM), *b = as_numbers(vectors[1], DIM);
    int st;
    snprintf(body, sizeof body, "{\"limit\":7,\"embedding\":%s}", a);
    json_t *j = fx_json(API_POST, SEARCH, JSON, body, strlen(body), &st);
    const char *token = fx_str(j, "next_page_token");
    REQUIRE(token != NULL);
    snprintf(body, sizeof body, "{\"limit\":7,\"embedding\":%s,\"page_token\":\"%s\"}", a, token);
    json_t *next = fx_json(API_POST, SEARCH, JSON, body, strlen(body), &st);
    CHECK_INT(st, 200);
    CHECK_INT(json_array_size(json_object_get(next, "results")), 7);
    json_decref(next);
    snprintf(body, sizeof body, "{\"limit\":7,\"embedding\":%s,\"page_token\":\"%s\"}", b, token);
    expect(400, "page_token_invalid", NULL, NULL, API_POST, SEARCH, body);
    json_decref(j);
    free(a);
    free(b);
}

static void test_refusals(void)
{
    static const struct {
        const char *value, *code, *detail;
    } bad[] = {
        {"[1,2,3]", "field_invalid", "3 numbers"},
        {"[]", "field_invalid", "0 numbers"},
        {"[1,2,3,4,5,6,7]", "field_invalid", "7 numbers"},
        {"[0,0,0,0,0,0]", "field_invalid", "length 0"},
        {"[1,2,3,4,5,1e39]", "field_invalid", "number 6 of"}, {"[1,2,3,4,5,-1e39]", "field_invalid", "is -1e39"},
        {"[1,2,3,4,5,1e9999]", "field_invalid", "number 6"},
        {"[1,2,3,4,5,06]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,+6]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,6.]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,.6]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,6e]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,-]", "json_invalid", "number 6"},
        {"[1,2,3,4,5,]", "json_invalid", NULL},
        {"[1,2,3,4 5,6]", "json_invalid", NULL},
        {"[,1,2,3,4,5,6]", "json_invalid", NULL},
        {"[1,2,3,4,5,\"6\"]", "field_invalid", "is a string"},
        {"[1,2,3,4,5,[6]]", "field_invalid", "is an array"},
        {"[1,2,3,4,null,6]", "field_invalid", "is null"},
        {"null", "field_invalid", "is null"},
        {"6", "field_invalid", "is a number"},
        {"{}", "field_invalid", "is an object"},
        {"\"\"", "base64_invalid", NULL},
        {"\"[1,2,3,4,5,6]\"", "base64_invalid", NULL},
        {"\"AAAA\"", "field_invalid", "3 bytes"},
        {"\"AACAPwAAgD8=\"", "field_invalid", "2 numbers"},
        {"\"AADAfwAAgD8AAIA/AACAPwAAgD8AAIA/\"", "field_invalid", "nan"}, /* NaN */
    };
    char body[300];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(body, sizeof body, "{\"embedding\":%s}", bad[i].value);
        expect(400, bad[i].code, "embedding", bad[i].detail, API_POST, SEARCH, body);
        expect(400, bad[i].code, "embedding", bad[i].detail, API_PUT, ITEMS "/bad", body);
        snprintf(body, sizeof body, "{\"images\":[{\"embedding\":%s}]}", bad[i].value);
        expect(400, bad[i].code, "images[0].embedding", bad[i].detail, API_PUT, ITEMS "/bad", body);
    }
    expect(404, "item_not_found", NULL, NULL, API_GET, ITEMS "/bad", "");
    expect(400, "field_invalid", "images[0]", "no embedding", API_PUT, ITEMS "/bad", "{\"images\":[{}]}");
    expect(400, "item_id_invalid", "item", "empty", API_POST, SEARCH, "{\"item\":\"\"}");
    expect(400, "field_invalid", "embedding", "beside images", API_PUT, ITEMS "/bad", "{\"embedding\":[1],\"images\":[{\"embedding\":[1]}]}");
    expect(400, "field_invalid", "images[0].embedding", "beside", API_PUT, ITEMS "/bad", "{\"images\":[{\"embedding\":[1],\"data\":\"AAAA\"}]}");
    expect(400, "field_unknown", "embedding", NULL, API_PATCH, ITEMS "/i01", "{\"attributes\":{},\"embedding\":[1]}");
    expect(400, "query_conflict", "embedding", NULL, API_POST, SEARCH, "{\"item\":\"i01\",\"embedding\":[1]}");
    expect(400, "field_invalid", "crop", "embedding", API_POST, SEARCH, "{\"embedding\":[1],\"crop\":{\"x\":0,\"y\":0,\"w\":1,\"h\":1}}");
    expect(400, "images_missing", NULL, NULL, API_PUT, ITEMS "/new", "{\"attributes\":{}}");
    /* Photos do not belong here, nor embeddings in a catalogue of photos. */
    CHECK_INT(fx_put(ITEMS "/photo", 1), 409);
    fx_bytes p = fx_photo(1, 96, 80);
    CHECK_INT(fx_status(API_POST, SEARCH, "image/jpeg", p.p, p.n), 409);
    free(p.p);
    expect(409, "model_mismatch", "embedding", "external", API_PUT, "/v1/catalogues/default/items/x", "{\"embedding\":[1,0,0,0,0,0]}");
}

/* The output of /v1/embed searches a catalogue of photos. */
static void test_embed_then_search(void)
{
    int st;
    CHECK_INT(fx_put("/v1/catalogues/default/items/a", 5), 201);
    CHECK_INT(fx_put("/v1/catalogues/default/items/b", 6), 201);
    fx_bytes p = fx_photo(6, 96, 80);
    for (int k = 0; k < 2; k++) {
        json_t *e = fx_json(API_POST, k == 0 ? "/v1/embed" : "/v1/embed?encoding=base64", "image/jpeg", p.p, p.n, &st), *q = json_object();
        CHECK_INT(st, 200);
        json_object_set(q, "embedding", json_object_get(e, "embedding"));
        char *body = json_dumps(q, 0);
        json_t *j = fx_json(API_POST, "/v1/catalogues/default/search", JSON, body, strlen(body), &st), *h = json_array_get(json_object_get(j, "results"), 0);
        CHECK_INT(st, 200);
        CHECK_STR(fx_str(h, "id"), "b");
        CHECK_NEAR(json_number_value(json_object_get(h, "score")), 1.0, 2e-6);
        json_decref(j);
        json_decref(q);
        json_decref(e);
        free(body);
    }
    free(p.p);
}

/* Numbers in every notation come out as strtof would read them. */
static void test_numbers(void)
{
    char text[8192], path[] = "/v1/catalogues/one", item[64], body[8400];
    uint64_t seed = 17;
    CHECK_INT(send_json(API_PUT, path, "{\"model\":\"external\",\"dim\":64}"), 201);
    for (int round = 0; round < 40; round++) {
        float want[64], *got = NULL;
        double norm = 0;
        size_t n_images;
        uint32_t dim;
        char *p = text;
        for (int i = 0; i < 64; i++) {
            static const char *const forms[] = {"%.17g", "%.9g", "%.3e", "%.25f", "%.0f", "%.12E"};
            char number[400];
            snprintf(number, sizeof number, forms[test_rand(&seed) % 6], ((double)test_randf(&seed) - 0.5) * pow(10, (double)(test_rand(&seed) % 30) - 15));
            p += sprintf(p, "%s%s", i > 0 ? "," : "[", number);
            want[i] = strtof(number, NULL);
            norm += (double)want[i] * (double)want[i];
        }
        strcpy(p, "]");
        snprintf(item, sizeof item, "%s/items/n%d", path, round);
        snprintf(body, sizeof body, "{\"embedding\":%s}", text);
        CHECK_INT(send_json(API_PUT, item, body), 201);
        snprintf(item, sizeof item, "n%d", round);
        REQUIRE(idx_embeddings_get(fx.ix, "one", item, &got, &n_images, &dim, NULL) == IDX_OK && dim == 64);
        for (int i = 0; i < 64; i++) {
            double w = (double)want[i] / sqrt(norm);
            CHECK(fabs((double)got[i] - w) <= 2e-7 * fabs(w) + 1e-37);
        }
        free(got);
    }
}

int main(void)
{
    fx_start(NULL, NULL);
    test_catalogue();
    test_items();
    test_search();
    test_pages();
    test_refusals();
    test_embed_then_search();
    test_numbers();
    fx_stop();
    fx_start(NULL, NULL); /* and all of it is there again */
    test_search();
    fx_stop();
    fx_end();
    return test_end();
}
