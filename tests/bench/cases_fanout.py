# SPDX-License-Identifier: Apache-2.0
"""One message to many: fan-out, the price of TLS, many topics, two workers instead of one."""
import contextlib

from cases import add_ratios, case, take_turns, take_turns_in_pairs
from sides import BARE, MOSQUITTO, NAMES, PLUGIN, stream_side

RATE_COLUMNS = (
    ("", "{what}"), ("server", "{side}"), ("deliveries/s", "{per_s:,.0f}"), ("of the bare loop", "{of_bare:.0%}"),
    ("middle half", "{of_bare_low:.0%} to {of_bare_high:.0%}"), ("× plugin", "{times_plugin:.1f}"), ("× mosquitto", "{times_mosquitto:.1f}"),
    ("server's CPU, µs each", "{cpu_us:.2f}"), ("load's CPU", "{load_us:.2f}"), ("messages a read", "{a_read:.1f}"), ("bytes each", "{bytes:.0f}"),
    ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("lost", "{lost:,}"))


def fan_out(bench, wire, n, servers, topic="bench/fanout"):
    """servers: begins with bare and gateway, if they are to be compared."""
    what = f"{wire}, 1 → {n:,}"
    with contextlib.ExitStack() as stack:
        sides = [stream_side(bench, stack, server, wire, n=n, topic=topic) for server in servers]
        if servers[0] == "bare":
            rows = take_turns_in_pairs(bench, what, *sides[:2], "of_bare")
            sides = sides[2:]
        else:
            rows = []
        rows += take_turns(bench, what, sides) if sides else []
    add_ratios(rows, "per_s", times_plugin=PLUGIN, times_mosquitto=MOSQUITTO)
    return rows


@case("fanout", "Fan-out", """One publisher, subscribers of one topic, 8 messages outstanding (a message is, until the last subscriber has it),
      QoS 0 or ack:auto, bodies of 128 bytes. The bare loop is an epoll loop that joins what is pending for a socket in one write of the
      same bytes and does nothing else. It and Headgate take turns of half a second, A B B A: "of the bare loop" is the median of the ratios
      of neighbouring turns, "middle half" their quartiles. RabbitMQ's plugin and mosquitto take turns of their own behind these, and
      "×" is the ratio of the medians.""", RATE_COLUMNS)
def run_fanout(bench):
    rows = []
    for n in bench.pick((100, 1000, 5000, 10000), (100,)):
        rows += fan_out(bench, "mqtt", n, ("bare", "gateway", "plugins", "mosquitto"))
        # RabbitMQ's plugin closes some of 10,000 under this load, which ends the run.
        rows += fan_out(bench, "stomp-ws", n, ("bare", "gateway", "plugins") if n < 10000 else ("bare", "gateway"))
    for n in bench.pick((100, 1000, 10000), (100,)):
        rows += fan_out(bench, "mqtt-ws", n, ("bare", "gateway", "plugins", "mosquitto") if n == 1000 else ("bare", "gateway"))
        rows += fan_out(bench, "sse", n, ("bare", "gateway"))
    return rows


@case("tls", "TLS on and off", "Fan-out as above with and without TLS 1.3.", RATE_COLUMNS)
def run_tls(bench):
    n = bench.pick(1000, 50)
    rows = []
    for wire in ("mqtt", "mqtt-tls"):
        rows += fan_out(bench, wire, n, ("gateway", "plugins", "mosquitto"))
    return rows


@case("topics", "Many topics", """Subscriptions of which 1 % match what is published, spread over connections with a hundred each; 8 messages outstanding. Headgate
      binds the rule's whole pattern once (binding_scope = "wide"). The plugin has a tenth of the subscriptions.""", RATE_COLUMNS)
def run_topics(bench):
    each = 100
    n = bench.pick(1000, 20)
    rows = []
    with contextlib.ExitStack() as stack:
        for server, connections in (("gateway", n), ("mosquitto", n), ("plugins", n // 10)):
            side = stream_side(bench, stack, server, "mqtt", n=connections, subscriptions=each, topic="wide/topics")
            rows += take_turns(bench, f"{connections * each:,} subscriptions, 1 %", [side])
    return rows


@case("workers", "Two workers instead of one", "CPU a delivery of the same fan-out over MQTT, by the gateway's number of workers.", (
    ("", "{what}"), ("workers", "{side}"), ("deliveries/s", "{per_s:,.0f}"), ("gateway's CPU, µs each", "{cpu_us:.3f}"),
    ("of one worker's", "{of_one:.2f}"), ("lost", "{lost:,}")))
def run_workers(bench):
    n = bench.pick(1000, 100)
    with contextlib.ExitStack() as stack:
        sides = []
        for workers in (1, 2):
            gateway = stack.enter_context(bench.new_gateway(workers=workers))
            sides.append(stream_side(bench, stack, gateway, "mqtt", name=str(workers), n=n, topic=f"bench/workers/{workers}"))
        rows = take_turns(bench, f"mqtt, 1 → {n:,}", sides)
    add_ratios(rows, "cpu_us", of_one="1")
    return rows
