/* mutate_models.c: model files that are damaged at random, in their bytes or in their structure: whatever comes, it is a model or one
 * sentence, within bounded time and memory, never a crash. What opens is run, and now and then quantised.
 *   mutate_models [FILES [SEED]]     10000 files unless told; tests/fuzz/models runs them under sanitizers */
#include "../../embed/model.h"
#include "../test.h"

#include <dirent.h>
#include <time.h>
#include <unistd.h>

static uint64_t seed;

static uint64_t below(uint64_t n) { return n > 0 ? test_rand(&seed) % n : 0; }

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* ---- damage ----------------------------------------------------------------------------------------- */

static int64_t number(void)
{
    static const int64_t odd[] = {0,       1,          2,          3,         -1,        -2,        7,         8,         16,        17, 64, 255, 256, 4096, 65535, 65536, 65537,
                                  1 << 20, INT32_MAX,  INT32_MIN,  1LL << 31, 1LL << 32, 1LL << 40, 1LL << 62, INT64_MAX, INT64_MIN};
    return odd[below(sizeof odd / sizeof *odd)];
}

static void damage_bytes(uint8_t *b, size_t *n)
{
    if (below(8) == 0) *n = below(*n) + 1;
    for (uint64_t flips = 1 + below(4); flips > 0; flips--) {
        size_t at = below(*n);
        if (below(2)) at = at % 3000; /* names, shapes and attributes rather than weights */
        b[at % *n] = (uint8_t)test_rand(&seed);
    }
}

static void set_text(char **to, const char *text)
{
    char *copy = strdup(text); /* which may be the old one */
    free(*to);
    *to = copy;
}

/* A name that the graph knows, of any kind, or one that it does not. */
static const char *some_name(const Onnx__Graph *g)
{
    uint64_t kind = below(8);
    if (kind == 0) return "nowhere";
    if (kind < 3 && g->n_initializer > 0) return g->initializer[below(g->n_initializer)]->name;
    if (kind == 3 && g->n_input > 0) return g->input[below(g->n_input)]->name;
    const Onnx__Node *n = g->node[below(g->n_node)];
    return n->n_output > 0 ? n->output[below(n->n_output)] : "";
}

static void damage_node(const Onnx__Graph *g)
{
    Onnx__Node *n = g->node[below(g->n_node)];
    switch (below(6)) {
    case 0: set_text(&n->op_type, emb_ops[below(emb_ops_count)].name); break;
    case 1:
        if (n->n_input > 0) set_text(&n->input[below(n->n_input)], some_name(g));
        break;
    case 2:
        if (n->n_input > 0) free(n->input[--n->n_input]);
        break;
    case 3:
        if (n->n_output > 0) set_text(&n->output[below(n->n_output)], some_name(g));
        break;
    case 4: set_text(&n->domain, below(2) ? "com.microsoft" : "ai.onnx.ml"); break;
    default:
        for (size_t i = 0; i < n->n_attribute; i++) {
            Onnx__Attribute *a = n->attribute[i];
            if (below(2)) continue;
            if (a->n_ints > 0) a->ints[below(a->n_ints)] = number();
            else if (a->has_i) a->i = number();
            else if (a->has_f) a->f = (float)number();
            else if (a->name != NULL && below(3) == 0) set_text(&a->name, "axis");
        }
    }
}

static void damage_tensor(Onnx__Tensor *t)
{
    switch (below(5)) {
    case 0:
        if (t->n_dims > 0) t->dims[below(t->n_dims)] = number();
        break;
    case 1: t->data_type = (int32_t)below(24); break;
    case 2:
        if (t->has_raw_data && t->raw_data.len > 0) t->raw_data.len = below(t->raw_data.len);
        break;
    case 3:
        if (t->n_dims > 0) t->n_dims--;
        break;
    default: /* shapes and axes that are constants */
        if (t->data_type == EMB_I64 && t->raw_data.len >= 8) {
            int64_t v = number();
            memcpy(t->raw_data.data + 8 * below(t->raw_data.len / 8), &v, 8);
        } else if (t->data_type == EMB_F32 && t->raw_data.len >= 4) {
            static const float odd[] = {0, -1, 1e-40f, 3e38f, INFINITY, -INFINITY, NAN};
            memcpy(t->raw_data.data + 4 * below(t->raw_data.len / 4), &odd[below(7)], 4);
        }
    }
}

static void damage_structure(Onnx__Model *m)
{
    Onnx__Graph *g = m->graph;
    for (uint64_t times = 1 + below(3); times > 0; times--) {
        uint64_t kind = below(10);
        if (kind < 5) damage_node(g);
        else if (kind < 8 && g->n_initializer > 0) damage_tensor(g->initializer[below(g->n_initializer)]);
        else if (kind == 8) {
            Onnx__ValueInfo *v = g->input[below(g->n_input)];
            Onnx__Shape *s = v->type != NULL && v->type->tensor_type != NULL ? v->type->tensor_type->shape : NULL;
            if (s != NULL && s->n_dim > 0) s->dim[below(s->n_dim)]->dim_value = number();
        } else {
            for (size_t i = 0; i + 1 < g->n_node; i++) { /* an order that may not be one */
                size_t k = below(g->n_node);
                Onnx__Node *swap = g->node[i];
                if (below(4) != 0) continue;
                g->node[i] = g->node[k];
                g->node[k] = swap;
            }
        }
    }
}

/* -> a damaged copy; *n its size */
static uint8_t *damage(const uint8_t *b, size_t *n)
{
    Onnx__Model *m = below(2) ? onnx__model__unpack(NULL, *n, b) : NULL;
    uint8_t *copy;
    if (m != NULL) {
        damage_structure(m);
        *n = onnx__model__get_packed_size(m);
        copy = malloc(*n + 1);
        REQUIRE(copy != NULL);
        *n = onnx__model__pack(m, copy);
        onnx__model__free_unpacked(m, NULL);
        return copy;
    }
    copy = malloc(*n);
    REQUIRE(copy != NULL);
    memcpy(copy, b, *n);
    damage_bytes(copy, n);
    uint8_t *exact = malloc(*n); /* a read behind its end is seen */
    REQUIRE(exact != NULL);
    memcpy(exact, copy, *n);
    free(copy);
    return exact;
}

/* ---- use -------------------------------------------------------------------------------------------- */

static unsigned opened, ran, quantised;

static void quantise(const uint8_t *b, size_t n)
{
    static uint8_t px[2][32 * 32 * 3];
    for (size_t i = 0; i < sizeof px; i++) ((uint8_t *)px)[i] = (uint8_t)test_rand(&seed);
    emb_view views[2] = {{.px = px[0], .width = 32, .height = 32, .stride_bytes = 96}, {.px = px[1], .width = 32, .height = 32, .stride_bytes = 96}};
    void *onnx = NULL;
    size_t size = 0;
    emb_quantize_opts opts = {0};
    if (emb_model_quantize(b, n, "damaged", views, 2, &opts, &onnx, &size, NULL) == EMB_OK) quantised++;
    free(onnx);
}

static void use(const uint8_t *b, size_t n, const char *name, unsigned long round)
{
    emb_model *m = NULL;
    emb_error err = {0};
    emb_model_options o = {.precision = EMB_PRECISION_F32, .output = below(4) == 0 ? "-" : NULL};
    if (emb_model_open_memory(b, n, "damaged", &o, &m, &err) != EMB_OK) {
        test_checks++;
        if (err.text[0] == 0 || m != NULL) TEST_FAIL("%s, round %lu: no message", name, round);
        return;
    }
    opened++;
    if (m->plan->macs < 50000000 && m->plan->arena_bytes < 50000000 && m->graph->run_work < 2e8) {
        emb_workspace *ws = NULL;
        const float *out;
        ran++;
        if (emb_workspace_new(m, &ws, NULL) == EMB_OK && emb_workspace_run(m, ws, NULL, &out, NULL) == EMB_OK) CHECK(out != NULL);
        emb_workspace_free(ws);
        if (below(10) == 0) quantise(b, n);
    }
    emb_model_close(m);
}

int main(int argc, char **argv)
{
    unsigned long files = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 99;
    char path[600];
    struct dirent **names = NULL;
    double slowest = 0;
    unsigned long slowest_round = 0;
    snprintf(path, sizeof path, "%s/onnx", TEST_DATA);
    int n_names = scandir(path, &names, NULL, alphasort);
    REQUIRE(n_names > 0);
    for (unsigned long r = 0; r < files; r++) {
        seed = first + r; /* round r is the first one of SEED + r */
        const char *name;
        do name = names[below((uint64_t)n_names)]->d_name;
        while (strstr(name, ".onnx") == NULL);
        void *b = NULL;
        size_t n = 0;
        snprintf(path, sizeof path, "%s/onnx/%s", TEST_DATA, name);
        REQUIRE(emb_file_read(path, 1 << 24, &b, &n, NULL) == EMB_OK);
        uint8_t *copy = damage(b, &n);
        free(b);
        alarm(100); /* ends the test */
        double t = now();
        use(copy, n, name, r);
        t = now() - t;
        if (t > slowest) slowest = t, slowest_round = r;
        free(copy);
    }
    for (int i = 0; i < n_names; i++) free(names[i]);
    free(names);
    printf("%lu files: %u opened, %u run, %u quantised; the slowest (%lu) took %.2f s\n", files, opened, ran, quantised, slowest_round, slowest);
    CHECK(opened > files / 20 && opened < files);
    return test_end();
}
