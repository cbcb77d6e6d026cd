# SPDX-License-Identifier: Apache-2.0
"""PINGREQ (3.12), DISCONNECT (3.14), AUTH (3.15), WebSocket (6)."""
import signal

from harness import MqttConformance, WebSocket, conforms, mqtt5 as m

BOTH = (4, 5)
PROTOCOL_ERROR, SHUTTING_DOWN, TAKEN_OVER, ALIAS_INVALID = 0x82, 0x8B, 0x8E, 0x94


class End(MqttConformance):
    @conforms(v311="3.12.4-1", v5="3.12.4-1")
    def test_every_pingreq_is_answered(self):
        for level in (3, 4, 5):
            peer = self.peer(level=level)
            peer.send(m.PING * 50)
            self.assertEqual([peer.next().kind for _ in range(50)], [m.PINGRESP] * 50)
            self.assertEqual(peer.fence(), [])

    @conforms(v311="3.14.4-1 3.14.4-2", v5="3.14.4-1 3.14.4-2")
    def test_disconnect_is_answered_by_the_end_and_nothing_after_it_is_processed(self):
        for level in BOTH:
            topic = self.name()
            watch, peer = self.peer(), self.peer(level=level)
            watch.subscribe((topic, 0))
            peer.send(m.disconnect(level=level) + m.publish(topic, b"too late", level=level))
            self.assertEqual(peer.end(), [])
            watch.publish(topic, b"fence", qos=0)
            self.assertEqual(watch.message().body, b"fence")

    @conforms(v5="3.14.2-1 3.14.1-1")
    def test_every_reason_of_a_client_is_taken(self):
        for reason in (None, 0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99):
            for values in ({}, {"reason_string": "why"}, {"user": [("a", "b"), ("a", "c")]}, {"session_expiry": 0}):
                peer = self.peer()
                peer.send(m.disconnect(reason, **values))
                self.assertEqual(peer.end(), [], reason)

    @conforms(v5="3.1.2-24 3.14.2-1 3.14.2-2 3.14.2-3 3.14.2-4")
    def test_the_server_s_disconnect_says_why_where_it_fits(self):
        peer = self.peer()
        peer.send(m.publish("t", topic_alias=65535))
        told = peer.end()
        self.assertEqual((len(told), told[0].reason), (1, ALIAS_INVALID))
        self.assertTrue(told[0].properties["reason_string"])
        for limit in range(20, len(told[0].raw) + 2):
            peer = self.peer(maximum_packet_size=limit)
            peer.send(m.publish("t", topic_alias=65535))
            came = peer.end()
            self.assertEqual([p.reason for p in came], [ALIAS_INVALID])
            self.assertLessEqual(len(came[0].raw), limit)

    @conforms(v5="3.15.1-1 4.12.0-6 4.12.0-7 4.12.1-1")
    def test_auth_without_a_method_in_connect_is_a_protocol_error(self):
        for data in (m.auth(0x18), m.auth(0x19), m.auth(0x19, auth_method="X"), m.auth(0x18, auth_method="X", auth_data=b"x"),
                     m.packet(m.AUTH)):
            peer = self.peer()
            peer.send(data)
            self.assertEqual(peer.reason(), PROTOCOL_ERROR)
        for data in (m.auth(0x19), m.packet(m.AUTH)):
            peer = self.peer(level=4)
            peer.send(data)
            self.assertEqual(peer.end(), [])

    @conforms(v311="4.8.0-1", v5="4.13.1-1 4.13.2-1")
    def test_a_breach_ends_one_connection_and_no_other(self):
        for level in BOTH:
            topic, watch = self.name(), self.peer(level=level)
            watch.subscribe((topic, 1))
            for data in (b"\0\0", b"\xf0\0", b"\x30\0", m.connect("x", level), b"\xff" * 20):
                peer = self.peer(level=level)
                peer.send(data)
                peer.end()
            watch.publish(topic, b"alive")
            self.assertEqual(watch.message().body, b"alive")


class Shutdown(MqttConformance):
    @conforms(v5="3.14.2-1 3.14.4-1 3.14.4-2")
    def test_a_server_that_is_stopped_says_so(self):
        peers = {level: [self.peer(level=level) for _ in range(3)] for level in BOTH}
        kept = self.kept(self.name("c"))
        self.gw.signal(signal.SIGTERM)
        self.assertEqual({level: [p.reason() for p in of] for level, of in peers.items()}, {4: [None] * 3, 5: [SHUTTING_DOWN] * 3})
        self.assertEqual(kept.reason(), SHUTTING_DOWN)
        self.assertEqual(self.gw.wait(), 0)


class OverWebSocket(MqttConformance):
    """Packets and frames, by hand."""

    def web(self, protocols=("mqtt",), **options):
        return self.open(WebSocket(self.gw.addresses["web"], "/mqtt", protocols, **options))

    def packets(self, web, n, level=5):
        """The next n packets; every frame is binary."""
        data, found = b"", []
        while len(found) < n:
            opcode, payload = web.read_message()
            self.assertEqual(opcode, web.BINARY)
            data += payload
            while (parsed := m.decode(data, level))[0]:
                found.append(parsed[0])
                data = data[parsed[1]:]
        self.assertEqual((data, len(found)), (b"", n))
        return found

    @conforms(v311="6.0.0-3 6.0.0-4", v5="6.0.0-3 6.0.0-4")
    def test_the_sub_protocol_is_mqtt(self):
        for offered in (("mqtt",), ("mqttv3.1", "mqtt"), ("mqtt", "v12.stomp"), ("other", "mqtt")):
            self.assertEqual(self.web(offered).protocol, "mqtt")
        for offered in ((), ("other",)):
            web = self.web(offered, must_open=False)
            self.assertNotEqual((web.status, web.protocol), (101, "mqtt"))

    @conforms(v311="6.0.0-1 6.0.0-2", v5="6.0.0-1 6.0.0-2")
    def test_packets_are_split_and_merged_over_binary_frames(self):
        for level in BOTH:
            first = m.connect(self.name("c"), level)
            rest = m.subscribe(1, (self.name(), 1), level=level) + m.publish(self.name(), b"x" * 300, 1, 2, level=level) + m.PING
            for size in (1, 2, 7, 1000):
                web = self.web()
                data = first + rest
                for at in range(0, len(data), size):
                    web.send_frame(web.BINARY, data[at:at + size])
                self.assertEqual(sorted(p.kind for p in self.packets(web, 4, level)), [m.CONNACK, m.PUBACK, m.SUBACK, m.PINGRESP])
                web.close()

    @conforms(v311="6.0.0-1", v5="6.0.0-1")
    def test_a_frame_of_text_ends_the_connection(self):
        for level in BOTH:
            for first in (b"", m.connect(self.name("c"), level)):
                web = self.web()
                if first:
                    web.send_frame(web.BINARY, first)
                    self.packets(web, 1, level)
                web.send_frame(web.TEXT, m.PING)
                opcode, _ = web.read_message()
                self.assertEqual(opcode, web.CLOSE)
                self.assertEqual(web.read_to_end(), b"")

    @conforms(v5="3.14.4-2 3.1.4-3")
    def test_a_session_moves_between_tcp_and_websocket(self):
        topic, client_id = self.name(), self.name("c")
        peer = self.kept(client_id)
        peer.subscribe((topic, 1))
        web = self.web()
        web.send_frame(web.BINARY, m.connect(client_id, clean=False, session_expiry=100))
        self.assertEqual(peer.reason(), TAKEN_OVER)
        self.assertTrue(self.packets(web, 1)[0].present)
        self.peer().publish(topic, b"moved")
        self.assertEqual(self.packets(web, 1)[0].body, b"moved")
