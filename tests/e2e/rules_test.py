# SPDX-License-Identifier: Apache-2.0
"""Rules as a whole: every type of exchange behind one, what they select, and each message once."""
from harness import Consumer, E2E, Mqtt, Stomp, eventually, http, mosquitto_pub

KINDS = ("topic", "direct", "fanout", "headers")
EXCHANGES = "".join(f'[[exchange]]\nname = "by.{kind}"\ntype = "{kind}"\n' for kind in KINDS)


def rule(name, topic, exchange, key="", more=""):
    return f'[[rule]]\nname = "{name}"\ntopic = "{topic}"\nexchange = "{exchange}"\nkey = "{key}"\n{more}\n'


class Rules(E2E):
    def start(self, rules, **options):
        self.gw = self.gateway(EXCHANGES + rules, **options)
        self.m = self.mqtt()
        self.s = self.open(Stomp(self.gw.addresses["stomp"]))

    def mqtt(self):
        return self.open(Mqtt(self.gw.addresses["mqtt"]))

    def topics(self, client, n):
        return [x.topic for x in client.messages.take_n(n)]

    def end(self, *clients):
        """Whatever else was under way to these has come before this has."""
        for c in clients:
            c.subscribe("the/end")
            c.publish("the/end", b"")
            self.assertEqual([x.topic for x in c.messages.take_n(1)], ["the/end"])

    def test_every_type_of_exchange_delivers_just_what_a_filter_matches(self):
        self.start("".join(rule(kind, f"by {kind}/{{x}}", f"by.{kind}", f"{kind}.{{x}}") for kind in KINDS))
        for kind in KINDS:
            with self.subTest(kind):
                one, other = self.mqtt(), self.mqtt()
                self.assertEqual(one.subscribe(f"by {kind}/a"), [1])
                self.assertEqual(other.subscribe(f"by {kind}/+"), [128 if kind == "direct" else 1])
                self.s.subscribe(f"/by {kind}/a", kind)
                for x in "bac":
                    self.m.publish(f"by {kind}/{x}", x.encode())
                self.assertEqual(self.topics(one, 1), [f"by {kind}/a"])
                if kind != "direct":
                    self.assertEqual(self.topics(other, 3), [f"by {kind}/{x}" for x in "bac"])
                self.assertEqual(self.s.messages.take().headers["destination"], f"/by {kind}/a")
                self.end(one, other)

    def test_a_stomp_wildcard_at_a_direct_exchange_is_refused_with_a_reason(self):
        self.start(rule("d", "d/{x}", "by.direct", "{x}"))
        self.s.connection.subscribe("/d/*", "0")
        self.assertIn(b"wildcard", self.s.errors.take().body)

    def test_rules_that_share_an_exchange_bring_a_message_once(self):
        for kind in ("topic", "fanout", "headers"):
            with self.subTest(kind):
                self.start(rule("one", "one/{x}", f"by.{kind}", "one.{x}") + rule("two", "two/{x}", f"by.{kind}", "two.{x}"))
                self.m.subscribe("#")
                self.s.subscribe("/#")
                self.m.publish("one/a", b"1")
                self.m.publish("two/a", b"2")
                self.assertEqual(self.topics(self.m, 2), ["one/a", "two/a"])
                self.assertEqual([self.s.messages.take().headers["destination"] for _ in range(2)], ["/one/a", "/two/a"])
                self.m.publish("the/end", b"")
                self.assertEqual(self.topics(self.m, 1), ["the/end"])
                self.assertEqual(self.s.messages.take().headers["destination"], "/the/end")
                self.gw.stop()

    def test_each_protocol_may_have_an_address_of_its_own(self):
        self.start('[[rule]]\nname = "own"\nmqtt = "dev/{id}/up"\nstomp = "devices/{id}"\nhttp = "/d/{id}"\n'
                   'exchange = "by.topic"\nkey = "d.{id}"\n')
        c = self.open(Consumer(self.amqp))
        c.bind("by.topic")
        self.m.subscribe("dev/+/up")
        self.s.subscribe("/devices/*")
        self.m.publish("dev/1/up", b"")
        self.s.send("/devices/2", b"")
        self.assertEqual(http(self.gw.addresses["web"], "POST", "/d/3", b"")[0], 202)
        self.assertEqual([x[0].routing_key for x in c.take_n(3)], ["d.1", "d.2", "d.3"])
        self.assertEqual(self.topics(self.m, 3), ["dev/1/up", "dev/2/up", "dev/3/up"])
        self.assertEqual([self.s.messages.take().headers["destination"] for _ in range(3)],
                         ["/devices/1", "/devices/2", "/devices/3"])

    def test_an_address_that_no_key_can_hold_travels_in_a_header(self):
        self.start(rule("long", "long/{rest...}", "by.topic", "long.{rest...}", 'overlong = "hash"')
                   + rule("short", "short/{rest...}", "by.topic", "short.{rest...}"))
        address = "long/" + "/".join(str(i) * 50 for i in range(9))
        other = self.mqtt()
        self.m.subscribe(address)
        other.subscribe("long/#")
        self.s.subscribe("/" + address)
        mosquitto_pub(self.gw.addresses["mqtt"], address, b"x")
        self.assertEqual(self.topics(self.m, 1) + self.topics(other, 1), [address] * 2)
        self.assertEqual(self.s.messages.take().headers["destination"], "/" + address)
        status, _, answer = http(self.gw.addresses["web"], "POST", "/v1/topics/short" + address.removeprefix("long"), b"x")
        self.assertEqual((status, b"KEY_TOO_LONG" in answer), (414, True), answer)

    def test_an_exchange_bound_to_anothers_is_mapped_back_by_via(self):
        self.start('[[exchange]]\nname = "inner"\ntype = "topic"\nbindings = [{ exchange = "by.fanout", key = "" }]\n'
                   + rule("inner", "inner/{rest...}", "inner", "{rest...}", 'via = ["by.fanout"]'))
        self.m.subscribe("inner/#")
        self.s.subscribe("/inner/a/b")
        c = self.open(Consumer(self.amqp))
        c.publish("by.fanout", "a.b", b"x")
        self.assertEqual(self.topics(self.m, 1), ["inner/a/b"])
        self.assertEqual(self.s.messages.take().headers["destination"], "/inner/a/b")

    def test_many_subscriptions_of_a_rule_become_one_binding(self):
        self.start(rule("wide", "wide/{x}", "by.topic", "wide.{x}"), rabbitmq="widen_after = 3", workers=1)
        for i in range(8):
            self.m.subscribe(f"wide/{i}")
        self.s.subscribe("/wide/7")
        for i in range(9):
            self.m.publish(f"wide/{i}", b"")
        self.assertEqual(self.topics(self.m, 8), [f"wide/{i}" for i in range(8)])
        self.assertEqual(self.s.messages.take().headers["destination"], "/wide/7")
        bindings = self.bindings()
        self.assertEqual(bindings["by.topic"], ["wide.*", "wide.0", "wide.1", "wide.2"])
        self.assertEqual(bindings["amq.topic"], ["wide.*", "wide.0", "wide.1"], "by the built-in rule, along with it")

    def bindings(self):
        """Binding keys by exchange, but for those of retained messages."""
        keys = {}
        for line in self.broker.ctl("list_bindings", "-p", self.vhost, "source_name", "routing_key").splitlines():
            exchange, key = line.split("\t")
            if key != "headgate.retain":
                keys.setdefault(exchange, []).append(key)
        return {exchange: sorted(found) for exchange, found in keys.items()}

    def test_a_subscription_under_a_wide_rule_costs_rabbitmq_no_binding(self):
        self.start(rule("here", "here/{rest...}", "amq.topic", "here.{rest...}", 'binding_scope = "wide"')
                   + rule("there", "there/{x}", "by.topic", "x.{x}", 'binding_scope = "wide"'), workers=1)
        other = self.mqtt()
        for i in range(5):
            self.m.subscribe(f"here/{i}/a")
            other.subscribe(f"there/{i}")
        self.assertEqual(self.gw.metric("headgate_bindings"), 3, "here.# and there.* of amq.topic, x.* of by.topic")
        for i in range(5):
            self.m.publish(f"there/{i}", b"")
            other.publish(f"here/{i}/a", b"")
        self.assertEqual(self.topics(self.m, 5), [f"here/{i}/a" for i in range(5)])
        self.assertEqual(self.topics(other, 5), [f"there/{i}" for i in range(5)])
        c = self.open(Consumer(self.amqp))
        c.publish("amq.topic", "there.3", b"")
        self.assertEqual(self.topics(other, 1), ["there/3"])

    def test_no_binding_outlives_its_last_subscriber(self):
        self.start(rule("t", "t/{x}", "by.topic", "t.{x}"), workers=1)
        n = self.mqtt()

        def bound():
            lines = self.broker.ctl("list_bindings", "-p", self.vhost, "source_name", "routing_key").splitlines()
            return {tuple(line.split("\t")) for line in lines
                    if line.startswith(("by.topic\t", "amq.topic\t")) and not line.endswith("\theadgate.retain")}

        # An AMQP client may publish to the exchange of the built-in rule as well, and that maps back.
        one = {("by.topic", "t.1"), ("amq.topic", "t.1")}
        two = {("by.topic", "t.2"), ("amq.topic", "t.2")}
        plain = {("amq.topic", "plain.#")}
        self.m.subscribe("t/1", "t/2", "plain/#")
        n.subscribe("t/1")
        self.s.subscribe("/topic/plain.#")
        self.assertEqual(bound(), one | two | plain)
        self.m.close()
        eventually(lambda: bound() == one | plain)
        self.s.unsubscribe()
        n.unsubscribe("t/1")
        eventually(lambda: not bound())

    def test_what_a_queues_subscriber_was_shown_is_not_shown_to_the_next(self):
        self.start('[[queue]]\nname = "jobs"\n')
        sent = [b"%d" % i for i in range(3000)]
        c = self.open(Consumer(self.amqp))
        for body in sent:
            c.publish("", "jobs", body, delivery_mode=2)
        got = []
        for _ in range(20):  # leaves while more is on its way
            if len(got) == len(sent):
                break  # a slow test gets them all before it has left
            self.s.subscribe("/queue/jobs")
            got.append(self.s.messages.take().body)
            self.s.unsubscribe()
            got += [f.body for f in self.s.messages.take_n(len(self.s.messages.all()))]
        self.s.subscribe("/queue/jobs")
        while len(got) < len(sent):
            got.append(self.s.messages.take().body)
        self.assertEqual(sum(got.count(body) - 1 for body in set(got)), 0, "messages shown twice")


class Queues(E2E):
    RULES = """
[[exchange]]
name = "by.headers"
type = "headers"
[[queue]]
name = "work"
[[rule]]
name = "headers"
topic = "h/{what}"
exchange = "by.headers"
key = "h.{what}"
[[rule]]
name = "work"
topic = "work"
queue = "work"
"""

    def test_a_headers_exchange_behind_a_rule_gives_each_subscriber_a_queue(self):
        gw = self.gateway(self.RULES)
        s, m = self.open(Stomp(gw.addresses["stomp"])), self.open(Mqtt(gw.addresses["mqtt"]))
        other = self.open(Consumer(self.amqp))
        s.subscribe("/h/a")
        m.subscribe("h/+")
        other.bind("by.headers", "")
        s.send("/h/a", b"1", colour="red")
        m.publish("h/b", b"2")
        self.assertEqual((s.messages.take().body, [x.payload for x in m.messages.take_n(2)]), (b"1", [b"1", b"2"]))
        self.assertEqual([x[1].headers for x in other.take_n(2)], [{"colour": "red"}, None])
        s.unsubscribe()
        m.publish("h/a", b"3")
        self.assertEqual(m.messages.take().payload, b"3")
        self.assertEqual(s.messages.all(), [])
        eventually(lambda: self.broker.ctl("list_queues", "-p", self.vhost, "name").count("headgate.own.") == 1)

    def test_a_rules_queue_is_shared_by_subscribers_of_every_protocol(self):
        gw = self.gateway(self.RULES)
        s = self.open(Stomp(gw.addresses["stomp"]))
        m, n = (self.open(Mqtt(gw.addresses["mqtt"])) for _ in range(2))
        s.subscribe("/work")
        m.subscribe("work")
        publisher = self.open(Consumer(self.amqp))
        for i in range(4):
            http(gw.addresses["web"], "POST", "/v1/topics/work", b"http %d" % i)
            mosquitto_pub(gw.addresses["mqtt"], "work", b"mqtt %d" % i)
            publisher.publish("", "work", b"amqp %d" % i, delivery_mode=2)
        sent = sorted(b"%s %d" % (p, i) for p in (b"http", b"mqtt", b"amqp") for i in range(4))
        eventually(lambda: len(s.messages.all()) + len(m.messages.all()) == 12)
        frames, packets = s.messages.take_n(6), m.messages.take_n(6)
        self.assertEqual(sorted([f.body for f in frames] + [p.payload for p in packets]), sent)
        self.assertEqual({f.headers["destination"] for f in frames} | {"/" + p.topic for p in packets}, {"/work"})
        s.unsubscribe()
        m.unsubscribe("work")
        publisher.publish("", "work", b"waits")
        n.subscribe("work")
        self.assertEqual(n.messages.take().payload, b"waits")
