/* The hasher's digest is that of the bytes as they were given: pieces change only once they are released, whatever is released first. */
#include "../../embed/hasher.h"
#include "test.h"

enum { PIECE = 48 << 10, PIECES = 150 };

static uint8_t was[PIECES * PIECE], bytes[PIECES * PIECE];

static void digest_of(struct sha256_ctx *h, char text[2 * SHA256_DIGEST_SIZE + 1])
{
    uint8_t d[SHA256_DIGEST_SIZE];
    sha256_digest(h, sizeof d, d);
    for (size_t i = 0; i < sizeof d; i++) snprintf(text + 2 * i, 3, "%02x", d[i]);
}

static void try(bool threaded, size_t stride, uint64_t *seed, const char *want)
{
    emb_hasher h;
    char got[2 * SHA256_DIGEST_SIZE + 1];
    memcpy(bytes, was, sizeof bytes);
    emb_hasher_start(&h, threaded);
    h.kept = malloc(1);
    for (size_t i = 0; i < PIECES; i++) emb_hasher_give(&h, bytes + i * PIECE, PIECE);
    for (size_t i = 0; i < PIECES; i++) {
        uint8_t *at = bytes + i * stride % PIECES * PIECE + 100;
        const size_t n = 1 + test_rand(seed) % (PIECE - 100);
        emb_hasher_release(&h, at, n);
        memset(at, 255, n);
    }
    emb_hasher_finish(&h);
    digest_of(&h.hash, got);
    CHECK_STR(got, want);
    emb_hasher_finish(&h);
}

int main(void)
{
    uint64_t seed = 7;
    struct sha256_ctx h;
    char want[2 * SHA256_DIGEST_SIZE + 1];
    for (size_t i = 0; i < sizeof was; i++) was[i] = (uint8_t)test_rand(&seed);
    sha256_init(&h);
    sha256_update(&h, sizeof was, was);
    digest_of(&h, want);
    for (size_t stride = 1; stride < 25; stride += 6) /* no common factor with PIECES: all of them are changed */
        for (int threaded = 0; threaded < 2; threaded++) try(threaded, stride, &seed, want);
    emb_hasher none = {.threaded = false};
    emb_hasher_release(&none, was, 1);
    emb_hasher_finish(&none);
    return test_end();
}
