# SPDX-License-Identifier: Apache-2.0
"""The servers that are compared, private ones on loopback. Each is ended when its `with` is left, has `ports` by protocol ("mqtt",
"mqtt-ws", "stomp-ws", "http" …) and `processes` by name, for what they use."""
import contextlib
import json
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from measure import ROOT, Process, Together

sys.path.insert(0, str(ROOT / "scripts"))
from private_rabbitmq import PrivateCluster, PrivateRabbitMQ, free_ports  # noqa: E402

READY_SECONDS = 60

CONFIG = """
[gateway]
name = "bench"
workers = {workers}
log = {{ level = "warn", format = "text" }}
[rabbitmq]
endpoints = ["{url}"]
[http]
idle_timeout = "1h"
[mqtt]
connect_timeout = "1m"
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{mqtt}"
max_connections = 1000000
[[listener]]
serve = "mqtt"
bind = "127.0.0.1:{mqtts}"
max_connections = 1000000
tls = {{ cert = "{cert}", key = "{key}" }}
[[listener]]
serve = "stomp"
bind = "127.0.0.1:{stomp}"
max_connections = 1000000
[[listener]]
serve = "web"
bind = "127.0.0.1:{web}"
max_connections = 1000000
[[listener]]
serve = "web"
bind = "127.0.0.1:{webs}"
max_connections = 1000000
tls = {{ cert = "{cert}", key = "{key}" }}
[[listener]]
serve = "admin"
bind = "127.0.0.1:{admin}"
[[rule]]
name = "wide"
topic = "wide/{{path...}}"
exchange = "amq.topic"
key = "wide.{{path...}}"
binding_scope = "wide"
[[rule]]
name = "exact"
topic = "exact/{{path...}}"
exchange = "amq.topic"
key = "exact.{{path...}}"
binding_scope = "exact"
{rules}
"""


class Certificate:
    """A certificate for localhost that signs itself."""

    def __init__(self, folder):
        self.cert, self.key = str(pathlib.Path(folder) / "server.crt"), str(pathlib.Path(folder) / "server.key")
        if not pathlib.Path(self.cert).exists():
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
                            "/CN=localhost", "-days", "2", "-keyout", self.key, "-out", self.cert], check=True, capture_output=True)
            pathlib.Path(self.key).chmod(0o644)  # mosquitto reads it as its own user


class Gateway:
    def __init__(self, binary, folder, broker, workers=0, rules="", settings=(), is_drained=True):
        names = ("mqtt", "mqtts", "stomp", "web", "webs", "admin")
        port = dict(zip(names, free_ports(len(names))))
        self.ports = {"mqtt": port["mqtt"], "mqtt-tls": port["mqtts"], "mqtt-ws": port["web"], "mqtt-wss": port["webs"],
                      "stomp": port["stomp"], "stomp-ws": port["web"], "stomp-wss": port["webs"], "http": port["web"],
                      "https": port["webs"], "sse": port["web"]}
        self.admin = port["admin"]
        self.broker = broker
        certificate = Certificate(folder)
        self.config = pathlib.Path(folder) / f"headgate-{self.admin}.toml"
        self.config.write_text(CONFIG.format(url=broker.url, workers=workers, rules=rules, cert=certificate.cert,
                                             key=certificate.key, **port))
        self.log = self.config.with_suffix(".log")
        self.command = [str(binary), "run", "-c", str(self.config), *(part for setting in settings for part in ("--set", setting))]
        self.is_drained = is_drained  # False: killed in the end, with its broker

    def __enter__(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stderr=log)
        self.own = Process(self.process.pid)
        self.processes = {"gateway": self.own, "broker": self.broker.own}
        deadline = time.monotonic() + READY_SECONDS
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise RuntimeError("the gateway did not become ready:\n" + self.log.read_text()[-4000:])
            time.sleep(0.05)
        return self

    def is_ready(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def status(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/api/status", timeout=10) as answer:
            return json.load(answer)

    def __exit__(self, *_):
        if not self.is_drained:
            self.process.kill()
        end(self.process)


class Broker(PrivateRabbitMQ):
    """A RabbitMQ without plugins: the gateway's, and for direct AMQP."""

    def __enter__(self):
        super().__enter__()
        self.own = Process(self.server.pid, is_group=True)
        self.processes = {"broker": self.own}
        return self


class Seat:
    """A node of a cluster, for a gateway to connect to; what it uses is what the whole cluster uses."""

    def __init__(self, node, own):
        self.url, self.port, self.own, self.processes = node.url, node.port, own, {"broker": own}


class Cluster(PrivateCluster):
    """RabbitMQ nodes without plugins as one cluster, `seats` at which are equal."""

    def __enter__(self):
        super().__enter__()
        own = Together([Process(node.server.pid, is_group=True) for node in self.nodes])
        self.seats = [Seat(node, own) for node in self.nodes]
        return self


class Plugins(Broker):
    """RabbitMQ with its own plugins for MQTT, STOMP, both over WebSocket, and its management API."""

    def __init__(self, folder):
        mqtt, mqtts, stomp, web_mqtt, web_stomp, management = free_ports(6)
        self.ports = {"mqtt": mqtt, "mqtt-tls": mqtts, "mqtt-ws": web_mqtt, "stomp": stomp, "stomp-ws": web_stomp, "http": management}
        certificate = Certificate(pathlib.Path(folder).parent)
        an_hour_ms = 3600000
        super().__init__(
            folder, plugins=["rabbitmq_mqtt", "rabbitmq_stomp", "rabbitmq_web_mqtt", "rabbitmq_web_stomp", "rabbitmq_management"],
            settings=(f"mqtt.listeners.tcp.1 = 127.0.0.1:{mqtt}", f"mqtt.listeners.ssl.1 = 127.0.0.1:{mqtts}",
                      "mqtt.allow_anonymous = true", "mqtt.tcp_listen_options.backlog = 4096",
                      f"stomp.listeners.tcp.1 = 127.0.0.1:{stomp}", "stomp.default_user = guest", "stomp.default_pass = guest",
                      "stomp.tcp_listen_options.backlog = 4096",
                      f"web_mqtt.tcp.port = {web_mqtt}", "web_mqtt.tcp.ip = 127.0.0.1", "web_mqtt.tcp.backlog = 4096",
                      f"web_mqtt.cowboy_opts.idle_timeout = {an_hour_ms}", f"web_mqtt.ws_opts.idle_timeout = {an_hour_ms}",
                      f"web_stomp.tcp.port = {web_stomp}", "web_stomp.tcp.ip = 127.0.0.1", "web_stomp.tcp.backlog = 4096",
                      f"web_stomp.cowboy_opts.idle_timeout = {an_hour_ms}", f"web_stomp.ws_opts.idle_timeout = {an_hour_ms}",
                      "management.tcp.ip = 127.0.0.1", f"management.tcp.port = {management}",
                      f"ssl_options.certfile = {certificate.cert}", f"ssl_options.keyfile = {certificate.key}",
                      f"ssl_options.cacertfile = {certificate.cert}", "ssl_options.verify = verify_none",
                      "vm_memory_high_watermark.relative = 0.7"))

    def __enter__(self):
        super().__enter__()
        self.processes = {"plugins": self.own}
        for port in self.ports.values():
            wait_for_port(port)
        return self


class Mosquitto:
    def __init__(self, folder):
        mqtt, mqtts, web = free_ports(3)
        self.ports = {"mqtt": mqtt, "mqtt-tls": mqtts, "mqtt-ws": web}
        certificate = Certificate(folder)
        self.config = pathlib.Path(folder) / f"mosquitto-{mqtt}.conf"
        # Its limits are for devices; without these it drops most of a fan-out.
        self.config.write_text(
            f"user root\nallow_anonymous true\nlog_type error\nmax_connections -1\nmax_queued_messages 0\nset_tcp_nodelay true\n"
            f"listener {mqtt} 127.0.0.1\n"
            f"listener {web} 127.0.0.1\nprotocol websockets\n"
            f"listener {mqtts} 127.0.0.1\ncertfile {certificate.cert}\nkeyfile {certificate.key}\n")

    def __enter__(self):
        self.process = subprocess.Popen(["/usr/sbin/mosquitto", "-c", str(self.config)], stdin=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        self.own = Process(self.process.pid)
        self.processes = {"mosquitto": self.own}
        for port in self.ports.values():
            wait_for_port(port)
        return self

    def __exit__(self, *_):
        end(self.process)


class Bare:
    """The bare epoll loop: what it speaks it tells by the first bytes."""

    def __init__(self, programs, **options):
        self.port, = free_ports(1)
        self.command = [str(programs / "bare"), "--port", str(self.port), *(word for key, value in options.items() for word in (f"--{key}", str(value)))]
        self.ports = {wire: self.port for wire in ("mqtt", "mqtt-ws", "stomp", "stomp-ws", "http", "sse")}

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline():
            raise RuntimeError("the bare loop did not start")
        self.own = Process(self.process.pid)
        self.processes = {"bare": self.own}
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        end(self.process)
        self.process.stdout.close()


class Relay(Bare):
    """The bare epoll loop as a gateway that does nothing: it passes the bytes of each connection on to a server, and back."""

    def __init__(self, programs, server):
        super().__init__(programs, **{"relay-to": server.port})


def end(process):
    process.terminate()
    try:
        process.wait(timeout=40)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for_port(port):
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"nobody listens on port {port}")
        time.sleep(0.05)
