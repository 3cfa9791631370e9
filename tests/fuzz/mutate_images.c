/* Damaged pictures: whatever the bytes, an answer in time, no crash, and nothing over the limits.
 *   mutate_images COUNT [SEED]
 * Takes the fixtures and JPEGs made here, changes bytes, cuts, doubles and swaps pieces, plants markers, and sends each through
 * decoding at a random size, preprocessing and rendition. Prints what came of them; ends with 1 if an answer breaks its contract. */
#include "../../embed/preprocess.h"
#include "jpegs.h"
#include "test.h"

#include <dirent.h>
#include <time.h>

typedef struct {
    uint8_t *b;
    size_t n;
} file;

enum { MAX_FILES = 200, MAX_BYTES = 1 << 20, SLOW_MS = 2000 };

static file files[MAX_FILES];
static size_t n_files;
static uint64_t seed = 1;

static uint64_t below(uint64_t n) { return test_rand(&seed) % n; }

static void add_folder(const char *folder)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, folder);
    DIR *d = opendir(path);
    REQUIRE(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        if (e->d_name[0] == '.' || strstr(e->d_name, ".rgb") != NULL || strstr(e->d_name, ".truth") != NULL) continue;
        snprintf(path, sizeof path, "%s/%s/%s", TEST_DATA, folder, e->d_name);
        FILE *f = fopen(path, "rb");
        file *to = &files[n_files++];
        REQUIRE(f != NULL && n_files < MAX_FILES && (to->b = malloc(MAX_BYTES)) != NULL);
        to->n = fread(to->b, 1, MAX_BYTES, f);
        fclose(f);
    }
    closedir(d);
}

/* Large enough that they are decoded at less than their size. */
static void add_jpegs(void)
{
    static const uint8_t samplings[][2] = {{0, 0}, {1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}};
    for (uint32_t i = 0; i < 24; i++) {
        const uint8_t *s = samplings[i % 6];
        jpeg_kind k = {i % 4 == 3 ? 2600 : 330 + 90 * (i % 5), i % 4 == 3 ? 40 : 290 + 70 * (i % 3), s[0], s[1], i % 3 == 1 ? 1 + i : 0, i % 2 == 1, i % 5 == 0};
        uint8_t *px = jpeg_picture(k.w, k.h);
        unsigned long n = 0;
        files[n_files].b = jpeg_encode(k, px, &n);
        files[n_files++].n = n;
        free(px);
    }
}

/* One change; the size may grow to `room`. */
static size_t change(uint8_t *b, size_t n, size_t room)
{
    if (n < 4) return n;
    size_t at = below(n), length = 1 + below(n / 4 < 64 ? n / 4 + 1 : 64);
    if (length > n - at) length = n - at;
    switch (below(8)) {
    case 0: b[at] ^= (uint8_t)(1u << below(8)); return n;
    case 1: b[at] = (uint8_t)test_rand(&seed); return n;
    case 2: b[at] = below(2) ? 0xff : 0; return n;
    case 3: /* a marker */
        b[at] = 0xff;
        if (at + 1 < n) b[at + 1] = (uint8_t)(0xc0 + below(64));
        return n;
    case 4: return at; /* cut off */
    case 5: /* taken out */
        memmove(b + at, b + at + length, n - at - length);
        return n - length;
    case 6: /* doubled */
        if (n + length > room) return n;
        memmove(b + at + length, b + at, n - at);
        return n + length;
    default: /* a piece of somewhere else */
        memmove(b + at, b + below(n - length + 1), length);
        return n;
    }
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000u + (uint64_t)t.tv_nsec / 1000000u;
}

/* What a server does with a picture; its status. */
static emb_status through(const uint8_t *b, size_t n, emb_scratch *scratch)
{
    static const uint32_t sides[] = {0, 1, 20, 90, 180, 300};
    const emb_limits l = {.max_pixels = 1000000, .max_meta_bytes = 1 << 18};
    emb_image *im = NULL;
    emb_image_info info = {0};
    emb_error e = {0};
    emb_status st = emb_image_decode(b, n, &l, sides[below(6)], &im, &info, &e);
    CHECK((st == EMB_OK) == (im != NULL) && (st == EMB_OK || e.text[0] != '\0'));
    if (st != EMB_OK) return st;
    emb_view v = emb_image_view(im);
    CHECK(v.width >= 1 && v.height >= 1 && (uint64_t)v.width * v.height <= l.max_pixels);
    CHECK(v.width <= info.width && v.height <= info.height);
    emb_preproc pp = {24, 16, 32, (emb_fit)below(3), {0.5f, 0.5f, 0.5f}, {0.2f, 0.2f, 0.2f}, (emb_filter)below(3)};
    const emb_crop crop = {(float)below(50) / 100, (float)below(50) / 100, 0.01f + (float)below(49) / 100, 0.01f + (float)below(49) / 100};
    float out[24 * 16 * 3];
    REQUIRE(emb_preprocess(v, below(2) ? &crop : NULL, &pp, EMB_NHWC, out, scratch, &e) == EMB_OK);
    for (size_t i = 0; i < sizeof out / sizeof *out; i++) CHECK(out[i] >= -2.6f && out[i] <= 2.6f);
    uint8_t *jpeg = NULL;
    REQUIRE(emb_image_rendition(v, 32 + (uint32_t)below(400), 80, &jpeg, &n, &e) == EMB_OK);
    free(jpeg);
    emb_image_free(im);
    return st;
}

int main(int argc, char **argv)
{
    const long count = argc > 1 ? strtol(argv[1], NULL, 10) : 1500;
    if (argc > 2) seed = strtoull(argv[2], NULL, 10);
    add_folder("images");
    add_folder("hostile");
    add_jpegs();
    unsigned long came[EMB_EDEADLINE + 1] = {0};
    uint64_t slowest = 0;
    emb_scratch scratch = {0};
    for (long i = 0; i < count; i++) {
        const file *f = &files[below(n_files)];
        size_t room = f->n + 256, n = f->n;
        uint8_t *b = malloc(room);
        REQUIRE(b != NULL);
        memcpy(b, f->b, f->n);
        for (uint64_t changes = 1 + below(5); changes > 0; changes--) n = change(b, n, room);
        uint8_t *exact = realloc(b, n > 0 ? n : 1); /* so that a sanitizer sees an overrun */
        REQUIRE(exact != NULL);
        const uint64_t t = now_ms();
        came[through(exact, n, &scratch)]++;
        const uint64_t took = now_ms() - t;
        if (took > slowest) slowest = took;
        free(exact);
    }
    CHECK(slowest < SLOW_MS * 10); /* a busy machine under a sanitizer is no failure */
    CHECK(came[EMB_OK] > 0 && came[EMB_EFORMAT] > 0);
    printf("%ld pictures of %zu: %lu taken, %lu damaged, %lu unsupported, %lu over a limit, %lu others; slowest %lu ms\n", count, n_files,
           came[EMB_OK], came[EMB_EFORMAT], came[EMB_EUNSUPPORTED], came[EMB_ELIMIT], (unsigned long)count - came[EMB_OK] - came[EMB_EFORMAT] -
           came[EMB_EUNSUPPORTED] - came[EMB_ELIMIT], (unsigned long)slowest);
    emb_scratch_free(&scratch);
    for (size_t i = 0; i < n_files; i++) free(files[i].b);
    return test_end();
}
