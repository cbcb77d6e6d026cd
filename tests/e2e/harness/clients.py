# SPDX-License-Identifier: Apache-2.0
"""Clients that other people wrote, each with a mailbox; and raw sockets for what no decent client does."""
import base64
import contextlib
import hashlib
from http.client import HTTPConnection, HTTPSConnection
import os
import re
import socket
import struct
import subprocess
import threading

import paho.mqtt.client as paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions
import pika
import stomp
from stomp.connect import BaseConnection
from stomp.protocol import Protocol12
from stomp.transport import BaseTransport

from .wait import LIMIT_S, Mailbox

# ---- mosquitto_pub and mosquitto_sub


def mosquitto_pub(address, topic, message, *options, qos=1, check=True):
    """message: bytes. Returns the finished process."""
    command = ["mosquitto_pub", "-h", address[0], "-p", str(address[1]), "-t", topic, "-q", str(qos), *options]
    command += ["-s"] if message else ["-n"]
    return subprocess.run(command, input=message, capture_output=True, check=check, timeout=LIMIT_S)


class MosquittoSub:
    """messages: (topic, qos, body) each. Subscribed once constructed."""

    def __init__(self, address, *topics, qos=1, options=()):
        self.messages = Mailbox("message of mosquitto_sub")
        subscribed = threading.Event()
        command = ["mosquitto_sub", "-h", address[0], "-p", str(address[1]), "-q", str(qos), "-d", *options,
                   "-F", "message %q %x %t"]
        for topic in topics:
            command += ["-t", topic]
        self.process = subprocess.Popen(["stdbuf", "-oL", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = []

        def read():
            for line in self.process.stdout:
                self.output.append(line)
                if line.startswith(b"Subscribed"):
                    subscribed.set()
                elif line.startswith(b"message "):
                    _, got_qos, body, topic = line.decode().rstrip("\n").split(" ", 3)
                    self.messages.put((topic, int(got_qos), bytes.fromhex(body)))

        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        if not subscribed.wait(LIMIT_S):
            self.close()
            raise AssertionError(f"mosquitto_sub did not subscribe: {self.output!r}")

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.reader.join()
        self.process.stdout.close()


# ---- paho


class Mqtt:
    """An MQTT 3.1.1 session of paho, over a WebSocket where a path is given, over TLS with an ssl.SSLContext; ended, it stays so. messages: paho's own (topic, payload,
    qos, retain, dup); ends: result codes of on_disconnect."""

    def __init__(self, address, client_id="", clean=True, keepalive=60, username=None, password=None, will=None, path=None,
                 tls=None):
        self.messages = Mailbox("MQTT message")
        self.ends = Mailbox("MQTT disconnect")
        self.answers = Mailbox("MQTT answer")  # ("connack", rc) ("suback", mid, granted) ("puback", mid) ("unsuback", mid)
        self.client = paho.Client(client_id=client_id, clean_session=clean, protocol=paho.MQTTv311,
                                  transport="tcp" if path is None else "websockets", reconnect_on_failure=False)
        if path is not None:
            self.client.ws_set_options(path)
        if tls is not None:
            self.client.tls_set_context(tls)
        self.client.max_inflight_messages_set(0)
        self.client.max_queued_messages_set(0)
        self.client.on_connect = lambda c, u, flags, rc: self.answers.put(("connack", rc))
        self.client.on_subscribe = lambda c, u, mid, granted: self.answers.put(("suback", mid, granted))
        self.client.on_unsubscribe = lambda c, u, mid: self.answers.put(("unsuback", mid))
        self.client.on_publish = lambda c, u, mid: self.answers.put(("puback", mid))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_disconnect = lambda c, u, rc: self.ends.put(rc)
        if username is not None:
            self.client.username_pw_set(username, password)
        if will is not None:
            self.client.will_set(*will)
        self.client.connect(*address, keepalive=keepalive)
        self.client.loop_start()
        _, self.connack = self.answers.take(lambda a: a[0] == "connack")

    def subscribe(self, *filters, qos=1):
        """Granted QoS of each; 128 is a refusal."""
        _, mid = self.client.subscribe([(f, qos) for f in filters])
        return list(self.answers.take(lambda a: a[:2] == ("suback", mid))[2])

    def unsubscribe(self, *filters):
        _, mid = self.client.unsubscribe(list(filters))
        self.answers.take(lambda a: a == ("unsuback", mid))

    def send(self, topic, body, qos=1, retain=False):
        """Without waiting; the message id for acked()."""
        return self.client.publish(topic, body, qos, retain).mid

    def acked(self, mid, limit_s=None):
        self.answers.take(lambda a: a == ("puback", mid), limit_s)

    def publish(self, topic, body, qos=1, retain=False):
        """And waits: for the PUBACK, or for QoS 0 until it is written."""
        self.acked(self.send(topic, body, qos, retain))

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def drop(self):
        """The TCP connection ends without a DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()


class Mqtt5:
    """An MQTT 5.0 session of paho; ended, it stays so. messages: paho's own, with .properties; ends: reason codes as numbers, those of
    the server's DISCONNECT or paho's own."""

    def __init__(self, address, client_id="", clean=True, expiry_s=0, keepalive=60, will=None, will_delay_s=0, connect=None):
        self.messages = Mailbox("MQTT message")
        self.ends = Mailbox("MQTT disconnect")
        self.answers = Mailbox("MQTT answer")
        self.client = paho.Client(client_id=client_id, protocol=paho.MQTTv5, reconnect_on_failure=False)
        self.client.max_inflight_messages_set(0)
        self.client.max_queued_messages_set(0)
        self.client.on_connect = lambda c, u, flags, rc, p: self.answers.put(("connack", rc.value, flags, p))
        self.client.on_subscribe = lambda c, u, mid, granted, p: self.answers.put(("suback", mid, [g.value for g in granted]))
        self.client.on_unsubscribe = lambda c, u, mid, p, codes: self.answers.put(("unsuback", mid))
        self.client.on_publish = lambda c, u, mid: self.answers.put(("puback", mid))
        self.client.on_message = lambda c, u, message: self.messages.put(message)
        self.client.on_disconnect = self.on_disconnect
        wanted = Properties(PacketTypes.CONNECT)
        wanted.SessionExpiryInterval = expiry_s
        for name, value in (connect or {}).items():
            setattr(wanted, name, value)
        if will is not None:
            about = Properties(PacketTypes.WILLMESSAGE)
            about.WillDelayInterval = will_delay_s
            self.client.will_set(*will, properties=about)
        self.client.connect(*address, keepalive=keepalive, clean_start=clean, properties=wanted)
        self.client.loop_start()
        answer = self.answers.take(lambda a: a[0] in ("connack", "gone"))
        if answer[0] == "gone":
            self.client.loop_stop()
            raise ConnectionError("closed before CONNACK")
        _, self.connack, flags, self.properties = answer
        self.is_present = bool(flags["session present"])

    def on_disconnect(self, client, userdata, reason, properties=None):
        self.ends.put(getattr(reason, "value", reason))
        self.answers.put(("gone",))

    def subscribe(self, topic_filter, qos=1, identifier=None, **options):
        """The reason code. options: paho's SubscribeOptions."""
        about = Properties(PacketTypes.SUBSCRIBE)
        if identifier is not None:
            about.SubscriptionIdentifier = identifier
        _, mid = self.client.subscribe([(topic_filter, SubscribeOptions(qos, **options))], properties=about)
        return self.answers.take(lambda a: a[:2] == ("suback", mid))[2][0]

    def send(self, topic, body, qos=1, retain=False, **properties):
        about = Properties(PacketTypes.PUBLISH)
        for name, value in properties.items():
            setattr(about, name, value)
        return self.client.publish(topic, body, qos, retain, about).mid

    def publish(self, topic, body, qos=1, retain=False, **properties):
        """And waits, as Mqtt does."""
        mid = self.send(topic, body, qos, retain, **properties)
        self.answers.take(lambda a: a == ("puback", mid))

    def close(self, expiry_s=None):
        about = Properties(PacketTypes.DISCONNECT)
        if expiry_s is not None:
            about.SessionExpiryInterval = expiry_s
        self.client.disconnect(properties=about)
        self.client.loop_stop()

    def drop(self):
        """The TCP connection ends without a DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.client.loop_stop()


# ---- stomp.py


class WebSocketTransport(BaseTransport):
    """Carries stomp.py's frames, a WebSocket message each; those that are UTF-8 as text."""

    def __init__(self, address, path, vhost):
        super().__init__(auto_decode=False)
        self.current_host_and_port = address
        self.path = path
        self.vhost = vhost
        self.socket = None

    def attempt_connection(self):
        self.web = WebSocket(self.current_host_and_port, self.path, ["v12.stomp"])
        self.web.socket.settimeout(None)
        self.socket = self.web.socket

    def send(self, encoded_frame):
        try:
            encoded_frame.decode()
            self.web.send_frame(WebSocket.TEXT, encoded_frame)
        except UnicodeDecodeError:
            self.web.send_frame(WebSocket.BINARY, encoded_frame)

    def receive(self):
        opcode, payload = self.web.read_message()
        return b"" if opcode == WebSocket.CLOSE else payload

    def disconnect_socket(self):
        self.running = False
        with contextlib.suppress(OSError):  # the server may have been faster
            self.socket.shutdown(socket.SHUT_RDWR)

    def cleanup(self):
        self.web.close()


class WebSocketConnection(BaseConnection, Protocol12):
    def __init__(self, address, path, heartbeats, vhost):
        transport = WebSocketTransport(address, path, vhost)
        BaseConnection.__init__(self, transport)
        Protocol12.__init__(self, transport, heartbeats)

    def connect(self, *args, **kwargs):
        self.transport.start()
        Protocol12.connect(self, *args, **kwargs)

    def disconnect(self, receipt=None, headers=None, **keyword_headers):  # BaseConnection's does nothing
        Protocol12.disconnect(self, receipt, headers, **keyword_headers)


class Stomp(stomp.ConnectionListener):
    """A STOMP session of stomp.py over TCP, or over a WebSocket where a path is given. messages and errors: stomp.py's frames (headers,
    body); receipts: ids."""

    def __init__(self, address, version="1.2", heartbeats=(0, 0), login="guest", passcode="guest", host="/", path=None):
        self.messages = Mailbox("STOMP message")
        self.errors = Mailbox("STOMP error")
        self.receipts = Mailbox("STOMP receipt")
        self.ends = Mailbox("STOMP disconnect")
        self.next = 0
        self.is_closed = False
        if path is not None:
            self.connection = WebSocketConnection(address, path, heartbeats, host)
        else:
            kind = {"1.0": stomp.StompConnection10, "1.1": stomp.StompConnection11, "1.2": stomp.StompConnection12}[version]
            options = {} if version == "1.0" else {"heartbeats": heartbeats, "vhost": host}
            # auto_decode would take every body for UTF-8.
            self.connection = kind([address], auto_decode=False, reconnect_attempts_max=1, **options)
        self.connection.set_listener("test", self)
        self.connection.connect(login, passcode, wait=True)

    def on_message(self, frame):
        self.messages.put(frame)

    def on_error(self, frame):
        self.errors.put(frame)

    def on_receipt(self, frame):
        self.receipts.put(frame.headers["receipt-id"])

    def on_disconnected(self):
        self.ends.put("disconnected")

    def receipt_id(self):
        self.next += 1
        return f"r{self.next}"

    def subscribe(self, destination, subscription="0", ack="auto", **headers):
        """And waits for the receipt."""
        receipt = self.receipt_id()
        self.connection.subscribe(destination, id=subscription, ack=ack, headers={"receipt": receipt, **headers})
        self.receipts.take(lambda r: r == receipt)

    def unsubscribe(self, subscription="0"):
        receipt = self.receipt_id()
        self.connection.unsubscribe(id=subscription, receipt=receipt)
        self.receipts.take(lambda r: r == receipt)

    def send(self, destination, body, content_type=None, **headers):
        """And waits for the receipt. Names with a dash: **{"correlation-id": …}."""
        receipt = self.receipt_id()
        self.connection.send(destination, body, content_type=content_type, headers={"receipt": receipt, **headers})
        self.receipts.take(lambda r: r == receipt)

    def close(self):
        if self.connection.is_connected() and not self.is_closed:
            self.is_closed = True  # stomp.py closes its socket once the receipt is there, and says so only later
            self.connection.disconnect()


# ---- pika


class Consumer:
    """An AMQP client beside the gateway, straight at RabbitMQ."""

    def __init__(self, url):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.queue = None
        self.consumed = None  # queue

    def bind(self, exchange, key="#", queue="", **queue_options):
        """A queue (exclusive if it has no name) bound to exchange."""
        self.queue = self.channel.queue_declare(queue, exclusive=queue == "", **queue_options).method.queue
        self.channel.queue_bind(self.queue, exchange, key)
        return self.queue

    def take(self, limit_s=None, queue=None):
        """The next message: (method, properties, body), acknowledged."""
        queue = queue or self.queue
        if self.consumed not in (None, queue):
            self.channel.cancel()
        self.consumed = queue
        for method, properties, body in self.channel.consume(queue, inactivity_timeout=limit_s or LIMIT_S):
            if method is None:
                raise AssertionError("no such AMQP message in time")
            self.channel.basic_ack(method.delivery_tag)
            return method, properties, body

    def take_n(self, n):
        return [self.take() for _ in range(n)]

    def publish(self, exchange, key, body, **properties):
        self.channel.basic_publish(exchange, key, body, pika.BasicProperties(**properties))

    def close(self):
        if self.connection.is_open:
            self.connection.close()


# ---- HTTP and raw sockets


def http_request(connection, method, path, body=None, headers=None):
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()


def http(address, method, path, body=None, headers=None):
    """Status, headers (names in lower case), body as bytes; a connection of its own."""
    connection = http_connection(address)
    try:
        return http_request(connection, method, path, body, headers)
    finally:
        connection.close()


class Secured(tuple):
    """An address that http, raw and what is made of them (Peer) speak TLS to."""

    def __new__(cls, address, context):
        self = super().__new__(cls, address)
        self.context = context
        return self


def http_connection(address):
    if isinstance(address, Secured):
        return HTTPSConnection(*address, timeout=LIMIT_S, context=address.context)
    return HTTPConnection(*address, timeout=LIMIT_S)


class raw:
    """A socket: send bytes, read until something or the end."""

    def __init__(self, address, first=b""):
        self.socket = socket.create_connection(address, timeout=LIMIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if isinstance(address, Secured):
            self.socket = address.context.wrap_socket(self.socket, server_hostname=address[0])
        self.buffer = b""
        if first:
            self.send(first)

    def send(self, data):
        self.socket.sendall(data)

    def read_until(self, end):
        """What came up to and including `end`."""
        while end not in self.buffer:
            self.more()
        head, _, self.buffer = self.buffer.partition(end)
        return head + end

    def read_n(self, n):
        while len(self.buffer) < n:
            self.more()
        data, self.buffer = self.buffer[:n], self.buffer[n:]
        return data

    def more(self):
        data = self.socket.recv(65536)
        if not data:
            raise AssertionError(f"the connection ended after {self.buffer!r}")
        self.buffer += data

    def read_to_end(self):
        """Everything until the other side closes (or resets)."""
        try:
            while data := self.socket.recv(65536):
                self.buffer += data
        except ConnectionResetError:
            pass
        data, self.buffer = self.buffer, b""
        return data

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Events:
    """A stream by a raw socket: the head, then events as dicts, comments left out."""

    def __init__(self, gw, target, more=""):
        self.socket = raw(gw.addresses["web"], f"GET /v1/topics/{target} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{more}\r\n".encode())
        self.head = self.socket.read_until(b"\r\n\r\n").decode()
        assert self.head.startswith("HTTP/1.1 200 "), self.head
        assert re.fullmatch(rb"retry: [1-3]\d{3}\n\n", self.socket.read_until(b"\n\n"))

    def take(self):
        while True:
            lines = self.socket.read_until(b"\n\n").decode().splitlines()[:-1]
            event = {}
            for line in lines:
                name, _, value = line.partition(":")
                if name:
                    event[name] = event[name] + "\n" + value[1:] if name in event else value[1:]
            if event:
                return event

    def close(self):
        self.socket.close()


class WebSocket(raw):
    """RFC 6455 by hand: status and headers of the answer; frames out (masked) and in."""

    TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10

    def __init__(self, address, path="/ws", protocols=(), headers=None, must_open=True):
        super().__init__(address)
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if protocols:
            lines.append("Sec-WebSocket-Protocol: " + ", ".join(protocols))
        lines += [f"{k}: {v}" for k, v in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode())
        head = self.read_until(b"\r\n\r\n").decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
        self.protocol = self.headers.get("sec-websocket-protocol")
        if must_open:
            want = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
            if self.status != 101 or self.headers["sec-websocket-accept"] != want:
                raise AssertionError(f"no WebSocket: {head}")

    def send_frame(self, opcode, payload=b"", is_final=True, mask=b"\x12\x34\x56\x78"):
        n = len(payload)
        head = bytes([(0x80 if is_final else 0) | opcode])
        if n < 126:
            head += bytes([0x80 | n])
        elif n < 65536:
            head += bytes([0x80 | 126]) + struct.pack("!H", n)
        else:
            head += bytes([0x80 | 127]) + struct.pack("!Q", n)
        keys = (mask * (n // 4 + 1))[:n]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(n, "big")
        self.send(head + mask + masked)

    def read_frame(self):
        """(is_final, opcode, payload) of the next frame."""
        first, second = self.read_n(2)
        n = second & 0x7F
        if n == 126:
            n = struct.unpack("!H", self.read_n(2))[0]
        elif n == 127:
            n = struct.unpack("!Q", self.read_n(8))[0]
        return bool(first & 0x80), first & 0x0F, self.read_n(n)

    def read_message(self):
        """(opcode, payload) of the next whole message; answers pings on the way."""
        kind, whole = None, b""
        while True:
            is_final, opcode, payload = self.read_frame()
            if opcode == self.PING:
                self.send_frame(self.PONG, payload)
                continue
            kind = opcode or kind
            whole += payload
            if is_final:
                return kind, whole
