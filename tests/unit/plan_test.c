/* Plans in every precision say what the general executor says, over networks that use every step and every fusion, in an arena that
 * holds no numbers before. In 8 bits both run the file that the quantiser wrote. Distances are relative to the output's norm. */
#include "../../embed/onnx_build.h"
#include "../executors.h"
#include "../file.h"

#include <dirent.h>

enum { PHOTOS = 4, SIDE = 64 };

static uint8_t pixels[PHOTOS][SIDE * SIDE * 3];
static emb_view views[PHOTOS];

static const struct {
    const char *part; /* of the file's name */
    double f32, f16, bf16, eight;
} bounds[] = {
    {"int8_dynamic", 1e-2, 5e-2, 5e-2, 0}, /* quantised already: a number on the edge of two steps falls to either side; here all of them move */
    {"int8", 1e-2, 2e-2, 2e-2, 0},
    {"", 1e-4, 2e-3, 1e-2, 1e-2},
};

static void draw(void)
{
    uint64_t seed = 11;
    for (int p = 0; p < PHOTOS; p++) {
        float a = 0.2f + 0.1f * (float)p, b = test_randf(&seed);
        for (int i = 0; i < SIDE * SIDE * 3; i++) {
            float v = 128 + 70 * sinf((float)(i / 3 % SIDE) * a + b * (float)(i % 3)) + 40 * cosf((float)(i / 3 / SIDE) * b) + 15 * test_randf(&seed);
            pixels[p][i] = (uint8_t)v;
        }
        views[p] = (emb_view){.px = pixels[p], .width = SIDE, .height = SIDE, .stride_bytes = SIDE * 3};
    }
}

/* ---- what plans are made of --------------------------------------------------------------------------- */

typedef struct {
    bool kind[EMB_STEP_GENERAL + 1], clamp, act, residual, summed, gate, grouped, dilated, merged, in_place, chain, chain_adds, thin, thin_strided, upright;
} seen;

static void look(const emb_plan *p, seen *k, bool eight)
{
    for (size_t i = 0; i < p->n_steps; i++) {
        const emb_step *s = &p->steps[i];
        bool conv = s->kind == EMB_STEP_CONV || s->kind == EMB_STEP_WINOGRAD || s->kind == EMB_STEP_DEPTHWISE;
        k->chain = k->chain || s->chain > 1;
        for (uint32_t j = 2; j < s->chain; j++) k->chain_adds = k->chain_adds || s[j].residual == s[j - 2].out;
        if (eight && s->q8 == NULL) continue;
        k->kind[s->kind] = true;
        k->clamp = k->clamp || (conv && strstr(s->fused, "Relu") != NULL) || (conv && strstr(s->fused, "Clip") != NULL);
        k->act = k->act || (conv && s->act != EMB_ACT_NONE);
        k->residual = k->residual || (s->residual >= 0 && s->residual != s->out);
        k->summed = k->summed || (s->residual >= 0 && s->residual == s->out);
        k->gate = k->gate || s->gate >= 0;
        k->grouped = k->grouped || (s->kind == EMB_STEP_CONV && s->w.group > 1);
        k->dilated = k->dilated || (conv && s->w.dw > 1);
        k->merged = k->merged || s->merged;
        k->upright = k->upright || s->upright;
        const bool thin = s->kind == EMB_STEP_CONV && s->q8 == NULL && s->t.tile == p->k->thin;
        k->thin = k->thin || thin;
        k->thin_strided = k->thin_strided || (thin && s->w.sw > 1);
        k->in_place = k->in_place || (conv && s->y_pixel != s->oc);
    }
}

static void check_seen(const char *what, const seen *k, bool winograd, bool eight)
{
    static const emb_step_kind floats[] = {EMB_STEP_CONV, EMB_STEP_DEPTHWISE, EMB_STEP_MAX_POOL, EMB_STEP_AVG_POOL, EMB_STEP_GLOBAL_MEAN, EMB_STEP_AFFINE,
                                           EMB_STEP_GATE, EMB_STEP_ACT, EMB_STEP_CONCAT, EMB_STEP_GENERAL},
                               bytes[] = {EMB_STEP_CONV, EMB_STEP_DEPTHWISE, EMB_STEP_MAX_POOL, EMB_STEP_AVG_POOL, EMB_STEP_GLOBAL_MEAN, EMB_STEP_ADD, EMB_STEP_GATE,
                                          EMB_STEP_CONCAT, EMB_STEP_QUANTIZE, EMB_STEP_LOOKUP};
    for (size_t i = 0; i < 10; i++) {
        emb_step_kind kind = eight ? bytes[i] : floats[i];
        test_checks++;
        if (!k->kind[kind]) TEST_FAIL("%s: no network has a step %s", what, emb_step_name(kind));
    }
    const bool no_thin = !winograd || emb_kernels_get()->thin == NULL;
    const struct {
        const char *name;
        bool there;
    } fusions[] = {{"a clamp", k->clamp},     {"an activation", k->act},  {"a residual that is read again", k->residual}, {"a sum in place", k->summed}, {"gated weights", k->gate || eight}, {"groups", k->grouped},
                   {"dilation", k->dilated}, {"merged taps", k->merged}, {"a concat in place", k->in_place}, {"a chain", k->chain || eight}, {"a chain that adds what lies in it", k->chain_adds || eight},  {"Winograd", k->kind[EMB_STEP_WINOGRAD] || !winograd},
                   {"few channels of pixels that lie evenly", k->thin || no_thin}, {"the same with a stride", k->thin_strided || no_thin},
                   {"taps that stand upright", k->upright || !eight || !emb_kernels_q8_get()->strided}};
    for (size_t i = 0; i < sizeof fusions / sizeof *fusions; i++) {
        test_checks++;
        if (!fusions[i].there) TEST_FAIL("%s: no network has %s", what, fusions[i].name);
    }
}

/* ---- one network ----------------------------------------------------------------------------------------- */

static seen floats, halves, brains, bytes;
static double worst[EMB_BF16 + 1]; /* by type; EMB_U8: in 8 bits */

static void check(const char *name, emb_graph *g, const emb_kernels *k, const float *picture, const float *want, double bound, bool eight, seen *all)
{
    bool bytes_stay = emb_graph_quantised(g);
    emb_plan *p = NULL;
    emb_error err = {0};
    size_t n = (size_t)emb_elements(&g->values[g->outputs[0]].type);
    float *got = malloc(n * sizeof *got);
    REQUIRE(got != NULL);
    emb_status st = emb_plan_new(g, k, (emb_plan_options){.quantised = bytes_stay && k->type == EMB_F32}, &p, &err);
    if (st == EMB_OK) st = executors_plan(p, picture, got, &err);
    test_checks++;
    if (st != EMB_OK) {
        TEST_FAIL("%s: %s", name, err.text);
    } else {
        double d = executors_distance(got, want, n);
        emb_dtype type = eight ? EMB_U8 : (emb_dtype)k->type;
        worst[type] = fmax(worst[type], d);
        if (!(d <= bound)) TEST_FAIL("%s%s, %s: the plan is off by %.3g, bound %.3g", name, eight ? " in 8 bits" : "", k->name, d, bound);
        look(p, all, eight);
        if (!eight && k == emb_kernels_get()) look(p, &bytes, true);
    }
    emb_plan_free(p);
    free(got);
}

static emb_graph *load(const char *name, const void *b, size_t n)
{
    emb_graph *g = NULL;
    emb_error err = {0};
    emb_status st = emb_graph_load(&(emb_onnx_source){name, b, n}, NULL, 0, &g, &err);
    if (st == EMB_OK) st = emb_graph_choose(g, "-", &err);
    if (st != EMB_OK) TEST_FAIL("%s", err.text);
    REQUIRE(st == EMB_OK);
    return g;
}

/* The graph of the file as it is, and what the general executor makes of the first photo. */
static emb_graph *open_graph(const char *name, const void *b, size_t n, float **picture, float **want)
{
    emb_graph *g = load(name, b, n);
    emb_error err = {0};
    emb_preproc pp;
    emb_scratch scratch = {0};
    REQUIRE(emb_graph_settle(g, NULL, &err) == EMB_OK);
    const emb_type *t = &g->values[g->inputs[0]].type;
    bool last = t->dims[1] != 3;
    REQUIRE(emb_preproc_read(g, (uint32_t)t->dims[last ? 2 : 3], (uint32_t)t->dims[last ? 1 : 2], &pp, &err) == EMB_OK);
    *picture = malloc(emb_type_bytes(t) + 64);
    *want = malloc(emb_type_bytes(&g->values[g->outputs[0]].type));
    REQUIRE(*picture != NULL && *want != NULL);
    REQUIRE(emb_preprocess(views[0], NULL, &pp, EMB_NHWC, *picture, &scratch, &err) == EMB_OK);
    REQUIRE(executors_general(g, *picture, *want, NULL, &err) == EMB_OK);
    emb_scratch_free(&scratch);
    emb_graph_free(g);
    return load(name, b, n);
}

/* The floats of weights that a plan in 8 bits reads as they are need not exist. */
static size_t floats_made(const emb_graph *g)
{
    size_t made = 0;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const emb_node *n = &g->nodes[i];
        if (strcmp(n->op->name, "Conv") != 0 && strcmp(n->op->name, "Gemm") != 0) continue;
        const emb_value *w = &g->values[n->in[1]];
        made += !n->folded && w->producer >= 0 && w->data != NULL && emb_elements(&w->type) > 4096;
    }
    return made;
}

static void test_network(const char *name, const void *b, size_t n)
{
    size_t i = 0;
    while (strstr(name, bounds[i].part) == NULL) i++;
    float *picture, *want;
    emb_graph *g = open_graph(name, b, n, &picture, &want);
    const struct {
        const emb_kernels *k;
        double bound;
        seen *all;
    } tables[] = {{emb_kernels_get(), bounds[i].f32, &floats}, {&emb_kernels_ref, bounds[i].f32, &floats},
                  {emb_kernels_f16_get(), bounds[i].f16, &halves}, {&emb_kernels_f16_ref, bounds[i].f16, &halves},
                  {emb_kernels_bf16_get(), bounds[i].bf16, &brains}, {&emb_kernels_bf16_ref, bounds[i].bf16, &brains}};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        if (tables[t].k != NULL) check(name, g, tables[t].k, picture, want, tables[t].bound, false, tables[t].all);
    emb_graph_free(g);
    free(picture);
    free(want);
    emb_quantize_opts opts = {0};
    void *eight = NULL;
    size_t n_eight = 0;
    emb_error err = {0};
    emb_status st = emb_model_quantize(b, n, name, views, PHOTOS, &opts, &eight, &n_eight, &err);
    CHECK(st == EMB_OK || (bounds[i].eight == 0 && st == EMB_EUNSUPPORTED)); /* once is enough */
    if (st != EMB_OK) return;
    g = open_graph(name, eight, n_eight, &picture, &want);
    CHECK(floats_made(g) == 0);
    check(name, g, emb_kernels_get(), picture, want, bounds[i].eight, true, &bytes);
    CHECK(floats_made(g) == 0);
    emb_graph_free(g);
    free(picture);
    free(want);
    free(eight);
}

/* ---- zero points that are left out ----------------------------------------------------------------------- */

static bool all_zero(const Onnx__Graph *g, const char *name)
{
    for (size_t i = 0; i < g->n_initializer; i++) {
        const Onnx__Tensor *t = g->initializer[i];
        if (strcmp(t->name, name) != 0) continue;
        bool zero = t->data_type == EMB_I8;
        for (size_t k = 0; zero && k < t->raw_data.len; k++) zero = t->raw_data.data[k] == 0;
        for (size_t k = 0; zero && k < t->n_int32_data; k++) zero = t->int32_data[k] == 0;
        return zero;
    }
    return false;
}

/* The zero point of int8 is 0 where the file says nothing, of weights and of activations. */
static void test_left_out(const char *name, const void *b, size_t n)
{
    Onnx__Model *m = onnx__model__unpack(NULL, n, b);
    REQUIRE(m != NULL);
    unsigned weights = 0, activations = 0;
    for (size_t i = 0; i < m->graph->n_node; i++) {
        Onnx__Node *k = m->graph->node[i];
        if (strcmp(k->op_type, "DequantizeLinear") != 0 || k->n_input != 3 || !all_zero(m->graph, k->input[2])) continue;
        free(k->input[--k->n_input]);
        if (k->n_attribute > 0) weights++;
        else activations++;
    }
    CHECK(weights > 0 && activations > 0);
    size_t size = onnx__model__get_packed_size(m);
    uint8_t *bytes_of = malloc(size);
    REQUIRE(bytes_of != NULL && onnx__model__pack(m, bytes_of) == size);
    onnx__model__free_unpacked(m, NULL);
    test_network(name, bytes_of, size);
    free(bytes_of);
}

/* ---- sums and activations that no convolution takes in -------------------------------------------------- */

static void conv_of(emb_build *b, int64_t side, const char *from, const char *to, int64_t oc, int64_t ic, int64_t groups)
{
    static uint64_t seed = 3;
    const char *w = emb_build_text(b, "%s:w", to);
    float weights[40 * 4 * 49];
    int64_t sum = ic / groups * side * side, n = oc * sum, pad = side / 2;
    for (int64_t i = 0; i < n; i++) weights[i] = test_randf(&seed) * 1.7f / sqrtf((float)sum);
    emb_build_tensor(b, w, &(emb_type){EMB_F32, 4, {oc, ic / groups, side, side}}, weights);
    emb_build_node(b, "Conv", to, (const char *const[]){from, w}, 2, &to, 1);
    emb_build_ints(b, "pads", (const int64_t[]){pad, pad, pad, pad}, 4);
    emb_build_attribute(b, "group", groups);
}

static void conv(emb_build *b, const char *from, const char *to, int64_t oc, int64_t ic, int64_t groups) { conv_of(b, 3, from, to, oc, ic, groups); }

static void node(emb_build *b, const char *op, const char *x, const char *y, const char *to)
{
    emb_build_node(b, op, to, (const char *const[]){x, y}, y != NULL ? 2 : 1, &to, 1);
}

static void pool(emb_build *b, const char *op, const char *x, const char *to)
{
    node(b, op, x, NULL, to);
    emb_build_ints(b, "kernel_shape", (const int64_t[]){3, 3}, 2);
    emb_build_ints(b, "pads", (const int64_t[]){1, 1, 1, 1}, 4);
}

static Onnx__Graph graph = ONNX__GRAPH__INIT;
static const Onnx__Model like = {PROTOBUF_C_MESSAGE_INIT(&onnx__model__descriptor), .graph = &graph};

static emb_build *build(int64_t height, int64_t width)
{
    emb_build *b = emb_build_new(&like, 13);
    REQUIRE(b != NULL);
    emb_build_input(b, "image", &(emb_type){EMB_F32, 4, {1, 3, height, width}});
    return b;
}

/* The mean of `from` ends the network. */
static void finish(emb_build *b, const char *name, const char *from, int64_t channels)
{
    void *bytes_of = NULL;
    size_t n = 0;
    emb_error err = {0};
    node(b, "GlobalAveragePool", from, NULL, "mean");
    node(b, "Flatten", "mean", NULL, "out");
    emb_build_output(b, "out", &(emb_type){EMB_F32, 2, {1, channels}});
    REQUIRE(emb_build_pack(b, &bytes_of, &n, &err) == EMB_OK);
    emb_build_free(b);
    test_network(name, bytes_of, n);
    free(bytes_of);
}

static void test_sums(void)
{
    emb_build *b = build(30, 22);
    conv(b, "image", "a", 24, 3, 1);
    node(b, "Relu", "a", NULL, "ra");
    conv(b, "ra", "b", 24, 24, 1);
    pool(b, "MaxPool", "ra", "pa");
    pool(b, "AveragePool", "b", "pb");
    node(b, "Add", "pa", "pb", "sum");
    node(b, "Sigmoid", "sum", NULL, "sig");
    emb_build_node(b, "Concat", "all", (const char *const[]){"sig", "b", "sum"}, 3, (const char *const[]){"all"}, 1);
    emb_build_attribute(b, "axis", 1);
    conv(b, "all", "c", 16, 72, 4);
    finish(b, "sums", "c", 16);
}

/* Residuals that nobody reads again: of a depthwise convolution, of one that lies further on, of one whose picture they are. */
static void test_residuals(void)
{
    emb_build *b = build(26, 30);
    conv(b, "image", "a", 21, 3, 1);
    node(b, "Relu", "a", NULL, "ra");
    conv(b, "ra", "own", 21, 21, 1);
    conv(b, "own", "b", 21, 21, 21);
    node(b, "Add", "b", "ra", "sum");
    conv(b, "sum", "c", 21, 21, 1);
    conv(b, "c", "d", 21, 21, 1);
    node(b, "Add", "sum", "d", "sum2");
    conv(b, "sum2", "e", 21, 21, 1);
    node(b, "Add", "e", "sum2", "sum3");
    finish(b, "residuals", "sum3", 21);
}

/* Few channels all the way, and pictures so large that their rows are gone when the next convolution has made its own. */
static void test_thin(void)
{
    emb_build *b = build(211, 157);
    conv(b, "image", "a", 6, 3, 1);
    node(b, "Relu", "a", NULL, "ra");
    conv(b, "ra", "b", 8, 6, 1);
    node(b, "Relu", "b", NULL, "rb");
    conv(b, "rb", "c", 7, 8, 1);
    pool(b, "MaxPool", "c", "p");
    conv(b, "p", "d", 5, 7, 1);
    finish(b, "thin", "d", 5);
}

/* Few channels with strides, dilation, groups, a residual and an activation, copied with their padding in more than one part. */
static void test_thin_windows(void)
{
    emb_build *b = build(211, 157);
    conv(b, "image", "a", 4, 3, 1);
    emb_build_ints(b, "strides", (const int64_t[]){2, 2}, 2);
    node(b, "HardSwish", "a", NULL, "ha");
    conv(b, "ha", "b", 4, 4, 1);
    node(b, "Add", "b", "ha", "sum");
    conv(b, "sum", "c", 8, 4, 2);
    emb_build_ints(b, "dilations", (const int64_t[]){2, 2}, 2);
    pool(b, "MaxPool", "c", "p");
    conv(b, "p", "d", 3, 8, 1);
    emb_build_ints(b, "strides", (const int64_t[]){1, 3}, 2);
    node(b, "Relu", "d", NULL, "rd");
    conv(b, "rd", "e", 16, 3, 1);
    finish(b, "thin windows", "e", 16);
}

/* Windows of few channels whose pixels kernels for 8 bits want below each other, with strides, dilation and padding on all sides. */
static void test_upright(void)
{
    emb_build *b = build(211, 157);
    conv_of(b, 7, "image", "a", 40, 3, 1);
    emb_build_ints(b, "strides", (const int64_t[]){2, 2}, 2);
    node(b, "Relu", "a", NULL, "ra");
    conv(b, "ra", "b", 4, 40, 1);
    conv_of(b, 5, "b", "c", 40, 4, 1);
    emb_build_ints(b, "strides", (const int64_t[]){3, 2}, 2);
    emb_build_ints(b, "dilations", (const int64_t[]){2, 1}, 2);
    conv_of(b, 1, "c", "d", 3, 40, 1);
    conv_of(b, 7, "d", "e", 40, 3, 1);
    finish(b, "upright", "e", 40);
}

/* What rounding costs: a 3 x 3 of 24 channels by tiles of `side`, beside the sums as they are defined. */
static void test_rounding(int64_t height, int64_t width, uint32_t side)
{
    emb_build *b = build(height, width);
    conv(b, "image", "a", 24, 3, 1);
    conv(b, "a", "b", 24, 24, 1);
    node(b, "Flatten", "b", NULL, "out");
    emb_build_output(b, "out", &(emb_type){EMB_F32, 2, {1, 24 * height * width}});
    void *bytes_of = NULL;
    size_t n = 0;
    emb_error err = {0};
    REQUIRE(emb_build_pack(b, &bytes_of, &n, &err) == EMB_OK);
    emb_build_free(b);
    float *picture, *want, *got = malloc((size_t)(24 * height * width) * sizeof *got);
    emb_graph *g = open_graph("rounding", bytes_of, n, &picture, &want);
    emb_plan *p = NULL;
    REQUIRE(got != NULL && emb_plan_new(g, emb_kernels_get(), (emb_plan_options){0}, &p, &err) == EMB_OK);
    uint32_t seen_side = 0;
    for (size_t i = 0; i < p->n_steps; i++)
        if (p->steps[i].kind == EMB_STEP_WINOGRAD) seen_side = p->steps[i].side;
    CHECK(seen_side == side);
    REQUIRE(executors_plan(p, picture, got, &err) == EMB_OK);
    printf("Winograd, tiles of %u: off by %.2g of the norm\n", side, executors_distance(got, want, (size_t)(24 * height * width)));
    CHECK_NEAR(executors_distance(got, want, (size_t)(24 * height * width)), 0, 2e-7);
    emb_plan_free(p);
    emb_graph_free(g);
    free(bytes_of);
    free(picture);
    free(want);
    free(got);
}

int main(void)
{
    const char *cpu = getenv("EMB_CPU");
    if (cpu != NULL && strncmp(cpu, emb_kernels_get()->name, strlen(cpu)) != 0 && strncmp(cpu, emb_kernels_q8_get()->name, strlen(cpu)) != 0) {
        printf("SKIP: this processor has no %s\n", cpu);
        return TEST_SKIP;
    }
    char path[600];
    struct dirent **names = NULL;
    snprintf(path, sizeof path, "%s/onnx", TEST_DATA);
    int n_names = scandir(path, &names, NULL, alphasort);
    REQUIRE(n_names > 0);
    draw();
    for (int i = 0; i < n_names; i++) {
        void *b = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/onnx/%s", TEST_DATA, names[i]->d_name);
        if (strstr(names[i]->d_name, ".onnx") != NULL) {
            REQUIRE((b = test_file(path, &n)) != NULL);
            test_network(names[i]->d_name, b, n);
            if (strcmp(names[i]->d_name, "int8_signed.onnx") == 0) test_left_out("int8_signed without zero points", b, n);
        }
        free(b);
        free(names[i]);
    }
    free(names);
    test_sums();
    test_residuals();
    test_thin();
    test_thin_windows();
    test_upright();
    test_rounding(16, 16, 6);
    test_rounding(15, 15, 5);
    test_rounding(2, 340, 4);
    check_seen("float32", &floats, true, false);
    check_seen("float16", &halves, false, false);
    check_seen("bfloat16", &brains, false, false);
    check_seen("8 bits", &bytes, false, true);
    printf("the furthest: float32 %.2g, float16 %.2g, bfloat16 %.2g, 8 bits %.2g of the output's norm\n", worst[EMB_F32], worst[EMB_F16], worst[EMB_BF16], worst[EMB_U8]);
    return test_end();
}
