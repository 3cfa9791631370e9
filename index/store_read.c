/* store_read.c: every SQL statement that reads, on connections of their own. See store.h for who may call what. */
#include "store_read.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { R_CATALOGUES, R_BEGIN, R_END, R_LIST, R_ITEMS, R_ALL_ITEMS, R_VECTORS, R_ITEM, R_RECORD, R_RENDITION, R_EMBEDDINGS, R_CHANGES, R_ATTRIBUTES, R_COUNT };
static const char *const read_sql[R_COUNT] = {
    "SELECT id, name, model, fingerprint, dim, generation, created_ms, storage, kept FROM catalogues ORDER BY name",
    "BEGIN",
    "COMMIT",
    "SELECT id FROM items WHERE catalogue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    "SELECT rowid, catalogue, id, first_image, length(images), attributes FROM items WHERE catalogue = ?1 ORDER BY rowid",
    "SELECT rowid, catalogue, id, first_image, length(images), NULL FROM items ORDER BY rowid",
    "SELECT image, vector FROM embeddings WHERE image BETWEEN ?1 AND ?2 ORDER BY image",
    "SELECT id, attributes, created_ms, updated_ms, images FROM items WHERE catalogue = ?1 AND id = ?2",
    "SELECT attributes, images FROM items WHERE rowid = ?1",
    "SELECT jpeg FROM items JOIN renditions ON renditions.image = first_image + ?3 WHERE catalogue = ?1 AND id = ?2 AND ?3 < length(images) / 40",
    ("SELECT vector FROM items JOIN embeddings ON image BETWEEN first_image AND first_image + length(images) / 40 - 1"
     " WHERE catalogue = ?1 AND id = ?2 ORDER BY image"),
    "SELECT generation, item, stamp FROM changes WHERE catalogue = ?1 AND generation >= ?2 ORDER BY generation",
    "SELECT attributes FROM items WHERE rowid = ?1",
};

struct idx_reader {
    sqlite3 *db;
    sqlite3_stmt *q[R_COUNT];
    idx_reader *next;
};
typedef idx_reader reader;

/* ---- the pool ------------------------------------------------------------------------------------------ */

static void reader_close(reader *r)
{
    if (r == NULL) return;
    for (int i = 0; i < R_COUNT; i++) sqlite3_finalize(r->q[i]);
    sqlite3_close(r->db);
    free(r);
}

static idx_status reader_open(const idx_readers *p, reader **out, idx_error *err)
{
    reader *r = calloc(1, sizeof *r);
    if (r == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a reader");
    idx_status st = IDX_OK;
    if (sqlite3_open_v2(p->path, &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
        sqlite3_exec(r->db, "PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-4096", NULL, NULL, NULL) != SQLITE_OK)
        st = idx_store_fail(r->db, "open a reader", err);
    for (int i = 0; st == IDX_OK && i < R_COUNT; i++)
        if (sqlite3_prepare_v3(r->db, read_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &r->q[i], NULL) != SQLITE_OK)
            st = idx_store_fail(r->db, "prepare", err);
    if (st != IDX_OK) reader_close(r);
    else *out = r;
    return st;
}

static idx_status reader_take(idx_store *s, reader **out, idx_error *err)
{
    idx_readers *p = idx_store_readers(s);
    pthread_mutex_lock(&p->lock);
    reader *r = p->idle;
    if (r != NULL) p->idle = r->next;
    pthread_mutex_unlock(&p->lock);
    if (r == NULL) return reader_open(p, out, err);
    *out = r;
    return IDX_OK;
}

/* A statement left open would stop checkpoints: every one is reset here. */
static void reader_give(idx_store *s, reader *r)
{
    for (int i = 0; i < R_COUNT; i++) {
        sqlite3_reset(r->q[i]);
        sqlite3_clear_bindings(r->q[i]);
    }
    idx_readers *p = idx_store_readers(s);
    pthread_mutex_lock(&p->lock);
    r->next = p->idle;
    p->idle = r;
    pthread_mutex_unlock(&p->lock);
}

void idx_readers_init(idx_readers *p, const char *path)
{
    *p = (idx_readers){.path = path};
    pthread_mutex_init(&p->lock, NULL);
}

void idx_readers_fini(idx_readers *p)
{
    for (reader *r = p->idle, *next; r != NULL; r = next) {
        next = r->next;
        reader_close(r);
    }
    pthread_mutex_destroy(&p->lock);
}

/* ---- what is asked ------------------------------------------------------------------------------------- */

static void copy_text(char *to, size_t size, sqlite3_stmt *q, int column)
{
    const char *t = (const char *)sqlite3_column_text(q, column);
    snprintf(to, size, "%s", t != NULL ? t : "");
}

idx_status idx_store_catalogues(idx_store *s, idx_catalogue_row **out, size_t *n, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    idx_catalogue_row *rows = NULL;
    size_t count = 0;
    int rc;
    while (st == IDX_OK && (rc = sqlite3_step(r->q[R_CATALOGUES])) != SQLITE_DONE) {
        idx_catalogue_row *more = rc == SQLITE_ROW ? realloc(rows, (count + 1) * sizeof *rows) : NULL;
        if (more == NULL) {
            st = rc == SQLITE_ROW ? idx_fail(err, IDX_ENOMEM, "no memory") : idx_store_fail(r->db, "list catalogues", err);
            break;
        }
        rows = more;
        idx_catalogue_row *c = &rows[count++];
        memset(c, 0, sizeof *c);
        c->id = sqlite3_column_int64(r->q[R_CATALOGUES], 0);
        copy_text(c->info.name, sizeof c->info.name, r->q[R_CATALOGUES], 1);
        copy_text(c->info.model, sizeof c->info.model, r->q[R_CATALOGUES], 2);
        copy_text(c->info.fingerprint, sizeof c->info.fingerprint, r->q[R_CATALOGUES], 3);
        c->info.dim = (uint32_t)sqlite3_column_int64(r->q[R_CATALOGUES], 4);
        c->info.generation = (uint64_t)sqlite3_column_int64(r->q[R_CATALOGUES], 5);
        c->info.created_ms = sqlite3_column_int64(r->q[R_CATALOGUES], 6);
        c->info.storage = (idx_storage)sqlite3_column_int(r->q[R_CATALOGUES], 7);
        c->info.kept = (idx_storage)sqlite3_column_int(r->q[R_CATALOGUES], 8);
    }
    reader_give(s, r);
    if (st != IDX_OK) {
        free(rows);
        return st;
    }
    *out = rows;
    *n = count;
    return IDX_OK;
}

static idx_status each_item(idx_store *s, int which, int64_t catalogue, idx_item_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[which];
    const bool attributes = which == R_ITEMS;
    if (attributes) sqlite3_bind_int64(q, 1, catalogue);
    int rc = SQLITE_ROW;
    while (st == IDX_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        idx_item_row row = {.rowid = sqlite3_column_int64(q, 0), .catalogue = sqlite3_column_int64(q, 1), .id = (const char *)sqlite3_column_text(q, 2)};
        row.first_image = sqlite3_column_int64(q, 3);
        row.n_images = (uint32_t)sqlite3_column_int(q, 4) / IDX_IMAGE_BYTES;
        row.attributes = (const char *)sqlite3_column_text(q, 5);
        st = row.id == NULL || (attributes && row.attributes == NULL) ? idx_fail(err, IDX_ENOMEM, "no memory to read items") : fn(ctx, &row);
    }
    if (st == IDX_OK && rc != SQLITE_DONE) st = idx_store_fail(r->db, "read items", err);
    sqlite3_reset(q);
    sqlite3_db_release_memory(r->db); /* megabytes of pages that a reader of all will not ask for again */
    reader_give(s, r);
    return st;
}

idx_status idx_store_each_item(idx_store *s, int64_t catalogue, idx_item_fn *fn, void *ctx, idx_error *err) { return each_item(s, R_ITEMS, catalogue, fn, ctx, err); }
idx_status idx_store_all_items(idx_store *s, idx_item_fn *fn, void *ctx, idx_error *err) { return each_item(s, R_ALL_ITEMS, 0, fn, ctx, err); }

idx_status idx_store_ids(idx_store *s, int64_t catalogue, const char *after, uint32_t limit, char ***out, size_t *n, idx_error *err)
{
    reader *r;
    char **ids = calloc((size_t)limit + 1, sizeof *ids);
    idx_status st = ids == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for a page") : reader_take(s, &r, err);
    if (st != IDX_OK) {
        free(ids);
        return st;
    }
    sqlite3_stmt *q = r->q[R_LIST];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_text(q, 2, after != NULL ? after : "", -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, limit);
    size_t count = 0;
    int rc = SQLITE_ROW;
    while (st == IDX_OK && count < limit && (rc = sqlite3_step(q)) == SQLITE_ROW)
        if ((ids[count++] = strdup((const char *)sqlite3_column_text(q, 0))) == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a page");
    if (st == IDX_OK && rc != SQLITE_DONE && rc != SQLITE_ROW) st = idx_store_fail(r->db, "list items", err);
    reader_give(s, r);
    *out = ids;
    *n = count;
    return st;
}

idx_status idx_store_attributes(idx_store *s, int64_t item, idx_attributes_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_ATTRIBUTES];
    sqlite3_bind_int64(q, 1, item);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) st = fn(ctx, item, (const char *)sqlite3_column_text(q, 0));
    else if (rc != SQLITE_DONE) st = idx_store_fail(r->db, "read attributes", err);
    sqlite3_reset(q);
    reader_give(s, r);
    return st;
}

idx_status idx_store_each_change(idx_store *s, int64_t catalogue, uint64_t from, idx_change_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_CHANGES];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_int64(q, 2, (int64_t)from);
    int rc = SQLITE_ROW;
    while (st == IDX_OK && (rc = sqlite3_step(q)) == SQLITE_ROW)
        st = fn(ctx, (uint64_t)sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), sqlite3_column_int64(q, 2));
    if (st == IDX_OK && rc != SQLITE_DONE) st = idx_store_fail(r->db, "read its log", err);
    reader_give(s, r);
    return st;
}

idx_status idx_store_vectors(idx_store *s, int64_t first, uint32_t n, uint32_t dim, idx_vector_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_VECTORS];
    sqlite3_bind_int64(q, 1, first);
    sqlite3_bind_int64(q, 2, first + n - 1);
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) {
        int rc = sqlite3_step(q);
        if (rc == SQLITE_ROW && sqlite3_column_int64(q, 0) == first + i && sqlite3_column_bytes(q, 1) == (int)(dim * sizeof(float)))
            st = fn(ctx, first + i, sqlite3_column_blob(q, 1), dim);
        else if (rc == SQLITE_ROW || rc == SQLITE_DONE)
            st = idx_fail(err, IDX_ECORRUPT, "image %" PRId64 " has no embedding of %" PRIu32 " floats", first + i, dim);
        else
            st = idx_store_fail(r->db, "read an embedding", err);
    }
    reader_give(s, r);
    return st;
}

/* A reader and one of its statements, bound to an item of a catalogue. */
static idx_status take_for_item(idx_store *s, int which, int64_t catalogue, const char *id, reader **r, sqlite3_stmt **q, idx_error *err)
{
    idx_status st = reader_take(s, r, err);
    if (st != IDX_OK) return st;
    *q = (*r)->q[which];
    sqlite3_bind_int64(*q, 1, catalogue);
    sqlite3_bind_text(*q, 2, id, -1, SQLITE_STATIC);
    return IDX_OK;
}

/* q: bound. */
static idx_status read_item(reader *r, sqlite3_stmt *q, idx_item *it, idx_error *err)
{
    int rc = sqlite3_step(q);
    if (rc == SQLITE_DONE) return idx_fail(err, IDX_ENOTFOUND, "there is no such item");
    if (rc != SQLITE_ROW) return idx_store_fail(r->db, "read an item", err);
    const char *id = (const char *)sqlite3_column_text(q, 0), *attributes = (const char *)sqlite3_column_text(q, 1);
    const uint8_t *images = sqlite3_column_blob(q, 4);
    it->n_images = (uint32_t)sqlite3_column_bytes(q, 4) / IDX_IMAGE_BYTES;
    it->id = id != NULL ? strdup(id) : NULL;
    it->attributes = attributes != NULL ? strdup(attributes) : NULL;
    it->created_ms = sqlite3_column_int64(q, 2);
    it->updated_ms = sqlite3_column_int64(q, 3);
    it->images = calloc(it->n_images + 1u, sizeof *it->images);
    if (it->id == NULL || it->attributes == NULL || it->images == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for an item");
    for (uint32_t i = 0; i < it->n_images; i++) idx_image_unpack(images + i * IDX_IMAGE_BYTES, &it->images[i]);
    return IDX_OK;
}

static idx_status item_get(idx_store *s, int64_t catalogue, const char *id, idx_item **out, idx_error *err)
{
    reader *r = NULL;
    sqlite3_stmt *q = NULL;
    idx_item *it = calloc(1, sizeof *it);
    idx_status st = it == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for an item") : take_for_item(s, R_ITEM, catalogue, id, &r, &q, err);
    if (st == IDX_OK) {
        st = read_item(r, q, it, err);
        reader_give(s, r);
    }
    if (st != IDX_OK) idx_item_free(it);
    else *out = it;
    return st;
}

idx_status idx_store_item_get(idx_store *s, int64_t catalogue, const char *id, idx_item **out, idx_error *err)
{
    idx_error why = {0};
    idx_status st = item_get(s, catalogue, id, out, &why);
    if (st == IDX_ENOTFOUND) return idx_fail(err, st, "there is no item %.200s", id);
    return st == IDX_OK ? st : idx_fail(err, st, "%s", why.text);
}

idx_status idx_store_records(idx_store *s, const int64_t *rowids, size_t n, idx_store_record_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_RECORD];
    if (sqlite3_step(r->q[R_BEGIN]) != SQLITE_DONE) st = idx_store_fail(r->db, "begin to read", err);
    for (size_t i = 0; st == IDX_OK && i < n; i++) {
        sqlite3_bind_int64(q, 1, rowids[i]);
        int rc = sqlite3_step(q);
        if (rc == SQLITE_ROW) {
            idx_record row = {.attributes = (const char *)sqlite3_column_text(q, 0), .images = sqlite3_column_blob(q, 1)};
            row.attributes_bytes = (size_t)sqlite3_column_bytes(q, 0);
            row.n_images = (uint32_t)sqlite3_column_bytes(q, 1) / IDX_IMAGE_BYTES;
            st = row.attributes != NULL ? fn(ctx, i, &row) : idx_fail(err, IDX_ENOMEM, "no memory for an item");
        } else if (rc != SQLITE_DONE) {
            st = idx_store_fail(r->db, "read an item", err);
        }
        sqlite3_reset(q);
    }
    if (!sqlite3_get_autocommit(r->db) && sqlite3_step(r->q[R_END]) != SQLITE_DONE) sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
    reader_give(s, r);
    return st;
}

idx_status idx_store_rendition(idx_store *s, int64_t catalogue, const char *id, uint32_t n, uint8_t **jpeg, size_t *len, idx_error *err)
{
    reader *r;
    sqlite3_stmt *q;
    idx_status st = take_for_item(s, R_RENDITION, catalogue, id, &r, &q, err);
    if (st != IDX_OK) return st;
    sqlite3_bind_int64(q, 3, n);
    int rc = sqlite3_step(q);
    if (rc == SQLITE_ROW) {
        size_t bytes = (size_t)sqlite3_column_bytes(q, 0);
        uint8_t *b = malloc(bytes + 1);
        if (b == NULL) st = idx_fail(err, IDX_ENOMEM, "no memory for a picture");
        else {
            if (bytes > 0) memcpy(b, sqlite3_column_blob(q, 0), bytes);
            *jpeg = b;
            *len = bytes;
        }
    } else {
        st = rc == SQLITE_DONE ? idx_fail(err, IDX_ENOTFOUND, "item %.200s has no image %" PRIu32, id, n) : idx_store_fail(r->db, "read a picture", err);
    }
    reader_give(s, r);
    return st;
}

idx_status idx_store_embeddings(idx_store *s, int64_t catalogue, const char *id, float **out, size_t *n, uint32_t *dim, idx_error *err)
{
    reader *r;
    sqlite3_stmt *q;
    idx_status st = take_for_item(s, R_EMBEDDINGS, catalogue, id, &r, &q, err);
    if (st != IDX_OK) return st;
    float *rows = NULL;
    size_t count = 0, bytes = 0;
    int rc;
    while (st == IDX_OK && (rc = sqlite3_step(q)) != SQLITE_DONE) {
        if (rc != SQLITE_ROW) {
            st = idx_store_fail(r->db, "read embeddings", err);
            break;
        }
        size_t b = (size_t)sqlite3_column_bytes(q, 0);
        float *more = bytes != 0 && b != bytes ? NULL : realloc(rows, (count + 1) * b + 1);
        if (more == NULL) {
            st = idx_fail(err, IDX_ENOMEM, "no memory for embeddings");
            break;
        }
        rows = more;
        bytes = b;
        memcpy((char *)rows + count++ * b, sqlite3_column_blob(q, 0), b);
    }
    if (st == IDX_OK && count == 0) st = idx_fail(err, IDX_ENOTFOUND, "there is no item %.200s", id);
    reader_give(s, r);
    if (st != IDX_OK) {
        free(rows);
        return st;
    }
    *out = rows;
    *n = count;
    *dim = (uint32_t)(bytes / sizeof(float));
    return IDX_OK;
}

idx_status idx_store_quick_check(idx_store *s, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(r->db, "PRAGMA quick_check", -1, &q, NULL) != SQLITE_OK || sqlite3_step(q) != SQLITE_ROW)
        st = idx_store_fail(r->db, "check itself", err);
    else if (strcmp((const char *)sqlite3_column_text(q, 0), "ok") != 0)
        st = idx_fail(err, IDX_ECORRUPT, "SQLite's quick_check says: %.200s", (const char *)sqlite3_column_text(q, 0));
    sqlite3_finalize(q);
    reader_give(s, r);
    return st;
}
