# SPDX-License-Identifier: Apache-2.0
"""SUBSCRIBE, UNSUBSCRIBE and their answers (3.8 to 3.11), overlapping subscriptions (3.3.4)."""
from harness import MqttConformance, conforms, mqtt5 as m

BOTH = (4, 5)
NO_SUBSCRIPTION, QUOTA = 0x11, 0x97
NO_LOCAL = 0x04

# A direct exchange knows no wildcards.
RULES = """
[[exchange]]
name = "exact"
type = "direct"
[[rule]]
name = "exact"
topic = "exact/{x}"
exchange = "exact"
key = "{x}"
"""


class Subscribe(MqttConformance):
    config = '[limits]\nmax_subscriptions = 20\n' + RULES

    @conforms(v311="3.8.3-4 3.8.4-1 3.8.4-2 3.8.4-4 3.8.4-5 3.9.3-1 3.9.3-2", v5="3.8.4-1 3.8.4-2 3.8.4-5 3.8.4-6 3.8.4-7 3.9.3-1 3.9.3-2")
    def test_every_filter_gets_its_code_in_order(self):
        for level in BOTH:
            peer, base = self.peer(level=level), self.name()
            for wanted in ([0], [1], [2], [2, 0, 1], [0, 0, 2, 2, 1, 1, 0]):
                peer.send(m.subscribe(0x1234, *((f"{base}/{i}", qos) for i, qos in enumerate(wanted)), level=level))
                self.assertEqual((lambda p: (p.packet_id, p.reasons))(peer.next(m.SUBACK)), (0x1234, wanted))
            codes = peer.subscribe((base, 1), ("exact/+", 1), (base + "/#", 2))
            self.assertEqual((codes[0], codes[2]), (1, 2))
            self.assertEqual(codes[1], 0x83 if level == 5 else 0x80)
            self.assertEqual(peer.fence(), [])

    @conforms(v311="3.8.4-5", v5="3.8.4-7 3.9.3-2")
    def test_a_filter_over_the_limit_fails_alone(self):
        for level in BOTH:
            peer, base = self.peer(level=level), self.name()
            codes = peer.subscribe(*((f"{base}/{i}", 0) for i in range(18)))
            codes += peer.subscribe(*((f"{base}/{i}", 0) for i in range(18, 22)))
            self.assertEqual(codes, [0] * 20 + [QUOTA if level == 5 else 0x80] * 2)
            self.assertEqual(peer.subscribe((f"{base}/0", 1)), [1])  # replacing one is still possible

    @conforms(v5="3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2 3.1.2-24")
    def test_answers_fit_the_client(self):
        whole = self.peer()
        whole.send(m.subscribe(1, ("exact/+", 1)))
        size = len(whole.next(m.SUBACK).raw)
        for limit in range(20, max(size, 21) + 1):
            peer = self.peer(maximum_packet_size=limit)
            peer.send(m.subscribe(1, ("exact/+", 1)) + m.unsubscribe(2, "exact/+"))
            came = [peer.next(m.SUBACK), peer.next(m.UNSUBACK)]
            self.assertLessEqual(max(len(p.raw) for p in came), limit)
        quiet = self.peer(request_problem=0)
        quiet.send(m.subscribe(1, ("exact/+", 1)) + m.unsubscribe(2, "exact/+"))
        self.assertEqual([quiet.next(m.SUBACK).properties, quiet.next(m.UNSUBACK).properties], [{}, {}])

    @conforms(v311="3.8.4-6", v5="3.8.4-8")
    def test_a_delivery_has_the_lower_qos(self):
        for level in BOTH:
            for keep in (False, True):
                base, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                for granted in (0, 1, 2):
                    watch.subscribe((f"{base}/{granted}", granted))
                    for sent in (0, 1, 2):
                        sender.publish(f"{base}/{granted}", b"x", sent)
                        self.assertEqual(watch.message().qos, min(granted, sent), (level, keep, granted, sent))

    @conforms(v311="3.8.4-3", v5="3.8.4-3")
    def test_the_same_filter_replaces_the_subscription(self):
        for level in BOTH:
            for keep in (False, True):
                topic, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                for qos in (0, 2, 1, 0, 1):
                    watch.subscribe((topic, qos), **({"subscription_id": qos + 1} if level == 5 else {}))
                    sender.publish(topic, b"x", qos=2)
                    came = watch.message()
                    self.assertEqual((came.qos, came.properties.get("subscription_id", [qos + 1])), (qos, [qos + 1]))
                    self.assertEqual(watch.fence(), [])

    @conforms(v311="3.8.4-3", v5="3.8.4-4")
    def test_nothing_is_missed_while_it_is_replaced(self):
        for level in BOTH:
            for keep in (False, True):
                topic, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                watch.subscribe((topic, 1))
                for i in range(60):
                    sender.send(m.publish(topic, str(i).encode(), 1, i + 1))
                    if i % 10 == 5:
                        watch.send(m.subscribe(100 + i, (topic, 1 + i // 10 % 2), level=level))
                self.assertEqual([b for b in watch.bodies(60)], [str(i).encode() for i in range(60)])

    @conforms(v311="3.3.5-1", v5="3.3.4-2 3.3.4-3 3.3.4-4")
    def test_overlapping_subscriptions_get_one_copy_at_the_highest_qos_with_all_identifiers(self):
        for level in BOTH:
            for keep in (False, True):
                base, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                for i, (pattern, qos) in enumerate((("{}/a", 0), ("{}/+", 2), ("{}/#", 1), ("+/a", 0)), 1):
                    watch.subscribe((pattern.format(base), qos), **({"subscription_id": i * 100000} if level == 5 and i != 3 else {}))
                for sent in (0, 1, 2):
                    sender.publish(base + "/a", b"x", sent)
                    came = watch.message()
                    self.assertEqual(came.qos, sent)
                    if level == 5:
                        self.assertEqual(sorted(came.properties["subscription_id"]), [100000, 200000, 400000])
                sender.publish(base + "/a/b", b"y", 2)
                came = watch.message()
                self.assertEqual((came.body, came.qos, came.properties), (b"y", 1, {}))
                self.assertEqual(watch.fence(), [])

    @conforms(v5="3.3.4-3 3.3.4-4")
    def test_a_subscription_identifier_comes_with_every_delivery(self):
        topic, sender = self.name(), self.peer()
        for identifier in (1, 127, 128, 16383, 16384, 2097152, 268435455):
            watch = self.peer()
            watch.subscribe((topic, 1), (topic + "/#", 0), subscription_id=identifier)
            sender.publish(topic, b"x")
            self.assertEqual(set(watch.message().properties["subscription_id"]), {identifier})

    @conforms(v5="3.8.3-3")
    def test_no_local_keeps_one_s_own_messages_away(self):
        for keep in (False, True):
            topic, other = self.name(), self.peer()
            peer = self.kept(self.name("c")) if keep else self.peer()
            peer.subscribe((topic, 1 | NO_LOCAL))
            for qos in (0, 1, 2):
                peer.publish(topic, b"own", qos)
            peer.publish(topic, b"own", retain=True)
            other.publish(topic, b"other's")
            self.assertEqual((peer.message().body, peer.fence()), (b"other's", []))
            # another filter of the same session that wants them gets them
            peer.subscribe((topic + "/#", 1))
            while peer.fence():
                pass  # the retained one
            peer.publish(topic, b"own")
            self.assertEqual(peer.message().body, b"own")
            peer.leave()
            other.publish(topic, b"", retain=True)

    @conforms(v311="3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.10.4-6", v5="3.10.4-1 3.10.4-2 3.10.4-4 3.10.4-5 3.10.4-6 3.11.3-1 3.11.3-2")
    def test_unsubscribing_ends_what_is_the_same_and_nothing_else(self):
        for level in BOTH:
            for keep in (False, True):
                base, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                watch.subscribe((f"{base}/a", 1), (f"{base}/b", 1), (f"{base}/#", 1), (f"{base}/+", 1))
                codes = watch.unsubscribe(f"{base}/a", f"{base}/x", f"{base}/#", f"{base}/A", f"{base}/+/")
                if level == 5:
                    self.assertEqual(codes, [0, NO_SUBSCRIPTION, 0, NO_SUBSCRIPTION, NO_SUBSCRIPTION])
                sender.publish(f"{base}/a/b", b"nobody's")
                sender.publish(f"{base}/a", b"+")
                self.assertEqual(watch.message().body, b"+")
                watch.unsubscribe(f"{base}/+")
                sender.publish(f"{base}/a", b"nobody's")
                sender.publish(f"{base}/b", b"b")
                self.assertEqual((watch.message().body, watch.fence()), (b"b", []))
                codes = watch.unsubscribe(f"{base}/+", f"{base}/b", f"{base}/b")
                if level == 5:
                    self.assertEqual(codes, [NO_SUBSCRIPTION, 0, NO_SUBSCRIPTION])
                sender.publish(f"{base}/b", b"nobody's")
                watch.subscribe((f"{base}/last", 1))
                sender.publish(f"{base}/last", b"last")
                self.assertEqual((watch.message().body, watch.fence()), (b"last", []))

    @conforms(v311="3.10.4-3", v5="3.10.4-3")
    def test_what_was_begun_is_completed_after_unsubscribing(self):
        for level in BOTH:
            for keep in (False, True):
                topic, sender = self.name(), self.peer()
                watch = self.kept(self.name("c"), level) if keep else self.peer(level=level)
                watch.subscribe((topic, 2))
                sender.publish(topic, b"1", qos=1)
                sender.publish(topic, b"2", qos=2)
                first, second = watch.next(m.PUBLISH), watch.next(m.PUBLISH)
                watch.unsubscribe(topic)
                watch.send(m.ack(m.PUBACK, first.packet_id) + m.ack(m.PUBREC, second.packet_id))
                self.assertEqual(watch.next(m.PUBREL).packet_id, second.packet_id)
                watch.send(m.ack(m.PUBCOMP, second.packet_id))
                self.assertEqual(watch.fence(), [])

    @conforms(v5="3.8.4-7")
    def test_wildcards_are_granted(self):
        for level in BOTH:
            peer = self.peer(level=level)
            filters = ("#", "+", "+/+", "a/#", "a/+/b", "/", "/#", "+/", "//")
            self.assertEqual(peer.subscribe(*((f, i % 3) for i, f in enumerate(filters))), [0, 1, 2] * 3)

    @conforms(v311="4.5.0-1", v5="4.5.0-1")
    def test_each_subscriber_gets_its_copy(self):
        for level in BOTH:
            topic, sender = self.name(), self.peer(level=level)
            watchers = [self.peer(level=4 + i % 2) for i in range(6)] + [self.kept(self.name("c")) for _ in range(2)]
            for i, watch in enumerate(watchers):
                watch.subscribe((topic if i % 3 else topic + "/#", i % 3))
            sender.publish(topic, b"x", qos=2)
            self.assertEqual([(p.body, p.qos) for p in (w.message() for w in watchers)], [(b"x", i % 3) for i in range(8)])
