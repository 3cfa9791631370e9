/* files.h: whole files in memory. */
#ifndef LK_FILES_H
#define LK_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads all of a regular file of at most `max` bytes, or of stdin for "-". *bytes: malloc, with a NUL after the end that is
 * not counted. false: err says why, with the path. */
bool srv_file_read(const char *path, size_t max, uint8_t **bytes, size_t *n, char err[320]);

#endif
