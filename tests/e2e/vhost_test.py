# SPDX-License-Identifier: Apache-2.0
"""Virtual hosts: who gets into which, and that nothing of one is seen from another."""
import json
import signal
import unittest

from harness import Consumer, E2E, Events, Gateway, Mqtt, Mqtt5, Stomp, eventually, headgate, http, mosquitto_pub, raw
from harness import broker as brokers
from harness.gateway import config_text
from harness.people import PASSWORD, basic, line_of, user
from harness.receiver import Receiver
from harness.site import Site
from harness.tokens import Issuer
from harness.wire import stomp


class TwoVhosts(E2E):
    """One gateway for the virtual hosts `self.vhost`, the default one, also called home, and `self.other`, also called away."""

    more = ""
    serves = ("web", "mqtt", "stomp", "admin")

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.other = cls.vhost + ".other"
        brokers.add_vhost(cls.broker, cls.other)
        cls.other_amqp = cls.amqp.replace(f"/{cls.vhost}", f"/{cls.other}")
        cls.text = config_text(cls.amqp, cls.config())
        cls.gw = Gateway(cls.text).start()
        cls.web, cls.mqtt, cls.stomp = (cls.gw.addresses[serve] for serve in ("web", "mqtt", "stomp"))

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        brokers.delete_vhost(cls.broker, cls.other)
        super().tearDownClass()

    @classmethod
    def config(cls):
        return cls.vhosts() + cls.more

    @classmethod
    def vhosts(cls):
        return (f'[[vhost]]\nname = "{cls.other}"\naliases = ["away"]\n'
                f'[[vhost]]\nname = "{cls.vhost}"\naliases = ["home", "localhost"]\ndefault = true\n')

    def refusal(self, **headers):
        """What STOMP's ERROR says."""
        with raw(self.stomp, stomp("CONNECT", {"accept-version": "1.2", **headers})) as client:
            return client.read_until(b"\0").decode()

    def where(self, client_id):
        """The virtual host of an MQTT client."""
        return [c["vhost"] for c in self.gw.admin("/api/connections")[1] if c["client_id"] == client_id]


class Apart(TwoVhosts):
    @classmethod
    def config(cls):
        return super().config() + f"""
[[exchange]]
name = "shop"
type = "topic"
[[exchange]]
name = "shop"
type = "fanout"
vhost = "{cls.other}"
[[queue]]
name = "jobs"
[[queue]]
name = "jobs"
vhost = "{cls.other}"
type = "quorum"
[[rule]]
name = "orders"
http = "/orders/{{id}}"
exchange = "shop"
key = "order.{{id}}"
mandatory = true
[[rule]]
name = "bills"
vhost = "{cls.other}"
http = "/bills/{{id}}"
exchange = "shop"
"""

    def test_messages_do_not_cross_on_any_protocol(self):
        here = [self.open(Mqtt(self.mqtt)), self.open(Mqtt(self.mqtt, username="away:x"))]
        there = [self.open(Stomp(self.stomp, host="home")), self.open(Stomp(self.stomp, host="away"))]
        for m, s in zip(here, there):
            m.subscribe("#")
            s.subscribe("/#")
        events = self.open(Events(self.gw, "%23"))
        for name, m, s in zip(("home", "away"), here, there):
            m.publish("by/mqtt", name.encode())
            s.send("/by/stomp", name.encode())
        self.assertEqual(http(self.web, "POST", "/v1/topics/by/http", b"home")[0], 202)
        status, *_ = http(self.web, "POST", f"/api/exchanges/{self.other}/amq.topic/publish", json.dumps(
            {"properties": {}, "routing_key": "by.http", "payload": "away", "payload_encoding": "string"}).encode())
        self.assertEqual(status, 200)
        for name, m, s in zip(("home", "away"), here, there):
            self.assertEqual([x.payload.decode() for x in m.messages.take_n(3)], [name] * 3)
            self.assertEqual([s.messages.take().body for _ in range(3)], [name.encode()] * 3)
        self.assertEqual([events.take()["data"] for _ in range(3)], ["home"] * 3)
        for m in here:  # and nothing else came
            m.publish("the/end", b"")
            self.assertEqual(m.messages.take().topic, "the/end")

    def test_retained_messages_do_not_cross(self):
        for name in ("home", "away"):
            self.open(Mqtt(self.mqtt, username=f"{name}:x")).publish("kept", name.encode(), retain=True)
        self.open(Mqtt(self.mqtt, username="away:x")).publish("only/there", b"x", retain=True)
        for name, n in (("home", 1), ("away", 2)):
            m = self.open(Mqtt(self.mqtt, username=f"{name}:x"))
            m.subscribe("#")
            got = [(x.topic, x.payload.decode()) for x in m.messages.take_n(n)]
            self.assertIn(("kept", name), got)
            m.publish("the/end", b"")
            self.assertEqual(m.messages.take().topic, "the/end")
        for name in ("home", "away"):
            m = self.open(Mqtt(self.mqtt, username=f"{name}:x"))
            m.publish("kept", b"", retain=True)
            m.publish("only/there", b"", retain=True)

    def test_client_identifiers_and_kept_sessions_do_not_cross(self):
        home = self.open(Mqtt(self.mqtt, client_id="same", clean=False))
        home.subscribe("to/same")
        away = self.open(Mqtt(self.mqtt, client_id="same", clean=False, username="away:x"))
        self.assertEqual(sorted(self.where("same")), sorted([self.vhost, self.other]))  # nobody was thrown out
        away.subscribe("to/same")
        home.close()
        away.close()
        self.open(Mqtt(self.mqtt)).publish("to/same", b"for home")
        self.open(Mqtt(self.mqtt, username="away:x")).publish("to/same", b"for away")
        for name in ("home", "away"):
            back = self.open(Mqtt(self.mqtt, client_id="same", clean=False, username=f"{name}:x"))
            self.assertEqual(back.messages.take().payload, f"for {name}".encode())
            back.publish("to/same", b"end")
            self.assertEqual(back.messages.take().payload, b"end")
            back.close()
            self.open(Mqtt(self.mqtt, client_id="same", username=f"{name}:x")).close()

    def test_queues_do_not_cross(self):
        for name, amqp in (("home", self.amqp), ("away", self.other_amqp)):
            self.open(Consumer(amqp)).publish("", "jobs", name.encode())
        get = json.dumps({"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto"}).encode()
        for vhost, name in ((self.vhost, "home"), (self.other, "away"), ("away", "away")):
            status, _, got = http(self.web, "POST", f"/api/queues/{vhost}/jobs/get", get)
            self.assertEqual((status, [m["payload"] for m in json.loads(got)]), (200, [name]))
        self.assertEqual(http(self.web, "POST", "/api/queues/nowhere/jobs/get", get)[0], 404)
        s = self.open(Stomp(self.stomp, host="away"))
        s.subscribe("/amq/queue/jobs")
        self.assertEqual(s.messages.take().body, b"away")
        status, _, got = http(self.web, "POST", "/v1/queues/jobs/lease?max=5")
        message, = json.loads(got)["messages"]
        self.assertEqual((status, message["body"]), (200, "home"))
        status, _, got = http(self.web, "POST", "/v1/queues/jobs/ack", json.dumps({"leases": [message["lease"]]}).encode())
        self.assertIn(b"done", got)

    def test_each_has_its_own_rules(self):
        c = self.open(Consumer(self.amqp))
        c.bind("shop", "order.#")
        self.assertEqual(http(self.web, "POST", "/orders/1", b"")[0], 202)
        self.assertEqual(c.take()[0].routing_key, "order.1")
        self.assertEqual(http(self.web, "POST", "/bills/1", b"")[0], 404)  # the other one's, and nobody logs in there
        m = self.open(Mqtt(self.mqtt, username="away:x"))
        m.publish("orders/1", b"")  # the built-in rule's
        rules = {(r["vhost"], r["name"]): r["messages_in"] for r in self.gw.admin("/api/rules")[1]}
        self.assertGreaterEqual(rules[self.vhost, "orders"], 1)
        self.assertEqual(rules[self.other, "bills"], 0)
        self.assertGreaterEqual(self.gw.metric("headgate_rule_messages_in_total", vhost=self.vhost, rule="orders"), 1)
        self.assertGreaterEqual(self.gw.metric("headgate_rule_messages_in_total", vhost=self.other, rule="built-in"), 1)

    def test_replies_to_calls_come_back(self):
        s = self.open(Stomp(self.stomp, host="away"))
        s.subscribe("/asks")
        s.send("/asks", b"?", **{"reply-to": "/temp-queue/r"})
        asked = s.messages.take()
        s.send(asked.headers["reply-to"], b"!")
        self.assertEqual(s.messages.take().body, b"!")

    def test_who_names_none_or_an_unknown_one_gets_the_default_one(self):
        for n, user in enumerate((None, "x", "nowhere:x", "home:x", f"{self.vhost}:x")):
            self.open(Mqtt(self.mqtt, client_id=f"who{n}", username=user))
            self.assertEqual(self.where(f"who{n}"), [self.vhost], user)
        self.open(Mqtt5(self.mqtt, client_id="five"))
        self.assertEqual(self.where("five"), [self.vhost])
        for host in ("nowhere", "/", "127.0.0.1"):
            s = self.open(Stomp(self.stomp, host=host))
            s.subscribe("/to/me")
            self.open(Mqtt(self.mqtt)).publish("to/me", b"1")
            self.assertEqual(s.messages.take().body, b"1")

    def test_status_and_readiness_name_them(self):
        self.assertEqual(self.gw.admin("/readyz")[0], 200)
        vhosts = self.gw.admin("/api/status")[1]["vhosts"]
        self.assertEqual([(v["name"], v["default"], v["up"]) for v in vhosts],
                         [(self.vhost, True, True), (self.other, False, True)])
        self.assertTrue(all(v["state"]["ready"] for v in vhosts))
        for vhost in (self.vhost, self.other):
            self.assertEqual(self.gw.metric("headgate_vhost_up", vhost=vhost), 1)
            self.assertEqual(self.gw.metric("headgate_state_ready", vhost=vhost), 1)

    def test_commands_know_them(self):
        path = self.config_file(self.text)
        checked = headgate("check", "-c", path)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.assertIn(f"virtual host {self.vhost} (default), also home and localhost\n", checked.stdout)
        self.assertIn(f"virtual host {self.other}, also away\n", checked.stdout)
        for vhost, address, rule in (("home", "/orders/1", "orders"), ("away", "/orders/1", "built-in"), ("away", "/bills/1", "bills")):
            routed = headgate("route", "-c", path, "--json", "--vhost", vhost, "http", "publish", address)
            self.assertEqual(json.loads(routed.stdout)["rule"], rule)
        self.assertEqual(headgate("route", "-c", path, "--vhost", "no", "http", "publish", "a").returncode, 1)


class Permitted(TwoVhosts):
    @classmethod
    def config(cls):
        cls.issuer = Issuer()
        cls.addClassCleanup(cls.issuer.close)
        line = line_of(PASSWORD)
        users = "".join(user(name, line, more=more) for name, more in (
            ("plain", ""), ("tenant", f'vhost = "{cls.other}"'), ("both", f'vhosts = ["{cls.vhost}", "{cls.other}"]')))
        return super().config() + f"""
[users]
max_failures = 0
token = {{ secrets = ["{cls.issuer.secret}"], audience = "headgate" }}
{users}
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:0"
vhost = "{cls.other}"
""" + "".join(f'[[rule]]\nname = "all"\nvhost = "{vhost}"\ntopic = "{{x...}}"\nexchange = "amq.topic"\nkey = "{{x...}}"\n'
              'allow = { publish = ["*"], subscribe = ["*"] }\n'
              f'[[access]]\nvhost = "{vhost}"\nexchange = "*"\npublish = ["*"]\nsubscribe = ["*"]\n' for vhost in (cls.vhost, cls.other))

    def connack(self, user, address=None, password=PASSWORD, **options):
        return self.open(Mqtt(address or self.mqtt, username=user, password=password, **options)).connack

    def test_a_user_enters_what_it_may(self):
        for user, home, away in (("plain", 0, 5), ("tenant", 5, 0), ("both", 0, 0)):
            self.assertEqual((self.connack(f"home:{user}"), self.connack(f"away:{user}")), (home, away), user)
            for host, wanted in (("home", home), ("away", away)):
                said = self.refusal(host=host, login=user, passcode=PASSWORD)
                self.assertEqual(said.startswith("CONNECTED"), wanted == 0, said)
                self.assertEqual("may not enter" in said, wanted != 0, said)
        token = self.issuer.token("carol")
        self.assertEqual((self.connack("carol", password=token), self.connack("away:carol", password=token)), (0, 5))

    def test_who_names_none_gets_its_own(self):
        for user, vhost in (("plain", self.vhost), ("tenant", self.other), ("both", self.vhost)):
            self.assertEqual(self.connack(user, client_id=user), 0)
            self.assertEqual(self.where(user), [vhost])
        for user, amqp in (("plain", self.amqp), ("tenant", self.other_amqp)):
            c = self.open(Consumer(amqp))
            c.bind("amq.topic", "via.http")
            self.assertEqual(http(self.web, "POST", "/v1/topics/via/http", user.encode(), basic(user))[0], 202)
            self.assertEqual(c.take()[2], user.encode())

    def test_one_connection_may_have_requests_of_both(self):
        cs = [self.open(Consumer(amqp)) for amqp in (self.amqp, self.other_amqp)]
        for c in cs:
            c.bind("amq.topic", "mixed")
        plain, tenant = (f"POST /v1/topics/mixed HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k\r\nAuthorization: {basic(user)['Authorization']}\r\n"
                         f"Content-Length: {len(user)}\r\n\r\n{user}".encode() for user in ("plain", "tenant"))
        with raw(self.web, plain + tenant) as client:
            answers = [client.read_until(b"}") for _ in range(2)]
            client.send(plain)
            answers.append(client.read_until(b"}"))
        self.assertTrue(all(b" 202 " in a for a in answers), answers)
        self.assertIn(b"Idempotency-Replayed", answers[2])
        self.assertEqual([c.take()[2] for c in cs], [b"plain", b"tenant"])

    def test_management_paths_ask_as_well(self):
        order = json.dumps({"properties": {}, "routing_key": "k", "payload": "x", "payload_encoding": "string"}).encode()

        def publish(user, vhost, **headers):
            return http(self.web, "POST", f"/api/exchanges/{vhost}/amq.topic/publish", order, {**basic(user), **headers})[0]

        self.assertEqual([publish(u, v) for u in ("plain", "tenant", "both") for v in (self.vhost, self.other, "nowhere")],
                         [200, 403, 404, 403, 200, 404, 200, 200, 404])
        key = {"Idempotency-Key": "one of its virtual host"}
        self.assertEqual([publish("both", v, **key) for v in (self.vhost, self.other, self.vhost)], [200, 200, 200])

    def test_a_listener_may_be_for_one(self):
        ready = next(event for event in map(json.loads, self.gw.output) if event["event"] == "ready")
        address = ("127.0.0.1", int(ready["listener.mqtt.2"].rsplit(":", 1)[1]))
        for user, wanted in (("tenant", 0), ("both", 0), ("plain", 0), ("away:both", 0), ("home:both", 5), ("nowhere:both", 4)):
            self.assertEqual(self.connack(user, address, client_id=user), wanted, user)
            self.assertEqual(self.where(user), [self.other] if wanted == 0 else [])

    def test_another_user_of_the_same_connection_is_somewhere_else(self):
        """A password that was good for one virtual host is asked about again for another."""
        for vhost, wanted in (("home", 0), ("away", 5), ("home", 0), ("away", 5)):
            self.assertEqual(self.connack(f"{vhost}:plain"), wanted)


class Reloaded(TwoVhosts):
    """The file changes for one of them."""

    @classmethod
    def setUpClass(cls):
        cls.line = line_of(PASSWORD)
        super().setUpClass()

    @classmethod
    def config(cls):
        return cls.table()

    @classmethod
    def table(cls, key="first.{x}", both="home away", readers="*"):
        """The rule of the other one, who may enter both, and who may subscribe in the other one."""
        names = {"home": cls.vhost, "away": cls.other}
        may = ", ".join(f'"{names[name]}"' for name in both.split())
        rule = '[[rule]]\nname = "a"\nvhost = "{}"\ntopic = "a/{{x}}"\nexchange = "amq.topic"\nkey = "{}"\nallow = {{ publish = ["*"], subscribe = ["{}"] }}\n'
        return (cls.vhosts() + "[users]\nmax_failures = 0\n" + user("both", cls.line, "r", more=f"vhosts = [{may}]") + user("reader", None, "s") +
                rule.format(cls.vhost, "a.{x}", "*") + rule.format(cls.other, key, readers))

    def reload(self, **changes):
        self.gw.file.write_text(config_text(self.amqp, self.table(**changes)))
        self.gw.signal(signal.SIGHUP)
        self.gw.wait_log("reload.done")

    def clients(self, name):
        """One of each protocol, and one whose session is kept, subscribed to what the rule is about."""
        m = self.open(Mqtt(self.mqtt, username=f"{name}:both", password=PASSWORD))
        m.subscribe("a/#")
        kept = self.open(Mqtt(self.mqtt, client_id=self._testMethodName, clean=False, username=f"{name}:both", password=PASSWORD))
        kept.subscribe("a/#", qos=1)
        s = self.open(Stomp(self.stomp, host=name, login="both", passcode=PASSWORD))
        s.subscribe("/a/*")
        return m, kept, s

    def take(self, clients):
        m, kept, s = clients
        return [m.messages.take().payload, kept.messages.take().payload, s.messages.take().body]

    def test_rules_change_and_nobody_in_the_other_one_notices(self):
        home, away = self.clients("home"), self.clients("away")
        outside = [self.open(Consumer(amqp)) for amqp in (self.amqp, self.other_amqp)]
        for c in outside:
            c.bind("amq.topic", "#")
        connected = {c["id"] for c in self.gw.admin("/api/connections")[1] if c["listener"] != "admin"}
        for n, key in enumerate(("first", "second", "third", "first")):
            if n > 0:
                self.reload(key=key + ".{x}")
            for clients, c, wanted in ((home, outside[0], "a"), (away, outside[1], key)):
                clients[0].publish("a/1", b"%d" % n)
                self.assertEqual(self.take(clients), [b"%d" % n] * 3)
                self.assertEqual(c.take()[0].routing_key, f"{wanted}.1")
        self.assertEqual({c["id"] for c in self.gw.admin("/api/connections")[1] if c["listener"] != "admin"}, connected)

    def test_who_may_no_longer_be_in_one_is_ended_there_alone(self):
        home, away = self.clients("home"), self.clients("away")
        self.reload(both="home")
        for client in away[:2]:
            client.ends.take()
        self.assertIn("message", away[2].errors.take().headers)
        self.gw.wait_log("login.ended", user="both")
        home[0].publish("a/2", b"still here")
        self.assertEqual(self.take(home), [b"still here"] * 3)
        self.assertEqual(self.open(Mqtt(self.mqtt, username="away:both", password=PASSWORD)).connack, 5)
        self.reload()
        self.assertEqual(self.open(Mqtt(self.mqtt, username="away:both", password=PASSWORD)).connack, 0)

    def test_who_may_not_subscribe_in_one_any_more_stays_subscribed_in_the_other(self):
        home, away = self.clients("home"), self.clients("away")
        self.reload(readers="s")
        self.assertIn("message", away[2].errors.take().headers)
        home[0].publish("a/3", b"still here")
        self.assertEqual(self.take(home), [b"still here"] * 3)
        self.reload()


class Judged(TwoVhosts):
    """RabbitMQ decides who gets into which."""

    more = "[users]\nbroker = true\nmax_failures = 0\n"

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.broker.ctl("add_user", "gina", PASSWORD)
        cls.addClassCleanup(cls.broker.ctl, "delete_user", "gina")
        cls.broker.ctl("set_permissions", "-p", cls.other, "gina", ".*", ".*", ".*")

    def test_rabbitmq_is_asked_about_the_one_that_is_named(self):
        for name, wanted in (("away:gina", 0), ("home:gina", 4), ("gina", 4), ("away:gina", 0)):
            client = self.open(Mqtt(self.mqtt, client_id=name, username=name, password=PASSWORD))
            self.assertEqual(client.connack, wanted, name)
            self.assertEqual(self.where(name), [self.other] if wanted == 0 else [])
            client.close()


class Refused(TwoVhosts):
    def test_unknown_ones_may_be_refused(self):
        gw = self.gateway(self.vhosts(), "--set", "gateway.unknown_vhost=refuse")
        for user, wanted in (("nowhere:x", 5), ("away:x", 0), ("x", 0)):
            self.assertEqual(self.open(Mqtt(gw.addresses["mqtt"], username=user)).connack, wanted, user)
        gw.wait_log("login.refused", vhost="nowhere", user="x", reason="no virtual host of that name is served here")
        with raw(gw.addresses["stomp"], stomp("CONNECT", {"accept-version": "1.2", "host": "nowhere"})) as client:
            self.assertIn(b"no virtual host of that name", client.read_until(b"\0"))
        self.open(Stomp(gw.addresses["stomp"], host="away"))

    def test_one_that_rabbitmq_has_not_got_ends_the_start(self):
        gw = self.gateway(self.vhosts() + '[[vhost]]\nname = "nowhere at all"\n', wait=False, must_exit=1)
        self.assertEqual(gw.wait(), 1)
        self.assertTrue(any("nowhere at all" in line for line in gw.output), gw.tail())

    def test_readiness_needs_all_of_them(self):
        brokers.delete_vhost(self.broker, self.other)
        eventually(lambda: self.gw.admin("/readyz")[0] == 503)
        self.assertTrue(any(self.other in reason for reason in self.gw.admin("/readyz")[1]["reasons"]))
        self.assertEqual(self.gw.metric("headgate_vhost_up", vhost=self.other), 0)
        self.assertEqual(self.gw.metric("headgate_vhost_up", vhost=self.vhost), 1)
        m = self.open(Mqtt(self.mqtt))  # the other one works on
        m.subscribe("still")
        m.publish("still", b"here")
        self.assertEqual(m.messages.take().payload, b"here")
        brokers.add_vhost(self.broker, self.other)
        eventually(lambda: self.gw.admin("/readyz")[0] == 200)


class Services(E2E):
    def test_a_webhook_and_a_bridge_are_of_their_virtual_host(self):
        other = self.vhost + ".other"
        brokers.add_vhost(self.broker, other)
        self.addCleanup(brokers.delete_vhost, self.broker, other)
        hook, site = self.open(Receiver()), self.open(Site())
        gw = self.gateway(f"""
[[vhost]]
name = "{self.vhost}"
[[vhost]]
name = "{other}"
aliases = ["away"]
[[webhook]]
name = "vhost"
vhost = "{other}"
url = "{hook.url("/")}"
filter = "hook/#"
allow = ["127.0.0.1"]
[[bridge]]
name = "vhost"
vhost = "{other}"
address = "{site.url}"
in = [{{ filter = "site/#", local_prefix = "from/" }}]
""", workers=1)
        home, away = self.open(Mqtt(gw.addresses["mqtt"])), self.open(Mqtt(gw.addresses["mqtt"], username="away:x"))
        for client in (home, away):
            client.subscribe("from/#", "the/end")
        eventually(lambda: gw.metric("headgate_bridge_connected") == 1 and gw.metric("headgate_webhook_active") == 1)
        mosquitto_pub(site.address, "site/a", b"1")
        self.assertEqual(away.messages.take().topic, "from/site/a")
        home.publish("hook/x", b"home")
        away.publish("hook/x", b"away")
        self.assertEqual(hook.at("/").take().body, b"away")
        home.publish("the/end", b"")
        self.assertEqual(home.messages.take().topic, "the/end")


if __name__ == "__main__":
    unittest.main()
