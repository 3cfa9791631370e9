/* JSON bodies with photos, their base64, attributes, query strings and page tokens: whatever comes ends in a value or a
 * fault, and attributes that are taken read back the same. */
#include "../../api/json.h"
#include "../../api/page_token.h"
#include "../../api/text.h"

#include <stdlib.h>
#include <string.h>

static void attributes(const json_t *a)
{
    api_fault f = {0};
    char *text = NULL, *again = NULL;
    if (!api_attributes_text(a, true, &text, &f)) {
        if (f.code == NULL) abort();
        return;
    }
    json_t *back = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    if (back == NULL || !api_attributes_text(back, true, &again, &f) || strcmp(text, again) != 0) abort();
    json_decref(back);
    free(text);
    free(again);
}

static void photo(const api_doc *d, const json_t *v)
{
    const char *p;
    size_t n, got;
    uint8_t *out = NULL;
    api_fault f = {0};
    if (!json_is_string(v)) return;
    api_doc_text(d, v, &p, &n);
    if (api_base64_decode(p, n, true, 1 << 20, "image", &out, &got, &f) && got > n) abort();
    free(out);
}

static void text(const char *s)
{
    static const char *const names[] = {"limit", "filter", "page_token", "fields", NULL};
    api_params ps;
    api_fault f = {0};
    if (api_params_parse(&ps, s, names, &f)) {
        for (size_t i = 0; i < ps.n; i++)
            if (!api_text_printable(ps.p[i].value, strlen(ps.p[i].value))) abort();
    }
    api_params_fini(&ps);
    api_page_key k;
    float score;
    char id[IDX_MAX_ID_BYTES + 1];
    api_page_key_init(&k, "search");
    f = (api_fault){0};
    if (api_page_token_read(&k, s, &score, id, &f) && id[0] == '\0') abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    api_doc d;
    api_fault f = {0};
    if (api_doc_parse(&d, data, n, true, 1 << 16, NULL, &f)) {
        const json_t *images = json_object_get(d.root, "images"), *a = json_object_get(d.root, "attributes");
        photo(&d, json_object_get(d.root, "image"));
        for (size_t i = 0; i < json_array_size(images); i++) photo(&d, json_object_get(json_array_get(images, i), "data"));
        if (a != NULL) attributes(a);
    } else if (f.code == NULL) {
        abort();
    }
    api_doc_fini(&d);
    char *s = malloc(n + 1);
    if (s == NULL) return 0;
    memcpy(s, data, n);
    s[n] = '\0';
    text(s);
    free(s);
    return 0;
}
