/* SPDX-License-Identifier: Apache-2.0 */
/* Who wants a binding of a queue. */
#ifndef HG_UPSTREAM_BINDING_USER_H
#define HG_UPSTREAM_BINDING_USER_H

struct hg_binding;
struct hg_binding_wait;

struct hg_binding_user {          /* inside its owner, zeroed, in place until it was removed */
    struct hg_binding *binding;   /* NULL: none */
    struct hg_binding_wait *wait; /* NULL: it has been told, or need not be */
};

#endif
