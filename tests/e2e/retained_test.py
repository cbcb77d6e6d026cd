# SPDX-License-Identifier: Apache-2.0
"""Retained messages from every kind of publisher to every kind of subscriber that can ask for them."""
import datetime
import time

from harness import Consumer, E2E, Mqtt, Stomp, eventually, http

RULES = """
[[exchange]]
name = "fleet"
type = "topic"
[[exchange]]
name = "orders"
type = "direct"
[[exchange]]
name = "news"
type = "fanout"
[[exchange]]
name = "typed"
type = "headers"
[[rule]]
name = "fleet"
topic = "fleet/{path...}"
exchange = "fleet"
key = "{path...}"
[[rule]]
name = "orders"
topic = "orders/{id}"
exchange = "orders"
key = "{id}"
[[rule]]
name = "news"
topic = "news/{path...}"
exchange = "news"
key = "{path...}"
[[rule]]
name = "typed"
topic = "typed/{id}"
exchange = "typed"
key = "{id}"
"""
KINDS = ("plain", "fleet", "orders", "news", "typed")  # of exchanges: the built-in rule's topic, topic, direct, fanout, headers


class Retained(E2E):
    also_on_release = True

    def keeper(self, more=""):
        """A gateway with a log that is this test's own."""
        return self.gateway(f'{RULES}[state]\nlog = "{self.id().split(".")[-1]}"\n{more}')

    def mqtt(self, gw):
        return self.open(Mqtt(gw.addresses["mqtt"]))

    def stomp(self, gw):
        return self.open(Stomp(gw.addresses["stomp"]))

    def retained(self, gw, topic_filter):
        """What a new subscription to it gets at once: {topic: payload}, all with the flag. Ends with a message of its own."""
        client = self.mqtt(gw)
        client.publish("fence/it", b"fence", retain=True)
        got = {}
        client.subscribe(topic_filter)
        client.subscribe("fence/it")
        while True:
            message = client.messages.take()
            self.assertTrue(message.retain)
            if message.topic == "fence/it" and topic_filter != "fence/it":
                client.close()
                return got
            got[message.topic] = bytes(message.payload)

    def publishers(self, gw):
        """name -> publish(topic, body), each of which returns when it is confirmed."""
        client = self.mqtt(gw)
        stomp = self.stomp(gw)

        def by_http(topic, body, query="", **headers):
            status, _, _ = http(gw.addresses["web"], "POST", f"/v1/topics/{topic}{query}", body, headers)
            self.assertEqual(status, 202)

        return {
            "mqtt": lambda topic, body: client.publish(topic, body, retain=True),
            "stomp": lambda topic, body: stomp.send(f"/{topic}", body, retain="true"),
            "http": lambda topic, body: by_http(topic, body, "?retain=true"),
            "http-header": lambda topic, body: by_http(topic, body, **{"Amqp-Header-retain": "true"}),
        }

    def test_everybody_sets_and_clears_through_every_kind_of_exchange(self):
        gw = self.keeper()
        for name, publish in self.publishers(gw).items():
            topics = [f"{kind}/{name}" for kind in KINDS]
            for topic in topics:
                publish(topic, b"first")
                publish(topic, b"of " + topic.encode())
            for topic in topics:
                with self.subTest(topic):
                    self.assertEqual(self.retained(gw, topic), {topic: b"of " + topic.encode()})
                    publish(topic, b"")
                    self.assertEqual(self.retained(gw, topic), {})

    def test_a_live_subscriber_gets_it_once_and_without_the_flag(self):
        gw = self.keeper()
        client = self.mqtt(gw)
        for kind in KINDS:
            client.subscribe(f"{kind}/#" if kind != "orders" else "orders/live")
        for name, publish in self.publishers(gw).items():
            for kind in KINDS:
                publish(f"{kind}/live", name.encode())
                message = client.messages.take()
                self.assertEqual((message.topic, message.payload, message.retain), (f"{kind}/live", name.encode(), False))
        client.messages.assert_silent()

    def test_amqp_publishers_retain_by_bcc(self):
        gw = self.keeper()
        consumer = self.open(Consumer(self.amqp))
        queue = consumer.bind("fleet", "#")
        headers = {"BCC": ["headgate.retain"]}
        consumer.publish("fleet", "truck.1", b"full", headers=headers, content_type="text/plain")
        consumer.publish("orders", "o1", b"paid", headers=headers)
        eventually(lambda: self.retained(gw, "fleet/#") == {"fleet/truck/1": b"full"})
        eventually(lambda: self.retained(gw, "orders/o1") == {"orders/o1": b"paid"})
        method, properties, body = consumer.take(queue=queue)
        self.assertEqual((method.routing_key, body), ("truck.1", b"full"))
        self.assertNotIn("BCC", properties.headers or {})
        consumer.publish("fleet", "truck.1", b"", headers=headers)
        consumer.publish("fleet", "headgate.retain", b"is a key like any other")
        eventually(lambda: self.retained(gw, "fleet/#") == {})

    def test_properties_come_back(self):
        gw = self.keeper()
        stomp = self.stomp(gw)
        stomp.send("/fleet/p", b"\xff\x00", content_type="application/x", retain="true", colour="blue", persistent="true",
                   **{"correlation-id": "c1"})
        stomp.subscribe("/fleet/*", retained="true")
        frame = stomp.messages.take()
        self.assertEqual(frame.headers["retained"], "true")
        self.assertEqual(frame.headers["destination"], "/fleet/p")
        self.assertEqual((frame.headers["content-type"], frame.headers["colour"], frame.headers["correlation-id"]),
                         ("application/x", "blue", "c1"))
        self.assertNotIn("retain", frame.headers)

    def test_stomp_subscribers_get_it_only_if_they_ask(self):
        gw = self.keeper()
        stomp = self.stomp(gw)
        stomp.send("/fleet/a/b", b"1", retain="true")
        stomp.send("/orders/o2", b"2", retain="true")
        stomp.subscribe("/fleet/#", "plain")
        stomp.subscribe("/fleet/#", "asks", retained="true")
        stomp.subscribe("/orders/o2", "orders", retained="true")
        frames = sorted(stomp.messages.take_n(2), key=lambda f: f.headers["subscription"])
        self.assertEqual([(f.headers["subscription"], f.headers["retained"]) for f in frames],
                         [("asks", "true"), ("orders", "true")])
        stomp.send("/fleet/a/b", b"live")
        frames = sorted(stomp.messages.take_n(2), key=lambda f: f.headers["subscription"])
        self.assertEqual([(f.headers["subscription"], "retained" in f.headers) for f in frames],
                         [("asks", False), ("plain", False)])

    def test_filters_find_what_they_match(self):
        gw = self.keeper()
        client = self.mqtt(gw)
        topics = ("w/a", "w/a/b", "w/a/b/c", "w/b/b", "w", "w/$x/b", "fleet/w/a")
        for topic in topics:
            client.publish(topic, topic.encode(), retain=True)
        for topic_filter, want in (("w/#", topics[:6]), ("w/+", ("w/a",)), ("w/+/b", ("w/a/b", "w/b/b", "w/$x/b")), ("w/a/#", topics[:3]),
                                   ("+/+/a", ("fleet/w/a",)), ("w/a/b/c", ("w/a/b/c",)), ("w/x/#", ())):
            with self.subTest(topic_filter):
                self.assertEqual(self.retained(gw, topic_filter), {topic: topic.encode() for topic in want})

    def test_what_has_expired_is_not_served(self):
        gw = self.keeper()
        stomp = self.stomp(gw)
        stomp.send("/fleet/short", b"1", retain="true", expiration="300")
        stomp.send("/fleet/long", b"2", retain="true", expiration="3600000")
        self.assertIn("fleet/long", self.retained(gw, "fleet/#"))
        eventually(lambda: self.retained(gw, "fleet/#") == {"fleet/long": b"2"})

    def test_it_survives_the_end_of_everything(self):
        gw = self.keeper()
        for kind in KINDS:
            self.mqtt(gw).publish(f"{kind}/kept", kind.encode(), retain=True)
        gw.stop()
        gw = self.keeper()
        self.assertEqual({kind: self.retained(gw, f"{kind}/kept") for kind in KINDS},
                         {kind: {f"{kind}/kept": kind.encode()} for kind in KINDS})

    def test_many_come_whole_and_in_order(self):
        gw = self.keeper()
        consumer = self.open(Consumer(self.amqp))
        for i in range(5000):
            consumer.publish("fleet", f"many.{i:04d}", b"x" * 500, headers={"BCC": ["headgate.retain"]})
        eventually(lambda: "fleet/many/4999" in self.retained(gw, "fleet/many/4999"))
        stomp = self.stomp(gw)
        stomp.subscribe("/fleet/many/*", retained="true")
        frames = stomp.messages.take_n(5000)
        self.assertEqual([f.headers["destination"] for f in frames], [f"/fleet/many/{i:04d}" for i in range(5000)])

    def test_a_copy_in_the_log_is_what_was_published(self):
        """What was written once is copied when the log has grown; who reads only the copy must know the same."""
        small = 'max_bytes = "4MiB"\n'
        gw = self.keeper(small)
        consumer = self.open(Consumer(self.amqp))
        odd = {"zoo": "lion", "n": -5, "yes": True, "none": None, "bytes": b"\xff\x00", "list": [1, "a", {"b": 2}],
               "table": {"x": [True]}, "at": datetime.datetime(2026, 1, 2, 3, 4, 5), "x-own": "1", "long": 1 << 40, "": "empty"}
        bcc = {"BCC": ["headgate.retain"]}
        consumer.publish("fleet", "odd", b"\x00odd", headers={**odd, **bcc}, content_type="a/b", correlation_id="c", priority=3,
                         delivery_mode=2, timestamp=int(time.time()), reply_to="r", type="t", app_id="a", message_id="m",
                         content_encoding="e", user_id="guest", expiration="999999999")
        consumer.publish("fleet", "bare", b"bare", headers=bcc)

        def shown(gateway):
            stomp = self.stomp(gateway)
            stomp.subscribe("/fleet/+", retained="true")
            frames = {f.headers["destination"]: (f.headers, f.body) for f in stomp.messages.take_n(2)}
            stomp.close()
            for headers, _ in frames.values():
                del headers["message-id"]
            return frames

        before = eventually(lambda: len(self.retained(gw, "fleet/+")) == 2 and shown(gw))
        for i in range(5000):  # three times the log's limit
            consumer.publish("fleet", "filling.it", b"%06d" % i + b"." * 2500, headers=bcc)
        other = self.keeper(small)

        def state(gateway):
            return gateway.admin("/api/status")[1]["state"]

        eventually(lambda: state(gw)["digest"] == state(other)["digest"] and self.retained(gw, "fleet/filling/it")
                   == {"fleet/filling/it": b"004999" + b"." * 2500})
        self.assertEqual(state(gw)["digest"], state(other)["digest"])
        self.assertEqual(shown(gw), before)
        self.assertEqual(shown(other), before)

    def test_past_the_quota_it_is_refused_with_its_name(self):
        gw = self.keeper("max_retained = 2\n")

        def post(topic, body=b"x"):
            return http(gw.addresses["web"], "POST", f"/v1/topics/{topic}?retain=true", body)

        self.assertEqual([post(f"fleet/q{i}")[0] for i in range(3)], [202, 202, 429])
        self.assertEqual(post("fleet/q1", b"again")[0], 202)
        self.assertEqual(post("fleet/q1", b"")[0], 202)
        self.assertEqual(post("fleet/q2")[0], 202)

    def test_without_a_log_nothing_is_retained_and_said_so(self):
        gw = self.gateway(RULES + '[state]\nlog = "off"\n')
        status, _, body = http(gw.addresses["web"], "POST", "/v1/topics/fleet/off?retain=true", b"x")
        self.assertEqual(status, 400)
        self.assertIn(b"NO_RETAIN", body)
        self.mqtt(gw).publish("fleet/off", b"x", retain=True)  # 3.1.1 has no way to say so: it is published
        stomp = self.stomp(gw)
        stomp.subscribe("/fleet/#", retained="true")
        stomp.send("/fleet/off", b"live")
        self.assertEqual(stomp.messages.take().body, b"live")


