# SPDX-License-Identifier: Apache-2.0
"""How STOMP frames have queues declared, consumed and bound: properties from headers, durable subscriptions, streams, headers exchanges."""
import base64
import hashlib
import json
import struct
import unittest

import pika

from harness import Consumer, E2E, Gateway, Proxy, Stomp, eventually
from harness.gateway import config_text
from private_rabbitmq import free_ports

ALL_ACKS = ("auto", "client", "client-individual")
STAYS = {"durable": "true", "auto-delete": "false"}
STREAM = {"x-queue-type": "stream"}
RULES = """
[[rule]]
name = "alarms"
topic = "alarms/{kind}"
exchange = "amq.headers"
key = "{kind}"
"""


def durable_name(key, subscription):
    """The plugin's name for a queue: of the MD5 of {"key", "subscription"} as Erlang writes it, whose strings are lists."""
    def term(text):
        return b"\x6b" + struct.pack(">H", len(text)) + text if text else b"\x6a"

    digest = hashlib.md5(b"\x83\x68\x02" + term(key.encode()) + term(subscription.encode())).digest()
    return "stomp-subscription-" + base64.urlsafe_b64encode(digest).decode().rstrip("=")


class Queues(E2E):
    more = ""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = Gateway(config_text(cls.amqp, cls.more)).start()

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        super().tearDownClass()

    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))
        self.name = self.id().rsplit(".", 1)[1]

    def client(self, **options):
        return self.open(Stomp(self.gw.addresses["stomp"], **options))

    def refused(self, destination, ack="auto", **headers):
        """The ERROR that a SUBSCRIBE ends with."""
        client = self.client()
        client.connection.subscribe(destination, id="1", ack=ack, headers=headers)
        return client.errors.take()

    def exists(self, queue):
        channel = self.beside.connection.channel()
        try:
            channel.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as e:
            self.assertEqual(e.reply_code, 404)
            return False
        channel.close()
        return True

    def fill(self, queue, n):
        for i in range(n):
            self.beside.publish("", queue, str(i).encode())

    def acknowledge(self, client, frame):
        if "ack" in frame.headers:
            receipt = client.receipt_id()
            client.connection.ack(frame.headers["ack"], receipt=receipt)
            client.receipts.take(lambda r: r == receipt)


class StompQueueProperties(Queues):
    def test_headers_are_the_queues_properties(self):
        plain = {"durable": True, "auto_delete": False, "exclusive": False, "arguments": {}}
        cases = {
            "plain": ({}, plain),
            "typed": ({"x-message-ttl": "60000", "x-max-length": "5", "x-max-length-bytes": "1000", "x-max-priority": "3",
                       "x-overflow": "reject-publish", "x-expires": "600000", "x-dead-letter-exchange": "amq.fanout",
                       "x-dead-letter-routing-key": "dead"},
                      plain | {"arguments": {"x-message-ttl": 60000, "x-max-length": 5, "x-max-length-bytes": 1000,
                                             "x-max-priority": 3, "x-overflow": "reject-publish", "x-expires": 600000,
                                             "x-dead-letter-exchange": "amq.fanout", "x-dead-letter-routing-key": "dead"}}),
            "quorum": ({"x-queue-type": "quorum"}, plain | {"arguments": {"x-queue-type": "quorum"}}),
            "stream": (STREAM | {"x-max-age": "7D", "x-stream-max-segment-size-bytes": "1000000"},
                       plain | {"arguments": {"x-queue-type": "stream", "x-max-age": "7D", "x-stream-max-segment-size-bytes": 1000000}}),
            "leaving": ({"auto-delete": "true"}, plain | {"auto_delete": True}),
            "transient": ({"durable": "false", "exclusive": "false", "auto-delete": "false"}, plain | {"durable": False}),
        }
        only_subscribed = {
            "exclusive": ({"exclusive": "true"}, plain | {"durable": False, "exclusive": True}),
            "own": ({"durable": "false"}, plain | {"durable": False, "auto_delete": True, "exclusive": True}),
        }
        client = self.client()
        wanted = {}
        for ack in ALL_ACKS:
            for name, (headers, properties) in (cases | only_subscribed).items():
                client.subscribe(f"/queue/{ack}.{name}", f"{ack}.{name}", ack=ack, **headers)
                wanted[f"{ack}.{name}"] = properties
        for name, (headers, properties) in cases.items():
            client.send(f"/queue/send.{name}", b"x", **headers)
            wanted[f"send.{name}"] = properties
        columns = ["name", "durable", "auto_delete", "exclusive", "arguments"]
        rows = json.loads(self.broker.ctl("list_queues", "-p", self.vhost, "--formatter", "json", *columns))
        found = {row.pop("name"): row for row in rows}
        for row in found.values():
            row["arguments"] = {name: value for name, _, value in row["arguments"]}
            row["exclusive"] = row["exclusive"] is True  # of a stream: ""
        for name, properties in wanted.items():
            with self.subTest(queue=name):
                self.assertEqual(found[name], properties)
        client.close()
        eventually(lambda: not self.exists("auto.own") and not self.exists("client.exclusive"))

    def test_what_is_wrong_is_told_and_disturbs_nobody(self):
        bystander = self.client()
        bystander.subscribe("/queue/bystander", ack="client")
        self.beside.publish("", "bystander", b"before")
        held = bystander.messages.take()
        self.beside.channel.queue_declare("made", durable=True, arguments={"x-message-ttl": 5000})
        self.addCleanup(self.beside.channel.queue_delete, "made")
        self.beside.channel.queue_declare("made.stream", durable=True, arguments={"x-queue-type": "stream"})
        for destination, headers, expected in (
                ("/queue/bad", {"x-max-length": "many"}, "the header x-max-length is not a number of messages: many"),
                ("/queue/bad", STREAM | {"x-max-age": "old"}, "the header x-max-age is not a number and a unit"),
                ("/queue/bad", {"x-queue-type": "lifo"}, "the header x-queue-type is none of classic, quorum, stream: lifo"),
                ("/amq/queue/made.stream", {"x-stream-offset": "bogus"}, "the header x-stream-offset is none of first, last"),
                ("/amq/queue/made", {"x-stream-offset": "first"}, "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'made'"),
                ("/amq/queue/made.stream", {"x-priority": "5"}, "PRECONDITION_FAILED - invalid arg 'x-priority'"),
                ("/queue/made", {}, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'made'"),
                ("/queue/made", {"ack": "client", "x-message-ttl": "1"}, "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl'"),
                ("/topic/a", {"durable": "true", "x-queue-name": "made"}, "PRECONDITION_FAILED - inequivalent arg"),
                ("/topic/a/b", {}, "a slash inside it is written %2F")):
            with self.subTest(destination=destination, headers=headers):
                error = self.refused(destination, **headers)
                self.assertIn(expected, error.body.decode())
        sender = self.client()
        sender.connection.send("/queue/made", "x", headers={"receipt": "r"})
        error = sender.errors.take()
        self.assertEqual(error.headers["receipt-id"], "r")
        self.assertIn("PRECONDITION_FAILED - inequivalent arg 'x-message-ttl'", error.body.decode())
        self.acknowledge(bystander, held)  # refused, had its link been lost
        self.beside.publish("", "bystander", b"after")
        self.assertEqual(bystander.messages.take().body, b"after")

    def test_an_exclusive_queue_has_one_user(self):
        first = self.client()
        first.subscribe("/queue/mine", exclusive="true")
        first.send("/queue/mine", b"to myself")
        self.assertEqual(first.messages.take().body, b"to myself")
        self.assertIn("xclusive", self.refused("/queue/mine", exclusive="true").body.decode())
        first.unsubscribe()
        eventually(lambda: not self.exists("mine"))
        again = self.client()
        again.subscribe("/queue/mine", exclusive="true")

    def test_a_foreign_queue_is_consumed_alone_and_by_priority(self):
        self.beside.channel.queue_declare(self.name)
        self.addCleanup(self.beside.channel.queue_delete, self.name)
        low, high = self.client(), self.client()
        low.subscribe(f"/amq/queue/{self.name}", **{"x-priority": "-1"})
        high.subscribe(f"/amq/queue/{self.name}", ack="client", **{"x-priority": "10"})
        self.fill(self.name, 3)
        self.assertEqual([f.body for f in high.messages.take_n(3)], [b"0", b"1", b"2"])
        low.close()
        high.close()
        alone = self.client()

        def alone_consumes():
            client = Stomp(self.gw.addresses["stomp"])
            client.connection.subscribe(f"/amq/queue/{self.name}", id="0", ack="client", headers={"exclusive": "true", "receipt": "0"})
            try:
                client.receipts.take(limit_s=0.5)
            except AssertionError:
                client.close()
                return None
            return client

        alone = self.open(eventually(alone_consumes))
        self.assertEqual([f.body for f in alone.messages.take_n(3)], [b"0", b"1", b"2"])
        self.assertIn("ACCESS_REFUSED", self.refused(f"/amq/queue/{self.name}").body.decode())


class StompDurable(Queues):
    def test_messages_wait_for_a_durable_subscriber(self):
        for ack in ALL_ACKS:
            for to, destination, queue in (("/topic/d.a", "/topic/d.*", None),
                                           ("/exchange/amq.direct/d", "/exchange/amq.direct/d", "named"),
                                           ("/alarms/d", "/alarms/*", None)):
                with self.subTest(ack=ack, destination=destination):
                    options = STAYS | ({"x-queue-name": f"{queue}.{ack}"} if queue else {})
                    client = self.client()
                    client.subscribe(destination, f"id.{ack}", ack=ack, **options)
                    client.close()
                    sender = self.client()
                    sender.send(to, b"1")
                    sender.send(to, b"2")
                    again = self.client()
                    again.subscribe(destination, f"id.{ack}", ack=ack, **options)
                    frames = again.messages.take_n(2)
                    self.assertEqual([(f.body, f.headers["destination"]) for f in frames], [(b"1", to), (b"2", to)])
                    for frame in frames:
                        if ack != "client" or frame is frames[1]:
                            self.acknowledge(again, frame)
                    receipt = again.receipt_id()
                    again.connection.unsubscribe(id=f"id.{ack}", headers={"receipt": receipt, **STAYS})
                    again.receipts.take(lambda r: r == receipt)
                    sender.send(to, b"3")
                    last = self.client()
                    last.subscribe(destination, f"id.{ack}", ack=ack, **options)
                    sender.send(to, b"4")
                    frame = last.messages.take()
                    self.assertEqual(frame.body, b"4")  # and not 3: the queue was gone
                    self.acknowledge(last, frame)
                    receipt = last.receipt_id()
                    last.connection.unsubscribe(id=f"id.{ack}", headers={"receipt": receipt, "durable": "true"})
                    last.receipts.take(lambda r: r == receipt)
                    if queue:
                        self.assertFalse(self.exists(f"{queue}.{ack}"))

    def test_what_was_not_answered_waits_as_well(self):
        client = self.client()
        client.subscribe("/topic/unanswered", "1", ack="client-individual", **STAYS)
        client.send("/topic/unanswered", b"x")
        client.messages.take()
        client.close()
        again = self.client()
        again.subscribe("/topic/unanswered", "1", ack="client-individual", **STAYS)
        self.assertEqual(again.messages.take().headers["redelivered"], "true")

    def test_auto_delete_takes_the_queue_away_with_its_subscriber(self):
        client = self.client()
        client.subscribe("/topic/leaving", "1", durable="true", **{"x-queue-name": "leaving"})
        self.assertTrue(self.exists("leaving"))
        client.close()
        eventually(lambda: not self.exists("leaving"))

    def test_a_subscription_to_an_exchange_that_is_not_there_leaves_no_queue(self):
        error = self.refused("/exchange/nowhere/k", **STAYS, **{"x-queue-name": "stray"})
        self.assertIn("no such exchange", error.headers["message"])
        eventually(lambda: not self.exists("stray"))

    def plugin(self):
        """The port of RabbitMQ's own STOMP plugin, which is there for this test."""
        port, = free_ports(1)
        enabled = self.broker.folder / "enabled_plugins"
        before = enabled.read_text()

        def enable(text):
            enabled.write_text(text)
            self.broker.eval(f'application:set_env(rabbitmq_stomp, tcp_listeners, [{{"127.0.0.1", {port}}}], [{{persistent, true}}]), '
                             f'rabbit_plugins:ensure("{enabled}").')

        self.addCleanup(enable, before)
        enable(before.replace("[", "[rabbitmq_stomp,", 1))
        return port

    def test_what_the_plugin_left_is_taken_over_and_back(self):
        port = self.plugin()
        cases = (("/topic/left.#", "left.#", "/topic/left.x", "a"), ("/topic/l%2Fm", "l/m", "/topic/l%2Fm", "id with é: and /"),
                 ("/exchange/amq.direct/left", "left", "/exchange/amq.direct/left", "b"),
                 ("/exchange/amq.fanout", "", "/exchange/amq.fanout", "c"))
        sender = self.client()
        for destination, key, to, id in cases:
            with self.subTest(destination=destination):
                queue = durable_name(key, id)
                left = self.open(Stomp(("127.0.0.1", port), host=self.vhost))
                left.subscribe(destination, id, **STAYS)
                left.close()
                eventually(lambda: self.beside.channel.queue_declare(queue, passive=True).method.consumer_count == 0)
                sender.send(to, b"1")
                here = self.client()
                here.subscribe(destination, id, **STAYS)
                self.assertEqual(here.messages.take().body, b"1")
                here.close()
                eventually(lambda: self.beside.channel.queue_declare(queue, passive=True).method.consumer_count == 0)
                sender.send(to, b"2")
                back = self.open(Stomp(("127.0.0.1", port), host=self.vhost))
                back.subscribe(destination, id, **STAYS)
                self.assertEqual(back.messages.take().body, b"2")
                back.close()


class StompStreams(Queues):
    def stream(self, n):
        self.beside.channel.confirm_delivery()
        self.beside.channel.queue_declare(self.name, durable=True, arguments=STREAM)
        self.addCleanup(self.beside.channel.queue_delete, self.name)
        self.fill(self.name, n)

    def test_a_stream_is_read_from_where_the_subscriber_says(self):
        self.stream(5)
        everything = list(range(5))
        cases = (("first", everything), ("offset=2", [2, 3, 4]), ("3", [3, 4]), ("timestamp=1600000000", everything), ("1h", everything))
        for offset, expected in cases:
            for ack, destination in (("auto", f"/queue/{self.name}"), ("client", f"/amq/queue/{self.name}")):
                with self.subTest(offset=offset, ack=ack):
                    client = self.client()
                    client.subscribe(destination, ack=ack, **STREAM, **{"x-stream-offset": offset})
                    frames = client.messages.take_n(len(expected))
                    self.assertEqual([int(f.headers["x-stream-offset"]) for f in frames], expected)
                    client.close()
        client = self.client()
        client.subscribe(f"/queue/{self.name}", **STREAM, **{"x-stream-offset": "last"})  # the last chunk, which may hold more
        client.messages.take(lambda f: f.headers["x-stream-offset"] == "4")
        client.close()

    def test_or_from_its_end(self):
        self.stream(3)
        for n, destination, more in ((3, "/queue/", STREAM), (4, "/queue/", STREAM | {"x-stream-offset": "next"}), (5, "/amq/queue/", {})):
            with self.subTest(more=more):
                client = self.client()
                client.subscribe(destination + self.name, **more)
                self.beside.publish("", self.name, b"new")
                self.assertEqual(client.messages.take().headers["x-stream-offset"], str(n))
                client.close()

    def test_a_stream_needs_answers_like_a_queue(self):
        self.stream(5)
        client = self.client()
        client.subscribe(f"/queue/{self.name}", ack="client", **STREAM, **{"x-stream-offset": "first", "prefetch-count": "2"})
        frames = client.messages.take_n(2)
        client.messages.assert_silent()
        self.acknowledge(client, frames[1])
        self.assertEqual([f.body for f in client.messages.take_n(2)], [b"2", b"3"])

    def test_after_a_lost_link_it_goes_on_where_it_was(self):
        self.stream(5)
        proxy = self.enterContext(Proxy(("127.0.0.1", self.broker.port)))
        gw = self.gateway(amqp=self.amqp_by(proxy))
        for ack, expected in (("auto", [b"new"]), ("client-individual", [b"1", b"2", b"3", b"4", b"new"])):
            with self.subTest(ack=ack):
                client = self.open(Stomp(gw.addresses["stomp"]))
                client.subscribe(f"/queue/{self.name}", ack=ack, **STREAM, **{"x-stream-offset": "first"})
                frames = client.messages.take_n(5)
                self.acknowledge(client, frames[0])
                self.acknowledge(client, frames[2])
                proxy.cut()
                self.beside.publish("", self.name, b"new")
                bodies = []
                while b"new" not in bodies:
                    bodies.append(client.messages.take().body)
                self.assertEqual(bodies, expected)
                client.close()
                self.beside.channel.queue_delete(self.name)
                self.stream(5)


class StompHeadersExchange(Queues):
    more = RULES

    def matched(self, destination, to, cases, **arguments):
        client = self.client()
        client.subscribe(destination, **arguments)
        for headers, _ in cases:
            self.beside.publish("amq.headers", to, json.dumps(headers).encode(), headers=headers)
        self.beside.publish("amq.headers", to, b"end", headers={"colour": "red", "size": 5, "x-kind": "end"})
        bodies = []
        while b"end" not in bodies:
            bodies.append(client.messages.take().body)
        client.close()
        self.assertEqual(bodies[:-1], [json.dumps(headers).encode() for headers, is_wanted in cases if is_wanted])

    def test_headers_are_matched_with_their_types(self):
        red, big, both, neither = {"colour": "red"}, {"size": 5}, {"colour": "red", "size": 5}, {"colour": "blue", "size": "5"}
        for destination in ("/exchange/amq.headers", "/alarms/fire"):
            for ack in ("auto", "client"):
                for match, wanted in (("all", [both]), ("any", [red, big, both])):
                    with self.subTest(destination=destination, match=match, ack=ack):
                        cases = [(h, h in wanted) for h in (red, big, both, neither)]
                        self.matched(destination, "fire", cases, ack=ack, **{"x-match": match, "colour": "red", "size": "int:5"})
        self.matched("/exchange/amq.headers", "k", [({"x-kind": "start"}, False)], **{"x-match": "all-with-x", "x-kind": "end"})

    def test_without_x_match_everything_comes(self):
        self.matched("/exchange/amq.headers", "k", [({"colour": "blue"}, True)], colour="red")


class StompTopicExchange(E2E):
    def test_topics_are_in_the_configured_exchange(self):
        beside = self.open(Consumer(self.amqp))
        beside.channel.exchange_declare("events", "topic")
        gw = self.gateway('[stomp]\ndefault_topic_exchange = "events"\n')
        client = self.open(Stomp(gw.addresses["stomp"]))
        client.subscribe("/topic/a.*")
        client.subscribe("/topic/a.*", "kept", **STAYS)
        beside.publish("events", "a.b", b"x")
        frames = client.messages.take_n(2)
        self.assertEqual({(f.body, f.headers["destination"]) for f in frames}, {(b"x", "/exchange/events/a.b")})
        queue = beside.bind("events", "c")
        client.send("/topic/c", b"y")
        self.assertEqual(beside.take(queue=queue)[2], b"y")


if __name__ == "__main__":
    unittest.main()
