# SPDX-License-Identifier: Apache-2.0
"""STOMP over WebSockets, and clients that say nothing."""
import unittest

from harness import StompConformance, WebSocket, conforms


class Web(StompConformance):
    @conforms(plugin="web-path")
    def test_a_websocket_at_ws_speaks_stomp(self):
        for protocol in ("v10.stomp", "v11.stomp", "v12.stomp"):
            with self.subTest(protocol):
                peer = self.peer(version=f"{protocol[1]}.{protocol[2]}", web=True, protocols=(protocol,))
                self.assertEqual(peer.wire.protocol, protocol)
                destination = f"/topic/{self.name()}"
                peer.subscribe(destination)
                peer.send(destination, "größe".encode())
                self.assertEqual(peer.message().body.decode(), "größe")

    @conforms(stomp="disconnect-1", plugin="web-disconnect")
    def test_a_page_gets_the_receipt_of_its_disconnect(self):
        peer = self.peer(web=True)
        peer.leave()

    @conforms(plugin="web-binary")
    def test_what_is_not_utf_8_comes_in_binary_messages(self):
        peer = self.peer(web=True)
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        for body, opcode in ((b"text", peer.wire.TEXT), (b"\xff\xfe\0", peer.wire.BINARY)):
            peer.frame("SEND", body, destination=destination, content_length=len(body))
            kind, data = peer.wire.read_message()
            self.assertEqual((kind, data.partition(b"\n\n")[2][:len(body)]), (opcode, body))

    @conforms(plugin="web-mixed")
    def test_a_page_and_a_client_over_tcp_meet(self):
        page, client = self.peer(web=True), self.peer()
        destination = f"/topic/{self.name()}"
        page.subscribe(destination)
        client.subscribe(destination)
        page.send(destination, b"by the page")
        self.assertEqual((page.message().body, client.message().body), (b"by the page",) * 2)

    @conforms(plugin="web-no-protocol")
    def test_without_a_sub_protocol_it_is_stomp(self):
        peer = self.peer(web=True, protocols=())
        self.assertIsNone(peer.wire.protocol)
        peer.asked("SEND", b"x", destination="/topic/a")

    @conforms(plugin="web-origin")
    def test_a_page_of_another_origin_may_not_open_one(self):
        with WebSocket(self.addresses["web"], "/ws", ["v12.stomp"], {"Origin": "http://elsewhere.example"}, must_open=False) as page:
            self.assertEqual(page.status, 403)


class Silence(StompConformance):
    config = '[http]\nwebsocket_ping = "1s"\n[stomp]\nidle_timeout = "1s"\n'

    @conforms(plugin="web-ping")
    def test_a_silent_websocket_is_pinged(self):
        page = self.peer(web=True).wire
        try:
            self.assertEqual(page.read_frame()[1], WebSocket.PING)
        except TimeoutError:
            self.fail("no ping came")

    @conforms(plugin="idle")
    def test_a_silent_client_without_heart_beats_is_closed(self):
        self.assertIn("heart-beats", self.peer().error()["message"])


if __name__ == "__main__":
    unittest.main()
