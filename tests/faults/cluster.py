# SPDX-License-Identifier: Apache-2.0
"""Three RabbitMQ nodes on loopback as one cluster, each of which can be stopped, killed, frozen or cut off from the others."""
import contextlib
import os
import signal
import tempfile

from harness.broker import ClusterNode, PrivateCluster

NODES_N = 3
TICK_S = 4  # a node that is silent for longer (by a quarter at most) is down for the others
SETTINGS = ("cluster_partition_handling = pause_minority", f"net_ticktime = {TICK_S}", "cluster_keepalive_interval = 1000")


class Node(ClusterNode):
    def freeze(self):
        os.killpg(self.server.pid, signal.SIGSTOP)

    def thaw(self):
        os.killpg(self.server.pid, signal.SIGCONT)


class Cluster(PrivateCluster):
    """with Cluster() as cluster: … cluster.nodes; eval() asks the first."""

    def __init__(self):
        super().__init__(tempfile.mkdtemp(prefix="headgate-cluster-"), NODES_N, TICK_S, SETTINGS, Node)

    def __exit__(self, *_):
        for node in self.nodes:
            with contextlib.suppress(OSError, AttributeError):
                node.thaw()
        super().__exit__()

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
        self.set_cookies(node, node.COOKIE)

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
