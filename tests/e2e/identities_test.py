# SPDX-License-Identifier: Apache-2.0
"""Who may come in, on every protocol, with the clients that people use."""
import json
import os
import pathlib
import pty
import select
import shutil
import subprocess
import threading
import unittest

import paho.mqtt.client as paho

from harness import E2E, Mqtt, Stomp, WebSocket, eventually, headgate, http, mosquitto_pub, raw
from harness import mqtt5 as m
from harness.certificates import Authority
from harness.clients import http_connection, http_request
from harness.gateway import BINARY, Gateway, config_text
from harness.peer import Peer
from harness.people import EVERYTHING, OTHER, PASSWORD, basic, bearer, line_of, user
from harness.tokens import Issuer
from harness.wait import LIMIT_S
from harness.wire import stomp


class Shared(E2E):
    """One gateway for a class; `config()` is what its file has more."""

    options = {}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = Gateway(config_text(cls.amqp, cls.config() + EVERYTHING, **cls.options)).start()

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        super().tearDownClass()

    def stomp_error(self, login, passcode):
        """What a CONNECT with these is answered with."""
        headers = {"accept-version": "1.2", "host": "/", "login": login, "passcode": passcode}
        with raw(self.gw.addresses["stomp"], stomp("CONNECT", headers)) as client:
            return client.read_to_end().decode()

    def users(self):
        """Of the connections that there are, but for the admin's."""
        return sorted(c["user"] for c in self.gw.admin("/api/connections")[1] if c["listener"] != "admin")

    def post(self, headers=None, path="/v1/topics/a/b"):
        """Status, headers and body of an answer to a POST."""
        return http(self.gw.addresses["web"], "POST", path, b"x", headers)


class Passwords(Shared):
    @classmethod
    def config(cls):
        return '[users]\nmax_failures = 0\ncache = "2s"\n' + user("alice", line_of(PASSWORD), "operator") + user("bob", line_of(OTHER))

    # ---- MQTT

    def test_mqtt_clients_log_in(self):
        client = self.open(Mqtt(self.gw.addresses["mqtt"], username="alice", password=PASSWORD))
        self.assertEqual(client.connack, 0)
        self.assertEqual(self.users(), ["alice"])
        client.publish("a", b"x")
        done = mosquitto_pub(self.gw.addresses["mqtt"], "a", b"x", "-u", "bob", "-P", OTHER)
        self.assertEqual(done.returncode, 0)

    def test_mqtt_clients_are_refused(self):
        for username, password in (("alice", OTHER), ("nobody", PASSWORD), ("alice", ""), (None, None)):
            with self.subTest(username=username):
                client = self.open(Mqtt(self.gw.addresses["mqtt"], username=username, password=password))
                self.assertEqual(client.connack, paho.CONNACK_REFUSED_BAD_USERNAME_PASSWORD)
                self.open(Peer(self.gw.addresses["mqtt"], refused=0x86, user=username,
                               password=None if password is None else password.encode()))
        done = mosquitto_pub(self.gw.addresses["mqtt"], "a", b"x", "-u", "alice", "-P", "wrong", check=False)
        self.assertIn(b"bad user name or password", done.stderr)
        self.open(Peer(self.gw.addresses["mqtt"], refused=0x8C, auth_method="SCRAM-SHA-1", auth_data=b"x"))

    def test_what_follows_connect_at_once_waits_for_it(self):
        first = m.connect("early", user="alice", password=PASSWORD.encode()) + m.publish("a", b"x", qos=1, packet_id=7)
        peer = self.open(Peer(self.gw.addresses["mqtt"], first=first))
        self.assertEqual(peer.next(m.CONNACK).reason, 0)
        self.assertEqual(peer.next(m.PUBACK).packet_id, 7)

    def test_a_client_that_goes_while_it_is_checked_leaves_nothing(self):
        for i in range(20):
            with raw(self.gw.addresses["mqtt"], m.connect(f"gone{i}", user="alice", password=f"wrong{i}".encode())):
                pass
        eventually(lambda: self.gw.metric("headgate_login_checks") == 0)
        eventually(lambda: self.users() == [])

    def test_a_client_identifier_belongs_to_its_user(self):
        alice, bob = ({"user": name, "password": password} for name, password in (("alice", PASSWORD), ("bob", OTHER)))

        def refuse_bob():
            for _ in range(8):  # connections are spread over the workers
                self.open(Peer(self.gw.addresses["mqtt"], "hers", refused=0x87, **bob))
                self.open(Peer(self.gw.addresses["mqtt"], "hers", refused=5, level=4, **bob))

        live = self.open(Peer(self.gw.addresses["mqtt"], "hers", **alice))
        refuse_bob()
        kept = self.open(Peer(self.gw.addresses["mqtt"], "hers", session_expiry=300, **alice))
        self.assertEqual(live.next(m.DISCONNECT).reason, 0x8E)
        refuse_bob()
        kept.close()
        refuse_bob()
        again = self.open(Peer(self.gw.addresses["mqtt"], "hers", clean=False, **alice))
        self.assertTrue(again.connack.present)
        again.send(m.disconnect())
        self.assertIsNone(again.read())
        eventually(lambda: self.users() == [])
        self.open(Peer(self.gw.addresses["mqtt"], "hers", **bob))
        self.assertEqual(self.gw.metric("headgate_client_ids_refused_total"), 48)
        self.gw.wait_log("mqtt.client_id_refused", client="hers", user="bob")

    # ---- STOMP

    def test_stomp_clients(self):
        client = self.open(Stomp(self.gw.addresses["stomp"], login="alice", passcode=PASSWORD))
        client.send("/topic/a", b"x")
        self.assertEqual(self.users(), ["alice"])
        for login, passcode in (("alice", OTHER), ("nobody", PASSWORD), ("", "")):
            self.assertIn("message:", self.stomp_error(login, passcode).split("\n\n")[0])
        self.assertIn("ERROR\nmessage:bad user name or password", self.stomp_error("alice", OTHER))

    # ---- HTTP

    def test_http_requests(self):
        self.assertEqual(self.post(basic("alice", PASSWORD))[0], 202)
        for headers in (None, basic("alice", OTHER), basic("nobody", PASSWORD), {"Authorization": "Basic %%%"},
                        {"Authorization": "Digest x"}, bearer("x.y.z")):
            status, fields, body = self.post(headers)
            self.assertEqual((status, json.loads(body)["code"]), (401, "BAD_LOGIN"), headers)
            self.assertIn("Basic realm=", fields.get("WWW-Authenticate") or fields.get("www-authenticate"))
        for path in ("/api/exchanges/%2f/amq.topic/publish", "/v1/topics"):
            self.assertEqual(self.post(None, path)[0], 401, path)
        self.assertEqual(http(self.gw.addresses["web"], "GET", "/v1/topics/a")[0], 401)
        self.assertEqual(http(self.gw.addresses["web"], "GET", "/v1/openapi.json")[0], 200)

    def test_curl(self):
        url = f"http://127.0.0.1:{self.gw.port('web')}/v1/topics/a"
        for user, status in ((f"alice:{PASSWORD}", "202"), ("alice:x", "401")):
            done = subprocess.run(["curl", "-sS", "-u", user, "-d", "hello", "-o", "/dev/null", "-w", "%{http_code}", url],
                                  capture_output=True, text=True, timeout=LIMIT_S, check=True)
            self.assertEqual(done.stdout, status)

    def test_a_kept_connection_is_checked_once_and_each_of_its_requests_for_itself(self):
        connection = http_connection(self.gw.addresses["web"])
        self.addCleanup(connection.close)
        before = self.gw.metric("headgate_logins_total")
        for _ in range(5):
            self.assertEqual(http_request(connection, "POST", "/v1/topics/a", b"x", basic("alice", PASSWORD))[0], 202)
        self.assertEqual(self.users(), ["alice"])
        self.assertEqual(self.gw.metric("headgate_logins_total") - before, 1)
        self.assertEqual(http_request(connection, "POST", "/v1/topics/a", b"x")[0], 401)  # not alice's by habit
        self.assertEqual(http_request(connection, "POST", "/v1/topics/a", b"x", basic("bob", OTHER))[0], 202)
        self.assertEqual(self.users(), ["bob"])

    def test_a_large_body_waits_for_its_login(self):
        body = b"z" * 300_000
        status, _, _ = http(self.gw.addresses["web"], "POST", "/v1/topics/a", body, basic("bob", OTHER))
        self.assertEqual(status, 202)
        self.assertEqual(http(self.gw.addresses["web"], "POST", "/v1/topics/a", body, basic("bob", "x"))[0], 401)

    # ---- WebSocket

    def test_a_websocket_logs_in_by_its_handshake_or_by_connect(self):
        by_hand = self.open(WebSocket(self.gw.addresses["web"], protocols=["v12.stomp"], headers=basic("alice", PASSWORD)))
        by_hand.send_frame(by_hand.TEXT, stomp("CONNECT", {"accept-version": "1.2", "host": "/"}))
        self.assertIn(b"user-name:alice", by_hand.read_message()[1])
        inside = self.open(Mqtt(self.gw.addresses["web"], path="/mqtt", username="bob", password=OTHER))
        self.assertEqual(inside.connack, 0)
        self.assertEqual(self.users(), ["alice", "bob"])
        refused = self.open(WebSocket(self.gw.addresses["web"], protocols=["v12.stomp"], headers=basic("alice", "x"), must_open=False))
        self.assertEqual(refused.status, 401)
        nobody = self.open(Mqtt(self.gw.addresses["web"], path="/mqtt"))
        self.assertEqual(nobody.connack, paho.CONNACK_REFUSED_BAD_USERNAME_PASSWORD)

    # ---- What is told, and what is not

    def test_a_refusal_is_logged_without_the_password(self):
        def is_logged():  # one line a second for each address
            with raw(self.gw.addresses["mqtt"], m.connect("m", user="mallory", password=b"a-very-secret-guess")) as client:
                client.read_to_end()
            return next((line for line in self.gw.output if '"mallory"' in line and '"login.refused"' in line), None)
        event = json.loads(eventually(is_logged))
        self.assertEqual((event["protocol"], event["peer"].rpartition(":")[0]), ("mqtt", "127.0.0.1"))
        self.assertNotIn("a-very-secret-guess", "\n".join(self.gw.output))
        self.assertGreaterEqual(self.gw.metric("headgate_logins_refused_total"), 1)

    def test_a_password_that_was_good_is_not_hashed_again(self):
        before = self.gw.metric("headgate_logins_cached_total")
        for _ in range(9):  # on two workers: at least one of them sees it again
            self.open(Mqtt(self.gw.addresses["mqtt"], username="alice", password=PASSWORD)).close()
        self.assertGreaterEqual(self.gw.metric("headgate_logins_cached_total") - before, 1)


class Limits(E2E):
    def test_wrong_passwords_are_limited_by_address(self):
        gw = self.gateway('[users]\nmax_failures = 3\ncache = "0s"\n' + user("a", line_of(PASSWORD)) + EVERYTHING)
        for _ in range(3):
            self.open(Peer(gw.addresses["mqtt"], refused=0x86, user="a", password=b"x"))
        self.open(Peer(gw.addresses["mqtt"], refused=0x97, user="a", password=PASSWORD.encode()))
        status, fields, _ = http(gw.addresses["web"], "POST", "/v1/topics/a", b"x", basic("a", PASSWORD))
        self.assertEqual(status, 429)
        self.assertGreaterEqual(gw.metric("headgate_logins_limited_total"), 2)

    def test_anonymous_clients_where_they_are_wanted(self):
        gw = self.gateway('[users]\nanonymous = "loopback"\n' + user("a", line_of(PASSWORD)) + EVERYTHING)
        self.assertEqual(self.open(Mqtt(gw.addresses["mqtt"])).connack, 0)
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/a", b"x")[0], 202)
        self.open(Peer(gw.addresses["mqtt"], refused=0x86, user="a", password=b"x"))  # who says a name must prove it
        self.open(Peer(gw.addresses["mqtt"], refused=0x86, user="a"))

    def test_an_open_door_to_everybody_must_be_said(self):
        text = config_text(self.amqp, serves=("mqtt",)).replace("127.0.0.1:0", "0.0.0.0:0")
        done = headgate("check", "-c", self.config_file(text))
        self.assertEqual(done.returncode, 1)
        self.assertIn("say anonymous = true in [users]", done.stderr)
        done = headgate("check", "-c", self.config_file(text + "[users]\nanonymous = true\nbroker = true\n"))
        self.assertIn("logins by 0 passwords, RabbitMQ's users\nanonymous clients at 0.0.0.0:0\n", done.stdout)

    def test_passwd_asks_twice_at_a_terminal_and_shows_nothing(self):
        for second, code in ((PASSWORD, 0), (OTHER, 1)):
            master, slave = pty.openpty()
            with subprocess.Popen([BINARY, "passwd"], stdin=slave, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
                self.addCleanup(os.close, master)
                guard = threading.Timer(LIMIT_S, process.kill)
                guard.start()
                self.addCleanup(guard.cancel)
                os.close(slave)
                shown = b""
                for question, answer in ((b"Password: ", PASSWORD), (b"The same again: ", second)):
                    while question not in shown:
                        byte = process.stderr.read(1)
                        self.assertTrue(byte, "it ended before it asked")
                        shown += byte
                    os.write(master, answer.encode() + b"\n")
                out, _ = process.communicate()
            self.assertEqual(process.returncode, code)
            self.assertEqual(out.startswith(b"$argon2id$"), code == 0)
            try:
                echoed = os.read(master, 1000) if select.select([master], [], [], 0)[0] else b""
            except OSError:  # nothing: the other end is closed
                echoed = b""
            self.assertNotIn(PASSWORD.encode(), echoed)


@unittest.skipUnless(shutil.which("openssl"), "signs its tokens with openssl")
class Tokens(Shared):
    @classmethod
    def setUpClass(cls):
        cls.issuer = Issuer()
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        cls.issuer.close()

    @classmethod
    def config(cls):
        i = cls.issuer
        return f"""
[users]
cookie = "token"
query = "access_token"
token = {{ secrets = ["{i.secret}"], keys = ["{i.rsa}", "{i.ec}"], audience = "headgate", leeway = "0s" }}
"""

    def test_every_algorithm_on_every_protocol(self):
        for algorithm in ("HS256", "RS256", "ES256"):
            token = self.issuer.token(algorithm=algorithm)
            with self.subTest(algorithm=algorithm):
                self.assertEqual(self.post(bearer(token))[0], 202)
                self.assertEqual(self.open(Mqtt(self.gw.addresses["mqtt"], username="x", password=token)).connack, 0)
                stomp_client = self.open(Stomp(self.gw.addresses["stomp"], login="", passcode=token))
                stomp_client.send("/topic/a", b"x")
                eventually(lambda: "carol" in self.users())

    def test_forged_ones_are_refused(self):
        rsa_public = pathlib.Path(self.issuer.rsa).read_bytes()
        for token in (self.issuer.token(algorithm="none"), self.issuer.token(key=rsa_public), self.issuer.token(key=b"other" * 8),
                      self.issuer.token(lasts_s=-1), self.issuer.token(aud="other"), self.issuer.token(exp=None),
                      self.issuer.token(nbf=2 ** 33), self.issuer.token(user="")):
            status, fields, _ = self.post(bearer(token))
            self.assertEqual(status, 401)
            self.assertIn('error="invalid_token"', fields.get("WWW-Authenticate") or fields.get("www-authenticate"))
        for token, reason in ((self.issuer.token(algorithm="none"), 0x86), (self.issuer.token(lasts_s=-1), 0x87)):
            self.open(Peer(self.gw.addresses["mqtt"], refused=reason, auth_method="bearer", auth_data=token.encode()))

    def test_a_websocket_has_its_token_in_a_cookie_a_subprotocol_or_the_query(self):
        token = self.issuer.token(user="dora")
        for options in ({"headers": {"Cookie": f"other=1; token={token}"}}, {"protocols": ["v12.stomp", f"bearer.{token}"]},
                        {"path": f"/ws?access_token={token}"}, {"headers": bearer(token)}):
            ws = self.open(WebSocket(self.gw.addresses["web"], **{"protocols": ["v12.stomp"], **options}))
            self.assertEqual(ws.protocol, "v12.stomp")
            ws.send_frame(ws.TEXT, stomp("CONNECT", {"accept-version": "1.2", "host": "/"}))
            self.assertIn(b"user-name:dora", ws.read_message()[1], options)
        self.assertEqual(self.post({"Cookie": f"token={token}"})[0], 401)  # a browser sends it by itself, whoever's page asks

    @unittest.skipUnless(shutil.which("node"), "needs Node.js")
    def test_nodes_websocket_with_a_token_as_a_subprotocol(self):
        script = """
          const [url, token] = process.argv.slice(1);
          const ws = new WebSocket(url, ["v12.stomp", "bearer." + token]);
          ws.onopen = () => ws.send("CONNECT\\naccept-version:1.2\\nhost:/\\n\\n\\0");
          ws.onmessage = (e) => { console.log(ws.protocol + " " + e.data.includes("user-name:dora")); ws.close(); };
          ws.onerror = () => process.exit(1);"""
        done = subprocess.run(["node", "--experimental-websocket", "-e", script, f"ws://127.0.0.1:{self.gw.port('web')}/ws",
                               self.issuer.token(user="dora")], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        self.assertEqual(done.stdout.strip(), "v12.stomp true", done.stderr)

    def test_mqtt_5_renews_its_token_before_it_ends(self):
        peer = self.open(Peer(self.gw.addresses["mqtt"], auth_method="bearer", auth_data=self.issuer.token(lasts_s=3).encode()))
        self.assertEqual(peer.connack.properties["auth_method"], "bearer")
        peer.send(m.auth(0x19, auth_method="bearer", auth_data=self.issuer.token(lasts_s=300).encode()))
        answer = peer.next(m.AUTH)
        self.assertEqual((answer.reason, answer.properties["auth_method"]), (0, "bearer"))
        peer.publish("a", b"x")
        peer.send(m.auth(0x19, auth_method="bearer", auth_data=self.issuer.token(user="mallory").encode()))
        self.assertEqual(peer.next(m.DISCONNECT).reason, 0x87)

    def test_the_end_of_a_token_is_the_end_of_its_session(self):
        token = self.issuer.token(lasts_s=3)
        peer = self.open(Peer(self.gw.addresses["mqtt"], auth_method="bearer", auth_data=token.encode()))
        client = self.open(Stomp(self.gw.addresses["stomp"], login="", passcode=token))
        reader = self.open(raw(self.gw.addresses["web"]))
        reader.send(f"GET /v1/topics/a HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        reader.read_until(b"retry:")
        end = peer.next(m.DISCONNECT)
        self.assertEqual((end.reason, end.properties["reason_string"]), (0x87, "the token has expired"))
        self.assertEqual(client.errors.take().headers["message"], "the token has expired")
        self.assertIn(b"event: headgate.token-expired\n", reader.read_to_end())
        self.assertEqual(self.post(bearer(token))[0], 401)
        self.assertGreaterEqual(self.gw.metric("headgate_login_expired_total"), 3)

    def test_a_stomp_client_renews_its_token(self):
        client = self.open(Stomp(self.gw.addresses["stomp"], login="", passcode=self.issuer.token(lasts_s=3)))
        client.send("/headgate/token", self.issuer.token(lasts_s=300).encode())
        self.assertGreaterEqual(self.gw.metric("headgate_login_renewals_total"), 1)
        client.connection.send("/headgate/token", "rubbish")
        self.assertEqual(client.errors.take().headers["message"], "the token is malformed")


class RabbitMQ(Shared):
    @classmethod
    def setUpClass(cls):
        cls.config_text = '[users]\nbroker = true\nbroker_roles = ["b"]\nmax_failures = 0\n'
        super().setUpClass()
        cls.broker.ctl("add_user", "erin", "erins password")
        cls.broker.ctl("set_permissions", "-p", cls.vhost, "erin", ".*", ".*", ".*")
        cls.broker.ctl("add_user", "frank", "franks password")  # has no permission for this virtual host

    @classmethod
    def tearDownClass(cls):
        for user in ("erin", "frank"):
            cls.broker.ctl("delete_user", user)
        super().tearDownClass()

    @classmethod
    def config(cls):
        return cls.config_text

    def test_rabbitmq_is_asked(self):
        client = self.open(Mqtt(self.gw.addresses["mqtt"], username="erin", password="erins password"))
        self.assertEqual(client.connack, 0)
        self.assertEqual(self.users(), ["erin"])
        self.assertEqual(self.post(basic("erin", "erins password"))[0], 202)
        for user, password in (("erin", "x"), ("frank", "franks password"), ("nobody", "x")):
            self.assertEqual(self.open(Mqtt(self.gw.addresses["mqtt"], username=user, password=password)).connack, 4, user)
        self.assertIn("user-name:erin", self.stomp_answer("erin", "erins password"))
        self.assertIn("RabbitMQ refused", self.stomp_error("erin", "y"))
        eventually(lambda: self.gw.metric("headgate_login_checks") == 0)

    def stomp_answer(self, login, passcode):
        headers = {"accept-version": "1.2", "host": "/", "login": login, "passcode": passcode}
        with raw(self.gw.addresses["stomp"], stomp("CONNECT", headers)) as client:
            return client.read_until(b"\0").decode()


@unittest.skipUnless(shutil.which("openssl"), "makes its certificates with openssl")
class Certificates(E2E):
    def test_a_certificate_says_who_it_is(self):
        authority = self.open(Authority())
        server = authority.make("localhost", "DNS:localhost", "IP:127.0.0.1")
        device = authority.make("device-1", "DNS:one.example", "email:one@example.org")
        tls = f'tls = {{ cert = "{server[0]}", key = "{server[1]}", client_ca = "{authority.ca}", client_optional = true }}\n'
        for kind, name in (("common_name", "device-1"), ("dns", "one.example"), ("email", "one@example.org")):
            gw = self.gateway(f'[users]\ncertificate = "{kind}"\n' + user(name, None, "r"), mqtt=tls, web=tls, workers=1)
            for path, serve in ((None, "mqtt"), ("/mqtt", "web")):
                client = self.open(Mqtt(("localhost", gw.port(serve)), tls=authority.client(*device), path=path))
                self.assertEqual(client.connack, 0)
            users = [c["user"] for c in gw.admin("/api/connections")[1] if c["listener"] != "admin"]
            self.assertEqual(users, [name, name])
            nobody = self.open(Mqtt(("localhost", gw.port("mqtt")), tls=authority.client()))
            self.assertEqual(nobody.connack, 4)


if __name__ == "__main__":
    unittest.main()
