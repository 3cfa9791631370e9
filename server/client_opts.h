/* client_opts.h: the settings that every command which speaks to a server has, with their variables. */
#ifndef LK_CLIENT_OPTS_H
#define LK_CLIENT_OPTS_H

#include "options.h"

#include <stdlib.h>

#define SRV_OPT_URL(where) {"url", "URL", SRV_OPT_TEXT, &(where), 0, 0, "server; or LIKENESS_URL (http://127.0.0.1:8080)"}
#define SRV_OPT_KEY_FILE(where)                                                                                        \
    {"key-file", "FILE", SRV_OPT_TEXT, &(where), 0, 0, "its first line is the key; or LIKENESS_KEY_FILE, LIKENESS_KEY"}
#define SRV_OPT_CATALOGUE(where)                                                                                       \
    {"catalogue", "NAME", SRV_OPT_TEXT, &(where), 0, 0, "or LIKENESS_CATALOGUE (default)"}

static inline const char *srv_default_catalogue(void)
{
    const char *name = getenv("LIKENESS_CATALOGUE");
    return name != NULL ? name : "default";
}

#endif
