/* file.h: a whole file of the tests' data in memory. */
#ifndef LK_TEST_FILE_H
#define LK_TEST_FILE_H

#include <stdio.h>
#include <stdlib.h>

/* malloc'd bytes and how many, NULL where it cannot be read. */
static inline void *test_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rbe");
    long size = -1;
    void *bytes = NULL;
    if (f != NULL && fseek(f, 0, SEEK_END) == 0) size = ftell(f);
    if (size >= 0 && fseek(f, 0, SEEK_SET) == 0) bytes = malloc((size_t)size + 1);
    if (bytes != NULL && fread(bytes, 1, (size_t)size, f) != (size_t)size) {
        free(bytes);
        bytes = NULL;
    }
    if (f != NULL) (void)fclose(f);
    if (bytes != NULL) *n = (size_t)size;
    return bytes;
}

#endif
