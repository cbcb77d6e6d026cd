# SPDX-License-Identifier: Apache-2.0
"""STOMP transactions: what COMMIT publishes and acknowledges, when it is receipted, and what an abandoned one leaves behind."""
import socket
import unittest

from harness import Consumer, E2E, Proxy, Stomp, eventually

MANY = 1000


class StompTransactions(E2E):
    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))

    def client(self, gw, **options):
        client = self.open(Stomp(gw.addresses["stomp"], **options))
        client.stale = set()
        client.on_receipt = lambda frame: self.receipted(client, frame)
        return client

    def receipted(self, client, frame):
        if frame.headers.get("stale") == "true":
            client.stale.add(frame.headers["receipt-id"])
        client.receipts.put(frame.headers["receipt-id"])

    def queue(self, name, **arguments):
        self.beside.channel.queue_declare(name, durable=True, arguments=arguments)
        self.addCleanup(self.beside.channel.queue_delete, name)
        return name

    def left(self, queue, n):
        """The first n messages of a queue."""
        return [body for _, _, body in (self.beside.take(queue=queue) for _ in range(n))]

    def begin(self, client, name):
        client.connection.begin(name)

    def add(self, client, name, destination, body):
        client.connection.send(destination, body, transaction=name)

    def commit(self, client, name):
        receipt = client.receipt_id()
        client.connection.commit(name, receipt=receipt)
        return receipt

    def committed(self, client, name):
        """Waits for the receipt; whether it was stale."""
        receipt = self.commit(client, name)
        client.receipts.take(lambda r: r == receipt)
        return receipt in client.stale

    def test_transactions_are_published_whole_in_order_and_only_by_commit(self):
        gw = self.gateway()
        queue = self.queue("whole")
        for version in ("1.0", "1.1", "1.2"):
            with self.subTest(version=version):
                client = self.client(gw, version=version)
                for name in ("a", "b", "c"):
                    self.begin(client, name)
                for i in range(3):
                    for name in ("a", "b", "c"):
                        self.add(client, name, f"/queue/{queue}", f"{name}{i}")
                client.connection.abort("b")
                client.send(f"/queue/{queue}", b"beside")
                self.committed(client, "c")
                self.committed(client, "a")
                want = [b"beside", b"c0", b"c1", b"c2", b"a0", b"a1", b"a2"]
                self.assertEqual(self.left(queue, len(want)), want)
                client.close()
        self.assertEqual(gw.metric("headgate_stomp_transactions"), 0)
        self.assertEqual(gw.metric("headgate_stomp_commits_total"), 6)

    def test_one_message_that_rabbitmq_rejects_makes_the_commit_an_error(self):
        gw = self.gateway()
        full = self.queue("full", **{"x-max-length": 1, "x-overflow": "reject-publish"})
        client = self.client(gw)
        self.begin(client, "t")
        for body in (b"fits", b"does not", b"neither"):
            self.add(client, "t", f"/amq/queue/{full}", body)
        receipt = self.commit(client, "t")
        error = client.errors.take()
        self.assertEqual((error.headers["receipt-id"], error.headers["message"]), (receipt, "RabbitMQ rejected the message"))
        client.ends.take()
        self.assertEqual(client.receipts.all(), [])

    def test_what_cannot_be_published_is_refused_before_the_commit(self):
        gw = self.gateway("[stomp]\nmax_transactions = 1\nmax_transaction_frames = 2\n")
        queue = self.queue("early")
        for bad, message in (("/exchange/amq.topic/a/b", "the destination cannot be read"), ("/a/+", "address not valid")):
            client = self.client(gw)
            self.begin(client, "t")
            self.add(client, "t", f"/amq/queue/{queue}", b"x")
            self.add(client, "t", bad, b"x")
            self.assertEqual(client.errors.take().headers["message"], message)
            client.ends.take()
        client = self.client(gw)
        self.begin(client, "t")
        for _ in range(3):
            self.add(client, "t", f"/amq/queue/{queue}", b"x")
        self.assertIn("max_transaction_frames", client.errors.take().headers["message"])
        client.ends.take()
        eventually(lambda: gw.metric("headgate_stomp_transaction_bytes") == 0)
        self.assertEqual(gw.metric("headgate_stomp_aborts_total"), 3)
        self.assertEqual(self.beside.channel.queue_declare(queue, passive=True).method.message_count, 0)

    def test_answers_count_from_the_commit_on(self):
        gw = self.gateway()
        queue = self.queue("answers")
        for i in range(3):
            self.beside.publish("", queue, str(i).encode())
        client = self.client(gw)
        client.subscribe(f"/amq/queue/{queue}", ack="client-individual")
        frames = client.messages.take_n(3)
        self.begin(client, "t")
        client.connection.ack(frames[0].headers["ack"], transaction="t")
        client.connection.nack(frames[1].headers["ack"], transaction="t", requeue="false")
        self.begin(client, "u")
        client.connection.ack(frames[2].headers["ack"], transaction="u")
        self.assertFalse(self.committed(client, "t"))
        client.connection.transport.socket.shutdown(socket.SHUT_RDWR)  # without a DISCONNECT: "u" is abandoned
        other = self.client(gw)
        other.subscribe(f"/amq/queue/{queue}")
        frame = other.messages.take()
        self.assertEqual((frame.body, frame.headers["redelivered"]), (b"2", "true"))
        self.beside.publish("", queue, b"last")
        self.assertEqual(other.messages.take().body, b"last")

    def test_a_commit_beyond_the_window_goes_on_where_it_was_held(self):
        gw = self.gateway(rabbitmq="confirm_window = 16")
        queue = self.queue("window")
        client = self.client(gw)
        self.begin(client, "t")
        for i in range(MANY):
            self.add(client, "t", f"/amq/queue/{queue}", str(i))
        self.committed(client, "t")
        self.assertEqual(self.beside.channel.queue_declare(queue, passive=True).method.message_count, MANY)
        self.assertEqual(self.left(queue, MANY), [str(i).encode() for i in range(MANY)])
        self.assertGreater(gw.metric("headgate_held_total", protocol="stomp"), 0)

    def test_a_lost_link_delays_a_commit_and_stales_its_answers(self):
        proxy = self.enterContext(Proxy(("127.0.0.1", self.broker.port)))
        gw = self.gateway(amqp=self.amqp_by(proxy))
        queue = self.queue("lost")
        answered = self.queue("answered")
        self.beside.publish("", answered, b"again")
        client = self.client(gw)
        client.subscribe(f"/amq/queue/{answered}", ack="client")
        frame = client.messages.take()
        self.begin(client, "t")
        client.connection.ack(frame.headers["ack"], transaction="t")
        for i in range(100):
            self.add(client, "t", f"/amq/queue/{queue}", str(i))
        proxy.hold("down")
        receipt = self.commit(client, "t")
        eventually(lambda: gw.metric("headgate_window_messages") >= 100)
        self.assertEqual(client.receipts.all(), [])
        proxy.cut()
        proxy.release("down")
        client.receipts.take(lambda r: r == receipt)
        came = self.left(queue, self.beside.channel.queue_declare(queue, passive=True).method.message_count)
        self.assertEqual(list(dict.fromkeys(came)), [str(i).encode() for i in range(100)])

        self.beside.publish("", answered, b"stale")
        frame = client.messages.take(lambda m: m.body == b"stale")
        self.begin(client, "t")
        client.connection.ack(frame.headers["ack"], transaction="t")
        proxy.cut()
        again = client.messages.take(lambda m: m.body == b"stale")
        self.assertEqual(again.headers["redelivered"], "true")
        self.assertTrue(self.committed(client, "t"))


if __name__ == "__main__":
    unittest.main()
