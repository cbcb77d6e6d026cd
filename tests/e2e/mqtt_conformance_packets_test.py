# SPDX-License-Identifier: Apache-2.0
"""Chapters 1 and 2 of MQTT: strings, numbers, flags, packet identifiers, properties; and what is malformed anywhere."""
from harness import MqttConformance, conforms, mqtt5 as m

MALFORMED, PROTOCOL_ERROR, FILTER_INVALID, TOPIC_INVALID, ALIAS_INVALID, TOO_LARGE = 0x81, 0x82, 0x8F, 0x90, 0x94, 0x95
BOTH = (4, 5)

# What no string may hold; the last two are the standard's MAY, decided: they end the connection.
BAD_STRINGS = {
    "a byte that is never in UTF-8": b"a\xff",
    "a continuation byte alone": b"\x80",
    "a sequence cut off": b"a\xe2\x82",
    "an overlong form": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "U+0000": b"a\0b",
    "a control character": b"a\x07",
    "a C1 control character": b"a\xc2\x85",
    "a noncharacter": b"\xef\xbf\xbf",
}
# Where a client can put a string after CONNECT: what to send for it.
STRING_PLACES = {
    "PUBLISH": lambda s, level: m.publish(b"t" + s, level=level),
    "SUBSCRIBE": lambda s, level: m.subscribe(1, (b"t" + s, 0), level=level),
    "UNSUBSCRIBE": lambda s, level: m.unsubscribe(1, b"t" + s, level=level),
}
PROPERTY_PLACES = {
    "content type": lambda s: m.publish("t", content_type=s),
    "response topic": lambda s: m.publish("t", response_topic=s),
    "name of a user property": lambda s: m.publish("t", user=(s, "v")),
    "value of a user property": lambda s: m.subscribe(1, "t", user=("k", s)),
    "user property of UNSUBSCRIBE": lambda s: m.unsubscribe(1, "t", user=(s, "v")),
    "reason string": lambda s: m.disconnect(0x80, reason_string=s),
}
CONNECT_PLACES = {
    "client identifier": lambda s, level: m.connect(s, level),
    "will topic": lambda s, level: m.connect("c", level, will=m.Will(b"t" + s)),
    "user name": lambda s, level: m.connect("c", level, user=s),
}

# After CONNECT, all versions: what is sent, and the reason of the server's DISCONNECT in 5.0 (a set: the standard leaves it open).
MALFORMED_PACKETS = {
    "PUBLISH of QoS 3": (lambda v: m.packet(m.PUBLISH, m.text("t") + b"\0\1" + b"\0" * (v == 5), flags=6), {MALFORMED}),
    "DUP with QoS 0": (lambda v: m.publish("t", dup=True, level=v), {MALFORMED, PROTOCOL_ERROR}),
    "PUBLISH without an identifier": (lambda v: m.packet(m.PUBLISH, m.text("t"), flags=2), {MALFORMED}),
    "PUBLISH with identifier 0": (lambda v: m.publish("t", qos=1, packet_id=0, level=v), {MALFORMED, PROTOCOL_ERROR}),
    "PUBLISH without a topic": (lambda v: m.packet(m.PUBLISH), {MALFORMED}),
    "an empty topic": (lambda v: m.publish("", level=v), {PROTOCOL_ERROR, TOPIC_INVALID}),
    "# in a topic": (lambda v: m.publish("a/#", level=v), {MALFORMED, TOPIC_INVALID}),
    "+ in a topic": (lambda v: m.publish("a/+/b", level=v), {MALFORMED, TOPIC_INVALID}),
    "a topic that reaches past the end": (lambda v: m.packet(m.PUBLISH, b"\0\x09topic"), {MALFORMED}),
    "SUBSCRIBE with flags 0": (lambda v: m.packet(m.SUBSCRIBE, m.subscribe(1, "a", level=v)[2:], flags=0), {MALFORMED}),
    "SUBSCRIBE with flags 3": (lambda v: m.packet(m.SUBSCRIBE, m.subscribe(1, "a", level=v)[2:], flags=3), {MALFORMED}),
    "SUBSCRIBE with identifier 0": (lambda v: m.subscribe(0, "a", level=v), {MALFORMED, PROTOCOL_ERROR}),
    "SUBSCRIBE without a filter": (lambda v: m.subscribe(1, level=v), {PROTOCOL_ERROR}),
    "SUBSCRIBE without options": (lambda v: m.subscribe(1, "a", level=v)[:1] + m.varint(len(m.subscribe(1, "a", level=v)) - 3) +
                                  m.subscribe(1, "a", level=v)[2:-1], {MALFORMED}),
    "QoS 3 asked for": (lambda v: m.subscribe(1, ("a", 3), level=v), {PROTOCOL_ERROR}),
    "reserved options": (lambda v: m.subscribe(1, ("a", 0x40), level=v), {MALFORMED}),
    "more reserved options": (lambda v: m.subscribe(1, ("a", 0x80), level=v), {MALFORMED}),
    "an empty filter": (lambda v: m.subscribe(1, "", level=v), {MALFORMED, PROTOCOL_ERROR, FILTER_INVALID}),
    "# within a filter": (lambda v: m.subscribe(1, "a/#/b", level=v), {MALFORMED, FILTER_INVALID}),
    "# within a level": (lambda v: m.subscribe(1, "a/b#", level=v), {MALFORMED, FILTER_INVALID}),
    "+ within a level": (lambda v: m.subscribe(1, "a/+b", level=v), {MALFORMED, FILTER_INVALID}),
    "UNSUBSCRIBE with flags 0": (lambda v: m.packet(m.UNSUBSCRIBE, m.unsubscribe(1, "a", level=v)[2:], flags=0), {MALFORMED}),
    "UNSUBSCRIBE with identifier 0": (lambda v: m.unsubscribe(0, "a", level=v), {MALFORMED, PROTOCOL_ERROR}),
    "UNSUBSCRIBE without a filter": (lambda v: m.unsubscribe(1, level=v), {PROTOCOL_ERROR}),
    "PUBACK with flags": (lambda v: m.packet(m.PUBACK, b"\0\1", flags=2), {MALFORMED}),
    "PUBREC with flags": (lambda v: m.packet(m.PUBREC, b"\0\1", flags=1), {MALFORMED}),
    "PUBREL with flags 0": (lambda v: m.packet(m.PUBREL, b"\0\1", flags=0), {MALFORMED}),
    "PUBCOMP with flags": (lambda v: m.packet(m.PUBCOMP, b"\0\1", flags=8), {MALFORMED}),
    "PUBREL of one byte": (lambda v: m.packet(m.PUBREL, b"\1"), {MALFORMED}),
    "PINGREQ with flags": (lambda v: m.packet(m.PINGREQ, flags=1), {MALFORMED}),
    "PINGREQ with a body": (lambda v: m.packet(m.PINGREQ, b"x"), {MALFORMED}),
    "DISCONNECT with flags": (lambda v: m.packet(m.DISCONNECT, flags=1), {MALFORMED}),
    "a remaining length of five bytes": (lambda v: b"\x30\xff\xff\xff\xff\x01", {MALFORMED}),
    "packet type 0": (lambda v: b"\0\0", {MALFORMED, PROTOCOL_ERROR}),
    "CONNACK": (lambda v: b"\x20\x02\0\0", {PROTOCOL_ERROR}),
    "SUBACK": (lambda v: b"\x90\x03\0\1\0", {PROTOCOL_ERROR}),
    "UNSUBACK": (lambda v: b"\xb0\x02\0\1", {PROTOCOL_ERROR}),
    "PINGRESP": (lambda v: b"\xd0\0", {PROTOCOL_ERROR}),
    "CONNECT again": (lambda v: m.connect("c", v), {PROTOCOL_ERROR}),
}
ALIAS = {"properties": m.prop("topic_alias", 1) * 2}
# 5.0 alone.
MALFORMED_PROPERTIES = {
    "no property length": (m.packet(m.PUBLISH, m.text("t")), {MALFORMED}),
    "a property length past the end": (m.packet(m.PUBLISH, m.text("t") + b"\x05"), {MALFORMED}),
    "a property that does not exist": (m.publish("t", properties=b"\x7f\0"), {MALFORMED}),
    "one of another packet": (m.publish("t", properties=m.prop("session_expiry", 1)), {MALFORMED}),
    "a value cut off": (m.publish("t", properties=b"\x02\0\0"), {MALFORMED}),
    "one that comes twice": (m.publish("t", **ALIAS), {PROTOCOL_ERROR}),
    "content type twice": (m.publish("t", properties=m.prop("content_type", "a") * 2), {PROTOCOL_ERROR}),
    "payload format 2": (m.publish("t", payload_format=2), {PROTOCOL_ERROR, MALFORMED}),
    "topic alias 0": (m.publish("t", topic_alias=0), {ALIAS_INVALID, PROTOCOL_ERROR}),
    "a wildcard in the response topic": (m.publish("t", response_topic="a/+"), {PROTOCOL_ERROR, TOPIC_INVALID, MALFORMED}),
    "a subscription identifier in PUBLISH": (m.publish("t", subscription_id=1), {PROTOCOL_ERROR}),
    "subscription identifier 0": (m.subscribe(1, "t", subscription_id=0), {PROTOCOL_ERROR}),
    "two in SUBSCRIBE": (m.subscribe(1, "t", subscription_id=[1, 2]), {PROTOCOL_ERROR}),
    "a varint of more bytes than it needs": (m.subscribe(1, "t", properties=b"\x0b" + m.varint(5, length=2)), {MALFORMED}),
    "a varint of five bytes": (m.subscribe(1, "t", properties=b"\x0b\xff\xff\xff\xff\x01"), {MALFORMED}),
    "a property length longer than it needs": (m.packet(m.PUBLISH, m.text("t") + b"\x80\0"), {MALFORMED}),
    "a remaining length longer than it needs": (b"\xc0\x80\0", {MALFORMED}),
    "retain handling 3": (m.subscribe(1, ("t", 0x30)), {PROTOCOL_ERROR}),
    "no local on a shared subscription": (m.subscribe(1, ("$share/g/t", 0x04)), {PROTOCOL_ERROR}),
    "a reason that PUBACK has not": (m.ack(m.PUBACK, 1, 0x92), {PROTOCOL_ERROR, MALFORMED}),
    "a reason that PUBREL has not": (m.ack(m.PUBREL, 1, 0x80), {PROTOCOL_ERROR, MALFORMED}),
    "a reason that DISCONNECT has not": (m.disconnect(0x01), {PROTOCOL_ERROR, MALFORMED}),
    "a property that DISCONNECT has not": (m.disconnect(0, properties=m.prop("topic_alias", 1)), {MALFORMED}),
    "AUTH with flags": (m.packet(m.AUTH, b"\0\0", flags=1), {MALFORMED}),
    "AUTH without a method": (m.auth(0x19), {PROTOCOL_ERROR}),
    "AUTH with a reason it has not": (m.auth(0x01), {PROTOCOL_ERROR, MALFORMED}),
}


class Packets(MqttConformance):
    config = '[mqtt]\nmax_packet = "4KiB"\n[limits]\nmax_topic_levels = 8\nmax_topic = "100B"\n'

    def refuses(self, data, level, reasons):
        """Sent after CONNECT it ends the connection, with one of these reasons in 5.0; nothing behind it is processed."""
        topic = self.name()
        watch = self.peer()
        watch.subscribe((topic, 0))
        peer = self.peer(level=level)
        peer.send(data + m.publish(topic, b"too late", level=level))
        reason = peer.reason()
        self.assertIn(reason, reasons if level == 5 else {None}, data.hex())
        self.peer().publish(topic, b"fence", qos=0)
        self.assertEqual(watch.message().body, b"fence")

    @conforms(v311="2.2.2-1 2.2.2-2 2.3.1-1 3.1.0-2 3.3.1-2 3.3.1-4 3.3.2-1 3.3.2-2 3.6.1-1 3.8.1-1 3.8.3-3 3.8.3-4 3.10.1-1 3.10.3-2 "
                   "3.14.1-1 4.7.1-1 4.7.1-2 4.7.1-3 4.7.3-1 4.8.0-1",
              v5="2.1.3-1 2.2.1-3 3.1.0-2 3.3.1-2 3.3.1-4 3.3.2-1 3.3.2-2 3.6.1-1 3.8.1-1 3.8.3-2 3.8.3-5 3.10.1-1 3.10.3-2 3.14.1-1 "
                 "3.14.4-1 3.14.4-2 4.7.0-1 4.7.1-1 4.7.1-2 4.7.3-1 4.13.1-1 4.13.2-1")
    def test_what_is_malformed_ends_the_connection_with_its_reason(self):
        self.each(MALFORMED_PACKETS, lambda case, level: self.refuses(case[0](level), level, case[1]), BOTH)

    @conforms(v5="1.5.5-1 2.2.2-1 3.3.2-8 3.3.2-14 3.3.4-6 3.8.3-4 3.15.1-1 4.12.0-7 4.13.1-1")
    def test_malformed_properties_end_the_connection_with_their_reason(self):
        self.each(MALFORMED_PROPERTIES, lambda case, level: self.refuses(case[0], level, case[1]))

    @conforms(v311="1.5.3-1 1.5.3-2 3.8.3-1 3.10.3-1 4.7.3-2", v5="1.5.4-1 1.5.4-2 3.8.3-1 3.10.3-1 4.7.3-2")
    def test_a_string_that_is_none_ends_the_connection(self):
        def check(bad, level):
            for where, make in STRING_PLACES.items():
                peer = self.peer(level=level)
                peer.send(make(bad, level))
                self.assertEqual(peer.reason(), MALFORMED if level == 5 else None, where)
        self.each(BAD_STRINGS, check, BOTH)

    @conforms(v5="1.5.4-1 1.5.4-2 1.5.7-1 3.3.2-13 3.3.2-19")
    def test_a_property_that_is_no_string_ends_the_connection(self):
        def check(bad, _):
            for where, make in PROPERTY_PLACES.items():
                peer = self.peer()
                peer.send(make(bad))
                self.assertEqual(peer.reason(), MALFORMED, where)
        self.each(BAD_STRINGS, check)

    @conforms(v311="1.5.3-1 3.1.3-4 3.1.3-10 3.1.3-11 3.1.4-1", v5="1.5.4-1 3.1.3-4 3.1.3-11 3.1.3-12 3.1.4-1 3.14.0-1")
    def test_a_connect_with_a_string_that_is_none_is_refused(self):
        def check(bad, level):
            for where, make in CONNECT_PLACES.items():
                came = self.peer(level=level, first=make(bad, level)).end()
                self.assertEqual([(p.kind, p.reason) for p in came], [(m.CONNACK, MALFORMED)] if level == 5 else [], where)
        self.each(BAD_STRINGS, check, BOTH)

    @conforms(v311="1.5.3-3 4.7.3-4", v5="1.5.4-3 4.7.3-4")
    def test_names_are_taken_as_they_are(self):
        names = {
            "a byte order mark": "\ufeff{}", "one within": "{}/\ufeff", "composed": "{}/\u00e9", "decomposed": "{}/e\u0301", "upper case": "{}/E",
            "lower case": "{}/e", "spaces": " {} / ", "levels without a name": "/{}//", "beyond the basic plane": "{}/\U0002A6D4",
        }
        for level in BOTH:
            base, peer, sender = self.name(), self.peer(level=level), self.peer(level=level)
            for name, pattern in names.items():
                with self.subTest(name, level=level):
                    topic = pattern.format(base)
                    self.assertEqual(peer.subscribe((topic, 0)), [0])
                    for other in names.values():
                        sender.publish(other.format(base), other.encode(), qos=0)
                    sender.publish(topic, b"fence", qos=0)
                    self.assertEqual([peer.message().topic for _ in range(2)], [topic] * 2)
                    self.assertEqual(peer.fence(), [])
                    peer.unsubscribe(topic)

    @conforms(v311="2.3.1-5", v5="2.2.1-2")
    def test_a_publish_of_qos_0_has_no_identifier(self):
        for level in BOTH:
            topic, peer = self.name(), self.peer(level=level)
            peer.subscribe((topic, 2))
            peer.send(m.publish(topic, b"\0\1body", level=level))  # what looks like one is payload
            self.assertEqual((peer.next(m.PUBLISH).body, peer.fence()), (b"\0\1body", []))

    @conforms(v311="2.3.1-6 2.3.1-7 3.8.4-2 3.10.4-4", v5="2.2.1-5 2.2.1-6 3.8.4-2 3.10.4-5")
    def test_answers_repeat_the_packet_identifier(self):
        for level in BOTH:
            for packet_id in (1, 0x0100, 0x1234, 0xFFFF):
                peer = self.peer(level=level)
                for sent, answer in ((m.publish("t", qos=1, packet_id=packet_id, level=level), m.PUBACK),
                                     (m.publish("t", qos=2, packet_id=packet_id, level=level), m.PUBREC),
                                     (m.ack(m.PUBREL, packet_id), m.PUBCOMP),
                                     (m.subscribe(packet_id, "a", level=level), m.SUBACK),
                                     (m.unsubscribe(packet_id, "a", level=level), m.UNSUBACK)):
                    peer.send(sent)
                    self.assertEqual(peer.next(answer).packet_id, packet_id)

    @conforms(v311="4.7.3-3", v5="3.2.2-15 4.7.3-3")
    def test_what_is_too_long_ends_the_connection(self):
        too_long = {
            "a packet": (lambda v: m.packet(m.PUBLISH, length=5000), {TOO_LARGE}),
            "a topic": (lambda v: m.publish("t" * 101, level=v), {TOPIC_INVALID, TOO_LARGE, 0x97}),
            "too many levels": (lambda v: m.publish("/".join("abcdefghi"), level=v), {TOPIC_INVALID, TOO_LARGE, 0x97}),
        }
        self.each(too_long, lambda case, level: self.refuses(case[0](level), level, case[1]), BOTH)

    @conforms(v5="2.2.2-1")
    def test_reasons_and_properties_may_be_left_out(self):
        topic, peer = self.name(), self.peer()
        peer.subscribe((topic, 2))

        def check(form, _):
            peer.publish(topic, qos=1)
            packet = peer.next(m.PUBLISH)
            peer.send(self.long_ack(m.PUBACK, packet.packet_id, **form))
            peer.publish(topic, qos=2)
            packet = peer.next(m.PUBLISH)
            peer.send(self.long_ack(m.PUBREC, packet.packet_id, **form))
            self.assertEqual(peer.next(m.PUBREL).packet_id, packet.packet_id)
            peer.send(self.long_ack(m.PUBCOMP, packet.packet_id, **form))
            self.assertEqual(peer.fence(), [])
        self.each({"short": {}, "with a reason": {"reason": 0}, "whole": {"reason": 0, "properties": b""}}, check)

    @staticmethod
    def long_ack(kind, packet_id, reason=None, properties=None):
        body = packet_id.to_bytes(2, "big") + (b"" if reason is None else bytes([reason])) + (b"" if properties is None else b"\0")
        return m.packet(kind, body)

    @conforms(v311="7.0.0-2 7.1.1-1", v5="4.2.0-1")
    def test_packets_come_in_any_pieces(self):
        for level in BOTH:
            topic, peer = self.name(), self.peer(level=level)

            def pieces(data):
                for byte in data:
                    peer.send(bytes([byte]))

            def batch(i):
                return m.publish(topic, b"x" * 200, 1, i, level=level) + m.PING
            pieces(m.subscribe(1, (topic, 1), level=level))
            peer.next(m.SUBACK)
            pieces(batch(1))
            peer.send(batch(2) + batch(3))
            self.assertEqual([peer.take(m.PINGRESP).kind for _ in range(3)], [m.PINGRESP] * 3)
            self.assertEqual([p.body for p in (peer.take(m.PUBLISH) for _ in range(3))], [b"x" * 200] * 3)

