# SPDX-License-Identifier: Apache-2.0
"""Publishes: confirmed and not, small and large, and what a message is delayed by on its way from end to end."""
import base64
import contextlib
import json

from cases import add_ratios, case, take_turns, take_turns_in_pairs
from sides import DIRECT, HEADGATE, KEY, OUTSTANDING, PLUGIN, RELAYED, Consumer, direct_latency_side, direct_side, latency_side, publish_side

MANAGEMENT = "management API"
COLUMNS = (
    ("", "{what}"), ("publisher", "{side}"), ("messages/s", "{per_s:,.0f}"), ("of direct", "{of_direct:.2f}"), ("× plugin", "{times_plugin:.2f}"),
    ("× management API", "{times_management:.1f}"),
    ("CPU, s per million", "{cpu_us:.1f}"), ("gateway's", "{gateway_us:.1f}"), ("RabbitMQ's", "{broker_us:.1f}"),
    ("load's CPU", "{load_us:.1f}"),
    ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("lost", "{lost:,}"))


def management_side(bench, stack, consumer):
    text = json.dumps({"properties": {"delivery_mode": 2}, "routing_key": KEY, "payload": "x" * 128, "payload_encoding": "string"})
    return publish_side(bench, stack, consumer, MANAGEMENT, bench.plugins, "http", connections=OUTSTANDING, text=text,
                        path="/api/exchanges/%2f/amq.topic/publish",
                        authorization="Basic " + base64.b64encode(b"guest:guest").decode())


@case("fanin", "Publishes into a consumed queue", """256 messages outstanding over 16 connections (HTTP: over 256), 128 bytes, persistent where confirmed, through amq.topic into one
      durable queue with one consumer that acknowledges nothing. Of QoS 0, outstanding is what the server has not read (a PINGREQ
      behind every eighth message of a connection tells), and the rate is the consumer's. CPU is of broker and
      gateway together. Load generator, consumer, gateway and broker share the machine. Direct AMQP and Headgate take turns of half a second,
      A B B A; RabbitMQ's plugins take theirs behind all of these.""", COLUMNS)
def run_fanin(bench):
    wires = (("MQTT QoS 0", "mqtt", {"qos": 0}), ("MQTT QoS 1", "mqtt", {}), ("MQTT QoS 1 over WebSocket", "mqtt-ws", {}), ("STOMP receipt", "stomp", {}),
             ("STOMP receipt over WebSocket", "stomp-ws", {}), ("HTTP POST", "http", {"connections": OUTSTANDING}))
    unbound = "MQTT QoS 1, no queue bound", {"topic": "bench/unbound"}
    rows = []
    with contextlib.ExitStack() as stack:
        consumer = Consumer(bench, stack, bench.broker, KEY)
        for what, wire, options in wires:
            rows += pairs_with_direct(bench, what, consumer, wire, options)
        rows += pairs_with_direct(bench, unbound[0], None, "mqtt", unbound[1], key="bench.unbound")
    with contextlib.ExitStack() as stack:
        consumer = Consumer(bench, stack, bench.plugins, KEY)
        for what, wire, options in wires:
            with contextlib.ExitStack() as inner:
                plugin = (management_side(bench, inner, consumer) if wire == "http"
                          else publish_side(bench, inner, consumer, PLUGIN, bench.plugins, wire, **options))
                rows += take_turns(bench, what, [plugin])
        rows += take_turns(bench, unbound[0], [publish_side(bench, stack, None, PLUGIN, bench.plugins, "mqtt", **unbound[1])])
    add_ratios(rows, "per_s", of_direct=DIRECT, times_plugin=PLUGIN, times_management=MANAGEMENT)
    order = [what for what, _, _ in wires] + [unbound[0]]
    return sorted(rows, key=lambda row: order.index(row["what"]))


def pairs_with_direct(bench, what, consumer, wire, options, **direct):
    with contextlib.ExitStack() as stack:
        sides = direct_side(bench, stack, consumer, **direct), publish_side(bench, stack, consumer, HEADGATE, bench.gateway, wire, **options)
        return take_turns_in_pairs(bench, what, *sides, "of_direct")


@case("bodies", "Large bodies", "Bodies of 1 MiB, confirmed, 4 outstanding over 4 connections, otherwise as above.", (
    ("", "{what}"), ("publisher", "{side}"), ("MiB/s", "{per_s:,.0f}"), ("of direct", "{of_direct:.2f}"), ("CPU, ms each", "{cpu_ms:.2f}"),
    ("of it the gateway", "{gateway_ms:.2f}"), ("p99", "{p99_us:,.0f} µs"), ("lost", "{lost:,}")))
def run_bodies(bench):
    rows = []
    body = 1 << 20
    with contextlib.ExitStack() as stack:
        by_gateway = Consumer(bench, stack, bench.broker, KEY)
        by_plugin = Consumer(bench, stack, bench.plugins, KEY)
        for what, wire in (("MQTT QoS 1", "mqtt"), ("STOMP receipt over WebSocket", "stomp-ws"), ("HTTP POST", "http")):
            with contextlib.ExitStack() as inner:
                options = {"body": body, "window": 4}
                sides = [direct_side(bench, inner, by_gateway, **options),
                         publish_side(bench, inner, by_gateway, HEADGATE, bench.gateway, wire, connections=4, **options)]
                if wire == "mqtt":
                    sides.append(publish_side(bench, inner, by_plugin, PLUGIN, bench.plugins, wire, connections=4, **options))
                rows += take_turns(bench, what, sides)
    add_ratios(rows, "per_s", of_direct=DIRECT)
    for row in rows:
        row["cpu_ms"] = row["cpu_us"] / 1000
        row["gateway_ms"] = row.get("gateway_us", 0) / 1000
    return rows


LATENCY_COLUMNS = (
    ("", "{what}"), ("way", "{side}"), ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("p99.9", "{p999_us:,.0f} µs"),
    ("max", "{max_us:,.0f} µs"), ("p50 over direct", "{p50_over:+,.0f} µs"), ("p99 over direct", "{p99_over:+,.0f} µs"),
    ("p50 over the relay", "{p50_over_relay:+,.0f} µs"), ("lost", "{lost:,}"))


@case("latency", "Latency from end to end", """A publisher and a subscriber, QoS 0 or ack:auto, 128 bytes, at a fixed rate, each message timed from the moment at which it was due
      (which corrects for coordinated omission). A message through Headgate takes a hop more each way than one through a plugin, which is
      in the broker: client, gateway, RabbitMQ, gateway, client. So does one of direct AMQP through a bare relay, an epoll loop between publisher
      and RabbitMQ and between RabbitMQ and consumer that passes bytes on and does nothing else: what it takes over direct AMQP is what two hops more cost on
      that machine, and no gateway of one process can take less.""", LATENCY_COLUMNS)
def run_latency(bench):
    rows = []
    for rate in bench.pick((1000, 5000), (1000,)):
        with contextlib.ExitStack() as stack:
            sides = [direct_latency_side(bench, stack, DIRECT, bench.broker, rate, "bench.latency.direct"),
                     direct_latency_side(bench, stack, RELAYED, bench.relay, rate, "bench.latency.relayed"),
                     latency_side(bench, stack, "Headgate, MQTT", bench.gateway, "mqtt", rate),
                     latency_side(bench, stack, "RabbitMQ plugin, MQTT", bench.plugins, "mqtt", rate),
                     latency_side(bench, stack, "mosquitto, MQTT", bench.mosquitto, "mqtt", rate),
                     latency_side(bench, stack, "Headgate, STOMP-WS", bench.gateway, "stomp-ws", rate),
                     latency_side(bench, stack, "RabbitMQ plugin, STOMP-WS", bench.plugins, "stomp-ws", rate)]
            part = take_turns(bench, f"{rate:,} messages/s", sides, seconds=bench.pick(3, 0.5))
        for row in part[1:]:
            for q in ("p50", "p99"):
                row[f"{q}_over"] = row[f"{q}_us"] - part[0][f"{q}_us"]
        for row in part[2:]:
            row["p50_over_relay"] = row["p50_us"] - part[1]["p50_us"]
        rows += part
    return rows
