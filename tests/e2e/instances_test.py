# SPDX-License-Identifier: Apache-2.0
"""Two gateways on one RabbitMQ: sessions and retained messages cross from one to the other."""
import random
import signal
import threading

from harness import E2E, Mqtt, Mqtt5, Swarm, eventually, wire
from harness import mqtt5 as m
from harness.peer import Peer
from harness.people import OTHER, PASSWORD, line_of, user
from harness.swarm import Message

NOT_AUTHORIZED, TAKEN_OVER = 0x87, 0x8E
QUICK = '[state]\ndead_after = "1s"\n'


def bodies(client, n):
    return [bytes(client.messages.take().payload) for _ in range(n)]


class Instances(E2E):
    also_on_release = True

    def pair(self, more="", **options):
        return tuple(self.gateway(f"{more}", "--set", f"gateway.name={name}", **options) for name in ("one", "two"))

    def state(self, gw):
        return gw.admin("/api/status")[1]["state"]

    def assert_equal_indexes(self, *gateways):
        eventually(lambda: len({self.state(gw)["digest"] for gw in gateways}) == 1)


class Users(Instances):
    def test_a_client_identifier_belongs_to_its_user(self):
        one, two = self.pair("[users]\nmax_failures = 0\n" + user("alice", line_of(PASSWORD)) + user("bob", line_of(OTHER)))
        alice, bob = ({"user": name, "password": password} for name, password in (("alice", PASSWORD), ("bob", OTHER)))
        self.assert_equal_indexes(one, two)
        live = self.open(Peer(one.addresses["mqtt"], "hers", **alice))
        for expiry_s in (0, 300):  # let in, until the other instance says whose it is; and nothing is kept of it
            with self.subTest(expiry_s=expiry_s):
                his = self.open(Peer(two.addresses["mqtt"], "hers", session_expiry=expiry_s, **bob))
                self.assertEqual(his.next(m.DISCONNECT).reason, NOT_AUTHORIZED)
                self.assertIsNone(his.read())
                eventually(lambda: self.state(two)["sessions"] == 0)
        kept = self.open(Peer(two.addresses["mqtt"], "hers", session_expiry=300, **alice))
        self.assertEqual(live.next(m.DISCONNECT).reason, TAKEN_OVER)
        for expiry_s in (0, 300):
            self.open(Peer(one.addresses["mqtt"], "hers", refused=NOT_AUTHORIZED, session_expiry=expiry_s, **bob))
        self.assertEqual(kept.fence(), [])


class KeptSessions(Instances):
    def test_go_on_at_the_other_instance(self):
        one, two = self.pair()
        for kind, kept in ((Mqtt, {}), (Mqtt5, {"expiry_s": 3600})):
            for qos in (1, 2):
                with self.subTest(kind.__name__, qos=qos):
                    name = f"goes-on-{kind.__name__}-{qos}"
                    client = kind(one.addresses["mqtt"], name, clean=False, **kept)
                    client.subscribe(f"{name}/#", qos=qos)
                    publisher = self.open(Mqtt(two.addresses["mqtt"]))
                    publisher.publish(f"{name}/a", b"0", qos=qos)
                    self.assertEqual(bodies(client, 1), [b"0"])
                    client.close()
                    for i in range(1, 51):
                        publisher.publish(f"{name}/a", b"%d" % i, qos=qos)
                    client = self.open(kind(two.addresses["mqtt"], name, clean=False, **kept))
                    self.assertEqual(bodies(client, 50), [b"%d" % i for i in range(1, 51)])
                    publisher.publish(f"{name}/b", b"live", qos=qos)
                    self.assertEqual(bodies(client, 1), [b"live"])

    def test_are_taken_over_and_the_older_connection_is_told(self):
        one, two = self.pair()
        for older_at, newer_at in ((one, two), (one, one), (two, one)):
            for expiry_s in (0, 3600):
                name = f"taken-{older_at.port('mqtt')}-{newer_at.port('mqtt')}-{expiry_s}"
                with self.subTest(name):
                    older = Mqtt5(older_at.addresses["mqtt"], name, clean=False, expiry_s=expiry_s)
                    older.subscribe(f"{name}/#")
                    newer = self.open(Mqtt5(newer_at.addresses["mqtt"], name, clean=False, expiry_s=expiry_s))
                    self.assertEqual(older.ends.take(), TAKEN_OVER)
                    self.assertEqual(newer.is_present, expiry_s > 0)
                    newer.subscribe(f"{name}/#")
                    newer.publish(f"{name}/x", b"still here")
                    self.assertEqual(bodies(newer, 1), [b"still here"])
                    older.client.loop_stop()

    def test_survive_simultaneous_connects(self):
        one, two = self.pair()
        for turn in range(10):
            name, clients = f"both-{turn}", []

            def connect(gw):
                try:
                    clients.append(Mqtt5(gw.addresses["mqtt"], name, clean=False, expiry_s=3600))
                except (AssertionError, OSError):
                    pass  # taken over before its CONNACK

            threads = [threading.Thread(target=connect, args=(gw,)) for gw in (one, two, one, two)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            last = self.open(Mqtt5(one.addresses["mqtt"], name, clean=False, expiry_s=3600))
            self.assertTrue(last.is_present)
            for c in clients:
                c.ends.take()
                c.client.loop_stop()
            last.subscribe(f"{name}/#")
            last.publish(f"{name}/x", b"mine")
            self.assertEqual(bodies(last, 1), [b"mine"])

    def test_end_when_their_expiry_has_passed(self):
        one, two = self.pair()
        others = self.state(two)["sessions"]
        client = Mqtt5(one.addresses["mqtt"], "brief", clean=False, expiry_s=1)
        client.subscribe("brief/#")
        client.close()
        eventually(lambda: self.state(two)["sessions"] == others)
        again = self.open(Mqtt5(two.addresses["mqtt"], "brief", clean=False, expiry_s=1))
        self.assertFalse(again.is_present)

    def test_leave_their_will_to_the_living(self):
        one, two = self.pair(QUICK)
        one.must_exit = None
        watcher = self.open(Mqtt(two.addresses["mqtt"]))
        watcher.subscribe("will/#")
        kept = Mqtt5(one.addresses["mqtt"], "kept", clean=False, expiry_s=3600, will=("will/kept", b"gone", 1))
        one.kill()
        message = watcher.messages.take()
        self.assertEqual((message.topic, bytes(message.payload)), ("will/kept", b"gone"))
        kept.client.loop_stop()

    def test_publish_a_delayed_will_unless_the_client_comes_back(self):
        one, two = self.pair()
        watcher = self.open(Mqtt(two.addresses["mqtt"]))
        watcher.subscribe("will/#")
        for name in ("returns", "stays-away"):
            client = Mqtt5(one.addresses["mqtt"], name, clean=False, expiry_s=3600, will=(f"will/{name}", b"gone", 1), will_delay_s=2)
            client.drop()
        back = self.open(Mqtt5(two.addresses["mqtt"], "returns", clean=False, expiry_s=3600))
        self.assertTrue(back.is_present)
        self.assertEqual(watcher.messages.take().topic, "will/stays-away")
        self.assertEqual(watcher.messages.all(), [])

    def test_of_a_killed_instance_resume_at_the_other(self):
        one, two = self.pair(QUICK)
        one.must_exit = None
        swarm = self.open(Swarm([f"dev-{i}" for i in range(1000)]))
        swarm.connect([one.addresses["mqtt"]])
        swarm.subscribe(lambda m: f"dev/{m.name}")
        publisher = self.open(Swarm(["publisher"]))
        publisher.connect([two.addresses["mqtt"]], is_clean=True)
        source = publisher.members[0]

        def publish_round(number):
            ids = [publisher.publish(source, f"dev/{m.name}", b"%d" % number) for m in swarm.members]
            publisher.run(lambda: all((4, i) in source.answered for i in ids))

        publish_round(0)
        swarm.run(lambda: all(m.messages for m in swarm.members))
        for m in swarm.members[::2]:
            m.acks_n = 0  # has the next one, and never says so
        publish_round(1)
        swarm.run(lambda: all(len(m.messages) == 2 for m in swarm.members))
        one.signal(signal.SIGKILL)
        swarm.leave_all()
        publish_round(2)
        for m in swarm.members:
            m.acks_n = None
            m.messages.clear()
        swarm.connect([two.addresses["mqtt"]])
        self.assertTrue(all(m.is_present for m in swarm.members))
        swarm.run(lambda: all(m.messages and m.messages[-1].payload == b"2" for m in swarm.members))
        for m in swarm.members[::2]:
            # The last one may have been on its way to the dead instance as well.
            self.assertEqual([(p.payload, p.dup) for p in m.messages], [(b"1", True), (b"2", m.messages[-1].dup)], m.name)
        for m in swarm.members[1::2]:
            # Its acknowledgement may have died with the instance.
            self.assertEqual(m.messages[-1].payload, b"2")
            self.assertLessEqual({(p.payload, p.dup) for p in m.messages[:-1]}, {(b"1", True), (b"0", True)}, m.name)


class Retained(Instances):
    TOPICS, STEPS = 40, 10_000

    def test_cross_instances_and_survive_a_restart_of_all(self):
        one, two = self.pair()
        publisher = Mqtt(one.addresses["mqtt"])
        for i in range(10):
            publisher.publish(f"keep/{i}", b"%d" % i, retain=True)
        publisher.publish("keep/3", b"", retain=True)
        reader = Mqtt(two.addresses["mqtt"])
        reader.subscribe("keep/+")
        expected = {f"keep/{i}": b"%d" % i for i in range(10) if i != 3}
        self.assertEqual({m.topic: bytes(m.payload) for m in reader.messages.take_n(9)}, expected)
        self.assert_equal_indexes(one, two)
        publisher.close()
        reader.close()
        one.stop()
        two.stop()
        self.broker.halt()
        self.broker.boot()
        again = self.open(Mqtt(self.gateway().addresses["mqtt"]))
        again.subscribe("keep/#")
        messages = again.messages.take_n(9)
        self.assertEqual({m.topic: bytes(m.payload) for m in messages}, expected)
        self.assertTrue(all(m.retain for m in messages))

    def test_are_never_stale_whatever_comes_between(self):
        """Retain, clear and subscribe in random order, each at a random instance: whoever subscribes ends with the value that is."""
        random.seed(20)
        gateways = self.pair()
        swarm = self.open(Swarm([f"r{i}" for i in range(20)]))
        swarm.connect([gw.addresses["mqtt"] for gw in gateways], is_clean=True)
        writers = self.open(Swarm(["w0", "w1"]))
        writers.connect([gw.addresses["mqtt"] for gw in gateways], is_clean=True)
        values = {f"state/{i}": b"" for i in range(self.TOPICS)}
        under_way, following = {}, {m.name: set() for m in swarm.members}

        def settle(topic):
            if topic in under_way:
                writer, packet_id = under_way.pop(topic)
                writers.run(lambda: (4, packet_id) in writer.answered)
                writer.answered.discard((4, packet_id))

        def follow(m, topic):
            number = swarm.number(m)
            if topic in following[m.name]:
                following[m.name].discard(topic)
                # What comes after its UNSUBACK is for another subscription, which begins with knowing nothing.
                m.at_answer[(11, number)] = lambda: m.messages.append(Message(topic, b"", 0, False, False, 0))
                m.socket.sendall(wire.mqtt_unsubscribe(number, topic))
            else:
                following[m.name].add(topic)
                m.socket.sendall(wire.mqtt_subscribe(number, topic, qos=1))

        for step in range(self.STEPS):
            topic = f"state/{random.randrange(self.TOPICS)}"
            if random.random() < 0.5:
                settle(topic)  # one writer at a time: two at once have no order that all of RabbitMQ's queues agree on
                values[topic] = b"" if random.random() < 0.3 else b"%d" % step
                writer = random.choice(writers.members)
                if writer.next_id > 60_000:
                    writer.next_id = 1
                under_way[topic] = writer, writers.publish(writer, topic, values[topic], retain=True)
            else:
                follow(random.choice(swarm.members), topic)
            if step % 50 == 0:
                swarm.turn()
        for topic in list(under_way):
            settle(topic)
        for m in swarm.members:  # a last word to everybody, behind all that is on its way
            m.fence = swarm.number(m)
            m.socket.sendall(wire.mqtt_subscribe(m.fence, "fence", qos=1))
        swarm.run(lambda: all((9, m.fence) in m.answered for m in swarm.members))
        for n, writer in enumerate(writers.members):
            writers.publish(writer, "fence", b"end%d" % n)
        swarm.run(lambda: all(sum(x.topic == "fence" for x in m.messages) == 2 for m in swarm.members))

        def stale():
            for m in swarm.members:
                last = {x.topic: x.payload for x in m.messages}
                for topic in following[m.name]:
                    if last.get(topic, b"") != values[topic]:
                        yield m.name, topic, last.get(topic), values[topic]

        swarm.run(lambda: not any(True for _ in stale()))
        self.assertEqual(list(stale()), [])
        self.assert_equal_indexes(*gateways)


class Compaction(Instances):
    """The log is as small as allowed, and what was written only once has to be copied on and on."""
    LIMIT = 4 << 20
    SMALL = f'[state]\nmax_bytes = "{LIMIT >> 20}MiB"\ndead_after = "1s"\n'
    LASTING, CHANGING, BODY_N = 50, 50, 2000

    def log_bytes(self):
        folders = (self.broker.folder / "data").rglob("stream/*headgate*")
        return sum(f.stat().st_size for folder in folders for f in folder.rglob("*.segment"))

    def test_keeps_the_log_bounded_and_all_indexes_equal(self):
        one, two = self.pair(self.SMALL)
        lasting = self.open(Mqtt(one.addresses["mqtt"]))
        for i in range(self.LASTING):
            lasting.publish(f"lasting/{i}", b"%d" % i, retain=True)
        writers = self.open(Swarm(["w0", "w1"]))
        writers.connect([one.addresses["mqtt"], two.addresses["mqtt"]], is_clean=True)

        def write_rounds(n, members):
            """A third of the log's limit a round and writer."""
            for round_number in range(n):
                for m in members:
                    for _ in range(self.LIMIT // self.BODY_N // self.CHANGING // 3):
                        ids = [writers.publish(m, f"changing/{m.name}/{i}", b"%06d" % round_number + b"." * self.BODY_N, retain=True)
                               for i in range(self.CHANGING)]
                        writers.run(lambda ids=ids, m=m: all((4, i) in m.answered for i in ids))
                        m.answered.clear()
                        m.next_id = 1 if m.next_id > 60_000 else m.next_id

        write_rounds(6, writers.members)
        leader, other = (one, two) if self.state(one)["leader"] else (two, one)
        self.assertTrue(self.state(leader)["leader"])
        leader.must_exit = None
        left = writers.members[1] if leader is one else writers.members[0]
        leader.signal(signal.SIGKILL)
        eventually(lambda: self.state(other)["leader"])
        write_rounds(12, [left])
        third = self.gateway(self.SMALL, "--set", "gateway.name=three")
        self.assert_equal_indexes(other, third)
        reader = self.open(Mqtt(third.addresses["mqtt"]))
        reader.subscribe("lasting/+")
        got = {m.topic: bytes(m.payload) for m in reader.messages.take_n(self.LASTING)}
        self.assertEqual(got, {f"lasting/{i}": b"%d" % i for i in range(self.LASTING)})
        self.assertLess(self.log_bytes(), 3 * self.LIMIT)
        self.assertGreater(self.state(other)["offset"], 1000)
