/* folder_check.c: folder_check DIR: opens a data folder as the server does, states every invariant of the index, does the
 * work that waits, and states them again. DIR should be a copy: opening mends what a crash has left. */
#include "../../index/index.h"

#include <stdio.h>

static void say(void *ctx, int level, const char *text)
{
    (void) ctx;
    if (level > 0) fprintf(stderr, "%s\n", text);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fputs("usage: folder_check DIR\n", stderr);
        return 2;
    }
    idx_opts opts = {.segment_images = 16, .no_background = true, .log = say};
    idx *ix = NULL;
    idx_error err = {0};
    idx_status st = idx_open(argv[1], &opts, &ix, &err);
    if (st == IDX_OK) st = idx_check(ix, &err);
    if (st == IDX_OK) st = idx_maintain(ix, &err);
    if (st == IDX_OK) st = idx_check(ix, &err);
    if (st != IDX_OK) fprintf(stderr, "%s\n", err.text);
    idx_close(ix);
    return st == IDX_OK ? 0 : 1;
}
