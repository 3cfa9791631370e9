/* batch.h: a batch and its lines, for batch.c (answers, writes, the work on one line) and batch_feed.c (bytes to lines). */
#ifndef LK_API_BATCH_INTERNAL_H
#define LK_API_BATCH_INTERNAL_H

#include "internal.h"

#include <pthread.h>

typedef enum { QUEUED, READY, SUBMITTED, ANSWERED } line_state;

typedef struct line {
    api_task task; /* first: the server hands it back */
    api_batch *b;
    struct line *next;
    uint64_t number;
    char *text; /* until the task has run */
    size_t text_bytes, text_room;
    line_state state;
    idx_op *op; /* while READY */
    uint64_t submitted_ns;
    api_buf answer;
} line;

struct api_batch {
    pthread_mutex_t mutex;
    pthread_cond_t idle; /* no wake() is running */
    api_ctx *cx;
    idx_catalogue cat; /* as it was when the batch began; the index checks again */
    api_batch_io io;
    /* Only the server's thread that feeds touches these: */
    char *cur; /* the line that is arriving */
    size_t cur_n, cur_cap;
    bool skipping; /* the rest of a line that was too long, or */
    bool unheld;   /* for which malloc had no memory, or */
    bool crowded;  /* the budget, and no line of this batch will give some back */
    bool full;     /* max_lines passed: the rest is dropped */
    bool ended;
    uint64_t lines_seen;
    /* Under the mutex: */
    line *head, *tail, *cursor;
    uint32_t inflight;
    size_t inflight_bytes;
    bool starved;    /* feed() stopped for want of room */
    bool submitting; /* a thread is moving the cursor */
    bool closed;
    unsigned waking;
    size_t refs; /* the owner, and each line in flight */
    api_buf out; /* failed: the order of answers can no longer be kept */
    size_t out_at, out_held;
    api_hold hold; /* `cur`, the texts in flight, `out` in steps */
    api_batch_stats stats;
};

/* The task of a line: on a compute thread, or with w NULL to cancel. */
void api_batch_run_line(api_task *t, api_worker *w);
/* Writes the line's answer. Locked. */
void api_batch_fail_line(api_batch *b, line *l, const char *id, const api_fault *f);
/* The line's answer is written. Locked on entry, unlocked on return; b and l may be gone afterwards. wake: not for the
 * server's own thread inside feed(). */
void api_batch_answered(api_batch *b, line *l, bool wake);

#endif
