/* Timings of a model's layers: every step is there, times add up, and the machine's figures make sense. */
#include "../../embed/cost.h"
#include "../../embed/model.h"
#include "test.h"

static void check(const emb_model *m, bool quantised)
{
    emb_timings *t = NULL;
    emb_error err = {0};
    emb_status st = emb_model_time(m, 0.05, &t, &err);
    if (st != EMB_OK) TEST_FAIL("%s", err.text);
    REQUIRE(st == EMB_OK);
    CHECK_INT(t->n_layers, m->plan->n_steps);
    CHECK(t->runs >= 10);
    double sum = 0;
    uint64_t macs = 0;
    for (size_t i = 0; i < t->n_layers; i++) {
        const emb_layer *l = &t->layers[i];
        CHECK(l->seconds > 0 && l->predicted > 0 && isfinite(l->predicted) && l->share >= 0 && isfinite(l->share));
        CHECK(l->bytes > 0 && l->parts[0] != 0 && l->kernel[0] != 0);
        sum += l->seconds;
        macs += l->macs;
    }
    CHECK(fabs(sum - t->sum) < 1e-9);
    CHECK(sum < 3 * t->seconds && t->seconds < 10 * sum); /* clocks at every step cost something, other processes more */
    CHECK_INT(macs, m->info.macs);
    for (size_t i = 0; i < t->n_peaks; i++) CHECK(t->peaks[i].per_second > 1e8);
    for (size_t i = 0; i < t->n_tiles; i++) CHECK(t->tiles[i].per_second > 0);
    for (int i = 0; i < 3; i++) CHECK(t->memory[i].fetch > 1e7 && t->memory[i].copy > 1e7);
    bool int8 = false;
    for (size_t i = 0; i < t->n_layers; i++) { /* by AVX2 alone the tables for floats and for bytes have the same name */
        const emb_step *s = &m->plan->steps[i];
        int8 |= s->q8 != NULL;
        CHECK_STR(t->layers[i].table, s->kind == EMB_STEP_GENERAL ? "" : s->q8 != NULL ? m->plan->q8->name : m->plan->k->name);
    }
    CHECK(int8 == quantised);
    emb_timings_free(t);
}

/* The parts of a step's predicted time add up, and more work takes longer. */
static void test_cost(const emb_model *m)
{
    emb_cost *c = NULL;
    REQUIRE(emb_cost_new(m->plan, &c, NULL) == EMB_OK);
    for (size_t i = 0; i < m->plan->n_steps; i++) {
        emb_step s = m->plan->steps[i];
        double parts[EMB_COST_PARTS], sum = 0, total = emb_cost_step(c, &s, parts);
        for (int k = 0; k < EMB_COST_PARTS; k++) {
            CHECK(parts[k] >= 0);
            sum += parts[k];
        }
        CHECK(fabs(sum - total) <= 1e-9 * total);
        if (s.kind != EMB_STEP_CONV || !s.dense || s.strip > 0) continue;
        s.oh *= 4, s.ih *= 4;
        CHECK(emb_cost_step(c, &s, parts) > total);
    }
    static const double by_size[EMB_COST_SIZES] = {100, 100, 50, 50, 50, 50, 10, 10, 10, 10, 10, 10};
    CHECK(emb_cost_bandwidth(by_size, 1) == 100 && emb_cost_bandwidth(by_size, 1 << 30) == 10);
    double between = emb_cost_bandwidth(by_size, 48 << 10);
    CHECK(between < 100 && between > 50);
    emb_cost_free(c);
}

static void check_file(const char *name, const emb_model_options *o, bool quantised)
{
    char path[512];
    emb_model *m = NULL;
    emb_error err = {0};
    snprintf(path, sizeof path, "%s/onnx/%s.onnx", TEST_DATA, name);
    if (emb_model_open_with(path, o, &m, &err) != EMB_OK) TEST_FAIL("%s", err.text);
    REQUIRE(m != NULL);
    check(m, quantised);
    emb_model_close(m);
}

int main(void)
{
    emb_model *m = NULL;
    REQUIRE(emb_model_open_builtin(&m, NULL) == EMB_OK);
    check(m, false);
    test_cost(m);
    emb_model_close(m);
    check_file("squeeze_hardswish", &(emb_model_options){.precision = EMB_PRECISION_F32}, false);
    check_file("squeeze_hardswish", &(emb_model_options){.precision = EMB_PRECISION_AUTO}, false);
    check_file("attention", NULL, false); /* operators without kernels */
    check_file("dense", NULL, false);
    check_file("int8_pairs", NULL, true);
    return test_end();
}
