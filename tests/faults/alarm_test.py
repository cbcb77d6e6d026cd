# SPDX-License-Identifier: Apache-2.0
"""RabbitMQ takes nothing for a while, for want of memory or disk, with clients of every protocol at work: nobody is ended, nothing repeated."""
from harness import E2E
from ledger import CONSUMERS, Ledger, PUBLISHERS

N = 2 * max(kind.window for kind in PUBLISHERS)


class Alarms(E2E):
    def alarm(self, raise_it, clear_it):
        gw = self.gateway()
        ledger = Ledger(self, gw)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        for _ in range(2):
            self.broker.eval(raise_it)
            try:
                gw.wait_log("rabbitmq.blocked")
                ledger.fill()
            finally:
                self.broker.eval(clear_it)
            gw.wait_log("rabbitmq.unblocked")
            ledger.flow(N)
        self.assertEqual([(c.name, c.last) for c in ledger.publishers + ledger.consumers if c.ends], [])
        self.assertEqual(gw.metric("headgate_upstream_disconnects_total"), 0)
        ledger.finish()
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))

    def test_for_memory_holds_publishers_and_repeats_nothing(self):
        self.alarm("vm_memory_monitor:set_vm_memory_high_watermark(0.0000001).", "vm_memory_monitor:set_vm_memory_high_watermark(0.4).")

    def test_for_disk_holds_publishers_and_repeats_nothing(self):
        self.alarm('rabbit_disk_monitor:set_disk_free_limit("100000GB").', 'rabbit_disk_monitor:set_disk_free_limit("50MB").')
