# SPDX-License-Identifier: Apache-2.0
"""Valid sessions as their clients send them, and what may happen to such bytes on the way."""
import pathlib
import random
import re
import socket
import struct

from . import mqtt5, wire
from .wait import LIMIT_S


class Session:
    """login: (bytes, what the answer must hold) each; chunks: what is sent afterwards, the last one a farewell; answer: what must have
    come before that; frame puts a chunk into a WebSocket frame."""

    def __init__(self, listener, login, chunks, answer, frame=lambda chunk: chunk):
        self.listener, self.login, self.chunks, self.answer, self.frame = listener, login, chunks, answer, frame

    def framed(self):
        """All that is sent: the login's steps and the chunks."""
        return [data for data, _ in self.login] + [self.frame(c) for c in self.chunks]


MQTT_CHUNKS = [
    wire.mqtt_subscribe(1, "hostile/#", "hostile/+/b"),
    wire.mqtt_publish("hostile/a", b"one", 1, 2),
    wire.mqtt_publish("hostile/a/b", b"0" * 300),
    wire.mqtt_publish("hostile/c", b"", 2, 3),
    wire.mqtt_ack(wire.MQTT_PUBREL, 6),  # of an earlier connection
    wire.mqtt_ack(wire.MQTT_PUBACK, 1),
    wire.MQTT_PINGREQ,
    wire.mqtt_unsubscribe(4, "hostile/#"),
    wire.mqtt_publish("hostile/a", b"two", 1, 5),
    wire.MQTT_DISCONNECT,
]


MQTT5_CHUNKS = [
    mqtt5.subscribe(1, "hostile/#", ("hostile/+/b", 0x1E), subscription_id=7, user=("a", "b")),
    mqtt5.publish("hostile/a", b"one", 1, 2, topic_alias=1, payload_format=1, message_expiry=60, content_type="text/plain"),
    mqtt5.publish("", b"0" * 300, topic_alias=1, response_topic="hostile/r", correlation_data=b"7", user=[("a", "b"), ("a", "c")]),
    mqtt5.publish("hostile/c", b"", 2, 3),
    mqtt5.ack(mqtt5.PUBREL, 6, 0x92, reason_string="of an earlier connection"),
    mqtt5.ack(mqtt5.PUBACK, 1),
    mqtt5.subscribe(8, ("$share/hostile/hostile/s", 1)),
    mqtt5.PING,
    mqtt5.unsubscribe(4, "hostile/#", user=("a", "b")),
    mqtt5.publish("hostile/a", b"two", 1, 5),
    mqtt5.disconnect(0x04, reason_string="with the will"),
]


def client_id(n):
    """With the number twice: one flipped bit does not make it another mutation's, who would lose its connection."""
    return f"hostile-{n:05}-{n:05}"


def mqtt5_login(n):
    will = mqtt5.Will("hostile/will", b"gone", 1, True, message_expiry=60, content_type="text/plain", user=("a", "b"))
    return mqtt5.connect(client_id(n), will=will, receive_maximum=20, maximum_packet_size=4096, topic_alias_maximum=4,
                         session_expiry=0, request_problem=1), bytes([mqtt5.CONNACK << 4])


def mqtt_login(n):
    """With a client id of its own: two that meet would end each other."""
    will = wire.mqtt_string("hostile/will") + wire.mqtt_string("gone")
    return wire.mqtt_connect(client_id(n), 0x2E, rest=will), wire.MQTT_CONNACK


STOMP_CHUNKS = [
    wire.stomp("SUBSCRIBE", {"id": "0", "destination": "/hostile/*", "ack": "auto", "receipt": "1"}),
    wire.stomp("SEND", {"destination": "/hostile/a", "content-type": "text/plain", "content-length": 3, "receipt": "2"}, b"one"),
    wire.stomp("SEND", {"destination": "/topic/hostile.b", "x-name": r"a\cb\nc\\d", "receipt": "3"}, b"0" * 300),
    b"\n\r\n",
    wire.stomp("SUBSCRIBE", {"id": "1", "destination": "/queue/hostile", "receipt": "4"}),
    wire.stomp("SEND", {"destination": "/queue/hostile", "content-length": "5", "persistent": "true"}, b"\0\1\0\2\0"),
    wire.stomp("UNSUBSCRIBE", {"id": "0", "receipt": "5"}),
    wire.stomp("DISCONNECT", {"receipt": "6"}),
]
STOMP_LOGIN = (wire.stomp("CONNECT", {"accept-version": "1.0,1.1,1.2", "host": "/", "login": "guest", "passcode": "guest",
                                      "heart-beat": "0,0"}), b"CONNECTED")

HTTP_CHUNKS = [
    wire.http("POST", "/v1/topics/hostile/b?mandatory=false", b"two", {"Content-Type": "text/plain", "Correlation-Id": "7"}),
    wire.http("POST", "/v1/topics/hostile/c", wire.http_chunked(b"thr", b"ee"), {"Transfer-Encoding": "chunked"}),
    wire.http("POST", "/v1/topics/hostile/%C3%BC", b"0" * 300, {"Amqp-Priority": "5", "Amqp-Header-X": "y", "Expect": "100-continue"}),
    wire.http("GET", "/nothing"),
    wire.http("OPTIONS", "/v1/topics/hostile/a", headers={"Origin": "http://a", "Access-Control-Request-Method": "POST"}),
    wire.http("DELETE", "/v1/topics/hostile/a"),
    wire.http("POST", "/v1/topics/hostile/d", b"", {"Connection": "close"}),
]
HTTP_LOGIN = (wire.http("POST", "/v1/topics/hostile/a", b"one"), b'"key"')


def in_web_socket(path, protocol, opcode, login, chunks, answer):
    def frame(chunk):
        return wire.ws_frame(opcode, chunk)
    return Session("web", [(wire.ws_handshake(path, protocol), b"\r\n\r\n"), (frame(login[0]), login[1])], chunks, answer, frame)


PROXY_HEADERS = [
    b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 65535 1883\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0f" + bytes(range(8)) + b"\0\1\0\2" + b"\x04\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24" + bytes(range(32)) + b"\0\1\0\2",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
]
# The fuzzer's: a first byte that says where to split them, then records of TLS.
HELLOS = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "corpus" / "tls"
TLS_CHUNKS = [
    b"\x14\x03\x03\0\1\1",                      # ChangeCipherSpec, which peers in a middle may see
    b"\x17\x03\x03\0\x35" + bytes(range(0x35)),  # what would be Finished, under keys that are not agreed
    b"\x15\x03\x03\0\2\1\0",                    # close_notify
]


def proxied(n):
    return Session("proxied", [], [PROXY_HEADERS[n % len(PROXY_HEADERS)], mqtt_login(n)[0], wire.mqtt_publish("hostile/p", b"one", 1, 2),
                                   wire.MQTT_DISCONNECT], b"\x40\x02\x00\x02")


def tls(n):
    hellos = sorted(HELLOS.glob("hello-1.*"))
    return Session("tls", [], [hellos[n % len(hellos)].read_bytes()[1:], *TLS_CHUNKS], b"\x16\x03\x03")


# By name; called with the number of the client.
SESSIONS = {
    "mqtt": lambda n: Session("mqtt", [mqtt_login(n)], MQTT_CHUNKS, b"\x40\x02\x00\x05"),
    "mqtt5": lambda n: Session("mqtt", [mqtt5_login(n)], MQTT5_CHUNKS, mqtt5.ack(mqtt5.PUBACK, 5)),
    "mqtt_in_websocket": lambda n: in_web_socket("/mqtt", "mqtt", wire.BINARY, mqtt_login(n), MQTT_CHUNKS, b"\x40\x02\x00\x05"),
    "stomp": lambda n: Session("stomp", [STOMP_LOGIN], STOMP_CHUNKS, b"receipt-id:5\n"),
    "stomp_in_websocket": lambda n: in_web_socket("/ws", "v12.stomp", wire.TEXT, STOMP_LOGIN, STOMP_CHUNKS, b"receipt-id:5\n"),
    "http": lambda n: Session("web", [HTTP_LOGIN], HTTP_CHUNKS, b"405 Method Not Allowed"),
}
# Those that need listeners of their own.
BEFORE = {"proxied": proxied, "tls": tls}

# ---- What happens to a list of chunks; each returns a new one


def flip_bits(r, chunks):
    i = r.randrange(len(chunks))
    changed = bytearray(chunks[i])
    for _ in range(r.choice((1, 1, 2, 8))):
        changed[r.randrange(len(changed))] ^= 1 << r.randrange(8)
    return [*chunks[:i], bytes(changed), *chunks[i + 1:]]


def truncate(r, chunks):
    i = r.randrange(len(chunks))
    rest = chunks[i + 1:] if r.random() < 0.5 else []  # the next chunk in the middle of this one, or nothing more
    return [*chunks[:i], chunks[i][:r.randrange(len(chunks[i]))], *rest]


def duplicate(r, chunks):
    i = r.randrange(len(chunks))
    return [*chunks[:i], *[chunks[i]] * r.choice((2, 2, 3, 40)), *chunks[i + 1:]]


def remove(r, chunks):
    i = r.randrange(len(chunks))
    return chunks[:i] + chunks[i + 1:]


def reorder(r, chunks):
    return r.sample(chunks, len(chunks))


def insert(r, chunks):
    i = r.randrange(len(chunks))
    at = r.randrange(len(chunks[i]) + 1)
    return [*chunks[:i], chunks[i][:at] + r.randbytes(r.choice((1, 4, 64, 5000))) + chunks[i][at:], *chunks[i + 1:]]


def change_length(r, chunks):
    """A number in digits, or a byte that is most likely part of a length."""
    i = r.randrange(len(chunks))
    numbers = list(re.finditer(rb"\d+", chunks[i]))
    if numbers and r.random() < 0.7:
        at, end = r.choice(numbers).span()
        value = str(r.choice((0, 1, 2, 999, 65536, 2**31, 2**32, 2**63, 2**64, -1))).encode()
    else:
        at = r.choice([1, 1, 2, 3, len(chunks[i]) // 2])
        end = at + r.choice((1, 2))
        value = r.choice((b"\0", b"\1", b"\x7d", b"\x7e", b"\x7f", b"\xff", b"\xfe", b"\0\0", b"\xff\xff", b"\xff\xff\xff\x7f"))
    return [*chunks[:i], chunks[i][:at] + value + chunks[i][end:], *chunks[i + 1:]]


CHANGES = (flip_bits, truncate, duplicate, remove, reorder, insert, change_length)


class Mutation:
    """Number n of a session's mutations: the same bytes every time."""

    def __init__(self, name, n):
        r = self.random = random.Random(f"{name} {n}")
        session = self.session = (SESSIONS.get(name) or BEFORE[name])(n)
        self.name = f"{name} {n}"
        self.login, chunks = session.login, session.chunks
        if r.random() < 0.2:  # the login is not waited for, and changed with all the rest
            self.login = []
            self.chunks = self.change(session.framed())
        elif r.random() < 0.5:
            self.chunks = [session.frame(c) for c in self.change(chunks)]
        else:
            self.chunks = self.change([session.frame(c) for c in chunks])

    def change(self, chunks):
        for _ in range(self.random.choice((1, 1, 2, 3))):
            chunks = [c for c in self.random.choice(CHANGES)(self.random, chunks) if c] or [b"\0"]
        return chunks

    def writes(self):
        """Chunk by chunk, all at once, or in pieces of any size."""
        how, whole = self.random.random(), b"".join(self.chunks)
        if how < 0.3:
            return self.chunks
        if how < 0.6:
            return [whole]
        most = self.random.choice((1, 7, 100)) if len(whole) < 3000 else 3000
        pieces = []
        while whole:
            n = self.random.randint(1, most)
            pieces.append(whole[:n])
            whole = whole[n:]
        return pieces

    def replay(self, addresses):
        """Sends it all and leaves in one of three ways; politely, the gateway must end the connection as well."""
        with socket.create_connection(addresses[self.session.listener], timeout=LIMIT_S) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for data, answer in self.login:
                s.sendall(data)
                read_until(s, answer)
            try:
                for piece in self.writes():
                    s.sendall(piece)
                leave(s, self.random.choice(("at once", "reset", "politely")))
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has had enough


def read_until(s, end):
    got = b""
    while end not in got:
        data = s.recv(65536)
        if not data:
            raise AssertionError(f"the connection ended after {got!r}")
        got += data
    return got


def leave(s, how):
    if how == "reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    elif how == "politely":
        s.shutdown(socket.SHUT_WR)
        while s.recv(65536):
            pass
