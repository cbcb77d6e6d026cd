# SPDX-License-Identifier: Apache-2.0
"""Sessions: clean start, expiry, what is kept and resumed (3.1.2.4, 3.1.2.11.2, 4.1, 4.4)."""
import contextlib

import pika

from harness import MqttConformance, conforms, eventually, mqtt5 as m

BOTH = (4, 5)
TAKEN_OVER = 0x8E


class Kept(MqttConformance):
    def queue(self, client_id):
        """Messages in the session's queue in RabbitMQ; None: there is no such queue."""
        with contextlib.closing(pika.BlockingConnection(pika.URLParameters(self.amqp))) as connection:
            try:
                return connection.channel().queue_declare(f"mqtt-subscription-{client_id}qos1", passive=True).method.message_count
            except pika.exceptions.ChannelClosedByBroker:
                return None


class Sessions(Kept):
    @conforms(v311="3.1.2-4 3.1.3-2 3.2.2-2 3.2.2-3 4.1.0-1", v5="3.1.2-5 3.1.2-6 3.1.2-23 3.1.3-2 3.1.4-4 3.2.2-3")
    def test_session_present_says_whether_there_was_a_session(self):
        for level in BOTH:
            for end in ("leave", "drop"):
                client_id = self.name("c")
                for was_there in (False, True, True):
                    peer = self.kept(client_id, level)
                    self.assertEqual(peer.connack.present, was_there, (level, end))
                    getattr(peer, end)()

    @conforms(v311="3.1.2-6 3.1.4-3 3.2.2-1", v5="3.1.2-4 3.1.4-4 3.2.2-2")
    def test_a_clean_start_discards_the_session(self):
        for level in BOTH:
            topic, client_id, sender = self.name(), self.name("c"), self.peer()
            peer = self.kept(client_id, level)
            peer.subscribe((topic, 1))
            peer.leave()
            sender.publish(topic, b"old")
            peer = self.kept(client_id, level, clean=True)
            self.assertFalse(peer.connack.present)
            sender.publish(topic, b"unsubscribed")
            peer.subscribe((topic, 1))
            sender.publish(topic, b"new")
            self.assertEqual((peer.message().body, peer.fence()), (b"new", []))

    @conforms(v311="3.1.2-6")
    def test_a_clean_session_ends_with_its_connection(self):
        topic, client_id, sender = self.name(), self.name("c"), self.peer()
        peer = self.peer(client_id, level=4)
        peer.subscribe((topic, 1))
        peer.drop()
        sender.publish(topic, b"old")
        peer = self.kept(client_id, level=4)
        self.assertFalse(peer.connack.present)
        peer.subscribe((topic, 1))
        sender.publish(topic, b"new")
        self.assertEqual((peer.message().body, peer.fence()), (b"new", []))

    @conforms(v5="3.1.2-23 4.1.0-2")
    def test_without_an_expiry_the_session_ends_with_its_connection(self):
        for options in ({}, {"session_expiry": 0}):
            client_id = self.name("c")
            self.peer(client_id, clean=False, **options).drop()
            self.assertFalse(self.kept(client_id).connack.present)

    @conforms(v311="3.1.2-5 4.1.0-1 4.5.0-1 4.6.0-5 4.6.0-6", v5="3.1.2-5 3.1.2-23 4.5.0-1 4.6.0-5 4.6.0-6")
    def test_a_kept_session_collects_messages_in_order(self):
        for level in BOTH:
            for end in ("leave", "drop"):
                topic, client_id, sender = self.name(), self.name("c"), self.peer()
                peer = self.kept(client_id, level)
                self.assertEqual(peer.subscribe((topic + "/1", 1), (topic + "/2", 2)), [1, 2])
                getattr(peer, end)()
                if end == "drop":
                    self.kept(client_id, level).leave()  # so that the first one is closed, and is sent nothing any more
                for i in range(20):
                    sender.publish(f"{topic}/{1 + i % 2}", str(i).encode(), qos=1 + i % 2)
                peer = self.kept(client_id, level)
                came = [peer.message() for _ in range(20)]
                self.assertEqual([p.body for p in came], [str(i).encode() for i in range(20)])
                self.assertEqual([(p.qos, p.dup) for p in came], [(1, False), (2, False)] * 10)
                self.assertEqual(peer.fence(), [])

    @conforms(v311="3.1.2-4 3.1.2-5", v5="3.1.2-5")
    def test_subscriptions_come_back_with_their_options(self):
        topic, client_id, sender = self.name(), self.name("c"), self.peer()
        peer = self.kept(client_id)
        sid = {"subscription_id": 77}
        peer.subscribe((topic + "/zero", 0))
        peer.subscribe((topic + "/one", 1), **sid)
        peer.subscribe((topic + "/own", 1 | 0x04))  # no local
        peer.subscribe((topic + "/as", 1 | 0x08))   # retain as published
        peer.drop()
        peer = self.kept(client_id)
        self.assertTrue(peer.connack.present)
        sender.publish(topic + "/zero", b"0")
        self.assertEqual(peer.message().qos, 0)
        sender.publish(topic + "/one", b"1", qos=2)
        came = peer.message()
        self.assertEqual((came.qos, came.properties), (1, {"subscription_id": [77]}))
        peer.publish(topic + "/own", b"own")
        sender.publish(topic + "/as", b"as", retain=True)
        came = peer.message()
        self.assertEqual((came.topic, came.retain), (topic + "/as", True))
        self.assertEqual(peer.fence(), [])
        peer.leave()
        self.assertEqual(self.kept(client_id, level=4).fence(), [])  # and to a client of the other version

    @conforms(v311="3.1.2-4", v5="3.1.2-5")
    def test_an_unsubscribed_filter_does_not_come_back(self):
        for level in BOTH:
            topic, client_id, sender = self.name(), self.name("c"), self.peer()
            peer = self.kept(client_id, level)
            peer.subscribe((topic + "/a", 1), (topic + "/b", 1))
            peer.unsubscribe(topic + "/a")
            peer.leave()
            sender.publish(topic + "/a", b"a")
            sender.publish(topic + "/b", b"b")
            peer = self.kept(client_id, level)
            self.assertEqual((peer.message().body, peer.fence()), (b"b", []))

    @conforms(v5="4.1.0-2 3.1.2-23")
    def test_a_session_ends_with_its_expiry(self):
        topic, client_id = self.name(), self.name("c")
        peer = self.kept(client_id, expiry=1)
        peer.subscribe((topic, 1))
        peer.drop()
        eventually(lambda: self.queue(client_id) is None)
        self.assertFalse(self.kept(client_id).connack.present)

    @conforms(v311="4.1.0-2", v5="4.1.0-1")
    def test_a_session_lasts_as_long_as_its_connection(self):
        topic, client_id = self.name(), self.name("c")
        peer = self.kept(client_id, expiry=1)
        peer.subscribe((topic, 1))
        other = self.kept(self.name("c"), expiry=1)
        other.subscribe((self.name(), 1))
        other.drop()
        eventually(lambda: self.queue(other.client_id) is None)  # for longer than its expiry
        peer.publish(topic, b"still")
        self.assertEqual(peer.message().body, b"still")

    @conforms(v5="3.1.2-23 3.14.2-2")
    def test_disconnect_may_change_the_expiry(self):
        for first, last, is_kept in ((100, 0, False), (1, 100, True), (100, None, True)):
            client_id = self.name("c")
            peer = self.kept(client_id, expiry=first)
            peer.leave(**({} if last is None else {"session_expiry": last}))
            self.assertEqual(self.kept(client_id).connack.present, is_kept, (first, last))
        peer = self.peer(session_expiry=0)
        peer.send(m.disconnect(session_expiry=1))  # from 0 it may not
        self.assertEqual(peer.reason(), 0x82)

    @conforms(v311="4.1.0-1", v5="3.1.2-5")
    def test_an_expiry_of_none_ends_a_kept_session(self):
        client_id = self.name("c")
        self.kept(client_id).leave()
        peer = self.peer(client_id, clean=False)  # resumed, to end with this connection
        self.assertTrue(peer.connack.present)
        peer.drop()
        eventually(lambda: self.queue(client_id) is None)
        self.assertFalse(self.kept(client_id).connack.present)

    @conforms(v311="3.1.2-4 3.1.4-2 4.5.0-1", v5="3.1.2-5 3.1.4-3 4.5.0-1")
    def test_a_takeover_hands_the_session_over(self):
        for level in BOTH:
            topic, client_id, sender = self.name(), self.name("c"), self.peer()
            peer = self.kept(client_id, level)
            peer.subscribe((topic, 1))
            expected = []
            for i in range(6):
                sender.publish(topic, str(i).encode())
                expected.append(str(i).encode())
                if i % 2:
                    new = self.kept(client_id, level)
                    self.assertTrue(new.connack.present)
                    self.assertEqual(peer.reason(), TAKEN_OVER if level == 5 else None)
                    peer = new
            # what was delivered without PUBACK came again to each; the last has it all, in order
            came = []
            while expected[-1] not in came:
                came.append(peer.message().body)
            self.assertEqual(came, expected)

    @conforms(v311="3.1.2-7", v5="3.1.2-4")
    def test_retained_messages_outlive_sessions(self):
        for level in BOTH:
            topic, client_id = self.name(), self.name("c")
            peer = self.kept(client_id, level)
            peer.publish(topic, b"kept", retain=True)
            peer.leave()
            peer = self.peer(client_id, level)
            peer.subscribe((topic, 0))
            self.assertEqual(peer.message().body, b"kept")

    @conforms(v5="3.3.2-7")
    def test_topic_aliases_end_with_their_connection(self):
        client_id = self.name("c")
        peer = self.kept(client_id)
        peer.publish(self.name(), b"", topic_alias=1)
        peer.leave()
        peer = self.kept(client_id)
        peer.send(m.publish("", b"", 1, 1, topic_alias=1))
        self.assertIn(peer.reason(), (0x82, 0x94))

    @conforms(v311="3.1.2-5 3.8.4-6", v5="3.1.2-23 3.8.4-8")
    def test_qos_0_is_not_kept(self):
        for level in BOTH:
            topic, client_id, sender = self.name(), self.name("c"), self.peer()
            peer = self.kept(client_id, level)
            peer.subscribe((topic + "/zero", 0), (topic + "/one", 1))
            peer.leave()
            sender.publish(topic + "/zero", b"not kept")
            sender.publish(topic + "/one", b"kept")
            peer = self.kept(client_id, level)
            sender.publish(topic + "/zero", b"again there")
            self.assertEqual(sorted(peer.bodies(2)), [b"again there", b"kept"])



class Limits(Kept):
    config = '[mqtt]\nmax_session_expiry = "1s"\n'

    @conforms(v311="4.1.0-1", v5="4.1.0-2")
    def test_an_expiry_over_the_limit_ends_at_the_limit(self):
        for level in BOTH:
            peer = self.kept(self.name("c"), level, expiry=0xFFFFFFFF)
            self.assertEqual(peer.connack.properties.get("session_expiry"), 1 if level == 5 else None)
            peer.subscribe((self.name(), 1))
            peer.drop()
            eventually(lambda: self.queue(peer.client_id) is None)
            self.assertFalse(self.kept(peer.client_id, level).connack.present)
