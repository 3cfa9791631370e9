/* problem.h: what went wrong, as a value that becomes a problem reply or a line of a batch answer. */
#ifndef LK_API_PROBLEM_H
#define LK_API_PROBLEM_H

#include "api.h"

typedef struct {
    const char *code; /* stable: clients switch on it */
    int status;
    const char *title;
    uint32_t retry_after_s;
} api_problem_entry;

/* The one table; tests walk it. */
extern const api_problem_entry api_problem_table[];
extern const size_t api_problem_table_size;
const api_problem_entry *api_problem_find(const char *code); /* NULL = not in the table */

typedef struct { /* zero-initialised = no fault */
    const char *code; /* NULL = none; otherwise a code of the table, static */
    char field[160];  /* "" = no single field is at fault */
    bool has_limit;
    uint64_t limit;
    char detail[480];
    char allow[64]; /* for 405 */
} api_fault;

/* Both fill `f` (the first fault wins) and return false, so that a check can end with `return api_fail(...)`.
 * field may be NULL. */
bool api_fail(api_fault *f, const char *code, const char *field, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool api_fail_limit(api_fault *f, const char *code, const char *field, uint64_t limit, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
bool api_fail_memory(api_fault *f);

/* What the index said, with its limit and of its field; of `field` (may be NULL) where it named none. */
bool api_fail_said(api_fault *f, const char *code, const char *field, const idx_error *err);
/* Translations. not_found: the code for IDX_ENOTFOUND. known: the bytes begin like a format that we read. */
bool api_fail_idx(api_fault *f, idx_status st, const idx_error *err, const char *not_found);
bool api_fail_emb(api_fault *f, emb_status st, const emb_error *err, const char *field, bool known);

/* Makes rp a problem reply; stage times and image count stay. */
void api_fault_reply(api_reply *rp, const api_fault *f, const char *request_id);

#endif
