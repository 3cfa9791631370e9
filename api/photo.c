/* photo.c: one photo -> its embedding, and for items also the rendition; the same steps for index and query, so that
 * a photo finds itself with score 1. */
#include "internal.h"

#include <math.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

/* The decoder may shrink while it decodes; of a crop enough must be left for the model's input. */
static uint32_t decode_side(const emb_model_info *info, const emb_crop *crop)
{
    if (crop == NULL) return info->decode_side;
    double least = crop->w < crop->h ? (double)crop->w : (double)crop->h;
    double side = ceil((double)info->decode_side / least);
    return side < 32768.0 ? (uint32_t)side : 0; /* 0 = full size */
}

/* Cut from the picture that was decoded for the model; where the setting asks for more than that holds, from one decoded for
 * itself, so that the setting changes no embedding. */
static emb_status render(api_ctx *cx, const api_photo *ph, emb_view v, const emb_image_info *info, idx_image *out, emb_error *err)
{
    const uint32_t side = cx->limits.rendition_side, has = v.width > v.height ? v.width : v.height;
    const uint32_t longer = info->width > info->height ? info->width : info->height, shorter = info->width + info->height - longer;
    emb_image *im = NULL;
    if (has < side && has < longer) {
        emb_limits limits = cx->limits.image;
        limits.deadline_ns = ph->deadline_ns;
        uint32_t min_side = side < longer ? (uint32_t)(((uint64_t)side * shorter + longer - 1) / longer) : 0;
        emb_status st = emb_image_decode(ph->p, ph->n, &limits, min_side, &im, NULL, err);
        if (st != EMB_OK) return st;
        v = emb_image_view(im);
    }
    emb_status st = emb_image_rendition(v, side, cx->limits.rendition_quality, &out->rendition, &out->rendition_bytes, err);
    emb_image_free(im);
    return st;
}

static bool rendition_of(api_ctx *cx, const api_photo *ph, emb_view v, const emb_image_info *info, const float *embedding, idx_image *out,
                         uint64_t *stage_ns, api_fault *f)
{
    emb_error err = {0};
    uint64_t t = api_now_ns();
    size_t bytes = cx->info->dim * sizeof *embedding;
    if ((out->embedding = malloc(bytes)) == NULL) return api_fail_memory(f);
    memcpy(out->embedding, embedding, bytes);
    emb_status st = render(cx, ph, v, info, out, &err);
    if (st != EMB_OK) return api_fail_emb(f, st, &err, ph->field, true);
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, ph->n, ph->p);
    sha256_digest(&sha, sizeof out->sha256, out->sha256);
    stage_ns[API_STAGE_ENCODE] += api_now_ns() - t;
    return true;
}

bool api_takes_photos(const idx_catalogue *cat, const char *field, api_fault *f)
{
    return !api_is_external(cat) ||
           api_fail(f, "model_mismatch", field, "the catalogue \"%s\" takes embeddings of your own, of %u numbers, and no photos", cat->name, cat->dim);
}

static bool in_time(uint64_t deadline_ns, api_fault *f)
{
    if (deadline_ns == 0 || api_now_ns() < deadline_ns) return true;
    return api_fail(f, "deadline_exceeded", NULL, "the time for this request ran out before it was done");
}

bool api_photo_embed(api_ctx *cx, api_worker *w, const api_photo *ph, float *out, idx_image *rendition,
                     uint64_t *stage_ns, api_fault *f)
{
    if (ph->n == 0) return api_fail(f, ph->field == NULL ? "body_missing" : "image_damaged", ph->field, "the image is empty");
    if (ph->n > cx->limits.max_image_bytes)
        return api_fail_limit(f, "image_too_large", ph->field, cx->limits.max_image_bytes,
                              "the image has %zu bytes, the limit is %zu", ph->n, cx->limits.max_image_bytes);
    if (!in_time(ph->deadline_ns, f)) return false;
    bool known = emb_format_detect(ph->p, ph->n) != EMB_FORMAT_UNKNOWN;
    emb_limits limits = cx->limits.image;
    limits.deadline_ns = ph->deadline_ns;
    emb_image *im = NULL;
    emb_image_info info;
    emb_error err = {0};
    uint64_t t0 = api_now_ns();
    emb_status st = emb_image_decode(ph->p, ph->n, &limits, decode_side(cx->info, ph->crop), &im, &info, &err);
    uint64_t t1 = api_now_ns();
    stage_ns[API_STAGE_DECODE] += t1 - t0;
    if (st != EMB_OK) return api_fail_emb(f, st, &err, ph->field, known);
    emb_view v = emb_image_view(im);
    bool ok = in_time(ph->deadline_ns, f);
    if (ok) {
        st = emb_embed(cx->model, w->ws, v, ph->crop, out, &err);
        stage_ns[API_STAGE_EMBED] += api_now_ns() - t1;
        if (st == EMB_EINVAL && ph->crop != NULL)
            ok = api_fail(f, "parameter_invalid", "crop", "%s", err.text[0] != '\0' ? err.text : "the crop is too small");
        else
            ok = st == EMB_OK || api_fail_emb(f, st, &err, ph->field, true);
    }
    if (ok && rendition != NULL) {
        rendition->width = info.width;
        rendition->height = info.height;
        ok = in_time(ph->deadline_ns, f) && rendition_of(cx, ph, v, &info, out, rendition, stage_ns, f);
    }
    emb_image_free(im);
    return ok;
}
