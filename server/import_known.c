/* import_known.c: the ids of a catalogue with digests of what each item holds. */
#include "import_known.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    char *id; /* NULL = free slot */
    srv_item_digest digest;
} slot;

struct srv_known {
    slot *slots; /* open addressing, a power of two, at most half full */
    size_t room, n;
};

struct srv_names {
    const char **slots;
    size_t room, n;
};

static uint64_t hash(const char *text) /* FNV-1a, 64 bits */
{
    uint64_t h = 14695981039346656037u;
    for (const unsigned char *s = (const unsigned char *) text; *s != '\0'; s++) h = (h ^ *s) * 1099511628211u;
    return h;
}

srv_names *srv_names_new(size_t expected)
{
    srv_names *s = calloc(1, sizeof *s);
    size_t room = 64;
    while (room < 2 * expected) room *= 2;
    if (s != NULL && (s->slots = calloc(room, sizeof *s->slots)) != NULL) {
        s->room = room;
        return s;
    }
    free(s);
    return NULL;
}

bool srv_names_add(srv_names *s, const char *name)
{
    if (2 * s->n >= s->room) return false;
    size_t i = hash(name) & (s->room - 1);
    for (; s->slots[i] != NULL; i = (i + 1) & (s->room - 1))
        if (strcmp(s->slots[i], name) == 0) return false;
    s->slots[i] = name;
    s->n++;
    return true;
}

void srv_names_free(srv_names *s)
{
    if (s == NULL) return;
    free(s->slots);
    free(s);
}

static size_t place(const slot *slots, size_t room, const char *id)
{
    size_t i = hash(id) & (room - 1);
    while (slots[i].id != NULL && strcmp(slots[i].id, id) != 0) i = (i + 1) & (room - 1);
    return i;
}

static bool grow(srv_known *k)
{
    size_t room = k->room == 0 ? 1024 : 2 * k->room;
    slot *slots = calloc(room, sizeof *slots);
    if (slots == NULL) return false;
    for (size_t i = 0; i < k->room; i++)
        if (k->slots[i].id != NULL) slots[place(slots, room, k->slots[i].id)] = k->slots[i];
    free(k->slots);
    k->slots = slots;
    k->room = room;
    return true;
}

static bool add(srv_known *k, const char *id, const srv_item_digest *d)
{
    if (2 * (k->n + 1) > k->room && !grow(k)) return false;
    slot *s = &k->slots[place(k->slots, k->room, id)];
    if (s->id == NULL) {
        if ((s->id = strdup(id)) == NULL) return false;
        k->n++;
    }
    s->digest = *d;
    return true;
}

static void digest(struct sha256_ctx *ctx, uint8_t out[32]) { sha256_digest(ctx, 32, out); }

bool srv_digest_attributes(const json_t *attributes, uint8_t out[32])
{
    char *text = json_dumps(attributes, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    if (text == NULL) return false;
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    sha256_update(&ctx, strlen(text), (const uint8_t *) text);
    digest(&ctx, out);
    free(text);
    return true;
}

static bool digest_images(const json_t *images, uint8_t out[32])
{
    struct sha256_ctx ctx;
    sha256_init(&ctx);
    size_t i;
    json_t *image;
    json_array_foreach(images, i, image)
    {
        const char *hex = json_string_value(json_object_get(image, "sha256"));
        if (hex == NULL || strlen(hex) != 64) return false;
        for (size_t k = 0; k < 32; k++) {
            unsigned byte = 0;
            if (sscanf(hex + 2 * k, "%2x", &byte) != 1) return false;
            uint8_t b = (uint8_t) byte;
            sha256_update(&ctx, 1, &b);
        }
    }
    digest(&ctx, out);
    return true;
}

/* One page of the list; *token becomes the next one's, or NULL. */
static bool read_page(srv_known *k, srv_client *c, const char *name, char **token, char err[320])
{
    char *path = NULL;
    srv_answer a = {0};
    bool ok = asprintf(&path, "/v1/catalogues/%s/items?limit=100%s%s", name, *token != NULL ? "&page_token=" : "", *token != NULL ? *token : "") >= 0 &&
              srv_client_send(c, "GET", path, NULL, NULL, 0, &a, err);
    free(path);
    free(*token);
    *token = NULL;
    if (ok && a.status != 200) {
        srv_answer_describe(&a, err, 320);
        ok = false;
    }
    json_t *page = ok ? json_loadb(a.body, a.n, 0, NULL) : NULL, *item;
    if (ok && page == NULL) snprintf(err, 320, "the server's list of items is not JSON");
    ok = ok && page != NULL;
    size_t i;
    json_array_foreach(json_object_get(page, "items"), i, item)
    {
        srv_item_digest d;
        const char *id = json_string_value(json_object_get(item, "id"));
        if (!ok || id == NULL || !digest_images(json_object_get(item, "images"), d.images) ||
            !srv_digest_attributes(json_object_get(item, "attributes"), d.attributes))
            continue; // an item that is not understood is sent again
        ok = add(k, id, &d);
        if (!ok) snprintf(err, 320, "no memory for the list of items");
    }
    const char *next = json_string_value(json_object_get(page, "next_page_token"));
    if (ok && next != NULL) *token = srv_percent_encode(next);
    json_decref(page);
    srv_answer_fini(&a);
    return ok;
}

srv_known *srv_known_load(srv_client *c, const char *catalogue, char err[320])
{
    srv_known *k = calloc(1, sizeof *k);
    char *name = srv_percent_encode(catalogue), *token = NULL;
    bool ok = k != NULL && name != NULL && grow(k);
    if (!ok) snprintf(err, 320, "no memory for the list of items");
    do ok = ok && read_page(k, c, name, &token, err);
    while (ok && token != NULL);
    free(name);
    if (ok) return k;
    srv_known_free(k);
    return NULL;
}

const srv_item_digest *srv_known_find(const srv_known *k, const char *id)
{
    const slot *s = k != NULL ? &k->slots[place(k->slots, k->room, id)] : NULL;
    return s != NULL && s->id != NULL ? &s->digest : NULL;
}

size_t srv_known_count(const srv_known *k) { return k->n; }

void srv_known_free(srv_known *k)
{
    if (k == NULL) return;
    for (size_t i = 0; i < k->room; i++) free(k->slots[i].id);
    free(k->slots);
    free(k);
}
