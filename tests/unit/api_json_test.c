/* JSON from strangers: photos stay out of the parser, limits hold, doubled members and wrong attributes are named. */
#include "../../api/json.h"
#include "test.h"

static const char *parse(api_doc *d, const char *s, bool blobs, size_t max)
{
    static api_fault f;
    f = (api_fault){0};
    return api_doc_parse(d, (const uint8_t *)s, strlen(s), blobs, max, NULL, &f) ? "ok" : f.code;
}

static void test_documents(void)
{
    static const struct {
        const char *s, *want;
    } cases[] = {
        {"{}", "ok"},
        {" {\"a\":1} \r\n", "ok"},
        {"", "body_missing"},
        {"[]", "json_invalid"},
        {"1", "json_invalid"},
        {"{\"a\":1,\"a\":2}", "json_invalid"},
        {"{\"a\":1}x", "json_invalid"},
        {"{\"a\":NaN}", "json_invalid"},
        {"{\"a\":\"\xff\"}", "json_invalid"},
        {"{\"a\":\"\\u0000\"}", "json_invalid"},
        {"{\"a\":\"\\ud800\"}", "json_invalid"},
        {"{\"a\":99999999999999999999}", "json_invalid"},
        {"{\"image\":\"abc", "json_invalid"},
        {"{\"image\":\"abc\\", "json_invalid"},
        {"{\"image\":\"a\nb\"}", "ok"}, /* refused as base64 later */
        {"\xef\xbb\xbf{}", "json_invalid"},
    };
    api_doc d;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_STR(parse(&d, cases[i].s, true, 4096), cases[i].want);
        api_doc_fini(&d);
    }
    char deep[4001];
    memset(deep, '[', 4000);
    deep[4000] = '\0';
    CHECK_STR(parse(&d, deep, true, 65536), "json_invalid");
    api_doc_fini(&d);
    CHECK_STR(parse(&d, deep, true, 2000), "json_too_large");
    api_doc_fini(&d);
}

/* Where it is wrong is said of the document as it came, not of what was left of it. */
static void test_places(void)
{
    static const struct {
        const char *s, *says;
    } cases[] = {
        {"{\"a\":NaN}", "(line 1, column 8)"},
        {"{\"embedding\":[1,0,0,0],\"a\":NaN}", "(line 1, column 30)"},
        {"{\"embedding\":[],\"image\":\"\",\"a\":NaN}", "(line 1, column 34)"},
        {"{\"embedding\":[1,\n0],\n\"a\":NaN}", "(line 3, column 7)"},
        {"{\"image\":\"AAAAAAAAAAAA\"} x", "(line 1, column 26)"},
        {"{\"a\":\"\\u0000\"}", "\\u0000 is not allowed (line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_doc d;
        api_fault f = {0};
        CHECK(!api_doc_parse(&d, (const uint8_t *)cases[i].s, strlen(cases[i].s), true, 4096, NULL, &f));
        test_checks++;
        if (strstr(f.detail, cases[i].says) == NULL) TEST_FAIL("%s: %s, want %s", cases[i].s, f.detail, cases[i].says);
        api_doc_fini(&d);
    }
}

static void check_text(const api_doc *d, const json_t *v, const char *want)
{
    const char *p = NULL;
    size_t n = 0;
    REQUIRE(json_is_string(v));
    api_doc_text(d, v, &p, &n);
    CHECK_INT(n, strlen(want));
    CHECK(n == strlen(want) && memcmp(p, want, n) == 0);
}

static void test_blobs(void)
{
    api_doc d;
    char big[9000];
    strcpy(big, "{\"attributes\":{\"data\":\"keep\",\"image\":\"me\"},\"images\":[{\"data\":\"");
    memset(big + strlen(big), 'A', 8000);
    strcpy(big + 8000 + strlen("{\"attributes\":{\"data\":\"keep\",\"image\":\"me\"},\"images\":[{\"data\":\""),
           "\"},{\"data\" : \"@0\"},{\"data\":\"a\\/b\"},{\"data\":\"\\u0041\"}]}");
    CHECK_STR(parse(&d, big, true, 400), "ok");
    CHECK_INT(d.n_blobs, 3);
    const json_t *a = json_object_get(d.root, "attributes"), *im = json_object_get(d.root, "images");
    CHECK_STR(json_string_value(json_object_get(a, "data")), "keep");
    CHECK_STR(json_string_value(json_object_get(a, "image")), "me");
    const char *p;
    size_t n;
    api_doc_text(&d, json_object_get(json_array_get(im, 0), "data"), &p, &n);
    CHECK_INT(n, 8000);
    check_text(&d, json_object_get(json_array_get(im, 1), "data"), "@0"); /* what a client writes is not a reference */
    check_text(&d, json_object_get(json_array_get(im, 2), "data"), "a\\/b");
    check_text(&d, json_object_get(json_array_get(im, 3), "data"), "A");
    api_doc_fini(&d);
    CHECK_STR(parse(&d, big, false, 400), "json_too_large"); /* without the shortcut all of it counts */
    api_doc_fini(&d);

    /* More photos than places: the rest goes through the parser. */
    char many[4096] = "{\"images\":[";
    for (int i = 0; i < 40; i++) snprintf(many + strlen(many), sizeof many - strlen(many), "%s{\"data\":\"x%d\"}", i ? "," : "", i);
    strcat(many, "]}");
    CHECK_STR(parse(&d, many, true, 4096), "ok");
    CHECK_INT(d.n_blobs, API_MAX_BLOBS);
    im = json_object_get(d.root, "images");
    check_text(&d, json_object_get(json_array_get(im, 31), "data"), "x31");
    check_text(&d, json_object_get(json_array_get(im, 39), "data"), "x39");
    api_doc_fini(&d);
}

static void test_only(void)
{
    static const char *const names[] = {"a", "b", NULL};
    api_doc d;
    api_fault f = {0};
    CHECK_STR(parse(&d, "{\"a\":1}", false, 100), "ok");
    CHECK(api_json_only(d.root, names, "", &f));
    api_doc_fini(&d);
    CHECK_STR(parse(&d, "{\"a\":1,\"c\":1}", false, 100), "ok");
    CHECK(!api_json_only(d.root, names, "options.", &f));
    CHECK_STR(f.code, "field_unknown");
    CHECK_STR(f.field, "options.c");
    api_doc_fini(&d);
}

static void test_attributes(void)
{
    static const struct {
        const char *s;
        bool patch;
        const char *want, *field; /* text, or code with field */
    } cases[] = {
        {"{\"a\":\"x\",\"b\":1,\"c\":0.1,\"d\":true,\"e\":[\"p\",\"q\"]}", false,
         "{\"a\":\"x\",\"b\":1,\"c\":0.1,\"d\":true,\"e\":[\"p\",\"q\"]}", NULL},
        {"{}", false, "{}", NULL},
        {"{\"a\":null}", true, "{\"a\":null}", NULL},
        {"{\"a\":null}", false, "attributes_invalid", "attributes.a"},
        {"{\"a\":{}}", false, "attributes_invalid", "attributes.a"},
        {"{\"a\":[1]}", false, "attributes_invalid", "attributes.a"},
        {"{\"\":1}", false, "attributes_invalid", "attributes"},
        {"{\"a\\nb\":1}", false, "attributes_invalid", "attributes"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_doc d;
        api_fault f = {0};
        char *text = NULL;
        CHECK_STR(parse(&d, cases[i].s, false, 4096), "ok");
        bool ok = api_attributes_text(d.root, cases[i].patch, &text, &f);
        CHECK_INT(ok, cases[i].field == NULL);
        CHECK_STR(ok ? text : f.code, cases[i].want);
        if (!ok) CHECK_STR(f.field, cases[i].field);
        free(text);
        api_doc_fini(&d);
    }
    json_t *big = json_object();
    char *long_text = malloc(IDX_MAX_ATTR_BYTES);
    memset(long_text, 'x', IDX_MAX_ATTR_BYTES - 1);
    long_text[IDX_MAX_ATTR_BYTES - 1] = '\0';
    json_object_set_new(big, "a", json_string(long_text));
    api_fault f = {0};
    char *text;
    CHECK(!api_attributes_text(big, false, &text, &f));
    CHECK_STR(f.code, "attributes_invalid");
    CHECK_INT(f.limit, IDX_MAX_ATTR_BYTES);
    free(long_text);
    json_decref(big);
}

static size_t until_failure;
static void *failing_malloc(size_t n)
{
    if (until_failure == 0) return NULL;
    until_failure--;
    return malloc(n);
}

/* Every allocation of the parser fails once: a code, no crash, no leak. */
static void test_memory(void)
{
    json_set_alloc_funcs(failing_malloc, free);
    bool done = false;
    for (size_t k = 0; k < 200 && !done; k++) {
        until_failure = k;
        api_doc d;
        const char *code = parse(&d, "{\"images\":[{\"data\":\"QUJD\"}],\"attributes\":{\"a\":[\"x\",0.5,1],\"b\":null}}", true, 4096);
        done = strcmp(code, "ok") == 0;
        if (!done) CHECK(strcmp(code, "out_of_memory") == 0 || strcmp(code, "json_invalid") == 0); /* jansson does not always tell */
        api_doc_fini(&d);
    }
    CHECK(done);
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    test_documents();
    test_places();
    test_blobs();
    test_only();
    test_attributes();
    test_memory();
    return test_end();
}
