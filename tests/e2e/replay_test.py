# SPDX-License-Identifier: Apache-2.0
"""Server-sent events out of a stream queue: resumed where the reader was, from any place, at the reader's own speed."""
import concurrent.futures
import json
import pathlib
import tempfile
import time

from harness import Consumer, E2E, Events, Proxy, browser, eventually, http

RULES = """
[[exchange]]
name = "news"
type = "topic"
[[queue]]
name = "news.log"
type = "stream"
bindings = [{ exchange = "news", key = "#" }]
[[queue]]
name = "plain"
[[rule]]
name = "news"
topic = "news/{path...}"
exchange = "news"
key = "{path...}"
replay = "news.log"
[[rule]]
name = "missing"
topic = "missing/{path...}"
exchange = "news"
key = "missing.{path...}"
replay = "not.there"
[[rule]]
name = "no stream"
topic = "plain/{path...}"
exchange = "news"
key = "plain.{path...}"
replay = "taken"
"""


class Replay(E2E):
    def serve(self, *args, more="", **options):
        gw = self.gateway(RULES + more, *args, **options)
        self.amqp_client = self.open(Consumer(self.amqp))
        return gw

    def publish(self, first, n, key="a", size=0):
        for i in range(first, first + n):
            self.amqp_client.publish("news", key, str(i).encode().ljust(size))

    def events(self, gw, target, more=""):
        return self.open(Events(gw, f"news/{target}", more))

    def expect(self, events, first, n):
        got = [events.take() for _ in range(n)]
        self.assertEqual([e["data"].strip() for e in got], [str(i) for i in range(first, first + n)])
        ids = [int(e["id"]) for e in got]
        self.assertEqual(ids, sorted(set(ids)))
        return ids

    def fresh(self):
        """A stream that is empty."""
        with_stream = self.open(Consumer(self.amqp))
        with_stream.channel.queue_delete("news.log")

    def test_a_reader_begins_where_it_asks_to_and_goes_on_where_it_was(self):
        self.fresh()
        gw = self.serve()
        web = gw.addresses["web"]
        self.publish(0, 5)
        self.publish(100, 1, key="other")
        self.publish(5, 5)
        all_ids = self.expect(self.events(gw, "a?from=first"), 0, 10)
        self.assertEqual(len(set(all_ids)), 10)
        self.expect(self.events(gw, f"a?from={all_ids[3]}"), 3, 7)
        self.expect(self.events(gw, "a?from=2020-01-01T00:00:00Z"), 0, 10)
        reader = self.events(gw, "a?from=first", f"Last-Event-ID: {all_ids[6]}\r\n")  # which is newer than the query
        self.expect(reader, 7, 3)
        live = self.events(gw, "+", "Last-Event-ID: of-another-time\r\n")
        self.assertEqual(http(web, "POST", "/v1/topics/news/a", b"10", {"Message-Id": "m"})[0], 202)
        self.expect(reader, 10, 1)
        self.expect(live, 10, 1)
        event = self.open(Events(gw, f"news/%23?envelope=1&from={all_ids[-1] + 1}")).take()
        got = json.loads(event["data"])
        self.assertEqual((got["address"], got["properties"]["message_id"], int(event["id"])), ("news/a", "m", all_ids[-1] + 1))
        self.assertEqual(gw.metric("headgate_subscriptions", protocol="http"), 6)

    def test_what_cannot_be_read_is_a_problem(self):
        gw = self.serve()
        self.amqp_client.channel.queue_declare("taken")
        web = gw.addresses["web"]
        for target, status, code in (("missing/a", 404, "NO_QUEUE"), ("plain/a", 400, "REFUSED"), ("news/a?from=x", 400, None),
                                     ("news/a?from=2026-02-30T00:00:00Z", 400, None), ("other/a?from=first", 400, None),
                                     ("%23?from=first", 400, None), ("news/a?from=1&filter=news/b", 400, None),
                                     ("news/a?from=1&retained=1", 400, None)):
            got, _, body = http(web, "GET", f"/v1/topics/{target}")
            self.assertEqual((got, json.loads(body).get("code")), (status, code), body)
        self.assertEqual(http(web, "HEAD", "/v1/topics/news/a?from=first")[0], 200)

    def test_a_lost_link_costs_a_reader_nothing(self):
        self.fresh()
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.serve(amqp=self.amqp_by(proxy))
            reader = self.events(gw, "a?from=first")
            self.publish(0, 50)
            self.expect(reader, 0, 20)
            proxy.cut()
            self.publish(50, 50)
            self.expect(reader, 20, 80)
            gw.stop()

    def test_a_slow_reader_is_waited_for_and_loses_nothing(self):
        self.fresh()
        gw = self.serve(more='[limits]\noutbound_high = "256KiB"\noutbound_low = "64KiB"\n')
        n, size = 400, 1 << 16
        self.publish(0, n, size=size)
        reader = self.events(gw, "a?from=first")
        eventually(lambda: gw.metric("headgate_messages_out_total", protocol="http") >= 4)
        started = time.monotonic()
        while time.monotonic() - started < 0.5:  # it has room for a part only, however long one looks
            self.assertLess(gw.metric("headgate_messages_out_total", protocol="http"), n)
        self.expect(reader, 0, n)
        self.assertEqual(gw.metric("headgate_dropped_total", protocol="http"), 0)

    def test_event_source_misses_nothing_though_the_gateway_is_killed(self):
        self.fresh()
        site = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        self.addCleanup(site.cleanup)
        (pathlib.Path(site.name) / "index.html").write_text('<!doctype html><link rel="icon" href="data:,">')
        static = f'[http]\nstatic = "{site.name}"\n'
        gw = self.serve(more=static)
        port = gw.port("web")
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        page = pool.submit(browser.run, "events", url=f"http://127.0.0.1:{port}/", target="/v1/topics/news/a?from=first", expected=30,
                           names=["message", "headgate.lost"])
        eventually(lambda: gw.metric("headgate_subscriptions", protocol="http") == 1, limit_s=60)
        self.publish(0, 10)
        eventually(lambda: gw.metric("headgate_messages_out_total", protocol="http") == 10)
        gw.kill()
        self.publish(10, 10)
        gw.stop()
        again = self.serve("--set", f"listener.0.bind=127.0.0.1:{port}", more=static)
        eventually(lambda: again.metric("headgate_subscriptions", protocol="http") == 1, limit_s=60)
        self.publish(20, 10)
        got = page.result()
        self.assertEqual([e["data"] for e in got["events"]], [str(i) for i in range(30)])
        self.assertEqual(got["opened"], 2)
