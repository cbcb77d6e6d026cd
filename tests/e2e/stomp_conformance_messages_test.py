# SPDX-License-Identifier: Apache-2.0
"""SEND and MESSAGE: headers and properties both ways, receipts, errors."""
import unittest

from harness import Consumer, StompConformance, conforms

# STOMP header: (AMQP property, value as STOMP has it, as AMQP has it)
PROPERTIES = {
    "content-type": ("content_type", "text/x-y", "text/x-y"), "content-encoding": ("content_encoding", "gzip", "gzip"),
    "priority": ("priority", "3", 3), "correlation-id": ("correlation_id", "c-1", "c-1"), "expiration": ("expiration", "600000", "600000"),
    "amqp-message-id": ("message_id", "m-1", "m-1"), "timestamp": ("timestamp", "1700000000", 1700000000), "type": ("type", "t", "t"),
    "app-id": ("app_id", "app", "app"), "persistent": ("delivery_mode", "true", 2),
}


class Messages(StompConformance):
    def beside(self):
        """An AMQP client with a queue that nobody else knows."""
        beside = self.open(Consumer(self.amqp))
        beside.queue = beside.channel.queue_declare(self.name("q")).method.queue
        return beside

    @conforms(stomp="message-1 message-2 message-3 length-2", plugin="message-headers")
    def test_a_message_says_where_it_went_and_to_whom_it_comes(self):
        def check(version):
            peer = self.peer(version)
            peer.subscribe("/topic/where.*", "sub-1")
            ids = set()
            for i in range(3):
                destination = f"/topic/where.{i}"
                peer.send(destination, b"x" * i)
                message = peer.message()
                self.assertEqual((message["destination"], message["subscription"], message.body), (destination, "sub-1", b"x" * i))
                self.assertEqual(int(message.get("content-length", "0")), i)
                self.assertNotIn("ack", message.headers)
                ids.add(message["message-id"])
            self.assertEqual(len(ids), 3)
        self.each_version(check)

    @conforms(stomp="send-2 type-1 type-3", plugin="headers")
    def test_headers_of_the_users_own_are_passed_on(self):
        def check(version):
            peer = self.peer(version)
            destination = f"/topic/{self.name()}"
            peer.subscribe(destination)
            peer.send(destination, b"x", content_type="application/x-a", colour="red", **{"x-my-header": "1"})
            message = peer.message()
            self.assertEqual((message["colour"], message["x-my-header"], message["content-type"]), ("red", "1", "application/x-a"))
            peer.send(destination, b"\0\xff", content_length="2")
            self.assertNotIn("content-type", peer.message().headers)
        self.each_version(check)

    @conforms(stomp="send-2", plugin="headers-own")
    def test_headers_of_the_protocol_are_not_passed_on(self):
        peer = self.peer()
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        peer.send(destination, b"x", content_length="1")
        self.assertNotIn("receipt", peer.message().headers)

    @conforms(plugin="properties")
    def test_properties_go_both_ways(self):
        beside, peer = self.beside(), self.peer()
        peer.send(f"/amq/queue/{beside.queue}", b"x", **{k: stomp for k, (_, stomp, _) in PROPERTIES.items()})
        _, properties, _ = beside.take()
        self.assertEqual({amqp: getattr(properties, amqp) for amqp, _, _ in PROPERTIES.values()},
                         {amqp: value for amqp, _, value in PROPERTIES.values()})
        beside.channel.cancel()
        peer.subscribe(f"/amq/queue/{beside.queue}")
        beside.publish("", beside.queue, b"y", **{amqp: value for amqp, _, value in PROPERTIES.values()})
        message = peer.message()
        self.assertEqual({k: message[k] for k in PROPERTIES}, {k: stomp for k, (_, stomp, _) in PROPERTIES.items()})

    @conforms(plugin="user-id")
    def test_a_client_cannot_say_whose_message_it_is(self):
        peer = self.peer()
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        peer.asked("SEND", b"x", destination=destination, **{"user-id": "guest"})
        self.assertNotIn("user-id", peer.message().headers)

    @conforms(plugin="headers-typed")
    def test_headers_of_every_type_are_shown(self):
        beside, peer = self.beside(), self.peer()
        peer.subscribe(f"/amq/queue/{beside.queue}")
        beside.publish("", beside.queue, b"x", headers={"text": "a", "number": 7, "yes": True, "table": {"a": 1}})
        message = peer.message()
        self.assertEqual((message["text"], message["number"], message["yes"]), ("a", "7", "true"))
        self.assertIn('"a"', message["table"])

    @conforms(plugin="headers")
    def test_headers_of_text_and_numbers_are_shown(self):
        beside, peer = self.beside(), self.peer()
        peer.subscribe(f"/amq/queue/{beside.queue}")
        beside.publish("", beside.queue, b"x", headers={"text": "a", "number": 7})
        message = peer.message()
        self.assertEqual((message["text"], message["number"]), ("a", "7"))

    @conforms(plugin="reply-to")
    def test_a_reply_to_is_a_destination_to_answer_to(self):
        beside, peer = self.beside(), self.peer()
        peer.subscribe(f"/amq/queue/{beside.queue}")
        for given, shown in (("answers", "/reply-queue/answers"), ("/topic/answers", "/topic/answers")):
            beside.publish("", beside.queue, b"x", reply_to=given)
            self.assertEqual(peer.message()["reply-to"], shown)

    @conforms(plugin="reply-to")
    def test_an_answer_goes_to_the_reply_queue(self):
        beside, peer = self.beside(), self.peer()
        peer.send(f"/reply-queue/{beside.queue}", b"answer")
        self.assertEqual(beside.take()[2], b"answer")

    @conforms(plugin="message-id")
    def test_send_may_not_have_a_message_id(self):
        peer = self.peer()
        peer.frame("SEND", b"x", destination="/topic/a", message_id="mine")
        peer.take("ERROR")

    @conforms(stomp="receipt-1 receipt-2", plugin="receipts")
    def test_each_frame_that_asks_gets_its_receipt(self):
        def check(version):
            peer = self.peer(version)
            destination = f"/queue/{self.name('q')}"
            receipt = "a:b c" if version != "1.0" else "a b"
            peer.frame("SUBSCRIBE", destination=destination, id="0", ack="client", receipt=receipt)
            self.assertEqual(peer.next("RECEIPT")["receipt-id"], receipt)
            peer.send(destination, b"x")
            message = peer.message()
            peer.answer("ACK", message)
            peer.send(destination, b"y")
            peer.message()
            peer.unsubscribe()
            peer.leave()
        self.each_version(check)

    @conforms(stomp="receipt-2", plugin="receipts")
    def test_a_receipt_for_a_persistent_message_comes_when_rabbitmq_has_it(self):
        beside, peer = self.beside(), self.peer()
        for i in range(20):
            peer.send(f"/amq/queue/{beside.queue}", b"x", persistent="true")
            self.assertEqual(beside.channel.queue_declare(beside.queue, passive=True).method.message_count, i + 1)

    @conforms(plugin="receipt-rejected")
    def test_a_message_that_rabbitmq_rejects_is_an_error(self):
        beside, peer = self.beside(), self.peer()
        full = self.name("full")
        beside.channel.queue_declare(full, exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        peer.send(f"/amq/queue/{full}", b"1", persistent="true")
        peer.frame("SEND", b"2", destination=f"/amq/queue/{full}", persistent="true", receipt="2")
        self.assertEqual(peer.error()["receipt-id"], "2")

    @conforms(plugin="receipt-unroutable")
    def test_a_message_for_a_queue_that_was_deleted_since_is_an_error(self):
        beside, peer = self.beside(), self.peer()
        queue = self.name("q")
        peer.send(f"/queue/{queue}", b"1")
        beside.channel.queue_delete(queue)
        peer.frame("SEND", b"2", destination=f"/queue/{queue}", receipt="2")
        self.assertEqual(peer.error()["receipt-id"], "2")

    @conforms(plugin="message-headers")
    def test_messages_of_one_sender_keep_their_order(self):
        peer = self.peer()
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        peer.send_raw(b"".join(peer.encode("SEND", b"%d" % i, destination=destination) for i in range(100)))
        self.assertEqual(peer.bodies(100), [b"%d" % i for i in range(100)])


# Frames that are wrong, which is told; {} is a name of the test's own.
WRONG = {
    "SEND without a destination": ("SEND", {}),
    "SUBSCRIBE without a destination": ("SUBSCRIBE", {"id": "1"}),
    "SUBSCRIBE to an exchange that is not there": ("SUBSCRIBE", {"destination": "/exchange/absent/a", "id": "1"}),
    "SUBSCRIBE to a queue that is not there": ("SUBSCRIBE", {"destination": "/amq/queue/absent", "id": "1"}),
    "SEND to an exchange that is not there": ("SEND", {"destination": "/exchange/absent/a"}),
    "SEND to what has too many parts": ("SEND", {"destination": "/topic/a/b"}),
    "an acknowledgement mode that is none": ("SUBSCRIBE", {"destination": "/topic/a", "id": "1", "ack": "later"}),
    "UNSUBSCRIBE of what is not subscribed": ("UNSUBSCRIBE", {"id": "absent"}),
    "ACK of what is not there": ("ACK", {"id": "absent", "message-id": "absent", "subscription": "1"}),
    "ACK without a name": ("ACK", {}),
    "NACK without a name": ("NACK", {}),
}


class Errors(StompConformance):
    @conforms(stomp="send-1 send-3 subscribe-1 subscribe-2 unsubscribe-2 ack-2 ack-3 error-2 type-1 length-2", plugin="error-known")
    def test_what_is_wrong_is_told(self):
        def check(version):
            for name, (command, headers) in WRONG.items():
                with self.subTest(name):
                    peer = self.peer(version)
                    peer.frame(command, **headers)
                    error = peer.take("ERROR")
                    self.assertTrue(error["message"])
                    self.assertTrue(error.body)
                    self.assertTrue(error["content-type"].startswith("text/plain"))
                    self.assertEqual(int(error["content-length"]), len(error.body))
        self.each_version(check, ("1.1", "1.2"))

    @conforms(stomp="ack-4 unsubscribe-2 send-1 subscribe-1 error-2", plugin="error-known")
    def test_so_it_is_in_1_0(self):
        for name, (command, headers) in WRONG.items():
            with self.subTest(name):
                if command != "NACK":
                    peer = self.peer("1.0")
                    peer.frame(command, **headers)
                    self.assertTrue(peer.take("ERROR")["message"])

    @conforms(stomp="error-1 send-3 subscribe-2", plugin="error-ends")
    def test_an_error_is_the_last_frame(self):
        def check(version):
            for name, (command, headers) in WRONG.items():
                with self.subTest(name):
                    peer = self.peer(version)
                    peer.frame(command, **headers)
                    peer.error()
        self.each_version(check, ("1.1", "1.2"))

    @conforms(stomp="error-3", plugin="error-receipt")
    def test_an_error_names_the_receipt_of_its_frame(self):
        for name, (command, headers) in WRONG.items():
            with self.subTest(name):
                peer = self.peer()
                peer.frame(command, **headers, receipt="r-1")
                self.assertEqual(peer.error()["receipt-id"], "r-1")

    @conforms(stomp="subscribe-3 subscribe-4 connect-3", plugin="subscription-ids")
    def test_subscriptions_need_ids_of_their_own(self):
        def check(version):
            peer = self.peer(version)
            peer.subscribe("/topic/a", "same")
            peer.frame("SUBSCRIBE", destination="/topic/b", id="same")
            peer.take("ERROR")
        self.each_version(check)

    @conforms(plugin="error-others")
    def test_a_failing_client_does_not_disturb_others(self):
        other = self.peer()
        destination = f"/topic/{self.name()}"
        other.subscribe(destination)
        for command, headers in WRONG.values():
            peer = self.peer()
            peer.frame(command, **headers)
            peer.take("ERROR")
            other.send(destination, b"x")
            self.assertEqual(other.message().body, b"x")


if __name__ == "__main__":
    unittest.main()
