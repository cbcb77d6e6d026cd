# SPDX-License-Identifier: Apache-2.0
"""The AMQP connection is cut while messages are under way: at random bytes, and without a word."""
import os
import random
import struct
import threading
import time

from harness import Consumer, E2E, Mqtt, Proxy, eventually, raw
from harness.wait import LIMIT_S
from ledger import CONSUMERS, Ledger, PUBLISHERS

SEED = int(os.environ.get("HEADGATE_FAULTS_SEED", "20240229"))  # another one finds other bytes and moments to cut at


class Publisher:
    """An MQTT 3.1.1 client that sends n QoS 1 messages, `limit` of them for now and no more than `window` unacknowledged."""

    def __init__(self, address, name, n, changed):
        self.name, self.n = name, n
        self.sent = self.acked = self.window = self.limit = 0
        self.problem = None
        self.changed = changed  # one condition for all publishers
        client_id = name.encode()
        self.socket = raw(address, bytes([0x10, 12 + len(client_id), 0, 4]) + b"MQTT\x04\x02\x00\x00" +
                          struct.pack("!H", len(client_id)) + client_id)
        if self.socket.read_n(4) != b"\x20\x02\x00\x00":
            raise AssertionError("CONNECT was refused")
        for work in (self.write, self.read):
            threading.Thread(target=self.guard, args=(work,), daemon=True).start()

    def guard(self, work):
        try:
            work()
        except (OSError, AssertionError) as e:
            with self.changed:
                self.problem = self.problem or e
                self.changed.notify_all()

    def packet(self, i):
        topic = f"cuts/{self.name}".encode()
        body = f"{self.name} {i} ".encode().ljust(40, b".")
        return struct.pack("!BBH", 0x32, 2 + len(topic) + 2 + len(body), len(topic)) + topic + \
            struct.pack("!H", i + 1) + body

    def may_send_to(self):
        return min(self.limit, self.acked + self.window)

    def write(self):
        while self.sent < self.n:
            with self.changed:
                self.changed.wait_for(lambda: self.problem or self.sent < self.may_send_to())
                if self.problem:
                    return
                first, self.sent = self.sent, self.may_send_to()  # before they are: what may have been sent counts
                last = self.sent
            self.socket.send(b"".join(self.packet(i) for i in range(first, last)))

    def read(self):
        while self.acked < self.n:
            self.socket.more()
            n = len(self.socket.buffer) // 4
            due = b"".join(struct.pack("!BBH", 0x40, 2, i + 1) for i in range(self.acked, self.acked + n))
            got = self.socket.read_n(4 * n)
            with self.changed:
                if got != due:
                    raise AssertionError(f"PUBACK {self.acked + 1} and so on were due, {got.hex()} came")
                self.acked += n
                self.changed.notify_all()

    def close(self):
        with self.changed:
            self.problem = self.problem or "closed"
            self.changed.notify_all()
        self.socket.close()


class Cuts(E2E):
    CLIENTS, N = 10, 1000
    CUTS = ["random byte"] * 4 + ["black hole"]
    WINDOW, WINDOW_AT_CUT = 80, 160  # at a cut wider, so that bytes go on passing while no confirm comes back
    MOST_BYTES_TO_CUT = 60_000       # of the 70,000 at least that the wider window brings
    UNCONFIRMED = 500                # at each cut at least

    def wait_for(self, condition):
        def is_over():
            return condition() or any(p.problem for p in self.publishers)
        with self.changed:
            if not self.changed.wait_for(is_over, LIMIT_S) or not condition():
                state = [(p.name, p.acked, p.sent, p.problem) for p in self.publishers]
                self.fail(f"publishers (name, acknowledged, sent, problem) do not come on: {state}\n{self.gw.tail()}")

    def total(self, what):
        return sum(getattr(p, what) for p in self.publishers)

    def set_all(self, **values):
        with self.changed:
            for p in self.publishers:
                p.__dict__.update(values)
            self.changed.notify_all()

    def is_stuck(self):
        """Enough is unconfirmed, and stays so."""
        confirms = self.gw.metric("headgate_confirms_total")
        return self.gw.metric("headgate_window_messages") >= self.UNCONFIRMED and \
            self.gw.metric("headgate_confirms_total") == confirms

    def cut(self, how, k):
        """Returns what each client had acknowledged and sent then: what lies between may be repeated."""
        share = self.N // len(self.CUTS)
        self.set_all(limit=k * share + share // 4, window=self.WINDOW)
        self.wait_for(lambda: self.total("acked") >= (k * share + share // 8) * self.CLIENTS)
        self.proxy.hold("down")  # no confirm comes back any more
        self.set_all(limit=(k + 1) * share)
        eventually(self.is_stuck)
        acked = [p.acked for p in self.publishers]
        republished = self.gw.metric("headgate_republished_total")
        if how == "black hole":
            self.proxy.black_hole()
        else:
            self.proxy.cut_at("up", self.rng.randrange(1, self.MOST_BYTES_TO_CUT))
            self.set_all(window=self.WINDOW_AT_CUT)
            self.proxy.wait_cut()
        sent = [p.sent for p in self.publishers]
        self.proxy.release("down")
        # What had been written and is written once more is what was unconfirmed.
        eventually(lambda: self.gw.metric("headgate_republished_total") - republished >= self.UNCONFIRMED)
        return acked, sent

    def read_queue(self, consumer, queue):
        """Everything that is in it."""
        bodies = []
        n = consumer.channel.queue_declare(queue, passive=True).method.message_count
        for _, _, body in consumer.channel.consume(queue, auto_ack=True, inactivity_timeout=LIMIT_S):
            bodies.append(body)
            if body is None or len(bodies) == n:
                consumer.channel.cancel()
                return bodies
        return bodies

    def check(self, bodies, cuts):
        """First occurrences in order, all of them; a repeat only of what was unconfirmed at a cut, once a cut."""
        came = {p.name.encode(): [0] * self.N for p in self.publishers}
        for body in bodies:
            name, i = body.split()[:2]
            i = int(i)
            self.assertTrue(i == 0 or came[name][i - 1] > 0, f"{body} came before the one before it")
            came[name][i] += 1
        for c, p in enumerate(self.publishers):
            for i, n in enumerate(came[p.name.encode()]):
                most = 1 + sum(acked[c] <= i < sent[c] for acked, sent in cuts)
                self.assertTrue(1 <= n <= most, f"message {i} of {p.name} came {n} times, 1 to {most} are right")

    def test_what_was_acknowledged_arrives_in_order_however_the_link_is_cut(self):
        print(f"        seed {SEED}")
        self.rng = random.Random(SEED)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "cuts.#", queue="cuts", durable=True)
        self.changed = threading.Condition()
        with Proxy(("127.0.0.1", self.broker.port)) as self.proxy:
            self.gw = self.gateway(amqp=self.amqp_by(self.proxy), rabbitmq='heartbeat = "2s"')
            self.publishers = [self.open(Publisher(self.gw.addresses["mqtt"], f"c{i}", self.N, self.changed))
                               for i in range(self.CLIENTS)]
            cuts = [self.cut(how, k) for k, how in enumerate(self.CUTS)]
            self.wait_for(lambda: self.total("acked") == self.N * self.CLIENTS)
            republished = self.gw.metric("headgate_republished_total")
            self.assertEqual(self.gw.metric("headgate_window_messages"), 0)
            self.gw.stop()
        bodies = self.read_queue(consumer, "cuts")
        self.check(bodies, cuts)
        self.assertLessEqual(len(bodies) - self.N * self.CLIENTS, republished)

    def test_a_qos_1_subscriber_gets_everything_however_the_link_is_cut(self):
        rng = random.Random(SEED)
        n, share = 2000, 400
        publisher = self.open(Consumer(self.amqp))
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway("[mqtt]\nmax_queued = 100_000\n", amqp=self.amqp_by(proxy))
            subscriber = self.open(Mqtt(gw.addresses["mqtt"]))
            self.assertEqual(subscriber.subscribe("down/#"), [1])
            for first in range(0, n, share):
                if first > 0:
                    proxy.cut_at("down", rng.randrange(1, 100 * share // 2))
                for i in range(first, first + share):
                    publisher.publish("amq.topic", "down.a", f"{i} ".encode().ljust(100, b"."), delivery_mode=2)
                if first > 0:
                    proxy.wait_cut()
            missing = set(range(n))
            repeats = 0
            while missing:
                message = subscriber.messages.take()
                i = int(message.payload.split()[0])
                repeats += i not in missing
                self.assertTrue(i in missing or message.dup, f"message {i} came again without DUP")
                missing.discard(i)
            self.assertEqual(subscriber.ends.all(), [])
            self.assertGreaterEqual(gw.metric("headgate_upstream_disconnects_total"), n // share - 1)
            gw.stop()

    def test_a_new_connection_cut_anywhere_in_its_handshake_is_only_a_delay(self):
        print(f"        seed {SEED}")
        rng = random.Random(SEED)
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(workers=1, amqp=self.amqp_by(proxy))
            client = self.open(Mqtt(gw.addresses["mqtt"]))
            client.subscribe("again/#")
            for direction, most in (("up", 900), ("down", 1500)) * 3:  # what a handshake and what follows it take
                proxy.cut()
                proxy.cut_at(direction, rng.randrange(1, most))
                mid = client.send("again/a", b"again")
                proxy.wait_cut()
                client.acked(mid)
                client.messages.take()
            self.assertEqual(client.ends.all(), [])
            gw.stop()


class Books(E2E):
    CUTS_N = 50

    def test_add_up_after_fifty_cuts_at_random_moments(self):
        print(f"        seed {SEED}")
        rng = random.Random(SEED)
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(amqp=self.amqp_by(proxy))
            ledger = Ledger(self, gw)
            ledger.declare(self.amqp)
            ledger.consume(*CONSUMERS)
            ledger.publish(*PUBLISHERS)
            ledger.flow()
            for _ in range(self.CUTS_N):
                ledger.flow(rng.randrange(1, 6))
                if rng.random() < 0.2:  # RabbitMQ has it all, and nobody hears so
                    proxy.hold("down")
                    ledger.fill()
                time.sleep(rng.random() * 0.1)
                with ledger.broken("cut", forgets_s=1):
                    proxy.cut(is_reset=rng.random() < 0.5)
                proxy.release("down")
            ledger.finish()
            ledger.assert_at_rest(gw)
            print("        " + ledger.prove(self.amqp))
