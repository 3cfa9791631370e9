/* model_opts.h: the settings with which every command that embeds opens its model. */
#ifndef LK_MODEL_OPTS_H
#define LK_MODEL_OPTS_H

#include "embed.h"
#include "options.h"

typedef struct {
    const char *path, *output; /* NULL: the built-in model; what emb_model_options says */
    uint32_t precision;        /* an emb_precision */
} srv_model_opts;

/* Rows of a table of srv_opt. m: a static srv_model_opts; who: "" or "COMMANDS: " that they concern. */
#define SRV_MODEL_FILE(m, who) {"model", "FILE.onnx", SRV_OPT_TEXT, &(m).path, 0, 0, who "embedding model (the built-in one)"}
#define SRV_MODEL_OUTPUT(m, who) \
    {"output", "NODE", SRV_OPT_TEXT, &(m).output, 0, 0, who "the embedding: a value or node of the model, - its output as it is (chosen: see model inspect)"}
#define SRV_MODEL_PRECISION(m, who)                                                        \
    {"precision", "auto|fp32|fp16|bf16|int8", SRV_OPT_CHOICE, &(m).precision, 0, 0,        \
     who "arithmetic of the model; auto is the fastest that keeps cosine 0.999 to fp32 (auto)"}

static inline emb_status srv_model_open(const srv_model_opts *o, emb_model **out, emb_error *err)
{
    return emb_model_open_with(o->path, &(emb_model_options){(emb_precision) o->precision, o->output}, out, err);
}

/* One run on a grey picture: reads every weight, touches the arena, and proves that the model works here. false: err says why not. */
bool srv_model_try(const emb_model *m, char err[320]);

#endif
