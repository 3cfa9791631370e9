/* Networks of every common shape in 8 bits: the file is written, opens again, and its embeddings stay close to those of the
 * float model; and what cannot be quantised is refused with a sentence. */
#include "../../embed/model.h"
#include "file.h"
#include "test.h"

enum { PHOTOS = 24, SIDE = 96 };

static uint8_t pixels[PHOTOS][SIDE * SIDE * 3];
static emb_view views[PHOTOS];

/* Waves of some colours, and noise. */
static void draw(void)
{
    uint64_t seed = 5;
    for (int p = 0; p < PHOTOS; p++) {
        float f[3][4];
        for (int c = 0; c < 3; c++)
            for (int k = 0; k < 4; k++) f[c][k] = test_randf(&seed);
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++)
                for (int c = 0; c < 3; c++) {
                    float v = 128 + 100 * f[c][0] + 60 * sinf((float)x * f[c][1] / 3 + (float)y * f[c][2] / 3 + 6 * f[c][3]) + 20 * test_randf(&seed);
                    pixels[p][(y * SIDE + x) * 3 + c] = (uint8_t)fminf(255, fmaxf(0, v));
                }
        views[p] = (emb_view){.px = pixels[p], .width = SIDE, .height = SIDE, .stride_bytes = SIDE * 3};
    }
}

static void *slurp(const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/onnx/%s.onnx", TEST_DATA, name);
    void *b = test_file(path, n);
    REQUIRE(b != NULL);
    return b;
}

static void embed_all(const emb_model *m, float *rows)
{
    emb_workspace *ws = NULL;
    emb_error err = {0};
    REQUIRE(emb_workspace_new(m, &ws, &err) == EMB_OK);
    for (int p = 0; p < PHOTOS; p++)
        if (emb_embed(m, ws, views[p], NULL, rows + (size_t)p * m->info.dim, &err) != EMB_OK) TEST_FAIL("%s", err.text);
    emb_workspace_free(ws);
}

static size_t count_op(const emb_model *m, const char *op)
{
    size_t n = 0;
    for (size_t i = 0; i < m->graph->n_nodes; i++) n += strcmp(m->graph->nodes[i].op->name, op) == 0;
    return n;
}

/* The mean cosine between the embeddings of the two models over all pictures. */
static double cosine(const emb_model *a, const emb_model *b)
{
    uint32_t d = a->info.dim;
    float *x = calloc((size_t)PHOTOS * d, sizeof *x), *y = calloc((size_t)PHOTOS * d, sizeof *y);
    double sum = 0;
    REQUIRE(x != NULL && y != NULL);
    embed_all(a, x);
    embed_all(b, y);
    for (size_t i = 0; i < (size_t)PHOTOS * d; i++) sum += (double)x[i] * (double)y[i];
    free(x);
    free(y);
    return sum / PHOTOS;
}

static void test_network(const char *name, double percentile)
{
    size_t n, n_onnx = 0;
    void *bytes = slurp(name, &n), *onnx = NULL;
    emb_error err = {0};
    emb_model *a = NULL, *b = NULL;
    emb_quantize_opts opts = {.percentile = percentile};
    emb_status st = emb_model_quantize(bytes, n, name, views, PHOTOS, &opts, &onnx, &n_onnx, &err);
    if (st == EMB_OK) st = emb_model_open_memory(bytes, n, name, NULL, &a, &err);
    if (st == EMB_OK) st = emb_model_open_memory(onnx, n_onnx, name, NULL, &b, &err);
    if (st != EMB_OK) TEST_FAIL("%s: %s", name, err.text);
    REQUIRE(st == EMB_OK && a->info.dim == b->info.dim);
    CHECK(count_op(b, "QuantizeLinear") > 0);
    CHECK_INT(count_op(b, "Conv"), count_op(a, "Conv"));
    CHECK(b->graph->opset >= 13);
    double c = cosine(a, b);
    test_checks++;
    if (!(c > 0.997)) TEST_FAIL("%s: cosine %.5f", name, c);
    /* once is enough */
    CHECK_INT(emb_model_quantize(onnx, n_onnx, name, views, PHOTOS, &opts, &bytes, &n, &err), EMB_EUNSUPPORTED);
    emb_model_close(a);
    emb_model_close(b);
    free(bytes);
    free(onnx);
}

/* A node that is kept stays float, and so do its weights. */
static void test_keep(void)
{
    size_t n, n_onnx = 0;
    void *onnx = NULL;
    emb_error err = {0};
    emb_model *a = NULL, *b = NULL;
    void *bytes = slurp("residual", &n);
    REQUIRE(emb_model_open_memory(bytes, n, "a", NULL, &a, &err) == EMB_OK);
    const char *keep = NULL;
    for (size_t i = 0; keep == NULL; i++)
        if (strcmp(a->graph->nodes[i].op->name, "Conv") == 0) keep = a->graph->values[a->graph->nodes[i].out[0]].name;
    emb_quantize_opts opts = {.keep = &keep, .n_keep = 1};
    REQUIRE(emb_model_quantize(bytes, n, "a", views, PHOTOS, &opts, &onnx, &n_onnx, &err) == EMB_OK);
    REQUIRE(emb_model_open_memory(onnx, n_onnx, "b", NULL, &b, &err) == EMB_OK);
    bool first = true; /* the input of the first convolution is the picture itself, that of the others is made of 8 bits */
    for (size_t i = 0; i < b->graph->n_nodes; i++) {
        const emb_node *k = &b->graph->nodes[i];
        if (strcmp(k->op->name, "Conv") != 0) continue;
        int32_t by = b->graph->values[k->in[0]].producer;
        CHECK(first ? k->in[0] == b->graph->inputs[0] : by >= 0 && strcmp(b->graph->nodes[by].op->name, "DequantizeLinear") == 0);
        first = false;
    }
    emb_model_close(a);
    emb_model_close(b);
    free(bytes);
    free(onnx);
}

static void test_builtin(void)
{
    size_t n = 0;
    void *onnx = NULL;
    emb_error err = {0};
    emb_model *a = NULL, *b = NULL;
    emb_quantize_opts opts = {0};
    REQUIRE(emb_model_quantize(NULL, 0, "built-in", views, PHOTOS, &opts, &onnx, &n, &err) == EMB_OK);
    REQUIRE(emb_model_open_builtin(&a, &err) == EMB_OK && emb_model_open_memory(onnx, n, "8 bits", NULL, &b, &err) == EMB_OK);
    CHECK_STR(b->info.name, a->info.name); /* metadata stay */
    CHECK(memcmp(&a->pp, &b->pp, sizeof a->pp) == 0);
    CHECK(strcmp(a->info.fingerprint, b->info.fingerprint) != 0);
    CHECK(cosine(a, b) > 0.99);
    emb_model_close(a);
    emb_model_close(b);
    free(onnx);
}

/* A copy is made of a value that may move while it is made. */
static void test_copies(void)
{
    size_t n, i = 0;
    void *bytes = slurp("residual", &n);
    emb_graph *g = NULL;
    REQUIRE(emb_graph_load(&(emb_onnx_source){"residual", bytes, n}, NULL, 0, &g, NULL) == EMB_OK);
    while (strcmp(g->nodes[i].op->name, "Conv") != 0) i++;
    for (int k = 0; k < 20; k++) {
        int32_t from = g->nodes[i].in[1], copy = emb_graph_add_constant(g, &g->nodes[i], 1, &g->values[from].type, g->values[from].data);
        REQUIRE(copy >= 0 && g->nodes[i].in[1] == copy);
        CHECK(memcmp(&g->values[copy].type, &g->values[from].type, sizeof(emb_type)) == 0);
        CHECK(memcmp(g->values[copy].data, g->values[from].data, emb_type_bytes(&g->values[from].type)) == 0);
    }
    emb_graph_free(g);
    free(bytes);
}

static void test_errors(void)
{
    emb_error err = {0};
    void *onnx = NULL;
    size_t n = 0;
    emb_quantize_opts opts = {0};
    CHECK_INT(emb_model_quantize("hello", 5, "x.onnx", views, PHOTOS, &opts, &onnx, &n, &err), EMB_EFORMAT);
    CHECK_CONTAINS(err.text, "x.onnx");
    err = (emb_error){0};
    CHECK_INT(emb_model_quantize(NULL, 0, "built-in", views, 0, &opts, &onnx, &n, &err), EMB_EINVAL);
    CHECK_CONTAINS(err.text, "photos");
    CHECK(onnx == NULL);
}

int main(void)
{
    static const char *const names[] = {"residual", "residual_unfolded", "inverted", "inverted_swish", "squeeze_hardswish", "squeeze_hardswish14",
                                        "squeeze_swish", "dense", "shuffle", "chain", "blocks", "inception", "gated", "keras", "attention", "attention11", "classes", "map", "parts"};
    draw();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) test_network(names[i], 0);
    test_network("residual", 99.99);
    test_keep();
    test_builtin();
    test_copies();
    test_errors();
    return test_end();
}
