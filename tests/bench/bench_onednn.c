/* bench_onednn.c: the convolutions of a network by oneDNN 2, one thread.
 *   OMP_NUM_THREADS=1 bench_onednn fp32|int8 SECONDS [fused] < LAYERS
 * A line of LAYERS: ih iw ic oh ow oc kh kw sh sw dh dw top left bottom right groups +NAME+NAME; what follows a convolution (a
 * residual that is added, an activation) is part of it where `fused` is said, otherwise left out. Every pass runs all layers one
 * behind the other, each on what the one before has left in the caches, as in a network; prints for each the fastest pass in
 * milliseconds and the implementation: directly, and by Winograd where that is there (fp32). oneDNN chooses the layouts, and
 * bringing tensors into them is not part of it. int8: u8 x s8 -> u8 with a scale for each channel. */
#include <oneapi/dnnl/dnnl.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_LAYERS = 1024, WAYS = 2 };

typedef struct {
    int64_t ih, iw, ic, oh, ow, oc, kh, kw, sh, sw, dh, dw, top, left, bottom, right, groups;
    char fused[64];
} shape;

typedef struct {
    dnnl_primitive_t run; /* NULL: there is no such implementation */
    dnnl_exec_arg_t args[4];
    char name[64];
    double best;
} way;

static dnnl_engine_t engine;
static dnnl_stream_t stream;
static shape shapes[MAX_LAYERS];
static way ways[MAX_LAYERS][WAYS];
static void *pictures[2]; /* every layer reads one and writes the other */
static size_t picture_bytes;

static void check(dnnl_status_t st, const char *what)
{
    if (st == dnnl_success) return;
    fprintf(stderr, "bench_onednn: %s: status %d\n", what, (int)st);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static dnnl_memory_desc_t any(int n, const dnnl_dims_t dims, dnnl_data_type_t type)
{
    dnnl_memory_desc_t d;
    check(dnnl_memory_desc_init_by_tag(&d, n, dims, type, n == 1 ? dnnl_a : dnnl_format_tag_any), "description");
    return d;
}

static void add_fused(dnnl_primitive_attr_t attr, const char *fused)
{
    static const struct {
        const char *name;
        dnnl_alg_kind_t how;
        float alpha, beta;
    } known[] = {{"Relu", dnnl_eltwise_relu, 0, 0},           {"Clip", dnnl_eltwise_clip, 0, 6},
                 {"HardSwish", dnnl_eltwise_hardswish, 0, 0}, {"HardSigmoid", dnnl_eltwise_clip, 0, 1},
                 {"Swish", dnnl_eltwise_swish, 1, 0},         {"Sigmoid", dnnl_eltwise_logistic, 0, 0}};
    dnnl_post_ops_t ops;
    check(dnnl_post_ops_create(&ops), "post-ops");
    if (strstr(fused, "+Add") != NULL) check(dnnl_post_ops_append_sum(ops, 1), "sum");
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const char *last = strrchr(fused, '+');
        if (last != NULL && strcmp(last + 1, known[i].name) == 0)
            check(dnnl_post_ops_append_eltwise(ops, 1, known[i].how, known[i].alpha, known[i].beta), "activation");
    }
    check(dnnl_primitive_attr_set_post_ops(attr, ops), "post-ops");
    dnnl_post_ops_destroy(ops);
}

static dnnl_primitive_desc_t describe(const shape *s, bool int8, bool fused, dnnl_alg_kind_t how)
{
    bool grouped = s->groups > 1;
    dnnl_dims_t x = {1, s->ic, s->ih, s->iw}, y = {1, s->oc, s->oh, s->ow}, b = {s->oc};
    dnnl_dims_t w = {s->oc, s->ic, s->kh, s->kw}, gw = {s->groups, s->oc / s->groups, s->ic / s->groups, s->kh, s->kw};
    dnnl_dims_t stride = {s->sh, s->sw}, dilation = {s->dh - 1, s->dw - 1}, before = {s->top, s->left},
                behind = {s->bottom, s->right};
    dnnl_memory_desc_t dx = any(4, x, int8 ? dnnl_u8 : dnnl_f32), dy = any(4, y, int8 ? dnnl_u8 : dnnl_f32);
    dnnl_memory_desc_t dw = grouped ? any(5, gw, int8 ? dnnl_s8 : dnnl_f32) : any(4, w, int8 ? dnnl_s8 : dnnl_f32);
    dnnl_memory_desc_t db = any(1, b, int8 ? dnnl_s32 : dnnl_f32);
    dnnl_convolution_desc_t c;
    dnnl_primitive_attr_t attr;
    dnnl_primitive_desc_t pd = NULL;
    check(dnnl_dilated_convolution_forward_desc_init(&c, dnnl_forward_inference, how, &dx, &dw, &db, &dy, stride, dilation,
                                                     before, behind),
          "convolution");
    check(dnnl_primitive_attr_create(&attr), "attributes");
    if (int8) {
        float *scales = malloc((size_t)s->oc * sizeof *scales);
        if (scales == NULL) exit(1);
        for (int64_t i = 0; i < s->oc; i++) scales[i] = 1e-3f * (float)(i % 7 + 1);
        check(dnnl_primitive_attr_set_output_scales(attr, s->oc, 1 << 1, scales), "scales");
        free(scales);
    }
    if (fused) add_fused(attr, s->fused);
    if (dnnl_primitive_desc_create(&pd, &c, attr, engine, NULL) != dnnl_success) pd = NULL;
    dnnl_primitive_attr_destroy(attr);
    return pd;
}

static dnnl_memory_t memory(const_dnnl_primitive_desc_t pd, dnnl_query_t what, int index, void *at)
{
    const dnnl_memory_desc_t *d = dnnl_primitive_desc_query_md(pd, what, index);
    size_t bytes = dnnl_memory_desc_get_size(d);
    dnnl_memory_t m;
    if (at != NULL && bytes > picture_bytes) {
        fprintf(stderr, "bench_onednn: a picture of %zu bytes\n", bytes);
        exit(1);
    }
    if (at == NULL) { /* weights: small whole numbers, as bytes; small floats otherwise */
        at = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
        if (at == NULL) exit(1);
        for (size_t i = 0; i < bytes / 4; i++)
            if (d->data_type == dnnl_f32) ((float *)at)[i] = (float)((int)(i % 13) - 6) / 64;
        if (d->data_type != dnnl_f32) memset(at, 1, bytes);
    }
    check(dnnl_memory_create(&m, d, engine, at), "memory");
    return m;
}

static void prepare(size_t i, int way_number, bool int8, bool fused)
{
    way *v = &ways[i][way_number];
    dnnl_primitive_desc_t pd =
        describe(&shapes[i], int8, fused, way_number == 0 ? dnnl_convolution_direct : dnnl_convolution_winograd);
    const char *name = "";
    v->best = INFINITY;
    if (pd == NULL) return;
    check(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, &name), "name");
    snprintf(v->name, sizeof v->name, "%s", name);
    check(dnnl_primitive_create(&v->run, pd), "primitive");
    v->args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, memory(pd, dnnl_query_src_md, 0, pictures[i % 2])};
    v->args[1] = (dnnl_exec_arg_t){DNNL_ARG_WEIGHTS, memory(pd, dnnl_query_weights_md, 0, NULL)};
    v->args[2] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, memory(pd, dnnl_query_weights_md, 1, NULL)};
    v->args[3] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory(pd, dnnl_query_dst_md, 0, pictures[(i + 1) % 2])};
    dnnl_primitive_desc_destroy(pd);
}

int main(int argc, char **argv)
{
    size_t n = 0;
    char line[512];
    if (argc < 3 || (strcmp(argv[1], "fp32") != 0 && strcmp(argv[1], "int8") != 0)) {
        fputs("usage: bench_onednn fp32|int8 SECONDS [fused] < LAYERS\n", stderr);
        return 2;
    }
    bool int8 = strcmp(argv[1], "int8") == 0, fused = argc > 3 && strcmp(argv[3], "fused") == 0;
    while (n < MAX_LAYERS && fgets(line, sizeof line, stdin) != NULL) {
        shape *s = &shapes[n];
        int64_t *f = &s->ih;
        char *at = line;
        for (int i = 0; i < 17; i++) f[i] = strtoll(at, &at, 10);
        (void)sscanf(at, "%63s", s->fused);
        if (s->groups < 1 || s->ic < 1 || s->oc < 1) {
            fprintf(stderr, "bench_onednn: line %zu is no layer: %s", n + 1, line);
            return 2;
        }
        size_t in = (size_t)(s->ih * s->iw * (s->ic + 63)),
               out = (size_t)(s->oh * s->ow * (s->oc + 63)); /* blocked layouts pad channels */
        if (in * 4 > picture_bytes) picture_bytes = in * 4;
        if (out * 4 > picture_bytes) picture_bytes = out * 4;
        n++;
    }
    check(dnnl_engine_create(&engine, dnnl_cpu, 0), "engine");
    check(dnnl_stream_create(&stream, engine, dnnl_stream_default_flags), "stream");
    for (int i = 0; i < 2; i++) {
        pictures[i] = aligned_alloc(4096, (picture_bytes + 4095) / 4096 * 4096);
        if (pictures[i] == NULL) return 1;
        memset(pictures[i], 0, picture_bytes);
    }
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < (int8 ? 1 : WAYS); k++) prepare(i, k, int8, fused);
    double start = now(), seconds = atof(argv[2]);
    for (int pass = 0; pass < 6 || now() - start < seconds; pass++)
        for (size_t i = 0; i < n; i++) {
            way *v = &ways[i][pass % 2];
            if (v->run == NULL) v = &ways[i][0];
            double t = now();
            check(dnnl_primitive_execute(v->run, stream, 4, v->args), "run");
            check(dnnl_stream_wait(stream), "wait");
            t = now() - t;
            if (pass > 1 && t < v->best) v->best = t;
        }
    for (size_t i = 0; i < n; i++) {
        printf("%.5f %s", ways[i][0].best * 1e3, ways[i][0].name);
        if (ways[i][1].run != NULL) printf(" %.5f %s", ways[i][1].best * 1e3, ways[i][1].name);
        putchar('\n');
    }
    return 0;
}
