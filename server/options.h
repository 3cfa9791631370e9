/* options.h: settings of a command from one table: flags, LIKENESS_* variables and an optional file say the same things
 * under the same names. `max-queue` is --max-queue N, LIKENESS_MAX_QUEUE=N and the line `max-queue = N`.
 *
 * Precedence: flags, then the environment, then the file, then the value that was there before. Anything unknown stops
 * with one line that names it. Not thread-safe: call it once at the start. */
#ifndef LK_OPTIONS_H
#define LK_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    SRV_OPT_FLAG,   /* bool *: --name, --name=false, LIKENESS_NAME=true */
    SRV_OPT_TEXT,   /* const char **: borrowed from argv or the environment, or kept for the program's life */
    SRV_OPT_CHOICE, /* uint32_t *: which of the words of `arg`, which are separated by | */
    SRV_OPT_LIST,   /* srv_opt_list *: the flag may repeat; elsewhere the values are separated by commas */
    SRV_OPT_COUNT,  /* uint64_t *: a whole number within min..max */
    SRV_OPT_BYTES,  /* uint64_t *: a whole number with an optional K, M or G (1,024 each) */
    SRV_OPT_MILLIS, /* uint64_t *: milliseconds; with s, m or h after the number: seconds, minutes, hours */
    SRV_OPT_REAL,   /* double * within min..max */
} srv_opt_type;

typedef struct {
    const char **items;
    size_t n;
} srv_opt_list;

typedef struct {
    const char *name; /* long name without the dashes */
    const char *arg;  /* shown in the help: "N", "FILE"; NULL for a flag */
    srv_opt_type type;
    void *value;
    uint64_t min, max; /* of numbers, in the unit of value; max 0 = no bound */
    const char *help;  /* one line; the default is part of it */
} srv_opt;

typedef struct {
    const char *usage;   /* "likeness serve [OPTIONS]" */
    const char *about;   /* a few lines under it */
    const srv_opt *opts;
    size_t n_opts;
    bool settings;       /* also the environment and --config FILE; unknown LIKENESS_* variables are errors */
} srv_opts;

typedef enum { SRV_OPTS_GO, SRV_OPTS_HELP, SRV_OPTS_WRONG } srv_opts_result;

/* Reads everything into the table's values. What is no option stays in args[0..*n_args) (borrowed from argv; args has room
 * for argc pointers). SRV_OPTS_HELP: the help was printed to stdout; SRV_OPTS_WRONG: the reason went to stderr. */
srv_opts_result srv_opts_read(const srv_opts *o, int argc, char **argv, char **args, int *n_args);

#endif
