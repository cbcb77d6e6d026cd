# SPDX-License-Identifier: Apache-2.0
"""TLS on every listener and towards RabbitMQ."""
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import unittest
from unittest import mock

import stomp

from harness import Consumer, E2E, MosquittoSub, Mqtt, browser, eventually, headgate, http, mosquitto_pub
from harness.certificates import Authority
from harness.wait import LIMIT_S
from private_rabbitmq import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = ("DNS:localhost", "IP:127.0.0.1")


def tls_lines(pair, *more):
    return "tls = { " + ", ".join([f'cert = "{pair[0]}", key = "{pair[1]}"', *more]) + " }\n"


@unittest.skipUnless(shutil.which("openssl"), "makes its certificates with openssl")
class Tls(E2E):
    also_on_release = True

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.authority = Authority()
        cls.pair = cls.authority.make("localhost", *LOCAL)

    @classmethod
    def tearDownClass(cls):
        cls.authority.close()
        super().tearDownClass()

    def secured(self, *more, config="", serves=("web", "mqtt", "stomp"), pair=None, **options):
        """A gateway whose listeners but the admin's speak TLS."""
        return self.gateway(config, **{serve: tls_lines(pair or self.pair, *more) for serve in serves}, **options)

    def connect(self, address, context, name="localhost"):
        with socket.create_connection(address, timeout=LIMIT_S) as plain:
            return self.open(context.wrap_socket(plain, server_hostname=name))

    # ---- Clients

    def test_mqtt_clients_meet(self):
        gw = self.secured()
        sub = self.open(MosquittoSub(("localhost", gw.port("mqtt")), "a/#", options=("--cafile", self.authority.ca)))
        page = self.open(Mqtt(("localhost", gw.port("web")), path="/mqtt", tls=self.authority.client()))
        page.subscribe("a/#")
        mosquitto_pub(("localhost", gw.port("mqtt")), "a/b", b"by mosquitto_pub", "--cafile", self.authority.ca)
        page.publish("a/c", b"over wss")
        self.assertEqual([sub.messages.take()[2] for _ in range(2)], [b"by mosquitto_pub", b"over wss"])
        self.assertEqual([bytes(page.messages.take().payload) for _ in range(2)], [b"by mosquitto_pub", b"over wss"])
        self.assertTrue(all(c["tls"] == (c["listener"] != "admin") for c in gw.admin("/api/connections")[1]))

    def test_mqtt_js_over_wss_and_mqtts(self):
        gw = self.secured()
        for url in (f"mqtts://localhost:{gw.port('mqtt')}", f"wss://localhost:{gw.port('web')}/mqtt"):
            with self.subTest(url=url), mock.patch.dict(os.environ, NODE_EXTRA_CA_CERTS=self.authority.ca):
                name = url.partition(":")[0]
                result = browser.run("mqttjs", url=url, version=5, name=name, topic=f"js/{name}")
                self.assertEqual([m["text"] for m in result["live"]], [f"body {q} ✓" for q in (0, 1, 2)])

    def test_curl_posts_and_stomp_receives(self):
        gw = self.secured()
        got = []
        client = stomp.StompConnection12([("localhost", gw.port("stomp"))])
        client.set_ssl([("localhost", gw.port("stomp"))], ca_certs=self.authority.ca)
        listener = mock.Mock(spec=stomp.ConnectionListener, on_message=lambda frame: got.append(frame.body))
        client.set_listener("", listener)
        client.connect(wait=True)
        self.addCleanup(client.disconnect)
        client.subscribe("/topic/x.y", id="1", headers={"receipt": "subscribed"})
        eventually(lambda: listener.on_receipt.called)
        done = subprocess.run(["curl", "-sS", "--cacert", self.authority.ca, "-d", "hello", "-w", "%{http_code} %{http_version}", "-o",
                               "/dev/null", f"https://localhost:{gw.port('web')}/v1/topics/x/y"],
                              capture_output=True, text=True, timeout=LIMIT_S, check=True)
        self.assertEqual(done.stdout, "202 1.1")
        eventually(lambda: got == ["hello"])

    def test_large_messages_and_a_slow_reader(self):
        gw = self.secured()
        publisher = self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client()))
        reader = self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client()))
        reader.subscribe("big")
        bodies = [os.urandom(300_000 + i) for i in range(20)]
        for mid in [publisher.send("big", body) for body in bodies]:
            publisher.acked(mid)
        self.assertEqual([bytes(m.payload) for m in reader.messages.take_n(len(bodies))], bodies)

    # ---- Handshakes

    def test_only_tls_1_2_and_1_3_with_forward_secrecy(self):
        gw = self.secured()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            s = self.connect(gw.addresses["mqtt"], self.authority.client(version=version))
            self.assertEqual(s.version(), version.name.replace("_", "."))
            self.assertTrue(s.cipher()[0].startswith(("ECDHE-", "TLS_")), s.cipher())
        for options in (("-tls1",), ("-tls1_1",), ("-tls1_2", "-fallback_scsv")):
            self.assertIsNone(self.chosen(gw, *options, "-cipher", "ALL:@SECLEVEL=0"), options)
        self.assertGreaterEqual(gw.metric("headgate_net_tls_failures_total"), 3)

    def s_client(self, gw, *options, data=b""):
        done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % gw.port("mqtt"), "-CAfile", self.authority.ca, *options],
                              input=data, capture_output=True, timeout=LIMIT_S, check=False)
        return (done.stdout + done.stderr).decode(errors="replace")

    def chosen(self, gw, *options):
        """The cipher suite that is agreed on; None: the handshake fails."""
        found = re.search(r"^New, TLSv\S+, Cipher is (\S+)$", self.s_client(gw, *options), re.M)
        return found and found[1]

    def accepted(self, gw, option, *options):
        """All that are accepted: what was chosen is not offered again until nothing is."""
        said = subprocess.run(["openssl", "ciphers", *(("-s", "-tls1_3") if option == "-ciphersuites" else ()), "ALL:COMPLEMENTOFALL:@SECLEVEL=0"],
                              capture_output=True, text=True, check=True).stdout.strip()
        offer = [c for c in said.split(":") if c.startswith("TLS_") == (option == "-ciphersuites")]
        found = []
        while offer:
            weak = "" if option == "-ciphersuites" else ":@SECLEVEL=0"
            cipher = self.chosen(gw, *options, option, ":".join(offer) + weak)
            if cipher is None:
                break
            found.append(cipher)
            offer.remove(cipher)
        return found

    def test_the_cipher_suites_are_those_of_the_documentation(self):
        documented = re.findall(r"`((?:ECDHE-|TLS_)[A-Z0-9_-]+)`", (ROOT / "docs" / "SECURITY.md").read_text())
        rsa = self.authority.make("rsa", *LOCAL, key=("-newkey", "rsa:2048", "-nodes"))
        found = []
        for pair in (self.pair, rsa):
            gw = self.secured(pair=pair, serves=("mqtt",))
            found += self.accepted(gw, "-cipher", "-tls1_2")
        found += self.accepted(gw, "-ciphersuites", "-tls1_3")
        self.assertEqual(sorted(found), sorted(documented))

    def test_no_renegotiation_no_compression_no_early_data(self):
        gw = self.secured()
        said = self.s_client(gw, "-tls1_2", data=b"R\n")
        self.assertIn("Compression: NONE", said)
        self.assertIn("Secure Renegotiation IS supported", said)
        self.assertRegex(said, "RENEGOTIATING\n(.*\n)*.*no renegotiation")
        said = self.s_client(gw, "-tls1_3")
        self.assertIn("Verify return code: 0 (ok)", said)
        self.assertNotRegex(said, "Max Early Data: [1-9]")

    def test_plain_text_is_told_what_it_is(self):
        gw = self.secured()
        with socket.create_connection(gw.addresses["web"], timeout=LIMIT_S) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            while plain.recv(4096):
                pass
        self.assertEqual(gw.wait_log("client.refused")["rule"], "TLS: http request")

    def test_application_protocols(self):
        gw = self.secured()
        for serve, offers, chosen in (("web", ["h2", "http/1.1"], "http/1.1"), ("mqtt", ["mqtt"], "mqtt"), ("web", [], None)):
            context = self.authority.client()
            if offers:
                context.set_alpn_protocols(offers)
            self.assertEqual(self.connect(gw.addresses[serve], context).selected_alpn_protocol(), chosen)
        context = self.authority.client()
        context.set_alpn_protocols(["h2"])
        with self.assertRaises(ssl.SSLError):
            self.connect(gw.addresses["web"], context)

    def test_the_name_asked_for_chooses_the_certificate(self):
        other = self.authority.make("other.example", "DNS:other.example", "DNS:*.more.example")
        gw = self.secured(f'more = [{{ cert = "{other[0]}", key = "{other[1]}" }}]')
        for name, common_name in (("localhost", "localhost"), ("other.example", "other.example"), ("x.more.example", "other.example")):
            certificate = self.connect(gw.addresses["mqtt"], self.authority.client(), name).getpeercert()
            self.assertEqual(dict(pair[0] for pair in certificate["subject"])["commonName"], common_name)
        context = self.authority.client()
        context.check_hostname = False
        certificate = self.connect(gw.addresses["mqtt"], context, "unknown.example").getpeercert()
        self.assertEqual(dict(pair[0] for pair in certificate["subject"])["commonName"], "localhost")

    def test_a_session_is_resumed(self):
        gw = self.secured(workers=2)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = self.authority.client(version=version)
            session = None
            for _ in range(4):  # on whichever worker
                with socket.create_connection(gw.addresses["web"], timeout=LIMIT_S) as plain:
                    s = self.open(context.wrap_socket(plain, server_hostname="localhost", session=session))
                    s.sendall(b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    self.assertTrue(s.recv(8).startswith(b"HTTP/1.1"))  # TLS 1.3: tickets come before it
                    self.assertEqual(s.session_reused, session is not None)
                    session = s.session

    def test_clients_show_a_certificate(self):
        mine = self.authority.make("device-1")
        stranger = self.open(Authority("stranger"))
        theirs = stranger.make("device-1")
        gw = self.secured(f'client_ca = "{self.authority.ca}"')
        for pair, rule in (((), "peer did not return a certificate"), (theirs, "certificate verify failed")):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                s = self.connect(gw.addresses["web"], self.authority.client(*pair))
                s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                if not s.recv(1):
                    raise ConnectionError("closed")
            self.assertIn(rule, gw.wait_log("client.refused")["rule"])
        client = self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client(*mine)))
        client.publish("a", b"x")

    def test_a_certificate_may_be_optional(self):
        gw = self.secured(f'client_ca = "{self.authority.ca}"', "client_optional = true")
        self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client())).publish("a", b"x")

    def test_who_does_not_shake_hands_is_closed(self):
        gw = self.secured(config='[limits]\ntls_handshake_timeout = "200ms"\nmax_tls_handshakes = 3\n', workers=1)
        silent = [self.open(socket.create_connection(gw.addresses["mqtt"], timeout=LIMIT_S)) for _ in range(5)]
        self.assertEqual([s.recv(1) for s in silent], [b""] * 5)
        eventually(lambda: gw.metric("headgate_net_refused_total") == 2)
        eventually(lambda: gw.metric("headgate_net_tls_failures_total") == 3)
        self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client())).publish("a", b"x")

    # ---- Renewal

    def served(self, gw):
        context = self.authority.client()
        context.check_hostname = False
        return self.connect(gw.addresses["mqtt"], context).getpeercert()["serialNumber"]

    def test_sighup_reads_certificates_again(self):
        cert, key = (shutil.copy(file, pathlib.Path(file).with_suffix(f".live{i}")) for i, file in enumerate(self.pair))
        gw = self.secured(pair=(cert, key))
        stays = self.open(Mqtt(("localhost", gw.port("mqtt")), tls=self.authority.client()))
        before = self.served(gw)
        for source, target in zip(self.authority.make("renewed", *LOCAL), (cert, key)):
            shutil.copy(source, target)
        gw.signal(signal.SIGHUP)
        gw.wait_log("reload.done")
        after = self.served(gw)
        self.assertNotEqual(after, before)
        pathlib.Path(key).write_text("no key")
        gw.signal(signal.SIGHUP)
        self.assertIn(str(key), gw.wait_log("reload.problem")["reason"])
        gw.wait_log("reload.refused")
        self.assertEqual(self.served(gw), after)
        stays.publish("a", b"still here")

    # ---- Towards RabbitMQ

    def rabbitmq_tls(self, *options, pair=None):
        """A TLS port of RabbitMQ's and the gateway's address by it."""
        cert, key = pair or self.pair
        port = free_ports(1)[0]
        settings = ",".join([f'{{cacertfile,"{self.authority.ca}"}}', f'{{certfile,"{cert}"}}', f'{{keyfile,"{key}"}}', *options])
        self.broker.eval(f'rabbit_networking:start_ssl_listener({{"127.0.0.1",{port}}},[{settings}],2).')
        return f"amqps://guest:guest@localhost:{port}/{self.vhost}"

    def test_rabbitmq_over_tls(self):
        amqps = self.rabbitmq_tls()
        gw = self.gateway(amqp=amqps, rabbitmq=f'tls = {{ ca = "{self.authority.ca}" }}')
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "a.b")
        client = self.open(Mqtt(gw.addresses["mqtt"]))
        client.subscribe("a/b")
        body = os.urandom(400_000)
        client.publish("a/b", body)
        self.assertEqual(consumer.take()[2], body)
        self.assertEqual(bytes(client.messages.take().payload), body)
        consumer.channel.queue_bind(consumer.queue, "amq.topic", "large")
        large = os.urandom(8 << 20)
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/large", large)[0], 202)
        self.assertTrue(consumer.take()[2] == large)

    def test_rabbitmqs_certificate_is_checked(self):
        stranger = self.open(Authority("stranger"))
        other_name = self.authority.make("other.example")
        for ca, pair in ((stranger.ca, self.pair), (self.authority.ca, other_name)):
            amqps = self.rabbitmq_tls(pair=pair)
            gw = self.gateway(amqp=amqps, rabbitmq=f'tls = {{ ca = "{ca}" }}', wait=False)
            self.assertIn("certificate verify failed", gw.wait_log("rabbitmq.unreachable")["reason"])
            gw.stop()
        self.gateway(amqp=amqps, rabbitmq=f'tls = {{ ca = "{self.authority.ca}", insecure = true }}')

    def test_rabbitmq_asks_for_a_certificate(self):
        amqps = self.rabbitmq_tls("{verify,verify_peer}", "{fail_if_no_peer_cert,true}")
        cert, key = self.authority.make("gateway")
        gw = self.gateway(amqp=amqps, rabbitmq=f'tls = {{ ca = "{self.authority.ca}", cert = "{cert}", key = "{key}" }}')
        self.open(Mqtt(gw.addresses["mqtt"])).publish("a", b"x")


@unittest.skipUnless(shutil.which("openssl"), "makes its certificates with openssl")
class Mistakes(E2E):
    needs_broker = False

    def test_a_wrong_file_has_a_line(self):
        authority = self.open(Authority())
        cert, key = authority.make("localhost")
        other = authority.make("other")
        for lines, problem in ((f'cert = "/nowhere.pem", key = "{key}"', '"/nowhere.pem": No such file'),
                               (f'cert = "{cert}"', "tls needs cert and key"),
                               (f'cert = "{cert}", key = "{other[1]}"', "key values mismatch"),
                               (f'cert = "{cert}", key = "{key}", client_ca = "{key}"', f'"{key}"'),
                               (f'cert = "{cert}", key = "{key}", client_optional = true', "nobody is asked")):
            path = self.config_file(f'[[listener]]\nserve = "mqtt"\nbind = "127.0.0.1:0"\ntls = {{ {lines} }}\n')
            done = headgate("check", "-c", path)
            self.assertEqual(done.returncode, 1)
            self.assertIn(f"{path}:4:", done.stdout + done.stderr)
            self.assertIn(problem, done.stdout + done.stderr)

