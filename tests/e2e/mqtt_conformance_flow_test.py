# SPDX-License-Identifier: Apache-2.0
"""Delivery: QoS flows and their repeats, packet identifiers, order, receive maximum (2.2.1, 4.3 to 4.6, 4.9)."""
from harness import MqttConformance, conforms, mqtt5 as m

BOTH = (4, 5)
RECEIVE_MAXIMUM_EXCEEDED, NOT_FOUND = 0x93, 0x92


def facts(packet):
    return packet.packet_id, packet.body, packet.qos, packet.dup


class Inbound(MqttConformance):
    """What clients publish."""

    config = "[mqtt]\nreceive_max = 4\n"

    def setUp(self):
        self.topic = self.name()
        self.watch = self.peer()
        self.watch.subscribe((self.topic, 2))

    def assert_came(self, *bodies):
        """These were delivered, once each, and nothing else."""
        self.peer().publish(self.topic, b"fence", qos=2)
        self.assertEqual(self.watch.bodies(len(bodies) + 1), [*bodies, b"fence"])
        self.assertEqual(self.watch.fence(), [])

    @conforms(v311="2.3.1-6 4.3.2-2", v5="2.2.1-5 4.3.2-4 4.3.2-5")
    def test_after_puback_the_identifier_is_a_new_message(self):
        for level in BOTH:
            peer = self.peer(level=level)
            for body, dup in ((b"1", False), (b"2", False), (b"3", True)):
                peer.send(m.publish(self.topic, body, 1, 7, dup=dup, level=level))
                self.assertEqual(peer.next(m.PUBACK).packet_id, 7)
            self.assert_came(b"1", b"2", b"3")

    @conforms(v311="2.3.1-6 4.3.3-2", v5="2.2.1-5 4.3.3-8 4.3.3-10 4.3.3-11 4.3.3-12")
    def test_qos_2_is_published_once_however_often_it_is_repeated(self):
        for level in BOTH:
            peer = self.peer(level=level)
            for body in (b"1", b"2"):
                for dup in (False, True, False, True):
                    peer.send(m.publish(self.topic, body, 2, 7, dup=dup, level=level))
                    packet = peer.next(m.PUBREC)
                    self.assertEqual((packet.packet_id, packet.reason), (7, 0))
                for reason in (0, NOT_FOUND if level == 5 else 0):  # PUBREL again: PUBCOMP again
                    peer.send(m.ack(m.PUBREL, 7))
                    packet = peer.next(m.PUBCOMP)
                    self.assertEqual((packet.packet_id, packet.reason), (7, reason))
            self.assert_came(b"1", b"2")

    @conforms(v311="4.3.3-2 4.4.0-1", v5="4.3.3-10 4.3.3-12 4.4.0-1")
    def test_qos_2_is_published_once_across_connections(self):
        for level in BOTH:
            for end in ("drop", "taken over"):
                client_id = self.name("c")
                peer = self.kept(client_id, level)
                peer.send(m.publish(self.topic, b"once", 2, 7, level=level))
                peer.next(m.PUBREC)
                if end == "drop":
                    peer.drop()
                peer = self.kept(client_id, level)
                peer.send(m.publish(self.topic, b"once", 2, 7, dup=True, level=level))
                self.assertEqual(peer.next(m.PUBREC).reason, 0)
                peer.send(m.ack(m.PUBREL, 7))
                self.assertEqual(peer.next(m.PUBCOMP).reason, 0)
                peer.send(m.publish(self.topic, b"new", 2, 7, level=level))
                peer.next(m.PUBREC)
                self.assert_came(b"once", b"new")

    @conforms(v311="4.4.0-1", v5="4.4.0-1 4.3.3-11")
    def test_pubrel_after_a_reconnect_is_answered(self):
        for level in BOTH:
            client_id = self.name("c")
            peer = self.kept(client_id, level)
            peer.send(m.publish(self.topic, b"x", 2, 7, level=level))
            peer.next(m.PUBREC)
            peer.drop()
            peer = self.kept(client_id, level)
            peer.send(m.ack(m.PUBREL, 7))
            self.assertEqual((lambda p: (p.packet_id, p.reason))(peer.next(m.PUBCOMP)), (7, 0))
            self.assert_came(b"x")

    @conforms(v311="3.1.2-6", v5="3.1.2-4")
    def test_a_clean_start_forgets_identifiers_of_qos_2(self):
        for level in BOTH:
            client_id = self.name("c")
            peer = self.kept(client_id, level)
            peer.send(m.publish(self.topic, b"old", 2, 7, level=level))
            peer.next(m.PUBREC)
            peer.drop()
            peer = self.kept(client_id, level, clean=True)
            peer.send(m.publish(self.topic, b"new", 2, 7, level=level))
            peer.next(m.PUBREC)
            self.assert_came(b"old", b"new")

    @conforms(v5="4.3.3-9")
    def test_after_a_pubrec_that_refuses_the_identifier_is_a_new_message(self):
        peer = self.peer()
        peer.send(m.publish("$SYS/x", b"refused", 2, 7))
        self.assertEqual(peer.next(m.PUBREC).reason, 0x87)
        peer.send(m.publish(self.topic, b"new", 2, 7))
        self.assertEqual(peer.next(m.PUBREC).reason, 0)
        peer.send(m.ack(m.PUBREL, 7))
        self.assertEqual(peer.next(m.PUBCOMP).reason, 0)
        self.assert_came(b"new")

    @conforms(v311="4.6.0-2 4.6.0-3 4.6.0-4", v5="4.6.0-2 4.6.0-3")
    def test_acknowledgements_are_in_the_order_of_the_publishes(self):
        for level in BOTH:
            for qos, kind in ((1, m.PUBACK), (2, m.PUBREC)):
                peer = self.peer(level=level)
                ids = (9, 3, 0xFFFF, 1)
                peer.send(b"".join(m.publish(self.topic, b"%d" % i, qos, i, level=level) for i in ids))
                self.assertEqual([peer.next(kind).packet_id for _ in ids], list(ids))
                self.assert_came(*(b"%d" % i for i in ids))

    @conforms(v5="3.3.4-7 3.3.4-8 4.9.0-3")
    def test_a_client_past_the_receive_maximum_is_disconnected(self):
        peer = self.peer()
        self.assertEqual(peer.connack.properties["receive_maximum"], 4)
        peer.send(b"".join(m.publish(self.topic, b"%d" % i, 2, i) for i in range(1, 5)))
        self.assertEqual([peer.next(m.PUBREC).packet_id for _ in range(4)], [1, 2, 3, 4])
        peer.publish(self.topic, b"QoS 0 does not count", qos=0)
        peer.send(m.publish(self.topic, b"1", 2, 1, dup=True))  # nor does a repeat
        self.assertEqual(peer.next(m.PUBREC).packet_id, 1)
        self.assertEqual(peer.subscribe(self.name()), [1])
        peer.send(m.ack(m.PUBREL, 2))
        self.assertEqual(peer.next(m.PUBCOMP).packet_id, 2)
        self.assertEqual(peer.publish(self.topic, b"5"), 0)  # there is room for one
        peer.send(m.publish(self.topic, b"6", 2, 6))
        self.assertEqual(peer.next(m.PUBREC).packet_id, 6)
        peer.send(m.publish(self.topic, b"7", 1, 7))
        self.assertEqual(peer.reason(), RECEIVE_MAXIMUM_EXCEEDED)
        self.assert_came(b"1", b"2", b"3", b"4", b"QoS 0 does not count", b"5", b"6")

    @conforms(v5="3.3.4-7")
    def test_acknowledged_publishes_make_room_for_more(self):
        peer = self.peer()
        for i in range(40):
            self.assertEqual(peer.publish(self.topic, b"%d" % i, qos=1 + i % 2), 0)
        self.assert_came(*(b"%d" % i for i in range(40)))

    @conforms(v311="4.3.2-2 4.5.0-1", v5="4.3.2-4 4.5.0-1")
    def test_puback_comes_when_rabbitmq_has_the_message(self):
        """What was acknowledged is there: in a session that is kept, whose client is away."""
        for level in BOTH:
            client_id, sender = self.name("c"), self.peer(level=level)
            away = self.kept(client_id)
            away.subscribe((self.topic, 1))
            away.leave()
            for i in range(10):
                sender.publish(self.topic, b"%d" % i, qos=1 + i % 2)
            self.assertEqual(self.kept(client_id).bodies(10), [b"%d" % i for i in range(10)])
            self.assert_came(*(b"%d" % i for i in range(10)))


class Outbound(MqttConformance):
    """What the server delivers."""

    def setUp(self):
        self.topic = self.name()
        self.sender = self.peer()

    def subscribed(self, peer):
        peer.subscribe((self.topic, 2))
        return peer

    @conforms(v311="2.3.1-1 2.3.1-4 4.3.2-1 4.3.3-1", v5="2.2.1-4 4.3.2-1 4.3.2-2 4.3.2-3 4.3.3-1 4.3.3-2 4.3.3-3")
    def test_deliveries_under_way_have_identifiers_of_their_own(self):
        for level in BOTH:
            for make in (self.peer, lambda **o: self.kept(self.name("c"), **o)):
                watch = self.subscribed(make(level=level))
                for i in range(30):
                    self.sender.publish(self.topic, b"%d" % i, qos=1 + i % 2)
                came = [watch.next(m.PUBLISH) for _ in range(30)]
                self.assertEqual([(p.body, p.qos, p.dup) for p in came], [(b"%d" % i, 1 + i % 2, False) for i in range(30)])
                self.assertEqual(len({p.packet_id for p in came}), 30)
                self.assertEqual(watch.fence(), [])  # nothing is sent again while the connection lasts
                watch.leave()

    @conforms(v311="4.3.3-1", v5="4.3.3-4 4.3.3-5 4.3.3-6 4.4.0-1")
    def test_qos_2_goes_by_pubrec_pubrel_pubcomp(self):
        for level in BOTH:
            for make in (self.peer, lambda **o: self.kept(self.name("c"), **o)):
                watch = self.subscribed(make(level=level))
                self.sender.publish(self.topic, b"x", qos=2)
                packet_id = watch.next(m.PUBLISH).packet_id
                watch.send(m.ack(m.PUBREC, packet_id))
                self.assertEqual(watch.next(m.PUBREL).packet_id, packet_id)
                watch.send(m.ack(m.PUBREC, packet_id))  # again: PUBREL again
                self.assertEqual(watch.next(m.PUBREL).packet_id, packet_id)
                watch.send(m.ack(m.PUBCOMP, packet_id))
                self.assertEqual(watch.fence(), [])
                watch.leave()

    @conforms(v5="4.4.0-2 3.3.4-9")
    def test_a_refusal_by_the_client_acknowledges(self):
        client_id = self.name("c")
        watch = self.subscribed(self.kept(client_id, receive_maximum=1))
        for qos, kind in ((1, m.PUBACK), (2, m.PUBREC)):
            for reason in (0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99):
                self.sender.publish(self.topic, b"refused", qos=qos)
                watch.send(m.ack(kind, watch.next(m.PUBLISH).packet_id, reason))
        self.sender.publish(self.topic, b"next")
        self.assertEqual((watch.message().body, watch.fence()), (b"next", []))  # and made room, each of them
        watch.drop()
        self.assertEqual(self.kept(client_id).fence(), [])

    @conforms(v311="2.3.1-4 3.3.1-1 3.3.1-3 4.4.0-1 4.6.0-1", v5="3.3.1-1 3.3.1-3 4.3.2-3 4.3.3-3 4.4.0-1 4.6.0-5")
    def test_what_is_unacknowledged_comes_again_in_order_with_dup_and_its_identifier(self):
        for level in BOTH:
            for end in ("drop", "leave", "taken over"):
                client_id = self.name("c")
                watch = self.subscribed(self.kept(client_id, level))
                for i in range(6):
                    self.sender.publish(self.topic, b"%d" % i, qos=1 + i % 2)
                first = [watch.next(m.PUBLISH) for _ in range(6)]
                watch.send(m.ack(m.PUBACK, first[0].packet_id))
                self.assertEqual(watch.fence(), [])
                if end != "taken over":
                    getattr(watch, end)()
                watch = self.kept(client_id, level)
                self.sender.publish(self.topic, b"6")  # not before: what was dropped may not be closed yet
                again = [watch.next(m.PUBLISH) for _ in range(6)]
                self.assertEqual([facts(p) for p in again[:5]], [(p.packet_id, p.body, p.qos, True) for p in first[1:]], (level, end))
                self.assertEqual((again[5].body, again[5].dup), (b"6", False))
                self.assertNotIn(again[5].packet_id, [p.packet_id for p in first[1:]])
                watch.drop()
                self.kept(client_id, level, clean=True).leave()

    @conforms(v311="4.3.3-1 4.4.0-1", v5="4.3.3-5 4.3.3-6 4.4.0-1")
    def test_after_pubrec_a_reconnect_brings_pubrel_and_no_publish(self):
        for level in BOTH:
            for end in ("drop", "taken over"):
                client_id = self.name("c")
                watch = self.subscribed(self.kept(client_id, level))
                for i in range(3):
                    self.sender.publish(self.topic, b"%d" % i, qos=2)
                ids = [watch.next(m.PUBLISH).packet_id for _ in range(3)]
                for packet_id in ids[:2]:
                    watch.send(m.ack(m.PUBREC, packet_id))
                    self.assertEqual(watch.next(m.PUBREL).packet_id, packet_id)
                watch.send(m.ack(m.PUBCOMP, ids[0]))
                self.assertEqual(watch.fence(), [])
                if end == "drop":
                    watch.drop()
                watch = self.kept(client_id, level)
                self.assertEqual(watch.next(m.PUBREL).packet_id, ids[1])
                again = watch.next(m.PUBLISH)
                self.assertEqual((again.packet_id, again.body, again.dup), (ids[2], b"2", True))
                self.assertEqual(watch.fence(), [])
                watch.send(m.ack(m.PUBCOMP, ids[1]) + m.ack(m.PUBREC, ids[2]))
                watch.next(m.PUBREL)
                watch.send(m.ack(m.PUBCOMP, ids[2]))
                self.assertEqual(watch.fence(), [])
                watch.drop()
                self.assertEqual(self.kept(client_id, level).fence(), [])

    @conforms(v311="4.4.0-1", v5="4.4.0-1")
    def test_what_is_acknowledged_does_not_come_again(self):
        for level in BOTH:
            client_id = self.name("c")
            watch = self.subscribed(self.kept(client_id, level))
            for i in range(4):
                self.sender.publish(self.topic, b"%d" % i, qos=1 + i % 2)
                watch.message()
            self.assertEqual(watch.fence(), [])
            watch.drop()
            watch = self.kept(client_id, level)
            self.sender.publish(self.topic, b"next")
            self.assertEqual((watch.message().body, watch.fence()), (b"next", []))

    @conforms(v311="4.6.0-5 4.6.0-6", v5="4.6.0-5 4.6.0-6")
    def test_deliveries_keep_the_publisher_s_order(self):
        for level in BOTH:
            for keep in (False, True):
                watch = self.subscribed(self.kept(self.name("c"), level) if keep else self.peer(level=level))
                for qos in (0, 1, 2):
                    if qos == 0 and keep:
                        continue
                    sender = self.peer(level=level)
                    sender.send(b"".join(m.publish(self.topic, b"%d" % i, qos, i + 1 if qos else None, level=level) for i in range(100)))
                    self.assertEqual(watch.bodies(100), [b"%d" % i for i in range(100)])
                watch.leave()

    @conforms(v5="3.3.4-9 3.3.4-10 4.9.0-1 4.9.0-2 4.9.0-3")
    def test_no_more_than_the_receive_maximum_is_under_way(self):
        for maximum in (1, 3):
            for keep in (False, True):
                client_id = self.name("c")
                watch = self.subscribed((self.kept if keep else self.peer)(client_id, receive_maximum=maximum))
                for i in range(8):
                    self.sender.publish(self.topic, b"%d" % i, qos=1 + i % 2)
                under_way = [watch.next(m.PUBLISH) for _ in range(maximum)]
                self.assertEqual(watch.fence(), [])  # PINGRESP comes all the same
                self.assertEqual(watch.subscribe(self.name()), [1])
                self.assertEqual(watch.publish(self.name(), b"", qos=2), 0)
                came = []
                while under_way:
                    packet = under_way.pop(0)
                    came.append(packet.body)
                    if packet.qos == 1:
                        watch.send(m.ack(m.PUBACK, packet.packet_id))
                    else:
                        watch.send(m.ack(m.PUBREC, packet.packet_id))
                        self.assertEqual(watch.next(m.PUBREL).packet_id, packet.packet_id)
                        self.assertEqual(watch.fence(), [])  # PUBREC is not enough
                        watch.send(m.ack(m.PUBCOMP, packet.packet_id))
                    if len(came) + len(under_way) < 8:
                        under_way.append(watch.next(m.PUBLISH))
                    self.assertEqual(watch.fence(), [])
                self.assertEqual(came, [b"%d" % i for i in range(8)])
                watch.leave()

    @conforms(v5="4.9.0-2 3.3.4-9")
    def test_qos_0_does_not_count(self):
        watch = self.peer(receive_maximum=1)
        watch.subscribe((self.topic, 1))
        self.sender.publish(self.topic, b"1")
        packet = watch.next(m.PUBLISH)
        self.sender.publish(self.topic, b"0", qos=0)
        self.assertEqual((lambda p: (p.body, p.qos))(watch.next(m.PUBLISH)), (b"0", 0))
        watch.send(m.ack(m.PUBACK, packet.packet_id))
        self.assertEqual(watch.fence(), [])

    @conforms(v311="4.3.2-1 4.3.3-1", v5="4.3.2-3 4.3.3-5")
    def test_an_acknowledgement_of_nothing_hurts_nobody(self):
        for level in BOTH:
            watch = self.subscribed(self.peer(level=level))
            watch.send(m.ack(m.PUBACK, 77) + m.ack(m.PUBCOMP, 78))
            self.sender.publish(self.topic, b"x")
            self.assertEqual((watch.message().body, watch.fence()), (b"x", []))
