/* search.c: a photo, an embedding or an item -> the items that look most alike. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Tells photos apart for page tokens, at memory speed; not for adversaries. */
static uint64_t photo_hash(const uint8_t *p, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u ^ n, w;
    for (; n >= 8; p += 8, n -= 8) {
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xff51afd7ed558ccdu;
        h ^= h >> 32;
    }
    w = 0;
    memcpy(&w, p, n);
    h = (h ^ w) * 0xc4ceb9fe1a85ec53u;
    return h ^ h >> 29;
}

/* v: of a query that is an embedding. */
static void page_key(const api_call *c, const api_query *q, const float *v, api_page_key *k)
{
    uint8_t exact = q->opts.exact;
    api_page_key_init(k, "search");
    api_page_key_text(k, c->catalogue);
    api_page_key_text(k, c->cat.fingerprint);
    api_page_key_text(k, q->opts.filter);
    api_page_key_text(k, q->item);
    api_page_key_add(k, &q->opts.min_score, sizeof q->opts.min_score);
    api_page_key_add(k, &exact, 1);
    if (q->item != NULL) return;
    uint64_t h = q->embedding != NULL ? photo_hash((const uint8_t *)v, c->cat.dim * sizeof *v) : photo_hash(q->image, q->image_n);
    api_page_key_add(k, &h, sizeof h);
    if (q->opts.has_crop) api_page_key_add(k, &q->opts.crop, sizeof q->opts.crop);
}

/* The normalised mean of the item's embeddings: one vector, so that its pages are as stable as a photo's. Images that
 * cancel out leave the first one. */
static bool embed_item(api_call *c, const char *item, float *out)
{
    float *rows = NULL;
    size_t n = 0;
    uint32_t dim = 0;
    idx_error err = {0};
    uint64_t t = api_now_ns();
    idx_status st = idx_embeddings_get(c->cx->ix, c->catalogue, item, &rows, &n, &dim, &err);
    c->rp->stage_ns[API_STAGE_SEARCH] += api_now_ns() - t;
    if (st != IDX_OK) return api_call_fail_read(c, st, &err, "item_not_found");
    bool ok = dim == c->cat.dim && n > 0;
    double norm = 0;
    for (uint32_t i = 0; i < dim && ok; i++) {
        double sum = 0;
        for (size_t r = 0; r < n; r++) sum += (double)rows[r * dim + i];
        out[i] = (float)sum;
        norm += sum * sum;
    }
    norm = sqrt(norm);
    for (uint32_t i = 0; i < dim && ok; i++) out[i] = norm > 1e-3 ? (float)((double)out[i] / norm) : rows[i];
    free(rows);
    return ok || api_fail(&c->fault, "internal", NULL, "the item has %zu embeddings of %u floats", n, dim);
}

static bool embed_query(api_call *c, const api_query *q, float *out)
{
    if (q->embedding != NULL) return true; /* it was read before the page key was made of it */
    if (q->item != NULL) return embed_item(c, q->item, out);
    if (!api_takes_photos(&c->cat, q->image_field, &c->fault)) return false;
    api_photo ph = {q->image, q->image_n, q->image_field, q->opts.has_crop ? &q->opts.crop : NULL, c->rq->deadline_ns};
    if (!api_photo_embed(c->cx, c->w, &ph, out, NULL, c->rp->stage_ns, &c->fault)) return false;
    c->rp->images = 1;
    return true;
}

static bool write_hit(api_buf *b, api_call *c, const api_query *q, const idx_hit *h)
{
    api_buf_raw(b, "{\"id\":", 6);
    api_buf_str(b, h->id);
    /* Six decimals are what the arithmetic holds; the order comes from the exact score. */
    api_buf_fmt(b, ",\"score\":%.6f,\"image\":{\"n\":%u", (double)h->score, h->image);
    if (h->width > 0) { /* not an embedding alone */
        api_buf_raw(b, ",\"url\":", 7);
        api_image_url(b, c->catalogue, h->id, h->image, h->sha256);
        api_buf_fmt(b, ",\"width\":%u,\"height\":%u", h->width, h->height);
    }
    api_buf_raw(b, "},\"attributes\":", 15);
    if (!api_attributes_write(b, h->attributes, &q->opts.fields)) return api_fail_memory(&c->fault);
    api_buf_raw(b, "}", 1);
    return true;
}

static void write_explain(api_buf *b, const idx_result *r)
{
    api_buf_fmt(b, ",\"explain\":{\"plan\":\"%s\",\"matches\":%llu,\"segments\":%u", r->plan, (unsigned long long)r->matches, r->segments);
    api_buf_fmt(b, ",\"distances\":%llu,\"tests\":%llu,\"effort\":%u", (unsigned long long)r->distances, (unsigned long long)r->tests, r->effort);
    api_buf_fmt(b, ",\"filter_ms\":%.3f,\"find_ms\":%.3f}", (double)r->filter_ns * 1e-6, (double)r->walk_ns * 1e-6);
}

/* depth: results on the pages before. */
static bool reply(api_call *c, const api_query *q, const api_page_key *key, uint32_t depth, const idx_result *r)
{
    api_buf b = {0};
    bool ok = true;
    uint64_t t = api_now_ns();
    api_buf_raw(&b, "{\"results\":[", 12);
    for (size_t i = 0; i < r->n && ok; i++) {
        if (i > 0) api_buf_raw(&b, ",", 1);
        ok = write_hit(&b, c, q, &r->hits[i]);
    }
    api_buf_raw(&b, "]", 1);
    if (r->more && r->n > 0) {
        char token[API_PAGE_TOKEN_BYTES];
        api_page_token_make(key, r->hits[r->n - 1].score, depth + (uint32_t)r->n, r->hits[r->n - 1].id, token);
        api_buf_raw(&b, ",\"next_page_token\":", 19);
        api_buf_str(&b, token);
    }
    api_buf_fmt(&b, ",\"total\":{\"items\":%llu,\"exact\":%s}", (unsigned long long)r->total, r->total_exact ? "true" : "false");
    if (r->n_facets > 0) api_facets_write(&b, &q->opts.facets, q->opts.facets_top, r);
    if (q->opts.explain) write_explain(&b, r);
    api_buf_fmt(&b, ",\"took_ms\":%.2f,\"model\":", (double)(api_now_ns() - c->start_ns) * 1e-6);
    api_buf_str(&b, c->cat.model);
    api_buf_raw(&b, "}", 1);
    ok = ok && api_reply_json(c, 200, &b);
    api_buf_fini(&b);
    c->rp->stage_ns[API_STAGE_ENCODE] += api_now_ns() - t;
    return ok;
}

static bool search(api_call *c, const api_query *q)
{
    api_page_key key;
    api_page_place after = {0};
    float *v = api_worker_room(c->w, c->cat.dim);
    if (v == NULL) return api_fail_memory(&c->fault);
    if (q->embedding != NULL && !api_embedding_read(&q->doc, q->embedding, c->cat.dim, "embedding", v, &c->fault)) return false;
    page_key(c, q, v, &key);
    if (q->opts.page_token != NULL && !api_page_token_read(&key, q->opts.page_token, &after, &c->fault))
        return false;
    if (!embed_query(c, q, v) || !api_call_deadline(c->rq, &c->fault)) return false;
    idx_query iq = {.embedding = v,
                    .dim = c->cat.dim,
                    .limit = q->opts.limit,
                    .filter = q->opts.filter,
                    .min_score = q->opts.min_score,
                    .exact = q->opts.exact,
                    .exclude_item = q->item,
                    .after = q->opts.page_token != NULL,
                    .after_score = after.score,
                    .after_id = q->opts.page_token != NULL ? after.id : NULL,
                    .depth = after.depth,
                    .facets = q->opts.facets.facet,
                    .n_facets = q->opts.facets.n,
                    .facets_top = q->opts.facets_top,
                    .deadline_ns = c->rq->deadline_ns};
    memcpy(iq.fingerprint, c->cat.fingerprint, sizeof iq.fingerprint);
    idx_result *r = NULL;
    idx_error err = {0};
    uint64_t t = api_now_ns();
    idx_status st = idx_search(c->cx->ix, c->catalogue, &iq, &r, &err);
    c->rp->stage_ns[API_STAGE_SEARCH] += api_now_ns() - t;
    if (st != IDX_OK) return api_fail_idx(&c->fault, st, &err, "catalogue_not_found");
    bool ok = reply(c, q, &key, after.depth, r);
    idx_result_free(r);
    return ok;
}

bool api_search(api_call *c, bool *pending)
{
    (void)pending;
    api_query q = {0};
    /* An empty photo is refused before its bytes are looked at, with the words of api_photo_embed(). */
    bool ok = api_call_catalogue(c) && api_query_read(c, API_QUERY_SEARCH, &q);
    if (ok && q.item == NULL && q.embedding == NULL && q.image_n == 0)
        ok = api_fail(&c->fault, q.image_field == NULL ? "body_missing" : "image_damaged", q.image_field, "the image is empty");
    ok = ok && search(c, &q);
    api_query_fini(&q);
    return ok;
}
