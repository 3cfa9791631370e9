/* route.h: the raw path -> what it names. */
#ifndef LK_API_ROUTE_H
#define LK_API_ROUTE_H

#include "internal.h"

typedef struct api_route_def api_route_def;
/* The route of a path whatever the method; NULL = none. */
const api_route_def *api_route_find(const char *raw_path);
/* Its handler for a method, NULL = not allowed. Stream routes have none. */
api_handler api_route_handler(const api_route_def *r, api_method m);
bool api_route_is_stream(const api_route_def *r, api_method m);
/* Decodes and checks the variable segments into c. */
bool api_route_params(const api_route_def *r, const char *raw_path, api_call *c);
/* "GET, HEAD, PUT" */
void api_route_allow(const api_route_def *r, char *out, size_t cap);

#endif
