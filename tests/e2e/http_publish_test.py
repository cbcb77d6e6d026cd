# SPDX-License-Identifier: Apache-2.0
"""Publishing by HTTP: batches, repeats, the management API's call, and their description, against a real RabbitMQ."""
import base64
import collections
import gzip
import json
import queue
import re
import subprocess
import threading
import time
import urllib.parse

from harness import Balancer, Consumer, E2E, Gateway, Proxy, eventually, http, raw, wire
from harness.gateway import config_text

RULE = """
[[exchange]]
name = "shop"
type = "topic"
[[rule]]
name = "orders"
http = "/orders/{id}"
exchange = "shop"
key = "order.{id}"
mandatory = true
"""
NDJSON = {"Content-Type": "application/x-ndjson"}


def ndjson(*lines):
    return "\n".join(json.dumps(line) for line in lines).encode()


def lines_of(body):
    return [json.loads(line) for line in body.splitlines()]


class Batch(E2E):
    def test_lines_become_messages_with_their_properties(self):
        gw = self.gateway(RULE)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "batch.#")
        body = ndjson(
            {"address": "batch/a", "body": "grüße", "properties": {"content_type": "text/plain", "priority": 3, "message_id": "m"},
             "headers": {"n": 7, "b": True, "t": {"x": [1, "y"]}, "nothing": None}},
            {"address": "batch/b", "base64": base64.b64encode(b"\x00\xff").decode(), "properties": {"delivery_mode": 1}})
        status, headers, answer = http(gw.addresses["web"], "POST", "/v1/topics", body, NDJSON)
        self.assertEqual((status, headers["content-type"]), (202, "application/x-ndjson"))
        self.assertEqual([(a["status"], a["exchange"], a["key"]) for a in lines_of(answer)],
                         [(202, "amq.topic", "batch.a"), (202, "amq.topic", "batch.b")])
        _, first, payload = consumer.take()
        self.assertEqual(payload.decode(), "grüße")
        self.assertEqual((first.content_type, first.priority, first.message_id, first.delivery_mode), ("text/plain", 3, "m", 2))
        self.assertEqual(first.headers, {"n": 7, "b": True, "t": {"x": [1, "y"]}, "nothing": None})
        _, second, payload = consumer.take()
        self.assertEqual((payload, second.delivery_mode), (b"\x00\xff", 1))
        self.assertEqual(second.message_id, lines_of(answer)[1]["id"])

    def test_curl_is_told_which_lines_failed(self):
        gw = self.gateway(RULE)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("shop", "order.1")
        body = ndjson({"address": "orders/1", "body": "a"}, {"address": "orders/2", "body": "b"}, {"body": "c"},
                      {"address": "orders/1", "body": "d"})
        host, port = gw.addresses["web"]
        done = subprocess.run(["curl", "-s", "-w", "%{http_code}", "-H", "Content-Type: application/x-ndjson",
                               "--data-binary", "@-", f"http://{host}:{port}/v1/topics"], input=body, capture_output=True,
                              timeout=30, check=True)
        *answers, status = done.stdout.splitlines()
        self.assertEqual(status, b"207")
        self.assertEqual([json.loads(a)["status"] for a in answers], [202, 404, 400, 202])
        self.assertEqual([consumer.take()[2], consumer.take()[2]], [b"a", b"d"])

    def test_a_thousand_lines_come_in_order_and_one_more_is_too_many(self):
        gw = self.gateway(RULE)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "many.#")
        lines = [{"address": "many/x", "body": str(i)} for i in range(1000)]
        status, _, answer = http(gw.addresses["web"], "POST", "/v1/topics", ndjson(*lines), NDJSON)
        self.assertEqual((status, len(lines_of(answer))), (202, 1000))
        self.assertEqual([int(body) for _, _, body in consumer.take_n(1000)], list(range(1000)))
        status, _, answer = http(gw.addresses["web"], "POST", "/v1/topics", ndjson(*lines, lines[0]), NDJSON)
        self.assertEqual(status, 413, answer)


class Values(E2E):
    def test_query_and_headers_become_words_of_the_key(self):
        rule = RULE.replace("order.{id}", "order.{query.region}.{id}\"\nheaders = { kind = \"{header.X-Kind}\" }\n#\"")
        gw = self.gateway(rule, serves=("web",))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("shop", "#")
        status, _, answer = http(gw.addresses["web"], "POST", "/orders/17?region=e.u", b"x", {"X-Kind": "new one"})
        self.assertEqual((status, json.loads(answer)["key"]), (202, "order.e%2Eu.17"))
        self.assertEqual(consumer.take()[1].headers, {"kind": "new one"})
        status, _, answer = http(gw.addresses["web"], "POST", "/v1/topics/orders/17?region=eu", b"x")
        self.assertEqual((status, json.loads(answer)["detail"]), (400, "the rule needs the header X-Kind, which is missing"))


class Events(E2E):
    EVENT = {"ce-id": "1", "ce-source": "/shop", "ce-specversion": "1.0", "ce-type": "com.example.sold"}

    def test_binary_and_structured_events_pass_both_ways(self):
        gw = self.gateway(RULE, serves=("web",))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "event.#")
        stream = self.open(raw(gw.addresses["web"], wire.http("GET", "/v1/topics/event/%23?envelope=1")))
        stream.read_until(b"retry: ")
        status, _, answer = http(gw.addresses["web"], "POST", "/v1/topics/event/sold", b"{}", {
            **self.EVENT, "ce-subject": "%E2%82%AC%2017", "Content-Type": "application/json"})
        self.assertEqual(status, 202, answer)
        _, properties, body = consumer.take()
        attributes = {"cloudEvents:id": "1", "cloudEvents:source": "/shop", "cloudEvents:specversion": "1.0",
                      "cloudEvents:type": "com.example.sold", "cloudEvents:subject": "\u20ac 17"}
        self.assertEqual((properties.content_type, properties.headers, body), ("application/json", attributes, b"{}"))
        stream.read_until(b"data: ")
        self.assertEqual(json.loads(stream.read_until(b"\n"))["headers"], attributes)
        event = json.dumps({"specversion": "1.0", "id": "2", "source": "/shop", "type": "t"}).encode()
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/event/s", event,
                              {"Content-Type": "application/cloudevents+json"})[0], 202)
        _, properties, body = consumer.take()
        self.assertEqual((properties.content_type, properties.headers, body), ("application/cloudevents+json", None, event))

    def test_an_encoded_body_is_passed_on_and_never_read(self):
        gw = self.gateway(RULE, serves=("web",))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "zip.#")
        body = gzip.compress(b"hello")
        for encoding in ("br", "zstd", "gzip, br", "gzip"):  # what it says it is, is never looked at
            self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/zip/a", body, {"Content-Encoding": encoding})[0], 202)
            _, properties, received = consumer.take()
            self.assertEqual((properties.content_encoding, received), (encoding, body))
        status, headers, _ = http(gw.addresses["web"], "POST", "/v1/topics", body, {**NDJSON, "Content-Encoding": "gzip"})
        self.assertEqual((status, headers["accept-encoding"]), (415, "identity"))


class Repeats(E2E):
    def test_a_key_is_published_once_whichever_worker_is_asked(self):
        gw = self.gateway(RULE, workers=2)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "#")
        answers = [http(gw.addresses["web"], "POST", "/v1/topics/a/b", b"x", {"Idempotency-Key": "k1"}) for _ in range(12)]
        self.assertEqual({(status, body) for status, _, body in answers}, {(202, answers[0][2])})
        self.assertEqual([h.get("idempotency-replayed") for _, h, _ in answers], [None] + ["true"] * 11)
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/a/b", b"y", {"Idempotency-Key": "k1"})[0], 422)
        http(gw.addresses["web"], "POST", "/v1/topics/a/b", b"last")
        _, properties, body = consumer.take()
        self.assertEqual((body, properties.message_id), (b"x", "k1"))
        self.assertEqual(consumer.take()[2], b"last")

    def test_who_lost_the_connection_before_the_answer_gets_it_on_the_next(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(RULE, workers=1, amqp=self.amqp_by(proxy))  # whose channel is open when answers stop
            consumer = self.open(Consumer(self.amqp))
            consumer.bind("amq.topic", "#")
            http(gw.addresses["web"], "POST", "/v1/topics/warm", b"up")
            proxy.hold("down")
            request = wire.http("POST", "/v1/topics/a", b"x", {"Idempotency-Key": "k"})
            first = raw(gw.addresses["web"], request)
            self.assertEqual([consumer.take()[2], consumer.take()[2]], [b"up", b"x"])
            first.close()
            self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/a", b"x", {"Idempotency-Key": "k"})[0], 409)
            proxy.release("down")

            def repeat():
                status, headers, _ = http(gw.addresses["web"], "POST", "/v1/topics/a", b"x", {"Idempotency-Key": "k"})
                self.assertEqual((status, headers.get("idempotency-replayed")), (202, "true"))
                return True

            eventually(repeat)
            http(gw.addresses["web"], "POST", "/v1/topics/a", b"last")
            self.assertEqual(consumer.take()[2], b"last")
            gw.stop()


SHARED = '[http]\nidempotency_shared = true\nidempotency_claim = "2s"\n'


class SharedRepeats(E2E):
    """Keys among two instances of two workers each, behind a balancer that gives every connection to the next of them."""

    also_on_release = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gateways = [Gateway(config_text(cls.amqp, SHARED, workers=2), "--set", f"gateway.name={name}").start()
                        for name in ("one", "two")]
        cls.one, cls.two = (gw.addresses["web"] for gw in cls.gateways)

    @classmethod
    def tearDownClass(cls):
        for gw in cls.gateways:
            gw.stop()
        super().tearDownClass()

    def setUp(self):
        self.consumer = self.open(Consumer(self.amqp))

    def post(self, address, topic, body=b"x", key="k"):
        return http(address, "POST", f"/v1/topics/{topic}", body, {"Idempotency-Key": key})

    def sum(self, name):
        return sum(gw.metric(f"headgate_{name}") for gw in self.gateways)

    def test_each_of_200_is_published_once_however_often_and_wherever_it_is_sent(self):
        self.consumer.bind("amq.topic", "once.#")
        before = self.sum("requests_claimed_total")
        with Balancer(self.one, self.two) as balancer:
            address, keys = ("127.0.0.1", balancer.port), [f"once-{i}" for i in range(200)]
            answers, todo = collections.defaultdict(list), queue.Queue()
            for key in keys:
                for _ in range(4):
                    todo.put(key)

            def work():  # a connection each, so that repeats meet the first one under way
                while True:
                    try:
                        key = todo.get_nowait()
                    except queue.Empty:
                        return
                    status = 409
                    while status == 409:
                        time.sleep(0.005)
                        status, _, body = self.post(address, f"once/{key}", key.encode(), key)
                    answers[key].append((status, body))

            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        for key in keys:
            self.assertEqual([status for status, _ in answers[key]], [202] * 4)
            self.assertEqual(len(set(answers[key])), 1)
        got = sorted(self.consumer.take()[2].decode() for _ in keys)
        self.assertEqual(got, sorted(keys))
        self.post(self.one, "once/last", b"last", "once-last")
        self.assertEqual(self.consumer.take()[2], b"last")
        self.assertEqual(self.sum("requests_claimed_total") - before, 201)
        self.assertGreater(self.sum("requests_repeated_total"), 0)

    def test_the_other_instance_answers_as_the_first_did(self):
        self.consumer.bind("amq.topic", "as.#")
        first = self.post(self.one, "as/a", key="as")
        again = eventually(lambda: self.not_under_way(self.two, "as/a", key="as"))
        self.assertEqual((again[0], again[2]), (first[0], first[2]))
        self.assertEqual((again[1]["content-type"], again[1]["idempotency-replayed"]), ("application/json", "true"))
        self.assertEqual(self.post(self.two, "as/a", b"y", "as")[0], 422)
        self.assertEqual(self.post(self.two, "as/b", b"x", "as")[0], 422)
        lines = b'{"address":"as/c","body":"1"}\n{}\n'
        batches = [http(address, "POST", "/v1/topics", lines, {**NDJSON, "Idempotency-Key": "batch"}) for address in (self.one,)]
        batches.append(eventually(lambda: self.not_under_way(self.two, "", lines, "batch", NDJSON)))
        self.assertEqual([(status, body) for status, _, body in batches], [(207, batches[0][2])] * 2)
        self.post(self.one, "as/end", b"end", "as-end")
        self.assertEqual([self.consumer.take()[2] for _ in range(3)], [b"x", b"1", b"end"])

    def not_under_way(self, address, topic, body=b"x", key="k", more=()):
        path = f"/v1/topics/{topic}".rstrip("/")
        answer = http(address, "POST", path, body, {"Idempotency-Key": key, **dict(more)})
        return None if answer[0] == 409 else answer

    def test_what_came_to_nothing_may_be_tried_at_the_other(self):
        strict = {"Idempotency-Key": "nothing"}
        self.consumer.channel.queue_declare("full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"})
        self.consumer.channel.queue_bind("full", "amq.topic", "full")
        self.assertEqual(http(self.one, "POST", "/v1/topics/full", b"x", strict)[0], 429)
        self.consumer.channel.queue_delete("full")
        answer = eventually(lambda: self.not_under_way(self.two, "full", b"x", "nothing"))
        self.assertEqual((answer[0], answer[1].get("idempotency-replayed")), (202, None))

    def test_a_claim_of_a_dead_instance_holds_for_its_time_and_then_the_request_is_done_again(self):
        self.consumer.bind("amq.topic", "dead")
        claim = self.claim_of(lambda: self.post(self.one, "dead", key="alive"))
        self.assertEqual(self.consumer.take()[2], b"x")
        claim.headers |= {"x-headgate-request": "died", "x-headgate-boot": "00000000deadbeef"}
        now_ms = int(time.time() * 1000)
        claim.headers |= {"x-headgate-at": now_ms, "x-headgate-ends": now_ms + 2000}
        self.consumer.channel.confirm_delivery()
        self.consumer.channel.basic_publish("", "headgate.state", b"", claim)
        again = eventually(lambda: self.not_under_way(self.two, "dead", key="died"))
        self.assertGreaterEqual(time.time() * 1000, now_ms + 2000)
        self.assertEqual((again[0], again[1].get("idempotency-replayed")), (202, None))
        self.assertEqual(self.consumer.take()[1].message_id, "died")
        self.assertEqual(self.sum("requests_again_total"), 1)

    def claim_of(self, request):
        """The properties of the claim that the request leaves in the log."""
        reader, records = self.open(Consumer(self.amqp)), []
        reader.channel.basic_qos(prefetch_count=1)

        def on_record(channel, method, properties, _):
            if (properties.headers or {}).get("x-headgate-act") == "claim":
                records.append(properties)  # without an acknowledgement it is the last to come
            else:
                channel.basic_ack(method.delivery_tag)

        reader.channel.basic_consume("headgate.state", on_record, arguments={"x-stream-offset": "next"})
        request()
        while not records:
            reader.connection.process_data_events(1)
        del records[0].headers["x-stream-offset"]
        return records[0]

    def test_without_the_log_a_key_is_refused_and_nothing_is_published(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(SHARED, "--set", "gateway.name=cut", "--set", "http.publish_timeout=1s", workers=1,
                              amqp=self.amqp_by(proxy))
            self.post(gw.addresses["web"], "warm", key="cut-warm")
            self.consumer.bind("amq.topic", "cut")
            proxy.refuse()
            proxy.cut()
            status, headers, _ = self.post(gw.addresses["web"], "cut", key="cut")
            self.assertEqual(status, 503)
            self.assertIn("retry-after", headers)
            self.assertEqual(self.post(self.two, "cut", b"other", "cut-other")[0], 202)
            self.assertEqual(self.consumer.take()[2], b"other")
            proxy.accept()
            eventually(lambda: self.post(gw.addresses["web"], "cut", key="cut")[0] == 202)
            self.assertEqual(self.consumer.take()[2], b"x")
            gw.stop()


class ManagementCall(E2E):
    def test_it_answers_as_the_management_api_does(self):
        gw = self.gateway(RULE)
        consumer = self.open(Consumer(self.amqp))
        queue = consumer.bind("shop", "order.#")
        vhost = urllib.parse.quote(urllib.parse.unquote(self.amqp.rsplit("/", 1)[1]), safe="")

        def publish(exchange, key, payload="x", encoding="string", vhost=vhost, **properties):
            body = json.dumps({"properties": properties, "routing_key": key, "payload": payload, "payload_encoding": encoding})
            status, _, answer = http(gw.addresses["web"], "POST", f"/api/exchanges/{vhost}/{exchange}/publish", body)
            return status, json.loads(answer)

        self.assertEqual(publish("shop", "order.1", "one", priority=2, headers={"a": "b"}), (200, {"routed": True}))
        self.assertEqual(publish("shop", "nobody.1"), (200, {"routed": False}))
        self.assertEqual(publish("amq.default", queue, base64.b64encode(b"\x00\x01").decode(), "base64"), (200, {"routed": True}))
        _, properties, body = consumer.take()
        self.assertEqual((body, properties.priority, properties.headers, properties.delivery_mode), (b"one", 2, {"a": "b"}, None))
        self.assertEqual(consumer.take()[2], b"\x00\x01")
        self.assertEqual(publish("nowhere", "k")[0], 404)
        self.assertEqual(publish("shop", "k", vhost="elsewhere")[0], 404)


class Description(E2E):
    def test_it_holds_together(self):
        gw = self.gateway(RULE)
        status, headers, body = http(gw.addresses["web"], "GET", "/v1/openapi.json")
        self.assertEqual((status, headers["content-type"]), (200, "application/json"))
        document = json.loads(body)
        self.assertEqual(document["openapi"], "3.1.0")
        for ref in re.findall(r'"\$ref":"#/([^"]+)"', body.decode()):
            part = document
            for name in ref.split("/"):
                part = part[name]
        methods = {"get", "post", "put"}
        for path, item in document["paths"].items():
            with self.subTest(path=path):
                self.assertEqual(re.findall(r"{(\w+)}", path), [p["name"] for p in item["parameters"]])
                self.assertLessEqual(set(item), {"parameters", *methods})
                for operation in methods & set(item):
                    self.assertIn("default", item[operation]["responses"])
