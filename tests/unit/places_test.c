/* Where matches lie in lists, and how many in each, against a look at every row: few and many of them, items without a row and with several,
 * sets that end before the items do and behind them. */
#include "../../index/places.h"
#include "test.h"

enum { ROUNDS = 60 };
static uint64_t seed = 11;

static uint32_t below(uint32_t n) { return (uint32_t)(test_rand(&seed) % n); }

/* Rows of random items in lists of random lengths, some of them empty; several: an item may have more than one. */
static idx_parts *make(uint32_t first, uint32_t rows, bool several)
{
    idx_parts *p = calloc(1, sizeof *p);
    REQUIRE(p != NULL);
    *p = (idx_parts){.n_lists = 2 + below(60), .rows = rows};
    p->start = calloc(p->n_lists + 1u, sizeof *p->start);
    p->item = malloc((rows + 1u) * sizeof *p->item);
    REQUIRE(p->start != NULL && p->item != NULL);
    for (uint32_t i = 1; i < p->n_lists; i++) { /* ascending, by insertion */
        uint32_t at = below(rows + 1), k = i;
        for (; k > 1 && p->start[k - 1] > at; k--) p->start[k] = p->start[k - 1];
        p->start[k] = at;
    }
    p->start[p->n_lists] = rows;
    for (uint32_t j = 0; j < rows; j++) p->item[j] = below(20) == 0 ? UINT32_MAX : first + (several ? below(rows) : j + j / 7);
    for (uint32_t j = rows; j-- > 1;) { /* in any order */
        uint32_t k = below(j + 1), t = p->item[j];
        p->item[j] = p->item[k];
        p->item[k] = t;
    }
    idx_parts_index(p);
    return p;
}

static bool is_in(idx_bits b, uint32_t item) { return item != UINT32_MAX && item / 64 < b.n_words && idx_bit(b.w, item); }

static void check(const idx_parts *p, idx_bits matches, const idx_places *got)
{
    for (uint32_t i = 0; i < p->n_lists; i++) {
        uint32_t n = 0;
        for (uint32_t j = p->start[i]; j < p->start[i + 1]; j++) {
            n += is_in(matches, p->item[j]);
            if (idx_places_are_marked(got)) CHECK_INT(idx_bit(got->bits.w, j), is_in(matches, p->item[j]));
        }
        CHECK_INT(got->count[i], n);
    }
}

static void change(const idx_parts *p, idx_bits matches, idx_places *a, idx_places *b)
{
    uint32_t item = below(matches.n_words * 64);
    bool is = idx_bit(matches.w, item);
    if (is) idx_bit_clear(matches.w, item);
    else idx_bit_set(matches.w, item);
    idx_places_set(a, p, item, !is);
    if (b != NULL) idx_places_set(b, p, item, !is);
}

static void round_of(bool several)
{
    uint32_t first = below(3) == 0 ? 0 : below(300), rows = 1 + below(3000);
    idx_parts *p = make(first, rows, several);
    idx_bits matches;
    idx_places found, counted;
    REQUIRE(idx_bits_new(&matches, 1 + below(first + rows + rows / 4)));
    uint32_t bits = matches.n_words * 64, share = 1 + below(4) * below(70);
    for (uint32_t i = 0; i < bits; i++)
        if (below(share) == 0) idx_bit_set(matches.w, i);
    if (p->place_of == NULL) { /* of dead rows alone */
        CHECK(p->list_of == NULL);
    } else {
        CHECK(several || p->list_of != NULL);
        CHECK((p->list_of == NULL) == (p->next != NULL));
        bool counts = p->list_of != NULL;
        REQUIRE(idx_places_find(p, matches, &found) && (!counts || idx_places_count(p, matches, &counted)));
        for (int i = 0; i < 20; i++) {
            check(p, matches, &found);
            if (counts) check(p, matches, &counted);
            change(p, matches, &found, counts ? &counted : NULL);
        }
        idx_places_fini(&found);
        if (counts) idx_places_fini(&counted);
    }
    idx_bits_free(&matches);
    idx_parts_free(p);
}

int main(void)
{
    for (int i = 0; i < ROUNDS; i++) round_of(i % 3 == 2);
    idx_bits_drop_all();
    return test_end();
}
