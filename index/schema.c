/* schema.c: the tables and how an older file becomes the current one. Every step is one version; steps never change. */
#include "store.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* items.rowid and images.rowid grow and are never used again (AUTOINCREMENT), so a FAISS file that names an image by its
 * rowid can be out of date, but never about another image. Embeddings and renditions have tables of their own: start
 * reads all of items and images, and must not drag a kilobyte along for each. */
static const char *const steps[] = {
    /* 1 */
    "CREATE TABLE catalogues (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, model TEXT NOT NULL,"
    " fingerprint TEXT NOT NULL, dim INTEGER NOT NULL, generation INTEGER NOT NULL DEFAULT 0, created_ms INTEGER NOT NULL);"
    "CREATE TABLE items (rowid INTEGER PRIMARY KEY AUTOINCREMENT, catalogue INTEGER NOT NULL REFERENCES catalogues(id),"
    " id TEXT NOT NULL COLLATE BINARY, attributes TEXT NOT NULL, created_ms INTEGER NOT NULL, updated_ms INTEGER NOT NULL,"
    " UNIQUE (catalogue, id));"
    "CREATE TABLE images (rowid INTEGER PRIMARY KEY AUTOINCREMENT, item INTEGER NOT NULL REFERENCES items(rowid),"
    " n INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, sha256 BLOB NOT NULL, UNIQUE (item, n));"
    "CREATE TABLE embeddings (image INTEGER PRIMARY KEY REFERENCES images(rowid), vector BLOB NOT NULL);"
    "CREATE TABLE renditions (image INTEGER PRIMARY KEY REFERENCES images(rowid), jpeg BLOB NOT NULL);",
    /* 2: what was written to which item since a derived file was made; see store.h */
    "CREATE TABLE changes (catalogue INTEGER NOT NULL, generation INTEGER NOT NULL, item INTEGER NOT NULL, stamp INTEGER NOT NULL,"
    " PRIMARY KEY (catalogue, generation)) WITHOUT ROWID;",
    /* 3: what is known of an item's images is in the item: a write touches three trees fewer, and start reads one table. An image's
     * rowid is drawn from catalogues.next_image. */
    "ALTER TABLE catalogues ADD COLUMN next_image INTEGER NOT NULL DEFAULT 1;"
    "ALTER TABLE catalogues ADD COLUMN storage INTEGER NOT NULL DEFAULT 0;" /* idx_storage as asked for */
    "ALTER TABLE catalogues ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;"    /* as it is; 0 = not decided yet */
    "UPDATE catalogues SET next_image = 1 + (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'images');"
    "ALTER TABLE items ADD COLUMN first_image INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE items ADD COLUMN images BLOB NOT NULL DEFAULT x'';" /* for each: width, height u32 little endian, sha256 */
    "UPDATE items SET first_image = (SELECT coalesce(min(rowid), 0) FROM images WHERE item = items.rowid),"
    " images = (SELECT lk_images(width, height, sha256) FROM (SELECT * FROM images WHERE item = items.rowid ORDER BY n));"
    "DROP TABLE images;"
    /* without their reference to it */
    "CREATE TABLE embeddings_3 (image INTEGER PRIMARY KEY, vector BLOB NOT NULL);"
    "INSERT INTO embeddings_3 SELECT image, vector FROM embeddings ORDER BY image; DROP TABLE embeddings;"
    "ALTER TABLE embeddings_3 RENAME TO embeddings;"
    "CREATE TABLE renditions_3 (image INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);"
    "INSERT INTO renditions_3 SELECT image, jpeg FROM renditions ORDER BY image; DROP TABLE renditions;"
    "ALTER TABLE renditions_3 RENAME TO renditions;",
};

/* lk_images(width, height, sha256): of an item's images in order, the blob that items.images is. Step 3 uses it. */
static void images_step(sqlite3_context *cx, int n, sqlite3_value **v)
{
    (void)n;
    struct {
        uint32_t count;
        uint8_t bytes[IDX_MAX_IMAGES * IDX_IMAGE_BYTES];
    } *a = sqlite3_aggregate_context(cx, sizeof *a);
    if (a == NULL || a->count == IDX_MAX_IMAGES) return;
    idx_image_info i = {.width = (uint32_t)sqlite3_value_int64(v[0]), .height = (uint32_t)sqlite3_value_int64(v[1])};
    if (sqlite3_value_bytes(v[2]) == (int)sizeof i.sha256) memcpy(i.sha256, sqlite3_value_blob(v[2]), sizeof i.sha256);
    idx_image_pack(&i, a->bytes + a->count++ * IDX_IMAGE_BYTES);
}

static void images_final(sqlite3_context *cx)
{
    const struct {
        uint32_t count;
        uint8_t bytes[IDX_MAX_IMAGES * IDX_IMAGE_BYTES];
    } *a = sqlite3_aggregate_context(cx, 0);
    sqlite3_result_blob(cx, a != NULL ? (const void *)a->bytes : "", a != NULL ? (int)(a->count * IDX_IMAGE_BYTES) : 0, SQLITE_TRANSIENT);
}

void idx_image_pack(const idx_image_info *i, uint8_t out[IDX_IMAGE_BYTES])
{
    for (int k = 0; k < 4; k++) {
        out[k] = (uint8_t)(i->width >> 8 * k);
        out[4 + k] = (uint8_t)(i->height >> 8 * k);
    }
    memcpy(out + 8, i->sha256, sizeof i->sha256);
}

void idx_image_unpack(const uint8_t in[IDX_IMAGE_BYTES], idx_image_info *i)
{
    *i = (idx_image_info){0};
    for (int k = 0; k < 4; k++) {
        i->width |= (uint32_t)in[k] << 8 * k;
        i->height |= (uint32_t)in[4 + k] << 8 * k;
    }
    memcpy(i->sha256, in + 8, sizeof i->sha256);
}

idx_status idx_schema_migrate(sqlite3 *db, idx_error *err)
{
    const int current = (int)(sizeof steps / sizeof *steps);
    int version = 0;
    sqlite3_stmt *q;
    if (sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) != SQLITE_OK) return idx_store_fail(db, "read the version", err);
    if (sqlite3_step(q) == SQLITE_ROW) version = sqlite3_column_int(q, 0);
    if (sqlite3_finalize(q) != SQLITE_OK) return idx_store_fail(db, "read the version", err);
    if (version > current)
        return idx_fail(err, IDX_EINVAL, "the data is of version %d, this program knows versions up to %d: use a newer one", version, current);
    if (version < current && sqlite3_create_function_v2(db, "lk_images", 3, SQLITE_UTF8, NULL, NULL, images_step, images_final, NULL) != SQLITE_OK)
        return idx_store_fail(db, "bring the data to the current version", err);
    for (; version < current; version++) {
        char done[64];
        snprintf(done, sizeof done, "PRAGMA user_version=%d; COMMIT", version + 1);
        if (sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK ||
            sqlite3_exec(db, steps[version], NULL, NULL, NULL) != SQLITE_OK || sqlite3_exec(db, done, NULL, NULL, NULL) != SQLITE_OK) {
            idx_status st = idx_store_fail(db, "bring the data to the current version", err);
            sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
            return st;
        }
    }
    return IDX_OK;
}
