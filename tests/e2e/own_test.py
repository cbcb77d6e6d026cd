# SPDX-License-Identifier: Apache-2.0
"""Users whose messages go over connections of their own ([users] own_connection): RabbitMQ's permissions bind them."""
import json
import signal
import threading
import unittest

from harness import Consumer, E2E, Gateway, Stomp, WebSocket, eventually, http, raw
from harness import mqtt5 as m
from harness.gateway import config_text
from harness.peer import Peer
from harness.people import EVERYTHING, basic

WORDS = {name: f"{name}s word" for name in ("alice", "bob", "carol", "dave")}
OWN = """
[users]
broker = true
own_connection = true
own_connection_idle = "1s"
max_failures = 0
[mqtt]
denied = "close"
[http]
stream_from = "64KiB"
"""
EVERY_QUEUE = """
[[access]]
queue = "*"
publish = ["*"]
subscribe = ["*"]
configure = ["*"]
"""
RULE = """
[[rule]]
name = "new"
topic = "new/{x}"
exchange = "amq.topic"
key = "ok.{x}"
allow = { publish = ["*"], subscribe = ["*"] }
[[rule]]
name = "late"
topic = "late/{x}"
exchange = "amq.direct"
key = "{x}"
allow = { publish = ["*"], subscribe = ["*"] }
"""


def body(message):
    """As text, whoever the client was."""
    return message.body if isinstance(message.body, str) else message.body.decode()


class Own(E2E):
    """By RabbitMQ: alice may everything under her own names, and publish and read amq.topic; bob may only read that, carol only publish;
    dave may publish what is called ok.*. By the gateway everybody may everything."""

    more = OWN
    options = {"workers": 1}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, word in WORDS.items():
            cls.users("add_user", name, word)
        cls.may("alice", write="amq[.](topic|direct|default)", read="amq[.](topic|direct)")
        cls.may("bob", read="amq[.]topic")
        cls.carol_may_publish()
        cls.allow("dave", "^$", "^amq[.]topic$", "^$")
        cls.users("set_topic_permissions", "dave", cls.vhost, "amq.topic", "^ok[.].*$", "^$")
        cls.gw = Gateway(config_text(cls.amqp, cls.more + EVERYTHING + EVERY_QUEUE, **cls.options)).start()
        cls.mqtt, cls.stomp, cls.web = (cls.gw.addresses[serve] for serve in ("mqtt", "stomp", "web"))

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        for name in WORDS:
            cls.users("delete_user", name)
        super().tearDownClass()

    @classmethod
    def users(cls, act, *texts):
        """As rabbitmqctl does it, in no time."""
        binaries = ", ".join(f'<<"{text}">>' for text in (*texts, "e2e"))
        cls.broker.eval(f"rabbit_auth_backend_internal:{act}({binaries}).")

    @classmethod
    def may(cls, name, write="$", read="$"):
        """What docs/identities.md tells to permit, and more."""
        base = f"headgate[.]user[.]{name}[.].*|mqtt-subscription-.*|{name}-.*"
        cls.allow(name, f"^({base})$", f"^({base}|{write})$", f"^({base}|{read})$")

    @classmethod
    def carol_may_publish(cls):
        cls.allow("carol", "^$", "^amq[.]topic$", "^$")

    @classmethod
    def allow(cls, name, configure, write, read):
        cls.users("set_permissions", name, cls.vhost, configure, write, read)

    def peer(self, name, level=5, word=None, **options):
        return self.open(Peer(self.mqtt, level=level, user=name, password=(word or WORDS[name]).encode(), **options))

    def stomp_client(self, name):
        return self.open(Stomp(self.stomp, login=name, passcode=WORDS[name]))

    def post(self, name, path="/v1/topics/t/a", body=b"x"):
        return http(self.web, "POST", path, body, basic(name, WORDS[name]))

    def links(self, name):
        """How many connections this user has in RabbitMQ."""
        return int(self.broker.eval(f'length(rabbit_connection_tracking:list_of_user(<<"{name}">>)).'))

    def wait_links(self, name, number):
        """Until there are so many. A login has one of its own while RabbitMQ is asked whether it is good."""
        eventually(lambda: self.assertEqual(self.links(name), number) or True)

    def cut(self, name):
        """RabbitMQ ends them."""
        self.broker.eval(f'rabbit_networking:close_all_user_connections(<<"{name}">>, "test").')

    def realms(self):
        return self.gw.metric("headgate_own_realms")


class Matrix(Own):
    def publishes(self, name, protocol, topic):
        if protocol.startswith("mqtt"):
            try:
                return self.peer(name, int(protocol[-1])).publish(topic, b"m") == 0
            except AssertionError:
                return False  # 3.1.1 has no other way to say no
        if protocol == "stomp":
            client = self.stomp_client(name)
            client.connection.send("/exchange/amq.topic/" + topic.replace("/", "."), b"m", headers={"receipt": "r"})
            eventually(lambda: client.receipts.items or client.errors.items)
            return not client.errors.items
        return self.post(name, f"/v1/topics/{topic}", b"m")[0] == 202

    def test_what_rabbitmq_permits_is_done_and_nothing_else(self):
        seen = self.open(Consumer(self.amqp))
        seen.bind("amq.topic", "#")
        done = []
        for protocol in ("mqtt4", "mqtt5", "stomp", "http"):
            for name, topics in (("alice", ("t/a",)), ("bob", ()), ("carol", ("t/a",)), ("dave", ("ok/a",))):
                for topic in ("t/a", "ok/a"):
                    may = topic in topics or name in ("alice", "carol")
                    with self.subTest(protocol=protocol, user=name, topic=topic):
                        self.assertEqual(self.publishes(name, protocol, topic), may)
                        done += [topic.replace("/", ".")] * may
        self.assertEqual([seen.take()[0].routing_key for _ in done], done)


    def subscribes(self, name, protocol):
        """Whether it may, and then gets what somebody publishes."""
        if protocol.startswith("mqtt"):
            client = self.peer(name, int(protocol[-1]))
            may = client.subscribe(("s/+", 1))[0] == 1
            take = lambda: client.message().body  # noqa: E731
        elif protocol == "stomp":
            client = self.stomp_client(name)
            client.connection.subscribe("/exchange/amq.topic/s.*", id="0", headers={"receipt": "r"})
            eventually(lambda: client.receipts.items or client.errors.items)
            may = not client.errors.items
            take = lambda: client.messages.take().body  # noqa: E731
        else:
            head = "".join(f"{k}: {v}\r\n" for k, v in basic(name, WORDS[name]).items())
            with raw(self.web, f"GET /v1/topics/s/+ HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n{head}\r\n".encode()) as client:
                status = int(client.read_until(b"\r\n").split()[1])
                self.assertIn(status, (200, 403))
                if status == 200:
                    self.broker_publish("s.a", b"seen")
                    client.read_until(b"data: seen")
                return status == 200
        if may:
            self.broker_publish("s.a", b"seen")
            self.assertIn(take(), (b"seen", "seen"))
        return may

    def broker_publish(self, key, body):
        """By guest, beside the gateway."""
        Matrix.seen.publish("amq.topic", key, body)

    def test_what_may_be_read_is_read_and_nothing_else(self):
        Matrix.seen = self.open(Consumer(self.amqp))
        for protocol in ("mqtt4", "mqtt5", "stomp", "http"):
            for name, may in (("alice", True), ("bob", True), ("carol", False), ("dave", False)):
                with self.subTest(protocol=protocol, user=name):
                    self.assertEqual(self.subscribes(name, protocol), may)


class Life(Own):
    def test_many_clients_share_one_users_connections_until_nobody_is_left(self):
        eventually(lambda: self.realms() == 0)
        opened = self.gw.metric("headgate_own_realms_opened_total")
        clients = [self.peer("alice", level) for level in (4, 5) * 10]
        for at, client in enumerate(clients):
            self.assertEqual(client.subscribe((f"c/{at}", 1)), [1])
        stomp = self.stomp_client("alice")
        self.assertEqual(self.post("alice", "/v1/topics/c/3")[0], 202)
        self.assertEqual(clients[3].message().body, b"x")
        self.wait_links("alice", 2)  # one publishes, one is the feed
        self.assertEqual(self.realms(), 1)
        self.assertEqual(self.gw.metric("headgate_own_realms_opened_total"), opened + 1)
        self.assertEqual(self.queues("headgate.user.alice.feed."), 1)
        stomp.close()
        for client in clients:
            client.leave()
        eventually(lambda: self.realms() == 0)
        self.wait_links("alice", 0)
        self.assertEqual(self.queues("headgate.user.alice."), 0)

    def queues(self, prefix):
        return int(self.broker.eval(f'length([Q || Q <- rabbit_amqqueue:list(<<"{self.vhost}">>), '
                                    f'string:prefix(element(4, amqqueue:get_name(Q)), <<"{prefix}">>) =/= nomatch]).'))

    def test_a_refused_publish_takes_nobody_elses_along(self):
        """dave's flood of what he may not publish, and his other client's that he may."""
        seen = self.open(Consumer(self.amqp))
        seen.bind("amq.topic", "ok.#")
        bad, good = self.peer("dave"), self.peer("dave")
        for n in range(1, 21):
            bad.send(m.publish(f"no/{n}", b"x", 1, n))
            self.assertEqual(good.publish("ok/a", b"%d" % n), 0)
        self.assertEqual([bad.take(m.PUBACK, n).reason for n in range(1, 21)], [0x87] * 20)
        came = []
        while b"20" not in came:  # what was unconfirmed when RabbitMQ closed the channel comes twice
            body = seen.take()[2]
            came += [body] * (body not in came)
        self.assertEqual(came, [b"%d" % n for n in range(1, 21)])

    def test_a_wrong_password_does_not_enter_what_is_open(self):
        alice = self.peer("alice")
        self.peer("alice", word="wrong", refused=0x86)
        self.assertEqual(http(self.web, "POST", "/v1/topics/a", b"x", basic("alice", "wrong"))[0], 401)
        self.assertEqual(alice.publish("a", b"x"), 0)

    def test_a_feed_that_was_refused_is_asked_for_again(self):
        carol = self.peer("carol")
        self.assertEqual(carol.subscribe(("f/a", 1)), [0x87])
        self.may("carol", write="amq[.]topic", read="amq[.]topic")
        try:
            self.assertEqual(carol.subscribe(("f/a", 1)), [1])
            self.assertEqual(carol.publish("f/a", b"x"), 0)
            self.assertEqual(carol.message().body, b"x")
        finally:
            self.carol_may_publish()

    def test_queues_and_groups_and_kept_sessions_are_the_users(self):
        alice = self.peer("alice", client_id="kept", clean=False, session_expiry=100)
        self.assertEqual(alice.subscribe(("k/a", 1)), [1])
        alice.leave()
        self.assertEqual(self.peer("alice").publish("k/a", b"kept"), 0)
        self.assertEqual(self.peer("alice", client_id="kept", clean=False, session_expiry=0).message().body, b"kept")
        one, bob = self.peer("alice"), self.peer("bob")
        self.assertEqual(one.subscribe(("$share/g/g/a", 1)), [1])
        self.assertEqual(bob.subscribe(("$share/g/g/a", 1)), [1])  # a group is of one user
        self.assertEqual(one.publish("g/a", b"both"), 0)
        self.assertEqual((one.message().body, bob.message().body), (b"both", b"both"))
        for name, may in (("alice", True), ("bob", False)):
            stomp = self.stomp_client(name)
            stomp.connection.subscribe("/queue/alice-jobs", id="0", ack="client", headers={"receipt": "r"})
            eventually(lambda: stomp.receipts.items or stomp.errors.items)
            self.assertEqual(not stomp.errors.items, may)

    def test_messages_are_leased_over_the_users_connection(self):
        stomp = self.stomp_client("alice")
        stomp.subscribe("/queue/alice-pull")
        stomp.unsubscribe()
        stomp.send("/queue/alice-pull", b"one")
        pull = lambda name: http(self.web, "POST", "/v1/queues/alice-pull/lease", None, {"Accept": "application/json", **basic(name, WORDS[name])})  # noqa: E731
        self.assertEqual(pull("bob")[0], 403)
        status, _, body = pull("alice")
        self.assertEqual(status, 200)
        lease = json.loads(body)["messages"][0]["lease"]
        self.assertEqual(http(self.web, "POST", "/v1/queues/alice-pull/ack", json.dumps({"leases": [lease]}).encode(),
                              basic("alice", WORDS["alice"]))[0], 200)

    def test_large_bodies_and_calls(self):
        seen = self.open(Consumer(self.amqp))
        seen.bind("amq.topic", "large.#")
        body = b"0123456789abcdef" * 8192
        self.assertEqual(self.post("bob", "/v1/topics/large/a", body)[0], 403)
        self.assertEqual(self.post("alice", "/v1/topics/large/a", body)[0], 202)
        self.assertEqual(seen.take()[2], body)
        self.assertEqual(self.post("bob", "/v1/rpc/large/call", b"?")[0], 403)
        answers = []
        caller = threading.Thread(target=lambda: answers.append(self.post("alice", "/v1/rpc/large/call", b"?")))
        caller.start()
        _, properties, _ = seen.take()
        seen.publish("", properties.reply_to, b"!", correlation_id=properties.correlation_id)
        caller.join()
        self.assertEqual((answers[0][0], answers[0][2]), (200, b"!"))

    def test_a_websocket_that_logged_in_at_its_handshake(self):
        for name, outcome in (("alice", 0), ("bob", 0x87)):
            client = self.open(WebSocket(self.web, "/mqtt", ("mqtt",), basic(name, WORDS[name])))
            client.send_frame(client.BINARY, m.connect())
            self.assertEqual(m.decode(client.read_message()[1], 5)[0].reason, 0)
            client.send_frame(client.BINARY, m.publish("ws/a", b"x", 1, 1, level=5))
            self.assertEqual(m.decode(client.read_message()[1], 5)[0].reason, outcome)

    def test_what_is_retained_needs_the_right_to_read(self):
        alice = self.peer("alice")
        self.assertEqual(alice.publish("r/a", b"kept", retain=True), 0)
        self.assertEqual(self.peer("bob").publish("r/b", b"not", retain=True), 0x87)
        bob, carol = self.peer("bob"), self.peer("carol")
        self.assertEqual(bob.subscribe(("r/+", 1)), [1])
        self.assertEqual(bob.message().body, b"kept")
        self.assertEqual(carol.subscribe(("r/+", 1)), [0x87])
        self.assertEqual([p for p in carol.fence() if p.kind == m.PUBLISH], [])
        self.assertEqual([p for p in bob.fence() if p.kind == m.PUBLISH], [])

    def test_a_will_goes_over_the_users_connection(self):
        bob = self.peer("bob")
        self.assertEqual(bob.subscribe(("w/+", 1)), [1])
        self.peer("bob", will=m.Will("w/bob", b"forbidden", qos=1)).drop()
        self.peer("alice", will=m.Will("w/alice", b"gone", qos=1)).drop()
        self.assertEqual(bob.message().body, b"gone")
        self.peer("alice", will=m.Will("w/alice", b"later", will_delay=5), session_expiry=100, refused=0x87)


class Ends(Own):
    """Where RabbitMQ changes its mind; each with users of its own."""

    def test_who_is_not_let_in_again_is_told_so(self):
        peers = [self.peer("alice", level) for level in (5, 4)]
        self.assertEqual(peers[0].subscribe(("e/a", 1)), [1])
        self.users("change_password", "alice", "another word")
        self.assertEqual(peers[0].publish("e/a", b"x"), 0)  # what is open stays open
        self.cut("alice")
        self.assertEqual((peers[0].reason(), peers[1].reason()), (0x87, None))
        self.gw.wait_log("own.refused", user="alice")
        self.peer("alice", refused=0x86)
        again = self.peer("alice", word="another word")
        self.assertEqual(again.publish("e/a", b"x"), 0)
        eventually(lambda: self.realms() == 1)
        self.users("change_password", "alice", WORDS["alice"])

    def test_a_later_password_is_the_one_that_counts(self):
        first = self.peer("bob")
        self.assertEqual(first.subscribe(("e/b", 1)), [1])
        self.users("change_password", "bob", "another word")
        second = self.peer("bob", word="another word")
        self.wait_links("bob", 2)
        self.cut("bob")
        self.gw.wait_log("rabbitmq.lost")
        self.wait_links("bob", 2)
        self.assertEqual(second.subscribe(("e/b", 1)), [1])
        http(self.web, "POST", "/v1/topics/e/b", b"x", basic("alice", WORDS["alice"]))
        self.assertEqual((first.message().body, second.message().body), (b"x", b"x"))
        self.users("change_password", "bob", WORDS["bob"])

    def test_a_later_password_counts_on_every_worker(self):
        gw = self.gateway(OWN + EVERYTHING, workers=2)
        peer = lambda word: self.open(Peer(gw.addresses["mqtt"], user="dave", password=word.encode()))  # noqa: E731
        peers = []
        while gw.metric("headgate_own_realms") < 2:  # the kernel spreads connections by a hash of their ports
            peers.append(peer(WORDS["dave"]))
        self.users("change_password", "dave", "another word")
        self.addCleanup(self.users, "change_password", "dave", WORDS["dave"])
        peers.append(peer("another word"))
        self.wait_links("dave", 2)
        self.cut("dave")
        for _ in range(2):
            gw.wait_log("rabbitmq.lost")
        self.wait_links("dave", 2)
        self.assertEqual([p.publish("ok/a", b"x") for p in peers], [0] * len(peers))
        self.assertEqual(gw.metric("headgate_own_realms_refused_total"), 0)

    def test_what_is_not_permitted_any_more(self):
        everything = {"write": "amq[.]topic", "read": "amq[.]topic"}
        eventually(lambda: self.realms() == 0)  # what RabbitMQ has permitted a channel it does not look up at once again
        self.may("carol", **everything)
        peers, stomp = [self.peer("carol", level) for level in (5, 4)], self.stomp_client("carol")
        for peer in peers:
            self.assertEqual(peer.subscribe(("e/c", 1)), [1])
        stomp.subscribe("/exchange/amq.topic/e.c")
        guest = self.open(Consumer(self.amqp))
        self.addCleanup(self.carol_may_publish)
        self.allow("carol", "^$", "^$", "^$")
        self.assertEqual(peers[0].publish("e/c", b"x"), 0x87)
        other = self.stomp_client("carol")
        other.connection.subscribe("/exchange/amq.direct/e.c", id="0", headers={"receipt": "r"})
        other.errors.take()
        guest.publish("amq.topic", "e.c", b"what is bound stays bound")
        self.assertEqual({body(c.message()) for c in peers} | {body(stomp.messages.take())}, {"what is bound stays bound"})
        self.may("carol", **everything)
        self.assertEqual(peers[0].subscribe(("e/d", 1)), [1])
        eventually(lambda: peers[0].publish("e/d", b"again") == 0)  # a refusal is believed for a second
        self.assertEqual(body(peers[0].message()), "again")
        self.may("carol", write="amq[.]topic")  # not to read it any more; which is found when it is to be bound again
        self.cut("carol")
        self.assertEqual((peers[0].reason(), peers[1].reason()), (0x87, None))
        stomp.errors.take()
        self.assertIn("amq.topic", self.gw.wait_log("own.refused", user="carol")["reason"])
        again = self.peer("carol")
        self.assertEqual(again.subscribe(("e/c", 1)), [0x87])
        self.may("carol", **everything)
        self.assertEqual(again.subscribe(("e/c", 1)), [1])

    def test_one_user_too_many_may_try_later(self):
        gw = self.gateway(OWN.replace("max_failures", "own_connections_max = 1\nmax_failures") + EVERYTHING, workers=1)
        peer = lambda name, **options: self.open(Peer(gw.addresses["mqtt"], user=name, password=WORDS[name].encode(), **options))  # noqa: E731
        first = peer("carol")
        peer("dave", refused=0x89)
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/a", b"x", basic("dave", WORDS["dave"]))[0], 503)
        peer("carol")
        self.assertEqual(gw.metric("headgate_limit_refusals_total", limit="users.own_connections_max"), 2)
        first.leave()

    def test_draining_waits_for_what_is_under_way(self):
        gw = self.gateway(OWN + EVERYTHING, workers=2)
        seen = self.open(Consumer(self.amqp))
        seen.bind("amq.topic", "drain")
        peers = [self.open(Peer(gw.addresses["mqtt"], user="carol", password=WORDS["carol"].encode())) for _ in range(8)]
        for peer in peers:
            peer.send(m.publish("drain", b"x", 1, 1))
            peer.take(m.PUBACK)
        gw.signal(signal.SIGTERM)
        self.assertEqual({peer.reason() for peer in peers}, {0x8B})
        self.assertEqual(gw.wait(), 0)
        self.assertEqual(len(seen.take_n(8)), 8)

    def test_a_reload_ends_who_came_in_the_other_way(self):
        before = OWN.replace("own_connection = true", "own_connection = false") + EVERYTHING
        gw = self.gateway(before, workers=1)
        dave = self.open(Peer(gw.addresses["mqtt"], user="dave", password=WORDS["dave"].encode()))
        self.assertEqual(dave.publish("no/a", b"by the gateway"), 0)
        gw.file.write_text(config_text(self.amqp, OWN + EVERYTHING, workers=1))
        gw.signal(signal.SIGHUP)
        self.assertEqual(dave.reason(), 0x87)
        dave = self.open(Peer(gw.addresses["mqtt"], user="dave", password=WORDS["dave"].encode()))
        self.assertEqual(dave.publish("no/a", b"by himself"), 0x87)
        gw.file.write_text(config_text(self.amqp, OWN + RULE + EVERYTHING, workers=1))
        gw.signal(signal.SIGHUP)  # the rules of his realm are the new ones
        eventually(lambda: dave.publish("new/a", b"x") == 0)
        # What is retained at an exchange that the log is not bound to takes two publishes: the user's own decides.
        alice = self.open(Peer(gw.addresses["mqtt"], user="alice", password=WORDS["alice"].encode()))
        self.assertEqual(dave.publish("late/b", b"not", retain=True), 0x87)
        self.assertEqual(alice.publish("late/a", b"kept", retain=True), 0)
        self.assertEqual(alice.subscribe(("late/a", 1), ("late/b", 1)), [1, 1])
        self.assertEqual(alice.message().body, b"kept")
        self.assertEqual([p for p in alice.fence() if p.kind == m.PUBLISH], [])


if __name__ == "__main__":
    unittest.main()
