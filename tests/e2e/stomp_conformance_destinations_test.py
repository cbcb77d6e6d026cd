# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ's destinations as its STOMP plugin has them, and how queues are declared by headers."""
import unittest

import pika

from harness import Consumer, StompConformance, conforms

ARGUMENTS = {"x-dead-letter-exchange": "amq.fanout", "x-dead-letter-routing-key": "dead", "x-expires": 600000, "x-message-ttl": 60000,
             "x-max-length": 100, "x-max-length-bytes": 100000, "x-max-priority": 5}


class Destinations(StompConformance):
    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))

    def is_there(self, queue):
        """Whether it is, asked on a channel that may fail."""
        channel = self.beside.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
            return True
        except pika.exceptions.ChannelClosedByBroker as e:
            self.assertEqual(e.reply_code, 404)
            return False

    def assert_declared(self, queue, **options):
        """That it is there, and such a queue: RabbitMQ refuses another."""
        try:
            self.beside.connection.channel().queue_declare(queue, durable=True, **options)
        except pika.exceptions.ChannelClosedByBroker as e:
            raise AssertionError(e.reply_text) from e

    @conforms(plugin="dest-topic")
    def test_topic_is_a_key_of_amq_topic(self):
        peer = self.peer()
        key = self.name()
        self.beside.bind("amq.topic", key)
        peer.subscribe(f"/topic/{key}")
        peer.send(f"/topic/{key}", b"1")
        method, _, body = self.beside.take()
        self.assertEqual((method.exchange, method.routing_key, body), ("amq.topic", key, b"1"))
        self.beside.publish("amq.topic", key, b"2")
        messages = [peer.message() for _ in range(2)]
        self.assertEqual([(m["destination"], m.body) for m in messages], [(f"/topic/{key}", b"1"), (f"/topic/{key}", b"2")])

    @conforms(plugin="dest-topic")
    def test_topics_have_rabbitmqs_wildcards(self):
        peer = self.peer()
        key = self.name()
        for subscription, pattern in (("star", f"{key}.*.c"), ("hash", f"{key}.#"), ("exact", f"{key}.b.c")):
            peer.subscribe(f"/topic/{pattern}", subscription)
        for sent, expected in ((f"{key}.b.c", {"star", "hash", "exact"}), (f"{key}.x.c", {"star", "hash"}), (f"{key}.b.c.d", {"hash"}),
                               (key, {"hash"})):
            peer.send(f"/topic/{sent}", sent.encode())
            self.assertEqual({peer.take("MESSAGE", destination=f"/topic/{sent}")["subscription"] for _ in expected}, expected)
        self.assertEqual(peer.fence(), [])

    @conforms(plugin="dest-topic")
    def test_what_nobody_listens_to_is_discarded(self):
        peer = self.peer()
        key = self.name()
        peer.send(f"/topic/{key}", b"lost")
        peer.subscribe(f"/topic/{key}")
        peer.send(f"/topic/{key}", b"found")
        self.assertEqual(peer.message().body, b"found")

    @conforms(plugin="dest-exchange")
    def test_exchange_is_any_exchange_and_key(self):
        peer = self.peer()
        key = self.name()
        for destination in (f"/exchange/amq.direct/{key}", f"/exchange/amq.fanout/{key}", "/exchange/amq.fanout",
                            f"/exchange/amq.headers/{key}"):
            with self.subTest(destination):
                _, _, exchange, *rest = destination.split("/")
                self.beside.bind(exchange, "".join(rest))
                peer.subscribe(destination)
                peer.send(destination, b"by stomp")
                method, _, _ = self.beside.take()
                self.assertEqual((method.exchange, method.routing_key), (exchange, "".join(rest)))
                self.beside.publish(exchange, "".join(rest), b"by pika")
                messages = [peer.message() for _ in range(2)]
                self.assertEqual([(m["destination"], m.body) for m in messages], [(destination, b"by stomp"), (destination, b"by pika")])
                peer.unsubscribe()

    @conforms(plugin="dest-shown")
    def test_a_message_says_the_destination_that_would_have_sent_it(self):
        peer = self.peer()
        queue = self.beside.channel.queue_declare(self.name("q")).method.queue
        peer.subscribe(f"/amq/queue/{queue}")
        self.beside.channel.queue_bind(queue, "amq.topic", "a/b%ü")
        self.beside.channel.queue_bind(queue, "amq.direct", "a/b")
        self.beside.channel.queue_bind(queue, "amq.fanout")
        for exchange, key, shown in (("", queue, f"/queue/{queue}"), ("amq.topic", "a/b%ü", "/topic/a%2Fb%25%C3%BC"),
                                     ("amq.direct", "a/b", "/exchange/amq.direct/a%2Fb"), ("amq.fanout", "", "/exchange/amq.fanout")):
            self.beside.publish(exchange, key, b"x")
            self.assertEqual(peer.message()["destination"], shown)

    @conforms(plugin="dest-escape")
    def test_a_slash_inside_a_name_is_an_escape(self):
        peer = self.peer()
        peer.subscribe("/topic/slash%2Finside")
        self.beside.publish("amq.topic", "slash/inside", b"x")
        self.assertEqual(peer.message().body, b"x")
        peer.send("/topic/slash%2Finside", b"y")
        self.assertEqual(peer.message().body, b"y")

    @conforms(plugin="dest-queue")
    def test_queue_is_declared_durable_by_its_first_send(self):
        for prefix in ("/queue/", ""):
            with self.subTest(prefix):
                peer, queue = self.peer(), self.name("q")
                peer.send(prefix + queue, b"x", persistent="true")
                self.assertEqual(self.beside.channel.queue_declare(queue, durable=True).method.message_count, 1)
                peer.subscribe(prefix + queue)
                message = peer.message()
                self.assertEqual((message["destination"], message.body), (f"/queue/{queue}", b"x"))

    @conforms(plugin="dest-queue")
    def test_queue_is_declared_durable_by_a_subscription_and_stays(self):
        peer, queue = self.peer(), self.name("q")
        peer.subscribe(f"/queue/{queue}")
        peer.leave()
        self.assert_declared(queue)

    @conforms(plugin="dest-queue-once")
    def test_queue_is_declared_once_a_session(self):
        peer, queue = self.peer(), self.name("q")
        peer.send(f"/queue/{queue}", b"x")
        self.beside.channel.queue_delete(queue)
        peer.frame("SEND", b"x", destination=f"/queue/{queue}", receipt="r")
        peer.next()
        self.assertFalse(self.is_there(queue))

    @conforms(plugin="dest-amq-queue")
    def test_amq_queue_takes_what_is_there_and_declares_nothing(self):
        peer = self.peer()
        queue = self.beside.channel.queue_declare(self.name("q"), auto_delete=True).method.queue
        peer.subscribe(f"/amq/queue/{queue}")
        peer.send(f"/amq/queue/{queue}", b"x")
        message = peer.message()
        self.assertEqual((message["destination"], message.body), (f"/queue/{queue}", b"x"))
        absent = self.name("absent")
        peer.frame("SEND", b"x", destination=f"/amq/queue/{absent}")
        peer.frame("SUBSCRIBE", destination=f"/amq/queue/{absent}", id="9")
        self.assertIn(absent.encode(), peer.take("ERROR").body)
        self.assertFalse(self.is_there(absent))

    @conforms(plugin="queue-arguments")
    def test_headers_are_the_arguments_of_a_queue(self):
        for command, body in (("SUBSCRIBE", b""), ("SEND", b"x")):
            with self.subTest(command):
                peer, queue = self.peer(), self.name("q")
                id_header = {"id": "0"} if command == "SUBSCRIBE" else {}
                peer.asked(command, body, destination=f"/queue/{queue}", **id_header, **ARGUMENTS)
                self.assert_declared(queue, arguments=ARGUMENTS)

    @conforms(plugin="queue-type")
    def test_x_queue_type_makes_a_quorum_queue(self):
        peer, queue = self.peer(), self.name("q")
        peer.subscribe(f"/queue/{queue}", **{"x-queue-type": "quorum"})
        self.assert_declared(queue, arguments={"x-queue-type": "quorum"})
        peer.send(f"/queue/{queue}", b"x", **{"x-queue-type": "quorum"})
        self.assertEqual(peer.message().body, b"x")

    @conforms(plugin="queue-stream-arguments")
    def test_a_stream_has_arguments_of_its_own(self):
        peer, stream = self.peer(), self.name("stream")
        arguments = {"x-queue-type": "stream", "x-max-age": "1h", "x-stream-max-segment-size-bytes": 1000000}
        peer.send(f"/queue/{stream}", b"x", **arguments)
        self.assert_declared(stream, arguments=arguments)

    @conforms(plugin="queue-invalid")
    def test_an_argument_that_cannot_be_is_an_error(self):
        for headers in ({"x-message-ttl": "soon"}, {"x-max-length": "many"}):
            with self.subTest(headers):
                peer = self.peer()
                peer.frame("SUBSCRIBE", destination=f"/queue/{self.name('q')}", id="0", **headers)
                peer.take("ERROR")

    @conforms(plugin="dest-unknown")
    def test_another_destination_is_an_address(self):
        peer = self.peer()
        address = f"/{self.name()}/a"
        peer.subscribe(address)
        peer.send(address, b"x")
        message = peer.message()
        self.assertEqual((message["destination"], message.body), (address, b"x"))

    @conforms(plugin="dest-shared")
    def test_a_topic_is_bound_once_for_all_who_subscribe_to_it(self):
        key = self.name()
        peers = [self.peer() for _ in range(8)]
        for peer in peers:
            peer.subscribe(f"/topic/{key}")
        lines = self.broker.ctl("list_bindings", "-p", self.vhost, "routing_key").splitlines()
        self.assertLessEqual(lines.count(key), 2)
        peers[0].send(f"/topic/{key}", b"x")
        self.assertEqual([peer.message().body for peer in peers], [b"x"] * 8)


if __name__ == "__main__":
    unittest.main()
