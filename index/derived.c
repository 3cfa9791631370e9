/* derived.c: see derived.h. */
#include "derived.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

idx_status idx_derived_create(idx_derived_out *o, const char *path, idx_error *err)
{
    *o = (idx_derived_out){.path = strdup(path)};
    if (o->path == NULL || asprintf(&o->tmp, "%s.tmp", path) < 0) {
        free(o->path);
        return idx_fail(err, IDX_ENOMEM, "no memory for a file");
    }
    if ((o->f = fopen(o->tmp, "we")) == NULL) {
        idx_status st = idx_fail(err, IDX_EIO, "cannot make %s: %s", o->tmp, strerror(errno));
        free(o->path);
        free(o->tmp);
        return st;
    }
    sha256_init(&o->sha);
    return IDX_OK;
}

void idx_derived_pace(int fd, uint64_t end, uint64_t *synced)
{
    if (end - *synced < 1 << 20) return;
    /* what a failure means, the sync at the end says */
    (void)sync_file_range(fd, (off_t)*synced, (off_t)(end - *synced), SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    *synced = end;
}

static void put(idx_derived_out *o, const void *p, size_t n)
{
    if (n == 0) return;
    sha256_update(&o->sha, n, p);
    o->failed = o->failed || fwrite(p, 1, n, o->f) != n;
    o->bytes += n;
    idx_derived_pace(fileno(o->f), o->bytes, &o->synced);
}

void idx_derived_put(idx_derived_out *o, const void *p, size_t n)
{
    static const uint8_t zeros[8];
    put(o, p, n);
    put(o, zeros, (8 - n % 8) % 8);
}

static void sync_folder(char *path) /* changes it */
{
    int fd = open(dirname(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

idx_status idx_derived_close(idx_derived_out *o, bool keep, idx_error *err)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    struct stat sb;
    idx_status st = IDX_OK;
    sha256_digest(&o->sha, sizeof digest, digest);
    if (keep && (o->failed || fwrite(digest, sizeof digest, 1, o->f) != 1 || fflush(o->f) != 0 || fsync(fileno(o->f)) != 0))
        st = idx_fail(err, IDX_EIO, "cannot write %s: %s", o->tmp, strerror(errno));
    if (fclose(o->f) != 0 && keep && st == IDX_OK) st = idx_fail(err, IDX_EIO, "cannot close %s: %s", o->tmp, strerror(errno));
    if (keep && st == IDX_OK && (stat(o->tmp, &sb) != 0 || (uint64_t)sb.st_size != o->bytes + sizeof digest)) st = idx_fail(err, IDX_EIO, "%s came out too short", o->tmp);
    if (keep && st == IDX_OK && rename(o->tmp, o->path) != 0) st = idx_fail(err, IDX_EIO, "cannot rename %s: %s", o->tmp, strerror(errno));
    if (keep && st == IDX_OK) sync_folder(o->path);
    else unlink(o->tmp);
    free(o->path);
    free(o->tmp);
    return st;
}

idx_status idx_derived_open(idx_derived_in *in, const char *path, idx_error *err)
{
    *in = (idx_derived_in){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return idx_fail(err, errno == ENOENT ? IDX_ENOTFOUND : IDX_EIO, "cannot open %s: %s", path, strerror(errno));
    struct stat sb;
    idx_status st = fstat(fd, &sb) == 0 && sb.st_size > (off_t)SHA256_DIGEST_SIZE ? IDX_OK : idx_fail(err, IDX_ECORRUPT, "%s is too short", path);
    void *map = st == IDX_OK ? mmap(NULL, (size_t)sb.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (st == IDX_OK && map == MAP_FAILED) st = idx_fail(err, IDX_EIO, "cannot map %s: %s", path, strerror(errno));
    if (st != IDX_OK) return st;
    *in = (idx_derived_in){.p = map, .n = (size_t)sb.st_size - SHA256_DIGEST_SIZE};
    struct sha256_ctx sha;
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_init(&sha);
    sha256_update(&sha, in->n, in->p);
    sha256_digest(&sha, sizeof digest, digest);
    if (memcmp(digest, in->p + in->n, sizeof digest) == 0) return IDX_OK;
    idx_derived_unmap(in);
    return idx_fail(err, IDX_ECORRUPT, "the digest of %s does not match", path);
}

void idx_derived_unmap(idx_derived_in *in)
{
    if (in->p != NULL) munmap((void *)(uintptr_t)in->p, in->n + SHA256_DIGEST_SIZE);
    *in = (idx_derived_in){0};
}

const void *idx_derived_take(idx_derived_in *in, size_t n)
{
    if (n > in->n - in->at) return NULL;
    const void *p = in->p + in->at;
    size_t pad = (8 - n % 8) % 8;
    in->at += n + (pad <= in->n - in->at - n ? pad : 0);
    return p;
}
