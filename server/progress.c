/* progress.c: a bar, or lines. */
#include "progress.h"
#include "queue.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { BAR = 30, TERMINAL_MS = 100, PLAIN_MS = 5000 };

void srv_progress_start(srv_progress *p, uint64_t total, bool quiet)
{
    *p = (srv_progress){.total = total, .start_ns = srv_now_ns(), .terminal = isatty(STDERR_FILENO) == 1, .quiet = quiet};
    p->shown_ns = p->start_ns;
}

double srv_progress_seconds(const srv_progress *p) { return (double) (srv_now_ns() - p->start_ns) / 1e9; }

static void clock_text(double s, char text[32])
{
    unsigned long t = (unsigned long) (s + 0.5);
    if (t >= 3600) snprintf(text, 32, "%lu:%02lu:%02lu", t / 3600, t / 60 % 60, t % 60);
    else snprintf(text, 32, "%lu:%02lu", t / 60, t % 60);
}

void srv_progress_show(srv_progress *p, uint64_t done, uint64_t failed, bool last)
{
    uint64_t now = srv_now_ns(), every_ms = p->terminal ? TERMINAL_MS : PLAIN_MS;
    if (p->quiet || (!last && now - p->shown_ns < every_ms * 1000000u)) return;
    p->shown_ns = now;
    double seconds = srv_progress_seconds(p), rate = seconds > 0 ? (double) done / seconds : 0;
    char left[32] = "-", fails[40] = "", bar[BAR + 1];
    if (rate > 0 && p->total >= done) clock_text((double) (p->total - done) / rate, left);
    if (failed > 0) snprintf(fails, sizeof fails, "  failed %llu", (unsigned long long) failed);
    if (!p->terminal) {
        if (!last) fprintf(stderr, "%llu of %llu  %.0f/s  %s left%s\n", (unsigned long long) done, (unsigned long long) p->total, rate, left, fails);
        return;
    }
    size_t full = p->total > 0 ? (size_t) (BAR * done / p->total) : BAR;
    memset(bar, '-', BAR);
    memset(bar, '#', full < BAR ? full : BAR);
    bar[BAR] = '\0';
    fprintf(stderr, "\r[%s] %llu/%llu  %.0f/s  %s left%s \033[K%s", bar, (unsigned long long) done, (unsigned long long) p->total, rate, left, fails,
            last ? "\n" : "");
}
