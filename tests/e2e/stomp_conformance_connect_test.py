# SPDX-License-Identifier: Apache-2.0
"""The beginning and the end of a STOMP session: versions, virtual hosts, heart-beats, DISCONNECT."""
import socket
import time
import unittest

from harness import Consumer, StompConformance, conforms
from harness.people import line_of, user

EVERY_MS = 1000  # the least that both take


class Connect(StompConformance):
    def connect(self, command="CONNECT", **headers):
        lines = {"login": "guest", "passcode": "guest", "host": self.vhost, **{k.replace("_", "-"): v for k, v in headers.items()}}
        text = "".join(f"{name}:{value}\n" for name, value in lines.items() if value is not None)
        return self.peer(first=f"{command}\n{text}\n\0".encode())

    @conforms(stomp="connected-1 connected-2 connected-3", plugin="connected")
    def test_connected_says_version_server_and_session(self):
        sessions = set()
        for version in ("1.0", "1.1", "1.2"):
            connected = self.peer(version).connected
            self.assertEqual(connected["version"], version)
            self.assertRegex(connected["server"], r"^[A-Za-z]+(/[0-9.]+)?")
            sessions.add(connected["session"])
        self.assertEqual(len(sessions), 3)

    @conforms(plugin="implicit-connect")
    def test_nothing_is_served_before_connect(self):
        self.assertTrue(self.peer(first=b"SEND\ndestination:/topic/a\n\nx\0").error()["message"])

    @conforms(stomp="connect-2", plugin="connected")
    def test_stomp_is_connect(self):
        self.assertEqual(self.connect("STOMP", accept_version="1.1").next("CONNECTED")["version"], "1.1")

    @conforms(stomp="version-1 version-2", plugin="versions")
    def test_the_highest_version_that_both_speak_is_used(self):
        for accepts, version in {None: "1.0", "1.0": "1.0", "1.2": "1.2", "1.0,1.1": "1.1", "1.0,1.1,1.2": "1.2", "1.2,1.1,1.0": "1.2",
                                 "1.1,1.3,2.0": "1.1"}.items():
            with self.subTest(accepts):
                self.assertEqual(self.connect(accept_version=accepts).next("CONNECTED")["version"], version)

    @conforms(stomp="version-3", plugin="versions")
    def test_without_a_version_in_common_the_error_names_those_there_are(self):
        error = self.connect(accept_version="2.0,9.9").take("ERROR")
        self.assertEqual(error["version"], "1.0,1.1,1.2")

    @conforms(stomp="connect-1 version-3 error-1", plugin="error-ends")
    def test_a_connection_that_is_refused_is_closed(self):
        for headers in ({"accept_version": "9.9"}, {"heart_beat": "often"}, {"heart_beat": "1,2,3"}, {"heart_beat": "-1,0"}):
            with self.subTest(headers):
                peer = self.connect(**{"accept_version": "1.2", **headers})
                self.assertTrue(peer.error()["message"])

    @conforms(stomp="connect-5 connect-1", plugin="error-known")

    @conforms(stomp="connect-3 connect-4", plugin="host-absent")
    def test_without_a_host_it_is_the_default_one(self):
        self.assertEqual(self.connect(accept_version="1.2", host=None).next("CONNECTED")["version"], "1.2")

    @conforms(stomp="connect-4", plugin="host-unknown")
    def test_an_unknown_host_is_the_default_one(self):
        self.assertEqual(self.connect(accept_version="1.2", host="stomp.example.org").next("CONNECTED")["version"], "1.2")

    @conforms(stomp="receipt-1 disconnect-1", plugin="disconnect")
    def test_disconnect_is_receipted_and_then_the_server_closes(self):
        def check(version):
            peer = self.peer(version)
            peer.frame("DISCONNECT", receipt="bye")
            self.assertEqual([(f.command, f["receipt-id"]) for f in peer.end()], [("RECEIPT", "bye")])
        self.each_version(check)

    @conforms(stomp="disconnect-1 receipt-3", plugin="disconnect")
    def test_what_was_sent_before_disconnect_is_there_at_its_receipt(self):
        queue, beside = self.name("q"), self.open(Consumer(self.amqp))
        beside.channel.queue_declare(queue)
        peer = self.peer()
        peer.send_raw(b"".join(peer.encode("SEND", b"x", destination=f"/amq/queue/{queue}", persistent="true") for _ in range(50)))
        peer.asked("DISCONNECT")
        self.assertEqual(beside.channel.queue_declare(queue, passive=True).method.message_count, 50)

    @conforms(stomp="disconnect-2", plugin="after-disconnect")
    def test_what_comes_behind_disconnect_is_not_read(self):
        watcher, peer = self.peer(), self.peer()
        destination = f"/topic/{self.name()}"
        watcher.subscribe(destination)
        peer.send_raw(peer.encode("DISCONNECT", receipt="bye") + peer.encode("SEND", b"late", destination=destination))
        self.assertEqual([f.command for f in peer.end()], ["RECEIPT"])
        watcher.send(destination, b"next")
        self.assertEqual(watcher.message().body, b"next")

    @conforms(stomp="receipt-3", plugin="disconnect")
    def test_what_was_sent_before_the_socket_closed_arrives(self):
        queue, beside = self.name("q"), self.open(Consumer(self.amqp))
        beside.channel.queue_declare(queue)
        beside.queue = queue
        peer = self.peer()
        peer.send_raw(b"".join(peer.encode("SEND", b"%d" % i, destination=f"/amq/queue/{queue}") for i in range(20)))
        peer.wire.socket.shutdown(socket.SHUT_WR)
        peer.end()
        self.assertEqual([body for _, _, body in beside.take_n(20)], [b"%d" % i for i in range(20)])


class Logins(StompConformance):
    @classmethod
    def setUpClass(cls):
        cls.config = user("guest", line_of("guest"))
        super().setUpClass()

    @conforms(plugin="login")
    def test_login_and_passcode_are_checked(self):
        self.assertEqual(self.peer().connected.command, "CONNECTED")
        for login, passcode in (("guest", "wrong"), ("nobody", "guest"), ("guest", "")):
            with self.subTest(login=login, passcode=passcode):
                lines = f"CONNECT\naccept-version:1.2\nhost:{self.vhost}\nlogin:{login}\npasscode:{passcode}\n\n\0"
                self.assertTrue(self.peer(first=lines.encode()).error()["message"])


class HeartBeats(StompConformance):
    config = f'[stomp]\nheartbeat = "{EVERY_MS}ms"\n'

    @conforms(stomp="heart-1 heart-3", plugin="heart-beats")
    def test_connected_offers_beats(self):
        peer = self.peer(connect={"heart-beat": f"{EVERY_MS},{EVERY_MS}"})
        can, wants = peer.connected["heart-beat"].split(",")
        self.assertGreater(int(can), 0)
        self.assertGreater(int(wants), 0)

    @conforms(stomp="heart-2 heart-3 heart-4", plugin="heart-beats")
    def test_beats_come_to_those_who_asked_for_them(self):
        without, unwanted = self.peer(), self.peer(connect={"heart-beat": "0,0"})
        peer = self.peer(connect={"heart-beat": f"0,{EVERY_MS}"})
        while peer.beats < 3:
            peer.read_beats()
        for other in (without, unwanted):
            before = other.beats
            self.assertEqual(other.fence(), [])
            self.assertEqual(other.beats - before, 0)

    @conforms(stomp="heart-1", plugin="heart-beats")
    def test_what_is_no_pair_of_numbers_is_an_error(self):
        self.peer(first=b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:often\n\n\0").take("ERROR")

    @conforms(stomp="heart-4", plugin="heart-beats")
    def test_beats_come_in_time(self):
        peer = self.peer(connect={"heart-beat": f"0,{2 * EVERY_MS}"})
        peer.read_beats()
        started = time.monotonic()
        peer.read_beats()
        self.assertLess(time.monotonic() - started, 2 * EVERY_MS / 1000 + 5)  # the machine may be busy

    @conforms(stomp="heart-5 error-1", plugin="heart-beats-silent")
    def test_a_client_that_breaks_its_word_is_told_and_closed(self):
        started = time.monotonic()
        peer = self.peer(connect={"heart-beat": f"{EVERY_MS},0"})
        self.assertIn("heart-beat", peer.error()["message"])
        self.assertGreater(time.monotonic() - started, EVERY_MS / 1000)

    @conforms(stomp="heart-5", plugin="heart-beats")
    def test_a_silent_client_is_closed_with_tolerance(self):
        silent = self.peer(connect={"heart-beat": f"{EVERY_MS},0"})
        started = time.monotonic()
        beating = self.peer(connect={"heart-beat": f"{EVERY_MS},{EVERY_MS}"})
        while beating.beats < 3:
            beating.read_beats()
            beating.send_raw(b"\n")
        silent.end()
        self.assertGreater(time.monotonic() - started, EVERY_MS / 1000)
        beating.asked("SEND", destination="/topic/still.there")


if __name__ == "__main__":
    unittest.main()
