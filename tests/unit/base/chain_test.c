/* SPDX-License-Identifier: Apache-2.0 */
#include "base/chain.h"

#include "seam/unit.h"

struct item {
    struct hg_chain_link link;
    char name;
};

static void assert_names(const struct hg_chain *c, const char *names)
{
    HG_CHAIN_FOREACH (it, c) {
        assert_int_equal(HG_CHAIN_ENTRY(it, struct item, link)->name, *names);
        assert_ptr_equal(*it->at, it);
        names++;
    }
    assert_int_equal(*names, 0);
}

static void a_chain_is_in_the_order_of_adding(void **state)
{
    (void)state;
    struct hg_chain c = {0};
    struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}, {.name = 'd'}};
    assert_names(&c, "");
    hg_chain_add_last(&c, &items[0].link);
    hg_chain_add_first(&c, &items[1].link);
    hg_chain_add_last(&c, &items[2].link);
    hg_chain_add_first(&c, &items[3].link);
    assert_names(&c, "dbac");
}

static void each_link_can_be_removed(void **state)
{
    (void)state;
    static const char *const left[] = {"bc", "ac", "ab"};
    for (size_t i = 0; i < 3; i++) {
        struct hg_chain c = {0};
        struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}};
        hg_chain_remove(&items[i].link); /* in no chain: nothing happens */
        for (size_t k = 0; k < 3; k++) {
            hg_chain_add_last(&c, &items[k].link);
        }
        hg_chain_remove(&items[i].link);
        hg_chain_remove(&items[i].link);
        assert_names(&c, left[i]);
    }
}

static void the_current_link_may_go_while_iterating(void **state)
{
    (void)state;
    struct hg_chain c = {0};
    struct item items[] = {{.name = 'a'}, {.name = 'b'}, {.name = 'c'}};
    for (size_t i = 0; i < 3; i++) {
        hg_chain_add_last(&c, &items[i].link);
    }
    HG_CHAIN_FOREACH_SAFE (it, &c) {
        if (HG_CHAIN_ENTRY(it, struct item, link)->name != 'b') {
            hg_chain_remove(it);
        }
    }
    assert_names(&c, "b");
    HG_CHAIN_FOREACH_SAFE (it, &c) {
        hg_chain_remove(it);
    }
    assert_null(c.first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_chain_is_in_the_order_of_adding),
        cmocka_unit_test(each_link_can_be_removed),
        cmocka_unit_test(the_current_link_may_go_while_iterating),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
