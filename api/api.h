/* api.h: requests as values -> replies as values. The only header of this folder that others include.
 *
 * Knows no sockets and no threads of its own. The server parses HTTP, authenticates, bounds the body and hands an
 * api_request to a compute thread, which calls api_handle(). Handlers never block on a commit: they return
 * API_PENDING and finish from the index's writer thread. */
#ifndef LK_API_H
#define LK_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "embed.h"
#include "index.h"

typedef struct api_ctx api_ctx;       /* shared; nothing but counters changes after api_ctx_new */
typedef struct api_worker api_worker; /* one per compute thread: its emb_workspace */

typedef struct { /* 0 = default */
    emb_limits image;            /* of decoding */
    size_t max_image_bytes;      /* 20 MiB, one photo */
    size_t max_json_bytes;       /* 64 KiB for bodies without photos; with base64 photos see max_body_bytes */
    size_t max_body_bytes;       /* 64 MiB, one request that is not a stream */
    size_t max_line_bytes;       /* 32 MiB, one line of items:batch */
    uint32_t max_lines;          /* 1,000,000 lines of items:batch */
    size_t max_memory_bytes;     /* 512 MiB, bodies and batches together; at least 2 * max_line_bytes */
    uint32_t rendition_side;     /* 320 */
    int rendition_quality;       /* 80 */
    uint32_t max_limit;          /* 100 results a page */
} api_limits;

/* model and index are borrowed and must outlive the context. Creates the catalogue `default` when missing. */
EMB_CHECK int api_ctx_new(const emb_model *m, idx *ix, const api_limits *limits, api_ctx **out, char err[320]);
void api_ctx_free(api_ctx *cx);
const api_limits *api_ctx_limits(const api_ctx *cx); /* defaults filled in */
EMB_CHECK int api_worker_new(api_ctx *cx, api_worker **out, char err[320]);
void api_worker_free(api_worker *w);

typedef enum { API_GET, API_HEAD, API_POST, API_PUT, API_PATCH, API_DELETE, API_OTHER } api_method;

/* What the server must know before the body arrives. Decided from method and raw path alone. */
typedef enum {
    API_CLASS_NONE,        /* no such route: api_handle() answers 404 / 405 */
    API_CLASS_READ,        /* quick, no body: may run at once */
    API_CLASS_INTERACTIVE, /* search, embed, single writes: compute pool, first in line */
    API_CLASS_STREAM,      /* items:batch: api_batch_* below; bulk, after interactive work */
} api_class;
typedef struct {
    api_class cls;
    size_t max_body_bytes; /* for this route; 0 = a body is refused */
    const char *route;     /* template for metrics and logs: "/v1/catalogues/{catalogue}/search" */
    bool write;            /* changes data */
} api_route_info;
api_route_info api_route(const api_ctx *cx, api_method method, const char *raw_path);

enum { API_STAGE_QUEUE, API_STAGE_DECODE, API_STAGE_EMBED, API_STAGE_SEARCH, API_STAGE_COMMIT, API_STAGE_ENCODE,
       API_STAGE_COUNT };
extern const char *const api_stage_name[API_STAGE_COUNT];

typedef struct { /* every pointer is borrowed until done */
    api_method method;
    const char *raw_path;     /* percent-encoded, without the query */
    const char *raw_query;    /* percent-encoded, without '?', or NULL */
    const char *content_type; /* as sent, or NULL */
    const char *request_id;   /* goes into problems as `instance` */
    const uint8_t *body;
    size_t body_bytes;
    uint64_t deadline_ns; /* CLOCK_MONOTONIC, checked between stages; 0 = none */
    /* Called once iff api_handle returns API_PENDING, from any thread, maybe before it has returned; must not block. */
    void (*done)(void *ctx);
    void *ctx;
} api_request;

typedef struct {
    int status;               /* HTTP status */
    const char *content_type; /* static */
    uint8_t *body;            /* malloc, owned by the reply; api_reply_fini frees */
    size_t body_bytes;
    const char *problem_code; /* static, the `code` of a problem reply, or NULL */
    char location[1024];      /* "" = none */
    char etag[80];            /* "" = none */
    char allow[64];           /* for 405 */
    uint32_t retry_after_s;   /* 0 = none */
    bool immutable;           /* Cache-Control: private, max-age, immutable */
    uint64_t stage_ns[API_STAGE_COUNT];
    uint32_t images;          /* photos embedded */
} api_reply;
void api_reply_fini(api_reply *rp);

typedef enum { API_DONE, API_PENDING } api_state;
/* rq and rp (zeroed by the caller) stay valid until done. Always fills rp: failures are problem replies (RFC 9457). w may
 * be NULL for API_CLASS_READ. After API_PENDING, rp may be complete already: look at your own state, not at it. */
api_state api_handle(api_ctx *cx, api_worker *w, const api_request *rq, api_reply *rp);

/* Fills a problem reply; for the server's own refusals too (busy, unauthorized, body_too_large ...): every code is in
 * api/problem.c's one table with its status and title. detail is printf-formatted. */
void api_problem(api_reply *rp, const char *code, const char *request_id, const char *detail, ...)
    __attribute__((format(printf, 4, 5)));

/* The budget of max_memory_bytes: the server takes what a body will need before it collects it, and gives it back. Batches
 * take part in it by themselves. */
bool api_memory_take(api_ctx *cx, size_t n);
void api_memory_give(api_ctx *cx, size_t n);
uint64_t api_memory_used(api_ctx *cx);

/* ---- items:batch -------------------------------------------------------------------------------- */

/* A stream of NDJSON lines in, one NDJSON answer line for each, in the same order. The server feeds body bytes as they
 * arrive; complete lines become tasks that the server runs on its compute pool at bulk priority. */
typedef struct api_batch api_batch;
typedef struct api_task { /* owned by the batch */
    void (*run)(struct api_task *t, api_worker *w); /* call once on a compute thread; w NULL = cancelled, only releases */
    struct api_task *next;                          /* free for the server's queue */
    uint64_t queued_ns;                             /* likewise */
} api_task;
typedef struct {
    void (*submit)(void *ctx, api_task *t);  /* hand over to the pool; must not run it inline */
    void (*wake)(void *ctx);                 /* answer bytes or room became available; from any thread; must not block */
    void *ctx;
    uint32_t max_inflight;                   /* lines whose answer is not ready; feed() stops there */
} api_batch_io;
/* Never fails silently: NULL and a problem in rp (unknown catalogue, wrong content type). */
api_batch *api_batch_open(api_ctx *cx, const api_request *rq, const api_batch_io *io, api_reply *rp);
/* Takes up to n bytes, returns how many (fewer = too many in flight: suspend, feed the rest after wake). One thread
 * feeds, ends and closes; answers that feed() or end() make ready themselves are not announced by wake. */
size_t api_batch_feed(api_batch *b, const uint8_t *bytes, size_t n);
void api_batch_end(api_batch *b);   /* the body is complete */
/* Copies ready answer bytes, in order. 0 = none ready yet; -1 = all answers delivered; -2 = there was no memory for an answer:
 * neither it nor those behind it will come. */
int64_t api_batch_read(api_batch *b, uint8_t *buf, size_t max);
typedef struct { uint64_t lines, ok, failed, images; uint64_t stage_ns[API_STAGE_COUNT]; } api_batch_stats;
void api_batch_get_stats(api_batch *b, api_batch_stats *out);
/* The connection is gone or the answer is delivered: lines in flight finish (their writes stay), then memory goes.
 * io is not called after this returns: it waits for a wake() that is running, so hold no lock that wake takes. */
void api_batch_close(api_batch *b);
/* Batches that are open, or closed with lines whose writes are still to come: at 0 no write of a batch is on its way. */
uint32_t api_batches_in_progress(api_ctx *cx);

/* ---- documents ---------------------------------------------------------------------------------- */

const char *api_openapi_json(size_t *n); /* api/openapi.json, part of the program */

#endif
