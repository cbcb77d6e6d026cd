/* SPDX-License-Identifier: Apache-2.0 */
/* Prefixes of a bridge, both ways. */
#include "adapters/bridge/bridge_map.h"

#include "seam/seam.h"
#include "seam/unit.h"

static const struct hg_bridge_route in[] = {
    {.filter = "#",
     .remote_prefix = "site/a/",
     .local_prefix = "plant1/",
     .remote_filter = "site/a/#",
     .local_filter = "plant1/#"},
    {.filter = "+/x",
     .remote_prefix = "",
     .local_prefix = "",
     .remote_filter = "+/x",
     .local_filter = "+/x"},
    {.filter = "site/#",
     .remote_prefix = "",
     .local_prefix = "rest/",
     .remote_filter = "site/#",
     .local_filter = "rest/site/#"},
};
static const struct hg_bridge_route out[] = {
    {.filter = "cmd/#",
     .remote_prefix = "",
     .local_prefix = "plant1/",
     .remote_filter = "cmd/#",
     .local_filter = "plant1/cmd/#"},
    {.filter = "all/#",
     .remote_prefix = "from/here/",
     .local_prefix = "",
     .remote_filter = "from/here/all/#",
     .local_filter = "all/#"},
};
static const struct hg_bridge_spec spec = {.in = in, .in_n = 3, .out = out, .out_n = 2};

struct row {
    const char *address;
    const char *mapped;                  /* NULL: not taken */
    const struct hg_bridge_route *route; /* which took it */
};

static void the_first_route_that_takes_an_address_maps_it_in(void **state)
{
    static const struct row rows[] = {
        {"site/a/b/c", "plant1/b/c", &in[0]},
        {"site/a/", "plant1/", &in[0]},
        {"site/a", "rest/site/a", &in[2]}, /* matches site/a/#, but is outside of its prefix */
        {"site/x", "site/x", &in[1]},
        {"site/b", "rest/site/b", &in[2]},
        {"other", NULL, NULL},
        {"$SYS/x", NULL, NULL}, /* no wildcard at the beginning takes it */
    };
    struct hg_writer w = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct hg_bridge_route *r =
            hg_bridge_map_in(&spec, hg_bytes_str(rows[i].address), &w);
        assert_ptr_equal(r, rows[i].route);
        if (r != NULL) {
            assert_text(hg_writer_view(&w), rows[i].mapped);
        }
    }
    hg_writer_close(&w);
}

static void the_first_route_that_takes_an_address_maps_it_out(void **state)
{
    static const struct row rows[] = {
        {"plant1/cmd/stop", "cmd/stop", &out[0]},
        {"plant1/cmd", "cmd", &out[0]},
        {"all/of/it", "from/here/all/of/it", &out[1]},
        {"plant2/cmd/stop", NULL, NULL},
        {"plant1", NULL, NULL},
    };
    struct hg_writer w = {0};
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const struct hg_bridge_route *r =
            hg_bridge_map_out(&spec, hg_bytes_str(rows[i].address), &w);
        assert_ptr_equal(r, rows[i].route);
        if (r != NULL) {
            assert_text(hg_writer_view(&w), rows[i].mapped);
        }
    }
    hg_writer_close(&w);
}

static void what_a_filter_in_takes_comes_back(void **state)
{
    (void)state;
    assert_true(hg_bridge_map_returns(&spec, HG_BYTES("site/a/1")));
    assert_true(hg_bridge_map_returns(&spec, HG_BYTES("cmd/x")));
    assert_false(hg_bridge_map_returns(&spec, HG_BYTES("cmd/y")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_route_that_takes_an_address_maps_it_in),
        cmocka_unit_test(the_first_route_that_takes_an_address_maps_it_out),
        cmocka_unit_test(what_a_filter_in_takes_comes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
