/* hasher.c: a queue of pieces between one that reads and one that hashes. */
#include "hasher.h"

#include <stdlib.h>

static void *hash_pieces(void *ctx)
{
    emb_hasher *h = ctx;
    pthread_mutex_lock(&h->lock);
    while (h->done < h->given || !h->end) {
        if (h->done == h->given) {
            pthread_cond_wait(&h->moved, &h->lock);
            continue;
        }
        const uint8_t *at = h->piece[h->done % EMB_HASHER_PIECES].at;
        const size_t n = h->piece[h->done % EMB_HASHER_PIECES].n;
        pthread_mutex_unlock(&h->lock);
        sha256_update(&h->hash, n, at);
        pthread_mutex_lock(&h->lock);
        h->done++;
        pthread_cond_broadcast(&h->moved);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

void emb_hasher_start(emb_hasher *h, bool threaded)
{
    *h = (emb_hasher){.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    sha256_init(&h->hash);
    h->threaded = threaded && pthread_create(&h->thread, NULL, hash_pieces, h) == 0;
}

void emb_hasher_give(emb_hasher *h, const uint8_t *at, size_t n)
{
    if (!h->threaded) {
        sha256_update(&h->hash, n, at);
        return;
    }
    pthread_mutex_lock(&h->lock);
    while (h->given - h->done == EMB_HASHER_PIECES) pthread_cond_wait(&h->moved, &h->lock);
    h->piece[h->given % EMB_HASHER_PIECES].at = at;
    h->piece[h->given++ % EMB_HASHER_PIECES].n = n;
    pthread_cond_broadcast(&h->moved);
    pthread_mutex_unlock(&h->lock);
}

static bool overlap(const emb_hasher *h, uint64_t piece, const uint8_t *at, size_t n)
{
    const uint8_t *p = h->piece[piece % EMB_HASHER_PIECES].at;
    return p < at + n && at < p + h->piece[piece % EMB_HASHER_PIECES].n;
}

void emb_hasher_release(emb_hasher *h, const void *at, size_t n)
{
    if (!h->threaded) return;
    pthread_mutex_lock(&h->lock);
    uint64_t after = h->given; /* the piece before is the last of them */
    while (after > h->done && !overlap(h, after - 1, at, n)) after--;
    while (h->done < after) pthread_cond_wait(&h->moved, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

void emb_hasher_finish(emb_hasher *h)
{
    if (h->threaded) {
        pthread_mutex_lock(&h->lock);
        h->end = true;
        pthread_cond_broadcast(&h->moved);
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->thread, NULL);
        h->threaded = false;
    }
    free(h->kept);
    h->kept = NULL;
}
