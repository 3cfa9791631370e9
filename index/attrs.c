/* attrs.c: postings and number columns, and the rules for attribute objects. */
#include "attrs.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 64, MAX_KEY_BYTES = 64, MAX_VALUE_BYTES = 1024, MAX_LIST = 64 };

typedef enum { KIND_STRING = 's', KIND_ELEMENT = 'e', KIND_BOOL = 'b', KIND_FIELD = 'f' } kind;

typedef struct { /* one posting: kind, field, value -> items */
    char *key;    /* kind byte, field, NUL, value, NUL */
    const char *value;
    roaring_bitmap_t *items;
    uint64_t hash;
    uint32_t next_of_field; /* chain of the postings of a field and kind; UINT32_MAX ends */
} posting;

typedef struct {
    char *name;
    uint32_t first; /* its postings */
    double *number; /* by item, NaN = none */
    uint32_t n_numbers;
} field;

struct idx_attrs {
    posting *postings;
    uint32_t n_postings, cap_postings;
    uint32_t *slots; /* hash -> posting + 1 */
    uint32_t mask;
    field *fields;
    uint32_t n_fields;
    uint32_t **of_item; /* [item]: count, then posting numbers; for removal */
    uint32_t n_items;
    roaring_bitmap_t *all;
};

idx_attrs *idx_attrs_new(void)
{
    idx_attrs *a = calloc(1, sizeof *a);
    if (a == NULL) return NULL;
    a->mask = 1023;
    a->slots = calloc(a->mask + 1u, sizeof *a->slots);
    a->all = roaring_bitmap_create();
    if (a->slots == NULL || a->all == NULL) {
        idx_attrs_free(a);
        return NULL;
    }
    return a;
}

void idx_attrs_free(idx_attrs *a)
{
    if (a == NULL) return;
    for (uint32_t i = 0; i < a->n_postings; i++) {
        free(a->postings[i].key);
        roaring_bitmap_free(a->postings[i].items);
    }
    for (uint32_t i = 0; i < a->n_fields; i++) {
        free(a->fields[i].name);
        free(a->fields[i].number);
    }
    for (uint32_t i = 0; i < a->n_items; i++) free(a->of_item[i]);
    free(a->postings);
    free(a->slots);
    free(a->fields);
    free(a->of_item);
    if (a->all != NULL) roaring_bitmap_free(a->all);
    free(a);
}

const roaring_bitmap_t *idx_attrs_items(const idx_attrs *a) { return a->all; }

/* ---- finding and making ---------------------------------------------------------------------------- */

static uint64_t hash_key(char k, const char *f, const char *v)
{
    uint64_t h = 1469598103934665603u ^ (uint8_t)k;
    h *= 1099511628211u;
    for (; *f; f++) h = (h ^ (uint8_t)*f) * 1099511628211u;
    h = (h ^ 0xff) * 1099511628211u;
    for (; *v; v++) h = (h ^ (uint8_t)*v) * 1099511628211u;
    return h ^ h >> 31;
}

static uint32_t find_posting(const idx_attrs *a, uint64_t h, char k, const char *f, const char *v)
{
    for (uint32_t i = (uint32_t)h & a->mask; a->slots[i] != 0; i = (i + 1) & a->mask) {
        const posting *p = &a->postings[a->slots[i] - 1];
        if (p->hash == h && p->key[0] == k && strcmp(p->key + 1, f) == 0 && strcmp(p->value, v) == 0) return a->slots[i] - 1;
    }
    return UINT32_MAX;
}

static field *find_field(const idx_attrs *a, const char *name)
{
    for (uint32_t i = 0; i < a->n_fields; i++)
        if (strcmp(a->fields[i].name, name) == 0) return &a->fields[i];
    return NULL;
}

static field *make_field(idx_attrs *a, const char *name)
{
    field *f = find_field(a, name);
    if (f != NULL) return f;
    f = realloc(a->fields, (a->n_fields + 1u) * sizeof *f);
    if (f == NULL) return NULL;
    a->fields = f;
    f += a->n_fields;
    *f = (field){.name = strdup(name), .first = UINT32_MAX};
    if (f->name == NULL) return NULL;
    a->n_fields++;
    return f;
}

static bool grow_slots(idx_attrs *a)
{
    uint32_t mask = a->mask * 2 + 1, *slots = calloc(mask + 1u, sizeof *slots);
    if (slots == NULL) return false;
    for (uint32_t p = 0; p < a->n_postings; p++) {
        uint32_t i = (uint32_t)a->postings[p].hash & mask;
        while (slots[i] != 0) i = (i + 1) & mask;
        slots[i] = p + 1;
    }
    free(a->slots);
    a->slots = slots;
    a->mask = mask;
    return true;
}

static uint32_t make_posting(idx_attrs *a, char k, field *f, const char *v)
{
    uint64_t h = hash_key(k, f->name, v);
    uint32_t at = find_posting(a, h, k, f->name, v);
    if (at != UINT32_MAX) return at;
    if ((a->n_postings + 1) * 2 > a->mask && !grow_slots(a)) return UINT32_MAX;
    if (a->n_postings == a->cap_postings) {
        uint32_t cap = a->cap_postings * 2 + 64;
        posting *p = realloc(a->postings, cap * sizeof *p);
        if (p == NULL) return UINT32_MAX;
        a->postings = p;
        a->cap_postings = cap;
    }
    size_t nf = strlen(f->name), nv = strlen(v);
    posting p = {.key = malloc(nf + nv + 3), .hash = h, .next_of_field = f->first, .items = roaring_bitmap_create()};
    if (p.key == NULL || p.items == NULL) {
        free(p.key);
        if (p.items != NULL) roaring_bitmap_free(p.items);
        return UINT32_MAX;
    }
    p.key[0] = k;
    memcpy(p.key + 1, f->name, nf + 1);
    memcpy(p.key + 2 + nf, v, nv + 1);
    p.value = p.key + 2 + nf;
    at = a->n_postings++;
    a->postings[at] = p;
    f->first = at;
    uint32_t i = (uint32_t)h & a->mask;
    while (a->slots[i] != 0) i = (i + 1) & a->mask;
    a->slots[i] = at + 1;
    return at;
}

/* ---- set and remove ---------------------------------------------------------------------------------- */

static bool set_number(field *f, uint32_t item, double v)
{
    if (item >= f->n_numbers) {
        uint32_t n = item + item / 2 + 64;
        double *d = realloc(f->number, n * sizeof *d);
        if (d == NULL) return false;
        for (uint32_t i = f->n_numbers; i < n; i++) d[i] = NAN;
        f->number = d;
        f->n_numbers = n;
    }
    f->number[item] = v;
    return true;
}

void idx_attrs_remove(idx_attrs *a, uint32_t item)
{
    if (item >= a->n_items || a->of_item[item] == NULL) return;
    uint32_t *list = a->of_item[item];
    for (uint32_t i = 1; i <= list[0]; i++) roaring_bitmap_remove(a->postings[list[i]].items, item);
    free(list);
    a->of_item[item] = NULL;
    for (uint32_t i = 0; i < a->n_fields; i++)
        if (item < a->fields[i].n_numbers) a->fields[i].number[item] = NAN;
    roaring_bitmap_remove(a->all, item);
}

static bool add(idx_attrs *a, uint32_t *list, uint32_t item, char k, field *f, const char *v)
{
    uint32_t p = make_posting(a, k, f, v);
    if (p == UINT32_MAX) return false;
    roaring_bitmap_add(a->postings[p].items, item);
    list[++list[0]] = p;
    return true;
}

idx_status idx_attrs_set(idx_attrs *a, uint32_t item, const char *json, idx_error *err)
{
    idx_attrs_remove(a, item);
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(o)) {
        json_decref(o);
        return idx_fail(err, IDX_EINVAL, "attributes are not a JSON object");
    }
    if (item >= a->n_items) {
        uint32_t n = item + item / 2 + 64;
        uint32_t **of = realloc(a->of_item, n * sizeof *of);
        if (of == NULL) goto memory;
        memset(of + a->n_items, 0, (n - a->n_items) * sizeof *of);
        a->of_item = of;
        a->n_items = n;
    }
    size_t count = 1;
    const char *key;
    json_t *v, *e;
    json_object_foreach(o, key, v) count += 1 + (json_is_array(v) ? json_array_size(v) : 1);
    uint32_t *list = calloc(count, sizeof *list);
    if (list == NULL) goto memory;
    a->of_item[item] = list;
    roaring_bitmap_add(a->all, item);
    json_object_foreach(o, key, v)
    {
        field *f = make_field(a, key);
        bool ok = f != NULL && add(a, list, item, KIND_FIELD, f, "");
        size_t i;
        if (ok && json_is_string(v)) ok = add(a, list, item, KIND_STRING, f, json_string_value(v));
        if (ok && json_is_boolean(v)) ok = add(a, list, item, KIND_BOOL, f, json_is_true(v) ? "t" : "f");
        if (ok && json_is_number(v)) ok = set_number(f, item, json_number_value(v));
        if (ok && json_is_array(v)) json_array_foreach(v, i, e) ok = ok && add(a, list, item, KIND_ELEMENT, f, json_string_value(e) ? json_string_value(e) : "");
        if (!ok) goto memory;
    }
    json_decref(o);
    return IDX_OK;
memory:
    json_decref(o);
    return idx_fail(err, IDX_ENOMEM, "no memory for attributes");
}

bool idx_attrs_agree(const idx_attrs *a, uint32_t item, const char *json)
{
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, NULL), *v;
    const char *key;
    bool ok = json_is_object(o) && roaring_bitmap_contains(a->all, item);
    if (ok) json_object_foreach(o, key, v)
        {
            char k = json_is_string(v) ? KIND_STRING : json_is_boolean(v) ? KIND_BOOL : KIND_FIELD;
            const char *text = json_is_string(v) ? json_string_value(v) : json_is_boolean(v) ? (json_is_true(v) ? "t" : "f") : "";
            uint32_t p = find_posting(a, hash_key(k, key, text), k, key, text);
            ok = ok && p != UINT32_MAX && roaring_bitmap_contains(a->postings[p].items, item);
            field *f = find_field(a, key);
            if (ok && json_is_number(v)) ok = f != NULL && item < f->n_numbers && f->number[item] == json_number_value(v);
        }
    json_decref(o);
    return ok;
}

/* ---- questions ------------------------------------------------------------------------------------------ */

roaring_bitmap_t *idx_attrs_has_field(const idx_attrs *a, const char *name)
{
    uint32_t p = find_posting(a, hash_key(KIND_FIELD, name, ""), KIND_FIELD, name, "");
    return p == UINT32_MAX ? roaring_bitmap_create() : roaring_bitmap_copy(a->postings[p].items);
}

roaring_bitmap_t *idx_attrs_bool(const idx_attrs *a, const char *name, bool value)
{
    const char *v = value ? "t" : "f";
    uint32_t p = find_posting(a, hash_key(KIND_BOOL, name, v), KIND_BOOL, name, v);
    return p == UINT32_MAX ? roaring_bitmap_create() : roaring_bitmap_copy(a->postings[p].items);
}

static bool compare(idx_cmp cmp, int order)
{
    switch (cmp) {
    case IDX_CMP_EQ: return order == 0;
    case IDX_CMP_LT: return order < 0;
    case IDX_CMP_LE: return order <= 0;
    case IDX_CMP_GT: return order > 0;
    default: return order >= 0;
    }
}

/* x*, *x and *x*: a star in the middle is a character like any other. */
static bool matches(const char *v, const char *pattern)
{
    size_t n = strlen(pattern), len = strlen(v);
    bool head = n > 0 && pattern[0] == '*', tail = n > (head ? 1u : 0u) && pattern[n - 1] == '*';
    const char *core = pattern + head;
    size_t k = n - head - tail;
    if (head && tail) return k == 0 || memmem(v, len, core, k) != NULL;
    if (head) return len >= k && memcmp(v + len - k, core, k) == 0;
    if (tail) return len >= k && memcmp(v, core, k) == 0;
    return strcmp(v, pattern) == 0;
}

roaring_bitmap_t *idx_attrs_string(const idx_attrs *a, const char *name, idx_cmp cmp, const char *value, bool wildcards, bool scalars,
                                   bool list)
{
    roaring_bitmap_t *r = roaring_bitmap_create();
    if (r == NULL) return NULL;
    if (cmp == IDX_CMP_EQ && !wildcards) {
        for (int i = 0; i < 2; i++) {
            char k = i == 0 ? KIND_STRING : KIND_ELEMENT;
            if (!(i == 0 ? scalars : list)) continue;
            uint32_t p = find_posting(a, hash_key(k, name, value), k, name, value);
            if (p != UINT32_MAX) roaring_bitmap_or_inplace(r, a->postings[p].items);
        }
        return r;
    }
    const field *f = find_field(a, name);
    for (uint32_t p = f != NULL ? f->first : UINT32_MAX; p != UINT32_MAX; p = a->postings[p].next_of_field) {
        const posting *q = &a->postings[p];
        if (!((q->key[0] == KIND_STRING && scalars) || (q->key[0] == KIND_ELEMENT && list))) continue;
        if (wildcards ? matches(q->value, value) : compare(cmp, strcmp(q->value, value))) roaring_bitmap_or_inplace(r, q->items);
    }
    return r;
}

roaring_bitmap_t *idx_attrs_number(const idx_attrs *a, const char *name, idx_cmp cmp, double value)
{
    roaring_bitmap_t *r = roaring_bitmap_create();
    const field *f = find_field(a, name);
    if (r == NULL || f == NULL) return r;
    uint32_t batch[1024];
    size_t n = 0;
    for (uint32_t i = 0; i < f->n_numbers; i++) {
        double d = f->number[i];
        if (isnan(d) || !compare(cmp, d < value ? -1 : d > value)) continue;
        batch[n++] = i;
        if (n == 1024) roaring_bitmap_add_many(r, n, batch), n = 0;
    }
    roaring_bitmap_add_many(r, n, batch);
    return r;
}

/* ---- rules ------------------------------------------------------------------------------------------------ */

static idx_status check_value(const char *key, const json_t *v, bool patch, idx_error *err)
{
    if (patch && json_is_null(v)) return IDX_OK;
    if (json_is_boolean(v) || json_is_integer(v)) return IDX_OK;
    if (json_is_real(v))
        return isfinite(json_real_value(v)) ? IDX_OK : idx_fail(err, IDX_EINVAL, "attributes.%s is not a finite number", key);
    if (json_is_string(v)) {
        size_t n = json_string_length(v);
        if (n != strlen(json_string_value(v))) return idx_fail(err, IDX_EINVAL, "attributes.%s holds a NUL character", key);
        return n <= MAX_VALUE_BYTES ? IDX_OK : idx_fail(err, IDX_EINVAL, "attributes.%s has %zu bytes, the limit is %d", key, n, MAX_VALUE_BYTES);
    }
    if (json_is_array(v)) {
        size_t i;
        json_t *e;
        if (json_array_size(v) > MAX_LIST)
            return idx_fail(err, IDX_EINVAL, "attributes.%s has %zu elements, the limit is %d", key, json_array_size(v), MAX_LIST);
        json_array_foreach(v, i, e)
        {
            if (!json_is_string(e)) return idx_fail(err, IDX_EINVAL, "attributes.%s[%zu] is not a string", key, i);
            idx_status st = check_value(key, e, false, err);
            if (st != IDX_OK) return st;
        }
        return IDX_OK;
    }
    return idx_fail(err, IDX_EINVAL, "attributes.%s is %s; a string, a number, a boolean or a list of strings is expected", key,
                    json_is_object(v) ? "an object" : "null");
}

static idx_status parse(const char *json, bool patch, json_t **out, idx_error *err)
{
    json_error_t je;
    size_t bytes = strlen(json);
    if (bytes > IDX_MAX_ATTR_BYTES) return idx_fail(err, IDX_EINVAL, "attributes have %zu bytes, the limit is %u", bytes, IDX_MAX_ATTR_BYTES);
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, &je), *v;
    if (o == NULL) return idx_fail(err, IDX_EINVAL, "attributes are not valid JSON: %.120s", je.text);
    idx_status st = IDX_OK;
    const char *key;
    if (!json_is_object(o)) st = idx_fail(err, IDX_EINVAL, "attributes are not a JSON object");
    else if (json_object_size(o) > MAX_KEYS) st = idx_fail(err, IDX_EINVAL, "attributes have %zu keys, the limit is %d", json_object_size(o), MAX_KEYS);
    else
        json_object_foreach(o, key, v)
        {
            size_t n = strlen(key);
            if (n < 1 || n > MAX_KEY_BYTES)
                st = idx_fail(err, IDX_EINVAL, "an attribute's name has %zu bytes; 1 to %d are allowed: %.40s", n, MAX_KEY_BYTES, key);
            else st = check_value(key, v, patch, err);
            if (st != IDX_OK) break;
        }
    if (st != IDX_OK) json_decref(o);
    else *out = o;
    return st;
}

idx_status idx_attributes_check(const char *json, bool patch, idx_error *err)
{
    json_t *o;
    idx_status st = parse(json, patch, &o, err);
    if (st == IDX_OK) json_decref(o);
    return st;
}

idx_status idx_attrs_validate(const char *json, idx_error *err) { return idx_attributes_check(json, false, err); }

/* 17 digits hold every number and show 79.99 as 79.989999999999995; 15 are what people write. NULL = no memory. */
static char *text_of(const json_t *o)
{
    char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(15));
    json_t *again = text != NULL ? json_loads(text, 0, NULL) : NULL;
    bool same = again != NULL && json_equal(o, again);
    json_decref(again);
    if (same || text == NULL) return text;
    free(text);
    return json_dumps(o, JSON_COMPACT);
}

idx_status idx_attrs_merge(const char *json, const char *patch, char **out, idx_error *err)
{
    json_t *o, *p, *v;
    idx_status st = parse(json, false, &o, err);
    if (st != IDX_OK) return st;
    st = parse(patch, true, &p, err);
    if (st != IDX_OK) {
        json_decref(o);
        return st;
    }
    const char *key;
    bool ok = true;
    json_object_foreach(p, key, v)
    {
        if (json_is_null(v)) json_object_del(o, key);
        else ok = ok && json_object_set(o, key, v) == 0;
    }
    char *text = ok ? text_of(o) : NULL;
    json_decref(o);
    json_decref(p);
    if (text == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for attributes");
    st = idx_attrs_validate(text, err);
    if (st != IDX_OK) free(text);
    else *out = text;
    return st;
}
