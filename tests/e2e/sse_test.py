# SPDX-License-Identifier: Apache-2.0
"""Server-sent events: to curl, to sockets and to EventSource in headless Chromium."""
import base64
import concurrent.futures
import json
import pathlib
import signal
import subprocess
import tempfile

from harness import Consumer, E2E, Events, Mqtt, Proxy, browser, eventually, http, raw

RULES = """
[[exchange]]
name = "news"
type = "topic"
[[rule]]
name = "news"
topic = "news/{path...}"
exchange = "news"
key = "{path...}"
[[exchange]]
name = "gone"
type = "topic"
[[rule]]
name = "gone"
topic = "gone/{id}"
exchange = "gone"
key = "{id}"
"""
ALERTS = """
[[exchange]]
name = "alerts"
type = "headers"
[[rule]]
name = "alerts"
topic = "alerts/{id}"
exchange = "alerts"
key = "{id}"
"""
EVERY_BYTE = bytes(range(256))


class Sse(E2E):
    also_on_release = True

    def post(self, gw, address, body, **headers):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.assertEqual(http(gw.addresses["web"], "POST", f"/v1/topics/{address}", body, fields)[0], 202)

    def events(self, gw, target, more=""):
        return self.open(Events(gw, target, more))

    def subscriptions(self, gw):
        return gw.metric("headgate_subscriptions", protocol="http")

    def test_curl_reads_what_mqtt_http_and_amqp_publish(self):
        gw = self.gateway(RULES)
        host, port = gw.addresses["web"]
        curl = subprocess.Popen(["curl", "-sSN", "-H", "Accept: text/event-stream", f"http://{host}:{port}/v1/topics/news/%23"],
                                stdout=subprocess.PIPE)
        self.addCleanup(curl.stdout.close)
        self.addCleanup(curl.wait)
        self.addCleanup(curl.kill)
        self.assertTrue(curl.stdout.readline().startswith(b"retry: "))
        self.assertEqual(curl.stdout.readline(), b"\n")
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        mqtt.publish("news/a", "grüße\nzwei".encode())
        self.assertEqual([curl.stdout.readline() for _ in range(4)], [b"id: \n", "data: grüße\n".encode(), b"data: zwei\n", b"\n"])
        self.post(gw, "news/a/b", EVERY_BYTE, Message_Id="7")
        got = [curl.stdout.readline() for _ in range(4)]
        self.assertEqual(got, [b"id: 7\n", b"event: headgate.base64\n", b"data: " + base64.b64encode(EVERY_BYTE) + b"\n", b"\n"])
        self.open(Consumer(self.amqp)).publish("news", "c", b"by pika")
        self.assertEqual([curl.stdout.readline() for _ in range(3)], [b"id: \n", b"data: by pika\n", b"\n"])

    def test_a_headers_exchange_matches_by_the_query(self):
        gw = self.gateway(ALERTS)
        beside = self.open(Consumer(self.amqp))
        wants = {"all": "x-match=all&colour=red&size=int:5", "any": "x-match=any&colour=red&size=int:5",
                 "bool": "x-match=all&deep=bool:true", "with-x": "x-match=any-with-x&x-kind=end", "everything": ""}
        streams = {name: self.events(gw, f"alerts/*?{query}") for name, query in wants.items()}
        messages = [("both", {"colour": "red", "size": 5}), ("colour", {"colour": "red", "size": "5"}), ("size", {"size": 5}),
                    ("deep", {"deep": True}), ("not", {"deep": "true"}), ("x", {"x-kind": "end"}), ("none", {})]
        for name, headers in messages:
            beside.publish("alerts", name, name.encode(), headers=headers)
        beside.publish("alerts", "last", b"last", headers={"colour": "red", "size": 5, "deep": True, "x-kind": "end"})
        expected = {"all": ["both"], "any": ["both", "colour", "size"], "bool": ["deep"], "with-x": ["x"],
                    "everything": [name for name, _ in messages]}
        for name, stream in streams.items():
            with self.subTest(name):
                got = [stream.take()["data"]]
                while got[-1] != "last":
                    got.append(stream.take()["data"])
                self.assertEqual(got[:-1], expected[name])
        status, _, body = http(gw.addresses["web"], "GET", "/v1/topics/plain/x?x-match=all", headers={"Accept": "text/event-stream"})
        self.assertEqual((status, json.loads(body)["code"]), (400, "BAD_FILTER"))
        self.assertIn(b"type headers", body)

    def test_the_envelope_says_where_a_message_comes_from(self):
        gw = self.gateway(RULES)
        events = self.events(gw, "news/*?envelope=1&filter=news/deep/%23&filter=news/%23")
        self.post(gw, "news/a", b"one\r\ntwo", Message_Id="m", Amqp_Type="greeting", Content_Type="text/plain", Amqp_Header_X="y")
        event = events.take()
        self.assertEqual(event["id"], "m")
        self.assertNotIn("event", event)
        got = json.loads(event["data"])
        self.assertEqual((got["address"], got["body"], got["properties"]["type"], got["properties"]["content_type"], got["headers"]["X"]),
                         ("news/a", "one\r\ntwo", "greeting", "text/plain", "y"))
        self.post(gw, "news/deep/er", b"\xff")
        got = json.loads(events.take()["data"])  # once, though two filters match
        self.assertEqual((got["address"], got["base64"]), ("news/deep/er", "/w=="))

    def test_what_is_retained_comes_first(self):
        gw = self.gateway(f'{RULES}[state]\nlog = "sse"\n')
        self.post(gw, "news/kept?retain=true", b"kept")
        events = self.events(gw, "news/%2B?envelope=true&retained=true")
        got = json.loads(events.take()["data"])
        self.assertEqual((got["address"], got["body"], got["retained"]), ("news/kept", "kept", True))
        self.post(gw, "news/new", b"new")
        self.assertNotIn("retained", json.loads(events.take()["data"]))

    def test_what_cannot_be_subscribed_to_is_a_problem(self):
        gw = self.gateway(f'{RULES}[state]\nlog = "off"\n')
        self.open(Consumer(self.amqp)).channel.exchange_delete("gone")
        for target, status, code in (("gone/x", 404, "NO_EXCHANGE"), ("a/%23/b", 400, "BAD_FILTER"), ("a%2Fb", 400, "BAD_FILTER"),
                                     ("a?retained=1", 400, "NO_RETAIN")):
            with self.subTest(target):
                got, headers, body = http(gw.addresses["web"], "GET", f"/v1/topics/{target}")
                self.assertEqual((got, headers["content-type"], json.loads(body)["code"]), (status, "application/problem+json", code))
        self.assertEqual(http(gw.addresses["web"], "GET", "/v1/topics/a", headers={"Accept": "text/html"})[0], 406)
        status, headers, body = http(gw.addresses["web"], "HEAD", "/v1/topics/a")
        self.assertEqual((status, headers["content-type"], headers.get("content-length"), body), (200, "text/event-stream", None, b""))

    def test_a_stream_is_the_last_answer_of_its_connection(self):
        gw = self.gateway(RULES)
        get = b"GET /v1/topics/news/a HTTP/1.1\r\nHost: a\r\n\r\n"
        client = self.open(raw(gw.addresses["web"], b"POST /v1/topics/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" + get + get))
        self.assertIn(b" 202 ", client.read_until(b"\r\n\r\n"))
        head = client.read_until(b"text/event-stream")
        self.assertIn(b"200 OK", head)
        self.assertIn(b"Connection: close\r\n", client.read_until(b"\r\n\r\n"))
        self.assertEqual(self.subscriptions(gw), 1)
        gw.signal(signal.SIGTERM)
        self.assertNotIn(b"HTTP/1.1", client.read_to_end())

    def test_who_goes_is_unsubscribed(self):
        gw = self.gateway(RULES)
        events = Events(gw, "news/a?filter=news/b")
        self.assertEqual(self.subscriptions(gw), 2)
        events.close()
        eventually(lambda: self.subscriptions(gw) == 0)

    def test_silence_is_broken_by_comments(self):
        gw = self.gateway(f'{RULES}[http]\nsse_heartbeat = "200ms"\n')
        events = self.events(gw, "news/a")
        for _ in range(3):
            self.assertEqual(events.socket.read_until(b"\n\n"), b":\n\n")

    def test_a_slow_reader_is_told_how_many_it_missed(self):
        gw = self.gateway(f'{RULES}[limits]\noutbound_low = "64KiB"\noutbound_high = "256KiB"\n')
        events = self.events(gw, "news/a")
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        sent_n = 0
        while gw.metric("headgate_dropped_total", protocol="http") < 10:
            for _ in range(20):
                mqtt.publish("news/a", b"x" * 60000)
                sent_n += 1
        mqtt.publish("news/a", b"last")
        sent_n += 1
        seen_n = lost_n = 0
        while seen_n + lost_n < sent_n:
            event = events.take()
            if event.get("event") == "headgate.lost":
                lost_n += int(event["data"])
            else:
                seen_n += 1
        self.assertEqual(lost_n, gw.metric("headgate_dropped_total", protocol="http"))
        self.assertGreaterEqual(lost_n, 10)

    def test_without_rabbitmq_the_answer_is_503(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(RULES, amqp=self.amqp_by(proxy), rabbitmq='unavailable_timeout = "300ms"')
            proxy.refuse()
            proxy.cut()
            status, headers, _ = http(gw.addresses["web"], "GET", "/v1/topics/news/a")
            self.assertEqual((status, headers["retry-after"]), (503, "1"))


class SseInABrowser(E2E):
    def setUp(self):
        self.site = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        self.addCleanup(self.site.cleanup)
        (pathlib.Path(self.site.name) / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')

    def serve(self, *args, **options):
        return self.gateway(f'{RULES}[http]\nstatic = "{self.site.name}"\n', *args, **options)

    def start(self, gw, **args):
        """Runs the page beside the test, and waits for its stream."""
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        page = pool.submit(browser.run, "events", **args)
        self.wait_live(gw)
        return page

    def wait_live(self, gw):
        eventually(lambda: gw.metric("headgate_subscriptions", protocol="http") == 1, limit_s=60)

    def post(self, gw, address, body, **headers):
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        self.assertEqual(http(gw.addresses["web"], "POST", f"/v1/topics/{address}", body, fields)[0], 202)

    def test_event_source_gives_back_what_was_published(self):
        gw = self.serve()
        page = self.start(gw, url=f"http://127.0.0.1:{gw.port('web')}/", target="/v1/topics/news/*", expected=7,
                          names=["message", "order.paid", "headgate.base64"])
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        texts = ["", " blank, and a line\n\nbehind an empty one\n", "grüße ✓ \U0001f600", "data: x\nid: 9\n\nevent: forged"]
        for text in texts:
            self.post(gw, "news/a", text.encode(), Message_Id=f"m{len(text)}")
        self.post(gw, "news/a", b"a\rb\r\nc", Amqp_Type="order.paid", Message_Id="p")
        self.post(gw, "news/a", EVERY_BYTE, Message_Id="q")
        mqtt.publish("news/a", b"no id")
        events = page.result()["events"]
        self.assertEqual([(e["name"], e["data"], e["id"]) for e in events],
                         [("message", text, f"m{len(text)}") for text in texts]
                         + [("order.paid", "a\nb\nc", "p"), ("headgate.base64", base64.b64encode(EVERY_BYTE).decode(), "q"),
                            ("message", "no id", "")])

    def test_a_page_of_another_origin_may_read_where_it_is_allowed(self):
        gw = self.serve(web='cors_origins = ["*"]')
        page = self.start(gw, url=f"http://localhost:{gw.port('web')}/", expected=1, names=["message"],
                          target=f"http://127.0.0.1:{gw.port('web')}/v1/topics/news/a?envelope=1")
        self.post(gw, "news/a", b"hello")
        self.assertEqual(json.loads(page.result()["events"][0]["data"])["body"], "hello")

    def test_event_source_comes_back_after_a_restart(self):
        gw = self.serve()
        page = self.start(gw, url=f"http://127.0.0.1:{gw.port('web')}/", target="/v1/topics/news/a", expected=2, names=["message"])
        self.post(gw, "news/a", b"before")
        gw.stop()
        again = self.serve("--set", f"listener.0.bind=127.0.0.1:{gw.port('web')}")
        self.wait_live(again)
        self.post(again, "news/a", b"after")
        got = page.result()
        self.assertEqual(([e["data"] for e in got["events"]], got["opened"]), (["before", "after"], 2))
