/* bench_load.c: HTTP load with as little work of its own as possible, because it shares the processors with the server:
 * one blocking thread a connection, one prepared request, keep-alive.
 *   bench_load HOST PORT PATH FILE CONTENT_TYPE CONNECTIONS SECONDS [HEADER]
 * Prints one JSON line: requests, errors (status other than 200), rate, latencies in milliseconds. */
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SAMPLES = 1 << 20 };

static const char *host, *port;
static char *request;
static size_t request_n;
static uint64_t end_ns;
static float *samples; /* milliseconds */
static _Atomic uint32_t n_samples, errors;

static void fail(const char *what)
{
    fprintf(stderr, "bench_load: %s\n", what);
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t) t.tv_sec * 1000000000u + (uint64_t) t.tv_nsec;
}

static int dial(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *a = NULL;
    if (getaddrinfo(host, port, &hints, &a) != 0) fail("no such host");
    int fd = socket(a->ai_family, SOCK_STREAM, 0), on = 1;
    if (fd < 0 || connect(fd, a->ai_addr, a->ai_addrlen) != 0) fail("cannot connect");
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    freeaddrinfo(a);
    return fd;
}

/* One reply; returns its status, or 0 when the connection ended. */
static int read_reply(int fd)
{
    char buf[64 * 1024];
    size_t n = 0, want = 0;
    int status = 0;
    while (want == 0 || n < want) {
        if (n == sizeof buf - 1) fail("the reply is too large");
        ssize_t got = recv(fd, buf + n, sizeof buf - 1 - n, 0);
        if (got <= 0) return 0;
        n += (size_t) got;
        buf[n] = '\0';
        char *end = want == 0 ? strstr(buf, "\r\n\r\n") : NULL;
        if (end == NULL) continue;
        char *length = strcasestr(buf, "\r\nContent-Length:");
        if (length == NULL || sscanf(buf, "HTTP/1.1 %d", &status) != 1) return 0;
        want = (size_t) (end + 4 - buf) + strtoul(length + 17, NULL, 10);
    }
    return status;
}

static void *client(void *arg)
{
    (void) arg;
    int fd = dial();
    while (now_ns() < end_ns) {
        uint64_t t = now_ns();
        for (size_t sent = 0; sent < request_n;) {
            ssize_t k = send(fd, request + sent, request_n - sent, MSG_NOSIGNAL);
            if (k <= 0) fail("the connection ended while sending");
            sent += (size_t) k;
        }
        int status = read_reply(fd);
        if (status == 0) fail("the connection ended while reading");
        if (status != 200) {
            atomic_fetch_add(&errors, 1);
            continue;
        }
        uint32_t i = atomic_fetch_add(&n_samples, 1);
        if (i < MAX_SAMPLES) samples[i] = (float) ((double) (now_ns() - t) / 1e6);
    }
    close(fd);
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *) a, y = *(const float *) b;
    return (x > y) - (x < y);
}

static void prepare(const char *path, const char *file, const char *type, const char *header)
{
    FILE *f = fopen(file, "rb");
    if (f == NULL || fseek(f, 0, SEEK_END) != 0) fail("cannot read the file");
    size_t n = (size_t) ftell(f);
    rewind(f);
    request = malloc(n + 4096);
    if (request == NULL) fail("no memory");
    int head = snprintf(request, 4096, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n", path, host, type, n,
                        header, header[0] != '\0' ? "\r\n" : "");
    if (head < 0 || head >= 4096 || fread(request + head, 1, n, f) != n) fail("cannot read the file");
    request_n = (size_t) head + n;
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc < 8) fail("usage: bench_load HOST PORT PATH FILE CONTENT_TYPE CONNECTIONS SECONDS [HEADER]");
    host = argv[1];
    port = argv[2];
    prepare(argv[3], argv[4], argv[5], argc > 8 ? argv[8] : "");
    int connections = atoi(argv[6]);
    if (connections < 1 || connections > 1024) fail("1..1024 connections");
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    pthread_t *t = calloc((size_t) connections, sizeof *t);
    if (samples == NULL || t == NULL) fail("no memory");
    uint64_t start = now_ns();
    end_ns = start + (uint64_t) (atof(argv[7]) * 1e9);
    for (int i = 0; i < connections; i++)
        if (pthread_create(&t[i], NULL, client, NULL) != 0) fail("cannot start a thread");
    for (int i = 0; i < connections; i++) pthread_join(t[i], NULL);
    double took = (double) (now_ns() - start) / 1e9;
    uint32_t n = n_samples < MAX_SAMPLES ? n_samples : MAX_SAMPLES;
    qsort(samples, n, sizeof *samples, by_value);
    printf("{\"connections\":%d,\"requests\":%u,\"errors\":%u,\"seconds\":%.3f,\"rate\":%.2f,\"p50_ms\":%.3f,\"p99_ms\":%.3f}\n", connections,
           n_samples, errors, took, n_samples / took, n ? (double) samples[n / 2] : 0, n ? (double) samples[(size_t) (n * 0.99)] : 0);
    return n_samples > 0 ? 0 : 1;
}
