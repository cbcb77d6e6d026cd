# SPDX-License-Identifier: Apache-2.0
"""MQTT clients as people have them: MQTT.js in Node and in Chromium, mosquitto's own with both versions, paho."""
import pathlib
import subprocess

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from harness import E2E, MosquittoSub, Mqtt5, browser, mosquitto_pub
from harness.wait import LIMIT_S

MQTT_JS = pathlib.Path(__file__).resolve().parent / "node_modules" / "mqtt" / "dist" / "mqtt.min.js"
PAGE = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><title>MQTT</title>'


class MqttJs(E2E):
    def check(self, result, version, topic):
        self.assertEqual(result["granted"], [2])
        self.assertEqual([(m["topic"], m["text"], m["qos"]) for m in result["live"]],
                         [(f"{topic}/q{q}", f"body {q} ✓", q) for q in (0, 1, 2)])
        if version == 5:
            for m in result["live"]:
                self.assertEqual((m["properties"]["contentType"], m["properties"]["subscriptionIdentifier"]), ("text/plain", 7))
                self.assertEqual(m["properties"]["userProperties"]["from"], "mqtt.js")
        self.assertEqual([m["text"] for m in result["away"]], ["while away"])
        self.assertEqual([(m["text"], m["retain"]) for m in result["retained"]], [("retained", True)])

    def test_in_node_over_tcp(self):
        gw = self.gateway()
        for version in (4, 5):
            with self.subTest(version=version):
                url = "mqtt://{}:{}".format(*gw.addresses["mqtt"])
                result = browser.run("mqttjs", url=url, version=version, name=f"node{version}", topic=f"node/{version}")
                self.check(result, version, f"node/{version}")

    def test_in_chromium_over_a_websocket(self):
        gw = self.gateway(web='origins = ["*"]')  # the page has none
        for version in (4, 5):
            with self.subTest(version=version):
                url = "ws://{}:{}/mqtt".format(*gw.addresses["web"])
                result = browser.run("mqttjs", url=url, library=str(MQTT_JS), version=version, name=f"page{version}",
                                     topic=f"page/{version}")
                self.check(result, version, f"page/{version}")


class Mosquitto(E2E):
    def run_client(self, *command):
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_pub_and_sub_with_each_version_and_qos(self):
        gw = self.gateway()
        for version in ("mqttv311", "mqttv5"):
            for qos in (0, 1, 2):
                with self.subTest(version=version, qos=qos):
                    topic = f"m/{version}/{qos}"
                    sub = self.open(MosquittoSub(gw.addresses["mqtt"], topic, qos=qos, options=("-V", version)))
                    mosquitto_pub(gw.addresses["mqtt"], topic, b"hello", "-V", version, qos=qos)
                    self.assertEqual(sub.messages.take(), (topic, qos, b"hello"))

    def test_rr_gets_its_answer(self):
        gw = self.gateway()
        for version in ("mqttv311", "mqttv5"):
            with self.subTest(version=version):
                # The answering side: paho, which returns the correlation data to the response topic.
                service = self.open(Mqtt5(gw.addresses["mqtt"]))
                service.subscribe("service/up")

                def answer(client, _, message):
                    topic = getattr(message.properties, "ResponseTopic", "service/answer")
                    client.publish(topic, message.payload.upper(), 1, properties=self.correlation(message))

                service.client.on_message = answer
                out = self.run_client("mosquitto_rr", "-V", version, "-h", gw.addresses["mqtt"][0], "-p",
                                      str(gw.addresses["mqtt"][1]), "-t", "service/up", "-e", "service/answer", "-m", "shout",
                                      "-q", "1", "-W", str(int(LIMIT_S)))
                self.assertEqual(out.strip(), "SHOUT")

    @staticmethod
    def correlation(message):
        about = Properties(PacketTypes.PUBLISH)
        if hasattr(message.properties, "CorrelationData"):
            about.CorrelationData = message.properties.CorrelationData
        return about

    def test_retained_and_cleared(self):
        gw = self.gateway()
        address = ["-h", gw.addresses["mqtt"][0], "-p", str(gw.addresses["mqtt"][1])]
        mosquitto_pub(gw.addresses["mqtt"], "r/a", b"one", "-r", "-V", "mqttv5")
        out = self.run_client("mosquitto_sub", *address, "-t", "r/#", "-C", "1", "-F", "%t %p %r")
        self.assertEqual(out.strip(), "r/a one 1")
        self.run_client("mosquitto_pub", *address, "-t", "r/a", "-r", "-n", "-q", "1")
        self.run_client("mosquitto_pub", *address, "-t", "r/b", "-r", "-m", "two", "-q", "1")
        out = self.run_client("mosquitto_sub", *address, "-t", "r/#", "-C", "1", "-F", "%t %p %r")
        self.assertEqual(out.strip(), "r/b two 1")
