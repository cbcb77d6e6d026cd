# SPDX-License-Identifier: Apache-2.0
"""The private RabbitMQ that all tests of a run share; a virtual host each keeps them apart."""
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from private_rabbitmq import ClusterNode, PrivateCluster, PrivateRabbitMQ, free_ports  # noqa: E402,F401

# Who speaks STOMP to the tests that can be answered by both: "headgate", or RabbitMQ with its own "plugin".
STOMP = os.environ.get("HEADGATE_TEST_STOMP", "headgate")
_running = []


def shared():
    """Started by whoever asks first; stop_shared ends it. With its own plugin, `addresses` are that's, by the names of the gateway's."""
    if not _running:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="headgate-rabbitmq-"))
        plugins, settings, addresses = ["rabbitmq_consistent_hash_exchange"], [], {}
        if STOMP == "plugin":
            stomp, web = free_ports(2)
            plugins += ["rabbitmq_stomp", "rabbitmq_web_stomp"]
            settings = [f"stomp.listeners.tcp.1 = 127.0.0.1:{stomp}", "web_stomp.tcp.ip = 127.0.0.1", f"web_stomp.tcp.port = {web}"]
            addresses = {"stomp": ("127.0.0.1", stomp), "web": ("127.0.0.1", web)}
        broker = PrivateRabbitMQ(folder, plugins=plugins, settings=settings)
        broker.addresses = addresses
        _running.append(broker)
        broker.start()
    return _running[0]


def stop_shared():
    while _running:
        broker = _running.pop()
        broker.stop()
        shutil.rmtree(broker.folder, ignore_errors=True)


def add_vhost(broker, name):
    broker.eval(f'rabbit_vhost:add(<<"{name}">>, <<"e2e">>), '
                f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"e2e">>).')


def delete_vhost(broker, name):
    broker.eval(f'rabbit_vhost:delete(<<"{name}">>, <<"e2e">>).')
