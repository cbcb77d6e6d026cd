# SPDX-License-Identifier: Apache-2.0
"""Clients that must notice nothing while a test does its worst to others."""
import json
import threading
import time

from .clients import Mqtt, Stomp, http_connection, http_request
from .wait import LIMIT_S

LATE_S = 1.0
PAUSE_S = 0.02


class Control:
    """Sends to an address of its own and waits for the answer and for the message, again and again."""

    def __init__(self, gw, address):
        self.address = address
        self.rounds = 0
        self.worst_s = 0.0
        self.problem = None
        self.receiver = self.make_receiver(gw)

    def make_receiver(self, gw):
        mqtt = Mqtt(gw.addresses["mqtt"])
        mqtt.subscribe(self.address)
        return mqtt

    def body_of(self, message):
        return message.payload

    def round(self):
        body = f"{self.address} {self.rounds}".encode()
        started = time.monotonic()
        self.publish(body)
        self.receiver.messages.take(lambda m: self.body_of(m) == body)
        self.worst_s = max(self.worst_s, time.monotonic() - started)
        self.rounds += 1

    def run(self, stop):
        try:
            while not stop.wait(PAUSE_S):
                self.round()
        except Exception as e:  # whatever it was, the test has failed
            self.problem = e

    def ends(self):
        return self.receiver.ends.all()

    def trouble(self, late_s=LATE_S):
        return self.problem or self.ends() or (f"{self.worst_s:.3f} s late" if self.worst_s > late_s else None)

    def close(self):
        self.receiver.close()


class MqttControl(Control):
    def publish(self, body):
        self.receiver.publish(self.address, body)


class StompControl(Control):
    def make_receiver(self, gw):
        stomp = Stomp(gw.addresses["stomp"])
        stomp.subscribe("/" + self.address)
        return stomp

    def body_of(self, frame):
        return frame.body

    def publish(self, body):
        self.receiver.send("/" + self.address, body)


class MqttWebControl(MqttControl):
    def make_receiver(self, gw):
        mqtt = Mqtt(gw.addresses["web"], path="/mqtt")
        mqtt.subscribe(self.address)
        return mqtt


class StompWebControl(StompControl):
    def make_receiver(self, gw):
        stomp = Stomp(gw.addresses["web"], path="/ws")
        stomp.subscribe("/" + self.address)
        return stomp


class HttpControl(Control):
    """One connection that is kept alive; what it posts is received by MQTT."""

    def __init__(self, gw, address):
        super().__init__(gw, address)
        self.connection = http_connection(gw.addresses["web"])
        self.connection.connect()
        self.first_socket = self.connection.sock

    def publish(self, body):
        status, _, answer = http_request(self.connection, "POST", "/v1/topics/" + self.address, body)
        if status != 202:
            raise AssertionError(f"{self.address} was answered {status} {json.loads(answer)}")

    def ends(self):
        return super().ends() + ([] if self.connection.sock is self.first_socket else ["HTTP connection closed"])

    def close(self):
        super().close()
        self.connection.close()


class Controls:
    """with Controls(gw): … — ten clients of all protocols, on addresses control/…; at the end it is an AssertionError if
    one of them was disconnected, missed a message or had to wait longer than late_s, or if a link to RabbitMQ was lost."""

    KINDS = [MqttControl] * 2 + [MqttWebControl] * 2 + [StompControl] * 2 + [StompWebControl] * 2 + [HttpControl] * 2
    CONNECTIONS_N = len(KINDS) + 2  # an HTTP one receives by MQTT

    def __init__(self, gw, late_s=LATE_S):
        self.gw = gw
        self.late_s = late_s
        self.stop = threading.Event()
        self.clients = []
        self.threads = []

    def __enter__(self):
        self.lost = self.gw.metric("headgate_upstream_disconnects_total")
        for i, kind in enumerate(self.KINDS):
            self.clients.append(kind(self.gw, f"control/{i}"))
        for client in self.clients:
            client.round()
            client.worst_s = 0.0
            self.threads.append(threading.Thread(target=client.run, args=(self.stop,), daemon=True))
            self.threads[-1].start()
        return self

    def wait_round(self):
        """Until each has come round once more from now on, so that whatever was done before has had its effect."""
        for client in self.clients:
            goal = client.rounds + 2  # the one under way may have begun before
            deadline = time.monotonic() + LIMIT_S
            while client.rounds < goal and client.problem is None and time.monotonic() < deadline:
                time.sleep(PAUSE_S)

    def check(self):
        """Raises what they have noticed so far."""
        problems = [f"{c.address} ({type(c).__name__}, {c.rounds} rounds): {c.trouble(self.late_s)}" for c in self.clients
                    if c.trouble(self.late_s)]
        if problems:
            raise AssertionError("\n".join(["control clients noticed something:", *problems]))

    def __exit__(self, kind, *_):
        if kind is None:
            self.wait_round()
        self.stop.set()
        for thread in self.threads:
            thread.join()
        try:
            if kind is None:
                self.check()
                if self.gw.metric("headgate_upstream_disconnects_total") != self.lost:
                    raise AssertionError("a link to RabbitMQ was lost:\n" + self.gw.tail())
        finally:
            for client in self.clients:
                client.close()
