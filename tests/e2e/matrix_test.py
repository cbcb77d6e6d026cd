# SPDX-License-Identifier: Apache-2.0
"""What goes in by one protocol comes out by each other one: bodies byte for byte, properties, addresses."""
import datetime
import decimal
import json
import unittest.mock

from harness import Consumer, E2E, Mqtt, Stomp, http
from harness.ends import PUBLISHERS, SUBSCRIBERS, AmqpEnd, Place

RULES = """
[[exchange]]
name = "matrix"
type = "topic"
[[rule]]
name = "lossless"
topic = "m/{rest...}"
exchange = "matrix"
key = "m.{rest...}"
"""
LOSSLESS = Place("m/room", "matrix", "m.room")
BUILT_IN = Place("plain/room", "amq.topic", "plain.room")

EVERY_BYTE = bytes(range(256))
BODIES = {
    "every byte": EVERY_BYTE,  # NUL, CR, LF among them, and not UTF-8
    "nothing": b"",
    "one byte": b"\xff",
    "one NUL": b"\x00",
    "1 MiB": (bytes(range(1, 256)) * 4113)[:(1 << 20) - 1] + b"\x00",
}
WHEN = 1700000000


STAMP = {"x-headgate-ms": unittest.mock.ANY}  # when a message that expires was published


class Matrix(E2E):
    also_on_release = True

    def test_every_pair_delivers_every_body_byte_for_byte(self):
        gw = self.gateway(RULES)
        publishers = [self.open(p(gw)) for p in PUBLISHERS] + [self.open(AmqpEnd(self.amqp))]
        subscribers = [self.open(s(gw)) for s in SUBSCRIBERS] + [self.open(AmqpEnd(self.amqp))]
        for s in subscribers:
            s.subscribe(LOSSLESS, BUILT_IN)
        for place in (LOSSLESS, BUILT_IN):
            for publisher in publishers:
                for name, body in BODIES.items():
                    publisher.publish(place, body)
                    for s in subscribers:
                        with self.subTest(f"{publisher.name} to {s.name}: {name}", place=place):
                            got = s.take()
                            self.assertEqual(got.where, s.where(place))
                            self.assertTrue(got.body == body, f"{len(got.body)} bytes {got.body[:300]!r}")

    def test_addresses_come_back_as_they_were_through_a_lossless_rule(self):
        gw = self.gateway(RULES)
        everything = Place("m/#", "matrix", "m.#")
        places = [Place(f"m/{address}", "matrix", f"m.{key}") for address, key in (
            ("v1.2/x", "v1%2E2.x"), ("*/y", "%2A.y"), ("a*b", "a%2Ab"), ("50%", "50%"), ("100%/z", "100%.z"),
            ("%2E", "%252E"), ("%2a%41", "%2a%41"), ("%252A", "%25252A"), ("a%2Fb", "a/b"), ("a%2Bb", "a+b"), ("x%23", "x#"),
            ("größe/✓ ü", "größe.✓ ü"), ("a//b", "a..b"), ("x:y\\z", "x:y\\z"))]
        publishers = [self.open(p(gw)) for p in PUBLISHERS] + [self.open(AmqpEnd(self.amqp))]
        subscribers = [self.open(s(gw)) for s in SUBSCRIBERS] + [self.open(AmqpEnd(self.amqp))]
        for s in subscribers:
            s.subscribe(everything)
        for publisher in publishers:
            for place in places:
                publisher.publish(place, b"here")
            for s in subscribers:
                with self.subTest(f"{publisher.name} to {s.name}"):
                    self.assertEqual([s.take().where for _ in places], [s.where(p) for p in places])

    def test_a_filter_with_dots_stars_and_percents_meets_just_that_address(self):
        gw = self.gateway(RULES)
        places = [Place(f"m/{address}", "matrix", f"m.{key}") for address, key in (
            ("v1.2", "v1%2E2"), ("v1", "v1"), ("a*b", "a%2Ab"), ("axb", "axb"), ("%2E", "%252E"), ("a%2Fb", "a/b"))]
        publisher = self.open(AmqpEnd(self.amqp))
        for kind in SUBSCRIBERS:
            s = self.open(kind(gw))
            s.subscribe(*places[::2])
            for i, place in enumerate(places):
                publisher.publish(place, str(i).encode())
            with self.subTest(s.name):
                self.assertEqual([(s.take().where, got) for got in places[::2]], [(s.where(p), p) for p in places[::2]])


class Properties(E2E):
    def setUp(self):
        self.gw = self.gateway(RULES + """
[[rule]]
name = "stamped"
topic = "stamped/{room}"
exchange = "matrix"
key = "stamped.{room}"
headers = { device = "{client_id}", via = "{protocol}", where = "{address}" }
persistent = true
""")
        self.amqp_client = self.open(Consumer(self.amqp))
        self.amqp_client.bind("matrix", "#")
        self.amqp_client.channel.queue_bind(self.amqp_client.queue, "amq.topic", "#")
        self.stomp = self.open(Stomp(self.gw.addresses["stomp"]))

    TEXTS = {"content_type": "application/json", "content_encoding": "utf-8", "correlation_id": "c-1:2",
             "expiration": "60000", "message_id": "id\\1", "type": "kind", "app_id": "app"}
    STOMP_NAMES = {"message_id": "amqp-message-id"}

    def as_stomp(self):
        """TEXTS, and the other properties that the tests set, under STOMP's names."""
        texts = {self.STOMP_NAMES.get(k, k.replace("_", "-")): v for k, v in self.TEXTS.items()}
        return {**texts, "timestamp": str(WHEN), "priority": "7", "persistent": "true"}

    def assert_texts(self, properties):
        self.assertEqual({k: getattr(properties, k) for k in self.TEXTS}, self.TEXTS)

    def test_amqp_properties_are_stomp_headers(self):
        for place in (LOSSLESS, BUILT_IN):
            self.stomp.subscribe("/" + place.address, place.address)
            self.amqp_client.publish(place.exchange, place.key, b"x", timestamp=WHEN, priority=7, delivery_mode=2,
                                     reply_to="/topic/answers", headers={"custom:header": "line\nbreak"}, **self.TEXTS)
            with self.subTest(place=place):
                got = self.stomp.messages.take().headers
                for name in ("message-id", "content-length"):
                    self.assertIn(name, got)
                    del got[name]
                self.assertEqual(got, {
                    **self.as_stomp(), "destination": "/" + place.address, "subscription": place.address,
                    "reply-to": "/topic/answers", "custom:header": "line\nbreak"})

    def test_a_transient_amqp_message_without_properties_is_a_bare_stomp_one(self):
        self.stomp.subscribe("/m/room")
        self.amqp_client.publish("matrix", "m.room", b"x", delivery_mode=1, reply_to="answers")
        got = self.stomp.messages.take().headers
        self.assertEqual(set(got), {"destination", "subscription", "message-id", "content-length", "reply-to"})
        self.assertEqual(got["reply-to"], "/reply-queue/answers")

    def test_typed_amqp_headers_are_shown_as_text_and_none_is_lost(self):
        self.stomp.subscribe("/m/room")
        when = datetime.datetime.fromtimestamp(WHEN, datetime.timezone.utc)
        self.amqp_client.publish("matrix", "m.room", b"x", headers={
            "int": 42, "long": -(1 << 40), "yes": True, "no": False, "decimal": decimal.Decimal("21.5"), "when": when,
            "none": None, "text": "ä:✓", "bytes": b"\xff\x00", "table": {"a": 1, "b": {"c": [True, "x", None]}},
            "array": [1, "two", {"three": 3}]})
        got = self.stomp.messages.take().headers
        want = {"int": "42", "long": str(-(1 << 40)), "yes": "true", "no": "false", "decimal": "21.5", "when": str(WHEN),
                "none": "", "text": "ä:✓", "bytes": "/wA="}
        self.assertEqual({k: got[k] for k in want}, want)
        self.assertEqual(json.loads(got["table"]), {"a": 1, "b": {"c": [True, "x", None]}})
        self.assertEqual(json.loads(got["array"]), [1, "two", {"three": 3}])

    def test_header_types_that_pika_cannot_write_are_shown_too(self):
        self.stomp.subscribe("/m/room")
        exchange = f'rabbit_misc:r(<<"{self.vhost}">>, exchange, <<"matrix">>)'
        headers = ('[{<<"double">>, double, 0.1}, {<<"float">>, float, 2.5}, {<<"byte">>, byte, -1},'
                   '{<<"short">>, short, -300}, {<<"uint">>, unsignedint, 4294967295}, {<<"in">>, table, [{<<"d">>, double, 3.0}]}]')
        self.broker.eval(f'rabbit_basic:publish({exchange}, <<"m.room">>, [{{headers, {headers}}}], <<"x">>).')
        got = self.stomp.messages.take().headers
        want = {"double": "0.1", "float": "2.5", "byte": "-1", "short": "-300", "uint": "4294967295", "in": '{"d":3.0}'}
        self.assertEqual({k: got[k] for k in want}, want)

    def test_stomp_headers_are_amqp_properties_and_come_back(self):
        for place in (LOSSLESS, BUILT_IN):
            self.stomp.subscribe("/" + place.address, place.address)
            sent = {**self.as_stomp(), "custom": "a:line\nbreak\\", "reply-to": "/topic/answers"}
            self.stomp.send("/" + place.address, b"x", **sent)
            with self.subTest(place=place):
                _, p, _ = self.amqp_client.take()
                self.assert_texts(p)
                self.assertEqual((p.timestamp, p.priority, p.delivery_mode, p.reply_to, p.user_id, p.headers),
                                 (WHEN, 7, 2, "/topic/answers", None, {"custom": "a:line\nbreak\\", **STAMP}))
                got = self.stomp.messages.take().headers
                self.assertEqual({k: got.get(k) for k in sent}, sent)

    def test_http_headers_are_amqp_properties_and_stomp_headers(self):
        for place in (LOSSLESS, BUILT_IN):
            self.stomp.subscribe("/" + place.address, place.address)
            status, _, answer = http(self.gw.addresses["web"], "POST", "/v1/topics/" + place.address, b"x", {
                "Content-Type": "application/json", "Content-Encoding": "utf-8", "Correlation-Id": "c-1:2",
                "Reply-To": "/topic/answers", "Amqp-Expiration": "60000", "Message-Id": "id\\1", "Amqp-Type": "kind",
                "Amqp-App-Id": "app", "Amqp-Timestamp": str(WHEN), "Amqp-Priority": "7", "Amqp-Header-custom": "value",
                "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"})
            self.assertEqual(status, 202)
            self.assertEqual(json.loads(answer), {"id": "id\\1", "exchange": place.exchange, "key": place.key})
            with self.subTest(place=place):
                _, p, _ = self.amqp_client.take()
                self.assert_texts(p)
                headers = {"custom": "value", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
                self.assertEqual((p.timestamp, p.priority, p.delivery_mode, p.reply_to, p.headers),
                                 (WHEN, 7, 2, "/topic/answers", {**headers, **STAMP}))
                got = self.stomp.messages.take().headers
                want = {**self.as_stomp(), **headers}
                self.assertEqual({k: got.get(k) for k in want}, want)

    def test_an_http_message_may_be_transient(self):
        http(self.gw.addresses["web"], "POST", "/v1/topics/m/room", b"x", {"Amqp-Persistent": "false"})
        self.assertEqual(self.amqp_client.take()[1].delivery_mode, 1)

    def test_mqtts_qos_is_the_delivery_mode_both_ways(self):
        mqtt = self.open(Mqtt(self.gw.addresses["mqtt"]))
        for place in (LOSSLESS, BUILT_IN):
            with self.subTest(place=place):
                mqtt.subscribe(place.address)
                for qos in (0, 1):
                    mqtt.publish(place.address, b"x", qos)
                    self.assertEqual(self.amqp_client.take()[1].delivery_mode, qos + 1)
                    self.assertEqual(mqtt.messages.take().qos, qos)
                for mode in (None, 1, 2):
                    self.amqp_client.publish(place.exchange, place.key, b"x", delivery_mode=mode)
                    self.assertEqual(mqtt.messages.take().qos, 1 if mode == 2 else 0)
                    self.amqp_client.take()

    def test_a_rules_headers_win_over_a_clients(self):
        mqtt = self.open(Mqtt(self.gw.addresses["mqtt"], client_id="sensor-7"))
        for send, headers in (
                (lambda: mqtt.publish("stamped/hall", b"x", qos=0), {"device": "sensor-7", "via": "mqtt"}),
                (lambda: http(self.gw.addresses["web"], "POST", "/v1/topics/stamped/hall", b"x",
                              {"Amqp-Header-device": "forged", "Amqp-Persistent": "false"}), {"device": "", "via": "http"}),
                (lambda: self.stomp.send("/stamped/hall", b"x", device="forged", via="forged", other="kept"),
                 {"device": "", "via": "stomp", "other": "kept"})):
            send()
            _, p, _ = self.amqp_client.take()
            self.assertEqual((p.delivery_mode, p.headers), (2, {**headers, "where": "stamped/hall"}))
