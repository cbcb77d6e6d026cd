# SPDX-License-Identifier: Apache-2.0
"""What is to be reached, as ratios within one run where they can be, and whether it is."""
import dataclasses
import typing

HEADGATE, PLUGIN, MOSQUITTO = "Headgate", "RabbitMQ plugin", "mosquitto"
DIRECT = "direct AMQP"
SUBSCRIBED, UNSUBSCRIBED = "a subscription each", "no subscription"

# What direct AMQP took on the machine that the limits in seconds and microseconds were written on.
WRITTEN_DIRECT_CPU_S, WRITTEN_DIRECT_P50_US = 21, 78
CPU_MOST_S, OWN_CPU_MOST_S, P50_OVER_MOST_US = 27, 5, 80
CPU_MOST_RATIO = round(CPU_MOST_S / WRITTEN_DIRECT_CPU_S, 2)
OWN_CPU_MOST_RATIO = round(OWN_CPU_MOST_S / WRITTEN_DIRECT_CPU_S, 2)
P50_MOST_RATIO = round((WRITTEN_DIRECT_P50_US + P50_OVER_MOST_US) / WRITTEN_DIRECT_P50_US, 2)

CONFIRMED = ("MQTT QoS 1", "STOMP receipt over WebSocket", "HTTP POST")
LATENCY_RATE = "1,000 messages/s"


@dataclasses.dataclass
class Limit:
    """value(results) is the figure, or None; it is met if it is at least, or at most, that."""
    case: str
    text: str
    value: typing.Callable
    least: float = None
    most: float = None
    form: str = "{:.2f}"

    def verdict(self, results):
        """The figure, and whether it will do; a quick run decides nothing."""
        value = self.value(results)
        if value is None:
            return "not measured", None
        if results[self.case].get("quick"):
            return self.form.format(value) + " (quick run)", None
        return self.form.format(value), (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


def field(case, what, side, key):
    """A figure of a row; None if there is none."""
    def get(results):
        for row in results.get(case, {}).get("rows", []):
            if row["what"] == what and row["side"] == side:
                return row.get(key)
        return None
    return get


def ratio(one, other):
    def get(results):
        a, b = one(results), other(results)
        return None if a is None or not b else a / b
    return get


def difference(one, other):
    def get(results):
        a, b = one(results), other(results)
        return None if a is None or b is None else a - b
    return get


def idle_limits():
    def bytes_each(wire, subscription=SUBSCRIBED, side=HEADGATE):
        return field("idle", f"{wire}, {subscription}", side, "bytes_each")
    for wire, most in (("mqtt", 1024), ("mqtt-ws", 1536), ("stomp-ws", 1536), ("mqtt-tls", 16384)):
        yield Limit("idle", f"memory of an idle {wire} connection with a subscription: at most {most:,} bytes", bytes_each(wire), most=most, form="{:,.0f}")
    for wire in ("mqtt", "mqtt-ws"):
        yield Limit("idle", f"the same of {wire}, less than mosquitto's", ratio(bytes_each(wire), bytes_each(wire, side=MOSQUITTO)), most=1,
                    form="{:.2f} of it")


def fanout_limits():
    for wire, sizes, least_plugin in (("mqtt", (100, 1000, 5000), 20), ("stomp-ws", (100, 1000, 5000), 15)):
        for n in sizes:
            what = f"{wire}, 1 → {n:,}"
            of = {side: ratio(field("fanout", what, HEADGATE, "per_s"), field("fanout", what, side, "per_s")) for side in (PLUGIN, MOSQUITTO)}
            yield Limit("fanout", f"fan-out {what}: at least 80 % of the bare loop, median of pairs of turns", field("fanout", what, HEADGATE, "of_bare"),
                        least=0.8, form="{:.0%}")
            if n > 100:
                yield Limit("fanout", f"fan-out {what}: at least {least_plugin} times the plugin", of[PLUGIN], least=least_plugin, form="{:.1f} times")
                if wire == "mqtt":
                    yield Limit("fanout", f"fan-out {what}: at least 5 times mosquitto", of[MOSQUITTO], least=5, form="{:.1f} times")


def connect_limits():
    def per_s(what, side):
        return field("connect", what, side, "per_s")
    same, exact, wide = "one topic for all", "a topic each, exact bindings", "a topic each, one wide binding"
    yield Limit("connect", "connect rate, one topic for all: at least mosquitto's", ratio(per_s(same, HEADGATE), per_s(same, MOSQUITTO)), least=1,
                form="{:.2f} of it")
    yield Limit("connect", "connect rate, wide binding: at least mosquitto's", ratio(per_s(wide, HEADGATE), per_s(wide, MOSQUITTO)), least=1,
                form="{:.2f} of it")
    yield Limit("connect", "connect rate, distinct topics: at least three times the plugin's", ratio(per_s(exact, HEADGATE), per_s(exact, PLUGIN)),
                least=3, form="{:.2f} times")


def fanin_limits():
    for what in CONFIRMED:
        both, own, direct = (field("fanin", what, HEADGATE, "cpu_us"), field("fanin", what, HEADGATE, "gateway_us"), field("fanin", what, DIRECT, "cpu_us"))
        yield Limit("fanin", f"{what}, CPU of broker and gateway: at most {CPU_MOST_S} s per million", both, most=CPU_MOST_S, form="{:.1f} s")
        yield Limit("fanin", f"{what}, CPU of broker and gateway: at most {CPU_MOST_RATIO} times direct AMQP's in the same run", ratio(both, direct),
                    most=CPU_MOST_RATIO, form="{:.2f} times")
        yield Limit("fanin", f"{what}, the gateway's own CPU: at most {OWN_CPU_MOST_S} s per million", own, most=OWN_CPU_MOST_S, form="{:.1f} s")
        yield Limit("fanin", f"{what}, the gateway's own CPU: at most {OWN_CPU_MOST_RATIO} times direct AMQP's in the same run", ratio(own, direct),
                    most=OWN_CPU_MOST_RATIO, form="{:.2f} times")


def latency_limits():
    for name in ("MQTT", "STOMP-WS"):
        for q, most in (("p50", P50_OVER_MOST_US), ("p99", 400)):
            own, direct = (field("latency", LATENCY_RATE, side, f"{q}_us") for side in (f"{HEADGATE}, {name}", DIRECT))
            yield Limit("latency", f"latency at 1,000/s, {name}: {q} at most {most} µs over direct AMQP", difference(own, direct), most=most,
                        form="{:+,.0f} µs")
            if q == "p50":
                yield Limit("latency", f"latency at 1,000/s, {name}: p50 at most {P50_MOST_RATIO} times direct AMQP's in the same run", ratio(own, direct),
                            most=P50_MOST_RATIO, form="{:.2f} times")


def parts_limits():
    yield Limit("rules", "a rule look-up at 100,000 rules: under 200 ns", field("rules", "100,000", HEADGATE, "hot_ns_per_publish"), most=200, form="{:.0f} ns")
    yield Limit("index", "a match at 100,000 subscriptions, 10 matching: under 1 µs", field("index", "ten match", HEADGATE, "ns_per_match"), most=1000,
                form="{:.0f} ns")
    inflight = "MQTT QoS 1, 16 in flight on each of 16 connections"
    yield Limit("syscalls", "system calls towards RabbitMQ: below 0.1 a message", field("syscalls", inflight, HEADGATE, "broker_calls"), most=0.1, form="{:.3f}")
    yield Limit("syscalls", "system calls towards clients, 16 in flight: below 0.3 a message", field("syscalls", inflight, HEADGATE, "client_calls"), most=0.3,
                form="{:.3f}")
    yield Limit("syscalls", "system calls a POST: at most 2.1", field("syscalls", "HTTP POST, 256 connections", HEADGATE, "calls"), most=2.1)
    workers = [field("workers", what, side, "cpu_us") for what in ("mqtt, 1 → 1,000",) for side in ("2", "1")]
    yield Limit("workers", "CPU a delivery with two workers: at most 1.1 times that with one", ratio(*workers), most=1.1, form="{:.2f} times")
    for beside in ("10,000 half-open TLS handshakes", "5,000 slow-loris requests"):
        yield Limit("hostile", f"healthy TLS clients' p99 beside {beside}: at most twice that alone",
                    ratio(field("hostile", "mqtt-tls", beside, "p99_us"), field("hostile", "mqtt-tls", "nobody", "p99_us")), most=2, form="{:.2f} times")


def scaling_limits():
    for side in ("RabbitMQ", "the gateways"):
        off = field("scaling", "4 gateways, CPU of a mixed load", side, "off")
        yield Limit("scaling", f"four gateways, CPU of {side} predicted within 20 %", lambda results, off=off: None if off(results) is None else abs(off(results)),
                    most=0.2, form="off by {:.0%}")


LIMITS = (*idle_limits(), *fanout_limits(), *connect_limits(), *fanin_limits(), *latency_limits(), *parts_limits(), *scaling_limits())


def about_ratios(results):
    """Why some limits stand twice in the table, as a paragraph; empty where there is no direct AMQP to compare with."""
    direct = [cpu for what in CONFIRMED if (cpu := field("fanin", what, DIRECT, "cpu_us")(results)) is not None]
    p50 = field("latency", LATENCY_RATE, DIRECT, "p50_us")(results)
    if not direct or p50 is None:
        return ""
    return (f"Some limits stand here twice. Those in seconds and microseconds were written on a machine where direct AMQP, without any gateway, took "
            f"{WRITTEN_DIRECT_CPU_S} s of RabbitMQ's CPU per million confirmed publishes and {WRITTEN_DIRECT_P50_US} µs at p50. On the machine of these results direct AMQP "
            f"itself takes {min(direct):.0f} to {max(direct):.0f} s and {p50:,.0f} µs, and most of what a publish costs through a gateway is still RabbitMQ's. The limits "
            "in times direct AMQP's are the same limits, divided by what direct AMQP took there, and compared with what it took in the same run here.")
