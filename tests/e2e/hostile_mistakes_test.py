# SPDX-License-Identifier: Apache-2.0
"""Each protocol's own answer to typical mistakes, and the log line that names client and rule."""
import json

from harness import E2E, raw, wire

LIMITS = """
[limits]
max_topic = "100B"
max_topic_levels = 8
max_subscriptions = 3
[mqtt]
max_packet = "16KiB"
[stomp]
max_frame = "16KiB"
max_header = "2KiB"
max_headers = 20
[http]
max_body = "16KiB"
max_header = "2KiB"
max_url = "256B"
"""
MAX_MESSAGE = 'max_message = "8KiB"'


class Mistakes(E2E):
    def setUp(self):
        self.gw = self.gateway(LIMITS, rabbitmq=MAX_MESSAGE)


def connect(client_id="c", flags=2, rest=b"", **options):
    return wire.mqtt_connect(client_id, flags, rest=rest, **options)


STRING = wire.mqtt_string
# What is sent instead of CONNECT, the CONNACK that must come, and the rule in the log.
MQTT_AT_LOGIN = {
    "another packet first": (wire.MQTT_PINGREQ, b"", "the first packet must be CONNECT"),
    "flags of CONNECT": (b"\x11" + connect()[1:], b"", "CONNECT flags must be 0000"),
    "a protocol name of its own": (connect(name="MQTS"), b"", "the protocol name must be MQTT"),
    "MQTT 6": (connect(level=6), b"\x20\x02\x00\x01", "protocol version not supported"),
    "the reserved flag": (connect(flags=3), b"", "the reserved CONNECT flag must be 0"),
    "a will of QoS 3": (connect(flags=0x1E, rest=STRING("w") + STRING("x")), b"", "the will's QoS must not be 3"),
    "a password without a user": (connect(flags=0x42, rest=STRING("p")), b"", "a password needs a user name"),
    "no client id, not clean": (connect("", 0), b"\x20\x02\x00\x02", "client identifier not valid"),
    "a client id that is not UTF-8": (connect(b"\xff\xfe"), b"", "the client identifier is not clean UTF-8"),
    "a will topic with a wildcard": (connect(flags=6, rest=STRING("w/#") + STRING("x")), b"", "a will topic must not hold wildcards"),
    "a will topic over the limit": (connect(flags=6, rest=STRING("w" * 101) + STRING("x")), b"\x20\x02\0\5", "address not valid"),
    "a packet that ends too soon": (wire.mqtt(0x10, STRING("MQTT") + b"\4"), b"", "a field reaches past the end of its packet"),
    "a packet with too much": (connect(rest=b"more"), b"", "the packet has bytes after its last field"),
    "a length of five bytes": (b"\x10\xff\xff\xff\xff\x01", b"", "the remaining length has more than 4 bytes"),
    "a packet over the limit": (wire.mqtt(0x10, length=17000), b"", "the packet exceeds the limit on packets"),
}
# What is sent after CONNECT, and the rule.
MQTT_AFTER_LOGIN = {
    "CONNECT again": (connect(), "CONNECT must be sent only once"),
    "a server's packet": (b"\x20\x02\x00\x00", "a packet type that clients do not send"),
    "packet type 0": (b"\x00\x00", "a packet type that clients do not send"),
    "QoS 3": (wire.mqtt(0x36, STRING("t") + b"\0\1"), "QoS must be 0, 1 or 2"),
    "DUP with QoS 0": (wire.mqtt(0x38, STRING("t")), "DUP must be 0 where the QoS is 0"),
    "packet id 0": (wire.mqtt_publish("t", b"", 1, 0), "a packet identifier must not be 0"),
    "an empty topic": (wire.mqtt_publish("", b""), "a topic must not be empty"),
    "a topic with a wildcard": (wire.mqtt_publish("a/+", b""), "a topic must not hold wildcards"),
    "a topic that is not UTF-8": (wire.mqtt_publish(b"a\xc0\xaf", b""), "the topic is not clean UTF-8"),
    "a topic with NUL": (wire.mqtt_publish("a\0b", b""), "the topic is not clean UTF-8"),
    "a topic over the limit": (wire.mqtt_publish("t" * 101, b""), "is too long"),
    "too many levels": (wire.mqtt_publish("/".join("abcdefghi"), b""), "has too many levels"),
    "a body over RabbitMQ's limit": (wire.mqtt_publish("t", b"0" * 9000, 1, 1), "the body is larger than max_message_size"),
    "a packet over the limit": (wire.mqtt(0x30, length=17000), "the packet exceeds the limit on packets"),
    "flags of SUBSCRIBE": (b"\x80" + wire.mqtt_subscribe(1, "a")[1:], "SUBSCRIBE flags must be 0010"),
    "no filter": (wire.mqtt_subscribe(1), "SUBSCRIBE must have a topic filter"),
    "an empty filter": (wire.mqtt_subscribe(1, ""), "a topic filter must not be empty"),
    "a wildcard in a level": (wire.mqtt_subscribe(1, "a/b#"), "a topic filter has a wildcard where none may be"),
    "# before the end": (wire.mqtt_subscribe(1, "#/a"), "a topic filter has a wildcard where none may be"),
    "a QoS of 3 asked for": (wire.mqtt_subscribe(1, "a", qos=3), "a requested QoS must be 0, 1 or 2"),
    "nothing to unsubscribe": (wire.mqtt_unsubscribe(1), "UNSUBSCRIBE must have a topic filter"),
    "flags of PUBREL": (b"\x60\x02\x00\x01", "PUBREL flags must be 0010"),
    "a PUBACK of three bytes": (b"\x40\x03\x00\x01\x00", "PUBACK must have 2 bytes"),
    "a PINGREQ with something in it": (b"\xc0\x01\x00", "PINGREQ must be empty"),
}


class MqttMistakes(Mistakes):
    """MQTT 3.1.1 has few words for them: CONNACK's code where there is one, then the end."""

    def test_at_login_are_answered_and_logged(self):
        for what, (data, connack, rule) in MQTT_AT_LOGIN.items():
            with self.subTest(what), raw(self.gw.addresses["mqtt"], data) as client:
                self.assertEqual(client.read_to_end(), connack)
                self.gw.wait_log("client.refused", protocol="mqtt", rule=rule)

    def test_after_login_end_the_connection_and_are_logged(self):
        for n, (what, (data, rule)) in enumerate(MQTT_AFTER_LOGIN.items()):
            with self.subTest(what), raw(self.gw.addresses["mqtt"], connect(f"client-{n}") + data) as client:
                self.assertEqual(client.read_to_end(), wire.MQTT_CONNACK)
                line = self.gw.wait_log("client.refused", protocol="mqtt", client=f"client-{n}", rule=rule)
                self.assertRegex(line["peer"], r"^127\.0\.0\.1:\d+$")
        self.assertEqual(self.gw.metric("headgate_errors_total", protocol="mqtt"), len(MQTT_AFTER_LOGIN))

    def test_one_subscription_too_many_is_refused_alone(self):
        packets = [connect(), *[wire.mqtt_subscribe(n, f"t/{n}") for n in range(1, 5)], wire.MQTT_PINGREQ]
        with raw(self.gw.addresses["mqtt"], b"".join(packets)) as client:
            self.assertEqual(client.read_n(4), wire.MQTT_CONNACK)
            answers = client.read_n(4 * 5 + 2)  # SUBACKs come when their bindings exist, so in any order
            for n, code in enumerate(b"\1\1\1\x80", 1):
                self.assertIn(bytes([0x90, 3, 0, n, code]), answers)


STOMP_CONNECT = wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"})


def send(body=b"", **headers):
    return wire.stomp("SEND", {"destination": "/topic/a", **{k.replace("_", "-"): v for k, v in headers.items()}}, body)


def subscribe(**headers):
    return wire.stomp("SUBSCRIBE", {k.replace("_", "-"): v for k, v in {"id": "0", "destination": "/topic/a", **headers}.items()})


# What is sent instead of CONNECT, and what the ERROR frame must say, in its message header or its body.
STOMP_AT_LOGIN = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "the frame does not start with a STOMP command"),
    "no CONNECT first": (send(), "the first frame is not CONNECT or STOMP"),
    "no version that we know": (wire.stomp("CONNECT", {"accept-version": "2.0"}), "accept-version names no version from 1.0 to 1.2"),
    "half a heart-beat": (wire.stomp("CONNECT", {"accept-version": "1.2", "heart-beat": "5"}),
                          "heart-beat is not two numbers of milliseconds joined by a comma"),
    "a long name": (wire.stomp("CONNECT", {"accept-version": "1.2", "login": "l" * 256}), "login is over 255 bytes"),
    "a body": (wire.stomp("CONNECT", {"accept-version": "1.2"}, b"body"), "only SEND, MESSAGE and ERROR frames have a body"),
}
STOMP_AFTER_LOGIN = {
    "CONNECT again": (STOMP_CONNECT, "CONNECT came a second time"),
    "no such command": (wire.stomp("PUBLISH"), "the frame does not start with a STOMP command"),
    "a server's frame": (wire.stomp("MESSAGE", {"destination": "/topic/a"}), "this frame is only for servers to send"),
    "no destination": (wire.stomp("SEND"), "the header destination is missing"),
    "an empty destination": (wire.stomp("SEND", {"destination": ""}), "the destination cannot be read"),
    "an address with a wildcard": (wire.stomp("SEND", {"destination": "/a/#"}), "holds a wildcard (+ or #)"),
    "a long address": (wire.stomp("SEND", {"destination": "/" + "a" * 101}), "is too long"),
    "a header without a colon": (b"SEND\ndestination:/topic/a\nbroken\n\n\0", "a header has no colon"),
    "a header without a name": (b"SEND\ndestination:/topic/a\n:x\n\n\0", "a header has no name"),
    "an escape of its own": (send(x=r"\t"), "a header has an escape that is not defined"),
    "a header that is not UTF-8": (b"SEND\ndestination:/topic/\xff\n\n\0", "the headers are not UTF-8"),
    "a frame that ends too soon": (b"SEND\ndestination:/topic/a\0", "the frame ends before its empty line"),
    "a length in words": (send(content_length="ten"), "content-length is not a number"),
    "a length that is too short": (send(b"body", content_length=2), "no NUL where content-length says the body ends"),
    "a length over the limit": (send(content_length=20000), "content-length exceeds the limit on frames"),
    "a frame over the limit": (send(b"0" * 17000), "the frame exceeds the limit on frames"),
    "a body over RabbitMQ's limit": (send(b"0" * 9000), "the body is larger than max_message_size"),
    "many headers": (wire.stomp("SEND", [("destination", "/topic/a")] + [("x", "y")] * 20), "too many headers"),
    "long headers": (send(x="y" * 2100), "the headers exceed the limit on them"),
    "a receipt of a KiB": (send(receipt="r" * 1025), "the header receipt is over 1024 bytes"),
    "an expiration in words": (send(expiration="abc"), "expiration is not a number of milliseconds"),
    "no id": (wire.stomp("SUBSCRIBE", {"destination": "/topic/a"}), "the header id is missing or empty"),
    "an id twice": (subscribe() + subscribe(), "a subscription with this id exists already"),
    "an unknown ack": (subscribe(ack="perhaps"), "the header ack is none of auto, client, client-individual"),
    "a subscription too many": (b"".join(subscribe(id=n) for n in range(4)), "max_subscriptions"),
    "nothing to unsubscribe": (wire.stomp("UNSUBSCRIBE", {"id": "9"}), "there is no subscription with this id"),
}


def error_of(answer):
    """message and body of the ERROR frame that must be the last."""
    head, _, body = answer.rpartition(b"ERROR\n")[2].partition(b"\n\n")
    headers = dict(line.split(b":", 1) for line in head.split(b"\n"))
    return headers[b"message"].decode(), body.decode()


class StompMistakes(Mistakes):
    """An ERROR frame that says the rule, then the end."""

    def check(self, what, data, message, is_greeted):
        with self.subTest(what), raw(self.gw.addresses["stomp"], data) as client:
            answer = client.read_to_end()
            self.assertEqual(answer.startswith(b"CONNECTED"), is_greeted)
            self.assertTrue(answer.endswith(b"\0"), answer)
            got, body = error_of(answer)
            self.assertIn(message, f"{got}\n{body}")

    def test_at_login_are_told(self):
        for what, (data, message) in STOMP_AT_LOGIN.items():
            self.check(what, data, message, False)
            self.gw.wait_log("client.refused", protocol="stomp", rule=message)
        self.assertEqual(self.gw.metric("headgate_errors_total", protocol="stomp"), len(STOMP_AT_LOGIN))

    def test_after_login_are_told(self):
        for what, (data, message) in STOMP_AFTER_LOGIN.items():
            self.check(what, STOMP_CONNECT + data, message, True)
        self.assertEqual(self.gw.metric("headgate_errors_total", protocol="stomp"), len(STOMP_AFTER_LOGIN))

    def test_carry_the_receipt_of_the_frame_that_was_wrong(self):
        data = STOMP_CONNECT + wire.stomp("SEND", {"destination": "", "receipt": "r 17"})
        with raw(self.gw.addresses["stomp"], data) as client:
            self.assertIn(b"\nreceipt-id:r 17\n", client.read_to_end())


def chunked(body, **headers):
    return wire.http("POST", "/v1/topics/a", body, {"Transfer-Encoding": "chunked", **headers})


def post(path="/v1/topics/a", body=b"x", headers=()):
    return wire.http("POST", path, body, headers)


TAKEN, ENDED = False, True  # whether the connection goes on
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade"}
# A request, its status, what the problem's detail must say, and whether the connection ends: it does where nobody could tell any more
# where the next request begins.
HTTP = {
    "another protocol": (connect(), 400, "control character", ENDED),
    "no HTTP": (b"hello\r\n\r\n", 400, "METHOD TARGET HTTP/1.1", ENDED),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/1.1", ENDED),
    "HTTP/1.2": (wire.http("GET", "/", version="HTTP/1.2"), 505, "HTTP/1.1", ENDED),
    "an unknown method": (wire.http("BREW", "/"), 501, "method", ENDED),
    "no Host": (b"GET / HTTP/1.1\r\n\r\n", 400, "Host", ENDED),
    "two Hosts": (wire.http("GET", "/", headers={"Host": "b"}), 400, "Host", ENDED),
    "bare LF": (b"GET / HTTP/1.1\nHost: a\n\n", 400, "LF", ENDED),
    "a folded header": (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400, "blank", ENDED),
    "a space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "header", ENDED),
    "NUL in a header": (b"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n", 400, "control character", ENDED),
    "a length in words": (post(body=None, headers={"Content-Length": "ten"}), 400, "Content-Length", ENDED),
    "a negative length": (post(body=None, headers={"Content-Length": "-1"}), 400, "Content-Length", ENDED),
    "a length with a plus": (post(body=None, headers={"Content-Length": "+1"}), 400, "Content-Length", ENDED),
    "two lengths": (post(headers={"Content-Length": "2"}), 400, "Content-Length", ENDED),
    "two equal lengths": (post(headers={"Content-Length": "1"}), 400, "Content-Length", ENDED),
    "length and coding": (chunked(wire.http_chunked(b"x"), **{"Content-Length": "3"}), 400, "Transfer-Encoding", ENDED),
    "a coding that is not chunked": (post(headers={"Transfer-Encoding": "gzip"}), 400, "Transfer-Encoding", ENDED),
    "a coding behind chunked": (post(headers={"Transfer-Encoding": "chunked, gzip"}), 400, "Transfer-Encoding", ENDED),
    "a chunk's size in words": (chunked(b"ten\r\n"), 400, "chunk size", ENDED),
    "a chunk that is too long": (chunked(b"1\r\nxx\r\n0\r\n\r\n"), 400, "chunk", ENDED),
    "a body over the limit": (post(body=None, headers={"Content-Length": "16385"}), 413, "body", ENDED),
    "chunks over the limit": (chunked(b"4001\r\n"), 413, "body", ENDED),
    "a URL over the limit": (wire.http("GET", "/" + "a" * 300), 414, "request line", ENDED),
    "a request line without end": (b"GET /" + b"a" * 5000, 414, "request line", ENDED),
    "headers over the limit": (wire.http("GET", "/", headers={"X": "y" * 2100}), 431, "headers", ENDED),
    "many headers": (wire.http("GET", "/", headers=[("X", "")] * 200), 431, "headers", ENDED),
    "trailers over the limit": (chunked(b"0\r\nX: " + b"y" * 2100 + b"\r\n\r\n"), 431, "headers", ENDED),
    "an unknown expectation": (post(headers={"Expect": "miracles"}), 417, "100-continue", ENDED),
    "no such path": (wire.http("GET", "/nowhere"), 404, "path", TAKEN),
    "no such method here": (wire.http("DELETE", "/v1/topics/a"), 405, "method", TAKEN),
    "no address": (post("/v1/topics/"), 400, "empty", TAKEN),
    "a wildcard": (post("/v1/topics/a/%23"), 400, "wildcard", TAKEN),
    "a broken escape": (post("/v1/topics/a%2"), 400, "two hex digits", TAKEN),
    "an escaped NUL": (post("/v1/topics/a%00"), 400, "%00", TAKEN),
    "an escape that is not UTF-8": (post("/v1/topics/%ff"), 400, "UTF-8", TAKEN),
    "a long address": (post("/v1/topics/" + "a" * 101), 400, "too long", TAKEN),
    "an unknown parameter": (post("/v1/topics/a?mandatry=true"), 400, "mandatory", TAKEN),
    "a parameter in words": (post("/v1/topics/a?mandatory=perhaps"), 400, "true or false", TAKEN),
    "an expiration in words": (post(headers={"Amqp-Expiration": "abc"}), 400, "Amqp-Expiration", TAKEN),
    "a priority in words": (post(headers={"Amqp-Priority": "high"}), 400, "Amqp-Priority", TAKEN),
    "a body over RabbitMQ's limit": (post(body=b"0" * 9000), 413, "max_message_size", TAKEN),
    "no queue": (post("/v1/topics/nobody/listens?mandatory=true"), 404, "no queue", TAKEN),
    "no WebSocket": (wire.http("GET", "/ws"), 426, "WebSocket", TAKEN),
    "a WebSocket of version 8": (wire.http("GET", "/ws", headers={**WEBSOCKET, "Sec-WebSocket-Version": "8"}), 426, "must be 13", TAKEN),
    "a WebSocket without a key": (wire.http("GET", "/ws", headers={**WEBSOCKET, "Sec-WebSocket-Version": "13"}), 400, "Key", TAKEN),
    "an unknown sub-protocol": (wire.ws_handshake("/ws", "chat"), 400, "Sec-WebSocket-Protocol", TAKEN),
    "no sub-protocol for MQTT": (wire.ws_handshake("/mqtt", ""), 400, "Sec-WebSocket-Protocol", TAKEN),
}


class HttpMistakes(Mistakes):
    def read_answer(self, client):
        head = client.read_until(b"\r\n\r\n").decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        return int(head.split()[1]), fields, client.read_n(int(fields["content-length"]))

    def test_are_told_as_problem_json(self):
        for what, (data, status, detail, is_end) in HTTP.items():
            with self.subTest(what), raw(self.gw.addresses["web"], data) as client:
                got, fields, body = self.read_answer(client)
                self.assertEqual((got, fields["content-type"]), (status, "application/problem+json"))
                problem = json.loads(body)
                self.assertEqual(problem["status"], status)
                self.assertIn(detail, problem["detail"])
                if is_end:
                    self.assertEqual(fields["connection"], "close")
                    self.assertEqual(client.read_to_end(), b"")
                else:
                    client.send(wire.http("GET", "/nowhere"))
                    self.assertEqual(self.read_answer(client)[0], 404)
        self.assertEqual(self.gw.metric("headgate_errors_total", protocol="http"), sum(end for *_, end in HTTP.values()))
        self.gw.wait_log("http.refused", status=431, rule="too many headers")


def frame(*args, **options):
    return wire.ws_frame(*args, **options)


TEXT, BINARY, CLOSE, PING = wire.TEXT, wire.BINARY, wire.CLOSE, wire.PING
BROKEN, BAD_DATA, NOT_UTF8, TOO_BIG = 1002, 1003, 1007, 1009
# Frames, and the code that the gateway's close frame must carry (RFC 6455 section 7.4.1).
WEBSOCKET_FRAMES = {
    "no mask": (frame(TEXT, b"x", mask=None), BROKEN),
    "a reserved bit": (frame(TEXT, b"x", rsv=4), BROKEN),
    "opcode 3": (frame(3), BROKEN),
    "opcode 11": (frame(11), BROKEN),
    "a ping in fragments": (frame(PING, is_final=False), BROKEN),
    "a ping of 126 bytes": (frame(PING, b"0" * 126), BROKEN),
    "a continuation of nothing": (frame(0, b"x"), BROKEN),
    "a message inside a message": (frame(TEXT, b"x", is_final=False) + frame(TEXT, b"y"), BROKEN),
    "a length of 64 bits with the first set": (b"\x81\xff" + b"\xff" * 8, BROKEN),
    "a long form for a short length": (b"\x81\xfe\x00\x05" + b"\0" * 9, BROKEN),
    "a close of one byte": (frame(CLOSE, b"\x03"), BROKEN),
    "a close with a code that none may send": (frame(CLOSE, b"\x03\xed"), BROKEN),
    "a close with a reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), NOT_UTF8),
    "text that is not UTF-8": (frame(TEXT, b"\xc0\xaf"), NOT_UTF8),
    "text that ends inside a character": (frame(TEXT, b"\xe2\x82"), NOT_UTF8),
    "a surrogate": (frame(TEXT, b"\xed\xa0\x80"), NOT_UTF8),
    "text that is not UTF-8 over fragments": (frame(TEXT, b"\xe2", is_final=False) + frame(0, b"\x28"), NOT_UTF8),
    "a message over the limit": (b"\x82\xff" + (1 << 20).to_bytes(8, "big") + b"mask0", TOO_BIG),
    "fragments over the limit": (frame(BINARY, b"\n" * 16000, is_final=False) + frame(0, b"\n" * 4000), TOO_BIG),
}


class WebSocketMistakes(Mistakes):
    """A close frame with a code and a reason, then the end."""

    def closed_with(self, path, protocol, data):
        """Code and reason of the close frame, the last that comes."""
        with raw(self.gw.addresses["web"], wire.ws_handshake(path, protocol) + data) as client:
            answer = client.read_to_end()
        self.assertTrue(answer.startswith(b"HTTP/1.1 101 "), answer)
        frames = answer.partition(b"\r\n\r\n")[2]
        while frames[0] != 0x88:
            n, head = (frames[1], 2) if frames[1] < 126 else (int.from_bytes(frames[2:4], "big"), 4)
            frames = frames[head + n:]
        self.assertEqual(len(frames), 2 + frames[1])
        return int.from_bytes(frames[2:4], "big"), frames[4:].decode()

    def test_of_frames_are_told_by_a_code(self):
        for what, (data, code) in WEBSOCKET_FRAMES.items():
            with self.subTest(what):
                got, reason = self.closed_with("/ws", "v12.stomp", data)
                self.assertEqual(got, code)
                self.assertTrue(reason)
        self.assertEqual(self.gw.metric("headgate_errors_total", protocol="stomp"), len(WEBSOCKET_FRAMES))

    def test_of_frames_are_logged_with_client_and_rule(self):
        login = frame(BINARY, connect("in a browser"))
        self.assertEqual(self.closed_with("/mqtt", "mqtt", login + frame(3))[0], BROKEN)
        line = self.gw.wait_log("client.refused", protocol="mqtt", client="in a browser")
        self.assertRegex(line["peer"], r"^127\.0\.0\.1:\d+$")
        self.assertIn("WebSocket", line["rule"])

    def test_of_mqtt_in_text_frames_end_it(self):
        """MQTT 3.1.1, [MQTT-6.0.0-1]."""
        self.assertEqual(self.closed_with("/mqtt", "mqtt", frame(TEXT, connect()))[0], BAD_DATA)

    def test_of_the_protocol_inside_come_before_the_close(self):
        self.assertEqual(self.closed_with("/mqtt", "mqtt", frame(BINARY, connect() + connect()))[0], BROKEN)
        self.assertEqual(self.closed_with("/ws", "v12.stomp", frame(TEXT, send()))[0], BROKEN)
