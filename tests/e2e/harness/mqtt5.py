# SPDX-License-Identifier: Apache-2.0
"""MQTT packets by hand, 5.0 and 3.1.1: bytes out (lies included), and a strict reader of what a server sends, which checks every packet
against the standards' tables. Functions take the protocol level (5, 4 or 3) where the versions differ."""
import struct

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT, \
    AUTH = range(1, 16)
NAMES = ("0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK",
         "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")
WILL = "will"  # its properties have a table entry of their own

# ---- What the standard's tables say (5.0: 2.2.2.2 properties, 2.4 reason codes)

# name: (identifier, form, the packets that may have it)
PROPERTIES = {
    "payload_format": (0x01, "u8", (PUBLISH, WILL)),
    "message_expiry": (0x02, "u32", (PUBLISH, WILL)),
    "content_type": (0x03, "text", (PUBLISH, WILL)),
    "response_topic": (0x08, "text", (PUBLISH, WILL)),
    "correlation_data": (0x09, "data", (PUBLISH, WILL)),
    "subscription_id": (0x0B, "varint", (PUBLISH, SUBSCRIBE)),
    "session_expiry": (0x11, "u32", (CONNECT, CONNACK, DISCONNECT)),
    "assigned_client_id": (0x12, "text", (CONNACK,)),
    "server_keep_alive": (0x13, "u16", (CONNACK,)),
    "auth_method": (0x15, "text", (CONNECT, CONNACK, AUTH)),
    "auth_data": (0x16, "data", (CONNECT, CONNACK, AUTH)),
    "request_problem": (0x17, "u8", (CONNECT,)),
    "will_delay": (0x18, "u32", (WILL,)),
    "request_response": (0x19, "u8", (CONNECT,)),
    "response_information": (0x1A, "text", (CONNACK,)),
    "server_reference": (0x1C, "text", (CONNACK, DISCONNECT)),
    "reason_string": (0x1F, "text", (CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)),
    "receive_maximum": (0x21, "u16", (CONNECT, CONNACK)),
    "topic_alias_maximum": (0x22, "u16", (CONNECT, CONNACK)),
    "topic_alias": (0x23, "u16", (PUBLISH,)),
    "maximum_qos": (0x24, "u8", (CONNACK,)),
    "retain_available": (0x25, "u8", (CONNACK,)),
    "user": (0x26, "pair", (CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, DISCONNECT,
                            AUTH, WILL)),
    "maximum_packet_size": (0x27, "u32", (CONNECT, CONNACK)),
    "wildcard_available": (0x28, "u8", (CONNACK,)),
    "subscription_ids_available": (0x29, "u8", (CONNACK,)),
    "shared_available": (0x2A, "u8", (CONNACK,)),
}
BY_IDENTIFIER = {identifier: (name, form, packets) for name, (identifier, form, packets) in PROPERTIES.items()}

# What a server may send in each packet.
REASONS = {
    CONNACK: {0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A, 0x9B, 0x9C, 0x9D,
              0x9F},
    PUBACK: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREC: {0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99},
    PUBREL: {0x00, 0x92},
    PUBCOMP: {0x00, 0x92},
    SUBACK: {0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2},
    UNSUBACK: {0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91},
    AUTH: {0x00, 0x18},
    DISCONNECT: {0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9A, 0x9B,
                 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2},
}
RETURN_CODES = {CONNACK: {0, 1, 2, 3, 4, 5}, SUBACK: {0x00, 0x01, 0x02, 0x80}}  # 3.1.1

# ---- Bytes out


def varint(n, length=1):
    """A variable byte integer; `length` makes it longer than it has to be."""
    out = b""
    while True:
        n, digit = n >> 7, n & 0x7F
        length -= 1
        out += bytes([digit | (0x80 if n or length > 0 else 0)])
        if not n and length <= 0:
            return out


def text(value):
    """With its length; bytes go as they are, well-formed or not."""
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(data)) + data


FORMS = {
    "u8": lambda v: struct.pack("!B", v),
    "u16": lambda v: struct.pack("!H", v),
    "u32": lambda v: struct.pack("!I", v),
    "varint": varint,
    "text": text,
    "data": text,
    "pair": lambda v: text(v[0]) + text(v[1]),
}


def prop(name, value):
    identifier, form, _ = PROPERTIES[name]
    return bytes([identifier]) + FORMS[form](value)


def properties(values):
    """With their length. values: bytes as they are, or {name: value}, a list where a property is repeated."""
    data = values if isinstance(values, bytes) else b"".join(
        prop(name, v) for name, value in (values or {}).items() for v in (value if isinstance(value, list) else [value]))
    return varint(len(data)) + data


def properties_for(level, values):
    return properties(values) if level == 5 else b""


def packet(kind, body=b"", flags=None, length=None):
    """Any packet; flags: the standard's unless given; length: a remaining length that may be a lie."""
    if flags is None:
        flags = 2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0
    return bytes([kind << 4 | flags]) + varint(len(body) if length is None else length) + body


class Will:
    def __init__(self, topic, body=b"", qos=0, retain=False, **values):
        self.topic, self.body, self.qos, self.retain, self.values = topic, body, qos, retain, values

    def flags(self):
        return 0x04 | self.qos << 3 | self.retain << 5


def connect(client_id="", level=5, clean=True, keepalive=0, will=None, user=None, password=None, flags=None, name=None, **values):
    """values: properties of CONNECT by name, or `properties` as bytes or dict."""
    bits = clean << 1 | (will.flags() if will else 0) | (user is not None) << 7 | (password is not None) << 6
    body = text(name or ("MQIsdp" if level == 3 else "MQTT")) + bytes([level, bits if flags is None else flags])
    body += struct.pack("!H", keepalive) + properties_for(level, values.get("properties", values)) + text(client_id)
    if will:
        body += properties_for(level, will.values.get("properties", will.values)) + text(will.topic) + text(will.body)
    return packet(CONNECT, body + b"".join(text(v) for v in (user, password) if v is not None))


def publish(topic, body=b"", qos=0, packet_id=None, retain=False, dup=False, level=5, **values):
    head = text(topic) + (b"" if packet_id is None else struct.pack("!H", packet_id))
    return packet(PUBLISH, head + properties_for(level, values.get("properties", values)) + body, flags=dup << 3 | qos << 1 | retain)


def ack(kind, packet_id, reason=None, level=5, **values):
    """PUBACK, PUBREC, PUBREL, PUBCOMP: without a reason in the short form."""
    body = struct.pack("!H", packet_id)
    if level == 5 and (reason is not None or values):
        body += bytes([reason or 0]) + (properties(values.get("properties", values)) if values else b"")
    return packet(kind, body)


def subscribe(packet_id, *filters, level=5, **values):
    """filters: (filter, options) each, or a filter alone: QoS 1."""
    pairs = [f if isinstance(f, tuple) else (f, 1) for f in filters]
    return packet(SUBSCRIBE, struct.pack("!H", packet_id) + properties_for(level, values.get("properties", values)) +
                  b"".join(text(f) + bytes([options]) for f, options in pairs))


def unsubscribe(packet_id, *filters, level=5, **values):
    return packet(UNSUBSCRIBE, struct.pack("!H", packet_id) + properties_for(level, values.get("properties", values)) +
                  b"".join(map(text, filters)))


def disconnect(reason=None, level=5, **values):
    if level != 5 or (reason is None and not values):
        return packet(DISCONNECT)
    return packet(DISCONNECT, bytes([reason or 0]) + (properties(values.get("properties", values)) if values else b""))


def auth(reason, **values):
    return packet(AUTH, bytes([reason]) + properties(values.get("properties", values)))


PING = packet(PINGREQ)

# ---- Bytes in


class Reader:
    """Takes fields off a packet's body."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, n):
        self.at += n
        assert self.at <= len(self.data), f"a field reaches past the end of {self.data.hex()}"
        return self.data[self.at - n:self.at]

    def left(self):
        return len(self.data) - self.at

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def varint(self):
        value = shift = 0
        for _ in range(4):
            digit = self.number(1)
            value |= (digit & 0x7F) << shift
            shift += 7
            if not digit & 0x80:
                assert digit or shift == 7, "a variable byte integer is longer than it must be"
                return value
        raise AssertionError("a variable byte integer of more than 4 bytes")

    def string(self):
        return self.take(self.number(2)).decode()  # strict: no surrogates

    def form(self, form):
        if form == "pair":
            return self.string(), self.string()
        if form in ("text", "data"):
            return self.string() if form == "text" else self.take(self.number(2))
        return self.varint() if form == "varint" else self.number({"u8": 1, "u16": 2, "u32": 4}[form])

    def properties(self, kind):
        """{name: value}; of what may be repeated a list."""
        inner = Reader(self.take(self.varint()))
        found = {}
        while inner.left():
            name, form, packets = BY_IDENTIFIER[inner.varint()]
            assert kind in packets, f"{name} in {NAMES[kind]}"
            value = inner.form(form)
            if name in ("user", "subscription_id"):
                found.setdefault(name, []).append(value)
            else:
                assert name not in found, f"{name} twice in {NAMES[kind]}"
                found[name] = value
        return found


class Packet:
    """What a server sent, checked: kind, flags, and by kind packet_id, reason, reasons, topic, body, qos, dup, retain, present,
    properties; raw is all of it."""

    def __init__(self, kind, flags, data, level, raw):
        self.kind, self.flags, self.raw, self.level = kind, flags, raw, level
        self.packet_id = self.reason = None
        self.properties = {}
        r = Reader(data)
        if kind != PUBLISH:
            assert flags == (2 if kind == PUBREL else 0), f"flags {flags:04b} of {NAMES[kind]}"
        reader = {CONNACK: self.connack, PUBLISH: self.publish, PUBACK: self.ack, PUBREC: self.ack, PUBREL: self.ack, PUBCOMP: self.ack,
                  SUBACK: self.granted, UNSUBACK: self.granted, PINGRESP: lambda r: None, DISCONNECT: self.disconnect, AUTH: self.auth}.get(kind)
        assert reader, f"a server does not send {NAMES[kind]}"
        reader(r)
        assert r.left() == 0, f"{NAMES[kind]} has bytes after its last field: {raw.hex()}"

    def check_reason(self, reason):
        table = REASONS if self.level == 5 else RETURN_CODES
        assert reason in table[self.kind], f"{NAMES[self.kind]} with {reason:#04x}, which is not in its table"
        return reason

    def connack(self, r):
        bits = r.number(1)
        assert bits in (0, 1), f"flags of CONNACK: {bits:#04x}"
        self.present = bits == 1
        self.reason = self.check_reason(r.number(1))
        assert not (self.present and self.reason), "a refusal with session present"
        if self.level == 5:
            self.properties = r.properties(CONNACK)

    def publish(self, r):
        self.dup, self.qos, self.retain = bool(self.flags & 8), self.flags >> 1 & 3, bool(self.flags & 1)
        assert self.qos < 3 and not (self.dup and self.qos == 0), f"flags of PUBLISH: {self.flags:04b}"
        self.topic = r.string()
        assert not set("+#\0") & set(self.topic), f"the topic {self.topic!r}"
        if self.qos:
            self.packet_id = r.number(2)
            assert self.packet_id, "packet identifier 0"
        if self.level == 5:
            self.properties = r.properties(PUBLISH)
            assert self.topic or "topic_alias" in self.properties, "neither topic nor alias"
            assert self.properties.get("topic_alias") != 0, "topic alias 0"
        else:
            assert self.topic, "an empty topic"
        self.body = r.take(r.left())

    def ack(self, r):
        self.packet_id = r.number(2)
        assert self.packet_id, "packet identifier 0"
        self.reason = 0
        if self.level == 5 and r.left():
            self.reason = self.check_reason(r.number(1))
            if r.left():
                self.properties = r.properties(self.kind)

    def granted(self, r):
        self.packet_id = r.number(2)
        if self.level == 5:
            self.properties = r.properties(self.kind)
        if self.level == 5 or self.kind == SUBACK:
            self.reasons = [self.check_reason(c) for c in r.take(r.left())]

    def disconnect(self, r):
        assert self.level == 5, "a server of MQTT 3.1.1 sends no DISCONNECT"
        self.reason = self.check_reason(r.number(1)) if r.left() else 0
        if r.left():
            self.properties = r.properties(DISCONNECT)
        assert "session_expiry" not in self.properties, "a server's DISCONNECT with a session expiry"

    def auth(self, r):
        assert self.level == 5, "a server of MQTT 3.1.1 sends no AUTH"
        self.reason = self.check_reason(r.number(1)) if r.left() else 0
        if r.left():
            self.properties = r.properties(AUTH)

    def __repr__(self):
        known = {k: v for k, v in vars(self).items() if k not in ("kind", "flags", "raw", "level") and v not in (None, {}, False)}
        return f"{NAMES[self.kind]}({', '.join(f'{k}={v!r}' for k, v in known.items())})"


def decode(data, level):
    """(Packet or None, bytes used) of what came; None: not all of it."""
    if len(data) < 2:
        return None, 0
    n = shift = 0
    for i, digit in enumerate(data[1:5], 1):
        n |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            assert digit or i == 1, "a remaining length longer than it must be"
            if len(data) < 1 + i + n:
                return None, 0
            end = 1 + i + n
            return Packet(data[0] >> 4, data[0] & 15, data[1 + i:end], level, data[:end]), end
    assert len(data) < 5, "a remaining length of more than 4 bytes"
    return None, 0
