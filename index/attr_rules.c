/* attr_rules.c: what an attribute object may hold, and merge patches. */
#include "attrs.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_KEYS = 64, MAX_KEY_BYTES = 64, MAX_VALUE_BYTES = 1024 };

/* field: attributes.KEY */
static idx_status check_text(const char *field, const json_t *v, idx_error *err)
{
    size_t n = json_string_length(v);
    if (n != strlen(json_string_value(v))) return idx_fail_field(err, IDX_EINVAL, field, 0, "%s holds a NUL character", field);
    return n <= MAX_VALUE_BYTES ? IDX_OK : idx_fail_field(err, IDX_EINVAL, field, MAX_VALUE_BYTES, "%s has %zu bytes, the limit is %d", field, n, MAX_VALUE_BYTES);
}

static idx_status check_list(const char *field, const json_t *v, idx_error *err)
{
    size_t i;
    json_t *e;
    if (json_array_size(v) > IDX_MAX_LIST)
        return idx_fail_field(err, IDX_EINVAL, field, IDX_MAX_LIST, "%s has %zu elements, the limit is %d", field, json_array_size(v), IDX_MAX_LIST);
    json_array_foreach(v, i, e)
    {
        if (!json_is_string(e)) return idx_fail_field(err, IDX_EINVAL, field, 0, "%s[%zu] is not a string", field, i);
        idx_status st = check_text(field, e, err);
        if (st != IDX_OK) return st;
    }
    return IDX_OK;
}

static idx_status check_value(const char *key, const json_t *v, bool patch, idx_error *err)
{
    char field[16 + MAX_KEY_BYTES];
    snprintf(field, sizeof field, "attributes.%s", key);
    if ((patch && json_is_null(v)) || json_is_boolean(v) || json_is_integer(v)) return IDX_OK;
    if (json_is_real(v)) return isfinite(json_real_value(v)) ? IDX_OK : idx_fail_field(err, IDX_EINVAL, field, 0, "%s is not a finite number", field);
    if (json_is_string(v)) return check_text(field, v, err);
    if (json_is_array(v)) return check_list(field, v, err);
    return idx_fail_field(err, IDX_EINVAL, field, 0, "%s is %s; a string, a number, a boolean or a list of strings is expected", field,
                          json_is_object(v) ? "an object" : "null");
}

static idx_status parse(const char *json, bool patch, json_t **out, idx_error *err)
{
    json_error_t je;
    size_t bytes = strlen(json);
    if (bytes > IDX_MAX_ATTR_BYTES) return idx_fail_field(err, IDX_EINVAL, "attributes", IDX_MAX_ATTR_BYTES, "attributes have %zu bytes, the limit is %u", bytes, IDX_MAX_ATTR_BYTES);
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, &je), *v;
    if (o == NULL) return idx_fail(err, IDX_EINVAL, "attributes are not valid JSON: %.120s", je.text);
    idx_status st = IDX_OK;
    const char *key;
    if (!json_is_object(o)) st = idx_fail(err, IDX_EINVAL, "attributes are not a JSON object");
    else if (json_object_size(o) > MAX_KEYS)
        st = idx_fail_field(err, IDX_EINVAL, "attributes", MAX_KEYS, "attributes have %zu keys, the limit is %d", json_object_size(o), MAX_KEYS);
    else
        json_object_foreach(o, key, v)
        {
            size_t n = strlen(key);
            if (n < 1 || n > MAX_KEY_BYTES)
                st = idx_fail_field(err, IDX_EINVAL, "attributes", MAX_KEY_BYTES, "an attribute's name has %zu bytes; 1 to %d are allowed: %.40s", n, MAX_KEY_BYTES, key);
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
