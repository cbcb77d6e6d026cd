# SPDX-License-Identifier: Apache-2.0
"""STOMP subscribers that acknowledge: cumulatively and one by one, in each version, and what becomes of what they did not answer."""
import socket
import unittest

from stomp import StompConnection10

from harness import Consumer, E2E, Proxy, Stomp

MANY = 1000


def answer(client, frame, nack=False, **headers):
    """By what the frame's version has for it."""
    h = frame.headers
    call = client.connection.nack if nack else client.connection.ack
    if "ack" in h:
        call(h["ack"], **headers)
    elif isinstance(client.connection, StompConnection10):
        call(h["message-id"], **headers)
    else:
        call(h["message-id"], h["subscription"], **headers)


class StompAcks(E2E):
    def setUp(self):
        self.gw = self.gateway()
        self.beside = self.open(Consumer(self.amqp))
        self.queue = self.beside.channel.queue_declare(self.id().rsplit(".", 1)[1]).method.queue
        self.addCleanup(self.beside.channel.queue_delete, self.queue)

    def client(self, **options):
        return self.open(Stomp(self.gw.addresses["stomp"], **options))

    def fill(self, n):
        for i in range(n):
            self.beside.channel.basic_publish("", self.queue, str(i).encode())

    def bodies(self, client, n):
        return [frame.body for frame in client.messages.take_n(n)]

    def settled(self, client, frame, **options):
        receipt = client.receipt_id()
        answer(client, frame, receipt=receipt, **options)
        client.receipts.take(lambda r: r == receipt)

    def left(self):
        """What is in the queue once its consumers have gone."""
        bodies = []
        for _ in range(MANY + 1):
            method, _, body = self.beside.channel.basic_get(self.queue, auto_ack=True)
            if method is None:
                return bodies
            bodies.append(body)
        return bodies

    def test_client_acknowledges_up_to_a_message_in_every_version(self):
        for version in ("1.0", "1.1", "1.2"):
            with self.subTest(version=version):
                self.fill(3)
                client = self.client(version=version)
                client.subscribe(f"/amq/queue/{self.queue}", ack="client")
                frames = client.messages.take_n(3)
                self.assertEqual("ack" in frames[0].headers, version == "1.2")
                self.settled(client, frames[1])
                client.unsubscribe()
                again = self.client(version=version)
                again.subscribe(f"/amq/queue/{self.queue}", ack="client")
                frame = again.messages.take()
                self.assertEqual((frame.body, frame.headers.get("redelivered")), (b"2", "true"))
                self.settled(again, frame)
                again.unsubscribe()
                self.assertEqual(self.left(), [])

    def test_client_individual_acknowledges_one(self):
        self.fill(3)
        client = self.client()
        client.subscribe(f"/amq/queue/{self.queue}", ack="client-individual")
        self.settled(client, client.messages.take_n(3)[1])
        client.unsubscribe()
        again = self.client()
        again.subscribe(f"/amq/queue/{self.queue}")
        self.assertEqual(self.bodies(again, 2), [b"0", b"2"])

    def test_nack_brings_a_message_again_or_dead_letters_it(self):
        self.beside.channel.queue_declare("dead")
        self.addCleanup(self.beside.channel.queue_delete, "dead")
        client = self.client()
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
        client.subscribe("/queue/living", ack="client-individual", **arguments)
        self.addCleanup(self.beside.channel.queue_delete, "living")
        self.beside.channel.basic_publish("", "living", b"x")
        first = client.messages.take()
        self.assertNotIn("redelivered", first.headers)
        self.settled(client, first, nack=True)
        second = client.messages.take()
        self.assertEqual(second.headers["redelivered"], "true")
        self.settled(client, second, nack=True, requeue="false")
        dead = self.client()
        dead.subscribe("/amq/queue/dead")
        self.assertEqual(dead.messages.take().body, b"x")
        client.messages.assert_silent()

    def test_the_prefetch_limits_what_is_under_way(self):
        self.fill(4)
        client = self.client()
        client.subscribe(f"/amq/queue/{self.queue}", ack="client", **{"prefetch-count": "2"})
        frames = client.messages.take_n(2)
        client.messages.assert_silent()
        other = self.client()
        other.subscribe(f"/amq/queue/{self.queue}", "1", ack="client")
        self.assertEqual(self.bodies(other, 2), [b"2", b"3"])
        other.close()
        self.assertEqual(len(client.messages.all()), 0)
        self.settled(client, frames[1])
        self.assertEqual(self.bodies(client, 2), [b"2", b"3"])

    def test_an_exchange_and_an_address_are_acknowledged_too(self):
        for destination, to in (("/topic/acks.*", "/topic/acks.a"), ("/acks/*", "/acks/a")):
            with self.subTest(destination=destination):
                client = self.client()
                client.subscribe(destination, ack="client-individual")
                client.send(to, b"x")
                frame = client.messages.take()
                self.assertEqual(frame.headers["destination"], to)
                self.settled(client, frame, nack=True)
                frame = client.messages.take()
                self.assertEqual(frame.headers["redelivered"], "true")
                self.settled(client, frame)

    def test_a_rules_queue_is_acknowledged_as_it_is(self):
        self.fill(2)
        gw = self.gateway(f'[[rule]]\nname = "jobs"\ntopic = "jobs/one"\nqueue = "{self.queue}"\n')
        client = self.open(Stomp(gw.addresses["stomp"]))
        client.subscribe("/jobs/one", ack="client-individual")
        frames = client.messages.take_n(2)
        self.assertEqual({frame.headers["destination"] for frame in frames}, {"/jobs/one"})
        self.settled(client, frames[0])
        client.unsubscribe()
        client.subscribe("/jobs/one")
        self.assertEqual(client.messages.take().body, b"1")

    def test_an_unknown_message_is_an_error(self):
        client = self.client()
        client.connection.ack("1-1")
        self.assertIn("no message with this id", client.errors.take().headers["message"])

    def test_amq_queue_must_exist(self):
        client = self.client()
        client.connection.subscribe("/amq/queue/nowhere", id="1", ack="client")
        self.assertIn("no such queue", client.errors.take().headers["message"])

    def test_an_answer_after_a_lost_link_is_told(self):
        proxy = self.enterContext(Proxy(("127.0.0.1", self.broker.port)))
        gw = self.gateway(amqp=self.amqp_by(proxy))
        client = self.open(Stomp(gw.addresses["stomp"]))
        client.subscribe(f"/amq/queue/{self.queue}", ack="client")
        stale = []
        client.on_receipt = lambda frame: (stale.append(frame.headers.get("stale")), client.receipts.put(frame.headers["receipt-id"]))
        self.fill(1)
        first = client.messages.take()
        proxy.cut()
        second = client.messages.take()
        self.assertEqual((second.body, second.headers["redelivered"]), (b"0", "true"))
        self.settled(client, first)
        self.settled(client, second)
        self.assertEqual(stale, ["true", None])

    def test_what_a_killed_client_held_comes_again_once_each(self):
        self.fill(MANY)
        client = self.client()
        client.subscribe(f"/amq/queue/{self.queue}", ack="client")
        client.messages.take_n(MANY)
        client.connection.transport.socket.shutdown(socket.SHUT_RDWR)  # no DISCONNECT
        other = self.client()
        other.subscribe(f"/amq/queue/{self.queue}", ack="client")
        frames = other.messages.take_n(MANY)
        self.assertEqual([frame.body for frame in frames], [str(i).encode() for i in range(MANY)])
        self.assertEqual({frame.headers["redelivered"] for frame in frames}, {"true"})
        self.settled(other, frames[-1])
        other.unsubscribe()
        self.assertEqual(self.left(), [])


if __name__ == "__main__":
    unittest.main()
