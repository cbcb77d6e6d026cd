# SPDX-License-Identifier: Apache-2.0
"""headgate check --live: what RabbitMQ says to a configuration, and that the permissions it prints are enough and no more."""
import json
import shlex

from harness import Consumer, E2E, Mqtt, Stomp, eventually, headgate, http
from harness.gateway import config_text
from private_rabbitmq import free_ports

RULES = """
[mqtt]
session_queue = "quorum"
[[exchange]]
name = "telemetry"
type = "topic"
arguments = { alternate-exchange = "lost" }
[[exchange]]
name = "lost"
type = "fanout"
[[queue]]
name = "jobs"
type = "quorum"
arguments = { x-dead-letter-exchange = "lost" }
bindings = [{ exchange = "telemetry", key = "job.#" }]
[[rule]]
name = "sensors"
topic = "Sensor/{kind}/{room}"
exchange = "telemetry"
key = "sensor.{kind}.{room}"
[[rule]]
name = "deep"
topic = "deep/{x...}"
exchange = "telemetry"
key = "deep.{x...}"
[[rule]]
name = "jobs"
topic = "jobs/{x}"
queue = "jobs"
"""
# With nobody to log in clients may name anything; without RabbitMQ's own names they are let do what the rules say.
CLOSED = '[stomp]\nrabbitmq_destinations = false\n[http]\nmanagement_paths = false\n'


class Live(E2E):
    def check(self, text):
        done = headgate("check", "--live", "-c", self.config_file(text))
        self.assertEqual(done.stderr, "")
        return done.returncode, done.stdout

    def as_user(self, name):
        return self.amqp.replace("guest:guest", f"{name}:secret-word")

    def add_user(self, name, commands):
        """As the printed lines say, but for somebody else, whose password is not asked for."""
        self.broker.ctl("add_user", name, "secret-word")
        self.addCleanup(self.broker.ctl, "delete_user", name)
        for line in commands:
            self.broker.ctl(*(name if word == "guest" else word for word in shlex.split(line)[1:]))

    def commands(self, out):
        lines = [line for line in out.splitlines() if line.startswith("rabbitmqctl ")]
        self.assertEqual(lines.pop(0).split()[1], "add_user")
        return lines

    def assert_works(self, name, more):
        """Everything that the configuration serves, and RabbitMQ refuses none of it."""
        gw = self.gateway(more, amqp=self.as_user(name))
        web = gw.addresses["web"]
        mqtt = self.open(Mqtt(gw.addresses["mqtt"]))
        self.assertEqual(mqtt.subscribe("Sensor/#", "deep/#"), [1, 1])
        stomp = self.open(Stomp(gw.addresses["stomp"]))
        stomp.subscribe("/Sensor/*/r1", ack="client")
        for address, body in (("Sensor/t/r1", b"1"), ("deep", b"2"), ("deep/er/still", b"3")):
            mqtt.publish(address, body)
            self.assertEqual(mqtt.messages.take().payload, body)
        self.assertEqual(stomp.messages.take().body, b"1")
        mqtt.publish("Sensor/t/kept", b"retained", retain=True)
        self.assertEqual(mqtt.messages.take().payload, b"retained")
        late = self.open(Mqtt(gw.addresses["mqtt"]))
        eventually(lambda: gw.metric("headgate_retained_messages") == 1)
        late.subscribe("Sensor/t/kept")
        self.assertEqual(late.messages.take().payload, b"retained")
        kept = Mqtt(gw.addresses["mqtt"], client_id=f"kept-{name}", clean=False)
        kept.subscribe("deep/#")
        kept.close()
        self.assertEqual(http(web, "POST", "/v1/topics/deep/kept", b"while away")[0], 202)
        again = self.open(Mqtt(gw.addresses["mqtt"], client_id=f"kept-{name}", clean=False))
        self.assertEqual(again.messages.take().payload, b"while away")
        self.assertEqual(http(web, "POST", "/v1/topics/jobs/a", b"job")[0], 202)
        status, _, body = http(web, "POST", "/v1/queues/jobs/lease?wait=10s", b"")
        self.assertEqual(status, 200, body)
        leases = [m["lease"] for m in json.loads(body)["messages"]]
        self.assertEqual(http(web, "POST", "/v1/queues/jobs/ack", json.dumps({"leases": leases}).encode())[0], 200)
        self.assertEqual(http(web, "POST", "/v1/rpc/deep/call?timeout=200ms", b"call")[0], 504)
        self.assertNotIn("ACCESS_REFUSED", "\n".join(gw.output))
        self.assertEqual([e for e in gw.output if "bind_refused" in e or "refused" in json.loads(e)["event"]], [])
        return gw

    def test_the_printed_permissions_are_enough(self):
        for name, more in (("narrow", RULES + CLOSED), ("open", RULES)):
            more += f'[state]\nlog = "state.of.{name}"\n'
            with self.subTest(name=name):
                code, out = self.check(config_text(self.amqp, more))
                self.assertEqual(code, 0, out)
                self.assertNotIn("PROBLEM", out)
                self.assertEqual("clients may name any exchange" in out, name == "open")
                self.assertEqual("set_topic_permissions" in out, name == "narrow")
                self.add_user(name, self.commands(out))
                code, out = self.check(config_text(self.as_user(name), more))
                self.assertEqual(code, 0, out)
                if name == "narrow":
                    self.assert_works(name, more)
        self.assertIn("quorum queues can be made and deleted", out)
        self.assertIn("exchange telemetry is there, as declared", out)
        self.assertEqual(self.broker.ctl("list_queues", "-p", self.vhost, "name").count("headgate.check"), 0)

    def test_identities_narrow_what_is_printed(self):
        code, out = self.check(config_text(self.amqp, """
[users]
anonymous = true
broker = true
anonymous_roles = ["a"]
[[rule]]
name = "r"
topic = "r/{x}"
exchange = "amq.topic"
key = "r.{x}"
allow = { publish = ["a"] }
[[access]]
queue = "work.*"
subscribe = ["a"]
configure = ["a"]
[[access]]
exchange = "amq.topic"
key = "log.#"
publish = ["a"]
"""))
        self.assertEqual(code, 0, out)
        permissions, topics = self.commands(out)
        own = r"headgate\..*"
        more = r"stomp-subscription-.*|mqtt-subscription-.*|work\..*"
        self.assertEqual(shlex.split(permissions)[-3:], [f"^({own}|{more})$", rf"^({own}|amq\.default|amq\.topic|{more})$",
                                                         rf"^({own}|amq\.topic|{more})$"])
        self.assertEqual(shlex.split(topics)[-3:], ["amq.topic", r"^(r\.[^.]*|log(\..*)?)$", r"^(headgate\.retain)$"])

    def test_what_is_missing_is_said(self):
        self.add_user("poor", [f"rabbitmqctl set_permissions -p {self.vhost} poor '^headgate\\..*' '^headgate\\..*' '^$'"])
        code, out = self.check(config_text(self.as_user("poor"), '[[exchange]]\nname = "mine"\ntype = "topic"\n'))
        self.assertEqual(code, 1, out)
        for words in ("configure exchange mine", "write to exchange amq.default", "read queue headgate.check.x", "read exchange amq.topic",
                      "bind queue mqtt-subscription-check.x"):
            self.assertRegex(out, f"PROBLEM may not {words}: ACCESS_REFUSED")
        self.assertNotIn("secret-word", out)

    def test_a_key_that_may_not_be_used_is_said(self):
        self.add_user("keyed", [f"rabbitmqctl set_permissions -p {self.vhost} keyed .* .* .*",
                                f"rabbitmqctl set_topic_permissions -p {self.vhost} keyed amq.topic '^a$' '.*'"])
        rule = '[[rule]]\nname = "r"\ntopic = "r"\nexchange = "amq.topic"\nkey = "{}"\n'
        for key, code in (("a", 0), ("b", 1)):
            got, out = self.check(config_text(self.as_user("keyed"), rule.format(key)))
            self.assertEqual(got, code, out)
        self.assertIn("access to topic 'b' in exchange 'amq.topic'", out)

    def test_what_differs_is_said_and_nothing_is_changed(self):
        c = self.open(Consumer(self.amqp))
        c.channel.exchange_declare("differs", "fanout", durable=True)
        c.channel.queue_declare("waits", durable=True)
        c.publish("", "waits", b"stays")
        code, out = self.check(config_text(self.amqp, """
[[exchange]]
name = "differs"
type = "topic"
[[exchange]]
name = "absent"
type = "topic"
passive = true
[[exchange]]
name = "coming"
type = "topic"
[[queue]]
name = "waits"
[[queue]]
name = "to-come"
"""))
        self.assertEqual(code, 1)
        self.assertIn("PROBLEM exchange differs: PRECONDITION_FAILED - inequivalent arg 'type'", out)
        self.assertIn("PROBLEM exchange absent: NOT_FOUND", out)
        self.assertIn("exchange coming is not there: the start declares it", out)
        self.assertIn("queue to-come is not there", out)
        names = self.broker.ctl("list_exchanges", "-p", self.vhost, "name") + self.broker.ctl("list_queues", "-p", self.vhost, "name")
        self.assertNotIn("com", names)
        method, _, body = c.channel.basic_get("waits", auto_ack=True)
        self.assertEqual((body, method.redelivered), (b"stays", False))

    def test_each_endpoint_is_tried(self):
        port, other = free_ports(1)[0], self.amqp.replace("guest:guest", "guest:wrong-word")
        code, out = self.check(config_text(self.amqp).replace(f'["{self.amqp}"]', f'["{self.amqp}", "amqp://127.0.0.1:{port}/{self.vhost}"]'))
        self.assertEqual(code, 2)
        self.assertIn(f"127.0.0.1:{self.broker.port}, virtual host Live, as guest: RabbitMQ 3", out)
        self.assertIn(f"127.0.0.1:{port}, virtual host Live, as guest: PROBLEM", out)
        code, out = self.check(config_text(other))
        self.assertEqual(code, 1)
        self.assertIn("PROBLEM RabbitMQ refused the login of user", out)
        self.assertNotIn("wrong-word", out)

    def test_max_message_is_tried(self):
        self.broker.ctl("eval", "application:set_env(rabbit, max_message_size, 2000000).")
        self.addCleanup(self.broker.ctl, "eval", "application:set_env(rabbit, max_message_size, 134217728).")
        for size, code in (("1MiB", 0), ("4MiB", 1)):
            got, out = self.check(config_text(self.amqp, rabbitmq=f'max_message = "{size}"'))
            self.assertEqual(got, code, out)
        self.assertIn("is larger than configured max size 2000000", out)
