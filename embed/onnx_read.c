/* onnx_read.c: an ONNX file in one pass. Nearly all of it is the raw_data of initializers: those bytes are read to where they will be
 * used, once. The rest, put together again without them, is small and goes through protobuf-c, which copies everything.
 * Format: https://protobuf.dev/programming-guides/encoding/. */
#include "onnx_read.h"
#include "error.h"
#include "graph.h"
#include "hasher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODEL, GRAPH, TENSOR };                                   /* messages that are looked into */
enum { MODEL_GRAPH = 7, GRAPH_INITIALIZER = 5, TENSOR_RAW = 9 }; /* their fields that matter, as in onnx.proto */
enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };                    /* wire types */
enum { WINDOW = 8 << 10, CHUNK = 256 << 10, PADDED = 5 };       /* a length is written in PADDED bytes before it is known */
enum { WINDOWS = 64, SMALL = 1 << 20 };                          /* smaller files are hashed by who reads them */

typedef struct {
    uint8_t *data;
    size_t n;
    bool there;
} raw;

typedef struct {
    const emb_onnx_source *from;
    int fd;                 /* -1: from memory */
    size_t left;            /* in the file, behind the window */
    const uint8_t *at, *end; /* the window that is used; the others may wait for the hasher */
    uint8_t *windows;
    uint32_t turn;
    emb_hasher *hasher;
    uint8_t *rest; /* the file without raw_data */
    size_t n_rest, room_rest;
    raw *raws; /* one for each initializer */
    size_t n_raws, room_raws;
    emb_error *err;
    emb_status status;
} reader;

static bool fail(reader *r, emb_status st, const char *what)
{
    if (r->status == EMB_OK) r->status = emb_fail(r->err, st, "%s%s", r->from->name, what);
    return false;
}

static bool damaged(reader *r) { return fail(r, EMB_EFORMAT, " is not an ONNX file, or it is damaged"); }

/* ---- input ------------------------------------------------------------------------------------------ */

/* The next n bytes of the file, which has them unless it became shorter. */
static bool bring(reader *r, uint8_t *to, size_t n)
{
    while (n > 0) {
        const ssize_t k = read(r->fd, to, n < CHUNK ? n : CHUNK); /* in the cache still when they are hashed */
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return fail(r, EMB_EIO, " cannot be read");
        if (k == 0) return fail(r, EMB_EIO, " became shorter while it was read");
        emb_hasher_give(r->hasher, to, (size_t)k);
        to += k;
        n -= (size_t)k;
        r->left -= (size_t)k;
    }
    return true;
}

static bool next_window(reader *r)
{
    const size_t n = r->left < WINDOW ? r->left : WINDOW;
    uint8_t *window = r->windows + (size_t)(r->turn++ % WINDOWS) * WINDOW;
    emb_hasher_release(r->hasher, window, WINDOW);
    if (!bring(r, window, n)) return false;
    r->at = window;
    r->end = window + n;
    return true;
}

/* stays: what is written to `to` stays there until all is hashed. */
static bool take(reader *r, uint8_t *to, size_t n, bool stays)
{
    while (n > 0) {
        if (r->at == r->end) {
            if (n > r->left) return damaged(r);
            if (stays && n >= WINDOW) return bring(r, to, n);
            if (!next_window(r)) return false;
        }
        const size_t have = (size_t)(r->end - r->at), now = n < have ? n : have;
        memcpy(to, r->at, now);
        r->at += now;
        to += now;
        n -= now;
    }
    return true;
}

/* ---- the rest --------------------------------------------------------------------------------------- */

static uint8_t *grow(reader *r, size_t n)
{
    if (r->room_rest - r->n_rest < n) {
        const size_t room = 2 * r->room_rest + n + 1024;
        uint8_t *rest = realloc(r->rest, room);
        if (rest == NULL) return fail(r, EMB_ENOMEM, ": no memory to read it"), NULL;
        r->rest = rest;
        r->room_rest = room;
    }
    r->n_rest += n;
    return r->rest + r->n_rest - n;
}

static bool copy(reader *r, size_t n)
{
    uint8_t *to = grow(r, n);
    return to != NULL && take(r, to, n, false);
}

/* A number, which goes to the rest, too; *n: bytes that the message around it still has. */
static bool number(reader *r, size_t *n, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 70 && *n > 0; shift += 7, --*n) {
        if (!copy(r, 1)) return false;
        const uint8_t byte = r->rest[r->n_rest - 1];
        if (shift < 64) *v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return --*n, true;
    }
    return damaged(r);
}

static bool take_raw(reader *r, size_t n)
{
    raw *w = &r->raws[r->n_raws - 1]; /* of two in one tensor, the last counts */
    if (w->data != NULL) emb_hasher_release(r->hasher, w->data, w->n);
    free(w->data);
    *w = (raw){n > 0 ? emb_weights_memory(n) : NULL, n, true};
    if (n > 0 && w->data == NULL) return fail(r, EMB_ENOMEM, ": no memory for its weights");
    return n == 0 || take(r, w->data, n, true);
}

static bool add_initializer(reader *r)
{
    if (r->n_raws == r->room_raws) {
        const size_t room = 2 * r->room_raws + 64;
        raw *raws = realloc(r->raws, room * sizeof *raws);
        if (raws == NULL) return fail(r, EMB_ENOMEM, ": no memory to read it");
        r->raws = raws;
        r->room_raws = room;
    }
    r->raws[r->n_raws++] = (raw){0};
    return true;
}

static bool message(reader *r, size_t n, int kind);

/* A message inside, whose length will be another one. */
static bool inside(reader *r, size_t n, int kind)
{
    const size_t from = r->n_rest + PADDED;
    if (grow(r, PADDED) == NULL || !message(r, n, kind)) return false;
    const size_t now = r->n_rest - from;
    for (unsigned i = 0; i < PADDED; i++) r->rest[from - PADDED + i] = (uint8_t)((now >> 7 * i & 0x7f) | (i + 1 < PADDED ? 0x80 : 0));
    return true;
}

/* The next n bytes are a message. It nests three deep. */
static bool message(reader *r, size_t n, int kind)
{
    while (n > 0) {
        const size_t start = r->n_rest;
        uint64_t tag, v;
        if (!number(r, &n, &tag)) return false;
        const size_t after_tag = r->n_rest;
        const unsigned wire = tag & 7;
        if (wire == FIXED64 || wire == FIXED32) {
            const size_t size = wire == FIXED64 ? 8 : 4;
            if (size > n) return damaged(r);
            if (!copy(r, size)) return false;
            n -= size;
            continue;
        }
        if ((wire != VARINT && wire != BYTES) || !number(r, &n, &v)) return r->status != EMB_OK ? false : damaged(r);
        if (wire == VARINT) continue;
        if (v > n) return damaged(r);
        n -= (size_t)v;
        const uint64_t field = tag >> 3;
        bool ok;
        if ((kind == MODEL && field == MODEL_GRAPH) || (kind == GRAPH && field == GRAPH_INITIALIZER)) {
            r->n_rest = after_tag;
            ok = (kind == MODEL || add_initializer(r)) && inside(r, (size_t)v, kind + 1);
        } else if (kind == TENSOR && field == TENSOR_RAW) {
            r->n_rest = start;
            ok = take_raw(r, (size_t)v);
        } else {
            ok = copy(r, (size_t)v);
        }
        if (!ok) return false;
    }
    return true;
}

/* ---- protobuf-c ------------------------------------------------------------------------------------- */

static void *bounded_malloc(void *room, size_t n)
{
    size_t *left = room, cost = n + 32;
    if (cost > *left) {
        *left = 0;
        return NULL;
    }
    *left -= cost;
    return malloc(n);
}

static void bounded_free(void *room, void *p)
{
    (void)room;
    free(p);
}

/* protobuf-c recurses only as deep as the messages nest in our schema, so depth is bounded by construction. */
static bool unpack(reader *r, size_t room, Onnx__Model **out)
{
    size_t left = room;
    Onnx__Model *m = onnx__model__unpack(&(ProtobufCAllocator){bounded_malloc, bounded_free, &left}, r->n_rest, r->rest);
    if (m == NULL && left == 0) {
        r->status = emb_fail(r->err, EMB_ELIMIT, "%s: needs more than %zu MB to be read", r->from->name, room >> 20);
        return false;
    }
    if (m == NULL || (m->graph != NULL ? m->graph->n_initializer : 0) != r->n_raws) {
        if (m != NULL) onnx__model__free_unpacked(m, NULL);
        return damaged(r);
    }
    for (size_t i = 0; i < r->n_raws; i++) {
        Onnx__Tensor *t = m->graph->initializer[i];
        t->has_raw_data = r->raws[i].there;
        t->raw_data = (ProtobufCBinaryData){r->raws[i].n, r->raws[i].data};
        r->raws[i].data = NULL;
    }
    *out = m;
    return true;
}

static bool open_file(reader *r, emb_onnx_source *from)
{
    struct stat st;
    r->fd = open(from->name, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0 || fstat(r->fd, &st) != 0) {
        r->status = emb_fail(r->err, EMB_EIO, "cannot open %s: %s", from->name, strerror(errno));
        return false;
    }
    if (!S_ISREG(st.st_mode)) return fail(r, EMB_EIO, " is not a regular file");
    from->n = (size_t)st.st_size;
    r->left = from->n;
    r->windows = malloc((size_t)WINDOWS * WINDOW);
    return r->windows != NULL || fail(r, EMB_ENOMEM, ": no memory to read it");
}

emb_status emb_onnx_read(emb_onnx_source *from, emb_hasher *hasher, Onnx__Model **out, emb_error *err)
{
    reader r = {.from = from, .fd = -1, .hasher = hasher, .err = err};
    bool ok = from->memory != NULL || open_file(&r, from);
    if (ok && from->n > EMB_MAX_MODEL_BYTES) {
        r.status = emb_fail(err, EMB_ELIMIT, "%s has %zu bytes, the limit is %zu", from->name, from->n, EMB_MAX_MODEL_BYTES);
        ok = false;
    }
    emb_hasher_start(hasher, ok && from->n > SMALL);
    hasher->kept = r.windows;
    if (ok && from->memory != NULL) {
        r.at = from->memory;
        r.end = r.at + from->n;
        emb_hasher_give(hasher, r.at, from->n);
    }
    ok = ok && message(&r, from->n, MODEL);
    ok = ok && unpack(&r, EMB_FOLDED_BYTES(from->n), out);
    if (!ok || from->memory != NULL) emb_hasher_finish(hasher);
    for (size_t i = 0; i < r.n_raws; i++) free(r.raws[i].data);
    free(r.raws);
    free(r.rest);
    if (r.fd >= 0) close(r.fd);
    return ok ? EMB_OK : r.status;
}
