/* attrs_file.c: see attrs_file.h.
 *
 * ATTRIBUTES FILE (derived.h), little endian, each part at a multiple of 8:
 *   header  "LKATTR\1\0", catalogue i64, generation u64, stamp i64
 *   pieces  bytes u32 (0 = no more), items u32, then for each item
 *             rowid i64, n u8, then n attributes: field u32, kind u8, then
 *             TEXT value u32 | NUMBER f64 | WHOLE i64 (of those that are no f64) | FALSE, TRUE | LIST n u8, value u32 each
 *   fields  count u32, 0 u32; for each field
 *             name bytes u32, values u32 (one more than the largest number), texts u32, text bytes u32; the name;
 *             [texts] number u32; [texts] hash u32; the texts, each with a NUL
 * Numbers of values are those of the memory it was written from. An item that changed while it was written may name a value that is not
 * there any more, or another's now: the reader leaves such items out. */
#include "attrs_file.h"
#include "attrs_priv.h"
#include "derived.h"

#include <stdlib.h>
#include <string.h>

enum { PIECE = 512, TEXT = 's', NUMBER = 'n', WHOLE = 'i', NO = 'f', YES = 't', LIST = 'l' };

static const char magic[8] = {'L', 'K', 'A', 'T', 'T', 'R', 1, 0};

typedef struct {
    char magic[8];
    int64_t catalogue;
    uint64_t generation;
    int64_t stamp;
} header;

typedef struct {
    uint32_t name_bytes, values, texts, text_bytes;
} field_header;

/* ---- writing ------------------------------------------------------------------------------------------------ */

typedef struct {
    uint8_t *p;
    size_t n, cap;
    bool failed;
} buffer;

static void put(buffer *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        size_t cap = b->cap * 2 + n + 4096;
        uint8_t *more = realloc(b->p, cap);
        if (more == NULL) {
            b->failed = true;
            return;
        }
        b->p = more;
        b->cap = cap;
    }
    memcpy(b->p + b->n, p, n);
    b->n += n;
}

static void put_u8(buffer *b, uint8_t v) { put(b, &v, sizeof v); }
static void put_u32(buffer *b, uint32_t v) { put(b, &v, sizeof v); }

static void put_attribute(buffer *b, const idx_attrs *a, uint32_t field, uint32_t item)
{
    const idx_field *f = a->fields[field];
    uint64_t text = idx_column_get(&f->text, item), number = idx_column_get(&f->number, item), at = idx_column_get(&f->list, item);
    put_u32(b, field);
    if (text != 0) {
        put_u8(b, TEXT);
        put_u32(b, (uint32_t)text - 1);
    } else if (number != 0 && idx_field_rest(f, item) != 0) {
        int64_t v = idx_number_int(idx_field_number(f, item));
        put_u8(b, WHOLE);
        put(b, &v, sizeof v);
    } else if (number != 0) {
        double d = idx_number_unpack(number);
        put_u8(b, NUMBER);
        put(b, &d, sizeof d);
    } else if (f->truth[1] != NULL && roaring_bitmap_contains(f->truth[1], item)) {
        put_u8(b, YES);
    } else if (f->truth[0] != NULL && roaring_bitmap_contains(f->truth[0], item)) {
        put_u8(b, NO);
    } else {
        uint32_t n = 0;
        const uint32_t *values = at != 0 ? idx_attrs_list(a, at, &n) : NULL;
        put_u8(b, LIST);
        put_u8(b, (uint8_t)n);
        if (n > 0) put(b, values, n * sizeof *values);
    }
}

static bool put_item(buffer *b, const idx_attrs *a, const idx_attrs_writer *w, uint32_t item)
{
    uint64_t s = idx_column_get(&a->shape_of, item);
    int64_t rowid = s != 0 ? w->rowid(w->ctx, item) : 0;
    if (rowid == 0) return false;
    const idx_shape *sh = &a->shapes[s - 1];
    put(b, &rowid, sizeof rowid);
    put_u8(b, (uint8_t)sh->n);
    for (uint32_t i = 0; i < sh->n; i++) put_attribute(b, a, sh->fields[i], item);
    return true;
}

/* The items from *at on, some hundred of them; false behind the last. */
static bool write_piece(idx_derived_out *o, buffer *b, const idx_attrs *a, const idx_attrs_writer *w, uint32_t *at)
{
    uint32_t head[2] = {0, 0};
    b->n = 0;
    w->hold(w->ctx);
    uint32_t end = a->shape_of.top;
    for (uint32_t i = 0; i < PIECE && *at < end; i++, ++*at) head[1] += put_item(b, a, w, *at);
    w->let_go(w->ctx);
    head[0] = (uint32_t)b->n;
    if (b->n > 0) {
        idx_derived_put(o, head, sizeof head);
        idx_derived_put(o, b->p, b->n);
    }
    return *at < end;
}

typedef struct {
    buffer number, hash, text;
    uint32_t n;
} texts;

static void put_texts(texts *t, const idx_values *d, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to && i < d->n; i++) {
        if (d->v[i].text == NULL) continue;
        put_u32(&t->number, i);
        put_u32(&t->hash, d->v[i].hash);
        put(&t->text, d->v[i].text, strlen(d->v[i].text) + 1);
        t->n++;
    }
}

static bool write_field(idx_derived_out *o, const idx_attrs *a, const idx_attrs_writer *w, uint32_t field)
{
    texts t = {.n = 0};
    field_header h = {0};
    const idx_field *f = NULL;
    for (uint32_t at = 0, end = 1; at < end; at += PIECE) {
        w->hold(w->ctx);
        f = a->fields[field]; /* a field stays where it is; the list of them may move */
        end = h.values = f->values.n;
        put_texts(&t, &f->values, at, at + PIECE);
        w->let_go(w->ctx);
    }
    h.name_bytes = (uint32_t)strlen(f->name);
    h.texts = t.n;
    h.text_bytes = (uint32_t)t.text.n;
    bool ok = !t.number.failed && !t.hash.failed && !t.text.failed && t.text.n <= UINT32_MAX;
    idx_derived_put(o, &h, sizeof h);
    idx_derived_put(o, f->name, h.name_bytes);
    idx_derived_put(o, t.number.p, t.number.n);
    idx_derived_put(o, t.hash.p, t.hash.n);
    idx_derived_put(o, t.text.p, t.text.n);
    free(t.number.p);
    free(t.hash.p);
    free(t.text.p);
    return ok;
}

idx_status idx_attrs_write(const idx_attrs *a, const char *path, const idx_attrs_key *key, const idx_attrs_writer *w, idx_error *err)
{
    idx_derived_out o;
    buffer b = {0};
    uint32_t at = 0, end[2] = {0, 0};
    header h = {.catalogue = key->catalogue, .generation = key->generation, .stamp = key->stamp};
    memcpy(h.magic, magic, sizeof magic);
    idx_status st = idx_derived_create(&o, path, err);
    if (st != IDX_OK) return st;
    idx_derived_put(&o, &h, sizeof h);
    while (write_piece(&o, &b, a, w, &at) && !b.failed && !o.failed) {}
    idx_derived_put(&o, end, sizeof end);
    w->hold(w->ctx);
    end[0] = a->n_fields;
    w->let_go(w->ctx);
    idx_derived_put(&o, end, sizeof end);
    bool ok = !b.failed;
    for (uint32_t i = 0; i < end[0] && ok; i++) ok = write_field(&o, a, w, i);
    free(b.p);
    if (!ok) st = idx_fail(err, IDX_ENOMEM, "no memory to write attributes");
    idx_status closed = idx_derived_close(&o, ok, err);
    return st == IDX_OK ? closed : st;
}

/* ---- reading: the parts ------------------------------------------------------------------------------------------ */

struct idx_attrs_file {
    idx_derived_in in;
    char path[4200];
};

idx_status idx_attrs_file_open(const char *path, idx_attrs_file **out, idx_attrs_key *key, idx_error *err)
{
    idx_attrs_file *f = calloc(1, sizeof *f);
    if (f == NULL) return idx_fail(err, IDX_ENOMEM, "no memory to read attributes");
    snprintf(f->path, sizeof f->path, "%s", path);
    idx_status st = idx_derived_open(&f->in, path, err);
    const header *h = st == IDX_OK ? idx_derived_take(&f->in, sizeof *h) : NULL;
    if (st == IDX_OK && (h == NULL || memcmp(h->magic, magic, sizeof magic) != 0)) st = idx_fail(err, IDX_ECORRUPT, "%s is of something else", path);
    if (st != IDX_OK) {
        idx_attrs_file_close(f);
        return st;
    }
    *key = (idx_attrs_key){h->catalogue, h->generation, h->stamp};
    *out = f;
    return IDX_OK;
}

void idx_attrs_file_close(idx_attrs_file *f)
{
    if (f == NULL) return;
    idx_derived_unmap(&f->in);
    free(f);
}

/* ---- reading: items ---------------------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *p, *end;
} cursor;

static bool take(cursor *c, void *to, size_t n)
{
    if ((size_t)(c->end - c->p) < n) return false;
    memcpy(to, c->p, n);
    c->p += n;
    return true;
}

typedef struct { /* items on their way into a bitmap: many at once cost a fraction */
    roaring_bitmap_t **to;
    uint32_t n, item[128];
} gather;

enum { THERE, FALSES, TRUES, GATHERS };

typedef struct {
    idx_attrs *a;
    gather (*into)[GATHERS]; /* [a->n_fields] */
    uint32_t most, last_shape;
} loader;

static bool pour(gather *g)
{
    if (g->n == 0) return true;
    if (*g->to == NULL && (*g->to = roaring_bitmap_create()) == NULL) return false;
    roaring_bitmap_add_many(*g->to, g->n, g->item);
    g->n = 0;
    return true;
}

static bool drop_in(gather *g, uint32_t item)
{
    g->item[g->n++] = item;
    return g->n < sizeof g->item / sizeof *g->item || pour(g);
}

/* One attribute of an item (UINT32_MAX: of one that is left out). */
static bool read_attribute(loader *l, cursor *c, uint32_t item, uint32_t *field)
{
    uint32_t value, list[IDX_MAX_LIST];
    uint8_t kind, n = 0;
    double d;
    int64_t v;
    if (!take(c, field, sizeof *field) || !take(c, &kind, sizeof kind) || *field >= l->a->n_fields) return false;
    idx_field *f = l->a->fields[*field];
    bool skip = item == UINT32_MAX;
    if (!skip && !drop_in(&l->into[*field][THERE], item)) return false;
    switch (kind) {
    case TEXT: return take(c, &value, sizeof value) && (skip || (value < f->values.n && f->values.v[value].text != NULL && idx_column_set(&f->text, item, value + 1ull)));
    case NUMBER: return take(c, &d, sizeof d) && (skip || (d == d && idx_column_set(&f->number, item, idx_number_pack(d))));
    case WHOLE: return take(c, &v, sizeof v) && (skip || idx_field_set_number(f, item, idx_number_whole(v)));
    case NO: return skip || drop_in(&l->into[*field][FALSES], item);
    case YES: return skip || drop_in(&l->into[*field][TRUES], item);
    case LIST: break;
    default: return false;
    }
    if (!take(c, &n, sizeof n) || n > IDX_MAX_LIST || !take(c, list, n * sizeof *list)) return false;
    if (skip || n == 0) return true;
    for (uint8_t i = 0; i < n; i++)
        if (list[i] >= f->values.n || f->values.v[list[i]].text == NULL) return false;
    uint32_t at = idx_attrs_list_new(l->a, list, n);
    return at != 0 && idx_column_set(&f->list, item, at);
}

static bool read_item(loader *l, cursor *c, uint32_t (*number)(void *, int64_t), void *ctx)
{
    int64_t rowid;
    uint8_t n;
    uint32_t fields[UINT8_MAX];
    if (!take(c, &rowid, sizeof rowid) || !take(c, &n, sizeof n)) return false;
    uint32_t item = number(ctx, rowid);
    if (item != UINT32_MAX && (item >= l->most || idx_column_get(&l->a->shape_of, item) != 0)) return false; /* twice */
    for (uint8_t i = 0; i < n; i++)
        if (!read_attribute(l, c, item, &fields[i]) || (i > 0 && fields[i] <= fields[i - 1])) return false;
    if (item == UINT32_MAX) return true;
    const idx_shape *last = l->last_shape != UINT32_MAX ? &l->a->shapes[l->last_shape] : NULL; /* items that come together have the same names */
    if (last == NULL || last->n != n || memcmp(last->fields, fields, n * sizeof *fields) != 0) l->last_shape = idx_attrs_make_shape(l->a, fields, n);
    return idx_attrs_shape_set(l->a, item, l->last_shape);
}

static bool read_pieces(loader *l, idx_derived_in *in, uint32_t (*number)(void *, int64_t), void *ctx)
{
    const uint32_t *head;
    while ((head = idx_derived_take(in, 2 * sizeof *head)) != NULL && head[0] != 0) {
        cursor c = {idx_derived_take(in, head[0]), NULL};
        if (c.p == NULL) return false;
        c.end = c.p + head[0];
        for (uint32_t i = 0; i < head[1]; i++)
            if (!read_item(l, &c, number, ctx)) return false;
        if (c.p != c.end) return false;
    }
    return head != NULL;
}

/* ---- reading: fields ------------------------------------------------------------------------------------------------------ */

static bool read_texts(idx_values *d, const field_header *h, const uint32_t *number, const uint32_t *hash, const char *text)
{
    char *kept = malloc(h->text_bytes + 1u);
    if (kept == NULL) return false;
    memcpy(kept, text, h->text_bytes);
    kept[h->text_bytes] = 0;
    d->kept = kept;
    d->kept_end = kept + h->text_bytes + 1u;
    if (!idx_values_reserve(d, h->values)) return false;
    for (uint32_t i = 0, at = 0; i < h->texts; i++) {
        if (at >= h->text_bytes || !idx_values_place(d, number[i], kept + at, hash[i])) return false;
        at += (uint32_t)strlen(kept + at) + 1;
    }
    return true;
}

static bool read_fields(idx_attrs *a, idx_derived_in *in)
{
    const uint32_t *count = idx_derived_take(in, 2 * sizeof *count);
    for (uint32_t i = 0; count != NULL && i < count[0]; i++) {
        const field_header *h = idx_derived_take(in, sizeof *h);
        if (h == NULL || h->texts > h->values) return false;
        const char *name = idx_derived_take(in, h->name_bytes);
        const uint32_t *number = idx_derived_take(in, (size_t)h->texts * 4), *hash = idx_derived_take(in, (size_t)h->texts * 4);
        const char *text = idx_derived_take(in, h->text_bytes);
        char copy[256];
        if (name == NULL || number == NULL || hash == NULL || text == NULL || h->name_bytes >= sizeof copy) return false;
        memcpy(copy, name, h->name_bytes);
        copy[h->name_bytes] = 0;
        if (idx_attrs_make_field(a, copy) != i || !read_texts(&a->fields[i]->values, h, number, hash, text)) return false;
    }
    return count != NULL;
}

/* Skips the pieces, for the fields behind them. */
static bool skip_pieces(idx_derived_in *in)
{
    const uint32_t *head;
    while ((head = idx_derived_take(in, 2 * sizeof *head)) != NULL && head[0] != 0)
        if (idx_derived_take(in, head[0]) == NULL) return false;
    return head != NULL;
}

/* ---- reading: what follows from the columns ---------------------------------------------------------------------------------- */

/* Counts, then lays the items of each value side by side: they come in ascending order. */
static bool fill_postings(const idx_attrs *a, idx_field *f, bool listed)
{
    const idx_column *c = listed ? &f->list : &f->text;
    idx_values *d = &f->values;
    if (c->used == 0) return true;
    if (listed && (d->listed = calloc(d->cap + 1u, sizeof *d->listed)) == NULL) return false;
    uint32_t *start = calloc(d->n + 2u, sizeof *start), *items = NULL;
    for (int pass = 0; start != NULL && pass < 2; pass++) {
        for (uint32_t item = 0; item < c->top; item++) {
            uint64_t at = idx_column_get(c, item);
            if (at == 0) continue;
            uint32_t n = 1, one = (uint32_t)at - 1;
            const uint32_t *v = listed ? idx_attrs_list(a, at, &n) : &one;
            for (uint32_t i = 0; i < n; i++) {
                if (pass == 0) start[v[i] + 2]++;
                else items[start[v[i] + 1]++] = item;
            }
        }
        if (pass == 1) break;
        for (uint32_t v = 0; v < d->n; v++) start[v + 2] += start[v + 1];
        if ((items = malloc((start[d->n + 1] + 1u) * sizeof *items)) == NULL) break;
    }
    bool ok = items != NULL;
    for (uint32_t v = 0; ok && v < d->n; v++)
        ok = idx_posting_fill(listed ? &d->listed[v] : &d->v[v].scalar, items + start[v], start[v + 1] - start[v]);
    free(start);
    free(items);
    return ok;
}

/* Texts whose last item changed or went since: nobody has them. */
static void drop_unused(idx_values *d)
{
    for (uint32_t i = 0; i < d->n; i++)
        if (d->v[i].text != NULL && idx_posting_empty(&d->v[i].scalar) && (d->listed == NULL || idx_posting_empty(&d->listed[i]))) idx_values_drop(d, i, 0, false);
}

static bool finish_field(idx_attrs *a, idx_field *f, gather g[GATHERS])
{
    for (int i = 0; i < GATHERS; i++) {
        if (!pour(&g[i])) return false;
        if (*g[i].to != NULL) roaring_bitmap_run_optimize(*g[i].to); /* what most items have is a few runs */
    }
    if (!fill_postings(a, f, false) || !fill_postings(a, f, true)) return false;
    idx_values_placed(&f->values);
    drop_unused(&f->values);
    if (f->number.used == 0) return true;
    return (f->sorted = idx_sorted_new(&f->number)) != NULL && idx_sorted_fill(f->sorted);
}

static bool gathers_new(loader *l)
{
    l->into = calloc(l->a->n_fields + 1u, sizeof *l->into);
    for (uint32_t i = 0; l->into != NULL && i < l->a->n_fields; i++) {
        idx_field *f = l->a->fields[i];
        l->into[i][THERE].to = &f->there;
        l->into[i][FALSES].to = &f->truth[0];
        l->into[i][TRUES].to = &f->truth[1];
    }
    return l->into != NULL;
}

idx_status idx_attrs_read(idx_attrs *a, idx_attrs_file *file, uint32_t most, uint32_t (*item)(void *, int64_t), void *ctx, idx_error *err)
{
    idx_derived_in *in = &file->in;
    size_t pieces = in->at;
    bool ok = skip_pieces(in) && read_fields(a, in) && (most == 0 || idx_attrs_reach(a, most - 1));
    in->at = pieces;
    loader l = {a, NULL, most, UINT32_MAX};
    ok = ok && gathers_new(&l) && read_pieces(&l, in, item, ctx);
    for (uint32_t i = 0; ok && i < a->n_fields; i++) ok = finish_field(a, a->fields[i], l.into[i]);
    free(l.into);
    return ok ? IDX_OK : idx_fail(err, IDX_ECORRUPT, "%s cannot be read, or there is no memory for it", file->path);
}
