# SPDX-License-Identifier: Apache-2.0
"""What a setting's value brings: how far ahead RabbitMQ may send, and how evenly clients come to workers."""
import contextlib

from cases import Side, case, take_turns
from measure import connections_max

OUTSTANDING = 4000  # more than the largest prefetch, so that this is what bounds
SUBSCRIBERS = 4  # few, so that RabbitMQ's queue is the slowest


@case("prefetch", "How far ahead RabbitMQ may send", f"""One publisher, {SUBSCRIBERS} MQTT subscribers of one topic, {OUTSTANDING:,} messages outstanding, by [rabbitmq] prefetch: so many deliveries may be
      on their way to a worker, unacknowledged.""", (
    ("", "{what}"), ("prefetch", "{side}"), ("messages/s", "{messages_per_s:,.0f}"), ("RabbitMQ's CPU, µs a message", "{broker_each:.1f}"),
    ("gateway's CPU", "{gateway_each:.1f}"), ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("lost", "{lost:,}")))
def run_prefetch(bench):
    with contextlib.ExitStack() as stack:
        sides = [prefetch_side(bench, stack, prefetch) for prefetch in (16, 64, 256, 1024, 4096)]
        rows = take_turns(bench, f"mqtt, 1 → {SUBSCRIBERS}", sides)
    for row in rows:
        row["messages_per_s"] = round(row["per_s"] / SUBSCRIBERS)
        row["broker_each"], row["gateway_each"] = row["broker_us"] * SUBSCRIBERS, row["gateway_us"] * SUBSCRIBERS
    return rows


def prefetch_side(bench, stack, prefetch):
    gateway = stack.enter_context(bench.new_gateway(settings=[f"rabbitmq.prefetch={prefetch}"]))
    load = stack.enter_context(bench.load(gateway, "stream", "mqtt", n=SUBSCRIBERS, subscriptions=1, window=OUTSTANDING,
                                          topic=f"bench/prefetch/{prefetch}"))
    return Side(f"{prefetch:,}", load.run, gateway.processes)


@case("balance", "How evenly clients come to workers", """Each worker has a listening socket of its own at the same port (SO_REUSEPORT), and the kernel chooses one for a connection by a hash of its addresses and
      ports. MQTT clients, all from a few addresses; by chance alone most lie within two standard deviations of an even share.""", (
    ("", "{what}"), ("connections", "{connections:,}"), ("fewest at a worker, of an even share", "{fewest:.1%}"), ("most", "{most:.1%}"),
    ("two standard deviations of chance", "±{chance:.1%}")))
def run_balance(bench):
    n = min(bench.pick(10000, 400), connections_max())
    rows = []
    for workers in (2, 4, 8):
        with bench.new_gateway(workers=workers) as gateway, bench.load(gateway, "hold", "mqtt", n=n, subscriptions=0, topic="bench/balance"):
            at = [worker["protocols"]["mqtt"]["connections"] for worker in gateway.status()["workers"]]
        if sum(at) != n:
            raise RuntimeError(f"{n} clients, and {sum(at)} of them at workers")
        bench.say(f"{workers} workers: {', '.join(str(one) for one in at)}")
        even = n / workers
        rows.append({"what": f"{workers} workers", "side": "Headgate", "connections": n, "fewest": min(at) / even, "most": max(at) / even,
                     "chance": 2 * (even * (1 - 1 / workers)) ** 0.5 / even})
    return rows
