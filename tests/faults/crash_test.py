# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ and the gateway are killed, with clients of every protocol at work."""
import signal

from harness import E2E
from ledger import CONSUMERS, Ledger, PUBLISHERS

QUICK = '[state]\ndead_after = "1s"\n'


class Books(E2E):
    def ledger(self, *gateways):
        ledger = Ledger(self, *gateways)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        return ledger

    def end(self, ledger, gw):
        ledger.flow()
        ledger.finish()
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))


class RabbitMQ(Books):
    def test_is_killed_and_the_books_add_up(self):
        gw = self.gateway()
        ledger = self.ledger(gw)
        # What it was told in its last moments, acknowledgements too, a RabbitMQ that is killed may not have written down.
        with ledger.broken("RabbitMQ killed", forgets_s=5):
            self.broker.halt(kill=True)
        gw.wait_log("rabbitmq.lost")
        self.broker.boot()
        self.end(ledger, gw)

    def test_is_restarted_and_the_books_add_up(self):
        gw = self.gateway()
        ledger = self.ledger(gw)
        with ledger.broken("RabbitMQ stopped", forgets_s=5, is_long=True):
            self.broker.halt()
        self.broker.boot()
        self.end(ledger, gw)


class Gateway(Books):
    def test_is_killed_and_started_again_and_the_books_add_up(self):
        gw = self.gateway(QUICK)
        ledger = self.ledger(gw)
        for _ in range(3):
            with ledger.broken("gateway killed", forgets_s=1):
                gw.kill()
                gw.wait()
            gw = self.gateway(QUICK)
            ledger.gateways[:] = [gw]
            ledger.flow()
        self.end(ledger, gw)

    def test_is_killed_and_its_clients_go_to_the_other_one_and_the_books_add_up(self):
        one, two = (self.gateway(QUICK, "--set", f"gateway.name={name}") for name in ("one", "two"))
        ledger = self.ledger(one, two)
        for _ in range(2):
            with ledger.broken("gateway killed", forgets_s=1):
                ledger.gateways.remove(one)
                one.signal(signal.SIGKILL)
                one.must_exit = None
                one.wait()
            ledger.flow()
            one, two = two, self.gateway(QUICK, "--set", "gateway.name=again")
            ledger.gateways.append(two)
            ledger.flow()
        self.end(ledger, one)
