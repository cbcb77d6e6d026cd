# SPDX-License-Identifier: Apache-2.0
"""What somebody does to RabbitMQ's objects under the feet of clients at work: exchanges and queues deleted, channels closed."""
import threading

from harness import Consumer, E2E, Peer, Stomp, eventually, http, mqtt5 as m
from ledger import CONSUMERS, Ledger, PUBLISHERS

DOOMED = """
[[exchange]]
name = "doomed"
type = "topic"
[[rule]]
name = "doomed"
topic = "doomed/{x}"
exchange = "doomed"
key = "{x}"
"""


class Books(E2E):
    def start(self, gw):
        ledger = Ledger(self, gw)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        return ledger

    def end(self, ledger, gw):
        ledger.finish()
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))

    def assert_nobody_ended(self, ledger):
        self.assertEqual([(c.name, c.last) for c in ledger.publishers + ledger.consumers if c.ends], [])

    def test_add_up_though_channels_are_closed_under_load(self):
        # Of a message that RabbitMQ refuses by closing the channel, which everybody shares, its sender alone is told.
        self.broker.ctl("eval", "application:set_env(rabbit, max_message_size, 65536).")
        self.addCleanup(self.broker.ctl, "eval", "application:set_env(rabbit, max_message_size, 134217728).")
        gw = self.gateway(workers=1)
        ledger = self.start(gw)
        for _ in range(20):
            with ledger.broken("channel closed"):
                self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/large", bytes(70_000))[0], 413)
            ledger.flow(2)
        self.assertGreaterEqual(gw.metric("headgate_upstream_channel_closes_total"), 20)
        self.assert_nobody_ended(ledger)
        self.end(ledger, gw)

    def test_add_up_though_every_connection_is_closed_by_hand(self):
        gw = self.gateway()
        ledger = self.start(gw)
        for _ in range(3):
            with ledger.broken("connections closed", forgets_s=1, is_long=True):
                self.broker.ctl("close_all_connections", "--vhost", self.vhost, "maintenance")
            ledger.flow()
        self.assert_nobody_ended(ledger)
        self.end(ledger, gw)

    def test_add_up_though_another_exchange_is_deleted_and_made_again(self):
        gw = self.gateway(DOOMED)
        ledger = self.start(gw)
        client = self.open(Consumer(self.amqp))
        subscriber = self.open(Peer(gw.addresses["mqtt"], "doomed"))
        self.assertEqual(subscriber.subscribe("doomed/#"), [1])
        for _ in range(3):
            client.channel.exchange_delete("doomed")
            eventually(lambda: http(gw.addresses["web"], "POST", "/v1/topics/doomed/a", b"x")[0] == 404)
            publisher = Peer(gw.addresses["mqtt"], "p")
            self.assertGreaterEqual(publisher.publish("doomed/a", b"x"), 0x80)
            publisher.close()
            client.channel.exchange_declare("doomed", "topic", durable=True)
            eventually(lambda: http(gw.addresses["web"], "POST", "/v1/topics/doomed/a", b"again")[0] == 202)
            ledger.flow(2)
        self.assert_nobody_ended(ledger)
        self.end(ledger, gw)


class Consumers(E2E):
    """A queue is deleted while it is consumed, and declared again: who consumed it is told, and may come again."""

    def setUp(self):
        self.client = self.open(Consumer(self.amqp))
        self.gw = self.gateway()

    def test_of_stomp_are_told_and_come_again(self):
        for ack in ("auto", "client-individual"):
            with self.subTest(ack):
                queue = f"stomp-{ack}"
                self.client.channel.queue_declare(queue, durable=True)
                client = self.open(Stomp(self.gw.addresses["stomp"]))
                client.subscribe(f"/amq/queue/{queue}", ack=ack)
                self.client.channel.queue_delete(queue)
                self.assertEqual(client.errors.take().headers["message"], "no such queue")
                client.ends.take()
                self.client.channel.queue_declare(queue, durable=True)
                client = self.open(Stomp(self.gw.addresses["stomp"]))
                client.subscribe(f"/amq/queue/{queue}", ack=ack)
                self.client.publish("", queue, b"again")
                self.assertEqual(client.messages.take().body, b"again")

    def test_of_leases_are_told_and_come_again(self):
        self.client.channel.queue_declare("leased", durable=True)
        ask = "/v1/queues/leased/lease?wait=20s"
        waiting = self.gw.metric("headgate_lease_polls")
        answers = []
        thread = threading.Thread(target=lambda: answers.append(http(self.gw.addresses["web"], "POST", ask)))
        thread.start()
        eventually(lambda: self.gw.metric("headgate_lease_polls") > waiting)
        eventually(lambda: self.client.channel.queue_declare("leased", passive=True).method.consumer_count == 1)
        self.client.channel.queue_delete("leased")
        thread.join()
        self.assertEqual(answers[0][0], 404, answers)
        self.client.channel.queue_declare("leased", durable=True)
        self.client.publish("", "leased", b"again")
        self.assertIn(b'"body":"again"', http(self.gw.addresses["web"], "POST", ask)[2])

    def test_of_kept_sessions_are_told_and_come_again(self):
        def come():
            return self.open(Peer(self.gw.addresses["mqtt"], "kept", clean=False, session_expiry=100))

        peer = come()
        self.assertEqual(peer.subscribe("kept/#"), [1])
        for line in self.broker.ctl("list_queues", "-p", self.vhost, "--no-table-headers", "name").splitlines():
            if "kept" in line:
                self.client.channel.queue_delete(line)
        self.assertIsNotNone(peer.reason())
        peer = come()
        self.assertEqual(peer.publish("kept/a", b"again"), 0)
        self.assertEqual(peer.bodies(1), [b"again"])  # its subscriptions are there, on a queue made anew
        self.assertNotIn(m.DISCONNECT, [p.kind for p in peer.fence()])
