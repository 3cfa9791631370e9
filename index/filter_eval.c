/* filter_eval.c: a filter over the attributes in memory -> the items that match, as words: leaves paint postings and ranges
 * into them, inner nodes compute word by word. A million items are 125 KB: some microseconds a node. */
#include "filter_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Greedy from the left: the first place of every piece between stars leaves most room for the rest. */
bool idx_filter_fits(const idx_filter *f, const char *v)
{
    size_t len = strlen(v), n = strlen(f->text), at = 0;
    for (uint16_t i = 0; i <= f->n_stars; i++) {
        size_t begin = i > 0 ? f->stars[i - 1] + 1u : 0, end = i < f->n_stars ? f->stars[i] : n, k = end - begin;
        const char *piece = f->text + begin;
        if (i == 0 || i == f->n_stars) { /* held at the start, or at the end */
            if (i == f->n_stars) {
                if (len - at < k || (i == 0 && len != k)) return false;
                return memcmp(v + len - k, piece, k) == 0;
            }
            if (len < k || memcmp(v, piece, k) != 0) return false;
            at = k;
            continue;
        }
        const char *found = k > 0 ? memmem(v + at, len - at, piece, k) : v + at;
        if (found == NULL) return false;
        at = (size_t)(found - v) + k;
    }
    return true;
}

static bool in_order(idx_filter_op op, int order)
{
    switch (op) {
    case IDX_OP_LT: return order < 0;
    case IDX_OP_LE: return order <= 0;
    case IDX_OP_GT: return order > 0;
    case IDX_OP_GE: return order >= 0;
    default: return order == 0;
    }
}

static bool is_equality(const idx_filter *f) { return f->op == IDX_OP_EQ || f->op == IDX_OP_NE || f->op == IDX_OP_HAS; }

static void paint_value(const idx_filter *f, const idx_values *d, uint32_t value, idx_bits out)
{
    idx_posting_or(&d->v[value].scalar, out);
    if (f->op == IDX_OP_HAS && d->listed != NULL) idx_posting_or(&d->listed[value], out);
}

static bool text_holds(const idx_filter *f, const char *text) { return is_equality(f) ? idx_filter_fits(f, text) : in_order(f->op, strcmp(text, f->text)); }

static void paint_texts(const idx_filter *f, const idx_values *d, idx_bits out)
{
    if (is_equality(f) && f->n_stars == 0) {
        uint32_t value = idx_values_find(d, f->text);
        if (value != UINT32_MAX) paint_value(f, d, value, out);
        return;
    }
    for (uint32_t i = 0; i < d->n; i++) {
        if (d->v[i].text != NULL && text_holds(f, d->v[i].text)) paint_value(f, d, i, out);
    }
}

typedef struct {
    const idx_filter *f;
    const idx_field *d;
    idx_bits out;
} ties;

static bool keep_tie(void *ctx, uint32_t item, double number)
{
    const ties *t = ctx;
    if (!in_order(t->f->op, idx_number_order((idx_number){number, idx_field_rest(t->d, item)}, t->f->number))) idx_bit_clear(t->out.w, item);
    return true;
}

/* Integers that share their nearest double with the filter's number are few, and looked at one by one. */
static void paint_numbers(const idx_filter *f, const idx_field *d, idx_bits out)
{
    const idx_sorted *s = d->sorted;
    uint32_t from = 0, to = idx_sorted_count(s), below = idx_sorted_rank(s, f->number.d, false), not_above = idx_sorted_rank(s, f->number.d, true);
    bool tied = f->number.rest != 0 || (d->rest.used > 0 && fabs(f->number.d) >= 0x1p53);
    if (is_equality(f) || f->op == IDX_OP_GE || f->op == IDX_OP_GT) from = f->op == IDX_OP_GT && !tied ? not_above : below;
    if (is_equality(f) || f->op == IDX_OP_LE || f->op == IDX_OP_LT) to = f->op == IDX_OP_LT && !tied ? below : not_above;
    idx_sorted_range(s, from, to, out);
    ties t = {f, d, out};
    if (tied) idx_sorted_run(s, below, not_above, keep_tie, &t);
}

/* out: clear. */
static bool compare(const idx_filter *f, const idx_attrs *a, idx_bits out)
{
    const idx_field *d = idx_attrs_field(a, f->field);
    if (d == NULL) return true;
    if (f->op == IDX_OP_HAS && f->bare_star) {
        idx_bits_or_roaring(out, d->there);
        return true;
    }
    if (f->is_number && d->sorted != NULL) paint_numbers(f, d, out);
    if (f->is_bool && d->truth[f->truth] != NULL) idx_bits_or_roaring(out, d->truth[f->truth]);
    if (is_equality(f) || !f->is_number) paint_texts(f, &d->values, out);
    if (f->op != IDX_OP_NE) return true;
    idx_bits there;
    if (!idx_bits_new(&there, out.n_words * 64)) return false;
    idx_bits_or_roaring(there, d->there);
    idx_bits_andnot(there, out.w, out.n_words);
    memcpy(out.w, there.w, out.n_words * sizeof *out.w);
    idx_bits_free(&there);
    return true;
}

/* out: clear. */
static bool eval(const idx_filter *f, const idx_attrs *a, idx_bits out)
{
    if (f->kind == IDX_NODE_CMP) return compare(f, a, out);
    if (!eval(f->a, a, out)) return false;
    if (f->kind == IDX_NODE_NOT) {
        idx_bits all = idx_attrs_items(a);
        for (uint32_t i = 0; i < out.n_words; i++) out.w[i] = all.w[i] & ~out.w[i];
        return true;
    }
    idx_bits b;
    if (!idx_bits_new(&b, out.n_words * 64)) return false;
    bool ok = eval(f->b, a, b);
    if (f->kind == IDX_NODE_AND) idx_bits_and(out, b);
    else idx_bits_or(out, b);
    idx_bits_free(&b);
    return ok;
}

idx_status idx_filter_eval(const idx_filter *f, const idx_attrs *a, idx_bits *items, idx_error *err)
{
    idx_bits out;
    if (!idx_bits_new(&out, idx_attrs_items(a).n_words * 64)) return idx_fail(err, IDX_ENOMEM, "no memory for a filter");
    if (!eval(f, a, out)) {
        idx_bits_free(&out);
        return idx_fail(err, IDX_ENOMEM, "no memory for a filter");
    }
    *items = out;
    return IDX_OK;
}

/* ---- one item -------------------------------------------------------------------------------------------------------- */

static bool any_text_holds(const idx_filter *f, const idx_attrs *a, const idx_field *d, uint32_t item)
{
    uint64_t value = idx_column_get(&d->text, item), list = f->op == IDX_OP_HAS ? idx_column_get(&d->list, item) : 0;
    if (value != 0 && text_holds(f, d->values.v[value - 1].text)) return true;
    uint32_t n = 0;
    const uint32_t *values = list != 0 ? idx_attrs_list(a, list, &n) : NULL;
    for (uint32_t i = 0; i < n; i++)
        if (text_holds(f, d->values.v[values[i]].text)) return true;
    return false;
}

static bool comparison_holds(const idx_filter *f, const idx_attrs *a, uint32_t item)
{
    const idx_field *d = idx_attrs_field(a, f->field);
    if (d == NULL || !roaring_bitmap_contains(d->there, item)) return false;
    if (f->op == IDX_OP_HAS && f->bare_star) return true;
    bool has = f->is_number && idx_column_get(&d->number, item) != 0;
    bool holds = has && in_order(f->op, idx_number_order(idx_field_number(d, item), f->number));
    if (f->is_bool && d->truth[f->truth] != NULL) holds = holds || roaring_bitmap_contains(d->truth[f->truth], item);
    if (is_equality(f) || !f->is_number) holds = holds || any_text_holds(f, a, d, item);
    return f->op == IDX_OP_NE ? !holds : holds;
}

bool idx_filter_holds(const idx_filter *f, const idx_attrs *a, uint32_t item)
{
    idx_bits all = idx_attrs_items(a);
    switch (f->kind) {
    case IDX_NODE_CMP: return comparison_holds(f, a, item);
    case IDX_NODE_NOT: return item / 64 < all.n_words && idx_bit(all.w, item) && !idx_filter_holds(f->a, a, item);
    case IDX_NODE_AND: return idx_filter_holds(f->a, a, item) && idx_filter_holds(f->b, a, item);
    default: return idx_filter_holds(f->a, a, item) || idx_filter_holds(f->b, a, item);
    }
}
