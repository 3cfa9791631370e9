/* bench_recall.c: see bench_recall.h. */
#include "bench_recall.h"
#include "http_client.h"
#include "queue.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 100, MAX_PLANS = 8 };

typedef struct {
    const srv_recall *r;
    srv_client *client;
    char *name; /* of the catalogue, encoded */
    char **ids;
    size_t n_ids;
    double *usual_ms, *exact_ms;
    size_t done, perfect;
    double sum, worst;
    struct {
        char name[32];
        size_t n;
    } plans[MAX_PLANS];
    size_t n_plans;
    char err[320];
} bench;

static json_t *ask(bench *b, const char *method, const char *path, const char *body)
{
    srv_answer a = {0};
    if (!srv_client_send(b->client, method, path, body != NULL ? "application/json" : NULL, body, body != NULL ? strlen(body) : 0, &a, b->err)) return NULL;
    json_t *j = a.status == 200 ? json_loadb(a.body, a.n, 0, NULL) : NULL;
    if (j == NULL) srv_answer_describe(&a, b->err, sizeof b->err);
    srv_answer_fini(&a);
    return j;
}

/* splitmix64 from a fixed seed: the same catalogue gives the same queries. */
static uint64_t next_random(uint64_t *s)
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Keeps `queries` of the first `among` items, each as likely as the other. */
static bool choose(bench *b)
{
    uint64_t seed = 1, seen = 0;
    char *token = NULL;
    bool more = true, ok = true;
    while (ok && more && seen < b->r->among) {
        char *path = NULL;
        ok = asprintf(&path, "/v1/catalogues/%s/items?limit=%d&fields=%s%s", b->name, PAGE, token != NULL ? "&page_token=" : "", token != NULL ? token : "") >= 0;
        json_t *page = ok ? ask(b, "GET", path, NULL) : NULL;
        free(path);
        free(token);
        token = NULL;
        ok = page != NULL;
        size_t i;
        const json_t *item, *next = json_object_get(page, "next_page_token");
        json_array_foreach(json_object_get(page, "items"), i, item)
        {
            const char *id = json_string_value(json_object_get(item, "id"));
            uint64_t at = seen < b->r->queries ? seen : next_random(&seed) % (seen + 1);
            seen++;
            if (id == NULL || at >= b->r->queries) continue;
            free(b->ids[at]);
            ok = (b->ids[at] = strdup(id)) != NULL && ok;
            if (at == b->n_ids) b->n_ids++;
        }
        more = json_is_string(next);
        if (ok && more) ok = (token = strdup(json_string_value(next))) != NULL;
        json_decref(page);
    }
    free(token);
    if (ok && b->n_ids == 0) snprintf(b->err, sizeof b->err, "the catalogue is empty");
    return ok && b->n_ids > 0;
}

static json_t *search(bench *b, const char *id, bool exact, double *ms)
{
    char *path = NULL;
    json_t *q = json_pack("{s:s, s:I, s:[], s:b, s:b}", "item", id, "limit", (json_int_t) b->r->limit, "fields", "explain", 1, "exact", exact);
    if (q != NULL && b->r->filter != NULL) json_object_set_new(q, "filter", json_string(b->r->filter));
    char *body = q != NULL ? json_dumps(q, JSON_COMPACT) : NULL;
    json_t *reply = NULL;
    uint64_t start = srv_now_ns();
    if (body != NULL && asprintf(&path, "/v1/catalogues/%s/search", b->name) >= 0) reply = ask(b, "POST", path, body);
    *ms = (double) (srv_now_ns() - start) / 1e6;
    json_decref(q);
    free(body);
    free(path);
    return reply;
}

static double score(const json_t *results, size_t i) { return json_number_value(json_object_get(json_array_get(results, i), "score")); }

static void count_plan(bench *b, const char *name)
{
    size_t i = 0;
    while (i < b->n_plans && strcmp(b->plans[i].name, name) != 0) i++;
    if (i == MAX_PLANS) return;
    if (i == b->n_plans) snprintf(b->plans[b->n_plans++].name, sizeof b->plans[i].name, "%s", name);
    b->plans[i].n++;
}

/* Scores come with six decimals: what is as good as the last exact one counts as found. */
static void compare(bench *b, const json_t *usual, const json_t *exact)
{
    const json_t *got = json_object_get(usual, "results"), *want = json_object_get(exact, "results");
    const char *plan = json_string_value(json_object_get(json_object_get(usual, "explain"), "plan"));
    size_t n = json_array_size(want), found = 0;
    for (size_t i = 0; i < json_array_size(got) && i < n; i++) found += score(got, i) >= score(want, n - 1) - 1.5e-6;
    double recall = n > 0 ? (double) found / (double) n : 1;
    b->sum += recall;
    b->perfect += found == n;
    if (recall < b->worst) b->worst = recall;
    count_plan(b, plan != NULL ? plan : "?");
}

static bool run(bench *b)
{
    for (size_t i = 0; i < b->n_ids; i++) {
        json_t *usual = search(b, b->ids[i], false, &b->usual_ms[b->done]), *exact = usual != NULL ? search(b, b->ids[i], true, &b->exact_ms[b->done]) : NULL;
        bool ok = usual != NULL && exact != NULL;
        if (ok) compare(b, usual, exact), b->done++;
        json_decref(usual);
        json_decref(exact);
        if (!ok && strstr(b->err, "item_not_found") == NULL) return false; /* deleted meanwhile */
    }
    return b->done > 0;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[n / 2];
}

static void report(bench *b)
{
    double recall = b->sum / (double) b->done, usual = median(b->usual_ms, b->done), exact = median(b->exact_ms, b->done);
    if (b->r->as_json) {
        json_t *plans = json_object();
        for (size_t i = 0; i < b->n_plans; i++) json_object_set_new(plans, b->plans[i].name, json_integer((json_int_t) b->plans[i].n));
        json_t *o = json_pack("{s:s, s:I, s:I, s:f, s:f, s:I, s:f, s:f, s:o}", "bench", "recall", "queries", (json_int_t) b->done, "limit", (json_int_t) b->r->limit,
                              "recall", recall, "worst", b->worst, "perfect", (json_int_t) b->perfect, "p50_ms", usual, "exact_p50_ms", exact, "plans", plans);
        char *text = json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6));
        if (text != NULL) puts(text);
        free(text);
        json_decref(o);
        return;
    }
    printf("recall@%llu %.4f over %zu queries (%zu found everything, the worst %.2f); p50 %.2f ms, exactly %.2f ms\nplans:", (unsigned long long) b->r->limit, recall, b->done,
           b->perfect, b->worst, usual, exact);
    for (size_t i = 0; i < b->n_plans; i++) printf(" %s %zu", b->plans[i].name, b->plans[i].n);
    putchar('\n');
}

int srv_bench_recall(const srv_recall *r)
{
    bench b = {.r = r, .worst = 1, .name = srv_percent_encode(r->catalogue), .err = "no memory"};
    srv_client_global();
    b.client = srv_client_new(r->url, r->key_file, b.err);
    b.ids = calloc(r->queries, sizeof *b.ids);
    b.usual_ms = calloc(r->queries, sizeof *b.usual_ms);
    b.exact_ms = calloc(r->queries, sizeof *b.exact_ms);
    bool ok = b.client != NULL && b.name != NULL && b.ids != NULL && b.usual_ms != NULL && b.exact_ms != NULL && choose(&b) && run(&b);
    if (ok) report(&b);
    else fprintf(stderr, "likeness: bench: %s\n", b.err);
    for (size_t i = 0; b.ids != NULL && i < b.n_ids; i++) free(b.ids[i]);
    free(b.ids);
    free(b.usual_ms);
    free(b.exact_ms);
    free(b.name);
    srv_client_free(b.client);
    return ok ? 0 : 1;
}
