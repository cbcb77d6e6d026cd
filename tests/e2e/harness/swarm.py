# SPDX-License-Identifier: Apache-2.0
"""Many MQTT 3.1.1 clients on one thread: for what a client library with a thread each would be too heavy for."""
import collections
import selectors
import socket
import struct
import time

from . import wire
from .wait import LIMIT_S

Message = collections.namedtuple("Message", "topic payload qos dup retain packet_id")


class Member:
    """One client. `messages` are all that came, in order, over all of its connections."""

    def __init__(self, name):
        self.name = name
        self.messages = []
        self.acks_n = None  # how many QoS 1 deliveries it acknowledges on this connection; None: all
        self.socket = None
        self.buffer = b""
        self.is_connected = self.is_present = self.has_ended = False
        self.code = None  # of the CONNACK
        self.answered = set()  # (packet type, packet identifier)
        self.at_answer = {}  # what to do when one of those comes
        self.next_id = 1


class Swarm:
    def __init__(self, names):
        self.members = [Member(name) for name in names]
        self.selector = selectors.DefaultSelector()

    def connect(self, addresses, is_clean=False, members=None):
        """All at once, in turn to each address; returns when every CONNACK has come."""
        chosen = self.members if members is None else members
        for i, m in enumerate(chosen):
            m.buffer, m.is_connected, m.has_ended, m.code = b"", False, False, None
            m.socket = socket.create_connection(addresses[i % len(addresses)], timeout=LIMIT_S)
            m.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.selector.register(m.socket, selectors.EVENT_READ, m)
            m.socket.sendall(wire.mqtt_connect(m.name, flags=2 if is_clean else 0))
        self.run(lambda: all(m.is_connected or m.has_ended for m in chosen))
        lost = [(m.name, m.code) for m in chosen if not m.is_connected]
        if lost:
            raise AssertionError(f"{len(lost)} of {len(chosen)} were not let in: {lost[:5]}")

    def subscribe(self, topic_of, qos=1):
        """Each to topic_of(member)."""
        for m in self.members:
            m.socket.sendall(wire.mqtt_subscribe(self.number(m), topic_of(m), qos=qos))
        self.run(lambda: all((9, m.next_id - 1) in m.answered for m in self.members))

    def number(self, m):
        m.next_id += 1
        return m.next_id - 1

    def publish(self, m, topic, payload, retain=False):
        """QoS 1, without waiting; the packet identifier, which is in m.answered as (4, identifier) later."""
        n = self.number(m)
        packet = wire.mqtt(0x32 | retain, wire.mqtt_string(topic) + struct.pack("!H", n) + payload)
        m.socket.sendall(packet)
        return n

    def run(self, until, limit_s=None):
        """Reads and answers until that is true."""
        deadline = time.monotonic() + (limit_s or LIMIT_S * 2)
        while not until():
            if time.monotonic() > deadline:
                raise AssertionError("what the clients wait for did not come")
            self.turn(0.05)

    def turn(self, for_s=0):
        """Takes what is there."""
        for key, _ in self.selector.select(for_s):
            self.read(key.data)

    def read(self, m):
        try:
            data = m.socket.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self.leave(m)
            return
        m.buffer += data
        while (packet := self.next_packet(m)) is not None:
            self.take(m, *packet)

    @staticmethod
    def next_packet(m):
        n = shift = 0
        for at in range(1, min(len(m.buffer), 5)):
            n |= (m.buffer[at] & 0x7F) << shift
            shift += 7
            if not m.buffer[at] & 0x80:
                if len(m.buffer) < at + 1 + n:
                    return None
                first, body = m.buffer[0], m.buffer[at + 1:at + 1 + n]
                m.buffer = m.buffer[at + 1 + n:]
                return first, body
        return None

    def take(self, m, first, body):
        kind = first >> 4
        if kind == 2:
            m.is_present, m.code = bool(body[0] & 1), body[1]
            m.is_connected = body[1] == 0
        elif kind == 3:
            topic_n, = struct.unpack_from("!H", body)
            topic, rest, qos, packet_id = body[2:2 + topic_n].decode(), body[2 + topic_n:], first >> 1 & 3, 0
            if qos:
                (packet_id,), rest = struct.unpack_from("!H", rest), rest[2:]
            m.messages.append(Message(topic, rest, qos, bool(first & 8), bool(first & 1), packet_id))
            if qos == 1 and m.acks_n != 0:
                m.acks_n = None if m.acks_n is None else m.acks_n - 1
                m.socket.sendall(wire.mqtt_ack(0x40, packet_id))
        else:
            answer = kind, struct.unpack_from("!H", body)[0] if len(body) >= 2 else 0
            m.answered.add(answer)
            m.at_answer.pop(answer, lambda: None)()

    def leave(self, m):
        """The TCP connection ends, whoever ended it."""
        if m.socket is not None:
            self.selector.unregister(m.socket)
            m.socket.close()
            m.socket, m.is_connected, m.has_ended = None, False, True
            m.answered.clear()

    def leave_all(self):
        for m in self.members:
            self.leave(m)

    def close(self):
        self.leave_all()
        self.selector.close()
