/* `likeness health` against a server of one canned reply each: only a 200 of a full status line is good news. */
#include "../../server/cmd_health.c"
#include "../../server/listen.c"
#include "../../server/options.c"
#include "test.h"

#include <pthread.h>

typedef struct {
    int listener;
    const char *reply;
    char request[512];
} canned;

static void *answer(void *arg)
{
    canned *c = arg;
    int fd;
    while ((fd = accept(c->listener, NULL, NULL)) < 0) usleep(1000); // srv_listen() gives sockets that do not block
    ssize_t n = recv(fd, c->request, sizeof c->request - 1, 0);
    if (n > 0) (void) !write(fd, c->reply, strlen(c->reply));
    close(fd);
    return NULL;
}

/* The server listens on 127.0.0.1; the command is told `host` and the server's port. */
static int health_of(const char *host, const char *reply)
{
    char err[320] = "", where[320], bound[128];
    canned c = {.listener = srv_listen("127.0.0.1:0", err), .reply = reply};
    REQUIRE(c.listener >= 0);
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    REQUIRE(getsockname(c.listener, (struct sockaddr *) &a, &len) == 0);
    srv_address_text((struct sockaddr *) &a, len, true, bound, sizeof bound);
    pthread_t t;
    REQUIRE(pthread_create(&t, NULL, answer, &c) == 0);
    snprintf(where, sizeof where, "%s%s", host, strrchr(bound, ':'));
    char *argv[] = {"health", "--listen", where, NULL};
    int rc = srv_cmd_health(3, argv);
    pthread_join(t, NULL);
    close(c.listener);
    CHECK_CONTAINS(c.request, "GET /readyz HTTP/1.1\r\n");
    return rc;
}

int main(void)
{
    CHECK_INT(health_of("127.0.0.1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0);
    CHECK_INT(health_of("0.0.0.0", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0);
    CHECK_INT(health_of("", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 0);
    CHECK_INT(health_of("127.0.0.1", "HTTP/1.1 503 Service Unavailable\r\n\r\n"), 1);
    CHECK_INT(health_of("127.0.0.1", "HTTP/1.1 2"), 1);
    CHECK_INT(health_of("127.0.0.1", "SSH-2.0-OpenSSH_9.2 200\r\n"), 1);
    CHECK_INT(health_of("127.0.0.1", ""), 1);

    char *nobody[] = {"health", "--listen", "127.0.0.1:1", NULL}, *bad[] = {"health", "--listen", "8080", NULL};
    char *extra[] = {"health", "now", NULL}, *unknown[] = {"health", "--port", "1", NULL}, *help[] = {"health", "--help", NULL};
    CHECK_INT(srv_cmd_health(3, nobody), 1);
    CHECK_INT(srv_cmd_health(3, bad), 1);
    CHECK_INT(srv_cmd_health(2, extra), 2);
    CHECK_INT(srv_cmd_health(3, unknown), 2);
    CHECK_INT(srv_cmd_health(2, help), 0);

    setenv("LIKENESS_LISTEN", "127.0.0.1:1", 1);
    char *plain[] = {"health", NULL};
    CHECK_INT(srv_cmd_health(1, plain), 1);
    return test_end();
}
