/* options.c: one table of settings, read from a file, the environment and the command line. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;

#define PREFIX "LIKENESS_"

/* Variables of the commands that speak to a server: known everywhere, so that one environment serves both. */
static const char *const client_variables[] = {"LIKENESS_URL", "LIKENESS_KEY", "LIKENESS_KEY_FILE", "LIKENESS_CATALOGUE"};

static bool wrong(const char *where, const char *fmt, const char *a, const char *b)
{
    fprintf(stderr, "likeness: %s: ", where);
    fprintf(stderr, fmt, a, b); // NOLINT: every format is a literal of this file with two %s
    fputc('\n', stderr);
    return false;
}

static bool read_flag(const char *text, bool *out)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"true", true}, {"1", true}, {"yes", true}, {"on", true}, {"false", false}, {"0", false}, {"no", false}, {"off", false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(text, words[i].text) == 0) {
            *out = words[i].value;
            return true;
        }
    return false;
}

/* A whole number and at most one unit letter out of `units` (its factor in `factors`). */
static bool read_number(const char *text, const char *units, const uint64_t *factors, uint64_t *out)
{
    if (!isdigit((unsigned char) text[0])) return false;
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno != 0) return false;
    uint64_t factor = 1;
    if (*end != '\0') {
        const char *u = strchr(units, *end);
        if (u == NULL || end[1] != '\0') return false;
        factor = factors[u - units];
    }
    return !__builtin_mul_overflow((uint64_t) v, factor, out);
}

static bool set_number(const srv_opt *o, const char *where, const char *text)
{
    static const uint64_t bytes[] = {1024, 1024 * 1024, 1024 * 1024 * 1024}, millis[] = {1000, 60000, 3600000};
    uint64_t v = 0;
    bool ok = o->type == SRV_OPT_BYTES    ? read_number(text, "KMG", bytes, &v)
              : o->type == SRV_OPT_MILLIS ? read_number(text, "smh", millis, &v)
                                          : read_number(text, "", NULL, &v);
    const char *kind = o->type == SRV_OPT_BYTES    ? "a whole number with an optional K, M or G"
                       : o->type == SRV_OPT_MILLIS ? "milliseconds, or a number with s, m or h"
                                                   : "a whole number";
    if (!ok) return wrong(where, "\"%s\" is not %s", text, kind);
    if (v < o->min || (o->max != 0 && v > o->max)) {
        char range[80];
        snprintf(range, sizeof range, "%llu..%llu", (unsigned long long) o->min,
                 o->max != 0 ? (unsigned long long) o->max : (unsigned long long) UINT64_MAX);
        return wrong(where, "%s is not within %s", text, range);
    }
    *(uint64_t *) o->value = v;
    return true;
}

static bool list_add(srv_opt_list *l, const char *item)
{
    const char **grown = realloc(l->items, (l->n + 1) * sizeof *grown);
    if (grown == NULL) return false;
    l->items = grown;
    l->items[l->n++] = item;
    return true;
}

static bool set_choice(const srv_opt *o, const char *where, const char *text)
{
    const char *word = o->arg;
    for (uint32_t i = 0; *word != '\0'; i++) {
        const size_t n = strcspn(word, "|");
        if (strlen(text) == n && strncmp(text, word, n) == 0) return *(uint32_t *) o->value = i, true;
        word += n + (word[n] != '\0');
    }
    return wrong(where, "\"%s\" is none of %s", text, o->arg);
}

/* text must outlive the program's use of the settings. */
static bool set(const srv_opt *o, const char *where, const char *text, bool split)
{
    if (o->type == SRV_OPT_FLAG)
        return read_flag(text, o->value) || wrong(where, "\"%s\" is not true or false%s", text, "");
    if (o->type == SRV_OPT_TEXT) {
        *(const char **) o->value = text;
        return true;
    }
    if (o->type == SRV_OPT_REAL) {
        char *end = NULL;
        double v = strtod(text, &end);
        if (end == text || *end != '\0' || !isfinite(v)) return wrong(where, "\"%s\" is not a number%s", text, "");
        if (o->max != 0 && (v < (double) o->min || v > (double) o->max)) {
            char range[80];
            snprintf(range, sizeof range, "%llu..%llu", (unsigned long long) o->min, (unsigned long long) o->max);
            return wrong(where, "%s is not within %s", text, range);
        }
        *(double *) o->value = v;
        return true;
    }
    if (o->type == SRV_OPT_CHOICE) return set_choice(o, where, text);
    if (o->type != SRV_OPT_LIST) return set_number(o, where, text);
    if (!split) return list_add(o->value, text) || wrong(where, "no memory%s%s", "", "");
    char *copy = strdup(text), *rest = NULL;
    if (copy == NULL) return wrong(where, "no memory%s%s", "", "");
    for (char *item = strtok_r(copy, ", ", &rest); item != NULL; item = strtok_r(NULL, ", ", &rest))
        if (!list_add(o->value, item)) return wrong(where, "no memory%s%s", "", "");
    return true;
}

static const srv_opt *find(const srv_opts *o, const char *name, size_t len)
{
    for (size_t i = 0; i < o->n_opts; i++)
        if (strlen(o->opts[i].name) == len && strncmp(o->opts[i].name, name, len) == 0) return &o->opts[i];
    return NULL;
}

/* Settings live as long as the program; the list knows those that another one has taken the place of, too. */
static const char *keep(const char *text)
{
    static struct kept {
        struct kept *next;
        char text[];
    } *all;
    struct kept *k = malloc(sizeof *k + strlen(text) + 1);
    if (k == NULL) return NULL;
    memcpy(k->text, text, strlen(text) + 1);
    k->next = all;
    all = k;
    return k->text;
}

static bool read_line(const srv_opts *o, const char *path, unsigned line, char *text)
{
    char where[512];
    snprintf(where, sizeof where, "%s:%u", path, line);
    while (isspace((unsigned char) *text)) text++;
    if (*text == '\0' || *text == '#') return true;
    char *eq = strchr(text, '=');
    if (eq == NULL) return wrong(where, "want `name = value`%s%s", "", "");
    char *name_end = eq, *value = eq + 1;
    while (name_end > text && isspace((unsigned char) name_end[-1])) name_end--;
    while (isspace((unsigned char) *value)) value++;
    char *end = value + strlen(value);
    while (end > value && isspace((unsigned char) end[-1])) end--;
    *end = '\0';
    *name_end = '\0';
    const srv_opt *opt = find(o, text, strlen(text));
    if (opt == NULL) return wrong(where, "unknown setting \"%s\"%s", text, "");
    const char *kept = keep(value);
    return kept != NULL && set(opt, where, kept, true);
}

static bool read_file(const srv_opts *o, const char *path)
{
    FILE *f = fopen(path, "re");
    if (f == NULL) return wrong("--config", "cannot read %s: %s", path, strerror(errno));
    char *text = NULL;
    size_t room = 0;
    bool ok = true;
    for (unsigned line = 1; ok && getline(&text, &room, f) > 0; line++) ok = read_line(o, path, line, text);
    free(text);
    fclose(f);
    return ok;
}

/* LIKENESS_MAX_QUEUE -> max-queue, in a buffer of 64 bytes; false when it cannot be a name. */
static bool variable_name(const char *variable, size_t len, char name[64])
{
    size_t skip = strlen(PREFIX);
    if (len <= skip || len - skip >= 64) return false;
    for (size_t i = skip; i < len; i++)
        name[i - skip] = variable[i] == '_' ? '-' : (char) tolower((unsigned char) variable[i]);
    name[len - skip] = '\0';
    return true;
}

static bool read_environment(const srv_opts *o)
{
    for (char **e = environ; *e != NULL; e++) {
        const char *eq = strchr(*e, '=');
        if (strncmp(*e, PREFIX, strlen(PREFIX)) != 0 || eq == NULL) continue;
        size_t len = (size_t) (eq - *e);
        char where[128], name[64];
        snprintf(where, sizeof where, "%.*s", (int) len, *e);
        const srv_opt *opt = variable_name(*e, len, name) ? find(o, name, strlen(name)) : NULL;
        bool other = strcmp(where, PREFIX "CONFIG") == 0;
        for (size_t i = 0; i < sizeof client_variables / sizeof *client_variables; i++)
            other = other || strcmp(where, client_variables[i]) == 0;
        if (opt != NULL ? !set(opt, where, eq + 1, true) : !other && !wrong(where, "unknown setting%s%s", "", ""))
            return false;
    }
    return true;
}

static void print_help(const srv_opts *o)
{
    printf("usage: %s\n\n%s\n", o->usage, o->about);
    if (o->n_opts > 0) puts("\noptions:");
    for (size_t i = 0; i < o->n_opts; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", o->opts[i].name, o->opts[i].arg != NULL ? o->opts[i].arg : "");
        printf("  %-28s %s\n", left, o->opts[i].help);
    }
    if (o->settings)
        puts("  --config FILE                lines `name = value`, the names as above\n\n"
             "Every option is also a variable: --max-queue N is LIKENESS_MAX_QUEUE=N.");
}

/* One flag at argv[*i]; moves *i over its value. */
static bool read_argument(const srv_opts *o, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *eq = strchr(name, '=');
    size_t len = eq != NULL ? (size_t) (eq - name) : strlen(name);
    const srv_opt *opt = find(o, name, len);
    if (opt == NULL) return wrong(argv[0], "unknown option %s (see likeness %s --help)", argv[*i], argv[0]);
    if (opt->type == SRV_OPT_FLAG && eq == NULL) {
        *(bool *) opt->value = true;
        return true;
    }
    if (eq == NULL && *i + 1 >= argc) return wrong(argv[0], "%s needs a value: %s", argv[*i], opt->arg);
    const char *where = argv[*i], *value = eq != NULL ? eq + 1 : argv[++*i];
    return set(opt, where, value, false);
}

srv_opts_result srv_opts_read(const srv_opts *o, int argc, char **argv, char **args, int *n_args)
{
    const char *config = o->settings ? getenv(PREFIX "CONFIG") : NULL;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(o);
            return SRV_OPTS_HELP;
        }
        if (o->settings && strcmp(argv[i], "--config") == 0 && i + 1 < argc) config = argv[i + 1];
        if (o->settings && strncmp(argv[i], "--config=", 9) == 0) config = argv[i] + 9;
    }
    if (config != NULL && !read_file(o, config)) return SRV_OPTS_WRONG;
    if (o->settings && !read_environment(o)) return SRV_OPTS_WRONG;
    *n_args = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            while (++i < argc) args[(*n_args)++] = argv[i];
        } else if (o->settings && strcmp(argv[i], "--config") == 0) {
            i++;
        } else if (o->settings && strncmp(argv[i], "--config=", 9) == 0) {
            continue;
        } else if (strncmp(argv[i], "--", 2) == 0) {
            if (!read_argument(o, argc, argv, &i)) return SRV_OPTS_WRONG;
        } else {
            args[(*n_args)++] = argv[i];
        }
    }
    return SRV_OPTS_GO;
}
