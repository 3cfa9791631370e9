/* bench_recall.h: `likeness bench recall`. */
#ifndef LK_BENCH_RECALL_H
#define LK_BENCH_RECALL_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const char *url, *key_file, *catalogue, *filter;
    uint64_t queries, among, limit;
    bool as_json;
} srv_recall;

/* Searches a catalogue for items like some of its own, once as always and once exactly, and compares. The exit status. */
int srv_bench_recall(const srv_recall *r);

#endif
