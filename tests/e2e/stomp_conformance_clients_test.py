# SPDX-License-Identifier: Apache-2.0
"""STOMP clients as people have them: stomp.js of two major versions and webstomp-client, in Node and in Chromium; stomp.py."""
import pathlib
import unittest

from harness import Stomp, StompConformance, browser, conforms

MODULES = pathlib.Path(__file__).resolve().parent / "node_modules"
# name: (what Node requires, what a page loads, whether it is webstomp-client)
LIBRARIES = {"stomp.js 7": ("@stomp/stompjs", "@stomp/stompjs/bundles/stomp.umd.js", False),
             "stomp.js 6": ("stompjs6", "stompjs6/bundles/stomp.umd.js", False),
             "webstomp-client": ("webstomp-client", "webstomp-client/dist/webstomp.js", True)}


class Talk:
    """What browser/stompjs.mjs does and says."""

    def talk(self, name, is_in_node, with_binary=False):
        module, bundle, is_webstomp = LIBRARIES[name]
        own = "a b" if is_webstomp else "a:b\nc"  # it knows nothing of escapes
        key = self.name()
        result = browser.run("stompjs", url="ws://{}:{}/ws".format(*self.addresses["web"]), host=self.vhost, topic=f"/topic/{key}",
                             queue=f"/queue/{key}", own=own, isWebstomp=is_webstomp, withBinary=with_binary, inNode=is_in_node,
                             library=module if is_in_node else str(MODULES / bundle))
        self.assertEqual(result["version"], "1.2")
        self.assertEqual(result["text"], {"body": "grüße ✓", "own": own, "type": "text/plain", "destination": f"/topic/{key}"})
        self.assertEqual(result["again"], {"body": "again", "redelivered": "true"})
        self.assertEqual(result["committed"], "in a transaction")
        if with_binary:
            self.assertEqual(bytes(result["binary"]), bytes(range(256)))


class Node(Talk, StompConformance):
    @conforms(plugin="clients")
    def test_in_node(self):
        for name in LIBRARIES:
            with self.subTest(name):
                self.talk(name, True)


class Chromium(Talk, StompConformance):
    """A browser closes a WebSocket whose text is not UTF-8, as the plugin's may be."""
    also_against_plugin = False

    @conforms(plugin="clients")
    def test_in_chromium(self):
        for name in LIBRARIES:
            with self.subTest(name):
                self.talk(name, False, with_binary=not LIBRARIES[name][2])


class StompPy(StompConformance):
    def check(self, **options):
        client = self.open(Stomp(self.addresses["web" if "path" in options else "stomp"], host=self.vhost, **options))
        client.connection.vhost = self.vhost
        key = self.name()
        client.subscribe(f"/topic/{key}", "topic")
        client.send(f"/topic/{key}", "grüße".encode(), "text/plain", **{"x-own": "a"})
        frame = client.messages.take()
        self.assertEqual((frame.body.decode(), frame.headers["x-own"], frame.headers["content-type"]), ("grüße", "a", "text/plain"))
        client.send(f"/topic/{key}", bytes(range(256)))
        self.assertEqual(client.messages.take().body, bytes(range(256)))
        client.subscribe(f"/queue/{key}", "queue", ack="client")
        client.send(f"/queue/{key}", b"x")
        headers = client.messages.take().headers
        receipt = client.receipt_id()
        if "ack" in headers:
            client.connection.ack(headers["ack"], receipt=receipt)
        elif options.get("version") == "1.0":
            client.connection.ack(headers["message-id"], receipt=receipt)
        else:
            client.connection.ack(headers["message-id"], "queue", receipt=receipt)
        client.receipts.take(lambda r: r == receipt)
        client.unsubscribe("queue")

    @conforms(plugin="clients")
    def test_each_version_over_tcp(self):
        for version in ("1.1", "1.2"):
            with self.subTest(version):
                self.check(version=version)

    @conforms(plugin="host-absent")
    def test_1_0_which_sends_no_virtual_host(self):
        self.check(version="1.0")

    @conforms(plugin="clients")
    def test_over_a_websocket(self):
        self.check(path="/ws")


if __name__ == "__main__":
    unittest.main()
