# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ's password in a file that somebody renews: OAuth 2 tokens of a few seconds, while traffic goes on."""
import itertools
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
import unittest

from harness import Consumer, E2E, Mqtt, eventually, headgate
from harness.gateway import config_text
from harness.tokens import Issuer
from private_rabbitmq import PrivateRabbitMQ

LASTS_S = 10
SCOPE = ["rabbitmq.configure:*/*", "rabbitmq.write:*/*/*", "rabbitmq.read:*/*/*"]


@unittest.skipUnless(shutil.which("openssl"), "signs its tokens with openssl")
class OAuth2(E2E):
    needs_broker = False

    @classmethod
    def setUpClass(cls):
        cls.issuer = Issuer()
        cls.issuer.path.chmod(0o755)  # RabbitMQ may run as somebody else
        cls.folder = tempfile.mkdtemp(prefix="headgate-oauth2-")
        cls.rabbitmq = PrivateRabbitMQ(cls.folder, plugins=["rabbitmq_auth_backend_oauth2"], settings=[
            "auth_backends.1 = rabbit_auth_backend_oauth2", "auth_backends.2 = internal", "auth_oauth2.resource_server_id = rabbitmq",
            "auth_oauth2.default_key = k1", f"auth_oauth2.signing_keys.k1 = {cls.issuer.rsa}", "auth_oauth2.algorithms.1 = RS256"])
        cls.rabbitmq.start()

    @classmethod
    def tearDownClass(cls):
        cls.rabbitmq.stop()
        shutil.rmtree(cls.folder, ignore_errors=True)
        cls.issuer.close()

    def setUp(self):
        self.secret = pathlib.Path(self.issuer.folder.name) / self._testMethodName

    def token(self, lasts_s=LASTS_S):
        return self.issuer.token("gateway", algorithm="RS256", header={"kid": "k1"}, aud="rabbitmq", scope=SCOPE, client_id="gateway",
                                 jti=os.urandom(4).hex(), exp=int(time.time()) + lasts_s)

    def renew(self, token):
        """As a sidecar does it: whole, by renaming."""
        new = self.secret.with_suffix(".new")
        new.write_text(token + "\n")
        os.replace(new, self.secret)

    def start(self, **options):
        return self.gateway(amqp=f"amqp://gateway@127.0.0.1:{self.rabbitmq.port}/%2f", rabbitmq=f'password_file = "{self.secret}"', **options)

    def test_tokens_are_renewed_while_traffic_goes_on(self):
        self.renew(self.token())
        gw = self.start(workers=2)
        links = eventually(lambda: gw.metric("headgate_upstream_connects_total"))
        consumer = self.open(Consumer(self.rabbitmq.url))
        consumer.bind("amq.topic", "t.#")
        client = self.open(Mqtt(gw.addresses["mqtt"]))
        client.subscribe("t/#")
        is_over = threading.Event()
        sent = []

        def publish():
            for i in itertools.count():
                if is_over.wait(0.05):
                    return
                client.publish(f"t/{i}", b"%d" % i)
                sent.append(b"%d" % i)

        publisher = threading.Thread(target=publish)
        publisher.start()
        end = time.time() + LASTS_S + 2  # the first token is over by then
        try:
            for n in (1, 2):
                taken = gw.metric("headgate_secrets_taken_total")
                self.renew(self.token(LASTS_S if n == 1 else 600))
                eventually(lambda: gw.metric("headgate_secrets_taken_total") >= taken + links)
            eventually(lambda: time.time() > end)
            before = len(sent)
            eventually(lambda: len(sent) > before + 10)
        finally:
            is_over.set()
            publisher.join()
        self.assertEqual([consumer.take()[2] for _ in sent], sent)
        self.assertEqual([bytes(m.payload) for m in client.messages.take_n(len(sent))], sent)
        self.assertEqual(gw.metric("headgate_upstream_disconnects_total"), 0)
        self.assertEqual(gw.metric("headgate_secrets_refused_total"), 0)
        self.assertNotIn("eyJ", "\n".join(gw.output))

    def test_a_refused_token_is_said_and_the_next_one_taken(self):
        self.renew(self.token(600))
        gw = self.start()
        stays = self.open(Mqtt(gw.addresses["mqtt"]))
        good = self.token(600)
        self.renew(good[:-8] + "AAAAAAAA")
        refused = gw.wait_log("rabbitmq.secret_refused")
        self.assertEqual(refused["code"], 530)
        self.assertGreater(gw.metric("headgate_secrets_refused_total"), 0)
        gw.wait_log("rabbitmq.unreachable")
        self.renew(good)
        gw.signal(signal.SIGHUP)
        eventually(lambda: gw.admin("/readyz")[0] == 200)
        stays.publish("a", b"still here")
        self.secret.unlink()
        self.assertEqual(gw.wait_log("rabbitmq.secret_kept")["reason"], "No such file or directory")

    def test_a_start_waits_for_a_good_token(self):
        self.renew(self.token(-100))
        gw = self.start(wait=False)
        self.assertIn("ACCESS_REFUSED", gw.wait_log("rabbitmq.unreachable")["reason"])
        self.renew(self.token(600))
        gw.wait_ready()


class Mistakes(E2E):
    needs_broker = False

    def test_a_file_that_is_not_there_has_a_line(self):
        path = self.config_file(config_text("amqp://a@b", rabbitmq='password_file = "/nowhere"'))
        done = headgate("check", "-c", path)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f'{path}:9:17: password_file "/nowhere": No such file or directory', done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
