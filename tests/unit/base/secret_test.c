/* SPDX-License-Identifier: Apache-2.0 */
/* A secret in a file that somebody renews. */
#include "base/secret.h"

#include "base/mem.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char folder[32], path[64];
    uint64_t now_ms;
    struct timespec
        changed; /* so that no two contents have the same time, however fast they come */
};

static void put_bytes(struct fixture *f, const void *p, size_t n)
{
    FILE *file = fopen(f->path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(p, 1, n, file), n);
    fclose(file);
    f->changed.tv_sec++;
    const struct timespec times[2] = {f->changed, f->changed};
    assert_int_equal(utimensat(AT_FDCWD, f->path, times, 0), 0);
}

static void put(struct fixture *f, const char *text)
{
    put_bytes(f, text, strlen(text));
}

static void open_fixture(struct fixture *f)
{
    *f = (struct fixture){.folder = "/tmp/headgate-secret-XXXXXX", .now_ms = 5000};
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof(f->path), "%s/secret", f->folder);
    f->changed.tv_sec = 1000;
}

static void close_fixture(struct fixture *f)
{
    unlink(f->path);
    rmdir(f->folder);
    assert_int_equal(seam_live(), 0);
}

static void assert_secret(struct hg_secret *s, uint64_t version, const char *text)
{
    uint64_t got;
    char *copy = hg_secret_copy(s, &got);
    assert_string_equal(copy, text);
    assert_int_equal(got, version);
    assert_int_equal(hg_secret_version(s), version);
    hg_free(copy);
}

/* So many looks, each when it is time again. */
static void look(struct fixture *f, struct hg_secret *s, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        f->now_ms += HG_SECRET_LOOK_MS;
        hg_secret_look(s, f->now_ms, false, NULL);
    }
}

static void what_holds_still_is_read_again(void **state)
{
    struct fixture f;
    const char *why;
    (void)state;
    open_fixture(&f);
    put(&f, "first\n");
    struct hg_secret *s = hg_secret_new(f.path, &why);
    assert_non_null(s);
    assert_secret(s, 1, "first");
    look(&f, s, 3);
    put(&f, "sec"); /* somebody is still writing */
    look(&f, s, 1);
    put(&f, "second\r\n");
    look(&f, s, 1);
    assert_secret(s, 1, "first");
    look(&f, s, 1);
    assert_secret(s, 2, "second");
    put(&f, "second\n"); /* touched only */
    look(&f, s, 3);
    assert_secret(s, 2, "second");
    put(&f, "third");
    hg_secret_look(s, f.now_ms, false, NULL); /* somebody has looked just now */
    assert_secret(s, 2, "second");
    hg_secret_look(s, f.now_ms, true, NULL);
    assert_secret(s, 3, "third");
    hg_secret_free(s);
    close_fixture(&f);
}

static void what_is_not_good_changes_nothing(void **state)
{
    struct fixture f;
    const char *why;
    (void)state;
    open_fixture(&f);
    assert_null(hg_secret_new(f.path, &why));
    assert_string_equal(why, "No such file or directory");
    assert_null(hg_secret_new(f.folder, &why));
    put(&f, "\n");
    assert_null(hg_secret_new(f.path, &why));
    assert_string_equal(why, "is empty");
    put(&f, "kept");
    struct hg_secret *s = hg_secret_new(f.path, &why);
    static char large[HG_SECRET_MAX_BYTES + 10];
    memset(large, 'x', sizeof(large));
    const struct hg_bytes contents[] = {HG_BYTES(""), HG_BYTES("\n"), HG_BYTES("a\0b"),
                                        hg_bytes(large, sizeof(large))};
    for (size_t i = 0; i < sizeof(contents) / sizeof(contents[0]); i++) {
        put_bytes(&f, contents[i].p, contents[i].n);
        look(&f, s, 3);
        assert_secret(s, 1, "kept");
    }
    unlink(f.path);
    look(&f, s, 3);
    assert_secret(s, 1, "kept");
    put(&f, "back");
    look(&f, s, 2);
    assert_secret(s, 2, "back");
    hg_secret_free(s);
    close_fixture(&f);
}

static void no_memory_is_said(void **state)
{
    struct fixture f;
    const char *why;
    (void)state;
    open_fixture(&f);
    put(&f, "secret");
    for (size_t n = 1; n <= 3; n++) {
        seam_fail_alloc(n);
        assert_null(hg_secret_new(f.path, &why));
        assert_string_equal(why, "out of memory");
    }
    seam_fail_alloc(0);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_holds_still_is_read_again),
        cmocka_unit_test(what_is_not_good_changes_nothing),
        cmocka_unit_test(no_memory_is_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
