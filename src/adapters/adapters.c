/* SPDX-License-Identifier: Apache-2.0 */
#include "core/adapter.h"

const struct hg_adapter *const hg_adapters[] = {NULL};
