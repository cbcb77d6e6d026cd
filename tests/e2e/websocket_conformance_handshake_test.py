# SPDX-License-Identifier: Apache-2.0
"""RFC 6455 section 4: the handshake, who may open a WebSocket, and where."""
import json

from harness import WebSocketConformance, WsPeer, conforms, raw, wire

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # section 1.3, with its answer
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
FINE = {"Host": "gateway", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY, "Sec-WebSocket-Version": "13"}


def request(*more, start="GET /ws HTTP/1.1", without=(), **changed):
    """A handshake; names of headers with _ for -, and more of them as they are."""
    fields = {**FINE, **{name.replace("_", "-"): value for name, value in changed.items()}}
    lines = [start, *(f"{name}: {value}" for name, value in fields.items() if name not in without), *more]
    return ("\r\n".join([*lines, "", ""])).encode()


class Handshake(WebSocketConformance):
    def answer(self, data):
        """(status, {header: value}, the rest) of the answer; the connection stays open until the test ends."""
        client = self.open(raw(self.gw.addresses["web"], data))
        head = client.read_until(b"\r\n\r\n").decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        return int(head[0].split()[1]), headers, client

    @conforms(rfc6455="4.2.2-1 4.2.1-1 4.2.1-2 4.2.1-3")
    def test_the_answer_is_the_standards(self):
        for how in ({}, {"Upgrade": "WebSocket", "Connection": "upgrade"}, {"Connection": "keep-alive, Upgrade"},
                    {"Upgrade": "h2c, websocket"}):
            status, headers, _ = self.answer(request(**how))
            self.assertEqual((status, headers["upgrade"].lower(), headers["connection"].lower(), headers["sec-websocket-accept"]),
                             (101, "websocket", "upgrade", ACCEPT))
            self.assertNotIn("sec-websocket-protocol", headers)

    @conforms(rfc6455="4.1-1 4.2.1-1 4.2.1-2 4.2.1-3 4.2.1-4 4.2.1-5 4.2.1-6 4.4-1 11.3.5-1")
    def test_what_is_no_handshake_is_refused(self):
        for want, data in (
                (426, request(without=["Upgrade"])), (426, request(Upgrade="h2c")), (426, request(without=["Connection"])),
                (426, request(Connection="keep-alive")), (426, request(start="GET /ws HTTP/1.0")),
                (426, request(without=["Sec-WebSocket-Version"])), (426, request(Sec_WebSocket_Version="8")),
                (426, request(Sec_WebSocket_Version="14")), (400, request("Sec-WebSocket-Version: 13")),
                (400, request(without=["Sec-WebSocket-Key"])), (400, request(Sec_WebSocket_Key="dGhlIHNhbXBsZQ==")),
                (400, request(Sec_WebSocket_Key=KEY[:-1])), (400, request(f"Sec-WebSocket-Key: {KEY}")),
                (400, request(without=["Host"])), (400, request("Host: other")),
                (405, request(start="POST /ws HTTP/1.1")), (400, request(start="HEAD /ws HTTP/1.1")),
                (400, request("Content-Length: 1") + b"x"), (404, request(start="GET /no HTTP/1.1")),
                (400, request("Sec-WebSocket-Protocol: v12 stomp")), (400, request("Sec-WebSocket-Protocol: a/b")),
                (400, request("Sec-WebSocket-Extensions: a b")), (400, request('Sec-WebSocket-Extensions: a; b="c d"'))):
            with self.subTest(data):
                status, headers, _ = self.answer(data)
                self.assertEqual(status, want)
                if want == 426:
                    self.assertEqual((headers["sec-websocket-version"], headers["upgrade"]), ("13", "websocket"))

    @conforms(rfc6455="4.2.2-2")
    def test_the_sub_protocol_is_one_that_was_offered(self):
        for offer, path, want in (("v12.stomp", "/ws", "v12.stomp"), ("x, v10.stomp, v11.stomp", "/ws", "v11.stomp"),
                                  ("mqtt, v12.stomp", "/ws", "mqtt"), ("mqttv3.1", "/mqtt", "mqttv3.1"),
                                  ("v10.stomp", "/mqtt", "v10.stomp"), ("x", "/ws", None), ("V12.stomp", "/ws", None)):
            with self.subTest(offer):
                status, headers, _ = self.answer(request(f"Sec-WebSocket-Protocol: {offer}", start=f"GET {path} HTTP/1.1"))
                self.assertEqual((status, headers.get("sec-websocket-protocol")), (101, want) if want else (400, None))

    @conforms(rfc6455="4.2.2-3 9.1-1")
    def test_no_extension_is_agreed_to(self):
        for offer in ("permessage-deflate", "permessage-deflate; client_max_window_bits, x-webkit-deflate-frame",
                      'a; b="c"; d=e, , f'):
            status, headers, client = self.answer(request(f"Sec-WebSocket-Extensions: {offer}"))
            self.assertEqual((status, headers.get("sec-websocket-extensions")), (101, None))
            client.send(wire.ws_frame(wire.TEXT, b"\n", rsv=4))
            self.assertEqual(client.read_to_end()[2:4], b"\x03\xea")

    @conforms(rfc6455="4.1-2")
    def test_frames_may_come_with_the_handshake(self):
        for n in range(1, 40, 13):
            data = wire.ws_frame(wire.PING, b"early") + wire.ws_frame(wire.PING, b"on time")
            client = self.open(raw(self.gw.addresses["web"], request() + data[:n]))
            client.read_until(b"\r\n\r\n")
            client.send(data[n:])
            self.assertEqual(client.read_n(16), b"\x8a\x05early\x8a\x07on time")

    @conforms(rfc6455="4.2.1-6")
    def test_a_handshake_split_at_every_byte_is_one(self):
        data = request() + wire.ws_frame(wire.PING, b"x")
        client = self.open(raw(self.gw.addresses["web"]))
        for i in range(len(data)):
            client.send(data[i:i + 1])
        self.assertIn(ACCEPT.encode(), client.read_until(b"\r\n\r\n"))
        self.assertEqual(client.read_n(3), b"\x8a\x01x")

    @conforms(rfc6455="4.2.2-4 10.2-1", headgate="origin-1 origin-2")
    def test_pages_of_the_same_origin_may_and_others_may_not(self):
        host = "{}:{}".format(*self.gw.addresses["web"])
        for protocols, path in ((["v12.stomp"], "/ws"), (["mqtt"], "/mqtt")):
            for origin in (f"http://{host}", f"https://{host}"):
                self.assertEqual(self.peer(path, protocols, headers={"Origin": origin}).status, 101)
            for origin in ("http://attacker.example", "http://127.0.0.1", "null", f"http://{host}.attacker.example", host):
                refused = self.peer(path, protocols, headers={"Origin": origin}, must_open=False)
                self.assertEqual((refused.status, refused.headers["content-type"]), (403, "application/problem+json"))
                problem = json.loads(refused.read_n(int(refused.headers["content-length"])))
                self.assertEqual((problem["status"], problem["code"]), (403, "NOT_ALLOWED"))
        self.gw.wait_log("websocket.refused", origin="http://attacker.example", host=host, path="/ws")


class Configured(WebSocketConformance):
    """A list of origins, paths of one's own; and no page is disturbed by a WebSocket at the root."""

    options = {"web": 'origins = ["https://app.example.org"]\nwebsocket_paths = ["/", "/live/stomp", "/live/mqtt"]'}

    @conforms(rfc6455="10.2-1", headgate="origin-3")
    def test_the_list_says_whose_pages_may(self):
        host = "{}:{}".format(*self.gw.addresses["web"])
        for origin, want in (("https://app.example.org", 101), ("http://app.example.org", 403), (f"http://{host}", 403),
                             ("https://app.example.org:444", 403)):
            self.assertEqual(self.peer("/live/stomp", headers={"Origin": origin}, must_open=False).status, want, origin)
        self.assertEqual(self.peer("/live/stomp").status, 101)

    @conforms(rfc6455="4.2.2-5", headgate="path-1 path-2")
    def test_websockets_open_on_the_configured_paths(self):
        for path, protocols, want in (("/live/stomp", (), 101), ("/live/stomp?token=1", ("mqtt",), 101), ("/", (), 101),
                                      ("/live/mqtt", ("mqtt",), 101), ("/live/mqtt", (), 400), ("/ws", (), 404),
                                      ("/mqtt", ("mqtt",), 404), ("/live/stomp/", (), 404)):
            with self.subTest(path, protocols=protocols):
                self.assertEqual(self.peer(path, protocols, must_open=False).status, want)
        self.peer("/").login()
        client = self.open(raw(self.gw.addresses["web"], wire.http("GET", "/")))
        self.assertIn(b" 404 ", client.read_until(b"\r\n"))


class Open(WebSocketConformance):
    """For every page."""

    options = {"web": 'origins = ["*"]'}

    @conforms(headgate="origin-3")
    def test_a_star_is_every_origin(self):
        for origin in ("http://attacker.example", "null", "x"):
            self.open(WsPeer(self.gw.addresses["web"], headers={"Origin": origin})).login()
