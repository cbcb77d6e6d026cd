/* SPDX-License-Identifier: Apache-2.0 */
/* The protocols that are built in. */
#include "adapters/admin/admin.h"
#include "adapters/bridge/bridge.h"
#include "adapters/http/web.h"
#include "adapters/mqtt/mqtt_session.h"
#include "adapters/stomp/stomp_session.h"
#include "adapters/webhook/webhook.h"
#include "core/adapter.h"

const struct hg_adapter *const hg_adapters[] = {
    &hg_http_adapter,
    &hg_admin_adapter,
    &hg_mqtt_adapter,
    &hg_stomp_adapter,
#if HG_HAS_BRIDGE
    &hg_bridge_adapter,
#endif
#if HG_HAS_WEBHOOK
    &hg_webhook_adapter,
#endif
    NULL,
};
