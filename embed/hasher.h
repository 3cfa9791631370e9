/* hasher.h: SHA-256 of bytes beside who reads them and works with them, on a thread of its own: the digest of a large model takes longer
 * than reading it. One thread calls these functions. */
#ifndef LK_HASHER_H
#define LK_HASHER_H

#include <nettle/sha2.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EMB_HASHER_PIECES = 1024 };

typedef struct {
    struct sha256_ctx hash; /* whole after emb_hasher_finish() */
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
    void *kept; /* memory that emb_hasher_finish() frees */
} emb_hasher;

/* threaded: try to; without a thread, emb_hasher_give() hashes. */
void emb_hasher_start(emb_hasher *h, bool threaded);
/* n bytes in order. They must stay as they are until emb_hasher_release(). Waits while too many pieces are ahead of the thread. */
void emb_hasher_give(emb_hasher *h, const uint8_t *at, size_t n);
/* Waits until none of these bytes is to be hashed any more: they may change, or go. */
void emb_hasher_release(emb_hasher *h, const void *at, size_t n);
/* Everything given is in the hash, and the thread has ended. Once more does no harm, nor does a hasher of zeros that never started. */
void emb_hasher_finish(emb_hasher *h);

#endif
