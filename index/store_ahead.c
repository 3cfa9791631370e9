/* store_ahead.c: see store_ahead.h. */
#include "store_ahead.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    THREADS = 8,    /* of which most wait for the disk */
    STRETCH = 2048, /* items that one reads at a time */
    SAMPLES = 64
};

struct idx_ahead {
    char *path;
    _Atomic int64_t next; /* rowid */
    atomic_bool stop;
    uint32_t n;
    pthread_t thread[THREADS];
};

/* Whether most of some pages, evenly chosen, would have to be read from the disk. Where the system cannot say, they need not. */
static bool is_cold(const char *path)
{
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC), missing = 0;
    char byte;
    if (fd < 0) return false;
    const off_t apart = fstat(fd, &sb) == 0 ? sb.st_size / SAMPLES : 0;
    for (int i = 0; apart > 0 && i < SAMPLES; i++)
        missing += preadv2(fd, &(struct iovec){&byte, 1}, 1, apart * i, RWF_NOWAIT) < 0 && errno == EAGAIN;
    close(fd);
    return missing > SAMPLES / 2;
}

/* A connection of this thread's own. What goes wrong, who reads next will be told. */
static void *ahead_main(void *arg)
{
    idx_ahead *a = arg;
    sqlite3 *db = NULL;
    sqlite3_stmt *last = NULL, *q = NULL;
    pthread_setname_np(pthread_self(), "store ahead");
    bool ok =
        sqlite3_open_v2(a->path, &db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK &&
        sqlite3_exec(db, "PRAGMA query_only=1; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-256", NULL, NULL, NULL) ==
            SQLITE_OK &&
        sqlite3_prepare_v2(db, "SELECT max(rowid) FROM items", -1, &last, NULL) == SQLITE_OK &&
        sqlite3_step(last) == SQLITE_ROW &&
        sqlite3_prepare_v2(db, "SELECT count(catalogue) FROM items WHERE rowid >= ?1 AND rowid < ?2", -1, &q, NULL) == SQLITE_OK;
    const int64_t end = ok ? sqlite3_column_int64(last, 0) : 0;
    sqlite3_finalize(last);
    for (int64_t from; ok && !a->stop && (from = atomic_fetch_add(&a->next, STRETCH)) <= end;) {
        sqlite3_bind_int64(q, 1, from);
        sqlite3_bind_int64(q, 2, from + STRETCH);
        ok = sqlite3_step(q) == SQLITE_ROW;
        sqlite3_reset(q);
    }
    sqlite3_finalize(q);
    sqlite3_close(db);
    return NULL;
}

idx_ahead *idx_ahead_start(const char *path)
{
    if (!is_cold(path)) return NULL;
    idx_ahead *a = calloc(1, sizeof *a);
    if (a == NULL || (a->path = strdup(path)) == NULL) {
        free(a);
        return NULL;
    }
    while (a->n < THREADS && pthread_create(&a->thread[a->n], NULL, ahead_main, a) == 0) a->n++;
    return a;
}

void idx_ahead_end(idx_ahead *a)
{
    if (a == NULL) return;
    a->stop = true;
    for (uint32_t i = 0; i < a->n; i++) pthread_join(a->thread[i], NULL);
    free(a->path);
    free(a);
}
