/* files.c: whole files in memory. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_all(int fd, const char *path, size_t max, uint8_t **bytes, size_t *n, char err[320])
{
    size_t room = 64 * 1024, len = 0;
    uint8_t *buf = malloc(room);
    for (;;) {
        if (buf == NULL) {
            snprintf(err, 320, "%.200s: no memory", path);
            return false;
        }
        ssize_t got = read(fd, buf + len, room - len - 1);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) snprintf(err, 320, "cannot read %.200s: %s", path, strerror(errno));
        if (got > 0 && len + (size_t) got > max) snprintf(err, 320, "%.200s has more than %zu bytes", path, max);
        if (got < 0 || len + (size_t) (got > 0 ? got : 0) > max) {
            free(buf);
            return false;
        }
        if (got == 0) break;
        len += (size_t) got;
        if (room - len >= 2) continue;
        uint8_t *grown = realloc(buf, room *= 2);
        if (grown == NULL) free(buf);
        buf = grown;
    }
    buf[len] = 0;
    *bytes = buf;
    *n = len;
    return true;
}

bool srv_file_read(const char *path, size_t max, uint8_t **bytes, size_t *n, char err[320])
{
    if (strcmp(path, "-") == 0) return read_all(STDIN_FILENO, "stdin", max, bytes, n, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a named pipe must not hold an import up
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        snprintf(err, 320, "cannot open %.200s: %s", path, strerror(errno));
        if (fd >= 0) close(fd);
        return false;
    }
    bool ok = S_ISREG(st.st_mode);
    if (!ok) snprintf(err, 320, "%.200s is not a regular file", path);
    else ok = read_all(fd, path, max, bytes, n, err);
    close(fd);
    return ok;
}
