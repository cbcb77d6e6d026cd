# SPDX-License-Identifier: Apache-2.0
"""What RabbitMQ or the gateway refuses is told to whoever sent it, in its protocol's words, and to nobody else."""
import json

from harness import Consumer, Controls, E2E, Mqtt, Stomp, eventually, http

RULES = """
[[exchange]]
name = "doomed"
type = "topic"
[[exchange]]
name = "internal"
type = "topic"
internal = true
[[rule]]
name = "full"
topic = "full/{x}"
exchange = "amq.topic"
key = "full.{x}"
[[rule]]
name = "withheld"
topic = "withheld/{x}"
exchange = "amq.topic"
key = "full.{x}"
on_reject = "withhold"
[[rule]]
name = "must"
topic = "must/{x}"
exchange = "amq.topic"
key = "must.{x}"
mandatory = true
[[rule]]
name = "doomed"
topic = "doomed/{x}"
exchange = "doomed"
key = "doomed.{x}"
[[rule]]
name = "internal"
topic = "internal/{x}"
exchange = "internal"
key = "internal.{x}"
"""
INNOCENTS = 100


class Refusals(E2E):
    def setUp(self):
        self.broker_client = self.open(Consumer(self.amqp))
        self.channel = self.broker_client.channel

    def start(self, rabbitmq=""):
        """One worker, so that everybody shares its link and its channels."""
        self.gw = self.gateway(RULES, workers=1, rabbitmq=rabbitmq)
        return Controls(self.gw)

    def closes(self):
        return self.gw.metric("headgate_upstream_channel_closes_total")

    # ---- What each protocol is told

    def mqtt(self):
        return self.open(Mqtt(self.gw.addresses["mqtt"]))

    def mqtt_is_closed(self, topic, body=b"x"):
        client = self.mqtt()
        mid = client.send(topic, body)
        client.ends.take(lambda rc: rc != 0)
        self.assertNotIn(("puback", mid), client.answers.all())
        client.close()

    def mqtt_is_acknowledged(self, topic, body=b"x"):
        client = self.mqtt()
        client.publish(topic, body)
        client.publish("elsewhere", b"still connected")
        self.assertEqual(client.ends.all(), [])
        client.close()

    def stomp_is_told(self, destination, *words, body=b"x", **headers):
        """An ERROR with the receipt-id, and the end."""
        client = self.open(Stomp(self.gw.addresses["stomp"]))
        client.connection.send(destination, body, headers={"receipt": "told", **headers})
        error = client.errors.take()
        self.assertEqual(error.headers["receipt-id"], "told")
        for word in words:
            self.assertIn(word, error.headers["message"] + error.body.decode())
        client.ends.take()
        self.assertEqual(client.receipts.all(), [])

    def stomp_is_acknowledged(self, destination, body=b"x", **headers):
        client = self.open(Stomp(self.gw.addresses["stomp"]))
        client.send(destination, body, **headers)

    def http_is_told(self, path, status, *words, body=b"x", headers=None):
        got, fields, answer = http(self.gw.addresses["web"], "POST", path, body, headers)
        self.assertEqual(got, status, answer)
        if status != 202:
            self.assertEqual(fields["content-type"], "application/problem+json")
            for word in words:
                self.assertIn(word, json.loads(answer)["detail"])
        if status in (429, 503):
            self.assertGreater(int(fields["retry-after"]), 0)

    # ---- Refused after it was sent

    def test_a_full_queue_that_rejects_is_told_to_each_protocol(self):
        with self.start():
            self.channel.queue_declare("full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
            self.channel.queue_bind("full", "amq.topic", "full.#")
            self.http_is_told("/v1/topics/full/a", 202)
            self.mqtt_is_closed("full/a")
            client = self.mqtt()
            withheld = client.send("withheld/a", b"x")
            client.publish("elsewhere", b"acknowledged after the one before was refused")
            self.assertNotIn(("puback", withheld), client.answers.all())
            self.assertEqual(client.ends.all(), [])
            self.stomp_is_told("/full/a", "rejected")
            self.stomp_is_told("/topic/full.a", "rejected")
            self.http_is_told("/v1/topics/full/a", 429, "rejected")
            self.broker_client.take(queue="full")
            self.http_is_told("/v1/topics/full/a", 202)
        self.assertEqual(self.closes(), 0)

    def test_what_no_queue_takes_is_told_where_it_is_mandatory(self):
        with self.start():
            self.mqtt_is_acknowledged("must/a")
            self.stomp_is_told("/must/a", "no queue")
            self.http_is_told("/v1/topics/must/a", 404, "no queue")
            self.http_is_told("/v1/topics/nowhere/a?mandatory=true", 404, "no queue")
            self.http_is_told("/v1/topics/nowhere/a", 202)
            self.stomp_is_acknowledged("/nowhere/a")
            self.broker_client.bind("amq.topic", "must.#")
            self.http_is_told("/v1/topics/must/a", 202)
            self.stomp_is_acknowledged("/must/a")
        self.assertEqual(self.closes(), 0)

    def test_an_exchange_deleted_under_way_is_told_and_works_again_when_it_is_back(self):
        with self.start():
            queue = self.broker_client.bind("doomed")
            http_sender, stomp, mqtt = self.http_is_told, self.open(Stomp(self.gw.addresses["stomp"])), self.mqtt()
            http_sender("/v1/topics/doomed/a", 202)
            mqtt.publish("doomed/a", b"before")
            sent = [mqtt.send("doomed/a", f"{i}".encode()) for i in range(INNOCENTS)]
            self.channel.exchange_delete("doomed")
            mqtt.send("doomed/a", b"after")
            mqtt.ends.take(lambda rc: rc != 0)
            # Each that was acknowledged has reached the queue, which outlives its exchange.
            acknowledged = {mid for _, mid in (a for a in mqtt.answers.all() if a[0] == "puback")}
            for i in range(sum(mid in acknowledged for mid in sent)):
                while (body := self.broker_client.take(queue=queue)[2]) != f"{i}".encode():
                    self.assertIn(body, (b"x", b"before", f"{i - 1}".encode()))
            stomp.connection.send("/doomed/a", b"x", headers={"receipt": "told"})
            self.assertEqual(stomp.errors.take().headers["receipt-id"], "told")
            self.stomp_is_told("/exchange/doomed/doomed.a", "no such exchange")
            self.mqtt_is_closed("doomed/a")
            self.http_is_told("/v1/topics/doomed/a", 404, "no such exchange")
            self.channel.exchange_declare("doomed", "topic", durable=True)
            self.broker_client.bind("doomed")
            eventually(lambda: http(self.gw.addresses["web"], "POST", "/v1/topics/doomed/b", b"again")[0] == 202)
            while self.broker_client.take()[2] != b"again":
                pass

    def test_publishing_to_an_internal_exchange_is_refused_to_its_sender_only(self):
        with self.start():
            self.stomp_is_told("/exchange/internal/key", "internal")
            self.stomp_is_told("/internal/a", "not permitted")
            self.http_is_told("/v1/topics/internal/a", 403, "not permitted")
            client = self.mqtt()
            for mid in [client.send("internal/a", b"x") for _ in range(INNOCENTS)]:
                client.acked(mid)
            self.assertEqual(client.ends.all(), [])
            self.assertIn(self.closes(), range(1, 6))  # one a second at most

    def test_a_body_over_rabbitmqs_own_limit_is_refused_among_others_that_are_not(self):
        self.broker.eval("application:set_env(rabbit, max_message_size, 65536).")
        self.addCleanup(self.broker.eval, "application:set_env(rabbit, max_message_size, 134217728).")
        large = bytes(70_000)
        self.broker_client.bind("amq.topic", "innocent.#")
        with self.start():
            innocent = self.mqtt()
            sent = []
            culprit = self.open(Stomp(self.gw.addresses["stomp"]))
            for i in range(INNOCENTS):
                sent.append(innocent.send("innocent/a", f"{i}".encode()))
                if i == INNOCENTS // 2:
                    culprit.connection.send("/topic/large", large, headers={"receipt": "told"})
            self.assertEqual(culprit.errors.take().headers["receipt-id"], "told")
            for mid in sent:
                innocent.acked(mid)
            self.assertEqual(innocent.ends.all(), [])
            last = -1
            while last < INNOCENTS - 1:
                i = int(self.broker_client.take()[2])
                self.assertLessEqual(i, last + 1, "a first occurrence out of order")
                last = max(last, i)
            self.stomp_is_told("/topic/large", "large", body=large)
            self.http_is_told("/v1/topics/large", 413, "large", body=large)
            self.mqtt_is_closed("large", large)
            self.assertGreaterEqual(self.closes(), 4)

    # ---- Refused before it is sent

    def test_an_expiration_that_would_close_the_channel_never_gets_there(self):
        self.broker_client.bind("amq.topic", "expiring")
        with self.start():
            for wrong in ("abc", "-1", "1.5", " 1", "9" * 30):
                self.stomp_is_told("/topic/expiring", "expiration", expiration=wrong)
                if wrong != " 1":  # HTTP does not count that space to the value
                    self.http_is_told("/v1/topics/expiring", 400, "Expiration", headers={"Amqp-Expiration": wrong})
            for past in (2**32, 2**32 + 1, 2**63):
                self.stomp_is_acknowledged("/topic/expiring", expiration=past)
                self.http_is_told("/v1/topics/expiring", 202, headers={"Amqp-Expiration": str(past)})
                for _ in range(2):
                    self.assertEqual(self.broker_client.take()[1].expiration, str(2**32 - 1))
        self.assertEqual(self.closes(), 0)

    def test_a_client_cannot_say_who_it_is_to_rabbitmq(self):
        self.broker_client.bind("amq.topic", "named")
        with self.start():
            self.stomp_is_acknowledged("/topic/named", **{"user-id": "somebody"})
            self.http_is_told("/v1/topics/named", 202, headers={"Amqp-User-Id": "somebody"})
            for _ in range(2):
                properties = self.broker_client.take()[1]
                self.assertIsNone(properties.user_id)
                self.assertFalse(properties.headers)
        self.assertEqual(self.closes(), 0)

    def test_reserved_headers_change_nothing_and_do_not_arrive(self):
        names = ["CC", "BCC", "cc", "x-death", "x-match", "x-delivery-count", "x-headgate-address", "X-Headgate-Ms"]
        self.broker_client.bind("amq.topic", "open", queue="open", auto_delete=True)
        self.broker_client.bind("amq.topic", "secret", queue="secret", auto_delete=True)
        self.channel.exchange_declare("by-headers", "headers", auto_delete=True)
        self.channel.queue_bind("secret", "by-headers", arguments={"x-match": "any", "x-headgate-address": "secret"})
        listener = self.open(Mqtt(self.start_gateway().addresses["mqtt"]))
        listener.subscribe("#")
        for name in names:
            self.stomp_is_acknowledged("/topic/open", **{name: "secret", "kept": "1"})
            self.stomp_is_acknowledged("/exchange/by-headers/open", **{name: "secret", "kept": "1"})
            self.http_is_told("/v1/topics/open", 202, headers={f"Amqp-Header-{name}": "secret", "Amqp-Header-kept": "1"})
        for _ in names * 2:
            self.assertEqual(self.broker_client.take(queue="open")[1].headers, {"kept": "1"})
            self.assertEqual(listener.messages.take().topic, "open")
        self.broker_client.publish("amq.topic", "secret", b"the only one")
        self.assertEqual(self.channel.basic_get("secret", auto_ack=True)[2], b"the only one")
        self.assertEqual(self.closes(), 0)

    def start_gateway(self):
        self.gw = self.gateway(RULES, workers=1)
        return self.gw
