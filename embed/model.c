/* model.c: an ONNX file (or the built-in one) opened as an image encoder: metadata, fingerprint, plan, workspaces. */
#include "model.h"
#include "precision.h"

#include <malloc.h>
#include <math.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char emb_builtin_onnx[], emb_builtin_onnx_end[]; /* builtin.c */

/* ---- metadata ------------------------------------------------------------------------------------- */

static bool three_floats(const char *text, float out[3])
{
    for (int i = 0; i < 3; i++) {
        char *end;
        out[i] = strtof(text, &end);
        if (end == text || !isfinite(out[i]) || *end != (i < 2 ? ',' : 0)) return false;
        text = end + 1;
    }
    return true;
}

emb_status emb_preproc_read(const emb_graph *g, uint32_t in_w, uint32_t in_h, emb_preproc *pp, emb_error *err)
{
    *pp = (emb_preproc){in_w, in_h, 0, EMB_FIT_CROP, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}, EMB_BILINEAR};
    const char *mean = emb_graph_metadata(g, "likeness.mean"), *std = emb_graph_metadata(g, "likeness.std");
    const char *fit = emb_graph_metadata(g, "likeness.fit"), *resize = emb_graph_metadata(g, "likeness.resize");
    if (mean != NULL && !three_floats(mean, pp->mean))
        return emb_fail(err, EMB_EFORMAT, "%s: likeness.mean is \"%.60s\", not three numbers", g->file, mean);
    if (std != NULL && (!three_floats(std, pp->std) || !(pp->std[0] > 0 && pp->std[1] > 0 && pp->std[2] > 0)))
        return emb_fail(err, EMB_EFORMAT, "%s: likeness.std is \"%.60s\", not three numbers above 0", g->file, std);
    if (fit != NULL) {
        if (strcmp(fit, "squash") == 0) pp->fit = EMB_FIT_SQUASH;
        else if (strcmp(fit, "pad") == 0) pp->fit = EMB_FIT_PAD;
        else if (strcmp(fit, "crop") != 0)
            return emb_fail(err, EMB_EFORMAT, "%s: likeness.fit is \"%.60s\", not crop, squash or pad", g->file, fit);
    }
    uint32_t side = pp->w > pp->h ? pp->w : pp->h;
    pp->resize = side * 8 / 7; /* 256 for 224, the usual evaluation */
    if (resize != NULL) {
        long v = strtol(resize, NULL, 10);
        if (v < (long)side || v > 8192)
            return emb_fail(err, EMB_EFORMAT, "%s: likeness.resize is \"%.60s\"; it must be %u to 8192", g->file, resize, side);
        pp->resize = (uint32_t)v;
    }
    return emb_preproc_filter(pp, emb_graph_metadata(g, "likeness.filter"), g->file, err);
}

static void fingerprint(emb_model *m)
{
    struct sha256_ctx h = m->graph->hasher.hash; /* of all of the file: the graph was dropped */
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_update(&h, sizeof EMB_PREPROC_VERSION, (const uint8_t *)EMB_PREPROC_VERSION);
    const char *output = m->graph->values[m->graph->outputs[0]].name;
    if (m->graph->chosen[0] != 0) sha256_update(&h, strlen(output) + 1, (const uint8_t *)output);
    sha256_digest(&h, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(m->info.fingerprint + i * 2, 3, "%02x", digest[i]);
}

/* ---- open ----------------------------------------------------------------------------------------- */

static emb_status open_source(emb_onnx_source *from, const emb_model_options *o, emb_model **out, emb_error *err)
{
    emb_model *m = calloc(1, sizeof *m);
    if (m == NULL || (m->source = strdup(from->name)) == NULL) {
        free(m);
        return emb_fail(err, EMB_ENOMEM, "no memory for a model");
    }
    emb_status st = emb_graph_load(from, NULL, 0, &m->graph, err);
    if (st == EMB_OK) m->graph->file = m->source;
    if (st == EMB_OK) st = emb_graph_choose(m->graph, o != NULL ? o->output : NULL, err);
    const emb_precision asked = o != NULL ? o->precision : EMB_PRECISION_AUTO;
    if (st == EMB_OK) st = emb_precision_plan(m, asked, err);
    if (st == EMB_OK && m->plan->arena_bytes > EMB_RUN_BYTES)
        st = emb_fail(err, EMB_ELIMIT, "%s: a run needs %zu MB, the limit is %zu MB", m->source, m->plan->arena_bytes >> 20, EMB_RUN_BYTES >> 20);
    if (st == EMB_OK) st = emb_preproc_read(m->graph, m->plan->in_w, m->plan->in_h, &m->pp, err);
    if (st == EMB_OK) m->info.dim = m->plan->dim;
    if (st == EMB_OK) st = emb_precision_settle(m, asked, err);
    if (st != EMB_OK) {
        emb_model_close(m);
        return st;
    }
    emb_graph_drop(m->graph, emb_plan_needs, m->plan); /* packed by now */
    (void)malloc_trim(0); /* what weights were in before, which the heap would keep */
    fingerprint(m);
    const char *name = emb_graph_metadata(m->graph, "likeness.name"), *slash = strrchr(m->source, '/');
    m->info.name = name != NULL && name[0] != 0 ? name : slash != NULL ? slash + 1 : m->source;
    m->info.source = m->source;
    m->info.input_w = m->plan->in_w;
    m->info.input_h = m->plan->in_h;
    m->info.decode_side = emb_preproc_decode_side(&m->pp);
    m->info.macs = m->plan->macs;
    for (size_t i = 0; i < m->graph->proto->graph->n_initializer; i++) {
        const Onnx__Tensor *t = m->graph->proto->graph->initializer[i];
        uint64_t k = 1;
        for (size_t d = 0; d < t->n_dims; d++) k *= (uint64_t)t->dims[d];
        m->info.parameters += k;
    }
    *out = m;
    return EMB_OK;
}

emb_status emb_model_open_with(const char *path, const emb_model_options *o, emb_model **out, emb_error *err)
{
    emb_onnx_source from = {.name = path};
    if (path == NULL) {
        from.name = "built-in";
        emb_builtin_bytes(&from.memory, &from.n);
    }
    return open_source(&from, o, out, err);
}

void emb_builtin_bytes(const void **bytes, size_t *n)
{
    *bytes = emb_builtin_onnx;
    *n = (size_t)(emb_builtin_onnx_end - emb_builtin_onnx);
}

emb_status emb_model_open(const char *path, emb_model **out, emb_error *err) { return emb_model_open_with(path, NULL, out, err); }

emb_status emb_model_open_builtin(emb_model **out, emb_error *err) { return emb_model_open_with(NULL, NULL, out, err); }

emb_status emb_model_open_memory(const void *bytes, size_t n, const char *name, const emb_model_options *o, emb_model **out, emb_error *err)
{
    return open_source(&(emb_onnx_source){name, bytes, n}, o, out, err);
}

void emb_model_close(emb_model *m)
{
    if (m == NULL) return;
    emb_plan_free(m->plan);
    emb_graph_free(m->graph);
    free(m->source);
    free(m);
}

const emb_model_info *emb_model_get_info(const emb_model *m) { return &m->info; }

/* ---- run ------------------------------------------------------------------------------------------ */

struct emb_workspace {
    char *arena;
    const void **pointers;
    emb_scratch scratch;
};

emb_status emb_workspace_new(const emb_model *m, emb_workspace **out, emb_error *err)
{
    emb_workspace *ws = calloc(1, sizeof *ws);
    if (ws != NULL) {
        ws->arena = emb_weights_memory(m->plan->arena_bytes);
        ws->pointers = malloc((m->plan->pointers + 1) * sizeof(void *));
    }
    if (ws == NULL || ws->arena == NULL || ws->pointers == NULL) {
        emb_workspace_free(ws);
        return emb_fail(err, EMB_ENOMEM, "no memory for a workspace of %zu bytes", m->plan->arena_bytes);
    }
    memset(ws->arena, 0, m->plan->arena_bytes + EMB_KERNEL_SLACK);
    *out = ws;
    return EMB_OK;
}

void emb_workspace_free(emb_workspace *ws)
{
    if (ws == NULL) return;
    free(ws->arena);
    free(ws->pointers);
    emb_scratch_free(&ws->scratch);
    free(ws);
}

float *emb_workspace_input(const emb_model *m, emb_workspace *ws)
{
    return (float *)(void *)(ws->arena + m->plan->buffers[m->plan->input].offset);
}

emb_status emb_workspace_run(const emb_model *m, emb_workspace *ws, double *timings, const float **out, emb_error *err)
{
    emb_status st = emb_plan_run(m->plan, ws->arena, ws->pointers, timings, err);
    if (st == EMB_OK) *out = (const float *)(const void *)(ws->arena + m->plan->buffers[m->plan->output].offset);
    return st;
}

emb_status emb_embed(const emb_model *m, emb_workspace *ws, emb_view src, const emb_crop *crop, float *out, emb_error *err)
{
    const float *raw;
    emb_status st = emb_preprocess(src, crop, &m->pp, EMB_NHWC, emb_workspace_input(m, ws), &ws->scratch, err);
    if (st == EMB_OK) st = emb_workspace_run(m, ws, NULL, &raw, err);
    if (st != EMB_OK) return st;
    double sum = 0;
    for (uint32_t i = 0; i < m->info.dim; i++) sum += (double)raw[i] * (double)raw[i];
    if (!isfinite(sum) || sum < 1e-24) return emb_fail(err, EMB_EFORMAT, "the model gives no usable embedding for this picture");
    float scale = (float)(1 / sqrt(sum));
    for (uint32_t i = 0; i < m->info.dim; i++) out[i] = raw[i] * scale;
    return EMB_OK;
}
