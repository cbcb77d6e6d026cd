# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps, a day ahead and a day back, with clients of every protocol at work: nobody is ended, no lease runs out, nothing is
repeated. Whatever waits goes by the monotonic clock."""
import datetime
import pathlib
import struct
import subprocess
import tempfile
import time

from harness import E2E, Mqtt
from harness.gateway import SANITIZER_ENV
from ledger import CONSUMERS, Ledger, PUBLISHERS

DAY_S = 24 * 3600
SOURCE = pathlib.Path(__file__).with_name("wall_clock.c")


class Clock(E2E):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="headgate-clock-")
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "moved"
        self.file.write_bytes(struct.pack("q", 0))
        self.library = pathlib.Path(folder.name) / "wall_clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-D_GNU_SOURCE", "-o", self.library, SOURCE], check=True)

    def jump(self, seconds):
        with self.file.open("r+b") as file:
            file.write(struct.pack("q", seconds))

    def test_that_jumps_ends_nobody_and_repeats_nothing(self):
        env = {"LD_PRELOAD": str(self.library), "HEADGATE_TEST_CLOCK": str(self.file),
               "ASAN_OPTIONS": SANITIZER_ENV["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}
        gw = self.gateway(env=env)
        ledger = Ledger(self, gw)
        ledger.declare(self.amqp)
        ledger.consume(*CONSUMERS)
        ledger.publish(*PUBLISHERS)
        ledger.flow()
        for jump_s in (DAY_S, -DAY_S, 0):
            self.jump(jump_s)
            ledger.flow()
            gw.admin("/api/status")
            ledger.flow()
        self.jump(DAY_S)
        self.open(Mqtt(gw.addresses["mqtt"], "later"))
        seen = gw.wait_log("mqtt.connect", client="later")["time"]
        self.assertGreater(datetime.datetime.fromisoformat(seen).timestamp(), time.time() + DAY_S / 2)  # it has seen the jump
        self.assertLess(gw.metric("headgate_uptime_seconds"), DAY_S / 2)
        self.assertEqual([(c.name, c.last) for c in ledger.publishers + ledger.consumers if c.ends], [])
        self.assertEqual(gw.metric("headgate_leases_expired_total"), 0)
        self.assertEqual(gw.metric("headgate_upstream_disconnects_total"), 0)
        ledger.finish()
        ledger.assert_at_rest(gw)
        print("        " + ledger.prove(self.amqp))
