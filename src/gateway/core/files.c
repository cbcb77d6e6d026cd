/* SPDX-License-Identifier: Apache-2.0 */
#include "core/files.h"

#include <sys/resource.h>

enum {
    OF_PROCESS = 64, /* log, libraries, files that are being read */
    OF_WORKER = 32,  /* loop, names that are being resolved */
    OF_REALM = 32,   /* a worker's links to a virtual host */
};

uint64_t hg_files_needed(const struct hg_config *config)
{
    uint64_t own = OF_PROCESS, clients = 0, admin = 0;
    own += config->workers * (OF_WORKER + config->listeners_n +
                              config->vhosts_n * (OF_REALM + (uint64_t)config->http_uploads));
    for (size_t i = 0; i < config->webhooks_n; i++) {
        own += config->webhooks[i].concurrency;
    }
    for (size_t i = 0; i < config->listeners_n; i++) {
        const struct hg_listener_spec *l = &config->listeners[i];
        *(l->serve == HG_SERVE_ADMIN ? &admin : &clients) += l->max_connections;
    }
    if (config->max_connections > 0 && config->max_connections < clients) {
        clients = config->max_connections;
    }
    return own + clients + admin;
}

void hg_files_raise(const struct hg_config *config, struct hg_log *log)
{
    struct rlimit files;
    uint64_t needed = hg_files_needed(config);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        return;
    }
    if (files.rlim_cur < files.rlim_max) {
        struct rlimit raised = {.rlim_cur = files.rlim_max, .rlim_max = files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            files = raised;
        }
    }
    if (files.rlim_cur < needed) {
        HG_LOG(log, HG_LOG_WARN, "files.few", HG_F_UINT("files", files.rlim_cur),
               HG_F_UINT("needed", needed),
               HG_F_STR("reason", "max_connections asks for more file descriptors than the process "
                                  "may open (RLIMIT_NOFILE, systemd's LimitNOFILE): past them "
                                  "clients wait to be accepted"));
    }
}
