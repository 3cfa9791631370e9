/* The first error wins, NULL is accepted, long texts are cut, not overrun. */
#include "../../embed/error.h"
#include "../../index/error.h"
#include "test.h"

int main(void)
{
    emb_error err = {0};
    CHECK_INT(emb_fail(&err, EMB_EFORMAT, "byte %d", 7), EMB_EFORMAT);
    CHECK_INT(emb_fail(&err, EMB_EIO, "later"), EMB_EIO);
    CHECK_INT(err.status, EMB_EFORMAT);
    CHECK_STR(err.text, "byte 7");
    CHECK_INT(emb_fail(NULL, EMB_EIO, "nobody listens"), EMB_EIO);

    idx_error ie = {0};
    CHECK_INT(idx_fail(&ie, IDX_EINVAL, "%0500d", 1), IDX_EINVAL);
    CHECK_INT(strlen(ie.text), sizeof ie.text - 1);
    return test_end();
}
