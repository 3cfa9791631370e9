/* facet.c: see facet.h. Few items are asked one by one what they have; for many the values are asked who has them, or the sorted
 * numbers are walked: whichever reads less. */
#include "facet.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_VALUES = 10, FEW_ITEMS = 2000 };

typedef struct {
    const idx_attrs *a;
    const idx_field *f;
    idx_bits items;
    uint64_t n;
    uint32_t limit;
    idx_facet_counts *out;
} counting;

static bool in(const counting *c, uint32_t item) { return item / 64 < c->items.n_words && idx_bit(c->items.w, item); }

/* ---- the most frequent ------------------------------------------------------------------------------------- */

static int by_value(const idx_value_count *x, const idx_value_count *y)
{
    if (x->kind != y->kind) return x->kind < y->kind ? -1 : 1;
    if (x->kind == IDX_VALUE_TEXT) return strcmp(x->text, y->text);
    if (x->kind == IDX_VALUE_BOOL) return (int)x->truth - (int)y->truth;
    return idx_number_order((idx_number){x->number, x->rest}, (idx_number){y->number, y->rest});
}

static int by_count(const void *a, const void *b)
{
    const idx_value_count *x = a, *y = b;
    return x->count > y->count ? -1 : x->count < y->count ? 1 : by_value(x, y);
}

/* Keeps the best `limit` in a heap with the worst on top; texts are borrowed until the end. */
static void offer(counting *c, idx_value_count v)
{
    idx_value_count *h = c->out->values;
    size_t n = c->out->n_values, i;
    c->out->distinct++;
    if (n < c->limit) {
        for (i = n; i > 0 && by_count(&h[(i - 1) / 2], &v) < 0; i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
        h[i] = v;
        c->out->n_values++;
        return;
    }
    if (by_count(&v, &h[0]) > 0) return;
    for (i = 0;;) {
        size_t k = 2 * i + 1;
        if (k >= n) break;
        if (k + 1 < n && by_count(&h[k], &h[k + 1]) < 0) k++;
        if (by_count(&v, &h[k]) > 0) break;
        h[i] = h[k];
        i = k;
    }
    h[i] = v;
}

int64_t idx_value_whole(const idx_value_count *v) { return idx_number_int((idx_number){v->number, v->rest}); }

/* ---- texts ----------------------------------------------------------------------------------------------------- */

static void offer_text(counting *c, uint32_t value, uint64_t count)
{
    if (count > 0) offer(c, (idx_value_count){.kind = IDX_VALUE_TEXT, .text = (char *)(uintptr_t)c->f->values.v[value].text, .count = count});
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Few items, very many values: the values that occur are sorted. */
static bool texts_sorted(counting *c)
{
    uint32_t *seen = NULL;
    size_t n = 0, cap = 0;
    idx_bits_iter it = idx_bits_begin(c->items);
    for (uint32_t item; idx_bits_next(&it, &item);) {
        uint64_t text = idx_column_get(&c->f->text, item), at = idx_column_get(&c->f->list, item);
        uint32_t m = 0;
        const uint32_t *list = at != 0 ? idx_attrs_list(c->a, at, &m) : NULL;
        if (n + m + 1 > cap) {
            cap = cap * 2 + m + 256;
            uint32_t *more = realloc(seen, cap * sizeof *seen);
            if (more == NULL) {
                free(seen);
                return false;
            }
            seen = more;
        }
        if (text != 0) seen[n++] = (uint32_t)text - 1;
        for (uint32_t i = 0; i < m; i++) seen[n++] = list[i];
    }
    if (n > 0) qsort(seen, n, sizeof *seen, by_number);
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && seen[k] == seen[i]; k++) {}
        offer_text(c, seen[i], k - i);
    }
    free(seen);
    return true;
}

static bool texts_counted(counting *c)
{
    uint32_t *count = calloc(c->f->values.n + 1u, sizeof *count);
    if (count == NULL) return false;
    bool lists = c->f->list.used > 0;
    idx_bits_iter it = idx_bits_begin(c->items);
    for (uint32_t item; idx_bits_next(&it, &item);) {
        uint64_t text = idx_column_get(&c->f->text, item), at = lists ? idx_column_get(&c->f->list, item) : 0;
        if (text != 0) count[text - 1]++;
        if (at == 0) continue;
        uint32_t m;
        const uint32_t *list = idx_attrs_list(c->a, at, &m);
        for (uint32_t i = 0; i < m; i++) count[list[i]]++;
    }
    for (uint32_t i = 0; i < c->f->values.n; i++) offer_text(c, i, count[i]);
    free(count);
    return true;
}

static bool count_texts(counting *c)
{
    const idx_values *d = &c->f->values;
    if (d->live == 0) return true;
    if (c->n < idx_attrs_count(c->a)) return c->n < d->n / 8 ? texts_sorted(c) : texts_counted(c);
    for (uint32_t i = 0; i < d->n; i++) /* all items: the postings know */
        if (d->v[i].text != NULL) offer_text(c, i, idx_posting_count(&d->v[i].scalar) + (d->listed != NULL ? idx_posting_count(&d->listed[i]) : 0));
    return true;
}

/* ---- numbers ------------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    return idx_number_order(*(const idx_number *)a, *(const idx_number *)b);
}

static void offer_number(counting *c, idx_number n, uint64_t count)
{
    if (count > 0) offer(c, (idx_value_count){.kind = IDX_VALUE_NUMBER, .number = n.d, .rest = n.rest, .count = count});
}

/* Is it cheaper to ask the items for their numbers than to walk the sorted ones? Those know nothing of rests. */
static bool few(const counting *c) { return c->n < FEW_ITEMS || c->n < idx_sorted_count(c->f->sorted) / 8 || c->f->rest.used > 0; }

/* The numbers of few items, in order; malloc. */
static bool numbers_of(const counting *c, idx_number **out, size_t *n)
{
    idx_number *d = malloc((c->n + 1) * sizeof *d);
    if (d == NULL) return false;
    *n = 0;
    idx_bits_iter it = idx_bits_begin(c->items);
    for (uint32_t item; idx_bits_next(&it, &item);) {
        if (idx_column_get(&c->f->number, item) != 0) d[(*n)++] = idx_field_number(c->f, item);
    }
    if (*n > 0) qsort(d, *n, sizeof *d, by_size);
    *out = d;
    return true;
}

static bool few_numbers(counting *c)
{
    idx_number *d;
    size_t n;
    if (!numbers_of(c, &d, &n)) return false;
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i; k < n && idx_number_order(d[k], d[i]) == 0; k++) {}
        offer_number(c, d[i], k - i);
    }
    free(d);
    return true;
}

typedef struct {
    counting *c;
    double number;
    uint64_t count;
} run;

static bool next_number(void *ctx, uint32_t item, double number)
{
    run *r = ctx;
    if (!in(r->c, item)) return true;
    if (r->count > 0 && number > r->number) {
        offer_number(r->c, (idx_number){.d = r->number}, r->count);
        r->count = 0;
    }
    r->number = number;
    r->count++;
    return true;
}

static bool count_numbers(counting *c)
{
    if (c->f->sorted == NULL || idx_sorted_count(c->f->sorted) == 0) return true;
    if (few(c)) return few_numbers(c);
    run r = {.c = c};
    idx_sorted_each(c->f->sorted, false, next_number, &r);
    offer_number(c, (idx_number){.d = r.number}, r.count);
    return true;
}

static bool first_in(void *ctx, uint32_t item, double number)
{
    run *r = ctx;
    if (!in(r->c, item)) return true;
    r->number = number;
    r->count = 1;
    return false;
}

static void extremes(counting *c)
{
    if (c->f->sorted == NULL || idx_sorted_count(c->f->sorted) == 0) return;
    if (few(c)) {
        idx_bits_iter it = idx_bits_begin(c->items);
        for (uint32_t item; idx_bits_next(&it, &item);) {
            uint64_t packed = idx_column_get(&c->f->number, item);
            double d = idx_number_unpack(packed);
            if (packed == 0) continue;
            if (!c->out->has_numbers || d < c->out->min) c->out->min = d;
            if (!c->out->has_numbers || d > c->out->max) c->out->max = d;
            c->out->has_numbers = true;
        }
        return;
    }
    run least = {.c = c}, most = {.c = c};
    idx_sorted_each(c->f->sorted, false, first_in, &least);
    idx_sorted_each(c->f->sorted, true, first_in, &most);
    c->out->has_numbers = least.count > 0;
    c->out->min = least.number;
    c->out->max = most.number;
}

/* ---- booleans, ranges ------------------------------------------------------------------------------------------------ */

static bool members(const counting *c, const roaring_bitmap_t *r, uint64_t *n)
{
    idx_bits b;
    if (!idx_bits_new(&b, c->items.n_words * 64)) return false;
    idx_bits_or_roaring(b, r);
    idx_bits_and(b, c->items);
    *n = idx_bits_count(b.w, b.n_words);
    idx_bits_free(&b);
    return true;
}

static bool count_booleans(counting *c)
{
    for (int i = 0; i < 2; i++) {
        uint64_t n = 0;
        if (c->f->truth[i] != NULL && !members(c, c->f->truth[i], &n)) return false;
        if (n > 0) offer(c, (idx_value_count){.kind = IDX_VALUE_BOOL, .truth = i, .count = n});
    }
    return true;
}

static bool count_range(const counting *c, const idx_range *r, uint64_t *n)
{
    const idx_sorted *s = c->f->sorted;
    uint32_t from = idx_sorted_rank(s, r->from, false), to = idx_sorted_rank(s, r->to, false);
    *n = 0;
    if (from >= to) return true;
    idx_bits b;
    if (!idx_bits_new(&b, c->items.n_words * 64)) return false;
    idx_sorted_range(s, from, to, b);
    idx_bits_and(b, c->items);
    *n = idx_bits_count(b.w, b.n_words);
    idx_bits_free(&b);
    return true;
}

static size_t rank_in(const idx_number *d, size_t n, double v) /* how many are below v */
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (d[mid].d < v) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

static bool count_ranges(counting *c, const idx_facet *facet)
{
    if ((c->out->ranges = calloc(facet->n_ranges + 1, sizeof *c->out->ranges)) == NULL) return false;
    if (c->f == NULL || c->f->sorted == NULL) return true;
    idx_number *d = NULL;
    size_t n = 0;
    bool ok = c->n >= FEW_ITEMS || numbers_of(c, &d, &n);
    for (size_t i = 0; ok && i < facet->n_ranges; i++) {
        const idx_range *r = &facet->ranges[i];
        if (d == NULL) ok = count_range(c, r, &c->out->ranges[i]);
        else if (r->from < r->to) c->out->ranges[i] = rank_in(d, n, r->to) - rank_in(d, n, r->from);
    }
    free(d);
    return ok;
}

/* ---- one facet --------------------------------------------------------------------------------------------------------- */

static bool own_texts(idx_facet_counts *out)
{
    for (size_t i = 0; i < out->n_values; i++)
        if (out->values[i].kind == IDX_VALUE_TEXT && (out->values[i].text = strdup(out->values[i].text)) == NULL) {
            out->n_values = i;
            return false;
        }
    return true;
}

idx_status idx_facet_count(const idx_attrs *a, idx_bits items, uint64_t n, const idx_facet *facet, idx_facet_counts *out, idx_error *err)
{
    *out = (idx_facet_counts){0};
    counting c = {a, idx_attrs_field(a, facet->field), items, n, facet->limit != 0 ? facet->limit : DEFAULT_VALUES, out};
    bool ok = c.f == NULL || members(&c, c.f->there, &out->with);
    out->without = n - out->with;
    if (ok && facet->ranges != NULL) {
        ok = count_ranges(&c, facet);
    } else if (ok && (ok = (out->values = calloc(c.limit + 1u, sizeof *out->values)) != NULL) && c.f != NULL) {
        ok = count_texts(&c) && count_numbers(&c) && count_booleans(&c);
        qsort(out->values, out->n_values, sizeof *out->values, by_count);
        ok = own_texts(out) && ok;
    }
    if (ok && c.f != NULL) extremes(&c);
    return ok ? IDX_OK : idx_fail(err, IDX_ENOMEM, "no memory for facets");
}

void idx_facet_fini(idx_facet_counts *c)
{
    for (size_t i = 0; i < c->n_values; i++) free(c->values[i].text);
    free(c->values);
    free(c->ranges);
    *c = (idx_facet_counts){0};
}

idx_status idx_facets_check(const idx_facet *facets, size_t n, idx_error *err)
{
    if (n > IDX_MAX_FACETS) return idx_fail(err, IDX_EINVAL, "%zu facets are asked for, the limit is %d", n, IDX_MAX_FACETS);
    for (size_t i = 0; i < n; i++) {
        const idx_facet *f = &facets[i];
        if (f->limit > IDX_MAX_FACET_VALUES)
            return idx_fail(err, IDX_EINVAL, "facet %.70s: limit is %" PRIu32 ", 1 to %d is allowed", f->field, f->limit, IDX_MAX_FACET_VALUES);
        if (f->n_ranges > IDX_MAX_FACET_RANGES)
            return idx_fail(err, IDX_EINVAL, "facet %.70s has %zu ranges, the limit is %d", f->field, f->n_ranges, IDX_MAX_FACET_RANGES);
        for (size_t k = 0; k < f->n_ranges; k++)
            if (!(f->ranges[k].from < f->ranges[k].to))
                return idx_fail(err, IDX_EINVAL, "facet %.70s: range %zu is empty: from must be below to", f->field, k + 1);
    }
    return IDX_OK;
}
