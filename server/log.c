/* log.c: JSON lines on stderr. */
#include "log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static atomic_int least_level = SRV_LOG_INFO;

void srv_log_set_level(srv_log_level least) { atomic_store(&least_level, (int) least); }

/* Appends bytes, or nothing at all; keeps room for the end of the line. */
static void put(srv_log_line *l, const char *bytes, size_t n)
{
    if (l->n + n > sizeof l->text - 3) return;
    memcpy(l->text + l->n, bytes, n);
    l->n += n;
}

/* Length of the UTF-8 character at s that may stand in JSON as it is, or 0. */
static size_t plain(const unsigned char *s)
{
    if (s[0] >= 0x20 && s[0] < 0x7f) return s[0] != '"' && s[0] != '\\';
    size_t n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 0;
    if (n == 0 || s[0] >= 0xf5) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    return n;
}

static void put_escaped(srv_log_line *l, const char *value)
{
    const unsigned char *s = (const unsigned char *) value;
    size_t end = l->n + 1024 < sizeof l->text - 16 ? l->n + 1024 : sizeof l->text - 16; // a field is at most 1 kB
    while (*s != '\0' && l->n < end) {
        size_t n = plain(s);
        char escape[8];
        if (n > 0) {
            put(l, (const char *) s, n);
            s += n;
        } else {
            int len = *s == '"' || *s == '\\' ? snprintf(escape, sizeof escape, "\\%c", *s)
                                              : snprintf(escape, sizeof escape, "\\u%04x", *s);
            put(l, escape, (size_t) len);
            s++;
        }
    }
}

void srv_log_begin(srv_log_line *l, srv_log_level level, const char *msg)
{
    static const char *const names[] = {"info", "warn", "error"};
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    l->level = level;
    size_t day = strftime(l->text, sizeof l->text, "{\"ts\":\"%Y-%m-%dT%H:%M:%S", &tm);
    l->n = day + (size_t) snprintf(l->text + day, sizeof l->text - day, ".%03ldZ\",\"level\":\"%s\"", now.tv_nsec / 1000000,
                                   names[level]);
    srv_log_text(l, "msg", msg);
}

void srv_log_text(srv_log_line *l, const char *name, const char *value)
{
    if (value == NULL || l->n + strlen(name) + 32 > sizeof l->text) return;
    char head[80];
    put(l, head, (size_t) snprintf(head, sizeof head, ",\"%.60s\":\"", name));
    put_escaped(l, value);
    put(l, "\"", 1);
}

void srv_log_int(srv_log_line *l, const char *name, int64_t value)
{
    char field[112];
    put(l, field, (size_t) snprintf(field, sizeof field, ",\"%.60s\":%lld", name, (long long) value));
}

void srv_log_ms(srv_log_line *l, const char *name, uint64_t ns)
{
    char field[112];
    put(l, field, (size_t) snprintf(field, sizeof field, ",\"%.60s\":%.3f", name, (double) ns / 1e6));
}

void srv_log_end(srv_log_line *l)
{
    if ((int) l->level < atomic_load(&least_level)) return;
    memcpy(l->text + l->n, "}\n", 2);
    ssize_t done = write(STDERR_FILENO, l->text, l->n + 2);
    (void) done; // a log that cannot be written has nobody to tell
}

void srv_log(srv_log_level level, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    srv_log_line l;
    srv_log_begin(&l, level, text);
    srv_log_end(&l);
}
