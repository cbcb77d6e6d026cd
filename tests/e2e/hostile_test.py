# SPDX-License-Identifier: Apache-2.0
"""Clients that are broken, hostile, slow or too many: they are told, and nobody else notices."""
import itertools

from harness import Controls, E2E, eventually, raw, sessions


MUTATIONS = 500  # of each session


class Sessions(E2E):
    """The recorded ones as they are: what the mutations start from is right."""

    def replay(self, name, piece_n):
        gw = self.gateway()
        session = sessions.SESSIONS[name](0)
        *most, farewell = session.framed()
        data = b"".join(most)
        with raw(gw.addresses[session.listener]) as client:
            for at in range(0, len(data), piece_n):
                client.send(data[at:at + piece_n])
            client.read_until(session.answer)
            client.send(farewell)
            client.read_to_end()
        self.assertEqual(gw.metric("headgate_errors_total"), 0, gw.tail())

    def test_are_served_in_one_piece(self):
        for name in sessions.SESSIONS:
            with self.subTest(name):
                self.replay(name, 1 << 20)

    def test_are_served_byte_by_byte(self):
        for name in sessions.SESSIONS:
            with self.subTest(name):
                self.replay(name, 1)


class Handshakes(E2E):
    def test_cut_off_at_every_byte_disturb_nobody(self):
        gw = self.gateway(workers=1)
        ways = itertools.cycle(("at once", "reset", "politely"))
        with Controls(gw):
            for name, session in sessions.SESSIONS.items():
                session = session(0)
                handshake = b"".join(data for data, _ in session.login)
                for n in range(len(handshake)):
                    with raw(gw.addresses[session.listener], handshake[:n]) as client:
                        sessions.leave(client.socket, next(ways))
            # Nothing of them stays.
            eventually(lambda: len(gw.admin("/api/connections")[1]) == Controls.CONNECTIONS_N + 1)


class Mutations(E2E):
    def replay(self, name):
        gw = self.gateway(workers=1)
        with Controls(gw) as controls:
            for n in range(MUTATIONS):
                mutation = sessions.Mutation(name, n)
                try:
                    mutation.replay(gw.addresses)
                    controls.check()
                except Exception as e:
                    raise AssertionError(f"mutation {mutation.name}: {e!r}") from e

    def test_of_mqtt_disturb_nobody(self):
        self.replay("mqtt")

    def test_of_mqtt_in_websocket_disturb_nobody(self):
        self.replay("mqtt_in_websocket")

    def test_of_stomp_disturb_nobody(self):
        self.replay("stomp")

    def test_of_stomp_in_websocket_disturb_nobody(self):
        self.replay("stomp_in_websocket")

    def test_of_pipelined_http_disturb_nobody(self):
        self.replay("http")
