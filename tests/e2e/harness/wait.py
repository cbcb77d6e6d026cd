# SPDX-License-Identifier: Apache-2.0
"""Waiting for things to happen. Time limits are there for when they do not; no test measures by them."""
import collections
import os
import threading
import time

# A sanitizer build on a busy machine is slow; a limit that is never reached costs nothing.
LIMIT_S = float(os.environ.get("HEADGATE_TEST_LIMIT_S", "30"))


class Mailbox:
    """Where a client's thread puts what came, and a test takes it out, in order."""

    def __init__(self, name="message"):
        self.name = name
        self.items = collections.deque()
        self.changed = threading.Condition()

    def put(self, item):
        with self.changed:
            self.items.append(item)
            self.changed.notify_all()

    def take(self, matches=lambda item: True, limit_s=None):
        """The first item that matches, taken out; what does not match stays."""
        deadline = time.monotonic() + (limit_s or LIMIT_S)
        with self.changed:
            while True:
                for at, item in enumerate(self.items):
                    if matches(item):
                        del self.items[at]  # not remove(): paho's messages are equal when their packet identifiers are
                        return item
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no such {self.name} in time; there are {list(self.items)[:10]!r}")
                self.changed.wait(left)

    def take_n(self, n, limit_s=None):
        return [self.take(limit_s=limit_s) for _ in range(n)]

    def all(self):
        """What is there now, which stays."""
        with self.changed:
            return list(self.items)

    def assert_silent(self, for_s=0.3):
        """Nothing is there, and nothing comes for a moment. Weak by nature: better wait for something that comes after."""
        with self.changed:
            self.changed.wait_for(lambda: self.items, for_s)
            if self.items:
                raise AssertionError(f"unexpected {self.name}: {list(self.items)[:10]!r}")


def eventually(check, limit_s=None):
    """Calls check until it returns something true, and returns that; for what can only be asked. AssertionErrors of check count as no."""
    deadline = time.monotonic() + (limit_s or LIMIT_S)
    pause = 0.005
    while True:
        problem = "it stayed untrue"
        try:
            result = check()
            if result:
                return result
        except AssertionError as e:
            problem = e
        if time.monotonic() > deadline:
            raise AssertionError(f"{getattr(check, '__name__', check)}: {problem}")
        time.sleep(pause)
        pause = min(pause * 2, 0.2)
