# SPDX-License-Identifier: Apache-2.0
"""Wills (3.1.2.5 to 3.1.2.7, 3.1.3.2 to 3.1.3.4, 3.14.4)."""
from harness import MqttConformance, conforms, mqtt5 as m

BOTH = (4, 5)
WITH_WILL = 0x04


class Wills(MqttConformance):
    config = "[limits]\nmax_topic_levels = 8\n"

    def watch(self, *topics, level=5, options=2):
        peer = self.peer(level=level)
        peer.subscribe(*((topic, options) for topic in topics))
        return peer

    def assert_silent(self, watch, topic):
        """No will came: what was published later did."""
        self.peer().publish(topic, b"fence")
        self.assertEqual(watch.message().body, b"fence")

    @conforms(v311="3.1.2-8 3.1.2-9 3.1.2-14 3.1.2-16", v5="3.1.2-7 3.1.2-8 3.1.2-9 3.1.2-12 3.1.2-14")
    def test_a_connection_that_fails_publishes_the_will(self):
        for level in BOTH:
            for qos in (0, 1, 2):
                topic = self.name()
                watch = self.watch(topic, level=level)
                self.peer(level=level, will=m.Will(topic, b"gone", qos)).drop()
                came = watch.message()
                self.assertEqual((came.body, came.qos, came.retain), (b"gone", qos, False))
                self.assertEqual(self.watch(topic).fence(), [])  # not retained

    @conforms(v311="3.1.2-8", v5="3.1.2-8")
    def test_so_does_one_that_is_closed_without_disconnect(self):
        ends = {
            "closed": lambda peer: peer.close(),
            "malformed": lambda peer: peer.send(b"\0\0"),
            "taken over": lambda peer: self.peer(peer.client_id, peer.level),
        }

        def check(end, level):
            topic = self.name()
            watch = self.watch(topic)
            end(self.peer(level=level, will=m.Will(topic, b"gone", 1)))
            self.assertEqual(watch.message().body, b"gone")
        self.each(ends, check, BOTH)

    @conforms(v311="3.1.2-17", v5="3.1.2-15")
    def test_a_will_with_retain_is_retained(self):
        for level in BOTH:
            for qos in (0, 1):
                topic = self.name()
                watch = self.watch(topic)
                self.peer(level=level, will=m.Will(topic, b"gone", qos, retain=True)).drop()
                self.assertFalse(watch.message().retain)
                late = self.watch(topic).message()
                self.assertEqual((late.body, late.qos, late.retain), (b"gone", qos, True))

    @conforms(v311="3.1.2-10 3.14.4-1 3.14.4-3", v5="3.1.2-10 3.14.4-3")
    def test_disconnect_discards_the_will(self):
        for level in BOTH:
            for clean in (True, False):
                topic, client_id = self.name(), self.name("c")
                watch = self.watch(topic)
                self.kept(client_id, level, clean, will=m.Will(topic, b"gone", 1)).leave()
                self.assert_silent(watch, topic)
                self.kept(client_id, level, clean).drop()  # it is not kept with the session
                self.assert_silent(watch, topic)

    @conforms(v5="3.1.2-8 3.14.4-3")
    def test_disconnect_with_another_reason_publishes_it(self):
        for reason in (WITH_WILL, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99):
            topic = self.name()
            watch = self.watch(topic)
            self.peer(will=m.Will(topic, b"gone", 1)).leave(reason)
            self.assertEqual(watch.message().body, b"gone", hex(reason))

    @conforms(v311="3.14.1-1", v5="3.14.1-1")
    def test_a_disconnect_that_is_malformed_does_not_discard_it(self):
        for level in BOTH:
            topic = self.name()
            watch = self.watch(topic)
            self.peer(level=level, will=m.Will(topic, b"gone", 1)).send(m.packet(m.DISCONNECT, flags=4))
            self.assertEqual(watch.message().body, b"gone")

    @conforms(v311="3.1.2-10 3.1.2-12", v5="3.1.2-10")
    def test_a_will_is_published_once_and_none_without_one(self):
        for level in BOTH:
            topic, client_id = self.name(), self.name("c")
            watch = self.watch(topic)
            self.kept(client_id, level, will=m.Will(topic, b"gone", 1)).drop()
            self.assertEqual(watch.message().body, b"gone")
            self.kept(client_id, level).drop()
            self.assert_silent(watch, topic)

    @conforms(v5="3.1.2-8 3.1.3-9")
    def test_a_will_waits_for_its_delay_unless_the_client_is_back(self):
        topic, late, client_id = self.name(), self.name(), self.name("c")
        watch = self.watch(topic, late)
        self.kept(client_id, will=m.Will(topic, b"gone", 1, will_delay=1)).drop()
        back = self.kept(client_id)
        self.kept(self.name("c"), will=m.Will(late, b"late", 1, will_delay=2)).drop()
        came = watch.message()  # after two seconds at least: the other, which was due before, did not come
        self.assertEqual((came.topic, came.body), (late, b"late"))
        self.assertEqual(back.fence(), [])

    @conforms(v5="3.1.2-8")
    def test_a_will_does_not_outwait_its_session(self):
        for expiry in (None, 0, 1):
            topic = self.name()
            watch = self.watch(topic)
            options = {} if expiry is None else {"session_expiry": expiry}
            self.peer(will=m.Will(topic, b"gone", 1, will_delay=1000), **options).drop()
            self.assertEqual(watch.message().body, b"gone")

    @conforms(v5="3.1.2-4 3.1.2-8")
    def test_a_clean_start_ends_the_session_and_so_publishes_a_delayed_will(self):
        topic, client_id = self.name(), self.name("c")
        watch = self.watch(topic)
        self.kept(client_id, will=m.Will(topic, b"gone", 1, will_delay=1000)).drop()
        self.kept(client_id, clean=True)
        self.assertEqual(watch.message().body, b"gone")

    @conforms(v5="3.1.2-9 3.1.3-10 3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20")
    def test_a_will_keeps_its_properties(self):
        topic = self.name()
        watch = self.watch(topic)
        users = [("b", "1"), ("a", "2"), ("b", "3"), ("", "")]
        will = m.Will(topic, "gön".encode(), 1, payload_format=1, message_expiry=1000, content_type="text/plain",
                      response_topic="re/sponse", correlation_data=b"\0\xff", user=users)
        self.peer(will=will).drop()
        came = watch.message()
        self.assertLessEqual(came.properties.pop("message_expiry"), 1000)
        self.assertEqual(came.properties, {"payload_format": 1, "content_type": "text/plain", "response_topic": "re/sponse",
                                           "correlation_data": b"\0\xff", "user": users})

    @conforms(v311="3.3.5-2 3.2.2-5", v5="3.1.4-2 3.2.2-7")
    def test_a_will_that_could_not_be_published_is_refused_at_once(self):
        refused = {
            "not permitted": (m.Will("$SYS/forged", b"x"), 5, 0x87),
            "too many levels": (m.Will("/".join("abcdefghi"), b"x"), 5, 0x90),
        }

        def check(case, level):
            self.assertEqual(self.peer(level=level, will=case[0], refused=case[level - 3]).end(), [])
        self.each(refused, check, BOTH)
        self.assertEqual(self.peer(will=m.Will("w", b"\xff", payload_format=1), refused=0x99).end(), [])
