/* SPDX-License-Identifier: Apache-2.0 */
/* By the first byte: a token from whoever; a header and claims that are signed, so that what stands behind the signature is
 * read as well; a set of keys. */
#include "base/base64.h"
#include "base/check.h"
#include "core/token.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECRET "0123456789abcdef0123456789abcdef"
#define NOW_MS UINT64_C(1700000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

struct file { /* without a name of its own */
    int fd;
    char path[32];
};

static void file_open(struct file *f, struct hg_bytes content)
{
    f->fd = memfd_create("fuzz", MFD_CLOEXEC);
    HG_CHECK(f->fd >= 0 && write(f->fd, content.p, content.n) == (ssize_t)content.n);
    snprintf(f->path, sizeof(f->path), "/proc/self/fd/%d", f->fd);
}

static const struct hg_token_spec *spec_with_secret(void)
{
    static struct file secret;
    static const char *files[1];
    static struct hg_token_spec spec = {.secrets = files,
                                        .secrets_n = 1,
                                        .issuer = "me",
                                        .audience = "headgate",
                                        .user_claim = "sub",
                                        .roles_claim = "realm.roles",
                                        .leeway_ms = 30000};
    if (spec.keys == NULL) {
        struct hg_writer problem = {0};
        file_open(&secret, HG_BYTES(SECRET));
        files[0] = secret.path;
        spec.keys = hg_token_keys_new(&spec, &problem);
        HG_CHECK(spec.keys != NULL);
    }
    return &spec;
}

static void count_role(void *ctx, struct hg_bytes role)
{
    *(size_t *)ctx += role.n;
}

static bool check_token(struct hg_bytes text)
{
    const struct hg_token_spec *spec = spec_with_secret();
    struct hg_token token;
    bool is_expired;
    if (hg_token_check(spec, text, NOW_MS, &token, &is_expired) != NULL) {
        return false;
    }
    size_t bytes_n = 0;
    struct hg_bytes name;
    struct hg_bytes value;
    HG_CHECK(token.user.n > 0 && token.user.n <= HG_TOKEN_USER_MAX);
    HG_CHECK(token.expires_wall_ms > NOW_MS);
    hg_token_roles(spec, &token, count_role, &bytes_n);
    for (void *at = NULL; hg_token_next_claim(&token, &at, &name, &value);) {
        bytes_n += name.n + value.n;
    }
    HG_CHECK(bytes_n <= HG_TOKEN_MAX_BYTES * 8);
    hg_token_close(&token);
    return true;
}

static void write_part(struct hg_writer *w, struct hg_bytes part)
{
    struct hg_writer plain = {0};
    hg_base64_encode(&plain, part);
    struct hg_bytes text = hg_writer_view(&plain);
    for (size_t i = 0; i < text.n && text.p[i] != '='; i++) {
        uint8_t c = text.p[i];
        hg_writer_u8(w, c == '+' ? '-' : c == '/' ? '_' : c);
    }
    hg_writer_close(&plain);
}

/* Header, a line's end, claims. */
static void check_signed(struct hg_bytes in)
{
    struct hg_writer w = {0};
    uint8_t mac[EVP_MAX_MD_SIZE];
    unsigned mac_n;
    size_t line_n = hg_bytes_index(in, '\n');
    write_part(&w, hg_bytes(in.p, line_n));
    hg_writer_u8(&w, '.');
    write_part(&w, hg_bytes_skip(in, line_n < in.n ? line_n + 1 : in.n));
    struct hg_bytes text = hg_writer_view(&w);
    HMAC(EVP_sha256(), SECRET, (int)strlen(SECRET), text.p, text.n, mac, &mac_n);
    hg_writer_u8(&w, '.');
    write_part(&w, hg_bytes(mac, mac_n));
    (void)check_token(hg_writer_view(&w));
    hg_writer_close(&w);
}

static void read_set(struct hg_bytes in)
{
    struct file file;
    struct hg_writer problem = {0};
    file_open(&file, in);
    const struct hg_token_spec spec = {.jwks = file.path};
    struct hg_token_keys *keys = hg_token_keys_new(&spec, &problem);
    HG_CHECK((keys == NULL) == (hg_writer_n(&problem) > 0));
    hg_token_keys_free(keys);
    hg_writer_close(&problem);
    close(file.fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct hg_bytes in = hg_bytes(n > 0 ? data + 1 : data, n > 0 ? n - 1 : 0);
    switch (n > 0 ? data[0] : 0) {
    case 's': check_signed(in); break;
    case 'k': read_set(in); break;
    default: HG_CHECK(!check_token(in)); /* or somebody has guessed the key */
    }
    return 0;
}
