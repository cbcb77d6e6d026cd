# SPDX-License-Identifier: Apache-2.0
"""STOMP subscriptions: acknowledgement modes, prefetch, what comes again, and to whom."""
import unittest

from harness import Consumer, StompConformance, conforms, eventually


class Subscriptions(StompConformance):
    options = {"rabbitmq": "prefetch = 64"}

    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))
        self.queue = self.beside.channel.queue_declare(self.name("q")).method.queue
        self.destination = f"/amq/queue/{self.queue}"

    def fill(self, n):
        for i in range(n):
            self.beside.channel.basic_publish("", self.queue, b"%d" % i)

    def subscriber(self, version="1.2", id="0", **headers):
        peer = self.peer(version)
        peer.subscribe(self.destination, id, **headers)
        return peer

    def assert_left(self, *bodies):
        """What nobody has consumed, once all consumers have gone and what they held is back; the queue is empty then."""
        def is_back():
            declared = self.beside.channel.queue_declare(self.queue, passive=True).method
            return (declared.message_count, declared.consumer_count) == (len(bodies), 0)
        eventually(is_back, self.limit_s)
        self.assertEqual([self.beside.channel.basic_get(self.queue, auto_ack=True)[2] for _ in bodies], list(bodies))

    @conforms(stomp="subscribe-5 subscribe-6", plugin="ack-auto")
    def test_auto_is_the_default_and_needs_no_acknowledgement(self):
        def check(version):
            for headers in ({}, {"ack": "auto"}):
                self.fill(3)
                peer = self.subscriber(version, **headers)
                self.assertEqual(peer.bodies(3), [b"0", b"1", b"2"])
                peer.leave()
                self.assert_left()
        self.each_version(check)

    @conforms(stomp="subscribe-5 subscribe-7 ack-1 message-4", plugin="ack-client")
    def test_client_acknowledges_all_up_to_a_message(self):
        def check(version):
            self.fill(4)
            peer = self.subscriber(version, ack="client")
            messages = [peer.message() for _ in range(4)]
            self.assertEqual("ack" in messages[0].headers, version == "1.2")
            peer.answer("ACK", messages[2])
            peer.leave()
            self.assert_left(b"3")
        self.each_version(check)

    @conforms(stomp="subscribe-5 subscribe-9 message-4 ack-2 ack-3", plugin="ack-individual")
    def test_client_individual_acknowledges_one(self):
        def check(version):
            self.fill(4)
            peer = self.subscriber(version, ack="client-individual")
            messages = [peer.message() for _ in range(4)]
            self.assertEqual("ack" in messages[0].headers, version == "1.2")
            peer.answer("ACK", messages[2])
            peer.leave()
            self.assert_left(b"0", b"1", b"3")
        self.each_version(check, ("1.1", "1.2"))

    @conforms(stomp="subscribe-7", plugin="ack-subscription")
    def test_client_acknowledges_nothing_of_another_subscription(self):
        other = self.beside.channel.queue_declare(self.name("q")).method.queue
        peer = self.peer()
        peer.subscribe(f"/amq/queue/{other}", "1", ack="client")
        peer.subscribe(self.destination, "2", ack="client")
        self.beside.channel.basic_publish("", other, b"theirs")
        peer.take("MESSAGE", subscription="1")
        self.fill(1)
        peer.answer("ACK", peer.take("MESSAGE", subscription="2"))
        peer.leave()
        self.queue = other
        self.assert_left(b"theirs")

    @conforms(stomp="subscribe-8 ack-1", plugin="redelivery")
    def test_what_was_not_acknowledged_comes_again_to_another(self):
        for headers in ({"ack": "client"}, {"ack": "client-individual"}):
            for end in ("leave", "drop"):
                with self.subTest(headers, end=end):
                    self.fill(3)
                    peer = self.subscriber(**headers)
                    self.assertEqual({peer.message().get("redelivered", "false") for _ in range(3)}, {"false"})
                    getattr(peer, end)()
                    again = self.subscriber(**headers)
                    messages = [again.message() for _ in range(3)]
                    self.assertEqual([(m.body, m["redelivered"]) for m in messages], [(b"%d" % i, "true") for i in range(3)])
                    for message in messages if headers["ack"] == "client-individual" else messages[-1:]:
                        again.answer("ACK", message)
                    again.leave()
                    self.assert_left()

    @conforms(stomp="nack-1", plugin="nack")
    def test_a_nacked_message_comes_again(self):
        def check(version):
            self.fill(1)
            peer = self.subscriber(version, ack="client-individual")
            first = peer.message()
            peer.answer("NACK", first)
            second = peer.message()
            self.assertEqual((second.body, second["redelivered"]), (b"0", "true"))
            self.assertNotEqual(first["message-id"], second["message-id"])
            peer.answer("ACK", second)
            peer.leave()
            self.assert_left()
        self.each_version(check, ("1.1", "1.2"))

    @conforms(stomp="nack-1", plugin="nack")
    def test_nack_of_client_is_cumulative(self):
        self.fill(3)
        peer = self.subscriber(ack="client")
        messages = [peer.message() for _ in range(3)]
        peer.answer("NACK", messages[1], requeue="false")
        peer.leave()
        self.assert_left(b"2")

    @conforms(stomp="nack-1", plugin="nack-requeue")
    def test_nack_without_requeue_dead_letters(self):
        queue, dead = self.name("q"), self.beside.channel.queue_declare(self.name("dead")).method.queue
        self.beside.channel.queue_declare(queue, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        peer = self.peer()
        peer.subscribe(f"/amq/queue/{queue}", "living", ack="client-individual")
        peer.subscribe(f"/amq/queue/{dead}", "dead")
        self.beside.channel.basic_publish("", queue, b"x")
        peer.answer("NACK", peer.take("MESSAGE", subscription="living"), requeue="false")
        self.assertEqual(peer.take("MESSAGE", subscription="dead").body, b"x")

    @conforms(plugin="prefetch")
    def test_prefetch_count_limits_what_is_under_way(self):
        self.fill(4)
        peer = self.subscriber(ack="client-individual", **{"prefetch-count": "2"})
        messages = [peer.message() for _ in range(2)]
        other = self.subscriber()
        self.assertEqual(other.bodies(2), [b"2", b"3"])
        self.fill(1)
        self.assertEqual(other.message().body, b"0")
        self.assertEqual(peer.fence(), [])
        peer.answer("ACK", messages[0])

    @conforms(plugin="prefetch-zero")
    def test_a_prefetch_count_of_0_is_none(self):
        self.fill(100)
        peer = self.subscriber(ack="client", **{"prefetch-count": "0"})
        messages = [peer.message() for _ in range(100)]
        peer.answer("ACK", messages[-1])

    @conforms(plugin="prefetch-unlimited")
    def test_without_prefetch_count_there_is_a_limit(self):
        self.fill(100)
        peer = self.subscriber(ack="client")
        last = [peer.message() for _ in range(64)][-1]
        other = self.subscriber()
        self.assertEqual(other.bodies(36), [b"%d" % i for i in range(64, 100)])
        peer.answer("ACK", last)

    @conforms(stomp="unsubscribe-1", plugin="unsubscribe")
    def test_unsubscribed_means_no_more(self):
        def check(version):
            peer, watcher = self.peer(version), self.peer()
            destination = f"/topic/{self.name()}"
            peer.subscribe(destination)
            watcher.subscribe(destination)
            watcher.send(destination, b"1")
            self.assertEqual(peer.message().body, b"1")
            peer.unsubscribe()
            watcher.send(destination, b"2")
            self.assertEqual(watcher.bodies(2), [b"1", b"2"])
            self.assertEqual(peer.fence(), [])
            peer.subscribe(destination)
        self.each_version(check)

    @conforms(stomp="unsubscribe-1 unsubscribe-2", plugin="unsubscribe")
    def test_1_0_subscribes_and_unsubscribes_by_destination(self):
        peer = self.peer("1.0")
        destination = f"/topic/{self.name()}"
        peer.asked("SUBSCRIBE", destination=destination)
        peer.send(destination, b"1")
        self.assertEqual(peer.message().body, b"1")
        peer.asked("UNSUBSCRIBE", destination=destination)
        peer.send(destination, b"2")
        self.assertEqual(peer.fence(), [])

    @conforms(stomp="subscribe-3", plugin="subscription-id-missing")
    def test_from_1_1_on_a_subscription_needs_an_id(self):
        def check(version):
            peer = self.peer(version)
            peer.frame("SUBSCRIBE", destination="/topic/a")
            self.assertIn("id", peer.error()["message"])
        self.each_version(check, ("1.1", "1.2"))

    @conforms(plugin="dest-queue")
    def test_subscribers_of_a_queue_take_turns(self):
        one, two = self.subscriber(), self.subscriber()
        self.fill(10)
        self.assertEqual(sorted(one.bodies(5) + two.bodies(5)), [b"%d" % i for i in range(10)])

    @conforms(plugin="message-headers")
    def test_several_subscriptions_to_one_topic_get_a_copy_each(self):
        peer = self.peer()
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination, "1")
        peer.subscribe(destination, "2")
        peer.send(destination, b"x")
        self.assertEqual({peer.message()["subscription"] for _ in range(2)}, {"1", "2"})


if __name__ == "__main__":
    unittest.main()
