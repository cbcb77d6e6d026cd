/* SPDX-License-Identifier: Apache-2.0 */
/* Versions of Headgate and of what it runs on. */
#include "version.h"

#include <amqp.h>
#include <llhttp.h>
#include <mosquitto.h>
#include <openssl/crypto.h>
#include <sodium.h>
#include <uv.h>
#include <wslay/wslay.h>

#include <jansson.h>

void hg_version_write(struct hg_writer *out)
{
    int major, minor, patch;
    mosquitto_lib_version(&major, &minor, &patch);
    hg_writer_str(out, "headgate " HG_VERSION "\n");
    hg_writer_printf(out, "libuv %s\n", uv_version_string());
    hg_writer_printf(out, "librabbitmq %s\n", amqp_version());
    hg_writer_printf(out, "libmosquitto %d.%d.%d\n", major, minor, patch);
    hg_writer_printf(out, "libcrypto %s\n", OpenSSL_version(OPENSSL_VERSION_STRING));
    hg_writer_printf(out, "libsodium %s\n", sodium_version_string());
    hg_writer_printf(out, "jansson %s\n", jansson_version_str());
    hg_writer_printf(out, "llhttp %d.%d.%d (as built)\n", LLHTTP_VERSION_MAJOR,
                     LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
    hg_writer_printf(out, "wslay %s (as built)\n", WSLAY_VERSION);
    hg_writer_printf(out, "toml++ %s (as built)\n", HG_TOMLPLUSPLUS_VERSION);
    hg_writer_str(out, "compiler " HG_COMPILER "\nbuild " HG_BUILD "\n");
}
