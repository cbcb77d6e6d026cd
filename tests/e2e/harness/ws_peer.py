# SPDX-License-Identifier: Apache-2.0
"""A WebSocket client of few own ideas, for tests that want every frame in their hands; and the base of the conformance tests."""
import itertools
import struct

from . import wire
from .case import E2E
from .clients import WebSocket
from .gateway import Gateway, config_text

CONNECT = wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"})


def close_payload(code, reason=b""):
    return struct.pack("!H", code) + reason


class WsPeer(WebSocket):
    """Speaks STOMP unless `protocols` say otherwise."""

    fences = itertools.count(1)

    def __init__(self, address, path="/ws", protocols=("v12.stomp",), **options):
        super().__init__(address, path, protocols, **options)

    def frame(self, opcode, payload=b"", **how):
        self.send(wire.ws_frame(opcode, payload, **how))

    def login(self, opcode=wire.TEXT):
        self.frame(opcode, CONNECT)
        kind, answer = self.read_message()
        assert answer.startswith(b"CONNECTED\n"), answer
        return kind

    def fence(self):
        """A ping of our own; the (opcode, payload) of what came before its pong. The server masks nothing and splits nothing."""
        mark = b"fence %d" % next(self.fences)
        self.frame(wire.PING, mark)
        came = []
        while True:
            is_final, opcode, payload = self.read_frame()
            assert is_final, "a message in fragments"
            if (opcode, payload) == (wire.PONG, mark):
                return came
            came.append((opcode, payload))

    def sends(self, body, destination="/conformance", opcode=wire.TEXT):
        """SEND with a receipt, which comes."""
        self.frame(opcode, wire.stomp("SEND", {"destination": destination, "receipt": "r", "content-length": len(body)}, body))
        _, answer = self.read_message()
        assert answer.startswith(b"RECEIPT\n"), answer

    def ending(self):
        """How the server ends it: (code, reason) of its close frame, code None without one; behind it comes nothing, then the end."""
        while True:
            _, opcode, payload = self.read_frame()
            if opcode == wire.CLOSE:
                rest = self.read_to_end()
                assert rest == b"", f"behind the close frame came {rest!r}"
                return (struct.unpack("!H", payload[:2])[0], payload[2:].decode()) if payload else (None, "")


class WebSocketConformance(E2E):
    """One gateway for all tests of a class."""

    config = ""   # TOML to append
    options = {}  # config_text's

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

    def peer(self, *args, **options):
        return self.open(WsPeer(self.gw.addresses["web"], *args, **options))

    def assert_ends(self, code, *frames, before=b""):
        """These frames, sent after `before`, end a connection with this code."""
        peer = self.peer()
        peer.send(before + b"".join(frames))
        got, reason = peer.ending()
        self.assertEqual(got, code, reason)
        return reason
