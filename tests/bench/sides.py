# SPDX-License-Identifier: Apache-2.0
"""Sides that several cases have: who streams to many, publishes, or is timed."""
import time

from cases import Side
from programs import direct

WINDOW = 8  # of a stream
TOPIC, KEY, QUEUE = "bench/fanin", "bench.fanin", "bench.fanin"
OUTSTANDING, CONNECTIONS = 256, 16  # of publishers
QUIET_SECONDS = 15
BARE, HEADGATE, PLUGIN, MOSQUITTO, DIRECT = "bare loop", "Headgate", "RabbitMQ plugin", "mosquitto", "direct AMQP"
RELAYED = "direct AMQP through a bare relay"
NAMES = {"bare": BARE, "gateway": HEADGATE, "plugins": PLUGIN, "mosquitto": MOSQUITTO}


def stream_side(bench, stack, server, wire, name=None, **options):
    """A publisher and subscribers of one topic, connected once for all rounds."""
    options = {"subscriptions": 1, "window": WINDOW, **options}
    load = stack.enter_context(bench.load(bench.server(server) if isinstance(server, str) else server, "stream", wire, **options))

    def run(seconds):
        row = load.run(seconds)
        row["bytes"] = row["read_bytes"] / max(1, row["deliveries"])
        row["a_read"] = row["deliveries"] / max(1, row["reads"])
        row["connects_per_s"] = load.ready["connects_per_s"]
        return row

    processes = bench.server(server).processes if isinstance(server, str) else server.processes
    own = {key: process for key, process in processes.items() if key != "broker"}
    return Side(name or NAMES[server], run, own)


class Consumer:
    """Takes what comes into a durable queue of that broker, so that loss is seen."""

    def __init__(self, bench, stack, broker, key):
        self.program = stack.enter_context(direct(bench, broker, "consume", queue=QUEUE, key=key))
        self.program.row()

    def count(self, run, seconds):
        """A run's row with what came of it; the rate of what nobody confirms is that of what came."""
        before = self.program.run()["consumed"]
        row = run(seconds)
        seen, changed = self.program.run(), time.monotonic()
        while seen["consumed"] - before < row["published"] and time.monotonic() - changed < QUIET_SECONDS:
            time.sleep(0.02)
            last, seen = seen["consumed"], self.program.run()
            changed = time.monotonic() if seen["consumed"] != last else changed
        row["consumed"] = seen["consumed"] - before
        row["lost"] = max(0, row["published"] - row["consumed"])
        if not row["confirmed"]:
            row["seconds"] = (seen["last_ns"] - row["started_ns"]) / 1e9
            row["per_s"] = row["consumed"] / row["seconds"]
            for key in ("p50_us", "p99_us", "p999_us", "max_us"):
                row.pop(key)
        return row


def through(consumer, run):
    return run if consumer is None else lambda seconds: consumer.count(run, seconds)


def publish_side(bench, stack, consumer, name, server, wire, connections=CONNECTIONS, **options):
    """Publishes into the queue of a consumer, or of nobody."""
    options = {"qos": 1, "window": OUTSTANDING, "topic": TOPIC, "n": connections, **options}
    load = stack.enter_context(bench.load(server, "publish", wire, **options))
    return Side(name, through(consumer, load.run), server.processes)


def direct_side(bench, stack, consumer, **options):
    program = stack.enter_context(direct(bench, bench.broker, "publish", **{"key": KEY, "window": OUTSTANDING, **options}))
    return Side(DIRECT, through(consumer, program.run), bench.broker.processes)


def direct_latency_side(bench, stack, name, server, rate, key):
    """The key is the side's own, so that two do not hear each other."""
    program = stack.enter_context(direct(bench, server, "latency", queue=key, durable=0, rate=rate, key=key))
    return Side(name, program.run)


def latency_side(bench, stack, name, server, wire, rate):
    load = stack.enter_context(bench.load(server, "stream", wire, n=1, subscriptions=1, rate=rate, topic=f"bench/latency/{wire}"))
    return Side(name, load.run)
