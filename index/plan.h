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
    bool filtered, exact, walk; /* walk: graphs, where there are some, even if all could be compared in the same time */
    uint64_t matches; /* items that match the filter */
    uint32_t want;    /* items */
    uint32_t effort;
} idx_plan_query;

/* Rows that are kept at first, of which several may be of one item. */
static inline uint64_t idx_plan_room(const idx_plan_query *q) { return q->want * 2u + 16; }

/* Under the shared lock. */
idx_plan idx_plan_choose(const idx_cat *c, const idx_plan_query *q);
/* Without a filter and with so much effort, comparing the living rows of all graphs in their order costs no more than walking them, and misses
 * none. */
bool idx_plan_is_flat(const idx_cat *c, const idx_plan_query *q);
/* Images of matching items. */
double idx_plan_images(const idx_cat *c, const idx_plan_query *q);
/* Of the best rows, how many the lists that are not read may be expected to have. */
double idx_plan_list_misses(const idx_plan_query *q);
typedef enum { IDX_FIND_NOTHING, IDX_FIND_COUNTS, IDX_FIND_PLACES } idx_plan_find;
/* After `tests` rows of lists, `compared` of which matched, and `before` rows that were asked earlier with this filter: whether finding the places
 * of all matches in the lists is the cheaper way to come to more, or would have been; or counting them, where that can be done and was not: it
 * says where none are. */
idx_plan_find idx_plan_find_places(const idx_cat *c, const idx_plan_query *q, bool countable, uint64_t tests, uint64_t compared, uint64_t before);

#endif
