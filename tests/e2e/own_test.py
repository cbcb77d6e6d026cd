# SPDX-License-Identifier: Apache-2.0
"""Users whose messages go over connections of their own ([users] own_connection): RabbitMQ's permissions bind them."""
import json
import signal
import unittest

from harness import Consumer, E2E, Events, Gateway, Mqtt, Stomp, eventually, http
from harness import mqtt5 as m
from harness.gateway import config_text
from harness.peer import Peer
from harness.people import EVERYTHING, basic, line_of, user

WORDS = {"alice": "alices word", "bob": "bobs word", "carol": "carols word"}
OWN = ('[users]\nbroker = true\nown_connection = true\nown_connection_idle = "1s"\nmax_failures = 0\n'
       '[limits]\nmax_connections_per_user = 0\n')


class Own(E2E):
    """alice may everything under her own names; bob only read; carol nothing."""

    more = OWN
    workers = 1

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        for name, word in WORDS.items():
            cls.broker.ctl("add_user", name, word)
        mine = r"headgate\.user\.{}\..*|mqtt-subscription-.*|jobs|stomp-subscription-.*"
        for name, more_write, more_read in (("alice", r"|amq\.topic|open", r"|amq\.topic|open"), ("bob", "", r"|amq\.topic")):
            base = mine.format(name)
            cls.allow(name, f"^({base})$", f"^({base}{more_write})$", f"^({base}{more_read})$")
        cls.allow("carol", "^$", "^$", "^$")
        cls.gw = Gateway(config_text(cls.amqp, cls.more + EVERYTHING, workers=cls.workers)).start()
        cls.mqtt, cls.stomp, cls.web = (cls.gw.addresses[serve] for serve in ("mqtt", "stomp", "web"))

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        for name in WORDS:
            cls.broker.ctl("delete_user", name)
        super().tearDownClass()

    @classmethod
    def allow(cls, name, configure, write, read):
        cls.broker.ctl("set_permissions", "-p", cls.vhost, name, configure, write, read)

    def peer(self, name, level=5, **options):
        return self.open(Peer(self.mqtt, level=level, user=name, password=WORDS[name].encode(), **options))

    def stomp_client(self, name):
        return self.open(Stomp(self.stomp, login=name, passcode=WORDS[name]))

    def connections(self, name):
        """Of this user in RabbitMQ."""
        lines = self.broker.ctl("list_connections", "-q", "user", "name").splitlines()
        return [line for line in lines if line.split("\t")[0] == name]

    def realms(self):
        return self.gw.metric("headgate_own_realms")


class Messages(Own):
    def test_what_is_permitted_works_and_what_is_not_is_told(self):
        seen = self.open(Consumer(self.amqp))
        seen.bind("amq.topic", "#")
        for level in (4, 5):
            alice, bob = self.peer("alice", level), self.peer("bob", level)
            with self.subTest(level=level):
                bob.subscribe(("t/+", 1))
                alice.publish(f"t/{level}", b"from alice")
                self.assertEqual(bob.message().payload, b"from alice")
        print(self.connections("alice"), self.connections("bob"), self.realms())


if __name__ == "__main__":
    unittest.main()
