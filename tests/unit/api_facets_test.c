/* Facets, totals and explain over the API: every way to ask, what comes back, and what is refused. */
#include "api_fixture.h"

#define SEARCH "/v1/catalogues/own/search"
enum { N = 40 };

static const char vector[] = "\"embedding\":[1,0,0,0,0,0,0,0]";

static void fill(void)
{
    static const char own[] = "{\"model\":\"external\",\"dim\":8}";
    REQUIRE(fx_status(API_PUT, "/v1/catalogues/own", "application/json", own, sizeof own - 1) == 201);
    for (int i = 0; i < N; i++) {
        char path[80], body[400];
        snprintf(path, sizeof path, "/v1/catalogues/own/items/i%02d", i);
        snprintf(body, sizeof body, "{\"embedding\":[1,0.%02d,0,0,0,0,0,0],\"attributes\":{\"brand\":\"b%d\",\"price\":%d.5,\"tags\":[\"all\",\"t%d\"],\"new\":%s%s}}", i, i % 3, i, i % 5,
                 i % 4 == 0 ? "true" : "false", i < 10 ? ",\"size\":42" : "");
        CHECK_INT(fx_status(API_PUT, path, "application/json", body, strlen(body)), 201);
    }
}

static json_t *ask(const char *options, int want)
{
    char body[4000];
    int st;
    snprintf(body, sizeof body, "{%s%s%s}", vector, options[0] != 0 ? "," : "", options);
    json_t *j = fx_json(API_POST, SEARCH, "application/json", body, strlen(body), &st);
    CHECK_INT(st, want);
    return j;
}

static json_t *ask_query(const char *query, int want)
{
    char path[2000], body[200];
    int st;
    snprintf(path, sizeof path, SEARCH "?%s", query);
    snprintf(body, sizeof body, "{%s}", vector);
    json_t *j = fx_json(API_POST, path, "application/json", body, strlen(body), &st);
    CHECK_INT(st, want);
    return j;
}

static long long number(const json_t *o, const char *name) { return json_integer_value(json_object_get(o, name)); }
static const json_t *field(const json_t *reply, size_t i) { return json_array_get(json_object_get(json_object_get(reply, "facets"), "fields"), i); }
static const json_t *value(const json_t *f, size_t i) { return json_array_get(json_object_get(f, "values"), i); }
static const json_t *range(const json_t *f, size_t i) { return json_array_get(json_object_get(f, "ranges"), i); }

/* Integers that share their nearest double. */
static void test_large(void)
{
    static const char *const names[] = {"9007199254740991", "9007199254740992", "9007199254740993", "9007199254740993", "9223372036854775807", "-9223372036854775808", "1e19"};
    enum { LARGE = sizeof names / sizeof *names };
    for (int i = 0; i < LARGE; i++) {
        char path[80], body[200];
        snprintf(path, sizeof path, "/v1/catalogues/own/items/l%d", i);
        snprintf(body, sizeof body, "{\"embedding\":[1,0,0,0,0,0,0,1],\"attributes\":{\"sku\":%s}}", names[i]);
        CHECK_INT(fx_status(API_PUT, path, "application/json", body, strlen(body)), 201);
    }
    static const struct {
        const char *filter;
        int matches;
    } asked[] = {
        {"sku = 9007199254740993", 2}, {"sku = 9007199254740992", 1}, {"sku = 9007199254740994", 0}, {"sku > 9007199254740992", 4}, {"sku < 9007199254740993", 3},
        {"sku >= 9223372036854775807", 2}, {"sku > 9223372036854775807", 1}, {"sku = 9223372036854775808", 0}, {"sku < -9223372036854775807", 1}, {"sku < 9223372036854775808", 6},
        {"sku = 9007199254740992.0", 1}, {"sku != 9007199254740993", 5}, {"sku > 99999999999999999999", 0},
    };
    for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
        char options[200];
        snprintf(options, sizeof options, "\"filter\":\"%s\"", asked[i].filter);
        json_t *j = ask(options, 200);
        if (number(json_object_get(j, "total"), "items") != asked[i].matches) TEST_FAIL("%s: %lld", asked[i].filter, number(json_object_get(j, "total"), "items"));
        json_decref(j);
    }
    json_t *j = ask("\"facets\":[\"sku\"]", 200);
    const json_t *f = field(j, 0);
    CHECK_INT(number(f, "distinct"), LARGE - 1);
    CHECK_INT(number(value(f, 0), "value"), INT64_C(9007199254740993));
    CHECK_INT(number(value(f, 0), "count"), 2);
    CHECK_INT(number(value(f, 4), "value"), INT64_MAX);
    json_decref(j);
    for (int i = 0; i < LARGE; i++) {
        char path[80];
        snprintf(path, sizeof path, "/v1/catalogues/own/items/l%d", i);
        CHECK_INT(fx_status(API_DELETE, path, NULL, NULL, 0), 204);
    }
}

static void test_total(void)
{
    json_t *j = ask("\"limit\":3", 200);
    const json_t *total = json_object_get(j, "total");
    CHECK_INT(number(total, "items"), N);
    CHECK(json_is_true(json_object_get(total, "exact")));
    CHECK(json_object_get(j, "facets") == NULL && json_object_get(j, "explain") == NULL);
    json_decref(j);
    j = ask("\"limit\":3,\"filter\":\"brand = b1\"", 200);
    CHECK_INT(number(json_object_get(j, "total"), "items"), 13);
    json_decref(j);
    static const char itself[] = "{\"item\":\"i01\",\"filter\":\"brand = b1\"}";
    int st;
    j = fx_json(API_POST, SEARCH, "application/json", itself, sizeof itself - 1, &st);
    CHECK_INT(number(json_object_get(j, "total"), "items"), 12); /* without itself */
    json_decref(j);
}

static void test_facets(void)
{
    json_t *j = ask("\"limit\":2,\"facets\":[\"brand\",{\"field\":\"tags\",\"limit\":2},{\"field\":\"price\",\"ranges\":[{\"to\":10},{\"from\":10,\"to\":20},{\"from\":20},{}]},"
                    "\"new\",\"size\",\"missing\"]",
                    200);
    const json_t *fs = json_object_get(j, "facets"), *f;
    CHECK_STR(fx_str(fs, "over"), "matches");
    CHECK_INT(number(fs, "items"), N);
    CHECK(json_is_true(json_object_get(fs, "exact")));
    f = field(j, 0);
    CHECK_STR(fx_str(f, "field"), "brand");
    CHECK_INT(json_array_size(json_object_get(f, "values")), 3);
    CHECK_STR(fx_str(value(f, 0), "value"), "b0");
    CHECK_INT(number(value(f, 0), "count"), 14);
    CHECK_STR(fx_str(value(f, 1), "value"), "b1"); /* as often as b2: in order */
    CHECK_INT(number(f, "distinct"), 3);
    f = field(j, 1);
    CHECK_INT(json_array_size(json_object_get(f, "values")), 2);
    CHECK_STR(fx_str(value(f, 0), "value"), "all");
    CHECK_INT(number(value(f, 0), "count"), N);
    CHECK_INT(number(f, "distinct"), 6);
    f = field(j, 2);
    CHECK_INT(number(range(f, 0), "count"), 10);
    CHECK_INT(number(range(f, 1), "count"), 10);
    CHECK_INT(number(range(f, 2), "count"), 20);
    CHECK_INT(number(range(f, 3), "count"), N);
    CHECK_NEAR(json_number_value(json_object_get(f, "max")), 39.5, 0);
    CHECK(json_object_get(range(f, 0), "from") == NULL && number(range(f, 1), "from") == 10);
    f = field(j, 3);
    CHECK(json_is_false(json_object_get(value(f, 0), "value")) && number(value(f, 0), "count") == 30);
    f = field(j, 4);
    CHECK_INT(number(f, "with"), 10);
    CHECK_INT(number(f, "without"), N - 10);
    CHECK_INT(json_integer_value(json_object_get(value(f, 0), "value")), 42);
    f = field(j, 5);
    CHECK_INT(number(f, "without"), N);
    CHECK_INT(json_array_size(json_object_get(f, "values")), 0);
    json_decref(j);

    /* The same from the query string, with a filter. */
    j = ask("\"filter\":\"price < 20\",\"facets\":[\"brand\",{\"field\":\"price\",\"ranges\":[{\"to\":10},{\"from\":10,\"to\":20},{\"from\":20}]},{\"field\":\"tags\",\"limit\":1}]", 200);
    json_t *k = ask_query("filter=price+%3C+20&facets=brand,price:..10%7C10..20%7C20..,tags:1", 200);
    CHECK(json_equal(json_object_get(j, "facets"), json_object_get(k, "facets")));
    CHECK_INT(number(json_object_get(j, "facets"), "items"), 20);
    json_decref(j);
    json_decref(k);
}

/* i00 is the query itself, i01 a little less alike, and so on. */
static void test_top(void)
{
    json_t *j = ask("\"limit\":2,\"facets\":[\"brand\"],\"facets_top\":7", 200);
    const json_t *fs = json_object_get(j, "facets"), *f = field(j, 0);
    CHECK_STR(fx_str(fs, "over"), "top");
    CHECK(json_is_false(json_object_get(fs, "exact")));
    CHECK_INT(number(fs, "items"), 7);
    CHECK_INT(number(value(f, 0), "count"), 3);
    CHECK_INT(number(value(f, 1), "count"), 2);
    CHECK_INT(json_array_size(json_object_get(j, "results")), 2);
    char more[600];
    snprintf(more, sizeof more, "\"limit\":2,\"facets\":[\"brand\"],\"facets_top\":7,\"page_token\":\"%s\"", fx_str(j, "next_page_token"));
    json_t *k = ask(more, 200); /* of the second page they are the same */
    CHECK(json_equal(fs, json_object_get(k, "facets")));
    CHECK_STR(fx_str(json_array_get(json_object_get(k, "results"), 0), "id"), "i02");
    json_decref(k);
    json_decref(j);
    j = ask_query("facets=brand&facets_top=1000", 200);
    CHECK_INT(number(json_object_get(j, "facets"), "items"), N);
    json_decref(j);
}

static void test_explain(void)
{
    json_t *j = ask("\"explain\":true,\"filter\":\"brand = b1\"", 200);
    const json_t *e = json_object_get(j, "explain");
    CHECK_STR(fx_str(e, "plan"), "scan");
    CHECK_INT(number(e, "matches"), 13);
    CHECK(number(e, "distances") >= 13);
    CHECK(json_is_integer(json_object_get(e, "segments")) && json_is_number(json_object_get(e, "find_ms")));
    json_decref(j);
    j = ask_query("explain=true", 200);
    CHECK_STR(fx_str(json_object_get(j, "explain"), "plan"), "flat");
    CHECK_INT(number(json_object_get(j, "explain"), "matches"), N);
    json_decref(j);
}

static void test_refused(void)
{
    static const struct {
        const char *options, *says;
    } wrong[] = {
        {"\"facets\":\"brand\"", "not a list"},
        {"\"facets\":[3]", "facets[0] is neither"},
        {"\"facets\":[\"\"]", "0 bytes"},
        {"\"facets\":[{\"limit\":3}]", "field is not a string"},
        {"\"facets\":[\"a\",{\"field\":\"b\",\"limit\":0}]", "facets[1].limit is 0"},
        {"\"facets\":[{\"field\":\"b\",\"limit\":1001}]", "1 to 1000"},
        {"\"facets\":[{\"field\":\"b\",\"limit\":1.5}]", "limit is 1.5"},
        {"\"facets\":[{\"field\":\"b\",\"ranges\":[]}]", "ranges is not a list"},
        {"\"facets\":[{\"field\":\"b\",\"ranges\":[{\"from\":3,\"to\":3}]}]", "ranges[0] is empty"},
        {"\"facets\":[{\"field\":\"b\",\"ranges\":[{\"from\":\"x\"}]}]", "from and to are numbers"},
        {"\"facets\":[{\"field\":\"b\",\"ranges\":[{\"until\":3}]}]", "until"},
        {"\"facets\":[{\"field\":\"b\",\"ranges\":[{}],\"limit\":3}]", "limit and ranges"},
        {"\"facets\":[{\"field\":\"b\",\"kind\":3}]", "kind"},
        {"\"facets_top\":0", "facets_top is 0"},
        {"\"facets_top\":1001", "1 to 1000"},
        {"\"explain\":1", "explain is not true or false"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        json_t *j = ask(wrong[i].options, 400);
        CHECK_CONTAINS(fx_str(j, "detail"), wrong[i].says);
        json_decref(j);
    }
    static const char *const queries[] = {"facets=,", "facets=a:0", "facets=a:x", "facets=a:5..4", "facets=a:1..2%7C", "facets=a:..x", "facets_top=x", "explain=yes",
                                          "facets=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a"};
    for (size_t i = 0; i < sizeof queries / sizeof *queries; i++) json_decref(ask_query(queries[i], 400));
    char many[2000] = "\"facets\":[{\"field\":\"b\",\"ranges\":[{}";
    for (int i = 0; i < 64; i++) strcat(many, ",{}");
    strcat(many, "]}]");
    json_t *j = ask(many, 400);
    CHECK_INT(number(j, "limit"), 64);
    json_decref(j);
}

int main(void)
{
    idx_opts opts = {.no_background = true};
    fx_start(&opts, NULL);
    fill();
    test_large();
    test_total();
    test_facets();
    test_top();
    test_explain();
    test_refused();
    fx_stop();
    fx_end();
    return test_end();
}
