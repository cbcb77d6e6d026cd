# SPDX-License-Identifier: Apache-2.0
"""Who may do what: every kind of identity, every protocol, every action, generated; RabbitMQ sees nothing that is denied."""
import collections
import itertools
import json
import shutil
import unittest

from harness import Consumer, E2E, Stomp, eventually, headgate, http, raw
from harness import mqtt5 as m
from harness.certificates import Authority
from harness.clients import Secured
from harness.gateway import Gateway, config_text
from harness.peer import Peer
from harness.people import PASSWORD, basic, line_of, user
from harness.tokens import Issuer
from harness.wire import stomp

RULES = """
[[rule]]
name = "secret"
topic = "secret/{x...}"
exchange = "amq.topic"
key = "secret.{x...}"
allow = { publish = ["writer"], subscribe = ["reader"] }
[[rule]]
name = "own"
topic = "user/{user}/{x...}"
exchange = "amq.topic"
key = "user.{user}.{x...}"
allow = { publish = ["*"], subscribe = ["*"] }
[[rule]]
name = "site"
topic = "site/{claim.site}/{x}"
exchange = "amq.topic"
key = "site.{claim.site}.{x}"
allow = { publish = ["*"], subscribe = ["*"] }
[[queue]]
name = "log"
type = "stream"
bindings = [{ exchange = "amq.topic", key = "log.#" }]
[[rule]]
name = "log"
topic = "log/{claim.site}/{x}"
exchange = "amq.topic"
key = "log.{claim.site}.{x}"
replay = "log"
allow = { publish = [], subscribe = ["*"] }
[[rule]]
name = "client"
topic = "client/{client_id}/{x}"
exchange = "amq.topic"
key = "client.{client_id}.{x}"
allow = { publish = ["*"], subscribe = ["writer"] }
[[access]]
exchange = "amq.topic"
key = "open.#"
publish = ["writer"]
subscribe = ["reader"]
[[access]]
queue = "jobs*"
publish = ["writer"]
subscribe = ["reader"]
configure = ["writer", "reader"]
"""
Who = collections.namedtuple("Who", "name secret user roles claims tls", defaults=(None,))


class Permissions(E2E):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.issuer = Issuer()
        cls.authority = Authority()
        cert, key = cls.authority.make("localhost", "DNS:localhost", "IP:127.0.0.1")
        secured = "".join(f'[[listener]]\nserve = "{serve}"\nbind = "127.0.0.1:0"\n'
                          f'tls = {{ cert = "{cert}", key = "{key}", client_ca = "{cls.authority.ca}" }}\n' for serve in ("mqtt", "stomp", "web"))
        cls.broker.ctl("add_user", "erin", "erins password")
        cls.broker.ctl("set_permissions", "-p", cls.vhost, "erin", "^$", "^$", "^$")  # it only judges
        line = line_of(PASSWORD)
        users = user("writer", line, "writer") + user("reader", line, "reader") + user("device", None, "writer")
        cls.text = config_text(cls.amqp, f"""
[users]
anonymous = "loopback"
max_failures = 0
token = {{ secrets = ["{cls.issuer.secret}"], audience = "headgate" }}
certificate = "common_name"
broker = true
broker_roles = ["reader"]
[mqtt]
sys_roles = ["reader"]
{secured}{users}""" + RULES)
        cls.gw = Gateway(cls.text).start()
        carol = cls.issuer.token("carol", roles=["writer"], site="north")
        cls.people = [
            Who("writer", PASSWORD, "writer", {"writer"}, {}),
            Who("reader", PASSWORD, "reader", {"reader"}, {}),
            Who("token", carol, "carol", {"writer"}, {"site": "north"}),
            Who("anonymous", None, "", set(), {}),
            Who("certificate", None, "device", {"writer"}, {}, cls.authority.client(*cls.authority.make("device"))),
            Who("broker", "erins password", "erin", {"reader"}, {}),
        ]
        cls.numbers = itertools.count(1)

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        cls.broker.ctl("delete_user", "erin")
        cls.issuer.close()
        cls.authority.close()
        super().tearDownClass()

    # ---- What is right

    @staticmethod
    def may(who, action, address):
        """By the rules above."""
        first, *rest = address.split("/")
        if first == "secret":
            return ("writer" if action == "publish" else "reader") in who.roles
        if first == "user" and rest:
            return who.user != "" and rest[0] in ("+", "#", who.user)
        if first == "site" and len(rest) == 2:
            return "site" in who.claims and rest[0] in ("+", who.claims["site"])
        return False

    # ---- Clients

    def address(self, who, serve):
        """Certificates are shown to listeners of their own."""
        return self.gw.addresses[serve] if who.tls is None else Secured(("localhost", self.gw.port(serve + ".2")), who.tls)

    def mqtt(self, who, level=5, client_id="", **options):
        said = {} if who.secret is None else {"user": who.user, "password": who.secret.encode()}
        return self.open(Peer(self.address(who, "mqtt"), client_id or f"p{next(self.numbers)}", level, **said, **options))

    def stomp_frames(self, who, *frames):
        """What is answered to these and a last one with a receipt."""
        said = {} if who.secret is None else {"login": who.user, "passcode": who.secret}
        first = stomp("CONNECT", {"accept-version": "1.2", "host": "/", **said}) + b"".join(frames)
        with raw(self.address(who, "stomp"), first + stomp("DISCONNECT", {"receipt": "bye"})) as client:
            answer = client.read_to_end().decode()
        self.assertTrue(answer.startswith("CONNECTED"), answer)
        return answer

    def http(self, who, method, path, body=None, headers=None):
        return http(self.address(who, "web"), method, path, body,
                    {**(headers or {}), **({} if who.secret is None else basic(who.user, who.secret))})

    # ---- By protocol: whether it was permitted

    def publish_mqtt5(self, who, address, body):
        reasons = [self.mqtt(who).publish(address, body, qos=qos) for qos in (1, 2)]
        self.assertEqual(reasons[0] in (0, 0x10), reasons[1] in (0, 0x10))
        self.assertIn(reasons[0], (0, 0x10, 0x87))
        return reasons[0] != 0x87

    def publish_mqtt3(self, who, address, body):
        """It has no word for it: RabbitMQ's side shows."""
        self.mqtt(who, level=4).publish(address, body)

    def publish_will(self, who, address, body):
        allowed = self.may(who, "publish", address)
        peer = self.mqtt(who, refused=None if allowed else 0x87, will=m.Will(address, body))
        if allowed:
            peer.drop()
        return allowed

    def publish_stomp(self, who, address, body):
        answer = self.stomp_frames(who, stomp("SEND", {"destination": "/" + address, "receipt": "r"}, body))
        self.assertEqual("RECEIPT\nreceipt-id:r\n" in answer, "ERROR" not in answer, answer)
        return "ERROR" not in answer

    def publish_stomp_transaction(self, who, address, body):
        answer = self.stomp_frames(who, stomp("BEGIN", {"transaction": "t"}),
                                   stomp("SEND", {"destination": "/" + address, "transaction": "t"}, body),
                                   stomp("COMMIT", {"transaction": "t", "receipt": "r"}))
        return "ERROR" not in answer

    def publish_http(self, who, address, body):
        status = self.http(who, "POST", "/v1/topics/" + address, body)[0]
        self.assertIn(status, (202, 204, 403))
        return status != 403

    def publish_batch(self, who, address, body):
        line = json.dumps({"address": address, "body": body.decode()}).encode() + b"\n"
        status, _, answer = self.http(who, "POST", "/v1/topics", line, {"Content-Type": "application/x-ndjson"})
        self.assertEqual(status // 100, 2, answer)
        return b"NOT_ALLOWED" not in answer

    def test_publishing(self):
        everything = self.open(Consumer(self.amqp))
        everything.bind("amq.topic", "#")
        addresses = ("secret/a", "secret", "user/writer/a", "user/reader/a", "user//a", "user/carol/b/c", "user/device/a", "user/erin/a",
                     "site/north/1", "site/south/1", "site/north", "elsewhere", "open/a", "amq/x")
        ways = [self.publish_mqtt5, self.publish_mqtt3, self.publish_will, self.publish_stomp, self.publish_stomp_transaction,
                self.publish_http, self.publish_batch]
        permitted = collections.Counter()
        for who, way, address in itertools.product(self.people, ways, addresses):
            if address == "user//a" and way in (self.publish_http, self.publish_batch):
                continue
            body = f"{who.name} {way.__name__} {address}"
            with self.subTest(body):
                may = self.may(who, "publish", address)
                self.assertIn(way(who, address, body.encode()), (may, None))
                permitted[body] += may * (2 if way == self.publish_mqtt5 else 1)
        permitted = +permitted
        seen = collections.Counter(everything.take()[2].decode() for _ in range(permitted.total()))
        self.assertEqual(seen, permitted)
        everything.publish("amq.topic", "last", b"last")
        self.assertEqual(everything.take()[2], b"last")  # and nothing else

    def test_subscribing(self):
        filters = ("secret/a", "secret/#", "user/writer/a", "user/+/a", "user/carol/#", "user/reader", "site/+/1", "site/south/1",
                   "site/north/+", "elsewhere", "open/+")
        for who, address in itertools.product(self.people, filters):
            may = self.may(who, "subscribe", address)
            with self.subTest(who=who.name, filter=address):
                for level, refusal in ((5, 0x87), (4, 0x80)):
                    self.assertEqual(self.mqtt(who, level).subscribe((address, 1)), [1 if may else refusal])
                self.assertEqual(self.mqtt(who).subscribe((f"$share/g{who.name}/{address}", 1)), [1 if may else 0x87])
                star = address.replace("+", "*")
                for ack in ("auto", "client"):
                    answer = self.stomp_frames(who, stomp("SUBSCRIBE", {"destination": "/" + star, "id": "1", "ack": ack}))
                    self.assertEqual("ERROR" in answer, not may, answer)
                path = "/v1/topics/" + star.replace("#", "%23")
                status = self.http(who, "HEAD", path, headers={"Accept": "text/event-stream"})[0]
                self.assertEqual(status, 200 if may else 403)

    def test_the_gateways_own_values(self):
        for who, (level, refusal) in itertools.product(self.people, ((5, 0x87), (4, 0x80))):
            with self.subTest(who=who.name, level=level):
                may = "reader" in who.roles
                peer = self.mqtt(who, level)
                self.assertEqual(peer.subscribe(("$SYS/broker/uptime", 0)), [0 if may else refusal])
                if may:
                    self.assertEqual(peer.next(m.PUBLISH).topic, "$SYS/broker/uptime")

    def test_a_wildcard_shows_what_is_permitted_and_nothing_else(self):
        keys = ["secret.a", "secret.b.c", "user.writer.a", "user.reader.a", "user.carol.a", "site.north.1", "site.south.1", "open.a", "else"]
        source = self.open(Consumer(self.amqp))
        for who in self.people[:3]:
            with self.subTest(who=who.name):
                mine = [k for k in keys if self.may(who, "subscribe", k.replace(".", "/"))]
                ways = {"plain": ("#", {}), "shared": (f"$share/all-{who.name}/#", {}), "kept": ("#", {"clean": False, "session_expiry": 100})}
                peers = []
                for way, (address, options) in ways.items():
                    peers.append(self.mqtt(who, client_id=f"{way}-{who.name}", **options))
                    self.assertEqual(peers[-1].subscribe((address, 1)), [1])
                for k in keys:
                    source.publish("amq.topic", k, k.encode())
                source.publish("amq.topic", f"user.{who.user}.end", b"end")
                for peer in peers:
                    self.assertEqual(peer.bodies(len(mine) + 1), [k.encode() for k in mine] + [b"end"])
                    peer.leave()
        self.assertGreater(self.gw.metric("headgate_withheld_total", protocol="mqtt"), 0)

    def test_what_is_retained_is_shown_to_who_may(self):
        writer, reader, carol = self.people[:3]
        self.assertEqual(self.mqtt(writer).publish("secret/kept", b"kept", retain=True), 0)
        self.assertEqual(self.mqtt(carol).publish("user/carol/kept", b"carol's", retain=True), 0)
        self.assertEqual(self.mqtt(reader).publish("user/reader/kept", b"reader's", retain=True), 0)
        for who, bodies in ((writer, []), (carol, [b"carol's"]), (reader, [b"kept", b"reader's"])):
            peer = self.mqtt(who)
            self.assertEqual(peer.subscribe(("#", 1)), [1])
            self.assertEqual(sorted(peer.bodies(len(bodies))), bodies)
            self.assertEqual(self.mqtt(who).publish(f"user/{who.user}/end", b"end"), 0)
            self.assertEqual(peer.bodies(1), [b"end"])

    def test_a_client_identifier_is_the_clients_own(self):
        writer = self.people[0]
        watcher = self.mqtt(writer, client_id="c1")
        self.assertEqual(watcher.subscribe(("client/+/x", 1), ("client/c2/x", 1), ("client/c1/will", 1)), [1, 0x87, 1])
        other = self.mqtt(self.people[1], client_id="c2")
        self.assertEqual([other.publish(f"client/{c}/x", c.encode()) for c in ("c1", "c2")], [0x87, 0])
        self.mqtt(writer, client_id="c3", refused=0x87, will=m.Will("client/c1/will"))
        self.mqtt(writer, client_id="c3", will=m.Will("client/c3/will")).drop()
        self.assertEqual(watcher.publish("client/c1/x", b"c1"), 0)
        self.assertEqual(watcher.bodies(1), [b"c1"])

    def test_a_call_is_a_publish(self):
        for who in self.people:
            with self.subTest(who=who.name):
                status = self.http(who, "POST", "/v1/rpc/secret/call?timeout=1ms", b"x")[0]
                self.assertEqual(status == 403, not self.may(who, "publish", "secret/call"), status)

    def test_a_stream_shows_what_is_permitted(self):
        source = self.open(Consumer(self.amqp))
        for site in ("south", "north"):
            source.publish("amq.topic", f"log.{site}.x", site.encode())
        for who, may in zip(self.people, (False, False, True, False, False, False)):
            self.assertEqual(self.http(who, "HEAD", "/v1/topics/log/*/x?from=first")[0], 200 if may else 403)
        carol = self.people[2]
        with raw(self.gw.addresses["web"], ("GET /v1/topics/log/*/x?from=first HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
                                            f"Authorization: {basic('carol', carol.secret)['Authorization']}\r\n\r\n").encode()) as reader:
            self.assertTrue(reader.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 200"))
            self.assertIn(b"data: north\n", reader.read_until(b"data: ") + reader.read_until(b"\n"))

    # ---- RabbitMQ's own names

    def test_names_of_rabbitmq(self):
        writer, reader = self.people[:2]
        everything = self.open(Consumer(self.amqp))
        everything.bind("amq.topic", "#")
        everything.channel.queue_declare("other")
        everything.channel.queue_declare("jobs.there", durable=True)
        sends = {"/topic/open.a": True, "/topic/secret.a": False, "/exchange/amq.topic/open.b": True, "/exchange/amq.topic/x": False,
                 "/exchange/amq.fanout/x": False, "/queue/jobs": True, "/queue/other": False, "/amq/queue/jobs.there": True,
                 "/amq/queue/other": False, "/reply-queue/jobs.there": True, "/reply-queue/other": False, "/exchange//other": False,
                 "/amq/queue/headgate.state": False}
        for who, (destination, may) in itertools.product(self.people, sends.items()):
            may = may and "writer" in who.roles
            body = f"{who.name} {destination}".encode()
            with self.subTest(who=who.name, send=destination):
                answer = self.stomp_frames(who, stomp("SEND", {"destination": destination, "receipt": "r", "CC": "secret.cc"}, body))
                self.assertEqual("ERROR" in answer, not may, answer)
        subscribes = {"/topic/open.a": True, "/topic/#": True, "/topic/secret.#": False, "/topic/secret.a": False, "/exchange/amq.fanout": False,
                      "/queue/jobs": True, "/queue/other": False, "/amq/queue/jobs.there": True, "/amq/queue/other": False}
        for who, (destination, may) in itertools.product(self.people, subscribes.items()):
            if destination == "/topic/secret.#":
                continue  # wildcards are granted, and what they show is filtered
            may = may and "reader" in who.roles
            with self.subTest(who=who.name, subscribe=destination):
                answer = self.stomp_frames(who, stomp("SUBSCRIBE", {"destination": destination, "id": "1"}))
                self.assertEqual("ERROR" in answer, not may, answer)
        for who, (exchange, key, may) in itertools.product(self.people, (("amq.topic", "open.m", True), ("amq.topic", "x", False),
                                                                         ("amq.default", "other", False), ("amq.default", "jobs", True))):
            may = may and "writer" in who.roles
            order = {"routing_key": key, "payload": f"{who.name} {key}", "payload_encoding": "string",
                     "properties": {"headers": {"BCC": ["secret.bcc"], "CC": ["secret.cc"]}}}
            path = f"/api/exchanges/{self.amqp.rsplit('/', 1)[1]}/{exchange}/publish"
            with self.subTest(who=who.name, exchange=exchange, key=key):
                self.assertEqual(self.http(who, "POST", path, json.dumps(order).encode())[0], 200 if may else 403)
        # A name that the headers choose is a name all the same.
        for name, may in (("jobs.mine", True), ("other", False)):
            answer = self.stomp_frames(reader, stomp("SUBSCRIBE", {"destination": "/topic/open.q", "id": "1", "x-queue-name": name,
                                                                   "durable": "true", "auto-delete": "false"}))
            self.assertEqual("ERROR" in answer, not may, answer)
        everything.publish("amq.topic", "last", b"last")
        keys = []
        while not keys or keys[-1] != "last":
            keys.append(everything.take()[0].routing_key)
        self.assertEqual(set(keys), {"open.a", "open.b", "open.m", "last"})

    def test_queues_by_http(self):
        source = self.open(Consumer(self.amqp))
        for queue in ("jobs.http", "others"):
            source.channel.queue_declare(queue, durable=True)
        vhost = self.amqp.rsplit("/", 1)[1]
        get = json.dumps({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"})
        for who, queue in itertools.product(self.people, ("jobs.http", "others")):
            may = "reader" in who.roles and queue == "jobs.http"
            for path, body in ((f"/v1/queues/{queue}/lease", b""), (f"/v1/queues/{queue}/ack", b'{"leases":["x"]}'),
                               (f"/v1/queues/{queue}/nack", b'{"leases":["x"]}'), (f"/v1/queues/{queue}/extend", b'{"leases":["x"]}'),
                               (f"/api/queues/{vhost}/{queue}/get", get.encode())):
                with self.subTest(who=who.name, path=path):
                    status, _, answer = self.http(who, "POST", path, body, {"Content-Type": "application/json"})
                    self.assertEqual(status == 403, not may, (status, answer))
                    self.assertNotIn(status, (401, 503))

    def test_bindings_by_name_show_what_is_permitted(self):
        reader = self.people[1]
        source = self.open(Consumer(self.amqp))
        for ack in ("auto", "client"):
            client = self.open(Stomp(self.gw.addresses["stomp"], login="reader", passcode=reader.secret))
            client.subscribe("/topic/#", ack=ack)
            for key in ("secret.x", "user.reader.x", "open.x"):
                source.publish("amq.topic", key, key.encode())
            self.assertEqual(client.messages.take().body, b"open.x")

    # ---- Telling people

    def test_denials_are_counted_and_logged(self):
        before = self.gw.metric("headgate_denied_total", protocol="http")
        self.assertEqual(self.http(self.people[3], "POST", "/v1/topics/secret/counted", b"x")[0], 403)
        eventually(lambda: self.gw.metric("headgate_denied_total", protocol="http") == before + 1)
        rules = {r["name"]: r for r in self.gw.admin("/api/rules")[1]}
        self.assertEqual((rules["secret"]["publish_roles"], rules["secret"]["subscribe_roles"]), (["writer"], ["reader"]))

    def test_route_explains(self):
        file = self.config_file(self.text)
        for args, code, words in ((("--as", "writer", "mqtt", "publish", "secret/a"), 0, "rule      secret"),
                                  (("--as", "reader", "mqtt", "publish", "secret/a"), 1, "rule secret"),
                                  (("--role", "reader", "mqtt", "subscribe", "secret/#"), 0, "allowed   reader"),
                                  (("--as", "ann", "http", "publish", "/user/bob/x"), 1, "is not this one's"),
                                  (("--as", "ann", "mqtt", "subscribe", "secret/#"), 1, "rule secret"),
                                  (("--role", "nope", "mqtt", "publish", "a"), 1, "names no role nope")):
            done = headgate("route", "-c", file, *args)
            self.assertEqual(done.returncode, code, args)
            self.assertIn(words, done.stdout + done.stderr)


if not shutil.which("openssl"):
    Permissions = unittest.skip("signs its tokens with openssl")(Permissions)

if __name__ == "__main__":
    unittest.main()
