/* embed_route.c: POST /v1/embed: a photo -> its embedding, as numbers or as base64 of little-endian float32. */
#include "internal.h"

#include <nettle/base64.h>
#include <stdlib.h>
#include <string.h>

static bool write_base64(api_buf *b, const float *v, uint32_t dim)
{
    size_t bytes = (size_t)dim * 4;
    uint8_t *raw = malloc(bytes);
    char *text = malloc(BASE64_ENCODE_RAW_LENGTH(bytes) + 1);
    bool ok = raw != NULL && text != NULL;
    for (uint32_t i = 0; i < dim && ok; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        for (int k = 0; k < 4; k++) raw[4 * i + (uint32_t)k] = (uint8_t)(bits >> (8 * k));
    }
    if (ok) {
        base64_encode_raw(text, bytes, raw);
        api_buf_strn(b, text, BASE64_ENCODE_RAW_LENGTH(bytes));
    }
    free(raw);
    free(text);
    return ok;
}

static bool reply(api_call *c, const api_query *q, const float *v)
{
    const emb_model_info *info = c->cx->info;
    api_buf b = {0};
    bool ok = true;
    uint64_t t = api_now_ns();
    api_buf_raw(&b, "{\"embedding\":", 13);
    if (q->opts.base64) {
        ok = write_base64(&b, v, info->dim);
    } else {
        for (uint32_t i = 0; i < info->dim; i++) {
            api_buf_raw(&b, i > 0 ? "," : "[", 1);
            api_buf_float(&b, v[i]);
        }
        api_buf_raw(&b, "]", 1);
    }
    api_buf_fmt(&b, ",\"dim\":%u,\"model\":", info->dim);
    api_buf_str(&b, info->name);
    api_buf_fmt(&b, ",\"fingerprint\":\"%s\"}", info->fingerprint);
    ok = ok ? api_reply_json(c, 200, &b) : api_fail_memory(&c->fault);
    api_buf_fini(&b);
    c->rp->stage_ns[API_STAGE_ENCODE] += api_now_ns() - t;
    return ok;
}

bool api_embed(api_call *c, bool *pending)
{
    (void)pending;
    api_query q = {0};
    bool ok = api_query_read(c, API_QUERY_EMBED, &q);
    if (ok) {
        api_photo ph = {q.image, q.image_n, q.image_field, q.opts.has_crop ? &q.opts.crop : NULL, c->rq->deadline_ns};
        ok = api_photo_embed(c->cx, c->w, &ph, c->w->embedding, NULL, c->rp->stage_ns, &c->fault);
        if (ok) c->rp->images = 1;
    }
    ok = ok && reply(c, &q, c->w->embedding);
    api_query_fini(&q);
    return ok;
}
