# SPDX-License-Identifier: Apache-2.0
"""An MQTT client of few own ideas, for tests that want every packet in their hands; and the base of the conformance tests."""
import collections
import itertools
import socket
import struct

from . import mqtt5 as m
from .case import E2E
from .clients import raw
from .gateway import Gateway, config_text


class Peer(raw):
    """A connection that sends what it is told and reads strictly. Connected once constructed, or refused with the code `refused`; with
    `first`, bytes to begin with, nothing is awaited. Options are mqtt5.connect's."""

    def __init__(self, address, client_id="", level=5, refused=None, first=None, **options):
        super().__init__(address)
        self.level, self.client_id = level, client_id
        self.inbox = collections.deque()
        self.ids = itertools.count(1)
        self.send(m.connect(client_id, level, **options) if first is None else first)
        if first is None:
            self.connack = self.next()
            assert self.connack.kind == m.CONNACK and self.connack.reason == (refused or 0), f"CONNECT was answered by {self.connack}"
            self.client_id = self.connack.properties.get("assigned_client_id", client_id)

    # ---- reading

    def read(self):
        """The next packet on the wire, or None at the end of the connection."""
        while True:
            packet, used = m.decode(self.buffer, self.level)
            if packet:
                self.buffer = self.buffer[used:]
                return packet
            try:
                data = self.socket.recv(65536)
            except ConnectionResetError:
                data = b""
            if not data:
                assert not self.buffer, f"the connection ended within a packet: {self.buffer.hex()}"
                return None
            self.buffer += data

    def next(self, kind=None):
        """The next packet, which must be of this kind."""
        packet = self.inbox.popleft() if self.inbox else self.read()
        assert packet, "the connection ended"
        assert kind in (None, packet.kind), f"{m.NAMES[kind]} was due, but {packet} came"
        return packet

    def take(self, kind, packet_id=None):
        """The first packet of this kind (and identifier); what comes before it stays."""
        def fits(packet):
            return packet.kind == kind and packet_id in (None, packet.packet_id)
        for packet in self.inbox:
            if fits(packet):
                self.inbox.remove(packet)
                return packet
        while packet := self.read():
            if fits(packet):
                return packet
            self.inbox.append(packet)
        raise AssertionError(f"the connection ended without {m.NAMES[kind]}; there were {list(self.inbox)}")

    def fence(self):
        """PINGREQ; what came before its PINGRESP."""
        self.send(m.PING)
        came, self.inbox = list(self.inbox), collections.deque()
        while (packet := self.read()).kind != m.PINGRESP:
            came.append(packet)
        return came

    def end(self):
        """What comes until the server closes the connection."""
        came, self.inbox = list(self.inbox), collections.deque()
        while packet := self.read():
            came.append(packet)
        return came

    def reason(self):
        """Why the server ends the connection: the code of its DISCONNECT, which is its last packet; None without one."""
        came = self.end()
        assert all(p.kind != m.DISCONNECT for p in came[:-1]), f"packets after DISCONNECT: {came}"
        return came[-1].reason if came and came[-1].kind == m.DISCONNECT else None

    def message(self, is_acked=True):
        """The next PUBLISH, acknowledged to its end."""
        packet = self.take(m.PUBLISH)
        if is_acked and packet.qos == 1:
            self.send(m.ack(m.PUBACK, packet.packet_id))
        elif is_acked and packet.qos == 2:
            self.send(m.ack(m.PUBREC, packet.packet_id))
            self.take(m.PUBREL, packet.packet_id)
            self.send(m.ack(m.PUBCOMP, packet.packet_id))
        return packet

    def bodies(self, n):
        return [self.message().body for _ in range(n)]

    # ---- doing

    def publish(self, topic, body=b"", qos=1, retain=False, **values):
        """And waits for the whole exchange; its reason code."""
        packet_id = next(self.ids) if qos else None
        self.send(m.publish(topic, body, qos, packet_id, retain, level=self.level, **values))
        if qos == 0:
            return 0
        if qos == 1:
            return self.take(m.PUBACK, packet_id).reason
        reason = self.take(m.PUBREC, packet_id).reason
        if reason < 0x80:
            self.send(m.ack(m.PUBREL, packet_id))
            self.take(m.PUBCOMP, packet_id)
        return reason

    def subscribe(self, *filters, **values):
        """The reason codes."""
        packet_id = next(self.ids)
        self.send(m.subscribe(packet_id, *filters, level=self.level, **values))
        return self.take(m.SUBACK, packet_id).reasons

    def unsubscribe(self, *filters, **values):
        packet_id = next(self.ids)
        self.send(m.unsubscribe(packet_id, *filters, level=self.level, **values))
        return getattr(self.take(m.UNSUBACK, packet_id), "reasons", None)

    def leave(self, reason=None, **values):
        """DISCONNECT; returns when the server has closed too."""
        self.send(m.disconnect(reason, self.level, **values))
        self.end()
        self.close()

    def drop(self):
        """Ends the connection as a network that fails: by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class MqttConformance(E2E):
    """One gateway for all tests of a class; tests keep apart by names that nobody else has."""

    config = ""    # TOML to append
    options = {}   # config_text's
    names = itertools.count(1)

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = Gateway(config_text(cls.amqp, cls.config, **cls.options))
        cls.addClassCleanup(cls.gw.stop)
        cls.gw.start()

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        super().tearDownClass()

    def name(self, kind="t"):
        """A topic, client identifier, … of this call's own."""
        return f"{kind}{next(self.names)}"

    def peer(self, client_id=None, level=5, **options):
        """A connection with a name of its own unless one is given; ended with the test."""
        return self.open(Peer(self.gw.addresses["mqtt"], self.name("c") if client_id is None else client_id, level, **options))

    def kept(self, client_id, level=5, clean=False, expiry=100, **options):
        """A connection to a session that outlives it."""
        if level == 5:
            options["session_expiry"] = expiry
        return self.peer(client_id, level, clean=clean, **options)

    def each(self, table, check, levels=(5,)):
        """check(value, level) for every entry and protocol level, a subtest each."""
        for level in levels:
            for name, value in table.items():
                with self.subTest(name, level=level):
                    check(value, level)


def conforms(plugin="", **standards):
    """Says which statements a test shows: of MQTT (v311, v5), of STOMP (v10, v11, v12), of WebSockets (rfc6455, headgate),
    of the comparison with RabbitMQ's STOMP plugin.
    Read by tests/conformance from the source; only the plugin's rows are needed when a test runs."""
    del standards

    def mark(method):
        method.plugin_rows = plugin.split()
        return method
    return mark
