/* internal.h: what the files of this folder share: the context, one call, photos, search options. */
#ifndef LK_API_INTERNAL_H
#define LK_API_INTERNAL_H

#include "buf.h"
#include "json.h"
#include "multipart.h"
#include "page_token.h"
#include "problem.h"
#include "text.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct api_ctx {
    const emb_model *model;
    const emb_model_info *info;
    idx *ix;
    api_limits limits;
    _Atomic uint32_t batches; /* that still hold lines, or their owner holds them */
    _Atomic uint64_t memory, batch_memory; /* bytes taken: all, and of those the batches' */
};
struct api_worker {
    emb_workspace *ws;
    float *embedding; /* of the query in hand */
    uint32_t room;    /* floats in it */
};

/* ---- one call ----------------------------------------------------------------------------------- */

typedef struct api_call {
    api_ctx *cx;
    api_worker *w;
    const api_request *rq;
    api_reply *rp;
    api_fault fault;
    api_media media;
    api_params params;
    uint64_t start_ns;
    char catalogue[IDX_MAX_CATALOGUE_BYTES + 1];
    char item[IDX_MAX_ID_BYTES + 1];
    uint32_t image;
    idx_catalogue cat; /* after api_call_catalogue() */
} api_call;

/* True: rp is filled. False: c->fault is. A handler that hands over to the index sets *pending, and from then on rq
 * and rp belong to the index's callback. */
typedef bool (*api_handler)(api_call *c, bool *pending);

bool api_catalogue_put(api_call *c, bool *pending);
bool api_catalogue_get(api_call *c, bool *pending);
bool api_catalogue_list(api_call *c, bool *pending);
bool api_catalogue_delete(api_call *c, bool *pending);
bool api_item_put(api_call *c, bool *pending);
bool api_item_get(api_call *c, bool *pending);
bool api_item_patch(api_call *c, bool *pending);
bool api_item_delete(api_call *c, bool *pending);
bool api_item_list(api_call *c, bool *pending);
bool api_rendition_get(api_call *c, bool *pending);
bool api_search(api_call *c, bool *pending);
bool api_embed(api_call *c, bool *pending);

/* Takes the text of `b` as the JSON reply. */
bool api_reply_json(api_call *c, int status, api_buf *b);
bool api_call_params(api_call *c, const char *const *names); /* parses the query string into c->params */
bool api_call_deadline(const api_request *rq, api_fault *f); /* false when it has passed */
bool api_call_catalogue(api_call *c);                        /* it exists and belongs to this model, or to none */
/* A whole number from 1 to most. */
static inline bool api_is_count(double v, double most) { return v >= 1 && v <= most && v == floor(v); }
/* A catalogue whose embeddings its clients make. Its model and its fingerprint are this word. */
#define API_EXTERNAL "external"
static inline bool api_is_external(const idx_catalogue *cat) { return strcmp(cat->fingerprint, API_EXTERNAL) == 0; }
float *api_worker_room(api_worker *w, uint32_t dim); /* NULL = no memory */
/* The translation of a read that failed: tells a missing catalogue from a missing item. */
bool api_call_fail_read(api_call *c, idx_status st, const idx_error *err, const char *not_found);
void api_image_url(api_buf *b, const char *catalogue, const char *item, uint32_t n, const uint8_t *sha256);
void api_etag_of(char etag[80], const void *p, size_t n);
/* The JSON text of `attributes`, restricted to `fields`. */
typedef struct {
    bool none;            /* nothing at all */
    size_t n;             /* 0 and !none = everything */
    char **name;          /* views into `store` */
    char *store;
} api_fields;
bool api_fields_from_text(api_fields *fs, const char *text, api_fault *f); /* "a,b", "*", "" of a query string */
bool api_fields_from_json(api_fields *fs, const json_t *a, api_fault *f);
void api_fields_fini(api_fields *fs);
bool api_attributes_write(api_buf *b, const char *attributes, const api_fields *fs);

typedef struct { /* what facets a search asks for */
    idx_facet facet[IDX_MAX_FACETS];
    char *name[IDX_MAX_FACETS];
    idx_range *ranges[IDX_MAX_FACETS];
    size_t n;
} api_facets;
/* "brand,colour:20,price:..50|50..100|100..": names, how many values of each, or ranges. */
bool api_facets_from_text(api_facets *fs, const char *text, api_fault *f);
bool api_facets_from_json(api_facets *fs, const json_t *a, api_fault *f);
bool api_facets_set_top(uint32_t *top, double v, const char *code, api_fault *f);
void api_facets_fini(api_facets *fs);
/* The member `facets` of a reply, with the comma before it. */
void api_facets_write(api_buf *b, const api_facets *fs, uint32_t top, const idx_result *r);

/* ---- photos ------------------------------------------------------------------------------------- */

typedef struct {
    const uint8_t *p;
    size_t n;
    const char *field; /* for errors, NULL = the body */
    const emb_crop *crop;
    uint64_t deadline_ns;
} api_photo;

/* False and model_mismatch for a catalogue whose embeddings its clients make. */
bool api_takes_photos(const idx_catalogue *cat, const char *field, api_fault *f);

/* One path for index and query: decode, embed. out: info->dim floats. rendition != NULL: the picture for the store goes
 * into it as well (embedding pointing to malloc'd memory like the rest). Adds to stage_ns. */
bool api_photo_embed(api_ctx *cx, api_worker *w, const api_photo *ph, float *out, idx_image *rendition,
                     uint64_t *stage_ns, api_fault *f);

/* ---- embeddings of clients ---------------------------------------------------------------------- */

/* v: an array of dim numbers or base64 of dim little-endian float32 (the document was parsed with `blobs`). out: dim floats of
 * length 1. */
bool api_embedding_read(const api_doc *doc, const json_t *v, uint32_t dim, const char *field, float *out, api_fault *f);

/* ---- memory of batches --------------------------------------------------------------------------- */

typedef struct { /* what one batch holds; its mutex guards it */
    size_t held;
} api_hold;
bool api_hold_more(api_ctx *cx, api_hold *h, size_t n); /* false: not now */
void api_hold_less(api_ctx *cx, api_hold *h, size_t n);

/* ---- writes ------------------------------------------------------------------------------------- */

/* Builds the write that a JSON object asks for (`attributes`, `images`, `embedding`); op and id are the caller's. Used by PUT, PATCH
 * and every line of a batch. *out: caller's. */
typedef struct {
    api_ctx *cx;
    api_worker *w;
    const char *catalogue;
    const idx_catalogue *cat;
    uint64_t deadline_ns;
    uint64_t *stage_ns;
    api_fault *fault;
} api_write_ctx;
bool api_write_from_json(const api_write_ctx *wc, idx_op_kind kind, const char *id, const api_doc *doc, idx_op **out);
/* Adds one photo to a PUT. */
bool api_write_add_photo(const api_write_ctx *wc, idx_op *op, const uint8_t *p, size_t n, const char *field);
/* The same with an embedding of the client's own. */
bool api_write_add_embedding(const api_write_ctx *wc, idx_op *op, const api_doc *doc, const json_t *v, const char *field);
idx_image *api_write_image(const api_write_ctx *wc, idx_op *op, const char *field); /* one more of the op's; NULL and a fault */
/* Translates what a write ended with; returns false. May be called from the writer thread: takes no lock for long. */
bool api_write_fail(idx *ix, const char *catalogue, idx_op_kind kind, idx_status st, const idx_error *err, api_fault *f);
bool api_item_id_check(const char *id, size_t n, const char *field, api_fault *f);

/* ---- queries ------------------------------------------------------------------------------------ */

typedef struct {
    uint32_t limit;
    float min_score; /* -2 = none */
    bool exact, has_crop, base64, explain;
    emb_crop crop;
    char *page_token, *filter; /* malloc'd or NULL */
    api_fields fields;
    api_facets facets;
    uint32_t facets_top; /* 0 = over all matches */
    uint32_t given; /* bits of the options that were given */
} api_options;

typedef struct { /* what is searched for; parts borrowed from the request or owned below */
    const uint8_t *image;
    size_t image_n;
    const char *image_field;
    const char *item;
    const json_t *embedding;
    api_options opts;
    uint8_t *owned; /* decoded base64 */
    api_doc doc;
} api_query;
enum { API_QUERY_SEARCH = 1, API_QUERY_EMBED = 2 };
bool api_query_read(api_call *c, int kind, api_query *q);
void api_query_fini(api_query *q);

#endif
