# SPDX-License-Identifier: Apache-2.0
"""Taking messages out of queues by HTTP, and answering for them, against a real RabbitMQ."""
import base64
import itertools
import json
import subprocess
import threading
import time
import urllib.parse

import pika

from harness import Balancer, Consumer, E2E, Gateway, Proxy, eventually, http, raw
from harness.clients import http_connection, http_request
from harness.gateway import config_text

JSON = {"Accept": "application/json"}
QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


def path(queue, action, **query):
    return f"/v1/queues/{urllib.parse.quote(queue, safe='')}/{action}" + ("?" + urllib.parse.urlencode(query) if query else "")


def lease(address, queue, **query):
    """Messages, as JSON has them."""
    status, _, body = http(address, "POST", path(queue, "lease", **query), headers=JSON)
    assert status == 200, (status, body)
    return json.loads(body)["messages"]


def answer(address, action, queue, leases, more=None, **query):
    """The statuses, one a lease."""
    body = json.dumps({"leases": leases, **(more or {})})
    status, _, body = http(address, "POST", path(queue, action, **query), body)
    answers = json.loads(body)["leases"]
    assert [a["lease"] for a in answers] == leases, answers
    statuses = [a["status"] for a in answers]
    assert status == (200 if set(statuses) == {"done"} else 207), (status, statuses)
    return statuses


class Queues(E2E):
    """One gateway for the class, and a connection beside it."""

    more, workers = "", 1
    names = itertools.count()

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.gw = Gateway(config_text(cls.amqp, cls.more, workers=cls.workers)).start()
        cls.web = cls.gw.addresses["web"]

    @classmethod
    def tearDownClass(cls):
        cls.gw.stop()
        super().tearDownClass()

    def setUp(self):
        self.beside = self.open(Consumer(self.amqp))

    def queue(self, *bodies, arguments=None, **properties):
        """A new queue with these messages in it, confirmed."""
        name = f"q{next(self.names)}"
        self.beside.channel.queue_declare(name, durable=True, arguments=arguments)
        self.fill(name, *bodies, **properties)
        return name

    def fill(self, name, *bodies, **properties):
        connection = pika.BlockingConnection(pika.URLParameters(self.amqp))
        channel = connection.channel()
        channel.confirm_delivery()
        for body in bodies:
            channel.basic_publish("", name, body, pika.BasicProperties(**properties))
        connection.close()

    def counts(self, name):
        """Messages that are ready, and consumers."""
        method = self.beside.channel.queue_declare(name, passive=True).method
        return method.message_count, method.consumer_count

    def assert_emptied(self, name):
        """Nothing is ready, and nobody consumes: the consumer is cancelled behind the answer."""
        eventually(lambda: self.counts(name) == (0, 0))


class Taking(Queues):
    def test_curl_gets_a_message_as_it_is(self):
        name = self.queue(b"\x00raw\xff", content_type="image/png", correlation_id="c7", priority=3, delivery_mode=2,
                          headers={"kind": "small", "n": 7, "traceparent": "00-1", "a b": "no field's name"})
        url = "http://{}:{}".format(*self.web)
        got = subprocess.run(["curl", "-sS", "-i", "-X", "POST", url + path(name, "lease", lease="1m")], capture_output=True,
                             check=True).stdout
        head, _, body = got.partition(b"\r\n\r\n")
        self.assertEqual(body, b"\x00raw\xff")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:])
        for field, value in {"Content-Type": "image/png", "Correlation-Id": "c7", "Amqp-Priority": "3", "Amqp-Persistent": "true",
                             "Amqp-Header-kind": "small", "Amqp-Header-n": "7", "traceparent": "00-1", "Amqp-Key": name,
                             "Amqp-Redelivered": "false", "Cache-Control": "no-store"}.items():
            self.assertEqual(fields[field], value)
        self.assertNotIn("Amqp-Header-a b", fields)
        acked = subprocess.run(["curl", "-sS", "--data", json.dumps({"leases": [fields["Lease"]]}), url + path(name, "ack")],
                               capture_output=True, check=True).stdout
        self.assertEqual(json.loads(acked), {"leases": [{"lease": fields["Lease"], "status": "done"}]})
        status, headers, body = http(self.web, "POST", path(name, "lease"), headers={"Accept": "*/*"})
        self.assertEqual((status, body), (204, b""))
        self.assertNotIn("lease", headers)

    def test_json_has_all_of_a_message(self):
        name = self.queue("grüße".encode(), content_type="text/plain", message_id="m", type="t", expiration="60000",
                          headers={"n": 7, "b": True, "t": {"x": [1, "y"]}})
        self.fill(name, b"\xff\x00")
        first, second = lease(self.web, name, max=10)
        self.assertEqual((first["body"], first["exchange"], first["key"], first["redelivered"]), ("grüße", "", name, False))
        self.assertEqual(first["properties"], {"content_type": "text/plain", "message_id": "m", "type": "t", "expiration": "60000"})
        self.assertEqual(first["headers"], {"n": 7, "b": True, "t": {"x": [1, "y"]}})
        self.assertEqual(base64.b64decode(second["base64"]), b"\xff\x00")
        self.assertNotIn("body", second)
        self.assertEqual(answer(self.web, "ack", name, [first["lease"], second["lease"]]), ["done", "done"])
        self.assert_emptied(name)

    def test_messages_come_in_order_and_no_more_than_asked_for(self):
        for arguments in (None, QUORUM):
            with self.subTest(arguments):
                name = self.queue(*(b"%d" % i for i in range(30)), arguments=arguments)
                got = []
                while len(got) < 30:
                    messages = lease(self.web, name, max=7, wait="10s", ack="auto")
                    self.assertTrue(0 < len(messages) <= 7)
                    got += [int(m["body"]) for m in messages]
                self.assertEqual(got, list(range(30)))

    def test_auto_is_acknowledged_and_nothing_to_answer_for(self):
        name = self.queue(b"a", b"b")
        messages = lease(self.web, name, max=1, ack="auto")
        self.assertEqual([m["body"] for m in messages], ["a"])
        self.assertNotIn("lease", messages[0])
        eventually(lambda: self.counts(name) == (1, 0))

    def test_a_poll_waits_for_what_is_published_and_then_leaves_the_queue_alone(self):
        name = self.queue()
        got = []
        waiting = threading.Thread(target=lambda: got.extend(lease(self.web, name, max=10, wait="20s")))
        waiting.start()
        eventually(lambda: self.counts(name)[1] == 1)
        self.fill(name, b"late")
        waiting.join()
        self.assertEqual([m["body"] for m in got], ["late"])
        self.assert_emptied(name)
        self.assertEqual(lease(self.web, name, wait="100ms"), [])

    def test_a_client_that_goes_while_it_waits_takes_nothing_with_it(self):
        name = self.queue()
        client = raw(self.web, f"POST {path(name, 'lease', wait='50s')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        eventually(lambda: self.counts(name)[1] == 1)
        client.close()
        eventually(lambda: self.counts(name)[1] == 0)
        self.fill(name, b"x")
        got = lease(self.web, name, wait="10s")
        self.assertEqual([(m["body"], m["redelivered"]) for m in got], [("x", False)])
        self.assertEqual(self.gw.metric("headgate_lease_polls"), 0)

    def test_ten_consumers_share_ten_thousand_messages(self):
        name = self.queue(*(b"%d" % i for i in range(10000)))
        got, errors = [[] for _ in range(10)], []

        def consume(mine):
            try:
                connection = http_connection(self.web)
                while sum(map(len, got)) < 10000:
                    status, _, body = http_request(connection, "POST", path(name, "lease", max=100, wait="500ms"), headers=JSON)
                    messages = json.loads(body)["messages"]
                    mine += [int(m["body"]) for m in messages]
                    leases = [m["lease"] for m in messages]
                    if leases:
                        status, _, body = http_request(connection, "POST", path(name, "ack"), json.dumps({"leases": leases}))
                    if status != 200:
                        errors.append(body)
                connection.close()
            except Exception as e:  # pylint: disable=broad-exception-caught
                errors.append(e)

        threads = [threading.Thread(target=consume, args=(mine,)) for mine in got]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(errors, [])
        self.assertEqual(sorted(itertools.chain(*got)), list(range(10000)))
        self.assert_emptied(name)


class Answering(Queues):
    def test_a_lease_that_runs_out_goes_back_and_not_before(self):
        name = self.queue(b"x")
        began = time.monotonic()
        first, = lease(self.web, name, lease="2s")  # and whoever took it is gone
        self.assert_emptied(name)
        second, = lease(self.web, name, wait="30s")
        self.assertGreaterEqual(time.monotonic() - began, 2)
        self.assertEqual((second["body"], second["redelivered"]), ("x", True))
        self.assertEqual(answer(self.web, "ack", name, [first["lease"]]), ["gone"])
        self.assertEqual(answer(self.web, "ack", name, [second["lease"]]), ["done"])
        self.assertGreaterEqual(self.gw.metric("headgate_leases_expired_total"), 1)

    def test_an_extended_lease_lasts_longer(self):
        name = self.queue(b"x")
        taken, = lease(self.web, name, lease="3s")
        self.assertEqual(answer(self.web, "extend", name, [taken["lease"]], lease="1m"), ["done"])
        self.assertEqual(lease(self.web, name, wait="3500ms"), [])
        self.assertEqual(answer(self.web, "ack", name, [taken["lease"]]), ["done"])
        self.assertEqual(answer(self.web, "extend", name, [taken["lease"]]), ["gone"])

    def test_nack_puts_back_or_dead_letters(self):
        dead = self.queue()
        name = self.queue(b"back", b"dead", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        first, second = lease(self.web, name, max=2)
        self.assertEqual(answer(self.web, "nack", name, [first["lease"]]), ["done"])
        self.assertEqual(answer(self.web, "nack", name, [second["lease"]], {"requeue": False}), ["done"])
        again, = lease(self.web, name, wait="10s")
        self.assertEqual((again["body"], again["redelivered"]), ("back", True))
        died, = lease(self.web, dead, wait="10s")
        self.assertEqual((died["body"], died["headers"]["x-first-death-reason"]), ("dead", "rejected"))

    def test_each_lease_has_its_own_answer(self):
        name, other = self.queue(b"a", b"b"), self.queue()
        a, b = (m["lease"] for m in lease(self.web, name, max=2))
        forged = a[:-1] + ("A" if a[-1] != "A" else "B")
        self.assertEqual(answer(self.web, "ack", name, [a, "nonsense", forged, a, b]), ["done", "gone", "gone", "gone", "done"])
        c = lease(self.web, self.queue(b"c"))[0]["lease"]
        self.assertEqual(answer(self.web, "ack", other, [c]), ["gone"])  # not of this queue

    def test_bad_requests_are_told_what_is_wrong(self):
        name = self.queue()
        for action, query, body, what in (
                ("lease", "?max=0", None, "max"), ("lease", "?max=1001", None, "max"), ("lease", "?wait=2m", None, "wait"),
                ("lease", "?wait=5", None, "wait"), ("lease", "?lease=26m", None, "lease"), ("lease", "?ack=maybe", None, "ack"),
                ("lease", "?limit=3", None, "max, wait, lease and ack"), ("ack", "", "", "JSON"), ("ack", "", "[]", "object"),
                ("ack", "", '{"leases":[]}', "leases"), ("ack", "", '{"leases":[7]}', "strings"), ("ack", "?x=1", '{"leases":["a"]}', "query"),
                ("ack", "", '{"leases":["a"],"requeue":false}', "leases"), ("nack", "", '{"leases":["a"],"requeue":1}', "requeue"),
                ("extend", "?lease=0s", '{"leases":["a"]}', "lease")):
            with self.subTest(action + query, body=body):
                status, headers, problem = http(self.web, "POST", f"/v1/queues/{name}/{action}{query}", body)
                self.assertEqual((status, headers["content-type"]), (400, "application/problem+json"))
                self.assertIn(what, json.loads(problem)["detail"])
        self.assertEqual(http(self.web, "GET", path(name, "lease"))[0], 405)
        self.assertEqual(http(self.web, "POST", f"/v1/queues/{name}/other")[0], 404)

    def test_queues_that_cannot_be_taken_from_say_why(self):
        stream = self.queue(b"x", arguments=STREAM)
        only = self.queue(b"x")
        self.beside.channel.basic_consume(only, lambda *_: None, exclusive=True)
        own = self.beside.channel.queue_declare("", exclusive=True).method.queue
        for name, status, what in (("absent", 404, "no queue"), (stream, 409, "stream"), (only, 409, "exclusive"), (own, 409, "exclusive"),
                                   ("headgate.state", 403, "own")):
            for wait in ("0s", "30s"):
                with self.subTest(name, wait=wait):
                    got, _, problem = http(self.web, "POST", path(name, "lease", wait=wait), headers=JSON)
                    self.assertEqual(got, status)
                    self.assertIn(what, json.loads(problem)["detail"])
        self.assertEqual(lease(self.web, self.queue(b"y"))[0]["body"], "y")  # others notice nothing

    def test_a_queue_deleted_and_made_anew_as_a_stream_is_refused(self):
        name = self.queue(b"x")
        self.assertEqual(lease(self.web, name, ack="auto")[0]["body"], "x")
        self.beside.channel.queue_delete(name)
        self.assertEqual(http(self.web, "POST", path(name, "lease"))[0], 404)
        self.beside.channel.queue_declare(name, durable=True, arguments=STREAM)
        self.assertEqual(http(self.web, "POST", path(name, "lease"))[0], 409)

    def test_a_queue_deleted_while_it_is_waited_for_ends_the_wait(self):
        name = self.queue()
        got = []
        waiting = threading.Thread(target=lambda: got.append(http(self.web, "POST", path(name, "lease", wait="50s"))[0]))
        waiting.start()
        eventually(lambda: self.counts(name)[1] == 1)
        self.beside.channel.queue_delete(name)
        waiting.join()
        self.assertEqual(got, [404])


class Limits(Queues):
    more = '[http]\nlease_max = 10\nlease_bytes = "1KiB"\nleases_per_queue = 4\nleases_per_worker = 6\n'

    def test_leases_are_bounded_per_queue_and_worker(self):
        one, two = self.queue(*[b"x"] * 9), self.queue(*[b"y"] * 9)
        of_one = [m["lease"] for m in lease(self.web, one, max=10)]
        self.assertEqual(len(of_one), 4)  # what there is room for
        status, headers, problem = http(self.web, "POST", path(one, "lease"))
        self.assertEqual((status, headers["retry-after"]), (429, "1"))
        self.assertIn("leases_per_queue", json.loads(problem)["detail"])
        of_two = [m["lease"] for m in lease(self.web, two, max=10)]
        self.assertEqual(len(of_two), 2)
        self.assertIn("leases_per_worker", json.loads(http(self.web, "POST", path(two, "lease"))[2])["detail"])
        self.assertEqual(self.gw.metric("headgate_leases"), 6)
        self.assertEqual(self.gw.metric("headgate_lease_polls_refused_total"), 2)
        self.assertEqual(set(answer(self.web, "ack", one, of_one)), {"done"})
        self.assertEqual(set(answer(self.web, "nack", two, of_two)), {"done"})
        self.assertEqual(len(lease(self.web, one, max=10, wait="10s", ack="auto")), 4)

    def test_bodies_of_a_poll_are_bounded_but_one_always_comes(self):
        name = self.queue(b"a" * 3000, b"b" * 600, b"c" * 600, b"d")
        self.assertEqual([m["body"][0] for m in lease(self.web, name, max=4, ack="auto")], ["a"])
        self.assertEqual([m["body"][0] for m in lease(self.web, name, max=4, wait="10s", ack="auto")], ["b"])
        self.assertEqual([m["body"][0] for m in lease(self.web, name, max=4, wait="10s", ack="auto")], ["c", "d"])


class ManagementGet(Queues):
    def get(self, name, **body):
        status, _, got = http(self.web, "POST", f"/api/queues/{self.vhost}/{name}/get",
                              json.dumps({"count": 5, "ackmode": "ack_requeue_true", "encoding": "auto", **body}))
        return status, json.loads(got)

    def test_answers_as_the_management_api_does(self):
        name = self.queue(b"first", content_type="text/plain", headers={"n": 1})
        self.fill(name, b"\xff\xfe", b"third")
        status, got = self.get(name)
        self.assertEqual(status, 200, got)
        self.assertEqual(got[0], {"payload_bytes": 5, "redelivered": False, "exchange": "", "routing_key": name, "message_count": 2,
                                  "properties": {"content_type": "text/plain", "headers": {"n": 1}}, "payload": "first",
                                  "payload_encoding": "string"})
        self.assertEqual((got[1]["payload"], got[1]["payload_encoding"], got[1]["properties"]), ("//4=", "base64", []))
        self.assertEqual([m["message_count"] for m in got], [2, 1, 0])
        eventually(lambda: self.counts(name)[0] == 3)  # all put back
        got = self.get(name, count=1, ackmode="ack_requeue_false", encoding="base64", truncate=2)[1]
        self.assertEqual([(m["payload"], m["payload_bytes"], m["message_count"], m["redelivered"]) for m in got], [("Zmk=", 5, 2, True)])
        self.assertEqual([m["payload"] for m in self.get(name, ackmode="reject_requeue_true")[1]], ["//4=", "third"])
        self.assertEqual(len(self.get(name, ackmode="reject_requeue_false")[1]), 2)
        self.assertEqual(self.get(name), (200, []))
        self.assert_emptied(name)

    def test_refuses_what_it_cannot_do(self):
        name = self.queue()
        for body in ({"count": 0}, {"count": "x"}, {"ackmode": "get"}, {"encoding": "string"}, {"truncate": -1}):
            with self.subTest(body):
                self.assertEqual(self.get(name, **body)[0], 400)
        self.assertEqual(self.get("absent")[0], 404)
        self.assertEqual(self.get(self.queue(arguments=STREAM))[0], 409)
        self.assertEqual(http(self.web, "POST", f"/api/queues/other/{name}/get", '{"count":1}')[0], 404)


class SeveralWorkers(Queues):
    workers = 2

    def test_answer_for_each_others_leases(self):
        name = self.queue(*[b"x"] * 200)
        held = [m["lease"] for m in lease(self.web, name, max=100)] + [m["lease"] for m in lease(self.web, name, max=100)]
        self.assertEqual(len(held), 200)
        while held and self.gw.metric("headgate_leases_forwarded_total") < 3:  # whichever worker a connection comes to
            self.assertEqual(answer(self.web, "extend", name, held), ["done"] * len(held))
            self.assertEqual(answer(self.web, "ack", name, held[:1]), ["done"])
            self.assertEqual(answer(self.web, "ack", name, held[:1]), ["gone"])
            del held[0]
        self.assertTrue(held)
        self.assertEqual(answer(self.web, "ack", name, held), ["done"] * len(held))
        self.assert_emptied(name)


class SeveralInstances(Queues):
    workers = 2

    def setUp(self):
        super().setUp()
        self.other = self.gateway("", "--set", "gateway.name=two", must_exit=None)
        self.two = self.other.addresses["web"]

    def test_answer_for_each_others_leases(self):
        name = self.queue(b"a", b"b", b"c")
        a, b, c = (m["lease"] for m in lease(self.web, name, max=3))
        self.assertEqual(answer(self.two, "extend", name, [a, b, "nonsense"], lease="1m"), ["done", "done", "gone"])
        self.assertEqual(answer(self.two, "ack", name, [a, b]), ["done", "done"])
        self.assertEqual(answer(self.two, "ack", name, [a]), ["gone"])
        self.assertEqual(answer(self.two, "nack", name, [c]), ["done"])
        again, = lease(self.two, name, wait="10s")
        self.assertEqual((again["body"], again["redelivered"]), ("c", True))
        self.assertEqual(answer(self.web, "ack", name, [again["lease"]]), ["done"])

    def test_leases_of_one_that_dies_are_gone_and_the_messages_come_again(self):
        name = self.queue(b"x")
        taken, = lease(self.two, name)
        self.other.kill()
        again, = lease(self.web, name, wait="30s")
        self.assertEqual((again["body"], again["redelivered"]), ("x", True))
        eventually(lambda: answer(self.web, "ack", name, [taken["lease"]]) == ["gone"])  # once RabbitMQ has seen all of it die

    def test_behind_a_balancer_share_a_queue(self):
        name, n = self.queue(*(b"%d" % i for i in range(500))), 500
        got, errors = [], []
        with Balancer(self.web, self.two, self.two) as balancer:
            address = ("127.0.0.1", balancer.port)

            def consume():  # each request on a connection of its own: the answer comes to whoever is next
                try:
                    while len(got) < n:
                        messages = lease(address, name, max=10, wait="500ms")
                        got.extend(int(m["body"]) for m in messages)
                        if messages:
                            errors.extend(set(answer(address, "ack", name, [m["lease"] for m in messages])) - {"done"})
                except Exception as e:  # pylint: disable=broad-exception-caught
                    errors.append(e)

            threads = [threading.Thread(target=consume) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(errors, [])
        self.assertEqual(sorted(got), list(range(n)))
        self.assertEqual(self.counts(name)[0], 0)
        self.assertGreater(self.gw.metric("headgate_leases_forwarded_total"), 0)
        self.assertGreater(self.other.metric("headgate_leases_forwarded_total"), 0)

    def test_two_who_wait_get_a_message_each(self):
        for pair in ((self.web, self.web), (self.web, self.two)):
            for _ in range(5):
                with self.subTest(pair):
                    name, got = self.queue(), [[], []]
                    waiting = [threading.Thread(target=lambda at, mine: mine.extend(lease(at, name, wait="30s")), args=args)
                               for args in zip(pair, got)]
                    for thread in waiting:
                        thread.start()
                    eventually(lambda: self.waiting_n(pair) == 2)
                    self.fill(name, b"a", b"b")
                    for thread in waiting:
                        thread.join()
                    self.assertEqual(sorted(m["body"] for mine in got for m in mine), ["a", "b"])
                    self.assertEqual([len(mine) for mine in got], [1, 1])

    def waiting_n(self, addresses):
        return sum(gw.metric("headgate_lease_polls") for gw in (self.gw, self.other) if gw.addresses["web"] in addresses)


class Ends(Queues):
    def test_a_draining_gateway_gives_its_leases_back(self):
        name, idle = self.queue(b"x"), self.queue()
        gw = self.gateway("", workers=1)
        web = gw.addresses["web"]
        taken, = lease(web, name)
        got = []
        waiting = threading.Thread(target=lambda: got.append(lease(web, idle, wait="50s")))
        waiting.start()
        eventually(lambda: self.counts(idle)[1] == 1)
        gw.stop()
        waiting.join()
        self.assertEqual(got, [[]])
        again, = lease(self.web, name, wait="10s")
        self.assertEqual((again["body"], again["redelivered"]), ("x", True))
        self.assertEqual(answer(self.web, "ack", name, [taken["lease"], again["lease"]]), ["gone", "done"])

    def test_a_lost_link_loses_leases_and_no_message(self):
        name, idle = self.queue(b"x"), self.queue()
        proxy = Proxy(("127.0.0.1", self.broker.port))
        self.addCleanup(proxy.stop)
        gw = self.gateway("", amqp=self.amqp_by(proxy), workers=1)
        web = gw.addresses["web"]
        taken, = lease(web, name)
        got = []
        waiting = threading.Thread(target=lambda: got.extend(lease(web, idle, wait="50s")))
        waiting.start()
        eventually(lambda: self.counts(idle)[1] == 1)
        proxy.cut()
        again, = lease(web, name, wait="30s")
        self.assertEqual((again["body"], again["redelivered"]), ("x", True))
        self.assertEqual(answer(web, "ack", name, [taken["lease"], again["lease"]]), ["gone", "done"])
        self.fill(idle, b"after")
        waiting.join()  # it went on waiting
        self.assertEqual([m["body"] for m in got], ["after"])
        self.assertEqual(gw.metric("headgate_leases_lost_total"), 1)
        proxy.refuse()
        proxy.cut()
        status, headers, _ = http(web, "POST", path(name, "lease"), headers=JSON)
        self.assertEqual((status, headers["retry-after"]), (503, "1"))
        proxy.accept()
