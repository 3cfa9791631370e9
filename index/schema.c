/* schema.c: the tables and how an older file becomes the current one. Every step is one version; steps never change. */
#include "store.h"

#include <inttypes.h>
#include <stdio.h>

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
};

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
