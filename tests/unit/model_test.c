/* Networks of every common shape: the general executor and the plan, both against ONNX Runtime's outputs; what of them is
 * the embedding, and files that are no models (tests/fuzz damages some at random). */
#include "../../embed/half.h"
#include "../executors.h"
#include "file.h"

#include <dirent.h>
#include <unistd.h>

static void *slurp(const char *name, size_t *n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/onnx/%s", TEST_DATA, name);
    void *b = test_file(path, n);
    REQUIRE(b != NULL);
    return b;
}

/* A file's messages, for a test to change. */
static Onnx__Model *unpacked(const char *name)
{
    size_t n;
    void *b = slurp(name, &n);
    Onnx__Model *p = onnx__model__unpack(NULL, n, b);
    REQUIRE(p != NULL);
    free(b);
    return p;
}

static emb_status open_packed(const Onnx__Model *p, const char *name, emb_model **m, emb_error *err)
{
    size_t n = onnx__model__get_packed_size(p);
    void *b = malloc(n);
    REQUIRE(b != NULL && onnx__model__pack(p, b) == n);
    emb_status st = emb_model_open_memory(b, n, name, NULL, m, err);
    free(b);
    return st;
}

/* In 8 bits a number on the edge of two steps falls to either side. */
static double bound_of(const char *name) { return strncmp(name, "int8", 4) == 0 ? 1e-2 : strcmp(name, "half") == 0 ? 2e-3 : 1e-4; }

static void check_general(const char *name, const char *path, const emb_tensor *in, const float *want, size_t n)
{
    emb_tensor *out = NULL;
    size_t outs = 0;
    emb_error err = {0};
    emb_status st = emb_model_run(path, in, 1, &out, &outs, &err);
    if (st != EMB_OK) TEST_FAIL("%s: %s", name, err.text);
    REQUIRE(st == EMB_OK && outs >= 1);
    CHECK_INT(out[0].dtype, strcmp(name, "half") == 0 ? EMB_F16 : EMB_F32); /* as the file says */
    float *got = calloc(n, sizeof *got);
    REQUIRE(got != NULL && out[0].bytes == n * emb_dtype_size(out[0].dtype));
    for (size_t i = 0; i < n; i++) got[i] = out[0].dtype == EMB_F16 ? emb_half_to_float(((uint16_t *)out[0].data)[i]) : ((float *)out[0].data)[i];
    double d = executors_distance(got, want, n);
    free(got);
    test_checks++;
    if (!(d < bound_of(name))) TEST_FAIL("%s: the general executor is off by %.3g", name, d);
    emb_tensors_free(out, outs);
}

static void check_plan(const char *name, const char *path, emb_precision p, const float *x, const float *want, size_t n)
{
    emb_model *m = NULL;
    emb_workspace *ws = NULL;
    emb_error err = {0};
    emb_status st = emb_model_open_with(path, &(emb_model_options){p, "-"}, &m, &err);
    if (st == EMB_OK) st = emb_workspace_new(m, &ws, &err);
    if (st != EMB_OK) TEST_FAIL("%s: %s", name, err.text);
    REQUIRE(st == EMB_OK);
    const emb_type *t = &m->graph->values[m->graph->inputs[0]].type;
    size_t h = m->plan->in_h, w = m->plan->in_w;
    CHECK_INT(m->info.dim, n);
    for (int round = 0; round < 2; round++) { /* the second run meets a used arena */
        float *in = emb_workspace_input(m, ws);
        for (size_t i = 0; i < h * w; i++)
            for (size_t c = 0; c < 3; c++) in[i * 3 + c] = t->dims[1] == 3 ? x[c * h * w + i] : x[i * 3 + c];
        const float *got = NULL;
        REQUIRE(emb_workspace_run(m, ws, NULL, &got, &err) == EMB_OK);
        double d = executors_distance(got, want, n);
        test_checks++;
        if (!(d < bound_of(name))) TEST_FAIL("%s: the plan (%s) is off by %.3g, round %d", name, emb_cpu_kernels(), d, round);
    }
    emb_workspace_free(ws);
    emb_model_close(m);
}

static void test_networks(void)
{
    char path[512];
    snprintf(path, sizeof path, "%s/onnx", TEST_DATA);
    DIR *d = opendir(path);
    REQUIRE(d != NULL);
    int seen = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char *dot = strstr(e->d_name, ".onnx");
        if (dot == NULL) continue;
        char base[200], file[256], full[800];
        snprintf(base, sizeof base, "%.*s", (int)(dot - e->d_name), e->d_name);
        size_t n_in, n_out;
        snprintf(file, sizeof file, "%s.in.f32", base);
        float *x = slurp(file, &n_in);
        snprintf(file, sizeof file, "%s.out.f32", base);
        float *want = slurp(file, &n_out);
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        emb_model *m = NULL;
        REQUIRE(emb_model_open(full, &m, NULL) == EMB_OK);
        const emb_value *v = &m->graph->values[m->graph->inputs[0]];
        emb_tensor in = {.dtype = EMB_F32, .rank = v->type.rank, .data = x, .bytes = n_in};
        snprintf(in.name, sizeof in.name, "%s", v->name);
        memcpy(in.dims, v->type.dims, sizeof in.dims);
        const emb_precision p = m->info.precision == EMB_PRECISION_INT8 ? EMB_PRECISION_INT8 : EMB_PRECISION_F32; /* AUTO may round more */
        emb_model_close(m);
        check_general(base, full, &in, want, n_out / sizeof(float));
        check_plan(base, full, p, x, want, n_out / sizeof(float));
        free(x);
        free(want);
        seen++;
    }
    closedir(d);
    CHECK(seen >= 12);
}

static void test_builtin(void)
{
    emb_model *m = NULL;
    emb_workspace *ws = NULL;
    emb_error err = {0};
    REQUIRE(emb_model_open_builtin(&m, &err) == EMB_OK);
    REQUIRE(emb_workspace_new(m, &ws, &err) == EMB_OK);
    const emb_model_info *i = emb_model_get_info(m);
    CHECK_INT(strlen(i->fingerprint), 64);
    CHECK(i->dim >= 64 && i->dim <= 1024);
    static uint8_t px[200 * 150 * 3 + 64];
    uint64_t seed = 3;
    for (size_t k = 0; k < sizeof px; k++) px[k] = (uint8_t)((k / 900 + test_rand(&seed) % 40) % 256);
    emb_view v = {.px = px, .width = 200, .height = 150, .stride_bytes = 600};
    float a[1024], b[1024];
    REQUIRE(emb_embed(m, ws, v, NULL, a, &err) == EMB_OK);
    REQUIRE(emb_embed(m, ws, v, &(emb_crop){0, 0, 1, 1}, b, &err) == EMB_OK);
    double norm = 0;
    for (uint32_t k = 0; k < i->dim; k++) norm += (double)a[k] * (double)a[k];
    CHECK_NEAR(norm, 1, 1e-5);
    CHECK(memcmp(a, b, i->dim * sizeof *a) == 0);
    CHECK_INT(emb_embed(m, ws, v, &(emb_crop){.5f, 0, .6f, 1}, b, &err), EMB_EINVAL);
    FILE *sink = tmpfile();
    REQUIRE(sink != NULL);
    emb_model_inspect(m, sink, true);
    CHECK(ftell(sink) > 500);
    fclose(sink);
    emb_workspace_free(ws);
    emb_model_close(m);
}

static emb_model *open_fixture(const char *name, const char *output, emb_error *err)
{
    char path[600];
    emb_model *m = NULL;
    snprintf(path, sizeof path, "%s/onnx/%s.onnx", TEST_DATA, name);
    if (emb_model_open_with(path, &(emb_model_options){EMB_PRECISION_F32, output}, &m, err) != EMB_OK) m = NULL;
    return m;
}

static void embed_grey(const emb_model *m, float *raw)
{
    emb_workspace *ws = NULL;
    const float *out = NULL;
    REQUIRE(emb_workspace_new(m, &ws, NULL) == EMB_OK);
    for (size_t i = 0; i < (size_t)m->plan->in_w * m->plan->in_h * 3; i++) emb_workspace_input(m, ws)[i] = (float)(i % 29) / 15 - 1;
    REQUIRE(emb_workspace_run(m, ws, NULL, &out, NULL) == EMB_OK);
    memcpy(raw, out, m->info.dim * sizeof *raw);
    emb_workspace_free(ws);
}

/* The features before the classifier, the mean of a feature map, and what is asked for; each is another model to a catalogue. */
static void test_outputs(void)
{
    emb_error err = {0};
    float got[8192], map[8192];
    emb_model *chosen = open_fixture("classes", NULL, &err), *scores = open_fixture("classes", "-", &err);
    REQUIRE(chosen != NULL && scores != NULL);
    CHECK_INT(chosen->info.dim, 22);
    CHECK_INT(scores->info.dim, 7);
    CHECK_CONTAINS(chosen->graph->chosen, "7 classes");
    CHECK(strcmp(chosen->info.fingerprint, scores->info.fingerprint) != 0);
    const char *name = chosen->graph->values[chosen->graph->outputs[0]].name;
    emb_model *named = open_fixture("classes", name, &err), *node = open_fixture("classes", "/fc/Gemm", &err);
    REQUIRE(named != NULL && node != NULL);
    CHECK_STR(named->info.fingerprint, chosen->info.fingerprint);
    CHECK_INT(node->info.dim, 7);
    CHECK(strcmp(node->info.fingerprint, scores->info.fingerprint) != 0);
    emb_model *mean = open_fixture("map", NULL, &err), *whole = open_fixture("map", "-", &err);
    REQUIRE(mean != NULL && whole != NULL);
    CHECK_INT(mean->info.dim, 18);
    CHECK_CONTAINS(mean->graph->chosen, "mean");
    CHECK(strcmp(mean->info.fingerprint, whole->info.fingerprint) != 0);
    embed_grey(mean, got);
    embed_grey(whole, map);
    uint32_t pixels = whole->info.dim / 18;
    for (uint32_t c = 0; c < 18; c++) {
        double sum = 0;
        for (uint32_t p = 0; p < pixels; p++) sum += (double)map[c * pixels + p];
        CHECK_NEAR(got[c], sum / pixels, 1e-4);
    }
    emb_model *const all[] = {chosen, scores, named, node, mean, whole};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) emb_model_close(all[i]);
    CHECK(open_fixture("classes", "nowhere", &err) == NULL);
    CHECK_INT(err.status, EMB_EINVAL);
    CHECK_CONTAINS(err.text, "nowhere");
    err = (emb_error){0};
    CHECK(open_fixture("classes", "image", &err) == NULL); /* the picture itself */
}

static size_t count_op(const emb_model *m, const char *op)
{
    size_t n = 0;
    for (size_t i = 0; i < m->graph->n_nodes; i++) n += !m->graph->nodes[i].folded && strcmp(m->graph->nodes[i].op->name, op) == 0;
    return n;
}

static void test_rewrite(void)
{
    emb_model *m = open_fixture("parts", NULL, NULL);
    REQUIRE(m != NULL);
    CHECK_INT(count_op(m, "HardSwish"), 4);
    CHECK_INT(count_op(m, "Clip") + count_op(m, "Div") + count_op(m, "Mul") + count_op(m, "Add"), 0);
    emb_model_close(m);
}

/* Height and width that the file leaves free. */
static void test_free_size(void)
{
    Onnx__Model *p = unpacked("map.onnx");
    Onnx__Shape *s = p->graph->input[0]->type->tensor_type->shape;
    for (size_t i = 0; i < 4; i++)
        if (i != 1) s->dim[i]->has_dim_value = false;
    Onnx__Pair size = ONNX__PAIR__INIT, *list[1] = {&size};
    size.key = (char *)"likeness.size";
    for (int round = 0; round < 3; round++) {
        emb_model *m = NULL;
        emb_error err = {0};
        size.value = (char *)(round == 2 ? "many" : "40");
        p->metadata_props = list;
        p->n_metadata_props = round > 0;
        emb_status st = open_packed(p, "free", &m, &err);
        CHECK_INT(st, round == 2 ? EMB_EFORMAT : EMB_OK);
        if (st == EMB_OK) CHECK_INT(m->info.input_w, round == 0 ? 224 : 40);
        else CHECK_CONTAINS(err.text, "likeness.size");
        emb_model_close(m);
    }
    p->metadata_props = NULL;
    p->n_metadata_props = 0;
    onnx__model__free_unpacked(p, NULL);
}

/* The digest of what is read from a file, which is as long as takes a thread of its own, is the digest of the bytes. */
static void test_fingerprint(void)
{
    const void *bytes;
    size_t n;
    char path[] = "/tmp/model_test.XXXXXX";
    const emb_model_options how = {EMB_PRECISION_F32, "-"};
    emb_model *m[2] = {NULL, NULL};
    emb_builtin_bytes(&bytes, &n);
    const int fd = mkstemp(path);
    REQUIRE(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0 && n > 2 << 20);
    REQUIRE(emb_model_open_with(path, &how, &m[0], NULL) == EMB_OK && emb_model_open_memory(bytes, n, "memory", &how, &m[1], NULL) == EMB_OK);
    CHECK_STR(m[0]->info.fingerprint, m[1]->info.fingerprint);
    struct sha256_ctx h;
    uint8_t digest[SHA256_DIGEST_SIZE];
    char text[2 * SHA256_DIGEST_SIZE + 1];
    sha256_init(&h);
    sha256_update(&h, n, bytes);
    sha256_update(&h, sizeof EMB_PREPROC_VERSION, (const uint8_t *)EMB_PREPROC_VERSION);
    sha256_digest(&h, sizeof digest, digest);
    for (size_t i = 0; i < sizeof digest; i++) snprintf(text + 2 * i, 3, "%02x", digest[i]);
    CHECK_STR(m[0]->info.fingerprint, text);
    emb_model_close(m[0]);
    emb_model_close(m[1]);
    REQUIRE(truncate(path, (off_t)n / 2) == 0);
    emb_error err = {0};
    CHECK_INT(emb_model_open(path, &m[0], &err), EMB_EFORMAT);
    CHECK_CONTAINS(err.text, path);
    REQUIRE(unlink(path) == 0);
}

/* An input that no node takes, as Keras leaves them behind. */
static void test_unused_input(void)
{
    Onnx__Model *p = unpacked("map.onnx");
    Onnx__ValueInfo behind = *p->graph->input[0], *both[2] = {p->graph->input[0], &behind}, **own = p->graph->input;
    behind.name = (char *)"left behind";
    p->graph->input = both;
    p->graph->n_input = 2;
    emb_model *m = NULL;
    CHECK_INT(open_packed(p, "behind", &m, NULL), EMB_OK);
    emb_model_close(m);
    p->graph->input = own;
    p->graph->n_input = 1;
    onnx__model__free_unpacked(p, NULL);
}

static void test_errors(void)
{
    emb_model *m = NULL;
    emb_error err = {0};
    CHECK_INT(emb_model_open("/nonexistent.onnx", &m, &err), EMB_EIO);
    CHECK_CONTAINS(err.text, "/nonexistent.onnx");
    err = (emb_error){0};
    CHECK_INT(emb_model_open_memory("hello", 5, "x.onnx", NULL, &m, &err), EMB_EFORMAT);
    CHECK_CONTAINS(err.text, "x.onnx");
    /* An operator that nobody has: same length as Conv, so the file stays well-formed. */
    size_t n;
    char *b = slurp("residual.onnx", &n);
    char *op = memmem(b, n, "\"\x04" "Conv", 6);
    REQUIRE(op != NULL);
    memcpy(op + 2, "Warp", 4);
    err = (emb_error){0};
    CHECK_INT(emb_model_open_memory(b, n, "warped.onnx", NULL, &m, &err), EMB_EUNSUPPORTED);
    CHECK_CONTAINS(err.text, "operator Warp");
    CHECK_CONTAINS(err.text, "warped.onnx");
    free(b);
}

int main(void)
{
    const char *cpu = getenv("EMB_CPU");
    if (cpu != NULL && strcmp(cpu, emb_cpu_kernels()) != 0) {
        printf("SKIP: this processor has no %s\n", cpu);
        return TEST_SKIP;
    }
    test_networks();
    test_builtin();
    test_fingerprint();
    test_outputs();
    test_rewrite();
    test_free_size();
    test_unused_input();
    test_errors();
    return test_end();
}
