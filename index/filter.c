/* filter.c: a recursive-descent parser with bounded depth. filter_eval.c computes with what it makes. */
#include "filter_tree.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 64, MAX_NODES = 512 };

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
    free(f->stars);
    free(f);
}

bool idx_filter_star(idx_filter *f, size_t at)
{
    uint16_t *s = realloc(f->stars, (f->n_stars + 1u) * sizeof *s);
    if (s == NULL) return false;
    s[f->n_stars++] = (uint16_t)at;
    f->stars = s;
    return true;
}

static idx_filter *fail(parser *p, const char *expected)
{
    if (p->st == IDX_OK)
        p->st = idx_fail(p->err, IDX_EFILTER, "filter, column %td: %s", p->at - p->start + 1, expected);
    return NULL;
}

static idx_filter *beyond(parser *p, int limit, const char *what)
{
    if (p->st == IDX_OK)
        p->st = idx_fail_field(p->err, IDX_EFILTER, "filter", (uint64_t)limit, "filter, column %td: %s %d", p->at - p->start + 1, what, limit);
    return NULL;
}

static idx_filter *node(parser *p, idx_node kind, idx_filter *a, idx_filter *b)
{
    idx_filter *f = NULL;
    if (++p->nodes > MAX_NODES) beyond(p, MAX_NODES, "its parts are more than");
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

/* stars: where it holds a * that was not escaped; NULL = not asked. */
static char *quoted(parser *p, idx_filter *stars)
{
    char quote = *p->at;
    const char *begin = p->at++;
    char *out = malloc(strlen(p->at) + 1), *to = out;
    if (out == NULL) return (void)fail(p, "no memory"), NULL;
    while (*p->at != 0 && *p->at != quote) {
        if (*p->at == '\\' && p->at[1] != 0) p->at++;
        else if (*p->at == '*' && stars != NULL && !idx_filter_star(stars, (size_t)(to - out))) p->st = idx_fail(p->err, IDX_ENOMEM, "no memory for a filter");
        *to++ = *p->at++;
    }
    *to = 0;
    if (*p->at == 0) {
        p->at = begin;
        free(out);
        return (void)fail(p, "the quote is not closed"), NULL;
    }
    p->at++;
    if (p->st == IDX_OK) return out;
    free(out);
    return NULL;
}

static char *word(parser *p)
{
    size_t n = 0;
    while (word_byte(p->at[n])) n++;
    char *w = strndup(p->at, n);
    p->at += n;
    return w;
}

static size_t digits(const char *s) { return strspn(s, "0123456789"); }

/* Bytes of a decimal number that s begins with, 0 = none. strtod would also take 0x10, inf and nan. */
static size_t number_first(const char *s)
{
    size_t n = *s == '-' || *s == '+', whole = digits(s + n), part = 0;
    n += whole;
    if (s[n] == '.') part = digits(s + n + 1), n += 1 + part;
    if (whole + part == 0) return 0;
    if (s[n] == 'e' || s[n] == 'E') {
        size_t sign = s[n + 1] == '-' || s[n + 1] == '+', exponent = digits(s + n + 1 + sign);
        if (exponent > 0) n += 1 + sign + exponent;
    }
    return n;
}

/* Bytes of a decimal number at s, 0 = none: 10cm is a word. */
static size_t number(const char *s)
{
    size_t n = number_first(s);
    return word_byte(s[n]) || s[n] == '*' ? 0 : n;
}

/* "price > 0AND x = 1": to the AIP's grammar 0AND is a text, as it wants blanks around AND; who wrote it forgot one, and would get an order of
 * texts without a word. In quotes it is a text. */
static bool blank_forgotten(parser *p)
{
    static const char *const words[] = {"AND", "OR", "NOT"};
    size_t n = number_first(p->at);
    for (size_t i = 0; n > 0 && i < sizeof words / sizeof *words; i++) {
        size_t k = strlen(words[i]);
        if (strncmp(p->at + n, words[i], k) != 0 || word_byte(p->at[n + k]) || p->at[n + k] == '*') continue;
        p->st = idx_fail(p->err, IDX_EFILTER, "filter, column %td: %s follows the number %.*s without a blank; to mean a text, put it in quotes",
                         p->at + n - p->start + 1, words[i], n < 40 ? (int)n : 40, p->at);
        return true;
    }
    return false;
}

static bool read_op(parser *p, idx_filter_op *out)
{
    static const struct {
        const char *text;
        idx_filter_op op;
    } ops[] = {{"!=", IDX_OP_NE}, {"<=", IDX_OP_LE}, {">=", IDX_OP_GE}, {"=", IDX_OP_EQ}, {"<", IDX_OP_LT}, {">", IDX_OP_GT}, {":", IDX_OP_HAS}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (strncmp(p->at, ops[i].text, strlen(ops[i].text)) == 0) {
            *out = ops[i].op;
            p->at += strlen(ops[i].text);
            return true;
        }
    return false;
}

/* An integer is exact as far as those of attributes are, and what is beyond int64 as well as a double is. */
static idx_number value_of(const char *s, size_t n)
{
    size_t sign = *s == '-' || *s == '+';
    errno = 0;
    int64_t v = digits(s + sign) == n - sign ? strtoll(s, NULL, 10) : 0;
    return digits(s + sign) == n - sign && errno == 0 ? idx_number_whole(v) : (idx_number){.d = strtod(s, NULL)};
}

static bool bare_value(parser *p, idx_filter *f)
{
    if (blank_forgotten(p)) return false;
    size_t n = number(p->at);
    f->is_number = n > 0;
    if (f->is_number) f->number = value_of(p->at, n);
    else
        for (; word_byte(p->at[n]) || p->at[n] == '*'; n++)
            if (p->at[n] == '*' && !idx_filter_star(f, n)) p->st = idx_fail(p->err, IDX_ENOMEM, "no memory for a filter");
    bool plus = f->is_number && *p->at == '+'; /* +5 is also the text 5 */
    if (n > 0 && (f->text = strndup(p->at + plus, n - plus)) == NULL) p->st = idx_fail(p->err, IDX_ENOMEM, "no memory for a filter");
    if (n == 0) fail(p, "a value is expected: a quoted string, a number, true, false or *");
    if (p->st != IDX_OK) return false;
    f->is_bool = strcmp(f->text, "true") == 0 || strcmp(f->text, "false") == 0;
    f->truth = f->text[0] == 't';
    f->bare_star = strcmp(f->text, "*") == 0;
    bool order = f->op == IDX_OP_LT || f->op == IDX_OP_LE || f->op == IDX_OP_GT || f->op == IDX_OP_GE;
    if (order && (f->is_bool || f->bare_star)) {
        fail(p, "true, false and * have no order: a number or a string is expected here");
        return false;
    }
    p->at += n;
    return true;
}

static bool read_value(parser *p, idx_filter *f)
{
    if (*p->at == '"' || *p->at == '\'') return (f->text = quoted(p, f)) != NULL;
    return bare_value(p, f);
}

/* Not quoted, a name begins with neither a digit nor a minus, and is no word of the language: "--price = 3" and "NOT NOT price = 3"
 * would otherwise ask for attributes that nobody has. */
static idx_filter *restriction(parser *p)
{
    if (peek_keyword(p, "AND") || peek_keyword(p, "OR") || peek_keyword(p, "NOT"))
        return fail(p, "an attribute's name is expected; AND, OR and NOT are names in quotes only");
    if (*p->at != '"' && *p->at != '\'' && (!word_byte(*p->at) || *p->at == '-' || isdigit((unsigned char)*p->at)))
        return fail(p, *p->at == 0 ? "an attribute is expected, the filter ends" : "an attribute's name is expected");
    idx_filter *f = node(p, IDX_NODE_CMP, NULL, NULL);
    if (f == NULL) return NULL;
    f->field = *p->at == '"' || *p->at == '\'' ? quoted(p, NULL) : word(p);
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
        if (++p->depth > MAX_DEPTH) return beyond(p, MAX_DEPTH, "parentheses nest deeper than");
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
    return f != NULL && negate ? node(p, IDX_NODE_NOT, f, NULL) : f;
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
        f = node(p, IDX_NODE_OR, f, g);
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
        f = node(p, IDX_NODE_AND, f, g);
    }
    return f;
}

idx_status idx_filter_parse(const char *text, idx_filter **out, idx_error *err)
{
    if (strlen(text) > IDX_MAX_FILTER_BYTES)
        return idx_fail_field(err, IDX_EFILTER, "filter", IDX_MAX_FILTER_BYTES, "filter has %zu bytes, the limit is %d", strlen(text), IDX_MAX_FILTER_BYTES);
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
