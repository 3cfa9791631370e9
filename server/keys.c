/* keys.c: the admin key and its file.
 *
 * DIR/admin-key, two lines:
 *     prefix lk_Ab12Cd
 *     sha256 <64 hex digits of the whole key's hash> */
#include "keys.h"

#include <errno.h>
#include <fcntl.h>
#include <nettle/base64.h>
#include <nettle/memops.h>
#include <nettle/sha2.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PREFIX_LEN = 9, KEY_BYTES = 32 };

struct srv_keys {
    pthread_mutex_t lock;
    uint8_t hash[SHA256_DIGEST_SIZE];
    char path[4096];       /* "" = from a key file, never read again */
    struct timespec mtime;
    ino_t inode;
};

static void hash_text(const char *text, size_t n, uint8_t out[SHA256_DIGEST_SIZE])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, n, (const uint8_t *) text);
    sha256_digest(&ctx, SHA256_DIGEST_SIZE, out);
}

static bool key_path(const char *dir, const char *name, char path[4096])
{
    int n = snprintf(path, 4096, "%s/%s", dir, name);
    return n > 0 && n < 4096;
}

bool srv_key_exists(const char *dir)
{
    char path[4096];
    return key_path(dir, "admin-key", path) && access(path, F_OK) == 0;
}

/* Written beside, synced, renamed: a crash leaves the old key or the new one. Of two programs that do so at once, each has a
 * file of its own, and the key that is renamed last is in force. */
static bool write_file(const char *dir, const char *text, char err[320])
{
    char path[4096], fresh[4096], name[48];
    snprintf(name, sizeof name, "admin-key.%ld.new", (long) getpid());
    if (!key_path(dir, "admin-key", path) || !key_path(dir, name, fresh)) {
        snprintf(err, 320, "the data folder's name is too long");
        return false;
    }
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text) && fsync(fd) == 0;
    if (fd >= 0 && close(fd) != 0) ok = false;
    ok = ok && rename(fresh, path) == 0;
    int folder = ok ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    ok = ok && folder >= 0 && fsync(folder) == 0;
    if (!ok) snprintf(err, 320, "cannot write %.200s: %s", path, strerror(errno));
    if (folder >= 0) close(folder);
    return ok;
}

bool srv_key_create(const char *dir, char text[SRV_KEY_TEXT], char err[320])
{
    uint8_t secret[KEY_BYTES], hash[SHA256_DIGEST_SIZE];
    if (getrandom(secret, sizeof secret, 0) != (ssize_t) sizeof secret) {
        snprintf(err, 320, "no random bytes: %s", strerror(errno));
        return false;
    }
    char encoded[BASE64_ENCODE_RAW_LENGTH(KEY_BYTES)];
    base64_encode_raw(encoded, sizeof secret, secret);
    memcpy(text, "lk_", 3);
    for (size_t i = 0; i < 43; i++) // base64url, without the padding
        text[3 + i] = encoded[i] == '+' ? '-' : encoded[i] == '/' ? '_' : encoded[i];
    text[SRV_KEY_TEXT - 1] = '\0';
    hash_text(text, SRV_KEY_TEXT - 1, hash);
    char file[128];
    int n = snprintf(file, sizeof file, "prefix %.*s\nsha256 ", PREFIX_LEN, text);
    for (size_t i = 0; i < sizeof hash; i++) n += snprintf(file + n, sizeof file - (size_t) n, "%02x", hash[i]);
    snprintf(file + n, sizeof file - (size_t) n, "\n");
    bool ok = write_file(dir, file, err);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(encoded, sizeof encoded);
    return ok;
}

static bool read_key_file(const char *path, char prefix[16], uint8_t hash[SHA256_DIGEST_SIZE])
{
    char hex[65];
    FILE *f = fopen(path, "re");
    bool ok = f != NULL && fscanf(f, "prefix %15s sha256 %64[0-9a-f]", prefix, hex) == 2 && strlen(hex) == 64;
    for (size_t i = 0; ok && i < SHA256_DIGEST_SIZE; i++) {
        unsigned byte = 0;
        ok = sscanf(hex + 2 * i, "%2x", &byte) == 1;
        hash[i] = (uint8_t) byte;
    }
    if (f != NULL) fclose(f);
    return ok;
}

void srv_key_prefix(const char *dir, char prefix[16])
{
    char path[4096];
    uint8_t hash[SHA256_DIGEST_SIZE];
    if (!key_path(dir, "admin-key", path) || !read_key_file(path, prefix, hash)) prefix[0] = '\0';
}

/* With the lock held. A file that cannot be read keeps the key that was in force. */
static bool reload(srv_keys *k)
{
    struct stat st;
    if (stat(k->path, &st) != 0) return false;
    if (st.st_ino == k->inode && st.st_mtim.tv_sec == k->mtime.tv_sec && st.st_mtim.tv_nsec == k->mtime.tv_nsec) return true;
    char prefix[16];
    uint8_t hash[SHA256_DIGEST_SIZE];
    if (!read_key_file(k->path, prefix, hash)) return false;
    memcpy(k->hash, hash, sizeof hash);
    k->inode = st.st_ino;
    k->mtime = st.st_mtim;
    return true;
}

static bool read_secret(const char *path, srv_keys *k, char err[320])
{
    char line[512] = "";
    FILE *f = fopen(path, "re");
    bool ok = f != NULL && fgets(line, sizeof line, f) != NULL;
    if (!ok) snprintf(err, 320, "cannot read the key file %.200s: %s", path, f == NULL ? strerror(errno) : "it is empty");
    if (f != NULL) fclose(f);
    line[strcspn(line, "\r\n")] = '\0';
    if (ok && strlen(line) < 16) {
        snprintf(err, 320, "the key in %.200s has %zu characters, at least 16 are needed", path, strlen(line));
        ok = false;
    }
    if (ok) hash_text(line, strlen(line), k->hash);
    explicit_bzero(line, sizeof line);
    return ok;
}

srv_keys *srv_keys_open(const char *dir, const char *key_file, char err[320])
{
    srv_keys *k = calloc(1, sizeof *k);
    if (k == NULL) {
        snprintf(err, 320, "no memory for the keys");
        return NULL;
    }
    pthread_mutex_init(&k->lock, NULL);
    bool ok;
    if (key_file != NULL) {
        ok = read_secret(key_file, k, err);
    } else {
        ok = key_path(dir, "admin-key", k->path) && reload(k);
        if (!ok) snprintf(err, 320, "cannot read %.200s: make a new key with `likeness key create`", k->path);
    }
    if (!ok) {
        srv_keys_free(k);
        return NULL;
    }
    return k;
}

bool srv_keys_allow(srv_keys *k, const char *authorization)
{
    if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0) return false;
    const char *key = authorization + 7;
    while (*key == ' ') key++;
    uint8_t hash[SHA256_DIGEST_SIZE];
    hash_text(key, strlen(key), hash);
    pthread_mutex_lock(&k->lock);
    if (k->path[0] != '\0') (void) reload(k);
    bool same = memeql_sec(hash, k->hash, sizeof hash) != 0;
    pthread_mutex_unlock(&k->lock);
    return same;
}

void srv_keys_free(srv_keys *k)
{
    if (k == NULL) return;
    pthread_mutex_destroy(&k->lock);
    explicit_bzero(k->hash, sizeof k->hash);
    free(k);
}
