/* hasher.c: a queue of pieces between one that reads and one that hashes. */
#include "hasher.h"

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
        sha256_update(h->hash, n, at);
        pthread_mutex_lock(&h->lock);
        h->done++;
        pthread_cond_broadcast(&h->moved);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

void emb_hasher_start(emb_hasher *h, struct sha256_ctx *hash, bool threaded)
{
    *h = (emb_hasher){.hash = hash, .lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER};
    h->threaded = threaded && pthread_create(&h->thread, NULL, hash_pieces, h) == 0;
}

uint64_t emb_hasher_give(emb_hasher *h, const uint8_t *at, size_t n)
{
    if (!h->threaded) {
        sha256_update(h->hash, n, at);
        return 0;
    }
    pthread_mutex_lock(&h->lock);
    while (h->given - h->done == EMB_HASHER_PIECES) pthread_cond_wait(&h->moved, &h->lock);
    h->piece[h->given % EMB_HASHER_PIECES].at = at;
    h->piece[h->given % EMB_HASHER_PIECES].n = n;
    const uint64_t number = ++h->given;
    pthread_cond_broadcast(&h->moved);
    pthread_mutex_unlock(&h->lock);
    return number;
}

void emb_hasher_wait(emb_hasher *h, uint64_t number)
{
    if (!h->threaded) return;
    pthread_mutex_lock(&h->lock);
    while (h->done < number) pthread_cond_wait(&h->moved, &h->lock);
    pthread_mutex_unlock(&h->lock);
}

void emb_hasher_finish(emb_hasher *h)
{
    if (!h->threaded) return;
    pthread_mutex_lock(&h->lock);
    h->end = true;
    pthread_cond_broadcast(&h->moved);
    pthread_mutex_unlock(&h->lock);
    pthread_join(h->thread, NULL);
    h->threaded = false;
}
