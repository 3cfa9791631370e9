/* request.h: one HTTP request on its way, and its connection. Shared by http.c (libmicrohttpd's callbacks), reply.c and
 * stream.c.
 *
 * A request belongs to its HTTP thread, except while its connection is suspended: then it belongs to the compute thread
 * (or the index's writer) that will resume it. */
#ifndef LK_REQUEST_H
#define LK_REQUEST_H

#include "guard.h"
#include "service.h"

#include <pthread.h>

/* What a connection is doing, and so which deadline holds. */
typedef enum {
    SRV_CONN_NEW,    /* nothing received yet */
    SRV_CONN_IDLE,   /* kept alive between requests */
    SRV_CONN_HEADER, /* request line seen */
    SRV_CONN_BODY,
    SRV_CONN_WORK,   /* complete; being computed */
    SRV_CONN_REPLY,
} srv_conn_phase;

typedef struct srv_http srv_http;
typedef struct srv_stream srv_stream;

typedef struct srv_conn {
    struct srv_conn *prev, *next; /* srv_http's list, under its lock */
    srv_http *http;
    int fd;
    srv_conn_phase phase;         /* these three under http's lock */
    uint64_t deadline_ns;         /* 0 = none */
    const char *cut;              /* static: the deadline that ended it */
    char *target;                 /* raw request target of the request that begins; malloc */
    char remote[64];
} srv_conn;

typedef struct srv_request {
    srv_job job; /* first: the pool hands it back */
    srv_service *s;
    srv_conn *conn;
    struct MHD_Connection *mhd;
    uint64_t start_ns;
    char id[65];
    char *target;           /* malloc: path and query point into it */
    const char *path, *query, *method_name, *route; /* route: static */
    srv_headers headers;
    api_method method;
    api_route_info info;
    bool needs_host;        /* HTTP/1.1 */
    bool head_only_refusal; /* refused before the body was read: the connection must close */
    bool answered;          /* a reply was queued */
    bool ready;             /* rp is complete */
    uint64_t reserved;      /* bytes of the memory budget */
    uint8_t *body;
    size_t body_bytes, body_room;
    uint64_t received;      /* bytes of the body, streams too */
    uint64_t sent;
    api_request rq;
    api_reply rp;
    srv_stream *stream;
} srv_request;

/* from + ms + the time that `bytes` take at the slowest rate that is tolerated. */
uint64_t srv_deadline(uint64_t from_ns, uint64_t ms, uint64_t bytes);
/* What the connection does from now on, and until when; 0 = no deadline. */
void srv_conn_enter(srv_conn *c, srv_conn_phase phase, uint64_t deadline_ns);

/* Queues r->rp as the reply of its connection; takes its body. */
enum MHD_Result srv_reply(srv_request *r);
/* The same around a body that libmicrohttpd reads later (streams). Takes `body`. */
enum MHD_Result srv_reply_with(srv_request *r, int status, struct MHD_Response *body, const char *content_type);

/* items:batch. NULL: r->rp holds the problem. */
srv_stream *srv_stream_open(srv_request *r);
/* Body bytes; what was not taken stays in *n and the connection is suspended. */
enum MHD_Result srv_stream_take(srv_stream *st, const char *bytes, size_t *n);
/* The body is complete: queues the answer stream. */
enum MHD_Result srv_stream_answer(srv_stream *st);
/* The reply was delivered or its connection is gone. */
void srv_stream_close(srv_stream *st);
/* From any thread: wakes every stream; their connections will be closed. */
void srv_streams_abort(void);

#endif
