# SPDX-License-Identifier: Apache-2.0
"""Calibration of the load generator, and what a connection costs: memory while it is idle, and to come about."""
import contextlib
import time

from cases import Side, add_ratios, case, take_turns
from measure import connections_max
from sides import BARE, MOSQUITTO, NAMES, PLUGIN, latency_side, stream_side


@case("calibration", "Calibration: the load generator against the bare loop", """How much the load generator can do. Where a server's rate in the tables below is
      far under these, it is the server's; the generator's own CPU stands in each table.""", (
    ("", "{what}"), ("messages/s", "{per_s:,.0f}"), ("load's CPU, µs each", "{load_us:.2f}"), ("bare loop's CPU", "{cpu_us:.2f}"),
    ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("lost", "{lost:,}")))
def run_calibration(bench):
    rows = []
    n = bench.pick(1000, 100)
    for wire in ("mqtt", "mqtt-ws", "stomp", "stomp-ws", "http"):
        with contextlib.ExitStack() as stack:
            connections = 256 if wire == "http" else 16
            echo = stack.enter_context(bench.load(bench.bare, "publish", wire, qos=1, window=256, n=connections))
            rows += take_turns(bench, f"{wire}: publish, confirmed", [Side(BARE, echo.run, bench.bare.processes)])
    for wire in ("mqtt", "stomp-ws", "sse"):
        with contextlib.ExitStack() as stack:
            rows += take_turns(bench, f"{wire}: fan-out, 1 → {n:,}", [stream_side(bench, stack, "bare", wire, n=n)])
    with contextlib.ExitStack() as stack:
        side = latency_side(bench, stack, BARE, bench.bare, "mqtt", 1000)
        rows += take_turns(bench, "mqtt: latency at 1,000/s", [side])
    return rows


# ---- idle

IDLE_WIRES = {  # with a subscription, and without
    "gateway": (("mqtt", "mqtt-ws", "stomp-ws", "sse", "mqtt-tls"), ("mqtt", "mqtt-ws", "stomp-ws", "http", "mqtt-tls")),
    "mosquitto": (("mqtt", "mqtt-ws", "mqtt-tls"), ("mqtt",)),
    "plugins": (("mqtt", "mqtt-ws", "stomp-ws"), ("mqtt",)),
}


class IdleSet:
    """Connections of one kind to a server of their own, or, at the plugins, to one that has those of the sets before as well."""

    def __init__(self, bench, stack, broker, kind, wire, is_subscribed):
        self.bench, self.stack, self.broker = bench, stack, broker
        self.kind, self.wire, self.is_subscribed = kind, wire, is_subscribed
        full = {"plugins": 2000}.get(kind, 5000 if "tls" in wire else 20000)
        self.n = min(bench.pick(full, 200), connections_max())
        if kind == "gateway":
            self.server = stack.enter_context(bench.new_gateway(broker=broker, is_drained=False))
        else:
            self.server = stack.enter_context(bench.new_mosquitto()) if kind == "mosquitto" else bench.plugins

    def warm_up(self):
        with self.bench.load(self.server, "publish", self.wire if self.wire != "sse" else "http", qos=1, n=10, window=100,
                             topic="exact/warm") as load:
            load.run(0.3)

    def open(self):
        what = "with" if self.is_subscribed else "without"
        self.bench.say(f"{self.n:,} idle connections of {self.wire} {what} a subscription: {NAMES[self.kind]}")
        self.before = self.server.own.anonymous_bytes()
        self.broker_before = self.broker.own.anonymous_bytes() if self.kind == "gateway" else 0
        load = self.stack.enter_context(self.bench.load(
            self.server, "hold", self.wire, n=self.n, distinct=1, subscriptions=int(self.is_subscribed), topic="exact/idle"))
        self.per_s = load.ready["connects_per_s"]
        if self.kind == "gateway":
            self.bench.settle(self.broker)
            self.broker_after = self.broker.own.anonymous_bytes()

    def row(self):
        row = {"what": f"{self.wire}, {'a subscription each' if self.is_subscribed else 'no subscription'}", "side": NAMES[self.kind],
               "connections": self.n, "bytes_each": round((self.server.own.anonymous_bytes() - self.before) / self.n)}
        if self.kind == "gateway":
            row["broker_bytes_each"] = round((self.broker_after - self.broker_before) / self.n)
        self.bench.say(f"{row['what']}, {row['side']}: {row['bytes_each']:,} bytes each")
        return row


@case("idle", "Memory of an idle connection", """Growth of the server's anonymous memory (proportional set size), divided by the connections, 10 s after the last came; with a
      subscription: to a topic of its own each, QoS 0 or ack:auto, a binding each in RabbitMQ; client ids of 23 bytes. http: a keep-alive connection that has had one
      answer; sse: server-sent events. RabbitMQ's growth is that of the broker behind the gateway, garbage included. The number of connections is
      bounded by the open files that the system allows a process.""", (
    ("", "{what}"), ("server", "{side}"), ("connections", "{connections:,}"), ("bytes each", "{bytes_each:,}"),
    ("in RabbitMQ behind it", "{broker_bytes_each:,}")))
def run_idle(bench):
    settle = bench.pick(10, 1)
    rows = []
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(bench.new_broker("rabbitmq-idle"))  # ended with all its bindings, which takes them one by one otherwise
        sets = [IdleSet(bench, stack, broker, kind, wire, is_subscribed) for kind, pair in IDLE_WIRES.items()
                for is_subscribed, wires in zip((True, False), pair) for wire in wires]
        for one in sets:
            one.warm_up()
        bench.settle(broker, *(one.server for one in sets))
        for one in sets:
            one.open()
            if one.kind == "plugins":  # the others settle meanwhile
                time.sleep(settle)
                rows.append(one.row())
        rows = [one.row() for one in sets if one.kind != "plugins"] + rows
    return sorted(rows, key=lambda row: (row["what"].endswith("no subscription"), row["what"]))


# ---- connects

@case("connect", "Connections a second, each with its subscription", """MQTT clients that connect and subscribe, 256 at a time, until all have their SUBACK. Headgate binds in RabbitMQ before it answers: one binding
      for equal filters, one for each with distinct topics, one for all of a rule with binding_scope = "wide".""", (
    ("", "{what}"), ("server", "{side}"), ("connections", "{connections:,}"), ("connects/s", "{per_s:,.0f}"),
    ("× plugin", "{times_plugin:.1f}"), ("× mosquitto", "{times_mosquitto:.2f}"), ("server's CPU, µs each", "{cpu_us:.0f}")))
def run_connect(bench):
    many, few, fewer = bench.pick((10000, 3000, 1000), (300, 100, 50))
    rows = []
    for what, topic, distinct, kinds in (
            ("one topic for all", "exact/connect", 0, {"gateway": many, "mosquitto": many, "plugins": fewer}),
            ("a topic each, exact bindings", "exact/connects", 1, {"gateway": few, "mosquitto": few, "plugins": fewer}),
            ("a topic each, one wide binding", "wide/connects", 1, {"gateway": many, "mosquitto": many})):
        sides = [connect_side(bench, kind, n, topic, distinct) for kind, n in kinds.items()]
        part = take_turns(bench, what, sides, seconds=0, is_settling=True)
        add_ratios(part, "per_s", times_plugin=PLUGIN, times_mosquitto=MOSQUITTO)
        rows += part
    return rows


def connect_side(bench, kind, n, topic, distinct):
    server = bench.server(kind)

    def run(_):
        with bench.load(server, "hold", "mqtt", n=n, topic=topic, distinct=distinct, subscriptions=1) as load:
            return {"per_s": load.ready["connects_per_s"], "connections": n, "published": n}

    return Side(NAMES[kind], run, {"server": server.own})
