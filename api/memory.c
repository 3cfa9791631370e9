/* memory.c: one budget for the bytes of requests that are here and not worked on yet: whole bodies, which the server collects,
 * and the lines and answers of batches. Batches take at most half, so that imports leave room for searches. */
#include "internal.h"

/* What each batch may hold beyond the budget: small lines flow on while others have taken it. */
enum { FREE_OF_CHARGE = 256 * 1024 };

static bool take(_Atomic uint64_t *used, size_t n, uint64_t max)
{
    if (atomic_fetch_add(used, n) + n <= max) return true;
    atomic_fetch_sub(used, n);
    return false;
}

bool api_memory_take(api_ctx *cx, size_t n) { return take(&cx->memory, n, cx->limits.max_memory_bytes); }
void api_memory_give(api_ctx *cx, size_t n) { atomic_fetch_sub(&cx->memory, n); }
uint64_t api_memory_used(api_ctx *cx) { return atomic_load(&cx->memory); }

static size_t price(size_t held) { return held > FREE_OF_CHARGE ? held - FREE_OF_CHARGE : 0; }

bool api_hold_more(api_ctx *cx, api_hold *h, size_t n)
{
    size_t more = price(h->held + n) - price(h->held);
    if (more > 0) {
        if (!take(&cx->batch_memory, more, cx->limits.max_memory_bytes / 2)) return false;
        if (!api_memory_take(cx, more)) {
            atomic_fetch_sub(&cx->batch_memory, more);
            return false;
        }
    }
    h->held += n;
    return true;
}

void api_hold_less(api_ctx *cx, api_hold *h, size_t n)
{
    size_t less = price(h->held) - price(h->held - n);
    h->held -= n;
    atomic_fetch_sub(&cx->batch_memory, less);
    api_memory_give(cx, less);
}
