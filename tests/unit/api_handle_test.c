/* Every route with good and bad input, one request a row. At the end the table of problems is walked: a code that no
 * row produced fails the test, but for those that only the server produces. */
#include "../../api/internal.h"
#include "api_fixture.h"

#define CAT   "/v1/catalogues/default"
#define ITEM  CAT "/items/shoe"
#define JSON  "application/json"
#define FORM  "multipart/form-data; boundary=b"
#define PART(name) "--b\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n"

#define FEW     PART("image") "x\r\n" PART("image") "x\r\n" PART("image") "x\r\n" PART("image") "x\r\n"

static fx_bytes photo;
static char *photo64;

/* $P in a body stands for the photo, $B for its base64. */
static fx_bytes expand(const char *s)
{
    fx_bytes b = {malloc(strlen(s) + 20 * (photo.n + strlen(photo64)) + 1), 0};
    REQUIRE(b.p != NULL);
    for (; *s != '\0'; s++) {
        if (s[0] == '$' && (s[1] == 'P' || s[1] == 'B')) {
            size_t n = s[1] == 'P' ? photo.n : strlen(photo64);
            memcpy(b.p + b.n, s[1] == 'P' ? (const char *)photo.p : photo64, n);
            b.n += n;
            s++;
        } else {
            b.p[b.n++] = (uint8_t)*s;
        }
    }
    return b;
}

typedef struct {
    api_method m;
    const char *path, *type, *body;
    int status;
    const char *code, *says; /* of a problem; says: text of the detail or field */
} row;

static const row rows[] = {
    /* catalogues */
    {API_GET, "/v1/catalogues", NULL, NULL, 200, NULL, NULL},
    {API_HEAD, "/v1/catalogues", NULL, NULL, 200, NULL, NULL},
    {API_GET, "/v1/catalogues?x=1", NULL, NULL, 400, "parameter_unknown", "\"x\""},
    {API_GET, "/v1/catalogues", NULL, "x", 400, "body_unexpected", "1 bytes"},
    {API_POST, "/v1/catalogues", JSON, "{}", 405, "method_not_allowed", "GET, HEAD"},
    {API_GET, CAT, NULL, NULL, 200, NULL, NULL},
    {API_PUT, CAT, NULL, NULL, 200, NULL, NULL},
    {API_PUT, "/v1/catalogues/second", JSON, "{}", 201, NULL, NULL},
    {API_PUT, "/v1/catalogues/second", NULL, NULL, 200, NULL, NULL},
    {API_PUT, "/v1/catalogues/third", JSON, "{\"size\":3}", 400, "field_unknown", "size"},
    {API_PUT, "/v1/catalogues/third", "text/plain", "{}", 415, "content_type_unsupported", "text/plain"},
    {API_PUT, "/v1/catalogues/Third", NULL, NULL, 400, "catalogue_name_invalid", "a-z"},
    {API_PUT, "/v1/catalogues/third?x", NULL, NULL, 400, "parameter_unknown", "x"},
    {API_PUT, "/v1/catalogues/alien", NULL, NULL, 409, "catalogue_exists", NULL},
    {API_GET, "/v1/catalogues/third", NULL, NULL, 404, "catalogue_not_found", "third"},
    {API_DELETE, "/v1/catalogues/second?force=true", NULL, NULL, 400, "parameter_unknown", "force"},
    {API_DELETE, "/v1/catalogues/second", NULL, NULL, 204, NULL, NULL},
    {API_DELETE, "/v1/catalogues/second", NULL, NULL, 404, "catalogue_not_found", "second"},
    {API_PATCH, CAT, JSON, "{}", 405, "method_not_allowed", "DELETE"},
    {API_OTHER, CAT, NULL, NULL, 405, "method_not_allowed", NULL},
    /* paths */
    {API_GET, "/", NULL, NULL, 404, "not_found", NULL},
    {API_GET, "", NULL, NULL, 404, "not_found", NULL},
    {API_GET, "/v1", NULL, NULL, 404, "not_found", NULL},
    {API_GET, "/v1/catalogues/", NULL, NULL, 400, "catalogue_name_invalid", NULL},
    {API_GET, CAT "/", NULL, NULL, 404, "not_found", NULL},
    {API_GET, "//v1/catalogues", NULL, NULL, 404, "not_found", NULL},
    {API_GET, "/v1/catalogues/../../etc/passwd", NULL, NULL, 404, "not_found", NULL},
    {API_GET, CAT "/items/a/b", NULL, NULL, 404, "not_found", NULL},
    {API_GET, CAT "/items/", NULL, NULL, 400, "item_id_invalid", "empty"},
    {API_GET, CAT "/items/%", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/%4", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/a%00b", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/a%0d%0aX:", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/%ff", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/%c0%af", NULL, NULL, 400, "path_invalid", NULL},
    {API_GET, CAT "/items/\x01", NULL, NULL, 400, "path_invalid", NULL},
    {API_POST, CAT "/items%3Abatch", NULL, "x", 500, "internal", "stream"},
    {API_GET, CAT "/items:batch", NULL, NULL, 405, "method_not_allowed", "POST"},
    /* put */
    {API_PUT, ITEM, "image/jpeg", "$P", 201, NULL, NULL},
    {API_PUT, ITEM, "application/octet-stream", "$P", 200, NULL, NULL},
    {API_PUT, ITEM "?create_only=true", "image/jpeg", "$P", 409, "item_exists", NULL},
    {API_PUT, ITEM "?create_only=yes", "image/jpeg", "$P", 400, "parameter_invalid", "create_only"},
    {API_PUT, ITEM "?create_only=true&create_only=true", "image/jpeg", "$P", 400, "query_invalid", "twice"},
    {API_PUT, CAT "/items/a%2Fb%20%C3%A9%25?create_only=true", "image/jpeg", "$P", 201, NULL, NULL},
    {API_GET, CAT "/items/a%2fb%20%c3%a9%25", NULL, NULL, 200, NULL, NULL},
    {API_PUT, ITEM, JSON, "{\"images\":[{\"data\":\"$B\"},{\"data\":\"$B\"}],\"attributes\":{\"a\":1}}", 200, NULL, NULL},
    {API_PUT, ITEM, JSON, "{\"attributes\":{\"a\":2}}", 200, NULL, NULL}, /* keeps its photos */
    {API_PUT, CAT "/items/none", JSON, "{\"attributes\":{\"a\":2}}", 400, "images_missing", "1 to 16"},
    {API_PUT, ITEM, JSON, "{\"images\":[]}", 400, "images_missing", "keep"},
    {API_PUT, ITEM, JSON, "{\"images\":{}}", 400, "field_invalid", "images"},
    {API_PUT, ITEM, JSON, "{\"images\":[1]}", 400, "field_invalid", "images[0]"},
    {API_PUT, ITEM, JSON, "{\"images\":[{}]}", 400, "field_invalid", "images[0].data"},
    {API_PUT, ITEM, JSON, "{\"images\":[{\"data\":\"$B\",\"url\":\"x\"}]}", 400, "field_unknown", "images[0].url"},
    {API_PUT, ITEM, JSON, "{\"images\":[{\"data\":\"$B\"},{\"data\":\"!!!!\"}]}", 400, "base64_invalid", "images[1].data"},
    {API_PUT, ITEM, JSON, "{\"images\":[{\"data\":\"aGVsbG8=\"}]}", 415, "image_format_unsupported", "images[0].data"},
    {API_PUT, ITEM, JSON, "{\"images\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]}", 400, "too_many_images", "16"},
    {API_PUT, ITEM, JSON, "{\"attributes\":{\"a\":{}}}", 400, "attributes_invalid", "attributes.a"},
    {API_PUT, ITEM, JSON, "{\"attributes\":{\"a\":null}}", 400, "attributes_invalid", "attributes.a"},
    {API_PUT, ITEM, JSON, "{\"attributes\":[]}", 400, "attributes_invalid", "attributes"},
    {API_PUT, ITEM, JSON, "{\"tags\":[]}", 400, "field_unknown", "tags"},
    {API_PUT, ITEM, JSON, "{\"attributes\":{},\"attributes\":{}}", 400, "json_invalid", "duplicate"},
    {API_PUT, ITEM, JSON, "nothing", 400, "json_invalid", "line 1"},
    {API_PUT, ITEM, JSON, NULL, 400, "body_missing", NULL},
    {API_PUT, ITEM, "image/jpeg", NULL, 400, "body_missing", NULL},
    {API_PUT, ITEM, NULL, "$P", 415, "content_type_unsupported", "image/*"},
    {API_PUT, ITEM, "application/x-www-form-urlencoded", "$P", 415, "content_type_unsupported", "urlencoded"},
    {API_PUT, ITEM, "image/jpeg", "GIF89a................", 415, "image_format_unsupported", NULL},
    {API_PUT, ITEM, "image/png", "\xff\xd8\xff\xe0 this begins like a JPEG", 422, "image_damaged", NULL},
    {API_PUT, ITEM, FORM, PART("attributes") "{\"a\":3}\r\n" PART("image") "$P\r\n" PART("image") "$P\r\n--b--", 200, NULL, NULL},
    {API_PUT, ITEM, FORM, PART("attributes") "{\"image\":\"a\",\"data\":\"b\"}\r\n" PART("image") "$P\r\n--b--", 200, NULL, NULL},
    {API_PUT, ITEM, FORM, PART("attributes") "{}\r\n--b--", 400, "images_missing", "image"},
    {API_PUT, ITEM, FORM, PART("attributes") "{}\r\n" PART("attributes") "{}\r\n--b--", 400, "multipart_invalid", "two parts"},
    {API_PUT, ITEM, FORM, PART("attributes") "{\"a\":[1]}\r\n" PART("image") "$P\r\n--b--", 400, "attributes_invalid", "attributes.a"},
    {API_PUT, ITEM, FORM, PART("attributes") "\r\n" PART("image") "$P\r\n--b--", 400, "json_invalid", "attributes"},
    {API_PUT, ITEM, FORM, PART("image") "$P\r\n" PART("image") "junk\r\n--b--", 415, "image_format_unsupported", "image[1]"},
    {API_PUT, ITEM, FORM, FEW FEW FEW FEW PART("image") "x\r\n--b--", 400, "too_many_images", "17"},
    {API_PUT, ITEM, FORM, FEW FEW FEW FEW FEW FEW "--b--", 400, "too_many_images", "24"},
    {API_PUT, ITEM, FORM, FEW FEW FEW FEW "--b--", 415, "image_format_unsupported", "image[0]"},
    {API_PUT, ITEM, FORM, PART("image") "\r\n--b--", 422, "image_damaged", "empty"},
    {API_PUT, ITEM, FORM, PART("photo") "$P\r\n--b--", 400, "multipart_invalid", "photo"},
    {API_PUT, ITEM, FORM, PART("image") "$P", 400, "multipart_invalid", "missing"},
    {API_PUT, ITEM, FORM, NULL, 400, "body_missing", NULL},
    {API_PUT, ITEM, "multipart/form-data", PART("image") "$P\r\n--b--", 400, "multipart_invalid", "no boundary"},
    {API_PUT, "/v1/catalogues/third/items/x", "image/jpeg", "$P", 404, "catalogue_not_found", "third"},
    {API_PUT, "/v1/catalogues/alien/items/x", "image/jpeg", "$P", 409, "model_mismatch", "alien"},
    /* get, patch, delete, images */
    {API_GET, ITEM, NULL, NULL, 200, NULL, NULL},
    {API_GET, ITEM "?fields=a,b", NULL, NULL, 200, NULL, NULL},
    {API_GET, CAT "/items/none", NULL, NULL, 404, "item_not_found", NULL},
    {API_GET, "/v1/catalogues/third/items/x", NULL, NULL, 404, "catalogue_not_found", NULL},
    {API_PATCH, ITEM, "application/merge-patch+json", "{\"attributes\":{\"a\":null,\"b\":[\"x\"]}}", 200, NULL, NULL},
    {API_PATCH, ITEM, JSON, "{\"attributes\":{}}", 200, NULL, NULL},
    {API_PATCH, ITEM, JSON, "{}", 400, "field_invalid", "attributes"},
    {API_PATCH, ITEM, JSON, "{\"attributes\":{},\"images\":[]}", 400, "field_unknown", "images"},
    {API_PATCH, ITEM, JSON, "{\"attributes\":{\"a\":[null]}}", 400, "attributes_invalid", "attributes.a"},
    {API_PATCH, ITEM, "text/plain", "{}", 415, "content_type_unsupported", "merge-patch"},
    {API_PATCH, CAT "/items/none", JSON, "{\"attributes\":{}}", 404, "item_not_found", NULL},
    {API_PATCH, "/v1/catalogues/alien/items/x", JSON, "{\"attributes\":{}}", 409, "model_mismatch", NULL},
    {API_DELETE, "/v1/catalogues/alien/items/x", NULL, NULL, 409, "model_mismatch", NULL},
    {API_DELETE, CAT "/items/none?x", NULL, NULL, 400, "parameter_unknown", "x"},
    {API_DELETE, CAT "/items/none", NULL, "x", 400, "body_unexpected", NULL},
    {API_DELETE, CAT "/items/none", NULL, NULL, 404, "item_not_found", NULL},
    {API_DELETE, "/v1/catalogues/third/items/x", NULL, NULL, 404, "catalogue_not_found", NULL},
    {API_GET, ITEM "/images/0", NULL, NULL, 200, NULL, NULL},
    {API_GET, ITEM "/images/0?v=0000000000000000", NULL, NULL, 200, NULL, NULL},
    {API_GET, ITEM "/images/1", NULL, NULL, 404, "image_not_found", NULL},
    {API_GET, ITEM "/images/16", NULL, NULL, 404, "image_not_found", NULL},
    {API_GET, ITEM "/images/-1", NULL, NULL, 404, "image_not_found", NULL},
    {API_GET, ITEM "/images/00", NULL, NULL, 404, "image_not_found", NULL},
    {API_GET, ITEM "/images/", NULL, NULL, 404, "image_not_found", NULL},
    {API_GET, ITEM "/images/0?w=5", NULL, NULL, 400, "parameter_unknown", "w"},
    {API_GET, CAT "/items/none/images/0", NULL, NULL, 404, "item_not_found", NULL},
    {API_GET, "/v1/catalogues/third/items/x/images/0", NULL, NULL, 404, "catalogue_not_found", NULL},
    /* list */
    {API_GET, CAT "/items?limit=1", NULL, NULL, 200, NULL, NULL},
    {API_GET, CAT "/items?limit=0", NULL, NULL, 400, "parameter_invalid", "limit is \"0\", 1 to 100"},
    {API_GET, CAT "/items?limit=101", NULL, NULL, 400, "parameter_invalid", "100"},
    {API_GET, CAT "/items?limit=1e1", NULL, NULL, 400, "parameter_invalid", "limit"},
    {API_GET, CAT "/items?filter=((", NULL, NULL, 400, "filter_invalid", NULL},
    {API_GET, CAT "/items?page_token=AAAA", NULL, NULL, 400, "page_token_invalid", "damaged"},
    {API_GET, CAT "/items?filter=%zz", NULL, NULL, 400, "query_invalid", "filter"},
    {API_GET, "/v1/catalogues/third/items", NULL, NULL, 404, "catalogue_not_found", NULL},
    /* search */
    {API_POST, CAT "/search", "image/jpeg", "$P", 200, NULL, NULL},
    {API_POST, CAT "/search?limit=1&min_score=-0.5&crop=0,0,1,1&fields=a&exact=false", "image/webp", "$P", 200, NULL, NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\"}", 200, NULL, NULL},
    {API_POST, CAT "/search", JSON, "{\"image\":\"$B\",\"fields\":[\"*\"],\"crop\":{\"x\":0,\"y\":0,\"w\":0.5,\"h\":1}}", 200, NULL, NULL},
    {API_POST, CAT "/search", JSON, "{}", 400, "query_missing", "image"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"$B\",\"item\":\"shoe\"}", 400, "query_conflict", "item"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"none\"}", 404, "item_not_found", NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":\"\"}", 400, "item_id_invalid", NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":\"a\\u0007\"}", 400, "item_id_invalid", NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":5}", 400, "field_invalid", "item"},
    {API_POST, CAT "/search", JSON, "{\"image\":5}", 400, "field_invalid", "image"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"data:image/jpeg;base64,$B\"}", 400, "base64_invalid", "without"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"crop\":{\"x\":0,\"y\":0,\"w\":1,\"h\":1}}", 400, "field_invalid", "crop"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"limit\":101}", 400, "field_invalid", "limit is 101"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"limit\":1.5}", 400, "field_invalid", "limit"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"limit\":\"1\"}", 400, "field_invalid", "limit"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"min_score\":2}", 400, "field_invalid", "min_score"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"fields\":\"a\"}", 400, "field_invalid", "fields"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"fields\":[1]}", 400, "field_invalid", "fields"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"exact\":1}", 400, "field_invalid", "exact"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"filter\":1}", 400, "field_invalid", "filter"},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"filter\":\"((\"}", 400, "filter_invalid", NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"page_token\":\"x\"}", 400, "page_token_invalid", NULL},
    {API_POST, CAT "/search", JSON, "{\"item\":\"shoe\",\"colour\":[]}", 400, "field_unknown", "colour"},
    {API_POST, CAT "/search?limit=3", JSON, "{\"item\":\"shoe\",\"limit\":3}", 400, "parameter_invalid", "limit is given in"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"$B\",\"crop\":{\"x\":0,\"y\":0,\"w\":1}}", 400, "field_invalid", "crop.h"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"$B\",\"crop\":{\"x\":0,\"y\":0,\"w\":1,\"h\":1,\"z\":1}}", 400, "field_unknown", "crop.z"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"$B\",\"crop\":[0,0,1,1]}", 400, "field_invalid", "crop"},
    {API_POST, CAT "/search?crop=0,0,1", "image/jpeg", "$P", 400, "parameter_invalid", "crop"},
    {API_POST, CAT "/search?crop=0,0,1,1,1", "image/jpeg", "$P", 400, "parameter_invalid", "crop"},
    {API_POST, CAT "/search?crop=0.5,0,0.6,1", "image/jpeg", "$P", 400, "parameter_invalid", "leaves"},
    {API_POST, CAT "/search?crop=0,0,0,1", "image/jpeg", "$P", 400, "parameter_invalid", "empty"},
    {API_POST, CAT "/search?crop=-1,0,1,1", "image/jpeg", "$P", 400, "parameter_invalid", "-1"},
    {API_POST, CAT "/search?crop=0x0,0,1,1", "image/jpeg", "$P", 400, "parameter_invalid", "crop"},
    {API_POST, CAT "/search?min_score=nan", "image/jpeg", "$P", 400, "parameter_invalid", "min_score"},
    {API_POST, CAT "/search?min_score=1e999", "image/jpeg", "$P", 400, "parameter_invalid", "min_score"},
    {API_POST, CAT "/search?limit=", "image/jpeg", "$P", 400, "parameter_invalid", "limit"},
    {API_POST, CAT "/search?exact=1", "image/jpeg", "$P", 400, "parameter_invalid", "exact"},
    {API_POST, CAT "/search?encoding=float", "image/jpeg", "$P", 400, "parameter_unknown", "encoding"},
    {API_POST, CAT "/search", "image/jpeg", NULL, 400, "body_missing", NULL},
    {API_POST, CAT "/search", NULL, NULL, 400, "body_missing", NULL},
    {API_POST, CAT "/search", "text/html", "x", 415, "content_type_unsupported", "text/html"},
    {API_POST, CAT "/search", "image/jpeg", "plain text", 415, "image_format_unsupported", NULL},
    {API_POST, CAT "/search", FORM, PART("image") "$P\r\n--b--", 200, NULL, NULL},
    {API_POST, CAT "/search", FORM, PART("image") "\r\n--b--", 422, "image_damaged", "empty"},
    {API_POST, CAT "/search", JSON, "{\"image\":\"\"}", 400, "base64_invalid", "empty"},
    {API_POST, CAT "/search", FORM, PART("image") "$P\r\n" PART("image") "$P\r\n--b--", 400, "query_conflict", "image"},
    {API_POST, CAT "/search", FORM, PART("options") "{}\r\n--b--", 400, "query_missing", "image"},
    {API_POST, CAT "/search", FORM, PART("options") "{\"item\":\"shoe\"}\r\n--b--", 400, "field_unknown", "options.item"},
    {API_POST, CAT "/search", FORM, PART("options") "{}\r\n" PART("options") "{}\r\n--b--", 400, "multipart_invalid", "two parts"},
    {API_POST, CAT "/search", FORM, PART("attributes") "{}\r\n--b--", 400, "multipart_invalid", "attributes"},
    {API_POST, "/v1/catalogues/third/search", "image/jpeg", "$P", 404, "catalogue_not_found", NULL},
    {API_POST, "/v1/catalogues/alien/search", "image/jpeg", "$P", 409, "model_mismatch", NULL},
    {API_GET, CAT "/search", NULL, NULL, 405, "method_not_allowed", "POST"},
    /* embed */
    {API_POST, "/v1/embed", "image/jpeg", "$P", 200, NULL, NULL},
    {API_POST, "/v1/embed", JSON, "{\"image\":\"$B\",\"encoding\":\"base64\"}", 200, NULL, NULL},
    {API_POST, "/v1/embed", FORM, PART("image") "$P\r\n" PART("options") "{\"encoding\":\"base64\"}\r\n--b--", 200, NULL, NULL},
    {API_POST, "/v1/embed?encoding=int8", "image/jpeg", "$P", 400, "parameter_invalid", "encoding"},
    {API_POST, "/v1/embed", JSON, "{\"item\":\"shoe\"}", 400, "field_unknown", "item"},
    {API_POST, "/v1/embed?limit=1", "image/jpeg", "$P", 400, "parameter_unknown", "limit"},
    {API_POST, "/v1/embed", "image/jpeg", NULL, 400, "body_missing", NULL},
    {API_POST, "/v1/embed", "text/plain", "x", 415, "content_type_unsupported", NULL},
    {API_POST, "/v1/embed", "image/jpeg", "\xff\xd8\xff\xe0 this begins like a JPEG", 422, "image_damaged", NULL},
    {API_POST, "/v1/embed?crop=0,0,2,1", "image/jpeg", "$P", 400, "parameter_invalid", "crop"},
    /* the end */
    {API_DELETE, ITEM, NULL, NULL, 204, NULL, NULL},
    {API_GET, ITEM, NULL, NULL, 404, "item_not_found", NULL},
};

static void check_problem(const row *r, const api_reply *rp)
{
    CHECK_STR(rp->content_type, "application/problem+json");
    CHECK_STR(rp->problem_code, r->code);
    json_t *j = json_loadb((const char *)rp->body, rp->body_bytes, JSON_REJECT_DUPLICATES, NULL);
    REQUIRE(j != NULL);
    CHECK_STR(fx_str(j, "code"), r->code);
    CHECK_STR(fx_str(j, "instance"), "test");
    CHECK_INT(json_integer_value(json_object_get(j, "status")), r->status);
    const char *field = fx_str(j, "field"), *detail = fx_str(j, "detail");
    if (r->says != NULL && (field == NULL || strstr(field, r->says) == NULL)) CHECK_CONTAINS(detail, r->says);
    CHECK_INT(rp->allow[0] != '\0', r->status == 405);
    json_decref(j);
}

static void run_row(const row *r)
{
    unsigned before = test_failures;
    fx_bytes b = {NULL, 0};
    if (r->body != NULL) b = expand(r->body);
    api_reply rp;
    fx_request(r->m, r->path, r->type, b.p, b.n, 0, &rp);
    CHECK_INT(rp.status, r->status);
    if (r->code != NULL && rp.problem_code != NULL)
        check_problem(r, &rp);
    else
        CHECK_STR(rp.problem_code != NULL ? rp.problem_code : "none", r->code != NULL ? r->code : "none");
    CHECK_INT(rp.body_bytes > 0, r->status != 204);
    if (test_failures != before)
        fprintf(stderr, "  in: %d %s %s\n  %.*s\n", (int)r->m, r->path, r->body ? r->body : "", (int)rp.body_bytes,
                rp.body ? (char *)rp.body : "");
    api_reply_fini(&rp);
    free(b.p);
}

/* ---- what a table does not show ----------------------------------------------------------------- */

static void test_routes(void)
{
    static const struct {
        api_method m;
        const char *path;
        api_class cls;
        bool body, write;
        const char *route;
    } cases[] = {
        {API_GET, "/v1/catalogues", API_CLASS_READ, false, false, "/v1/catalogues"},
        {API_HEAD, CAT, API_CLASS_READ, false, false, "/v1/catalogues/{catalogue}"},
        {API_PUT, CAT, API_CLASS_INTERACTIVE, true, true, "/v1/catalogues/{catalogue}"},
        {API_GET, CAT "/items", API_CLASS_INTERACTIVE, false, false, "/v1/catalogues/{catalogue}/items"},
        {API_POST, CAT "/items:batch", API_CLASS_STREAM, true, true, "/v1/catalogues/{catalogue}/items:batch"},
        {API_PUT, CAT "/items/%", API_CLASS_INTERACTIVE, true, true, "/v1/catalogues/{catalogue}/items/{item}"},
        {API_POST, CAT "/search", API_CLASS_INTERACTIVE, true, false, "/v1/catalogues/{catalogue}/search"},
        {API_POST, CAT "/items/x", API_CLASS_NONE, false, false, "/v1/catalogues/{catalogue}/items/{item}"},
        {API_GET, "/favicon.ico", API_CLASS_NONE, false, false, "unmatched"},
        {API_OTHER, CAT, API_CLASS_NONE, false, false, "/v1/catalogues/{catalogue}"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        api_route_info info = api_route(fx.cx, cases[i].m, cases[i].path);
        CHECK_INT(info.cls, cases[i].cls);
        CHECK_INT(info.max_body_bytes > 0, cases[i].body);
        CHECK_INT(info.write, cases[i].write);
        CHECK_STR(info.route, cases[i].route);
    }
    CHECK_INT(api_route(fx.cx, API_PUT, CAT "/items/x").max_body_bytes, api_ctx_limits(fx.cx)->max_body_bytes);
}

/* The contract and the route table name the same paths and methods (health and the like are the server's). */
static void test_contract(void)
{
    static const char *const method[] = {"get", NULL, "post", "put", "patch", "delete"};
    size_t n, operations = 0;
    const char *text = api_openapi_json(&n);
    json_t *doc = json_loadb(text, n, 0, NULL);
    json_t *paths = json_object_get(doc, "paths");
    const char *path;
    json_t *ops;
    json_object_foreach(paths, path, ops)
    {
        if (strncmp(path, "/v1/", 4) != 0) continue;
        for (int m = 0; m < API_OTHER; m++) {
            if (method[m] == NULL) continue;
            api_route_info info = api_route(fx.cx, (api_method)m, path); /* braces are good enough as ids */
            bool listed = json_object_get(ops, method[m]) != NULL;
            operations += listed;
            CHECK_STR(info.route, path);
            CHECK_INT(info.cls != API_CLASS_NONE, listed);
        }
    }
    CHECK_INT(operations, 13);
    json_decref(doc);
}

static void test_replies(void)
{
    api_reply rp;
    fx_request(API_PUT, CAT "/items/a%2Fb", "image/jpeg", photo.p, photo.n, 0, &rp);
    CHECK_INT(rp.status, 201);
    CHECK_STR(rp.location, CAT "/items/a%2Fb");
    CHECK_INT(rp.images, 1);
    CHECK(rp.stage_ns[API_STAGE_DECODE] > 0 && rp.stage_ns[API_STAGE_EMBED] > 0 && rp.stage_ns[API_STAGE_COMMIT] > 0);
    api_reply_fini(&rp);

    int st;
    json_t *j = fx_json(API_GET, CAT "/items/a%2Fb", NULL, NULL, 0, &st);
    const json_t *im = json_array_get(json_object_get(j, "images"), 0);
    const char *url = fx_str(im, "url"), *sha = fx_str(im, "sha256");
    CHECK_STR(fx_str(j, "id"), "a/b");
    CHECK_INT(json_integer_value(json_object_get(im, "width")), 96);
    REQUIRE(url != NULL && sha != NULL);
    CHECK_INT(strlen(sha), 64);
    fx_request(API_GET, url, NULL, NULL, 0, 0, &rp); /* the address in the reply is the picture, for good */
    CHECK_INT(rp.status, 200);
    CHECK_STR(rp.content_type, "image/jpeg");
    CHECK(rp.immutable && rp.etag[0] == '"');
    emb_image_info info;
    CHECK_INT(emb_image_probe(rp.body, rp.body_bytes, NULL, &info, NULL), EMB_OK);
    CHECK_INT(info.format, EMB_JPEG);
    api_reply_fini(&rp);
    fx_request(API_GET, CAT "/items/a%2Fb/images/0", NULL, NULL, 0, 0, &rp);
    CHECK(!rp.immutable);
    api_reply_fini(&rp);
    json_decref(j);

    char etag[80];
    fx_request(API_GET, CAT "/items/a%2Fb", NULL, NULL, 0, 0, &rp);
    strcpy(etag, rp.etag);
    api_reply_fini(&rp);
    CHECK_INT(fx_status(API_PATCH, CAT "/items/a%2Fb", JSON, "{\"attributes\":{\"k\":0.1}}", 24), 200);
    fx_request(API_GET, CAT "/items/a%2Fb", NULL, NULL, 0, 0, &rp);
    CHECK(strcmp(etag, rp.etag) != 0);
    api_reply_fini(&rp);
    j = fx_json(API_GET, CAT "/items/a%2Fb", NULL, NULL, 0, &st);
    char *text = json_dumps(json_object_get(j, "attributes"), JSON_REAL_PRECISION(15));
    CHECK_STR(text, "{\"k\": 0.1}");
    free(text);
    json_decref(j);
    CHECK_INT(fx_status(API_DELETE, CAT "/items/a%2Fb", NULL, NULL, 0), 204);
}

static void expect(int status, const char *code, api_method m, const char *path, const char *type, const void *body, size_t n)
{
    api_reply rp;
    fx_request(m, path, type, body, n, 0, &rp);
    CHECK_INT(rp.status, status);
    CHECK_STR(rp.problem_code, code);
    api_reply_fini(&rp);
}

static void expect_text(const char *part, const char *patch, size_t n)
{
    api_reply rp;
    fx_request(API_PATCH, ITEM, JSON, patch, n, 0, &rp);
    CHECK(memmem(rp.body, rp.body_bytes, part, strlen(part)) != NULL);
    api_reply_fini(&rp);
}

/* The index's own limits of attributes, before a photo is worked on and for what a patch would make. */
static void test_attributes(void)
{
    enum { CAP = 65536 };
    char *body = malloc(CAP), value[1100];
    REQUIRE(body != NULL);
    size_t n = (size_t)sprintf(body, "{\"images\":[{\"data\":\"bm8gcGhvdG8=\"}],\"attributes\":{\"k0\":0");
    for (int i = 1; i <= 64; i++) n += (size_t)sprintf(body + n, ",\"k%d\":%d", i, i);
    n += (size_t)sprintf(body + n, "}}");
    expect(400, "attributes_invalid", API_PUT, ITEM, JSON, body, n); /* 65 names; the photo is not one, but comes later */
    memset(value, 'v', sizeof value);
    n = (size_t)sprintf(body, "{\"attributes\":{\"k\":\"%.1025s\"}}", value);
    expect(400, "attributes_invalid", API_PUT, ITEM, JSON, body, n);
    expect(400, "attributes_invalid", API_PATCH, ITEM, JSON, body, n);
    expect_text("\"field\":\"attributes.k\"", body, n);
    expect_text("\"limit\":1024", body, n);

    CHECK_INT(fx_status(API_PUT, ITEM, "image/jpeg", photo.p, photo.n), 201);
    for (int part = 0; part < 2; part++) { /* 20 kB each: either is fine, both are not */
        n = (size_t)sprintf(body, "{\"attributes\":{");
        for (int i = 0; i < 20; i++) n += (size_t)sprintf(body + n, "%s\"p%d-%d\":\"%.1000s\"", i > 0 ? "," : "", part, i, value);
        n += (size_t)sprintf(body + n, "}}");
        if (part == 0)
            CHECK_INT(fx_status(API_PATCH, ITEM, JSON, body, n), 200);
        else
            expect(400, "attributes_invalid", API_PATCH, ITEM, JSON, body, n), expect_text("\"limit\":32768", body, n);
    }
    api_reply rp;
    /* Numbers come back as they were written. */
    static const char put[] = "{\"attributes\":{\"a\":79.99,\"b\":12,\"c\":-0.5,\"d\":1e-7}}", patch[] = "{\"attributes\":{\"b\":null}}";
    CHECK_INT(fx_status(API_PUT, ITEM, JSON, put, sizeof put - 1), 200);
    CHECK_INT(fx_status(API_PATCH, ITEM, JSON, patch, sizeof patch - 1), 200);
    fx_request(API_GET, ITEM, NULL, NULL, 0, 0, &rp);
    static const char want[] = "{\"a\":79.99,\"c\":-0.5,\"d\":";
    CHECK(memmem(rp.body, rp.body_bytes, want, sizeof want - 1) != NULL);
    api_reply_fini(&rp);
    CHECK_INT(fx_status(API_DELETE, ITEM, NULL, NULL, 0), 204);
    free(body);
}

static void test_fields(void)
{
    char path[1024] = CAT "/search?fields=f", body[2048] = "{\"item\":\"shoe\",\"fields\":[\"f\"";
    for (int i = 1; i <= 64; i++) strcat(path, ",f"), strcat(body, ",\"f\"");
    strcat(body, "]}");
    expect(400, "parameter_invalid", API_POST, path, "image/jpeg", photo.p, photo.n);
    expect(400, "field_invalid", API_POST, CAT "/search", JSON, body, strlen(body));
}

static void test_limits(void)
{
    const api_limits *l = api_ctx_limits(fx.cx);
    char longer[1024] = CAT "/items/";
    memset(longer + strlen(longer), 'i', IDX_MAX_ID_BYTES + 1);
    expect(400, "item_id_invalid", API_GET, longer, NULL, NULL, 0);
    longer[strlen(longer) - 1] = '\0';
    expect(404, "item_not_found", API_GET, longer, NULL, NULL, 0);
    char *big = malloc(l->max_body_bytes + 1);
    REQUIRE(big != NULL);
    memset(big, ' ', l->max_body_bytes + 1);
    expect(413, "body_too_large", API_PUT, ITEM, "image/jpeg", big, l->max_body_bytes + 1);
    expect(413, "json_too_large", API_PUT, ITEM, JSON, big, l->max_json_bytes + 1);
    expect(413, "image_too_large", API_PUT, ITEM, "image/jpeg", big, l->max_image_bytes + 1);
    expect(413, "image_too_large", API_POST, "/v1/embed", "image/jpeg", big, l->max_image_bytes + 1);
    expect(413, "body_too_large", API_PATCH, ITEM, JSON, big, l->max_json_bytes + 1);
    expect(413, "body_too_large", API_PUT, CAT, JSON, big, l->max_json_bytes + 1);
    free(big);
    /* pixels: a PNG header of 60,000 x 60,000 */
    static const uint8_t png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0\0\0\0\0";
    expect(413, "image_too_large", API_POST, CAT "/search", "image/png", png, sizeof png - 1);
    /* JPEG of a kind that is valid but not read: lossless (SOF3) */
    uint8_t *copy = malloc(photo.n);
    REQUIRE(copy != NULL);
    memcpy(copy, photo.p, photo.n);
    for (size_t i = 0; i + 1 < photo.n; i++)
        if (copy[i] == 0xff && copy[i + 1] == 0xc0) copy[i + 1] = 0xc3;
    expect(422, "image_unsupported", API_POST, CAT "/search", "image/jpeg", copy, photo.n);
    free(copy);
    char filter[3 * IDX_MAX_FILTER_BYTES] = CAT "/search?filter=";
    memset(filter + strlen(filter), 'a', IDX_MAX_FILTER_BYTES + 1);
    expect(400, "filter_invalid", API_POST, filter, "image/jpeg", photo.p, photo.n);
}

static void test_deadline(void)
{
    api_reply rp;
    fx_request(API_POST, CAT "/search", "image/jpeg", photo.p, photo.n, 1, &rp);
    CHECK_INT(rp.status, 503);
    CHECK_STR(rp.problem_code, "deadline_exceeded");
    CHECK(rp.retry_after_s > 0);
    api_reply_fini(&rp);
}

/* Writes give their compute thread back: the writer may be busy for seconds. */
static void test_pending(void)
{
    static const struct {
        api_method m;
        const char *path;
        int status;
    } writes[] = {{API_PUT, "/v1/catalogues/soon", 201}, {API_PUT, "/v1/catalogues/soon", 200}, {API_DELETE, "/v1/catalogues/soon", 204},
                  {API_DELETE, "/v1/catalogues/soon", 404}, {API_DELETE, ITEM "-nobody", 404}};
    for (size_t i = 0; i < sizeof writes / sizeof *writes; i++) {
        fx_wait w = {.m = PTHREAD_MUTEX_INITIALIZER, .c = PTHREAD_COND_INITIALIZER};
        api_request rq = {.method = writes[i].m, .raw_path = writes[i].path, .request_id = "p", .done = fx_done, .ctx = &w};
        api_reply rp = {0};
        api_state state = api_handle(fx.cx, fx.w, &rq, &rp);
        CHECK_INT(state, API_PENDING);
        fx_finish(&w, state);
        CHECK_INT(rp.status, writes[i].status);
        fx_saw(rp.problem_code);
        contract_reply(fx.cx, writes[i].m, writes[i].path, &rp);
        api_reply_fini(&rp);
    }
}

static void *no_malloc(size_t n)
{
    (void)n;
    return NULL;
}

static void test_memory(void)
{
    static const char body[] = "{\"attributes\":{}}";
    api_request rq = {.method = API_PATCH, .raw_path = ITEM, .content_type = JSON, .body = (const uint8_t *)body, .body_bytes = sizeof body - 1};
    api_reply rp = {0};
    json_set_alloc_funcs(no_malloc, free);
    CHECK_INT(api_handle(fx.cx, fx.w, &rq, &rp), API_DONE);
    json_set_alloc_funcs(malloc, free);
    fx_saw(rp.problem_code);
    CHECK_STR(rp.problem_code, "out_of_memory");
    CHECK_INT(rp.status, 503);
    api_reply_fini(&rp);
}

/* What the index reports when it cannot go on; the translation is one function. */
static void test_index_states(void)
{
    static const idx_status states[] = {IDX_EIO, IDX_ECORRUPT};
    for (size_t i = 0; i < 2; i++) {
        api_fault f = {0};
        api_fail_idx(&f, states[i], NULL, NULL);
        fx_saw(f.code);
    }
    fx_stop();
    idx_opts full = {.no_background = true, .disk_floor_bytes = UINT64_C(1) << 60};
    fx_start(&full, NULL);
    api_reply rp;
    fx_request(API_PUT, ITEM, "image/jpeg", photo.p, photo.n, 0, &rp);
    CHECK_INT(rp.status, 507);
    CHECK_STR(rp.problem_code, "storage_full");
    CHECK(rp.retry_after_s > 0);
    api_reply_fini(&rp);
    CHECK_INT(fx_status(API_POST, CAT "/search", "image/jpeg", photo.p, photo.n), 200); /* searches go on */
}

static void test_every_code(void)
{
    static const char *const elsewhere[] = {
        /* the server's own, tests/http */
        "bad_request", "unauthorized", "request_timeout", "length_required", "uri_too_long", "headers_too_large", "overloaded",
        "not_ready", "condition_unsupported",
        /* of the stream, api_batch_test and api_batch_order_test */
        "line_too_long", "too_many_lines", "shutting_down", "index_busy"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        REQUIRE(api_problem_find(elsewhere[i]) != NULL);
        fx_saw(elsewhere[i]);
    }
    for (size_t i = 0; i < api_problem_table_size; i++) {
        test_checks++;
        if (!fx.seen[i]) TEST_FAIL("no request produced %s", api_problem_table[i].code);
    }
}

/* A rendition of any size: small ones come from what was decoded for the model, large ones from more of the photo; a
 * query still finds its item with score 1. */
static void test_renditions(const idx_opts *opts)
{
    static const struct {
        uint32_t side, w, h;
    } cases[] = {{64, 64, 48}, {320, 320, 240}, {500, 500, 375}, {4000, 900, 675}};
    fx_bytes large = fx_photo(2, 900, 675);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        fx_stop();
        fx_start(opts, &(api_limits){.rendition_side = cases[i].side});
        api_reply rp;
        CHECK_INT(fx_status(API_PUT, CAT "/items/large", "image/jpeg", large.p, large.n), i == 0 ? 201 : 200);
        fx_request(API_GET, CAT "/items/large/images/0", NULL, NULL, 0, 0, &rp);
        emb_image_info info;
        REQUIRE(emb_image_probe(rp.body, rp.body_bytes, NULL, &info, NULL) == EMB_OK);
        CHECK_INT(info.width, cases[i].w);
        CHECK_INT(info.height, cases[i].h);
        api_reply_fini(&rp);
        int st;
        json_t *j = fx_json(API_POST, CAT "/search?limit=1", "image/jpeg", large.p, large.n, &st);
        CHECK_NEAR(json_real_value(json_object_get(json_array_get(json_object_get(j, "results"), 0), "score")), 1, 1e-6);
        json_decref(j);
    }
    free(large.p);
    fx_stop();
    fx_start(opts, NULL);
}

int main(void)
{
    idx_opts opts = {.no_background = true};
    bool created;
    fx_start(&opts, NULL);
    photo = fx_photo(1, 96, 80);
    photo64 = fx_photo64(1);
    REQUIRE(idx_catalogue_put(fx.ix, "alien", "other", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                              8, &created, NULL) == IDX_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) run_row(&rows[i]);
    test_routes();
    test_contract();
    test_replies();
    test_attributes();
    test_fields();
    test_limits();
    test_deadline();
    test_pending();
    test_memory();
    test_index_states();
    test_renditions(&opts);
    test_every_code();
    contract_all_seen();
    free(photo.p);
    free(photo64);
    fx_stop();
    fx_end();
    return test_end();
}
