/* write.c: JSON and photos -> one write of the index; shared by PUT, PATCH and the lines of a batch. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool api_item_id_check(const char *id, size_t n, const char *field, api_fault *f)
{
    if (n == 0) return api_fail(f, "item_id_invalid", field, "the item id is empty");
    if (n > IDX_MAX_ID_BYTES)
        return api_fail_limit(f, "item_id_invalid", field, IDX_MAX_ID_BYTES, "the item id has %zu bytes, the limit is %d", n,
                              IDX_MAX_ID_BYTES);
    if (!api_text_printable(id, n))
        return api_fail(f, "item_id_invalid", field, "the item id is not printable UTF-8");
    return true;
}

idx_image *api_write_image(const api_write_ctx *wc, idx_op *op, const char *field)
{
    if (op->n_images == IDX_MAX_IMAGES) {
        api_fail_limit(wc->fault, "too_many_images", field, IDX_MAX_IMAGES, "an item has at most %d images", IDX_MAX_IMAGES);
        return NULL;
    }
    if (op->images == NULL && (op->images = calloc(IDX_MAX_IMAGES, sizeof *op->images)) == NULL) {
        api_fail_memory(wc->fault);
        return NULL;
    }
    op->dim = wc->cat->dim;
    memcpy(op->fingerprint, wc->cat->fingerprint, sizeof op->fingerprint);
    return &op->images[op->n_images++]; /* counted at once: idx_op_free() releases what a failure leaves */
}

bool api_write_add_photo(const api_write_ctx *wc, idx_op *op, const uint8_t *p, size_t n, const char *field)
{
    idx_image *im = api_takes_photos(wc->cat, field, wc->fault) ? api_write_image(wc, op, field) : NULL;
    if (im == NULL) return false;
    api_photo ph = {.p = p, .n = n, .field = field, .deadline_ns = wc->deadline_ns};
    return api_photo_embed(wc->cx, wc->w, &ph, wc->w->embedding, im, wc->stage_ns, wc->fault);
}

static bool add_json_image(const api_write_ctx *wc, idx_op *op, const api_doc *doc, const json_t *entry, size_t i)
{
    static const char *const names[] = {"data", "embedding", NULL};
    char field[48];
    snprintf(field, sizeof field, "images[%zu]", i);
    if (!json_is_object(entry))
        return api_fail(wc->fault, "field_invalid", field, "%s is not an object with a member \"data\" or \"embedding\"", field);
    char prefix[56];
    snprintf(prefix, sizeof prefix, "%s.", field);
    if (!api_json_only(entry, names, prefix, wc->fault)) return false;
    const json_t *data = json_object_get(entry, "data"), *embedding = json_object_get(entry, "embedding");
    if (embedding != NULL) {
        snprintf(field, sizeof field, "images[%zu].embedding", i);
        if (data != NULL) return api_fail(wc->fault, "field_invalid", field, "%s comes beside \"data\", one of them is expected", field);
        return api_write_add_embedding(wc, op, doc, embedding, field);
    }
    if (data == NULL && api_is_external(wc->cat)) return api_fail(wc->fault, "field_invalid", field, "%s has no embedding", field);
    snprintf(field, sizeof field, "images[%zu].data", i);
    if (!json_is_string(data)) return api_fail(wc->fault, "field_invalid", field, "%s is not a base64 string", field);
    const char *p;
    size_t n, bytes;
    uint8_t *image = NULL;
    api_doc_text(doc, data, &p, &n);
    bool ok = api_base64_decode(p, n, true, wc->cx->limits.max_image_bytes, field, &image, &bytes, wc->fault) &&
              api_write_add_photo(wc, op, image, bytes, field);
    free(image);
    return ok;
}

static bool add_json_images(const api_write_ctx *wc, idx_op *op, const api_doc *doc, const json_t *images)
{
    size_t n = json_array_size(images);
    if (!json_is_array(images)) return api_fail(wc->fault, "field_invalid", "images", "images is not an array");
    if (n == 0)
        return api_fail(wc->fault, "images_missing", "images",
                        "images is empty: leave it out to keep the item's images, or send 1 to %d", IDX_MAX_IMAGES);
    if (n > IDX_MAX_IMAGES)
        return api_fail_limit(wc->fault, "too_many_images", "images", IDX_MAX_IMAGES, "images has %zu entries, the limit is %d",
                              n, IDX_MAX_IMAGES);
    for (size_t i = 0; i < n; i++)
        if (!add_json_image(wc, op, doc, json_array_get(images, i), i)) return false;
    return true;
}

bool api_write_from_json(const api_write_ctx *wc, idx_op_kind kind, const char *id, const api_doc *doc, idx_op **out)
{
    idx_op *op = idx_op_new(kind, wc->catalogue, id);
    if (op == NULL) return api_fail_memory(wc->fault);
    const json_t *attributes = json_object_get(doc->root, "attributes");
    const json_t *images = json_object_get(doc->root, "images"), *embedding = json_object_get(doc->root, "embedding");
    bool ok = true;
    if (kind == IDX_PATCH && attributes == NULL)
        ok = api_fail(wc->fault, "field_invalid", "attributes", "a patch needs the member \"attributes\"");
    if (ok && attributes != NULL && kind != IDX_DELETE)
        ok = api_attributes_text(attributes, kind == IDX_PATCH, &op->attributes, wc->fault);
    if (ok && kind != IDX_PUT && images != NULL)
        ok = api_fail(wc->fault, "field_unknown", "images", "only a put can have images");
    if (ok && kind != IDX_PUT && embedding != NULL)
        ok = api_fail(wc->fault, "field_unknown", "embedding", "only a put can have an embedding");
    if (ok && images != NULL && embedding != NULL)
        ok = api_fail(wc->fault, "field_invalid", "embedding",
                      "embedding comes beside images; several embeddings are images with a member \"embedding\" each");
    if (ok && kind == IDX_DELETE && attributes != NULL)
        ok = api_fail(wc->fault, "field_unknown", "attributes", "a delete cannot have attributes");
    if (ok && images != NULL) ok = add_json_images(wc, op, doc, images);
    if (ok && embedding != NULL) ok = api_write_add_embedding(wc, op, doc, embedding, "embedding");
    if (!ok) {
        idx_op_free(op);
        return false;
    }
    *out = op;
    return true;
}

bool api_write_fail(idx *ix, const char *catalogue, idx_op_kind kind, idx_status st, const idx_error *err, api_fault *f)
{
    idx_catalogue cat;
    if (st == IDX_ENOTFOUND && idx_catalogue_get(ix, catalogue, &cat, NULL) == IDX_ENOTFOUND) /* gone since it was looked for */
        return api_fail_idx(f, st, err, "catalogue_not_found");
    if (st == IDX_EINVAL && kind == IDX_PATCH) /* the patch was fine, what it would make is not */
        return api_fail_said(f, "attributes_invalid", "attributes", err);
    if (st == IDX_EEXISTS) return api_fail(f, "item_exists", NULL, "the item exists, and create_only was asked for");
    if (st == IDX_ENOTFOUND && kind == IDX_PUT)
        return api_fail(f, "images_missing", "images", "there is no such item yet: a new one needs 1 to %d images or embeddings",
                        IDX_MAX_IMAGES);
    return api_fail_idx(f, st, err, "item_not_found");
}
