/* cmd_model.c: `likeness model`: what an ONNX file holds, what it computes, and the same in 8 bits. */
#include "commands.h"
#include "cpus.h"
#include "npy.h"
#include "model_opts.h"
#include "quantize.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool layers;
static srv_opt_list inputs;
static srv_model_opts how;
static const char *output_dir;
static srv_quantize_opts q = {.photos = 256, .evaluate = 2000};

static const srv_opt opts[] = {
    {"layers", NULL, SRV_OPT_FLAG, &layers, 0, 0, "inspect: one line for each planned step"},
    SRV_MODEL_OUTPUT(how, "inspect: "), SRV_MODEL_PRECISION(how, "inspect: "),
    {"input", "NAME=FILE.npy", SRV_OPT_LIST, &inputs, 0, 0, "run: an input; may repeat"},
    {"output-dir", "DIR", SRV_OPT_TEXT, &output_dir, 0, 0, "run: where each output goes, as NAME.npy"},
    {"calibrate", "DIR|LIST", SRV_OPT_TEXT, &q.calibrate, 0, 0, "quantize: photos like those to come: a folder, .csv or .ndjson, as for import"},
    {"photos", "N", SRV_OPT_COUNT, &q.photos, 1, 100000, "quantize: photos to measure ranges with, spread over all (256)"},
    {"percentile", "P", SRV_OPT_REAL, &q.percentile, 50, 100, "quantize: ranges that hold P % of the activations (least square error)"},
    {"keep", "NODE", SRV_OPT_LIST, &q.keep, 0, 0, "quantize: a node that stays in float32; may repeat"},
    {"evaluate", "N", SRV_OPT_COUNT, &q.evaluate, 0, 1000000, "quantize: photos to compare both models with, 0 = none (2000)"},
    {"label", "NAME", SRV_OPT_TEXT, &q.label, 0, 0, "quantize: attribute that is an item's class (class, else folder)"},
    {"threads", "N", SRV_OPT_COUNT, &q.threads, 1, 256, "quantize: threads (one for each processor)"},
    {"quiet", NULL, SRV_OPT_FLAG, &q.quiet, 0, 0, "no progress"},
};

static int fail(const char *why)
{
    fprintf(stderr, "likeness: model: %s\n", why);
    return 1;
}

static int inspect(const char *path)
{
    emb_model *m = NULL;
    emb_error e = {0};
    how.path = path;
    emb_status st = srv_model_open(&how, &m, &e);
    if (st == EMB_OK) emb_model_inspect(m, stdout, layers);
    char why[320];
    bool runs = st == EMB_OK && srv_model_try(m, why); /* a file may be whole and its numbers none */
    emb_model_close(m);
    return runs ? 0 : fail(st == EMB_OK ? why : e.text);
}

static bool read_input(const char *text, emb_tensor *t, char err[320])
{
    const char *eq = strchr(text, '=');
    if (eq == NULL || eq == text || (size_t) (eq - text) >= sizeof t->name) {
        snprintf(err, 320, "--input \"%.100s\" is not NAME=FILE.npy", text);
        return false;
    }
    if (!srv_npy_read(eq + 1, t, err)) return false;
    memcpy(t->name, text, (size_t) (eq - text));
    return true;
}

/* Output names come from the file: a slash in one must not lead out of the folder. */
static bool write_output(const emb_tensor *t, char err[320])
{
    char path[4096], name[sizeof t->name];
    memcpy(name, t->name, sizeof name);
    for (char *c = name; *c != '\0'; c++)
        if (*c == '/') *c = '_';
    if (name[0] == '.') name[0] = '_';
    snprintf(path, sizeof path, "%.3900s/%s.npy", output_dir, name);
    if (!srv_npy_write(path, t, err)) return false;
    printf("%s", path);
    for (uint32_t i = 0; i < t->rank; i++) printf("%s%lld", i == 0 ? "  " : " x ", (long long) t->dims[i]);
    putchar('\n');
    return true;
}

static int run(const char *path)
{
    char err[320] = "";
    emb_error e = {0};
    emb_tensor *in = calloc(inputs.n > 0 ? inputs.n : 1, sizeof *in), *out = NULL;
    size_t n_out = 0;
    bool ok = in != NULL;
    for (size_t i = 0; ok && i < inputs.n; i++) ok = read_input(inputs.items[i], &in[i], err);
    if (ok && mkdir(output_dir, 0777) != 0 && errno != EEXIST) {
        snprintf(err, sizeof err, "cannot make %.200s: %s", output_dir, strerror(errno));
        ok = false;
    }
    if (ok && emb_model_run(path, in, inputs.n, &out, &n_out, &e) != EMB_OK) {
        snprintf(err, sizeof err, "%s", e.text);
        ok = false;
    }
    for (size_t i = 0; ok && i < n_out; i++) ok = write_output(&out[i], err);
    emb_tensors_free(out, n_out);
    for (size_t i = 0; in != NULL && i < inputs.n; i++) free(in[i].data);
    free(in);
    return ok ? 0 : fail(err);
}

static int quantize(const char *in, const char *out)
{
    char err[400] = "";
    return srv_quantize(in, out, &q, err) ? 0 : fail(err);
}

int srv_cmd_model(int argc, char **argv)
{
    srv_opts table = {"likeness model inspect [FILE.onnx] [--layers]\n"
                      "       likeness model run FILE.onnx --input NAME=FILE.npy... --output-dir DIR\n"
                      "       likeness model quantize IN.onnx OUT.onnx --calibrate DIR|LIST\n"
                      "       likeness model operators",
                      "inspect   inputs, outputs, operators, size and plan, and whether it runs; without a file, of the built-in model\n"
                      "run       any supported graph on any inputs (f2 f4 f8 i1 i4 i8 u1 b1 arrays of NumPy)\n"
                      "quantize  writes IN (- is the built-in model) with int8 weights and uint8 activations, as a standard ONNX file, and\n"
                      "          prints what that costs: the cosine between both models' embeddings of the photos, and recall@1, the share\n"
                      "          of photos whose nearest other photo has their class (the folder they lie in, or an attribute)\n"
                      "operators the ONNX operators that a model may have",
                      opts, sizeof opts / sizeof *opts, false};
    char **args = calloc((size_t) argc, sizeof *args);
    int n = 0, rc = 2;
    q.threads = srv_cpus();
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n) : SRV_OPTS_WRONG;
    if (what == SRV_OPTS_HELP) rc = 0;
    else if (what == SRV_OPTS_GO && n >= 1 && n <= 2 && strcmp(args[0], "inspect") == 0) rc = inspect(n == 2 ? args[1] : NULL);
    else if (what == SRV_OPTS_GO && n == 2 && strcmp(args[0], "run") == 0 && output_dir != NULL) rc = run(args[1]);
    else if (what == SRV_OPTS_GO && n == 1 && strcmp(args[0], "operators") == 0) emb_operators_print(stdout), rc = 0;
    else if (what == SRV_OPTS_GO && n == 3 && strcmp(args[0], "quantize") == 0 && q.calibrate != NULL) rc = quantize(args[1], args[2]);
    else if (what == SRV_OPTS_GO) fputs("likeness: model: say inspect, operators, run FILE.onnx with --output-dir, or quantize IN.onnx OUT.onnx with --calibrate (see likeness model --help)\n", stderr);
    free(args);
    return rc;
}
