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

    def assert_declared(self, queue, **options):
        """That it is there, and such a queue: RabbitMQ refuses another."""
        try:
            self.beside.connection.channel().queue_declare(queue, **{"durable": True, **options})
        except pika.exceptions.ChannelClosedByBroker as e:
            raise AssertionError(e.reply_text) from e

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
        self.assert_declared(queue, durable=False, auto_delete=True)
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

    @conforms(plugin="queue-priority")
    def test_x_priority_is_served_first(self):
        queue = self.beside.channel.queue_declare(self.name("q")).method.queue
        low, high = self.peer(), self.peer()
        low.subscribe(f"/amq/queue/{queue}", "low")
        high.subscribe(f"/amq/queue/{queue}", "high", **{"x-priority": "10"})
        for i in range(5):
            self.beside.channel.basic_publish("", queue, b"%d" % i)
        self.assertEqual(high.bodies(5), [b"%d" % i for i in range(5)])

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


    @conforms(plugin="queue-stream-auto")
    def test_a_stream_is_read_without_acknowledgements_too(self):
        stream = self.name("stream")
        self.beside.channel.queue_declare(stream, durable=True, arguments={"x-queue-type": "stream"})
        self.beside.channel.confirm_delivery()
        for i in range(3):
            self.beside.channel.basic_publish("", stream, b"%d" % i)
        peer = self.peer()
        peer.subscribe(f"/amq/queue/{stream}", **{"x-stream-offset": "first"})
        self.assertEqual(peer.bodies(3), [b"0", b"1", b"2"])

    @conforms(plugin="queue-overflow")
    def test_x_overflow_is_an_argument(self):
        peer, queue = self.peer(), self.name("q")
        peer.subscribe(f"/queue/{queue}", **{"x-max-length": "1", "x-overflow": "reject-publish"})
        self.assert_declared(queue, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})

    @conforms(plugin="queue-persistent")
    def test_persistent_false_is_the_messages(self):
        peer, queue = self.peer(), self.name("q")
        peer.send(f"/queue/{queue}", b"x", persistent="false")
        self.assert_declared(queue)

    @conforms(plugin="headers-exchange")
    def test_a_headers_exchange_gives_everything(self):
        peer = self.peer()
        peer.subscribe("/exchange/amq.headers")
        peer.send("/exchange/amq.headers", b"x", colour="blue")
        self.assertEqual(peer.message().body, b"x")

    @conforms(plugin="headers-exchange-match")
    def test_x_match_binds_by_headers(self):
        peer = self.peer()
        peer.subscribe("/exchange/amq.headers", **{"x-match": "all", "colour": "red"})
        for colour in ("blue", "red"):
            peer.send("/exchange/amq.headers", colour.encode(), colour=colour)
        self.assertEqual(peer.message().body, b"red")


class TopicExchange(StompConformance):
    """The plugin has this as an option too, which would be for all of its tests."""
    also_against_plugin = False
    config = '[stomp]\ndefault_topic_exchange = "amq.direct"\n'

    @conforms(plugin="topic-exchange")
    def test_topic_is_what_the_configuration_says(self):
        peer, beside, key = self.peer(), self.open(Consumer(self.amqp)), self.name()
        beside.bind("amq.direct", key)
        peer.subscribe(f"/topic/{key}")
        peer.send(f"/topic/{key}", b"x")
        self.assertEqual(beside.take()[2], b"x")
        self.assertEqual(peer.message().body, b"x")


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
