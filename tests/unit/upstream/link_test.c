/* SPDX-License-Identifier: Apache-2.0 */
/* A link: which endpoint is next, and a secret that is renewed while it is up. */
#include "upstream/link.h"

#include "base/secret.h"
#include "rig.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENDPOINTS = 3 };

struct bench {
    struct seam_net sn;
    struct hg_link link;
    struct hg_upstream_metrics metrics;
    unsigned ups_n, downs_n;
    char path[48];
    struct timespec changed;
};

static void on_up(void *ctx)
{
    ((struct bench *)ctx)->ups_n++;
}

static void on_down(void *ctx, const struct hg_amqp_close *why)
{
    (void)why;
    ((struct bench *)ctx)->downs_n++;
}

static const struct hg_link_ops ops = {.on_up = on_up, .on_down = on_down};

static void renew(struct bench *t, const char *secret)
{
    FILE *file = fopen(t->path, "w");
    assert_non_null(file);
    fputs(secret, file);
    fclose(file);
    t->changed.tv_sec++;
    const struct timespec times[2] = {t->changed, t->changed};
    assert_int_equal(utimensat(AT_FDCWD, t->path, times, 0), 0);
}

static struct bench *open_bench(const struct hg_link_config *config, const char *secret)
{
    struct bench *t = calloc(1, sizeof(*t));
    const char *why;
    assert_non_null(t);
    seam_net_open(&t->sn);
    struct hg_link_config mine = *config;
    mine.metrics = &t->metrics;
    if (secret != NULL) {
        strcpy(t->path, "/tmp/headgate-link-XXXXXX");
        int fd = mkstemp(t->path);
        assert_true(fd >= 0);
        close(fd);
        renew(t, secret);
        mine.secret = hg_secret_new(t->path, &why);
        assert_non_null(mine.secret);
    }
    hg_link_open(&t->link, &t->sn.net, &mine, "unit", 0, "test", &ops, t);
    return t;
}

static void close_bench(struct bench *t)
{
    struct hg_secret *secret = t->link.config.secret;
    hg_link_close(&t->link);
    seam_net_close(&t->sn);
    if (secret != NULL) {
        hg_secret_free(secret);
        unlink(t->path);
    }
    free(t);
}

static void a_renewed_secret_reaches_an_open_connection(void **state)
{
    (void)state;
    const struct hg_link_config config = rig_link(NULL);
    struct bench *t = open_bench(&config, "guest\n");
    seam_net_run(&t->sn);
    assert_int_equal(t->ups_n, 1);
    for (unsigned i = 0; i < 2; i++) {
        const char *secret = i == 0 ? "second" : "third";
        broker_forget(rig_broker(&t->sn));
        rig_broker(&t->sn)->password = secret;
        renew(t, secret);
        seam_net_pass(&t->sn, 4 * HG_SECRET_LOOK_MS);
        assert_int_equal(rig_asked(&t->sn, "update-secret"), 1);
        assert_int_equal(rig_asked(&t->sn, secret), 1);
        assert_int_equal(hg_counted(&t->metrics.secrets_taken), i + 1);
    }
    assert_int_equal(t->downs_n, 0);
    close_bench(t);
}

static void prepare_second(struct broker *b)
{
    b->password = "second";
}

static void a_new_connection_uses_the_newest_secret(void **state)
{
    (void)state;
    const struct hg_link_config config = rig_link(NULL);
    struct bench *t = open_bench(&config, "guest");
    seam_net_run(&t->sn);
    t->sn.prepare = prepare_second;
    renew(t, "second");
    seam_net_cut(&t->sn, seam_net_last(&t->sn));
    seam_net_pass(&t->sn, 12000);
    assert_int_equal(t->ups_n, 2);
    assert_int_equal(rig_asked(&t->sn, "update-secret"), 0);
    close_bench(t);
}

static void a_refused_secret_is_counted_and_the_next_one_tried(void **state)
{
    (void)state;
    const struct hg_link_config config = rig_link(NULL);
    struct bench *t = open_bench(&config, "guest");
    seam_net_run(&t->sn);
    t->sn.prepare = prepare_second;
    renew(t, "wrong");
    seam_net_pass(&t->sn, 8000);
    assert_int_equal(hg_counted(&t->metrics.secrets_refused), 1);
    assert_true(t->downs_n > 1); /* it cannot log in with it either */
    renew(t, "second");
    seam_net_pass(&t->sn, 12000);
    assert_int_equal(t->ups_n, 2);
    assert_int_equal(hg_counted(&t->metrics.secrets_refused), 1);
    close_bench(t);
}

/* ---- Endpoints ---- */

static const struct hg_endpoint endpoints[ENDPOINTS] = {
    {.host = "a", .port = 1, .user = "guest", .password = "guest", .vhost = "/"},
    {.host = "b", .port = 2, .user = "guest", .password = "guest", .vhost = "/"},
    {.host = "c", .port = 3, .user = "guest", .password = "guest", .vhost = "/"},
};

static void the_first_endpoint_is_any(void **state)
{
    (void)state;
    struct hg_link_config config = rig_link(NULL);
    config.endpoints = endpoints;
    config.endpoints_n = ENDPOINTS;
    unsigned seen[ENDPOINTS] = {0};
    for (unsigned i = 0; i < 64 && (seen[0] == 0 || seen[1] == 0 || seen[2] == 0); i++) {
        struct bench *t = open_bench(&config, NULL);
        seen[t->link.endpoint]++;
        seam_net_run(&t->sn);
        close_bench(t);
    }
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[2] > 0);
}

static void each_failure_moves_on_to_the_next_endpoint(void **state)
{
    (void)state;
    struct hg_link_config config = rig_link(NULL);
    config.endpoints = endpoints;
    config.endpoints_n = ENDPOINTS;
    struct bench *t = open_bench(&config, NULL);
    seam_net_run(&t->sn);
    for (unsigned i = 0; i < 2 * ENDPOINTS; i++) {
        size_t before = t->link.endpoint;
        seam_net_cut(&t->sn, seam_net_last(&t->sn));
        seam_net_pass(&t->sn, 12000);
        assert_int_equal(t->ups_n, i + 2);
        assert_int_equal(t->link.endpoint, (before + 1) % ENDPOINTS);
    }
    close_bench(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_renewed_secret_reaches_an_open_connection),
        cmocka_unit_test(a_new_connection_uses_the_newest_secret),
        cmocka_unit_test(a_refused_secret_is_counted_and_the_next_one_tried),
        cmocka_unit_test(the_first_endpoint_is_any),
        cmocka_unit_test(each_failure_moves_on_to_the_next_endpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
