/* http.h: the HTTP side of the server: a listening socket, libmicrohttpd's threads, deadlines of connections. */
#ifndef LK_HTTP_H
#define LK_HTTP_H

#include "service.h"

typedef struct srv_http srv_http;

/* Listens on settings.listen ("HOST:PORT", "[::1]:8080", ":8080"; port 0 = any free one) and answers from now on: while
 * the service is starting, with 503 not_ready. NULL: err says why. */
EMB_CHECK srv_http *srv_http_start(srv_service *s, char err[320]);
/* "127.0.0.1:8080", the address that is really listened on. */
const char *srv_http_address(const srv_http *h);
/* Stops accepting, lets the requests that are here finish for up to drain_timeout, then ends what is left. After it
 * returns no request exists. */
void srv_http_stop(srv_http *h);

#endif
