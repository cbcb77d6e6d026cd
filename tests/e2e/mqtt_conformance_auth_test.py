# SPDX-License-Identifier: Apache-2.0
"""Enhanced authentication (4.12), AUTH (3.15): the method "bearer", whose data is a token."""
import shutil
import unittest

from harness import mqtt5 as m
from harness.peer import MqttConformance, conforms
from harness.tokens import Issuer

PROTOCOL_ERROR, BAD_LOGIN, NOT_AUTHORIZED, AUTH_METHOD = 0x82, 0x86, 0x87, 0x8C
RE_AUTHENTICATE = 0x19


@unittest.skipUnless(shutil.which("openssl"), "makes its keys with openssl")
class Auth(MqttConformance):
    @classmethod
    def setUpClass(cls):
        cls.issuer = Issuer()
        cls.addClassCleanup(cls.issuer.close)
        cls.config = f'[users]\ntoken = {{ secrets = ["{cls.issuer.secret}"], audience = "headgate" }}\n'
        super().setUpClass()

    def bearer(self, **claims):
        return {"auth_method": "bearer", "auth_data": self.issuer.token(**claims).encode()}

    @conforms(v5="3.15.1-1 3.15.2-1 4.12.0-5")
    def test_connack_and_auth_repeat_the_method(self):
        peer = self.peer(**self.bearer())
        self.assertEqual(peer.connack.properties["auth_method"], "bearer")
        peer.send(m.auth(RE_AUTHENTICATE, **self.bearer(lasts_s=900)))
        answer = peer.next(m.AUTH)
        self.assertEqual((answer.reason, answer.properties), (0, {"auth_method": "bearer"}))
        self.assertEqual(peer.fence(), [])

    @conforms(v5="4.12.0-1 4.12.0-4")
    def test_a_method_or_a_token_that_is_not_good_ends_the_connection(self):
        for reason, options in ((AUTH_METHOD, {"auth_method": "Bearer", "auth_data": b"x"}), (BAD_LOGIN, self.bearer(aud="other")),
                                (BAD_LOGIN, {"auth_method": "bearer"}), (NOT_AUTHORIZED, self.bearer(lasts_s=-60))):
            peer = self.peer(refused=reason, **options)
            self.assertEqual(peer.end(), [])

    @conforms(v5="4.12.1-1 4.12.1-2")
    def test_a_second_authentication_that_fails_ends_the_connection(self):
        for reason, options in ((NOT_AUTHORIZED, self.bearer(user="somebody else")), (NOT_AUTHORIZED, self.bearer(key=b"?" * 32)),
                                (PROTOCOL_ERROR, {"auth_method": "X", "auth_data": b"x"})):
            peer = self.peer(**self.bearer())
            peer.send(m.auth(RE_AUTHENTICATE, **options))
            self.assertEqual([(p.kind, p.reason) for p in peer.end()], [(m.DISCONNECT, reason)])

    @conforms(v5="4.12.0-6")
    def test_a_token_as_a_password_needs_no_method_and_gets_none(self):
        peer = self.peer(user="x", password=self.issuer.token().encode())
        self.assertNotIn("auth_method", peer.connack.properties)
        peer.send(m.auth(RE_AUTHENTICATE, **self.bearer()))
        self.assertEqual(peer.reason(), PROTOCOL_ERROR)

    def test_a_kept_session_is_its_user_s(self):
        mine = self.kept("kept", **self.bearer(user="ann"))
        mine.leave()
        for clean in (False, True):
            self.kept_by("bob", clean, refused=NOT_AUTHORIZED)
        self.assertTrue(self.kept("kept", **self.bearer(user="ann")).connack.present)

    def kept_by(self, user, clean, **options):
        return self.kept("kept", clean=clean, **self.bearer(user=user), **options)


if __name__ == "__main__":
    unittest.main()
