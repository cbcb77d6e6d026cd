# SPDX-License-Identifier: Apache-2.0
"""Webhooks: what is posted, what becomes of what the receiver does not take, and what survives a gateway that dies."""
import email.utils
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import pika

from harness import Consumer, E2E, Gateway, Mqtt, Proxy, eventually, headgate, http
from harness.gateway import ROOT, config_text
from harness.receiver import Answer, Receiver
from harness.wait import LIMIT_S

SECRETS = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
VERIFY = """
import { Webhook } from "standardwebhooks";
const { body, headers, secret } = JSON.parse(process.argv[1]);
new Webhook(secret).verify(Buffer.from(body, "base64").toString(), headers);
"""


def webhook(name, url, *lines, filter=True):
    """One that takes NAME/#, and may connect to loopback."""
    source = f'filter = "{name}/#"' if filter else ""
    allow = "" if any(line.startswith("allow") for line in lines) else 'allow = ["127.0.0.0/8"]'
    return "\n".join(["", "[[webhook]]", f'name = "{name}"', f'url = "{url}"', source, allow, *lines, ""])


def certificate(folder):
    """For localhost, signed by an authority of its own: (ca, (certificate, key))."""
    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True, timeout=LIMIT_S)

    new = ["-newkey", "rsa:2048", "-nodes"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority")
    openssl("req", *new, "-keyout", "site.key", "-out", "site.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost")
    openssl("x509", "-req", "-in", "site.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "site.crt", "-days", "2",
            "-extfile", "names")
    return folder / "ca.crt", (folder / "site.crt", folder / "site.key")


class Webhooks(E2E):
    """One gateway with a webhook for each test, named as the path it posts to."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        cls.addClassCleanup(cls.folder.cleanup)
        cls.ca, pair = certificate(pathlib.Path(cls.folder.name))
        cls.receiver, cls.safe = Receiver(), Receiver(pair)
        for receiver in (cls.receiver, cls.safe):
            cls.addClassCleanup(receiver.close)
        cls.gw = Gateway(config_text(cls.amqp, "".join(cls.webhooks())))
        cls.addClassCleanup(cls.gw.stop)
        cls.gw.start()
        for name in cls.names:
            eventually(lambda: cls.gw.metric("headgate_webhook_active", webhook=name) == 1)

    @classmethod
    def webhooks(cls):
        quick, both = 'retry_first = "20ms"', ('allow = ["127.0.0.0/8", "::1"]', "max_attempts = 2", 'retry_first = "20ms"')
        queues = '[[queue]]\nname = "jobs"\n[[queue]]\nname = "given.up"\n'
        here = cls.receiver.url
        hooks = {
            "plain": (here("/plain?token=t0p"), f"secrets = {json.dumps(SECRETS)}", 'headers = { Authorization = "Bearer x", X-Empty = "" }'),
            "failing": (here("/failing"), quick),
            "hanging": (here("/hanging"), quick, 'timeout = "300ms"'),
            "cut": (here("/cut"), quick),
            "long": (here("/long"), quick, 'max_answer = "1KiB"'),
            "redirect": (here("/redirect"), quick, "max_attempts = 2"),
            "hopeless": (here("/hopeless"), quick, "max_attempts = 3", 'dead_letter_exchange = ""', 'dead_letter_key = "given.up"'),
            "delay": (here("/delay"), quick, 'retry_max = "80ms"', 'max_hold = "1ms"', 'delay_steps = ["50ms", "100ms"]'),
            "later": (here("/later"), quick, 'retry_max = "2s"'),
            "ordered": (here("/ordered"), quick, 'order_by = "header:device"'),
            "breaker": (here("/breaker"), quick, "breaker_failures = 3", 'breaker_pause = "300ms"', "concurrency = 1"),
            "gone": (here("/gone"), quick),
            "inside": (cls.receiver.url("/inside", "localhost"), quick, "max_attempts = 2", "allow = []"),
            "expiring": (here("/expiring"), 'retry_first = "3500ms"'),
            "trusted": (cls.safe.url("/trusted", "localhost"), *both, f'tls = {{ ca = "{cls.ca}" }}'),
            "untrusted": (cls.safe.url("/untrusted", "localhost"), *both),
        }
        cls.names = [*hooks, "jobs"]
        yield queues
        yield webhook("jobs", here("/jobs"), 'queue = "jobs"', filter=False)
        for name, (url, *lines) in hooks.items():
            yield webhook(name, url, *lines)

    def publish(self, key, body=b"x", **properties):
        self.open(Consumer(self.amqp)).publish("amq.topic", key, body, **properties)

    def metric(self, name, hook):
        return self.gw.metric(f"headgate_webhook_{name}", webhook=hook)

    def dead_letter(self, queue):
        return self.open(Consumer(self.amqp)).take(queue=queue)[1:]

    # ---- What is posted

    def test_a_message_of_any_protocol_is_posted_with_its_properties(self):
        posts = self.receiver.at("/plain?token=t0p")
        self.publish("plain.a", b'{"n":1}', content_type="application/json", correlation_id="c1", message_id="m1", type="t", priority=3,
                     timestamp=17, delivery_mode=2, headers={"unit": "C", "n": 7, "x-death": "no", "traceparent": "00-ab", "bad name": "x"})
        post = posts.take()
        self.assertEqual(post.body, b'{"n":1}')
        want = {"content-type": "application/json", "correlation-id": "c1", "message-id": "m1", "amqp-type": "t", "amqp-priority": "3",
                "amqp-timestamp": "17", "amqp-persistent": "true", "amqp-header-unit": "C", "amqp-header-n": "7", "traceparent": "00-ab",
                "amqp-exchange": "amq.topic", "amqp-routing-key": "plain.a", "authorization": "Bearer x", "x-empty": "",
                "webhook-id": "m1", "content-length": "7"}
        self.assertEqual({name: post.headers.get(name) for name in want}, want)
        self.assertFalse({name for name in post.headers if "death" in name or " " in name or name == "expect"})
        mqtt = self.open(Mqtt(self.gw.addresses["mqtt"]))
        mqtt.publish("plain/b", b"by mqtt")
        post = posts.take()
        self.assertEqual((post.body, post.headers["content-type"]), (b"by mqtt", "application/octet-stream"))
        self.assertRegex(post.headers["webhook-id"], "^msg_[0-9a-f]{32}$")
        self.assertEqual(http(self.gw.addresses["web"], "POST", "/v1/topics/plain/c", b"")[0], 202)
        self.assertEqual(posts.take().body, b"")
        eventually(lambda: self.metric("held", "plain") == 0)

    def test_the_signature_is_one_that_another_implementation_accepts(self):
        self.publish("plain.signed", b'{"signed": true}', message_id="signed-1")
        post = self.receiver.at("/plain?token=t0p").take()
        signed = {name: post.headers[name] for name in ("webhook-id", "webhook-timestamp", "webhook-signature")}

        def verifies(body, secret):
            import base64
            argument = json.dumps({"body": base64.b64encode(body).decode(), "headers": signed, "secret": secret})
            return subprocess.run(["node", "--input-type=module", "-e", VERIFY, argument], cwd=ROOT / "tests" / "e2e", check=False,
                                  capture_output=True, timeout=LIMIT_S).returncode == 0

        self.assertEqual([verifies(post.body, secret) for secret in SECRETS], [True, True])
        self.assertFalse(verifies(post.body + b" ", SECRETS[0]))
        self.assertFalse(verifies(post.body, "whsec_" + "A" * 32))

    def test_a_queue_is_consumed_as_it_is_over_kept_connections(self):
        producer = self.open(Consumer(self.amqp))
        for i in range(50):
            producer.publish("", "jobs", b"%d" % i)
        posts = self.receiver.at("/jobs").take_n(50)
        self.assertEqual(sorted(int(p.body) for p in posts), list(range(50)))
        self.assertLessEqual(len({p.port for p in posts}), 8)
        eventually(lambda: producer.channel.queue_declare("jobs", passive=True).method.message_count == 0)
        status = {w["name"]: w for w in self.gw.admin("/api/status")[1]["webhooks"]}["jobs"]
        self.assertEqual((status["url"], status["active"], status["breaker"]), (self.receiver.url(""), True, "closed"))

    def test_https_is_verified(self):
        self.publish("trusted.a", b"secret")
        self.assertEqual(self.safe.at("/trusted").take().body, b"secret")
        self.publish("untrusted.a", b"never sent")
        properties, body = self.dead_letter("headgate.webhook.untrusted.dead")
        self.assertEqual(body, b"never sent")
        self.assertIn("certificate", properties.headers["x-headgate-webhook-error"])
        self.assertEqual(self.safe.at("/untrusted").all(), [])

    # ---- Receivers that do not take it

    def test_a_receiver_that_fails_three_times_gets_it_the_fourth(self):
        self.receiver.answers["/failing"] = lambda post, before: Answer(503 if before < 3 else 200, b"thanks")
        self.publish("failing.a", b"again")
        posts = self.receiver.at("/failing").take_n(4)
        self.assertEqual({p.body for p in posts}, {b"again"})
        self.assertEqual(len({p.headers["webhook-id"] for p in posts}), 1)
        eventually(lambda: self.metric("delivered_total", "failing") == 1)
        self.assertEqual((self.metric("attempts_total", "failing"), self.metric("failed_5xx_total", "failing")), (4, 3))

    def test_a_receiver_that_hangs_is_left(self):
        self.receiver.answers["/hanging"] = lambda post, before: None if before == 0 else Answer()
        self.publish("hanging.a")
        self.receiver.at("/hanging").take_n(2)
        eventually(lambda: self.metric("delivered_total", "hanging") == 1)
        self.assertGreaterEqual(self.metric("failed_timeout_total", "hanging"), 1)

    def test_an_answer_that_breaks_off_is_none(self):
        self.receiver.answers["/cut"] = lambda post, before: Answer(200, b"half", say_bytes=100) if before == 0 else Answer()
        self.publish("cut.a")
        self.receiver.at("/cut").take_n(2)
        eventually(lambda: self.metric("delivered_total", "cut") == 1)
        self.assertEqual(self.metric("failed_connection_total", "cut"), 1)

    def test_of_a_long_answer_the_status_counts(self):
        self.receiver.answers["/long"] = lambda post, before: Answer(200, b"x" * 1000000)
        self.publish("long.a")
        eventually(lambda: self.metric("delivered_total", "long") == 1)
        self.assertEqual(self.metric("attempts_total", "long"), 1)

    def test_a_redirect_is_not_followed(self):
        self.receiver.answers["/redirect"] = lambda *_: Answer(307, Location=self.receiver.url("/elsewhere"))
        self.publish("redirect.a")
        properties, _ = self.dead_letter("headgate.webhook.redirect.dead")
        self.assertEqual(properties.headers["x-headgate-webhook-error"], "HTTP 307, redirects are not followed")
        self.assertEqual(self.receiver.at("/elsewhere").all(), [])

    def test_a_dead_letter_says_why(self):
        self.receiver.answers["/hopeless"] = lambda *_: Answer(500)
        self.publish("hopeless.a", b"body", message_id="m7", content_type="a/b", expiration="600000", headers={"unit": "C"})
        properties, body = self.dead_letter("given.up")
        self.assertEqual(body, b"body")
        self.assertEqual((properties.message_id, properties.content_type, properties.expiration), ("m7", "a/b", None))
        want = {"": "hopeless", "-url": self.receiver.url(""), "-status": 500, "-error": "HTTP 500", "-attempts": 3,
                "-exchange": "amq.topic", "-key": "hopeless.a", "-id": "m7"}
        self.assertEqual({k: properties.headers.get("x-headgate-webhook" + k) for k in want}, want)
        self.assertEqual(properties.headers["unit"], "C")
        eventually(lambda: self.metric("dead_lettered_total", "hopeless") == 1 and self.metric("held", "hopeless") == 0)

    def test_a_long_delay_is_spent_in_rabbitmq_with_its_count(self):
        self.receiver.answers["/delay"] = lambda post, before: Answer(500 if before < 4 else 200)
        self.publish("delay.a", b"body", headers={"unit": "C"}, expiration="600000")
        posts = self.receiver.at("/delay").take_n(5)
        self.assertEqual({(p.headers["amqp-exchange"], p.headers["amqp-routing-key"], p.headers["amqp-header-unit"]) for p in posts},
                         {("amq.topic", "delay.a", "C")})
        self.assertEqual(len({p.headers["webhook-id"] for p in posts}), 1)
        eventually(lambda: self.metric("delivered_total", "delay") == 1)
        self.assertEqual(self.metric("delayed_total", "delay"), 4)

    def test_retry_after_is_honoured_in_both_forms_up_to_retry_max(self):
        def answer(post, before):
            in_10s = email.utils.formatdate(time.time() + 10, usegmt=True)
            return [Answer(429, Retry_After="1"), Answer(503, Retry_After=in_10s), Answer()][before]

        self.receiver.answers["/later"] = answer
        self.publish("later.a")
        one, two, three = self.receiver.at("/later").take_n(3)
        self.assertGreaterEqual(two.at - one.at, 0.95)
        self.assertGreaterEqual(three.at - two.at, 1.95)  # retry_max

    def test_what_fails_holds_back_its_own_key_only(self):
        def answer(post, before):
            return Answer(500 if post.headers["amqp-header-device"] == "bad" and before < 6 else 200)

        self.receiver.answers["/ordered"] = answer
        producer = self.open(Consumer(self.amqp))
        for i in range(10):
            for device in ("bad", "good"):
                producer.publish("amq.topic", f"ordered.{i}", b"%d" % i, headers={"device": device})
        eventually(lambda: self.metric("delivered_total", "ordered") == 20)
        posts = self.receiver.at("/ordered").all()
        of = {device: [int(p.body) for p in posts if p.headers["amqp-header-device"] == device] for device in ("bad", "good")}
        self.assertEqual(of["good"], list(range(10)))
        self.assertEqual(of["bad"], [0] * (len(of["bad"]) - 9) + list(range(1, 10)))
        self.assertGreater(len(of["bad"]), 10)

    def test_a_breaker_opens_and_tries_with_one(self):
        self.receiver.answers["/breaker"] = lambda post, before: Answer(500 if before < 4 else 200)
        for i in range(6):
            self.publish("breaker.a", b"%d" % i)
        posts = self.receiver.at("/breaker").take_n(5)
        self.assertGreaterEqual(posts[3].at - posts[2].at, 0.29)
        self.assertGreaterEqual(posts[4].at - posts[3].at, 0.29)
        eventually(lambda: self.metric("delivered_total", "breaker") == 6)
        self.assertEqual(self.metric("breaker", "breaker"), 0)
        self.gw.wait_log("webhook.opened", webhook="breaker")
        self.gw.wait_log("webhook.closed", webhook="breaker")

    def test_a_receiver_that_is_gone_gets_nothing_more(self):
        self.receiver.answers["/gone"] = lambda *_: Answer(410)
        self.publish("gone.a", b"one")
        self.assertEqual(self.dead_letter("headgate.webhook.gone.dead")[1], b"one")
        eventually(lambda: self.metric("active", "gone") == 0 and self.metric("gone", "gone") == 1)
        self.publish("gone.b", b"two")
        self.assertEqual(self.open(Consumer(self.amqp)).take(queue="headgate.webhook.gone")[2], b"two")
        self.assertEqual(len(self.receiver.at("/gone").all()), 1)

    def test_an_address_inside_is_not_connected_to(self):
        self.publish("inside.a")
        properties, _ = self.dead_letter("headgate.webhook.inside.dead")
        self.assertEqual(properties.headers["x-headgate-webhook-error"], "the host has no address that is allowed")
        self.assertEqual(self.receiver.at("/inside").all(), [])
        self.assertEqual(self.metric("failed_address_total", "inside"), 2)

    def test_what_has_expired_is_not_sent_again(self):
        self.receiver.answers["/expiring"] = lambda *_: Answer(500)
        self.publish("expiring.a", b"x", expiration="1500")
        self.receiver.at("/expiring").take()
        eventually(lambda: self.metric("expired_total", "expiring") == 1)
        self.assertEqual((self.metric("attempts_total", "expiring"), self.metric("held", "expiring")), (1, 0))


class Dying(E2E):
    also_on_release = True
    N = 10000

    def config(self, receiver, *lines):
        return webhook("flaky", receiver.url("/flaky"), 'retry_first = "20ms"', 'retry_max = "200ms"', 'max_hold = "50ms"',
                       'delay_steps = ["100ms", "300ms"]', "max_attempts = 4", "concurrency = 16", "prefetch = 200",
                       'timeout = "1s"', "breaker_failures = 0", *lines)

    def test_nothing_is_lost_when_a_gateway_dies_in_the_middle(self):
        receiver = self.open(Receiver())
        taken, lock = set(), threading.Lock()
        never = {n for n in range(self.N) if n % 100 == 7}

        def answer(post, before):
            n = int(post.body)
            if n in never:
                return Answer(500)
            if (n + before) % 10 == 3:  # now and then
                return Answer(503) if n % 20 else Answer(200, b"half", say_bytes=100)
            with lock:
                taken.add(n)
            return Answer()

        receiver.answers["/flaky"] = answer
        gw = self.gateway(self.config(receiver), must_exit=None)
        gw.wait_log("webhook.active")
        producer = self.open(Consumer(self.amqp))
        producer.channel.tx_select()  # one answer for many, so that publishing is not what is measured
        for i in range(self.N):
            producer.channel.basic_publish("amq.topic", f"flaky.{i}", b"%d" % i, pika.BasicProperties(delivery_mode=2))
            if i % 500 == 499 or i == self.N - 1:
                producer.channel.tx_commit()
            if i == self.N // 2:
                eventually(lambda: len(taken) > self.N // 8)
                gw.kill()
        gw = self.gateway(self.config(receiver))
        dead = {}

        def is_done():
            method, properties, body = producer.channel.basic_get("headgate.webhook.flaky.dead", auto_ack=True)
            while method:
                dead[int(body)] = properties.headers
                method, properties, body = producer.channel.basic_get("headgate.webhook.flaky.dead", auto_ack=True)
            return len(taken | set(dead)) == self.N and never <= set(dead)

        eventually(is_done, limit_s=3 * LIMIT_S)
        for headers in dead.values():
            self.assertEqual(headers["x-headgate-webhook-attempts"], 4)
            self.assertTrue(headers["x-headgate-webhook-error"])
        eventually(lambda: gw.metric("headgate_webhook_held", webhook="flaky") == 0)


class Ending(E2E):
    def test_what_is_under_way_is_finished_when_the_gateway_stops(self):
        receiver = self.open(Receiver())
        may_answer = threading.Event()
        receiver.answers["/drain"] = lambda post, before: may_answer.wait(LIMIT_S) and Answer()
        gw = self.gateway(webhook("drain", receiver.url("/drain"), "concurrency = 1"))
        gw.wait_log("webhook.active")
        producer = self.open(Consumer(self.amqp))
        for body in (b"under way", b"not begun"):
            producer.publish("amq.topic", "drain.a", body)
        receiver.at("/drain").take()
        gw.signal(signal.SIGTERM)
        gw.wait_log("draining")
        may_answer.set()
        self.assertEqual(gw.wait(), 0)
        self.assertEqual(producer.take(queue="headgate.webhook.drain")[2], b"not begun")
        self.assertEqual(producer.channel.queue_declare("headgate.webhook.drain", passive=True).method.message_count, 0)
        self.assertEqual(len(receiver.at("/drain").all()), 0)

    def test_order_and_count_survive_a_lost_link(self):
        receiver = self.open(Receiver())
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        receiver.answers["/line"] = lambda post, before: Answer(500 if before < 6 else 200)
        gw = self.gateway(webhook("line", receiver.url("/line"), 'order_by = "routing_key"', 'retry_first = "20ms"', 'retry_max = "100ms"',
                                  "max_attempts = 7", "breaker_failures = 0"), amqp=self.amqp_by(proxy))
        gw.wait_log("webhook.active")
        producer = self.open(Consumer(self.amqp))
        for i in range(20):
            producer.publish("amq.topic", "line.a", b"%d" % i)
        posts = receiver.at("/line").take_n(3)
        proxy.cut()
        eventually(lambda: gw.metric("headgate_webhook_delivered_total") >= 20 and gw.metric("headgate_webhook_held") == 0)
        posts += receiver.at("/line").all()
        bodies = [int(p.body) for p in posts]
        self.assertEqual(sorted(set(bodies)), list(range(20)))
        self.assertEqual(bodies, sorted(bodies))
        self.assertEqual(gw.metric("headgate_webhook_dead_lettered_total"), 0)

    def test_nothing_is_held_for_longer_than_max_ack_wait(self):
        receiver = self.open(Receiver())
        for path in ("/patient", "/strict"):
            receiver.answers[path] = lambda *_: Answer(500)
        lines = ['max_ack_wait = "1s"', 'max_hold = "500ms"', "breaker_failures = 1", 'breaker_pause = "1h"']
        gw = self.gateway(webhook("patient", receiver.url("/patient"), 'delay_steps = ["100ms"]', *lines) +
                          webhook("strict", receiver.url("/strict"), 'order_by = "routing_key"', *lines))
        for _ in range(2):
            gw.wait_log("webhook.active")
        before = gw.metric("headgate_deliveries_total")
        producer = self.open(Consumer(self.amqp))
        for i in range(10):
            for key in ("patient.a", "strict.a"):
                producer.publish("amq.topic", key, b"%d" % i)
        eventually(lambda: gw.metric("headgate_webhook_delayed_total", webhook="patient") >= 10)  # each has been back
        eventually(lambda: gw.metric("headgate_deliveries_total") >= before + 40)
        gw.stop()
        for hook in ("patient", "strict"):
            eventually(lambda: producer.channel.queue_declare(f"headgate.webhook.{hook}", passive=True).method.message_count == 10)
        bodies = [int(producer.channel.basic_get("headgate.webhook.strict")[2]) for _ in range(10)]
        self.assertEqual(bodies, list(range(10)))

    def test_an_ordered_webhook_has_one_instance_and_another_takes_over(self):
        receiver = self.open(Receiver())
        config = webhook("single", receiver.url("/single"), 'order_by = "routing_key"')
        one = self.gateway(config, must_exit=None)
        one.wait_log("webhook.active")
        two = self.gateway(config, "--set", "gateway.name=two")
        two.wait_log("webhook.waiting")
        one.kill()
        self.open(Consumer(self.amqp)).publish("amq.topic", "single.a", b"kept")
        two.wait_log("webhook.active")
        self.assertEqual(receiver.at("/single").take().body, b"kept")

    def test_a_queue_may_come_later(self):
        receiver = self.open(Receiver())
        gw = self.gateway(webhook("late", receiver.url("/late"), 'queue = "late.jobs"', filter=False))
        gw.wait_log("webhook.waiting", queue="late.jobs")
        producer = self.open(Consumer(self.amqp))
        producer.channel.queue_declare("late.jobs", durable=True)
        producer.publish("", "late.jobs", b"job")
        self.assertEqual(receiver.at("/late").take().body, b"job")


class Example(E2E):
    def test_the_receiver_of_the_example_takes_orders(self):
        folder = ROOT / "examples" / "webhook"
        env = {"WEBHOOK_SECRET": SECRETS[0], "HEADGATE_AMQP_URL": self.amqp}
        receiver = subprocess.Popen(["node", str(folder / "receiver.mjs"), "0"], stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
        self.addCleanup(receiver.stdout.close)
        self.addCleanup(receiver.wait)
        self.addCleanup(receiver.kill)
        port = receiver.stdout.readline().split()[-1]
        text = (folder / "headgate.toml").read_text()
        check = headgate("check", "-c", folder / "headgate.toml", env=env)
        self.assertEqual(check.returncode, 0, check.stderr)
        self.assertIn("webhook orders: filter orders/# to http://127.0.0.1:8700 (signed)", check.stdout)
        gw = Gateway(text, "--set", f"webhook.0.url=http://127.0.0.1:{port}/hooks/orders", "--set", "gateway.log.format=json",
                     *(word for i in range(3) for word in ("--set", f"listener.{i}.bind=127.0.0.1:0")), env=env)
        self.addCleanup(gw.stop)
        gw.start()
        gw.wait_log("webhook.active")
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/orders/17", b'{"item":3}', {"Message-Id": "o17"})[0], 202)
        self.assertEqual(receiver.stdout.readline(), 'orders.17 o17: {"item":3}\n')
        request = http(("127.0.0.1", int(port)), "POST", "/", b"x", {"webhook-id": "a", "webhook-timestamp": str(int(time.time())),
                                                                   "webhook-signature": "v1,AAAA"})
        self.assertEqual(request[0], 401)
