/* SPDX-License-Identifier: Apache-2.0 */
/* What the conversations of many STOMP scripts begin and end with. */
#ifndef HG_UNIT_STOMP_WORDS_H
#define HG_UNIT_STOMP_WORDS_H

#include "seam/core_fake.h"

#define CONNECT "CONNECT\naccept-version:1.2\nhost:/\n\n^@"
#define CONNECTED_AS(version, heart_beat, user)                   \
    "CONNECTED\nversion:" version "\nserver:Headgate/" HG_VERSION \
    "\nsession:session-1\nheart-beat:" heart_beat "\n" user "\n^@"
#define CONNECTED_BY(version, user) CONNECTED_AS(version, "10000,10000", user)
#define CONNECTED_10(user)          CONNECTED_AS("1.0", "0,0", user)
#define CONNECTED                   CONNECTED_BY("1.2", "")
#define OPENED                 \
    {SEND_TEXT, CONNECT},      \
    {                          \
        EXPECT_TEXT, CONNECTED \
    }
/* An ERROR frame by its message, and the status that the connection ends with. */
#define ERROR_END(message, status)                      \
    {EXPECT_LIKE, "ERROR\nmessage:" message "\n…\n^@"}, \
    {                                                   \
        CLOSED, status                                  \
    }

/* Up to its last headers. */
#define QUEUE_SUB(ack) "SUBSCRIBE\nid:1\ndestination:/queue/q\nreceipt:s\nack:" ack "\n"
#define MESSAGE_1(body)                                                                                 \
    "MESSAGE\nsubscription:1\nmessage-id:1-1\nack:1-1\ndestination:/queue/q\ncontent-length:1\n\n" body \
    "^@"
/* Messages, and nothing of what was before. */
#define THREE                                                           \
    {DELIVER, "from=q key=q body=x"}, {DELIVER, "from=q key=q body=x"}, \
        {DELIVER, "from=q key=q body=x"},                               \
    {                                                                   \
        FORGET, ""                                                      \
    }

/* ^@ is a NUL, as in a script. */
static inline void feed_text(struct core_fake *f, const char *text)
{
    char room[512];
    size_t n = 0;
    for (; *text != '\0'; text++) {
        bool is_nul = text[0] == '^' && text[1] == '@';
        room[n++] = is_nul ? '\0' : text[0];
        text += is_nul;
    }
    core_feed(f, hg_bytes(room, n));
}

#endif
