/* import_csv.c: a table as RFC 4180 describes it: quoted cells may hold commas, line ends and doubled quotes. The first row
 * names the columns: id, image or images (paths separated by |), all others become attributes. */
#include "files.h"
#include "import_source.h"

#include <ctype.h>
#include <errno.h>
#include <libgen.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COLUMNS = 256, MAX_CSV_BYTES = 1 << 30 };

typedef struct {
    char *at, *end;
    uint32_t line;               /* of the row that comes next */
    char *cells[MAX_COLUMNS];    /* inside the file's text, unquoted in place */
    size_t n;
    bool broken;                 /* a quote that does not close */
    bool many;                   /* more than MAX_COLUMNS */
} reader;

/* One cell at r->at; leaves r->at behind its separator. Returns whether the row goes on. */
static bool read_cell(reader *r)
{
    char *out = r->at, *start = r->at;
    if (r->at < r->end && *r->at == '"') {
        for (r->at++;; r->at++) {
            if (r->at == r->end) {
                r->broken = true;
                break;
            }
            if (*r->at == '"' && (++r->at == r->end || *r->at != '"')) break;
            if (*r->at == '\n') r->line++;
            *out++ = *r->at;
        }
    }
    while (r->at < r->end && *r->at != ',' && *r->at != '\n') *out++ = *r->at++;
    bool more = r->at < r->end && *r->at == ',';
    if (r->at < r->end && *r->at == '\n') r->line++;
    if (r->at < r->end) r->at++;
    if (!more && out > start && out[-1] == '\r') out--;
    *out = '\0'; // out never passes the separator, which was read before
    if (r->n < MAX_COLUMNS) r->cells[r->n++] = start;
    else r->many = true;
    return more;
}

static bool read_row(reader *r)
{
    if (r->at >= r->end) return false;
    r->n = 0;
    r->broken = r->many = false;
    while (read_cell(r)) continue;
    return true;
}

/* -12, 3.5, 1e3: what JSON calls a number; a leading zero ("007") says that it is a code, not a number. */
static json_t *number(const char *text)
{
    const char *digits = text[0] == '-' ? text + 1 : text;
    if (!isdigit((unsigned char) digits[0]) || (digits[0] == '0' && isdigit((unsigned char) digits[1]))) return NULL;
    if (strspn(digits, "0123456789") == strlen(digits)) {
        errno = 0;
        long long v = strtoll(text, NULL, 10);
        return errno == 0 && llabs(v) < (1LL << 53) ? json_integer(v) : NULL; // longer ones are codes (GTIN)
    }
    char *end = NULL;
    if (strspn(digits, "0123456789.eE+-") != strlen(digits)) return NULL;
    double v = strtod(text, &end);
    return *end == '\0' && isfinite(v) ? json_real(v) : NULL;
}

static json_t *value_of(const char *text, bool strings)
{
    json_t *v = NULL;
    if (!strings && strcmp(text, "true") == 0) return json_true();
    if (!strings && strcmp(text, "false") == 0) return json_false();
    if (!strings) v = number(text);
    return v != NULL ? v : json_string(text);
}

static void read_paths(srv_record *r, const char *base, char *text)
{
    char *rest = NULL;
    for (char *path = strtok_r(text, "|", &rest); path != NULL; path = strtok_r(NULL, "|", &rest)) {
        while (*path == ' ') path++;
        for (char *end = path + strlen(path); end > path && end[-1] == ' ';) *--end = '\0';
        if (*path != '\0') srv_record_image(r, base, path);
    }
}

static bool read_header(reader *r, char *names[MAX_COLUMNS], size_t *n, const char *path, char err[320])
{
    bool id = false, image = false;
    if (!read_row(r) || r->broken || r->many) {
        snprintf(err, 320, "%.200s: the first row must name the columns (at most %d)", path, MAX_COLUMNS);
        return false;
    }
    memcpy(names, r->cells, r->n * sizeof *names);
    *n = r->n;
    for (size_t i = 0; i < *n; i++) {
        id = id || strcmp(names[i], "id") == 0;
        image = image || strcmp(names[i], "image") == 0 || strcmp(names[i], "images") == 0;
        for (size_t k = 0; k < i; k++)
            if (strcmp(names[i], names[k]) == 0) {
                snprintf(err, 320, "%.200s: column \"%.60s\" is there twice", path, names[i]);
                return false;
            }
    }
    if (!id || !image) snprintf(err, 320, "%.200s: no column \"%s\"", path, id ? "image\" or \"images" : "id");
    return id && image;
}

static bool add_row(srv_source *s, reader *r, uint32_t line, char *const *names, size_t n_names, const char *base, bool strings)
{
    srv_record *rec = srv_source_add(s, line);
    if (rec == NULL) return false;
    if (r->broken) srv_record_bad(rec, "a quoted cell does not end");
    if (r->n != n_names || r->many) srv_record_bad(rec, "%zu cells, the header has %zu", r->n, n_names);
    for (size_t i = 0; i < r->n && i < n_names; i++) {
        char *cell = r->cells[i];
        if (strcmp(names[i], "id") == 0) rec->id = strdup(cell);
        else if (strcmp(names[i], "image") == 0 || strcmp(names[i], "images") == 0) read_paths(rec, base, cell);
        else if (cell[0] != '\0' && json_object_set_new(rec->attributes, names[i], value_of(cell, strings)) != 0)
            srv_record_bad(rec, "column \"%.60s\" is not valid UTF-8", names[i]);
    }
    if (rec->id == NULL || rec->id[0] == '\0') srv_record_bad(rec, "no id");
    if (rec->n_images == 0) srv_record_bad(rec, "no image");
    return true;
}

bool srv_source_read_csv(const char *path, bool strings, srv_source *out, char err[320])
{
    uint8_t *text = NULL;
    size_t n = 0, n_names = 0;
    char *names[MAX_COLUMNS], *copy = strdup(path);
    if (copy == NULL || !srv_file_read(path, MAX_CSV_BYTES, &text, &n, err)) {
        free(copy);
        return false;
    }
    const char *base = dirname(copy);
    reader r = {.at = (char *) text, .end = (char *) text + n, .line = 1};
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) r.at += 3;
    bool ok = read_header(&r, names, &n_names, path, err);
    while (ok) {
        uint32_t line = r.line;
        if (!read_row(&r)) break;
        if (r.n == 1 && r.cells[0][0] == '\0') continue; // an empty line
        ok = add_row(out, &r, line, names, n_names, base, strings);
        if (!ok) snprintf(err, 320, "no memory for the records of %.200s", path);
    }
    free(text);
    free(copy);
    return ok;
}
