# SPDX-License-Identifier: Apache-2.0
"""The shortest way through everything: one message by each protocol, seen by each other one and by RabbitMQ's own client."""
import pathlib

from harness import Consumer, E2E, MosquittoSub, Mqtt, Proxy, Stomp, browser, http, mosquitto_pub

RULE = """
[[exchange]]
name = "chat"
type = "topic"
[[rule]]
name = "chat"
topic = "chat/{room}"
exchange = "chat"
key = "chat.{room}"
"""
STOMP_JS = pathlib.Path(__file__).parent / "node_modules" / "@stomp" / "stompjs" / "bundles" / "stomp.umd.min.js"


class Smoke(E2E):
    also_on_release = True

    def test_a_message_by_each_protocol_reaches_all_the_others(self):
        gw = self.gateway(RULE)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("chat", "chat.#")
        paho = self.open(Mqtt(gw.addresses["mqtt"]))
        self.assertEqual(paho.subscribe("chat/+"), [1])
        mosquitto = self.open(MosquittoSub(gw.addresses["mqtt"], "chat/#"))
        stomp = self.open(Stomp(gw.addresses["stomp"]))
        stomp.subscribe("/chat/*")

        mosquitto_pub(gw.addresses["mqtt"], "chat/a", b"by mosquitto")
        paho.publish("chat/a", b"by paho")
        stomp.send("/chat/a", b"by stomp.py")
        status, _, _ = http(gw.addresses["web"], "POST", "/v1/topics/chat/a", b"by HTTP")
        self.assertEqual(status, 202)
        consumer.publish("chat", "chat.a", b"by pika")

        sent = {b"by mosquitto", b"by paho", b"by stomp.py", b"by HTTP", b"by pika"}
        self.assertEqual({m.payload for m in paho.messages.take_n(5)}, sent)
        self.assertEqual({body for _, _, body in mosquitto.messages.take_n(5)}, sent)
        self.assertEqual({frame.body for frame in stomp.messages.take_n(5)}, sent)
        self.assertEqual({body for _, _, body in consumer.take_n(5)}, sent)

    def test_stomp_js_in_a_browser_sends_and_receives(self):
        gw = self.gateway(RULE, web='origins = ["*"]')  # the page has none
        host, port = gw.addresses["web"]
        got = browser.run("stomp_echo", library=str(STOMP_JS), url=f"ws://{host}:{port}/ws", destination="/chat/browser",
                          body="grüße ✓")
        self.assertEqual(got, {"body": "grüße ✓", "destination": "/chat/browser", "receipt": True})

    def test_the_link_to_rabbitmq_may_pass_a_proxy_that_cuts_it(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(RULE, amqp=self.amqp_by(proxy))
            paho = self.open(Mqtt(gw.addresses["mqtt"]))
            paho.subscribe("chat/#")
            paho.publish("chat/a", b"before")
            self.assertEqual(paho.messages.take().payload, b"before")
            proxy.cut()
            paho.publish("chat/a", b"after")
            self.assertEqual(paho.ends.all(), [])
            gw.stop()
