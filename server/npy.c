/* npy.c: NumPy's array files.
 *
 *   0  "\x93NUMPY"   6  major, minor   8  header length (2 bytes in version 1, 4 in version 2), little endian
 *      header: a Python dictionary as text, {'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 2), }
 *      data
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include "npy.h"
#include "files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NPY = 1 << 30 };

static const struct {
    const char *descr;
    emb_dtype dtype;
    size_t bytes;
} kinds[] = {{"<f4", EMB_F32, 4}, {"<f8", EMB_F64, 8}, {"<f2", EMB_F16, 2}, {"|u1", EMB_U8, 1}, {"|i1", EMB_I8, 1},
             {"<i4", EMB_I32, 4}, {"<i8", EMB_I64, 8}, {"|b1", EMB_BOOL, 1}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool wrong(char err[320], const char *path, const char *what)
{
    snprintf(err, 320, "%.200s: %s", path, what);
    return false;
}

/* The text behind 'KEY': in the header, or NULL. */
static const char *member(const char *header, const char *key)
{
    const char *at = strstr(header, key);
    if (at == NULL) return NULL;
    at += strlen(key);
    while (*at == ' ' || *at == ':') at++;
    return at;
}

static bool read_shape(const char *at, emb_tensor *t, uint64_t *count)
{
    *count = 1;
    if (at == NULL || *at++ != '(') return false;
    while (*at != ')') {
        char *end = NULL;
        errno = 0;
        long long d = strtoll(at, &end, 10);
        if (end == at || errno != 0 || d < 0 || t->rank == EMB_MAX_RANK || __builtin_mul_overflow(*count, (uint64_t) d, count)) return false;
        t->dims[t->rank++] = d;
        at = end;
        while (*at == ',' || *at == ' ') at++;
    }
    return true;
}

static bool parse(const char *path, const uint8_t *b, size_t n, emb_tensor *t, char err[320])
{
    if (n < 12 || memcmp(b, "\x93NUMPY", 6) != 0) return wrong(err, path, "is not a .npy file");
    size_t wide = b[6] == 1 ? 2 : 4, start = 8 + wide, len = b[8] | (size_t) b[9] << 8;
    if (wide == 4) len |= (size_t) b[10] << 16 | (size_t) b[11] << 24;
    if (b[6] < 1 || b[6] > 3 || len > n - start || len > 65536) return wrong(err, path, "has a damaged .npy header");
    char *header = strndup((const char *) b + start, len);
    if (header == NULL) return wrong(err, path, "no memory");
    const char *descr = member(header, "'descr'"), *order = member(header, "'fortran_order'");
    uint64_t count = 0, bytes = 0;
    size_t kind = KINDS;
    for (size_t i = 0; descr != NULL && i < KINDS; i++)
        if (descr[0] == '\'' && strncmp(descr + 1, kinds[i].descr, 3) == 0 && descr[4] == '\'') kind = i;
    bool ok = true;
    if (kind == KINDS) ok = wrong(err, path, "has a type other than f2 f4 f8 i1 i4 i8 u1 b1 (little endian)");
    else if (order == NULL || strncmp(order, "False", 5) != 0) ok = wrong(err, path, "is not in C order: use numpy.ascontiguousarray");
    else if (!read_shape(member(header, "'shape'"), t, &count)) ok = wrong(err, path, "has a shape that is not understood, or more than 8 axes");
    else if (__builtin_mul_overflow(count, (uint64_t) kinds[kind].bytes, &bytes) || bytes != n - start - len)
        ok = wrong(err, path, "holds more or fewer bytes than its shape says");
    free(header);
    if (!ok) return false;
    t->dtype = kinds[kind].dtype;
    t->bytes = (size_t) bytes;
    t->data = malloc(t->bytes > 0 ? t->bytes : 1);
    if (t->data == NULL) return wrong(err, path, "no memory");
    memcpy(t->data, b + start + len, t->bytes);
    return true;
}

bool srv_npy_read(const char *path, emb_tensor *out, char err[320])
{
    uint8_t *bytes = NULL;
    size_t n = 0;
    emb_tensor t = {0};
    if (!srv_file_read(path, MAX_NPY, &bytes, &n, err)) return false;
    bool ok = parse(path, bytes, n, &t, err);
    free(bytes);
    if (ok) *out = t;
    return ok;
}

bool srv_npy_write(const char *path, const emb_tensor *t, char err[320])
{
    size_t kind = 0;
    while (kind < KINDS && kinds[kind].dtype != t->dtype) kind++;
    if (kind == KINDS) return wrong(err, path, "the output's type has no .npy form");
    char header[512];
    int n = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (", kinds[kind].descr);
    for (uint32_t i = 0; i < t->rank; i++)
        n += snprintf(header + n, sizeof header - (size_t) n, "%lld%s", (long long) t->dims[i], t->rank == 1 ? "," : i + 1 < t->rank ? ", " : "");
    n += snprintf(header + n, sizeof header - (size_t) n, "), }");
    while ((10 + n + 1) % 64 != 0) header[n++] = ' '; // the data begin at a multiple of 64
    header[n++] = '\n';
    const uint8_t front[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (uint8_t) n, (uint8_t) (n >> 8)};
    FILE *f = fopen(path, "wbe");
    bool ok = f != NULL && fwrite(front, 1, sizeof front, f) == sizeof front && fwrite(header, 1, (size_t) n, f) == (size_t) n &&
              fwrite(t->data, 1, t->bytes, f) == t->bytes;
    if (f != NULL && fclose(f) != 0) ok = false;
    return ok || wrong(err, path, strerror(errno));
}
