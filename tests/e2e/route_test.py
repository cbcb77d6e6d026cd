# SPDX-License-Identifier: Apache-2.0
"""`headgate route`: what the rule table says is asked without a broker, and is what the running gateway does."""
import json
import pathlib

from harness import Consumer, E2E, headgate, mosquitto_pub

SHIPPED = pathlib.Path(__file__).resolve().parents[2] / "config" / "headgate.toml"


class Route(E2E):
    needs_broker = False

    def ask(self, *question, code=0):
        done = headgate("route", "-c", SHIPPED, "--json", *question)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def test_an_address_leads_to_one_exchange_and_key(self):
        answer = self.ask("mqtt", "publish", "Sensor/Temperature/Room1")
        self.assertEqual((answer["rule"], answer["exchange"], answer["key"]),
                         ("sensors", "telemetry", "sensor.Temperature.Room1"))
        answer = self.ask("http", "publish", "/orders/17")
        self.assertEqual((answer["rule"], answer["exchange"], answer["key"]), ("orders", "orders", "order.17.created"))

    def test_a_filter_becomes_a_binding_of_every_rule_that_it_meets(self):
        plans = self.ask("stomp", "subscribe", "/chat/+")["plans"]
        self.assertEqual([(p["rule"], p["exchange"], p["key"]) for p in plans],
                         [("chat", "chat", "chat.*"), ("built-in", "amq.topic", "chat.*")])

    def test_a_delivery_reaches_one_address_per_protocol(self):
        done = headgate("route", "-c", SHIPPED, "amqp", "deliver", "telemetry", "sensor.a.b")
        self.assertEqual(done.returncode, 0)
        self.assertEqual([line.split()[:2] for line in done.stdout.splitlines()],
                         [["mqtt", "Sensor/a/b"], ["stomp", "Sensor/a/b"], ["http", "Sensor/a/b"]])

    def test_a_question_that_makes_no_sense_is_refused(self):
        for question in (["mqtt"], ["mqtt", "publish", "a", "b", "c"], ["smtp", "publish", "a"], ["mqtt", "send", "a"],
                         ["mqtt", "publish", "a/#"], ["amqp", "deliver", "only-an-exchange"]):
            done = headgate("route", "-c", SHIPPED, *question)
            self.assertEqual(done.returncode, 1, question)
            self.assertNotEqual(done.stderr, "")


class RouteMeetsTheGateway(E2E):
    def test_the_answer_is_where_a_message_really_goes(self):
        more = '[[exchange]]\nname = "t"\ntype = "topic"\n[[rule]]\nname = "t"\ntopic = "t/{a}/{rest...}"\nexchange = "t"\n' \
               'key = "x.{a}.{rest...}"\n'
        gw = self.gateway(more)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("t")
        for address in ("t/a/b", "t/a", "t/a.b/c*d/e", "t/%2E/%", "t/ü/ ", "t/a/b/c/d/e"):
            answer = json.loads(headgate("route", "-c", gw.file, "--json", "mqtt", "publish", address).stdout)
            mosquitto_pub(gw.addresses["mqtt"], address, b"")
            method, _, _ = consumer.take()
            self.assertEqual((method.exchange, method.routing_key), (answer["exchange"], answer["key"]), address)
