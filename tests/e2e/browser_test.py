# SPDX-License-Identifier: Apache-2.0
"""Pages in headless Chromium, served by the gateway itself, meet MQTT, HTTP and AMQP clients."""
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import tempfile

from harness import Consumer, E2E, MosquittoSub, browser, mosquitto_pub
from harness.wait import LIMIT_S

HERE = pathlib.Path(__file__).resolve().parent
STOMP_JS = HERE / "node_modules" / "@stomp" / "stompjs" / "bundles" / "stomp.umd.min.js"
CHAT = HERE.parents[1] / "examples" / "chat" / "public"
EVERY_BYTE = bytes(range(256))
EMPTY_PAGE = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script src="stomp.js"></script>'
RULES = "".join(f"""
[[exchange]]
name = "{name}"
type = "topic"
[[rule]]
name = "{name}"
topic = "{name}/{{room}}"
exchange = "{name}"
key = "{name}.{{room}}"
""" for name in ("meet", "chat"))


class Browser(E2E):
    def serve(self, folder):
        """A gateway that serves a copy of this folder (None: an empty page) with stomp.js in it."""
        site = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        self.addCleanup(site.cleanup)
        root = pathlib.Path(site.name)
        if folder is None:
            (root / "index.html").write_text(EMPTY_PAGE)
        else:
            shutil.copytree(folder, root, dirs_exist_ok=True)
        shutil.copy(STOMP_JS, root / "stomp.js")
        gw = self.gateway(f'[http]\nstatic = "{root}"\n' + RULES)
        self.url = f"http://127.0.0.1:{gw.port('web')}/"
        return gw

    def restart(self, gw):
        """The same gateway once more, on the same port, so that pages find it."""
        gw.stop()
        self.gateway(RULES, "--set", f"listener.0.bind=127.0.0.1:{gw.port('web')}")

    def start(self, script, **args):
        """Runs a browser script beside the test; result() waits for its end."""
        pool = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(pool.shutdown)
        return pool.submit(browser.run, script, **args)

    def curl(self, path, body):
        command = ["curl", "-sS", "--fail-with-body", "--data-binary", "@-", "-H", "Content-Type: text/plain", self.url + path]
        done = subprocess.run(command, input=body, capture_output=True, check=True, timeout=LIMIT_S)
        self.assertIn(b'"exchange"', done.stdout)

    def test_a_page_mosquitto_curl_and_amqp_meet_in_one_exchange(self):
        gw = self.serve(None)
        mosquitto = self.open(MosquittoSub(gw.addresses["mqtt"], "meet/+"))
        pika = self.open(Consumer(self.amqp))
        pika.bind("meet", "meet.room")
        page = self.start("meet", url=self.url, destination="/meet/room", text="by the page ✓", expected=5)
        by_page = ["by the page ✓".encode(), EVERY_BYTE]
        self.assertEqual(mosquitto.messages.take_n(2), [("meet/room", 1, by_page[0]), ("meet/room", 0, by_page[1])])
        method, properties, body = pika.take()
        self.assertEqual((method.routing_key, properties.content_type, properties.delivery_mode, properties.headers, body),
                         ("meet.room", "text/plain", 2, {"x-from": "the page"}, by_page[0]))
        self.assertEqual(pika.take()[2], EVERY_BYTE)

        others = [b"by mosquitto", EVERY_BYTE[::-1], b"by pika"]
        mosquitto_pub(gw.addresses["mqtt"], "meet/room", others[0])
        self.curl("v1/topics/meet/room", others[1])
        pika.publish("meet", "meet.room", others[2])
        got = page.result()
        self.assertEqual(got["version"], "1.2")
        self.assertEqual([bytes.fromhex(m["hex"]) for m in got["messages"]], by_page + others)
        self.assertEqual({m["destination"] for m in got["messages"]}, {"/meet/room"})
        self.assertEqual(got["messages"][0]["headers"]["x-from"], "the page")
        self.assertEqual([mosquitto.messages.take()[2] for _ in others], others)
        self.assertEqual([pika.take()[2] for _ in others], others)

    def test_two_people_a_phone_and_a_script_talk_in_a_chat_room(self):
        gw = self.serve(CHAT)
        phone = self.open(MosquittoSub(gw.addresses["mqtt"], "chat/lobby"))
        # HEADGATE_TEST_SCREENSHOT=FILE keeps a picture of the page.
        picture = os.environ.get("HEADGATE_TEST_SCREENSHOT")
        pages = self.start("chat", url=self.url + "#lobby", expected=4, screenshot=picture)
        said = [phone.messages.take()[2].decode() for _ in range(2)]
        self.assertEqual(said, ['{"from":"Anna","text":"Hello Ben, <b>grüße</b> ✓"}', '{"from":"Ben","text":"Hello Anna"}'])
        mosquitto_pub(gw.addresses["mqtt"], "chat/lobby", b"hello from a phone")
        self.curl("v1/topics/chat/lobby", b'{"from": "curl", "text": "hello from a script"}')
        got = pages.result()
        lines = [("Anna", "Hello Ben, <b>grüße</b> ✓"), ("Ben", "Hello Anna"), ("Somebody", "hello from a phone"),
                 ("curl", "hello from a script")]
        for person, name in (("anna", "Anna"), ("ben", "Ben")):
            self.assertEqual([(m["by"], m["text"], m["isMine"]) for m in got[person]],
                             [(by, text, by == name) for by, text in lines])
        self.assertEqual(got["notice"], "")

    def test_the_chat_page_comes_back_to_a_gateway_that_was_away(self):
        gw = self.serve(CHAT)
        watcher = self.open(MosquittoSub(gw.addresses["mqtt"], "chat/lobby"))
        page = self.start("chat_again", url=self.url + "#lobby")
        watcher.messages.take()
        self.restart(gw)
        self.assertEqual(page.result(), {"states": ["connecting", "connected"] * 2, "texts": ["here", "here again"]})
