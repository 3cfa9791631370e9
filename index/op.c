/* op.c: operations, from where they are made until the writer has them: see writer.c. */
#include "index_priv.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- made and checked --------------------------------------------------------------------------------------- */

idx_op *idx_op_new(idx_op_kind kind, const char *catalogue, const char *item)
{
    idx_op *op = calloc(1, sizeof *op);
    if (op == NULL) return NULL;
    op->kind = kind;
    op->catalogue = strdup(catalogue);
    op->item = strdup(item);
    if (op->catalogue == NULL || op->item == NULL) {
        idx_op_free(op);
        return NULL;
    }
    return op;
}

void idx_op_free(idx_op *op)
{
    if (op == NULL) return;
    for (size_t i = 0; i < op->n_images; i++) {
        free(op->images[i].embedding);
        free(op->images[i].rendition);
    }
    free(op->images);
    free(op->catalogue);
    free(op->item);
    free(op->attributes);
    free(op);
}

static bool printable(const char *s)
{
    for (; *s; s++)
        if ((uint8_t)*s < 0x20 || (uint8_t)*s == 0x7f) return false;
    return true;
}

static idx_status check_images(const idx_op *op, idx_error *err)
{
    if (op->n_images > IDX_MAX_IMAGES)
        return idx_fail(err, IDX_EINVAL, "item %.100s has %zu images, the limit is %d", op->item, op->n_images, IDX_MAX_IMAGES);
    for (size_t i = 0; i < op->n_images; i++) {
        double norm = 0;
        for (uint32_t k = 0; k < op->dim; k++) norm += (double)op->images[i].embedding[k] * (double)op->images[i].embedding[k];
        if (!(fabs(norm - 1) < 1e-3))
            return idx_fail(err, IDX_EINVAL, "the embedding of image %zu has the squared length %g, not 1", i, norm);
    }
    return IDX_OK;
}

static idx_status check_op(const idx_op *op, idx_error *err)
{
    size_t n = strlen(op->item);
    if ((int)op->kind >= IDX_OP_CATALOGUE_PUT) return IDX_OK;
    if (n < 1 || n > IDX_MAX_ID_BYTES) return idx_fail(err, IDX_EINVAL, "the item id has %zu bytes; 1 to %d are allowed", n, IDX_MAX_ID_BYTES);
    if (!printable(op->item)) return idx_fail(err, IDX_EINVAL, "the item id holds a control character");
    if (op->kind == IDX_PUT && op->attributes != NULL) {
        idx_status st = idx_attrs_validate(op->attributes, err);
        if (st != IDX_OK) return st;
    }
    return check_images(op, err);
}

/* ---- submission ------------------------------------------------------------------------------------------------- */

idx_status idx_submit_take(idx *ix, idx_op *op, idx_error *err)
{
    idx_status st = check_op(op, err);
    if (st == IDX_OK && atomic_load(&ix->read_only))
        st = idx_fail(err, IDX_EIO, "the storage failed earlier; nothing is written until the server is restarted");
    if (st == IDX_OK) {
        pthread_mutex_lock(&ix->queue_lock);
        if (ix->closing || ix->queued >= ix->opts.max_queue)
            st = idx_fail(err, IDX_EBUSY, "%zu writes are waiting, the limit is %zu", ix->queued, ix->opts.max_queue);
        else {
            op->next = NULL;
            if (ix->tail != NULL) ix->tail->next = op;
            else ix->head = op;
            ix->tail = op;
            ix->queued++;
            pthread_cond_signal(&ix->queue_filled);
        }
        pthread_mutex_unlock(&ix->queue_lock);
    }
    if (st != IDX_OK) idx_op_free(op);
    return st;
}

typedef struct {
    pthread_mutex_t lock;
    pthread_cond_t finished;
    bool done, created;
    idx_status st;
    idx_error err;
} waiter;

static void wait_done(idx_op *op, void *ctx)
{
    waiter *w = ctx;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    w->created = op->created;
    w->st = op->status;
    w->err = op->error;
    pthread_cond_signal(&w->finished);
    pthread_mutex_unlock(&w->lock);
}

idx_status idx_write_take(idx *ix, idx_op *op, bool *created, idx_error *err)
{
    waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};
    op->done = wait_done;
    op->ctx = &w;
    idx_status st = idx_submit_take(ix, op, err);
    if (st != IDX_OK) return st;
    pthread_mutex_lock(&w.lock);
    while (!w.done) pthread_cond_wait(&w.finished, &w.lock);
    pthread_mutex_unlock(&w.lock);
    if (created != NULL) *created = w.created;
    if (w.st != IDX_OK && err != NULL && err->status == IDX_OK) *err = w.err;
    return w.st;
}
