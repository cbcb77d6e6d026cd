# SPDX-License-Identifier: Apache-2.0
"""RFC 6455 sections 5 to 8: frames, messages, and how a connection ends."""
import signal
import struct

from harness import Consumer, WebSocketConformance, close_payload, conforms, mqtt5, raw, wire
from harness.ws_peer import CONNECT

PROTOCOL_ERROR, BAD_KIND, BAD_PAYLOAD, POLICY, TOO_BIG = 1002, 1003, 1007, 1008, 1009
CONTROL = {"close": wire.CLOSE, "ping": wire.PING, "pong": wire.PONG}


def long_length(n, digits, payload=b""):
    """A binary frame whose length is written with so many bytes."""
    return b"\x82" + bytes([0x80 | {2: 126, 8: 127}[digits]]) + n.to_bytes(digits, "big") + bytes(4) + payload


class Frames(WebSocketConformance):
    @conforms(rfc6455="5.1-1 7.1.7-1 7.4.1-1")
    def test_a_client_masks(self):
        for opcode in (wire.TEXT, wire.BINARY, *CONTROL.values()):
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, b"", mask=None))
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(wire.TEXT, CONNECT, mask=None))

    @conforms(rfc6455="5.3-1")
    def test_any_mask_is_one(self):
        for mask in (bytes(4), b"\xff" * 4, b"\x00\xff\x10\x80"):
            peer = self.peer()
            peer.frame(wire.TEXT, CONNECT, mask=mask)
            self.assertIn(b"CONNECTED", peer.read_message()[1])

    @conforms(rfc6455="5.2-1 9.1-1")
    def test_reserved_bits_are_0(self):
        for rsv in (1, 2, 4, 7):
            for opcode in (wire.TEXT, wire.BINARY, *CONTROL.values()):
                self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, b"", rsv=rsv))

    @conforms(rfc6455="5.2-2")
    def test_reserved_opcodes_are_none(self):
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, b""))
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, b"x"), before=wire.ws_frame(wire.TEXT, b"", is_final=False))

    @conforms(rfc6455="5.2-3")
    def test_lengths_are_as_short_as_can_be(self):
        for frame in (long_length(0, 2), long_length(125, 2), long_length(0, 8), long_length(65535, 8), long_length(1 << 63, 8)):
            self.assert_ends(PROTOCOL_ERROR, frame)

    @conforms(rfc6455="5.2-4 5.1-2")
    def test_every_length_goes_both_ways(self):
        peer, watch = self.peer(), self.peer()
        peer.login()
        watch.login()
        watch.frame(wire.TEXT, wire.stomp("SUBSCRIBE", {"id": 1, "destination": "/lengths", "receipt": "s"}))
        watch.read_message()
        for n in (0, 1, 20, 120, 200, 65400, 65536, 200000):
            body = b"0123456789abcdef" * (n // 16) + b"." * (n % 16)
            peer.sends(body, "/lengths")
            _, message = watch.read_message()
            self.assertEqual(message.partition(b"\n\n")[2], body + b"\0")

    @conforms(rfc6455="5.4-1 5.4-2 5.5.2-1")
    def test_a_message_may_come_in_fragments_with_control_frames_between(self):
        data = wire.stomp("SEND", {"destination": "/conformance", "receipt": "1"}, "ä€𝄞".encode(), end=b"")
        for size in (1, 2, 7, len(data)):
            peer = self.peer()
            peer.login()
            pieces = [data[i:i + size] for i in range(0, len(data), size)]
            peer.frame(wire.TEXT, b"", is_final=False)
            for piece in pieces:
                peer.frame(0, piece, is_final=False)
                peer.frame(wire.PING, piece)
                peer.frame(wire.PONG, b"unasked")
            peer.frame(0, b"\0")
            self.assertEqual([peer.read_frame() for _ in pieces], [(True, wire.PONG, piece) for piece in pieces])
            self.assertIn(b"receipt-id:1", peer.read_message()[1])

    @conforms(rfc6455="5.4-3")
    def test_messages_do_not_mix(self):
        first = wire.ws_frame(wire.TEXT, b"\n", is_final=False)
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(wire.TEXT, b"\n"), before=first)
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(wire.BINARY, b"\n", is_final=False), before=first)
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(0, b"\n"))
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(0, b"\n", is_final=False))
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(0, b"\n"), before=first + wire.ws_frame(0, b"\n"))

    @conforms(rfc6455="5.4-4 5.5-1")
    def test_control_frames_are_whole_and_short(self):
        for opcode in CONTROL.values():
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, b"", is_final=False))
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(opcode, bytes(126)))
        peer = self.peer()
        peer.frame(wire.PING, bytes(range(125)))
        self.assertEqual(peer.read_frame(), (True, wire.PONG, bytes(range(125))))

    @conforms(rfc6455="5.5.2-1 5.5.3-1")
    def test_pings_are_answered_in_order_and_pongs_are_not(self):
        peer = self.peer()
        peer.send(wire.ws_frame(wire.PONG, b"unasked") + b"".join(wire.ws_frame(wire.PING, b"%d" % i) for i in range(10)))
        self.assertEqual([peer.read_frame() for _ in range(10)], [(True, wire.PONG, b"%d" % i) for i in range(10)])
        peer.frame(wire.PING)
        self.assertEqual(peer.read_frame(), (True, wire.PONG, b""))
        self.assertEqual(peer.fence(), [])

    @conforms(rfc6455="5.6-1 8.1-1")
    def test_text_is_utf_8_however_it_is_cut(self):
        for bad in (b"\xff", b"\xc0\xaf", b"\xe0\x9f\xbf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\x80", b"\xce\xb1\xbd"):
            with self.subTest(bad):
                self.assert_ends(BAD_PAYLOAD, wire.ws_frame(wire.TEXT, b"\n" + bad))
                # At once: neither the rest of the frame nor that of the message is awaited.
                self.assert_ends(BAD_PAYLOAD, wire.ws_frame(wire.TEXT, b"\n" + bad, is_final=False))
                self.assert_ends(BAD_PAYLOAD, wire.ws_frame(wire.TEXT, b"\n" + bad + bytes(1000))[:20])
        for cut in (b"\xc3", b"\xe2\x82", b"\xf0\x9d\x84"):
            self.assert_ends(BAD_PAYLOAD, wire.ws_frame(wire.TEXT, b"\n" + cut))
            self.assert_ends(BAD_PAYLOAD, wire.ws_frame(0, b"\n"), before=wire.ws_frame(wire.TEXT, b"\n" + cut, is_final=False))
        peer = self.peer()
        peer.login()
        peer.sends(bytes(range(256)), opcode=wire.BINARY)

    @conforms(rfc6455="5.5.1-1 7.1.1-1")
    def test_a_close_is_answered_and_the_server_ends_the_connection(self):
        for payload in (b"", close_payload(1000), close_payload(1001, b"bye"), close_payload(4999, "\u00e4".encode())):
            peer = self.peer()
            peer.frame(wire.CLOSE, payload)
            self.assertEqual(peer.read_frame(), (True, wire.CLOSE, payload))
            self.assertEqual(peer.read_to_end(), b"")

    @conforms(rfc6455="5.5.1-2")
    def test_nothing_behind_a_close_is_processed(self):
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "closing")
        peer = self.peer()
        peer.login()
        peer.send(wire.ws_frame(wire.TEXT, wire.stomp("SEND", {"destination": "/closing"}, b"before"))
                  + wire.ws_frame(wire.CLOSE, close_payload(1000))
                  + wire.ws_frame(wire.TEXT, wire.stomp("SEND", {"destination": "/closing"}, b"behind")) + wire.ws_frame(wire.PING))
        self.assertEqual(peer.ending(), (1000, ""))
        other = self.peer()
        other.login()
        other.sends(b"fence", "/closing")
        self.assertEqual([consumer.take()[2] for _ in range(2)], [b"before", b"fence"])

    @conforms(rfc6455="5.5.1-3 7.4.1-1 7.4.2-1 8.1-1")
    def test_every_close_code_is_one_that_may_be_sent(self):
        for code in (*range(1000, 1004), *range(1007, 1015), 3000, 3999, 4000, 4999):
            peer = self.peer()
            peer.frame(wire.CLOSE, close_payload(code))
            self.assertEqual(peer.ending(), (code, ""))
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535):
            self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(wire.CLOSE, close_payload(code)))
        self.assert_ends(PROTOCOL_ERROR, wire.ws_frame(wire.CLOSE, b"\x03"))
        self.assert_ends(BAD_PAYLOAD, wire.ws_frame(wire.CLOSE, close_payload(1000, b"\xff")))

    @conforms(rfc6455="7.1.7-1", headgate="close-1")
    def test_who_never_answers_the_close_is_left(self):
        peer = self.peer()
        peer.frame(wire.TEXT, b"no STOMP\n")
        frames = [peer.read_frame() for _ in range(2)]
        self.assertEqual([f[1] for f in frames], [wire.TEXT, wire.CLOSE])
        self.assertTrue(frames[0][2].startswith(b"ERROR\n"))
        self.assertEqual(peer.read_to_end(), b"")  # and its own side is still open

    @conforms(rfc6455="7.4.1-1", headgate="close-2")
    def test_the_code_says_whose_fault_it_was(self):
        for frame, want in ((wire.stomp("SENT"), PROTOCOL_ERROR), (wire.stomp("CONNECT", {"accept-version": "9"}), POLICY),
                            (CONNECT + wire.stomp("SEND", {"destination": "/a/+"}), POLICY)):
            peer = self.peer()
            peer.frame(wire.TEXT, frame)
            self.assertEqual(peer.ending()[0], want, frame)

    @conforms(rfc6455="7.4.1-1", headgate="kind-3")
    def test_mqtt_comes_in_binary_messages(self):
        peer = self.peer("/mqtt", ["mqtt"])
        peer.frame(wire.TEXT, mqtt5.connect("c"))
        self.assertEqual(peer.ending()[0], BAD_KIND)
        peer = self.peer("/mqtt", ["mqtt"])
        peer.frame(wire.BINARY, mqtt5.connect("c"))
        self.assertEqual(peer.read_message()[0], wire.BINARY)


class Limits(WebSocketConformance):
    config = '[mqtt]\nmax_packet = "64KiB"\n[stomp]\nmax_frame = "64KiB"\nmax_header = "4KiB"\n'
    MOST = (64 + 4) * 1024

    @conforms(rfc6455="7.4.1-1 10.4-1")
    def test_a_message_over_the_limit_is_refused_at_its_beginning(self):
        self.assert_ends(TOO_BIG, long_length(self.MOST + 1, 8, b"\n"))
        self.assert_ends(TOO_BIG, long_length((1 << 63) - 1, 8, b"\n"))
        self.assert_ends(TOO_BIG, wire.ws_frame(0, b"\n\n"),
                         before=wire.ws_frame(wire.TEXT, b"\n" * (self.MOST - 1), is_final=False))
        peer = self.peer()
        peer.frame(wire.TEXT, b"\n" * self.MOST)
        peer.login()

    @conforms(rfc6455="10.4-1")
    def test_fragments_that_hold_nothing_are_no_way_around_it(self):
        peer = self.peer()
        peer.frame(wire.TEXT, b"", is_final=False)
        for _ in range(10):
            peer.send(wire.ws_frame(0, b"", is_final=False) * 1000)
        peer.frame(0, CONNECT)
        self.assertIn(b"CONNECTED", peer.read_message()[1])


class Shutdown(WebSocketConformance):
    @conforms(rfc6455="7.4.1-1")
    def test_a_shutdown_is_going_away(self):
        stomp, mqtt = self.peer(), self.peer("/mqtt", ["mqtt"])
        stomp.login()
        mqtt.frame(wire.BINARY, mqtt5.connect("c", 4))
        mqtt.read_message()
        self.gw.signal(signal.SIGTERM)
        self.assertEqual((stomp.ending()[0], mqtt.ending()[0]), (1001, 1001))


class Stomp(WebSocketConformance):
    """STOMP is a stream of bytes: where messages begin and end means nothing to it."""

    @conforms(headgate="stomp-1")
    def test_a_frame_may_take_many_messages(self):
        session = CONNECT + wire.stomp("SEND", {"destination": "/conformance", "receipt": "1"}, "ä€".encode()) + b"\n"
        for size in (1, 5, 64):
            peer = self.peer()
            for i in range(0, len(session), size):
                peer.frame(wire.BINARY, session[i:i + size])
            self.assertIn(b"CONNECTED", peer.read_message()[1])
            self.assertIn(b"receipt-id:1", peer.read_message()[1])

    @conforms(headgate="stomp-1")
    def test_a_frame_may_be_cut_at_every_byte(self):
        session = CONNECT + wire.stomp("DISCONNECT", {"receipt": "1"})
        for at in range(1, len(session)):
            peer = self.peer()
            peer.send(wire.ws_frame(wire.TEXT, session[:at]) + wire.ws_frame(wire.BINARY, session[at:]))
            self.assertIn(b"CONNECTED", peer.read_message()[1])
            self.assertEqual(peer.read_message()[1], b"RECEIPT\nreceipt-id:1\n\n\0")

    @conforms(headgate="stomp-2")
    def test_many_frames_may_come_in_one_message(self):
        peer = self.peer()
        peer.frame(wire.TEXT, CONNECT + b"\n\r\n" + b"".join(
            wire.stomp("SEND", {"destination": "/conformance", "receipt": i}) for i in range(100)))
        peer.read_message()
        receipts = {peer.read_message()[1] for _ in range(100)}
        self.assertEqual(receipts, {b"RECEIPT\nreceipt-id:%d\n\n\0" % i for i in range(100)})

    @conforms(headgate="kind-1 kind-2")
    def test_frames_are_text_or_binary_as_the_client_s_are(self):
        bodies = {b"plain": wire.TEXT, "ä".encode(): wire.TEXT, b"\xff": wire.BINARY, b"a\0b": wire.TEXT}
        for own in (wire.TEXT, wire.BINARY):
            peer = self.peer()
            self.assertEqual(peer.login(own), own)
            peer.frame(own, wire.stomp("SUBSCRIBE", {"id": 1, "destination": f"/kind/{own}", "receipt": 1}))
            self.assertEqual(peer.read_message()[0], own)
            for body, kind in bodies.items():
                length = {"destination": f"/kind/{own}", "content-length": len(body)}
                peer.frame(wire.BINARY, wire.stomp("SEND", length, body))
                opcode, message = peer.read_message()
                self.assertEqual((opcode, message.partition(b"\n\n")[2]), (kind if own == wire.TEXT else own, body + b"\0"))
            peer.frame(own, wire.stomp("SENT"))
            self.assertEqual(peer.read_frame()[1], own)


class Silence(WebSocketConformance):
    config = '[http]\nwebsocket_ping = "1s"\n[stomp]\nidle_timeout = "2s"\nheartbeat = "1s"\n'

    def until_close(self, peer):
        """(pings, code)"""
        pings = 0
        while True:
            _, opcode, payload = peer.read_frame()
            if opcode == wire.CLOSE:
                return pings, struct.unpack("!H", payload[:2])[0]
            self.assertEqual(opcode, wire.PING)
            pings += 1

    @conforms(headgate="ping-1 ping-2")
    def test_who_does_not_answer_pings_is_gone(self):
        stomp, mqtt = self.peer(), self.peer("/mqtt", ["mqtt"])
        stomp.login()
        mqtt.frame(wire.BINARY, mqtt5.connect("silent", 4, keepalive=0))
        mqtt.read_message()
        before = self.gw.metric("headgate_keepalive_timeouts_total")
        for peer, protocol, client in ((stomp, "stomp", ""), (mqtt, "mqtt", "silent")):
            self.assertEqual(self.until_close(peer), (1, POLICY))
            self.gw.wait_log("client.silent", protocol=protocol, client=client)
        self.assertEqual(self.gw.metric("headgate_keepalive_timeouts_total"), before + 2)

    @conforms(headgate="ping-1 ping-2 idle-2")
    def test_who_answers_stays(self):
        peer = self.peer()
        peer.login()
        for _ in range(4):  # longer than an idle client without heart-beats may stay on plain TCP
            self.assertEqual(peer.read_frame(), (True, wire.PING, b""))
            peer.frame(wire.PONG)
        peer.sends(b"still here")

    @conforms(headgate="heart-beat-1")
    def test_heart_beats_are_text_messages(self):
        peer = self.peer()
        peer.frame(wire.TEXT, CONNECT.replace(b"\n\n", b"\nheart-beat:0,1000\n\n"))
        peer.read_message()
        self.assertEqual([peer.read_message() for _ in range(2)], [(wire.TEXT, b"\n")] * 2)

    @conforms(headgate="idle-1")
    def test_idle_clients_on_plain_tcp_are_ended_unless_they_agreed_to_heart_beats(self):
        idle = self.open(raw(self.gw.addresses["stomp"], CONNECT))
        beating = self.open(raw(self.gw.addresses["stomp"], CONNECT.replace(b"\n\n", b"\nheart-beat:0,1000\n\n")))
        answer = idle.read_to_end()
        self.assertIn(b"ERROR\nmessage:idle for too long, without heart-beats\n", answer)
        self.gw.wait_log("stomp.ended", why="idle for too long, without heart-beats")
        beating.read_until(b"\0\n\n\n")
        beating.send(wire.stomp("DISCONNECT", {"receipt": "1"}))
        self.assertIn(b"receipt-id:1", beating.read_to_end())


class Late(WebSocketConformance):
    """What does not come is not waited for; who does not read is not written to for ever."""

    config = """
        [http]
        request_timeout = "1s"
        websocket_ping = "1s"
        [stomp]
        connect_timeout = "1s"
        [mqtt]
        connect_timeout = "1s"
        [limits]
        outbound_low = "32KiB"
        outbound_high = "256KiB"
        """

    @conforms(headgate="late-1")
    def test_half_a_handshake_ends(self):
        client = self.open(raw(self.gw.addresses["web"], wire.ws_handshake("/ws", "v12.stomp")[:-2]))
        self.assertIn(b" 408 ", client.read_to_end())

    @conforms(headgate="late-1")
    def test_a_websocket_without_a_session_ends(self):
        stomp, mqtt = self.peer(), self.peer("/mqtt", ["mqtt"])
        stomp.frame(wire.TEXT, b"CONN", is_final=False)
        self.assertIn(b"ERROR\nmessage:no CONNECT frame came in time\n", stomp.read_message()[1])
        self.assertEqual(stomp.ending()[0], POLICY)
        mqtt.read_to_end()

    @conforms(headgate="ping-2")
    def test_who_takes_nothing_of_what_waits_for_it_is_gone(self):
        deaf = self.peer()
        deaf.login()
        deaf.frame(wire.TEXT, wire.stomp("SUBSCRIBE", {"id": 1, "destination": "/deaf", "receipt": 1}))
        deaf.read_message()
        beside = self.open(Consumer(self.amqp))
        for _ in range(100):  # more than the kernel keeps
            beside.publish("amq.topic", "deaf", bytes(200000))
        self.gw.wait_log("client.silent", protocol="stomp", peer="{}:{}".format(*deaf.socket.getsockname()))
        self.assertGreater(self.gw.metric("headgate_dropped_total", protocol="stomp"), 0)
