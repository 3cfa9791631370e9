/* precision_test.c: what a model is computed with, as asked for and as chosen. */
#include "embed.h"
#include "test.h"

#include <stdlib.h>
#include <string.h>

enum { SIDE = 96 };
static uint8_t px[SIDE * SIDE * 3];

/* The cosine of the model's embedding to `want`, or, without one, 1; the embedding goes to out. */
static double embed(const emb_model *m, const float *want, float *out)
{
    emb_workspace *ws = NULL;
    emb_error err = {0};
    REQUIRE(emb_workspace_new(m, &ws, &err) == EMB_OK);
    REQUIRE(emb_embed(m, ws, (emb_view){.px = px, .width = SIDE, .height = SIDE, .stride_bytes = SIDE * 3}, NULL, out, &err) == EMB_OK);
    emb_workspace_free(ws);
    double dot = 0;
    for (uint32_t i = 0; want != NULL && i < emb_model_get_info(m)->dim; i++) dot += (double)want[i] * (double)out[i];
    return want != NULL ? dot : 1;
}

static void test_float(void)
{
    static const emb_precision all[] = {EMB_PRECISION_F32, EMB_PRECISION_AUTO, EMB_PRECISION_F16, EMB_PRECISION_BF16};
    float exact[1024], got[1024];
    char fingerprint[65] = "";
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        emb_model *m = NULL;
        emb_error err = {0};
        const emb_status st = emb_model_open_with(NULL, &(emb_model_options){.precision = all[i]}, &m, &err);
        if (st != EMB_OK) { /* a processor without it */
            CHECK(i >= 2);
            CHECK_INT(st, EMB_EUNSUPPORTED);
            CHECK_CONTAINS(err.text, emb_precision_name(all[i]));
            CHECK_CONTAINS(err.text, "auto");
            continue;
        }
        const emb_model_info *info = emb_model_get_info(m);
        CHECK(all[i] == EMB_PRECISION_AUTO ? info->precision != EMB_PRECISION_AUTO : info->precision == all[i]);
        CHECK(info->precision_cosine >= 0.999f && info->precision_cosine <= 1);
        CHECK(embed(m, i > 0 ? exact : NULL, i > 0 ? got : exact) >= 0.999);
        if (i == 0) memcpy(fingerprint, info->fingerprint, sizeof fingerprint);
        CHECK_STR(info->fingerprint, fingerprint);
        emb_model_close(m);
    }
}

static void test_int8(void)
{
    static const char quantised[] = TEST_DATA "/onnx/int8_pairs.onnx";
    emb_model *m = NULL;
    emb_error err = {0};
    CHECK_INT(emb_model_open_with(NULL, &(emb_model_options){.precision = EMB_PRECISION_INT8}, &m, &err), EMB_EUNSUPPORTED);
    CHECK_CONTAINS(err.text, "likeness model quantize");
    float exact[1024], got[1024];
    REQUIRE(emb_model_open_with(quantised, &(emb_model_options){.precision = EMB_PRECISION_F32}, &m, &err) == EMB_OK);
    CHECK_INT(emb_model_get_info(m)->precision, EMB_PRECISION_F32);
    embed(m, NULL, exact);
    emb_model_close(m);
    REQUIRE(emb_model_open(quantised, &m, &err) == EMB_OK);
    CHECK_INT(emb_model_get_info(m)->precision, EMB_PRECISION_INT8);
    CHECK(embed(m, exact, got) >= 0.9999); /* the same numbers, in other places */
    emb_model_close(m);
}

int main(void)
{
    uint64_t seed = 11;
    for (size_t i = 0; i < sizeof px; i++) px[i] = (uint8_t)((i / 700 * 9 + test_rand(&seed) % 60) % 256);
    test_float();
    test_int8();
    return test_end();
}
