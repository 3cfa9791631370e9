/* log.h: one JSON object a line on stderr. Any thread; a line is one write(2), so that lines never mix. */
#ifndef LK_LOG_H
#define LK_LOG_H

#include <stddef.h>
#include <stdint.h>

typedef enum { SRV_LOG_INFO, SRV_LOG_WARN, SRV_LOG_ERROR } srv_log_level;

typedef struct {
    srv_log_level level;
    size_t n;
    char text[4096]; /* what does not fit is left out, at a field's border */
} srv_log_line;

void srv_log_set_level(srv_log_level least);
/* {"ts":"2026-01-02T03:04:05.678Z","level":"info","msg":"..." */
void srv_log_begin(srv_log_line *l, srv_log_level level, const char *msg);
/* Texts are escaped, so that nothing a client sends can forge a line; NULL leaves the field out. */
void srv_log_text(srv_log_line *l, const char *name, const char *value);
void srv_log_int(srv_log_line *l, const char *name, int64_t value);
void srv_log_ms(srv_log_line *l, const char *name, uint64_t ns);
void srv_log_end(srv_log_line *l);
/* A line with nothing but a message. */
void srv_log(srv_log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
