/* audit.c: see audit.h. */
#include "audit.h"
#include "search.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LEAST_EFFORT = 16, MOST_EFFORT = 2048, QUICK = 8, ENOUGH = 24 };
enum { REST = 19, PAUSE_MS = 200 }; /* a nineteenth of a core at most; and so long between audits */

void idx_audit_init(idx_audit a[IDX_AUDIT_KINDS], uint32_t effort)
{
    for (int i = 0; i < IDX_AUDIT_KINDS; i++) {
        a[i].effort = effort;
        a[i].wanted = false;
        pthread_mutex_init(&a[i].lock, NULL);
    }
}

static void sample_fini(idx_sample *s)
{
    free(s->embedding);
    free(s->filter);
    free(s->exclude_item);
    *s = (idx_sample){0};
}

void idx_audit_fini(idx_audit a[IDX_AUDIT_KINDS])
{
    for (int i = 0; i < IDX_AUDIT_KINDS; i++) {
        sample_fini(&a[i].sample);
        pthread_mutex_destroy(&a[i].lock);
    }
}

/* ---- samples --------------------------------------------------------------------------------------------------- */

static bool sample_make(idx_sample *s, const idx_query *q, const idx_result *r)
{
    *s = (idx_sample){.k = q->limit < IDX_AUDIT_K ? q->limit : IDX_AUDIT_K, .generation = r->generation, .instead = r->instead, .embedding = malloc(q->dim * sizeof(float))};
    if (q->filter != NULL) s->filter = strdup(q->filter);
    if (q->exclude_item != NULL) s->exclude_item = strdup(q->exclude_item);
    if (s->embedding == NULL || (q->filter != NULL && s->filter == NULL) || (q->exclude_item != NULL && s->exclude_item == NULL)) {
        sample_fini(s);
        return false;
    }
    memcpy(s->embedding, q->embedding, q->dim * sizeof(float));
    for (s->n = 0; s->n < s->k && s->n < r->n; s->n++) s->score[s->n] = r->hits[s->n].score;
    return true;
}

/* First pages of approximate searches with the effort that is judged. */
void idx_audit_offer(idx_audit a[IDX_AUDIT_KINDS], const idx_query *q, const idx_result *r)
{
    idx_audit *x = &a[q->filter != NULL && q->filter[0] != 0 ? IDX_AUDIT_FILTERED : IDX_AUDIT_PLAIN];
    bool exact = (strcmp(r->plan, "flat") == 0 && !r->instead) || strcmp(r->plan, "scan") == 0;
    if (exact || q->after || q->ef_search != 0 || q->min_score >= -1 || !atomic_load_explicit(&x->wanted, memory_order_relaxed)) return;
    if (pthread_mutex_trylock(&x->lock) != 0) return;
    if (!x->taken && (x->taken = sample_make(&x->sample, q, r))) atomic_store(&x->wanted, false);
    pthread_mutex_unlock(&x->lock);
}

/* ---- judgement ---------------------------------------------------------------------------------------------------- */

static double mean(const idx_audit *a)
{
    double sum = 0;
    for (uint32_t i = 0; i < a->n_window; i++) sum += (double)a->window[i];
    return a->n_window > 0 ? sum / a->n_window : a->recall;
}

/* Raising is cheap and wants few audits, lowering wants a full window well above the target: between the two it rests. */
uint32_t idx_audit_judge(idx_audit *a, float recall, double target)
{
    a->window[a->at] = recall;
    a->at = (a->at + 1) % IDX_AUDIT_WINDOW;
    if (a->n_window < IDX_AUDIT_WINDOW) a->n_window++;
    a->audits++;
    a->recall = mean(a);
    uint32_t is = a->effort, now = is;
    bool low = (a->n_window >= ENOUGH && a->recall < target) || (a->n_window >= QUICK && a->recall < target - 3 * (1 - target));
    if (low) now = is + is / 4 + 1;
    else if (a->n_window == IDX_AUDIT_WINDOW && a->recall > target + (1 - target) / 2) now = is - is / 8 - 1;
    now = now < LEAST_EFFORT ? LEAST_EFFORT : now > MOST_EFFORT ? MOST_EFFORT : now;
    if ((low && now <= is) || (!low && now >= is)) return 0; /* at its end */
    a->effort = now;
    a->n_window = a->at = 0;
    return now;
}

/* ---- audits ---------------------------------------------------------------------------------------------------------- */

static idx_status again(idx_cat *c, const idx_sample *s, bool exact, idx_result **out, void (*rest)(void *, uint64_t), void *ctx)
{
    idx_query q = {.embedding = s->embedding, .dim = c->row.info.dim, .limit = s->k, .min_score = -2, .filter = s->filter, .exclude_item = s->exclude_item, .exact = exact, .walk = s->instead};
    return idx_search_in(c, &q, rest, ctx, out, NULL);
}

/* How many of the best k were found. Images that are alike to the last bit stand for each other. */
static float recall_of(const float *got, uint32_t n, const idx_result *exact, uint32_t k)
{
    uint32_t there = exact->n < k ? (uint32_t)exact->n : k, found = 0;
    if (there == 0) return 1;
    for (uint32_t i = 0; i < n && i < there; i++) found += got[i] >= exact->hits[there - 1].score - 1e-6f;
    return (float)found / (float)there;
}

static bool audit_kind(idx *ix, idx_cat *c, int kind, void (*rest)(void *, uint64_t), void *ctx)
{
    idx_audit *a = &c->audit[kind];
    idx_sample s;
    pthread_mutex_lock(&a->lock);
    bool taken = a->taken;
    if (taken) s = a->sample, a->sample = (idx_sample){0}, a->taken = false;
    pthread_mutex_unlock(&a->lock);
    if (!taken) {
        atomic_store(&a->wanted, true);
        return false;
    }
    idx_result *exact = NULL, *now = NULL;
    idx_status st = again(c, &s, true, &exact, rest, ctx);
    /* Items written since would look like misses: then the search is made again, too. And where comparing everything took no longer than a walk,
     * a walk is judged all the same: otherwise the effort would stay where it is when less would do. */
    if (st == IDX_OK && (s.instead || exact->generation != s.generation)) {
        st = again(c, &s, false, &now, NULL, NULL);
        for (s.n = 0; st == IDX_OK && s.n < s.k && s.n < now->n; s.n++) s.score[s.n] = now->hits[s.n].score;
    }
    if (st == IDX_OK) {
        pthread_mutex_lock(&a->lock);
        uint32_t was = a->effort, effort = idx_audit_judge(a, recall_of(s.score, s.n, exact, s.k), ix->opts.recall_target);
        double recall = a->recall;
        a->instead = s.instead;
        pthread_mutex_unlock(&a->lock);
        if (effort != 0 && ix->opts.log != NULL) {
            char text[200];
            snprintf(text, sizeof text, "catalogue %s: recall@10 of searches %s a filter is %.3f, ef_search goes from %" PRIu32 " to %" PRIu32, c->row.info.name,
                     kind == IDX_AUDIT_FILTERED ? "with" : "without", recall, was, effort);
            ix->opts.log(ix->opts.log_ctx, 0, text);
        }
    }
    idx_result_free(exact);
    idx_result_free(now);
    sample_fini(&s);
    atomic_store(&a->wanted, true);
    return true;
}

bool idx_audit_once(idx *ix, void (*rest)(void *, uint64_t), void *ctx)
{
    bool any = false;
    for (size_t i = 0;; i++) {
        idx_cat *c = idx_take_cat_at(ix, i);
        if (c == NULL) return any;
        for (int kind = 0; kind < IDX_AUDIT_KINDS && !ix->stop; kind++) any = audit_kind(ix, c, kind, rest, ctx) || any;
        idx_give_cat(ix, c);
    }
}

/* ---- the thread -------------------------------------------------------------------------------------------------------- */

/* Until then, or until the index closes. */
static void sleep_ns(idx *ix, uint64_t ns)
{
    const struct timespec t = idx_deadline(ns);
    pthread_mutex_lock(&ix->audit_lock);
    while (!ix->stop && pthread_cond_timedwait(&ix->audit_wake, &ix->audit_lock, &t) != ETIMEDOUT) {}
    pthread_mutex_unlock(&ix->audit_lock);
}

/* Not niced: a thread that the scheduler leaves waiting while it holds a lock would make others wait. It rests instead. */
static void rest(void *ctx, uint64_t busy_ns)
{
    idx *ix = ctx;
    if (!ix->stop) sleep_ns(ix, busy_ns * REST);
}

static void *audit_main(void *arg)
{
    idx *ix = arg;
    pthread_setname_np(pthread_self(), "index auditor");
    while (!ix->stop) {
        idx_audit_once(ix, rest, ix);
        sleep_ns(ix, PAUSE_MS * 1000000u);
    }
    return NULL;
}

idx_status idx_audit_start(idx *ix, idx_error *err)
{
    if (pthread_create(&ix->auditor, NULL, audit_main, ix) != 0) return idx_fail(err, IDX_ENOMEM, "cannot start a thread");
    ix->has_auditor = true;
    return IDX_OK;
}

void idx_audit_stop(idx *ix)
{
    pthread_mutex_lock(&ix->audit_lock);
    pthread_cond_signal(&ix->audit_wake);
    pthread_mutex_unlock(&ix->audit_lock);
    if (ix->has_auditor) pthread_join(ix->auditor, NULL);
}
