# SPDX-License-Identifier: Apache-2.0
"""What a webhook posts to: an HTTP server whose answers a test decides, path by path."""
import http.server
import ssl
import threading
import time

from .wait import LIMIT_S, Mailbox


class Post:
    def __init__(self, path, headers, body, port):
        self.path, self.headers, self.body, self.port = path, headers, body, port  # header names in lower case; the client's port
        self.at = time.monotonic()


class Answer:
    def __init__(self, status=204, body=b"", say_bytes=None, **headers):
        """say_bytes: the Content-Length, where the connection ends before that."""
        self.status, self.body, self.say_bytes = status, body, say_bytes
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Receiver:
    """posts[PATH]: a mailbox of Post each. answers[PATH]: called with the Post and how many came before it; returns an Answer, or None to
    hang until the receiver is closed. What has no entry is answered 204."""

    def __init__(self, certificate=None):
        self.answers, self.posts, self.counts = {}, {}, {}
        self.lock = threading.Lock()
        self.is_over = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self):
                receiver.take(self)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # the other side may have gone
        self.scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
            self.scheme = "https"
        self.address = self.server.server_address
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def url(self, path, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.address[1]}{path}"

    def at(self, path):
        with self.lock:
            return self.posts.setdefault(path, Mailbox(f"POST {path}"))

    def take(self, handler):
        body = handler.rfile.read(int(handler.headers.get("content-length", 0)))
        post = Post(handler.path, {k.lower(): v for k, v in handler.headers.items()}, body, handler.client_address[1])
        with self.lock:
            before = self.counts.get(post.path, 0)
            self.counts[post.path] = before + 1
        self.at(post.path).put(post)
        answer = self.answers.get(post.path, lambda *_: Answer())(post, before)
        if answer is None:
            self.is_over.wait(LIMIT_S)
            handler.close_connection = True
            return
        handler.send_response(answer.status)
        for name, value in answer.headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(answer.body) if answer.say_bytes is None else answer.say_bytes))
        handler.end_headers()
        handler.wfile.write(answer.body)
        if answer.say_bytes is not None:
            handler.close_connection = True

    def close(self):
        self.is_over.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
