/* quantize_weights.c: weights to int8, one scale for each output channel. */
#include "quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static emb_status no_memory(emb_quantizer *q) { return emb_fail(q->err, EMB_ENOMEM, "%s: no memory to quantise", q->g->file); }

/* Element i of the weights belongs to output channel i / inner % oc. */
static size_t inner_of(const emb_type *w, uint32_t axis)
{
    size_t inner = 1;
    for (uint32_t d = axis + 1; d < w->rank; d++) inner *= (size_t)w->dims[d];
    return inner;
}

static emb_status round_weights(emb_quantizer *q, size_t node)
{
    const emb_node *n = &q->g->nodes[node];
    emb_qnode *k = &q->nodes[node];
    const emb_value *w = &q->g->values[n->in[1]];
    const float *from = w->data, *bias = n->n_in > 2 && n->in[2] >= 0 ? q->g->values[n->in[2]].data : NULL;
    size_t count = (size_t)emb_elements(&w->type), inner = inner_of(&w->type, k->axis);
    k->oc = (uint32_t)w->type.dims[k->axis];
    k->w = malloc(count + 64);
    k->w_scale = calloc(k->oc, sizeof *k->w_scale);
    if (bias != NULL) k->bias = malloc(k->oc * sizeof *k->bias);
    if (k->w == NULL || k->w_scale == NULL || (bias != NULL && k->bias == NULL)) return no_memory(q);
    float in_scale = q->values[n->in[0]].scale;
    for (size_t i = 0; i < count; i++) k->w_scale[i / inner % k->oc] = fmaxf(k->w_scale[i / inner % k->oc], fabsf(from[i]));
    for (uint32_t o = 0; o < k->oc; o++) {
        float b = bias != NULL ? k->bias[o] = bias[emb_elements(&q->g->values[n->in[2]].type) == 1 ? 0 : o] : 0;
        /* a channel of zeros needs some scale, and the bias must fit 32 bits of in_scale * w_scale */
        k->w_scale[o] = fmaxf(k->w_scale[o] / 127, fmaxf(1e-9f, fabsf(b) / (in_scale * 0x1p29f)));
    }
    for (size_t i = 0; i < count; i++) {
        float v = rintf(from[i] / k->w_scale[i / inner % k->oc]);
        k->w[i] = (int8_t)fmaxf(-127, fminf(127, v));
    }
    return EMB_OK;
}

emb_status emb_quantize_weights(emb_quantizer *q)
{
    emb_status st = EMB_OK;
    for (size_t i = 0; st == EMB_OK && i < q->g->n_nodes; i++)
        if (q->nodes[i].eight && q->nodes[i].weighted) st = round_weights(q, i);
    return st;
}
