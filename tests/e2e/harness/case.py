# SPDX-License-Identifier: Apache-2.0
"""The base of every end-to-end test."""
import pathlib
import tempfile
import unittest

from . import broker as brokers
from .gateway import Gateway, config_text


class E2E(unittest.TestCase):
    """A class gets a virtual host of its own in the shared RabbitMQ; a test starts the gateways that it wants."""

    also_on_release = False  # run once more against the release build
    needs_broker = True
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        if cls.needs_broker:
            cls.broker = brokers.shared()
            cls.vhost = cls.__name__
            brokers.add_vhost(cls.broker, cls.vhost)
            cls.amqp = f"amqp://guest:guest@127.0.0.1:{cls.broker.port}/{cls.vhost}"

    @classmethod
    def tearDownClass(cls):
        if cls.needs_broker:
            brokers.delete_vhost(cls.broker, cls.vhost)

    def gateway(self, more="", *args, amqp=None, env=None, wait=True, must_exit=0, **options):
        """A running gateway with all listeners on free ports; stopped and checked when the test ends. `more` is TOML to append;
        options are config_text's (workers, rabbitmq, serves, web, mqtt, stomp, admin)."""
        gw = Gateway(config_text(amqp or self.amqp, more, **options), *args, env=env, must_exit=must_exit)
        self.addCleanup(gw.stop)
        return gw.start(wait)

    def amqp_by(self, proxy):
        """RabbitMQ's address by way of a Proxy."""
        return self.amqp.replace(f":{self.broker.port}/", f":{proxy.port}/")

    def config_file(self, text):
        """The path of a configuration with this text."""
        folder = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        self.addCleanup(folder.cleanup)
        path = pathlib.Path(folder.name) / "headgate.toml"
        path.write_text(text)
        return str(path)

    def open(self, client):
        """Closes a client when the test ends, before its gateway: self.open(Mqtt(gw.addresses["mqtt"]))."""
        self.addCleanup(client.close)
        return client
