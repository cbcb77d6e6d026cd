# SPDX-License-Identifier: Apache-2.0
"""What each operation costs RabbitMQ and a gateway, and whether the model that is made of it (scaling_model.py) predicts what four gateways
on one RabbitMQ need under a mixed load."""
import collections
import contextlib
import re
import statistics
import threading
import time
import urllib.request

from cases import case, quiet, significant
from scaling_model import OPERATIONS, SIDES, costs_of, solve
from sides import KEY, TOPIC, Consumer
from sides import WINDOW as FAN_WINDOW

WINDOW = 64  # publishes outstanding at a gateway, alone or among four; of a fan-out FAN_WINDOW, as everywhere
GATEWAYS, NODES = 4, 3
CLIENT = 424242  # number in the client ids of kept sessions
PUBLISHERS, SUBSCRIBERS = 4, 25  # of each gateway in the check
UNKNOWN_TO_RABBITMQ = ("delivery", "write")
COUNTER = re.compile(r"^headgate_(\w+?)(?:_total)?(?:\{[^}]*\})? (\d+)$", re.M)


def counters(gateway):
    """What a gateway counts, by name, sums over whatever labels there are."""
    with urllib.request.urlopen(f"http://127.0.0.1:{gateway.admin}/metrics", timeout=10) as answer:
        found = collections.Counter()
        for name, value in COUNTER.findall(answer.read().decode()):
            found[name] += int(value)
        return found


class Meter:
    """What a RabbitMQ and gateways use until they have done all there is: `cpu_us` and `wakes` by side and `counted` of all gateways, once
    left. CPU and wakes of the gateways are of those in `measured` (all)."""

    def __init__(self, broker, gateways, measured=None):
        self.broker, self.gateways, self.measured = broker, gateways, measured or gateways

    def read(self):
        counted = sum((counters(g) for g in self.gateways), collections.Counter())
        sides = {"broker": [self.broker], "gateway": self.measured}
        return ({side: sum(server.own.cpu_seconds() for server in servers) * 1e6 for side, servers in sides.items()},
                {side: sum(server.own.wakes() for server in servers) for side, servers in sides.items()}, counted)

    def __enter__(self):
        quiet([self.broker, *self.gateways])
        self.started, self.before = time.monotonic(), self.read()
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            quiet([self.broker, *self.gateways])
            used, woken, counted = self.read()
            self.seconds = time.monotonic() - self.started
            self.cpu_us = {side: used[side] - self.before[0][side] for side in used}
            self.wakes = {side: woken[side] - self.before[1][side] for side in woken}
            counted.subtract(self.before[2])
            self.counted = counted


class Lab:
    """A RabbitMQ and what is measured with it: experiments by the operation that each is about, one figure a round."""

    def __init__(self, bench, stack, broker):
        self.bench, self.stack, self.broker = bench, stack, broker
        self.found = collections.defaultdict(list)  # by operation: (counts, cpu_us by side, wakes by side)

    def gateway(self):
        return self.bench.new_gateway(broker=self.broker)

    def meter(self, gateways, measured=None):
        return Meter(self.broker, gateways, measured)

    def keep(self, op, meter, **counts):
        """counts: how many of each operation the experiment was, beside the seconds that pass."""
        self.found[op].append(({"idle": meter.seconds, **counts}, meter.cpu_us, meter.wakes))

    def unit_us(self, side, has_wakes=True):
        """Medians of the rounds, each operation's without what else its experiment did; has_wakes False: but with its wake-ups."""
        experiments = []
        for op, runs in self.found.items():
            if op == "wake" and not has_wakes:
                continue
            rounds = [({**counts, "wake": wakes[side] if has_wakes else 0}, cpu_us[side]) for counts, cpu_us, wakes in runs]
            counts = {name: statistics.median(counts.get(name, 0) for counts, _ in rounds) for name in rounds[0][0]}
            experiments.append((op, counts, statistics.median(cpu_us / counts[op] for counts, cpu_us in rounds) * counts[op]))
        return solve([e for e in experiments if side == "gateway" or e[0] not in UNKNOWN_TO_RABBITMQ])

    def rows(self, memory):
        units = {f"{side}_us": self.unit_us(side) for side in SIDES}
        return [{"what": about, "side": "one gateway", "op": op, **{key: significant(unit[op]) for key, unit in units.items() if op in unit},
                 **{key: sizes[op] for key, sizes in memory.items() if op in sizes}} for op, about in OPERATIONS.items()]

    # ---- experiments

    def idle(self, gateway):
        with self.meter([gateway]) as meter:
            time.sleep(self.bench.pick(5, 0.5))
        self.keep("idle", meter)

    def publishes(self, gateway, consumer=None):
        n = self.bench.pick(60000, 2000)
        options = {"qos": 1, "n": PUBLISHERS, "window": WINDOW}
        with self.bench.load(gateway, "publish", "mqtt", topic="exact/nowhere", **options) as load, self.meter([gateway]) as meter:
            load.run(60, n)
        self.keep("publish", meter, publish=n, write=meter.counted["net_writes"])
        few = n // 20
        with self.bench.load(gateway, "publish", "mqtt", topic="exact/nowhere", qos=1, n=1, window=1) as load, self.meter([gateway]) as meter:
            load.run(60, few)
        self.keep("wake", meter, publish=few, write=meter.counted["net_writes"])
        if consumer is None:
            return
        with self.bench.load(gateway, "publish", "mqtt", topic=TOPIC, **options) as load, self.meter([gateway]) as meter:
            consumer.count(lambda seconds: load.run(seconds, n), 60)
        self.keep("queue", meter, publish=n, queue=n, write=meter.counted["net_writes"])

    def deliveries(self, gateway):
        many = self.bench.pick(5000, 500)
        for op, subscribers, window, n in (("feed", 1, FAN_WINDOW, 4 * many), ("delivery", 100, FAN_WINDOW, many), ("write", 100, 1, many // 5)):
            with self.bench.load(gateway, "stream", "mqtt", n=subscribers, subscriptions=1, window=window, topic=f"exact/{op}") as load:
                load.run(60, min(n, 500))
                with self.meter([gateway]) as meter:
                    load.run(60, n)
            counted = meter.counted
            self.keep(op, meter, publish=n, feed=counted["deliveries"], delivery=counted["messages_out"], write=counted["net_writes"])

    def opened(self, gateway, op, n, also=(), **options):
        """A crowd that connects; the meter is of that."""
        with self.meter([gateway]) as meter:
            crowd = self.stack.enter_context(contextlib.ExitStack())
            crowd.enter_context(self.bench.load(gateway, "hold", "mqtt", n=n, **options))
        self.keep(op, meter, **dict.fromkeys((op, *also), n))
        return crowd

    def closed(self, gateway, crowd, op, n, also=()):
        with self.meter([gateway]) as meter:
            crowd.close()
        self.keep(op, meter, **dict.fromkeys((op, *also), n))

    def connections(self, gateway):
        many, few = self.bench.pick((5000, 1000), (200, 50))
        with self.bench.load(gateway, "hold", "mqtt", n=1, subscriptions=1, topic="exact/same"):
            crowd = self.opened(gateway, "connect", many, subscriptions=1, topic="exact/same")
            self.closed(gateway, crowd, "disconnect", many)
        crowd = self.opened(gateway, "bind", few, ["connect"], subscriptions=1, distinct=1, topic="exact/each")
        self.closed(gateway, crowd, "unbind", few, ["disconnect"])

    def sessions(self, gateway, n=None):
        n = n or self.bench.pick(500, 20)
        kept = {"subscriptions": 1, "qos": 1, "distinct": 1, "topic": "exact/kept", "kept": 1, "client": CLIENT}
        crowd = self.opened(gateway, "session", n, ["connect"], **kept)
        self.closed(gateway, crowd, "leave", n, ["disconnect"])
        crowd = self.opened(gateway, "resume", n, ["connect"], **kept)
        crowd.close()
        quiet([self.broker, gateway])
        self.opened(gateway, "end", n, ["connect"], client=CLIENT).close()

    def kept_messages(self, gateway):
        crowd_n, n = self.bench.pick((50, 600), (10, 50))
        who = {"n": crowd_n, "client": CLIENT + 1}
        with self.bench.load(gateway, "hold", "mqtt", subscriptions=1, qos=1, topic="exact/all-kept", kept=1, **who), \
                self.bench.load(gateway, "publish", "mqtt", qos=1, n=16, window=WINDOW, topic="exact/all-kept") as load:
            with self.meter([gateway]) as meter:
                load.run(60, n)
            self.keep("kept", meter, publish=n, kept=meter.counted["messages_out"], write=meter.counted["net_writes"])
        with self.bench.load(gateway, "hold", "mqtt", **who):
            pass

    def records(self, gateway):
        n, topics = self.bench.pick((20000, 2000), (1000, 100))
        with self.retaining(gateway, topics) as load, self.meter([gateway]) as meter:
            load.run(60, n)
        self.keep("record", meter, publish=n, record=n, write=meter.counted["net_writes"])

    def retaining(self, gateway, topics, **options):
        options = {"topic": "exact/retained", "window": WINDOW, **options}
        return self.bench.load(gateway, "publish", "mqtt", qos=1, n=1, retain=1, topics=topics, **options)

    def beside_others(self, gateway, others):
        """What reaches gateways of what happens at another one: their CPU, and what it costs RabbitMQ besides."""
        n, many = self.bench.pick((20000, 5000), (1000, 200))
        with self.retaining(gateway, 100) as load, self.meter([gateway, *others], others) as meter:
            load.run(60, n)
        self.keep("reread", self.of_others(meter, publish=n, record=n), reread=n * len(others))
        with self.bench.load(gateway, "hold", "mqtt", n=1, subscriptions=1, topic="exact/same"), \
                self.meter([gateway, *others], others) as meter:
            with self.bench.load(gateway, "hold", "mqtt", n=many, subscriptions=1, topic="exact/same"):
                pass
        self.keep("heard", self.of_others(meter, connect=many, disconnect=many), heard=many * len(others))

    def of_others(self, meter, **counts):
        """Without what RabbitMQ did for the first gateway, by what is known so far."""
        known = self.unit_us("broker")
        besides = {**counts, "idle": meter.seconds * len(meter.gateways), "wake": meter.wakes["broker"]}
        meter.cpu_us["broker"] = max(0, meter.cpu_us["broker"] - sum(n * known[op] for op, n in besides.items()))
        meter.wakes["broker"] = meter.seconds = 0
        return meter

    def start_s(self):
        """CPU of a gateway, and of RabbitMQ for it, that starts; and how many records it read."""
        quiet([self.broker])
        before = self.broker.own.cpu_seconds()
        with self.gateway() as gateway:
            quiet([self.broker, gateway])
            return {"broker": self.broker.own.cpu_seconds() - before, "gateway": gateway.own.cpu_seconds()}, counters(gateway)["state_records"]

    def replay(self, empty):
        used, records = self.start_s()
        us = {side: max(0, used[side] - empty[side]) * 1e6 for side in used}
        self.found["replay"].append(({"replay": records}, us, dict.fromkeys(us, 0)))

    # ---- memory

    def broker_bytes(self):
        """What RabbitMQ has allocated, garbage collected."""
        self.broker.eval("lists:foreach(fun erlang:garbage_collect/1, processes()).")
        return int(self.broker.eval("erlang:memory(total)."))

    def memory(self):
        """Growth of a new gateway and of RabbitMQ by connections, bindings, sessions and retained messages, all of which stay."""
        rows = {"broker_bytes": {}, "gateway_bytes": {}, "log_bytes": {}}
        many, few, topics = self.bench.pick((8000, 1000, 20000), (400, 50, 1000))

        def grow(op, n, stack, load, after=lambda load: None):
            quiet([self.broker, gateway])
            before = self.broker_bytes(), gateway.own.anonymous_bytes(), counters(gateway)["state_bytes"]
            after(stack.enter_context(load()))
            quiet([self.broker, gateway])
            grown = (self.broker_bytes() - before[0], gateway.own.anonymous_bytes() - before[1], counters(gateway)["state_bytes"] - before[2])
            for key, value in zip(rows, grown):
                rows[key][op] = max(0, round(value / n))

        with self.gateway() as gateway, contextlib.ExitStack() as stack:
            def hold(**options):
                return lambda: self.bench.load(gateway, "hold", "mqtt", subscriptions=1, **options)
            with self.bench.load(gateway, "hold", "mqtt", n=16, subscriptions=1, topic="exact/warm"):
                pass
            grow("connect", many, stack, hold(n=many, topic="exact/same"))
            grow("bind", many, stack, hold(n=many, distinct=1, topic="exact/memory"))
            rows["gateway_bytes"]["bind"] = max(0, rows["gateway_bytes"]["bind"] - rows["gateway_bytes"]["connect"])
            grow("session", few, stack, hold(n=few, qos=1, distinct=1, topic="exact/sessions", kept=1, client=CLIENT + 2))
            grow("record", topics, stack, lambda: self.retaining(gateway, topics, topic="exact/memory-retained"), lambda load: load.run(60, topics))
            stack.close()
            with self.bench.load(gateway, "hold", "mqtt", n=few, client=CLIENT + 2):  # ends those sessions
                pass
        rows["broker_bytes"]["connect"] = 0  # it does not know of them
        return rows


# ---- clusters

def crossing_us(bench, meter, subscriber, publisher):
    """CPU of RabbitMQ for a publish at one gateway and its delivery to another, or the same."""
    n = bench.pick(20000, 1000)
    with bench.load(subscriber, "hold", "mqtt", n=1, subscriptions=1, topic="exact/across"), \
            bench.load(publisher, "publish", "mqtt", qos=1, n=PUBLISHERS, window=WINDOW, topic="exact/across") as load:
        load.run(60, min(n, 500))
        with meter:
            load.run(60, n)
    return meter.cpu_us["broker"] / n


def shares(bench, alone):
    """Rows: what the same costs a cluster, with all wake-ups, for nodes wake each other."""
    known = alone.unit_us("broker", has_wakes=False)
    bench.say("starting a cluster of three nodes")
    with contextlib.ExitStack() as stack:
        cluster = stack.enter_context(bench.new_cluster(NODES))
        lab = Lab(bench, stack, cluster.seats[0])
        here, there = (stack.enter_context(bench.new_gateway(broker=seat)) for seat in cluster.seats[:2])
        local, across = [], []
        for turn in range(bench.rounds):
            for publisher, found in ((here, local), (there, across)):
                found.append(crossing_us(bench, lab.meter([here, there]), here, publisher))
            for part in (lab.idle, lab.publishes, lab.connections, lab.records, lambda g: lab.sessions(g, bench.pick(100, 20))):
                part(here)
            bench.say(f"a cluster, round {turn + 1}")
        units = lab.unit_us("broker", has_wakes=False)
    for name, each, what, one, more, by in (
            ("wire_share", "crossing", "a publish and its delivery to a worker", statistics.median(local), statistics.median(across), 1),
            ("copy_share", "further node", "a binding made and removed", known["bind"] + known["unbind"], units["bind"] + units["unbind"], NODES - 1),
            ("queue_share", "further node", "a kept session made and ended", known["session"] + known["end"], units["session"] + units["end"], NODES - 1),
            ("log_share", "further node", "a record of the state log, with its publish", known["record"] + known["publish"], units["record"] + units["publish"], NODES - 1)):
        yield {"what": what, "side": f"a cluster of {NODES}", "share": name, "each": each, "one_us": significant(one), "more_us": significant(more),
               "value": significant(max(0, more / one - 1) / by if one else 0)}


# ---- the check

class Mixed:
    """Gateways on one RabbitMQ, and clients of every kind."""

    def __init__(self, bench, lab, gateways, stack):
        self.bench, self.lab, self.gateways = bench, lab, gateways
        each = {"qos": 1, "n": PUBLISHERS, "window": WINDOW}
        for gateway in gateways[1:]:
            stack.enter_context(bench.load(gateway, "hold", "mqtt", n=SUBSCRIBERS, subscriptions=1, topic="exact/all"))
        self.publishers = [stack.enter_context(bench.load(g, "publish", "mqtt", topic=TOPIC, **each)) for g in gateways]
        self.stream = stack.enter_context(bench.load(gateways[0], "stream", "mqtt", n=SUBSCRIBERS, subscriptions=1, window=FAN_WINDOW,
                                                     topic="exact/all"))
        self.retained = stack.enter_context(lab.retaining(gateways[1], 1000, window=WINDOW))

    def churn(self, until):
        """Clients that come and go: with a topic of their own, and with a kept session each."""
        few = self.bench.pick(200, 20)
        done = collections.Counter()
        while True:
            with self.bench.load(self.gateways[2], "hold", "mqtt", n=few, subscriptions=1, distinct=1, topic="exact/come-and-go"):
                pass
            done.update({"connect": few, "bind": few, "disconnect": few, "unbind": few})
            who = {"n": few // 4, "client": CLIENT + 3}
            with self.bench.load(self.gateways[3], "hold", "mqtt", subscriptions=1, qos=1, distinct=1, topic="exact/kept-here", kept=1, **who):
                pass
            with self.bench.load(self.gateways[3], "hold", "mqtt", **who):
                pass
            done.update({"connect": 2 * (few // 4), "session": few // 4, "leave": few // 4, "disconnect": 2 * (few // 4), "end": few // 4})
            if time.monotonic() > until:
                return done

    def round(self, seconds):
        """(counts, cpu_us by side, wakes by side) of a run of all together."""
        rows, failed = {}, []

        def do(key, run):
            try:
                rows[key] = run()
            except BaseException as e:  # noqa: BLE001 # told by the thread that waits
                failed.append(e)

        with self.lab.meter(self.gateways) as meter:
            until = time.monotonic() + seconds
            runs = {("publish", i): (lambda p=p: p.run(seconds)) for i, p in enumerate(self.publishers)}
            runs |= {"stream": lambda: self.stream.run(seconds), "retained": lambda: self.retained.run(seconds), "churn": lambda: self.churn(until)}
            threads = [threading.Thread(target=do, args=item) for item in runs.items()]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failed:
            raise failed[0]
        queued = sum(row["confirmed"] for key, row in rows.items() if key[0] == "publish")
        records, churned, counted = rows["retained"]["confirmed"], rows["churn"], meter.counted
        own_records = records + 2 * churned["session"] + churned["leave"] + churned["end"]
        counts = {"idle": meter.seconds * GATEWAYS, "publish": counted["messages_in"], "queue": queued, "feed": counted["deliveries"],
                  "delivery": counted["messages_out"], "write": counted["net_writes"], "record": records, "reread": own_records * (GATEWAYS - 1),
                  "heard": churned["connect"] * (GATEWAYS - 1), **churned}
        return counts, meter.cpu_us, meter.wakes

    def hold(self):
        """Memory of connections with a binding each at the gateways that have had none: (number, growth by side)."""
        n, fresh, broker = self.bench.pick(2000, 100), self.gateways[1:], self.lab.broker
        quiet([broker, *self.gateways])
        before = self.lab.broker_bytes(), sum(g.own.anonymous_bytes() for g in fresh)
        with contextlib.ExitStack() as stack:
            for i, gateway in enumerate(fresh):
                stack.enter_context(self.bench.load(gateway, "hold", "mqtt", n=n, subscriptions=1, distinct=1, topic=f"exact/held/{i}"))
            quiet([broker, *self.gateways])
            return n * len(fresh), {"broker": self.lab.broker_bytes() - before[0], "gateway": sum(g.own.anonymous_bytes() for g in fresh) - before[1]}


def check(bench, lab, gateways, costs):
    """Rows: predicted and measured."""
    with contextlib.ExitStack() as stack:
        mixed = Mixed(bench, lab, gateways, stack)
        n, grown = mixed.hold()
        mixed.round(min(1, bench.seconds))
        runs = []
        for turn in range(bench.rounds):
            runs.append(mixed.round(bench.pick(5, 0.5)))
            bench.say(f"four gateways, round {turn + 1}: {runs[-1][0]['publish']:,} publishes, {runs[-1][0]['delivery']:,} deliveries")
    rows = []
    for side, name in SIDES.items():
        predicted = [costs.cpu_s(side, {**counts, "wake": wakes[side]}) for counts, _, wakes in runs]
        measured = [cpu_us[side] / 1e6 for _, cpu_us, _ in runs]
        off = [p / max(m, 1e-9) - 1 for p, m in zip(predicted, measured)]
        rows.append({"what": f"{GATEWAYS} gateways, CPU of a mixed load", "side": name, "predicted_s": significant(statistics.median(predicted)),
                     "measured_s": significant(statistics.median(measured)), "off": significant(statistics.median(off)), "runs": [significant(x) for x in off]})
    for side, name, each in (("broker", SIDES["broker"], costs.broker_bytes), ("gateway", SIDES["gateway"], costs.gateway_bytes)):
        predicted = n * (each["connect"] + each["bind"])
        rows.append({"what": f"memory of {n:,} connections with a binding each at three of them", "side": name,
                     "predicted_mb": significant(predicted / 1e6), "measured_mb": significant(grown[side] / 1e6),
                     "off": significant(predicted / max(1, grown[side]) - 1)})
    rows[0]["counts"] = {op: round(statistics.median(run[0].get(op, 0) for run in runs)) for op in OPERATIONS if op in runs[0][0]}
    rows[0]["wakes"] = {side: round(statistics.median(run[2][side] for run in runs)) for side in SIDES}
    return rows


@case("scaling", "What an operation costs, and whether that predicts four gateways on one RabbitMQ", """CPU of RabbitMQ and of the gateway for each operation, at saturation, 128 bytes, without what else
      its experiment did; memory that stays while it is there. Of those, the sums over a mixed load at four gateways are predicted, and measured. What follows from them is in
      [scaling.md](../scaling.md).""", (
    ("", "{what}"), ("of", "{side}"), ("RabbitMQ's CPU, µs", "{broker_us:,.1f}"), ("gateway's CPU, µs", "{gateway_us:,.1f}"),
    ("RabbitMQ's memory, bytes", "{broker_bytes:,}"), ("gateway's memory, bytes", "{gateway_bytes:,}"),
    ("state log's quota, bytes", "{log_bytes:,}"),
    ("on one node", "{one_us:,.1f} µs"), ("in a cluster", "{more_us:,.1f} µs"), ("so much again", "{value:.0%}"),
    ("predicted", "{predicted_s:,.2f} s"), ("measured", "{measured_s:,.2f} s"), ("predicted memory", "{predicted_mb:,.1f} MB"),
    ("measured memory", "{measured_mb:,.1f} MB"), ("off by", "{off:+.0%}")))
def run_scaling(bench):
    with contextlib.ExitStack() as stack:
        bench.say("starting RabbitMQ")
        lab = Lab(bench, stack, stack.enter_context(bench.new_broker("rabbitmq-scaling")))
        lab.start_s()  # makes the state log
        empty = lab.start_s()[0]
        bench.say("memory")
        memory = lab.memory()
        with lab.gateway() as gateway, contextlib.ExitStack() as inner:
            consumer = Consumer(bench, inner, lab.broker, KEY)
            for turn in range(bench.rounds):
                for part in (lab.idle, lambda g: lab.publishes(g, consumer), lab.deliveries, lab.connections, lab.sessions, lab.kept_messages, lab.records):
                    part(gateway)
                bench.say(f"one gateway, round {turn + 1}")
            others = [inner.enter_context(lab.gateway()) for _ in range(GATEWAYS - 1)]
            for turn in range(bench.rounds):
                lab.beside_others(gateway, others)
                bench.say(f"beside three others, round {turn + 1}")
            for _ in range(bench.rounds):
                lab.replay(empty)
            rows = lab.rows(memory)
            rows += check(bench, lab, [gateway, *others], costs_of(rows))
    return rows + list(shares(bench, lab))
