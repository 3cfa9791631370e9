/* http_client.c: requests of the commands. */
#include "http_client.h"

#include <curl/curl.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ANSWER = 256 << 20 };

struct srv_client {
    CURL *curl;
    char url[512];
    char authorization[640];
    uint32_t timeout_s;
};

void srv_client_global(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

static bool read_key(srv_client *c, const char *key_file, char err[320])
{
    char line[512] = "";
    const char *key = getenv("LIKENESS_KEY");
    if (key_file == NULL) key_file = getenv("LIKENESS_KEY_FILE");
    if (key_file != NULL) {
        FILE *f = fopen(key_file, "re");
        if (f == NULL || fgets(line, sizeof line, f) == NULL) {
            snprintf(err, 320, "cannot read the key file %.200s: %s", key_file, f == NULL ? strerror(errno) : "it is empty");
            if (f != NULL) fclose(f);
            return false;
        }
        fclose(f);
        line[strcspn(line, "\r\n")] = '\0';
        key = line;
    }
    if (key != NULL && key[0] != '\0') snprintf(c->authorization, sizeof c->authorization, "Authorization: Bearer %.600s", key);
    return true;
}

srv_client *srv_client_new(const char *url, const char *key_file, char err[320])
{
    if (url == NULL) url = getenv("LIKENESS_URL");
    if (url == NULL) url = "http://127.0.0.1:8080";
    srv_client *c = calloc(1, sizeof *c);
    if (c == NULL || (c->curl = curl_easy_init()) == NULL) {
        snprintf(err, 320, "no memory for the HTTP client");
        free(c);
        return NULL;
    }
    size_t n = strlen(url);
    while (n > 0 && url[n - 1] == '/') n--;
    if (n >= sizeof c->url || (strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0)) {
        snprintf(err, 320, "the URL \"%.200s\" does not begin with http:// or https://", url);
        srv_client_free(c);
        return NULL;
    }
    memcpy(c->url, url, n);
    c->timeout_s = 60;
    if (read_key(c, key_file, err)) return c;
    srv_client_free(c);
    return NULL;
}

void srv_client_free(srv_client *c)
{
    if (c == NULL) return;
    if (c->curl != NULL) curl_easy_cleanup(c->curl);
    explicit_bzero(c->authorization, sizeof c->authorization);
    free(c);
}

const char *srv_client_url(const srv_client *c) { return c->url; }
void srv_client_timeout(srv_client *c, uint32_t seconds) { c->timeout_s = seconds; }

static size_t take(char *bytes, size_t size, size_t n, void *ctx)
{
    srv_answer *a = ctx;
    n *= size;
    if (a->n + n > MAX_ANSWER) return 0;
    char *grown = realloc(a->body, a->n + n + 1);
    if (grown == NULL) return 0;
    a->body = grown;
    memcpy(a->body + a->n, bytes, n);
    a->n += n;
    a->body[a->n] = '\0';
    return n;
}

/* Expect: would cost a round trip before each photo; curl adds it to large bodies. */
static struct curl_slist *headers(const srv_client *c, const char *type)
{
    char content[256];
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    snprintf(content, sizeof content, "Content-Type: %s", type != NULL ? type : "");
    if (type != NULL) list = curl_slist_append(list, content);
    if (c->authorization[0] != '\0') list = curl_slist_append(list, c->authorization);
    return list;
}

bool srv_client_send(srv_client *c, const char *method, const char *path, const char *type, const void *body, size_t n,
                     srv_answer *out, char err[320])
{
    char *url = NULL, reason[CURL_ERROR_SIZE] = "";
    *out = (srv_answer){0};
    if (asprintf(&url, "%s%s", c->url, path) < 0) {
        snprintf(err, 320, "no memory for the request");
        return false;
    }
    curl_easy_reset(c->curl); // keeps the connection
    struct curl_slist *list = headers(c, type);
    curl_easy_setopt(c->curl, CURLOPT_URL, url);
    curl_easy_setopt(c->curl, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
    curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, (long) c->timeout_s);
    curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, out);
    if (type != NULL) {
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, n > 0 ? body : "");
        curl_easy_setopt(c->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) n);
    }
    CURLcode rc = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &out->status);
    curl_off_t wait = 0;
    if (rc == CURLE_OK && curl_easy_getinfo(c->curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0 && wait < 3600)
        out->retry_after_s = (uint32_t) wait;
    curl_slist_free_all(list);
    free(url);
    if (rc == CURLE_OK) return true;
    snprintf(err, 320, "%.200s: %.100s", c->url, reason[0] != '\0' ? reason : curl_easy_strerror(rc));
    srv_answer_fini(out);
    return false;
}

void srv_answer_fini(srv_answer *a)
{
    free(a->body);
    *a = (srv_answer){0};
}

void srv_answer_describe(const srv_answer *a, char *text, size_t room)
{
    json_t *o = a->body != NULL ? json_loadb(a->body, a->n, 0, NULL) : NULL;
    const char *code = json_string_value(json_object_get(o, "code")), *detail = json_string_value(json_object_get(o, "detail"));
    const char *field = json_string_value(json_object_get(o, "field"));
    if (code != NULL && detail != NULL)
        snprintf(text, room, "%ld %s: %s%s%s%s", a->status, code, detail, field != NULL ? " (field " : "", field != NULL ? field : "",
                 field != NULL ? ")" : "");
    else snprintf(text, room, "HTTP status %ld", a->status);
    json_decref(o);
}

char *srv_percent_encode(const char *text)
{
    static const char hex[] = "0123456789ABCDEF";
    char *out = malloc(3 * strlen(text) + 1), *o = out;
    if (out == NULL) return NULL;
    for (const unsigned char *s = (const unsigned char *) text; *s != '\0'; s++) {
        bool plain = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') || strchr("-._~", *s) != NULL;
        if (plain) {
            *o++ = (char) *s;
        } else {
            *o++ = '%';
            *o++ = hex[*s >> 4];
            *o++ = hex[*s & 15];
        }
    }
    *o = '\0';
    return out;
}
