# SPDX-License-Identifier: Apache-2.0
"""STOMP transactions: BEGIN, COMMIT and ABORT around SEND, ACK and NACK."""
import unittest

from harness import Consumer, StompConformance, conforms, eventually


class Transactions(StompConformance):
    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))
        self.queue = self.beside.channel.queue_declare(self.name("q")).method.queue
        self.destination = f"/amq/queue/{self.queue}"

    def ready(self):
        return self.beside.channel.queue_declare(self.queue, passive=True).method.message_count

    @conforms(stomp="begin-3", plugin="transactions")
    def test_what_is_sent_comes_with_commit(self):
        def check(version):
            peer = self.peer(version)
            peer.asked("BEGIN", transaction="t")
            for i in range(3):
                peer.frame("SEND", b"%d" % i, destination=self.destination, transaction="t")
            peer.send(self.destination, b"outside", persistent="true")
            self.assertEqual(self.beside.channel.basic_get(self.queue, auto_ack=True)[2], b"outside")
            peer.asked("COMMIT", transaction="t")
            eventually(lambda: self.ready() == 3, self.limit_s)
            self.assertEqual([self.beside.channel.basic_get(self.queue, auto_ack=True)[2] for _ in range(3)], [b"0", b"1", b"2"])
        self.each_version(check)

    @conforms(stomp="begin-3", plugin="transactions-receipt")
    def test_the_receipt_of_commit_comes_when_rabbitmq_has_taken_it_all(self):
        peer, full = self.peer(), self.name("full")
        self.beside.channel.queue_declare(full, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        peer.asked("BEGIN", transaction="t")
        for _ in range(3):
            peer.frame("SEND", b"x", destination=f"/amq/queue/{full}", transaction="t", persistent="true")
        peer.frame("COMMIT", transaction="t", receipt="commit")
        self.assertEqual(peer.error()["receipt-id"], "commit")
        peer = self.peer()
        for n in range(1, 4):
            peer.asked("BEGIN", transaction="t")
            for _ in range(20):
                peer.frame("SEND", b"x", destination=self.destination, transaction="t", persistent="true")
            peer.asked("COMMIT", transaction="t")
            self.assertEqual(self.ready(), 20 * n)

    @conforms(stomp="receipt-1", plugin="transactions-send-receipt")
    def test_a_send_in_a_transaction_is_receipted_at_once(self):
        peer = self.peer()
        peer.asked("BEGIN", transaction="t")
        peer.asked("SEND", b"x", destination=self.destination, transaction="t")
        self.assertEqual(self.ready(), 0)

    @conforms(stomp="begin-3", plugin="transactions")
    def test_what_is_aborted_is_not_sent(self):
        peer = self.peer()
        peer.asked("BEGIN", transaction="t")
        peer.frame("SEND", b"no", destination=self.destination, transaction="t")
        peer.asked("ABORT", transaction="t")
        peer.asked("BEGIN", transaction="t")
        peer.frame("SEND", b"yes", destination=self.destination, transaction="t")
        peer.asked("COMMIT", transaction="t")
        eventually(self.ready, self.limit_s)
        self.assertEqual((self.ready(), self.beside.channel.basic_get(self.queue, auto_ack=True)[2]), (1, b"yes"))

    @conforms(stomp="begin-4", plugin="transactions")
    def test_what_is_not_committed_is_aborted_at_the_end(self):
        for end in ("leave", "drop"):
            with self.subTest(end):
                peer = self.peer()
                peer.asked("BEGIN", transaction="t")
                peer.frame("SEND", b"no", destination=self.destination, transaction="t")
                getattr(peer, end)()
                self.peer().send(self.destination, b"yes", persistent="true")
                self.assertEqual(self.beside.channel.basic_get(self.queue, auto_ack=True)[2], b"yes")
                self.assertEqual(self.ready(), 0)

    @conforms(stomp="begin-3", plugin="transactions")
    def test_several_run_at_once(self):
        peer = self.peer()
        for name in ("one", "two"):
            peer.asked("BEGIN", transaction=name)
        for name in ("one", "two", "one", "two"):
            peer.frame("SEND", name.encode(), destination=self.destination, transaction=name)
        peer.asked("COMMIT", transaction="two")
        peer.asked("ABORT", transaction="one")
        eventually(lambda: self.ready() == 2, self.limit_s)
        self.assertEqual({self.beside.channel.basic_get(self.queue, auto_ack=True)[2] for _ in range(2)}, {b"two"})

    @conforms(stomp="ack-5", plugin="transactions")
    def test_acknowledgements_are_part_of_it(self):
        def check(version):
            for command in ("COMMIT", "ABORT"):
                self.beside.channel.basic_publish("", self.queue, command.encode())
                peer = self.peer(version)
                peer.subscribe(self.destination, ack="client")
                message = peer.message()
                peer.asked("BEGIN", transaction="t")
                peer.answer("ACK", message, transaction="t")
                peer.asked(command, transaction="t")
                peer.leave()
                eventually(lambda n=command == "ABORT": self.ready() == n, self.limit_s)
            self.assertEqual(self.beside.channel.basic_get(self.queue, auto_ack=True)[2], b"ABORT")
        self.each_version(check)

    @conforms(stomp="begin-1 begin-5", plugin="transactions")
    def test_what_is_wrong_about_a_transaction_is_told(self):
        for command in ("BEGIN", "COMMIT", "ABORT"):
            peer = self.peer()
            peer.frame(command)
            self.assertIn("transaction", peer.take("ERROR")["message"])
        self.peer().asked("BEGIN", transaction="t")  # so that this is not only about what is never served
        for command in ("COMMIT", "ABORT"):
            peer = self.peer()
            peer.frame(command, transaction="absent")
            peer.take("ERROR")

    @conforms(stomp="begin-5", plugin="transactions-unknown")
    def test_a_send_in_a_transaction_that_has_not_begun_is_an_error(self):
        peer = self.peer()
        peer.asked("BEGIN", transaction="t")
        peer.frame("SEND", b"x", destination=self.destination, transaction="absent")
        peer.take("ERROR")

    @conforms(stomp="begin-2", plugin="transactions-twice")
    def test_a_transaction_begins_once(self):
        peer = self.peer()
        peer.asked("BEGIN", transaction="t")
        peer.frame("BEGIN", transaction="t")
        self.assertTrue(peer.error()["message"])


if __name__ == "__main__":
    unittest.main()
