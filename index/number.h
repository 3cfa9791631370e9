/* number.h: an attribute's number. JSON readers keep reals as doubles and integers as int64; a double holds integers exactly up to 2^53, so
 * that one beyond is its nearest double and how far it lies from that. Then both kinds have one order, and columns of doubles stay what
 * they are: the few rests have a column of their own. */
#ifndef LK_NUMBER_H
#define LK_NUMBER_H

#include <stdint.h>

typedef struct {
    double d;
    int32_t rest; /* -512..512; not 0 only for an integer that is no double */
} idx_number;

static inline idx_number idx_number_whole(int64_t v)
{
    double d = (double)v;
    return (idx_number){d, d == 0x1p63 ? (int32_t)(v - INT64_MAX) - 1 : (int32_t)(v - (int64_t)d)};
}

/* Of one that has a rest. */
static inline int64_t idx_number_int(idx_number n) { return n.d == 0x1p63 ? INT64_MAX + (n.rest + 1) : (int64_t)n.d + n.rest; }

/* To the nearest double is never past another number: the doubles say the order, and where they are equal the rests do. */
static inline int idx_number_order(idx_number a, idx_number b)
{
    return a.d < b.d ? -1 : a.d > b.d ? 1 : (a.rest > b.rest) - (a.rest < b.rest);
}

/* A double as a column keeps it, and back; -0 is 0. */
static inline uint64_t idx_number_pack(double d)
{
    uint64_t u;
    d += 0.0;
    __builtin_memcpy(&u, &d, sizeof u);
    return ~u; /* not 0 for any number: that would be a NaN */
}
static inline double idx_number_unpack(uint64_t packed)
{
    double d;
    packed = ~packed;
    __builtin_memcpy(&d, &packed, sizeof d);
    return d;
}

/* A rest as a column keeps it: 0 = none. */
enum { IDX_REST_NONE = 1024 };
static inline uint64_t idx_rest_pack(int32_t rest) { return (uint64_t)(rest + IDX_REST_NONE); }
static inline int32_t idx_rest_unpack(uint64_t packed) { return packed != 0 ? (int32_t)packed - IDX_REST_NONE : 0; }

#endif
