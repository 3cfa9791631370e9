/* attrs.c: see attrs.h. */
#include "attrs_priv.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

idx_attrs *idx_attrs_new(void) { return calloc(1, sizeof(idx_attrs)); }

static void field_free(idx_field *f)
{
    if (f == NULL) return;
    for (int i = 0; i < 2; i++)
        if (f->truth[i] != NULL) roaring_bitmap_free(f->truth[i]);
    if (f->there != NULL) roaring_bitmap_free(f->there);
    idx_values_free(&f->values);
    idx_column_free(&f->text);
    idx_column_free(&f->list);
    idx_column_free(&f->number);
    idx_column_free(&f->rest);
    idx_sorted_free(f->sorted);
    free(f->name);
    free(f);
}

void idx_attrs_free(idx_attrs *a)
{
    if (a == NULL) return;
    for (uint32_t i = 0; i < a->n_fields; i++) field_free(a->fields[i]);
    for (uint32_t i = 0; i < a->n_shapes; i++) free(a->shapes[i].fields);
    free(a->fields);
    free(a->field_slots);
    free(a->shapes);
    free(a->shape_slots);
    idx_column_free(&a->shape_of);
    free(a->pool);
    free(a->all.w);
    free(a->to_copy.w);
    free(a);
}

idx_bits idx_attrs_items(const idx_attrs *a) { return a->all; }
uint64_t idx_attrs_changes(const idx_attrs *a) { return a->changes; }
uint32_t idx_attrs_change(const idx_attrs *a, uint64_t i) { return a->changed[i % IDX_CHANGES]; }
uint32_t idx_attrs_count(const idx_attrs *a) { return a->n_items; }
uint32_t idx_attrs_gone(const idx_attrs *a) { return a->most_items - a->n_items; }
const idx_field *idx_attrs_field_at(const idx_attrs *a, uint32_t i) { return i < a->n_fields ? a->fields[i] : NULL; }

/* ---- names -------------------------------------------------------------------------------------------------- */

static uint32_t hash_bytes(const void *p, size_t n)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)p)[i]) * 1099511628211u;
    return (uint32_t)(h ^ h >> 32);
}

/* A table of hashes doubles before it is three quarters full. */
static bool slots_room(uint32_t **slots, uint32_t *mask, uint32_t live, bool *moved)
{
    *moved = false;
    if (*slots != NULL && (live + 1) * 4 <= *mask * 3) return true;
    uint32_t m = *slots == NULL ? 15 : *mask * 2 + 1, *s = calloc(m + 1u, sizeof *s);
    if (s == NULL) return false;
    free(*slots);
    *slots = s;
    *mask = m;
    *moved = true;
    return true;
}

static void slot_put(uint32_t *slots, uint32_t mask, uint32_t h, uint32_t value)
{
    uint32_t i = h & mask;
    while (slots[i] != 0) i = (i + 1) & mask;
    slots[i] = value + 1;
}

static uint32_t find_field(const idx_attrs *a, const char *name)
{
    if (a->field_slots == NULL) return UINT32_MAX;
    for (uint32_t i = hash_bytes(name, strlen(name)) & a->field_mask; a->field_slots[i] != 0; i = (i + 1) & a->field_mask)
        if (strcmp(a->fields[a->field_slots[i] - 1]->name, name) == 0) return a->field_slots[i] - 1;
    return UINT32_MAX;
}

const idx_field *idx_attrs_field(const idx_attrs *a, const char *name)
{
    uint32_t f = find_field(a, name);
    return f != UINT32_MAX ? a->fields[f] : NULL;
}

uint32_t idx_attrs_make_field(idx_attrs *a, const char *name)
{
    uint32_t at = find_field(a, name);
    bool moved;
    if (at != UINT32_MAX) return at;
    if (!slots_room(&a->field_slots, &a->field_mask, a->n_fields, &moved)) return UINT32_MAX;
    if (moved)
        for (uint32_t i = 0; i < a->n_fields; i++) slot_put(a->field_slots, a->field_mask, hash_bytes(a->fields[i]->name, strlen(a->fields[i]->name)), i);
    idx_field **fields = realloc(a->fields, (a->n_fields + 1u) * sizeof *fields);
    if (fields == NULL) return UINT32_MAX;
    a->fields = fields;
    idx_field *f = calloc(1, sizeof *f);
    if (f == NULL || (f->name = strdup(name)) == NULL || (f->there = roaring_bitmap_create()) == NULL) {
        field_free(f);
        return UINT32_MAX;
    }
    fields[a->n_fields] = f;
    slot_put(a->field_slots, a->field_mask, hash_bytes(name, strlen(name)), a->n_fields);
    return a->n_fields++;
}

/* ---- shapes ------------------------------------------------------------------------------------------------------ */

uint32_t idx_attrs_make_shape(idx_attrs *a, const uint32_t *fields, uint32_t n)
{
    uint32_t h = hash_bytes(fields, n * sizeof *fields);
    bool moved;
    if (!slots_room(&a->shape_slots, &a->shape_mask, a->live_shapes, &moved)) return UINT32_MAX;
    if (moved)
        for (uint32_t i = 0; i < a->n_shapes; i++)
            if (a->shapes[i].fields != NULL) slot_put(a->shape_slots, a->shape_mask, a->shapes[i].hash, i);
    for (uint32_t i = h & a->shape_mask; a->shape_slots[i] != 0; i = (i + 1) & a->shape_mask) {
        const idx_shape *s = &a->shapes[a->shape_slots[i] - 1];
        if (s->hash == h && s->n == n && memcmp(s->fields, fields, n * sizeof *fields) == 0) return a->shape_slots[i] - 1;
    }
    if (a->spare_shape == 0 && a->n_shapes == a->cap_shapes) {
        uint32_t cap = a->cap_shapes * 2 + 8;
        idx_shape *s = realloc(a->shapes, cap * sizeof *s);
        if (s == NULL) return UINT32_MAX;
        a->shapes = s;
        a->cap_shapes = cap;
    }
    uint32_t *copy = malloc((n + 1u) * sizeof *copy);
    if (copy == NULL) return UINT32_MAX;
    memcpy(copy, fields, n * sizeof *copy);
    uint32_t at = a->spare_shape != 0 ? a->spare_shape - 1 : a->n_shapes++;
    if (a->spare_shape != 0) a->spare_shape = a->shapes[at].hash;
    a->shapes[at] = (idx_shape){.n = n, .hash = h, .fields = copy};
    slot_put(a->shape_slots, a->shape_mask, h, at);
    a->live_shapes++;
    return at;
}

static void drop_shape(idx_attrs *a, uint32_t at)
{
    idx_shape *s = &a->shapes[at];
    if (--s->refs > 0) return;
    uint32_t hole = s->hash & a->shape_mask;
    while (a->shape_slots[hole] != at + 1) hole = (hole + 1) & a->shape_mask;
    for (uint32_t i = hole;;) {
        i = (i + 1) & a->shape_mask;
        if (a->shape_slots[i] == 0) break;
        if (((i - (a->shapes[a->shape_slots[i] - 1].hash & a->shape_mask)) & a->shape_mask) < ((i - hole) & a->shape_mask)) continue;
        a->shape_slots[hole] = a->shape_slots[i];
        hole = i;
    }
    a->shape_slots[hole] = 0;
    free(s->fields);
    *s = (idx_shape){.hash = a->spare_shape};
    a->spare_shape = at + 1;
    a->live_shapes--;
}

/* ---- lists ---------------------------------------------------------------------------------------------------------- */

const uint32_t *idx_attrs_list(const idx_attrs *a, uint64_t at, uint32_t *n)
{
    *n = a->pool[at - 1];
    return a->pool + at;
}

uint32_t idx_attrs_list_new(idx_attrs *a, const uint32_t *values, uint32_t n)
{
    uint32_t at = a->spare_list[n];
    if (at != 0) {
        a->spare_list[n] = a->pool[at];
    } else {
        if (a->cap_pool - a->n_pool < n + 1u) {
            uint32_t cap = a->cap_pool + a->cap_pool / 2 + 256, *pool = realloc(a->pool, cap * sizeof *pool);
            if (pool == NULL) return 0;
            a->pool = pool;
            a->cap_pool = cap;
        }
        at = a->n_pool + 1;
        a->n_pool += n + 1;
    }
    a->pool[at - 1] = n;
    memcpy(a->pool + at, values, n * sizeof *values);
    return at;
}

static void list_drop(idx_attrs *a, uint32_t at)
{
    uint32_t n = a->pool[at - 1];
    a->pool[at] = a->spare_list[n];
    a->spare_list[n] = at;
}

/* ---- taking out ------------------------------------------------------------------------------------------------------- */

static void take_out(idx_attrs *a, idx_field *f, uint32_t item)
{
    uint64_t value = idx_column_get(&f->text, item), at = idx_column_get(&f->list, item);
    bool ok = true; /* setting to nothing needs no memory */
    if (value != 0) {
        idx_values_drop(&f->values, (uint32_t)value - 1, item, false);
        ok = idx_column_set(&f->text, item, 0) && ok;
    }
    if (at != 0) {
        uint32_t n;
        const uint32_t *values = idx_attrs_list(a, at, &n);
        for (uint32_t i = 0; i < n; i++) idx_values_drop(&f->values, values[i], item, true);
        list_drop(a, (uint32_t)at);
        ok = idx_column_set(&f->list, item, 0) && ok;
    }
    if (idx_column_get(&f->number, item) != 0) {
        if (f->sorted != NULL) idx_sorted_remove(f->sorted, item);
        ok = idx_column_set(&f->number, item, 0) && (f->rest.used == 0 || idx_column_set(&f->rest, item, 0)) && ok;
    }
    for (int i = 0; i < 2; i++)
        if (f->truth[i] != NULL) roaring_bitmap_remove(f->truth[i], item);
    roaring_bitmap_remove(f->there, item);
    (void)ok;
}

/* Where a copy is being made; a new item has its bit once there is room for it. */
static void copy_later(idx_attrs *a, uint32_t item)
{
    if (item / 64 < a->to_copy.n_words) idx_bit_set(a->to_copy.w, item);
}

void idx_attrs_remove(idx_attrs *a, uint32_t item)
{
    a->changed[a->changes++ % IDX_CHANGES] = item;
    copy_later(a, item);
    uint64_t s = idx_column_get(&a->shape_of, item);
    if (s == 0) return;
    const idx_shape *sh = &a->shapes[s - 1];
    for (uint32_t i = 0; i < sh->n; i++) take_out(a, a->fields[sh->fields[i]], item);
    drop_shape(a, (uint32_t)s - 1);
    if (!idx_column_set(&a->shape_of, item, 0)) return;
    idx_bit_clear(a->all.w, item);
    a->n_items--;
}

/* ---- putting in --------------------------------------------------------------------------------------------------------- */

/* Texts may be there twice: they are kept once. */
static bool put_list(idx_attrs *a, idx_field *f, uint32_t item, const char *const *texts, uint32_t n_texts)
{
    uint32_t values[IDX_MAX_LIST], n = 0;
    for (uint32_t i = 0; i < n_texts; i++) {
        uint32_t v = texts[i] != NULL ? idx_values_make(&f->values, texts[i]) : UINT32_MAX;
        bool twice = false;
        for (uint32_t k = 0; k < n; k++) twice = twice || values[k] == v;
        if (v == UINT32_MAX || (!twice && !idx_values_add(&f->values, v, item, true))) return false;
        if (!twice) values[n++] = v;
    }
    uint32_t at = n > 0 ? idx_attrs_list_new(a, values, n) : 0;
    return n == 0 || (at != 0 && idx_column_set(&f->list, item, at));
}

static bool put_text(idx_field *f, uint32_t item, const char *text)
{
    uint32_t value = idx_values_make(&f->values, text);
    return value != UINT32_MAX && idx_values_add(&f->values, value, item, false) && idx_column_set(&f->text, item, value + 1ull);
}

static bool put_truth(idx_field *f, uint32_t item, bool truth)
{
    roaring_bitmap_t **t = &f->truth[truth];
    if (*t == NULL && (*t = roaring_bitmap_create()) == NULL) return false;
    roaring_bitmap_add(*t, item);
    return true;
}

bool idx_field_set_number(idx_field *f, uint32_t item, idx_number n)
{
    return idx_column_set(&f->number, item, idx_number_pack(n.d)) && (n.rest == 0 || idx_column_set(&f->rest, item, idx_rest_pack(n.rest)));
}

static bool put_number(idx_field *f, uint32_t item, idx_number n)
{
    if (f->sorted == NULL && (f->sorted = idx_sorted_new(&f->number)) == NULL) return false;
    return idx_field_set_number(f, item, n) && idx_sorted_add(f->sorted, item);
}

static idx_number number_of(const json_t *v)
{
    return json_is_integer(v) ? idx_number_whole(json_integer_value(v)) : (idx_number){.d = json_real_value(v)};
}

static bool put_in(idx_attrs *a, idx_field *f, uint32_t item, const json_t *v)
{
    roaring_bitmap_add(f->there, item);
    if (json_is_string(v)) return put_text(f, item, json_string_value(v));
    if (json_is_boolean(v)) return put_truth(f, item, json_is_true(v));
    if (json_is_number(v)) return put_number(f, item, number_of(v));
    const char *texts[IDX_MAX_LIST];
    size_t n = json_array_size(v);
    if (n > IDX_MAX_LIST) return false;
    for (size_t i = 0; i < n; i++) texts[i] = json_string_value(json_array_get(v, i));
    return put_list(a, f, item, texts, (uint32_t)n);
}

static bool lengthen(idx_bits *b, uint32_t n_words)
{
    uint64_t *w = realloc(b->w, n_words * sizeof *w);
    if (w == NULL) return false;
    memset(w + b->n_words, 0, (n_words - b->n_words) * sizeof *w);
    *b = (idx_bits){w, n_words};
    return true;
}

bool idx_attrs_reach(idx_attrs *a, uint32_t item)
{
    if (item / 64 < a->all.n_words) return true;
    uint32_t n = item / 64 + item / 128 + 16;
    return (a->to_copy.w == NULL || lengthen(&a->to_copy, n)) && lengthen(&a->all, n);
}

bool idx_attrs_shape_set(idx_attrs *a, uint32_t item, uint32_t shape)
{
    if (shape == UINT32_MAX || !idx_column_set(&a->shape_of, item, shape + 1ull)) return false;
    a->shapes[shape].refs++;
    idx_bit_set(a->all.w, item);
    copy_later(a, item);
    if (++a->n_items > a->most_items) a->most_items = a->n_items;
    return true;
}

static int by_number(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

/* The numbers of an object's names, in order; false = no memory. */
static bool fields_of(idx_attrs *a, json_t *o, uint32_t *fields, uint32_t *n)
{
    const char *key;
    json_t *v;
    *n = 0;
    json_object_foreach(o, key, v) if ((fields[(*n)++] = idx_attrs_make_field(a, key)) == UINT32_MAX) return false;
    qsort(fields, *n, sizeof *fields, by_number);
    return true;
}

idx_status idx_attrs_set(idx_attrs *a, uint32_t item, const char *json, idx_error *err)
{
    idx_attrs_remove(a, item);
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, NULL), *v;
    if (!json_is_object(o)) {
        json_decref(o);
        return idx_fail(err, IDX_EINVAL, "attributes are not a JSON object");
    }
    const char *key;
    uint32_t n, *fields = malloc((json_object_size(o) + 1) * sizeof *fields);
    bool ok = fields != NULL && fields_of(a, o, fields, &n) && idx_attrs_reach(a, item) && idx_attrs_shape_set(a, item, idx_attrs_make_shape(a, fields, n));
    if (ok) json_object_foreach(o, key, v) ok = ok && put_in(a, a->fields[find_field(a, key)], item, v);
    free(fields);
    json_decref(o);
    return ok ? IDX_OK : idx_fail(err, IDX_ENOMEM, "no memory for attributes");
}

/* ---- copies ----------------------------------------------------------------------------------------------------------------- */

static bool copy_in(idx_attrs *to, uint32_t field, const idx_attrs *a, uint32_t item)
{
    const idx_field *f = a->fields[field];
    idx_field *t = to->fields[field];
    uint64_t text = idx_column_get(&f->text, item), at = idx_column_get(&f->list, item), number = idx_column_get(&f->number, item);
    roaring_bitmap_add(t->there, item);
    if (text != 0) return put_text(t, item, f->values.v[text - 1].text);
    if (number != 0) return put_number(t, item, idx_field_number(f, item));
    for (int i = 0; i < 2; i++)
        if (f->truth[i] != NULL && roaring_bitmap_contains(f->truth[i], item)) return put_truth(t, item, i == 1);
    const char *texts[IDX_MAX_LIST];
    uint32_t n = 0;
    const uint32_t *values = at != 0 ? idx_attrs_list(a, at, &n) : NULL;
    for (uint32_t i = 0; i < n; i++) texts[i] = f->values.v[values[i]].text;
    return put_list(to, t, item, texts, n);
}

bool idx_attrs_copy_item(const idx_attrs *a, uint32_t item, idx_attrs *to)
{
    idx_attrs_remove(to, item);
    uint64_t s = idx_column_get(&a->shape_of, item);
    if (s == 0) return true;
    const idx_shape *sh = &a->shapes[s - 1];
    for (uint32_t i = to->n_fields; i < a->n_fields; i++)
        if (idx_attrs_make_field(to, a->fields[i]->name) != i) return false;
    bool ok = idx_attrs_reach(to, item) && idx_attrs_shape_set(to, item, idx_attrs_make_shape(to, sh->fields, sh->n));
    for (uint32_t i = 0; ok && i < sh->n; i++) ok = copy_in(to, sh->fields[i], a, item);
    return ok;
}

/* ---- checks ----------------------------------------------------------------------------------------------------------------- */

uint64_t idx_attrs_bytes(const idx_attrs *a)
{
    uint64_t sum = sizeof *a + a->cap_pool * sizeof *a->pool + a->all.n_words * sizeof *a->all.w + idx_column_bytes(&a->shape_of);
    for (uint32_t i = 0; i < a->n_fields; i++) {
        const idx_field *f = a->fields[i];
        sum += sizeof *f + idx_values_bytes(&f->values) + idx_column_bytes(&f->text) + idx_column_bytes(&f->list) + idx_column_bytes(&f->number) +
               idx_column_bytes(&f->rest) + (f->sorted != NULL ? idx_sorted_bytes(f->sorted) : 0) + roaring_bitmap_frozen_size_in_bytes(f->there);
    }
    return sum;
}

static bool list_agrees(const idx_attrs *a, const idx_field *f, uint32_t item, const json_t *list)
{
    uint64_t at = idx_column_get(&f->list, item);
    uint32_t n = 0;
    const uint32_t *values = at != 0 ? idx_attrs_list(a, at, &n) : NULL;
    for (uint32_t i = 0; i < n; i++) {
        bool found = false;
        for (size_t k = 0; k < json_array_size(list); k++) found = found || strcmp(json_string_value(json_array_get(list, k)), f->values.v[values[i]].text) == 0;
        if (!found) return false;
    }
    for (size_t k = 0; k < json_array_size(list); k++) {
        uint32_t v = idx_values_find(&f->values, json_string_value(json_array_get(list, k)));
        if (v == UINT32_MAX || f->values.listed == NULL || !idx_posting_has(&f->values.listed[v], item)) return false;
    }
    return true;
}

static bool field_agrees(const idx_attrs *a, const idx_field *f, uint32_t item, const json_t *v)
{
    uint64_t text = idx_column_get(&f->text, item), number = idx_column_get(&f->number, item);
    bool truth[2];
    for (int i = 0; i < 2; i++) truth[i] = f->truth[i] != NULL && roaring_bitmap_contains(f->truth[i], item);
    if (!roaring_bitmap_contains(f->there, item) || (text != 0) != json_is_string(v) || (number != 0) != json_is_number(v) ||
        truth[0] != json_is_false(v) || truth[1] != json_is_true(v) || (idx_column_get(&f->list, item) != 0 && !json_is_array(v)))
        return false;
    if (json_is_string(v)) return strcmp(f->values.v[text - 1].text, json_string_value(v)) == 0 && idx_posting_has(&f->values.v[text - 1].scalar, item);
    if (json_is_number(v)) return idx_number_order(idx_field_number(f, item), number_of(v)) == 0;
    return !json_is_array(v) || list_agrees(a, f, item, v);
}

bool idx_attrs_agree(const idx_attrs *a, uint32_t item, const char *json)
{
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, NULL), *v;
    const char *key;
    uint64_t s = idx_column_get(&a->shape_of, item);
    bool ok = json_is_object(o) && s != 0 && idx_bit(a->all.w, item) && a->shapes[s - 1].n == json_object_size(o);
    if (ok) json_object_foreach(o, key, v)
        {
            const idx_field *f = idx_attrs_field(a, key);
            ok = ok && f != NULL && field_agrees(a, f, item, v);
        }
    json_decref(o);
    return ok;
}

/* With as many members as there are items that say so, a posting that all of those agree with has no others. */
static const char *check_field(const idx_attrs *a, const idx_field *f)
{
    uint64_t texts = 0, listed = 0, in_lists = 0;
    for (uint32_t i = 0; i < f->values.n; i++) {
        if (f->values.v[i].text == NULL) continue;
        if (idx_values_find(&f->values, f->values.v[i].text) != i) return "a text is not found";
        uint64_t n = idx_posting_count(&f->values.v[i].scalar), m = f->values.listed != NULL ? idx_posting_count(&f->values.listed[i]) : 0;
        if (n + m == 0) return "a text that nobody has is kept";
        texts += n;
        listed += m;
    }
    for (uint32_t item = 0; item < f->list.top; item++) {
        uint64_t at = idx_column_get(&f->list, item);
        if (at != 0) in_lists += a->pool[at - 1];
    }
    if (texts != f->text.used) return "the postings of texts and their column differ";
    if (listed != in_lists) return "the postings of lists and the lists differ";
    for (uint32_t item = 0; f->rest.used > 0 && item < f->rest.top; item++)
        if (idx_field_rest(f, item) != 0 && idx_column_get(&f->number, item) == 0) return "an integer's rest is of no number";
    if (f->sorted != NULL && !idx_sorted_check(f->sorted)) return "the sorted numbers and their column differ";
    uint64_t kinds = f->text.used + (uint64_t)f->number.used + f->list.used;
    for (int i = 0; i < 2; i++) kinds += f->truth[i] != NULL ? roaring_bitmap_get_cardinality(f->truth[i]) : 0;
    return kinds <= roaring_bitmap_get_cardinality(f->there) ? NULL : "more items have a value than have the attribute";
}

const char *idx_attrs_check(const idx_attrs *a)
{
    uint64_t refs = 0, uses = 0, there = 0;
    for (uint32_t i = 0; i < a->n_shapes; i++) {
        refs += a->shapes[i].refs;
        uses += (uint64_t)a->shapes[i].refs * a->shapes[i].n;
    }
    if (refs != a->n_items || refs != a->shape_of.used || refs != idx_bits_count(a->all.w, a->all.n_words)) return "items are counted wrongly";
    for (uint32_t i = 0; i < a->n_fields; i++) {
        const char *why = check_field(a, a->fields[i]);
        if (why != NULL) return why;
        there += roaring_bitmap_get_cardinality(a->fields[i]->there);
    }
    return there == uses ? NULL : "attributes are counted wrongly";
}
