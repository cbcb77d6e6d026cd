# SPDX-License-Identifier: Apache-2.0
"""Parts of the gateway: look-ups in the rule table and among subscriptions, system calls, retained messages."""
import contextlib
import os
import shutil
import subprocess
import time

from cases import Side, Unavailable, case, take_turns
from programs import rows_of


def rule_table(n):
    """n rules of which the one that bench/… takes is the last."""
    return "".join(f'[[rule]]\nname = "r{i}"\ntopic = "site/s{i // 8}/line/{{l}}/{{m}}/k{i}"\nexchange = "amq.topic"\n'
                   f'key = "s{i // 8}.{{l}}.{{m}}.k{i}"\n' for i in range(n))


@case("rules", "Rule tables", """Look-ups of the rule table alone, over 64 addresses (which stay in the cache) and 4,096 (which do not), and confirmed MQTT publishes through a gateway with so many
      rules; no queue is bound.""", (
    ("rules", "{what}"), ("publish look-up", "{hot_ns_per_publish:.0f} ns"), ("not in the cache", "{ns_per_publish:,.0f} ns"),
    ("delivery look-up", "{hot_ns_per_deliver:.0f} ns"), ("compile", "{compile_ms:,.1f} ms"), ("memory a rule", "{bytes_per_rule:,.0f} B"),
    ("gateway's start", "{start_s:.2f} s"), ("publishes/s", "{per_s:,.0f}"), ("gateway's CPU, µs each", "{gateway_us:.2f}")))
def run_rules(bench):
    alone = {row["rules"]: row for row in rows_of(bench, "rules_bench", rounds=bench.pick(1000000, 20000)) if row["run"] == "rules"}
    sizes = bench.pick((10, 1000, 100000), (10, 1000))
    with contextlib.ExitStack() as stack:
        sides, starts = [], {}
        for n in sizes:
            started = time.monotonic()
            gateway = stack.enter_context(bench.new_gateway(rules=rule_table(n)))
            starts[n] = time.monotonic() - started
            load = stack.enter_context(bench.load(gateway, "publish", "mqtt", qos=1, n=16, window=1000, topic="bench/unbound/rules"))
            sides.append(Side(f"{n:,}", load.run, {"gateway": gateway.own}))
        rows = take_turns(bench, "rules", sides)
    keys = ("compile_ms", "bytes_per_rule", "hot_ns_per_publish", "ns_per_publish", "hot_ns_per_deliver", "ns_per_deliver")
    return [{**row, "what": row["side"], "side": "Headgate", "start_s": round(starts[n], 2), **{key: alone[n][key] for key in keys}}
            for n, row in zip(sizes, rows)]


@case("index", "The subscription index", "One look-up among 100,000 subscriptions, by how many of them match.", (
    ("", "{what}"), ("matching", "{matching:,}"), ("a match", "{ns_per_match:,.0f} ns"), ("an entry", "{ns_per_entry:.1f} ns")))
def run_index(bench):
    return [{"what": row["case"], "side": "Headgate", **row} for row in rows_of(bench, "fanout_bench", rounds=bench.pick(2000, 100))
            if "ns_per_match" in row]


# ---- system calls

CALLS = ("read", "readv", "recvfrom", "recvmsg", "write", "writev", "sendto", "sendmsg")


def broker_descriptors(pid, port):
    """Sockets of a process whose other end is that port of loopback."""
    inodes = set()
    with open(f"/proc/{pid}/net/tcp", encoding="ascii") as table:
        for line in list(table)[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{name}") in inodes:
                found.append(int(name))
    return found


class Counters:
    """System calls of a process while the `with` lasts, counted in the kernel by perf: `counts` by name, of those on some descriptors as well."""

    def __init__(self, pid, descriptors):
        self.orders, self.answers = os.pipe(), os.pipe()
        self.command = ["perf", "stat", "-x", ",", "-p", str(pid), "-D", "-1", f"--control=fd:{self.orders[0]},{self.answers[1]}",
                        "-e", "raw_syscalls:sys_enter"]
        where = "||".join(f"fd=={fd}" for fd in descriptors)
        for call in CALLS:
            self.command += ["-e", f"syscalls:sys_enter_{call}", "--filter", where]
        for call in CALLS:
            self.command += ["-e", f"syscalls:sys_enter_{call}", "--filter", "fd>=0"]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                        pass_fds=(self.orders[0], self.answers[1]))
        os.close(self.orders[0])
        os.close(self.answers[1])
        with contextlib.suppress(BrokenPipeError):
            os.write(self.orders[1], b"enable\n")
        if not os.read(self.answers[0], 16).startswith(b"ack"):  # it counts; nothing: it has ended
            self.close()
            raise Unavailable("perf: " + self.process.communicate()[1].strip())
        return self

    def close(self):
        os.close(self.orders[1])
        os.close(self.answers[0])

    def __exit__(self, *_):
        self.process.send_signal(2)
        lines = [line.split(",") for line in self.process.communicate()[1].splitlines() if "sys_enter" in line]
        values = [int(line[0]) if line[0].isdigit() else 0 for line in lines]
        self.close()
        self.total, self.broker, self.all = values[0], sum(values[1:1 + len(CALLS)]), sum(values[1 + len(CALLS):])


@case("syscalls", "System calls at saturation", """Counted in the kernel by perf while the gateway is under load; reads and writes, towards RabbitMQ and towards clients, and all others (epoll, wake-ups).""", (
    ("", "{what}"), ("messages/s", "{per_s:,.0f}"), ("towards RabbitMQ, each", "{broker_calls:.3f}"), ("towards clients, each", "{client_calls:.3f}"),
    ("others, each", "{other_calls:.3f}"), ("together", "{calls:.3f}")))
def run_syscalls(bench):
    if shutil.which("perf") is None:
        raise Unavailable("perf is not installed (Debian: linux-perf)")
    rows = []
    for what, mode, wire, options in (
            ("MQTT QoS 1, 16 in flight on each of 16 connections", "publish", "mqtt", {"n": 16, "window": 256, "qos": 1}),
            ("STOMP receipt over WebSocket, the same", "publish", "stomp-ws", {"n": 16, "window": 256, "qos": 1}),
            ("HTTP POST, 256 connections", "publish", "http", {"n": 256, "window": 256, "qos": 1}),
            ("MQTT fan-out 1 → 100, 16 outstanding: a delivery", "stream", "mqtt", {"n": 100, "window": 16, "subscriptions": 1})):
        gateway = bench.gateway
        with bench.load(gateway, mode, wire, topic="bench/unbound/calls", **options) as load:
            load.run(0.5)
            with Counters(gateway.process.pid, broker_descriptors(gateway.process.pid, bench.broker.port)) as counters:
                row = load.run(bench.seconds)
        n = max(1, row["deliveries"] if mode == "stream" else row["confirmed"])
        bench.say(f"{what}: {row['per_s']:,.0f}/s")
        rows.append({"what": what, "side": "Headgate", "per_s": round(row["per_s"]), "calls": counters.total / n,
                     "broker_calls": counters.broker / n, "client_calls": (counters.all - counters.broker) / n,
                     "other_calls": (counters.total - counters.all) / n})
    return rows


# ---- retained messages

@case("retained", "Retained messages", "Distinct topics of three levels, bodies of 32 bytes: published with 1,000 outstanding, replayed by a gateway that starts, sent to a subscriber of all.", (
    ("", "{what}"), ("published/s", "{per_s:,.0f}"), ("replay at start", "{replay_ms:,} ms"), ("served/s", "{served_per_s:,.0f}"),
    ("memory each", "{bytes_each:,} B")))
def run_retained(bench):
    n = bench.pick(100000, 2000)
    with bench.new_gateway() as gateway:
        bench.settle(gateway)
        before = gateway.own.anonymous_bytes()
        with bench.load(gateway, "publish", "mqtt", qos=1, n=1, window=1000, body=32, retain=1, topics=n, topic="bench/retained") as load:
            row = load.run(600, n)
    with bench.new_gateway() as gateway:
        while (state := gateway.status()["state"]).get("replay_ms") is None:
            time.sleep(0.05)
        bench.settle(gateway)
        held = gateway.own.anonymous_bytes()
        # The messages come behind the SUBACK: the time is that of the whole.
        with bench.load(gateway, "hold", "mqtt", n=1, subscriptions=1, topic="bench/retained/#", distinct=0, **{"await": n}) as load:
            served = n / load.ready["seconds"]
    return [{"what": f"{n:,} topics", "side": "Headgate", "per_s": round(row["per_s"]), "replay_ms": state["replay_ms"],
             "served_per_s": round(served), "bytes_each": round((held - before) / n)}]
