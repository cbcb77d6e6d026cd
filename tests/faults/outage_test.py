# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ takes nothing for a while (connection.blocked), or is gone for a while."""
import json

from harness import Consumer, E2E, Mqtt, Proxy, Stomp, eventually, http, raw

N = 60
BRIEF = """
[[exchange]]
name = "brief"
type = "topic"
durable = false
[[rule]]
name = "brief"
topic = "brief/{x}"
exchange = "brief"
key = "{x}"
"""
HTTP = '[http]\npublish_timeout = "1s"\n'


def post(gw, address, body=b"x"):
    return http(gw.addresses["web"], "POST", "/v1/topics/" + address, body)


class Outage(E2E):
    def assert_unavailable(self, answer):
        status, fields, body = answer
        self.assertEqual(status, 503, body)
        self.assertGreater(int(fields["retry-after"]), 0)
        return json.loads(body)["detail"]

    def send_all(self, mqtt, topic, n=N):
        return [mqtt.send(topic, f"{i}".encode()) for i in range(n)]


class Blocked(Outage):
    def block(self):
        self.addCleanup(self.unblock)
        self.broker.ctl("set_vm_memory_high_watermark", "0.0000001")

    def unblock(self):
        self.broker.ctl("set_vm_memory_high_watermark", "0.4")

    def test_publishers_are_held_and_consumers_go_on(self):
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "blocked.#", queue="blocked")
        consumer.channel.queue_declare("stock", durable=True)
        for i in range(N):
            consumer.publish("", "stock", f"{i}".encode())
        gw = self.gateway(HTTP, workers=1, rabbitmq=f"confirm_window = {N // 2}")
        subscriber = self.open(Mqtt(gw.addresses["mqtt"], keepalive=1))
        subscriber.subscribe("blocked/#")
        stomp = self.open(Stomp(gw.addresses["stomp"], heartbeats=(500, 500)))
        pinger = self.open(raw(gw.addresses["mqtt"], b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02me"))
        self.assertEqual(pinger.read_n(4), b"\x20\x02\x00\x00")
        first, second = (self.open(Mqtt(gw.addresses["mqtt"])) for _ in range(2))
        self.block()
        # The first publish is what makes RabbitMQ say so, and goes unanswered.
        self.assertIn("outcome unknown", self.assert_unavailable(post(gw, "blocked/http")))
        gw.wait_log("rabbitmq.blocked")
        self.assertIn("cannot be reached", self.assert_unavailable(post(gw, "blocked/never")))
        sent = {c: self.send_all(c, f"blocked/{name}") for c, name in ((first, "first"), (second, "second"))}
        eventually(lambda: gw.metric("headgate_window_messages") >= N // 2 and gw.metric("headgate_held_total", protocol="mqtt") > 0)
        stomp.connection.send("/blocked/stomp", b"by stomp", headers={"receipt": "later"})
        self.assert_unavailable(post(gw, "blocked/never"))  # no room, even to wait
        # Who only consumes goes on, and may begin to.
        taker = self.open(Stomp(gw.addresses["stomp"]))
        taker.subscribe("/amq/queue/stock")
        self.assertEqual([m.body for m in taker.messages.take_n(N)], [f"{i}".encode() for i in range(N)])
        self.assertEqual(self.open(Mqtt(gw.addresses["mqtt"])).subscribe("blocked/more"), [1])
        pinger.send(b"\xc0\x00")
        self.assertEqual(pinger.read_n(2), b"\xd0\x00")
        for client in (first, second):
            self.assertFalse([a for a in client.answers.all() if a[0] == "puback"])
        self.assertEqual(stomp.receipts.all(), [])
        self.unblock()
        for client, mids in sent.items():
            for mid in mids:
                client.acked(mid)
        stomp.receipts.take(lambda r: r == "later")
        self.assertEqual(post(gw, "blocked/http", b"after")[0], 202)
        got = [consumer.take() for _ in range(2 * N + 3)]
        for name in ("first", "second"):
            self.assertEqual([b for m, _, b in got if m.routing_key == f"blocked.{name}"], [f"{i}".encode() for i in range(N)])
        self.assertEqual([b for m, _, b in got if m.routing_key == "blocked.http"], [b"x", b"after"])
        self.assertEqual([b for m, _, b in got if m.routing_key == "blocked.stomp"], [b"by stomp"])
        self.assertEqual(len(subscriber.messages.take_n(2 * N + 3)), 2 * N + 3)
        for client in (first, second, subscriber, stomp, taker):
            self.assertEqual(client.ends.all(), [])
        self.assertEqual(gw.metric("headgate_upstream_disconnects_total"), 0)


class Restart(Outage):
    def test_sessions_outlive_a_restart_of_rabbitmq_and_nothing_acknowledged_is_lost(self):
        self.restart(kill=False)

    def test_sessions_outlive_a_crash_of_rabbitmq_and_nothing_acknowledged_is_lost(self):
        self.restart(kill=True)

    def restart(self, kill):
        setup = Consumer(self.amqp)
        for queue in ("kept", "work"):
            setup.channel.queue_declare(queue, durable=True)
        setup.channel.queue_bind("kept", "amq.topic", "kept.#")
        setup.close()
        # RabbitMQ 3.10 does not get a stream ready again that it was given a moment before it was killed.
        gw = self.gateway(HTTP + BRIEF + ('[state]\nlog = "off"\n' if kill else ""))
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        mqtt.subscribe("live/#")
        briefs = [self.open(Mqtt(gw.addresses["mqtt"])) for _ in range(4)]  # on both workers
        for client in briefs:
            client.subscribe("brief/#")
            _, mid = client.client.subscribe([(f"apart/{i}", 1) for i in range(N)])
            client.answers.take(lambda a, mid=mid: a[:2] == ("suback", mid))
        stomp = self.open(Stomp(gw.addresses["stomp"], heartbeats=(500, 500)))
        stomp.subscribe("/live/*", "live")
        stomp.subscribe("/amq/queue/work", "work")
        sender = self.open(Mqtt(gw.addresses["mqtt"]))
        self.assertEqual(post(gw, "live/a", b"before")[0], 202)
        self.assertEqual(mqtt.messages.take().payload, b"before")
        self.assertEqual(stomp.messages.take().body, b"before")
        early = self.send_all(sender, "kept/a")
        sender.acked(early[0])
        try:
            self.broker.halt(kill)
            gw.wait_log("rabbitmq.lost")
            late = self.send_all(sender, "kept/b") + self.send_all(sender, "brief/a")
            late += [sender.send(f"apart/{i}", b"held") for i in range(N)]
            self.assert_unavailable(post(gw, "kept/never"))
            eventually(lambda: gw.admin("/readyz")[0] == 503)
            self.assertEqual(gw.admin("/healthz")[0], 200)
            newcomer = self.open(Mqtt(gw.addresses["mqtt"]))
            self.assertEqual(newcomer.connack, 0)
            _, mid = newcomer.client.subscribe([("live/#", 1)])
            stomp.connection.send("/kept/c", b"by stomp", headers={"receipt": "later"})
        finally:
            self.broker.boot()
        for mid_sent in early[1:] + late:
            sender.acked(mid_sent)
        stomp.receipts.take(lambda r: r == "later")
        self.assertEqual(newcomer.answers.take(lambda a: a[:2] == ("suback", mid))[2], (1,))
        eventually(lambda: gw.admin("/readyz")[0] == 200)

        self.assertEqual(post(gw, "live/b", b"after")[0], 202)
        for client in (mqtt, newcomer):
            client.messages.take(lambda m: m.payload == b"after")
            # A RabbitMQ that crashed may have forgotten that it got an acknowledgement, and with that to say "redelivered".
            again = [m.payload for m in client.messages.all() if not m.dup]
            self.assertLessEqual(set(again), {b"before"} if kill else set())
        self.assertEqual(stomp.messages.take().body, b"after")
        # What waited for RabbitMQ waited for the bindings of all workers as well.
        for client in briefs:
            for i in range(N):
                client.messages.take(lambda m, topic=f"apart/{i}": m.topic == topic)
        # An exchange that is gone with RabbitMQ's memory is declared again, before it is bound to or published to.
        self.assertEqual(post(gw, "brief/b", b"after")[0], 202)
        for client in briefs:
            client.messages.take(lambda m: m.payload == b"after")
        consumer = self.open(Consumer(self.amqp))
        consumer.publish("", "work", b"of the queue")
        self.assertEqual(stomp.messages.take().body, b"of the queue")
        consumer.queue = "kept"
        bodies = {"kept.a": [], "kept.b": [], "kept.c": []}
        while len(bodies["kept.a"]) < N or len(bodies["kept.b"]) < N or not bodies["kept.c"]:
            method, _, body = consumer.take()
            if body not in bodies[method.routing_key]:
                bodies[method.routing_key].append(body)
        for key in ("kept.a", "kept.b"):
            self.assertEqual(bodies[key], [f"{i}".encode() for i in range(N)])
        for client in (mqtt, sender, newcomer, stomp):
            self.assertEqual(client.ends.all(), [])


class Unreachable(Outage):
    def test_past_its_time_limit_each_publisher_is_told(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(HTTP, workers=1, amqp=self.amqp_by(proxy),
                              rabbitmq='confirm_window = 4\npublish_timeout = "2s"\nunavailable_timeout = "1s"')
            quiet = self.open(Mqtt(gw.addresses["mqtt"]))
            quiet.subscribe("away/#")
            waiting, held = (self.open(Mqtt(gw.addresses["mqtt"])) for _ in range(2))
            stomp_waiting, stomp_held = (self.open(Stomp(gw.addresses["stomp"])) for _ in range(2))
            proxy.refuse()
            proxy.cut()
            gw.wait_log("rabbitmq.lost")
            self.send_all(waiting, "away/a", 3)
            stomp_waiting.connection.send("/away/a", b"x", headers={"receipt": "told"})
            eventually(lambda: gw.metric("headgate_window_messages") == 4)
            held.send("away/a", b"x")
            stomp_held.connection.send("/away/a", b"x", headers={"receipt": "told"})
            self.assert_unavailable(post(gw, "away/a"))
            for client in (waiting, held):
                client.ends.take(lambda rc: rc != 0)
                self.assertFalse([a for a in client.answers.all() if a[0] == "puback"])
                client.close()
            for client in (stomp_waiting, stomp_held):
                self.assertEqual(client.errors.take().headers["receipt-id"], "told")
                client.ends.take()
            self.assertEqual(quiet.ends.all(), [])
            proxy.accept()
            eventually(lambda: post(gw, "away/b", b"back")[0] == 202)
            self.assertEqual(quiet.messages.take().payload, b"back")
            gw.stop()

    def test_a_link_that_rabbitmq_still_believes_in_keeps_no_deliveries(self):
        consumer = self.open(Consumer(self.amqp))
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(workers=1, amqp=self.amqp_by(proxy))
            mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
            mqtt.subscribe("orphan/#", qos=0)
            stomp = self.open(Stomp(gw.addresses["stomp"]))
            stomp.subscribe("/exchange/amq.headers")  # a queue of its own
            for what in ("feed", "consume 0"):
                gw.wait_log("rabbitmq.connected", link=f"headgate e2e worker 0 {what}")
            proxy.orphan()
            for what in ("feed", "consume 0"):
                gw.wait_log("rabbitmq.connected", link=f"headgate e2e worker 0 {what}")
            consumers = ("list_queues", "-p", self.vhost, "name", "consumers")
            eventually(lambda: self.broker.ctl(*consumers).count("\t2") == 2)
            for i in range(N):
                consumer.publish("amq.topic", "orphan.a", f"{i}".encode())
                consumer.publish("amq.headers", "", f"{i}".encode())
            self.assertEqual([m.payload for m in mqtt.messages.take_n(N)], [f"{i}".encode() for i in range(N)])
            self.assertEqual([m.body for m in stomp.messages.take_n(N)], [f"{i}".encode() for i in range(N)])
            gw.stop()

    def test_a_feed_queue_that_somebody_deletes_is_made_anew(self):
        consumer = self.open(Consumer(self.amqp))
        gw = self.gateway(workers=1)
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        mqtt.subscribe("deleted/#")
        for line in self.broker.ctl("list_queues", "-p", self.vhost, "name").splitlines():
            if line.startswith("headgate.feed."):
                consumer.channel.queue_delete(line)
        gw.wait_log("feed.queue_deleted")

        def arrives():
            consumer.publish("amq.topic", "deleted.a", b"again")
            return mqtt.messages.all()
        eventually(arrives)
