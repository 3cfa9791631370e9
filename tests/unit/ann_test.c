/* Failures inside FAISS come back as a code and a text of this thread, whether the C API is the system's
 * libfaiss_c or ours. */
#include "../../index/ann_shim.h"
#include "test.h"

#include <faiss/c_api/error_c.h>
#include <faiss/c_api/index_factory_c.h>

int main(void)
{
    FaissIndex *index = NULL, *flat = NULL;
    CHECK(faiss_index_factory(&index, 8, "no such recipe", METRIC_INNER_PRODUCT) != 0);
    CHECK_CONTAINS(faiss_get_last_error(), "no such recipe");
    faiss_Index_free(index);

    REQUIRE(faiss_index_factory(&flat, 8, "Flat", METRIC_INNER_PRODUCT) == 0);
    CHECK_INT(idx_shim_is_hnsw(flat), 0);
    CHECK(idx_shim_set_ef_construction(flat, 40) != 0); /* a flat index has no such thing */
    CHECK_CONTAINS(faiss_get_last_error(), "cast");
    faiss_Index_free(flat);
    return test_end();
}
