/* The filter language: a table of filters over a table of items, errors with their column, and hostile texts. */
#include "../../index/filter.h"
#include "test.h"

static const char *const items[] = {
    "{\"brand\":\"Acme\",\"price\":10,\"tags\":[\"summer\",\"sale\"],\"new\":true,\"size\":\"42\"}",
    "{\"brand\":\"acme\",\"price\":20.5,\"tags\":[\"winter\"],\"new\":false}",
    "{\"brand\":\"Zeta Shoes\",\"price\":-3,\"size\":42}",
    "{\"title\":\"quote \\\" and 'tick'\",\"a.b\":\"x\",\"price\":\"10\"}",
    "{\"star\":\"*\",\"empty\":[]}",
};
enum { N = sizeof items / sizeof *items };

static const struct {
    const char *filter;
    const char *want; /* a bit an item, as a string of digits of the items that match */
} table[] = {
    {"brand = \"Acme\"", "0"}, {"brand = Acme", "0"}, {"brand = 'Zeta Shoes'", "2"}, {"brand != Acme", "12"}, {"NOT brand = Acme", "1234"},
    {"-brand = Acme", "1234"}, {"brand:*", "012"}, {"brand:Acme", "0"}, {"tags:summer", "0"}, {"tags:sum*", "0"}, {"tags = summer", ""},
    {"tags:*", "01"}, {"price = 10", "03"}, {"price < 20", "02"}, {"price <= 20.5", "012"}, {"price > -3", "01"}, {"price >= -3", "012"},
    {"price = 1e1", "0"}, {"new = true", "0"}, {"new = false", "1"}, {"new != true", "1"}, {"size = 42", "02"}, {"size = \"42\"", "0"},
    {"brand = \"*cme\"", "01"}, {"brand = \"Z*\"", "2"}, {"brand = \"*eta*\"", "2"}, {"brand = *", "012"}, {"a.b = x", "3"}, {"\"a.b\" = \"x\"", "3"},
    {"title = \"quote \\\" and 'tick'\"", "3"}, {"brand = Acme AND price < 5", ""}, {"brand = Acme OR price < 5", "02"},
    {"price < 25 brand:* OR size:*", "012"}, {"price < 15 AND new = true OR new = false", "0"}, {"(price < 15 AND new = true) OR (new = false)", "01"},
    {"NOT (price > 0)", "234"}, {"brand > Acme", "12"}, {"brand < \"Z\"", "0"}, {"missing = 1", ""}, {"NOT missing = 1", "01234"},
    {"  price   =   10  ", "03"}, {"NOT NOTE = 1", "01234"}, {"NOT \"AND\" = 1", "01234"}, {"NOT \"-x\" = 1", "01234"}, {"ORDER = 1 OR price = 20.5", "1"},
    {"brand = \"Z*a Sh*s\"", "2"}, {"brand = \"*c*m*e\"", "01"}, {"brand = A*e", "0"}, {"brand = \"A\\*e\"", ""}, {"brand = \"*e*e*\"", "2"}, {"brand = \"**\"", "012"},
    {"tags:\"*er\"", "01"}, {"tags:\"s*\" AND tags:\"*e\"", "0"}, {"price = +10", "03"}, {"price = 1.0e+1", "0"}, {"price = 0x0a", ""}, {"price = \"1*\"", "3"},
    {"price > -1e300", "012"}, {"size = 4*", "0"}, {"star = \"\\*\"", "4"}, {"star = \"\\*\\*\"", ""}, {"brand < \"B*\"", "0"}, {"empty:*", "4"}, {"empty:\"*\"", ""},
    {"size = \"0AND\"", ""}, {"price>0 AND new = true", "0"}, {"NOT size = 0ANDROID", "01234"}, {"NOT size = AND0", "01234"}, {"brand < 0AND*", ""},
    {"(price>0)AND new = true", "0"}, {"brand='Acme'AND new = true", "0"},
};

static const struct {
    const char *filter;
    const char *says;
} wrong[] = {
    {"", "column 1"}, {"price", "column 6"}, {"price <", "column 8"}, {"price = ", "column 9"}, {"= 3", "column 1"}, {"price = 3 AND", "column 14"},
    {"(price = 3", "column 11"}, {"price = 3)", "column 10"}, {"brand = \"x", "column 9"}, {"a = 1 OR", "column 9"}, {"NOT", "column 4"}, {"3 = a", "column 1"},
    {"price < true", "column 9"}, {"price >= *", "column 10"}, {"a = 1e400 AND", "column 14"},
    {"--price = 3", "column 2"}, {"- -price = 3", "column 3"}, {"NOT NOT price = 3", "column 5"}, {"NOT -price = 3", "column 5"},
    {"AND = 3", "in quotes"}, {"price = 3 OR OR price = 4", "column 14"},
    {"a == 3", "column 4"}, {"a = 3 ; b = 4", "column 7"},
    {"price>0AND new = true", "column 8: AND follows the number 0 without a blank"}, {"price = 10OR price = 3", "column 11"}, {"(price<1.5NOT new = true)", "column 11"},
    {"size:+4e1AND", "column 10"},
};

int main(void)
{
    idx_attrs *a = idx_attrs_new();
    REQUIRE(a != NULL);
    idx_error err = {0};
    for (uint32_t round = 0; round < 2; round++) /* the second time replaces, which must change nothing */
        for (uint32_t i = 0; i < N; i++) {
            CHECK_INT(idx_attrs_validate(items[i], &err), IDX_OK);
            CHECK_INT(idx_attrs_set(a, i, items[i], &err), IDX_OK);
            CHECK(idx_attrs_agree(a, i, items[i]));
        }
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        idx_filter *f = NULL;
        idx_bits m = {0};
        err = (idx_error){0};
        if (idx_filter_parse(table[k].filter, &f, &err) != IDX_OK) TEST_FAIL("%s: %s", table[k].filter, err.text);
        REQUIRE(f != NULL && idx_filter_eval(f, a, &m, NULL) == IDX_OK);
        char got[N + 1] = "";
        for (uint32_t i = 0; i < N; i++)
            if (idx_bit(m.w, i)) snprintf(got + strlen(got), 2, "%u", i);
        test_checks++;
        if (strcmp(got, table[k].want) != 0) TEST_FAIL("%s matches \"%s\", want \"%s\"", table[k].filter, got, table[k].want);
        idx_bits_free(&m);
        idx_filter_free(f);
    }
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; k++) {
        err = (idx_error){0};
        test_checks++;
        if (idx_filter_check(wrong[k].filter, &err) != IDX_EFILTER) TEST_FAIL("\"%s\" was accepted", wrong[k].filter);
        else if (strstr(err.text, wrong[k].says) == NULL) TEST_FAIL("\"%s\" says: %s", wrong[k].filter, err.text);
    }
    char deep[4000];
    memset(deep, '(', sizeof deep);
    deep[sizeof deep - 1] = 0;
    CHECK_INT(idx_filter_check(deep, NULL), IDX_EFILTER);
    uint64_t seed = 4;
    static const char alphabet[] = "ab =<>!:()\"'\\*-.109ANDORNOT \xc3\xa9";
    for (int i = 0; i < 20000; i++) {
        char text[40];
        size_t n = test_rand(&seed) % (sizeof text - 1);
        for (size_t c = 0; c < n; c++) text[c] = alphabet[test_rand(&seed) % (sizeof alphabet - 1)];
        text[n] = 0;
        idx_filter *f = NULL;
        if (idx_filter_parse(text, &f, NULL) != IDX_OK) continue;
        idx_bits m = {0};
        CHECK_INT(idx_filter_eval(f, a, &m, NULL), IDX_OK);
        idx_bits_free(&m);
        idx_filter_free(f);
    }
    idx_attrs_remove(a, 0);
    CHECK(!idx_attrs_agree(a, 0, items[0]));
    CHECK_INT(idx_attrs_count(a), N - 1);
    CHECK(idx_attrs_check(a) == NULL);

    static const char *const bad[] = {"[]", "{\"a\":null}", "{\"a\":[1]}", "{\"a\":1,\"a\":2}", "{\"\":1}", "{\"a\":{}}", "nonsense", "{\"a\":\"b\\u0000c\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_INT(idx_attrs_validate(bad[i], NULL), IDX_EINVAL);
    char *merged = NULL;
    CHECK_INT(idx_attrs_merge("{\"a\":1,\"b\":\"x\"}", "{\"a\":null,\"c\":true}", &merged, NULL), IDX_OK);
    CHECK_STR(merged, "{\"b\":\"x\",\"c\":true}");
    free(merged);
    CHECK_INT(idx_attrs_merge("{\"a\":79.99}", "{\"b\":-0.1,\"c\":1e2}", &merged, NULL), IDX_OK);
    CHECK_STR(merged, "{\"a\":79.99,\"b\":-0.1,\"c\":100.0}");
    free(merged);
    CHECK_INT(idx_attrs_merge("{}", "{\"a\":0.30000000000000004}", &merged, NULL), IDX_OK); /* needs its 17 digits */
    CHECK_STR(merged, "{\"a\":0.30000000000000004}");
    free(merged);
    CHECK_INT(idx_attributes_check("{\"a\":null}", true, NULL), IDX_OK);
    CHECK_INT(idx_attributes_check("{\"a\":null}", false, NULL), IDX_EINVAL);
    idx_attrs_free(a);
    return test_end();
}
