# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy that breaks connections in the ways that networks do."""
import itertools
import selectors
import socket
import struct
import threading

CHUNK = 65536


class Link:
    """One accepted connection and the one it became."""

    def __init__(self, down, up):
        self.down = down  # towards the client
        self.up = up      # towards the server
        self.pending = {down: b"", up: b""}  # bytes that wait to be written to it
        self.is_black_hole = False

    def other(self, s):
        return self.up if s is self.down else self.down


class Proxy:
    """Forwards 127.0.0.1:port to target. "up" is client to server, "down" the other way.

    cut()                closes every connection (is_reset: with RST rather than FIN)
    cut_at("up", n)      does so when exactly n more bytes have passed that way; wait_cut() waits for it
    hold("down")         keeps back what comes that way, on all connections, until release("down")
    black_hole()         keeps connections open and swallows everything, without a FIN; new ones work
    orphan()             closes connections towards the client only: the server goes on believing in them
    refuse(), accept()   closes the listening port, opens it again
    passed["up"]         bytes forwarded so far; links: connections open now
    """

    def __init__(self, target):
        self.target = target
        self.passed = {"up": 0, "down": 0}
        self.links = []
        self.cut_after = {"up": None, "down": None}
        self.held = set()
        self.was_cut = threading.Event()
        self.lock = threading.RLock()
        self.selector = selectors.DefaultSelector()
        self.wake, self.waker = socket.socketpair()
        self.selector.register(self.wake, selectors.EVENT_READ, None)
        self.listener = None
        self.port = 0
        self.is_stopping = False
        self.accept()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    # ---- what a test calls

    def accept(self):
        with self.lock:
            self.listener = socket.socket()
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.listener.bind(("127.0.0.1", self.port))
            self.listener.listen(64)
            self.port = self.listener.getsockname()[1]
            self.selector.register(self.listener, selectors.EVENT_READ, None)
            self.waker.send(b".")

    def refuse(self):
        with self.lock:
            self.selector.unregister(self.listener)
            self.listener.close()
            self.listener = None
            self.waker.send(b".")

    def cut(self, is_reset=False):
        with self.lock:
            for link in list(self.links):
                self.close(link, is_reset)
            self.waker.send(b".")

    def orphan(self):
        with self.lock:
            for link in self.links:
                link.is_black_hole = True
                for s in (link.down, link.up):
                    if s in self.selector.get_map():
                        self.selector.unregister(s)
                link.down.close()
            self.waker.send(b".")

    def cut_at(self, direction, n):
        self.was_cut.clear()
        with self.lock:
            self.cut_after[direction] = n

    def wait_cut(self, limit_s=30):
        if not self.was_cut.wait(limit_s):
            raise AssertionError("the proxy never came to the byte where it should cut")

    def hold(self, direction):
        with self.lock:
            self.held.add(direction)
            self.watch_again()

    def release(self, direction):
        with self.lock:
            self.held.discard(direction)
            self.watch_again()

    def black_hole(self):
        with self.lock:
            for link in self.links:
                link.is_black_hole = True

    def stop(self):
        with self.lock:
            self.is_stopping = True
            self.waker.send(b".")
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # ---- its thread

    def run(self):
        while not self.is_stopping:
            ready = self.selector.select()
            with self.lock:
                for key, mask in ready:
                    self.handle(key, mask)
        with self.lock:
            for link in list(self.links):
                self.close(link, False)
            for s in (self.listener, self.wake, self.waker):
                if s is not None:
                    s.close()
            self.selector.close()

    def handle(self, key, mask):
        s = key.fileobj
        if s is self.wake:
            self.wake.recv(4096)
        elif s is self.listener:
            self.open()
        elif s.fileno() >= 0 and key.data in self.links:
            link = key.data
            if mask & selectors.EVENT_WRITE:
                self.flush(link, s)
            if mask & selectors.EVENT_READ and link in self.links and not self.is_held(link, s):
                self.forward(link, s)

    def open(self):
        down, _ = self.listener.accept()
        try:
            up = socket.create_connection(self.target, timeout=5)
        except OSError:
            down.close()
            return
        link = Link(down, up)
        for s in (down, up):
            s.setblocking(False)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.watch(s, link, selectors.EVENT_READ)
        self.links.append(link)

    def forward(self, link, s):
        try:
            data = s.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if link.is_black_hole:
            if not data:
                self.selector.unregister(s)
            return
        if not data:
            self.close(link, False)
            return
        direction = "up" if s is link.down else "down"
        limit = self.cut_after[direction]
        is_last = limit is not None and len(data) >= limit
        if is_last:
            data = data[:limit]
        elif limit is not None:
            self.cut_after[direction] = limit - len(data)
        self.passed[direction] += len(data)
        link.pending[link.other(s)] += data
        self.flush(link, link.other(s))
        if is_last:
            self.cut_after[direction] = None
            for each in list(self.links):
                self.close(each, False)
            self.was_cut.set()

    def flush(self, link, s):
        try:
            n = s.send(link.pending[s])
        except BlockingIOError:
            n = 0
        except OSError:
            self.close(link, False)
            return
        link.pending[s] = link.pending[s][n:]
        # Whoever reads slowly slows down its sender, as a real network does.
        self.watch(s, link, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending[s] else 0))
        if len(link.pending[s]) > 16 * CHUNK:
            self.watch(link.other(s), link, selectors.EVENT_WRITE if link.pending[link.other(s)] else 0)
        elif not link.pending[s]:
            self.watch(link.other(s), link,
                       selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending[link.other(s)] else 0))

    def watch_again(self):
        for link in self.links:
            for s in (link.down, link.up):
                if not link.is_black_hole:
                    self.watch(s, link, selectors.EVENT_READ | (selectors.EVENT_WRITE if link.pending[s] else 0))
        self.waker.send(b".")

    def is_held(self, link, s):
        return ("up" if s is link.down else "down") in self.held

    def watch(self, s, link, events):
        if self.is_held(link, s):
            events &= ~selectors.EVENT_READ
        is_known = s in self.selector.get_map()
        if events == 0:
            if is_known:
                self.selector.unregister(s)
        elif is_known:
            self.selector.modify(s, events, link)
        else:
            self.selector.register(s, events, link)

    def close(self, link, is_reset):
        if link in self.links:
            self.links.remove(link)
        for s in (link.down, link.up):
            if s.fileno() < 0:
                continue  # orphaned
            if s in self.selector.get_map():
                self.selector.unregister(s)
            if is_reset:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()


class Balancer(Proxy):
    """Gives each connection to the next of its targets."""

    def __init__(self, *targets):
        self.turns = itertools.cycle(targets)
        super().__init__(None)

    def open(self):
        self.target = next(self.turns)
        super().open()
