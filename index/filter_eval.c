/* filter_eval.c: a filter over the attributes in memory -> the items that match, as words: leaves paint postings and ranges
 * into them, inner nodes compute word by word. A million items are 125 KB: some microseconds a node. */
#include "filter_tree.h"

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

static void paint_numbers(const idx_filter *f, const idx_sorted *s, idx_bits out)
{
    uint32_t from = 0, to = idx_sorted_count(s);
    if (is_equality(f) || f->op == IDX_OP_GE) from = idx_sorted_rank(s, f->number, false);
    if (f->op == IDX_OP_GT) from = idx_sorted_rank(s, f->number, true);
    if (is_equality(f) || f->op == IDX_OP_LE) to = idx_sorted_rank(s, f->number, true);
    if (f->op == IDX_OP_LT) to = idx_sorted_rank(s, f->number, false);
    idx_sorted_range(s, from, to, out);
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
    if (f->is_number && d->sorted != NULL) paint_numbers(f, d->sorted, out);
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
    uint64_t packed = f->is_number ? idx_column_get(&d->number, item) : 0;
    double number = packed != 0 ? idx_number_unpack(packed) : 0;
    bool holds = packed != 0 && in_order(f->op, number < f->number ? -1 : number > f->number);
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
