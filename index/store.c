/* store.c: every SQL statement. See store.h for who may call what. */
#include "store.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    W_BEGIN, W_COMMIT, W_CATALOGUE_ADD, W_CATALOGUE_KEEP, W_GENERATION, W_ITEM_FIND, W_ITEM_ADD, W_ITEM_UPDATE, W_ITEM_IMAGES, W_EMB_REMOVE, W_REND_REMOVE,
    W_ITEM_REMOVE, W_EMB_ADD, W_REND_ADD, W_CHANGE, W_CHANGES_TRIM, W_COUNT
};
static const char *const write_sql[W_COUNT] = {
    "BEGIN IMMEDIATE",
    "COMMIT",
    "INSERT INTO catalogues (name, model, fingerprint, dim, created_ms, storage, kept) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    "UPDATE catalogues SET kept = ?2 WHERE id = ?1",
    "UPDATE catalogues SET generation = ?2, next_image = max(next_image, ?3) WHERE id = ?1",
    "SELECT rowid, first_image, length(images), attributes FROM items WHERE catalogue = ?1 AND id = ?2",
    "INSERT INTO items (catalogue, id, attributes, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?4)",
    "UPDATE items SET attributes = ?2, updated_ms = ?3 WHERE rowid = ?1",
    "UPDATE items SET first_image = ?2, images = ?3 WHERE rowid = ?1",
    "DELETE FROM embeddings WHERE image BETWEEN ?1 AND ?2",
    "DELETE FROM renditions WHERE image BETWEEN ?1 AND ?2",
    "DELETE FROM items WHERE rowid = ?1",
    "INSERT INTO embeddings (image, vector) VALUES (?1, ?2)",
    "INSERT INTO renditions (image, jpeg) VALUES (?1, ?2)",
    "INSERT INTO changes (catalogue, generation, item, stamp) VALUES (?1, ?2, ?3, ?4)",
    ("DELETE FROM changes WHERE catalogue = ?1 AND generation < ?2 AND generation <"
     " (SELECT min(generation) FROM changes WHERE catalogue = ?1) + 4096"),
};

enum { R_CATALOGUES, R_BEGIN, R_END, R_LIST, R_ITEMS, R_ITEMS_BARE, R_VECTORS, R_ITEM, R_RECORD, R_RENDITION, R_EMBEDDINGS, R_CHANGES, R_ATTRIBUTES, R_COUNT };
static const char *const read_sql[R_COUNT] = {
    "SELECT id, name, model, fingerprint, dim, generation, created_ms, storage, kept FROM catalogues ORDER BY name",
    "BEGIN",
    "COMMIT",
    "SELECT id FROM items WHERE catalogue = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    "SELECT rowid, id, first_image, length(images), attributes FROM items WHERE catalogue = ?1 ORDER BY rowid",
    "SELECT rowid, id, first_image, length(images) FROM items WHERE catalogue = ?1 ORDER BY rowid",
    "SELECT image, vector FROM embeddings WHERE image BETWEEN ?1 AND ?2 ORDER BY image",
    "SELECT id, attributes, created_ms, updated_ms, images FROM items WHERE catalogue = ?1 AND id = ?2",
    "SELECT attributes, images FROM items WHERE rowid = ?1",
    "SELECT jpeg FROM items JOIN renditions ON renditions.image = first_image + ?3 WHERE catalogue = ?1 AND id = ?2 AND ?3 < length(images) / 40",
    ("SELECT vector FROM items JOIN embeddings ON image BETWEEN first_image AND first_image + length(images) / 40 - 1"
     " WHERE catalogue = ?1 AND id = ?2 ORDER BY image"),
    "SELECT generation, item, stamp FROM changes WHERE catalogue = ?1 AND generation >= ?2 ORDER BY generation",
    "SELECT attributes FROM items WHERE rowid = ?1",
};

typedef struct reader {
    sqlite3 *db;
    sqlite3_stmt *q[R_COUNT];
    struct reader *next;
} reader;

struct idx_store {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *q[W_COUNT];
    int64_t next_image; /* the writer's */
    int log_pages;      /* as the last commit left it; the writer's */
    pthread_mutex_t lock; /* of the pool */
    reader *idle;
};

idx_status idx_store_fail(sqlite3 *db, const char *what, idx_error *err)
{
    int code = sqlite3_extended_errcode(db);
    idx_status st = (code & 0xff) == SQLITE_FULL     ? IDX_EFULL
                    : (code & 0xff) == SQLITE_NOMEM  ? IDX_ENOMEM
                    : (code & 0xff) == SQLITE_BUSY   ? IDX_EBUSY /* another program holds the file: no harm is done */
                    : (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB ? IDX_ECORRUPT
                                                                                         : IDX_EIO;
    return idx_fail(err, st, "the store cannot %s: %.160s (SQLite %d)", what, sqlite3_errmsg(db), code);
}

/* ---- open and close ---------------------------------------------------------------------------------- */

static void reader_close(reader *r)
{
    if (r == NULL) return;
    for (int i = 0; i < R_COUNT; i++) sqlite3_finalize(r->q[i]);
    sqlite3_close(r->db);
    free(r);
}

static idx_status reader_open(idx_store *s, reader **out, idx_error *err)
{
    reader *r = calloc(1, sizeof *r);
    if (r == NULL) return idx_fail(err, IDX_ENOMEM, "no memory for a reader");
    idx_status st = IDX_OK;
    if (sqlite3_open_v2(s->path, &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
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
    pthread_mutex_lock(&s->lock);
    reader *r = s->idle;
    if (r != NULL) s->idle = r->next;
    pthread_mutex_unlock(&s->lock);
    if (r == NULL) return reader_open(s, out, err);
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
    pthread_mutex_lock(&s->lock);
    r->next = s->idle;
    s->idle = r;
    pthread_mutex_unlock(&s->lock);
}

/* Above every image there ever was, of catalogues that are still there: no file of theirs can name a later one by its number. */
static idx_status read_next_image(idx_store *s, idx_error *err)
{
    sqlite3_stmt *q = NULL;
    bool ok = sqlite3_prepare_v2(s->db, "SELECT max((SELECT coalesce(max(next_image), 1) FROM catalogues), 1 + (SELECT coalesce(max(image), 0) FROM embeddings))",
                                 -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW;
    if (ok) s->next_image = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return ok ? IDX_OK : idx_store_fail(s->db, "find the last image", err);
}

static int log_grew(void *ctx, sqlite3 *db, const char *name, int pages)
{
    (void)db, (void)name;
    *(int *)ctx = pages;
    return SQLITE_OK;
}

idx_status idx_store_open(const char *dir, idx_store **out, idx_error *err)
{
    idx_store *s = calloc(1, sizeof *s);
    if (s == NULL || asprintf(&s->path, "%s/catalogue.sqlite3", dir) < 0) {
        free(s);
        return idx_fail(err, IDX_ENOMEM, "no memory for the store");
    }
    pthread_mutex_init(&s->lock, NULL);
    idx_status st = IDX_OK;
    if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
        sqlite3_exec(s->db, "PRAGMA auto_vacuum=INCREMENTAL;" /* first: the next line writes page 1. Of an older file it changes nothing. */
                            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=0; PRAGMA busy_timeout=5000;"
                            "PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-16384", NULL, NULL, NULL) != SQLITE_OK)
        st = idx_store_fail(s->db, "open its file", err);
    if (s->db != NULL) sqlite3_wal_hook(s->db, log_grew, &s->log_pages);
    if (st == IDX_OK) st = idx_schema_migrate(s->db, err);
    if (st == IDX_OK) st = read_next_image(s, err);
    for (int i = 0; st == IDX_OK && i < W_COUNT; i++)
        if (sqlite3_prepare_v3(s->db, write_sql[i], -1, SQLITE_PREPARE_PERSISTENT, &s->q[i], NULL) != SQLITE_OK)
            st = idx_store_fail(s->db, "prepare", err);
    if (st != IDX_OK) {
        idx_store_close(s);
        return st;
    }
    *out = s;
    return IDX_OK;
}

void idx_store_close(idx_store *s)
{
    if (s == NULL) return;
    for (reader *r = s->idle, *next; r != NULL; r = next) {
        next = r->next;
        reader_close(r);
    }
    for (int i = 0; i < W_COUNT; i++) sqlite3_finalize(s->q[i]);
    sqlite3_close(s->db); /* the last connection checkpoints and removes the WAL */
    pthread_mutex_destroy(&s->lock);
    free(s->path);
    free(s);
}

uint64_t idx_store_bytes(const idx_store *s)
{
    static const char *const suffix[] = {"", "-wal"};
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++) {
        char path[4200];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", s->path, suffix[i]);
        if (stat(path, &st) == 0) sum += (uint64_t)st.st_size;
    }
    return sum;
}

/* ---- writing ------------------------------------------------------------------------------------------- */

/* Runs a statement whose parameters are bound, resets it. */
static idx_status finish(idx_store *s, int which, const char *what, idx_error *err)
{
    int rc = sqlite3_step(s->q[which]);
    idx_status st = rc == SQLITE_DONE || rc == SQLITE_ROW ? IDX_OK : idx_store_fail(s->db, what, err);
    sqlite3_reset(s->q[which]);
    sqlite3_clear_bindings(s->q[which]);
    return st;
}

idx_status idx_store_begin(idx_store *s, idx_error *err) { return finish(s, W_BEGIN, "begin", err); }
idx_status idx_store_commit(idx_store *s, idx_error *err) { return finish(s, W_COMMIT, "commit", err); }
void idx_store_rollback(idx_store *s) { sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL); }

idx_status idx_store_checkpoint_due(idx_store *s, idx_error *err)
{
    enum { PAGES = 1000 }; /* of 4 KiB: some milliseconds */
    if (s->log_pages < PAGES) return IDX_OK;
    s->log_pages = 0;
    int rc = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    if (rc == SQLITE_OK || rc == SQLITE_BUSY || rc == SQLITE_LOCKED || rc == SQLITE_FULL || rc == SQLITE_NOMEM) return IDX_OK; /* what the log holds stays there: another time */
    return idx_store_fail(s->db, "take in its log", err);
}

void idx_store_checkpoint(idx_store *s) { sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL); }

static int64_t pragma(idx_store *s, const char *sql)
{
    sqlite3_stmt *q = NULL;
    int64_t n = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    return n;
}

idx_status idx_store_shrink(idx_store *s, bool *more, idx_error *err)
{
    enum { PIECE = 256, WORTH = 1024 }; /* pages of 4 KiB: moved in some milliseconds; less is soon used again */
    int64_t spare = pragma(s, "PRAGMA freelist_count");
    bool was = *more;
    char sql[64];
    *more = spare > WORTH && spare > pragma(s, "PRAGMA page_count") / 32 && pragma(s, "PRAGMA auto_vacuum") == 2;
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", PIECE);
    if (*more) return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? IDX_OK : idx_store_fail(s->db, "give back room", err);
    if (was) {
        idx_store_checkpoint(s); /* the file itself becomes shorter */
        sqlite3_db_release_memory(s->db); /* and its cache holds nothing of what is gone */
        malloc_trim(0);
    }
    return IDX_OK;
}

static idx_status one_id(idx_store *s, int which, int64_t id, const char *what, idx_error *err)
{
    sqlite3_bind_int64(s->q[which], 1, id);
    return finish(s, which, what, err);
}

idx_status idx_store_catalogue_add(idx_store *s, idx_catalogue_row *row, idx_error *err)
{
    sqlite3_stmt *q = s->q[W_CATALOGUE_ADD];
    sqlite3_bind_text(q, 1, row->info.name, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(q, 2, row->info.model, -1, SQLITE_TRANSIENT);
    sqlite3_bind_text(q, 3, row->info.fingerprint, -1, SQLITE_TRANSIENT);
    sqlite3_bind_int64(q, 4, row->info.dim);
    sqlite3_bind_int64(q, 5, row->info.created_ms);
    sqlite3_bind_int(q, 6, (int)row->info.storage);
    sqlite3_bind_int(q, 7, (int)row->info.kept);
    idx_status st = finish(s, W_CATALOGUE_ADD, "add a catalogue", err);
    row->id = sqlite3_last_insert_rowid(s->db);
    return st;
}

idx_status idx_store_catalogue_keep(idx_store *s, int64_t id, idx_storage kept, idx_error *err)
{
    sqlite3_bind_int(s->q[W_CATALOGUE_KEEP], 2, (int)kept);
    return one_id(s, W_CATALOGUE_KEEP, id, "note how vectors are kept", err);
}

idx_status idx_store_catalogue_remove(idx_store *s, int64_t id, idx_error *err)
{
    char sql[1024];
    snprintf(sql, sizeof sql,
             "DELETE FROM renditions WHERE image IN (SELECT image FROM items JOIN renditions ON image BETWEEN first_image AND"
             " first_image + length(images) / 40 - 1 WHERE catalogue = %" PRId64 ");"
             "DELETE FROM embeddings WHERE image IN (SELECT image FROM items JOIN embeddings ON image BETWEEN first_image AND"
             " first_image + length(images) / 40 - 1 WHERE catalogue = %" PRId64 ");"
             "DELETE FROM items WHERE catalogue = %" PRId64 "; DELETE FROM changes WHERE catalogue = %" PRId64 ";"
             "DELETE FROM catalogues WHERE id = %" PRId64, id, id, id, id, id);
    return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? IDX_OK : idx_store_fail(s->db, "remove a catalogue", err);
}

idx_status idx_store_change(idx_store *s, int64_t catalogue, uint64_t generation, int64_t item, int64_t stamp, idx_error *err)
{
    sqlite3_bind_int64(s->q[W_GENERATION], 2, (int64_t)generation);
    sqlite3_bind_int64(s->q[W_GENERATION], 3, s->next_image);
    idx_status st = one_id(s, W_GENERATION, catalogue, "count a write", err);
    if (st != IDX_OK) return st;
    sqlite3_bind_int64(s->q[W_CHANGE], 2, (int64_t)generation);
    sqlite3_bind_int64(s->q[W_CHANGE], 3, item);
    sqlite3_bind_int64(s->q[W_CHANGE], 4, stamp);
    return one_id(s, W_CHANGE, catalogue, "log a write", err);
}

idx_status idx_store_changes_trim(idx_store *s, int64_t catalogue, uint64_t keep, idx_error *err)
{
    sqlite3_bind_int64(s->q[W_CHANGES_TRIM], 2, (int64_t)keep);
    return one_id(s, W_CHANGES_TRIM, catalogue, "trim its log", err);
}

idx_status idx_store_item_find(idx_store *s, int64_t catalogue, const char *id, idx_store_place *p, char **attributes, idx_error *err)
{
    sqlite3_stmt *q = s->q[W_ITEM_FIND];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
    int rc = sqlite3_step(q);
    idx_status st = rc == SQLITE_ROW || rc == SQLITE_DONE ? IDX_OK : idx_store_fail(s->db, "find an item", err);
    *p = (idx_store_place){0};
    if (rc == SQLITE_ROW)
        *p = (idx_store_place){sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), (uint32_t)sqlite3_column_int(q, 2) / IDX_IMAGE_BYTES};
    if (rc == SQLITE_ROW && attributes != NULL && (*attributes = strdup((const char *)sqlite3_column_text(q, 3))) == NULL)
        st = idx_fail(err, IDX_ENOMEM, "no memory for attributes");
    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    return st;
}

idx_status idx_store_item_add(idx_store *s, int64_t catalogue, const char *id, const char *attributes, int64_t now, idx_store_place *p, idx_error *err)
{
    sqlite3_stmt *q = s->q[W_ITEM_ADD];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
    sqlite3_bind_text(q, 3, attributes, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 4, now);
    idx_status st = finish(s, W_ITEM_ADD, "add an item", err);
    *p = (idx_store_place){.item = sqlite3_last_insert_rowid(s->db)};
    return st;
}

idx_status idx_store_item_update(idx_store *s, int64_t item, const char *attributes, int64_t now, idx_error *err)
{
    sqlite3_bind_text(s->q[W_ITEM_UPDATE], 2, attributes, -1, SQLITE_STATIC);
    sqlite3_bind_int64(s->q[W_ITEM_UPDATE], 3, now);
    return one_id(s, W_ITEM_UPDATE, item, "update an item", err);
}

static idx_status images_remove(idx_store *s, const idx_store_place *p, idx_error *err)
{
    if (p->n_images == 0) return IDX_OK;
    sqlite3_bind_int64(s->q[W_EMB_REMOVE], 2, p->first_image + p->n_images - 1);
    idx_status st = one_id(s, W_EMB_REMOVE, p->first_image, "remove images", err);
    if (st != IDX_OK) return st;
    sqlite3_bind_int64(s->q[W_REND_REMOVE], 2, p->first_image + p->n_images - 1);
    return one_id(s, W_REND_REMOVE, p->first_image, "remove images", err);
}

idx_status idx_store_images_set(idx_store *s, idx_store_place *p, const idx_image *images, uint32_t n, uint32_t dim, idx_error *err)
{
    uint8_t packed[IDX_MAX_IMAGES * IDX_IMAGE_BYTES];
    idx_status st = images_remove(s, p, err);
    p->first_image = s->next_image;
    p->n_images = n;
    s->next_image += n; /* of a write that is rolled back nobody uses them */
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) {
        const idx_image *im = &images[i];
        idx_image_info info = {im->width, im->height, {0}};
        memcpy(info.sha256, im->sha256, sizeof info.sha256);
        idx_image_pack(&info, packed + i * IDX_IMAGE_BYTES);
        sqlite3_bind_blob(s->q[W_EMB_ADD], 2, im->embedding, (int)(dim * sizeof(float)), SQLITE_STATIC);
        st = one_id(s, W_EMB_ADD, p->first_image + i, "add an embedding", err);
        if (st != IDX_OK || im->rendition == NULL) continue;
        sqlite3_bind_blob(s->q[W_REND_ADD], 2, im->rendition, (int)im->rendition_bytes, SQLITE_STATIC);
        st = one_id(s, W_REND_ADD, p->first_image + i, "add a rendition", err);
    }
    if (st != IDX_OK) return st;
    sqlite3_bind_int64(s->q[W_ITEM_IMAGES], 2, p->first_image);
    sqlite3_bind_blob(s->q[W_ITEM_IMAGES], 3, packed, (int)(n * IDX_IMAGE_BYTES), SQLITE_STATIC);
    return one_id(s, W_ITEM_IMAGES, p->item, "note its images", err);
}

idx_status idx_store_item_remove(idx_store *s, const idx_store_place *p, idx_error *err)
{
    idx_status st = images_remove(s, p, err);
    return st == IDX_OK ? one_id(s, W_ITEM_REMOVE, p->item, "remove an item", err) : st;
}

/* ---- reading --------------------------------------------------------------------------------------------- */

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

idx_status idx_store_each_item(idx_store *s, int64_t catalogue, bool attributes, idx_item_fn *fn, void *ctx, idx_error *err)
{
    reader *r;
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[attributes ? R_ITEMS : R_ITEMS_BARE];
    sqlite3_bind_int64(q, 1, catalogue);
    int rc = SQLITE_ROW;
    while (st == IDX_OK && (rc = sqlite3_step(q)) == SQLITE_ROW) {
        idx_item_row row = {sqlite3_column_int64(q, 0), (const char *)sqlite3_column_text(q, 1), attributes ? (const char *)sqlite3_column_text(q, 4) : NULL,
                            sqlite3_column_int64(q, 2), (uint32_t)sqlite3_column_int(q, 3) / IDX_IMAGE_BYTES};
        st = row.id == NULL || (attributes && row.attributes == NULL) ? idx_fail(err, IDX_ENOMEM, "no memory to read items") : fn(ctx, &row);
    }
    if (st == IDX_OK && rc != SQLITE_DONE) st = idx_store_fail(r->db, "read items", err);
    reader_give(s, r);
    return st;
}

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
    reader *r;
    idx_item *it = calloc(1, sizeof *it);
    idx_status st = it == NULL ? idx_fail(err, IDX_ENOMEM, "no memory for an item") : reader_take(s, &r, err);
    if (st == IDX_OK) {
        sqlite3_bind_int64(r->q[R_ITEM], 1, catalogue);
        sqlite3_bind_text(r->q[R_ITEM], 2, id, -1, SQLITE_STATIC);
        st = read_item(r, r->q[R_ITEM], it, err);
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
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_RENDITION];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
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
    idx_status st = reader_take(s, &r, err);
    if (st != IDX_OK) return st;
    sqlite3_stmt *q = r->q[R_EMBEDDINGS];
    sqlite3_bind_int64(q, 1, catalogue);
    sqlite3_bind_text(q, 2, id, -1, SQLITE_STATIC);
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
