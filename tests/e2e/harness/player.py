# SPDX-License-Identifier: Apache-2.0
"""Plays mutated sessions, many at once: player.py NAME FIRST END ADDRESSES, the last as JSON. A process of its own, so that the clients
that must notice nothing do not wait for it. Prints how many it played and what went wrong, as JSON."""
import errno
import json
import pathlib
import select
import socket
import struct
import sys
import time

if not __package__:
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from harness import sessions  # noqa: E402
from harness.wait import LIMIT_S  # noqa: E402

AT_ONCE = 64
PIECES_N = 40  # a session in more of them has the rest in one
PROBLEMS_N = 20
GONE = (errno.EPIPE, errno.ECONNRESET)


class Play:
    """One mutation on a connection of its own: the login's steps, each once the one before is answered, the pieces, the end."""

    def __init__(self, name, n, addresses, now):
        self.name = f"{name} {n}"
        mutation = sessions.Mutation(name, n)
        self.login = list(mutation.login)
        pieces = mutation.writes()
        self.pieces = [*pieces[:PIECES_N], b"".join(pieces[PIECES_N:])] if len(pieces) > PIECES_N else list(pieces)
        self.how = mutation.random.choice(("at once", "reset", "politely"))
        self.got = b""
        self.awaited = None  # what the answer to a step of the login must hold
        self.is_ending = False
        self.began = now
        self.problem = None
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex(addresses[mutation.session.listener])
        self.at = 0  # what has been sent of the piece under way
        self.out = b""

    def next_out(self):
        """Whether there is something to send now."""
        if self.out:
            return True
        if self.awaited is not None:
            return False
        if self.login:
            self.out, self.awaited = self.login.pop(0)
        elif self.pieces:
            self.out = self.pieces.pop(0)
        return bool(self.out)

    def read(self):
        """False at the end of the connection."""
        data = self.socket.recv(65536)
        if self.awaited is not None:
            self.got += data
            if self.awaited in self.got:
                self.got, self.awaited = b"", None
            elif not data:
                self.problem = f"the connection ended within the login, after {self.got[:200]!r}"
        return bool(data)

    def go_on(self, events):
        """What can be done now; False once it is over, or what to wait for."""
        try:
            if events & ~select.EPOLLOUT and not self.read():
                return False
            while self.next_out():
                n = self.socket.send(self.out)
                self.out = self.out[n:]
        except BlockingIOError:
            return select.EPOLLIN | select.EPOLLOUT
        except OSError as e:
            if e.errno not in GONE or self.awaited is not None:
                self.problem = repr(e)
            return False
        if self.awaited is not None or self.is_ending:
            return select.EPOLLIN
        return self.leave()

    def leave(self):
        if self.how == "reset":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.how != "politely":
            return False
        self.is_ending = True
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError as e:
            if e.errno not in (*GONE, errno.ENOTCONN):
                raise
            return False
        return select.EPOLLIN


class Player:
    def __init__(self, name, addresses):
        self.name, self.addresses = name, addresses
        self.poll = select.epoll()
        self.plays = {}  # by descriptor, the longest under way first
        self.problems = []
        self.played_n = self.slowest_s = 0

    def begin(self, n):
        play = Play(self.name, n, self.addresses, time.monotonic())
        self.plays[play.socket.fileno()] = play
        self.poll.register(play.socket, select.EPOLLOUT)

    def end(self, fd, problem=None):
        play = self.plays.pop(fd)
        play.socket.close()  # which takes it out of the poll as well
        self.slowest_s = max(self.slowest_s, time.monotonic() - play.began)
        self.played_n += 1
        problem = problem or play.problem
        if problem:
            self.problems.append(f"{play.name}: {problem}")

    def turn(self):
        for fd, events in self.poll.poll(1):
            wanted = self.plays[fd].go_on(events)
            if wanted:
                self.poll.modify(fd, wanted)
            else:
                self.end(fd)
        late = time.monotonic() - LIMIT_S
        for fd in [fd for fd, play in self.plays.items() if play.began < late]:
            self.end(fd, f"not over after {LIMIT_S:.0f} s")

    def run(self, first, end):
        while (first < end or self.plays) and len(self.problems) < PROBLEMS_N:
            while first < end and len(self.plays) < AT_ONCE:
                self.begin(first)
                first += 1
            self.turn()


if __name__ == "__main__":
    where = {name: tuple(address) for name, address in json.loads(sys.argv[4]).items()}
    player = Player(sys.argv[1], where)
    player.run(int(sys.argv[2]), int(sys.argv[3]))
    print(json.dumps({"played_n": player.played_n, "slowest_s": player.slowest_s, "problems": player.problems}))
