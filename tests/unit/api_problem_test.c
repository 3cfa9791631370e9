/* The table of problems: codes are unique and stable in form, replies are RFC 9457, statuses of the folders below are
 * translated, and the contract lists exactly these codes. */
#include <jansson.h>

#include "../../api/problem.h"
#include "test.h"

static json_t *body(const api_reply *rp)
{
    json_t *j = json_loadb((const char *)rp->body, rp->body_bytes, JSON_REJECT_DUPLICATES, NULL);
    REQUIRE(j != NULL);
    return j;
}

static const char *str(const json_t *o, const char *name) { return json_string_value(json_object_get(o, name)); }

static void test_table(void)
{
    for (size_t i = 0; i < api_problem_table_size; i++) {
        const api_problem_entry *e = &api_problem_table[i];
        CHECK_INT(strspn(e->code, "abcdefghijklmnopqrstuvwxyz0123456789_"), strlen(e->code));
        CHECK(e->status >= 400 && e->status < 600 && e->title[0] != '\0');
        CHECK_INT(e->retry_after_s > 0, e->status == 503 || e->status == 507);
        CHECK(api_problem_find(e->code) == e); /* the first of its name: no code twice */
        api_reply rp = {0};
        api_problem(&rp, e->code, "req-1", NULL);
        CHECK_INT(rp.status, e->status);
        CHECK_STR(rp.problem_code, e->code);
        CHECK_STR(rp.content_type, "application/problem+json");
        json_t *j = body(&rp);
        CHECK_STR(str(j, "code"), e->code);
        CHECK_STR(str(j, "title"), e->title);
        CHECK_STR(str(j, "detail"), e->title);
        CHECK_STR(str(j, "instance"), "req-1");
        CHECK_INT(json_integer_value(json_object_get(j, "status")), e->status);
        CHECK_CONTAINS(str(j, "type"), e->code);
        json_decref(j);
        api_reply_fini(&rp);
    }
    CHECK(api_problem_find("no_such_code") == NULL);
}

static void test_replies(void)
{
    api_reply rp = {.location = "/x", .etag = "\"y\"", .immutable = true};
    api_problem(&rp, "no_such_code", NULL, "a \"quoted\" %s\n\xff", "text");
    CHECK_INT(rp.status, 500);
    CHECK_STR(rp.problem_code, "internal");
    CHECK_STR(rp.location, "");
    CHECK_STR(rp.etag, "");
    CHECK(!rp.immutable);
    json_t *j = body(&rp);
    CHECK_STR(str(j, "detail"), "a \"quoted\" text\n\xef\xbf\xbd");
    CHECK(json_object_get(j, "instance") == NULL);
    CHECK(json_object_get(j, "field") == NULL);
    json_decref(j);

    api_fault f = {0};
    CHECK(!api_fail_limit(&f, "parameter_invalid", "limit", 100, "limit is %d", 101));
    CHECK(!api_fail(&f, "internal", NULL, "the first fault wins"));
    api_fault_reply(&rp, &f, "r");
    j = body(&rp);
    CHECK_STR(str(j, "code"), "parameter_invalid");
    CHECK_STR(str(j, "field"), "limit");
    CHECK_INT(json_integer_value(json_object_get(j, "limit")), 100);
    json_decref(j);
    api_reply_fini(&rp);
}

static void test_translation(void)
{
    static const struct {
        idx_status st;
        const char *code;
    } idx[] = {
        {IDX_EINVAL, "field_invalid"},       {IDX_ENOTFOUND, "item_not_found"}, {IDX_EEXISTS, "catalogue_exists"},
        {IDX_EFILTER, "filter_invalid"},     {IDX_EMODEL, "model_mismatch"},    {IDX_EBUSY, "index_busy"},
        {IDX_EFULL, "storage_full"},         {IDX_EIO, "storage_failed"},       {IDX_ECORRUPT, "index_corrupt"},
        {IDX_ENOMEM, "out_of_memory"},       {IDX_EDEADLINE, "deadline_exceeded"},
    };
    idx_error ie = {.text = "the reason"};
    for (size_t i = 0; i < sizeof idx / sizeof *idx; i++) {
        api_fault f = {0};
        CHECK(!api_fail_idx(&f, idx[i].st, &ie, "item_not_found"));
        CHECK_STR(f.code, idx[i].code);
        CHECK_STR(f.detail, "the reason");
        f = (api_fault){0};
        CHECK(!api_fail_idx(&f, idx[i].st, NULL, "item_not_found"));
        CHECK(f.detail[0] != '\0');
    }
    static const struct {
        emb_status st;
        bool known;
        const char *code;
    } emb[] = {
        {EMB_EFORMAT, true, "image_damaged"},           {EMB_EFORMAT, false, "image_format_unsupported"},
        {EMB_EUNSUPPORTED, true, "image_unsupported"},  {EMB_ELIMIT, true, "image_too_large"},
        {EMB_ENOMEM, true, "out_of_memory"},            {EMB_EDEADLINE, true, "deadline_exceeded"},
        {EMB_EINVAL, true, "internal"},                 {EMB_EIO, true, "internal"},
    };
    emb_error ee = {.text = "the reason"};
    for (size_t i = 0; i < sizeof emb / sizeof *emb; i++) {
        api_fault f = {0};
        CHECK(!api_fail_emb(&f, emb[i].st, &ee, "image", emb[i].known));
        CHECK_STR(f.code, emb[i].code);
        CHECK_STR(f.field, "image");
    }
}

static void test_contract(void)
{
    size_t n;
    const char *text = api_openapi_json(&n);
    json_error_t je;
    json_t *doc = json_loadb(text, n, JSON_REJECT_DUPLICATES, &je);
    if (doc == NULL) TEST_FAIL("openapi.json: %s at line %d", je.text, je.line);
    REQUIRE(doc != NULL);
    CHECK_STR(str(doc, "openapi"), "3.1.0");
    json_t *code = NULL;
    REQUIRE(json_unpack(doc, "{s{s{s{s{so}}}}}", "components", "schemas", "Problem", "properties", "code", &code) == 0);
    json_t *list = json_object_get(code, "enum");
    CHECK_INT(json_array_size(list), api_problem_table_size);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (api_problem_find(json_string_value(json_array_get(list, i))) == NULL)
            TEST_FAIL("openapi.json lists %s", json_string_value(json_array_get(list, i)));
    json_decref(doc);
}

int main(void)
{
    test_table();
    test_replies();
    test_translation();
    test_contract();
    return test_end();
}
