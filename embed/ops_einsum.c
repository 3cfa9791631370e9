/* ops_einsum.c: Einsum of one or more operands, with repeated letters, an ellipsis and an output left out. Source: the ONNX operator
 * reference, Einsum-12. */
#include "ops.h"

#include <string.h>

enum { LETTERS = 52, ELLIPSIS = LETTERS, LABELS = LETTERS + EMB_MAX_RANK, OPERANDS = 8 };

typedef struct { /* labels: letters, then the dimensions of the ellipsis from the right: ELLIPSIS is the last one */
    uint32_t n, label[EMB_MAX_RANK];
} term;

typedef struct {
    term in[OPERANDS], out;
    int64_t dim[LABELS];                      /* -1 = not used; 1 = also what is spread over a longer one */
    uint32_t n_order, order[LABELS], n_outer; /* labels of the output, then those that are summed over */
} einsum;

static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static uint32_t label_of(char letter) { return (uint32_t)(letter >= 'a' ? letter - 'a' : 26 + letter - 'A'); }

/* The labels of text[0..n) for a value of that rank; ellipsis: how many dimensions "..." stands for where rank is UINT32_MAX. */
static bool read_term(const char *text, size_t n, uint32_t rank, uint32_t ellipsis, term *t)
{
    uint32_t letters = 0;
    const char *dots = NULL;
    for (size_t i = 0; i < n; i++) {
        if (text[i] == '.' && dots == NULL && n - i >= 3 && strncmp(text + i, "...", 3) == 0) dots = text + i, i += 2;
        else if (is_letter(text[i])) letters++;
        else if (text[i] != ' ') return false;
    }
    if (rank == UINT32_MAX) rank = letters + (dots != NULL ? ellipsis : 0);
    if (rank > EMB_MAX_RANK || letters > rank || (dots == NULL && letters != rank)) return false;
    t->n = 0;
    for (size_t i = 0; i < n; i++) {
        if (text + i == dots) {
            for (uint32_t k = rank - letters; k > 0; k--) t->label[t->n++] = ELLIPSIS + k - 1;
            i += 2;
        } else if (text[i] != ' ') {
            t->label[t->n++] = label_of(text[i]);
        }
    }
    return true;
}

/* Dimensions of an operand's labels. */
static bool learn_dims(einsum *e, const term *t, const emb_type *x)
{
    for (uint32_t i = 0; i < t->n; i++) {
        int64_t *d = &e->dim[t->label[i]], is = x->dims[i];
        if (*d < 0 || (*d == 1 && t->label[i] >= ELLIPSIS)) *d = is;
        else if (is != *d && !(is == 1 && t->label[i] >= ELLIPSIS)) return false;
    }
    return true;
}

/* Without "->": the ellipsis, then the letters that occur once, in alphabetical order, capitals first. */
static bool implied_output(einsum *e, uint32_t operands)
{
    uint32_t seen[LABELS] = {0};
    for (uint32_t k = 0; k < operands; k++)
        for (uint32_t i = 0; i < e->in[k].n; i++) seen[e->in[k].label[i]]++;
    for (uint32_t i = 0; i < LABELS; i++) {
        const uint32_t label = i < EMB_MAX_RANK ? LABELS - 1 - i : (i - EMB_MAX_RANK + 26) % LETTERS;
        if (seen[label] == 0 || (label < ELLIPSIS && seen[label] > 1)) continue;
        if (e->out.n == EMB_MAX_RANK) return false;
        e->out.label[e->out.n++] = label;
    }
    return true;
}

static emb_status read_equation(const emb_call *c, einsum *e)
{
    const Onnx__Attribute *a = emb_attr(c->node->proto, "equation");
    if (a == NULL || !a->has_s || memchr(a->s.data, 0, a->s.len) != NULL || a->s.len == 0) return emb_call_fail(c, EMB_EFORMAT, "it has no equation");
    if (c->n_in > OPERANDS) return emb_call_fail(c, EMB_EUNSUPPORTED, "more than %d operands are not supported", OPERANDS);
    const char *text = (const char *)a->s.data, *end = text + a->s.len, *arrow = memchr(text, '-', a->s.len);
    const char *left_end = arrow != NULL ? arrow : end;
    memset(e, 0, sizeof *e);
    for (uint32_t i = 0; i < LABELS; i++) e->dim[i] = -1;
    bool ok = arrow == NULL || (end - arrow >= 2 && arrow[1] == '>');
    uint32_t ellipsis = 0;
    for (uint32_t k = 0; ok && k < c->n_in; k++) {
        const char *comma = memchr(text, ',', (size_t)(left_end - text)), *stop = comma != NULL ? comma : left_end;
        ok = (comma != NULL) == (k + 1 < c->n_in) && read_term(text, (size_t)(stop - text), c->in[k].type.rank, 0, &e->in[k]) &&
             learn_dims(e, &e->in[k], &c->in[k].type);
        for (uint32_t i = 0; ok && i < e->in[k].n; i++)
            if (e->in[k].label[i] >= ELLIPSIS && e->in[k].label[i] - ELLIPSIS + 1 > ellipsis) ellipsis = e->in[k].label[i] - ELLIPSIS + 1;
        text = stop + (comma != NULL);
    }
    if (ok && arrow != NULL) ok = read_term(arrow + 2, (size_t)(end - arrow - 2), UINT32_MAX, ellipsis, &e->out);
    else if (ok) ok = implied_output(e, c->n_in);
    bool used[LABELS] = {false};
    for (uint32_t i = 0; ok && i < e->out.n; i++) {
        bool known = false;
        for (uint32_t k = 0; k < c->n_in; k++)
            for (uint32_t j = 0; j < e->in[k].n; j++) known |= e->in[k].label[j] == e->out.label[i];
        ok = known && !used[e->out.label[i]];
        used[e->out.label[i]] = true;
        e->order[e->n_order++] = e->out.label[i];
    }
    if (!ok) return emb_call_fail(c, EMB_EFORMAT, "equation %.*s does not fit its operands", (int)(a->s.len < 80 ? a->s.len : 80), (const char *)a->s.data);
    e->n_outer = e->n_order;
    for (uint32_t k = 0; k < c->n_in; k++)
        for (uint32_t j = 0; j < e->in[k].n; j++) {
            if (used[e->in[k].label[j]]) continue;
            used[e->in[k].label[j]] = true;
            e->order[e->n_order++] = e->in[k].label[j];
        }
    return EMB_OK;
}

double emb_einsum_products(const emb_call *c)
{
    einsum e;
    double n = c->n_in;
    if (read_equation(c, &e) != EMB_OK) return 0;
    for (uint32_t i = 0; i < e.n_order; i++) n *= (double)e.dim[e.order[i]];
    return n;
}

emb_status emb_op_einsum_infer(emb_call *c)
{
    einsum e;
    for (uint32_t k = 0; k < c->n_in; k++)
        if (!emb_has(c, k) || c->in[k].type.dtype != EMB_F32) return emb_call_fail(c, EMB_EUNSUPPORTED, "of other numbers than float");
    emb_status st = read_equation(c, &e);
    if (st != EMB_OK) return st;
    c->out[0].type = (emb_type){.dtype = EMB_F32, .rank = e.out.n};
    for (uint32_t i = 0; i < e.out.n; i++) c->out[0].type.dims[i] = e.dim[e.out.label[i]];
    return EMB_OK;
}

/* step[k][i]: floats from one index of the i-th label to the next in operand k; a repeated letter walks a diagonal. */
static void read_steps(const emb_call *c, const einsum *e, size_t step[OPERANDS][LABELS])
{
    for (uint32_t k = 0; k < c->n_in; k++) {
        size_t stride = 1, of[LABELS] = {0};
        for (uint32_t d = e->in[k].n; d-- > 0;) {
            if (c->in[k].type.dims[d] > 1) of[e->in[k].label[d]] += stride;
            stride *= (size_t)c->in[k].type.dims[d];
        }
        for (uint32_t i = 0; i < e->n_order; i++) step[k][i] = of[e->order[i]];
    }
}

/* The next combination of the labels first..last: false after the last one, when all are 0 again. */
static bool advance(const emb_call *c, const einsum *e, uint32_t first, uint32_t last, int64_t *index, const float **at, size_t step[OPERANDS][LABELS])
{
    for (uint32_t i = last; i-- > first;) {
        const bool more = ++index[i] < e->dim[e->order[i]];
        for (uint32_t k = 0; k < c->n_in; k++) at[k] += more ? (ptrdiff_t)step[k][i] : -(ptrdiff_t)step[k][i] * (index[i] - 1);
        if (more) return true;
        index[i] = 0;
    }
    return false;
}

emb_status emb_op_einsum_run(emb_call *c)
{
    einsum e;
    emb_status st = read_equation(c, &e);
    if (st != EMB_OK) return st;
    size_t step[OPERANDS][LABELS];
    const float *at[OPERANDS];
    int64_t index[LABELS] = {0};
    float *out = c->out[0].data;
    read_steps(c, &e, step);
    for (uint32_t k = 0; k < c->n_in; k++) at[k] = c->in[k].data;
    for (uint32_t i = 0; i < e.n_order; i++)
        if (e.dim[e.order[i]] == 0) {
            memset(out, 0, emb_type_bytes(&c->out[0].type));
            return EMB_OK;
        }
    do {
        double sum = 0;
        do {
            double product = 1;
            for (uint32_t k = 0; k < c->n_in; k++) product *= (double)*at[k];
            sum += product;
        } while (advance(c, &e, e.n_outer, e.n_order, index, at, step));
        *out++ = (float)sum;
    } while (advance(c, &e, 0, e.n_outer, index, at, step));
    return EMB_OK;
}
