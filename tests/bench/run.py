#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a gateway against a private RabbitMQ and, in the same run, RabbitMQ used directly; prints tables, writes JSON.

scripts/bench builds the release first and calls this. Rates are taken in turns (direct, gateway, direct, gateway, …) and compared by
their medians, so that a slow minute of the machine falls on both.
"""
import argparse
import base64
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from private_rabbitmq import PrivateRabbitMQ, free_ports  # noqa: E402

TOPIC = "bench/load"
KEY = "bench.load"
QUEUE = "bench"
READY_SECONDS = 30
SETTLE_SECONDS = 3
IDLE_SECONDS = 10

CONFIG = """
[gateway]
name = "bench"
log = {{ level = "warn", format = "text" }}
[rabbitmq]
endpoints = ["{url}"]
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{mqtt}"
[[listener]]
serve = "web"
bind = "127.0.0.1:{web}"
[[listener]]
serve = "admin"
bind = "127.0.0.1:{admin}"
[[rule]]
name = "bench"
topic = "bench/{{path...}}"
exchange = "amq.topic"
key = "bench.{{path...}}"
"""


def pss_bytes(pid):
    """Proportional set size of a process."""
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M).group(1)) * 1024


def broker_pss_bytes(broker):
    """Of RabbitMQ and what it has started: its process group."""
    total = 0
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, AttributeError):
            if int(stat.read_text().rpartition(")")[2].split()[2]) == broker.server.pid:
                total += pss_bytes(stat.parent.name)
    return total


class Gateway:
    """A gateway of the build under test, ended when the `with` is left."""

    def __init__(self, build, folder, url):
        self.mqtt, self.web, self.admin = free_ports(3)
        self.config = pathlib.Path(folder) / "headgate.toml"
        self.config.write_text(CONFIG.format(url=url, mqtt=self.mqtt, web=self.web, admin=self.admin))
        self.command = [str(build / "headgate"), "run", "-c", str(self.config)]
        self.log = open(pathlib.Path(folder) / "headgate.log", "ab")

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=self.log)
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("the gateway did not become ready:\n" + pathlib.Path(self.log.name).read_text())
            time.sleep(0.05)
        return self

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()

    def pss_bytes(self):
        return pss_bytes(self.process.pid)

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/api/status", timeout=10) as answer:
            return json.load(answer)

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Bench:
    def __init__(self, build, broker, folder, scale):
        self.programs = build / "tests" / "bench"
        self.build = build
        self.broker = broker
        self.folder = folder
        self.scale = scale

    def gateway(self):
        return Gateway(self.build, self.folder, self.broker.url)

    def run(self, program, *args):
        done = subprocess.run([str(self.programs / program), *map(str, args)], capture_output=True, text=True, timeout=600,
                              check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{program} {' '.join(map(str, args))}: {done.stderr.strip()}")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def direct(self, **options):
        args = [word for name, value in options.items() for word in ("--" + name, value)]
        return self.run("amqp_direct", "--port", self.broker.port, "--key", KEY, *args)

    def load(self, mode, gateway, *args):
        return self.run("load", mode, "--port", gateway.mqtt, "--topic", TOPIC, *args)[0]


# The case without a queue is first: the others leave theirs bound.
PUBLISH_CASES = (
    # name, window, body bytes, connections, into a queue?
    ("no queue bound, 128 B, window 1000", 1000, 128, 10, False),
    ("durable queue, 128 B, window 1000", 1000, 128, 10, True),
    ("durable queue, 128 B, window 100", 100, 128, 10, True),
    ("durable queue, 4 KiB, window 1000", 1000, 4096, 10, True),
)


def bench_publish(bench, turns):
    """Confirmed QoS 1 publishes through the gateway against persistent confirmed ones through librabbitmq."""
    results = []
    for name, window, body, connections, has_queue in PUBLISH_CASES:
        messages = int(60000 * bench.scale)
        binding = {"queue": QUEUE} if has_queue else {}
        row = {"case": name, "window": window, "body_bytes": body, "messages": messages, "direct": [], "gateway": [],
               "gateway_cpu_us": []}
        with bench.gateway() as gateway:
            bench.load("publish", gateway, "--messages", 2000, "--window", window)  # both know the exchange afterwards
            for _ in range(turns):
                row["direct"] += bench.direct(messages=messages, window=window, body=body, **binding)
                if has_queue:
                    bench.direct(messages=0, queue=QUEUE)  # empties it
                cpu = gateway.cpu_seconds()
                row["gateway"].append(bench.load("publish", gateway, "--messages", messages, "--window", window, "--body", body,
                                                 "--n", connections))
                row["gateway_cpu_us"].append(round((gateway.cpu_seconds() - cpu) * 1e6 / messages, 2))
        rates = {side: statistics.median(r["confirmed_per_s"] for r in row[side]) for side in ("direct", "gateway")}
        row["direct_per_s"], row["gateway_per_s"] = rates["direct"], rates["gateway"]
        row["ratio"] = round(rates["gateway"] / rates["direct"], 3)
        row["cpu_us_per_message"] = statistics.median(row["gateway_cpu_us"])
        results.append(row)
    return results


class Management:
    """RabbitMQ's management API, in a RabbitMQ of its own."""

    def __init__(self, folder):
        self.web, = free_ports(1)
        settings = ("management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.web}")
        self.broker = PrivateRabbitMQ(pathlib.Path(folder) / "rabbitmq-management", plugins=["rabbitmq_management"], settings=settings)

    def __enter__(self):
        self.broker.__enter__()
        wait_for_port(self.web)
        return self

    def __exit__(self, *args):
        self.broker.__exit__(*args)


HTTP_CONNECTIONS = 64
HTTP_BODY = "x" * 128


def post(port, path, body, seconds, authorization=None):
    """wrk's confirmed POSTs over keep-alive connections, one request each at a time."""
    environment = {**os.environ, "BODY": body, **({"AUTHORIZATION": authorization} if authorization else {})}
    done = subprocess.run(["wrk", "-t1", f"-c{HTTP_CONNECTIONS}", f"-d{seconds}s", "-s", str(ROOT / "tests" / "bench" / "post.lua"),
                           f"http://127.0.0.1:{port}{path}"], env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        raise RuntimeError("wrk: " + done.stderr + done.stdout)
    row = json.loads(done.stdout.splitlines()[-1])
    if row["failed"] or row["requests"] == 0:
        raise RuntimeError(f"POSTs failed: {row}")
    return {**row, "confirmed_per_s": row["requests"] / row["seconds"]}


def bench_http(bench, turns):
    """Confirmed POSTs, in turns with direct AMQP with as many outstanding and with the management API's publish."""
    seconds = max(1, round(5 * bench.scale))
    managed = json.dumps({"properties": {"delivery_mode": 2}, "routing_key": KEY, "payload": HTTP_BODY, "payload_encoding": "string"})
    guest = "Basic " + base64.b64encode(b"guest:guest").decode()
    row = {"case": f"{HTTP_CONNECTIONS} connections, 128 B", "direct": [], "gateway": [], "management": [], "gateway_cpu_us": []}
    with bench.gateway() as gateway, Management(bench.folder) as management:
        post(gateway.web, "/v1/topics/" + TOPIC, HTTP_BODY, 1)
        for _ in range(turns):
            row["direct"] += bench.direct(messages=int(60000 * bench.scale), window=HTTP_CONNECTIONS, body=len(HTTP_BODY))
            cpu = gateway.cpu_seconds()
            row["gateway"].append(post(gateway.web, "/v1/topics/" + TOPIC, HTTP_BODY, seconds))
            row["gateway_cpu_us"].append((gateway.cpu_seconds() - cpu) * 1e6 / row["gateway"][-1]["requests"])
            row["management"].append(post(management.web, "/api/exchanges/%2f/amq.topic/publish", managed, seconds, guest))
    for side in ("direct", "gateway", "management"):
        row[side + "_per_s"] = statistics.median(r["confirmed_per_s"] for r in row[side])
    row["of_direct"] = round(row["gateway_per_s"] / row["direct_per_s"], 3)
    row["times_management"] = round(row["gateway_per_s"] / row["management_per_s"], 1)
    row["cpu_us_per_message"] = round(statistics.median(row["gateway_cpu_us"]), 2)
    row["p99_us"] = statistics.median(r["p99_us"] for r in row["gateway"])
    return [row]


class Mosquitto:
    """mosquitto, ended when the `with` is left."""

    def __init__(self, folder):
        self.mqtt, = free_ports(1)
        self.config = pathlib.Path(folder) / "mosquitto.conf"
        self.config.write_text(f"listener {self.mqtt} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_connections -1\n")

    def __enter__(self):
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self.config)], stdin=subprocess.DEVNULL)
        wait_for_port(self.mqtt)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def pss_bytes(self):
        return pss_bytes(self.process.pid)


class Plugin:
    """RabbitMQ's own MQTT plugin, in a RabbitMQ of its own."""

    def __init__(self, folder):
        self.mqtt, = free_ports(1)
        settings = (f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.mqtt}", "mqtt.allow_anonymous = true")
        self.broker = PrivateRabbitMQ(pathlib.Path(folder) / "rabbitmq-mqtt", plugins=["rabbitmq_mqtt"], settings=settings)

    def __enter__(self):
        self.broker.__enter__()
        wait_for_port(self.mqtt)
        return self

    def __exit__(self, *args):
        self.broker.__exit__(*args)

    def pss_bytes(self):
        return broker_pss_bytes(self.broker)


def wait_for_port(port):
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens on port {port}")
        time.sleep(0.05)


def measure_idle(bench, server, n, same):
    """Growth of a server over n connections, each with one QoS 0 subscription; what its RabbitMQ grows by, beside."""
    bench.load("publish", server, "--messages", 2000, "--n", 10)
    time.sleep(SETTLE_SECONDS)
    before, broker_before = server.pss_bytes(), broker_pss_bytes(bench.broker)
    holder = subprocess.Popen(
        [str(bench.programs / "load"), "idle", "--port", str(server.mqtt), "--topic", TOPIC, "--n", str(n), "--same", str(same)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    line = holder.stdout.readline()
    if not line:
        raise RuntimeError("the idle connections did not all come up")
    time.sleep(IDLE_SECONDS)
    held, broker_held = server.pss_bytes(), broker_pss_bytes(bench.broker)
    holder.stdin.close()
    if holder.wait(timeout=120) != 0:
        raise RuntimeError("idle connections were lost")
    return {**json.loads(line), "idle_pss_bytes": before, "held_pss_bytes": held,
            "bytes_per_connection": round((held - before) / n),
            "broker_bytes_per_connection": round((broker_held - broker_before) / n)}


def bench_memory(bench, n):
    """The same idle connections at the gateway, at mosquitto and at RabbitMQ's plugin."""
    cases = (("gateway, a topic each", bench.gateway, 0), ("gateway, one topic for all", bench.gateway, 1),
             ("mosquitto, a topic each", lambda: Mosquitto(bench.folder), 0),
             ("RabbitMQ's plugin, a topic each", lambda: Plugin(bench.folder), 0))
    results = []
    for name, open_server, same in cases:
        with open_server() as server:
            row = measure_idle(bench, server, n, same)
        if not name.startswith("gateway"):
            row["broker_bytes_per_connection"] = 0
        results.append({"case": name, **row})
    return results


FANOUT_CASES = (
    # name, QoS, messages, rate (0: as fast as it goes)
    ("QoS 0, 20 messages/s", 0, 100, 20),
    ("QoS 0, as fast as it goes", 0, 1000, 0),
    ("QoS 1, as fast as it goes", 1, 300, 0),
)


def bench_fanout(bench, subscribers):
    """One publisher, many subscribers of one topic."""
    results = []
    for name, qos, messages, rate in FANOUT_CASES:
        with bench.gateway() as gateway:
            cpu = gateway.cpu_seconds()
            count = messages if rate else max(50, int(messages * bench.scale))
            row = bench.load("fanout", gateway, "--n", subscribers, "--messages", count, "--qos", qos, "--rate", rate,
                             "--window", 20)
            spent = gateway.cpu_seconds() - cpu
            results.append({"case": name, **row, "cpu_us_per_delivery": round(spent * 1e6 / max(1, row["deliveries"]), 2)})
    return results


class Retainer:
    """A bare MQTT 3.1.1 client: publishes and counts retained messages as fast as Python can."""

    def __init__(self, port, name):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=300)
        self.buffer = bytearray()
        body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(name).to_bytes(2, "big") + name
        self.socket.sendall(bytes([0x10, len(body)]) + body)
        self.take(0x20, 1)

    def take(self, kind, n):
        """Reads until n packets of this type have come."""
        while n > 0:
            piece = self.socket.recv(1 << 20)
            if not piece:
                raise RuntimeError("the gateway closed the connection")
            self.buffer += piece
            at = 0
            while at + 2 <= len(self.buffer):
                length = self.buffer[at + 1]
                head = 2
                if length & 0x80:
                    if at + 3 > len(self.buffer):
                        break
                    length, head = length & 0x7F | self.buffer[at + 2] << 7, 3
                if at + head + length > len(self.buffer):
                    break
                n -= self.buffer[at] & 0xF0 == kind
                at += head + length
            del self.buffer[:at]

    def retain(self, topics, body, window=1000):
        waiting = 0
        for start in range(0, len(topics), window):
            packets = bytearray()
            for i, topic in enumerate(topics[start:start + window]):
                rest = len(topic).to_bytes(2, "big") + topic + (i + 1).to_bytes(2, "big") + body
                packets += bytes([0x33]) + (bytes([len(rest)]) if len(rest) < 128 else bytes([len(rest) & 0x7F | 0x80, len(rest) >> 7]))
                packets += rest
                waiting += 1
            self.socket.sendall(packets)
            self.take(0x40, waiting)
            waiting = 0

    def subscribe(self, topic_filter, n):
        """Seconds until n retained messages have come."""
        rest = b"\x00\x01" + len(topic_filter).to_bytes(2, "big") + topic_filter + b"\x00"
        started = time.monotonic()
        self.socket.sendall(bytes([0x82, len(rest)]) + rest)
        self.take(0x30, n)
        return time.monotonic() - started


def bench_retained(bench, n):
    """n retained topics: publishing them, a gateway that starts with them, a subscriber to all, the memory."""
    topics = [b"bench/retained/%d/%d" % (i % 1000, i) for i in range(n)]
    with bench.gateway() as gateway:
        time.sleep(SETTLE_SECONDS)
        before = gateway.pss_bytes()
        started = time.monotonic()
        Retainer(gateway.mqtt, b"retainer").retain(topics, b"x" * 32)
        publishing = time.monotonic() - started
    with bench.gateway() as gateway:
        time.sleep(SETTLE_SECONDS)
        state = gateway.status()["state"]
        held = gateway.pss_bytes()
        seconds = Retainer(gateway.mqtt, b"reader").subscribe(b"bench/retained/#", n)
        some = Retainer(gateway.mqtt, b"reader").subscribe(b"bench/retained/7/+", n // 1000)
    return [{"case": f"{n:,} retained topics", "published_per_s": round(n / publishing),
             "replay_ms": state["replay_ms"], "all_served_per_s": round(n / seconds),
             "some_served_ms": round(some * 1000, 1), "bytes_each": round((held - before) / n)}]


def bench_index(bench):
    """The subscription index alone."""
    return bench.run("fanout_bench")


def print_table(title, columns, rows):
    print(f"\n{title}")
    cells = [[head for head, _ in columns]] + [[form.format(**row) for _, form in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  " + "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(line, widths))))


def print_results(results):
    if "publish" in results:
        print_table("Confirmed publishes (medians)", (
            ("", "{case}"), ("direct/s", "{direct_per_s:,.0f}"), ("gateway/s", "{gateway_per_s:,.0f}"),
            ("ratio", "{ratio:.2f}"), ("gateway CPU/message", "{cpu_us_per_message:.1f} µs")), results["publish"])
    if "http" in results:
        print_table("Confirmed HTTP POSTs (medians)", (
            ("", "{case}"), ("direct AMQP/s", "{direct_per_s:,.0f}"), ("gateway/s", "{gateway_per_s:,.0f}"),
            ("management API/s", "{management_per_s:,.0f}"), ("of direct", "{of_direct:.2f}"),
            ("times management", "{times_management:.1f}"), ("p99", "{p99_us:,.0f} µs"),
            ("gateway CPU/message", "{cpu_us_per_message:.1f} µs")), results["http"])
    if "memory" in results:
        print_table("Memory of an idle MQTT connection with one subscription", (
            ("", "{case}"), ("connections", "{connections:,}"), ("bytes each", "{bytes_per_connection:,}"),
            ("in RabbitMQ", "{broker_bytes_per_connection:,}"), ("connects/s", "{connects_per_s:,.0f}")), results["memory"])
    if "fanout" in results:
        print_table(f"Fan-out to {results['fanout'][0]['subscribers']:,} subscribers", (
            ("", "{case}"), ("deliveries/s", "{deliveries_per_s:,.0f}"), ("lost", "{lost:,}"), ("p50", "{p50_ms:.1f} ms"),
            ("p99", "{p99_ms:.1f} ms"), ("CPU/delivery", "{cpu_us_per_delivery:.2f} µs")), results["fanout"])
    if "retained" in results:
        print_table("Retained messages, 32 B bodies", (
            ("", "{case}"), ("published/s", "{published_per_s:,}"), ("replay at start", "{replay_ms:,} ms"),
            ("served to #", "{all_served_per_s:,}/s"), ("100 of them", "{some_served_ms} ms"),
            ("memory each", "{bytes_each:,} B")), results["retained"])
    if "index" in results:
        rows = [row for row in results["index"] if "ns_per_match" in row]
        print_table("Subscription index, 100,000 subscriptions", (
            ("", "{case}"), ("matching", "{matching:,}"), ("ns a match", "{ns_per_match:,.0f}")), rows)


def allow_files(n):
    """As many open files as that, or as may be."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(n, hard), max(n, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    commit = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%MZ"), "commit": commit.stdout.strip(),
            "cpu": cpu.group(1) if cpu else platform.machine(), "cores": os.cpu_count(), "kernel": platform.release()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="build folder of the release")
    parser.add_argument("--only", choices=("publish", "http", "memory", "fanout", "retained", "index"), action="append")
    parser.add_argument("--turns", type=int, default=3, help="publish, http: times that each side has its turn")
    parser.add_argument("--scale", type=float, default=1, help="factor for the numbers of messages")
    parser.add_argument("--connections", type=int, default=20000, help="memory: idle connections")
    parser.add_argument("--subscribers", type=int, default=1000, help="fanout: subscribers")
    parser.add_argument("--retained", type=int, default=100000, help="retained: topics")
    parser.add_argument("--output", type=pathlib.Path, help="where the JSON goes; a partial run writes none by default")
    args = parser.parse_args()
    allow_files(args.connections + 1000)
    wanted = args.only or ["publish", "http", "memory", "fanout", "retained", "index"]
    if args.output is None and args.only is None:
        args.output = ROOT / "docs" / "benchmarks" / "latest.json"
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="headgate-bench-"))
        broker = stack.enter_context(PrivateRabbitMQ(pathlib.Path(folder) / "rabbitmq"))
        bench = Bench(args.build.resolve(), broker, folder, args.scale)
        measures = {"publish": lambda: bench_publish(bench, args.turns), "http": lambda: bench_http(bench, args.turns),
                    "memory": lambda: bench_memory(bench, args.connections),
                    "fanout": lambda: bench_fanout(bench, args.subscribers),
                    "retained": lambda: bench_retained(bench, args.retained), "index": lambda: bench_index(bench)}
        results = {"machine": machine(), **{name: measures[name]() for name in wanted}}
    print_results(results)
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(results, indent=1) + "\n")
        print(f"\nwritten to {args.output}")


if __name__ == "__main__":
    main()
