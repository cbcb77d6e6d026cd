# SPDX-License-Identifier: Apache-2.0
"""Who published what and when that was acknowledged, who got it and when, and what was broken meanwhile. At the end it all must add up.

Publishers number their messages and come back whenever their connection ends, to any gateway in `ledger.gateways`, as decent clients do:
what has no acknowledgement is sent again, in order. Consumers write down all that comes. `broken(…)` notes each fault. `prove()` says:

- every acknowledged message is in the books, a durable queue that is read only then, and has reached every consumer;
- the first occurrences of each publisher's messages are in the order in which it sent them, in the books and at whoever has a queue to
  itself; where RabbitMQ lets others consume it as well, in order but for what was on its way at a fault;
- a message is in the books more than once only if it was unconfirmed at a fault that explains it, once more for each;
- a consumer got a message again only if that was so, or if the message was unacknowledged by it at a fault.
"""
import contextlib
import dataclasses
import itertools
import json
import math
import random
import re
import select
import threading
import time

from harness import Consumer, StompPeer, eventually, mqtt5 as m, raw, wire
from harness.clients import http_connection, http_request
from harness.wait import LIMIT_S

BODY_N = 64
REJECTED = 0x97
PAUSE_S = 0.05  # before a connection that ended is made anew, and between looks at what else is to be done


class Ended(Exception):
    """A connection has."""


@dataclasses.dataclass
class Fault:
    """From `began` to `ended` something was broken. `forgets_s`: what was acknowledged to RabbitMQ so shortly before may be given out again."""
    what: str
    began: float
    ended: float = math.inf
    forgets_s: float = 0.0
    is_long: bool = False      # links may be lost again and again: no limit to repeats of what was under way
    unconfirms: bool = True    # what is published may be repeated; else only deliveries
    rejects: bool = False      # RabbitMQ may reject what is published, which is then sent again, behind what followed it

    def meets(self, began, ended):
        return began <= self.ended and ended >= self.began


class Ledger:
    """Addresses, queues and clients have names of their own, so that a class may have several, one after another."""
    numbers = itertools.count(1)

    def __init__(self, case, *gateways):
        self.case = case
        self.address = f"ledger{next(self.numbers)}"
        self.books, self.work, self.leased = (f"{self.address}.{what}" for what in ("books", "work", "leased"))
        self.gateways = list(gateways)
        self.faults = []
        self.publishers, self.consumers = [], []
        self.problems = []
        self.changed = threading.Condition()

    # ---- who takes part

    def declare(self, amqp, queue_type="classic"):
        """The books, and the queues that consumers share with nobody."""
        with contextlib.closing(Consumer(amqp)) as client:
            for queue in (self.books, self.work, self.leased):
                client.channel.queue_declare(queue, durable=True, arguments={"x-queue-type": queue_type})
                client.channel.queue_bind(queue, "amq.topic", f"{self.address}.#")

    def publish(self, *kinds, rate=100):
        """Starts one publisher of each kind, with so many messages a second."""
        for kind in kinds:
            self.start(self.publishers, kind(self, f"{self.address}-{kind.kind}{len(self.publishers)}", rate))

    def consume(self, *kinds):
        """Starts one consumer of each kind, and returns once each can be sent something."""
        for kind in kinds:
            self.start(self.consumers, kind(self, f"{self.address}-{kind.kind}{len(self.consumers)}"))
        self.wait_for(lambda: all(c.is_ready for c in self.consumers), "a consumer is not ready")

    def start(self, those, client):
        those.append(client)
        client.start()
        self.case.addCleanup(client.stop)

    # ---- what happens

    @contextlib.contextmanager
    def broken(self, what, **about):
        """Around what breaks something: what is unconfirmed at any time meanwhile may be repeated. about: a Fault's."""
        fault = Fault(what, time.monotonic(), **about)
        self.faults.append(fault)
        yield fault
        fault.ended = time.monotonic()

    def note(self, problem):
        with self.changed:
            self.problems.append(problem)
            self.changed.notify_all()

    def wait_for(self, condition, otherwise, limit_s=None):
        """Until condition, or a problem."""
        deadline = time.monotonic() + (limit_s or LIMIT_S)
        while not condition():
            if self.problems:
                self.case.fail(f"{self.problems[:5]}\n{self.state()}")
            if time.monotonic() > deadline:
                self.case.fail(f"{otherwise}\n{self.state()}")
            time.sleep(0.01)

    def flow(self, n=20, limit_s=None):
        """Until each publisher has n further messages acknowledged, and each consumer has got as many; the seconds that it took."""
        began = time.monotonic()
        goals = [(c, c.done_n + n) for c in self.publishers + self.consumers]
        self.wait_for(lambda: all(c.done_n >= goal for c, goal in goals), "not everybody comes on", limit_s)
        return time.monotonic() - began

    def fill(self):
        """Until each publisher has as many without an acknowledgement as it allows itself: nothing is confirmed any more."""
        self.wait_for(lambda: all(len(p.open) == p.window for p in self.publishers), "publishers do not fill their windows")

    def pauses(self, since):
        """Seconds, by name: the longest time since then in which nothing of a publisher was acknowledged."""
        def longest(p):
            times = sorted([since] + [a for a in p.acked if a is not None and a >= since])
            return max((b - a for a, b in zip(times, times[1:])), default=math.inf)
        return {p.name: longest(p) for p in self.publishers}

    def state(self):
        lines = [f"{p.name}: {len(p.sent)} sent, {p.done_n} acknowledged, {p.connections_n} connections, {p.last}" for p in self.publishers]
        lines += [f"{c.name}: {c.done_n} messages, {c.connections_n} connections, {c.last}" for c in self.consumers]
        return "\n".join(lines + [gw.tail() for gw in self.gateways])

    # ---- the end

    def finish(self, limit_s=None):
        """No more is published; returns when all has been acknowledged, and every consumer has got all of it."""
        for p in self.publishers:
            p.is_finishing = True
        self.wait_for(lambda: all(p.is_finished() for p in self.publishers), "not all is acknowledged", limit_s)
        self.wait_for(lambda: not any(True for c in self.consumers for _ in c.missing()), "a consumer misses something", limit_s)
        self.wait_for(lambda: all(c.is_even() for c in self.consumers), "a consumer cannot acknowledge", limit_s)
        for p in self.publishers:
            p.stop()

    def assert_at_rest(self, gw):
        """Nothing is under way any more, in the gateway and in RabbitMQ."""
        gauges = "headgate_window_messages", "headgate_window_bytes", "headgate_leases", "headgate_uploads"
        eventually(lambda: all(gw.metric(gauge) == 0 for gauge in gauges))

        def left():
            listed = self.case.broker.eval(
                "[{binary_to_list(element(4, proplists:get_value(name, I))), proplists:get_value(messages, I)} || "
                f'I <- rabbit_amqqueue:info_all(<<"{self.case.vhost}">>, [name, messages])].')
            return [(name, n) for name, n in re.findall(r'{"([^"]*)",\s*(\d+)}', listed)
                    if n != "0" and name not in (self.books, "headgate.state")]

        def is_empty():
            self.case.assertEqual(left(), [])
            return True

        eventually(is_empty)  # while there is still somebody who takes what comes again
        for c in self.consumers:
            c.stop()

    def prove(self, amqp):
        """After finish(). Returns what came, to be printed."""
        counts = self.read_books(amqp)
        for c in self.consumers:
            c.stop()
            self.check_order(c.name, c.came, c.has_queue_to_itself)
            for key, times in c.came.items():
                self.check_repeats(c, key, times)
        self.case.assertEqual(self.problems, [])
        published = sum(len(p.sent) for p in self.publishers)
        repeats = sum(counts.values()) - len(counts)
        return f"{published} messages, {len(self.faults)} faults, {repeats} published twice, " \
               f"{sum(len(t) - 1 for c in self.consumers for t in c.came.values())} delivered twice"

    def read_books(self, amqp):
        came = {}
        with contextlib.closing(Consumer(amqp)) as client:
            n = client.channel.queue_declare(self.books, passive=True).method.message_count
            for at, (_, _, body) in zip(range(n), client.channel.consume(self.books, auto_ack=True, inactivity_timeout=LIMIT_S)):
                self.case.assertIsNotNone(body, f"only {at} of {n} messages are in the books")
                came.setdefault(key_of(body), []).append(at)
            client.channel.cancel()
        self.check_order("the books", came)
        by_name = {p.name: p for p in self.publishers}
        for (name, i), times in came.items():
            most = 1 + self.explains(*by_name[name].interval(i))
            self.case.assertLessEqual(len(times), most, f"message {i} of {name} came {len(times)} times; "
                                                        f"sent at {by_name[name].sent[i]}, acknowledged at {by_name[name].acked[i]}\n{self.faults}")
        return {key: len(times) for key, times in came.items()}

    def explains(self, began, ended):
        """How many repeats of what was under way from then to then."""
        those = [f for f in self.faults if f.unconfirms and f.meets(began, ended)]
        return math.inf if any(f.is_long for f in those) else len(those)

    def check_order(self, who, came, is_strict=True):
        """All of them, each first behind the one before it. came: by (publisher, number), what came of it."""
        by_name = {p.name: p for p in self.publishers}
        loose = {(p.name, i) for p in self.publishers for i in range(len(p.sent)) if self.was_loose(p, i)}
        last = {}
        for (name, i), times in sorted(came.items(), key=lambda item: first_of(item[1])):
            before, before_times = last.get(name, (-1, None))
            if (name, i) in loose:
                continue
            if i > before:
                last[name] = i, times
            elif is_strict or not self.was_overtaken(by_name[name].sent[i], before_times[0].came):
                self.case.fail(f"message {i} of {name} came first to {who} behind {before}")
        missing = [(p.name, i) for p in self.publishers for i in range(len(p.sent)) if (p.name, i) not in came]
        self.case.assertEqual(missing, [], f"never came to {who}")

    def was_overtaken(self, sent, overtaker_came):
        """It was on its way at a fault, behind which another one came first: RabbitMQ had a new consumer before it missed the old one."""
        return any(sent <= f.ended and f.began <= overtaker_came for f in self.faults)

    def was_loose(self, publisher, i):
        return any(f.rejects and f.meets(*publisher.interval(i)) for f in self.faults)

    def check_repeats(self, consumer, key, times):
        """Each delivery of a message but the first is of what was unconfirmed then, or not acknowledged by this consumer."""
        publisher = next(p for p in self.publishers if p.name == key[0])
        most = 1 + self.explains(*publisher.interval(key[1]))
        for delivery in times[:-1]:
            most += any(f.meets(delivery.came - f.forgets_s, delivery.acked + f.forgets_s) for f in self.faults)
        self.case.assertLessEqual(len(times), most, f"message {key} came {len(times)} times to {consumer.name}: {times}\n"
                                                    f"sent, acknowledged: {publisher.interval(key[1])}\n{self.faults}")


def first_of(times):
    return times[0] if isinstance(times[0], int) else times[0].at


def key_of(body):
    name, i = body.split()[:2]
    return name.decode(), int(i)


class Client(threading.Thread):
    """One that comes back."""
    kind = "client"
    serve = "mqtt"

    def __init__(self, ledger, name):
        super().__init__(daemon=True)
        self.ledger, self.name = ledger, name
        self.random = random.Random(name)
        self.is_stopping = False
        self.connections_n = 0
        self.last = None  # how the last connection ended
        self.ends = []    # (time, how) of every one

    def run(self):
        while not self.is_stopping:
            gw = self.random.choice(self.ledger.gateways)
            try:
                self.connections_n += 1
                self.serve_connection(gw.addresses[self.serve])
            except (OSError, EOFError, Ended) as e:
                self.last = repr(e)
                self.ends.append((time.monotonic(), e))
            except Exception as e:  # a gateway that breaks the protocol, or this client
                self.ledger.note(f"{self.name}: {e!r}")
                return
            time.sleep(PAUSE_S)

    def stop(self):
        self.is_stopping = True
        self.join(LIMIT_S)


class Reading:
    """A socket whose reader waits for no more than a moment. That nobody takes what is sent is found by reading, behind the last words."""

    def __init__(self, address):
        self.wire = raw(address)

    def send(self, data):
        with contextlib.suppress(OSError):
            self.wire.send(data)

    def poll(self, wait_s=PAUSE_S):
        """Whether something came."""
        if not select.select([self.wire.socket], [], [], wait_s)[0]:
            return False
        data = self.wire.socket.recv(1 << 16)
        if not data:
            raise Ended("closed")
        self.wire.buffer += data
        return True

    def close(self):
        self.wire.close()


class MqttWire(Reading):
    def __init__(self, address, level, first):
        super().__init__(address)
        self.level = level
        self.send(first)

    def packets(self, wait_s=PAUSE_S):
        """What has come; a DISCONNECT is the end."""
        self.poll(wait_s)
        while True:
            packet, used = m.decode(self.wire.buffer, self.level)
            if packet is None:
                return
            self.wire.buffer = self.wire.buffer[used:]
            if packet.kind == m.DISCONNECT:
                raise Ended(packet)
            yield packet

    def connack(self):
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for packet in self.packets():
                if packet.kind != m.CONNACK:
                    raise AssertionError(f"{packet} before CONNACK")
                if packet.reason != 0:
                    raise Ended(packet)
                return packet
        raise AssertionError("no CONNACK in time")


# ---- Publishers


class Publisher(Client):
    """sent[i], acked[i]: when message i was first sent, and acknowledged."""
    window = 20

    def __init__(self, ledger, name, rate):
        super().__init__(ledger, name)
        self.rate = rate
        self.sent, self.acked = [], []
        self.open = {}  # numbers of those without an acknowledgement, in order
        self.done_n = 0
        self.is_finishing = False
        self.due = time.monotonic()

    def interval(self, i):
        """When it was unconfirmed."""
        return self.sent[i], self.acked[i] if self.acked[i] is not None else math.inf

    def is_finished(self):
        return self.is_finishing and not self.open

    def body(self, i):
        return f"{self.name} {i} ".encode().ljust(BODY_N, b".")

    def next(self):
        """The number of the next message to send, or None: not now."""
        now = time.monotonic()
        if self.is_finishing or len(self.open) >= self.window or now < self.due:
            return None
        self.due = max(self.due + 1 / self.rate, now - 0.2)  # a pause is not made up for
        self.sent.append(now)
        self.acked.append(None)
        self.open[len(self.sent) - 1] = True
        return len(self.sent) - 1

    def ack(self, i):
        if self.open.pop(i, False):
            self.acked[i] = time.monotonic()
            self.done_n += 1


class MqttPublisher(Publisher):
    kind, level, qos = "qos1", 5, 1
    rejections_n = 0

    def serve_connection(self, address):
        expiry = {"session_expiry": 3600} if self.level == 5 else {}
        link = MqttWire(address, self.level, m.connect(self.name, self.level, clean=False, **expiry))
        try:
            present = link.connack().present
            self.resume(link, present)
            while not self.is_stopping:
                while (i := self.next()) is not None:
                    link.send(self.packet(i, False))
                for packet in link.packets(0.01):
                    self.take(link, packet)
        finally:
            link.close()

    def packet(self, i, dup):
        return m.publish(f"{self.ledger.address}/{self.name}", self.body(i), self.qos, i % 60000 + 1, dup=dup, level=self.level)

    def resume(self, link, present):
        for i in self.open:
            link.send(self.packet(i, present))

    def number(self, packet_id):
        """Of the message that has this identifier now."""
        at = len(self.sent) - 1
        return at - (at + 1 - packet_id) % 60000

    def take(self, link, packet):
        if packet.kind != m.PUBACK or packet.reason not in (0, 0x10, REJECTED):
            raise AssertionError(f"PUBACK was due, {packet} came")
        i = self.number(packet.packet_id)
        if packet.reason != REJECTED:
            self.ack(i)
        elif i in self.open:
            self.rejections_n += 1
            link.send(self.packet(i, False))


class Mqtt311Publisher(MqttPublisher):
    kind, level = "old", 4


class Qos2Publisher(MqttPublisher):
    kind, level, qos = "qos2", 4, 2

    def __init__(self, *args):
        super().__init__(*args)
        self.releasing = {}  # packet identifiers whose PUBREL waits for its PUBCOMP, in order

    def is_finished(self):
        return super().is_finished() and not self.releasing

    def resume(self, link, present):
        if not present:
            self.releasing.clear()
        for packet_id in self.releasing:
            link.send(m.ack(m.PUBREL, packet_id))
        super().resume(link, present)

    def take(self, link, packet):
        if packet.kind == m.PUBREC and packet.reason in (0, 0x10):
            self.ack(self.number(packet.packet_id))
            self.releasing[packet.packet_id] = True
            link.send(m.ack(m.PUBREL, packet.packet_id))
        elif packet.kind == m.PUBCOMP and packet.reason in (0, 0x92):
            self.releasing.pop(packet.packet_id, None)
        else:
            raise AssertionError(f"PUBREC or PUBCOMP was due, {packet} came")


class StompLink(StompPeer):
    """A StompPeer that does not wait, and finds the end by reading."""

    def send_raw(self, data):
        with contextlib.suppress(OSError):
            super().send_raw(data)

    def frames(self, wait_s=PAUSE_S):
        if not self.buffer and not select.select([self.wire.socket], [], [], wait_s)[0]:
            return
        if not self.more():
            raise Ended("closed")
        while True:
            self.buffer = self.buffer.lstrip(b"\n")
            frame = self.parse()
            if frame is None:
                return
            if frame.command == "ERROR":
                raise Ended(frame)
            yield frame


def stomp_link(address, path=None):
    try:
        return StompLink(address, path=path)
    except AssertionError as e:  # closed before CONNECTED: by a gateway that ends
        raise Ended(e) from e


class StompPublisher(Publisher):
    kind, serve = "stomp", "stomp"

    def serve_connection(self, address):
        link = stomp_link(address)
        try:
            for i in self.open:
                self.send(link, i)
            while not self.is_stopping:
                while (i := self.next()) is not None:
                    self.send(link, i)
                for frame in link.frames(0.01):
                    self.ack(int(frame["receipt-id"]))
        finally:
            link.wire.close()

    def send(self, link, i):
        link.send_raw(wire.stomp("SEND", {"destination": f"/{self.ledger.address}/{self.name}", "receipt": i, "persistent": "true"}, self.body(i)))


class HttpPublisher(Publisher):
    """One request at a time; anything but 202 is asked again."""
    kind, serve, window = "http", "web", 1

    def serve_connection(self, address):
        connection = http_connection(address)
        try:
            while not self.is_stopping:
                i = next(iter(self.open), None)
                i = self.next() if i is None else i
                if i is None:
                    time.sleep(0.005)
                    continue
                try:
                    status, fields, body = http_request(connection, "POST", f"/v1/topics/{self.ledger.address}/{self.name}", self.body(i))
                except Exception as e:
                    raise Ended(e) from e
                if status == 202:
                    self.ack(i)
                elif status not in (429, 503):
                    raise AssertionError(f"{status} {body}")
                else:
                    self.last = f"{status} {body}"
                    time.sleep(PAUSE_S)
        finally:
            connection.close()


# ---- Consumers


@dataclasses.dataclass(slots=True)
class Delivery:
    at: int  # in the order of all that came to this consumer
    came: float
    is_marked: bool  # DUP, redelivered
    acked: float = math.inf


class Taker(Client):
    """came: deliveries by (publisher, number)."""
    has_queue_to_itself = False

    def __init__(self, ledger, name):
        super().__init__(ledger, name)
        self.came = {}
        self.done_n = 0
        self.taken_n = 0
        self.is_ready = False
        self.seen = {}  # by publisher: so many of its messages were seen here

    def take(self, body, is_marked):
        delivery = Delivery(self.taken_n, time.monotonic(), is_marked)
        self.taken_n += 1
        key = key_of(body)
        if key not in self.came:
            self.done_n += 1
        self.came.setdefault(key, []).append(delivery)
        return delivery

    def missing(self):
        for p in self.ledger.publishers:
            at = self.seen.get(p.name, 0)
            while (p.name, at) in self.came:
                at += 1
            self.seen[p.name] = at
            if at < len(p.sent):
                yield p.name, at

    def is_even(self):
        """Nothing waits for an acknowledgement of ours."""
        return True


class KeptSession(Taker):
    """MQTT 5.0 QoS 1, a session that outlives its connections."""
    kind, level = "kept", 5
    has_queue_to_itself = True

    def serve_connection(self, address):
        link = MqttWire(address, self.level, m.connect(self.name, self.level, clean=False, session_expiry=3600))
        try:
            present = link.connack().present
            if self.is_ready and not present:
                raise AssertionError("the session is gone")
            if not present:
                link.send(m.subscribe(1, f"{self.ledger.address}/#"))
            while not self.is_stopping:
                for packet in link.packets():
                    self.handle(link, packet)
        finally:
            link.close()

    def handle(self, link, packet):
        if packet.kind == m.SUBACK:
            if packet.reasons != [1]:
                raise Ended(packet)
            self.is_ready = True
        elif packet.kind == m.PUBLISH:
            delivery = self.take(packet.body, packet.dup)
            link.send(m.ack(m.PUBACK, packet.packet_id))
            delivery.acked = time.monotonic()
        else:
            raise AssertionError(f"{packet} was not due")


class StompWorker(Taker):
    """ack:client-individual on a durable queue."""
    kind, serve = "work", "stomp"

    def serve_connection(self, address):
        link = stomp_link(address)
        try:
            link.send_raw(wire.stomp("SUBSCRIBE", {"id": "0", "destination": f"/amq/queue/{self.ledger.work}", "ack": "client-individual",
                                                   "prefetch-count": 20, "receipt": "s"}))
            while not self.is_stopping:
                for frame in link.frames():
                    self.handle(link, frame)
        finally:
            link.wire.close()

    def handle(self, link, frame):
        if frame.command == "RECEIPT":
            self.is_ready = True
        else:
            delivery = self.take(frame.body, frame.get("redelivered") == "true")
            link.send_raw(wire.stomp("ACK", {"id": frame["ack"]}))
            delivery.acked = time.monotonic()


class Leaser(Taker):
    """HTTP, by lease."""
    kind, serve = "lease", "web"

    def __init__(self, *args):
        super().__init__(*args)
        self.is_ready = True
        self.open_n = 0

    def is_even(self):
        return self.open_n == 0

    def ask(self, connection, path, body=None):
        try:
            return http_request(connection, "POST", f"/v1/queues/{self.ledger.leased}/{path}", body, {"Accept": "application/json"})
        except Exception as e:
            raise Ended(e) from e

    def serve_connection(self, address):
        connection = http_connection(address)
        try:
            while not self.is_stopping:
                self.turn(connection)
        finally:
            self.open_n = 0
            connection.close()

    def turn(self, connection):
        status, _, body = self.ask(connection, "lease?max=50&wait=500ms&lease=2m")
        if status in (404, 503):  # a queue's node may be away
            self.last = f"{status} {body}"
            time.sleep(PAUSE_S)
            return
        if status != 200:
            raise AssertionError(f"lease: {status} {body}")
        messages = json.loads(body)["messages"]
        self.open_n = len(messages)
        deliveries = {got["lease"]: self.take(got["body"].encode(), got["redelivered"]) for got in messages}
        left = list(deliveries)
        while left and not self.is_stopping:
            status, _, body = self.ask(connection, "ack", json.dumps({"leases": left}))
            if status not in (200, 207):
                raise AssertionError(f"ack: {status} {body}")
            answers = {a["lease"]: a["status"] for a in json.loads(body)["leases"]}
            for lease, answer in answers.items():
                if answer != "unknown":  # gone: it comes again, by a fault before now
                    deliveries[lease].acked = time.monotonic()
            left = [lease for lease, answer in answers.items() if answer == "unknown"]
        self.open_n = 0


PUBLISHERS = (MqttPublisher, Mqtt311Publisher, Qos2Publisher, StompPublisher, HttpPublisher)
CONSUMERS = (KeptSession, StompWorker, Leaser)
