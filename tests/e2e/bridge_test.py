# SPDX-License-Identifier: Apache-2.0
"""Bridges: a site's mosquitto on one side, RabbitMQ on the other, and what goes wrong between them."""
import shutil
import subprocess
import threading
import unittest

import paho.mqtt.client as paho

from harness import Consumer, E2E, Gateway, Mqtt, Mqtt5, Proxy, eventually, http, mosquitto_pub
from harness.certificates import Authority
from harness.gateway import ROOT
from harness.site import Site
from harness.wait import Mailbox


def bridge(site, more="", name=None, url=None):
    """Each site has its own bridge, and so a queue of its own in RabbitMQ."""
    name = name or f"plant{site.address[1]}"
    return f'\n[[bridge]]\nname = "{name}"\naddress = "{url or site.url}"\n{more}\n'


def routes(qos, way="both"):
    text = ""
    if way != "out":
        text += f'in = [{{ filter = "data/#", qos = {qos}, remote_prefix = "site/", local_prefix = "plant1/" }}]\n'
    if way != "in":
        text += f'out = [{{ filter = "cmd/#", qos = {qos}, local_prefix = "plant1/", remote_prefix = "from/" }}]\n'
    return text


class Client:
    """paho with a session that is kept and a connection that is made again; received: bodies in order; sent() waits for all."""

    def __init__(self, address, client_id, topic=None, qos=2):
        self.received = Mailbox("message at the site")
        self.ready = threading.Event()
        self.client = paho.Client(client_id=client_id, clean_session=False, protocol=paho.MQTTv311)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(50)
        self.client.max_queued_messages_set(0)
        self.client.on_message = lambda c, u, m: self.received.put((m.topic, bytes(m.payload), m.qos))
        self.client.on_subscribe = lambda *_: self.ready.set()
        self.client.on_connect = lambda c, *_: c.subscribe(topic, qos) if topic else self.ready.set()
        self.client.connect(*address)
        self.client.loop_start()
        if not self.ready.wait(30):
            raise AssertionError("the client is not ready")

    def send_all(self, topic, n, qos, first=0):
        return [self.client.publish(topic, b"%d" % i, qos) for i in range(first, first + n)]

    @staticmethod
    def wait_all(sent):
        for s in sent:
            s.wait_for_publish(60)
            if not s.is_published():
                raise AssertionError("the broker did not acknowledge a message")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Bridges(E2E):
    def site(self, *lines):
        return self.open(Site(*lines))

    def run_bridge(self, site, more, name=None, **options):
        gw = self.gateway(bridge(site, more, name), **options)
        gw.wait_log("bridge.connected")
        return gw

    def consumer(self, key):
        c = self.open(Consumer(self.amqp))
        c.bind("amq.topic", key)
        return c


class Carrying(Bridges):
    def test_messages_go_both_ways_with_their_prefixes_exchanged(self):
        for version in ("3.1.1", "5"):
            for qos in (0, 1, 2):
                with self.subTest(version=version, qos=qos):
                    name = f"both{qos}v{version[0]}"
                    site = self.site()
                    gw = self.run_bridge(site, f'version = "{version}"\n' + routes(qos), name)
                    consumer = self.consumer("plant1.data.#")
                    at_site = self.open(Mqtt(site.address))
                    at_site.subscribe("from/#", qos=2)
                    here = self.open(Mqtt(gw.addresses["mqtt"]))
                    mosquitto_pub(site.address, "site/data/a", b"up", qos=qos)
                    method, properties, body = consumer.take()
                    self.assertEqual((method.routing_key, body), ("plant1.data.a", b"up"))
                    self.assertEqual(properties.headers["x-headgate-bridge"], name)
                    self.assertEqual(properties.delivery_mode, 2 if qos else 1)
                    here.publish("plant1/cmd/stop", b"down")
                    message = at_site.messages.take()
                    self.assertEqual((message.topic, bytes(message.payload), message.qos), ("from/cmd/stop", b"down", qos))
                    self.assertEqual(gw.metric("headgate_bridge_connected", bridge=name), 1)
                    eventually(lambda: gw.metric("headgate_bridge_messages_in_total", bridge=name) == 1)
                    eventually(lambda: gw.metric("headgate_bridge_messages_out_total", bridge=name) == 1)
                    eventually(lambda: gw.metric("headgate_bridge_window_out", bridge=name) == 0)
                    status = gw.admin("/api/status")[1]["bridges"]
                    self.assertEqual([(b["name"], b["active"], b["connected"]) for b in status], [(name, True, True)])

    def test_properties_of_mqtt_5_are_carried(self):
        site = self.site()
        gw = self.run_bridge(site, 'version = "5"\n' + routes(1))
        consumer = self.consumer("plant1.data.#")
        at_site = self.open(Mqtt5(site.address))
        at_site.subscribe("from/#")
        at_site.publish("site/data/a", b"x", ContentType="text/plain", CorrelationData=b"17", MessageExpiryInterval=60,
                        UserProperty=[("unit", "C"), ("unit", "K")])
        _, properties, _ = consumer.take()
        self.assertEqual((properties.content_type, properties.correlation_id, properties.expiration), ("text/plain", "17", "60000"))
        self.assertIn(properties.headers["unit"], ("C", "K"))
        here = self.open(Mqtt5(gw.addresses["mqtt"]))
        here.publish("plant1/cmd/a", b"y", ContentType="a/b", CorrelationData=b"18", MessageExpiryInterval=60,
                     UserProperty=[("who", "me")])
        about = at_site.messages.take().properties
        self.assertEqual((about.ContentType, about.CorrelationData, about.UserProperty), ("a/b", b"18", [("who", "me")]))
        self.assertIn(about.MessageExpiryInterval, range(55, 61))

    def test_what_any_protocol_publishes_goes_out(self):
        site = self.site()
        gw = self.run_bridge(site, routes(1))
        at_site = self.open(Mqtt(site.address))
        at_site.subscribe("from/#")
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/plant1/cmd/web", b"by http")[0], 202)
        self.assertEqual(bytes(at_site.messages.take().payload), b"by http")
        consumer = self.open(Consumer(self.amqp))
        consumer.publish("amq.topic", "plant1.cmd.amqp", b"by amqp")
        message = at_site.messages.take()
        self.assertEqual((message.topic, bytes(message.payload)), ("from/cmd/amqp", b"by amqp"))

    def test_a_message_does_not_go_round(self):
        for version in ("3.1.1", "5"):
            with self.subTest(version=version):
                name = f"loop{version[0]}"
                site = self.site()
                both = f'version = "{version}"\nin = [{{ filter = "{name}/#" }}]\nout = [{{ filter = "{name}/#" }}]\n'
                gw = self.run_bridge(site, both, name)
                at_site = self.open(Mqtt(site.address))
                at_site.subscribe(f"{name}/#")
                here = self.open(Mqtt(gw.addresses["mqtt"]))
                here.subscribe(f"{name}/#")
                for i in range(5):
                    here.publish(f"{name}/a", b"from here")
                    mosquitto_pub(site.address, f"{name}/a", b"from the site")
                here.publish(f"{name}/b", b"last")
                mosquitto_pub(site.address, f"{name}/b", b"last")
                for client in (here, at_site):
                    got = []
                    while got.count(b"last") < 2:
                        got.append(bytes(client.messages.take().payload))
                    self.assertEqual((got.count(b"from here"), got.count(b"from the site")), (5, 5))
                    client.messages.assert_silent()

    def test_retained_messages_are_retained_on_the_other_side(self):
        site = self.site()
        mosquitto_pub(site.address, "site/data/kept", b"old", "-r")
        gw = self.run_bridge(site, routes(1))
        here = self.open(Mqtt(gw.addresses["mqtt"]))
        here.publish("plant1/cmd/kept", b"new", retain=True)

        def sees(address, topic):
            client = Mqtt(address)
            client.subscribe(topic)
            try:
                message = client.messages.take(limit_s=1)
            finally:
                client.close()
            return (bytes(message.payload), message.retain)

        eventually(lambda: sees(gw.addresses["mqtt"], "plant1/data/kept") == (b"old", 1))
        eventually(lambda: sees(site.address, "from/cmd/kept") == (b"new", 1))


class Losing(Bridges):
    also_on_release = True
    N = 600

    def test_nothing_is_lost_and_qos_2_not_doubled_when_the_site_restarts(self):
        for version in ("3.1.1", "5"):
            for qos in (1, 2):
                with self.subTest(version=version, qos=qos):
                    self.restart_in_the_middle(version, qos)

    def restart_in_the_middle(self, version, qos):
        name = f"restart{qos}v{version[0]}"
        site = self.site()
        gw = self.run_bridge(site, f'version = "{version}"\n' + routes(qos), name)
        consumer = self.consumer("plant1.data.#")
        at_site = self.open(Client(site.address, "watcher", "from/#", qos))
        source = self.open(Client(site.address, "source"))
        here = self.open(Client(gw.addresses["mqtt"], f"here-{name}"))
        up = source.send_all("site/data/a", self.N, qos)
        down = here.send_all("plant1/cmd/a", self.N, qos)
        half = lambda: gw.metric("headgate_bridge_messages_out_total", bridge=name) > self.N / 4
        eventually(half)
        site.restart()
        gw.wait_log("bridge.lost", bridge=name)
        gw.wait_log("bridge.connected", bridge=name)
        Client.wait_all(up)
        Client.wait_all(down)
        self.assert_all([body for _, _, body in self.take_all(consumer.take, qos)], qos)
        self.assert_all([body for _, body, _ in self.take_all(at_site.received.take, qos)], qos)
        eventually(lambda: gw.metric("headgate_bridge_window_in", bridge=name) == 0)
        eventually(lambda: gw.metric("headgate_bridge_window_out", bridge=name) == 0)
        for client in (at_site, source, here, gw):
            (client.stop if client is gw else client.close)()

    def take_all(self, take, qos):
        """Until every number has come at least once."""
        got, seen = [], set()
        while len(seen) < self.N:
            got.append(take())
            seen.add(got[-1][2] if isinstance(got[-1][2], bytes) else got[-1][1])
        return got

    def assert_all(self, bodies, qos):
        want = [b"%d" % i for i in range(self.N)]
        self.assertEqual(sorted(set(bodies), key=int), want)
        if qos == 2:
            self.assertEqual(sorted(bodies, key=int), want)

    def test_what_waits_for_rabbitmq_is_bounded_and_not_lost(self):
        site = self.site()
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        gw = self.gateway(bridge(site, "window = 20\n" + routes(2)), amqp=self.amqp_by(proxy))
        gw.wait_log("bridge.connected")
        consumer = self.consumer("plant1.data.#")
        source = self.open(Client(site.address, "source"))
        proxy.hold("down")  # no confirm comes
        sent = source.send_all("site/data/a", self.N, 2)
        Client.wait_all(sent)
        eventually(lambda: gw.metric("headgate_bridge_window_in") >= 20)
        self.assertLess(gw.metric("headgate_bridge_window_in"), 60)
        proxy.release("down")
        bodies = [consumer.take()[2] for _ in range(self.N)]
        self.assertEqual(bodies, [b"%d" % i for i in range(self.N)])
        eventually(lambda: gw.metric("headgate_bridge_window_in") == 0)

    def test_a_lost_link_to_rabbitmq_doubles_nothing_at_the_site(self):
        site = self.site()
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        gw = self.gateway(bridge(site, routes(2)), amqp=self.amqp_by(proxy))
        gw.wait_log("bridge.connected")
        at_site = self.open(Client(site.address, "watcher", "from/#", 2))
        producer = self.open(Consumer(self.amqp))
        for i in range(self.N):
            producer.publish("amq.topic", "plant1.cmd.a", b"%d" % i)
            if i == self.N // 2:
                eventually(lambda: gw.metric("headgate_bridge_messages_out_total") > 10)
                proxy.cut()
        bodies = [body for _, body, _ in self.take_all(at_site.received.take, 2)]
        self.assertEqual(sorted(bodies, key=int), [b"%d" % i for i in range(self.N)])
        eventually(lambda: gw.metric("headgate_bridge_window_out") == 0)

    def test_a_drained_gateway_leaves_nothing_behind(self):
        site = self.site()
        gw = self.run_bridge(site, routes(2))
        consumer = self.consumer("plant1.data.#")
        source = self.open(Client(site.address, "source"))
        sent = source.send_all("site/data/a", self.N, 2)
        consumer.take()
        gw.stop()
        Client.wait_all(sent)
        self.run_bridge(site, routes(2))
        bodies = [consumer.take()[2] for _ in range(self.N - 1)]
        self.assertEqual(len(set(bodies)), self.N - 1)

    def test_one_gateway_runs_a_bridge_and_another_takes_over(self):
        site = self.site()
        one = self.run_bridge(site, routes(1))
        two = self.gateway(bridge(site, routes(1)), "--set", "gateway.name=two")
        two.wait_log("bridge.standby")
        self.assertEqual(two.metric("headgate_bridge_active"), 0)
        consumer = self.consumer("plant1.data.#")
        at_site = self.open(Client(site.address, "watcher", "from/#", 1))
        one.kill()
        here = self.open(Mqtt(two.addresses["mqtt"]))
        here.publish("plant1/cmd/a", b"kept")
        mosquitto_pub(site.address, "site/data/a", b"kept too")
        two.wait_log("bridge.connected")
        self.assertEqual(at_site.received.take()[1], b"kept")
        self.assertEqual(consumer.take()[2], b"kept too")


class Refusals(Bridges):
    def test_a_site_that_is_not_there_is_asked_again(self):
        site = self.site()
        site.stop()
        gw = self.gateway(bridge(site, routes(1)))
        self.assertEqual(gw.wait_log("bridge.failed")["reason"], "Connection refused")
        here = self.open(Mqtt(gw.addresses["mqtt"]))
        here.publish("plant1/cmd/a", b"later")
        site.start()
        at_site = self.open(Mqtt(site.address))
        at_site.subscribe("from/#")
        self.assertEqual(bytes(at_site.messages.take().payload), b"later")
        self.assertGreaterEqual(gw.metric("headgate_bridge_failures_total"), 1)

    def test_a_refusal_is_named(self):
        secrets = self.open(Site())
        secrets.stop()
        (secrets.path / "passwords").write_text("")
        subprocess.run(["mosquitto_passwd", "-b", str(secrets.path / "passwords"), "headgate", "right"], check=True,
                       capture_output=True)
        (secrets.path / "passwords").chmod(0o644)
        secrets.conf.write_text(secrets.conf.read_text().replace("allow_anonymous true", "allow_anonymous false") +
                                f"password_file {secrets.path}/passwords\n")
        secrets.start()
        for version, reason in (("3.1.1", "Connection Refused: not authorised."), ("5", "Not authorized")):
            with self.subTest(version=version):
                gw = self.gateway(bridge(secrets, f'version = "{version}"\nusername = "headgate"\npassword = "wrong"\n' + routes(1)))
                self.assertEqual(gw.wait_log("bridge.failed")["reason"], reason)
                gw.stop()
        gw = self.gateway(bridge(secrets, 'username = "headgate"\npassword = "${SITE_PASSWORD}"\n' + routes(1)),
                          env={"SITE_PASSWORD": "right"})
        gw.wait_log("bridge.connected")
        self.assertNotIn("right", "\n".join(gw.output).replace("copyright", ""))

    def test_a_will_tells_the_site_of_a_crash(self):
        site = self.site()
        gw = self.run_bridge(site, 'will = { topic = "gone", payload = "headgate", qos = 1 }\n' + routes(1))
        at_site = self.open(Mqtt(site.address))
        at_site.subscribe("gone")
        gw.kill()
        self.assertEqual(bytes(at_site.messages.take().payload), b"headgate")

    @unittest.skipUnless(shutil.which("openssl"), "makes its certificates with openssl")
    def test_tls_is_checked(self):
        site = self.open(Site())
        site.stop()

        authority = self.open(Authority())
        cert, key = authority.make("localhost")
        site.conf.write_text(site.conf.read_text() + f"cafile {authority.ca}\ncertfile {cert}\nkeyfile {key}\n")
        site.start()
        port = site.address[1]
        trusts = f'tls = {{ ca = "{authority.ca}" }}\n'
        gw = self.gateway(bridge(site, trusts + routes(2), url=f"mqtts://localhost:{port}"))
        gw.wait_log("bridge.connected")
        here = self.open(Mqtt(gw.addresses["mqtt"]))
        for i in range(100):
            here.publish("plant1/cmd/a", b"x" * 5000, qos=0)
        eventually(lambda: gw.metric("headgate_bridge_messages_out_total") == 100 and gw.metric("headgate_bridge_window_out") == 0)
        gw.stop()
        for url, tls in ((f"mqtts://127.0.0.1:{port}", trusts), (f"mqtts://localhost:{port}", "")):
            gw = self.gateway(bridge(site, tls + routes(1), url=url))
            self.assertIn("certificate verify failed", gw.wait_log("bridge.failed")["reason"])
            gw.stop()
        lax = f'tls = {{ ca = "{authority.ca}", insecure = true }}\n'
        self.gateway(bridge(site, lax + routes(1), url=f"mqtts://127.0.0.1:{port}")).wait_log("bridge.connected")


class Example(Bridges):
    def test_the_plant_of_the_example_is_reached(self):
        site = self.site()
        example = ROOT / "examples" / "bridge" / "headgate.toml"
        gw = Gateway(example.read_text(), "--set", f"bridge.0.address={site.url}", "--set", "gateway.log.format=json",
                     *(word for i in range(3) for word in ("--set", f"listener.{i}.bind=127.0.0.1:0")),
                     env={"HEADGATE_AMQP_URL": self.amqp})
        self.addCleanup(gw.stop)
        gw.start()
        gw.wait_log("bridge.connected")
        watcher = self.open(Mqtt(gw.addresses["mqtt"]))
        watcher.subscribe("plant1/#")
        at_site = self.open(Mqtt(site.address))
        at_site.subscribe("cmd/#")
        mosquitto_pub(site.address, "data/boiler/temperature", b"71.5", qos=2)
        message = watcher.messages.take()
        self.assertEqual((message.topic, bytes(message.payload)), ("plant1/data/boiler/temperature", b"71.5"))
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/plant1/cmd/boiler", b"off")[0], 202)
        message = at_site.messages.take()
        self.assertEqual((message.topic, bytes(message.payload)), ("cmd/boiler", b"off"))
