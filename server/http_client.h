/* http_client.h: the commands' way to a server (libcurl). One client belongs to one thread and keeps its connection. */
#ifndef LK_HTTP_CLIENT_H
#define LK_HTTP_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct srv_client srv_client;

typedef struct {
    long status;
    char *body; /* malloc, NUL at the end */
    size_t n;
    uint32_t retry_after_s; /* 0 = the header was not there */
} srv_answer;

/* url NULL: LIKENESS_URL, or http://127.0.0.1:8080. key_file NULL: LIKENESS_KEY_FILE; without one LIKENESS_KEY, or no key.
 * Once, before threads exist: srv_client_global(). NULL: err says why. */
void srv_client_global(void);
srv_client *srv_client_new(const char *url, const char *key_file, char err[320]);
void srv_client_free(srv_client *c);
const char *srv_client_url(const srv_client *c);
/* 0 = no limit. The default is 60 s. */
void srv_client_timeout(srv_client *c, uint32_t seconds);

/* path begins with /. type NULL: no body. true: the server answered, with whatever status; false: err says why not. */
bool srv_client_send(srv_client *c, const char *method, const char *path, const char *type, const void *body, size_t n,
                     srv_answer *out, char err[320]);
void srv_answer_fini(srv_answer *a);
/* One line: "400 filter_invalid: column 3: ... (field filter)". */
void srv_answer_describe(const srv_answer *a, char *text, size_t room);
/* Percent-encodes one path segment or query value into malloc'd text. */
char *srv_percent_encode(const char *text);

#endif
