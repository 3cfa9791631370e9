/* page_token.h: where the next page begins, as an opaque text that only fits the request it came from. */
#ifndef LK_API_PAGE_TOKEN_H
#define LK_API_PAGE_TOKEN_H

#include <nettle/sha2.h>

#include "problem.h"

/* What a token must fit: hash everything that decides the order and the set of results. */
typedef struct {
    struct sha256_ctx sha;
} api_page_key;
void api_page_key_init(api_page_key *k, const char *kind);
void api_page_key_add(api_page_key *k, const void *p, size_t n); /* each with its length */
void api_page_key_text(api_page_key *k, const char *s);          /* NULL and "" differ */

#define API_PAGE_TOKEN_BYTES 400
typedef struct { /* the last result of a page */
    float score;    /* 0 where pages are ordered by id alone */
    uint32_t depth; /* results so far, this one included */
    char id[IDX_MAX_ID_BYTES + 1];
} api_page_place;
void api_page_token_make(const api_page_key *k, float score, uint32_t depth, const char *id, char out[API_PAGE_TOKEN_BYTES]);
bool api_page_token_read(const api_page_key *k, const char *token, api_page_place *place, api_fault *f);

#endif
