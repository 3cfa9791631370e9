/* Reading ahead at start: of a store that is in the page cache nothing is read; of one that is on the disk alone most comes into
 * the page cache. */
#include "../../index/store_ahead.h"
#include "test.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

enum { ITEMS = 20000, TRIES = 400 };

static void fill(const char *dir)
{
    idx_store *s = NULL;
    idx_store_place p;
    idx_error e = {0};
    char id[32], text[240];
    REQUIRE(idx_store_open(dir, &s, &e) == IDX_OK && idx_store_begin(s, &e) == IDX_OK);
    for (int i = 0; i < ITEMS; i++) {
        snprintf(id, sizeof id, "item-%05d", i);
        snprintf(text, sizeof text, "{\"title\":\"%0200d\"}", i);
        REQUIRE(idx_store_item_add(s, 1, id, text, 0, &p, &e) == IDX_OK);
    }
    REQUIRE(idx_store_commit(s, &e) == IDX_OK);
    idx_store_close(s);
}

static void evict(const char *path)
{
    int fd = open(path, O_RDONLY);
    REQUIRE(fd >= 0 && fsync(fd) == 0 && posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
    close(fd);
}

int main(void)
{
    char dir[] = "/var/tmp/likeness-ahead-XXXXXX", path[100], remove[100]; /* /tmp is memory on some machines */
    int tries = 0;
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/catalogue.sqlite3", dir);
    snprintf(remove, sizeof remove, "rm -rf %s", dir);
    fill(dir);
    idx_ahead *a = idx_ahead_start(path);
    CHECK(a == NULL); /* just written */
    idx_ahead_end(a);
    evict(path);
    a = idx_ahead_start(path);
    const bool evicts = a != NULL;
    for (; a != NULL && tries < TRIES; tries++) { /* until it finds nothing to do */
        nanosleep(&(struct timespec){0, 20000000}, NULL);
        idx_ahead_end(a);
        a = idx_ahead_start(path);
    }
    idx_ahead_end(a);
    CHECK(tries < TRIES);
    CHECK(idx_ahead_start("/nonexistent/catalogue.sqlite3") == NULL);
    CHECK_INT(system(remove), 0);
    if (!evicts) printf("SKIP: pages of /var/tmp stay in the cache\n");
    return test_end() != 0 ? 1 : evicts ? 0 : TEST_SKIP;
}
