/* index.h: items and their embeddings -> neighbours, durably. The only header of this folder that others include.
 *
 * One `idx` is one data directory: SQLite (the truth) and derived FAISS files of every catalogue.
 * Threads: every function may be called from any thread at the same time unless it says otherwise; searches never wait
 * for a commit. Writes go through one writer thread (group commit, WAL, synchronous=FULL).
 * A write that reported IDX_OK is durable and every later search sees it. */
#ifndef LK_INDEX_H
#define LK_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define IDX_CHECK __attribute__((warn_unused_result))

#define IDX_MAX_ID_BYTES        256
#define IDX_MAX_CATALOGUE_BYTES 64
#define IDX_MAX_IMAGES          16
#define IDX_MAX_ATTR_BYTES      (32u * 1024)
#define IDX_MAX_FILTER_BYTES    4096
#define IDX_MAX_DIM             16384

typedef enum {
    IDX_OK = 0,
    IDX_EINVAL,        /* the caller broke the contract; err says which field, value and limit */
    IDX_ENOTFOUND,     /* no such catalogue, item or image; err says which */
    IDX_EEXISTS,       /* catalogue exists with other settings */
    IDX_EFILTER,       /* filter text does not parse or does not type-check; err names the column (1-based byte) */
    IDX_EMODEL,        /* the catalogue belongs to another model fingerprint or dimension */
    IDX_EBUSY,         /* writer queue full, or another program holds the store: try later */
    IDX_EFULL,         /* disk full or below the floor: writes refused, searches go on */
    IDX_EIO,           /* storage failed: the store is read-only from now on; restart the process */
    IDX_ECORRUPT,      /* the SQLite file itself is damaged */
    IDX_ENOMEM,
    IDX_EDEADLINE,
} idx_status;

typedef struct {
    idx_status status;
    char text[320];
    char field[96]; /* of what was handed in, as attributes.price; "" = all of it, or said by the status */
    uint64_t limit; /* that was passed; 0 = none was */
} idx_error;

/* How the index keeps vectors; the store keeps float32. */
typedef enum {
    IDX_STORAGE_AUTO = 0, /* the smallest that finds the same neighbours, decided when there are enough images */
    IDX_FLOAT32,
    IDX_FLOAT16,
    IDX_INT8,
} idx_storage;

typedef struct idx idx;

typedef struct { /* 0 = default */
    size_t max_queue;           /* 4,096 operations waiting for the writer */
    uint32_t segment_images;    /* 10,000: fresh images that start a background HNSW build */
    uint32_t hnsw_m;            /* 16: as fast as 32 at the same recall, and half as large */
    uint32_t ef_construction;   /* 100 */
    uint32_t ef_search;         /* 64: where searches begin; see recall_target */
    double recall_target;       /* 0.98: audits of live searches raise and lower ef_search to hold it; below 0 = no audits */
    uint64_t disk_floor_bytes;  /* 256 MiB free: below it writes are refused, above twice it allowed again */
    uint32_t link_threads;      /* 1: threads of low priority that link images while thousands wait for it, as in an import */
    bool no_background;         /* tests: no background thread; idx_maintain() does the work */
    void (*log)(void *ctx, int level, const char *text); /* 0 info, 1 warning, 2 error; may be NULL */
    void *log_ctx;
} idx_opts;

IDX_CHECK idx_status idx_open(const char *dir, const idx_opts *opts, idx **out, idx_error *err);
/* Drains the writer, checkpoints, writes no index file that is not needed, closes. NULL is fine. */
void idx_close(idx *ix);

/* ---- catalogues --------------------------------------------------------------------------------- */

typedef struct {
    char name[IDX_MAX_CATALOGUE_BYTES + 1]; /* [a-z0-9][a-z0-9_-]*, up to 64 bytes */
    char model[128];                        /* the model's name, for people */
    char fingerprint[65];                   /* the model that made every embedding in it */
    uint32_t dim;
    idx_storage storage;                    /* as asked for */
    idx_storage kept;                       /* as it is; IDX_STORAGE_AUTO = not decided yet, float32 until then */
    uint64_t items, images;                 /* live */
    uint64_t fresh_images, sealed_images, deleted_images; /* compared one by one, in the graph, waiting for compaction */
    uint32_t segments;
    uint64_t generation;                    /* grows with every committed write */
    int64_t created_ms;                     /* Unix milliseconds */
    /* Of searches without a filter, and with one: recall@10 of the latest audits, how many there were, the ef_search in use. */
    double recall[2];
    uint64_t audits[2];
    uint32_t effort[2];
} idx_catalogue;

typedef struct {
    const char *name, *model, *fingerprint;
    uint32_t dim;
    idx_storage storage;
    bool any_storage; /* one that exists will do, whatever its storage is */
} idx_catalogue_spec;
/* Creates; *created=false if it exists with the same settings (IDX_OK), otherwise IDX_EEXISTS. Blocks for the commit. */
IDX_CHECK idx_status idx_catalogue_create(idx *ix, const idx_catalogue_spec *spec, bool *created, idx_error *err);
/* The same with the storage to be chosen by the index. */
IDX_CHECK idx_status idx_catalogue_put(idx *ix, const char *name, const char *model, const char *fingerprint,
                                       uint32_t dim, bool *created, idx_error *err);
IDX_CHECK idx_status idx_catalogue_get(idx *ix, const char *name, idx_catalogue *out, idx_error *err);
IDX_CHECK idx_status idx_catalogue_list(idx *ix, idx_catalogue **out, size_t *n, idx_error *err); /* free(*out) */
IDX_CHECK idx_status idx_catalogue_delete(idx *ix, const char *name, idx_error *err);
/* The same two without waiting: as idx_submit_take() below. To remove a large catalogue takes seconds. */
struct idx_op;
typedef void idx_done(struct idx_op *op, void *ctx);
IDX_CHECK idx_status idx_catalogue_create_submit(idx *ix, const idx_catalogue_spec *spec, idx_done *done, void *ctx, idx_error *err);
IDX_CHECK idx_status idx_catalogue_delete_submit(idx *ix, const char *name, idx_done *done, void *ctx, idx_error *err);

/* ---- writes ------------------------------------------------------------------------------------- */

typedef struct {
    float *embedding;      /* dim floats, L2 norm 1 */
    uint8_t *rendition;    /* JPEG */
    size_t rendition_bytes;
    uint32_t width, height; /* of the upright original */
    uint8_t sha256[32];    /* of the bytes as sent */
} idx_image;

typedef enum { IDX_PUT, IDX_PATCH, IDX_DELETE } idx_op_kind;

/* One write. All pointers inside are malloc'd and owned by the op. */
typedef struct idx_op {
    idx_op_kind kind;
    char *catalogue;
    char *item;        /* printable UTF-8, 1..256 bytes */
    char *attributes;  /* JSON object text, flat: strings, numbers, booleans, arrays of strings. PUT: whole (NULL =
                          {}); PATCH: RFC 7396 merge patch, null removes a key */
    idx_image *images; /* PUT: 1..16; or n_images 0 = keep the images of the existing item (ENOTFOUND without) */
    size_t n_images;
    uint32_t dim;          /* of each embedding; checked against the catalogue */
    char fingerprint[65];  /* PUT with images: checked against the catalogue */
    bool must_not_exist;

    /* Result, valid inside done(). */
    idx_status status;
    idx_error error;
    bool created;        /* PUT: the item was new */
    uint64_t generation;

    /* Called exactly once from the writer thread, after commit and after the in-memory index is updated (or after
     * failure). Must not block. The op is freed by the index after it returns. */
    idx_done *done;
    void *ctx;
    struct idx_op *next; /* the index's own */
} idx_op;

idx_op *idx_op_new(idx_op_kind kind, const char *catalogue, const char *item); /* NULL = no memory */
void idx_op_free(idx_op *op);
/* Takes `op` always. Returns IDX_OK when queued (done will be called); on any other status done is NOT called, err
 * says why, and the op is freed. */
IDX_CHECK idx_status idx_submit_take(idx *ix, idx_op *op, idx_error *err);
/* The same and waits for the commit; *created may be NULL. */
IDX_CHECK idx_status idx_write_take(idx *ix, idx_op *op, bool *created, idx_error *err);

/* ---- reads -------------------------------------------------------------------------------------- */

typedef struct {
    uint32_t width, height;
    uint8_t sha256[32];
} idx_image_info;

typedef struct {
    char *id;
    char *attributes; /* JSON object text */
    uint32_t n_images;
    idx_image_info *images;
    int64_t created_ms, updated_ms;
} idx_item;

IDX_CHECK idx_status idx_item_get(idx *ix, const char *catalogue, const char *id, idx_item **out, idx_error *err);
void idx_item_free(idx_item *it);
/* In id order, ids > after (NULL = from the start), those that match `filter` (NULL = all), at most `limit`.
 * *more: there is at least one beyond. */
IDX_CHECK idx_status idx_item_list(idx *ix, const char *catalogue, const char *filter, const char *after,
                                   uint32_t limit, idx_item ***out, size_t *n, bool *more, idx_error *err);
void idx_items_free(idx_item **it, size_t n);
/* n: 0-based. *bytes: malloc. */
IDX_CHECK idx_status idx_rendition_get(idx *ix, const char *catalogue, const char *id, uint32_t n, uint8_t **bytes,
                                       size_t *len, idx_error *err);
/* The item's embeddings, n_images x dim floats, malloc. For "more like this". */
IDX_CHECK idx_status idx_embeddings_get(idx *ix, const char *catalogue, const char *id, float **out, size_t *n_images,
                                        uint32_t *dim, idx_error *err);

/* Counts over items: of the values of an attribute (texts, list elements, booleans, numbers), or of its numbers in ranges. */
#define IDX_MAX_FACETS       16
#define IDX_MAX_FACET_VALUES 1000
#define IDX_MAX_FACET_RANGES 64
typedef struct {
    double from, to; /* from <= number < to; infinite = open */
} idx_range;
typedef struct {
    const char *field;
    uint32_t limit; /* values, the most frequent first, equal ones in order; 0 = 10 */
    const idx_range *ranges; /* not NULL: ranges instead of values */
    size_t n_ranges;
} idx_facet;

typedef enum { IDX_VALUE_TEXT, IDX_VALUE_NUMBER, IDX_VALUE_BOOL } idx_value_kind;
typedef struct {
    idx_value_kind kind;
    char *text;
    double number;
    int32_t rest; /* not 0: an integer that no double holds, this much more than `number`; idx_value_whole() says which */
    bool truth;
    uint64_t count;
} idx_value_count;
int64_t idx_value_whole(const idx_value_count *v);
typedef struct { /* of one facet */
    uint64_t with, without; /* items that have the attribute, and that have not */
    idx_value_count *values;
    size_t n_values;
    uint64_t distinct; /* values there are, shown or not */
    uint64_t *ranges;  /* [n_ranges] items; NULL = values were asked for */
    bool has_numbers;  /* then min and max are the least and the greatest */
    double min, max;
} idx_facet_counts;

typedef struct {
    const float *embedding; /* dim floats, L2 norm 1, finite */
    uint32_t dim;
    char fingerprint[65];   /* "" = not checked */
    uint32_t limit;         /* 1..1000 items */
    const char *filter;     /* AIP-160, NULL = none */
    float min_score;        /* cosine; below are left out; -2 = none */
    uint32_t ef_search;     /* 0 = default */
    bool exact;
    bool walk;              /* the auditor's: graphs, even if comparing every image takes no longer */
    const char *exclude_item;     /* "more like this": the item itself, or NULL */
    bool after;                   /* continue strictly after (after_score, after_id) in the order score desc, id asc */
    float after_score;
    const char *after_id;
    uint32_t depth;               /* items on the pages before this one */
    const idx_facet *facets;      /* at most IDX_MAX_FACETS */
    size_t n_facets;
    uint32_t facets_top;          /* count over the best so many results (1..1000); 0 = over all matches of the filter */
    uint64_t deadline_ns;         /* CLOCK_MONOTONIC, 0 = none */
} idx_query;

typedef struct {
    char *id;
    float score;        /* cosine of the best image, exact from the stored vector */
    uint32_t image;     /* 0-based number of the best image */
    char *attributes;   /* JSON object text */
    uint32_t n_images;
    uint32_t width, height; /* of the best image's original */
    uint8_t sha256[32];     /* of its bytes */
    int64_t rowid;          /* the index's own, */
    uint32_t version;       /* this too */
} idx_hit;

typedef struct {
    idx_hit *hits; /* order: score descending, then id ascending (bytes): stable, so that pages are */
    size_t n;
    bool more;
    uint64_t generation;
    uint64_t total;              /* items that all pages together hold; a lower bound unless total_exact */
    bool total_exact;
    idx_facet_counts *facets;    /* [n_facets] in the order asked for */
    size_t n_facets;
    uint64_t facet_items;        /* counted over; all matches, or the best of them */
    /* How it was found. */
    char plan[32];               /* index/plan.h lists them */
    uint64_t matches;            /* items that match the filter, or all */
    uint32_t segments;           /* sealed ones that were looked into */
    uint64_t distances;          /* computed */
    uint64_t tests;              /* rows asked whether they match */
    uint32_t effort;             /* ef of this search */
    bool instead;                /* every image was compared, as walking with this effort takes longer */
    uint64_t filter_ns, walk_ns; /* spent on the filter, and on finding */
} idx_result;

IDX_CHECK idx_status idx_search(idx *ix, const char *catalogue, const idx_query *q, idx_result **out, idx_error *err);
void idx_result_free(idx_result *r);

/* Parses and type-checks only, for early answers. */
IDX_CHECK idx_status idx_filter_check(const char *filter, idx_error *err);
/* The same for attributes: flat; up to 64 keys of 1..64 bytes; strings up to 1,024 bytes; lists of up to 64 strings; finite
 * numbers; IDX_MAX_ATTR_BYTES in all. patch: null is allowed. IDX_EINVAL; err names the key. */
IDX_CHECK idx_status idx_attributes_check(const char *json, bool patch, idx_error *err);

/* ---- care --------------------------------------------------------------------------------------- */

/* Runs pending seals, merges and compactions now, in this thread; returns when there is nothing to do. */
IDX_CHECK idx_status idx_maintain(idx *ix, idx_error *err);
/* States every invariant (counts, one vector per live image, segment files match their headers, SQLite quick_check,
 * postings agree with rows); IDX_ECORRUPT and the first one that fails in err. */
IDX_CHECK idx_status idx_check(idx *ix, idx_error *err);

typedef struct {
    uint64_t queue, commits, committed_ops, fsync_ns_total;
    uint64_t rss_vectors_bytes, rss_graph_bytes, rss_lists_bytes, rss_items_bytes, rss_attributes_bytes, disk_bytes;
    bool read_only; /* after IDX_EIO */
    bool full;      /* below the disk floor */
} idx_stats;
void idx_get_stats(idx *ix, idx_stats *out);

#ifdef __cplusplus
}
#endif
#endif
