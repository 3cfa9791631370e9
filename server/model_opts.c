/* model_opts.c: see model_opts.h. */
#include "model_opts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool srv_model_try(const emb_model *m, char err[320])
{
    enum { SIDE = 64 };
    uint8_t grey[SIDE * SIDE * 3];
    memset(grey, 128, sizeof grey);
    emb_error e = {0};
    emb_workspace *ws = NULL;
    float *out = malloc(emb_model_get_info(m)->dim * sizeof *out);
    emb_status st = out == NULL ? EMB_ENOMEM : emb_workspace_new(m, &ws, &e);
    if (st == EMB_OK) st = emb_embed(m, ws, (emb_view){.px = grey, .width = SIDE, .height = SIDE, .stride_bytes = SIDE * 3}, NULL, out, &e);
    emb_workspace_free(ws);
    free(out);
    if (st != EMB_OK) snprintf(err, 320, "the model does not run: %.280s", st == EMB_ENOMEM && e.text[0] == 0 ? "no memory for an embedding" : e.text);
    return st == EMB_OK;
}
