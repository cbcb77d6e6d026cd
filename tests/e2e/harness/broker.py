# SPDX-License-Identifier: Apache-2.0
"""The private RabbitMQ that all tests of a run share; a virtual host each keeps them apart."""
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from private_rabbitmq import PrivateRabbitMQ  # noqa: E402

_running = []


def shared():
    """Started by whoever asks first; stop_shared ends it."""
    if not _running:
        folder = pathlib.Path(tempfile.mkdtemp(prefix="headgate-rabbitmq-"))
        _running.append(PrivateRabbitMQ(folder, plugins=["rabbitmq_consistent_hash_exchange"]))
        _running[0].start()
    return _running[0]


def stop_shared():
    while _running:
        broker = _running.pop()
        broker.stop()
        shutil.rmtree(broker.folder, ignore_errors=True)


def add_vhost(broker, name):
    broker.ctl("eval", f'rabbit_vhost:add(<<"{name}">>, <<"e2e">>), '
                       f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, '
                       '<<".*">>, <<".*">>, <<".*">>, <<"e2e">>).')


def delete_vhost(broker, name):
    broker.ctl("delete_vhost", name)
