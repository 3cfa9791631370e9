/* test.h: checks that print both values and where they stand. A test is a main() that calls CHECK...
 * and returns test_end(). Failures are counted, not fatal, unless REQUIRE is used. */
#ifndef LK_TEST_H
#define LK_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic unsigned test_checks, test_failures;

#define TEST_FAIL(...)                                                                                                 \
    do {                                                                                                               \
        test_failures++;                                                                                               \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                                                \
        fprintf(stderr, __VA_ARGS__);                                                                                  \
        fputc('\n', stderr);                                                                                           \
    } while (0)

#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        if (!(cond)) TEST_FAIL("failed: %s", #cond);                                                                   \
    } while (0)
#define CHECK_INT(got, want)                                                                                           \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        long long g_ = (long long)(got), w_ = (long long)(want);                                                       \
        if (g_ != w_) TEST_FAIL("%s is %lld, want %lld", #got, g_, w_);                                                \
    } while (0)
#define CHECK_STR(got, want)                                                                                           \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        const char *g_ = (got), *w_ = (want);                                                                          \
        if (g_ == NULL || strcmp(g_, w_) != 0) TEST_FAIL("%s is \"%s\", want \"%s\"", #got, g_ ? g_ : "(null)", w_);   \
    } while (0)
#define CHECK_CONTAINS(got, part)                                                                                      \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        const char *g_ = (got), *w_ = (part);                                                                          \
        if (g_ == NULL || strstr(g_, w_) == NULL)                                                                      \
            TEST_FAIL("%s is \"%s\", want a text with \"%s\"", #got, g_ ? g_ : "(null)", w_);                          \
    } while (0)
#define CHECK_NEAR(got, want, tol)                                                                                     \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        double g_ = (got), w_ = (want), t_ = (tol);                                                                    \
        if (!(fabs(g_ - w_) <= t_)) TEST_FAIL("%s is %.9g, want %.9g within %.3g", #got, g_, w_, t_);                  \
    } while (0)
#define REQUIRE(cond)                                                                                                  \
    do {                                                                                                               \
        test_checks++;                                                                                                 \
        if (!(cond)) {                                                                                                 \
            TEST_FAIL("required: %s", #cond);                                                                          \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

#define TEST_SKIP 77 /* CTest's SKIP_RETURN_CODE */

/* splitmix64: the same numbers on every machine from a printed seed. */
static inline uint64_t test_rand(uint64_t *s)
{
    uint64_t z = (*s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static inline float test_randf(uint64_t *s) /* [-1, 1) */
{
    return (float)((double)(test_rand(s) >> 11) * 0x1p-52 - 1.0);
}

/* A template for mkdtemp, in memory where there is such a place: nothing here outlives the machine, and a disk that syncs takes
 * most of the time of a test that opens an index hundreds of times. */
static inline void test_dir_template(char out[64], const char *name)
{
    const char *shm = "/dev/shm";
    FILE *f = fopen("/dev/shm/likeness-probe", "w");
    if (f == NULL) shm = "/tmp";
    else fclose(f), remove("/dev/shm/likeness-probe");
    snprintf(out, 64, "%s/%.40s-XXXXXX", shm, name);
}

static inline int test_end(void)
{
    printf("%u checks, %u failed\n", test_checks, test_failures);
    return test_failures != 0 || test_checks == 0;
}

#endif
