/* faiss_plain.h: FAISS's own HNSW over float32 as the distribution's package gives it, for tests and benchmarks to compare with. */
#ifndef LK_FAISS_PLAIN_H
#define LK_FAISS_PLAIN_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct faiss_plain faiss_plain;
faiss_plain *faiss_plain_new(uint32_t dim, uint32_t m, uint32_t ef_construction); /* inner products; NULL = it threw */
int faiss_plain_add(faiss_plain *p, uint64_t n, const float *rows);
int faiss_plain_search(const faiss_plain *p, const float *query, uint32_t k, uint32_t ef, float *scores, int64_t *labels);
void faiss_plain_free(faiss_plain *p);

#ifdef __cplusplus
}
#endif

#endif
