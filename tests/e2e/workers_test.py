# SPDX-License-Identifier: Apache-2.0
"""Two workers that share nothing: what is published through one reaches the subscribers of the other."""
from harness import E2E, Mqtt, Stomp, eventually
from harness.ends import PUBLISHERS, SUBSCRIBERS, Place

RULES = """
[[exchange]]
name = "across"
type = "topic"
[[rule]]
name = "across"
topic = "across/{what}"
exchange = "across"
key = "across.{what}"
[[queue]]
name = "shared"
[[rule]]
name = "shared"
topic = "shared"
queue = "shared"
"""
TRIES = 64  # the kernel spreads connections by a hash of their ports: each lands here or there


def connections(gw):
    return gw.admin("/api/connections")[1]


def worker_of(gw, port):
    """The worker that holds the connection from this port of ours, once it has been accepted."""
    return eventually(lambda: [c["worker"] for c in connections(gw) if c["peer"].endswith(f":{port}")])[0]


class Workers(E2E):
    also_on_release = True

    def placed(self, gw, kind, worker):
        """A client of this kind whose connection this worker holds."""
        for _ in range(TRIES):
            end = kind(gw)
            if worker_of(gw, end.port) == worker:
                return self.open(end)
            end.close()
        raise AssertionError(f"none of {TRIES} connections came to worker {worker}")

    def test_every_pair_of_protocols_meets_across_workers(self):
        gw = self.gateway(RULES, workers=2)
        places = Place("across/one", "across", "across.one"), Place("plain/one", "amq.topic", "plain.one")
        publishers = [(w, self.placed(gw, kind, w)) for kind in PUBLISHERS for w in (0, 1)]
        subscribers = [(w, self.placed(gw, kind, w)) for kind in SUBSCRIBERS for w in (0, 1)]
        for _, s in subscribers:
            s.subscribe(*places)
        for from_worker, p in publishers:
            for place in places:
                body = f"{p.name} on {from_worker} to {place.address}".encode()
                p.publish(place, body)
                for to_worker, s in subscribers:
                    with self.subTest(f"{p.name} on worker {from_worker} to {s.name} on worker {to_worker}", place=place):
                        got = s.take()
                        self.assertEqual((got.where, got.body), (s.where(place), body))
        ports = {c["peer"].rpartition(":")[2]: c["worker"] for c in connections(gw)}
        everybody = publishers + subscribers
        self.assertEqual([ports[str(end.port)] for _, end in everybody], [w for w, _ in everybody])

    def test_a_queue_is_shared_by_subscribers_of_both_workers(self):
        gw = self.gateway(RULES, workers=2)
        place = Place("shared", "", "shared")
        ends = [self.placed(gw, kind, w) for kind, w in zip(SUBSCRIBERS, (0, 1, 0))]
        for end in ends:
            end.subscribe(place)
        publisher = self.placed(gw, PUBLISHERS[0], 1)
        for i in range(9):
            publisher.publish(place, b"%d" % i)
        self.assertEqual(sorted(e.take().body for e in ends for _ in range(3)), [b"%d" % i for i in range(9)])

    def test_a_client_id_is_taken_over_across_workers(self):
        gw = self.gateway(workers=2)
        watcher = self.open(Mqtt(gw.addresses["mqtt"]))
        watcher.subscribe("will/#")
        seen = set()
        old, old_worker = None, None
        for i in range(TRIES):
            new = self.open(Mqtt(gw.addresses["mqtt"], "the-one", will=(f"will/{i}", b"taken over")))
            new_worker = worker_of(gw, new.client.socket().getsockname()[1])
            if old is not None:
                self.assertNotEqual(old.ends.take(), 0)
                self.assertEqual(watcher.messages.take().topic, f"will/{i - 1}")
                self.assertEqual([c["worker"] for c in connections(gw) if c["client_id"] == "the-one"], [new_worker])
                seen.add((old_worker, new_worker))
            if seen >= {(0, 1), (1, 0)}:
                break
            old, old_worker = new, new_worker
        self.assertLessEqual({(0, 1), (1, 0)}, seen)
        new.subscribe("t")
        new.publish("t", b"alive")
        self.assertEqual(new.messages.take().payload, b"alive")

    def test_every_worker_tells_of_its_connections(self):
        gw = self.gateway(workers=2)
        self.open(Stomp(gw.addresses["stomp"])).subscribe("/topic/a")
        m = self.open(Mqtt(gw.addresses["mqtt"], "named"))
        m.subscribe("a", "b")
        told = {c["protocol"]: c for c in connections(gw)}
        self.assertEqual({p: told[p]["subscriptions"] for p in ("stomp", "mqtt")}, {"stomp": 1, "mqtt": 2})
        self.assertEqual([told["mqtt"][k] for k in ("client_id", "version")], ["named", "3.1.1"])
        self.assertEqual([told["stomp"][k] for k in ("user", "version")], ["guest", "1.2"])
        self.assertEqual(gw.metric("headgate_connections", protocol="mqtt"), 1)
