/* store.c: the store's file and every SQL statement that writes; store_read.c has those that read. See store.h for who may call what. */
#include "clock.h"
#include "store_read.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    W_BEGIN, W_COMMIT, W_CATALOGUE_ADD, W_CATALOGUE_KEEP, W_GENERATION, W_ITEM_FIND, W_ITEM_ADD, W_ITEM_UPDATE, W_ITEM_IMAGES, W_IMAGES_SAME, W_IMAGE_SAME,
    W_EMB_REMOVE, W_REND_REMOVE, W_ITEM_REMOVE, W_EMB_ADD, W_REND_ADD, W_CHANGE, W_CHANGES_TRIM, W_COUNT
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
    "SELECT images IS ?2 FROM items WHERE rowid = ?1",
    "SELECT vector IS ?2 AND (SELECT jpeg FROM renditions WHERE image = ?1) IS ?3 FROM embeddings WHERE image = ?1",
    "DELETE FROM embeddings WHERE image BETWEEN ?1 AND ?2",
    "DELETE FROM renditions WHERE image BETWEEN ?1 AND ?2",
    "DELETE FROM items WHERE rowid = ?1",
    "INSERT INTO embeddings (image, vector) VALUES (?1, ?2)",
    "INSERT INTO renditions (image, jpeg) VALUES (?1, ?2)",
    "INSERT INTO changes (catalogue, generation, item, stamp) VALUES (?1, ?2, ?3, ?4)",
    /* One bound: of two SQLite takes the first to find rows by, and asks each of them for the other. */
    ("DELETE FROM changes WHERE catalogue = ?1 AND generation <"
     " min(?2, (SELECT min(generation) FROM changes WHERE catalogue = ?1) + ?3)"),
};

struct idx_store {
    char *path;
    sqlite3 *db;
    sqlite3_stmt *q[W_COUNT];
    int64_t next_image; /* the writer's */
    int log_pages;      /* as the last commit left it; the writer's */
    idx_readers readers;
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
    idx_readers_init(&s->readers, s->path);
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
    idx_readers_fini(&s->readers);
    for (int i = 0; i < W_COUNT; i++) sqlite3_finalize(s->q[i]);
    sqlite3_close(s->db); /* the last connection checkpoints and removes the WAL */
    free(s->path);
    free(s);
}

idx_readers *idx_store_readers(idx_store *s) { return &s->readers; }
const char *idx_store_path(const idx_store *s) { return s->path; }

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
    enum { PAGES = 400 }; /* of 4 KiB: some milliseconds */
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

/* SQLite looks for each page that it gives back in the list of free ones: a page of a long list costs ten times one of a short list. So it is
 * time that ends a piece. */
static idx_status give_back_some(idx_store *s, idx_error *err)
{
    enum { STEP = 8, MOST = 256, LONG_NS = 2000000 };
    char sql[64];
    snprintf(sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", STEP);
    idx_status st = idx_store_begin(s, err);
    const uint64_t end = idx_mono_ns() + LONG_NS;
    for (int n = 0; st == IDX_OK && n < MOST && idx_mono_ns() < end; n += STEP)
        if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK) st = idx_store_fail(s->db, "give back room", err);
    if (st == IDX_OK) st = idx_store_commit(s, err);
    if (st != IDX_OK) idx_store_rollback(s);
    return st;
}

idx_status idx_store_shrink(idx_store *s, bool *more, idx_error *err)
{
    enum { WORTH = 1024 }; /* pages of 4 KiB: less is soon used again */
    int64_t spare = pragma(s, "PRAGMA freelist_count");
    bool was = *more;
    *more = spare > WORTH && spare > pragma(s, "PRAGMA page_count") / 32 && pragma(s, "PRAGMA auto_vacuum") == 2;
    if (*more) return give_back_some(s, err);
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

idx_status idx_store_changes_trim(idx_store *s, int64_t catalogue, uint64_t keep, uint32_t most, idx_error *err)
{
    sqlite3_bind_int64(s->q[W_CHANGES_TRIM], 2, (int64_t)keep);
    sqlite3_bind_int64(s->q[W_CHANGES_TRIM], 3, most);
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

/* What is known of images, as its parameter `at`. */
static void bind_infos(idx_store *s, int which, int at, const idx_image *images, uint32_t n)
{
    uint8_t packed[IDX_MAX_IMAGES * IDX_IMAGE_BYTES] = {0};
    for (uint32_t i = 0; i < n; i++) {
        idx_image_info info = {images[i].width, images[i].height, {0}};
        memcpy(info.sha256, images[i].sha256, sizeof info.sha256);
        idx_image_pack(&info, packed + i * IDX_IMAGE_BYTES);
    }
    sqlite3_bind_blob(s->q[which], at, packed, (int)(n * IDX_IMAGE_BYTES), SQLITE_TRANSIENT);
}

/* The answer to a question of yes or no whose parameters are bound; no row is a no. */
static idx_status ask(idx_store *s, int which, int64_t id, bool *yes, idx_error *err)
{
    sqlite3_bind_int64(s->q[which], 1, id);
    int rc = sqlite3_step(s->q[which]);
    *yes = rc == SQLITE_ROW && sqlite3_column_int(s->q[which], 0) == 1;
    sqlite3_reset(s->q[which]);
    sqlite3_clear_bindings(s->q[which]);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? IDX_OK : idx_store_fail(s->db, "compare images", err);
}

idx_status idx_store_images_same(idx_store *s, const idx_store_place *p, const idx_image *images, uint32_t n, uint32_t dim, bool *same, idx_error *err)
{
    *same = n == p->n_images;
    if (!*same) return IDX_OK;
    bind_infos(s, W_IMAGES_SAME, 2, images, n);
    idx_status st = ask(s, W_IMAGES_SAME, p->item, same, err);
    for (uint32_t i = 0; st == IDX_OK && *same && i < n; i++) {
        const idx_image *im = &images[i];
        sqlite3_bind_blob(s->q[W_IMAGE_SAME], 2, im->embedding, (int)(dim * sizeof(float)), SQLITE_STATIC);
        if (im->rendition != NULL) sqlite3_bind_blob(s->q[W_IMAGE_SAME], 3, im->rendition, (int)im->rendition_bytes, SQLITE_STATIC);
        st = ask(s, W_IMAGE_SAME, p->first_image + i, same, err);
    }
    return st;
}

idx_status idx_store_images_set(idx_store *s, idx_store_place *p, const idx_image *images, uint32_t n, uint32_t dim, idx_error *err)
{
    idx_status st = images_remove(s, p, err);
    p->first_image = s->next_image;
    p->n_images = n;
    s->next_image += n; /* of a write that is rolled back nobody uses them */
    for (uint32_t i = 0; st == IDX_OK && i < n; i++) {
        const idx_image *im = &images[i];
        sqlite3_bind_blob(s->q[W_EMB_ADD], 2, im->embedding, (int)(dim * sizeof(float)), SQLITE_STATIC);
        st = one_id(s, W_EMB_ADD, p->first_image + i, "add an embedding", err);
        if (st != IDX_OK || im->rendition == NULL) continue;
        sqlite3_bind_blob(s->q[W_REND_ADD], 2, im->rendition, (int)im->rendition_bytes, SQLITE_STATIC);
        st = one_id(s, W_REND_ADD, p->first_image + i, "add a rendition", err);
    }
    if (st != IDX_OK) return st;
    sqlite3_bind_int64(s->q[W_ITEM_IMAGES], 2, p->first_image);
    bind_infos(s, W_ITEM_IMAGES, 3, images, n);
    return one_id(s, W_ITEM_IMAGES, p->item, "note its images", err);
}

idx_status idx_store_item_remove(idx_store *s, const idx_store_place *p, idx_error *err)
{
    idx_status st = images_remove(s, p, err);
    return st == IDX_OK ? one_id(s, W_ITEM_REMOVE, p->item, "remove an item", err) : st;
}
