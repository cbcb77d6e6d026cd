# SPDX-License-Identifier: Apache-2.0
"""A cluster of three nodes and quorum queues, one node of which is stopped, killed, frozen and cut off, with clients of every protocol at
work: the pause is bounded, and the books add up. A queue whose node goes rejects what RabbitMQ was about to write there, which closes MQTT
3.1.1 and STOMP clients; nobody else is disconnected."""
import contextlib
import time

from cluster import Cluster, TICK_S
from harness import E2E, eventually, Mqtt
from harness.wait import LIMIT_S
from ledger import CONSUMERS, Ledger, PUBLISHERS

MOST_PAUSE_S = 60
CONFIG = '[mqtt]\nsession_queue = "quorum"\n'


class Books(E2E):
    needs_broker = False

    @classmethod
    def setUpClass(cls):
        cls.broker = cls.enterClassContext(Cluster())
        cls.vhost, cls.amqp = "/", cls.broker.amqp

    def lost_n(self, gw):
        return gw.metric("headgate_upstream_disconnects_total")

    def used(self, gw):
        """The node that has the first worker's feed."""
        ports = [e["port"] for e in gw.events.all() if e["event"] == "rabbitmq.connected" and e["link"].endswith("worker 0 feed")]
        return next(node for node in self.broker.nodes if node.port == ports[-1])

    @contextlib.contextmanager
    def fault(self, what, gw, ledger):
        """Around a fault and its end. From inside on everybody must come on, with the node away, and once it is back."""
        lost_n, began = self.lost_n(gw), time.monotonic()
        with ledger.broken(what, forgets_s=10, is_long=True, rejects=True):
            yield
            ledger.flow(limit_s=2 * LIMIT_S)
        pauses = ledger.pauses(began)
        print(f"        {what}: {self.lost_n(gw) - lost_n:.0f} links lost, nothing acknowledged for at most {max(pauses.values()):.1f} s")
        self.assertLess(max(pauses.values()), MOST_PAUSE_S, pauses)

    def test_add_up_whatever_happens_to_a_node(self):
        gw = self.gateway(CONFIG, amqp=self.broker.endpoints(), rabbitmq='heartbeat = "2s"')
        ledger = Ledger(self, gw)
        ledger.declare(self.amqp, "quorum")
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        listeners = [self.open(Mqtt(gw.addresses["mqtt"])) for _ in range(4)]  # by the feeds of both workers
        for listener in listeners:
            listener.subscribe(f"{ledger.address}/#")
        node = self.used(gw)
        with self.fault("a node stopped", gw, ledger):
            node.halt()
        with self.fault("it is back", gw, ledger):
            node.boot()
            eventually(self.broker.is_whole)
        node = self.used(gw)
        with self.fault("a node killed", gw, ledger):
            node.halt(kill=True)
        with self.fault("it is back", gw, ledger):
            node.boot()
            eventually(self.broker.is_whole)
        node = self.used(gw)
        with self.fault("a node cut off", gw, ledger):
            self.broker.cut_off(node)
        with self.fault("it is back", gw, ledger):
            self.broker.join_again(node)
            eventually(self.broker.is_whole)
        node = self.used(gw)
        with self.fault("a node frozen", gw, ledger):
            node.freeze()
            time.sleep(2 * TICK_S)  # until the others, too, have taken it for dead
        with self.fault("it is back", gw, ledger):
            node.thaw()
            eventually(self.broker.is_whole)
        ledger.flow()
        for listener in listeners:
            listener.messages.items.clear()
            listener.messages.take()
            self.assertEqual(listener.ends.all(), [])
        ledger.finish(2 * LIMIT_S)
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))
