/* listen.c: "HOST:PORT" -> a socket that listens or is connected. */
#include "listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static bool split(const char *where, char host[256], char port[16], char err[320])
{
    const char *colon = strrchr(where, ':'), *start = where;
    size_t n = colon != NULL ? (size_t) (colon - where) : 0;
    if (colon == NULL || colon[1] == '\0' || strlen(colon + 1) > 5 || strspn(colon + 1, "0123456789") != strlen(colon + 1)) {
        snprintf(err, 320, "listen: \"%.200s\" is not HOST:PORT", where);
        return false;
    }
    if (strtoul(colon + 1, NULL, 10) > 65535) { // getaddrinfo would take it modulo 65536
        snprintf(err, 320, "listen: \"%.200s\" has the port %s, 0 to 65535 is allowed", where, colon + 1);
        return false;
    }
    if (n >= 2 && where[0] == '[' && where[n - 1] == ']') start++, n -= 2;
    if (n >= 256) {
        snprintf(err, 320, "listen: the host is longer than 255 bytes");
        return false;
    }
    memcpy(host, start, n);
    host[n] = '\0';
    snprintf(port, 16, "%s", colon + 1);
    return true;
}

static int open_one(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol), on = 1;
    if (fd < 0) return -1;
    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, 1024) == 0) return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int srv_listen(const char *where, char err[320])
{
    char host[256], port[16];
    if (!split(where, host, port, err)) return -1;
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
    if (rc != 0) {
        snprintf(err, 320, "listen: %.200s: %s", where, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) fd = open_one(a);
    if (fd < 0) snprintf(err, 320, "cannot listen on %.200s: %s", where, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

static int connect_one(const struct addrinfo *a, unsigned seconds)
{
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0) return -1;
    struct timeval limit = {.tv_sec = (time_t) seconds}; // the limit of sending is also that of connect()
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    int why = errno;
    close(fd);
    errno = why;
    return -1;
}

int srv_connect(const char *where, unsigned seconds, char err[320])
{
    char host[256], port[16];
    if (!split(where, host, port, err)) return -1;
    struct addrinfo hints = {.ai_flags = AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &list);
    if (rc != 0) {
        snprintf(err, 320, "connect: %.200s: %s", where, gai_strerror(rc));
        return -1;
    }
    int fd = -1;
    for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) fd = connect_one(a, seconds);
    if (fd < 0) snprintf(err, 320, "cannot connect to %.200s: %s", where, strerror(errno));
    freeaddrinfo(list);
    return fd;
}

void srv_address_text(const struct sockaddr *a, socklen_t n, bool with_port, char *out, size_t room)
{
    char host[128] = "?", port[16] = "?";
    (void) getnameinfo(a, n, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    if (!with_port) snprintf(out, room, "%s", host);
    else snprintf(out, room, strchr(host, ':') != NULL ? "[%s]:%s" : "%s:%s", host, port);
}
