/* Multipart bodies and the content type before them: first line = content type, the rest = body. Parts must lie inside
 * the body. */
#include "../../api/multipart.h"
#include "../../api/text.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const names[] = {"image", "options", "attributes", NULL};
    const uint8_t *nl = memchr(data, '\n', n);
    if (nl == NULL || nl - data > 400) return 0;
    size_t head = (size_t)(nl - data);
    char type[401];
    memcpy(type, data, head);
    type[head] = '\0';
    api_media m;
    api_fault f = {0};
    if (!api_media_parse(&m, type, &f)) return 0;
    size_t body_n = n - head - 1;
    uint8_t *body = malloc(body_n + (body_n == 0)); /* of its exact size: one byte too far is seen */
    if (body == NULL) return 0;
    memcpy(body, nl + 1, body_n);
    api_parts ps;
    if (api_multipart_parse(&ps, body, body_n, m.boundary, names, &f)) {
        for (size_t i = 0; i < ps.n; i++)
            if (ps.part[i].p < body || ps.part[i].n > body_n || ps.part[i].p + ps.part[i].n > body + body_n) abort();
    } else if (f.code == NULL) {
        abort();
    }
    free(body);
    return 0;
}
