/* api_contract.h: holds replies to api/openapi.json: the operation lists the status, and the body is of its schema. Of JSON
 * Schema it knows what the document uses; a member that the document does not name is a failure, so that nothing is
 * sent that nobody described. */
#ifndef LK_API_CONTRACT_H
#define LK_API_CONTRACT_H

#include <jansson.h>

#include "../../api/api.h"
#include "test.h"

static struct {
    json_t *doc;
    json_t *seen; /* "METHOD path status" -> true */
} contract;

static inline json_t *contract_ref(json_t *s)
{
    const char *ref = json_string_value(json_object_get(s, "$ref"));
    if (ref == NULL) return s;
    char path[200];
    json_t *at = contract.doc;
    snprintf(path, sizeof path, "%s", ref + 2); /* behind "#/" */
    char *save = NULL;
    for (char *name = strtok_r(path, "/", &save); name != NULL; name = strtok_r(NULL, "/", &save))
        at = json_object_get(at, name);
    REQUIRE(at != NULL);
    return contract_ref(at);
}

static inline bool contract_type(const char *type, const json_t *v)
{
    if (strcmp(type, "object") == 0) return json_is_object(v);
    if (strcmp(type, "array") == 0) return json_is_array(v);
    if (strcmp(type, "string") == 0) return json_is_string(v);
    if (strcmp(type, "integer") == 0) return json_is_integer(v);
    if (strcmp(type, "number") == 0) return json_is_number(v);
    return strcmp(type, "boolean") == 0 && json_is_boolean(v);
}

static inline bool contract_valid(json_t *schema, const json_t *v, char why[200]);

static inline bool contract_object(json_t *s, const json_t *v, char why[200])
{
    json_t *props = json_object_get(s, "properties"), *more = json_object_get(s, "additionalProperties"), *name, *m;
    size_t i;
    const char *key;
    json_array_foreach(json_object_get(s, "required"), i, name)
    {
        if (json_object_get(v, json_string_value(name)) != NULL) continue;
        snprintf(why, 200, "%s is missing", json_string_value(name));
        return false;
    }
    json_object_foreach((json_t *)v, key, m)
    {
        json_t *sub = json_object_get(props, key);
        if (sub == NULL && json_is_object(more)) sub = more;
        if (sub != NULL && contract_valid(sub, m, why)) continue;
        if (sub == NULL) snprintf(why, 200, "%s is not described", key);
        return false;
    }
    return true;
}

static inline bool contract_valid(json_t *schema, const json_t *v, char why[200])
{
    json_t *s = contract_ref(schema), *x;
    size_t i, fits = 0;
    const char *type = json_string_value(json_object_get(s, "type"));
    if (type != NULL && !contract_type(type, v)) {
        snprintf(why, 200, "a value is not of the type %s", type);
        return false;
    }
    json_t *any = json_object_get(s, "oneOf"), *list = json_object_get(s, "enum");
    json_array_foreach(any, i, x) fits += contract_valid(x, v, why);
    json_array_foreach(list, i, x) fits += (size_t)json_equal(x, v);
    if ((any != NULL || list != NULL) && fits != 1) {
        snprintf(why, 200, "%zu of the choices fit", fits);
        return false;
    }
    if (json_is_object(v) && json_object_get(s, "properties") != NULL && !contract_object(s, v, why)) return false;
    if (json_is_object(v) && json_is_object(json_object_get(s, "additionalProperties")) && !contract_object(s, v, why)) return false;
    json_array_foreach(json_is_array(v) ? v : NULL, i, x)
        if (json_object_get(s, "items") != NULL && !contract_valid(json_object_get(s, "items"), x, why)) return false;
    return true;
}

static inline void contract_open(void)
{
    size_t n;
    if (contract.doc != NULL) return;
    const char *text = api_openapi_json(&n);
    contract.doc = json_loadb(text, n, 0, NULL);
    contract.seen = json_object();
    REQUIRE(contract.doc != NULL);
}

static inline void contract_close(void)
{
    json_decref(contract.doc);
    json_decref(contract.seen);
}

static inline const char *contract_method(api_method m)
{
    static const char *const name[] = {"get", "get", "post", "put", "patch", "delete", ""};
    return name[m];
}

static inline json_t *contract_operation(const char *route, api_method m)
{
    return json_object_get(json_object_get(json_object_get(contract.doc, "paths"), route), contract_method(m));
}

/* A reply with a JSON body, or none. Unknown paths, wrong methods and internal errors belong to no operation. */
static inline void contract_reply(const api_ctx *cx, api_method m, const char *raw_path, const api_reply *rp)
{
    char status[8], key[200], why[200] = "";
    api_route_info route = api_route(cx, m, raw_path);
    contract_open();
    test_checks++;
    if (route.cls == API_CLASS_NONE || rp->status == 500) return;
    snprintf(status, sizeof status, "%d", rp->status);
    snprintf(key, sizeof key, "%s %s %s", contract_method(m), route.route, status);
    json_object_set_new(contract.seen, key, json_true());
    json_t *answer = json_object_get(json_object_get(contract_operation(route.route, m), "responses"), status);
    if (answer == NULL) {
        TEST_FAIL("the contract does not list %s (%s)", key, rp->problem_code != NULL ? rp->problem_code : "");
        return;
    }
    json_t *content = json_object_get(contract_ref(answer), "content");
    if (rp->body_bytes == 0 && content == NULL) return;
    json_t *media = json_object_get(content, rp->content_type != NULL ? rp->content_type : "none");
    json_t *schema = json_object_get(media, "schema"), *body;
    if (media == NULL) {
        TEST_FAIL("the contract has no %s for %s", rp->content_type != NULL ? rp->content_type : "body", key);
        return;
    }
    if (strstr(rp->content_type, "json") == NULL) return;
    body = json_loadb((const char *)rp->body, rp->body_bytes, JSON_REJECT_DUPLICATES, NULL);
    if (schema == NULL || body == NULL || !contract_valid(schema, body, why))
        TEST_FAIL("%s: %s: %.*s", key, why, (int)rp->body_bytes, (const char *)rp->body);
    json_decref(body);
}

/* What the contract promises and no request got; 401 and 503 are checked with the server. */
static inline void contract_all_seen(void)
{
    const char *path, *method, *status;
    json_t *ops, *op, *r;
    json_object_foreach(json_object_get(contract.doc, "paths"), path, ops)
    {
        if (strncmp(path, "/v1/", 4) != 0 || strstr(path, ":batch") != NULL) continue;
        json_object_foreach(ops, method, op)
        {
            json_object_foreach(json_object_get(op, "responses"), status, r)
            {
                char key[200];
                snprintf(key, sizeof key, "%s %s %s", method, path, status);
                test_checks++;
                if (strcmp(status, "401") == 0 || strcmp(status, "503") == 0 || strcmp(status, "507") == 0) continue;
                if (json_object_get(contract.seen, key) == NULL) TEST_FAIL("no request got %s", key);
            }
        }
    }
}

#endif
