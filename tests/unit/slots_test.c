/* A table of numbers beside a plain array of keys, through thousands of additions, removals and changes of size that follow each other
 * closely: what is there is found, what is not is not. */
#include "../../index/slots.h"
#include "test.h"

enum { MOST = 20000, STEPS = 400000 };
static uint32_t key_of[MOST]; /* 0 = the number is free */

static uint32_t hash_of_key(uint32_t key) { return key % 7 == 0 ? key & 15 : key * 2654435761u; } /* some collide */
static uint32_t hash(const void *ctx, uint32_t number) { return ctx == key_of ? hash_of_key(key_of[number]) : 0; }
static bool is(const void *ctx, uint32_t number, const void *key) { return ctx == key_of && key_of[number] == *(const uint32_t *)key; }

/* All at once, as at a start, and then changes. */
static void test_fill(uint32_t n)
{
    static uint32_t rest[MOST];
    idx_slots s = {0};
    idx_slots_keys k = {hash, is, key_of};
    uint32_t wrong = 0, none = 4 * MOST;
    for (uint32_t i = 0; i < n; i++) key_of[i] = 3 * i + 1;
    REQUIRE(idx_slots_resize(&s, &k, 7) && idx_slots_resize(&s, &k, 16383));
    idx_slots_fill(&s, &k, NULL, n / 2);
    for (uint32_t i = n / 2; i < n; i++) rest[n - 1 - i] = i;
    idx_slots_fill(&s, &k, rest, n - n / 2);
    for (uint32_t i = 0; i < n; i++) wrong += idx_slots_find(&s, &k, hash_of_key(key_of[i]), &key_of[i]) != i;
    CHECK(idx_slots_find(&s, &k, hash_of_key(none), &none) == UINT32_MAX);
    for (uint32_t i = 0; i < n; i += 2) idx_slots_remove(&s, &k, hash_of_key(key_of[i]), i), key_of[i] = 0;
    for (uint32_t i = 1; i < n; i += 2) wrong += idx_slots_find(&s, &k, hash_of_key(key_of[i]), &key_of[i]) != i;
    CHECK_INT(wrong, 0);
    idx_slots_fini(&s);
    memset(key_of, 0, sizeof key_of);
}

int main(void)
{
    test_fill(0);
    test_fill(17);
    test_fill(9000);
    static uint32_t number_of[4 * MOST]; /* number + 1 */
    idx_slots s = {0};
    idx_slots_keys k = {hash, is, key_of};
    uint64_t rng = 11, wrong = 0, resized = 0;
    uint32_t live = 0, most = 0, any = 1;
    CHECK(idx_slots_find(&s, &k, 1, &any) == UINT32_MAX);
    REQUIRE(idx_slots_resize(&s, &k, 7));
    for (int i = 0; i < STEPS; i++) {
        bool grows = i / 50000 % 2 == 0;
        uint32_t key = 1 + (uint32_t)(test_rand(&rng) % (4 * MOST - 1)), there = idx_slots_find(&s, &k, hash_of_key(key), &key);
        wrong += there != number_of[key] - 1u;
        if (number_of[key] != 0 && (!grows || test_rand(&rng) % 4 == 0)) {
            idx_slots_remove(&s, &k, hash_of_key(key), number_of[key] - 1);
            key_of[number_of[key] - 1] = 0;
            number_of[key] = 0;
            live--;
        } else if (number_of[key] == 0 && grows && live < MOST / 2) {
            uint32_t number = (uint32_t)(test_rand(&rng) % MOST);
            while (key_of[number] != 0) number = (number + 1) % MOST; /* numbers are used again, with other keys */
            if ((live + 1) * 5 > s.mask * 4) resized += idx_slots_resize(&s, &k, s.mask * 2 + 1);
            key_of[number] = key;
            number_of[key] = number + 1;
            idx_slots_add(&s, &k, hash_of_key(key), number);
            if (++live > most) most = live;
        }
        if (s.mask > 7 && live * 8 < s.mask) resized += idx_slots_resize(&s, &k, s.mask / 2);
        if (test_rand(&rng) % 5000 == 0) resized += idx_slots_resize(&s, &k, s.mask); /* in the middle of the last */
    }
    for (uint32_t key = 1; key < 4 * MOST; key++) wrong += idx_slots_find(&s, &k, hash_of_key(key), &key) != number_of[key] - 1u;
    CHECK_INT(wrong, 0);
    CHECK(resized > 60);
    CHECK(most > MOST / 3);
    CHECK(idx_slots_bytes(&s) >= (s.mask + 1) * sizeof(uint32_t));
    idx_slots_fini(&s);
    return test_end();
}
