/* documents.c: what the server itself answers: health, metrics, the contract, the web page. */
#include "log.h"
#include "metrics.h"
#include "service.h"
#include "web.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static void give_text(api_reply *rp, int status, const char *type, const char *text, size_t n)
{
    uint8_t *body = malloc(n + 1);
    if (body == NULL) {
        api_problem(rp, "out_of_memory", NULL, "no memory for %zu bytes", n);
        return;
    }
    memcpy(body, text, n);
    rp->status = status;
    rp->content_type = type;
    rp->body = body;
    rp->body_bytes = n;
}

static void livez(srv_service *s, uint32_t connections, api_reply *rp, const char *id)
{
    (void) s, (void) connections, (void) id;
    static const char text[] = "{\"status\":\"alive\",\"version\":\"" LK_VERSION "\"}\n";
    give_text(rp, 200, "application/json", text, sizeof text - 1);
}

static void readyz(srv_service *s, uint32_t connections, api_reply *rp, const char *id)
{
    (void) connections;
    srv_state state = atomic_load(&s->state);
    if (state != SRV_READY) {
        api_problem(rp, "not_ready", id, "%s", state == SRV_STARTING ? "the index is being loaded" : "the server is shutting down");
        return;
    }
    const emb_model_info *m = emb_model_get_info(s->model);
    json_t *o = json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:i, s:s}, s:s, s:s, s:i, s:f, s:f}", "status", "ready", "version", LK_VERSION,
                          "model", "name", m->name, "source", m->source, "fingerprint", m->fingerprint, "dim", (int) m->dim,
                          "precision", emb_precision_name(m->precision),
                          "kernels", emb_cpu_kernels(), "blas_core", emb_blas_core(), "compute_threads", (int) s->set->threads,
                          "start_s", (double) (s->ready_ns - s->start_ns) / 1e9,
                          "uptime_s", (double) (srv_now_ns() - s->start_ns) / 1e9);
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(o);
    if (text == NULL) api_problem(rp, "out_of_memory", id, "no memory for the reply");
    else give_text(rp, 200, "application/json", text, strlen(text));
    free(text);
}

static void metrics(srv_service *s, uint32_t connections, api_reply *rp, const char *id)
{
    srv_state state = atomic_load(&s->state);
    bool open = state != SRV_STARTING;
    srv_metrics_now now = {
        .ix = open ? s->ix : NULL,
        .pool = open ? s->pool : NULL,
        .cx = open ? s->cx : NULL,
        .model = open ? s->model_name : "",
        .precision = open ? emb_precision_name(emb_model_get_info(s->model)->precision) : "",
        .kernels = emb_cpu_kernels(),
        .blas_core = emb_blas_core(),
        .connections = connections,
        .ready = state == SRV_READY,
        .start_to_ready_ns = open ? s->ready_ns - s->start_ns : 0,
    };
    size_t n = 0;
    char *text = srv_metrics_text(&now, &n);
    if (text == NULL) {
        api_problem(rp, "out_of_memory", id, "no memory for the metrics");
        return;
    }
    rp->status = 200;
    rp->content_type = "text/plain; version=0.0.4; charset=utf-8";
    rp->body = (uint8_t *) text;
    rp->body_bytes = n;
}

static void openapi(srv_service *s, uint32_t connections, api_reply *rp, const char *id)
{
    (void) s, (void) connections, (void) id;
    size_t n = 0;
    const char *text = api_openapi_json(&n);
    give_text(rp, 200, "application/json", text, n);
}

#define PAGE(NAME, TYPE)                                                                                               \
    static void NAME(srv_service *s, uint32_t connections, api_reply *rp, const char *id)                              \
    {                                                                                                                  \
        (void) s, (void) connections, (void) id;                                                                       \
        give_text(rp, 200, TYPE "; charset=utf-8", srv_web_##NAME, srv_web_##NAME##_bytes());                          \
    }
PAGE(page, "text/html")
PAGE(script, "text/javascript")
PAGE(style, "text/css")

static const struct {
    const char *path;
    srv_document document;
} documents[] = {
    {"/livez", {true, "/livez", livez}},
    {"/readyz", {true, "/readyz", readyz}},
    {"/metrics", {false, "/metrics", metrics}},
    {"/openapi.json", {true, "/openapi.json", openapi}},
    {"/", {true, "/", page}},
    {"/app.js", {true, "/app.js", script}},
    {"/style.css", {true, "/style.css", style}},
};

const srv_document *srv_document_find(const char *path)
{
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        if (strcmp(path, documents[i].path) == 0) return &documents[i].document;
    return NULL;
}
