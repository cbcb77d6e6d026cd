# SPDX-License-Identifier: Apache-2.0
"""Clients that are too slow or too many, and the end of a gateway that is busy."""
import contextlib
import pathlib
import resource
import signal
import socket
import time

from harness import Consumer, Controls, E2E, Mqtt, Proxy, Stomp, WebSocket, eventually, raw, wire

MIB = 1 << 20
STOMP_CONNECT = wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"})


class Sleeper(raw):
    """Subscribes to `slow` and then reads no more until it is told to."""

    def __init__(self, address, packets, answer):
        super().__init__(address)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        for packet in packets:
            self.send(packet)
        self.read_until(answer)


def mqtt_sleeper(gw, client_id, qos):
    packets = [wire.mqtt_connect(client_id), wire.mqtt_subscribe(1, "slow", qos=qos)]
    return Sleeper(gw.addresses["mqtt"], packets, bytes([0x90, 3, 0, 1, qos]))


def stomp_sleeper(gw):
    packets = [STOMP_CONNECT, wire.stomp("SUBSCRIBE", {"id": "0", "destination": "/slow", "receipt": "s"})]
    return Sleeper(gw.addresses["stomp"], packets, b"receipt-id:s\n\n\0")


def web_sleeper(gw):
    packets = [wire.ws_handshake("/ws", "v12.stomp"), wire.ws_frame(wire.TEXT, STOMP_CONNECT),
               wire.ws_frame(wire.TEXT, wire.stomp("SUBSCRIBE", {"id": "0", "destination": "/slow", "receipt": "s"}))]
    return Sleeper(gw.addresses["web"], packets, b"receipt-id:s\n\n\0")


def peak_memory(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


class SlowReaders(E2E):
    ROUNDS, ROUND_N, BODY_N = 50, 16, MIB // 16  # 50 MiB

    def publish(self, consumer, attentive, first, rounds):
        """In rounds of 1 MiB, so that whoever reads keeps up; each message with its number at the front."""
        for n in range(first, first + rounds * self.ROUND_N):
            consumer.publish("amq.topic", "slow", b"%06d" % n + b"." * (self.BODY_N - 6), delivery_mode=2)
            if n % self.ROUND_N == self.ROUND_N - 1:
                for client in attentive:
                    got = [self.number(m) for m in client.messages.take_n(self.ROUND_N)]
                    self.assertEqual(got, list(range(n - self.ROUND_N + 1, n + 1)))

    def number(self, message):
        return int((message.payload if hasattr(message, "payload") else message.body)[:6])

    def test_are_dropped_or_closed_as_promised_and_alone(self):
        # Freed memory goes back at once, so that what is measured is what is held.
        gw = self.gateway(workers=1, env={"ASAN_OPTIONS": "detect_leaks=1:exitcode=86:quarantine_size_mb=1"})
        attentive = [self.open(Mqtt(gw.addresses["mqtt"])), self.open(Stomp(gw.addresses["stomp"]))]
        attentive[0].subscribe("slow")
        attentive[1].subscribe("/slow")
        qos0, qos1 = self.open(mqtt_sleeper(gw, "qos0", 0)), self.open(mqtt_sleeper(gw, "qos1", 1))
        stomps = [self.open(stomp_sleeper(gw)), self.open(web_sleeper(gw))]
        consumer = self.open(Consumer(self.amqp))
        with Controls(gw):
            self.publish(consumer, attentive, 0, 2)
            before = peak_memory(gw.process.pid)
            self.publish(consumer, attentive, 2 * self.ROUND_N, self.ROUNDS - 2)
        # Three clients may have outbound_high, 4 MiB, waiting for them.
        self.assertLess(peak_memory(gw.process.pid) - before, 20 * MIB)
        waiting = {c["client_id"]: c for c in gw.admin("/api/connections")[1] if c["pending_bytes"] > 0}
        self.assertTrue(all(c["pending_bytes"] <= 5 * MIB for c in waiting.values()), waiting)

        # QoS 1 is never dropped: that client has been closed. The rest of what was written for it can still be read.
        self.assertEqual(gw.metric("headgate_slow_closed_total", protocol="mqtt"), 1)
        self.assertNotIn("qos1", waiting)
        qos1.read_to_end()

        # The others have missed what did not fit, and get what comes once they read again.
        for client, dropped in ((qos0, gw.metric("headgate_dropped_total", protocol="mqtt")),
                                (stomps[0], gw.metric("headgate_dropped_total", protocol="stomp") / 2)):
            self.assertGreater(dropped, self.ROUNDS * self.ROUND_N / 2)
        for client in (qos0, *stomps):
            self.drain(gw, client)
        self.publish(consumer, attentive, self.ROUNDS * self.ROUND_N, 1)
        for client in (qos0, *stomps):
            client.read_until(b"%06d" % ((self.ROUNDS + 1) * self.ROUND_N - 1))

    def drain(self, gw, client):
        """Reads until nothing waits for it any more."""
        port = client.socket.getsockname()[1]
        client.socket.setblocking(False)

        def is_empty():
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.socket.recv(MIB)
            return next(c for c in gw.admin("/api/connections")[1] if c["peer"].endswith(f":{port}"))["pending_bytes"] == 0

        eventually(is_empty)
        client.socket.settimeout(30)
        client.buffer = b""


class Floods(E2E):
    LIMIT = 20

    def descriptors(self, gw):
        return len(list(pathlib.Path(f"/proc/{gw.process.pid}/fd").iterdir()))

    def descriptors_at_rest(self, gw):
        """With every AMQP link up, which it need not be yet when the listeners are open."""
        eventually(lambda: gw.admin("/readyz")[0] == 200)
        return self.descriptors(gw)

    def is_refused(self, client):
        """Whether it was closed at once; a connection that was taken has a CONNACK coming."""
        client.send(wire.mqtt_connect(""))
        try:
            return client.read_n(4) != wire.MQTT_CONNACK
        except (AssertionError, ConnectionError):
            return True

    def test_of_connections_end_at_max_connections_and_leave_nothing(self):
        gw = self.gateway(mqtt=f"max_connections = {self.LIMIT}")
        before = self.descriptors_at_rest(gw)
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(raw(gw.addresses["mqtt"])) for _ in range(3 * self.LIMIT)]
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    refused = [c for c in clients if self.is_refused(c)]
                self.assertEqual(len(refused), 2 * self.LIMIT)
                self.assertEqual(gw.metric("headgate_connections", protocol="mqtt"), self.LIMIT)
            eventually(lambda: self.descriptors(gw) <= before)  # the admin's own may have been in the count
            self.assertEqual(gw.metric("headgate_connections", protocol="mqtt"), 0)
        self.assertEqual(gw.metric("headgate_net_refused_total"), 4 * self.LIMIT)
        gw.wait_log("listener.full", max_connections=self.LIMIT)

    def test_of_connections_beyond_the_open_files_wait_their_turn(self):
        gw = self.gateway(workers=1)
        limit = self.descriptors_at_rest(gw) + Controls.CONNECTIONS_N + 20
        with Controls(gw):
            resource.prlimit(gw.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
            with contextlib.ExitStack() as stack:
                for _ in range(60):
                    stack.enter_context(raw(gw.addresses["mqtt"]))
                gw.wait_log("listener.paused")
                patient = self.open(raw(gw.addresses["mqtt"], wire.mqtt_connect("patient")))
            self.assertEqual(patient.read_n(4), wire.MQTT_CONNACK)

    def test_of_mistakes_are_logged_once_a_second(self):
        gw = self.gateway()
        started = time.monotonic()
        for _ in range(200):
            with raw(gw.addresses["web"], b"nonsense\r\n\r\n") as client:
                client.read_to_end()
        seconds = int(time.monotonic() - started) + 1
        self.assertEqual(gw.metric("headgate_errors_total", protocol="http"), 200)
        self.assertLessEqual(sum("http.refused" in line for line in gw.output), seconds + 1)


class GracefulStop(E2E):
    def busy(self, proxy, *args):
        """A gateway with a publish under way from each protocol, none of which RabbitMQ's confirm has reached."""
        gw = self.gateway("", *args, amqp=self.amqp_by(proxy))
        mqtt = self.open(raw(gw.addresses["mqtt"], wire.mqtt_connect("m")))
        mqtt.read_until(wire.MQTT_CONNACK)
        stomp = self.open(raw(gw.addresses["stomp"], STOMP_CONNECT))
        stomp.read_until(b"\0")
        web = self.open(WebSocket(gw.addresses["web"], "/ws", ["v12.stomp"]))
        web.send_frame(wire.TEXT, STOMP_CONNECT)
        web.read_message()
        mqtt_web = self.open(WebSocket(gw.addresses["web"], "/mqtt", ["mqtt"]))
        mqtt_web.send_frame(wire.BINARY, wire.mqtt_connect("w"))
        mqtt_web.read_message()
        http = self.open(raw(gw.addresses["web"]))
        idle = self.open(raw(gw.addresses["web"]))
        proxy.hold("down")
        send = wire.stomp("SEND", {"destination": "/stop/a", "receipt": "last"})
        mqtt.send(wire.mqtt_publish("stop/a", b"x", 1, 7))
        stomp.send(send)
        web.send_frame(wire.TEXT, send)
        mqtt_web.send_frame(wire.BINARY, wire.mqtt_publish("stop/a", b"x", 1, 8))
        http.send(wire.http("POST", "/v1/topics/stop/a", b"x"))
        eventually(lambda: sum(gw.metric("headgate_messages_in_total", protocol=p) for p in ("mqtt", "stomp", "http")) == 5)
        return gw, mqtt, stomp, web, mqtt_web, http, idle

    def test_awaits_confirms_and_says_goodbye_to_everybody(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw, mqtt, stomp, web, mqtt_web, http, idle = self.busy(proxy)
            gw.signal(signal.SIGTERM)
            gw.wait_log("draining", signal="SIGTERM")
            self.assertEqual(idle.read_to_end(), b"")  # nobody waits for anything there
            self.assertIsNone(gw.process.poll())
            proxy.release("down")
            self.assertEqual(mqtt.read_to_end(), wire.mqtt_ack(wire.MQTT_PUBACK, 7))
            self.assertIn(b"receipt-id:last\n\n\0ERROR\nmessage:server is shutting down\n", stomp.read_to_end())
            self.assertTrue(web.read_message()[1].startswith(b"RECEIPT\n"))
            self.assertEqual(mqtt_web.read_message()[1], wire.mqtt_ack(wire.MQTT_PUBACK, 8))
            for client in (web, mqtt_web):
                opcode, payload = client.read_message()
                self.assertEqual((opcode, payload[:2]), (wire.CLOSE, b"\x03\xe9"))  # 1001, going away
            answer = http.read_to_end()
            self.assertTrue(answer.startswith(b"HTTP/1.1 202 "))
            self.assertIn(b"\r\nConnection: close\r\n", answer)
            self.assertEqual(gw.wait(), 0)

    def test_gives_up_after_drain_timeout(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.busy(proxy, "--set", "gateway.drain_timeout=500ms")[0]
            gw.signal(signal.SIGTERM)
            gw.wait_log("drain.unfinished", timeout_ms=500)
            self.assertEqual(gw.wait(), 0)

    def test_does_not_wait_after_a_second_signal(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.busy(proxy)[0]
            gw.signal(signal.SIGTERM)
            gw.wait_log("draining")
            gw.signal(signal.SIGTERM)
            started = time.monotonic()
            self.assertEqual(gw.wait(), 0)
            self.assertLess(time.monotonic() - started, 5)
            self.assertEqual([e for e in gw.events.all() if e["event"] == "drain.unfinished"], [])
