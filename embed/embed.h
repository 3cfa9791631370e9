/* embed.h: image bytes -> embedding. The only header of this folder that other folders may include.
 *
 * Threads: an emb_model is immutable after open and may be shared; an emb_workspace and an emb_image
 * belong to one thread at a time. Nothing here logs, exits, or keeps state outside the handles.
 * Errors: functions return a status; `err` may be NULL, otherwise it receives one sentence that names
 * the value and the limit. Out parameters are written only when EMB_OK is returned. */
#ifndef LK_EMBED_H
#define LK_EMBED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EMB_CHECK __attribute__((warn_unused_result))

typedef enum {
    EMB_OK = 0,
    EMB_EINVAL,       /* the caller broke the contract: crop outside the image, wrong tensor shape */
    EMB_EFORMAT,      /* the bytes are not what they claim to be, or are damaged */
    EMB_EUNSUPPORTED, /* valid, but of a kind that is not handled (arithmetic JPEG, ONNX operator ...) */
    EMB_ELIMIT,       /* valid, but over a limit; refused before memory was taken */
    EMB_ENOMEM,
    EMB_EIO,
    EMB_EDEADLINE, /* the deadline of the options passed while working */
} emb_status;

typedef struct {
    emb_status status;
    char text[320]; /* one sentence, UTF-8, no line break */
} emb_error;

/* ---- images ------------------------------------------------------------------------------------- */

typedef enum { EMB_FORMAT_UNKNOWN = 0, EMB_JPEG, EMB_PNG, EMB_WEBP } emb_format;

typedef struct { /* 0 = the default named here */
    uint64_t max_pixels;     /* 24,000,000: width x height as stored, before any scaling */
    uint32_t max_side;       /* 32,768 */
    uint32_t max_scans;      /* 50: progressive JPEG scans */
    size_t max_meta_bytes;   /* 4 MiB: EXIF + ICC + text chunks together */
    uint64_t deadline_ns;    /* CLOCK_MONOTONIC; 0 = none */
} emb_limits;

typedef struct {
    emb_format format;
    uint32_t width, height; /* upright: after EXIF orientation */
    uint32_t orientation;   /* 1..8 as stored */
    bool animated;
} emb_image_info;

/* An upright sRGB image, 8 bits a channel, 3 channels, alpha flattened on white. */
typedef struct emb_image emb_image;

typedef struct { /* in pixels, not whole ones */
    float x0, y0, x1, y1;
} emb_part;

typedef struct { /* borrowed view of an emb_image; row r starts at px + r * stride_bytes */
    const uint8_t *px;
    uint32_t width, height;
    size_t stride_bytes;
    emb_part part; /* what the picture covers, which may end inside an outer row or column if it was decoded smaller; 0 = all */
} emb_view;

typedef struct { /* fractions of the upright image, 0 <= x,y; x+w,y+h <= 1; all 0 = the whole image */
    float x, y, w, h;
} emb_crop;

/* The type from the first bytes, never from a name. */
emb_format emb_format_detect(const uint8_t *bytes, size_t n);
const char *emb_format_mime(emb_format f);

/* Reads headers only: microseconds, no allocation that grows with the picture; applies `limits` (NULL =
 * defaults). */
EMB_CHECK emb_status emb_image_probe(const uint8_t *bytes, size_t n, const emb_limits *limits, emb_image_info *info,
                                     emb_error *err);

/* Decodes, orients, converts to sRGB, flattens. `min_side`: the decoder may return a smaller picture (JPEG scaled DCT, WebP) as
 * long as its short side stays >= min_side and its long one >= EMB_KEEP_SIDE (or the full size if that is smaller); 0 = full size.
 * `info` may be NULL. Caller: emb_image_free(). */
#define EMB_KEEP_SIDE 320 /* renditions are cut from the picture that was decoded for the model */
EMB_CHECK emb_status emb_image_decode(const uint8_t *bytes, size_t n, const emb_limits *limits, uint32_t min_side,
                                      emb_image **out, emb_image_info *info, emb_error *err);
emb_view emb_image_view(const emb_image *im);
void emb_image_free(emb_image *im); /* NULL is fine */

/* New image of w x h (both > 0) from the crop of `src`: antialiased triangle filter, Pillow's BILINEAR with
 * reducing: support scales with the ratio. */
EMB_CHECK emb_status emb_image_resize(emb_view src, const emb_crop *crop, uint32_t w, uint32_t h, emb_image **out,
                                      emb_error *err);

/* Baseline JPEG of the picture shrunk so that its long side is <= max_side (never enlarged), 4:2:0, no
 * metadata. *bytes: malloc, caller frees. */
EMB_CHECK emb_status emb_image_rendition(emb_view src, uint32_t max_side, int quality, uint8_t **bytes, size_t *n,
                                         emb_error *err);

/* ---- models ------------------------------------------------------------------------------------- */

typedef struct emb_model emb_model;
typedef struct emb_workspace emb_workspace;

/* What activations and weights are while they are computed with. Embeddings are float32 in any case, and those of one model are
 * comparable whatever computed them, so it is no part of the fingerprint. AUTO: the fastest of this processor whose cosine to F32 is
 * at least 0.999 on a few pictures, tried at open. INT8 is for
 * models with 8-bit activations, and what AUTO is for them; the others compute with what the graph makes of those in floats. */
typedef enum { EMB_PRECISION_AUTO, EMB_PRECISION_F32, EMB_PRECISION_F16, EMB_PRECISION_BF16, EMB_PRECISION_INT8 } emb_precision;
const char *emb_precision_name(emb_precision p); /* "auto", "fp32", "fp16", "bf16", "int8" */

typedef struct { /* borrowed while the model lives */
    const char *name;        /* likeness.name of the metadata, or the file's base name */
    const char *source;      /* "built-in" or the path */
    char fingerprint[65];    /* SHA-256, hex, over model bytes, preprocessing and its code version, and the output where one was chosen */
    uint32_t dim;            /* floats in an embedding */
    uint32_t input_w, input_h;
    uint32_t decode_side;    /* min_side to hand to emb_image_decode: one path for index and query */
    uint64_t parameters, macs;
    emb_precision precision; /* what it is computed with: never AUTO */
    float precision_cosine;  /* where AUTO chose: the lowest cosine to F32 that it saw; else 1 */
} emb_model_info;

typedef struct { /* all 0 = the defaults */
    emb_precision precision; /* EMB_EUNSUPPORTED where the processor or the model cannot */
    /* The embedding: a value of the graph by its name, or a node's first output; feature maps are averaged over height and width. "-": the
     * file's first output as it is. NULL: what the metadata say (likeness.output), or else the first output, or the input of the
     * classifier where the file ends in one. Part of the fingerprint. */
    const char *output;
} emb_model_options;
/* path NULL: the built-in model; o NULL: the defaults. */
EMB_CHECK emb_status emb_model_open_with(const char *path, const emb_model_options *o, emb_model **out, emb_error *err);
EMB_CHECK emb_status emb_model_open(const char *path, emb_model **out, emb_error *err);
EMB_CHECK emb_status emb_model_open_builtin(emb_model **out, emb_error *err);
EMB_CHECK emb_status emb_model_open_memory(const void *bytes, size_t n, const char *name, const emb_model_options *o, emb_model **out,
                                           emb_error *err);
void emb_model_close(emb_model *m); /* NULL is fine; every workspace must be freed before */
const emb_model_info *emb_model_get_info(const emb_model *m);

EMB_CHECK emb_status emb_workspace_new(const emb_model *m, emb_workspace **out, emb_error *err);
void emb_workspace_free(emb_workspace *ws);

/* Preprocesses the crop (NULL = whole) of `src` and runs the model. out: info.dim floats, L2 norm 1; a model that
 * yields zero or non-finite values is EMB_EFORMAT. No allocation. */
EMB_CHECK emb_status emb_embed(const emb_model *m, emb_workspace *ws, emb_view src, const emb_crop *crop, float *out,
                               emb_error *err);

/* Any graph with any named inputs, for `likeness model run` and the conformance tests. */
typedef enum { EMB_F32 = 1, EMB_U8 = 2, EMB_I8 = 3, EMB_I32 = 6, EMB_I64 = 7, EMB_BOOL = 9, EMB_F16 = 10, EMB_F64 = 11, EMB_BF16 = 16 }
emb_dtype; /* the numbers are ONNX TensorProto.DataType */

#define EMB_MAX_RANK 8
#define EMB_MAX_MODEL_BYTES ((size_t)INT32_MAX) /* of a file: what a protobuf message holds at most */
typedef struct {
    char name[128];
    emb_dtype dtype;
    uint32_t rank;
    int64_t dims[EMB_MAX_RANK];
    void *data; /* dense, row-major */
    size_t bytes;
} emb_tensor;

/* Runs with the given inputs (borrowed); shapes are inferred anew from them. *outputs: array of *n_outputs tensors,
 * caller: emb_tensors_free(). */
EMB_CHECK emb_status emb_model_run(const char *path, const emb_tensor *inputs, size_t n_inputs, emb_tensor **outputs,
                                   size_t *n_outputs, emb_error *err);
void emb_tensors_free(emb_tensor *t, size_t n);

typedef struct { /* 0 = the default named here */
    double percentile;        /* of the activations seen that must lie inside their range (e.g. 99.99); 0: the range of least mean square error */
    const char *const *keep;  /* nodes, by name or by the name of their first output, that stay in float32 */
    size_t n_keep;
    void (*progress)(void *ctx, const char *what, size_t done, size_t of); /* may be NULL; called on the calling thread */
    void *progress_ctx;
} emb_quantize_opts;

/* A float model (ONNX bytes, NULL = the built-in one; `name` is for messages) -> the same model with int8 weights, one scale for each output channel, and uint8
 * activations, as an ONNX file with QuantizeLinear and DequantizeLinear. photos: upright pictures like those that will be embedded,
 * decoded for emb_model_info.decode_side; borrowed. *onnx: malloc, caller frees. Minutes for large models. */
EMB_CHECK emb_status emb_model_quantize(const void *bytes, size_t n, const char *name, const emb_view *photos, size_t n_photos,
                                        const emb_quantize_opts *opts, void **onnx, size_t *n_onnx, emb_error *err);

/* Inputs, outputs, operators, MACs, arena: text for `likeness model inspect`. layers: also one line per planned step. */
void emb_model_inspect(const emb_model *m, FILE *to, bool layers);

/* ---- where the time goes: `likeness bench model` ------------------------------------------------------ */

typedef struct {          /* one step of the plan; texts are borrowed from the model */
    const char *node;     /* by its name, or by that of its first output */
    const char *kernel;   /* "conv", "winograd", "depthwise" ... */
    const char *table;    /* of kernels: "avx512", "avx512vnni" ... */
    const char *fused;    /* what was taken in, "+Clip" */
    uint32_t ih, iw, ic, oh, ow, oc;
    uint32_t kh, kw, sh, sw, dh, dw, top, left, bottom, right, groups; /* a convolution's or a pool's, otherwise 0 */
    uint32_t rows;        /* of a chain: made at a time; 0 = all */
    uint64_t macs;        /* as in the definition: Winograd does with fewer */
    uint64_t bytes;       /* activations read and written, and weights, each once */
    double seconds;       /* the fastest of all runs */
    double predicted;     /* by the cost model */
    bool by_bandwidth;    /* judged by bytes: everything but convolutions and products */
    double share;         /* of the peak of the table's multiply-adds, or of the bandwidth of a copy */
    char parts[56];       /* what the predicted time is spent on, for people: "sums 60%, weights 25%" */
    const char *reason;   /* why the share is not higher, in a few words */
} emb_layer;

typedef struct {
    const char *table, *numbers; /* "avx512", "fp32" */
    double per_second;           /* multiplications and additions */
    uint32_t pixels, channels;   /* of a tile */
} emb_peak;

typedef struct { /* of one thread */
    emb_layer *layers;
    size_t n_layers;
    double seconds, sum; /* the fastest whole run, and the sum of the layers */
    uint32_t runs;
    emb_peak peaks[16], tiles[4]; /* tiles: what the kernels of convolutions make of it, over operands in the first cache */
    size_t n_peaks, n_tiles;
    struct {
        size_t bytes;
        double fetch, copy; /* bytes a second: read; read and written */
    } memory[3];            /* for 16 KiB, 512 KiB and 32 MiB: the first cache, the second, and what lies behind */
} emb_timings;

/* Measures the machine and then the layers, `seconds` long. Caller: emb_timings_free(), before the model is closed. */
EMB_CHECK emb_status emb_model_time(const emb_model *m, double seconds, emb_timings **out, emb_error *err);
void emb_timings_free(emb_timings *p); /* NULL is fine */

/* The operators that models may have, one a line, with what of them is not covered. */
void emb_operators_print(FILE *to);

/* ---- processor ---------------------------------------------------------------------------------- */

/* "avx2", "avx512", "neon" or "ref": the kernels in use, after the EMB_CPU environment mask. */
const char *emb_cpu_kernels(void);
/* The value that OPENBLAS_CORETYPE must have before OpenBLAS is loaded on this processor, or NULL to leave it. */
const char *emb_cpu_blas_coretype(void);
/* The core that the loaded OpenBLAS runs ("SkylakeX", "Zen", ...). */
const char *emb_blas_core(void);

#ifdef __cplusplus
}
#endif
#endif
