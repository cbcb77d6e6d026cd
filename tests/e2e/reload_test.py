# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: rules, users and limits change under those who are connected; what is wrong changes nothing."""
import collections
import signal
import threading

from harness import Consumer, E2E, Events, Mqtt, Mqtt5, Peer, Proxy, Stomp, eventually, http
from harness.clients import http_connection, http_request
from harness.gateway import config_text
from harness.people import OTHER, PASSWORD, basic, line_of, user

EXCHANGES = "".join(f'[[exchange]]\nname = "r.{name}"\ntype = "{kind}"\n'
                    for name, kind in (("one", "topic"), ("two", "topic"), ("wide", "topic"), ("heads", "headers")))


def rule(name, exchange="r.one", topic=None, key=None, more=""):
    return (f'[[rule]]\nname = "{name}"\ntopic = "{topic or name + "/{x}"}"\nexchange = "{exchange}"\n'
            f'key = "{key or name + ".{x}"}"\n{more}\n')


class Reloading(E2E):
    """A gateway, and other words for its file."""

    def start(self, more, **options):
        self.options = options
        self.gw = self.gateway(more, **options)

    def write(self, more):
        self.gw.file.write_text(config_text(self.amqp, more, **self.options))

    def hup(self, event="reload.done"):
        self.gw.signal(signal.SIGHUP)
        return self.gw.wait_log(event)

    def reload(self, more, event="reload.done"):
        self.write(more)
        return self.hup(event)

    def mqtt(self, **options):
        return self.open(Mqtt(self.gw.addresses["mqtt"], **options))

    def mqtt5(self, *args, **options):
        return self.open(Mqtt5(self.gw.addresses["mqtt"], *args, **options))

    def stomp(self, **options):
        return self.open(Stomp(self.gw.addresses["stomp"], **options))

    def post(self, address, body=b"x", **headers):
        return http(self.gw.addresses["web"], "POST", f"/v1/topics/{address}", body, headers)[0]

    def status(self):
        return self.gw.admin("/api/status")[1]["configuration"]


class Rules(Reloading):
    def test_a_rule_comes_changes_and_goes_under_those_who_are_subscribed(self):
        self.start(EXCHANGES)
        subscriber, publisher, stomp = self.mqtt(), self.mqtt(), self.stomp()
        subscriber.subscribe("a/#")
        stomp.subscribe("/a/*")
        outside = self.open(Consumer(self.amqp))
        outside.bind("r.one")
        for more, key in (("", None), (rule("a"), "a.1"), (rule("a", key="other.{x}"), "other.1"), ("", None)):
            with self.subTest(key=key):
                self.reload(EXCHANGES + more)
                publisher.publish("a/1", b"x")
                self.assertEqual(subscriber.messages.take().topic, "a/1")
                self.assertEqual(stomp.messages.take().headers["destination"], "/a/1")
                if key is not None:
                    self.assertEqual(outside.take()[0].routing_key, key)
        self.assertEqual(self.status()["done"], 4)
        self.assertEqual(self.gw.metric("headgate_reloads_total", result="done"), 4)
        self.assertGreater(self.gw.metric("headgate_config_loaded_timestamp_seconds"), 0)

    def test_counters_follow_a_rules_name(self):
        self.start(EXCHANGES + rule("a") + rule("b"))
        client = self.mqtt()
        client.publish("a/1", b"x")
        self.reload(EXCHANGES + rule("b") + rule("c") + rule("a"))
        client.publish("a/1", b"x")
        client.publish("c/1", b"x")
        got = {name: self.gw.metric("headgate_rule_messages_in_total", rule=name) for name in "abc"}
        self.assertEqual(got, {"a": 2, "b": 0, "c": 1})
        self.assertEqual([r["messages_in"] for r in self.gw.admin("/api/rules")[1]], [0, 1, 2, 0])

    def test_retained_messages_are_found_by_the_new_rules(self):
        self.start(EXCHANGES + rule("a"))
        self.gw.wait_log("state.ready")
        client = self.mqtt()
        client.publish("a/1", b"kept", retain=True)
        self.reload(EXCHANGES + rule("a", topic="new/{x}"))
        other = self.mqtt()
        other.subscribe("new/+")
        self.assertEqual(other.messages.take().topic, "new/1")


class Publisher(threading.Thread):
    """Publishes with confirmation, one after the other, the numbers from 0 to an address each, until it is told to stop."""

    def __init__(self, publish, *addresses):
        super().__init__(daemon=True)
        self.publish = publish
        self.sent = dict.fromkeys(addresses, 0)  # confirmed
        self.is_over = threading.Event()
        self.trouble = None

    def run(self):
        try:
            while not self.is_over.is_set():
                for address in self.sent:
                    self.publish(address, str(self.sent[address]).encode())
                    self.sent[address] += 1
        except Exception as e:  # told by end()
            self.trouble = e

    def end(self):
        self.is_over.set()
        self.join()
        if self.trouble is not None:
            raise self.trouble


class Ledger:
    """What each subscriber got: numbers by address."""

    def __init__(self, take):
        self.take = take  # (address, body) of the next message
        self.got = collections.defaultdict(list)

    def read_to(self, sent):
        """Until it has the last of each that was sent."""
        while any(self.got[address][-1:] != [n - 1] for address, n in sent.items()):
            address, body = self.take()
            self.got[address].append(int(body))


class Traffic(Reloading):
    """Steady traffic on three protocols through twenty reloads: what every rule table brings is there, once."""

    def from_mqtt(self, client):
        def take():
            message = client.messages.take()
            return message.topic, message.payload
        return Ledger(take)

    def from_stomp(self, client, ack=False):
        def take():
            frame = client.messages.take()
            if ack:
                client.connection.ack(frame.headers["ack"])
            return frame.headers["destination"].removeprefix("/"), frame.body
        return Ledger(take)

    def from_events(self, address):
        events = self.open(Events(self.gw, address))
        return Ledger(lambda: (address, events.take()["data"].encode()))

    def subscribers(self):
        """By name: the ledger, and the kinds of addresses that it has subscribed to."""
        filters = [f"{kind}/#" for kind in KINDS]
        fed, kept, shared = self.mqtt(), self.mqtt5("kept", expiry_s=600), self.mqtt()
        fed.subscribe(*filters)
        for each in filters:
            kept.subscribe(each, qos=1)
            shared.subscribe(f"$share/g/{each}")
        fed_stomp, acked = self.stomp(), self.stomp()
        for i, each in enumerate(KINDS):
            fed_stomp.subscribe(f"/{each}/*", str(i))
            acked.subscribe(f"/{each}/*", str(i), ack="client-individual")
        return {"mqtt": self.from_mqtt(fed), "kept": self.from_mqtt(kept), "shared": self.from_mqtt(shared), "stomp": self.from_stomp(fed_stomp),
                "acked": self.from_stomp(acked, ack=True), "events": self.from_events("same/m")}

    def publishers(self):
        mqtt, stomp = self.mqtt(), self.stomp()
        web = http_connection(self.gw.addresses["web"])
        self.addCleanup(web.close)

        def post(address, body):
            self.assertEqual(http_request(web, "POST", f"/v1/topics/{address}", body)[0], 202)
        return [Publisher(mqtt.publish, *(f"{kind}/m" for kind in KINDS)),
                Publisher(lambda address, body: stomp.send(f"/{address}", body), *(f"{kind}/s" for kind in KINDS)),
                Publisher(post, *(f"{kind}/h" for kind in KINDS))]

    def test_nothing_is_lost_nor_doubled(self):
        self.start(TABLES[0], workers=2)
        subscribers, publishers = self.subscribers(), self.publishers()
        for p in publishers:
            p.start()
        for n in range(1, 21):
            self.reload(TABLES[n % len(TABLES)])
            eventually(lambda: all(p.sent[a] >= 5 * n or p.trouble for p in publishers for a in p.sent))
        for p in publishers:
            p.end()
        sent = {address: n for p in publishers for address, n in p.sent.items()}
        for name, ledger in subscribers.items():
            with self.subTest(name):
                mine = {"same/m": sent["same/m"]} if name == "events" else sent
                ledger.read_to(mine)
                self.assertEqual(ledger.got, {address: list(range(n)) for address, n in mine.items()})
        self.assertEqual(self.status()["done"], 20)


# The kinds of rules whose outcome is the same in all tables: as it was; bound wide; moving between exchanges, and mapped back from both; with a
# queue per subscriber; with another key, another name; taken by the built-in rule now and then.
KINDS = ("same", "wide", "moving", "heads", "builtin")
SAME = rule("same")
WIDE = rule("wide", "r.wide", more='binding_scope = "wide"')
HEADS = rule("heads", "r.heads")


def moving(exchange):
    return rule("moving", exchange, more='via = ["r.one", "r.two"]')


TABLES = [EXCHANGES + table for table in (
    SAME + WIDE + HEADS + moving("r.one"),
    HEADS + moving("r.two") + rule("more", "r.two") + SAME + WIDE,
    rule("less", topic="sam/{x}") + WIDE + SAME + moving("r.one") + HEADS,
)]


class Refused(Reloading):
    """What is wrong leaves everything as it was, and says so."""

    def works(self, client, other):
        other.publish("a/1", b"x")
        self.assertEqual(client.messages.take().topic, "a/1")

    def test_a_bad_file_leaves_the_old_one_in_force(self):
        self.start(EXCHANGES + rule("a"))
        client, other = self.mqtt(), self.mqtt()
        client.subscribe("a/+")
        loaded = self.status()["loaded_unix_s"]
        for bad, problem in ((EXCHANGES + "nonsense", "end-of-file"),
                             (EXCHANGES + rule("a", topic="b/{x}") + '[limits]\nmax_subscription = 1\n', "max_subscriptions"),
                             (EXCHANGES + rule("a", "r.none"), "r.none"),
                             (EXCHANGES + rule("a", key="{y}"), "{y}")):
            with self.subTest(problem):
                self.reload(bad, "reload.refused")
                line = self.gw.wait_log("reload.problem")["reason"]
                self.assertTrue(line.startswith(f"{self.gw.file}:"), line)
                self.assertIn(problem, line)
                self.works(client, other)
                status = self.status()
                self.assertEqual((status["problem"], status["loaded_unix_s"], status["done"]), (line, loaded, 0))
        self.assertEqual(self.gw.metric("headgate_reloads_total", result="refused"), 4)
        self.gw.file.unlink()
        self.hup("reload.refused")
        self.assertIn("No such file", self.gw.wait_log("reload.problem")["reason"])
        self.reload(EXCHANGES + rule("a"))
        self.assertEqual((self.status()["problem"], self.status()["refused"]), (None, 5))
        self.works(client, other)

    def test_what_rabbitmq_refuses_leaves_the_old_one_in_force(self):
        self.start(EXCHANGES + rule("a"))
        client, other = self.mqtt(), self.mqtt()
        client.subscribe("a/+")
        outside = self.open(Consumer(self.amqp))
        outside.channel.exchange_declare("r.theirs", "fanout")
        outside.bind("r.one")
        more = '[[exchange]]\nname = "r.theirs"\ntype = "topic"\n'
        self.reload(EXCHANGES + rule("a", key="b.{x}") + more, "reload.refused")
        self.assertEqual(self.gw.wait_log("topology.refused")["exchange"], "r.theirs")
        self.assertIn("topology.refused", self.status()["problem"])
        self.works(client, other)
        self.assertEqual(outside.take()[0].routing_key, "a.1")

    def test_what_needs_a_restart_is_named_and_stays(self):
        self.start(EXCHANGES + rule("a"))
        text = config_text(self.amqp, EXCHANGES + rule("a", key="b.{x}"), workers=3)
        self.gw.file.write_text(text.replace('serve = "stomp"\nbind = "127.0.0.1:0"', 'serve = "stomp"\nbind = "127.0.0.1:1"')
                                .replace('name = "e2e"', 'name = "other"') + '[mqtt]\nmax_packet = "1MiB"\n')
        done = self.hup()
        kept = {self.gw.wait_log("reload.kept")["key"]: None for _ in range(done["need_restart"])}
        self.assertEqual(sorted(kept), ["gateway.name", "gateway.workers", "listener[2].bind", "mqtt.max_packet"])
        outside = self.open(Consumer(self.amqp))
        outside.bind("r.one")
        self.mqtt().publish("a/1", b"x")
        self.assertEqual(outside.take()[0].routing_key, "b.1")  # the rest applies
        self.stomp()

    def test_several_at_once_are_one_after_the_other(self):
        self.start(EXCHANGES + rule("a"))
        for _ in range(5):
            self.gw.signal(signal.SIGHUP)
        self.write(EXCHANGES + rule("a", topic="b/{x}"))
        self.hup()
        eventually(lambda: [r["patterns"]["mqtt"] for r in self.gw.admin("/api/rules")[1]][0] == "b/{x}")


class Away(Reloading):
    def test_rabbitmq_may_be_away(self):
        outside = self.open(Consumer(self.amqp))
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            self.amqp = self.amqp_by(proxy)
            self.start(EXCHANGES + rule("a"), workers=1)
            client, other = self.mqtt(), self.mqtt()
            client.subscribe("#")
            proxy.refuse()
            proxy.cut()
            self.gw.wait_log("rabbitmq.lost")
            self.reload(EXCHANGES + rule("a", "r.two"))
            more = '[[exchange]]\nname = "r.new"\ntype = "topic"\n'
            self.reload(EXCHANGES + rule("b") + more, "reload.refused")  # which only RabbitMQ could say yes to
            self.assertIn("cannot be reached", self.status()["problem"])
            mid = other.send("as/before", b"x")
            proxy.accept()
            other.acked(mid)
            self.assertEqual(client.messages.take().topic, "as/before")
            client.subscribe("fence")  # behind what the new rules need
            other.publish("a/1", b"x")
            self.assertEqual(client.messages.take().topic, "a/1")
            self.reload(EXCHANGES + rule("b", "r.new") + more)
            other.publish("b/1", b"x")
            self.assertEqual(client.messages.take().topic, "b/1")
            outside.bind("r.new")
            other.publish("b/2", b"x")
            self.assertEqual(outside.take()[0].routing_key, "b.2")


def allowed(name, publish, subscribe):
    return rule(name, more=f'allow = {{ publish = ["{publish}"], subscribe = ["{subscribe}"] }}')


class Users(Reloading):
    """Who may come in, and do what, changes under those who are in."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.line, cls.other = line_of(PASSWORD), line_of(OTHER)

    def table(self, *users, rules=None, more=""):
        return EXCHANGES + (rules or allowed("a", "writer", "reader")) + "[users]\nmax_failures = 0\n" + more + "".join(users)

    def alice(self, *roles, line=None):
        return user("alice", line or self.line, *roles)

    def bob(self, *roles):
        return user("bob", self.line, *roles)

    def log_in(self, name="alice", password=PASSWORD):
        """A client of each kind."""
        stomp = self.stomp(login=name, passcode=password)
        peer = self.open(Peer(self.gw.addresses["mqtt"], user=name, password=password.encode()))
        events = self.open(Events(self.gw, "a/%23", f"Authorization: {basic(name, password)['Authorization']}\r\n"))
        return stomp, peer, events

    def as_user(self, name, password=PASSWORD):
        return http(self.gw.addresses["web"], "POST", "/v1/topics/a/1", b"x", basic(name, password))[0]

    def test_roles_change_for_those_who_are_in(self):
        self.start(self.table(self.alice("writer", "reader"), self.bob("reader")))
        stomp, reader = self.stomp(login="alice", passcode=PASSWORD), self.stomp(login="bob", passcode=PASSWORD)
        reader.subscribe("/a/*")
        web = http_connection(self.gw.addresses["web"])
        self.addCleanup(web.close)

        def post(name):
            return http_request(web, "POST", "/v1/topics/a/1", b"x", basic(name, PASSWORD))[0]
        stomp.send("/a/1", b"1")
        self.assertEqual((post("alice"), post("bob")), (202, 403))
        # The roles' order of appearance, and with it their numbers, is another now.
        self.reload(self.table(self.bob("reader", "writer"), self.alice("reader")))
        self.assertEqual((post("alice"), post("bob")), (403, 202))
        reader.send("/a/1", b"3")
        self.assertEqual([reader.messages.take().body for _ in range(3)], [b"1", b"x", b"x"])
        self.assertEqual(reader.messages.take().body, b"3")
        stomp.connection.send("/a/1", b"4")
        self.assertEqual(stomp.errors.take().headers["message"], "not permitted")

    def test_who_may_not_subscribe_any_more_is_told(self):
        self.start(self.table(self.alice("writer", "reader"), self.bob("writer")))
        stomp, peer, events = self.log_in()
        stomp.subscribe("/a/*")
        peer.subscribe("a/+")
        done = self.reload(self.table(self.alice("writer"), self.bob("writer", "reader")))
        self.assertEqual(done["users"], 2)
        self.assertEqual(stomp.errors.take().headers["message"], "not permitted")
        self.assertEqual(peer.reason(), 0x87)
        events.socket.read_to_end()
        self.assertEqual(self.gw.wait_log("reload.unsubscribed")["user"], "alice")

    def test_who_is_gone_or_has_another_password_is_ended(self):
        self.start(self.table(self.alice("reader", "writer"), self.bob("writer")))
        for users in ((self.bob("writer"),), (self.alice("reader", "writer", line=self.other), self.bob("writer"))):
            with self.subTest(users=len(users)):
                self.reload(self.table(self.alice("reader", "writer"), self.bob("writer")))
                stomp, peer, events = self.log_in()
                bob = self.stomp(login="bob", passcode=PASSWORD)
                self.assertEqual(self.as_user("alice"), 202)  # and is remembered
                before = self.gw.metric("headgate_logins_ended_total")
                self.reload(self.table(*users))
                self.assertEqual(stomp.errors.take().headers["message"], "not permitted")
                self.assertEqual(peer.reason(), 0x87)
                eventually(lambda: events.take().get("event") == "headgate.login-ended")
                self.assertEqual(self.as_user("alice"), 401)
                bob.send("/a/1", b"still here")
                eventually(lambda: self.gw.metric("headgate_logins_ended_total") >= before + 3)
        self.assertEqual(self.as_user("alice", OTHER), 202)

    def test_identities_may_come_and_go(self):
        self.start(EXCHANGES + rule("a"))
        silent, stays = self.stomp(), self.mqtt()
        self.reload(self.table(self.alice("writer")))
        silent.errors.take()
        stays.ends.take()
        self.assertEqual((self.post("a/1"), self.as_user("alice")), (401, 202))
        self.reload(self.table(self.alice("writer"), more='anonymous = "loopback"\nanonymous_roles = ["writer"]\n'))
        self.assertEqual(self.post("a/1"), 202)
        self.reload(EXCHANGES + rule("a"))
        self.assertEqual(self.post("a/1"), 202)

    def test_access_to_queues_changes(self):
        queue = '[[access]]\nqueue = "jobs"\nsubscribe = ["reader"]\nconfigure = ["reader"]\n'
        self.start(self.table(self.alice("reader")) + queue)
        stomp = self.stomp(login="alice", passcode=PASSWORD)
        stomp.subscribe("/queue/jobs")
        self.reload(self.table(self.alice("reader", "writer")) + queue)
        stomp.subscribe("/a/*", "1")
        self.reload(self.table(self.alice("reader", "writer")))
        self.assertEqual(stomp.errors.take().headers["message"], "not permitted")


class Limits(Reloading):
    def test_limits_change(self):
        self.start(EXCHANGES + "[limits]\nmax_subscriptions = 2\n")
        client = self.mqtt()
        self.assertEqual([client.subscribe(x) for x in "abc"], [[1], [1], [128]])
        self.reload(EXCHANGES + "[limits]\nmax_subscriptions = 3\n")
        self.assertEqual([client.subscribe(x) for x in "cd"], [[1], [128]])
        self.reload(EXCHANGES + "[limits]\nmax_subscriptions = 1\n")
        client.publish("a", b"x")  # who has more keeps them
        self.assertEqual(client.messages.take().topic, "a")

    def test_what_pages_may_do_and_the_level_of_the_log_change(self):
        self.start(EXCHANGES)
        field = {"Origin": "https://a.example"}
        self.assertNotIn("access-control-allow-origin", http(self.gw.addresses["web"], "POST", "/v1/topics/a", b"x", field)[1])
        text = config_text(self.amqp, EXCHANGES, web='cors_origins = ["https://a.example"]\n')
        self.gw.file.write_text(text.replace('level = "debug"', 'level = "warn"'))
        self.gw.signal(signal.SIGHUP)
        eventually(lambda: self.status()["done"] == 1)
        self.assertIn("access-control-allow-origin", http(self.gw.addresses["web"], "POST", "/v1/topics/a", b"x", field)[1])
        self.assertFalse([e for e in self.gw.events.all() if e["event"] == "reload.done"])


if __name__ == "__main__":
    import unittest
    unittest.main()
