/* The number of better rows that lists are expected to hold against lists that were made as it supposes: differences that are normal, of a
 * mean and a deviation that it must learn. */
#include "../../index/outlook.h"
#include "test.h"

enum { LISTS = 400, ROWS = 250, DIM = 256 };
static uint64_t seed = 3;

static float normal(void) /* the sum of twelve uniform numbers */
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += 0.5f * test_randf(&seed);
    return sum;
}

static void test_expected(float mean, float deviation)
{
    static float list[LISTS], score[LISTS][ROWS];
    idx_outlook o;
    idx_outlook_init(&o, DIM);
    for (int i = 0; i < LISTS; i++) {
        list[i] = 0.9f * test_randf(&seed);
        for (int k = 0; k < ROWS; k++) score[i][k] = list[i] + mean + deviation * normal();
        idx_outlook_add(&o, list[i], ROWS);
    }
    for (int i = 0; i < 20; i++) { /* those that are read */
        idx_outlook_add(&o, list[i], -ROWS);
        for (int k = 0; k < ROWS; k++) idx_outlook_learn(&o, list[i], score[i][k]);
    }
    static const float floors[] = {-0.5f, 0, 0.5f, 0.8f, 0.9f};
    for (size_t f = 0; f < sizeof floors / sizeof *floors; f++) {
        double better = 0;
        for (int i = 20; i < LISTS; i++)
            for (int k = 0; k < ROWS; k++) better += score[i][k] > floors[f];
        CHECK_NEAR(idx_outlook_better(&o, floors[f]), better, 0.03 * better + 20);
    }
    CHECK_NEAR(idx_outlook_better(&o, -3), (LISTS - 20) * ROWS, 1e-6);
    CHECK_NEAR(idx_outlook_better(&o, 3), 0, 1e-9);
    idx_outlook_clear(&o);
    CHECK(idx_outlook_better(&o, -3) == 0);
}

/* A group that is opened leaves nothing of itself. Before anything was learned rows lie around their lists. */
static void test_groups(void)
{
    idx_outlook o;
    idx_outlook_init(&o, DIM);
    for (int i = 0; i < 60; i++) idx_outlook_add_group(&o, 0.01f * (float)i, 0.04f, 16000 + i);
    double low = idx_outlook_better(&o, 0.2f), high = idx_outlook_better(&o, 0.6f);
    CHECK(high > 0 && low > high && low < 60 * 16060);
    for (int i = 59; i >= 0; i--) idx_outlook_add_group(&o, 0.01f * (float)i, 0.04f, -16000 - i);
    CHECK_NEAR(idx_outlook_better(&o, -3), 0, 1e-6);
    idx_outlook_add(&o, 5, 10); /* beyond a cosine: as good as the best */
    idx_outlook_add(&o, -5, 10);
    CHECK_NEAR(idx_outlook_better(&o, 0), 10, 1e-6);
}

int main(void)
{
    test_expected(-0.05f, 0.03f);
    test_expected(0.02f, 0.07f);
    test_expected(0, 0.02f);
    test_groups();
    return test_end();
}
