# SPDX-License-Identifier: Apache-2.0
"""Three RabbitMQ nodes on loopback as one cluster, each of which can be stopped, killed, frozen or cut off from the others."""
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from harness.broker import PrivateRabbitMQ

NODES_N = 3
TICK_S = 4  # a node that is silent for longer (by a quarter at most) is down for the others
COOKIE = "HEADGATETESTCLUSTER"


class Node(PrivateRabbitMQ):
    def __init__(self, folder, epmd_port):
        super().__init__(folder, settings=["cluster_partition_handling = pause_minority", f"net_ticktime = {TICK_S}",
                                           "cluster_keepalive_interval = 1000"])
        self.epmd_port = epmd_port

    def environment(self):
        env = super().environment()
        env["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"] += f" -kernel net_ticktime {TICK_S}"
        return env

    def write_files(self):
        super().write_files()
        cookie = self.folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(COOKIE)
            cookie.chmod(0o400)

    def freeze(self):
        os.killpg(self.server.pid, signal.SIGSTOP)

    def thaw(self):
        os.killpg(self.server.pid, signal.SIGCONT)


class Cluster:
    """with Cluster() as cluster: … cluster.nodes; eval() asks the first."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="headgate-cluster-"))
        first = PrivateRabbitMQ(self.folder / "none")
        self.epmd_port = first.epmd_port
        self.nodes = [Node(self.folder / f"{self.folder.name[-4:]}-{i}", self.epmd_port) for i in range(NODES_N)]
        self.epmd = None

    def each(self, work, nodes):
        with concurrent.futures.ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(work, nodes))

    def __enter__(self):
        self.epmd = subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(self.epmd_port)], stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            for node in self.nodes:
                node.write_files()
            self.each(Node.boot, self.nodes)
            for node in self.nodes[1:]:
                node.ctl("stop_app")
                node.ctl("join_cluster", self.nodes[0].node)
                node.ctl("start_app")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for node in self.nodes:
            with contextlib.suppress(OSError, AttributeError):
                node.thaw()
        self.each(lambda node: node.halt(kill=True), self.nodes)
        self.epmd.terminate()
        self.epmd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def amqp(self):
        return self.nodes[0].url

    def endpoints(self, nodes=None):
        """For a list in TOML, without the outermost quotes."""
        return '", "'.join(node.url for node in nodes or self.nodes)

    def eval(self, expressions):
        return self.nodes[0].eval(expressions)

    def cut_off(self, node):
        """It and the others refuse each other's distribution connections, for having different cookies."""
        self.set_cookies(node, "wrong", ", erlang:disconnect_node(N)")

    def join_again(self, node):
        self.set_cookies(node, COOKIE)

    def set_cookies(self, node, cookie, then=""):
        names = ", ".join(f"'{n.node}'" for n in self.nodes if n is not node)
        node.eval(f"lists:foreach(fun(N) -> erlang:set_cookie(N, '{cookie}'){then} end, [{names}]).")

    def is_whole(self):
        """Every node runs and sees all of them, and no quorum queue would miss any one of them."""
        asked = "{rabbit:is_running(), length(rabbit_nodes:all_running()), rabbit_quorum_queue:list_with_minimum_quorum()}."
        try:
            return all(node.eval(asked) == f"{{true, {NODES_N}, []}}" for node in self.nodes)
        except RuntimeError:  # one that is not running cannot say
            return False
