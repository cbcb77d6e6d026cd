# SPDX-License-Identifier: Apache-2.0
"""Calls by HTTP: a request out, its reply back, against a real RabbitMQ and responders that know nothing of Headgate."""
import json
import threading
import time

import pika

from harness import Consumer, E2E, Mailbox, Proxy, Stomp, eventually, http, raw, wire
from harness.gateway import FREE_ENV

RULE = """
[[exchange]]
name = "services"
type = "topic"
[[rule]]
name = "services"
topic = "svc/{name}"
exchange = "services"
key = "svc.{name}"
[[exchange]]
name = "gone"
type = "direct"
[[rule]]
name = "nowhere"
topic = "nowhere/{name}"
exchange = "gone"
key = "{name}"
"""


class Responder:
    """Takes requests of a queue bound to the services' exchange. answer(properties, body) gives (body, properties) or None; without
    it requests wait in `requests`, as (properties, body), for reply()."""

    def __init__(self, url, name, answer=None):
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.answer = answer
        self.requests = Mailbox("request")
        queue = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.exchange_declare("services", "topic", durable=True)
        self.channel.queue_bind(queue, "services", f"svc.{name}")
        self.channel.basic_consume(queue, self.on_request, auto_ack=True)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.channel.start_consuming()
        except pika.exceptions.AMQPError:
            pass

    def on_request(self, _channel, _method, properties, body):
        if self.answer is None:
            self.requests.put((properties, body))
            return
        self.send(properties, *self.answer(properties, body))

    def send(self, request, body, properties=None):
        reply = pika.BasicProperties(correlation_id=request.correlation_id, **(properties or {}))
        self.channel.basic_publish("", request.reply_to, body, reply)

    def reply(self, *replies):
        """Sends (request's properties, body) pairs, from the responder's own thread."""
        sent = threading.Event()

        def send():
            for request, body in replies:
                self.send(request, body)
            sent.set()

        self.connection.add_callback_threadsafe(send)
        if not sent.wait(30):
            raise AssertionError("the replies were not sent in time")

    def close(self):
        self.connection.add_callback_threadsafe(self.channel.stop_consuming)
        self.thread.join()
        self.connection.close()


def read_answer(client):
    """Status and body of the next answer on a raw connection."""
    head = client.read_until(b"\r\n\r\n").decode()
    length = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.lower().startswith("content-length"))
    return int(head.split(" ", 2)[1]), client.read_n(length)


class Calls(E2E):
    def expect_calls(self, gw, n):
        eventually(lambda: gw.metric("headgate_calls") == n)

    def test_a_reply_comes_back_with_its_properties_and_the_callers_correlation_id(self):
        gw = self.gateway(RULE)
        seen = Mailbox()

        def answer(properties, body):
            seen.put((properties, body))
            return body.upper(), {"content_type": "text/plain", "type": "answer", "message_id": "m1", "priority": 3, "timestamp": 7,
                                  "headers": {"n": 5, "good": True, "bad name": 1, "cloudEvents:type": "a b"}}

        self.open(Responder(self.amqp, "echo", answer))
        status, headers, body = http(gw.addresses["web"], "POST", "/v1/rpc/svc/echo?timeout=30s", "grüße".encode(),
                                     {"Correlation-Id": "mine", "Content-Type": "text/plain", "Amqp-Type": "ask",
                                      "Amqp-Header-Tenant": "t1", "Idempotency-Key": "k1"})
        self.assertEqual((status, body.decode()), (200, "GRüßE"))
        wanted = {"content-type": "text/plain", "amqp-type": "answer", "message-id": "m1", "amqp-priority": "3", "amqp-timestamp": "7",
                  "correlation-id": "mine", "amqp-header-n": "5", "amqp-header-good": "true", "ce-type": "a%20b"}
        self.assertEqual({k: headers.get(k) for k in wanted}, wanted)
        self.assertNotIn("bad name", str(headers))
        request, body = seen.take()
        self.assertEqual((body.decode(), request.content_type, request.type, request.message_id), ("grüße", "text/plain", "ask", "k1"))
        self.assertEqual((request.headers["Tenant"], request.headers["x-correlation-id"]), ("t1", "mine"))
        self.assertNotEqual(request.correlation_id, "mine")
        self.assertEqual((request.delivery_mode, request.expiration), (1, "30000"))
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/rpc/svc/echo", b"x", {"Amqp-Persistent": "true",
                                                                                     "Amqp-Expiration": "9"})[0], 200)
        request, _ = seen.take()
        self.assertEqual((request.delivery_mode, request.expiration), (2, "9"))
        self.assertNotIn("x-correlation-id", request.headers)

    def test_a_thousand_calls_wait_at_once_on_two_workers_and_leave_nothing(self):
        gw = self.gateway(RULE, workers=2, env=FREE_ENV)
        responder = self.open(Responder(self.amqp, "slow"))
        connections_n, each_n, filler = 100, 10, b"." * 10000  # bounded: pipelined, not a thousand sockets
        clients = [self.open(raw(gw.addresses["web"])) for _ in range(connections_n)]
        after = []
        for turn in range(1, 4):
            for c, client in enumerate(clients):
                client.send(b"".join(wire.http("POST", "/v1/rpc/svc/slow?timeout=2m", f"{c}.{i}".encode() + filler) for i in range(each_n)))
            requests = responder.requests.take_n(connections_n * each_n)
            self.expect_calls(gw, connections_n * each_n)
            self.assertEqual(len({properties.correlation_id for properties, _ in requests}), len(requests))
            responder.reply(*((properties, b"re " + body) for properties, body in reversed(requests)))
            for c, client in enumerate(clients):
                self.assertEqual([read_answer(client) for _ in range(each_n)],
                                 [(200, f"re {c}.{i}".encode() + filler) for i in range(each_n)])
            self.expect_calls(gw, 0)
            self.assertEqual(gw.metric("headgate_call_replies_total"), turn * connections_n * each_n)
            after.append(gw.memory())
        self.assertEqual(gw.metric("headgate_call_late_replies_total"), 0)
        self.assertLess(after[2] - after[0], len(filler) * connections_n * each_n // 3)  # of 20 MB that passed in between

    def test_no_reply_is_a_504_and_a_late_one_is_dropped_and_counted(self):
        gw = self.gateway(RULE, workers=1)
        responder = self.open(Responder(self.amqp, "silent"))
        http(gw.addresses["web"], "POST", "/v1/rpc/svc/nobody", b"")  # opens the exchange's channel: that may take its time
        started = time.monotonic()
        status, headers, body = http(gw.addresses["web"], "POST", "/v1/rpc/svc/silent?timeout=1s", b"x")
        self.assertEqual((status, headers["content-type"], json.loads(body)["code"]), (504, "application/problem+json", "NO_REPLY"))
        self.assertGreaterEqual(time.monotonic() - started, 1)
        request, _ = responder.requests.take()
        client = raw(gw.addresses["web"], wire.http("POST", "/v1/rpc/svc/silent", b"gone"))
        gone, _ = responder.requests.take()
        client.close()
        self.expect_calls(gw, 0)
        responder.reply((request, b"late"), (gone, b"nobody is there"))
        eventually(lambda: gw.metric("headgate_call_late_replies_total") == 2)
        self.assertEqual(gw.metric("headgate_call_timeouts_total"), 1)
        self.assertEqual(gw.metric("headgate_call_replies_total"), 0)

    def test_what_cannot_be_sent_is_refused_and_disturbs_no_other_call(self):
        gw = self.gateway(RULE + '[http]\nrpc_max = 2\nrpc_max_reply = "16B"\nrpc_max_timeout = "1m"\n', workers=1)
        web = gw.addresses["web"]
        responder = self.open(Responder(self.amqp, "held"))
        self.open(Consumer(self.amqp)).channel.exchange_delete("gone")
        waiting = self.open(raw(web, wire.http("POST", "/v1/rpc/svc/held", b"1")))
        first, _ = responder.requests.take()
        for path, status, code in (("svc/nobody", 404, "UNROUTABLE"), ("nowhere/x", 404, "NO_EXCHANGE"), ("a%00b", 400, "BAD_ADDRESS"),
                                   ("svc/held?timeout=61s", 400, None), ("svc/held?timeout=5", 400, None),
                                   ("svc/held?timeout=0s", 400, None), ("svc/held?mandatory=true", 400, None)):
            answer = http(web, "POST", f"/v1/rpc/{path}", b"x")
            self.assertEqual((answer[0], json.loads(answer[2]).get("code")), (status, code), path)
        for name, value in (("Reply-To", "q"), ("Amqp-Header-retain", "true"), ("Amqp-Colour", "x")):
            self.assertEqual(http(web, "POST", "/v1/rpc/svc/held", b"x", {name: value})[0], 400, name)
        self.assertEqual(http(web, "GET", "/v1/rpc/svc/held")[0], 405)
        second = self.open(raw(web, wire.http("POST", "/v1/rpc/svc/held", b"2")))
        large, _ = responder.requests.take()
        status, headers, body = http(web, "POST", "/v1/rpc/svc/held", b"3")
        self.assertEqual((status, headers["retry-after"], json.loads(body)["code"]), (429, "1", "TOO_MANY"))
        responder.reply((large, b"x" * 17), (first, b"x" * 16))
        self.assertEqual(read_answer(second)[0], 502)
        self.assertEqual(read_answer(waiting), (200, b"x" * 16))

    def test_a_lost_link_ends_the_calls_under_way_and_repeats_none(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(RULE, workers=2, amqp=self.amqp_by(proxy))
            responder = self.open(Responder(self.amqp, "cut"))
            clients = [self.open(raw(gw.addresses["web"], wire.http("POST", "/v1/rpc/svc/cut?timeout=2m", b"%d" % i)))
                       for i in range(20)]
            requests = responder.requests.take_n(len(clients))
            proxy.cut()
            for client in clients:
                status, body = read_answer(client)
                self.assertEqual((status, json.loads(body)["code"]), (503, "TIMED_OUT"))
            self.expect_calls(gw, 0)
            responder.reply((requests[0][0], b"into nothing"))
            again = [raw(gw.addresses["web"], wire.http("POST", "/v1/rpc/svc/cut?timeout=2m", b"again %d" % i)) for i in range(8)]
            for client in again:
                self.open(client)
            requests = responder.requests.take_n(len(again))
            self.assertEqual({body for _, body in requests}, {b"again %d" % i for i in range(8)})
            responder.reply(*((properties, b"done") for properties, _ in requests))
            self.assertEqual([read_answer(client) for client in again], [(200, b"done")] * len(again))
            self.assertEqual(responder.requests.all(), [])
            self.assertEqual(gw.metric("headgate_call_losses_total"), len(clients))
            gw.stop()

    def test_a_stomp_client_can_be_the_responder(self):
        gw = self.gateway(RULE)
        responder = self.open(Stomp(gw.addresses["stomp"]))
        responder.subscribe("/exchange/services/svc.stomp")
        answers = Mailbox()
        caller = threading.Thread(target=lambda: answers.put(http(gw.addresses["web"], "POST", "/v1/rpc/svc/stomp?timeout=1m", b"ask",
                                                                  {"Correlation-Id": "c1"})))
        caller.start()
        request = responder.messages.take()
        self.assertTrue(request.headers["reply-to"].startswith("/reply-queue/amq.rabbitmq.reply-to."))
        responder.send(request.headers["reply-to"], "told", **{"correlation-id": request.headers["correlation-id"]})
        status, headers, body = answers.take()
        caller.join()
        self.assertEqual((status, body, headers["correlation-id"]), (200, b"told", "c1"))
