/* onnx_node_test.c: the ONNX project's own tests of single operators (Debian: libonnx-testdata), every one whose operators are
 * claimed in emb_ops. A case passes when the outputs are equal (floats within 1e-3 relative and 1e-5 absolute), or when the
 * graph is refused as unsupported for a reason that is listed below; a refusal that is not listed is a failure. (Newer test
 * data than Debian 12's has later opsets, and needs fewer of the reasons.) Skips (77) where the data is not installed.
 *   onnx_node_test [FOLDER [NAME...]] */
#include "../../embed/graph.h"
#include "../../embed/half.h"
#include "../../embed/model.h"
#include "../file.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    const char *part, *why; /* of the error's text */
    unsigned seen;
} limits[] = {
    {"two spatial dimensions are supported", "pictures have two", 0},
    {"weights of rank", "pictures have two", 0},
    {"quantised in blocks", "of language models", 0},
    {"supported are 7 to 28", "an opset of before 2017", 0},
    {"training mode", "no training here", 0},
    {"indices are not supported", "only MaxUnpool would need them", 0},
    {"a reduction", "ScatterND that adds or multiplies", 0},
    {"tf_crop_and_resize", "Resize of a part", 0},
    {"it must be a constant", "a Range of float16 that comes with the picture", 0},
    {"from float32 to ", "bfloat16, text, 8 and 4 bits of newer kinds", 0},
    {"not uint8 or int8", "16 and 4 bits", 0},
};

static struct {
    unsigned passed, refused, failed, other;
} count;
static bool *held; /* of emb_ops: a case with it passed */

static double number(const emb_tensor *t, size_t i)
{
    switch (t->dtype) {
    case EMB_F32: return (double)((const float *)t->data)[i];
    case EMB_F64: return ((const double *)t->data)[i];
    case EMB_I64: return (double)((const int64_t *)t->data)[i];
    case EMB_I32: return ((const int32_t *)t->data)[i];
    case EMB_I8: return ((const int8_t *)t->data)[i];
    case EMB_F16: return (double)emb_half_to_float(((const uint16_t *)t->data)[i]);
    default: return ((const uint8_t *)t->data)[i];
    }
}

static void fill(emb_tensor *to, const Onnx__Tensor *t, size_t elements, size_t size)
{
    if (t->has_raw_data) {
        if (t->raw_data.len == to->bytes && to->bytes > 0) memcpy(to->data, t->raw_data.data, to->bytes);
        return;
    }
    for (size_t i = 0; i < elements; i++) {
        if (i < t->n_float_data) ((float *)to->data)[i] = t->float_data[i];
        else if (i < t->n_int64_data) ((int64_t *)to->data)[i] = t->int64_data[i];
        else if (i < t->n_double_data) ((double *)to->data)[i] = t->double_data[i];
        else if (i < t->n_int32_data && size == 4) ((int32_t *)to->data)[i] = t->int32_data[i];
        else if (i < t->n_int32_data && size == 2) ((uint16_t *)to->data)[i] = (uint16_t)t->int32_data[i];
        else if (i < t->n_int32_data) ((uint8_t *)to->data)[i] = (uint8_t)t->int32_data[i];
    }
}

/* A tensor file of the test data; false when its type is none that is handled. */
static bool read_tensor(const char *path, const char *name, emb_tensor *to)
{
    size_t n;
    void *b = test_file(path, &n);
    Onnx__Tensor *t = b != NULL ? onnx__tensor__unpack(NULL, n, b) : NULL;
    free(b);
    if (t == NULL) return false;
    *to = (emb_tensor){.dtype = (emb_dtype)t->data_type, .rank = (uint32_t)t->n_dims};
    size_t elements = 1, size = emb_dtype_size(to->dtype);
    bool ok = size > 0 && t->n_dims <= EMB_MAX_RANK;
    for (size_t i = 0; ok && i < t->n_dims; i++) {
        to->dims[i] = t->dims[i];
        ok = t->dims[i] >= 0 && t->dims[i] < 1 << 20 && (elements *= (size_t)t->dims[i]) < 1 << 24; /* a file of another type parses as anything */
    }
    if (!ok) elements = 0;
    snprintf(to->name, sizeof to->name, "%s", name);
    to->bytes = elements * size;
    to->data = calloc(1, to->bytes + 64);
    ok = ok && to->data != NULL;
    if (ok) fill(to, t, elements, size);
    onnx__tensor__free_unpacked(t, NULL);
    return ok;
}

static bool same(const char *name, const emb_tensor *got, const emb_tensor *want)
{
    bool shape = got->rank == want->rank && memcmp(got->dims, want->dims, want->rank * sizeof *want->dims) == 0;
    size_t n = 1;
    for (uint32_t i = 0; i < want->rank; i++) n *= (size_t)want->dims[i];
    if (!shape) {
        printf("%s: another shape\n", name);
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        double a = number(got, i), b = number(want, i);
        if (a == b || (isnan(a) && isnan(b)) || fabs(a - b) <= 1e-5 + 1e-3 * fabs(b)) continue;
        printf("%s: [%zu] is %.9g, want %.9g\n", name, i, a, b);
        return false;
    }
    return true;
}

static void refused(const char *name, const char *text)
{
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (strstr(text, limits[i].part) != NULL) {
            limits[i].seen++;
            count.refused++;
            return;
        }
    printf("%s: %s\n", name, text);
    count.failed++;
}

static bool claimed(const Onnx__Graph *g)
{
    for (size_t i = 0; i < g->n_node; i++)
        if (g->node[i]->op_type == NULL || emb_op_find(g->node[i]->domain, g->node[i]->op_type) == NULL) return false;
    return g->n_node > 0;
}

static void hold(const Onnx__Graph *g)
{
    for (size_t i = 0; i < g->n_node; i++) held[emb_op_find(g->node[i]->domain, g->node[i]->op_type) - emb_ops] = true;
}

static void run_set(const char *name, const char *model, const char *set, const Onnx__Graph *g)
{
    emb_tensor in[16] = {{{0}, 0, 0, {0}, NULL, 0}}, want = {{0}, 0, 0, {0}, NULL, 0}, *out = NULL;
    size_t n_in = 0, n_out = 0;
    bool handled = g->n_input <= 16 && strstr(name, "sequence") == NULL;
    char path[1200];
    emb_error e = {0};
    for (size_t i = 0; handled && i < g->n_input; i++) {
        snprintf(path, sizeof path, "%s/input_%zu.pb", set, i);
        handled = read_tensor(path, g->input[i]->name, &in[n_in++]);
    }
    emb_status st = handled ? emb_model_run(model, in, n_in, &out, &n_out, &e) : EMB_OK;
    if (!handled) {
        count.other++; /* strings, sequences, other widths of integers */
    } else if (st == EMB_EUNSUPPORTED) {
        refused(name, e.text);
    } else if (st != EMB_OK) {
        printf("%s: %s\n", name, e.text);
        count.failed++;
    } else {
        bool ok = true;
        for (size_t i = 0; ok && i < n_out; i++) {
            snprintf(path, sizeof path, "%s/output_%zu.pb", set, i);
            free(want.data);
            want.data = NULL;
            handled = read_tensor(path, "", &want);
            ok = handled && same(name, &out[i], &want);
        }
        if (ok) hold(g);
        if (ok) count.passed++;
        else if (!handled) count.other++;
        else count.failed++;
    }
    for (size_t i = 0; i < n_in; i++) free(in[i].data);
    free(want.data);
    if (out != NULL) emb_tensors_free(out, n_out);
}

/* Operators that are the same since an opset from before those that are supported: their cases run as opset 7. */
static bool same_since(const Onnx__Graph *g)
{
    static const char *const ops[] = {"GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization", "LpNormalization", "Not", "Selu", "Softplus", "Softsign"};
    for (size_t i = 0; i < g->n_node; i++) {
        size_t k = 0, n = sizeof ops / sizeof *ops;
        while (k < n && strcmp(ops[k], g->node[i]->op_type) != 0) k++;
        if (k == n) return false;
    }
    return true;
}

/* model.onnx with the number of opset 7: -> the path of a temporary file, to be unlinked; false when none could be written. */
static bool raised(Onnx__Model *m, char path[40])
{
    snprintf(path, 40, "/tmp/onnx_node_test.XXXXXX");
    int fd = mkstemp(path);
    m->opset_import[0]->version = 7;
    size_t n = onnx__model__get_packed_size(m);
    uint8_t *b = malloc(n);
    bool ok = fd >= 0 && b != NULL && onnx__model__pack(m, b) == n && write(fd, b, n) == (ssize_t)n;
    free(b);
    if (fd >= 0) close(fd);
    return ok;
}

static void run_case(const char *folder, const char *name)
{
    char model[600], set[700];
    size_t n;
    snprintf(model, sizeof model, "%s/%s/model.onnx", folder, name);
    void *b = test_file(model, &n);
    Onnx__Model *m = b != NULL ? onnx__model__unpack(NULL, n, b) : NULL;
    free(b);
    if (m != NULL && m->graph != NULL && claimed(m->graph)) {
        char other[40];
        bool old = m->n_opset_import == 1 && m->opset_import[0]->version < 7 && same_since(m->graph) && raised(m, other);
        snprintf(set, sizeof set, "%s/%s/test_data_set_0", folder, name);
        run_set(name, old ? other : model, set, m->graph);
        if (old) unlink(other);
    }
    if (m != NULL) onnx__model__free_unpacked(m, NULL);
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/usr/share/libonnx-testdata/data/node";
    struct dirent **names = NULL;
    int n = scandir(folder, &names, NULL, alphasort);
    if (n < 0) {
        printf("skipped: %s is not there (Debian: libonnx-testdata)\n", folder);
        return 77;
    }
    held = calloc(emb_ops_count, sizeof *held);
    if (held == NULL) return 1;
    for (int i = 0; i < n; i++) {
        bool wanted = argc <= 2 && names[i]->d_name[0] != '.';
        for (int k = 2; k < argc; k++) wanted = wanted || strcmp(argv[k], names[i]->d_name) == 0;
        if (wanted) run_case(folder, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    for (size_t i = 0; argc <= 2 && i < sizeof limits / sizeof *limits; i++)
        printf("%4u refused: %s (%s)\n", limits[i].seen, limits[i].part, limits[i].why);
    size_t operators = 0;
    for (size_t i = 0; i < emb_ops_count; i++) operators += held[i];
    printf("%zu of %zu operators are held by a case that passed; not", operators, emb_ops_count);
    for (size_t i = 0; i < emb_ops_count; i++)
        if (!held[i]) printf(" %s", emb_ops[i].name);
    puts("");
    printf("%u passed, %u refused for the reasons above, %u failed; %u of types that are not handled\n", count.passed, count.refused, count.failed,
           count.other);
    free(held);
    return count.failed == 0 && count.passed > 0 ? 0 : 1;
}
