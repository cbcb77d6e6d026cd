/* SPDX-License-Identifier: Apache-2.0 */
/* A protocol that Headgate speaks: the entry of the const table in adapters/adapters.c. */
#ifndef HG_CORE_ADAPTER_H
#define HG_CORE_ADAPTER_H

#include "core/config.h"
#include "core/session.h"

struct hg_adapter {
    const char *name; /* "mqtt" */
    /* bit (1 << enum hg_serve) for each listener kind whose streams start with it */
    unsigned serves;
    const char *const *
        /* WebSocket sub-protocols it speaks, best first, NULL-terminated; NULL: none */
        subprotocols;
    /* taken where the client offers no sub-protocol, but for paths that end in /mqtt */
    bool is_websocket_default;
    /* of what it writes; one that writes binary frames takes no others */
    enum hg_frame_kind ws_frame_kind;
    /* A new session on conn (already established). subprotocol: the one agreed on, NULL on a plain
     * stream or where none was. NULL when there is no memory. Absent where it serves nothing and has no
     * sub-protocol: then nobody connects to it. */
    struct hg_session *(*open)(struct hg_worker *worker, struct hg_conn *conn,
                               const struct hg_listener_spec *listener, const char *subprotocol);
    /* Once per process, before there are workers and after they are gone. False ends the start.
     * NULL: nothing to do. */
    bool (*prepare)(void);
    void (*release)(void);
    /* On each worker, once its listeners are open: adds what it runs there to worker->services
     * (service.h). False when there is no memory. NULL: runs nothing. */
    bool (*start)(struct hg_worker *worker);
};

/* NULL-terminated; defined in adapters/adapters.c, given to the gateway by main. */
extern const struct hg_adapter *const hg_adapters[];

#endif
