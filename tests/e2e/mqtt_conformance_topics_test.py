# SPDX-License-Identifier: Apache-2.0
"""Topics and filters (4.7), shared subscriptions (4.8), $SYS."""
from harness import MqttConformance, conforms, eventually, mqtt5 as m

BOTH = (4, 5)
NOT_AUTHORIZED = 0x87

# The standard's own examples and some more: filter, topics it matches, topics it does not; under a level of the test's own.
MATCHES = (
    ("sport/tennis/player1/#", ("sport/tennis/player1", "sport/tennis/player1/ranking", "sport/tennis/player1/score/wimbledon"),
     ("sport/tennis", "sport/tennis/player2", "sport/tennis/player1x")),
    ("sport/#", ("sport", "sport/", "sport/x"), ("sports", "Sport/x", "x/sport")),
    ("#", ("a", "a/b", "/", "/a"), ()),
    ("sport/tennis/+", ("sport/tennis/player1", "sport/tennis/player2", "sport/tennis/"), ("sport/tennis/player1/ranking", "sport/tennis")),
    ("sport/+", ("sport/", "sport/x"), ("sport", "sport/x/y")),
    ("+/tennis/#", ("sport/tennis", "/tennis/a", "x/tennis/a/b"), ("tennis", "a/b/tennis")),
    ("sport/+/player1", ("sport/a/player1", "sport//player1"), ("sport/player1", "sport/a/b/player1")),
    ("+/+", ("a/b", "/finance", "finance/", "/"), ("finance", "/finance/")),
    ("/+", ("/finance", "/"), ("finance", "finance/", "/a/b")),
    ("ACCOUNTS", ("ACCOUNTS",), ("Accounts", "ACCOUNTS/", "/ACCOUNTS", "ACCOUNTS ")),
    ("Accounts payable", ("Accounts payable",), ("Accounts  payable", "Accountspayable")),
    ("a//b", ("a//b",), ("a/b", "a///b", "a/x/b")),
    ("//", ("//",), ("/", "///")),
    ("$x/+", ("$x/a",), ("$y/a", "x/a")),
    ("a.b/*/c", ("a.b/*/c",), ("a/b/*/c", "a.b/x/c", "a.b/*/x")),
)


# The built-in rule maps as RabbitMQ's plugins do, which give dots back as slashes; with a rule of one's own all comes back.
LOSSLESS = """
[[exchange]]
name = "topics"
type = "topic"
[[rule]]
name = "topics"
topic = "{path...}"
exchange = "topics"
key = "{path...}"
"""


class Topics(MqttConformance):
    config = LOSSLESS

    @conforms(v311="3.3.2-3 4.7.1-2 4.7.1-3 4.7.3-4", v5="3.3.2-3 4.7.1-1 4.7.1-2 4.7.3-4")
    def test_filters_match_as_the_standard_says(self):
        for level in BOTH:
            for keep in (False, True):
                for pattern, matched, others in MATCHES:
                    with self.subTest(pattern, level=level, keep=keep):
                        self.matches(pattern, matched, others, level, keep)

    def matches(self, pattern, matched, others, level, keep):
        base, sender = self.name(), self.peer()
        watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
        self.assertEqual(watch.subscribe((f"{base}/{pattern}", 1), (base + "/fence", 1)), [1, 1])
        fences = pattern == "#"
        for topic in (*others, *matched):
            sender.publish(f"{base}/{topic}", b"x")
        if not fences:
            sender.publish(base + "/fence", b"x")
        came = [watch.message().topic.removeprefix(base + "/") for _ in range(len(matched) + (not fences))]
        self.assertEqual(came, [*matched, *([] if fences else ["fence"])])
        self.assertEqual(watch.fence(), [])
        watch.leave()

    @conforms(v311="4.7.2-1", v5="4.7.2-1")
    def test_a_leading_wildcard_matches_no_topic_that_begins_with_a_dollar(self):
        for level in BOTH:
            base, sender = self.name(), self.peer()
            watch, direct = self.peer(level=level), self.peer(level=level)
            watch.subscribe(("#", 1), (f"+/{base}/#", 1), (f"+/{base}", 1))
            direct.subscribe((f"$priv/{base}/#", 1))
            sender.publish(f"$priv/{base}", b"dollar")
            sender.publish(f"$priv/{base}/a", b"dollar")
            self.assertEqual(direct.bodies(2), [b"dollar"] * 2)
            sender.publish(f"x/{base}", b"fence")
            while (packet := watch.message()).body != b"fence":
                self.assertFalse(packet.topic.startswith("$"), packet)

    @conforms(v311="4.7.2-1", v5="4.7.2-1")
    def test_retained_messages_keep_to_that_as_well(self):
        base, sender = self.name(), self.peer()
        sender.publish(f"$priv/{base}", b"dollar", retain=True)
        sender.publish(f"x/{base}", b"x", retain=True)
        watch = self.peer()
        watch.subscribe((f"+/{base}", 1))
        self.assertEqual((watch.message().topic, watch.fence()), (f"x/{base}", []))
        watch.subscribe((f"$priv/{base}", 1))
        self.assertEqual(watch.message().topic, f"$priv/{base}")

    @conforms(v311="3.3.5-2", v5="3.4.2-1")
    def test_sys_topics_are_the_server_s(self):
        for level in BOTH:
            watch, sender = self.peer(level=level), self.peer(level=level)
            watch.subscribe(("$SYS/#", 0))
            values = [watch.message() for _ in range(3)]
            self.assertTrue(all(p.topic.startswith("$SYS/") and p.retain for p in values), values)
            topic = values[0].topic
            for qos in (1, 2):
                self.assertEqual(sender.publish(topic, b"forged", qos, retain=True), NOT_AUTHORIZED if level == 5 else 0)
            self.assertNotIn(b"forged", [p.body for p in watch.fence()])
            everything = self.peer(level=level)
            everything.subscribe(("#", 0), ("+/+", 0))
            self.assertEqual([p for p in everything.fence() if p.topic.startswith("$SYS")], [])

    @conforms(v5="4.8.2-1 4.8.2-2")
    def test_a_shared_filter_must_be_whole(self):
        for bad in ("$share//a", "$share/g", "$share/g/", "$share/g+/a", "$share/g#/a", "$share/+/a", "$share/#", "$share/"):
            peer = self.peer()
            peer.send(m.subscribe(1, (bad, 1)))
            self.assertIn(peer.reason(), (0x81, 0x82, 0x8F), bad)
        self.assertEqual(self.peer(level=4).subscribe((f"$share/{self.name()}/a", 1)), [1])  # nothing special in 3.1.1

    @conforms(v5="4.8.2-1 4.8.2-3")
    def test_a_group_shares_the_messages_each_member_at_its_qos(self):
        topic, sender = self.name(), self.peer()
        group = f"$share/{self.name('g')}/{topic}/+"
        members = [self.peer() for _ in range(3)]
        for qos, member in enumerate(members):
            self.assertEqual(member.subscribe((group, qos), subscription_id=qos + 1), [qos])
        alone = self.peer()
        alone.subscribe((topic + "/#", 2))
        for i in range(60):
            sender.publish(f"{topic}/a", b"%d" % i, qos=2)
        self.assertEqual(alone.bodies(60), [b"%d" % i for i in range(60)])
        came = []

        def collect():
            for qos, member in enumerate(members):
                for packet in member.fence():
                    if packet.kind == m.PUBREL:
                        member.send(m.ack(m.PUBCOMP, packet.packet_id))
                        continue
                    self.assertEqual((packet.qos, packet.properties), (qos, {"subscription_id": [qos + 1]}))
                    came.append((int(packet.body), qos))
                    if qos:
                        member.send(m.ack(m.PUBACK if qos == 1 else m.PUBREC, packet.packet_id))
            return len(came) >= 60
        eventually(collect)
        self.assertEqual(sorted(i for i, _ in came), list(range(60)))
        self.assertEqual({qos for _, qos in came}, {0, 1, 2})  # nobody went without

    @conforms(v5="4.8.2-1")
    def test_groups_do_not_share_with_each_other_and_a_leaver_leaves_its_messages(self):
        topic, sender = self.name(), self.peer()
        groups = [f"$share/{self.name('g')}/{topic}" for _ in range(2)]
        first, second, other = self.peer(receive_maximum=1), self.peer(), self.peer()
        first.subscribe((groups[0], 1))
        second.subscribe((groups[0], 1))
        other.subscribe((groups[1], 1))
        for i in range(10):
            sender.publish(topic, b"%d" % i)
        self.assertEqual(other.bodies(10), [b"%d" % i for i in range(10)])
        first.next(m.PUBLISH)  # not acknowledged: it holds one, and gets no more
        first.drop()
        self.assertEqual(sorted(second.bodies(10)), [b"%d" % i for i in range(10)])
        self.assertEqual(second.unsubscribe(groups[0], groups[0]), [0, 0x11])
        sender.publish(topic, b"x")
        self.assertEqual((second.fence(), other.message().body), ([], b"x"))

    @conforms(v5="4.8.2-6 4.4.0-2")
    def test_what_a_member_refuses_is_offered_to_nobody_else(self):
        topic, sender = self.name(), self.peer()
        group = f"$share/{self.name('g')}/{topic}"
        first, second = self.peer(), self.peer()
        first.subscribe((group, 2))
        for qos, kind in ((1, m.PUBACK), (2, m.PUBREC)):
            sender.publish(topic, b"refused", qos=qos)
            first.send(m.ack(kind, first.next(m.PUBLISH).packet_id, 0x83))
        self.assertEqual(first.fence(), [])
        second.subscribe((group, 2))
        first.unsubscribe(group)
        sender.publish(topic, b"next")
        self.assertEqual((second.message().body, second.fence()), (b"next", []))

    @conforms(v5="4.8.2-4 4.8.2-5")
    def test_a_qos_2_delivery_that_a_member_has_begun_stays_with_it(self):
        topic, sender, client_id = self.name(), self.peer(), self.name("c")
        group = f"$share/{self.name('g')}/{topic}"
        first = self.kept(client_id)
        first.subscribe((group, 2))
        sender.publish(topic, b"begun", qos=2)
        packet_id = first.next(m.PUBLISH).packet_id
        first.send(m.ack(m.PUBREC, packet_id))
        first.next(m.PUBREL)
        second = self.peer()
        second.subscribe((group, 2))
        first.drop()
        sender.publish(topic, b"next", qos=2)
        self.assertEqual((second.message().body, second.fence()), (b"next", []))
        first = self.kept(client_id)
        self.assertEqual(first.next(m.PUBREL).packet_id, packet_id)
        first.send(m.ack(m.PUBCOMP, packet_id))
        first.leave(session_expiry=0)
        sender.publish(topic, b"last", qos=2)
        self.assertEqual((second.message().body, second.fence()), (b"last", []))
