# SPDX-License-Identifier: Apache-2.0
"""Packets, frames and requests as bytes: for what is recorded, changed and sent by hand."""
import struct

# ---- MQTT 3.1.1


def mqtt(first, body=b"", length=None):
    """A control packet; `first` is type and flags, `length` a remaining length that may be a lie."""
    n, head = len(body) if length is None else length, b""
    while True:
        n, digit = n >> 7, n & 0x7F
        head += bytes([digit | (0x80 if n else 0)])
        if not n:
            return bytes([first]) + head + body


def mqtt_string(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("!H", len(data)) + data


def mqtt_connect(client_id, flags=2, keepalive=60, level=4, name="MQTT", rest=b""):
    return mqtt(0x10, mqtt_string(name) + bytes([level, flags]) + struct.pack("!H", keepalive) + mqtt_string(client_id) + rest)


def mqtt_publish(topic, body, qos=0, packet_id=0):
    return mqtt(0x30 | qos << 1, mqtt_string(topic) + (struct.pack("!H", packet_id) if qos else b"") + body)


def mqtt_subscribe(packet_id, *filters, qos=1):
    return mqtt(0x82, struct.pack("!H", packet_id) + b"".join(mqtt_string(f) + bytes([qos]) for f in filters))


def mqtt_unsubscribe(packet_id, *filters):
    return mqtt(0xA2, struct.pack("!H", packet_id) + b"".join(mqtt_string(f) for f in filters))


def mqtt_ack(first, packet_id):
    return mqtt(first, struct.pack("!H", packet_id))


MQTT_CONNACK, MQTT_PINGREQ, MQTT_DISCONNECT = b"\x20\x02\x00\x00", b"\xc0\x00", b"\xe0\x00"
MQTT_PUBACK, MQTT_PUBREL = 0x40, 0x62

# ---- STOMP


def stomp(command, headers=(), body=b"", end=b"\0"):
    """headers: a dict, or pairs where one is repeated; as they are, without escapes."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    return f"{command}\n{''.join(f'{k}:{v}{chr(10)}' for k, v in pairs)}\n".encode() + body + end


# ---- WebSocket (RFC 6455)

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def ws_frame(opcode, payload=b"", is_final=True, mask=b"\x12\x34\x56\x78", rsv=0):
    """A frame as clients send it; mask=None leaves it unmasked."""
    n = len(payload)
    head = bytes([(0x80 if is_final else 0) | rsv << 4 | opcode])
    flag = 0 if mask is None else 0x80
    if n < 126:
        head += bytes([flag | n])
    elif n < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", n)
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", n)
    if mask is None:
        return head + payload
    keys = (mask * (n // 4 + 1))[:n]
    return head + mask + (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(n, "big")


def ws_handshake(path, protocol, key="dGhlIHNhbXBsZSBub25jZQ=="):
    return http("GET", path, headers={"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": key,
                                      "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": protocol})


# ---- HTTP/1.1


def http(method, path, body=None, headers=(), version="HTTP/1.1"):
    """headers: a dict, or pairs. Content-Length goes with a body unless Transfer-Encoding is among them."""
    pairs = [("Host", "gateway"), *(headers.items() if isinstance(headers, dict) else headers)]
    if body is not None and all(k.lower() != "transfer-encoding" for k, _ in pairs):
        pairs.append(("Content-Length", len(body)))
    return f"{method} {path} {version}\r\n{''.join(f'{k}: {v}{chr(13)}{chr(10)}' for k, v in pairs)}\r\n".encode() + (body or b"")


def http_chunked(*chunks):
    return b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
