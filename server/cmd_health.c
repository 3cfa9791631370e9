/* cmd_health.c: `likeness health`: what a container's health check runs. It needs no key, no shell and no other program. */
#include "commands.h"
#include "listen.h"
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LIMIT_S = 3 }; // of each step; health checks are given five seconds

/* The status of GET /readyz, or 0 and the reason. */
static int ask(const char *where, char err[320])
{
    static const char request[] = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    char reply[64] = "";
    int fd = srv_connect(where, LIMIT_S, err), status = 0;
    if (fd < 0) return 0;
    bool sent = send(fd, request, sizeof request - 1, MSG_NOSIGNAL) == (ssize_t) sizeof request - 1;
    size_t have = 0;
    while (sent && have < sizeof reply - 1) {
        ssize_t n = recv(fd, reply + have, sizeof reply - 1 - have, 0);
        if (n < 0) snprintf(err, 320, "%.200s does not answer: %s", where, strerror(errno));
        if (n <= 0) break;
        have += (size_t) n;
    }
    close(fd);
    if (sscanf(reply, "HTTP/1.%*[01] %3d", &status) == 1 && status > 0) return status;
    if (err[0] == '\0') snprintf(err, 320, "%.200s does not answer in HTTP", where);
    return 0;
}

int srv_cmd_health(int argc, char **argv)
{
    const char *listen = getenv("LIKENESS_LISTEN");
    if (listen == NULL) listen = "127.0.0.1:8080";
    const srv_opt opts[] = {{"listen", "HOST:PORT", SRV_OPT_TEXT, &listen, 0, 0,
                             "where the server listens (LIKENESS_LISTEN, or 127.0.0.1:8080)"}};
    srv_opts table = {"likeness health [--listen HOST:PORT]",
                      "Exit status 0: the server on this machine is ready. 1: it is not, and a line says why.", opts, 1, false};
    char **args = calloc((size_t) argc, sizeof *args), err[320] = "";
    int n = 0, rc = 2;
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    if (what == SRV_OPTS_HELP) {
        rc = 0;
    } else if (what == SRV_OPTS_GO && n > 0) {
        fprintf(stderr, "likeness: health: unexpected argument \"%s\"\n", args[0]);
    } else if (what == SRV_OPTS_GO) {
        int status = ask(listen, err);
        rc = status == 200 ? 0 : 1;
        if (status == 200) puts("ready");
        else if (status == 0) fprintf(stderr, "likeness: health: %s\n", err);
        else fprintf(stderr, "likeness: health: not ready, /readyz answers %d\n", status);
    }
    free(args);
    return rc;
}
