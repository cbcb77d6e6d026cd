# SPDX-License-Identifier: Apache-2.0
"""PUBLISH and what answers it (3.3 to 3.7): reasons, properties, topic aliases, sizes."""
import time

from harness import Consumer, MqttConformance, conforms, mqtt5 as m

BOTH = (4, 5)
NO_SUBSCRIBERS, IMPLEMENTATION, NOT_AUTHORIZED, ALIAS_INVALID, QUOTA, PAYLOAD_FORMAT = 0x10, 0x83, 0x87, 0x94, 0x97, 0x99

RULES = """
[[exchange]]
name = "strict"
type = "topic"
[[queue]]
name = "full"
arguments = { x-max-length = 1, x-overflow = "reject-publish" }
[[rule]]
name = "mandatory"
topic = "strict/{rest...}"
exchange = "strict"
key = "{rest...}"
mandatory = true
[[rule]]
name = "full"
topic = "full"
queue = "full"
on_reject = "close"
[[rule]]
name = "withheld"
topic = "withheld"
queue = "full"
on_reject = "withhold"
[[rule]]
name = "parked"
topic = "parked"
queue = "full"
on_reject = "park"
[[exchange]]
name = "gone"
type = "topic"
[[rule]]
name = "gone"
topic = "gone"
exchange = "gone"
key = "x"
"""


class Publish(MqttConformance):
    config = '[mqtt]\ntopic_alias_max = 3\n' + RULES

    def delete_exchange(self, name):
        consumer = self.open(Consumer(self.amqp))
        consumer.channel.exchange_delete(name)

    def two_seconds_pass(self):
        """As a will's delay measures them."""
        topic, watch = self.name(), self.peer()
        watch.subscribe((topic, 0))
        self.kept(self.name("c"), will=m.Will(topic, b"", will_delay=2)).drop()
        watch.message()

    @conforms(v311="3.3.4-1 3.3.5-2", v5="3.3.4-1 3.4.2-1 3.5.2-1")
    def test_each_outcome_has_its_code(self):
        self.peer().publish("full", b"fills it")
        self.delete_exchange("gone")
        outcomes = {
            "delivered": (self.name(), {}, 0),
            "no subscriber, and nobody asked": (self.name() + "/nobody", {}, 0),
            "no subscriber where the rule wants one": ("strict/nobody", {}, NO_SUBSCRIBERS),
            "not permitted": ("$SYS/anything", {}, NOT_AUTHORIZED),
            "rejected by RabbitMQ": ("full", {}, QUOTA),
            "no such exchange": ("gone", {}, IMPLEMENTATION),
            "not the UTF-8 that it says it is": (self.name(), {"payload_format": 1}, PAYLOAD_FORMAT),
        }

        def check(case, _):
            topic, values, reason = case
            for qos in (1, 2):
                peer = self.peer()
                self.assertEqual(peer.publish(topic, b"\xff", qos, **values), reason)
                self.assertEqual(peer.fence(), [])
        self.each(outcomes, check)

    @conforms(v311="3.3.5-2 4.8.0-2")
    def test_in_3_1_1_a_refusal_is_acknowledged_or_closes_as_the_rule_says(self):
        self.peer().publish("full", b"fills it")
        peer = self.peer(level=4)
        peer.publish("$SYS/anything", b"x")  # acknowledged and dropped
        peer.publish("parked", b"x")         # acknowledged, and put elsewhere
        peer.send(m.publish("withheld", b"x", 1, 77, level=4))
        self.assertEqual(peer.fence(), [])
        peer.send(m.publish("full", b"x", 1, 78, level=4))
        self.assertEqual(peer.end(), [])

    @conforms(v311="3.3.2-3 3.3.4-1 4.3.1-1", v5="3.3.2-3 3.3.4-1 4.3.1-1")
    def test_every_qos_is_delivered_and_answered(self):
        for level in BOTH:
            topic = self.name()
            watch, peer = self.peer(level=level), self.peer(level=level)
            watch.subscribe((topic + "/#", 2))
            for qos in (0, 1, 2):
                peer.publish(f"{topic}/{qos}", b"body", qos)
                came = watch.message()
                self.assertEqual((came.topic, came.body, came.qos, came.dup, came.retain), (f"{topic}/{qos}", b"body", qos, False, False))
            self.assertEqual((watch.fence(), peer.fence()), ([], []))

    @conforms(v311="3.3.1-3", v5="3.3.1-3")
    def test_the_publisher_s_dup_goes_no_further(self):
        for level in BOTH:
            topic = self.name()
            watch, peer = self.peer(level=level), self.peer(level=level)
            watch.subscribe((topic, 2))
            peer.send(m.publish(topic, b"x", 1, 1, dup=True, level=level) + m.publish(topic, b"x", 2, 2, dup=True, level=level))
            self.assertEqual([watch.message().dup for _ in range(2)], [False, False])

    @conforms(v5="3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20")
    def test_properties_reach_every_subscriber_as_they_were(self):
        cases = {
            "none": {},
            "payload format 0": {"payload_format": 0},
            "payload format 1": {"payload_format": 1},
            "content type": {"content_type": "application/grün; x=\"1\""},
            "an empty content type": {"content_type": ""},
            "response topic": {"response_topic": "a/b/ü"},
            "correlation data": {"correlation_data": bytes(range(256))[:255]},
            "longer correlation data": {"correlation_data": bytes(range(256)) * 4},
            "empty correlation data": {"correlation_data": b""},
            "text as correlation data": {"correlation_data": b"text"},
            "a user property": {"user": [("k", "v")]},
            "user properties in their order, repeated": {"user": [("b", "2"), ("a", "1"), ("b", "1"), ("a", "1"), ("", ""), ("ü", "ö")]},
            "many": {"user": [(f"k{i % 7}", f"v{i}") for i in range(40)]},
            "a long value": {"user": [("k" * 255, "v" * 3000)]},
            "names of AMQP properties": {"user": [("content-type", "x"), ("reply-to", "y"), ("priority", "high")]},
            "all": {"payload_format": 1, "content_type": "t", "response_topic": "r", "correlation_data": b"\0", "user": [("k", "v")]},
        }

        def check(values, _):
            topic, peer = self.name(), self.peer()
            watchers = [self.peer(), self.peer(), self.kept(self.name("c"))]
            for watch, qos in zip(watchers, (0, 2, 1)):
                watch.subscribe((topic, qos))
            for qos in (0, 1, 2):
                self.assertEqual(peer.publish(topic, b"body", qos, **values), 0)
                for watch in watchers:
                    came = watch.message()
                    self.assertEqual((came.body, came.properties), (b"body", values))
        self.each(cases, check)

    @conforms(v5="3.3.2-4")
    def test_a_payload_format_is_checked_where_it_is_said(self):
        topic, peer = self.name(), self.peer()
        self.assertEqual(peer.publish(topic, "grün".encode(), payload_format=1), 0)
        self.assertEqual(peer.publish(topic, b"\xff", payload_format=0), 0)
        watch = self.peer()
        watch.subscribe((topic, 0))
        peer.publish(topic, b"\xff", qos=0, payload_format=1)  # QoS 0 has no answer to say it in
        peer.publish(topic, b"fence", qos=0, payload_format=1)
        self.assertEqual((watch.message().body, peer.fence()), (b"fence", []))

    @conforms(v5="3.3.2-9 3.3.2-12 3.2.2-17")
    def test_topic_aliases_of_the_client_are_taken_up_to_the_maximum(self):
        topics = [self.name() for _ in range(3)]
        watch, peer = self.peer(), self.peer()
        watch.subscribe(*((t, 0) for t in topics))
        maximum = peer.connack.properties["topic_alias_maximum"]
        self.assertEqual(maximum, 3)
        for alias, topic in enumerate(topics, 1):
            peer.publish(topic, b"set", topic_alias=alias)
        for alias in (3, 1, 2):
            peer.publish("", b"used", topic_alias=alias)
        peer.publish(topics[0], b"moved", topic_alias=2)
        peer.publish("", b"used", topic_alias=2)
        came = [watch.message() for _ in range(8)]
        self.assertEqual([p.topic for p in came], [*topics, topics[2], topics[0], topics[1], topics[0], topics[0]])
        self.assertTrue(all("topic_alias" not in p.properties for p in came))
        for alias in (4, 65535):
            peer = self.peer()
            peer.send(m.publish(topics[0], b"", topic_alias=alias))
            self.assertEqual(peer.reason(), ALIAS_INVALID)
        peer = self.peer()
        peer.send(m.publish("", b"", topic_alias=1))  # never set on this connection
        self.assertIn(peer.reason(), (0x82, ALIAS_INVALID))

    @conforms(v5="3.1.2-26 3.1.2-27 3.3.2-10 3.3.2-11")
    def test_topic_aliases_of_the_server_stay_within_the_client_s_maximum(self):
        for maximum in (None, 0, 1, 2, 65535):
            topic, sender = self.name(), self.peer()
            watch = self.peer(**({} if maximum is None else {"topic_alias_maximum": maximum}))
            watch.subscribe((topic + "/#", 0))
            known = {}
            for i in (0, 0, 1, 2, 0, 1, 2, 3, 3, 0):
                sender.publish(f"{topic}/{i}", b"x", qos=0)
                came = watch.message()
                alias = came.properties.get("topic_alias")
                self.assertLessEqual(alias or 0, maximum or 0)
                if alias is not None and came.topic:
                    known[alias] = came.topic
                self.assertEqual(came.topic or known[alias], f"{topic}/{i}")
            self.assertEqual(bool(known), bool(maximum))

    @conforms(v5="3.1.2-24 3.1.2-25 4.4.0-2")
    def test_what_is_too_large_for_the_client_is_dropped_as_if_delivered(self):
        topic, sender, client_id = self.name(), self.peer(), self.name("c")
        watch = self.kept(client_id, maximum_packet_size=100, receive_maximum=1)
        watch.subscribe((topic, 1))
        for size in (10, 1000, 100, 20, 5000, 30):
            sender.publish(topic, b"x" * size)
        came = [watch.message() for _ in range(3)]
        self.assertEqual([len(p.body) for p in came], [10, 20, 30])
        self.assertEqual(watch.fence(), [])
        watch.leave()
        watch = self.kept(client_id)  # nor do they wait for a client that takes more
        self.assertEqual(watch.fence(), [])
        # to the byte
        head = len(m.publish(topic, b"", 0))
        watch = self.peer(maximum_packet_size=head + 40)
        watch.subscribe((topic, 0))
        for size in (41, 40):
            sender.publish(topic, b"y" * size, qos=0)
        self.assertEqual(len(watch.message().body), 40)

    @conforms(v5="3.1.2-24 3.1.2-29 3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.7.2-1 3.7.2-2 3.7.2-3")
    def test_reason_strings_come_where_they_are_wanted_and_fit(self):
        peer = self.peer()
        peer.send(m.publish("$SYS/x", b"", 1, 1) + m.publish("$SYS/x", b"", 2, 2))
        puback, pubrec = peer.next(m.PUBACK), peer.next(m.PUBREC)
        self.assertTrue(puback.properties.get("reason_string"))
        self.assertTrue(pubrec.properties.get("reason_string"))
        peer.send(m.ack(m.PUBREL, 9))  # of no PUBREC
        pubcomp = peer.next(m.PUBCOMP)
        self.assertEqual(pubcomp.reason, 0x92)
        for options in ({"request_problem": 0}, *({"maximum_packet_size": n} for n in range(20, len(puback.raw) + 2))):
            peer = self.peer(**options)
            peer.send(m.publish("$SYS/x", b"", 1, 1) + m.publish("$SYS/x", b"", 2, 2) + m.ack(m.PUBREL, 9))
            came = peer.fence()
            self.assertEqual([(p.kind, p.reason) for p in came],
                             [(m.PUBACK, NOT_AUTHORIZED), (m.PUBREC, NOT_AUTHORIZED), (m.PUBCOMP, 0x92)])
            if "request_problem" in options:
                self.assertEqual([p.properties for p in came], [{}] * 3)
            else:
                self.assertLessEqual(max(len(p.raw) for p in came), options["maximum_packet_size"])

    @conforms(v5="3.1.2-29 3.6.2-1 3.6.2-2 3.6.2-3")
    def test_a_small_client_gets_through_qos_2(self):
        topic, sender = self.name(), self.peer()
        watch = self.peer(maximum_packet_size=30, request_problem=0)
        watch.subscribe((topic, 2))
        sender.publish(topic, b"x", qos=2)
        came = watch.next(m.PUBLISH)
        watch.send(m.ack(m.PUBREC, came.packet_id))
        self.assertEqual(watch.next(m.PUBREL).properties, {})
        watch.send(m.ack(m.PUBCOMP, came.packet_id))
        self.assertEqual(watch.fence(), [])

    @conforms(v5="3.6.2-1 4.3.3-4")
    def test_pubrec_of_nothing_gets_pubrel_not_found(self):
        peer = self.peer()
        peer.send(m.ack(m.PUBREC, 4711))
        self.assertEqual((lambda p: (p.packet_id, p.reason))(peer.next(m.PUBREL)), (4711, 0x92))
        peer.send(m.ack(m.PUBCOMP, 4711, 0x92) + m.ack(m.PUBACK, 4712) + m.ack(m.PUBCOMP, 4713))
        self.assertEqual(peer.fence(), [])

    @conforms(v5="3.3.2-6")
    def test_a_delivery_has_what_is_left_of_its_expiry(self):
        topic, client_id, sender = self.name(), self.name("c"), self.peer()
        watch = self.kept(client_id)
        watch.subscribe((topic, 1))
        sender.publish(topic, b"now", message_expiry=100)
        self.assertIn(watch.message().properties["message_expiry"], (99, 100))
        watch.leave()
        began = time.monotonic()
        sender.publish(topic, b"later", message_expiry=100)
        self.two_seconds_pass()
        watch = self.kept(client_id)
        left = watch.message().properties["message_expiry"]
        self.assertTrue(100 - (time.monotonic() - began) - 1 <= left <= 98, left)

    @conforms(v5="3.3.2-5 4.3.3-7")
    def test_a_message_that_expired_is_not_delivered_but_one_under_way_is_completed(self):
        topic, client_id, sender = self.name(), self.name("c"), self.peer()
        watch = self.kept(client_id, receive_maximum=1)
        watch.subscribe((topic, 2))
        sender.publish(topic, b"under way", qos=2, message_expiry=1)
        under_way = watch.next(m.PUBLISH)
        sender.publish(topic, b"expires", qos=2, message_expiry=1)
        self.two_seconds_pass()
        watch.send(m.ack(m.PUBREC, under_way.packet_id))
        watch.next(m.PUBREL)
        watch.send(m.ack(m.PUBCOMP, under_way.packet_id))
        sender.publish(topic, b"fresh", qos=2)
        self.assertEqual((watch.message().body, watch.fence()), (b"fresh", []))

    @conforms(v5="4.3.3-13 3.3.2-5")
    def test_a_publish_that_expires_at_once_is_still_acknowledged(self):
        topic, peer = self.name(), self.peer()
        for qos in (1, 2):
            self.assertEqual(peer.publish(topic, b"", qos, message_expiry=0), 0)

    @conforms(v5="3.3.2-15 3.3.2-16")
    def test_a_request_finds_its_way_back(self):
        topic, answers = self.name(), self.name()
        client, service = self.peer(), self.peer()
        client.subscribe((answers, 1))
        service.subscribe((topic, 1))
        client.publish(topic, b"2+2", response_topic=answers, correlation_data=b"\0\1\xfe")
        asked = service.message()
        service.publish(asked.properties["response_topic"], b"4", correlation_data=asked.properties["correlation_data"])
        came = client.message()
        self.assertEqual((came.body, came.properties), (b"4", {"correlation_data": b"\0\1\xfe"}))

