# SPDX-License-Identifier: Apache-2.0
"""A moderate load on all protocols for half an hour, with subscribers that come and go; nothing is lost, nothing repeated, memory is flat.

`scripts/test soak`, with the release build; HEADGATE_SOAK_MINUTES says for how long."""
import contextlib
import os
import pathlib
import random
import statistics
import threading
import time

from harness import E2E, Events, Mqtt, Mqtt5, Stomp, eventually
from ledger import CONSUMERS, Ledger, PUBLISHERS

MINUTES = float(os.environ.get("HEADGATE_SOAK_MINUTES", "30"))
SAMPLE_S = 10
WARM_UP = 1 / 6          # of the time, and not looked at
GROWTH, GROWTH_BYTES = 0.05, 1 << 20  # flat: the last third's median is above the first third's by no more than both of them
RATE = 25                # of each publisher
VISITORS_N = 20
SEED = 6
# With the patience that clients on a busy machine need.
PATIENT = '[mqtt]\nmax_queued = 100_000\nconnect_timeout = "1m"\n[stomp]\nconnect_timeout = "1m"\n'


def proportional_bytes(pid):
    """PSS."""
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no Pss")


class Visitor(threading.Thread):
    """Comes by one of the protocols, subscribes, stays for some seconds, leaves politely or not, and comes again."""

    def __init__(self, ledger, number):
        super().__init__(daemon=True)
        self.ledger, self.number = ledger, number
        self.random = random.Random(SEED * 1000 + number)
        self.gw = ledger.gateways[0]
        self.visits_n = self.messages_n = 0
        self.is_stopping = threading.Event()

    def run(self):
        visits = (self.mqtt, self.kept, self.stomp, self.stomp_by_web, self.acknowledged, self.events, self.retained)
        try:
            while not self.is_stopping.is_set():
                self.random.choice(visits)()
                self.visits_n += 1
        except Exception as e:
            self.ledger.note(f"visitor {self.number}: {e!r}")

    def stay(self, take):
        """Takes what comes for a while."""
        until = time.monotonic() + self.random.uniform(0.5, 8)
        while time.monotonic() < until and not self.is_stopping.is_set():
            take()
            self.messages_n += 1

    def what(self):
        """One publisher's messages; now and then everybody's."""
        return "+" if self.random.random() < 0.2 else self.random.choice(self.ledger.publishers).name

    def leave(self, client, is_polite=True):
        with contextlib.suppress(OSError):  # of a client library, at its own end
            if is_polite or self.random.random() < 0.5:
                client.close()
            else:
                client.drop()

    def mqtt(self):
        client = Mqtt(self.gw.addresses["mqtt"])
        client.subscribe(f"{self.ledger.address}/{self.what()}", qos=self.random.randrange(3))
        self.stay(client.messages.take)
        self.leave(client, is_polite=False)

    def kept(self):
        """A session that outlives its connection for a second, and may be taken up before."""
        client = Mqtt5(self.gw.addresses["mqtt"], f"visitor{self.number}", clean=False, expiry_s=1)
        client.subscribe(f"{self.ledger.address}/{self.what()}", qos=2)
        self.stay(client.messages.take)
        self.leave(client, is_polite=False)

    def stomp(self, path=None, **headers):
        client = Stomp(self.gw.addresses["stomp" if path is None else "web"], path=path)
        client.subscribe(f"/{self.ledger.address}/{self.what()}".replace("+", "*"), **headers)
        self.stay(client.messages.take)
        self.leave(client)

    def stomp_by_web(self):
        self.stomp(path="/ws")

    def acknowledged(self):
        client = Stomp(self.gw.addresses["stomp"])
        client.subscribe(f"/{self.ledger.address}/{self.what()}".replace("+", "*"), ack="client-individual")
        self.stay(lambda: client.connection.ack(client.messages.take().headers["ack"]))
        self.leave(client)

    def events(self):
        client = Events(self.gw, f"{self.ledger.address}/{self.what()}")
        self.stay(client.take)
        self.leave(client)

    def retained(self):
        client = Mqtt(self.gw.addresses["mqtt"])
        for i in range(10):
            client.publish(f"soak/{self.number}/{i}", b"x" * self.random.randrange(200), retain=True)
        client.subscribe("soak/#")
        self.stay(lambda: time.sleep(0.1))
        self.leave(client, is_polite=False)

    def stop(self):
        self.is_stopping.set()
        self.join(60)


class Soak(E2E):
    def test_is_flat_and_nothing_is_lost(self):
        gw = self.gateway(PATIENT, "--set", "gateway.log.level=info")
        ledger = Ledger(self, gw)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS, rate=RATE)
        ledger.flow()
        regulars_n = self.sessions(gw)
        visitors = [Visitor(ledger, i) for i in range(VISITORS_N)]
        for v in visitors:
            v.start()
            self.addCleanup(v.stop)
        samples = self.sample(gw, ledger)
        for v in visitors:
            v.stop()
        eventually(lambda: self.sessions(gw) == regulars_n)  # no visitor is left
        ledger.finish()
        ledger.assert_at_rest(gw)
        self.report(gw, ledger, visitors, samples)
        print("        " + ledger.prove(self.amqp))
        self.assertEqual(gw.metric("headgate_upstream_disconnects_total"), 0)
        self.check_flat(samples)

    def sessions(self, gw):
        return sum(gw.metric("headgate_connections", protocol=p) for p in ("mqtt", "stomp"))

    def sample(self, gw, ledger):
        samples = []
        began = time.monotonic()
        while (at := time.monotonic() - began) < MINUTES * 60:
            ledger.wait_for(lambda due=began + len(samples) * SAMPLE_S: time.monotonic() >= due, "")
            samples.append((at, proportional_bytes(gw.process.pid)))
        return samples

    def thirds(self, samples):
        warm = [b for at, b in samples if at >= MINUTES * 60 * WARM_UP]
        n = max(1, len(warm) // 3)
        return statistics.median(warm[:n]), statistics.median(warm[-n:])

    def check_flat(self, samples):
        first, last = self.thirds(samples)
        self.assertLessEqual(last, first * (1 + GROWTH) + GROWTH_BYTES, [b for _, b in samples])

    def report(self, gw, ledger, visitors, samples):
        first, last = self.thirds(samples)
        sizes = [f"{b / (1 << 20):.1f}" for _, b in samples[::max(1, len(samples) // 20)]]
        deliveries = sum(gw.metric("headgate_messages_out_total", protocol=p) for p in ("mqtt", "stomp", "http"))
        print(f"        {MINUTES:g} minutes, {sum(len(p.sent) for p in ledger.publishers)} messages, {deliveries:.0f} deliveries, "
              f"{sum(v.visits_n for v in visitors)} visits, {sum(v.messages_n for v in visitors)} messages to visitors")
        print(f"        PSS: median of the first third {first / (1 << 20):.2f} MiB, of the last {last / (1 << 20):.2f} MiB; "
              f"over time, MiB: {' '.join(sizes)}")
