# SPDX-License-Identifier: Apache-2.0
"""What a RabbitMQ and its gateways need for a given load: unit costs times numbers of operations, and where a growing load meets its
walls. Nothing is measured here; the unit costs are rows of the case `scaling` (cases_scaling.py), the assumptions stand below."""
import dataclasses
import math

# What there is to do, and what one of it is. Rows of the case have these names as `op`.
OPERATIONS = {
    "idle": "a gateway, a second without load",
    "publish": "publish, confirmed by RabbitMQ, to no queue",
    "queue": "the same message into a durable queue of an application, and out to its consumer",
    "feed": "a delivery to a worker: from RabbitMQ's queue to the gateway",
    "delivery": "a delivery to a client, QoS 0: from the gateway to its connection",
    "write": "a write to a connection, with all that was waiting for it",
    "wake": "a thread with nothing to do is woken, for all that has come",
    "connect": "a client connects and subscribes to what is bound already",
    "heard": "another gateway is told of it",
    "disconnect": "it goes",
    "bind": "a binding made: the first subscription to a topic",
    "unbind": "a binding removed",
    "session": "a kept session made: its queue, a binding, records in the state log",
    "leave": "its client goes, the session stays",
    "resume": "its client comes back",
    "end": "a kept session ended: its queue deleted",
    "kept": "a QoS 1 message into and out of the queue of a kept session, to its client",
    "record": "a record of the state log (a retained message): written, and read by its gateway",
    "reread": "that record read by another gateway",
    "replay": "that record read by a gateway that starts",
}
SIDES = {"broker": "RabbitMQ", "gateway": "the gateways"}
COPIED = {**dict.fromkeys(("bind", "unbind"), "copy_share"), **dict.fromkeys(("session", "end"), "queue_share"),  # known to every node
          **dict.fromkeys(("record", "leave", "resume"), "log_share")}


@dataclasses.dataclass(frozen=True)
class Costs:
    """Unit costs by operation: CPU in µs, memory in bytes that stay while what was made is there."""
    broker_us: dict
    gateway_us: dict
    broker_bytes: dict
    gateway_bytes: dict
    log_bytes: dict  # of the state log's quota
    # Of an operation's CPU in RabbitMQ so much again:
    wire_share: float = 0.0  # where a message crosses from node to node
    copy_share: float = 0.0  # of a binding, for each further node
    queue_share: float = 0.0  # of a queue with its binding, for each further node
    log_share: float = 0.0   # of a record of the state log, for each further node

    def cpu_s(self, side, counts):
        """CPU seconds of a side for so many of each operation."""
        unit = self.broker_us if side == "broker" else self.gateway_us
        return sum(n * unit.get(op, 0) for op, n in counts.items()) / 1e6


def costs_of(rows):
    """From the rows of the case."""
    columns = {key: {row["op"]: row[key] for row in rows if row.get(key) is not None and "op" in row}
               for key in ("broker_us", "gateway_us", "broker_bytes", "gateway_bytes", "log_bytes")}
    shares = {row["share"]: row["value"] for row in rows if "share" in row}
    return Costs(**columns, **shares)


def solve(experiments, rounds=50):
    """Unit costs from experiments [(op, counts, cpu_us)], one for each unknown: what an experiment took, without what it did besides, over
    its number of `op`. The others' shares are not known at first: repeated until nothing changes."""
    unit = {op: 0.0 for op, _, _ in experiments}
    for _ in range(rounds):
        for op, counts, cpu_us in experiments:
            besides = sum(n * unit[other] for other, n in counts.items() if other != op and other in unit)
            unit[op] = max(0.0, (cpu_us - besides) / counts[op])
    return unit


# ---- Assumptions: what is not measured but chosen, to be put in place of by whoever knows better

@dataclasses.dataclass(frozen=True)
class Machines:
    nodes: int = 3           # of the RabbitMQ cluster
    cores: int = 8           # of each
    memory_gib: float = 16   # of each
    gateway_cores: int = 4   # of each gateway, with as many workers
    gateway_gib: float = 8


BUSY = 0.7            # of the cores, in a second like any other: the rest is for peaks and for a node that is lost
WAKES = 1 / 3         # of a thread for each operation: 1 where messages come singly, below 0.1 at saturation
WATERMARK = 0.4       # of a node's memory, RabbitMQ's default, past which it blocks publishers
CLIENTS_MAX = 100000  # of a gateway: `[[listener]] max_connections`
GATEWAYS_MAX = 100    # nobody has tried so many
GATEWAYS_COUNTED = 10 * GATEWAYS_MAX
REPLAY_MAX_S = 30     # that a gateway may take from its start to ready
REBIND_MAX_S = 120    # that bindings may take to be made again: all after a restart of a single RabbitMQ, else those of a gateway that is lost
LOG_GIB = 4           # `[state] max_bytes`; 256 MiB is the default
LOG_SHARE = 4         # the log is so many times as large as what lives in it, and is replayed whole
MEMORY_SPARE = 0.5    # of a gateway's, for output that waits for clients


@dataclasses.dataclass(frozen=True)
class Profile:
    """What clients do; rates are of each client, a second."""
    name: str
    about: str
    publishes: float = 0    # into `queues` queues of applications
    queues: int = 1
    own: float = 0          # messages that each client gets on a topic of its own
    broadcasts: float = 0   # messages to all clients, of all senders together
    reconnects: float = 0
    is_bound: bool = False  # its own topic has a binding of its own (binding_scope = "exact"), else one wide binding a worker
    is_kept: bool = False   # its session outlives its connection; its own messages are QoS 1
    retained: float = 0     # updates of a retained message
    topics: int = 0         # retained messages that there are for each client


HOUR = 1 / 3600
PROFILES = (
    Profile("telemetry, exact bindings", "a measurement every 10 s into one queue, a command every 10 min on a topic of its own, a new connection every hour",
            publishes=0.1, own=1 / 600, reconnects=HOUR, is_bound=True),
    Profile("telemetry, wide binding", "the same with `binding_scope = \"wide\"`: a command reaches every worker, one of which has the client",
            publishes=0.1, own=1 / 600, reconnects=HOUR),
    Profile("telemetry, kept sessions", "the same with sessions that are kept, commands with QoS 1",
            publishes=0.1, own=1 / 600, reconnects=HOUR, is_kept=True),
    Profile("last values", "each client updates a retained message every 10 s; nobody's own topics",
            retained=0.1, topics=1, reconnects=HOUR),
    Profile("dashboards", "five messages a second to all, pages that come and go every 10 min", broadcasts=5, reconnects=1 / 600),
)


@dataclasses.dataclass(frozen=True)
class Point:
    """So many clients of a profile, so many gateways, on these machines."""
    profile: Profile
    machines: Machines
    clients: float
    gateways: int

    @property
    def feeds(self):
        return self.gateways * self.machines.gateway_cores

    def per_second(self):
        """How many of each operation a second, of all gateways together."""
        p, n = self.profile, self.clients
        own = n * p.own
        counts = {
            "idle": self.gateways,
            "publish": n * (p.publishes + p.retained) + own + p.broadcasts,
            "queue": n * p.publishes * p.queues,
            "feed": p.broadcasts * self.feeds,
            "delivery": p.broadcasts * n,
            "write": n * (2 * (p.publishes + p.retained) + p.broadcasts) + own,  # each message by itself: to the client, or to RabbitMQ and back
            "connect": n * p.reconnects, "disconnect": n * p.reconnects, "heard": n * p.reconnects * (self.gateways - 1),
            "record": n * p.retained, "reread": n * p.retained * (self.gateways - 1),
        }
        if p.is_kept:
            counts |= {"leave": n * p.reconnects, "resume": n * p.reconnects, "kept": own,
                       "reread": counts["reread"] + 3 * n * p.reconnects * (self.gateways - 1)}
        elif p.is_bound:
            counts |= {"bind": n * p.reconnects, "unbind": n * p.reconnects}
        if not p.is_kept:
            counts["feed"] += own * (1 if p.is_bound else self.feeds)
            counts["delivery"] += own
        counts["wake"] = WAKES * sum(n for op, n in counts.items() if op not in ("idle", "delivery", "write", "queue"))
        return counts


def cluster_factor(costs, op, nodes):
    """How much more an operation costs a cluster than a single node."""
    if op in COPIED:
        return 1 + getattr(costs, COPIED[op]) * (nodes - 1)
    return 1 + costs.wire_share * (nodes - 1) / nodes


def broker_cores(costs, point):
    """Cores of the cluster that are busy."""
    counts = {op: n * cluster_factor(costs, op, point.machines.nodes) for op, n in point.per_second().items()}
    return costs.cpu_s("broker", counts)


def broker_node_bytes(costs, point):
    """Memory that a node needs: bindings are on every node, queues on one each."""
    p, n = point.profile, point.clients
    bound = n * costs.broker_bytes.get("bind", 0) if p.is_bound or p.is_kept else 0
    kept = n * costs.broker_bytes.get("session", 0) / point.machines.nodes if p.is_kept else 0
    return bound + kept


def gateway_client_bytes(costs, profile):
    """A client's share of a gateway's memory; sessions and retained messages are known to every gateway and counted apart."""
    return costs.gateway_bytes.get("connect", 0) + (costs.gateway_bytes.get("bind", 0) if profile.is_bound else 0)


def gateway_common_bytes(costs, profile, clients):
    return clients * ((costs.gateway_bytes.get("session", 0) if profile.is_kept else 0) + profile.topics * costs.gateway_bytes.get("record", 0))


# ---- Walls

def gateways_needed(costs, profile, machines, clients):
    """By connections, memory, CPU, and what the loss of one does to a cluster; GATEWAYS_COUNTED where that is not enough, being past the wall."""
    room = machines.gateway_gib * 2**30 * (1 - MEMORY_SPARE) - gateway_common_bytes(costs, profile, clients)
    if room <= 0:
        return GATEWAYS_COUNTED
    least = max(1, math.ceil(clients / CLIENTS_MAX), math.ceil(clients * gateway_client_bytes(costs, profile) / room))
    if profile.is_bound and machines.nodes > 1:
        least = max(least, math.ceil(clients / rebound(costs, machines)))
    while least < GATEWAYS_COUNTED:  # each further one has its own to do for all the others
        cores = costs.cpu_s("gateway", Point(profile, machines, clients, least).per_second())
        needed = math.ceil(cores / (machines.gateway_cores * BUSY))
        if needed <= least:
            break
        least = needed
    return min(least, GATEWAYS_COUNTED)


def rebound(costs, machines):
    """How many clients' bindings RabbitMQ can make again in time, one after another."""
    return REBIND_MAX_S * BUSY * 1e6 / max(1e-9, costs.broker_us.get("bind", 0) * cluster_factor(costs, "bind", machines.nodes))


def one_core(costs, counts, ops):
    """Of what one process of RabbitMQ has to do, as a part of what it may: a core at most."""
    return sum(counts.get(op, 0) * costs.broker_us.get(op, 0) for op in ops) / 1e6 / BUSY


def walls(costs, point):
    """Each wall's name, and how much of the way to it is gone; past 1 it does not hold."""
    profile, machines, counts = point.profile, point.machines, point.per_second()
    lives = {"session": point.clients if profile.is_kept else 0, "record": point.clients * profile.topics}
    changes = {op: n * cluster_factor(costs, op, machines.nodes) for op, n in counts.items()}
    replay_us = costs.gateway_us.get("replay", 0) + costs.broker_us.get("replay", 0)
    return {
        "RabbitMQ's CPU": broker_cores(costs, point) / (machines.nodes * machines.cores * BUSY),
        "RabbitMQ's memory": broker_node_bytes(costs, point) / (machines.memory_gib * 2**30 * WATERMARK),
        "bindings that come and go": one_core(costs, changes, ("bind", "unbind")),
        "bindings after a restart of RabbitMQ": point.clients / rebound(costs, machines) if profile.is_bound and machines.nodes == 1 else 0,
        "records in the state log": one_core(costs, changes, ("record", "leave", "resume")),
        "room in the state log": sum(n * costs.log_bytes.get(op, 0) for op, n in lives.items()) / (LOG_GIB * 2**30 / LOG_SHARE),
        "a gateway's start": sum(lives.values()) * LOG_SHARE * replay_us / 1e6 / REPLAY_MAX_S,
        "a worker's feed": one_core(costs, {"feed": counts["feed"] / point.feeds}, ("feed",)),
        "number of gateways": point.gateways / GATEWAYS_MAX,
    }


def at(costs, profile, machines, clients):
    """The point with as many gateways as so many clients need."""
    return Point(profile, machines, clients, gateways_needed(costs, profile, machines, clients))


def clients_at(costs, profile, machines, wall, limit=1e9):
    """How many clients there are where that wall stands; infinity: it does not stand in the way."""
    def is_past(clients):
        return walls(costs, at(costs, profile, machines, clients))[wall] > 1
    if not is_past(limit):
        return math.inf
    low, high = 0, limit
    while high - low > max(1, low / 1000):
        middle = (low + high) / 2
        low, high = (low, middle) if is_past(middle) else (middle, high)
    return low


def in_order(costs, profile, machines):
    """[(clients, wall)], the first one first; those that cannot be reached are left out."""
    names = list(walls(costs, Point(profile, machines, 1, 1)))
    found = [(clients_at(costs, profile, machines, name), name) for name in names]
    return sorted((clients, name) for clients, name in found if clients < math.inf)
