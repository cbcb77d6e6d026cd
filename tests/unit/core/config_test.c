/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: every kind of mistake with its place, defaults as documented, overrides, environment, memory that runs out. */
#include "core/config.h"

#include "base/mem.h"
#include "core/config_schema.h"
#include "seam/seam.h"
#include "seam/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LISTENER "[[listener]]\nserve='mqtt'\nbind='127.0.0.1:0'\n"
#define WEB      "[[listener]]\nserve='web'\nbind='127.0.0.1:0'\n"
#define ENDPOINT "amqp://guest:guest@127.0.0.1:5672/%2f"

static char path[] = "headgate-config-XXXXXX";

static void write_file(const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static struct hg_config *load(const char *text, const char *const *sets, size_t sets_n,
                              struct hg_writer *errors)
{
    write_file(text);
    return hg_config_load(path, sets, sets_n, errors);
}

/* Loads what must be right. */
static struct hg_config *load_good(const char *text, const char *const *sets, size_t sets_n)
{
    struct hg_writer errors = {0};
    struct hg_config *c = load(text, sets, sets_n, &errors);
    if (c == NULL) {
        fail_msg("%.*s", HG_BYTES_FMT(hg_writer_view(&errors)));
    }
    assert_int_equal(hg_writer_n(&errors), 0);
    hg_writer_close(&errors);
    return c;
}

/* The errors of text and sets, with the file's name as FILE. */
static void assert_errors(const char *text, const char *const *sets, size_t sets_n,
                          const char *want)
{
    struct hg_writer errors = {0};
    char got[4096] = "";
    assert_null(load(text, sets, sets_n, &errors));
    struct hg_bytes rest = hg_writer_view(&errors);
    for (size_t n = 0; rest.n > 0 && n < sizeof got - 64;) {
        bool is_name = hg_bytes_starts(rest, hg_bytes_str(path));
        n += (size_t)snprintf(got + n, sizeof got - n, is_name ? "FILE" : "%c", rest.p[0]);
        rest = hg_bytes_skip(rest, is_name ? strlen(path) : 1);
    }
    assert_string_equal(got, want);
    hg_writer_close(&errors);
}

struct mistake {
    const char *toml;
    const char *error; /* after "FILE:" and before the newline */
};

#define HOOK       "[[webhook]]\nname='h'\n" /* lines 4 and 5 */
#define HOOK_PLAIN HOOK "url='http://site/x?y'\n"
#define URL_HOST                                                                                  \
    "7:5: url has a host or port that cannot be read; an IPv4 address has four decimal numbers, " \
    "an IPv6 address stands in [ ]"
#define BRIDGE       "[[bridge]]\nname='b'\n" /* lines 4 and 5 */
#define BRIDGE_PLAIN BRIDGE "address='mqtt://site'\n"

static void a_mistake_is_named_with_its_place(void **state)
{
    static const struct mistake rows[] = {
        {"gateway = ", "1:11: Error while parsing key-value pair: encountered end-of-file"},
        {LISTENER "[gateway\n", "4:9: Error while parsing table header: expected ']', saw '\\n'"},
        {LISTENER "[rabbitmq]\nheartbeet = '3s'",
         "5:1: unknown key \"heartbeet\", did you mean \"heartbeat\"?"},
        {LISTENER "[rabitmq]", "4:2: unknown key \"rabitmq\", did you mean \"rabbitmq\"?"},
        {LISTENER "[gateway]\nzzzzzzzz = 1", "5:1: unknown key \"zzzzzzzz\""},
        {LISTENER "[gateway]\nworkers = 'many'", "5:11: workers must be an integer, not a string"},
        {LISTENER "[gateway]\nworkers = -1", "5:11: workers must not be negative"},
        {LISTENER "[gateway]\nworkers = 257", "5:11: workers must be between 0 and 256"},
        {LISTENER "[gateway]\nlog = { level = 'infos' }",
         "5:17: level must be one of \"error\", \"warn\", \"info\", \"debug\"; did you mean "
         "\"info\"?"},
        {LISTENER "[gateway]\ndrain_timeout = 20",
         "5:17: drain_timeout must be a duration such as \"20s\" (units ms, s, m, h)"},
        {LISTENER "[gateway]\ndrain_timeout = '20 s'",
         "5:17: drain_timeout must be a duration such as \"20s\" (units ms, s, m, h)"},
        {LISTENER "[rabbitmq]\nheartbeat = '2h'", "5:13: heartbeat must be between 1s and 1h"},
        {LISTENER "[rabbitmq]\nbuffer = '64MB'",
         "5:10: buffer must be a size such as \"64MiB\" (units B, KiB, MiB, GiB)"},
        {LISTENER "[rabbitmq]\nbuffer = '1B'", "5:10: buffer must be between 64KiB and 64GiB"},
        {LISTENER "[limits]\noutbound_low='8MiB'",
         "4:1: outbound_low must be less than outbound_high"},
        {LISTENER "[http]\nidempotency_shared=true\n[state]\nlog='off'",
         "4:1: idempotency_shared needs the state log, and idempotency_max"},
        {LISTENER "[http]\nidempotency_shared=true\nidempotency_max=0",
         "4:1: idempotency_shared needs the state log, and idempotency_max"},
        {LISTENER "[gateway]\nname = '${HEADGATE_TEST_UNSET}'",
         "5:8: the environment variable HEADGATE_TEST_UNSET is not set"},
        {LISTENER "[gateway]\nname = '${HEADGATE'",
         "5:8: `${` without a closing `}` (`$${` stands for a plain `${`)"},
        {LISTENER "[gateway]\nname = \"a\\u0000b\"",
         "5:8: a NUL character cannot be part of a string"},
        {LISTENER "[http]\nstatic = 'no-such-folder'",
         "5:10: static: \"no-such-folder\" is not a directory"},
        {"", "1:1: listener is missing"},
        {"listener = 1", "1:12: listener must be an array, not an integer"},
        {"[[listener]]\nbind='127.0.0.1:1'", "1:1: serve is missing"},
        {"[[listener]]\nserve='mqtt'", "1:1: bind is missing"},
        {"[[listener]]\nserve='mqtt'\nbind='localhost:1'",
         "3:6: bind must be an IP address and a port, such as \"127.0.0.1:1883\" or "
         "\"[::]:1883\""},
        {LISTENER "tls = { }", "4:7: tls needs cert and key"},
        {LISTENER "proxy_protocol = 1", "4:18: proxy_protocol must be a boolean, not an integer"},
        {LISTENER "cors_origins = ['*']",
         "4:1: cors_origins belongs to a listener that serves \"web\""},
        {LISTENER "[users]\nanonymous = 'never'",
         "5:13: anonymous must be true, false or \"loopback\""},
        {LISTENER "[users]\nanonymous = false", "5:13: nobody could log in: configure [[user]], "
                                                "[users] token, certificate or broker"},
        {"[[listener]]\nserve='mqtt'\nbind='0.0.0.0:0'\n",
         "3:6: everybody could use this listener: configure [[user]], [users] token, certificate "
         "or broker, or say anonymous = true in [users]"},
        {LISTENER "[users]\ntoken = { }", "5:9: token needs secrets, keys or jwks"},
        {LISTENER "[users]\ntoken = { jwks = '/nowhere' }",
         "5:9: token: \"/nowhere\": No such file or directory"},
        {LISTENER "[users]\nbroker_roles = ['a', 'a b']",
         "5:22: a role has a name without blanks and asterisks, or is \"*\""},
        {LISTENER "[[user]]\nname = 'a'\n[[user]]\nname = 'a'",
         "7:8: name \"a\" is taken already at FILE:5:8"},
        {LISTENER "[[user]]\nname = 'a'\npassword = 'secret'",
         "6:12: password must be a line \"$argon2id$…\": `headgate passwd` makes one"},
        {LISTENER "[[user]]\nname = 'a'\npassword = '$argon2id$v=19$m=4194304,t=1,p=1$"
                  "c29tZXNhbHRzb21lc2FsdA$0Y7TEQLQMCKYlU2NWkxxzZXHdAwbYf2LWgNdC0XIWkU'",
         "6:12: password must be a line \"$argon2id$…\": `headgate passwd` makes one"},
        {LISTENER "origins = []", "4:1: origins belongs to a listener that serves \"web\""},
        {LISTENER "websocket_paths = []",
         "4:1: websocket_paths belongs to a listener that serves \"web\""},
        {WEB "origins = ['https://a.example', 'https://a.example/']",
         "4:11: origins: \"https://a.example/\" is not \"https://HOST\", \"https://HOST:PORT\" or "
         "\"*\""},
        {WEB "cors_origins = ['a.example']",
         "4:16: cors_origins: \"a.example\" is not \"https://HOST\", \"https://HOST:PORT\" or \"*\""},
        {WEB "websocket_paths = ['/ws', 'mqtt']", "4:19: websocket_paths: \"mqtt\" is not a path"},
        {LISTENER HOOK_PLAIN, "4:1: a webhook has a queue or a filter, one of them"},
        {LISTENER HOOK_PLAIN "queue='q'\nfilter='a'",
         "4:1: a webhook has a queue or a filter, one of them"},
        {LISTENER HOOK "queue='q'", "4:1: url is missing"},
        {LISTENER HOOK "queue='q'\nurl='ftp://site'",
         "7:5: url must be an address such as \"https://host/path\""},
        {LISTENER HOOK "queue='q'\nurl='https://u:p@site/'",
         "7:5: url must not hold a user: say it in headers"},
        {LISTENER HOOK "queue='q'\nurl='https://site/a b'",
         "7:5: url must be printable ASCII without blanks, `\\` and `#`; the rest is "
         "percent-encoded"},
        {LISTENER HOOK "queue='q'\nurl='https://site:0/'",
         "7:5: url has port 0, which cannot be connected to"},
        {LISTENER HOOK "queue='q'\nurl='https://127.1/'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https://0x7f000001/'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https://2130706433/'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https://127.0.0.1./'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https://lo%63alhost/'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https://[localhost]/'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='https:///path'", URL_HOST},
        {LISTENER HOOK "queue='q'\nurl='http://127.0.0.1/'",
         "7:5: url names a loopback address, which has to be in allow"},
        {LISTENER HOOK "queue='q'\nurl='http://[::ffff:169.254.169.254]/'",
         "7:5: url names a link-local address, which has to be in allow"},
        {LISTENER HOOK "queue='q'\nurl='http://10.0.0.1/'\nallow_private=false",
         "7:5: url names a private address, which has to be in allow"},
        {LISTENER HOOK_PLAIN "queue='q'\nallow=['10.0.0.1/8']",
         "8:7: allow: \"10.0.0.1/8\" is no network such as \"127.0.0.0/8\" or \"::1\""},
        {LISTENER HOOK_PLAIN "filter='a/#/b'",
         "7:8: filter has a wildcard that is not alone in its level, or # before the end"},
        {LISTENER HOOK_PLAIN "filter='$share/g/a'",
         "7:8: addresses that begin with $ are Headgate's own; instances share a webhook's queue "
         "without $share"},
        {LISTENER HOOK_PLAIN "queue='q'\nsecrets=['abc']",
         "8:10: a secret is \"whsec_\" and base64 behind it"},
        {LISTENER HOOK_PLAIN "queue='q'\nsecrets=['whsec_AAAA']",
         "8:10: a secret has 24 to 64 bytes in its base64"},
        {LISTENER HOOK_PLAIN "queue='q'\nheaders={'a b'='x'}",
         "8:10: \"a b\" is no name of an HTTP header"},
        {LISTENER HOOK_PLAIN "queue='q'\nheaders={Host='x'}",
         "8:10: \"Host\" is set by the request itself"},
        {LISTENER HOOK_PLAIN "queue='q'\nheaders={A=\"x\\ny\"}",
         "8:10: \"A\" holds a control character"},
        {LISTENER HOOK_PLAIN "queue='q'\ntls={ca='/'}",
         "8:1: tls belongs to a url that begins with https://"},
        {LISTENER HOOK_PLAIN "queue='q'\ndelay_steps=['5m','1m']",
         "8:13: delay_steps are durations that rise, such as [\"1m\", \"5m\"], of 168h at most"},
        {LISTENER HOOK_PLAIN "queue='q'\ndelay_steps=[]",
         "8:13: delay_steps are 1 to 16 durations"},
        {LISTENER HOOK_PLAIN "queue='q'\norder_by='key'",
         "8:10: order_by must be \"none\", \"routing_key\" or \"header:NAME\""},
        {LISTENER HOOK_PLAIN "queue='q'\norder_by='routing_key'\ndelay_steps=['1m']",
         "9:1: an ordered webhook has no delay queues: others would overtake"},
        {LISTENER HOOK_PLAIN "queue='q'\ndead_letter_key='k'",
         "8:1: dead_letter_key needs a dead_letter_exchange; \"\" is RabbitMQ's default one, whose "
         "keys are queues"},
        {LISTENER HOOK_PLAIN "queue='q'\ndead_letter_exchange=''",
         "8:22: the default exchange needs a dead_letter_key, the queue's name"},
        {LISTENER HOOK_PLAIN "queue='q'\nretry_first='1m'\nretry_max='1s'",
         "8:13: retry_first must not be more than retry_max"},
        {LISTENER HOOK_PLAIN "queue='q'\nprefetch=4",
         "8:10: prefetch must not be less than concurrency"},
        {LISTENER HOOK_PLAIN "queue='q'\nmax_hold='2m'\nmax_ack_wait='1m'",
         "8:10: max_hold must not be more than max_ack_wait"},
        {LISTENER HOOK_PLAIN "queue='q'\n" HOOK_PLAIN "queue='q'",
         "9:6: name \"h\" is taken already at FILE:5:6"},
        {LISTENER "[[listener]]\nserve='web'\nbind='127.0.0.1:80'\n"
                  "[[listener]]\nserve='web'\nbind='127.0.0.1:80'",
         "9:6: bind \"127.0.0.1:80\" is taken already at FILE:6:6"},
        {LISTENER "[[exchange]]\nname='x'\ntype='topics'",
         "6:6: type must be direct, fanout, topic, headers or x-…; did you mean \"topic\"?"},
        {LISTENER "[[exchange]]\ntype='topic'", "4:1: name is missing"},
        {LISTENER "[[exchange]]\nname='amq.topic'\ntype='topic'",
         "5:6: exchanges named amq.* are RabbitMQ's own and need no declaration"},
        {LISTENER "[[exchange]]\nname='x'\ntype='topic'\npassive=true\ndurable=true",
         "8:1: durable means nothing beside passive = true, which only checks that the name "
         "exists"},
        {LISTENER "[[exchange]]\nname='x'\ntype='topic'\n[[exchange]]\nname='x'\ntype='topic'",
         "8:6: name \"x\" is taken already at FILE:5:6"},
        {LISTENER "[[queue]]\nname='q'\ntype='quorum'\ndurable=false",
         "7:9: a quorum queue is always durable and never auto_delete"},
        {LISTENER "[[queue]]\nname='q'\ntype='stream'\nauto_delete=true",
         "7:13: a stream queue is always durable and never auto_delete"},
        {LISTENER "[[queue]]\nname='q'\ntype='lazy'",
         "6:6: type must be one of \"classic\", \"quorum\", \"stream\""},
        {LISTENER "[[queue]]\nname='q'\narguments={x-queue-type='quorum'}",
         "6:11: say type = \"…\" rather than the argument x-queue-type"},
        {LISTENER "[[queue]]\nname='q'\narguments={a=1979-05-27}",
         "6:14: an argument cannot be a date"},
        {LISTENER "[[queue]]\nname='q'\nbindings=[{key='k'}]", "6:11: exchange is missing"},
        {LISTENER "[[rule]]\ntopic='a'\nexchange='amq.topic'", "4:1: name is missing"},
        {LISTENER BRIDGE "out=[{filter='#'}]", "4:1: address is missing"},
        {LISTENER BRIDGE "out=[{filter='#'}]\naddress='tcp://site'",
         "7:9: address must be an address such as \"mqtt://host:1883\" or \"mqtts://host:8883\""},
        {LISTENER BRIDGE "out=[{filter='#'}]\naddress='mqtt://u:p@site'",
         "7:9: address must not hold a user: say username and password"},
        {LISTENER BRIDGE "out=[{filter='#'}]\naddress='mqtt://site/x'",
         "7:9: address ends with the host or its port"},
        {LISTENER BRIDGE "out=[{filter='#'}]\naddress='mqtt://site:70000'",
         "7:9: address has a host or port that cannot be read; an IPv6 address stands in [ ]"},
        {LISTENER BRIDGE_PLAIN, "4:1: the bridge carries nothing: give it in or out"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='#/a'}]",
         "7:13: filter has a wildcard that is not alone in its level, or # before the end"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='#', local_prefix='p'}]",
         "7:31: local_prefix and filter make \"p#\", which has a wildcard that is not alone in its level, or # before the end"},
        {LISTENER BRIDGE_PLAIN "out=[{filter='a', remote_prefix='+/'}]",
         "7:33: remote_prefix must not hold + or #"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='$SYS/#'}]",
         "7:5: addresses here that begin with $ are Headgate's own; give them a local_prefix"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='$share/g/a', local_prefix='p/'}]",
         "7:5: a bridge cannot carry a shared subscription"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a', qos=3}]", "7:22: qos must be between 0 and 2"},
        {LISTENER BRIDGE_PLAIN "in=[{qos=1}]", "7:5: filter is missing"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\ntls={ca='/'}",
         "8:1: tls belongs to an address that begins with mqtts://"},
        {LISTENER BRIDGE "address='mqtts://site'\nin=[{filter='a'}]\ntls={cert='/'}",
         "8:5: cert and key go together"},
        {LISTENER BRIDGE "address='mqtts://site'\nin=[{filter='a'}]\ntls={ca='no-such-file'}",
         "8:9: ca: \"no-such-file\" cannot be read"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\npassword='p'",
         "8:1: a password needs a username"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\nkeepalive='5500ms'",
         "8:11: keepalive is a number of whole seconds"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\nwill={payload='gone'}", "8:6: topic is missing"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\nwill={topic='a/+'}",
         "8:13: topic holds a wildcard (+ or #)"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\nclient_id=\"a\\u0001\"",
         "8:11: client_id holds control characters"},
        {LISTENER "[[bridge]]\nname='a b'\naddress='mqtt://site'\nin=[{filter='a'}]",
         "5:6: name holds letters, digits, and . _ - only"},
        {LISTENER BRIDGE_PLAIN "in=[{filter='a'}]\n" BRIDGE_PLAIN "in=[{filter='a'}]",
         "9:6: name \"b\" is taken already at FILE:5:6"},
        {LISTENER "[[rule]]\nname='a'\nexchange='amq.topic'",
         "4:1: the rule needs an address: topic, or mqtt, stomp, http"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'", "4:1: the rule needs an exchange or a queue"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nexchange='e'\nqueue='q'",
         "8:1: a rule has an exchange or a queue, not both"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nkey='k'",
         "8:1: a rule with a queue has no key: the queue's name is the key"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nallow={publish=['x y']}",
         "8:17: a role has a name without blanks and asterisks, or is \"*\""},
        {LISTENER "[[rule]]\nname='a'\ntopic='{claim.}'\nexchange='amq.topic'",
         "4:1: rule a: mqtt: \"{claim.}\" names no claim: {claim.NAME}, made of letters, digits, _ "
         "and -"},
        {LISTENER "[[access]]\npublish=['x']", "4:1: access is to an exchange or to a queue"},
        {LISTENER "[[access]]\nexchange='a'\nqueue='b'",
         "4:1: access is to an exchange or to a queue"},
        {LISTENER "[[access]]\nqueue='b'\nkey='a'", "6:1: a queue has no keys"},
        {LISTENER "[[access]]\nexchange='b'\nconfigure=['a']", "6:1: clients declare no exchanges"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nslow='latest'",
         "8:1: a rule with a queue has no slow: its messages wait in that queue"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nexchange='amq.topic'\nslow='drop'",
         "8:6: slow must be one of \"drop-new\", \"drop-oldest\", \"latest\", \"disconnect\""},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nreplay='s'",
         "8:1: a rule with a queue has no replay: its messages are in that queue"},
        {LISTENER "[[queue]]\nname='s'\n[[rule]]\nname='a'\ntopic='a'\nexchange='amq.topic'\n"
                  "replay='s'",
         "10:8: s is declared, and it is no stream"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nheaders={CC='x'}",
         "8:10: the header CC is RabbitMQ's or Headgate's own, a rule cannot set it"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nexchange='e'",
         "4:1: rule a: exchange: \"e\" is not declared: add an [[exchange]] with this name"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nheaders={n=1}",
         "8:12: n must be a string, not an integer"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nrate={messages=-1}",
         "8:16: messages must not be negative"},
        {LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nrate={burst='1ms'}",
         "8:13: burst must be between 100ms and 1h"},
        {LISTENER "[limits]\nmax_connections_per_user=1",
         "5:26: max_connections_per_user: nobody can log in; configure [[user]], [users] token, "
         "certificate or broker"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char want[512];
        snprintf(want, sizeof want, "FILE:%s\n", rows[i].error);
        assert_errors(rows[i].toml, NULL, 0, want);
    }
}

static void a_wrong_endpoint_is_refused_without_its_password(void **state)
{
    static const char unreadable[] =
        "host or port cannot be read; an IPv6 address stands in [ ], and other than letters and "
        "digits are percent-encoded in user and password";
    static const char vhost[] = "the virtual host after the last `/` cannot be read; the one named "
                                "\"/\" is written %2f";
    static const struct mistake rows[] = {
        {"http://h",
         "must be an address such as \"amqp://user:password@host:5672/%2f\", or amqps://…"},
        {"amqp://h/", vhost},
        {"amqp://h//", vhost},
        {"amqp://h/%2", vhost},
        {"amqp://h/%00", vhost},
        {"amqp://u:p%zz@h", "user or password is not percent-encoded as it should be"},
        {"amqp://u:secret/x@h", unreadable},
        {"amqp://", unreadable},
        {"amqp://h:", unreadable},
        {"amqp://h:65536", unreadable},
        {"amqp://[::1", unreadable},
        {"amqp://[::1]5672", unreadable},
        {"amqp://::1", unreadable},
        {"amqp://h:0", "port 0 cannot be connected to"},
        {"amqp://h?auth=none", "after `?`, only auth=plain and auth=external are known"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char toml[256];
        char want[512];
        snprintf(toml, sizeof toml, LISTENER "[rabbitmq]\nendpoints = ['%s']", rows[i].toml);
        snprintf(want, sizeof want, "FILE:5:14: endpoint 1: %s\n", rows[i].error);
        assert_errors(toml, NULL, 0, want);
    }
    assert_errors(
        LISTENER "[rabbitmq]\nendpoints = ['amqp://a/v', 'amqp://b/w']", NULL, 0,
        "FILE:5:28: endpoint 2: all endpoints share one virtual host; [[vhost]] configures "
        "more of them\n");
    assert_errors(LISTENER "[rabbitmq]\nendpoints = []", NULL, 0,
                  "FILE:5:13: endpoints must not be empty\n");
}

static void an_endpoint_is_taken_apart(void **state)
{
    static const struct {
        const char *url, *user, *password, *host, *vhost;
        uint16_t port;
        bool is_external;
    } rows[] = {
        {ENDPOINT, "guest", "guest", "127.0.0.1", "/", 5672, false},
        {"amqp://h", "guest", "guest", "h", "/", 5672, false},
        {"amqp://u@h:1/v", "u", "guest", "h", "v", 1, false},
        {"amqp://u:p%40%3a%2F@h/a%20b", "u", "p@:/", "h", "a b", 5672, false},
        {"amqp://u:@[fe80::1]:5673/%2f", "u", "", "fe80::1", "/", 5673, false},
        {"amqp://[::1]?auth=external", "guest", "guest", "::1", "/", 5672, true},
        {"amqp://h/v?auth=plain", "guest", "guest", "h", "v", 5672, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char toml[256];
        snprintf(toml, sizeof toml, LISTENER "[rabbitmq]\nendpoints = ['%s']", rows[i].url);
        struct hg_config *c = load_good(toml, NULL, 0);
        assert_int_equal(c->endpoints_n, 1);
        const struct hg_endpoint *e = &c->endpoints[0];
        assert_string_equal(e->host, rows[i].host);
        assert_string_equal(e->user, rows[i].user);
        assert_string_equal(e->password, rows[i].password);
        assert_string_equal(e->vhost, rows[i].vhost);
        assert_int_equal(e->port, rows[i].port);
        assert_int_equal(e->is_external, rows[i].is_external);
        assert_false(e->is_tls);
        hg_config_free(c);
    }
}

static void every_problem_is_reported_in_the_order_of_the_file(void **state)
{
    static const char *const sets[] = {"rabbitmq.prefetch=0"};
    (void)state;
    assert_errors("[[rule]]\nname='a'\nkey='k'\n[gateway]\nworkers='x'\nnmae='y'\n" LISTENER, sets,
                  1,
                  "FILE:1:1: the rule needs an address: topic, or mqtt, stomp, http\n"
                  "FILE:1:1: the rule needs an exchange or a queue\n"
                  "FILE:5:9: workers must be an integer, not a string\n"
                  "FILE:6:1: unknown key \"nmae\", did you mean \"name\"?\n"
                  "--set rabbitmq.prefetch:1:19: prefetch must be between 1 and 65535\n");
}

static void an_override_beats_the_file(void **state)
{
    static const char *const sets[] = {
        "gateway.name=bare words",
        "gateway.workers=3",
        "rabbitmq.heartbeat=7s",
        "rabbitmq.endpoints=[\"amqp://one/v\", \"amqp://two/v\"]",
        "rabbitmq.endpoints.1=amqp://three:5/v",
        "listener.0.bind=\"[::1]:99\"",
        "listener.1={serve=\"web\", bind=\"127.0.0.1:0\"}",
        "rule.0.key=changed.{x}",
        "stomp.rabbitmq_destinations=false",
        "stomp.default_topic_exchange=events",
    };
    (void)state;
    struct hg_config *c =
        load_good(LISTENER "[gateway]\nname='file'\n[[rule]]\nname='r'\ntopic='a/{x}'\n"
                           "exchange='amq.topic'\nkey='b.{x}'\n",
                  sets, sizeof sets / sizeof sets[0]);
    assert_string_equal(c->name, "bare words");
    assert_int_equal(c->workers, 3);
    assert_int_equal(c->heartbeat_ms, 7000);
    assert_int_equal(c->endpoints_n, 2);
    assert_string_equal(c->endpoints[0].host, "one");
    assert_string_equal(c->endpoints[1].host, "three");
    assert_int_equal(c->listeners_n, 2);
    assert_string_equal(c->listeners[0].host, "::1");
    assert_int_equal(c->listeners[0].port, 99);
    assert_int_equal(c->listeners[0].serve, HG_SERVE_MQTT);
    assert_int_equal(c->listeners[1].serve, HG_SERVE_WEB);
    assert_string_equal(c->vhosts[0].rules[0].key, "changed.{x}");
    assert_false(c->stomp_rabbitmq_destinations);
    assert_string_equal(c->stomp_topic_exchange, "events");
    hg_config_free(c);
}

static void a_wrong_override_is_refused(void **state)
{
    static const struct mistake rows[] = {
        {"gateway.nmae=x", "gateway.nmae:1:9: unknown key \"nmae\", did you mean \"name\"?"},
        {"gatewya.name=x", "gatewya.name:1:1: unknown key \"gatewya\", did you mean \"gateway\"?"},
        {"gateway.workers=x", "gateway.workers:1:17: workers must be an integer, not a string"},
        {"listener.2.bind=127.0.0.1:0",
         "listener.2.bind:1:10: \"2\" is not the number of an element (from 0; one past the last "
         "appends)"},
        {"listener.x.bind=127.0.0.1:0",
         "listener.x.bind:1:10: \"x\" is not the number of an element (from 0; one past the last "
         "appends)"},
        {"gateway.name", "gateway.name:1:1: must be key=value"},
        {"gateway.name=${HEADGATE_TEST_UNSET}",
         "gateway.name:1:14: the environment variable HEADGATE_TEST_UNSET is not set"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char want[512];
        snprintf(want, sizeof want, "--set %s\n", rows[i].error);
        assert_errors(LISTENER, &rows[i].toml, 1, want);
    }
}

static void the_environment_is_put_in(void **state)
{
    (void)state;
    setenv("HEADGATE_TEST_A", "a${b}", 1);
    setenv("HEADGATE_TEST_EMPTY", "", 1);
    struct hg_config *c = load_good(
        LISTENER "[gateway]\nname = '<${HEADGATE_TEST_A}${HEADGATE_TEST_EMPTY}$x$${y}>'", NULL, 0);
    assert_string_equal(c->name, "<a${b}$x${y}>");
    hg_config_free(c);
}

static void a_rule_that_parks_brings_its_queue(void **state)
{
    (void)state;
#define PARKING LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\non_reject='park'\n"
    struct hg_config *c = load_good(PARKING "[[queue]]\nname='q'", NULL, 0);
    assert_int_equal(c->vhosts[0].queues_n, 2);
    assert_string_equal(c->vhosts[0].queues[1].name, "headgate.parked");
    assert_true(c->vhosts[0].queues[1].is_durable);
    assert_non_null(c->vhosts[0].queues[1].where);
    hg_config_free(c);
    c = load_good(PARKING "[mqtt]\npark_queue='p'\n[[queue]]\nname='p'\ntype='quorum'", NULL, 0);
    assert_int_equal(c->vhosts[0].queues_n, 1); /* declared as the user wants it */
    assert_string_equal(c->vhosts[0].queues[0].type, "quorum");
    hg_config_free(c);
    c = load_good(LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'", NULL, 0);
    assert_int_equal(c->vhosts[0].queues_n, 0);
    hg_config_free(c);
}

static void arguments_keep_their_types(void **state)
{
    (void)state;
    struct hg_config *c = load_good(
        LISTENER
        "[[queue]]\nname='q'\ntype='quorum'\narguments={i=-5, s='t', b=true, d=1.5, "
        "nested={a=[1,'x\"',false], f=0.5}}\nbindings=[{exchange='e', arguments={x-match='any'}}, "
        "{exchange='f', key='k'}]",
        NULL, 0);
    assert_int_equal(c->vhosts[0].queues_n, 1);
    const struct hg_queue_decl *q = &c->vhosts[0].queues[0];
    assert_true(q->is_durable);
    assert_false(q->is_auto_delete);
    assert_int_equal(q->arguments_n, 6);
    assert_text(q->arguments[0].name, "x-queue-type");
    assert_text(q->arguments[0].value.u.bytes, "quorum");
    assert_int_equal(q->arguments[1].value.kind, HG_VALUE_INT);
    assert_int_equal(q->arguments[1].value.u.i, -5);
    assert_int_equal(q->arguments[2].value.kind, HG_VALUE_STRING);
    assert_text(q->arguments[2].value.u.bytes, "t");
    assert_int_equal(q->arguments[3].value.kind, HG_VALUE_BOOL);
    assert_true(q->arguments[3].value.u.b);
    assert_int_equal(q->arguments[4].value.kind, HG_VALUE_DOUBLE);
    assert_true(q->arguments[4].value.u.d == 1.5);
    assert_int_equal(q->arguments[5].value.kind, HG_VALUE_JSON);
    assert_text(q->arguments[5].value.u.bytes, "{\"a\":[1,\"x\\\"\",false],\"f\":0.5}");
    assert_int_equal(q->bindings_n, 2);
    assert_string_equal(q->bindings[0].key, "");
    assert_text(q->bindings[0].arguments[0].name, "x-match");
    assert_string_equal(q->bindings[1].key, "k");
    hg_config_free(c);
}

static void a_rule_reads_as_written_and_the_builtin_one_is_last(void **state)
{
    (void)state;
    struct hg_config *c = load_good(
        LISTENER "[[exchange]]\nname='e'\ntype='topic'\n"
                 "[[rule]]\nname='a'\ntopic='t/{x}'\nhttp='/h/{x}'\nexchange='e'\nkey='k.{x}'\n"
                 "headers={device='{client_id}'}\npersistent=false\nmandatory=true\n"
                 "binding_scope='wide'\nescape='plain'\noverlong='hash'\non_reject='withhold'\n"
                 "via=['amq.direct','amq.fanout']\n"
                 "[[rule]]\nname='b'\nmqtt='m'\nqueue='q'\n",
        NULL, 0);
    assert_int_equal(c->vhosts[0].rules_n, 3);
    const struct hg_rule_spec *a = &c->vhosts[0].rules[0];
    assert_string_equal(a->pattern[HG_PROTO_MQTT], "t/{x}");
    assert_string_equal(a->pattern[HG_PROTO_STOMP], "t/{x}");
    assert_string_equal(a->pattern[HG_PROTO_HTTP], "/h/{x}");
    assert_string_equal(a->header_names[0], "device");
    assert_string_equal(a->header_values[0], "{client_id}");
    assert_int_equal(a->persistent, HG_NO);
    assert_true(a->is_mandatory);
    assert_int_equal(a->scope, HG_SCOPE_WIDE);
    assert_int_equal(a->escape, HG_ESCAPE_PLAIN);
    assert_int_equal(a->overlong, HG_OVERLONG_HASH);
    assert_int_equal(a->on_reject, HG_REJECT_WITHHOLD);
    assert_int_equal(a->via_n, 2);
    assert_string_equal(a->via[1], "amq.fanout");
    const struct hg_rule_spec *b = &c->vhosts[0].rules[1];
    assert_null(b->pattern[HG_PROTO_STOMP]);
    assert_null(b->exchange);
    assert_int_equal(b->persistent, HG_UNSET);
    assert_int_equal(b->scope, HG_SCOPE_AUTO);
    assert_true(c->vhosts[0].rules[2].is_builtin);
    assert_string_equal(c->vhosts[0].rules[2].exchange, "amq.topic");
    hg_config_free(c);
}

static void a_bridge_is_read(void **state)
{
    (void)state;
    struct hg_config *c = load_good(
        LISTENER BRIDGE "address='mqtts://[::1]:8884'\nusername='u'\npassword='p'\n"
                        "will={topic='w', qos=2, retain=true}\nversion='3.1.1'\n"
                        "in=[{filter='a/#', qos=2, local_prefix='l/', remote_prefix='r/'}]\n"
                        "out=[{filter='b'}, {filter='c'}]\n"
                        "[[bridge]]\nname='c'\naddress='mqtt://site'\nout=[{filter='#'}]",
        NULL, 0);
    assert_int_equal(c->bridges_n, 2);
    const struct hg_bridge_spec *b = &c->bridges[0];
    assert_string_equal(b->host, "::1");
    assert_int_equal(b->port, 8884);
    assert_true(b->is_tls);
    assert_false(b->is_v5);
    assert_string_equal(b->will_topic, "w");
    assert_string_equal(b->will_payload, "");
    assert_int_equal(b->will_qos, 2);
    assert_true(b->will_is_retained);
    assert_int_equal(b->in_n, 1);
    assert_int_equal(b->in[0].qos, 2);
    assert_string_equal(b->in[0].local_filter, "l/a/#");
    assert_string_equal(b->in[0].remote_filter, "r/a/#");
    assert_int_equal(b->out_n, 2);
    assert_int_equal(b->out[1].qos, 1);
    b = &c->bridges[1];
    assert_int_equal(b->port, 1883);
    assert_true(b->is_v5);
    assert_false(b->is_clean);
    assert_string_equal(b->client_id, "headgate.c");
    assert_int_equal(b->keepalive_ms, 60000);
    assert_int_equal(b->window, 100);
    assert_null(b->will_topic);
    hg_config_free(c);
}

static bool is_equal(const struct hg_config_field *f, const char *a, const char *b)
{
    if (f->kind != HG_READ_TEXT) {
        return memcmp(a, b, f->bytes) == 0;
    }
    const char *a_text, *b_text;
    memcpy(&a_text, a, sizeof a_text);
    memcpy(&b_text, b, sizeof b_text);
    return a_text == NULL || b_text == NULL ? a_text == b_text : strcmp(a_text, b_text) == 0;
}

/* Everything that the field tables fill in, from the first member of [rabbitmq] to the last of [http]. */
static void users_have_roles_and_listeners_know_who_may_come(void **state)
{
    (void)state;
    static const struct {
        const char *anonymous, *users;
        bool has_identities, here, elsewhere;
    } rows[] = {
        {"",
         "[[user]]\nname='a'\npassword='$argon2id$v=19$m=19456,t=2,p=1$"
         "c29tZXNhbHRzb21lc2FsdA$0Y7TEQLQMCKYlU2NWkxxzZXHdAwbYf2LWgNdC0XIWkU'\n",
         true, false, false},
        {"anonymous = true\n", "", false, true, true},
        {"anonymous = 'loopback'\nbroker = true\n", "", true, true, false},
        {"anonymous = false\nbroker = true\n", "", true, false, false},
        {"certificate = 'dns'\n", "", true, false, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 LISTENER "[[listener]]\nserve='stomp'\nbind='[::]:0'\n[users]\n"
                          "broker_roles=['y','*']\n%s%s[[user]]\nname='b'\nroles=['x','y']\n",
                 rows[i].anonymous, rows[i].users);
        struct hg_config *c = load_good(text, NULL, 0);
        assert_int_equal(c->has_identities, rows[i].has_identities);
        assert_int_equal(c->listeners[0].takes_anonymous, rows[i].here);
        assert_int_equal(c->listeners[1].takes_anonymous, rows[i].elsewhere);
        assert_int_equal(c->roles_n, 3);
        assert_string_equal(c->roles[0], "*");
        uint64_t y = strcmp(c->roles[1], "y") == 0 ? 2 : 4;
        assert_int_equal(c->users.broker_roles, y | 1);
        assert_int_equal(c->users.users[c->users.users_n - 1].roles, 6);
        hg_config_free(c);
    }
}

static void access_is_by_the_first_entry_whose_names_match(void **state)
{
    (void)state;
    struct hg_config *c = load_good(LISTENER "[[access]]\nexchange='amq.topic'\nkey='a.#'\n"
                                             "publish=['w']\nsubscribe=['r']\n"
                                             "[[access]]\nexchange='amq.*'\npublish=['x']\n"
                                             "[[access]]\nqueue='jobs.*'\nconfigure=['w']\n",
                                    NULL, 0);
    enum { W = 2, R = 4, X = 8 };
    assert_int_equal(c->roles_n, 4);
    const struct {
        const char *exchange, *key;
        enum hg_access_action action;
        uint64_t roles;
    } rows[] = {
        {"amq.topic", "a.b", HG_ACCESS_PUBLISH, W},  {"amq.topic", "b", HG_ACCESS_PUBLISH, X},
        {"amq.topic", "a", HG_ACCESS_SUBSCRIBE, R},  {"amq.topic", "b", HG_ACCESS_SUBSCRIBE, 0},
        {"amq.fanout", "", HG_ACCESS_PUBLISH, X},    {"other", "a", HG_ACCESS_PUBLISH, 0},
        {NULL, "jobs.1", HG_ACCESS_CONFIGURE, W},    {NULL, "jobs.1", HG_ACCESS_PUBLISH, 0},
        {NULL, "amq.topic", HG_ACCESS_CONFIGURE, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct hg_bytes key = hg_bytes_str(rows[i].key);
        uint64_t roles = rows[i].exchange == NULL
                             ? hg_access_queue_roles(c, 0, rows[i].action, key)
                             : hg_access_exchange_roles(c, 0, rows[i].action,
                                                        hg_bytes_str(rows[i].exchange), key);
        assert_int_equal(roles, rows[i].roles);
    }
    assert_int_equal(hg_access_exchange_roles_for_some_key(c, 0, HG_BYTES("amq.topic")), R);
    assert_int_equal(hg_access_exchange_roles_for_some_key(c, 0, HG_BYTES("other")), 0);
    hg_config_free(c);
}

static void rules_say_who_may(void **state)
{
    (void)state;
    struct hg_config *c =
        load_good(LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\nallow={publish=['x'],"
                           "subscribe=['*','y']}\n[[rule]]\nname='b'\ntopic='b'\nqueue='q'",
                  NULL, 0);
    assert_int_equal(c->vhosts[0].rules[0].publish_roles, 2);
    assert_int_equal(c->vhosts[0].rules[0].subscribe_roles, 5);
    assert_int_equal(c->vhosts[0].rules[1].publish_roles | c->vhosts[0].rules[1].subscribe_roles,
                     0);
    hg_config_free(c);
}

static void a_rule_has_a_meter_where_it_has_a_rate(void **state)
{
    (void)state;
    static const struct {
        const char *rate;
        struct hg_rates rates;
    } rows[] = {
        {"", {0, 0, 1000}},
        {"rate={}", {0, 0, 1000}},
        {"rate={burst='5s'}", {0, 0, 5000}},
        {"rate={messages=7}", {7, 0, 1000}},
        {"rate={bytes='2KiB', burst='100ms'}", {0, 2048, 100}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char text[512];
        snprintf(text, sizeof text, LISTENER "[[rule]]\nname='a'\ntopic='a'\nqueue='q'\n%s\n",
                 rows[i].rate);
        struct hg_config *c = load_good(text, NULL, 0);
        assert_memory_equal(&c->rules[0].rates, &rows[i].rates, sizeof(struct hg_rates));
        assert_int_equal(c->rules[0].meter != NULL, hg_rates_are_set(&rows[i].rates));
        hg_config_free(c);
    }
}

static void the_shipped_file_documents_the_real_defaults(void **state)
{
    struct hg_writer errors = {0};
    (void)state;
    struct hg_config *shipped = hg_config_load(HG_SHIPPED_CONFIG, NULL, 0, &errors);
    if (shipped == NULL) {
        fail_msg("%.*s", HG_BYTES_FMT(hg_writer_view(&errors)));
    }
    struct hg_config *bare = load_good(LISTENER, NULL, 0);
    assert_string_equal(shipped->name, bare->name);
    assert_int_equal(shipped->workers, bare->workers);
    for (const struct hg_config_field *section = hg_config_schema; section->key != NULL;
         section++) {
        for (const struct hg_config_field *f = section->fields;
             section->kind == HG_READ_TABLE && f->key != NULL; f++) {
            if (!is_equal(f, (const char *)shipped + f->offset, (const char *)bare + f->offset)) {
                fail_msg("%s.%s has another default than documented", section->key, f->key);
            }
        }
    }
    assert_int_equal(shipped->log_level, bare->log_level);
    assert_int_equal(shipped->log_is_json, bare->log_is_json);
    assert_int_equal(shipped->endpoints_n, bare->endpoints_n);
    assert_string_equal(shipped->endpoints[0].host, bare->endpoints[0].host);
    assert_string_equal(shipped->endpoints[0].vhost, bare->endpoints[0].vhost);
    assert_null(shipped->http_static_dir);
    assert_int_equal(shipped->listeners[1].max_connections, bare->listeners[0].max_connections);
    hg_config_free(shipped);
    hg_config_free(bare);
}

/* As "key = value", in a line that may be commented out, or inside braces. */
static bool is_documented(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *at = strstr(text, key); at != NULL; at = strstr(at + 1, key)) {
        bool starts = at == text || strchr(" \n{", at[-1]) != NULL;
        if (starts && strncmp(at + n, " = ", 3) == 0) {
            return true;
        }
    }
    return false;
}

static void assert_documented(const char *text, const struct hg_config_field *fields)
{
    for (const struct hg_config_field *f = fields; f->key != NULL; f++) {
        char header[64];
        snprintf(header, sizeof header, "%s%s%s", f->kind == HG_READ_TABLE ? "[" : "[[", f->key,
                 f->kind == HG_READ_TABLE ? "]" : "]]");
        if (!is_documented(text, f->key) && strstr(text, header) == NULL) {
            fail_msg("%s is not documented", f->key);
        }
        if (f->fields != NULL) {
            assert_documented(text, f->fields);
        }
    }
}

static void every_key_is_documented_in_the_shipped_file(void **state)
{
    static char text[64 * 1024];
    (void)state;
    FILE *f = fopen(HG_SHIPPED_CONFIG, "r");
    assert_non_null(f);
    assert_in_range(fread(text, 1, sizeof text - 1, f), 1, sizeof text - 2);
    fclose(f);
    assert_documented(text, hg_config_schema);
}

static void no_allocation_that_fails_crashes_or_leaks(void **state)
{
    (void)state;
    size_t live = seam_live();
    for (size_t n = 1;; n++) {
        struct hg_writer errors = {0};
        seam_fail_allocs_from(n);
        struct hg_config *c = hg_config_load(HG_SHIPPED_CONFIG, NULL, 0, &errors);
        seam_fail_allocs_from(0);
        bool is_done = c != NULL;
        hg_config_free(c);
        hg_writer_close(&errors);
        assert_int_equal(seam_live(), live);
        if (is_done) {
            break;
        }
    }
}

static void a_file_that_cannot_be_read_says_why(void **state)
{
    struct hg_writer errors = {0};
    (void)state;
    assert_null(hg_config_load("no-such-file.toml", NULL, 0, &errors));
    assert_text(hg_writer_view(&errors),
                "no-such-file.toml:1:1: cannot be read: No such file or directory\n");
    hg_writer_reset(&errors);
    assert_null(hg_config_load(".", NULL, 0, &errors));
    assert_text(hg_writer_view(&errors), ".:1:1: is a directory\n");
    hg_writer_close(&errors);
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void a_webhook_has_what_it_says(void **state)
{
    struct hg_config *c = load_good(
        LISTENER "[[webhook]]\nname='h'\nurl='https://[2001:db8::1]:8443/in?t=1'\nqueue='q'\n"
                 "headers={A='x', B=''}\norder_by='header:device'\nallow=['127.0.0.0/8']",
        NULL, 0);
    (void)state;
    const struct hg_webhook_spec *w = &c->webhooks[0];
    struct hg_inet loopback;
    assert_int_equal(c->webhooks_n, 1);
    assert_string_equal(w->host, "2001:db8::1");
    assert_string_equal(w->origin, "https://[2001:db8::1]:8443");
    assert_int_equal(w->port, 8443);
    assert_true(w->is_tls);
    assert_int_equal(w->headers_n, 2);
    assert_string_equal(w->headers[0], "A: x");
    assert_string_equal(w->headers[1], "B;");
    assert_int_equal(w->order, HG_WEBHOOK_BY_HEADER);
    assert_string_equal(w->order_header, "device");
    assert_int_equal(w->delays_n, 5);
    assert_int_equal(w->delays_ms[0], 60000);
    assert_true(hg_inet_parse("127.9.9.9", &loopback));
    assert_true(hg_webhook_spec_allows(w, &loopback));
    assert_true(hg_inet_parse("::1", &loopback));
    assert_false(hg_webhook_spec_allows(w, &loopback));
    hg_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_webhook_has_what_it_says),
        cmocka_unit_test(a_mistake_is_named_with_its_place),
        cmocka_unit_test(a_wrong_endpoint_is_refused_without_its_password),
        cmocka_unit_test(an_endpoint_is_taken_apart),
        cmocka_unit_test(every_problem_is_reported_in_the_order_of_the_file),
        cmocka_unit_test(an_override_beats_the_file),
        cmocka_unit_test(a_wrong_override_is_refused),
        cmocka_unit_test(the_environment_is_put_in),
        cmocka_unit_test(a_rule_that_parks_brings_its_queue),
        cmocka_unit_test(arguments_keep_their_types),
        cmocka_unit_test(a_rule_reads_as_written_and_the_builtin_one_is_last),
        cmocka_unit_test(a_bridge_is_read),
        cmocka_unit_test(users_have_roles_and_listeners_know_who_may_come),
        cmocka_unit_test(access_is_by_the_first_entry_whose_names_match),
        cmocka_unit_test(rules_say_who_may),
        cmocka_unit_test(a_rule_has_a_meter_where_it_has_a_rate),
        cmocka_unit_test(the_shipped_file_documents_the_real_defaults),
        cmocka_unit_test(every_key_is_documented_in_the_shipped_file),
        cmocka_unit_test(no_allocation_that_fails_crashes_or_leaks),
        cmocka_unit_test(a_file_that_cannot_be_read_says_why),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
