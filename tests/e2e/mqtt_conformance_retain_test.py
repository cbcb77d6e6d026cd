# SPDX-License-Identifier: Apache-2.0
"""Retained messages (3.3.1.3) and the subscription options about them (3.8.3.1)."""
from harness import MqttConformance, conforms, mqtt5 as m

BOTH = (4, 5)
RETAIN_AS_PUBLISHED, SEND_IF_NEW, DO_NOT_SEND = 0x08, 0x10, 0x20


class Retain(MqttConformance):
    def late(self, *filters, level=5, **values):
        """A subscriber that comes now."""
        peer = self.peer(level=level)
        peer.subscribe(*(f if isinstance(f, tuple) else (f, 2) for f in filters), **values)
        return peer

    def nothing(self, watch, topic):
        """No message is there or on its way: what is published now comes first."""
        self.peer().publish(topic, b"fence", qos=2)
        self.assertEqual((watch.message().body, watch.fence()), (b"fence", []))

    @conforms(v311="3.3.1-5 3.3.1-6 3.3.1-7 3.3.1-8 3.3.1-9", v5="3.3.1-5 3.3.1-9 3.3.1-12")
    def test_a_retained_message_is_kept_with_its_qos_and_replaced(self):
        for level in BOTH:
            topic, sender = self.name(), self.peer(level=level)
            there = self.late(topic, level=level)
            for qos in (0, 1, 2, 0):
                sender.publish(topic, b"%d" % qos, qos, retain=True)
                came = there.message()
                self.assertEqual((came.body, came.qos, came.retain), (b"%d" % qos, qos, False))
                sender.publish(topic, b"", qos=1)  # not retained; QoS 0 has no answer, so this fences
                there.message()
                for granted in (0, 1, 2):
                    late = self.late((topic, granted), level=level)
                    came = late.message()
                    self.assertEqual((came.body, came.qos, came.retain), (b"%d" % qos, min(qos, granted), True))
                    self.assertEqual(late.fence(), [])

    @conforms(v311="3.3.1-10 3.3.1-11", v5="3.3.1-6 3.3.1-7")
    def test_an_empty_one_is_delivered_and_removes(self):
        for level in BOTH:
            for qos in (0, 1, 2):
                topic, sender = self.name(), self.peer(level=level)
                sender.publish(topic, b"kept", retain=True)
                there = self.late(topic, level=level)
                self.assertEqual(there.message().body, b"kept")
                for _ in range(2):  # also where nothing was retained
                    sender.publish(topic, b"", qos, retain=True)
                    came = there.message()
                    self.assertEqual((came.body, came.retain), (b"", False))
                self.nothing(self.late(topic, level=level), topic)

    @conforms(v311="3.3.1-12", v5="3.3.1-8")
    def test_a_publish_without_retain_changes_nothing(self):
        for level in BOTH:
            topic, sender = self.name(), self.peer(level=level)
            sender.publish(topic, b"not kept")
            self.nothing(self.late(topic, level=level), topic)
            sender.publish(topic, b"kept", retain=True)
            sender.publish(topic, b"other")
            sender.publish(topic, b"")
            self.assertEqual(self.late(topic, level=level).message().body, b"kept")

    @conforms(v311="3.3.1-6", v5="3.3.1-9")
    def test_a_filter_gets_all_it_matches(self):
        base, sender = self.name(), self.peer()
        topics = [base, f"{base}/a", f"{base}/b", f"{base}/a/b", f"{base}/a/b/c", f"{base}//", f"{base}/ü"]
        for topic in topics:
            sender.publish(topic, topic.encode(), retain=True)
        filters = {
            f"{base}/#": topics, f"{base}/+": [topics[1], topics[2], topics[6]], f"{base}/+/b": [topics[3]], f"{base}/+/#": topics[1:],
            "+/a/b/#": topics[3:5], f"{base}": topics[:1], f"{base}/a/+/+": [topics[4]], f"{base}/+/": [topics[5]], f"{base}/x": [],
        }

        def check(pattern, expected, level):
            late = self.late((pattern, 0), level=level)
            self.assertEqual(sorted(late.message().body.decode() for _ in expected), sorted(expected))
            self.assertEqual(late.fence(), [])
        for level in BOTH:
            for pattern, expected in filters.items():
                with self.subTest(pattern, level=level):
                    check(pattern, expected, level)

    @conforms(v311="3.8.4-3", v5="3.3.1-9 3.8.4-3 3.8.4-4")
    def test_a_subscription_made_again_gets_them_again(self):
        for level in BOTH:
            topic, sender = self.name(), self.peer()
            sender.publish(topic, b"kept", retain=True)
            watch = self.late(topic, level=level)
            for _ in range(3):
                self.assertEqual(watch.message().body, b"kept")
                watch.subscribe((topic, 1))
            self.assertEqual((watch.message().qos, watch.fence()), (1, []))
            self.nothing(watch, topic)

    @conforms(v5="3.3.1-10")
    def test_retain_handling_1_sends_to_new_subscriptions_alone(self):
        for make in (lambda **o: self.peer(), lambda **o: self.kept(self.name("c"))):
            topic, sender, watch = self.name(), self.peer(), make()
            sender.publish(topic, b"kept", retain=True)
            watch.subscribe((topic, 1 | SEND_IF_NEW))
            self.assertEqual(watch.message().body, b"kept")
            watch.subscribe((topic, 2 | SEND_IF_NEW))
            self.nothing(watch, topic)
            watch.unsubscribe(topic)
            watch.subscribe((topic, 1 | SEND_IF_NEW))
            self.assertEqual(watch.message().body, b"kept")

    @conforms(v5="3.3.1-10 3.1.2-5")
    def test_a_subscription_that_came_back_with_its_session_is_not_new(self):
        topic, client_id = self.name(), self.name("c")
        self.peer().publish(topic, b"kept", retain=True)
        watch = self.kept(client_id)
        watch.subscribe((topic, 1 | DO_NOT_SEND))
        watch.leave()
        watch = self.kept(client_id)
        watch.subscribe((topic, 1 | SEND_IF_NEW))
        self.nothing(watch, topic)

    @conforms(v5="3.3.1-11")
    def test_retain_handling_2_sends_none(self):
        topic = self.name()
        self.peer().publish(topic, b"kept", retain=True)
        self.nothing(self.late((topic, 2 | DO_NOT_SEND)), topic)

    @conforms(v5="3.3.1-12 3.3.1-13")
    def test_retain_as_published_keeps_the_flag(self):
        topic, sender = self.name(), self.peer()
        plain, kept, queue = self.late(topic), self.late((topic, 2 | RETAIN_AS_PUBLISHED)), self.kept(self.name("c"))
        queue.subscribe((topic, 1 | RETAIN_AS_PUBLISHED))
        for body in (b"x", b""):
            for qos in (0, 1, 2):
                for retain in (True, False):
                    sender.publish(topic, body, qos, retain)
                    self.assertEqual([w.message().retain for w in (plain, kept, queue)], [False, retain, retain])
        sender.publish(topic, b"kept", retain=True)
        self.assertTrue(self.late(topic).message().retain)  # served: always

    @conforms(v5="3.3.4-3 3.3.4-4 3.3.2-17 3.3.2-20")
    def test_what_is_served_has_its_properties_and_the_subscription_s_identifier(self):
        topic = self.name()
        values = {"content_type": "t", "user": [("b", "1"), ("a", "2"), ("b", "0")], "response_topic": "r", "correlation_data": b"\0",
                  "payload_format": 1}
        self.peer().publish(topic, b"kept", retain=True, **values)
        self.assertEqual(self.late(topic, subscription_id=9).message().properties, {**values, "subscription_id": [9]})

    @conforms(v5="3.3.2-5 3.3.2-6")
    def test_a_retained_message_expires(self):
        topic, sender = self.name(), self.peer()
        sender.publish(topic + "/long", b"kept", retain=True, message_expiry=100)
        sender.publish(topic + "/short", b"gone", retain=True, message_expiry=1)
        timer = self.late(topic + "/timer")
        self.kept(self.name("c"), will=m.Will(topic + "/timer", b"", will_delay=2)).drop()
        timer.message()
        late = self.late(topic + "/#")
        came = late.message()
        self.assertEqual(came.body, b"kept")
        self.assertLessEqual(came.properties["message_expiry"], 98)
        self.assertEqual(late.fence(), [])

    @conforms(v311="3.1.2-7", v5="3.1.2-4")
    def test_what_is_retained_survives_its_publisher(self):
        for level in BOTH:
            topic = self.name()
            sender = self.peer(level=level)
            sender.publish(topic, b"kept", retain=True)
            sender.drop()
            self.assertEqual(self.late(topic, level=level).message().body, b"kept")

    @conforms(v5="3.3.1-9")
    def test_shared_subscriptions_are_sent_none(self):
        topic = self.name()
        self.peer().publish(topic, b"kept", retain=True)
        watch = self.peer()
        self.assertEqual(watch.subscribe((f"$share/{self.name()}/{topic}", 2)), [2])
        self.nothing(watch, topic)
