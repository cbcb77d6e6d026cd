# SPDX-License-Identifier: Apache-2.0
"""A site's MQTT broker: mosquitto as a process, on a free port that it keeps over restarts."""
import pathlib
import signal
import socket
import subprocess
import tempfile

from .wait import LIMIT_S, eventually


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Site:
    """Started once constructed. `lines` are added to its configuration; what it keeps is saved when it stops, and there again when it
    starts. It holds nothing back for want of acknowledgements: mosquitto 2.0.11, started anew, at times never sends what it had held."""

    def __init__(self, *lines):
        self.folder = tempfile.TemporaryDirectory(prefix="headgate-site-")
        self.path = pathlib.Path(self.folder.name)
        self.path.chmod(0o777)  # started by root, mosquitto runs as somebody else
        self.address = ("127.0.0.1", free_port())
        self.url = "mqtt://%s:%d" % self.address
        self.conf = self.path / "mosquitto.conf"
        self.conf.write_text("\n".join([
            f"listener {self.address[1]} {self.address[0]}", "allow_anonymous true", "persistence true", "log_type all",
            f"persistence_location {self.path}/", "max_queued_messages 100000", "max_inflight_messages 10000", *lines, ""]))
        self.process = None
        self.start()

    def start(self):
        self.log = open(self.path / "log", "ab")
        self.process = subprocess.Popen(["mosquitto", "-c", str(self.conf)], stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        eventually(self.is_open)

    def is_open(self):
        if self.process.poll() is not None:
            raise AssertionError("mosquitto has ended:\n" + (self.path / "log").read_text())
        with socket.socket() as s:
            return s.connect_ex(self.address) == 0

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(LIMIT_S)
        self.log.close()

    def restart(self):
        self.stop()
        self.start()

    def close(self):
        if self.process.poll() is None:
            self.stop()
        self.folder.cleanup()
