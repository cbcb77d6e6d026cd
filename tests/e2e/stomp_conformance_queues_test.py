# SPDX-License-Identifier: Apache-2.0
"""Queues of subscriptions as RabbitMQ's STOMP plugin makes them: durable subscriptions, names, kinds; temporary queues for answers."""
import unittest

import pika

from harness import Consumer, StompConformance, conforms, eventually


class Queues(StompConformance):
    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))

    def is_there(self, queue):
        """Whether it is, asked on a channel that may fail."""
        channel = self.beside.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
            return True
        except pika.exceptions.ChannelClosedByBroker as e:
            assert e.reply_code == 404, e
            return False

    def stomp_queues(self):
        return self.broker.ctl("list_queues", "-p", self.vhost, "name").split()

    @conforms(plugin="durable")
    def test_a_durable_subscription_keeps_what_comes_while_its_client_is_away(self):
        for header in ("durable", "persistent"):
            with self.subTest(header):
                destination, about = f"/topic/{self.name()}", {header: "true", "auto-delete": "false"}
                first = self.peer()
                first.subscribe(destination, "kept", **about)
                first.leave()
                self.peer().send(destination, b"while away", persistent="true")
                again = self.peer()
                again.subscribe(destination, "kept", **about)
                self.assertEqual(again.message().body, b"while away")
                again.unsubscribe("kept", **about)
                self.peer().send(destination, b"for nobody", persistent="true")
                anew = self.peer()
                anew.subscribe(destination, "kept", **about)
                self.assertEqual(anew.fence(), [])
                anew.unsubscribe("kept", **about)

    @conforms(plugin="durable-name")
    def test_its_queue_is_called_as_the_plugin_calls_it(self):
        destination, peer = f"/topic/{self.name()}", self.peer()
        before = set(self.stomp_queues())
        peer.subscribe(destination, "kept", durable="true", **{"auto-delete": "false"})
        made = set(self.stomp_queues()) - before
        self.assertEqual([name[:19] for name in made], ["stomp-subscription-"])
        peer.leave()
        again = self.peer()
        again.subscribe(destination, "kept", durable="true", **{"auto-delete": "false"})
        self.assertEqual(set(self.stomp_queues()) - before, made)
        again.unsubscribe("kept", durable="true", **{"auto-delete": "false"})

    @conforms(plugin="durable")
    def test_a_durable_subscription_needs_an_id(self):
        peer = self.peer("1.0")
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination, "kept", durable="true", **{"auto-delete": "false"})
        peer.unsubscribe("kept", durable="true", **{"auto-delete": "false"})
        peer.frame("SUBSCRIBE", destination=destination, durable="true", **{"auto-delete": "false"})
        peer.take("ERROR")

    @conforms(plugin="queue-name")
    def test_x_queue_name_is_the_queue_of_a_subscription(self):
        for destination in (f"/topic/{self.name()}", f"/exchange/amq.direct/{self.name()}"):
            with self.subTest(destination):
                peer, queue = self.peer(), self.name("named")
                peer.subscribe(destination, **{"x-queue-name": queue})
                self.assertIn(queue, self.stomp_queues())
                peer.send(destination, b"x")
                self.assertEqual(peer.message().body, b"x")

    @conforms(plugin="queue-kind")
    def test_durable_auto_delete_and_exclusive_are_a_queues(self):
        peer, queue = self.peer(), self.name("q")
        peer.subscribe(f"/queue/{queue}", **{"durable": "false", "auto-delete": "true", "exclusive": "false"})
        self.beside.channel.queue_declare(queue, durable=False, auto_delete=True)  # refused if it were another
        peer.leave()
        eventually(lambda: not self.is_there(queue), self.limit_s)

    @conforms(plugin="queue-exclusive")
    def test_an_exclusive_queue_is_its_sessions_alone(self):
        peer, queue = self.peer(), self.name("q")
        peer.subscribe(f"/queue/{queue}", **{"durable": "false", "exclusive": "true"})
        other = self.peer()
        other.frame("SUBSCRIBE", destination=f"/queue/{queue}", id="0", **{"durable": "false", "exclusive": "true"})
        self.assertEqual(other.next().command, "ERROR")
        peer.leave()
        eventually(lambda: not self.is_there(queue), self.limit_s)

    @conforms(plugin="queue-stream")
    def test_a_stream_is_read_from_an_offset(self):
        stream = self.name("stream")
        self.beside.channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
        self.beside.channel.confirm_delivery()
        for i in range(5):
            self.beside.channel.basic_publish("", stream, b"%d" % i)
        for offset, first in (("first", 0), ("offset=3", 3)):
            with self.subTest(offset):
                peer = self.peer()
                peer.subscribe(f"/amq/queue/{stream}", ack="client", **{"x-stream-offset": offset, "prefetch-count": "10"})
                self.assertEqual(peer.bodies(5 - first), [b"%d" % i for i in range(first, 5)])


class Answers(StompConformance):
    @conforms(plugin="temp-queue")
    def test_an_answer_comes_to_the_temporary_queue(self):
        asker, service = self.peer(), self.peer()
        queue = f"/queue/{self.name('rpc')}"
        service.subscribe(queue)
        for i in range(3):
            asker.send(queue, b"%d" % i, reply_to="/temp-queue/answers", correlation_id=f"c{i}")
            question = service.message()
            self.assertNotIn("temp-queue", question["reply-to"])
            service.send(question["reply-to"], question.body + b"!", correlation_id=question["correlation-id"])
            answer = asker.message()
            self.assertEqual((answer["subscription"], answer["correlation-id"], answer.body), ("/temp-queue/answers", f"c{i}", b"%d!" % i))

    @conforms(plugin="temp-queue")
    def test_a_temporary_queue_is_its_sessions_alone(self):
        one, two, service = self.peer(), self.peer(), self.peer()
        queue = f"/queue/{self.name('rpc')}"
        service.subscribe(queue)
        for asker, body in ((one, b"1"), (two, b"2")):
            asker.send(queue, body, reply_to="/temp-queue/same")
        questions = [service.message() for _ in range(2)]
        self.assertNotEqual(questions[0]["reply-to"], questions[1]["reply-to"])
        for question in reversed(questions):
            service.send(question["reply-to"], question.body)
        self.assertEqual((one.message().body, two.message().body), (b"1", b"2"))

    @conforms(plugin="temp-queue-refused")
    def test_nobody_sends_or_subscribes_to_a_temporary_queue(self):
        for command, more in (("SEND", {}), ("SUBSCRIBE", {"id": "0"})):
            peer = self.peer()
            peer.frame(command, destination="/temp-queue/a", **more)
            peer.take("ERROR")


if __name__ == "__main__":
    unittest.main()
