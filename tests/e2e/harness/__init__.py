# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests are made of. tests/e2e/README.md says how to write one."""
from . import browser, mqtt5, sessions, wire
from .case import E2E
from .clients import Consumer, Mqtt, Mqtt5, MosquittoSub, Stomp, WebSocket, http, mosquitto_pub, raw
from .controls import Controls
from .gateway import Gateway, headgate
from .peer import MqttConformance, Peer, conforms
from .proxy import Proxy
from .swarm import Swarm
from .wait import Mailbox, eventually
from .ws_peer import WebSocketConformance, WsPeer, close_payload

__all__ = ["E2E", "browser", "Consumer", "Controls", "Gateway", "Mailbox", "MosquittoSub", "Mqtt", "Mqtt5", "MqttConformance", "Peer",
           "Proxy", "Stomp", "Swarm", "WebSocket", "WebSocketConformance", "WsPeer", "close_payload", "conforms", "eventually", "headgate", "http", "mosquitto_pub", "mqtt5", "raw", "sessions",
           "wire"]
