# SPDX-License-Identifier: Apache-2.0
"""STOMP in numbers: a client that is killed with a thousand messages in its hands, and two thousand pages that look at one topic."""
import pathlib
import resource
import subprocess
import sys
import unittest

from harness import Consumer, E2E, Stomp, StompPeer, eventually, wire

HELD_N = 1000
PAGES_N = 2000
HOLDER = """
import sys
sys.path.insert(0, sys.argv[1])
from harness import Stomp
client = Stomp(("127.0.0.1", int(sys.argv[2])))
client.subscribe(sys.argv[3], ack=sys.argv[4])
client.messages.take_n(int(sys.argv[5]))
print("held", flush=True)
sys.stdin.read()
"""


class Killed(E2E):
    def setUp(self):
        self.gw = self.gateway()
        self.beside = self.open(Consumer(self.amqp))

    def hold(self, destination, ack):
        """A process with HELD_N unacknowledged messages."""
        arguments = [pathlib.Path(__file__).parent, self.gw.port("stomp"), destination, ack, HELD_N]
        process = subprocess.Popen([sys.executable, "-c", HOLDER, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.assertEqual(process.stdout.readline(), b"held\n")
        return process

    def test_what_a_killed_process_held_comes_again_once_each(self):
        for ack in ("client", "client-individual"):
            with self.subTest(ack):
                queue = self.beside.channel.queue_declare(f"held.{ack}").method.queue
                for i in range(HELD_N):
                    self.beside.channel.basic_publish("", queue, b"%d" % i)
                process = self.hold(f"/amq/queue/{queue}", ack)
                process.kill()
                client = self.open(Stomp(self.gw.addresses["stomp"]))
                client.subscribe(f"/amq/queue/{queue}", ack="client")
                frames = client.messages.take_n(HELD_N)
                self.assertEqual([frame.body for frame in frames], [b"%d" % i for i in range(HELD_N)])
                self.assertEqual({frame.headers["redelivered"] for frame in frames}, {"true"})
                receipt = client.receipt_id()
                client.connection.ack(frames[-1].headers["ack"], receipt=receipt)
                client.receipts.take(lambda r, wanted=receipt: r == wanted)
                client.unsubscribe()
                eventually(lambda q=queue: self.beside.channel.queue_declare(q, passive=True).method.message_count == 0)
                self.assertEqual(client.messages.all(), [])


class Pages(E2E):
    CONNECT = wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"}) + \
        wire.stomp("SUBSCRIBE", {"destination": "/topic/news.*", "id": "0", "receipt": "r"})

    def bound(self):
        """The queues bound to the topic exchange by the pages' pattern."""
        rows = self.broker.ctl("list_bindings", "-p", self.vhost, "source_name", "destination_name", "routing_key").splitlines()
        return [queue for source, queue, key in (row.split("\t") for row in rows) if (source, key) == ("amq.topic", "news.*")]

    def page(self):
        """Over a WebSocket; its frames go out at once, nothing is awaited."""
        return self.open(StompPeer(self.gw.addresses["web"], first=self.CONNECT, path="/ws"))

    def test_two_thousand_subscribers_cost_rabbitmq_a_binding_a_worker(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.gw = self.gateway(workers=2)
        pages = [self.page() for _ in range(PAGES_N)]
        for page in pages:
            page.next("CONNECTED")
            page.next("RECEIPT")
        shared = self.bound()
        self.assertEqual(len(shared), 2, shared)
        own = self.open(StompPeer(self.gw.addresses["web"], path="/ws"))
        own.subscribe("/topic/news.*", ack="client")
        self.assertEqual(len(self.bound()), 3)
        self.open(Consumer(self.amqp)).publish("amq.topic", "news.today", b"news")
        for page in pages:
            message = page.next("MESSAGE")
            self.assertEqual((message["destination"], message.body), ("/topic/news.today", b"news"))
        message = own.message()
        own.answer("NACK", message)
        again = own.message()
        self.assertEqual((again.body, again["redelivered"]), (b"news", "true"))
        own.answer("ACK", again)
        own.leave()
        eventually(lambda: self.bound() == shared)
        for page in pages:
            page.close()
        eventually(lambda: self.bound() == [])


if __name__ == "__main__":
    unittest.main()
