# SPDX-License-Identifier: Apache-2.0
"""CONNECT and CONNACK (3.1, 3.2), keep alive, authentication (4.12)."""
from harness import E2E, MqttConformance, Peer, Proxy, conforms, mqtt5 as m
from harness.wait import LIMIT_S

MALFORMED, PROTOCOL_ERROR, ID_INVALID, AUTH_METHOD, KEEP_ALIVE, TAKEN_OVER, TOPIC_INVALID, SERVER_UNAVAILABLE, SERVER_BUSY, \
    RETAIN_NOT_SUPPORTED = 0x81, 0x82, 0x85, 0x8C, 0x8D, 0x8E, 0x90, 0x88, 0x89, 0x9A
BOTH = (4, 5)
CLOSED = None  # without a CONNACK
WILL = m.Will("w", b"x")


def connect(level, **options):
    return m.connect(options.pop("client_id", "c"), level, **options)


def cut(level, **options):
    """A CONNECT that ends before its last field does."""
    whole = connect(level, **options)
    return whole[:1] + m.varint(len(whole) - 3) + whole[2:-1]


def more(level, **options):
    """One that goes on behind it."""
    whole = connect(level, **options)
    return whole[:1] + m.varint(len(whole) - 1) + whole[2:] + b"\0"


# What is sent first, and the code of CONNACK in 3.1.1 and 5.0. The standard lets a server of 5.0 choose between a code and silence:
# Headgate tells.
REFUSED = {
    "another packet first": (lambda v: m.PING, CLOSED, CLOSED),
    "PUBLISH first": (lambda v: m.publish("t", level=v), CLOSED, CLOSED),
    "AUTH first": (lambda v: m.auth(0x18, auth_method="x"), CLOSED, CLOSED),
    "flags of CONNECT": (lambda v: b"\x11" + connect(v)[1:], CLOSED, CLOSED),
    "a protocol of another name": (lambda v: connect(v, name="MQTS"), CLOSED, CLOSED),
    "the reserved flag": (lambda v: connect(v, flags=3), CLOSED, MALFORMED),
    "a will of QoS 3": (lambda v: connect(v, flags=0x1E, will=WILL), CLOSED, MALFORMED),
    "will QoS without a will": (lambda v: connect(v, flags=0x0A), CLOSED, MALFORMED),
    "will retain without a will": (lambda v: connect(v, flags=0x22), CLOSED, MALFORMED),
    "a will that is not there": (lambda v: connect(v, flags=0x06), CLOSED, MALFORMED),
    "a will without its flag": (lambda v: connect(v, flags=0x02, will=WILL), CLOSED, MALFORMED),
    "half a will": (lambda v: cut(v, will=WILL), CLOSED, MALFORMED),
    "an empty will topic": (lambda v: connect(v, will=m.Will("")), CLOSED, TOPIC_INVALID),
    "a wildcard in the will topic": (lambda v: connect(v, will=m.Will("w/#")), CLOSED, TOPIC_INVALID),
    "a user name that is not there": (lambda v: connect(v, flags=0x82), CLOSED, MALFORMED),
    "a user name without its flag": (lambda v: connect(v, flags=0x02, user="u"), CLOSED, MALFORMED),
    "a password that is not there": (lambda v: connect(v, flags=0xC2, user="u"), CLOSED, MALFORMED),
    "a password without its flag": (lambda v: connect(v, flags=0x82, user="u", password="p"), CLOSED, MALFORMED),
    "a field cut off": (lambda v: cut(v), CLOSED, MALFORMED),
    "more than its fields": (lambda v: more(v), CLOSED, MALFORMED),
    "no client identifier": (lambda v: m.packet(m.CONNECT, m.text("MQTT") + bytes([v, 2, 0, 0]) + b"\0" * (v == 5)), CLOSED, MALFORMED),
}
REFUSED_V5 = {
    "a property that CONNECT has not": (connect(5, properties=m.prop("topic_alias", 1)), MALFORMED),
    "a will property in CONNECT": (connect(5, properties=m.prop("will_delay", 1)), MALFORMED),
    "a CONNECT property in the will": (connect(5, will=m.Will("w", properties=m.prop("receive_maximum", 1))), MALFORMED),
    "session expiry twice": (connect(5, properties=m.prop("session_expiry", 1) * 2), PROTOCOL_ERROR),
    "receive maximum 0": (connect(5, receive_maximum=0), PROTOCOL_ERROR),
    "maximum packet size 0": (connect(5, maximum_packet_size=0), PROTOCOL_ERROR),
    "request problem information 2": (connect(5, request_problem=2), PROTOCOL_ERROR),
    "request response information 2": (connect(5, request_response=2), PROTOCOL_ERROR),
    "a will's payload format 2": (connect(5, will=m.Will("w", payload_format=2)), PROTOCOL_ERROR),
    "a wildcard in the will's response topic": (connect(5, will=m.Will("w", response_topic="#")), PROTOCOL_ERROR),
    "authentication data alone": (connect(5, auth_data=b"x"), PROTOCOL_ERROR),
    "an authentication method": (connect(5, auth_method="SCRAM-SHA-1"), AUTH_METHOD),
    "one with data": (connect(5, auth_method="X", auth_data=b"x"), AUTH_METHOD),
}


class Connect(MqttConformance):
    config = '[mqtt]\nreceive_max = 7\ntopic_alias_max = 5\nmax_packet = "1MiB"\nmax_session_expiry = "1h"\n'

    def refused(self, data, level, code):
        """Nothing behind the CONNECT is processed."""
        topic = self.name()
        watch = self.peer(level=4)
        watch.subscribe((topic, 0))
        peer = self.peer(level=level, first=data + m.publish(topic, b"too late", level=level))
        self.assertEqual([(p.kind, p.reason) for p in peer.end()], [] if code is CLOSED else [(m.CONNACK, code)], data.hex())
        watch.publish(topic, b"fence", qos=0)
        self.assertEqual(watch.message().body, b"fence")

    @conforms(v311="2.2.2-2 3.1.0-1 3.1.2-1 3.1.2-3 3.1.2-9 3.1.2-11 3.1.2-13 3.1.2-14 3.1.2-15 3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21 3.1.3-1 "
                   "3.1.3-3 3.1.4-1 3.1.4-5 3.2.2-4 3.2.2-5 3.2.2-6",
              v5="2.1.3-1 3.1.0-1 3.1.2-1 3.1.2-3 3.1.2-9 3.1.2-11 3.1.2-12 3.1.2-13 3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19 3.1.3-1 3.1.3-3 "
                 "3.1.4-1 3.1.4-2 3.1.4-6 3.2.2-1 3.2.2-6 3.2.2-7 3.2.2-8 3.14.0-1 4.13.2-1")
    def test_a_connect_against_the_rules_is_refused(self):
        self.each(REFUSED, lambda case, level: self.refused(case[0](level), level, case[level - 3]), BOTH)

    @conforms(v5="3.1.4-1 3.1.4-6 3.2.2-7 3.2.2-8 4.12.0-1 4.12.0-4")
    def test_properties_against_the_rules_are_refused(self):
        self.each(REFUSED_V5, lambda case, level: self.refused(case[0], level, case[1]))

    @conforms(v311="3.1.2-22", v5="3.1.2-19")
    def test_a_password_alone_is_of_5_0(self):
        self.refused(connect(4, password="p"), 4, CLOSED)
        self.peer(password=b"\xff\0").fence()

    @conforms(v311="3.1.2-2", v5="3.1.2-2")
    def test_a_version_to_come_is_told_that_it_is_not_supported(self):
        for level in (0, 1, 2, 6, 255):
            peer = self.peer(first=connect(4)[:8] + bytes([level]) + connect(4)[9:])
            self.assertIn(peer.read_to_end(), (b"\x20\x02\0\1", b"\x20\x03\0\x84\0"))

    @conforms(v311="3.1.0-1 3.1.4-4 3.2.0-1", v5="3.1.4-5 3.2.0-1 3.2.0-2")
    def test_connack_is_first_and_comes_once(self):
        for level in (3, 4, 5):
            for options in ({}, {"user": "u"}, {"user": "u", "password": b"\0\xff"}, {"keepalive": 65535}, {"will": WILL}):
                with self.subTest(level=level, **options):
                    topic = self.name()
                    data = m.connect(self.name("c"), level, **options)
                    peer = self.peer(level=level, first=data + m.subscribe(1, (topic, 0), level=level))  # without waiting
                    self.assertEqual([p.kind for p in (peer.next(), peer.next())], [m.CONNACK, m.SUBACK])
                    self.assertEqual(peer.fence(), [])

    @conforms(v5="3.2.2-8 4.12.0-6")
    def test_connack_says_what_the_server_takes(self):
        self.assertEqual({k: v for k, v in self.peer().connack.properties.items() if v != 1 or not k.endswith("_available")},
                         {"receive_maximum": 7, "topic_alias_maximum": 5, "maximum_packet_size": 1 << 20})

    @conforms(v5="3.1.2-23")
    def test_a_session_expiry_over_the_limit_is_shortened(self):
        for asked, told in ((0, None), (1, None), (3600, None), (3601, 3600), (0xFFFFFFFF, 3600)):
            peer = self.peer(session_expiry=asked)
            self.assertIn(peer.connack.properties.get("session_expiry"), (told, asked) if told is None else (told,))

    @conforms(v311="3.1.3-6 3.1.3-7", v5="3.1.3-6 3.1.3-7 3.2.2-16")
    def test_a_client_without_an_identifier_gets_one_of_its_own(self):
        self.assertEqual(self.peer("", level=4).fence(), [])
        for clean in (True, False):
            peers = [self.peer("", clean=clean) for _ in range(3)]
            given = {peer.connack.properties["assigned_client_id"] for peer in peers}
            self.assertEqual(len(given), 3)
            self.assertEqual([peer.fence() for peer in peers], [[]] * 3)  # nobody was taken over
        self.assertNotIn("assigned_client_id", self.peer().connack.properties)

    @conforms(v5="3.1.3-2 3.1.3-7")
    def test_an_assigned_identifier_is_as_good_as_one_s_own(self):
        peer = self.kept("", clean=True)
        given = peer.connack.properties["assigned_client_id"]
        peer.leave()
        self.assertTrue(self.kept(given).connack.present)

    @conforms(v311="3.1.3-8 3.1.3-9 3.2.2-5")
    def test_no_identifier_and_a_session_to_keep_are_refused_in_3_1_1(self):
        self.assertEqual(self.peer("", level=4, clean=False, refused=2).end(), [])

    @conforms(v311="3.1.3-9", v5="3.1.3-8 3.2.2-7")
    def test_an_identifier_that_makes_no_queue_name_is_refused(self):
        self.assertEqual(self.peer("i" * 60000, level=4, clean=False, refused=2).end(), [])
        self.assertEqual(self.peer("i" * 60000, clean=False, session_expiry=9, refused=ID_INVALID).end(), [])

    @conforms(v311="3.1.3-5", v5="3.1.3-5")
    def test_ordinary_identifiers_are_taken(self):
        everything = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        for level in BOTH:
            for client_id in (*everything, everything[:23], everything[23:46], everything[39:]):
                peer = self.peer(client_id, level=level)
                self.assertEqual(peer.fence(), [])
                peer.leave()

    @conforms(v311="3.1.3-2 3.1.4-2", v5="3.1.3-2 3.1.4-3")
    def test_a_second_connection_takes_the_identifier_over(self):
        for level in BOTH:
            for clean in (True, False):
                client_id = self.name("c")
                first = self.kept(client_id, level, clean)
                for _ in range(4):  # wherever the connection lands, on this worker or another
                    second = self.kept(client_id, level, clean)
                    self.assertEqual(first.reason(), TAKEN_OVER if level == 5 else None)
                    self.assertEqual(second.fence(), [])
                    first = second
                other = self.peer(client_id + "x", level)
                self.assertEqual((first.fence(), other.fence()), ([], []))

    @conforms(v5="3.1.2-28")
    def test_response_information_is_never_sent(self):
        for asked in ({}, {"request_response": 0}, {"request_response": 1}):
            self.assertNotIn("response_information", self.peer(**asked).connack.properties)

    @conforms(v5="3.1.2-24 3.2.2-19 3.2.2-20")
    def test_a_connack_fits_the_client(self):
        size = len(self.peer().connack.raw)
        refusal = self.peer(auth_method="X", refused=AUTH_METHOD).connack.raw
        self.assertGreater(len(refusal), 5, "a refusal has a reason string")
        for limit in range(5, len(refusal) + 1):
            peer = self.peer(auth_method="X", refused=AUTH_METHOD, maximum_packet_size=limit)
            self.assertLessEqual(len(peer.connack.raw), limit)
        self.assertEqual(self.peer(maximum_packet_size=size).fence(), [])

    @conforms(v5="3.1.2-30 4.12.0-4")
    def test_nothing_behind_a_refused_method_is_processed(self):
        data = connect(5, auth_method="X") + m.auth(0x18, auth_method="X", auth_data=b"x") + m.subscribe(1, "t")
        self.assertEqual([(p.kind, p.reason) for p in self.peer(first=data).end()], [(m.CONNACK, AUTH_METHOD)])

    @conforms(v311="3.1.2-24", v5="3.1.2-22 3.2.2-22")
    def test_a_silent_client_is_closed_after_one_and_a_half_keep_alives(self):
        for level in BOTH:
            topic, will = self.name(), self.name()
            watch = self.peer()
            watch.subscribe((will, 0))
            quiet = self.peer(level=level, keepalive=1, will=m.Will(will, b"gone"))
            quiet.subscribe((topic, 0))
            self.assertEqual(quiet.reason(), KEEP_ALIVE if level == 5 else None)
            self.assertEqual(watch.message().body, b"gone")  # as if the network had failed

    @conforms(v311="3.1.2-23 3.1.2-24", v5="3.1.2-20 3.1.2-22")
    def test_a_client_that_sends_anything_is_not_silent(self):
        topic = self.name()
        lively, quiet = self.peer(keepalive=1), self.peer(keepalive=1)
        quiet.socket.settimeout(0.2)
        while True:  # until the other was closed for its silence
            lively.publish(topic, qos=0)
            try:
                if quiet.read().kind == m.DISCONNECT:
                    break
            except TimeoutError:
                pass
        quiet.socket.settimeout(LIMIT_S)
        self.assertEqual(lively.fence(), [])


class ServerKeepAlive(MqttConformance):
    config = '[mqtt]\nmax_keepalive = "1s"\n'

    @conforms(v5="3.1.2-21 3.2.2-21 3.2.2-22 3.1.2-22")
    def test_the_server_s_keep_alive_is_told_and_counts(self):
        self.assertNotIn("server_keep_alive", self.peer(keepalive=1).connack.properties)
        for asked in (0, 2, 65535):
            peer = self.peer(keepalive=asked)
            self.assertEqual(peer.connack.properties["server_keep_alive"], 1)
            self.assertEqual(peer.reason(), KEEP_ALIVE)


class WithoutState(MqttConformance):
    config = '[state]\nlog = "off"\n'

    @conforms(v5="3.2.2-13 3.2.2-14")
    def test_without_retaining_connack_says_so_and_retained_wills_are_refused(self):
        self.assertEqual(self.peer().connack.properties.get("retain_available"), 0)
        self.assertEqual(self.peer(will=m.Will("w", retain=True), refused=RETAIN_NOT_SUPPORTED).end(), [])
        for qos in (0, 1, 2):
            peer = self.peer()
            peer.send(m.publish(self.name(), b"x", qos, 1 if qos else None, retain=True))
            self.assertEqual(peer.reason(), RETAIN_NOT_SUPPORTED)

    @conforms(v5="3.2.2-3", v311="3.2.2-3")
    def test_without_a_state_log_no_session_is_kept(self):
        client_id = self.name("c")
        self.assertEqual(self.kept(client_id).connack.properties.get("session_expiry"), 0)
        self.assertFalse(self.kept(client_id).connack.present)
        self.assertFalse(self.kept(self.name("c"), level=4).connack.present)


class Away(E2E):
    @conforms(v311="3.2.2-5 3.2.2-6 4.8.0-2", v5="3.1.4-2 3.2.2-7 3.2.2-8 3.14.2-1 4.13.2-1")
    def test_while_rabbitmq_is_away_clients_are_told(self):
        with Proxy(("127.0.0.1", self.broker.port)) as proxy:
            gw = self.gateway(workers=1, amqp=self.amqp_by(proxy), rabbitmq='unavailable_timeout = "1s"')
            address = gw.addresses["mqtt"]
            proxy.refuse()
            proxy.cut()
            gw.wait_log("rabbitmq.lost")
            self.assertEqual(self.open(Peer(address, "kept", clean=False, session_expiry=100, refused=SERVER_UNAVAILABLE)).end(), [])
            self.assertEqual(self.open(Peer(address, "kept3", level=4, clean=False, refused=3)).end(), [])
            for level in BOTH:
                clean = self.open(Peer(address, f"clean{level}", level=level))
                clean.send(m.publish("t", b"x", 1, 1, level=level))
                self.assertEqual([(p.kind, p.reason) for p in clean.end()], [(m.DISCONNECT, SERVER_BUSY)] if level == 5 else [])
            proxy.accept()
            gw.stop()
