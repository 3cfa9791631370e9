/* http.c: libmicrohttpd's callbacks. A request begins (headers checked, refused or admitted), its body arrives, it is
 * handed to the compute pool while its connection is suspended, and comes back to be answered.
 *
 * What libmicrohttpd leaves to us, and why this file looks as it does:
 *   - its timeout is one of inactivity, so that a client may drip for ever: every connection has a deadline for what it is
 *     doing, and a sweeper ends those that pass it;
 *   - no reply can be made while a body arrives: everything that can be refused is refused from the headers;
 *   - the decoded URL is lossy: routing takes the raw target, kept by the log callback;
 *   - stopping with a suspended connection aborts the process: stop waits for every one. */
#include "http.h"
#include "intake.h"
#include "listen.h"
#include "log.h"
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SLOWEST_BYTES_PER_MS = 64, /* 64 kB/s: a deadline grows by what was really moved */
    SWEEP_MS = 100,
    LAST_ACCEPT_MS = 20,
    CONNECTION_MEMORY = 64 * 1024, /* the longest target and headers, and the block in which bodies arrive; mapped, pages are taken as they are written */
};

struct srv_http {
    srv_service *s;
    struct MHD_Daemon *daemon;
    int listen_fd;
    char address[160];
    pthread_mutex_t lock;
    srv_conn *conns;
    uint32_t n_conns, n_requests;
    bool draining, closed, end_sweeper;
    pthread_t sweeper;
    bool has_sweeper;
};

const char *srv_http_address(const srv_http *h) { return h->address; }

uint32_t srv_http_connections(srv_http *h)
{
    pthread_mutex_lock(&h->lock);
    uint32_t n = h->n_conns;
    pthread_mutex_unlock(&h->lock);
    return n;
}

/* ---- connections and their deadlines ------------------------------------------------------------ */

uint64_t srv_deadline(uint64_t from_ns, uint64_t ms, uint64_t bytes)
{
    return from_ns + (ms + bytes / SLOWEST_BYTES_PER_MS) * 1000000u;
}

void srv_conn_enter(srv_conn *c, srv_conn_phase phase, uint64_t deadline_ns)
{
    pthread_mutex_lock(&c->http->lock);
    c->phase = phase;
    c->deadline_ns = deadline_ns;
    pthread_mutex_unlock(&c->http->lock);
}

static enum MHD_Result on_accept(void *cls, const struct sockaddr *from, socklen_t n)
{
    (void) from, (void) n;
    srv_http *h = cls;
    pthread_mutex_lock(&h->lock);
    bool draining = h->draining;
    pthread_mutex_unlock(&h->lock);
    return draining ? MHD_NO : MHD_YES;
}

static void on_connection(void *cls, struct MHD_Connection *mc, void **state, enum MHD_ConnectionNotificationCode code)
{
    srv_http *h = cls;
    srv_conn *c = *state;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        c = calloc(1, sizeof *c);
        *state = c;
        if (c == NULL) return; // its requests are refused
        c->http = h;
        const union MHD_ConnectionInfo *fd = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CONNECTION_FD);
        c->fd = fd != NULL ? fd->connect_fd : -1;
        // Only now: 1.0 answers every question in the same place.
        const union MHD_ConnectionInfo *peer = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        if (peer != NULL && peer->client_addr != NULL)
            srv_address_text(peer->client_addr,
                             peer->client_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in),
                             false, c->remote, sizeof c->remote);
        c->deadline_ns = srv_deadline(srv_now_ns(), h->s->set->header_timeout, 0);
        pthread_mutex_lock(&h->lock);
        c->next = h->conns;
        if (h->conns != NULL) h->conns->prev = c;
        h->conns = c;
        h->n_conns++;
        pthread_mutex_unlock(&h->lock);
    } else if (c != NULL) { // the socket is still open here, so that the sweeper never meets a number used again
        pthread_mutex_lock(&h->lock);
        if (c->next != NULL) c->next->prev = c->prev;
        if (c->prev != NULL) c->prev->next = c->next;
        else h->conns = c->next;
        h->n_conns--;
        pthread_mutex_unlock(&h->lock);
        free(c->target);
        free(c);
        *state = NULL;
    }
}

/* The only reply that does not go through libmicrohttpd, which has no way to answer before a request is complete. */
static void send_timeout(const srv_conn *c)
{
    static const char body[] = "{\"type\":\"urn:likeness:problem:request_timeout\",\"title\":\"The request did not arrive in time\","
                               "\"status\":408,\"detail\":\"the request was not complete before its deadline\","
                               "\"code\":\"request_timeout\"}\n";
    char text[512];
    int n = snprintf(text, sizeof text,
                     "HTTP/1.1 408 Request Timeout\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                     "Connection: close\r\n\r\n%s", sizeof body - 1, body);
    if (n > 0 && (size_t) n < sizeof text) (void) send(c->fd, text, (size_t) n, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* With the lock held. */
static void end_connection(srv_conn *c, const char *why)
{
    if ((c->phase == SRV_CONN_HEADER || c->phase == SRV_CONN_BODY) && why != NULL) send_timeout(c);
    c->cut = why;
    c->deadline_ns = 0;
    (void) shutdown(c->fd, SHUT_RDWR);
}

static void *sweep(void *arg)
{
    static const char *const what[] = {"header", "idle", "header", "body", "work", "reply"};
    srv_http *h = arg;
    pthread_mutex_lock(&h->lock);
    while (!h->end_sweeper) {
        uint64_t now = srv_now_ns();
        for (srv_conn *c = h->conns; c != NULL; c = c->next) {
            bool idle = c->phase == SRV_CONN_NEW || c->phase == SRV_CONN_IDLE;
            if (h->draining && idle && c->cut == NULL) end_connection(c, NULL);
            if (c->deadline_ns == 0 || now < c->deadline_ns) continue;
            end_connection(c, what[c->phase]);
            if (!idle) srv_metrics_cut();
        }
        pthread_mutex_unlock(&h->lock);
        usleep(SWEEP_MS * 1000);
        pthread_mutex_lock(&h->lock);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* ---- requests ----------------------------------------------------------------------------------- */

static srv_conn *conn_of(struct MHD_Connection *mc)
{
    const union MHD_ConnectionInfo *i = MHD_get_connection_info(mc, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i != NULL ? i->socket_context : NULL;
}

/* Called with the request line, before the headers: the only place where the raw target is seen. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *mc)
{
    srv_http *h = cls;
    srv_conn *c = conn_of(mc);
    if (c == NULL) return NULL;
    free(c->target);
    c->target = strdup(uri);
    srv_conn_enter(c, SRV_CONN_HEADER, srv_deadline(srv_now_ns(), h->s->set->header_timeout, 0));
    return NULL;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mc, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_n, void **state)
{
    (void) url;
    srv_http *h = cls;
    srv_request *r = *state;
    if (r != NULL) return *upload_n > 0 ? srv_intake_body(r, upload, upload_n) : srv_intake_complete(r);
    srv_conn *c = conn_of(mc);
    if (c == NULL || c->target == NULL) return MHD_NO;
    r = calloc(1, sizeof *r);
    pthread_mutex_lock(&h->lock);
    bool begins = r != NULL && !h->closed;
    h->n_requests += begins;
    pthread_mutex_unlock(&h->lock);
    if (!begins) {
        free(r);
        return MHD_NO;
    }
    *state = r;
    r->s = h->s;
    r->conn = c;
    r->mhd = mc;
    r->start_ns = srv_now_ns();
    r->target = c->target;
    r->method_name = method;
    r->needs_host = strcmp(version, "HTTP/1.0") != 0;
    c->target = NULL;
    return srv_intake_begin(r);
}

static const char *who_ended(srv_request *r, enum MHD_RequestTerminationCode how)
{
    pthread_mutex_lock(&r->conn->http->lock);
    const char *cut = r->conn->cut;
    pthread_mutex_unlock(&r->conn->http->lock);
    return cut != NULL ? cut : how == MHD_REQUEST_TERMINATED_CLIENT_ABORT ? "client" : "connection";
}

/* Query strings are not logged: people put keys there. A refused request may not have been split yet. */
static const char *path_to_log(const srv_request *r)
{
    if (r->path != NULL) return r->path;
    if (r->target[0] != '/') return "-"; // no path at all, or one behind a host and perhaps a password
    r->target[strcspn(r->target, "?")] = '\0';
    return r->target;
}

static void record(srv_request *r, enum MHD_RequestTerminationCode how)
{
    uint64_t ns = srv_now_ns() - r->start_ns;
    bool whole = how == MHD_REQUEST_TERMINATED_COMPLETED_OK;
    int status = r->answered ? r->rp.status : 499; // nobody was there to be answered
    srv_metrics_request(&(srv_request_record){srv_method_name(r->method), r->route, status, ns, r->received, r->sent,
                                              r->rp.stage_ns, r->rp.images, r->rp.problem_code});
    srv_log_line l;
    srv_log_begin(&l, status >= 500 && status != 503 ? SRV_LOG_ERROR : SRV_LOG_INFO, "request");
    srv_log_text(&l, "id", r->id);
    srv_log_text(&l, "method", r->method_name);
    srv_log_text(&l, "path", path_to_log(r));
    srv_log_text(&l, "route", r->route);
    srv_log_int(&l, "status", status);
    srv_log_text(&l, "code", r->rp.problem_code);
    srv_log_text(&l, "remote", r->conn->remote);
    srv_log_int(&l, "bytes_in", (int64_t) r->received);
    srv_log_int(&l, "bytes_out", (int64_t) r->sent);
    srv_log_ms(&l, "ms", ns);
    for (size_t i = 0; i < API_STAGE_COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "%s_ms", api_stage_name[i]);
        if (r->rp.stage_ns[i] != 0) srv_log_ms(&l, name, r->rp.stage_ns[i]);
    }
    if (!whole) srv_log_text(&l, "ended", who_ended(r, how));
    srv_log_end(&l);
}

static void on_completed(void *cls, struct MHD_Connection *mc, void **state, enum MHD_RequestTerminationCode how)
{
    (void) mc;
    srv_http *h = cls;
    srv_request *r = *state;
    if (r == NULL) return;
    *state = NULL;
    srv_conn *c = r->conn;
    srv_stream_close(r->stream);
    record(r, how);
    srv_intake_release(r);
    pthread_mutex_lock(&h->lock);
    h->n_requests--;
    pthread_mutex_unlock(&h->lock);
    srv_conn_enter(c, SRV_CONN_IDLE, srv_deadline(srv_now_ns(), h->s->set->idle_timeout, 0));
}

/* ---- start and stop ----------------------------------------------------------------------------- */

static void on_library_log(void *cls, const char *fmt, va_list ap)
{
    (void) cls;
    char text[256];
    vsnprintf(text, sizeof text, fmt, ap);
    text[strcspn(text, "\n")] = '\0';
    srv_log(SRV_LOG_WARN, "http: %s", text);
}

/* At the end of its files libmicrohttpd tries to accept again and again, with a line in the log each time; and the store could
 * not open its readers. */
static uint64_t connections_that_fit(const srv_settings *o)
{
    uint64_t ours = 32 + 4 * (o->threads + o->http_threads); // readers of the store, epoll sets, segments
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == RLIM_INFINITY || files.rlim_cur >= ours + o->max_connections)
        return o->max_connections;
    uint64_t least = 2 * o->http_threads, n = files.rlim_cur > ours + least ? files.rlim_cur - ours : least;
    srv_log(SRV_LOG_WARN, "max-connections is %llu instead of %llu: the process may open %llu files", (unsigned long long) n,
            (unsigned long long) o->max_connections, (unsigned long long) files.rlim_cur);
    return n;
}

static bool start_daemon(srv_http *h, char err[320])
{
    const srv_settings *o = h->s->set;
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem more[] = {
        {MHD_OPTION_LISTEN_SOCKET, h->listen_fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t) connections_that_fit(o), NULL},
        {MHD_OPTION_CONNECTION_MEMORY_INCREMENT, CONNECTION_MEMORY / 4, NULL}, // the most that 1.0 takes
        {MHD_OPTION_THREAD_POOL_SIZE, o->http_threads > 1 ? (intptr_t) o->http_threads : 0, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    h->daemon = MHD_start_daemon(flags, 0, on_accept, h, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_library_log, NULL,
                                 MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
                                 MHD_OPTION_URI_LOG_CALLBACK, on_target, h, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                                 (size_t) CONNECTION_MEMORY,
#if MHD_VERSION >= 0x01000000
                                 MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1,
#else
                                 // Strict would add two checks that guard.c makes as well, and whose reply 0.9.75 sends with
                                 // its headers doubled.
                                 MHD_OPTION_STRICT_FOR_CLIENT, 0,
#endif
                                 MHD_OPTION_ARRAY, more, MHD_OPTION_END);
    if (h->daemon == NULL) snprintf(err, 320, "cannot start the HTTP threads: %s", strerror(errno));
    return h->daemon != NULL;
}

srv_http *srv_http_start(srv_service *s, char err[320])
{
    srv_http *h = calloc(1, sizeof *h);
    if (h == NULL) {
        snprintf(err, 320, "no memory for the HTTP server");
        return NULL;
    }
    h->s = s;
    pthread_mutex_init(&h->lock, NULL);
    h->listen_fd = srv_listen(s->set->listen, err);
    if (h->listen_fd < 0) goto fail;
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    if (getsockname(h->listen_fd, (struct sockaddr *) &a, &n) == 0)
        srv_address_text((struct sockaddr *) &a, n, true, h->address, sizeof h->address);
    if (pthread_create(&h->sweeper, NULL, sweep, h) != 0) {
        snprintf(err, 320, "cannot start the sweeper thread");
        goto fail;
    }
    h->has_sweeper = true;
    if (start_daemon(h, err)) return h;
fail:
    if (h->listen_fd >= 0) close(h->listen_fd);
    h->listen_fd = -1;
    srv_http_stop(h);
    return NULL;
}

/* MHD_quiesce_daemon aborts the process when one of its threads looks at its listening socket in the same moment. Here the
 * socket's number comes to stand for something that never has an event: the socket closes, which takes it out of every
 * thread's epoll set, and who wants to connect is refused by the system. The threads are told first not to accept, so that
 * none of them reaches its connection limit now and wants to take out of its set what is no longer in it. */
static void stop_listening(srv_http *h)
{
    pthread_mutex_lock(&h->lock);
    h->draining = true;
    pthread_mutex_unlock(&h->lock);
    usleep(LAST_ACCEPT_MS * 1000);
    int quiet = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (quiet >= 0 && dup3(quiet, h->listen_fd, O_CLOEXEC) < 0) srv_log(SRV_LOG_WARN, "cannot stop listening: %s", strerror(errno));
    if (quiet >= 0) close(quiet);
}

/* From the moment when none is left none begins either: a kept connection could bring the next one, and suspend itself,
 * right before MHD_stop_daemon. */
static bool wait_for_requests(srv_http *h, uint64_t ms)
{
    uint64_t end = srv_now_ns() + ms * 1000000u;
    for (;;) {
        pthread_mutex_lock(&h->lock);
        uint32_t n = h->n_requests;
        h->closed = n == 0;
        pthread_mutex_unlock(&h->lock);
        if (n == 0) return true;
        if (srv_now_ns() >= end) return false;
        usleep(5000);
    }
}

static void end_all(srv_http *h)
{
    pthread_mutex_lock(&h->lock);
    for (srv_conn *c = h->conns; c != NULL; c = c->next)
        if (c->cut == NULL) end_connection(c, c->phase == SRV_CONN_BODY ? "body" : NULL);
    pthread_mutex_unlock(&h->lock);
}

void srv_http_stop(srv_http *h)
{
    if (h == NULL) return;
    if (h->daemon != NULL) {
        stop_listening(h);
        if (!wait_for_requests(h, h->s->set->drain_timeout)) {
            srv_log(SRV_LOG_WARN, "drain-timeout is over: what is still here is ended");
            if (h->s->pool != NULL) srv_pool_cancel(h->s->pool);
            srv_streams_abort();
            (void) wait_for_requests(h, 500); // replies of what was cancelled
            end_all(h);
            // A suspended connection would abort the process in MHD_stop_daemon: work that runs ends first. It is one image
            // or one commit a thread.
            while (!wait_for_requests(h, 1000)) {
                srv_streams_abort();
                end_all(h);
            }
        }
        MHD_stop_daemon(h->daemon);
    }
    if (h->has_sweeper) {
        pthread_mutex_lock(&h->lock);
        h->end_sweeper = true;
        pthread_mutex_unlock(&h->lock);
        pthread_join(h->sweeper, NULL);
    }
    pthread_mutex_destroy(&h->lock);
    free(h);
}
