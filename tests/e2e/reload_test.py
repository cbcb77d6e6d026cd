# SPDX-License-Identifier: Apache-2.0
"""SIGHUP: rules, users and limits change under those who are connected; what is wrong changes nothing."""
import collections
import signal
import threading
import time

from harness import Consumer, E2E, Events, Mqtt, Mqtt5, Stomp, eventually, http
from harness.clients import http_connection, http_request
from harness.gateway import config_text

EXCHANGES = "".join(f'[[exchange]]\nname = "r.{name}"\ntype = "{kind}"\n'
                    for name, kind in (("one", "topic"), ("two", "topic"), ("wide", "topic"), ("heads", "headers")))


def rule(name, exchange="r.one", topic=None, key=None, more=""):
    return (f'[[rule]]\nname = "{name}"\ntopic = "{topic or name + "/{x}"}"\nexchange = "{exchange}"\n'
            f'key = "{key or name + ".{x}"}"\n{more}\n')


class Reloading(E2E):
    """A gateway, and other words for its file."""

    def start(self, more, **options):
        self.options = options
        self.gw = self.gateway(more, **options)

    def write(self, more):
        self.gw.file.write_text(config_text(self.amqp, more, **self.options))

    def hup(self, event="reload.done"):
        self.gw.signal(signal.SIGHUP)
        return self.gw.wait_log(event)

    def reload(self, more, event="reload.done"):
        self.write(more)
        return self.hup(event)

    def mqtt(self, **options):
        return self.open(Mqtt(self.gw.addresses["mqtt"], **options))

    def mqtt5(self, *args, **options):
        return self.open(Mqtt5(self.gw.addresses["mqtt"], *args, **options))

    def stomp(self, **options):
        return self.open(Stomp(self.gw.addresses["stomp"], **options))

    def post(self, address, body=b"x", **headers):
        return http(self.gw.addresses["web"], "POST", f"/v1/topics/{address}", body, headers)[0]

    def status(self):
        return self.gw.admin("/api/status")[1]["configuration"]


class Rules(Reloading):
    def test_a_rule_comes_changes_and_goes_under_those_who_are_subscribed(self):
        self.start(EXCHANGES)
        subscriber, publisher, stomp = self.mqtt(), self.mqtt(), self.stomp()
        subscriber.subscribe("a/#")
        stomp.subscribe("/a/*")
        outside = self.open(Consumer(self.amqp))
        outside.bind("r.one")
        for more, key in (("", None), (rule("a"), "a.1"), (rule("a", key="other.{x}"), "other.1"), ("", None)):
            with self.subTest(key=key):
                self.reload(EXCHANGES + more)
                publisher.publish("a/1", b"x")
                self.assertEqual(subscriber.messages.take().topic, "a/1")
                self.assertEqual(stomp.messages.take().headers["destination"], "/a/1")
                if key is not None:
                    self.assertEqual(outside.take()[0].routing_key, key)
        self.assertEqual(self.status()["done"], 4)
        self.assertEqual(self.gw.metric("headgate_reloads_total", result="done"), 4)
        self.assertGreater(self.gw.metric("headgate_config_loaded_timestamp_seconds"), 0)

    def test_counters_follow_a_rules_name(self):
        self.start(EXCHANGES + rule("a") + rule("b"))
        client = self.mqtt()
        client.publish("a/1", b"x")
        self.reload(EXCHANGES + rule("b") + rule("c") + rule("a"))
        client.publish("a/1", b"x")
        client.publish("c/1", b"x")
        got = {name: self.gw.metric("headgate_rule_messages_in_total", rule=name) for name in "abc"}
        self.assertEqual(got, {"a": 2, "b": 0, "c": 1})
        self.assertEqual([r["messages_in"] for r in self.gw.admin("/api/rules")[1]], [0, 1, 2, 0])

    def test_retained_messages_are_found_by_the_new_rules(self):
        self.start(EXCHANGES + rule("a"))
        self.gw.wait_log("state.ready")
        client = self.mqtt()
        client.publish("a/1", b"kept", retain=True)
        self.reload(EXCHANGES + rule("a", topic="new/{x}"))
        other = self.mqtt()
        other.subscribe("new/+")
        self.assertEqual(other.messages.take().topic, "new/1")


if __name__ == "__main__":
    import unittest
    unittest.main()
