/* multipart/form-data: what clients send is read, everything loose or hostile is refused and says why. */
#include "../../api/multipart.h"
#include "test.h"

#define D(name)   "Content-Disposition: form-data; name=\"" name "\"\r\n"
#define PART(name) "--BB\r\n" D(name) "\r\n"

static const char *const names[] = {"image", "options", NULL};

static void test_good(void)
{
    static const struct {
        const char *body;
        size_t n;
        const char *first, *second;
    } cases[] = {
        {PART("image") "abc\r\n--BB--\r\n", 1, "abc", NULL},
        {PART("image") "abc\r\n--BB--", 1, "abc", NULL},
        {PART("image") "\r\n--BB--\r\n", 1, "", NULL},
        {"--BB\r\n" D("image") "\r\n--BB--\r\n", 1, "", NULL}, /* an empty part whose blank line begins the delimiter */
        {PART("image") "a\r\n--B\r\n--B B\r\n" "\r\n" PART("options") "{}\r\n--BB--\r\n", 2, "a\r\n--B\r\n--B B\r\n", "{}"},
        {"--BB  \r\ncontent-disposition: Form-Data; filename=\"../../etc/passwd\"; NAME=image\r\nContent-Type: image/png\r\n"
         "Content-Transfer-Encoding: binary\r\n\r\nxyz\r\n--BB-- \t\r\n",
         1, "xyz", NULL},
        {"--BB\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\\\"b;name=x.jpg\"\r\n\r\nq\r\n--BB--", 1, "q", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_parts ps;
        api_fault f = {0};
        const char *b = cases[i].body;
        if (!api_multipart_parse(&ps, (const uint8_t *)b, strlen(b), "BB", names, &f)) {
            TEST_FAIL("case %zu: %s", i, f.detail);
            continue;
        }
        CHECK_INT(ps.n, cases[i].n);
        CHECK_INT(ps.part[0].n, strlen(cases[i].first));
        CHECK(memcmp(ps.part[0].p, cases[i].first, ps.part[0].n) == 0);
        CHECK_STR(ps.part[0].name, "image");
        if (cases[i].second != NULL) CHECK(memcmp(ps.part[1].p, cases[i].second, ps.part[1].n) == 0);
    }
}

static void test_bad(void)
{
    static const struct {
        const char *boundary, *body, *says;
    } cases[] = {
        {"", PART("image") "a\r\n--BB--", "no boundary"},
        {"B\xff", PART("image") "a\r\n--BB--", "not allowed"},
        {"BB", "preamble\r\n" PART("image") "a\r\n--BB--", "start with the boundary"},
        {"BB", "\r\n" PART("image") "a\r\n--BB--", "start with the boundary"},
        {"BB", "--BB", "CR LF"},
        {"BB", "--BB--\r\n", "no parts"},
        {"BB", "--BBx\r\n", "CR LF"},
        {"BB", PART("image") "a", "missing"},
        {"BB", PART("image") "a\r\n--BB\r\n", "headers do not end"},
        {"BB", PART("image") "a\r\n--BBx--\r\n", "CR LF"},
        {"BB", PART("image") "a\r\n--BB-", "CR LF"},
        {"BB", PART("image") "a\r\n--BB--epilogue", "behind"},
        {"BB", PART("image") "a\r\n--BB--\r\n\r\n", "behind"},
        {"BB", PART("image") "a\n--BB--", "missing"},
        {"BB", "--BB\n" D("image") "\r\na\r\n--BB--", "CR LF"},
        {"BB", "--BB\r\nContent-Disposition: form-data; name=\"image\"\n\na\r\n--BB--", "CR LF"},
        {"BB", "--BB\r\n\r\na\r\n--BB--", "no Content-Disposition"},
        {"BB", "--BB\r\nContent-Disposition: form-data\r\n\r\na\r\n--BB--", "no name"},
        {"BB", "--BB\r\nContent-Disposition: attachment; name=\"image\"\r\n\r\na\r\n--BB--", "not form-data"},
        {"BB", "--BB\r\nContent-Disposition: form-data; name=image; name=options\r\n\r\na\r\n--BB--", "two names"},
        {"BB", "--BB\r\nContent-Disposition: form-data; name=\"image\r\n\r\na\r\n--BB--", "parameter"},
        {"BB", "--BB\r\nContent-Disposition: form-data; name*=utf-8''image\r\n\r\na\r\n--BB--", "name*"},
        {"BB", "--BB\r\n" D("image") D("image") "\r\na\r\n--BB--", "two dispositions"},
        {"BB", "--BB\r\n" D("image") " folded\r\n\r\na\r\n--BB--", "folded"},
        {"BB", "--BB\r\n" D("image") "X Y: z\r\n\r\na\r\n--BB--", "blank"},
        {"BB", "--BB\r\n" D("image") "nocolon\r\n\r\na\r\n--BB--", "no name"},
        {"BB", "--BB\r\n" D("image") "Content-Transfer-Encoding: base64\r\n\r\na\r\n--BB--", "transfer encoding"},
        {"BB", PART("file") "a\r\n--BB--", "not known"},
        {"BB", PART("IMAGE") "a\r\n--BB--", "not known"},
        {"BB", PART("image0123456789012345678901234567890123456789") "a\r\n--BB--", "too long"},
        {"BB", PART("\x01\xff") "a\r\n--BB--", "\"?\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_parts ps;
        api_fault f = {0};
        const char *b = cases[i].body;
        if (api_multipart_parse(&ps, (const uint8_t *)b, strlen(b), cases[i].boundary, names, &f)) {
            TEST_FAIL("case %zu was taken: %s", i, b);
            continue;
        }
        CHECK_STR(f.code, "multipart_invalid");
        CHECK_CONTAINS(f.detail, cases[i].says);
    }
    api_parts ps;
    api_fault f = {0};
    CHECK(!api_multipart_parse(&ps, (const uint8_t *)"", 0, "BB", names, &f));
    CHECK_STR(f.code, "body_missing");
}

/* Bodies made to be slow or large: parts, headers, near-boundaries. */
static void test_bounds(void)
{
    size_t cap = 4u << 20, n = 0;
    char *b = malloc(cap + 64);
    api_parts ps;
    api_fault f = {0};
    for (int i = 0; i < 10000; i++) n += (size_t)sprintf(b + n, "%s", i == 0 ? PART("image") "a" : "\r\n" PART("image") "a");
    n += (size_t)sprintf(b + n, "\r\n--BB--");
    CHECK(!api_multipart_parse(&ps, (uint8_t *)b, n, "BB", names, &f));
    CHECK_INT(f.limit, API_MAX_PARTS);

    f = (api_fault){0};
    n = (size_t)sprintf(b, "--BB\r\nX: ");
    memset(b + n, 'x', 20000);
    n += 20000;
    n += (size_t)sprintf(b + n, "\r\n" D("image") "\r\na\r\n--BB--");
    CHECK(!api_multipart_parse(&ps, (uint8_t *)b, n, "BB", names, &f));
    CHECK_INT(f.limit, API_PART_HEADER_BYTES);

    for (int kind = 0; kind < 3; kind++) {
        f = (api_fault){0};
        n = (size_t)sprintf(b, PART("image"));
        while (n < cap) n += (size_t)sprintf(b + n, "%s", kind == 0 ? "\r\n--B" : kind == 1 ? "\r" : "\r\n-");
        size_t data = n;
        n += (size_t)sprintf(b + n, "\r\n--BB--");
        REQUIRE(api_multipart_parse(&ps, (uint8_t *)b, n, "BB", names, &f));
        CHECK_INT(ps.part[0].n, data - strlen(PART("image")));
    }
    free(b);
}

/* Every prefix of a good body is refused, never read beyond (exact-size allocations: a sanitizer sees one byte). */
static void test_prefixes(void)
{
    static const char body[] = PART("options") "{}\r\n" PART("image") "\xff\xd8\xff\r\n--BB--";
    for (size_t n = 1; n < sizeof body - 1; n++) {
        uint8_t *p = malloc(n);
        memcpy(p, body, n);
        api_parts ps;
        api_fault f = {0};
        CHECK(!api_multipart_parse(&ps, p, n, "BB", names, &f));
        free(p);
    }
}

int main(void)
{
    test_good();
    test_bad();
    test_bounds();
    test_prefixes();
    return test_end();
}
