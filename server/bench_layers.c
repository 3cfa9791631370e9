/* bench_layers.c: what emb_model_time() has measured, as tables or as JSON. */
#include "bench_layers.h"
#include "embed.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const double worst_time = 0.02, worst_share = 0.35; /* more of a model's time, less of what the machine can do */

static bool is_worst(const emb_timings *p, const emb_layer *l)
{
    return l->seconds > worst_time * p->sum && l->share > 0 && l->share < worst_share;
}

/* ---- tables ------------------------------------------------------------------------------------------------- */

static void print_machine(const emb_timings *p)
{
    fputs("peaks   ", stdout);
    for (size_t i = 0; i < p->n_peaks; i++)
        printf("%s %s %s %.0f G%s/s", i > 0 ? "," : "", p->peaks[i].numbers, p->peaks[i].table, p->peaks[i].per_second * 1e-9,
               strcmp(p->peaks[i].numbers, "int8") == 0 ? "OP" : "FLOP");
    fputs("\ntiles   ", stdout);
    for (size_t i = 0; i < p->n_tiles; i++)
        printf("%s %s %u x %u %.0f G/s", i > 0 ? "," : "", p->tiles[i].table, p->tiles[i].pixels, p->tiles[i].channels, p->tiles[i].per_second * 1e-9);
    fputs(" over operands in the first cache\nmemory  ", stdout);
    for (size_t i = 0; i < sizeof p->memory / sizeof *p->memory; i++)
        printf("%s %zu KiB: read %.0f, copy %.0f GB/s", i > 0 ? "," : "", p->memory[i].bytes >> 10, p->memory[i].fetch * 1e-9,
               p->memory[i].copy * 1e-9);
    putchar('\n');
}

static void print_layer(const emb_timings *p, size_t i)
{
    const emb_layer *l = &p->layers[i];
    char shape[64], window[32] = "", rows[16] = "all", kernel[64], share[16] = "";
    snprintf(shape, sizeof shape, "%ux%ux%u > %ux%ux%u", l->ih, l->iw, l->ic, l->oh, l->ow, l->oc);
    if (l->kh > 0)
        snprintf(window, sizeof window, "%ux%u/%u%s", l->kh, l->kw, l->sh, l->groups > 1 && l->groups < l->ic ? "g" : "");
    if (l->rows > 0) snprintf(rows, sizeof rows, "%u", l->rows);
    snprintf(kernel, sizeof kernel, "%s %s", l->kernel, l->table);
    if (l->share > 0) snprintf(share, sizeof share, "%.0f%%%s", l->share * 100, l->by_bandwidth ? "*" : "");
    printf("%-4zu %-22s %-28s %-7s %4s %8.4f %8.4f %6.1f%% %8.1f %7.1f %6s  %-26s %-27s %s\n", i, kernel, shape, window, rows,
           l->seconds * 1e3, l->predicted * 1e3, l->seconds / p->sum * 100, 2e-9 * (double)l->macs / l->seconds,
           1e-9 * (double)l->bytes / l->seconds, share, l->parts, l->reason, l->fused);
}

static void print_layers(const emb_timings *p, bool only_worst)
{
    double part = 0;
    printf("\n%-4s %-22s %-28s %-7s %4s %8s %8s %7s %8s %7s %6s  %-26s %-27s %s\n", "step", "kernel", "in > out", "window",
           "rows", "ms", "model", "time", "GFLOP/s", "GB/s", "share", "model: mostly", "held by", "fused");
    for (size_t i = 0; i < p->n_layers; i++) {
        if (only_worst && !is_worst(p, &p->layers[i])) continue;
        print_layer(p, i);
        part += p->layers[i].seconds;
    }
    if (only_worst)
        printf("%.1f%% of the time is in steps above %.0f%% of it with a share below %.0f%%\n", 100 * part / p->sum,
               worst_time * 100, worst_share * 100);
    fputs("share: of the peak of the multiply-adds in use; *: of what memory gives, for all but convolutions and products\n",
          stdout);
}

static void print(const emb_model_info *info, const emb_timings *p, const srv_layers_opts *o)
{
    double predicted = 0;
    for (size_t i = 0; i < p->n_layers; i++) predicted += p->layers[i].predicted;
    print_machine(p);
    printf("model    %s, %.1f MMACs, %zu steps\n", info->name, (double)info->macs * 1e-6, p->n_layers);
    printf("time     %.3f ms (the fastest of %u runs of one thread), %.1f runs/s, %.1f GFLOP/s; its steps together %.3f ms, by "
           "the cost model %.3f ms\n",
           p->seconds * 1e3, p->runs, 1 / p->seconds, 2e-9 * (double)info->macs / p->seconds, p->sum * 1e3, predicted * 1e3);
    if (o->layers) print_layers(p, false);
    if (o->worst) print_layers(p, true);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------- */

static json_t *layer_json(const emb_timings *p, size_t i)
{
    const emb_layer *l = &p->layers[i];
    json_t *o =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:[iii], s:[iii], s:I, s:I, s:f, s:f, s:f, s:f, s:b, s:f, s:s, s:s, s:b}", "step",
                  (int)i, "node", l->node, "kernel", l->kernel, "table", l->table, "fused", l->fused, "in", (int)l->ih,
                  (int)l->iw, (int)l->ic, "out", (int)l->oh, (int)l->ow, (int)l->oc, "macs", (json_int_t)l->macs, "bytes",
                  (json_int_t)l->bytes, "ms", l->seconds * 1e3, "predicted_ms", l->predicted * 1e3, "gflops",
                  2e-9 * (double)l->macs / l->seconds, "share", l->share, "by_bandwidth", l->by_bandwidth, "time",
                  l->seconds / p->sum, "reason", l->reason, "parts", l->parts, "worst", is_worst(p, l));
    if (o != NULL && l->kh > 0)
        json_object_update_new(o, json_pack("{s:[ii], s:[ii], s:[ii], s:[iiii], s:i, s:i}", "window", (int)l->kh, (int)l->kw,
                                            "stride", (int)l->sh, (int)l->sw, "dilation", (int)l->dh, (int)l->dw, "pads",
                                            (int)l->top, (int)l->left, (int)l->bottom, (int)l->right, "groups", (int)l->groups,
                                            "rows", (int)l->rows));
    return o;
}

static bool print_json(const emb_model_info *info, const emb_timings *p)
{
    json_t *peaks = json_array(), *memory = json_array(), *layers = json_array();
    for (size_t i = 0; i < p->n_peaks; i++)
        json_array_append_new(peaks, json_pack("{s:s, s:s, s:f}", "table", p->peaks[i].table, "numbers", p->peaks[i].numbers,
                                               "gflops", p->peaks[i].per_second * 1e-9));
    for (size_t i = 0; i < sizeof p->memory / sizeof *p->memory; i++)
        json_array_append_new(memory, json_pack("{s:I, s:f, s:f}", "bytes", (json_int_t)p->memory[i].bytes, "read_gbps",
                                                p->memory[i].fetch * 1e-9, "copy_gbps", p->memory[i].copy * 1e-9));
    for (size_t i = 0; i < p->n_layers; i++) json_array_append_new(layers, layer_json(p, i));
    json_t *o = json_pack("{s:s, s:I, s:f, s:f, s:i, s:o, s:o, s:o}", "model", info->name, "macs", (json_int_t)info->macs, "ms",
                          p->seconds * 1e3, "sum_ms", p->sum * 1e3, "runs", (int)p->runs, "peaks", peaks, "memory", memory,
                          "layers", layers);
    bool ok = o != NULL && json_dumpf(o, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 && putchar('\n') != EOF;
    json_decref(o);
    return ok;
}

/* ---- command ------------------------------------------------------------------------------------------------- */

bool srv_bench_model(const srv_model_opts *how, const srv_layers_opts *o, char err[400])
{
    emb_error e = {0};
    emb_model *m = NULL;
    emb_timings *p = NULL;
    emb_status st = srv_model_open(how, &m, &e);
    if (st == EMB_OK) st = emb_model_time(m, (double)o->seconds, &p, &e);
    bool ok = st == EMB_OK;
    if (!ok) snprintf(err, 400, "%s", e.text);
    else if (!o->json) print(emb_model_get_info(m), p, o);
    else if (!(ok = print_json(emb_model_get_info(m), p))) snprintf(err, 400, "cannot write JSON");
    emb_timings_free(p);
    emb_model_close(m);
    return ok;
}
