/* Model files that are made to hurt: each ends in one sentence that names the file and the cause, in bounded time and memory. */
#include "../../embed/onnx_build.h"
#include "test.h"

#include <sys/resource.h>

#define F32(...) (&(emb_type){EMB_F32, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
#define I64(...) (&(emb_type){EMB_I64, sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
#define NODE(op, in, out) emb_build_node(b, op, op, (const char *const[]){in}, 1, (const char *const[]){out}, 1)
#define NODE2(op, x, y, out) emb_build_node(b, op, op, (const char *const[]){x, y}, 2, (const char *const[]){out}, 1)
#define NODE3(op, x, y, z, out) emb_build_node(b, op, op, (const char *const[]){x, y, z}, 3, (const char *const[]){out}, 1)

static emb_build *b; /* what the makers write to */

static void numbers(const char *name, int64_t a, int64_t c) { emb_build_tensor(b, name, I64(2), (const int64_t[]){a, c}); }
static void number(const char *name, int64_t v) { emb_build_scalar(b, name, EMB_I64, &v); }
static void floats(const char *name, const emb_type *t)
{
    float *zeros = calloc((size_t)emb_elements(t) + 1, sizeof *zeros);
    REQUIRE(zeros != NULL);
    emb_build_tensor(b, name, t, zeros);
    free(zeros);
}

/* ---- structure --------------------------------------------------------------------------------------- */

static void cycle(void)
{
    NODE2("Add", "image", "y", "x");
    NODE("Relu", "x", "y");
}

static void missing_input(void) { NODE2("Add", "image", "nothing", "y"); }
static void made_twice(void)
{
    NODE("Relu", "image", "y");
    NODE("Abs", "image", "y");
}
static void made_as_input(void) { NODE("Relu", "image", "image"); }
static void no_output(void) { NODE("Relu", "image", "z"); }
static void unknown(void) { NODE("Warp", "image", "y"); }
static void too_few(void) { emb_build_node(b, "Conv", "c", (const char *const[]){"image"}, 1, (const char *const[]){"y"}, 1); }
static void nothing(void) {}
static void named_twice(void)
{
    floats("w", F32(1));
    floats("w", F32(1));
    NODE2("Add", "image", "w", "y");
}

/* ---- shapes ------------------------------------------------------------------------------------------ */

static void conv(const emb_type *w)
{
    floats("w", w);
    NODE2("Conv", "image", "w", "y");
}
static void no_height(void) { NODE("Relu", "image", "y"); }
static void negative_width(void) { NODE("Relu", "image", "y"); }
static void other_channels(void) { conv(F32(8, 5, 3, 3)); }
static void no_filters(void) { conv(F32(0, 3, 3, 3)); }
static void no_kernel(void) { conv(F32(8, 3, 0, 3)); }
static void large_kernel(void) { conv(F32(1, 3, 99, 1)); }
static void groups_of_none(void)
{
    conv(F32(8, 3, 3, 3));
    emb_build_attribute(b, "group", 0);
}
static void strange_pad(void)
{
    conv(F32(8, 3, 3, 3));
    emb_build_attribute(b, "auto_pad", 7);
}
static void groups_beyond(void)
{
    conv(F32(8, 3, 3, 3));
    emb_build_attribute(b, "group", INT64_MAX);
}
static void reshape_to(int64_t a, int64_t c)
{
    numbers("shape", a, c);
    NODE2("Reshape", "image", "shape", "y");
}
static void reshape_overflows(void) { reshape_to(INT64_MAX, 3); }
static void reshape_negative(void) { reshape_to(-7, 3); }
static void expand_overflows(void)
{
    emb_build_tensor(b, "shape", I64(6), (const int64_t[]){1LL << 31, 1LL << 31, 1, 3, 32, 32});
    NODE2("Expand", "image", "shape", "y");
}
static void axis_beyond(void)
{
    NODE("Softmax", "image", "y");
    emb_build_attribute(b, "axis", INT64_MIN);
}
static void pads_beyond(void)
{
    emb_build_tensor(b, "pads", I64(8), (const int64_t[]){0, 0, INT64_MAX, 0, 0, 0, INT64_MAX, 0});
    NODE2("Pad", "image", "pads", "y");
}
static void gather_beyond(void)
{
    number("k", 1000);
    floats("w", F32(4));
    NODE2("Gather", "w", "k", "picked");
    NODE2("Add", "image", "picked", "y");
}

static void cast_to_bfloat16(void)
{
    NODE("Cast", "image", "y");
    emb_build_attribute(b, "to", EMB_BF16);
}

static void weight_of_bfloat16(void)
{
    emb_build_scalar(b, "w", EMB_BF16, "");
    NODE2("Add", "image", "w", "y");
}

static void sum_of_two_types(void)
{
    numbers("w", 1, 2);
    NODE2("Add", "image", "w", "y");
}

static void softmax_of_int64(void)
{
    NODE("Shape", "image", "s");
    NODE("Softmax", "s", "y");
}

/* ---- bombs ------------------------------------------------------------------------------------------- */

static void large_constant(void)
{
    numbers("shape", 1 << 14, 1 << 14);
    NODE("ConstantOfShape", "shape", "large");
    NODE2("Add", "image", "large", "y");
}

static void endless_range(void)
{
    number("from", 0);
    number("to", INT64_MAX);
    number("by", 1);
    NODE3("Range", "from", "to", "by", "large");
    NODE2("Add", "image", "large", "y");
}

/* Each step doubles what the one before made. */
static void doubling(void)
{
    floats("c0", F32(1024));
    for (int i = 0; i < 40; i++) {
        const char *from = emb_build_text(b, "c%d", i), *to = emb_build_text(b, "c%d", i + 1);
        NODE2("Concat", from, from, to);
        emb_build_attribute(b, "axis", 0);
    }
    NODE2("Add", "image", "c40", "y");
}

/* Small results of large constants, over and over. */
static void busy(void)
{
    numbers("shape", 1 << 10, 1 << 14);
    NODE("ConstantOfShape", "shape", "large");
    for (int i = 0; i < 5000; i++) {
        const char *to = emb_build_text(b, "s%d", i);
        NODE("ReduceSum", "large", to);
    }
    NODE2("Add", "image", "s0", "y");
}

static void large_product(void)
{
    numbers("shape", 4000, 4000);
    NODE("ConstantOfShape", "shape", "a");
    NODE2("MatMul", "a", "a", "p");
    NODE2("Add", "image", "p", "y");
}

static void long_run(void)
{
    emb_build_tensor(b, "shape", I64(4), (const int64_t[]){1, 3, 9000, 9000});
    NODE2("Expand", "image1", "shape", "wide");
    NODE("MaxPool", "wide", "y");
    emb_build_ints(b, "kernel_shape", (const int64_t[]){6000, 6000}, 2);
}

static void large_run(void)
{
    emb_build_tensor(b, "shape", I64(4), (const int64_t[]){1, 3, 9000, 9000});
    NODE2("Expand", "image1", "shape", "a0");
    for (int i = 0; i < 12; i++) { /* all are alive until the sum */
        const char *to = emb_build_text(b, "a%d", i + 1);
        NODE("Tanh", emb_build_text(b, "a%d", i), to);
    }
    NODE2("Add", "a0", "a1", "t1");
    for (int i = 1; i < 12; i++) {
        const char *to = emb_build_text(b, "t%d", i + 1);
        NODE2("Add", emb_build_text(b, "t%d", i), emb_build_text(b, "a%d", i + 1), to);
    }
    NODE("GlobalAveragePool", "t12", "y");
}

typedef struct {
    const char *name;
    void (*make)(void);
    const char *part; /* of the message */
} hostile;

static const hostile cases[] = {
    {"cycle", cycle, "a cycle"},
    {"missing input", missing_input, "nothing"},
    {"made twice", made_twice, "made twice"},
    {"made as input", made_as_input, "made twice"},
    {"no output", no_output, "output 0"},
    {"unknown operator", unknown, "operator Warp"},
    {"too few inputs", too_few, "(Conv)"},
    {"no nodes", nothing, "no graph"},
    {"named twice", named_twice, "taken"},
    {"no height", no_height, "dimension 2 of input image is 0"},
    {"negative width", negative_width, "dimension 3 of input image is -7"},
    {"other channels", other_channels, "channels"},
    {"no filters", no_filters, "channels"},
    {"no kernel", no_kernel, "empty kernel"},
    {"large kernel", large_kernel, "larger than"},
    {"groups of none", groups_of_none, "groups"},
    {"groups beyond", groups_beyond, "groups"},
    {"strange pad", strange_pad, "auto_pad"},
    {"reshape overflows", reshape_overflows, "impossible shape"},
    {"reshape negative", reshape_negative, "impossible shape"},
    {"expand overflows", expand_overflows, "(Expand)"},
    {"axis beyond", axis_beyond, "axis"},
    {"pads beyond", pads_beyond, "pads"},
    {"gather beyond", gather_beyond, "index 1000 of 4"},
    {"cast to bfloat16", cast_to_bfloat16, "from float32 to bfloat16 (data type 16)"},
    {"weight of bfloat16", weight_of_bfloat16, "tensor w has data type bfloat16 (16)"},
    {"sum of two types", sum_of_two_types, "of float32, or of several types"},
    {"softmax of int64", softmax_of_int64, "input 0 is int64"},
    {"large constant", large_constant, "MB"},
    {"endless range", endless_range, "no end"},
    {"doubling", doubling, "MB"},
    {"busy", busy, "too long"},
    {"large product", large_product, "too long"},
    {"long run", long_run, "multiply-adds"},
    {"large run", large_run, "MB"},
};

static void pack(const hostile *h, void **bytes, size_t *n)
{
    Onnx__Model like = ONNX__MODEL__INIT;
    Onnx__Graph graph = ONNX__GRAPH__INIT;
    emb_error err = {0};
    like.graph = &graph;
    b = emb_build_new(&like, 13);
    REQUIRE(b != NULL);
    emb_build_input(b, "image", F32(1, 3, h->make == no_height ? 0 : 32, h->make == negative_width ? -7 : 32));
    if (h->make == long_run || h->make == large_run) { /* one number of the picture, to be spread */
        numbers("from", 0, 0);
        numbers("to", 1, 1);
        numbers("axes", 2, 3);
        emb_build_node(b, "Slice", "s", (const char *const[]){"image", "from", "to", "axes"}, 4, (const char *const[]){"image1"}, 1);
    }
    h->make();
    emb_build_output(b, "y", F32(1));
    REQUIRE(emb_build_pack(b, bytes, n, &err) == EMB_OK);
    emb_build_free(b);
}

static void test_case(const hostile *h)
{
    void *bytes = NULL;
    size_t n = 0;
    emb_model *m = NULL;
    emb_error err = {0};
    pack(h, &bytes, &n);
    emb_status st = emb_model_open_memory(bytes, n, "hostile.onnx", NULL, &m, &err);
    test_checks++;
    if (st == EMB_OK) TEST_FAIL("%s: opened", h->name);
    else if (strstr(err.text, "hostile.onnx") == NULL || strstr(err.text, h->part) == NULL) TEST_FAIL("%s: says \"%s\"", h->name, err.text);
    CHECK(m == NULL);
    emb_model_close(m);
    free(bytes);
}

/* What the structure of protobuf allows: data elsewhere, and messages that are larger in memory than in the file. */
static void test_bytes(void)
{
    void *bytes = NULL;
    size_t n = 0;
    emb_model *m = NULL;
    emb_error err = {0};
    pack(&(hostile){"", other_channels, ""}, &bytes, &n);
    Onnx__Model *p = onnx__model__unpack(NULL, n, bytes);
    REQUIRE(p != NULL);
    free(bytes);
    Onnx__Tensor *t = p->graph->initializer[0];
    t->has_data_location = true;
    t->data_location = 1;
    Onnx__Pair at = ONNX__PAIR__INIT, *list[1] = {&at};
    at.key = (char *)"location";
    at.value = (char *)"../../etc/passwd";
    t->external_data = list;
    t->n_external_data = 1;
    n = onnx__model__get_packed_size(p);
    bytes = malloc(n);
    REQUIRE(bytes != NULL && onnx__model__pack(p, bytes) == n);
    t->external_data = NULL;
    t->n_external_data = 0;
    onnx__model__free_unpacked(p, NULL);
    CHECK_INT(emb_model_open_memory(bytes, n, "hostile.onnx", NULL, &m, &err), EMB_EUNSUPPORTED);
    CHECK_CONTAINS(err.text, "another file");
    free(bytes);

    enum { NODES = 8 << 20 }; /* a graph of empty nodes: two bytes each */
    uint8_t *nodes = malloc(2 * NODES + 16), *w = nodes;
    REQUIRE(nodes != NULL);
    *w++ = 7 << 3 | 2;
    for (uint32_t left = 2 * NODES; ; left >>= 7) {
        *w++ = (uint8_t)((left & 127) | (left > 127 ? 128 : 0));
        if (left <= 127) break;
    }
    for (int i = 0; i < NODES; i++) *w++ = 1 << 3 | 2, *w++ = 0;
    err = (emb_error){0};
    CHECK_INT(emb_model_open_memory(nodes, (size_t)(w - nodes), "hostile.onnx", NULL, &m, &err), EMB_ELIMIT);
    CHECK_CONTAINS(err.text, "hostile.onnx");
    free(nodes);

    err = (emb_error){0}; /* more than any message can have; refused before a byte is read */
    CHECK_INT(emb_model_open_memory((const uint8_t *)"", (size_t)INT32_MAX + 1, "hostile.onnx", NULL, &m, &err), EMB_ELIMIT);
    CHECK_CONTAINS(err.text, "hostile.onnx has 2147483648 bytes, the limit is 2147483647");
}

int main(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_case(&cases[i]);
    test_bytes();
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    printf("at most %ld MB of memory, %ld s of processor time\n", u.ru_maxrss >> 10, (long)u.ru_utime.tv_sec);
    CHECK(u.ru_maxrss < 4L << 20); /* KiB; sanitizers take more than twice what the program does */
    return test_end();
}
