# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests are made of. tests/e2e/README.md says how to write one."""
from . import browser, mqtt5, sessions, wire
from .case import E2E
from .clients import Consumer, Events, Mqtt, Mqtt5, MosquittoSub, Stomp, WebSocket, http, mosquitto_pub, raw
from .controls import Controls
from .gateway import Gateway, headgate
from .peer import MqttConformance, Peer, conforms
from .proxy import Balancer, Proxy
from .stomp_peer import StompConformance, StompPeer
from .swarm import Swarm
from .wait import Mailbox, eventually
from .ws_peer import WebSocketConformance, WsPeer, close_payload

__all__ = ["Balancer", "E2E", "browser", "close_payload", "conforms", "Consumer", "Controls", "Events", "eventually", "Gateway",
           "headgate", "http", "Mailbox", "mosquitto_pub", "MosquittoSub", "Mqtt", "Mqtt5", "mqtt5", "MqttConformance", "Peer", "Proxy",
           "raw", "sessions", "Stomp", "StompConformance", "StompPeer", "Swarm", "WebSocket", "WebSocketConformance", "wire", "WsPeer"]
