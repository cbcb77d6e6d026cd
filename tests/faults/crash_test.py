# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ and the gateway are killed, with clients of every protocol at work."""
from harness import E2E, Peer, Proxy
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

    def proxy(self):
        """Between gateways and RabbitMQ."""
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        return proxy

    def end(self, ledger, gw):
        ledger.flow()
        ledger.finish()
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))


class RabbitMQ(Books):
    """What it was told in its last moments, acknowledgements too, a RabbitMQ that is killed may not have written down."""

    def test_is_killed_and_the_books_add_up(self):
        proxy = self.proxy()
        gw = self.gateway(amqp=self.amqp_by(proxy))
        ledger = self.ledger(gw)
        proxy.hold("down")  # it has what nobody hears the confirm of
        ledger.fill()
        with ledger.broken("RabbitMQ killed", forgets_s=5):
            self.broker.halt(kill=True)
            proxy.cut()
            proxy.release("down")
        self.broker.boot()
        self.end(ledger, gw)


class Gateway(Books):
    def test_is_killed_and_started_again_and_the_books_add_up(self):
        proxy = self.proxy()
        gw = self.gateway(QUICK, amqp=self.amqp_by(proxy))
        ledger = self.ledger(gw)
        for _ in range(3):
            proxy.hold("down")
            ledger.fill()
            with ledger.broken("gateway killed", forgets_s=1):
                gw.kill()
                gw.wait()
            proxy.release("down")
            gw = self.gateway(QUICK, amqp=self.amqp_by(proxy))
            ledger.gateways[:] = [gw]
            ledger.flow()
        self.end(ledger, gw)

    def test_is_killed_and_its_clients_go_to_the_other_one_and_the_books_add_up(self):
        one, two = (self.gateway(QUICK, "--set", f"gateway.name={name}") for name in ("one", "two"))
        ledger = self.ledger(one, two)
        for turn in range(2):
            with ledger.broken("gateway killed", forgets_s=1):
                ledger.gateways.remove(one)
                one.kill()
                one.wait()
            ledger.flow()
            one, two = two, self.gateway(QUICK, "--set", f"gateway.name=again{turn}")
            ledger.gateways.append(two)
            ledger.flow()
        self.end(ledger, one)

    def test_is_killed_and_a_session_of_qos_1_is_not_asked_about_qos_2(self):
        def come(gw, **more):
            return Peer(gw.addresses["mqtt"], "qos1", clean=False, session_expiry=100, **more)

        gw = self.gateway(QUICK)
        come(gw).subscribe("qos1/#")
        gw.kill()
        gw.wait()
        gw = self.gateway(QUICK)
        peer = come(gw)
        self.assertTrue(peer.connack.present)
        peer.publish("qos1/a", b"x")
        self.assertEqual(peer.bodies(1), [b"x"])
        peer.leave()
        peer = self.open(come(gw))
        self.assertTrue(peer.connack.present)
        self.assertEqual(peer.fence(), [])  # no PUBREL: which clients of QoS 1 need not know
