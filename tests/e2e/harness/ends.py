# SPDX-License-Identifier: Apache-2.0
"""Clients of every protocol behind one face, for tests of all pairs: publish to a place, subscribe to places, take what comes."""
import typing
import urllib.parse

from .clients import Consumer, Mqtt, Stomp, http_connection, http_request


class Place(typing.NamedTuple):
    """Where messages go: an address to clients of the gateway, exchange and key to RabbitMQ's own."""
    address: str
    exchange: str
    key: str


class Got(typing.NamedTuple):
    where: object  # what the end's `where` makes of the place
    body: bytes
    message: object  # the client's own


class MqttEnd:
    name = "MQTT"
    serve = "mqtt"
    path = None

    def __init__(self, gw, client_id=""):
        self.client = Mqtt(gw.addresses[self.serve], client_id, path=self.path)
        self.port = self.client.client.socket().getsockname()[1]

    def where(self, place):
        return place.address

    def publish(self, place, body):
        self.client.publish(place.address, body)

    def subscribe(self, *places):
        granted = self.client.subscribe(*(p.address for p in places))
        if granted != [1] * len(places):
            raise AssertionError(f"granted {granted}")

    def take(self):
        m = self.client.messages.take()
        return Got(m.topic, m.payload, m)

    def close(self):
        self.client.close()


class StompEnd:
    name = "STOMP"
    serve = "stomp"
    path = None

    def __init__(self, gw):
        self.client = Stomp(gw.addresses[self.serve], path=self.path)
        self.port = self.client.connection.transport.socket.getsockname()[1]

    def where(self, place):
        return "/" + place.address

    def publish(self, place, body):
        self.client.send(self.where(place), body)

    def subscribe(self, *places):
        for i, place in enumerate(places):
            self.client.subscribe(self.where(place), str(i))

    def take(self):
        frame = self.client.messages.take()
        return Got(frame.headers["destination"], frame.body, frame)

    def close(self):
        self.client.close()


class StompWebEnd(StompEnd):
    name = "STOMP over WebSocket"
    serve = "web"
    path = "/ws"


class HttpEnd:
    """Publishes only, over one connection."""
    name = "HTTP"

    def __init__(self, gw):
        self.connection = http_connection(gw.addresses["web"])
        self.connection.connect()
        self.port = self.connection.sock.getsockname()[1]

    def publish(self, place, body):
        path = "/v1/topics/" + "/".join(urllib.parse.quote(level, safe="") for level in place.address.split("/"))
        status, _, answer = http_request(self.connection, "POST", path, body)
        if status != 202:
            raise AssertionError(f"{status} {answer}")

    def close(self):
        self.connection.close()


class AmqpEnd:
    """pika, straight at RabbitMQ."""
    name = "AMQP"

    def __init__(self, url):
        self.client = Consumer(url)

    def where(self, place):
        return place.exchange, place.key

    def publish(self, place, body):
        self.client.publish(place.exchange, place.key, body, delivery_mode=2)

    def subscribe(self, *places):
        if self.client.queue is None:
            self.client.queue = self.client.channel.queue_declare("", exclusive=True).method.queue
        for place in places:
            self.client.channel.queue_bind(self.client.queue, place.exchange, place.key)

    def take(self):
        method, properties, body = self.client.take()
        return Got((method.exchange, method.routing_key), body, properties)

    def close(self):
        self.client.close()


PUBLISHERS = (MqttEnd, StompEnd, StompWebEnd, HttpEnd)
SUBSCRIBERS = (MqttEnd, StompEnd, StompWebEnd)
