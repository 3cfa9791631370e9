/* The filter language against a plain evaluator: random expressions over random documents, which are set, replaced and removed in
 * any order; and what is kept in step by those writes against a rebuild. filter_random_test ROUNDS [SEED] for longer runs. */
#include "../../index/filter.h"
#include "test.h"

#include <jansson.h>

enum { ITEMS = 300 };
static uint64_t seed = 1;
static unsigned below(unsigned n) { return (unsigned)(test_rand(&seed) % n); }

static const char *const fields[] = {"brand", "price", "tags", "new", "a.b", "\xc3\xa9t\xc3\xa9", "rare"};
static const char *const texts[] = {"Acme", "acme", "A*e", "Zeta Shoes", "", "42", "true", "10", "1e1", "x", "a \"b\" 'c'", "*", "back\\slash", "ABC", "abcabc", "caf\xc3\xa9"};
static const double numbers[] = {0, -0.0, 1, 10, 10.5, -3, 42, 1e9, 79.99, -1e-3};
#define N_OF(a) (unsigned)(sizeof(a) / sizeof *(a))

/* Around where doubles begin to leave integers out, and at the end of them. */
static int64_t random_large(void)
{
    static const int64_t large[] = {INT64_C(1) << 53, INT64_C(1) << 60, -(INT64_C(1) << 53), INT64_MAX - 4, INT64_MIN + 4};
    return large[below(N_OF(large))] + ((int64_t)below(9) - 4);
}

/* ---- documents ---------------------------------------------------------------------------------------------- */

static json_t *random_value(void)
{
    switch (below(6)) {
    case 0: return json_real(numbers[below(N_OF(numbers))]);
    case 1: return json_integer(below(3) == 0 ? random_large() : (json_int_t)below(50) - 5);
    case 2: return json_boolean(below(2));
    case 3: {
        json_t *list = json_array();
        for (unsigned n = below(4); n > 0; n--) json_array_append_new(list, json_string(texts[below(N_OF(texts))]));
        return list;
    }
    default: return json_string(texts[below(N_OF(texts))]);
    }
}

static json_t *random_document(void)
{
    json_t *o = json_object();
    for (unsigned f = 0; f < N_OF(fields); f++)
        if (below(f == 6 ? 40 : 2) == 0) json_object_set_new(o, fields[f], random_value());
    return o;
}

/* ---- expressions ----------------------------------------------------------------------------------------------- */

typedef struct expr {
    int kind; /* 0 and, 1 or, 2 not, 3 comparison */
    struct expr *a, *b;
    const char *field;
    int op; /* = != < <= > >= : */
    int value; /* 0 text, 1 number, 2 boolean, 3 the bare star, 4 a pattern */
    char text[64], pattern[64]; /* pattern: \1 stands for any text */
    long double number; /* holds int64, too */
    bool truth;
} expr;

static expr *random_expr(int depth)
{
    expr *e = calloc(1, sizeof *e);
    REQUIRE(e != NULL);
    e->kind = depth > 0 ? (int)below(5) : 3;
    if (e->kind > 3) e->kind = 3;
    if (e->kind < 3) e->a = random_expr(depth - 1);
    if (e->kind < 2) e->b = random_expr(depth - 1);
    if (e->kind < 3) return e;
    e->field = fields[below(N_OF(fields))];
    if (below(30) == 0) e->field = "missing";
    e->op = (int)below(7);
    e->value = (int)below(5);
    if (e->value == 3 && e->op != 6) e->value = 0;
    if ((e->value == 2 || e->value == 4) && e->op >= 2 && e->op <= 5) e->value = 1;
    e->number = below(2) ? (long double)numbers[below(N_OF(numbers))] : below(3) == 0 ? (long double)random_large() : (long double)below(50) - 5;
    e->truth = below(2);
    snprintf(e->text, sizeof e->text, "%s", texts[below(N_OF(texts))]);
    if (e->value == 4) { /* pieces of a text, any text between them */
        const char *t = texts[below(N_OF(texts))];
        size_t n = 0, stars = 0;
        for (const char *p = t; *p; p++) {
            if (below(3) == 0) e->pattern[n++] = 1, stars++;
            if (below(3) != 0) e->pattern[n++] = *p;
        }
        if (stars == 0) e->pattern[n++] = 1;
        e->pattern[n] = 0;
    }
    return e;
}

static void expr_free(expr *e)
{
    if (e == NULL) return;
    expr_free(e->a);
    expr_free(e->b);
    free(e);
}

/* ---- in writing ----------------------------------------------------------------------------------------------------- */

static void add(char *out, const char *s) { strcat(out, s); }
static void blank(char *out) { add(out, below(3) == 0 ? "" : below(4) == 0 ? " \t" : " "); }

static void write_quoted(char *out, const char *s)
{
    char quote[2] = {below(2) ? '"' : '\'', 0};
    add(out, quote);
    for (; *s; s++) {
        if (*s == quote[0] || *s == '\\' || *s == '*') add(out, "\\");
        char c[2] = {*s == 1 ? '*' : *s, 0};
        add(out, c);
    }
    add(out, quote);
}

/* A bare number is a text, too: e->text keeps how it was spelt. */
static void write_number(char *out, expr *e)
{
    if (e->number < -0x1p52L || e->number > 0x1p52L) snprintf(e->text, sizeof e->text, "%.0Lf", e->number);
    else snprintf(e->text, sizeof e->text, below(2) ? "%.17Lg" : "%.17Le", e->number);
    if (below(10) == 0 && e->number >= 0 && e->text[0] != '-') add(out, "+");
    add(out, e->text);
}

static void write_expr(char *out, expr *e, bool inside)
{
    static const char *const ops[] = {"=", "!=", "<", "<=", ">", ">=", ":"};
    if (e->kind == 3) {
        if (strcmp(e->field, "brand") == 0 && below(2)) write_quoted(out, e->field);
        else add(out, e->field);
        blank(out);
        add(out, ops[e->op]);
        blank(out);
        if (e->value == 0) write_quoted(out, e->text);
        if (e->value == 1) write_number(out, e);
        if (e->value == 2) add(out, e->truth ? "true" : "false");
        if (e->value == 3) add(out, "*");
        if (e->value == 4) write_quoted(out, e->pattern);
        return;
    }
    if (e->kind == 2) {
        add(out, below(2) ? "NOT " : "-");
        bool plain = e->a->kind == 3 && below(2);
        if (!plain) add(out, "(");
        write_expr(out, e->a, false);
        if (!plain) add(out, ")");
        return;
    }
    if (inside) add(out, "(");
    write_expr(out, e->a, true);
    add(out, e->kind == 1 ? " OR " : below(3) ? " AND " : " ");
    write_expr(out, e->b, true);
    if (inside) add(out, ")");
}

/* ---- plain evaluation -------------------------------------------------------------------------------------------------- */

static bool fits(const char *p, const char *v)
{
    if (*p == 0) return *v == 0;
    if (*p == 1) return fits(p + 1, v) || (*v != 0 && fits(p, v + 1));
    return *p == *v && fits(p + 1, v + 1);
}

static bool by_order(int op, int order)
{
    return op == 2 ? order < 0 : op == 3 ? order <= 0 : op == 4 ? order > 0 : op == 5 ? order >= 0 : order == 0;
}

static bool text_holds(const expr *e, const char *v)
{
    if (e->value == 4) return fits(e->pattern, v);
    if (e->value == 2) return strcmp(v, e->truth ? "true" : "false") == 0;
    if (e->value == 1 && e->op >= 2 && e->op <= 5) return false; /* a number has no order among texts */
    return by_order(e->op, strcmp(v, e->text));
}

static bool holds(const expr *e, const json_t *o)
{
    const json_t *v = json_object_get(o, e->field);
    if (v == NULL) return false;
    if (e->value == 3) return true;
    bool equality = e->op < 2 || e->op == 6, yes = false;
    if (json_is_string(v)) yes = text_holds(e, json_string_value(v));
    if (json_is_number(v)) {
        long double d = json_is_integer(v) ? (long double)json_integer_value(v) : (long double)json_real_value(v);
        yes = e->value == 1 && by_order(e->op, d < e->number ? -1 : d > e->number);
    }
    if (json_is_boolean(v)) yes = e->value == 2 && equality && json_is_true(v) == e->truth;
    if (json_is_array(v) && e->op == 6) {
        size_t i;
        json_t *x;
        json_array_foreach(v, i, x) yes = yes || text_holds(e, json_string_value(x));
    }
    return e->op == 1 ? !yes : yes;
}

/* In AIP-160 OR binds tighter than AND; write_expr puts parentheses around everything inside, so that the tree is what was meant. */
static bool eval(const expr *e, const json_t *o)
{
    if (e->kind == 0) return eval(e->a, o) && eval(e->b, o);
    if (e->kind == 1) return eval(e->a, o) || eval(e->b, o);
    if (e->kind == 2) return !eval(e->a, o);
    return holds(e, o);
}

/* ---- the test ------------------------------------------------------------------------------------------------------------ */

static json_t *docs[ITEMS];

static void change(idx_attrs *a)
{
    uint32_t i = below(ITEMS);
    json_decref(docs[i]);
    docs[i] = below(4) == 0 ? NULL : random_document();
    if (docs[i] == NULL) {
        idx_attrs_remove(a, i);
        return;
    }
    char *text = json_dumps(docs[i], 0);
    idx_error err = {0};
    if (idx_attrs_validate(text, &err) != IDX_OK || idx_attrs_set(a, i, text, &err) != IDX_OK) TEST_FAIL("%s: %s", text, err.text);
    free(text);
}

static void rebuild(idx_attrs **a)
{
    idx_attrs *b = idx_attrs_new();
    REQUIRE(b != NULL);
    for (uint32_t k = 0; k < ITEMS; k++) {
        uint32_t i = k * 7 % ITEMS;
        if (docs[i] == NULL) continue;
        char *text = json_dumps(docs[i], 0);
        CHECK(idx_attrs_agree(*a, i, text));
        REQUIRE(idx_attrs_set(b, i, text, NULL) == IDX_OK);
        free(text);
    }
    CHECK_INT(idx_attrs_count(*a), idx_attrs_count(b));
    const char *why = idx_attrs_check(*a);
    if (why != NULL) TEST_FAIL("%s", why);
    CHECK(idx_attrs_check(b) == NULL);
    idx_attrs_free(*a);
    *a = b;
}

static void ask(const idx_attrs *a)
{
    expr *e = random_expr((int)below(5));
    char text[16384] = "";
    idx_filter *f = NULL;
    idx_bits m;
    idx_error err = {0};
    write_expr(text, e, false);
    if (strlen(text) <= IDX_MAX_FILTER_BYTES) {
        test_checks++;
        if (idx_filter_parse(text, &f, &err) != IDX_OK || idx_filter_eval(f, a, &m, &err) != IDX_OK) {
            TEST_FAIL("%s: %s", text, err.text);
            exit(1);
        }
        for (uint32_t i = 0; i < ITEMS; i++) {
            bool got = i / 64 < m.n_words && idx_bit(m.w, i), want = docs[i] != NULL && eval(e, docs[i]);
            CHECK(idx_filter_holds(f, a, i) == want);
            if (got != want) {
                char *doc = docs[i] != NULL ? json_dumps(docs[i], 0) : NULL;
                TEST_FAIL("%s says %d of %s", text, got, doc != NULL ? doc : "nothing");
                free(doc);
                break;
            }
        }
        for (uint32_t i = ITEMS; i < m.n_words * 64; i++) CHECK(!idx_bit(m.w, i));
        idx_bits_free(&m);
    }
    idx_filter_free(f);
    expr_free(e);
}

int main(int argc, char **argv)
{
    long rounds = argc > 1 ? atol(argv[1]) : 20000;
    seed = argc > 2 ? (uint64_t)atoll(argv[2]) : 1;
    idx_attrs *a = idx_attrs_new();
    REQUIRE(a != NULL);
    for (int i = 0; i < ITEMS * 3; i++) change(a);
    for (long r = 0; r < rounds && test_failures < 5; r++) {
        change(a);
        ask(a);
        if (r % 500 == 0) rebuild(&a);
    }
    rebuild(&a);
    for (uint32_t i = 0; i < ITEMS; i++) {
        idx_attrs_remove(a, i);
        json_decref(docs[i]);
    }
    CHECK_INT(idx_attrs_count(a), 0);
    CHECK(idx_attrs_check(a) == NULL);
    idx_attrs_free(a);
    return test_end();
}
