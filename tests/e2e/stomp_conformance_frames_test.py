# SPDX-License-Identifier: Apache-2.0
"""STOMP frames: what they are made of, however they come in pieces, and what becomes of what is none."""
import unittest

from harness import StompConformance, conforms, raw

EVERY_BYTE = bytes(range(256))


class Frames(StompConformance):
    def place(self, peer):
        """A topic that only this peer has subscribed to."""
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        return destination

    def echo(self, peer, head, body=b""):
        """What becomes of a SEND with these header lines; {} in them is its destination."""
        destination = self.place(peer)
        peer.send_raw(b"SEND\n" + head.replace("{}", destination).encode() + b"\n\n" + body + b"\0")
        message = peer.message()
        peer.unsubscribe()
        return message

    @conforms(stomp="frame-1 length-1", plugin="frames")
    def test_a_body_is_as_long_as_its_content_length_says(self):
        def check(version):
            peer = self.peer(version)
            body = EVERY_BYTE + b"\0\n\nSEND\n\n\0"
            self.assertEqual(self.echo(peer, f"destination:{{}}\ncontent-length:{len(body)}", body).body, body)
            self.assertEqual(self.echo(peer, "destination:{}", b"until NUL").body, b"until NUL")
            self.assertEqual(self.echo(peer, "destination:{}\ncontent-length:0").body, b"")
        self.each_version(check)

    @conforms(stomp="frame-2", plugin="frames")
    def test_line_ends_behind_a_frame_are_nothing(self):
        def check(version):
            peer = self.peer(version)
            destination = self.place(peer)
            send = peer.encode("SEND", b"x", destination=destination)
            peer.send_raw(b"\n" + send + b"\n\n\n" + send + b"\n")
            self.assertEqual(peer.bodies(2), [b"x", b"x"])
        self.each_version(check)

    @conforms(stomp="frame-3", plugin="frames")
    def test_lines_of_1_2_may_end_in_cr_lf(self):
        peer = self.peer()
        destination = self.place(peer)
        peer.send_raw(f"SEND\r\ndestination:{destination}\r\na:b\r\n\r\nx\r\n\0\r\n\r\n".encode())
        message = peer.message()
        self.assertEqual((message["destination"], message["a"], message.body), (destination, "b", b"x\r\n"))

    @conforms(stomp="frame-4 connect-5", plugin="frames")
    def test_commands_and_names_are_case_sensitive(self):
        def check(version):
            for frame in (b"send\ndestination:/topic/a\n\n\0", b"SEND\nDestination:/topic/a\n\n\0"):
                peer = self.peer(version)
                peer.send_raw(frame)
                peer.take("ERROR")
            peer = self.peer(first=b"connect\naccept-version:1.2\n\n\0")
            peer.take("ERROR")
        self.each_version(check)

    @conforms(stomp="frame-5 type-4", plugin="frames")
    def test_headers_and_text_are_utf_8(self):
        def check(version):
            peer = self.peer(version)
            destination = f"/topic/{self.name()}.größe.✓"
            peer.subscribe("/topic/#")
            peer.send(destination, "übergröße ✓".encode(), content_type="text/plain;charset=utf-8", **{"größe": "✓ 𝄞"})
            message = peer.message()
            self.assertEqual((message["größe"], message.body.decode()), ("✓ 𝄞", "übergröße ✓"))
            self.assertEqual(message["content-type"], "text/plain;charset=utf-8")
        self.each_version(check)

    @conforms(stomp="frame-6 length-1", plugin="error-malformed")
    def test_a_frame_that_has_no_body_with_one_is_an_error(self):
        peer = self.peer()
        peer.send_raw(b"SUBSCRIBE\ndestination:/topic/a\nid:0\n\nbody\0")
        peer.error()

    @conforms(stomp="frame-7", plugin="error-known")
    def test_a_command_that_is_none_is_an_error(self):
        def check(version):
            for command in ("FETCH", "MESSAGE", "CONNECTED", "RECEIPT", "ERROR"):
                peer = self.peer(version)
                peer.send_raw(f"{command}\n\n\0".encode())
                peer.take("ERROR")
        self.each_version(check)

    @conforms(stomp="frame-1 length-1 frame-7 escape-4", plugin="error-malformed")
    def test_what_is_malformed_is_told_before_the_end(self):
        frames = {"a header without a colon": b"SEND\ndestination:/topic/a\nnothing\n\nx\0",
                  "a header without a name": b"SEND\ndestination:/topic/a\n:value\n\nx\0",
                  "no NUL where content-length ends": b"SEND\ndestination:/topic/a\ncontent-length:2\n\nxyz\0",
                  "a content-length that is no number": b"SEND\ndestination:/topic/a\ncontent-length:two\n\nxy\0",
                  "a negative content-length": b"SEND\ndestination:/topic/a\ncontent-length:-1\n\nxy\0",
                  "an escape that is none": b"SEND\ndestination:/topic/a\na:\\t\n\nx\0",
                  "half an escape": b"SEND\ndestination:/topic/a\na:b\\\n\nx\0",
                  "a second CONNECT": b"CONNECT\naccept-version:1.2\nhost:/\n\n\0",
                  "NUL in a header": b"SEND\ndestination:/to\0pic/a\n\nx\0"}
        for name, frame in frames.items():
            with self.subTest(name):
                peer = self.peer()
                peer.send_raw(frame)
                self.assertTrue(peer.error()["message"])

    @conforms(stomp="escape-4", plugin="escapes")
    def test_an_undefined_escape_ends_the_connection(self):
        for version, escapes in {"1.1": ("\\t", "\\N", "\\"), "1.2": ("\\t", "\\R", "\\0", "\\")}.items():
            for escape in escapes:
                with self.subTest(escape, version=version):
                    peer = self.peer(version)
                    peer.send_raw(f"SEND\ndestination:/topic/a\na:{escape}\n\nx\0".encode())
                    self.assertFalse([frame for frame in peer.end() if frame.command != "ERROR"])

    @conforms(stomp="escape-4", plugin="escape-cr")
    def test_a_cr_has_no_escape_in_1_1(self):
        peer = self.peer("1.1")
        peer.send_raw(b"SEND\ndestination:/topic/a\na:\\r\n\nx\0")
        peer.error()

    @conforms(stomp="escape-1 escape-3", plugin="escapes")
    def test_headers_are_escaped_both_ways(self):
        def check(version):
            peer = self.peer(version)
            destination = self.place(peer)
            peer.asked("SEND", b"x", destination=destination, **{"a:b": "c:d\n\\n\\e", "empty": ""})
            message = peer.message()
            self.assertEqual((message["a:b"], message["empty"]), ("c:d\n\\n\\e", ""))
        self.each_version(check, ("1.1", "1.2"))

    @conforms(stomp="escape-2 escape-3", plugin="escapes")
    def test_a_cr_is_escaped_in_1_2(self):
        peer = self.peer()
        destination = self.place(peer)
        peer.asked("SEND", b"x", destination=destination, cr="a\r\nb")
        self.assertEqual(peer.message()["cr"], "a\r\nb")

    @conforms(stomp="escape-5", plugin="escape-connect")
    def test_connect_is_not_escaped(self):
        peer = self.peer(first=f"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\nhost:{self.vhost}\nx:\\t\\q\n\n\0".encode())
        self.assertEqual(peer.next("CONNECTED")["version"], "1.2")

    @conforms(stomp="escape-6", plugin="frames")
    def test_blanks_around_a_value_belong_to_it(self):
        def check(version):
            self.assertEqual(self.echo(self.peer(version), "destination:{}\na: b \nc:   ")["a"], " b ")
        self.each_version(check, ("1.1", "1.2"))

    @conforms(plugin="blanks-1.0")
    def test_a_blank_behind_a_colon_of_1_0_is_not_the_values(self):
        self.assertEqual(self.echo(self.peer("1.0"), "destination: {}\na: b")["a"], "b")

    @conforms(stomp="repeat-1", plugin="frames")
    def test_of_repeated_headers_the_first_counts(self):
        def check(version):
            message = self.echo(self.peer(version), "destination:{}\na:first\ndestination:/topic/other\na:second", b"x")
            self.assertEqual(message["a"], "first")
        self.each_version(check)

    @conforms(stomp="limit-1", plugin="limits")
    def test_past_a_limit_there_is_an_error_and_the_end(self):
        frames = {"headers": b"SEND\ndestination:/topic/a\n" + b"".join(b"h%d:x\n" % i for i in range(200)) + b"\nx\0",
                  "a line": b"SEND\ndestination:/topic/a\nlong:" + b"x" * (128 * 1024) + b"\n\nx\0",
                  "a body": b"SEND\ndestination:/topic/a\ncontent-length:2000000000\n\nx"}
        for name, frame in frames.items():
            with self.subTest(name):
                peer = self.peer()
                peer.send_raw(frame)
                peer.error()

    @conforms(stomp="limit-2", plugin="connections")
    def test_clients_that_come_and_go_at_once_disturb_nobody(self):
        here = self.peer()
        destination = self.place(here)
        connect = f"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\nhost:{self.vhost}\n\n\0".encode()
        for _ in range(50):
            with raw(self.addresses["stomp"], connect):
                pass
        here.send(destination, b"x")
        self.assertEqual(here.message().body, b"x")


class Pieces(StompConformance):
    BODY = "x\0ü\n".encode()

    def frames(self, destination):
        """A SEND with escapes, text and NUL in it."""
        return (f"SEND\ndestination:{destination}\na\\cb:ü\\n\\\\\\c\ncontent-length:{len(self.BODY)}\n\n".encode() + self.BODY + b"\0\n")

    def check(self, message):
        self.assertEqual((message["a:b"], message.body), ("ü\n\\:", self.BODY))

    @conforms(stomp="frame-1 length-1", plugin="frames")
    def test_a_frame_arrives_cut_at_every_byte(self):
        peer = self.peer()
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        send = self.frames(destination)
        for n in range(1, len(send)):
            peer.send_raw(send[:n])
            peer.send_raw(send[n:])
            self.check(peer.message())
        for n in range(len(send)):
            peer.send_raw(send[n:n + 1])
        self.check(peer.message())

    @conforms(plugin="web-pieces")
    def test_a_frame_arrives_over_two_websocket_messages_cut_at_every_byte(self):
        peer = self.peer(web=True)
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        send = self.frames(destination)
        for n in range(1, len(send)):
            peer.send_raw(send[:n])
            peer.send_raw(send[n:])
            self.check(peer.message())

    @conforms(plugin="web-pieces")
    def test_many_frames_arrive_in_one_websocket_message(self):
        peer = self.peer(web=True)
        destination = f"/topic/{self.name()}"
        peer.subscribe(destination)
        peer.send_raw(self.frames(destination) * 20)
        for _ in range(20):
            self.check(peer.message())

    @conforms(stomp="frame-1", plugin="frames")
    def test_connect_arrives_cut_at_every_byte(self):
        connect = f"CONNECT\naccept-version:1.2\nlogin:guest\npasscode:guest\nhost:{self.vhost}\n\n\0".encode()
        for n in range(1, len(connect)):
            peer = self.peer(first=connect[:n])
            peer.send_raw(connect[n:])
            peer.next("CONNECTED")
            peer.close()


if __name__ == "__main__":
    unittest.main()
