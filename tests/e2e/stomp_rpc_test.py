# SPDX-License-Identifier: Apache-2.0
"""Requests and answers over STOMP: /temp-queue as reply-to, /reply-queue for answers, and AMQP on the other side of either."""
import pathlib
import threading
import unittest

import pika
from harness import Consumer, E2E, Proxy, Stomp, browser, eventually
from harness.wait import LIMIT_S, Mailbox

STOMP_JS = pathlib.Path(__file__).resolve().parent / "node_modules" / "@stomp" / "stompjs" / "bundles" / "stomp.umd.min.js"
MANY = 200
TEMP = "/temp-queue/answers"


class StompService:
    """Answers whatever comes to a queue with its body in upper case (of ASCII), where its reply-to says."""

    def __init__(self, gw, queue):
        self.client = Stomp(gw.addresses["stomp"])
        self.client.on_message = self.answer
        self.client.subscribe(f"/queue/{queue}")

    def answer(self, frame):
        headers = {"correlation-id": frame.headers["correlation-id"]} if "correlation-id" in frame.headers else {}
        self.client.connection.send(frame.headers["reply-to"], frame.body.upper(), headers=headers)

    def close(self):
        self.client.close()


class PikaService:
    """The same by pika, straight at RabbitMQ."""

    def __init__(self, url, queue):
        self.consumer = Consumer(url)
        self.consumer.channel.queue_declare(queue, durable=True)
        self.consumer.channel.basic_consume(queue, self.answer, auto_ack=True)
        self.thread = threading.Thread(target=self.consumer.channel.start_consuming)
        self.thread.start()

    def answer(self, channel, method, properties, body):
        channel.basic_publish("", properties.reply_to, body.upper(), pika.BasicProperties(correlation_id=properties.correlation_id))

    def close(self):
        self.consumer.connection.add_callback_threadsafe(self.consumer.channel.stop_consuming)
        self.thread.join(LIMIT_S)
        self.consumer.close()


class StompRpc(E2E):
    def client(self, gw, **options):
        return self.open(Stomp(gw.addresses["stomp"], **options))

    def ask(self, client, queue, n, name=TEMP):
        for i in range(n):
            client.connection.send(f"/queue/{queue}", f"question {i}", headers={"reply-to": name, "correlation-id": str(i)})

    def check_answers(self, client, n):
        frames = client.messages.take_n(n)
        self.assertEqual({int(frame.headers["correlation-id"]): frame.body for frame in frames},
                         {i: f"QUESTION {i}".encode() for i in range(n)})
        self.assertEqual({frame.headers["subscription"] for frame in frames}, {TEMP})
        return frames

    def own_queues(self):
        listed = self.broker.ctl("list_queues", "-q", "--no-table-headers", "-p", self.vhost, "name")
        return [name for name in listed.split() if name.startswith("headgate.stomp.")]

    def test_a_stomp_service_answers_stomp_clients_each_its_own(self):
        gw = self.gateway()
        self.open(StompService(gw, "upper"))
        clients = [self.client(gw, version=version) for version in ("1.0", "1.1", "1.2")]
        for client in clients:
            self.ask(client, "upper", MANY)
        for client in clients:
            frame = self.check_answers(client, MANY)[0]
            self.assertNotIn("ack", frame.headers)
        self.assertEqual(len(self.own_queues()), 3)
        self.assertEqual(gw.metric("headgate_stomp_temp_queues"), 3)
        for client in clients:
            client.close()
        eventually(lambda: self.own_queues() == [])
        self.assertEqual(gw.metric("headgate_stomp_temp_queues"), 0)

    def test_an_amqp_service_answers_a_stomp_client(self):
        gw = self.gateway()
        self.open(PikaService(self.amqp, "amqp"))
        client = self.client(gw)
        self.ask(client, "amqp", MANY)
        self.check_answers(client, MANY)

    def test_a_stomp_service_answers_amqp_clients_that_use_direct_reply_to(self):
        gw = self.gateway()
        self.open(StompService(gw, "direct"))
        asker = self.open(Consumer(self.amqp))
        answers = Mailbox("answer")
        asker.channel.basic_consume("amq.rabbitmq.reply-to", lambda _c, _m, p, body: answers.put((p.correlation_id, body)), auto_ack=True)
        for i in range(MANY):
            asker.publish("", "direct", f"question {i}".encode(), reply_to="amq.rabbitmq.reply-to", correlation_id=str(i))
        got = {}
        while len(got) < MANY:
            asker.connection.process_data_events(LIMIT_S)
            got.update(answers.all())
        self.assertEqual(got, {str(i): f"QUESTION {i}".encode() for i in range(MANY)})

    def test_an_answer_waits_while_the_link_is_down(self):
        proxy = self.enterContext(Proxy(("127.0.0.1", self.broker.port)))
        gw = self.gateway(amqp=self.amqp_by(proxy))
        service = self.open(Consumer(self.amqp))
        service.channel.queue_declare("patient", durable=True)
        client = self.client(gw)
        self.ask(client, "patient", 2)
        questions = [service.take(queue="patient") for _ in range(2)]
        reply_to = {properties.reply_to for _, properties, _ in questions}
        self.assertEqual(len(reply_to), 1)
        proxy.refuse()
        proxy.cut()
        for _, properties, body in questions:
            service.publish("", properties.reply_to, body.upper(), correlation_id=properties.correlation_id)
        service.channel.queue_declare(reply_to.pop(), passive=True)  # it is still there, and has them
        proxy.accept()
        self.check_answers(client, 2)
        self.ask(client, "patient", 1)
        _, properties, body = service.take(queue="patient")
        service.publish("", properties.reply_to, body.upper(), correlation_id=properties.correlation_id)
        self.check_answers(client, 1)

    def test_a_client_that_reads_slowly_loses_no_answer(self):
        gw = self.gateway("[limits]\noutbound_low = \"16KiB\"\noutbound_high = \"64KiB\"\n", rabbitmq="prefetch = 10")
        service = self.open(Consumer(self.amqp))
        service.channel.queue_declare("large", durable=True)
        client = self.client(gw)
        self.ask(client, "large", 1)
        _, properties, _ = service.take(queue="large")
        reading = threading.Event()
        client.on_message = lambda frame: (reading.wait(LIMIT_S), client.messages.put(frame))
        body = bytes(100_000)
        for i in range(MANY):
            service.publish("", properties.reply_to, body, correlation_id=str(i))
        queue = properties.reply_to
        eventually(lambda: 0 < service.channel.queue_declare(queue, passive=True).method.message_count < MANY)
        reading.set()
        frames = client.messages.take_n(MANY)
        self.assertEqual([int(frame.headers["correlation-id"]) for frame in frames], list(range(MANY)))
        self.assertEqual(gw.metric("headgate_dropped_total", protocol="stomp"), 0)

    def test_a_page_asks_as_the_old_stomp_js_did(self):
        gw = self.gateway(web='origins = ["*"]')  # the page has none
        self.open(StompService(gw, "page"))
        got = browser.run("stomp_rpc", url=f"ws://127.0.0.1:{gw.port('web')}/ws", library=str(STOMP_JS), destination="/queue/page",
                          questions=["grüße", "b", "c"])
        self.assertEqual([(a["to"], a["body"], a["subscription"]) for a in got],
                         [("0", "GRüßE", TEMP), ("1", "B", TEMP), ("2", "C", TEMP)])


if __name__ == "__main__":
    unittest.main()
