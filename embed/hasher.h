/* hasher.h: SHA-256 of bytes while they are read, on a thread of its own: the digest of a large model costs as much as reading it. */
#ifndef LK_HASHER_H
#define LK_HASHER_H

#include <nettle/sha2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EMB_HASHER_PIECES = 64 };

typedef struct {
    struct sha256_ctx *hash; /* the caller's, begun */
    bool threaded;
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t moved;
    struct {
        const uint8_t *at;
        size_t n;
    } piece[EMB_HASHER_PIECES];
    uint64_t given, done; /* pieces */
    bool end;
} emb_hasher;

/* threaded: try to; without a thread, emb_hasher_give() hashes. */
void emb_hasher_start(emb_hasher *h, struct sha256_ctx *hash, bool threaded);
/* n bytes in order. They must stay as they are until emb_hasher_wait() for the number that this returns. */
uint64_t emb_hasher_give(emb_hasher *h, const uint8_t *at, size_t n);
void emb_hasher_wait(emb_hasher *h, uint64_t number);
/* Everything given is in the hash, and the thread has ended. */
void emb_hasher_finish(emb_hasher *h);

#endif
