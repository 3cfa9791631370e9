/* cmd_search.c: `likeness search`: the items that look like a photo, as a table. */
#include "client_opts.h"
#include "commands.h"
#include "files.h"
#include "http_client.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *url, *key_file, *catalogue, *item, *filter, *crop, *page_token, *facets;
static uint64_t limit = 10, facets_top;
static double min_score = -2;
static bool as_json, exact, explain;

static const srv_opt opts[] = {
    {"item", "ID", SRV_OPT_TEXT, &item, 0, 0, "more like this item, instead of a photo"},
    {"limit", "N", SRV_OPT_COUNT, &limit, 1, 100, "results (10)"},
    {"filter", "TEXT", SRV_OPT_TEXT, &filter, 0, 0, "AIP-160: category = \"shoes\" AND price < 80"},
    {"min-score", "S", SRV_OPT_REAL, &min_score, 0, 0, "leave out what is less alike, -1..1"},
    {"crop", "X,Y,W,H", SRV_OPT_TEXT, &crop, 0, 0, "part of the photo, in fractions of its size"},
    {"page-token", "TOKEN", SRV_OPT_TEXT, &page_token, 0, 0, "of the reply before (see --json)"},
    {"exact", NULL, SRV_OPT_FLAG, &exact, 0, 0, "compare with every image"},
    {"facets", "NAMES", SRV_OPT_TEXT, &facets, 0, 0, "count values over all matches: brand,colour:20,price:..50|50.."},
    {"facets-top", "N", SRV_OPT_COUNT, &facets_top, 1, 1000, "count over the best N results instead"},
    {"explain", NULL, SRV_OPT_FLAG, &explain, 0, 0, "say how the results were found"},
    {"json", NULL, SRV_OPT_FLAG, &as_json, 0, 0, "print the server's reply"},
    SRV_OPT_URL(url),
    SRV_OPT_KEY_FILE(key_file),
    SRV_OPT_CATALOGUE(catalogue),
};

static void add(FILE *f, const char *name, const char *value)
{
    char *text = value != NULL ? srv_percent_encode(value) : NULL;
    if (text != NULL) fprintf(f, "&%s=%s", name, text);
    free(text);
}

/* Path and query string; malloc. */
static char *target(void)
{
    char *path = NULL, *name = srv_percent_encode(catalogue), number[40];
    size_t n = 0;
    FILE *f = name != NULL ? open_memstream(&path, &n) : NULL;
    if (f == NULL) return NULL;
    fprintf(f, "/v1/catalogues/%s/search?limit=%llu", name, (unsigned long long) limit);
    snprintf(number, sizeof number, "%.9g", min_score);
    if (min_score > -2) add(f, "min_score", number);
    if (exact) add(f, "exact", "true");
    if (explain) add(f, "explain", "true");
    add(f, "facets", facets);
    if (facets_top > 0) fprintf(f, "&facets_top=%llu", (unsigned long long) facets_top);
    add(f, "filter", filter);
    add(f, "crop", crop);
    add(f, "page_token", page_token);
    free(name);
    return fclose(f) == 0 ? path : NULL;
}

static void print_text(const json_t *v)
{
    char *text = json_is_string(v) ? NULL : json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    fputs(json_is_string(v) ? json_string_value(v) : text != NULL ? text : "", stdout);
    free(text);
}

static void print_facets(const json_t *reply)
{
    size_t i, k;
    const json_t *f, *v;
    json_array_foreach(json_object_get(json_object_get(reply, "facets"), "fields"), i, f)
    {
        printf("%s:", json_string_value(json_object_get(f, "field")));
        json_array_foreach(json_object_get(f, "values"), k, v)
        {
            fputs(k > 0 ? ", " : " ", stdout);
            print_text(json_object_get(v, "value"));
            printf(" (%lld)", (long long) json_integer_value(json_object_get(v, "count")));
        }
        json_array_foreach(json_object_get(f, "ranges"), k, v)
        {
            fputs(k > 0 ? ", " : " ", stdout);
            print_text(json_object_get(v, "from"));
            fputs("..", stdout);
            print_text(json_object_get(v, "to"));
            printf(" (%lld)", (long long) json_integer_value(json_object_get(v, "count")));
        }
        putchar('\n');
    }
}

static void print_table(const json_t *reply)
{
    size_t i, width = 4;
    json_t *hit;
    json_array_foreach(json_object_get(reply, "results"), i, hit)
    {
        size_t n = strlen(json_string_value(json_object_get(hit, "id")));
        width = n > width && n <= 48 ? n : width;
    }
    printf("%4s  %6s  %-*s  %s\n", "rank", "score", (int) width, "item", "title");
    json_array_foreach(json_object_get(reply, "results"), i, hit)
    {
        const char *title = json_string_value(json_object_get(json_object_get(hit, "attributes"), "title"));
        printf("%4zu  %6.3f  %-*s  %s\n", i + 1, json_number_value(json_object_get(hit, "score")), (int) width,
               json_string_value(json_object_get(hit, "id")), title != NULL ? title : "");
    }
    if (json_array_size(json_object_get(reply, "results")) == 0) puts("  (no item)");
    print_facets(reply);
    if (explain) {
        fputs("explain: ", stdout);
        print_text(json_object_get(reply, "explain"));
        putchar('\n');
    }
    const json_t *total = json_object_get(reply, "total");
    printf("%s%lld items, ", json_is_true(json_object_get(total, "exact")) ? "" : "at least ", (long long) json_integer_value(json_object_get(total, "items")));
    printf("%.1f ms, model %s\n", json_number_value(json_object_get(reply, "took_ms")), json_string_value(json_object_get(reply, "model")));
}

static int print_answer(const srv_answer *a)
{
    char why[512];
    json_t *reply = a->status == 200 ? json_loadb(a->body, a->n, 0, NULL) : NULL;
    if (reply == NULL) {
        srv_answer_describe(a, why, sizeof why);
        fprintf(stderr, "likeness: search: %s\n", why);
        return 1;
    }
    if (as_json) printf("%.*s\n", (int) a->n, a->body);
    else print_table(reply);
    json_decref(reply);
    return 0;
}

static bool make_body(const char *photo, uint8_t **body, size_t *n, char err[320])
{
    if (photo != NULL) return srv_file_read(photo, 256u << 20, body, n, err);
    json_t *o = json_pack("{s:s}", "item", item);
    *body = o != NULL ? (uint8_t *) json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (*body == NULL) snprintf(err, 320, "the item id is not valid UTF-8");
    else *n = strlen((char *) *body);
    return *body != NULL;
}

int srv_cmd_search(int argc, char **argv)
{
    char **args = calloc((size_t) argc, sizeof *args), err[320] = "no memory";
    srv_opts table = {"likeness search PHOTO [OPTIONS]\n       likeness search --item ID [OPTIONS]",
                      "Prints the items of a catalogue that look most alike.", opts, sizeof opts / sizeof *opts, false};
    int n_args = 0, rc = 1;
    catalogue = srv_default_catalogue();
    srv_opts_result what = args != NULL ? srv_opts_read(&table, argc, argv, args, &n_args) : SRV_OPTS_WRONG;
    const char *photo = n_args == 1 ? args[0] : NULL;
    free(args);
    if (what != SRV_OPTS_GO) return what == SRV_OPTS_HELP ? 0 : 2;
    if ((photo != NULL) == (item != NULL) || n_args > 1) {
        fputs("likeness: search: give one photo, or --item ID\n", stderr);
        return 2;
    }
    srv_client_global();
    srv_client *c = srv_client_new(url, key_file, err);
    char *path = target();
    uint8_t *body = NULL;
    size_t n = 0;
    srv_answer a = {0};
    if (c != NULL && path != NULL && make_body(photo, &body, &n, err) &&
        srv_client_send(c, "POST", path, photo != NULL ? "application/octet-stream" : "application/json", body, n, &a, err))
        rc = print_answer(&a);
    else fprintf(stderr, "likeness: search: %s\n", err);
    srv_answer_fini(&a);
    free(body);
    free(path);
    srv_client_free(c);
    return rc;
}
