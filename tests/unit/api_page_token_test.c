/* Page tokens: what was put in comes out, for the same request only; every mangled one is refused. */
#include "../../api/page_token.h"
#include "test.h"

static api_page_key key(const char *filter)
{
    api_page_key k;
    api_page_key_init(&k, "search");
    api_page_key_text(&k, "default");
    api_page_key_text(&k, filter);
    return k;
}

int main(void)
{
    char longest[IDX_MAX_ID_BYTES + 1];
    memset(longest, 'i', IDX_MAX_ID_BYTES);
    longest[IDX_MAX_ID_BYTES] = '\0';
    const char *const ids[] = {"a", "sku/1 \xc3\xa9", longest};
    api_page_key k = key("a = 1");
    char token[API_PAGE_TOKEN_BYTES];
    api_page_place at;
    for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
        api_fault f = {0};
        api_page_token_make(&k, 0.75f, 70000, ids[i], token);
        CHECK(strspn(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == strlen(token));
        REQUIRE(api_page_token_read(&k, token, &at, &f));
        CHECK_STR(at.id, ids[i]);
        CHECK(at.score == 0.75f);
        CHECK_INT(at.depth, 70000);
        api_page_key other = key("a = 2"), none = key(NULL);
        CHECK(!api_page_token_read(&other, token, &at, &f));
        CHECK_STR(f.code, "page_token_invalid");
        f = (api_fault){0};
        CHECK(!api_page_token_read(&none, token, &at, &f));
    }
    api_page_token_make(&k, -0.5f, 30, "sku", token);
    size_t n = strlen(token);
    for (size_t i = 0; i < n; i++) /* any other character in any place */
        for (const char *c = "Aa0-_=+/ \xff"; *c != '\0'; c++) {
            char bad[API_PAGE_TOKEN_BYTES];
            memcpy(bad, token, n + 1);
            if (bad[i] == *c) continue;
            bad[i] = *c;
            api_fault f = {0};
            CHECK(!api_page_token_read(&k, bad, &at, &f));
            CHECK_STR(f.code, "page_token_invalid");
        }
    for (size_t cut = 0; cut < n; cut++) {
        char bad[API_PAGE_TOKEN_BYTES];
        memcpy(bad, token, cut);
        bad[cut] = '\0';
        api_fault f = {0};
        CHECK(!api_page_token_read(&k, bad, &at, &f));
    }
    char huge[5000];
    memset(huge, 'A', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    api_fault f = {0};
    CHECK(!api_page_token_read(&k, huge, &at, &f));
    return test_end();
}
