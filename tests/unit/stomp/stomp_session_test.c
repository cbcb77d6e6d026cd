/* SPDX-License-Identifier: Apache-2.0 */
/* Whole conversations: what a client sends, what the core is asked for, what the client hears; each
 * with the input cut everywhere. */
#include "adapters/stomp/stomp_session.h"

#include "seam/core_fake.h"
#include "seam/seam.h"
#include "seam/unit.h"
#include "stomp_words.h"

#include <stdio.h>
#include <stdlib.h>

/* The test answers for RabbitMQ. */
static void by_hand(struct core_fake *f)
{
    f->is_answering = false;
    f->config.unavailable_timeout_ms = 30000;
    f->config.outbound_high_bytes = 2000;
}

static void must_keep_up(struct core_fake *f)
{
    by_hand(f);
    f->slow = HG_SLOW_DISCONNECT;
}

static void no_wildcards(struct core_fake *f)
{
    by_hand(f);
    f->subscribe_status = HG_NO_WILDCARD;
}

static void stale_queues(struct core_fake *f)
{
    by_hand(f);
    f->is_queue_stale = true;
}

static void rule_queue(struct core_fake *f)
{
    by_hand(f);
    f->rule_queue = "jobs";
}

static void no_own_destinations(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_rabbitmq_destinations = false;
}

static void idle_for_a_minute(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_idle_timeout_ms = 60000;
}

static void fast_heart_beats(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_heartbeat_ms = 1000;
}

static void no_heart_beats(struct core_fake *f)
{
    by_hand(f);
    f->config.stomp_heartbeat_ms = 0;
}

/* Somebody can log in, with tokens too; whoever does is u. */
static void logs_in(struct core_fake *f)
{
    static uint8_t keys;
    by_hand(f);
    seam_spare(true);
    f->config.has_identities = true;
    f->config.users.token.keys = (struct hg_token_keys *)(void *)&keys;
    f->identity = hg_identity_new(&(struct hg_identity_parts){.user = HG_BYTES("u")});
    seam_spare(false);
}

/* clang-format off */
#define LOGIN "CONNECT\nlogin:x\npasscode:p\n\n^@"
static const struct core_script scripts[] = {
    /* ---- Logins ---- */
    {"what comes behind a login waits for it", logs_in, {
        {LOGIN_IS, "HELD"},
        {SEND_TEXT, LOGIN "SEND\ndestination:/topic/a\n\nx^@"},
        {CALLS, "login user=x secret=p"},
        {SILENCE, ""},
        {LOGIN_IS, "OK"},
        {EXPECT_LIKE, "CONNECTED\n…\nuser-name:u\n…^@"},
        {CALLS, "login user=x secret=p; publish amq.topic a user=u [x]"}}},
    {"a login that is refused is told why", logs_in, {
        {LOGIN_IS, "BAD_LOGIN"},
        {SEND_TEXT, LOGIN},
        {EXPECT_LIKE, "ERROR\nmessage:told to\n…^@"},
        {CLOSED, "BAD_LOGIN"}}},
    {"a token is renewed by a send to a destination of its own", logs_in, {
        {SEND_TEXT, LOGIN}, {FORGET, ""},
        {SEND_TEXT, "SEND\ndestination:/headgate/token\nreceipt:1\n\nt^@"},
        {CALLS, "renew secret=t token"},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"},
        {LOGIN_IS, "EXPIRED"},
        {SEND_TEXT, "SEND\ndestination:/headgate/token\n\nt^@"},
        {EXPECT_LIKE, "ERROR\nmessage:told to\n…^@"},
        {CLOSED, "EXPIRED"}}},
    {"a token is not renewed in a transaction", logs_in, {
        {SEND_TEXT, LOGIN}, {FORGET, ""},
        {SEND_TEXT, "SEND\ndestination:/headgate/token\ntransaction:1\n\nt^@"},
        {EXPECT_LIKE, "ERROR\nmessage:a token is not renewed in a transaction\n…^@"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    /* ---- CONNECT (STOMP 1.2 sections "CONNECT or STOMP Frame", "Protocol Negotiation") ---- */
    {"connect takes the best version there is", by_hand, {
        {SEND_TEXT, "STOMP\naccept-version:1.0,2.0,1.1\nhost:anything\nlogin:me:you\npasscode:x\n\n^@"},
        {EXPECT_TEXT, CONNECTED_BY("1.1", "user-name:me:you\n")}}},
    {"connect without accept-version is 1.0", by_hand, {
        {SEND_TEXT, "CONNECT\n\n^@"}, {EXPECT_TEXT, CONNECTED_10("")}}},
    {"an unknown version is told the known ones", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:2.0\nhost:/\n\n^@"},
        {EXPECT_TEXT, "ERROR\nmessage:accept-version names no version from 1.0 to 1.2\nversion:1.0,1.1,1.2\n"
                      "content-type:text/plain\ncontent-length:86\n\n"
                      "accept-version names no version from 1.0 to 1.2\nCorrect the client and connect again.\n^@"},
        {CLOSED, "BAD_VERSION"}}},
    {"a malformed heart-beat is an error", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:1000\n\n^@"},
        ERROR_END("heart-beat is not two numbers of milliseconds joined by a comma", "PROTOCOL_ERROR")}},
    {"the first frame is connect", by_hand, {
        {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@"},
        ERROR_END("the first frame is not CONNECT or STOMP\nreceipt-id:1", "PROTOCOL_ERROR")}},
    {"connect comes once", by_hand, {
        OPENED, {SEND_TEXT, CONNECT}, ERROR_END("CONNECT came a second time", "PROTOCOL_ERROR")}},
    {"connect has to come in time", by_hand, {
        {SEND_TEXT, "CONN"}, {WAIT, "9900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("no CONNECT frame came in time", "KEEP_ALIVE")}},
    {"who it is may take longer", by_hand, {
        {LOGIN_IS, "HELD"}, {SEND_TEXT, CONNECT}, {WAIT, "30000"}, {OPEN, ""}, {LOGIN_IS, "OK"},
        {EXPECT_LIKE, "CONNECTED\n…^@"}, {FORGET, ""}}},
    {"a blank behind the colon is 1.0's way, and part of the value later", by_hand, {
        {SEND_TEXT, "CONNECT\nlogin: me\n\n^@SEND\ndestination: /a\ncontent-length: 2\n\n^@^@^@"},
        {EXPECT_TEXT, CONNECTED_10("user-name:me\n")}, {CALLS, "publish a user=me [\\x00\\x00]"}, {ON, "2"},
        {SEND_TEXT, "CONNECT\naccept-version:1.1\nlogin: me\n\n^@SEND\ndestination:/a\n\n^@"},
        {EXPECT_LIKE, "CONNECTED\n…\nuser-name: me\n\n^@"}, {CALLS, "publish a user= me []"}}},
    {"the user is told to the rules", by_hand, {
        {SEND_TEXT, "CONNECT\nlogin:me\n\n^@SEND\ndestination:/a\n\n^@"},
        {EXPECT_TEXT, CONNECTED_10("user-name:me\n")}, {CALLS, "publish a user=me []"}}},

    /* ---- SEND ---- */
    {"a receipt waits for the confirm", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/chat/a\nreceipt:r\\c1\n\nhello^@\n"},
        {CALLS, "publish chat/a [hello]"}, {SILENCE, ""}, {CONFIRM, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:r\\c1\n\n^@"}}},
    {"receipts go out in the order of the confirms", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@SEND\ndestination:/a\n\n^@SEND\ndestination:/b\nreceipt:3\n\n^@"},
        {CALLS, "publish a []; publish a []; publish b []"},
        {CONFIRM, "3"}, {CONFIRM, "2"}, {CONFIRM, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:3\n\n^@RECEIPT\nreceipt-id:1\n\n^@"}}},
    {"headers travel as properties", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/a\ncontent-type:text/plain\npersistent:true\npriority:4\nuser-id:root\ncolour:b\\clue\n\n^@"},
        {CALLS, "publish a mode=2 content_type=text/plain priority=4 colour:b:lue []"}}},
    {"a message is retained when it says so", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/a\nretain:true\nreceipt:1\n\n1^@SEND\ndestination:/a\nretain:false\n\n2^@"},
        {CALLS, "publish a retained [1]; publish a [2]"}, {SILENCE, ""}, {CONFIRM, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"}}},
    {"where nothing is retained it is told so", by_hand, {
        OPENED, {PUBLISH_IS, "NO_RETAIN"}, {SEND_TEXT, "SEND\ndestination:/a\nretain:true\n\n1^@"},
        {EXPECT_LIKE, "ERROR\nmessage:retained messages are switched off\n…^@"}, {CLOSED, "NO_RETAIN"}}},
    {"rabbitmq's destinations bypass the rules", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/topic/a.b\n\n1^@SEND\ndestination:/exchange/x%2Fy/k\n\n2^@"
                    "SEND\ndestination:/amq/queue/q\n\n3^@SEND\ndestination:/reply-queue/r\n\n4^@"},
        {CALLS, "publish amq.topic a.b [1]; publish x/y k [2]; publish  q [3]; publish  r [4]"}}},
    {"unless they are switched off", no_own_destinations, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/topic/a.b\n\n1^@SEND\ndestination:q\n\n2^@"},
        {CALLS, "publish topic/a.b [1]; publish q [2]"}}},
    {"a queue is declared once and nothing overtakes it", by_hand, {
        OPENED,
        {SEND_TEXT, "SEND\ndestination:/queue/q\nx-message-ttl:60\n\n1^@SEND\ndestination:q\n\n2^@SEND\ndestination:/a\n\n3^@"},
        {CALLS, " declare name=q durable x-message-ttl:60"}, {DECLARED, ""},
        {CALLS, "publish  q x-message-ttl:60 mandatory [1]; publish  q mandatory [2]; publish a [3]"}}},
    {"a queue's arguments are numbers where they should be", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\nx-message-ttl:soon\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:the header x-message-ttl is not a number of milliseconds from 0 to 4294967295\n…: soon\n…^@"},
        {CLOSED, "BAD_PROPERTY"}}},
    {"a queue that cannot be declared is told with the receipt", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\nreceipt:7\n\n^@"}, {DECLARED, "REFUSED"},
        {EXPECT_TEXT, "ERROR\nmessage:the queue cannot be declared\nreceipt-id:7\ncontent-type:text/plain\n"
                      "content-length:76\n\nthe queue cannot be declared: as told\nCorrect the client and connect again.\n^@"},
        {CLOSED, "REFUSED"}}},
    {"a declaration does not take for ever", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/q\n\n^@"}, {WAIT, "29900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("the queue could not be declared in time", "BROKER_AWAY")}},
    {"what is held is sent later and once", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\n\n1^@"}, {PUBLISH_IS, "HELD"},
        {SEND_TEXT, "SEND\ndestination:/b\nreceipt:2\n\n2^@SEND\ndestination:/c\n\n3^@"},
        {CALLS, "publish a [1]"}, {PUBLISH_IS, "OK"}, {CALLS, "publish b [2]; publish c [3]"},
        {CONFIRM, "2"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:2\n\n^@"}}},
    {"a refusal ends the connection with reason and advice", by_hand, {
        OPENED, {PUBLISH_IS, "NO_RULE"},
        {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@SEND\ndestination:/b\n\n^@"},
        {EXPECT_TEXT, "ERROR\nmessage:no rule takes this address\nreceipt-id:1\ncontent-type:text/plain\n"
                      "content-length:171\n\nno rule takes this address\n"
                      "Add a [[rule]] for this destination to the gateway's configuration, or correct it; "
                      "`headgate route` shows what the rules make of a destination.\n^@"},
        {CLOSED, "NO_RULE"}}},
    {"an address with a wildcard is refused with the detail", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a/+\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:address not valid\n…\n\naddress not valid: holds a wildcard (+ or #)\n…^@"},
        {CLOSED, "BAD_ADDRESS"}}},
    {"a refusal of rabbitmq's is told with the receipt", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@"}, {CONFIRM, "REJECTED"},
        {EXPECT_LIKE, "ERROR\nmessage:RabbitMQ rejected the message\nreceipt-id:1\n…\n\n"
                      "RabbitMQ rejected the message: as told\n…^@"},
        {CLOSED, "REJECTED"}}},
    {"without a receipt only the sender's own faults are told", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\n\n^@SEND\ndestination:/a\n\n^@SEND\ndestination:/a\n\n^@"},
        {CONFIRM, "REJECTED"}, {CONFIRM, "UNROUTABLE"}, {SILENCE, ""}, {PUBLISH_IS, "BROKER_AWAY"},
        {SEND_TEXT, "SEND\ndestination:/a\n\n^@"}, {SILENCE, ""}, {OPEN, ""},
        {CONFIRM, "NO_EXCHANGE"}, ERROR_END("no such exchange", "NO_EXCHANGE")}},
    {"who is too fast for too long is told, receipt or not", by_hand, {
        OPENED, {PUBLISH_IS, "TOO_FAST"}, {SEND_TEXT, "SEND\ndestination:/a\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:faster than the limit allows\n…\nSend more slowly, or raise the rate …^@"},
        {CLOSED, "TOO_FAST"}}},
    {"properties that do not parse are refused", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\npriority:x\n\n^@"},
        ERROR_END("the header priority is not a number from 0 to 255", "BAD_PROPERTY")}},
    {"send needs a destination", by_hand, {
        OPENED, {SEND_TEXT, "SEND\nreceipt:1\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:the header destination is missing\nreceipt-id:1\n…\n\n"
                      "the header destination is missing\n…^@"},
        {CLOSED, "PROTOCOL_ERROR"}}},
    {"a destination that is neither is explained", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/queue/a/b\n\n^@"},
        {EXPECT_LIKE, "ERROR\nmessage:the destination cannot be read\n…"
                      ": it has more parts than one: a slash inside it is written %2F\n…^@"},
        {CLOSED, "BAD_ADDRESS"}}},

    /* ---- SUBSCRIBE, MESSAGE, UNSUBSCRIBE ---- */
    {"a subscription is receipted once it is live", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:s\\c1\ndestination:/chat/*\nack:auto\nreceipt:1\n\n^@"},
        {CALLS, "subscribe chat/+"}, {SILENCE, ""}, {SUBSCRIBED, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"},
        {DELIVER, "address=chat/a exchange=chat key=chat.a body=hello"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:s\\c1\nmessage-id:0-1\ndestination:/chat/a\ncontent-length:5\n\nhello^@"},
        {DELIVER, "address=chat/a exchange=chat key=chat.a content_type=x body=again"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:s\\c1\nmessage-id:0-2\ndestination:/chat/a\ncontent-type:x\ncontent-length:5\n\nagain^@"},
        {SEND_TEXT, "UNSUBSCRIBE\nid:s\\c1\nreceipt:2\n\n^@"},
        {CALLS, "unsubscribe chat/+"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:2\n\n^@"}}},
    {"unsubscribe answers a subscription that was not live yet", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\nreceipt:1\n\n^@UNSUBSCRIBE\nid:1\nreceipt:2\n\n^@"},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@RECEIPT\nreceipt-id:2\n\n^@"}}},
    {"each subscription gets its own message", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@SUBSCRIBE\nid:2\ndestination:/#\n\n^@"},
        {DELIVER, "address=a exchange=x key=a body=b"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-1\ndestination:/a\ncontent-length:1\n\nb^@"
                      "MESSAGE\nsubscription:2\nmessage-id:0-2\ndestination:/a\ncontent-length:1\n\nb^@"}}},
    {"who gives the same id gets the same frame, others one of their own", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@"}, {ON, "2"},
        {SEND_TEXT, CONNECT "SUBSCRIBE\nid:1\ndestination:/a\n\n^@"}, {FORGET, ""}, {ON, "3"},
        {SEND_TEXT, CONNECT "SUBSCRIBE\nid:3\ndestination:/a\n\n^@SUBSCRIBE\nid:2\ndestination:/a\n\n^@"}, {FORGET, ""},
        {DELIVER, "address=a exchange=x key=a body=b"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:3\nmessage-id:3-1\ndestination:/a\ncontent-length:1\n\nb^@"
                      "MESSAGE\nsubscription:2\nmessage-id:0-2\ndestination:/a\ncontent-length:1\n\nb^@"}, {ON, "2"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-1\ndestination:/a\ncontent-length:1\n\nb^@"}, {ON, "1"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-1\ndestination:/a\ncontent-length:1\n\nb^@"}}},
    {"each version escapes in its own way", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@"}, {ON, "2"},
        {SEND_TEXT, "CONNECT\n\n^@SUBSCRIBE\nid:1\ndestination:/a\n\n^@"},
        {EXPECT_LIKE, "CONNECTED\nversion:1.0\n…^@"},
        {DELIVER, "address=a exchange=x key=a type=t:t body=b"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-2\ndestination:/a\ntype:t:t\ncontent-length:1\n\nb^@"}, {ON, "1"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-1\ndestination:/a\ntype:t\\ct\ncontent-length:1\n\nb^@"}}},
    {"rabbitmq's own names are subscribed to by name", by_hand, {
        OPENED,
        {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/topic/a.*\n\n^@SUBSCRIBE\nid:2\ndestination:/exchange/x/k\n\n^@"
                    "SUBSCRIBE\nid:3\ndestination:/queue/q\nx-max-length:5\n\n^@SUBSCRIBE\nid:4\ndestination:/amq/queue/r\n\n^@"
                    "SUBSCRIBE\nid:5\ndestination:s\n\n^@"},
        {CALLS, "subscribe exchange=amq.topic key=a.*; subscribe exchange=x key=k; "
                "open q prefetch=100 by-name auto matching x-max-length:5; open r prefetch=100 existing by-name auto; "
                "open s prefetch=100 by-name auto matching"},
        {DELIVER, "from=q key=q redelivered keep body=job"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:3\nmessage-id:1-1\ndestination:/queue/q\nredelivered:true\ncontent-length:3\n\njob^@"},
        {DELIVER, "exchange=amq.topic key=a.b body=x"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-1\ndestination:/topic/a.b\ncontent-length:1\n\nx^@"}}},
    {"retained messages come to who asks for them, once it is subscribed", by_hand, {
        OPENED,
        {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/chat/*\nretained:true\nreceipt:1\n\n^@"
                    "SUBSCRIBE\nid:2\ndestination:/chat/a\n\n^@"},
        {CALLS, "subscribe chat/+; subscribe chat/a"}, {SUBSCRIBED, ""}, {SUBSCRIBED, ""},
        {CALLS, "serve chat/+"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"},
        {SERVE, "address=chat/a exchange=chat key=chat.a body=hello"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:1-1\ndestination:/chat/a\nretained:true\ncontent-length:5\n\nhello^@"}}},
    {"retained messages have addresses", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/topic/a\nretained:true\n\n^@"},
        {EXPECT_LIKE, "ERROR\n…retained messages are kept by address…^@"}, {CLOSED, "BAD_PROPERTY"}}},
    {"answers are not subscribed to", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/reply-queue/q\n\n^@"},
        {EXPECT_LIKE, "ERROR\n…/reply-queue is for sending answers, not for subscribing\n…^@"}, {CLOSED, "BAD_ADDRESS"}}},
    {"stomp 1.0 needs no subscription id", by_hand, {
        {SEND_TEXT, "CONNECT\n\n^@SUBSCRIBE\ndestination:/a\n\n^@"}, {CALLS, "subscribe a"},
        {EXPECT_TEXT, CONNECTED_10("")},
        {DELIVER, "address=a exchange=x key=a body=b"},
        {EXPECT_TEXT, "MESSAGE\nmessage-id:0-1\ndestination:/a\ncontent-length:1\n\nb^@"},
        {SEND_TEXT, "UNSUBSCRIBE\ndestination:/a\n\n^@"}, {CALLS, "unsubscribe a"}}},
    {"later versions do", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\ndestination:/a\n\n^@"},
        ERROR_END("the header id is missing or empty", "PROTOCOL_ERROR")}},
    {"an id is used once", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@SUBSCRIBE\nid:1\ndestination:/b\n\n^@"},
        ERROR_END("a subscription with this id exists already\nsubscription:1", "PROTOCOL_ERROR")}},
    {"and again after unsubscribe", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@UNSUBSCRIBE\nid:1\n\n^@SUBSCRIBE\nid:1\ndestination:/b\n\n^@"},
        {CALLS, "subscribe a; unsubscribe a; subscribe b"}}},
    {"unsubscribe needs a subscription", by_hand, {
        OPENED, {SEND_TEXT, "UNSUBSCRIBE\nid:1\n\n^@"},
        ERROR_END("there is no subscription with this id\nsubscription:1", "PROTOCOL_ERROR")}},
    {"a subscription that fails ends the connection", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/amq/queue/q\nreceipt:1\n\n^@"}, {QUEUE_IS, "NO_QUEUE"},
        {EXPECT_LIKE, "ERROR\nmessage:no such queue\nreceipt-id:1\nsubscription:1\n…\n\nno such queue: as told\n…^@"},
        {CLOSED, "NO_QUEUE"}}},
    {"so does one that ends later", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/queue/q\n\n^@"}, {QUEUE_IS, "OK"}, {SILENCE, ""},
        {QUEUE_IS, "NO_QUEUE"}, ERROR_END("no such queue\nsubscription:1", "NO_QUEUE")}},
    {"a subscription refused at once is told", no_wildcards, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a/#\n\n^@"},
        ERROR_END("the exchange cannot express this wildcard\nsubscription:1", "NO_WILDCARD")}},
    {"a full connection loses messages from feeds alone", by_hand, {
        OPENED,
        {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@SUBSCRIBE\nid:2\ndestination:/queue/q\n\n^@SEND\ndestination:/a\nreceipt:1\n\n^@"},
        {FULL, "1990"}, {DELIVER, "address=a exchange=x key=a body=lost"}, {SILENCE, ""},
        {CONFIRM, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"}, {DELIVER, "from=q key=q keep body=kept"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:2\nmessage-id:1-1\ndestination:/queue/q\ncontent-length:4\n\nkept^@"},
        {FULL, "0"}, {DELIVER, "address=a exchange=x key=a body=kept"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:0-2\ndestination:/a\ncontent-length:4\n\nkept^@"}}},

    {"or ends, where the rule says so", must_keep_up, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@"},
        {FULL, "1990"}, {DELIVER, "address=a exchange=x key=a body=lost"}, ERROR_END("the client reads too slowly", "TOO_SLOW")}},

    /* ---- ACK, NACK (STOMP 1.2 section "ACK") ---- */
    {"acknowledging a queue says its consumption with the receipt", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client-individual") "\n^@"},
        {CALLS, "open q prefetch=1024 by-name matching"}, {SILENCE, ""},
        {QUEUE_IS, "OK"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:s\n\n^@"},
        {DELIVER, "from=q key=q body=x"}, {EXPECT_TEXT, MESSAGE_1("x")},
        {SEND_TEXT, "ACK\nid:1-1\nreceipt:a\n\n^@"}, {CALLS, "ack 1"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:a\n\n^@"},
        {SEND_TEXT, "ACK\nid:1-1\n\n^@"},
        ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"client-individual answers one message each", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client-individual") "\n^@"}, {QUEUE_IS, "OK"}, THREE,
        {SEND_TEXT, "ACK\nid:1-2\n\n^@NACK\nid:1-1\n\n^@NACK\nid:1-3\nrequeue:false\n\n^@"},
        {CALLS, "ack 2; requeue 1; reject 3"}, {OPEN, ""}}},
    {"client answers all that came before, too", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, THREE,
        {SEND_TEXT, "ACK\nid:1-2\n\n^@NACK\nid:1-3\nrequeue:true\n\n^@"}, {CALLS, "ack 1; ack 2; requeue 3"},
        {SEND_TEXT, "ACK\nid:1-1\n\n^@"}, ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"but nothing of another subscription", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@SUBSCRIBE\nid:2\ndestination:/amq/queue/p\nack:client\nprefetch-count:7\n\n^@"},
        {QUEUE_IS, "OK"}, {QUEUE_IS, "2 OK"}, {CALLS, "open q prefetch=1024 by-name matching; open p prefetch=7 existing by-name"},
        {DELIVER, "from=q key=q body=x"}, {DELIVER, "from=p key=p body=x"}, {DELIVER, "from=p key=p body=x"}, {FORGET, ""},
        {SEND_TEXT, "ACK\nid:1-3\n\n^@"}, {CALLS, "ack 1; ack 2"}, {SEND_TEXT, "UNSUBSCRIBE\nid:2\n\n^@"},
        {CALLS, "close p keep"}, {SEND_TEXT, "ACK\nid:1-1\n\n^@"}, {CALLS, "ack 1"}, {OPEN, ""}}},
    {"1.1 answers by message and subscription", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.1\n\n^@" QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, {FORGET, ""},
        {DELIVER, "from=q key=q redelivered body=x"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:1-1\ndestination:/queue/q\nredelivered:true\ncontent-length:1\n\nx^@"},
        {SEND_TEXT, "ACK\nmessage-id:1-1\nsubscription:1\n\n^@"}, {CALLS, "ack 1"},
        {SEND_TEXT, "ACK\nmessage-id:1-1\n\n^@"}, ERROR_END("the header subscription is missing", "PROTOCOL_ERROR")}},
    {"a message of one subscription is not another's", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.1\n\n^@" QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"},
        {DELIVER, "from=q key=q body=x"}, {FORGET, ""}, {SEND_TEXT, "NACK\nmessage-id:1-1\nsubscription:2\n\n^@"},
        ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"1.0 answers by message", by_hand, {
        {SEND_TEXT, "CONNECT\n\n^@" QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, {DELIVER, "from=q key=q body=x"},
        {FORGET, ""}, {SEND_TEXT, "ACK\nmessage-id:1-1\n\n^@"}, {CALLS, "ack 1"}, {SEND_TEXT, "NACK\nmessage-id:1-1\n\n^@"},
        ERROR_END("STOMP 1.0 has no NACK", "PROTOCOL_ERROR")}},
    {"an answer needs an id", by_hand, {
        OPENED, {SEND_TEXT, "ACK\nmessage-id:1-1\n\n^@"}, ERROR_END("the header id is missing", "PROTOCOL_ERROR")}},
    {"of this session", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, THREE, {SEND_TEXT, "ACK\nid:2-1\n\n^@"},
        ERROR_END("no message with this id waits for an answer", "PROTOCOL_ERROR")}},
    {"requeue is one of two words", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, THREE, {SEND_TEXT, "NACK\nid:1-1\nrequeue:no\n\n^@"},
        ERROR_END("the header requeue is neither true nor false", "PROTOCOL_ERROR")}},
    {"an answer after a lost link has no effect and says so", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, THREE, {QUEUE_IS, "OK"}, {SILENCE, ""},
        {SEND_TEXT, "ACK\nid:1-2\nreceipt:a\n\n^@ACK\nid:1-3\n\n^@"}, {CALLS, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:a\nstale:true\n\n^@"}, {DELIVER, "from=q key=q body=x"}, {FORGET, ""},
        {SEND_TEXT, "ACK\nid:1-4\nreceipt:b\n\n^@"}, {CALLS, "ack 4"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:b\n\n^@"}}},
    {"also while the link is lost", stale_queues, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client-individual") "\n^@"}, {QUEUE_IS, "OK"}, THREE,
        {SEND_TEXT, "NACK\nid:1-2\nreceipt:a\n\n^@"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:a\nstale:true\n\n^@"}}},
    {"no limit is as many as amqp counts", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "prefetch-count:0\nx-expires:5000\n\n^@"},
        {CALLS, "open q prefetch=65535 by-name matching x-expires:5000"}, {QUEUE_IS, "OK"}, {FORGET, ""}, {FULL, "1990"},
        {DELIVER, "from=q key=q keep body=x"}, {CLOSED, "TOO_SLOW"}}},
    {"a limit is a number", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("auto") "prefetch-count:65536\n\n^@"},
        ERROR_END("the header prefetch-count is not a number from 0 to 65535\nreceipt-id:s\nsubscription:1", "BAD_PROPERTY")}},
    {"ack is one of three words", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("server") "\n^@"},
        ERROR_END("the header ack is none of auto, client, client-individual\nreceipt-id:s\nsubscription:1", "PROTOCOL_ERROR")}},
    {"an exchange is acknowledged by a queue of its own", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/topic/a.*\nack:client\nreceipt:s\n\n^@"},
        {CALLS, "open headgate.stomp.0.1.1 prefetch=1024 by-name x-queue-type:classic x-expires:60000; "
                "subscribe exchange=amq.topic key=a.* on headgate.stomp.0.1.1"},
        {SUBSCRIBED, ""}, {SILENCE, ""}, {QUEUE_IS, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:s\n\n^@"},
        {DELIVER, "from=headgate.stomp.0.1.1 exchange=amq.topic key=a.b body=x"},
        {EXPECT_TEXT, "MESSAGE\nsubscription:1\nmessage-id:1-2\nack:1-2\ndestination:/topic/a.b\ncontent-length:1\n\nx^@"},
        {SEND_TEXT, "UNSUBSCRIBE\nid:1\n\n^@"},
        {CALLS, "close headgate.stomp.0.1.1 delete; unsubscribe exchange=amq.topic key=a.*"}}},
    {"an address too", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a/*\nack:client\n\n^@"},
        {CALLS, "open headgate.stomp.0.1.1 prefetch=1024 filter=a/+ x-queue-type:classic x-expires:60000; "
                "subscribe a/+ on headgate.stomp.0.1.1"}, {QUEUE_IS, ""}, {SUBSCRIBED, "NO_EXCHANGE"},
        ERROR_END("no such exchange\nsubscription:1", "NO_EXCHANGE")}},
    {"a rule's queue is acknowledged as it is", rule_queue, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/jobs/a\nack:client\n\n^@"},
        {CALLS, "open jobs prefetch=1024 existing whole filter=jobs/a"}, {QUEUE_IS, ""},
        {DELIVER, "from=jobs address=jobs/a key=jobs body=x"},
        {EXPECT_LIKE, "MESSAGE\n…\ndestination:/jobs/a\n…^@"}, {LEAVE, ""}, {CALLS, "close jobs keep"}}},
    {"a queue that is not there ends the connection", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "NO_QUEUE"},
        ERROR_END("no such queue\nreceipt-id:s\nsubscription:1", "NO_QUEUE")}},
    {"what was retained has nobody to acknowledge it to", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\nretained:true\nack:client\n\n^@"},
        {EXPECT_LIKE, "ERROR\n…retained messages come with ack:auto…^@"}, {CLOSED, "BAD_PROPERTY"}}},
    {"disconnect gives back what has no answer", by_hand, {
        OPENED, {SEND_TEXT, QUEUE_SUB("client") "\n^@"}, {QUEUE_IS, "OK"}, THREE, {SEND_TEXT, "DISCONNECT\nreceipt:d\n\n^@"},
        {CALLS, "close q keep"}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:d\n\n^@"}, {CLOSED, "CLOSED"}}},

    /* ---- Heart-beats (STOMP 1.2 section "Heart-beating"): the server offers 10 s both ways ---- */
    {"silence is broken by a heart-beat", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:0,5000\n\n^@"}, {EXPECT_TEXT, CONNECTED},
        {WAIT, "9800"}, {SILENCE, ""}, {WAIT, "190"}, {EXPECT_TEXT, "\n"}, {WAIT, "9990"}, {EXPECT_TEXT, "\n"},
        {WAIT, "9990"}, {OPEN, ""}, {EXPECT_TEXT, "\n"}}},
    {"not where something was sent", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:0,5000\n\n^@SUBSCRIBE\nid:1\ndestination:/a\n\n^@"},
        {EXPECT_TEXT, CONNECTED}, {WAIT, "8000"}, {DELIVER, "address=a exchange=x key=a body=b"},
        {EXPECT_LIKE, "MESSAGE\n…^@"}, {WAIT, "9500"}, {SILENCE, ""}, {WAIT, "490"}, {EXPECT_TEXT, "\n"}}},
    {"nor where something waits to be written", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:0,5000\n\n^@"}, {EXPECT_TEXT, CONNECTED}, {FULL, "1"},
        {WAIT, "30000"}, {SILENCE, ""}}},
    {"a client that wants them further apart gets them so", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:0,20000\n\n^@"}, {EXPECT_TEXT, CONNECTED},
        {WAIT, "19700"}, {SILENCE, ""}, {WAIT, "290"}, {EXPECT_TEXT, "\n"}}},
    {"a silent client is closed after twice the interval", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:20000,0\n\n^@"}, {EXPECT_TEXT, CONNECTED},
        {WAIT, "39000"}, {SEND_TEXT, "\n"}, {WAIT, "39900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("no heart-beat came in time", "KEEP_ALIVE")}},
    {"a held client is not", by_hand, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:10000,0\n\n^@"}, {EXPECT_TEXT, CONNECTED},
        {PUBLISH_IS, "HELD"}, {SEND_TEXT, "SEND\ndestination:/a\n\n^@"}, {WAIT, "90000"}, {OPEN, ""}, {PUBLISH_IS, "OK"},
        {CALLS, "publish a []"}, {WAIT, "19900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("no heart-beat came in time", "KEEP_ALIVE")}},
    {"without heart-beats silence is fine for an hour", by_hand, {
        OPENED, {WAIT, "1000000"}, {OPEN, ""}}},
    {"and then no more", idle_for_a_minute, {
        OPENED, {WAIT, "59900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("idle for too long, without heart-beats", "KEEP_ALIVE")}},
    {"who is sent messages is not idle, nor who says something", idle_for_a_minute, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@"}, {WAIT, "50000"},
        {DELIVER, "address=a exchange=x key=a body=b"}, {WAIT, "50000"}, {SEND_TEXT, "\n"}, {WAIT, "50000"}, {OPEN, ""},
        {FORGET, ""}, {WAIT, "10100"}, ERROR_END("idle for too long, without heart-beats", "KEEP_ALIVE")}},
    {"a held client is not idle", idle_for_a_minute, {
        OPENED, {PUBLISH_IS, "HELD"}, {SEND_TEXT, "SEND\ndestination:/a\n\n^@"}, {WAIT, "90000"}, {OPEN, ""}}},
    {"heart-beats one way are enough", idle_for_a_minute, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:0,20000\n\n^@"}, {WAIT, "90000"}, {OPEN, ""}, {FORGET, ""}}},
    {"1.0 has no heart-beats", idle_for_a_minute, {
        {SEND_TEXT, "CONNECT\nheart-beat:1000,what\n\n^@"}, {EXPECT_TEXT, CONNECTED_10("")}, {WAIT, "50000"},
        {SILENCE, ""}, {OPEN, ""}, {WAIT, "10100"}, ERROR_END("idle for too long, without heart-beats", "KEEP_ALIVE")}},
    {"the interval begins with connect", fast_heart_beats, {
        {WAIT, "9000"}, {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:1000,0\n\n^@"},
        {EXPECT_LIKE, "CONNECTED\n…^@"}, {WAIT, "1900"}, {OPEN, ""}, {WAIT, "200"},
        ERROR_END("no heart-beat came in time", "KEEP_ALIVE")}},
    {"a server without heart-beats says so", no_heart_beats, {
        {SEND_TEXT, "CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n^@"}, {EXPECT_LIKE, "CONNECTED\n…\nheart-beat:0,0\n\n^@"},
        {WAIT, "60000"}, {SILENCE, ""}, {OPEN, ""}}},

    /* ---- The end ---- */
    {"disconnect waits for what was sent", by_hand, {
        OPENED,
        {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@SEND\ndestination:/a\nreceipt:1\n\n^@SEND\ndestination:/a\n\n^@"
                    "DISCONNECT\nreceipt:2\n\n^@SEND\ndestination:/a\n\n^@"},
        {CALLS, "subscribe a; publish a []; publish a []; unsubscribe a"},
        {CONFIRM, ""}, {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"}, {OPEN, ""}, {CONFIRM, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:2\n\n^@"}, {CLOSED, "CLOSED"}}},
    {"disconnect after a refusal has no receipt", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@DISCONNECT\nreceipt:2\n\n^@"},
        {CONFIRM, "UNROUTABLE"}, ERROR_END("no queue takes this message\nreceipt-id:1", "UNROUTABLE")}},
    {"disconnect without receipt or anything else closes", by_hand, {
        OPENED, {SEND_TEXT, "DISCONNECT\n\n^@"}, {CLOSED, "CLOSED"}}},
    {"a shutdown settles and says goodbye", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination:/a\nreceipt:1\n\n^@"}, {DRAIN, ""},
        {SEND_TEXT, "SEND\ndestination:/b\nreceipt:2\n\n^@"}, {CALLS, "publish a []"}, {OPEN, ""}, {CONFIRM, ""},
        {EXPECT_TEXT, "RECEIPT\nreceipt-id:1\n\n^@ERROR\nmessage:server is shutting down\ncontent-type:text/plain\n"
                      "content-length:39\n\nserver is shutting down\nConnect again.\n^@"},
        {CLOSED, "SHUTTING_DOWN"}}},
    {"a client may just leave", by_hand, {
        OPENED, {SEND_TEXT, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@SEND\ndestination:/queue/q\nreceipt:1\n\n^@"}, {LEAVE, ""},
        {CALLS, "subscribe a;  declare name=q durable; unsubscribe a"}}},

    /* ---- What comes later, and what is none of a client's business ---- */
    {"a server's frame is refused", by_hand, {
        OPENED, {SEND_TEXT, "RECEIPT\nreceipt-id:1\n\n^@"},
        ERROR_END("this frame is only for servers to send", "PROTOCOL_ERROR")}},
    {"a malformed frame is refused with its rule", by_hand, {
        OPENED, {SEND_TEXT, "SEND\ndestination\n\n^@"}, ERROR_END("a header has no colon", "MALFORMED")}},
};

static const struct core_script websocket_scripts[] = {
    {"a websocket is told of a shutdown by its close code", by_hand, {
        OPENED, {DRAIN, ""}, {SILENCE, ""}, {CLOSED, "SHUTTING_DOWN"}}},
    {"a websocket is pinged and may be idle", idle_for_a_minute, {
        OPENED, {WAIT, "90000"}, {SILENCE, ""}, {OPEN, ""}}},
    {"a stranger too", by_hand, {
        {DRAIN, ""}, {SILENCE, ""}, {CLOSED, "SHUTTING_DOWN"}}},
};
/* clang-format on */

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void every_conversation_goes_as_written_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(scripts); i++) {
        core_play(&hg_stomp_adapter, NULL, &scripts[i]);
    }
    for (size_t i = 0; i < COUNT(websocket_scripts); i++) {
        core_play(&hg_stomp_adapter, "v12.stomp", &websocket_scripts[i]);
    }
}

/* ---- What scripts cannot say ---- */

static void open_connected(struct core_fake *f, const char *subprotocol)
{
    core_open(f);
    (void)core_connect(f, &hg_stomp_adapter, subprotocol);
    feed_text(f, CONNECT);
    core_forget(f);
}

static void bodies_that_are_not_utf_8_go_in_binary_frames(void **state)
{
    static const struct {
        const char *body;
        enum hg_frame_kind kind;
    } cases[] = {{"plain", HG_FRAME_TEXT}, {"\xc3\xa9", HG_FRAME_TEXT}, {"\xff", HG_FRAME_BINARY}};
    struct core_fake f;
    (void)state;
    open_connected(&f, "v12.stomp");
    feed_text(&f, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@");
    for (size_t i = 0; i < COUNT(cases); i++) {
        core_deliver(&f,
                     &(struct core_delivery){.address = "a", .body = hg_bytes_str(cases[i].body)});
        assert_int_equal(core_last_kind(f.conn), cases[i].kind);
        assert_int_equal(core_messages_n(f.conn), i + 1); /* a frame is one WebSocket message */
    }
    core_close(&f);
}

static void strangers_get_little_memory(void **state)
{
    struct core_fake f;
    static uint8_t line[65536] = "CONNECT\nlogin:";
    (void)state;
    memset(line + 14, 'x', sizeof(line) - 14);
    core_open(&f);
    f.config.stomp_max_header_bytes = 1 << 20;
    (void)core_connect(&f, &hg_stomp_adapter, NULL);
    core_feed(&f, hg_bytes(line, sizeof(line)));
    assert_int_equal(core_why(f.conn), HG_TOO_LARGE);
    core_close(&f);
}

static void labels_that_are_kept_have_a_limit(void **state)
{
    static const char *const heads[] = {"SEND\ndestination:/a\nreceipt:",
                                        "SUBSCRIBE\ndestination:/a\nid:"};
    struct core_fake f;
    char frame[1200];
    (void)state;
    for (size_t i = 0; i < COUNT(heads); i++) {
        for (int n = 1024; n <= 1025; n++) {
            open_connected(&f, NULL);
            int used = snprintf(frame, sizeof(frame), "%s%0*d\n\n", heads[i], n, 0);
            core_feed(&f, hg_bytes(frame, (size_t)used + 1));
            assert_int_equal(core_why(f.conn), n == 1024 ? HG_OK : HG_TOO_LARGE);
            core_close(&f);
        }
    }
}

static void queues_past_the_sixteenth_are_declared_again(void **state)
{
    struct core_fake f;
    char text[64];
    (void)state;
    open_connected(&f, NULL);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 17; i++) {
            (void)snprintf(text, sizeof(text), "SEND\ndestination:/queue/q%d\n\n^@", i);
            feed_text(&f, text);
            assert_true(hg_conn_is_held(f.conn));
            core_turn(&f);
            assert_false(hg_conn_is_held(f.conn));
            core_settle(&f, 0, HG_OK, "");
        }
    }
    core_close(&f);
}

/* All that a session does, as far as it gets. */
static void talk(struct core_fake *f)
{
    feed_text(f, "CONNECT\naccept-version:1.2\nlogin:me\nheart-beat:1000,1000\n\n^@");
    feed_text(
        f,
        "SUBSCRIBE\nid:1\ndestination:/a\nreceipt:1\n\n^@SUBSCRIBE\nid:2\ndestination:/queue/q\n\n^@");
    core_turn(f);
    feed_text(f, "SUBSCRIBE\nid:3\ndestination:/topic/b\nack:client\n\n^@");
    core_turn(f);
    for (int i = 0; i < 2 && core_queue(f, 0) != NULL; i++) {
        core_deliver(f, &(struct core_delivery){
                            .from = core_queue(f, 0), .exchange = "amq.topic", .key = "b"});
    }
    feed_text(f, "ACK\nid:1-2\nreceipt:5\n\n^@");
    feed_text(f, "SEND\ndestination:/queue/q\nreceipt:2\nx:y\\n\n\n^@");
    core_turn(f);
    core_pass(f, 11000);
    feed_text(f, "UNSUBSCRIBE\nid:1\nreceipt:3\n\n^@DISCONNECT\nreceipt:4\n\n^@");
    core_turn(f);
}

static void any_allocation_may_fail(void **state)
{
    size_t asked_n;
    size_t n = 0;
    (void)state;
    do { /* until a run gets by without the one that would have failed */
        struct core_fake f;
        core_open(&f);
        (void)core_connect(&f, &hg_stomp_adapter, NULL);
        seam_fail_alloc(++n);
        talk(&f);
        asked_n = seam_allocs();
        seam_fail_alloc(0);
        core_close(&f);
        assert_int_equal(seam_live(), 0);
    } while (asked_n >= n);
    assert_in_range(n, 20, 1000);
}

static void a_session_describes_itself(void **state)
{
    struct core_fake f;
    struct hg_session_info info;
    (void)state;
    core_open(&f);
    struct hg_session *s = core_session(core_connect(&f, &hg_stomp_adapter, NULL));
    s->ops->describe(s, &info);
    assert_string_equal(info.version, "");
    feed_text(&f, "CONNECT\naccept-version:1.1\nlogin:me\n\n^@");
    s->ops->describe(s, &info);
    assert_string_equal(info.version, "1.1");
    assert_text(info.user, "me");
    core_close(&f);
}

static void what_goes_out_is_counted(void **state)
{
    struct core_fake f;
    (void)state;
    open_connected(&f, NULL);
    const struct hg_proto_metrics *m = &f.worker.metrics.proto[HG_PROTO_STOMP];
    feed_text(&f, "SUBSCRIBE\nid:1\ndestination:/a\n\n^@");
    core_deliver(&f, &(struct core_delivery){.address = "a", .body = HG_BYTES("four")});
    assert_int_equal(hg_counted(&m->messages_out), 1);
    assert_int_equal(hg_counted(&m->bytes_out), 4);
    core_set_pending(f.conn, (size_t)f.config.outbound_high_bytes);
    core_deliver(&f, &(struct core_delivery){.address = "a", .body = HG_BYTES("four")});
    assert_int_equal(hg_counted(&m->messages_out), 1);
    assert_int_equal(hg_counted(&m->dropped), 1);
    core_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_conversation_goes_as_written_at_every_split),
        cmocka_unit_test(bodies_that_are_not_utf_8_go_in_binary_frames),
        cmocka_unit_test(strangers_get_little_memory),
        cmocka_unit_test(labels_that_are_kept_have_a_limit),
        cmocka_unit_test(queues_past_the_sixteenth_are_declared_again),
        cmocka_unit_test(any_allocation_may_fail),
        cmocka_unit_test(a_session_describes_itself),
        cmocka_unit_test(what_goes_out_is_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
