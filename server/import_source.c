/* import_source.c: folders and NDJSON; import_csv.c reads tables. */
#include "import_source.h"
#include "files.h"

#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { MAX_LIST_BYTES = 1 << 30, MAX_DEPTH = 128 };

srv_record *srv_source_add(srv_source *s, uint32_t line)
{
    if (s->n == s->room) {
        size_t room = 2 * s->room + 256;
        srv_record *grown = realloc(s->records, room * sizeof *grown);
        if (grown == NULL) return NULL;
        s->records = grown;
        s->room = room;
    }
    srv_record *r = &s->records[s->n++];
    *r = (srv_record){.line = line, .attributes = json_object()};
    return r;
}

void srv_record_bad(srv_record *r, const char *fmt, ...)
{
    if (r->bad != NULL) return; // the first reason is the one to mend
    va_list ap;
    va_start(ap, fmt);
    if (vasprintf(&r->bad, fmt, ap) < 0) r->bad = NULL;
    va_end(ap);
}

void srv_record_image(srv_record *r, const char *base, const char *path)
{
    if (r->n_images == SRV_IMPORT_MAX_IMAGES) {
        srv_record_bad(r, "more than %d images", SRV_IMPORT_MAX_IMAGES);
        return;
    }
    char **grown = realloc(r->images, (r->n_images + 1) * sizeof *grown), *text = NULL;
    if (grown != NULL) r->images = grown;
    bool joined = path[0] != '/' && strcmp(base, ".") != 0;
    if (grown == NULL || asprintf(&text, "%s%s%s", joined ? base : "", joined ? "/" : "", path) < 0) srv_record_bad(r, "no memory");
    else r->images[r->n_images++] = text;
}

void srv_source_fini(srv_source *s)
{
    for (size_t i = 0; i < s->n; i++) {
        srv_record *r = &s->records[i];
        for (size_t k = 0; k < r->n_images; k++) free(r->images[k]);
        free(r->images);
        free(r->id);
        free(r->bad);
        json_decref(r->attributes);
    }
    free(s->records);
    *s = (srv_source){0};
}

/* ---- a folder ----------------------------------------------------------------------------------- */

static bool is_photo_name(const char *name)
{
    static const char *const ends[] = {".jpg", ".jpeg", ".png", ".webp", ".jpe", ".jfif"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (n > strlen(ends[i]) && strcasecmp(name + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

/* rel: path below the folder. The id is rel without its ending; the folders on the way are an attribute. */
static bool add_photo(srv_source *s, const char *root, const char *rel)
{
    srv_record *r = srv_source_add(s, 0);
    if (r == NULL) return false;
    r->id = strdup(rel);
    if (r->id == NULL) return false;
    *strrchr(r->id, '.') = '\0';
    srv_record_image(r, root, rel);
    const char *slash = strrchr(rel, '/');
    json_t *folder = slash != NULL ? json_stringn(rel, (size_t) (slash - rel)) : NULL;
    if (folder != NULL) json_object_set_new(r->attributes, "folder", folder);
    if (json_object_set_new(r->attributes, "file", json_string(rel)) != 0) srv_record_bad(r, "the file's name is not valid UTF-8");
    return true;
}

typedef struct folder { /* one that is being read, and those that it is in */
    const struct folder *in;
    int depth;
    dev_t device;
    ino_t inode;
} folder;

/* Links are followed, but not back to where they are: there they would never end. */
static bool is_being_read(const folder *f, const struct stat *st)
{
    while (f != NULL && (f->device != st->st_dev || f->inode != st->st_ino)) f = f->in;
    return f != NULL;
}

static bool walk(srv_source *s, const char *root, const char *rel, const folder *f, char err[320]);

static bool walk_entry(srv_source *s, const char *root, const char *rel, const folder *f, const char *name, char err[320])
{
    char path[4096], below[4096];
    struct stat st;
    int len = snprintf(below, sizeof below, "%s%s%s", rel, rel[0] != '\0' ? "/" : "", name);
    if (len >= (int) sizeof below || snprintf(path, sizeof path, "%s/%s", root, below) >= (int) sizeof path) {
        snprintf(err, 320, "the path %.200s... is too long", below);
        return false;
    }
    bool there = stat(path, &st) == 0;
    if (there && S_ISDIR(st.st_mode)) {
        if (is_being_read(f, &st)) return true;
        if (f->depth < MAX_DEPTH) return walk(s, root, below, &(folder){f, f->depth + 1, st.st_dev, st.st_ino}, err);
        snprintf(err, 320, "the folder %.200s is more than %d folders deep", path, MAX_DEPTH);
        return false;
    }
    if (!is_photo_name(name) || (there && !S_ISREG(st.st_mode))) return true;
    if (add_photo(s, root, below)) return true; // one that is not there (a link to nothing) is said to be that when it is read
    snprintf(err, 320, "no memory for the records of %.200s", root);
    return false;
}

static bool walk(srv_source *s, const char *root, const char *rel, const folder *f, char err[320])
{
    char path[4096];
    struct dirent **entries = NULL;
    snprintf(path, sizeof path, "%s%s%s", root, rel[0] != '\0' ? "/" : "", rel);
    int n = scandir(path, &entries, NULL, alphasort);
    if (n < 0) {
        snprintf(err, 320, "cannot read the folder %.200s: %s", path, strerror(errno));
        return false;
    }
    bool ok = true;
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        ok = ok && (name[0] == '.' || walk_entry(s, root, rel, f, name, err));
        free(entries[i]);
    }
    free(entries);
    return ok;
}

/* ---- NDJSON ------------------------------------------------------------------------------------- */

static void read_images(srv_record *r, const char *base, const json_t *images)
{
    size_t i;
    json_t *path;
    if (json_is_string(images)) srv_record_image(r, base, json_string_value(images));
    else if (!json_is_array(images)) srv_record_bad(r, "images is neither a path nor an array of paths");
    json_array_foreach(images, i, path)
    {
        if (json_is_string(path)) srv_record_image(r, base, json_string_value(path));
        else srv_record_bad(r, "images[%zu] is not a path", i);
    }
}

static bool read_line(srv_source *s, const char *base, const char *text, size_t n, uint32_t line)
{
    srv_record *r = srv_source_add(s, line);
    if (r == NULL) return false;
    json_error_t e;
    json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, &e), *value;
    const char *name;
    if (!json_is_object(o)) srv_record_bad(r, "not a JSON object%s%s", o == NULL ? ": " : "", o == NULL ? e.text : "");
    json_object_foreach(o, name, value)
    {
        if (strcmp(name, "id") == 0 && json_is_string(value) && r->id == NULL) r->id = strdup(json_string_value(value));
        else if (strcmp(name, "attributes") == 0 && json_is_object(value)) json_object_update(r->attributes, value);
        else if (strcmp(name, "images") == 0 || strcmp(name, "image") == 0) read_images(r, base, value);
        else if (strcmp(name, "error") != 0) srv_record_bad(r, "member \"%.40s\" is unknown or of the wrong type", name);
    }
    if (r->id == NULL) srv_record_bad(r, "no id");
    if (r->n_images == 0) srv_record_bad(r, "no images");
    json_decref(o);
    return true;
}

static bool read_ndjson(const char *path, const char *base, srv_source *s, char err[320])
{
    uint8_t *text = NULL;
    size_t n = 0;
    if (!srv_file_read(path, MAX_LIST_BYTES, &text, &n, err)) return false;
    uint32_t line = 0;
    bool ok = true;
    char *begin = (char *) text, *end = begin + n;
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) begin += 3;
    for (char *at = begin; ok && at < end;) {
        char *stop = memchr(at, '\n', (size_t) (end - at));
        size_t len = stop != NULL ? (size_t) (stop - at) : (size_t) (end - at);
        line++;
        if (strspn(at, " \t\r") < len) ok = read_line(s, base, at, len, line);
        at += len + 1;
    }
    free(text);
    if (!ok) snprintf(err, 320, "no memory for the records of %.200s", path);
    return ok;
}

bool srv_source_read(const char *path, bool strings, srv_source *out, char err[320])
{
    struct stat st;
    *out = (srv_source){0};
    bool ok = false;
    size_t n = strlen(path);
    if (strcmp(path, "-") == 0) {
        ok = read_ndjson(path, ".", out, err);
    } else if (stat(path, &st) != 0) {
        snprintf(err, 320, "cannot read %.200s: %s", path, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        char root[4096];
        snprintf(root, sizeof root, "%s", path);
        for (size_t k = strlen(root); k > 1 && root[k - 1] == '/'; k--) root[k - 1] = '\0';
        ok = walk(out, root, "", &(folder){NULL, 0, st.st_dev, st.st_ino}, err);
    } else if (n > 4 && strcasecmp(path + n - 4, ".csv") == 0) {
        ok = srv_source_read_csv(path, strings, out, err);
    } else if ((n > 7 && strcasecmp(path + n - 7, ".ndjson") == 0) || (n > 6 && strcasecmp(path + n - 6, ".jsonl") == 0)) {
        char *copy = strdup(path);
        ok = copy != NULL && read_ndjson(path, dirname(copy), out, err);
        free(copy);
    } else {
        snprintf(err, 320, "%.200s is neither a folder nor a .csv, .ndjson or .jsonl file", path);
    }
    if (!ok) srv_source_fini(out);
    return ok;
}
