# SPDX-License-Identifier: Apache-2.0
"""As a service: what systemd is told, who runs it, who may look, and how it was linked."""
import base64
import os
import pathlib
import pwd
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

from harness import E2E, Mailbox, headgate, http
from harness.gateway import ROOT


class Service(E2E):
    def notifications(self):
        """The path of a socket as systemd has it, and a mailbox of what is said there."""
        folder = tempfile.TemporaryDirectory(prefix="headgate-notify-")
        self.addCleanup(folder.cleanup)
        path = folder.name + "/notify"
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(ear.close)
        ear.bind(path)
        said = Mailbox("word to systemd")

        def listen():
            while (word := ear.recv(100)) != b"end":
                said.put(word.decode())

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(lambda: ear.sendto(b"end", path))
        return path, said

    def test_systemd_hears_ready_watchdog_and_stopping(self):
        path, said = self.notifications()
        gw = self.gateway(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "200000"})
        said.take(lambda word: word == "READY=1")
        for _ in range(3):
            said.take(lambda word: word == "WATCHDOG=1")
        gw.signal(signal.SIGTERM)
        said.take(lambda word: word == "STOPPING=1")

    def test_somebody_elses_watchdog_is_not_fed(self):
        path, said = self.notifications()
        gw = self.gateway(env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"})
        gw.signal(signal.SIGTERM)
        said.take(lambda word: word == "STOPPING=1")
        self.assertEqual(said.all(), ["READY=1"])

    @unittest.skipUnless(os.geteuid() == 0, "only root can become somebody else")
    def test_root_is_given_up_by_all_threads(self):
        gw = self.gateway("", "--set", "gateway.run_as=nobody",
                          env={"ASAN_OPTIONS": "detect_leaks=0"})  # LeakSanitizer may not look into such a process
        gw.wait_log("root.dropped", user="nobody")
        nobody = str(pwd.getpwnam("nobody").pw_uid)
        for status in pathlib.Path(f"/proc/{gw.process.pid}/task").glob("*/status"):
            fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
            self.assertEqual(fields["Uid"].split(), [nobody] * 4)
            self.assertEqual(fields["CapEff"], "0" * 16)
        self.assertEqual(http(gw.addresses["web"], "POST", "/v1/topics/a", b"x")[0], 202)

    def test_an_unknown_user_is_a_mistake(self):
        file = self.config_file('[gateway]\nrun_as = "no such one"\n[[listener]]\nserve = "mqtt"\nbind = "127.0.0.1:0"\n')
        done = headgate("check", "-c", file)
        self.assertEqual(done.returncode, 1)
        self.assertIn(f'{file}:2:10: run_as: there is no "no such one" here', done.stdout + done.stderr)

    def test_the_admin_listener_wants_its_token(self):
        token = "correct-horse-battery"
        gw = self.gateway(admin='token = "${ADMIN_TOKEN}"', env={"ADMIN_TOKEN": token})
        address = gw.addresses["admin"]
        basic = "Basic " + base64.b64encode(f"me:{token}".encode()).decode()
        for path in ("/metrics", "/api/status", "/api/connections", "/api/rules", "/"):
            for field, status in ((None, 401), ("Bearer " + token, 200), (basic, 200), ("Bearer " + token[:-1], 401),
                                  ("Bearer " + token + "x", 401), ("Basic " + token, 401), (token, 401), ("Bearer ", 401)):
                with self.subTest(path=path, field=field):
                    got, headers, _ = http(address, "GET", path, headers={"Authorization": field} if field else {})
                    self.assertEqual(got, status)
                    self.assertEqual("www-authenticate" in headers, status == 401)
        for path in ("/healthz", "/readyz"):
            self.assertIn(http(address, "GET", path)[0], (200, 503))
        self.assertNotIn(token, "\n".join(gw.output))

    def test_the_release_is_linked_against_exploits(self):
        release = ROOT / "build-release" / "headgate"
        done = subprocess.run(["readelf", "-hldW", str(release)], capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"Type:\s+DYN")
        self.assertRegex(done.stdout, r"GNU_RELRO")
        self.assertRegex(done.stdout, r"BIND_NOW")
        self.assertNotRegex(done.stdout, r"GNU_STACK.*E")
