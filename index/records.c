/* records.c: see records.h.
 *
 * Each shard is a ring of records: a new one is written behind the one before, over the oldest. Places are counted in units from the
 * beginning, never from the start of the ring, so that a place alone tells whether something was written over it since. A table
 * of hashes leads to places; it is never cleaned. */
#include "records.h"
#include "store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SHORT_LINES = 3 }; /* of 64 bytes, that the record of an item with an image and some attributes takes */
enum { SHARDS = 16, UNIT = 16, WAYS = 4, BUCKET_UNITS = 32 /* a place for each 8 units: short records are half as long */ };

typedef struct { /* behind it the images, then the attributes with their NUL */
    int64_t rowid;
    uint32_t version, n_images;
    uint64_t attributes_bytes, spare;
} header;
_Static_assert(sizeof(header) % UNIT == 0, "records begin on a unit");

typedef struct {
    pthread_mutex_t lock;
    uint8_t *ring; /* NULL = nothing came yet */
    uint64_t (*places)[WAYS];
    uint64_t head; /* units written; begins so high that place 0 is gone */
} shard;

struct idx_records {
    uint64_t units;   /* of a ring */
    uint64_t buckets; /* of a table */
    shard shard[SHARDS];
};

idx_status idx_records_new(size_t bytes, idx_records **out, idx_error *err)
{
    idx_records *s = calloc(1, sizeof *s);
    if (s == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for records");
    s->buckets = bytes / SHARDS / UNIT / BUCKET_UNITS + 1;
    s->units = s->buckets * BUCKET_UNITS;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_init(&s->shard[i].lock, NULL);
        s->shard[i].head = 2 * s->units;
    }
    *out = s;
    return IDX_OK;
}

void idx_records_free(idx_records *s)
{
    if (s == NULL) return;
    for (int i = 0; i < SHARDS; i++) {
        pthread_mutex_destroy(&s->shard[i].lock);
        free(s->shard[i].ring);
        free(s->shard[i].places);
    }
    free(s);
}

static uint64_t hash(int64_t rowid) { return (uint64_t)rowid * UINT64_C(0x9e3779b97f4a7c15); }
static shard *shard_of(idx_records *s, int64_t rowid) { return &s->shard[hash(rowid) >> 60]; }
static uint64_t *bucket_of(const idx_records *s, const shard *h, int64_t rowid) { return h->places[(hash(rowid) >> 24 & UINT32_MAX) % s->buckets]; }
static uint8_t *at(const idx_records *s, const shard *h, uint64_t place) { return h->ring + place % s->units * UNIT; }

/* Under the lock. NULL: it is not there. */
static uint8_t *find(const idx_records *s, const shard *h, int64_t rowid, uint32_t version)
{
    const uint64_t *b = h->ring != NULL ? bucket_of(s, h, rowid) : NULL;
    for (int i = 0; b != NULL && i < WAYS; i++) {
        header k;
        if (b[i] + s->units < h->head) continue; /* written over */
        memcpy(&k, at(s, h, b[i]), sizeof k);
        if (k.rowid == rowid && k.version == version) return at(s, h, b[i]);
    }
    return NULL;
}

void idx_records_ahead(idx_records *s, const int64_t *rowids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        shard *h = shard_of(s, rowids[i]);
        pthread_mutex_lock(&h->lock);
        if (h->ring != NULL) __builtin_prefetch(bucket_of(s, h, rowids[i]));
        pthread_mutex_unlock(&h->lock);
    }
    for (size_t i = 0; i < n; i++) {
        shard *h = shard_of(s, rowids[i]);
        pthread_mutex_lock(&h->lock);
        const uint64_t *b = h->ring != NULL ? bucket_of(s, h, rowids[i]) : NULL;
        for (int k = 0; b != NULL && k < WAYS; k++)
            for (int line = 0; b[k] + s->units >= h->head && line < SHORT_LINES; line++) __builtin_prefetch(at(s, h, b[k]) + 64 * line);
        pthread_mutex_unlock(&h->lock);
    }
}

bool idx_records_find(idx_records *s, int64_t rowid, uint32_t version, idx_record_fn *fn, void *ctx)
{
    shard *h = shard_of(s, rowid);
    pthread_mutex_lock(&h->lock);
    const uint8_t *p = find(s, h, rowid, version);
    if (p != NULL) {
        header k;
        memcpy(&k, p, sizeof k);
        const uint8_t *images = p + sizeof k;
        fn(ctx, &(idx_record){(const char *)(images + k.n_images * IDX_IMAGE_BYTES), k.attributes_bytes, images, k.n_images});
    }
    pthread_mutex_unlock(&h->lock);
    return p != NULL;
}

static bool ring_room(const idx_records *s, shard *h)
{
    if (h->ring != NULL) return true;
    h->places = calloc(s->buckets, sizeof *h->places);
    h->ring = h->places != NULL ? calloc(s->units, UNIT) : NULL;
    if (h->ring != NULL) return true;
    free(h->places);
    h->places = NULL;
    return false;
}

void idx_records_add(idx_records *s, int64_t rowid, uint32_t version, const idx_record *r)
{
    shard *h = shard_of(s, rowid);
    size_t images_bytes = r->n_images * (size_t)IDX_IMAGE_BYTES;
    uint64_t need = (sizeof(header) + images_bytes + r->attributes_bytes + 1 + UNIT - 1) / UNIT;
    if (need > s->units / 8) return; /* one shall not drive out all others */
    pthread_mutex_lock(&h->lock);
    if (find(s, h, rowid, version) == NULL && ring_room(s, h)) {
        if (h->head % s->units + need > s->units) h->head += s->units - h->head % s->units; /* a record lies in one piece */
        uint64_t *b = bucket_of(s, h, rowid), *to = b;
        for (int i = 1; i < WAYS; i++)
            if (b[i] < *to) to = &b[i];
        *to = h->head;
        uint8_t *p = at(s, h, h->head);
        header k = {.rowid = rowid, .version = version, .n_images = r->n_images, .attributes_bytes = r->attributes_bytes};
        memcpy(p, &k, sizeof k);
        if (images_bytes > 0) memcpy(p + sizeof k, r->images, images_bytes);
        memcpy(p + sizeof k + images_bytes, r->attributes, r->attributes_bytes);
        p[sizeof k + images_bytes + r->attributes_bytes] = 0;
        h->head += need;
    }
    pthread_mutex_unlock(&h->lock);
}

uint64_t idx_records_bytes(idx_records *s)
{
    uint64_t sum = sizeof *s;
    for (int i = 0; i < SHARDS; i++) {
        shard *h = &s->shard[i];
        pthread_mutex_lock(&h->lock);
        uint64_t written = h->head - 2 * s->units;
        if (h->ring != NULL) sum += s->buckets * sizeof *h->places + (written < s->units ? written : s->units) * UNIT;
        pthread_mutex_unlock(&h->lock);
    }
    return sum;
}
