/* mutate_models.c: model files that are damaged at random, in their bytes or in their structure: float ones, float16 ones, and what the
 * quantiser makes of them. Whatever comes, it is a model or one sentence, within bounded time and memory, never a crash. What opens is
 * run by its plan, in float32, float16 or bfloat16, and must say what the general executor says; now and then it is quantised.
 *   mutate_models [FILES [SEED [OUT]]]     10000 files unless told; tests/fuzz/models runs them under sanitizers. Round r of seed s is
 *                                          `mutate_models 1 s+r OUT`, which writes the file, too. */
#include "../../embed/half.h"
#include "../executors.h"
#include "../file.h"

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
    return below(2) ? (int64_t)below(8) : odd[below(sizeof odd / sizeof *odd)];
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
    case 0: set_text(&n->op_type, below(2) ? emb_ops[below(emb_ops_count)].name : g->node[below(g->n_node)]->op_type); break;
    case 1:
        if (n->n_input > 0) set_text(&n->input[below(n->n_input)], some_name(g));
        break;
    case 2:
        if (n->n_input > 0) free(n->input[--n->n_input]);
        break;
    case 3:
        if (n->n_output > 0) set_text(&n->output[below(n->n_output)], below(3) == 0 ? "" : some_name(g));
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
    default: /* shapes and axes that are constants, weights, scales and zero points */
        if ((t->data_type == EMB_U8 || t->data_type == EMB_I8) && t->raw_data.len > 0) {
            t->raw_data.data[below(t->raw_data.len)] = (uint8_t)test_rand(&seed);
        } else if (t->data_type == EMB_I64 && t->raw_data.len >= 8) {
            int64_t v = number();
            memcpy(t->raw_data.data + 8 * below(t->raw_data.len / 8), &v, 8);
        } else if (t->data_type == EMB_F32 && t->raw_data.len >= 4) {
            static const float odd[] = {0, -1, 1e-40f, 3e38f, INFINITY, -INFINITY, NAN, 1, 0.5f, 7};
            memcpy(t->raw_data.data + 4 * below(t->raw_data.len / 4), &odd[below(10)], 4);
        }
    }
}

static void damage_structure(Onnx__Model *m)
{
    Onnx__Graph *g = m->graph;
    for (uint64_t times = 1 + below(2); times > 0; times--) {
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
    Onnx__Model *m = below(4) > 0 ? onnx__model__unpack(NULL, *n, b) : NULL;
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

static unsigned opened, ran, compared, in_eight, quantised;

static void draw(uint8_t px[2][32 * 32 * 3], emb_view views[2])
{
    for (size_t i = 0; i < 2; i++) {
        for (size_t k = 0; k < sizeof px[i]; k++) px[i][k] = (uint8_t)test_rand(&seed);
        views[i] = (emb_view){.px = px[i], .width = 32, .height = 32, .stride_bytes = 96};
    }
}

static bool quantise(const uint8_t *b, size_t n, void **onnx, size_t *size)
{
    static uint8_t px[2][32 * 32 * 3];
    emb_view views[2];
    emb_quantize_opts opts = {0};
    draw(px, views);
    return emb_model_quantize(b, n, "damaged", views, 2, &opts, onnx, size, NULL) == EMB_OK;
}

static bool works_in_eight(const emb_plan *p)
{
    for (size_t i = 0; i < p->n_steps; i++)
        if (p->steps[i].q8 != NULL) return true;
    return false;
}

/* How large a rounding on the way is, relative to what is rounded. */
static double rounding_of(const emb_plan *p)
{
    return emb_graph_quantised(p->graph) ? 1e-2 : p->k->type == EMB_F16 ? 1e-3 : p->k->type == EMB_BF16 ? 1e-2 : 5e-5;
}

/* The general executor on the same file, which `m` has dropped most constants of. Where numbers are so large that they cancel, or lose
 * their grid, nothing can be said. */
static void compare(const emb_model *m, const uint8_t *b, size_t n, const char *output, float *picture, const float *got, const char *name, unsigned long round)
{
    emb_graph *g = NULL;
    size_t dim = m->info.dim;
    float *want = malloc(dim * sizeof *want), *shaken = malloc(dim * sizeof *shaken);
    double rounding = rounding_of(m->plan), norm = 0, bound;
    executors_seen seen;
    REQUIRE(want != NULL && shaken != NULL);
    REQUIRE(emb_graph_load(&(emb_onnx_source){"damaged", b, n}, NULL, 0, &g, NULL) == EMB_OK && emb_graph_choose(g, output, NULL) == EMB_OK);
    REQUIRE(emb_graph_settle(g, NULL, NULL) == EMB_OK);
    emb_status st = executors_general(g, picture, want, &seen, NULL);
    for (size_t i = 0; st == EMB_OK && i < dim; i++) norm += (double)want[i] * (double)want[i];
    bound = 5 * rounding * (1 + seen.most / sqrt(norm));
    if (st == EMB_OK && bound < 1 && seen.most < (m->plan->k->type == EMB_F16 ? 1e4 : 1e9) && !(seen.cut && emb_graph_quantised(m->graph))) {
        double distance = executors_distance(got, want, dim);
        for (size_t i = 0; i < (size_t)m->plan->in_w * m->plan->in_h * 3; i++) picture[i] *= 1 + (float)rounding * test_randf(&seed);
        if (distance > bound && executors_general(g, picture, shaken, NULL, NULL) == EMB_OK) bound += 10 * executors_distance(shaken, want, dim);
        test_checks++;
        compared++;
        if (!(distance <= bound)) TEST_FAIL("%s, round %lu, %s: the plan is off by %.3g, bound %.3g (largest %.3g)", name, round, m->plan->k->name, distance, bound, seen.most);
    }
    free(want);
    free(shaken);
    emb_graph_free(g);
}

static void run(const emb_model *m, const uint8_t *b, size_t n, const char *output, const char *name, unsigned long round)
{
    size_t pixels = (size_t)m->plan->in_w * m->plan->in_h * 3;
    float *picture = malloc(pixels * sizeof *picture), *got = malloc(m->info.dim * sizeof *got);
    REQUIRE(picture != NULL && got != NULL);
    for (size_t i = 0; i < pixels; i++) picture[i] = 2 * test_randf(&seed);
    ran++;
    in_eight += works_in_eight(m->plan);
    if (executors_plan(m->plan, picture, got, NULL) == EMB_OK) compare(m, b, n, output, picture, got, name, round);
    free(picture);
    free(got);
}

static void use(const uint8_t *b, size_t n, const char *name, unsigned long round)
{
    static const emb_precision precisions[] = {EMB_PRECISION_AUTO, EMB_PRECISION_F32, EMB_PRECISION_F16, EMB_PRECISION_BF16};
    emb_model *m = NULL;
    emb_error err = {0};
    bool eight = strstr(name, "int8") != NULL || strstr(name, "8 bits") != NULL;
    emb_model_options o = {.output = below(4) == 0 ? "-" : NULL, .precision = eight && below(4) > 0 ? EMB_PRECISION_INT8 : precisions[below(4)]};
    if (emb_model_open_memory(b, n, "damaged", &o, &m, &err) != EMB_OK) {
        test_checks++;
        if (err.text[0] == 0 || m != NULL) TEST_FAIL("%s, round %lu: no message", name, round);
        return;
    }
    opened++;
    if (m->plan->macs < 50000000 && m->plan->arena_bytes < 50000000 && m->graph->run_work < 2e8) {
        run(m, b, n, o.output, name, round);
        if (below(10) == 0) {
            void *onnx = NULL;
            size_t size;
            quantised += quantise(b, n, &onnx, &size);
            free(onnx);
        }
    }
    emb_model_close(m);
}

/* ---- what is damaged ---------------------------------------------------------------------------------- */

static struct model {
    char name[80];
    void *bytes;
    size_t n;
} models[200];
static size_t n_models;

static void keep(const char *name, const char *how, void *bytes, size_t n)
{
    REQUIRE(n_models < sizeof models / sizeof *models);
    struct model *k = &models[n_models++];
    snprintf(k->name, sizeof k->name, "%.60s%s", name, how);
    k->bytes = bytes;
    k->n = n;
}

/* The same with its weights in float16. */
static void keep_half(const char *name, const void *b, size_t n)
{
    Onnx__Model *m = onnx__model__unpack(NULL, n, b);
    REQUIRE(m != NULL);
    for (size_t i = 0; i < m->graph->n_initializer; i++) {
        Onnx__Tensor *t = m->graph->initializer[i];
        if (t->data_type != EMB_F32 || !t->has_raw_data) continue;
        for (size_t k = 0; k < t->raw_data.len / 4; k++) {
            float v;
            memcpy(&v, t->raw_data.data + 4 * k, 4);
            uint16_t h = emb_float_to_half(v);
            memcpy(t->raw_data.data + 2 * k, &h, 2);
        }
        t->raw_data.len /= 2;
        t->data_type = EMB_F16;
    }
    size_t size = onnx__model__get_packed_size(m);
    uint8_t *bytes = malloc(size);
    REQUIRE(bytes != NULL && onnx__model__pack(m, bytes) == size);
    onnx__model__free_unpacked(m, NULL);
    keep(name, " in float16", bytes, size);
}

static void read_models(void)
{
    char path[600];
    struct dirent **names = NULL;
    snprintf(path, sizeof path, "%s/onnx", TEST_DATA);
    int n_names = scandir(path, &names, NULL, alphasort);
    REQUIRE(n_names > 0);
    seed = 1;
    for (int i = 0; i < n_names; i++) {
        const char *name = names[i]->d_name;
        void *b = NULL, *eight = NULL;
        size_t n = 0, n_eight = 0;
        if (strstr(name, ".onnx") != NULL) {
            snprintf(path, sizeof path, "%s/onnx/%s", TEST_DATA, name);
            REQUIRE((b = test_file(path, &n)) != NULL);
            keep(name, "", b, n);
            if (quantise(b, n, &eight, &n_eight)) keep(name, " in 8 bits", eight, n_eight);
            if (i % 3 == 0) keep_half(name, b, n);
        }
        free(names[i]);
    }
    free(names);
}

static void write_file(const char *path, const void *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    REQUIRE(f != NULL && fwrite(bytes, 1, n, f) == n && fclose(f) == 0);
}

int main(int argc, char **argv)
{
    unsigned long files = argc > 1 ? strtoul(argv[1], NULL, 10) : 10000;
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 99;
    double slowest = 0;
    unsigned long slowest_round = 0;
    read_models();
    for (unsigned long r = 0; r < files; r++) {
        seed = first + r;
        const struct model *from = &models[below(n_models)];
        size_t n = from->n;
        uint8_t *copy = damage(from->bytes, &n);
        if (argc > 3) write_file(argv[3], copy, n);
        alarm(100); /* ends the test */
        double t = now();
        use(copy, n, from->name, r);
        t = now() - t;
        if (t > slowest) slowest = t, slowest_round = r;
        free(copy);
    }
    printf("%lu files made of %zu: %u opened, %u run (%u in 8 bits), %u compared with the general executor, %u quantised; the slowest (%lu) took %.2f s\n", files,
           n_models, opened, ran, in_eight, compared, quantised, slowest_round, slowest);
    for (size_t i = 0; i < n_models; i++) free(models[i].bytes);
    if (files < 1000) return test_end();
    CHECK(opened > files / 20 && opened < files);
    CHECK(in_eight > files / 50 && compared > files / 50);
    return test_end();
}
