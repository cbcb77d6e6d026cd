# SPDX-License-Identifier: Apache-2.0
"""Large HTTP bodies that go to RabbitMQ while they arrive: whole or not at all, and in a window of memory."""
import hashlib
import json
import random
import socket
import threading

from harness import Consumer, E2E, Gateway, Proxy, eventually, http, raw, wire
from harness.gateway import FREE_ENV, config_text
from harness.people import PASSWORD, basic, line_of, user

MIB = 1 << 20
RULE = """
[[exchange]]
name = "shop"
type = "topic"
[[rule]]
name = "orders"
http = "/orders/{id}"
exchange = "shop"
key = "order.{id}"
headers = { kind = "order {header.X-Kind}" }
"""


def body_of(n, seed=7):
    return random.Random(seed).randbytes(n)


def head(path, n, **headers):
    return wire.http("POST", path, headers={"Content-Length": n, **{k.replace("_", "-"): v for k, v in headers.items()}})


def status_of(stream):
    return int(stream.read_until(b"\r\n\r\n").split()[1])


class Uploads(E2E):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = Gateway(config_text(cls.amqp, RULE, workers=1, serves=("web", "admin")))
        cls.addClassCleanup(cls.gw.stop)
        cls.gw.start()
        cls.web = cls.gw.addresses["web"]

    def consumer(self, exchange, key):
        consumer = self.open(Consumer(self.amqp))
        consumer.bind(exchange, key)
        return consumer

    def test_sixteen_mebibytes_arrive_as_they_were_with_all_that_a_publish_has(self):
        consumer = self.consumer("shop", "#")
        body = body_of(16 * MIB)
        bytes_before = self.gw.metric("headgate_upload_bytes_total")
        status, _, answer = http(self.web, "POST", "/orders/17", body, {
            "Content-Type": "application/x-test", "Message-Id": "m1", "X-Kind": "big", "Amqp-Header-a": "b",
            "ce-id": "1", "ce-source": "/s", "ce-specversion": "1.0", "ce-type": "t"})
        self.assertEqual((status, json.loads(answer)), (202, {"id": "m1", "exchange": "shop", "key": "order.17"}))
        _, properties, got = consumer.take()
        self.assertEqual(hashlib.sha256(got).digest(), hashlib.sha256(body).digest())
        self.assertEqual((properties.content_type, properties.message_id, properties.delivery_mode), ("application/x-test", "m1", 2))
        self.assertEqual({k: properties.headers[k] for k in ("a", "kind", "cloudEvents:id")},
                         {"a": "b", "kind": "order big", "cloudEvents:id": "1"})
        self.assertEqual(self.gw.metric("headgate_upload_bytes_total") - bytes_before, 16 * MIB)

    def test_others_are_confirmed_while_one_stands_still(self):
        consumer = self.consumer("amq.topic", "still.#")
        body = body_of(3 * MIB)
        slow = self.open(raw(self.web, head("/v1/topics/still/large", len(body)) + body[:MIB]))
        eventually(lambda: self.gw.metric("headgate_uploads") == 1)
        for i in range(20):
            self.assertEqual(http(self.web, "POST", f"/v1/topics/still/{i}", b"small")[0], 202)
        slow.send(body[MIB:])
        self.assertEqual(status_of(slow), 202)
        self.assertEqual([len(b) for _, _, b in consumer.take_n(21)], [5] * 20 + [len(body)])

    def test_who_hangs_up_half_way_publishes_nothing_and_the_next_goes_on(self):
        consumer = self.consumer("amq.topic", "cut.#")
        refused = self.gw.metric("headgate_uploads_refused_total")
        for _ in range(3):
            client = self.open(raw(self.web, head("/v1/topics/cut/a", 4 * MIB) + body_of(2 * MIB)))
            eventually(lambda: self.gw.metric("headgate_uploads") == 1)
            client.close()
            eventually(lambda: self.gw.metric("headgate_uploads") == 0)
        self.assertEqual(self.gw.metric("headgate_uploads_refused_total") - refused, 3)
        body = body_of(2 * MIB, 8)
        self.assertEqual(http(self.web, "POST", "/v1/topics/cut/b", body)[0], 202)
        method, _, got = consumer.take()
        self.assertEqual((method.routing_key, got == body), ("cut.b", True))

    def test_rabbitmqs_refusals_are_told(self):
        consumer = self.consumer("amq.topic", "none")
        consumer.channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        consumer.channel.queue_bind("full", "amq.topic", "full.#")
        body = body_of(2 * MIB)
        expected = [("/v1/topics/full/a", 202), ("/v1/topics/full/a", 429), ("/v1/topics/nowhere?mandatory=true", 404),
                    ("/v1/topics/nowhere", 202), ("/v1/topics/bad//%00", 400), ("/v1/topics/a?colour=red", 400)]
        self.assertEqual([(path, http(self.web, "POST", path, body)[0]) for path, _ in expected], expected)
        consumer.channel.exchange_delete("shop")
        self.assertEqual(http(self.web, "POST", "/orders/1", body, {"X-Kind": "x"})[0], 404)
        consumer.channel.exchange_declare("shop", "topic", durable=True)

    def test_continue_is_said_once_the_exchange_is_known(self):
        client = self.open(raw(self.web, head("/v1/topics/expected", 2 * MIB, Expect="100-continue")))
        self.assertEqual(status_of(client), 100)
        client.send(bytes(2 * MIB))
        self.assertEqual(status_of(client), 202)
        client = self.open(raw(self.web, head("/v1/topics/a?colour=red", 2 * MIB, Expect="100-continue")))
        self.assertEqual(status_of(client), 400)

    def test_what_is_repeated_or_retained_is_gathered(self):
        consumer = self.consumer("amq.topic", "gathered.#")
        before = self.gw.metric("headgate_upload_bytes_total")
        body = body_of(2 * MIB)
        answers = [http(self.web, "POST", "/v1/topics/gathered/a", body, {"Idempotency-Key": "big"}) for _ in range(2)]
        self.assertEqual([(s, h.get("idempotency-replayed")) for s, h, _ in answers], [(202, None), (202, "true")])
        self.assertEqual(http(self.web, "POST", "/v1/topics/gathered/a", body[1:], {"Idempotency-Key": "big"})[0], 422)
        self.assertEqual(http(self.web, "POST", "/v1/topics/gathered/b", body, {"Amqp-Header-retain": "true"})[0], 202)
        self.assertEqual([m.routing_key for m, _, _ in consumer.take_n(2)], ["gathered.a", "gathered.b"])
        self.assertEqual(self.gw.metric("headgate_upload_bytes_total"), before)


class Window(E2E):
    def test_ten_that_rabbitmq_does_not_read_cost_a_window_each(self):
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        proxy.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # the kernel shall not take it all
        gw = self.gateway(workers=1, serves=("web", "admin"), amqp=self.amqp_by(proxy), env=FREE_ENV)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "window.#")
        size, n, first = 12 * MIB, 10, MIB // 4
        body = body_of(size)
        clients = [self.open(raw(gw.addresses["web"], head(f"/v1/topics/window/{i}", size) + body[:first])) for i in range(n)]
        eventually(lambda: gw.metric("headgate_upload_bytes_total") == n * first)
        before = gw.memory()
        proxy.hold("up")
        threads = [threading.Thread(target=c.send, args=(body[first:],), daemon=True) for c in clients]
        for t in threads:
            t.start()
        seen = []

        def stands_still():
            seen.append(gw.metric("headgate_upload_bytes_total"))
            return len(seen) > 20 and seen[-1] > n * first and len(set(seen[-20:])) == 1
        eventually(stands_still)
        self.assertLess(seen[-1], n * size)
        self.assertLess(gw.memory() - before, n * size // 3)
        proxy.release("up")
        self.assertEqual([status_of(c) for c in clients], [202] * n)
        for t in threads:
            t.join()
        self.assertTrue(all(b == body for _, _, b in consumer.take_n(n)))

    def test_a_link_cut_half_way_is_told_and_the_next_goes_on(self):
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        gw = self.gateway("[http]\nuploads = 1\n", workers=1, serves=("web", "admin"), amqp=self.amqp_by(proxy))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "link.#")
        web = gw.addresses["web"]
        client = self.open(raw(web, head("/v1/topics/link/a", 4 * MIB) + bytes(2 * MIB)))
        eventually(lambda: gw.metric("headgate_upload_bytes_total") == 2 * MIB)
        status, headers, _ = http(web, "POST", "/v1/topics/link/b", bytes(2 * MIB))
        self.assertEqual((status, headers["retry-after"]), (503, "1"), "all places are taken")
        proxy.cut()
        self.assertEqual(status_of(client), 503)
        eventually(lambda: gw.metric("headgate_uploads") == 0)
        self.assertEqual(http(web, "POST", "/v1/topics/link/c", bytes(2 * MIB))[0], 202)
        self.assertEqual(consumer.take()[0].routing_key, "link.c")


class Strangers(E2E):
    """Who may not publish is told so before the body."""

    def test_an_upload_asks_who_comes_and_whether_they_may(self):
        line = line_of(PASSWORD)
        gw = self.gateway(RULE + 'allow = { publish = ["shop"] }\n' + user("alice", line, "shop") + user("bob", line, "guest"), workers=1,
                          serves=("web", "admin"))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("shop", "#")
        body = body_of(3 * MIB)
        for name, status in ((None, 401), ("bob", 403), ("alice", 202)):
            with self.subTest(user=name):
                login = basic(name) if name else {}
                stream = self.open(raw(gw.addresses["web"], head("/orders/7", len(body), X_Kind="x", Expect="100-continue", **login)))
                if status == 202:
                    self.assertEqual(status_of(stream), 100)
                    stream.send(body)
                self.assertEqual(status_of(stream), status)
        http(gw.addresses["web"], "POST", "/orders/7", b"last", {"X-Kind": "x", **basic("alice", PASSWORD)})
        self.assertEqual([consumer.take()[2] for _ in range(2)], [body, b"last"])
