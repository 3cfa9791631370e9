/* service.c: start and end of what answers requests. */
#include "service.h"
#include "log.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void log_index(void *ctx, int level, const char *text)
{
    (void) ctx;
    srv_log(level >= 2 ? SRV_LOG_ERROR : level == 1 ? SRV_LOG_WARN : SRV_LOG_INFO, "%s", text);
}

static bool open_model(srv_service *s, char err[320])
{
    emb_error e = {0};
    emb_status st = srv_model_open(&s->set->model, &s->model, &e);
    if (st != EMB_OK) {
        snprintf(err, 320, "%s", e.text);
        return false;
    }
    const char *name = emb_model_get_info(s->model)->name;
    for (size_t i = 0; name[i] != '\0' && i + 1 < sizeof s->model_name; i++)
        s->model_name[i] = isalnum((unsigned char) name[i]) || strchr("-._ ", name[i]) != NULL ? name[i] : '_';
    return true;
}

static bool open_index(srv_service *s, char err[320])
{
    const srv_settings *o = s->set;
    idx_opts opts = {
        .segment_images = (uint32_t) o->segment_images,
        .hnsw_m = (uint32_t) o->hnsw_m,
        .ef_construction = (uint32_t) o->ef_construction,
        .ef_search = (uint32_t) o->ef_search,
        .recall_target = o->recall_target > 0 ? o->recall_target : -1,
        .disk_floor_bytes = o->disk_floor,
        .link_threads = (uint32_t) o->threads,
        .log = log_index,
    };
    idx_error e = {0};
    if (idx_open(o->data, &opts, &s->ix, &e) == IDX_OK) return true;
    snprintf(err, 320, "%s", e.text);
    return false;
}

bool srv_service_open(srv_service *s, char err[320])
{
    const srv_settings *o = s->set;
    api_limits limits = {
        .image = {.max_pixels = o->max_pixels, .max_side = (uint32_t) o->max_side},
        .max_image_bytes = o->max_image_bytes,
        .max_body_bytes = o->max_body_bytes,
        .max_line_bytes = o->max_line_bytes,
        .max_lines = (uint32_t) o->max_lines,
        .max_memory_bytes = o->max_body_memory,
        .rendition_side = (uint32_t) o->rendition_side,
        .rendition_quality = (int) o->rendition_quality,
    };
    if (!open_model(s, err) || !srv_model_try(s->model, err) || !open_index(s, err)) return false;
    if (api_ctx_new(s->model, s->ix, &limits, &s->cx, err) != 0) return false;
    s->pool = srv_pool_new(s->cx, (uint32_t) o->threads, (uint32_t) o->max_queue, o->max_queue_age * 1000000u, err);
    return s->pool != NULL;
}

void srv_service_close(srv_service *s)
{
    srv_pool_free(s->pool);
    idx_close(s->ix); // drains the writer, whose callbacks still use the context
    api_ctx_free(s->cx);
    emb_model_close(s->model);
    s->pool = NULL;
    s->ix = NULL;
    s->cx = NULL;
    s->model = NULL;
}
