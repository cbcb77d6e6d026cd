# SPDX-License-Identifier: Apache-2.0
"""SIGTERM under load: whoever is there is told goodbye in his protocol's words, and what was begun is ended: nothing is published twice."""
import signal

from harness import E2E
from ledger import CONSUMERS, Ledger, PUBLISHERS

SHUTTING_DOWN = 0x8B


class Drain(E2E):
    def test_under_load_says_goodbye_and_the_books_add_up(self):
        one, two = (self.gateway("", "--set", f"gateway.name={name}") for name in ("one", "two"))
        ledger = Ledger(self, one, two)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        for turn in range(3):
            goodbyes = {c: len(c.ends) for c in ledger.publishers + ledger.consumers}
            # Only deliveries may come twice: what a client had not acknowledged when it was told to go.
            with ledger.broken("SIGTERM", forgets_s=1, unconfirms=False):
                ledger.gateways.remove(one)
                one.signal(signal.SIGTERM)
                self.assertEqual(one.wait(), 0)
            ledger.flow()
            self.assertEqual([e for e in one.events.all() if e["event"] == "drain.unfinished"], [])
            self.check_goodbyes({c: c.ends[n:] for c, n in goodbyes.items()})
            one, two = two, self.gateway("", "--set", f"gateway.name=again{turn}")
            ledger.gateways.append(two)
            ledger.flow()
        ledger.finish()
        ledger.assert_at_rest(one)
        print("        " + ledger.prove(self.amqp))

    def check_goodbyes(self, ends):
        for client, how in ends.items():
            for _, e in how:
                last = e.args[0]
                if client.serve == "mqtt" and client.level == 5:
                    self.assertEqual(getattr(last, "reason", last), SHUTTING_DOWN, client.name)
                elif client.serve == "stomp":
                    self.assertEqual(last.get("message") if hasattr(last, "get") else last, "server is shutting down", client.name)
