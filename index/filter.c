/* filter.c: a recursive-descent parser with bounded depth, and evaluation by bitmap algebra. */
#include "filter.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_NODES = 512 };

typedef enum { N_AND, N_OR, N_NOT, N_CMP } node_kind;
typedef enum { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE, OP_HAS } op;

struct idx_filter {
    node_kind kind;
    struct idx_filter *a, *b;
    char *field, *text;
    op op;
    bool is_number, is_bool, truth, bare_star;
    double number;
};

typedef struct {
    const char *start, *at;
    int depth, nodes;
    idx_error *err;
    idx_status st;
} parser;

void idx_filter_free(idx_filter *f)
{
    if (f == NULL) return;
    idx_filter_free(f->a);
    idx_filter_free(f->b);
    free(f->field);
    free(f->text);
    free(f);
}

static idx_filter *fail(parser *p, const char *expected)
{
    if (p->st == IDX_OK)
        p->st = idx_fail(p->err, IDX_EFILTER, "filter, column %td: %s", p->at - p->start + 1, expected);
    return NULL;
}

static idx_filter *node(parser *p, node_kind kind, idx_filter *a, idx_filter *b)
{
    idx_filter *f = NULL;
    if (++p->nodes > MAX_NODES) fail(p, "the filter has more than 512 parts");
    else if ((f = calloc(1, sizeof *f)) == NULL) p->st = idx_fail(p->err, IDX_ENOMEM, "no memory for a filter");
    if (f == NULL) {
        idx_filter_free(a);
        idx_filter_free(b);
        return NULL;
    }
    f->kind = kind;
    f->a = a;
    f->b = b;
    return f;
}

static void blanks(parser *p)
{
    while (*p->at == ' ' || *p->at == '\t' || *p->at == '\n' || *p->at == '\r') p->at++;
}

static bool word_byte(char c) { return isalnum((unsigned char)c) || c == '_' || c == '.' || c == '-' || (c & 0x80) != 0; }

static bool keyword(parser *p, const char *word)
{
    size_t n = strlen(word);
    if (strncmp(p->at, word, n) != 0 || word_byte(p->at[n])) return false;
    p->at += n;
    blanks(p);
    return true;
}

static bool peek_keyword(const parser *p, const char *word)
{
    size_t n = strlen(word);
    return strncmp(p->at, word, n) == 0 && !word_byte(p->at[n]);
}

static char *quoted(parser *p)
{
    char quote = *p->at;
    const char *begin = p->at++;
    char *out = malloc(strlen(p->at) + 1), *to = out;
    if (out == NULL) return (void)fail(p, "no memory"), NULL;
    while (*p->at != 0 && *p->at != quote) {
        if (*p->at == '\\' && p->at[1] != 0) p->at++;
        *to++ = *p->at++;
    }
    *to = 0;
    if (*p->at == 0) {
        p->at = begin;
        free(out);
        return (void)fail(p, "the quote is not closed"), NULL;
    }
    p->at++;
    return out;
}

static char *word(parser *p, bool stars)
{
    size_t n = 0;
    while (word_byte(p->at[n]) || (stars && p->at[n] == '*')) n++;
    char *w = strndup(p->at, n);
    p->at += n;
    return w;
}

static bool read_op(parser *p, op *out)
{
    static const struct {
        const char *text;
        op op;
    } ops[] = {{"!=", OP_NE}, {"<=", OP_LE}, {">=", OP_GE}, {"=", OP_EQ}, {"<", OP_LT}, {">", OP_GT}, {":", OP_HAS}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strncmp(p->at, ops[i].text, strlen(ops[i].text)) == 0) {
            *out = ops[i].op;
            p->at += strlen(ops[i].text);
            return true;
        }
    return false;
}

static bool read_value(parser *p, idx_filter *f)
{
    if (*p->at == '"' || *p->at == '\'') return (f->text = quoted(p)) != NULL;
    const char *begin = p->at;
    bool sign = *p->at == '+';
    if (sign) p->at++;
    f->text = word(p, true);
    if (f->text == NULL || f->text[0] == 0) {
        p->at = begin;
        fail(p, "a value is expected: a quoted string, a number, true, false or *");
        return false;
    }
    char *end;
    f->number = strtod(f->text, &end);
    f->is_number = *end == 0 && (isdigit((unsigned char)f->text[0]) || f->text[0] == '-' || f->text[0] == '.');
    f->is_bool = strcmp(f->text, "true") == 0 || strcmp(f->text, "false") == 0;
    f->truth = f->text[0] == 't';
    f->bare_star = strcmp(f->text, "*") == 0;
    return true;
}

static idx_filter *restriction(parser *p)
{
    if (*p->at != '"' && *p->at != '\'' && (!word_byte(*p->at) || isdigit((unsigned char)*p->at)))
        return fail(p, *p->at == 0 ? "an attribute is expected, the filter ends" : "an attribute's name is expected");
    idx_filter *f = node(p, N_CMP, NULL, NULL);
    if (f == NULL) return NULL;
    f->field = *p->at == '"' || *p->at == '\'' ? quoted(p) : word(p, false);
    blanks(p);
    if (f->field == NULL || (f->field[0] == 0 && p->st == IDX_OK) || !read_op(p, &f->op)) {
        if (p->st == IDX_OK) fail(p, "one of = != < <= > >= : is expected after the attribute");
        idx_filter_free(f);
        return NULL;
    }
    blanks(p);
    if (!read_value(p, f)) {
        idx_filter_free(f);
        return NULL;
    }
    blanks(p);
    return f;
}

static idx_filter *expression(parser *p);

static idx_filter *term(parser *p)
{
    bool negate = false;
    if (keyword(p, "NOT")) negate = true;
    else if (*p->at == '-') {
        negate = true;
        p->at++;
        blanks(p);
    }
    idx_filter *f;
    if (*p->at == '(') {
        if (++p->depth > MAX_DEPTH) return fail(p, "parentheses nest deeper than 64");
        p->at++;
        blanks(p);
        f = expression(p);
        if (f != NULL && *p->at != ')') {
            idx_filter_free(f);
            return fail(p, "a closing parenthesis is expected");
        }
        if (f == NULL) return NULL;
        p->at++;
        p->depth--;
        blanks(p);
    } else {
        f = restriction(p);
    }
    return f != NULL && negate ? node(p, N_NOT, f, NULL) : f;
}

static idx_filter *factor(parser *p)
{
    idx_filter *f = term(p);
    while (f != NULL && keyword(p, "OR")) {
        idx_filter *g = term(p);
        if (g == NULL) {
            idx_filter_free(f);
            return NULL;
        }
        f = node(p, N_OR, f, g);
    }
    return f;
}

static idx_filter *expression(parser *p)
{
    idx_filter *f = factor(p);
    while (f != NULL && *p->at != 0 && *p->at != ')') {
        if (peek_keyword(p, "OR")) break; /* cannot happen: factor() took it */
        keyword(p, "AND");
        idx_filter *g = factor(p);
        if (g == NULL) {
            idx_filter_free(f);
            return NULL;
        }
        f = node(p, N_AND, f, g);
    }
    return f;
}

idx_status idx_filter_parse(const char *text, idx_filter **out, idx_error *err)
{
    if (strlen(text) > IDX_MAX_FILTER_BYTES)
        return idx_fail(err, IDX_EFILTER, "filter has %zu bytes, the limit is %d", strlen(text), IDX_MAX_FILTER_BYTES);
    parser p = {.start = text, .at = text, .err = err};
    blanks(&p);
    idx_filter *f = expression(&p);
    if (f != NULL && *p.at != 0) {
        idx_filter_free(f);
        f = fail(&p, *p.at == ')' ? "a parenthesis is closed that was not opened" : "the filter should end here");
    }
    if (f == NULL) return p.st != IDX_OK ? p.st : idx_fail(err, IDX_EFILTER, "filter, column 1: it cannot be read");
    *out = f;
    return IDX_OK;
}

idx_status idx_filter_check(const char *filter, idx_error *err)
{
    idx_filter *f;
    idx_status st = idx_filter_parse(filter, &f, err);
    if (st == IDX_OK) idx_filter_free(f);
    return st;
}

/* ---- evaluation ------------------------------------------------------------------------------------------ */

static void or_into(roaring_bitmap_t *r, roaring_bitmap_t *more)
{
    if (r != NULL && more != NULL) roaring_bitmap_or_inplace(r, more);
    if (more != NULL) roaring_bitmap_free(more);
}

static roaring_bitmap_t *compare(const idx_filter *f, const idx_attrs *a)
{
    static const idx_cmp cmp[] = {IDX_CMP_EQ, IDX_CMP_EQ, IDX_CMP_LT, IDX_CMP_LE, IDX_CMP_GT, IDX_CMP_GE, IDX_CMP_EQ};
    bool equality = f->op == OP_EQ || f->op == OP_NE || f->op == OP_HAS;
    if (f->op == OP_HAS && f->bare_star) return idx_attrs_has_field(a, f->field);
    size_t n = strlen(f->text);
    bool wild = equality && n > 0 && (f->text[0] == '*' || f->text[n - 1] == '*');
    roaring_bitmap_t *r = f->is_number ? idx_attrs_number(a, f->field, cmp[f->op], f->number) : roaring_bitmap_create();
    if (f->is_bool && equality) or_into(r, idx_attrs_bool(a, f->field, f->truth));
    if (equality || !f->is_number) or_into(r, idx_attrs_string(a, f->field, cmp[f->op], f->text, wild, true, f->op == OP_HAS));
    if (f->op != OP_NE || r == NULL) return r;
    roaring_bitmap_t *there = idx_attrs_has_field(a, f->field);
    if (there != NULL) roaring_bitmap_andnot_inplace(there, r);
    roaring_bitmap_free(r);
    return there;
}

static roaring_bitmap_t *eval(const idx_filter *f, const idx_attrs *a)
{
    if (f->kind == N_CMP) return compare(f, a);
    roaring_bitmap_t *x = eval(f->a, a), *y;
    if (x == NULL) return NULL;
    if (f->kind == N_NOT) {
        y = roaring_bitmap_andnot(idx_attrs_items(a), x);
        roaring_bitmap_free(x);
        return y;
    }
    if ((y = eval(f->b, a)) != NULL) {
        if (f->kind == N_AND) roaring_bitmap_and_inplace(x, y);
        else roaring_bitmap_or_inplace(x, y);
        roaring_bitmap_free(y);
        return x;
    }
    roaring_bitmap_free(x);
    return NULL;
}

idx_status idx_filter_eval(const idx_filter *f, const idx_attrs *a, roaring_bitmap_t **items, idx_error *err)
{
    roaring_bitmap_t *r = eval(f, a);
    if (r == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a filter");
    *items = r;
    return IDX_OK;
}
