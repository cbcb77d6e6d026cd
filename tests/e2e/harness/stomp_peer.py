# SPDX-License-Identifier: Apache-2.0
"""A STOMP client of few own ideas, for tests that want every frame in their hands; and the base of the tests that run against Headgate
and against RabbitMQ's own plugin, and know where the two differ."""
import collections
import contextlib
import functools
import itertools
import pathlib
import re
import socket
import struct
import tomllib
import unittest

from . import broker, wire
from .case import E2E
from .clients import WebSocket, raw
from .gateway import Gateway, config_text
from .wait import LIMIT_S

FAILURE_LIMIT_S = 1  # for what never comes
TABLE = pathlib.Path(__file__).resolve().parents[2] / "conformance" / "statements_plugin.toml"
MAY_COME = {"CONNECTED", "MESSAGE", "RECEIPT", "ERROR"}
ESCAPES = {"1.0": {}, "1.1": {"n": "\n", "c": ":", "\\": "\\"}, "1.2": {"n": "\n", "c": ":", "\\": "\\", "r": "\r"}}


class Headers(dict):
    """What is missing fails the test."""

    def __missing__(self, name):
        raise AssertionError(f"there is no header {name} in {dict(self)}")


class Frame:
    def __init__(self, command, headers, body):
        self.command, self.headers, self.body = command, headers, body

    def __getitem__(self, name):
        return self.headers[name]

    def get(self, name, default=None):
        return self.headers.get(name, default)

    def __repr__(self):
        return f"{self.command} {dict(self.headers)} {self.body[:60]!r}"


def escape(text, version):
    """As a client of this version writes a header."""
    names = {char: "\\" + letter for letter, char in ESCAPES[version].items()}
    return "".join(names.get(c, c) for c in str(text))


def unescape(text, version):
    def read(match):
        assert match[1] in ESCAPES[version], f"{version} has no escape {match[0]}"
        return ESCAPES[version][match[1]]
    return text if version == "1.0" else re.sub(r"\\(.?)", read, text, flags=re.S)


class StompPeer:
    """A connection that sends what it is told and reads strictly. Connected once constructed; with first=…, bytes to begin with, nothing
    is awaited. path=…: over a WebSocket. connect: headers of CONNECT by their names."""

    def __init__(self, address, version="1.2", first=None, path=None, connect=None, limit_s=None, protocols=("v12.stomp",)):
        self.version = version
        self.wire = raw(address) if path is None else WebSocket(address, path, list(protocols))
        self.wire.socket.settimeout(limit_s or LIMIT_S)
        self.is_web = path is not None
        self.buffer, self.inbox, self.beats = b"", collections.deque(), 0
        self.numbers = itertools.count(1)
        if first is not None:
            self.send_raw(first)
        else:
            accepts = {} if version == "1.0" else {"accept-version": version}
            self.send_raw(wire.stomp("CONNECT", {**accepts, **(connect or {})}))
            self.connected = self.next("CONNECTED")

    # ---- reading

    def more(self):
        """False at the end of the connection."""
        try:
            if self.is_web:
                opcode, data = self.wire.read_message()
                data = b"" if opcode == WebSocket.CLOSE else data
            else:
                data = self.wire.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        except TimeoutError:
            raise AssertionError(f"nothing came in time; there are {list(self.inbox)} and {self.buffer!r}") from None
        self.buffer += data
        return bool(data)

    def read(self):
        """The next frame on the wire, or None at the end of the connection."""
        while True:
            left = self.buffer.lstrip(b"\n")
            self.beats += len(self.buffer) - len(left)
            self.buffer = left
            frame = self.parse()
            if frame:
                return frame
            if not self.more():
                assert not self.buffer, f"the connection ended within a frame: {self.buffer!r}"
                return None

    def parse(self):
        """A frame off the buffer; None: it is not whole yet."""
        head, found, rest = self.buffer.partition(b"\n\n")
        if not found:
            return None
        command, *lines = head.decode().split("\n")
        assert command in MAY_COME, f"no server sends {command!r}"
        headers = Headers()
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon, f"this is no header: {line!r}"
            if command != "CONNECTED":
                name, value = unescape(name, self.version), unescape(value, self.version)
            headers.setdefault(name, value)
        n = int(headers["content-length"]) if "content-length" in headers else rest.find(b"\0")
        if n < 0 or len(rest) <= n:
            return None
        assert rest[n] == 0, f"no NUL behind the body: {self.buffer!r}"
        self.buffer = rest[n + 1:].removeprefix(b"\n")  # which RabbitMQ writes behind each frame
        assert command in ("MESSAGE", "ERROR") or n == 0, f"{command} has a body"
        return Frame(command, headers, rest[:n])

    def read_beats(self):
        """Until another heart-beat comes, and no frame."""
        before = self.beats
        while self.beats == before:
            assert self.more(), "the connection ended"
            left = self.buffer.lstrip(b"\n")
            self.beats += len(self.buffer) - len(left)
            self.buffer = left
            assert not left, f"this is no heart-beat: {left!r}"

    def next(self, command=None):
        """The next frame, which must be of this kind."""
        frame = self.inbox.popleft() if self.inbox else self.read()
        assert frame, "the connection ended"
        assert command in (None, frame.command), f"{command} was due, but {frame} came"
        return frame

    def take(self, command, **headers):
        """The first frame of this kind with these headers (- is _); what comes before it stays. An ERROR in between fails."""
        def fits(frame):
            return frame.command == command and all(frame.get(k.replace("_", "-")) == v for k, v in headers.items())
        for frame in self.inbox:
            if fits(frame):
                self.inbox.remove(frame)
                return frame
        while frame := self.read():
            if fits(frame):
                return frame
            assert frame.command != "ERROR", f"{command} was due, but {frame} came"
            self.inbox.append(frame)
        raise AssertionError(f"the connection ended without {command}; there were {list(self.inbox)}")

    def message(self):
        return self.take("MESSAGE")

    def bodies(self, n):
        return [self.message().body for _ in range(n)]

    def error(self):
        """The ERROR that is due, and the end of the connection behind it."""
        while (frame := self.next()).command != "ERROR":
            pass
        behind = self.read()
        assert behind is None, f"{behind} came after ERROR"
        return frame

    def end(self):
        """What comes until the server closes the connection."""
        came, self.inbox = list(self.inbox), collections.deque()
        while frame := self.read():
            came.append(frame)
        return came

    # ---- sending

    def send_raw(self, data):
        if not self.is_web:
            self.wire.send(data)
        else:
            try:
                data.decode()
                self.wire.send_frame(WebSocket.TEXT, data)
            except UnicodeDecodeError:
                self.wire.send_frame(WebSocket.BINARY, data)

    def frame(self, command, body=b"", **headers):
        """headers: - may be written _."""
        self.send_raw(self.encode(command, body, **headers))

    def encode(self, command, body=b"", **headers):
        return wire.stomp(command, [(escape(k.replace("_", "-"), self.version), escape(v, self.version)) for k, v in headers.items()], body)

    def asked(self, command, body=b"", **headers):
        """With a receipt, which is awaited and returned."""
        receipt = f"r{next(self.numbers)}"
        self.frame(command, body, **headers, receipt=receipt)
        return self.take("RECEIPT", receipt_id=receipt)

    def fence(self):
        """What came before the receipt of a message of this peer's own to where nobody listens."""
        came, self.inbox = list(self.inbox), collections.deque()
        self.asked("SEND", destination="/topic/nobody.listens")
        return came + [self.inbox.popleft() for _ in range(len(self.inbox))]

    def subscribe(self, destination, id="0", **headers):
        self.asked("SUBSCRIBE", destination=destination, id=id, **headers)

    def unsubscribe(self, id="0", **headers):
        self.asked("UNSUBSCRIBE", id=id, **headers)

    def send(self, destination, body=b"", **headers):
        self.asked("SEND", body, destination=destination, **headers)

    def answer(self, command, message, **headers):
        """ACK or NACK, by what the version has for it, with a receipt."""
        if self.version == "1.2":
            names = {"id": message["ack"]}
        elif self.version == "1.1":
            names = {"message_id": message["message-id"], "subscription": message["subscription"]}
        else:
            names = {"message_id": message["message-id"]}
        return self.asked(command, **names, **headers)

    # ---- leaving

    def leave(self):
        """DISCONNECT with its receipt; returns when the server has closed too."""
        self.asked("DISCONNECT")
        self.end()
        self.close()

    def drop(self):
        """Ends the connection as a network that fails: by a reset."""
        self.wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.wire.close()


@functools.cache
def verdicts():
    """{line of the comparison with the plugin: same, better, different or missing}"""
    with TABLE.open("rb") as file:
        return {row: value[0] for row, value in tomllib.load(file)["statements"].items()}


class StompConformance(E2E):
    """One server for all tests of a class, Headgate or RabbitMQ with its plugin; tests keep apart by names that nobody else has. A test
    that shows a line of the comparison (`@conforms(plugin=…)`) must fail, by an assertion, against the plugin where that line says that
    Headgate is better or different, and against Headgate where it says that something is missing."""

    also_against_plugin = True
    config = ""    # TOML to append
    options = {}   # config_text's
    names = itertools.count(1)

    def __init__(self, method="runTest"):
        super().__init__(method)
        shown = {verdicts()[row] for row in getattr(getattr(self, method, None), "plugin_rows", [])}
        self.must_fail = bool(shown & ({"better", "different"} if broker.STOMP == "plugin" else {"missing"}))
        self.__unittest_expecting_failure__ = self.must_fail
        self.limit_s = FAILURE_LIMIT_S if self.must_fail else LIMIT_S

    @classmethod
    def setUpClass(cls):
        if broker.STOMP == "plugin" and not cls.also_against_plugin:
            raise unittest.SkipTest("not for the plugin")
        super().setUpClass()
        if broker.STOMP == "plugin":
            cls.addresses = cls.broker.addresses
        else:
            cls.gw = Gateway(config_text(cls.amqp, cls.config, **cls.options))
            cls.addClassCleanup(cls.gw.stop)
            cls.gw.start()
            cls.addresses = cls.gw.addresses

    @classmethod
    def tearDownClass(cls):
        if broker.STOMP != "plugin":
            cls.gw.stop()
        super().tearDownClass()

    def subTest(self, *args, **params):  # noqa: N802
        """Of a test that must fail the first failure is enough."""
        return contextlib.nullcontext() if self.must_fail else super().subTest(*args, **params)

    def name(self, kind="t"):
        """A key, queue, … of this call's own."""
        return f"{kind}{next(self.names)}"

    def peer(self, version="1.2", web=False, first=None, connect=None, **options):
        """A connection; ended with the test."""
        connect = {"login": "guest", "passcode": "guest", "host": self.vhost, **(connect or {})}
        return self.open(StompPeer(self.addresses["web" if web else "stomp"], version, first, "/ws" if web else None, connect,
                                   self.limit_s, **options))

    def each_version(self, check, versions=("1.0", "1.1", "1.2")):
        for version in versions:
            with self.subTest(version):
                check(version)
