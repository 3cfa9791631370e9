/* service.h: what the parts of `likeness serve` share: settings, the model, the index, the compute pool, whether the
 * server is ready. */
#ifndef LK_SERVICE_H
#define LK_SERVICE_H

#include "api.h"
#include "keys.h"
#include "model_opts.h"
#include "queue.h"

#include <stdatomic.h>

typedef struct {
    srv_model_opts model;
    const char *listen, *data, *admin_key_file, *log_level;
    bool no_keys;
    srv_opt_list cors_origin;
    uint64_t threads, http_threads, max_queue, max_connections;
    uint64_t max_queue_age, request_timeout, header_timeout, body_timeout, idle_timeout, drain_timeout; /* ms */
    uint64_t max_body_memory;
    uint64_t max_pixels, max_side, max_image_bytes, max_body_bytes, max_line_bytes, max_lines;
    uint64_t segment_images, ef_search, ef_construction, hnsw_m, disk_floor;
    uint64_t rendition_side, rendition_quality;
    double recall_target;
} srv_settings;

typedef enum { SRV_STARTING, SRV_READY, SRV_DRAINING } srv_state;

typedef struct srv_service {
    const srv_settings *set;
    srv_keys *keys; /* NULL: keyless */
    _Atomic(srv_state) state;
    uint64_t start_ns, ready_ns;
    /* Valid from SRV_READY on; made by srv_service_open. */
    emb_model *model;
    idx *ix;
    api_ctx *cx;
    srv_pool *pool;
    char model_name[128]; /* without characters that would need escaping */
} srv_service;

/* Opens the model and the index, runs the model once so that its pages are warm, and starts the pool. */
EMB_CHECK bool srv_service_open(srv_service *s, char err[320]);
/* After the HTTP side has stopped: pool, context, index (checkpoint), model. */
void srv_service_close(srv_service *s);

/* The server's own documents: /livez /readyz /metrics /openapi.json and the web page. false: not one of them. */
typedef struct {
    bool open;         /* needs no key */
    const char *route; /* static, for metrics */
    void (*answer)(srv_service *s, uint32_t connections, api_reply *rp, const char *request_id);
} srv_document;
const srv_document *srv_document_find(const char *path);

#endif
