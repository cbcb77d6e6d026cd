# SPDX-License-Identifier: Apache-2.0
"""A million mutations of a recorded session, for each protocol, many at once, by the build that is shipped, and a part of them by the one
with the sanitizers: healthy clients go on, and nothing stays behind in the gateway or in RabbitMQ.

`scripts/test million`, with as many executions of each fuzz target; HEADGATE_MILLION says how many."""
import collections
import json
import os
import pathlib
import re
import subprocess
import time

from harness import Controls, E2E, eventually, gateway, raw, sessions
from harness.certificates import Authority
from harness.gateway import FREE_ENV, Gateway, config_text
from harness.wait import LIMIT_S
from private_rabbitmq import free_ports

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLAYER = ROOT / "tests" / "e2e" / "harness" / "player.py"
SANITIZED = os.environ.get("HEADGATE_SANITIZED_BINARY", str(ROOT / "build-asan" / "headgate"))
MILLION = int(os.environ.get("HEADGATE_MILLION", "1000000"))
SANITIZED_PART = 50     # one of so many is played to the build with the sanitizers, before
WARM_UP_PART = 20       # one of so many comes before memory is looked at
PLAYERS_N = 2
STEPS = 20              # between which healthy clients and the log are looked at
GROWTH, GROWTH_BYTES = 0.10, 8 << 20
LINES_PER_S, LINES_AT_ONCE = 30, 2000  # in the log, whatever comes
# What a mutation leaves to be kept, because it says so, is bounded and soon gone.
CONFIG = """
[mqtt]
max_session_expiry = "5s"
shared_expires = "5s"
[stomp]
queue_expires = "5s"
[state]
max_retained = 1000
"""
LISTENERS = """
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{}"
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{}"
proxy_protocol = true
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{}"
tls = {{ cert = "{}", key = "{}" }}
"""


class Million(E2E):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        authority = Authority()
        cls.addClassCleanup(authority.close)
        cls.pair = authority.make("localhost")

    def start(self, binary):
        ports = free_ports(3)
        config = config_text(self.amqp, CONFIG + LISTENERS.format(*ports, *self.pair), serves=("web", "stomp", "admin"))
        gw = Gateway(config, "--set", "gateway.log.level=info", binary=binary, env=FREE_ENV)
        self.addCleanup(gw.stop)
        gw.start()
        gw.addresses.update(zip(("mqtt", "proxied", "tls"), (("127.0.0.1", port) for port in ports)))
        eventually(lambda: gw.admin("/readyz")[0] == 200)
        return gw

    def recorded(self, gw, name):
        """The session as it is, which is answered: what the mutations start from is right."""
        session = (sessions.SESSIONS.get(name) or sessions.BEFORE[name])(0)
        with raw(gw.addresses[session.listener], b"".join(session.framed()[:1 if name == "tls" else -1])) as client:
            client.read_until(session.answer)

    def play(self, gw, name, first, end):
        """Mutations number `first` to `end`."""
        middle = [first + (end - first) * i // PLAYERS_N for i in range(PLAYERS_N + 1)]
        players = [subprocess.Popen(["/usr/bin/python3", str(PLAYER), name, str(a), str(b), json.dumps(gw.addresses)], stdout=subprocess.PIPE)
                   for a, b in zip(middle, middle[1:])]
        reports = [json.loads(player.communicate()[0] or '{"problems": ["the player ended"]}') for player in players]
        problems = [p for r in reports for p in r["problems"]]
        self.assertEqual(problems, [], gw.tail())
        self.assertIsNone(gw.process.poll(), gw.tail())
        self.assertEqual(sum(r["played_n"] for r in reports), end - first)
        self.slowest_s = max(self.slowest_s, *(r["slowest_s"] for r in reports))

    def left(self):
        """What the gateway has in RabbitMQ: queues by the kind that their name tells, and bindings. The queues that STOMP clients name
        in /queue/… are theirs."""
        names = re.findall(r'<<"([^"]*)">>', self.broker.eval(
            f'[N || {{resource, _, queue, N}} <- rabbit_amqqueue:list_names(<<"{self.vhost}">>)].'))
        own = sorted(n for n in names if n.startswith("headgate."))
        bindings = self.broker.eval(
            f'length([B || B <- rabbit_binding:list(<<"{self.vhost}">>), element(4, element(4, B)) =/= element(3, B)]).')
        return own, int(re.sub(r"\D", "", bindings)), len(names) - len(own)

    def no_more_than(self, own, bindings):
        now, bindings_now, _ = self.left()
        return set(now) <= set(own) and bindings_now <= bindings

    def at_rest(self, gw, others_n=0):
        """Nobody is connected but who asks, and so many healthy clients."""
        def nobody_else():
            here = gw.admin("/api/connections")[1]
            assert len(here) == others_n + 1, here
            return True
        eventually(nobody_else)

    def run_part(self, kind, binary, name, n):
        gw = self.start(binary)
        warm_up = max(200, n // WARM_UP_PART)
        self.slowest_s = 0
        self.recorded(gw, name)
        self.play(gw, name, n, n + warm_up)  # mutations that are not played again
        self.at_rest(gw)
        before = gw.memory()
        memory, lines, began = [], collections.Counter(), time.monotonic()
        with Controls(gw, late_s=LIMIT_S) as controls:
            own, bindings, _ = self.left()  # of the warm-up something may still be about to go
            for step in range(STEPS):
                self.play(gw, name, n * step // STEPS, n * (step + 1) // STEPS)
                controls.check()
                memory.append(gw.memory())
                lines.update(str(json.loads(line).get("event")) + ": " + str(json.loads(line).get("rule")) for line in gw.output)
                del gw.output[:]
                gw.events.items.clear()
            took = time.monotonic() - began
            self.at_rest(gw, Controls.CONNECTIONS_N)
            eventually(lambda: self.no_more_than(own, bindings))
            worst_s = max(c.worst_s for c in controls.clients)
            rounds = sum(c.rounds for c in controls.clients)
        self.assertLess(lines.total(), LINES_PER_S * took + LINES_AT_ONCE, lines.most_common(20))
        self.assertEqual(gw.admin("/readyz")[0], 200)
        self.recorded(gw, name)
        after = gw.memory()
        print(f"        {name}, {kind}: {n} mutations in {took:.0f} s ({n / took:.0f} a second), memory {before / 2**20:.1f}, "
              f"{memory[STEPS // 2] / 2**20:.1f} at half, {after / 2**20:.1f} MiB, the slowest {self.slowest_s:.1f} s, "
              f"{lines.total() / took:.1f} log lines a second, healthy clients {rounds} times around, "
              f"the slowest {worst_s:.2f} s", flush=True)
        self.assertLess(after, before * (1 + GROWTH) + GROWTH_BYTES)
        gw.stop()

    def million(self, name):
        self.run_part("sanitizers", SANITIZED, name, MILLION // SANITIZED_PART)
        self.run_part("release", gateway.BINARY, name, MILLION)


for _name in (*sessions.SESSIONS, *sessions.BEFORE):
    setattr(Million, f"test_of_{_name}", lambda self, name=_name: self.million(name))
