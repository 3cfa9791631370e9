/* plan.h: how a search finds its candidates, chosen by what each way would cost. */
#ifndef LK_PLAN_H
#define LK_PLAN_H

#include "catalogue.h"

typedef enum {
    IDX_PLAN_FLAT,  /* every image is compared */
    IDX_PLAN_SCAN,  /* every image of a matching item is compared */
    IDX_PLAN_LISTS, /* the matching images of the nearest lists are compared (parts.h) */
    IDX_PLAN_GRAPH, /* the graphs are walked; with a filter, forbidden rows are stepped over */
} idx_plan;

const char *idx_plan_name(idx_plan plan, bool filtered);

typedef struct {
    bool filtered, exact;
    uint64_t matches; /* items that match the filter */
    uint32_t want;    /* items */
    uint32_t effort;
} idx_plan_query;

/* Under the shared lock. */
idx_plan idx_plan_choose(const idx_cat *c, const idx_plan_query *q);
/* Matching images that lists compare at least, and in a row without a better one before they stop. */
uint32_t idx_plan_list_rows(const idx_plan_query *q);
uint32_t idx_plan_list_patience(const idx_plan_query *q);
/* After `tests` rows of lists, `compared` of which matched, `left` more are wanted: whether finding the places of all matches in the
 * lists is the cheaper way to come to them. */
bool idx_plan_find_places(const idx_cat *c, const idx_plan_query *q, uint64_t tests, uint64_t compared, uint64_t left);
/* Whether fewer of those rows matched than of all: matches are far from the query. */
bool idx_plan_is_far(const idx_cat *c, const idx_plan_query *q, uint64_t tests, uint64_t compared);

#endif
