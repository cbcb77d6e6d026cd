# SPDX-License-Identifier: Apache-2.0
"""Subscribers that stop reading, and what the rule's `slow` makes of it, over every transport."""
import re
import shutil
import socket
import unittest

from harness import Consumer, E2E, Gateway, Mqtt, eventually, mqtt5, raw, wire
from harness.certificates import Authority
from harness.gateway import config_text
from harness.wait import LIMIT_S

KIB = 1 << 10
BODY_N, BURST_N = 16 * KIB, 25
# A burst alone does not make anybody slow, though all of it may come in one turn of the loop.
LOW, HIGH, BACKLOG = 64 * KIB, 1024 * KIB, 256 * KIB
POLICIES = {"new": "drop-new", "old": "drop-oldest", "val": "latest", "cut": "disconnect"}


def rule(name, policy):
    return (f'[[exchange]]\nname = "slow.{name}"\ntype = "topic"\n'
            f'[[rule]]\nname = "{name}"\ntopic = "{name}/{{x...}}"\nexchange = "slow.{name}"\nkey = "{{x...}}"\nslow = "{policy}"\n')


CONFIG = "".join(rule(*r) for r in POLICIES.items()) + '[state]\nlog = "off"\n'  # whose deliveries would be counted, too
LIMITS = f'[limits]\noutbound_low = "{LOW}B"\noutbound_high = "{HIGH}B"\nslow_backlog = "{BACKLOG}B"\n'


class Sleeper(raw):
    """Subscribes to everything below `topic`, and then reads no more until it is told to."""

    def __init__(self, gw, transport, topic, tls=None):
        self.socket = socket.socket()
        self.socket.settimeout(LIMIT_S)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
        serve = {"mqtt5": "mqtt", "mqtt": "mqtt", "tls": "mqtt", "stomp": "stomp", "source": "stomp"}.get(transport, "web")
        self.socket.connect(gw.addresses[serve])
        self.port = self.socket.getsockname()[1]
        self.buffer = b""
        if transport == "tls":
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        getattr(self, transport.replace("/", "_"))(topic)

    def mqtt(self, topic, frame=lambda data: data):
        self.send(frame(wire.mqtt_connect(f"sleeper{self.port}", keepalive=0)))
        self.send(frame(wire.mqtt_subscribe(1, f"{topic}/#", qos=0)))
        self.read_until(b"\x90\x03\x00\x01\x00")
        self.unsubscribe = lambda: self.send(frame(wire.mqtt_unsubscribe(2, f"{topic}/#")))

    tls = mqtt

    def mqtt5(self, topic):
        self.send(mqtt5.connect(f"sleeper{self.port}"))
        self.send(mqtt5.subscribe(1, (f"{topic}/#", 0)))
        self.read_until(b"\x90\x04\x00\x01\x00\x00")

    def ws_mqtt(self, topic):
        self.send(wire.ws_handshake("/mqtt", "mqtt"))
        self.mqtt(topic, lambda data: wire.ws_frame(wire.BINARY, data))

    def stomp(self, topic, frame=lambda data: data):
        self.send(frame(wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"})))
        self.send(frame(wire.stomp("SUBSCRIBE", {"id": "0", "destination": f"/{topic}/#", "receipt": "s"})))
        self.read_until(b"receipt-id:s\n\n\0")
        self.unsubscribe = lambda: self.send(frame(wire.stomp("UNSUBSCRIBE", {"id": "0"})))

    def ws_stomp(self, topic):
        self.send(wire.ws_handshake("/ws", "v12.stomp"))
        self.stomp(topic, lambda data: wire.ws_frame(wire.TEXT, data))

    def source(self, topic):
        """By RabbitMQ's names; the rule that maps the exchange back decides all the same."""
        self.send(wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"}))
        self.send(wire.stomp("SUBSCRIBE", {"id": "0", "destination": f"/exchange/slow.{topic}/#", "receipt": "s"}))
        self.read_until(b"receipt-id:s\n\n\0")

    def sse(self, topic):
        self.send(wire.http("GET", f"/v1/topics/{topic}/%23", headers={"Accept": "text/event-stream"}))
        self.read_until(b"\nretry: ")

    def seen(self, *last):
        """Reads until these messages have come and returns all: (address, number), in their order."""
        parts = []
        for address, number in last:
            parts.append(self.read_until(b"<%s %06d>" % (address, number)))
        return [(m[1], int(m[2])) for m in re.finditer(rb"<(\w+) (\d{6})>", b"".join(parts))]


class Policies(E2E):
    """All sleepers of a test sleep at the same time; they share one gateway with all others."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority() if shutil.which("openssl") else None
        tls = ""
        if cls.authority is not None:
            pair = cls.authority.make("localhost", "DNS:localhost", "IP:127.0.0.1")
            tls = f'[[listener]]\nserve = "mqtt"\nbind = "127.0.0.1:0"\ntls = {{ cert = "{pair[0]}", key = "{pair[1]}" }}\n'
        cls.gw = Gateway(config_text(cls.amqp, CONFIG + LIMITS, workers=1)).start()
        cls.secured = Gateway(config_text(cls.amqp, CONFIG + LIMITS + tls, workers=1, serves=("admin",))).start() if tls else None
        cls.rabbitmq = Consumer(cls.amqp)

    @classmethod
    def tearDownClass(cls):
        cls.rabbitmq.close()
        for gw in (cls.gw, cls.secured):
            if gw is not None:
                gw.stop()
        if cls.authority is not None:
            cls.authority.close()
        super().tearDownClass()

    def setUp(self):
        self.sent = 0

    def sleepers(self, topic, *transports):
        return [self.open(Sleeper(self.gw, t, topic)) for t in transports]

    def of(self, sleeper, gw=None):
        """What /api/connections says of it; None: it is gone."""
        return next((c for c in (gw or self.gw).admin("/api/connections")[1] if c["peer"].endswith(f":{sleeper.port}")), None)

    def publish(self, topic, n, addresses=(b"a",), gw=None, until=lambda: False):
        """n messages, to the addresses in turn; until the gateway has handed out all of them, or what is given."""
        gw = gw or self.gw
        before = gw.metric("headgate_deliveries_total")
        for _ in range(n):
            address = addresses[self.sent % len(addresses)]
            body = b"<%s %06d>" % (address, self.sent)
            self.rabbitmq.publish(f"slow.{topic}", address.decode(), body + b"." * (BODY_N - len(body)))
            self.sent += 1
        eventually(lambda: gw.metric("headgate_deliveries_total") >= before + n or until())

    def publish_until_dropped(self, topic, sleepers, addresses=(b"a",), gw=None):
        while any(self.of(s, gw)["dropped"] < 20 for s in sleepers):
            self.publish(topic, BURST_N, addresses, gw)

    def last(self, address, addresses):
        """The last message to it."""
        return address, max(n for n in range(self.sent - len(addresses), self.sent) if addresses[n % len(addresses)] == address)

    def check_oldest(self, sleeper, gw=None):
        state = self.of(sleeper, gw)
        self.assertTrue(state["slow"])
        self.assertGreater(state["backlog_messages"], 4)
        self.assertLessEqual(state["backlog_bytes"], BACKLOG)
        numbers = [n for _, n in sleeper.seen((b"a", self.sent - 1))]
        kept = state["backlog_messages"]
        self.assertEqual(numbers, sorted(numbers))
        self.assertEqual(numbers[-kept:], list(range(self.sent - kept, self.sent)))  # the newest, all of them
        self.assertEqual(len(numbers) + state["dropped"], self.sent)
        self.assertEqual(numbers[:-kept], list(range(len(numbers) - kept)))  # and what was in the output before
        eventually(lambda: not self.of(sleeper, gw)["slow"])
        self.assertEqual(self.of(sleeper, gw)["backlog_bytes"], 0)

    def test_drop_oldest_keeps_the_newest(self):
        sleepers = self.sleepers("old", "mqtt", "ws_mqtt", "stomp", "ws_stomp", "source", "sse")
        self.publish_until_dropped("old", sleepers)
        for sleeper in sleepers:
            self.check_oldest(sleeper)
        for protocol, n in (("mqtt", 2), ("stomp", 3), ("http", 1)):
            self.assertGreaterEqual(self.gw.metric("headgate_slow_dropped_total", protocol=protocol, policy="drop-oldest"), 20 * n)
            self.assertEqual(self.gw.metric("headgate_backlog_bytes", protocol=protocol), 0)
            self.assertEqual(self.gw.metric("headgate_slow_clients", protocol=protocol), 0)
        self.gw.wait_log("client.slow", rule="old", policy="drop-oldest")
        self.gw.wait_log("client.slow_end", how="caught up")

    @unittest.skipUnless(shutil.which("openssl"), "makes its certificates with openssl")
    def test_over_tls_as_well(self):
        sleeper = self.open(Sleeper(self.secured, "tls", "old", self.authority.client()))
        self.publish_until_dropped("old", [sleeper], gw=self.secured)
        self.check_oldest(sleeper, self.secured)

    def test_latest_keeps_one_of_each_address(self):
        addresses = (b"a", b"b", b"c", b"d", b"e")
        sleepers = self.sleepers("val", "mqtt", "stomp", "source", "sse")
        self.publish_until_dropped("val", sleepers, addresses)
        for sleeper in sleepers:
            state = self.of(sleeper)
            self.assertEqual(state["backlog_messages"], len(addresses))
            # Whichever address was the first to wait comes first, with its newest message.
            first_n = self.sent - state["dropped"] - len(addresses)
            last = [self.last(addresses[(first_n + i) % len(addresses)], addresses) for i in range(len(addresses))]
            self.assertEqual(sleeper.seen(*last), [*((addresses[n % len(addresses)], n) for n in range(first_n)), *last])

    def test_drop_new_keeps_what_was_there_first(self):
        sleepers = self.sleepers("new", "mqtt", "stomp", "sse")
        self.publish_until_dropped("new", sleepers)
        first = self.sent
        states = [self.of(s) for s in sleepers]
        for sleeper, state in zip(sleepers, states):
            self.assertEqual(state["backlog_messages"], 0)
            kept = [n for _, n in sleeper.seen((b"a", first - state["dropped"] - 1))]
            self.assertEqual(kept, list(range(first - state["dropped"])))
            eventually(lambda s=sleeper: not self.of(s)["slow"])
        self.publish("new", 1)
        for sleeper in sleepers:
            self.assertEqual(sleeper.seen((b"a", first)), [(b"a", first)])

    def test_disconnect_says_why(self):
        ends = {
            "mqtt5": rb"\xe0.?\x97",
            "ws_mqtt": rb"\x88.\x03\xf0",
            "stomp": rb"ERROR\n(.*\n)*message:[^\n]*reads too slowly",
            "ws_stomp": rb"ERROR\n(.*\n)*message:[^\n]*reads too slowly[^\0]*\0\x0a?\x88.\x03\xf0",
            "sse": rb"\n: the client reads too slowly\n\n$",
        }
        for transport, end in ends.items():
            with self.subTest(transport):
                sleeper, = self.sleepers("cut", transport)
                while self.of(sleeper) is not None:
                    self.publish("cut", BURST_N, until=lambda: self.of(sleeper) is None)
                self.assertRegex(sleeper.read_to_end()[-4096:], end)
        self.assertEqual(self.gw.metric("headgate_slow_dropped_total", policy="disconnect"), len(ends))
        self.gw.wait_log("client.too_slow", rule="cut", policy="disconnect")

    def test_what_waits_goes_with_its_subscription(self):
        sleepers = self.sleepers("old", "mqtt", "stomp")
        self.publish_until_dropped("old", sleepers)
        for sleeper in sleepers:
            self.assertGreater(self.of(sleeper)["backlog_messages"], 0)
            sleeper.unsubscribe()
            eventually(lambda s=sleeper: self.of(s)["backlog_messages"] == 0)
        self.assertEqual(self.gw.metric("headgate_backlog_messages"), 0)

    def test_what_waits_goes_with_its_client(self):
        sleepers = self.sleepers("val", "mqtt", "sse")
        self.publish_until_dropped("val", sleepers)
        self.assertGreater(self.gw.metric("headgate_backlog_bytes"), 0)
        for sleeper in sleepers:
            sleeper.close()
        eventually(lambda: self.gw.metric("headgate_backlog_bytes") == 0)
        eventually(lambda: self.gw.metric("headgate_slow_clients") == 0)

    def test_the_others_get_everything(self):
        attentive = self.open(Mqtt(self.gw.addresses["mqtt"]))
        attentive.subscribe("old/#")
        sleepers = self.sleepers("old", "mqtt", "stomp", "sse")
        while any(self.of(s)["dropped"] < 20 for s in sleepers):
            first = self.sent
            self.publish("old", 10)
            got = [bytes(m.payload)[3:9] for m in attentive.messages.take_n(10)]
            self.assertEqual(got, [b"%06d" % n for n in range(first, self.sent)])


class Stalled(E2E):
    def test_who_takes_nothing_is_closed(self):
        gw = self.gateway(CONFIG + LIMITS + 'stalled_timeout = "1s"\n', workers=1)
        rabbitmq = self.open(Consumer(self.amqp))
        idle = self.open(Mqtt(gw.addresses["mqtt"]))
        idle.subscribe("idle")
        sleepers = [self.open(Sleeper(gw, t, "new")) for t in ("mqtt", "ws_stomp", "sse")]
        while gw.metric("headgate_slow_clients") < len(sleepers):
            for _ in range(BURST_N):
                rabbitmq.publish("slow.new", "a", b"." * BODY_N)
        eventually(lambda: gw.metric("headgate_slow_closed_total") == len(sleepers))
        gw.wait_log("client.stalled")
        self.assertEqual(gw.metric("headgate_connections", protocol="mqtt"), 1)
        self.assertEqual(gw.metric("headgate_slow_clients"), 0)
