/* intake.h: a request from its headers to the compute pool and back. Called by libmicrohttpd's thread. */
#ifndef LK_INTAKE_H
#define LK_INTAKE_H

#include "request.h"

/* The headers are here: refuses, or gets ready for the body. */
enum MHD_Result srv_intake_begin(srv_request *r);
enum MHD_Result srv_intake_body(srv_request *r, const char *bytes, size_t *n);
/* The body is complete, or the connection was resumed: hands over to the pool, or answers. */
enum MHD_Result srv_intake_complete(srv_request *r);
void srv_intake_release(srv_request *r);

#endif
