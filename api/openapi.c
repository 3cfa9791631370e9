/* openapi.c: the contract as bytes of the program. LK_OPENAPI_JSON is the path of openapi.json, given by the build. */
#include "api.h"

__asm__(".section .rodata\n"
        ".global api_openapi_begin\n"
        ".hidden api_openapi_begin\n"
        "api_openapi_begin:\n"
        ".incbin \"" LK_OPENAPI_JSON "\"\n"
        ".global api_openapi_end\n"
        ".hidden api_openapi_end\n"
        "api_openapi_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char api_openapi_begin[], api_openapi_end[];

const char *api_openapi_json(size_t *n)
{
    *n = (size_t)(api_openapi_end - api_openapi_begin);
    return api_openapi_begin;
}
