/* inspect.c: what a model is and what the plan made of it, as text. */
#include "model.h"

#include <inttypes.h>
#include <string.h>

static void print_type(FILE *to, const emb_type *t)
{
    fprintf(to, "%s [", emb_dtype_name(t->dtype));
    for (uint32_t i = 0; i < t->rank; i++) fprintf(to, "%s%" PRId64, i > 0 ? ", " : "", t->dims[i]);
    fputc(']', to);
}

static void print_operators(FILE *to, const emb_graph *g)
{
    fputs("operators    ", to);
    for (size_t k = 0, first = 1; k < emb_ops_count; k++) {
        size_t n = 0;
        for (size_t i = 0; i < g->n_nodes; i++) n += g->nodes[i].op == &emb_ops[k] && !g->nodes[i].folded;
        if (n > 0) fprintf(to, "%s%s %zu", first ? "" : ", ", emb_ops[k].name, n), first = 0;
    }
    fputc('\n', to);
}

void emb_operators_print(FILE *to)
{
    for (size_t i = 0; i < emb_ops_count; i++) fprintf(to, emb_ops[i].note != NULL ? "%-40s %s\n" : "%s\n", emb_ops[i].name, emb_ops[i].note);
    fprintf(to, "%zu operators, opsets %d to %d\n", emb_ops_count, EMB_OPSET_FIRST, EMB_OPSET_LAST);
}

static void print_steps(FILE *to, const emb_plan *p)
{
    fprintf(to, "\n%-4s %-12s %-26s %-22s %4s %9s\n", "step", "kernel", "in -> out", "fused", "rows", "MMACs");
    for (size_t i = 0; i < p->n_steps; i++) {
        const emb_step *s = &p->steps[i];
        char shape[64];
        snprintf(shape, sizeof shape, "%ux%ux%u -> %ux%ux%u", s->ih, s->iw, s->ic, s->oh, s->ow, s->oc);
        char rows[16] = "all"; /* how many a step of a chain makes at a time */
        if (s->strip > 0) snprintf(rows, sizeof rows, "%u", s->strip);
        fprintf(to, "%-4zu %-12s %-26s %-22s %4s %9.3f\n", i, s->kind == EMB_STEP_GENERAL ? s->node->op->name : emb_step_name(s->kind), shape,
                s->fused != NULL ? s->fused : "", rows, (double)s->macs / 1e6);
    }
}

void emb_model_inspect(const emb_model *m, FILE *to, bool layers)
{
    static const char *const fit[] = {"crop", "squash", "pad"};
    const emb_graph *g = m->graph;
    const emb_model_info *i = &m->info;
    fprintf(to, "model        %s (%s)\nfingerprint  %s\nopset        %" PRId64 "\n", i->name, i->source, i->fingerprint, g->opset);
    for (size_t k = 0; k < g->n_inputs; k++) {
        fprintf(to, "input        %s ", g->values[g->inputs[k]].name);
        print_type(to, &g->values[g->inputs[k]].type);
        fputc('\n', to);
    }
    for (size_t k = 0; k < g->n_outputs; k++) {
        fprintf(to, "output       %s ", g->values[g->outputs[k]].name);
        print_type(to, &g->values[g->outputs[k]].type);
        fprintf(to, "  <- the embedding%s%s\n", g->chosen[0] != 0 ? ": " : "", g->chosen);
        if (g->hint[0] != 0) fprintf(to, "             %s\n", g->hint);
    }
    fprintf(to, "preprocess   %s to %ux%u", fit[m->pp.fit], m->pp.w, m->pp.h);
    if (m->pp.fit == EMB_FIT_CROP) fprintf(to, " of %u", m->pp.resize);
    fprintf(to, ", %s, mean %g %g %g, std %g %g %g\n", emb_filter_name(m->pp.filter), (double)m->pp.mean[0], (double)m->pp.mean[1], (double)m->pp.mean[2], (double)m->pp.std[0],
            (double)m->pp.std[1], (double)m->pp.std[2]);
    fprintf(to, "size         %.3f M parameters, %.2f M multiply-adds, arena %.2f MB\n", (double)i->parameters / 1e6, (double)i->macs / 1e6,
            (double)m->plan->arena_bytes / 1e6);
    fprintf(to, "precision    %s", emb_precision_name(i->precision));
    if (i->precision_cosine < 1) fprintf(to, ", cosine to fp32 at least %.6f", (double)i->precision_cosine);
    fprintf(to, "\nkernels      %s, OpenBLAS %s\n", m->plan->k->name, emb_blas_core());
    print_operators(to, g);
    if (layers) print_steps(to, m->plan);
}
