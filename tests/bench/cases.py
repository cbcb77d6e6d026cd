# SPDX-License-Identifier: Apache-2.0
"""What a case is, what it stands on, and how sides take turns."""
import dataclasses
import functools
import pathlib
import statistics
import sys
import time
import typing

import programs
import servers

CASES = {}  # by name, in the order in which they are run
SETTLE_SECONDS = 30
QUIET_CPU = 0.15  # of a core, by all servers together


class Unavailable(Exception):
    """Here this cannot be measured, and why."""


@dataclasses.dataclass
class Case:
    name: str
    title: str
    about: str  # a sentence or two for who reads the table
    columns: tuple  # (heading, format of a row's fields); a row without the field has an empty cell
    run: typing.Callable  # bench -> rows


def case(name, title, about, columns):
    def register(run):
        CASES[name] = Case(name, title, " ".join(about.split()), columns, run)
        return run
    return register


@dataclasses.dataclass
class Side:
    """One that takes turns with others: run(seconds) is a run's row, processes are whose CPU it takes."""
    name: str
    run: typing.Callable
    processes: dict = dataclasses.field(default_factory=dict)


def quiet(running):
    """Waits until servers have done with what was before: ten thousand connections that were closed keep one busy."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        before, started = sum(server.own.cpu_seconds() for server in running), time.monotonic()
        time.sleep(0.3)
        if sum(server.own.cpu_seconds() for server in running) - before < QUIET_CPU * (time.monotonic() - started):
            return


class Bench:
    """What all cases share: the build, a folder, how large to be, and servers that are started when first asked for."""

    def __init__(self, build, folder, stack, quick, rounds, seconds, workers):
        self.binary = build / "headgate"
        self.programs = build / "tests" / "bench"
        self.folder = pathlib.Path(folder)
        self.stack = stack
        self.quick = quick
        self.rounds = rounds
        self.seconds = seconds
        self.workers = workers
        self.running = []

    def pick(self, full, quick):
        return quick if self.quick else full

    def say(self, text):
        print(f"  {text}", file=sys.stderr, flush=True)

    def new_broker(self, name):
        return servers.Broker(self.folder / name)

    def new_cluster(self, nodes_n):
        return servers.Cluster(self.folder / "cluster", nodes_n)

    def new_gateway(self, broker=None, **options):
        return servers.Gateway(self.binary, self.folder, broker or self.broker, **{"workers": self.workers, **options})

    def new_mosquitto(self):
        return servers.Mosquitto(self.folder)

    def started(self, server, name):
        self.say(f"starting {name}")
        self.running.append(self.stack.enter_context(server))
        return server

    def settle(self, *those):
        """Waits until these servers, or all that are shared, are quiet."""
        quiet(those or self.running)

    @functools.cached_property
    def broker(self):
        return self.started(self.new_broker("rabbitmq"), "RabbitMQ for the gateway")

    @functools.cached_property
    def plugins(self):
        return self.started(servers.Plugins(self.folder / "rabbitmq-plugins"), "RabbitMQ with its plugins")

    @functools.cached_property
    def gateway(self):
        return self.started(self.new_gateway(), "Headgate")

    @functools.cached_property
    def mosquitto(self):
        return self.started(self.new_mosquitto(), "mosquitto")

    @functools.cached_property
    def bare(self):
        return self.started(servers.Bare(self.programs), "the bare loop")

    @functools.cached_property
    def relay(self):
        return self.started(servers.Relay(self.programs, self.broker), "the bare relay")

    def server(self, name):
        return getattr(self, name)

    def load(self, server, mode, wire, **options):
        return programs.load(self, server, mode, wire, **options)


def counted(row):
    """Messages that a run's CPU is divided by."""
    return row.get("deliveries") or row.get("confirmed") or row.get("published") or 0


def one_run(side, seconds):
    before = {name: process.cpu_seconds() for name, process in side.processes.items()}
    row = side.run(seconds)
    n = max(1, counted(row))
    for name, process in side.processes.items():
        row[f"{name}_us"] = (process.cpu_seconds() - before[name]) * 1e6 / n
    if side.processes:
        row["cpu_us"] = sum(row[f"{name}_us"] for name in side.processes)
    if "load_cpu_s" in row:
        row["load_us"] = row["load_cpu_s"] * 1e6 / n
    return row


def summary(rows):
    """Medians, but sums of what was lost; `runs` are the rates one by one."""
    out = {key: significant(statistics.median(row[key] for row in rows)) for key in rows[0]
           if isinstance(rows[0][key], (int, float)) and key not in ("started_ns", "load_cpu_s")}
    for key in ("lost", "disconnected"):
        if key in rows[0]:
            out[key] = sum(row[key] for row in rows)
    if "per_s" in rows[0]:
        out["runs"] = [round(row["per_s"]) for row in rows]
    return out


def significant(value):
    """Six digits, so that files differ where figures do."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def take_turns(bench, what, sides, seconds=None, is_settling=False):
    """A B A B: so that a slow moment of the machine falls on all. The first run of each is not counted. is_settling:
    what one run leaves to do is done before the next."""
    seconds = bench.seconds if seconds is None else seconds
    bench.settle()
    for side in sides:
        side.run(min(seconds, 0.5))
    rows = {side.name: [] for side in sides}
    for turn in range(bench.rounds):
        for side in sides:
            if is_settling:
                bench.settle()
            row = one_run(side, seconds)
            rows[side.name].append(row)
            shown = f"{row['per_s']:,.0f}/s" if "per_s" in row else ""
            bench.say(f"{what}, {side.name}, round {turn + 1}: {shown}")
    return [{"what": what, "side": name, **summary(of_side)} for name, of_side in rows.items()]


SLICE_SECONDS = 0.5  # of a pair's turns: shorter than the machine's slow moments


def take_turns_in_pairs(bench, what, one, other, ratio):
    """As many seconds as take_turns, in short turns of two sides, A B B A A B …: each next to one of the other. The ratio of the other to the
    first is taken within each pair, and is the median of those; beside it stand the quartiles."""
    slice_s = min(bench.seconds, SLICE_SECONDS)
    pairs_n = max(1, round(bench.rounds * bench.seconds / slice_s))
    bench.settle()
    for side in (one, other):
        side.run(slice_s)
    pairs = []
    for number in range(pairs_n):
        rows = {side.name: one_run(side, slice_s) for side in ((one, other) if number % 2 == 0 else (other, one))}
        pairs.append((rows[one.name], rows[other.name]))
        bench.say(f"{what}, pair {number + 1}: " + ", ".join(f"{name} {row['per_s']:,.0f}/s" for name, row in rows.items()))
    ratios = sorted(b["per_s"] / a["per_s"] for a, b in pairs if a["per_s"])
    firsts, others = ([pair[at] for pair in pairs] for at in (0, 1))
    return [{"what": what, "side": one.name, **summary(firsts)},
            {"what": what, "side": other.name, **summary(others), ratio: significant(statistics.median(ratios)),
             f"{ratio}_low": significant(quantile(ratios, 0.25)), f"{ratio}_high": significant(quantile(ratios, 0.75))}]


def quantile(values, part):
    """Of sorted values."""
    at = part * (len(values) - 1)
    low = int(at)
    return values[low] + (values[min(low + 1, len(values) - 1)] - values[low]) * (at - low)


def add_ratios(rows, key, **names):
    """In each row its `key` divided by that of another side of the same `what`: of_bare="bare loop"."""
    for row in rows:
        for field, side in names.items():
            other = next((r for r in rows if r["what"] == row["what"] and r["side"] == side), None)
            if other and other is not row and other.get(key):
                row[field] = significant(row[key] / other[key])
