# SPDX-License-Identifier: Apache-2.0
"""Starting and stopping: declared topology, mismatches, ports, signals."""
import signal
import socket

from harness import Consumer, E2E, Gateway, eventually, headgate
from harness.gateway import config_text


class Start(E2E):
    also_on_release = True

    def run_to_the_end(self, config):
        gw = Gateway(config, must_exit=None)
        self.addCleanup(gw.stop)
        gw.start(wait=False)
        return gw.wait(), gw

    def test_what_is_declared_exists_and_a_second_start_changes_nothing(self):
        more = """
[[exchange]]
name = "made"
type = "topic"
arguments = { alternate-exchange = "amq.fanout" }
[[queue]]
name = "made.q"
type = "quorum"
arguments = { x-delivery-limit = 3, x-dead-letter-exchange = "amq.fanout" }
bindings = [{ exchange = "made", key = "a.*" }]
"""
        for _ in range(2):
            gw = self.gateway(more)
            gw.stop()
        c = self.open(Consumer(self.amqp))
        c.publish("made", "a.b", b"body")
        self.assertEqual(c.take(queue="made.q")[2], b"body")

    def test_an_exchange_of_another_type_stops_the_start_with_rabbitmqs_reason(self):
        c = self.open(Consumer(self.amqp))
        c.channel.exchange_declare("mismatched", "fanout", durable=True)
        code, gw = self.run_to_the_end(config_text(self.amqp, '[[exchange]]\nname = "mismatched"\ntype = "topic"\n'))
        self.assertEqual(code, 1)
        self.assertIn("inequivalent arg 'type' for exchange 'mismatched'", gw.tail())
        self.assertIn("headgate.toml:", gw.tail())

    def test_a_queue_with_other_arguments_stops_the_start_with_rabbitmqs_reason(self):
        c = self.open(Consumer(self.amqp))
        c.channel.queue_declare("mismatched.q", durable=True, arguments={"x-message-ttl": 1000})
        code, gw = self.run_to_the_end(config_text(
            self.amqp, '[[queue]]\nname = "mismatched.q"\narguments = { x-message-ttl = 2000 }\n'))
        self.assertEqual(code, 1)
        self.assertIn("inequivalent arg 'x-message-ttl' for queue 'mismatched.q'", gw.tail())

    def test_what_must_exist_and_does_not_stops_the_start(self):
        for toml in ('[[exchange]]\nname = "absent"\ntype = "topic"\npassive = true\n',
                     '[[queue]]\nname = "absent"\npassive = true\n'):
            code, gw = self.run_to_the_end(config_text(self.amqp, toml))
            self.assertEqual(code, 1)
            self.assertIn("NOT_FOUND", gw.tail())

    def test_a_wrong_password_stops_the_start(self):
        code, gw = self.run_to_the_end(config_text(self.amqp.replace("guest:guest", "guest:wrong-word")))
        self.assertEqual(code, 1)
        self.assertIn("ACCESS_REFUSED", gw.tail())
        self.assertNotIn("wrong-word", gw.tail())

    def test_a_port_that_is_taken_stops_the_start(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            text = config_text(self.amqp).replace('"127.0.0.1:0"', f'"127.0.0.1:{port}"', 1)
            code, gw = self.run_to_the_end(text)
        self.assertIn(code, (1, 2))
        self.assertIn(str(port), gw.tail())

    def test_sigterm_and_sigint_end_it_with_zero(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            gw = self.gateway()
            gw.signal(number)
            self.assertEqual(gw.wait(), 0)

    def test_sigterm_ends_it_with_zero_while_it_still_waits_for_rabbitmq(self):
        with socket.socket() as nobody:  # bound, never listening: refused at once
            nobody.bind(("127.0.0.1", 0))
            gw = Gateway(config_text(f"amqp://127.0.0.1:{nobody.getsockname()[1]}"), must_exit=None)
            self.addCleanup(gw.stop)
            gw.start(wait=False)
            gw.wait_log("rabbitmq.unreachable")
            gw.signal(signal.SIGTERM)
            self.assertEqual(gw.wait(), 0)

    def test_the_admin_listener_says_ready_once_everything_is(self):
        gw = self.gateway()
        self.assertEqual(gw.admin("/healthz")[0], 200)
        eventually(lambda: gw.admin("/readyz")[0] == 200)

    def test_a_wrong_configuration_starts_nothing(self):
        done = headgate("run", "-c", self.config_file("workers = 1\n"))
        self.assertEqual(done.returncode, 1)
        self.assertIn('unknown key "workers"', done.stderr)
