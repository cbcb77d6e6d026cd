# SPDX-License-Identifier: Apache-2.0
"""The web listener as a server: raw requests, time limits, clients and a proxy that others wrote, PROXY headers, its description."""
import json
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import urllib.parse

from harness import Consumer, E2E, Proxy, WebSocket, eventually, http, raw, wire
from harness.certificates import Authority
from harness.clients import http_connection, http_request
from harness.wait import LIMIT_S

ROOT = pathlib.Path(__file__).resolve().parents[2]
NPM = ROOT / "tests/e2e/node_modules/.bin"
TAIL = b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
LIMITS = '[http]\nmax_body = "100B"\nmax_header = "2000B"\nmax_url = "200B"\n'


def run(*command, **options):
    return subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=True, text=True, **options).stdout


class RawRequests(E2E):
    also_on_release = True

    def test_each_is_answered_as_the_table_says(self):
        rows = json.loads((ROOT / "tests/unit/http/raw_requests.json").read_text())
        gw = self.gateway(LIMITS, serves=("web",))
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "#")
        for row in rows:
            with self.subTest(row["name"]):
                connection = self.open(raw(gw.addresses["web"]))
                try:
                    connection.send(row["send"].encode("latin-1") + TAIL)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # refused before all of it was read
                answer = connection.read_to_end().decode("latin-1")
                self.assertEqual([int(s) for s in re.findall(r"HTTP/1\.1 (\d\d\d) ", answer)],
                                 row["answers"] + ([] if row["closes"] else [204]), answer)
                self.assertEqual(len(re.findall(r"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", answer)),
                                 len(re.findall(r"HTTP/1\.1 [2-5]", answer)))
                for text in row.get("has", ()):
                    self.assertIn(text, answer)
        http(gw.addresses["web"], "POST", "/v1/topics/last", b"last")
        wanted = [body.encode("latin-1") for row in rows for body in row["published"]] + [b"last"]
        self.assertEqual([body for _, _, body in consumer.take_n(len(wanted))], wanted)


class Time(E2E):
    """Nothing is measured: who is too slow is ended, or the test waits in vain."""

    def dribble(self, connection, data):
        """A byte now and then, until the other side has had enough."""
        def send():
            try:
                for byte in data:
                    connection.send(bytes([byte]))
                    time.sleep(0.02)
            except OSError:
                pass

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        self.addCleanup(thread.join)

    def test_the_slow_are_told_and_the_idle_are_closed(self):
        gw = self.gateway('[http]\nrequest_timeout = "400ms"\nidle_timeout = "400ms"\n', serves=("web",))
        slow = [b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 1000,
                b"POST /v1/topics/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n" + b"x" * 9999,
                b"POST /v1/topics/a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000]
        connections = [self.open(raw(gw.addresses["web"])) for _ in slow]
        for connection, data in zip(connections, slow):
            self.dribble(connection, data)
        for connection in connections:
            head = connection.read_until(b"\r\n\r\n")
            self.assertTrue(head.startswith(b"HTTP/1.1 408 ") and b"\r\nConnection: close\r\n" in head, head)
        idle = self.open(raw(gw.addresses["web"]))
        self.assertEqual(idle.read_to_end(), b"")
        used = self.open(raw(gw.addresses["web"], wire.http("OPTIONS", "*")))
        self.assertTrue(used.read_to_end().endswith(b"\r\n\r\n"))

    def test_draining_answers_what_is_under_way_and_says_so(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(serves=("web",), workers=1, amqp=self.amqp_by(proxy))
            http(gw.addresses["web"], "POST", "/v1/topics/warm", b"up")
            consumer = self.open(Consumer(self.amqp))
            consumer.bind("amq.topic", "#")
            proxy.hold("down")
            waiting = self.open(raw(gw.addresses["web"], wire.http("POST", "/v1/topics/a", b"x")))
            self.assertEqual(consumer.take()[2], b"x")
            gw.signal(signal.SIGTERM)
            gw.wait_log("draining")
            proxy.release("down")
            answer = waiting.read_to_end()
            self.assertTrue(answer.startswith(b"HTTP/1.1 202 ") and b"\r\nConnection: close\r\n" in answer, answer)
            self.assertEqual(gw.wait(), 0)


class Clients(E2E):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.bodies = ["grüße", "", "x" * 100000]

    def serve(self):
        gw = self.gateway(serves=("web",), web='cors_origins = ["https://app.example"]')
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "client.#")
        host, port = gw.addresses["web"]
        return gw, consumer, f"http://{host}:{port}/v1/topics/client/a"

    def test_node_curl_and_python_publish_on_connections_that_stay(self):
        gw, consumer, url = self.serve()
        script = """
            const [url, ...bodies] = process.argv.slice(1);
            for (const body of bodies) {
                const answer = await fetch(url, { method: "POST", body, headers: { "Amqp-Type": "node" } });
                if (answer.status !== 202 || (await answer.json()).exchange !== "amq.topic") throw new Error(answer.status);
            }"""
        run("node", "--input-type=module", "-e", script, url, *self.bodies)
        run("curl", "-sSf", *[word for body in self.bodies for word in ("-H", "Amqp-Type: curl", "--data-binary", body, url, "--next")][:-1])
        python = http_connection(gw.addresses["web"])
        self.addCleanup(python.close)
        for body in self.bodies:
            path = urllib.parse.urlparse(url).path
            self.assertEqual(http_request(python, "POST", path, iter([body.encode()]), {"Amqp-Type": "python"})[0], 202)
        got = [(properties.type, body.decode()) for _, properties, body in consumer.take_n(9)]
        self.assertEqual(got, [(kind, body) for kind in ("node", "curl", "python") for body in self.bodies])

    def test_wrk_gets_an_answer_to_each_request(self):
        gw, _, url = self.serve()
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write('wrk.method = "POST"\nwrk.body = string.rep("x", 128)\n')
            script.flush()
            out = run("wrk", "-t1", "-c32", "-d1s", "--timeout", str(int(LIMIT_S)), "-s", script.name, url)
        self.assertNotIn("Non-2xx", out)
        self.assertNotIn("Socket errors", out)
        self.assertGreater(int(re.search(r"(\d+) requests in", out)[1]), 0)
        self.assertEqual(http(gw.addresses["web"], "OPTIONS", "*")[0], 204)

    def test_a_preflight_names_what_a_page_may_do(self):
        gw, _, _ = self.serve()
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "amqp-type"}
        status, headers, _ = http(gw.addresses["web"], "OPTIONS", "/v1/topics/client/a", headers=asked)
        self.assertEqual((status, headers["access-control-allow-origin"], headers["access-control-allow-headers"]),
                         (204, "https://app.example", "amqp-type"))
        self.assertIn("POST", headers["access-control-allow-methods"])
        asked["Origin"] = "https://evil.example"
        self.assertNotIn("access-control-allow-origin", http(gw.addresses["web"], "OPTIONS", "/v1/topics/client/a", headers=asked)[1])


class ProxyHeaders(E2E):
    ON = "proxy_protocol = true"
    V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 1234 80\r\n"
    V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x21" + struct.pack("!H16s16sHH", 36, socket.inet_pton(socket.AF_INET6, "2001:db8::1"),
                                                        socket.inet_pton(socket.AF_INET6, "::1"), 1234, 80)

    def connections(self, gw):
        """By the admin listener, which wants a header as well."""
        with raw(gw.addresses["admin"], self.V1 + wire.http("GET", "/api/connections", headers={"Connection": "close"})) as admin:
            return {c["protocol"]: c["peer"] for c in json.loads(admin.read_to_end().partition(b"\r\n\r\n")[2])}

    def test_every_kind_of_listener_learns_the_clients_address(self):
        gw = self.gateway(web=self.ON, mqtt=self.ON, stomp=self.ON, admin=self.ON)
        web = self.open(raw(gw.addresses["web"], self.V2 + wire.http("POST", "/v1/topics/a", b"x")))
        self.assertTrue(web.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 202 "))
        mqtt = self.open(raw(gw.addresses["mqtt"]))
        for byte in self.V1 + wire.mqtt_connect("c"):
            mqtt.send(bytes([byte]))
        self.assertEqual(mqtt.read_n(4), wire.MQTT_CONNACK)
        stomp = self.open(raw(gw.addresses["stomp"], self.V2 + wire.stomp("CONNECT", {"accept-version": "1.2", "host": "/"})))
        self.assertTrue(stomp.read_until(b"\0").startswith(b"CONNECTED\n"))
        peers = self.connections(gw)
        self.assertEqual((peers["mqtt"], peers["stomp"]), ("192.0.2.7:1234", "[2001:db8::1]:1234"))
        for serve in ("web", "mqtt", "stomp", "admin"):
            with raw(gw.addresses[serve], b"GET / HTTP/1.1\r\n\r\n") as other:
                self.assertEqual(other.read_to_end(), b"")
        gw.wait_log("client.refused", rule="the connection does not begin with a PROXY header")
        broken = self.open(raw(gw.addresses["web"], self.V1 + b"GET / HTTP/1.1\n"))
        self.assertTrue(broken.read_to_end().startswith(b"HTTP/1.1 400 "))
        gw.wait_log("http.refused", peer="192.0.2.7:1234")

    def test_the_header_comes_before_tls(self):
        authority = self.open(Authority())
        cert, key = authority.make("localhost")
        gw = self.gateway(mqtt=f'{self.ON}\ntls = {{ cert = "{cert}", key = "{key}" }}')
        plain = socket.create_connection(gw.addresses["mqtt"], timeout=LIMIT_S)
        plain.sendall(self.V2)
        device = self.open(authority.client().wrap_socket(plain, server_hostname="localhost"))
        device.sendall(wire.mqtt_connect("device"))
        self.assertEqual(device.recv(4), wire.MQTT_CONNACK)
        self.assertEqual([c["peer"] for c in gw.admin("/api/connections")[1] if c["client_id"] == "device"], ["[2001:db8::1]:1234"])
        with raw(gw.addresses["mqtt"], b"\x16\x03\x01\0\0") as other:
            self.assertEqual(other.read_to_end(), b"")

    def test_haproxy_brings_http2_and_mqtt_as_the_page_says(self):
        gw = self.gateway(web=self.ON, mqtt=self.ON)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "#")
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="headgate-e2e-")))
        authority = self.open(Authority())
        (folder / "site.pem").write_text("".join(pathlib.Path(part).read_text() for part in authority.make("localhost")))
        page = (ROOT / "docs/proxy.md").read_text()
        config = re.search(r"```haproxy\n(.*?)```", page, re.S)[1]
        ports = {443: self.free_port(), 8883: self.free_port()}
        for said, port in ports.items():
            config = config.replace(f"bind :{said} ", f"bind 127.0.0.1:{port} ")
        config = config.replace("/etc/haproxy/site.pem", str(folder / "site.pem"))
        config = config.replace("127.0.0.1:8080", "%s:%d" % gw.addresses["web"]).replace("127.0.0.1:1883", "%s:%d" % gw.addresses["mqtt"])
        (folder / "haproxy.cfg").write_text(config)
        haproxy = subprocess.Popen(["haproxy", "-db", "-q", "-f", folder / "haproxy.cfg"])
        self.addCleanup(haproxy.wait)
        self.addCleanup(haproxy.terminate)

        def curl():
            done = subprocess.run(["curl", "-skf", "--http2", "-w", "%{http_version}", "-o", "/dev/null", "--data", "x",
                                   f"https://127.0.0.1:{ports[443]}/v1/topics/by/proxy"], capture_output=True, timeout=LIMIT_S, text=True,
                                  check=False)
            return done.stdout == "2"

        eventually(curl)
        self.assertEqual(consumer.take()[2], b"x")
        plain = socket.create_connection(("127.0.0.1", ports[8883]), timeout=LIMIT_S)
        port = plain.getsockname()[1]
        device = self.open(authority.client().wrap_socket(plain, server_hostname="localhost"))
        device.sendall(wire.mqtt_connect("device") + wire.mqtt_publish("by/mqtt", b"y", qos=1, packet_id=1))
        self.assertEqual(consumer.take()[2], b"y")
        self.assertEqual([c["peer"] for c in gw.admin("/api/connections")[1] if c["client_id"] == "device"], [f"127.0.0.1:{port}"])

    def nginx(self, folder, page, gw):
        """Runs it as the page says, but for ports and files; returns the ports by those that the page says."""
        web, stream = re.findall(r"```nginx\n(.*?)```", page, re.S)
        modules = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")
        temp = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        config = (f"load_module {modules};\ndaemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\n"
                  f"http {{\naccess_log off;\n{temp}{web}}}\n{stream}")
        ports = {said: self.free_port() for said in (80, 443, 8883)}
        for said, port in ports.items():
            config = re.sub(rf"listen {said}\b", f"listen 127.0.0.1:{port}", config)
        for said, serves in (("127.0.0.1:8080", "web"), ("127.0.0.1:1883", "mqtt")):
            config = config.replace(said, "%s:%d" % gw.addresses[serves])
        (folder / "nginx.conf").write_text(config.replace("/etc/nginx/", f"{folder}/"))
        nginx = subprocess.Popen(["nginx", "-p", folder, "-e", "stderr", "-c", folder / "nginx.conf"])
        self.addCleanup(nginx.wait)
        self.addCleanup(nginx.terminate)
        return {said: ("127.0.0.1", port) for said, port in ports.items()}

    def test_nginx_brings_http2_events_websockets_and_mqtt_as_the_page_says(self):
        gw = self.gateway(mqtt=self.ON)
        consumer = self.open(Consumer(self.amqp))
        consumer.bind("amq.topic", "#")
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="headgate-e2e-")))
        authority = self.open(Authority())
        for part, name in zip(authority.make("localhost"), ("site.pem", "site.key"), strict=True):
            (folder / name).write_bytes(pathlib.Path(part).read_bytes())
        at = self.nginx(folder, (ROOT / "docs/proxy.md").read_text(), gw)
        secure = "https://%s:%d/v1/topics/" % at[443]

        def post(body):
            done = subprocess.run(["curl", "-skf", "--http2", "-w", "%{http_version}", "-o", "/dev/null", "--data", body, secure + "by/nginx"],
                                  capture_output=True, timeout=LIMIT_S, text=True, check=False)
            return done.stdout == "2"

        eventually(lambda: post("x"))
        self.assertEqual(consumer.take()[2], b"x")
        events = subprocess.Popen(["curl", "-skN", "--http2", "-H", "Accept: text/event-stream", secure + "by/*"], stdout=subprocess.PIPE)
        self.addCleanup(events.stdout.close)
        self.addCleanup(events.wait)
        self.addCleanup(events.kill)
        self.assertTrue(events.stdout.readline().startswith(b"retry: "))  # each as it comes: the next is published after it was read
        for body in ("1", "2"):
            self.assertTrue(post(body))
            self.assertEqual([line for line in iter(events.stdout.readline, b"data: %s\n" % body.encode())
                              if line.startswith(b"data")], [])
            self.assertEqual(consumer.take()[2], body.encode())
        page = self.open(WebSocket(at[80], "/ws", ("v12.stomp",), {"Origin": "http://%s:%d" % at[80]}))
        page.send_frame(page.TEXT, b"CONNECT\naccept-version:1.2\nhost:/\n\n\0")
        self.assertTrue(page.read_message()[1].startswith(b"CONNECTED\n"))
        plain = socket.create_connection(at[8883], timeout=LIMIT_S)
        port = plain.getsockname()[1]
        device = self.open(authority.client().wrap_socket(plain, server_hostname="localhost"))
        device.sendall(wire.mqtt_connect("device") + wire.mqtt_publish("by/mqtt", b"y", qos=1, packet_id=1))
        self.assertEqual(consumer.take()[2], b"y")
        self.assertEqual([c["peer"] for c in gw.admin("/api/connections")[1] if c["client_id"] == "device"], [f"127.0.0.1:{port}"])

    def free_port(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            return s.getsockname()[1]


class OpenApi(E2E):
    RULE = """
[[rule]]
name = "sensors"
topic = "Sensor/{kind}/{room}"
exchange = "amq.topic"
key = "sensor.{kind}.{room}"
[[rule]]
name = "orders"
http = "/orders/{id}"
exchange = "amq.topic"
key = "order.{id}"
"""

    def test_a_validator_takes_the_document(self):
        gw = self.gateway(serves=("web",))
        with tempfile.NamedTemporaryFile("wb", suffix=".json") as file:
            file.write(http(gw.addresses["web"], "GET", "/v1/openapi.json")[2])
            file.flush()
            done = subprocess.run([NPM / "validate-api", file.name], capture_output=True, text=True, timeout=LIMIT_S, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_every_example_is_answered_as_the_document_says(self):
        gw = self.gateway(self.RULE, serves=("web",), amqp=f"amqp://guest:guest@127.0.0.1:{self.broker.port}/%2f")
        document = json.loads(http(gw.addresses["web"], "GET", "/v1/openapi.json")[2])
        played = set()
        for path, item in document["paths"].items():
            for method in set(item) - {"parameters"}:
                if self.play(gw, path, method, item[method]):
                    played.add((method, path))
        self.assertLessEqual({("post", "/v1/topics/{address}"), ("post", "/{path}"), ("get", "/v1/topics/{address}"), ("post", "/v1/topics"),
                              ("post", "/api/exchanges/{vhost}/{exchange}/publish")}, played)

    def play(self, gw, path, method, operation):
        """Sends an operation's example; false if it has none."""
        parameters = [p for p in operation.get("parameters", ()) if "example" in p]
        kind, content = next(iter(operation.get("requestBody", {"content": {None: {}}})["content"].items()))
        if not parameters and "example" not in content:
            return False
        for p in parameters:
            if p["in"] == "path":
                path = path.replace("{%s}" % p["name"], urllib.parse.quote(p["example"], safe="/*" if p["name"] in ("address", "path") else ""))
        headers = {p["name"]: p["example"] for p in parameters if p["in"] == "header"}
        if query := {p["name"]: p["example"] for p in parameters if p["in"] == "query"}:
            path += "?" + urllib.parse.urlencode(query)
        body = content.get("example")
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        if kind not in (None, "*/*"):
            headers["Content-Type"] = kind
        with raw(gw.addresses["web"], wire.http(method.upper(), path, None if body is None else body.encode(), headers)) as connection:
            status = connection.read_until(b"\r\n\r\n").split()[1].decode()  # a stream of events has no end
        with self.subTest(method=method, path=path):
            self.assertIn(status, set(operation["responses"]) - {"default"})
        return True
