# SPDX-License-Identifier: Apache-2.0
"""Clients as they are, against the configuration as it is shipped, with RabbitMQ's own destinations and topics."""
import json
import pathlib
import subprocess
import tempfile

from harness import Consumer, E2E, Gateway, MosquittoSub, Mqtt, Stomp, eventually, mosquitto_pub, raw
from harness.gateway import SERVES
from harness.wait import LIMIT_S

SHIPPED = (pathlib.Path(__file__).resolve().parents[2] / "config" / "headgate.toml").read_text()


class Shipped(E2E):
    """Starts the gateway as shipped, but for ports, RabbitMQ's address and the log's format."""

    def shipped(self, *more):
        settings = [f'rabbitmq.endpoints=["{self.amqp}"]', "gateway.log.format=json", *more]
        settings += [f"listener.{i}.bind=127.0.0.1:0" for i in range(len(SERVES))]
        gw = Gateway(SHIPPED, *(arg for s in settings for arg in ("--set", s)))
        self.addCleanup(gw.stop)
        return gw.start()

    def mqtt(self, *args, **options):
        return self.open(Mqtt(self.gw.addresses["mqtt"], *args, **options))

    def stomp(self, **options):
        return self.open(Stomp(self.gw.addresses["stomp"], **options))

    def pub(self, topic, body, *options, **more):
        return mosquitto_pub(self.gw.addresses["mqtt"], topic, body, *options, **more)

    def sub(self, *topics, **options):
        return self.open(MosquittoSub(self.gw.addresses["mqtt"], *topics, **options))

    def setUp(self):
        self.gw = self.shipped()


class RabbitMqDestinations(Shipped):
    def take(self, client):
        """Destination, subscription and body of the next message."""
        frame = client.messages.take()
        return frame.headers["destination"], frame.headers["subscription"], frame.body

    def test_topic_with_both_wildcards(self):
        c = self.stomp()
        c.subscribe("/topic/a.*.c", "star")
        c.subscribe("/topic/a.#", "hash")
        c.subscribe("/topic/a.b.c", "exact")
        c.send("/topic/a.b.c", b"1")
        self.assertEqual({self.take(c) for _ in range(3)}, {("/topic/a.b.c", s, b"1") for s in ("star", "hash", "exact")})
        c.send("/topic/a", b"2")
        c.send("/topic/a.b.c.d", b"3")
        c.send("/topic/b.x.c", b"nobody's")
        c.send("/topic/a.*.c", b"4")  # sent to, a star is a star
        self.assertEqual(self.take(c), ("/topic/a", "hash", b"2"))
        self.assertEqual(self.take(c), ("/topic/a.b.c.d", "hash", b"3"))
        self.assertEqual({self.take(c) for _ in range(2)}, {("/topic/a.*.c", s, b"4") for s in ("star", "hash")})

    def test_exchange_names_any_exchange(self):
        c = self.stomp()
        other = self.open(Consumer(self.amqp))
        for destination in ("/exchange/amq.topic/k.1", "/exchange/amq.direct/k.1", "/exchange/amq.fanout/k.1",
                            "/exchange/amq.fanout", "/exchange/amq.headers/k.1", "/exchange/chat/chat.lobby"):
            with self.subTest(destination):
                _, _, exchange, *key = destination.split("/")
                other.bind(exchange, "".join(key))
                c.subscribe(destination, destination)
                c.send(destination, b"by stomp.py")
                method, _, _ = other.take()
                self.assertEqual((method.exchange, method.routing_key), (exchange, "".join(key)))
                other.publish(exchange, "".join(key), b"by pika")
                shown = destination.replace("/exchange/amq.topic/", "/topic/")
                for body in (b"by stomp.py", b"by pika"):
                    self.assertEqual(self.take(c), (shown, destination, body))
                c.unsubscribe(destination)

    def test_a_direct_exchange_delivers_only_its_key(self):
        c = self.stomp()
        c.subscribe("/exchange/amq.direct/mine")
        c.send("/exchange/amq.direct/mine.too", b"no")
        c.send("/exchange/amq.direct/mine", b"yes")
        self.assertEqual(c.messages.take().body, b"yes")

    def test_an_exchange_that_is_not_there_is_an_error(self):
        for act in (lambda c: c.connection.subscribe("/exchange/absent/k", "0"),
                    lambda c: c.connection.send("/exchange/absent/k", "x", headers={"receipt": "r"})):
            c = self.stomp()
            act(c)
            error = c.errors.take()
            self.assertIn(b"absent", error.body)
            c.ends.take()

    def test_a_message_for_a_queue_that_was_deleted_since_is_not_confirmed(self):
        c = self.stomp()
        c.send("/queue/short.lived", b"kept")
        self.open(Consumer(self.amqp)).channel.queue_delete("short.lived")
        c.connection.send("/queue/short.lived", "lost", headers={"receipt": "r"})
        self.assertEqual(c.errors.take().headers["receipt-id"], "r")

    def test_a_queue_is_declared_durable_and_shared_by_its_subscribers(self):
        sender = self.stomp()
        for destination in ("/queue/jobs", "bare.jobs"):
            name = destination.removeprefix("/queue/")
            for i in range(4):
                sender.send(destination, str(i).encode())  # waits for its subscribers
            admin = self.open(Consumer(self.amqp))
            declared = admin.channel.queue_declare(name, durable=True)  # RabbitMQ would refuse another kind of queue
            self.assertEqual(declared.method.message_count, 4)
            one, two = self.stomp(), self.stomp()
            one.subscribe(destination)
            got = [self.take(one) for _ in range(4)]
            self.assertEqual(got, [("/queue/" + name, "0", str(i).encode()) for i in range(4)])
            two.subscribe(destination)
            for i in range(10):
                sender.send(destination, str(i).encode())
            eventually(lambda: len(one.messages.all()) + len(two.messages.all()) == 10)
            bodies = [[f.body for f in c.messages.all()] for c in (one, two)]
            self.assertEqual(sorted(bodies[0] + bodies[1]), [str(i).encode() for i in range(10)])
            self.assertEqual([len(b) for b in bodies], [5, 5])

    def test_what_a_subscriber_leaves_in_a_queue_is_the_next_ones(self):
        one, two, sender = self.stomp(), self.stomp(), self.stomp()
        one.subscribe("/queue/left")
        sender.send("/queue/left", b"1")
        one.messages.take()
        one.unsubscribe()
        sender.send("/queue/left", b"2")
        two.subscribe("/queue/left")
        self.assertEqual(two.messages.take().body, b"2")
        self.assertEqual(one.messages.all(), [])

    def test_amq_queue_consumes_what_is_there_and_refuses_what_is_not(self):
        admin = self.open(Consumer(self.amqp))
        admin.channel.queue_declare("made.by.others", auto_delete=True)
        c = self.stomp()
        c.subscribe("/amq/queue/made.by.others")
        c.send("/amq/queue/made.by.others", b"x")
        self.assertEqual(self.take(c), ("/queue/made.by.others", "0", b"x"))
        c.connection.subscribe("/amq/queue/absent", "7")
        error = c.errors.take()
        self.assertEqual(error.headers["subscription"], "7")
        self.assertIn(b"absent", error.body)
        c.ends.take()

    def test_a_slash_inside_a_name_is_written_as_an_escape(self):
        c = self.stomp()
        c.subscribe("/topic/a%2Fb")
        self.open(Consumer(self.amqp)).publish("amq.topic", "a/b", b"x")
        self.assertEqual(self.take(c), ("/topic/a%2Fb", "0", b"x"))

    def test_every_version_of_the_protocol(self):
        for version in ("1.0", "1.1", "1.2"):
            with self.subTest(version):
                c = self.stomp(version=version)
                c.subscribe("/topic/version")
                c.send("/topic/version", b"x", **{"content-encoding": "a:b"})
                frame = c.messages.take()
                self.assertEqual((frame.body, frame.headers["content-encoding"]), (b"x", "a:b"))
                c.unsubscribe()

    def test_disconnect_is_receipted_before_the_end(self):
        c = self.stomp()
        c.connection.disconnect(receipt="bye")
        self.assertEqual(c.receipts.take(), "bye")
        c.ends.take()

    def test_mqtt_and_stomp_meet_on_the_default_topic_exchange(self):
        c, m = self.stomp(), self.mqtt()
        c.subscribe("/topic/house.*.temp")
        m.subscribe("house/+/temp")
        self.pub("house/kitchen/temp", b"by mosquitto")
        c.send("/topic/house.hall.temp", b"by stomp.py")
        self.assertEqual([self.take(c) for _ in range(2)], [("/topic/house.kitchen.temp", "0", b"by mosquitto"),
                                                            ("/topic/house.hall.temp", "0", b"by stomp.py")])
        self.assertEqual([(t.topic, t.payload) for t in m.messages.take_n(2)], [("house/kitchen/temp", b"by mosquitto"),
                                                                               ("house/hall/temp", b"by stomp.py")])


class MqttClients(Shipped):
    def test_both_wildcards_and_what_they_do_not_match(self):
        m, last = self.mqtt(), self.sub("#")
        self.assertEqual(m.subscribe("w/+/x", "w/deep/#", "+/one"), [1, 1, 1])
        sent = ["w/a/x", "w/a/b/x", "w//x", "w/deep", "w/deep/1/2", "other/one", "/one", "other/two", "end/one"]
        for topic in sent:
            self.pub(topic, topic.encode())
        self.assertEqual([last.messages.take()[0] for _ in sent], sent)
        self.assertEqual([x.topic for x in m.messages.take_n(7)],
                         ["w/a/x", "w//x", "w/deep", "w/deep/1/2", "other/one", "/one", "end/one"])

    def test_wildcards_do_not_see_topics_with_a_dollar(self):
        m, named = self.mqtt(), self.mqtt()
        m.subscribe("#", "+/news")
        named.subscribe("$house/#")
        m.publish("$house/news", b"hidden")
        m.publish("open/news", b"seen")
        self.assertEqual(m.messages.take().payload, b"seen")
        self.assertEqual(named.messages.take().topic, "$house/news")

    def test_a_filter_past_the_limits_is_refused_alone(self):
        m = self.mqtt()
        self.assertEqual(m.subscribe("/".join(["level"] * 65), "fine"), [128, 1])
        m.publish("fine", b"x")
        self.assertEqual(m.messages.take().payload, b"x")

    def test_qos_is_the_lower_of_publish_and_subscription(self):
        zero, one, two = (self.sub("qos/t", qos=q) for q in (0, 1, 2))
        for qos in (0, 1, 2):
            self.pub("qos/t", str(qos).encode(), qos=qos)
        for client, most in ((zero, 0), (one, 1), (two, 2)):
            self.assertEqual(sorted((m[2], m[1]) for m in client.messages.take_n(3)),
                             [(str(q).encode(), min(q, most)) for q in (0, 1, 2)])

    def test_a_retained_message_is_flagged_for_new_subscribers_only(self):
        m = self.mqtt()
        m.subscribe("retained")
        m.publish("retained", b"by paho", retain=True)
        self.pub("retained", b"by mosquitto", "-r")
        self.assertEqual([(x.payload, x.retain) for x in m.messages.take_n(2)], [(b"by paho", 0), (b"by mosquitto", 0)])
        late = self.mqtt()
        late.subscribe("retained")
        self.assertEqual([(x.payload, x.retain) for x in late.messages.take_n(1)], [(b"by mosquitto", 1)])
        self.pub("retained", None, "-r")  # the next test has the same log

    def test_a_will_is_published_when_a_client_dies_and_not_when_it_leaves(self):
        watcher = self.mqtt()
        watcher.subscribe("will/#")
        left = self.mqtt(will=("will/left", b"wrong"))
        left.close()
        dead = self.mqtt(will=("will/dead", b"\x00gone\xff", 1))
        dead.drop()
        killed = MosquittoSub(self.gw.addresses["mqtt"], "x",
                              options=["--will-topic", "will/killed", "--will-payload", "k", "--will-qos", "1"])
        killed.process.kill()
        killed.close()
        connect = b"\x10\x1e\x00\x04MQTT\x04\x06\x00\x3c\x00\x06broken\x00\x06will/b\x00\x02xx"
        broken = raw(self.gw.addresses["mqtt"], connect)
        self.assertEqual(broken.read_n(4), b"\x20\x02\x00\x00")
        broken.send(b"\xf0\x00")  # not a packet
        broken.read_to_end()
        broken.close()
        got = watcher.messages.take_n(3)
        self.assertEqual({(m.topic, m.payload) for m in got},
                         {("will/dead", b"\x00gone\xff"), ("will/killed", b"k"), ("will/b", b"xx")})
        watcher.publish("will/end", b"")
        self.assertEqual(watcher.messages.take().topic, "will/end")

    def test_a_second_client_with_the_same_id_takes_over(self):
        watcher = self.mqtt()
        watcher.subscribe("will/#")
        first = self.mqtt("same", will=("will/first", b"taken over"))
        first.subscribe("t")
        second = self.mqtt("same")
        self.assertNotEqual(first.ends.take(), 0)
        self.assertEqual(watcher.messages.take().payload, b"taken over")
        second.subscribe("t")
        second.publish("t", b"x")
        self.assertEqual(second.messages.take().payload, b"x")
        self.assertEqual(len([c for c in self.gw.admin("/api/connections")[1] if c["client_id"] == "same"]), 1)

    def test_a_clean_session_ends_with_its_connection_and_another_does_not(self):
        for clean, expected in ((True, ["sessions/end"]), (False, ["sessions/t", "sessions/end"])):
            with self.subTest(clean=clean):
                first = self.mqtt("again", clean=clean)
                self.assertEqual(first.connack, 0)
                first.subscribe("sessions/t")
                first.close()
                second = self.mqtt("again", clean=clean)
                other = self.mqtt()
                other.subscribe("sessions/t")
                other.publish("sessions/t", b"x")
                other.messages.take()
                second.subscribe("sessions/end")
                second.publish("sessions/end", b"")
                self.assertEqual([m.topic for m in second.messages.take_n(len(expected))], expected)
                second.unsubscribe("sessions/t", "sessions/end")

    def test_unsubscribed_means_no_more_of_it(self):
        m = self.mqtt()
        m.subscribe("u/1", "u/+")
        m.publish("u/1", b"both")
        m.unsubscribe("u/+")
        m.publish("u/2", b"no")
        m.publish("u/1", b"one is left")
        m.unsubscribe("u/1")
        m.publish("u/1", b"no")
        m.subscribe("u/end")
        m.publish("u/end", b"end")
        self.assertEqual([x.payload for x in m.messages.take_n(3)], [b"both", b"one is left", b"end"])

    def test_overlapping_filters_bring_a_message_once(self):
        m = self.mqtt()
        m.client.subscribe([("o/a", 0), ("o/+", 1), ("o/#", 0), ("#", 0)])
        m.answers.take(lambda a: a[0] == "suback")
        for i in range(3):
            self.pub("o/a", str(i).encode())
        self.pub("end", b"end")
        self.assertEqual([(x.payload, x.qos) for x in m.messages.take_n(4)], [(b"0", 1), (b"1", 1), (b"2", 1), (b"end", 0)])
        self.assertEqual(m.messages.all(), [])

    def test_mqtt_over_a_websocket(self):
        for path in ("/mqtt", "/ws"):
            with self.subTest(path):
                web = self.open(Mqtt(self.gw.addresses["web"], path=path))
                web.subscribe("web/#")
                body = bytes(range(256)) * 300
                web.publish("web/t", body)
                self.assertEqual(web.messages.take().payload, body)
                self.pub("web/t", b"over TCP")
                self.assertEqual(web.messages.take().payload, b"over TCP")

    def test_every_version_of_the_protocol_that_is_spoken(self):
        m = self.mqtt()
        m.subscribe("versions")
        for version in ("mqttv31", "mqttv311", "mqttv5"):
            self.pub("versions", version.encode(), "-V", version, "-i", "v")
            self.assertEqual(m.messages.take().payload, version.encode())

    def test_mosquittos_clients_with_their_usual_options(self):
        s = self.sub("lines/+", options=["-u", "guest", "-P", "guest", "-i", "sub-1", "-k", "10"])
        done = subprocess.run(["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.gw.port("mqtt")), "-t", "lines/a", "-l",
                               "-q", "1", "-u", "guest", "-P", "guest"],
                              input=b"one\ntwo\nthree\n", check=False, timeout=LIMIT_S)
        self.assertEqual(done.returncode, 0)
        self.assertEqual([m[2] for m in s.messages.take_n(3)], [b"one", b"two", b"three"])
        self.pub("lines/empty", None)
        self.assertEqual(s.messages.take(), ("lines/empty", 1, b""))


class ShippedRules(Shipped):
    def test_the_example_rules_lead_where_they_say(self):
        c = self.open(Consumer(self.amqp))
        c.bind("telemetry", "sensor.#")
        self.pub("Sensor/Temperature/Room1", b"21.5", "-i", "sensor-7", qos=0)
        method, properties, body = c.take()
        self.assertEqual((method.routing_key, body, properties.delivery_mode, properties.headers),
                         ("sensor.Temperature.Room1", b"21.5", 2, {"device": "sensor-7", "via": "mqtt"}))
        done = subprocess.run(["curl", "-sS", "-d", '{"item":3}', f"http://127.0.0.1:{self.gw.port('web')}/orders/17"],
                              capture_output=True, check=True, timeout=LIMIT_S)
        answer = json.loads(done.stdout)
        self.assertEqual((answer["exchange"], answer["key"]), ("orders", "order.17.created"))
        _, properties, body = c.take(queue="orders.new")
        self.assertEqual((body, properties.message_id), (b'{"item":3}', answer["id"]))


class Curl(Shipped):
    def curl(self, *args, body=None):
        """What curl printed: the answers' bodies, or what --write-out asks for."""
        done = subprocess.run(["curl", "-sS", *args], input=body, capture_output=True, check=True, timeout=LIMIT_S)
        return done.stdout.decode()

    def test_every_way_to_send_a_body_arrives(self):
        m = self.mqtt()
        m.subscribe("curl")
        url = f"http://127.0.0.1:{self.gw.port('web')}/v1/topics/curl"
        body = bytes(range(256)) * 4096  # over what curl sends without Expect: 100-continue
        status = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"]
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            data = ["--data-binary", f"@{file.name}"]
            for options in (data, ["-X", "POST", "-T", file.name], ["-X", "POST", "-T", "-"], ["-0", *data],
                            ["-H", "Transfer-Encoding: chunked", *data], ["-H", "Expect: 100-continue", *data]):
                with self.subTest(options):
                    self.assertEqual(self.curl(*status, *options, url, body=body), "202 1\n")
                    self.assertTrue(m.messages.take().payload == body)
        self.assertEqual(self.curl(*status, "-d", "x", url, "-o", "/dev/null", url), "202 1\n202 0\n")
        self.assertEqual([x.payload for x in m.messages.take_n(2)], [b"x", b"x"])

    def test_what_is_wrong_is_told_as_a_problem(self):
        web = f"http://127.0.0.1:{self.gw.port('web')}/v1"
        for path, status, *args in (("/topics/chat/%2B", 400), ("/topics/a/%23", 400), ("/nothing", 404),
                                    ("/topics/nobody?mandatory=true", 404), ("/topics/a", 405, "-X", "DELETE"),
                                    ("/topics/" + "a" * 9000, 414), ("/topics/a", 400, "-H", "Amqp-Priority: high")):
            with self.subTest(path[:99], args=args):
                answer = self.curl("-d", "x", "-w", "\n%{http_code} %{content_type}", *args, web + path).rsplit("\n", 1)
                self.assertEqual(answer[1], f"{status} application/problem+json")
                self.assertEqual(json.loads(answer[0])["status"], status)


class SignsOfLife(Shipped):
    """Everything here takes seconds by nature, so it happens at once."""

    def setUp(self):
        self.gw = self.shipped("stomp.heartbeat=2s")

    def test_clients_with_nothing_to_say_stay_and_silent_ones_go(self):
        pings = []
        mosquitto = self.sub("idle", options=["-k", "5"])  # the least it takes
        paho = self.mqtt(keepalive=4)  # it looks once a second, and six seconds of silence are too many
        paho.client.on_log = lambda c, u, level, text: pings.append(text)
        beats = []
        stomp = self.stomp(heartbeats=(2000, 2000))
        stomp.on_heartbeat = lambda: beats.append(1)
        silent_stomp = raw(self.gw.addresses["stomp"], b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:1000,0\n\n\x00")
        silent_mqtt = raw(self.gw.addresses["mqtt"], b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x01\x00\x01a")
        watcher = self.mqtt()
        watcher.subscribe("will/#")
        with silent_mqtt, silent_stomp:
            self.assertEqual(silent_mqtt.read_to_end(), b"\x20\x02\x00\x00")
            self.assertIn(b"\nheart-beat:2000,2000\n", silent_stomp.read_until(b"\x00"))
            self.assertIn(b"heart-beat", silent_stomp.read_to_end())
        eventually(lambda: any("PINGRESP" in text for text in pings))
        eventually(lambda: len(beats) >= 2)
        eventually(lambda: any(b"received PINGRESP" in line for line in mosquitto.output))
        watcher.publish("idle", b"still there")
        self.assertEqual(mosquitto.messages.take()[2], b"still there")
        self.assertEqual((paho.ends.all(), stomp.ends.all()), ([], []))
