# SPDX-License-Identifier: Apache-2.0
"""The gateway as a process: with a configuration of its own, on free ports, and watched until its end."""
import http.client
import json
import os
import pathlib
import signal
import subprocess
import tempfile
import threading

from .wait import LIMIT_S, Mailbox

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("HEADGATE_BINARY", str(ROOT / "build-asan" / "headgate"))
SANITIZER_ENV = {
    "ASAN_OPTIONS": "detect_leaks=1:exitcode=86:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:exitcode=87",
}
# For a gateway whose memory() is looked at: what is freed shall be free.
FREE_ENV = {"ASAN_OPTIONS": "detect_leaks=1:exitcode=86:quarantine_size_mb=1:thread_local_quarantine_size_kb=64"}

BASE = """
[gateway]
name = "e2e"
workers = {workers}
log = {{ level = "debug", format = "json" }}
drain_timeout = "5s"
[rabbitmq]
endpoints = ["{amqp}"]
{rabbitmq}
{listeners}
"""
SERVES = ("web", "mqtt", "stomp", "admin")


def headgate(*args, env=None, binary=None, limit_s=None):
    """Runs a command of headgate to its end: returncode, stdout, stderr as text."""
    return subprocess.run([binary or BINARY, *map(str, args)], capture_output=True, text=True, check=False,
                          timeout=limit_s or LIMIT_S, env={**os.environ, **SANITIZER_ENV, **(env or {})})


def config_text(amqp, more="", workers=2, rabbitmq="", serves=SERVES, **listener):
    """A configuration with listeners on free ports. `more` is appended; rabbitmq="…" adds lines to its section, web="…", mqtt="…",
    stomp="…", admin="…" to a listener's."""
    listeners = "".join(f'[[listener]]\nserve = "{serve}"\nbind = "127.0.0.1:0"\n{listener.get(serve, "")}\n' for serve in serves)
    return BASE.format(workers=workers, amqp=amqp, rabbitmq=rabbitmq, listeners=listeners) + more


class Gateway:
    """with Gateway(text) as gw: … — started and ready inside, stopped and checked at the end."""

    def __init__(self, config, *args, env=None, binary=None, must_exit=0):
        self.folder = tempfile.TemporaryDirectory(prefix="headgate-e2e-")
        self.file = pathlib.Path(self.folder.name) / "headgate.toml"
        self.file.write_text(config)
        self.args = [binary or BINARY, "run", "-c", str(self.file), *args]
        self.env = {**os.environ, **SANITIZER_ENV, **(env or {})}
        self.must_exit = must_exit
        self.events = Mailbox("log line")  # each a dict
        self.output = []  # every line as it came
        self.process = None
        self.reader = None
        self.addresses = {}

    def start(self, wait=True):
        self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, env=self.env)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if wait:
            self.wait_ready()
        return self

    def read(self):
        for line in self.process.stderr:
            text = line.decode(errors="replace").rstrip("\n")
            self.output.append(text)
            try:
                event = json.loads(text)
            except ValueError:
                event = {"event": "not.json", "text": text}
            self.events.put(event)
        self.events.put({"event": "end"})

    def wait_ready(self):
        """Until the listeners are open; their addresses are known from then on."""
        ready = self.events.take(lambda e: e["event"] in ("ready", "end"))
        if ready["event"] == "end":
            raise AssertionError("the gateway ended before it was ready:\n" + self.tail())
        for key, value in ready.items():
            if key.startswith("listener."):
                host, _, port = value.rpartition(":")
                self.addresses[key.removeprefix("listener.")] = (host, int(port))

    def wait_log(self, event, limit_s=None, **fields):
        """The first log line of this event with these fields, taken out of the mailbox."""
        return self.events.take(lambda e: e["event"] == event and all(e.get(k) == v for k, v in fields.items()), limit_s)

    def port(self, serve):
        return self.addresses[serve][1]

    def admin(self, path, method="GET"):
        """Status and body (as JSON where it is) of the admin listener."""
        connection = http.client.HTTPConnection(*self.addresses["admin"], timeout=LIMIT_S)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
            is_json = "json" in (answer.getheader("content-type") or "")
            return answer.status, json.loads(body) if is_json else body.decode()
        finally:
            connection.close()

    def metric(self, name, **labels):
        """Sum of a metric's samples that carry these labels."""
        total = 0.0
        for line in self.admin("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
                total += float(value)
        return total

    def memory(self):
        """Bytes that are its own, or its share of what others have as well."""
        with open(f"/proc/{self.process.pid}/smaps_rollup", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("Pss:"))

    def signal(self, number):
        self.process.send_signal(number)

    def tail(self, n=40):
        return "\n".join(self.output[-n:])

    def wait(self, limit_s=None):
        """Until it has ended by itself; its exit code."""
        code = self.process.wait(limit_s or LIMIT_S)
        self.reader.join()
        return code

    def kill(self):
        """As a crash; nothing is checked at the end."""
        self.process.kill()
        self.must_exit = None

    def stop(self):
        """Ends it politely and checks that it ended as it should, with nothing to report from the sanitizers."""
        if self.process is None:
            self.folder.cleanup()
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.wait()
        except subprocess.TimeoutExpired as e:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the gateway did not stop on SIGTERM:\n" + self.tail()) from e
        finally:
            self.process.stderr.close()
            self.folder.cleanup()
            self.process = None
        report = [line for line in self.output if "Sanitizer" in line or "runtime error:" in line]
        if report or (self.must_exit is not None and code != self.must_exit):
            raise AssertionError(f"the gateway ended with {code}:\n" + self.tail(120))

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()
