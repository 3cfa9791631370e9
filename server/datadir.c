/* datadir.c: one process for one data folder. */
#include "datadir.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

int srv_datadir_lock(const char *dir, char err[320])
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/lock", dir) >= (int) sizeof path) {
        snprintf(err, 320, "the data folder's name is too long");
        return -1;
    }
    if (mkdir(dir, 0750) != 0 && errno != EEXIST) {
        snprintf(err, 320, "cannot make the data folder %.200s: %s", dir, strerror(errno));
        return -1;
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        snprintf(err, 320, "cannot write in the data folder %.200s: %s", dir, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        char pid[32] = "";
        ssize_t n = read(fd, pid, sizeof pid - 1);
        pid[n > 0 ? (size_t) n : 0] = '\0';
        pid[strcspn(pid, "\n")] = '\0';
        snprintf(err, 320, "the data folder %.180s is in use by process %.20s: one server for one folder", dir, pid[0] ? pid : "?");
        close(fd);
        return -1;
    }
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%ld\n", (long) getpid()) < 0) {
        snprintf(err, 320, "cannot write %.200s: %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    return fd;
}
