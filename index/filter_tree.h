/* filter_tree.h: a parsed filter, between filter.c and filter_eval.c. */
#ifndef LK_FILTER_TREE_H
#define LK_FILTER_TREE_H

#include "filter.h"

typedef enum { IDX_NODE_AND, IDX_NODE_OR, IDX_NODE_NOT, IDX_NODE_CMP } idx_node;
typedef enum { IDX_OP_EQ, IDX_OP_NE, IDX_OP_LT, IDX_OP_LE, IDX_OP_GT, IDX_OP_GE, IDX_OP_HAS } idx_filter_op;

struct idx_filter {
    idx_node kind;
    struct idx_filter *a, *b; /* of AND, OR, NOT (a alone) */
    char *field, *text;       /* of a comparison */
    idx_filter_op op;
    bool is_number, is_bool, truth, bare_star;
    uint16_t *stars, n_stars; /* where `text` holds a * that stands for any text */
    idx_number number;
};

bool idx_filter_star(idx_filter *f, size_t at); /* false = no memory */
/* The text of a comparison with its stars fits v. */
bool idx_filter_fits(const idx_filter *f, const char *v);

#endif
