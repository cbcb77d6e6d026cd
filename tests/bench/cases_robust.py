# SPDX-License-Identifier: Apache-2.0
"""Healthy clients beside slow ones, and among those that mean harm."""
import contextlib

from cases import case, one_run, significant, summary, take_turns
from cases_fanout import RATE_COLUMNS
from measure import connections_max
from programs import Program
from sides import NAMES, latency_side, stream_side


@case("slow", "A tenth of the subscribers does not read", """Fan-out over MQTT, 8 messages outstanding among those who read. Lost counts only what they
      did not get.""", RATE_COLUMNS)
def run_slow(bench):
    n = bench.pick(1000, 50)
    rows = []
    for server in ("gateway", "plugins", "mosquitto"):
        with contextlib.ExitStack() as stack:
            sides = [stream_side(bench, stack, server, "mqtt", name=name, n=n, slow=slow, topic=f"bench/slow/{slow}")
                     for name, slow in (("all read", 0), ("a tenth does not", n // 10))]
            part = take_turns(bench, f"{NAMES[server]}, 1 → {n:,}", sides)
        part[1]["kept"] = round(part[1]["per_s"] / part[0]["per_s"], 3)
        rows += part
    return rows


@case("hostile", "Healthy clients among those that mean harm", """Latency from end to end over MQTT with TLS at 1,000 messages/s, and over plain MQTT, of clients that were there before, while others begin TLS
      handshakes and leave them there, or send a request's head a byte a second, and come back when they are closed (up to 1,000 a second). "At
      another gateway" is the control: the same, but to a gateway that the healthy clients are not at, so what it changes is the machine's.""", (
    ("", "{what}"), ("beside", "{side}"), ("p50", "{p50_us:,.0f} µs"), ("p99", "{p99_us:,.0f} µs"), ("p99.9", "{p999_us:,.0f} µs"),
    ("p99, times that alone", "{of_alone:.2f}"), ("lost", "{lost:,}"), ("closed by Headgate", "{closed:,}")))
def run_hostile(bench):
    n = min(bench.pick(10000, 300), connections_max())
    seconds = bench.pick(3, 0.4)
    attacks = (("half-open TLS handshakes", "tls", "mqtt-tls", n), ("slow-loris requests", "http", "http", n // 2))
    rows = []
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(bench.new_gateway())
        another = stack.enter_context(bench.new_gateway())
        healthy = {wire: latency_side(bench, stack, wire, gateway, wire, 1000) for wire in ("mqtt-tls", "mqtt")}
        for side in healthy.values():
            side.run(0.5)
        of = {}
        for _ in range(bench.rounds):
            for wire, side in healthy.items():
                of.setdefault((wire, "nobody"), []).append(one_run(side, seconds))
            for name, mode, port, number in attacks:
                for target, where in ((gateway, ""), (another, ", at another gateway")):
                    beside = f"{number:,} {name}{where}"
                    bench.say(beside)
                    with Program(bench.programs, "hostile", mode, port=target.ports[port], n=number) as attack:
                        attack.row()
                        for wire, side in healthy.items():
                            of.setdefault((wire, beside), []).append(one_run(side, seconds))
                        closed = attack.finish()["closed"]
                    for wire in healthy:
                        of[wire, beside][-1]["closed"] = closed
    for (wire, beside), runs in sorted(of.items(), key=lambda item: item[0][0]):
        rows.append({"what": wire, "side": beside, **summary(runs)})
    for row in rows:
        alone = next(r for r in rows if r["what"] == row["what"] and r["side"] == "nobody")
        if row is not alone:
            row["of_alone"] = significant(row["p99_us"] / alone["p99_us"])
    return rows
