/* page_token.c
 *
 * TOKEN, base64url without padding of:
 *   0  version (2)     1  check, 12 bytes     13  score, float32 little endian     17  depth u32     21  item id, 1..256 bytes
 * check = the first bytes of SHA-256(key parts, score, depth, id). It is no secret: it tells a token of another request, or a
 * mangled one, from a good one. Everything in a token could be asked for without it. */
#include "page_token.h"
#include "text.h"

#include <math.h>
#include <nettle/base64.h>
#include <string.h>

enum { VERSION = 2, CHECK_BYTES = 12, SCORE_AT = 13, DEPTH_AT = 17, ID_AT = 21 };

void api_page_key_init(api_page_key *k, const char *kind)
{
    sha256_init(&k->sha);
    api_page_key_text(k, kind);
}

void api_page_key_add(api_page_key *k, const void *p, size_t n)
{
    uint64_t len = n;
    sha256_update(&k->sha, sizeof len, (const uint8_t *)&len);
    sha256_update(&k->sha, n, p);
}

void api_page_key_text(api_page_key *k, const char *s)
{
    if (s == NULL)
        api_page_key_add(k, "\xff", 1); /* no text is this byte */
    else
        api_page_key_add(k, s, strlen(s));
}

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) v |= (uint32_t)from[i] << (8 * i);
    return v;
}

/* Fills what stands before the id of a token. */
static void seal(const api_page_key *k, float score, uint32_t depth, uint8_t *raw, size_t id_n)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    put_u32(raw + SCORE_AT, bits);
    put_u32(raw + DEPTH_AT, depth);
    struct sha256_ctx sha = k->sha;
    sha256_update(&sha, ID_AT - SCORE_AT + id_n, raw + SCORE_AT);
    raw[0] = VERSION;
    sha256_digest(&sha, CHECK_BYTES, raw + 1);
}

void api_page_token_make(const api_page_key *k, float score, uint32_t depth, const char *id, char out[API_PAGE_TOKEN_BYTES])
{
    uint8_t raw[ID_AT + IDX_MAX_ID_BYTES];
    size_t n = strnlen(id, IDX_MAX_ID_BYTES);
    memcpy(raw + ID_AT, id, n);
    seal(k, score, depth, raw, n);
    struct base64_encode_ctx ctx;
    base64url_encode_init(&ctx);
    size_t o = base64_encode_update(&ctx, out, ID_AT + n, raw);
    o += base64_encode_final(&ctx, out + o);
    while (o > 0 && out[o - 1] == '=') o--;
    out[o] = '\0';
}

bool api_page_token_read(const api_page_key *k, const char *token, api_page_place *place, api_fault *f)
{
    uint8_t raw[API_PAGE_TOKEN_BYTES];
    size_t n = strlen(token), got = 0;
    struct base64_decode_ctx ctx;
    base64url_decode_init(&ctx);
    if (n >= API_PAGE_TOKEN_BYTES || !base64_decode_update(&ctx, &got, raw, n, token) || got <= ID_AT ||
        got > ID_AT + IDX_MAX_ID_BYTES)
        return api_fail(f, "page_token_invalid", "page_token", "the page token is damaged");
    size_t id_n = got - ID_AT;
    memcpy(place->id, raw + ID_AT, id_n);
    place->id[id_n] = '\0';
    uint32_t bits = get_u32(raw + SCORE_AT);
    memcpy(&place->score, &bits, sizeof bits);
    place->depth = get_u32(raw + DEPTH_AT);
    char again[API_PAGE_TOKEN_BYTES];
    if (strlen(place->id) != id_n || !api_text_printable(place->id, id_n) || !isfinite(place->score))
        return api_fail(f, "page_token_invalid", "page_token", "the page token is damaged");
    api_page_token_make(k, place->score, place->depth, place->id, again);
    if (strcmp(again, token) != 0)
        return api_fail(f, "page_token_invalid", "page_token",
                        "the page token belongs to another request: send the same query, filter and options again");
    return true;
}
