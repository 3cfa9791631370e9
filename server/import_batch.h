/* import_batch.h: records -> the body of one items:batch, and its answer -> what became of each. */
#ifndef LK_IMPORT_BATCH_H
#define LK_IMPORT_BATCH_H

#include "import_known.h"
#include "import_source.h"

enum { SRV_BATCH_LINES = 256, SRV_BATCH_BYTES = 8 << 20 };

typedef struct {
    char *body;
    size_t n, room;
    srv_record *records[SRV_BATCH_LINES]; /* borrowed; one a line, in order */
    uint32_t lines;
} srv_batch;

typedef enum {
    SRV_BATCHED,   /* a line was added */
    SRV_UNCHANGED, /* the server holds exactly this */
    SRV_UNREADABLE /* why[] says so */
} srv_batch_result;

void srv_batch_clear(srv_batch *b); /* keeps the memory */
void srv_batch_fini(srv_batch *b);
bool srv_batch_is_full(const srv_batch *b);
/* Reads the record's photos. known NULL: everything is sent. Photos that the server holds already are not sent again when
 * only attributes changed. */
srv_batch_result srv_batch_add(srv_batch *b, srv_record *r, const srv_known *known, char why[320]);

/* Calls seen for every answered line: code NULL = written. false: the answer is not what was asked for. */
bool srv_batch_answers(const srv_batch *b, const char *text, size_t n,
                       void (*seen)(void *ctx, srv_record *r, int status, const char *code, const char *detail), void *ctx);

#endif
