/* The small parsers for text from strangers: UTF-8, percent-encoding, query strings, media types, base64, numbers. */
#include "../../api/buf.h"
#include "../../api/text.h"
#include "test.h"

static void test_utf8(void)
{
    static const struct {
        const char *s;
        size_t want;
    } cases[] = {
        {"a", 1},          {"\xc3\xa9", 2},         {"\xe2\x82\xac", 3},     {"\xf0\x9f\x91\x9f", 4},
        {"\xc0\x80", 0},   {"\xc1\xbf", 0},         {"\xe0\x9f\xbf", 0},     {"\xed\xa0\x80", 0},
        {"\xf0\x8f\xbf\xbf", 0}, {"\xf4\x90\x80\x80", 0}, {"\xf5\x80\x80\x80", 0}, {"\x80", 0},
        {"\xe2\x82", 0},   {"\xff", 0},             {"\xc3", 0},             {"\xc3(", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        CHECK_INT(api_utf8_len(cases[i].s, strlen(cases[i].s)), cases[i].want);
    CHECK(api_text_printable("a b/\xc3\xa9", 6));
    CHECK(!api_text_printable("a\nb", 3));
    CHECK(!api_text_printable("a\x7f", 2));
    CHECK(!api_text_printable("\xc2\x85", 2));
    CHECK(!api_text_printable("a\0b", 3));
    CHECK(api_catalogue_name_ok("a") && api_catalogue_name_ok("shop_2-x") && api_catalogue_name_ok("9"));
    CHECK(!api_catalogue_name_ok("") && !api_catalogue_name_ok("-a") && !api_catalogue_name_ok("_a"));
    CHECK(!api_catalogue_name_ok("A") && !api_catalogue_name_ok("a.b") && !api_catalogue_name_ok("\xc3\xa9"));
    char name[66];
    memset(name, 'a', sizeof name);
    name[64] = '\0';
    CHECK(api_catalogue_name_ok(name));
    name[64] = 'a';
    name[65] = '\0';
    CHECK(!api_catalogue_name_ok(name));
}

static void test_percent(void)
{
    static const struct {
        const char *in;
        bool plus;
        const char *want; /* NULL = refused */
    } cases[] = {
        {"a%2Fb", false, "a/b"}, {"a%2fb%25", false, "a/b%"}, {"a+b", false, "a+b"}, {"a+b%2B", true, "a b+"},
        {"%", false, NULL},      {"%4", false, NULL},         {"%4x", false, NULL},  {"a%00b", false, NULL},
        {"", false, ""},         {"%C3%A9", false, "\xc3\xa9"},
    };
    char out[32];
    size_t n;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool ok = api_percent_decode(cases[i].in, strlen(cases[i].in), cases[i].plus, out, sizeof out, &n);
        CHECK_INT(ok, cases[i].want != NULL);
        if (ok && cases[i].want != NULL) CHECK_STR(out, cases[i].want);
    }
    CHECK(!api_percent_decode("abcd", 4, false, out, 4, &n)); /* no room for the terminator */
    CHECK(api_percent_decode("abc", 3, false, out, 4, &n));
}

static const char *params(const char *raw, api_params *ps)
{
    static const char *const names[] = {"limit", "filter", "q", NULL};
    static api_fault f;
    f = (api_fault){0};
    return api_params_parse(ps, raw, names, &f) ? "ok" : f.code;
}

static void test_params(void)
{
    api_params ps;
    CHECK_STR(params("limit=10&filter=a+%3D+%22x%22&q", &ps), "ok");
    CHECK_STR(api_params_get(&ps, "limit"), "10");
    CHECK_STR(api_params_get(&ps, "filter"), "a = \"x\"");
    CHECK_STR(api_params_get(&ps, "q"), "");
    CHECK(api_params_get(&ps, "other") == NULL);
    api_params_fini(&ps);
    static const struct {
        const char *raw, *want;
    } cases[] = {
        {NULL, "ok"},          {"", "ok"},          {"&&", "ok"},          {"limit=", "ok"},
        {"lim%69t=1", "ok"},   {"a=1", "parameter_unknown"}, {"limit=1&limit=2", "query_invalid"},
        {"limit=%", "query_invalid"}, {"limit=%00", "query_invalid"}, {"limit=%0a", "query_invalid"},
        {"limit=%ff", "query_invalid"}, {"%zz=1", "query_invalid"}, {"=1", "parameter_unknown"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        CHECK_STR(params(cases[i].raw, &ps), cases[i].want);
        api_params_fini(&ps);
    }
}

static void test_media(void)
{
    static const struct {
        const char *in, *type, *boundary, *code;
    } cases[] = {
        {NULL, "", "", NULL},
        {"image/JPEG", "image/jpeg", "", NULL},
        {"application/json; charset=utf-8", "application/json", "", NULL},
        {"multipart/form-data; boundary=BB; charset=utf-8", "multipart/form-data", "BB", NULL},
        {"multipart/form-data; Boundary=BB", "multipart/form-data", "BB", NULL},
        {"multipart/form-data;charset=x;boundary=\"a b\"", "multipart/form-data", "a b", NULL},
        {"multipart/form-data; boundary=a; boundary=b", "multipart/form-data", NULL, "multipart_invalid"},
        {"multipart/form-data; boundary=", "multipart/form-data", NULL, "multipart_invalid"},
        {"multipart/form-data; boundary=\"a", "multipart/form-data", NULL, "multipart_invalid"},
        {"multipart/form-data; boundary=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "multipart/form-data",
         NULL, "multipart_invalid"},
        {"text", "text", "", NULL},
        {"image/jpeg x", NULL, NULL, "content_type_unsupported"},
        {"\x01", NULL, NULL, "content_type_unsupported"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_media m;
        api_fault f = {0};
        bool ok = api_media_parse(&m, cases[i].in, &f);
        CHECK_INT(ok, cases[i].code == NULL);
        if (cases[i].code != NULL) CHECK_STR(f.code, cases[i].code);
        if (ok) CHECK_STR(m.type, cases[i].type);
        if (ok) CHECK_STR(m.boundary, cases[i].boundary);
    }
}

static void test_base64(void)
{
    static const struct {
        const char *in, *out, *code;
        bool json;
    } cases[] = {
        {"aGVsbG8=", "hello", NULL, false}, {"aGVsbG8h", "hello!", NULL, false}, {"aA==", "h", NULL, false},
        {"Pz8\\/Pz8/", "???" "???", NULL, true}, {"Pz8\\/Pz8/", NULL, "base64_invalid", false},
        {"", NULL, "base64_invalid", false}, {"aGVsbG8", NULL, "base64_invalid", false},
        {"aGVs bG8", NULL, "base64_invalid", false}, {"aGVs\nbG8=", NULL, "base64_invalid", false},
        {"aGV-bG8_", NULL, "base64_invalid", false}, {"a===", NULL, "base64_invalid", false},
        {"====", NULL, "base64_invalid", false}, {"aB==", NULL, "base64_invalid", false},
        {"aG=sbG8h", NULL, "base64_invalid", false}, {"data:image/png;base64,aGVsbG8=", NULL, "base64_invalid", false},
        {"aGVsbG8haGVsbG8haGVs", NULL, "image_too_large", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t *out = NULL;
        size_t n = 0;
        api_fault f = {0};
        bool ok = api_base64_decode(cases[i].in, strlen(cases[i].in), cases[i].json, 12, "image", &out, &n, &f);
        CHECK_INT(ok, cases[i].code == NULL);
        if (!ok) CHECK_STR(f.code, cases[i].code);
        if (ok && cases[i].out != NULL) {
            CHECK_INT(n, strlen(cases[i].out));
            CHECK(memcmp(out, cases[i].out, n) == 0);
        }
        free(out);
    }
}

static void test_buf(void)
{
    api_buf b = {0};
    api_buf_str(&b, "a\"\\\n\x01\xc3\xa9\xff\x7f");
    api_buf_raw(&b, "|", 1);
    static const double reals[] = {0.1, 1.0, 19.99, 1e21, -0.0, 1.0 / 3.0, 5e-324};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++) {
        api_buf_real(&b, reals[i]);
        api_buf_raw(&b, "|", 1);
    }
    api_buf_float(&b, 0.1f);
    api_buf_raw(&b, "|", 1);
    api_buf_time(&b, 1767323045678);
    api_buf_time(&b, -1);
    api_buf_path(&b, "a/b \xc3\xa9%~");
    size_t n;
    char *s = api_buf_take(&b, &n);
    s = realloc(s, n + 1);
    s[n] = '\0';
    CHECK_STR(s, "\"a\\\"\\\\\\n\\u0001\xc3\xa9\\ufffd\\u007f\"|0.1|1.0|19.99|1e+21|-0.0|0.3333333333333333|4.94065645841247e-324|0.1|"
                 "\"2026-01-02T03:04:05.678Z\"\"1969-12-31T23:59:59.999Z\"a%2Fb%20%C3%A9%25~");
    free(s);
    api_buf_real(&b, NAN);
    CHECK(b.failed);
    CHECK(api_buf_take(&b, &n) == NULL);
}

int main(void)
{
    test_utf8();
    test_percent();
    test_params();
    test_media();
    test_base64();
    test_buf();
    return test_end();
}
