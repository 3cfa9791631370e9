/* quantize.h: `likeness model quantize`: photos in, a model of 8 bits and what it costs out. */
#ifndef LK_QUANTIZE_COMMAND_H
#define LK_QUANTIZE_COMMAND_H

#include "options.h"

typedef struct {
    const char *calibrate; /* a folder, .csv, .ndjson, as `likeness import` reads them */
    const char *label;     /* attribute that names the class of an item; NULL: "class", then "folder" */
    uint64_t photos;       /* to calibrate with */
    uint64_t evaluate;     /* to compare with */
    uint64_t threads;
    double percentile;     /* 0: least square error */
    srv_opt_list keep;
    bool quiet;
} srv_quantize_opts;

/* in: a file, or "-" for the built-in model. false: err says why. */
bool srv_quantize(const char *in, const char *out, const srv_quantize_opts *o, char err[400]);

#endif
